//! One window of Kafka's records against what a sink holds of them.
//!
//! Owns: what the window should hold ([`Expected`]), and the tally of rows missing, duplicate, foreign and
//! unequal ([`Comparison`]). Rows may come in any order; a row outside the window is not looked at.
//! Does not own: reading anything. Whole rows are not kept: 18 bytes per offset are enough to compare. The sinks are
//! entered apart: a record may have met another schema in each (`schemas`).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::document::Odd;
use super::form::Form;
use super::oracle::{Row, Verdict};
use super::plan::{PartitionPlan, Plan, Reach, Side};
use crate::offsets::{Epoch, Offset, OffsetRange, Partition, RecordId};

/// Examples kept per kind of fault; the counts go on.
pub const MAX_EXAMPLES: usize = 20;

/// A row as read from a sink.
#[derive(Clone, Debug, PartialEq)]
pub enum Stored {
    Row(Row),
    /// It has a record's id and a shape no record can have.
    Odd(RecordId, Odd),
}

impl Stored {
    pub fn id(&self) -> RecordId {
        match self {
            Self::Row(row) => row.id,
            Self::Odd(id, _) => *id,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing there: a control record, an aborted one, or one that compaction took.
    Absent,
    Row,
    Skipped,
    Rejected,
}

/// What the records of one window should have become.
#[derive(Debug)]
pub struct Expected {
    epoch: Epoch,
    slices: Vec<Slice>,
}

#[derive(Debug)]
struct Slice {
    partition: Partition,
    range: OffsetRange,
    lake: Cells,
    mongo: Cells,
}

/// What one sink should hold of a slice.
#[derive(Debug)]
struct Cells {
    states: Vec<State>,
    fingerprints: Vec<u64>,
}

/// The oracle's verdicts over one record, by the schema each sink had in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdicts {
    pub mongo: Verdict,
    /// Where it is by another schema than MongoDB's.
    pub lake: Option<Verdict>,
}

impl Verdicts {
    pub fn of(&self, side: Side) -> &Verdict {
        match side {
            Side::Mongo => &self.mongo,
            Side::Lake => self.lake.as_ref().unwrap_or(&self.mongo),
        }
    }
}

impl From<Verdict> for Verdicts {
    fn from(mongo: Verdict) -> Self {
        Self { mongo, lake: None }
    }
}

impl Slice {
    fn cells(&self, form: Form) -> &Cells {
        match form {
            Form::Lake => &self.lake,
            Form::Mongo => &self.mongo,
        }
    }
}

impl Cells {
    fn new(length: usize) -> Self {
        Self {
            states: vec![State::Absent; length],
            fingerprints: vec![0; length],
        }
    }

    fn enter(&mut self, index: usize, form: Form, verdict: &Verdict, buffer: &mut Vec<u8>) {
        self.states[index] = match verdict {
            Verdict::Row(row) => {
                self.fingerprints[index] = form.fingerprint(row, buffer);
                State::Row
            }
            Verdict::Skipped => State::Skipped,
            Verdict::Reject(_) => State::Rejected,
        };
    }
}

/// A position in an [`Expected`]: slice, and index in it.
type Cell = (usize, usize);

impl Expected {
    pub fn new(epoch: Epoch, window: &[(Partition, OffsetRange)]) -> Self {
        let slice = |&(partition, range): &(Partition, OffsetRange)| {
            let length = (range.end - range.start) as usize;
            Slice {
                partition,
                range,
                lake: Cells::new(length),
                mongo: Cells::new(length),
            }
        };
        Self {
            epoch,
            slices: window.iter().map(slice).collect(),
        }
    }

    /// Enters the oracle's verdicts over one record. `buffer` is only there to be used again.
    pub fn enter(&mut self, partition: Partition, offset: Offset, verdicts: &Verdicts, buffer: &mut Vec<u8>) {
        let Some((slice, index)) = self.cell(partition, offset) else {
            return;
        };
        let slice = &mut self.slices[slice];
        slice.lake.enter(index, Form::Lake, verdicts.of(Side::Lake), buffer);
        slice.mongo.enter(index, Form::Mongo, verdicts.of(Side::Mongo), buffer);
    }

