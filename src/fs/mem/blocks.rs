//! The units of a large file by number; holes are absent.
//!
//! A unit is 64 KiB of the file: one block, or [`Parts`](super::parts::Parts) of one. A tree of nodes with 32 places each has
//! them. It is as high as the largest number needs: a file of 2 MiB is one leaf, and one unit at 2^46 costs ten nodes. Each node knows how
//! many bytes of memory are below it. So a truncation takes whole nodes out along one path, and counts what it took without a look at a unit.
//!
//! [`Cut`] is what was taken out. Its units are given up one by one, whenever there is time.

use super::parts::PartsId;
use crate::arena::Block;
use std::ops::Range;

/// Places of a node, as a power of two.
const BITS: u32 = 5;
const PLACES: usize = 1 << BITS;
/// Levels of a file of the largest size, 2^63 bytes, which has 2^47 units.
const LEVELS_MAX: u32 = 47_u32.div_ceil(BITS);
/// Bytes of a node.
pub const NODE_BYTES: usize = size_of::<Node>();

/// 64 KiB of a file.
#[derive(Debug)]
pub(super) enum Unit {
    /// All in one block of that size.
    Whole(Block),
    /// Some pages of it.
    Parts(PartsId),
}

#[derive(Debug)]
enum Places {
    Units([Option<Unit>; PLACES]),
    Nodes([Option<Box<Node>>; PLACES]),
}

#[derive(Debug)]
struct Node {
    places: Places,
    /// Bytes of memory below; never 0 while the node is in a tree.
    bytes: u64,
}

impl Node {
    fn leaf() -> Box<Node> {
        Box::new(Node { places: Places::Units([const { None }; PLACES]), bytes: 0 })
    }

    fn branch() -> Box<Node> {
        Box::new(Node { places: Places::Nodes([const { None }; PLACES]), bytes: 0 })
    }
}

/// Units by number.
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
    /// Bytes of memory of all units.
    pub(super) fn bytes(&self) -> u64 {
        self.root.as_ref().map_or(0, |root| root.bytes)
    }

    fn reaches(&self, index: u64) -> bool {
        index >> ((self.height + 1) * BITS) == 0
    }

    #[inline]
    pub(super) fn get(&self, index: u64) -> Option<&Unit> {
        if !self.reaches(index) {
            return None;
        }
        let (mut node, mut level) = (self.root.as_ref()?, self.height);
        loop {
            match &node.places {
                Places::Units(units) => return units[place(index, 0)].as_ref(),
                Places::Nodes(nodes) => node = nodes[place(index, level)].as_ref()?,
            }
            level -= 1;
        }
    }

    /// The number of the first unit from `from` on. The work does not depend on how far that is.
    pub(super) fn next(&self, from: u64) -> Option<u64> {
        let mut index = from;
        // Each round passes a subtree without such a unit, and goes one level up: LEVELS_MAX rounds.
        while self.reaches(index) {
            let (mut node, mut level) = (self.root.as_ref()?, self.height);
            loop {
                let (first, shift) = (place(index, level), level * BITS);
                let found = match &node.places {
                    Places::Units(units) => (first..PLACES).find(|&n| units[n].is_some()),
                    Places::Nodes(nodes) => (first..PLACES).find(|&n| nodes[n].is_some()),
                };
                let Some(found) = found else {
                    index = ((index >> (shift + BITS)) + 1) << (shift + BITS);
                    break;
                };
                if found > first {
                    index = ((index >> shift) + (found - first) as u64) << shift;
                }
                match &node.places {
                    Places::Units(_) => return Some(index),
                    Places::Nodes(nodes) => node = nodes[found].as_ref().expect("just found"),
                }
                level -= 1;
            }
        }
        None
    }

    /// Nodes that units of these numbers would need and that are not there, or a few more.
    pub(super) fn missing(&self, indices: Range<u64>) -> u64 {
        let leaves = indices.start >> BITS..indices.end.div_ceil(PLACES as u64);
        leaves.map(|leaf| self.missing_for(leaf << BITS)).sum()
    }

    fn missing_for(&self, index: u64) -> u64 {
        if !self.reaches(index) {
            let height = (u64::BITS - index.leading_zeros()).div_ceil(BITS) - 1;
            let above = if self.root.is_some() { height - self.height } else { 1 };
            return u64::from(above + height);
        }
        let (mut node, mut level) = (self.root.as_ref(), self.height);
        while let Some(Node { places: Places::Nodes(nodes), .. }) = node.map(|node| &**node) {
            node = nodes[place(index, level)].as_ref();
            level -= 1;
        }
        if node.is_some() { 0 } else { u64::from(level) + 1 }
    }

    /// Puts a unit of `bytes` in its place. `old_bytes`: those of the unit that was there, which it gives back. `nodes` counts those that are made.
    pub(super) fn insert(
        &mut self,
        index: u64,
        unit: Unit,
        bytes: u64,
        old_bytes: u64,
        nodes: &mut u64,
    ) -> Option<Unit> {
        while !self.reaches(index) {
            self.height += 1;
            if let Some(root) = self.root.take() {
                let mut above = Node::branch();
                *nodes += 1;
                above.bytes = root.bytes;
                if let Places::Nodes(nodes) = &mut above.places {
                    nodes[0] = Some(root);
                }
                self.root = Some(above);
            }
        }
        debug_assert!(self.height < LEVELS_MAX, "no file is larger");
        let (mut level, mut slot) = (self.height, &mut self.root);
        loop {
            let node = slot.get_or_insert_with(|| {
                *nodes += 1;
                if level == 0 { Node::leaf() } else { Node::branch() }
            });
            node.bytes = node.bytes + bytes - old_bytes;
            match &mut node.places {
                Places::Units(units) => return units[place(index, 0)].replace(unit),
                Places::Nodes(nodes) => slot = &mut nodes[place(index, level)],
            }
            level -= 1;
        }
    }

    /// The memory of a unit has changed.
    pub(super) fn resized(&mut self, index: u64, bytes: u64, old_bytes: u64) {
        let (mut level, mut slot) = (self.height, &mut self.root);
        while let Some(node) = slot {
            node.bytes = node.bytes + bytes - old_bytes;
            match &mut node.places {
                Places::Units(_) => return,
                Places::Nodes(nodes) => slot = &mut nodes[place(index, level)],
            }
            level -= 1;
        }
    }

    /// Takes out every unit from number `from` on. The work does not depend on how many that are. `bytes_of` says what a unit has.
    pub(super) fn cut(&mut self, from: u64, bytes_of: &dyn Fn(&Unit) -> u64) -> Cut {
        let mut cut = Cut::default();
        if from > 0 && !self.reaches(from) {
            return cut;
        }
        let height = self.height;
        cut_below(&mut self.root, height, from, &mut cut, bytes_of);
        // A file that was long once need not stay high.
        while let Some(Node { places: Places::Nodes(nodes), bytes }) = self.root.as_deref_mut()
            && nodes[0].as_ref().is_some_and(|first| first.bytes == *bytes)
        {
            self.root = nodes[0].take();
            self.height -= 1;
            cut.nodes_gone += 1;
        }
        if self.root.is_none() {
            self.height = 0;
        }
        cut
    }
}

