//! Storing documents: unordered inserts at majority, several commands in flight, replays recognised.
//!
//! Owns: the insert commands, and the judgement of a duplicate `_id`: ours where the stored bytes are equal, left by
//! a former schema where `evolution` knows it, else somebody else's.
//! Does not own: what to do about a different document (`mod`), or counting afterwards (`transaction`).
//!
//! The commands are built as bytes with the documents inside: one buffer per command. The driver's `insert_many`
//! allocates and copies every document twice and keeps a map of their ids.

use arrow::array::RecordBatch;
use bson::{RawDocument, RawDocumentBuf};
use futures::{StreamExt, TryStreamExt, stream};

use super::deployment::Deployment;
use super::document::{Encoder, Rows};
use super::element::{self, kind};
use super::error::{MAJORITY_TIMEOUT, WriteError, write_concern_error};
use super::evolution;
use crate::error::SinkError;
use crate::schema::StreamSchema;

/// A command is cut when it has grown to this. The server takes 16 MiB plus 16 KiB for a command and 16 MiB for
/// a document, so a document of any legal size fits a command of its own.
const MAX_COMMAND_BYTES: usize = 12 << 20;
/// Documents fetched at a time to compare with ours.
const COMPARE_BATCH: usize = 1000;

pub(super) struct Inserter<'a, D> {
    pub deployment: &'a D,
    pub collection: &'a str,
    pub encoder: &'a Encoder,
    pub batch_rows: usize,
    pub concurrency: usize,
    /// The present schema, and those that were in force before.
    pub schema: &'a StreamSchema,
    pub former: &'a [StreamSchema],
}

/// What an insert of rows came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Inserted {
    pub bytes: u64,
    /// Documents that were there already, byte for byte.
    pub replayed: u64,
    /// Ids under which a different document is stored.
    pub different: Vec<i64>,
    /// Ids under which the same record is stored as a former schema would have it.
    pub superseded: Vec<i64>,
}

/// Batch and row of a document.
type At = (usize, usize);

