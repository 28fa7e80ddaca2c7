//! The decoder of the hot path against the slow one of `verify`, written from the rules alone: they must agree
//! on every record, good or bad. Both are wrong together or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use affluent::batch::{RawBatch, RawRecord, Reject, RejectCode, Session};
use affluent::config::{LakeConfig, MongoConfig, StreamConfig, Tombstones};
use affluent::decode::Decoder;
use affluent::offsets::{Epoch, Partition};
use affluent::schema::{EpochUnit, Field, FieldType, PartitionColumn, StreamSchema};
use affluent::verify::oracle::{self, OracleRecord, Row, Value, Verdict};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use chrono_tz::Tz;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

fn field(name: &str, ty: FieldType, required: bool, unit: Option<EpochUnit>) -> Field {
    Field {
        name: name.to_owned(),
        ty,
        required,
        unit,
    }
}

fn stream(timezone: Tz) -> StreamConfig {
    let fields = vec![
        field("at", FieldType::Timestamp, true, None),
        field("site", FieldType::String, true, None),
        field("area", FieldType::String, false, None),
        field("n", FieldType::Long, false, None),
        field("i", FieldType::Integer, false, None),
        field("s", FieldType::Short, false, None),
        field("b", FieldType::Byte, false, None),
        field("ok", FieldType::Boolean, false, None),
        field("d", FieldType::Double, false, None),
        field("f", FieldType::Float, false, None),
        field(
            "money",
            FieldType::Decimal {
                precision: 18,
                scale: 2,
            },
            true,
            None,
        ),
        field(
            "big",
            FieldType::Decimal {
                precision: 34,
                scale: 10,
            },
            false,
            None,
        ),
        field("day", FieldType::Date, false, None),
        field("ms", FieldType::Timestamp, false, Some(EpochUnit::Milliseconds)),
    ];
    let by = vec![
        PartitionColumn::EventDate,
        PartitionColumn::Field(1),
        PartitionColumn::Field(2),
    ];
    StreamConfig {
        name: "fuzz".into(),
        topic: "fuzz".into(),
        dead_letter_topic: "fuzz.dlq".into(),
        schema: Arc::new(StreamSchema::new(fields, 0, by, timezone)),
        rollups: Vec::new(),
        tombstones: Tombstones::DeadLetter,
        max_record_bytes: 4096,
        max_dead_letters: None,
        former_schema: false,
        mongo: MongoConfig {
            enabled: true,
            uri: String::new(),
            database: String::new(),
            flush_interval: Duration::ZERO,
            max_flush_rows: 1,
            insert_batch_rows: 1,
            insert_concurrency: 1,
        },
        lake: LakeConfig {
            enabled: true,
            root: String::new(),
            commit_interval: Duration::ZERO,
            idle_interval: Duration::ZERO,
            target_file_bytes: 1,
            max_open_bytes: 1,
            upkeep: Default::default(),
            storage: BTreeMap::new(),
        },
    }
}

const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "1",
    "-1",
    "7.5",
    "5.0",
    "5e0",
    "50e-1",
    "1e2",
    "1E+2",
    "0.01",
    "0.001",
    "0.010",
    "1.10",
    "-3.999",
    "127",
    "128",
    "-128",
    "-129",
    "32767",
    "32768",
    "2147483647",
    "2147483648",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "9999999999999999.99",
    "10000000000000000",
    "1e400",
    "-1e400",
    "1e-400",
    "1e999999999999",
    "1e-999999999999",
    "0e999999999999",
    "0.1e1",
    "123456789012345678901234.5",
    "3.4028235e38",
    "3.5e38",
    "1e39",
    "1.7976931348623157e308",
    "0.30000000000000004",
    "01",
    "1.",
    ".5",
    "+1",
    "--1",
    "1e",
    "1e+",
    "NaN",
    "Infinity",
    "0x10",
    "1_000",
    "1735689600000",
    "1735689600000.5",
    "-62135596800001",
    "253402300799999",
    "253402300800000",
    "99999999999999999999999999999999.99",
];

