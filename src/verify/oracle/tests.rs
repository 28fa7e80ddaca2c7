use super::*;
use crate::verify::testing::{record, row, stream, verdict};

/// The value of one field of an otherwise good record.
fn field(name: &str, json: &str) -> Result<Option<Value>, RejectCode> {
    let stream = stream();
    let payload = format!(r#"{{"at":"2024-06-30T22:30:00.123456Z","{name}":{json}}}"#);
    let index = stream
        .schema
        .fields
        .iter()
        .position(|f| f.name == name)
        .expect("a declared field");
    match verdict(&stream, &payload) {
        Verdict::Row(row) => Ok(row.values[index].clone()),
        Verdict::Reject(code) => Err(code),
        Verdict::Skipped => panic!("a record with a payload was skipped"),
    }
}

#[test]
fn a_good_record_becomes_a_row_with_its_coordinates_and_local_day() {
    let row = row(
        &stream(),
        7,
        r#"{"at":"2024-06-30T22:30:00.123456Z","unknown":{"a":[1]}}"#,
    );
    assert_eq!(row.id, RecordId(7));
    assert_eq!(row.values[0], Some(Value::Timestamp(1_719_786_600_123_456)));
    assert!(row.values[1..].iter().all(Option::is_none));
    assert_eq!(row.date, NaiveDate::from_ymd_opt(2024, 7, 1), "the day in Paris");
    assert_eq!(row.timestamp_us, Some(1_000_000));
}

#[test]
fn values_are_read_by_the_declared_type() {
    let good: &[(&str, &str, Option<Value>)] = &[
        ("region", "\"Bretagne\"", Some(Value::String("Bretagne".into()))),
        ("region", "\"\"", None),
        ("region", "null", None),
        ("amount", "1.5", Some(Value::Decimal(150, 2))),
        ("amount", "\"1.50\"", Some(Value::Decimal(150, 2))),
        ("amount", "1.500e0", Some(Value::Decimal(150, 2))),
        ("amount", "-0", Some(Value::Decimal(0, 2))),
        ("quantity", "5.0", Some(Value::Integer(5))),
        ("quantity", "\"5e0\"", Some(Value::Integer(5))),
        ("quantity", "9223372036854775807", Some(Value::Integer(i64::MAX))),
        ("ratio", "0.1", Some(Value::Double(0.1))),
        ("ratio", "\"1e3\"", Some(Value::Double(1000.0))),
        ("ratio", "1e-400", Some(Value::Double(0.0))),
        ("weight", "0.1", Some(Value::Float(0.1))),
        ("small", "-128", Some(Value::Integer(-128))),
        ("open", "true", Some(Value::Boolean(true))),
        ("day", "\"1970-01-02\"", Some(Value::Date(1))),
        ("seen", "1500", Some(Value::Timestamp(1_500_000))),
        ("seen", "\"1500\"", Some(Value::Timestamp(1_500_000))),
        ("seen", "\"1970-01-01T00:00:01Z\"", Some(Value::Timestamp(1_000_000))),
    ];
    for (name, json, expected) in good {
        assert_eq!(&field(name, json), &Ok(expected.clone()), "{name}: {json}");
    }
}

#[test]
fn values_that_do_not_fit_name_why() {
    use RejectCode::*;
    let bad = [
        ("at", "null", MissingField),
        ("at", "0", InvalidTimestamp),
        ("at", "\"2024-06-30T22:30:00\"", InvalidTimestamp),
        ("at", "\"9999-12-31T23:30:00Z\"", InvalidTimestamp),
        ("at", "true", WrongType),
        ("at", "{}", WrongType),
        ("region", "5", WrongType),
        ("region", "\"__HIVE_DEFAULT_PARTITION__\"", InvalidPartitionValue),
        ("amount", "1.999", OutOfRange),
        ("amount", "1e17", OutOfRange),
        ("amount", "\"1,5\"", WrongType),
        ("amount", "\" 1\"", WrongType),
        ("amount", "\"+1\"", WrongType),
        ("amount", "\"\"", WrongType),
        ("amount", "true", WrongType),
        ("quantity", "1.5", OutOfRange),
        ("quantity", "9223372036854775808", OutOfRange),
        ("quantity", "[5]", WrongType),
        ("ratio", "1e400", OutOfRange),
        ("ratio", "\"NaN\"", WrongType),
        ("weight", "1e39", OutOfRange),
        ("small", "128", OutOfRange),
        ("open", "\"true\"", WrongType),
        ("open", "1", WrongType),
        ("day", "\"1970-1-2\"", InvalidTimestamp),
        ("day", "1", WrongType),
        ("seen", "1e30", InvalidTimestamp),
        ("seen", "\"soon\"", InvalidTimestamp),
    ];
    for (name, json, code) in bad {
        assert_eq!(field(name, json), Err(code), "{name}: {json}");
    }
}

#[test]
fn a_payload_that_is_no_object_is_invalid_json() {
    for payload in ["", "[]", "1", "\"a\"", "null", "{} {}", "{\"at\":1,}", "\u{feff}{}"] {
        assert_eq!(
            verdict(&stream(), payload),
            Verdict::Reject(RejectCode::InvalidJson),
            "{payload:?}"
        );
    }
}

#[test]
fn a_tombstone_is_a_fault_unless_the_stream_skips_them() {
    let mut stream = stream();
    let tombstone = OracleRecord {
        value: None,
        ..record(7, b"")
    };
    assert_eq!(
        decode(&stream, &tombstone, Epoch(0)),
        Verdict::Reject(RejectCode::NullPayload)
    );
    stream.tombstones = Tombstones::Skip;
    assert_eq!(decode(&stream, &tombstone, Epoch(0)), Verdict::Skipped);
}

#[test]
fn limits_of_size_depth_and_coordinates_hold() {
    let mut stream = stream();
    let good = r#"{"at":"2024-06-30T22:30:00Z"}"#;
    stream.max_record_bytes = good.len();
    assert!(matches!(verdict(&stream, good), Verdict::Row(_)));
    assert_eq!(
        verdict(&stream, &format!("{good} ")),
        Verdict::Reject(RejectCode::TooLarge)
    );
    stream.max_record_bytes = 64 << 20;

    let nested = |levels: usize| {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        format!(r#"{{"at":"2024-06-30T22:30:00Z","x":{open}{close}}}"#)
    };
    assert!(matches!(verdict(&stream, &nested(63)), Verdict::Row(_)));
    assert_eq!(verdict(&stream, &nested(64)), Verdict::Reject(RejectCode::TooDeep));

    let beyond = record(1 << 44, good.as_bytes());
    assert_eq!(
        decode(&stream, &beyond, Epoch(0)),
        Verdict::Reject(RejectCode::InvalidCoordinates)
    );

    // The frame takes 5 bytes, `_id` 13, `at` 12, `region` 13 and its text; as a partition it could not be so long.
    let schema = &stream.schema;
    let unpartitioned = StreamSchema::new(schema.fields.clone(), schema.event_time, vec![], schema.timezone);
    stream.schema = std::sync::Arc::new(unpartitioned);
    let with_region = |bytes: usize| format!(r#"{{"at":"2024-06-30T22:30:00Z","region":"{}"}}"#, "r".repeat(bytes));
    let largest = MAX_DOCUMENT_BYTES - 5 - 13 - 12 - 13;
    assert!(matches!(verdict(&stream, &with_region(largest)), Verdict::Row(_)));
    assert_eq!(
        verdict(&stream, &with_region(largest + 1)),
        Verdict::Reject(RejectCode::TooLarge)
    );
}

#[test]
fn the_document_size_is_that_of_the_document() {
    let stream = stream();
    let row = row(
        &stream,
        7,
        r#"{"at":"2024-06-30T22:30:00Z","region":"é","amount":1,"quantity":1,"ratio":1,"weight":1,"small":1,"open":true,"day":"2024-01-01","seen":1}"#,
    );
    let any_date = bson::DateTime::from_millis(0);
    let document = bson::doc! {
        "_id": 7i64, "at": any_date, "region": "é", "amount": bson::Decimal128::from_bytes([0; 16]), "quantity": 1i64,
        "ratio": 1f64, "weight": 1f64, "small": 1i32, "open": true, "day": any_date, "seen": any_date,
    };
    let bytes = document.to_vec().unwrap();
    assert_eq!(document_bytes(&stream.schema, &row.values), bytes.len());
}

#[test]
fn a_partition_value_must_fit_a_directory_name_escaped() {
    let stream = stream();
    let with_region = |text: String| {
        verdict(
            &stream,
            &format!(r#"{{"at":"2024-06-30T22:30:00Z","region":"{text}"}}"#),
        )
    };
    let room = 255 - "region=".len();
    assert!(matches!(with_region("r".repeat(room)), Verdict::Row(_)));
    assert!(matches!(with_region("é".repeat(room / 6)), Verdict::Row(_)));
    assert!(matches!(with_region("/".repeat(room / 3)), Verdict::Row(_)));
    for text in ["r".repeat(room + 1), "é".repeat(room / 6 + 1), "/".repeat(room / 3 + 1)] {
        assert_eq!(with_region(text), Verdict::Reject(RejectCode::InvalidPartitionValue));
    }
}

#[test]
fn of_duplicate_keys_only_the_last_is_judged() {
    let stream = stream();
    let good_last = r#"{"at":5,"at":"2024-06-30T22:30:00Z"}"#;
    assert!(matches!(verdict(&stream, good_last), Verdict::Row(_)));
    let bad_last = r#"{"at":"2024-06-30T22:30:00Z","at":null}"#;
    assert_eq!(verdict(&stream, bad_last), Verdict::Reject(RejectCode::MissingField));
}

#[test]
fn every_fault_of_a_record_is_named() {
    let stream = stream();
    let payload = br#"{"at":"yesterday","quantity":1.5,"open":1}"#;
    assert_eq!(
        faults(&stream, &record(7, payload), Epoch(0)),
        [
            RejectCode::InvalidTimestamp,
            RejectCode::OutOfRange,
            RejectCode::WrongType
        ]
    );
    assert_eq!(
        faults(&stream, &record(7, br#"{"at":"2024-06-30T22:30:00Z"}"#), Epoch(0)),
        []
    );
}
