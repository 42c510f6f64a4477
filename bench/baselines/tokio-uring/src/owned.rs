//! Owned buffers for tokio-uring: replies to send, payloads to receive. **Unsafe**, because it takes them by address.
//!
//! Segments and landings hold their memory on the heap or in the arena, so that it stays where it is when they are moved; and tokio-uring keeps an operation's buffers until
//! the kernel is done with them. A gather is a list of buffers to it, each of which must own its memory: here they share the batch.

use common::VIEWS_MAX;
use ring9::session::{Landing, Segments};
use std::rc::Rc;
use tokio_uring::buf::{IoBuf, IoBufMut};

/// The first view of a batch, and the batch.
pub struct Single(Segments);

impl Single {
    /// Of a batch, which is not empty.
    pub fn new(out: Segments) -> Single {
        Single(out)
    }

    /// The batch, as it was.
    pub fn into_inner(self) -> Segments {
        self.0
    }

    fn bytes(&self) -> &[u8] {
        self.0.views().next().map_or(&[], |view| view.bytes)
    }
}

// SAFETY: the batch is in here and not changed, and its views stay where they are.
unsafe impl IoBuf for Single {
    fn stable_ptr(&self) -> *const u8 {
        self.bytes().as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.bytes().len()
    }

    fn bytes_total(&self) -> usize {
        self.bytes().len()
    }
}

/// A view of a batch, and the batch.
pub struct View {
    start: *const u8,
    len: usize,
    _out: Rc<Segments>,
}

/// The first views of what is to be sent, as many as go into one gather.
pub fn gather(out: &Rc<Segments>) -> Vec<View> {
    let one = |bytes: &[u8]| View { start: bytes.as_ptr(), len: bytes.len(), _out: Rc::clone(out) };
    out.views().take(VIEWS_MAX).map(|view| one(view.bytes)).collect()
}

// SAFETY: the batch is held as long as the view, and nobody changes what is shared.
unsafe impl IoBuf for View {
    fn stable_ptr(&self) -> *const u8 {
        self.start
    }

    fn bytes_init(&self) -> usize {
        self.len
    }

    fn bytes_total(&self) -> usize {
        self.len
    }
}

/// The first part of where a payload lands. Who receives tells the session how much came.
pub struct Target {
    landing: Landing,
    start: *mut u8,
    len: usize,
}

impl Target {
    /// What is unfilled of a landing, which is not nothing.
    pub fn new(mut landing: Landing) -> Target {
        let rest = landing.unfilled().next().expect("a landing wants something");
        let (start, len) = (rest.as_mut_ptr(), rest.len());
        Target { landing, start, len }
    }

    /// The landing, as it was.
    pub fn into_inner(self) -> Landing {
        self.landing
    }
}

// SAFETY: the landing is beside it, and its memory stays where it is and is nobody else's.
unsafe impl IoBuf for Target {
    fn stable_ptr(&self) -> *const u8 {
        self.start
    }

    fn bytes_init(&self) -> usize {
        0
    }

    fn bytes_total(&self) -> usize {
        self.len
    }
}

// SAFETY: as above.
unsafe impl IoBufMut for Target {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.start
    }

    unsafe fn set_init(&mut self, _pos: usize) {}
}
