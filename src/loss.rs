//! Losses: what a stream has to pass over to go on when its log, or its table, has moved away under it.
//!
//! Owns: the record of a loss (a contract: it is stored in both sinks), the judgement of what would be lost.
//! Does not own: storing the record (`sink`), asking a person and the order of the steps (`pipeline::loss`).
//!
//! | what happened                                  | goes on                                                  |
//! |------------------------------------------------|----------------------------------------------------------|
//! | retention took offsets before they were stored | at the log's start, same epoch                           |
//! | the topic was re-created                       | at the new log's start, next epoch: new record ids       |
//! | rows were removed from the lake's table        | where the table's progress stands; the rows stay removed |
//!
//! A log that was truncated under the same topic id is none of these: its next records would bear the ids of
//! those stored already, and only a re-created topic begins a new epoch.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use crate::offsets::{Epoch, Offset, Partition, Progress, TopicId};
use crate::sink::SinkName;

/// One accepted loss.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Unique: tells whether a sink has recorded this one.
    pub id: String,
    pub accepted_at: DateTime<Utc>,
    #[serde(flatten)]
    pub cause: Cause,
    /// The topic that the stream goes on with, and the epoch of its records.
    pub topic_id: TopicId,
    pub epoch: Epoch,
    pub skipped: Vec<Skipped>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum Cause {
    Retention,
    TopicRecreated {
        former_topic_id: TopicId,
        /// Where the new topic's partitions are read from.
        starts: Vec<Start>,
    },
    RowsRemoved {
        version: u64,
        operation: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    pub partition: Partition,
    pub offset: Offset,
}

/// Offsets that one sink does not hold and will not get. An open end is not known to anybody any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    pub sink: SinkName,
    pub partition: Partition,
    pub from: Option<Offset>,
    pub to: Option<Offset>,
}

/// What a sink has recorded of a stream, whatever topic it belongs to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// `None` where nothing is recorded.
    pub topic_id: Option<TopicId>,
    pub epoch: Epoch,
    pub progress: Progress,
    /// By id. The lake, which records first, keeps the whole record.
    pub losses: BTreeMap<String, Option<Loss>>,
    pub removed: Option<RowsRemoved>,
}

/// A commit that took rows out of the table and left its progress ahead of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowsRemoved {
    pub version: u64,
    pub operation: String,
    /// What the table held afterwards, as far as its log still tells.
    pub left: Progress,
}

impl Cause {
    fn of_recreated(former: &TopicId, lows: &Progress) -> Self {
        let starts = lows.iter().map(|(&partition, &offset)| Start { partition, offset });
        Self::TopicRecreated {
            former_topic_id: former.clone(),
            starts: starts.collect(),
        }
    }
}

impl Loss {
    /// Where a sink's partition goes on, where the loss moves it.
    pub fn target(&self, sink: SinkName, partition: Partition) -> Option<Offset> {
        match &self.cause {
            Cause::Retention => self.skipped_by(sink).find(|s| s.partition == partition)?.to,
            Cause::TopicRecreated { starts, .. } => {
                let start = starts.iter().find(|start| start.partition == partition);
                // A partition that the new topic does not have begins at its beginning if it ever comes.
                Some(start.map_or(0, |start| start.offset))
            }
            Cause::RowsRemoved { .. } => None,
        }
    }

    pub fn skipped_by(&self, sink: SinkName) -> impl Iterator<Item = &Skipped> {
        self.skipped.iter().filter(move |skipped| skipped.sink == sink)
    }
}

/// What would have to be passed over now; `None` where nothing is lost, or where passing over would not help.
pub fn assess(
    topic_id: &TopicId,
    lows: &Progress,
    standings: &BTreeMap<SinkName, Standing>,
    now: DateTime<Utc>,
) -> Option<Loss> {
    let epoch = standings.values().map(|s| s.epoch).max().unwrap_or_default();
    let (cause, epoch, skipped) = if let Some(former) = former_topic(topic_id, standings) {
        (
            Cause::of_recreated(former, lows),
            Epoch(epoch.0.checked_add(1)?),
            all(standings),
        )
    } else if let Some((sink, removed)) = standings.iter().find_map(|(s, st)| Some((*s, st.removed.as_ref()?))) {
        let cause = Cause::RowsRemoved {
            version: removed.version,
            operation: removed.operation.clone(),
        };
        (cause, epoch, taken_out(sink, removed, &standings[&sink].progress))
    } else {
        (Cause::Retention, epoch, expired(lows, standings))
    };
    let fits = u32::from(epoch.0) < 1 << crate::offsets::RecordId::EPOCH_BITS;
    (fits && !skipped.is_empty()).then(|| Loss {
        id: uuid::Uuid::new_v4().to_string(),
        accepted_at: now,
        cause,
        topic_id: topic_id.clone(),
        epoch,
        skipped,
    })
}

