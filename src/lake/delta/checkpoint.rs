//! Reads a classic checkpoint, and of it only the columns that are asked for.
//!
//! Owns: what `log` needs of it: protocol, metadata, our `txn` entries, and whether the table has files at all. A
//! checkpoint lists every file with its statistics; only the pages of five small column groups are fetched, so a start
//! does not slow down or grow with the table.
//! Does not own: which checkpoint is read (`load`), the list of files (`files`).

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use arrow::array::{Array, AsArray, RecordBatch, StructArray};
use arrow::datatypes::{Int32Type, Int64Type};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::DecodeResult;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::push_decoder::ParquetPushDecoderBuilder;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataPushDecoder};

use super::actions::{Metadata, Protocol};
use super::names::{AppIds, Entry};

/// The state a checkpoint holds, so far as it is ours.
#[derive(Debug, Default)]
pub(super) struct Checkpoint {
    pub protocol: Option<Protocol>,
    pub metadata: Option<Metadata>,
    pub entries: BTreeMap<Entry, i64>,
    pub has_rows: bool,
}

/// Reads all parts of one checkpoint.
pub(super) async fn read(
    objects: &Arc<dyn ObjectStore>,
    parts: &[Path],
    app_ids: &AppIds,
) -> anyhow::Result<Checkpoint> {
    let mut checkpoint = Checkpoint::default();
    for part in parts {
        read_part(objects, part, app_ids, &mut checkpoint)
            .await
            .with_context(|| format!("read checkpoint file {part}"))?;
    }
    Ok(checkpoint)
}

/// Do all parts have a footer that can be read?
pub(super) async fn check_parts(objects: &Arc<dyn ObjectStore>, parts: &[Path]) -> anyhow::Result<()> {
    for part in parts {
        let read = footer(objects, part).await;
        read.with_context(|| format!("read checkpoint file {part}"))?;
    }
    Ok(())
}

async fn read_part(
    objects: &Arc<dyn ObjectStore>,
    path: &Path,
    app_ids: &AppIds,
    checkpoint: &mut Checkpoint,
) -> anyhow::Result<()> {
    read_columns(objects, path, is_ours, |batch| checkpoint.take(batch, app_ids)).await
}

/// Shows `take` the wanted leaf columns of one file of a checkpoint, batch by batch.
pub(super) async fn read_columns(
    objects: &Arc<dyn ObjectStore>,
    path: &Path,
    wanted: impl Fn(&[String]) -> bool,
    mut take: impl FnMut(&RecordBatch) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let metadata = footer(objects, path).await?;
    let schema = metadata.file_metadata().schema_descr();
    let leaves = (0..schema.num_columns()).filter(|leaf| wanted(schema.column(*leaf).path().parts()));
    let mask = ProjectionMask::leaves(schema, leaves);
    // Types as Parquet has them, whatever Arrow types the writer happened to hold.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let mut decoder = ParquetPushDecoderBuilder::try_new_decoder_with_options(Arc::new(metadata), options)?
        .with_projection(mask)
        .build()?;
    loop {
        match decoder.try_decode()? {
            DecodeResult::NeedsData(ranges) => {
                let data = objects.get_ranges(path, &ranges).await?;
                decoder.push_ranges(ranges, data)?;
            }
            DecodeResult::Data(batch) => take(&batch)?,
            DecodeResult::Finished => return Ok(()),
        }
    }
}

async fn footer(objects: &Arc<dyn ObjectStore>, path: &Path) -> anyhow::Result<ParquetMetaData> {
    let size = objects.head(path).await?.size;
    let mut decoder = ParquetMetaDataPushDecoder::try_new(size)?;
    loop {
        match decoder.try_decode()? {
            DecodeResult::NeedsData(ranges) => {
                let data = objects.get_ranges(path, &ranges).await?;
                decoder.push_ranges(ranges, data)?;
            }
            DecodeResult::Data(metadata) => return Ok(metadata),
            DecodeResult::Finished => return Err(anyhow!("the file has no footer")),
        }
    }
}

fn is_ours(leaf: &[String]) -> bool {
    match leaf[0].as_str() {
        "protocol" | "metaData" => true,
        "txn" => leaf[1] == "appId" || leaf[1] == "version",
        "add" => leaf.len() == 2 && leaf[1] == "size",
        _ => false,
    }
}

