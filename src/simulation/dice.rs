//! The one source of chance of a run: the same seed makes the same choices in the same order.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    pub fn long(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Evenly in `0..n`; `n` is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.long() % n as u64) as usize
    }

    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn one_of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}
