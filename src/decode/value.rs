//! A token → the cell of a declared field: the rules per type.
//!
//! Owns: which JSON values a type takes, and the code of what it does not take. `wrong_type` says the value is of
//! another kind; `out_of_range` and `invalid_timestamp` say the kind is right and the value is not.
//! Does not own: arithmetic on numbers and calendars (`number`, `timestamp`), wording of found values (`fault`).

use super::fault::{Fault, Found};
use super::json::Token;
use super::limits::{MAX_PATH_SEGMENT_BYTES, escaped_len};
use super::number::{Number, Scaled};
use super::timestamp::{Unreadable, from_epoch, parse_date, parse_rfc3339};
use crate::batch::RejectCode;
use crate::schema::{EpochUnit, FieldType, StreamSchema};

/// The directory name engines read back as null, whatever was written.
const HIVE_NULL: &[u8] = b"__HIVE_DEFAULT_PARTITION__";

/// A value that its column takes as it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    /// Valid UTF-8.
    Text(&'a [u8]),
    Boolean(bool),
    /// Within the range of the declared integer type.
    Integer(i64),
    Float(f32),
    Double(f64),
    /// Unscaled, within the declared precision.
    Decimal(i128),
    /// Days since 1970.
    Date(i32),
    /// Microseconds since 1970, UTC.
    Timestamp(i64),
}

/// A declared field as this module needs it.
#[derive(Clone, Debug)]
pub(super) struct FieldRule {
    pub(super) name: String,
    ty: FieldType,
    required: bool,
    unit: Option<EpochUnit>,
    is_partition: bool,
}

impl FieldRule {
    pub(super) fn of_schema(schema: &StreamSchema) -> Vec<Self> {
        let rule = |(index, field): (usize, &crate::schema::Field)| Self {
            name: field.name.clone(),
            ty: field.ty,
            required: field.required,
            unit: field.unit,
            is_partition: schema.is_partition_field(index),
        };
        schema.fields.iter().enumerate().map(rule).collect()
    }

    /// Judges one value. `unescaped` is the record's buffer of decoded strings.
    #[inline]
    pub(super) fn read<'a>(&self, token: Token<'a>, unescaped: &'a [u8]) -> Result<Cell<'a>, Fault> {
        if let Token::Absent | Token::Null = token {
            return self.null(if token == Token::Null { "null" } else { "absent" });
        }
        let found = Found { token, unescaped };
        match self.ty {
            FieldType::String => self.string(found),
            FieldType::Boolean => match token {
                Token::Boolean(value) => Ok(Cell::Boolean(value)),
                _ => Err(self.wrong_type(found, "true or false")),
            },
            FieldType::Byte => self.integer(found, i8::MIN.into(), i8::MAX.into()),
            FieldType::Short => self.integer(found, i16::MIN.into(), i16::MAX.into()),
            FieldType::Integer => self.integer(found, i32::MIN.into(), i32::MAX.into()),
            FieldType::Long => self.integer(found, i64::MIN, i64::MAX),
            FieldType::Float => self.float(found),
            FieldType::Double => self.double(found),
            FieldType::Decimal { precision, scale } => self.decimal(found, precision, scale),
            FieldType::Date => self.date(found),
            FieldType::Timestamp => self.timestamp(found),
        }
    }

    fn null<'a>(&self, state: &str) -> Result<Cell<'a>, Fault> {
        if self.required {
            let what = format_args!("required, and {state}");
            return Err(Fault::field(RejectCode::MissingField, &self.name, what));
        }
        Ok(Cell::Null)
    }

