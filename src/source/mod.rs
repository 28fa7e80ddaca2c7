//! What passes between a source and the rest of a stream's pipeline.
//!
//! Owns: commands to the source, events from it, and the items that travel down the data's way.
//! Does not own: talking to Kafka (`kafka`), deciding where to read (`resume`).

pub mod budget;
pub mod kafka;

use std::time::Duration;

use tokio::sync::mpsc;

use crate::batch::{RawBatch, Session};
use crate::error::Invariant;
use crate::offsets::{Epoch, Offset, Partition, Progress, TopicId};
use crate::sink::Reason;

/// What travels from the source to the sinks, in order.
#[derive(Debug)]
pub enum Item {
    Batch { raw: RawBatch, epoch: Epoch },
    Flush(Flush),
}

/// "Commit everything that came before me": travels behind the batches, so nothing can overtake it.
#[derive(Clone, Debug)]
pub struct Flush {
    pub session: Session,
    pub reason: Reason,
    /// Each sink sends one message when it has committed; a sink that could not just drops its sender.
    pub done: mpsc::UnboundedSender<()>,
}

impl Flush {
    pub fn new(session: Session, reason: Reason) -> (Self, FlushDone) {
        let (done, receiver) = mpsc::unbounded_channel();
        (Self { session, reason, done }, FlushDone { receiver, answers: 0 })
    }
}

/// The waiting side of a [`Flush`].
#[derive(Debug)]
pub struct FlushDone {
    receiver: mpsc::UnboundedReceiver<()>,
    answers: usize,
}

impl FlushDone {
    /// `None` while some sink has not answered; else whether all `sinks` of them have committed. For threads.
    pub fn poll(&mut self, sinks: usize) -> Option<bool> {
        loop {
            match self.receiver.try_recv() {
                Ok(()) => self.answers += 1,
                Err(mpsc::error::TryRecvError::Empty) => return None,
                Err(mpsc::error::TryRecvError::Disconnected) => return Some(self.answers == sinks),
            }
        }
    }

    /// True when `sinks` of them have committed. Ends early when one of them gave up.
    pub async fn wait(mut self, sinks: usize) -> bool {
        while self.receiver.recv().await.is_some() {
            self.answers += 1;
        }
        self.answers == sinks
    }
}

/// Told to the source by the stream's coordinator.
#[derive(Debug)]
pub enum Command {
    /// Drop what was being fetched and read these partitions from here; `ends` are the log's ends known
    /// now, before the assignment: an end-of-partition event proves that everything below them was seen.
    /// `grant` is the last [`Event::Assigned`] that the positions were read for, `topic_id` the topic whose offsets
    /// they are.
    Fetch {
        session: Session,
        grant: u64,
        topic_id: TopicId,
        epoch: Epoch,
        from: Progress,
        ends: Progress,
    },
    /// Stop fetching everything; ownership stays.
    Unfetch,
    /// Stop fetching, send what is at hand down the pipeline and a flush behind it.
    Drain(Reason),
    /// Tell the group how far both sinks are; for lag tools only.
    CommitGroup(Progress),
    /// Tell the group a last time, leave it and end the thread.
    Close(Progress),
}

/// Told by the source to the stream's coordinator.
#[derive(Debug)]
pub enum Event {
    /// The group gave us these partitions; nothing of them is read before `Command::Fetch`. Grants are numbered:
    /// positions read for an earlier grant of the same partition may be outdated.
    Assigned { partitions: Vec<Partition>, grant: u64 },
    /// They are gone; `flushed` says whether everything read of them was committed before.
    Revoked { partitions: Vec<Partition>, flushed: bool },
    /// Every partition being fetched has reached its end (`--once`); a flush with `Reason::Drained` is under way.
    Drained(FlushDone),
    /// The answer to `Command::Drain`.
    Draining(FlushDone),
    /// Kafka does not hold the offset we asked for, or the topic is another one than it was.
    LogMoved(String),
    /// The client cannot go on (a fatal error of librdkafka, e.g. a fenced static member).
    Fatal(Invariant),
}

/// Where the log was seen to end, for whoever has to know which partition has nothing waiting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenEnds {
    /// Partitions that have been read to their end: where this was.
    pub at: Progress,
    /// Nobody looks just now: fetching is paused, or Kafka does not answer.
    pub blind: bool,
}

impl SeenEnds {
    /// A sink that stands here has everything of the partition.
    pub fn is_end(&self, partition: Partition, next: Offset) -> bool {
        !self.blind && self.at.get(&partition) == Some(&next)
    }
}

/// How the source cuts the stream of records into micro-batches, and when it ends.
#[derive(Clone, Debug)]
pub struct Cutting {
    pub max_records: usize,
    pub max_bytes: usize,
    pub linger: Duration,
    /// Stop at the ends known at the assignment.
    pub once: bool,
    /// How long a revoked partition may hold up the rebalance.
    pub revoke_timeout: Duration,
    /// Sinks that answer a flush.
    pub sinks: usize,
}
