//! A commit from end to end: portion by portion, insert, transaction, and what follows from each outcome.
//!
//! Owns: the bounded repetition of transactions, and the judgement of an outcome by re-reading progress.
//! Does not own: the single steps (`insert`, `transaction`), how large a portion is (`portion`), or repetition of the
//! whole commit (`sink::driver`).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;

use super::deployment::Deployment;
use super::evolution;
use super::insert::Inserter;
use super::statements::Statements;
use super::transaction::{Move, Outcome, Plan, Step};
use super::{MongoSink, Reach, buffer};
use crate::error::{Invariant, SinkError};
use crate::event_time::EventTimes;
use crate::failpoint;
use crate::offsets::{Partition, RecordId, TopicId};
use crate::rollup::{self, Increment};
use crate::sink::CommitSummary;

/// Tries of one transaction, and rounds of inserting what was found missing, before the commit gives the error
/// back to be tried later.
const TRIES: u32 = 6;
/// Pause before the second try; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// A living rival is done by then; what still stands in the way may be a dead one's.
const CONFLICTS_BORNE: u32 = 2;
/// Ids asked for at a time.
const IDS_PER_QUERY: usize = 1_000;
/// How many ids a message names.
const IDS_SHOWN: usize = 5;

/// What re-reading progress said about a step.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// Progress is where the step leads to.
    Done,
    /// Progress is where the step starts from.
    NotDone,
}

/// How a portion ended.
enum Portion {
    Stored,
    /// The server cannot carry so many rows in one transaction.
    TooLong(SinkError),
}

impl<D: Deployment> MongoSink<D> {
    pub(super) async fn commit_buffer(&mut self) -> Result<CommitSummary, SinkError> {
        let mut summary = CommitSummary::default();
        self.resolve_doubt(&mut summary).await?;
        while !self.buffer.is_empty() {
            let pieces = self.buffer.portion(self.portion.rows());
            match self.store(pieces, &mut summary).await? {
                Portion::Stored => self.buffer.drop_front(pieces),
                Portion::TooLong(error) => {
                    let rows = self.buffer.front(pieces).map(|p| p.rows.num_rows()).sum::<usize>();
                    if rows <= 1 {
                        return Err(error);
                    }
                    self.portion.too_long(rows);
                    tracing::warn!(rows, %error, "transaction too long for the server, halving it");
                }
            }
        }
        Ok(summary)
    }

    /// A commit before this one ended without an answer: find out before anything else is built on it.
    async fn resolve_doubt(&mut self, summary: &mut CommitSummary) -> Result<(), SinkError> {
        let Some(target) = self.in_doubt.clone() else {
            return Ok(());
        };
        let steps = self.moves(&target, &[]);
        if self.settle(&steps).await? == Settled::Done {
            let before = self.buffer.rows();
            self.advance(&target, summary);
            self.buffer.skip_to(&target.progress);
            summary.rows += (before - self.buffer.rows()) as u64;
        }
        Ok(())
    }

    /// Stores the first pieces of the buffer and moves progress over them.
    async fn store(&mut self, pieces: usize, summary: &mut CommitSummary) -> Result<Portion, SinkError> {
        let batches: Vec<RecordBatch> = self.buffer.front(pieces).map(|piece| piece.rows.clone()).collect();
        let target = self.reach(pieces, &batches);
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();

        let started = Instant::now();
        self.insert(pieces, &target, summary).await?;
        let increments = self.increments(&batches)?;
        let inserted = Instant::now();
        summary.write_time += inserted - started;

        let ended = self.transact(pieces, &target, &batches, &increments, summary).await?;
        summary.commit_time += inserted.elapsed();
        if matches!(ended, Portion::Stored) {
            summary.rows += rows as u64;
            self.portion.learn(rows, increments.iter().map(Vec::len).sum());
            self.advance(&target, summary);
        }
        Ok(ended)
    }

    /// Where the first pieces, with these rows, lead to.
    fn reach(&self, pieces: usize, batches: &[RecordBatch]) -> Reach {
        let covered = self.buffer.front(pieces).flat_map(|piece| &piece.covered);
        let mut event_times = EventTimes::default();
        for batch in batches {
            event_times.take_in(batch, self.time_columns);
        }
        Reach {
            progress: covered.map(|(&partition, range)| (partition, range.end)).collect(),
            event_times,
        }
    }

    /// Inserts the pieces that no majority has acknowledged yet.
    async fn insert(&mut self, pieces: usize, target: &Reach, summary: &mut CommitSummary) -> Result<(), SinkError> {
        let batches: Vec<&RecordBatch> = self
            .buffer
            .front(pieces)
            .filter(|p| !p.stored)
            .map(|p| &p.rows)
            .collect();
        failpoint!("mongo.insert.before");
        let inserter = Inserter {
            deployment: &self.deployment,
            collection: &self.collection,
            encoder: &self.encoder,
            batch_rows: self.config.insert_batch_rows,
            concurrency: self.config.insert_concurrency,
            schema: &self.schema,
            former: &self.former,
        };
        // Over again as long as an owner of a former schema leaves its documents in the way; it soon ends.
        for _ in 0..TRIES {
            let inserted = inserter.insert(&batches).await?;
            failpoint!("mongo.insert.after");
            if !inserted.different.is_empty() {
                return Err(self.judge_different(&inserted.different, target).await?);
            }
            summary.bytes += inserted.bytes;
            summary.replayed += inserted.replayed;
            if inserted.superseded.is_empty() {
                self.buffer.set_stored(pieces, true);
                return Ok(());
            }
            self.delete_superseded(&inserted.superseded, &self.moves(target, &[]))
                .await?;
        }
        Err(SinkError::Infrastructure(anyhow::anyhow!(
            "documents of a former schema keep coming into collection {}: an instance with the former declaration still              runs",
            self.collection
        )))
    }

