//! A request's body → the records to produce. Pure: identity and time of what is missing are handed in.
//!
//! Owns: how many events a body holds, what is filled in (an absent `event_id`, an absent event time), the record's key,
//! and the promise that a record made here never becomes a dead letter for its content: it is judged by the stream's own
//! decoder, on the very bytes that are produced.
//! Does not own: the rules of the stream (`decode`), the sizes of a body (`accept`), producing (`kafka`).
//!
//! An event's own bytes are kept as they came, so that no number passes through a float; what is filled in stands before
//! them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use chrono::{DateTime, Duration, SecondsFormat, Utc};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::refusal::{Code, Refusal};
use crate::batch::{RawBatch, RawRecord, Session};
use crate::config::StreamConfig;
use crate::decode::Decoder;
use crate::offsets::{Epoch, Partition};
use crate::schema::{FieldType, StreamSchema};

/// Makes one event recognisable, however often it is sent.
const EVENT_ID: &str = "event_id";
/// The record's key, so that the events of a session stay in order.
const SESSION_ID: &str = "session_id";

/// How far an event's own time may lie from ours: its sender is anybody.
const BEHIND: Duration = Duration::days(7);
const AHEAD: Duration = Duration::minutes(5);

/// What the stream wants of an event.
pub(super) struct Form {
    /// The stream has a field for it.
    event_id: bool,
    session_id: bool,
    /// The field that says when it happened.
    event_time: String,
    max_events: usize,
    /// Keeps buffers, so it is lent out by turns; judging a full request takes a fraction of a millisecond.
    decoder: Mutex<Decoder>,
}

/// Good events, as records of one batch: keys and values lie in its arena.
#[derive(Debug)]
pub(super) struct Events(RawBatch);

impl Form {
    pub(super) fn new(stream: &StreamConfig, max_events: usize) -> Self {
        Self {
            event_id: has_text(&stream.schema, EVENT_ID),
            session_id: has_text(&stream.schema, SESSION_ID),
            event_time: stream.schema.fields[stream.schema.event_time].name.clone(),
            max_events,
            decoder: Mutex::new(Decoder::new(stream)),
        }
    }

    /// One JSON object, or an array of them. What an event holds is not looked at yet: how many there are decides
    /// first whether their sender may send them.
    pub(super) fn split<'b>(&self, body: &'b [u8]) -> Result<Vec<&'b RawValue>, Refusal> {
        let invalid =
            |error: serde_json::Error| Refusal::new(Code::InvalidBody, format!("the body is no JSON: {error}"));
        let one: &RawValue = serde_json::from_slice(body).map_err(invalid)?;
        let events = match one.get().as_bytes().first() {
            Some(b'[') => serde_json::from_str(one.get()).map_err(invalid)?,
            _ => vec![one],
        };
        if events.is_empty() {
            return Err(Refusal::new(Code::NoEvents, "the array holds no events"));
        }
        if events.len() > self.max_events {
            let message = format!(
                "{} events in one request, allowed are {} (collect.max_events)",
                events.len(),
                self.max_events
            );
            return Err(Refusal::new(Code::TooManyEvents, message));
        }
        Ok(events)
    }

    /// All of them as records, or the first that the stream would not take. Events without a time happened `now`, each
    /// a microsecond after the one before it, so that their order can still be told.
    pub(super) fn records(&self, events: &[&RawValue], now: DateTime<Utc>) -> Result<Events, Refusal> {
        let mut batch = RawBatch {
            session: Session(0),
            arena: Vec::with_capacity(events.iter().map(|event| event.get().len() + 128).sum()),
            records: Vec::with_capacity(events.len()),
            covered: BTreeMap::new(),
            permit: None,
        };
        for (event, nth) in events.iter().zip(0..) {
            self.append(&mut batch, event.get(), now + Duration::microseconds(nth));
        }
        let mut decoder = self.decoder.lock().unwrap_or_else(PoisonError::into_inner);
        let decoded = decoder.decode(&batch, Epoch(0));
        drop(decoder);
        match decoded.rejects.into_iter().next() {
            None => self.check_times(&decoded.rows, now).map(|()| Events(batch)),
            Some(reject) => {
                let message = format!("event {}: {}", reject.record, reject.error);
                Err(Refusal::new(Code::Event(reject.code), message))
            }
        }
    }

    /// One event of next year, and all that comes until then would pass for late.
    fn check_times(&self, rows: &RecordBatch, now: DateTime<Utc>) -> Result<(), Refusal> {
        let Some(times) = rows.column_by_name(&self.event_time) else {
            return Ok(());
        };
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let allowed = (now - BEHIND).timestamp_micros()..=(now + AHEAD).timestamp_micros();
        let Some(nth) = times.values().iter().position(|time| !allowed.contains(time)) else {
            return Ok(());
        };
        let message = format!(
            "event {nth}: {} is more than {} days behind or {} minutes ahead of the server's clock; without it the time \
             of arrival counts",
            self.event_time,
            BEHIND.num_days(),
            AHEAD.num_minutes()
        );
        Err(Refusal::new(Code::EventTime, message))
    }

    fn append(&self, batch: &mut RawBatch, event: &str, time: DateTime<Utc>) {
        // Of equal names the last one counts, here as in the decoder. What is no object is left as it is: the decoder says
        // so.
        let fields: Option<BTreeMap<String, &RawValue>> = serde_json::from_str(event).ok();
        let start = batch.arena.len();
        match (&fields, event.strip_prefix('{')) {
            (Some(fields), Some(rest)) => {
                let filled = self.filled(fields, time);
                let comma = if filled.is_empty() || fields.is_empty() {
                    ""
                } else {
                    ","
                };
                for part in ["{", &filled, comma, rest] {
                    batch.arena.extend_from_slice(part.as_bytes());
                }
            }
            _ => batch.arena.extend_from_slice(event.as_bytes()),
        }
        let value = start..batch.arena.len();
        let session = fields
            .as_ref()
            .filter(|_| self.session_id)
            .and_then(|fields| fields.get(SESSION_ID));
        let session: Option<String> = session.and_then(|id| serde_json::from_str(id.get()).ok());
        let key = session.map(|id| append(&mut batch.arena, id.as_bytes()));
        batch.records.push(RawRecord {
            partition: Partition(0),
            offset: batch.records.len() as i64,
            timestamp_ms: None,
            key,
            value: Some(value),
            headers: None,
        });
    }

    /// The members that are absent, as they stand in an object.
    fn filled(&self, fields: &BTreeMap<String, &RawValue>, time: DateTime<Utc>) -> String {
        let mut members = Vec::new();
        if self.event_id && !fields.contains_key(EVENT_ID) {
            members.push(format!("\"{EVENT_ID}\":\"{}\"", Uuid::new_v4()));
        }
        if !fields.contains_key(&self.event_time) {
            let time = time.to_rfc3339_opts(SecondsFormat::Micros, true);
            // No name of a field holds a character that JSON escapes.
            members.push(format!("\"{}\":\"{time}\"", self.event_time));
        }
        members.join(",")
    }
}

