//! A ring at a fixed time: everything is the real one's but the clocks and the randomness.

use super::AT;
use io_uring::squeue::Entry;
use ring9::fs::Time;
use ring9::uring::{Features, Ring};
use std::io;
use std::os::fd::RawFd;

/// The wall clock stands still.
pub struct Fixed<R>(pub R);

impl<R: Ring> Ring for Fixed<R> {
    fn features(&self) -> Features {
        self.0.features()
    }
    #[expect(unsafe_code, reason = "passes the promise on")]
    unsafe fn push(&mut self, build: impl FnOnce() -> Entry) -> bool {
        // SAFETY: the caller's promise is the one asked for.
        unsafe { self.0.push(build) }
    }
    fn submit_and_wait(&mut self, want: u32) -> io::Result<()> {
        self.0.submit_and_wait(want)
    }
    #[expect(unsafe_code, reason = "passes the promise on")]
    unsafe fn share_buffers(&mut self, start: *mut u8, count: u16, bytes: u32) -> io::Result<()> {
        // SAFETY: the caller's promise is the one asked for.
        unsafe { self.0.share_buffers(start, count, bytes) }
    }
    #[expect(unsafe_code, reason = "passes the promise on")]
    unsafe fn return_buffer(&mut self, id: u16) {
        // SAFETY: the caller's promise is the one asked for.
        unsafe { self.0.return_buffer(id) }
    }
    fn is_settled(&mut self) -> bool {
        self.0.is_settled()
    }
    fn drain(&mut self, each: impl FnMut(u64, i32, u32)) {
        self.0.drain(each);
    }
    fn has_work(&mut self) -> bool {
        self.0.has_work()
    }
    fn register_table(&mut self, entries: u32) -> io::Result<()> {
        self.0.register_table(entries)
    }
    #[expect(unsafe_code, reason = "passes the promise on")]
    unsafe fn register_region(&mut self, slot: u32, start: usize, len: usize) -> io::Result<()> {
        // SAFETY: the caller's promise is the one asked for.
        unsafe { self.0.register_region(slot, start, len) }
    }
    fn shutdown(&mut self, fd: RawFd) {
        self.0.shutdown(fd);
    }
    fn close(&mut self, fd: RawFd) {
        self.0.close(fd);
    }
    fn peer_identity(&mut self, fd: RawFd) -> Option<u32> {
        self.0.peer_identity(fd)
    }
    fn monotonic(&mut self) -> u64 {
        self.0.monotonic()
    }
    fn wall(&mut self) -> Time {
        AT.wall
    }
    fn entropy(&mut self) -> u64 {
        1
    }
}
