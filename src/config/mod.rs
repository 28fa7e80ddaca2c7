//! The resolved configuration: plain values, validated once, handed out section by section.
//!
//! Owns: the types, their defaults' meaning, and what a valid configuration is.
//! Does not own: what other modules make of it.
//!
//! ```text
//!  load ──▶ layer ──▶ resolve ──▶ stream ──▶ fields, rollup ──▶ Config ──▶ show
//!  (where)  (tree)    (sections)             (names: legal?)
//! ```

mod fields;
mod layer;
pub mod load;
mod names;
pub mod problem;
mod resolve;
mod rollup;
pub mod secret;
mod section;
pub mod show;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::schema::StreamSchema;

#[derive(Clone, Debug)]
pub struct Config {
    /// Identity of this ingestion; a table and a collection belong to one job.
    pub job: String,
    pub kafka: KafkaConfig,
    pub mongo: MongoConfig,
    pub lake: LakeConfig,
    pub http: HttpConfig,
    pub collect: CollectConfig,
    pub limits: LimitsConfig,
    pub streams: Vec<StreamConfig>,
}

#[derive(Clone, Debug)]
pub struct KafkaConfig {
    pub brokers: String,
    pub group: String,
    /// Only where no sink has progress.
    pub start: Start,
    /// Any librdkafka property, passed through; the ones affluent owns are refused.
    pub properties: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Earliest,
    Latest,
    At(DateTime<Utc>),
}

#[derive(Clone, Debug)]
pub struct MongoConfig {
    pub enabled: bool,
    pub uri: String,
    pub database: String,
    /// Longest time a decoded record waits before it is sent.
    pub flush_interval: Duration,
    /// Records per flush at most. A transaction takes fewer where they touch many rollup documents.
    pub max_flush_rows: usize,
    /// Documents per insert command.
    pub insert_batch_rows: usize,
    /// Insert commands in flight.
    pub insert_concurrency: usize,
}

#[derive(Clone, Debug)]
pub struct LakeConfig {
    pub enabled: bool,
    /// Directory, `file://…`, `s3://…`, `hdfs://…`; made absolute and turned into a URL by `lake::store`.
    pub root: String,
    /// Longest time between a row's arrival and its commit.
    pub commit_interval: Duration,
    /// Commit when nothing new has come for this long.
    pub idle_interval: Duration,
    /// Compressed bytes after which a file is closed.
    pub target_file_bytes: u64,
    /// Memory of files in the making (waiting rows, encoders, encoded bytes until they are stored), all streams
    /// together; a stream's own bounds its part.
    pub max_open_bytes: u64,
    pub upkeep: UpkeepConfig,
    /// Object-store options by their usual names.
    pub storage: BTreeMap<String, String>,
}

/// What a running job does for its tables beside storing rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpkeepConfig {
    pub enabled: bool,
    /// Commits between two checkpoints.
    pub checkpoint_every: u64,
    pub compact: bool,
    pub compact_interval: Duration,
    /// A partition without a new file for so long counts as complete.
    pub quiet_after: Duration,
    pub vacuum: bool,
    pub vacuum_interval: Duration,
}

#[derive(Clone, Debug)]
pub struct HttpConfig {
    pub enabled: bool,
    pub listen: String,
    /// Empty: everybody may read.
    pub token: String,
}

/// How browsers' events are taken.
#[derive(Clone, Debug, Default)]
pub struct CollectConfig {
    pub listen: String,
    /// Name of a stream. Whether there is one is asked by who collects: other commands do without.
    pub stream: String,
    /// As browsers write them (`https://shop.example`), or `*`.
    pub origins: Vec<String>,
    /// Reverse proxies in front of us.
    pub proxies: Vec<IpAddr>,
    pub max_body_bytes: usize,
    pub max_events: usize,
    /// Events per second and client address.
    pub rate: usize,
    /// Events at once; at least `max_events`.
    pub burst: usize,
    pub shop: bool,
}

#[derive(Clone, Debug)]
pub struct LimitsConfig {
    /// Byte budget for everything fetched and not yet taken by both sinks, all streams together.
    pub max_in_flight_bytes: u64,
    /// Records of one micro-batch at most.
    pub max_batch_records: usize,
    /// Payload bytes of one micro-batch, give or take the last record.
    pub max_batch_bytes: usize,
    /// Longest time a record waits for its micro-batch to fill.
    pub batch_linger: Duration,
    /// How long `--once` waits for a missing service before it gives up with exit 3.
    pub once_timeout: Duration,
    /// How long a graceful end may take before what is not committed is dropped (it will be read again).
    pub shutdown_timeout: Duration,
    /// How long an instance may finish a revoked partition before it is dropped.
    pub revoke_timeout: Duration,
}

/// One topic → one collection and one table.
#[derive(Clone, Debug)]
pub struct StreamConfig {
    pub name: String,
    pub topic: String,
    pub dead_letter_topic: String,
    pub schema: Arc<StreamSchema>,
    pub rollups: Vec<RollupConfig>,
    pub tombstones: Tombstones,
    /// Payload bytes beyond which a record is a dead letter.
    pub max_record_bytes: usize,
    /// Circuit breaker: share of the last 10,000 records, 0.0–1.0.
    pub max_dead_letters: Option<f64>,
    /// The declared fields may be some that were replaced before. Of one run (`--former-schema`), not of a file.
    pub former_schema: bool,
    /// This stream's sinks: the global sections with the stream's own overrides applied.
    pub mongo: MongoConfig,
    pub lake: LakeConfig,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tombstones {
    DeadLetter,
    /// Counted and skipped.
    Skip,
}

/// An aggregate kept current in MongoDB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollupConfig {
    /// Also the collection's name.
    pub name: String,
    pub every: Every,
    /// Dimensions: indexes into the schema's fields, in document order.
    pub by: Vec<usize>,
    /// Name → measure, in name order.
    pub measures: BTreeMap<String, Measure>,
    /// Buckets older than that are deleted.
    pub expire_after: Option<Duration>,
}

/// Bucket width. `Day` is the calendar day of the stream's zone, the others divide a day evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Every {
    /// Whole seconds, dividing a day.
    Seconds(u32),
    Day,
}

/// `field` indexes the schema's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    Count,
    Sum(usize),
    Min(usize),
    Max(usize),
    /// Kept as `<name>_sum` and `<name>_count`.
    Avg(usize),
    /// About how many distinct values; kept as the registers of a sketch (`rollup::sketch`).
    Distinct(usize),
}

/// Records over which the circuit breaker judges.
pub const BREAKER_WINDOW: usize = 10_000;
