//! Parts: how a unit of a large file (64 KiB) is kept if its bytes are not in one block.
//!
//! ```text
//! pages    0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15
//! owners   .  0  0  .  .  1  .  .  2  2  2  2  .  .  .  .     . is a hole
//! ```
//! A unit has 16 pages of 4 KiB. Each page is a hole or belongs to one part. A part is a block that
//! holds consecutive pages of the unit. A later part may take a page over; a part that has lost all
//! of its pages is freed. In a block of 64 KiB each page has the offset that it has in the unit, so
//! the block can become the whole unit.
//!
//! A page that starts at the size of the file or behind it is a hole. The parts of all files are in
//! one [`Table`], together with the number of map nodes.

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

    /// The longest run of bytes from the start of `want` that lie in one block, or in a hole. Returns the
    /// block with the range inside of it (`None` for a hole), and the length. `want` is not empty.
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

    /// Whether every page is in a part or in `more`.
    pub(super) fn is_full_with(&self, more: &Range<usize>) -> bool {
        (0..PAGES).all(|page| self.has(page) || more.contains(&page))
    }

    /// Memory of all parts in bytes.
    pub(super) fn bytes(&self, arena: &Arena) -> u64 {
        self.blocks.iter().flatten().map(|block| arena.capacity(block) as u64).sum()
    }

    /// The part whose block has 64 KiB, so that it could become the whole unit. Of several, the one with
    /// the most pages.
    fn base_part(&self, arena: &Arena) -> Option<usize> {
        let is_base =
            |part: &usize| self.blocks[*part].as_ref().is_some_and(|block| arena.capacity(block) == BLOCK_BYTES_MAX);
        let pages = |part: &usize| self.owners.iter().filter(|&&owner| usize::from(owner) == *part).count();
        (0..PAGES).filter(is_base).max_by_key(pages)
    }

    /// The block of the part that could become the whole unit, if that part has a page outside of `besides`.
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

    /// Makes `block` the part of `pages`. The block starts with page `first` of the unit. Frees each part
    /// that has lost its last page, and returns their number.
    pub(super) fn attach(&mut self, arena: &mut Arena, pages: Range<usize>, block: Block, first: usize) -> usize {
        let freed = self.detach(arena, pages.clone());
        let part = self.blocks.iter().position(Option::is_none).expect("each part has a page, and one has none now");
        self.owners[pages].fill(part as u8);
        self.firsts[part] = first as u8;
        self.blocks[part] = Some(block);
        freed
    }

    /// Turns pages into holes. Frees each part that has lost its last page, and returns their number.
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
    /// Limit on nodes. A write or a grant that needs more fails with ENOSPC; a commit may pass the limit.
    nodes_max: u64,
}

impl Table {
    /// An empty table. The limit on nodes is one for each page of memory: sparse files reach it only if
    /// their pages are very far apart.
    pub(super) fn new(arena: &Arena) -> Table {
        Table { parts: Vec::new(), free: Vec::new(), nodes: 0, nodes_max: (arena.usable_bytes() / PAGE) as u64 }
    }

    /// Whether `nodes` more nodes stay within the limit.
    pub(super) fn has_room(&self, nodes: u64) -> bool {
        nodes == 0 || self.nodes + nodes <= self.nodes_max
    }

    pub(super) fn get(&self, id: PartsId) -> &Parts {
        &self.parts[id.0 as usize]
    }

    pub(super) fn get_mut(&mut self, id: PartsId) -> &mut Parts {
        &mut self.parts[id.0 as usize]
    }

    /// A unit of 16 holes. The caller attaches its first part next.
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

    /// Frees all blocks of a unit. Returns their number, and their bytes.
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

    /// Frees all blocks of a unit in parts but that of its first part, which it returns.
    pub(super) fn free_but_first(&mut self, arena: &mut Arena, id: PartsId) -> Block {
        let first = self.get_mut(id).blocks[0].take();
        self.free(arena, Unit::Parts(id));
        first.expect("the first part has a page")
    }

    /// Frees all blocks of a unit in parts but its base. Returns the base, and the number of freed blocks.
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
