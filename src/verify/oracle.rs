//! A second decoder, slow and plain, that says what a record should have become.
//!
//! Written from the settled rules alone, apart from the decoder it judges: its own JSON parser, its own
//! number and timestamp reading. Where the two differ one of them is wrong, and verify says so.
//!
//! Owns: the verdict over one record — its row, or why it is none.
//! Does not own: what each sink makes of a row (`form`).

pub mod json;
pub mod number;
pub mod time;

use chrono::NaiveDate;

use self::json::{Fault, Json};
use self::number::Number;
use crate::batch::RejectCode;
use crate::config::{StreamConfig, Tombstones};
use crate::offsets::{Epoch, Offset, Partition, RecordId};
use crate::schema::{Field, FieldType, PartitionColumn, StreamSchema};

/// The directory name that stands for null in a partition path, so no value may have it.
const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// The longest directory name the usual file systems take.
const MAX_DIRECTORY_BYTES: usize = 255;

/// The largest document MongoDB stores.
const MAX_DOCUMENT_BYTES: usize = 16 * 1024 * 1024;

#[derive(Clone, Copy, Debug)]
pub struct OracleRecord<'a> {
    pub partition: Partition,
    pub offset: Offset,
    /// Milliseconds since 1970; `None` where the broker has none.
    pub timestamp_ms: Option<i64>,
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Row(Row),
    /// A tombstone in a stream that skips them.
    Skipped,
    /// With the first fault found; [`faults`] names them all.
    Reject(RejectCode),
}

/// A record as it should stand in the lake; MongoDB's coarser form is `form::Form::Mongo`.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub id: RecordId,
    /// One per declared field, in order.
    pub values: Vec<Option<Value>>,
    /// The derived partition column, where the stream has it.
    pub date: Option<NaiveDate>,
    /// Kafka's timestamp in microseconds.
    pub timestamp_us: Option<i64>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    String(String),
    Boolean(bool),
    /// byte, short, integer and long.
    Integer(i64),
    Double(f64),
    Float(f32),
    /// Value times `10^scale`, and the scale.
    Decimal(i128, u8),
    /// Days since 1970.
    Date(i32),
    /// Microseconds since 1970.
    Timestamp(i64),
}

/// What should have become of this record.
pub fn decode(stream: &StreamConfig, record: &OracleRecord<'_>, epoch: Epoch) -> Verdict {
    if record.value.is_none() && stream.tombstones == Tombstones::Skip {
        return Verdict::Skipped;
    }
    match judge(stream, record, epoch) {
        Ok(row) => Verdict::Row(row),
        Err(faults) => Verdict::Reject(faults[0]),
    }
}

/// Everything that is wrong with a record; a decoder may name any of these. Empty for a good record.
pub fn faults(stream: &StreamConfig, record: &OracleRecord<'_>, epoch: Epoch) -> Vec<RejectCode> {
    match judge(stream, record, epoch) {
        Ok(_) => Vec::new(),
        Err(faults) => faults,
    }
}

