//! The statistics of a file in the form the Delta log wants, from what the Parquet footer already knows.
//!
//! Owns: the rule that a bound is never tighter than the truth. A reader skips files by these numbers, so
//! a maximum that is one too small hides rows. Hence: timestamps are cut to milliseconds with the maximum
//! rounded up, long strings are cut to 32 characters with the maximum's last character raised, and
//! whatever cannot be bounded this way is left out.
//! Does not own: computing minima and maxima (`parquet`).
//!
//! JSON is written by hand because a decimal must stand in it exactly, as a number of up to 38 digits.

use std::fmt::Write;

use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use chrono::{DateTime, Datelike, SecondsFormat, Utc};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;

/// Length of a string bound in characters, as Delta's own writers choose it.
const STRING_BOUND_CHARS: usize = 32;

/// `add.stats` of a file written with `schema`.
pub fn file_stats(schema: &SchemaRef, metadata: &ParquetMetaData) -> String {
    let (mut minima, mut maxima, mut nulls) = (String::new(), String::new(), String::new());
    for (index, field) in schema.fields().iter().enumerate() {
        let column = Column::of(index, metadata);
        let name = json_string(field.name());
        member(&mut nulls, &name, &column.nulls.to_string());
        if let Some((min, max)) = column.bounds {
            if let Some(min) = min.and_then(|v| v.lower(field.data_type())) {
                member(&mut minima, &name, &min);
            }
            if let Some(max) = max.and_then(|v| v.upper(field.data_type())) {
                member(&mut maxima, &name, &max);
            }
        }
    }
    let rows = metadata.file_metadata().num_rows();
    format!(r#"{{"numRecords":{rows},"minValues":{{{minima}}},"maxValues":{{{maxima}}},"nullCount":{{{nulls}}}}}"#)
}

fn member(object: &mut String, name: &str, value: &str) {
    let comma = if object.is_empty() { "" } else { "," };
    let _ = write!(object, "{comma}{name}:{value}");
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// One column over all row groups.
#[derive(Default)]
struct Column {
    nulls: u64,
    /// `None`: no value at all, or not comparable; inner `None`: this end is not known.
    bounds: Option<(Option<Value>, Option<Value>)>,
}

impl Column {
    fn of(index: usize, metadata: &ParquetMetaData) -> Self {
        let mut column = Self::default();
        for group in metadata.row_groups() {
            let rows = group.num_rows().unsigned_abs();
            let statistics = group.column(index).statistics();
            let nulls = statistics.and_then(Statistics::null_count_opt).unwrap_or(0);
            column.nulls += nulls;
            if nulls == rows {
                continue;
            }
            let (min, max) = statistics.map_or((None, None), Value::ends);
            column.bounds = Some(match column.bounds.take() {
                None => (min, max),
                Some((low, high)) => (Value::least(low, min), Value::greatest(high, max)),
            });
        }
        column
    }
}

#[derive(Clone, Debug, PartialEq, PartialOrd)]
enum Value {
    /// Integers, days, microseconds, unscaled decimals.
    Whole(i128),
    Real(f64),
    Text(String),
}

impl Value {
    fn ends(statistics: &Statistics) -> (Option<Self>, Option<Self>) {
        match statistics {
            Statistics::Int32(s) => (whole(s.min_opt().copied()), whole(s.max_opt().copied())),
            Statistics::Int64(s) => (whole(s.min_opt().copied()), whole(s.max_opt().copied())),
            Statistics::Float(s) => (real(s.min_opt().copied()), real(s.max_opt().copied())),
            Statistics::Double(s) => (real(s.min_opt().copied()), real(s.max_opt().copied())),
            Statistics::ByteArray(s) => (text(s.min_bytes_opt()), text(s.max_bytes_opt())),
            Statistics::FixedLenByteArray(s) => (big_endian(s.min_bytes_opt()), big_endian(s.max_bytes_opt())),
            // A boolean's bounds help no reader, and Delta's own writers leave them out.
            Statistics::Boolean(_) | Statistics::Int96(_) => (None, None),
        }
    }

    fn least(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        let (a, b) = (a?, b?);
        Some(if b < a { b } else { a })
    }

    fn greatest(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        let (a, b) = (a?, b?);
        Some(if b > a { b } else { a })
    }

    fn lower(self, ty: &DataType) -> Option<String> {
        match (self, ty) {
            (Self::Whole(us), DataType::Timestamp(TimeUnit::Microsecond, _)) => instant(us.div_euclid(1000)),
            (Self::Text(text), _) => Some(json_string(cut(&text).0)),
            (value, ty) => value.exact(ty),
        }
    }

    fn upper(self, ty: &DataType) -> Option<String> {
        match (self, ty) {
            (Self::Whole(us), DataType::Timestamp(TimeUnit::Microsecond, _)) => {
                instant(us.div_euclid(1000) + i128::from(us.rem_euclid(1000) != 0))
            }
            (Self::Text(text), _) => match cut(&text) {
                (whole, false) => Some(json_string(whole)),
                (prefix, true) => raised(prefix).map(|text| json_string(&text)),
            },
            (value, ty) => value.exact(ty),
        }
    }

    /// Types whose bound is the value itself.
    fn exact(self, ty: &DataType) -> Option<String> {
        match (self, ty) {
            (Self::Whole(unscaled), DataType::Decimal128(_, scale)) => Some(decimal(unscaled, *scale)),
            (Self::Whole(days), DataType::Date32) => {
                let day = DateTime::<Utc>::from_timestamp(i64::try_from(days).ok()?.checked_mul(86_400)?, 0)?;
                four_digit_year(&day).then(|| format!("\"{}\"", day.format("%Y-%m-%d")))
            }
            (Self::Whole(value), _) => Some(value.to_string()),
            (Self::Real(value), _) => serde_json::Number::from_f64(value).map(|n| n.to_string()),
            (Self::Text(_), _) => None,
        }
    }
}

fn whole<T: Into<i128>>(value: Option<T>) -> Option<Value> {
    value.map(|v| Value::Whole(v.into()))
}

fn real<T: Into<f64>>(value: Option<T>) -> Option<Value> {
    value.map(|v| Value::Real(v.into()))
}

fn text(bytes: Option<&[u8]>) -> Option<Value> {
    String::from_utf8(bytes?.to_vec()).ok().map(Value::Text)
}

/// A decimal of more than 18 digits: two's complement, most significant byte first.
fn big_endian(bytes: Option<&[u8]>) -> Option<Value> {
    let bytes = bytes.filter(|b| !b.is_empty() && b.len() <= 16)?;
    let sign = if bytes[0] & 0x80 == 0 { 0 } else { 0xFF };
    let mut wide = [sign; 16];
    wide[16 - bytes.len()..].copy_from_slice(bytes);
    Some(Value::Whole(i128::from_be_bytes(wide)))
}

fn decimal(unscaled: i128, scale: i8) -> String {
    let scale = usize::from(scale.unsigned_abs());
    if scale == 0 {
        return unscaled.to_string();
    }
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{}{whole}.{fraction}", if unscaled < 0 { "-" } else { "" })
}

fn instant(milliseconds: i128) -> Option<String> {
    let instant = DateTime::from_timestamp_millis(i64::try_from(milliseconds).ok()?)?;
    four_digit_year(&instant).then(|| format!("\"{}\"", instant.to_rfc3339_opts(SecondsFormat::Millis, true)))
}

/// Readers parse these texts; years of other lengths are beyond what they agree on.
fn four_digit_year(instant: &DateTime<Utc>) -> bool {
    (0..=9999).contains(&instant.year())
}

/// The first 32 characters, and whether anything was cut off.
fn cut(text: &str) -> (&str, bool) {
    match text.char_indices().nth(STRING_BOUND_CHARS) {
        None => (text, false),
        Some((end, _)) => (&text[..end], true),
    }
}

/// The shortest text above everything that starts with `prefix`: its last character that can be raised is.
/// Readers compare UTF-8 bytes, whose order is that of the code points.
fn raised(prefix: &str) -> Option<String> {
    let mut rest = prefix.to_owned();
    while let Some(last) = rest.pop() {
        // Surrogates are no characters: the one above U+D7FF is U+E000.
        let above = if last == '\u{D7FF}' {
            Some('\u{E000}')
        } else {
            char::from_u32(last as u32 + 1)
        };
        if let Some(above) = above {
            rest.push(above);
            return Some(rest);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn micros() -> DataType {
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
    }

    #[test]
    fn a_timestamp_bound_in_milliseconds_never_excludes_a_microsecond() {
        assert_eq!(
            Value::Whole(1_999).lower(&micros()).expect("bound"),
            "\"1970-01-01T00:00:00.001Z\""
        );
        assert_eq!(
            Value::Whole(1_001).upper(&micros()).expect("bound"),
            "\"1970-01-01T00:00:00.002Z\""
        );
        assert_eq!(
            Value::Whole(2_000).upper(&micros()).expect("bound"),
            "\"1970-01-01T00:00:00.002Z\""
        );
        assert_eq!(
            Value::Whole(-1).lower(&micros()).expect("bound"),
            "\"1969-12-31T23:59:59.999Z\""
        );
        assert_eq!(
            Value::Whole(-1).upper(&micros()).expect("bound"),
            "\"1970-01-01T00:00:00.000Z\""
        );
    }

    #[test]
    fn an_upper_bound_beyond_year_9999_is_left_out() {
        let last = 253_402_300_799_999_999;
        assert_eq!(Value::Whole(last).upper(&micros()), None);
        assert!(Value::Whole(last).lower(&micros()).is_some());
    }

    #[test]
    fn decimals_are_exact_numbers() {
        assert_eq!(decimal(-5, 2), "-0.05");
        assert_eq!(decimal(123_456, 2), "1234.56");
        assert_eq!(decimal(i128::MAX, 0), i128::MAX.to_string());
        let max = 10i128.pow(38) - 1;
        assert_eq!(decimal(max, 38), format!("0.{}", "9".repeat(38)));
        assert_eq!(big_endian(Some(&(-7i128).to_be_bytes()[7..])), Some(Value::Whole(-7)));
    }

    #[test]
    fn a_long_text_is_cut_and_its_upper_bound_raised() {
        let text = "é".repeat(40);
        let lower = Value::Text(text.clone()).lower(&DataType::Utf8).expect("bound");
        assert_eq!(lower, json_string(&"é".repeat(32)));
        let upper = Value::Text(text).upper(&DataType::Utf8).expect("bound");
        assert_eq!(upper, json_string(&format!("{}ê", "é".repeat(31))));
        assert_eq!(Value::Text("\u{10FFFF}".repeat(40)).upper(&DataType::Utf8), None);
    }

    #[test]
    fn a_number_json_cannot_hold_is_no_bound() {
        assert_eq!(Value::Real(f64::INFINITY).upper(&DataType::Float64), None);
    }

    proptest! {
        #[test]
        fn bounds_of_a_text_enclose_it(text in "\\PC{0,50}") {
            let parse = |json: String| serde_json::from_str::<String>(&json).expect("a string");
            let lower = Value::Text(text.clone()).lower(&DataType::Utf8).map(parse).expect("always there");
            prop_assert!(lower <= text);
            if let Some(upper) = Value::Text(text.clone()).upper(&DataType::Utf8).map(parse) {
                prop_assert!(upper >= text);
                prop_assert!(upper.chars().count() <= STRING_BOUND_CHARS);
            }
        }

        #[test]
        fn bounds_of_an_instant_enclose_it(us in -62_135_596_800_000_000i64..253_402_300_799_999_000) {
            let parse = |json: String| {
                let text: String = serde_json::from_str(&json).expect("a string");
                DateTime::parse_from_rfc3339(&text).expect("RFC 3339").timestamp_micros()
            };
            prop_assert!(parse(Value::Whole(us.into()).lower(&micros()).expect("bound")) <= us);
            prop_assert!(parse(Value::Whole(us.into()).upper(&micros()).expect("bound")) >= us);
        }
    }
}
