//! What verify found, for people and for programs.
//!
//! Owns: the shape of `--json` (field names are a contract), the last line, and one judgement: a stream holds
//! when nothing is listed against it.
//! Does not own: the table for people (`table`).

mod table;

use serde::Serialize;

use self::table::thousands;
use super::compare::{Kind, Tally};
use super::form::Difference;
use super::rollup::RollupTally;
use crate::offsets::{Offset, RecordId};

#[derive(Debug, Serialize)]
pub struct Report {
    pub holds: bool,
    pub streams: Vec<StreamReport>,
}

#[derive(Debug, Default, Serialize)]
pub struct StreamReport {
    pub stream: String,
    pub topic: String,
    pub holds: bool,
    pub records: Records,
    /// Absent where the sink is switched off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mongo: Option<SinkReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lake: Option<SinkReport>,
    pub rollups: Vec<RollupReport>,
    pub dead_letters: DeadLetterReport,
    /// Reasons besides the counts why the stream does not hold.
    pub problems: Vec<String>,
    /// What was not looked at, and why that is no fault.
    pub notes: Vec<String>,
    pub seconds: f64,
}

/// Kafka's records that were read, by the oracle's verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Records {
    pub read: u64,
    pub good: u64,
    pub rejected: u64,
    /// Of the rejected ones, those that would be good by today's rules: each has its letter, no sink has it.
    pub rejected_earlier: u64,
    pub skipped: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct SinkReport {
    /// Rows compared with their records.
    pub rows: u64,
    pub missing: u64,
    pub duplicate: u64,
    pub foreign: u64,
    pub unequal: u64,
    /// Files whose directory contradicts the log (lake).
    pub misplaced_files: u64,
    /// Files the log promises that are gone or cannot be read; their rows are counted as missing (lake).
    pub damaged_files: u64,
    /// Equal rows beyond progress: an unfinished batch (mongo).
    pub unfinished: u64,
    /// Offsets below progress whose records Kafka no longer has, and the rows found for them.
    pub unverifiable_offsets: u64,
    pub unverifiable_rows: u64,
    /// Offsets in Kafka that the sink has not taken yet.
    pub behind: u64,
    pub examples: Examples,
}

