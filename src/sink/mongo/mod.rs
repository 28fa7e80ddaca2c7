//! The MongoDB sink: documents by deterministic `_id`, then one transaction for rollups and progress.
//!
//! Owns: ownership of partitions in this sink, and the sink's side of the contract (`super::Sink`).
//! Does not own: cadence and retries (`sink::driver`), where to resume.
//!
//! ```text
//!  write ─▶ buffer ─▶ insert (unordered, majority; a replay is a no-op)
//!                        ─▶ transaction: compare-and-set ▸ count ▸ rollups ─▶ progress
//! ```
//! Everything before the transaction may be repeated at will; the transaction happens once, because it takes
//! the progress it builds on with it.

mod abandoned;
mod buffer;
mod collections;
mod commit;
mod document;
mod element;
mod error;
mod insert;
mod loss;
mod progress;
mod statements;
mod topology;
mod transaction;

use std::collections::BTreeMap;

use bson::{RawDocumentBuf, doc};
use mongodb::{Client, Collection, Database};

use self::abandoned::Mark;
use self::buffer::{Buffer, Gap};
use self::document::Encoder;
use self::error::{CallError, DUPLICATE_KEY, call};
use self::progress::{Identity, majority};
pub use self::progress::{PROGRESS_COLLECTION, ProgressDocument, State, read_progress};
use super::{CommitSummary, Pending, Position, Reason, Sink, SinkName};
use crate::batch::Batch;
use crate::config::{MongoConfig, StreamConfig};
use crate::error::{Invariant, SinkError};
use crate::failpoint;
use crate::loss::{Loss, Standing};
use crate::offsets::{Offset, Partition, Progress, TopicId};
use crate::rollup::Rollup;

/// One stream's MongoDB side.
pub struct MongoSink {
    client: Client,
    mark: Mark,
    database: Database,
    collection: Collection<RawDocumentBuf>,
    config: MongoConfig,
    identity: Identity,
    encoder: Encoder,
    id_index: usize,
    rollups: Vec<Rollup>,
    collections_ready: bool,
    /// The stream's progress documents as last read: what a transaction must find unchanged.
    known: BTreeMap<Partition, ProgressDocument>,
    /// Owned partitions: stored progress, as far as we know.
    committed: Progress,
    /// Owned partitions: stored progress plus what is buffered.
    tips: Progress,
    buffer: Buffer,
    /// Where a transaction of unknown outcome would have moved progress to.
    in_doubt: Option<Progress>,
}

impl MongoSink {
    /// Connects and checks that the deployment has transactions.
    pub async fn connect(job: &str, stream: &StreamConfig) -> Result<Self, SinkError> {
        let config = stream.mongo.clone();
        let mark = Mark::new(job, &stream.name);
        let (client, options) = topology::client(&config.uri, Some(&mark)).await?;
        topology::check(&client, &options).await?;
        let database = client.database(&config.database);
        let id_index = stream.schema.id_index();
        Ok(Self {
            collection: database.collection(&stream.name),
            client,
            mark,
            database,
            config,
            identity: Identity::new(job, stream),
            encoder: Encoder::new(&stream.schema),
            id_index,
            rollups: stream.rollups.iter().map(|r| Rollup::new(r, &stream.schema)).collect(),
            collections_ready: false,
            known: BTreeMap::new(),
            committed: Progress::new(),
            tips: Progress::new(),
            buffer: Buffer::new(id_index),
            in_doubt: None,
        })
    }

    fn collection_names(&self) -> impl Iterator<Item = &str> {
        [self.collection.name()]
            .into_iter()
            .chain(self.rollups.iter().map(|r| r.name.as_str()))
    }

    async fn prepare_collections(&mut self) -> Result<(), SinkError> {
        if !self.collections_ready {
            collections::create(&self.database, self.collection_names()).await?;
            collections::refuse_expiry(&self.database, self.collection.name()).await?;
            self.collections_ready = true;
        }
        Ok(())
    }

    async fn read_known(&self) -> Result<BTreeMap<Partition, ProgressDocument>, SinkError> {
        let stored = progress::read(&progress::collection(&self.database), &self.identity.stream).await;
        let attempted = || format!("read the progress of stream {}", self.identity.stream);
        stored.map(progress::by_partition).map_err(|e| e.classify(attempted()))
    }

    /// A topic id that was unknown when progress was recorded becomes known: no re-creation, so it is filled in.
    async fn fill_in_topic_id(&self, topic_id: &TopicId) -> Result<(), SinkError> {
        let unknown = doc! { "stream": &self.identity.stream, "job": &self.identity.job, "topic_id": TopicId::UNKNOWN };
        let known = doc! { "$set": { "topic_id": &topic_id.0 } };
        let collection = progress::collection(&self.database);
        let update = call(collection.update_many(unknown, known).write_concern(majority())).await;
        update.map(drop).map_err(|e| e.classify("record the topic id"))
    }

