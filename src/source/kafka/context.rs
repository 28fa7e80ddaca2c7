//! What librdkafka tells through callbacks, kept until the source's thread asks for it.
//!
//! Owns: rebalances not yet answered, the offset of the last end-of-partition event, the topic's id as the client
//! itself knows it.
//! Does not own: the answers (`super`), except while the consumer closes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use tracing::debug;

use crate::kafka::LogContext;
use crate::offsets::{Offset, Partition, TopicId};

/// Collects rebalances; they are answered right after `poll` returns, outside librdkafka's callback.
#[derive(Default)]
pub(super) struct Context {
    log: LogContext,
    rebalances: Mutex<Vec<Rebalance>>,
    /// The offset of the end-of-partition event being handed out: the wrapper tells it only in the text.
    eof: Mutex<Option<Offset>>,
    /// The id of the topic that records are fetched of now.
    topic_id: Mutex<Option<TopicId>>,
    /// How often it has changed.
    topic_changes: AtomicU64,
    closing: AtomicBool,
}

pub(super) enum Rebalance {
    Assign(Vec<Partition>),
    Revoke(Vec<Partition>),
}

impl Context {
    /// What the group has decided since the last call.
    pub(super) fn take_rebalances(&self) -> Vec<Rebalance> {
        std::mem::take(&mut *self.rebalances.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The offset of the end-of-partition event that `poll` has just returned.
    pub(super) fn take_eof(&self) -> Option<Offset> {
        self.eof.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// How often the topic's id has changed. Told before anything of the new topic is fetched: a record at hand was
    /// fetched of the topic that a look *after* it shows.
    pub(super) fn topic_changes(&self) -> u64 {
        self.topic_changes.load(Ordering::Acquire)
    }

    /// `None`: brokers or messages that do not tell.
    pub(super) fn topic_id(&self) -> Option<TopicId> {
        self.topic_id.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From here on rebalances are answered on the spot: nobody will ask for them any more.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        if let Some(id) = (fac == TOPIC_ID_FACILITY).then(|| new_topic_id(message)).flatten() {
            *self.topic_id.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
            self.topic_changes.fetch_add(1, Ordering::Release);
        }
        self.log.log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            *self.eof.lock().unwrap_or_else(PoisonError::into_inner) = eof_offset(reason);
            return;
        }
        self.log.error(error, reason);
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let revoke = err != RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Relaxed) {
            // Nobody looks at the queue any more, and closing waits for the answer.
            let empty = TopicPartitionList::new();
            let answered = match (revoke, consumer.rebalance_protocol()) {
                (true, RebalanceProtocol::Cooperative) => consumer.incremental_unassign(&empty),
                (false, RebalanceProtocol::Cooperative) => consumer.incremental_assign(&empty),
                (true, _) => consumer.unassign(),
                (false, _) => consumer.assign(&empty),
            };
            if let Err(error) = answered {
                debug!("closing: {error}");
            }
            return;
        }
        let partitions = list.elements().iter().map(|e| Partition(e.partition())).collect();
        let rebalance = if revoke {
            Rebalance::Revoke(partitions)
        } else {
            Rebalance::Assign(partitions)
        };
        self.rebalances
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(rebalance);
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            debug!("group offsets were not committed (they are advisory): {error}");
        }
    }
}

/// `Fetch from broker 1 reached end of partition at offset 5000 (HighwaterMark 5000)` → 5000. Called on the same
/// thread right before `poll` returns the event. Without a number the event proves nothing and is passed over.
fn eof_offset(reason: &str) -> Option<Offset> {
    let (_, rest) = reason.split_once("end of partition at offset ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The part of librdkafka that says so, as `debug` names it, and the facility of its messages.
pub(super) const TOPIC_ID_DEBUG: &str = "metadata";
const TOPIC_ID_FACILITY: &str = "METADATA";

/// `… Topic sales changed id from AAAAAAAAAAAAAAAAAAAAAA to q83v-0QyT1uXo2Yk0a1bcA` → the latter.
///
/// librdkafka goes on at the old offset when a topic is re-created with a longer log (its source notes that an offset
/// reset is still to be triggered there), and tells nobody but its debug log. That line is written right before it
/// starts to fetch by the new id.
fn new_topic_id(message: &str) -> Option<TopicId> {
    let (_, rest) = message.rsplit_once(" changed id from ")?;
    let (_, id) = rest.split_once(" to ")?;
    // As Kafka's own tools print it.
    let id = id.trim().trim_end_matches('=').replace('+', "-").replace('/', "_");
    (id.len() == TopicId::UNKNOWN.len()).then_some(TopicId(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_partition_is_read_from_librdkafkas_words() {
        let reason = "Fetch from broker 1 reached end of partition at offset 5000 (HighwaterMark 5003)";
        assert_eq!(eof_offset(reason), Some(5000));
        assert_eq!(eof_offset("Fetch from broker 1 failed"), None);
    }

    #[test]
    fn a_new_topic_id_is_read_from_librdkafkas_words() {
        let line = "[thrd:main]: Topic a to b changed id from AAAAAAAAAAAAAAAAAAAAAA to q83v/0QyT1uXo2Yk0a1+cA==";
        assert_eq!(new_topic_id(line), Some(TopicId("q83v_0QyT1uXo2Yk0a1-cA".to_owned())));
        assert_eq!(new_topic_id("Topic sales [0] Leader 1 Epoch 0"), None);
    }
}
