//! What was seen, and what it means: lag per partition and sink, as plain data.
//!
//! Owns: the arithmetic of lag, the JSON form of `affluent status --json` (a contract: fields are only added).
//! Does not own: asking the services (`gather`), printing for people (`table`).
//!
//! Unknown is `None`, never zero: a service that is missing must not look like one that has caught up.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};

use crate::event_time::{self, EventTimes, Lane, Micros};
use crate::kafka::admin::Watermarks;
use crate::kafka::peek::Peeked;
use crate::offsets::{Offset, Partition, TopicId};

/// Everything, one entry per stream.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub job: String,
    /// When the ages below were taken, RFC 3339.
    pub at: String,
    /// Every service answered.
    pub complete: bool,
    pub lag_records: Option<u64>,
    pub lag_seconds: Option<f64>,
    pub streams: Vec<StreamReport>,
}

#[derive(Clone, Debug, Serialize)]
pub struct StreamReport {
    pub stream: String,
    pub topic: String,
    pub topic_id: Option<TopicId>,
    /// Delta version that the lake's progress was read at.
    pub lake_version: Option<u64>,
    /// Sum over the partitions, each with its slower sink.
    pub lag_records: Option<u64>,
    /// The longest of all partitions.
    pub lag_seconds: Option<f64>,
    /// Event time up to which every sink that the stream uses is complete.
    #[serde(serialize_with = "rfc3339")]
    pub watermark: Option<Micros>,
    /// `None`: unknown, or the stream does not use this sink.
    #[serde(serialize_with = "rfc3339")]
    pub mongo_watermark: Option<Micros>,
    #[serde(serialize_with = "rfc3339")]
    pub lake_watermark: Option<Micros>,
    pub partitions: Vec<PartitionReport>,
    /// What an operator let the stream pass over, oldest first.
    pub losses: Vec<LossReport>,
    /// Worth knowing, though every service answered.
    pub notices: Vec<String>,
    /// Services that did not answer, and why.
    pub problems: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LossReport {
    /// RFC 3339.
    pub accepted_at: String,
    pub id: String,
    /// Cause and ranges, in words.
    pub loss: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct PartitionReport {
    pub partition: Partition,
    /// First offset that Kafka still has.
    pub log_start: Option<Offset>,
    /// Last stable offset: the next one a consumer of committed records could read.
    pub log_end: Option<Offset>,
    /// `None`: the stream does not use this sink.
    pub mongo: Option<SinkReport>,
    pub lake: Option<SinkReport>,
    /// Of the slower sink.
    pub lag_records: Option<u64>,
    pub lag_seconds: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct SinkReport {
    /// Next offset to read; `None`: nothing recorded yet, or unknown.
    pub next: Option<Offset>,
    /// Offsets up to the log's end that the sink does not account for yet.
    pub lag_records: Option<u64>,
    /// Age of the first record not yet in the sink; 0 where there is none.
    pub lag_seconds: Option<f64>,
    /// Highest event time in the sink; `None`: nothing yet, or unknown.
    #[serde(serialize_with = "rfc3339")]
    pub event_time: Option<Micros>,
}

/// One sink's side of a stream, as far as it could be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// Disabled for this stream.
    Off,
    #[default]
    Unknown,
    Known(BTreeMap<Partition, Offset>),
}

/// What the services said about one stream.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub stream: String,
    pub topic: String,
    pub topic_id: Option<TopicId>,
    /// Empty where Kafka did not say.
    pub log: BTreeMap<Partition, Watermarks>,
    pub mongo: Side,
    pub lake: Side,
    pub mongo_event_times: EventTimes,
    pub lake_event_times: EventTimes,
    pub lake_version: Option<u64>,
    /// A sink without progress will begin at the log's start; otherwise where is not known yet.
    pub from_start: bool,
    pub peeked: BTreeMap<(Partition, Offset), Peeked>,
    pub losses: BTreeSet<LossReport>,
    pub notices: Vec<String>,
    pub problems: Vec<String>,
}

impl Observed {
    /// The offsets whose records tell the ages: the first one each sink lacks, where it lacks any.
    pub fn unread(&self) -> BTreeSet<(Partition, Offset)> {
        let first = |(partition, marks): (&Partition, &Watermarks)| {
            [&self.mongo, &self.lake]
                .into_iter()
                .filter_map(|side| self.position(side, *partition, marks))
                .filter(|position| *position < marks.high)
                .map(|position| (*partition, position))
                .collect::<Vec<_>>()
        };
        self.log.iter().flat_map(first).collect()
    }

