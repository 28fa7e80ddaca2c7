//! The lake sink: rows become Parquet files by partition, files and progress become one Delta commit.
//!
//! Owns: what is open, closed and uploaded between two commits, and the order close → upload → commit.
//! Does not own: how rows are split and encoded, the table's log (`lake`), when to commit (`sink::driver`).
//!
//! ```text
//!  write ─ split ─▶ open writers ──(target size, or commit)──▶ closed ─ upload ─▶ uploaded ─┐
//!                                                                                            ▼
//!  commit: close all ─▶ upload all ─▶ proposal { files, expected → target } ─▶ Table::commit
//! ```
//!
//! A proposal is kept over retries: it remembers that an outcome is unknown. Uploaded files of a commit that
//! was given up are left to VACUUM; whether they were committed after all is not ours to know.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;
use chrono::Utc;
use futures::{StreamExt as _, stream};
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutPayload};
use parquet::file::properties::WriterProperties;
use tokio::runtime::{Handle, RuntimeFlavor};
use tracing::warn;

use super::{CommitSummary, Pending, Position, Reason, Sink, SinkName};
use crate::batch::Batch;
use crate::config::StreamConfig;
use crate::error::{Invariant, SinkError};
use crate::failpoint;
use crate::lake::delta::Table;
use crate::lake::delta::actions::Add;
use crate::lake::delta::commit::{Move, Proposal};
use crate::lake::delta::spec::TableSpec;
use crate::lake::layout::{PartitionValues, file_name, file_path, log_path, partition_path};
use crate::lake::parquet::{EncodedFile, PartitionWriter, properties};
use crate::lake::split::{PartitionIndex, Splitter};
use crate::lake::store::Store;
use crate::loss::{Loss, Standing};
use crate::offsets::{Offset, Partition, Progress, RecordId, TopicId};

/// Files uploaded at a time: hides the latency of a store without crowding the network.
const UPLOADS_IN_FLIGHT: usize = 4;

/// One stream's lake side.
pub struct LakeSink {
    table: Table,
    splitter: Splitter,
    properties: Arc<WriterProperties>,
    partition_columns: Vec<String>,
    id_index: usize,
    target_file_bytes: u64,
    /// The topic id under which progress is recorded.
    topic: TopicId,
    /// Owned partitions: stored progress, as far as we know.
    committed: Progress,
    /// Owned partitions: stored progress plus what was written since.
    tips: Progress,
    open: BTreeMap<PartitionIndex, PartitionWriter>,
    closed: Vec<ClosedFile>,
    uploaded: Vec<UploadedFile>,
    /// The last upload failed: the next one is the commit's, which is repeated with a pause.
    upload_failed: bool,
    rows: u64,
    /// Being committed, perhaps with an unknown outcome.
    proposal: Option<Proposal>,
}

/// Encoded, not yet in the store.
#[derive(Clone)]
struct ClosedFile {
    path: String,
    values: PartitionValues,
    file: EncodedFile,
}

/// In the store, not yet in the log.
struct UploadedFile {
    path: String,
    add: Add,
    since: Instant,
}

impl LakeSink {
    /// Opens the stream's table, creates it where there is none. `job` must be the table's.
    pub async fn open(job: &str, stream: &StreamConfig) -> Result<Self, SinkError> {
        let lake = &stream.lake;
        let store = Store::open(&lake.root, &lake.storage, &stream.name).map_err(SinkError::Infrastructure)?;
        Self::on(store, job, stream).await
    }

    /// The sink on a store that is there.
    pub(crate) async fn on(store: Store, job: &str, stream: &StreamConfig) -> Result<Self, SinkError> {
        let spec = TableSpec::new(job, &stream.name, &stream.topic, &stream.schema);
        let partition_columns = spec.partition_columns.clone();
        Ok(Self {
            table: Table::open_or_create(store, spec).await?,
            splitter: Splitter::new(&stream.schema),
            properties: properties(),
            partition_columns,
            id_index: stream.schema.id_index(),
            target_file_bytes: stream.lake.target_file_bytes,
            topic: TopicId::unknown(),
            committed: Progress::new(),
            tips: Progress::new(),
            open: BTreeMap::new(),
            closed: Vec::new(),
            uploaded: Vec::new(),
            upload_failed: false,
            rows: 0,
            proposal: None,
        })
    }

    /// The rows this sink does not hold yet. Almost always all of them: only a sink that is ahead of the other
    /// one skips, right after a start.
    fn unseen(&self, batch: &Batch) -> RecordBatch {
        let ahead = batch
            .covered
            .iter()
            .any(|(p, covered)| self.tips.get(p).is_none_or(|tip| covered.start < *tip));
        if !ahead {
            return batch.rows.clone();
        }
        let ids = batch.rows.column(self.id_index).as_primitive::<Int64Type>();
        let mask: BooleanArray = ids
            .values()
            .iter()
            .map(|id| {
                let id = RecordId(*id);
                Some(self.tips.get(&id.partition()).is_some_and(|tip| id.offset() >= *tip))
            })
            .collect();
        filter_record_batch(&batch.rows, &mask).expect("one mask bit per row")
    }