    fn lost(
        &self,
        partition: Partition,
        expected: Offset,
        stored: &BTreeMap<Partition, ProgressDocument>,
    ) -> SinkError {
        SinkError::Lost {
            partition,
            expected,
            found: stored.get(&partition).map(|d| d.next),
        }
    }
}

impl Sink for MongoSink {
    fn name(&self) -> SinkName {
        SinkName::Mongo
    }

    async fn progress(
        &mut self,
        topic_id: &TopicId,
        partitions: &[Partition],
    ) -> Result<BTreeMap<Partition, Position>, SinkError> {
        self.prepare_collections().await?;
        let mut stored = self.read_known().await?;
        if stored.is_empty() {
            collections::refuse_foreign(&self.database, self.collection_names()).await?;
        }
        for document in stored.values() {
            self.identity.check(document, topic_id)?;
        }
        if topic_id.is_known() && stored.values().any(|d| !d.topic_id.is_known()) {
            self.fill_in_topic_id(topic_id).await?;
            stored = self.read_known().await?;
        }
        self.known = stored;
        let positions = partitions.iter().filter_map(|p| {
            let document = self.known.get(p)?;
            let position = Position {
                next: document.next,
                untouched: document.next == document.start,
                epoch: document.epoch,
            };
            Some((*p, position))
        });
        Ok(positions.collect())
    }

    async fn adopt(&mut self, topic_id: &TopicId, starts: &Progress) -> Result<(), SinkError> {
        if starts.is_empty() {
            return Ok(());
        }
        let documents: Vec<(Partition, ProgressDocument)> = starts
            .iter()
            .map(|(&partition, &start)| (partition, self.identity.begin(partition, start, topic_id, &self.known)))
            .collect();
        failpoint!("mongo.adopt.before");
        let collection = progress::collection(&self.database);
        let insert = collection
            .insert_many(documents.iter().map(|(_, d)| d))
            .write_concern(majority());
        let inserted = call(insert.ordered(false)).await;
        failpoint!("mongo.adopt.after");
        match inserted {
            Ok(_) => {
                self.known.extend(documents);
                Ok(())
            }
            Err(error) if has_duplicate(&error) => {
                let stored = self.read_known().await?;
                let taken = starts.iter().find(|(partition, _)| stored.contains_key(partition));
                let (&partition, &start) = taken.or(starts.first_key_value()).expect("starts is not empty");
                Err(self.lost(partition, start, &stored))
            }
            Err(error) => Err(error.classify("record where to begin")),
        }
    }

    async fn standing(&mut self) -> Result<Standing, SinkError> {
        Ok(loss::standing(&self.read_known().await?))
    }

    async fn accept(&mut self, standing: &Standing, loss: &Loss) -> Result<(), SinkError> {
        self.accept_loss(standing, loss).await
    }

    fn begin(&mut self, progress: &Progress) {
        self.committed.extend(progress);
        self.tips.extend(progress);
    }

    async fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let pushed = self.buffer.push(&batch.rows, &batch.covered, &mut self.tips);
        pushed.map_err(|Gap { partition, missing }| {
            Invariant::new(
                format!(
                    "records {missing} of partition {partition} of topic {} never reached the mongodb sink",
                    self.identity.topic
                ),
                "start again: the records are read anew from stored progress; if this comes back, report it as a \
                 defect",
            )
            .into()
        })
    }

    fn pending(&self) -> Pending {
        Pending {
            rows: self.buffer.rows() as u64,
            bytes: self.buffer.bytes() as u64,
            moved: !self.buffer.is_empty(),
        }
    }

    async fn commit(&mut self, _reason: Reason) -> Result<CommitSummary, SinkError> {
        self.commit_buffer().await
    }

    fn discard(&mut self) {
        self.buffer.clear();
        self.committed.clear();
        self.tips.clear();
        self.in_doubt = None;
    }

    fn release(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            debug_assert_eq!(
                self.committed.get(partition),
                self.tips.get(partition),
                "released with rows pending"
            );
            self.committed.remove(partition);
            self.tips.remove(partition);
        }
    }
}

fn has_duplicate(error: &CallError) -> bool {
    let CallError::Driver(error) = error else { return false };
    match error.kind.as_ref() {
        mongodb::error::ErrorKind::InsertMany(many) => {
            many.write_errors.iter().flatten().any(|e| e.code == DUPLICATE_KEY)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
