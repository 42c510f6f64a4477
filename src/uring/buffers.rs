//! Memory that is received into before it is served: shared buffers, the window of a peer that
//! sends large payloads or is behind, and the sink. **Unsafe**: names memory to the kernel.
//!
//! Ownership: a shared buffer is either kept back or the kernel's. The CQE that names it takes it
//! from the kernel. It is looked at once, before the next CQE, and then kept back or given to the
//! kernel again. A window owns its memory on the heap, so that the window itself may move. Its peer
//! keeps it until the terminal CQE, and does not touch the room behind the received bytes while a
//! receive is in flight. Shared buffers and sink are never freed.

use super::ring::{BUFFER_GROUP, Ring};
use super::socket::Socket;
use super::token::Token;
use io_uring::{cqueue, opcode};
use std::io;

/// Usual bytes of a receive window: at most this much of a payload is copied before the rest lands
/// (docs/decisions/02-receive-window.md). It is larger where payloads are received whole (`intake.rs`).
pub const WINDOW_BYTES: usize = 16 << 10;
/// Bytes of a shared receive buffer.
pub const SHARED_BYTES: usize = 64 << 10;
/// Shared receive buffers; more than one enter completes receives.
pub const SHARED_COUNT: u16 = 256;
/// Shared receive buffers that the kernel always has. It takes them one after the other, so all of them are written to in turn. With more, less of them is in a cache.
const SHARED_COUNT_MIN: u16 = 4;
/// Windows that are kept for the next peer that needs one.
pub const SPARE_WINDOWS: usize = 64;
/// Most bytes that a sink takes at once.
pub const SINK_BYTES: usize = 64 << 10;

/// The receive buffers that the kernel picks from: twice as many as a turn needs, and the rest is kept back (docs/decisions/09-shared-buffers.md).
pub(crate) struct SharedBuffers {
    memory: *mut u8,
    /// Kept back.
    spares: Vec<u16>,
    /// So many the kernel is to have.
    target: u16,
    /// Seen in this turn, and most in one since the last sweep.
    seen: u16,
    most: u16,
}

impl SharedBuffers {
    /// Hands the first ones to the kernel.
    pub(crate) fn new(ring: &mut impl Ring) -> io::Result<SharedBuffers> {
        let memory = Box::leak(vec![0; SHARED_BYTES * usize::from(SHARED_COUNT)].into_boxed_slice()).as_mut_ptr();
        // SAFETY: the memory is leaked, and `look` is the only one who touches it.
        unsafe { ring.share_buffers(memory, SHARED_COUNT, SHARED_BYTES as u32) }?;
        let mut shared = SharedBuffers {
            memory,
            spares: (0..SHARED_COUNT).rev().collect(),
            target: SHARED_COUNT_MIN,
            seen: 0,
            most: 0,
        };
        shared.give(ring);
        Ok(shared)
    }

    /// Buffers that are kept back.
    pub(crate) fn spares(&self) -> usize {
        self.spares.len()
    }

    fn has_enough(&self) -> bool {
        usize::from(SHARED_COUNT) - self.spares.len() >= usize::from(self.target)
    }

    /// Gives the kernel what it is to have.
    fn give(&mut self, ring: &mut impl Ring) {
        while !self.has_enough()
            && let Some(id) = self.spares.pop()
        {
            // SAFETY: whatever is kept back was never given, or a CQE has named it and `look` is over.
            unsafe { ring.give_buffer(id) };
        }
    }

    /// Ends a turn. If the turn has seen more than half of the buffers that the kernel has, the next turn might find none, so the kernel gets more. If it has seen all, it gets
    /// many more. It keeps [`SHARED_COUNT_MIN`] until a turn has seen all of these.
    pub(crate) fn turned(&mut self, ring: &mut impl Ring) {
        let seen = std::mem::take(&mut self.seen);
        self.most = self.most.max(seen);
        if seen > (self.target / 2).max(SHARED_COUNT_MIN - 1) && self.target < SHARED_COUNT {
            let growth = if seen >= self.target { 8 } else { 2 };
            self.target = (self.target * growth).min(SHARED_COUNT);
            self.give(ring);
        }
    }

    /// Once a second: fewer are enough if no turn has seen more than a quarter of them. What is too much is kept back when it is seen next.
    pub(crate) fn swept(&mut self) {
        let most = std::mem::take(&mut self.most);
        if most <= self.target / 4 && self.target > SHARED_COUNT_MIN {
            self.target /= 2;
        }
    }

    /// Submits a receive that goes on until it is cancelled, fails, or finds no buffer.
    pub(crate) fn start(ring: &mut impl Ring, socket: Socket, token: Token) -> bool {
        // SAFETY: the entry names no memory; the group's buffers are the kernel's.
        unsafe { ring.push(|| socket.operation(token, |fd| opcode::RecvMulti::new(fd, BUFFER_GROUP).build())) }
    }

    /// Shows the `n` bytes that a CQE with these flags has brought, and gives their buffer back. `None` if it has brought no buffer.
    pub(crate) fn look<T>(
        &mut self,
        ring: &mut impl Ring,
        flags: u32,
        n: usize,
        see: impl FnOnce(&[u8]) -> T,
    ) -> Option<T> {
        let id = cqueue::buffer_select(flags)?;
        self.seen += 1;
        assert!(id < SHARED_COUNT && n <= SHARED_BYTES, "the kernel keeps to the buffers that it was given");
        // SAFETY: one of the buffers, initialised, and ours since the CQE: the kernel does not write to it before it has it back.
        let bytes = unsafe { std::slice::from_raw_parts(self.memory.add(usize::from(id) * SHARED_BYTES), n) };
        let seen = see(bytes);
        self.spares.push(id);
        self.give(ring);
        Some(seen)
    }
}

