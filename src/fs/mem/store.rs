//! The arena behind memfs, and what publishing a payload has set aside.

use super::attrs::Of;
use super::blocks::Cut;
use super::change::Plan;
use super::parts::Table;
use super::waste::{ALLOC_MAX, AT_ONCE, PER_INODE, PER_UNIT, Waste};
use crate::arena::{Arena, Block, Full, Piece, Why, Zeros};
use std::ops::Range;

/// Bytes of a block that are copied or zeroed count as one block released: 4 KiB are a unit of work.
const BYTES_PER_RELEASE: usize = 4096 / PER_UNIT;

pub(super) struct Store {
    pub(super) arena: Arena,
    pub(super) zeros: Zeros,
    /// Blocks that a landing has kept for its own publishing, pages first; empty otherwise.
    pub(super) reserve: Vec<Block>,
    pub(super) table: Table,
    /// A list to be used again; empty between calls.
    pub(super) plans: Vec<Plan>,
    /// Lists of pieces to be used again, so that a steady stream of landings allocates nothing.
    pub(super) lists: Vec<Vec<Piece>>,
    waste: Waste,
    /// Blocks that were freed, map nodes that were made, and bytes copied between blocks in units of as much work, since [`spent`](Self::spent) was asked.
    released: usize,
}

impl Store {
    pub(super) fn new(arena: Arena) -> Store {
        let zeros = arena.zeros();
        Store {
            table: Table::new(&arena),
            arena,
            zeros,
            reserve: Vec::new(),
            plans: Vec::new(),
            lists: Vec::new(),
            waste: Waste::default(),
            released: 0,
        }
    }

    /// Whether `nodes` more map nodes stay within the limit. If they do not, frees removed files that
    /// wait, at most [`ALLOC_MAX`] blocks, and looks again.
    pub(super) fn has_node_room(&mut self, nodes: u64) -> bool {
        // To make one is as much work as to free a block.
        self.released += nodes as usize;
        let mut blocks = ALLOC_MAX;
        while !self.table.has_room(nodes) && blocks > 0 && !self.waste.is_empty() {
            blocks = blocks.saturating_sub(self.release(AT_ONCE.min(blocks)));
        }
        self.table.has_room(nodes)
    }

    /// A block of at least `bytes` that the caller can do without. Never takes one from the reserve.
    pub(super) fn alloc_spare(&mut self, bytes: usize) -> Result<Block, Full> {
        self.with_waste(|arena| arena.alloc(bytes))
    }

    /// A block of at least `bytes`; from the reserve where there is no other.
    pub(super) fn alloc(&mut self, bytes: usize) -> Result<Block, Full> {
        self.alloc_spare(bytes).or_else(|full| {
            let kept = self.reserve.iter().position(|block| self.arena.capacity(block) >= bytes);
            kept.map(|place| self.reserve.remove(place)).ok_or(full)
        })
    }

    /// A fresh block to receive `range` of it into.
    pub(super) fn land_fresh(&mut self, bytes: usize, range: Range<usize>) -> Result<Piece, Full> {
        self.with_waste(|arena| arena.land_fresh(bytes, range.clone()))
    }

    /// Allocates; where there is no memory, frees what waits until there is, [`ALLOC_MAX`] blocks at most.
    fn with_waste<T>(&mut self, mut alloc: impl FnMut(&mut Arena) -> Result<T, Full>) -> Result<T, Full> {
        let mut left = ALLOC_MAX;
        loop {
            let had = alloc(&mut self.arena);
            if had.is_ok() || left == 0 || self.waste.is_empty() {
                return had;
            }
            left = left.saturating_sub(self.release(AT_ONCE.min(left)));
        }
    }

    /// Gives the blocks of a file up: a part now, the rest in the turns to come.
    pub(super) fn discard(&mut self, mut cut: Cut) {
        let Store { arena, table, .. } = self;
        let mut done = 0;
        while done < AT_ONCE
            && let Some(unit) = cut.pop()
        {
            let (blocks, bytes) = table.free(arena, unit);
            cut.freed(bytes);
            done += blocks;
        }
        table.nodes -= cut.take_nodes_gone();
        self.released += done;
        self.waste.add_cut(cut);
    }

    /// The same with the attributes of a file.
    pub(super) fn discard_attrs(&mut self, of: Of) {
        let is_small = of.len() <= AT_ONCE;
        self.waste.add_attrs(of);
        if is_small {
            self.released += self.waste.release_attrs(&mut self.arena, AT_ONCE);
        }
    }

    /// An inode is to come: some attributes that wait go, and free their memory.
    pub(super) fn make_inode_room(&mut self) {
        if !self.waste.is_empty() {
            self.released += self.waste.release_attrs(&mut self.arena, PER_INODE);
        }
    }

    /// Frees at most `most` blocks of what waits; how many that were.
    pub(super) fn release(&mut self, most: usize) -> usize {
        let done = self.waste.release(&mut self.arena, &mut self.table, most);
        self.released += done;
        done
    }

    /// Whether anything waits to be freed.
    pub(super) fn has_waste(&self) -> bool {
        !self.waste.is_empty()
    }

    /// Bytes that no file holds: free, about to be once replies have left, or waiting to be freed.
    pub(super) fn free_bytes(&self) -> u64 {
        self.arena.free_bytes() as u64 + self.waste.bytes()
    }

    /// Charges the work of freeing `blocks` blocks.
    pub(super) fn freed(&mut self, blocks: usize) {
        self.released += blocks;
    }

    /// Charges the work of copying or zeroing `bytes` bytes.
    pub(super) fn moved(&mut self, bytes: usize) {
        self.released += bytes / BYTES_PER_RELEASE;
    }

    /// Units of work for what was freed since the last call.
    pub(super) fn spent(&mut self) -> u32 {
        if self.released == 0 { 0 } else { (std::mem::take(&mut self.released) / PER_UNIT) as u32 }
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
            self.moved(range.len());
            if let Some(old) = old
                && !copied.is_empty()
            {
                self.arena.copy(old, copied.clone(), new, copied.start, why);
            }
            let zeroed = copied.end..range.end;
            if !zeroed.is_empty() {
                self.arena.zero(new, zeroed);
            }
        }
    }
}
