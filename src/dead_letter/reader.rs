//! Reads a dead-letter topic from its beginning to the ends it had at the start.
//!
//! Owns: the consumer, which joins no group, and the hand-over to the async side.
//! Does not own: what is done with a letter (the caller), a letter's form (`letter`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{ClientConfig, TopicPartitionList};
use tokio::sync::mpsc;

use super::letter::{Carried, Letter, read_letter};
use crate::config::{KafkaConfig, StreamConfig};
use crate::kafka::admin::{describe_topic, watermarks};
use crate::kafka::{LogContext, client_config, record_headers};
use crate::offsets::{OffsetRange, Partition};

/// For the questions before reading.
const ASK_TIMEOUT: Duration = Duration::from_secs(15);

/// Without a record for this long the topic counts as unreachable.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Enough to keep the consumer busy while a letter is handled, few enough to bound memory: a letter may
/// have megabytes.
const LETTERS_IN_FLIGHT: usize = 64;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadSummary {
    /// Letters handed over.
    pub letters: u64,
    /// Records in the topic that are no letters of ours.
    pub foreign: u64,
}

/// Hands every letter to `on_letter`, in order within a partition of the dead-letter topic. A letter may come
/// twice (it is written at least once). A topic that does not exist holds no letters.
pub async fn read_all(
    kafka: &KafkaConfig,
    stream: &StreamConfig,
    mut on_letter: impl FnMut(Letter),
) -> anyhow::Result<ReadSummary> {
    let topic = stream.dead_letter_topic.clone();
    let mut summary = ReadSummary::default();
    let remaining = ranges(kafka, &topic).await?;
    if remaining.is_empty() {
        return Ok(summary);
    }
    let config = consumer_config(kafka);
    let (send, mut receive) = mpsc::channel(LETTERS_IN_FLIGHT);
    let reading = tokio::task::spawn_blocking(move || {
        read(&config, &topic, remaining, &send).with_context(|| format!("cannot read dead letters from {topic}"))
    });
    while let Some(record) = receive.recv().await {
        match record {
            Some(letter) => {
                summary.letters += 1;
                on_letter(letter);
            }
            None => summary.foreign += 1,
        }
    }
    reading.await.context("the thread that reads dead letters panicked")??;
    Ok(summary)
}

/// What is to be read, per partition that holds anything.
async fn ranges(kafka: &KafkaConfig, topic: &str) -> anyhow::Result<BTreeMap<Partition, OffsetRange>> {
    let Some(description) = describe_topic(kafka, topic, ASK_TIMEOUT).await? else {
        return Ok(BTreeMap::new());
    };
    let ends = watermarks(kafka, topic, &description.partitions, ASK_TIMEOUT).await?;
    let ranges = ends
        .into_iter()
        .map(|(p, w)| (p, OffsetRange::new(w.low.min(w.high), w.high)));
    Ok(ranges.filter(|(_, range)| !range.is_empty()).collect())
}

fn consumer_config(kafka: &KafkaConfig) -> ClientConfig {
    let mut config = client_config(kafka);
    config
        // A group is named because librdkafka assigns nothing without one; it is neither joined nor committed to.
        .set("group.id", &kafka.group)
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        // Letters that retention removes while we read are gone; go on with the oldest there is.
        .set("auto.offset.reset", "earliest")
        // The ends lie behind control records or compacted ones sometimes: no record ever reaches them.
        .set("enable.partition.eof", "true");
    config
}

/// Blocking: polls until every partition has reached its end, or the receiver is gone.
fn read(
    config: &ClientConfig,
    topic: &str,
    mut remaining: BTreeMap<Partition, OffsetRange>,
    letters: &mpsc::Sender<Option<Letter>>,
) -> anyhow::Result<()> {
    let consumer: BaseConsumer<LogContext> = config.create_with_context(LogContext)?;
    let mut assignment = TopicPartitionList::new();
    for (partition, range) in &remaining {
        assignment.add_partition_offset(topic, partition.0, rdkafka::Offset::Offset(range.start))?;
    }
    consumer.assign(&assignment)?;

    let mut last_heard = Instant::now();
    let mut last_error = None;
    while !remaining.is_empty() {
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                last_heard = Instant::now();
                let partition = Partition(message.partition());
                let Some(range) = remaining.get(&partition) else {
                    continue;
                };
                let (end, offset) = (range.end, message.offset());
                if offset + 1 >= end {
                    remaining.remove(&partition);
                }
                if offset < end && letters.blocking_send(letter(&message)).is_err() {
                    return Ok(());
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                remaining.remove(&Partition(partition));
            }
            // librdkafka reconnects by itself; what lasts becomes the reason below.
            Some(Err(error)) => last_error = Some(error),
            None => {}
        }
        if last_heard.elapsed() > STALL_TIMEOUT {
            match last_error {
                Some(error) => return Err(error).context(format!("nothing came for {STALL_TIMEOUT:?}")),
                None => bail!("nothing came for {STALL_TIMEOUT:?}"),
            }
        }
    }
    Ok(())
}

fn letter(message: &BorrowedMessage<'_>) -> Option<Letter> {
    let carried = Carried {
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        dlq_partition: Partition(message.partition()),
        dlq_offset: message.offset(),
    };
    read_letter(*record_headers(message)?, carried)
}
