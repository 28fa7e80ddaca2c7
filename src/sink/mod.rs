//! The contract every sink keeps, and what passes between a sink and its driver.
//!
//! Owns: the [`Sink`] trait, commit reasons and summaries.
//! Does not own: cadence, retries and ownership (`sink::driver`), resume points (`resume`).
//!
//! ```text
//!  evolve ──▶ progress ──▶ adopt (only where nothing is recorded) ──▶ begin ──▶ write* ──▶ commit ──▶ write* …
//!                                                                       ▲                     │ Lost
//!                                                                       └───── discard ◀──────┘
//! ```

pub mod driver;
pub mod lake;
pub mod mongo;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::error::SinkError;
use crate::event_time::{EventTimes, Lateness, Micros};
use crate::loss::{Loss, Standing};
use crate::offsets::{Epoch, Offset, Partition, Progress, TopicId};
use crate::schema::evolution::Change;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SinkName {
    Mongo,
    Lake,
}

impl SinkName {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mongo => "mongo",
            Self::Lake => "lake",
        }
    }
}

impl fmt::Display for SinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a sink has recorded for one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Next offset to read.
    pub next: Offset,
    /// Nothing has been stored beyond the recorded start yet.
    pub untouched: bool,
    pub epoch: Epoch,
    /// Highest event time stored; `None` where nothing tells it.
    pub event_time: Option<Micros>,
}

/// Why buffered rows were committed; written to log and metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Enough rows or bytes.
    Size,
    /// The oldest uncommitted row is as old as the interval allows.
    Interval,
    /// Nothing new has come for a while.
    Idle,
    /// The sink's memory is spent.
    Memory,
    /// Partitions are being handed over.
    Revoke,
    /// `--once` has reached its targets.
    Drained,
    Shutdown,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Interval => "interval",
            Self::Idle => "idle",
            Self::Memory => "memory",
            Self::Revoke => "revoke",
            Self::Drained => "drained",
            Self::Shutdown => "shutdown",
        }
    }
}

/// One commit, for the log line and the metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CommitSummary {
    pub rows: u64,
    /// Files written (lake).
    pub files: u64,
    /// Size of each file, as a part of the target (lake).
    pub fills: Vec<f64>,
    /// Bytes of Parquet, or of BSON sent.
    pub bytes: u64,
    /// Delta version (lake).
    pub version: Option<u64>,
    /// Documents that were already there: a replay after a crash or an unknown outcome.
    pub replayed: u64,
    /// Closing or sending the data, before the atomic step.
    pub write_time: Duration,
    /// The atomic step: Delta commit or transaction.
    pub commit_time: Duration,
    /// Progress after the commit, of the partitions it moved.
    pub progress: Progress,
    /// Highest event times after the commit, of the partitions it moved or more.
    pub event_times: EventTimes,
    /// How late its rows were (lake).
    pub lateness: Lateness,
}

/// A place that stores batches exactly once: data and progress move in one atomic step.
///
/// Contract, checked by the suite in `src/tests/sinks.rs` that every implementation passes:
/// - **Order**: `begin` before `write`; a batch's `covered` starts where the partition's last one ended
///   (or below the sink's progress: the sink skips what it already holds).
/// - **Idempotence**: after any `Infrastructure` error the same `commit` may be called again; it never
///   stores a row twice, whatever the unknown outcome of the first try was.
/// - **Fencing**: `commit` compares the stored progress with the expected one in the atomic step itself
///   and answers `Lost` without having changed data or progress.
/// - **Cancelling** a future of `commit` may leave documents or files beyond progress, never progress
///   without data; call `discard` afterwards.
pub trait Sink: Send + 'static {
    fn name(&self) -> SinkName;

    /// What is recorded for these partitions, read at majority / from the newest snapshot. Partitions
    /// without a record are absent from the answer. Checks ownership (job, topic id, schema, rollups):
    /// a mismatch is an `Invariant`, but for a compatible change of the schema. Creates the table or collections where
    /// missing.
    fn progress(
        &mut self,
        topic_id: &TopicId,
        partitions: &[Partition],
    ) -> impl Future<Output = Result<BTreeMap<Partition, Position>, SinkError>> + Send;

    /// Records where to begin, for partitions that have no record yet. A record made by somebody else in
    /// the meantime is `Lost`.
    fn adopt(&mut self, topic_id: &TopicId, starts: &Progress) -> impl Future<Output = Result<(), SinkError>> + Send;

    /// Makes our declaration of the fields the one in force, where it is a compatible change of the recorded one; `None`
    /// where it is in force already. Until then `progress` answers, and a `commit` does not succeed. Incompatible is
    /// an `Invariant`. After `Infrastructure` call it again.
    fn evolve(&mut self) -> impl Future<Output = Result<Option<Change>, SinkError>> + Send;

    /// Everything recorded of the stream, judged by nobody: of whatever topic, in whatever state.
    fn standing(&mut self) -> impl Future<Output = Result<Standing, SinkError>> + Send;

    /// Records a loss that a person has accepted and moves progress over it, in one atomic step, where `standing`
    /// is still what is recorded; else `Lost`. After `Infrastructure` the outcome is unknown: `standing` tells.
    fn accept(&mut self, standing: &Standing, loss: &Loss) -> impl Future<Output = Result<(), SinkError>> + Send;

    /// Starts owning these partitions at this progress (as answered by `progress`). Partitions that were
    /// owned before stay owned.
    fn begin(&mut self, progress: &Progress);

    /// Takes a batch in. Buffers or encodes; whatever it starts to send, its failures show at `commit`.
    fn write(&mut self, batch: &Batch) -> impl Future<Output = Result<(), SinkError>> + Send;

    /// What is buffered, for the driver's decision to commit.
    fn pending(&self) -> Pending;

    /// Stores everything written since the last commit, and the progress, in one atomic step.
    fn commit(&mut self, reason: Reason) -> impl Future<Output = Result<CommitSummary, SinkError>> + Send;

    /// Drops everything not committed and stops owning all partitions.
    fn discard(&mut self);

    /// Stops owning these partitions. Only after a commit: nothing of theirs may be pending.
    fn release(&mut self, partitions: &[Partition]);
}

/// Size of what a sink holds uncommitted. `moved` counts too: progress over rejected records alone
/// still has to be committed some day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    pub rows: u64,
    pub bytes: u64,
    /// Progress has moved, with or without rows.
    pub moved: bool,
    /// No more memory is to be had, whatever the cadence's bounds say.
    pub full: bool,
}
