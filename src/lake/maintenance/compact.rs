//! Puts small files together, a bin of `plan` at a time.
//!
//! Owns: the rewrite, row by row as it stands, in memory that does not grow with the file; and the commit that exchanges
//! the files: `remove` and `add` without data change, so that readers of changes see none.
//!
//! ```text
//!  files of a bin ─▶ batches, in the table's present schema ─▶ one file, uploaded as it is encoded
//!         ┌───────────────────────────────────────────────────────────────┐
//!         ▼                                                               │ version taken, or outcome unknown
//!  every commit since the bin was planned: did it touch our files? ─ no ─▶ PUT version + 1, if absent ─▶ done
//!         └ yes, or the table's columns changed ─▶ given up: somebody else was first
//! ```
//!
//! Does not own: which files (`plan`), when (`lake::maintenance`).

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use arrow::datatypes::{Schema, SchemaRef};
use chrono::Utc;
use deltalake_core::kernel::StructType;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoArrow as _;
use futures::TryStreamExt as _;
use serde::Deserialize;
use serde_json::json;

use super::plan::Bin;
use crate::error::SinkError;
use crate::failpoint;
use crate::lake::delta::actions::{Add, Commit, OwnCommit};
use crate::lake::delta::commit::{OPTIMIZE, commit_info, put_if_absent};
use crate::lake::delta::files::{decoded, object_path};
use crate::lake::delta::load::read_object;
use crate::lake::delta::log::LogTail;
use crate::lake::delta::names::commit_path;
use crate::lake::layout::{PartitionValues, file_name, file_path, log_path, partition_path};
use crate::lake::parquet::{FileEncoder, properties};
use crate::lake::read::StoredObject;
use crate::lake::rows::conform;
use crate::lake::store::Store;

/// Rows read at a time.
const BATCH_ROWS: usize = 16 * 1024;
/// Other commits that may come first before the bin is left for the next turn: whoever is so busy needs the log more.
const MAX_RACES: usize = 100;

/// What became of a bin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// In this version, as a file of this size.
    Done { version: u64, bytes: u64 },
    /// Somebody else removed one of its files, changed the table's columns, or committed all the time.
    Overtaken,
}

/// Rewrites a bin that was planned at `planned`'s version. Heavy on the processor: on a thread of its own.
pub async fn compact(store: &Store, planned: &LogTail, bin: &Bin) -> Result<Outcome, SinkError> {
    let schema = data_schema(planned).map_err(SinkError::Infrastructure)?;
    let values: PartitionValues = (planned.metadata.partition_columns.iter())
        .map(|column| bin.partition_values.get(column).cloned().flatten())
        .collect();
    let columns = &planned.metadata.partition_columns;
    let path = file_path(&partition_path(columns, &values), &file_name());
    let written = rewrite(store, &schema, bin, &path).await;
    let (size, stats) = written.map_err(SinkError::Infrastructure)?;
    failpoint!("lake.compact.written");
    let add = Add {
        path: log_path(&path),
        partition_values: bin.partition_values.clone(),
        size,
        modification_time: Utc::now().timestamp_millis(),
        data_change: false,
        stats,
    };
    let outcome = exchange(store, planned.version, bin, &add).await?;
    failpoint!("lake.compact.committed");
    Ok(match outcome {
        Some(version) => Outcome::Done { version, bytes: size },
        None => Outcome::Overtaken,
    })
}

/// The columns of the table's files at that version, also those that somebody else has added.
fn data_schema(table: &LogTail) -> anyhow::Result<SchemaRef> {
    let columns: StructType = serde_json::from_str(&table.metadata.schema_string).context("the table's schema")?;
    let schema: Schema = (&columns).try_into_arrow().context("the table's schema")?;
    let partitioned = &table.metadata.partition_columns;
    let fields = schema
        .fields()
        .iter()
        .filter(|field| !partitioned.contains(field.name()));
    Ok(Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>())))
}

async fn rewrite(store: &Store, schema: &SchemaRef, bin: &Bin, path: &str) -> anyhow::Result<(u64, String)> {
    let target = object_store::path::Path::parse(path).context("an impossible file path")?;
    let mut upload = store
        .start_file(&target)
        .await
        .with_context(|| format!("write {path}"))?;
    let encoded = encode(store, schema, bin, &mut upload).await;
    match encoded {
        Ok(done) => {
            upload.finish().await.with_context(|| format!("write {path}"))?;
            Ok(done)
        }
        Err(error) => {
            upload.abort().await;
            Err(error)
        }
    }
}

