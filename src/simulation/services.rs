//! What the owners share: the log, the lake's store, MongoDB, the dead-letter topic; and what must hold of them.
//!
//! Owns: the invariants, judged over what is stored alone, after every effect and at the end.
//! Does not own: how the sinks get there.
//!
//! Of each partition, with `start` where the stream began and `next` a sink's progress:
//! - lake: the rows are the good offsets of `[start, next)`, each once, in every version of the table;
//! - mongo, on the primary and at majority: each of those has its document, no dead offset has one, and the rollups
//!   count each of those once and nothing beyond;
//! - both: progress never goes back, the starts agree, dead letters below progress are durable;
//! - what a sink says it has committed is stored for good;
//! - any version of the table with its tail (`lake next ≤ _id < mongo next`) is a prefix of the log.

use std::collections::{BTreeMap, BTreeSet};

use super::lake::Lake;
use super::log::{Log, id, value};
use super::mongod::{Data, Mongod};
use crate::offsets::{Offset, OffsetRange, Partition, Progress, RecordId, TopicId};
use crate::sink::SinkName;
use crate::sink::mongo::PROGRESS_COLLECTION;

/// The stream's name, and its collection's.
pub(super) const STREAM: &str = "readings";
pub(super) const ROLLUP: &str = "readings_by_minute";

pub(super) struct Services {
    pub log: Log,
    pub topic_id: TopicId,
    /// The configured start is `latest`: another offset at every look.
    pub latest: bool,
    pub lake: Lake,
    pub mongo: Mongod,
    pub letters: BTreeSet<(Partition, Offset)>,
    /// MongoDB's progress at majority, as last seen.
    seen: Progress,
}

type Check = Result<(), String>;

impl Services {
    pub fn new(log: Log, topic_id: TopicId, latest: bool) -> Self {
        Self {
            log,
            topic_id,
            latest,
            lake: Lake::default(),
            mongo: Mongod::default(),
            letters: BTreeSet::new(),
            seen: Progress::new(),
        }
    }

    /// What must hold at every moment.
    pub fn check(&mut self) -> Check {
        self.check_lake()?;
        self.check_mongo("the primary", self.mongo.primary())?;
        self.check_mongo("the majority", self.mongo.majority())?;
        let (starts, now) = positions(self.mongo.majority());
        for (partition, before) in &self.seen {
            if now.get(partition).is_none_or(|next| next < before) {
                return Err(format!(
                    "mongodb's progress of partition {partition} went back below {before}"
                ));
            }
        }
        for (partition, start) in &self.lake.newest().start {
            if starts.get(partition).is_some_and(|other| other != start) {
                return Err(format!(
                    "partition {partition} starts at {start} in the lake, elsewhere in mongodb"
                ));
            }
        }
        self.check_union(self.lake.newest(), &starts, &now)?;
        self.seen = now;
        Ok(())
    }

    /// Has this been stored, so that nothing takes it away again?
    pub fn holds(&self, sink: SinkName, progress: &Progress) -> bool {
        let (_, mongo) = positions(self.mongo.majority());
        let stored = match sink {
            SinkName::Mongo => &mongo,
            SinkName::Lake => &self.lake.newest().next,
        };
        progress
            .iter()
            .all(|(p, next)| stored.get(p).is_some_and(|stored| stored >= next))
    }

    /// A restore, or a hasty hand: a document beyond progress goes. No protocol could answer for one that goes
    /// while a transaction is open. False when there is none to go.
    pub fn delete_document(&mut self, chance: usize) -> bool {
        let (_, next) = positions(self.mongo.primary());
        let (_, safe) = positions(self.mongo.majority());
        let covered = |id: RecordId| {
            let of = |progress: &Progress| progress.get(&id.partition()).is_some_and(|next| id.offset() < *next);
            of(&next) || of(&safe)
        };
        let ids: Vec<i64> = self
            .mongo
            .primary()
            .ids(STREAM)
            .filter(|id| !covered(RecordId(*id)))
            .collect();
        let possible = !ids.is_empty() && self.mongo.open().is_empty();
        if possible {
            self.mongo.delete(STREAM, ids[chance % ids.len()]);
        }
        possible
    }

    /// Both sinks hold the whole log.
    pub fn finished(&self) -> bool {
        let (_, mongo) = positions(self.mongo.majority());
        let lake = &self.lake.newest().next;
        let done = |progress: &Progress, p: &Partition| progress.get(p) == Some(&self.log.end(*p));
        self.log.partitions().iter().all(|p| done(&mongo, p) && done(lake, p))
    }

    /// What must hold at the end besides: every earlier version of the table is as good as the newest.
    pub fn check_end(&mut self) -> Check {
        self.check()?;
        let (starts, now) = positions(self.mongo.majority());
        let mut versions = self.lake.versions().iter();
        versions.try_for_each(|version| self.check_union(version, &starts, &now))
    }

