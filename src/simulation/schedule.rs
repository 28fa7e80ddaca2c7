//! Who goes next: one run from its seed, on one thread, without a clock.
//!
//! Owns: the order of everything. At each step the dice choose: a request on the wire goes one half further, or
//! something happens to an owner or a service. At the end the faults stop, one owner stays, and has to finish.
//! Does not own: what the steps do.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use super::dice::Dice;
use super::log::{Log, schema};
use super::operation::{Event, Outcome, Tally};
use super::owner;
use super::services::{ROLLUP, STREAM, Services};
use super::world::{Kind, OwnerId, Phase, Revocation, World, name};
use crate::config::{Every, LakeConfig, Measure, MongoConfig, RollupConfig, StreamConfig, Tombstones};
use crate::offsets::{Partition, TopicId};

/// A healthy owner finishes well within this many steps from wherever it begins.
const STEPS_TO_FINISH: usize = 20_000;

/// What is fixed for a run.
pub(super) struct Shape {
    pub stream: StreamConfig,
    pub batch_records: usize,
    /// How eagerly a driver commits after each command.
    pub commit_percent: usize,
    pub cuts_commits_short: bool,
    steps: usize,
    event_percent: usize,
}

pub(super) struct Ended {
    pub violation: Option<String>,
    pub tally: Tally,
    pub trace: Vec<String>,
}

/// Runs a seed to its end, or to the first violation.
pub(super) fn run(seed: u64, traced: bool) -> Ended {
    let mut schedule = Schedule::new(seed, traced);
    for _ in 0..schedule.shape.steps {
        if !schedule.step() {
            return schedule.end();
        }
    }
    schedule.calm_down();
    for _ in 0..STEPS_TO_FINISH {
        if !schedule.step() {
            return schedule.end();
        }
        if schedule.world.state().services.finished() {
            let checked = schedule.world.state().services.check_end();
            if let Err(what) = checked {
                schedule.world.violate(what);
            }
            return schedule.end();
        }
    }
    schedule.world.violate("a healthy owner does not finish".to_owned());
    schedule.end()
}

struct Schedule {
    world: World,
    shape: Arc<Shape>,
    owners: [Owner; 2],
    calm: bool,
}

#[derive(Default)]
struct Owner {
    /// `None`: dead.
    life: Option<Pin<Box<dyn Future<Output = ()>>>>,
    woken: Arc<Woken>,
    asleep: bool,
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Schedule {
    fn new(seed: u64, traced: bool) -> Self {
        let mut dice = Dice::new(seed);
        let log = Log::new(&mut dice);
        let topic_id = if dice.percent(50) {
            known_topic()
        } else {
            TopicId::unknown()
        };
        let services = Services::new(log, topic_id, dice.percent(25));
        let shape = Arc::new(Shape::new(&mut dice));
        let fault_percent = dice.one_of(&[0, 5, 15, 30]);
        let world = World::new(dice, services, fault_percent, traced);
        let mut schedule = Self {
            world,
            shape,
            owners: Default::default(),
            calm: false,
        };
        (0..2).for_each(|owner| schedule.start(owner));
        schedule
    }

    fn end(self) -> Ended {
        let mut state = self.world.state();
        Ended {
            violation: state.violation.take(),
            tally: std::mem::take(&mut state.tally),
            trace: state.trace.take().unwrap_or_default(),
        }
    }

    /// A new process; it is given all partitions, and so is the other one.
    fn start(&mut self, owner: OwnerId) {
        self.give_all(owner);
        let life = owner::live(self.world.clone(), owner, Arc::clone(&self.shape));
        self.owners[owner] = Owner {
            life: Some(Box::pin(life)),
            woken: Arc::new(Woken(AtomicBool::new(true))),
            asleep: false,
        };
    }

    fn give_all(&self, owner: OwnerId) {
        let mut state = self.world.state();
        let all: BTreeSet<Partition> = state.services.log.partitions().into_iter().collect();
        state.members[owner].assigned = all;
        state.members[owner].revoked = None;
    }

    fn kill(&mut self, owner: OwnerId) {
        self.world.state().crashing = true;
        self.owners[owner].life = None;
        self.world.state().crashing = false;
    }

    /// False when an invariant is broken.
    fn step(&mut self) -> bool {
        self.poll();
        let event_percent = if self.calm { 5 } else { self.shape.event_percent };
        let eventful = self.world.state().dice.percent(event_percent);
        if eventful {
            self.happen();
        } else {
            self.advance();
        }
        self.world.state().violation.is_none()
    }

    fn poll(&mut self) {
        for owner in &mut self.owners {
            let Some(life) = &mut owner.life else { continue };
            while !owner.asleep && owner.woken.0.swap(false, Ordering::Relaxed) {
                let waker = Waker::from(Arc::clone(&owner.woken));
                if life.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                    // It has said why.
                    owner.life = None;
                    break;
                }
            }
        }
    }

