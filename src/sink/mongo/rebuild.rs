//! Re-creating a stream's side of MongoDB from rows that the lake holds: the steps, each of which may be the last one
//! before a crash.
//!
//! Owns: the order that keeps it safe:
//!
//! ```text
//!  begin    one transaction: every progress document to the next generation, `rebuilding`, at the lake's offsets; the
//!           rebuild's document written. From here on nobody else's commit goes through.
//!  clear    the collections dropped and made anew, with the options and indexes they had
//!  store    a portion of rows: documents inserted, then one transaction: place of the rebuild ▸ rollups
//!  publish  one transaction: the rebuild's document deleted, the progress documents `ready`
//! ```
//!
//! A second rebuild of the same stream meets the first one's place and gives up; what it dropped meanwhile is noticed by
//! the collections' identities. Rollups are made by the same transactions as ever, only the place stands where progress
//! does, so that a portion counts once.
//! Does not own: the look before it (`present`), what stays of a dropped collection (`kept`), reading the lake (`lake::rows`), whether it may begin at all, and what a person sees (`crate::rebuild`).

mod document;
mod kept;
mod present;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arrow::array::RecordBatch;
use bson::{Bson, DateTime, Document, RawDocumentBuf, doc, serialize_to_bson};

pub use self::document::RebuildDocument;
use self::document::{Phase, REBUILD_COLLECTION, VERSION};
use self::kept::{Kept, create};
pub use self::present::{Present, foreign, look};
use super::buckets::KnownBuckets;
use super::deployment::Deployment;
use super::document::Encoder;
use super::error::WriteError;
use super::insert::Inserter;
use super::portion::PortionSize;
use super::progress::{
    FormerSchema, Identity, PROGRESS_COLLECTION, PassedOver, ProgressDocument, State, VERSION as PROGRESS_VERSION,
    stored_event_time,
};
use super::statements::Statements;
use super::transaction::{Outcome, Plan, Step};
use crate::config::{MongoConfig, StreamConfig};
use crate::error::{Invariant, SinkError};
use crate::event_time::EventTimes;
use crate::failpoint;
use crate::lake::delta::evolution::Former;
use crate::lake::rows::Place;
use crate::loss::Loss;
use crate::offsets::{Epoch, Offset, Partition, TopicId};
use crate::rollup::{self, Rollup};
use crate::schema::StreamSchema;
use crate::schema::evolution::narrowed;

/// Tries of one transaction, some ten seconds: one that an owner left open when it was killed is in the way for a while.
const TRIES: u32 = 9;
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// What the lake says about the rows that it hands over.
#[derive(Clone, Debug)]
pub struct Source {
    /// The table's id and version.
    pub table: String,
    pub version: u64,
    pub topic_id: TopicId,
    pub epoch: Epoch,
    /// Start (where it is recorded) and next offset.
    pub partitions: BTreeMap<Partition, (Option<Offset>, Offset)>,
    /// Highest event times of the rows.
    pub event_times: EventTimes,
    pub losses: Vec<Loss>,
    /// Of the table, oldest first.
    pub former_schemas: Vec<Former>,
}

/// How a portion ended.
#[derive(Debug)]
pub enum Portion {
    Stored,
    /// The server cannot carry so many rows in one transaction.
    TooLong(SinkError),
}

/// One stream's rebuild.
pub struct Rebuild<D> {
    deployment: D,
    config: MongoConfig,
    identity: Identity,
    encoder: Encoder,
    rollups: Vec<Rollup>,
    buckets: KnownBuckets,
    portion: PortionSize,
    document: RebuildDocument,
}

impl<D: Deployment> Rebuild<D> {
    /// Goes on with an unfinished one.
    pub fn resume(deployment: D, job: &str, stream: &StreamConfig, document: RebuildDocument) -> Self {
        Self {
            deployment,
            config: stream.mongo.clone(),
            identity: Identity::new(job, stream),
            encoder: Encoder::new(&stream.schema),
            rollups: stream.rollups.iter().map(|r| Rollup::new(r, &stream.schema)).collect(),
            buckets: KnownBuckets::default(),
            portion: PortionSize::new(stream.mongo.max_flush_rows),
            document,
        }
    }

