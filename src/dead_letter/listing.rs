//! What there is of dead letters: counts, the newest of each code, the newest of all.
//!
//! Owns: one reading of the topic, for `affluent dead-letters list` and for the API.
//! Does not own: which are wanted (`select`), layout (`print`).

use std::collections::{BTreeMap, HashSet, VecDeque};

use serde::Serialize;

use super::letter::{Letter, Origin};
use super::print::{self, Row, counted};
use super::reader::{Depth, Entries, Entry, Reach};
use super::select::State;
use crate::config::{KafkaConfig, StreamConfig};

/// Records of each partition that somebody who looks at a screen waits for.
const SCREEN: i64 = 5_000;

/// Of one stream.
#[derive(Debug, Default, Serialize)]
pub struct Listing {
    stream: String,
    dead_letter_topic: String,
    /// Different records among the letters that were asked for.
    records: u64,
    by_code: BTreeMap<String, u64>,
    /// The newest of each code.
    examples: BTreeMap<String, Row>,
    /// Records among them that have been replayed since.
    replayed: u64,
    /// Records among them that were replayed before and rejected again.
    failed_again: u64,
    /// Letters that were written again after a lost acknowledgement.
    repeated: u64,
    /// Records in the topic that are neither letters nor markers of a replay.
    foreign: u64,
    /// The whole topic was read.
    complete: bool,
    /// The newest, in the order they were written.
    listed: VecDeque<Row>,
}

impl Listing {
    /// Of the letters that are wanted, all are counted and `limit` are listed.
    pub(super) async fn read(
        kafka: &KafkaConfig,
        stream: &StreamConfig,
        reach: Reach,
        limit: usize,
        wanted: impl Fn(&Letter, State) -> bool,
    ) -> anyhow::Result<Self> {
        // A marker lies behind its letter: all of them have to be known before the first letter is judged.
        let replayed = replayed(kafka, stream, reach).await?;
        let mut entries = Entries::open(kafka, &stream.dead_letter_topic, Depth::Headers, reach).await?;
        let mut listing = Self {
            stream: stream.name.clone(),
            dead_letter_topic: stream.dead_letter_topic.clone(),
            complete: entries.complete,
            ..Self::default()
        };
        let mut seen = HashSet::new();
        while let Some(entry) = entries.next().await? {
            match entry {
                Entry::Letter(letter) => {
                    let state = State::of(&letter, &replayed);
                    if wanted(&letter, state) {
                        let first = seen.insert(letter.origin());
                        listing.take(letter, state, first, limit);
                    }
                }
                Entry::Marker(_) => {}
                Entry::Foreign => listing.foreign += 1,
            }
        }
        Ok(listing)
    }

    /// The end of the topic, for a screen.
    pub async fn newest(kafka: &KafkaConfig, stream: &StreamConfig, limit: usize) -> anyhow::Result<Self> {
        Self::read(kafka, stream, Reach::Newest(SCREEN), limit, |_, _| true).await
    }

    fn take(&mut self, letter: Letter, state: State, first: bool, limit: usize) {
        if !first {
            self.repeated += 1;
            return;
        }
        self.records += 1;
        *self.by_code.entry(letter.code.clone()).or_default() += 1;
        let row = Row::new(letter, state);
        self.examples.insert(row.code.clone(), row.clone());
        match state {
            State::Open => {}
            State::FailedAgain => self.failed_again += 1,
            State::Replayed => self.replayed += 1,
        }
        self.listed.push_back(row);
        if self.listed.len() > limit {
            self.listed.pop_front();
        }
    }

    pub(super) fn table(&self) -> String {
        let mut text = format!(
            "{}: {} in {}",
            self.stream,
            counted(self.records, "dead letter"),
            self.dead_letter_topic
        );
        if self.replayed > 0 {
            text += &format!(", {} replayed", self.replayed);
        }
        if self.failed_again > 0 {
            text += &format!(", {} failed again", self.failed_again);
        }
        if self.repeated > 0 {
            text += &format!(", {} written again", self.repeated);
        }
        if self.foreign > 0 {
            text += &format!(", {} of somebody else", counted(self.foreign, "record"));
        }
        text.push('\n');
        text += &print::codes(&self.by_code);
        if !self.listed.is_empty() {
            text += &print::rows(&self.listed);
        }
        if self.records > self.listed.len() as u64 {
            text += &format!("  the newest {} of {} (--limit)\n", self.listed.len(), self.records);
        }
        text
    }
}

/// The records whose letters have been replayed.
pub(super) async fn replayed(
    kafka: &KafkaConfig,
    stream: &StreamConfig,
    reach: Reach,
) -> anyhow::Result<HashSet<Origin>> {
    let mut replayed = HashSet::new();
    let mut entries = Entries::open(kafka, &stream.dead_letter_topic, Depth::Headers, reach).await?;
    while let Some(entry) = entries.next().await? {
        if let Entry::Marker(origin) = entry {
            replayed.insert(origin);
        }
    }
    Ok(replayed)
}

#[cfg(test)]
mod tests {
    use super::super::select::tests::letter;
    use super::*;

    #[test]
    fn a_table_counts_all_lists_the_newest_and_escapes() {
        let mut listing = Listing {
            stream: "sales".to_owned(),
            dead_letter_topic: "sales.dlq".to_owned(),
            ..Listing::default()
        };
        for offset in 0..3 {
            listing.take(letter(offset, "missing_field"), State::Replayed, true, 2);
        }
        listing.take(letter(3, "wrong_type"), State::Open, true, 2);
        listing.take(letter(3, "wrong_type"), State::Open, false, 2);
        insta::assert_snapshot!(listing.table(), @r"
        sales: 4 dead letters in sales.dlq, 3 replayed, 1 written again
                  3  missing_field
                  1  wrong_type

          RECORD  TIMESTAMP                 STATE     CODE           ERROR
          0:2     2026-01-01T00:00:00.002Z  replayed  missing_field  field \u{1b}[31mamount is missing
          0:3     2026-01-01T00:00:00.003Z  open      wrong_type     field \u{1b}[31mamount is missing
          the newest 2 of 4 (--limit)
        ");
    }
}
