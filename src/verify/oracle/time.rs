//! Timestamps and days as texts and numbers may give them.
//!
//! Owns: the settled reading of RFC 3339 (offset required, no space, no second 60, digits beyond the
//! microsecond cut off, years 0001–9999 both as written and in UTC). chrono's own reader is not asked,
//! because it is laxer in several of these points; its calendar is.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Utc};
use chrono_tz::Tz;

use super::number::Number;
use crate::schema::EpochUnit;

/// Microseconds since 1970 of an RFC 3339 text.
pub fn timestamp(text: &str) -> Option<i64> {
    // Below, every slice is of ASCII: positions are bytes.
    if !text.is_ascii() || text.len() < "0001-01-01T00:00:00Z".len() {
        return None;
    }
    let day = date(&text[..10])?;
    let clock = &text[11..19];
    let separators = (&text[10..11], &clock[2..3], &clock[5..6]);
    if !matches!(separators, ("T" | "t", ":", ":")) {
        return None;
    }
    let (hour, minute, second) = (
        two_digits(&clock[..2], 23)?,
        two_digits(&clock[3..5], 59)?,
        two_digits(&clock[6..], 59)?,
    );
    let (micros, zone) = fraction(&text[19..])?;
    let local = day.and_hms_micro_opt(hour, minute, second, micros)?;
    let utc = local.and_utc().timestamp_micros() - offset_seconds(zone)? * 1_000_000;
    within_years(utc)
}

/// Microseconds since 1970 of an epoch number; what is finer is cut to the microsecond below.
pub fn epoch_number(number: &Number, unit: EpochUnit) -> Option<i64> {
    let to_micros = match unit {
        EpochUnit::Seconds => 6,
        EpochUnit::Milliseconds => 3,
        EpochUnit::Microseconds => 0,
    };
    within_years(i64::try_from(number.floor_scaled(to_micros)?).ok()?)
}

/// `YYYY-MM-DD`, years 0001–9999.
pub fn date(text: &str) -> Option<NaiveDate> {
    if !text.is_ascii() || text.len() != 10 || &text[4..5] != "-" || &text[7..8] != "-" {
        return None;
    }
    let year = 100 * two_digits(&text[..2], 99)? + two_digits(&text[2..4], 99)?;
    if year == 0 {
        return None;
    }
    NaiveDate::from_ymd_opt(year as i32, two_digits(&text[5..7], 12)?, two_digits(&text[8..], 31)?)
}

/// The calendar day of an instant in a zone; `None` outside years 0001–9999.
pub fn local_date(micros: i64, zone: Tz) -> Option<NaiveDate> {
    let day = local(micros, zone)?.date();
    (1..=9999).contains(&day.year()).then_some(day)
}

/// What a clock on the wall of that zone shows at that instant.
pub fn local(micros: i64, zone: Tz) -> Option<NaiveDateTime> {
    Some(
        DateTime::<Utc>::from_timestamp_micros(micros)?
            .with_timezone(&zone)
            .naive_local(),
    )
}

/// Days since 1970.
pub fn days(date: NaiveDate) -> i32 {
    date.num_days_from_ce() - NaiveDate::default().num_days_from_ce()
}

fn within_years(micros: i64) -> Option<i64> {
    let year = DateTime::<Utc>::from_timestamp_micros(micros)?.year();
    (1..=9999).contains(&year).then_some(micros)
}

fn two_digits(text: &str, max: u32) -> Option<u32> {
    let all_digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
    let value = all_digits.then(|| text.parse::<u32>().ok())??;
    (value <= max).then_some(value)
}

/// Splits `.123456789Z` into microseconds and what follows the digits.
fn fraction(text: &str) -> Option<(u32, &str)> {
    let Some(rest) = text.strip_prefix('.') else {
        return Some((0, text));
    };
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    if digits == 0 {
        return None;
    }
    let six = format!("{:0<6}", &rest[..digits.min(6)]);
    Some((six.parse().ok()?, &rest[digits..]))
}

/// Seconds east of UTC of `Z`, `z` or `±HH:MM`.
fn offset_seconds(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let sign = match text.get(..1)? {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    if text.len() != 6 || &text[3..4] != ":" {
        return None;
    }
    let seconds = two_digits(&text[1..3], 23)? * 3600 + two_digits(&text[4..], 59)? * 60;
    Some(sign * i64::from(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_read_to_the_microsecond() {
        let cases = [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01t00:00:01z", 1_000_000),
            ("1970-01-01T00:00:00.1Z", 100_000),
            ("1970-01-01T00:00:00.1234569Z", 123_456),
            ("1969-12-31T23:59:59.9999999Z", -1),
            ("1970-01-01T01:00:00+01:00", 0),
            ("1969-12-31T23:30:00-00:30", 0),
            ("1970-01-01T00:00:00-00:00", 0),
            ("2024-02-29T12:00:00Z", 1_709_208_000_000_000),
            ("0001-01-01T00:00:00Z", -62_135_596_800_000_000),
            ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999_999),
        ];
        for (text, micros) in cases {
            assert_eq!(timestamp(text), Some(micros), "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_timestamps() {
        for text in [
            "",
            "1970-01-01",
            "1970-01-01T00:00:00",
            "1970-01-01 00:00:00Z",
            "1970-01-01T00:00Z",
            "1970-01-01T00:00:60Z",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:60:00Z",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T00:00:00,5Z",
            "1970-01-01T00:00:00+0100",
            "1970-01-01T00:00:00+01",
            "1970-01-01T00:00:00+24:00",
            "1970-01-01T00:00:00+01:60",
            "1970-01-01T00:00:00 Z",
            "1970-01-01T00:00:00ZZ",
            " 1970-01-01T00:00:00Z",
            "1970-1-1T00:00:00Z",
            "1970-02-30T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "+1970-01-01T00:00:00Z",
            "0000-12-31T23:59:59Z",
            "0001-01-01T00:30:00+01:00",
            "9999-12-31T23:30:00-01:00",
            "1970-01-01T00:00:0éZ",
        ] {
            assert_eq!(timestamp(text), None, "{text}");
        }
    }

    #[test]
    fn epoch_numbers_count_in_their_unit() {
        let read = |text, unit| epoch_number(&Number::read(text), unit);
        assert_eq!(read("1.5", EpochUnit::Seconds), Some(1_500_000));
        assert_eq!(read("1500", EpochUnit::Milliseconds), Some(1_500_000));
        assert_eq!(read("-1", EpochUnit::Microseconds), Some(-1));
        assert_eq!(read("1e15", EpochUnit::Seconds), None);
    }

    #[test]
    fn the_day_is_that_of_the_zone() {
        let instant = timestamp("2024-06-30T22:30:00Z").unwrap();
        assert_eq!(local_date(instant, Tz::UTC), date("2024-06-30"));
        assert_eq!(local_date(instant, Tz::Europe__Paris), date("2024-07-01"));
        assert_eq!(
            local_date(timestamp("9999-12-31T23:30:00Z").unwrap(), Tz::Europe__Paris),
            None
        );
        assert_eq!(days(date("1970-01-02").unwrap()), 1);
    }
}
