//! The Kafka log of a run: a few partitions, each offset good or dead, all fixed by the seed.
//!
//! Owns: what the records are, and the Arrow rows they decode to. Every good record has a value of its own, a power
//! of two, so that a rollup's sum says which records were counted, and how often.
//! Does not own: reading (`owner`).

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};

use super::dice::Dice;
use crate::batch::{Batch, Session};
use crate::offsets::{Epoch, Offset, OffsetRange, Partition, RecordId};
use crate::schema::{Field, FieldType, PartitionColumn, StreamSchema};

/// Few enough for all values of three partitions to fit an int64.
const MAX_RECORDS: usize = 12;
const SITES: [&str; 2] = ["lyon", "nantes"];

#[derive(Clone, Debug)]
pub(super) struct Log {
    /// Per partition and offset: is the record good?
    partitions: Vec<Vec<bool>>,
    /// Partitions that exist by now.
    visible: usize,
}

impl Log {
    pub fn new(dice: &mut Dice) -> Self {
        let dead_percent = dice.one_of(&[0, 20, 60]);
        let partition = |dice: &mut Dice| {
            let records = 3 + dice.below(MAX_RECORDS - 2);
            (0..records).map(|_| !dice.percent(dead_percent)).collect()
        };
        let partitions: Vec<Vec<bool>> = (0..1 + dice.below(3)).map(|_| partition(dice)).collect();
        let visible = if dice.percent(70) {
            partitions.len()
        } else {
            1 + dice.below(partitions.len())
        };
        Self { partitions, visible }
    }

    /// All partitions that exist by now.
    pub fn partitions(&self) -> Vec<Partition> {
        (0..self.visible as i32).map(Partition).collect()
    }

    /// False when there are no more to add.
    pub fn add_partition(&mut self) -> bool {
        let more = self.visible < self.partitions.len();
        self.visible += usize::from(more);
        more
    }

    pub fn end(&self, partition: Partition) -> Offset {
        self.records(partition).len() as Offset
    }

    pub fn good(&self, partition: Partition, range: OffsetRange) -> impl Iterator<Item = Offset> {
        self.of_kind(partition, range, true)
    }

    pub fn dead(&self, partition: Partition, range: OffsetRange) -> impl Iterator<Item = Offset> {
        self.of_kind(partition, range, false)
    }

    fn of_kind(&self, partition: Partition, range: OffsetRange, good: bool) -> impl Iterator<Item = Offset> {
        let records = self.records(partition);
        (range.start..range.end).filter(move |&offset| records.get(offset as usize) == Some(&good))
    }

    fn records(&self, partition: Partition) -> &[bool] {
        &self.partitions[partition.0 as usize]
    }

    pub fn batch(&self, session: Session, covered: BTreeMap<Partition, OffsetRange>) -> Batch {
        let good = covered
            .iter()
            .flat_map(|(&partition, &range)| self.good(partition, range).map(move |offset| (partition, offset)));
        let rows = rows(&good.collect::<Vec<_>>());
        Batch {
            session,
            rows,
            covered,
            permit: None,
        }
    }
}

pub(super) fn id(partition: Partition, offset: Offset) -> i64 {
    RecordId::new(Epoch(0), partition, offset).expect("small numbers").0
}

/// The record's own power of two.
pub(super) fn value(partition: Partition, offset: Offset) -> i64 {
    1 << (i64::from(partition.0) * MAX_RECORDS as i64 + offset)
}

pub(super) fn schema() -> StreamSchema {
    let field = |name: &str, ty| Field {
        name: name.into(),
        ty,
        required: true,
        unit: None,
    };
    let fields = vec![
        field("at", FieldType::Timestamp),
        field("site", FieldType::String),
        field("value", FieldType::Long),
    ];
    StreamSchema::new(fields, 0, vec![PartitionColumn::Field(1)], chrono_tz::Tz::UTC)
}

fn rows(records: &[(Partition, Offset)]) -> RecordBatch {
    // Two minutes and two sites, shared by all partitions: owners meet on the same rollup documents.
    let instants = || -> ArrayRef {
        let minutes = records.iter().map(|(_, offset)| offset % 2 * 60_000_000);
        Arc::new(TimestampMicrosecondArray::from_iter_values(minutes).with_timezone("UTC"))
    };
    let sites = records.iter().map(|(_, offset)| SITES[(offset / 2 % 2) as usize]);
    let columns: Vec<ArrayRef> = vec![
        instants(),
        Arc::new(StringArray::from_iter_values(sites)),
        Arc::new(Int64Array::from_iter_values(records.iter().map(|&(p, o)| value(p, o)))),
        Arc::new(Int64Array::from_iter_values(records.iter().map(|&(p, o)| id(p, o)))),
        instants(),
    ];
    RecordBatch::try_new(schema().arrow().clone(), columns).expect("columns match the schema")
}
