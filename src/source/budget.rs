//! The byte budget for everything fetched and not yet taken by both sinks, shared by all streams.
//!
//! Owns: the accounting. Does not own: what a source does when it is spent (it pauses, and goes on polling).

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A batch lives twice for a moment: as payload bytes and as Arrow columns.
const COPIES: u64 = 2;
const UNIT: u64 = 1024;

#[derive(Clone, Debug)]
pub struct Budget {
    units: Arc<Semaphore>,
    total: u32,
}

impl Budget {
    pub fn new(bytes: u64) -> Self {
        let total = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).max(1);
        Self {
            units: Arc::new(Semaphore::new(total as usize)),
            total,
        }
    }

    /// The share of a batch with this many payload bytes, or `None` while the budget is spent. A batch larger
    /// than the whole budget gets all of it, else it could never pass.
    pub fn try_take(&self, payload_bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = (payload_bytes as u64 * COPIES)
            .div_ceil(UNIT)
            .clamp(1, u64::from(self.total)) as u32;
        self.units.clone().try_acquire_many_owned(units).ok()
    }

    /// A paused source may go on: two of its batches fit. One alone would make it flap, and every pause throws
    /// away what was prefetched.
    pub fn has_room(&self, batch_bytes: usize) -> bool {
        let units = (2 * batch_bytes as u64 * COPIES)
            .div_ceil(UNIT)
            .clamp(1, u64::from(self.total));
        self.units.available_permits() as u64 >= units
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spent_budget_refuses_until_a_batch_is_let_go() {
        let budget = Budget::new(100 * 1024);
        let first = budget.try_take(40 * 1024).expect("80 of 100 KiB");
        assert!(budget.try_take(40 * 1024).is_none());
        assert!(!budget.has_room(20 * 1024));
        drop(first);
        assert!(budget.has_room(20 * 1024) && budget.try_take(40 * 1024).is_some());
    }

    #[test]
    fn a_batch_larger_than_the_budget_passes_alone() {
        let budget = Budget::new(10 * 1024);
        let whole = budget.try_take(1 << 30).expect("gets everything");
        assert!(budget.try_take(1).is_none());
        drop(whole);
    }
}