/// Takes out what is in a node at number `from`, which is relative to the node, and behind. One path down: at most [`LEVELS_MAX`] calls.
fn cut_below(slot: &mut Option<Box<Node>>, level: u32, from: u64, cut: &mut Cut, bytes_of: &dyn Fn(&Unit) -> u64) {
    let Some(node) = slot else { return };
    let before = cut.bytes;
    let first = place(from, level);
    match &mut node.places {
        Places::Units(units) => {
            for unit in units[first..].iter_mut().filter_map(Option::take) {
                cut.bytes += bytes_of(&unit);
                cut.loose.push(unit);
            }
        }
        Places::Nodes(nodes) => {
            let below = from & ((1 << (level * BITS)) - 1);
            let whole = if below == 0 { first } else { first + 1 };
            for gone in nodes[whole..].iter_mut().filter_map(Option::take) {
                cut.bytes += gone.bytes;
                cut.nodes.push(gone);
            }
            if below > 0 {
                cut_below(&mut nodes[first], level - 1, below, cut, bytes_of);
            }
        }
    }
    node.bytes -= cut.bytes - before;
    if node.bytes == 0 {
        *slot = None;
        cut.nodes_gone += 1;
    }
}

/// Units that were taken out of files.
#[derive(Debug, Default)]
pub(super) struct Cut {
    #[expect(clippy::vec_box, reason = "nodes move here from their places as they are")]
    nodes: Vec<Box<Node>>,
    loose: Vec<Unit>,
    bytes: u64,
    nodes_gone: u64,
}

impl Cut {
    /// Bytes of memory that are left.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Nodes that are no more, since this was asked last.
    pub(super) fn take_nodes_gone(&mut self) -> u64 {
        std::mem::take(&mut self.nodes_gone)
    }

    /// A unit that [`pop`](Self::pop) gave is freed.
    pub(super) fn freed(&mut self, bytes: u64) {
        self.bytes -= bytes;
    }