/// The first sink, in the order of recording, that has not recorded what the one before it has.
pub fn unfinished(standings: &BTreeMap<SinkName, Standing>) -> Option<(SinkName, &Loss)> {
    let recorded: BTreeMap<&String, &Loss> = standings
        .values()
        .flat_map(|s| &s.losses)
        .filter_map(|(id, loss)| Some((id, loss.as_ref()?)))
        .collect();
    let mut recorded: Vec<&Loss> = recorded.into_values().collect();
    recorded.sort_by_key(|loss| loss.accepted_at);
    standings
        .iter()
        // A sink without progress was enabled later: the loss is none of its own.
        .filter(|(_, standing)| !standing.progress.is_empty())
        .find_map(|(sink, standing)| {
            let missing = recorded.iter().find(|loss| !standing.losses.contains_key(&loss.id))?;
            Some((*sink, *missing))
        })
}

fn former_topic<'s>(topic_id: &TopicId, standings: &'s BTreeMap<SinkName, Standing>) -> Option<&'s TopicId> {
    standings
        .values()
        .filter_map(|standing| standing.topic_id.as_ref())
        .find(|recorded| recorded.is_known() && topic_id.is_known() && *recorded != topic_id)
}

/// Of the former topic, everything beyond each progress: how much that was nobody knows.
fn all(standings: &BTreeMap<SinkName, Standing>) -> Vec<Skipped> {
    let of_sink = |(&sink, standing): (&SinkName, &Standing)| -> Vec<Skipped> {
        let skipped = standing.progress.iter().map(|(&partition, &next)| Skipped {
            sink,
            partition,
            from: Some(next),
            to: None,
        });
        skipped.collect()
    };
    standings.iter().flat_map(of_sink).collect()
}

fn taken_out(sink: SinkName, removed: &RowsRemoved, progress: &Progress) -> Vec<Skipped> {
    let skipped = progress.iter().map(|(&partition, &next)| Skipped {
        sink,
        partition,
        from: removed.left.get(&partition).copied(),
        to: Some(next),
    });
    skipped.collect()
}

