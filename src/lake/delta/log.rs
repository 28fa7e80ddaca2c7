//! A light follower of a table's log: version, protocol, metadata and our own `txn` entries, never the list
//! of files, so that its memory and the time of a refresh do not grow with the table.
//!
//! Owns: what the log says about us, and what others did to our rows since our last commit:
//!
//! | a foreign commit that            | is                                                              |
//! |----------------------------------|-----------------------------------------------------------------|
//! | rewrites without data change     | fine                                                            |
//! | deletes, updates or merges       | counted and logged: people correct data                         |
//! | appends                          | counted and logged                                              |
//! | restores or overwrites           | damage: rows go, progress stays — silent loss, so we stop       |
//!
//! A restore back to a version that held all our rows heals the damage; so does a loss that was accepted.
//! Does not own: reading the files (`load`), our own commits (`commit`).

use std::collections::BTreeMap;

use super::actions::{Commit, CommitInfo, Metadata, Protocol, TopicEventTimes};
use super::loss::ACCEPT_LOSS;
use super::names::{AppIds, CLOSED, Entry};
use crate::event_time::EventTimes;
use crate::offsets::{Offset, Partition, TopicId};

#[derive(Clone, Debug, PartialEq)]
pub struct LogTail {
    pub(super) app_ids: AppIds,
    pub version: u64,
    pub protocol: Protocol,
    pub metadata: Metadata,
    /// Our `txn` entries.
    pub entries: BTreeMap<Entry, i64>,
    /// As our commits tell them. Nothing is built on them: they are for people, and may be unknown.
    pub event_times: Option<TopicEventTimes>,
    /// Some commit has added a file. Rows without any progress of ours are a broken invariant.
    pub has_rows: bool,
    /// What removed rows of ours and left the progress ahead of them.
    pub damage: Option<Damage>,
    pub foreign: ForeignChanges,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub version: u64,
    pub operation: String,
    /// The version that a RESTORE went back to, where it says so.
    pub restored_to: Option<u64>,
}

impl Damage {
    /// What has happened to the table there, for people.
    pub fn said(&self, location: &str) -> String {
        format!(
            "version {} of the table at {location} ({}) removed rows and left our progress ahead of them",
            self.version, self.operation
        )
    }
}

/// Commits of others, since loading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForeignChanges {
    /// DELETE, UPDATE, MERGE.
    pub changed: u64,
    pub appended: u64,
}

impl ForeignChanges {
    pub fn since(self, earlier: Self) -> Self {
        Self {
            changed: self.changed.saturating_sub(earlier.changed),
            appended: self.appended.saturating_sub(earlier.appended),
        }
    }
}

/// What one foreign commit means for our rows.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Foreign {
    Harmless,
    Changed,
    Appended,
    Removed,
    /// To this version, where the commit says it.
    Restored(Option<u64>),
}

impl LogTail {
    /// Our latest commit's version.
    pub fn latest(&self) -> Option<u64> {
        self.entries.get(&Entry::Latest).and_then(|v| u64::try_from(*v).ok())
    }

    /// The next offset of every partition, under the topic id that it was recorded with. A closed topic has none.
    pub fn progress(&self) -> impl Iterator<Item = (&TopicId, Partition, Offset)> {
        self.entries.iter().filter_map(|(entry, last)| match entry {
            Entry::Progress(topic, partition) if *last != CLOSED => Some((topic, *partition, last + 1)),
            _ => None,
        })
    }

    /// Highest event times of this topic's records.
    pub fn event_times(&self, topic: &TopicId) -> EventTimes {
        let of_topic = self.event_times.as_ref().filter(|times| times.topic_id == *topic);
        of_topic.map(|times| times.highest.clone()).unwrap_or_default()
    }

    /// Another topic's are no continuation of those known.
    pub(super) fn raise_event_times(&mut self, news: &TopicEventTimes) {
        match &mut self.event_times {
            Some(known) if known.topic_id == news.topic_id => known.highest.merge(&news.highest),
            known => *known = Some(news.clone()),
        }
    }

    /// Takes in the commit after `self.version`.
    pub(super) fn apply(&mut self, version: u64, commit: Commit) {
        self.notice(version, &commit);
        self.version = version;
        if let Some(protocol) = commit.protocol {
            self.protocol = protocol;
        }
        if let Some(metadata) = commit.metadata {
            self.metadata = metadata;
        }
        for txn in commit.txns {
            if let Some(entry) = self.app_ids.parse(&txn.app_id) {
                self.entries.insert(entry, txn.version);
            }
        }
        self.has_rows |= commit.adds > 0;
        if let Some(times) = commit.info.affluent.and_then(|own| own.event_times) {
            self.raise_event_times(&times);
        }
    }

    /// Judges a commit without taking it in (`apply` does both): for commits a checkpoint already covers.
    pub(super) fn notice(&mut self, version: u64, commit: &Commit) {
        if commit.info.affluent.is_some() {
            if commit.info.operation.as_deref() == Some(ACCEPT_LOSS) {
                self.damage = None;
            }
            return;
        }
        // Before our first commit there is nothing of ours to lose.
        let Some(latest) = self.latest() else { return };
        let operation = commit.info.operation.clone().unwrap_or_else(|| "unnamed".to_owned());
        match judge(commit) {
            Foreign::Harmless => {}
            Foreign::Changed => {
                self.foreign.changed += 1;
                tracing::warn!(version, operation, "another program has changed rows of this table");
            }
            Foreign::Appended => {
                self.foreign.appended += 1;
                tracing::warn!(version, operation, "another program has added rows to this table");
            }
            Foreign::Removed => {
                self.damage = self.damage.take().or(Some(Damage {
                    version,
                    operation,
                    restored_to: None,
                }))
            }
            Foreign::Restored(target) => {
                let intact_before = self.damage.as_ref().map_or(version, |d| d.version);
                let whole = target.is_some_and(|target| latest <= target && target < intact_before);
                self.damage = if whole {
                    None
                } else {
                    self.damage.take().or(Some(Damage {
                        version,
                        operation,
                        restored_to: target,
                    }))
                };
            }
        }
    }
}

