//! Rollup increments as update commands.
//!
//! Owns: the form of a rollup document (`_id: {t, dimensions…}`, the same flat, then the measures) and of the
//! upserts that keep it current.
//! Does not own: computing increments (`rollup`), the transaction they run in (`transaction`).

use bson::RawDocumentBuf;

use super::element::{self, kind};
use crate::rollup::{Increment, Operator, Output, Rollup, Value};

/// A command is cut at this many statements or bytes (the server takes 100,000 and 16 MiB): small enough that
/// no single call comes near its deadline.
const MAX_STATEMENTS: usize = 1000;
const MAX_BYTES: usize = 4 << 20;

/// The field of the bucket's start.
const START: &str = "t";

/// The update commands for one rollup's increments, in their order.
pub(super) fn commands(rollup: &Rollup, increments: &[Increment]) -> Vec<RawDocumentBuf> {
    let mut commands = Vec::new();
    let mut rest = increments;
    while !rest.is_empty() {
        let (command, taken) = command(rollup, rest);
        commands.push(command);
        rest = &rest[taken..];
    }
    commands
}

fn command(rollup: &Rollup, increments: &[Increment]) -> (RawDocumentBuf, usize) {
    let mut bytes = Vec::new();
    let command = element::open(&mut bytes);
    element::name(&mut bytes, kind::STRING, "update");
    element::text(&mut bytes, &rollup.name);
    element::name(&mut bytes, kind::ARRAY, "updates");
    let updates = element::open(&mut bytes);
    let mut taken = 0;
    for increment in increments {
        element::index(&mut bytes, kind::DOCUMENT, taken);
        statement(&mut bytes, rollup, increment);
        taken += 1;
        if taken == MAX_STATEMENTS || bytes.len() > MAX_BYTES {
            break;
        }
    }
    element::close(&mut bytes, updates);
    element::close(&mut bytes, command);
    let command = RawDocumentBuf::from_bytes(bytes).expect("open and close frame a document");
    (command, taken)
}

/// `{q: {_id: {…}}, u: {$inc: …, $min: …, $max: …, $setOnInsert: …}, upsert: true}`
fn statement(bytes: &mut Vec<u8>, rollup: &Rollup, increment: &Increment) {
    let statement = element::open(bytes);
    embedded(bytes, "q", |bytes| {
        embedded(bytes, "_id", |bytes| key(bytes, rollup, increment))
    });
    embedded(bytes, "u", |bytes| {
        for (operator, name) in [
            (Operator::Add, "$inc"),
            (Operator::Min, "$min"),
            (Operator::Max, "$max"),
        ] {
            let measured = || rollup.outputs.iter().zip(&increment.measures).filter_map(of(operator));
            // The server refuses an empty operator document before version 5.
            if measured().next().is_some() {
                embedded(bytes, name, |bytes| {
                    measured().for_each(|(name, value)| field(bytes, name, value))
                });
            }
        }
        embedded(bytes, "$setOnInsert", |bytes| key(bytes, rollup, increment));
    });
    element::name(bytes, kind::BOOLEAN, "upsert");
    bytes.push(1);
    element::close(bytes, statement);
}

type Measured<'a> = (&'a str, &'a Value);

fn of<'a>(operator: Operator) -> impl Fn((&'a Output, &'a Option<Value>)) -> Option<Measured<'a>> {
    move |(output, value)| {
        let value = value.as_ref().filter(|_| output.operator == operator)?;
        Some((output.name.as_str(), value))
    }
}

fn embedded(bytes: &mut Vec<u8>, name: &str, content: impl FnOnce(&mut Vec<u8>)) {
    element::name(bytes, kind::DOCUMENT, name);
    let document = element::open(bytes);
    content(bytes);
    element::close(bytes, document);
}

fn key(bytes: &mut Vec<u8>, rollup: &Rollup, increment: &Increment) {
    field(bytes, START, &Value::Instant(increment.start));
    for (name, value) in rollup.dimensions.iter().zip(&increment.dimensions) {
        field(bytes, name, value);
    }
}

