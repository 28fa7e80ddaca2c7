//! Rollup increments as insert and update commands.
//!
//! Owns: the form of a rollup document (`_id: {t, dimensions…}`, the same flat, then the measures) and of the
//! statements that keep it current: an insert where the bucket is taken for new, else an upsert.
//! Does not own: computing increments (`rollup`), which buckets are new (`buckets`), the transaction they run in
//! (`transaction`).

use bson::RawDocumentBuf;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::buckets::BucketKey;
use super::element::{self, Open, kind};
use crate::rollup::{Increment, Operator, Output, Rollup, Value};

/// A command is cut at this many statements or bytes (the server takes 100,000 and 16 MiB): small enough that
/// no single call comes near its deadline.
const MAX_STATEMENTS: usize = 1000;
const MAX_BYTES: usize = 4 << 20;

/// The field of the bucket's start.
pub(super) const START: &str = "t";

/// What one transaction does to the rollups.
#[derive(Debug, Default)]
pub(super) struct Statements {
    pub commands: Vec<RawDocumentBuf>,
    /// The buckets touched.
    pub keys: Vec<BucketKey>,
    /// Some buckets are inserted: should one of them be there already, the transaction fails.
    pub guessed: bool,
}

impl Statements {
    /// The increments of all rollups; a bucket of which `is_new` holds becomes an insert.
    pub fn of(rollups: &[Rollup], increments: &[Vec<Increment>], is_new: impl Fn(BucketKey) -> bool) -> Self {
        let mut statements = Self::default();
        for (number, (rollup, increments)) in rollups.iter().zip(increments).enumerate() {
            statements.add(number, rollup, increments, &is_new);
        }
        statements
    }

    /// Adds one rollup's increments, in their order; those of which `is_new` holds as inserts.
    fn add(&mut self, number: usize, rollup: &Rollup, increments: &[Increment], is_new: impl Fn(BucketKey) -> bool) {
        let mut inserts = Command::new("insert", "documents", &rollup.name);
        let mut updates = Command::new("update", "updates", &rollup.name);
        let mut key = Vec::new();
        for increment in increments {
            key.clear();
            write_key(&mut key, rollup, increment);
            let hash = xxh3_64_with_seed(&key, number as u64);
            self.keys.push(hash);
            if is_new(hash) {
                self.guessed = true;
                inserts.push(&mut self.commands, |bytes| document(bytes, rollup, increment, &key));
            } else {
                updates.push(&mut self.commands, |bytes| upsert(bytes, rollup, increment, &key));
            }
        }
        inserts.end(&mut self.commands);
        updates.end(&mut self.commands);
    }
}

/// Commands of one kind for one collection, cut where they become large.
struct Command<'a> {
    name: &'a str,
    array: &'a str,
    collection: &'a str,
    bytes: Vec<u8>,
    /// Of the command, and of its array.
    open: Option<(Open, Open)>,
    statements: usize,
}

impl<'a> Command<'a> {
    fn new(name: &'a str, array: &'a str, collection: &'a str) -> Self {
        Self {
            name,
            array,
            collection,
            bytes: Vec::new(),
            open: None,
            statements: 0,
        }
    }

    fn push(&mut self, commands: &mut Vec<RawDocumentBuf>, content: impl FnOnce(&mut Vec<u8>)) {
        if self.open.is_none() {
            self.open = Some(self.begin());
        }
        element::index(&mut self.bytes, kind::DOCUMENT, self.statements);
        let statement = element::open(&mut self.bytes);
        content(&mut self.bytes);
        element::close(&mut self.bytes, statement);
        self.statements += 1;
        if self.statements == MAX_STATEMENTS || self.bytes.len() > MAX_BYTES {
            self.end(commands);
        }
    }

    fn begin(&mut self) -> (Open, Open) {
        let command = element::open(&mut self.bytes);
        element::name(&mut self.bytes, kind::STRING, self.name);
        element::text(&mut self.bytes, self.collection);
        element::name(&mut self.bytes, kind::ARRAY, self.array);
        (command, element::open(&mut self.bytes))
    }