/// The row, or every fault found; the list is never empty.
fn judge(stream: &StreamConfig, record: &OracleRecord<'_>, epoch: Epoch) -> Result<Row, Vec<RejectCode>> {
    let id = RecordId::new(epoch, record.partition, record.offset).ok_or(vec![RejectCode::InvalidCoordinates])?;
    let payload = record.value.ok_or(vec![RejectCode::NullPayload])?;
    if payload.len() > stream.max_record_bytes {
        return Err(vec![RejectCode::TooLarge]);
    }
    let object = json::parse(payload).map_err(|fault| match fault {
        Fault::Malformed => vec![RejectCode::InvalidJson],
        Fault::TooDeep => too_deep(payload),
    })?;
    if !matches!(object, Json::Object(_)) {
        return Err(vec![RejectCode::InvalidJson]);
    }

    let schema = &stream.schema;
    let mut faults = Vec::new();
    let values: Vec<Option<Value>> = (0..schema.fields.len())
        .map(|index| {
            field_value(schema, index, &object).unwrap_or_else(|fault| {
                faults.push(fault);
                None
            })
        })
        .collect();
    let date = event_date(schema, &values, &mut faults);
    if document_bytes(schema, &values) > MAX_DOCUMENT_BYTES {
        faults.push(RejectCode::TooLarge);
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(Row {
        id,
        values,
        date,
        timestamp_us: record.timestamp_ms.map(|ms| ms * 1000),
    })
}

/// Depth is noticed before the rest is read; that the outermost value is no object is plain at once.
fn too_deep(payload: &[u8]) -> Vec<RejectCode> {
    let first = payload.iter().find(|b| !b.is_ascii_whitespace());
    if first == Some(&b'{') {
        vec![RejectCode::TooDeep]
    } else {
        vec![RejectCode::TooDeep, RejectCode::InvalidJson]
    }
}

fn field_value(schema: &StreamSchema, index: usize, object: &Json<'_>) -> Result<Option<Value>, RejectCode> {
    let field = &schema.fields[index];
    let mut value = match object.last(&field.name) {
        None | Some(Json::Null) => None,
        Some(found) => Some(typed(field, found)?),
    };
    if schema.is_partition_field(index) {
        match &value {
            Some(Value::String(text)) if text.is_empty() => value = None,
            Some(Value::String(text)) if !is_directory_name(&field.name, text) => {
                return Err(RejectCode::InvalidPartitionValue);
            }
            _ => {}
        }
    }
    if value.is_none() && field.required {
        return Err(RejectCode::MissingField);
    }
    Ok(value)
}

/// Can `column=value` be a directory, escaped as Hive does it, and beyond ASCII byte by byte?
fn is_directory_name(column: &str, value: &str) -> bool {
    const ESCAPED: &str = "\"#%'*/:=?\\{}[]^<>|`~\u{7f}";
    let bytes = |c: char| {
        if c < ' ' || !c.is_ascii() || ESCAPED.contains(c) {
            "%00".len() * c.len_utf8()
        } else {
            c.len_utf8()
        }
    };
    let length = |text: &str| text.chars().map(bytes).sum::<usize>();
    value != NULL_PARTITION && length(column) + "=".len() + length(value) <= MAX_DIRECTORY_BYTES
}

fn typed(field: &Field, found: &Json<'_>) -> Result<Value, RejectCode> {
    match field.ty {
        FieldType::String => match found {
            Json::String(text) => Ok(Value::String(text.clone().into_owned())),
            _ => Err(RejectCode::WrongType),
        },
        FieldType::Boolean => match found {
            Json::Boolean(value) => Ok(Value::Boolean(*value)),
            _ => Err(RejectCode::WrongType),
        },
        FieldType::Byte => integer(found, i8::MIN.into(), i8::MAX.into()),
        FieldType::Short => integer(found, i16::MIN.into(), i16::MAX.into()),
        FieldType::Integer => integer(found, i32::MIN.into(), i32::MAX.into()),
        FieldType::Long => integer(found, i64::MIN, i64::MAX),
        FieldType::Float => finite(
            number_text(found)?
                .parse::<f32>()
                .ok()
                .filter(|v| v.is_finite())
                .map(Value::Float),
        ),
        FieldType::Double => finite(
            number_text(found)?
                .parse::<f64>()
                .ok()
                .filter(|v| v.is_finite())
                .map(Value::Double),
        ),
        FieldType::Decimal { precision, scale } => Number::read(number_text(found)?)
            .scaled(precision.into(), scale.into())
            .map(|unscaled| Value::Decimal(unscaled, scale))
            .ok_or(RejectCode::OutOfRange),
        FieldType::Date => match found {
            Json::String(text) => time::date(text)
                .map(|day| Value::Date(time::days(day)))
                .ok_or(RejectCode::InvalidTimestamp),
            _ => Err(RejectCode::WrongType),
        },
        // With a unit, a string may hold the epoch number too, as everywhere where a number is wanted.
        FieldType::Timestamp => match (number_text(found), found, field.unit) {
            (Ok(text), _, Some(unit)) => time::epoch_number(&Number::read(text), unit),
            (_, Json::String(text), _) => time::timestamp(text),
            (_, Json::Number(_), _) => None,
            _ => return Err(RejectCode::WrongType),
        }
        .map(Value::Timestamp)
        .ok_or(RejectCode::InvalidTimestamp),
    }
}

/// A JSON number, or a string that holds exactly one.
fn number_text<'a>(found: &'a Json<'_>) -> Result<&'a str, RejectCode> {
    match found {
        Json::Number(text) => Ok(text),
        Json::String(text) if json::is_number(text) => Ok(text),
        _ => Err(RejectCode::WrongType),
    }
}

fn integer(found: &Json<'_>, min: i64, max: i64) -> Result<Value, RejectCode> {
    Number::read(number_text(found)?)
        .integer(min, max)
        .map(Value::Integer)
        .ok_or(RejectCode::OutOfRange)
}

fn finite(value: Option<Value>) -> Result<Value, RejectCode> {
    value.ok_or(RejectCode::OutOfRange)
}

fn event_date(schema: &StreamSchema, values: &[Option<Value>], faults: &mut Vec<RejectCode>) -> Option<NaiveDate> {
    if !schema.partition_by.contains(&PartitionColumn::EventDate) {
        return None;
    }
    // Without an event time there is another fault on the list already.
    let Some(Value::Timestamp(micros)) = &values[schema.event_time] else {
        return None;
    };
    let date = time::local_date(*micros, schema.timezone);
    if date.is_none() {
        faults.push(RejectCode::InvalidTimestamp);
    }
    date
}

/// Size of the row's BSON document: a length, `_id`, per value a type byte, its name and a zero, one zero.
fn document_bytes(schema: &StreamSchema, values: &[Option<Value>]) -> usize {
    let id = 1 + "_id".len() + 1 + 8;
    let fields = schema.fields.iter().zip(values).filter_map(|(field, value)| {
        let bytes = match value.as_ref()? {
            Value::String(text) => 4 + text.len() + 1,
            Value::Boolean(_) => 1,
            Value::Integer(_) if field.ty == FieldType::Long => 8,
            Value::Integer(_) => 4,
            Value::Double(_) | Value::Float(_) | Value::Date(_) | Value::Timestamp(_) => 8,
            Value::Decimal(..) => 16,
        };
        Some(1 + field.name.len() + 1 + bytes)
    });
    4 + id + fields.sum::<usize>() + 1
}

#[cfg(test)]
mod tests;
