//! What can be verified, and in which portions: plain arithmetic over offsets and ids.
//!
//! Owns: the range each sink answers for, what retention has taken out of it, the windows that keep memory
//! bounded, and the classification of ids that lie in no window.
//! Does not own: where the positions come from (`mongo`, `lake`, Kafka's watermarks).
//!
//! ```text
//!  offsets   low                 start            next       end        high
//!  ──────────┼─────────────────────┼────────────────┼──────────┼──────────┼──
//!  Kafka     └──────────────────────── still there ─────────────────────┘
//!  sink                            └── all of it ───┘└─ may be ─┘           rows elsewhere are foreign
//! ```

use std::collections::BTreeMap;
use std::fmt;

use crate::offsets::{Epoch, Offset, OffsetRange, Partition, RecordId};

/// The largest offset that has an id.
const LAST_OFFSET: Offset = (1 << RecordId::OFFSET_BITS) - 1;

/// What one sink has recorded for one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The first offset the sink was asked for.
    pub start: Offset,
    /// Its progress: everything below must be there.
    pub next: Offset,
    /// Rows in `[next, end)` may be there: a batch that has not been committed yet. Equals `next` in the lake,
    /// whose rows appear together with their progress.
    pub end: Offset,
}

/// One partition: what Kafka still has, and what each sink holds. `None` where a sink has no progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionPlan {
    pub low: Offset,
    pub high: Offset,
    pub mongo: Option<Reach>,
    pub lake: Option<Reach>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub epoch: Epoch,
    pub partitions: BTreeMap<Partition, PartitionPlan>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Mongo,
    Lake,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mongo => "mongo",
            Self::Lake => "lake",
        })
    }
}

/// Where an id found in a sink belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Kafka has the record: a window compares it.
    Compared,
    /// Kafka has it no more, by retention or because the topic was re-created.
    Unverifiable,
    /// It should not be there; says why.
    Foreign(&'static str),
}

/// An `_id` for people: with its coordinates, where it can have some.
pub fn name_of(id: i64) -> String {
    if id < 0 {
        id.to_string()
    } else {
        RecordId(id).to_string()
    }
}

impl PartitionPlan {
    pub fn reach(&self, side: Side) -> Option<&Reach> {
        match side {
            Side::Mongo => self.mongo.as_ref(),
            Side::Lake => self.lake.as_ref(),
        }
    }

    /// Offsets of this sink that Kafka can still vouch for, unfinished ones included.
    fn compared(&self, side: Side) -> OffsetRange {
        let Some(reach) = self.reach(side) else {
            return OffsetRange::new(self.low, self.low);
        };
        let start = reach.start.max(self.low);
        OffsetRange::new(start, reach.end.min(self.high).max(start))
    }

    /// What has to be read from Kafka so that both sinks can be compared.
    fn read(&self) -> OffsetRange {
        let ranges = [Side::Mongo, Side::Lake].map(|side| self.compared(side));
        let needed = ranges.iter().filter(|range| !range.is_empty());
        let start = needed.clone().map(|range| range.start).min().unwrap_or(self.low);
        let end = needed.map(|range| range.end).max().unwrap_or(self.low);
        OffsetRange::new(start, end)
    }
}

impl Plan {
    /// Offsets below a sink's progress that Kafka no longer has.
    pub fn unverifiable(&self, side: Side) -> u64 {
        let gone = |plan: &PartitionPlan| {
            plan.reach(side)
                .map_or(0, |reach| (plan.low.min(reach.next) - reach.start).max(0) as u64)
        };
        self.partitions.values().map(gone).sum()
    }

    /// Offsets that Kafka has and the sink has not taken yet.
    pub fn behind(&self, side: Side) -> u64 {
        let ahead = |plan: &PartitionPlan| {
            plan.reach(side)
                .map_or(plan.high - plan.low, |reach| plan.high - reach.next.max(plan.low))
                .max(0) as u64
        };
        self.partitions.values().map(ahead).sum()
    }

    /// Progress that Kafka's log does not reach: the topic lost records that we hold, or was re-created.
    pub fn beyond_the_log(&self, side: Side) -> Vec<(Partition, Offset, Offset)> {
        let beyond = |(partition, plan): (&Partition, &PartitionPlan)| {
            let next = plan.reach(side)?.next;
            (next > plan.high).then_some((*partition, next, plan.high))
        };
        self.partitions.iter().filter_map(beyond).collect()
    }

    pub fn offsets_to_read(&self) -> u64 {
        self.partitions
            .values()
            .map(|plan| plan.read())
            .map(|range| (range.end - range.start) as u64)
            .sum()
    }

