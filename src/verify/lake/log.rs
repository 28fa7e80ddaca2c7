//! The Delta log, read once through for what the library only answers one question at a time: every `txn`,
//! and the table's configuration.
//!
//! Owns: the newest checkpoint and the commits behind it; that a torn one is damage and never skipped.
//! Does not own: active files (the library's snapshot answers for those).

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, bail};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use serde_json::Value as Json;

use super::damage::judge;
use crate::lake::read::StoredObject;

/// What the log says beside its files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// `appId` → version of its last `txn`.
    pub transactions: BTreeMap<String, i64>,
    /// The table's configuration.
    pub configuration: BTreeMap<String, String>,
}

/// Reads the log below the table's root up to its newest commit, whose version it answers too; `None` where
/// there is no log.
pub async fn read(store: &Arc<dyn ObjectStore>) -> anyhow::Result<Option<(u64, LogState)>> {
    let names = list(store).await.context("cannot list the delta log")?;
    let checkpoint = names.iter().filter_map(|name| checkpoint_version(name)).max();
    let newest = names.iter().filter_map(|name| commit_version(name)).max();
    let Some(version) = newest.max(checkpoint) else {
        return Ok(None);
    };
    let mut state = LogState::default();
    if let Some(checkpoint) = checkpoint {
        // One checkpoint may come in several parts; of one written twice both say the same.
        for name in names.iter().filter(|name| checkpoint_version(name) == Some(checkpoint)) {
            let reading = read_checkpoint(store, name, &mut state).await;
            reading.map_err(|error| judge(error, format!("the checkpoint {name}")))?;
        }
    }
    for commit in checkpoint.map_or(0, |v| v + 1)..=version {
        let path = Path::from(format!("_delta_log/{commit:020}.json"));
        let reading = read_commit(store, &path, &mut state).await;
        reading.map_err(|error| judge(error, format!("the commit {path}")))?;
    }
    Ok(Some((version, state)))
}

async fn read_commit(store: &Arc<dyn ObjectStore>, path: &Path, state: &mut LogState) -> anyhow::Result<()> {
    let bytes = store.get(path).await?.bytes().await?;
    state.apply_commit(&bytes)
}

async fn list(store: &Arc<dyn ObjectStore>) -> anyhow::Result<Vec<String>> {
    let entries: Vec<_> = store.list(Some(&Path::from("_delta_log"))).try_collect().await?;
    Ok(entries
        .iter()
        .filter_map(|entry| entry.location.filename().map(str::to_owned))
        .collect())
}

/// `00000000000000000010.json` → 10.
fn commit_version(name: &str) -> Option<u64> {
    let version = name.strip_suffix(".json")?;
    let all_digits = version.len() == 20 && version.bytes().all(|b| b.is_ascii_digit());
    all_digits.then(|| version.parse().ok())?
}

/// `00000000000000000010.checkpoint….parquet` or `….json` → 10.
fn checkpoint_version(name: &str) -> Option<u64> {
    let (version, rest) = name.split_once(".checkpoint.")?;
    (rest.ends_with("parquet") || rest.ends_with("json")).then_some(())?;
    (version.len() == 20).then(|| version.parse().ok())?
}

async fn read_checkpoint(store: &Arc<dyn ObjectStore>, name: &str, state: &mut LogState) -> anyhow::Result<()> {
    let path = Path::from(format!("_delta_log/{name}"));
    if name.ends_with("json") {
        let bytes = store.get(&path).await?.bytes().await?;
        return state.apply_commit(&bytes);
    }
    let bytes = store.head(&path).await?.size;
    let reader = StoredObject {
        store: store.clone(),
        path,
        bytes,
    };
    let builder = ParquetRecordBatchStreamBuilder::new(reader).await?;
    let schema = builder.parquet_schema();
    let leaves = (0..schema.num_columns()).filter(|leaf| {
        let path = schema.column(*leaf).path().string();
        path == "txn.appId" || path == "txn.version" || path.starts_with("metaData.configuration.")
    });
    let mask = ProjectionMask::leaves(schema, leaves.collect::<Vec<_>>());
    let mut batches = builder.with_projection(mask).build()?;
    while let Some(batch) = batches.try_next().await? {
        state.apply_checkpoint(&batch)?;
    }
    Ok(())
}

