//! One test per settled rule, on whole batches.

use std::time::Duration;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int64Type, TimestampMicrosecondType,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono_tz::Tz;
use proptest::prelude::*;

use super::*;
use crate::batch::Session;
use crate::config::{Every, LakeConfig, MongoConfig, RollupConfig};
use crate::offsets::Partition;
use crate::schema::{EpochUnit, Field, FieldType, PartitionColumn};

const DECIMAL: FieldType = FieldType::Decimal {
    precision: 18,
    scale: 2,
};

const GOOD: &[u8] = br#"{"at":"2025-01-01T00:00:00Z"}"#;

fn field(name: &str, ty: FieldType) -> Field {
    Field {
        name: name.to_owned(),
        ty,
        required: false,
        unit: None,
    }
}

fn required(name: &str, ty: FieldType) -> Field {
    Field {
        required: true,
        ..field(name, ty)
    }
}

fn stream(schema: StreamSchema) -> StreamConfig {
    StreamConfig {
        name: "readings".into(),
        topic: "readings".into(),
        dead_letter_topic: "readings.dlq".into(),
        schema: Arc::new(schema),
        rollups: Vec::new(),
        tombstones: Tombstones::DeadLetter,
        max_record_bytes: 20 << 20,
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

/// `at` is the event time; `v` is what a test is about.
fn one_value(ty: FieldType) -> StreamConfig {
    value_in_zone(field("v", ty), Tz::UTC)
}

fn value_in_zone(value: Field, zone: Tz) -> StreamConfig {
    let fields = vec![required("at", FieldType::Timestamp), value];
    stream(StreamSchema::new(fields, 0, vec![PartitionColumn::EventDate], zone))
}

/// `site` is a partition column.
fn partitioned(site: Field) -> StreamConfig {
    let fields = vec![required("at", FieldType::Timestamp), site];
    let by = vec![PartitionColumn::EventDate, PartitionColumn::Field(1)];
    stream(StreamSchema::new(fields, 0, by, Tz::UTC))
}

fn raw(payloads: &[Option<&[u8]>]) -> RawBatch {
    let mut arena = Vec::new();
    let records = payloads.iter().enumerate().map(|(offset, payload)| RawRecord {
        partition: Partition(3),
        offset: 100 + offset as i64,
        timestamp_ms: Some(1_700_000_000_123),
        key: None,
        value: payload.map(|payload| {
            let start = arena.len();
            arena.extend_from_slice(payload);
            start..arena.len()
        }),
        headers: None,
    });
    RawBatch {
        session: Session(1),
        records: records.collect(),
        arena,
        covered: BTreeMap::new(),
        permit: None,
    }
}

fn decode(stream: &StreamConfig, payloads: &[&str]) -> Decoded {
    let payloads: Vec<_> = payloads.iter().map(|payload| Some(payload.as_bytes())).collect();
    Decoder::new(stream).decode(&raw(&payloads), Epoch(1))
}

/// Decodes `{"at": …, "v": <value>}`.
fn value(ty: FieldType, value: &str) -> Decoded {
    let payload = format!(r#"{{"at":"2025-01-01T00:00:00Z","v":{value}}}"#);
    decode(&one_value(ty), &[&payload])
}

/// The code and text of the only record's rejection.
fn reject(decoded: Decoded) -> (RejectCode, String) {
    assert_eq!(decoded.rows.num_rows(), 0, "the record is good: {:?}", decoded.rows);
    let reject = decoded.rejects.into_iter().next().expect("one rejected record");
    (reject.code, reject.error)
}

fn code(ty: FieldType, text: &str) -> RejectCode {
    reject(value(ty, text)).0
}

fn long(text: &str) -> i64 {
    let decoded = value(FieldType::Long, text);
    assert_eq!(decoded.rejects, [], "{text}");
    decoded.rows.column(1).as_primitive::<Int64Type>().value(0)
}

fn micros(decoded: &Decoded, column: usize) -> i64 {
    assert_eq!(decoded.rejects, []);
    decoded
        .rows
        .column(column)
        .as_primitive::<TimestampMicrosecondType>()
        .value(0)
}

#[test]
fn every_type_lands_in_its_column() {
    use FieldType::*;
    let fields = vec![
        required("at", Timestamp),
        field("text", String),
        field("flag", Boolean),
        field("byte", Byte),
        field("short", Short),
        field("integer", Integer),
        field("long", Long),
        field("float", Float),
        field("double", Double),
        field("decimal", DECIMAL),
        field("day", Date),
    ];
    let schema = StreamSchema::new(fields, 0, vec![PartitionColumn::EventDate], Tz::UTC);
    let decoded = decode(
        &stream(schema),
        &[
            r#"{"at":"2025-01-01T00:00:00Z","text":"é","flag":true,"byte":-128,"short":32767,"integer":-5,"long":6,
                "float":0.1,"double":1e-3,"decimal":"12.5","day":"1970-01-02"}"#,
            r#"{"at":"2025-01-02T00:00:00Z"}"#,
        ],
    );
    assert_eq!(decoded.rejects, []);
    let options = FormatOptions::default().with_null("∅");
    let mut lines = Vec::new();
    for (field, column) in decoded.rows.schema().fields().iter().zip(decoded.rows.columns()) {
        let cells = ArrayFormatter::try_new(column, &options).expect("printable");
        lines.push(format!("{}: {} | {}", field.name(), cells.value(0), cells.value(1)));
    }
    insta::assert_snapshot!(lines.join("\n"), @r"
    at: 2025-01-01T00:00:00Z | 2025-01-02T00:00:00Z
    text: é | ∅
    flag: true | ∅
    byte: -128 | ∅
    short: 32767 | ∅
    integer: -5 | ∅
    long: 6 | ∅
    float: 0.1 | ∅
    double: 0.001 | ∅
    decimal: 12.50 | ∅
    day: 1970-01-02 | ∅
    date: 2025-01-01 | 2025-01-02
    _id: 288283152709845092 | 288283152709845093
    _timestamp: 2023-11-14T22:13:20.123Z | 2023-11-14T22:13:20.123Z
    ");
}

#[test]
fn ids_and_kafka_timestamps_come_from_the_coordinates() {
    let decoded = value(FieldType::Long, "1");
    let id = RecordId(decoded.rows["_id"].as_primitive::<Int64Type>().value(0));
    assert_eq!((id.epoch(), id.partition(), id.offset()), (Epoch(1), Partition(3), 100));
    assert_eq!(micros(&decoded, 4), 1_700_000_000_123_000);
}

#[test]
fn a_missing_or_absurd_kafka_timestamp_is_null() {
    let mut batch = raw(&[Some(GOOD); 3]);
    batch.records[0].timestamp_ms = None;
    batch.records[1].timestamp_ms = Some(i64::MAX);
    batch.records[2].timestamp_ms = Some(-1000);
    let decoded = Decoder::new(&one_value(FieldType::Long)).decode(&batch, Epoch(0));
    let column = decoded.rows["_timestamp"]
        .as_primitive::<TimestampMicrosecondType>()
        .clone();
    assert_eq!(column.iter().collect::<Vec<_>>(), [None, None, Some(-1_000_000)]);
}

#[test]
fn coordinates_beyond_a_record_id_are_rejected() {
    let mut batch = raw(&[Some(GOOD); 2]);
    batch.records[0].partition = Partition(1 << 14);
    let decoded = Decoder::new(&one_value(FieldType::Long)).decode(&batch, Epoch(0));
    assert_eq!(decoded.rejects[0].code, RejectCode::InvalidCoordinates);
    assert_eq!((decoded.rejects.len(), decoded.rows.num_rows()), (1, 1));
}

#[test]
fn a_null_payload_is_a_dead_letter_or_skipped_as_the_stream_says() {
    let mut config = one_value(FieldType::Long);
    let batch = raw(&[None, Some(GOOD), None]);
    let decoded = Decoder::new(&config).decode(&batch, Epoch(0));
    let codes: Vec<_> = decoded.rejects.iter().map(|r| (r.record, r.code)).collect();
    assert_eq!(codes, [(0, RejectCode::NullPayload), (2, RejectCode::NullPayload)]);
    assert_eq!((decoded.rows.num_rows(), decoded.skipped), (1, 0));

    config.tombstones = Tombstones::Skip;
    let decoded = Decoder::new(&config).decode(&batch, Epoch(0));
    assert_eq!(
        (decoded.rejects.len(), decoded.rows.num_rows(), decoded.skipped),
        (0, 1, 2)
    );
}

#[test]
fn a_long_takes_what_is_integral_and_in_range() {
    for (text, expected) in [
        ("5", 5),
        ("5.0", 5),
        ("5e0", 5),
        ("50e-1", 5),
        ("-0", 0),
        ("\"7\"", 7),
        ("\"1e3\"", 1000),
        ("9223372036854775807", i64::MAX),
        ("-9223372036854775808", i64::MIN),
        ("9007199254740993", 9_007_199_254_740_993),
    ] {
        assert_eq!(long(text), expected, "{text}");
    }
    for text in [
        "1.5",
        "1e-1",
        "9223372036854775808",
        "-9223372036854775809",
        "1e999999999",
        "\"0.1\"",
    ] {
        assert_eq!(code(FieldType::Long, text), RejectCode::OutOfRange, "{text}");
    }
}

#[test]
fn narrow_integers_have_their_own_range() {
    for (ty, good, bad) in [
        (FieldType::Byte, "-128", "128"),
        (FieldType::Short, "32767", "-32769"),
        (FieldType::Integer, "2147483647", "2147483648"),
    ] {
        assert_eq!(value(ty, good).rejects, [], "{good}");
        assert_eq!(code(ty, bad), RejectCode::OutOfRange, "{bad}");
    }
    let byte = value(FieldType::Byte, "\"-1.28e2\"");
    assert_eq!(byte.rows.column(1).as_primitive::<Int8Type>().value(0), -128);
}

#[test]
fn a_decimal_has_to_fit_exactly() {
    let unscaled = |ty, text: &str| {
        let decoded = value(ty, text);
        assert_eq!(decoded.rejects, [], "{text}");
        decoded.rows.column(1).as_primitive::<Decimal128Type>().value(0)
    };
    for (text, expected) in [
        ("1.99", 199),
        ("1.990", 199),
        ("199e-2", 199),
        ("-0.01", -1),
        ("-0", 0),
        ("\"12.5\"", 1250),
        ("1e2", 10_000),
        ("9999999999999999.99", 999_999_999_999_999_999),
    ] {
        assert_eq!(unscaled(DECIMAL, text), expected, "{text}");
    }
    for text in [
        "1.999",
        "0.001",
        "1e-3",
        "10000000000000000",
        "1e16",
        "1e999999999",
        "\"1.005\"",
    ] {
        assert_eq!(code(DECIMAL, text), RejectCode::OutOfRange, "{text}");
    }
    let widest = FieldType::Decimal {
        precision: 38,
        scale: 0,
    };
    assert_eq!(unscaled(widest, &"9".repeat(38)), 10i128.pow(38) - 1);
    assert_eq!(code(widest, &format!("1{}", "0".repeat(38))), RejectCode::OutOfRange);
}

#[test]
fn floats_are_rounded_once_and_have_to_be_finite() {
    let double = value(FieldType::Double, "1.7976931348623157e308");
    assert_eq!(double.rows.column(1).as_primitive::<Float64Type>().value(0), f64::MAX);
    // halfway between two floats as a double, above halfway as written
    let text = "1.00000005960464477539062500001";
    let float = value(FieldType::Float, text);
    assert_eq!(float.rows.column(1).as_primitive::<Float32Type>().value(0), 1.000_000_1);
    for (ty, text) in [
        (FieldType::Double, "1e400"),
        (FieldType::Double, "\"-1e400\""),
        (FieldType::Float, "1e39"),
    ] {
        assert_eq!(code(ty, text), RejectCode::OutOfRange, "{text}");
    }
    assert_eq!(value(FieldType::Double, "1e-400").rejects, []);
}

#[test]
fn a_string_that_holds_no_json_number_is_no_number() {
    for ty in [FieldType::Long, FieldType::Double, FieldType::Float, DECIMAL] {
        for text in [
            "\"\"", "\"NaN\"", "\"+1\"", "\" 1\"", "\"01\"", "\"1,5\"", "\"inf\"", "\"0x1\"",
        ] {
            assert_eq!(code(ty, text), RejectCode::WrongType, "{ty} {text}");
        }
    }
}

#[test]
fn values_of_another_kind_are_of_the_wrong_type() {
    for (ty, wrong) in [
        (FieldType::String, &["5", "true", "[]", "{}"][..]),
        (FieldType::Boolean, &["\"true\"", "1", "0", "[]"]),
        (FieldType::Long, &["true", "[1]", "{}"]),
        (FieldType::Double, &["false", "[1]", "{}"]),
        (DECIMAL, &["false", "[1]", "{}"]),
        (FieldType::Timestamp, &["true", "[]", "{}"]),
        (FieldType::Date, &["20250101", "true", "[]"]),
    ] {
        for text in wrong {
            assert_eq!(code(ty, text), RejectCode::WrongType, "{ty} {text}");
        }
    }
}

#[test]
fn null_and_absence_are_null_unless_required() {
    let payloads = [
        r#"{"at":"2025-01-01T00:00:00Z","v":null}"#,
        r#"{"at":"2025-01-01T00:00:00Z"}"#,
    ];
    let decoded = decode(&one_value(FieldType::Long), &payloads);
    assert_eq!(decoded.rows.column(1).null_count(), 2);

    let config = value_in_zone(required("v", FieldType::Long), Tz::UTC);
    let decoded = decode(&config, &payloads);
    let rejects: Vec<_> = decoded.rejects.iter().map(|r| (r.code, r.error.as_str())).collect();
    assert_eq!(
        rejects,
        [
            (RejectCode::MissingField, r#"field "v": required, and null"#),
            (RejectCode::MissingField, r#"field "v": required, and absent"#),
        ]
    );
}

#[test]
fn the_last_of_equal_keys_is_the_only_one_judged() {
    let at = r#""at":"2025-01-01T00:00:00Z""#;
    let payloads = [
        format!(r#"{{{at},"v":"bad","v":2}}"#),
        format!(r#"{{{at},"v":1,"v":null}}"#),
        format!(r#"{{{at},"v":1,"v":"bad"}}"#),
    ];
    let decoded = decode(&one_value(FieldType::Long), &payloads.each_ref().map(String::as_str));
    let values = decoded.rows.column(1).as_primitive::<Int64Type>();
    assert_eq!(values.iter().collect::<Vec<_>>(), [Some(2), None]);
    assert_eq!(
        (decoded.rejects[0].record, decoded.rejects[0].code),
        (2, RejectCode::WrongType)
    );
}

#[test]
fn a_timestamp_needs_an_offset_and_is_no_number() {
    for text in [
        "\"2025-01-01T00:00:00\"",
        "\"2025-01-01 00:00:00Z\"",
        "1735689600",
        "\"1735689600\"",
        "\"\"",
    ] {
        assert_eq!(code(FieldType::Timestamp, text), RejectCode::InvalidTimestamp, "{text}");
    }
    for text in [
        "\"2016-12-31T23:59:60Z\"",
        "\"2025-01-01T24:00:00Z\"",
        "\"9999-12-31T23:59:59-00:01\"",
    ] {
        assert_eq!(code(FieldType::Timestamp, text), RejectCode::InvalidTimestamp, "{text}");
    }
    let decoded = value(FieldType::Timestamp, "\"1969-12-31T23:59:59.9999999z\"");
    assert_eq!(micros(&decoded, 1), -1);
}

#[test]
fn a_declared_unit_admits_epoch_counts_beside_text() {
    let counted = Field {
        unit: Some(EpochUnit::Milliseconds),
        ..field("v", FieldType::Timestamp)
    };
    let config = value_in_zone(counted, Tz::UTC);
    let read = |value: &str| decode(&config, &[&format!(r#"{{"at":"2025-01-01T00:00:00Z","v":{value}}}"#)]);
    for text in [
        "1735689600123",
        "\"1735689600123\"",
        "1.735689600123e12",
        "\"2025-01-01T00:00:00.123Z\"",
    ] {
        assert_eq!(micros(&read(text), 1), 1_735_689_600_123_000, "{text}");
    }
    assert_eq!(micros(&read("-0.0001"), 1), -1);
    assert_eq!(reject(read("1e300")).0, RejectCode::InvalidTimestamp);
    assert_eq!(reject(read("\"soon\"")).0, RejectCode::InvalidTimestamp);
    assert_eq!(reject(read("true")).0, RejectCode::WrongType);
}

#[test]
fn a_date_is_a_day_that_exists() {
    let decoded = value(FieldType::Date, "\"2024-02-29\"");
    assert_eq!(decoded.rows.column(1).as_primitive::<Date32Type>().value(0), 19_782);
    for text in [
        "\"2025-02-29\"",
        "\"2025-1-1\"",
        "\"2025-01-01T00:00:00Z\"",
        "\"0000-01-01\"",
    ] {
        assert_eq!(code(FieldType::Date, text), RejectCode::InvalidTimestamp, "{text}");
    }
}

#[test]
fn the_partition_date_is_the_day_in_the_streams_zone() {
    let payload = r#"{"at":"2025-06-30T22:30:00Z"}"#;
    let day = |zone| {
        let decoded = decode(&value_in_zone(field("v", FieldType::Long), zone), &[payload]);
        decoded.rows["date"].as_primitive::<Date32Type>().value(0)
    };
    assert_eq!(day(Tz::Europe__Paris), day(Tz::UTC) + 1);
    assert_eq!(day(Tz::America__New_York), day(Tz::UTC));
}

#[test]
fn a_day_that_leaves_the_years_in_the_streams_zone_is_rejected() {
    let config = value_in_zone(field("v", FieldType::Long), Tz::Europe__Paris);
    let decoded = decode(&config, &[r#"{"at":"9999-12-31T23:30:00Z"}"#]);
    assert_eq!(reject(decoded).0, RejectCode::InvalidTimestamp);
}

#[test]
fn an_empty_partition_string_is_null_in_the_row() {
    let payload = r#"{"at":"2025-01-01T00:00:00Z","site":""}"#;
    let decoded = decode(&partitioned(field("site", FieldType::String)), &[payload]);
    assert!(decoded.rows.column(1).is_null(0));
    let (code, error) = reject(decode(&partitioned(required("site", FieldType::String)), &[payload]));
    assert_eq!(code, RejectCode::MissingField);
    assert_eq!(
        error,
        r#"field "site": required, and empty, which a partition column reads as null"#
    );
    // elsewhere an empty string is an empty string
    let elsewhere = value(FieldType::String, "\"\"");
    assert!(elsewhere.rows.column(1).is_valid(0));
}

#[test]
fn partition_values_no_path_can_carry_are_rejected() {
    let config = partitioned(field("site", FieldType::String));
    let read = |site: &str| {
        decode(
            &config,
            &[&format!(r#"{{"at":"2025-01-01T00:00:00Z","site":"{site}"}}"#)],
        )
    };
    let invalid = RejectCode::InvalidPartitionValue;
    assert_eq!(reject(read("__HIVE_DEFAULT_PARTITION__")).0, invalid);
    assert_eq!(reject(read("__HIVE_DEFAULT_PARTITION_\\u005f")).0, invalid);
    assert_eq!(read("__hive_default_partition__").rejects, []);
    // `site=` and 250 letters are 255 bytes
    assert_eq!(read(&"x".repeat(250)).rejects, []);
    assert_eq!(reject(read(&"x".repeat(251))).0, invalid);
    assert_eq!(reject(read(&"/".repeat(84))).0, invalid);
    assert_eq!(value(FieldType::String, "\"__HIVE_DEFAULT_PARTITION__\"").rejects, []);
}

#[test]
fn a_payload_over_the_limit_is_rejected_unread() {
    let mut config = one_value(FieldType::String);
    config.max_record_bytes = 40;
    let fits = r#"{"at":"2025-01-01T00:00:00Z","v":"1234"}"#;
    assert_eq!(fits.len(), 40);
    assert_eq!(decode(&config, &[fits]).rejects, []);
    let too_large = reject(decode(&config, &[&format!("{fits} ")]));
    assert_eq!(
        too_large,
        (
            RejectCode::TooLarge,
            "the payload has 41 bytes, allowed are 40".to_owned()
        )
    );
    assert_eq!(reject(decode(&config, &[&"[".repeat(41)])).0, RejectCode::TooLarge);
}

#[test]
fn a_document_over_16_mib_is_rejected() {
    let text = |len: usize| value(FieldType::String, &format!("\"{}\"", "x".repeat(len)));
    assert_eq!(text((16 << 20) - 200).rejects, []);
    let (code, error) = reject(text((16 << 20) - 50));
    assert_eq!(code, RejectCode::TooLarge);
    assert!(error.ends_with("MongoDB allows 16777216"), "{error}");
}

#[test]
fn a_dimension_that_would_burst_its_rollup_document_is_rejected() {
    let mut config = one_value(FieldType::String);
    config.rollups.push(RollupConfig {
        name: "by_v".into(),
        every: Every::Day,
        by: vec![1],
        measures: BTreeMap::new(),
        expire_after: None,
    });
    let read = |len: usize| {
        let payload = format!(r#"{{"at":"2025-01-01T00:00:00Z","v":"{}"}}"#, "x".repeat(len));
        decode(&config, &[&payload])
    };
    assert_eq!(read(5 << 20).rejects, []);
    let (code, error) = reject(read(6 << 20));
    assert_eq!(code, RejectCode::TooLarge);
    assert!(error.starts_with("a document of rollup \"by_v\""), "{error}");
}

#[test]
fn the_bound_is_never_below_the_document_mongodb_would_hold() {
    let text = "é".repeat(1000);
    let document = bson::doc! {
        "_id": 1i64, "at": bson::DateTime::MIN, "v": &text, "date": "2025-01-01", "_timestamp": bson::DateTime::MIN,
    };
    let size = bson::serialize_to_vec(&document).expect("a document").len();
    let bound = DocumentBounds::new(&one_value(FieldType::String)).document(text.len());
    assert!((size..size + 100).contains(&bound), "{size} {bound}");
}

#[test]
fn unknown_fields_are_ignored_and_counted() {
    let decoded = decode(
        &one_value(FieldType::Long),
        &[
            r#"{"x":[{"v":9}],"at":"2025-01-01T00:00:00Z","v":1,"y":2}"#,
            r#"{"x":1}"#,
        ],
    );
    assert_eq!(decoded.rows.num_rows(), 1);
    let counts: Vec<_> = decoded.unknown_fields.into_iter().collect();
    assert_eq!(counts, [("x".to_owned(), 2), ("y".to_owned(), 1)]);
}

#[test]
fn errors_name_the_field_what_was_found_and_what_was_wanted() {
    let texts = [
        reject(value(DECIMAL, "1.999")).1,
        reject(value(FieldType::Long, "\"many\\n\"")).1,
        reject(value(FieldType::String, "[1]")).1,
        reject(value(FieldType::Timestamp, "1735689600")).1,
        reject(value(FieldType::Timestamp, "\"2025-02-30T00:00:00Z\"")).1,
        reject(value(FieldType::Date, "\"0000-01-01\"")).1,
        reject(value(FieldType::Boolean, &format!("\"{}\"", "x".repeat(100)))).1,
        reject(decode(&one_value(FieldType::Long), &["{\"at\":nope}"])).1,
    ];
    insta::assert_snapshot!(texts.join("\n"), @r#"
    field "v": 1.999 does not fit decimal(18,2)
    field "v": found "many\n", wanted a number, or a string holding one
    field "v": found an array, wanted a string
    field "v": 1735689600 is a number, and the field declares no unit to count in
    field "v": "2025-02-30T00:00:00Z" names a day or a time of day that does not exist
    field "v": "0000-01-01" lies outside years 0001–9999
    field "v": found "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…", wanted true or false
    not valid JSON: expected a value at byte 6
    "#);
}

#[test]
fn fields_are_judged_in_declared_order_once_the_json_is_whole() {
    let config = one_value(FieldType::Long);
    assert_eq!(
        reject(decode(&config, &[r#"{"v":"bad","at":1}"#])).0,
        RejectCode::InvalidTimestamp
    );
    assert_eq!(
        reject(decode(&config, &[r#"{"v":"bad","at":1} x"#])).0,
        RejectCode::InvalidJson
    );
}

#[test]
fn a_batch_without_records_is_a_batch_without_rows() {
    let decoded = Decoder::new(&one_value(FieldType::Long)).decode(&raw(&[]), Epoch(0));
    assert_eq!(decoded.rows.num_rows(), 0);
    assert_eq!(decoded.rows.schema().fields().len(), 5);
}

#[test]
fn one_large_record_does_not_make_the_next_batch_ask_for_more_than_its_payload() {
    let config = one_value(FieldType::String);
    let mut decoder = Decoder::new(&config);
    let large = format!(r#"{{"at":"2025-01-01T00:00:00Z","v":"{}"}}"#, "x".repeat(1 << 20));
    decoder.decode(&raw(&[Some(large.as_bytes())]), Epoch(0));
    let small = r#"{"at":"2025-01-01T00:00:00Z","v":"x"}"#;
    let decoded = decoder.decode(&raw(&[Some(small.as_bytes()); 1000]), Epoch(0));
    assert!(decoded.rows.column(1).get_buffer_memory_size() < 100_000);
}

/// Records good and bad in every column, so that a rejection can fall behind any number of pushed cells.
fn any_record() -> impl Strategy<Value = String> {
    let at = prop_oneof![4 => Just("\"2025-01-01T00:00:00Z\""), 1 => Just("7"), 1 => Just("null")];
    let text = prop_oneof![
        r#""[a-zé]{0,12}""#,
        r#""\\n[a-z]{0,3}""#,
        Just("null".to_owned()),
        Just("5".to_owned())
    ];
    let flag = prop_oneof![3 => Just("true"), 2 => Just("null"), 1 => Just("1")];
    let amount = prop_oneof![
        "[0-9]{1,3}\\.[0-9]{1,3}".prop_map(|n| format!("\"{n}\"")),
        Just("null".to_owned())
    ];
    let end = prop_oneof![6 => Just("}"), 1 => Just(",}"), 1 => Just("} x")];
    (at, text, flag, amount, end).prop_map(|(at, text, flag, amount, end)| {
        format!(r#"{{"at":{at},"text":{text},"flag":{flag},"amount":{amount}{end}"#)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// A record's row or rejection is the same alone as among any neighbours.
    #[test]
    fn neighbours_never_change_a_record(payloads in prop::collection::vec(any_record(), 0..40)) {
        let fields = vec![
            required("at", FieldType::Timestamp),
            field("text", FieldType::String),
            field("flag", FieldType::Boolean),
            required("amount", DECIMAL),
        ];
        let config = stream(StreamSchema::new(fields, 0, vec![PartitionColumn::EventDate], Tz::UTC));
        let payloads: Vec<_> = payloads.iter().map(|p| Some(p.as_bytes())).collect();
        let whole = raw(&payloads);
        let together = Decoder::new(&config).decode(&whole, Epoch(0));
        let mut row = 0;
        let mut rejects = together.rejects.iter();
        for index in 0..payloads.len() {
            let mut alone = raw(&payloads[index..=index]);
            alone.records[0].offset = whole.records[index].offset;
            let alone = Decoder::new(&config).decode(&alone, Epoch(0));
            if alone.rows.num_rows() == 1 {
                prop_assert_eq!(&together.rows.slice(row, 1), &alone.rows);
                row += 1;
            } else {
                let reject = rejects.next().expect("rejected alone, so rejected together");
                prop_assert_eq!((reject.record, &reject.error), (index, &alone.rejects[0].error));
            }
        }
        prop_assert_eq!((row, rejects.next()), (together.rows.num_rows(), None));
    }
}