fn append(arena: &mut Vec<u8>, bytes: &[u8]) -> Range<usize> {
    let start = arena.len();
    arena.extend_from_slice(bytes);
    start..arena.len()
}

fn has_text(schema: &StreamSchema, name: &str) -> bool {
    let mut fields = schema.fields.iter();
    fields.any(|field| field.name == name && field.ty == FieldType::String)
}

impl Events {
    pub(super) fn len(&self) -> usize {
        self.0.records.len()
    }

    /// Key and value of each, in the order they came.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Option<&[u8]>, &[u8])> {
        let bytes = |range| self.0.bytes(range);
        self.0
            .records
            .iter()
            .map(move |record| (bytes(&record.key), bytes(&record.value).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::config::load::{ConfigArgs, load};

    fn stream(name: &str, file: &str) -> StreamConfig {
        let path = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(&path, file).expect("writes");
        let args = ConfigArgs {
            config: Some(path.path().to_owned()),
            set: Vec::new(),
        };
        let config = load(&args).unwrap_or_else(|problems| panic!("{problems}"));
        let found = config.streams.into_iter().find(|stream| stream.name == name);
        found.expect("configured")
    }

    fn now() -> DateTime<Utc> {
        "2026-03-01T10:00:00.000250Z".parse().expect("an instant")
    }

    fn events(form: &Form, body: &str) -> Result<Vec<(Option<String>, String)>, Refusal> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let events = form.records(&form.split(body.as_bytes())?, now())?;
        Ok(events.iter().map(|(key, value)| (key.map(text), text(value))).collect())
    }

    fn clicks() -> Form {
        Form::new(&stream("clicks", ""), 3)
    }

    #[test]
    fn what_is_missing_is_filled_in_and_the_rest_kept_to_the_byte() {
        let body = r#" [ {"session_id":"s\u00e91", "page":"/"} , {"page":"/b","session_id":"s2","event_id":"mine",
            "occurred_at":"2026-02-28T12:00:00Z","more":1.10} ] "#;
        let made = events(&clicks(), body).expect("good events");
        assert_eq!(made[0].0.as_deref(), Some("sé1"));
        let value: Value = serde_json::from_str(&made[0].1).expect("JSON");
        assert_eq!(value["occurred_at"], "2026-03-01T10:00:00.000250Z");
        Uuid::parse_str(value["event_id"].as_str().expect("text")).expect("a UUID");
        assert!(
            made[0].1.ends_with(r#","session_id":"s\u00e91", "page":"/"}"#),
            "{}",
            made[0].1
        );
        assert_eq!(made[1].0.as_deref(), Some("s2"));
        assert!(body.contains(&made[1].1), "nothing was missing: {}", made[1].1);
    }

