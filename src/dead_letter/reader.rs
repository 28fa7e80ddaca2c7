//! Reads a dead-letter topic, or its newest part, to the ends it had at the start.
//!
//! Owns: the consumer, which joins no group and sees only what is committed, and the hand-over to the async side.
//! Does not own: what is done with an entry (the caller), the forms of letter and marker (`letter`, `marker`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{ClientConfig, TopicPartitionList};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::letter::{Carried, Letter, Origin, read_letter};
use super::marker::read_marker;
use crate::config::{KafkaConfig, StreamConfig};
use crate::kafka::admin::{describe_topic, watermarks};
use crate::kafka::{LogContext, client_config, record_headers};
use crate::offsets::{OffsetRange, Partition};

/// For the questions before reading.
pub(super) const ASK_TIMEOUT: Duration = Duration::from_secs(15);

/// Without a record for this long the topic counts as unreachable.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Entries are handed over in chunks: one by one the two threads would mostly wake each other. Bounded in bytes
/// too, since a letter may have megabytes.
const CHUNK_ENTRIES: usize = 256;
const CHUNK_BYTES: usize = 1 << 20;

/// One being handled, one ready.
const CHUNKS_IN_FLIGHT: usize = 1;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadSummary {
    /// Letters handed over.
    pub letters: u64,
    /// Records in the topic that are neither letters nor markers of ours.
    pub foreign: u64,
}

/// One record of a dead-letter topic.
#[derive(Debug)]
pub(super) enum Entry {
    Letter(Letter),
    /// The letters of this record have been replayed.
    Marker(Origin),
    Foreign,
}

/// What is copied of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    Headers,
    /// Key and payload too.
    Whole,
}

/// How far back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Everything,
    /// At most so many offsets of each partition.
    Newest(i64),
}

/// Hands every letter to `on_letter`, in order within a partition of the dead-letter topic. A letter may come
/// twice (it is written at least once). A topic that does not exist holds no letters.
pub async fn read_all(
    kafka: &KafkaConfig,
    stream: &StreamConfig,
    mut on_letter: impl FnMut(Letter),
) -> anyhow::Result<ReadSummary> {
    let mut summary = ReadSummary::default();
    let mut entries = Entries::open(kafka, &stream.dead_letter_topic, Depth::Whole, Reach::Everything).await?;
    while let Some(entry) = entries.next().await? {
        match entry {
            Entry::Letter(letter) => {
                summary.letters += 1;
                on_letter(letter);
            }
            Entry::Marker(_) => {}
            Entry::Foreign => summary.foreign += 1,
        }
    }
    Ok(summary)
}

impl Reach {
    fn of(self, range: OffsetRange) -> OffsetRange {
        match self {
            Self::Everything => range,
            Self::Newest(count) => OffsetRange::new(range.start.max(range.end - count), range.end),
        }
    }
}

/// A dead-letter topic being read.
pub(super) struct Entries {
    /// Nothing that the topic still has lies before what is read.
    pub complete: bool,
    chunk: std::vec::IntoIter<Entry>,
    chunks: mpsc::Receiver<Vec<Entry>>,
    /// `None` once its end was looked at.
    reading: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Entries {
    pub(super) async fn open(kafka: &KafkaConfig, topic: &str, depth: Depth, reach: Reach) -> anyhow::Result<Self> {
        let there = ranges(kafka, topic).await?;
        let remaining: BTreeMap<_, _> = there
            .iter()
            .map(|(partition, range)| (*partition, reach.of(*range)))
            .collect();
        let complete = remaining == there;
        let (config, topic) = (consumer_config(kafka), topic.to_owned());
        let (send, chunks) = mpsc::channel(CHUNKS_IN_FLIGHT);
        let reading = tokio::task::spawn_blocking(move || {
            if remaining.is_empty() {
                return Ok(());
            }
            read(&config, &topic, remaining, depth, Chunk::new(send))
                .with_context(|| format!("cannot read dead letters from {topic}"))
        });
        Ok(Self {
            complete,
            chunk: Vec::new().into_iter(),
            chunks,
            reading: Some(reading),
        })
    }

    /// `None` at the end.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Entry>> {
        loop {
            if let Some(entry) = self.chunk.next() {
                return Ok(Some(entry));
            }
            match self.chunks.recv().await {
                Some(chunk) => self.chunk = chunk.into_iter(),
                None => break,
            }
        }
        if let Some(reading) = self.reading.take() {
            reading.await.context("the thread that reads dead letters panicked")??;
        }
        Ok(None)
    }
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
    depth: Depth,
    mut chunk: Chunk,
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
                if offset < end && chunk.push(entry(&message, depth), message.payload_len()).is_err() {
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
    // Whoever no longer listens needs no last chunk either.
    let _ = chunk.send();
    Ok(())
}

fn entry(message: &BorrowedMessage<'_>, depth: Depth) -> Entry {
    let Some(headers) = record_headers(message) else {
        return Entry::Foreign;
    };
    let marker = read_marker(&headers);
    let whole = depth == Depth::Whole;
    let carried = Carried {
        key: message.key().filter(|_| whole).map(<[u8]>::to_vec),
        value: message.payload().filter(|_| whole).map(<[u8]>::to_vec),
        dlq_partition: Partition(message.partition()),
        dlq_offset: message.offset(),
    };
    // A letter first: where a dead-letter topic is itself a stream, there are letters about markers.
    match (read_letter(*headers, carried), marker) {
        (Some(letter), _) => Entry::Letter(letter),
        (None, Some(origin)) => Entry::Marker(origin),
        (None, None) => Entry::Foreign,
    }
}

/// Entries not handed over yet.
struct Chunk {
    entries: Vec<Entry>,
    bytes: usize,
    chunks: mpsc::Sender<Vec<Entry>>,
}

/// Nobody listens any more.
struct Unheard;

impl Chunk {
    fn new(chunks: mpsc::Sender<Vec<Entry>>) -> Self {
        Self {
            entries: Vec::new(),
            bytes: 0,
            chunks,
        }
    }

    fn push(&mut self, entry: Entry, bytes: usize) -> Result<(), Unheard> {
        self.entries.push(entry);
        self.bytes += bytes;
        if self.entries.len() < CHUNK_ENTRIES && self.bytes < CHUNK_BYTES {
            return Ok(());
        }
        self.send()
    }

    fn send(&mut self) -> Result<(), Unheard> {
        self.bytes = 0;
        let entries = std::mem::take(&mut self.entries);
        self.chunks.blocking_send(entries).map_err(|_| Unheard)
    }
}
