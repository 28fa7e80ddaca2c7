//! Rows of one partition on their way to one Parquet file.
//!
//! Owns: the writer's settings, and when Arrow becomes Parquet. A backfill has thousands of partitions open
//! at once, and an open `ArrowWriter` costs hundreds of kilobytes before its first row; so rows wait as
//! Arrow until [`ENCODE_BYTES`] of them are there, and most partitions are encoded only when they close.
//! Does not own: which partition a row belongs to (`split`), when a file closes (`open`).

use std::hash::BuildHasher as _;
use std::io;
use std::mem;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray as _, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, Schema, SchemaRef};
use bytes::Bytes;
use object_store::PutPayload;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use rustc_hash::{FxBuildHasher, FxHashSet};

use super::stats::file_stats;
use crate::schema::ID_COLUMN;

/// Arrow bytes of one partition that are encoded together: enough rows for the encoders to work at full
/// speed, little enough to be still in the processor's cache; of a backfill's thousands each has less.
pub const ENCODE_BYTES: usize = 1 << 20;

/// Rows per row group: the unit in which readers skip and parallelize, and in which we hold pages.
const ROW_GROUP_ROWS: usize = 512 << 10;
/// …and encoded bytes: wide rows must not make the encoders hold gigabytes.
const ROW_GROUP_BYTES: usize = 64 << 20;
/// Slices of fewer rows are put together: each of their columns has buffers of its own, which outweigh a few rows,
/// and costs the encoders a set-up.
const WHOLE_SLICE_ROWS: usize = 512;
/// …when this many of them wait, at the latest.
const MAX_SMALL_SLICES: usize = 16;
/// Values looked at to see whether a dictionary is worth while.
const SAMPLE: usize = 1024;

/// A file in the making.
pub struct PartitionWriter {
    encoder: FileEncoder,
    waiting: Vec<RecordBatch>,
    waiting_bytes: usize,
    /// Of those waiting, how many have few rows.
    small_slices: usize,
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
            encoder: FileEncoder::new(schema, properties),
            waiting: Vec::new(),
            waiting_bytes: 0,
            small_slices: 0,
            rows: 0,
        }
    }

    /// Takes rows of the file's schema; encodes when enough have come together.
    pub fn push(&mut self, rows: RecordBatch) -> Result<(), ParquetError> {
        self.rows += rows.num_rows() as u64;
        self.waiting_bytes += rows.get_array_memory_size();
        self.small_slices += usize::from(rows.num_rows() < WHOLE_SLICE_ROWS);
        self.waiting.push(rows);
        if self.waiting_bytes >= ENCODE_BYTES {
            self.encode()?;
        } else if self.small_slices > MAX_SMALL_SLICES {
            self.put_together()?;
        }
        Ok(())
    }

    fn put_together(&mut self) -> Result<(), ParquetError> {
        if self.small_slices > 0 && self.waiting.len() > 1 {
            let whole = concat_batches(&self.encoder.schema, &self.waiting)?;
            self.waiting_bytes = whole.get_array_memory_size();
            self.waiting = vec![whole];
        }
        self.small_slices = 0;
        Ok(())
    }

    /// Memory held: waiting rows, encoders, encoded bytes.
    pub fn held_bytes(&self) -> u64 {
        let writer = self.encoder.writer.as_ref();
        let writer = writer.map_or(0, |w| w.memory_size() + w.bytes_written());
        (self.waiting_bytes + writer) as u64
    }

    /// Size of the file if it were closed now, without the rows that still wait as Arrow.
    pub fn encoded_bytes(&self) -> u64 {
        let writer = self.encoder.writer.as_ref();
        writer.map_or(0, |w| w.bytes_written() + w.in_progress_size()) as u64
    }

    /// Encodes what waits and finishes the file. Heavy on the processor: never on an async thread.
    pub fn close(mut self) -> Result<EncodedFile, ParquetError> {
        self.encode()?;
        let (blocks, stats) = self.encoder.finish()?;
        Ok(EncodedFile::new(blocks.into_iter().collect(), self.rows, stats))
    }

    fn encode(&mut self) -> Result<(), ParquetError> {
        self.put_together()?;
        self.waiting_bytes = 0;
        for rows in mem::take(&mut self.waiting) {
            self.encoder.push(&rows)?;
        }
        Ok(())
    }
}

