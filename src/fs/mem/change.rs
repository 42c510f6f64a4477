//! How bytes of a large file change: in place, in a new part of their unit, or in a new block for
//! the whole unit.
//!
//! A change needs at most one block for each unit. It needs one page more if operations show bytes
//! between the size and the start of the change. Besides the data it copies:
//! ```text
//! the bytes to change                              copied                                     new block
//! can all be changed in place                      nothing                                    none
//! are shown by operations, or are a hole           the rest of the first and the last page    a part
//! fill the last hole of a unit without a base      the other bytes of the unit                64 KiB
//! ```
//! A base is a block that was the whole unit when its first part came. The parts of a unit are
//! copied back to its base at the first change after the pins on those pages have been released.
//! So each byte is written once, and copied at most once more.

use super::blocks::Unit;
use super::content::{BLOCK, Blocks, Content, Former, indices, part};
use super::parts::{PAGE, PAGES, PartsId, bytes_of, pages};
use super::store::Store;
use crate::arena::{BLOCK_BYTES_MAX, Block, Full, Why};
use std::ops::Range;

/// Limit, in bytes, on the memory of a unit in parts. A change that would pass it gives the unit a block of 64 KiB.
const UNIT_BYTES_MAX: u64 = 2 * BLOCK;

/// The block that a change of a unit needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Need {
    /// A block of 64 KiB for the whole unit is wanted. If there is none, a part will do.
    whole: bool,
    /// The pages that need another block.
    pages: Range<usize>,
}

/// What a gap between the size and a change needs, if operations show bytes of it: the number of the
/// unit, and a new block for the page that the size is in (`None` if the size is at a page border).
pub(super) type Gap = Option<(u64, Option<Block>)>;

/// The bytes from the start of a range to the end of its page.
fn rest_of_page(range: &Range<usize>) -> Range<usize> {
    range.start..range.start.next_multiple_of(PAGE)
}

/// What a change of a unit will do, with the block for it. `None`: everything is changed where it is.
pub(super) type Plan = Option<(Need, Block)>;

impl Need {
    /// Whether a block for the whole unit is wanted.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// The need of a change whose bytes are all in a hole.
    fn of_hole(hole: &Range<usize>) -> Need {
        let pages = pages(hole);
        Need { whole: pages.len() > PAGES / 2, pages }
    }

    fn with_block(self, store: &mut Store) -> Result<(Need, Block), Full> {
        let bytes = self.pages.len() * PAGE;
        let block = match self.whole {
            true => match store.alloc(BLOCK_BYTES_MAX) {
                Err(_) if bytes <= BLOCK_BYTES_MAX / 2 => store.alloc(bytes)?,
                had => had?,
            },
            false => store.alloc(bytes)?,
        };
        Ok((self, block))
    }
}

impl Content {
    /// Copies `data` into a file that is large, or becomes so. Changes no byte below the size on `Full`.
    pub(super) fn write_large(&mut self, store: &mut Store, range: Range<u64>, data: &[u8]) -> Result<(), Full> {
        let index = range.start / BLOCK;
        let hole = part(&range, index);
        if range.start <= self.size
            && hole.len() == data.len()
            && let Some(Unit::Whole(block)) = self.unit(index)
            && store.arena.in_place(block, &hole)
        {
            store.arena.write(block, hole.start, data);
            self.size = self.size.max(range.end);
            return Ok(());
        }
        let (appends, former) = self.become_large(store, &range)?;
        let mut plans = std::mem::take(&mut store.plans);
        let gap = self.gap(store, range.start);
        let had = match &gap {
            Ok(gap) => self.prepare(store, &range, appends, gap, &mut plans),
            Err(full) => Err(*full),
        };
        let gap = gap.unwrap_or_default();
        if had.is_err() {
            gap.and_then(|(_, page)| page).into_iter().for_each(|page| store.arena.free(page));
        } else {
            self.close_gap(store, range.start, gap);
            let mut rest = data;
            for (index, plan) in indices(&range).zip(plans.drain(..)) {
                let hole = part(&range, index);
                let (now, later) = rest.split_at(hole.len());
                self.carry_out(store, index, &hole, plan);
                self.fill(store, index, hole.start, now);
                rest = later;
            }
            self.size = self.size.max(range.end);
        }
        plans.drain(..).flatten().for_each(|(_, block)| store.arena.free(block));
        store.plans = plans;
        match had {
            Ok(()) => Self::confirm(store, former),
            Err(_) => self.restore(store, former),
        }
        had
    }

