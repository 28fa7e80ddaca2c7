//! The lake sink: rows become Parquet files by partition, files and progress become one Delta commit.
//!
//! Owns: what was taken since the last commit, and the order close → upload → commit.
//! Does not own: how rows become files and get into the store, the table's log (`lake`), when to commit
//! (`sink::driver`).
//!
//! ```text
//!  write ─▶ open files ──(target size, memory, or commit)──▶ closed ─▶ uploads, in the background ─┐
//!                                                                                                    ▼
//!  commit: close one after the other, uploads going on ─▶ all stored ─▶ proposal { files, expected → target }
//!                                                                                     ─▶ Table::commit
//! ```
//!
//! A proposal is kept over retries: it remembers that an outcome is unknown. Uploaded files of a commit that
//! was given up are left to VACUUM; whether they were committed after all is not ours to know.

use std::collections::BTreeMap;
use std::time::Instant;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;
use tokio::runtime::{Handle, RuntimeFlavor};
use tracing::warn;

use super::{CommitSummary, Pending, Position, Reason, Sink, SinkName};
use crate::batch::Batch;
use crate::config::StreamConfig;
use crate::error::{Invariant, SinkError};
use crate::event_time::{self, EventTimes, Lateness};
use crate::failpoint;
use crate::lake::delta::Table;
use crate::lake::delta::actions::Add;
use crate::lake::delta::commit::{Move, Proposal};
use crate::lake::delta::spec::TableSpec;
use crate::lake::layout::log_path;
use crate::lake::open::{ClosedFile, OpenFiles};
use crate::lake::store::Store;
use crate::lake::upload::{StoredFile, Uploads};
use crate::loss::{Loss, Standing};
use crate::memory::OpenShare;
use crate::offsets::{Offset, Partition, Progress, RecordId, TopicId};
use crate::schema::evolution::Change;

/// One stream's lake side.
pub struct LakeSink {
    table: Table,
    partition_columns: Vec<String>,
    id_index: usize,
    time_columns: event_time::Columns,
    open_share: OpenShare,
    /// The topic id under which progress is recorded.
    topic: TopicId,
    /// Owned partitions: stored progress, as far as we know.
    committed: Progress,
    /// Owned partitions: stored progress plus what was written since.
    tips: Progress,
    open: OpenFiles,
    uploads: Uploads,
    /// Owned partitions: highest event time stored, or written since.
    event_times: EventTimes,
    /// Of the rows written since the last commit.
    lateness: Lateness,
    rows: u64,
    /// Being committed, perhaps with an unknown outcome.
    proposal: Option<Proposal>,
}

impl LakeSink {
    /// Opens the stream's table, creates it where there is none. `job` must be the table's.
    pub async fn open(job: &str, stream: &StreamConfig) -> Result<Self, SinkError> {
        let lake = &stream.lake;
        let store = Store::open(&lake.root, &lake.storage, &stream.name).await?;
        Self::on(store, job, stream).await
    }

    /// The sink on a store that is there.
    pub(crate) async fn on(store: Store, job: &str, stream: &StreamConfig) -> Result<Self, SinkError> {
        let mut spec = TableSpec::new(job, &stream.name, &stream.topic, &stream.schema);
        spec.declared.may_be_former = stream.former_schema;
        let partition_columns = spec.partition_columns.clone();
        let table = Table::open_or_create(store, spec).await?;
        Ok(Self {
            open: OpenFiles::new(&stream.schema, partition_columns.clone(), stream.lake.target_file_bytes),
            uploads: Uploads::new(table.store().clone()),
            table,
            partition_columns,
            id_index: stream.schema.id_index(),
            time_columns: event_time::Columns::of(&stream.schema),
            open_share: OpenShare::whole(stream.lake.max_open_bytes),
            topic: TopicId::unknown(),
            committed: Progress::new(),
            tips: Progress::new(),
            event_times: EventTimes::default(),
            lateness: Lateness::default(),
            rows: 0,
            proposal: None,
        })
    }

    /// With its open files accounted among those of other streams.
    pub fn sharing(self, open_share: OpenShare) -> Self {
        Self { open_share, ..self }
    }

