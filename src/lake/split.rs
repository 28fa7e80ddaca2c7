//! Splits batches by partition values, and takes the partition columns out: a Delta table keeps them in
//! the path and the log, not in the file.
//!
//! Owns: the numbering of partitions between two commits; [`Splitter::clear`] forgets it, so that nothing
//! grows with the number of days seen. Each partition column is one level of a trie: (partition so far,
//! value) → partition, with values turned into small numbers first, so a row costs two look-ups per column
//! and no allocation.
//! Does not own: paths (`layout`), files (`parquet`).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Date32Array, RecordBatch, StringArray};
use arrow::compute::interleave;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::temporal_conversions::date32_to_datetime;
use rustc_hash::FxHashMap;

use super::layout::PartitionValues;
use crate::schema::{PartitionColumn, StreamSchema};

/// Number of a partition, valid until [`Splitter::clear`].
pub type PartitionIndex = usize;

pub struct Splitter {
    levels: Vec<Level>,
    /// Columns that go into files, by index into the stream's Arrow schema.
    data_columns: Vec<usize>,
    data_schema: SchemaRef,
}

impl Splitter {
    pub fn new(schema: &StreamSchema) -> Self {
        let levels: Vec<Level> = schema
            .partition_by
            .iter()
            .map(|column| match column {
                PartitionColumn::EventDate => Level::new(
                    schema
                        .date_index()
                        .expect("a stream partitioned by date has the column"),
                ),
                PartitionColumn::Field(index) => Level::new(*index),
            })
            .collect();
        let data_columns: Vec<usize> = (0..schema.arrow().fields().len())
            .filter(|index| levels.iter().all(|level| level.column != *index))
            .collect();
        let fields: Vec<_> = data_columns
            .iter()
            .map(|index| Arc::clone(&schema.arrow().fields()[*index]))
            .collect();
        Self {
            levels,
            data_columns,
            data_schema: Arc::new(Schema::new(fields)),
        }
    }

    /// The schema of the files: the stream's without the partition columns.
    pub fn data_schema(&self) -> &SchemaRef {
        &self.data_schema
    }

    pub fn values(&self, partition: PartitionIndex) -> PartitionValues {
        self.levels
            .last()
            .map_or_else(Vec::new, |level| level.paths[partition].clone())
    }

    /// Forgets all partitions and their numbers.
    pub fn clear(&mut self) {
        for level in &mut self.levels {
            *level = Level::new(level.column);
        }
    }

    /// The rows of each partition in the order they came.
    pub fn split(&mut self, batches: &[RecordBatch]) -> Result<Vec<(PartitionIndex, RecordBatch)>, ArrowError> {
        let mut groups: FxHashMap<PartitionIndex, Vec<(usize, usize)>> = FxHashMap::default();
        let mut order = Vec::new();
        for (number, batch) in batches.iter().enumerate() {
            for (row, partition) in self.partitions_of(batch)?.into_iter().enumerate() {
                let rows = groups.entry(partition as PartitionIndex).or_insert_with(|| {
                    order.push(partition as PartitionIndex);
                    Vec::new()
                });
                rows.push((number, row));
            }
        }
        if let [only] = order[..] {
            // Nothing to pick apart: the columns are shared, not copied.
            let whole = batches.iter().filter(|b| b.num_rows() > 0);
            return whole.map(|b| Ok((only, b.project(&self.data_columns)?))).collect();
        }
        order
            .into_iter()
            .map(|partition| Ok((partition, self.pick(batches, &groups[&partition])?)))
            .collect()
    }

    fn partitions_of(&mut self, batch: &RecordBatch) -> Result<Vec<u32>, ArrowError> {
        let mut partitions = vec![0; batch.num_rows()];
        let mut parents: &[PartitionValues] = &[Vec::new()];
        for level in &mut self.levels {
            level.descend(batch.column(level.column), parents, &mut partitions)?;
            parents = &level.paths;
        }
        Ok(partitions)
    }

    fn pick(&self, batches: &[RecordBatch], rows: &[(usize, usize)]) -> Result<RecordBatch, ArrowError> {
        let columns: Result<Vec<ArrayRef>, ArrowError> = self
            .data_columns
            .iter()
            .map(|index| {
                let parts: Vec<&dyn Array> = batches.iter().map(|b| b.column(*index).as_ref()).collect();
                interleave(&parts, rows)
            })
            .collect();
        RecordBatch::try_new(Arc::clone(&self.data_schema), columns?)
    }
}

