//! A sink's driver without its clock: the same commands, the same answers, and the dice say when something is due.
//!
//! Owns: the order in which a sink's contract is used, and that a commit is repeated as long as its service is missing
//! and its session lasts. Follows `sink::driver` step by step (see `owner` for why it is not run itself).

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::owner::{kind, positions};
use super::schedule::Shape;
use super::world::{OwnerId, World, name};
use crate::batch::{Batch, Session};
use crate::error::SinkError;
use crate::offsets::{Partition, Progress, TopicId};
use crate::sink::driver::{Command, Event, moved};
use crate::sink::{Reason, Sink};

pub(super) struct Driver<S> {
    world: World,
    me: OwnerId,
    shape: Arc<Shape>,
    sink: S,
    current: watch::Receiver<Session>,
    events: mpsc::UnboundedSender<Event>,
    /// The session of the last `Begin`; `None` while nothing is owned.
    session: Option<Session>,
    owned: Option<(TopicId, Progress)>,
}

impl<S: Sink> Driver<S> {
    pub fn new(
        world: World,
        me: OwnerId,
        shape: Arc<Shape>,
        sink: S,
        current: watch::Receiver<Session>,
        events: mpsc::UnboundedSender<Event>,
    ) -> Self {
        Self {
            world,
            me,
            shape,
            sink,
            current,
            events,
            session: None,
            owned: None,
        }
    }

    pub async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        loop {
            let command = tokio::select! {
                biased;
                command = commands.recv() => Some(command),
                () = self.world.clock(self.me) => None,
            };
            match command {
                Some(Some(command)) => self.obey(command).await,
                Some(None) => return,
                None if self.sink.pending().moved => {
                    self.commit(Reason::Interval).await;
                }
                None if self.chance(10) => self.reread().await,
                None => {}
            }
            if self.sink.pending().moved && self.chance(self.shape.commit_percent) {
                self.commit(Reason::Size).await;
            }
        }
    }

    fn chance(&self, percent: usize) -> bool {
        self.world.state().dice.percent(percent)
    }

    fn note(&self, line: impl FnOnce() -> String) {
        self.world
            .note(|| format!("{} {} {}", name(self.me), self.sink.name(), line()));
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Progress {
                topic_id,
                partitions,
                reply,
            } => {
                let _ = reply.send(self.sink.progress(&topic_id, &partitions).await);
            }
            Command::Adopt {
                topic_id,
                starts,
                reply,
            } => {
                let _ = reply.send(self.sink.adopt(&topic_id, &starts).await);
            }
            Command::Evolve { reply } => {
                let _ = reply.send(self.sink.evolve().await);
            }
            Command::Standing { reply } => {
                let _ = reply.send(self.sink.standing().await);
            }
            Command::Accept { standing, loss, reply } => {
                let _ = reply.send(self.sink.accept(&standing, &loss).await);
            }
            Command::Begin {
                session,
                topic_id,
                progress,
            } => {
                self.sink.begin(&progress);
                let owned = self.owned.get_or_insert_with(|| (topic_id.clone(), Progress::new()));
                owned.0 = topic_id;
                owned.1.extend(progress);
                self.session = Some(session);
            }
            Command::Batch(batch) => self.write(&batch).await,
            Command::Flush(flush) => {
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

    async fn write(&mut self, batch: &Batch) {
        if self.session != Some(batch.session) || self.is_stale() {
            return;
        }
        if let Err(error) = self.sink.write(batch).await {
            self.give_up(error);
        }
    }

    /// False when it was given up.
    async fn commit(&mut self, reason: Reason) -> bool {
        loop {
            if self.is_stale() {
                self.discard();
                return false;
            }
            let mut current = self.current.clone();
            let mine = self.session;
            // The contract lets a commit be dropped at any point; the real driver lets it end first.
            let cut_short = self.shape.cuts_commits_short && self.chance(50);
            let abandoned = async {
                if !cut_short || current.wait_for(|now| Some(*now) > mine).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            let ended = tokio::select! {
                biased;
                ended = self.sink.commit(reason) => ended,
                () = abandoned => {
                    self.note(|| "drops a commit half-way".to_owned());
                    self.discard();
                    return false;
                }
            };
            match ended {
                Ok(summary) => {
                    if !self.world.state().services.holds(self.sink.name(), &summary.progress) {
                        let claimed = positions(&summary.progress);
                        self.world
                            .violate(format!("{} claims to have committed {claimed}", self.sink.name()));
                    }
                    self.note(|| format!("has committed {}", positions(&summary.progress)));
                    if let Some((_, owned)) = &mut self.owned {
                        owned.extend(summary.progress);
                    }
                    return true;
                }
                Err(SinkError::Infrastructure(_)) => {
                    self.note(|| "holds".to_owned());
                    self.world.clock(self.me).await;
                }
                Err(error) => {
                    self.give_up(error);
                    return false;
                }
            }
        }
    }

    async fn reread(&mut self) {
        let Some((topic_id, owned)) = self.owned.clone() else {
            return;
        };
        let partitions: Vec<Partition> = owned.keys().copied().collect();
        match self.sink.progress(&topic_id, &partitions).await {
            Ok(stored) => {
                if let Some(lost) = moved(&owned, &stored) {
                    self.give_up(lost);
                }
            }
            Err(SinkError::Infrastructure(_)) => {}
            Err(error) => self.give_up(error),
        }
    }

    fn give_up(&mut self, error: SinkError) {
        self.note(|| format!("gives up: {}", kind(&error)));
        let sink = self.sink.name();
        let event = match error {
            SinkError::Invariant(invariant) => Some(Event::Stopped { sink, invariant }),
            _ => self.session.map(|session| Event::Lost { sink, session }),
        };
        if let Some(event) = event {
            let _ = self.events.send(event);
        }
        self.discard();
    }

    fn discard(&mut self) {
        self.sink.discard();
        self.session = None;
        self.owned = None;
    }

    fn is_stale(&self) -> bool {
        self.session.is_some_and(|session| session < *self.current.borrow())
    }
}
