//! The atomic step: one transaction that moves progress and adds to the rollups.
//!
//! Owns: the order inside the transaction, and what each way of failing says about it.
//! Does not own: what follows from an outcome — insert again, re-read, halve (`commit`).
//!
//! ```text
//!  compare-and-set of every partition's progress ─▶ count the documents ─▶ add to the rollups ─▶ commit
//!        │ not all match                                 │ not as many         │ error           │ no answer
//!        ▼                                               ▼                     ▼                 ▼
//!      Fenced                                        Miscounted        Retry / TooLong / …    Unknown
//! ```
//! The compare-and-set comes first so that a fenced owner stops before it touches anything else, and so that
//! two owners meet on the small documents and not on the rollups.

use std::time::{Duration, Instant};

use bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::error::{TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT};

use super::deployment::{Deployment, Transaction};
use super::error::{CallError, DUPLICATE_KEY, WriteError};
use super::progress::{PROGRESS_COLLECTION, ProgressDocument, stored_event_time};
use crate::error::SinkError;
use crate::event_time::Micros;
use crate::failpoint;
use crate::offsets::{Offset, Partition, RECORDS_PROGRESS, RecordId};

/// How often `commitTransaction` is sent again while its outcome stays unknown, before progress is re-read.
const COMMIT_TRIES: usize = 3;
/// A transaction the server no longer knows after this long has outlived its lifetime (default 60 s) rather than
/// a failover: a smaller one has a chance.
const LIFETIME_SUSPECTED: Duration = Duration::from_secs(10);

const NO_SUCH_TRANSACTION: i32 = 251;
const WRITE_CONFLICT: i32 = 112;
const MAX_TIME_EXPIRED: i32 = 50;
const TRANSACTION_TOO_LARGE: i32 = 257;
const EXCEEDED_LIFETIME: i32 = 290;
const TOO_LARGE_FOR_CACHE: i32 = 388;

/// One partition's step from `expected` to `next`.
#[derive(Clone, Debug)]
pub(super) struct Move {
    pub partition: Partition,
    /// The progress document this step builds on.
    pub document: ProgressDocument,
    pub expected: Offset,
    pub next: Offset,
    /// Good records in between: as many documents must be stored.
    pub rows: u64,
    /// The highest event time of theirs.
    pub event_time: Option<Micros>,
}

impl Move {
    /// The same compare-and-set, to where it starts from.
    pub fn standing_still(&self) -> Self {
        Self {
            next: self.expected,
            ..self.clone()
        }
    }

    /// The `_id`s of the step's records, start inclusive, end exclusive. `None` for a partition that no record
    /// id can name: it has no documents.
    pub fn ids(&self) -> Option<(i64, i64)> {
        // From the partition's first id, so that `next` may be one beyond the largest offset.
        let first = RecordId::new(self.document.epoch, self.partition, 0)?.0;
        Some((first.checked_add(self.expected)?, first.checked_add(self.next)?))
    }
}

/// What a transaction builds on, and takes with it.
pub(super) enum Step<'a> {
    /// The progress of a stream's partitions; each must have as many documents as good records in `collection`.
    Progress { collection: &'a str, moves: &'a [Move] },
    /// Commands that each change so many documents if these are as expected.
    Changes(&'a [(Document, u64)]),
}

/// Everything one transaction does.
pub(super) struct Plan<'a, D> {
    pub deployment: &'a D,
    pub step: Step<'a>,
    /// Inserts and updates of rollup documents.
    pub rollups: &'a [RawDocumentBuf],
}

/// How one try ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Committed,
    /// A progress document is not what the step builds on. Nothing was changed.
    Fenced,
    /// A partition has another number of documents than good records. Nothing was changed.
    Miscounted {
        partition: Partition,
        found: u64,
        expected: u64,
    },
    /// Nothing was changed; the same transaction may succeed at once.
    Retry(SinkError),
    /// Nothing was changed; the server cannot carry a transaction of this size.
    TooLong(SinkError),
    /// The commit may or may not have happened, or may still happen.
    Unknown(SinkError),
    /// Nothing was changed.
    Failed(SinkError),
}

impl<D: Deployment> Plan<'_, D> {
    /// Tries the transaction once.
    pub async fn run(&self) -> Outcome {
        let began = Instant::now();
        if !RECORDS_PROGRESS && self.rollups.is_empty() {
            return Outcome::Committed;
        }
        failpoint!("mongo.txn.before");
        let mut transaction = match self.deployment.begin().await {
            Ok(transaction) => transaction,
            Err(error) => return Outcome::Failed(error.classify("start a transaction")),
        };
        match self.body(&mut transaction, began).await {
            Ok(()) => self.commit(&mut transaction, began).await,
            Err(outcome) => {
                // Without it the server would hold the transaction's locks against our next try.
                transaction.abort().await;
                outcome
            }
        }
    }

    async fn body(&self, transaction: &mut D::Transaction, began: Instant) -> Result<(), Outcome> {
        if RECORDS_PROGRESS {
            self.take_step(transaction, began).await?;
        }
        for command in self.rollups {
            let reply = transaction.run(command.clone()).await;
            let reply = reply.map_err(|error| judge(error, "add to a rollup", began))?;
            refused(&reply, "add to a rollup")?;
        }
        Ok(())
    }

    async fn take_step(&self, transaction: &mut D::Transaction, began: Instant) -> Result<(), Outcome> {
        match self.step {
            Step::Progress { collection, moves } => {
                change(transaction, &compare_and_set(moves), moves.len() as u64, began).await?;
                for step in moves {
                    let Some(count) = count(collection, step) else { continue };
                    let reply = transaction.run(raw(&count)).await;
                    compare_count(
                        step,
                        &reply.map_err(|error| judge(error, "count the documents", began))?,
                    )?;
                }
            }
            Step::Changes(changes) => {
                for (command, documents) in changes {
                    change(transaction, command, *documents, began).await?;
                }
            }
        }
        Ok(())
    }

    async fn commit(&self, transaction: &mut D::Transaction, began: Instant) -> Outcome {
        failpoint!("mongo.txn.commit.before");
        let mut unknown = false;
        let mut tries = 0;
        let outcome = loop {
            tries += 1;
            let Err(error) = transaction.commit().await else {
                break Outcome::Committed;
            };
            unknown |= matches!(error, CallError::Deadline) || error.has_label(UNKNOWN_TRANSACTION_COMMIT_RESULT);
            // A deadline has cost half a minute already: look at progress instead of asking again.
            let again = error.has_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) && tries < COMMIT_TRIES;
            if !again {
                break if unknown {
                    Outcome::Unknown(error.classify("learn whether a transaction was committed"))
                } else {
                    judge(error, "commit a transaction", began)
                };
            }
        };
        failpoint!("mongo.txn.commit.after");
        outcome
    }
}

