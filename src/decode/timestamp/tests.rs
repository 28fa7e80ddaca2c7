use chrono::{DateTime, Datelike, NaiveDate, SecondsFormat, Timelike};
use proptest::prelude::*;

use super::*;

fn rfc3339(text: &str) -> Result<i64, Unreadable> {
    parse_rfc3339(text.as_bytes())
}

fn epoch(text: &str, unit: EpochUnit) -> Result<i64, Unreadable> {
    from_epoch(&Number::parse(text.as_bytes()).expect("a number"), unit)
}

#[test]
fn an_offset_or_z_in_either_case_is_read() {
    let noon = 1_735_732_800_000_000;
    for text in [
        "2025-01-01T12:00:00Z",
        "2025-01-01t12:00:00z",
        "2025-01-01T13:00:00+01:00",
        "2025-01-01T00:30:00-11:30",
        "2025-01-01T12:00:00-00:00",
        "2025-01-01T12:00:00.0Z",
        "2025-01-02T11:59:00+23:59",
    ] {
        assert_eq!(rfc3339(text), Ok(noon), "{text}");
    }
}

#[test]
fn digits_beyond_microseconds_are_cut_off() {
    assert_eq!(rfc3339("1970-01-01T00:00:00.1Z"), Ok(100_000));
    assert_eq!(rfc3339("1970-01-01T00:00:00.123456Z"), Ok(123_456));
    assert_eq!(rfc3339("1970-01-01T00:00:00.123456999999999999999Z"), Ok(123_456));
    assert_eq!(rfc3339("1969-12-31T23:59:59.9999999Z"), Ok(-1));
}

#[test]
fn anything_but_rfc3339_with_an_offset_is_refused() {
    for text in [
        "",
        "2025-01-01",
        "2025-01-01T12:00:00",
        "2025-01-01 12:00:00Z",
        "2025-01-01T12:00Z",
        "2025-01-01T12:00:00.Z",
        "2025-01-01T12:00:00,5Z",
        "2025-01-01T12:00:00+0100",
        "2025-01-01T12:00:00+01",
        "2025-01-01T12:00:00+1:00",
        "2025-01-01T12:00:00 Z",
        "2025-01-01T12:00:00ZZ",
        "2025-01-01T12:00:00Z ",
        " 2025-01-01T12:00:00Z",
        "2025-1-01T12:00:00Z",
        "25-01-01T12:00:00Z",
        "+2025-01-01T12:00:00Z",
        "-2025-01-01T12:00:00Z",
        "12025-01-01T12:00:00Z",
        "20250101T120000Z",
        "2025-01-01T12:00:0aZ",
        "2025-01-01T12:00:00\u{2212}01:00",
        "1735732800",
        "now",
    ] {
        assert_eq!(rfc3339(text), Err(Unreadable::Form), "{text}");
    }
}

#[test]
fn days_and_times_that_do_not_exist_are_refused() {
    for text in [
        "2025-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2025-13-01T00:00:00Z",
        "2025-00-01T00:00:00Z",
        "2025-04-31T00:00:00Z",
        "2025-01-00T00:00:00Z",
        "2025-01-01T24:00:00Z",
        "2025-01-01T12:60:00Z",
        "2016-12-31T23:59:60Z",
        "2025-01-01T12:00:00+24:00",
        "2025-01-01T12:00:00+01:60",
    ] {
        assert_eq!(rfc3339(text), Err(Unreadable::NoSuchTime), "{text}");
    }
    assert!(rfc3339("2000-02-29T00:00:00Z").is_ok());
    assert!(rfc3339("2024-02-29T23:59:59Z").is_ok());
}

#[test]
fn years_end_at_0001_and_9999_as_written_and_in_utc() {
    for text in [
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999Z",
        "0001-01-01T00:00:00-01:00",
        "9999-12-31T23:59:59+01:00",
    ] {
        assert!(rfc3339(text).is_ok(), "{text}");
    }
    for text in [
        "0000-12-31T23:59:59Z",
        // in bounds once in UTC, but the date as written is not
        "0000-12-31T23:59:59-01:00",
        // in bounds as written, but not in UTC
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
    ] {
        assert_eq!(rfc3339(text), Err(Unreadable::OutsideYears), "{text}");
    }
}

#[test]
fn a_date_is_ten_bytes_of_a_day_that_exists() {
    assert_eq!(parse_date(b"1970-01-01"), Ok(0));
    assert_eq!(parse_date(b"1969-12-31"), Ok(-1));
    assert_eq!(parse_date(b"0001-01-01"), Ok(-719_162));
    assert_eq!(parse_date(b"9999-12-31"), Ok(2_932_896));
    assert_eq!(parse_date(b"2025-02-29"), Err(Unreadable::NoSuchTime));
    assert_eq!(parse_date(b"0000-01-01"), Err(Unreadable::OutsideYears));
    for text in [
        "",
        "2025-01-1",
        "2025/01/01",
        "20250101",
        "2025-01-01T",
        "2025-01-01T00:00:00Z",
        "-025-01-01",
    ] {
        assert_eq!(parse_date(text.as_bytes()), Err(Unreadable::Form), "{text}");
    }
}