    /// Where the sink would go on; records below the log's start are gone.
    fn position(&self, side: &Side, partition: Partition, marks: &Watermarks) -> Option<Offset> {
        let Side::Known(progress) = side else {
            return None;
        };
        match progress.get(&partition) {
            Some(next) => Some((*next).max(marks.low)),
            None => self.from_start.then_some(marks.low),
        }
    }

    pub fn report(mut self, now: DateTime<Utc>) -> StreamReport {
        let mut numbers: BTreeSet<Partition> = self.log.keys().copied().collect();
        for side in [&self.mongo, &self.lake] {
            if let Side::Known(progress) = side {
                numbers.extend(progress.keys());
            }
        }
        let partitions: Vec<PartitionReport> = numbers.into_iter().map(|number| self.partition(number, now)).collect();
        let out_of_bounds: Vec<String> = partitions.iter().flat_map(out_of_bounds).collect();
        self.notices.extend(out_of_bounds);
        let (mongo, lake) = (
            self.watermark(&self.mongo, &partitions, |p| p.mongo),
            self.watermark(&self.lake, &partitions, |p| p.lake),
        );
        // Without a single partition nothing is known, which must not read as "no lag".
        let known = !partitions.is_empty();
        StreamReport {
            lag_records: known.then(|| total(partitions.iter().map(|p| p.lag_records))).flatten(),
            lag_seconds: known
                .then(|| longest(partitions.iter().map(|p| p.lag_seconds)))
                .flatten(),
            watermark: smallest([(&self.mongo, mongo), (&self.lake, lake)]),
            mongo_watermark: mongo,
            lake_watermark: lake,
            stream: self.stream,
            topic: self.topic,
            topic_id: self.topic_id,
            lake_version: self.lake_version,
            partitions,
            losses: self.losses.into_iter().collect(),
            notices: self.notices,
            problems: self.problems,
        }
    }

    /// Up to where a sink is complete; unknown as long as the log's ends are.
    fn watermark(
        &self,
        side: &Side,
        partitions: &[PartitionReport],
        of: fn(&PartitionReport) -> Option<SinkReport>,
    ) -> Option<Micros> {
        if *side == Side::Off || self.log.is_empty() {
            return None;
        }
        event_time::watermark(partitions.iter().filter_map(of).map(|sink| Lane {
            highest: sink.event_time,
            idle: sink.lag_records == Some(0),
        }))
    }

    fn partition(&self, number: Partition, now: DateTime<Utc>) -> PartitionReport {
        let marks = self.log.get(&number);
        let mongo = self.sink(&self.mongo, &self.mongo_event_times, number, marks, now);
        let lake = self.sink(&self.lake, &self.lake_event_times, number, marks, now);
        let sinks = || [mongo, lake].into_iter().flatten();
        PartitionReport {
            partition: number,
            log_start: marks.map(|marks| marks.low),
            log_end: marks.map(|marks| marks.high),
            mongo,
            lake,
            lag_records: greatest(sinks().map(|sink| sink.lag_records)),
            lag_seconds: longest(sinks().map(|sink| sink.lag_seconds)),
        }
    }

