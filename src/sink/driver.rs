//! Drives one sink: when to commit, how to hold out when its service is missing, what to do when ownership is
//! lost. One task per sink and stream; it owns the sink.
//!
//! Owns: cadence, retries, and the belief about the sink's progress.
//! Does not own: how data gets in (`Sink`), which partitions are ours (`pipeline`).
//!
//! Commands arrive in the order of the data's way, so a flush commits exactly what came before it. The queue
//! is not bounded by count: the byte budget, whose permits ride in the batches, bounds it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use tokio::sync::{mpsc, oneshot, watch};

use super::{Pending, Position, Reason, Sink, SinkName};
use crate::batch::{Batch, Session};
use crate::error::{Invariant, SinkError};
use crate::event_time::EventTimes;
use crate::health::{Part, StreamHealth};
use crate::loss::{Loss, Standing};
use crate::offsets::{Partition, Progress, TopicId};
use crate::retry::Backoff;
use crate::schema::evolution::Change;
use crate::source::Flush;
use crate::telemetry;

/// An owner without traffic looks at the stored progress this often: a lost ownership or a restore must be
/// noticed without records coming in.
const IDLE_REREAD: Duration = Duration::from_secs(30);

/// How long the coordinator waits for a driver's answer at a time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// When buffered rows are committed.
#[derive(Clone, Debug)]
pub struct Cadence {
    /// Longest time between a row's arrival and its commit.
    pub interval: Duration,
    /// Commit when nothing new has come for this long.
    pub idle: Option<Duration>,
    pub max_rows: u64,
    pub max_bytes: u64,
}

impl Cadence {
    /// The reason to commit now, if there is one. `oldest`: age of the oldest uncommitted row; `quiet`: time
    /// since the last one came.
    pub fn due(&self, pending: Pending, oldest: Duration, quiet: Duration) -> Option<Reason> {
        if !pending.moved {
            None
        } else if pending.rows >= self.max_rows || pending.bytes >= self.max_bytes {
            Some(Reason::Size)
        } else if pending.full {
            Some(Reason::Memory)
        } else if oldest >= self.interval {
            Some(Reason::Interval)
        } else if self.idle.is_some_and(|idle| quiet >= idle) {
            Some(Reason::Idle)
        } else {
            None
        }
    }

    /// How long until `due` could change its answer without new rows.
    pub fn wait(&self, oldest: Duration, quiet: Duration) -> Duration {
        let interval = self.interval.saturating_sub(oldest);
        self.idle
            .map_or(interval, |idle| interval.min(idle.saturating_sub(quiet)))
    }
}

/// The first partition whose stored progress is not what its owner believes: another owner has moved it.
pub fn moved(believed: &Progress, stored: &BTreeMap<Partition, Position>) -> Option<SinkError> {
    believed.iter().find_map(|(&partition, &expected)| {
        let found = stored.get(&partition).map(|position| position.next);
        (found != Some(expected)).then_some(SinkError::Lost {
            partition,
            expected,
            found,
        })
    })
}

/// Told to a sink's driver.
#[derive(Debug)]
pub enum Command {
    /// One try; the asker repeats.
    Progress {
        topic_id: TopicId,
        partitions: Vec<Partition>,
        reply: oneshot::Sender<Result<BTreeMap<Partition, Position>, SinkError>>,
    },
    Adopt {
        topic_id: TopicId,
        starts: Progress,
        reply: oneshot::Sender<Result<(), SinkError>>,
    },
    /// Take a changed declaration of the fields over.
    Evolve {
        reply: oneshot::Sender<Result<Option<Change>, SinkError>>,
    },
    Standing {
        reply: oneshot::Sender<Result<Standing, SinkError>>,
    },
    Accept {
        standing: Box<Standing>,
        loss: Box<Loss>,
        reply: oneshot::Sender<Result<(), SinkError>>,
    },
    /// Own these partitions from this progress on.
    Begin {
        session: Session,
        topic_id: TopicId,
        progress: Progress,
    },
    Batch(Arc<Batch>),
    Flush(Flush),
    /// Stop owning them; everything of theirs is committed.
    Release(Vec<Partition>),
    /// Drop everything and own nothing until the next `Begin`.
    Discard,
}

