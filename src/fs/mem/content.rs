//! The bytes of one file: blocks of the arena, and holes.
//!
//! ```text
//! size <= 64 KiB   one block of a power of two               Small
//! larger           64 KiB blocks by number, holes absent     Large    (stays so until the size is 0)
//! ```
//! Below the size every byte of a block is valid; what lies beyond the block of a Small is a hole. Beyond the size only the last block has bytes, and those are
//! anything: growth zeroes from the old size to the new data. Where an operation shows bytes that are to change, the block is copied first; all memory is had
//! before the first byte changes.

use super::blocks::Map;
use super::store::Store;
use crate::arena::{Arena, BLOCK_BYTES_MAX, Block, Full, Why};
use crate::fs::Out;
use std::ops::Range;

/// Bytes of a block of a large file.
pub(super) const BLOCK: u64 = BLOCK_BYTES_MAX as u64;

/// The content of a regular file.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) size: u64,
    pub(super) blocks: Blocks,
}

#[derive(Debug, Default)]
pub(super) enum Blocks {
    #[default]
    None,
    /// `grown`: it has outgrown a block once; the next growth goes straight to the largest.
    Small { block: Block, grown: bool },
    /// Boxed, so that nodes of small files do not pay for it.
    Large(Box<Map>),
}

/// The part of block number `index` that a range of the file covers.
pub(super) fn part(range: &Range<u64>, index: u64) -> Range<usize> {
    let start = index * BLOCK;
    let lo = range.start.saturating_sub(start).min(BLOCK);
    let hi = range.end.saturating_sub(start).min(BLOCK);
    lo as usize..hi as usize
}

/// The numbers of the blocks that a range of the file touches.
pub(super) fn indices(range: &Range<u64>) -> Range<u64> {
    if range.is_empty() { 0..0 } else { range.start / BLOCK..range.end.div_ceil(BLOCK) }
}

impl Content {
    /// Bytes of memory in blocks.
    pub(super) fn allocated(&self, arena: &Arena) -> u64 {
        match &self.blocks {
            Blocks::None => 0,
            Blocks::Small { block, .. } => arena.capacity(block) as u64,
            Blocks::Large(blocks) => blocks.len() * BLOCK,
        }
    }

    pub(super) fn block(&self, index: u64) -> Option<&Block> {
        match &self.blocks {
            Blocks::Small { block, .. } if index == 0 => Some(block),
            Blocks::Large(blocks) => blocks.get(index),
            _ => None,
        }
    }

    /// Bytes of block `index` that are below the size.
    pub(super) fn valid(&self, store: &Store, index: u64) -> usize {
        let capacity = self.block(index).map_or(0, |block| store.arena.capacity(block));
        part(&(0..self.size), index).end.min(capacity)
    }

    /// Appends pinned views from `offset` on, holes as zeros.
    pub(super) fn read(&self, store: &mut Store, offset: u64, out: &mut Out<'_>) {
        let end = self.size.min(offset.saturating_add(out.room().into()));
        let mut at = offset;
        while at < end {
            let index = at / BLOCK;
            let want = part(&(at..end), index);
            let slice = match self.block(index) {
                Some(block) if want.start < store.arena.capacity(block) => {
                    let end = want.end.min(store.arena.capacity(block));
                    store.arena.slice(block, want.start..end)
                }
                _ => store.zeros.slice(want.len()),
            };
            at += slice.len() as u64;
            out.slice(slice);
        }
    }

    /// Copies `data` in; the size grows if it ends beyond. Changes nothing on `Full`.
    pub(super) fn write(&mut self, store: &mut Store, offset: u64, data: &[u8]) -> Result<(), Full> {
        if data.is_empty() {
            return Ok(());
        }
        let range = offset..offset + data.len() as u64;
        if range.end > BLOCK || matches!(self.blocks, Blocks::Large(_)) {
            return self.write_large(store, range, data);
        }
        // What lies between the size and the data is zeroed in the same block.
        let (lo, hi) = (range.start as usize, range.end as usize);
        let old = self.size.min(BLOCK) as usize;
        let from = lo.min(old);
        let fits = self.block(0).is_some_and(|block| {
            store.arena.capacity(block) >= hi && store.arena.in_place(block, from.min(store.arena.capacity(block)))
        });
        if !fits {
            self.renew_small(store, lo..hi)?;
        } else if let Blocks::Small { block, .. } = &self.blocks
            && lo > old
        {
            store.arena.zero(block, old..lo);
        }
        let Blocks::Small { block, .. } = &self.blocks else { unreachable!("a small file has its block now") };
        store.arena.write(block, lo, data);
        self.size = self.size.max(range.end);
        Ok(())
    }