const TIMES: &[&str] = &[
    "2026-01-01T00:00:00Z",
    "2026-01-01t00:00:00z",
    "2025-12-31T23:59:59.999999Z",
    "2025-12-31T23:59:59.9999999Z",
    "2026-03-29T02:30:00+01:00",
    "2026-03-29T01:00:00Z",
    "2026-10-25T00:59:59Z",
    "2026-10-25T02:30:00+02:00",
    "2026-01-01T00:00:00",
    "2026-01-01 00:00:00Z",
    "2026-01-01T00:00:60Z",
    "2026-01-01T24:00:00Z",
    "2026-02-29T00:00:00Z",
    "2024-02-29T12:00:00Z",
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+01:00",
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-01:00",
    "0000-12-31T23:59:59Z",
    "10000-01-01T00:00:00Z",
    "1969-12-31T23:59:59.999999Z",
    "2026-01-01T00:00:00.Z",
    "2026-01-01T00:00:00.1Z",
    "2026-01-01T00:00:00+0100",
    "2026-01-01T00:00:00+24:00",
    "2026-01-01T00:00:00+23:59",
    "2026-01-01T00:00:00-00:00",
    "2026-1-1T00:00:00Z",
    "2026-01-01T00:00Z",
    "2026-01-01",
    "2026-13-01T00:00:00Z",
    "2026-04-31T00:00:00Z",
    "",
    "Z",
    "１２026-01-01T00:00:00Z",
    "2026-01-01T00:00:00Z ",
    " 2026-01-01T00:00:00Z",
    "1735689600",
];

const STRINGS: &[&str] = &[
    "Corse",
    "Île-de-France",
    "Provence-Alpes-Côte d'Azur",
    "",
    "a/b=c%d",
    "__HIVE_DEFAULT_PARTITION__",
    "😀",
    "\\u0041",
    "\\ud83d\\ude00",
    "\\ud83d",
    "\\ude00x",
    "\\u0000",
    "line\\nbreak",
    "quote\\\"",
    "\\x",
    "tab\there",
    "..",
    "\\u00e9",
    "nul\\u0000nul",
];

/// One JSON value, mostly of a kind that some field wants.
fn value(random: &mut StdRng, depth: u32) -> String {
    match random.random_range(0..20) {
        0..6 => (*NUMBERS.choose(random).unwrap()).to_owned(),
        6..8 => format!("\"{}\"", NUMBERS.choose(random).unwrap()),
        8..11 => format!("\"{}\"", TIMES.choose(random).unwrap()),
        11..14 => format!("\"{}\"", STRINGS.choose(random).unwrap()),
        14 => "true".to_owned(),
        15 => "false".to_owned(),
        16 => "null".to_owned(),
        17 if depth < 3 => format!("[{},{}]", value(random, depth + 1), value(random, depth + 1)),
        18 if depth < 3 => format!("{{\"x\":{}}}", value(random, depth + 1)),
        19 => format!(
            "{}1{}",
            "[".repeat(random.random_range(60..68)),
            "]".repeat(random.random_range(60..68))
        ),
        _ => "\"plain\"".to_owned(),
    }
}

/// A value its field most likely takes, so that whole records are good often enough.
fn fitting(name: &str, random: &mut StdRng) -> String {
    let choices: &[&str] = match name {
        "at" => &[
            "\"2026-01-01T00:00:00Z\"",
            "\"2026-03-29T01:30:00.123456Z\"",
            "\"1969-12-31T23:59:59.9995+05:30\"",
        ],
        "site" | "area" => &["\"Corse\"", "\"Île-de-France\"", "\"a/b\"", "\"\\u00e9t\\u00e9\""],
        "ok" => &["true", "false"],
        "day" => &["\"2024-02-29\"", "\"2025-12-31\"", "\"0001-01-01\"", "\"2023-02-29\""],
        "ms" => &["1735689600000", "\"1735689600000\"", "-1", "0.5"],
        _ => &["1", "\"12\"", "3.00", "1e1", "-7", "0"],
    };
    (*choices.choose(random).unwrap()).to_owned()
}