/// A file that is handed on while it is encoded: for one that does not fit the memory.
pub struct FileEncoder {
    schema: SchemaRef,
    properties: Arc<WriterProperties>,
    /// From the first rows on.
    writer: Option<ArrowWriter<Blocks>>,
}

impl FileEncoder {
    pub fn new(schema: &SchemaRef, properties: &Arc<WriterProperties>) -> Self {
        Self {
            schema: Arc::clone(schema),
            properties: Arc::clone(properties),
            writer: None,
        }
    }

    pub fn push(&mut self, rows: &RecordBatch) -> Result<(), ParquetError> {
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => start(&self.schema, &self.properties, rows)?,
        };
        self.writer.insert(writer).write(rows)
    }

    /// What has been encoded since the last call.
    pub fn take(&mut self) -> Vec<Bytes> {
        let writer = self.writer.as_mut();
        writer.map_or_else(Vec::new, |writer| mem::take(writer.inner_mut()).into_bytes())
    }

    /// The rest of the file, and `add.stats`.
    pub fn finish(mut self) -> Result<(Vec<Bytes>, String), ParquetError> {
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => start(
                &self.schema,
                &self.properties,
                &RecordBatch::new_empty(Arc::clone(&self.schema)),
            )?,
        };
        let metadata = writer.finish()?;
        let stats = file_stats(&self.schema, &metadata);
        // `into_inner` would finish a second time, which is an error.
        Ok((mem::take(writer.inner_mut()).into_bytes(), stats))
    }
}

fn start(
    schema: &SchemaRef,
    properties: &WriterProperties,
    first: &RecordBatch,
) -> Result<ArrowWriter<Blocks>, ParquetError> {
    let options = ArrowWriterOptions::new()
        .with_properties(suited(properties, first))
        // The Parquet types say it all; a kilobyte of Arrow schema would outweigh a small file's rows.
        .with_skip_arrow_metadata(true);
    ArrowWriter::try_new_with_options(Blocks::default(), Arc::clone(schema), options)
}

/// Encoded bytes as they come. One growing vector would hold up to twice what it has, three times while it moves.
#[derive(Debug, Default)]
struct Blocks(Vec<Vec<u8>>);

impl Blocks {
    /// Most files are small, so blocks begin small.
    const SMALLEST: usize = 8 << 10;
    const LARGEST: usize = 1 << 20;