    /// Begins a new one, over an unfinished one if there is any.
    pub async fn begin(
        deployment: D,
        job: &str,
        stream: &StreamConfig,
        present: &Present,
        source: &Source,
    ) -> Result<Self, SinkError> {
        let of_progress = present.progress.values().map(|document| document.generation);
        let of_rebuild = present.unfinished.iter().map(|document| document.generation);
        let document = RebuildDocument {
            stream: stream.name.clone(),
            version: VERSION,
            id: uuid::Uuid::new_v4().to_string(),
            generation: of_progress.chain(of_rebuild).max().unwrap_or_default() + 1,
            table: source.table.clone(),
            table_version: source.version as i64,
            phase: Phase::Clearing,
            collections: match &present.unfinished {
                // Of collections that it may have dropped already.
                Some(unfinished) => unfinished.merged(&present.collections),
                None => present.collections.clone(),
            },
            place: Place::default(),
            rows: 0,
            started_at: DateTime::now(),
        };
        let rebuild = Self::resume(deployment, job, stream, document);
        rebuild.fence(present, source).await?;
        Ok(rebuild)
    }

    pub fn document(&self) -> &RebuildDocument {
        &self.document
    }

    /// Rows that the next portion should have.
    pub fn portion_rows(&self) -> usize {
        self.portion.rows()
    }

    /// From here on no commit of anybody else goes through.
    async fn fence(&self, present: &Present, source: &Source) -> Result<(), SinkError> {
        create(&self.deployment, REBUILD_COLLECTION, &Document::new()).await?;
        create(&self.deployment, PROGRESS_COLLECTION, &Document::new()).await?;
        let changes = self.fencing(present, source);
        failpoint!("mongo.rebuild.begin");
        let id = &self.document.id;
        self.make(&changes, async || {
            let found = RebuildDocument::find(&self.deployment, &self.document.stream).await?;
            Ok(found.is_some_and(|found| found.id == *id))
        })
        .await
    }

    /// Runs a transaction until its outcome is known; `is_made` reads what became of it.
    async fn make(
        &self,
        changes: &[(Document, u64)],
        is_made: impl AsyncFn() -> Result<bool, SinkError>,
    ) -> Result<(), SinkError> {
        let mut pause = FIRST_PAUSE;
        let mut last = None;
        for _ in 0..TRIES {
            let error = match self.change(changes, &[]).await {
                Outcome::Committed => return Ok(()),
                Outcome::Failed(error) | Outcome::TooLong(error) => return Err(error),
                Outcome::Retry(error) => {
                    self.deployment.end_abandoned().await;
                    error
                }
                Outcome::Unknown(_) | Outcome::Fenced if is_made().await? => return Ok(()),
                Outcome::Unknown(error) => error,
                Outcome::Fenced => return Err(self.changed_meanwhile()),
                Outcome::Miscounted { .. } => unreachable!("nothing is counted"),
            };
            last = Some(error);
            self.deployment.pause(pause).await;
            pause *= 2;
        }
        Err(last.expect("every round that goes on leaves its error"))
    }

    fn fencing(&self, present: &Present, source: &Source) -> Vec<(Document, u64)> {
        let mut updates: Vec<Bson> = Vec::new();
        let mut inserts: Vec<Bson> = Vec::new();
        let all = present.progress.keys().chain(source.partitions.keys());
        for partition in all.collect::<BTreeSet<_>>() {
            let before = present.progress.get(partition);
            let after = self.progress_of(*partition, before, source);
            match before {
                None => inserts.push(serialize_to_bson(&after).expect("plain values")),
                Some(before) => {
                    let mut expected = before.fence();
                    expected.insert("state", serialize_to_bson(&before.state).expect("plain values"));
                    expected.insert("next", before.next);
                    updates.push(doc! { "q": expected, "u": serialize_to_bson(&after).expect("plain values") }.into());
                }
            }
        }
        let document = serialize_to_bson(&self.document).expect("plain values");
        let mut changes = vec![match &present.unfinished {
            None => (doc! { "insert": REBUILD_COLLECTION, "documents": [document] }, 1),
            Some(unfinished) => {
                let update = doc! { "q": { "_id": &unfinished.stream, "id": &unfinished.id }, "u": document };
                (doc! { "update": REBUILD_COLLECTION, "updates": [update] }, 1)
            }
        }];
        for (name, array, statements) in [("update", "updates", updates), ("insert", "documents", inserts)] {
            if !statements.is_empty() {
                let count = statements.len() as u64;
                changes.push((doc! { name: PROGRESS_COLLECTION, array: statements }, count));
            }
        }
        changes
    }

