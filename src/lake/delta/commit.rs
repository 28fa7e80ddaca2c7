//! The commit: one set of files and one move of progress, in one new version of the table.
//!
//! Owns: the order that makes it exactly once.
//!
//! ```text
//!          ┌──────────────────────────────────────────────────────────────┐
//!          ▼                                                              │ version taken, or
//!  read the log to its end ─▶ compare our progress with that snapshot     │ outcome unknown
//!                               │ as expected ─▶ PUT version + 1, if absent ┘ ─▶ done
//!                               │ at the target, after an unknown outcome ─▶ done
//!                               └ anything else ─▶ lost: another owner moved it
//! ```
//!
//! The PUT claims exactly the version after the snapshot that was compared, so nothing can slip in between.
//! An error after the PUT began says nothing about its outcome — nor does "already exists", since the store's
//! client may have repeated a request whose reply was lost. Only the log says, so it is read again.
//! Does not own: the files (`sink::lake`): they are never deleted here, whatever happens.

use std::collections::BTreeMap;

use anyhow::{Context, anyhow};
use chrono::Utc;
use object_store::{Error, PutMode, PutOptions};
use serde_json::{Value, json};

use super::Table;
use super::actions::{Add, OwnCommit, TopicEventTimes, Txn};
use super::load::failed;
use super::log::LogTail;
use super::names::{Entry, commit, commit_path};
use crate::error::SinkError;
use crate::event_time::EventTimes;
use crate::failpoint;
use crate::lake::store::Store;
use crate::offsets::{Offset, Partition, Progress, RECORDS_PROGRESS, TopicId};
use crate::schema::evolution::Fit;

/// Versions lost to other writers in one call before it is left to the caller's backoff.
const MAX_RACES: usize = 32;

/// A change of one partition's progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// `None`: nothing recorded yet.
    pub expected: Option<Offset>,
    pub target: Offset,
}

/// What is to be committed. Kept over retries of the same commit: it remembers that an outcome is unknown.
#[derive(Clone, Debug)]
pub struct Proposal {
    id: String,
    kind: Kind,
    topic: TopicId,
    moves: BTreeMap<Partition, Move>,
    adds: Vec<Add>,
    /// Highest event times once this is in; partitions of others are added from the log.
    event_times: EventTimes,
    /// For people: rows, reason and the like.
    notes: BTreeMap<&'static str, String>,
    unknown: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Adoption,
    Data,
}

/// How the snapshot relates to a proposal.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    AsExpected,
    AtTarget,
    Moved {
        partition: Partition,
        expected: Offset,
        found: Option<Offset>,
    },
}

impl Proposal {
    /// Files and the progress they bring.
    pub fn data(
        topic: &TopicId,
        moves: BTreeMap<Partition, Move>,
        adds: Vec<Add>,
        notes: BTreeMap<&'static str, String>,
    ) -> Self {
        Self::new(Kind::Data, topic, moves, adds, notes)
    }

    /// Where to begin, for partitions without progress.
    pub fn adoption(topic: &TopicId, starts: &Progress) -> Self {
        let moves = starts.iter().map(|(partition, start)| {
            let change = Move {
                expected: None,
                target: *start,
            };
            (*partition, change)
        });
        Self::new(Kind::Adoption, topic, moves.collect(), Vec::new(), BTreeMap::new())
    }

    fn new(
        kind: Kind,
        topic: &TopicId,
        moves: BTreeMap<Partition, Move>,
        adds: Vec<Add>,
        notes: BTreeMap<&'static str, String>,
    ) -> Self {
        Self {
            id: uuid::Uuid::new_v4().to_string(),
            kind,
            topic: topic.clone(),
            moves,
            adds,
            event_times: EventTimes::default(),
            notes,
            unknown: false,
        }
    }

    /// …and what it makes of the partitions' highest event times.
    pub fn reaching(self, event_times: EventTimes) -> Self {
        Self { event_times, ..self }
    }

    /// A PUT was tried and nobody knows what became of it.
    pub fn is_unknown(&self) -> bool {
        self.unknown
    }

    pub fn moves(&self) -> &BTreeMap<Partition, Move> {
        &self.moves
    }

    pub fn adds(&self) -> &[Add] {
        &self.adds
    }

    pub fn topic(&self) -> &TopicId {
        &self.topic
    }

