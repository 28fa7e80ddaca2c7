//! What travels between the stages: raw records, decoded micro-batches, and why a record was rejected.
//!
//! Owns: the shapes, and the promise that a batch's `covered` ranges include records that were rejected or
//! skipped — progress moves over them, so a sink must advance by `covered`, never by the rows it sees.
//! Does not own: fetching (`source`), decoding (`decode`), storing (`sink`).

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::array::RecordBatch;
use tokio::sync::OwnedSemaphorePermit;

use crate::offsets::{Offset, OffsetRange, Partition};

/// Counts assignments of one stream within this process. Whatever belongs to an older session than the
/// current one is dropped wherever it is met: it was read before a rewind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Session(pub u64);

/// Record headers in order: a key may come twice, a value may be null.
pub type Headers = Vec<(String, Option<Vec<u8>>)>;

/// One record as fetched; `key` and `value` are ranges into [`RawBatch::arena`].
#[derive(Debug)]
pub struct RawRecord {
    pub partition: Partition,
    pub offset: Offset,
    /// Kafka's record timestamp, milliseconds since 1970; `None` where the broker has none.
    pub timestamp_ms: Option<i64>,
    pub key: Option<Range<usize>>,
    /// `None` is a tombstone.
    pub value: Option<Range<usize>>,
    /// Headers are rare: boxed so that the common record stays small.
    pub headers: Option<Box<Headers>>,
}

/// Records of one fetch step, payloads copied into one arena.
#[derive(Debug)]
pub struct RawBatch {
    pub session: Session,
    pub arena: Vec<u8>,
    pub records: Vec<RawRecord>,
    /// What this batch accounts for, per partition; may be wider than the records (control records,
    /// compaction gaps) and may come without any record.
    pub covered: BTreeMap<Partition, OffsetRange>,
    /// The batch's share of the byte budget; given back when the last sink lets go of the batch.
    pub permit: Option<OwnedSemaphorePermit>,
}

/// The memory of a batch, emptied, for a batch to come: the kernel zeroes every fresh page, which costs more than
/// copying the payloads.
#[derive(Debug, Default)]
pub struct Buffers {
    pub arena: Vec<u8>,
    pub records: Vec<RawRecord>,
}

impl RawBatch {
    /// The batch is done with.
    pub fn into_buffers(mut self) -> Buffers {
        self.arena.clear();
        self.records.clear();
        Buffers {
            arena: self.arena,
            records: self.records,
        }
    }

    pub fn bytes(&self, range: &Option<Range<usize>>) -> Option<&[u8]> {
        range.as_ref().map(|r| &self.arena[r.clone()])
    }
}

/// A decoded micro-batch: what both sinks see.
#[derive(Debug)]
pub struct Batch {
    pub session: Session,
    /// Good records only, in fetch order; offsets ascend within a partition. Schema: `StreamSchema::arrow`.
    pub rows: RecordBatch,
    pub covered: BTreeMap<Partition, OffsetRange>,
    pub permit: Option<OwnedSemaphorePermit>,
}

/// Where a record failed; part of a dead letter's headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    Decode,
}

impl Stage {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
        }
    }
}

/// Why a record was rejected: a closed set, written as the dead letter's `affluent.code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RejectCode {
    /// Not one well-formed JSON object in UTF-8 (BOM, trailing garbage, lone surrogates included).
    InvalidJson,
    /// The payload is null.
    NullPayload,
    /// A required field is absent or null.
    MissingField,
    /// The value is of another JSON type than declared.
    WrongType,
    /// A number that the declared type cannot hold exactly.
    OutOfRange,
    /// A timestamp or date that cannot be read, or lies outside years 0001–9999.
    InvalidTimestamp,
    /// A partition value that no path can carry (`__HIVE_DEFAULT_PARTITION__`).
    InvalidPartitionValue,
    /// Deeper nesting than allowed.
    TooDeep,
    /// Payload or stored document larger than allowed.
    TooLarge,
    /// Partition or offset beyond what a record id can hold.
    InvalidCoordinates,
}

impl RejectCode {
    pub const ALL: [Self; 10] = [
        Self::InvalidJson,
        Self::NullPayload,
        Self::MissingField,
        Self::WrongType,
        Self::OutOfRange,
        Self::InvalidTimestamp,
        Self::InvalidPartitionValue,
        Self::TooDeep,
        Self::TooLarge,
        Self::InvalidCoordinates,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid_json",
            Self::NullPayload => "null_payload",
            Self::MissingField => "missing_field",
            Self::WrongType => "wrong_type",
            Self::OutOfRange => "out_of_range",
            Self::InvalidTimestamp => "invalid_timestamp",
            Self::InvalidPartitionValue => "invalid_partition_value",
            Self::TooDeep => "too_deep",
            Self::TooLarge => "too_large",
            Self::InvalidCoordinates => "invalid_coordinates",
        }
    }
}

/// A record that cannot be stored: becomes a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Index into [`RawBatch::records`].
    pub record: usize,
    pub stage: Stage,
    pub code: RejectCode,
    /// For people: names the field and what was wrong with it, at most a few hundred bytes.
    pub error: String,
}
