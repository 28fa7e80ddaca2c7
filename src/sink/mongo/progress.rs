//! The progress documents of a stream: where it is, and to whom it belongs.
//!
//! Owns: their form (a contract, versioned), reading them at majority, the rules by which a mismatch stops.
//! Does not own: moving them — that is the transaction's compare-and-set (`transaction`).

use std::collections::BTreeMap;

use anyhow::Context;
use bson::{DateTime, Document, doc};
use futures::TryStreamExt;
use mongodb::options::{Acknowledgment, DatabaseOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern};
use mongodb::{Collection, Database};
use serde::{Deserialize, Serialize};

use super::error::{CallError, MAJORITY_TIMEOUT, call};
use super::rebuild::Reads;
use super::topology;
use crate::config::{MongoConfig, StreamConfig};
use crate::error::{Invariant, SinkError};
use crate::event_time::Micros;
use crate::offsets::{Epoch, Offset, Partition, TopicId};
use crate::rollup;
use crate::schema::evolution::{self, Declared, Fit, Recorded};

/// The collection of all streams' progress documents.
pub const PROGRESS_COLLECTION: &str = "_affluent_progress";
/// Form of the progress document.
pub const VERSION: i32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ready,
    /// `affluent rebuild mongo` is at work: nobody else may write.
    Rebuilding,
}

/// One partition's progress, as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProgressDocument {
    /// `<collection>/<partition>`
    #[serde(rename = "_id")]
    pub id: String,
    pub version: i32,
    pub job: String,
    pub stream: String,
    pub topic: String,
    pub topic_id: TopicId,
    pub epoch: Epoch,
    /// Raised by a rebuild: whoever read an older generation has lost the partition.
    pub generation: i64,
    pub state: State,
    /// Where the stream began.
    pub start: Offset,
    /// Next offset to read.
    pub next: Offset,
    /// Highest event time of the stored records, cut to the millisecond; absent where none has been stored since
    /// affluent keeps it. No fence looks at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_time: Option<DateTime>,
    pub schema: String,
    pub rollups: String,
    pub updated_at: DateTime,
    /// What an operator let this partition pass over, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub losses: Vec<PassedOver>,
    /// The schemas before the present one, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former_schemas: Vec<FormerSchema>,
}

/// A schema that was in force in this partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FormerSchema {
    pub schema: String,
    pub epoch: Epoch,
    /// Documents below were stored under it.
    pub until: Offset,
    pub replaced_at: DateTime,
}

/// One partition's share of a [`crate::loss::Loss`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PassedOver {
    /// The loss's: the same in the lake's record of it.
    pub id: String,
    pub accepted_at: DateTime,
    /// In words.
    pub loss: String,
    /// The topic whose offsets these are; absent ends are not known.
    pub topic_id: TopicId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Offset>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Offset>,
}

impl ProgressDocument {
    pub fn partition(&self) -> Option<Partition> {
        let (_, partition) = self.id.rsplit_once('/')?;
        partition.parse().ok().map(Partition)
    }

    /// The stored event time, in microseconds.
    pub fn event_time_micros(&self) -> Option<Micros> {
        self.event_time.map(|time| time.timestamp_millis().saturating_mul(1000))
    }

    /// What a compare-and-set must find unchanged besides `next`.
    pub(super) fn fence(&self) -> Document {
        doc! {
            "_id": &self.id,
            "job": &self.job,
            "generation": self.generation,
            "state": "ready",
            "topic_id": &self.topic_id.0,
            "epoch": i32::from(self.epoch.0),
            "schema": &self.schema,
            "rollups": &self.rollups,
        }
    }
}

/// An event time as a progress document keeps it: cut to the millisecond below.
pub(super) fn stored_event_time(micros: Micros) -> DateTime {
    DateTime::from_millis(micros.div_euclid(1000))
}

/// A stream's progress for `status` and `verify`, at majority; empty where nothing has been recorded.
pub async fn read_progress(mongo: &MongoConfig, stream: &str) -> anyhow::Result<Vec<ProgressDocument>> {
    let (client, _) = topology::client(&mongo.uri, None).await?;
    let collection = collection(&client.database(&mongo.database));
    let documents = read(&collection, stream).await;
    documents.with_context(|| format!("cannot read the progress of stream {stream} in mongodb"))
}

