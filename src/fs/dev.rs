//! The files that the article series began with: `zero` reads as zeros for ever and `null` as nothing; both take anything and keep nothing.

use super::flat::{Flat, Named, Source};
use super::{Out, mode};
use crate::arena::{BLOCK_BYTES_MAX, Zeros};

/// The tree `dev`.
pub type Dev = Flat<Devices>;

/// The devices.
pub struct Devices {
    zeros: Zeros,
}

impl Dev {
    /// Zeros come from the arena, so that they are sent from registered memory like any other file's.
    pub fn new(zeros: Zeros) -> Dev {
        Flat::of(Devices { zeros })
    }
}

const ZERO: usize = 0;

impl Source for Devices {
    // Regular files, not devices: v9fs would open a device node as a device of its own machine.
    const FILES: &'static [Named] = &[
        Named { name: "zero", mode: mode::IFREG | 0o666, rdev: (0, 0) },
        Named { name: "null", mode: mode::IFREG | 0o666, rdev: (0, 0) },
    ];

    /// Linux reads nothing from a regular file of length 0 in its caches, so `zero` shows the largest length.
    fn size(&self, index: usize) -> u64 {
        if index == ZERO { i64::MAX as u64 } else { 0 }
    }

    fn read(&mut self, index: usize, _: &[u8], _: u64, mut out: Out<'_>) {
        while index == ZERO && out.room() > 0 {
            out.slice(self.zeros.slice(BLOCK_BYTES_MAX.min(out.room() as usize)));
        }
    }
}
