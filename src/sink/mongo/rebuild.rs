//! Re-creating a stream's side of MongoDB from rows that the lake holds: the steps, each of which may be the last one
//! before a crash.
//!
//! Owns: the order that keeps it safe:
//!
//! ```text
//!  begin    one transaction: every progress document to the next generation and `rebuilding`; the rebuild's document
//!           written. From here on nobody else's commit goes through, and progress stands still to be judged.
//!  accept   one transaction: the progress documents take the lake's offsets     (or call off: everything as it was)
//!  clear    the collections dropped and made anew, with the options and indexes they had
//!  store    a portion of rows: documents inserted, then one transaction: place of the rebuild ▸ rollups
//!  publish  one transaction: the rebuild's document deleted, the progress documents `ready`
//! ```
//!
//! Whoever goes on with an unfinished rebuild takes it over, by another id in its document: a process that still works on
//! it finds itself overtaken at its next step, before it drops anything. Should a drop have been on its way already, the
//! collections' identities tell. Rollups are made by the same transactions as ever, only the place stands where progress
//! does, so that a portion counts once.
//! Does not own: the look before it (`present`), what stays of a dropped collection (`kept`), reading the lake (`lake::rows`), whether it may begin at all, and what a person sees (`crate::rebuild`).

mod document;
mod kept;
mod present;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arrow::array::RecordBatch;
use bson::{Bson, DateTime, Document, RawDocumentBuf, doc, serialize_to_bson};

