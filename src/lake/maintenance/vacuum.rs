//! Deletes data files that no version of the table needs any more.
//!
//! Owns: the choice. A file goes only if all of this holds:
//!
//! - it is named like a data file of a Delta table (`part-….parquet`), or is a temporary file of ours;
//! - it is older than the retention, by the clock of the store that dates it: what is being written is never touched;
//! - the log does not name it, or a commit older than the retention took it out.
//!
//! Everything else is left and, where its name is strange, counted. Of the files the log names a hash each is held.
//! Does not own: the retention's length (configuration, and the table's own properties).

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, Utc};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::ObjectMeta;
use object_store::path::Path;
use xxhash_rust::xxh3::xxh3_128;

use crate::error::Invariant;
use crate::lake::delta::files::{self, FileState, object_path};
use crate::lake::delta::log::LogTail;
use crate::lake::delta::names::LOG;
use crate::lake::store::{Store, is_temporary};

/// Files deleted between two calls of `progress`.
const CHUNK: usize = 1000;

/// What was found, and done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vacuumed {
    /// Deleted, or with a dry run, what would be.
    pub files: u64,
    pub bytes: u64,
    /// Named by no version, but too young to go.
    pub young: u64,
    /// Of a kind that this program does not know; left alone.
    pub unknown: u64,
    /// Examples of what was deleted.
    pub examples: Vec<String>,
}

/// Vacuums the table as it is at `table`'s version. `retention`: not above the table's own, by which checkpoints forget
/// files. `delete`: else it only looks.
pub async fn vacuum(
    store: &Store,
    table: &LogTail,
    retention: Duration,
    delete: bool,
    progress: impl FnMut(&Vacuumed),
) -> anyhow::Result<Vacuumed> {
    vacuum_at(store, table, retention, store.clock().await?, delete, progress).await
}

/// As it would be at that time.
pub(super) async fn vacuum_at(
    store: &Store,
    table: &LogTail,
    retention: Duration,
    now: DateTime<Utc>,
    delete: bool,
    mut progress: impl FnMut(&Vacuumed),
) -> anyhow::Result<Vacuumed> {
    let oldest_kept = now
        .timestamp_millis()
        .saturating_sub(i64::try_from(retention.as_millis())?);
    let mut needed: HashSet<u128> = HashSet::new();
    let mut strange = None;
    let reading = files::visit(store, table.version, |state| {
        let path = match &state {
            FileState::Active(file) => &file.path,
            FileState::Removed { path, at } if at.is_none_or(|at| at > oldest_kept) => path,
            FileState::Removed { .. } => return,
        };
        match object_path(path) {
            Ok(path) => drop(needed.insert(hash(&path))),
            Err(error) => strange = Some(error),
        }
    });
    reading.await?;
    if let Some(error) = strange {
        // A file of another place (a shallow clone) or a name we misread: nothing is certain then.
        return Err(Invariant::new(
            format!("the log names a file that is none of the table's directory ({error:#}): nothing was deleted"),
            "a shallow clone is vacuumed by the engine that made it",
        )
        .into());
    }
    let mut done = Vacuumed::default();
    let mut chunk: Vec<ObjectMeta> = Vec::new();
    let mut objects = store.objects().list(None);
    while let Some(object) = objects
        .try_next()
        .await
        .with_context(|| format!("list {}", store.location()))?
    {
        if object
            .location
            .parts()
            .next()
            .is_some_and(|first| first.as_ref() == LOG)
        {
            continue;
        }
        match judge(&object, retention, now) {
            Kind::Unknown => done.unknown += 1,
            _ if needed.contains(&hash(&object.location)) => {}
            Kind::Young => done.young += 1,
            Kind::Old => chunk.push(object),
        }
        if chunk.len() == CHUNK {
            remove(store, std::mem::take(&mut chunk), delete, &mut done).await?;
            progress(&done);
        }
    }
    remove(store, chunk, delete, &mut done).await?;
    progress(&done);
    Ok(done)
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Unknown,
    Young,
    Old,
}

fn judge(object: &ObjectMeta, retention: Duration, now: DateTime<Utc>) -> Kind {
    let name = object.location.filename().unwrap_or_default();
    let data = name.starts_with("part-") && name.ends_with(".parquet");
    let temporary = name.starts_with(".part-") && is_temporary(name);
    let hidden = (object.location.parts()).any(|part| {
        let part = part.as_ref();
        // A partition column may begin so.
        part.starts_with('_') && !part.contains('=')
    });
    if !(data || temporary) || hidden {
        return Kind::Unknown;
    }
    let age = (now - object.last_modified).to_std().unwrap_or_default();
    if age >= retention { Kind::Old } else { Kind::Young }
}

fn hash(path: &Path) -> u128 {
    xxh3_128(path.as_ref().as_bytes())
}

async fn remove(store: &Store, files: Vec<ObjectMeta>, delete: bool, done: &mut Vacuumed) -> anyhow::Result<()> {
    const EXAMPLES: usize = 10;
    for file in &files {
        done.files += 1;
        done.bytes += file.size;
        if done.examples.len() < EXAMPLES {
            done.examples.push(file.location.to_string());
        }
    }
    if !delete {
        return Ok(());
    }
    let paths: Vec<_> = files.into_iter().map(|file| Ok(file.location)).collect();
    let mut deleted = store.objects().delete_stream(stream::iter(paths).boxed());
    while let Some(outcome) = deleted.next().await {
        match outcome {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(error).with_context(|| format!("delete a file of {}", store.location())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(path: &str, age: Duration) -> (ObjectMeta, DateTime<Utc>) {
        let now = Utc::now();
        let object = ObjectMeta {
            location: Path::parse(path).expect("valid"),
            last_modified: now - age,
            size: 1,
            e_tag: None,
            version: None,
        };
        (object, now)
    }

    #[test]
    fn only_old_data_files_and_our_own_temporary_ones_may_go() {
        let day = Duration::from_secs(24 * 3600);
        for (path, age, expected) in [
            ("date=2026-01-01/part-1.zstd.parquet", 8 * day, Kind::Old),
            ("date=2026-01-01/part-1.zstd.parquet", 6 * day, Kind::Young),
            ("date=2026-01-01/.part-1.parquet.0a1b.tmp", 8 * day, Kind::Old),
            ("date=2026-01-01/.part-1.parquet.tmp.2", 8 * day, Kind::Old),
            ("date=2026-01-01/.part-1.parquet.tmp.old", 8 * day, Kind::Unknown),
            ("_p=1/part-1.parquet", 8 * day, Kind::Old),
            ("date=2026-01-01/data.parquet", 8 * day, Kind::Unknown),
            ("README.md", 8 * day, Kind::Unknown),
            ("_change_data/part-1.parquet", 8 * day, Kind::Unknown),
            ("date=2026-01-01/deletion_vector_x.bin", 8 * day, Kind::Unknown),
        ] {
            let (object, now) = object(path, age);
            assert_eq!(judge(&object, 7 * day, now), expected, "{path}");
        }
    }

    #[test]
    fn a_clock_that_runs_ahead_makes_nothing_old() {
        let (object, now) = object("part-1.parquet", Duration::ZERO);
        let behind = now - Duration::from_secs(3600);
        assert_eq!(judge(&object, Duration::from_secs(60), behind), Kind::Young);
    }
}
