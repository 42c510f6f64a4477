//! A unit of a large file whose bytes are not in one block: parts of it, by pages of 4 KiB.
//!
//! ```text
//! pages    0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15
//! owners   .  0  0  .  .  1  .  .  2  2  2  2  .  .  .  .     . is a hole
//! ```
//! A part is a block whose pages follow each other as they do in the unit. A page of it may have
//! been given to a later part; a part without any page left is freed. A block of the largest size
//! has each page where the unit has it, so it can become the whole unit.
//!
//! No page lies whole beyond the size of the file. The parts of all files are in one [`Table`],
//! with the count of nodes that lead to them.

use super::blocks::Unit;
use crate::arena::{Arena, BLOCK_BYTES_MAX, Block};
use std::ops::Range;

/// Bytes of a page. Parts of a unit start at multiples of it in the file.
pub const PAGE: usize = 4096;
/// Pages of a unit.
pub(super) const PAGES: usize = BLOCK_BYTES_MAX / PAGE;
/// Bytes that the table keeps of each unit in parts.
pub const PARTS_BYTES: usize = size_of::<Parts>() + size_of::<PartsId>();

const HOLE: u8 = u8::MAX;

/// The pages that a range of a unit touches.
pub(super) fn pages(range: &Range<usize>) -> Range<usize> {
    if range.is_empty() { 0..0 } else { range.start / PAGE..range.end.div_ceil(PAGE) }
}

/// The bytes of some pages.
pub(super) fn bytes_of(pages: &Range<usize>) -> Range<usize> {
    pages.start * PAGE..pages.end * PAGE
}

/// The parts of one unit.
#[derive(Debug)]
pub(super) struct Parts {
    /// For each page the part that has it, or [`HOLE`].
    owners: [u8; PAGES],
    /// The page of the unit that is the first of each part.
    firsts: [u8; PAGES],
    blocks: [Option<Block>; PAGES],
}

impl Parts {
    fn new() -> Parts {
        Parts { owners: [HOLE; PAGES], firsts: [0; PAGES], blocks: [const { None }; PAGES] }
    }

    /// The longest run from the start of `want` that is in one block, or in none: where it is, and how many bytes.
    pub(super) fn run(&self, want: &Range<usize>) -> (Option<(&Block, Range<usize>)>, usize) {
        let pages = pages(want);
        let owner = self.owners[pages.start];
        let same = self.owners[pages.clone()].iter().take_while(|&&other| other == owner).count();
        let end = want.end.min((pages.start + same) * PAGE);
        let part = self.blocks.get(usize::from(owner)).and_then(Option::as_ref).map(|block| {
            let before = usize::from(self.firsts[usize::from(owner)]) * PAGE;
            (block, want.start - before..end - before)
        });
        (part, end - want.start)
    }

    /// Whether a page is in a part.
    pub(super) fn has(&self, page: usize) -> bool {
        self.owners[page] != HOLE
    }

    /// Whether every page will be in a part once `more` are.
    pub(super) fn is_full_with(&self, more: &Range<usize>) -> bool {
        (0..PAGES).all(|page| self.has(page) || more.contains(&page))
    }

    /// Memory of all parts in bytes.
    pub(super) fn bytes(&self, arena: &Arena) -> u64 {
        self.blocks.iter().flatten().map(|block| arena.capacity(block) as u64).sum()
    }

    /// The part that could be the whole unit: a block of the largest size, the one with the most pages if there are several.
    fn base_part(&self, arena: &Arena) -> Option<usize> {
        let is_base =
            |part: &usize| self.blocks[*part].as_ref().is_some_and(|block| arena.capacity(block) == BLOCK_BYTES_MAX);
        let pages = |part: &usize| self.owners.iter().filter(|&&owner| usize::from(owner) == *part).count();
        (0..PAGES).filter(is_base).max_by_key(pages)
    }

