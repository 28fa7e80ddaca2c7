//! `affluent run`: the recipe that wires a job together. Long-lived tasks are spawned here and in `pipeline`.
//!
//! Order of the end: stop fetching → flush both sinks → tell the group → leave it → stop serving. A second
//! signal exits at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::batch::Session;
use crate::config::{Config, StreamConfig};
use crate::error::{Exit, Exits, SinkError};
use crate::health::{Health, Part, StreamHealth};
use crate::memory::{self, OpenShare, StreamMemory};
use crate::offsets::RECORDS_PROGRESS;
use crate::pipeline::coordinator::{Coordinator, Mode, StreamEnd, Wiring};
use crate::pipeline::{self, Counters, admission};
use crate::retry::Backoff;
use crate::serve;
use crate::sink::driver::{self, Cadence, SinkHandle};
use crate::sink::lake::LakeSink;
use crate::sink::mongo::MongoSink;
use crate::sink::{Sink, SinkName};
use crate::source::Cutting;
use crate::source::kafka::{KafkaSource, Outlets};
use crate::telemetry;
use crate::upkeep;

/// How long the sinks' tasks may take to notice that their stream has ended.
const LAST_GRACE: Duration = Duration::from_secs(5);
/// What a build without progress wants to see set, so that it is never taken for another.
const WITHOUT_PROGRESS: &str = "AFFLUENT_BENCH_WITHOUT_PROGRESS";

/// Ingest for ever, or with --once drain to the end offsets seen at the start and exit
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Drain every partition to the end seen at the start, then exit
    #[arg(long)]
    pub once: bool,
    /// Go on over what is lost at the start of this run: offsets that Kafka no longer holds, a topic that was
    /// re-created, rows that were taken out of the lake's table. What is passed over is recorded in both sinks.
    /// Without this flag such a stream stops and names the range
    #[arg(long)]
    pub accept_loss: bool,
    /// Take up declared fields that another declaration has replaced. Without this flag an instance that declares them
    /// counts as one that nobody brought up to date, and is refused
    #[arg(long)]
    pub former_schema: bool,
    /// Only these streams (repeatable); all of the configuration otherwise
    #[arg(long = "stream", value_name = "NAME")]
    pub streams: Vec<String>,
}

pub async fn run(args: RunArgs, config: &Config) -> anyhow::Result<Exit> {
    if !RECORDS_PROGRESS && std::env::var_os(WITHOUT_PROGRESS).is_none() {
        let message = format!(
            "this build has the feature bench-without-progress: it would store everything again at every start; build it \
             without, or set {WITHOUT_PROGRESS} to measure with it"
        );
        return Err(Exits::error(Exit::Usage, message));
    }
    let streams = select(config, &args.streams)?;
    let config = Arc::new(config.clone());
    let shutdown = CancellationToken::new();
    end_on_signals(shutdown.clone())?;
    let board = Health::default();
    // Before anybody can ask: a board without a part would count as ready.
    for stream in &streams {
        board.for_stream(&stream.name).starting(parts(stream));
    }
    let metrics = telemetry::init_metrics()?;
    let small = tokio::spawn(telemetry::keep_small(metrics.clone(), shutdown.child_token()));
    let server = serve::start(&config, metrics, board.clone(), false, shutdown.child_token()).await?;

    let memory = memory::divide(&config, &streams);
    let mut running = tokio::task::JoinSet::new();
    for (mut stream, memory) in streams.into_iter().zip(memory) {
        stream.former_schema = args.former_schema;
        let (config, board, shutdown) = (config.clone(), board.clone(), shutdown.clone());
        running.spawn(async move {
            let started = Instant::now();
            let counters = Arc::new(Counters::default());
            let name = stream.name.clone();
            let mode = Mode {
                once: args.once,
                accept_loss: args.accept_loss,
            };
            let end = run_stream(config, stream, mode, board, memory, shutdown, counters.clone()).await;
            report(&name, &end, &counters, started);
            end
        });
    }
    let mut exit = Exit::Ok;
    while let Some(end) = running.join_next().await {
        exit = worse(exit, exit_of(&end?));
    }
    shutdown.cancel();
    if let Some(server) = server {
        server.await?;
    }
    small.await?;
    Ok(exit)
}

/// The streams asked for, or all; an unknown name is a usage error that lists the known ones.
pub fn select(config: &Config, names: &[String]) -> anyhow::Result<Vec<StreamConfig>> {
    let known: Vec<&str> = config.streams.iter().map(|s| s.name.as_str()).collect();
    if let Some(unknown) = names.iter().find(|n| !known.contains(&n.as_str())) {
        let message = format!(
            "no stream is called {unknown:?}; the configuration has: {}",
            known.join(", ")
        );
        return Err(Exits::error(Exit::Usage, message));
    }
    Ok(config
        .streams
        .iter()
        .filter(|s| names.is_empty() || names.contains(&s.name))
        .cloned()
        .collect())
}