/// One partition column.
struct Level {
    /// Index into the stream's Arrow schema.
    column: usize,
    days: FxHashMap<i32, u32>,
    texts: FxHashMap<Box<str>, u32>,
    /// Value by number; 0 is null.
    values: Vec<Option<String>>,
    children: FxHashMap<(u32, u32), u32>,
    /// The values from the first column down to this one, by partition number of this level.
    paths: Vec<PartitionValues>,
}

/// The number of null, and of the empty string, which a path cannot tell from it.
const NULL: u32 = 0;

impl Level {
    fn new(column: usize) -> Self {
        Self {
            column,
            days: FxHashMap::default(),
            texts: FxHashMap::default(),
            values: vec![None],
            children: FxHashMap::default(),
            paths: Vec::new(),
        }
    }

    /// Replaces each row's partition so far by the one one column deeper.
    fn descend(
        &mut self,
        array: &ArrayRef,
        parents: &[PartitionValues],
        partitions: &mut [u32],
    ) -> Result<(), ArrowError> {
        // Neighbours mostly share the day, often all of it.
        let mut last: Option<((u32, u32), u32)> = None;
        let mut step = |level: &mut Self, partition: &mut u32, value: u32| {
            let key = (*partition, value);
            *partition = match last {
                Some((known, child)) if known == key => child,
                _ => level.child(key, parents),
            };
            last = Some((key, *partition));
        };
        if let Some(days) = array.as_any().downcast_ref::<Date32Array>() {
            for (partition, day) in partitions.iter_mut().zip(days) {
                let value = day.map_or(NULL, |day| self.day(day));
                step(self, partition, value);
            }
        } else if let Some(texts) = array.as_any().downcast_ref::<StringArray>() {
            for (partition, text) in partitions.iter_mut().zip(texts) {
                let value = text.filter(|t| !t.is_empty()).map_or(NULL, |text| self.text(text));
                step(self, partition, value);
            }
        } else {
            let name = array.data_type();
            return Err(ArrowError::SchemaError(format!(
                "a partition column cannot be of type {name}"
            )));
        }
        Ok(())
    }

    fn day(&mut self, day: i32) -> u32 {
        if let Some(value) = self.days.get(&day) {
            return *value;
        }
        let text = date32_to_datetime(day).map(|d| d.format("%Y-%m-%d").to_string());
        let value = self.number(text);
        self.days.insert(day, value);
        value
    }

    fn text(&mut self, text: &str) -> u32 {
        if let Some(value) = self.texts.get(text) {
            return *value;
        }
        let value = self.number(Some(text.to_owned()));
        self.texts.insert(text.into(), value);
        value
    }

    fn number(&mut self, value: Option<String>) -> u32 {
        self.values.push(value);
        (self.values.len() - 1) as u32
    }

