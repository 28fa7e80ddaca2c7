//! A topic of a test's own, created, filled and read by a plain client: what affluent does to it shows in bytes.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use crate::support::DEADLINE;
use crate::topics::{self, client};

/// Above the largest record a test sends.
pub const MAX_MESSAGE_BYTES: &str = "30000000";

/// One record, to be sent or as read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    pub partition: i32,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub timestamp: i64,
}

impl Record {
    pub fn new(value: impl Into<Vec<u8>>) -> Self {
        Self {
            value: Some(value.into()),
            timestamp: 1_767_225_600_000,
            ..Self::default()
        }
    }

    pub fn tombstone() -> Self {
        Self {
            value: None,
            ..Self::new("")
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(n, _)| n == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }
}

pub struct Topic(pub String);

impl Topic {
    pub fn create(name: &str, partitions: i32) -> Self {
        Self::with(name, partitions, "producer")
    }

    /// `compression` as the topic's property: how the broker keeps records, whatever the producer did.
    pub fn with(name: &str, partitions: i32, compression: &str) -> Self {
        let properties = [
            ("max.message.bytes", MAX_MESSAGE_BYTES),
            ("compression.type", compression),
        ];
        topics::create(name, partitions, &properties);
        let topic = Self(name.to_owned());
        crate::support::until("the topic can be seen", || {
            topic.try_ends().ok().filter(|e| e.len() as i32 == partitions)
        });
        topic
    }

    pub fn set(&self, property: &str, value: &str) {
        topics::set(&self.0, property, value);
    }

    /// In order, and all acknowledged.
    pub fn send<'r>(&self, records: impl IntoIterator<Item = &'r Record>) {
        let producer: ThreadedProducer<Refusals> = client()
            .set("enable.idempotence", "true")
            .set("message.max.bytes", MAX_MESSAGE_BYTES)
            .set("compression.type", "lz4")
            .create_with_context(Refusals::default())
            .unwrap();
        for record in records {
            let mut native = BaseRecord::<[u8], [u8]>::to(&self.0)
                .partition(record.partition)
                .timestamp(record.timestamp);
            (native.key, native.payload) = (record.key.as_deref(), record.value.as_deref());
            if !record.headers.is_empty() {
                let add = |all: OwnedHeaders, (key, value): &(String, Option<Vec<u8>>)| {
                    all.insert(Header {
                        key,
                        value: value.as_ref(),
                    })
                };
                native = native.headers(record.headers.iter().fold(OwnedHeaders::new(), add));
            }
            while let Err((error, returned)) = producer.send(native) {
                assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull), "{error}");
                native = returned;
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        producer.flush(DEADLINE).unwrap();
        let refused = producer.context().0.lock().unwrap();
        assert!(refused.is_empty(), "the broker did not take all of it: {refused:?}");
    }

    /// A transaction with this record in it, sent and not committed: what lies behind it is hidden.
    pub fn open_transaction(&self, record: &Record) -> ThreadedProducer<Refusals> {
        let producer: ThreadedProducer<Refusals> = client()
            .set("transactional.id", format!("{}-foreign", self.0))
            .create_with_context(Refusals::default())
            .unwrap();
        producer.init_transactions(DEADLINE).unwrap();
        producer.begin_transaction().unwrap();
        let mut native = BaseRecord::<[u8], [u8]>::to(&self.0).partition(record.partition);
        native.payload = record.value.as_deref();
        producer.send(native).map_err(|(error, _)| error).unwrap();
        producer.flush(DEADLINE).unwrap();
        producer
    }

    /// Every committed record, by partition and offset.
    pub fn read(&self) -> Vec<(i32, i64, Record)> {
        let ends = self.ends();
        let consumer: BaseConsumer = client()
            .set("group.id", "test")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .create()
            .unwrap();
        let mut assignment = TopicPartitionList::new();
        for partition in 0..ends.len() as i32 {
            let beginning = assignment.add_partition_offset(&self.0, partition, Offset::Beginning);
            beginning.unwrap();
        }
        consumer.assign(&assignment).unwrap();
        let (mut open, mut records) = (ends.len(), Vec::new());
        let started = Instant::now();
        while open > 0 {
            assert!(started.elapsed() < DEADLINE, "{} cannot be read to its end", self.0);
            match consumer.poll(Duration::from_millis(100)) {
                Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
                Some(Ok(message)) => records.push((message.partition(), message.offset(), taken(&message))),
                Some(Err(error)) => panic!("{error}"),
                None => {}
            }
        }
        records.sort_by_key(|(partition, offset, _)| (*partition, *offset));
        records
    }

    /// Of each partition, the offset behind the last committed record.
    pub fn ends(&self) -> Vec<i64> {
        self.try_ends().unwrap()
    }

    fn try_ends(&self) -> Result<Vec<i64>, KafkaError> {
        let consumer: BaseConsumer = client().set("isolation.level", "read_committed").create()?;
        let metadata = consumer.fetch_metadata(Some(&self.0), DEADLINE)?;
        let partitions = metadata.topics()[0].partitions().len() as i32;
        let end = |partition| Ok(consumer.fetch_watermarks(&self.0, partition, DEADLINE)?.1);
        (0..partitions).map(end).collect()
    }
}

/// What the broker did not take.
#[derive(Default)]
pub struct Refusals(Mutex<Vec<KafkaError>>);

impl ClientContext for Refusals {}

impl ProducerContext for Refusals {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.0.lock().unwrap().push(error.clone());
        }
    }
}

fn taken(message: &impl Message<Headers = rdkafka::message::BorrowedHeaders>) -> Record {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    Record {
        partition: message.partition(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers
            .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
            .collect(),
        timestamp: message.timestamp().to_millis().unwrap(),
    }
}