    fn held_bytes(&self) -> u64 {
        self.open.held_bytes() + self.uploads.bytes()
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

    /// Closes every file and stores it: while one is on its way the next is encoded.
    async fn store_all(&mut self) -> Result<(), SinkError> {
        if self.open.is_empty() && self.uploads.is_idle() {
            return Ok(());
        }
        failpoint!("lake.upload.before");
        let mut closed = busy(|| self.open.settle()).map_err(defect)?;
        loop {
            closed.drain(..).for_each(|file| self.uploads.push(file));
            match busy(|| self.open.close_next()).map_err(defect)? {
                Some(file) => closed.push(file),
                None => break,
            }
            self.uploads.reap();
            // Small next to the rows they were, but they must not pile up before a slow store.
            self.uploads.shrink_to(self.open_share.limit()).await;
        }
        let stored = self.uploads.finish().await;
        failpoint!("lake.upload.after");
        stored.map_err(SinkError::Infrastructure)
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
        let stored = self.uploads.stored().iter();
        let adds = stored.map(|file| add(file, &self.partition_columns)).collect();
        let notes = BTreeMap::from([("reason", reason.as_str().to_owned()), ("rows", self.rows.to_string())]);
        Proposal::data(&self.topic, moves.collect(), adds, notes).reaching(self.event_times.clone())
    }

    fn forget(&mut self) {
        self.open.clear();
        self.uploads.clear();
        self.open_share.hold(0);
        self.lateness = Lateness::default();
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
async fn check_waiting_files(table: &Table, stored: &[StoredFile], proposal: &Proposal) -> Result<(), SinkError> {
    let longest = stored.iter().map(|file| file.since.elapsed()).max().unwrap_or_default();
    if proposal.is_unknown() || longest < table.safe_wait() {
        return Ok(());
    }
    let paths: Vec<String> = stored.iter().map(|stored| stored.file.path.clone()).collect();
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

fn add(stored: &StoredFile, columns: &[String]) -> Add {
    let ClosedFile { path, values, file } = &stored.file;
    Add {
        path: log_path(path),
        partition_values: Add::values(columns, values),
        size: file.size(),
        modification_time: stored.at.timestamp_millis(),
        data_change: true,
        stats: file.stats.clone(),
    }
}

/// Arrow that our own decoder has built always fits the schema our own writer was given.
fn defect(error: anyhow::Error) -> SinkError {
    Invariant::new(format!("{error:#}"), "report this as a defect of affluent").into()
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
        let event_times = self.table.event_times(&self.topic);
        let position = |partition: &Partition| {
            let recorded = recorded.get(partition)?;
            let untouched = recorded.start == Some(recorded.next);
            Some((
                *partition,
                Position {
                    next: recorded.next,
                    untouched,
                    epoch,
                    event_time: event_times.get(*partition),
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

    async fn evolve(&mut self) -> Result<Option<Change>, SinkError> {
        self.table.evolve().await
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
        let known = self.table.event_times(&self.topic);
        for partition in progress.keys() {
            if let Some(highest) = known.get(*partition) {
                self.event_times.rise(*partition, highest);
            }
        }
    }

    async fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let rows = self.unseen(batch);
        if rows.num_rows() > 0 {
            let count = rows.num_rows() as u64;
            self.lateness.merge(&self.event_times.take_in(&rows, self.time_columns));
            let closed = busy(|| self.open.push(rows, self.open_share.limit())).map_err(defect)?;
            closed.into_iter().for_each(|file| self.uploads.push(file));
            self.rows += count;
        }
        for (partition, covered) in &batch.covered {
            if let Some(tip) = self.tips.get_mut(partition) {
                *tip = covered.end.max(*tip);
            }
        }
        self.uploads.reap();
        // A store slower than Kafka is waited for here. What it cannot take at all stays in memory, and the sink is full:
        // the commit that follows holds out, and its failure is the one that counts.
        let room = self.open_share.limit().saturating_sub(self.open.held_bytes());
        self.uploads.shrink_to(room).await;
        self.open_share.hold(self.held_bytes());
        Ok(())
    }

    fn pending(&self) -> Pending {
        Pending {
            rows: self.rows,
            bytes: self.held_bytes(),
            moved: self.tips != self.committed,
            full: self.held_bytes() > self.open_share.limit(),
        }
    }

    async fn commit(&mut self, reason: Reason) -> Result<CommitSummary, SinkError> {
        let started = Instant::now();
        if self.proposal.is_none() {
            self.store_all().await?;
        }
        let mut proposal = self.proposal.take().unwrap_or_else(|| self.propose(reason));
        let write_time = started.elapsed();
        let mut outcome = check_waiting_files(&self.table, self.uploads.stored(), &proposal)
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
            fills: proposal.adds().iter().map(|add| self.open.fill(add.size)).collect(),
            bytes: proposal.adds().iter().map(|add| add.size).sum(),
            version: Some(version),
            replayed: 0,
            write_time,
            commit_time: started.elapsed().saturating_sub(write_time),
            progress: progress.clone(),
            event_times: self.event_times.clone(),
            lateness: std::mem::take(&mut self.lateness),
        };
        self.committed.extend(progress);
        self.forget();
        Ok(summary)
    }

    fn discard(&mut self) {
        self.forget();
        self.committed.clear();
        self.tips.clear();
        self.event_times.clear();
    }

    fn release(&mut self, partitions: &[Partition]) {
        for owned in [&mut self.committed, &mut self.tips] {
            owned.retain(|partition, _: &mut Offset| !partitions.contains(partition));
        }
        partitions.iter().for_each(|p| self.event_times.remove(*p));
    }
}
