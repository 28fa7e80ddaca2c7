//! Topics as a test wants them: partitions, properties, records of exact form. `affluent produce` makes the load.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::executor::block_on;
use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use crate::support::{DEADLINE, env, until};

/// Settings of a plain client, to add to.
pub fn client() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", env("AFFLUENT_TEST_KAFKA"));
    config
}

pub fn admin() -> (AdminClient<DefaultClientContext>, AdminOptions) {
    let options = AdminOptions::new()
        .request_timeout(Some(DEADLINE))
        .operation_timeout(Some(DEADLINE));
    (client().create().unwrap(), options)
}

pub fn create(topic: &str, partitions: i32, properties: &[(&str, &str)]) {
    let (admin, options) = admin();
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    for (name, value) in properties {
        new = new.set(name, value);
    }
    let created = block_on(admin.create_topics([&new], &options)).unwrap();
    created.into_iter().for_each(|result| drop(result.unwrap()));
}

/// A topic whose replicas lie where `replicas` says, the preferred leader of each partition first.
pub fn create_at(brokers: &str, topic: &str, replicas: &[&[i32]]) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let options = AdminOptions::new().operation_timeout(Some(DEADLINE));
    let new = NewTopic::new(topic, replicas.len() as i32, TopicReplication::Variable(replicas))
        .set("min.insync.replicas", "1");
    let created = block_on(admin.create_topics([&new], &options)).unwrap();
    created.into_iter().for_each(|result| drop(result.unwrap()));
}

/// Per partition, the leader and how many replicas are in sync.
pub fn leaders(brokers: &str, topic: &str) -> Vec<(i32, usize)> {
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let Ok(metadata) = client.fetch_metadata(Some(topic), DEADLINE) else {
        return Vec::new();
    };
    let partitions = metadata.topics().iter().flat_map(|t| t.partitions());
    partitions.map(|p| (p.leader(), p.isr().len())).collect()
}

/// Raises a topic's number of partitions.
pub fn extend(topic: &str, partitions: usize) {
    let (admin, options) = admin();
    let more = NewPartitions::new(topic, partitions);
    let done = block_on(admin.create_partitions([&more], &options)).unwrap();
    done.into_iter().for_each(|result| drop(result.unwrap()));
    // The controller has answered; what a client then asks is a broker, which may not have heard of it yet.
    let consumer: BaseConsumer = client().create().unwrap();
    until("the broker knows the new partitions", || {
        let metadata = consumer.fetch_metadata(Some(topic), DEADLINE).unwrap();
        (metadata.topics()[0].partitions().len() == partitions).then_some(())
    });
}

pub fn delete(topic: &str) {
    let (admin, options) = admin();
    let deleted = block_on(admin.delete_topics(&[topic], &options)).unwrap();
    deleted.into_iter().for_each(|result| drop(result.unwrap()));
}

/// Changes one property of a topic.
pub fn set(topic: &str, property: &str, value: &str) {
    let (admin, options) = admin();
    let alter = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(property, value);
    let altered = block_on(admin.alter_configs([&alter], &options)).unwrap();
    altered.into_iter().for_each(|result| drop(result.unwrap()));
}

/// Writes to partitions of one's choice; every batch as large as `linger` lets it grow.
pub struct Writer {
    producer: ThreadedProducer<DefaultProducerContext>,
    topic: String,
}

impl Writer {
    pub fn new(topic: &str, properties: &[(&str, &str)]) -> Self {
        let mut config = client();
        for (name, value) in properties {
            config.set(*name, *value);
        }
        Self {
            producer: config.create().unwrap(),
            topic: topic.to_owned(),
        }
    }

    /// In transactions.
    pub fn transactional(topic: &str, id: &str) -> Self {
        let writer = Self::new(topic, &[("transactional.id", id)]);
        writer.producer.init_transactions(DEADLINE).unwrap();
        writer
    }

    pub fn begin(&self) {
        self.producer.begin_transaction().unwrap();
    }

    pub fn commit(&self) {
        self.producer.commit_transaction(DEADLINE).unwrap();
    }

    pub fn abort(&self) {
        self.producer.abort_transaction(DEADLINE).unwrap();
    }

    /// `payload` `None` is a tombstone.
    pub fn send(&self, partition: i32, key: Option<&str>, payload: Option<&str>) {
        let mut record: BaseRecord<'_, str, str> = BaseRecord::to(&self.topic).partition(partition);
        record.key = key;
        record.payload = payload;
        loop {
            match self.producer.send(record) {
                Ok(()) => return,
                // The queue is full: let it drain.
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.flush();
                    record = back;
                }
                Err((error, _)) => panic!("cannot produce to {}: {error}", self.topic),
            }
        }
    }

    /// Returns when everything sent is acknowledged.
    pub fn flush(&self) {
        self.producer.flush(DEADLINE).unwrap();
    }
}

/// A sale that every schema of these tests takes.
pub fn sale(id: impl std::fmt::Display) -> String {
    format!(
        r#"{{"sale_id":"{id}","sold_at":"2026-01-01T00:00:00Z","product":"p","region":"Corse","quantity":1,"unit_price":1.50,"amount":1.50}}"#
    )
}

/// Offsets of the committed records that a partition holds, read to its end.
pub fn offsets(topic: &str, partition: i32) -> Vec<i64> {
    let consumer: BaseConsumer = client()
        .set("group.id", "offsets")
        .set("enable.partition.eof", "true")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    let mut found = Vec::new();
    loop {
        match consumer.poll(Duration::from_secs(1)) {
            Some(Ok(message)) => found.push(message.offset()),
            Some(Err(KafkaError::PartitionEOF(_))) => return found,
            Some(Err(error)) => panic!("cannot read {topic}: {error}"),
            None => {}
        }
    }
}

/// How many records the two sinks hold by `verify`: (mongo, lake).
pub fn rows(verified: &serde_json::Value, stream: &str) -> (u64, u64) {
    let streams = verified["streams"].as_array().unwrap();
    let by_name: BTreeMap<&str, &serde_json::Value> =
        streams.iter().map(|s| (s["stream"].as_str().unwrap(), s)).collect();
    let count = |sink: &str| by_name[stream][sink]["rows"].as_u64().unwrap();
    (count("mongo"), count("lake"))
}
