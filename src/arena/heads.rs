//! Head slots: registered memory for the few bytes in front of payloads. WRITEV_FIXED reaches
//! memory of one entry of the ring's table only, so heads have to lie in the same region as the
//! blocks. Every region starts with some slots. **Unsafe**: a slot is written through a pointer.
//!
//! Ownership: [`Heads`] gives each slot out at most once at a time. The holder is the only one that
//! writes to it, and gives it back after the completion of the operation that sends it.

use super::{BLOCK_BYTES_MAX, Memory};
use std::ptr::NonNull;

/// Bytes of one slot: about 90 heads of Rread.
pub const HEAD_SLOT_BYTES: usize = 1024;

/// The free slots of all regions.
pub struct Heads {
    memory: Memory,
    free: Vec<Vec<u32>>,
}

/// A slot, held by one operation.
#[derive(Debug)]
#[must_use = "a dropped slot is lost; give it back"]
pub struct HeadSlot {
    start: NonNull<u8>,
    region: usize,
    index: u32,
    len: usize,
}

// SAFETY: the slot is its holder's alone.
unsafe impl Send for HeadSlot {}

impl Heads {
    pub(super) fn new(memory: Memory) -> Heads {
        let slots = |region| (memory.head_chunks(region).len() * BLOCK_BYTES_MAX / HEAD_SLOT_BYTES) as u32;
        Heads { memory, free: (0..memory.regions()).map(|region| (0..slots(region)).rev().collect()).collect() }
    }

    /// An empty slot of this region, if one is free.
    pub fn take(&mut self, region: usize) -> Option<HeadSlot> {
        let index = self.free[region].pop()?;
        let start = self.memory.at(self.memory.region(region).start + index as usize * HEAD_SLOT_BYTES);
        Some(HeadSlot { start, region, index, len: 0 })
    }

    /// Gives a slot back after its operation's completion.
    pub fn give(&mut self, slot: HeadSlot) {
        self.free[slot.region].push(slot.index);
    }
}

impl HeadSlot {
    /// Copies `bytes` behind what is there; the address and length to send, or `None` if the slot is full.
    pub fn put(&mut self, bytes: &[u8]) -> Option<(*const u8, usize)> {
        if self.len + bytes.len() > HEAD_SLOT_BYTES {
            return None;
        }
        // SAFETY: room was just checked, the slot lies in the arena and is this holder's alone; what was put before is not touched.
        let place = unsafe {
            let place = self.start.add(self.len).as_ptr();
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len());
            place
        };
        self.len += bytes.len();
        Some((place, bytes.len()))
    }
}