    fn progress_of(
        &self,
        partition: Partition,
        before: Option<&ProgressDocument>,
        source: &Source,
    ) -> ProgressDocument {
        let known = source.partitions.get(&partition);
        // A partition of which the lake has nothing yet begins where it began.
        let next = known
            .map(|(_, next)| *next)
            .or(before.map(|b| b.start))
            .unwrap_or_default();
        let start = known
            .and_then(|(start, _)| *start)
            .or(before.map(|b| b.start))
            .unwrap_or_default();
        ProgressDocument {
            id: self.identity.document_id(partition),
            version: PROGRESS_VERSION,
            job: self.identity.job.clone(),
            stream: self.identity.stream.clone(),
            topic: self.identity.topic.clone(),
            topic_id: source.topic_id.clone(),
            epoch: source.epoch,
            generation: self.document.generation,
            state: State::Rebuilding,
            start,
            next,
            event_time: source.event_times.get(partition).map(stored_event_time),
            schema: self.identity.declared.fingerprint.clone(),
            rollups: self.identity.rollups.clone(),
            updated_at: DateTime::now(),
            losses: losses_of(partition, before, &source.losses),
            former_schemas: self.former_schemas(partition, source),
        }
    }

    /// Where the lake's rows were stored under former schemas, their documents have what was declared then.
    fn former_schemas(&self, partition: Partition, source: &Source) -> Vec<FormerSchema> {
        let of_partition = source.former_schemas.iter().filter_map(|former| {
            let schema = StreamSchema::parse(&former.schema)?;
            Some(FormerSchema {
                schema: narrowed(&schema, &self.identity.declared.schema)?.fingerprint(),
                epoch: former.epoch,
                until: *former.until.get(&partition)?,
                replaced_at: DateTime::from_millis(former.replaced_at.timestamp_millis()),
            })
        });
        of_partition.collect()
    }

    /// Makes the stream's collections anew, unless that is done.
    pub async fn clear(&mut self) -> Result<(), SinkError> {
        if self.document.phase == Phase::Filling {
            return self.check_collections().await;
        }
        failpoint!("mongo.rebuild.clear");
        let mut collections = self.document.collections.clone();
        let rollups = self.rollups.iter().map(|rollup| rollup.name.as_str());
        for name in [self.identity.stream.as_str()].into_iter().chain(rollups) {
            if collections.iter().all(|kept| kept.name != name) {
                collections.push(Kept::plain(name));
            }
        }
        for kept in &mut collections {
            kept.make_anew(&self.deployment).await?;
        }
        failpoint!("mongo.rebuild.cleared");
        let mut document = self.document.clone();
        document.phase = Phase::Filling;
        document.collections = collections;
        let update = doc! {
            "q": { "_id": &document.stream, "id": &document.id, "phase": "clearing" },
            "u": serialize_to_bson(&document).expect("plain values"),
        };
        let command = doc! {
            "update": REBUILD_COLLECTION, "updates": [update], "writeConcern": { "w": "majority", "wtimeout": 20_000 },
        };
        let reply = written(&self.deployment, &command, "record that the collections are empty").await?;
        if super::transaction::number(&reply, "n") != 1 {
            return Err(self.overtaken());
        }
        self.document = document;
        Ok(())
    }

    async fn check_collections(&self) -> Result<(), SinkError> {
        for kept in &self.document.collections {
            kept.check(&self.deployment).await?;
        }
        Ok(())
    }

