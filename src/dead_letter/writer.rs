//! Writes dead letters and waits until the brokers have them.
//!
//! Owns: the dead-letter topic's creation and size limits, one idempotent producer, and the wait for every
//! acknowledgement. At least once: after a failure all letters of the call are written again.
//! Does not own: a letter's form (`letter`), when and how often to try again (`pipeline`).

use std::sync::Arc;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};
use tokio::sync::{Mutex, Notify};

use super::letter::letter_headers;
use crate::batch::{Headers, RawBatch, Reject};
use crate::config::{KafkaConfig, StreamConfig};
use crate::kafka::admin::{describe_topic, ensure_topic, topic_property};
use crate::kafka::{LogContext, client_config};

/// Room for our headers, so that the largest record its topic takes still makes a letter.
const HEADER_ROOM_BYTES: u64 = 64 * 1024;

/// Kafka's own default, where the source topic's limit may not be read.
pub(super) const DEFAULT_MAX_MESSAGE_BYTES: u64 = 1_048_588;

/// librdkafka's largest: the broker judges sizes, after compression, and its answer is the one to report.
pub(super) const PRODUCER_MAX_MESSAGE_BYTES: u64 = 1_000_000_000;

/// Bytes queued in the producer at most; beyond it `write` waits. A batch of letters alone needs no more.
const QUEUE_KBYTES: &str = "65536";

/// Sooner than librdkafka's five minutes: the caller holds its stream meanwhile and wants to say why.
const DELIVERY_TIMEOUT_MS: &str = "30000";

const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(15);

/// Writes the dead letters of one stream. Nothing is connected before the first one, or `ensure_topic`.
pub struct DeadLetterWriter {
    kafka: KafkaConfig,
    /// Topic the records come from.
    source: String,
    /// Topic the letters go to.
    topic: String,
    max_record_bytes: u64,
    /// Dropped after a failure: an idempotent producer may be beyond repair, and the topic may be gone.
    producer: Mutex<Option<Arc<Connected>>>,
}

struct Connected {
    producer: ThreadedProducer<AckContext>,
    partitions: i32,
}

impl DeadLetterWriter {
    pub fn new(kafka: &KafkaConfig, stream: &StreamConfig) -> Self {
        Self {
            kafka: kafka.clone(),
            source: stream.topic.clone(),
            topic: stream.dead_letter_topic.clone(),
            max_record_bytes: stream.max_record_bytes as u64,
            producer: Mutex::new(None),
        }
    }

    /// Creates the dead-letter topic where it is missing.
    pub async fn ensure_topic(&self) -> anyhow::Result<()> {
        if describe_topic(&self.kafka, &self.topic, DESCRIBE_TIMEOUT)
            .await?
            .is_some()
        {
            return Ok(());
        }
        let limit = self.max_message_bytes().await;
        let properties = [
            ("max.message.bytes", limit.to_string()),
            ("cleanup.policy", "delete".to_owned()),
            // Letters carry their records' timestamps, by which a default retention would delete the letters
            // of an old record before anybody has seen them. They go when a person deletes them.
            ("retention.ms", "-1".to_owned()),
            ("message.timestamp.type", "CreateTime".to_owned()),
        ];
        // One partition: letters are few, and they are read in the order they were written.
        if ensure_topic(&self.kafka, &self.topic, 1, &properties).await? {
            tracing::info!(topic = %self.topic, max_message_bytes = limit, "created the dead-letter topic");
        }
        Ok(())
    }

    /// Above the source topic's limit and above the largest payload decoding takes: a compressed batch may
    /// have carried a record past a limit it would not pass by itself.
    async fn max_message_bytes(&self) -> u64 {
        let source = match topic_property(&self.kafka, &self.source, "max.message.bytes").await {
            Ok(limit) => limit.and_then(|l| l.parse().ok()),
            Err(error) => {
                tracing::warn!(topic = %self.source, "its size limit is not known, assuming Kafka's default: {error:#}");
                None
            }
        };
        size_limit(source.unwrap_or(DEFAULT_MAX_MESSAGE_BYTES), self.max_record_bytes)
    }