/// The same, of a database that is open: for whoever asks often.
pub async fn progress_of(database: &Database, stream: &str) -> Result<Vec<ProgressDocument>, CallError> {
    read(&collection(database), stream).await
}

/// A database to read from, by the primary whatever the URI prefers. Connects on first use.
pub async fn reader(mongo: &MongoConfig) -> anyhow::Result<Database> {
    let (client, _) = topology::client(&mongo.uri, None).await?;
    let options = DatabaseOptions::builder().selection_criteria(primary()).build();
    Ok(client.database_with_options(&mongo.database, options))
}

pub(super) fn collection(database: &Database) -> Collection<ProgressDocument> {
    database.collection(PROGRESS_COLLECTION)
}

/// All progress documents of a stream, at majority from the primary.
pub(super) async fn read(
    collection: &Collection<ProgressDocument>,
    stream: &str,
) -> Result<Vec<ProgressDocument>, CallError> {
    // "<stream>/" up to, not including, "<stream>0": '0' follows '/'.
    let filter = doc! { "_id": { "$gt": format!("{stream}/"), "$lt": format!("{stream}0") } };
    call(async {
        let find = collection
            .find(filter)
            .read_concern(ReadConcern::majority())
            .selection_criteria(primary());
        find.await?.try_collect().await
    })
    .await
}

pub(super) fn primary() -> SelectionCriteria {
    SelectionCriteria::ReadPreference(ReadPreference::Primary)
}

pub(super) fn majority() -> WriteConcern {
    WriteConcern::builder()
        .w(Acknowledgment::Majority)
        .w_timeout(MAJORITY_TIMEOUT)
        .build()
}

/// Who we are: what every progress document of this stream must say.
#[derive(Clone, Debug)]
pub struct Identity {
    pub job: String,
    pub stream: String,
    pub topic: String,
    pub declared: Declared,
    pub rollups: String,
    rollup_names: Vec<String>,
}

impl Identity {
    pub fn new(job: &str, stream: &StreamConfig) -> Self {
        Self {
            job: job.to_owned(),
            stream: stream.name.clone(),
            topic: stream.topic.clone(),
            declared: Declared {
                may_be_former: stream.former_schema,
                ..Declared::new(&stream.schema)
            },
            rollups: rollup::fingerprint(&stream.rollups, &stream.schema),
            rollup_names: stream.rollups.iter().map(|r| r.name.clone()).collect(),
        }
    }

    pub fn document_id(&self, partition: Partition) -> String {
        format!("{}/{partition}", self.stream)
    }

    /// A document for a partition that begins at `start`. A partition that appears later joins the epoch and
    /// generation of its siblings: record ids and fences are the stream's.
    pub fn begin(
        &self,
        partition: Partition,
        start: Offset,
        topic_id: &TopicId,
        siblings: &BTreeMap<Partition, ProgressDocument>,
    ) -> ProgressDocument {
        ProgressDocument {
            id: self.document_id(partition),
            version: VERSION,
            job: self.job.clone(),
            stream: self.stream.clone(),
            topic: self.topic.clone(),
            topic_id: topic_id.clone(),
            epoch: siblings.values().map(|d| d.epoch).max().unwrap_or_default(),
            generation: siblings.values().map(|d| d.generation).max().unwrap_or_default(),
            state: State::Ready,
            start,
            next: start,
            event_time: None,
            schema: self.declared.fingerprint.clone(),
            rollups: self.rollups.clone(),
            updated_at: DateTime::now(),
            losses: Vec::new(),
            former_schemas: Vec::new(),
        }
    }

    /// The document as it must be found for a commit of ours: under our declaration, whatever it says.
    pub fn under_our_schema(&self, document: &ProgressDocument) -> ProgressDocument {
        ProgressDocument {
            schema: self.declared.fingerprint.clone(),
            ..document.clone()
        }
    }

