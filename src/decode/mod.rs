//! Raw records → one Arrow `RecordBatch` of the good ones, and the reason why for each of the others.
//!
//! Owns: the rules by which a record is good. Each record is judged alone and on its own bytes (never on wall
//! clock, neighbours or sink), so reading it again gives the same answer.
//! Does not own: where rejected records go (`dead_letter`), the schema (`schema`), progress (`covered` is the batch's).
//!
//! ```text
//! payload ─cursor, json─▶ a token per field ─value─▶ cell ─columns─▶ row   (kept whole, or taken back whole)
//!                         (last equal key wins)      └ number, timestamp
//! ```
//!
//! The rules are in the design's table "Rules settled"; these are the choices it leaves open:
//!
//! | question | answer |
//! |---|---|
//! | which of several problems is reported | null payload, coordinates, payload size; then JSON in reading order (nesting included), to the end of the payload; then the fields in declared order, the derived `date`, document size |
//! | equal keys | only the last one is judged, also where an earlier one was of a wrong type; last `null` is null |
//! | unknown fields | checked as JSON (UTF-8, escapes, nesting), counted per occurrence even where the record is rejected later; 100 names per batch, further ones as `…other`; names cut to 64 bytes |
//! | strings that hold a number | exactly the JSON grammar: `"1e3"` is one; `"+1"`, `" 1"`, `"01"`, `"NaN"`, `""` are `wrong_type` |
//! | numeric types | `byte`, `short`, `integer`, `float` follow the rules of `long` and `double` |
//! | `float`, `double` | rounded to nearest from the text; infinite is `out_of_range`, underflow to zero is not; `-0` keeps its sign (a `long` or decimal has none) |
//! | long numbers | no limit on digits or exponent, anywhere |
//! | timestamps | offset up to ±23:59, `-00:00` is UTC; the instant in UTC has to lie in years 0001–9999 as well as the local date, and so has its day in the stream's zone where `date` is derived |
//! | `unit` | JSON numbers and strings holding one are epoch counts, fractions cut off beyond microseconds towards −∞; RFC 3339 strings are read as without it |
//! | number for a timestamp without `unit` | `invalid_timestamp`; booleans, arrays, objects are `wrong_type`; for a `date`, every non-string is |
//! | partition values | `column=value`, with all but letters, digits, `_-.` counted as three bytes, must fit 255 bytes, else `invalid_partition_value`: no file system takes a longer directory name |
//! | document size | an upper bound, also for rollup documents, whether or not MongoDB is on: it may be switched on later |
//! | Kafka's timestamp outside years 0001–9999 | null in `_timestamp`: the record is good |
//! | `\u0000` in a string | kept |

mod columns;
mod cursor;
mod fault;
mod json;
mod limits;
mod number;
mod timestamp;
mod value;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;

use self::columns::Columns;
use self::fault::Fault;
use self::json::{ObjectReader, Tokens};
use self::limits::DocumentBounds;
use self::value::{Cell, FieldRule};
use crate::batch::{RawBatch, RawRecord, Reject, RejectCode};
use crate::config::{StreamConfig, Tombstones};
use crate::offsets::{Epoch, RecordId};
use crate::schema::StreamSchema;

/// The name that undeclared names are counted under where there are too many of them.
pub const OTHER_NAMES: &str = json::OTHER_NAMES;

/// Decodes the records of one stream, batch by batch.
#[derive(Debug)]
pub struct Decoder {
    schema: Arc<StreamSchema>,
    rules: Vec<FieldRule>,
    reader: ObjectReader,
    bounds: DocumentBounds,
    tombstones: Tombstones,
    max_record_bytes: usize,
    /// Per column, the share of the last batch's payload bytes that its strings took: what to set aside for
    /// the next. A share, because sizes per row would ask for gigabytes behind one large record.
    string_shares: Vec<f64>,
}

/// What became of one batch of raw records: every record is a row, a reject, or skipped.
#[derive(Debug)]
pub struct Decoded {
    /// Good records in fetch order. Schema: [`StreamSchema::arrow`].
    pub rows: RecordBatch,
    /// In fetch order.
    pub rejects: Vec<Reject>,
    /// Occurrences of names that the schema does not declare.
    pub unknown_fields: BTreeMap<String, u64>,
    /// Tombstones passed over because the stream says so.
    pub skipped: u64,
}

/// A record that is not rejected.
enum Judged {
    Row,
    Skipped,
}

impl Decoder {
    pub fn new(stream: &StreamConfig) -> Self {
        let schema = Arc::clone(&stream.schema);
        Self {
            rules: FieldRule::of_schema(&schema),
            reader: ObjectReader::new(schema.fields.iter().map(|field| field.name.as_str())),
            bounds: DocumentBounds::new(stream),
            tombstones: stream.tombstones,
            max_record_bytes: stream.max_record_bytes,
            string_shares: vec![0.0; schema.arrow().fields().len()],
            schema,
        }
    }

