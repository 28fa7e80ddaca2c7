//! Which bucket an instant falls into: the stream's calendar, divided evenly.
//!
//! Owns: the start of a bucket as an instant, also where a zone's clock jumps.
//! Does not own: what is added up per bucket (`rollup`).
//!
//! Buckets divide the **wall clock** of the stream's zone, so "per hour" and "per day" mean what people there
//! read. Where the clock goes back, the repeated wall time is told apart by its own start (each of the two
//! hours is a bucket); where it goes forward over a bucket's start, the bucket starts at the jump. A calendar day
//! is one bucket, also where the clock shows its midnight twice: it starts at the first.

use std::ops::RangeInclusive;

use chrono::{DateTime, Days, LocalResult, NaiveDateTime, Offset as _, TimeDelta, TimeZone, Timelike};
use chrono_tz::Tz;

use crate::config::Every;

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
/// Instants that every calendar computation here can handle: years -9999 to 9999, in seconds. Decoded records
/// lie in years 1–9999; clamping keeps the arithmetic total without a second error path.
const SECONDS: RangeInclusive<i64> = -377_705_116_800..=253_402_300_799;

/// Maps instants to bucket starts for one zone and one width.
#[derive(Clone, Debug)]
pub struct Buckets {
    zone: Tz,
    every: Every,
    /// The last second asked for and its answer: neighbouring records share it. Not a longer span: an offset
    /// may change at any second, and buckets are not contiguous where the clock goes back over midnight.
    last: Option<(i64, i64)>,
}

impl Buckets {
    pub fn new(zone: Tz, every: Every) -> Self {
        Self {
            zone,
            every,
            last: None,
        }
    }

    /// Start of the bucket that holds `micros` (microseconds UTC), in microseconds UTC.
    pub fn start(&mut self, micros: i64) -> i64 {
        // Offsets and widths are whole seconds, so the fraction never matters; floor, also before 1970.
        let second = micros.div_euclid(MICROS_PER_SECOND);
        if self.zone == Tz::UTC {
            return (second - second.rem_euclid(self.width())) * MICROS_PER_SECOND;
        }
        match self.last {
            Some((asked, start)) if asked == second => start,
            _ => {
                let start = self.local_start(second) * MICROS_PER_SECOND;
                self.last = Some((second, start));
                start
            }
        }
    }

    fn width(&self) -> i64 {
        match self.every {
            Every::Seconds(seconds) => i64::from(seconds.max(1)),
            Every::Day => SECONDS_PER_DAY,
        }
    }

    fn local_start(&self, second: i64) -> i64 {
        let wall = self.wall(second);
        let into = i64::from(wall.num_seconds_from_midnight()) % self.width();
        let start = wall - TimeDelta::seconds(into);
        match self.zone.from_local_datetime(&start) {
            LocalResult::Single(at) => at.timestamp(),
            LocalResult::Ambiguous(first, _) if self.every == Every::Day => first.timestamp(),
            // The wall showed this start twice: the later one that has already passed is ours.
            LocalResult::Ambiguous(first, second_time) => {
                let (early, late) = (first.timestamp(), second_time.timestamp());
                if late <= second { late } else { early }
            }
            LocalResult::None => self.jump_over(start),
        }
    }

    /// The first instant at which the wall shows `start` or later, for a `start` that the clock jumped over.
    fn jump_over(&self, start: NaiveDateTime) -> i64 {
        // Within two days around a jump the wall only goes forward, so halving finds the jump itself.
        let mut before = start
            .checked_sub_days(Days::new(1))
            .unwrap_or(start)
            .and_utc()
            .timestamp();
        let mut after = start
            .checked_add_days(Days::new(1))
            .unwrap_or(start)
            .and_utc()
            .timestamp();
        while after - before > 1 {
            let middle = before + (after - before) / 2;
            if self.wall(middle) >= start {
                after = middle;
            } else {
                before = middle;
            }
        }
        after
    }

