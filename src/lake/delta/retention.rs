//! How long a table promises to keep what its newest version does not need.
//!
//! Owns: the two properties, in exactly the form that the Delta library reads them too: it drops from its checkpoints what
//! is older, so whoever deletes files has to mean the same time. What is not understood is an error and no default:
//! deleting by a guess cannot be undone.
//! Does not own: deleting (`lake::maintenance`).

use std::time::Duration;

use super::log::LogTail;
use crate::error::Invariant;

/// How long files stay that were taken out of the table.
pub const FILE_RETENTION: &str = "delta.deletedFileRetentionDuration";
const LOG_RETENTION: &str = "delta.logRetentionDuration";
const LOG_CLEANUP: &str = "delta.enableExpiredLogCleanup";

const DAY: Duration = Duration::from_secs(24 * 3600);
const DEFAULT_FILE_RETENTION: Duration = DAY.saturating_mul(7);
const DEFAULT_LOG_RETENTION: Duration = DAY.saturating_mul(30);

/// Of data files.
pub fn file_retention(log: &LogTail) -> Result<Duration, Invariant> {
    duration(log, FILE_RETENTION, DEFAULT_FILE_RETENTION)
}

/// Of commits and checkpoints; `None` where the table wants its log kept for ever.
pub fn log_retention(log: &LogTail) -> Result<Option<Duration>, Invariant> {
    if property(log, LOG_CLEANUP).is_some_and(|value| value.eq_ignore_ascii_case("false")) {
        return Ok(None);
    }
    duration(log, LOG_RETENTION, DEFAULT_LOG_RETENTION).map(Some)
}

fn property<'a>(log: &'a LogTail, name: &str) -> Option<&'a str> {
    log.metadata.configuration.get(name).and_then(Option::as_deref)
}

fn duration(log: &LogTail, name: &str, default: Duration) -> Result<Duration, Invariant> {
    let Some(text) = property(log, name) else {
        return Ok(default);
    };
    interval(text).ok_or_else(|| {
        Invariant::new(
            format!("the table's property {name} is `{text}`, which is not understood: nothing is deleted"),
            "set it to one number and unit, such as `interval 30 days`",
        )
    })
}

/// `interval 30 days` and the like.
fn interval(text: &str) -> Option<Duration> {
    let mut words = text.split_whitespace();
    if words.next() != Some("interval") {
        return None;
    }
    let (count, unit) = (words.next()?.parse::<u64>().ok()?, words.next()?);
    let seconds = match unit {
        "second" | "seconds" => 1,
        "minute" | "minutes" => 60,
        "hour" | "hours" => 3600,
        "day" | "days" => 24 * 3600,
        "week" | "weeks" => 7 * 24 * 3600,
        _ => return None,
    };
    (words.next().is_none()).then(|| Duration::from_secs(count.saturating_mul(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::delta::log::tests::tail;

    fn with(name: &str, value: &str) -> LogTail {
        let mut log = tail();
        log.metadata
            .configuration
            .insert(name.to_owned(), Some(value.to_owned()));
        log
    }

    #[test]
    fn a_table_that_says_nothing_keeps_files_a_week_and_its_log_a_month() {
        assert_eq!(file_retention(&tail()), Ok(7 * DAY));
        assert_eq!(log_retention(&tail()), Ok(Some(30 * DAY)));
        assert_eq!(log_retention(&with(LOG_CLEANUP, "false")), Ok(None));
    }

    #[test]
    fn one_number_and_unit_is_understood_and_nothing_else() {
        for (text, seconds) in [("interval 1 week", 7 * 86_400), ("interval 36 hours", 129_600)] {
            assert_eq!(
                file_retention(&with(FILE_RETENTION, text)),
                Ok(Duration::from_secs(seconds))
            );
        }
        for text in [
            "30 days",
            "interval 2 weeks 3 days",
            "interval 1 month",
            "INTERVAL 7 DAYS",
            "",
            "interval -1 days",
        ] {
            let refused = file_retention(&with(FILE_RETENTION, text)).expect_err(text);
            assert!(refused.what.contains(text) && refused.what.contains(FILE_RETENTION));
            assert!(log_retention(&with(LOG_RETENTION, text)).is_err());
        }
    }
}
