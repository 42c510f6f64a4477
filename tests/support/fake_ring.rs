//! A ring that completes late, short and out of order, by seed. One socket, whose other end says a script and listens.
//!
//! It decodes the 64 bytes of each SQE (Linux: `include/uapi/linux/io_uring.h`). What a send shows is read at its completion, not at its submission; what a receive
//! gets is written at its completion, and the rest of its buffer poisoned; registered entries are checked. So a block that changes while a reply shows it,
//! or memory that is let go too early, comes out as wrong bytes. In half of the seeds the peer says nothing before it has heard the answer to what it said,
//! and a wait that only more words could end is a failure: on a real socket it would last until the next timer.
#![expect(unsafe_code, reason = "it plays the kernel, which reads and writes memory by address")]

use super::{AT, Random};
use io_uring::squeue::Entry;
use nix::libc::{iovec, msghdr};
use ring9::fs::Time;
use ring9::uring::{Features, Ring};
use std::io;
use std::os::fd::RawFd;

/// The one connected socket.
pub const FD: RawFd = 1000;

const SENDMSG: u8 = 9;
const RECVMSG: u8 = 10;
const ASYNC_CANCEL: u8 = 14;
const SEND: u8 = 26;
const RECV: u8 = 27;
const READV_FIXED: u8 = 60;
const WRITEV_FIXED: u8 = 61;
const TIMEOUT: u8 = 11;
const ENOENT: i32 = 2;
const EAGAIN: i32 = 11;
const ENOBUFS: i32 = 105;
const ECANCELED: i32 = 125;
const MSG_DONTWAIT: u32 = 0x40;
const RWF_NOWAIT: u32 = 8;
const BUFFER_SELECT: u8 = 1 << 5;
const CQE_SKIP_SUCCESS: u8 = 1 << 6;
const RECV_MULTISHOT: u16 = 1 << 1;
const CQE_F_BUFFER: u32 = 1;
const CQE_F_MORE: u32 = 1 << 1;

/// An operation as it was submitted.
#[derive(Clone, Copy, Debug)]
struct Sqe {
    opcode: u8,
    flags: u8,
    priority: u16,
    fd: i32,
    addr: u64,
    len: u32,
    op_flags: u32,
    user_data: u64,
    buf_index: u16,
}

impl Sqe {
    /// A receive into shared buffers.
    fn shares(&self) -> bool {
        self.flags & BUFFER_SELECT != 0
    }

    /// A send that answers EAGAIN rather than wait for room.
    fn never_waits(&self) -> bool {
        match self.opcode {
            SEND | SENDMSG => self.op_flags & MSG_DONTWAIT != 0,
            WRITEV_FIXED => self.op_flags & RWF_NOWAIT != 0,
            _ => false,
        }
    }
}

/// What has happened, so that a test can see that it did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub short_receives: usize,
    pub short_sends: usize,
    pub out_of_order: usize,
    pub fixed_sends: usize,
    pub fixed_landings: usize,
    pub plain_sends: usize,
    pub plain_landings: usize,
    pub full_sockets: usize,
    pub quiet_sends: usize,
    pub shared_receives: usize,
    pub without_buffer: usize,
    pub cancelled: usize,
}

pub struct FakeRing {
    random: Random,
    /// Registered entries by slot.
    table: Vec<(usize, usize)>,
    fixed: bool,
    /// Where the shared buffers are, how long each is, and which are here.
    buffers: (usize, usize),
    free: Vec<u16>,
    queued: Vec<Sqe>,
    in_flight: Vec<Sqe>,
    done: Vec<(u64, i32, u32)>,
    /// What the peer says, how much of it has been sent to the server, and where the server's receives are.
    script: Vec<u8>,
    lock_step: bool,
    multishot: bool,
    arrived: usize,
    taken: usize,
    /// What the peer has heard.
    pub heard: Vec<u8>,
    shut: bool,
    pub closed: bool,
    pub seen: Seen,
    now: u64,
}

