//! Owned gathers for monoio: replies to send, payloads to receive. **Unsafe**, because monoio takes them as lists of addresses.
//!
//! Segments and landings hold their memory on the heap or in the arena, so that it stays where it is when they are moved into an operation; and monoio keeps an operation's
//! buffer until the kernel is done with it. The lists are on the heap too.

use common::VIEWS_MAX;
use libc::iovec;
use monoio::buf::{IoBuf, IoVecBuf, IoVecBufMut};
use ring9::session::{Landing, Segments};

/// The first view of what is to be sent.
pub struct Single(pub Segments);

impl Single {
    fn bytes(&self) -> &[u8] {
        self.0.views().next().map_or(&[], |view| view.bytes)
    }
}

// SAFETY: the batch is in here and not changed, and its views stay where they are.
unsafe impl IoBuf for Single {
    fn read_ptr(&self) -> *const u8 {
        self.bytes().as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.bytes().len()
    }
}

/// The first views of what is to be sent, as many as go into one gather.
pub struct Gather {
    out: Segments,
    list: Vec<iovec>,
}

impl Gather {
    /// Of a batch, which is not empty.
    pub fn new(out: Segments) -> Gather {
        let one = |bytes: &[u8]| iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let list = out.views().take(VIEWS_MAX).map(|view| one(view.bytes)).collect();
        Gather { out, list }
    }

    /// The batch, as it was.
    pub fn into_inner(self) -> Segments {
        self.out
    }
}

// SAFETY: the list stays where it is and is not changed, and so do the views that it shows, which are of the batch that is beside it.
unsafe impl IoVecBuf for Gather {
    fn read_iovec_ptr(&self) -> *const iovec {
        self.list.as_ptr()
    }

    fn read_iovec_len(&self) -> usize {
        self.list.len()
    }
}

/// Where a payload lands. Who receives tells the session how much came.
pub struct Target {
    landing: Landing,
    list: Vec<iovec>,
}

impl Target {
    /// What is unfilled of a landing, which is not nothing.
    pub fn new(mut landing: Landing) -> Target {
        let one = |rest: &mut [u8]| iovec { iov_base: rest.as_mut_ptr().cast(), iov_len: rest.len() };
        let list = landing.unfilled().take(VIEWS_MAX).map(one).collect();
        Target { landing, list }
    }

    /// The landing, as it was.
    pub fn into_inner(self) -> Landing {
        self.landing
    }
}

// SAFETY: as above; nobody else writes what is unfilled of a landing.
unsafe impl IoVecBufMut for Target {
    fn write_iovec_ptr(&mut self) -> *mut iovec {
        self.list.as_mut_ptr()
    }

    fn write_iovec_len(&mut self) -> usize {
        self.list.len()
    }

    unsafe fn set_init(&mut self, _pos: usize) {}
}
