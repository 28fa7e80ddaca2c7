//! Sends letters' records again and remembers that, in one transaction: either both are there or neither.
//!
//! ```text
//!  init ── fences the stream's other replays, ends what they left open
//!    └─▶ settled ── waits until no open transaction hides markers
//!          └─▶ (read the dead-letter topic, choose)
//!                └─▶ replay: begin ─▶ record → source topic, marker → dead-letter topic … ─▶ commit
//! ```
//!
//! The transactional id is the job's and the stream's: of two replays at the same time the later one wins, and the
//! earlier one is refused with its next step.
//!
//! Owns: the transactional producer, and what its errors mean. Blocking: runs off the async threads.
//! Does not own: which letters (`select`), how many in one transaction (`replay`).

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::util::Timeout;

use super::letter::Letter;
use super::marker::{marker_headers, replay_headers};
use super::reader::ASK_TIMEOUT;
use super::writer::{DEFAULT_MAX_MESSAGE_BYTES, PRODUCER_MAX_MESSAGE_BYTES, batch_bytes, native_headers};
use crate::batch::Headers;
use crate::config::{Config, KafkaConfig, StreamConfig};
use crate::error::{Exit, Exits};
use crate::failpoint;
use crate::kafka::admin::{describe_topic, topic_property, watermarks};
use crate::kafka::{LogContext, client_config};
use crate::offsets::{Offset, Partition, Progress};

/// Longest wait for the coordinator at the start. A replay that was killed leaves its transaction open; it is
/// ended here, which takes as long as all partitions need to hear of it.
const INIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest wait for somebody else's open transaction: a little longer than a producer's default timeout.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(75);

/// How long the broker keeps a transaction open that nobody ends. Short: until then a killed replay hides from
/// every reader what lies behind it.
const TRANSACTION_TIMEOUT_MS: &str = "60000";
/// Below it, as librdkafka demands.
const DELIVERY_TIMEOUT_MS: &str = "50000";

const FLUSH_TICK: Duration = Duration::from_millis(100);

/// Longest wait for the report of the refused record, once others were thrown away for it.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Replayer {
    producer: ThreadedProducer<Deliveries>,
    stream: String,
    source: String,
    source_partitions: i32,
    dead_letters: String,
}

impl Replayer {
    /// Ends what an earlier replay of this stream left open, and shuts out one that still runs.
    pub(super) async fn open(config: &Config, stream: &StreamConfig) -> anyhow::Result<Self> {
        let kafka = &config.kafka;
        let Some(source) = describe_topic(kafka, &stream.topic, ASK_TIMEOUT).await? else {
            let message = format!("topic {} does not exist: there is nowhere to replay to", stream.topic);
            return Err(Exits::error(Exit::Bad, message));
        };
        let mut limit = DEFAULT_MAX_MESSAGE_BYTES;
        for topic in [&stream.topic, &stream.dead_letter_topic] {
            let property = topic_property(kafka, topic, "max.message.bytes").await;
            limit = limit.min(property.ok().flatten().and_then(|l| l.parse().ok()).unwrap_or(limit));
        }
        let native = producer_config(kafka, &format!("affluent-replay/{}/{}", config.job, stream.name), limit);
        let (stream, source_partitions) = (stream.clone(), source.partitions.len());
        let work = move || {
            let replayer = Self {
                producer: native
                    .create_with_context(Deliveries::default())
                    .context("cannot create the producer of replayed records")?,
                stream: stream.name,
                source: stream.topic,
                source_partitions: i32::try_from(source_partitions).unwrap_or(i32::MAX).max(1),
                dead_letters: stream.dead_letter_topic,
            };
            replayer.init()?;
            Ok(replayer)
        };
        tokio::task::spawn_blocking(work)
            .await
            .context("the thread that begins a replay panicked")?
    }

    fn init(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + INIT_TIMEOUT;
        loop {
            match self.producer.init_transactions(INIT_TIMEOUT) {
                Ok(()) => return Ok(()),
                Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < deadline => {}
                Err(error) => return Err(self.explain(error, "cannot begin a replay")),
            }
        }
    }

    /// All of these or none. After an error none is there, unless the error says that this is not known.
    pub(super) fn replay(&self, letters: &[Letter]) -> anyhow::Result<()> {
        self.begin()?;
        match self.send_all(letters).and_then(|()| self.commit()) {
            Ok(()) => Ok(()),
            Err(error) => {
                // Left open it would hide what lies behind it until the broker's patience ends. Whatever hinders
                // this (we may be fenced) is told by the error that brought us here.
                let _ = self.producer.abort_transaction(Duration::from_secs(10));
                Err(error)
            }
        }
    }

