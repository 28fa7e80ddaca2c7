//! The first record at or after an offset, for those who ask how old what comes next is.
//!
//! Owns: a short-lived consumer that is assigned, never subscribed: it joins no group and commits nothing.
//! Does not own: fetching for ingestion (`source`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::Context;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{ClientConfig, ClientContext, Offset as KafkaOffset, TopicPartitionList};

use super::client_config;
use crate::config::KafkaConfig;
use crate::offsets::{Offset, Partition};

/// What lies at or after an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peeked {
    Record {
        /// Kafka's, milliseconds since 1970; `None` where the broker has none.
        timestamp_ms: Option<i64>,
    },
    /// Nothing up to the last stable offset: the log ends here, or only control records follow.
    End,
}

/// Looks at each position. What could not be read within `timeout` is absent from the answer.
pub async fn peek(
    kafka: &KafkaConfig,
    topic: &str,
    positions: &BTreeSet<(Partition, Offset)>,
    timeout: Duration,
) -> anyhow::Result<BTreeMap<(Partition, Offset), Peeked>> {
    if positions.is_empty() {
        return Ok(BTreeMap::new());
    }
    let config = consumer_config(kafka);
    let (name, positions) = (topic.to_owned(), positions.clone());
    let work = move || -> anyhow::Result<_> {
        let consumer: BaseConsumer<QuietContext> = config.create_with_context(QuietContext)?;
        look(&consumer, &name, positions, Instant::now() + timeout)
    };
    tokio::task::spawn_blocking(work)
        .await
        .context("the thread that reads Kafka panicked")?
        .with_context(|| format!("cannot read single records of topic {topic} at {}", kafka.brokers))
}

fn consumer_config(kafka: &KafkaConfig) -> ClientConfig {
    let mut config = client_config(kafka);
    config
        // Assigning wants a group to be named; none is joined and no offset is stored under it.
        .set("group.id", &kafka.group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        // One record is wanted: a default consumer would prefetch 64 MiB of each partition.
        .set("queued.min.messages", "1")
        .set("fetch.message.max.bytes", "65536");
    config
}

/// A partition can be assigned at one offset at a time, so positions of one partition take turns.
fn look(
    consumer: &BaseConsumer<QuietContext>,
    topic: &str,
    mut wanted: BTreeSet<(Partition, Offset)>,
    deadline: Instant,
) -> anyhow::Result<BTreeMap<(Partition, Offset), Peeked>> {
    let mut found = BTreeMap::new();
    while !wanted.is_empty() && Instant::now() < deadline {
        // Ascending, so the lowest offset of each partition stays.
        let round: BTreeMap<Partition, Offset> = wanted.iter().rev().copied().collect();
        wanted.retain(|(partition, offset)| round.get(partition) != Some(offset));
        look_once(consumer, topic, round, deadline, &mut found)?;
    }
    Ok(found)
}

fn look_once(
    consumer: &BaseConsumer<QuietContext>,
    topic: &str,
    mut waiting: BTreeMap<Partition, Offset>,
    deadline: Instant,
    found: &mut BTreeMap<(Partition, Offset), Peeked>,
) -> anyhow::Result<()> {
    let mut assignment = TopicPartitionList::new();
    for (partition, offset) in &waiting {
        assignment.add_partition_offset(topic, partition.0, KafkaOffset::Offset(*offset))?;
    }
    consumer.assign(&assignment)?;
    while !waiting.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let (partition, peeked) = match consumer.poll(left.min(Duration::from_millis(200))) {
            Some(Ok(message)) => {
                let timestamp_ms = message.timestamp().to_millis();
                (Partition(message.partition()), Peeked::Record { timestamp_ms })
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => (Partition(partition), Peeked::End),
            Some(Err(error)) => {
                // Names no partition; what it concerns stays unanswered and the deadline ends the wait.
                tracing::debug!(topic, %error, "while looking at single records");
                continue;
            }
            None => continue,
        };
        if let Some(offset) = waiting.remove(&partition) {
            found.insert((partition, offset), peeked);
        }
    }
    Ok(())
}

/// The end of a partition is an answer here, and what goes wrong shows as a position without one: no warnings.
struct QuietContext;

impl ClientContext for QuietContext {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
    }
}

impl ConsumerContext for QuietContext {}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

    use super::*;
    use crate::config::Start;

    const TIMEOUT: Duration = Duration::from_secs(20);

    #[tokio::test(flavor = "multi_thread")]
    async fn several_positions_of_one_partition_and_the_end_are_seen() {
        let cluster = MockCluster::new(1).expect("mock cluster");
        cluster.create_topic("sales", 2, 1).expect("topic");
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", cluster.bootstrap_servers())
            .create()
            .expect("producer");
        for timestamp in [1000, 2000, 3000] {
            let record = BaseRecord::<(), str>::to("sales")
                .partition(1)
                .timestamp(timestamp)
                .payload("{}");
            producer.send(record).expect("queued");
        }
        producer.flush(TIMEOUT).expect("delivered");
        let kafka = KafkaConfig {
            brokers: cluster.bootstrap_servers(),
            group: "affluent".to_owned(),
            start: Start::Earliest,
            properties: BTreeMap::new(),
        };
        let positions = BTreeSet::from([(Partition(0), 0), (Partition(1), 0), (Partition(1), 2)]);
        let found = peek(&kafka, "sales", &positions, TIMEOUT).await.expect("an answer");
        let at = |ms| Peeked::Record { timestamp_ms: Some(ms) };
        let expected = [
            ((Partition(0), 0), Peeked::End),
            ((Partition(1), 0), at(1000)),
            ((Partition(1), 2), at(3000)),
        ];
        assert_eq!(found, BTreeMap::from(expected));
    }
}