impl FakeRing {
    pub fn new(seed: u64, script: Vec<u8>, fixed: bool) -> FakeRing {
        let mut random = Random::new(seed);
        FakeRing {
            lock_step: random.below(2) == 0,
            multishot: random.below(3) != 0,
            random,
            table: Vec::new(),
            fixed,
            buffers: (0, 0),
            free: Vec::new(),
            queued: Vec::new(),
            in_flight: Vec::new(),
            done: Vec::new(),
            script,
            arrived: 0,
            taken: 0,
            heard: Vec::new(),
            shut: false,
            closed: false,
            seen: Seen::default(),
            now: AT.mono_ns,
        }
    }

    fn can_run(&self, sqe: &Sqe) -> bool {
        match sqe.opcode {
            // The peer hangs up when it has heard all.
            RECV | RECVMSG | READV_FIXED => self.arrived > self.taken || self.shut || self.has_heard_all(),
            _ => true,
        }
    }

    fn has_heard_all(&self) -> bool {
        self.taken == self.script.len() && ends(&self.heard).count() == ends(&self.script).count()
    }

    /// Up to where the peer speaks before it hears more.
    fn may_say(&self) -> usize {
        if !self.lock_step {
            return self.script.len();
        }
        ends(&self.script).nth(ends(&self.heard).count()).unwrap_or(self.script.len())
    }

    /// One thing happens that may happen; false if there is none.
    fn step(&mut self) -> bool {
        let until = self.may_say();
        let speaks = self.arrived < until;
        let able: Vec<usize> = (0..self.in_flight.len()).filter(|&at| self.can_run(&self.in_flight[at])).collect();
        if speaks && (able.is_empty() || self.random.below(2) == 0) {
            let most = [1, 30, 700, 20_000, 200_000][self.random.below(5)];
            self.arrived = (self.arrived + 1 + self.random.below(most)).min(until);
        } else if !able.is_empty() {
            let pick = able[self.random.below(able.len())];
            self.seen.out_of_order += usize::from(pick > 0);
            let sqe = self.in_flight.remove(pick);
            self.complete(sqe);
        }
        speaks || !able.is_empty()
    }

    /// The memory that an operation names, in order.
    fn views(&self, sqe: &Sqe) -> Vec<(usize, usize)> {
        // SAFETY: the loop keeps lists and headers until the CQE; that is what it promised when it pushed.
        let list = |at: *const iovec, count: usize| unsafe { std::slice::from_raw_parts(at, count) }.to_vec();
        let list = match sqe.opcode {
            SEND | RECV => return vec![(sqe.addr as usize, sqe.len as usize)],
            SENDMSG | RECVMSG => {
                // SAFETY: as above.
                let message = unsafe { &*(sqe.addr as *const msghdr) };
                list(message.msg_iov, message.msg_iovlen)
            }
            _ => list(sqe.addr as *const iovec, sqe.len as usize),
        };
        let views: Vec<_> = list.iter().map(|view| (view.iov_base as usize, view.iov_len)).collect();
        if matches!(sqe.opcode, READV_FIXED | WRITEV_FIXED) {
            let (start, len) = self.table[usize::from(sqe.buf_index)];
            let inside = |&(at, n): &(usize, usize)| at >= start && at + n <= start + len;
            assert!(views.iter().all(inside), "a gather through the table stays in its entry");
        }
        views
    }

