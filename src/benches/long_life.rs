//! A table's long life, in fast motion: a day of one-second commits, or more, with the upkeep of a running job beside.
//!
//! ```text
//!  cargo bench --bench long_life -- [--commits 86400] [--rows 5] [--no-upkeep]
//!
//!  writer   LakeSink: write, commit; one commit after the other, each with the sales of one second of a day
//!  upkeep   the job's own thread: checkpoints, log clean-up, compaction (every few seconds, not every ten minutes)
//!  reader   a process of its own, every tenth of the way and once more at the end: all rows of a version, added up
//! ```
//!
//! Owns: what is measured, per tenth of the commits: latency of a commit (median and 99th percentile), our memory, files
//! in the log, data files that the commits made and those that are left after the compactions so far, with their mean size
//! and the count of partitions they lie in; at the end the time to open the table anew, and what one more compaction
//! leaves. Every reading is proved: the ids of a version must be exactly those that its own progress says, whatever was
//! compacted.
//! Does not own: the way before the sink (`scripts/bench.sh`), real stores under load.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::{Duration, Instant};

use affluent::batch::{Batch, RawBatch, RawRecord, Session};
use affluent::config::StreamConfig;
use affluent::config::load::{ConfigArgs, load};
use affluent::decode::Decoder;
use affluent::lake::delta::files::{self, FileState};
use affluent::lake::delta::log::LogTail;
use affluent::lake::delta::names::AppIds;
use affluent::lake::maintenance::compact::{self, Outcome};
use affluent::lake::maintenance::plan::PlanSettings;
use affluent::lake::maintenance::table::{Sum, Table};
use affluent::lake::rows::{Place, Rows, files_of};
use affluent::lake::store::Store;
use affluent::offsets::{Epoch, OffsetRange, Partition, Progress, TopicId};
use affluent::produce::{Preset, payloads};
use affluent::sink::lake::LakeSink;
use affluent::sink::{Reason, Sink as _};
use affluent::upkeep;
use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use chrono::Utc;
use clap::Parser;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The binary's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// 2026-01-01T00:00Z, milliseconds since 1970.
const START_MS: i64 = 1_767_225_600_000;
const JOB: &str = "long-life";
const TOPIC_ID: &str = "abcdefghijklmnopqrstuv";
const PARTITION: Partition = Partition(0);

#[derive(Debug, Parser)]
struct Args {
    /// Commits, each of one second of event time
    #[arg(long, default_value_t = 86_400)]
    commits: u64,
    /// Rows of each
    #[arg(long, default_value_t = 5)]
    rows: u64,
    /// Nobody looks after the table
    #[arg(long)]
    no_upkeep: bool,
    /// Only reads this version of the table below ROOT
    #[arg(long, hide = true, num_args = 2, value_names = ["ROOT", "VERSION"])]
    read: Option<Vec<String>>,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let args = Args::parse();
    if let Some([root, version]) = args.read.as_deref() {
        println!("{}", read(&sales(root), version.parse().expect("a version")).await);
        return;
    }
    let root = tempfile::tempdir().expect("a directory");
    let stream = sales(root.path().to_str().expect("UTF-8"));
    let (_leads, leads) = watch::channel(true);
    let shutdown = CancellationToken::new();
    if !args.no_upkeep {
        upkeep::start(JOB, &stream, leads, shutdown.clone());
    }
    let mut life = Life::begin(&stream, &args).await;
    println!(
        "{:>8} {:>8} {:>8} {:>8} {:>9} {:>10} {:>10} {:>9} {:>10}",
        "commits", "p50 ms", "p99 ms", "RSS MiB", "log files", "files made", "files left", "mean KiB", "rows read"
    );
    let tenth = (args.commits / 10).max(1);
    let mut read = Vec::new();
    for done in 1..=args.commits {
        life.commit().await;
        if done % tenth == 0 {
            read.push(life.report(done).await);
        }
    }
    shutdown.cancel();
    life.read_again(&read).await;
    let started = Instant::now();
    LakeSink::open(JOB, &stream).await.expect("opens");
    println!("opened anew in {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
    if !args.no_upkeep {
        life.compact_all().await;
    }
}

fn sales(root: &str) -> StreamConfig {
    // With an empty file, so that no `affluent.toml` lying about counts.
    let empty = tempfile::NamedTempFile::new().expect("a temporary file");
    let args = ConfigArgs {
        config: Some(empty.path().to_owned()),
        set: Vec::new(),
    };
    let config = load(&args).unwrap_or_else(|problems| panic!("{problems}"));
    let mut stream = config
        .streams
        .into_iter()
        .find(|s| s.name == "sales")
        .expect("built in");
    stream.lake.root = root.to_owned();
    stream.lake.upkeep.compact_interval = Duration::from_secs(6);
    stream
}

struct Life<'a> {
    stream: &'a StreamConfig,
    rows: u64,
    decoder: Decoder,
    payloads: Box<dyn Iterator<Item = Option<Vec<u8>>>>,
    sink: LakeSink,
    next: i64,
    made: u64,
    latencies: Vec<Duration>,
}

