//! Properties of a stream's consumer.
//!
//! Owns: what exactly once and throughput demand of librdkafka, beside what every client of this program sets
//! (`crate::kafka`). Does not own: refusing a user's property that contradicts it (`config`).

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use super::context::TOPIC_ID_DEBUG;
use crate::config::{KafkaConfig, StreamConfig};
use crate::kafka::client_config;

/// Ours first, then the user's: properties we own are refused by the configuration.
pub(super) fn consumer_config(kafka: &KafkaConfig, stream: &StreamConfig, prefetch_bytes: u64) -> ClientConfig {
    let mut config = client_config(kafka);
    let mut ours = |key: &str, value: &str| {
        config.set(key, value);
    };
    ours("group.id", &kafka.group);
    ours("enable.auto.commit", "false");
    ours("enable.auto.offset.store", "false");
    ours("auto.offset.reset", "error");
    ours("enable.partition.eof", "true");
    ours("isolation.level", "read_committed");
    // Throughput: prefetch by bytes, not by the default 100,000 messages; ask again soon after a full queue
    // (default 1 s caps the rate).
    let mut default = |key: &str, value: &str| {
        if !kafka.properties.contains_key(key) {
            config.set(key, value);
        }
    };
    if kafka.properties.get("group.protocol").is_none_or(|p| p == "classic") {
        default("partition.assignment.strategy", "cooperative-sticky");
    }
    default("queued.min.messages", "1000000");
    default("queued.max.messages.kbytes", &(prefetch_bytes >> 10).to_string());
    default("fetch.queue.backoff.ms", "20");
    default("fetch.message.max.bytes", "4194304");
    // A broker that answers at the first record is asked a thousand times a second by a thousand records: of a quiet
    // stream's CPU that was two thirds.
    default("fetch.min.bytes", "65536");
    default("fetch.wait.max.ms", "50");
    default("topic.metadata.refresh.interval.ms", "30000");
    // Only its debug log tells that a topic was re-created.
    let debug = match kafka.properties.get("debug") {
        Some(theirs) => format!("{theirs},{TOPIC_ID_DEBUG}"),
        None => TOPIC_ID_DEBUG.to_owned(),
    };
    config.set("debug", debug).set_log_level(RDKafkaLogLevel::Debug);
    if let Some(id) = instance_id(kafka, stream) {
        config.set("group.instance.id", id);
    }
    config
}

/// A static member's name must be unique in the group, and every stream is a member of its own.
pub(super) fn instance_id(kafka: &KafkaConfig, stream: &StreamConfig) -> Option<String> {
    let id = kafka.properties.get("group.instance.id")?;
    Some(format!("{id}-{}", stream.name))
}
