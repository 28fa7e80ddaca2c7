//! MongoDB's side, read at majority from the primary: progress, documents, rollups.
//!
//! Owns: the queries. Progress and rollups come from one snapshot, so that they belong together while an
//! ingestion goes on; documents below that progress do not change any more and are read when they are needed.
//! Does not own: what a document says (`document`), or any comparison.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use bson::raw::{RawBsonRef, RawDocument};
use bson::{Bson, RawDocumentBuf, doc};
use mongodb::error::ErrorKind;
use mongodb::options::{
    ClientOptions, CollectionOptions, Hint, ReadConcern, ReadPreference, SelectionCriteria, SessionOptions,
};
use mongodb::{Client, ClientSession, Collection, Database};

use super::plan::Reach;
use super::records::Coordinates;
use crate::config::{MongoConfig, StreamConfig};
use crate::offsets::{Epoch, Offset, Partition, RecordId, TopicId};

const PROGRESS_COLLECTION: &str = "_affluent_progress";

/// The server has created or dropped a collection since the snapshot: a new snapshot will do.
const SNAPSHOT_UNAVAILABLE: i32 = 246;

/// A hundred kilobytes of query: far below the server's limit of 16 MiB.
const IDS_PER_QUERY: usize = 10_000;

#[derive(Clone, Debug)]
pub struct MongoSide {
    client: Client,
    database: Database,
}

/// Progress and rollups of one instant.
#[derive(Clone, Debug, Default)]
pub struct MongoSnapshot {
    pub progress: BTreeMap<Partition, PartitionProgress>,
    /// The documents of each rollup, in the configuration's order.
    pub rollups: Vec<Vec<RawDocumentBuf>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionProgress {
    pub job: String,
    pub topic_id: TopicId,
    pub epoch: Epoch,
    pub state: String,
    pub start: Offset,
    pub next: Offset,
    /// Absent where another program wrote the document.
    pub schema: Option<String>,
    /// The schemas before it, oldest first.
    pub former: Vec<FormerSchema>,
}

/// Documents below `until` were stored under `schema`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormerSchema {
    pub schema: String,
    pub epoch: Epoch,
    pub until: Offset,
}

impl MongoSide {
    pub async fn connect(mongo: &MongoConfig) -> anyhow::Result<Self> {
        let mut options = ClientOptions::parse(&mongo.uri)
            .await
            .context("cannot read mongo.uri")?;
        options.app_name.get_or_insert_with(|| "affluent verify".to_owned());
        let client = Client::with_options(options).context("cannot connect to mongodb")?;
        let database = client.database(&mongo.database);
        Ok(Self { client, database })
    }

    pub async fn snapshot(&self, stream: &StreamConfig) -> anyhow::Result<MongoSnapshot> {
        const TRIES: usize = 5;
        let mut tried = 0;
        loop {
            tried += 1;
            match self.try_snapshot(stream).await {
                Err(error) if tried < TRIES && is_snapshot_unavailable(&error) => {}
                result => return result.context("cannot read a snapshot of mongodb"),
            }
        }
    }

    async fn try_snapshot(&self, stream: &StreamConfig) -> anyhow::Result<MongoSnapshot> {
        let options = SessionOptions::builder().snapshot(true).build();
        let mut session = self.client.start_session().with_options(options).await?;
        let mut snapshot = MongoSnapshot::default();

        // "<stream>/" up to, not including, "<stream>0": '0' follows '/'.
        let of_stream = doc! { "_id": { "$gte": format!("{}/", stream.name), "$lt": format!("{}0", stream.name) } };
        for document in self.in_snapshot(&mut session, PROGRESS_COLLECTION, of_stream).await? {
            let (partition, progress) = progress(&document)
                .with_context(|| format!("a document of {PROGRESS_COLLECTION} cannot be read: {document:?}"))?;
            snapshot.progress.insert(partition, progress);
        }
        for rollup in &stream.rollups {
            snapshot
                .rollups
                .push(self.in_snapshot(&mut session, &rollup.name, doc! {}).await?);
        }
        Ok(snapshot)
    }