    /// Splits and encodes; processor work.
    fn take_rows(&mut self, rows: &RecordBatch) -> anyhow::Result<()> {
        let parts = self
            .splitter
            .split(std::slice::from_ref(rows))
            .context("cannot split rows by partition")?;
        for (partition, rows) in parts {
            let schema = self.splitter.data_schema();
            let writer = self
                .open
                .entry(partition)
                .or_insert_with(|| PartitionWriter::new(schema, &self.properties));
            writer.push(rows).context("cannot encode Parquet")?;
            if writer.encoded_bytes() >= self.target_file_bytes {
                self.close(partition)?;
            }
        }
        Ok(())
    }

    fn close(&mut self, partition: PartitionIndex) -> anyhow::Result<()> {
        let Some(writer) = self.open.remove(&partition) else {
            return Ok(());
        };
        let values = self.splitter.values(partition);
        let file = writer.close().context("cannot encode Parquet")?;
        let path = file_path(&partition_path(&self.partition_columns, &values), &file_name());
        self.closed.push(ClosedFile { path, values, file });
        Ok(())
    }

    fn close_all(&mut self) -> anyhow::Result<()> {
        while let Some((&partition, _)) = self.open.first_key_value() {
            self.close(partition)?;
        }
        Ok(())
    }

    /// Uploads what is closed; what did not make it stays for the next try.
    async fn upload(&mut self) -> Result<(), SinkError> {
        if self.closed.is_empty() {
            return Ok(());
        }
        failpoint!("lake.upload.before");
        let objects = self.table.store().objects();
        let puts = std::mem::take(&mut self.closed).into_iter().map(|closed| async move {
            // Nobody else writes this name: overwriting can only repeat our own earlier try.
            let put = match Path::parse(&closed.path) {
                Ok(path) => objects
                    .put(&path, PutPayload::from_bytes(closed.file.bytes.clone()))
                    .await
                    .map(drop),
                Err(error) => Err(error.into()),
            };
            (closed, put)
        });
        let answers: Vec<_> = stream::iter(puts).buffer_unordered(UPLOADS_IN_FLIGHT).collect().await;
        let mut failure = None;
        for (closed, put) in answers {
            match put {
                Ok(()) => self.uploaded.push(closed.uploaded(&self.partition_columns)),
                Err(error) => {
                    // In one line: the store's error repeats its own cause.
                    failure = Some(anyhow::anyhow!("cannot write {}: {error}", closed.path));
                    self.closed.push(closed);
                }
            }
        }
        failpoint!("lake.upload.after");
        self.upload_failed = failure.is_some();
        failure.map_or(Ok(()), |error| Err(SinkError::Infrastructure(error)))
    }

    /// Everything written since the last commit, as one change of the table.
    fn propose(&self, reason: Reason) -> Proposal {
        let moves = self.tips.iter().filter_map(|(partition, target)| {
            let expected = self.committed.get(partition).copied();
            (expected != Some(*target)).then_some((
                *partition,
                Move {
                    expected,
                    target: *target,
                },
            ))
        });
        let adds = self.uploaded.iter().map(|file| file.add.clone()).collect();
        let notes = BTreeMap::from([("reason", reason.as_str().to_owned()), ("rows", self.rows.to_string())]);
        Proposal::data(&self.topic, moves.collect(), adds, notes)
    }

    fn forget(&mut self) {
        self.open.clear();
        self.closed.clear();
        self.uploaded.clear();
        self.splitter.clear();
        self.rows = 0;
        self.proposal = None;
    }
}

/// Processor work in the middle of a task: a runtime with more threads moves its other tasks away meanwhile; one
/// with a single thread could not, and would panic if asked to.
fn busy<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Another program's VACUUM takes files that no commit names once they are old. Where one of ours is gone, the
/// rows are read from Kafka again.
async fn check_waiting_files(table: &Table, uploaded: &[UploadedFile], proposal: &Proposal) -> Result<(), SinkError> {
    let longest = uploaded
        .iter()
        .map(|file| file.since.elapsed())
        .max()
        .unwrap_or_default();
    if proposal.is_unknown() || longest < table.safe_wait() {
        return Ok(());
    }
    let paths: Vec<String> = uploaded.iter().map(|file| file.path.clone()).collect();
    let Some(path) = table.missing_file(&paths).await? else {
        return Ok(());
    };
    warn!(
        path,
        "a file that waited for its commit has been deleted by another program: its rows are read again"
    );
    let (partition, change) = proposal.moves().first_key_value().expect("files come with progress");
    let expected = change.expected.unwrap_or(change.target);
    Err(SinkError::Lost {
        partition: *partition,
        expected,
        found: change.expected,
    })
}