    /// One half of a request. What a sleeper sent arrives, but nothing reaches it.
    fn advance(&mut self) {
        let asleep = self.owners.each_ref().map(|owner| owner.asleep);
        let mut state = self.world.state();
        let can = |owner: OwnerId, kind, phase| !asleep[owner] || (phase == Phase::Sent && matches!(kind, Kind::To(_)));
        let all = state.requests.iter();
        let mut possible: Vec<(u64, Kind)> = all
            .filter(|(_, r)| can(r.owner, r.kind, r.phase))
            .map(|(id, r)| (*id, r.kind))
            .collect();
        // Time passes slowly beside the wire, but it passes.
        let quick = possible.iter().any(|(_, kind)| *kind != Kind::Clock);
        if quick && !state.dice.percent(15) {
            possible.retain(|(_, kind)| *kind != Kind::Clock);
        }
        if !possible.is_empty() {
            let (id, _) = possible[state.dice.below(possible.len())];
            state.advance(id);
        }
    }

    /// Something that nobody asked for.
    fn happen(&mut self) {
        let (event, owner) = {
            let mut state = self.world.state();
            (choose(&mut state.dice), state.dice.below(2))
        };
        let done = if self.calm {
            // What is on the wire still arrives, and the server ends what nobody ends.
            matches!(event, Event::LateArrival | Event::Replication | Event::Expiry) && self.happen_to_services(event)
        } else {
            match event {
                Event::Crash | Event::Restart | Event::Sleep | Event::Wake => self.happen_to_owner(event, owner),
                Event::Revoke | Event::Regain => self.happen_to_member(event, owner),
                _ => self.happen_to_services(event),
            }
        };
        if done {
            let mut state = self.world.state();
            *state.tally.events.entry(event).or_default() += 1;
            state.note(|| format!("* {event:?} ({})", name(owner)));
            state.check();
        }
    }

    fn happen_to_owner(&mut self, event: Event, owner: OwnerId) -> bool {
        let it = &mut self.owners[owner];
        match event {
            Event::Crash if it.life.is_some() => self.kill(owner),
            Event::Restart if it.life.is_none() => self.start(owner),
            Event::Sleep if it.life.is_some() && !it.asleep => it.asleep = true,
            Event::Wake if it.asleep => it.asleep = false,
            _ => return false,
        }
        true
    }

    fn happen_to_member(&mut self, event: Event, owner: OwnerId) -> bool {
        if event == Event::Regain {
            self.give_all(owner);
            return true;
        }
        let mut state = self.world.state();
        let assigned = state.members[owner].assigned.clone();
        let partitions: Vec<Partition> = assigned.into_iter().filter(|_| state.dice.percent(60)).collect();
        let flush = state.dice.percent(70);
        let revoked = !partitions.is_empty();
        state.members[owner].revoked = revoked.then_some(Revocation { partitions, flush });
        revoked
    }