impl Checkpoint {
    fn take(&mut self, batch: &RecordBatch, app_ids: &AppIds) -> anyhow::Result<()> {
        if let Some(add) = group(batch, "add") {
            self.has_rows |= add.null_count() < add.len();
        }
        if let Some(txn) = group(batch, "txn") {
            self.take_txns(txn, app_ids)?;
        }
        if let Some(group) = group(batch, "protocol")
            && let Some(row) = first_valid(group)
        {
            self.protocol = Some(protocol(group, row)?);
        }
        if let Some(group) = group(batch, "metaData")
            && let Some(row) = first_valid(group)
        {
            self.metadata = Some(metadata(group, row)?);
        }
        Ok(())
    }

    fn take_txns(&mut self, txn: &StructArray, app_ids: &AppIds) -> anyhow::Result<()> {
        for row in (0..txn.len()).filter(|row| txn.is_valid(*row)) {
            let app_id = text(txn, "appId", row).context("a txn without appId")?;
            if let Some(entry) = app_ids.parse(&app_id) {
                self.entries
                    .insert(entry, long(txn, "version", row).context("a txn without version")?);
            }
        }
        Ok(())
    }
}

pub(super) fn group<'a>(batch: &'a RecordBatch, name: &str) -> Option<&'a StructArray> {
    batch.column_by_name(name)?.as_struct_opt()
}

fn first_valid(group: &StructArray) -> Option<usize> {
    (0..group.len()).find(|row| group.is_valid(*row))
}

fn protocol(group: &StructArray, row: usize) -> anyhow::Result<Protocol> {
    Ok(Protocol {
        min_reader_version: int(group, "minReaderVersion", row).context("a protocol without minReaderVersion")?,
        min_writer_version: int(group, "minWriterVersion", row).context("a protocol without minWriterVersion")?,
        reader_features: texts(group, "readerFeatures", row),
        writer_features: texts(group, "writerFeatures", row),
    })
}

fn metadata(group: &StructArray, row: usize) -> anyhow::Result<Metadata> {
    Ok(Metadata {
        id: text(group, "id", row).context("metadata without id")?,
        name: text(group, "name", row),
        format: Default::default(),
        schema_string: text(group, "schemaString", row).context("metadata without schemaString")?,
        partition_columns: texts(group, "partitionColumns", row).unwrap_or_default(),
        configuration: pairs(group, "configuration", row),
        created_time: long(group, "createdTime", row),
    })
}

/// The member's array, where it is there and not null in this row.
pub(super) fn valid<'a>(group: &'a StructArray, name: &str, row: usize) -> Option<&'a dyn Array> {
    let column = group.column_by_name(name)?;
    column.is_valid(row).then_some(column.as_ref())
}

pub(super) fn text(group: &StructArray, name: &str, row: usize) -> Option<String> {
    let column = valid(group, name, row)?.as_string_opt::<i32>()?;
    Some(column.value(row).to_owned())
}

pub(super) fn int(group: &StructArray, name: &str, row: usize) -> Option<i32> {
    let column = valid(group, name, row)?.as_primitive_opt::<Int32Type>()?;
    Some(column.value(row))
}

pub(super) fn long(group: &StructArray, name: &str, row: usize) -> Option<i64> {
    let column = valid(group, name, row)?.as_primitive_opt::<Int64Type>()?;
    Some(column.value(row))
}

fn texts(group: &StructArray, name: &str, row: usize) -> Option<Vec<String>> {
    let values = valid(group, name, row)?.as_list_opt::<i32>()?.value(row);
    let values = values.as_string_opt::<i32>()?;
    Some(values.iter().flatten().map(str::to_owned).collect())
}

pub(super) fn pairs(group: &StructArray, name: &str, row: usize) -> BTreeMap<String, Option<String>> {
    let entries = valid(group, name, row).and_then(|column| Some(column.as_map_opt()?.value(row)));
    let Some(entries) = entries else {
        return BTreeMap::new();
    };
    let (Some(keys), Some(values)) = (
        entries.column(0).as_string_opt::<i32>(),
        entries.column(1).as_string_opt::<i32>(),
    ) else {
        return BTreeMap::new();
    };
    let pair = |(key, value): (Option<&str>, Option<&str>)| Some((key?.to_owned(), value.map(str::to_owned)));
    keys.iter().zip(values.iter()).filter_map(pair).collect()
}