    fn receive_shared(&mut self, sqe: Sqe) {
        assert!(sqe.opcode == RECV && sqe.priority == RECV_MULTISHOT && sqe.fd == FD && sqe.len == 0);
        let there = if self.shut { 0 } else { self.arrived - self.taken };
        if there == 0 {
            return self.done.push((sqe.user_data, 0, 0));
        }
        // Now and then there is none, although there is.
        if self.free.is_empty() || self.random.below(10) == 0 {
            self.seen.without_buffer += 1;
            return self.done.push((sqe.user_data, -ENOBUFS, 0));
        }
        let id = self.free.swap_remove(self.random.below(self.free.len()));
        let (start, bytes) = self.buffers;
        let view = [(start + usize::from(id) * bytes, bytes)];
        let n = self.some_of(there.min(bytes));
        self.seen.shared_receives += 1;
        self.copy(&view, bytes, |_, view| view.fill(0xa5));
        self.copy(&view, n, |ring, view| {
            view.copy_from_slice(&ring.script[ring.taken..ring.taken + view.len()]);
            ring.taken += view.len();
        });
        // It goes on, or ends for no reason.
        let more = self.random.below(4) != 0;
        let flags = CQE_F_BUFFER | u32::from(id) << 16 | if more { CQE_F_MORE } else { 0 };
        self.done.push((sqe.user_data, n as i32, flags));
        if more {
            self.in_flight.push(sqe);
        }
    }

    /// Ends an operation, unless it is over already.
    fn cancel(&mut self, sqe: Sqe) {
        let found = self.in_flight.iter().position(|other| other.user_data == sqe.addr);
        if let Some(at) = found {
            let target = self.in_flight.remove(at);
            self.done.push((target.user_data, -ECANCELED, 0));
            self.seen.cancelled += 1;
        }
        self.done.push((sqe.user_data, if found.is_some() { 0 } else { -ENOENT }, 0));
    }

    fn complete(&mut self, sqe: Sqe) {
        if sqe.shares() {
            return self.receive_shared(sqe);
        }
        let views = self.views(&sqe);
        let total: usize = views.iter().map(|(_, n)| n).sum();
        assert!(total > 0 && sqe.fd == FD, "no operation is empty, and there is one socket");
        let res = match sqe.opcode {
            SEND | SENDMSG | WRITEV_FIXED => {
                match sqe.opcode {
                    WRITEV_FIXED => self.seen.fixed_sends += 1,
                    SENDMSG => self.seen.plain_sends += 1,
                    _ => {}
                }
                let n = self.some_of(total);
                self.seen.short_sends += usize::from(n < total);
                self.copy(&views, n, |ring, view| ring.heard.extend_from_slice(view));
                n as i32
            }
            _ => {
                match sqe.opcode {
                    READV_FIXED => self.seen.fixed_landings += 1,
                    RECVMSG => self.seen.plain_landings += 1,
                    _ => {}
                }
                let there = if self.shut { 0 } else { self.arrived - self.taken };
                let n = if there == 0 { 0 } else { self.some_of(total.min(there)) };
                self.seen.short_receives += usize::from(n < total.min(there));
                self.copy(&views, total, |_, view| view.fill(0xa5));
                self.copy(&views, n, |ring, view| {
                    view.copy_from_slice(&ring.script[ring.taken..ring.taken + view.len()]);
                    ring.taken += view.len();
                });
                n as i32
            }
        };
        if sqe.flags & CQE_SKIP_SUCCESS != 0 && res as usize == total {
            assert!(sqe.never_waits(), "who is not told of the end must know it from the submission");
            self.seen.quiet_sends += 1;
            return;
        }
        self.done.push((sqe.user_data, res, 0));
    }

    /// Mostly short, sometimes whole.
    fn some_of(&mut self, n: usize) -> usize {
        if self.random.below(3) == 0 { n } else { 1 + self.random.below(n) }
    }

    fn copy(&mut self, views: &[(usize, usize)], n: usize, mut each: impl FnMut(&mut FakeRing, &mut [u8])) {
        let mut left = n;
        for &(at, len) in views {
            let len = len.min(left);
            left -= len;
            if len > 0 {
                // SAFETY: the memory of an operation in flight, which is the kernel's until its CQE.
                each(self, unsafe { std::slice::from_raw_parts_mut(at as *mut u8, len) });
            }
        }
    }
}