/// What a stream needs from outside.
fn parts(stream: &StreamConfig) -> impl Iterator<Item = Part> {
    let sinks = [
        stream.mongo.enabled.then_some(Part::Mongo),
        stream.lake.enabled.then_some(Part::Lake),
    ];
    std::iter::once(Part::Kafka).chain(sinks.into_iter().flatten())
}

async fn run_stream(
    config: Arc<Config>,
    stream: StreamConfig,
    mode: Mode,
    board: Health,
    memory: StreamMemory,
    shutdown: CancellationToken,
    counters: Arc<Counters>,
) -> StreamEnd {
    let health = board.for_stream(&stream.name);
    let (session, session_watch) = watch::channel(Session(0));
    let (sink_sender, sink_events) = mpsc::unbounded_channel();
    let patience = mode.once.then_some(config.limits.once_timeout);
    let opening = Opening {
        stream: &stream,
        health: &health,
        shutdown: &shutdown,
        patience,
    };
    let mut tasks = tokio::task::JoinSet::new();
    let mut spawning = Spawning {
        stream: &stream,
        flush_bytes: memory.flush_bytes,
        session: &session_watch,
        events: &sink_sender,
        health: &health,
        tasks: &mut tasks,
    };
    let sinks = match open_sinks(&config.job, &opening, memory.open_files, &mut spawning).await {
        Ok(sinks) => sinks,
        Err(end) => return end,
    };
    let admitted = tokio::select! {
        admitted = admission::judge(&stream, &sinks) => admitted,
        () = shutdown.cancelled() => return StreamEnd::Shutdown { flushed: true },
    };
    if let Err(invariant) = admitted {
        health.stopped(&invariant);
        return StreamEnd::Stopped(invariant);
    }

    let (stop_sender, stopped) = mpsc::unbounded_channel();
    let (event_sender, source_events) = mpsc::unbounded_channel();
    let cutting = cutting(&config, mode.once, sinks.len());
    let wired = pipeline::start(
        &config.kafka,
        &stream,
        sinks.clone(),
        session_watch,
        counters.clone(),
        health.clone(),
        stop_sender,
    )
    .and_then(|inlet| {
        let outlets = Outlets {
            items: inlet.items,
            spares: inlet.spares,
            events: event_sender,
            budget: memory.budget,
            health: health.clone(),
        };
        KafkaSource::start(&config.kafka, &stream, cutting, memory.prefetch_bytes, outlets)
    });
    let source = match wired {
        Ok(source) => source,
        Err(error) => return StreamEnd::GaveUp(format!("{error:#}")),
    };
    let (leads, leading) = watch::channel(false);
    if stream.lake.enabled && stream.lake.upkeep.enabled && !mode.once {
        upkeep::start(&config.job, &stream, leading, shutdown.clone());
    }
    let wiring = Wiring {
        source,
        source_events,
        sinks,
        sink_events,
        stopped,
        session,
        leads,
        health,
        counters,
        shutdown,
    };
    let end = Coordinator::new(config, stream, mode, wiring).run().await;
    // The coordinator held the last handles: the drivers end by themselves, if need be in the middle of a retry.
    let drained = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_GRACE, drained).await.is_err() {
        tasks.abort_all();
    }
    end
}

/// Opens the sinks that the stream has, and starts their drivers.
async fn open_sinks(
    job: &str,
    opening: &Opening<'_>,
    open_files: OpenShare,
    spawning: &mut Spawning<'_>,
) -> Result<Vec<SinkHandle>, StreamEnd> {
    let stream = opening.stream;
    let mut sinks = Vec::new();
    if stream.mongo.enabled {
        let sink = opening.open(Part::Mongo, || MongoSink::connect(job, stream)).await?;
        sinks.push(spawning.spawn(sink));
    }
    if stream.lake.enabled {
        let sink = opening.open(Part::Lake, || LakeSink::open(job, stream)).await?;
        sinks.push(spawning.spawn(sink.sharing(open_files)));
    }
    Ok(sinks)
}

fn cutting(config: &Config, once: bool, sinks: usize) -> Cutting {
    let limits = &config.limits;
    Cutting {
        max_records: limits.max_batch_records,
        max_bytes: limits.max_batch_bytes,
        linger: limits.batch_linger,
        once,
        revoke_timeout: limits.revoke_timeout,
        sinks,
    }
}

/// Starting a stream's sink drivers.
struct Spawning<'a> {
    stream: &'a StreamConfig,
    flush_bytes: u64,
    session: &'a watch::Receiver<Session>,
    events: &'a mpsc::UnboundedSender<driver::Event>,
    health: &'a StreamHealth,
    tasks: &'a mut tokio::task::JoinSet<()>,
}

