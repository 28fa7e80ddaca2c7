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
use crate::offsets::{Offset, Partition, TopicId};
use crate::sink::mongo::deployment::Deployment;
use crate::sink::mongo::progress::{Identity, ProgressDocument, by_partition};

/// What a stream has in MongoDB before it is rebuilt.
#[derive(Debug)]
pub struct Present {
    pub unfinished: Option<RebuildDocument>,
    pub(super) progress: BTreeMap<Partition, ProgressDocument>,
    pub(super) collections: Vec<Kept>,
}

impl Present {
    /// Offsets that MongoDB holds and the lake does not: they have to come from Kafka again.
    pub fn beyond<'a>(&'a self, source: &'a Source) -> impl Iterator<Item = (Partition, Offset, Offset)> + 'a {
        self.progress.iter().filter_map(|(partition, document)| {
            let begin = source
                .partitions
                .get(partition)
                .map_or(document.start, |(_, next)| *next);
            (document.next > begin).then_some((*partition, begin, document.next))
        })
    }

    /// The topic whose offsets MongoDB's progress counts.
    pub fn topic_id(&self) -> Option<&TopicId> {
        self.progress
            .values()
            .map(|document| &document.topic_id)
            .find(|id| id.is_known())
    }
}

/// Looks at what is there, and refuses what is not this job's.
pub async fn look(deployment: &impl Deployment, job: &str, stream: &StreamConfig) -> Result<Present, SinkError> {
    let identity = Identity::new(job, stream);
    let unfinished = RebuildDocument::find(deployment, &stream.name).await?;
    let progress = deployment.progress(&stream.name).await;
    let progress = by_partition(progress.map_err(|e| e.classify("read the progress"))?);
    for document in progress.values() {
        identity.check_owner(document)?;
    }
    let mut collections = Vec::new();
    for name in collections_of(stream) {
        collections.extend(Kept::of(deployment, name).await?);
    }
    Ok(Present {
        unfinished,
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
            !present.progress.is_empty()
        } else {
            let is_named =
                |document: &ProgressDocument| document.rollups.split("; ").any(|r| r.starts_with(&format!("{name} ")));
            present.progress.values().any(is_named)
        };
        if !known && deployment.refuse_foreign(&[name]).await.is_err() {
            foreign.push(name.to_owned());
        }
    }
    Ok(foreign)
}
