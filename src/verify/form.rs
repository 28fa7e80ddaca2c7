//! What each sink makes of a row, and how two rows are compared.
//!
//! Owns: the form a value takes in a sink (MongoDB keeps milliseconds and has no 32-bit floats), the
//! fingerprint that stands for a row while millions are compared, and the fields in which two rows differ.
//! Does not own: reading a sink (`document`, `lake`), or deciding what a difference means (`compare`).

use xxhash_rust::xxh3::xxh3_64;

use super::oracle::{Row, Value};
use crate::schema::{DATE_COLUMN, StreamSchema, TIMESTAMP_COLUMN};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Lake,
    Mongo,
}

/// One field in which a stored row is not what Kafka's record says; values as people read them.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    pub field: String,
    pub expected: String,
    pub found: String,
}

impl Form {
    /// The value as this sink holds it.
    pub fn value(self, value: &Value) -> Value {
        match (self, value) {
            (Self::Mongo, Value::Timestamp(micros)) => Value::Timestamp(micros.div_euclid(1000) * 1000),
            (Self::Mongo, Value::Float(value)) => self.value(&Value::Double(f64::from(*value))),
            // The two zeros are equal: no sink owes us the sign.
            (_, Value::Double(value)) if *value == 0.0 => Value::Double(0.0),
            (_, Value::Float(value)) if *value == 0.0 => Value::Float(0.0),
            (_, value) => value.clone(),
        }
    }

    /// A hash of everything this sink should hold of the row: equal rows have equal ones, and two that
    /// differ share one with a chance of 2^-64. `buffer` is only there to be used again.
    pub fn fingerprint(self, row: &Row, buffer: &mut Vec<u8>) -> u64 {
        buffer.clear();
        for value in &row.values {
            self.encode(value.as_ref(), buffer);
        }
        if self == Self::Lake {
            self.encode(
                row.date.map(|day| Value::Date(super::oracle::time::days(day))).as_ref(),
                buffer,
            );
            self.encode(row.timestamp_us.map(Value::Timestamp).as_ref(), buffer);
        }
        xxh3_64(buffer)
    }

    /// Appends bytes that no other value has: a tag, and a length before what has no fixed one.
    pub fn encode(self, value: Option<&Value>, into: &mut Vec<u8>) {
        let Some(value) = value else {
            into.push(0);
            return;
        };
        match value {
            Value::String(text) => {
                into.push(1);
                into.extend((text.len() as u64).to_le_bytes());
                into.extend(text.as_bytes());
            }
            Value::Boolean(value) => into.extend([2, u8::from(*value)]),
            Value::Integer(value) => tagged(into, 3, value.to_le_bytes()),
            Value::Decimal(unscaled, scale) => {
                tagged(into, 4, unscaled.to_le_bytes());
                into.push(*scale);
            }
            Value::Date(days) => tagged(into, 5, days.to_le_bytes()),
            Value::Timestamp(_) | Value::Double(_) | Value::Float(_) => match self.value(value) {
                Value::Timestamp(micros) => tagged(into, 6, micros.to_le_bytes()),
                Value::Double(value) => tagged(into, 7, value.to_bits().to_le_bytes()),
                Value::Float(value) => tagged(into, 8, value.to_bits().to_le_bytes()),
                _ => unreachable!("a form changes no value into one of another kind"),
            },
        }
    }

    /// The fields in which `found` is not what `expected` becomes in this sink.
    pub fn differences(self, schema: &StreamSchema, expected: &Row, found: &Row) -> Vec<Difference> {
        let mut differences = Vec::new();
        let mut compare = |field: &str, expected: Option<&Value>, found: Option<&Value>| {
            let [expected, found] = [expected, found].map(|value| value.map(|v| self.value(v)));
            if expected != found {
                differences.push(Difference {
                    field: field.to_owned(),
                    expected: show(expected.as_ref()),
                    found: show(found.as_ref()),
                });
            }
        };
        for ((field, expected), found) in schema.fields.iter().zip(&expected.values).zip(&found.values) {
            compare(&field.name, expected.as_ref(), found.as_ref());
        }
        if self == Self::Lake {
            let [expected_date, found_date] =
                [expected, found].map(|row| row.date.map(|day| Value::Date(super::oracle::time::days(day))));
            compare(DATE_COLUMN, expected_date.as_ref(), found_date.as_ref());
            let [expected_time, found_time] = [expected, found].map(|row| row.timestamp_us.map(Value::Timestamp));
            compare(TIMESTAMP_COLUMN, expected_time.as_ref(), found_time.as_ref());
        }
        differences
    }
}

fn tagged<const N: usize>(into: &mut Vec<u8>, tag: u8, bytes: [u8; N]) {
    into.push(tag);
    into.extend(bytes);
}

