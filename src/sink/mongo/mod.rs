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
mod buckets;
mod buffer;
mod collections;
mod commit;
pub(crate) mod deployment;
mod document;
mod element;
mod error;
mod evolution;
mod insert;
mod loss;
mod portion;
mod progress;
pub(crate) mod rebuild;
mod statements;
mod topology;
mod transaction;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use bson::{Bson, RawDocumentBuf, doc};

use self::buckets::KnownBuckets;
use self::buffer::{Buffer, Gap};
use self::deployment::{Deployment, Server};
use self::document::Encoder;
use self::error::DUPLICATE_KEY;
use self::portion::PortionSize;
use self::progress::Identity;
pub use self::progress::{
    FormerSchema, PROGRESS_COLLECTION, ProgressDocument, State, progress_of, read_progress, reader,
};
use super::{CommitSummary, Pending, Position, Reason, Sink, SinkName};
use crate::batch::Batch;
use crate::config::{MongoConfig, StreamConfig};
use crate::error::{Invariant, SinkError};
use crate::event_time::{self, EventTimes};
use crate::failpoint;
use crate::loss::{Loss, Standing};
use crate::offsets::{Offset, Partition, Progress, TopicId};
use crate::rollup::Rollup;
use crate::schema::StreamSchema;
use crate::schema::evolution::{Change, Fit};

/// One stream's MongoDB side.
pub struct MongoSink<D = Server> {
    deployment: D,
    collection: String,
    config: MongoConfig,
    identity: Identity,
    encoder: Encoder,
    id_index: usize,
    time_columns: event_time::Columns,
    rollups: Vec<Rollup>,
    buckets: KnownBuckets,
    portion: PortionSize,
    collections_ready: bool,
    is_indexed: bool,
    /// The stream's progress documents as last read: what a transaction must find unchanged.
    known: BTreeMap<Partition, ProgressDocument>,
    /// The schemas that `known` says were in force before: their owners may have left documents beyond progress.
    former: Vec<StreamSchema>,
    schema: Arc<StreamSchema>,
    /// Owned partitions: stored progress, as far as we know.
    committed: Progress,
    /// Owned partitions: stored progress plus what is buffered.
    tips: Progress,
    buffer: Buffer,
    /// Where a transaction of unknown outcome would have moved progress to.
    in_doubt: Option<Reach>,
}

/// Where a transaction leads to.
#[derive(Clone, Debug, Default)]
struct Reach {
    progress: Progress,
    /// Highest event times of the rows that it stores.
    event_times: EventTimes,
}

impl MongoSink {
    /// Connects and checks that the deployment has transactions.
    pub async fn connect(job: &str, stream: &StreamConfig) -> Result<Self, SinkError> {
        Ok(Self::on(Server::connect(job, stream).await?, job, stream))
    }
}

impl<D: Deployment> MongoSink<D> {
    /// The sink on a deployment that is there.
    pub(crate) fn on(deployment: D, job: &str, stream: &StreamConfig) -> Self {
        let id_index = stream.schema.id_index();
        Self {
            deployment,
            collection: stream.name.clone(),
            config: stream.mongo.clone(),
            identity: Identity::new(job, stream),
            encoder: Encoder::new(&stream.schema),
            id_index,
            time_columns: event_time::Columns::of(&stream.schema),
            rollups: stream.rollups.iter().map(|r| Rollup::new(r, &stream.schema)).collect(),
            buckets: KnownBuckets::default(),
            portion: PortionSize::new(stream.mongo.max_flush_rows),
            collections_ready: false,
            is_indexed: false,
            known: BTreeMap::new(),
            former: Vec::new(),
            schema: stream.schema.clone(),
            committed: Progress::new(),
            tips: Progress::new(),
            buffer: Buffer::new(id_index),
            in_doubt: None,
        }
    }

    /// The stream's collection first, then its rollups.
    fn collection_names(&self) -> Vec<&str> {
        let rollups = self.rollups.iter().map(|r| r.name.as_str());
        [self.collection.as_str()].into_iter().chain(rollups).collect()
    }

    async fn prepare_collections(&mut self) -> Result<(), SinkError> {
        if !self.collections_ready {
            self.deployment.prepare(&self.collection_names()).await?;
            self.collections_ready = true;
        }
        Ok(())
    }

    async fn read_known(&self) -> Result<BTreeMap<Partition, ProgressDocument>, SinkError> {
        let stored = self.deployment.progress(&self.identity.stream).await;
        let attempted = || format!("read the progress of stream {}", self.identity.stream);
        stored.map(progress::by_partition).map_err(|e| e.classify(attempted()))
    }