    /// Cuts what has to be read into windows of at most `budget` offsets, each taking an equal share of every
    /// partition that has some left: files and batches mix partitions, and so do windows.
    pub fn windows(&self, budget: usize) -> Vec<Vec<(Partition, OffsetRange)>> {
        let mut left: Vec<(Partition, OffsetRange)> = self
            .partitions
            .iter()
            .map(|(partition, plan)| (*partition, plan.read()))
            .filter(|(_, range)| !range.is_empty())
            .collect();
        let mut windows = Vec::new();
        while !left.is_empty() {
            let share = (budget / left.len()).max(1) as Offset;
            let mut window = Vec::new();
            for (partition, range) in &mut left {
                let cut = range.end.min(range.start + share);
                window.push((*partition, OffsetRange::new(range.start, cut)));
                range.start = cut;
            }
            left.retain(|(_, range)| !range.is_empty());
            windows.push(window);
        }
        windows
    }

    /// Where an `_id` found in a sink belongs.
    pub fn place(&self, side: Side, id: i64) -> Place {
        if id < 0 {
            return Place::Foreign("no record has a negative id");
        }
        let id = RecordId(id);
        if id.epoch() < self.epoch {
            return Place::Unverifiable;
        }
        if id.epoch() > self.epoch {
            return Place::Foreign("of an epoch that has not begun");
        }
        let Some(plan) = self.partitions.get(&id.partition()) else {
            return Place::Foreign("the topic has no such partition");
        };
        let Some(reach) = plan.reach(side) else {
            return Place::Foreign("the sink has no progress for its partition");
        };
        let offset = id.offset();
        if offset < reach.start {
            Place::Foreign("before the sink's start")
        } else if offset < plan.low {
            if offset < reach.next {
                Place::Unverifiable
            } else {
                Place::Foreign("beyond the sink's progress")
            }
        } else if offset >= plan.high {
            Place::Foreign("beyond the end of Kafka's log")
        } else if offset >= reach.end {
            Place::Foreign("beyond the sink's progress")
        } else {
            Place::Compared
        }
    }

    /// Everything a sink may hold beside what the windows compare, as `[from, to)` with open ends as `None`.
    /// What lies between a partition's `end` and the next partition is left out: it was not there when `end`
    /// was read, so it is the work of an ingestion that goes on while we verify.
    pub fn gaps(&self, side: Side) -> Vec<(Option<i64>, Option<i64>)> {
        let newer = self.partitions.iter().filter_map(|(partition, plan)| {
            let first = RecordId::new(self.epoch, *partition, plan.reach(side)?.end)?;
            Some((
                first.0,
                RecordId::new(self.epoch, *partition, LAST_OFFSET)?.0.saturating_add(1),
            ))
        });
        let mut left_out: Vec<(i64, i64)> = self.compared_ids(side).into_iter().chain(newer).collect();
        left_out.sort_unstable();
        let mut gaps = Vec::new();
        let mut from = None;
        for (first, end) in left_out {
            if from != Some(first) {
                gaps.push((from, Some(first)));
            }
            from = Some(end);
        }
        gaps.push((from, None));
        gaps
    }

