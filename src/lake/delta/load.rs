//! Reads the log's files: the whole of it once, then each new commit.
//!
//! Owns: where to begin (newest complete checkpoint, else version 0), and that no version is passed over: a
//! gap or a torn file stops the stream. A checkpoint is redundant, so an unreadable one is only skipped.
//! Does not own: what the commits mean (`log`).
//!
//! After a checkpoint, the commits between our own last one and it are read as well where they still exist:
//! a RESTORE made while we were down would otherwise hide behind the checkpoint, progress and all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::anyhow;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::Deserialize;

use super::actions::Commit;
use super::checkpoint::{self, Checkpoint};
use super::log::{ForeignChanges, LogTail};
use super::names::{AppIds, LOG, LogFile, commit, commit_path};
use crate::error::{Invariant, SinkError};
use crate::lake::store::Store;

/// Commit files read at a time while loading: hides the store's latency, bounds the memory.
const CONCURRENT_READS: usize = 16;

impl LogTail {
    /// The newest state of the table's log; `None` where there is no table.
    pub async fn load(store: &Store, app_ids: &AppIds) -> Result<Option<Self>, SinkError> {
        let hint = last_checkpoint(store).await?;
        let mut listing = Listing::read(store, hint).await?;
        if hint.is_some() && listing.newest_checkpoint().is_none() {
            listing = Listing::read(store, None).await?;
        }
        if let Some(mut tail) = Self::load_from(store, app_ids, &listing).await? {
            tail.refresh_tail(store).await?;
            return Ok(Some(tail));
        }
        // No readable checkpoint at the hint or after it: an older one, or the log from its start.
        let Some(hinted) = hint else { return Ok(None) };
        let listing = Listing::read(store, None).await?;
        let found = Self::load_from(store, app_ids, &listing).await?;
        // A hint without a log is the wreck of a table, no place to begin a new one.
        let mut tail = found.ok_or_else(|| incomplete(store, hinted))?;
        tail.refresh_tail(store).await?;
        Ok(Some(tail))
    }

    /// The state at an older version; `None` where the log does not reach back so far.
    pub async fn load_at(store: &Store, app_ids: &AppIds, version: u64) -> Result<Option<Self>, SinkError> {
        let mut listing = Listing::read(store, None).await?;
        listing.commits.split_off(&(version + 1));
        listing.checkpoints.split_off(&(version + 1));
        if !listing.commits.contains(&0) && listing.newest_checkpoint().is_none() {
            return Ok(None);
        }
        let tail = Self::load_from(store, app_ids, &listing).await?;
        Ok(tail.filter(|tail| tail.version == version))
    }

    /// Takes in all commits after `self.version`; how many there were.
    pub async fn refresh(&mut self, store: &Store) -> Result<usize, SinkError> {
        let mut taken = 0;
        while let Some(commit) = read_commit(store, self.version + 1).await? {
            self.apply(self.version + 1, commit);
            taken += 1;
        }
        if taken == 0 && !exists(store, &commit_path(self.version)).await? {
            self.reload(store).await?;
        }
        Ok(taken)
    }

    /// The version we are at has gone. Either old log files were cleaned up behind a checkpoint, or somebody
    /// moved the table away; a commit on top of nothing would make an unreadable table.
    async fn reload(&mut self, store: &Store) -> Result<(), SinkError> {
        match Self::load(store, &self.app_ids).await? {
            Some(mut tail) if tail.version >= self.version => {
                // The clean-up may have taken the commit that told them.
                tail.event_times = tail.event_times.or(self.event_times.take());
                *self = tail;
                Ok(())
            }
            found => {
                let found = found.map_or("gone".to_owned(), |t| format!("at version {}", t.version));
                Err(SinkError::Invariant(Invariant::new(
                    format!(
                        "the table at {} was at version {} and is now {found}: somebody removed or replaced it",
                        store.location(),
                        self.version
                    ),
                    "put the table back, or restart to begin from what is there now",
                )))
            }
        }
    }

    /// `None`: nothing there, or only an unreadable checkpoint and no log from its start.
    async fn load_from(store: &Store, app_ids: &AppIds, listing: &Listing) -> Result<Option<Self>, SinkError> {
        for version in listing.complete_checkpoints() {
            let parts = listing.parts(version);
            match checkpoint::read(store.objects(), &parts, app_ids).await {
                Ok(found) => {
                    return Self::from_checkpoint(store, app_ids, listing, version, found)
                        .await
                        .map(Some);
                }
                Err(error) => {
                    tracing::warn!(
                        version,
                        error = format!("{error:#}"),
                        "checkpoint is unreadable and not used"
                    );
                }
            }
        }
        if listing.from.is_some() || listing.newest().is_none() {
            return Ok(None);
        }
        Self::from_start(store, app_ids, listing).await.map(Some)
    }