    fn remember(&mut self, known: BTreeMap<Partition, ProgressDocument>) {
        let former = known.values().flat_map(|document| &document.former_schemas);
        let former: BTreeSet<&str> = former.map(|former| former.schema.as_str()).collect();
        self.former = former.into_iter().filter_map(StreamSchema::parse).collect();
        self.known = known;
    }

    /// A topic id that was unknown when progress was recorded becomes known: no re-creation, so it is filled in.
    async fn fill_in_topic_id(&self, topic_id: &TopicId) -> Result<(), SinkError> {
        let recorded = self.deployment.record_topic_id(&self.identity, topic_id).await;
        recorded.map_err(|e| e.classify("record the topic id"))
    }

    /// A rebuild that began between our look and our insert does not know what was inserted, and what it does know has a
    /// higher generation by now: the new documents are taken back. One that begins from here on finds them.
    async fn yield_to_rebuild(&self, begun: &[(Partition, ProgressDocument)]) -> Result<(), SinkError> {
        let stored = self.read_known().await?;
        let generation = begun.iter().map(|(_, document)| document.generation).max();
        if !stored.values().any(|document| Some(document.generation) > generation) {
            return Ok(());
        }
        let deletes = begun.iter().map(|(_, document)| {
            let untouched = doc! { "_id": &document.id, "generation": document.generation, "next": document.next };
            Bson::from(doc! { "q": untouched, "limit": 1 })
        });
        let command = doc! { "delete": PROGRESS_COLLECTION, "deletes": deletes.collect::<Vec<_>>() };
        let command = RawDocumentBuf::try_from(&command).expect("plain values");
        let deleted = self.deployment.run(command).await;
        deleted.map_err(|e| e.classify("make way for a rebuild"))?;
        Err(SinkError::Infrastructure(anyhow::anyhow!(
            "a rebuild of stream {} in mongodb has begun: waiting for its end",
            self.identity.stream
        )))
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

impl<D: Deployment> Sink for MongoSink<D> {
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
        if stored.is_empty()
            && let Err(error) = self.deployment.refuse_foreign(&self.collection_names()).await
        {
            // Another instance may have begun since we looked: its documents come after its progress.
            stored = self.read_known().await?;
            if stored.is_empty() {
                return Err(error);
            }
        }
        for document in stored.values() {
            self.identity.check(document, topic_id)?;
        }
        if !self.is_indexed {
            self.deployment.index(&self.rollups).await?;
            self.is_indexed = true;
        }
        if topic_id.is_known() && stored.values().any(|d| !d.topic_id.is_known()) {
            self.fill_in_topic_id(topic_id).await?;
            stored = self.read_known().await?;
        }
        self.remember(stored);
        let positions = partitions.iter().filter_map(|p| {
            let document = self.known.get(p)?;
            let position = Position {
                next: document.next,
                untouched: document.next == document.start,
                epoch: document.epoch,
                event_time: document.event_time_micros(),
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
        let inserted = self.deployment.adopt(documents.iter().map(|(_, d)| d).collect()).await;
        failpoint!("mongo.adopt.after");
        match inserted {
            Ok(()) => {
                self.yield_to_rebuild(&documents).await?;
                self.known.extend(documents);
                Ok(())
            }
            Err(error) if error.code() == Some(DUPLICATE_KEY) => {
                let stored = self.read_known().await?;
                let taken = starts.iter().find(|(partition, _)| stored.contains_key(partition));
                let (&partition, &start) = taken.or(starts.first_key_value()).expect("starts is not empty");
                Err(self.lost(partition, start, &stored))
            }
            Err(error) => Err(error.classify("record where to begin")),
        }
    }

    async fn evolve(&mut self) -> Result<Option<Change>, SinkError> {
        self.take_over_schema().await
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
            full: false,
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

/// Do the declared fields fit the stream's progress documents? `None` where there are none.
pub async fn fit(job: &str, stream: &StreamConfig) -> Result<Option<Fit>, SinkError> {
    let identity = Identity::new(job, stream);
    let stored = read_progress(&stream.mongo, &stream.name).await;
    let mut worst = None;
    for document in stored.map_err(SinkError::Infrastructure)? {
        match identity.check(&document, &TopicId::unknown())? {
            Fit::Same => worst = worst.or(Some(Fit::Same)),
            change => worst = Some(change),
        }
    }
    Ok(worst)
}

/// Appends the documents of `rows` one behind the other, as they are inserted, without the commands around them: for
/// the benchmarks.
pub fn documents(schema: &StreamSchema, rows: &RecordBatch, buffer: &mut Vec<u8>) {
    let encoder = Encoder::new(schema);
    let rows = encoder.rows(rows);
    for row in 0..rows.ids().len() {
        rows.append(row, buffer);
    }
}

#[cfg(test)]
mod tests;