    #[test]
    fn every_event_without_an_id_or_a_time_gets_its_own() {
        let one = r#"{"session_id":"s","page":"/"}"#;
        let made = events(&clicks(), &format!("[{one},{one}]")).expect("good events");
        let field = |nth: usize, name: &str| {
            let value: Value = serde_json::from_str(&made[nth].1).expect("JSON");
            value[name].as_str().expect("text").to_owned()
        };
        assert_ne!(field(0, "event_id"), field(1, "event_id"));
        assert_eq!(field(1, "occurred_at"), "2026-03-01T10:00:00.000251Z");
    }

    #[test]
    fn a_lone_object_is_one_event() {
        assert_eq!(
            events(&clicks(), r#"{"session_id":"s","page":"/"}"#)
                .expect("good")
                .len(),
            1
        );
    }

    #[test]
    fn other_streams_have_other_forms() {
        let file = "[[streams]]\nname = \"readings\"\ntopic = \"readings\"\nevent_time = \"at\"\npartition_by = []\n\
                    fields = [{ name = \"at\", type = \"timestamp\", required = true, unit = \"ms\" }]\n";
        let form = Form::new(&stream("readings", file), 3);
        let made = events(&form, "[{}, {\"at\": 1772272800000}]").expect("good events");
        assert_eq!(made[0], (None, r#"{"at":"2026-03-01T10:00:00.000250Z"}"#.to_owned()));
        assert_eq!(made[1], (None, r#"{"at": 1772272800000}"#.to_owned()));
    }

    #[test]
    fn a_refusal_names_the_event_and_the_field() {
        let good = r#"{"session_id":"s","page":"/"}"#;
        for (body, code, named) in [
            ("", "invalid_body", "the body is no JSON"),
            ("[]", "no_events", "no events"),
            (&format!("[{good}"), "invalid_body", "the body is no JSON"),
            (&format!("{good}{good}"), "invalid_body", "trailing characters"),
            (&format!("[{good},{good},{good},{good}]"), "too_many_events", "4 events"),
            ("7", "invalid_json", "event 0: the payload is not a JSON object"),
            (&format!("[{good},[]]"), "invalid_json", "event 1: the payload is not"),
            (
                &format!("[{good},{{}}]"),
                "missing_field",
                "event 1: field \"session_id\"",
            ),
            (
                r#"{"session_id":"s","page":7}"#,
                "wrong_type",
                "event 0: field \"page\"",
            ),
            (
                r#"{"session_id":"s","page":"/","page":null}"#,
                "missing_field",
                "field \"page\"",
            ),
            (
                r#"{"session_id":"s","page":"/","event_id":null}"#,
                "missing_field",
                "field \"event_id\"",
            ),
            (
                r#"{"session_id":"s","page":"/","occurred_at":"yesterday"}"#,
                "invalid_timestamp",
                "occurred_at",
            ),
            (
                r#"{"session_id":"s","page":"/","region":"__HIVE_DEFAULT_PARTITION__"}"#,
                "invalid_partition_value",
                "region",
            ),
            (r#"{"session_id":"\ud800","page":"/"}"#, "invalid_json", "event 0"),
            (
                &format!(r#"[{good},{{"session_id":"s","page":"/","occurred_at":"2026-03-01T10:05:01Z"}}]"#),
                "event_time_out_of_range",
                "event 1: occurred_at",
            ),
            (
                r#"{"session_id":"s","page":"/","occurred_at":"2026-02-22T10:00:00Z"}"#,
                "event_time_out_of_range",
                "7 days behind",
            ),
        ] {
            let refusal = events(&clicks(), body).expect_err(body);
            assert_eq!(refusal.code().text(), code, "{body}: {refusal}");
            assert!(refusal.to_string().contains(named), "{body}: {refusal}");
        }
        let broken = clicks()
            .split(b"{\"session_id\":\"\xff\",\"page\":\"/\"}")
            .expect_err("no UTF-8");
        assert_eq!(broken.code(), Code::InvalidBody);
    }

    proptest::proptest! {
        /// What the decoder takes as an event is produced as it is, if nothing is missing; and whatever comes is
        /// refused or becomes a record that the stream takes.
        #[test]
        fn what_is_produced_is_good_whatever_was_sent(body in r#"\[?(\{("(page|session_id|event_id|occurred_at|x)":("[a-z/]{0,3}"|null|-?[0-9.]{1,4}|\{\}|\[\]|"2026-02-28T12:00:00Z")?,?){0,5}\},?){0,3}\]?"#) {
            let form = clicks();
            if let Ok(made) = events(&form, &body) {
                for (key, value) in made {
                    let again = events(&form, &value).expect("a record is an event that lacks nothing");
                    proptest::prop_assert_eq!(again, vec![(key, value)]);
                }
            }
        }
    }
}
