//! Where to go on reading: a pure function of what both sinks have recorded and of what Kafka still holds.
//!
//! Owns: the resume rule, the rule of the first start, and the judgement that a log has moved away under us.
//! Does not own: reading progress (`sink`), reading the log's ends (`kafka::admin`), acting on the answer.
//!
//! ```text
//!  both sinks have progress ─────────────▶ the smaller one; the sink that is ahead skips what it holds
//!  one has, the other has none ──┬ untouched start ▶ the other adopts it
//!                                └ rows stored ────▶ stop: that sink is new beside one that is not
//!  neither has ──┬ a sibling partition has ▶ this partition appeared later: its beginning
//!                └ none has ──────────────▶ the configured start, recorded before the first fetch
//! ```

use std::collections::BTreeMap;

use crate::error::Invariant;
use crate::offsets::{Offset, OffsetRange, Partition, Progress};
use crate::sink::{Position, SinkName};

/// What is known of one partition before it is read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// By enabled sink; `None` where that sink has nothing recorded.
    pub recorded: BTreeMap<SinkName, Option<Position>>,
    /// First offset the log still holds.
    pub low: Offset,
    /// Where the configured start (`earliest`, `latest`, instant) lies now.
    pub start: Offset,
}

/// What to do before reading.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// Record these starts in this sink, then look again: somebody else may have been faster.
    Adopt { sink: SinkName, starts: Progress },
    /// Read from here.
    Read(Progress),
}

/// One step towards reading `known`, all partitions of the topic. The first start is written to one sink
/// and adopted by the other, so that `latest` cannot mean two things.
pub fn plan(known: &BTreeMap<Partition, Known>) -> Result<Plan, Invariant> {
    let any_progress = known.values().any(|k| k.recorded.values().any(Option::is_some));
    let mut adoptions: BTreeMap<SinkName, Progress> = BTreeMap::new();
    let mut read = Progress::new();
    for (&partition, k) in known {
        match recorded_anywhere(k) {
            None => {
                let start = if any_progress { k.low } else { k.start };
                // One sink at a time: the next look finds it recorded there and lets the other adopt it.
                if let Some(&first) = k.recorded.keys().next() {
                    adoptions.entry(first).or_default().insert(partition, start);
                }
            }
            Some((owner, position)) => {
                for (&sink, recorded) in &k.recorded {
                    if recorded.is_none() {
                        adopt_from(partition, owner, position, sink, &mut adoptions)?;
                    }
                }
                let next = k
                    .recorded
                    .values()
                    .flatten()
                    .map(|p| p.next)
                    .min()
                    .unwrap_or(position.next);
                check_low(partition, next, k.low)?;
                read.insert(partition, next);
            }
        }
    }
    Ok(match adoptions.pop_first() {
        Some((sink, starts)) => Plan::Adopt { sink, starts },
        None => Plan::Read(read),
    })
}

/// The furthest record of any sink, if there is one.
fn recorded_anywhere(k: &Known) -> Option<(SinkName, Position)> {
    k.recorded
        .iter()
        .filter_map(|(sink, p)| p.map(|p| (*sink, p)))
        .max_by_key(|(_, p)| p.next)
}

fn adopt_from(
    partition: Partition,
    owner: SinkName,
    position: Position,
    sink: SinkName,
    adoptions: &mut BTreeMap<SinkName, Progress>,
) -> Result<(), Invariant> {
    if !position.untouched {
        return Err(Invariant::new(
            format!(
                "{sink} has no progress for partition {partition}, but {owner} has already stored records up to \
                 offset {}: {sink} was enabled later, or has lost its progress",
                position.next
            ),
            match sink {
                SinkName::Mongo => {
                    "make it anew from the lake (`affluent rebuild mongo`), turn it off for this stream, or start both \
                     afresh under another stream name"
                }
                SinkName::Lake => {
                    "turn the lake off for this stream, restore it to where it was, or start both afresh under another \
                     stream name"
                }
            },
        ));
    }
    adoptions.entry(sink).or_default().insert(partition, position.next);
    Ok(())
}

