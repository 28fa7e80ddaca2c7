//! Instants and calendar days: RFC 3339 text, `YYYY-MM-DD` text, epoch counts, the day in a time zone.
//!
//! Owns: the proleptic Gregorian arithmetic and the bound of years 0001–9999, which is what every reader of the
//! lake can show. Both the local date as written and the instant in UTC have to lie inside it.
//! Does not own: which JSON types may hold a timestamp (`value`).
//!
//! Fixed positions and integers only: `chrono` costs several times as much per record, and serves as the
//! oracle of the tests instead.

use chrono::{DateTime, Offset, TimeZone};
use chrono_tz::Tz;

use super::number::{Number, Scaled};
use crate::schema::EpochUnit;

const SECOND: i64 = 1_000_000;
const DAY_SECONDS: i64 = 86_400;
const DAY: i64 = DAY_SECONDS * SECOND;

/// 0001-01-01 and 9999-12-31 in days since 1970-01-01.
const FIRST_DAY: i64 = days_from_civil(1, 1, 1);
const LAST_DAY: i64 = days_from_civil(9999, 12, 31);

/// Why a text or a count names no instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Not of the required form.
    Form,
    /// Of the form, but no such day or time of day (February 30th, hour 24, second 60).
    NoSuchTime,
    /// Outside years 0001–9999, as written or in UTC.
    OutsideYears,
}

/// Microseconds since 1970 in UTC of an RFC 3339 `date-time`; digits beyond microseconds are cut off.
pub(super) fn parse_rfc3339(text: &[u8]) -> Result<i64, Unreadable> {
    let (head, tail) = text.split_at_checked(19).ok_or(Unreadable::Form)?;
    let day = parse_day(&head[..10]);
    if !(matches!(head[10], b'T' | b't') && head[13] == b':' && head[16] == b':') {
        return Err(Unreadable::Form);
    }
    let (hour, minute, second) = (two(head, 11)?, two(head, 14)?, two(head, 17)?);
    let (micros, zone) = parse_fraction(tail)?;
    let offset = parse_offset(zone)?;
    // The day is judged after the form of the rest, so that garbage is called garbage.
    let day = day?;
    if hour > 23 || minute > 59 || second > 59 {
        return Err(Unreadable::NoSuchTime);
    }
    let seconds = day * DAY_SECONDS + hour * 3600 + minute * 60 + second - offset;
    within_years(seconds * SECOND + micros)
}

/// Days since 1970 of a strict `YYYY-MM-DD`.
pub(super) fn parse_date(text: &[u8]) -> Result<i32, Unreadable> {
    match text.len() {
        10 => parse_day(text).map(|day| day as i32),
        _ => Err(Unreadable::Form),
    }
}

/// Microseconds since 1970 of an epoch count, scaled exactly; what lies beyond microseconds is cut off towards
/// −∞, so that a cut never moves an instant to a later one.
pub(super) fn from_epoch(count: &Number<'_>, unit: EpochUnit) -> Result<i64, Unreadable> {
    let power = match unit {
        EpochUnit::Seconds => 6,
        EpochUnit::Milliseconds => 3,
        EpochUnit::Microseconds => 0,
    };
    let micros = match count.scaled(power) {
        Scaled::Exact(micros) | Scaled::Inexact { floor: micros } => micros,
        Scaled::TooLarge => return Err(Unreadable::OutsideYears),
    };
    within_years(i64::try_from(micros).map_err(|_| Unreadable::OutsideYears)?)
}

/// Kafka's record timestamp in microseconds; `None` where no reader could show it. A producer may write any
/// number there, and a record is not worth less for it.
pub(super) fn from_kafka(millis: i64) -> Option<i64> {
    within_years(millis.checked_mul(1000)?).ok()
}

/// The calendar day of an instant in a zone, in days since 1970; `None` outside years 0001–9999.
pub(super) fn local_day(micros: i64, zone: Tz) -> Option<i32> {
    let mut seconds = micros.div_euclid(SECOND);
    if !matches!(zone, Tz::UTC | Tz::Etc__UTC) {
        let instant = DateTime::from_timestamp(seconds, 0)?.naive_utc();
        seconds += i64::from(zone.offset_from_utc_datetime(&instant).fix().local_minus_utc());
    }
    let day = seconds.div_euclid(DAY_SECONDS);
    (FIRST_DAY..=LAST_DAY).contains(&day).then_some(day as i32)
}

fn within_years(micros: i64) -> Result<i64, Unreadable> {
    if (FIRST_DAY * DAY..(LAST_DAY + 1) * DAY).contains(&micros) {
        Ok(micros)
    } else {
        Err(Unreadable::OutsideYears)
    }
}

/// `YYYY-MM-DD` in ten bytes.
fn parse_day(text: &[u8]) -> Result<i64, Unreadable> {
    if text[4] != b'-' || text[7] != b'-' {
        return Err(Unreadable::Form);
    }
    let year = two(text, 0)? * 100 + two(text, 2)?;
    let (month, day) = (two(text, 5)?, two(text, 8)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return Err(Unreadable::NoSuchTime);
    }
    if year == 0 {
        return Err(Unreadable::OutsideYears);
    }
    Ok(days_from_civil(year, month, day))
}

/// An optional `.digits`, in microseconds, and the rest.
fn parse_fraction(text: &[u8]) -> Result<(i64, &[u8]), Unreadable> {
    let Some(b'.') = text.first() else {
        return Ok((0, text));
    };
    let digits = text[1..].iter().take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 {
        return Err(Unreadable::Form);
    }
    let kept = digits.min(6);
    let mut micros = text[1..=kept]
        .iter()
        .fold(0, |value, b| value * 10 + i64::from(b - b'0'));
    for _ in kept..6 {
        micros *= 10;
    }
    Ok((micros, &text[1 + digits..]))
}

/// `Z` or `±HH:MM`, in seconds east of UTC. `-00:00` (offset unknown, instant known) is UTC.
fn parse_offset(text: &[u8]) -> Result<i64, Unreadable> {
    match text {
        [b'Z' | b'z'] => Ok(0),
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (two(text, 1)?, two(text, 4)?);
            if hours > 23 || minutes > 59 {
                return Err(Unreadable::NoSuchTime);
            }
            let seconds = hours * 3600 + minutes * 60;
            Ok(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => Err(Unreadable::Form),
    }
}

/// Two ASCII digits at `at`.
fn two(text: &[u8], at: usize) -> Result<i64, Unreadable> {
    let (tens, ones) = (text[at].wrapping_sub(b'0'), text[at + 1].wrapping_sub(b'0'));
    if tens > 9 || ones > 9 {
        return Err(Unreadable::Form);
    }
    Ok(i64::from(tens * 10 + ones))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar, for years from 0 on. Counting years from March
/// puts the leap day last, which makes the day of the year a straight line: (153 · month + 2) / 5.
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    // Shifted by one 400-year cycle (146,097 days), so that the division below never sees a negative year.
    let year = year + 400;
    let before_year = year * 365 + year / 4 - year / 100 + year / 400;
    before_year + (153 * month + 2) / 5 + (day - 1) - 719_468 - 146_097
}

#[cfg(test)]
mod tests;