    fn check_lake(&self) -> Check {
        let newest = self.lake.newest();
        let mut expected = BTreeMap::new();
        for (partition, next) in &newest.next {
            let Some(start) = newest.start.get(partition) else {
                return Err(format!(
                    "the lake has progress of partition {partition} without a start"
                ));
            };
            let range = OffsetRange::new(*start, *next);
            expected.extend(
                self.log
                    .good(*partition, range)
                    .map(|offset| (id(*partition, offset), 1)),
            );
            self.check_letters("the lake", *partition, range)?;
        }
        if newest.rows != expected {
            let difference = difference(&newest.rows, &expected);
            return Err(format!(
                "the lake's rows are not the good records below its progress: {difference}"
            ));
        }
        let before = self.lake.versions().iter().rev().nth(1);
        let back = before.and_then(|before| {
            before
                .next
                .iter()
                .find(|(p, n)| newest.next.get(p).is_none_or(|now| now < n))
        });
        match back {
            Some((partition, next)) => Err(format!(
                "the lake's progress of partition {partition} went back below {next}"
            )),
            None => Ok(()),
        }
    }

    fn check_letters(&self, sink: &str, partition: Partition, range: OffsetRange) -> Check {
        match self
            .log
            .dead(partition, range)
            .find(|o| !self.letters.contains(&(partition, *o)))
        {
            Some(offset) => Err(format!(
                "{sink}'s progress passed offset {offset} of partition {partition} before its dead letter was durable"
            )),
            None => Ok(()),
        }
    }

    fn check_mongo(&self, whose: &str, data: &Data) -> Check {
        let (starts, next) = positions(data);
        let (mut sum, mut count) = (0, 0);
        let stored: BTreeSet<i64> = data.ids(STREAM).collect();
        for (partition, &next) in &next {
            let range = OffsetRange::new(starts[partition], next);
            for offset in self.log.good(*partition, range) {
                sum += value(*partition, offset);
                count += 1;
                if !stored.contains(&id(*partition, offset)) {
                    return Err(format!(
                        "{whose} has no document of offset {offset} of partition {partition}, below its progress {next}"
                    ));
                }
            }
            self.check_letters("mongodb", *partition, range)?;
        }
        for record in stored.into_iter().map(RecordId) {
            let (partition, offset) = (record.partition(), record.offset());
            let all = OffsetRange::new(starts.get(&partition).copied().unwrap_or(0), self.log.end(partition));
            if !self.log.good(partition, all).any(|good| good == offset) {
                return Err(format!(
                    "{whose} has a document of offset {offset} of partition {partition}, which has none"
                ));
            }
        }
        let counted = (data.sum(ROLLUP, "total"), data.sum(ROLLUP, "readings"));
        if counted != (sum, count) {
            let twice_or_not = format!("sum {:#b} and count {} for {sum:#b} and {count}", counted.0, counted.1);
            return Err(format!(
                "the rollups of {whose} have not counted each record below progress once: {twice_or_not}"
            ));
        }
        Ok(())
    }

    /// The lake with its tail, each offset once and none left out.
    fn check_union(&self, lake: &super::lake::Version, starts: &Progress, mongo: &Progress) -> Check {
        let documents = self.mongo.majority();
        for (partition, &start) in starts {
            let from = lake.next.get(partition).copied().unwrap_or(start);
            let until = mongo.get(partition).copied().unwrap_or(start).max(from);
            let of = |ids: &mut dyn Iterator<Item = i64>| -> Vec<Offset> {
                let ids = ids.map(RecordId).filter(|id| id.partition() == *partition);
                ids.map(RecordId::offset).collect()
            };
            let mut union = of(&mut lake.rows.keys().copied());
            let tail = of(&mut documents.ids(STREAM));
            union.extend(tail.into_iter().filter(|offset| (from..until).contains(offset)));
            let prefix: Vec<Offset> = self.log.good(*partition, OffsetRange::new(start, until)).collect();
            if union != prefix {
                return Err(format!(
                    "lake and tail of partition {partition} are {union:?}, the log is {prefix:?}"
                ));
            }
        }
        Ok(())
    }
}

/// Start and progress of every partition that has a progress document.
fn positions(data: &Data) -> (Progress, Progress) {
    let number = |document: &bson::Document, key| document.get_i64(key).expect("written by the sink");
    let documents = data.documents(PROGRESS_COLLECTION).map(|document| {
        let name = document.get_str("_id").expect("written by the sink");
        let partition = name
            .rsplit_once('/')
            .and_then(|(_, p)| p.parse().ok())
            .expect("<stream>/<partition>");
        (
            Partition(partition),
            number(document, "start"),
            number(document, "next"),
        )
    });
    let all: Vec<_> = documents.collect();
    (
        all.iter().map(|&(p, start, _)| (p, start)).collect(),
        all.iter().map(|&(p, _, next)| (p, next)).collect(),
    )
}

fn difference(found: &BTreeMap<i64, u32>, expected: &BTreeMap<i64, u32>) -> String {
    let ids: BTreeSet<i64> = found.keys().chain(expected.keys()).copied().collect();
    let wrong = ids.into_iter().filter(|id| found.get(id) != expected.get(id));
    let shown = wrong.map(|id| {
        let record = RecordId(id);
        let times = found.get(&id).copied().unwrap_or_default();
        format!(
            "partition {} offset {} is there {times} times",
            record.partition(),
            record.offset()
        )
    });
    shown.collect::<Vec<_>>().join(", ")
}
