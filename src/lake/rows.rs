//! A table's rows as the pipeline's own batches: what the lake sink took, taken out again.
//!
//! Owns: one fixed version's files in a fixed order, a place in them from which reading goes on later, and the columns:
//! what a file does not carry is put back (partition columns), what it carries otherwise is brought into the declared form.
//! Does not own: which version, what is done with the rows (`rebuild`).

use std::sync::Arc;

use anyhow::Context;
use arrow::array::{ArrayRef, RecordBatch, StringArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{FieldRef, SchemaRef};
use futures::TryStreamExt as _;
use parquet::arrow::async_reader::ParquetRecordBatchStream;
use serde::{Deserialize, Serialize};

use super::delta::files::{self, ActiveFile, FileState, object_path};
use super::read::StoredObject;
use super::store::Store;
use crate::error::Invariant;

/// Rows read at a time.
const BATCH_ROWS: usize = 8 * 1024;

/// Where reading goes on: so many rows of the file with this number are done, and all files before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub file: i64,
    pub row: i64,
}

impl Place {
    /// So many rows later in the same file.
    pub fn after(self, rows: usize) -> Self {
        Self {
            file: self.file,
            row: self.row + rows as i64,
        }
    }
}

/// The files that hold a version's rows, in an order that does not depend on when one looks: by partition, so that rows
/// of one day, and so of the same rollup documents, come together.
pub async fn files_of(store: &Store, version: u64) -> anyhow::Result<Vec<ActiveFile>> {
    let mut active = Vec::new();
    let reading = files::visit(store, version, |state| {
        if let FileState::Active(file) = state {
            active.push(file);
        }
    });
    reading.await?;
    if let Some(file) = active.iter().find(|file| file.has_deletion_vector) {
        return Err(Invariant::new(
            format!(
                "rows of {} of the table at {} are marked as deleted elsewhere, which is not understood here",
                file.path,
                store.location()
            ),
            "let the engine that did it rewrite the file first (Spark: REORG TABLE … APPLY (PURGE))",
        )
        .into());
    }
    active.sort_by(|a, b| (&a.partition_values, &a.path).cmp(&(&b.partition_values, &b.path)));
    Ok(active)
}

/// Reads the files' rows in order.
pub struct Rows<'a> {
    store: &'a Store,
    files: &'a [ActiveFile],
    schema: SchemaRef,
    /// Of the next row.
    place: Place,
    open: Option<ParquetRecordBatchStream<StoredObject>>,
}

impl<'a> Rows<'a> {
    pub fn new(store: &'a Store, files: &'a [ActiveFile], schema: &SchemaRef, place: Place) -> Self {
        Self {
            store,
            files,
            schema: Arc::clone(schema),
            place,
            open: None,
        }
    }

    /// Some rows of one file, and the place of the first; `None` after the last.
    pub async fn next(&mut self) -> anyhow::Result<Option<(Place, RecordBatch)>> {
        while let Some(file) = self.files.get(usize::try_from(self.place.file)?) {
            let named = || format!("read {} of the table at {}", file.path, self.store.location());
            let mut open = match self.open.take() {
                Some(open) => open,
                None => self.open(file).await.with_context(named)?,
            };
            let Some(batch) = open.try_next().await.with_context(named)? else {
                self.place = Place {
                    file: self.place.file + 1,
                    row: 0,
                };
                continue;
            };
            self.open = Some(open);
            let place = self.place;
            self.place.row += batch.num_rows() as i64;
            return Ok(Some((
                place,
                with_partition(&batch, file, &self.schema).with_context(named)?,
            )));
        }
        Ok(None)
    }

    async fn open(&self, file: &ActiveFile) -> anyhow::Result<ParquetRecordBatchStream<StoredObject>> {
        let object = StoredObject {
            store: Arc::clone(self.store.objects()),
            path: object_path(&file.path)?,
            bytes: file.size,
        };
        let reader = object.open().await?;
        let done = usize::try_from(self.place.row)?;
        Ok(reader.with_batch_size(BATCH_ROWS).with_offset(done).build()?)
    }
}

fn with_partition(batch: &RecordBatch, file: &ActiveFile, schema: &SchemaRef) -> anyhow::Result<RecordBatch> {
    conform(batch, schema, |field| {
        let value = file.partition_values.get(field.name())?;
        // To Delta the empty string in a partition column is null.
        let value = value.as_deref().filter(|text| !text.is_empty());
        Some(Arc::new(StringArray::from(vec![value; batch.num_rows()])))
    })
}

/// A file's rows in these columns: one that the file does not have comes from `elsewhere` or is null in all of them, one
/// of a narrower type is widened.
pub fn conform(
    batch: &RecordBatch,
    schema: &SchemaRef,
    elsewhere: impl Fn(&FieldRef) -> Option<ArrayRef>,
) -> anyhow::Result<RecordBatch> {
    let column = |field: &FieldRef| -> anyhow::Result<ArrayRef> {
        let found = batch.column_by_name(field.name()).map(Arc::clone);
        match found.or_else(|| elsewhere(field)) {
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
            Some(column) if column.data_type() == field.data_type() => Ok(column),
            Some(column) => cast(&column, field.data_type()).with_context(|| format!("column {}", field.name())),
        }
    };
    let columns: anyhow::Result<Vec<ArrayRef>> = schema.fields().iter().map(column).collect();
    Ok(RecordBatch::try_new(Arc::clone(schema), columns?)?)
}