    /// Different documents under our ids: either another owner is ahead of us, or they are foreign.
    async fn judge_different(&self, ids: &[i64], target: &Reach) -> Result<SinkError, SinkError> {
        self.settle(&self.moves(target, &[])).await?;
        let shown: Vec<String> = ids.iter().take(IDS_SHOWN).map(|&id| RecordId(id).to_string()).collect();
        let more = ids.len().saturating_sub(IDS_SHOWN);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        let collection = &self.collection;
        Ok(Invariant::new(
            format!(
                "{} documents of collection {collection} differ from the records of the same _id: {}{more}",
                ids.len(),
                shown.join(", ")
            ),
            format!(
                "find out what wrote them; they lie beyond progress, so `db.{collection}.deleteMany({{_id: {{$in: \
                 […]}}}})` loses nothing: they are written again from kafka"
            ),
        )
        .into())
    }

    fn increments(&self, batches: &[RecordBatch]) -> Result<Vec<Vec<Increment>>, SinkError> {
        rollup::increments(&self.rollups, batches).map_err(|overflow| {
            let choices = "correct the records at their source, or take that measure out of the rollup";
            Invariant::new(overflow.to_string(), choices).into()
        })
    }

    /// `guess`: buckets that are not known are taken for new.
    fn statements(&self, increments: &[Vec<Increment>], guess: bool) -> Statements {
        Statements::of(&self.rollups, increments, |key| guess && self.buckets.is_new(key))
    }

    /// Runs the transaction until its outcome is known.
    async fn transact(
        &mut self,
        pieces: usize,
        target: &Reach,
        batches: &[RecordBatch],
        increments: &[Vec<Increment>],
        summary: &mut CommitSummary,
    ) -> Result<Portion, SinkError> {
        let moves = self.moves(target, batches);
        let mut statements = self.statements(increments, true);
        let mut pause = FIRST_PAUSE;
        let mut last = None;
        for attempt in 0..TRIES {
            if attempt > 0 {
                self.deployment.pause(pause).await;
                pause *= 2;
            }
            // From here on, until an answer says otherwise: also when this future is dropped half-way.
            let doubted = self.in_doubt.replace(target.clone());
            let plan = Plan {
                deployment: &self.deployment,
                step: Step::Progress {
                    collection: &self.collection,
                    moves: &moves,
                },
                rollups: &statements.commands,
            };
            let outcome = plan.run().await;
            if !matches!(outcome, Outcome::Committed | Outcome::Unknown(_)) {
                // This try changed nothing, but an earlier one may still have.
                self.in_doubt = doubted;
            }
            let error = match outcome {
                Outcome::Committed => {
                    self.buckets.stored(&statements.keys, statements.guessed);
                    return Ok(Portion::Stored);
                }
                Outcome::TooLong(error) => return Ok(Portion::TooLong(error)),
                Outcome::Failed(error) => return Err(error),
                Outcome::Retry(error) => {
                    if attempt == CONFLICTS_BORNE {
                        self.deployment.end_abandoned().await;
                    }
                    if statements.guessed {
                        self.buckets.mistaken();
                        statements = self.statements(increments, false);
                    }
                    error
                }
                Outcome::Unknown(error) => match self.settle(&moves).await? {
                    Settled::Done => return Ok(Portion::Stored),
                    Settled::NotDone => error,
                },
                Outcome::Fenced => match self.settle(&moves).await? {
                    Settled::Done => return Ok(Portion::Stored),
                    Settled::NotDone => SinkError::Infrastructure(anyhow::anyhow!(
                        "mongodb refuses to move the progress of stream {} although it reads as expected",
                        self.identity.stream
                    )),
                },
                Outcome::Miscounted {
                    partition,
                    found,
                    expected,
                } => {
                    if found > expected && self.delete_leftovers(&moves, batches).await? {
                        last = Some(SinkError::Infrastructure(anyhow::anyhow!(
                            "a former schema had documents where partition {partition} has no good record"
                        )));
                        continue;
                    }
                    let error = self.miscounted(partition, found, expected)?;
                    self.buffer.set_stored(pieces, false);
                    self.insert(pieces, target, summary).await?;
                    error
                }
            };
            tracing::debug!(attempt, %error, "transaction not committed, trying again");
            last = Some(error);
        }
        Err(last.expect("every round that goes on leaves its error"))
    }