    /// Takes the large form for a change of `range`. Also returns whether the change continues the file
    /// at its end, without a hole.
    pub(super) fn become_large(&mut self, store: &mut Store, range: &Range<u64>) -> Result<(bool, Former), Full> {
        let appends = range.start <= self.size && range.end > self.size;
        Ok((appends, self.make_large(store, appends && range.start < BLOCK)?))
    }

    /// Gets all blocks that a change of `range` needs.
    fn prepare(
        &self,
        store: &mut Store,
        range: &Range<u64>,
        appends: bool,
        gap: &Gap,
        plans: &mut Vec<Plan>,
    ) -> Result<(), Full> {
        if !self.has_node_room(store, range) {
            return Err(Full);
        }
        for index in indices(range) {
            let hole = part(range, index);
            // Closing the gap makes holes of the pages behind the size.
            let is_gap = gap.as_ref().is_some_and(|(behind, _)| *behind == index);
            let need = if is_gap { Some(Need::of_hole(&hole)) } else { self.need(store, index, &hole, appends) };
            plans.push(need.map(|need| need.with_block(store)).transpose()?);
        }
        Ok(())
    }

    /// Whether the nodes that a change of `range` needs stay within the limit.
    pub(super) fn has_node_room(&self, store: &mut Store, range: &Range<u64>) -> bool {
        match &self.blocks {
            Blocks::Large(units) => store.has_node_room(units.missing(indices(range))),
            _ => store.has_node_room(1),
        }
    }

    /// Gets the block that a change of `hole` in a unit needs.
    pub(super) fn plan(&self, store: &mut Store, index: u64, hole: &Range<usize>, appends: bool) -> Result<Plan, Full> {
        self.need(store, index, hole, appends).map(|need| need.with_block(store)).transpose()
    }

    /// The block that a change of `hole` in a unit needs; `None` if all bytes can be changed in place.
    pub(super) fn need(&self, store: &Store, index: u64, hole: &Range<usize>, appends: bool) -> Option<Need> {
        let touched = pages(hole);
        let of_whole = |block: &Block| {
            let is_fixed = !store.arena.in_place(block, hole);
            is_fixed.then(|| Need { whole: hole.len() == BLOCK_BYTES_MAX, pages: touched.clone() })
        };
        match self.unit(index) {
            None => {
                let continues = appends && hole.start == 0 && index * BLOCK >= self.size;
                let need = Need::of_hole(hole);
                Some(Need { whole: continues || need.whole, ..need })
            }
            Some(Unit::Whole(block)) => of_whole(block),
            Some(Unit::Parts(id)) => {
                let parts = store.table.get(*id);
                if let Some(base) = self.folds_into(store, index, hole) {
                    return of_whole(base);
                }
                let is_fixed = |page: &usize| {
                    let here = bytes_of(&(*page..page + 1));
                    let want = hole.start.max(here.start)..hole.end.min(here.end);
                    !matches!(parts.run(&want), (Some((block, range)), _) if store.arena.in_place(block, &range))
                };
                let first = touched.clone().find(is_fixed)?;
                let last = touched.rev().find(is_fixed)?;
                let pages = first..last + 1;
                let bytes = parts.bytes(&store.arena) + (pages.len() * PAGE).next_power_of_two() as u64;
                let is_full = parts.is_full_with(&pages) && parts.base(&store.arena, &pages).is_none();
                Some(Need { whole: is_full || bytes > UNIT_BYTES_MAX, pages })
            }
        }
    }

    /// Carries a plan out: afterwards every byte of `hole` has a block and can be changed. The bytes around
    /// the hole stay the same; those of the hole are undefined.
    pub(super) fn carry_out(&mut self, store: &mut Store, index: u64, hole: &Range<usize>, plan: Plan) {
        self.fold(store, index, hole);
        let Some((need, new)) = plan else { return };
        if need.whole && store.arena.capacity(&new) == BLOCK_BYTES_MAX {
            self.become_whole(store, index, hole, new);
        } else {
            self.attach(store, index, hole, need.pages, new);
        }
    }

    /// Makes `new` the block of the whole unit, and copies the bytes around `hole` to it.
    pub(super) fn become_whole(&mut self, store: &mut Store, index: u64, hole: &Range<usize>, new: Block) {
        assert_eq!(store.arena.capacity(&new), BLOCK_BYTES_MAX, "a block for a whole unit");
        let end = part(&(0..self.size), index).end;
        self.bring(store, index, 0..hole.start, &new, 0, Why::Merge);
        self.bring(store, index, hole.end..end.max(hole.end), &new, hole.end, Why::Merge);
        self.put(store, index, Unit::Whole(new));
    }

