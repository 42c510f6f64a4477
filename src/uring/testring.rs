//! A ring, a tree and peers for the unit tests of the loop's rooms. The ring keeps what is pushed, and says what a test has put
//! into it. The tree has no files.

use super::peer::Peer;
use super::ring::{Features, Ring};
use super::socket::Socket;
use crate::fs::{Ask, AskId, Call, Error, OpId, Outcome, Service, Show, Time};
use crate::session::{Config, Session};
use crate::stats::Connection;
use io_uring::squeue;
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;

/// See the head of the file.
#[derive(Default)]
pub(crate) struct TestRing {
    /// Entries that were pushed.
    pub(crate) pushed: Vec<squeue::Entry>,
    /// How many CQEs each enter has waited for.
    pub(crate) enters: Vec<u32>,
    /// What the next drain hands out.
    pub(crate) cqes: Vec<(u64, i32, u32)>,
    /// Monotonic nanoseconds.
    pub(crate) now_ns: u64,
    /// Something that was pushed is not submitted.
    pub(crate) unsettled: bool,
    /// Task work is said to be left.
    pub(crate) task_work: bool,
    /// Descriptors that were closed.
    pub(crate) closed: Vec<RawFd>,
    /// Sockets that were given the options of TCP.
    pub(crate) prepared: Vec<RawFd>,
    /// Signals that the descriptor of signals has.
    pub(crate) signals: Vec<i32>,
    /// Registering memory fails.
    pub(crate) refuses_regions: bool,
    /// How often memory was given back to the kernel.
    pub(crate) trims: usize,
}

impl Ring for TestRing {
    fn features(&self) -> Features {
        Features::ALL
    }

    #[expect(unsafe_code, reason = "the trait says so; no entry is carried out")]
    unsafe fn push(&mut self, build: impl FnOnce() -> squeue::Entry) -> bool {
        self.pushed.push(build());
        true
    }

    fn submit_and_wait(&mut self, want: u32) -> io::Result<()> {
        self.enters.push(want);
        Ok(())
    }

    fn is_settled(&mut self) -> bool {
        !self.unsettled
    }

    fn has_task_work(&mut self) -> bool {
        self.task_work
    }

    fn drain(&mut self, mut each: impl FnMut(u64, i32, u32)) {
        self.cqes.drain(..).for_each(|(user_data, res, flags)| each(user_data, res, flags));
    }

    fn has_work(&mut self) -> bool {
        !self.cqes.is_empty()
    }

    fn register_table(&mut self, _entries: u32) -> io::Result<()> {
        Ok(())
    }

    #[expect(unsafe_code, reason = "the trait says so; nothing is registered")]
    unsafe fn register_region(&mut self, _slot: u32, _start: usize, _len: usize) -> io::Result<()> {
        if self.refuses_regions { Err(io::Error::from_raw_os_error(12)) } else { Ok(()) }
    }

    #[expect(unsafe_code, reason = "the trait says so; nothing is written to")]
    unsafe fn share_buffers(&mut self, _start: *mut u8, _count: u16, _bytes: u32) -> io::Result<()> {
        Ok(())
    }

    #[expect(unsafe_code, reason = "the trait says so; nothing is written to")]
    unsafe fn give_buffer(&mut self, _id: u16) {}

    fn adopt(&mut self, _place: u32, _fd: RawFd) -> bool {
        false
    }

    fn let_go(&mut self, _place: u32) {}

    fn shutdown(&mut self, _fd: RawFd) {}

    fn prepare_tcp(&mut self, fd: RawFd) {
        self.prepared.push(fd);
    }

    fn has_hung_up(&mut self, _fd: RawFd) -> bool {
        false
    }

    fn trim_memory(&mut self) {
        self.trims += 1;
    }

    fn close(&mut self, fd: RawFd) {
        self.closed.push(fd);
    }

    fn peer_identity(&mut self, _fd: RawFd) -> Option<(u32, u32)> {
        None
    }

    fn take_signals(&mut self, _fd: RawFd, each: impl FnMut(i32)) {
        self.signals.drain(..).for_each(each);
    }

    fn monotonic(&mut self) -> u64 {
        self.now_ns
    }

    fn wall(&mut self) -> Time {
        Time { sec: 0, nsec: 0 }
    }

    fn entropy(&mut self) -> u64 {
        0
    }
}

/// A tree that answers every call with EIO.
#[derive(Default)]
pub(crate) struct TestTree {
    /// Operations that it says can go on.
    pub(crate) ready: VecDeque<OpId>,
    /// Operations that were finished.
    pub(crate) finished: Vec<OpId>,
    /// It has too many changes that are not durable.
    pub(crate) is_behind: bool,
    /// What it asks for next, and the results that it has had.
    pub(crate) wants: VecDeque<(AskId, Ask)>,
    pub(crate) results: Vec<(AskId, crate::fs::Result<u32>)>,
    /// How often it was told that serving has ended.
    pub(crate) retired: usize,
}

impl Service for TestTree {
    const FILE_BYTES: usize = 0;

    fn call(&mut self, _: OpId, _: Call<'_>, _: Show<'_>, _: crate::fs::At) -> Outcome {
        Outcome::now(Err(Error::EIO))
    }

    fn finish(&mut self, op: OpId, _: Show<'_>, _: crate::fs::At) -> Outcome {
        self.finished.push(op);
        Outcome::now(Err(Error::EIO))
    }

    fn ready(&mut self) -> Option<OpId> {
        self.ready.pop_front()
    }

    fn is_behind(&self) -> bool {
        self.is_behind
    }

    fn ask(&mut self) -> Option<(AskId, Ask)> {
        self.wants.pop_front()
    }

    fn answered(&mut self, id: AskId, _: Ask, result: crate::fs::Result<u32>, _: crate::fs::At) {
        self.results.push((id, result));
    }

    fn has_asks(&self) -> bool {
        !self.wants.is_empty()
    }

    fn retire(&mut self, _: crate::fs::At) {
        self.retired += 1;
    }
}

/// A peer that has said nothing, in this slot; its descriptor is its slot.
pub(crate) fn peer(slot: u32, generation: u32, tcp: bool) -> Peer<TestTree> {
    let socket = Socket::new(&mut TestRing::default(), slot as RawFd, slot);
    let shown = Rc::new(Connection::new("-".into(), "all".into(), 0));
    Peer::new(socket, generation, Session::new(Config::new(slot, 1 << 16)), shown, tcp)
}
