//! What the kernel may be touching: the memory behind each operation in flight, and the SQEs that
//! name it. **Unsafe**: the loop calls [`Ring::push`] only here, in `buffers.rs` and in `ask.rs`.
//!
//! Ownership: a value of [`PayloadReceive`] or [`Outbound`] owns the memory that its SQE names, on the
//! heap or in the arena, so that the value itself may move. Its peer keeps it until the terminal
//! CQE, or until a quiet send is known to have ended; so every `push` in here is sound. Nothing of
//! a value is read or changed between its `start` and that end.

use super::buffers::{Spares, WINDOW_BYTES, Window};
use super::ring::{Ring, SEND_VECTORIZED};
use super::socket::Socket;
use super::table::Table;
use super::token::Token;
use crate::arena::{HeadSlot, Heads};
use crate::logging::Chunk;
use crate::session::{self, Landing, Segments, View};
use io_uring::{opcode, squeue, types};
use nix::libc;
use std::os::fd::RawFd;

/// Most views in one gather; more go with the next send. The kernel allows 1,024 (UIO_MAXIOV).
pub const VIEWS_MAX: usize = 128;

/// Memory of a list of that many views, with its header.
pub const GATHER_BYTES: usize = VIEWS_MAX * size_of::<libc::iovec>() + size_of::<Gather>();

/// A receive for no more than so many bytes of a payload is also for what follows it.
const LAST_BYTES_MAX: usize = 64 << 10;

/// A list of views in the kernel's form, at an address that stays. Used again and again.
pub(crate) struct Gather {
    views: Vec<libc::iovec>,
    message: libc::msghdr,
    head: Option<HeadSlot>,
}

impl Gather {
    /// Boxed, because the kernel may read the message header until the CQE.
    pub(crate) fn new() -> Box<Gather> {
        // SAFETY: all zero is a valid msghdr: null pointers with zero lengths.
        let message = unsafe { std::mem::zeroed() };
        Box::new(Gather { views: Vec::with_capacity(VIEWS_MAX), message, head: None })
    }

    fn clear(&mut self) {
        debug_assert!(self.head.is_none());
        self.views.clear();
    }

    fn push(&mut self, at: *const u8, len: usize) {
        self.views.push(libc::iovec { iov_base: at.cast_mut().cast(), iov_len: len });
    }

    fn message(&mut self) -> *mut libc::msghdr {
        self.message.msg_iov = self.views.as_mut_ptr();
        self.message.msg_iovlen = self.views.len();
        &mut self.message
    }

    fn bytes(&self) -> usize {
        self.views.iter().map(|view| view.iov_len).sum()
    }
}

/// How an operation reaches memory, for the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// One buffer.
    Single,
    /// A gather through the registered table.
    Fixed,
    /// A gather by address.
    Plain,
    /// A payload and what follows it.
    Mixed,
}

/// A payload on its way into blocks.
pub(crate) struct PayloadReceive {
    landing: Landing,
    gather: Box<Gather>,
}

impl PayloadReceive {
    pub(crate) fn new(landing: Landing, gather: Box<Gather>) -> PayloadReceive {
        PayloadReceive { landing, gather }
    }

    pub(crate) fn into_parts(self) -> (Landing, Box<Gather>) {
        (self.landing, self.gather)
    }

    /// Whether what is still missing is received together with what follows it.
    pub(crate) fn is_mixed(&self) -> bool {
        is_mixed(&self.landing)
    }

    /// Submits a receive of what is still missing, and where that [is mixed](Self::is_mixed) of what follows it, into a window that is empty. `None` if the queue is full.
    pub(crate) fn start(
        &mut self,
        ring: &mut impl Ring,
        socket: Socket,
        token: Token,
        (window, spares): (&mut Window, &mut Spares),
    ) -> Option<Way> {
        self.gather.clear();
        if self.is_mixed() {
            for rest in self.landing.unfilled() {
                self.gather.push(rest.as_ptr(), rest.len());
            }
            let room = window.room(WINDOW_BYTES, spares);
            self.gather.push(room.as_ptr(), room.len());
            let message = self.gather.message();
            // It ends with what is there: nobody knows what follows, or whether anything does.
            // SAFETY: the pieces belong to the landing alone, the room to a window that its peer leaves alone; the header lies in the boxed gather. All are kept until the CQE.
            let pushed =
                unsafe { ring.push(|| socket.operation(token, |fd| opcode::RecvMsg::new(fd, message).build())) };
            return pushed.then_some(Way::Mixed);
        }
        for rest in self.landing.unfilled().take(VIEWS_MAX) {
            self.gather.push(rest.as_ptr(), rest.len());
        }
        let message = self.gather.message();
        // READV_FIXED would end with what is there, once for each part (docs/decisions/18-landings.md).
        let receive = |fd| opcode::RecvMsg::new(fd, message).flags(libc::MSG_WAITALL as u32).build();
        // SAFETY: as above; the header lies in the boxed gather.
        let pushed = unsafe { ring.push(|| socket.operation(token, receive)) };
        pushed.then_some(Way::Plain)
    }
}