impl Spawning<'_> {
    fn spawn<S: Sink>(&mut self, sink: S) -> SinkHandle {
        let stream = self.stream;
        let cadence = match sink.name() {
            SinkName::Mongo => Cadence {
                interval: stream.mongo.flush_interval,
                idle: None,
                max_rows: stream.mongo.max_flush_rows as u64,
                max_bytes: self.flush_bytes,
            },
            SinkName::Lake => Cadence {
                interval: stream.lake.commit_interval,
                idle: Some(stream.lake.idle_interval),
                max_rows: u64::MAX,
                // It closes files in time, and says when that did not help.
                max_bytes: u64::MAX,
            },
        };
        let (session, events) = (self.session.clone(), self.events.clone());
        driver::spawn(
            sink,
            stream.name.clone(),
            cadence,
            session,
            events,
            self.health.clone(),
            self.tasks,
        )
    }
}

/// Opening a sink: waits for a missing service, says so, and gives up only where `--once` says so.
struct Opening<'a> {
    stream: &'a StreamConfig,
    health: &'a StreamHealth,
    shutdown: &'a CancellationToken,
    patience: Option<Duration>,
}

impl Opening<'_> {
    async fn open<S, F>(&self, part: Part, mut open: impl FnMut() -> F) -> Result<S, StreamEnd>
    where
        F: Future<Output = Result<S, SinkError>>,
    {
        let started = Instant::now();
        let mut backoff = Backoff::default();
        loop {
            let opened = tokio::select! {
                opened = open() => opened,
                () = self.shutdown.cancelled() => return Err(StreamEnd::Shutdown { flushed: true }),
            };
            let why = match opened {
                Ok(sink) => return Ok(sink),
                Err(SinkError::Invariant(invariant)) => {
                    self.health.stopped(&invariant);
                    return Err(StreamEnd::Stopped(invariant));
                }
                Err(error) => format!("{error}"),
            };
            self.health.held(part, &why);
            if self.patience.is_some_and(|patience| started.elapsed() >= patience) {
                let waited = started.elapsed().as_secs();
                return Err(StreamEnd::GaveUp(format!(
                    "stream {}: {part} has been missing for {waited} s: {why}",
                    self.stream.name
                )));
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next_delay()) => {}
                () = self.shutdown.cancelled() => return Err(StreamEnd::Shutdown { flushed: true }),
            }
        }
    }
}

/// First signal: end gracefully. Second: exit at once. Signals are caught from the moment this returns.
pub(crate) fn end_on_signals(shutdown: CancellationToken) -> anyhow::Result<()> {
    let caught = |kind| signal(kind).context("cannot listen for signals");
    let (mut interrupt, mut terminate) = (caught(SignalKind::interrupt())?, caught(SignalKind::terminate())?);
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        next().await;
        info!("ending; a second signal exits at once");
        shutdown.cancel();
        next().await;
        std::process::exit(130);
    });
    Ok(())
}

fn report(stream: &str, end: &StreamEnd, counters: &Counters, started: Instant) {
    let (records, dead_letters) = (counters.records(), counters.dead_letters());
    let seconds = started.elapsed().as_secs_f64();
    match end {
        StreamEnd::Drained => info!(
            stream,
            records,
            dead_letters,
            seconds = (seconds * 1000.0).round() / 1000.0,
            records_per_second = (records as f64 / seconds).round(),
            "drained: both sinks hold everything up to the ends seen at the start"
        ),
        StreamEnd::Shutdown { flushed: true } => {
            info!(stream, records, dead_letters, "ended, everything read is committed")
        }
        StreamEnd::Shutdown { flushed: false } => {
            error!(
                stream,
                "ended before everything read was committed: it will be read again at the next start"
            );
        }
        // Logged where it happened.
        StreamEnd::Stopped(_) => {}
        StreamEnd::GaveUp(why) => error!(stream, "gave up: {why}"),
    }
}

fn exit_of(end: &StreamEnd) -> Exit {
    match end {
        StreamEnd::Drained | StreamEnd::Shutdown { flushed: true } => Exit::Ok,
        StreamEnd::Stopped(_) => Exit::Bad,
        StreamEnd::Shutdown { flushed: false } | StreamEnd::GaveUp(_) => Exit::Infrastructure,
    }
}

/// The exit of several streams: a stop that a person has to look at outweighs a missing service.
fn worse(a: Exit, b: Exit) -> Exit {
    match (a, b) {
        (Exit::Bad, _) | (_, Exit::Bad) => Exit::Bad,
        (Exit::Ok, other) | (other, Exit::Ok) => other,
        (a, _) => a,
    }
}
