//! Rows between the batches they came in and the files they go to.
//!
//! Owns: how long rows wait unsplit, and when a file is closed: at its target size, the largest ones when memory is
//! short, all of them at a commit.
//! Does not own: the split itself (`split`), encoding (`parquet`), what becomes of a closed file (`upload`).
//!
//! ```text
//!  push ─▶ staged: whole batches ─ enough of them? ─ split ─▶ a writer per partition ─▶ closed
//! ```
//! A batch of a backfill has a row or two for each of thousands of partitions, and the smallest slice of Arrow costs
//! kilobytes. So batches wait until a partition's share of them is worth a slice.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use anyhow::Context as _;
use arrow::array::RecordBatch;
use parquet::file::properties::WriterProperties;

use super::layout::{PartitionValues, file_name, file_path, partition_path};
use super::parquet::{EncodedFile, PartitionWriter, properties};
use super::split::{PartitionIndex, Splitter};
use crate::schema::StreamSchema;

/// Rows of a slice that make its overhead (some 200 bytes per column, and a set-up of every encoder) small beside them.
const ROWS_PER_SLICE: usize = 512;
/// The part of the memory that unsplit batches may take before they are split whatever the slices come to.
const STAGE_SHARE: u64 = 8;

/// One stream's files in the making.
pub struct OpenFiles {
    splitter: Splitter,
    properties: Arc<WriterProperties>,
    partition_columns: Vec<String>,
    target_file_bytes: u64,
    staged: Vec<RecordBatch>,
    staged_rows: usize,
    staged_bytes: u64,
    open: BTreeMap<PartitionIndex, PartitionWriter>,
    open_bytes: u64,
}

/// Encoded, not yet in the store.
#[derive(Clone, Debug)]
pub struct ClosedFile {
    /// Below the table's root.
    pub path: String,
    pub values: PartitionValues,
    pub file: EncodedFile,
}

impl ClosedFile {
    /// What is left to know once the bytes are in the store.
    pub fn without_bytes(mut self) -> Self {
        self.file.let_go();
        self
    }
}

impl OpenFiles {
    pub fn new(schema: &StreamSchema, partition_columns: Vec<String>, target_file_bytes: u64) -> Self {
        let splitter = Splitter::new(schema);
        Self {
            properties: properties(splitter.data_schema()),
            splitter,
            partition_columns,
            target_file_bytes,
            staged: Vec::new(),
            staged_rows: 0,
            staged_bytes: 0,
            open: BTreeMap::new(),
            open_bytes: 0,
        }
    }

    /// Takes rows in; answers the files that were closed for it. `limit`: bytes of memory for everything staged and
    /// open. Heavy on the processor.
    pub fn push(&mut self, rows: RecordBatch, limit: u64) -> anyhow::Result<Vec<ClosedFile>> {
        self.staged_rows += rows.num_rows();
        self.staged_bytes += rows.get_array_memory_size() as u64;
        self.staged.push(rows);
        let mut closed = Vec::new();
        if self.is_worth_splitting(limit) {
            self.split_staged(&mut closed)?;
        }
        if self.held_bytes() > limit {
            self.make_room(limit, &mut closed)?;
        }
        Ok(closed)
    }

    /// Splits what waits; answers the files that were closed for it. Before a commit closes one file after the other.
    pub fn settle(&mut self) -> anyhow::Result<Vec<ClosedFile>> {
        let mut closed = Vec::new();
        self.split_staged(&mut closed)?;
        Ok(closed)
    }

    /// Closes one file; `None` when no more is open. Heavy on the processor.
    pub fn close_next(&mut self) -> anyhow::Result<Option<ClosedFile>> {
        debug_assert!(self.staged.is_empty(), "settle first");
        let first = self.open.first_key_value().map(|(&partition, _)| partition);
        first.map(|partition| self.close(partition)).transpose()
    }

    pub fn is_empty(&self) -> bool {
        self.staged.is_empty() && self.open.is_empty()
    }

