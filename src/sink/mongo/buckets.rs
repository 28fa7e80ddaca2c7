//! Which rollup buckets are in MongoDB already: a hint, so that new ones can be inserted.
//!
//! Owns: what this process remembers of buckets it has stored, within a bounded memory, and when to trust that a
//! bucket it does not remember is new.
//! Does not own: correctness. A bucket taken for new that is there fails the transaction, which is then tried again
//! with upserts alone; one taken for known that is gone is upserted, as ever.
//!
//! Why guess at all: an insert costs the server a third of what an upsert costs, and its reply is a few bytes where an
//! upsert's names every new document. A backfill makes almost nothing but new buckets.

use rustc_hash::FxHashSet;

/// Keys remembered per generation; two generations are kept. A set of this many is just about to grow from 2^19
/// slots of nine bytes, so the memory stays below 10 MiB.
const GENERATION: usize = (1 << 19) / 8 * 7;
/// Longest series of transactions that trust nothing after a guess went wrong.
const MAX_CAUTION: u32 = 64;

/// The hash of a bucket's `_id`, its rollup included.
pub(super) type BucketKey = u64;

#[derive(Debug)]
pub(super) struct KnownBuckets {
    young: FxHashSet<BucketKey>,
    old: FxHashSet<BucketKey>,
    /// Transactions to go before an unknown bucket is taken for new.
    caution: u32,
    /// How many it will be after the next mistake.
    next_caution: u32,
}

impl Default for KnownBuckets {
    /// Nothing is remembered, so the first transaction learns what is current.
    fn default() -> Self {
        Self {
            young: FxHashSet::default(),
            old: FxHashSet::default(),
            caution: 1,
            next_caution: 2,
        }
    }
}

impl KnownBuckets {
    /// May this bucket be inserted?
    pub fn is_new(&self, key: BucketKey) -> bool {
        self.caution == 0 && !self.young.contains(&key) && !self.old.contains(&key)
    }

    /// These buckets are stored; `guessed`: some of them by inserts.
    pub fn stored(&mut self, keys: &[BucketKey], guessed: bool) {
        for &key in keys {
            if self.young.len() == GENERATION {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(key);
        }
        self.caution = self.caution.saturating_sub(1);
        if guessed {
            self.next_caution = (self.next_caution / 2).max(2);
        }
    }

    /// A transaction that took unknown buckets for new met one of them, or somebody who was writing it.
    pub fn mistaken(&mut self) {
        self.caution = self.next_caution;
        self.next_caution = (self.next_caution * 2).min(MAX_CAUTION);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_first_transaction_what_is_not_remembered_is_new() {
        let mut known = KnownBuckets::default();
        assert!(!known.is_new(1), "nothing is known of what an earlier process stored");
        known.stored(&[1], false);
        assert!(known.is_new(2) && !known.is_new(1));
    }

    #[test]
    fn a_mistake_costs_trust_for_longer_each_time_until_guesses_hold_again() {
        let mut known = KnownBuckets::default();
        known.stored(&[], false);
        let series = |known: &mut KnownBuckets| {
            known.mistaken();
            let mut series = 0;
            while !known.is_new(7) {
                known.stored(&[], false);
                series += 1;
            }
            series
        };
        assert_eq!([series(&mut known), series(&mut known), series(&mut known)], [2, 4, 8]);
        (0..10).for_each(|_| known.stored(&[], true));
        assert_eq!(series(&mut known), 2);
        for _ in 0..10 {
            series(&mut known);
        }
        assert_eq!(series(&mut known), MAX_CAUTION);
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_are_forgotten() {
        let mut known = KnownBuckets::default();
        let keys: Vec<u64> = (0..3 * GENERATION as u64).collect();
        known.stored(&keys, false);
        assert!(known.young.len() + known.old.len() <= 2 * GENERATION);
        assert!(known.is_new(0) && !known.is_new(3 * GENERATION as u64 - 1));
    }
}