    /// Id ranges that windows compare, ascending and apart from each other; both ends are half open.
    pub fn compared_ids(&self, side: Side) -> Vec<(i64, i64)> {
        self.partitions
            .iter()
            .map(|(partition, plan)| (partition, plan.compared(side)))
            .filter(|(_, range)| !range.is_empty())
            .filter_map(|(partition, range)| {
                let first = RecordId::new(self.epoch, *partition, range.start)?;
                let last = RecordId::new(self.epoch, *partition, range.end - 1)?;
                Some((first.0, last.0 + 1))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(start: Offset, next: Offset, end: Offset) -> Option<Reach> {
        Some(Reach { start, next, end })
    }

    fn plan(partitions: &[PartitionPlan]) -> Plan {
        Plan {
            epoch: Epoch(1),
            partitions: (0..).map(Partition).zip(partitions.iter().copied()).collect(),
        }
    }

    fn id(epoch: u8, partition: i32, offset: Offset) -> i64 {
        RecordId::new(Epoch(epoch), Partition(partition), offset).unwrap().0
    }

    const PARTITION: PartitionPlan = PartitionPlan {
        low: 100,
        high: 1000,
        mongo: Some(Reach {
            start: 50,
            next: 800,
            end: 900,
        }),
        lake: Some(Reach {
            start: 50,
            next: 600,
            end: 600,
        }),
    };

    #[test]
    fn an_id_has_one_place() {
        let plan = plan(&[PARTITION]);
        let foreign = |place| matches!(place, Place::Foreign(_));
        assert!(foreign(plan.place(Side::Mongo, -1)));
        assert_eq!(
            plan.place(Side::Mongo, id(0, 0, 5)),
            Place::Unverifiable,
            "an earlier topic"
        );
        assert!(foreign(plan.place(Side::Mongo, id(2, 0, 500))));
        assert!(foreign(plan.place(Side::Mongo, id(1, 1, 500))), "no such partition");
        assert!(foreign(plan.place(Side::Mongo, id(1, 0, 49))), "before the start");
        assert_eq!(
            plan.place(Side::Mongo, id(1, 0, 99)),
            Place::Unverifiable,
            "gone by retention"
        );
        assert_eq!(plan.place(Side::Mongo, id(1, 0, 100)), Place::Compared);
        assert_eq!(
            plan.place(Side::Mongo, id(1, 0, 899)),
            Place::Compared,
            "an unfinished batch"
        );
        assert!(foreign(plan.place(Side::Mongo, id(1, 0, 900))));
        assert_eq!(plan.place(Side::Lake, id(1, 0, 599)), Place::Compared);
        assert!(
            foreign(plan.place(Side::Lake, id(1, 0, 600))),
            "beyond the lake's progress"
        );
    }

    #[test]
    fn ids_compared_are_exactly_those_placed_so() {
        let plan = plan(&[PARTITION, PARTITION]);
        assert_eq!(
            plan.compared_ids(Side::Mongo),
            [(id(1, 0, 100), id(1, 0, 900)), (id(1, 1, 100), id(1, 1, 900))]
        );
    }

    #[test]
    fn gaps_are_all_that_is_not_compared_and_was_there_when_the_plan_was_made() {
        let beyond_the_log = PartitionPlan {
            mongo: reach(50, 800, 1010),
            ..PARTITION
        };
        let plan = plan(&[PARTITION, beyond_the_log]);
        assert_eq!(
            plan.gaps(Side::Mongo),
            [
                (None, Some(id(1, 0, 100))),
                (Some(id(1, 1, 0)), Some(id(1, 1, 100))),
                (Some(id(1, 1, 1000)), Some(id(1, 1, 1010))),
                (Some(id(1, 2, 0)), None),
            ]
        );
        assert_eq!(Plan::default().gaps(Side::Mongo), [(None, None)]);
    }

    #[test]
    fn retention_and_lag_are_counted() {
        let plan = plan(&[PARTITION]);
        assert_eq!(plan.unverifiable(Side::Lake), 50);
        assert_eq!(plan.behind(Side::Mongo), 200);
        assert_eq!(plan.behind(Side::Lake), 400);
        assert_eq!(plan.beyond_the_log(Side::Mongo), []);
    }

    #[test]
    fn a_sink_that_retention_has_overtaken_has_nothing_to_compare() {
        let plan = plan(&[PartitionPlan {
            low: 900,
            high: 1000,
            mongo: None,
            lake: reach(50, 600, 600),
        }]);
        assert_eq!(plan.windows(10), Vec::<Vec<_>>::new());
        assert_eq!(plan.unverifiable(Side::Lake), 550);
        assert_eq!(plan.place(Side::Lake, id(1, 0, 599)), Place::Unverifiable);
        assert!(matches!(plan.place(Side::Lake, id(1, 0, 600)), Place::Foreign(_)));
        assert_eq!(plan.compared_ids(Side::Lake), []);
    }

    #[test]
    fn progress_beyond_the_logs_end_is_noticed() {
        let plan = plan(&[PartitionPlan {
            low: 0,
            high: 10,
            mongo: reach(0, 11, 11),
            lake: None,
        }]);
        assert_eq!(plan.beyond_the_log(Side::Mongo), [(Partition(0), 11, 10)]);
    }

    #[test]
    fn windows_cover_everything_once_within_the_budget() {
        let small = PartitionPlan {
            low: 0,
            high: 10,
            mongo: reach(3, 10, 10),
            lake: None,
        };
        let plan = plan(&[PARTITION, small, PARTITION]);
        let windows = plan.windows(90);
        let mut read: BTreeMap<Partition, Vec<OffsetRange>> = BTreeMap::new();
        for window in &windows {
            let size: Offset = window.iter().map(|(_, range)| range.end - range.start).sum();
            assert!(0 < size && size <= 90);
            for (partition, range) in window {
                let earlier = read.entry(*partition).or_default();
                assert!(earlier.last().is_none_or(|last| last.end == range.start));
                earlier.push(*range);
            }
        }
        let whole = |partition: i32| {
            let ranges = &read[&Partition(partition)];
            OffsetRange::new(ranges[0].start, ranges[ranges.len() - 1].end)
        };
        assert_eq!(whole(0), OffsetRange::new(100, 900));
        assert_eq!(whole(1), OffsetRange::new(3, 10));
        assert_eq!(whole(2), OffsetRange::new(100, 900));
        assert_eq!(plan.offsets_to_read(), 800 + 7 + 800);
    }
}