fn field(bytes: &mut Vec<u8>, name: &str, value: &Value) {
    match value {
        Value::Null => element::name(bytes, kind::NULL, name),
        Value::Boolean(value) => {
            element::name(bytes, kind::BOOLEAN, name);
            bytes.push(u8::from(*value));
        }
        Value::Integer(value) => {
            element::name(bytes, kind::INT32, name);
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        Value::Long(value) => {
            element::name(bytes, kind::INT64, name);
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        Value::Double(value) => {
            element::name(bytes, kind::DOUBLE, name);
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        Value::Decimal { unscaled, scale } => {
            element::name(bytes, kind::DECIMAL128, name);
            bytes.extend_from_slice(&element::decimal128(*unscaled, *scale));
        }
        Value::Text(text) => {
            element::name(bytes, kind::STRING, name);
            element::text(bytes, text);
        }
        Value::Instant(micros) => {
            element::name(bytes, kind::DATE, name);
            element::date(bytes, *micros);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bson::{Bson, DateTime, Document, doc};

    use super::*;
    use crate::config::{Every, Measure, RollupConfig};
    use crate::schema::{Field, FieldType, StreamSchema};

    fn rollup() -> Rollup {
        let field = |name: &str, ty| Field {
            name: name.into(),
            ty,
            required: true,
            unit: None,
        };
        let fields = vec![
            field("at", FieldType::Timestamp),
            field("site", FieldType::String),
            field(
                "amount",
                FieldType::Decimal {
                    precision: 18,
                    scale: 2,
                },
            ),
        ];
        let schema = StreamSchema::new(fields, 0, vec![], chrono_tz::Tz::UTC);
        let measures = [
            ("last", Measure::Max(0)),
            ("least", Measure::Min(2)),
            ("n", Measure::Count),
            ("total", Measure::Sum(2)),
        ];
        let config = RollupConfig {
            name: "r".into(),
            every: Every::Day,
            by: vec![1],
            measures: measures
                .iter()
                .map(|(n, m)| ((*n).to_owned(), *m))
                .collect::<BTreeMap<_, _>>(),
        };
        Rollup::new(&config, &schema)
    }

    fn increment(site: Value, amount: Option<i128>) -> Increment {
        let amount = amount.map(|unscaled| Value::Decimal { unscaled, scale: 2 });
        Increment {
            start: 1_000,
            dimensions: vec![site],
            measures: vec![Some(Value::Instant(-1)), amount.clone(), Some(Value::Long(3)), amount],
        }
    }

    #[test]
    fn an_increment_becomes_one_upsert_with_its_key_also_flat() {
        let increments = [
            increment(Value::Text("a".into()), Some(150)),
            increment(Value::Null, None),
        ];
        let commands = commands(&rollup(), &increments);
        let command: Document = commands[0].as_ref().try_into().expect("well formed");
        let amount = Bson::Decimal128("1.50".parse().expect("a decimal"));
        let key = doc! { "t": DateTime::from_millis(1), "site": "a" };
        let null_key = doc! { "t": DateTime::from_millis(1), "site": null };
        let last = DateTime::from_millis(-1);
        let expected = doc! {
            "update": "r",
            "updates": [
                {
                    "q": { "_id": key.clone() },
                    "u": {
                        "$inc": { "n": 3i64, "total": amount.clone() },
                        "$min": { "least": amount },
                        "$max": { "last": last },
                        "$setOnInsert": key,
                    },
                    "upsert": true,
                },
                {
                    "q": { "_id": null_key.clone() },
                    "u": { "$inc": { "n": 3i64 }, "$max": { "last": last }, "$setOnInsert": null_key },
                    "upsert": true,
                },
            ],
        };
        assert_eq!((commands.len(), command), (1, expected));
    }

    #[test]
    fn many_increments_are_cut_into_commands_without_losing_one() {
        let increments = vec![increment(Value::Null, None); 2 * MAX_STATEMENTS + 1];
        let counts: Vec<usize> = commands(&rollup(), &increments)
            .iter()
            .map(|c| c.get_array("updates").expect("there").into_iter().count())
            .collect();
        assert_eq!(counts, [MAX_STATEMENTS, MAX_STATEMENTS, 1]);
        assert!(commands(&rollup(), &[]).is_empty());
    }
}