impl<'a> Life<'a> {
    async fn begin(stream: &'a StreamConfig, args: &Args) -> Self {
        let mut sink = LakeSink::open(JOB, stream).await.expect("opens");
        let topic = TopicId(TOPIC_ID.to_owned());
        let start = Progress::from([(PARTITION, 0)]);
        sink.progress(&topic, &[PARTITION]).await.expect("reads");
        sink.adopt(&topic, &start).await.expect("adopts");
        sink.progress(&topic, &[PARTITION]).await.expect("reads");
        sink.begin(&start);
        let count = args.commits * args.rows;
        let window = START_MS..START_MS + args.commits as i64 * 1000;
        Self {
            stream,
            rows: args.rows,
            decoder: Decoder::new(stream),
            payloads: Box::new(payloads(Preset::Sales, 7, window, count, 0.0)),
            sink,
            next: 0,
            made: 0,
            latencies: Vec::new(),
        }
    }

    /// One second's sales.
    async fn commit(&mut self) {
        let mut raw = RawBatch {
            session: Session(0),
            arena: Vec::new(),
            records: Vec::new(),
            covered: BTreeMap::new(),
            permit: None,
        };
        let end = self.next + self.rows as i64;
        for (offset, payload) in (self.next..end).zip(&mut self.payloads) {
            let start = raw.arena.len();
            raw.arena.extend_from_slice(&payload.expect("no null"));
            raw.records.push(RawRecord {
                partition: PARTITION,
                offset,
                timestamp_ms: Some(START_MS),
                key: None,
                value: Some(start..raw.arena.len()),
                headers: None,
            });
        }
        raw.covered.insert(PARTITION, OffsetRange::new(self.next, end));
        let rows = self.decoder.decode(&raw, Epoch(0)).rows;
        let batch = Batch {
            session: Session(0),
            rows,
            covered: raw.covered.clone(),
            permit: None,
        };
        let started = Instant::now();
        self.sink.write(&batch).await.expect("takes them");
        let summary = self.sink.commit(Reason::Interval).await.expect("commits");
        self.latencies.push(started.elapsed());
        self.made += summary.files;
        self.next = end;
    }