    /// Makes `new` the part of `pages`, and copies the bytes of these pages around `hole` to it. The bytes
    /// of the hole are those that the block has already.
    pub(super) fn attach(
        &mut self,
        store: &mut Store,
        index: u64,
        hole: &Range<usize>,
        pages: Range<usize>,
        new: Block,
    ) {
        let is_largest = store.arena.capacity(&new) == BLOCK_BYTES_MAX;
        let (first, bytes) = (if is_largest { 0 } else { pages.start }, bytes_of(&pages));
        let end = part(&(0..self.size), index).end;
        let front = bytes.start..hole.start.max(bytes.start);
        let back = hole.end..bytes.end.min(end).max(hole.end);
        for edge in [front, back] {
            let at = edge.start.saturating_sub(first * PAGE);
            self.bring(store, index, edge, &new, at, Why::Pinned);
        }
        let (id, old_bytes) = self.parts_of(store, index);
        let Blocks::Large(units) = &mut self.blocks else { unreachable!("units are those of a large file") };
        let Store { arena, table, .. } = store;
        let parts = table.get_mut(id);
        let freed = parts.attach(arena, pages, new, first);
        units.resized(index, parts.bytes(arena), old_bytes);
        store.freed(freed);
    }

    /// Turns a unit into parts, if it is not: a block becomes a part with the pages below the size, a hole
    /// becomes 16 holes. Returns the parts, and the bytes that the map counts for the unit.
    fn parts_of(&mut self, store: &mut Store, index: u64) -> (PartsId, u64) {
        let end = self.pages_of(index);
        let Blocks::Large(units) = &mut self.blocks else { unreachable!("units are those of a large file") };
        let Store { arena, table, .. } = store;
        let old_bytes = match units.get(index) {
            Some(&Unit::Parts(id)) => return (id, table.get(id).bytes(arena)),
            Some(Unit::Whole(_)) => BLOCK,
            None => 0,
        };
        let id = table.add();
        if let Some(Unit::Whole(base)) = units.insert(index, Unit::Parts(id), BLOCK, old_bytes, &mut table.nodes) {
            table.get_mut(id).attach(arena, 0..end, base, 0);
        }
        (id, BLOCK)
    }

    /// Copies a range of a unit to a block, where it starts at `at`; holes as zeros.
    fn bring(&self, store: &mut Store, index: u64, range: Range<usize>, to: &Block, at: usize, why: Why) {
        let Store { arena, table, .. } = store;
        if range.is_empty() {
            return;
        }
        let (mut from, mut at) = (range.start, at);
        while from < range.end {
            let (place, len) = self.run(arena, table, index, from..range.end);
            match place {
                Some((block, place)) => arena.copy(block, place, to, at, why),
                None => arena.zero(to, at..at + len),
            }
            (from, at) = (from + len, at + len);
        }
        store.moved(range.len());
    }

    /// Copies data into a unit where everything can be changed.
    pub(super) fn fill(&mut self, store: &mut Store, index: u64, at: usize, data: &[u8]) {
        let Store { arena, table, .. } = store;
        let mut rest = data;
        while !rest.is_empty() {
            let at = at + data.len() - rest.len();
            let (place, len) = self.run(arena, table, index, at..at + rest.len());
            let (block, place) = place.expect("every page that changes has a block");
            let (now, later) = rest.split_at(len);
            arena.write(block, place.start, now);
            rest = later;
        }
    }

    /// The same with bytes that are in a block already.
    pub(super) fn fill_from(&mut self, store: &mut Store, index: u64, at: usize, from: (&Block, Range<usize>)) {
        let Store { arena, table, .. } = store;
        let (from, bytes) = from;
        let mut done = 0;
        while done < bytes.len() {
            let (place, len) = self.run(arena, table, index, at + done..at + bytes.len());
            let (block, place) = place.expect("every page that changes has a block");
            let start = bytes.start + done;
            arena.copy(from, start..start + len, block, place.start, Why::Merge);
            done += len;
        }
        store.moved(bytes.len());
    }