    /// The block that could be the whole unit, if it has a page outside of `besides`.
    pub(super) fn base(&self, arena: &Arena, besides: &Range<usize>) -> Option<&Block> {
        let base = self.base_part(arena)?;
        let keeps = |(page, owner): (usize, &u8)| usize::from(*owner) == base && !besides.contains(&page);
        self.owners.iter().enumerate().any(keeps).then_some(())?;
        self.blocks[base].as_ref()
    }

    /// Whether this block has the page.
    pub(super) fn is_owner(&self, page: usize, block: &Block) -> bool {
        self.blocks.get(usize::from(self.owners[page])).and_then(Option::as_ref) == Some(block)
    }

    /// Puts pages into a block whose first page is page `first` of the unit. A part that has no page left is freed: how many that were.
    pub(super) fn attach(&mut self, arena: &mut Arena, pages: Range<usize>, block: Block, first: usize) -> usize {
        let freed = self.detach(arena, pages.clone());
        let part = self.blocks.iter().position(Option::is_none).expect("each part has a page, and one has none now");
        self.owners[pages].fill(part as u8);
        self.firsts[part] = first as u8;
        self.blocks[part] = Some(block);
        freed
    }

    /// Makes holes of pages. A part that has no page left is freed: how many that were.
    pub(super) fn detach(&mut self, arena: &mut Arena, pages: Range<usize>) -> usize {
        self.owners[pages].fill(HOLE);
        let mut freed = 0;
        for part in 0..PAGES {
            if self.blocks[part].is_some() && !self.owners.contains(&(part as u8)) {
                self.blocks[part].take().into_iter().for_each(|block| arena.free(block));
                freed += 1;
            }
        }
        freed
    }
}

#[cfg(test)]
impl Parts {
    /// Panics unless each part has a page, lies where its pages are, and no page is at `end` or behind.
    pub(super) fn check(&self, arena: &Arena, end: usize) {
        assert!(self.owners[end..].iter().all(|&owner| owner == HOLE), "pages beyond the size: {self:?}");
        assert!((0..PAGES).any(|page| self.has(page)), "no page");
        for (part, block) in self.blocks.iter().enumerate() {
            let Some(block) = block else { continue };
            let (first, capacity) = (usize::from(self.firsts[part]), arena.capacity(block));
            let own: Vec<_> = (0..PAGES).filter(|&page| usize::from(self.owners[page]) == part).collect();
            assert!(!own.is_empty() && capacity >= PAGE, "part {part}: {self:?}");
            assert!(own.iter().all(|&page| page >= first && (page - first) * PAGE < capacity), "part {part}: {self:?}");
            assert!(capacity < BLOCK_BYTES_MAX || first == 0, "part {part}: {self:?}");
        }
    }
}

/// Where the parts of a unit are in the [`Table`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PartsId(u32);

/// The parts of all files.
#[derive(Debug)]
pub(super) struct Table {
    parts: Vec<Parts>,
    free: Vec<PartsId>,
    /// Nodes of the maps of all files.
    pub(super) nodes: u64,
    /// Beyond this no write or grant makes more. What was granted before may pass it.
    nodes_max: u64,
}

impl Table {
    /// A node for each page of memory: enough unless files are far apart and nearly empty.
    pub(super) fn new(arena: &Arena) -> Table {
        Table { parts: Vec::new(), free: Vec::new(), nodes: 0, nodes_max: (arena.usable_bytes() / PAGE) as u64 }
    }

    /// Whether there may be so many nodes more.
    pub(super) fn has_room(&self, nodes: u64) -> bool {
        nodes == 0 || self.nodes + nodes <= self.nodes_max
    }

    pub(super) fn get(&self, id: PartsId) -> &Parts {
        &self.parts[id.0 as usize]
    }

    pub(super) fn get_mut(&mut self, id: PartsId) -> &mut Parts {
        &mut self.parts[id.0 as usize]
    }

