//! An owner: one process that believes what its consumer group told it, in front of the real sinks.
//!
//! Owns: the part of the coordinator and of the sinks' drivers that decides delivery — look, plan, adopt, begin, read,
//! write, commit, hold out, discard — with the dice in place of their clocks. It speaks their own commands and events.
//! Does not own: the decisions (`resume`, `sink`), the schedule.
//!
//! The real `sink::driver` and `pipeline::coordinator` are not run here: their cadence is wall-clock time with jitter,
//! which no seed can repeat, and the coordinator wants a real Kafka source. The whole-job tests run them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::deployment::SimulatedDeployment;
use super::driver::Driver;
use super::lake::JOB;
use super::operation::{Operation, Outcome};
use super::schedule::Shape;
use super::store::SimulatedStore;
use super::world::{OwnerId, Revocation, World, name};
use crate::batch::Session;
use crate::error::SinkError;
use crate::lake::store::Store;
use crate::offsets::{OffsetRange, Partition, Progress, TopicId};
use crate::resume::{self, Known, Plan};
use crate::sink::driver::{Command, Event};
use crate::sink::lake::LakeSink;
use crate::sink::mongo::MongoSink;
use crate::sink::{Position, Reason, SinkName};
use crate::source::Flush;

/// As the coordinator: each round somebody wins.
const ADOPT_ROUNDS: usize = 20;
/// Turns a revoked partition may hold up the rebalance.
const REVOKE_TURNS: usize = 20;

/// Lives until it is dropped.
pub(super) async fn live(world: World, me: OwnerId, shape: Arc<Shape>) {
    let store = SimulatedStore {
        world: world.clone(),
        owner: me,
    };
    let lake = loop {
        let store = Store::from_objects(Arc::new(store.clone()), "the simulation");
        match LakeSink::on(store, JOB, &shape.stream).await {
            Ok(sink) => break sink,
            Err(SinkError::Infrastructure(_)) => world.clock(me).await,
            Err(error) => return world.violate(format!("{} cannot open the lake: {error}", name(me))),
        }
    };
    let mongo = MongoSink::on(SimulatedDeployment::new(world.clone(), me), JOB, &shape.stream);
    let (session, current) = watch::channel(Session(1));
    let (events, received) = mpsc::unbounded_channel();
    let (mongo_commands, mongo_received) = mpsc::unbounded_channel();
    let (lake_commands, lake_received) = mpsc::unbounded_channel();
    let mongo = Driver::new(
        world.clone(),
        me,
        Arc::clone(&shape),
        mongo,
        current.clone(),
        events.clone(),
    );
    let lake = Driver::new(world.clone(), me, Arc::clone(&shape), lake, current, events);
    let coordinator = Coordinator {
        world,
        me,
        shape,
        session,
        sinks: [(SinkName::Mongo, mongo_commands), (SinkName::Lake, lake_commands)],
        events: received,
        topic_id: TopicId::unknown(),
        reading: Progress::new(),
    };
    futures::join!(coordinator.run(), mongo.run(mongo_received), lake.run(lake_received));
}

struct Coordinator {
    world: World,
    me: OwnerId,
    shape: Arc<Shape>,
    session: watch::Sender<Session>,
    sinks: [(SinkName, mpsc::UnboundedSender<Command>); 2],
    events: mpsc::UnboundedReceiver<Event>,
    topic_id: TopicId,
    /// Partitions being read in this session: the next offset.
    reading: Progress,
}

impl Coordinator {
    async fn run(mut self) {
        loop {
            self.listen();
            if let Some(revocation) = self.revocation() {
                self.hand_over(revocation).await;
            }
            let assigned = self.world.state().members[self.me].assigned.clone();
            let wanted: Vec<Partition> = assigned.into_iter().filter(|p| !self.reading.contains_key(p)).collect();
            if !wanted.is_empty() && !self.establish(&wanted).await {
                self.world.clock(self.me).await;
                continue;
            }
            if self.read().await {
                self.world.turn(self.me).await;
            } else {
                self.world.clock(self.me).await;
            }
        }
    }

    fn session(&self) -> Session {
        *self.session.borrow()
    }

