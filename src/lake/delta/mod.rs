//! The table's log: the only module that writes below `_delta_log`.
//!
//! Owns: [`Table`] — a stream's table, opened or created, followed, and committed to. Its memory is one
//! [`log::LogTail`], not the list of files.
//! Why not the Delta library's own commit: it retries by itself, lets two owners with disjoint files both
//! through, and reports its own commit as a conflict when the reply was lost.
//! Does not own: data files (`parquet`, `store`), checkpoints and clean-up (maintenance).

pub mod actions;
mod checkpoint;
pub mod commit;
pub mod evolution;
pub mod files;
pub mod library;
pub mod load;
pub mod log;
pub mod loss;
pub mod names;
pub mod retention;
pub mod spec;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use chrono::Utc;
use object_store::path::Path;
use serde_json::json;

use self::actions::OwnCommit;
use self::commit::{commit_info, put_if_absent};
use self::load::{failed, object_exists};
use self::log::LogTail;
use self::names::{AppIds, CLOSED, Entry};
use self::spec::{TableSpec, plain_protocol};
use super::store::Store;
use crate::error::{Invariant, SinkError};
use crate::event_time::EventTimes;
use crate::failpoint;
use crate::offsets::{Epoch, Offset, Partition, TopicId};
use crate::schema::evolution::Fit;
use crate::telemetry;

/// A wait that is safe with any retention that makes sense; for tables whose own is not understood.
const CAUTIOUS_WAIT: Duration = Duration::from_secs(3600);

pub struct Table {
    store: Store,
    spec: TableSpec,
    log: LogTail,
}

/// What the log records for one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub next: Offset,
    /// The start that was adopted; absent only where another program wrote the progress.
    pub start: Option<Offset>,
}

impl Table {
    /// Opens the stream's table, creates it where there is none, and checks that it is ours, or can become it. What has
    /// been done to its rows is judged later, by [`Table::refresh`].
    pub async fn open_or_create(store: Store, spec: TableSpec) -> Result<Self, SinkError> {
        let app_ids = AppIds::new(&spec.job, &spec.stream);
        let log = match LogTail::load(&store, &app_ids).await? {
            Some(log) => log,
            None => create(&store, &spec, &app_ids).await?,
        };
        let table = Self { store, spec, log };
        table.fit()?;
        Ok(table)
    }

    /// Reads the log to its end, and checks what has been done to the table since; is our declaration in force?
    pub async fn refresh(&mut self) -> Result<Fit, SinkError> {
        let before = self.log.foreign;
        self.log.refresh(&self.store).await?;
        telemetry::foreign_commits(&self.spec.stream, self.log.foreign.since(before));
        self.check()
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn version(&self) -> u64 {
        self.log.version
    }

    /// Progress of every partition under `topic`, or under the id that stands for it: as long as either
    /// side is unknown, the recorded id goes on. Another known id is a re-created topic.
    pub fn recorded(&self, topic: &TopicId) -> Result<(TopicId, BTreeMap<Partition, Recorded>), SinkError> {
        let mut effective = topic.clone();
        let mut recorded = BTreeMap::new();
        for (theirs, partition, next) in self.log.progress() {
            if theirs.is_known() && topic.is_known() && theirs != topic {
                return Err(self.recreated(theirs, topic, partition, next).into());
            }
            effective = theirs.clone();
            let start = self.log.entries.get(&Entry::Start(theirs.clone(), partition));
            let position = Recorded {
                next,
                start: start.map(|last| last + 1),
            };
            recorded.insert(partition, position);
        }
        let closed = self.log.entries.values().any(|last| *last == CLOSED);
        if recorded.is_empty() && self.log.has_rows && !closed {
            return Err(self.progress_gone().into());
        }
        Ok((effective, recorded))
    }

    pub fn epoch(&self, topic: &TopicId) -> Epoch {
        let epoch = self.log.entries.get(&Entry::Epoch(topic.clone()));
        Epoch(epoch.and_then(|epoch| u8::try_from(*epoch).ok()).unwrap_or_default())
    }

    /// Highest event times of `topic`'s records in the table, as far as they are known.
    pub fn event_times(&self, topic: &TopicId) -> EventTimes {
        self.log.event_times(topic)
    }

    /// How long a file may lie uncommitted before another program's VACUUM could have taken it.
    pub fn safe_wait(&self) -> Duration {
        retention::file_retention(&self.log).map_or(CAUTIOUS_WAIT, |retention| retention / 4)
    }

    /// The first of these files that is not there.
    pub async fn missing_file(&self, paths: &[String]) -> Result<Option<String>, SinkError> {
        for path in paths {
            let object = Path::parse(path)
                .context("an impossible file path")
                .map_err(SinkError::Infrastructure)?;
            let found = object_exists(self.store.objects(), &object).await;
            if !found.map_err(|e| failed(&self.store, "look for", path, e))? {
                return Ok(Some(path.clone()));
            }
        }
        Ok(None)
    }

    fn fit(&self) -> Result<Fit, Invariant> {
        let log = &self.log;
        self.spec.check(self.store.location(), &log.protocol, &log.metadata)
    }

    fn check(&self) -> Result<Fit, SinkError> {
        let fit = self.fit()?;
        match &self.log.damage {
            Some(damage) => Err(Invariant::new(
                damage.said(self.store.location()),
                format!(
                    "restore the table to version {} or one right before the removal, or move it away to read \
                     everything from Kafka again",
                    self.log.latest().unwrap_or(damage.version.saturating_sub(1)),
                ),
            )
            .into()),
            None => Ok(fit),
        }
    }

    fn recreated(&self, theirs: &TopicId, ours: &TopicId, partition: Partition, next: Offset) -> Invariant {
        Invariant::new(
            format!(
                "the topic of stream {} was re-created: the table at {} has partition {partition} up to offset \
                 {next} of topic id {theirs}, the broker now has topic id {ours}",
                self.spec.stream,
                self.store.location()
            ),
            "give the stream another name, or move the table away, to begin a new table with the new topic",
        )
    }

    fn progress_gone(&self) -> Invariant {
        Invariant::new(
            format!(
                "the table at {} holds rows but no progress of ours: its txn entries are gone",
                self.store.location()
            ),
            "put the log back from a backup, or move the table away to read everything from Kafka again",
        )
    }
}

/// Writes version 0: protocol and metadata, no data and no progress, so that it does not matter whose
/// version 0 wins. Whatever the outcome seems to be, the log is read again.
async fn create(store: &Store, spec: &TableSpec, app_ids: &AppIds) -> Result<LogTail, SinkError> {
    let now = Utc::now().timestamp_millis();
    let own = OwnCommit {
        commit: uuid::Uuid::new_v4().to_string(),
        actions: 3,
        event_times: None,
    };
    let body = format!(
        "{}\n{}\n{}\n",
        commit_info("CREATE TABLE", &BTreeMap::new(), &own),
        json!({ "protocol": plain_protocol() }),
        json!({ "metaData": spec.metadata(now) }),
    );
    failpoint!("lake.create.before");
    let outcome = put_if_absent(store, 0, body).await;
    failpoint!("lake.create.after");
    match (LogTail::load(store, app_ids).await?, outcome) {
        (Some(log), _) => Ok(log),
        (None, Err(error)) => Err(failed(store, "create", "version 0", error)),
        (None, Ok(())) => Err(SinkError::Infrastructure(anyhow::anyhow!(
            "the table just created at {} cannot be seen",
            store.location()
        ))),
    }
}