/// Told by a driver to the stream's coordinator.
#[derive(Debug)]
pub enum Event {
    Committed {
        sink: SinkName,
        session: Session,
        progress: Progress,
        event_times: EventTimes,
    },
    Lost {
        sink: SinkName,
        session: Session,
    },
    Stopped {
        sink: SinkName,
        invariant: Invariant,
    },
}

/// The coordinator's end of a running driver.
#[derive(Clone, Debug)]
pub struct SinkHandle {
    pub name: SinkName,
    commands: mpsc::UnboundedSender<Command>,
}

impl SinkHandle {
    /// A driver that has ended takes no commands; its last event said why.
    pub fn send(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    pub async fn progress(
        &self,
        topic_id: &TopicId,
        partitions: &[Partition],
    ) -> Result<BTreeMap<Partition, Position>, SinkError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Progress {
            topic_id: topic_id.clone(),
            partitions: partitions.to_vec(),
            reply,
        });
        self.await_answer(answer).await
    }

    pub async fn adopt(&self, topic_id: &TopicId, starts: Progress) -> Result<(), SinkError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Adopt {
            topic_id: topic_id.clone(),
            starts,
            reply,
        });
        self.await_answer(answer).await
    }

    pub async fn evolve(&self) -> Result<Option<Change>, SinkError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Evolve { reply });
        self.await_answer(answer).await
    }

    pub async fn standing(&self) -> Result<Standing, SinkError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Standing { reply });
        self.await_answer(answer).await
    }

    pub async fn accept(&self, standing: &Standing, loss: &Loss) -> Result<(), SinkError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Accept {
            standing: Box::new(standing.clone()),
            loss: Box::new(loss.clone()),
            reply,
        });
        self.await_answer(answer).await
    }
}

impl SinkHandle {
    /// A driver that holds out in a commit answers only when its service is back; the coordinator has other
    /// things to look at meanwhile and asks again.
    async fn await_answer<T>(&self, answer: oneshot::Receiver<Result<T, SinkError>>) -> Result<T, SinkError> {
        match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(ended(self.name))),
            Err(_) => Err(SinkError::Infrastructure(anyhow::anyhow!(
                "the {} sink is busy or held",
                self.name
            ))),
        }
    }
}

fn ended(sink: SinkName) -> SinkError {
    SinkError::Infrastructure(anyhow::anyhow!("the {sink} sink has ended"))
}

/// Starts the driver; it ends when the last handle is dropped. `session` is the coordinator's current one: whatever is older is dropped, also in the
/// middle of holding out for a missing service.
pub fn spawn<S: Sink>(
    sink: S,
    stream: String,
    cadence: Cadence,
    session: watch::Receiver<Session>,
    events: mpsc::UnboundedSender<Event>,
    health: StreamHealth,
    tasks: &mut tokio::task::JoinSet<()>,
) -> SinkHandle {
    let (commands, receiver) = mpsc::unbounded_channel();
    let name = sink.name();
    let part = match name {
        SinkName::Mongo => Part::Mongo,
        SinkName::Lake => Part::Lake,
    };
    let driver = Driver {
        sink,
        stream,
        cadence,
        current: session,
        events,
        health,
        part,
        session: None,
        owned: None,
        oldest: None,
        newest: Instant::now(),
        rereads: Backoff::default(),
        reread_after: IDLE_REREAD,
    };
    let (stream, panicked) = (driver.stream.clone(), driver.events.clone());
    tasks.spawn(async move {
        if std::panic::AssertUnwindSafe(driver.run(receiver))
            .catch_unwind()
            .await
            .is_err()
        {
            let what = format!("the {name} sink of stream {stream} panicked");
            let invariant = Invariant::new(
                what,
                "see the panic's message above and report it; nothing uncommitted is lost",
            );
            let _ = panicked.send(Event::Stopped { sink: name, invariant });
        }
    });
    SinkHandle { name, commands }
}

