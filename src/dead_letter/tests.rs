//! Writer and reader together, over librdkafka's in-process broker. It cannot create topics or tell their
//! properties: the topic is there beforehand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::{DeadLetterWriter, Letter, ReadSummary, read_all};
use crate::batch::{Headers, RawBatch, RawRecord, Reject, RejectCode, Session, Stage};
use crate::config::{KafkaConfig, LakeConfig, MongoConfig, Start, StreamConfig, Tombstones};
use crate::offsets::{Offset, Partition};
use crate::schema::{Field, FieldType, PartitionColumn, StreamSchema};

fn cluster(
    partitions: i32,
) -> (
    MockCluster<'static, rdkafka::producer::DefaultProducerContext>,
    KafkaConfig,
) {
    let cluster = MockCluster::new(1).expect("mock cluster");
    cluster.create_topic("sales.dlq", partitions, 1).expect("topic");
    let kafka = KafkaConfig {
        brokers: cluster.bootstrap_servers(),
        group: "affluent".to_owned(),
        start: Start::Earliest,
        properties: BTreeMap::new(),
    };
    (cluster, kafka)
}

fn stream() -> StreamConfig {
    let at = Field {
        name: "at".to_owned(),
        ty: FieldType::Timestamp,
        required: true,
        unit: None,
    };
    StreamConfig {
        name: "sales".to_owned(),
        topic: "sales".to_owned(),
        dead_letter_topic: "sales.dlq".to_owned(),
        schema: Arc::new(StreamSchema::new(
            vec![at],
            0,
            vec![PartitionColumn::EventDate],
            chrono_tz::UTC,
        )),
        rollups: Vec::new(),
        tombstones: Tombstones::DeadLetter,
        max_record_bytes: 16 << 20,
        max_dead_letters: None,
        former_schema: false,
        mongo: MongoConfig {
            enabled: false,
            uri: String::new(),
            database: String::new(),
            flush_interval: Duration::ZERO,
            max_flush_rows: 0,
            insert_batch_rows: 0,
            insert_concurrency: 0,
        },
        lake: LakeConfig {
            enabled: false,
            root: String::new(),
            commit_interval: Duration::ZERO,
            idle_interval: Duration::ZERO,
            target_file_bytes: 0,
            max_open_bytes: 0,
            upkeep: Default::default(),
            storage: BTreeMap::new(),
        },
    }
}

/// A batch under construction.
struct Raw(RawBatch);

impl Raw {
    fn new() -> Self {
        Self(RawBatch {
            session: Session(1),
            arena: Vec::new(),
            records: Vec::new(),
            covered: BTreeMap::new(),
            permit: None,
        })
    }

    fn record(
        mut self,
        partition: i32,
        offset: Offset,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: Option<Headers>,
    ) -> Self {
        let mut range = |bytes: Option<&[u8]>| {
            bytes.map(|b| {
                let start = self.0.arena.len();
                self.0.arena.extend_from_slice(b);
                start..self.0.arena.len()
            })
        };
        let (key, value) = (range(key), range(value));
        self.0.records.push(RawRecord {
            partition: Partition(partition),
            offset,
            timestamp_ms: Some(1_767_225_600_000 + offset),
            key,
            value,
            headers: headers.map(Box::new),
        });
        self
    }
}

/// Rejects every record of the batch.
fn rejects(raw: &RawBatch) -> Vec<Reject> {
    let reject = |record| Reject {
        record,
        stage: Stage::Decode,
        code: RejectCode::InvalidJson,
        error: format!("record {record} ist kein gültiges JSON"),
    };
    (0..raw.records.len()).map(reject).collect()
}

async fn letters(kafka: &KafkaConfig) -> (Vec<Letter>, ReadSummary) {
    let mut letters = Vec::new();
    let summary = read_all(kafka, &stream(), |letter| letters.push(letter))
        .await
        .expect("letters are read");
    letters.sort_by_key(|l| (l.partition, l.offset));
    (letters, summary)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_keeps_every_byte_and_tells_null_from_empty() {
    let (_cluster, kafka) = cluster(1);
    let own = vec![("trace".to_owned(), Some(vec![0xff, 0])), ("empty".to_owned(), None)];
    let Raw(raw) = Raw::new()
        .record(0, 5, None, None, None)
        .record(0, 6, Some(b""), Some(b""), None)
        .record(3, 7, Some(b"k\x00"), Some(b"\xff{"), Some(own.clone()));
    DeadLetterWriter::new(&kafka, &stream())
        .write(&raw, &rejects(&raw))
        .await
        .expect("acknowledged");

    let (letters, summary) = letters(&kafka).await;
    assert_eq!(summary, ReadSummary { letters: 3, foreign: 0 });
    let bytes: Vec<_> = letters
        .iter()
        .map(|l| (l.offset, l.key.as_deref(), l.value.as_deref()))
        .collect();
    assert_eq!(
        bytes,
        [
            (5, None, None),
            (6, Some(&b""[..]), Some(&b""[..])),
            (7, Some(&b"k\x00"[..]), Some(&b"\xff{"[..])),
        ]
    );
    let last = &letters[2];
    assert_eq!((last.topic.as_str(), last.partition), ("sales", Partition(3)));
    assert_eq!(last.timestamp_ms, Some(1_767_225_600_007));
    assert_eq!(last.error, "record 2 ist kein gültiges JSON");
    assert_eq!(last.headers, own);
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_of_one_partition_stay_in_order_over_several_partitions() {
    let (_cluster, kafka) = cluster(3);
    let mut batch = Raw::new();
    for offset in 0..50 {
        for partition in 0..5 {
            batch = batch.record(partition, offset, None, Some(b"x"), None);
        }
    }
    let Raw(raw) = batch;
    let writer = DeadLetterWriter::new(&kafka, &stream());
    writer.write(&raw, &rejects(&raw)).await.expect("acknowledged");

    let mut next: BTreeMap<Partition, Offset> = BTreeMap::new();
    let summary = read_all(&kafka, &stream(), |letter| {
        let next = next.entry(letter.partition).or_default();
        assert_eq!(letter.offset, *next);
        *next += 1;
    })
    .await
    .expect("letters are read");
    assert_eq!(summary.letters, 250);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_letter_is_an_error_and_the_next_try_succeeds() {
    let (cluster, kafka) = cluster(1);
    let Raw(raw) = Raw::new().record(0, 5, None, Some(b"x"), None);
    let writer = DeadLetterWriter::new(&kafka, &stream());
    cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE],
    );
    let error = writer.write(&raw, &rejects(&raw)).await.expect_err("refused");
    assert!(
        format!("{error:#}").contains("raise its max.message.bytes"),
        "{error:#}"
    );

    writer.write(&raw, &rejects(&raw)).await.expect("acknowledged");
    let (letters, _) = letters(&kafka).await;
    assert_eq!(letters.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there_holds_no_letters() {
    let (_cluster, kafka) = cluster(1);
    let mut stream = stream();
    stream.dead_letter_topic = "nowhere.dlq".to_owned();
    let summary = read_all(&kafka, &stream, |_| panic!("no letter was written")).await;
    assert_eq!(summary.expect("an answer"), ReadSummary::default());
}