    fn begin(&self) -> anyhow::Result<()> {
        self.producer.context().forget();
        let begun = self.producer.begin_transaction();
        begun.map_err(|error| self.explain(error, "cannot begin a transaction"))
    }

    fn send_all(&self, letters: &[Letter]) -> anyhow::Result<()> {
        for letter in letters {
            let mut record = self.record(
                &self.source,
                letter.partition.0.rem_euclid(self.source_partitions),
                letter,
                &replay_headers(letter),
            );
            record.key = letter.key.as_deref();
            record.payload = letter.value.as_deref();
            // To librdkafka zero means "now", and the broker takes nothing negative.
            record.timestamp = letter.timestamp_ms.filter(|t| *t > 0);
            self.send(record)?;
            // Beside its letter, so that no retention removes the marker first.
            let marker = self.record(
                &self.dead_letters,
                letter.dlq_partition.0,
                letter,
                &marker_headers(letter),
            );
            self.send(marker)?;
        }
        Ok(())
    }

    fn record<'a>(&self, topic: &'a str, partition: i32, letter: &Letter, headers: &Headers) -> Record<'a> {
        let what = format!(
            "the record of letter {}:{} ({} bytes, from {}:{}) to topic {topic}",
            letter.dlq_partition,
            letter.dlq_offset,
            letter.value.as_ref().map_or(0, Vec::len),
            letter.partition,
            letter.offset
        );
        BaseRecord::with_opaque_to(topic, Box::new(what))
            .partition(partition)
            .headers(native_headers(headers))
    }

    fn send(&self, mut record: Record<'_>) -> anyhow::Result<()> {
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), returned)) => {
                    record = returned;
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err((error, record)) => {
                    let what = record.delivery_opaque;
                    return Err(self.explain(error, &format!("cannot send {what}")));
                }
            }
        }
    }

    fn commit(&self) -> anyhow::Result<()> {
        self.flush()?;
        failpoint!("replay.commit.before");
        // "Never" is what librdkafka asks for: it is cut to what is left of the transaction's own timeout.
        while let Err(error) = self.producer.commit_transaction(Timeout::Never) {
            match error {
                KafkaError::Transaction(error) if error.is_retriable() && !is_timeout(&error) => {}
                error => return Err(self.explain(error, "cannot commit a replay")),
            }
        }
        failpoint!("replay.commit.after");
        Ok(())
    }

    /// Until the brokers have everything, or refuse something: after that librdkafka holds back what is left, and
    /// waiting for it would only end with its timeout.
    fn flush(&self) -> anyhow::Result<()> {
        let mut held_back = None;
        loop {
            let flushed = self.producer.flush(FLUSH_TICK);
            match self.producer.context().failure() {
                // Thrown away because of another one's refusal, whose report comes from another broker thread.
                Some((_, error))
                    if is_purged(&error)
                        && flushed.is_err()
                        && held_back.get_or_insert_with(Instant::now).elapsed() < REFUSAL_TIMEOUT => {}
                Some((what, error)) => return Err(self.explain(error, &format!("the brokers refused {what}"))),
                None => {}
            }
            match flushed {
                Ok(()) => return Ok(()),
                Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut)) => {}
                Err(error) => return Err(self.explain(error, "cannot send replayed records")),
            }
        }
    }

    fn explain(&self, error: KafkaError, what: &str) -> anyhow::Error {
        let fatal = self.producer.client().fatal_error().map(|(code, _)| code);
        let code = match &error {
            KafkaError::Transaction(error) => Some(error.code()),
            error => error.rdkafka_error_code(),
        };
        let bad = |advice: String| {
            anyhow!(error.clone()).context(Exits {
                exit: Exit::Bad,
                message: advice,
            })
        };
        match fatal.or(code) {
            Some(
                RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced | RDKafkaErrorCode::InvalidProducerEpoch,
            ) => bad(format!(
                "another replay of stream {} has begun and takes over: what this one had not committed is left to it",
                self.stream
            )),
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => bad(format!(
                "{what}, its max.message.bytes is too small: raise it, or leave the letter out (--code, --offset)"
            )),
            Some(RDKafkaErrorCode::InvalidTimestamp) => bad(format!(
                "{what}, it takes no record of that time: raise its message.timestamp.before.max.ms and \
                 message.timestamp.after.max.ms, or leave the letter out (--since, --until)"
            )),
            Some(RDKafkaErrorCode::TransactionalIdAuthorizationFailed) => bad(format!(
                "{what}: the user may not use the transactional id affluent-replay/…/{}; allow it to describe and \
                 write transactional ids with the prefix affluent-replay/",
                self.stream
            )),
            Some(RDKafkaErrorCode::OperationTimedOut) => anyhow!(error).context(format!(
                "{what} in time, and whether it is committed is not known: replay again, which finds that out first"
            )),
            _ => anyhow!(error).context(what.to_owned()),
        }
    }
}