    /// A unit of holes, which is to get its first part at once.
    pub(super) fn add(&mut self) -> PartsId {
        self.free.pop().unwrap_or_else(|| {
            self.parts.push(Parts::new());
            PartsId((self.parts.len() - 1) as u32)
        })
    }

    /// Memory of a unit in bytes.
    pub(super) fn bytes(&self, arena: &Arena, unit: &Unit) -> u64 {
        match unit {
            Unit::Whole(_) => BLOCK_BYTES_MAX as u64,
            Unit::Parts(id) => self.get(*id).bytes(arena),
        }
    }

    /// Frees all of a unit: how many blocks and bytes of memory that were.
    pub(super) fn free(&mut self, arena: &mut Arena, unit: Unit) -> (usize, u64) {
        match unit {
            Unit::Whole(block) => {
                arena.free(block);
                (1, BLOCK_BYTES_MAX as u64)
            }
            Unit::Parts(id) => {
                let parts = self.get_mut(id);
                parts.owners = [HOLE; PAGES];
                let blocks = parts.blocks.iter_mut().filter_map(Option::take);
                let freed = blocks.fold((0, 0), |(count, bytes), block| {
                    let capacity = arena.capacity(&block) as u64;
                    arena.free(block);
                    (count + 1, bytes + capacity)
                });
                self.free.push(id);
                freed
            }
        }
    }

    /// Units in parts.
    #[cfg(test)]
    pub(super) fn in_use(&self) -> usize {
        self.parts.len() - self.free.len()
    }

    /// Frees all of a unit in parts but its first part.
    pub(super) fn free_but_first(&mut self, arena: &mut Arena, id: PartsId) -> Block {
        let first = self.get_mut(id).blocks[0].take();
        self.free(arena, Unit::Parts(id));
        first.expect("the first part has a page")
    }

    /// Frees all of a unit in parts but its base, which can be the whole unit. How many blocks that were.
    pub(super) fn free_but_base(&mut self, arena: &mut Arena, id: PartsId) -> (Block, usize) {
        let parts = self.get_mut(id);
        let base = parts.base_part(arena).and_then(|part| parts.blocks[part].take());
        let (freed, _) = self.free(arena, Unit::Parts(id));
        (base.expect("the unit has a base"), freed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_one_owner_and_blocks_without_pages_go() {
        let mut arena = Arena::new(1 << 20).expect("a small mapping");
        let mut parts = Parts::new();
        let block = arena.alloc(4 * PAGE).expect("room");
        parts.attach(&mut arena, 3..6, block, 3);
        assert_eq!(parts.bytes(&arena), 4 * PAGE as u64);
        assert_eq!(parts.run(&(10..4 * PAGE)), (None, 3 * PAGE - 10));
        let (place, len) = parts.run(&(3 * PAGE + 10..10 * PAGE));
        assert_eq!((place.map(|(_, range)| range), len), (Some(10..3 * PAGE), 3 * PAGE - 10));
        let later = arena.alloc(PAGE).expect("room");
        parts.attach(&mut arena, 4..5, later, 4);
        let (place, len) = parts.run(&(5 * PAGE..6 * PAGE));
        assert_eq!((place.map(|(_, range)| range), len), (Some(2 * PAGE..3 * PAGE), PAGE), "as it was");
        assert!(!parts.is_full_with(&(0..3)) && parts.base(&arena, &(0..0)).is_none());
        let whole = arena.alloc(BLOCK_BYTES_MAX).expect("room");
        parts.attach(&mut arena, 3..6, whole, 0);
        assert_eq!(arena.gauge().used_bytes(), BLOCK_BYTES_MAX, "the parts before have no page left");
        assert!(parts.base(&arena, &(3..5)).is_some() && parts.base(&arena, &(3..6)).is_none());
        parts.detach(&mut arena, 0..PAGES);
        assert_eq!(arena.gauge().used_bytes(), 0);
    }
}
