//! The lake's store in memory, and what a reader of the table sees at each version.
//!
//! Owns: following every commit file that is stored, as an independent reader: rows from the Parquet files it adds,
//! progress from its `txn` entries.
//! Does not own: the writer's side, which is the sink's own code.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use futures::FutureExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, PutMode, PutOptions, PutPayload, PutResult};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use super::services::STREAM;
use crate::lake::delta::names::{AppIds, Entry, LOG, LogFile, commit_path};
use crate::offsets::Progress;
use crate::schema::ID_COLUMN;

pub(super) const JOB: &str = "simulation";

pub(super) struct Lake {
    pub objects: Arc<InMemory>,
    /// Of every data file, the ids in it.
    files: BTreeMap<String, Vec<i64>>,
    /// The empty table before version 0 first.
    versions: Vec<Version>,
}

/// What a reader of one version sees.
#[derive(Clone, Debug, Default)]
pub(super) struct Version {
    /// How often each id is there.
    pub rows: BTreeMap<i64, u32>,
    pub start: Progress,
    pub next: Progress,
}

impl Default for Lake {
    fn default() -> Self {
        Self {
            objects: Arc::default(),
            files: BTreeMap::new(),
            versions: vec![Version::default()],
        }
    }
}

impl Lake {
    pub fn newest(&self) -> &Version {
        self.versions.last().expect("there is the empty one")
    }

    pub fn versions(&self) -> &[Version] {
        &self.versions
    }

    pub fn put(&mut self, path: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        let bytes = Bytes::from(payload.clone());
        let put = self.objects.put_opts(path, payload, options);
        let stored = put.now_or_never().expect("memory does not wait")?;
        if path.as_ref().starts_with(LOG) {
            if let Some(LogFile::Commit(version)) = path.filename().and_then(LogFile::parse) {
                assert_eq!(version as usize, self.versions.len() - 1, "the log has a gap");
                self.follow(&bytes);
            }
        } else {
            self.files.insert(path.to_string(), ids(bytes));
        }
        Ok(stored)
    }

    /// A commit of another program that changes no data.
    pub fn maintain(&mut self) -> bool {
        if self.versions.len() < 2 {
            return false;
        }
        let body = json!({"commitInfo": {"operation": "OPTIMIZE", "operationParameters": {}}}).to_string();
        let options = PutOptions::from(PutMode::Create);
        let path = commit_path(self.versions.len() as u64 - 1);
        self.put(&path, format!("{body}\n").into(), options).is_ok()
    }

    fn follow(&mut self, commit: &[u8]) {
        let app_ids = AppIds::new(JOB, STREAM);
        let mut version = self.newest().clone();
        for line in commit.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let action: Value = serde_json::from_slice(line).expect("every line of a commit is JSON");
            if let Some(path) = action["add"]["path"].as_str() {
                let ids = self.files.get(path).expect("a commit names files that are there");
                for id in ids {
                    *version.rows.entry(*id).or_default() += 1;
                }
            }
            let entry = action["txn"]["appId"].as_str().and_then(|app_id| app_ids.parse(app_id));
            let next = action["txn"]["version"].as_i64().unwrap_or_default() + 1;
            match entry {
                Some(Entry::Progress(_, partition)) => version.next.insert(partition, next),
                Some(Entry::Start(_, partition)) => version.start.insert(partition, next),
                _ => None,
            };
        }
        self.versions.push(version);
    }
}

fn ids(file: Bytes) -> Vec<i64> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("a Parquet file");
    let only_ids = ProjectionMask::columns(reader.parquet_schema(), [ID_COLUMN]);
    let batches = reader.with_projection(only_ids).build().expect("readable");
    let ids = batches.map(|batch| {
        batch
            .expect("readable")
            .column(0)
            .as_primitive::<Int64Type>()
            .values()
            .to_vec()
    });
    ids.flatten().collect()
}