/// Whether what a landing misses is received together with what follows it.
pub(crate) fn is_mixed(landing: &Landing) -> bool {
    landing.is_last() && landing.left() <= LAST_BYTES_MAX
}

/// Replies on their way out.
pub(crate) struct Outbound {
    pub(crate) segments: Segments,
    gather: Box<Gather>,
    /// Bytes offered by the last SQE.
    pub(crate) offered: usize,
    /// The socket was full: the next SQE waits until it takes everything. The first one does not wait: it ends while it is submitted.
    pub(crate) waits: bool,
    /// Nothing is done when the next SQE ends, if that sends all there is. If it does not wait either, it is quiet: it has a CQE only if something is left
    /// (docs/decisions/08-waiting.md).
    pub(crate) last: bool,
    quiet: bool,
    /// When the first of it was submitted, and by when the last must have left, in monotonic nanoseconds.
    pub(crate) began_ns: u64,
    pub(crate) due_ns: u64,
}

impl Outbound {
    pub(crate) fn new(segments: Segments, gather: Box<Gather>, now: u64) -> Outbound {
        // In total, not since the last progress: a peer that takes a byte a second holds its blocks no longer.
        let due_ns = now + session::allowance_ns(segments.len());
        Outbound { segments, gather, offered: 0, waits: false, last: false, quiet: false, began_ns: now, due_ns }
    }

    /// Gives the head slot back, after the CQE.
    pub(crate) fn ended(&mut self, heads: &mut Heads) {
        if let Some(slot) = self.gather.head.take() {
            heads.give(slot);
        }
    }

    pub(crate) fn into_parts(self) -> (Segments, Box<Gather>) {
        (self.segments, self.gather)
    }

    /// The operation in flight has no CQE if it sends everything.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Offers `n` bytes. The flags of the SQE, of the message and of the write.
    fn offer(&mut self, n: usize) -> (squeue::Flags, i32, i32) {
        self.offered = n;
        self.quiet = self.last && !self.waits && n == self.segments.len();
        let quiet = if self.quiet { squeue::Flags::SKIP_SUCCESS } else { squeue::Flags::empty() };
        // With MSG_WAITALL a send that was cut short has failed, and so has a CQE although it is quiet (Linux: io_uring/net.c, io_send); a short write has
        // failed in any case (io_uring/rw.c, __io_complete_rw_common).
        match self.waits {
            true => (quiet, libc::MSG_NOSIGNAL | libc::MSG_WAITALL, 0),
            false => (quiet, libc::MSG_NOSIGNAL | libc::MSG_WAITALL | libc::MSG_DONTWAIT, libc::RWF_NOWAIT),
        }
    }

    /// Submits a send of what is left, or of a first part of it, of `most` bytes at most. `None` if the queue is full.
    /// One place calls it, but once for each kind of tree in the program: so it would not be inlined by itself.
    #[inline(always)]
    pub(crate) fn start(
        &mut self,
        ring: &mut impl Ring,
        socket: Socket,
        token: Token,
        table: &Table,
        heads: &mut Heads,
        most: usize,
    ) -> Option<Way> {
        let single = {
            let mut views = self.segments.views();
            let first = views.next().expect("there is something to send").bytes;
            views.next().is_none().then_some((first.as_ptr(), first.len()))
        };
        if let Some((at, len)) = single {
            let len = len.min(most);
            let (quiet, flags, _) = self.offer(len);
            let send = |fd| opcode::Send::new(fd, at, len as u32).flags(flags).build().flags(quiet);
            // SAFETY: the segments own or pin the bytes and are kept until the CQE.
            let pushed = unsafe { ring.push(|| socket.operation(token, send)) };
            return pushed.then_some(Way::Single);
        }
        // Cheaper than through the table, whatever the size (docs/decisions/13-how-replies-leave.md).
        let is_vectored = ring.features().vectored_send;
        if !is_vectored && let Some(index) = self.gather_fixed(table, heads, most) {
            let (quiet, _, rw_flags) = self.offer(self.gather.bytes());
            let (list, count) = (self.gather.views.as_ptr(), self.gather.views.len() as u32);
            let send = |fd| opcode::WritevFixed::new(fd, list, count, index).rw_flags(rw_flags).build().flags(quiet);
            // SAFETY: blocks are pinned by the segments, heads lie in the slot that the gather holds; both are kept until the CQE.
            let pushed = unsafe { ring.push(|| socket.operation(token, send)) };
            if !pushed {
                self.ended(heads);
            }
            return pushed.then_some(Way::Fixed);
        }
        self.gather.clear();
        for view in next_views(&self.segments, most) {
            self.gather.push(view.bytes.as_ptr(), view.bytes.len());
        }
        let (quiet, flags, _) = self.offer(self.gather.bytes());
        let send = |fd| {
            let entry = if is_vectored {
                let (list, count) = (self.gather.views.as_ptr(), self.gather.views.len() as u32);
                opcode::Send::new(fd, list.cast(), count).ioprio(SEND_VECTORIZED).flags(flags).build()
            } else {
                let message = self.gather.message().cast_const();
                opcode::SendMsg::new(fd, message).flags(flags as u32).build()
            };
            entry.flags(quiet)
        };
        // SAFETY: as for the single buffer; list and header lie in the boxed gather.
        let pushed = unsafe { ring.push(|| socket.operation(token, send)) };
        pushed.then_some(Way::Plain)
    }