    /// Memory of everything staged and open.
    pub fn held_bytes(&self) -> u64 {
        self.staged_bytes + self.open_bytes
    }

    /// A file's size as a part of the target.
    pub fn fill(&self, bytes: u64) -> f64 {
        bytes as f64 / self.target_file_bytes as f64
    }

    /// Drops everything, and the partitions' numbers.
    pub fn clear(&mut self) {
        self.staged.clear();
        (self.staged_rows, self.staged_bytes) = (0, 0);
        self.open.clear();
        self.open_bytes = 0;
        self.splitter.clear();
    }

    fn is_worth_splitting(&self, limit: u64) -> bool {
        self.staged_rows >= ROWS_PER_SLICE * self.open.len() || self.staged_bytes >= limit / STAGE_SHARE
    }

    fn split_staged(&mut self, closed: &mut Vec<ClosedFile>) -> anyhow::Result<()> {
        let staged = mem::take(&mut self.staged);
        (self.staged_rows, self.staged_bytes) = (0, 0);
        let parts = self.splitter.split(&staged).context("cannot split rows by partition")?;
        drop(staged);
        for (partition, rows) in parts {
            let schema = self.splitter.data_schema();
            let writer = (self.open.entry(partition)).or_insert_with(|| PartitionWriter::new(schema, &self.properties));
            let before = writer.held_bytes();
            writer.push(rows).context("cannot encode Parquet")?;
            self.open_bytes = self.open_bytes + writer.held_bytes() - before;
            if writer.encoded_bytes() >= self.target_file_bytes {
                closed.push(self.close(partition)?);
            }
        }
        Ok(())
    }

    /// Closes the largest files until a quarter of the memory is free: that makes the fewest files.
    fn make_room(&mut self, limit: u64, closed: &mut Vec<ClosedFile>) -> anyhow::Result<()> {
        self.split_staged(closed)?;
        let sizes = self
            .open
            .iter()
            .map(|(partition, writer)| (writer.held_bytes(), *partition));
        let mut largest_last: Vec<(u64, PartitionIndex)> = sizes.collect();
        largest_last.sort_unstable();
        while self.open_bytes > limit / 4 * 3
            && let Some((_, partition)) = largest_last.pop()
        {
            closed.push(self.close(partition)?);
        }
        Ok(())
    }