    /// The next unit. A node that is passed gives its places to this list and goes: at most [`LEVELS_MAX`] times 32 for a unit.
    pub(super) fn pop(&mut self) -> Option<Unit> {
        loop {
            if let Some(unit) = self.loose.pop() {
                return Some(unit);
            }
            let node = self.nodes.pop()?;
            self.nodes_gone += 1;
            match node.places {
                Places::Units(units) => self.loose.extend(units.into_iter().flatten()),
                Places::Nodes(nodes) => self.nodes.extend(nodes.into_iter().flatten()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Arena;

    const BYTES: u64 = 64;
    const BYTES_OF: &dyn Fn(&Unit) -> u64 = &|_| BYTES;

    fn nodes(node: &Node) -> u64 {
        assert!(node.bytes > 0, "no node is empty");
        match &node.places {
            Places::Units(units) => {
                assert_eq!(units.iter().flatten().count() as u64 * BYTES, node.bytes);
                1
            }
            Places::Nodes(below) => {
                assert_eq!(below.iter().flatten().map(|node| node.bytes).sum::<u64>(), node.bytes);
                1 + below.iter().flatten().map(|node| nodes(node)).sum::<u64>()
            }
        }
    }

    fn add(map: &mut Map, arena: &mut Arena, index: u64, counted: &mut u64) -> Option<Unit> {
        let is_new = map.get(index).is_none();
        let (before, missing) = (*counted, map.missing(index..index + 1));
        let unit = Unit::Whole(arena.alloc(BYTES as usize).expect("room"));
        let old = map.insert(index, unit, BYTES, if is_new { 0 } else { BYTES }, counted);
        assert_eq!(*counted - before, missing, "nodes for unit {index}");
        old
    }

    fn free(arena: &mut Arena, unit: Unit) {
        let Unit::Whole(block) = unit else { unreachable!("no other was put in") };
        arena.free(block);
    }

    #[test]
    fn units_are_found_counted_and_cut_wherever_nodes_end() {
        let far = 1 << 46;
        let froms = [0, 1, 31, 32, 33, 63, 64, 100, 1023, 1024, 1025, 32_768, 1 << 40, far, far + 1, far + 2];
        for from in froms {
            let mut arena = Arena::new(16 << 20).expect("a small mapping");
            let (mut map, mut counted) = (Map::default(), 0);
            let indices = [0, 1, 31, 32, 40, 63, 64, 99, 1023, 1024, 32_768, far, far + 1];
            for (count, index) in indices.into_iter().enumerate() {
                assert!(add(&mut map, &mut arena, index, &mut counted).is_none());
                assert_eq!((map.bytes(), map.get(index).is_some()), ((count as u64 + 1) * BYTES, true));
            }
            let replaced = add(&mut map, &mut arena, 40, &mut counted).expect("it was there");
            free(&mut arena, replaced);
            assert_eq!((map.get(41).is_none(), map.get(u64::MAX).is_none(), map.bytes()), (true, true, 13 * BYTES));
            assert_eq!(map.root.as_ref().map(|root| nodes(root)), Some(counted));
            map.resized(40, BYTES + 7, BYTES);
            map.resized(40, BYTES, BYTES + 7);
            for start in froms.into_iter().chain(indices) {
                assert_eq!(map.next(start), indices.into_iter().find(|&index| index >= start), "from {start} on");
            }
            let mut cut = map.cut(from, BYTES_OF);
            let gone = indices.iter().filter(|&&index| index >= from).count() as u64;
            assert_eq!((cut.bytes(), map.bytes()), (gone * BYTES, (13 - gone) * BYTES));
            assert!(indices.iter().all(|&index| map.get(index).is_some() == (index < from)));
            while let Some(unit) = cut.pop() {
                free(&mut arena, unit);
                cut.freed(BYTES);
            }
            assert_eq!((cut.bytes(), arena.gauge().used_bytes() as u64), (0, (13 - gone) * BYTES));
            counted -= cut.take_nodes_gone();
            assert_eq!(map.root.as_ref().map_or(0, |root| nodes(root)), counted);
            assert!(from > 32_768 || map.height <= 2, "{} levels for units below {from}", map.height);
            // And it goes on as before.
            assert!(add(&mut map, &mut arena, far + 9, &mut counted).is_none());
            assert_eq!(map.bytes(), (14 - gone) * BYTES);
        }
    }

    /// The work of a cut is the nodes and units that it moves, and does not grow with the file.
    #[test]
    fn a_cut_moves_a_few_nodes_however_large_the_file_is() {
        let mut arena = Arena::new(16 << 20).expect("a small mapping");
        for (step, from) in [(1, 1), (1, 777), (1 << 30, 1), (1 << 30, 5 << 30), ((1 << 30) + 1, 77 << 31)] {
            let (mut map, mut counted) = (Map::default(), 0);
            (0..30_000).for_each(|n| assert!(add(&mut map, &mut arena, n * step, &mut counted).is_none()));
            let mut cut = map.cut(from, BYTES_OF);
            let moved = cut.nodes.len() + cut.loose.len();
            assert!(moved <= LEVELS_MAX as usize * PLACES, "{moved} nodes and units");
            assert_eq!(cut.bytes() + map.bytes(), 30_000 * BYTES);
            map.root.as_ref().map(|root| nodes(root));
            let mut rest = map.cut(0, BYTES_OF);
            std::iter::from_fn(|| cut.pop().or_else(|| rest.pop())).for_each(|unit| free(&mut arena, unit));
            assert_eq!(arena.gauge().used_bytes(), 0);
            assert_eq!(cut.take_nodes_gone() + rest.take_nodes_gone(), counted);
        }
    }
}