    fn child(&mut self, key: (u32, u32), parents: &[PartitionValues]) -> u32 {
        if let Some(child) = self.children.get(&key) {
            return *child;
        }
        let mut path = parents[key.0 as usize].clone();
        path.push(self.values[key.1 as usize].clone());
        self.paths.push(path);
        let child = (self.paths.len() - 1) as u32;
        self.children.insert(key, child);
        child
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::schema::{Field, FieldType};
    use arrow::array::{Int64Array, TimestampMicrosecondArray};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// at timestamp!, region string, amount decimal-free: enough to tell rows apart.
    pub(crate) fn schema() -> StreamSchema {
        let field = |name: &str, ty, required| Field {
            name: name.into(),
            ty,
            required,
            unit: None,
        };
        StreamSchema::new(
            vec![
                field("at", FieldType::Timestamp, true),
                field("region", FieldType::String, false),
                field("note", FieldType::String, false),
            ],
            0,
            vec![PartitionColumn::EventDate, PartitionColumn::Field(1)],
            chrono_tz::UTC,
        )
    }

    /// Rows of (day, region, id).
    pub(crate) fn batch(schema: &StreamSchema, rows: &[(i32, Option<&str>, i64)]) -> RecordBatch {
        let micros = rows.iter().map(|r| i64::from(r.0) * 86_400_000_000 + r.2);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC")),
            Arc::new(rows.iter().map(|r| r.1).collect::<StringArray>()),
            Arc::new(
                rows.iter()
                    .map(|r| (r.2 % 3 != 0).then(|| format!("note {}", r.2)))
                    .collect::<StringArray>(),
            ),
            Arc::new(Date32Array::from_iter_values(rows.iter().map(|r| r.0))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.2))),
            Arc::new(TimestampMicrosecondArray::new_null(rows.len()).with_timezone("UTC")),
        ];
        RecordBatch::try_new(Arc::clone(schema.arrow()), columns).expect("fits the schema")
    }

    fn ids(batch: &RecordBatch) -> Vec<i64> {
        let column = batch.column_by_name("_id").expect("_id");
        column
            .as_any()
            .downcast_ref::<Int64Array>()
            .expect("long")
            .values()
            .to_vec()
    }

    #[test]
    fn rows_go_to_their_partition_in_order_without_the_partition_columns() {
        let schema = schema();
        let mut splitter = Splitter::new(&schema);
        let first = batch(
            &schema,
            &[(0, Some("a"), 1), (1, Some("a"), 2), (0, Some("a"), 3), (0, None, 4)],
        );
        let second = batch(&schema, &[(0, Some("a"), 5), (0, Some(""), 6)]);
        let split = splitter.split(&[first, second]).expect("splits");
        let found: Vec<_> = split.iter().map(|(p, rows)| (splitter.values(*p), ids(rows))).collect();
        let day = |d: &str, region: Option<&str>| vec![Some(format!("1970-01-{d}")), region.map(Into::into)];
        assert_eq!(
            found,
            [
                (day("01", Some("a")), vec![1, 3, 5]),
                (day("02", Some("a")), vec![2]),
                (day("01", None), vec![4, 6]),
            ]
        );
        let names: Vec<_> = splitter
            .data_schema()
            .fields()
            .iter()
            .map(|f| f.name().clone())
            .collect();
        assert_eq!(names, ["at", "note", "_id", "_timestamp"]);
    }

    #[test]
    fn a_partition_keeps_its_number_until_cleared() {
        let schema = schema();
        let mut splitter = Splitter::new(&schema);
        let one = batch(&schema, &[(0, Some("a"), 1), (0, Some("b"), 2)]);
        let two = batch(&schema, &[(0, Some("b"), 3)]);
        let first = splitter.split(std::slice::from_ref(&one)).expect("splits");
        let second = splitter.split(std::slice::from_ref(&two)).expect("splits");
        assert_eq!(first[1].0, second[0].0);
        splitter.clear();
        assert_eq!(splitter.split(&[two]).expect("splits")[0].0, 0);
    }

    #[test]
    fn nothing_comes_of_nothing() {
        let schema = schema();
        let empty = batch(&schema, &[]);
        assert!(Splitter::new(&schema).split(&[empty]).expect("splits").is_empty());
    }

    proptest! {
        #[test]
        fn every_row_lands_once_and_under_its_own_values(
            rows in prop::collection::vec((0i32..4, prop::option::of("[ab]{0,2}")), 0..60),
            cut in 0usize..60,
        ) {
            let schema = schema();
            let rows: Vec<_> = rows.iter().enumerate().map(|(n, (d, r))| (*d, r.as_deref(), n as i64)).collect();
            let (left, right) = rows.split_at(cut.min(rows.len()));
            let mut splitter = Splitter::new(&schema);
            let split = splitter.split(&[batch(&schema, left), batch(&schema, right)]).expect("splits");
            let mut found = BTreeMap::new();
            for (partition, part) in &split {
                for id in ids(part) {
                    prop_assert!(found.insert(id, splitter.values(*partition)).is_none());
                }
            }
            let wanted: BTreeMap<_, _> = rows
                .iter()
                .map(|(d, r, id)| {
                    let region = r.filter(|r| !r.is_empty()).map(str::to_owned);
                    (*id, vec![Some(format!("1970-01-{:02}", d + 1)), region])
                })
                .collect();
            prop_assert_eq!(found, wanted);
        }
    }
}