    /// A line of the table; answers with the version that was read.
    async fn report(&mut self, done: u64) -> u64 {
        let store = store(self.stream);
        let version = log(&store).await.version;
        let left = left(&store, version).await;
        let rows = read_elsewhere(&self.stream.lake.root, version).await;
        self.latencies.sort_unstable();
        let at = |part: f64| self.latencies[((self.latencies.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
        let log_files = std::fs::read_dir(format!("{}/sales/_delta_log", self.stream.lake.root))
            .expect("the log")
            .count();
        println!(
            "{done:>8} {:>8.1} {:>8.1} {:>8} {log_files:>9} {:>10} {:>10} {:>9.1} {rows:>10}",
            at(0.5),
            at(0.99),
            resident_mib(),
            self.made,
            left.files,
            left.mean() as f64 / 1024.0,
        );
        self.latencies.clear();
        version
    }

    /// The versions that were read on the way, where the log still has them.
    async fn read_again(&self, versions: &[u64]) {
        for version in versions {
            let rows = read_elsewhere(&self.stream.lake.root, *version).await;
            println!("version {version} read again: {rows} rows");
        }
    }

    /// As `affluent lake compact` does when everything has become quiet.
    async fn compact_all(&self) {
        let table = Table::open(JOB, self.stream).await.expect("opens").expect("a table");
        let settings = PlanSettings {
            target: self.stream.lake.target_file_bytes,
            quiet: Duration::ZERO,
            many: usize::MAX,
        };
        let (before, bins) = table.plan(Utc::now(), &settings).await.expect("plans");
        let partitions: BTreeSet<_> = bins.iter().map(|bin| &bin.files[0].partition_values).collect();
        for bin in &bins {
            let outcome = compact::compact(&table.store, &table.log, bin).await.expect("compacts");
            assert!(matches!(outcome, Outcome::Done { .. }), "nobody else writes any more");
        }
        let version = log(&table.store).await.version;
        let (after, rows) = (left(&table.store, version).await, read(self.stream, version).await);
        println!(
            "compacted once more, {} partitions: {} files of {} KiB, before {} of {} KiB; {rows} rows",
            partitions.len(),
            after.files,
            after.mean() / 1024,
            before.files,
            before.mean() / 1024,
        );
    }
}

fn store(stream: &StreamConfig) -> Store {
    let lake = &stream.lake;
    let store = Store::open_existing(&lake.root, &lake.storage, "sales");
    store.expect("a place").expect("a table")
}

async fn log(store: &Store) -> LogTail {
    let log = LogTail::load(store, &AppIds::new(JOB, "sales")).await;
    log.expect("reads the log").expect("a table")
}

async fn left(store: &Store, version: u64) -> Sum {
    let mut left = Sum::default();
    let reading = files::visit(store, version, |state| {
        if let FileState::Active(file) = state {
            left.add(file.size);
        }
    });
    reading.await.expect("reads the log");
    left
}

/// As `read`, by a process of its own: its memory is not the job's.
async fn read_elsewhere(root: &str, version: u64) -> u64 {
    let reader = std::env::current_exe().expect("a path");
    let output = tokio::process::Command::new(reader)
        .args(["--read", root, &version.to_string()])
        .stderr(Stdio::inherit())
        .output();
    let output = output.await.expect("starts");
    assert!(output.status.success(), "version {version} was not read");
    let rows = String::from_utf8(output.stdout).expect("UTF-8");
    rows.trim().parse().expect("a number of rows")
}

/// Reads all rows of a version and proves them: every id once, from 0 up to the version's own progress.
async fn read(stream: &StreamConfig, version: u64) -> u64 {
    let store = &store(stream);
    let then = LogTail::load_at(store, &AppIds::new(JOB, "sales"), version).await;
    let then = then.expect("reads the log").expect("has the version");
    let next = then.progress().next().map_or(0, |(_, _, next)| next);
    let files = files_of(store, version).await.expect("lists the files");
    let mut rows = Rows::new(store, &files, stream.schema.arrow(), Place::default());
    let mut seen = vec![false; next as usize];
    while let Some((_, batch)) = rows.next().await.expect("reads a file") {
        let ids = batch.column(stream.schema.id_index()).as_primitive::<Int64Type>();
        for id in ids.values() {
            let first = !std::mem::replace(&mut seen[*id as usize], true);
            assert!(first, "_id {id} twice in version {version}");
        }
    }
    assert!(seen.iter().all(|seen| *seen), "version {version} lacks rows");
    next as u64
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}