    async fn from_checkpoint(
        store: &Store,
        app_ids: &AppIds,
        listing: &Listing,
        version: u64,
        found: Checkpoint,
    ) -> Result<Self, SinkError> {
        let (Some(protocol), Some(metadata)) = (found.protocol, found.metadata) else {
            return Err(incomplete(store, version));
        };
        let mut tail = Self {
            app_ids: app_ids.clone(),
            version,
            protocol,
            metadata,
            entries: found.entries,
            event_times: None,
            has_rows: found.has_rows,
            damage: None,
            foreign: ForeignChanges::default(),
        };
        if let Some(latest) = tail.latest() {
            tail.recall_event_times(store, latest).await?;
            let mut hidden = read_commits(store, latest + 1..version + 1);
            while let Some((version, commit)) = hidden.try_next().await? {
                if let Some(commit) = commit {
                    tail.notice(version, &commit);
                }
            }
        }
        tail.follow(store, listing).await?;
        Ok(tail)
    }

    /// A checkpoint drops what commits tell about themselves: our latest one says it again, if it is still there.
    async fn recall_event_times(&mut self, store: &Store, latest: u64) -> Result<(), SinkError> {
        let commit = match read_commit(store, latest).await {
            // The checkpoint has all that matters of it.
            Err(SinkError::Invariant(_)) => None,
            other => other?,
        };
        self.event_times = commit.and_then(|commit| commit.info.affluent?.event_times);
        Ok(())
    }

    async fn from_start(store: &Store, app_ids: &AppIds, listing: &Listing) -> Result<Self, SinkError> {
        listing.expect_commits(store, 0)?;
        let first = read_commit(store, 0).await?.ok_or_else(|| vanished(store, 0))?;
        let (Some(protocol), Some(metadata)) = (first.protocol.clone(), first.metadata.clone()) else {
            return Err(incomplete(store, 0));
        };
        let mut tail = Self {
            app_ids: app_ids.clone(),
            version: 0,
            protocol,
            metadata,
            entries: BTreeMap::new(),
            event_times: None,
            has_rows: false,
            damage: None,
            foreign: ForeignChanges::default(),
        };
        tail.apply(0, first);
        tail.follow(store, listing).await?;
        Ok(tail)
    }

    /// The listed commits after `self.version`.
    async fn follow(&mut self, store: &Store, listing: &Listing) -> Result<(), SinkError> {
        listing.expect_commits(store, self.version + 1)?;
        let end = listing.newest().map_or(0, |newest| newest + 1);
        let mut commits = read_commits(store, self.version + 1..end.max(self.version + 1));
        while let Some((version, commit)) = commits.try_next().await? {
            self.apply(version, commit.ok_or_else(|| vanished(store, version))?);
        }
        Ok(())
    }

    /// The commits that came since the listing.
    async fn refresh_tail(&mut self, store: &Store) -> Result<(), SinkError> {
        while let Some(commit) = read_commit(store, self.version + 1).await? {
            self.apply(self.version + 1, commit);
        }
        Ok(())
    }
}

/// What lies below `_delta_log`, from the hinted checkpoint on.
pub(super) struct Listing {
    from: Option<u64>,
    commits: BTreeSet<u64>,
    /// Version → number of parts → parts found with their paths.
    checkpoints: BTreeMap<u64, BTreeMap<u32, BTreeMap<u32, Path>>>,
}

impl Listing {
    pub(super) async fn read(store: &Store, from: Option<u64>) -> Result<Self, SinkError> {
        let prefix = Path::from(LOG);
        let mut listing = Self {
            from,
            commits: BTreeSet::new(),
            checkpoints: BTreeMap::new(),
        };
        let mut objects = match from {
            // Sorts right before the version's own files.
            Some(version) => {
                let offset = prefix.clone().join(format!("{version:020}").as_str());
                store.objects().list_with_offset(Some(&prefix), &offset)
            }
            None => store.objects().list(Some(&prefix)),
        };
        while let Some(object) = objects.try_next().await.map_err(|e| failed(store, "list", LOG, e))? {
            if object.location.parts().count() == 2
                && let Some(file) = object.location.filename().and_then(LogFile::parse)
            {
                listing.take(file, object.location.clone());
            }
        }
        Ok(listing)
    }

    fn take(&mut self, file: LogFile, path: Path) {
        match file {
            LogFile::Commit(version) => {
                self.commits.insert(version);
            }
            LogFile::Checkpoint { version, part, parts } => {
                self.checkpoints
                    .entry(version)
                    .or_default()
                    .entry(parts)
                    .or_default()
                    .insert(part, path);
            }
        }
    }