    fn wall(&self, second: i64) -> NaiveDateTime {
        let clamped = second.clamp(*SECONDS.start(), *SECONDS.end());
        let utc = DateTime::from_timestamp(clamped, 0)
            .expect("years -9999 to 9999 are within chrono's range")
            .naive_utc();
        let offset = self.zone.offset_from_utc_datetime(&utc).fix();
        utc + TimeDelta::seconds(i64::from(offset.local_minus_utc()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text)
            .expect("a timestamp")
            .timestamp_micros()
    }

    fn start(zone: Tz, every: Every, text: &str) -> String {
        let start = Buckets::new(zone, every).start(micros(text));
        DateTime::from_timestamp_micros(start)
            .expect("in range")
            .to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    }

    #[test]
    fn utc_buckets_floor_also_before_1970() {
        let minute = Every::Seconds(60);
        assert_eq!(
            start(Tz::UTC, minute, "2026-01-01T10:20:59.999999Z"),
            "2026-01-01T10:20:00Z"
        );
        assert_eq!(start(Tz::UTC, minute, "1969-12-31T23:59:59.5Z"), "1969-12-31T23:59:00Z");
        assert_eq!(
            start(Tz::UTC, Every::Day, "1969-12-31T23:59:59.5Z"),
            "1969-12-31T00:00:00Z"
        );
        assert_eq!(
            start(Tz::UTC, Every::Seconds(3600), "0001-01-01T00:00:00Z"),
            "0001-01-01T00:00:00Z"
        );
    }

    #[test]
    fn a_day_is_the_zones_calendar_day_as_an_instant() {
        assert_eq!(
            start(Tz::Europe__Paris, Every::Day, "2026-07-01T21:59:59Z"),
            "2026-06-30T22:00:00Z"
        );
        assert_eq!(
            start(Tz::Europe__Paris, Every::Day, "2026-07-01T22:00:00Z"),
            "2026-07-01T22:00:00Z"
        );
        // the 23-hour day: its start keeps the winter offset although its afternoon is in summer time
        assert_eq!(
            start(Tz::Europe__Paris, Every::Day, "2026-03-29T15:00:00Z"),
            "2026-03-28T23:00:00Z"
        );
    }

    #[test]
    fn a_width_of_hours_divides_the_wall_clock_across_a_jump() {
        // 00:00–06:00 wall time on the day the clock goes forward: one bucket of five hours
        assert_eq!(
            start(Tz::Europe__Paris, Every::Seconds(21_600), "2026-03-29T03:30:00Z"),
            "2026-03-28T23:00:00Z"
        );
        // a zone with half an hour: hours start at the half hour UTC
        assert_eq!(
            start(Tz::Asia__Kolkata, Every::Seconds(3600), "2026-01-01T00:10:00Z"),
            "2025-12-31T23:30:00Z"
        );
    }

    #[test]
    fn the_repeated_hour_is_a_bucket_of_its_own() {
        let hour = Every::Seconds(3600);
        assert_eq!(
            start(Tz::Europe__Paris, hour, "2026-10-25T00:30:00Z"),
            "2026-10-25T00:00:00Z"
        );
        assert_eq!(
            start(Tz::Europe__Paris, hour, "2026-10-25T01:30:00Z"),
            "2026-10-25T01:00:00Z"
        );
    }

    #[test]
    fn a_bucket_whose_start_was_jumped_over_starts_at_the_jump() {
        // Beirut: midnight of 2022-03-27 did not exist, the day begins at 01:00 wall time = 22:00 UTC
        assert_eq!(
            start(Tz::Asia__Beirut, Every::Day, "2022-03-27T12:00:00Z"),
            "2022-03-26T22:00:00Z"
        );
        // Paris: 02:00–04:00 wall time begins at 03:00
        assert_eq!(
            start(Tz::Europe__Paris, Every::Seconds(7200), "2026-03-29T01:10:00Z"),
            "2026-03-29T01:00:00Z"
        );
    }

    #[test]
    fn a_clock_set_back_over_midnight_keeps_calendar_days_apart() {
        // St John's, 2010-11-07: at 00:01 the clock went back to 23:01 of the day before
        let day = Every::Day;
        assert_eq!(
            start(Tz::America__St_Johns, day, "2010-11-07T02:30:30Z"),
            "2010-11-07T02:30:00Z"
        );
        assert_eq!(
            start(Tz::America__St_Johns, day, "2010-11-07T02:45:00Z"),
            "2010-11-06T02:30:00Z"
        );
    }

    #[test]
    fn a_day_whose_midnight_comes_twice_is_one_bucket() {
        // Azores, 2026-10-25: at 01:00 the clock goes back to 00:00.
        for at in [
            "2026-10-25T00:00:00Z",
            "2026-10-25T00:59:59Z",
            "2026-10-25T01:00:00Z",
            "2026-10-26T00:59:59Z",
        ] {
            assert_eq!(
                start(Tz::Atlantic__Azores, Every::Day, at),
                "2026-10-25T00:00:00Z",
                "{at}"
            );
        }
        assert_eq!(
            start(Tz::Atlantic__Azores, Every::Day, "2026-10-26T01:00:00Z"),
            "2026-10-26T01:00:00Z"
        );
        // Its hours stay apart: 00:00 to 01:00 comes twice.
        let hour = Every::Seconds(3600);
        assert_eq!(
            start(Tz::Atlantic__Azores, hour, "2026-10-25T00:30:00Z"),
            "2026-10-25T00:00:00Z"
        );
        assert_eq!(
            start(Tz::Atlantic__Azores, hour, "2026-10-25T01:30:00Z"),
            "2026-10-25T01:00:00Z"
        );
    }

    #[test]
    fn a_jump_of_half_an_hour_makes_one_hour_shorter_or_longer() {
        let hour = Every::Seconds(3600);
        // Lord Howe, 2026-10-04: 02:00 (+10:30) becomes 02:30 (+11:00); the hour from 02:00 begins at the jump.
        assert_eq!(
            start(Tz::Australia__Lord_Howe, hour, "2026-10-03T15:29:59Z"),
            "2026-10-03T14:30:00Z"
        );
        assert_eq!(
            start(Tz::Australia__Lord_Howe, hour, "2026-10-03T15:45:00Z"),
            "2026-10-03T15:30:00Z"
        );
        assert_eq!(
            start(Tz::Australia__Lord_Howe, hour, "2026-10-03T16:00:00Z"),
            "2026-10-03T16:00:00Z"
        );
        // 2026-04-05: 02:00 (+11:00) becomes 01:30 (+10:30); the hour from 01:00 has ninety minutes.
        assert_eq!(
            start(Tz::Australia__Lord_Howe, hour, "2026-04-04T14:00:00Z"),
            "2026-04-04T14:00:00Z"
        );
        assert_eq!(
            start(Tz::Australia__Lord_Howe, hour, "2026-04-04T15:29:59Z"),
            "2026-04-04T14:00:00Z"
        );
        assert_eq!(
            start(Tz::Australia__Lord_Howe, hour, "2026-04-04T15:30:00Z"),
            "2026-04-04T15:30:00Z"
        );
    }

    #[test]
    fn a_day_bucket_is_one_calendar_day_and_has_all_of_it() {
        for zone in [
            Tz::Europe__Paris,
            Tz::America__New_York,
            Tz::America__St_Johns,
            Tz::Australia__Lord_Howe,
            Tz::Asia__Beirut,
            Tz::Atlantic__Azores,
            Tz::Pacific__Apia,
        ] {
            let mut buckets = Buckets::new(zone, Every::Day);
            let mut starts = std::collections::BTreeMap::new();
            let mut at = micros("2010-01-01T00:00:00Z");
            while at < micros("2012-01-10T00:00:00Z") {
                let day = buckets.wall(at / MICROS_PER_SECOND).date();
                let start = buckets.start(at);
                assert_eq!(
                    *starts.entry(day).or_insert(start),
                    start,
                    "{zone} {day} has two buckets"
                );
                at += 600 * MICROS_PER_SECOND;
            }
            let distinct: std::collections::BTreeSet<i64> = starts.values().copied().collect();
            assert_eq!(distinct.len(), starts.len(), "{zone}: two days in one bucket");
        }
    }

    #[test]
    fn a_day_that_was_left_out_has_no_bucket() {
        // Samoa went from 2011-12-29 straight to 2011-12-31.
        let day = Every::Day;
        assert_eq!(
            start(Tz::Pacific__Apia, day, "2011-12-30T09:59:59Z"),
            "2011-12-29T10:00:00Z"
        );
        assert_eq!(
            start(Tz::Pacific__Apia, day, "2011-12-30T10:00:00Z"),
            "2011-12-30T10:00:00Z"
        );
    }

    #[test]
    fn a_start_never_lies_after_its_instant_and_maps_to_itself() {
        for zone in [
            Tz::Europe__Paris,
            Tz::America__St_Johns,
            Tz::Australia__Lord_Howe,
            Tz::Asia__Beirut,
            Tz::Atlantic__Azores,
            Tz::Pacific__Apia,
        ] {
            for every in [
                Every::Seconds(900),
                Every::Seconds(3600),
                Every::Seconds(21_600),
                Every::Day,
            ] {
                let mut buckets = Buckets::new(zone, every);
                let mut at = micros("2010-01-01T00:07:13Z");
                while at < micros("2012-01-01T00:00:00Z") {
                    let start = buckets.start(at);
                    assert!(start <= at, "{zone} {every:?} {at}: start {start} lies in the future");
                    assert_eq!(
                        buckets.start(start),
                        start,
                        "{zone} {every:?} {at}: the start is in another bucket"
                    );
                    at += 1_777 * MICROS_PER_SECOND;
                }
            }
        }
    }
}