    /// Decodes every record of `raw`; nothing in it can make this fail as a whole.
    ///
    /// # Panics
    /// If the batch holds 2 GiB or more of payload: Arrow's string offsets are 32 bits wide, and the source
    /// closes a batch at a few megabytes.
    pub fn decode(&mut self, raw: &RawBatch, epoch: Epoch) -> Decoded {
        assert!(
            i32::try_from(raw.arena.len()).is_ok(),
            "a batch of {} bytes, at most 2 GiB are possible",
            raw.arena.len()
        );
        let mut columns = self.new_columns(raw);
        let mut tokens = Tokens::new(self.rules.len());
        let mut rejects = Vec::new();
        let mut skipped = 0;
        for (index, record) in raw.records.iter().enumerate() {
            match self.decode_record(raw, record, epoch, &mut tokens, &mut columns) {
                Ok(Judged::Row) => columns.keep_row(),
                Ok(Judged::Skipped) => skipped += 1,
                Err(fault) => {
                    columns.drop_row();
                    rejects.push(fault.into_reject(index));
                }
            }
        }
        self.remember_string_shares(raw, &columns);
        Decoded {
            rows: columns.finish(),
            rejects,
            unknown_fields: self.reader.take_unknown_fields(),
            skipped,
        }
    }

    /// Pushes one row to `columns`, or part of one and a fault.
    #[inline]
    fn decode_record<'a>(
        &mut self,
        raw: &'a RawBatch,
        record: &RawRecord,
        epoch: Epoch,
        tokens: &mut Tokens<'a>,
        columns: &mut Columns,
    ) -> Result<Judged, Fault> {
        let Some(payload) = raw.bytes(&record.value) else {
            return match self.tombstones {
                Tombstones::Skip => Ok(Judged::Skipped),
                Tombstones::DeadLetter => Err(Fault::new(RejectCode::NullPayload, "the payload is null")),
            };
        };
        let id = RecordId::new(epoch, record.partition, record.offset).ok_or_else(|| no_id(epoch, record))?;
        if payload.len() > self.max_record_bytes {
            let error = format!(
                "the payload has {} bytes, allowed are {}",
                payload.len(),
                self.max_record_bytes
            );
            return Err(Fault::new(RejectCode::TooLarge, error));
        }
        self.reader.read(payload, tokens)?;
        self.push_fields(tokens, columns)?;
        columns.push(self.schema.id_index(), Cell::Integer(id.0));
        let timestamp = record.timestamp_ms.and_then(timestamp::from_kafka);
        let timestamp = timestamp.map_or(Cell::Null, Cell::Timestamp);
        columns.push(self.schema.timestamp_index(), timestamp);
        Ok(Judged::Row)
    }

    /// The declared fields and, where the schema derives it, `date`.
    #[inline]
    fn push_fields(&self, tokens: &Tokens<'_>, columns: &mut Columns) -> Result<(), Fault> {
        let mut strings = 0;
        let mut event_time = None;
        for (index, (rule, token)) in self.rules.iter().zip(&tokens.fields).enumerate() {
            let cell = rule.read(*token, &tokens.unescaped)?;
            match cell {
                Cell::Text(text) => strings += text.len(),
                Cell::Timestamp(micros) if index == self.schema.event_time => event_time = Some(micros),
                _ => (),
            }
            columns.push(index, cell);
        }
        if let Some(column) = self.schema.date_index() {
            columns.push(column, self.event_day(event_time)?);
        }
        self.bounds.check(strings, tokens)
    }

    fn event_day(&self, event_time: Option<i64>) -> Result<Cell<'static>, Fault> {
        let name = &self.rules[self.schema.event_time].name;
        let zone = self.schema.timezone;
        let micros = event_time.ok_or_else(|| {
            // The configuration makes the event time required; a schema built otherwise must not panic here.
            Fault::field(
                RejectCode::MissingField,
                name,
                "null, and the partition date derives from it",
            )
        })?;
        timestamp::local_day(micros, zone).map(Cell::Date).ok_or_else(|| {
            let what = format_args!("its day in {zone} lies outside years 0001–9999");
            Fault::field(RejectCode::InvalidTimestamp, name, what)
        })
    }

    fn new_columns(&self, raw: &RawBatch) -> Columns {
        /// Batches differ by a few percent; a buffer that is slightly short is copied once, as a whole.
        const MARGIN: f64 = 1.05;
        let payload = raw.arena.len() as f64 * MARGIN;
        let string_bytes: Vec<usize> = self
            .string_shares
            .iter()
            .map(|share| (share * payload) as usize)
            .collect();
        Columns::new(Arc::clone(self.schema.arrow()), raw.records.len(), &string_bytes)
    }

    fn remember_string_shares(&mut self, raw: &RawBatch, columns: &Columns) {
        if columns.rows() > 0 {
            let payload = raw.arena.len().max(1) as f64;
            self.string_shares = columns.string_bytes().map(|bytes| bytes as f64 / payload).collect();
        }
    }
}

#[cold]
fn no_id(epoch: Epoch, record: &RawRecord) -> Fault {
    let error = format!(
        "epoch {}, partition {}, offset {} do not fit a record id ({}, {} and {} bits)",
        epoch.0,
        record.partition,
        record.offset,
        RecordId::EPOCH_BITS,
        RecordId::PARTITION_BITS,
        RecordId::OFFSET_BITS
    );
    Fault::new(RejectCode::InvalidCoordinates, error)
}

#[cfg(test)]
mod tests;
