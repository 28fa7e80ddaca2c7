//! What MongoDB's documents say, read strictly: a value of another BSON type is not the value.
//!
//! Owns: documents → rows and rollup groups, BSON values → plain values, its own reading of Decimal128.
//! Does not own: fetching (`mongo`), comparing (`compare`, `rollup`).

use bson::raw::{RawBsonRef, RawDocument};

use super::compare::Stored;
use super::oracle::{Row, Value};
use crate::offsets::RecordId;
use crate::schema::{FieldType, StreamSchema};

/// Why a document is not of the agreed shape: the field, and what was found there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Odd {
    pub field: String,
    pub found: String,
}

impl Odd {
    pub fn new(field: &str, found: impl Into<String>) -> Self {
        Self {
            field: field.to_owned(),
            found: found.into(),
        }
    }
}

/// `None` where it is no int64.
pub fn id(document: &RawDocument) -> Option<RecordId> {
    match document.get("_id") {
        Ok(Some(RawBsonRef::Int64(id))) => Some(RecordId(id)),
        _ => None,
    }
}

/// A document of the stream's collection. `None` where its `_id` is no int64, so that it is none of ours.
pub fn row(schema: &StreamSchema, document: &RawDocument) -> Option<Stored> {
    let id = id(document)?;
    Some(match row_values(schema, document) {
        Ok(values) => Stored::Row(Row {
            id,
            values,
            date: None,
            timestamp_us: None,
        }),
        Err(odd) => Stored::Odd(id, odd),
    })
}

/// The declared fields in their declared order; nulls are left out, and nothing else is there.
fn row_values(schema: &StreamSchema, document: &RawDocument) -> Result<Vec<Option<Value>>, Odd> {
    let mut values = vec![None; schema.fields.len()];
    let mut next = 0;
    for element in document {
        let (name, found) = element.map_err(|error| Odd::new("(document)", error.to_string()))?;
        let name = name.as_str();
        if name == "_id" {
            continue;
        }
        let skipped = schema.fields[next..].iter().position(|field| field.name == name);
        let Some(index) = skipped.map(|skipped| next + skipped) else {
            let declared = schema.fields.iter().any(|field| field.name == name);
            let why = if declared {
                "out of order, or there twice"
            } else {
                "a field nobody declared"
            };
            return Err(Odd::new(name, why));
        };
        values[index] = Some(value(schema.fields[index].ty, found).ok_or_else(|| Odd::new(name, show(found)))?);
        next = index + 1;
    }
    Ok(values)
}

/// The value, where it is of the BSON type in which this declared type is kept.
pub fn value(ty: FieldType, found: RawBsonRef<'_>) -> Option<Value> {
    Some(match (ty, found) {
        (FieldType::String, RawBsonRef::String(text)) => Value::String(text.to_owned()),
        (FieldType::Boolean, RawBsonRef::Boolean(value)) => Value::Boolean(value),
        (FieldType::Byte | FieldType::Short | FieldType::Integer, RawBsonRef::Int32(value)) => {
            Value::Integer(value.into())
        }
        (FieldType::Long, RawBsonRef::Int64(value)) => Value::Integer(value),
        (FieldType::Float | FieldType::Double, RawBsonRef::Double(value)) => Value::Double(value),
        (FieldType::Decimal { scale, .. }, RawBsonRef::Decimal128(value)) => {
            Value::Decimal(decimal(value.bytes(), scale)?, scale)
        }
        (FieldType::Timestamp, RawBsonRef::DateTime(at)) => Value::Timestamp(at.timestamp_millis().checked_mul(1000)?),
        // A calendar day is kept as its midnight in UTC.
        (FieldType::Date, RawBsonRef::DateTime(at)) => {
            let days = at.timestamp_millis() / 86_400_000;
            (days * 86_400_000 == at.timestamp_millis()).then_some(())?;
            Value::Date(i32::try_from(days).ok()?)
        }
        _ => return None,
    })
}

/// The number times `10^scale`; `None` where that is no integer of 128 bits, and for NaN and the infinities.
///
/// Layout (IEEE 754-2008, binary integer decimal, little endian): 1 sign bit, 14 bits of exponent biased by
/// 6176, 113 bits of coefficient. A combination field that begins `11` marks special values, and
/// coefficients beyond 34 digits, which count as zero and which nobody writes.
pub fn decimal(bytes: [u8; 16], scale: u8) -> Option<i128> {
    let bits = u128::from_le_bytes(bytes);
    if (bits >> 125) & 0b11 == 0b11 {
        return None;
    }
    let coefficient = i128::try_from(bits & ((1 << 113) - 1)).ok()?;
    if coefficient == 0 {
        return Some(0);
    }
    let exponent = ((bits >> 113) & 0x3FFF) as i64 - 6176;
    let shift = exponent + i64::from(scale);
    let power = 10i128.checked_pow(u32::try_from(shift.unsigned_abs()).ok()?)?;
    let magnitude = if shift >= 0 {
        coefficient.checked_mul(power)?
    } else {
        (coefficient % power == 0).then_some(coefficient / power)?
    };
    Some(if bits >> 127 == 1 { -magnitude } else { magnitude })
}

