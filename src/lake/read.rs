//! A Parquet file in an object store, as the Parquet reader wants to see it: ranges of bytes.
//!
//! Owns: the fetching, and the one reading of a timestamp that does not depend on who wrote the file.
//! Does not own: which columns and rows are wanted (`maintenance`, `verify`).

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

#[derive(Clone, Debug)]
pub struct StoredObject {
    pub store: Arc<dyn ObjectStore>,
    pub path: Path,
    pub bytes: u64,
}

impl StoredObject {
    /// The file's rows, to be narrowed down. Timestamps come in microseconds also where Spark wrote the file: its INT96
    /// would be read as nanoseconds, which end in 2262, and what is later would come out as another time.
    pub async fn open(mut self) -> Result<ParquetRecordBatchStreamBuilder<Self>> {
        let found = ArrowReaderMetadata::load_async(&mut self, ArrowReaderOptions::new()).await?;
        let Some(schema) = in_microseconds(found.schema()) else {
            return Ok(ParquetRecordBatchStreamBuilder::new_with_metadata(self, found));
        };
        let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
        let read = ArrowReaderMetadata::try_new(Arc::clone(found.metadata()), options)?;
        Ok(ParquetRecordBatchStreamBuilder::new_with_metadata(self, read))
    }
}

/// The same schema with INT96's columns in microseconds; `None` where it has none.
fn in_microseconds(schema: &Schema) -> Option<Schema> {
    let int96 = DataType::Timestamp(TimeUnit::Nanosecond, None);
    let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    schema
        .fields()
        .iter()
        .any(|field| *field.data_type() == int96)
        .then(|| {
            let fields = schema.fields().iter().map(|field| {
                let ty = if *field.data_type() == int96 {
                    &micros
                } else {
                    field.data_type()
                };
                Field::clone(field).with_data_type(ty.clone())
            });
            Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone())
        })
}

impl AsyncFileReader for StoredObject {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        self.store.get_range(&self.path, range).map_err(external).boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        async move { self.store.get_ranges(&self.path, &ranges).await.map_err(external) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        async move {
            let bytes = self.bytes;
            let reader = ParquetMetaDataReader::new().with_arrow_reader_options(options);
            Ok(Arc::new(reader.load_and_finish(self, bytes).await?))
        }
        .boxed()
    }
}

fn external(error: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray as _;
    use arrow::datatypes::TimestampMicrosecondType;
    use futures::TryStreamExt as _;
    use object_store::memory::InMemory;
    use parquet::data_type::{Int96, Int96Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    /// Day 0 of INT96 lies so many days before 1970-01-01.
    const JULIAN_DAY_OF_EPOCH: u32 = 2_440_588;
    const DAY_MICROS: i64 = 86_400_000_000;

    /// As Spark writes it: nanoseconds of the day, and the day.
    fn int96(days_since_epoch: i32, micros_of_day: u64) -> Int96 {
        let nanos = micros_of_day * 1_000;
        let day = JULIAN_DAY_OF_EPOCH.wrapping_add_signed(days_since_epoch);
        Int96::from(vec![nanos as u32, (nanos >> 32) as u32, day])
    }

    fn file_of(instants: &[Int96]) -> Vec<u8> {
        let schema = parse_message_type("message row { required int96 at; }").expect("schema");
        let mut bytes = Vec::new();
        let properties = Arc::new(WriterProperties::builder().build());
        let mut file = SerializedFileWriter::new(&mut bytes, Arc::new(schema), properties).expect("file");
        let mut group = file.next_row_group().expect("group");
        let mut column = group.next_column().expect("column").expect("the one column");
        let values = column.typed::<Int96Type>();
        values.write_batch(instants, None, None).expect("values");
        column.close().expect("column");
        group.close().expect("group");
        file.close().expect("file");
        bytes
    }

    #[tokio::test]
    async fn sparks_timestamps_are_read_to_the_microsecond_beyond_what_nanoseconds_hold() {
        // 1600, just before 1970, and the last day of 9999.
        let instants = [(-135_140, 1), (-1, 86_399_999_999), (2_932_896, 86_399_999_999)];
        let bytes = file_of(&instants.map(|(days, micros)| int96(days, micros)));
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let object = StoredObject {
            store: Arc::clone(&store),
            path: Path::from("part.parquet"),
            bytes: bytes.len() as u64,
        };
        store.put(&object.path, bytes.into()).await.expect("put");
        let rows = object.open().await.expect("opens").build().expect("reads");
        let batches: Vec<_> = rows.try_collect().await.expect("rows");
        let read = batches[0].column(0).as_primitive::<TimestampMicrosecondType>();
        let expected = instants.map(|(days, micros)| i64::from(days) * DAY_MICROS + micros as i64);
        assert_eq!(read.values().as_ref(), expected);
    }
}