    fn sink(
        &self,
        side: &Side,
        event_times: &EventTimes,
        number: Partition,
        marks: Option<&Watermarks>,
        now: DateTime<Utc>,
    ) -> Option<SinkReport> {
        let progress = match side {
            Side::Off => return None,
            Side::Unknown => return Some(SinkReport::default()),
            Side::Known(progress) => progress,
        };
        let next = progress.get(&number).copied();
        let position = marks.and_then(|marks| Some((self.position(side, number, marks)?, marks.high)));
        let (lag_records, lag_seconds) = match position {
            None => (None, None),
            Some((position, end)) if position >= end => (Some(0), Some(0.0)),
            Some((position, end)) => match self.peeked.get(&(number, position)) {
                // What is left are control records, which no sink will ever hold.
                Some(Peeked::End) => (Some(0), Some(0.0)),
                Some(Peeked::Record { timestamp_ms }) => (
                    Some(position.abs_diff(end)),
                    timestamp_ms.map(|ms| age_seconds(now, ms)),
                ),
                None => (Some(position.abs_diff(end)), None),
            },
        };
        Some(SinkReport {
            next,
            lag_records,
            lag_seconds,
            event_time: event_times.get(number),
        })
    }
}

/// Of the sinks that the stream uses; unknown as soon as one is.
fn smallest(sinks: [(&Side, Option<Micros>); 2]) -> Option<Micros> {
    let used = sinks.into_iter().filter(|(side, _)| **side != Side::Off);
    let all: Option<Vec<Micros>> = used.map(|(_, watermark)| watermark).collect();
    all?.into_iter().min()
}

fn rfc3339<S: Serializer>(time: &Option<Micros>, serializer: S) -> Result<S::Ok, S::Error> {
    time.and_then(show).serialize(serializer)
}

/// `2026-01-31T09:00:00Z`, with as many digits below the second as it has.
pub fn show(time: Micros) -> Option<String> {
    let time = DateTime::from_timestamp_micros(time)?;
    Some(time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

fn age_seconds(now: DateTime<Utc>, timestamp_ms: i64) -> f64 {
    // A producer's clock may run ahead of ours.
    (now.timestamp_millis() - timestamp_ms).max(0) as f64 / 1000.0
}

/// Progress that does not lie within the log: the two cases in which `run` stops a stream.
fn out_of_bounds(partition: &PartitionReport) -> Vec<String> {
    let (Some(start), Some(end)) = (partition.log_start, partition.log_end) else {
        return Vec::new();
    };
    let number = partition.partition;
    let judge = |(name, sink): (&str, Option<SinkReport>)| match sink?.next? {
        next if next < start => Some(format!(
            "partition {number}: {name} goes on at {next}, but the log starts at {start}: records [{next}, {start}) are gone"
        )),
        next if next > end => Some(format!(
            "partition {number}: {name} goes on at {next}, beyond the log's end {end}: was the log cut or the topic re-created?"
        )),
        _ => None,
    };
    [("mongo", partition.mongo), ("lake", partition.lake)]
        .into_iter()
        .filter_map(judge)
        .collect()
}

impl Report {
    pub fn new(job: &str, at: DateTime<Utc>, streams: Vec<StreamReport>) -> Self {
        Self {
            job: job.to_owned(),
            at: at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            complete: streams.iter().all(|stream| stream.problems.is_empty()),
            lag_records: total(streams.iter().map(|stream| stream.lag_records)),
            lag_seconds: longest(streams.iter().map(|stream| stream.lag_seconds)),
            streams,
        }
    }
}

/// Unknown as soon as one part is.
fn total(parts: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    parts.sum()
}

fn greatest(parts: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    parts.collect::<Option<Vec<u64>>>()?.into_iter().max()
}

fn longest(parts: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    parts.collect::<Option<Vec<f64>>>()?.into_iter().reduce(f64::max)
}

/// Progress that belongs to the topic as it is now, and the ids of topics that other entries belong to.
/// Entries written while the broker knew no ids belong to any: unknown → known is no re-creation.
pub fn of_topic(
    entries: impl IntoIterator<Item = (TopicId, Partition, Offset)>,
    current: Option<&TopicId>,
) -> (BTreeMap<Partition, Offset>, BTreeSet<TopicId>) {
    let mut progress = BTreeMap::new();
    let mut others = BTreeSet::new();
    for (id, partition, next) in entries {
        match current {
            Some(current) if current.is_known() && id.is_known() && *current != id => drop(others.insert(id)),
            _ => {
                let known = progress.entry(partition).or_insert(next);
                *known = next.max(*known);
            }
        }
    }
    (progress, others)
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: Partition = Partition(0);

    fn observed(low: Offset, high: Offset) -> Observed {
        Observed {
            stream: "sales".to_owned(),
            topic: "sales".to_owned(),
            log: BTreeMap::from([(P, Watermarks { low, high })]),
            mongo: Side::Off,
            lake: Side::Off,
            from_start: true,
            ..Observed::default()
        }
    }

    fn known(next: Offset) -> Side {
        Side::Known(BTreeMap::from([(P, next)]))
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp_millis(100_000).expect("an instant")
    }

    fn record(timestamp_ms: i64) -> Peeked {
        Peeked::Record {
            timestamp_ms: Some(timestamp_ms),
        }
    }

    #[test]
    fn lag_is_that_of_the_slower_sink_and_its_first_missing_record() {
        let mut seen = observed(0, 100);
        seen.mongo = known(90);
        seen.lake = known(40);
        assert_eq!(seen.unread(), BTreeSet::from([(P, 40), (P, 90)]));
        seen.peeked = BTreeMap::from([((P, 40), record(70_000)), ((P, 90), record(99_500))]);
        let report = seen.report(now());
        let partition = &report.partitions[0];
        assert_eq!(partition.mongo.and_then(|s| s.lag_seconds), Some(0.5));
        assert_eq!(partition.lake.and_then(|s| s.lag_records), Some(60));
        assert_eq!((report.lag_records, report.lag_seconds), (Some(60), Some(30.0)));
        assert!(report.notices.is_empty());
    }

    #[test]
    fn a_sink_that_caught_up_has_no_lag_and_nothing_is_read() {
        let mut seen = observed(0, 100);
        seen.mongo = known(100);
        assert!(seen.unread().is_empty());
        let report = seen.report(now());
        assert_eq!((report.lag_records, report.lag_seconds), (Some(0), Some(0.0)));
        assert_eq!(report.partitions[0].lake, None);
    }

    #[test]
    fn trailing_control_records_are_no_lag() {
        let mut seen = observed(0, 100);
        seen.lake = known(99);
        seen.peeked = BTreeMap::from([((P, 99), Peeked::End)]);
        assert_eq!(seen.report(now()).lag_records, Some(0));
    }

    #[test]
    fn what_is_unknown_is_never_shown_as_zero() {
        let mut seen = observed(0, 100);
        seen.mongo = known(100);
        seen.lake = Side::Unknown;
        let report = seen.clone().report(now());
        assert_eq!(report.partitions[0].lake, Some(SinkReport::default()));
        assert_eq!((report.lag_records, report.lag_seconds), (None, None));
        seen.log.clear();
        let report = seen.report(now());
        assert_eq!(report.partitions[0].mongo.and_then(|s| s.next), Some(100));
        assert_eq!(report.lag_records, None);
        let nothing = Observed {
            from_start: true,
            ..Observed::default()
        };
        assert_eq!(nothing.report(now()).lag_records, None);
    }

    #[test]
    fn a_record_without_an_answer_leaves_the_age_unknown_and_the_count_known() {
        let mut seen = observed(0, 100);
        seen.mongo = known(10);
        let report = seen.report(now());
        assert_eq!((report.lag_records, report.lag_seconds), (Some(90), None));
    }

    #[test]
    fn a_sink_without_progress_lacks_the_whole_log_if_it_begins_there() {
        let mut seen = observed(20, 100);
        seen.mongo = Side::Known(BTreeMap::new());
        assert_eq!(seen.unread(), BTreeSet::from([(P, 20)]));
        assert_eq!(seen.clone().report(now()).lag_records, Some(80));
        seen.from_start = false;
        assert!(seen.unread().is_empty());
        assert_eq!(seen.report(now()).lag_records, None);
    }

    #[test]
    fn progress_outside_the_log_is_told() {
        let mut seen = observed(50, 100);
        seen.mongo = known(40);
        seen.lake = known(101);
        let report = seen.report(now());
        assert_eq!(report.partitions[0].mongo.and_then(|s| s.lag_records), Some(50));
        assert_eq!(report.notices.len(), 2, "{:?}", report.notices);
        assert!(report.notices[0].contains("records [40, 50) are gone"));
        assert!(report.notices[1].contains("beyond the log's end 100"));
    }

    /// Two partitions, 100 records each; the first has no event time later than `first`, and so on.
    fn two(next: [Offset; 2], times: [Option<Micros>; 2]) -> (Side, EventTimes) {
        let number = |n: usize| Partition(n as i32);
        let side = Side::Known((0..2).map(|n| (number(n), next[n])).collect());
        (
            side,
            (0..2).filter_map(|n| times[n].map(|time| (number(n), time))).collect(),
        )
    }

    fn watermarks(seen: Observed) -> [Option<Micros>; 3] {
        let report = seen.report(now());
        [report.watermark, report.mongo_watermark, report.lake_watermark]
    }

    #[test]
    fn the_watermark_is_that_of_the_sink_behind_and_idle_partitions_do_not_hold_it_back() {
        let mut seen = observed(0, 100);
        seen.log.insert(Partition(1), Watermarks { low: 0, high: 100 });
        (seen.mongo, seen.mongo_event_times) = two([90, 95], [Some(50), Some(40)]);
        (seen.lake, seen.lake_event_times) = two([80, 100], [Some(45), Some(7)]);
        assert_eq!(watermarks(seen.clone()), [Some(40), Some(40), Some(45)]);
        seen.mongo = Side::Off;
        assert_eq!(watermarks(seen.clone()), [Some(45), None, Some(45)]);
        // Somebody writes to the idle partition: nobody knows yet how old that is.
        seen.log.insert(Partition(1), Watermarks { low: 0, high: 101 });
        assert_eq!(watermarks(seen), [Some(7), None, Some(7)]);
    }

    #[test]
    fn an_unknown_watermark_is_none() {
        let mut seen = observed(0, 100);
        (seen.mongo, seen.mongo_event_times) = (known(90), EventTimes::default());
        seen.lake = Side::Unknown;
        assert_eq!(watermarks(seen.clone()), [None, None, None]);
        seen.mongo_event_times.rise(P, 5);
        assert_eq!(watermarks(seen.clone()), [None, Some(5), None]);
        seen.log.clear();
        assert_eq!(watermarks(seen), [None, None, None], "there may be other partitions");
    }

    #[test]
    fn event_times_are_printed_as_rfc_3339() {
        let sink = SinkReport {
            event_time: Some(1_767_225_600_250_000),
            ..SinkReport::default()
        };
        let json = serde_json::to_value(sink).unwrap();
        assert_eq!(json["event_time"], "2026-01-01T00:00:00.250Z");
        assert!(serde_json::to_value(SinkReport::default()).unwrap()["event_time"].is_null());
    }

    #[test]
    fn an_age_is_never_negative() {
        assert_eq!(age_seconds(now(), 200_000), 0.0);
    }

    #[test]
    fn progress_of_a_topic_that_was_created_anew_is_set_apart() {
        let id = |text: &str| TopicId(text.to_owned());
        let entries = [
            (id("old"), P, 90),
            (id("new"), P, 5),
            (TopicId::unknown(), Partition(1), 7),
        ];
        let (progress, others) = of_topic(entries.clone(), Some(&id("new")));
        assert_eq!(progress, BTreeMap::from([(P, 5), (Partition(1), 7)]));
        assert_eq!(others, BTreeSet::from([id("old")]));
        let (progress, others) = of_topic(entries, None);
        assert_eq!(progress[&P], 90);
        assert!(others.is_empty());
    }
}
