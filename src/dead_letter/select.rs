//! Which letters a person means, and which of them are to be replayed. Pure.
//!
//! ```text
//!  letters ─filter─▶ wanted ─▶ once per record ─▶ not replayed ─▶ not failed again ─▶ rejected for good ─▶ chosen
//! ```
//!
//! Owns: the filter's command-line arguments, a letter's state, the order of the questions above.
//! Does not own: reading letters (`reader`), what the sinks hold (`verify::fate`), sending (`transaction`).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;

use chrono::{DateTime, Utc};
use clap::builder::PossibleValuesParser;
use serde::Serialize;

use super::letter::{Letter, Origin};
use super::marker::first_origin;
use crate::batch::RejectCode;
use crate::instant::parse_instant;
use crate::offsets::{Offset, Partition};
use crate::verify::fate::Fate;

/// Places are those of the rejected record in its own topic, as `list` shows them. A record that was replayed and
/// failed again is found by the place it has now and by its first one.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct Filter {
    /// Only letters with this code (may be repeated)
    #[arg(long = "code", value_name = "CODE",
          value_parser = PossibleValuesParser::new(RejectCode::ALL.map(RejectCode::as_str)))]
    codes: Vec<String>,
    /// Only records of this partition of their own topic (may be repeated)
    #[arg(long = "partition", value_name = "PARTITION")]
    partitions: Vec<i32>,
    /// Only records at this offset of their own topic, or in this range: 12, 10..20 (20 excluded), 10.., ..20
    /// (may be repeated)
    #[arg(long = "offset", value_name = "OFFSET", value_parser = parse_offsets)]
    offsets: Vec<Offsets>,
    /// Only records with a Kafka timestamp at or after this instant (RFC 3339, or a day in UTC). A letter carries
    /// its record's timestamp: it is not the time at which the record was rejected
    #[arg(long, value_parser = parse_instant, value_name = "INSTANT")]
    since: Option<DateTime<Utc>>,
    /// Only records with a Kafka timestamp before this instant
    #[arg(long, value_parser = parse_instant, value_name = "INSTANT")]
    until: Option<DateTime<Utc>>,
}

/// Offsets as a person gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Offsets(Bound<Offset>, Bound<Offset>);

fn parse_offsets(text: &str) -> Result<Offsets, String> {
    let bad = || "write an offset or a range, e.g. 12, 10..20, 10.. or ..20".to_owned();
    let number = |text: &str| match text.parse::<Offset>() {
        Ok(offset) if offset >= 0 => Ok(offset),
        _ => Err(bad()),
    };
    let Some((from, to)) = text.split_once("..") else {
        let only = Bound::Included(number(text)?);
        return Ok(Offsets(only, only));
    };
    let from = match from {
        "" => Bound::Unbounded,
        from => Bound::Included(number(from)?),
    };
    let to = match to {
        "" => Bound::Unbounded,
        to => Bound::Excluded(number(to)?),
    };
    match (from, to) {
        (Bound::Included(from), Bound::Excluded(to)) if from >= to => Err(format!("{text} holds no offset")),
        (Bound::Unbounded, Bound::Unbounded) => Err(bad()),
        range => Ok(Offsets(range.0, range.1)),
    }
}

impl Filter {
    pub(super) fn wants(&self, letter: &Letter) -> bool {
        let in_time = |wanted: Option<DateTime<Utc>>, keeps: fn(i64, i64) -> bool| {
            wanted.is_none_or(|w| letter.timestamp_ms.is_some_and(|t| keeps(t, w.timestamp_millis())))
        };
        (self.codes.is_empty() || self.codes.contains(&letter.code))
            && in_time(self.since, |t, since| t >= since)
            && in_time(self.until, |t, until| t < until)
            && (self.wants_place(letter.partition, letter.offset)
                || first_origin(letter).is_some_and(|first| self.wants_place(first.partition, first.offset)))
    }