    fn into_bytes(self) -> Vec<Bytes> {
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

/// Settings of every data file of `schema`.
pub fn properties(schema: &Schema) -> Arc<WriterProperties> {
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("affluent ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).expect("1 is a level of zstd")))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES));
    for field in schema.fields() {
        // Ids ascend, times nearly so, and few come twice: a dictionary would be built to be thrown away, differences
        // take a byte or two.
        if field.name() == ID_COLUMN || matches!(field.data_type(), DataType::Timestamp(..)) {
            let column = ColumnPath::from(field.name().as_str());
            properties = properties
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
        }
    }
    Arc::new(properties.build())
}

/// `properties` without dictionaries for columns that seem to hold a different value in each row: the writer would
/// give one up only after a megabyte, and most files of a partitioned table are shorter than that.
fn suited(properties: &WriterProperties, rows: &RecordBatch) -> WriterProperties {
    let mut suited = properties.clone().into_builder();
    for (field, values) in rows.schema().fields().iter().zip(rows.columns()) {
        if hardly_repeats(values) {
            suited = suited.set_column_dictionary_enabled(ColumnPath::from(field.name().as_str()), false);
        }
    }
    suited.build()
}

/// Whether 99 in 100 of some values differ: then the whole file has tens of thousands of them, too many for a dictionary
/// to pay. Values that do repeat are found out after a few.
fn hardly_repeats(values: &ArrayRef) -> bool {
    if values.len() < SAMPLE {
        return false;
    }
    let step = values.len() / SAMPLE;
    let mut seen = FxHashSet::with_capacity_and_hasher(SAMPLE, FxBuildHasher);
    let mut repeated = 0;
    let mut is_new = |value: u64| {
        repeated += usize::from(!seen.insert(value));
        repeated <= SAMPLE / 100
    };
    let mut sample = (0..SAMPLE).map(|nth| nth * step);
    match values.data_type() {
        DataType::Utf8 => {
            let texts = values.as_string::<i32>();
            sample.all(|row| is_new(FxBuildHasher.hash_one(texts.value(row))))
        }
        DataType::Int64 => {
            let numbers = values.as_primitive::<Int64Type>();
            sample.all(|row| is_new(numbers.value(row) as u64))
        }
        DataType::Float64 => {
            let numbers = values.as_primitive::<Float64Type>();
            sample.all(|row| is_new(numbers.value(row).to_bits()))
        }
        DataType::Decimal128(..) => {
            let numbers = values.as_primitive::<Decimal128Type>();
            sample.all(|row| is_new(FxBuildHasher.hash_one(numbers.value(row))))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::split::Splitter;
    use crate::lake::split::tests::{batch, schema};
    use arrow::array::{Decimal128Array, Float64Array, Int64Array, StringArray};
    use arrow::datatypes::Field;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use proptest::prelude::*;

    fn write(rows: &[RecordBatch], schema: &SchemaRef) -> EncodedFile {
        let mut writer = PartitionWriter::new(schema, &properties(schema));
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
        let mut writer = PartitionWriter::new(splitter.data_schema(), &properties(splitter.data_schema()));
        writer.push(rows).expect("pushes");
        assert!(writer.encoder.writer.is_none());
        assert_eq!(writer.encoded_bytes(), 0);
        assert!(writer.held_bytes() > 0);
    }

    #[test]
    fn a_large_partition_is_encoded_as_it_grows() {
        let stream = schema();
        let mut splitter = Splitter::new(&stream);
        let rows: Vec<_> = (0..20_000).map(|n| (0, Some("a"), n)).collect();
        let rows = splitter.split(&[batch(&stream, &rows)]).expect("splits").remove(0).1;
        let mut writer = PartitionWriter::new(splitter.data_schema(), &properties(splitter.data_schema()));
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

    #[test]
    fn only_columns_whose_values_come_again_have_a_dictionary() {
        let rows = 4 * SAMPLE as i64;
        let text = |name: &str, of: fn(i64) -> String| {
            let values: StringArray = (0..rows).map(|row| Some(of(row))).collect();
            (Field::new(name, DataType::Utf8, false), Arc::new(values) as ArrayRef)
        };
        let number = |name: &str, of: fn(i64) -> i64| {
            let values: Int64Array = (0..rows).map(of).collect();
            (Field::new(name, DataType::Int64, false), Arc::new(values) as ArrayRef)
        };
        let (fields, columns): (Vec<_>, Vec<_>) = [
            text("order", |row| format!("order {row}")),
            text("product", |row| format!("product {}", row % 500)),
            text("receipt", |row| format!("{}", row - 4 * i64::from(row % 30 == 4))),
            number("barcode", |row| row * 7919),
            number("quantity", |row| row % 7),
        ]
        .into_iter()
        .unzip();
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).expect("batch");
        let file = write(std::slice::from_ref(&batch), &schema);
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file.payload.clone())).expect("opens");
        let with_dictionary: Vec<_> = (reader.metadata().row_group(0).columns().iter())
            .filter(|column| column.dictionary_page_offset().is_some())
            .map(|column| column.column_path().string())
            .collect();
        assert_eq!(with_dictionary, ["product", "receipt", "quantity"]);
        assert_eq!(read(&file, &schema), batch);
    }

    #[test]
    fn slices_long_and_short_keep_their_order() {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new(ID_COLUMN, DataType::Int64, false)]));
        let all = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new((0..60_000).collect::<Int64Array>())]);
        let all = all.expect("batch");
        let mut slices = Vec::new();
        let mut start = 0;
        for size in [600, 3, 511, 512, 1, 7000].into_iter().cycle() {
            let size = size.min(all.num_rows() - start);
            slices.push(all.slice(start, size));
            start += size;
            if start == all.num_rows() {
                break;
            }
        }
        assert_eq!(read(&write(&slices, &schema), &schema), all);
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
