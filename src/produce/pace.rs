//! How many records are due: pure arithmetic over the time since the start.
//!
//! Owns: a steady rate and what happens after a stall. Does not own: clocks and sleeping (`send`).

use std::time::Duration;

/// What a stall may leave to be caught up. More would follow it as a burst far above the rate.
const MAX_CATCH_UP: Duration = Duration::from_secs(1);

/// A steady rate: record number `i` (from zero) is due `i / rate` seconds after the start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    per_second: f64,
    /// Time that stalls have cost and nobody catches up.
    forgiven: Duration,
}

impl Pace {
    /// `per_second` is positive.
    pub(super) fn new(per_second: f64) -> Self {
        Self {
            per_second,
            forgiven: Duration::ZERO,
        }
    }

    /// Records that may be sent now, `elapsed` after the start, when `sent` have been.
    pub(super) fn due(&mut self, elapsed: Duration, sent: u64) -> u64 {
        let late = elapsed.saturating_sub(self.forgiven).saturating_sub(self.offset(sent));
        self.forgiven += late.saturating_sub(MAX_CATCH_UP);
        let running = elapsed.saturating_sub(self.forgiven);
        let due = (running.as_secs_f64() * self.per_second) as u64 + 1;
        due.saturating_sub(sent)
    }

    /// How long after the start the next record is due.
    pub(super) fn next_at(&self, sent: u64) -> Duration {
        self.forgiven + self.offset(sent)
    }

    fn offset(&self, sent: u64) -> Duration {
        Duration::from_secs_f64(sent as f64 / self.per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records sent within `length` by a sender that looks at the clock every `tick`.
    fn sent(per_second: f64, tick: Duration, length: Duration) -> u64 {
        let mut pace = Pace::new(per_second);
        let (mut sent, mut elapsed) = (0, Duration::ZERO);
        while elapsed < length {
            sent += pace.due(elapsed, sent);
            elapsed += tick;
        }
        sent
    }

    #[test]
    fn ten_seconds_hold_the_rate_to_one_percent() {
        let length = Duration::from_secs(10);
        for per_second in [10.0, 99.5, 1_000.0, 333_333.0] {
            for tick in [1, 7, 50] {
                let sent = sent(per_second, Duration::from_millis(tick), length) as f64;
                let expected = per_second * 10.0;
                assert!(
                    (sent - expected).abs() <= (expected * 0.01).max(1.0),
                    "{per_second}/s: {sent}"
                );
            }
        }
    }

    #[test]
    fn the_first_record_is_due_at_once_and_the_next_after_its_interval() {
        let mut pace = Pace::new(0.5);
        assert_eq!(pace.due(Duration::ZERO, 0), 1);
        assert_eq!(pace.due(Duration::from_millis(1_999), 1), 0);
        assert_eq!(pace.next_at(1), Duration::from_secs(2));
        assert_eq!(pace.due(Duration::from_secs(2), 1), 1);
    }

    #[test]
    fn a_short_stall_is_caught_up_and_a_long_one_is_not() {
        let mut pace = Pace::new(100.0);
        assert_eq!(pace.due(Duration::from_millis(500), 0), 51);
        let after_a_minute = pace.due(Duration::from_secs(60), 51);
        assert!((100..=102).contains(&after_a_minute), "{after_a_minute}");
        assert_eq!(pace.due(Duration::from_secs(60), 51 + after_a_minute), 0);
    }
}