    fn string<'a>(&self, found: Found<'a>) -> Result<Cell<'a>, Fault> {
        let Some(text) = found.token.text(found.unescaped) else {
            return Err(self.wrong_type(found, "a string"));
        };
        if self.is_partition {
            return self.partition_value(text, found);
        }
        Ok(Cell::Text(text))
    }

    /// A string that becomes a directory name. Empty and null share one directory in Hive's layout, so an empty
    /// one could not be read back: it is null from here on, in both sinks.
    fn partition_value<'a>(&self, text: &'a [u8], found: Found<'a>) -> Result<Cell<'a>, Fault> {
        if text.is_empty() {
            return self.null("empty, which a partition column reads as null");
        }
        if text == HIVE_NULL {
            let what = format_args!("{found} is how a partition path says null");
            return Err(Fault::field(RejectCode::InvalidPartitionValue, &self.name, what));
        }
        let segment = escaped_len(self.name.as_bytes()) + 1 + escaped_len(text);
        if segment > MAX_PATH_SEGMENT_BYTES {
            let what = format_args!(
                "{found} makes a directory name of up to {segment} bytes, allowed are {MAX_PATH_SEGMENT_BYTES}"
            );
            return Err(Fault::field(RejectCode::InvalidPartitionValue, &self.name, what));
        }
        Ok(Cell::Text(text))
    }

    fn integer<'a>(&self, found: Found<'a>, min: i64, max: i64) -> Result<Cell<'a>, Fault> {
        let (_, number) = self.number(&found)?;
        match number.scaled(0) {
            Scaled::Exact(value) if (i128::from(min)..=i128::from(max)).contains(&value) => {
                Ok(Cell::Integer(value as i64))
            }
            _ => Err(self.out_of_range(found)),
        }
    }

    fn decimal<'a>(&self, found: Found<'a>, precision: u8, scale: u8) -> Result<Cell<'a>, Fault> {
        let (_, number) = self.number(&found)?;
        match number.scaled(i64::from(scale)) {
            Scaled::Exact(value) if value.unsigned_abs() < 10u128.pow(precision.into()) => Ok(Cell::Decimal(value)),
            _ => Err(self.out_of_range(found)),
        }
    }

    /// Rounded to the nearest `float` in one step: by way of `f64` some values would round twice.
    fn float<'a>(&self, found: Found<'a>) -> Result<Cell<'a>, Fault> {
        let (text, _) = self.number(&found)?;
        match text.parse::<f32>() {
            Ok(value) if value.is_finite() => Ok(Cell::Float(value)),
            _ => Err(self.out_of_range(found)),
        }
    }

    fn double<'a>(&self, found: Found<'a>) -> Result<Cell<'a>, Fault> {
        let (text, _) = self.number(&found)?;
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Cell::Double(value)),
            _ => Err(self.out_of_range(found)),
        }
    }

    /// A JSON number, or a string that holds exactly one.
    fn number<'a>(&self, found: &Found<'a>) -> Result<(&'a str, Number<'a>), Fault> {
        number_in(found).ok_or_else(|| self.wrong_type(*found, "a number, or a string holding one"))
    }

    fn date<'a>(&self, found: Found<'a>) -> Result<Cell<'a>, Fault> {
        let Some(text) = found.token.text(found.unescaped) else {
            return Err(self.wrong_type(found, "a string YYYY-MM-DD"));
        };
        match parse_date(text) {
            Ok(day) => Ok(Cell::Date(day)),
            Err(why) => Err(self.invalid_timestamp(found, why, "a date YYYY-MM-DD")),
        }
    }

    fn timestamp<'a>(&self, found: Found<'a>) -> Result<Cell<'a>, Fault> {
        const RFC3339: &str = "an RFC 3339 timestamp with Z or an offset";
        let Some(unit) = self.unit else {
            return match (found.token.text(found.unescaped), found.token) {
                (Some(text), _) => match parse_rfc3339(text) {
                    Ok(micros) => Ok(Cell::Timestamp(micros)),
                    Err(why) => Err(self.invalid_timestamp(found, why, RFC3339)),
                },
                (None, Token::Number(_)) => {
                    let what = format_args!("{found} is a number, and the field declares no unit to count in");
                    Err(Fault::field(RejectCode::InvalidTimestamp, &self.name, what))
                }
                _ => Err(self.wrong_type(found, RFC3339)),
            };
        };
        let wanted = "an epoch count or an RFC 3339 timestamp";
        let micros = match (number_in(&found), found.token.text(found.unescaped)) {
            (Some((_, count)), _) => from_epoch(&count, unit),
            (None, Some(text)) => parse_rfc3339(text),
            (None, None) => return Err(self.wrong_type(found, wanted)),
        };
        micros
            .map(Cell::Timestamp)
            .map_err(|why| self.invalid_timestamp(found, why, wanted))
    }

    #[cold]
    fn wrong_type(&self, found: Found<'_>, wanted: &str) -> Fault {
        let what = format_args!("found {found}, wanted {wanted}");
        Fault::field(RejectCode::WrongType, &self.name, what)
    }

    #[cold]
    fn out_of_range(&self, found: Found<'_>) -> Fault {
        let what = format_args!("{found} does not fit {}", self.ty);
        Fault::field(RejectCode::OutOfRange, &self.name, what)
    }

    #[cold]
    fn invalid_timestamp(&self, found: Found<'_>, why: Unreadable, wanted: &str) -> Fault {
        let code = RejectCode::InvalidTimestamp;
        match why {
            Unreadable::Form => Fault::field(code, &self.name, format_args!("{found} is not {wanted}")),
            Unreadable::NoSuchTime => {
                let what = format_args!("{found} names a day or a time of day that does not exist");
                Fault::field(code, &self.name, what)
            }
            Unreadable::OutsideYears => {
                Fault::field(code, &self.name, format_args!("{found} lies outside years 0001–9999"))
            }
        }
    }
}

/// The number a token is or, as a string, holds.
#[inline]
fn number_in<'a>(found: &Found<'a>) -> Option<(&'a str, Number<'a>)> {
    let text = match found.token {
        Token::Number(text) => text,
        token => token.text(found.unescaped)?,
    };
    let number = Number::parse(text)?;
    // Never `None`: what follows the grammar of numbers is ASCII.
    Some((std::str::from_utf8(text).ok()?, number))
}