pub use self::document::{Phase, Reads, RebuildDocument};
use self::document::{REBUILD_COLLECTION, VERSION};
use self::kept::{Kept, create};
pub use self::present::{Present, Standing, foreign, look};
use super::buckets::KnownBuckets;
use super::deployment::Deployment;
use super::document::Encoder;
use super::error::WriteError;
use super::insert::Inserter;
use super::portion::PortionSize;
use super::progress::{
    FormerSchema, Identity, PROGRESS_COLLECTION, PassedOver, ProgressDocument, State, VERSION as PROGRESS_VERSION,
    by_partition, stored_event_time,
};
use super::statements::Statements;
use super::transaction::{Outcome, Plan, Step, number};
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
    fn on(deployment: D, job: &str, stream: &StreamConfig, document: RebuildDocument) -> Self {
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

    /// Takes an unfinished one over: whoever worked on it has lost it.
    pub async fn resume(
        deployment: D,
        job: &str,
        stream: &StreamConfig,
        document: RebuildDocument,
    ) -> Result<Self, SinkError> {
        let mut rebuild = Self::on(deployment, job, stream, document);
        if let Some(reads) = &rebuild.document.reads {
            rebuild.identity.check_continued(reads)?;
        }
        let mut document = rebuild.document.clone();
        document.id = uuid::Uuid::new_v4().to_string();
        rebuild.replace(document).await?;
        Ok(rebuild)
    }

    /// Begins a new one, over an unfinished one if there is any. From here on no commit of anybody else goes through.
    pub async fn begin(deployment: D, job: &str, stream: &StreamConfig, present: &Present) -> Result<Self, SinkError> {
        let of_progress = present.progress.0.values().map(|document| document.generation);
        let of_rebuild = present.unfinished.iter().map(|document| document.generation);
        let document = RebuildDocument {
            stream: stream.name.clone(),
            version: VERSION,
            id: uuid::Uuid::new_v4().to_string(),
            generation: of_progress.chain(of_rebuild).max().unwrap_or_default() + 1,
            // Of one that is not understood nobody knows.
            dropped: present.unreadable || present.unfinished.as_ref().is_some_and(|found| found.dropped),
            reads: None,
            phase: Phase::Judging,
            collections: match &present.unfinished {
                // Of collections that it may have dropped already.
                Some(unfinished) => unfinished.merged(&present.collections),
                None => present.collections.clone(),
            },
            place: Place::default(),
            rows: 0,
            started_at: DateTime::now(),
        };
        let rebuild = Self::on(deployment, job, stream, document);
        rebuild.fence(present).await?;
        Ok(rebuild)
    }

    /// What stands in MongoDB, now that nobody moves it.
    pub async fn standing(&self) -> Result<Standing, SinkError> {
        Ok(Standing(by_partition(self.read_progress().await?)))
    }

    pub fn document(&self) -> &RebuildDocument {
        &self.document
    }

    /// Rows that the next portion should have.
    pub fn portion_rows(&self) -> usize {
        self.portion.rows()
    }

    async fn fence(&self, present: &Present) -> Result<(), SinkError> {
        create(&self.deployment, REBUILD_COLLECTION, &Document::new()).await?;
        create(&self.deployment, PROGRESS_COLLECTION, &Document::new()).await?;
        let document = self.document_bson();
        let id = &self.document.stream;
        let replaced = match &present.unfinished {
            Some(unfinished) => Some(doc! { "_id": id, "id": &unfinished.id }),
            None => present.unreadable.then(|| doc! { "_id": id }),
        };
        let mut changes = vec![match replaced {
            None => (doc! { "insert": REBUILD_COLLECTION, "documents": [document] }, 1),
            Some(found) => {
                let update = doc! { "q": found, "u": document };
                (doc! { "update": REBUILD_COLLECTION, "updates": [update] }, 1)
            }
        }];
        // Not compared with `next`: living owners move it all the time, until this goes through.
        let raised = doc! { "$set": { "generation": self.document.generation, "state": "rebuilding" } };
        let updates = present.progress.0.values().map(|before| {
            let expected = doc! { "_id": &before.id, "job": &before.job, "generation": before.generation };
            doc! { "q": expected, "u": raised.clone() }
        });
        changes.extend(updates_of(updates.collect()));
        failpoint!("mongo.rebuild.begin");
        self.make(&changes, async || Ok(self.find_ours().await?.is_some()))
            .await
    }

    /// Nothing would be lost: the progress documents take the lake's offsets, and the collections may be dropped.
    pub async fn accept(&mut self, source: &Source) -> Result<(), SinkError> {
        let Standing(standing) = self.standing().await?;
        let mut document = self.document.clone();
        document.dropped = true;
        document.phase = Phase::Clearing;
        document.reads = Some(Reads {
            table: source.table.clone(),
            version: source.version as i64,
            schema: self.identity.declared.fingerprint.clone(),
            rollups: self.identity.rollups.clone(),
        });
        let mut updates = Vec::new();
        let mut inserts: Vec<Bson> = Vec::new();
        let all = standing.keys().chain(source.partitions.keys());
        for partition in all.collect::<BTreeSet<_>>() {
            let before = standing.get(partition);
            let after = serialize_to_bson(&self.progress_of(*partition, before, source)).expect("plain values");
            match before {
                None => inserts.push(after),
                // Also one that was begun meanwhile by an owner that had not seen the new generation.
                Some(before) => {
                    let expected = doc! { "_id": &before.id, "generation": before.generation, "next": before.next };
                    updates.push(doc! { "q": expected, "u": after });
                }
            }
        }
        let mut changes = vec![self.replacing(&document)];
        changes.extend(updates_of(updates));
        if !inserts.is_empty() {
            let count = inserts.len() as u64;
            changes.push((doc! { "insert": PROGRESS_COLLECTION, "documents": inserts }, count));
        }
        failpoint!("mongo.rebuild.accept");
        let is_made = async || {
            let found = self.find_ours().await?;
            Ok(found.is_some_and(|found| found.phase == Phase::Clearing))
        };
        self.make(&changes, is_made).await?;
        self.document = document;
        Ok(())
    }

    /// Before anything was dropped: the stream goes on as if nothing had been. Answers whether that was possible.
    pub async fn call_off(self) -> Result<bool, SinkError> {
        if self.document.dropped {
            return Ok(false);
        }
        let changes = self.ending().await?;
        self.make(&changes, async || self.is_published().await).await?;
        Ok(true)
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
        match self.document.phase {
            Phase::Judging => return Err(self.overtaken()),
            Phase::Clearing => {}
            Phase::Filling => return self.check_collections().await,
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
            // Nobody else's work is dropped: whoever has taken over is seen here.
            if self.find_ours().await?.is_none() {
                return Err(self.overtaken());
            }
            if kept.name != self.identity.stream {
                // What the former definitions let go may be to stay now; the next run sees to it.
                kept.forget_expiry();
            }
            kept.make_anew(&self.deployment).await?;
        }
        failpoint!("mongo.rebuild.cleared");
        let mut document = self.document.clone();
        document.phase = Phase::Filling;
        document.collections = collections;
        self.replace(document).await
    }

    /// Writes the rebuild's document anew, where it is still ours.
    async fn replace(&mut self, document: RebuildDocument) -> Result<(), SinkError> {
        let (mut command, _) = self.replacing(&document);
        command.insert("writeConcern", doc! { "w": "majority", "wtimeout": 20_000 });
        let reply = written(&self.deployment, &command, "record how far the rebuild is").await?;
        if number(&reply, "n") != 1 {
            return Err(self.overtaken());
        }
        self.document = document;
        Ok(())
    }

    fn replacing(&self, document: &RebuildDocument) -> (Document, u64) {
        let ours = doc! { "_id": &self.document.stream, "id": &self.document.id };
        let update = doc! { "q": ours, "u": serialize_to_bson(document).expect("plain values") };
        (doc! { "update": REBUILD_COLLECTION, "updates": [update] }, 1)
    }

    async fn find_ours(&self) -> Result<Option<RebuildDocument>, SinkError> {
        let found = RebuildDocument::find(&self.deployment, &self.document.stream).await?;
        Ok(found.filter(|found| found.id == self.document.id))
    }

    fn document_bson(&self) -> Bson {
        serialize_to_bson(&self.document).expect("plain values")
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
        match self.find_ours().await? {
            Some(found) if found.place == to => Ok(true),
            Some(found) if found.place == self.document.place => Ok(false),
            _ => Err(self.overtaken()),
        }
    }

    /// Everything is stored: the stream goes on from Kafka.
    pub async fn publish(&self) -> Result<(), SinkError> {
        self.check_collections().await?;
        failpoint!("mongo.rebuild.publish");
        let changes = self.ending().await?;
        self.make(&changes, async || self.is_published().await).await?;
        failpoint!("mongo.rebuild.published");
        Ok(())
    }

    /// The rebuild's document goes, the progress documents are ready.
    async fn ending(&self) -> Result<Vec<(Document, u64)>, SinkError> {
        let document = &self.document;
        let progress = self.read_progress().await?;
        if let Some(stranger) = progress.iter().find(|found| found.generation != document.generation) {
            return Err(Invariant::new(
                format!(
                    "an instance that had not seen the rebuild has begun {} in its own way (generation {})",
                    stranger.id, stranger.generation
                ),
                "start over with --restart",
            )
            .into());
        }
        let ours = doc! { "_id": &document.stream, "id": &document.id };
        let delete = doc! { "delete": REBUILD_COLLECTION, "deletes": [{ "q": ours, "limit": 1 }] };
        let updates = progress.iter().map(|found| {
            let expected = doc! { "_id": &found.id, "generation": document.generation, "state": "rebuilding" };
            let change = doc! { "$set": { "state": "ready" }, "$currentDate": { "updated_at": true } };
            doc! { "q": expected, "u": change }
        });
        let mut changes = vec![(delete, 1)];
        changes.extend(updates_of(updates.collect()));
        Ok(changes)
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

/// All of them, or none.
fn updates_of(updates: Vec<Document>) -> Option<(Document, u64)> {
    let count = updates.len() as u64;
    (count > 0).then(|| (doc! { "update": PROGRESS_COLLECTION, "updates": updates }, count))
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