    /// Newest first.
    pub(super) fn complete_checkpoints(&self) -> impl Iterator<Item = u64> {
        let complete = |sets: &BTreeMap<u32, BTreeMap<u32, Path>>| sets.iter().any(|(n, s)| s.len() == *n as usize);
        self.checkpoints
            .iter()
            .rev()
            .filter(move |(_, sets)| complete(sets))
            .map(|(version, _)| *version)
    }

    fn newest_checkpoint(&self) -> Option<u64> {
        self.complete_checkpoints().next()
    }

    pub(super) fn parts(&self, version: u64) -> Vec<Path> {
        let sets = self.checkpoints.get(&version).into_iter().flatten();
        sets.filter(|(count, set)| set.len() == **count as usize)
            .map(|(_, set)| set.values().cloned().collect())
            .next()
            .unwrap_or_default()
    }

    fn newest(&self) -> Option<u64> {
        self.commits.last().copied().max(self.newest_checkpoint())
    }

    /// Every commit from `first` to the newest must be there.
    fn expect_commits(&self, store: &Store, first: u64) -> Result<(), SinkError> {
        let Some(newest) = self.commits.last() else {
            return Ok(());
        };
        match (first..=*newest).find(|version| !self.commits.contains(version)) {
            None => Ok(()),
            Some(missing) => Err(SinkError::Invariant(Invariant::new(
                format!(
                    "the log of the table at {} has a gap: {} is missing, {} is there",
                    store.location(),
                    commit(missing),
                    commit(*newest)
                ),
                "put the missing commit file back from a backup or a replica",
            ))),
        }
    }
}

/// `_last_checkpoint` is a hint and nothing more: absent or unreadable, the listing tells as well.
pub async fn last_checkpoint(store: &Store) -> Result<Option<u64>, SinkError> {
    #[derive(Deserialize)]
    struct Hint {
        version: u64,
    }
    let path = Path::from_iter([LOG, "_last_checkpoint"]);
    let bytes = read_object(store, &path).await?;
    Ok(bytes
        .and_then(|b| serde_json::from_slice::<Hint>(&b).ok())
        .map(|hint| hint.version))
}

fn read_commits(
    store: &Store,
    versions: std::ops::Range<u64>,
) -> impl futures::Stream<Item = Result<(u64, Option<Commit>), SinkError>> + Unpin + '_ {
    stream::iter(versions)
        .map(move |version| Box::pin(async move { Ok((version, read_commit(store, version).await?)) }))
        .buffered(CONCURRENT_READS)
}

/// `None` where the version does not exist.
async fn read_commit(store: &Store, version: u64) -> Result<Option<Commit>, SinkError> {
    match read_object(store, &commit_path(version)).await? {
        None => Ok(None),
        Some(bytes) => Ok(Some(Commit::parse(version, store.location(), &bytes)?)),
    }
}

pub async fn read_object(store: &Store, path: &Path) -> Result<Option<bytes::Bytes>, SinkError> {
    let found = match store.objects().get(path).await {
        Ok(found) => found.bytes().await,
        Err(error) => Err(error),
    };
    match found {
        Ok(bytes) => Ok(Some(bytes)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(failed(store, "read", path.as_ref(), error)),
    }
}

async fn exists(store: &Store, path: &Path) -> Result<bool, SinkError> {
    object_exists(store.objects(), path)
        .await
        .map_err(|e| failed(store, "look for", path.as_ref(), e))
}

pub(super) async fn object_exists(objects: &Arc<dyn ObjectStore>, path: &Path) -> object_store::Result<bool> {
    match objects.head(path).await {
        Ok(_) => Ok(true),
        Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) fn failed(store: &Store, what: &str, name: &str, error: object_store::Error) -> SinkError {
    // In one line: the store's error repeats its own cause.
    SinkError::Infrastructure(anyhow!("{what} {name} of the table at {}: {error}", store.location()))
}

/// Listed, then not there: a clean-up ran in between; the next try lists anew.
fn vanished(store: &Store, version: u64) -> SinkError {
    SinkError::Infrastructure(anyhow!(
        "commit file {} of the table at {} vanished while the log was being read",
        commit(version),
        store.location()
    ))
}

fn incomplete(store: &Store, version: u64) -> SinkError {
    SinkError::Invariant(Invariant::new(
        format!(
            "the log of the table at {} has no protocol and metadata at version {version}",
            store.location()
        ),
        "put the log back from a backup, or move the table away to begin a new one",
    ))
}