    /// Enters a record that was rejected when it was read, whatever it would be today.
    pub fn enter_rejected(&mut self, partition: Partition, offset: Offset) {
        if let Some((slice, index)) = self.cell(partition, offset) {
            let slice = &mut self.slices[slice];
            slice.lake.states[index] = State::Rejected;
            slice.mongo.states[index] = State::Rejected;
        }
    }

    /// The window's ranges, for readers that can leave out what lies elsewhere.
    pub fn ranges(&self) -> impl Iterator<Item = (Partition, OffsetRange)> + '_ {
        self.slices.iter().map(|slice| (slice.partition, slice.range))
    }

    pub fn contains(&self, id: RecordId) -> bool {
        id.0 >= 0 && id.epoch() == self.epoch && self.cell(id.partition(), id.offset()).is_some()
    }

    fn cell(&self, partition: Partition, offset: Offset) -> Option<Cell> {
        let slice = self.slices.iter().position(|slice| slice.partition == partition)?;
        let range = self.slices[slice].range;
        range.contains(offset).then(|| (slice, (offset - range.start) as usize))
    }
}

/// Faults of one sink, counted, with a few examples each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Rows compared, good ones and others.
    pub rows: u64,
    pub missing: Kind<RecordId>,
    pub duplicate: Kind<RecordId>,
    /// With the reason.
    pub foreign: Kind<(String, String)>,
    /// As found; `form::Form::differences` says what is wrong once the record is read again.
    pub unequal: Kind<Stored>,
    /// Equal rows beyond progress: a batch that has not been committed yet.
    pub unfinished: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Kind<T> {
    pub count: u64,
    pub examples: Vec<T>,
}

impl<T> Default for Kind<T> {
    fn default() -> Self {
        Self {
            count: 0,
            examples: Vec::new(),
        }
    }
}

impl<T> Kind<T> {
    pub fn add(&mut self, example: impl FnOnce() -> T) {
        self.count += 1;
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.push(example());
        }
    }

    pub fn merge(&mut self, other: Self) {
        self.count += other.count;
        let room = MAX_EXAMPLES - self.examples.len();
        self.examples.extend(other.examples.into_iter().take(room));
    }
}

impl Tally {
    pub fn merge(&mut self, other: Self) {
        self.rows += other.rows;
        self.missing.merge(other.missing);
        self.duplicate.merge(other.duplicate);
        self.foreign.merge(other.foreign);
        self.unequal.merge(other.unequal);
        self.unfinished += other.unfinished;
    }

    pub fn holds(&self) -> bool {
        self.missing.count + self.duplicate.count + self.foreign.count + self.unequal.count == 0
    }
}

/// A window's records against one sink's rows.
#[derive(Debug)]
pub struct Comparison {
    form: Form,
    expected: Arc<Expected>,
    reach: BTreeMap<Partition, Reach>,
    seen: Vec<Vec<bool>>,
    tally: Tally,
    buffer: Vec<u8>,
}

impl Comparison {
    pub fn new(side: Side, plan: &Plan, expected: Arc<Expected>) -> Self {
        let reach = |(partition, plan): (&Partition, &PartitionPlan)| Some((*partition, *plan.reach(side)?));
        Self {
            form: match side {
                Side::Mongo => Form::Mongo,
                Side::Lake => Form::Lake,
            },
            reach: plan.partitions.iter().filter_map(reach).collect(),
            seen: expected
                .slices
                .iter()
                .map(|slice| vec![false; (slice.range.end - slice.range.start) as usize])
                .collect(),
            expected,
            tally: Tally::default(),
            buffer: Vec::new(),
        }
    }

    pub fn expected(&self) -> &Expected {
        &self.expected
    }

