//! Offset vocabulary: partitions, offsets, ranges, record ids, topic ids.
//!
//! Owns: what a number means. Every range in this crate is **half open**, `[start, end)`; a sink's
//! *progress* is the next offset to read, so `progress == end` says that everything below `end` is in.
//! Does not own: where progress is stored (`sink`), or how a resume point is chosen (`resume`).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A Kafka partition number within one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partition(pub i32);

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A Kafka offset; as progress, the next offset to read.
pub type Offset = i64;

/// Next offset to read, per partition.
pub type Progress = BTreeMap<Partition, Offset>;

/// Always, except in the build that shows what exactly once costs.
pub const RECORDS_PROGRESS: bool = !cfg!(feature = "bench-without-progress");

/// Half-open range of offsets of one partition: `start` is in, `end` is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OffsetRange {
    pub start: Offset,
    pub end: Offset,
}

impl OffsetRange {
    pub fn new(start: Offset, end: Offset) -> Self {
        debug_assert!(start <= end, "range {start}..{end} is reversed");
        Self { start, end }
    }

    pub fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    pub fn contains(&self, offset: Offset) -> bool {
        self.start <= offset && offset < self.end
    }
}

impl fmt::Display for OffsetRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

/// How often an operator has let the stream go on over a re-created topic. Part of every record id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u8);

/// The record's id in both sinks: `epoch · 2^58 + partition · 2^44 + offset`, an int64 that is monotonic
/// within a partition and can be taken apart again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(pub i64);

impl RecordId {
    pub const OFFSET_BITS: u32 = 44;
    pub const PARTITION_BITS: u32 = 14;
    pub const EPOCH_BITS: u32 = 5;

    /// `None` where a coordinate does not fit its bits (offset < 2^44, partition < 2^14, epoch < 2^5).
    pub fn new(epoch: Epoch, partition: Partition, offset: Offset) -> Option<Self> {
        let fits = (0..1i64 << Self::OFFSET_BITS).contains(&offset)
            && (0..1i32 << Self::PARTITION_BITS).contains(&partition.0)
            && u32::from(epoch.0) < (1 << Self::EPOCH_BITS);
        fits.then(|| {
            Self(
                (i64::from(epoch.0) << (Self::OFFSET_BITS + Self::PARTITION_BITS))
                    | (i64::from(partition.0) << Self::OFFSET_BITS)
                    | offset,
            )
        })
    }

    pub fn epoch(self) -> Epoch {
        Epoch((self.0 >> (Self::OFFSET_BITS + Self::PARTITION_BITS)) as u8)
    }

    pub fn partition(self) -> Partition {
        Partition(((self.0 >> Self::OFFSET_BITS) & ((1 << Self::PARTITION_BITS) - 1)) as i32)
    }

    pub fn offset(self) -> Offset {
        self.0 & ((1 << Self::OFFSET_BITS) - 1)
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (epoch {}, partition {}, offset {})",
            self.0,
            self.epoch().0,
            self.partition(),
            self.offset()
        )
    }
}

/// A topic's unique id in the form Kafka's own tools print it: 22 characters of URL-safe base64.
///
/// The URL-safe alphabet matters: a `/` would break the lake's `appId`, whose parts are separated by it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TopicId(pub String);

impl TopicId {
    /// What a broker that knows no topic ids answers. Unknown → known is no re-creation.
    pub const UNKNOWN: &'static str = "AAAAAAAAAAAAAAAAAAAAAA";

    pub fn unknown() -> Self {
        Self(Self::UNKNOWN.to_owned())
    }

    pub fn is_known(&self) -> bool {
        self.0 != Self::UNKNOWN
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_id_can_be_taken_apart_and_orders_by_offset_within_a_partition() {
        let id = RecordId::new(Epoch(3), Partition(9000), (1 << 44) - 1).expect("fits");
        assert_eq!(
            (id.epoch(), id.partition(), id.offset()),
            (Epoch(3), Partition(9000), (1 << 44) - 1)
        );
        assert!(RecordId::new(Epoch(0), Partition(1), 5) < RecordId::new(Epoch(0), Partition(1), 6));
        let largest = RecordId::new(Epoch(31), Partition((1 << 14) - 1), (1 << 44) - 1).expect("fits");
        assert_eq!(largest.0, i64::MAX);
    }

    #[test]
    fn coordinates_that_do_not_fit_have_no_id() {
        assert_eq!(RecordId::new(Epoch(0), Partition(0), 1 << 44), None);
        assert_eq!(RecordId::new(Epoch(0), Partition(1 << 14), 0), None);
        assert_eq!(RecordId::new(Epoch(32), Partition(0), 0), None);
        assert_eq!(RecordId::new(Epoch(0), Partition(0), -1), None);
    }
}
