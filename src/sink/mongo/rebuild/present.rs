//! What a stream has in MongoDB before its rebuild, and whether that may be dropped.
//!
//! Owns: the look at progress, collections and an unfinished rebuild. Changes nothing.
//! Does not own: asking Kafka for what only MongoDB holds (`crate::rebuild`).

use std::collections::BTreeMap;

use super::document::RebuildDocument;
use super::kept::Kept;
use super::{Source, collections_of};
use crate::config::StreamConfig;
use crate::error::SinkError;
use crate::offsets::{OffsetRange, Partition, TopicId};
use crate::sink::mongo::deployment::Deployment;
use crate::sink::mongo::progress::{Identity, ProgressDocument, by_partition};

/// What a stream has in MongoDB before it is rebuilt.
#[derive(Debug)]
pub struct Present {
    pub unfinished: Option<RebuildDocument>,
    /// There is one whose form is not known; `--restart` does away with it.
    pub(super) unreadable: bool,
    pub progress: Standing,
    pub(super) collections: Vec<Kept>,
}

/// How far MongoDB's side of a stream is, by partition.
#[derive(Clone, Debug)]
pub struct Standing(pub(super) BTreeMap<Partition, ProgressDocument>);

impl Standing {
    /// Offsets that MongoDB holds and the lake does not: they have to come from Kafka again.
    pub fn beyond(&self, source: &Source) -> BTreeMap<Partition, OffsetRange> {
        let of_partition = |(partition, document): (&Partition, &ProgressDocument)| {
            let known = source.partitions.get(partition);
            let begin = known.map_or(document.start, |(_, next)| *next);
            (document.next > begin).then(|| (*partition, OffsetRange::new(begin, document.next)))
        };
        self.0.iter().filter_map(of_partition).collect()
    }

    /// The topic whose offsets these are.
    pub fn topic_id(&self) -> Option<&TopicId> {
        self.0
            .values()
            .map(|document| &document.topic_id)
            .find(|id| id.is_known())
    }
}

/// Looks at what is there, and refuses what is not this job's. `restart`: an unfinished rebuild need not be understood.
pub async fn look(
    deployment: &impl Deployment,
    job: &str,
    stream: &StreamConfig,
    restart: bool,
) -> Result<Present, SinkError> {
    let identity = Identity::new(job, stream);
    let (unfinished, unreadable) = match RebuildDocument::find(deployment, &stream.name).await {
        Err(SinkError::Invariant(_)) if restart => (None, true),
        found => (found?, false),
    };
    let progress = deployment.progress(&stream.name).await;
    let progress = Standing(by_partition(progress.map_err(|e| e.classify("read the progress"))?));
    for document in progress.0.values() {
        identity.check_owner(document)?;
    }
    let mut collections = Vec::new();
    for name in collections_of(stream) {
        collections.extend(Kept::of(deployment, name).await?);
    }
    Ok(Present {
        unfinished,
        unreadable,
        progress,
        collections,
    })
}

/// Collections that hold something although nothing says that it was this stream's: dropping them could take somebody
/// else's documents.
pub async fn foreign(
    deployment: &impl Deployment,
    stream: &StreamConfig,
    present: &Present,
) -> Result<Vec<String>, SinkError> {
    let mut foreign = Vec::new();
    for name in collections_of(stream) {
        let known = if name == stream.name {
            !present.progress.0.is_empty()
        } else {
            let is_named =
                |document: &ProgressDocument| document.rollups.split("; ").any(|r| r.starts_with(&format!("{name} ")));
            present.progress.0.values().any(is_named)
        };
        if !known && deployment.refuse_foreign(&[name]).await.is_err() {
            foreign.push(name.to_owned());
        }
    }
    Ok(foreign)
}
