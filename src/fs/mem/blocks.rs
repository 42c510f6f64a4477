//! The blocks of a large file by number; holes are absent.
//!
//! A tree of nodes with 32 places each. It is as high as the largest number needs: a file of 2 MiB is one leaf, and one block at 2^62 costs ten nodes. Each node knows how many
//! blocks are below it, so that a truncation takes whole nodes out along one path and counts what it took, without a look at a block.
//!
//! [`Cut`] is what was taken out. Its blocks are given up one by one, whenever there is time.

use crate::arena::Block;

/// Places of a node, as a power of two.
const BITS: u32 = 5;
const PLACES: usize = 1 << BITS;
/// Levels of a file of the largest size, 2^63 bytes, which has 2^47 blocks.
const LEVELS_MAX: u32 = 47_u32.div_ceil(BITS);
/// Bytes of nodes for each block, at worst: every block alone on its path.
pub const MAP_BYTES_PER_BLOCK: usize = LEVELS_MAX as usize * size_of::<Node>();

#[derive(Debug)]
enum Places {
    Blocks([Option<Block>; PLACES]),
    Nodes([Option<Box<Node>>; PLACES]),
}

#[derive(Debug)]
struct Node {
    places: Places,
    /// Blocks below; never 0 while the node is in a tree.
    count: u64,
}

impl Node {
    fn leaf() -> Box<Node> {
        Box::new(Node { places: Places::Blocks([const { None }; PLACES]), count: 0 })
    }

    fn branch() -> Box<Node> {
        Box::new(Node { places: Places::Nodes([const { None }; PLACES]), count: 0 })
    }
}

/// Blocks by number.
#[derive(Debug, Default)]
pub(super) struct Map {
    root: Option<Box<Node>>,
    /// Levels of branches above the leaves.
    height: u32,
}

/// The place at a level: 0 is that of leaves.
fn place(index: u64, level: u32) -> usize {
    (index >> (level * BITS)) as usize % PLACES
}

impl Map {
    /// How many blocks there are.
    pub(super) fn len(&self) -> u64 {
        self.root.as_ref().map_or(0, |root| root.count)
    }

    fn reaches(&self, index: u64) -> bool {
        index >> ((self.height + 1) * BITS) == 0
    }

    #[inline]
    pub(super) fn get(&self, index: u64) -> Option<&Block> {
        if !self.reaches(index) {
            return None;
        }
        let (mut node, mut level) = (self.root.as_ref()?, self.height);
        loop {
            match &node.places {
                Places::Blocks(blocks) => return blocks[place(index, 0)].as_ref(),
                Places::Nodes(nodes) => node = nodes[place(index, level)].as_ref()?,
            }
            level -= 1;
        }
    }

    /// Puts a block in its place; the one that was there.
    pub(super) fn insert(&mut self, index: u64, block: Block) -> Option<Block> {
        while !self.reaches(index) {
            self.height += 1;
            if let Some(root) = self.root.take() {
                let mut above = Node::branch();
                above.count = root.count;
                if let Places::Nodes(nodes) = &mut above.places {
                    nodes[0] = Some(root);
                }
                self.root = Some(above);
            }
        }
        let is_new = self.get(index).is_none();
        let (mut level, mut slot) = (self.height, &mut self.root);
        loop {
            let node = slot.get_or_insert_with(|| if level == 0 { Node::leaf() } else { Node::branch() });
            node.count += u64::from(is_new);
            match &mut node.places {
                Places::Blocks(blocks) => return blocks[place(index, 0)].replace(block),
                Places::Nodes(nodes) => slot = &mut nodes[place(index, level)],
            }
            level -= 1;
        }
    }

    /// Takes out every block from number `from` on. The work does not depend on how many that are.
    pub(super) fn cut(&mut self, from: u64) -> Cut {
        let mut cut = Cut::default();
        if from > 0 && !self.reaches(from) {
            return cut;
        }
        let height = self.height;
        cut_below(&mut self.root, height, from, &mut cut);
        // A file that was long once need not stay high.
        while let Some(Node { places: Places::Nodes(nodes), count }) = self.root.as_deref_mut()
            && nodes[0].as_ref().is_some_and(|first| first.count == *count)
        {
            self.root = nodes[0].take();
            self.height -= 1;
        }
        if self.root.is_none() {
            self.height = 0;
        }
        cut
    }
}

/// Takes out what is in a node at number `from`, which is relative to the node, and behind. One path down: at most [`LEVELS_MAX`] calls.
fn cut_below(slot: &mut Option<Box<Node>>, level: u32, from: u64, cut: &mut Cut) {
    let Some(node) = slot else { return };
    let before = cut.blocks;
    let first = place(from, level);
    match &mut node.places {
        Places::Blocks(blocks) => {
            for block in blocks[first..].iter_mut().filter_map(Option::take) {
                cut.blocks += 1;
                cut.loose.push(block);
            }
        }
        Places::Nodes(nodes) => {
            let below = from & ((1 << (level * BITS)) - 1);
            let whole = if below == 0 { first } else { first + 1 };
            for gone in nodes[whole..].iter_mut().filter_map(Option::take) {
                cut.blocks += gone.count;
                cut.nodes.push(gone);
            }
            if below > 0 {
                cut_below(&mut nodes[first], level - 1, below, cut);
            }
        }
    }
    node.count -= cut.blocks - before;
    if node.count == 0 {
        *slot = None;
    }
}

