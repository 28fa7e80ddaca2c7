//! The table's files at one version: those that hold its rows, and those that did.
//!
//! Owns: the replay of `add` and `remove`. Commits are read from the newest to the oldest, then the checkpoint behind
//! them: the first word on a file is the last one spoken. What is remembered are the files named since the checkpoint, so
//! memory does not grow with the table.
//! Does not own: what is done with them (`maintenance`, `rebuild`).
//!
//! A path is a URI reference, and writers spell the same one differently (`Île`, `%C3%8Ele`): two that decode to the same
//! name are the same file. An answer carries the spelling of the log, which is the one our own `remove` repeats.

use std::collections::{BTreeMap, HashSet};

use anyhow::Context;
use arrow::array::{Array as _, RecordBatch, StructArray};
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::checkpoint::{check_parts, group, long, pairs, read_columns, text, valid};
use super::load::{Listing, last_checkpoint, read_object};
use super::names::commit_path;
use crate::error::{Invariant, SinkError};
use crate::lake::store::Store;

/// One file, by the last word of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileState {
    Active(ActiveFile),
    /// Its rows are elsewhere or gone; readers of an older version may still need it.
    Removed {
        path: String,
        /// Milliseconds since 1970; absent where the remover did not say.
        at: Option<i64>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveFile {
    /// As in the log: a URI reference.
    pub path: String,
    pub partition_values: BTreeMap<String, Option<String>>,
    pub size: u64,
    /// Milliseconds since 1970.
    pub modified: i64,
    /// Rows of it are marked as deleted, elsewhere.
    pub has_deletion_vector: bool,
}

/// The object a path of the log names.
pub fn object_path(path: &str) -> anyhow::Result<object_store::path::Path> {
    let decoded = percent_decode_str(path)
        .decode_utf8()
        .context("a path that is no UTF-8")?;
    object_store::path::Path::parse(decoded.as_ref()).with_context(|| format!("an impossible path {path}"))
}

#[derive(Deserialize)]
struct Line {
    add: Option<AddLine>,
    remove: Option<RemoveLine>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AddLine {
    path: String,
    #[serde(default)]
    partition_values: BTreeMap<String, Option<String>>,
    size: u64,
    #[serde(default)]
    modification_time: i64,
    deletion_vector: Option<DeletionVector>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RemoveLine {
    path: String,
    deletion_timestamp: Option<i64>,
    deletion_vector: Option<DeletionVector>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeletionVector {
    storage_type: String,
    path_or_inline_dv: String,
    offset: Option<i64>,
}

impl DeletionVector {
    fn id(&self) -> String {
        let offset = self.offset.map(|offset| format!("@{offset}")).unwrap_or_default();
        format!("{}{}{offset}", self.storage_type, self.path_or_inline_dv)
    }
}

/// A file, by its decoded path, counts once per deletion vector it is seen through.
type Key = (String, Option<String>);

/// The path that all spellings of it decode to. What does not decode is nobody's but itself.
pub fn decoded(path: &str) -> String {
    let decoded = percent_decode_str(path).decode_utf8();
    decoded.map_or_else(|_| path.to_owned(), |decoded| decoded.into_owned())
}

/// Shows `visit` every file that the log of the table at `version` names, each once, in no order.
pub async fn visit(store: &Store, version: u64, mut visit: impl FnMut(FileState)) -> Result<(), SinkError> {
    let mut listing = Listing::read(store, last_checkpoint(store).await?).await?;
    let mut checkpoint = readable(store, &listing, version).await;
    if checkpoint.is_none() {
        // The hint leads past the version, to nothing, or to a checkpoint that cannot be read.
        listing = Listing::read(store, None).await?;
        checkpoint = readable(store, &listing, version).await;
    }
    let mut seen: HashSet<Key> = HashSet::new();
    let first = checkpoint.map_or(0, |checkpoint| checkpoint + 1);
    for commit in (first..=version).rev() {
        let bytes = read_object(store, &commit_path(commit)).await?;
        let bytes = bytes.ok_or_else(|| gap(store, commit))?;
        for (key, state) in states(&bytes).map_err(|error| unreadable(store, commit, error))? {
            if seen.insert(key) {
                visit(state);
            }
        }
    }
    let Some(checkpoint) = checkpoint else { return Ok(()) };
    for part in listing.parts(checkpoint) {
        let reading = read_columns(store.objects(), &part, is_of_a_file, |batch| {
            of_checkpoint(batch, |key, state| {
                if !seen.contains(&key) {
                    visit(state);
                }
            })
        });
        reading
            .await
            .with_context(|| format!("read {part} of the table at {}", store.location()))
            .map_err(SinkError::Infrastructure)?;
    }
    Ok(())
}

/// The newest complete checkpoint of at most that version whose parts have readable ends. An unreadable one is passed over:
/// the commits before it say the same.
async fn readable(store: &Store, listing: &Listing, version: u64) -> Option<u64> {
    for checkpoint in listing
        .complete_checkpoints()
        .filter(|checkpoint| *checkpoint <= version)
    {
        match check_parts(store.objects(), &listing.parts(checkpoint)).await {
            Ok(()) => return Some(checkpoint),
            Err(error) => tracing::warn!(
                checkpoint,
                error = format!("{error:#}"),
                "checkpoint is unreadable and not used"
            ),
        }
    }
    None
}

fn states(bytes: &[u8]) -> serde_json::Result<Vec<(Key, FileState)>> {
    let mut states = Vec::new();
    for line in bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty())
    {
        let line: Line = serde_json::from_slice(line)?;
        if let Some(add) = line.add {
            let vector = add.deletion_vector.map(|vector| vector.id());
            let file = ActiveFile {
                path: add.path.clone(),
                partition_values: add.partition_values,
                size: add.size,
                modified: add.modification_time,
                has_deletion_vector: vector.is_some(),
            };
            states.push(((decoded(&add.path), vector), FileState::Active(file)));
        }
        if let Some(remove) = line.remove {
            let vector = remove.deletion_vector.map(|vector| vector.id());
            let state = FileState::Removed {
                path: remove.path.clone(),
                at: remove.deletion_timestamp,
            };
            states.push(((decoded(&remove.path), vector), state));
        }
    }
    Ok(states)
}

fn is_of_a_file(leaf: &[String]) -> bool {
    let group = leaf[0].as_str();
    let member = leaf.get(1).map(String::as_str);
    matches!(
        (group, member),
        ("add" | "remove", Some("path" | "deletionVector"))
            | ("add", Some("partitionValues" | "size" | "modificationTime"))
            | ("remove", Some("deletionTimestamp"))
    )
}

fn of_checkpoint(batch: &RecordBatch, mut take: impl FnMut(Key, FileState)) -> anyhow::Result<()> {
    if let Some(adds) = group(batch, "add") {
        for row in (0..adds.len()).filter(|row| adds.is_valid(*row)) {
            let path = text(adds, "path", row).context("an add without a path")?;
            let vector = vector_of(adds, row);
            let file = ActiveFile {
                path: path.clone(),
                partition_values: pairs(adds, "partitionValues", row),
                size: long(adds, "size", row)
                    .and_then(|size| u64::try_from(size).ok())
                    .unwrap_or_default(),
                modified: long(adds, "modificationTime", row).unwrap_or_default(),
                has_deletion_vector: vector.is_some(),
            };
            take((decoded(&path), vector), FileState::Active(file));
        }
    }
    if let Some(removes) = group(batch, "remove") {
        for row in (0..removes.len()).filter(|row| removes.is_valid(*row)) {
            let path = text(removes, "path", row).context("a remove without a path")?;
            let state = FileState::Removed {
                path: path.clone(),
                at: long(removes, "deletionTimestamp", row),
            };
            take((decoded(&path), vector_of(removes, row)), state);
        }
    }
    Ok(())
}

fn vector_of(group: &StructArray, row: usize) -> Option<String> {
    let vector = valid(group, "deletionVector", row)?
        .as_any()
        .downcast_ref::<StructArray>()?;
    let vector = DeletionVector {
        storage_type: text(vector, "storageType", row)?,
        path_or_inline_dv: text(vector, "pathOrInlineDv", row)?,
        offset: super::checkpoint::int(vector, "offset", row).map(i64::from),
    };
    Some(vector.id())
}

fn gap(store: &Store, version: u64) -> SinkError {
    Invariant::new(
        format!(
            "the log of the table at {} has a gap: {} is missing",
            store.location(),
            commit_path(version)
        ),
        "put the missing commit file back from a backup or a replica",
    )
    .into()
}

fn unreadable(store: &Store, version: u64, error: serde_json::Error) -> SinkError {
    let what = format!("{} of the table at {}: {error}", commit_path(version), store.location());
    Invariant::new(what, "put the file back from a backup or a replica").into()
}
