//! How this program talks to Kafka: client configuration, logging, and questions about topics.
//!
//! Owns: the properties every client starts from ([`client_config`]), the bridge from librdkafka's log to
//! `tracing` ([`LogContext`]), [`record_headers`], and `admin` (describe, create, watermarks), `peek`.
//! Does not own: fetching (`source`), producing (`produce`, `dead_letter`); they add their own properties.

pub mod admin;
mod describe;
mod headers;
pub mod peek;

use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;

pub use headers::record_headers;

use crate::config::KafkaConfig;

/// What every client starts from; the user's properties come last and win.
pub fn client_config(kafka: &KafkaConfig) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &kafka.brokers)
        .set("client.id", "affluent");
    for (name, value) in &kafka.properties {
        config.set(name, value);
    }
    // The wrapper derives its level from the `log` crate, which this program does not use: it would pass
    // on nothing below critical. `tracing` filters; librdkafka only has to hand over what may be asked for.
    let level = match config.get("debug") {
        Some(_) => RDKafkaLogLevel::Debug,
        None => RDKafkaLogLevel::Info,
    };
    config.set_log_level(level);
    config
}

/// librdkafka's log and its global errors, as `tracing` events of target `librdkafka`.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogContext;

impl ClientContext for LogContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // One set of properties serves consumers and producers, so each warns of the other's: no news.
        if facility == "CONFWARN" && message.contains("will be ignored by this") {
            tracing::debug!(target: "librdkafka", facility, "{message}");
            return;
        }
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::error!(target: "librdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, "{message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(target: "librdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // A partition's end is an answer, not a complaint; a consumer that is closing reports it here.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        // Connections come and go, and librdkafka mends them itself: what stays broken shows in its caller.
        tracing::warn!(target: "librdkafka", %error, "{reason}");
    }
}

impl ConsumerContext for LogContext {}

impl ProducerContext for LogContext {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            tracing::error!(target: "librdkafka", %error, "a record was not delivered");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::Start;

    #[test]
    fn the_users_properties_win_over_ours() {
        let kafka = KafkaConfig {
            brokers: "broker:9092".to_owned(),
            group: "affluent".to_owned(),
            start: Start::Earliest,
            properties: BTreeMap::from([("client.id".to_owned(), "mine".to_owned())]),
        };
        let config = client_config(&kafka);
        assert_eq!(config.get("bootstrap.servers"), Some("broker:9092"));
        assert_eq!(config.get("client.id"), Some("mine"));
    }
}
