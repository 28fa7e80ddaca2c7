//! Micro-batches under construction: which offsets they cover, and when they are due.
//!
//! Owns: per-partition accounting of what was read (`Lane`) and the arena records are copied into.
//! Does not own: where records come from (`super`), or who waits for the batch.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Instant;

use rdkafka::Message;
use rdkafka::message::BorrowedMessage;

use crate::batch::{Buffers, RawBatch, RawRecord, Session};
use crate::kafka::record_headers;
use crate::offsets::{Offset, OffsetRange, Partition, Progress};
use crate::source::Cutting;

/// One partition being fetched.
#[derive(Debug)]
struct Lane {
    /// Everything below was read, or is known to hold no record for us.
    next: Offset,
    /// Everything below was handed over in a batch.
    cut: Offset,
    /// The log's end when the partition was assigned.
    end: Offset,
    /// `next` has reached `end`.
    reached: bool,
    /// The log's end was seen, and nothing since.
    at_end: bool,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    Yes,
    /// Of no interest: not being fetched, or read before.
    Ignored,
    /// At or beyond the end of `--once`: this partition is done.
    PastEnd,
}

#[derive(Debug)]
pub struct Cutter {
    cutting: Cutting,
    session: Session,
    lanes: BTreeMap<Partition, Lane>,
    /// The lanes at their log's end, with that end.
    ends: Progress,
    ends_moved: bool,
    arena: Vec<u8>,
    records: Vec<RawRecord>,
    /// Bytes of record headers, which lie outside the arena.
    header_bytes: usize,
    /// When the oldest thing not handed over was read.
    since: Option<Instant>,
}

impl Cutter {
    pub fn new(cutting: Cutting) -> Self {
        Self {
            cutting,
            session: Session(0),
            lanes: BTreeMap::new(),
            ends: Progress::new(),
            ends_moved: false,
            arena: Vec::new(),
            records: Vec::new(),
            header_bytes: 0,
            since: None,
        }
    }

    pub fn session(&self) -> Session {
        self.session
    }

    /// Adds partitions; a new session forgets everything that was read before.
    pub fn fetch(&mut self, session: Session, from: &Progress, ends: &Progress) {
        if session != self.session {
            self.forget();
            self.session = session;
        }
        for (&partition, &next) in from {
            let end = ends.get(&partition).copied().unwrap_or(next);
            self.lanes.insert(
                partition,
                Lane {
                    next,
                    cut: next,
                    end,
                    reached: next >= end,
                    at_end: false,
                },
            );
        }
    }

    /// Drops what was read and not handed over, and all partitions.
    pub fn forget(&mut self) {
        self.lanes.clear();
        self.ends.clear();
        self.ends_moved = true;
        self.clear_batch();
    }

    /// Stops accounting for a partition. What was read of it must have been cut before.
    pub fn remove(&mut self, partition: Partition) {
        self.lanes.remove(&partition);
        self.ends_moved |= self.ends.remove(&partition).is_some();
    }

    /// The log's ends, where they have moved since the last call.
    pub fn take_moved_ends(&mut self) -> Option<Progress> {
        std::mem::take(&mut self.ends_moved).then(|| self.ends.clone())
    }

    /// Where to read on, per partition.
    pub fn positions(&self) -> Progress {
        self.lanes.iter().map(|(p, lane)| (*p, lane.next)).collect()
    }

    pub fn fetches(&self, partition: Partition) -> bool {
        self.lanes.contains_key(&partition)
    }

    /// Something is being fetched and all of it has reached its end.
    pub fn all_reached(&self) -> bool {
        !self.lanes.is_empty() && self.lanes.values().all(|lane| lane.reached)
    }

