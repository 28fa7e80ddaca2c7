//! Everything outside of the owners, and the wire in between.
//!
//! Owns: requests on their way. Each waits as a [`Request`] until the schedule lets it arrive, with an outcome that
//! the dice choose, and later lets its reply arrive. A request whose owner died or gave up may still arrive, late.
//! Does not own: what a request does (`store`, `deployment`), who goes next (`schedule`).

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::dice::Dice;
use super::operation::{CrashPoint, Operation, Outcome, Tally};
use super::services::Services;
use crate::offsets::Partition;

pub(super) type OwnerId = usize;

/// Shared by both owners and the schedule, all on one thread.
#[derive(Clone)]
pub(super) struct World(Arc<Mutex<State>>);

pub(super) struct State {
    pub dice: Dice,
    pub services: Services,
    pub requests: BTreeMap<u64, Request>,
    sent: u64,
    /// Their owner no longer waits for them.
    pub late: Vec<(Operation, Effect)>,
    /// Of 100 requests, how many go wrong.
    pub fault_percent: usize,
    pub members: [Member; 2],
    pub tally: Tally,
    /// An owner is dying right now; else a future that is dropped was cancelled.
    pub crashing: bool,
    /// Written only when the seed is replayed.
    pub trace: Option<Vec<String>>,
    pub violation: Option<String>,
}

/// What the consumer group told an owner.
#[derive(Clone, Debug, Default)]
pub(super) struct Member {
    pub assigned: BTreeSet<Partition>,
    pub revoked: Option<Revocation>,
}

#[derive(Clone, Debug)]
pub(super) struct Revocation {
    pub partitions: Vec<Partition>,
    /// Else the time was too short to commit what had been read.
    pub flush: bool,
}

/// What a request does where it arrives: the outcome says how much of it, the number is chance of its own.
pub(super) type Effect = Box<dyn FnOnce(&mut Services, Outcome, u64) + Send>;

pub(super) struct Request {
    pub owner: OwnerId,
    pub kind: Kind,
    pub phase: Phase,
    effect: Option<Effect>,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    To(Operation),
    /// An owner's own next step.
    Turn,
    /// A timer of the owner's.
    Clock,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Sent,
    Answered(Outcome),
    Delivered(Outcome),
}

impl World {
    pub fn new(dice: Dice, services: Services, fault_percent: usize, traced: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            dice,
            services,
            requests: BTreeMap::new(),
            sent: 0,
            late: Vec::new(),
            fault_percent,
            members: Default::default(),
            tally: Tally::default(),
            crashing: false,
            trace: traced.then(Vec::new),
            violation: None,
        })))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request and waits for its end. A value comes with every outcome for which the effect took place in
    /// time.
    pub async fn ask<T: Send + 'static>(
        &self,
        owner: OwnerId,
        operation: Operation,
        effect: impl FnOnce(&mut Services, Outcome, u64) -> T + Send + 'static,
    ) -> (Outcome, Option<T>) {
        let answer = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&answer);
        let effect: Effect = Box::new(move |services, outcome, chance| {
            let value = effect(services, outcome, chance);
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        });
        let outcome = self.wait(owner, Kind::To(operation), Some(effect)).await;
        let value = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        (outcome, value)
    }

    /// Lets the others go first, or not.
    pub async fn turn(&self, owner: OwnerId) {
        self.wait(owner, Kind::Turn, None).await;
    }

    /// Lets time pass.
    pub async fn clock(&self, owner: OwnerId) {
        self.wait(owner, Kind::Clock, None).await;
    }

    /// Something that arrives later, or never, without anybody waiting for it.
    pub fn send_late(&self, operation: Operation, effect: Effect) {
        self.state().late.push((operation, effect));
    }

    pub fn note(&self, line: impl FnOnce() -> String) {
        self.state().note(line);
    }

    pub fn violate(&self, what: String) {
        self.state().violate(what);
    }

    fn wait(&self, owner: OwnerId, kind: Kind, effect: Option<Effect>) -> Waiting {
        let mut state = self.state();
        state.sent += 1;
        let request = Request {
            owner,
            kind,
            phase: Phase::Sent,
            effect,
            waker: None,
        };
        let id = state.sent;
        state.requests.insert(id, request);
        Waiting {
            world: self.clone(),
            id,
        }
    }
}

impl State {
    /// The next thing that happens to a request: it arrives, or its reply does.
    pub fn advance(&mut self, id: u64) {
        let request = self.requests.get_mut(&id).expect("chosen among those on their way");
        match (request.kind, request.phase) {
            (Kind::To(operation), Phase::Sent) => {
                let effect = request.effect.take();
                let outcome = self.choose(operation);
                let owner = name(self.requests[&id].owner);
                self.note(|| format!("{owner} {operation:?} #{id} arrives: {outcome:?}"));
                match (outcome, effect) {
                    (Outcome::NotDone, _) | (_, None) => {}
                    (Outcome::Delayed, Some(effect)) => self.late.push((operation, effect)),
                    (outcome, Some(effect)) => self.apply(effect, outcome),
                }
                self.requests.get_mut(&id).expect("still there").phase = Phase::Answered(outcome);
            }
            (Kind::Turn | Kind::Clock, Phase::Sent) => self.deliver(id, Outcome::Done),
            (_, Phase::Answered(outcome)) => self.deliver(id, outcome),
            (_, Phase::Delivered(_)) => {}
        }
    }

    fn choose(&mut self, operation: Operation) -> Outcome {
        let outcome = if self.dice.percent(self.fault_percent) {
            self.dice.one_of(operation.faults())
        } else {
            Outcome::Done
        };
        *self.tally.outcomes.entry((operation, outcome)).or_default() += 1;
        outcome
    }

    fn deliver(&mut self, id: u64, outcome: Outcome) {
        let request = self.requests.get_mut(&id).expect("still there");
        request.phase = Phase::Delivered(outcome);
        if let Some(waker) = request.waker.take() {
            waker.wake();
        }
    }

    pub fn apply(&mut self, effect: Effect, outcome: Outcome) {
        let chance = self.dice.long();
        effect(&mut self.services, outcome, chance);
        self.check();
    }

    pub fn check(&mut self) {
        if let Err(what) = self.services.check() {
            self.violate(what);
        }
    }

    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }

    /// The first one counts.
    pub fn violate(&mut self, what: String) {
        self.note(|| format!("VIOLATION: {what}"));
        self.violation.get_or_insert(what);
    }
}

pub(super) fn name(owner: OwnerId) -> char {
    ['A', 'B'][owner]
}

struct Waiting {
    world: World,
    id: u64,
}

impl Future for Waiting {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let mut state = self.world.state();
        let request = state.requests.get_mut(&self.id).expect("removed below or in drop");
        if let Phase::Delivered(outcome) = request.phase {
            return Poll::Ready(outcome);
        }
        request.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Waiting {
    /// Dropped before its end, it was cancelled or its owner died: what is on the wire may still arrive.
    fn drop(&mut self) {
        let mut state = self.world.state();
        let Some(request) = state.requests.remove(&self.id) else {
            return;
        };
        let Kind::To(operation) = request.kind else { return };
        let point = match request.phase {
            Phase::Sent => CrashPoint::BeforeArrival(operation),
            Phase::Answered(_) => CrashPoint::BeforeReply(operation),
            Phase::Delivered(_) => return,
        };
        if state.crashing {
            *state.tally.crashes.entry(point).or_default() += 1;
        }
        if let Some(effect) = request.effect
            && state.dice.percent(50)
        {
            state.late.push((operation, effect));
        }
    }
}
