//! One stream's coordinator: which partitions are read from where, and when the stream ends.
//!
//! Owns: the session (raised whenever something must be read again), the group's assignment as we know it, the
//! committed progress of both sinks, the advisory group offset.
//! Does not own: fetching (`source`), storing (`sink::driver`); it only tells them.
//!
//! ```text
//!   Assigned ─▶ establish: topic id, both progresses, log's ends ─▶ adopt starts ─▶ begin sinks ─▶ fetch
//!       ▲            │ service missing: hold, back off, again                          │
//!       │            │ invariant: stop this stream                                     ▼
//!   next session ◀───┴── Lost / unflushed revoke / offset gone ◀──────────────── Committed … Drained
//! ```

mod establish;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Counters;
use crate::batch::Session;
use crate::config::{Config, StreamConfig};
use crate::error::{Invariant, SinkError};
use crate::event_time::{self, EventTimes};
use crate::health::StreamHealth;
use crate::offsets::{Partition, Progress, RECORDS_PROGRESS, TopicId};
use crate::retry::Backoff;
use crate::sink::driver::{self, SinkHandle};
use crate::sink::{Reason, SinkName};
use crate::source::kafka::KafkaSource;
use crate::source::{Command, Event, FlushDone};
use crate::telemetry;

/// One look at topic and log; longer than a leader election, shorter than anybody's patience.
const KAFKA_TIMEOUT: Duration = Duration::from_secs(10);
/// Progress beyond the log's end is believed only when it stays so this long: after a leader change a replica
/// may briefly know less.
const BEYOND_END_AFTER: Duration = Duration::from_secs(30);
/// The group offset is advisory: committing it more often only costs the broker.
const GROUP_COMMIT_EVERY: Duration = Duration::from_secs(1);
/// `--once` gives up when nothing was read or committed for this many times its patience, although no part is
/// held: a partition without a leader, a member that the group has forgotten.
const STANDSTILL: u32 = 5;
/// Owners may race for recording a start; each round somebody wins.
const ADOPT_ROUNDS: usize = 20;

/// How a stream ended.
#[derive(Debug)]
pub enum StreamEnd {
    /// `--once`: both sinks hold everything up to the ends seen at the start.
    Drained,
    /// Asked to end; `flushed` says whether everything read was committed in time (else it is read again).
    Shutdown { flushed: bool },
    /// An invariant broke; nothing goes on before a person acts.
    Stopped(Invariant),
    /// `--once`: a service was missing for longer than allowed.
    GaveUp(String),
}

/// Everything a coordinator is wired to.
pub struct Wiring {
    pub source: KafkaSource,
    pub source_events: mpsc::UnboundedReceiver<Event>,
    pub sinks: Vec<SinkHandle>,
    pub sink_events: mpsc::UnboundedReceiver<driver::Event>,
    pub stopped: mpsc::UnboundedReceiver<Invariant>,
    pub session: watch::Sender<Session>,
    /// Whether this instance reads the topic's first partition: of all instances one does what only one has to do.
    pub leads: watch::Sender<bool>,
    pub health: StreamHealth,
    pub counters: Arc<Counters>,
    pub shutdown: CancellationToken,
}

/// What a run is asked to do.
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    /// Drain to the ends seen at the start, then end.
    pub once: bool,
    /// Record what is lost at the start, and go on.
    pub accept_loss: bool,
}

pub struct Coordinator {
    config: Arc<Config>,
    stream: StreamConfig,
    once: bool,
    /// Spent by the first success: a person has seen what was lost then, and nothing that comes later.
    accept_loss: bool,
    wiring: Wiring,
    started: Instant,
    /// The group has given us an assignment, be it an empty one.
    joined: bool,
    assigned: BTreeSet<Partition>,
    /// The last grant of partitions that we know of.
    grant: u64,
    /// Being fetched in the current session.
    fetching: BTreeSet<Partition>,
    /// `--once`: where each partition ends, as seen before it was first assigned.
    targets: Progress,
    committed: BTreeMap<SinkName, Progress>,
    /// Highest event times committed.
    event_times: BTreeMap<SinkName, EventTimes>,
    group_committed: Progress,
    topic_id: TopicId,
    /// When to try `establish` again; `None` when nothing is left to do.
    establish_at: Option<Instant>,
    backoff: Backoff,
    beyond_end_since: Option<Instant>,
    next_tick: Instant,
    /// When something last came forward, and how many records had been read then.
    moved: (Instant, u64),
    flushes: tokio::task::JoinSet<(Session, bool)>,
}

