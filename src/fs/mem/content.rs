//! The bytes of one file: blocks of the arena, and holes.
//!
//! ```text
//! size <= 64 KiB   one block of a power of two               Small
//! larger           units of 64 KiB by number, holes absent   Large    (stays so until the size is 0)
//! ```
//! Below the size every byte of a block is valid; what lies beyond the block of a Small is a hole. Beyond the size only the last block has bytes, and those are
//! anything: growth zeroes from the old size to the new data. Where an operation shows bytes that are to change, others take their place (`change`); all memory
//! is had before the first byte changes.

use super::blocks::{Map, Unit};
use super::parts::{PAGE, PAGES, Table, pages};
use super::store::Store;
use crate::arena::{Arena, BLOCK_BYTES_MAX, Block, Full, Why};
use crate::fs::Out;
use std::ops::Range;

/// Bytes of a unit of a large file.
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

/// The part of unit number `index` that a range of the file covers.
pub(super) fn part(range: &Range<u64>, index: u64) -> Range<usize> {
    let start = index * BLOCK;
    let lo = range.start.saturating_sub(start).min(BLOCK);
    let hi = range.end.saturating_sub(start).min(BLOCK);
    lo as usize..hi as usize
}

/// The numbers of the units that a range of the file touches.
pub(super) fn indices(range: &Range<u64>) -> Range<u64> {
    if range.is_empty() { 0..0 } else { range.start / BLOCK..range.end.div_ceil(BLOCK) }
}

/// Limit, in bytes, on what a change copies around bytes that operations show: two pages. Beyond it
/// only the pages of the change get another block.
pub(super) const EDGES_BYTES_MAX: usize = 2 * PAGE;

/// The number of bytes of a range that are below `end`.
pub(super) fn part_of(range: &Range<usize>, end: usize) -> usize {
    range.end.min(end).saturating_sub(range.start)
}

/// The form of a file before it became large.
#[derive(Debug)]
#[must_use = "its block is lost to the arena"]
pub(super) enum Former {
    /// It was large.
    Same,
    /// It had no bytes.
    Empty,
    /// Small; its block is the first part of the first unit, or all of that.
    Taken { grown: bool },
    /// Small; its bytes were copied.
    Copied { block: Block, grown: bool },
}

impl Content {
    /// Bytes of memory in blocks.
    pub(super) fn allocated(&self, arena: &Arena) -> u64 {
        match &self.blocks {
            Blocks::None => 0,
            Blocks::Small { block, .. } => arena.capacity(block) as u64,
            Blocks::Large(units) => units.bytes(),
        }
    }

    /// The block of a small file.
    #[inline]
    pub(super) fn small(&self) -> Option<&Block> {
        if let Blocks::Small { block, .. } = &self.blocks { Some(block) } else { None }
    }

    /// A unit of a large file.
    #[inline]
    pub(super) fn unit(&self, index: u64) -> Option<&Unit> {
        if let Blocks::Large(units) = &self.blocks { units.get(index) } else { None }
    }

    /// The block of unit `index`, if all of the unit is in one block.
    #[inline]
    pub(super) fn block(&self, index: u64) -> Option<&Block> {
        match &self.blocks {
            Blocks::Small { block, .. } if index == 0 => Some(block),
            Blocks::Large(units) => match units.get(index) {
                Some(Unit::Whole(block)) => Some(block),
                _ => None,
            },
            _ => None,
        }
    }

    /// Bytes of unit `index` that are below the size, and of a small file those that its block can hold.
    pub(super) fn valid(&self, store: &Store, index: u64) -> usize {
        let capacity = match &self.blocks {
            Blocks::None => 0,
            Blocks::Small { block, .. } => store.arena.capacity(block),
            Blocks::Large(_) => BLOCK_BYTES_MAX,
        };
        part(&(0..self.size), index).end.min(capacity)
    }

