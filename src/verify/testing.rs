//! A stream, records and rows for the tests of this module.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono_tz::Tz;

use super::oracle::{self, OracleRecord, Row, Verdict};
use crate::config::{Every, LakeConfig, Measure, MongoConfig, RollupConfig, StreamConfig, Tombstones};
use crate::offsets::{Epoch, Partition};
use crate::schema::{EpochUnit, Field, FieldType, PartitionColumn, StreamSchema};

/// Fields of every type; partitioned by `date` (Paris) and `region`; one rollup by hour and one by day.
pub fn stream() -> StreamConfig {
    let optional = |name: &str, ty| Field {
        name: name.into(),
        ty,
        required: false,
        unit: None,
    };
    let fields = vec![
        Field {
            required: true,
            ..optional("at", FieldType::Timestamp)
        },
        optional("region", FieldType::String),
        optional(
            "amount",
            FieldType::Decimal {
                precision: 18,
                scale: 2,
            },
        ),
        optional("quantity", FieldType::Long),
        optional("ratio", FieldType::Double),
        optional("weight", FieldType::Float),
        optional("small", FieldType::Byte),
        optional("open", FieldType::Boolean),
        optional("day", FieldType::Date),
        Field {
            unit: Some(EpochUnit::Milliseconds),
            ..optional("seen", FieldType::Timestamp)
        },
    ];
    let partition_by = vec![PartitionColumn::EventDate, PartitionColumn::Field(1)];
    StreamConfig {
        name: "readings".into(),
        topic: "readings-topic".into(),
        dead_letter_topic: "readings-topic.dlq".into(),
        schema: Arc::new(StreamSchema::new(fields, 0, partition_by, Tz::Europe__Paris)),
        rollups: vec![
            RollupConfig {
                name: "by_hour".into(),
                every: Every::Seconds(3600),
                by: vec![1],
                measures: BTreeMap::from([
                    ("cheapest".into(), Measure::Min(2)),
                    ("mean".into(), Measure::Avg(3)),
                    ("readings".into(), Measure::Count),
                    ("revenue".into(), Measure::Sum(2)),
                    ("total_ratio".into(), Measure::Sum(4)),
                ]),
                expire_after: None,
            },
            RollupConfig {
                name: "by_day".into(),
                every: Every::Day,
                by: vec![],
                measures: BTreeMap::from([("readings".into(), Measure::Count)]),
                expire_after: None,
            },
        ],
        tombstones: Tombstones::DeadLetter,
        max_record_bytes: 16 << 20,
        max_dead_letters: None,
        former_schema: false,
        mongo: MongoConfig {
            enabled: true,
            uri: "mongodb://127.0.0.1:27017/?replicaSet=rs0".into(),
            database: "test".into(),
            flush_interval: Duration::from_millis(500),
            max_flush_rows: 1000,
            insert_batch_rows: 1000,
            insert_concurrency: 1,
        },
        lake: LakeConfig {
            enabled: true,
            root: "lake".into(),
            commit_interval: Duration::from_secs(1),
            idle_interval: Duration::from_secs(1),
            target_file_bytes: 1 << 20,
            max_open_bytes: 1 << 20,
            upkeep: Default::default(),
            storage: BTreeMap::new(),
        },
    }
}

/// The verdict over a payload at partition 0, offset 7.
pub fn verdict(stream: &StreamConfig, payload: &str) -> Verdict {
    oracle::decode(stream, &record(7, payload.as_bytes()), Epoch(0))
}

pub fn record(offset: i64, payload: &[u8]) -> OracleRecord<'_> {
    OracleRecord {
        partition: Partition(0),
        offset,
        timestamp_ms: Some(1_000),
        value: Some(payload),
    }
}

/// The row of a payload that is good.
pub fn row(stream: &StreamConfig, offset: i64, payload: &str) -> Row {
    match oracle::decode(stream, &record(offset, payload.as_bytes()), Epoch(0)) {
        Verdict::Row(row) => row,
        other => panic!("{payload} is no row but {other:?}"),
    }
}