/// What wakes the coordinator.
enum Wake {
    Source(Event),
    Sink(driver::Event),
    Invariant(Invariant),
    Flushed(Session, bool),
    Establish,
    Tick,
    Shutdown,
}

impl Coordinator {
    pub fn new(config: Arc<Config>, stream: StreamConfig, mode: Mode, wiring: Wiring) -> Self {
        Self {
            config,
            stream,
            once: mode.once,
            accept_loss: mode.accept_loss,
            wiring,
            started: Instant::now(),
            joined: false,
            assigned: BTreeSet::new(),
            grant: 0,
            fetching: BTreeSet::new(),
            targets: Progress::new(),
            committed: BTreeMap::new(),
            event_times: BTreeMap::new(),
            group_committed: Progress::new(),
            topic_id: TopicId::unknown(),
            establish_at: None,
            backoff: Backoff::default(),
            beyond_end_since: None,
            next_tick: Instant::now(),
            moved: (Instant::now(), 0),
            flushes: tokio::task::JoinSet::new(),
        }
    }

    /// Runs the stream to its end and leaves the group.
    pub async fn run(mut self) -> StreamEnd {
        let end = loop {
            let wake = self.wake().await;
            if let Some(end) = self.handle(wake).await {
                break end;
            }
        };
        if let StreamEnd::Stopped(invariant) = &end {
            self.wiring.health.stopped(invariant);
        }
        let advisory = self.advisory();
        // What is still queued belongs to nobody now: the drivers drop it instead of committing it late.
        self.wiring.session.send_modify(|session| session.0 += 1);
        self.wiring.source.close(advisory).await;
        end
    }