async fn encode(
    store: &Store,
    schema: &SchemaRef,
    bin: &Bin,
    upload: &mut crate::lake::store::FileUpload,
) -> anyhow::Result<(u64, String)> {
    let mut encoder = FileEncoder::new(schema, &properties(schema));
    let mut size = 0;
    for file in &bin.files {
        let named = || format!("rewrite {} of the table at {}", file.path, store.location());
        let object = StoredObject {
            store: Arc::clone(store.objects()),
            path: object_path(&file.path)?,
            bytes: file.size,
        };
        let reader = object.open().await.with_context(named)?;
        let mut batches = reader.with_batch_size(BATCH_ROWS).build().with_context(named)?;
        while let Some(batch) = batches.try_next().await.with_context(named)? {
            encoder.push(&conform(&batch, schema, |_| None).with_context(named)?)?;
            for bytes in encoder.take() {
                size += bytes.len() as u64;
                upload.write(bytes).await.context("write the new file")?;
            }
        }
    }
    let (rest, stats) = encoder.finish()?;
    for bytes in rest {
        size += bytes.len() as u64;
        upload.write(bytes).await.context("write the new file")?;
    }
    Ok((size, stats))
}

/// Commits `add` in place of the bin's files; the version, or `None` where somebody else was first.
async fn exchange(store: &Store, planned: u64, bin: &Bin, add: &Add) -> Result<Option<u64>, SinkError> {
    let id = uuid::Uuid::new_v4().to_string();
    let ours: HashSet<String> = bin.files.iter().map(|file| decoded(&file.path)).collect();
    let body = body(bin, add, &id)
        .context("write a commit as JSON")
        .map_err(SinkError::Infrastructure)?;
    let mut version = planned;
    let mut failure = None;
    for _ in 0..MAX_RACES {
        while let Some(bytes) = read_object(store, &commit_path(version + 1)).await? {
            version += 1;
            // Never behind a torn one: it may have to be taken away.
            Commit::parse(version, store.location(), &bytes)?;
            match read_of(&bytes, &id, &ours) {
                Meaning::Ours => return Ok(Some(version)),
                Meaning::Conflict => return Ok(None),
                Meaning::Harmless => {}
            }
        }
        if let Some(error) = failure.take() {
            // It did not get through, and the log says so.
            return Err(error);
        }
        failpoint!("lake.compact.commit");
        match put_if_absent(store, version + 1, body.clone()).await {
            Ok(()) => return Ok(Some(version + 1)),
            Err(object_store::Error::AlreadyExists { .. }) => {}
            Err(error) => {
                let error = anyhow!(
                    "write {} of the table at {}: {error}",
                    commit_path(version + 1),
                    store.location()
                );
                failure = Some(SinkError::Infrastructure(error));
            }
        }
    }
    Ok(None)
}

enum Meaning {
    Ours,
    Conflict,
    Harmless,
}

/// What somebody's commit means for our exchange. One whose actions we cannot read may mean anything.
fn read_of(bytes: &[u8], id: &str, files: &HashSet<String>) -> Meaning {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Line {
        commit_info: Option<Info>,
        remove: Option<Removed>,
        meta_data: Option<serde::de::IgnoredAny>,
        protocol: Option<serde::de::IgnoredAny>,
    }
    #[derive(Deserialize)]
    struct Info {
        affluent: Option<OwnCommit>,
    }
    #[derive(Deserialize)]
    struct Removed {
        path: String,
    }
    for line in bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty())
    {
        let Ok(line) = serde_json::from_slice::<Line>(line) else {
            return Meaning::Conflict;
        };
        if line
            .commit_info
            .and_then(|info| info.affluent)
            .is_some_and(|own| own.commit == id)
        {
            return Meaning::Ours;
        }
        let removes_ours = line.remove.is_some_and(|remove| files.contains(&decoded(&remove.path)));
        if removes_ours || line.meta_data.is_some() || line.protocol.is_some() {
            return Meaning::Conflict;
        }
    }
    Meaning::Harmless
}

fn body(bin: &Bin, add: &Add, id: &str) -> serde_json::Result<String> {
    let now = Utc::now().timestamp_millis();
    let mut lines: Vec<String> = Vec::with_capacity(bin.files.len() + 2);
    for file in &bin.files {
        let remove = json!({ "remove": {
            "path": file.path,
            "deletionTimestamp": now,
            "dataChange": false,
            "extendedFileMetadata": true,
            "partitionValues": file.partition_values,
            "size": file.size,
        }});
        lines.push(remove.to_string());
    }
    lines.push(format!("{{\"add\":{}}}", serde_json::to_string(add)?));
    let own = OwnCommit {
        commit: id.to_owned(),
        actions: lines.len() + 1,
        event_times: None,
    };
    let parameters = BTreeMap::from([
        ("predicate".to_owned(), "[]".to_owned()),
        ("files".to_owned(), bin.files.len().to_string()),
    ]);
    Ok(format!(
        "{}\n{}\n",
        commit_info(OPTIMIZE, &parameters, &own),
        lines.join("\n")
    ))
}