/// At most [`super::compare::MAX_EXAMPLES`] of each kind.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Examples {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<RowName>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub duplicate: Vec<RowName>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub foreign: Vec<Foreign>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unequal: Vec<Unequal>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub misplaced_files: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged_files: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RowName {
    pub id: i64,
    pub epoch: u8,
    pub partition: i32,
    pub offset: Offset,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Foreign {
    pub id: String,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unequal {
    #[serde(flatten)]
    pub row: RowName,
    pub differences: Vec<Difference>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct RollupReport {
    pub name: String,
    /// Groups computed from the records; `None` where that could not be done.
    pub groups: Option<u64>,
    pub missing: u64,
    pub foreign: u64,
    pub unequal: u64,
    /// Why the rollup was not checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unchecked: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing_examples: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub foreign_examples: Vec<Foreign>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unequal_examples: Vec<UnequalGroup>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnequalGroup {
    pub group: String,
    pub differences: Vec<Difference>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct DeadLetterReport {
    pub expected: u64,
    pub missing: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing_examples: Vec<RowName>,
}

impl From<RecordId> for RowName {
    fn from(id: RecordId) -> Self {
        Self {
            id: id.0,
            epoch: id.epoch().0,
            partition: id.partition().0,
            offset: id.offset(),
        }
    }
}

impl SinkReport {
    /// `unequal` are the tally's examples, explained.
    pub fn new(tally: Tally, unequal: Vec<Unequal>) -> Self {
        let names = |kind: Kind<RecordId>| kind.examples.into_iter().map(RowName::from).collect();
        Self {
            rows: tally.rows,
            missing: tally.missing.count,
            duplicate: tally.duplicate.count,
            foreign: tally.foreign.count,
            unequal: tally.unequal.count,
            unfinished: tally.unfinished,
            examples: Examples {
                missing: names(tally.missing),
                duplicate: names(tally.duplicate),
                foreign: foreign(tally.foreign),
                unequal,
                ..Examples::default()
            },
            ..Self::default()
        }
    }

    pub fn holds(&self) -> bool {
        let rows = self.missing + self.duplicate + self.foreign + self.unequal;
        rows + self.misplaced_files + self.damaged_files == 0
    }
}

impl RollupReport {
    pub fn checked(name: &str, tally: RollupTally) -> Self {
        let unequal = tally.unequal.examples.into_iter();
        Self {
            name: name.to_owned(),
            groups: Some(tally.groups),
            missing: tally.missing.count,
            foreign: tally.foreign.count,
            unequal: tally.unequal.count,
            unchecked: None,
            missing_examples: tally.missing.examples,
            foreign_examples: foreign(tally.foreign),
            unequal_examples: unequal
                .map(|(group, differences)| UnequalGroup { group, differences })
                .collect(),
        }
    }

    pub fn unchecked(name: &str, why: &str) -> Self {
        Self {
            name: name.to_owned(),
            unchecked: Some(why.to_owned()),
            ..Self::default()
        }
    }

    pub fn holds(&self) -> bool {
        self.missing + self.foreign + self.unequal == 0
    }
}

fn foreign(kind: Kind<(String, String)>) -> Vec<Foreign> {
    kind.examples
        .into_iter()
        .map(|(id, reason)| Foreign { id, reason })
        .collect()
}

impl StreamReport {
    pub fn judge(&mut self) {
        self.holds = self.problems.is_empty()
            && self.sinks().all(|(_, sink)| sink.holds())
            && self.rollups.iter().all(RollupReport::holds)
            && self.dead_letters.missing == 0;
    }

    fn sinks(&self) -> impl Iterator<Item = (&'static str, &SinkReport)> {
        let mongo = self.mongo.iter().map(|sink| ("mongo", sink));
        mongo.chain(self.lake.iter().map(|sink| ("lake", sink)))
    }

    /// What is wrong, in few words; empty where the stream holds.
    fn faults(&self) -> Vec<String> {
        let mut faults = self.problems.clone();
        let mut count = |where_: &str, number: u64, what: &str| {
            if number > 0 {
                faults.push(format!("{where_}: {} {what}", thousands(number)));
            }
        };
        for (name, sink) in self.sinks() {
            count(name, sink.missing, "missing");
            count(name, sink.duplicate, "duplicate");
            count(name, sink.foreign, "foreign");
            count(name, sink.unequal, "unequal");
            count(name, sink.misplaced_files, "files misplaced");
            count(name, sink.damaged_files, "files damaged");
        }
        for rollup in &self.rollups {
            count(
                &rollup.name,
                rollup.missing + rollup.foreign + rollup.unequal,
                "groups off",
            );
        }
        count("dead letters", self.dead_letters.missing, "missing");
        faults
    }
}

impl Report {
    pub fn new(streams: Vec<StreamReport>) -> Self {
        Self {
            holds: streams.iter().all(|stream| stream.holds),
            streams,
        }
    }

    /// The last line of the table.
    pub fn conclusion(&self) -> String {
        if !self.holds {
            let bad = self.streams.iter().filter(|stream| !stream.holds);
            let faults: Vec<_> = bad
                .map(|stream| format!("{} — {}", stream.stream, stream.faults().join(", ")))
                .collect();
            return format!("does not hold: {}", faults.join("; "));
        }
        let sinks: Vec<_> = self.streams.iter().flat_map(|stream| stream.sinks()).collect();
        let mut names: Vec<_> = sinks.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        let who = match names[..] {
            [] => return "no sink is switched on: nothing to verify".to_owned(),
            [one] => format!("{one} holds"),
            _ => "both sinks hold".to_owned(),
        };
        let behind: Vec<_> = sinks
            .iter()
            .filter(|(_, sink)| sink.behind > 0)
            .map(|(name, sink)| format!("{name} {} behind", thousands(sink.behind)))
            .collect();
        let so_far = if behind.is_empty() {
            String::new()
        } else {
            format!(" up to its progress ({})", behind.join(", "))
        };
        format!("{who} every record exactly once{so_far}")
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn stream() -> StreamReport {
        let sink = |rows| SinkReport {
            rows,
            ..SinkReport::default()
        };
        let mut report = StreamReport {
            stream: "sales".into(),
            topic: "sales".into(),
            records: Records {
                read: 1_000_000,
                good: 999_000,
                rejected: 1000,
                rejected_earlier: 0,
                skipped: 0,
            },
            mongo: Some(sink(999_000)),
            lake: Some(sink(999_000)),
            rollups: vec![RollupReport {
                name: "sales_by_day".into(),
                groups: Some(30),
                ..RollupReport::default()
            }],
            dead_letters: DeadLetterReport {
                expected: 1000,
                ..DeadLetterReport::default()
            },
            seconds: 12.34,
            ..StreamReport::default()
        };
        report.judge();
        report
    }

    #[test]
    fn a_stream_without_faults_holds_and_says_so() {
        let report = Report::new(vec![stream()]);
        assert!(report.holds);
        assert_eq!(report.conclusion(), "both sinks hold every record exactly once");
    }

    #[test]
    fn a_sink_that_is_behind_holds_what_it_has() {
        let mut stream = stream();
        stream.lake.as_mut().unwrap().behind = 1500;
        let report = Report::new(vec![stream]);
        assert_eq!(
            report.conclusion(),
            "both sinks hold every record exactly once up to its progress (lake 1,500 behind)"
        );
    }

    #[test]
    fn a_stream_with_one_sink_speaks_of_that_one() {
        let mut stream = stream();
        stream.lake = None;
        assert_eq!(
            Report::new(vec![stream]).conclusion(),
            "mongo holds every record exactly once"
        );
    }

    #[test]
    fn any_fault_at_all_means_that_it_does_not_hold() {
        type Fault = fn(&mut StreamReport);
        let faults: [(Fault, &str); 10] = [
            (|s| s.mongo.as_mut().unwrap().missing = 1, "mongo: 1 missing"),
            (|s| s.lake.as_mut().unwrap().duplicate = 2, "lake: 2 duplicate"),
            (|s| s.lake.as_mut().unwrap().foreign = 1, "lake: 1 foreign"),
            (|s| s.mongo.as_mut().unwrap().unequal = 1, "mongo: 1 unequal"),
            (
                |s| s.lake.as_mut().unwrap().misplaced_files = 1,
                "lake: 1 files misplaced",
            ),
            (|s| s.lake.as_mut().unwrap().damaged_files = 1, "lake: 1 files damaged"),
            (|s| s.rollups[0].unequal = 1, "sales_by_day: 1 groups off"),
            (|s| s.rollups[0].missing = 1, "sales_by_day: 1 groups off"),
            (|s| s.dead_letters.missing = 1, "dead letters: 1 missing"),
            (
                |s| s.problems.push("the topic was re-created".into()),
                "the topic was re-created",
            ),
        ];
        for (fault, text) in faults {
            let mut stream = stream();
            fault(&mut stream);
            stream.judge();
            let report = Report::new(vec![stream]);
            assert!(!report.holds, "{text}");
            assert_eq!(report.conclusion(), format!("does not hold: sales — {text}"));
        }
    }
}