/// A BSON value with its type, for people.
pub fn show(found: RawBsonRef<'_>) -> String {
    match found {
        RawBsonRef::String(text) => super::form::show(Some(&Value::String(text.to_owned()))),
        RawBsonRef::Boolean(value) => value.to_string(),
        RawBsonRef::Null => "null".to_owned(),
        RawBsonRef::Int32(value) => format!("{value} (int32)"),
        RawBsonRef::Int64(value) => format!("{value} (int64)"),
        RawBsonRef::Double(value) => format!("{value:?} (double)"),
        RawBsonRef::Decimal128(value) => format!("{value} (decimal128)"),
        RawBsonRef::DateTime(at) => {
            super::form::show(Some(&Value::Timestamp(at.timestamp_millis().saturating_mul(1000))))
        }
        other => {
            let text: String = format!("{other:?}").chars().take(120).collect();
            format!("{text} ({:?})", other.element_type())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use bson::{DateTime, Decimal128, Document, RawDocumentBuf, doc};

    use super::*;
    use crate::verify::testing::stream;

    fn read(document: Document) -> Option<Stored> {
        row(&stream().schema, &RawDocumentBuf::try_from(&document).unwrap())
    }

    fn odd_field(document: Document) -> String {
        match read(document) {
            Some(Stored::Odd(RecordId(7), odd)) => odd.field,
            other => panic!("not odd but {other:?}"),
        }
    }

    #[test]
    fn a_document_in_the_agreed_shape_is_a_row() {
        let money = Decimal128::from_str("1.50").unwrap();
        let document = doc! { "_id": 7i64, "at": DateTime::from_millis(-1), "amount": money, "quantity": 3i64,
        "weight": 0.5, "small": 1i32, "day": DateTime::from_millis(86_400_000) };
        let Some(Stored::Row(row)) = read(document) else {
            panic!("no row")
        };
        assert_eq!(row.id, RecordId(7));
        assert_eq!(row.values[0], Some(Value::Timestamp(-1000)));
        assert_eq!(row.values[1], None);
        assert_eq!(row.values[2], Some(Value::Decimal(150, 2)));
        assert_eq!(row.values[3], Some(Value::Integer(3)));
        assert_eq!(row.values[5], Some(Value::Double(0.5)));
        assert_eq!(row.values[8], Some(Value::Date(1)));
    }

    #[test]
    fn other_types_order_and_fields_are_odd() {
        assert_eq!(odd_field(doc! { "_id": 7i64, "quantity": 3i32 }), "quantity");
        assert_eq!(odd_field(doc! { "_id": 7i64, "amount": 1.5 }), "amount");
        assert_eq!(
            odd_field(doc! { "_id": 7i64, "amount": Decimal128::from_str("1.505").unwrap() }),
            "amount"
        );
        assert_eq!(odd_field(doc! { "_id": 7i64, "region": bson::Bson::Null }), "region");
        assert_eq!(odd_field(doc! { "_id": 7i64, "at": "2024-01-01T00:00:00Z" }), "at");
        assert_eq!(
            odd_field(doc! { "_id": 7i64, "quantity": 3i64, "region": "Corse" }),
            "region"
        );
        assert_eq!(odd_field(doc! { "_id": 7i64, "stranger": 1 }), "stranger");
    }

    #[test]
    fn a_document_with_another_kind_of_id_is_none_of_ours() {
        assert_eq!(read(doc! { "_id": "7" }), None);
        assert_eq!(read(doc! { "_id": 7i32 }), None);
        assert_eq!(read(doc! { "at": DateTime::from_millis(0) }), None);
    }

    #[test]
    fn values_are_shown_with_the_type_that_may_be_wrong() {
        let money = Decimal128::from_str("1.50").unwrap();
        assert_eq!(show(RawBsonRef::Decimal128(money)), "1.50 (decimal128)");
        assert_eq!(show(RawBsonRef::Int32(5)), "5 (int32)");
        assert_eq!(show(RawBsonRef::String("five")), "\"five\"");
        assert_eq!(
            show(RawBsonRef::DateTime(DateTime::from_millis(1))),
            "1970-01-01T00:00:00.001Z"
        );
    }

    #[test]
    fn decimals_are_equal_by_value_whatever_their_exponent() {
        let at_scale_2 = |text: &str| decimal(Decimal128::from_str(text).unwrap().bytes(), 2);
        assert_eq!(at_scale_2("1.5"), Some(150));
        assert_eq!(at_scale_2("-1.50"), Some(-150));
        assert_eq!(at_scale_2("1.500"), Some(150));
        assert_eq!(at_scale_2("1E+3"), Some(100_000));
        assert_eq!(at_scale_2("0E+3000"), Some(0));
        assert_eq!(
            at_scale_2("9999999999999999999999999999999999"),
            Some(999_999_999_999_999_999_999_999_999_999_999_900)
        );
        assert_eq!(at_scale_2("0.001"), None);
        assert_eq!(at_scale_2("NaN"), None);
        assert_eq!(at_scale_2("-Infinity"), None);
        assert_eq!(at_scale_2("1E+6000"), None);
    }
}