    fn happen_to_services(&mut self, event: Event) -> bool {
        let mut state = self.world.state();
        let state = &mut *state;
        match event {
            Event::LateArrival if !state.late.is_empty() => {
                let (operation, effect) = state.late.swap_remove(state.dice.below(state.late.len()));
                state.note(|| format!("  late: {operation:?}"));
                if state.dice.percent(90) {
                    state.apply(effect, Outcome::Done);
                }
            }
            Event::Replication => state.services.mongo.replicate(),
            Event::Failover => state.services.mongo.fail_over(),
            Event::Expiry => match state.services.mongo.open().as_slice() {
                [] => return false,
                open => state.services.mongo.abort(state.dice.one_of(open)),
            },
            Event::Deletion => {
                let chance = state.dice.below(1000);
                return state.services.delete_document(chance);
            }
            Event::Maintenance => return state.services.lake.maintain(),
            Event::PartitionAdded => {
                let added = state.services.log.add_partition();
                let all = state.services.log.partitions();
                state
                    .members
                    .iter_mut()
                    .for_each(|member| member.assigned.extend(all.iter().copied()));
                return added;
            }
            Event::TopicIdKnown if !state.services.topic_id.is_known() => state.services.topic_id = known_topic(),
            _ => return false,
        }
        true
    }

    /// No more faults; one owner stays, as it is or as a new process.
    fn calm_down(&mut self) {
        self.calm = true;
        let (stays, anew) = {
            let mut state = self.world.state();
            state.fault_percent = 0;
            (state.dice.below(2), state.dice.percent(50))
        };
        self.kill(1 - stays);
        if anew || self.owners[stays].life.is_none() {
            self.kill(stays);
            self.start(stays);
        }
        self.owners[stays].asleep = false;
        self.give_all(stays);
        self.world
            .note(|| format!("* {} stays alone, without faults", name(stays)));
    }
}

fn choose(dice: &mut Dice) -> Event {
    let mut point = dice.below(Event::ALL.iter().map(|(_, weight)| weight).sum());
    let chosen = Event::ALL.iter().find(|(_, weight)| {
        let found = point < *weight;
        point = point.saturating_sub(*weight);
        found
    });
    chosen.expect("the point lies below the sum").0
}

fn known_topic() -> TopicId {
    TopicId("abcdefghijklmnopqrstuv".to_owned())
}

impl Shape {
    fn new(dice: &mut Dice) -> Self {
        Self {
            stream: stream(dice),
            batch_records: 1 + dice.below(3),
            commit_percent: dice.one_of(&[5, 30, 80]),
            cuts_commits_short: dice.percent(40),
            steps: 100 + dice.below(400),
            event_percent: dice.one_of(&[1, 5, 15]),
        }
    }
}

fn stream(dice: &mut Dice) -> StreamConfig {
    let measures = [("readings", Measure::Count), ("total", Measure::Sum(2))];
    StreamConfig {
        name: STREAM.to_owned(),
        topic: STREAM.to_owned(),
        dead_letter_topic: String::new(),
        schema: Arc::new(schema()),
        rollups: vec![RollupConfig {
            name: ROLLUP.to_owned(),
            every: Every::Seconds(60),
            by: vec![1],
            measures: measures
                .iter()
                .map(|(name, measure)| ((*name).to_owned(), *measure))
                .collect(),
            expire_after: None,
        }],
        tombstones: Tombstones::DeadLetter,
        max_record_bytes: 1 << 20,
        max_dead_letters: None,
        former_schema: false,
        mongo: MongoConfig {
            enabled: true,
            uri: String::new(),
            database: String::new(),
            flush_interval: Duration::ZERO,
            max_flush_rows: dice.one_of(&[1, 3, 1000]),
            insert_batch_rows: 1 + dice.below(3),
            insert_concurrency: 1 + dice.below(2),
        },
        lake: LakeConfig {
            enabled: true,
            root: String::new(),
            commit_interval: Duration::ZERO,
            idle_interval: Duration::ZERO,
            target_file_bytes: dice.one_of(&[1, 1 << 20]),
            max_open_bytes: dice.one_of(&[1, 4 << 10, 1 << 20]),
            upkeep: Default::default(),
            storage: Default::default(),
        },
    }
}
