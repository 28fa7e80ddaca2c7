//! What a table has recorded, for those who look from outside: `status` and `verify`.
//!
//! Owns: reading without creating or checking anything; a table of another job, or a damaged one, can be
//! looked at all the same.

use std::collections::{BTreeMap, BTreeSet};

use super::delta::actions::TopicEventTimes;
use super::delta::log::LogTail;
use super::delta::loss::losses;
use super::delta::names::{AppIds, CLOSED, Entry};
use super::store::Store;
use crate::config::LakeConfig;
use crate::loss::Loss;
use crate::offsets::{Offset, Partition, TopicId};

/// One snapshot's progress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LakeProgress {
    /// Delta version it was read at.
    pub version: u64,
    /// Next offset per topic id and partition; more than one id is a re-created topic.
    pub next: BTreeMap<(TopicId, Partition), Offset>,
    /// Where each began.
    pub starts: BTreeMap<(TopicId, Partition), Offset>,
    /// Highest event times in the table; `None` where its log no longer tells.
    pub event_times: Option<TopicEventTimes>,
    /// What the stream was let pass over, oldest first.
    pub losses: Vec<Loss>,
}

/// `None` where the stream has no table yet.
pub async fn read_progress(config: &LakeConfig, job: &str, stream: &str) -> anyhow::Result<Option<LakeProgress>> {
    let Some(store) = Store::open_existing(&config.root, &config.storage, stream)? else {
        return Ok(None);
    };
    let Some(log) = LogTail::load(&store, &AppIds::new(job, stream)).await? else {
        return Ok(None);
    };
    let mut progress = LakeProgress {
        version: log.version,
        losses: losses(&log.metadata)?,
        event_times: log.event_times,
        ..LakeProgress::default()
    };
    let mut closed = BTreeSet::new();
    for (entry, last) in log.entries {
        match entry {
            Entry::Latest | Entry::Epoch(_) => {}
            // A re-created topic's former self goes on nowhere.
            Entry::Progress(topic, _) if last == CLOSED => drop(closed.insert(topic)),
            Entry::Progress(topic, partition) => {
                progress.next.insert((topic, partition), last + 1);
            }
            Entry::Start(topic, partition) => {
                progress.starts.insert((topic, partition), last + 1);
            }
        }
    }
    progress.starts.retain(|(topic, _), _| !closed.contains(topic));
    Ok(Some(progress))
}