/// Received bytes that are not served yet, and the room behind them. Has no memory while nothing is in it, unless payloads are received behind it.
pub(crate) struct Window {
    bytes: Box<[u8]>,
    /// Of the unread bytes. A window has a message and a backlog at most, and every peer has one: so no more than 32 bits each.
    start: u32,
    end: u32,
}

impl Window {
    pub(crate) fn new() -> Window {
        Window { bytes: Box::default(), start: 0, end: 0 }
    }

    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.start as usize..self.end as usize]
    }

    pub(crate) fn consume(&mut self, n: usize) {
        self.start += n as u32;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    pub(crate) fn received(&mut self, n: usize) {
        self.end += n as u32;
        assert!(self.end as usize <= self.bytes.len(), "the kernel keeps to the length of the buffer");
    }

    /// Adds bytes that were received elsewhere.
    pub(crate) fn append(&mut self, more: &[u8], spares: &mut Spares) {
        self.make_room(more.len(), spares);
        let end = self.end as usize;
        self.bytes[end..end + more.len()].copy_from_slice(more);
        self.end += more.len() as u32;
    }

    /// Makes room for `n` bytes behind the unread ones.
    fn make_room(&mut self, n: usize, spares: &mut Spares) {
        let unread = self.unread().len();
        if self.bytes.len() < unread + n {
            let mut larger = spares.take(unread + n);
            larger[..unread].copy_from_slice(self.unread());
            spares.give(std::mem::replace(&mut self.bytes, larger));
            (self.start, self.end) = (0, unread as u32);
        } else if self.start > 0 {
            self.bytes.copy_within(self.start as usize..self.end as usize, 0);
            (self.start, self.end) = (0, unread as u32);
        }
    }

    /// Gives the memory back, if nothing is in it.
    pub(crate) fn release(&mut self, spares: &mut Spares) {
        if self.start == self.end && !self.bytes.is_empty() {
            spares.give(std::mem::take(&mut self.bytes));
        }
    }

    /// Bytes of its memory.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Gives everything up.
    pub(crate) fn discard(&mut self, spares: &mut Spares) {
        (self.start, self.end) = (0, 0);
        self.release(spares);
    }

    /// Room for so many bytes that follow a payload that is received into its blocks. Whoever names it to the kernel keeps the window as it is until the terminal CQE.
    pub(crate) fn room(&mut self, bytes: usize, spares: &mut Spares) -> &mut [u8] {
        assert!(self.unread().is_empty(), "a payload lands once everything in front of it was served");
        self.make_room(bytes, spares);
        &mut self.bytes[..bytes]
    }

    /// Submits a receive behind the unread bytes, up to `bytes` in all: the message that has begun fits.
    pub(crate) fn start(
        &mut self,
        ring: &mut impl Ring,
        socket: Socket,
        token: Token,
        (spares, bytes): (&mut Spares, usize),
    ) -> bool {
        let unread = self.unread().len();
        debug_assert!(unread < bytes, "a full window holds a message to be served first");
        self.make_room(bytes - unread, spares);
        let room = &mut self.bytes[unread..bytes];
        let (at, len) = (room.as_mut_ptr(), room.len() as u32);
        // SAFETY: the window is boxed, and its peer neither reads the room nor lets go of it before the CQE.
        unsafe { ring.push(|| socket.operation(token, |fd| opcode::Recv::new(fd, at, len).build())) }
    }
}

/// Memory of windows that nobody uses now.
#[derive(Default)]
pub(crate) struct Spares {
    spares: Vec<Box<[u8]>>,
    /// Bytes of those that are in use.
    lent: usize,
}

impl Spares {
    /// Memory for at least `n` bytes.
    fn take(&mut self, n: usize) -> Box<[u8]> {
        let spare = if n <= WINDOW_BYTES { self.spares.pop() } else { None };
        let bytes = spare.unwrap_or_else(|| vec![0; n.next_power_of_two().max(WINDOW_BYTES)].into_boxed_slice());
        self.lent += bytes.len();
        bytes
    }

    fn give(&mut self, bytes: Box<[u8]>) {
        self.lent -= bytes.len();
        if bytes.len() == WINDOW_BYTES && self.spares.len() < SPARE_WINDOWS {
            self.spares.push(bytes);
        }
    }

    /// Bytes of all windows that are in use.
    pub(crate) fn lent_bytes(&self) -> usize {
        self.lent
    }
}

/// Memory for payload that is thrown away. All peers share it, and it is never read.
pub(crate) struct Sink(&'static mut [u8]);

impl Sink {
    /// Lives for ever, since a receive of any peer may be in flight when the loop ends.
    pub(crate) fn new() -> Sink {
        Sink(Box::leak(vec![0; SINK_BYTES].into_boxed_slice()))
    }

    /// Submits a receive of at most `len` bytes to be thrown away.
    pub(crate) fn start(&mut self, ring: &mut impl Ring, socket: Socket, token: Token, len: usize) -> bool {
        let (at, len) = (self.0.as_mut_ptr(), len.min(self.0.len()) as u32);
        // SAFETY: the sink is never freed and never read; that several receives write to it at once is harmless.
        unsafe { ring.push(|| socket.operation(token, |fd| opcode::Recv::new(fd, at, len).build())) }
    }
}