    /// A new block in place of the small one: large enough, all bytes outside of `hole` as they were or zero.
    fn renew_small(&mut self, store: &mut Store, hole: Range<usize>) -> Result<(), Full> {
        let valid = self.valid(store, 0);
        let (capacity, grown) = match &self.blocks {
            Blocks::Small { block, grown } => (store.arena.capacity(block), *grown),
            _ => (0, false),
        };
        let grows = capacity > 0 && hole.end > capacity;
        // Growing twice goes straight to the largest, so the copies of a file's life stay below its size.
        let least = hole.end.max(capacity);
        let want = if grows && grown { BLOCK_BYTES_MAX } else { least };
        let new = store.alloc(want).or_else(|_| store.alloc(least))?;
        let why = if grows { Why::Growth } else { Why::Rewrite };
        let size = (self.size.min(BLOCK) as usize).max(hole.end);
        let old = match std::mem::take(&mut self.blocks) {
            Blocks::Small { block, .. } => Some(block),
            _ => None,
        };
        store.complete(&new, old.as_ref(), valid, hole, size, why);
        if let Some(old) = old {
            store.arena.free(old);
        }
        self.blocks = Blocks::Small { block: new, grown: grown || grows };
        Ok(())
    }

    /// The form of a file above 64 KiB. The content stays the same.
    pub(super) fn make_large(&mut self, store: &mut Store) -> Result<(), Full> {
        let first = self.first_of_large(store)?;
        self.take_large_form(store, first);
        Ok(())
    }

    /// The first block of the large form, with its bytes, where the file has a smaller one. The file stays as it is.
    pub(super) fn first_of_large(&self, store: &mut Store) -> Result<Option<Block>, Full> {
        let Blocks::Small { block, .. } = &self.blocks else { return Ok(None) };
        if store.arena.capacity(block) == BLOCK_BYTES_MAX {
            return Ok(None);
        }
        let new = store.alloc(BLOCK_BYTES_MAX)?;
        let (valid, size) = (self.valid(store, 0), self.size.min(BLOCK) as usize);
        store.complete(&new, Some(block), valid, 0..0, size, Why::Growth);
        Ok(Some(new))
    }

    /// Takes the large form with what [`first_of_large`](Self::first_of_large) gave.
    pub(super) fn take_large_form(&mut self, store: &mut Store, first: Option<Block>) {
        let old = match std::mem::take(&mut self.blocks) {
            Blocks::Large(blocks) => {
                self.blocks = Blocks::Large(blocks);
                return;
            }
            Blocks::Small { block, .. } => Some(block),
            Blocks::None => None,
        };
        let mut blocks = Box::<Map>::default();
        match (first, old) {
            (Some(first), old) => {
                blocks.insert(0, first);
                old.into_iter().for_each(|block| store.arena.free(block));
            }
            (None, Some(block)) => drop(blocks.insert(0, block)),
            (None, None) => {}
        }
        self.blocks = Blocks::Large(blocks);
    }

    fn write_large(&mut self, store: &mut Store, range: Range<u64>, data: &[u8]) -> Result<(), Full> {
        let first = self.first_of_large(store)?;
        let mut spare = std::mem::take(&mut store.scratch);
        let prepared = self.prepare(store, &range, first.as_ref(), &mut spare);
        if prepared.is_err() {
            spare.extend(first);
        } else {
            self.take_large_form(store, first);
            self.zero_gap(store, range.start, &mut spare);
            let mut done = 0;
            for index in indices(&range) {
                let hole = part(&range, index);
                self.renew_large(store, index, hole.start, hole.clone(), &mut spare);
                let block = self.block(index).expect("every touched block is there now");
                store.arena.write(block, hole.start, &data[done..done + hole.len()]);
                done += hole.len();
            }
            self.size = self.size.max(range.end);
        }
        spare.drain(..).for_each(|block| store.arena.free(block));
        store.scratch = spare;
        prepared
    }

