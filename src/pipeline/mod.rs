//! Read this first: how one stream's records get from Kafka into both sinks.
//!
//! ```text
//!             thread           thread                task                     task per sink
//!  Kafka ──▶ source ──(4)──▶ decode ──(2)──▶ fan-out ─┬─▶ sink::driver ▶ MongoDB: inserts, then one transaction
//!              ▲   │                 │ dead letters   └─▶ sink::driver ▶ lake: files, then one Delta commit
//!              │   │ events          ▼ durable first         │
//!              │   ▼               <topic>.dlq               │ events: committed, lost, stopped
//!           coordinator ◀────────────────────────────────────┘
//! ```
//!
//! Each record is parsed once; both sinks see the same `RecordBatch`. A flush travels the same way as the
//! records, so it commits exactly what was read before it. Batches carry their share of the byte budget; what
//! was read before a rewind belongs to an older *session* and is dropped wherever it is met.
//!
//! Owns: the stages and the channels between them. Does not own: which partitions to read and from where
//! (`coordinator`), the sinks' cadence (`sink::driver`).

pub mod admission;
pub mod breaker;
pub mod coordinator;
mod fan_out;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use tokio::sync::{mpsc, watch};

use crate::batch::{Batch, Buffers, RawBatch, Reject, Session};
use crate::config::{KafkaConfig, StreamConfig};
use crate::decode::Decoder;
use crate::error::Invariant;
use crate::health::StreamHealth;
use crate::offsets::Epoch;
use crate::sink::driver::SinkHandle;
use crate::source::{Flush, Item};
use crate::telemetry::{self, UnknownFields};

/// Micro-batches between source and decoder: one being decoded, a few ready, so neither waits for the other.
const RAW_DEPTH: usize = 4;
/// Decoded batches before the fan-out: it only waits for dead letters.
const DECODED_DEPTH: usize = 2;

/// What a run has seen, for its summary.
#[derive(Debug, Default)]
pub struct Counters {
    records: AtomicU64,
    dead_letters: AtomicU64,
}

impl Counters {
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    pub fn dead_letters(&self) -> u64 {
        self.dead_letters.load(Ordering::Relaxed)
    }
}

/// From decoder to fan-out.
#[derive(Debug)]
enum Decoded {
    Batch {
        batch: Batch,
        /// The raw batch is kept only where a record of it was rejected.
        letters: Option<(RawBatch, Vec<Reject>)>,
        records: usize,
    },
    Flush(Flush),
}

/// Where the source's items go in, and the memory of those that are done with comes out.
pub struct Inlet {
    pub items: mpsc::Sender<Item>,
    pub spares: mpsc::Receiver<Buffers>,
}

/// Starts decoder and fan-out. Both end when the inlet's items are closed.
pub fn start(
    kafka: &KafkaConfig,
    stream: &StreamConfig,
    sinks: Vec<SinkHandle>,
    session: watch::Receiver<Session>,
    counters: Arc<Counters>,
    health: StreamHealth,
    stopped: mpsc::UnboundedSender<Invariant>,
) -> anyhow::Result<Inlet> {
    let (items, receiver) = mpsc::channel(RAW_DEPTH);
    let (decoded, decoded_receiver) = mpsc::channel(DECODED_DEPTH);
    // One is cut for each that is decoded. What finds no place is freed.
    let (spare, spares) = mpsc::channel(1);
    spawn_decoder(stream, receiver, decoded, spare, counters)?;
    let fan_out = fan_out::FanOut::new(kafka, stream, sinks, session, health, stopped);
    tokio::spawn(fan_out.run(decoded_receiver));
    Ok(Inlet { items, spares })
}

/// Decoding is CPU-bound: a thread of its own, away from the async workers.
fn spawn_decoder(
    stream: &StreamConfig,
    mut items: mpsc::Receiver<Item>,
    decoded: mpsc::Sender<Decoded>,
    spare: mpsc::Sender<Buffers>,
    counters: Arc<Counters>,
) -> anyhow::Result<()> {
    let mut stage = DecodeStage {
        stream: stream.name.clone(),
        decoder: Decoder::new(stream),
        unknown_fields: UnknownFields::default(),
        spare,
        counters,
    };
    std::thread::Builder::new()
        .name(format!("decode-{}", stream.name))
        .spawn(move || {
            while let Some(item) = items.blocking_recv() {
                let item = match item {
                    Item::Batch { raw, epoch } => stage.decode(raw, epoch),
                    Item::Flush(flush) => Decoded::Flush(flush),
                };
                if decoded.blocking_send(item).is_err() {
                    return;
                }
            }
        })
        .context("cannot start the decoder's thread")?;
    Ok(())
}

struct DecodeStage {
    stream: String,
    decoder: Decoder,
    unknown_fields: UnknownFields,
    /// To the source: memory it may use again.
    spare: mpsc::Sender<Buffers>,
    counters: Arc<Counters>,
}

impl DecodeStage {
    fn decode(&mut self, mut raw: RawBatch, epoch: Epoch) -> Decoded {
        let result = self.decoder.decode(&raw, epoch);
        telemetry::skipped(&self.stream, result.skipped);
        self.unknown_fields.count(&self.stream, result.unknown_fields);
        let (records, rejects) = (raw.records.len(), result.rejects.len());
        self.counters.records.fetch_add(records as u64, Ordering::Relaxed);
        self.counters.dead_letters.fetch_add(rejects as u64, Ordering::Relaxed);
        let batch = Batch {
            session: raw.session,
            rows: result.rows,
            covered: std::mem::take(&mut raw.covered),
            permit: raw.permit.take(),
        };
        let letters = if result.rejects.is_empty() {
            let _ = self.spare.try_send(raw.into_buffers());
            None
        } else {
            Some((raw, result.rejects))
        };
        Decoded::Batch {
            batch,
            letters,
            records,
        }
    }
}