    /// Lists as many views as one entry of the table reaches, the small ones copied into a head slot beside the blocks. `None` if the pinned views
    /// span entries, are not registered, or no slot is free.
    fn gather_fixed(&mut self, table: &Table, heads: &mut Heads, most: usize) -> Option<u16> {
        let mut slot = Slot::Any;
        let mut region = None;
        for view in next_views(&self.segments, most).filter(|view| view.pinned) {
            slot = slot.and(table.slot_of(view.bytes));
            region = region.or(table.region_of(view.bytes));
        }
        let Slot::One(index) = slot else { return None };
        let mut head = heads.take(region.expect("a registered view lies in a region"))?;
        self.gather.clear();
        for view in next_views(&self.segments, most) {
            if view.pinned {
                self.gather.push(view.bytes.as_ptr(), view.bytes.len());
            } else if let Some((at, len)) = head.put(view.bytes) {
                self.gather.push(at, len);
            } else {
                break;
            }
        }
        self.gather.head = Some(head);
        if self.gather.views.is_empty() {
            self.ended(heads);
            return None;
        }
        Some(index)
    }
}

/// What goes with the next gather, of at most so many bytes.
fn next_views(segments: &Segments, most: usize) -> impl Iterator<Item = View<'_>> {
    segments.views().take(VIEWS_MAX).scan(most, |room, view| {
        let (bytes, _) = view.bytes.split_at(view.bytes.len().min(*room));
        *room -= bytes.len();
        (!bytes.is_empty()).then_some(View { bytes, ..view })
    })
}

/// The entry that all views so far share.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    Any,
    One(u16),
    None,
}

impl Slot {
    fn and(self, next: Option<u16>) -> Slot {
        match (self, next) {
            (Slot::Any, Some(index)) => Slot::One(index),
            (Slot::One(index), Some(other)) if index == other => self,
            _ => Slot::None,
        }
    }
}

/// A write of log lines.
#[derive(Default)]
pub(crate) struct LogWrite {
    pub(crate) chunk: Chunk,
}

impl LogWrite {
    /// Submits a write of the rest, at the descriptor's own offset. False if the queue is full.
    pub(crate) fn start(&mut self, ring: &mut impl Ring, fd: RawFd, token: Token) -> bool {
        let rest = self.chunk.rest();
        let (at, len) = (rest.as_ptr(), rest.len() as u32);
        // Offset -1: the file's own offset, which other processes may share (pwritev2(2)).
        let entry = || opcode::Write::new(types::Fd(fd), at, len).offset(u64::MAX).build().user_data(token.encode());
        // SAFETY: the chunk owns the bytes; its owner keeps it as it is until the CQE.
        unsafe { ring.push(entry) }
    }
}

/// Submits a multishot accept.
pub(crate) fn accept(ring: &mut impl Ring, fd: RawFd, token: Token) -> bool {
    let entry = || opcode::AcceptMulti::new(types::Fd(fd)).flags(libc::SOCK_CLOEXEC).build().user_data(token.encode());
    // SAFETY: names no memory.
    unsafe { ring.push(entry) }
}

/// Submits a poll for readability.
pub(crate) fn poll(ring: &mut impl Ring, fd: RawFd, token: Token) -> bool {
    let entry = || opcode::PollAdd::new(types::Fd(fd), libc::POLLIN as u32).build().user_data(token.encode());
    // SAFETY: names no memory.
    unsafe { ring.push(entry) }
}

/// Submits the cancellation of one operation.
pub(crate) fn cancel(ring: &mut impl Ring, target: Token, token: Token) -> bool {
    let entry = || opcode::AsyncCancel::new(target.encode()).build().user_data(token.encode());
    // SAFETY: names no memory.
    unsafe { ring.push(entry) }
}

/// How long a listener waits before it tries again: 50 ms.
pub(crate) static BACKOFF: types::Timespec = types::Timespec::new().nsec(50_000_000);
/// How often deadlines are looked at: every second.
pub(crate) static SWEEP: types::Timespec = types::Timespec::new().sec(1);

/// Submits a wait.
pub(crate) fn wait(ring: &mut impl Ring, time: &'static types::Timespec, token: Token) -> bool {
    let entry = || opcode::Timeout::new(time).build().user_data(token.encode());
    // SAFETY: the time lives for ever.
    unsafe { ring.push(entry) }
}

/// Submits the population of `len` bytes of the arena from address `start`, done by a worker of the kernel.
pub(crate) fn populate(ring: &mut impl Ring, start: usize, len: usize, token: Token) -> bool {
    let at = start as *const libc::c_void;
    let entry =
        || opcode::Madvise::new(at, len as libc::off_t, libc::MADV_POPULATE_WRITE).build().user_data(token.encode());
    // SAFETY: the arena is never unmapped, and populating changes no byte of it.
    unsafe { ring.push(entry) }
}