    /// Deletes documents of records that were good under a former schema and are rejected under ours; false where there
    /// are none. Looked for only where the count is off: one question for every offset without a good record.
    async fn delete_leftovers(&self, moves: &[Move], batches: &[RecordBatch]) -> Result<bool, SinkError> {
        if self.former.is_empty() {
            return Ok(false);
        }
        let good: BTreeSet<i64> = (batches.iter())
            .flat_map(|batch| buffer::ids(batch, self.id_index))
            .copied()
            .collect();
        let mut leftovers = Vec::new();
        for (first, end) in moves.iter().filter_map(Move::ids) {
            let mut others = (first..end).filter(|id| !good.contains(id));
            loop {
                let some: Vec<i64> = others.by_ref().take(IDS_PER_QUERY).collect();
                if some.is_empty() {
                    break;
                }
                let found = self.deployment.fetch(&self.collection, some).await;
                let attempted = || format!("read documents of {} that no record vouches for", self.collection);
                for document in found.map_err(|e| e.classify(attempted()))? {
                    let of_former = |former| evolution::is_of(former, &self.schema, &document, None);
                    if self.former.iter().any(of_former) {
                        leftovers.extend(document.get_i64("_id").ok());
                    }
                }
            }
        }
        if !leftovers.is_empty() {
            self.delete_superseded(&leftovers, moves).await?;
        }
        Ok(!leftovers.is_empty())
    }

    /// Fewer documents than records: they vanished after a majority had them (a restore, a deletion), and are
    /// inserted again. More: somebody else writes into this collection.
    fn miscounted(&self, partition: Partition, found: u64, expected: u64) -> Result<SinkError, SinkError> {
        let what = format!(
            "collection {} holds {found} documents where partition {partition} has {expected} good records between \
             stored progress {} and the end of this commit",
            self.collection,
            self.committed.get(&partition).copied().unwrap_or_default()
        );
        if found > expected {
            let choices = "find out what else writes into this collection and remove its documents; nothing of ours \
                           was counted into the rollups";
            return Err(Invariant::new(what, choices).into());
        }
        tracing::warn!("{what}: inserting again");
        Ok(SinkError::Infrastructure(anyhow::anyhow!(what)))
    }

    /// Re-reads progress at majority: has the step been made? An owner that finds another's step has lost.
    ///
    /// Progress exactly at the target counts as our own step even if a rival made it: the same records from the
    /// same start make the same step, and the next compare-and-set tells the two of us apart.
    pub(super) async fn settle(&self, moves: &[Move]) -> Result<Settled, SinkError> {
        let stored = self.read_known().await?;
        for step in moves {
            let Some(found) = stored.get(&step.partition) else {
                return Err(self.lost(step.partition, step.expected, &stored));
            };
            // Another topic's: the owner of old has lost, and looks at the topic as it is now.
            if found.topic_id == step.document.topic_id {
                self.identity.check(found, &step.document.topic_id)?;
            }
            if found.fence() != step.document.fence() {
                return Err(self.lost(step.partition, step.expected, &stored));
            }
        }
        let all = |at: fn(&Move) -> i64| moves.iter().all(|step| stored[&step.partition].next == at(step));
        let doubted = |step: &Move| {
            self.in_doubt
                .as_ref()
                .is_some_and(|t| t.progress.get(&step.partition) == Some(&step.next))
        };
        if all(|step| step.expected) {
            return Ok(Settled::NotDone);
        }
        if all(|step| step.next) && moves.iter().all(doubted) {
            return Ok(Settled::Done);
        }
        let moved = moves.iter().find(|step| stored[&step.partition].next != step.expected);
        let step = moved.expect("not all are at the expected offset");
        Err(self.lost(step.partition, step.expected, &stored))
    }

    /// The steps to `target`, with the good records that `batches` have for each.
    fn moves(&self, target: &Reach, batches: &[RecordBatch]) -> Vec<Move> {
        let mut rows = std::collections::BTreeMap::<Partition, u64>::new();
        for &id in batches.iter().flat_map(|batch| buffer::ids(batch, self.id_index)) {
            *rows.entry(RecordId(id).partition()).or_default() += 1;
        }
        (target.progress.iter())
            .map(|(&partition, &next)| {
                let expected = self.committed.get(&partition).copied().unwrap_or(next);
                // The contract has `progress` or `adopt` first; without them the compare-and-set has to tell.
                let unread = || {
                    self.identity
                        .begin(partition, expected, &TopicId::unknown(), &self.known)
                };
                Move {
                    partition,
                    document: (self.known.get(&partition))
                        .map_or_else(unread, |known| self.identity.under_our_schema(known)),
                    expected,
                    next,
                    rows: rows.get(&partition).copied().unwrap_or(0),
                    event_time: target.event_times.get(partition),
                }
            })
            .collect()
    }

    /// Progress is stored up to `target`.
    fn advance(&mut self, target: &Reach, summary: &mut CommitSummary) {
        self.committed.extend(&target.progress);
        summary.progress.extend(&target.progress);
        summary.event_times.merge(&target.event_times);
        self.in_doubt = None;
    }
}