    /// Gets all blocks that a change of `range` needs in the large form: for holes, and in place of blocks that operations show. `first`: the first block, if the file is to take it.
    fn prepare(
        &self,
        store: &mut Store,
        range: &Range<u64>,
        first: Option<&Block>,
        spare: &mut Vec<Block>,
    ) -> Result<(), Full> {
        let block = |index| first.filter(|_| index == 0).or_else(|| self.block(index));
        if let Some((index, tail)) = self.gap(range.start)
            && !store.arena.in_place(block(index).expect("a gap lies in a block"), tail.start)
        {
            spare.push(store.alloc(BLOCK_BYTES_MAX)?);
        }
        for index in indices(range) {
            let from = part(range, index).start;
            let kept = block(index).is_some_and(|block| store.arena.in_place(block, from));
            if !kept {
                spare.push(store.alloc(BLOCK_BYTES_MAX)?);
            }
        }
        Ok(())
    }

    /// The bytes beyond the size, in the last block, that growth to data at `start` has to zero.
    pub(super) fn gap(&self, start: u64) -> Option<(u64, Range<usize>)> {
        if start <= self.size {
            return None;
        }
        let index = self.size / BLOCK;
        let tail = part(&(self.size..start), index);
        (!tail.is_empty() && self.block(index).is_some()).then_some((index, tail))
    }

    /// Zeroes the gap in front of data at `start`; the block comes from `spare` if it has to be copied.
    fn zero_gap(&mut self, store: &mut Store, start: u64, spare: &mut Vec<Block>) {
        if let Some((index, tail)) = self.gap(start) {
            self.renew_large(store, index, tail.start, 0..0, spare);
            let block = self.block(index).expect("the gap lies in a block");
            let end = tail.end.min(store.arena.capacity(block));
            if tail.start < end {
                store.arena.zero(block, tail.start..end);
            }
        }
    }

    /// Makes the bytes of a block from `from` on changeable, with the next spare block if need be; `hole` will be overwritten.
    fn renew_large(&mut self, store: &mut Store, index: u64, from: usize, hole: Range<usize>, spare: &mut Vec<Block>) {
        let valid = self.valid(store, index);
        if self.block(index).is_some_and(|block| store.arena.in_place(block, from)) {
            return;
        }
        let new = spare.pop().expect("every block that is needed was had before");
        let size = part(&(0..self.size), index).end.max(hole.end);
        store.complete(&new, self.block(index), valid, hole, size, Why::Rewrite);
        if let Some(old) = self.put(index, new) {
            store.arena.free(old);
        }
    }

    /// Puts a block in its place; the one that was there.
    pub(super) fn put(&mut self, index: u64, block: Block) -> Option<Block> {
        match &mut self.blocks {
            Blocks::Large(blocks) => blocks.insert(index, block),
            _ => match std::mem::replace(&mut self.blocks, Blocks::Small { block, grown: true }) {
                Blocks::Small { block, .. } => Some(block),
                _ => None,
            },
        }
    }

    /// Sets the size: frees what lies beyond, zeroes what comes to light.
    pub(super) fn set_size(&mut self, store: &mut Store, size: u64) -> Result<(), Full> {
        if size > self.size {
            self.grow_to(store, size)?;
        } else if size == 0 {
            self.clear(store);
        } else if let Blocks::Large(blocks) = &mut self.blocks {
            let cut = blocks.cut(size.div_ceil(BLOCK));
            store.discard(cut);
        }
        self.size = size;
        Ok(())
    }

    /// Zeroes from the size up to `start`, where that lies in a block.
    pub(super) fn grow_to(&mut self, store: &mut Store, start: u64) -> Result<(), Full> {
        let Some((index, tail)) = self.gap(start) else { return Ok(()) };
        let block = self.block(index).expect("the gap lies in a block");
        let capacity = store.arena.capacity(block);
        if tail.start >= capacity {
            return Ok(());
        }
        let mut spare = std::mem::take(&mut store.scratch);
        if !store.arena.in_place(block, tail.start) {
            match store.alloc(capacity) {
                Ok(block) => spare.push(block),
                Err(full) => {
                    store.scratch = spare;
                    return Err(full);
                }
            }
        }
        self.zero_gap(store, start, &mut spare);
        store.scratch = spare;
        Ok(())
    }

    /// Gives every block up.
    pub(super) fn clear(&mut self, store: &mut Store) {
        match std::mem::take(&mut self.blocks) {
            Blocks::None => {}
            Blocks::Small { block, .. } => store.arena.free(block),
            Blocks::Large(mut blocks) => store.discard(blocks.cut(0)),
        }
        self.size = 0;
    }
}
