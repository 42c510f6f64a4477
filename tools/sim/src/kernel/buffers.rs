//! The group of shared receive buffers: which are with the kernel, and which the program has.
//!
//! Must not know: sockets.

use super::Kernel;
use super::memory::{self, View};
use std::collections::VecDeque;

/// The group of shared receive buffers.
#[derive(Debug)]
pub(super) struct Buffers {
    start: usize,
    pub(super) bytes: usize,
    /// With the kernel, in the order in which they were given.
    pub(super) free: VecDeque<u16>,
    /// Named by a completion that was handed out, and not given back yet.
    pub(super) lent: Vec<u16>,
    pub(super) poisoned: Vec<bool>,
}

impl Buffers {
    pub(super) fn view(&self, id: u16) -> View {
        View { at: self.start + usize::from(id) * self.bytes, len: self.bytes }
    }
}

impl Kernel {
    /// Shared buffers that the program has.
    pub(crate) fn lent_buffers(&self) -> usize {
        self.buffers.as_ref().map_or(0, |buffers| buffers.lent.len())
    }

    /// Shared buffers that are not with the kernel, whoever has them.
    pub(crate) fn missing_buffers(&self) -> usize {
        self.buffers.as_ref().map_or(0, |buffers| buffers.poisoned.len() - buffers.free.len())
    }

    pub(crate) fn share_buffers(&mut self, start: *mut u8, count: u16, bytes: u32) {
        assert!(count.is_power_of_two() && self.buffers.is_none(), "registration: one group, of a power of two");
        let lent = (0..count).collect();
        let poisoned = vec![false; usize::from(count)];
        self.buffers =
            Some(Buffers { start: start as usize, bytes: bytes as usize, free: VecDeque::new(), lent, poisoned });
    }

    pub(crate) fn give_buffer(&mut self, id: u16) {
        let buffers = self.buffers.as_mut().expect("registration: buffers are shared before they are given back");
        let lent = buffers.lent.iter().position(|&lent| lent == id);
        buffers.lent.swap_remove(lent.expect("shared buffers: one is given back that was not lent, or twice"));
        memory::poison(&[buffers.view(id)], 0);
        buffers.poisoned[usize::from(id)] = true;
        buffers.free.push_back(id);
    }

    /// Lets go of the memory of the shared buffers, at the end of it all.
    pub(crate) fn forget_buffers(&self) {
        if let Some(buffers) = &self.buffers {
            memory::forget(buffers.start, buffers.bytes * buffers.poisoned.len());
        }
    }
}
