//! Instants as people type them after `--since` and `--until`.
//!
//! Owns: the accepted forms. Does not own: timestamps inside records (`decode`), which are stricter.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};

/// RFC 3339 (`2026-01-31T08:00:00Z`), or a day (`2026-01-31`), meaning its midnight in UTC.
pub fn parse_instant(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(day) = text.parse::<NaiveDate>() {
        return Ok(day.and_time(NaiveTime::MIN).and_utc());
    }
    DateTime::parse_from_rfc3339(text)
        .map(|instant| instant.with_timezone(&Utc))
        .map_err(|_| "write an instant as 2026-01-31T08:00:00Z, or a day as 2026-01-31 (UTC)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_its_midnight_and_an_offset_is_honoured() {
        let rfc3339 = |text| parse_instant(text).map(|i| i.to_rfc3339());
        assert_eq!(rfc3339("2026-01-31"), Ok("2026-01-31T00:00:00+00:00".to_owned()));
        assert_eq!(
            rfc3339("2026-01-31T08:00:00+02:00"),
            Ok("2026-01-31T06:00:00+00:00".to_owned())
        );
        assert!(parse_instant("yesterday").is_err());
        assert!(
            parse_instant("2026-01-31T08:00:00").is_err(),
            "an instant without offset is ambiguous"
        );
    }
}
