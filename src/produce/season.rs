//! When things happen: event times that follow the hours of the day and the days of the week.
//!
//! Owns: the rhythm of the sample shop, and the spreading of records over a window. Integers only, so that the
//! same seed gives the same milliseconds on every machine.
//! Does not own: when records are sent (`pace`).
//!
//! Every hour has a weight; a record's place in the sequence is a share of the summed weights ("mass"), and its
//! time is where that share lies. Records ascend in time, so the current hour only moves forward.

use chrono::{DateTime, Datelike, TimeZone, Timelike};
use chrono_tz::Europe::Paris;

const HOUR_MS: i64 = 3_600_000;

/// Relative activity by hour of the day in France: asleep at night, busy at noon and in the evening.
const HOURS: [u64; 24] = [
    4, 2, 1, 1, 1, 2, 6, 14, 26, 40, 52, 58, 62, 56, 50, 50, 54, 62, 70, 68, 60, 44, 24, 10,
];

/// From Monday: Saturday is the strongest day, Sunday the weakest.
const DAYS: [u64; 7] = [8, 8, 9, 9, 11, 15, 6];

/// Weight of an hour, given its number since 1970.
fn weight(hour: i64) -> u64 {
    let local = Paris.timestamp_opt(hour * 3600, 0).single();
    local.map_or(1, |l| {
        HOURS[l.hour() as usize] * DAYS[l.weekday().num_days_from_monday() as usize]
    })
}

/// Mean weight of an hour over a week.
fn mean_weight() -> u64 {
    HOURS.iter().sum::<u64>() * DAYS.iter().sum::<u64>() / (24 * 7)
}

/// The event times of a sequence of records, in order.
pub(super) struct Season {
    index: u64,
    /// Mass of one record, as a fraction.
    mass: u128,
    records: u128,
    /// Current stretch of equal weight: an hour, or less of it at the window's start.
    start_ms: i64,
    end_ms: i64,
    weight: u128,
    mass_before: u128,
}

impl Season {
    /// `count` records over `[since_ms, until_ms)`.
    pub(super) fn over(since_ms: i64, until_ms: i64, count: u64) -> Self {
        let mut total = 0;
        let mut start = since_ms;
        while start < until_ms {
            let end = next_hour(start).min(until_ms);
            total += u128::from(weight(start.div_euclid(HOUR_MS))) * (end - start) as u128;
            start = end;
        }
        Self::new(since_ms, total, u128::from(count.max(1)))
    }

    /// From `since_ms` for ever, `per_second` records on the average.
    pub(super) fn endless(since_ms: i64, per_second: f64) -> Self {
        let per_million_seconds = ((per_second * 1e6) as u128).max(1);
        let mass = u128::from(mean_weight()) * 1_000 * 1_000_000;
        Self::new(since_ms, mass, per_million_seconds)
    }

    fn new(since_ms: i64, mass: u128, records: u128) -> Self {
        Self {
            index: 0,
            mass,
            records,
            start_ms: since_ms,
            end_ms: next_hour(since_ms),
            weight: u128::from(weight(since_ms.div_euclid(HOUR_MS))),
            mass_before: 0,
        }
    }

    /// The next record's time, milliseconds since 1970; `jitter` places it within its share.
    pub(super) fn next(&mut self, jitter: u32) -> i64 {
        let place = (u128::from(self.index) << 32) + u128::from(jitter);
        let target = place * self.mass / (self.records << 32);
        self.index += 1;
        loop {
            let stretch = self.weight * (self.end_ms - self.start_ms) as u128;
            if target < self.mass_before + stretch {
                return self.start_ms + ((target - self.mass_before) / self.weight) as i64;
            }
            self.mass_before += stretch;
            self.start_ms = self.end_ms;
            self.end_ms = next_hour(self.start_ms);
            self.weight = u128::from(weight(self.start_ms.div_euclid(HOUR_MS)));
        }
    }
}

fn next_hour(at_ms: i64) -> i64 {
    (at_ms.div_euclid(HOUR_MS) + 1) * HOUR_MS
}

/// First and last millisecond the four-digit years of RFC 3339 can tell.
pub(super) fn is_tellable(at_ms: i64) -> bool {
    DateTime::from_timestamp_millis(at_ms).is_some_and(|t| (1..=9999).contains(&t.year()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday 2025-12-01T00:00Z.
    const SINCE: i64 = 1_764_547_200_000;
    const WEEK: i64 = 7 * 24 * HOUR_MS;

    #[test]
    fn times_ascend_through_the_whole_window_and_never_leave_it() {
        let (count, until) = (100_000, SINCE + WEEK + 90 * 60_000);
        let mut season = Season::over(SINCE + 1_234, until, count);
        let times: Vec<i64> = (0..count)
            .map(|i| season.next((i as u32).wrapping_mul(2_654_435_761)))
            .collect();
        assert!(times.is_sorted());
        assert!(times[0] >= SINCE + 1_234 && times[times.len() - 1] < until);
        assert!(
            until - times[times.len() - 1] < HOUR_MS,
            "the end of the window is reached"
        );
    }

    #[test]
    fn noon_is_busier_than_night_and_saturday_than_sunday() {
        let count = 200_000;
        let mut season = Season::over(SINCE, SINCE + WEEK, count);
        let (mut hours, mut days) = ([0_u64; 24], [0_u64; 7]);
        for _ in 0..count {
            let at = DateTime::from_timestamp_millis(season.next(0))
                .expect("in range")
                .with_timezone(&Paris);
            hours[at.hour() as usize] += 1;
            days[at.weekday().num_days_from_monday() as usize] += 1;
        }
        assert!(hours[12] > 20 * hours[3], "{hours:?}");
        assert!(days[5] > 2 * days[6], "{days:?}");
        let share = |weights: &[u64], i: usize| weights[i] as f64 / weights.iter().sum::<u64>() as f64;
        assert!((share(&days, 5) - share(&DAYS, 5)).abs() < 0.01, "{days:?}");
    }

    #[test]
    fn an_endless_season_keeps_its_average() {
        let mut season = Season::endless(SINCE, 2.0);
        let times: Vec<i64> = (0..2 * 7 * 86_400).map(|_| season.next(0)).collect();
        let seconds = (times[times.len() - 1] - SINCE) / 1_000;
        assert!((seconds - 7 * 86_400).abs() < 86_400 / 2, "{seconds}");
    }

    #[test]
    fn a_single_record_lies_in_the_window() {
        let at = Season::over(SINCE, SINCE + 1, 1).next(u32::MAX);
        assert_eq!(at, SINCE);
    }
}
