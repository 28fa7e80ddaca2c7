//! Recording an accepted loss in the table: one commit that moves the progress over it.
//!
//! Owns: where the record lies — the table's property [`LOSSES`], which outlives the clean-up of old commits and
//! shows in every engine's `SHOW TBLPROPERTIES` — and the closing of a topic that was re-created.
//! Does not own: the judgement of what is lost (`crate::loss`).
//!
//! The commit is tried once. Whatever comes back of it, the next look at the table tells whether it is in: the
//! record has an id.

use std::collections::BTreeMap;

use anyhow::Context;
use object_store::Error;
use serde_json::json;

use super::Table;
use super::actions::{Metadata, OwnCommit, Txn};
use super::commit::{commit_info, put_if_absent};
use super::load::failed;
use super::log::LogTail;
use super::names::{CLOSED, Entry, commit};
use crate::error::{Invariant, SinkError};
use crate::failpoint;
use crate::loss::{Cause, Loss, RowsRemoved, Standing};
use crate::offsets::{Epoch, Progress, TopicId};
use crate::sink::SinkName;

/// Operation of the commit.
pub(super) const ACCEPT_LOSS: &str = "ACCEPT LOSS";
/// Table property: all losses accepted so far, a JSON array.
const LOSSES: &str = "affluent.losses";

impl Table {
    /// Reads the log to its end and says what it records, whatever has been done to the table.
    pub async fn standing(&mut self) -> Result<Standing, SinkError> {
        self.log.refresh(&self.store).await?;
        self.fit()?;
        let open = self.open_topic();
        let removed = match &self.log.damage {
            None => None,
            Some(damage) => Some(RowsRemoved {
                version: damage.version,
                operation: damage.operation.clone(),
                left: self.left_at(damage.restored_to).await,
            }),
        };
        let losses = self.losses()?;
        Ok(Standing {
            epoch: open.as_ref().map_or(Epoch::default(), |topic| self.epoch(topic)),
            progress: open
                .as_ref()
                .map_or_else(Progress::new, |topic| progress(&self.log, topic)),
            topic_id: open,
            losses: losses.into_iter().map(|loss| (loss.id.clone(), Some(loss))).collect(),
            removed,
        })
    }

    pub async fn accept(&mut self, standing: &Standing, loss: &Loss) -> Result<(), SinkError> {
        if self.standing().await? != *standing {
            return Err(SinkError::Infrastructure(anyhow::anyhow!(
                "another instance has changed the progress of the table at {} meanwhile",
                self.store.location()
            )));
        }
        let version = self.log.version + 1;
        let body = self
            .acceptance(version, loss)
            .context("write a loss as JSON")
            .map_err(SinkError::Infrastructure)?;
        failpoint!("lake.accept.before");
        let put = put_if_absent(&self.store, version, body).await;
        failpoint!("lake.accept.after");
        let refreshed = self.log.refresh(&self.store).await;
        match put {
            Ok(()) => refreshed.map(drop),
            Err(Error::AlreadyExists { .. }) if self.losses()?.iter().any(|known| known.id == loss.id) => Ok(()),
            Err(error) => Err(failed(&self.store, "write", &commit(version), error)),
        }
    }

    /// The topic whose offsets the progress counts; at most one is not closed.
    pub(super) fn open_topic(&self) -> Option<TopicId> {
        self.log.progress().next().map(|(topic, ..)| topic.clone())
    }

    /// Where the table's rows end after it was restored to `version`. For the record only, so a log that no longer
    /// tells is no failure.
    async fn left_at(&self, version: Option<u64>) -> Progress {
        let Some(version) = version else { return Progress::new() };
        let Some(topic) = self.open_topic() else {
            return Progress::new();
        };
        match LogTail::load_at(&self.store, &self.log.app_ids, version).await {
            Ok(Some(then)) => progress(&then, &topic),
            Ok(None) => Progress::new(),
            Err(error) => {
                tracing::debug!(version, "cannot read the progress of that version: {error}");
                Progress::new()
            }
        }
    }

    fn losses(&self) -> Result<Vec<Loss>, SinkError> {
        losses(&self.log.metadata).map_err(|error| {
            Invariant::new(
                format!("{error:#} of the table at {}", self.store.location()),
                "put the property back as this program wrote it; the table's history has its earlier values",
            )
            .into()
        })
    }

    /// The commit file.
    fn acceptance(&self, version: u64, loss: &Loss) -> anyhow::Result<String> {
        let mut losses = self.losses()?;
        losses.push(loss.clone());
        let mut metadata = self.log.metadata.clone();
        let recorded = serde_json::to_string(&losses)?;
        metadata.configuration.insert(LOSSES.to_owned(), Some(recorded));

        let mut lines = vec![json!({ "metaData": metadata }).to_string()];
        for (entry, last) in self.entries_after(version, loss) {
            let txn = Txn {
                app_id: self.log.app_ids.format(&entry),
                version: last,
            };
            lines.push(json!({ "txn": txn }).to_string());
        }
        let own = OwnCommit {
            commit: loss.id.clone(),
            actions: lines.len() + 1,
            // A re-created topic's records begin anew.
            event_times: (!matches!(loss.cause, Cause::TopicRecreated { .. }))
                .then(|| self.log.event_times.clone())
                .flatten(),
        };
        let parameters = BTreeMap::from([("loss".to_owned(), serde_json::to_string(loss)?)]);
        let info = commit_info(ACCEPT_LOSS, &parameters, &own);
        Ok(format!("{info}\n{}\n", lines.join("\n")))
    }

    /// Our entries that the loss changes.
    fn entries_after(&self, version: u64, loss: &Loss) -> BTreeMap<Entry, i64> {
        let mut entries = BTreeMap::from([(Entry::Latest, version as i64)]);
        if let Cause::TopicRecreated { starts, .. } = &loss.cause {
            for entry in self.log.entries.keys() {
                if matches!(entry, Entry::Progress(topic, _) if *topic != loss.topic_id) {
                    entries.insert(entry.clone(), CLOSED);
                }
            }
            for start in starts {
                let (topic, last) = (loss.topic_id.clone(), start.offset - 1);
                entries.insert(Entry::Progress(topic.clone(), start.partition), last);
                entries.insert(Entry::Start(topic, start.partition), last);
            }
            entries.insert(Entry::Epoch(loss.topic_id.clone()), i64::from(loss.epoch.0));
            return entries;
        }
        let topic = self.open_topic().unwrap_or_else(|| loss.topic_id.clone());
        for skipped in loss.skipped_by(SinkName::Lake) {
            if let Some(next) = loss.target(SinkName::Lake, skipped.partition) {
                entries.insert(Entry::Progress(topic.clone(), skipped.partition), next - 1);
            }
        }
        entries
    }
}

/// What the table says was accepted as lost, oldest first.
pub fn losses(metadata: &Metadata) -> anyhow::Result<Vec<Loss>> {
    match metadata.configuration.get(LOSSES).and_then(Option::as_deref) {
        None => Ok(Vec::new()),
        Some(recorded) => serde_json::from_str(recorded).with_context(|| format!("cannot read the property {LOSSES}")),
    }
}

fn progress(log: &LogTail, topic: &TopicId) -> Progress {
    let of_topic = log.progress().filter(|(theirs, ..)| *theirs == topic);
    of_topic.map(|(_, partition, next)| (partition, next)).collect()
}