impl LogState {
    /// One action per line.
    fn apply_commit(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let text = std::str::from_utf8(bytes)?;
        if text.trim().is_empty() {
            bail!("it is empty");
        }
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let action: Json = serde_json::from_str(line)?;
            let txn = &action["txn"];
            if let (Some(app), Some(version)) = (txn["appId"].as_str(), txn["version"].as_i64()) {
                self.transactions.insert(app.to_owned(), version);
            }
            if let Some(configuration) = action["metaData"]["configuration"].as_object() {
                let text = |(key, value): (&String, &Json)| Some((key.clone(), value.as_str()?.to_owned()));
                self.configuration = configuration.iter().filter_map(text).collect();
            }
        }
        Ok(())
    }

    fn apply_checkpoint(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        if let Some(txn) = batch.column_by_name("txn").and_then(|column| column.as_struct_opt()) {
            let apps = txn.column_by_name("appId").context("txn without appId")?;
            let apps = arrow::compute::cast(apps, &arrow::datatypes::DataType::Utf8)?;
            let apps = apps.as_string::<i32>();
            let versions = txn.column_by_name("version").context("txn without version")?;
            let versions = versions
                .as_primitive_opt::<Int64Type>()
                .context("txn.version is no long")?;
            for row in (0..txn.len()).filter(|row| txn.is_valid(*row) && apps.is_valid(*row)) {
                self.transactions
                    .insert(apps.value(row).to_owned(), versions.value(row));
            }
        }
        if let Some(metadata) = batch
            .column_by_name("metaData")
            .and_then(|column| column.as_struct_opt())
        {
            let maps = metadata
                .column_by_name("configuration")
                .and_then(|column| column.as_map_opt());
            for row in (0..metadata.len()).filter(|row| metadata.is_valid(*row)) {
                if let Some(maps) = maps.filter(|maps| maps.is_valid(row)) {
                    self.configuration = entries(&maps.value(row))?;
                }
            }
        }
        Ok(())
    }
}

fn entries(map: &arrow::array::StructArray) -> anyhow::Result<BTreeMap<String, String>> {
    let text = |column| arrow::compute::cast(map.column(column), &arrow::datatypes::DataType::Utf8);
    let (keys, values) = (text(0)?, text(1)?);
    let (keys, values) = (keys.as_string::<i32>(), values.as_string::<i32>());
    let valid = (0..map.len()).filter(|row| values.is_valid(*row));
    Ok(valid
        .map(|row| (keys.value(row).to_owned(), values.value(row).to_owned()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_transaction_of_an_application_counts() {
        let mut state = LogState::default();
        let first = br#"{"metaData":{"id":"x","configuration":{"affluent.job":"shop"}}}
            {"txn":{"appId":"a","version":5}}
            {"txn":{"appId":"b","version":-1}}"#;
        state.apply_commit(first).unwrap();
        state.apply_commit(br#"{"txn":{"appId":"a","version":9}}"#).unwrap();
        assert_eq!(state.transactions, BTreeMap::from([("a".into(), 9), ("b".into(), -1)]));
        assert_eq!(state.configuration["affluent.job"], "shop");
    }

    #[test]
    fn a_torn_commit_is_an_error_and_never_skipped() {
        for torn in ["", "\n", r#"{"txn":{"appId":"a","#] {
            assert!(LogState::default().apply_commit(torn.as_bytes()).is_err(), "{torn:?}");
        }
    }

    #[test]
    fn commits_and_checkpoints_are_known_by_name() {
        assert_eq!(commit_version("00000000000000000010.json"), Some(10));
        assert_eq!(commit_version("00000000000000000010.checkpoint.parquet"), None);
        assert_eq!(commit_version(".00000000000000000010.json.tmp"), None);
        assert_eq!(checkpoint_version("00000000000000000010.checkpoint.parquet"), Some(10));
        assert_eq!(
            checkpoint_version("00000000000000000010.checkpoint.0000000001.0000000002.parquet"),
            Some(10)
        );
        assert_eq!(checkpoint_version("00000000000000000010.json"), None);
        assert_eq!(checkpoint_version("_last_checkpoint"), None);
        assert_eq!(checkpoint_version("00000000000000000010.checkpoint.parquet.crc"), None);
    }
}