type Record<'a> = BaseRecord<'a, [u8], [u8], Box<String>>;

fn is_timeout(error: &RDKafkaError) -> bool {
    error.code() == RDKafkaErrorCode::OperationTimedOut
}

/// `limit` is the smaller of both topics' size limits: it holds for whole batches.
fn producer_config(kafka: &KafkaConfig, id: &str, limit: u64) -> rdkafka::ClientConfig {
    let mut config = client_config(kafka);
    // Another name of `message.timeout.ms`, which has to stay below the transaction's.
    config.remove("delivery.timeout.ms");
    config
        .set("transactional.id", id)
        .set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS)
        .set("message.timeout.ms", DELIVERY_TIMEOUT_MS)
        .set("linger.ms", "5")
        .set("message.max.bytes", PRODUCER_MAX_MESSAGE_BYTES.to_string())
        .set("batch.size", batch_bytes(limit).to_string());
    if config
        .get("compression.type")
        .or(config.get("compression.codec"))
        .is_none()
    {
        // The records may have come compressed; uncompressed they could be too large again.
        config.set("compression.type", "lz4");
    }
    config
}

/// Waits until everything that is in the dead-letter topic now can be read. A marker behind the open transaction
/// of somebody else (another stream's replay into a shared topic) is committed and still hidden: choosing then
/// would replay its letter twice.
pub(super) async fn settled(kafka: &KafkaConfig, topic: &str) -> anyhow::Result<()> {
    let Some(description) = describe_topic(kafka, topic, ASK_TIMEOUT).await? else {
        return Ok(());
    };
    let mut config = client_config(kafka);
    config.remove("group.id");
    config.set("isolation.level", "read_uncommitted");
    let (name, partitions) = (topic.to_owned(), description.partitions.clone());
    let ends = tokio::task::spawn_blocking(move || {
        let client: BaseConsumer<LogContext> = config.create_with_context(LogContext)?;
        let end = |partition: Partition| {
            let (_, high) = client.fetch_watermarks(&name, partition.0, ASK_TIMEOUT)?;
            anyhow::Ok((partition, high))
        };
        partitions.into_iter().map(end).collect::<anyhow::Result<Progress>>()
    });
    let ends = ends.await.context("the thread that asks Kafka panicked")?;
    let ends = ends.with_context(|| format!("cannot read the log ends of topic {topic}"))?;
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    let mut told = false;
    loop {
        let stable = watermarks(kafka, topic, &description.partitions, ASK_TIMEOUT).await?;
        let hidden = |(partition, end): &(&Partition, &Offset)| stable.get(partition).is_none_or(|s| s.high < **end);
        let Some((partition, _)) = ends.iter().find(hidden) else {
            return Ok(());
        };
        let why = format!("somebody's open transaction hides the end of partition {partition} of {topic}");
        if Instant::now() >= deadline {
            let message = format!("{why}: replay again when it has ended");
            return Err(Exits::error(Exit::Infrastructure, message));
        }
        if !std::mem::replace(&mut told, true) {
            tracing::info!("{why}: waiting for it");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Not sent, because the transaction it belongs to has failed.
fn is_purged(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{PurgeInflight, PurgeQueue};
    matches!(error.rdkafka_error_code(), Some(PurgeQueue | PurgeInflight))
}

/// The first record of the transaction that the brokers did not take, and why. One that was thrown away for it
/// may be reported first.
#[derive(Default)]
struct Deliveries(Mutex<Option<(String, KafkaError)>>);

impl Deliveries {
    fn failure(&self) -> Option<(String, KafkaError)> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    fn forget(&self) {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = None;
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        LogContext.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        LogContext.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<String>;

    fn delivery(&self, result: &DeliveryResult<'_>, what: Box<String>) {
        if let Err((error, _)) = result {
            let mut failure = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if failure.as_ref().is_none_or(|(_, known)| is_purged(known)) {
                *failure = Some((*what, error.clone()));
            }
        }
    }
}