/// Offsets between our progress and the log's start are gone by retention: reading on would skip them.
fn check_low(partition: Partition, next: Offset, low: Offset) -> Result<(), Invariant> {
    if next >= low {
        return Ok(());
    }
    Err(Invariant::new(
        format!(
            "offsets {} of partition {partition} are no longer in Kafka (the log starts at {low}) and not yet in both \
             sinks",
            OffsetRange::new(next, low)
        ),
        "restore the topic, or start afresh under another stream name",
    ))
}

/// Partitions whose progress lies beyond the log's end. To be judged only after re-reading the end for a
/// while: after a leader change a replica may briefly know less.
pub fn beyond_end(read: &Progress, ends: &Progress) -> Option<Invariant> {
    let (partition, next, end) = read
        .iter()
        .filter_map(|(p, next)| ends.get(p).map(|end| (*p, *next, *end)))
        .find(|(_, next, end)| next > end)?;
    Some(Invariant::new(
        format!(
            "progress of partition {partition} is {next}, beyond the log's end {end}: the topic was truncated or \
             re-created"
        ),
        "restore the topic, or start afresh under another stream name",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offsets::Epoch;
    use SinkName::{Lake, Mongo};

    fn position(next: Offset, untouched: bool) -> Option<Position> {
        Some(Position {
            next,
            untouched,
            epoch: Epoch(0),
            event_time: None,
        })
    }

    fn known(mongo: Option<Position>, lake: Option<Position>) -> Known {
        Known {
            recorded: BTreeMap::from([(Mongo, mongo), (Lake, lake)]),
            low: 0,
            start: 7,
        }
    }

    fn one(k: Known) -> BTreeMap<Partition, Known> {
        BTreeMap::from([(Partition(0), k)])
    }

    fn at(next: Offset) -> Progress {
        Progress::from([(Partition(0), next)])
    }

    #[test]
    fn resumes_from_the_smaller_progress() {
        let plan = plan(&one(known(position(20, false), position(12, false))));
        assert_eq!(plan, Ok(Plan::Read(at(12))));
    }

    #[test]
    fn the_first_start_is_recorded_in_one_sink_and_adopted_by_the_other() {
        assert_eq!(
            plan(&one(known(None, None))),
            Ok(Plan::Adopt {
                sink: Mongo,
                starts: at(7)
            })
        );
        // `start` may have moved on meanwhile; what was recorded counts
        let mut later = known(position(7, true), None);
        later.start = 99;
        assert_eq!(
            plan(&one(later)),
            Ok(Plan::Adopt {
                sink: Lake,
                starts: at(7)
            })
        );
        assert_eq!(
            plan(&one(known(position(7, true), position(7, true)))),
            Ok(Plan::Read(at(7)))
        );
    }

    #[test]
    fn a_partition_that_appeared_later_starts_at_its_beginning() {
        let mut all = one(known(position(20, false), position(20, false)));
        let mut new = known(None, None);
        new.low = 3;
        all.insert(Partition(1), new);
        let starts = Progress::from([(Partition(1), 3)]);
        assert_eq!(plan(&all), Ok(Plan::Adopt { sink: Mongo, starts }));
    }

    #[test]
    fn a_sink_enabled_beside_one_with_rows_stops() {
        let stopped = plan(&one(known(position(20, false), None))).expect_err("must stop");
        assert!(
            stopped.what.contains("lake has no progress for partition 0"),
            "{stopped}"
        );
    }

    #[test]
    fn offsets_gone_by_retention_stop_and_name_the_range() {
        let mut k = known(position(5, false), position(9, false));
        k.low = 8;
        let stopped = plan(&one(k)).expect_err("must stop");
        assert!(stopped.what.contains("[5, 8)"), "{stopped}");
    }

    #[test]
    fn progress_beyond_the_end_is_seen() {
        assert_eq!(beyond_end(&at(5), &at(5)), None);
        assert!(beyond_end(&at(6), &at(5)).is_some());
    }
}
