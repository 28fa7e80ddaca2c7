//! Rows of one partition on their way to one Parquet file.
//!
//! Owns: the writer's settings, and when Arrow becomes Parquet. A backfill has thousands of partitions open
//! at once, and an open `ArrowWriter` costs hundreds of kilobytes before its first row; so rows wait as
//! Arrow until [`ENCODE_BYTES`] of them are there, and most partitions are encoded only when they close.
//! Does not own: which partition a row belongs to (`split`), when a file closes (`open`).

use std::io;
use std::mem;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use object_store::PutPayload;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::stats::file_stats;
use crate::schema::ID_COLUMN;

/// Arrow bytes of one partition that are encoded together: enough rows for the encoders to work at full
/// speed, little enough that dozens of partitions fit the memory; of a backfill's thousands each has less.
pub const ENCODE_BYTES: usize = 4 << 20;

/// Rows per row group: the unit in which readers skip and parallelize, and in which we hold pages.
const ROW_GROUP_ROWS: usize = 512 << 10;
/// …and encoded bytes: wide rows must not make the encoders hold gigabytes.
const ROW_GROUP_BYTES: usize = 64 << 20;
/// Slices of one partition that wait side by side. More are put together: each column of a slice has buffers of
/// its own, which outweigh a few rows.
const MAX_SLICES: usize = 16;

/// A file in the making.
pub struct PartitionWriter {
    schema: SchemaRef,
    properties: Arc<WriterProperties>,
    waiting: Vec<RecordBatch>,
    waiting_bytes: usize,
    writer: Option<ArrowWriter<Blocks>>,
    rows: u64,
}

/// A finished file that has no place yet.
#[derive(Clone, Debug)]
pub struct EncodedFile {
    pub payload: PutPayload,
    size: u64,
    pub rows: u64,
    /// `add.stats`.
    pub stats: String,
}

impl EncodedFile {
    pub fn new(payload: PutPayload, rows: u64, stats: String) -> Self {
        let size = payload.content_length() as u64;
        Self {
            payload,
            size,
            rows,
            stats,
        }
    }

    /// Bytes of the file, also after they have been let go.
    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn let_go(&mut self) {
        self.payload = PutPayload::new();
    }
}

impl PartitionWriter {
    pub fn new(schema: &SchemaRef, properties: &Arc<WriterProperties>) -> Self {
        Self {
            schema: Arc::clone(schema),
            properties: Arc::clone(properties),
            waiting: Vec::new(),
            waiting_bytes: 0,
            writer: None,
            rows: 0,
        }
    }

    /// Takes rows of the file's schema; encodes when enough have come together.
    pub fn push(&mut self, rows: RecordBatch) -> Result<(), ParquetError> {
        self.rows += rows.num_rows() as u64;
        self.waiting_bytes += rows.get_array_memory_size();
        self.waiting.push(rows);
        if self.waiting_bytes >= ENCODE_BYTES {
            self.encode()?;
        } else if self.waiting.len() > MAX_SLICES {
            let whole = concat_batches(&self.schema, &self.waiting)?;
            self.waiting_bytes = whole.get_array_memory_size();
            self.waiting = vec![whole];
        }
        Ok(())
    }

    /// Memory held: waiting rows, encoders, encoded bytes.
    pub fn held_bytes(&self) -> u64 {
        let writer = self.writer.as_ref().map_or(0, |w| w.memory_size() + w.bytes_written());
        (self.waiting_bytes + writer) as u64
    }

    /// Size of the file if it were closed now, without the rows that still wait as Arrow.
    pub fn encoded_bytes(&self) -> u64 {
        self.writer
            .as_ref()
            .map_or(0, |w| w.bytes_written() + w.in_progress_size()) as u64
    }