    async fn wake(&mut self) -> Wake {
        let tick = tokio::time::sleep_until(self.next_tick.into());
        let establish = async {
            match self.establish_at {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.wiring.shutdown.cancelled() => Wake::Shutdown,
            // Before the events: steady commits must not keep it from coming.
            () = tick => Wake::Tick,
            Some(invariant) = self.wiring.stopped.recv() => Wake::Invariant(invariant),
            Some(event) = self.wiring.sink_events.recv() => Wake::Sink(event),
            event = self.wiring.source_events.recv() => {
                Wake::Source(event.unwrap_or_else(|| Event::Fatal(Invariant::new(
                    "the pipeline ended in a panic",
                    "see the panic's message above and report it, then start again",
                ))))
            }
            Some(Ok((session, done))) = self.flushes.join_next() => Wake::Flushed(session, done),
            () = establish => Wake::Establish,
        }
    }

    async fn handle(&mut self, wake: Wake) -> Option<StreamEnd> {
        match wake {
            Wake::Source(event) => return self.on_source(event),
            Wake::Sink(driver::Event::Committed {
                sink,
                session,
                progress,
                event_times,
            }) => {
                if session == self.session() {
                    self.committed.entry(sink).or_default().extend(progress);
                    self.event_times.entry(sink).or_default().merge(&event_times);
                    self.moved.0 = Instant::now();
                    self.backoff.reset();
                }
            }
            Wake::Sink(driver::Event::Lost { session, .. }) => {
                if session == self.session() {
                    self.next_session();
                }
            }
            Wake::Sink(driver::Event::Stopped { invariant, .. }) | Wake::Invariant(invariant) => {
                return Some(StreamEnd::Stopped(invariant));
            }
            Wake::Flushed(session, done) if session == self.session() => {
                let shutdown = self.wiring.shutdown.clone();
                return tokio::select! {
                    biased;
                    () = shutdown.cancelled() => None,
                    end = self.on_drained(done) => end,
                };
            }
            Wake::Flushed(..) => {}
            Wake::Establish => {
                // May be dropped at any await: nothing is told to source or sinks before everything is known.
                let shutdown = self.wiring.shutdown.clone();
                return tokio::select! {
                    biased;
                    () = shutdown.cancelled() => None,
                    end = self.try_establish() => end,
                };
            }
            Wake::Tick => return self.on_tick(),
            Wake::Shutdown => {
                return Some(StreamEnd::Shutdown {
                    flushed: self.flush_and_end().await,
                });
            }
        }
        None
    }

    fn on_source(&mut self, event: Event) -> Option<StreamEnd> {
        match event {
            Event::Assigned { partitions, grant } => {
                self.joined = true;
                self.grant = grant;
                self.moved.0 = Instant::now();
                self.assigned.extend(partitions);
                self.tell_who_leads();
                self.establish_at = Some(Instant::now());
            }
            Event::Revoked { partitions, flushed } => self.on_revoked(&partitions, flushed),
            Event::Drained(done) => self.await_flush(done),
            // Only asked for by `flush_and_end`, which reads its answer itself.
            Event::Draining(_) => {}
            Event::LogMoved(why) => {
                warn!(stream = self.stream.name, "{why}: looking at topic and log again");
                self.next_session();
            }
            Event::Fatal(invariant) => return Some(StreamEnd::Stopped(invariant)),
        }
        None
    }

    fn on_revoked(&mut self, partitions: &[Partition], flushed: bool) {
        for partition in partitions {
            self.assigned.remove(partition);
            self.targets.remove(partition);
            self.committed.values_mut().for_each(|progress| {
                progress.remove(partition);
            });
            self.event_times.values_mut().for_each(|times| times.remove(*partition));
        }
        self.tell_who_leads();
        self.moved.0 = Instant::now();
        if self.assigned.is_empty() {
            // With `--once` nothing may be left to do here: a later, empty assignment is not always told.
            self.establish_at = Some(Instant::now());
        }
        let held: Vec<Partition> = partitions.iter().copied().filter(|p| self.fetching.remove(p)).collect();
        if held.is_empty() {
            return;
        }
        if flushed {
            for sink in &self.wiring.sinks {
                sink.send(driver::Command::Release(held.clone()));
            }
        } else {
            // A lake file mixes partitions: what is not committed is dropped whole, the kept ones are re-read.
            self.next_session();
        }
    }

    fn tell_who_leads(&self) {
        let leads = self.assigned.contains(&Partition(0));
        self.wiring
            .leads
            .send_if_modified(|led| std::mem::replace(led, leads) != leads);
    }

    fn await_flush(&mut self, done: FlushDone) {
        let (session, sinks) = (self.session(), self.wiring.sinks.len());
        self.flushes.spawn(async move { (session, done.wait(sinks).await) });
    }

    /// `--once`: everything up to the targets is committed; prove it before saying so.
    async fn on_drained(&mut self, done: bool) -> Option<StreamEnd> {
        // A partition given to us meanwhile is not part of what was flushed.
        if !done || self.assigned != self.fetching {
            self.next_session();
            return None;
        }
        match self.targets_reached().await {
            Ok(true) => Some(StreamEnd::Drained),
            Ok(false) => {
                self.next_session();
                None
            }
            Err(SinkError::Invariant(invariant)) => Some(StreamEnd::Stopped(invariant)),
            Err(error) => {
                warn!(
                    stream = self.stream.name,
                    "cannot re-read the progress at the end: {error}"
                );
                self.next_session();
                None
            }
        }
    }

    /// Re-reads both progresses: what we believe is no proof, another owner may have moved it.
    async fn targets_reached(&self) -> Result<bool, SinkError> {
        if !RECORDS_PROGRESS {
            return Ok(true);
        }
        let partitions: Vec<Partition> = self.assigned.iter().copied().collect();
        for sink in &self.wiring.sinks {
            let stored = sink.progress(&self.topic_id, &partitions).await?;
            let behind = self
                .targets
                .iter()
                .any(|(p, target)| stored.get(p).is_none_or(|s| s.next < *target));
            if behind {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn on_tick(&mut self) -> Option<StreamEnd> {
        self.next_tick = Instant::now() + GROUP_COMMIT_EVERY;
        let advisory = self.advisory();
        if advisory != self.group_committed {
            self.group_committed = advisory.clone();
            self.wiring.source.send(Command::CommitGroup(advisory));
        }
        self.tell_watermarks();
        if !self.once {
            return None;
        }
        let patience = self.config.limits.once_timeout;
        if let Some((part, held, why)) = self.wiring.health.held_longest()
            && held >= patience
        {
            return Some(StreamEnd::GaveUp(format!(
                "{part} has been missing for {}: {why}",
                seconds(held)
            )));
        }
        let records = self.wiring.counters.records();
        if records != self.moved.1 || !self.flushes.is_empty() {
            self.moved = (Instant::now(), records);
        }
        if self.moved.0.elapsed() >= patience * STANDSTILL {
            return Some(StreamEnd::GaveUp(format!(
                "nothing has come forward for {}",
                seconds(self.moved.0.elapsed())
            )));
        }
        if !self.joined && self.started.elapsed() >= patience {
            return Some(StreamEnd::GaveUp(format!(
                "the consumer group {} has assigned nothing for {}",
                self.config.kafka.group,
                seconds(self.started.elapsed())
            )));
        }
        None
    }

    /// Up to where each sink is complete, over the partitions that are ours.
    fn tell_watermarks(&self) {
        let ends = self.wiring.source.seen_ends();
        for sink in &self.wiring.sinks {
            let (committed, times) = (self.committed.get(&sink.name), self.event_times.get(&sink.name));
            let lanes = self.assigned.iter().map(|partition| {
                let next = committed.and_then(|progress| progress.get(partition));
                event_time::Lane {
                    highest: times.and_then(|times| times.get(*partition)),
                    idle: next.is_some_and(|next| ends.is_end(*partition, *next)),
                }
            });
            telemetry::watermark(&self.stream.name, sink.name, event_time::watermark(lanes));
        }
    }

    /// Where both sinks are, per partition; told to the group for lag tools, never read back.
    fn advisory(&self) -> Progress {
        let mut smallest = Progress::new();
        for partition in &self.fetching {
            let next = self
                .wiring
                .sinks
                .iter()
                .map(|s| self.committed.get(&s.name).and_then(|p| p.get(partition)));
            if let Some(next) = next.collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().min()) {
                smallest.insert(*partition, *next);
            }
        }
        smallest
    }

    fn session(&self) -> Session {
        *self.wiring.session.borrow()
    }

    /// Everything read and not committed is dropped; progress is read again and reading starts from there.
    fn next_session(&mut self) {
        self.wiring.session.send_modify(|session| session.0 += 1);
        self.wiring.source.send(Command::Unfetch);
        for sink in &self.wiring.sinks {
            sink.send(driver::Command::Discard);
        }
        self.fetching.clear();
        self.committed.clear();
        self.event_times.clear();
        self.beyond_end_since = None;
        self.establish_later();
    }

    /// The graceful end: what was read is sent down and committed by both sinks, within the time allowed.
    async fn flush_and_end(&mut self) -> bool {
        if self.fetching.is_empty() {
            return true;
        }
        info!(stream = self.stream.name, "ending: committing what was read");
        self.wiring.source.send(Command::Drain(Reason::Shutdown));
        let sinks = self.wiring.sinks.len();
        let flushed = async {
            while let Some(event) = self.wiring.source_events.recv().await {
                if let Event::Draining(done) = event {
                    return done.wait(sinks).await;
                }
            }
            false
        };
        let flushed = tokio::time::timeout(self.config.limits.shutdown_timeout, flushed)
            .await
            .unwrap_or(false);
        while let Ok(event) = self.wiring.sink_events.try_recv() {
            if let driver::Event::Committed { sink, progress, .. } = event {
                self.committed.entry(sink).or_default().extend(progress);
            }
        }
        flushed
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}
