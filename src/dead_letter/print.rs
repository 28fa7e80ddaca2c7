//! How letters are laid out: the table of rows, counts by code, single values as JSON.
//!
//! Owns: layout. Does not own: which letters (`select`), escaping (`printable`), standard output (`crate::output`).

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat};
use serde::Serialize;

use super::letter::{Letter, Origin};
use super::printable;
use super::select::{Candidate, State};
use crate::offsets::{Offset, Partition};

/// One line about a letter.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    partition: Partition,
    offset: Offset,
    timestamp: Option<String>,
    state: State,
    pub(super) code: String,
    error: String,
}

impl Row {
    pub(super) fn new(letter: Letter, state: State) -> Self {
        Self::about(&letter.origin(), state, letter.code, letter.error)
    }

    pub(super) fn of_candidate(candidate: &Candidate) -> Self {
        let Candidate { origin, state, .. } = candidate;
        Self::about(origin, *state, candidate.code.clone(), candidate.error.clone())
    }

    fn about(origin: &Origin, state: State, code: String, error: String) -> Self {
        Self {
            partition: origin.partition,
            offset: origin.offset,
            timestamp: origin.timestamp_ms.map(rfc3339),
            state,
            code,
            error,
        }
    }
}

/// A table with a heading, after an empty line.
pub(super) fn rows<'a>(rows: impl IntoIterator<Item = &'a Row>) -> String {
    let header = ["RECORD", "TIMESTAMP", "STATE", "CODE", "ERROR"].map(str::to_owned);
    let rows = rows.into_iter().map(|row| {
        [
            format!("{}:{}", row.partition, row.offset),
            row.timestamp.clone().unwrap_or_else(|| "-".to_owned()),
            row.state.as_str().to_owned(),
            printable::line(&row.code),
            printable::line(&row.error),
        ]
    });
    let cells: Vec<[String; 5]> = std::iter::once(header).chain(rows).collect();
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let [a, b, c, d] = [width(0), width(1), width(2), width(3)];
    let mut text = String::from("\n");
    for [record, timestamp, state, code, error] in &cells {
        text += &format!("  {record:<a$}  {timestamp:<b$}  {state:<c$}  {code:<d$}  {error}\n");
    }
    text
}

/// The most frequent first.
pub(super) fn codes(by_code: &BTreeMap<String, u64>) -> String {
    let mut codes: Vec<(&String, &u64)> = by_code.iter().collect();
    codes.sort_by_key(|(code, count)| (std::cmp::Reverse(**count), *code));
    let line = |(code, count): (&String, &u64)| format!("  {count:>9}  {}\n", printable::line(code));
    codes.into_iter().map(line).collect()
}

/// `null`, `"text"`, or `{"base64": "…"}` where the bytes are no text.
pub(super) fn json_bytes(bytes: Option<&[u8]>) -> serde_json::Value {
    match bytes.map(|b| (b, std::str::from_utf8(b))) {
        None => serde_json::Value::Null,
        Some((_, Ok(text))) => text.into(),
        Some((bytes, Err(_))) => serde_json::json!({ "base64": STANDARD.encode(bytes) }),
    }
}

/// An instant for people; the bare number where no calendar reaches it.
pub(super) fn rfc3339(timestamp_ms: i64) -> String {
    DateTime::from_timestamp_millis(timestamp_ms).map_or_else(
        || timestamp_ms.to_string(),
        |instant| instant.to_rfc3339_opts(SecondsFormat::Millis, true),
    )
}

pub(super) fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
