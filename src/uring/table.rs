//! Which parts of the arena are in the ring's table of registered buffers, and in which slot.
//!
//! A region (1 GiB at most) has two slots and uses one at a time. To grow, the longer range is
//! registered in the other slot. The old slot is emptied once every SQE that names it was
//! submitted; the kernel keeps its memory until their operations have ended.

use super::ring::Ring;
use crate::arena::Memory;
use std::io;

#[derive(Clone, Copy, Default)]
struct Entry {
    slot: u16,
    /// Bytes registered, from the start of the region.
    len: usize,
}

/// The state of the ring's table.
pub(crate) struct Table {
    memory: Memory,
    entries: Vec<Entry>,
    /// Slots that nothing new is submitted through.
    given_up: Vec<u16>,
    enabled: bool,
}

impl Table {
    /// Nothing is registered.
    pub(crate) fn new(memory: Memory) -> Table {
        Table { memory, entries: vec![Entry::default(); memory.regions()], given_up: Vec::new(), enabled: false }
    }

    /// Registers the first `bytes` of the arena, in addition to what is there.
    pub(crate) fn register(&mut self, ring: &mut impl Ring, bytes: usize) -> io::Result<()> {
        if !self.enabled {
            ring.register_table(2 * self.entries.len() as u32)?;
            self.enabled = true;
        }
        for (index, entry) in self.entries.iter_mut().enumerate() {
            let region = self.memory.region(index);
            let len = bytes.min(region.end).saturating_sub(region.start);
            if len <= entry.len {
                continue;
            }
            let slot = 2 * index as u16 + u16::from(entry.len > 0 && entry.slot == 2 * index as u16);
            #[expect(unsafe_code, reason = "the arena hands its own memory to the kernel")]
            // SAFETY: the arena is never unmapped.
            unsafe {
                ring.register_region(slot.into(), self.memory.address() + region.start, len)?;
            }
            // What is still queued for a range from the same start lies in the longer one as well.
            self.given_up.retain(|&old| old != slot);
            if entry.len > 0 {
                self.given_up.push(entry.slot);
            }
            *entry = Entry { slot, len };
        }
        Ok(())
    }

    /// Slots were given up and are not empty yet.
    pub(crate) fn is_untidy(&self) -> bool {
        !self.given_up.is_empty()
    }

    /// Empties the slots that were given up. Only when everything that was pushed is submitted: the kernel looks a slot up at the submission.
    pub(crate) fn tidy(&mut self, ring: &mut impl Ring) {
        for slot in self.given_up.drain(..) {
            #[expect(unsafe_code, reason = "the ring asks for it")]
            // SAFETY: an empty range names no memory.
            let emptied = unsafe { ring.register_region(slot.into(), 0, 0) };
            if let Err(error) = emptied {
                // Its pages stay registered twice until the next growth takes the slot.
                log::debug!(target: "table", "slot {slot} of the table: {error}");
            }
        }
    }

    /// Bytes registered in all.
    pub(crate) fn registered_bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.len).sum()
    }

    /// The slot through which these bytes can be reached.
    #[inline]
    pub(crate) fn slot_of(&self, bytes: &[u8]) -> Option<u16> {
        self.slot_at(bytes.as_ptr() as usize, bytes.len())
    }

    /// The slot through which `len` bytes from an address on can be reached.
    #[inline]
    pub(crate) fn slot_at(&self, address: usize, len: usize) -> Option<u16> {
        let region = self.memory.region_of(address as *const u8)?;
        let entry = self.entries[region];
        let end = address - self.memory.address() - self.memory.region(region).start + len;
        (end <= entry.len).then_some(entry.slot)
    }

    /// The region of the arena that these bytes lie in.
    pub(crate) fn region_of(&self, bytes: &[u8]) -> Option<usize> {
        self.memory.region_of(bytes.as_ptr())
    }
}