    /// Encodes what waits and finishes the file. Heavy on the processor: never on an async thread.
    pub fn close(mut self) -> Result<EncodedFile, ParquetError> {
        self.encode()?;
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => self.start()?,
        };
        let metadata = writer.finish()?;
        let stats = file_stats(&self.schema, &metadata);
        // `into_inner` would finish a second time, which is an error.
        let payload = mem::take(writer.inner_mut()).into_payload();
        Ok(EncodedFile::new(payload, self.rows, stats))
    }

    fn encode(&mut self) -> Result<(), ParquetError> {
        let waiting = mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let rows = match waiting.as_slice() {
            [] => return Ok(()),
            [only] => only.clone(),
            // Slices of a few rows each would pay the encoders' set-up many times.
            many => concat_batches(&self.schema, many)?,
        };
        if self.writer.is_none() {
            self.writer = Some(self.start()?);
        }
        match self.writer.as_mut() {
            Some(writer) => writer.write(&rows),
            None => Ok(()),
        }
    }

    fn start(&self) -> Result<ArrowWriter<Blocks>, ParquetError> {
        let options = ArrowWriterOptions::new()
            .with_properties(self.properties.as_ref().clone())
            // The Parquet types say it all; a kilobyte of Arrow schema would outweigh a small file's rows.
            .with_skip_arrow_metadata(true);
        ArrowWriter::try_new_with_options(Blocks::default(), Arc::clone(&self.schema), options)
    }
}

/// Encoded bytes as they come. One growing vector would hold up to twice what it has, three times while it moves.
#[derive(Debug, Default)]
struct Blocks(Vec<Vec<u8>>);

impl Blocks {
    /// Most files are small, so blocks begin small.
    const SMALLEST: usize = 8 << 10;
    const LARGEST: usize = 1 << 20;

    fn into_payload(self) -> PutPayload {
        self.0.into_iter().map(Bytes::from).collect()
    }
}

impl io::Write for Blocks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = |block: &Vec<u8>| block.capacity() - block.len();
        if self.0.last().is_none_or(|block| room(block) == 0) {
            let last = self.0.last().map_or(0, Vec::capacity);
            let size = (2 * last).clamp(Self::SMALLEST, Self::LARGEST);
            self.0.push(Vec::with_capacity(size));
        }
        let block = self.0.last_mut().expect("pushed where there was none");
        let taken = bytes.len().min(room(block));
        block.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Settings of every data file.
