//! The declared schema of a stream: field types, required fields, partition columns, time zone.
//!
//! Owns: the Arrow schema both sinks see. `fingerprint` is the schema as a text, `evolution` what may become of it.
//! Does not own: parsing of the configuration (`config`), decoding of records (`decode`).
//!
//! Arrow columns, in order: the declared fields, then the derived partition column `date` (when
//! `partition_by` names it and no field has that name), then `_id` and `_timestamp`.

pub mod evolution;
mod fingerprint;

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field as ArrowField, Schema, SchemaRef, TimeUnit};
use chrono_tz::Tz;

/// Column of the record id, int64, never null.
pub const ID_COLUMN: &str = "_id";
/// Column of Kafka's record timestamp, microseconds UTC, null where Kafka has none.
pub const TIMESTAMP_COLUMN: &str = "_timestamp";
/// Name of the derived partition column: the calendar day of the event time in the stream's zone.
pub const DATE_COLUMN: &str = "date";

/// A declared type, by Delta's primitive type name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldType {
    String,
    Boolean,
    Byte,
    Short,
    Integer,
    Long,
    Float,
    Double,
    /// Exact decimal; precision 1–38, scale ≤ precision.
    Decimal {
        precision: u8,
        scale: u8,
    },
    /// Calendar day, `YYYY-MM-DD`.
    Date,
    /// Instant, microseconds UTC.
    Timestamp,
}

impl FieldType {
    pub fn arrow(self) -> DataType {
        match self {
            Self::String => DataType::Utf8,
            Self::Boolean => DataType::Boolean,
            Self::Byte => DataType::Int8,
            Self::Short => DataType::Int16,
            Self::Integer => DataType::Int32,
            Self::Long => DataType::Int64,
            Self::Float => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::Decimal { precision, scale } => DataType::Decimal128(precision, scale as i8),
            Self::Date => DataType::Date32,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }
}

/// Delta's name of the type, the same text the configuration uses.
impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String => f.write_str("string"),
            Self::Boolean => f.write_str("boolean"),
            Self::Byte => f.write_str("byte"),
            Self::Short => f.write_str("short"),
            Self::Integer => f.write_str("integer"),
            Self::Long => f.write_str("long"),
            Self::Float => f.write_str("float"),
            Self::Double => f.write_str("double"),
            Self::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            Self::Date => f.write_str("date"),
            Self::Timestamp => f.write_str("timestamp"),
        }
    }
}

/// How a numeric epoch timestamp counts, where a field declares one. Without it numbers are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EpochUnit {
    Seconds,
    Milliseconds,
    Microseconds,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    pub ty: FieldType,
    pub required: bool,
    /// Only for `timestamp` fields that arrive as epoch numbers.
    pub unit: Option<EpochUnit>,
}

/// Where a partition column's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartitionColumn {
    /// `date`, derived from the event time in the stream's zone.
    EventDate,
    /// A declared string field, by index into [`StreamSchema::fields`].
    Field(usize),
}

/// Everything about a stream's records that decoding and both sinks need. Validated by `config`:
/// names unique, `event_time` a required timestamp, partition fields of type string.
#[derive(Clone, Debug)]
pub struct StreamSchema {
    pub fields: Vec<Field>,
    /// Index of the event-time field.
    pub event_time: usize,
    pub partition_by: Vec<PartitionColumn>,
    pub timezone: Tz,
    arrow: SchemaRef,
}

impl StreamSchema {
    pub fn new(fields: Vec<Field>, event_time: usize, partition_by: Vec<PartitionColumn>, timezone: Tz) -> Self {
        let mut columns: Vec<ArrowField> = fields
            .iter()
            .map(|f| ArrowField::new(&f.name, f.ty.arrow(), !f.required))
            .collect();
        if partition_by.contains(&PartitionColumn::EventDate) {
            columns.push(ArrowField::new(DATE_COLUMN, DataType::Date32, false));
        }
        columns.push(ArrowField::new(ID_COLUMN, DataType::Int64, false));
        columns.push(ArrowField::new(TIMESTAMP_COLUMN, FieldType::Timestamp.arrow(), true));
        Self {
            fields,
            event_time,
            partition_by,
            timezone,
            arrow: Arc::new(Schema::new(columns)),
        }
    }

    /// The schema of every `RecordBatch` of this stream (column order: see the module header).
    pub fn arrow(&self) -> &SchemaRef {
        &self.arrow
    }

    pub fn has_date_column(&self) -> bool {
        self.partition_by.contains(&PartitionColumn::EventDate)
    }

    /// Index of the derived `date` column in the Arrow schema.
    pub fn date_index(&self) -> Option<usize> {
        self.has_date_column().then_some(self.fields.len())
    }

    /// Index of `_id` in the Arrow schema.
    pub fn id_index(&self) -> usize {
        self.arrow.fields().len() - 2
    }

    /// Index of `_timestamp` in the Arrow schema.
    pub fn timestamp_index(&self) -> usize {
        self.arrow.fields().len() - 1
    }

    /// Column names of the lake's partitioning, in path order.
    pub fn partition_names(&self) -> Vec<&str> {
        self.partition_by
            .iter()
            .map(|c| match c {
                PartitionColumn::EventDate => DATE_COLUMN,
                PartitionColumn::Field(i) => self.fields[*i].name.as_str(),
            })
            .collect()
    }

    /// The declared field of that name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Is this declared field a partition column? (An empty string there is read as null.)
    pub fn is_partition_field(&self, index: usize) -> bool {
        self.partition_by.contains(&PartitionColumn::Field(index))
    }
}
