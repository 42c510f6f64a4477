//! Memory that is received into before it is served: a peer's window, and the sink. **Unsafe**: names memory to the kernel.
//!
//! Ownership: as in `flight.rs`. A window owns its memory on the heap, so that it may move itself; its peer keeps it until the terminal CQE, and neither reads nor
//! changes the room behind the received bytes while a receive is in flight. The sink lives for ever.

use super::ring::Ring;
use super::token::Token;
use io_uring::{opcode, types};
use std::os::fd::RawFd;

/// Bytes of a receive window: at most this much of a payload is copied before the rest lands (docs/decisions/02-receive-window.md).
pub const WINDOW_BYTES: usize = 16 << 10;
/// Most bytes that a sink takes at once.
pub const SINK_BYTES: usize = 64 << 10;

/// Received bytes that are not served yet, and the room behind them.
pub(crate) struct Window {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Window {
    pub(crate) fn new() -> Window {
        Window { bytes: vec![0; WINDOW_BYTES].into_boxed_slice(), start: 0, end: 0 }
    }

    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(crate) fn consume(&mut self, n: usize) {
        self.start += n;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    pub(crate) fn received(&mut self, n: usize) {
        self.end += n;
        assert!(self.end <= self.bytes.len(), "the kernel keeps to the length of the buffer");
    }

    /// Submits a receive behind the unread bytes. A message of at most a window's size always fits: the rest is moved to the front first.
    pub(crate) fn start(&mut self, ring: &mut impl Ring, fd: RawFd, token: Token) -> bool {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let room = &mut self.bytes[self.end..];
        debug_assert!(!room.is_empty(), "a full window holds a message to be served first");
        let (at, len) = (room.as_mut_ptr(), room.len() as u32);
        // SAFETY: the window is boxed, and its peer neither reads the room nor lets go of it before the CQE.
        unsafe { ring.push(|| opcode::Recv::new(types::Fd(fd), at, len).build().user_data(token.encode())) }
    }
}

/// Memory for payload that nobody wants. All peers share it: nobody ever reads it.
pub(crate) struct Sink(&'static mut [u8]);

impl Sink {
    /// Lives for ever, since a receive of any peer may be in flight when the loop ends.
    pub(crate) fn new() -> Sink {
        Sink(Box::leak(vec![0; SINK_BYTES].into_boxed_slice()))
    }

    /// Submits a receive of at most `len` bytes to be thrown away.
    pub(crate) fn start(&mut self, ring: &mut impl Ring, fd: RawFd, token: Token, len: usize) -> bool {
        let (at, len) = (self.0.as_mut_ptr(), len.min(self.0.len()) as u32);
        // SAFETY: the sink is never freed and never read; that several receives write to it at once is harmless.
        unsafe { ring.push(|| opcode::Recv::new(types::Fd(fd), at, len).build().user_data(token.encode())) }
    }
}
