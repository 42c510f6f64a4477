//! Owned buffers for compio: replies to send, payloads to receive. **Unsafe**, because compio receives into memory that may be uninitialised.
//!
//! Segments and landings hold their memory on the heap or in the arena, so that it stays where it is when they are moved into an operation; and compio keeps an
//! operation's buffer until the kernel is done with it.

use common::VIEWS_MAX;
use compio::buf::{IoBuf, IoVectoredBuf, IoVectoredBufMut, SetLen};
use ring9::session::{Landing, Segments};
use std::mem::MaybeUninit;

/// The first view of what is to be sent.
#[derive(Debug)]
pub struct Single(pub Segments);

impl IoBuf for Single {
    fn as_init(&self) -> &[u8] {
        self.0.views().next().map_or(&[], |view| view.bytes)
    }
}

/// The first views of what is to be sent, as many as go into one gather.
#[derive(Debug)]
pub struct Gather(pub Segments);

impl IoVectoredBuf for Gather {
    fn iter_slice(&self) -> impl Iterator<Item = &[u8]> {
        self.0.views().take(VIEWS_MAX).map(|view| view.bytes)
    }
}

/// Where a payload lands. To compio all of it is room, and none of it was filled: who receives tells the session how much came.
#[derive(Debug)]
pub struct Target(pub Landing);

impl IoVectoredBuf for Target {
    fn iter_slice(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::empty()
    }
}

impl IoVectoredBufMut for Target {
    fn iter_uninit_slice(&mut self) -> impl Iterator<Item = &mut [MaybeUninit<u8>]> {
        self.0.unfilled().take(VIEWS_MAX).map(|rest| {
            let (start, len) = (rest.as_mut_ptr().cast::<MaybeUninit<u8>>(), rest.len());
            // SAFETY: the same memory, borrowed for as long, and bytes are valid as bytes that may be uninitialised. Nobody makes them so:
            // compio and the kernel write nothing but what was received.
            unsafe { std::slice::from_raw_parts_mut(start, len) }
        })
    }
}

impl SetLen for Target {
    unsafe fn set_len(&mut self, _len: usize) {}
}
