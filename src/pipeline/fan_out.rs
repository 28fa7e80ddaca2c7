//! Hands every decoded batch to both sinks, after its dead letters are durable.
//!
//! Owns: the order "dead letters first", and the circuit breaker.
//! Does not own: writing letters (`dead_letter`), storing rows (`sink`).

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::Decoded;
use super::breaker::Breaker;
use crate::batch::{RawBatch, Reject, Session};
use crate::config::{KafkaConfig, StreamConfig};
use crate::dead_letter::DeadLetterWriter;
use crate::error::Invariant;
use crate::failpoint;
use crate::health::{Part, StreamHealth};
use crate::retry::Backoff;
use crate::sink::driver::{Command, SinkHandle};
use crate::telemetry;

pub struct FanOut {
    stream: String,
    limit: Option<f64>,
    sinks: Vec<SinkHandle>,
    letters: DeadLetterWriter,
    letters_topic_exists: bool,
    breaker: Breaker,
    session: watch::Receiver<Session>,
    health: StreamHealth,
    stopped: mpsc::UnboundedSender<Invariant>,
}

impl FanOut {
    pub fn new(
        kafka: &KafkaConfig,
        stream: &StreamConfig,
        sinks: Vec<SinkHandle>,
        session: watch::Receiver<Session>,
        health: StreamHealth,
        stopped: mpsc::UnboundedSender<Invariant>,
    ) -> Self {
        Self {
            stream: stream.name.clone(),
            limit: stream.max_dead_letters,
            sinks,
            letters: DeadLetterWriter::new(kafka, stream),
            letters_topic_exists: false,
            breaker: Breaker::new(stream.max_dead_letters),
            session,
            health,
            stopped,
        }
    }

    pub async fn run(mut self, mut decoded: mpsc::Receiver<Decoded>) {
        while let Some(item) = decoded.recv().await {
            match item {
                Decoded::Flush(flush) => {
                    for sink in &self.sinks {
                        sink.send(Command::Flush(flush.clone()));
                    }
                }
                Decoded::Batch {
                    batch,
                    letters,
                    records,
                } => {
                    let rejects = letters.as_ref().map_or(0, |(_, rejects)| rejects.len());
                    if let Some((raw, rejects)) = letters
                        && !self.keep(&raw, &rejects).await
                    {
                        continue;
                    }
                    let batch = Arc::new(batch);
                    for sink in &self.sinks {
                        sink.send(Command::Batch(batch.clone()));
                    }
                    self.judge(records, rejects);
                }
            }
        }
    }

    /// Makes the letters durable, however long that takes: progress must not pass them. False when the batch
    /// became stale meanwhile.
    async fn keep(&mut self, raw: &RawBatch, rejects: &[Reject]) -> bool {
        let mut backoff = Backoff::default();
        failpoint!("dead_letter.before");
        loop {
            if raw.session < *self.session.borrow() {
                return false;
            }
            let health = self.health.clone();
            match health.watch(Part::DeadLetters, self.try_keep(raw, rejects)).await {
                Ok(()) => break,
                Err(error) => {
                    self.health.held(Part::DeadLetters, format_args!("{error:#}"));
                    tokio::select! {
                        () = tokio::time::sleep(backoff.next_delay()) => {}
                        changed = self.session.changed() => {
                            // The coordinator is gone: the process is ending.
                            if changed.is_err() {
                                return false;
                            }
                        }
                    }
                }
            }
        }
        failpoint!("dead_letter.after");
        self.health.ok(Part::DeadLetters);
        telemetry::rejected(&self.stream, rejects);
        true
    }

    async fn try_keep(&mut self, raw: &RawBatch, rejects: &[Reject]) -> anyhow::Result<()> {
        if !self.letters_topic_exists {
            self.letters.ensure_topic().await?;
            self.letters_topic_exists = true;
        }
        self.letters.write(raw, rejects).await
    }

    fn judge(&mut self, records: usize, rejects: usize) {
        let (Some(share), Some(limit)) = (self.breaker.trips(records, rejects), self.limit) else {
            return;
        };
        let _ = self.stopped.send(Invariant::new(
            format!(
                "{:.1} % of the last records were dead letters, more than the {:.1} % that max_dead_letters allows",
                share * 100.0,
                limit * 100.0
            ),
            format!(
                "look at them with `affluent dead-letters list --stream {}`, fix the producer or the schema, then start \
                 again",
                self.stream
            ),
        ));
    }
}
