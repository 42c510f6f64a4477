//! Which parts of the arena are free: a buddy system inside 64 KiB chunks. Pure bookkeeping, no memory.
//!
//! A chunk has one bit per possible block, 2,047 of them, that says "free, and its buddy is not" (order 10 is the whole chunk). For each
//! order a bit set says which chunks have such a block, so that the lowest address is found in a few words. Free neighbours merge at once.

use super::{BLOCK_BYTES_MAX, BLOCK_BYTES_MIN};

/// Orders 0 (smallest block) to 10 (a chunk).
const ORDERS: usize = (BLOCK_BYTES_MAX / BLOCK_BYTES_MIN).trailing_zeros() as usize + 1;
const UNITS_PER_CHUNK: usize = BLOCK_BYTES_MAX / BLOCK_BYTES_MIN;
/// 2,047 bits; the last is unused. Order k starts at bit `start(k)`, and none but the smallest straddles a word needlessly.
const WORDS: usize = UNITS_PER_CHUNK * 2 / 64;

const _: () = assert!(ORDERS == 11 && WORDS == 32);

pub(super) struct Buddy {
    chunks: Vec<[u64; WORDS]>,
    with_free: [BitSet; ORDERS],
}

/// First bit of an order: the orders lie one behind the other, the smallest blocks first.
const fn start(order: usize) -> usize {
    2 * UNITS_PER_CHUNK - ((2 * UNITS_PER_CHUNK) >> order)
}

impl Buddy {
    pub(super) fn new(chunks: usize) -> Buddy {
        let mut buddy =
            Buddy { chunks: vec![[0; WORDS]; chunks], with_free: std::array::from_fn(|_| BitSet::new(chunks)) };
        for chunk in 0..chunks {
            buddy.put(chunk, ORDERS - 1, 0);
        }
        buddy
    }

    /// Takes a whole free chunk out for good.
    pub(super) fn reserve_chunk(&mut self, chunk: usize) {
        assert!(self.has(chunk, ORDERS - 1, 0), "a chunk is reserved before any block is taken");
        self.cut(chunk, ORDERS - 1, 0);
    }

    /// A free block, in units: the lowest of the smallest order that serves.
    pub(super) fn alloc(&mut self, order: usize) -> Option<u32> {
        let (from, chunk) = (order..ORDERS).find_map(|k| Some((k, self.with_free[k].first()?)))?;
        let mut index = self.first_in(chunk, from);
        self.cut(chunk, from, index);
        for smaller in (order..from).rev() {
            index *= 2;
            self.put(chunk, smaller, index + 1);
        }
        Some((chunk * UNITS_PER_CHUNK + (index << order)) as u32)
    }

    /// Gives a block back and merges it with its free buddies.
    pub(super) fn free(&mut self, unit: u32, order: usize) {
        let chunk = unit as usize / UNITS_PER_CHUNK;
        let mut index = (unit as usize % UNITS_PER_CHUNK) >> order;
        let mut order = order;
        debug_assert!(!self.has(chunk, order, index), "a block is freed once");
        while order < ORDERS - 1 && self.has(chunk, order, index ^ 1) {
            self.cut(chunk, order, index ^ 1);
            index /= 2;
            order += 1;
        }
        self.put(chunk, order, index);
    }

    fn has(&self, chunk: usize, order: usize, index: usize) -> bool {
        let bit = start(order) + index;
        self.chunks[chunk][bit / 64] >> (bit % 64) & 1 == 1
    }

    fn put(&mut self, chunk: usize, order: usize, index: usize) {
        let bit = start(order) + index;
        self.chunks[chunk][bit / 64] |= 1 << (bit % 64);
        self.with_free[order].set(chunk);
    }

    fn cut(&mut self, chunk: usize, order: usize, index: usize) {
        let bit = start(order) + index;
        self.chunks[chunk][bit / 64] &= !(1 << (bit % 64));
        if self.bits_of(chunk, order).all(|(_, bits)| bits == 0) {
            self.with_free[order].clear(chunk);
        }
    }

    /// The words of an order, each masked to that order's bits.
    fn bits_of(&self, chunk: usize, order: usize) -> impl Iterator<Item = (usize, u64)> {
        let (first, count) = (start(order), UNITS_PER_CHUNK >> order);
        let mask = if count >= 64 { u64::MAX } else { ((1 << count) - 1) << (first % 64) };
        let words = first / 64..first / 64 + count.div_ceil(64);
        words.map(move |word| (word, self.chunks[chunk][word] & mask))
    }

    fn first_in(&self, chunk: usize, order: usize) -> usize {
        let (word, bits) = self
            .bits_of(chunk, order)
            .find(|(_, bits)| *bits != 0)
            .expect("the bit set names chunks that have a free block of the order");
        word * 64 + bits.trailing_zeros() as usize - start(order)
    }
}

/// A set of chunk numbers with a fast minimum: each level has one bit per non-zero word of the level below.
struct BitSet {
    levels: Vec<Vec<u64>>,
}

impl BitSet {
    fn new(bits: usize) -> BitSet {
        let mut levels = Vec::new();
        let mut words = bits.div_ceil(64).max(1);
        loop {
            levels.push(vec![0; words]);
            if words == 1 {
                return BitSet { levels };
            }
            words = words.div_ceil(64);
        }
    }

    fn set(&mut self, mut index: usize) {
        for level in &mut self.levels {
            let word = &mut level[index / 64];
            let was_empty = *word == 0;
            *word |= 1 << (index % 64);
            if !was_empty {
                return;
            }
            index /= 64;
        }
    }

    fn clear(&mut self, mut index: usize) {
        for level in &mut self.levels {
            let word = &mut level[index / 64];
            *word &= !(1 << (index % 64));
            if *word != 0 {
                return;
            }
            index /= 64;
        }
    }

    fn first(&self) -> Option<usize> {
        let mut index = 0;
        for level in self.levels.iter().rev() {
            let word = level[index];
            if word == 0 {
                return None;
            }
            index = index * 64 + word.trailing_zeros() as usize;
        }
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_given_once_and_all_merge_back() {
        let mut buddy = Buddy::new(130);
        let mut owner = vec![false; 130 * UNITS_PER_CHUNK];
        let mut held = Vec::new();
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |bound: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % bound as u64) as usize
        };
        for round in 0..60_000 {
            if held.is_empty() || (next(5) < 3 && round < 50_000) {
                let order = next(ORDERS);
                let Some(unit) = buddy.alloc(order) else { continue };
                for taken in &mut owner[unit as usize..unit as usize + (1 << order)] {
                    assert!(!std::mem::replace(taken, true), "unit {unit} was taken");
                }
                assert_eq!(unit as usize % (1 << order), 0, "a block is aligned to its size");
                held.push((unit, order));
            } else {
                let at = next(held.len());
                let (unit, order) = held.swap_remove(at);
                owner[unit as usize..unit as usize + (1 << order)].fill(false);
                buddy.free(unit, order);
            }
        }
        for (unit, order) in held {
            buddy.free(unit, order);
        }
        let whole: Vec<_> = (0..130).map(|_| buddy.alloc(ORDERS - 1)).collect();
        assert!(whole.iter().all(Option::is_some), "all chunks are whole again");
        assert_eq!(buddy.alloc(0), None);
    }

    #[test]
    fn low_addresses_come_first() {
        let mut buddy = Buddy::new(2);
        let units: Vec<_> = (0..4).map(|_| buddy.alloc(9).expect("room for four halves")).collect();
        assert_eq!(units, [0, 512, 1024, 1536]);
        buddy.free(512, 9);
        assert_eq!(buddy.alloc(0), Some(512));
    }
}
