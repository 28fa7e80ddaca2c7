//! What a replay writes: the record once more, and a marker beside its letter.
//!
//! A marker lies in the dead-letter topic, in its letter's partition and behind it, so that no retention takes it
//! first. It has neither key nor payload and names the letter's record in `affluent.replayed.*` headers; readers
//! that do not know it see a record that is no letter. The replayed record carries its first coordinates in
//! `affluent.replay.*` headers, and keeps them when it fails again and is replayed again.
//!
//! Owns: these two sets of header names and the way back from them.
//! Does not own: that both are written in one transaction (`transaction`), which letters are chosen (`select`).

use super::letter::{Letter, Origin, take_last};
use crate::batch::Headers;
use crate::offsets::Partition;

/// Names of the headers that spell out one [`Origin`].
struct Names {
    topic: &'static str,
    partition: &'static str,
    offset: &'static str,
    /// Milliseconds since 1970; left out where the record has no timestamp.
    timestamp: &'static str,
}

/// On a marker: the record whose letter has been replayed.
const REPLAYED: Names = Names {
    topic: "affluent.replayed.topic",
    partition: "affluent.replayed.partition",
    offset: "affluent.replayed.offset",
    timestamp: "affluent.replayed.timestamp",
};

/// On a replayed record: where it lay first.
const REPLAY: Names = Names {
    topic: "affluent.replay.topic",
    partition: "affluent.replay.partition",
    offset: "affluent.replay.offset",
    timestamp: "affluent.replay.timestamp",
};

pub(super) fn marker_headers(letter: &Letter) -> Headers {
    REPLAYED.headers(&letter.origin())
}

/// `None` where this is no marker.
pub(super) fn read_marker(headers: &Headers) -> Option<Origin> {
    REPLAYED.origin(headers)
}

/// The record's own headers; where it was never replayed before, its coordinates behind them.
pub(super) fn replay_headers(letter: &Letter) -> Headers {
    let mut headers = letter.headers.clone();
    if first_origin(letter).is_none() {
        headers.extend(REPLAY.headers(&letter.origin()));
    }
    headers
}

/// Where a record that was replayed and failed again lay first.
pub(super) fn first_origin(letter: &Letter) -> Option<Origin> {
    REPLAY.origin(&letter.headers)
}

impl Names {
    fn headers(&self, origin: &Origin) -> Headers {
        let mut headers = Headers::new();
        let mut add = |name: &str, value: String| headers.push((name.to_owned(), Some(value.into_bytes())));
        add(self.topic, origin.topic.clone());
        add(self.partition, origin.partition.to_string());
        add(self.offset, origin.offset.to_string());
        if let Some(timestamp) = origin.timestamp_ms {
            add(self.timestamp, timestamp.to_string());
        }
        headers
    }

    fn origin(&self, headers: &Headers) -> Option<Origin> {
        // Most records have none of them: look before anything is copied.
        if !headers.iter().any(|(name, _)| name == self.topic) {
            return None;
        }
        let names = [self.topic, self.partition, self.offset, self.timestamp];
        let mut ours: Headers = headers
            .iter()
            .filter(|(name, _)| names.contains(&name.as_str()))
            .cloned()
            .collect();
        Some(Origin {
            topic: take_last(&mut ours, self.topic)?,
            partition: Partition(take_last(&mut ours, self.partition)?.parse().ok()?),
            offset: take_last(&mut ours, self.offset)?.parse().ok()?,
            timestamp_ms: match take_last(&mut ours, self.timestamp) {
                Some(timestamp) => Some(timestamp.parse().ok()?),
                None => None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::select::tests::letter;
    use super::*;

    #[test]
    fn a_marker_leads_back_to_its_letter_and_is_no_letter() {
        let letter = letter(7, "invalid_json");
        let headers = marker_headers(&letter);
        assert_eq!(read_marker(&headers), Some(letter.origin()));
        assert!(
            headers.iter().all(|(name, _)| name.starts_with("affluent.replayed.")),
            "a reader that does not know markers must not take one for a letter"
        );
        assert_eq!(read_marker(&letter.headers), None);
    }

    #[test]
    fn a_replayed_record_keeps_its_own_headers_and_its_first_coordinates() {
        let first = letter(7, "invalid_json");
        let replayed = replay_headers(&first);
        assert_eq!(replayed[..first.headers.len()], first.headers);

        let mut again = letter(50, "invalid_json");
        again.headers = replayed.clone();
        assert_eq!(first_origin(&again), Some(first.origin()));
        assert_eq!(replay_headers(&again), replayed, "kept, not stacked");
    }

    #[test]
    fn a_record_without_timestamp_is_remembered_without_one() {
        let mut letter = letter(7, "invalid_json");
        letter.timestamp_ms = None;
        assert_eq!(read_marker(&marker_headers(&letter)), Some(letter.origin()));
    }
}
