//! Kafka's records, read again: given ranges of one topic, once each, committed ones only.
//!
//! Owns: the consumer, which commits nothing and follows no group, and what is made of the records of a
//! window and of the dead-letter topic.
//! Does not own: what the records should have become (`oracle`), or any comparison.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, Offset as KafkaOffset, TopicPartitionList};

use super::compare::Expected;
use super::oracle::{self, OracleRecord, Verdict};
use super::plan::{Plan, Side};
use super::rollup::Recomputed;
use crate::config::{KafkaConfig, StreamConfig};
use crate::kafka::admin::{describe_topic, watermarks};
use crate::kafka::{LogContext, client_config};
use crate::offsets::{Epoch, Offset, OffsetRange, Partition};

/// For questions about topics.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(30);

/// Without a record or an end for this long the broker counts as gone.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// A record's place in the topic.
pub type Coordinates = (Partition, Offset);

/// What is kept of all windows together.
#[derive(Debug)]
pub struct Gathered {
    pub read: u64,
    pub good: u64,
    pub rejected: u64,
    pub skipped: u64,
    /// Rejected records that every enabled sink has passed: each owes a dead letter.
    pub owed_letters: BTreeSet<Coordinates>,
    /// Computed from the rows below MongoDB's progress; empty where there is nothing to compare them with.
    pub rollups: Vec<Recomputed>,
}

impl Gathered {
    pub fn new(rollups: Vec<Recomputed>) -> Self {
        Self {
            read: 0,
            good: 0,
            rejected: 0,
            skipped: 0,
            owed_letters: BTreeSet::new(),
            rollups,
        }
    }
}

/// Reads one window. `tick` is told now and then how many records have been read in all windows.
pub async fn read_window(
    kafka: &KafkaConfig,
    stream: &Arc<StreamConfig>,
    plan: &Arc<Plan>,
    window: Vec<(Partition, OffsetRange)>,
    mut gathered: Gathered,
    tick: impl Fn(u64) + Send + 'static,
) -> anyhow::Result<(Expected, Gathered)> {
    let (config, stream, plan) = (consumer_config(kafka), stream.clone(), plan.clone());
    let topic = stream.topic.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let mut expected = Expected::new(plan.epoch, &window);
        let mut buffer = Vec::new();
        read(&config, &stream.topic, &window, |message| {
            let record = oracle_record(message);
            let verdict = oracle::decode(&stream, &record, plan.epoch);
            gathered.take_in(&plan, &stream, &record, &verdict);
            expected.enter(record.partition, record.offset, &verdict, &mut buffer);
            if gathered.read.is_multiple_of(TICK) {
                tick(gathered.read);
            }
        })?;
        anyhow::Ok((expected, gathered))
    });
    reading
        .await
        .context("the thread that reads Kafka panicked")?
        .with_context(|| format!("cannot read topic {topic}"))
}

/// Records between two words to the progress bar.
const TICK: u64 = 10_000;

impl Gathered {
    fn take_in(&mut self, plan: &Plan, stream: &StreamConfig, record: &OracleRecord<'_>, verdict: &Verdict) {
        self.read += 1;
        let partition = plan.partitions.get(&record.partition);
        let passed = |side: Side| {
            partition
                .and_then(|plan| plan.reach(side))
                .is_some_and(|reach| (reach.start..reach.next).contains(&record.offset))
        };
        match verdict {
            Verdict::Row(row) => {
                self.good += 1;
                if passed(Side::Mongo) {
                    self.rollups.iter_mut().for_each(|rollup| rollup.add(row));
                }
            }
            Verdict::Skipped => self.skipped += 1,
            Verdict::Reject(_) => {
                self.rejected += 1;
                let by_mongo = !stream.mongo.enabled || passed(Side::Mongo);
                let by_lake = !stream.lake.enabled || passed(Side::Lake);
                if by_mongo && by_lake {
                    self.owed_letters.insert((record.partition, record.offset));
                }
            }
        }
    }
}

/// The verdict over single records, for the examples of a report.
pub async fn read_again(
    kafka: &KafkaConfig,
    stream: &Arc<StreamConfig>,
    epoch: Epoch,
    wanted: &BTreeSet<Coordinates>,
) -> anyhow::Result<BTreeMap<Coordinates, Verdict>> {
    let (config, stream, wanted) = (consumer_config(kafka), stream.clone(), wanted.clone());
    let reading = tokio::task::spawn_blocking(move || {
        let mut verdicts = BTreeMap::new();
        for (partition, offset) in wanted {
            let range = OffsetRange::new(offset, offset + 1);
            read(&config, &stream.topic, &[(partition, range)], |message| {
                let record = oracle_record(message);
                verdicts.insert((partition, offset), oracle::decode(&stream, &record, epoch));
            })?;
        }
        anyhow::Ok(verdicts)
    });
    reading.await.context("the thread that reads Kafka panicked")?
}

