//! The newest records of a stream.
//!
//! Owns: which documents those are. Only what progress covers: a document beyond it is not counted by any rollup yet.
//! Does not own: asking (`documents`), what an answer looks like (`table`).

use std::cmp::Reverse;

use bson::Document;

use super::answer::conditions;
use super::documents::Documents;
use super::error::ApiError;
use super::question::Records;
use super::standing::Standing;
use super::table::{Cell, Column, Table, type_name};
use crate::config::StreamConfig;

/// Of each partition: a filter that nothing passes must not read a collection from end to end.
const REACH: i64 = 200_000;

pub(super) async fn newest(
    documents: &Documents,
    stream: &StreamConfig,
    question: &Records,
) -> Result<Table, ApiError> {
    let standing = Standing::read(documents, stream).await?;
    let (ranges, is_cut) = standing.newest(REACH);
    let conditions = conditions(&question.filters);
    // One more than wanted tells whether there are more.
    let most = question.limit + 1;
    let mut found = documents.newest(&stream.name, &ranges, &conditions, most).await?;
    let fields = &stream.schema.fields;
    let time = &fields[stream.schema.event_time].name;
    found.sort_by_key(|document| {
        let time = document
            .get_datetime(time)
            .map_or(i64::MIN, |time| time.timestamp_millis());
        Reverse((time, document.get_i64("_id").unwrap_or_default()))
    });
    let named = fields.iter().map(|field| Column::new(&field.name, type_name(field.ty)));
    let row = |document: &Document| {
        // A number of JavaScript would round it.
        let id = Cell::Text(document.get_i64("_id").unwrap_or_default().to_string());
        let values = fields
            .iter()
            .map(|field| Cell::new(document.get(&field.name), field.ty));
        std::iter::once(id).chain(values).collect()
    };
    let mut table = Table {
        stream: stream.name.clone(),
        source: stream.name.clone(),
        columns: std::iter::once(Column::new("_id", "string")).chain(named).collect(),
        rows: found.iter().map(row).collect(),
        complete: !is_cut,
    };
    table.cut(None, question.limit);
    Ok(table)
}
