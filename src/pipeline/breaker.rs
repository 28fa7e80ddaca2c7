//! The circuit breaker: stops a stream whose share of dead letters is too high.
//!
//! Owns: the share over the last records. Does not own: stopping. Off unless `max_dead_letters` is set.

use std::collections::VecDeque;

use crate::config::BREAKER_WINDOW;

/// Judged per batch, over whole batches that make up at least the window: cheaper than a ring of single
/// records, and exact enough for a rate.
#[derive(Debug)]
pub struct Breaker {
    limit: Option<f64>,
    /// (records, dead letters) per batch, oldest first.
    batches: VecDeque<(usize, usize)>,
    records: usize,
    letters: usize,
}

impl Breaker {
    pub fn new(limit: Option<f64>) -> Self {
        Self {
            limit,
            batches: VecDeque::new(),
            records: 0,
            letters: 0,
        }
    }

    /// The share of dead letters when it is above the limit. Never before a whole window was seen: the first
    /// record of a stream being bad is no 100 %.
    pub fn trips(&mut self, records: usize, letters: usize) -> Option<f64> {
        let limit = self.limit?;
        self.batches.push_back((records, letters));
        self.records += records;
        self.letters += letters;
        while let Some(&(oldest_records, oldest_letters)) = self.batches.front()
            && self.records - oldest_records >= BREAKER_WINDOW
        {
            self.batches.pop_front();
            self.records -= oldest_records;
            self.letters -= oldest_letters;
        }
        let share = self.letters as f64 / self.records as f64;
        (self.records >= BREAKER_WINDOW && share > limit).then_some(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trips_only_above_the_limit_and_after_a_whole_window() {
        let mut breaker = Breaker::new(Some(0.05));
        assert_eq!(breaker.trips(1, 1), None);
        assert_eq!(breaker.trips(9_999, 400), None);
        assert!(breaker.trips(1_000, 400).is_some());
    }

    #[test]
    fn forgets_what_lies_before_the_window() {
        let mut breaker = Breaker::new(Some(0.05));
        breaker.trips(5_000, 200);
        for _ in 0..4 {
            assert_eq!(breaker.trips(5_000, 250), None);
        }
        assert!(breaker.trips(5_000, 251).is_some());
    }

    #[test]
    fn is_off_without_a_limit() {
        assert_eq!(Breaker::new(None).trips(20_000, 20_000), None);
    }
}