/// Takes every record that has a dead letter out of `owed`, and says how many of the dead-letter topic's first
/// offsets retention has removed.
pub async fn strike_out_letters(
    kafka: &KafkaConfig,
    stream: &StreamConfig,
    mut owed: BTreeSet<Coordinates>,
) -> anyhow::Result<(BTreeSet<Coordinates>, u64)> {
    let letters = stream.dead_letter_topic.clone();
    if owed.is_empty() {
        return Ok((owed, 0));
    }
    let Some(description) = describe_topic(kafka, &letters, ASK_TIMEOUT).await? else {
        return Ok((owed, 0));
    };
    let ends = watermarks(kafka, &letters, &description.partitions, ASK_TIMEOUT).await?;
    let removed = ends.values().map(|ends| ends.low.max(0) as u64).sum();
    let ranges: Vec<_> = ends
        .into_iter()
        .map(|(partition, ends)| (partition, OffsetRange::new(ends.low, ends.high.max(ends.low))))
        .collect();
    let (config, topic) = (consumer_config(kafka), stream.topic.clone());
    let reading = tokio::task::spawn_blocking(move || {
        read(&config, &letters, &ranges, |message| {
            if let Some(coordinates) = letter_coordinates(message, &topic) {
                owed.remove(&coordinates);
            }
        })
        .with_context(|| format!("cannot read dead letters from {letters}"))?;
        anyhow::Ok((owed, removed))
    });
    reading.await.context("the thread that reads dead letters panicked")?
}

/// The coordinates a dead letter of that topic carries in its headers.
fn letter_coordinates(message: &BorrowedMessage<'_>, topic: &str) -> Option<Coordinates> {
    let headers = message.headers()?;
    let text = |name: &str| {
        let header = headers.iter().find(|header| header.key == name)?;
        std::str::from_utf8(header.value?).ok()
    };
    if text("affluent.topic")? != topic {
        return None;
    }
    let partition = text("affluent.partition")?.parse().ok()?;
    let offset = text("affluent.offset")?.parse().ok()?;
    Some((Partition(partition), offset))
}

fn oracle_record<'m>(message: &'m BorrowedMessage<'_>) -> OracleRecord<'m> {
    OracleRecord {
        partition: Partition(message.partition()),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis(),
        value: message.payload(),
    }
}

fn consumer_config(kafka: &KafkaConfig) -> ClientConfig {
    let mut config = client_config(kafka);
    config
        // Never joined: assigning partitions by hand only wants a name.
        .set("group.id", format!("{}-verify", kafka.group))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        // What is prefetched beyond a window's end is thrown away: enough to keep reading, not more.
        .set("queued.max.messages.kbytes", "32768")
        .set("fetch.queue.backoff.ms", "20");
    config
}

/// Shows every committed record of these ranges once, ascending within a partition. Blocks.
fn read(
    config: &ClientConfig,
    topic: &str,
    ranges: &[(Partition, OffsetRange)],
    mut show: impl FnMut(&BorrowedMessage<'_>),
) -> anyhow::Result<()> {
    let mut left: BTreeMap<Partition, OffsetRange> = ranges.iter().copied().filter(|(_, r)| !r.is_empty()).collect();
    if left.is_empty() {
        return Ok(());
    }
    let consumer: BaseConsumer<LogContext> = config.create_with_context(LogContext)?;
    let mut assignment = TopicPartitionList::new();
    for (partition, range) in &left {
        assignment.add_partition_offset(topic, partition.0, KafkaOffset::Offset(range.start))?;
    }
    consumer.assign(&assignment)?;

    let mut last_news = Instant::now();
    let mut last_error = None;
    while !left.is_empty() {
        match consumer.poll(Duration::from_millis(200)) {
            None if last_news.elapsed() > STALL_TIMEOUT => {
                let why = last_error.map_or("it does not answer".to_owned(), |error: KafkaError| error.to_string());
                bail!("no record for {STALL_TIMEOUT:?}: {why}");
            }
            None => {}
            // The end now is at or beyond every range's end, which lies below an end seen before. Control
            // records can be all that is left in front of it.
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                last_news = Instant::now();
                left.remove(&Partition(partition));
            }
            Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset))) => {
                bail!("a record that was to be verified has just been removed by retention; verify again");
            }
            Some(Err(error)) if last_news.elapsed() > STALL_TIMEOUT => return Err(error.into()),
            // Connections come and go; what lasts ends above.
            Some(Err(error)) => last_error = Some(error),
            Some(Ok(message)) => {
                last_news = Instant::now();
                let partition = Partition(message.partition());
                let Some(range) = left.get(&partition) else {
                    continue;
                };
                if range.contains(message.offset()) {
                    show(&message);
                }
                if message.offset() + 1 >= range.end {
                    left.remove(&partition);
                    let mut done = TopicPartitionList::new();
                    done.add_partition(topic, partition.0);
                    consumer.pause(&done)?;
                }
            }
        }
    }
    Ok(())
}