    async fn in_snapshot(
        &self,
        session: &mut ClientSession,
        collection: &str,
        filter: bson::Document,
    ) -> anyhow::Result<Vec<RawDocumentBuf>> {
        let collection = self.collection(collection, ReadConcern::snapshot());
        let mut cursor = collection.find(filter).session(&mut *session).await?;
        let mut documents = Vec::new();
        while cursor.advance(session).await? {
            documents.push(cursor.current().to_owned());
        }
        Ok(documents)
    }

    /// The largest offset of a partition that has a document.
    pub async fn last_offset(
        &self,
        stream: &StreamConfig,
        epoch: Epoch,
        partition: Partition,
    ) -> anyhow::Result<Option<Offset>> {
        let Some(first) = RecordId::new(epoch, partition, 0) else {
            return Ok(None);
        };
        let last = first.0 | ((1 << RecordId::OFFSET_BITS) - 1);
        let found = self
            .collection(&stream.name, ReadConcern::majority())
            .find_one(doc! { "_id": { "$gte": first.0, "$lte": last } })
            .sort(doc! { "_id": -1 })
            .projection(doc! { "_id": 1 })
            .await
            .with_context(|| format!("cannot read the last document of {}", stream.name))?;
        Ok(found
            .and_then(|document| document.get_i64("_id").ok())
            .map(|id| RecordId(id).offset()))
    }

    /// Shows every document whose `_id` is a number in `[from, to)`.
    pub async fn documents(
        &self,
        stream: &StreamConfig,
        (from, to): (i64, i64),
        mut show: impl FnMut(&RawDocument),
    ) -> anyhow::Result<()> {
        let collection = self.collection(&stream.name, ReadConcern::majority());
        let reading = async {
            let filter = doc! { "_id": { "$gte": from, "$lt": to } };
            let mut cursor = collection.find(filter).sort(doc! { "_id": 1 }).await?;
            while cursor.advance().await? {
                show(cursor.current());
            }
            mongodb::error::Result::Ok(())
        };
        reading
            .await
            .with_context(|| format!("cannot read documents of {}", stream.name))
    }

