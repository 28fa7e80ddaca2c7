//! Is Kafka there, and does our client still know it?
//!
//! Owns: asking while nothing else shows it, and replacing a client that is beyond repair.
//! Does not own: errors that librdkafka reports itself (`super::Fetcher::poll_error`).

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use tracing::{debug, warn};

use super::{Event, Fetcher, connect};
use crate::health::Part;

/// How often, and how long, to ask whether Kafka answers while nothing else shows it.
const PROBE_EVERY: Duration = Duration::from_secs(5);
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);
/// Silence after which Kafka counts as missing, some unanswered questions included. librdkafka itself needs a
/// minute to tell a black hole from a quiet topic.
const SILENT_AFTER: Duration = Duration::from_secs(15);
/// How often a silent client is compared with a new one, and how long the new one may take: commands wait meanwhile.
const RENEW_EVERY: Duration = Duration::from_secs(15);
const FIRST_ANSWER: Duration = Duration::from_secs(2);

impl Fetcher {
    /// An idle or paused stream sees no record that would show Kafka to be there, or to be back: ask.
    pub(super) fn probe(&mut self) {
        if self.heard.elapsed() < PROBE_EVERY || self.probed.elapsed() < PROBE_EVERY {
            return;
        }
        let answer = self.consumer.fetch_metadata(Some(&self.topic), PROBE_TIMEOUT);
        self.probed = Instant::now();
        match answer {
            Ok(metadata) if metadata.topics().iter().all(|t| t.error().is_none()) => self.healthy_again(),
            // It answers, and about this topic nothing good: told by an error of its own.
            Ok(_) => {}
            Err(error) if self.heard.elapsed() >= SILENT_AFTER => {
                self.healthy = false;
                let silent = self.heard.elapsed().as_secs();
                let why = format_args!("the brokers have not answered for {silent} s: {error}");
                self.outlets.health.held(Part::Kafka, why);
                if self.renewed.elapsed() >= RENEW_EVERY {
                    self.renew();
                }
            }
            Err(error) => debug!("the brokers do not answer: {error}"),
        }
    }

    pub(super) fn healthy_again(&mut self) {
        self.heard = Instant::now();
        if !self.healthy {
            self.healthy = true;
            self.outlets.health.ok(Part::Kafka);
        }
    }

    /// Where a new client gets an answer and ours does not, ours is replaced. A broker that is starting may answer
    /// with an empty list of brokers, and librdkafka then forgets all it knew, the configured ones included, and
    /// never asks again (its issue 5301).
    fn renew(&mut self) {
        self.renewed = Instant::now();
        let fresh = match connect(&self.config) {
            Ok(fresh) => fresh,
            Err(error) => return debug!("{error:#}"),
        };
        let answer = fresh.fetch_metadata(Some(&self.topic), FIRST_ANSWER);
        let answered = answer.is_ok_and(|metadata| !metadata.brokers().is_empty());
        if !answered {
            return;
        }
        if let Err(error) = fresh.subscribe(&[&self.topic]) {
            return debug!("a new client cannot subscribe: {error}");
        }
        warn!(stream = self.stream, "the client has lost sight of Kafka: replacing it");
        let former = std::mem::replace(&mut self.consumer, fresh);
        former.context().close();
        // It says goodbye to a group it cannot reach.
        std::thread::spawn(move || drop(former));
        self.cutter.forget();
        self.outbox.clear();
        self.paused = false;
        self.topic_changes.set(None);
        let partitions: Vec<_> = std::mem::take(&mut self.assigned).into_keys().collect();
        if !partitions.is_empty() {
            self.tell(Event::Revoked {
                partitions,
                flushed: false,
            });
        }
        self.healthy_again();
    }
}