/// A value for people; long texts are cut.
pub fn show(value: Option<&Value>) -> String {
    const LONGEST: usize = 120;
    match value {
        None => "null".to_owned(),
        Some(Value::String(text)) if text.chars().count() > LONGEST => {
            let cut: String = text.chars().take(LONGEST).collect();
            format!("{cut:?}… ({} bytes)", text.len())
        }
        Some(Value::String(text)) => format!("{text:?}"),
        Some(Value::Boolean(value)) => value.to_string(),
        Some(Value::Integer(value)) => value.to_string(),
        Some(Value::Double(value)) => format!("{value:?}"),
        Some(Value::Float(value)) => format!("{value:?}"),
        Some(Value::Decimal(unscaled, scale)) => show_decimal(*unscaled, usize::from(*scale)),
        Some(Value::Date(days)) => chrono::NaiveDate::default()
            .checked_add_signed(chrono::TimeDelta::days(i64::from(*days)))
            .map_or_else(|| format!("day {days}"), |day| day.to_string()),
        Some(Value::Timestamp(micros)) => chrono::DateTime::from_timestamp_micros(*micros).map_or_else(
            || format!("{micros} µs"),
            |at| at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true),
        ),
    }
}

fn show_decimal(unscaled: i128, scale: usize) -> String {
    let sign = if unscaled < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let point = if scale > 0 { "." } else { "" };
    format!("{sign}{whole}{point}{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::testing::{row, stream};

    const FULL: &str = r#"{"at":"1969-12-31T23:59:59.9995Z","region":"Corse","amount":"-0.05","quantity":3,
        "ratio":0.5,"weight":0.1,"small":1,"open":true,"day":"2024-01-01","seen":1}"#;

    fn fingerprint(form: Form, row: &Row) -> u64 {
        form.fingerprint(row, &mut Vec::new())
    }

    #[test]
    fn a_change_in_any_column_changes_the_fingerprint_and_is_named() {
        let stream = stream();
        let original = row(&stream, 7, FULL);
        for index in 0..original.values.len() {
            let mut changed = original.clone();
            changed.values[index] = None;
            for form in [Form::Lake, Form::Mongo] {
                assert_ne!(fingerprint(form, &original), fingerprint(form, &changed));
                let differences = form.differences(&stream.schema, &original, &changed);
                assert_eq!(differences.len(), 1);
                assert_eq!(differences[0].field, stream.schema.fields[index].name);
                assert_eq!(differences[0].found, "null");
            }
        }
    }

    #[test]
    fn the_lake_keeps_the_day_and_kafkas_timestamp_and_mongodb_does_not() {
        let stream = stream();
        let original = row(&stream, 7, FULL);
        let mut changed = original.clone();
        changed.date = None;
        changed.timestamp_us = None;
        assert_ne!(fingerprint(Form::Lake, &original), fingerprint(Form::Lake, &changed));
        assert_eq!(fingerprint(Form::Mongo, &original), fingerprint(Form::Mongo, &changed));
        let fields: Vec<_> = Form::Lake
            .differences(&stream.schema, &original, &changed)
            .into_iter()
            .map(|d| d.field)
            .collect();
        assert_eq!(fields, ["date", "_timestamp"]);
        assert_eq!(Form::Mongo.differences(&stream.schema, &original, &changed), []);
    }

    #[test]
    fn mongodb_holds_the_millisecond_below_also_before_1970() {
        let stream = stream();
        let original = row(&stream, 7, FULL);
        let mut coarse = original.clone();
        coarse.values[0] = Some(Value::Timestamp(-1_000));
        coarse.values[5] = Some(Value::Double(f64::from(0.1f32)));
        assert_eq!(fingerprint(Form::Mongo, &original), fingerprint(Form::Mongo, &coarse));
        assert_eq!(Form::Mongo.differences(&stream.schema, &original, &coarse), []);
        assert_ne!(fingerprint(Form::Lake, &original), fingerprint(Form::Lake, &coarse));
    }

    #[test]
    fn neighbouring_texts_do_not_run_into_each_other() {
        let mut buffers = [Vec::new(), Vec::new()];
        for (texts, buffer) in [["ab", "c"], ["a", "bc"]].iter().zip(&mut buffers) {
            for text in texts {
                Form::Lake.encode(Some(&Value::String((*text).to_owned())), buffer);
            }
        }
        assert_ne!(buffers[0], buffers[1]);
    }

    #[test]
    fn values_are_shown_as_people_write_them() {
        assert_eq!(show(Some(&Value::Decimal(-5, 2))), "-0.05");
        assert_eq!(show(Some(&Value::Decimal(150, 0))), "150");
        assert_eq!(show(Some(&Value::Date(0))), "1970-01-01");
        assert_eq!(show(Some(&Value::Timestamp(-1))), "1969-12-31T23:59:59.999999Z");
        assert_eq!(show(None), "null");
        assert!(show(Some(&Value::String("é".repeat(500)))).len() < 400);
    }
}