fn record(random: &mut StdRng, schema: &StreamSchema) -> Vec<u8> {
    let mut members: Vec<(String, String)> = Vec::new();
    for f in &schema.fields {
        if f.required || random.random_bool(0.6) {
            let v = if random.random_bool(0.93) {
                fitting(&f.name, random)
            } else {
                value(random, 0)
            };
            members.push((f.name.clone(), v));
        }
    }
    if random.random_bool(0.1) {
        members.push(("unknown".to_owned(), value(random, 0)));
    }
    if random.random_bool(0.1) {
        let again = members.choose(random).unwrap().0.clone();
        members.push((again, value(random, 0)));
    }
    if random.random_bool(0.1) {
        let at = random.random_range(0..members.len());
        members.remove(at);
    }
    if random.random_bool(0.3) {
        let (a, b) = (
            random.random_range(0..members.len()),
            random.random_range(0..members.len()),
        );
        members.swap(a, b);
    }
    let space = if random.random_bool(0.1) { " \n" } else { "" };
    let body: Vec<String> = members
        .iter()
        .map(|(name, v)| format!("{space}\"{name}\"{space}:{space}{v}{space}"))
        .collect();
    let mut bytes = format!("{{{}}}", body.join(",")).into_bytes();
    mutilate(random, &mut bytes);
    bytes
}

/// Now and then what no JSON writer would write.
fn mutilate(random: &mut StdRng, bytes: &mut Vec<u8>) {
    match random.random_range(0..60) {
        0 => bytes.truncate(random.random_range(0..=bytes.len())),
        1 => bytes.extend_from_slice(b" {}"),
        2 => bytes.insert(0, 0xEF),
        3 => drop(bytes.splice(0..0, [0xEF, 0xBB, 0xBF])),
        4 => {
            let at = random.random_range(0..bytes.len());
            bytes[at] = random.random();
        }
        5 => bytes.extend_from_slice(b" \n\t"),
        6 => bytes.push(0),
        7 => *bytes = b"[]".to_vec(),
        8 => {
            let at = bytes.len() - 1;
            bytes.insert(at, b',');
        }
        9 => bytes.resize(random.random_range(4090..4100), b' '),
        _ => {}
    }
}

/// The value of a column as the slow decoder would give it.
fn cell(column: &ArrayRef, ty: FieldType, row: usize) -> Option<Value> {
    if column.is_null(row) {
        return None;
    }
    Some(match ty {
        FieldType::String => Value::String(column.as_string::<i32>().value(row).to_owned()),
        FieldType::Boolean => Value::Boolean(column.as_boolean().value(row)),
        FieldType::Byte => Value::Integer(column.as_primitive::<Int8Type>().value(row).into()),
        FieldType::Short => Value::Integer(column.as_primitive::<Int16Type>().value(row).into()),
        FieldType::Integer => Value::Integer(column.as_primitive::<Int32Type>().value(row).into()),
        FieldType::Long => Value::Integer(column.as_primitive::<Int64Type>().value(row)),
        FieldType::Float => Value::Float(column.as_primitive::<Float32Type>().value(row)),
        FieldType::Double => Value::Double(column.as_primitive::<Float64Type>().value(row)),
        FieldType::Decimal { scale, .. } => Value::Decimal(column.as_primitive::<Decimal128Type>().value(row), scale),
        FieldType::Date => Value::Date(column.as_primitive::<Date32Type>().value(row)),
        FieldType::Timestamp => Value::Timestamp(column.as_primitive::<TimestampMicrosecondType>().value(row)),
    })
}

