//! How bytes of a large file change: where they are, or in a new part of their unit, or in a new
//! block for all of it.
//!
//! A change of a unit needs one block at most, and a page where operations show a gap in front of
//! it. What it copies besides the data:
//! ```text
//! all bytes can be changed where they are          nothing
//! operations show some, or some are in no block    the rest of the first and the last page    a part
//! the unit is full with it, and has no base        what the change leaves of the unit         a whole block
//! ```
//! The last happens once until a part of the unit is cut off or shown again. A unit with a base (a
//! block that was the whole unit) takes its parts back into the base once no operation shows the
//! bytes there. So each byte is written once, and copied once more at most.

use super::blocks::Unit;
use super::content::{BLOCK, Blocks, Content, Former, indices, part};
use super::parts::{PAGE, PAGES, PartsId, bytes_of, pages};
use super::store::Store;
use crate::arena::{BLOCK_BYTES_MAX, Block, Full, Why};
use std::ops::Range;

/// Most memory of a unit in parts, in bytes.
const UNIT_BYTES_MAX: u64 = 2 * BLOCK;

/// Which block a change of a unit needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Need {
    /// One for the whole unit, if there is one.
    whole: bool,
    /// The pages that need another place.
    pages: Range<usize>,
}

/// The unit that the size is in, if an operation shows bytes behind the size there, and the place of the page that the size is in.
pub(super) type Gap = Option<(u64, Option<Block>)>;

/// The bytes from the start of a range to the end of its page.
fn rest_of_page(range: &Range<usize>) -> Range<usize> {
    range.start..range.start.next_multiple_of(PAGE)
}

/// What a change of a unit will do, with the block for it. `None`: everything is changed where it is.
pub(super) type Plan = Option<(Need, Block)>;

impl Need {
    /// Whether the unit is better in one block.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// That of a change of bytes that are in no block.
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

    /// The large form, for a change of `range`. Whether that makes the file longer without a hole.
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
            // Behind a gap that operations show there will be holes.
            let is_gap = gap.as_ref().is_some_and(|(behind, _)| *behind == index);
            let need = if is_gap { Some(Need::of_hole(&hole)) } else { self.need(store, index, &hole, appends) };
            plans.push(need.map(|need| need.with_block(store)).transpose()?);
        }
        Ok(())
    }

    /// Whether there may be the nodes that a range of the file needs.
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

    /// Which block a change of `hole` in a unit needs; `None` if all of it is changed where it is.
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

    /// Makes `hole` in a unit changeable, as planned. What is around it stays as it is; the bytes of the hole are any.
    pub(super) fn carry_out(&mut self, store: &mut Store, index: u64, hole: &Range<usize>, plan: Plan) {
        self.fold(store, index, hole);
        let Some((need, new)) = plan else { return };
        if need.whole && store.arena.capacity(&new) == BLOCK_BYTES_MAX {
            self.become_whole(store, index, hole, new);
        } else {
            self.attach(store, index, hole, need.pages, new);
        }
    }

    /// A block becomes the whole unit. What is around `hole` comes along.
    pub(super) fn become_whole(&mut self, store: &mut Store, index: u64, hole: &Range<usize>, new: Block) {
        assert_eq!(store.arena.capacity(&new), BLOCK_BYTES_MAX, "a block for a whole unit");
        let end = part(&(0..self.size), index).end;
        self.bring(store, index, 0..hole.start, &new, 0, Why::Merge);
        self.bring(store, index, hole.end..end.max(hole.end), &new, hole.end, Why::Merge);
        self.put(store, index, Unit::Whole(new));
    }

    /// Gives pages of a unit to a block. What is in them outside of `hole` comes along; the bytes of the hole are those of the block.
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

    /// The parts of a unit and the bytes that are counted for it. A block becomes the only part, up to the size. A hole becomes parts that have no page yet, and
    /// count as 64 KiB until they have.
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

    /// The block that the parts of a unit go back into: its base, if all that is not its own can be changed there, up to the size and to the start of `hole`.
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

    /// The same, or up to the page that `hole` starts in: pages in front of it are about to be below the size.
    fn pages_in_front(&self, index: u64, hole: &Range<usize>) -> usize {
        self.pages_of(index).max(hole.start.div_ceil(PAGE))
    }

    /// Takes the parts of a unit back into its base, where that can be done. Pages that `hole` covers are not copied.
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

    /// Makes holes of pages of a unit that is in parts. Whether the unit has no page left.
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

    /// What zeros from the size of a large file up to `start` need. The file stays as it is.
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
        // An operation shows bytes behind the size: the page that the size is in gets another place, and those behind it are holes.
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
