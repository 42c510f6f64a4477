//! The blocks of a large file by number; holes are absent.
//!
//! Blocks lie in leaves of 32 neighbours, so that a file read or written in order is found in a map of one entry per 2 MiB, and one block at 2^62 costs one leaf.

use crate::arena::Block;
use std::collections::BTreeMap;

const LEAF: u64 = 32;

#[derive(Debug, Default)]
struct Leaf {
    blocks: [Option<Block>; LEAF as usize],
    count: u32,
}

/// Blocks by number.
#[derive(Debug, Default)]
pub(super) struct Map {
    leaves: BTreeMap<u64, Box<Leaf>>,
    len: u64,
}

impl Map {
    /// How many blocks there are.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    #[inline]
    pub(super) fn get(&self, index: u64) -> Option<&Block> {
        self.leaves.get(&(index / LEAF))?.blocks[(index % LEAF) as usize].as_ref()
    }

    /// Puts a block in its place; the one that was there.
    pub(super) fn insert(&mut self, index: u64, block: Block) -> Option<Block> {
        let leaf = self.leaves.entry(index / LEAF).or_default();
        let old = leaf.blocks[(index % LEAF) as usize].replace(block);
        if old.is_none() {
            leaf.count += 1;
            self.len += 1;
        }
        old
    }

    /// Takes out every block from number `from` on.
    pub(super) fn cut(&mut self, from: u64, mut each: impl FnMut(Block)) {
        let mut gone = self.leaves.split_off(&from.div_ceil(LEAF));
        if let Some(leaf) = self.leaves.get_mut(&(from / LEAF))
            && !from.is_multiple_of(LEAF)
        {
            for block in leaf.blocks[(from % LEAF) as usize..].iter_mut().filter_map(Option::take) {
                leaf.count -= 1;
                self.len -= 1;
                each(block);
            }
            if leaf.count == 0 {
                self.leaves.remove(&(from / LEAF));
            }
        }
        for leaf in gone.values_mut() {
            for block in leaf.blocks.iter_mut().filter_map(Option::take) {
                self.len -= 1;
                each(block);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Arena;

    #[test]
    fn blocks_are_found_counted_and_cut_wherever_leaves_end() {
        for from in [0, 1, 31, 32, 33, 63, 64, 100, 1 << 50] {
            let mut arena = Arena::new(16 << 20).expect("a small mapping");
            let mut map = Map::default();
            let indices = [0, 1, 31, 32, 40, 63, 64, 99, 1 << 48, (1 << 48) + 1];
            for index in indices {
                assert!(map.insert(index, arena.alloc(64).expect("room")).is_none());
            }
            assert_eq!(map.len(), 10);
            let mut cut = 0;
            map.cut(from, |block| {
                arena.free(block);
                cut += 1;
            });
            assert_eq!(cut, indices.iter().filter(|&&index| index >= from).count());
            assert!(indices.iter().all(|&index| map.get(index).is_some() == (index < from)));
            assert_eq!(map.len(), 10 - cut as u64);
            assert!(map.leaves.values().all(|leaf| leaf.count > 0), "no leaf is empty");
        }
    }
}
