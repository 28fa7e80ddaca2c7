//! Checkpoints, and the removal of log files behind them.
//!
//! Owns: when a checkpoint is due, and which files of the log nobody needs any more:
//!
//! ```text
//!  …  C1 . . . . . . C2 . . . . . │ retention . . . . . . . . C3 . . . now
//!  ◀── deleted ──────▶ C2 and what follows is kept: every version since the retention's start can be read
//! ```
//!
//! Does not own: a checkpoint's contents (the Delta library's, streamed: what it remembers are the files named since the
//! last one).

use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, Utc};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;

use crate::error::SinkError;
use crate::lake::delta::library;
use crate::lake::delta::load::last_checkpoint;
use crate::lake::delta::names::{LOG, LogFile};
use crate::lake::store::{Store, is_temporary};

/// A temporary file so old belongs to a writer that is no more.
const LEFT_BEHIND: Duration = Duration::from_secs(24 * 3600);

/// Whether so many commits have come since the last checkpoint.
pub async fn is_due(store: &Store, version: u64, every: u64) -> Result<bool, SinkError> {
    let last = last_checkpoint(store).await?;
    Ok(version >= last.map_or(every, |last| last.saturating_add(every)))
}

/// Writes the checkpoint of that version.
pub async fn write(store: &Store, version: u64) -> anyhow::Result<()> {
    let mut table = library::table(store);
    let named = || format!("checkpoint version {version} of the table at {}", store.location());
    table.load_version(version).await.with_context(named)?;
    let writing = deltalake_core::checkpoints::create_checkpoint(&table, None);
    writing.await.with_context(named)
}

/// Removes log files that only versions older than `retention` need, by the store's clock; how many.
pub async fn clean(store: &Store, retention: Duration) -> anyhow::Result<u64> {
    clean_at(store, retention, store.clock().await?).await
}

/// As it would be at that time.
pub(super) async fn clean_at(store: &Store, retention: Duration, now: DateTime<Utc>) -> anyhow::Result<u64> {
    let prefix = Path::from(LOG);
    let objects: Vec<_> = store
        .objects()
        .list(Some(&prefix))
        .try_collect()
        .await
        .with_context(|| format!("list {LOG} of the table at {}", store.location()))?;
    let age = |object: &object_store::ObjectMeta| (now - object.last_modified).to_std().unwrap_or_default();
    let version_of = |object: &object_store::ObjectMeta| {
        let name = object.location.filename()?;
        match LogFile::parse(name).or_else(|| LogFile::parse(&name.replace(".crc", ".json")))? {
            LogFile::Commit(version) => Some((version, false)),
            // Of a checkpoint in parts all have to be there, which nobody checks here: none of them counts.
            LogFile::Checkpoint { version, parts, .. } => Some((version, parts == 1)),
        }
    };
    let kept_from = (objects.iter())
        .filter(|object| age(object) >= retention)
        .filter_map(version_of)
        .filter(|(_, whole_checkpoint)| *whole_checkpoint)
        .map(|(version, _)| version)
        .max();
    let old = objects.iter().filter(|object| {
        let behind = version_of(object)
            .zip(kept_from)
            .is_some_and(|((version, _), first)| version < first);
        let left = object.location.filename().is_some_and(is_temporary);
        behind && age(object) >= retention || left && age(object) >= LEFT_BEHIND
    });
    let old: Vec<_> = old.map(|object| Ok(object.location.clone())).collect();
    let mut deleted = store.objects().delete_stream(stream::iter(old).boxed());
    let mut count = 0;
    while let Some(outcome) = deleted.next().await {
        match outcome {
            Ok(_) => count += 1,
            // Another instance's clean-up was quicker.
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => {
                return Err(error).with_context(|| format!("clean {LOG} of the table at {}", store.location()));
            }
        }
    }
    Ok(count)
}