impl<D: Deployment> Inserter<'_, D> {
    /// Stores the rows. On return every row is stored at majority, except the `different` and the `superseded` ones.
    pub async fn insert(&self, batches: &[&RecordBatch]) -> Result<Inserted, SinkError> {
        let rows: Vec<Rows<'_>> = batches.iter().map(|batch| self.encoder.rows(batch)).collect();
        let replies: Vec<(u64, Vec<At>)> = stream::iter(Commands::new(self.collection, &rows, self.batch_rows))
            .map(|command| self.send(command))
            .buffer_unordered(self.concurrency.max(1))
            .try_collect()
            .await?;
        let bytes = replies.iter().map(|(bytes, _)| bytes).sum();
        let duplicates: Vec<At> = replies.into_iter().flat_map(|(_, duplicates)| duplicates).collect();
        let mut inserted = self.compare(&rows, &duplicates).await?;
        inserted.bytes = bytes;
        inserted.replayed = (duplicates.len() - inserted.different.len() - inserted.superseded.len()) as u64;
        Ok(inserted)
    }

    /// Sends one command; answers its size and the rows whose `_id` was taken.
    async fn send(&self, command: Command) -> Result<(u64, Vec<At>), SinkError> {
        let attempted = || format!("insert {} documents into {}", command.rows.len(), self.collection);
        let bytes = command.bytes.len() as u64;
        let raw = RawDocumentBuf::from_bytes(command.bytes).map_err(SinkError::infrastructure)?;
        let reply = self.deployment.run(raw).await;
        let reply = reply.map_err(|e| e.classify(attempted()))?;
        let mut duplicates = Vec::new();
        for error in WriteError::all(&reply) {
            match command.rows.get(error.index) {
                Some(&at) if error.is_duplicate_id() => duplicates.push(at),
                _ => return Err(error.classify(attempted())),
            }
        }
        // Also with duplicates: the majority has then acknowledged the stored documents, whoever wrote them.
        match write_concern_error(&reply) {
            Some(error) => Err(SinkError::Infrastructure(anyhow::anyhow!(
                "a majority of mongodb's members has not acknowledged the insert into {}: {error}",
                self.collection
            ))),
            None => Ok((bytes, duplicates)),
        }
    }

    /// Ids of those rows whose stored document is not ours, read from the primary at majority: what only one
    /// member has could still be rolled back.
    async fn compare(&self, rows: &[Rows<'_>], duplicates: &[At]) -> Result<Inserted, SinkError> {
        let mut found = Inserted::default();
        for some in duplicates.chunks(COMPARE_BATCH) {
            let mut ours: std::collections::HashMap<i64, At> = some
                .iter()
                .map(|&(batch, row)| (rows[batch].ids()[row], (batch, row)))
                .collect();
            let mut bytes = Vec::new();
            for stored in self.fetch(ours.keys().copied().collect()).await? {
                let Some((batch, row)) = stored.get_i64("_id").ok().and_then(|id| ours.remove(&id)) else {
                    continue;
                };
                bytes.clear();
                rows[batch].append(row, &mut bytes);
                if stored.as_bytes() != bytes {
                    let id = rows[batch].ids()[row];
                    let ours = RawDocument::from_bytes(&bytes).expect("a document that we have framed");
                    let of_former = |former| evolution::is_of(former, self.schema, &stored, Some(ours));
                    match self.former.iter().any(of_former) {
                        true => found.superseded.push(id),
                        false => found.different.push(id),
                    }
                }
            }
            // Refused as a duplicate, yet not there: no majority has it yet, or it was deleted in between.
            if let Some(id) = ours.keys().next() {
                return Err(SinkError::Infrastructure(anyhow::anyhow!(
                    "{} documents of {} were refused as duplicates but no majority of mongodb's members has them, \
                     _id {id} among them",
                    ours.len(),
                    self.collection
                )));
            }
        }
        found.different.sort_unstable();
        found.superseded.sort_unstable();
        Ok(found)
    }

    async fn fetch(&self, ids: Vec<i64>) -> Result<Vec<RawDocumentBuf>, SinkError> {
        let found = self.deployment.fetch(self.collection, ids).await;
        found.map_err(|e| e.classify(format!("read documents of {} to compare them", self.collection)))
    }
}

/// An insert command, and the row behind each of its documents.
struct Command {
    bytes: Vec<u8>,
    rows: Vec<At>,
}

/// Builds insert commands on demand: only those in flight take memory.
struct Commands<'a> {
    collection: &'a str,
    rows: &'a [Rows<'a>],
    max_rows: usize,
    next: At,
    /// Size of the last command, as a guess for the next buffer.
    capacity: usize,
}

impl<'a> Commands<'a> {
    fn new(collection: &'a str, rows: &'a [Rows<'a>], max_rows: usize) -> Self {
        Self {
            collection,
            rows,
            max_rows: max_rows.max(1),
            next: (0, 0),
            capacity: 0,
        }
    }

    /// The next row, stepping over batches that are done.
    fn peek(&mut self) -> Option<At> {
        loop {
            let (batch, row) = self.next;
            if row < self.rows.get(batch)?.ids().len() {
                return Some((batch, row));
            }
            self.next = (batch + 1, 0);
        }
    }
}

impl Iterator for Commands<'_> {
    type Item = Command;