/// Blocks that were taken out of files.
#[derive(Debug, Default)]
pub(super) struct Cut {
    #[expect(clippy::vec_box, reason = "nodes move here from their places as they are")]
    nodes: Vec<Box<Node>>,
    loose: Vec<Block>,
    blocks: u64,
}

impl Cut {
    /// How many blocks are left.
    pub(super) fn len(&self) -> u64 {
        self.blocks
    }

    /// The next block. A node that is passed gives its places to this list and goes: at most [`LEVELS_MAX`] times 32 for a block.
    pub(super) fn pop(&mut self) -> Option<Block> {
        loop {
            if let Some(block) = self.loose.pop() {
                self.blocks -= 1;
                return Some(block);
            }
            match self.nodes.pop()?.places {
                Places::Blocks(blocks) => self.loose.extend(blocks.into_iter().flatten()),
                Places::Nodes(nodes) => self.nodes.extend(nodes.into_iter().flatten()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Arena;

    fn nodes(node: &Node) -> usize {
        assert!(node.count > 0, "no node is empty");
        match &node.places {
            Places::Blocks(blocks) => {
                assert_eq!(blocks.iter().flatten().count() as u64, node.count);
                1
            }
            Places::Nodes(below) => {
                assert_eq!(below.iter().flatten().map(|node| node.count).sum::<u64>(), node.count);
                1 + below.iter().flatten().map(|node| nodes(node)).sum::<usize>()
            }
        }
    }

    #[test]
    fn blocks_are_found_counted_and_cut_wherever_nodes_end() {
        let far = 1 << 46;
        let froms = [0, 1, 31, 32, 33, 63, 64, 100, 1023, 1024, 1025, 32_768, 1 << 40, far, far + 1, far + 2];
        for from in froms {
            let mut arena = Arena::new(16 << 20).expect("a small mapping");
            let mut map = Map::default();
            let indices = [0, 1, 31, 32, 40, 63, 64, 99, 1023, 1024, 32_768, far, far + 1];
            for (count, index) in indices.into_iter().enumerate() {
                assert!(map.insert(index, arena.alloc(64).expect("room")).is_none());
                assert_eq!((map.len(), map.get(index).is_some()), (count as u64 + 1, true));
            }
            let replaced = map.insert(40, arena.alloc(64).expect("room")).expect("it was there");
            arena.free(replaced);
            assert_eq!((map.get(41), map.get(u64::MAX), map.len()), (None, None, 13));
            let mut cut = map.cut(from);
            let gone = indices.iter().filter(|&&index| index >= from).count() as u64;
            assert_eq!((cut.len(), map.len()), (gone, 13 - gone));
            assert!(indices.iter().all(|&index| map.get(index).is_some() == (index < from)));
            while let Some(block) = cut.pop() {
                arena.free(block);
            }
            assert_eq!((cut.len(), arena.gauge().used_bytes() as u64), (0, (13 - gone) * 64));
            map.root.as_ref().map(|root| nodes(root));
            assert!(from > 32_768 || map.height <= 2, "{} levels for blocks below {from}", map.height);
            // And it goes on as before.
            assert!(map.insert(far + 9, arena.alloc(64).expect("room")).is_none());
            assert_eq!(map.len(), 14 - gone);
        }
    }

    /// The work of a cut is the nodes and blocks that it moves, and does not grow with the file.
    #[test]
    fn a_cut_moves_a_few_nodes_however_large_the_file_is() {
        let mut arena = Arena::new(16 << 20).expect("a small mapping");
        for (step, from) in [(1, 1), (1, 777), (1 << 30, 1), (1 << 30, 5 << 30), ((1 << 30) + 1, 77 << 31)] {
            let mut map = Map::default();
            (0..30_000).for_each(|n| assert!(map.insert(n * step, arena.alloc(64).expect("room")).is_none()));
            let mut cut = map.cut(from);
            let moved = cut.nodes.len() + cut.loose.len();
            assert!(moved <= LEVELS_MAX as usize * PLACES, "{moved} nodes and blocks");
            assert_eq!(cut.len() + map.len(), 30_000);
            map.root.as_ref().map(|root| nodes(root));
            let mut rest = map.cut(0);
            std::iter::from_fn(|| cut.pop().or_else(|| rest.pop())).for_each(|block| arena.free(block));
            assert_eq!(arena.gauge().used_bytes(), 0);
        }
    }
}