    /// May we go on with a rebuild that reads this?
    pub(super) fn check_continued(&self, reads: &Reads) -> Result<(), SinkError> {
        for (what, begun, declared) in [
            ("fields", &reads.schema, &self.declared.fingerprint),
            ("rollups", &reads.rollups, &self.rollups),
        ] {
            if begun != declared {
                return stop(
                    format!(
                        "an unfinished rebuild of stream {} was begun with other {what}: `{begun}`, not `{declared}`",
                        self.stream
                    ),
                    "finish it with the configuration that it was begun with, or start over with --restart",
                );
            }
        }
        Ok(())
    }

    /// Is this document of a form we know, and of this ingestion?
    pub fn check_owner(&self, stored: &ProgressDocument) -> Result<(), SinkError> {
        let stream = &self.stream;
        if stored.version != VERSION {
            return stop(
                format!(
                    "the progress of {} has form {}, this version knows {VERSION}",
                    stored.id, stored.version
                ),
                "run the version of affluent that wrote it, or a newer one",
            );
        }
        if stored.job != self.job {
            return stop(
                format!(
                    "the collection {stream} belongs to job `{}`, this is job `{}`",
                    stored.job, self.job
                ),
                "use that job's name if this is the same ingestion; else another mongo.database or stream name",
            );
        }
        if stored.topic != self.topic {
            return stop(
                format!(
                    "the collection {stream} was filled from topic `{}`, not `{}`",
                    stored.topic, self.topic
                ),
                "name that topic again, or give the new topic a stream of its own",
            );
        }
        Ok(())
    }

    /// May we write where this document says where we are: as it is, or once our declaration is in force?
    pub fn check(&self, stored: &ProgressDocument, topic_id: &TopicId) -> Result<Fit, SinkError> {
        self.check_owner(stored)?;
        let stream = &self.stream;
        if stored.topic_id != *topic_id && stored.topic_id.is_known() && topic_id.is_known() {
            return stop(
                format!(
                    "topic {} was re-created: its id is {topic_id}, the progress of {} counts offsets of {}",
                    self.topic, stored.id, stored.topic_id
                ),
                "give the new topic's data a stream of its own (name, mongo collection, lake table); its offsets \
                 start over, so going on here would skip or double records",
            );
        }
        let recorded = Recorded {
            schema: &stored.schema,
            former: stored
                .former_schemas
                .iter()
                .map(|former| former.schema.as_str())
                .collect(),
        };
        let fit = evolution::judge(&recorded, &self.declared).map_err(|refusal| {
            let place = format!("mongodb's collection {stream}");
            refusal.invariant(stream, &place, "in mongodb")
        })?;
        if stored.rollups != self.rollups {
            return self.stop_for_rollups(stored);
        }
        if stored.state == State::Rebuilding {
            return Err(SinkError::Infrastructure(anyhow::anyhow!(
                "a rebuild of stream {stream} in mongodb is under way (generation {}): waiting for its end",
                stored.generation
            )));
        }
        Ok(fit)
    }

    fn stop_for_rollups<T>(&self, stored: &ProgressDocument) -> Result<T, SinkError> {
        let or_none = |text: &str| {
            if text.is_empty() {
                "none".to_owned()
            } else {
                format!("`{text}`")
            }
        };
        let mut collections = vec![self.stream.as_str()];
        collections.extend(self.rollup_names.iter().map(String::as_str));
        stop(
            format!(
                "the rollup definitions of stream {} changed from {} to {}; what is stored was added up by the old ones",
                self.stream,
                or_none(&stored.rollups),
                or_none(&self.rollups)
            ),
            format!(
                "change them back; or build mongodb's side anew from the lake: `affluent rebuild mongo --stream {}`, \
                 which re-creates {}",
                self.stream,
                collections.join(", ")
            ),
        )
    }
}

fn stop<T>(what: impl Into<String>, choices: impl Into<String>) -> Result<T, SinkError> {
    Err(Invariant::new(what, choices).into())
}

/// Splits documents by partition; one whose `_id` names no partition is not ours to judge and is left out.
pub(super) fn by_partition(documents: Vec<ProgressDocument>) -> BTreeMap<Partition, ProgressDocument> {
    documents
        .into_iter()
        .filter_map(|d| Some((d.partition()?, d)))
        .collect()
}