    pub fn observe(&mut self, stored: Stored) {
        let id = stored.id();
        if !self.expected.contains(id) {
            return;
        }
        let Some((slice, index)) = self.expected.cell(id.partition(), id.offset()) else {
            return;
        };
        let Some(reach) = self.reach.get(&id.partition()).copied() else {
            return;
        };
        // Ids in the window that this sink does not answer for are judged with the others of their place.
        if !(reach.start..reach.end).contains(&id.offset()) {
            return;
        }
        self.tally.rows += 1;
        let state = self.expected.slices[slice].cells(self.form).states[index];
        let twice = std::mem::replace(&mut self.seen[slice][index], true);
        if state != State::Row {
            let why = match state {
                State::Rejected => "its record is a dead letter",
                State::Skipped => "its record is a tombstone",
                _ => "Kafka has no record there",
            };
            self.tally.foreign.add(|| (id.to_string(), why.to_owned()));
        } else if twice {
            self.tally.duplicate.add(|| id);
        } else if !self.equals(&stored, slice, index) {
            self.tally.unequal.add(|| stored);
        } else if id.offset() >= reach.next {
            self.tally.unfinished += 1;
        }
    }

    /// Is it what the window expects of a record beyond progress? Without entering it.
    pub fn is_expected_beyond_progress(&mut self, stored: &Stored) -> Option<bool> {
        let id = stored.id();
        let reach = self.reach.get(&id.partition())?;
        if !(reach.next..reach.end).contains(&id.offset()) || !self.expected.contains(id) {
            return None;
        }
        let (slice, index) = self.expected.cell(id.partition(), id.offset())?;
        let is_row = self.expected.slices[slice].cells(self.form).states[index] == State::Row;
        Some(is_row && self.equals(stored, slice, index))
    }

    /// A document beyond progress that its next owner will replace.
    pub fn leave_to_its_owner(&mut self) {
        self.tally.rows += 1;
        self.tally.unfinished += 1;
    }

    /// Looks for what nobody showed.
    pub fn finish(mut self) -> Tally {
        for (slice, seen) in self.expected.slices.iter().zip(&self.seen) {
            let Some(reach) = self.reach.get(&slice.partition) else {
                continue;
            };
            for (index, state) in slice.cells(self.form).states.iter().enumerate() {
                let offset = slice.range.start + index as Offset;
                let owed = *state == State::Row && (reach.start..reach.next).contains(&offset);
                if owed && !seen[index] {
                    let id = RecordId::new(self.expected.epoch, slice.partition, offset)
                        .expect("the oracle makes rows only of records that have an id");
                    self.tally.missing.add(|| id);
                }
            }
        }
        self.tally
    }