/// Where each whole message ends.
fn ends(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let size = bytes.get(at..at + 4)?.try_into().expect("four bytes");
        at += u32::from_le_bytes(size) as usize;
        (at <= bytes.len()).then_some(at)
    })
}

impl Ring for FakeRing {
    fn features(&self) -> Features {
        Features { vectored_fixed: self.fixed, defer_taskrun: true, multishot: self.multishot }
    }

    unsafe fn push(&mut self, build: impl FnOnce() -> Entry) -> bool {
        // A queue that is full now and then.
        if self.queued.len() >= 2 && self.random.below(4) == 0 {
            return false;
        }
        // SAFETY: an Entry is the 64 bytes that the kernel is given.
        let bytes: [u8; 64] = unsafe { std::mem::transmute(build()) };
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        self.queued.push(Sqe {
            opcode: bytes[0],
            flags: bytes[1],
            priority: long(0).wrapping_shr(16) as u16,
            fd: long(0).wrapping_shr(32) as i32,
            addr: long(16),
            len: long(24) as u32,
            op_flags: (long(24) >> 32) as u32,
            user_data: long(32),
            buf_index: long(40) as u16,
        });
        true
    }

    fn submit_and_wait(&mut self, want: u32) -> io::Result<()> {
        self.now += 1000;
        for sqe in self.queued.drain(..).collect::<Vec<_>>() {
            if sqe.opcode == ASYNC_CANCEL {
                self.cancel(sqe);
            } else if sqe.opcode == TIMEOUT {
                // Time stands still: it never ends.
            } else if sqe.never_waits() {
                // It ends before the wait begins: with all, with some, or with a full socket.
                if self.random.below(3) == 0 {
                    self.seen.full_sockets += 1;
                    self.done.push((sqe.user_data, -EAGAIN, 0));
                } else {
                    self.complete(sqe);
                }
            } else {
                self.in_flight.push(sqe);
            }
        }
        for _ in 0..self.random.below(3) {
            self.step();
        }
        while self.done.len() < want as usize {
            assert!(self.step(), "the loop waits for {want} completions, of which {} come", self.done.len());
        }
        Ok(())
    }

    unsafe fn share_buffers(&mut self, start: *mut u8, count: u16, bytes: u32) -> io::Result<()> {
        self.buffers = (start as usize, bytes as usize);
        self.free = (0..count).collect();
        Ok(())
    }

    unsafe fn return_buffer(&mut self, id: u16) {
        assert!(!self.free.contains(&id), "a buffer is given back once");
        self.free.push(id);
    }

    fn is_settled(&mut self) -> bool {
        self.queued.is_empty()
    }

    fn drain(&mut self, mut each: impl FnMut(u64, i32, u32)) {
        self.done.drain(..).for_each(|(user_data, res, flags)| each(user_data, res, flags));
    }

    fn has_work(&mut self) -> bool {
        true
    }

    fn register_table(&mut self, entries: u32) -> io::Result<()> {
        self.table = vec![(0, 0); entries as usize];
        Ok(())
    }

    unsafe fn register_region(&mut self, slot: u32, start: usize, len: usize) -> io::Result<()> {
        self.table[slot as usize] = (start, len);
        Ok(())
    }

    fn shutdown(&mut self, _: RawFd) {
        self.shut = true;
    }

    fn close(&mut self, fd: RawFd) {
        assert!(fd == FD && self.in_flight.is_empty() && !self.closed, "closed once, with nothing in flight");
        assert!(
            self.free.len() == if self.multishot { usize::from(ring9::uring::SHARED_COUNT) } else { 0 },
            "all buffers were given back"
        );
        self.closed = true;
    }

    fn peer_identity(&mut self, _: RawFd) -> Option<u32> {
        Some(0)
    }

    fn monotonic(&mut self) -> u64 {
        self.now
    }

    fn wall(&mut self) -> Time {
        AT.wall
    }

    fn entropy(&mut self) -> u64 {
        1
    }
}