    fn close(&mut self, partition: PartitionIndex) -> anyhow::Result<ClosedFile> {
        let writer = self.open.remove(&partition).expect("only open files are closed");
        self.open_bytes -= writer.held_bytes();
        let values = self.splitter.values(partition);
        let file = writer.close().context("cannot encode Parquet")?;
        let path = file_path(&partition_path(&self.partition_columns, &values), &file_name());
        Ok(ClosedFile { path, values, file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::split::tests::{batch, schema};

    fn files(target_file_bytes: u64) -> (StreamSchema, OpenFiles) {
        let schema = schema();
        let files = OpenFiles::new(&schema, vec!["date".into(), "region".into()], target_file_bytes);
        (schema, files)
    }

    const ROOMY: u64 = 1 << 30;

    fn rest(files: &mut OpenFiles) -> Vec<ClosedFile> {
        let mut closed = files.settle().expect("splits");
        while let Some(file) = files.close_next().expect("closes") {
            closed.push(file);
        }
        closed
    }

    fn rows(closed: &[ClosedFile]) -> u64 {
        closed.iter().map(|file| file.file.rows).sum()
    }

    #[test]
    fn batches_wait_until_a_partitions_share_is_worth_a_slice() {
        let (schema, mut files) = files(ROOMY);
        let days = |from: i64| -> Vec<_> { (0..10).map(|n| (n as i32, Some("a"), from + n)).collect() };
        files.push(batch(&schema, &days(0)), ROOMY).expect("pushes");
        assert_eq!((files.open.len(), files.staged.len()), (10, 0), "nothing was open yet");
        let enough = ROWS_PER_SLICE as i64;
        for n in 1..enough {
            files.push(batch(&schema, &days(n * 10)), ROOMY).expect("pushes");
            assert_eq!(files.staged_rows, n as usize * 10);
        }
        files.push(batch(&schema, &days(enough * 10)), ROOMY).expect("pushes");
        assert_eq!(files.staged_rows, 0);
        let closed = rest(&mut files);
        let all = 10 * (enough as u64 + 1);
        assert_eq!((closed.len(), rows(&closed), files.held_bytes()), (10, all, 0));
    }

    #[test]
    fn late_rows_have_a_file_of_their_own_and_close_none() {
        let (schema, mut files) = files(ROOMY);
        let today = |from: i64| -> Vec<_> { (from..from + 600).map(|n| (100, Some("a"), n)).collect() };
        let mut closed = Vec::new();
        for n in 0..20 {
            let from = n * 1000;
            closed.extend(files.push(batch(&schema, &today(from)), ROOMY).expect("pushes"));
            // One row of an older day after each batch, and never twice of the same one in a row.
            let late = (90 + (n % 2) as i32, Some("a"), from + 999);
            closed.extend(files.push(batch(&schema, &[late]), ROOMY).expect("pushes"));
        }
        assert!(closed.is_empty(), "no partition makes way for another");
        let closed = rest(&mut files);
        let found: BTreeMap<_, _> = closed.iter().map(|f| (f.values[0].clone(), f.file.rows)).collect();
        let day = |day: &str| Some(format!("1970-04-{day}"));
        assert_eq!(
            found,
            BTreeMap::from([(day("01"), 10), (day("02"), 10), (day("11"), 12_000)])
        );
        assert_eq!(closed.len(), 3, "one file each");
    }

    #[test]
    fn short_of_memory_the_largest_files_are_closed_and_the_small_ones_stay_open() {
        let limit = 2 << 20;
        let (schema, mut files) = files(ROOMY);
        let mut closed = Vec::new();
        let mut pushed = 0;
        while closed.is_empty() {
            // One row in a hundred is of a small partition.
            let some: Vec<_> = (0..1000)
                .map(|n| (i32::from(n % 100 == 0), Some("a"), pushed + n))
                .collect();
            pushed += 1000;
            closed = files.push(batch(&schema, &some), limit).expect("pushes");
            assert!(files.held_bytes() <= limit);
        }
        let large = vec![Some("1970-01-01".to_owned()), Some("a".to_owned())];
        assert_eq!(closed.iter().map(|f| f.values.clone()).collect::<Vec<_>>(), [large]);
        assert_eq!(files.open.len(), 1);
        let rest = rest(&mut files);
        assert_eq!(rows(&closed) + rows(&rest), pushed as u64);
    }

    #[test]
    fn a_thousand_open_partitions_stay_within_the_memory() {
        let limit = 2 << 20;
        let (schema, mut files) = files(ROOMY);
        let (mut stored, mut pushed) = (0, 0);
        for _ in 0..50 {
            let some: Vec<_> = (0..2000).map(|n| ((n % 1000) as i32, Some("a"), pushed + n)).collect();
            pushed += 2000;
            stored += rows(&files.push(batch(&schema, &some), limit).expect("pushes"));
            assert!(files.held_bytes() <= limit);
        }
        assert!(stored > 0, "the memory was short");
        assert_eq!(stored + rows(&rest(&mut files)), pushed as u64);
    }

    #[test]
    fn a_file_is_closed_at_its_target_size() {
        let target = 64 << 10;
        let (schema, mut files) = files(target);
        let mut pushed = 0;
        let closed = loop {
            let some: Vec<_> = (0..10_000).map(|n| (0, Some("a"), pushed + n)).collect();
            pushed += 10_000;
            let closed = files.push(batch(&schema, &some), ROOMY).expect("pushes");
            if !closed.is_empty() {
                break closed;
            }
        };
        assert_eq!((closed.len(), rows(&closed)), (1, pushed as u64));
        assert!(closed[0].file.size() >= target);
        assert!(files.close_next().expect("closes").is_none());
    }
}
