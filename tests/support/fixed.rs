//! A ring at a fixed time: everything is the real one's but the clocks and the randomness. The monotonic clock can be put forward.

use super::AT;
use io_uring::squeue::Entry;
use ring9::fs::Time;
use ring9::uring::{Features, Ring};
use std::cell::Cell;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;

/// The wall clock stands still.
pub struct Fixed<R> {
    pub ring: R,
    /// How far the monotonic clock is ahead, in nanoseconds.
    pub ahead_ns: Rc<Cell<u64>>,
}

impl<R> Fixed<R> {
    pub fn new(ring: R) -> Fixed<R> {
        Fixed { ring, ahead_ns: Rc::default() }
    }
}

impl<R: Ring> Ring for Fixed<R> {
    fn features(&self) -> Features {
        self.ring.features()
    }
    #[expect(unsafe_code, reason = "passes the promise on")]
    unsafe fn push(&mut self, build: impl FnOnce() -> Entry) -> bool {
        // SAFETY: the caller's promise is the one asked for.
        unsafe { self.ring.push(build) }
    }
    fn submit_and_wait(&mut self, want: u32) -> io::Result<()> {
        self.ring.submit_and_wait(want)
    }
    #[expect(unsafe_code, reason = "passes the promise on")]
    unsafe fn share_buffers(&mut self, start: *mut u8, count: u16, bytes: u32) -> io::Result<()> {
        // SAFETY: the caller's promise is the one asked for.
        unsafe { self.ring.share_buffers(start, count, bytes) }
    }
    #[expect(unsafe_code, reason = "passes the promise on")]
    unsafe fn give_buffer(&mut self, id: u16) {
        // SAFETY: the caller's promise is the one asked for.
        unsafe { self.ring.give_buffer(id) }
    }
    fn is_settled(&mut self) -> bool {
        self.ring.is_settled()
    }
    fn has_task_work(&mut self) -> bool {
        self.ring.has_task_work()
    }
    fn drain(&mut self, each: impl FnMut(u64, i32, u32)) {
        self.ring.drain(each);
    }
    fn has_work(&mut self) -> bool {
        self.ring.has_work()
    }
    fn register_table(&mut self, entries: u32) -> io::Result<()> {
        self.ring.register_table(entries)
    }
    #[expect(unsafe_code, reason = "passes the promise on")]
    unsafe fn register_region(&mut self, slot: u32, start: usize, len: usize) -> io::Result<()> {
        // SAFETY: the caller's promise is the one asked for.
        unsafe { self.ring.register_region(slot, start, len) }
    }
    fn adopt(&mut self, place: u32, fd: RawFd) -> bool {
        self.ring.adopt(place, fd)
    }
    fn let_go(&mut self, place: u32) {
        self.ring.let_go(place);
    }
    fn shutdown(&mut self, fd: RawFd) {
        self.ring.shutdown(fd);
    }
    fn has_hung_up(&mut self, fd: RawFd) -> bool {
        self.ring.has_hung_up(fd)
    }
    fn silent_ns(&mut self, fd: RawFd) -> Option<u64> {
        self.ring.silent_ns(fd)
    }
    fn trim_memory(&mut self) {
        self.ring.trim_memory();
    }
    fn close(&mut self, fd: RawFd) {
        self.ring.close(fd);
    }
    fn take_signals(&mut self, fd: RawFd, each: impl FnMut(i32)) {
        self.ring.take_signals(fd, each);
    }
    fn peer_identity(&mut self, fd: RawFd) -> Option<(u32, u32)> {
        self.ring.peer_identity(fd)
    }
    fn monotonic(&mut self) -> u64 {
        self.ring.monotonic() + self.ahead_ns.get()
    }
    fn wall(&mut self) -> Time {
        AT.wall
    }
    fn entropy(&mut self) -> u64 {
        1
    }
}