    fn end(&mut self, commands: &mut Vec<RawDocumentBuf>) {
        let Some((command, array)) = self.open.take() else {
            return;
        };
        element::close(&mut self.bytes, array);
        element::close(&mut self.bytes, command);
        let bytes = std::mem::take(&mut self.bytes);
        commands.push(RawDocumentBuf::from_bytes(bytes).expect("open and close frame a document"));
        self.statements = 0;
    }
}

/// `_id: {…}, …, measures`: what an upsert would make of nothing.
fn document(bytes: &mut Vec<u8>, rollup: &Rollup, increment: &Increment, key: &[u8]) {
    embedded(bytes, "_id", |bytes| bytes.extend_from_slice(key));
    bytes.extend_from_slice(key);
    let measured = rollup.outputs.iter().zip(&increment.measures);
    for (output, value) in measured {
        if let Some(value) = value {
            field(bytes, &output.name, value);
        }
    }
}

/// `q: {_id: {…}}, u: {$inc: …, $min: …, $max: …, $setOnInsert: …}, upsert: true`
fn upsert(bytes: &mut Vec<u8>, rollup: &Rollup, increment: &Increment, key: &[u8]) {
    embedded(bytes, "q", |bytes| {
        embedded(bytes, "_id", |bytes| bytes.extend_from_slice(key))
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
                    measured().for_each(|(name, value)| operand(bytes, name, value))
                });
            }
        }
        embedded(bytes, "$setOnInsert", |bytes| bytes.extend_from_slice(key));
    });
    element::name(bytes, kind::BOOLEAN, "upsert");
    bytes.push(1);
}

/// Registers are fields of their own below the measure's.
fn operand(bytes: &mut Vec<u8>, name: &str, value: &Value) {
    match value {
        Value::Registers(registers) => {
            for register in registers {
                let path = format!("{name}.{}", register.index);
                field(bytes, &path, &Value::Integer(register.rank.into()));
            }
        }
        value => field(bytes, name, value),
    }
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

/// The elements of a bucket's key: its start and its dimensions.
fn write_key(bytes: &mut Vec<u8>, rollup: &Rollup, increment: &Increment) {
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
        Value::Registers(registers) => embedded(bytes, name, |bytes| {
            for register in registers {
                field(
                    bytes,
                    &register.index.to_string(),
                    &Value::Integer(register.rank.into()),
                );
            }
        }),
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
            expire_after: None,
        };
        Rollup::new(&config, &schema)
    }

    fn statements(increments: &[Increment], is_new: impl Fn(BucketKey) -> bool) -> Statements {
        let mut statements = Statements::default();
        statements.add(0, &rollup(), increments, is_new);
        statements
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
        let commands = statements(&increments, |_| false).commands;
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
        let counts: Vec<usize> = (statements(&increments, |_| false).commands.iter())
            .map(|c| c.get_array("updates").expect("there").into_iter().count())
            .collect();
        assert_eq!(counts, [MAX_STATEMENTS, MAX_STATEMENTS, 1]);
        assert!(statements(&[], |_| true).commands.is_empty());
    }

    #[test]
    fn a_new_bucket_is_inserted_as_the_document_that_an_upsert_would_make() {
        let increments = [
            increment(Value::Text("a".into()), Some(150)),
            increment(Value::Text("b".into()), None),
        ];
        let new = statements(&increments[..1], |_| true);
        let command: Document = new.commands[0].as_ref().try_into().expect("well formed");
        let amount = Bson::Decimal128("1.50".parse().expect("a decimal"));
        let expected = doc! {
            "insert": "r",
            "documents": [{
                "_id": { "t": DateTime::from_millis(1), "site": "a" },
                "t": DateTime::from_millis(1),
                "site": "a",
                "last": DateTime::from_millis(-1),
                "least": amount.clone(),
                "n": 3i64,
                "total": amount,
            }],
        };
        assert_eq!((new.commands.len(), command, new.guessed), (1, expected, true));

        let mixed = statements(&increments, |key| key != new.keys[0]);
        let names: Vec<String> = (mixed.commands.iter())
            .map(|c| c.into_iter().next().expect("there").expect("readable").0.to_string())
            .collect();
        assert_eq!(
            (names, mixed.keys.len()),
            (vec!["insert".to_owned(), "update".to_owned()], 2)
        );
    }
}