    /// Returns when the brokers have acknowledged every letter. After an error some may be there; call again
    /// with the same rejects. A letter that its topic will not take is an error too, not a loss: its text
    /// says what to change.
    pub async fn write(&self, raw: &RawBatch, rejects: &[Reject]) -> anyhow::Result<()> {
        if rejects.is_empty() {
            return Ok(());
        }
        let connected = self.connected().await?;
        let written = self.write_with(&connected, raw, rejects).await;
        if written.is_err() {
            *self.producer.lock().await = None;
            // Dropping the last handle joins a thread.
            tokio::task::spawn_blocking(move || drop(connected));
        }
        written.with_context(|| format!("cannot write {} dead letters to {}", rejects.len(), self.topic))
    }

    async fn write_with(&self, connected: &Connected, raw: &RawBatch, rejects: &[Reject]) -> anyhow::Result<()> {
        let acks = Arc::new(Acks::default());
        for reject in rejects {
            self.send(connected, raw, reject, &acks).await?;
        }
        acks.all_in().await;
        match acks.failure() {
            None => Ok(()),
            Some(error) => Err(self.explain(error)),
        }
    }

    /// Queues one letter, waiting while the queue is full.
    async fn send(
        &self,
        connected: &Connected,
        raw: &RawBatch,
        reject: &Reject,
        acks: &Arc<Acks>,
    ) -> anyhow::Result<()> {
        let record = &raw.records[reject.record];
        let headers = letter_headers(&self.source, record, reject);
        let mut letter = BaseRecord::with_opaque_to(&self.topic, acks.expect_one())
            // One source partition's letters stay in order, however many partitions the topic was given.
            .partition(record.partition.0.rem_euclid(connected.partitions))
            .headers(native_headers(&headers));
        letter.key = raw.bytes(&record.key);
        letter.payload = raw.bytes(&record.value);
        // To librdkafka zero means "now", and the broker takes nothing negative; the header keeps the truth.
        letter.timestamp = record.timestamp_ms.filter(|t| *t > 0);
        loop {
            match connected.producer.send(letter) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), returned)) => {
                    letter = returned;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err((error, _)) => return Err(self.explain(error)),
            }
        }
    }

    fn explain(&self, error: KafkaError) -> anyhow::Error {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => anyhow!(error).context(format!(
                "a letter is larger than topic {} takes: raise its max.message.bytes",
                self.topic
            )),
            Some(RDKafkaErrorCode::InvalidTimestamp) => anyhow!(error).context(format!(
                "topic {} refuses a record's timestamp: raise its message.timestamp.before.max.ms and \
                 message.timestamp.after.max.ms",
                self.topic
            )),
            _ => error.into(),
        }
    }

    async fn connected(&self) -> anyhow::Result<Arc<Connected>> {
        let mut slot = self.producer.lock().await;
        if let Some(connected) = &*slot {
            return Ok(Arc::clone(connected));
        }
        let connected = Arc::new(self.connect().await?);
        *slot = Some(Arc::clone(&connected));
        Ok(connected)
    }

    async fn connect(&self) -> anyhow::Result<Connected> {
        self.ensure_topic().await?;
        let topic = describe_topic(&self.kafka, &self.topic, DESCRIBE_TIMEOUT)
            .await?
            .with_context(|| format!("dead-letter topic {} vanished while it was looked at", self.topic))?;
        let limit = topic_property(&self.kafka, &self.topic, "max.message.bytes").await;
        let limit = limit.ok().flatten().and_then(|l| l.parse().ok());

        let mut config = client_config(&self.kafka);
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "5")
            .set("message.max.bytes", PRODUCER_MAX_MESSAGE_BYTES.to_string())
            // The topic's limit holds for whole batches: a larger batch of small letters would be refused.
            .set(
                "batch.size",
                batch_bytes(limit.unwrap_or(DEFAULT_MAX_MESSAGE_BYTES)).to_string(),
            )
            .set("queue.buffering.max.kbytes", QUEUE_KBYTES);
        if config
            .get("compression.type")
            .or(config.get("compression.codec"))
            .is_none()
        {
            // The source's records may have come compressed; uncompressed they could be too large again.
            config.set("compression.type", "lz4");
        }
        if config
            .get("message.timeout.ms")
            .or(config.get("delivery.timeout.ms"))
            .is_none()
        {
            config.set("message.timeout.ms", DELIVERY_TIMEOUT_MS);
        }
        Ok(Connected {
            producer: config
                .create_with_context(AckContext)
                .context("cannot create the producer of dead letters")?,
            partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX).max(1),
        })
    }
}