fn judge(commit: &Commit) -> Foreign {
    let operation = commit
        .info
        .operation
        .as_deref()
        .unwrap_or_default()
        .to_ascii_uppercase();
    match operation.as_str() {
        "RESTORE" => Foreign::Restored(restored_version(&commit.info)),
        "DELETE" | "UPDATE" | "MERGE" if commit.data_removes > 0 => Foreign::Changed,
        // Overwrites, replaced tables, truncations, and whatever removes rows without saying why.
        _ if commit.data_removes > 0 => Foreign::Removed,
        _ if commit.data_adds > 0 => Foreign::Appended,
        _ => Foreign::Harmless,
    }
}

fn restored_version(info: &CommitInfo) -> Option<u64> {
    info.parameter("version")?.parse().ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::lake::delta::actions::{OwnCommit, Txn};
    use serde_json::json;

    pub(crate) fn tail() -> LogTail {
        LogTail {
            app_ids: AppIds::new("shop", "sales"),
            version: 0,
            protocol: Protocol {
                min_reader_version: 1,
                min_writer_version: 2,
                reader_features: None,
                writer_features: None,
            },
            metadata: Metadata {
                id: "id".into(),
                name: None,
                format: Default::default(),
                schema_string: "{}".into(),
                partition_columns: vec![],
                configuration: BTreeMap::new(),
                created_time: None,
            },
            entries: BTreeMap::new(),
            event_times: None,
            has_rows: false,
            damage: None,
            foreign: ForeignChanges::default(),
        }
    }

    fn own(version: i64) -> Commit {
        Commit {
            txns: vec![Txn {
                app_id: "affluent/shop/sales".into(),
                version,
            }],
            info: CommitInfo {
                affluent: Some(OwnCommit {
                    commit: "c".into(),
                    actions: 1,
                    event_times: None,
                }),
                ..CommitInfo::default()
            },
            adds: 1,
            data_adds: 1,
            ..Commit::default()
        }
    }

    fn foreign(operation: &str, parameters: serde_json::Value, removes: u64, adds: u64) -> Commit {
        let info = json!({"operation": operation, "operationParameters": parameters});
        Commit {
            info: serde_json::from_value(info).expect("commit info"),
            data_removes: removes,
            data_adds: adds,
            adds,
            ..Commit::default()
        }
    }

    fn after(commits: Vec<Commit>) -> LogTail {
        let mut tail = tail();
        for commit in commits {
            tail.apply(tail.version + 1, commit);
        }
        tail
    }

    #[test]
    fn rewrites_and_maintenance_are_no_concern_of_ours() {
        let optimize = Commit {
            adds: 1,
            ..foreign("OPTIMIZE", json!({}), 0, 0)
        };
        let tail = after(vec![own(1), optimize, foreign("VACUUM END", json!({}), 0, 0)]);
        assert_eq!(
            (tail.damage, tail.foreign, tail.version),
            (None, ForeignChanges::default(), 3)
        );
    }

    #[test]
    fn corrections_and_appends_are_counted() {
        let tail = after(vec![
            own(1),
            foreign("DELETE", json!({}), 1, 1),
            foreign("MERGE", json!({}), 2, 2),
            foreign("WRITE", json!({"mode": "Append"}), 0, 1),
        ]);
        let counted = ForeignChanges {
            changed: 2,
            appended: 1,
        };
        assert_eq!((tail.damage, tail.foreign), (None, counted));
    }

    #[test]
    fn an_overwrite_or_a_nameless_removal_after_our_rows_is_damage() {
        for commit in [
            foreign("WRITE", json!({"mode": "Overwrite"}), 1, 1),
            foreign("CREATE OR REPLACE TABLE AS SELECT", json!({}), 3, 1),
            Commit {
                data_removes: 1,
                ..Commit::default()
            },
        ] {
            assert_eq!(after(vec![own(1), commit.clone()]).damage.expect("damage").version, 2);
            assert_eq!(after(vec![commit]).damage, None, "nothing of ours was there yet");
        }
    }

    #[test]
    fn a_restore_to_before_our_last_commit_is_damage_and_undoing_it_heals() {
        let restore = |version: u64| foreign("RESTORE", json!({"version": version}), 1, 0);
        let damaged = after(vec![own(1), own(2), restore(1)]);
        assert_eq!(damaged.damage.expect("damage").version, 3);
        assert_eq!(after(vec![own(1), own(2), restore(1), restore(2)]).damage, None);
        let to_the_damage = after(vec![own(1), own(2), restore(1), restore(3)]);
        assert_eq!(to_the_damage.damage.expect("still").version, 3);
        let by_time = foreign("RESTORE", json!({"version": null, "timestamp": "2026-01-01"}), 1, 0);
        assert!(after(vec![own(1), by_time]).damage.is_some());
    }

    #[test]
    fn a_restore_that_keeps_all_our_rows_is_none() {
        let bad_delete = foreign("DELETE", json!({}), 1, 0);
        let undo = foreign("RESTORE", json!({"version": "1"}), 0, 1);
        assert_eq!(after(vec![own(1), bad_delete, undo]).damage, None);
    }
}