    fn wants_place(&self, partition: Partition, offset: Offset) -> bool {
        use std::ops::RangeBounds;
        (self.partitions.is_empty() || self.partitions.contains(&partition.0))
            && (self.offsets.is_empty() || self.offsets.iter().any(|range| (range.0, range.1).contains(&offset)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Open,
    /// A replayed record that was rejected once more.
    FailedAgain,
    Replayed,
}

impl State {
    pub(super) fn of(letter: &Letter, replayed: &HashSet<Origin>) -> Self {
        if replayed.contains(&letter.origin()) {
            Self::Replayed
        } else if first_origin(letter).is_some() {
            Self::FailedAgain
        } else {
            Self::Open
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::FailedAgain => "failed again",
            Self::Replayed => "replayed",
        }
    }
}

/// Where a letter lies in the dead-letter topic.
pub(super) type Place = (Partition, Offset);

/// A letter that may be replayed; the payload stays in Kafka until it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub place: Place,
    pub origin: Origin,
    pub code: String,
    pub error: String,
    pub state: State,
}

/// Why letters that the filter wants are not replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct LeftOut {
    /// A marker says so.
    pub replayed: u64,
    /// Replayed before and rejected again; `--again` takes them.
    pub failed_again: u64,
    /// Second letters of one record.
    pub repeated: u64,
    /// Records of another stream's topic, where two streams share a dead-letter topic.
    pub other_topic: u64,
    /// A sink holds the record: a later run, under other rules, has taken it.
    pub stored: u64,
    /// Not passed by every sink yet: the next run judges the record itself.
    pub unread: u64,
    /// Beyond `--limit`.
    pub limited: u64,
}

/// What the dead-letter topic says, gathered entry by entry.
#[derive(Debug, Default)]
pub(super) struct Survey {
    replayed: HashSet<Origin>,
    /// First letters only, oldest first.
    candidates: Vec<Candidate>,
    seen: HashSet<Origin>,
    repeated: u64,
    other_topic: u64,
}

/// Letters to replay, oldest first.
#[derive(Debug, Default)]
pub(super) struct Choice {
    pub letters: Vec<Candidate>,
    pub left_out: LeftOut,
}

impl Survey {
    pub(super) fn marker(&mut self, origin: Origin) {
        self.replayed.insert(origin);
    }

    /// `topic` is the stream's own.
    pub(super) fn letter(&mut self, letter: &Letter, filter: &Filter, topic: &str) {
        if !filter.wants(letter) {
            return;
        }
        if letter.topic != topic {
            self.other_topic += 1;
            return;
        }
        let origin = letter.origin();
        if !self.seen.insert(origin.clone()) {
            self.repeated += 1;
            return;
        }
        let state = match first_origin(letter) {
            Some(_) => State::FailedAgain,
            None => State::Open,
        };
        self.candidates.push(Candidate {
            place: (letter.dlq_partition, letter.dlq_offset),
            origin,
            code: letter.code.clone(),
            error: letter.error.clone(),
            state,
        });
    }

    /// Markers lie behind their letters, so this may be asked only when everything was read.
    pub(super) fn unmarked(mut self, again: bool) -> Choice {
        let mut left_out = LeftOut {
            repeated: self.repeated,
            other_topic: self.other_topic,
            ..LeftOut::default()
        };
        self.candidates.retain(|candidate| {
            if self.replayed.contains(&candidate.origin) {
                left_out.replayed += 1;
            } else if candidate.state == State::FailedAgain && !again {
                left_out.failed_again += 1;
            } else {
                return true;
            }
            false
        });
        Choice {
            letters: self.candidates,
            left_out,
        }
    }
}

impl Choice {
    /// The records, for the question what became of them in the sinks.
    pub(super) fn coordinates(&self) -> BTreeSet<Place> {
        let of = |candidate: &Candidate| (candidate.origin.partition, candidate.origin.offset);
        self.letters.iter().map(of).collect()
    }

    /// Keeps the records that every sink has passed and none holds, and of those the first `limit`.
    pub(super) fn settle(&mut self, fates: &BTreeMap<Place, Fate>, limit: Option<usize>) {
        let left_out = &mut self.left_out;
        self.letters.retain(|candidate| {
            match fates.get(&(candidate.origin.partition, candidate.origin.offset)) {
                Some(Fate::Absent) => return true,
                Some(Fate::Held) => left_out.stored += 1,
                Some(Fate::Unread) | None => left_out.unread += 1,
            }
            false
        });
        let kept = limit.unwrap_or(usize::MAX).min(self.letters.len());
        left_out.limited = (self.letters.len() - kept) as u64;
        self.letters.truncate(kept);
    }

