//! The form of a dead letter: the record as it was, plus headers that say where it came from and why.
//!
//! Owns: the header names and the way back from headers to a [`Letter`].
//! Does not own: Kafka clients (`writer`, `reader`).
//!
//! Our headers come after the record's own. A record may bring headers of the same names (a dead-letter
//! topic can itself be a stream): the last of a name is ours.

use crate::batch::{Headers, RawRecord, Reject};
use crate::offsets::{Offset, Partition};

const TOPIC: &str = "affluent.topic";
const PARTITION: &str = "affluent.partition";
const OFFSET: &str = "affluent.offset";
/// Milliseconds since 1970, as Kafka counts; left out where the record has no timestamp.
const TIMESTAMP: &str = "affluent.timestamp";
const STAGE: &str = "affluent.stage";
const CODE: &str = "affluent.code";
const ERROR: &str = "affluent.error";

const ALL: [&str; 7] = [TOPIC, PARTITION, OFFSET, TIMESTAMP, STAGE, CODE, ERROR];

/// A dead letter as read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Where the record came from.
    pub topic: String,
    pub partition: Partition,
    pub offset: Offset,
    /// Kafka's timestamp of the record, milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// Text of [`crate::batch::Stage`]; a later version may have written one this one does not know.
    pub stage: String,
    /// Text of [`crate::batch::RejectCode`].
    pub code: String,
    pub error: String,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    /// The record's own headers.
    pub headers: Headers,
    /// Where the letter lies in the dead-letter topic.
    pub dlq_partition: Partition,
    pub dlq_offset: Offset,
}

/// Which record something is about. The timestamp tells the records of a re-created topic, whose offsets begin
/// anew, from those before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    pub topic: String,
    pub partition: Partition,
    pub offset: Offset,
    pub timestamp_ms: Option<i64>,
}

impl Letter {
    /// The record that was rejected.
    pub fn origin(&self) -> Origin {
        Origin {
            topic: self.topic.clone(),
            partition: self.partition,
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
        }
    }
}

/// The record's own headers, then ours.
pub(super) fn letter_headers(topic: &str, record: &RawRecord, reject: &Reject) -> Headers {
    let mut headers = record.headers.as_deref().cloned().unwrap_or_default();
    let mut add = |name: &str, value: String| headers.push((name.to_owned(), Some(value.into_bytes())));
    add(TOPIC, topic.to_owned());
    add(PARTITION, record.partition.to_string());
    add(OFFSET, record.offset.to_string());
    if let Some(timestamp) = record.timestamp_ms {
        add(TIMESTAMP, timestamp.to_string());
    }
    add(STAGE, reject.stage.as_str().to_owned());
    add(CODE, reject.code.as_str().to_owned());
    add(ERROR, reject.error.clone());
    headers
}

/// What the dead-letter topic holds besides headers.
pub(super) struct Carried {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub dlq_partition: Partition,
    pub dlq_offset: Offset,
}

/// `None` where the headers are not those of a letter: somebody else wrote this record.
pub(super) fn read_letter(mut headers: Headers, carried: Carried) -> Option<Letter> {
    let mut ours = ALL.map(|name| take_last(&mut headers, name));
    let mut text = |name: &str| {
        let index = ALL.iter().position(|n| *n == name)?;
        ours[index].take()
    };
    Some(Letter {
        topic: text(TOPIC)?,
        partition: Partition(text(PARTITION)?.parse().ok()?),
        offset: text(OFFSET)?.parse().ok()?,
        timestamp_ms: match text(TIMESTAMP) {
            Some(timestamp) => Some(timestamp.parse().ok()?),
            None => None,
        },
        stage: text(STAGE)?,
        code: text(CODE)?,
        error: text(ERROR)?,
        key: carried.key,
        value: carried.value,
        headers,
        dlq_partition: carried.dlq_partition,
        dlq_offset: carried.dlq_offset,
    })
}

/// Takes the last header of that name out; `None` also where it is no text.
pub(super) fn take_last(headers: &mut Headers, name: &str) -> Option<String> {
    let index = headers.iter().rposition(|(n, _)| n == name)?;
    let (_, value) = headers.remove(index);
    String::from_utf8(value?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{RejectCode, Stage};

    fn record(headers: Option<Headers>) -> RawRecord {
        RawRecord {
            partition: Partition(3),
            offset: 1234,
            timestamp_ms: Some(1_767_225_600_000),
            key: None,
            value: None,
            headers: headers.map(Box::new),
        }
    }

    fn reject() -> Reject {
        Reject {
            record: 0,
            stage: Stage::Decode,
            code: RejectCode::MissingField,
            error: "field amount is missing".to_owned(),
        }
    }

    fn carried() -> Carried {
        Carried {
            key: None,
            value: None,
            dlq_partition: Partition(0),
            dlq_offset: 7,
        }
    }

    #[test]
    fn headers_lead_back_to_the_records_coordinates_and_its_own_headers() {
        let own = vec![
            ("trace".to_owned(), Some(b"\xff\x00".to_vec())),
            ("trace".to_owned(), None),
        ];
        let headers = letter_headers("sales", &record(Some(own.clone())), &reject());
        assert_eq!(headers[..2], own, "the record's own headers come first");
        let letter = read_letter(headers, carried()).expect("a letter");
        assert_eq!(
            (
                letter.topic.as_str(),
                letter.partition,
                letter.offset,
                letter.timestamp_ms
            ),
            ("sales", Partition(3), 1234, Some(1_767_225_600_000))
        );
        assert_eq!(
            (letter.stage.as_str(), letter.code.as_str()),
            ("decode", "missing_field")
        );
        assert_eq!(letter.error, "field amount is missing");
        assert_eq!(letter.headers, own);
    }

    #[test]
    fn a_letter_of_a_letter_keeps_both_sets_of_coordinates() {
        let inner = letter_headers("sales", &record(None), &reject());
        let mut outer_record = record(Some(inner.clone()));
        outer_record.offset = 9;
        let outer = letter_headers("sales.dlq", &outer_record, &reject());
        let letter = read_letter(outer, carried()).expect("a letter");
        assert_eq!((letter.topic.as_str(), letter.offset), ("sales.dlq", 9));
        assert_eq!(letter.headers, inner);
    }

    #[test]
    fn a_record_without_timestamp_has_a_letter_without_one() {
        let mut record = record(None);
        record.timestamp_ms = None;
        let letter = read_letter(letter_headers("sales", &record, &reject()), carried()).expect("a letter");
        assert_eq!(letter.timestamp_ms, None);
    }

    #[test]
    fn records_of_others_are_no_letters() {
        assert_eq!(read_letter(Headers::new(), carried()), None);
        let mut headers = letter_headers("sales", &record(None), &reject());
        headers.retain(|(name, _)| name != CODE);
        assert_eq!(read_letter(headers, carried()), None);
    }
}
