//! The arena behind memfs, and what publishing a payload has set aside.

use crate::arena::{Arena, Block, Full, Piece, Why, Zeros};
use std::ops::Range;

pub(super) struct Store {
    pub(super) arena: Arena,
    pub(super) zeros: Zeros,
    /// Largest blocks that a landing has kept for its own publishing; empty otherwise.
    pub(super) reserve: Vec<Block>,
    /// A list to be used again; empty between calls.
    pub(super) scratch: Vec<Block>,
    /// Lists of pieces to be used again, so that a steady stream of landings allocates nothing.
    pub(super) lists: Vec<Vec<Piece>>,
}

impl Store {
    pub(super) fn new(arena: Arena) -> Store {
        let zeros = arena.zeros();
        Store { arena, zeros, reserve: Vec::new(), scratch: Vec::new(), lists: Vec::new() }
    }

    /// A block of at least `bytes`; from the reserve where there is no other.
    pub(super) fn alloc(&mut self, bytes: usize) -> Result<Block, Full> {
        self.arena.alloc(bytes).or_else(|full| self.reserve.pop().ok_or(full))
    }

    /// Fills a fresh block around `hole`: with the first `valid` bytes of the old one, then zeros, up to `size`.
    pub(super) fn complete(
        &mut self,
        new: &Block,
        old: Option<&Block>,
        valid: usize,
        hole: Range<usize>,
        size: usize,
        why: Why,
    ) {
        let end = size.min(self.arena.capacity(new));
        let outside =
            if hole.is_empty() { [0..end, end..end] } else { [0..hole.start.min(end), hole.end.min(end)..end] };
        for range in outside {
            let copied = range.start..range.end.min(valid).max(range.start);
            if let Some(old) = old
                && !copied.is_empty()
            {
                self.arena.copy(old, new, copied.clone(), why);
            }
            let zeroed = copied.end..range.end;
            if !zeroed.is_empty() {
                self.arena.zero(new, zeroed);
            }
        }
    }
}