impl ClosedFile {
    fn uploaded(self, columns: &[String]) -> UploadedFile {
        let add = Add {
            path: log_path(&self.path),
            partition_values: Add::values(columns, &self.values),
            size: self.file.bytes.len() as u64,
            modification_time: Utc::now().timestamp_millis(),
            data_change: true,
            stats: self.file.stats,
        };
        UploadedFile {
            path: self.path,
            add,
            since: Instant::now(),
        }
    }
}

impl Sink for LakeSink {
    fn name(&self) -> SinkName {
        SinkName::Lake
    }

    async fn progress(
        &mut self,
        topic_id: &TopicId,
        partitions: &[Partition],
    ) -> Result<BTreeMap<Partition, Position>, SinkError> {
        self.table.refresh().await?;
        let (topic, recorded) = self.table.recorded(topic_id)?;
        self.topic = topic;
        let epoch = self.table.epoch(&self.topic);
        let position = |partition: &Partition| {
            let recorded = recorded.get(partition)?;
            let untouched = recorded.start == Some(recorded.next);
            Some((
                *partition,
                Position {
                    next: recorded.next,
                    untouched,
                    epoch,
                },
            ))
        };
        Ok(partitions.iter().filter_map(position).collect())
    }

    async fn adopt(&mut self, topic_id: &TopicId, starts: &Progress) -> Result<(), SinkError> {
        self.table.refresh().await?;
        let (topic, _) = self.table.recorded(topic_id)?;
        let mut proposal = Proposal::adoption(&topic, starts);
        self.table.commit(&mut proposal).await.map(drop)
    }

    async fn standing(&mut self) -> Result<Standing, SinkError> {
        self.table.standing().await
    }

    async fn accept(&mut self, standing: &Standing, loss: &Loss) -> Result<(), SinkError> {
        self.table.accept(standing, loss).await
    }

    fn begin(&mut self, progress: &Progress) {
        self.committed.extend(progress);
        self.tips.extend(progress);
    }

    async fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let rows = self.unseen(batch);
        if rows.num_rows() > 0 {
            let taken = busy(|| self.take_rows(&rows));
            // Arrow that our own decoder has built always fits the schema our own writer was given.
            taken.map_err(|error| Invariant::new(format!("{error:#}"), "report this as a defect of affluent"))?;
            self.rows += rows.num_rows() as u64;
        }
        for (partition, covered) in &batch.covered {
            if let Some(tip) = self.tips.get_mut(partition) {
                *tip = covered.end.max(*tip);
            }
        }
        if !self.closed.is_empty()
            && !self.upload_failed
            && let Err(error) = self.upload().await
        {
            // It stays closed and is uploaded with the commit, whose failure is the one that counts.
            warn!("a full file has to wait for its upload: {error}");
        }
        Ok(())
    }

    fn pending(&self) -> Pending {
        let open: u64 = self.open.values().map(PartitionWriter::held_bytes).sum();
        let closed: u64 = self.closed.iter().map(|file| file.file.bytes.len() as u64).sum();
        Pending {
            rows: self.rows,
            bytes: open + closed,
            moved: self.tips != self.committed,
        }
    }

    async fn commit(&mut self, reason: Reason) -> Result<CommitSummary, SinkError> {
        let started = Instant::now();
        if self.proposal.is_none() {
            let closed = busy(|| self.close_all());
            closed.map_err(|error| Invariant::new(format!("{error:#}"), "report this as a defect of affluent"))?;
            self.upload().await?;
        }
        let mut proposal = self.proposal.take().unwrap_or_else(|| self.propose(reason));
        let write_time = started.elapsed();
        let mut outcome = check_waiting_files(&self.table, &self.uploaded, &proposal)
            .await
            .map(|()| 0);
        if outcome.is_ok() {
            outcome = self.table.commit(&mut proposal).await;
        }
        let version = match outcome {
            Ok(version) => version,
            Err(error) => {
                self.proposal = Some(proposal);
                return Err(error);
            }
        };
        let progress: Progress = proposal.moves().iter().map(|(p, change)| (*p, change.target)).collect();
        let summary = CommitSummary {
            rows: self.rows,
            files: proposal.adds().len() as u64,
            bytes: proposal.adds().iter().map(|add| add.size).sum(),
            version: Some(version),
            replayed: 0,
            write_time,
            commit_time: started.elapsed().saturating_sub(write_time),
            progress: progress.clone(),
        };
        self.committed.extend(progress);
        self.forget();
        Ok(summary)
    }

    fn discard(&mut self) {
        self.forget();
        self.committed.clear();
        self.tips.clear();
    }

    fn release(&mut self, partitions: &[Partition]) {
        for owned in [&mut self.committed, &mut self.tips] {
            owned.retain(|partition, _: &mut Offset| !partitions.contains(partition));
        }
    }
}
