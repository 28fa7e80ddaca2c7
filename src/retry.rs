//! The one backoff of this crate: exponential, jittered, capped.
//!
//! Owns: how long to wait before the next try. Does not own: whether to try again — the caller's loop
//! decides, and watches for cancellation while it sleeps.

use std::time::Duration;

use rand::RngExt;

const FIRST: Duration = Duration::from_millis(100);
/// Above this a recovered service would sit idle noticeably; below it a dead one is hammered.
const LONGEST: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub struct Backoff {
    tries: u32,
}

impl Backoff {
    /// Delay before the next try: doubles from 100 ms to 10 s, each time cut at random by up to a half so
    /// that many instances do not come back at the same instant.
    pub fn next_delay(&mut self) -> Duration {
        let full = ceiling(self.tries);
        self.tries = self.tries.saturating_add(1);
        full.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

fn ceiling(tries: u32) -> Duration {
    FIRST.saturating_mul(1 << tries.min(16)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_start_over_after_a_reset() {
        assert_eq!(ceiling(0), FIRST);
        assert_eq!(ceiling(3), FIRST * 8);
        assert_eq!(ceiling(40), LONGEST);
        let mut backoff = Backoff { tries: 40 };
        assert!((LONGEST / 2..=LONGEST).contains(&backoff.next_delay()));
        backoff.reset();
        assert!(backoff.next_delay() <= FIRST);
    }
}