    /// Stores the rows from the present place up to `to`.
    pub async fn store(&mut self, batches: &[RecordBatch], to: Place) -> Result<Portion, SinkError> {
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        self.insert(batches).await?;
        failpoint!("mongo.rebuild.inserted");
        let increments = rollup::increments(&self.rollups, batches).map_err(|overflow| {
            let choices = "correct the records at their source, or take that measure out of the rollup";
            SinkError::from(Invariant::new(overflow.to_string(), choices))
        })?;
        let change = [(self.advance(to, rows as i64), 1)];
        let mut statements = Statements::of(&self.rollups, &increments, |key| self.buckets.is_new(key));
        let mut pause = FIRST_PAUSE;
        let mut last = None;
        for _ in 0..TRIES {
            let error = match self.change(&change, &statements.commands).await {
                Outcome::Committed => {
                    self.buckets.stored(&statements.keys, statements.guessed);
                    self.portion.learn(rows, increments.iter().map(Vec::len).sum());
                    self.advanced(to, rows);
                    failpoint!("mongo.rebuild.stored");
                    return Ok(Portion::Stored);
                }
                Outcome::TooLong(error) if rows > 1 => {
                    self.portion.too_long(rows);
                    return Ok(Portion::TooLong(error));
                }
                Outcome::Failed(error) | Outcome::TooLong(error) => return Err(error),
                Outcome::Retry(error) => {
                    self.deployment.end_abandoned().await;
                    if statements.guessed {
                        self.buckets.mistaken();
                        statements = Statements::of(&self.rollups, &increments, |_| false);
                    }
                    error
                }
                Outcome::Unknown(_) | Outcome::Fenced if self.is_at(to).await? => {
                    self.advanced(to, rows);
                    return Ok(Portion::Stored);
                }
                Outcome::Unknown(error) => error,
                Outcome::Fenced => self.changed_meanwhile(),
                Outcome::Miscounted { .. } => unreachable!("nothing is counted"),
            };
            last = Some(error);
            self.deployment.pause(pause).await;
            pause *= 2;
        }
        Err(last.expect("every round that goes on leaves its error"))
    }

    fn advanced(&mut self, to: Place, rows: usize) {
        self.document.place = to;
        self.document.rows += rows as i64;
    }

    async fn insert(&self, batches: &[RecordBatch]) -> Result<(), SinkError> {
        let inserter = Inserter {
            deployment: &self.deployment,
            collection: &self.identity.stream,
            encoder: &self.encoder,
            batch_rows: self.config.insert_batch_rows,
            concurrency: self.config.insert_concurrency,
            schema: &self.identity.declared.schema,
            former: &[],
        };
        let inserted = inserter.insert(&batches.iter().collect::<Vec<_>>()).await?;
        match inserted.different.first() {
            None => Ok(()),
            Some(id) => Err(Invariant::new(
                format!(
                    "{} documents appeared in collection {} while it was being rebuilt and differ from the lake's rows, \
                     _id {id} among them",
                    inserted.different.len(),
                    self.identity.stream
                ),
                "stop whatever writes into that collection, then start over with --restart",
            )
            .into()),
        }
    }

    fn advance(&self, to: Place, rows: i64) -> Document {
        let place = |place: Place| serialize_to_bson(&place).expect("plain values");
        let update = doc! {
            "q": { "_id": &self.document.stream, "id": &self.document.id, "phase": "filling", "place": place(self.document.place) },
            "u": { "$set": { "place": place(to) }, "$inc": { "rows": rows } },
        };
        doc! { "update": REBUILD_COLLECTION, "updates": [update] }
    }

    /// Has the step to `to` been made? Neither there nor where it begins: another rebuild is at work.
    async fn is_at(&self, to: Place) -> Result<bool, SinkError> {
        match RebuildDocument::find(&self.deployment, &self.document.stream).await? {
            Some(found) if found.id == self.document.id && found.place == to => Ok(true),
            Some(found) if found.id == self.document.id && found.place == self.document.place => Ok(false),
            _ => Err(self.overtaken()),
        }
    }

