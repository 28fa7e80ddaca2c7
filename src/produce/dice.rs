//! Random choices whose outcome never changes with a library's version.
//!
//! Owns: the generator and the few ways to choose. ChaCha8 is fixed by its definition; the ways to turn its
//! words into choices are written here because `rand` may change its own, and "same seed, same bytes" would end.
//! Does not own: what is chosen (`sales`, `clicks`, `broken`).

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

pub(super) struct Dice(ChaCha8Rng);

/// Independent sequences of one seed: a choice more in one moves nothing in another.
#[derive(Clone, Copy)]
pub(super) enum Sequence {
    Records = 0,
    Times = 1,
    Broken = 2,
}

impl Dice {
    pub(super) fn new(seed: u64, sequence: Sequence) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(sequence as u64);
        Self(rng)
    }

    pub(super) fn word(&mut self) -> u32 {
        self.0.next_u32()
    }

    pub(super) fn long(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Evenly in `0..n`. The bias of the multiplication is below n / 2^32: no sample here could show it.
    pub(super) fn below(&mut self, n: u32) -> u32 {
        ((u64::from(self.word()) * u64::from(n)) >> 32) as u32
    }

    /// True in `percent` of 100 cases.
    pub(super) fn percent(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    pub(super) fn pick(&mut self, weights: &Weights) -> usize {
        let point = self.below(weights.total);
        weights.ends.partition_point(|end| *end <= point)
    }

    pub(super) fn one_of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u32) as usize]
    }
}

/// Relative frequencies, prepared for choosing.
pub(super) struct Weights {
    /// Running sums.
    ends: Vec<u32>,
    total: u32,
}

impl Weights {
    pub(super) fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let mut total = 0;
        let ends = weights
            .into_iter()
            .map(|weight| {
                total += weight;
                total
            })
            .collect();
        Self { ends, total }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_follow_their_weights_and_zero_is_never_chosen() {
        let weights = Weights::new([60, 0, 30, 10]);
        let mut dice = Dice::new(1, Sequence::Records);
        let mut counts = [0; 4];
        for _ in 0..100_000 {
            counts[dice.pick(&weights)] += 1;
        }
        assert_eq!(counts[1], 0);
        for (count, expected) in counts.into_iter().zip([60_000, 0, 30_000, 10_000]) {
            assert!((count as i64 - expected).abs() < 1_000, "{counts:?}");
        }
    }

    #[test]
    fn the_words_of_a_seed_are_fixed_for_ever() {
        let words = |sequence| {
            let mut dice = Dice::new(42, sequence);
            [dice.word(), dice.word(), dice.word()]
        };
        insta::assert_compact_debug_snapshot!((words(Sequence::Records), words(Sequence::Broken)), @"([428845191, 1495741553, 379451179], [2123891965, 975755521, 2509462451])");
    }
}