    fn equals(&mut self, stored: &Stored, slice: usize, index: usize) -> bool {
        let Stored::Row(row) = stored else {
            return false;
        };
        let expected = self.expected.slices[slice].cells(self.form).fingerprints[index];
        self.form.fingerprint(row, &mut self.buffer) == expected
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::oracle;
    use crate::verify::testing::{record, row, stream};

    const GOOD: &str = r#"{"at":"2024-06-30T22:30:00Z","region":"Corse","amount":1.5}"#;
    const BAD: &str = r#"{"at":null}"#;

    /// Offsets 10..20 of partition 0: all good but 13, which is a dead letter, and 14, which is not there.
    /// The lake has taken them up to 18, MongoDB up to 16 with documents up to 18.
    fn window() -> (Plan, Expected) {
        let reach = |next, end| Some(Reach { start: 10, next, end });
        let partition = PartitionPlan {
            low: 10,
            high: 20,
            mongo: reach(16, 18),
            lake: reach(18, 18),
        };
        let plan = Plan {
            epoch: Epoch(0),
            partitions: BTreeMap::from([(Partition(0), partition)]),
        };
        let mut expected = Expected::new(Epoch(0), &[(Partition(0), OffsetRange::new(10, 20))]);
        for offset in (10..20).filter(|offset| *offset != 14) {
            let payload = if offset == 13 { BAD } else { GOOD };
            let verdict = oracle::decode(&stream(), &record(offset, payload.as_bytes()), Epoch(0));
            expected.enter(Partition(0), offset, &verdict.into(), &mut Vec::new());
        }
        (plan, expected)
    }

    fn stored(offset: Offset) -> Stored {
        Stored::Row(row(&stream(), offset, GOOD))
    }

    fn compare(side: Side, rows: impl IntoIterator<Item = Stored>) -> Tally {
        let (plan, expected) = window();
        let mut comparison = Comparison::new(side, &plan, Arc::new(expected));
        rows.into_iter().for_each(|row| comparison.observe(row));
        comparison.finish()
    }

    const LAKE: [Offset; 6] = [10, 11, 12, 15, 16, 17];

    #[test]
    fn a_sink_that_holds_every_good_row_once_holds() {
        let tally = compare(Side::Lake, LAKE.map(stored));
        assert!(tally.holds(), "{tally:?}");
        assert_eq!(tally.rows, 6);
    }

    #[test]
    fn the_order_of_rows_does_not_matter() {
        let mut rows = LAKE.map(stored);
        rows.reverse();
        assert!(compare(Side::Lake, rows).holds());
    }

    #[test]
    fn a_row_that_is_not_there_is_missing() {
        let tally = compare(Side::Lake, LAKE.into_iter().filter(|offset| *offset != 12).map(stored));
        assert_eq!((tally.missing.count, tally.missing.examples), (1, vec![RecordId(12)]));
    }

    #[test]
    fn a_row_that_is_there_twice_is_a_duplicate() {
        let tally = compare(Side::Lake, LAKE.into_iter().chain([12]).map(stored));
        assert_eq!(
            (tally.duplicate.count, tally.duplicate.examples),
            (1, vec![RecordId(12)])
        );
        assert_eq!((tally.missing.count, tally.unequal.count), (0, 0));
    }

    #[test]
    fn rows_of_dead_letters_and_of_no_record_are_foreign() {
        let tally = compare(Side::Lake, LAKE.into_iter().chain([13, 14]).map(stored));
        assert_eq!(tally.foreign.count, 2);
        assert_eq!(tally.foreign.examples[0].1, "its record is a dead letter");
        assert_eq!(tally.foreign.examples[1].1, "Kafka has no record there");
    }

    #[test]
    fn a_row_with_another_value_is_unequal() {
        let changed = row(&stream(), 12, &GOOD.replace("1.5", "1.51"));
        let rows = LAKE.into_iter().filter(|offset| *offset != 12).map(stored);
        let tally = compare(Side::Lake, rows.chain([Stored::Row(changed.clone())]));
        assert_eq!(
            (tally.unequal.count, tally.unequal.examples),
            (1, vec![Stored::Row(changed)])
        );
        assert_eq!(tally.missing.count, 0);
    }

    #[test]
    fn a_row_of_an_impossible_shape_is_unequal() {
        let odd = Stored::Odd(RecordId(12), Odd::new("amount", "a string"));
        let rows = LAKE.into_iter().filter(|offset| *offset != 12).map(stored);
        assert_eq!(compare(Side::Lake, rows.chain([odd])).unequal.count, 1);
    }

    #[test]
    fn documents_beyond_progress_need_not_be_there_but_must_be_equal() {
        let committed = [10, 11, 12, 15].map(stored);
        let tally = compare(Side::Mongo, committed.clone());
        assert!(tally.holds(), "{tally:?}");

        let tally = compare(Side::Mongo, committed.clone().into_iter().chain([stored(17)]));
        assert!(tally.holds());
        assert_eq!(tally.unfinished, 1);

        let changed = Stored::Row(row(&stream(), 17, &GOOD.replace("Corse", "Bretagne")));
        assert_eq!(
            compare(Side::Mongo, committed.into_iter().chain([changed]))
                .unequal
                .count,
            1
        );
    }

    #[test]
    fn counts_go_on_where_examples_end() {
        let mut tally = Tally::default();
        for id in 0..50 {
            tally.missing.add(|| RecordId(id));
        }
        let mut other = Tally::default();
        other.missing.add(|| RecordId(99));
        tally.merge(other);
        assert_eq!((tally.missing.count, tally.missing.examples.len()), (51, MAX_EXAMPLES));
    }
}