    /// Everything is stored: the stream goes on from Kafka.
    pub async fn publish(&self) -> Result<(), SinkError> {
        self.check_collections().await?;
        failpoint!("mongo.rebuild.publish");
        let document = &self.document;
        let ours = doc! { "_id": &document.stream, "id": &document.id };
        let delete = doc! { "delete": REBUILD_COLLECTION, "deletes": [{ "q": ours, "limit": 1 }] };
        let progress = self.read_progress().await?;
        let updates: Vec<Bson> = (progress.iter())
            .map(|found| {
                let expected = doc! { "_id": &found.id, "generation": document.generation, "state": "rebuilding" };
                let change = doc! { "$set": { "state": "ready" }, "$currentDate": { "updated_at": true } };
                doc! { "q": expected, "u": change }.into()
            })
            .collect();
        let count = updates.len() as u64;
        let mut changes = vec![(delete, 1)];
        if count > 0 {
            changes.push((doc! { "update": PROGRESS_COLLECTION, "updates": updates }, count));
        }
        self.make(&changes, async || self.is_published().await).await?;
        failpoint!("mongo.rebuild.published");
        Ok(())
    }

    async fn is_published(&self) -> Result<bool, SinkError> {
        let is_ours = |d: &ProgressDocument| d.generation == self.document.generation && d.state == State::Ready;
        Ok(self.read_progress().await?.iter().all(is_ours)
            && RebuildDocument::find(&self.deployment, &self.document.stream)
                .await?
                .is_none())
    }

    async fn read_progress(&self) -> Result<Vec<ProgressDocument>, SinkError> {
        let progress = self.deployment.progress(&self.identity.stream).await;
        progress.map_err(|e| e.classify("read the progress"))
    }

    async fn change(&self, changes: &[(Document, u64)], rollups: &[RawDocumentBuf]) -> Outcome {
        let plan = Plan {
            deployment: &self.deployment,
            step: Step::Changes(changes),
            rollups,
        };
        plan.run().await
    }

    fn changed_meanwhile(&self) -> SinkError {
        SinkError::Infrastructure(anyhow::anyhow!(
            "another instance has changed the progress of stream {} in mongodb meanwhile: try again",
            self.identity.stream
        ))
    }

    fn overtaken(&self) -> SinkError {
        Invariant::new(
            format!("another rebuild of stream {} is under way", self.identity.stream),
            "let it finish, or end it and run this one again",
        )
        .into()
    }
}

/// This partition's share of the losses that the lake has recorded, those that MongoDB has recorded already as they are.
fn losses_of(partition: Partition, before: Option<&ProgressDocument>, losses: &[Loss]) -> Vec<PassedOver> {
    let mut recorded = before.map(|document| document.losses.clone()).unwrap_or_default();
    for loss in losses {
        if recorded.iter().any(|known| known.id == loss.id) {
            continue;
        }
        recorded.push(PassedOver {
            id: loss.id.clone(),
            accepted_at: DateTime::from_millis(loss.accepted_at.timestamp_millis()),
            loss: loss.cause.to_string(),
            topic_id: loss.topic_id.clone(),
            from: None,
            to: loss.target(crate::sink::SinkName::Lake, partition),
        });
    }
    recorded
}

/// The stream's collection and those of its rollups.
fn collections_of(stream: &StreamConfig) -> impl Iterator<Item = &str> {
    let rollups = stream.rollups.iter().map(|rollup| rollup.name.as_str());
    [stream.name.as_str()].into_iter().chain(rollups)
}

/// Runs a command that writes; an error that the reply carries inside is one as well.
async fn written(
    deployment: &impl Deployment,
    command: &Document,
    attempted: impl std::fmt::Display,
) -> Result<Document, SinkError> {
    let reply = deployment.run(raw(command)).await;
    let reply = reply.map_err(|error| error.classify(&attempted))?;
    match WriteError::all(&reply).into_iter().next() {
        None => Ok(reply),
        Some(error) => Err(error.classify(attempted)),
    }
}

fn documents_of(reply: &Document) -> Vec<Document> {
    let batch = reply
        .get_document("cursor")
        .and_then(|cursor| cursor.get_array("firstBatch"));
    let batch = batch.map(|batch| batch.iter().filter_map(Bson::as_document).cloned().collect());
    batch.unwrap_or_default()
}

fn raw(command: &Document) -> RawDocumentBuf {
    RawDocumentBuf::try_from(command).expect("no key of ours has a zero byte")
}
