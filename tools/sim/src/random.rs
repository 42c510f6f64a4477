//! A small seeded source of numbers; the only one of a simulation.

/// xorshift64*, behind choices that were given.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
    given: std::vec::IntoIter<u8>,
}

impl Random {
    /// The same numbers for the same seed.
    pub fn new(seed: u64) -> Random {
        Random::following(seed, Vec::new())
    }

    /// The first numbers are these, two bytes each, so that [`below`](Self::below) chooses what they say; then come those of the seed.
    pub fn following(seed: u64, given: Vec<u8>) -> Random {
        Random { state: (seed ^ 0x5eed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, given: given.into_iter() }
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        if let Some(low) = self.given.next() {
            let high = self.given.next().unwrap_or_default();
            return u64::from(u16::from_le_bytes([low, high])) << 16;
        }
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.number() >> 16) as usize % bound
    }

    /// From 1 to `most`, mostly small or all.
    pub fn part(&mut self, most: usize) -> usize {
        match self.below(4) {
            0 => 1 + self.below(most.min(8)),
            1 => 1 + self.below(most),
            _ => most,
        }
    }

    /// True so many times in a thousand.
    pub fn per_mille(&mut self, rate: u32) -> bool {
        rate > 0 && self.below(1000) < rate as usize
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of these.
    pub fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}