    /// The longest run of bytes from the start of `want` in unit `index` that lie in one block, or in a
    /// hole. Returns the block with the range inside of it (`None` for a hole), and the length.
    pub(super) fn run<'a>(
        &'a self,
        arena: &Arena,
        table: &'a Table,
        index: u64,
        want: Range<usize>,
    ) -> (Option<(&'a Block, Range<usize>)>, usize) {
        let len = want.len();
        match &self.blocks {
            Blocks::Small { block, .. } if index == 0 && want.start < arena.capacity(block) => {
                let end = want.end.min(arena.capacity(block));
                (Some((block, want.start..end)), end - want.start)
            }
            Blocks::Large(units) => match units.get(index) {
                Some(Unit::Whole(block)) => (Some((block, want)), len),
                Some(Unit::Parts(id)) => table.get(*id).run(&want),
                None => (None, len),
            },
            _ => (None, len),
        }
    }

    /// The first bytes from `from` on that lie in a block, below the size. They are in one unit.
    pub(super) fn next_run(&self, arena: &Arena, table: &Table, from: u64) -> Option<Range<u64>> {
        let mut from = from;
        while from < self.size {
            let index = match &self.blocks {
                Blocks::None => return None,
                Blocks::Small { .. } => 0,
                Blocks::Large(units) => units.next(from / BLOCK)?,
            };
            from = from.max(index * BLOCK);
            let want = part(&(from..self.size), index);
            if want.is_empty() {
                return None;
            }
            let (place, len) = self.run(arena, table, index, want);
            if place.is_some() {
                return Some(from..from + len as u64);
            }
            from += len as u64;
        }
        None
    }

    /// Appends pinned views from `offset` on, holes as zeros.
    #[inline]
    pub(super) fn read(&self, store: &mut Store, offset: u64, out: &mut Out<'_>) {
        let end = self.size.min(offset.saturating_add(out.room().into()));
        let Store { arena, table, zeros, .. } = store;
        let mut at = offset;
        while at < end {
            let (index, start) = (at / BLOCK, at % BLOCK);
            let want = start as usize..(end - at + start).min(BLOCK) as usize;
            let (place, len) = match self.block(index) {
                // Most files have nothing else.
                Some(block) if want.end <= arena.capacity(block) => (Some((block, want)), 0),
                _ => self.run(arena, table, index, want),
            };
            let slice = match place {
                Some((block, range)) => arena.slice(block, range),
                None => zeros.slice(len),
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
        if let Blocks::Large(units) = &self.blocks
            && self.size == 0
            && units.bytes() == 0
        {
            // An abandoned grant has left an empty file in the large form.
            self.blocks = Blocks::None;
        }
        if range.end > BLOCK || matches!(self.blocks, Blocks::Large(_)) {
            return self.write_large(store, range, data);
        }
        // What lies between the size and the data is zeroed in the same block.
        let (lo, hi) = (range.start as usize, range.end as usize);
        let old = self.size.min(BLOCK) as usize;
        let from = lo.min(old);
        let is_large_enough = self.small().is_some_and(|block| store.arena.capacity(block) >= hi);
        let fits = is_large_enough
            && self
                .small()
                .is_some_and(|block| store.arena.in_place(block, &(from.min(store.arena.capacity(block))..hi)));
        if !fits {
            if is_large_enough && self.takes_parts(store, &(lo..hi)) {
                return self.write_large(store, range, data);
            }
            self.renew_small(store, lo..hi)?;
        } else if let Some(block) = self.small()
            && lo > old
        {
            store.arena.zero(block, old..lo);
        }
        let block = self.small().expect("a small file has its block now");
        store.arena.write(block, lo, data);
        self.size = self.size.max(range.end);
        Ok(())
    }

    /// Whether a new block for a small file would copy more than [`EDGES_BYTES_MAX`] around `hole`.
    fn takes_parts(&self, store: &Store, hole: &Range<usize>) -> bool {
        let valid = self.valid(store, 0);
        valid - part_of(hole, valid) > EDGES_BYTES_MAX && store.table.has_room(1)
    }

    /// A new block in place of the small one: large enough, all bytes outside of `hole` as they were or zero.
    pub(super) fn renew_small(&mut self, store: &mut Store, hole: Range<usize>) -> Result<(), Full> {
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
        let why = if grows { Why::Growth } else { Why::Pinned };
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

    /// Takes the large form; the content stays the same. With `appends`, the first unit gets a block of
    /// 64 KiB, because the caller is about to fill it. Pass the result to [`confirm`](Self::confirm) or
    /// [`restore`](Self::restore).
    pub(super) fn make_large(&mut self, store: &mut Store, appends: bool) -> Result<Former, Full> {
        let Some(block) = self.small() else {
            let is_empty = matches!(self.blocks, Blocks::None);
            if is_empty {
                self.blocks = Blocks::Large(Box::default());
            }
            return Ok(if is_empty { Former::Empty } else { Former::Same });
        };
        // A commit has a reserve. It may pass the limit on nodes, because its grant was accepted.
        if store.reserve.is_empty() && !store.has_node_room(1) {
            return Err(Full);
        }
        let (capacity, valid) = (store.arena.capacity(block), self.valid(store, 0));
        // A block that is larger is taken as it is.
        let least = if capacity >= PAGE { None } else { Some(PAGE) };
        let whole = if appends && capacity < BLOCK_BYTES_MAX { store.alloc_spare(BLOCK_BYTES_MAX).ok() } else { None };
        let new = match (whole, least) {
            (Some(new), _) => Some(new),
            (None, Some(bytes)) => Some(store.alloc(bytes)?),
            (None, None) => None,
        };
        let Blocks::Small { block: old, grown } = std::mem::take(&mut self.blocks) else { unreachable!("just seen") };
        let (block, former) = match new {
            Some(new) => {
                let size = (self.size.min(BLOCK) as usize).min(store.arena.capacity(&new));
                store.complete(&new, Some(&old), valid, 0..0, size, Why::Growth);
                (new, Former::Copied { block: old, grown })
            }
            None => (old, Former::Taken { grown }),
        };
        self.blocks = Blocks::Large(Box::default());
        let held = store.arena.capacity(&block);
        if held == BLOCK_BYTES_MAX {
            self.put(store, 0, Unit::Whole(block));
            return Ok(former);
        }
        // A file with a block has bytes in it.
        let whole_pages = pages(&(0..valid.max(1)));
        // The last page is valid up to its end: what the block has no room for is a hole.
        let id = store.table.add();
        store.table.get_mut(id).attach(&mut store.arena, whole_pages, block, 0);
        self.put(store, 0, Unit::Parts(id));
        Ok(former)
    }

    /// The large form stays.
    pub(super) fn confirm(store: &mut Store, former: Former) {
        if let Former::Copied { block, .. } = former {
            store.arena.free(block);
        }
    }

    /// Goes back to the form that the file had before [`make_large`](Self::make_large), with the same
    /// memory. The caller has changed no byte below the size in between.
    pub(super) fn restore(&mut self, store: &mut Store, former: Former) {
        let (kept, grown) = match former {
            Former::Same => return,
            Former::Empty => return self.blocks = Blocks::None,
            Former::Copied { block, grown } => (Some(block), grown),
            Former::Taken { grown } => (None, grown),
        };
        let Blocks::Large(mut units) = std::mem::take(&mut self.blocks) else { unreachable!("it has become large") };
        let Store { arena, table, .. } = store;
        let mut cut = units.cut(0, &|unit| table.bytes(arena, unit));
        let unit = cut.pop().expect("a small file has one unit");
        table.nodes -= cut.take_nodes_gone();
        let block = match (kept, unit) {
            (Some(block), unit) => {
                table.free(arena, unit);
                block
            }
            (None, Unit::Whole(block)) => block,
            (None, Unit::Parts(id)) => table.free_but_first(arena, id),
        };
        self.blocks = Blocks::Small { block, grown };
    }

    /// Puts a unit in its place; the one that was there is freed.
    pub(super) fn put(&mut self, store: &mut Store, index: u64, unit: Unit) {
        let Store { arena, table, .. } = store;
        let Blocks::Large(units) = &mut self.blocks else { unreachable!("units are those of a large file") };
        let bytes = table.bytes(arena, &unit);
        let old_bytes = units.get(index).map_or(0, |old| table.bytes(arena, old));
        if let Some(old) = units.insert(index, unit, bytes, old_bytes, &mut table.nodes) {
            let (freed, _) = table.free(arena, old);
            store.freed(freed);
        }
    }

    /// Sets the size: frees what lies beyond, zeroes what comes to light.
    pub(super) fn set_size(&mut self, store: &mut Store, size: u64) -> Result<(), Full> {
        if size > self.size {
            self.grow_to(store, size)?;
        } else if size == 0 {
            self.clear(store);
        } else if matches!(self.blocks, Blocks::Large(_)) {
            let last = size / BLOCK;
            let is_empty = self.detach(store, last, pages(&(0..(size % BLOCK) as usize)).end..PAGES);
            self.cut(store, if is_empty { last } else { size.div_ceil(BLOCK) });
        }
        self.size = size;
        Ok(())
    }

    /// Frees every unit from number `from` on.
    fn cut(&mut self, store: &mut Store, from: u64) {
        let Blocks::Large(units) = &mut self.blocks else { return };
        let cut = units.cut(from, &|unit| store.table.bytes(&store.arena, unit));
        store.discard(cut);
    }

    /// Zeroes from the size up to `start`, where that lies in a block.
    pub(super) fn grow_to(&mut self, store: &mut Store, start: u64) -> Result<(), Full> {
        if start <= self.size {
            return Ok(());
        }
        if let Some(block) = self.small() {
            let capacity = store.arena.capacity(block);
            let size = self.size.min(BLOCK) as usize;
            let tail = size..part(&(0..start), 0).end.min(capacity);
            if tail.is_empty() {
                return Ok(());
            }
            if store.arena.in_place(block, &tail) {
                store.arena.zero(block, tail);
                return Ok(());
            }
            if !self.takes_parts(store, &(0..0)) {
                self.renew_small(store, 0..0)?;
                let block = self.small().expect("it has one still");
                store.arena.zero(block, tail);
                return Ok(());
            }
            let former = self.make_large(store, false)?;
            let grown = self.grow_large(store, start);
            match grown {
                Ok(()) => Self::confirm(store, former),
                Err(_) => self.restore(store, former),
            }
            return grown;
        }
        self.grow_large(store, start)
    }

    fn grow_large(&mut self, store: &mut Store, start: u64) -> Result<(), Full> {
        let gap = self.gap(store, start)?;
        self.close_gap(store, start, gap);
        Ok(())
    }

    /// Gives every block up.
    pub(super) fn clear(&mut self, store: &mut Store) {
        match std::mem::take(&mut self.blocks) {
            Blocks::None => {}
            Blocks::Small { block, .. } => store.arena.free(block),
            Blocks::Large(units) => {
                self.blocks = Blocks::Large(units);
                self.cut(store, 0);
                self.blocks = Blocks::None;
            }
        }
        self.size = 0;
    }
}

#[cfg(test)]
impl Content {
    /// Panics unless the forms are as the heads of `content`, `blocks` and `parts` say. Memory in bytes.
    pub(super) fn check(&self, store: &Store) -> u64 {
        let Blocks::Large(units) = &self.blocks else { return self.allocated(&store.arena) };
        let count = self.size.div_ceil(BLOCK).max(1 << 12);
        let mut bytes = 0;
        for index in 0..count {
            let Some(unit) = units.get(index) else { continue };
            assert!(index * BLOCK < self.size, "unit {index} is beyond the size");
            bytes += store.table.bytes(&store.arena, unit);
            assert!(
                !matches!(unit, Unit::Whole(block) if store.arena.capacity(block) < BLOCK_BYTES_MAX),
                "unit {index}"
            );
            if let Unit::Parts(id) = unit {
                let end = pages(&part(&(0..self.size), index)).end;
                store.table.get(*id).check(&store.arena, end);
            }
        }
        assert_eq!(units.bytes(), bytes);
        bytes
    }
}