    fn next(&mut self) -> Option<Command> {
        self.peek()?;
        let mut bytes = Vec::with_capacity(self.capacity + 4096);
        let command = element::open(&mut bytes);
        element::name(&mut bytes, kind::STRING, "insert");
        element::text(&mut bytes, self.collection);
        element::name(&mut bytes, kind::BOOLEAN, "ordered");
        bytes.push(0);
        element::name(&mut bytes, kind::DOCUMENT, "writeConcern");
        let concern = element::open(&mut bytes);
        element::name(&mut bytes, kind::STRING, "w");
        element::text(&mut bytes, "majority");
        element::name(&mut bytes, kind::INT64, "wtimeout");
        bytes.extend_from_slice(&(MAJORITY_TIMEOUT.as_millis() as i64).to_le_bytes());
        element::close(&mut bytes, concern);

        element::name(&mut bytes, kind::ARRAY, "documents");
        let documents = element::open(&mut bytes);
        let mut rows = Vec::with_capacity(self.max_rows.min(10_000));
        while let Some((batch, row)) = self.peek() {
            let before = bytes.len();
            element::index(&mut bytes, kind::DOCUMENT, rows.len());
            self.rows[batch].append(row, &mut bytes);
            if bytes.len() > MAX_COMMAND_BYTES && !rows.is_empty() {
                bytes.truncate(before);
                break;
            }
            self.next = (batch, row + 1);
            rows.push((batch, row));
            if rows.len() == self.max_rows {
                break;
            }
        }
        element::close(&mut bytes, documents);
        element::close(&mut bytes, command);
        self.capacity = bytes.len();
        Some(Command { bytes, rows })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
    use bson::Document;

    use super::*;
    use crate::schema::{Field, FieldType, StreamSchema};

    fn commands(texts: &[&[&str]], max_rows: usize) -> Vec<(Document, Vec<At>, usize)> {
        let field = |name: &str, ty| Field {
            name: name.into(),
            ty,
            required: true,
            unit: None,
        };
        let fields = vec![field("at", FieldType::Timestamp), field("text", FieldType::String)];
        let schema = StreamSchema::new(fields, 0, vec![], chrono_tz::Tz::UTC);
        let batch = |texts: &&[&str]| {
            let instants =
                || -> ArrayRef { Arc::new(TimestampMicrosecondArray::from(vec![0; texts.len()]).with_timezone("UTC")) };
            let text: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
            let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..texts.len() as i64));
            RecordBatch::try_new(schema.arrow().clone(), vec![instants(), text, ids, instants()]).expect("columns")
        };
        let batches: Vec<RecordBatch> = texts.iter().map(batch).collect();
        let encoder = Encoder::new(&schema);
        let rows: Vec<_> = batches.iter().map(|b| encoder.rows(b)).collect();
        Commands::new("c", &rows, max_rows)
            .map(|command| {
                let size = command.bytes.len();
                let raw = RawDocumentBuf::from_bytes(command.bytes).expect("framed");
                (raw.as_ref().try_into().expect("well formed"), command.rows, size)
            })
            .collect()
    }

    #[test]
    fn commands_run_over_batches_and_hold_at_most_the_rows_asked_for() {
        let commands = commands(&[&["a", "b"], &[], &["c"]], 2);
        let rows: Vec<_> = commands.iter().map(|(_, rows, _)| rows.clone()).collect();
        assert_eq!(rows, [vec![(0, 0), (0, 1)], vec![(2, 0)]]);
        let (command, ..) = &commands[0];
        assert_eq!(command.get_str("insert").expect("there"), "c");
        assert!(!command.get_bool("ordered").expect("there"));
        assert_eq!(
            command
                .get_document("writeConcern")
                .expect("there")
                .get_str("w")
                .expect("there"),
            "majority"
        );
        let documents = command.get_array("documents").expect("there");
        assert_eq!(
            documents[1]
                .as_document()
                .expect("a document")
                .get_str("text")
                .expect("there"),
            "b"
        );
    }

    #[test]
    fn a_command_is_cut_by_bytes_and_a_large_document_goes_alone() {
        let large = "x".repeat(MAX_COMMAND_BYTES + 1000);
        let half = "y".repeat(MAX_COMMAND_BYTES / 2);
        let commands = commands(&[&["a", &large, &half, &half]], 1000);
        let rows: Vec<_> = commands.iter().map(|(_, rows, _)| rows.len()).collect();
        assert_eq!(rows, [1, 1, 1, 1]);
        assert!(commands.iter().all(|(.., size)| *size < (16 << 20)));
    }

    #[test]
    fn no_rows_make_no_command() {
        assert!(commands(&[], 10).is_empty());
        assert!(commands(&[&[], &[]], 10).is_empty());
    }
}