    pub(super) fn by_code(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for candidate in &self.letters {
            *counts.entry(candidate.code.clone()).or_default() += 1;
        }
        counts
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::dead_letter::marker::replay_headers;

    pub(in crate::dead_letter) fn letter(offset: Offset, code: &str) -> Letter {
        Letter {
            topic: "sales".to_owned(),
            partition: Partition(0),
            offset,
            timestamp_ms: Some(1_767_225_600_000 + offset),
            stage: "decode".to_owned(),
            code: code.to_owned(),
            error: "field \u{1b}[31mamount is missing".to_owned(),
            key: None,
            value: Some(b"{\"a\":\"\x07\"}".to_vec()),
            headers: vec![("trace".to_owned(), Some(b"1".to_vec()))],
            dlq_partition: Partition(0),
            dlq_offset: offset + 100,
        }
    }

    /// The letter of a record that was replayed to `offset` and failed again.
    fn failed_again(first: &Letter, offset: Offset) -> Letter {
        Letter {
            headers: replay_headers(first),
            ..letter(offset, &first.code)
        }
    }

    fn offsets_of(choice: &Choice) -> Vec<Offset> {
        choice.letters.iter().map(|candidate| candidate.origin.offset).collect()
    }

    fn survey(letters: &[Letter], markers: &[&Letter]) -> Survey {
        let mut survey = Survey::default();
        for letter in letters {
            survey.letter(letter, &Filter::default(), "sales");
        }
        for marker in markers {
            survey.marker(marker.origin());
        }
        survey
    }

    #[test]
    fn letters_are_chosen_by_code_and_by_time_with_until_excluded() {
        let at = |ms| DateTime::from_timestamp_millis(1_767_225_600_000_i64 + ms);
        let filter = Filter {
            codes: vec!["missing_field".to_owned()],
            since: at(2),
            until: at(4),
            ..Filter::default()
        };
        let wanted = (0..6).filter(|o| filter.wants(&letter(*o, "missing_field")));
        assert_eq!(wanted.collect::<Vec<_>>(), [2, 3]);
        assert!(!filter.wants(&letter(3, "wrong_type")));
        let mut timeless = letter(3, "missing_field");
        timeless.timestamp_ms = None;
        assert!(!filter.wants(&timeless), "no timestamp lies in no period");
    }

    #[test]
    fn letters_are_chosen_by_their_records_first_and_present_place() {
        let filter = |offset: &str| Filter {
            partitions: vec![0],
            offsets: vec![parse_offsets(offset).expect("offsets")],
            ..Filter::default()
        };
        let found = |text: &str| {
            (0..6)
                .filter(|o| filter(text).wants(&letter(*o, "x")))
                .collect::<Vec<_>>()
        };
        assert_eq!(found("3"), [3]);
        assert_eq!(found("2..4"), [2, 3]);
        assert_eq!(found("4.."), [4, 5]);
        assert_eq!(found("..2"), [0, 1]);
        let again = failed_again(&letter(3, "x"), 40);
        assert!(filter("3").wants(&again) && filter("40").wants(&again) && !filter("4").wants(&again));
        let mut elsewhere = letter(3, "x");
        elsewhere.partition = Partition(1);
        assert!(!filter("3").wants(&elsewhere));
        for bad in ["", "..", "4..4", "5..4", "-1", "x"] {
            assert!(parse_offsets(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_record_is_replayed_once_however_many_letters_it_has() {
        let mut second = letter(1, "x");
        second.dlq_offset = 500;
        let letters = [letter(0, "x"), letter(1, "x"), second];
        let choice = survey(&letters, &[]).unmarked(false);
        assert_eq!(offsets_of(&choice), [0, 1]);
        assert_eq!(choice.left_out.repeated, 1);
        assert_eq!(
            choice.letters[1].place,
            (Partition(0), 101),
            "the first letter stands for both"
        );
    }

    #[test]
    fn what_has_a_marker_is_never_replayed_again_and_what_failed_again_only_on_request() {
        let first = letter(0, "x");
        let letters = [first.clone(), letter(1, "x"), failed_again(&first, 7)];
        let choice = survey(&letters, &[&first]).unmarked(false);
        assert_eq!(offsets_of(&choice), [1]);
        assert_eq!((choice.left_out.replayed, choice.left_out.failed_again), (1, 1));

        let choice = survey(&letters, &[&first]).unmarked(true);
        assert_eq!(offsets_of(&choice), [1, 7]);
        let choice = survey(&letters, &[&first, &letters[1], &letters[2]]).unmarked(true);
        assert!(choice.letters.is_empty(), "--again does not mean twice");
    }

    #[test]
    fn a_marker_of_a_record_before_the_topic_was_created_anew_does_not_count() {
        let (before, mut after) = (letter(0, "x"), letter(0, "x"));
        after.timestamp_ms = Some(1_800_000_000_000);
        let choice = survey(&[before.clone(), after.clone()], &[&before]).unmarked(false);
        assert_eq!(choice.letters.len(), 1);
        assert_eq!(choice.letters[0].origin, after.origin());
    }

    #[test]
    fn only_what_all_sinks_have_passed_and_none_holds_is_replayed() {
        let letters: Vec<Letter> = (0..5).map(|offset| letter(offset, "x")).collect();
        let mut choice = survey(&letters, &[]).unmarked(false);
        let fates = [Fate::Absent, Fate::Held, Fate::Unread, Fate::Absent];
        let fates = (0..)
            .zip(fates)
            .map(|(offset, fate)| ((Partition(0), offset), fate))
            .collect();
        choice.settle(&fates, Some(1));
        assert_eq!(offsets_of(&choice), [0]);
        let left_out = choice.left_out;
        assert_eq!((left_out.stored, left_out.unread, left_out.limited), (1, 2, 1));
    }

    #[test]
    fn letters_of_another_streams_topic_stay_where_they_are() {
        let mut foreign = letter(0, "x");
        foreign.topic = "clicks".to_owned();
        let choice = survey(&[foreign], &[]).unmarked(false);
        assert_eq!((choice.letters.len(), choice.left_out.other_topic), (0, 1));
    }
}
