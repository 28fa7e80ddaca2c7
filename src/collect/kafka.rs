//! Produces events and waits until the brokers have them: what is answered with success is in Kafka.
//!
//! Owns: one idempotent producer (replaced when it is beyond repair), the wait for every acknowledgement and its bound,
//! and telling once that Kafka is away, and once that it is back.
//! Does not own: what is produced (`events`), what a client is told (`refusal`).
//!
//! No retries beyond librdkafka's own: the client repeats what was not acknowledged, and nothing is kept for it here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use futures::future::try_join_all;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;

use super::events::Events;
use super::refusal::{Code, Refusal};
use crate::config::{Config, StreamConfig};
use crate::kafka::admin::ensure_topic;
use crate::kafka::{LogContext, client_config};
use crate::telemetry;

/// Of a topic that is not there yet; as many as `produce` makes.
const PARTITIONS: i32 = 4;

/// Brokers that acknowledge nothing for so long count as away. A browser waits for it.
const MESSAGE_TIMEOUT_MS: &str = "10000";
/// The client is answered by then, also where the configuration lets the producer try longer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Bytes that may wait for Kafka; beyond it requests are refused at once.
const QUEUE_KBYTES: &str = "65536";

/// A batch counts as one message against the topic's limit: kept far below any limit in use, while a single larger
/// event still goes.
const BATCH_BYTES: &str = "65536";

/// What is still on its way when the process ends was not acknowledged to anybody.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Producer {
    client: ClientConfig,
    stream: String,
    topic: String,
    current: Mutex<Arc<ThreadedProducer<Deliveries>>>,
    away: AtomicBool,
}

impl Producer {
    /// Creates the topic where it is missing. An error: Kafka cannot be asked.
    pub(super) async fn connect(config: &Config, stream: &StreamConfig) -> anyhow::Result<Self> {
        if ensure_topic(&config.kafka, &stream.topic, PARTITIONS, &[]).await? {
            tracing::info!(topic = %stream.topic, partitions = PARTITIONS, "created the topic");
        }
        let mut client = client_config(&config.kafka);
        client
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // A visitor's browser waits, and its batch is a request's.
            .set("linger.ms", "2")
            .set("batch.size", BATCH_BYTES)
            .set("queue.buffering.max.kbytes", QUEUE_KBYTES);
        if client
            .get("message.timeout.ms")
            .or(client.get("delivery.timeout.ms"))
            .is_none()
        {
            client.set("message.timeout.ms", MESSAGE_TIMEOUT_MS);
        }
        if client.get("partitioner").is_none() {
            // What Kafka's own clients do with a key, so that a session stays together whoever produces for it.
            client.set("partitioner", "murmur2_random");
        }
        Ok(Self {
            current: Mutex::new(Arc::new(create(&client)?)),
            client,
            stream: stream.name.clone(),
            topic: stream.topic.clone(),
            away: AtomicBool::new(false),
        })
    }

    /// Returns when the brokers have acknowledged every event. After a refusal some may be there.
    pub(super) async fn send(&self, events: &Events) -> Result<(), Refusal> {
        let producer = Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner));
        let sent = match tokio::time::timeout(PATIENCE, self.send_with(&producer, events)).await {
            Ok(sent) => sent,
            Err(_) => Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut)),
        };
        match sent {
            Ok(()) => {
                if self.away.swap(false, Ordering::Relaxed) {
                    telemetry::acknowledged_again(&self.stream);
                }
                Ok(())
            }
            Err(error) => {
                self.replace_if_dead(producer);
                Err(self.refusal(&error))
            }
        }
    }

    async fn send_with(&self, producer: &ThreadedProducer<Deliveries>, events: &Events) -> Result<(), KafkaError> {
        let mut reports = Vec::with_capacity(events.len());
        for (key, value) in events.iter() {
            let (tell, report) = oneshot::channel();
            let mut record = BaseRecord::with_opaque_to(&self.topic, Box::new(tell)).payload(value);
            record.key = key;
            producer.send(record).map_err(|(error, _)| error)?;
            reports.push(async { report.await.unwrap_or(Err(KafkaError::Canceled)) });
        }
        try_join_all(reports).await.map(drop)
    }

    fn refusal(&self, error: &KafkaError) -> Refusal {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => {
                Refusal::new(Code::Busy, "too many events wait for Kafka; send them again later")
            }
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => Refusal::new(
                Code::BodyTooLarge,
                format!("an event is larger than topic {} takes", self.topic),
            ),
            _ => {
                if !self.away.swap(true, Ordering::Relaxed) {
                    telemetry::not_acknowledged(&self.stream, error);
                }
                Refusal::new(
                    Code::NotAcknowledged,
                    "Kafka has not acknowledged every event; send them again with the same event_id",
                )
            }
        }
    }

    /// An idempotent producer that cannot promise its order any more sends nothing ever again.
    fn replace_if_dead(&self, used: Arc<ThreadedProducer<Deliveries>>) {
        let Some((code, reason)) = used.client().fatal_error() else {
            return;
        };
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&current, &used) {
            tracing::warn!(%code, "the producer cannot go on and is replaced: {reason}");
            match create(&self.client) {
                Ok(new) => *current = Arc::new(new),
                Err(error) => tracing::error!("{error:#}"),
            }
        }
        drop(current);
        // Dropping the last handle joins a thread.
        tokio::task::spawn_blocking(move || drop(used));
    }

    /// Delivers what is on its way for clients that have gone.
    pub(super) async fn flush(&self) {
        let producer = Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner));
        let flushed = tokio::task::spawn_blocking(move || producer.flush(FLUSH_TIMEOUT)).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!("events that were not acknowledged may be lost: {error}");
        }
    }
}

fn create(config: &ClientConfig) -> anyhow::Result<ThreadedProducer<Deliveries>> {
    config
        .create_with_context(Deliveries)
        .context("cannot create the producer of events")
}

/// Tells each event's request what became of it.
struct Deliveries;

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        LogContext.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        LogContext.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<oneshot::Sender<Result<(), KafkaError>>>;

    fn delivery(&self, result: &DeliveryResult<'_>, tell: Self::DeliveryOpaque) {
        let outcome = result.as_ref().map(|_| ()).map_err(|(error, _)| error.clone());
        // Nobody listens where the client has gone, or one of its other events has failed.
        let _ = tell.send(outcome);
    }
}
