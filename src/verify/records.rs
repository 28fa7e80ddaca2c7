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
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{ClientConfig, Offset as KafkaOffset, TopicPartitionList};

use super::compare::{Expected, Verdicts};
use super::oracle::{self, OracleRecord, Verdict};
use super::plan::{Plan, Side};
use super::rollup::Recomputed;
use super::schemas::Schemas;
use crate::config::{KafkaConfig, StreamConfig};
use crate::kafka::admin::{describe_topic, watermarks};
use crate::kafka::{LogContext, client_config, record_headers};
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
    /// Good by today's rules, rejected by those of the day: the letter vouches for the record, and no sink has it.
    pub rejected_earlier: u64,
    /// Rejected records that every enabled sink has passed and that have no dead letter.
    pub unlettered: BTreeSet<Coordinates>,
    /// The same, with a letter.
    pub lettered: u64,
    /// Computed from the rows below MongoDB's progress; empty where there is nothing to compare them with.
    pub rollups: Vec<Recomputed>,
    letters: Letters,
    /// Records that a sink holds although they have a letter: it was written before a crash, and when the record
    /// was read again other rules were in force.
    held: BTreeSet<Coordinates>,
}

impl Gathered {
    pub fn new(rollups: Vec<Recomputed>, letters: Letters, held: BTreeSet<Coordinates>) -> Self {
        Self {
            letters,
            held,
            read: 0,
            good: 0,
            rejected: 0,
            skipped: 0,
            rejected_earlier: 0,
            unlettered: BTreeSet::new(),
            lettered: 0,
            rollups,
        }
    }
}

