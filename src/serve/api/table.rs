//! What the API answers: rows of values under named columns.
//!
//! Owns: their order, and how values are written: decimals as text, because a number of JavaScript would round them.
//! Does not own: where they come from (`answer`, `records`).

use std::cmp::Ordering;

use bigdecimal::BigDecimal;
use bson::Bson;
use chrono::{DateTime, SecondsFormat};
use serde::Serialize;
use serde::ser::Serializer;

use super::question::Order;
use crate::schema::FieldType;

/// Rows under named columns.
#[derive(Debug, Serialize)]
pub(super) struct Table {
    pub stream: String,
    /// The collection that was asked.
    pub source: String,
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Cell>>,
    /// These are all.
    pub complete: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub ty: &'static str,
    /// An estimate by nature.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub approximate: bool,
}

impl Table {
    /// Sorts the rows, and keeps so many.
    pub fn cut(&mut self, order: Option<&Order>, limit: usize) {
        let column = |order: &Order| self.columns.iter().position(|column| column.name == order.column);
        if let Some((order, index)) = order.and_then(|order| Some((order, column(order)?))) {
            // Stable: equal ones stay in the order of time and dimensions.
            self.rows.sort_by(|a, b| match order.descending {
                true => b[index].cmp(&a[index]),
                false => a[index].cmp(&b[index]),
            });
        }
        self.complete &= self.rows.len() <= limit;
        self.rows.truncate(limit);
    }
}

impl Column {
    pub fn new(name: &str, ty: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            ty,
            approximate: false,
        }
    }
}

/// A value of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Null,
    Boolean(bool),
    Long(i64),
    Double(f64),
    Decimal(BigDecimal),
    Text(String),
    /// Milliseconds since 1970.
    Time(i64),
    /// Midnight UTC of a calendar day, as above.
    Day(i64),
}

impl Cell {
    /// Of a value of MongoDB's. `ty`: as it was declared.
    pub fn new(value: Option<&Bson>, ty: FieldType) -> Self {
        match value {
            None | Some(Bson::Null) => Self::Null,
            Some(Bson::Boolean(value)) => Self::Boolean(*value),
            Some(Bson::Int32(value)) => Self::Long((*value).into()),
            Some(Bson::Int64(value)) => Self::Long(*value),
            Some(Bson::Double(value)) => Self::Double(*value),
            Some(Bson::String(value)) => Self::Text(value.clone()),
            Some(Bson::DateTime(value)) if ty == FieldType::Date => Self::Day(value.timestamp_millis()),
            Some(Bson::DateTime(value)) => Self::Time(value.timestamp_millis()),
            Some(Bson::Decimal128(value)) => match value.to_string().parse() {
                Ok(number) => Self::Decimal(number),
                // Infinity or NaN, which nothing of ours stores.
                Err(_) => Self::Text(value.to_string()),
            },
            Some(other) => Self::Text(other.to_string()),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Boolean(_) => 1,
            Self::Long(_) | Self::Double(_) | Self::Decimal(_) => 2,
            Self::Text(_) => 3,
            Self::Time(_) | Self::Day(_) => 4,
        }
    }

    pub fn double(&self) -> f64 {
        use bigdecimal::ToPrimitive as _;
        match self {
            Self::Long(value) => *value as f64,
            Self::Double(value) => *value,
            Self::Decimal(value) => value.to_f64().unwrap_or(f64::NAN),
            _ => f64::NAN,
        }
    }

    pub fn add(self, other: Self) -> Self {
        match (self, other) {
            (Self::Null, value) | (value, Self::Null) => value,
            (Self::Long(a), Self::Long(b)) => match a.checked_add(b) {
                Some(sum) => Self::Long(sum),
                None => Self::Decimal(BigDecimal::from(a) + BigDecimal::from(b)),
            },
            (Self::Decimal(a), Self::Decimal(b)) => Self::Decimal(a + b),
            (Self::Decimal(a), Self::Long(b)) | (Self::Long(b), Self::Decimal(a)) => {
                Self::Decimal(a + BigDecimal::from(b))
            }
            (a, b) => Self::Double(a.double() + b.double()),
        }
    }
}

/// As MongoDB sorts them: null first, then by kind.
impl Ord for Cell {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_value = match (self, other) {
            (Self::Boolean(a), Self::Boolean(b)) => a.cmp(b),
            (Self::Long(a), Self::Long(b)) | (Self::Time(a), Self::Time(b)) | (Self::Day(a), Self::Day(b)) => a.cmp(b),
            (Self::Decimal(a), Self::Decimal(b)) => a.cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (a, b) if a.rank() == 2 && b.rank() == 2 => a.double().total_cmp(&b.double()),
            _ => Ordering::Equal,
        };
        self.rank().cmp(&other.rank()).then(by_value)
    }
}

impl PartialOrd for Cell {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Eq for Cell {}

impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let time = |ms: i64| DateTime::from_timestamp_millis(ms).unwrap_or_default();
        match self {
            Self::Null => serializer.serialize_none(),
            Self::Boolean(value) => serializer.serialize_bool(*value),
            Self::Long(value) => serializer.serialize_i64(*value),
            Self::Double(value) => serializer.serialize_f64(*value),
            Self::Decimal(value) => serializer.collect_str(&value.to_plain_string()),
            Self::Text(value) => serializer.serialize_str(value),
            Self::Time(ms) => serializer.serialize_str(&time(*ms).to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            Self::Day(ms) => serializer.collect_str(&time(*ms).date_naive()),
        }
    }
}

/// What a caller has to know: how a value is written.
pub(super) fn type_name(ty: FieldType) -> &'static str {
    match ty {
        FieldType::String => "string",
        FieldType::Boolean => "boolean",
        FieldType::Byte | FieldType::Short | FieldType::Integer | FieldType::Long => "long",
        FieldType::Float | FieldType::Double => "double",
        FieldType::Decimal { .. } => "decimal",
        FieldType::Date => "date",
        FieldType::Timestamp => "timestamp",
    }
}