    fn note(&self, line: impl FnOnce() -> String) {
        self.world.note(|| format!("{} {}", name(self.me), line()));
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for (_, sink) in &self.sinks {
            let _ = sink.send(command());
        }
    }

    fn listen(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            match event {
                Event::Lost { session, .. } if session == self.session() => self.next_session(),
                Event::Lost { .. } | Event::Committed { .. } => {}
                Event::Stopped { sink, invariant } => {
                    self.world
                        .violate(format!("{}'s {sink} sink stops: {invariant}", name(self.me)));
                }
            }
        }
    }

    fn next_session(&mut self) {
        self.session.send_modify(|session| session.0 += 1);
        self.tell(|| Command::Discard);
        self.reading.clear();
        self.note(|| format!("begins session {}", self.session().0));
    }

    fn revocation(&mut self) -> Option<Revocation> {
        let member = &mut self.world.state().members[self.me];
        let revocation = member.revoked.take()?;
        member.assigned.retain(|p| !revocation.partitions.contains(p));
        Some(revocation)
    }

    /// Commits what was read of the partitions, if time allows; else everything is dropped and the rest read again.
    async fn hand_over(&mut self, revocation: Revocation) {
        let held: Vec<Partition> = (revocation.partitions.into_iter())
            .filter(|p| self.reading.remove(p).is_some())
            .collect();
        if held.is_empty() {
            return;
        }
        let (flush, mut done) = Flush::new(self.session(), Reason::Revoke);
        self.tell(|| Command::Flush(flush.clone()));
        drop(flush);
        let mut flushed = None;
        for _ in 0..if revocation.flush { REVOKE_TURNS } else { 0 } {
            self.world.clock(self.me).await;
            flushed = done.poll(self.sinks.len());
            if flushed.is_some() {
                break;
            }
        }
        self.note(|| format!("hands over {held:?}, flushed: {flushed:?}"));
        if flushed == Some(true) {
            self.tell(|| Command::Release(held.clone()));
        } else {
            self.next_session();
        }
    }

    /// Starts reading these partitions. False: not now.
    async fn establish(&mut self, wanted: &[Partition]) -> bool {
        self.topic_id = self.world.state().services.topic_id.clone();
        let (from, known) = match self.agree_on_positions().await {
            Ok(agreed) => agreed,
            Err(SinkError::Invariant(invariant)) => {
                self.world.violate(format!("{} stops: {invariant}", name(self.me)));
                return false;
            }
            Err(error) => {
                self.note(|| format!("cannot establish: {}", kind(&error)));
                return false;
            }
        };
        for (sink, commands) in &self.sinks {
            let next = wanted
                .iter()
                .filter_map(|p| Some((*p, known.get(p)?.recorded.get(sink).copied()??.next)));
            let progress: Progress = next.collect();
            self.note(|| format!("owns in {sink}: {}", positions(&progress)));
            let _ = commands.send(Command::Begin {
                session: self.session(),
                topic_id: self.topic_id.clone(),
                progress,
            });
        }
        self.reading
            .extend(wanted.iter().filter_map(|p| Some((*p, *from.get(p)?))));
        true
    }

    async fn agree_on_positions(&self) -> Result<(Progress, BTreeMap<Partition, Known>), SinkError> {
        let mut doubted = false;
        for _ in 0..ADOPT_ROUNDS {
            let known = self.look().await?;
            let plan = match resume::plan(&known) {
                Ok(plan) => plan,
                Err(_) if !std::mem::replace(&mut doubted, true) => continue,
                Err(invariant) => return Err(invariant.into()),
            };
            match plan {
                Plan::Read(from) => return Ok((from, known)),
                Plan::Adopt { sink, starts } => {
                    self.note(|| format!("records {} in {sink}", positions(&starts)));
                    let (reply, answer) = oneshot::channel();
                    let topic_id = self.topic_id.clone();
                    self.ask(
                        sink,
                        Command::Adopt {
                            topic_id,
                            starts,
                            reply,
                        },
                    );
                    match answered(answer.await) {
                        Ok(()) | Err(SinkError::Lost { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Err(SinkError::Infrastructure(anyhow::anyhow!("the starts keep changing")))
    }

    async fn look(&self) -> Result<BTreeMap<Partition, Known>, SinkError> {
        let partitions = self.world.state().services.log.partitions();
        let mut known: BTreeMap<Partition, Known> = BTreeMap::new();
        for (sink, _) in &self.sinks {
            let (reply, answer) = oneshot::channel();
            let (topic_id, partitions) = (self.topic_id.clone(), partitions.clone());
            self.ask(
                *sink,
                Command::Progress {
                    topic_id,
                    partitions: partitions.clone(),
                    reply,
                },
            );
            let recorded: BTreeMap<Partition, Position> = answered(answer.await)?;
            for partition in partitions {
                let of = known.entry(partition).or_default();
                of.recorded.insert(*sink, recorded.get(&partition).copied());
            }
        }
        let state = &mut *self.world.state();
        for (partition, known) in &mut known {
            if state.services.latest {
                known.start = state.dice.below(state.services.log.end(*partition) as usize + 1) as i64;
            }
        }
        Ok(known)
    }

    fn ask(&self, sink: SinkName, command: Command) {
        let commands = self.sinks.iter().find(|(name, _)| *name == sink);
        let _ = commands.map(|(_, commands)| commands.send(command));
    }

    /// Reads one micro-batch and hands it to both sinks, dead letters first. False at the end of the log.
    async fn read(&mut self) -> bool {
        let covered = self.cut();
        if covered.is_empty() {
            return false;
        }
        let dead: Vec<_> = {
            let log = &self.world.state().services.log;
            let dead = covered
                .iter()
                .flat_map(|(p, range)| log.dead(*p, *range).map(|offset| (*p, offset)));
            dead.collect()
        };
        let session = self.session();
        while !dead.is_empty() {
            let letters: VecDeque<_> = dead.iter().copied().collect();
            let store = self
                .world
                .ask(self.me, Operation::DeadLetters, move |services, outcome, _| {
                    if outcome != Outcome::Refused {
                        services.letters.extend(letters);
                    }
                });
            if store.await.0 == Outcome::Done {
                break;
            }
            // What follows a newer session is dropped by the drivers, as everywhere.
            self.world.clock(self.me).await;
        }
        for (partition, range) in &covered {
            self.reading.insert(*partition, range.end);
        }
        self.note(|| format!("reads {}", ranges(&covered)));
        let batch = Arc::new(self.world.state().services.log.batch(session, covered));
        self.tell(|| Command::Batch(Arc::clone(&batch)));
        true
    }

    /// The next offsets of one or two partitions.
    fn cut(&self) -> BTreeMap<Partition, OffsetRange> {
        let state = &mut *self.world.state();
        let log = &state.services.log;
        let mut open: Vec<(Partition, i64)> = self.reading.iter().map(|(p, next)| (*p, *next)).collect();
        open.retain(|(p, next)| *next < log.end(*p));
        let mut covered = BTreeMap::new();
        for _ in 0..open.len().min(1 + state.dice.below(2)) {
            let (partition, next) = open.swap_remove(state.dice.below(open.len()));
            let end = next + 1 + state.dice.below(self.shape.batch_records) as i64;
            covered.insert(partition, OffsetRange::new(next, end.min(log.end(partition))));
        }
        covered
    }
}

/// A driver that has ended has reported why.
fn answered<T>(answer: Result<Result<T, SinkError>, oneshot::error::RecvError>) -> Result<T, SinkError> {
    answer.unwrap_or_else(|error| Err(SinkError::infrastructure(error)))
}

/// Without the text, which may name files by their random names.
pub(super) fn kind(error: &SinkError) -> String {
    match error {
        SinkError::Infrastructure(_) => "held".to_owned(),
        lost_or_stopped => lost_or_stopped.to_string(),
    }
}

pub(super) fn positions(progress: &Progress) -> String {
    let all = progress.iter().map(|(partition, next)| format!("{partition}@{next}"));
    all.collect::<Vec<_>>().join(" ")
}

fn ranges(covered: &BTreeMap<Partition, OffsetRange>) -> String {
    let all: BTreeSet<String> = covered
        .iter()
        .map(|(partition, range)| format!("{partition}@{range}"))
        .collect();
    all.into_iter().collect::<Vec<_>>().join(" ")
}