/// Reads one window. `tick` is told now and then how many records have been read in all windows.
pub async fn read_window(
    kafka: &KafkaConfig,
    schemas: &Arc<Schemas>,
    plan: &Arc<Plan>,
    window: Vec<(Partition, OffsetRange)>,
    mut gathered: Gathered,
    tick: impl Fn(u64) + Send + 'static,
) -> anyhow::Result<(Expected, Gathered)> {
    let (config, schemas, plan) = (consumer_config(kafka), schemas.clone(), plan.clone());
    let topic = schemas.topic().to_owned();
    let reading = tokio::task::spawn_blocking(move || {
        let mut expected = Expected::new(plan.epoch, &window);
        let mut buffer = Vec::new();
        read(&config, schemas.topic(), &window, |message| {
            let record = oracle_record(message);
            let verdicts = verdicts(&schemas, &record, plan.epoch);
            if gathered.take_in(&plan, &schemas, &record, &verdicts) {
                expected.enter(record.partition, record.offset, &verdicts, &mut buffer);
            } else {
                expected.enter_rejected(record.partition, record.offset);
            }
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

fn verdicts(schemas: &Schemas, record: &OracleRecord<'_>, epoch: Epoch) -> Verdicts {
    let [mongo, lake] = [Side::Mongo, Side::Lake].map(|side| schemas.at(side, record.partition, record.offset));
    let decode = |index| oracle::decode(schemas.stream(index), record, epoch);
    Verdicts {
        mongo: decode(mongo),
        lake: (lake != mongo).then(|| decode(lake)),
    }
}

/// Records between two words to the progress bar.
const TICK: u64 = 10_000;

impl Gathered {
    /// False where the verdict is not the one that counted when the record was read.
    fn take_in(&mut self, plan: &Plan, schemas: &Schemas, record: &OracleRecord<'_>, verdicts: &Verdicts) -> bool {
        self.read += 1;
        let partition = plan.partitions.get(&record.partition);
        let passed = |side: Side| {
            partition
                .and_then(|plan| plan.reach(side))
                .is_some_and(|reach| (reach.start..reach.next).contains(&record.offset))
        };
        let any = |of_kind: fn(&Verdict) -> bool| [Side::Mongo, Side::Lake].iter().any(|s| of_kind(verdicts.of(*s)));
        let good = any(|verdict| matches!(verdict, Verdict::Row(_)));
        let rejected = any(|verdict| matches!(verdict, Verdict::Reject(_)));
        if good && self.was_rejected(record) {
            self.rejected += 1;
            self.rejected_earlier += 1;
            return false;
        }
        match (good, rejected) {
            // Where a sink had taken it before a change of the schema, a letter may be there as well.
            (true, _) => self.good += 1,
            (false, true) => self.rejected += 1,
            (false, false) => self.skipped += 1,
        }
        if let Verdict::Row(row) = verdicts.of(Side::Mongo)
            && passed(Side::Mongo)
            && !self.rollups.is_empty()
        {
            let index = schemas.at(Side::Mongo, record.partition, record.offset);
            let row = schemas.in_configured(index, row);
            self.rollups.iter_mut().for_each(|rollup| rollup.add(&row));
        }
        let stream = schemas.configured_stream();
        let by_mongo = !stream.mongo.enabled || passed(Side::Mongo);
        let by_lake = !stream.lake.enabled || passed(Side::Lake);
        if rejected && by_mongo && by_lake {
            match self.letters.contains(record) {
                true => self.lettered += 1,
                false => drop(self.unlettered.insert((record.partition, record.offset))),
            }
        }
        true
    }

    fn was_rejected(&self, record: &OracleRecord<'_>) -> bool {
        self.letters.contains(record) && !self.held.contains(&(record.partition, record.offset))
    }

    /// Offsets at the dead-letter topic's beginning that retention has removed.
    pub fn removed_letters(&self) -> u64 {
        self.letters.removed
    }
}

/// The verdict over single records, for the examples of a report.
pub async fn read_again(
    kafka: &KafkaConfig,
    (schemas, side): (&Arc<Schemas>, Side),
    epoch: Epoch,
    wanted: &BTreeSet<Coordinates>,
) -> anyhow::Result<BTreeMap<Coordinates, Verdict>> {
    let (config, schemas, wanted) = (consumer_config(kafka), schemas.clone(), wanted.clone());
    let reading = tokio::task::spawn_blocking(move || {
        let mut verdicts = BTreeMap::new();
        for (partition, offset) in wanted {
            let range = OffsetRange::new(offset, offset + 1);
            let stream = schemas.stream(schemas.at(side, partition, offset));
            read(&config, &stream.topic, &[(partition, range)], |message| {
                let record = oracle_record(message);
                verdicts.insert((partition, offset), oracle::decode(stream, &record, epoch));
            })?;
        }
        anyhow::Ok(verdicts)
    });
    reading.await.context("the thread that reads Kafka panicked")?
}

/// The records that have a dead letter.
#[derive(Debug, Default)]
pub struct Letters {
    /// With the record's timestamp: the coordinates of a topic that was re-created mean other records.
    of: BTreeSet<(Partition, Offset, Option<i64>)>,
    /// Offsets at the dead-letter topic's beginning that retention has removed.
    pub removed: u64,
}

impl Letters {
    pub fn coordinates(&self) -> BTreeSet<Coordinates> {
        self.of
            .iter()
            .map(|(partition, offset, _)| (*partition, *offset))
            .collect()
    }

    fn contains(&self, record: &OracleRecord<'_>) -> bool {
        self.of
            .contains(&(record.partition, record.offset, record.timestamp_ms))
    }
}

/// Reads the dead-letter topic. To be asked after the sinks' progress: a letter is durable before progress
/// passes its record.
pub async fn letters(kafka: &KafkaConfig, stream: &StreamConfig) -> anyhow::Result<Letters> {
    let topic = stream.dead_letter_topic.clone();
    let mut letters = Letters::default();
    let Some(description) = describe_topic(kafka, &topic, ASK_TIMEOUT).await? else {
        return Ok(letters);
    };
    let ends = watermarks(kafka, &topic, &description.partitions, ASK_TIMEOUT).await?;
    letters.removed = ends.values().map(|ends| ends.low.max(0) as u64).sum();
    let ranges: Vec<_> = ends
        .into_iter()
        .map(|(partition, ends)| (partition, OffsetRange::new(ends.low, ends.high.max(ends.low))))
        .collect();
    let (config, source) = (consumer_config(kafka), stream.topic.clone());
    let reading = tokio::task::spawn_blocking(move || {
        read(&config, &topic, &ranges, |message| {
            letters.of.extend(lettered_record(message, &source));
        })
        .with_context(|| format!("cannot read dead letters from {topic}"))?;
        anyhow::Ok(letters)
    });
    reading.await.context("the thread that reads dead letters panicked")?
}

/// The record of that topic that a dead letter is about, by its headers.
fn lettered_record(message: &BorrowedMessage<'_>, topic: &str) -> Option<(Partition, Offset, Option<i64>)> {
    let headers = record_headers(message)?;
    // The last of a name: a record that was itself a dead letter brings an older set.
    let text = |name: &str| {
        let (_, value) = headers.iter().rfind(|(key, _)| key == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    };
    if text("affluent.topic")? != topic {
        return None;
    }
    let partition = text("affluent.partition")?.parse().ok()?;
    let offset = text("affluent.offset")?.parse().ok()?;
    let timestamp = text("affluent.timestamp").and_then(|timestamp| timestamp.parse().ok());
    Some((Partition(partition), offset, timestamp))
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