#[test]
fn epoch_counts_scale_exactly_and_cut_towards_minus_infinity() {
    assert_eq!(epoch("1735732800", EpochUnit::Seconds), Ok(1_735_732_800_000_000));
    assert_eq!(epoch("1735732800.25", EpochUnit::Seconds), Ok(1_735_732_800_250_000));
    assert_eq!(epoch("1.7357328e9", EpochUnit::Seconds), Ok(1_735_732_800_000_000));
    assert_eq!(
        epoch("1735732800123", EpochUnit::Milliseconds),
        Ok(1_735_732_800_123_000)
    );
    assert_eq!(
        epoch("1735732800123456", EpochUnit::Microseconds),
        Ok(1_735_732_800_123_456)
    );
    assert_eq!(epoch("0.0000019", EpochUnit::Seconds), Ok(1));
    assert_eq!(epoch("-0.0000001", EpochUnit::Seconds), Ok(-1));
    assert_eq!(epoch("-1.5", EpochUnit::Microseconds), Ok(-2));
}

#[test]
fn epoch_counts_outside_the_years_are_refused() {
    assert_eq!(
        epoch("253402300799.9999999", EpochUnit::Seconds),
        Ok(253_402_300_799_999_999)
    );
    for text in ["253402300800", "-62135596800.0000001", "1e18", "1e999999999", "9e37"] {
        assert_eq!(epoch(text, EpochUnit::Seconds), Err(Unreadable::OutsideYears), "{text}");
    }
    assert_eq!(epoch("-62135596800", EpochUnit::Seconds), Ok(-62_135_596_800_000_000));
}

#[test]
fn a_kafka_timestamp_no_reader_could_show_is_none() {
    assert_eq!(from_kafka(1_735_732_800_123), Some(1_735_732_800_123_000));
    assert_eq!(from_kafka(i64::MAX), None);
    assert_eq!(from_kafka(253_402_300_800_000), None);
}

/// Each zone's last second of a day and the first of the next, where its clock jumps on that day.
#[test]
fn the_day_changes_at_the_zones_midnight_also_where_its_clock_jumps() {
    let day = |text: &str, zone: Tz| {
        let days = local_day(rfc3339(text).expect("a timestamp"), zone).expect("within the years");
        (NaiveDate::default() + chrono::Duration::days(days.into())).to_string()
    };
    for (zone, at, expected) in [
        // Paris goes forward at 02:00: a day of 23 hours …
        (Tz::Europe__Paris, "2026-03-28T22:59:59Z", "2026-03-28"),
        (Tz::Europe__Paris, "2026-03-28T23:00:00Z", "2026-03-29"),
        (Tz::Europe__Paris, "2026-03-29T21:59:59Z", "2026-03-29"),
        (Tz::Europe__Paris, "2026-03-29T22:00:00Z", "2026-03-30"),
        // … and back at 03:00: one of 25.
        (Tz::Europe__Paris, "2026-10-24T21:59:59Z", "2026-10-24"),
        (Tz::Europe__Paris, "2026-10-24T22:00:00Z", "2026-10-25"),
        (Tz::Europe__Paris, "2026-10-25T22:59:59Z", "2026-10-25"),
        (Tz::Europe__Paris, "2026-10-25T23:00:00Z", "2026-10-26"),
        (Tz::America__New_York, "2026-03-08T04:59:59Z", "2026-03-07"),
        (Tz::America__New_York, "2026-03-08T05:00:00Z", "2026-03-08"),
        (Tz::America__New_York, "2026-03-09T03:59:59Z", "2026-03-08"),
        (Tz::America__New_York, "2026-03-09T04:00:00Z", "2026-03-09"),
        (Tz::America__New_York, "2026-11-01T03:59:59Z", "2026-10-31"),
        (Tz::America__New_York, "2026-11-02T04:59:59Z", "2026-11-01"),
        (Tz::America__New_York, "2026-11-02T05:00:00Z", "2026-11-02"),
        // Half an hour, from +10:30 to +11:00 and back.
        (Tz::Australia__Lord_Howe, "2026-10-03T13:29:59Z", "2026-10-03"),
        (Tz::Australia__Lord_Howe, "2026-10-03T13:30:00Z", "2026-10-04"),
        (Tz::Australia__Lord_Howe, "2026-10-04T12:59:59Z", "2026-10-04"),
        (Tz::Australia__Lord_Howe, "2026-10-04T13:00:00Z", "2026-10-05"),
        (Tz::Australia__Lord_Howe, "2026-04-05T13:29:59Z", "2026-04-05"),
        (Tz::Australia__Lord_Howe, "2026-04-05T13:30:00Z", "2026-04-06"),
        // Samoa left a day out.
        (Tz::Pacific__Apia, "2011-12-30T09:59:59Z", "2011-12-29"),
        (Tz::Pacific__Apia, "2011-12-30T10:00:00Z", "2011-12-31"),
        // Midnight comes twice, and it is the same day both times.
        (Tz::Atlantic__Azores, "2026-10-24T23:59:59Z", "2026-10-24"),
        (Tz::Atlantic__Azores, "2026-10-25T00:00:00Z", "2026-10-25"),
        (Tz::Atlantic__Azores, "2026-10-25T00:59:59Z", "2026-10-25"),
        (Tz::Atlantic__Azores, "2026-10-25T01:00:00Z", "2026-10-25"),
        (Tz::Atlantic__Azores, "2026-10-26T00:59:59Z", "2026-10-25"),
        (Tz::Atlantic__Azores, "2026-10-26T01:00:00Z", "2026-10-26"),
        // Midnight does not come at all: the day begins at one.
        (Tz::Asia__Beirut, "2022-03-26T21:59:59Z", "2022-03-26"),
        (Tz::Asia__Beirut, "2022-03-26T22:00:00Z", "2022-03-27"),
        // A clock set back over midnight: a minute of the day after comes before the last hour of the day.
        (Tz::America__St_Johns, "2010-11-07T02:30:30Z", "2010-11-07"),
        (Tz::America__St_Johns, "2010-11-07T02:45:00Z", "2010-11-06"),
    ] {
        assert_eq!(day(at, zone), expected, "{zone} at {at}");
    }
}