fn expired(lows: &Progress, standings: &BTreeMap<SinkName, Standing>) -> Vec<Skipped> {
    let of_sink = |(&sink, standing): (&SinkName, &Standing)| -> Vec<Skipped> {
        let skipped = standing.progress.iter().filter_map(|(&partition, &next)| {
            let low = *lows.get(&partition)?;
            (next < low).then_some(Skipped {
                sink,
                partition,
                from: Some(next),
                to: Some(low),
            })
        });
        skipped.collect()
    };
    standings.iter().flat_map(of_sink).collect()
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retention => f.write_str("records that Kafka's retention has taken"),
            Self::TopicRecreated { former_topic_id, .. } => {
                write!(f, "what was not read of the former topic {former_topic_id}")
            }
            Self::RowsRemoved { version, operation } => {
                write!(f, "rows that version {version} ({operation}) took out of the table")
            }
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)?;
        let sinks: BTreeSet<SinkName> = self.skipped.iter().map(|s| s.sink).collect();
        for sink in sinks {
            write!(f, "; {sink}:")?;
            for skipped in self.skipped_by(sink) {
                write!(f, " {skipped}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = self.from.map_or("…".to_owned(), |from| from.to_string());
        let to = self.to.map_or("…".to_owned(), |to| to.to_string());
        write!(f, "partition {} [{from}, {to})", self.partition)
    }
}

/// For people: the day and time, to the second.
pub fn when(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use SinkName::{Lake, Mongo};

    fn topic(name: &str) -> TopicId {
        TopicId(name.to_owned())
    }

    fn standing(topic_id: &str, next: Offset) -> Standing {
        Standing {
            topic_id: Some(topic(topic_id)),
            progress: Progress::from([(Partition(0), next)]),
            ..Standing::default()
        }
    }

    fn lows(low: Offset) -> Progress {
        Progress::from([(Partition(0), low)])
    }

    fn assessed(topic_id: &str, low: Offset, mongo: Standing, lake: Standing) -> Option<Loss> {
        assess(
            &topic(topic_id),
            &lows(low),
            &BTreeMap::from([(Mongo, mongo), (Lake, lake)]),
            Utc::now(),
        )
    }

    #[test]
    fn retention_takes_from_each_sink_what_it_had_not_stored() {
        let loss = assessed("a", 8, standing("a", 5), standing("a", 9)).expect("lost");
        assert_eq!(loss.cause, Cause::Retention);
        assert_eq!(
            (loss.target(Mongo, Partition(0)), loss.target(Lake, Partition(0))),
            (Some(8), None)
        );
        assert!(loss.to_string().contains("mongo: partition 0 [5, 8)"), "{loss}");
        assert_eq!(assessed("a", 5, standing("a", 5), standing("a", 9)), None);
    }

    #[test]
    fn a_recreated_topic_begins_the_next_epoch_in_both_sinks_at_the_same_offset() {
        let mut mongo = standing("a", 5);
        mongo.epoch = Epoch(2);
        let loss = assessed("b", 3, mongo, standing("a", 9)).expect("lost");
        assert_eq!((loss.epoch, loss.topic_id.clone()), (Epoch(3), topic("b")));
        for sink in [Mongo, Lake] {
            assert_eq!(loss.target(sink, Partition(0)), Some(3));
            assert_eq!(
                loss.target(sink, Partition(7)),
                Some(0),
                "a partition the new topic does not have"
            );
        }
    }

    #[test]
    fn an_unknown_topic_id_is_no_recreation_and_the_last_epoch_is_the_last() {
        assert_eq!(assessed(TopicId::UNKNOWN, 0, standing("a", 5), standing("a", 5)), None);
        let mut last = standing("a", 5);
        last.epoch = Epoch(31);
        assert_eq!(assessed("b", 0, last, standing("a", 5)), None);
    }

    #[test]
    fn removed_rows_are_named_from_what_is_left() {
        let mut lake = standing("a", 9);
        lake.removed = Some(RowsRemoved {
            version: 4,
            operation: "RESTORE".into(),
            left: lows(6),
        });
        let loss = assessed("a", 0, standing("a", 9), lake).expect("lost");
        assert!(loss.to_string().contains("lake: partition 0 [6, 9)"), "{loss}");
        assert_eq!(loss.target(Lake, Partition(0)), None);
    }

    #[test]
    fn what_one_sink_has_recorded_the_other_finishes() {
        let loss = assessed("b", 0, standing("a", 5), standing("a", 5)).expect("lost");
        let mut lake = standing("b", 0);
        lake.losses.insert(loss.id.clone(), Some(loss.clone()));
        let mut standings = BTreeMap::from([(Mongo, standing("a", 5)), (Lake, lake)]);
        assert_eq!(unfinished(&standings), Some((Mongo, &loss)));
        let mongo = standings.get_mut(&Mongo).expect("there");
        mongo.losses.insert(loss.id.clone(), None);
        assert_eq!(unfinished(&standings), None);
        standings.insert(Mongo, Standing::default());
        assert_eq!(unfinished(&standings), None, "enabled later");
    }

    #[test]
    fn the_record_keeps_its_form() {
        let loss = Loss {
            id: "1".into(),
            accepted_at: DateTime::from_timestamp(0, 0).expect("in range"),
            cause: Cause::of_recreated(&topic("a"), &lows(3)),
            topic_id: topic("b"),
            epoch: Epoch(1),
            skipped: vec![Skipped {
                sink: Lake,
                partition: Partition(0),
                from: Some(5),
                to: None,
            }],
        };
        let text = serde_json::to_string(&loss).expect("JSON");
        assert_eq!(
            text,
            r#"{"id":"1","accepted_at":"1970-01-01T00:00:00Z","cause":"topic_recreated","former_topic_id":"a","starts":[{"partition":0,"offset":3}],"topic_id":"b","epoch":1,"skipped":[{"sink":"lake","partition":0,"from":5,"to":null}]}"#
        );
        assert_eq!(serde_json::from_str::<Loss>(&text).expect("read back"), loss);
    }
}
