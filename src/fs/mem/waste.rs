//! What files have let go of and the arena does not have back yet.
//!
//! A file may have a block for each page of the memory, or thousands of attributes. A truncation or a removal takes all of it out of the tree at once and frees a first
//! part. The rest waits here, as free memory that takes a little work to have: a part goes in each turn, and before an allocation fails.

use super::attrs::Of;
use super::blocks::Cut;
use super::content::Content;
use super::parts::Table;
use crate::arena::{Arena, Block};
use std::collections::VecDeque;

/// Blocks and attributes that are freed with the operation that lets go of them. Most files have no more.
pub(super) const AT_ONCE: usize = 64;
/// Those that a turn frees of what waits.
pub(super) const TURN_MAX: usize = 128;
/// Those that one allocation frees at most before it fails.
pub(super) const ALLOC_MAX: usize = 4096;
/// Attributes that go for each inode that comes: more than one, so that those that are there and those that
/// wait never exceed the bound of all inodes together.
pub(super) const PER_INODE: usize = 2;
/// Blocks that are freed for one unit of work: a block of a page comes together with up to four others on its way back.
pub(super) const PER_UNIT: usize = 3;

/// What waits, oldest first.
#[derive(Debug, Default)]
pub(super) struct Waste {
    cuts: VecDeque<Cut>,
    attrs: VecDeque<Of>,
    /// Bytes of all blocks in it.
    bytes: u64,
}

impl Waste {
    /// Bytes of the blocks that wait.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cuts.is_empty() && self.attrs.is_empty()
    }

    /// Takes the blocks of a large file.
    pub(super) fn add_cut(&mut self, cut: Cut) {
        self.bytes += cut.bytes();
        if cut.bytes() > 0 {
            self.cuts.push_back(cut);
        }
    }

    /// Takes the attributes of a file.
    pub(super) fn add_attrs(&mut self, of: Of) {
        self.bytes += of.block_bytes();
        if of.len() > 0 {
            self.attrs.push_back(of);
        }
    }

    /// Frees at most `most` blocks and attributes; how many that were. Largest blocks come first, since they serve any allocation.
    pub(super) fn release(&mut self, arena: &mut Arena, table: &mut Table, most: usize) -> usize {
        let done = self.release_cuts(arena, table, most);
        done + self.release_attrs(arena, most.saturating_sub(done))
    }

    /// The same of the attributes alone.
    pub(super) fn release_attrs(&mut self, arena: &mut Arena, most: usize) -> usize {
        for done in 0..most {
            let Some(of) = self.attrs.front_mut() else { return done };
            let bytes = of.block_bytes();
            if let Some(mut value) = of.pop(arena) {
                self.bytes -= bytes - of.block_bytes();
                value.take_small().into_iter().for_each(|block| arena.free(block));
            }
            if of.len() == 0 {
                self.attrs.pop_front();
            }
        }
        most
    }

    /// A unit in parts goes whole, so it may be a few blocks more.
    fn release_cuts(&mut self, arena: &mut Arena, table: &mut Table, most: usize) -> usize {
        let mut done = 0;
        while done < most {
            let Some(cut) = self.cuts.front_mut() else { break };
            let before = cut.bytes();
            if let Some(unit) = cut.pop() {
                let (blocks, bytes) = table.free(arena, unit);
                cut.freed(bytes);
                done += blocks;
            }
            table.nodes -= cut.take_nodes_gone();
            self.bytes -= before - cut.bytes();
            if cut.bytes() == 0 {
                self.cuts.pop_front();
            }
        }
        done
    }
}

impl Content {
    /// The block of a small file; nothing of a large one.
    fn take_small(&mut self) -> Option<Block> {
        match std::mem::take(&mut self.blocks) {
            super::content::Blocks::Small { block, .. } => Some(block),
            _ => None,
        }
    }
}