#[test]
fn the_day_is_that_of_the_zone() {
    let day = |text: &str, zone: Tz| local_day(rfc3339(text).expect("a timestamp"), zone);
    let new_year = parse_date(b"2025-01-01").ok();
    assert_eq!(day("2024-12-31T23:30:00Z", Tz::UTC), new_year.map(|d| d - 1));
    assert_eq!(day("2024-12-31T23:30:00Z", Tz::Europe__Paris), new_year);
    assert_eq!(
        day("2025-01-01T04:59:59Z", Tz::America__New_York),
        new_year.map(|d| d - 1)
    );
    assert_eq!(day("1969-12-31T23:59:59.999999Z", Tz::UTC), Some(-1));
    // the zone's day leaves the years although the instant does not
    assert_eq!(day("0001-01-01T00:00:00Z", Tz::America__New_York), None);
    assert_eq!(day("9999-12-31T23:30:00Z", Tz::Europe__Paris), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn instants_agree_with_chrono(
        micros in FIRST_DAY * DAY..(LAST_DAY + 1) * DAY,
        offset_minutes in -1439i32..1440,
        format in prop_oneof![Just(SecondsFormat::Secs), Just(SecondsFormat::Millis), Just(SecondsFormat::Nanos)],
    ) {
        let zone = chrono::FixedOffset::east_opt(offset_minutes * 60).expect("below a day");
        let local = DateTime::from_timestamp_micros(micros).expect("within chrono's range").with_timezone(&zone);
        prop_assume!((1..=9999).contains(&local.year()));
        let text = local.to_rfc3339_opts(format, true);
        let oracle = DateTime::parse_from_rfc3339(&text).expect("chrono reads what it writes").timestamp_micros();
        prop_assert_eq!(rfc3339(&text), Ok(oracle), "{}", text);
    }

    #[test]
    fn whether_a_text_is_an_instant_agrees_with_chrono(
        text in r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{1,10})?(Z|[+-][0-2][0-9]:[0-6][0-9])",
    ) {
        // Two differences by design: no leap seconds, and the bound of the years.
        let oracle = DateTime::parse_from_rfc3339(&text)
            .ok()
            .filter(|t| t.nanosecond() < 1_000_000_000 && t.year() > 0)
            .map(|t| t.timestamp_micros())
            .filter(|micros| within_years(*micros).is_ok());
        prop_assert_eq!(rfc3339(&text).ok(), oracle, "{}", text);
    }

    #[test]
    fn no_text_panics(text in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = parse_rfc3339(&text);
        let _ = parse_date(&text);
    }

    #[test]
    fn days_agree_with_chrono(year in 1i32..=9999, ordinal in 1u32..=365) {
        let date = NaiveDate::from_yo_opt(year, ordinal).expect("a day of the year");
        let days = date.signed_duration_since(NaiveDate::default()).num_days();
        prop_assert_eq!(parse_date(date.format("%Y-%m-%d").to_string().as_bytes()).map(i64::from), Ok(days));
    }

    #[test]
    fn local_days_agree_with_chrono(micros in -5_000_000_000_000_000i64..5_000_000_000_000_000, zone in 0usize..600) {
        let zone = chrono_tz::TZ_VARIANTS[zone % chrono_tz::TZ_VARIANTS.len()];
        let date = DateTime::from_timestamp_micros(micros).expect("in range").with_timezone(&zone).date_naive();
        let days = date.signed_duration_since(NaiveDate::default()).num_days();
        prop_assert_eq!(local_day(micros, zone).map(i64::from), Some(days));
    }
}