/// `max.message.bytes` of a new dead-letter topic.
fn size_limit(source: u64, max_record: u64) -> u64 {
    // Kafka's property is an int32.
    (source.max(max_record) + HEADER_ROOM_BYTES).min(i32::MAX as u64)
}

/// librdkafka's default batch, or what the topic takes less a batch's own framing.
pub(super) fn batch_bytes(topic_limit: u64) -> u64 {
    topic_limit.saturating_sub(1024).clamp(1, 1_000_000)
}

pub(super) fn native_headers(headers: &Headers) -> OwnedHeaders {
    headers.iter().fold(
        OwnedHeaders::new_with_capacity(headers.len()),
        |native, (key, value)| {
            native.insert(Header {
                key,
                value: value.as_ref(),
            })
        },
    )
}

/// Acknowledgements one call of `write` waits for.
#[derive(Default)]
struct Acks {
    missing: AtomicUsize,
    failure: StdMutex<Option<KafkaError>>,
    changed: Notify,
}

impl Acks {
    fn expect_one(self: &Arc<Self>) -> Box<Ack> {
        self.missing.fetch_add(1, Ordering::SeqCst);
        Box::new(Ack(Arc::clone(self)))
    }

    fn failure(&self) -> Option<KafkaError> {
        self.failure
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone()
    }

    /// Called when every letter is queued, so the count only falls.
    async fn all_in(&self) {
        loop {
            let changed = self.changed.notified();
            if self.missing.load(Ordering::SeqCst) == 0 {
                return;
            }
            changed.await;
        }
    }
}

/// One expected acknowledgement. Counted off when dropped, so a letter that was never queued cannot be
/// waited for either.
struct Ack(Arc<Acks>);

impl Drop for Ack {
    fn drop(&mut self) {
        if self.0.missing.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.changed.notify_one();
        }
    }
}

struct AckContext;

impl ClientContext for AckContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        LogContext.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        LogContext.error(error, reason);
    }
}

impl ProducerContext for AckContext {
    type DeliveryOpaque = Box<Ack>;

    fn delivery(&self, result: &DeliveryResult<'_>, ack: Box<Ack>) {
        if let Err((error, _)) = result {
            let mut failure = ack.0.failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            failure.get_or_insert_with(|| error.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topic_takes_the_largest_record_of_its_source_with_our_headers() {
        assert_eq!(size_limit(1_048_588, 1000), 1_048_588 + 65_536);
        assert_eq!(size_limit(1_048_588, 16 << 20), (16 << 20) + 65_536);
        assert_eq!(size_limit(i32::MAX as u64, 0), i32::MAX as u64);
    }

    #[test]
    fn a_batch_fits_the_topics_limit() {
        assert_eq!(batch_bytes(20_000_000), 1_000_000);
        assert_eq!(batch_bytes(100_000), 98_976);
        assert_eq!(batch_bytes(10), 1);
    }

    #[tokio::test]
    async fn acknowledgements_are_waited_for_until_the_last() {
        let acks = Arc::new(Acks::default());
        let (first, second) = (acks.expect_one(), acks.expect_one());
        let waiting = tokio::spawn({
            let acks = Arc::clone(&acks);
            async move { acks.all_in().await }
        });
        drop(first);
        assert!(!waiting.is_finished());
        drop(second);
        tokio::time::timeout(Duration::from_secs(10), waiting)
            .await
            .expect("the wait ends")
            .expect("no panic");
    }
}
