//! The records that are measured: one micro-batch, cut where the source would cut it by default.
//!
//! Owns: the shapes. The same bytes on every machine: samples are seeded, the others counted through.
//! Does not own: what is done with them (`main`).

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use affluent::batch::{RawBatch, RawRecord, Session};
use affluent::config::load::{ConfigArgs, load};
use affluent::config::{Config, StreamConfig};
use affluent::decode::Decoder;
use affluent::offsets::{Epoch, Partition};
use affluent::produce::{Preset, payloads};
use affluent::schema::{Field, FieldType, PartitionColumn, StreamSchema};
use arrow::array::RecordBatch;
use chrono_tz::Tz;

/// 2026-01-01T00:00Z, milliseconds since 1970.
const START_MS: i64 = 1_767_225_600_000;
const HOUR_MS: i64 = 3_600_000;
const MONTH_MS: i64 = 30 * 24 * HOUR_MS;

/// What records look like.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// The sample, as a steady load brings it: 265 bytes, ten fields.
    SalesOfAnHour,
    /// The sample, as a backfill brings it.
    SalesOfAMonth,
    /// An hour's sample, 5 % of it broken in every way.
    Poisoned,
    /// 1 KB in 20 columns, half of them texts of 62 characters.
    Flat1Kb,
    /// 2.5 KB in 100 columns, half of them texts of 16 characters.
    Columns100,
}

/// A stream and one batch of it.
pub struct Input {
    pub stream: StreamConfig,
    pub raw: RawBatch,
}

impl Shape {
    /// Partitions of the lake that the batch touches: days × regions.
    pub fn partitions(self) -> usize {
        match self {
            Self::SalesOfAnHour | Self::Poisoned => 13,
            // Three small regions sold nothing on one day.
            Self::SalesOfAMonth => 30 * 13 - 3,
            Self::Flat1Kb | Self::Columns100 => 1,
        }
    }

    pub fn input(self) -> Input {
        match self {
            Self::SalesOfAnHour => sales(START_MS..START_MS + HOUR_MS, 0.0),
            Self::SalesOfAMonth => sales(START_MS..START_MS + MONTH_MS, 0.0),
            Self::Poisoned => sales(START_MS..START_MS + HOUR_MS, 5.0),
            Self::Flat1Kb => flat(20, 62),
            Self::Columns100 => flat(100, 16),
        }
    }
}

impl Input {
    /// The batch, cut from `payloads`.
    fn new(config: &Config, stream: StreamConfig, payloads: impl IntoIterator<Item = Option<Vec<u8>>>) -> Self {
        let limits = &config.limits;
        let mut raw = RawBatch {
            session: Session(0),
            arena: Vec::with_capacity(limits.max_batch_bytes),
            records: Vec::new(),
            covered: BTreeMap::new(),
            permit: None,
        };
        for (offset, payload) in payloads.into_iter().take(limits.max_batch_records).enumerate() {
            let start = raw.arena.len();
            let value = payload.map(|payload| {
                raw.arena.extend_from_slice(&payload);
                start..raw.arena.len()
            });
            raw.records.push(RawRecord {
                partition: Partition(0),
                offset: offset as i64,
                timestamp_ms: Some(START_MS),
                key: None,
                value,
                headers: None,
            });
            if raw.arena.len() >= limits.max_batch_bytes {
                break;
            }
        }
        Self { stream, raw }
    }

    /// Decoded; all records are good, else less would be measured than is counted.
    pub fn rows(&self) -> RecordBatch {
        let decoded = Decoder::new(&self.stream).decode(&self.raw, Epoch(0));
        assert_eq!(decoded.rows.num_rows(), self.raw.records.len());
        decoded.rows
    }
}

/// The built-in configuration. Read with an empty file, so that no `affluent.toml` lying about counts.
fn built_in() -> Config {
    let empty = tempfile::NamedTempFile::new().expect("a temporary file");
    let args = ConfigArgs {
        config: Some(empty.path().to_owned()),
        set: Vec::new(),
    };
    load(&args).unwrap_or_else(|problems| panic!("{problems}"))
}

fn preset(config: &Config) -> StreamConfig {
    let sales = config.streams.iter().find(|stream| stream.name == "sales");
    sales.expect("built in").clone()
}

fn sales(window_ms: Range<i64>, broken_percent: f64) -> Input {
    let config = built_in();
    let count = config.limits.max_batch_records as u64;
    let payloads = payloads(Preset::Sales, 7, window_ms, count, broken_percent);
    Input::new(&config, preset(&config), payloads)
}

/// Records of so many fields, of all common types in turn, texts of so many characters.
fn flat(columns: usize, text_length: usize) -> Input {
    let types = [
        FieldType::String,
        FieldType::Long,
        FieldType::String,
        FieldType::Decimal {
            precision: 18,
            scale: 2,
        },
        FieldType::String,
        FieldType::Double,
        FieldType::String,
        FieldType::Boolean,
    ];
    let field = |name: String, ty, required| Field {
        name,
        ty,
        required,
        unit: None,
    };
    let others = types.iter().cycle().enumerate().take(columns - 1);
    let fields: Vec<Field> = [field("at".to_owned(), FieldType::Timestamp, true)]
        .into_iter()
        .chain(others.map(|(number, ty)| field(format!("field_{number}"), *ty, false)))
        .collect();
    let config = built_in();
    let stream = StreamConfig {
        schema: Arc::new(StreamSchema::new(
            fields.clone(),
            0,
            vec![PartitionColumn::EventDate],
            Tz::UTC,
        )),
        rollups: Vec::new(),
        ..preset(&config)
    };
    let mut digits = Digits(7);
    let payloads = std::iter::repeat_with(|| Some(payload(&fields, text_length, &mut digits)));
    Input::new(&config, stream, payloads)
}

fn payload(fields: &[Field], text_length: usize, digits: &mut Digits) -> Vec<u8> {
    let members = fields.iter().map(|field| {
        let n = digits.next();
        let value = match field.ty {
            FieldType::Timestamp => format!(
                "\"2026-01-01T{:02}:{:02}:{:02}.{:03}Z\"",
                n % 24,
                n % 60,
                n % 59,
                n % 1000
            ),
            FieldType::String => format!("\"{:.text_length$}\"", format!("{n:016x}").repeat(4)),
            FieldType::Decimal { .. } => format!("{}.{:02}", n % 10_000, n % 100),
            FieldType::Double => format!("{}", (n % 1_000_000) as f64 / 1024.0),
            FieldType::Boolean => n.is_multiple_of(2).to_string(),
            _ => (n % 1_000_000).to_string(),
        };
        format!("\"{}\":{value}", field.name)
    });
    format!("{{{}}}", members.collect::<Vec<_>>().join(",")).into_bytes()
}

/// Numbers without a pattern that a compressor would find (SplitMix64).
struct Digits(u64);

impl Digits {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