    fn judge(&self, log: &LogTail) -> Verdict {
        if self.leaves_progress_out() {
            return Verdict::AsExpected;
        }
        let recorded = |partition: &Partition| {
            let last = log.entries.get(&Entry::Progress(self.topic.clone(), *partition));
            // A closed topic's entry is no offset, and equals none.
            last.map(|last| last.saturating_add(1))
        };
        if self.moves.iter().all(|(p, m)| recorded(p) == Some(m.target)) {
            return Verdict::AtTarget;
        }
        if let Some((partition, next)) = self.begun_under_another_id(log) {
            return Verdict::Moved {
                partition,
                expected: self.moves.get(&partition).map_or(next, |change| change.target),
                found: Some(next),
            };
        }
        match self.moves.iter().find(|(p, m)| recorded(p) != m.expected) {
            None => Verdict::AsExpected,
            Some((partition, change)) => Verdict::Moved {
                partition: *partition,
                expected: change.expected.unwrap_or(change.target),
                found: recorded(partition),
            },
        }
    }

    /// While one instance knows the topic's id and the other does not yet, both may record the first start. Progress
    /// under two ids that stand for the same topic would be two truths.
    fn begun_under_another_id(&self, log: &LogTail) -> Option<(Partition, Offset)> {
        if self.kind != Kind::Adoption {
            return None;
        }
        let same_topic = |theirs: &TopicId| *theirs != self.topic && !(theirs.is_known() && self.topic.is_known());
        let mut begun = log.progress().filter(|(theirs, ..)| same_topic(theirs));
        begun.next().map(|(_, partition, next)| (partition, next))
    }

    fn leaves_progress_out(&self) -> bool {
        !RECORDS_PROGRESS && self.kind == Kind::Data
    }

    /// Our entries as they stand after this commit.
    fn entries(&self, version: u64) -> BTreeMap<Entry, i64> {
        if self.leaves_progress_out() {
            return BTreeMap::new();
        }
        let mut entries = BTreeMap::from([(Entry::Latest, version as i64)]);
        for (partition, change) in &self.moves {
            let last = change.target - 1;
            entries.insert(Entry::Progress(self.topic.clone(), *partition), last);
            if self.kind == Kind::Adoption {
                entries.insert(Entry::Start(self.topic.clone(), *partition), last);
            }
        }
        entries
    }

    /// The commit file. Its first line counts its lines.
    fn body(&self, version: u64, log: &LogTail) -> serde_json::Result<String> {
        let app_ids = &log.app_ids;
        let txns = self.entries(version).into_iter().map(|(entry, version)| Txn {
            app_id: app_ids.format(&entry),
            version,
        });
        let mut lines: Vec<String> = Vec::with_capacity(self.adds.len() + 2 * self.moves.len() + 2);
        for txn in txns {
            lines.push(json!({ "txn": txn }).to_string());
        }
        for add in &self.adds {
            // Not through `Value`: its map would be built for thousands of files only to be written out.
            lines.push(format!("{{\"add\":{}}}", serde_json::to_string(add)?));
        }
        let own = OwnCommit {
            commit: self.id.clone(),
            actions: lines.len() + 1,
            event_times: Some(self.event_times_after(log)),
        };
        let operation = match self.kind {
            Kind::Adoption => "STREAMING START",
            Kind::Data => "STREAMING UPDATE",
        };
        Ok(format!(
            "{}\n{}\n",
            commit_info(operation, &self.parameters(), &own),
            lines.join("\n")
        ))
    }

    fn event_times_after(&self, log: &LogTail) -> TopicEventTimes {
        let mut highest = log.event_times(&self.topic);
        highest.merge(&self.event_times);
        TopicEventTimes {
            topic_id: self.topic.clone(),
            highest,
        }
    }

    fn parameters(&self) -> BTreeMap<String, String> {
        let mut parameters: BTreeMap<String, String> = BTreeMap::from([("mode".into(), "Append".into())]);
        parameters.insert("topicId".into(), self.topic.to_string());
        parameters.extend(
            self.notes
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone())),
        );
        parameters
    }
}

/// Writes the commit file of exactly this version, or fails: of all who claim it one wins.
pub async fn put_if_absent(store: &Store, version: u64, body: String) -> object_store::Result<()> {
    let options = PutOptions {
        mode: PutMode::Create,
        ..PutOptions::default()
    };
    let path = commit_path(version);
    store.objects().put_opts(&path, body.into(), options).await.map(drop)
}