pub fn properties() -> Arc<WriterProperties> {
    let id = ColumnPath::from(ID_COLUMN);
    let properties = WriterProperties::builder()
        .set_created_by(concat!("affluent ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).expect("1 is a level of zstd")))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        // Ids are all different and ascend: a dictionary would be built only to be thrown away, differences
        // take a byte or two.
        .set_column_dictionary_enabled(id.clone(), false)
        .set_column_encoding(id, Encoding::DELTA_BINARY_PACKED)
        .build();
    Arc::new(properties)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::split::Splitter;
    use crate::lake::split::tests::{batch, schema};
    use arrow::array::{ArrayRef, Decimal128Array, Float64Array, Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use proptest::prelude::*;

    fn write(rows: &[RecordBatch], schema: &SchemaRef) -> EncodedFile {
        let mut writer = PartitionWriter::new(schema, &properties());
        for batch in rows {
            writer.push(batch.clone()).expect("pushes");
        }
        writer.close().expect("closes")
    }

    fn read(file: &EncodedFile, schema: &SchemaRef) -> RecordBatch {
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file.payload.clone()))
            .expect("opens")
            .build();
        let batches: Vec<_> = reader.expect("builds").map(|b| b.expect("reads")).collect();
        let columns = concat_batches(&batches[0].schema(), &batches).expect("same schema");
        RecordBatch::try_new(Arc::clone(schema), columns.columns().to_vec()).expect("same columns")
    }

    #[test]
    fn statistics_are_those_of_the_rows() {
        let columns: Vec<(Field, ArrayRef)> = vec![
            (
                Field::new("amount", DataType::Decimal128(18, 2), true),
                Arc::new(
                    Decimal128Array::from(vec![Some(-5), None, Some(123_456_789_012_345_678)])
                        .with_precision_and_scale(18, 2)
                        .expect("fits"),
                ),
            ),
            (
                Field::new("wide", DataType::Decimal128(38, 3), true),
                Arc::new(
                    Decimal128Array::from(vec![Some(-1), Some(10i128.pow(37)), None])
                        .with_precision_and_scale(38, 3)
                        .expect("fits"),
                ),
            ),
            (
                Field::new("name", DataType::Utf8, true),
                Arc::new(StringArray::from(vec![None, Some("b"), Some("é")])),
            ),
            (
                Field::new("x", DataType::Float64, true),
                Arc::new(Float64Array::from(vec![0.5, -2.0, 1e300])),
            ),
            (
                Field::new("none", DataType::Utf8, true),
                Arc::new(StringArray::new_null(3)),
            ),
            (
                Field::new("_id", DataType::Int64, false),
                Arc::new(Int64Array::from(vec![i64::MAX, 1, 2])),
            ),
        ];
        let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let file = write(
            &[RecordBatch::try_new(Arc::clone(&schema), arrays).expect("batch")],
            &schema,
        );
        assert_eq!(
            file.stats,
            concat!(
                r#"{"numRecords":3,"minValues":{"amount":-0.05,"wide":-0.001,"name":"b","x":-2.0,"_id":1},"#,
                r#""maxValues":{"amount":1234567890123456.78,"wide":10000000000000000000000000000000000.000,"#,
                r#""name":"é","x":1e+300,"_id":9223372036854775807},"#,
                r#""nullCount":{"amount":1,"wide":1,"name":1,"x":0,"none":3,"_id":0}}"#
            )
        );
    }

    #[test]
    fn a_partition_below_the_threshold_opens_no_writer() {
        let stream = schema();
        let mut splitter = Splitter::new(&stream);
        let rows = splitter
            .split(&[batch(&stream, &[(0, Some("a"), 1)])])
            .expect("splits")
            .remove(0)
            .1;
        let mut writer = PartitionWriter::new(splitter.data_schema(), &properties());
        writer.push(rows).expect("pushes");
        assert!(writer.writer.is_none());
        assert_eq!(writer.encoded_bytes(), 0);
        assert!(writer.held_bytes() > 0);
    }

    #[test]
    fn a_large_partition_is_encoded_as_it_grows() {
        let stream = schema();
        let mut splitter = Splitter::new(&stream);
        let rows: Vec<_> = (0..20_000).map(|n| (0, Some("a"), n)).collect();
        let rows = splitter.split(&[batch(&stream, &rows)]).expect("splits").remove(0).1;
        let mut writer = PartitionWriter::new(splitter.data_schema(), &properties());
        let mut pushed = 0;
        while writer.encoded_bytes() == 0 {
            writer.push(rows.clone()).expect("pushes");
            pushed += 1;
        }
        assert!(writer.waiting.is_empty());
        let file = writer.close().expect("closes");
        assert_eq!(file.rows, pushed * 20_000);
        assert_eq!(read(&file, splitter.data_schema()).num_rows() as u64, file.rows);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_is_split_and_written_is_read_back_equal(
            rows in prop::collection::vec((0i32..3, prop::option::of("[ab]")), 1..50)
        ) {
            let stream = schema();
            let rows: Vec<_> = rows.iter().enumerate().map(|(n, (d, r))| (*d, r.as_deref(), n as i64)).collect();
            let mut splitter = Splitter::new(&stream);
            for (_, part) in splitter.split(&[batch(&stream, &rows)]).expect("splits") {
                let file = write(&[part.slice(0, part.num_rows() / 2), part.slice(part.num_rows() / 2, part.num_rows() - part.num_rows() / 2)], splitter.data_schema());
                prop_assert_eq!(file.rows, part.num_rows() as u64);
                prop_assert_eq!(read(&file, splitter.data_schema()), part);
            }
        }
    }
}