    /// Shows every `_id` in `[from, to)`, whatever its type: index bounds, unlike a filter, span all types.
    pub async fn ids(
        &self,
        stream: &StreamConfig,
        (from, to): (Option<i64>, Option<i64>),
        mut show: impl FnMut(RawBsonRef<'_>),
    ) -> anyhow::Result<()> {
        let collection = self.collection(&stream.name, ReadConcern::majority());
        let reading = async {
            let mut cursor = collection
                .find(doc! {})
                .hint(Hint::Keys(doc! { "_id": 1 }))
                .min(doc! { "_id": from.map_or(Bson::MinKey, Bson::Int64) })
                .max(doc! { "_id": to.map_or(Bson::MaxKey, Bson::Int64) })
                .projection(doc! { "_id": 1 })
                .await?;
            while cursor.advance().await? {
                if let Ok(Some(id)) = cursor.current().get("_id") {
                    show(id);
                }
            }
            mongodb::error::Result::Ok(())
        };
        reading
            .await
            .with_context(|| format!("cannot read ids of {}", stream.name))
    }

    /// Of these records, those that have a document.
    pub async fn holding(
        &self,
        stream: &StreamConfig,
        epoch: Epoch,
        wanted: &BTreeSet<Coordinates>,
    ) -> anyhow::Result<BTreeSet<Coordinates>> {
        let ids = wanted
            .iter()
            .filter_map(|(partition, offset)| RecordId::new(epoch, *partition, *offset));
        let ids: Vec<i64> = ids.map(|id| id.0).collect();
        let collection = self.collection(&stream.name, ReadConcern::majority());
        let mut held = BTreeSet::new();
        for portion in ids.chunks(IDS_PER_QUERY) {
            let reading = async {
                let found = collection.find(doc! { "_id": { "$in": portion } });
                let mut cursor = found.projection(doc! { "_id": 1 }).await?;
                while cursor.advance().await? {
                    if let Ok(Some(RawBsonRef::Int64(id))) = cursor.current().get("_id") {
                        held.insert((RecordId(id).partition(), RecordId(id).offset()));
                    }
                }
                mongodb::error::Result::Ok(())
            };
            reading
                .await
                .with_context(|| format!("cannot look documents of {} up", stream.name))?;
        }
        Ok(held)
    }

    fn collection(&self, name: &str, concern: ReadConcern) -> Collection<RawDocumentBuf> {
        let options = CollectionOptions::builder()
            .read_concern(concern)
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .build();
        self.database.collection_with_options(name, options)
    }
}

impl PartitionProgress {
    /// With documents up to and including `last`.
    pub fn reach(&self, last: Option<Offset>) -> Reach {
        Reach {
            start: self.start,
            next: self.next,
            end: last.map_or(self.next, |last| self.next.max(last + 1)),
        }
    }
}

/// A progress document; `None` where it is not of the agreed form.
fn progress(document: &RawDocument) -> Option<(Partition, PartitionProgress)> {
    let (_, partition) = document.get_str("_id").ok()?.rsplit_once('/')?;
    let text = |name| document.get_str(name).map(str::to_owned).ok();
    let integer = |name| integer(document, name);
    let progress = PartitionProgress {
        job: text("job")?,
        topic_id: TopicId(text("topic_id")?),
        epoch: Epoch(u8::try_from(integer("epoch")?).ok()?),
        state: text("state")?,
        start: integer("start")?,
        next: integer("next")?,
        schema: text("schema"),
        former: match document.get_array("former_schemas") {
            Ok(former) => former
                .into_iter()
                .map(|found| former_schema(found.ok()?))
                .collect::<Option<_>>()?,
            Err(_) => Vec::new(),
        },
    };
    Some((Partition(partition.parse().ok()?), progress))
}

fn former_schema(found: RawBsonRef<'_>) -> Option<FormerSchema> {
    let document = found.as_document()?;
    Some(FormerSchema {
        schema: document.get_str("schema").ok()?.to_owned(),
        epoch: Epoch(u8::try_from(integer(document, "epoch")?).ok()?),
        until: integer(document, "until")?,
    })
}

fn integer(document: &RawDocument, name: &str) -> Option<i64> {
    match document.get(name).ok()?? {
        RawBsonRef::Int64(value) => Some(value),
        RawBsonRef::Int32(value) => Some(value.into()),
        _ => None,
    }
}

fn is_snapshot_unavailable(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<mongodb::error::Error>();
    error.is_some_and(|error| matches!(*error.kind, ErrorKind::Command(ref e) if e.code == SNAPSHOT_UNAVAILABLE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_progress_document_is_read_and_others_are_not() {
        let document = doc! { "_id": "sales/3", "version": 1, "job": "shop", "stream": "sales", "topic": "sales",
        "topic_id": "abc", "epoch": 1, "generation": 2i64, "state": "ready", "start": 5i64, "next": 9i64,
        "schema": "b", "former_schemas": [{ "schema": "a", "epoch": 1, "until": 7i64 }] };
        let raw = |document: &bson::Document| RawDocumentBuf::try_from(document).unwrap();
        let (partition, progress) = super::progress(&raw(&document)).unwrap();
        assert_eq!(partition, Partition(3));
        let expected = PartitionProgress {
            job: "shop".into(),
            topic_id: TopicId("abc".into()),
            epoch: Epoch(1),
            state: "ready".into(),
            start: 5,
            next: 9,
            schema: Some("b".into()),
            former: vec![FormerSchema {
                schema: "a".into(),
                epoch: Epoch(1),
                until: 7,
            }],
        };
        assert_eq!(progress, expected);
        for name in ["_id", "job", "topic_id", "epoch", "state", "start", "next"] {
            let mut without = document.clone();
            without.remove(name);
            assert!(super::progress(&raw(&without)).is_none(), "{name}");
        }
    }

    #[test]
    fn documents_beyond_progress_extend_the_reach() {
        let progress = PartitionProgress {
            job: "shop".into(),
            topic_id: TopicId::unknown(),
            epoch: Epoch(0),
            state: "ready".into(),
            start: 5,
            next: 9,
            schema: None,
            former: Vec::new(),
        };
        assert_eq!(progress.reach(None).end, 9);
        assert_eq!(progress.reach(Some(8)).end, 9);
        assert_eq!(progress.reach(Some(20)).end, 21);
    }
}