/// Counts a step's `_id`s from the index alone. One command per partition: a transaction takes no `$unionWith`, and one
/// `$group` over all of them would look at every document instead of index keys.
fn count(collection: &str, step: &Move) -> Option<Document> {
    let (first, end) = step.ids()?;
    let pipeline = vec![
        doc! { "$match": { "_id": { "$gte": first, "$lt": end } } },
        doc! { "$count": "n" },
    ];
    Some(doc! { "aggregate": collection, "pipeline": pipeline, "cursor": {} })
}

/// Runs a command that has to change so many documents: fewer are not as expected.
async fn change(
    transaction: &mut impl Transaction,
    command: &Document,
    documents: u64,
    began: Instant,
) -> Result<(), Outcome> {
    let reply = transaction.run(raw(command)).await;
    let reply = reply.map_err(|error| judge(error, "record the step", began))?;
    refused(&reply, "record the step")?;
    if number(&reply, "n") == documents {
        Ok(())
    } else {
        Err(Outcome::Fenced)
    }
}

pub(super) fn compare_and_set(moves: &[Move]) -> Document {
    let updates: Vec<Bson> = (moves.iter())
        .map(|step| {
            let mut expected = step.document.fence();
            expected.insert("next", step.expected);
            let mut change = doc! { "$set": { "next": step.next }, "$currentDate": { "updated_at": true } };
            if let Some(micros) = step.event_time {
                change.insert("$max", doc! { "event_time": stored_event_time(micros) });
            }
            doc! { "q": expected, "u": change }.into()
        })
        .collect();
    doc! { "update": PROGRESS_COLLECTION, "updates": updates }
}

fn raw(command: &Document) -> RawDocumentBuf {
    RawDocumentBuf::try_from(command).expect("no key of ours has a zero byte")
}

/// What a failed call means, where nothing has been committed.
fn judge(error: CallError, attempted: &'static str, began: Instant) -> Outcome {
    let transient = error.has_label(TRANSIENT_TRANSACTION_ERROR);
    let code = error.code();
    let evicted = code == Some(WRITE_CONFLICT) && {
        // Before MongoDB 6.2 a transaction too large for the cache is told as a conflict.
        let text = error.to_string();
        text.contains("cache") || text.contains("evict")
    };
    let error = error.classify(attempted);
    match code {
        Some(MAX_TIME_EXPIRED | TRANSACTION_TOO_LARGE | EXCEEDED_LIFETIME | TOO_LARGE_FOR_CACHE) => {
            Outcome::TooLong(error)
        }
        Some(NO_SUCH_TRANSACTION) if began.elapsed() > LIFETIME_SUSPECTED => Outcome::TooLong(error),
        _ if evicted => Outcome::TooLong(error),
        // A bucket taken for new was there, or two owners began it together: the next try upserts.
        Some(DUPLICATE_KEY) => Outcome::Retry(error),
        _ if transient => Outcome::Retry(error),
        _ => Outcome::Failed(error),
    }
}

/// A statement that the server answered with an error, inside a reply that is otherwise fine.
fn refused(reply: &Document, attempted: &'static str) -> Result<(), Outcome> {
    match WriteError::all(reply).into_iter().next() {
        None => Ok(()),
        Some(error) if error.is_duplicate_id() => Err(Outcome::Retry(SinkError::Infrastructure(anyhow::anyhow!(
            "cannot {attempted} in mongodb: {}",
            error.message
        )))),
        Some(error) if error.code == WRITE_CONFLICT => Err(Outcome::Retry(error.classify(attempted))),
        Some(error) => Err(Outcome::Failed(error.classify(attempted))),
    }
}

/// The answer to [`count`]; no document at all makes an empty answer.
fn compare_count(step: &Move, reply: &Document) -> Result<(), Outcome> {
    let batch = reply
        .get_document("cursor")
        .and_then(|cursor| cursor.get_array("firstBatch"));
    let answer = batch.ok().and_then(|batch| batch.first()).and_then(Bson::as_document);
    let found = answer.map_or(0, |count| number(count, "n"));
    if found == step.rows {
        return Ok(());
    }
    Err(Outcome::Miscounted {
        partition: step.partition,
        found,
        expected: step.rows,
    })
}

/// A count in a reply, whichever number type the server chose.
pub(super) fn number(document: &Document, key: &str) -> u64 {
    match document.get(key) {
        Some(Bson::Int32(n)) => u64::try_from(*n).unwrap_or(0),
        Some(Bson::Int64(n)) => u64::try_from(*n).unwrap_or(0),
        Some(Bson::Double(n)) => *n as u64,
        _ => 0,
    }
}