/// Delta's name for putting files together: the one commit of ours that depends on files it read.
pub const OPTIMIZE: &str = "OPTIMIZE";

/// The `commitInfo` line of every commit of ours.
pub fn commit_info(operation: &str, parameters: &BTreeMap<String, String>, own: &OwnCommit) -> Value {
    json!({"commitInfo": {
        "timestamp": Utc::now().timestamp_millis(),
        "operation": operation,
        "operationParameters": parameters,
        "isBlindAppend": operation != OPTIMIZE,
        "engineInfo": concat!("affluent/", env!("CARGO_PKG_VERSION")),
        "affluent": own,
    }})
}

impl Table {
    /// Commits, once, and answers with the version. After `Infrastructure` call it again with the same
    /// proposal: it looks first whether the last try went through.
    pub async fn commit(&mut self, proposal: &mut Proposal) -> Result<u64, SinkError> {
        for _ in 0..MAX_RACES {
            let fit = self.refresh().await?;
            if let Some(version) = self.settle(proposal)? {
                return Ok(version);
            }
            if fit != Fit::Same {
                // Files of our columns under a schema that is not ours: somebody has put the table's columns back.
                return Err(proposal.abandoned());
            }
            let version = self.log.version + 1;
            let error = match self.put(version, proposal).await? {
                None => return Ok(version),
                Some(error) => error,
            };
            proposal.unknown = true;
            if !matches!(error, Error::AlreadyExists { .. }) {
                // Worth one look; then the caller's backoff decides when to try again.
                self.refresh().await?;
                let went_through = self.settle(proposal)?;
                return went_through.ok_or_else(|| failed(&self.store, "write", &commit(version), error));
            }
        }
        Err(SinkError::Infrastructure(anyhow!(
            "{MAX_RACES} other commits in a row came before ours on the table at {}",
            self.store.location()
        )))
    }

    /// The version of a proposal that is in already; `None` where it may be tried.
    fn settle(&self, proposal: &Proposal) -> Result<Option<u64>, SinkError> {
        match proposal.judge(&self.log) {
            Verdict::AsExpected => Ok(None),
            Verdict::AtTarget if proposal.unknown => Ok(Some(self.log.latest().unwrap_or(self.log.version))),
            Verdict::AtTarget => Err(proposal.overtaken()),
            Verdict::Moved {
                partition,
                expected,
                found,
            } => Err(SinkError::Lost {
                partition,
                expected,
                found,
            }),
        }
    }

    async fn put(&mut self, version: u64, proposal: &Proposal) -> Result<Option<Error>, SinkError> {
        let body = proposal.body(version, &self.log).context("write a commit as JSON");
        let body = body.map_err(SinkError::Infrastructure)?;
        match proposal.kind {
            Kind::Adoption => {
                failpoint!("lake.adopt.before");
            }
            Kind::Data => {
                failpoint!("lake.commit.before");
            }
        }
        if let Err(error) = put_if_absent(&self.store, version, body).await {
            return Ok(Some(error));
        }
        match proposal.kind {
            Kind::Adoption => {
                failpoint!("lake.adopt.after");
            }
            Kind::Data => {
                failpoint!("lake.commit.after");
            }
        }
        self.log.version = version;
        self.log.entries.extend(proposal.entries(version));
        self.log.has_rows |= !proposal.adds.is_empty();
        let times = proposal.event_times_after(&self.log);
        self.log.raise_event_times(&times);
        Ok(None)
    }
}

impl Proposal {
    /// Not to be committed as things are: the owner looks at everything again.
    fn abandoned(&self) -> SinkError {
        let (partition, change) = self
            .moves
            .first_key_value()
            .expect("an empty proposal is never committed");
        SinkError::Lost {
            partition: *partition,
            expected: change.expected.unwrap_or(change.target),
            found: change.expected,
        }
    }

    /// Somebody else reached our very target before we tried: the same records, but theirs.
    fn overtaken(&self) -> SinkError {
        let (partition, change) = self.moves.first_key_value().expect("an empty proposal is at no target");
        SinkError::Lost {
            partition: *partition,
            expected: change.expected.unwrap_or(change.target),
            found: Some(change.target),
        }
    }
}