fn assert_row(stream: &StreamConfig, rows: &RecordBatch, at: usize, expected: &Row, payload: &str) {
    for (i, f) in stream.schema.fields.iter().enumerate() {
        let ours = cell(rows.column(i), f.ty, at);
        assert_eq!(ours, expected.values[i], "field {} of {payload}", f.name);
    }
    let day = cell(rows.column(stream.schema.date_index().unwrap()), FieldType::Date, at);
    let expected_day = expected
        .date
        .map(|d| Value::Date((d - chrono::NaiveDate::default()).num_days() as i32));
    assert_eq!(day, expected_day, "date of {payload}");
    let id = rows
        .column(stream.schema.id_index())
        .as_primitive::<Int64Type>()
        .value(at);
    assert_eq!(id, expected.id.0);
}

fn compare(stream: &StreamConfig, decoder: &mut Decoder, payloads: &[Option<Vec<u8>>]) -> (usize, usize) {
    let mut raw = RawBatch {
        session: Session(1),
        arena: Vec::new(),
        records: Vec::new(),
        covered: BTreeMap::new(),
        permit: None,
    };
    for (offset, payload) in payloads.iter().enumerate() {
        let value = payload.as_ref().map(|bytes| {
            let start = raw.arena.len();
            raw.arena.extend_from_slice(bytes);
            start..raw.arena.len()
        });
        let (partition, offset, timestamp_ms) = (Partition(3), offset as i64, Some(1_735_689_600_000));
        raw.records.push(RawRecord {
            partition,
            offset,
            timestamp_ms,
            key: None,
            value,
            headers: None,
        });
    }
    let decoded = decoder.decode(&raw, Epoch(0));
    let rejects: BTreeMap<usize, &Reject> = decoded.rejects.iter().map(|r| (r.record, r)).collect();
    let mut row = 0;
    for (i, payload) in payloads.iter().enumerate() {
        let record = OracleRecord {
            partition: Partition(3),
            offset: i as i64,
            timestamp_ms: Some(1_735_689_600_000),
            value: payload.as_deref(),
        };
        let shown = payload
            .as_ref()
            .map_or("null".into(), |p| String::from_utf8_lossy(p).into_owned());
        match (oracle::decode(stream, &record, Epoch(0)), rejects.get(&i)) {
            (Verdict::Row(expected), None) => {
                assert_row(stream, &decoded.rows, row, &expected, &shown);
                row += 1;
            }
            (Verdict::Reject(_), Some(reject)) => {
                let mut faults = oracle::faults(stream, &record, Epoch(0));
                // Two faults of the payload as a whole: which one is met first depends on the way of reading.
                if faults.contains(&RejectCode::InvalidJson) || faults.contains(&RejectCode::TooDeep) {
                    faults.extend([RejectCode::InvalidJson, RejectCode::TooDeep]);
                }
                assert!(
                    faults.contains(&reject.code),
                    "{:?} ({}) is none of {faults:?}: {shown}",
                    reject.code,
                    reject.error
                );
            }
            (verdict, reject) => panic!("the decoders disagree on {shown}\n oracle: {verdict:?}\n ours: {reject:?}"),
        }
    }
    assert_eq!(row, decoded.rows.num_rows());
    (row, rejects.len())
}

#[test]
fn agree_on_every_record_good_or_bad() {
    let seed: u64 = std::env::var("AFFLUENT_TEST_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(rand::random);
    eprintln!("AFFLUENT_TEST_SEED={seed} repeats this run");
    let mut random = StdRng::seed_from_u64(seed);
    let (mut good, mut bad) = (0, 0);
    for zone in [
        chrono_tz::UTC,
        chrono_tz::Europe::Paris,
        chrono_tz::America::St_Johns,
        chrono_tz::Pacific::Apia,
    ] {
        let stream = stream(zone);
        let mut decoder = Decoder::new(&stream);
        for _ in 0..100 {
            let payloads: Vec<Option<Vec<u8>>> = (0..250)
                .map(|_| (!random.random_bool(0.01)).then(|| record(&mut random, &stream.schema)))
                .collect();
            let (rows, rejects) = compare(&stream, &mut decoder, &payloads);
            good += rows;
            bad += rejects;
        }
    }
    assert!(
        good > 10_000 && bad > 10_000,
        "the generator is lopsided: {good} good, {bad} bad"
    );
}