    /// Copies a record in.
    pub fn take(&mut self, message: &BorrowedMessage<'_>) -> Taken {
        let partition = Partition(message.partition());
        let offset = message.offset();
        let Some(lane) = self.lanes.get_mut(&partition) else {
            return Taken::Ignored;
        };
        if offset < lane.next {
            return Taken::Ignored;
        }
        if std::mem::take(&mut lane.at_end) {
            self.ends.remove(&partition);
            self.ends_moved = true;
        }
        if self.cutting.once && offset >= lane.end {
            // Records come in order: whatever lies between was a control record or compacted away.
            lane.next = lane.next.max(lane.end);
            lane.reached = true;
            self.since.get_or_insert_with(Instant::now);
            return Taken::PastEnd;
        }
        lane.next = offset + 1;
        lane.reached |= lane.next >= lane.end;
        if self.since.is_none() {
            self.since = Some(Instant::now());
        }
        let key = message.key().map(|bytes| copy(&mut self.arena, bytes));
        let value = message.payload().map(|bytes| copy(&mut self.arena, bytes));
        let timestamp_ms = message.timestamp().to_millis();
        let headers = record_headers(message);
        if let Some(headers) = &headers {
            let sizes = headers
                .iter()
                .map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len));
            self.header_bytes += sizes.sum::<usize>();
        }
        self.records.push(RawRecord {
            partition,
            offset,
            timestamp_ms,
            key,
            value,
            headers,
        });
        Taken::Yes
    }

    /// The broker that answered has nothing beyond `eof` for us: everything below was seen, control records
    /// and compaction gaps included. `eof` is that broker's own end, which may lie below the end known at the
    /// assignment (a follower, or a new leader): only what it says is proven.
    pub fn end_of(&mut self, partition: Partition, eof: Offset) {
        let once = self.cutting.once;
        if let Some(lane) = self.lanes.get_mut(&partition) {
            let proven = if once { eof.min(lane.end) } else { eof };
            if lane.next < proven {
                lane.next = proven;
                self.since.get_or_insert_with(Instant::now);
            }
            lane.reached |= lane.next >= lane.end;
            lane.at_end = true;
            self.ends_moved |= self.ends.insert(partition, eof) != Some(eof);
        }
    }

    pub fn is_full(&self) -> bool {
        self.records.len() >= self.cutting.max_records || self.arena.len() + self.header_bytes >= self.cutting.max_bytes
    }

    pub fn due(&self, now: Instant) -> bool {
        self.is_full()
            || self
                .since
                .is_some_and(|since| now.duration_since(since) >= self.cutting.linger)
    }

    /// Hands over what was read, with its bytes for the budget; `None` where nothing was. `spare` is the memory for
    /// what is read next.
    pub fn cut(&mut self, spare: impl FnOnce() -> Option<Buffers>) -> Option<(RawBatch, usize)> {
        let mut covered = BTreeMap::new();
        for (partition, lane) in &mut self.lanes {
            if lane.cut < lane.next {
                covered.insert(*partition, OffsetRange::new(lane.cut, lane.next));
                lane.cut = lane.next;
            }
        }
        if covered.is_empty() {
            self.clear_batch();
            return None;
        }
        // The next batch will most likely be as large: one allocation instead of a dozen growths.
        let fresh = || Buffers {
            arena: Vec::with_capacity(self.arena.len()),
            records: Vec::with_capacity(self.records.len()),
        };
        // One huge record must not keep its memory for ever.
        let usual = |spare: &Buffers| spare.arena.capacity() <= 2 * self.cutting.max_bytes;
        let next = spare().filter(usual).unwrap_or_else(fresh);
        let arena = std::mem::replace(&mut self.arena, next.arena);
        let records = std::mem::replace(&mut self.records, next.records);
        let payload_bytes = arena.len() + std::mem::take(&mut self.header_bytes);
        self.since = None;
        let raw = RawBatch {
            session: self.session,
            arena,
            records,
            covered,
            permit: None,
        };
        Some((raw, payload_bytes))
    }

    fn clear_batch(&mut self) {
        self.arena.clear();
        self.records.clear();
        self.header_bytes = 0;
        self.since = None;
    }
}

fn copy(arena: &mut Vec<u8>, bytes: &[u8]) -> Range<usize> {
    let start = arena.len();
    arena.extend_from_slice(bytes);
    start..arena.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const P0: Partition = Partition(0);
    const P1: Partition = Partition(1);

    #[test]
    fn ends_are_told_once_and_forgotten_with_their_partition() {
        let mut cutter = Cutter::new(Cutting {
            max_records: 10,
            max_bytes: 10,
            linger: Duration::ZERO,
            once: false,
            revoke_timeout: Duration::ZERO,
            sinks: 1,
        });
        cutter.fetch(Session(1), &Progress::from([(P0, 3), (P1, 0)]), &Progress::new());
        cutter.take_moved_ends();
        cutter.end_of(P0, 5);
        cutter.end_of(P1, 0);
        assert_eq!(cutter.take_moved_ends(), Some(Progress::from([(P0, 5), (P1, 0)])));
        cutter.end_of(P0, 5);
        assert_eq!(cutter.take_moved_ends(), None, "nothing has moved");
        cutter.remove(P1);
        assert_eq!(cutter.take_moved_ends(), Some(Progress::from([(P0, 5)])));
        cutter.forget();
        assert_eq!(cutter.take_moved_ends(), Some(Progress::new()));
    }
}
