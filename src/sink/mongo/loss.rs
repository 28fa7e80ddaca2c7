//! Recording an accepted loss in MongoDB: one transaction over all progress documents of the stream.
//!
//! Owns: each document's share of the record, and the step over it.
//! Does not own: the judgement of what is lost (`crate::loss`); whose offsets the documents count afterwards
//! (the loss says it).
//!
//! Tried once: whatever comes back, the next look at the documents tells whether the record, by its id, is in.

use std::collections::BTreeMap;

use bson::{Bson, DateTime, Document, RawDocumentBuf, doc, serialize_to_bson};

use super::MongoSink;
use super::deployment::{Deployment, Transaction};
use super::progress::{PROGRESS_COLLECTION, PassedOver, ProgressDocument};
use super::transaction::number;
use crate::error::SinkError;
use crate::failpoint;
use crate::loss::{Cause, Loss, Standing, Start};
use crate::offsets::Partition;
use crate::sink::SinkName;

/// What the documents say, together.
pub(super) fn standing(stored: &BTreeMap<Partition, ProgressDocument>) -> Standing {
    // They move together; while a topic id is being filled in, the known one counts.
    let topics = || stored.values().map(|document| &document.topic_id);
    let losses = stored.values().flat_map(|document| &document.losses);
    Standing {
        topic_id: topics().find(|id| id.is_known()).or_else(|| topics().next()).cloned(),
        epoch: stored.values().map(|document| document.epoch).max().unwrap_or_default(),
        progress: stored
            .iter()
            .map(|(partition, document)| (*partition, document.next))
            .collect(),
        losses: losses.map(|loss| (loss.id.clone(), None)).collect(),
        removed: None,
    }
}

impl<D: Deployment> MongoSink<D> {
    pub(super) async fn accept_loss(&mut self, expected: &Standing, loss: &Loss) -> Result<(), SinkError> {
        let stored = self.read_known().await?;
        if standing(&stored) != *expected {
            return Err(self.changed_meanwhile());
        }
        failpoint!("mongo.accept.before");
        // An owner that was stopped in the middle of a transaction would be in the way.
        self.deployment.end_abandoned().await;
        let began = self.deployment.begin().await;
        let mut transaction = began.map_err(|e| e.classify(ATTEMPTED))?;
        match self.move_over(&mut transaction, &stored, loss).await {
            Ok(moved) if moved == stored.len() as u64 => {}
            answer => {
                transaction.abort().await;
                return Err(answer.err().unwrap_or_else(|| self.changed_meanwhile()));
            }
        }
        transaction.commit().await.map_err(|e| e.classify(ATTEMPTED))?;
        failpoint!("mongo.accept.after");
        self.known = self.read_known().await?;
        Ok(())
    }

    /// Every document found unchanged is moved; answers with their number. Partitions that only the new topic has
    /// begin here, so that both sinks begin them at the same offset.
    async fn move_over(
        &self,
        transaction: &mut D::Transaction,
        stored: &BTreeMap<Partition, ProgressDocument>,
        loss: &Loss,
    ) -> Result<u64, SinkError> {
        let updates: Vec<Bson> = (stored.iter())
            .map(|(partition, document)| {
                let mut found = document.fence();
                found.insert("next", document.next);
                doc! { "q": found, "u": change(*partition, document, loss) }.into()
            })
            .collect();
        let update = doc! { "update": PROGRESS_COLLECTION, "updates": updates };
        let reply = run(transaction, update).await?;
        if let Cause::TopicRecreated { starts, .. } = &loss.cause {
            let new = starts.iter().filter(|start| !stored.contains_key(&start.partition));
            let documents: Vec<Bson> = new.map(|start| self.begun(start, loss, stored)).collect();
            if !documents.is_empty() {
                run(
                    transaction,
                    doc! { "insert": PROGRESS_COLLECTION, "documents": documents },
                )
                .await?;
            }
        }
        Ok(number(&reply, "n"))
    }

    fn begun(&self, start: &Start, loss: &Loss, siblings: &BTreeMap<Partition, ProgressDocument>) -> Bson {
        let (partition, offset) = (start.partition, start.offset);
        let mut document = self.identity.begin(partition, offset, &loss.topic_id, siblings);
        document.epoch = loss.epoch;
        serialize_to_bson(&document).expect("a document of plain values")
    }

    fn changed_meanwhile(&self) -> SinkError {
        SinkError::Infrastructure(anyhow::anyhow!(
            "another instance has changed the progress of stream {} in mongodb meanwhile",
            self.identity.stream
        ))
    }
}

const ATTEMPTED: &str = "record a loss";

async fn run(transaction: &mut impl Transaction, command: Document) -> Result<Document, SinkError> {
    let command = RawDocumentBuf::try_from(&command).expect("a document of plain values");
    transaction.run(command).await.map_err(|e| e.classify(ATTEMPTED))
}

/// What the loss makes of one progress document.
fn change(partition: Partition, document: &ProgressDocument, loss: &Loss) -> Document {
    let mut set = Document::new();
    let recreated = matches!(loss.cause, Cause::TopicRecreated { .. });
    // An owner of old may have stored some of it after all: within one topic progress never goes back.
    let target = loss.target(SinkName::Mongo, partition);
    if let Some(target) = target.filter(|target| recreated || *target > document.next) {
        set.insert("next", target);
        if recreated {
            set.insert("start", target);
            set.insert("topic_id", &loss.topic_id.0);
            set.insert("epoch", i32::from(loss.epoch.0));
        }
    }
    let record = serialize_to_bson(&passed_over(partition, document, loss)).expect("a record of plain values");
    let mut change = doc! { "$push": { "losses": record }, "$currentDate": { "updated_at": true } };
    if !set.is_empty() {
        change.insert("$set", set);
    }
    if recreated {
        // The new topic's records begin anew.
        change.insert("$unset", doc! { "event_time": "" });
    }
    change
}

fn passed_over(partition: Partition, document: &ProgressDocument, loss: &Loss) -> PassedOver {
    let skipped = loss.skipped_by(SinkName::Mongo).find(|s| s.partition == partition);
    let recreated = matches!(loss.cause, Cause::TopicRecreated { .. });
    let to = skipped.and_then(|skipped| skipped.to);
    let lost_here = recreated || skipped.is_some();
    PassedOver {
        id: loss.id.clone(),
        accepted_at: DateTime::from_millis(loss.accepted_at.timestamp_millis()),
        loss: loss.cause.to_string(),
        topic_id: document.topic_id.clone(),
        from: lost_here.then(|| to.map_or(document.next, |to| to.min(document.next))),
        to,
    }
}