    /// The base of a unit, if the other parts can be copied back to it: no operation shows the base's
    /// bytes of the pages that it does not own, up to the size and to the start of `hole`.
    fn folds_into<'a>(&self, store: &'a Store, index: u64, hole: &Range<usize>) -> Option<&'a Block> {
        let Some(Unit::Parts(id)) = self.unit(index) else { return None };
        let Store { arena, table, .. } = store;
        let parts = table.get(*id);
        let base = parts.base(arena, &(0..0))?;
        let mut elsewhere = (0..self.pages_in_front(index, hole)).filter(|page| !parts.is_owner(*page, base));
        elsewhere.all(|page| arena.in_place(base, &bytes_of(&(page..page + 1)))).then_some(base)
    }

    /// Pages of a unit that are below the size, in part at least.
    fn pages_of(&self, index: u64) -> usize {
        pages(&part(&(0..self.size), index)).end
    }

    /// Pages of a unit below the size, or below the start of `hole`, which is about to be below the size.
    fn pages_in_front(&self, index: u64, hole: &Range<usize>) -> usize {
        self.pages_of(index).max(hole.start.div_ceil(PAGE))
    }

    /// Copies the parts of a unit back to its base, if [`folds_into`](Self::folds_into) allows it. Does not
    /// copy pages that `hole` covers.
    pub(super) fn fold(&mut self, store: &mut Store, index: u64, hole: &Range<usize>) {
        let Some(&Unit::Parts(id)) = self.unit(index) else { return };
        if self.folds_into(store, index, hole).is_none() {
            return;
        }
        let end = self.pages_in_front(index, hole);
        let Store { arena, table, .. } = store;
        let parts = table.get(id);
        let Some(base) = parts.base(arena, &(0..0)) else { return };
        let mut moved = 0;
        for page in 0..end {
            let bytes = bytes_of(&(page..page + 1));
            let is_covered = hole.start <= bytes.start && bytes.end <= hole.end;
            if parts.is_owner(page, base) || is_covered {
                continue;
            }
            moved += PAGE;
            match parts.run(&bytes).0 {
                Some((block, place)) => arena.copy(block, place, base, bytes.start, Why::Merge),
                None => arena.zero(base, bytes),
            }
        }
        let old_bytes = parts.bytes(arena);
        let (base, freed) = table.free_but_base(arena, id);
        let Blocks::Large(units) = &mut self.blocks else { unreachable!("units are those of a large file") };
        units.insert(index, Unit::Whole(base), BLOCK, old_bytes, &mut table.nodes);
        store.moved(moved);
        store.freed(freed);
    }

    /// Turns pages of a unit in parts into holes. Returns true, and changes nothing, if no other page would be left.
    pub(super) fn detach(&mut self, store: &mut Store, index: u64, pages: Range<usize>) -> bool {
        let Blocks::Large(units) = &mut self.blocks else { return false };
        let Some(&Unit::Parts(id)) = units.get(index) else { return false };
        let Store { arena, table, .. } = store;
        let parts = table.get_mut(id);
        let old_bytes = parts.bytes(arena);
        if (0..PAGES).all(|page| pages.contains(&page) || !parts.has(page)) {
            return true;
        }
        let freed = parts.detach(arena, pages);
        units.resized(index, parts.bytes(arena), old_bytes);
        store.freed(freed);
        false
    }

    /// Gets the block that zeroing from the size of a large file to `start` needs. The file stays the same.
    pub(super) fn gap(&self, store: &mut Store, start: u64) -> Result<Gap, Full> {
        if start <= self.size {
            return Ok(None);
        }
        let index = self.size / BLOCK;
        let tail = part(&(self.size..start), index);
        let in_page = rest_of_page(&tail);
        let is_fixed = match self.unit(index) {
            Some(Unit::Whole(block)) => !store.arena.in_place(block, &tail),
            Some(Unit::Parts(id)) if !in_page.is_empty() => match store.table.get(*id).run(&in_page) {
                (Some((block, place)), _) => !store.arena.in_place(block, &place),
                (None, _) => false,
            },
            _ => false,
        };
        if !is_fixed {
            return Ok(None);
        }
        let page = if in_page.is_empty() { None } else { Some(store.alloc(PAGE)?) };
        Ok(Some((index, page)))
    }

    /// Zeroes from the size of a large file up to `start`, where that lies in a block.
    pub(super) fn close_gap(&mut self, store: &mut Store, start: u64, gap: Gap) {
        if start <= self.size {
            return;
        }
        let index = self.size / BLOCK;
        let tail = part(&(self.size..start), index);
        let in_page = rest_of_page(&tail);
        let Some((_, page)) = gap else {
            let Store { arena, table, .. } = store;
            match self.unit(index) {
                Some(Unit::Whole(block)) => arena.zero(block, tail),
                Some(Unit::Parts(id)) if !in_page.is_empty() => {
                    if let (Some((block, place)), _) = table.get(*id).run(&in_page) {
                        arena.zero(block, place);
                    }
                }
                _ => {}
            }
            return;
        };
        // An operation shows bytes behind the size. The page of the size gets another block, and the pages behind it become holes.
        let Some(new) = page else {
            self.parts_of(store, index);
            return;
        };
        let at = if store.arena.capacity(&new) == BLOCK_BYTES_MAX { in_page.start } else { in_page.start % PAGE };
        store.arena.zero(&new, at..at + in_page.len());
        let page = in_page.start / PAGE;
        self.attach(store, index, &in_page, page..page + 1, new);
    }
}