struct Driver<S> {
    sink: S,
    stream: String,
    cadence: Cadence,
    current: watch::Receiver<Session>,
    events: mpsc::UnboundedSender<Event>,
    health: StreamHealth,
    part: Part,
    /// The session of the last `Begin`; `None` while nothing is owned.
    session: Option<Session>,
    owned: Option<(TopicId, Progress)>,
    /// Arrival of the oldest row not committed.
    oldest: Option<Instant>,
    newest: Instant,
    /// Idle re-reads while the service is missing: it should not take half a minute to be seen back.
    rereads: Backoff,
    reread_after: Duration,
}

/// What wakes the driver.
enum Wake {
    Command(Command),
    /// A cadence or the idle re-read may be due.
    Clock,
    Closed,
}

impl<S: Sink> Driver<S> {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        loop {
            let wake = tokio::select! {
                biased;
                command = commands.recv() => command.map_or(Wake::Closed, Wake::Command),
                () = tokio::time::sleep(self.until_due()) => Wake::Clock,
            };
            match wake {
                Wake::Command(command) => self.obey(command).await,
                Wake::Clock if self.oldest.is_none() => self.reread().await,
                Wake::Clock => {}
                Wake::Closed => return,
            }
            // Judged after every wake, not only after the clock: with `biased`, steady traffic would starve it.
            self.commit_if_due().await;
        }
    }

    fn until_due(&self) -> Duration {
        match self.oldest {
            Some(oldest) => self.cadence.wait(oldest.elapsed(), self.newest.elapsed()),
            None => self.reread_after,
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            // Nobody waits any more; asking the service would only make the next answer late.
            Command::Progress { reply, .. } if reply.is_closed() => {}
            Command::Adopt { reply, .. } | Command::Accept { reply, .. } if reply.is_closed() => {}
            Command::Evolve { reply } if reply.is_closed() => {}
            Command::Standing { reply } if reply.is_closed() => {}
            Command::Progress {
                topic_id,
                partitions,
                reply,
            } => {
                let answer = self.sink.progress(&topic_id, &partitions).await;
                self.note(&answer);
                let _ = reply.send(answer);
            }
            Command::Adopt {
                topic_id,
                starts,
                reply,
            } => {
                let answer = self.sink.adopt(&topic_id, &starts).await;
                self.note(&answer);
                let _ = reply.send(answer);
            }
            Command::Evolve { reply } => {
                let answer = self.sink.evolve().await;
                self.note(&answer);
                let _ = reply.send(answer);
            }
            Command::Standing { reply } => {
                let answer = self.sink.standing().await;
                self.note(&answer);
                let _ = reply.send(answer);
            }
            Command::Accept { standing, loss, reply } => {
                let answer = self.sink.accept(&standing, &loss).await;
                self.note(&answer);
                let _ = reply.send(answer);
            }
            Command::Begin {
                session,
                topic_id,
                progress,
            } => {
                self.sink.begin(&progress);
                telemetry::progress(&self.stream, self.sink.name(), &progress);
                let owned = self.owned.get_or_insert_with(|| (topic_id.clone(), Progress::new()));
                owned.0 = topic_id;
                owned.1.extend(progress);
                self.session = Some(session);
            }
            Command::Batch(batch) => self.write(batch).await,
            Command::Flush(flush) => {
                // Of another session: what it was to commit has been dropped meanwhile.
                let ours = self.session == Some(flush.session);
                if ours && (!self.sink.pending().moved || self.commit(flush.reason).await) {
                    let _ = flush.done.send(());
                }
            }
            Command::Release(partitions) => {
                self.sink.release(&partitions);
                if let Some((_, owned)) = &mut self.owned {
                    owned.retain(|partition, _| !partitions.contains(partition));
                }
            }
            Command::Discard => self.discard(),
        }
    }

    async fn write(&mut self, batch: Arc<Batch>) {
        if self.session != Some(batch.session) || self.is_stale() {
            return;
        }
        // It may wait for a slow store, or for a hung one.
        match self.health.watch(self.part, self.sink.write(&batch)).await {
            Ok(()) => {
                self.newest = Instant::now();
                if self.sink.pending().moved {
                    self.oldest.get_or_insert(self.newest);
                }
            }
            Err(error) => self.give_up(error),
        }
    }

    async fn commit_if_due(&mut self) {
        let Some(oldest) = self.oldest else { return };
        if let Some(reason) = self
            .cadence
            .due(self.sink.pending(), oldest.elapsed(), self.newest.elapsed())
        {
            self.commit(reason).await;
        }
    }

    /// Commits, holding out as long as the service is missing. False when it was given up: ownership lost,
    /// stopped, or a newer session began.
    async fn commit(&mut self, reason: Reason) -> bool {
        let mut backoff = Backoff::default();
        loop {
            if self.is_stale() {
                self.discard();
                return false;
            }
            match self.health.watch(self.part, self.sink.commit(reason)).await {
                Ok(summary) => {
                    self.health.ok(self.part);
                    telemetry::committed(&self.stream, self.sink.name(), reason, &summary);
                    self.oldest = None;
                    if let Some((_, owned)) = &mut self.owned {
                        owned.extend(summary.progress.iter().map(|(p, next)| (*p, *next)));
                    }
                    if let Some(session) = self.session {
                        self.tell(Event::Committed {
                            sink: self.sink.name(),
                            session,
                            progress: summary.progress,
                            event_times: summary.event_times,
                        });
                    }
                    return true;
                }
                Err(SinkError::Infrastructure(error)) => {
                    self.health.held(self.part, format_args!("{error:#}"));
                    tokio::select! {
                        () = tokio::time::sleep(backoff.next_delay()) => {}
                        changed = self.current.changed() => {
                            // The coordinator is gone: the stream has ended.
                            if changed.is_err() {
                                self.discard();
                                return false;
                            }
                        }
                    }
                }
                Err(error) => {
                    self.give_up(error);
                    return false;
                }
            }
        }
    }

    /// Compares the stored progress with what we believe, while there is no traffic to show a difference.
    async fn reread(&mut self) {
        let Some((topic_id, owned)) = self.owned.clone() else {
            return;
        };
        let partitions: Vec<Partition> = owned.keys().copied().collect();
        let asked = self.sink.progress(&topic_id, &partitions);
        let answer = self.health.watch(self.part, asked).await;
        self.note(&answer);
        self.reread_after = match &answer {
            Err(SinkError::Infrastructure(_)) => self.rereads.next_delay(),
            _ => {
                self.rereads.reset();
                IDLE_REREAD
            }
        };
        match answer {
            Ok(stored) => {
                if let Some(lost) = moved(&owned, &stored) {
                    self.give_up(lost);
                }
            }
            // Held: `note` has said so, the next look comes by itself.
            Err(SinkError::Infrastructure(_)) => {}
            // Judged by the coordinator against the topic as it is now: the one that was given to us may be no more.
            Err(SinkError::Invariant(invariant)) => {
                tracing::warn!(
                    stream = self.stream,
                    "looking at topic and progress again: {}",
                    invariant.what
                );
                self.lose();
            }
            Err(error) => self.give_up(error),
        }
    }

    fn note<T>(&self, answer: &Result<T, SinkError>) {
        match answer {
            Ok(_) => self.health.ok(self.part),
            Err(SinkError::Infrastructure(error)) => self.health.held(self.part, format_args!("{error:#}")),
            Err(_) => {}
        }
    }

    fn give_up(&mut self, error: SinkError) {
        let sink = self.sink.name();
        match error {
            SinkError::Invariant(invariant) => self.tell(Event::Stopped { sink, invariant }),
            lost_or_held => {
                if matches!(lost_or_held, SinkError::Infrastructure(_)) {
                    self.health.held(self.part, &lost_or_held);
                }
                telemetry::ownership_lost(&self.stream, sink, &lost_or_held);
                self.lose();
            }
        }
        self.discard();
    }

    /// The coordinator begins a new session, which reads progress again.
    fn lose(&mut self) {
        if let Some(session) = self.session {
            let sink = self.sink.name();
            self.tell(Event::Lost { sink, session });
        }
        self.discard();
    }

    fn discard(&mut self) {
        self.sink.discard();
        self.session = None;
        self.owned = None;
        self.oldest = None;
    }

    /// The coordinator has begun a newer session than the one we work in.
    fn is_stale(&self) -> bool {
        self.session.is_some_and(|session| session < *self.current.borrow())
    }

    /// Nobody listens only while the process is ending.
    fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offsets::Epoch;

    const S: Duration = Duration::from_secs(1);

    fn cadence() -> Cadence {
        Cadence {
            interval: 60 * S,
            idle: Some(10 * S),
            max_rows: 100,
            max_bytes: 1000,
        }
    }

    fn pending(rows: u64, bytes: u64) -> Pending {
        Pending {
            rows,
            bytes,
            moved: true,
            full: false,
        }
    }

    #[test]
    fn commits_by_size_then_interval_then_idleness() {
        assert_eq!(cadence().due(pending(100, 0), S, S), Some(Reason::Size));
        assert_eq!(cadence().due(pending(1, 1000), S, S), Some(Reason::Size));
        let full = Pending {
            full: true,
            ..pending(1, 1)
        };
        assert_eq!(cadence().due(full, S, S), Some(Reason::Memory));
        assert_eq!(cadence().due(pending(1, 1), 60 * S, S), Some(Reason::Interval));
        assert_eq!(cadence().due(pending(1, 1), 11 * S, 10 * S), Some(Reason::Idle));
        assert_eq!(cadence().due(pending(1, 1), 11 * S, 9 * S), None);
    }

    #[test]
    fn progress_over_rejected_records_alone_is_committed_too_but_nothing_is_not() {
        assert_eq!(
            cadence().due(
                Pending {
                    rows: 0,
                    bytes: 0,
                    moved: true,
                    full: false
                },
                60 * S,
                S
            ),
            Some(Reason::Interval)
        );
        assert_eq!(cadence().due(Pending::default(), 60 * S, 60 * S), None);
    }

    #[test]
    fn progress_that_somebody_else_moved_or_removed_is_lost() {
        let believed = Progress::from([(Partition(0), 5), (Partition(1), 7)]);
        let position = |next| Position {
            next,
            untouched: false,
            epoch: Epoch::default(),
            event_time: None,
        };
        let stored = |next| BTreeMap::from([(Partition(0), position(5)), (Partition(1), position(next))]);
        assert!(moved(&believed, &stored(7)).is_none());
        let lost = |stored: &BTreeMap<_, _>| match moved(&believed, stored) {
            Some(SinkError::Lost { partition, found, .. }) => (partition, found),
            other => panic!("{other:?}"),
        };
        assert_eq!(lost(&stored(8)), (Partition(1), Some(8)));
        assert_eq!(lost(&BTreeMap::new()), (Partition(0), None));
    }

    #[test]
    fn sleeps_exactly_until_the_next_reason() {
        assert_eq!(cadence().wait(S, S), 9 * S);
        assert_eq!(cadence().wait(59 * S, S), S);
        assert_eq!(cadence().wait(61 * S, S), Duration::ZERO);
    }
}
