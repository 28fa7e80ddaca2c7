//! Kafka as a source: one `BaseConsumer` per stream on a thread of its own.
//!
//! Owns: the consumer, its assignment, the group's rebalances, pausing when the byte budget is spent.
//! Does not own: where to read (`Command::Fetch` says it), decoding, progress.
//!
//! The group only says which partitions are ours. A rebalance is answered at once with an empty assignment;
//! partitions are fetched when the coordinator has read both sinks' progress, with explicit offsets in the
//! assignment itself: there is no window in which a wrong position is read, and a slow sink cannot make us
//! miss `max.poll.interval.ms`.
//!
//! ```text
//!  rebalance ─▶ Event::Assigned ─▶ (coordinator reads progress) ─▶ Command::Fetch ─▶ assign with offsets
//!  rebalance ─▶ batch + flush down the pipeline, wait a while ─▶ unassign ─▶ Event::Revoked
//! ```

mod client;
mod context;
mod cut;
mod fatal;
mod probe;

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc as std_mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, Message};
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};
use tokio::sync::{mpsc, watch};
use tracing::{debug, warn};

use self::client::{consumer_config, instance_id};
use self::context::{Context, Rebalance};
use self::cut::{Cutter, Taken};
use super::budget::Budget;
use super::{Command, Cutting, Event, Flush, FlushDone, Item, SeenEnds};
use crate::batch::{Buffers, Session};
use crate::config::{KafkaConfig, StreamConfig};
use crate::error::Invariant;
use crate::health::{Part, StreamHealth};
use crate::offsets::{Epoch, Partition, Progress, TopicId};
use crate::sink::Reason;
use crate::telemetry;

/// Longest wait in `poll`: commands are looked at in between.
const POLL: Duration = Duration::from_millis(20);
/// How often a full pipeline is tried again.
const BLOCKED_POLL: Duration = Duration::from_millis(5);
/// Pausing throws away what was prefetched: a pipeline that is full for less than this is waited for instead.
const PAUSE_AFTER: Duration = Duration::from_secs(1);
/// How long leaving the group may take at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Records taken between two looks at the clock and the commands.
const BURST: usize = 256;

/// The running source of one stream.
#[derive(Debug)]
pub struct KafkaSource {
    commands: std_mpsc::Sender<Command>,
    ends: watch::Receiver<SeenEnds>,
    thread: JoinHandle<()>,
}

/// Where a source's output goes.
#[derive(Debug)]
pub struct Outlets {
    pub items: mpsc::Sender<Item>,
    /// Memory of batches that the pipeline is done with.
    pub spares: mpsc::Receiver<Buffers>,
    pub events: mpsc::UnboundedSender<Event>,
    pub budget: Budget,
    pub health: StreamHealth,
}

impl KafkaSource {
    /// Joins the group. Nothing is fetched before the first `Command::Fetch`.
    pub fn start(
        kafka: &KafkaConfig,
        stream: &StreamConfig,
        cutting: Cutting,
        prefetch_bytes: u64,
        outlets: Outlets,
    ) -> anyhow::Result<Self> {
        let config = consumer_config(kafka, stream, prefetch_bytes);
        let consumer = connect(&config)?;
        consumer
            .subscribe(&[&stream.topic])
            .with_context(|| format!("cannot subscribe to {}", stream.topic))?;
        let (commands, receiver) = std_mpsc::channel();
        let (seen_ends, ends) = watch::channel(SeenEnds::default());
        let fetcher = Fetcher {
            config,
            consumer,
            stream: stream.name.clone(),
            topic: stream.topic.clone(),
            group: kafka.group.clone(),
            instance: instance_id(kafka, stream),
            cutter: Cutter::new(cutting.clone()),
            cutting,
            outlets,
            seen_ends,
            commands: receiver,
            assigned: BTreeMap::new(),
            grant: 0,
            topic_id: TopicId::unknown(),
            topic_changes: Cell::new(None),
            epoch: Epoch::default(),
            outbox: VecDeque::new(),
            blocked: None,
            paused: false,
            drained: false,
            healthy: false,
            heard: Instant::now(),
            renewed: Instant::now(),
            probed: Instant::now(),
        };
        let thread = std::thread::Builder::new()
            .name(format!("source-{}", stream.name))
            .spawn(move || fetcher.run())
            .context("cannot start the source's thread")?;
        Ok(Self { commands, ends, thread })
    }

    /// Where the log was last seen to end.
    pub fn seen_ends(&self) -> watch::Ref<'_, SeenEnds> {
        self.ends.borrow()
    }

    /// A source that has ended takes no commands; its last event said why.
    pub fn send(&self, command: Command) {
        if self.commands.send(command).is_err() {
            debug!("the source has ended already");
        }
    }

    /// Leaves the group and waits for the thread, within reason: while the group rebalances, the client's last words
    /// stand in line behind a join that may take minutes. Both sinks have committed by now, so nothing depends on it.
    pub async fn close(self, progress: Progress) {
        self.send(Command::Close(progress));
        let joined = tokio::task::spawn_blocking(move || self.thread.join());
        match tokio::time::timeout(CLOSE_TIMEOUT, joined).await {
            Ok(Ok(Ok(()))) => {}
            Ok(_) => warn!("the source's thread ended in a panic"),
            Err(_) => warn!("the group does not let us leave: it will notice by its session timeout"),
        }
    }
}

fn connect(config: &ClientConfig) -> anyhow::Result<BaseConsumer<Context>> {
    let created = config.create_with_context(Context::default());
    created.context("cannot create the Kafka consumer")
}

struct Fetcher {
    config: ClientConfig,
    consumer: BaseConsumer<Context>,
    stream: String,
    topic: String,
    group: String,
    /// Our name as a static member of the group.
    instance: Option<String>,
    cutting: Cutting,
    cutter: Cutter,
    outlets: Outlets,
    seen_ends: watch::Sender<SeenEnds>,
    commands: std_mpsc::Receiver<Command>,
    /// What the group gave us.
    /// …and with which grant.
    assigned: BTreeMap<Partition, u64>,
    grant: u64,
    /// What the positions count offsets of, and at which change of the client's own id it was found to be that.
    topic_id: TopicId,
    topic_changes: Cell<Option<u64>>,
    epoch: Epoch,
    /// Cut and not yet taken by the pipeline, with its bytes; a batch in front may wait for the budget.
    outbox: VecDeque<(Item, usize)>,
    blocked: Option<Instant>,
    paused: bool,
    /// This session's end of `--once` has been told.
    drained: bool,
    healthy: bool,
    /// When Kafka last showed that it answers.
    heard: Instant,
    renewed: Instant,
    probed: Instant,
}

/// What the loop does next.
enum Next {
    Go,
    Close,
}

impl Fetcher {
    fn run(mut self) {
        while let Next::Go = self.step() {}
        self.consumer.context().close();
        self.unfetch();
        // Dropping the consumer leaves the group.
    }

    fn step(&mut self) -> Next {
        self.tell_ends();
        loop {
            match self.commands.try_recv() {
                Ok(Command::Close(progress)) => {
                    // Closing waits for it, but not for ever, as a synchronous commit would.
                    self.commit_group(&progress);
                    return Next::Close;
                }
                Ok(command) => self.obey(command),
                Err(std_mpsc::TryRecvError::Empty) => break,
                Err(std_mpsc::TryRecvError::Disconnected) => return Next::Close,
            }
        }
        match self.pump() {
            Pumped::All => self.unblock(),
            Pumped::Full => return self.wait_blocked(),
            Pumped::Closed => return Next::Close,
        }
        self.poll_burst();
        self.rebalance();
        self.probe();
        if self.cutter.due(Instant::now()) {
            self.cut();
        }
        if self.cutting.once && !self.drained && self.cutter.all_reached() {
            self.drained = true;
            self.cut();
            let done = self.flush(Reason::Drained);
            self.tell(Event::Drained(done));
        }
        Next::Go
    }

    fn tell_ends(&mut self) {
        let blind = self.paused || !self.healthy;
        let moved = self.cutter.take_moved_ends();
        self.seen_ends.send_if_modified(|seen| {
            let changed = moved.is_some() || seen.blind != blind;
            seen.blind = blind;
            if let Some(at) = moved {
                seen.at = at;
            }
            changed
        });
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Fetch {
                session,
                grant,
                topic_id,
                epoch,
                from,
                ends,
            } => {
                self.topic_id = topic_id;
                self.topic_changes.set(None);
                self.epoch = epoch;
                self.fetch(session, grant, from, ends);
            }
            Command::Unfetch => {
                self.unfetch();
                self.outbox.clear();
            }
            Command::Drain(reason) => {
                self.cut();
                self.unfetch();
                let done = self.flush(reason);
                self.tell(Event::Draining(done));
            }
            Command::CommitGroup(progress) => self.commit_group(&progress),
            Command::Close(_) => {}
        }
    }

    fn commit_group(&self, progress: &Progress) {
        let ours = progress
            .iter()
            .filter(|(p, _)| self.assigned.contains_key(p))
            .map(|(p, next)| (*p, *next))
            .collect();
        let list = self.list(&ours);
        // Without a broker it would only hold up the closing.
        if list.count() == 0 || !self.healthy {
            return;
        }
        if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
            debug!("group offsets were not committed (they are advisory): {error}");
        }
    }

    /// Reads these partitions from these offsets, beside those already being read in the same session.
    fn fetch(&mut self, session: Session, grant: u64, mut from: Progress, ends: Progress) {
        if session != self.cutter.session() {
            self.unfetch();
            self.outbox.clear();
        }
        // A partition may have been revoked, or revoked and given again, while its progress was being read: the
        // events on their way to the coordinator will bring newer positions.
        from.retain(|p, _| self.assigned.get(p).is_some_and(|given| *given <= grant) && !self.cutter.fetches(*p));
        if !from.is_empty() {
            self.drained = false;
        }
        self.cutter.fetch(session, &from, &ends);
        let assigned = match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.consumer.incremental_assign(&self.list(&from)),
            _ => self.consumer.assign(&self.list(&self.cutter.positions())),
        };
        match assigned {
            // A pause set before the assignment would survive it.
            Ok(()) => self.set_paused(false),
            Err(error) => self.tell(Event::Fatal(self.unable(&format!("cannot assign partitions: {error}")))),
        }
        if !from.is_empty() {
            telemetry::reading(&self.stream, &from);
        }
    }

    /// Stops fetching; what was read and not cut is dropped.
    fn unfetch(&mut self) {
        let fetched = self.cutter.positions();
        let unassigned = match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.consumer.incremental_unassign(&self.list(&fetched)),
            _ => self.consumer.assign(&TopicPartitionList::new()),
        };
        if let (Err(error), false) = (unassigned, fetched.is_empty()) {
            debug!("cannot stop fetching: {error}");
        }
        self.cutter.forget();
    }

    fn poll_burst(&mut self) {
        let mut timeout = POLL.min(self.cutting.linger);
        let mut heard = false;
        for _ in 0..BURST {
            match self.consumer.poll(timeout) {
                None => break,
                Some(_) if self.is_another_topic() => return self.leave_topic(),
                Some(Ok(message)) => {
                    let partition = message.partition();
                    let taken = self.cutter.take(&message);
                    heard = true;
                    match taken {
                        Taken::Yes | Taken::Ignored => {}
                        Taken::PastEnd => self.pause_one(partition),
                    }
                    if self.cutter.is_full() {
                        break;
                    }
                }
                Some(Err(error)) => self.poll_error(error),
            }
            timeout = Duration::ZERO;
        }
        if heard {
            self.healthy_again();
        }
    }

    /// Is what was just polled of another topic than the one whose offsets we count?
    fn is_another_topic(&self) -> bool {
        let changes = self.consumer.context().topic_changes();
        if self.topic_changes.get() == Some(changes) {
            return false;
        }
        let theirs = self.consumer.context().topic_id();
        let same = theirs.is_none_or(|id| id == self.topic_id || !id.is_known() || !self.topic_id.is_known());
        if same {
            self.topic_changes.set(Some(changes));
        }
        !same
    }

    /// Nothing of the new topic is taken.
    fn leave_topic(&mut self) {
        if !self.cutter.positions().is_empty() {
            self.unfetch();
            self.tell(Event::LogMoved(format!("topic {} was re-created", self.topic)));
        }
    }

    fn poll_error(&mut self, error: KafkaError) {
        match error {
            KafkaError::PartitionEOF(partition) => {
                self.healthy_again();
                let eof = self.consumer.context().take_eof();
                if let Some(eof) = eof {
                    self.cutter.end_of(Partition(partition), eof);
                }
            }
            KafkaError::MessageConsumptionFatal(_) => {
                self.tell(Event::Fatal(self.unable(&error.to_string())));
            }
            KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset) => {
                self.tell(Event::LogMoved(format!(
                    "Kafka no longer holds an offset of topic {} that has to be read next",
                    self.topic
                )));
            }
            // One broker's connection comes and goes; librdkafka mends it. These do not mend themselves.
            KafkaError::MessageConsumption(
                RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition,
            ) => {
                self.healthy = false;
                self.outlets.health.held(Part::Kafka, error);
            }
            other => debug!("Kafka client: {other}"),
        }
    }

    /// Why the client cannot go on: its fatal error where it has one, else what was seen.
    fn unable(&self, seen: &str) -> Invariant {
        let (code, reason) = match self.consumer.client().fatal_error() {
            Some((code, reason)) => (Some(code), reason),
            None => (None, seen.to_owned()),
        };
        let member = fatal::Member {
            stream: &self.stream,
            group: &self.group,
            instance: self.instance.as_deref(),
        };
        fatal::invariant(code, &reason, member)
    }

    fn rebalance(&mut self) {
        let rebalances = self.consumer.context().take_rebalances();
        for rebalance in rebalances {
            self.healthy_again();
            match rebalance {
                Rebalance::Assign(partitions) => self.assign(partitions),
                Rebalance::Revoke(partitions) => self.revoke(partitions),
            }
        }
    }

    /// Accepts ownership; fetching starts with `Command::Fetch`.
    fn assign(&mut self, partitions: Vec<Partition>) {
        let empty = TopicPartitionList::new();
        let accepted = match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.consumer.incremental_assign(&empty),
            _ => self.consumer.assign(&empty),
        };
        if let Err(error) = accepted {
            warn!(stream = self.stream, "cannot accept the assignment: {error}");
        }
        self.grant += 1;
        let grant = self.grant;
        self.assigned.extend(partitions.iter().map(|p| (*p, grant)));
        self.tell(Event::Assigned { partitions, grant });
    }

    /// Gives partitions back. What was read of them is flushed first, within the time the group grants.
    fn revoke(&mut self, partitions: Vec<Partition>) {
        let ours: Vec<Partition> = partitions.iter().copied().filter(|p| self.cutter.fetches(*p)).collect();
        // When the assignment is already lost somebody else may be writing: the fences would refuse us anyway.
        let flushed =
            ours.is_empty() || (!self.consumer.assignment_lost() && self.flush_within(self.cutting.revoke_timeout));
        let list = self.list(&ours.iter().map(|p| (*p, 0)).collect());
        let released = match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.consumer.incremental_unassign(&list),
            _ => self.consumer.unassign(),
        };
        if let Err(error) = released {
            warn!(stream = self.stream, "cannot give partitions back: {error}");
        }
        for partition in &partitions {
            self.assigned.remove(partition);
            self.cutter.remove(*partition);
        }
        telemetry::revoked(&self.stream, &partitions, flushed);
        self.tell(Event::Revoked { partitions, flushed });
    }

    /// Sends what was read and waits for both sinks to commit it.
    fn flush_within(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        self.cut();
        let mut done = self.flush(Reason::Revoke);
        while Instant::now() < deadline {
            match self.pump() {
                Pumped::Closed => return false,
                Pumped::All | Pumped::Full => {}
            }
            if let Some(complete) = done.poll(self.cutting.sinks) {
                return complete;
            }
            std::thread::sleep(BLOCKED_POLL);
        }
        false
    }

    fn cut(&mut self) {
        let spares = &mut self.outlets.spares;
        if let Some((raw, bytes)) = self.cutter.cut(|| spares.try_recv().ok()) {
            telemetry::fetched(&self.stream, raw.records.len());
            self.outbox.push_back((Item::Batch { raw, epoch: self.epoch }, bytes));
        }
    }

    fn flush(&mut self, reason: Reason) -> FlushDone {
        let (flush, done) = Flush::new(self.cutter.session(), reason);
        self.outbox.push_back((Item::Flush(flush), 0));
        done
    }

    /// Hands over what is waiting, as far as the budget and the pipeline take it.
    fn pump(&mut self) -> Pumped {
        while let Some((mut item, bytes)) = self.outbox.pop_front() {
            if let Item::Batch { raw, .. } = &mut item
                && raw.permit.is_none()
            {
                raw.permit = self.outlets.budget.try_take(bytes);
                if raw.permit.is_none() {
                    self.outbox.push_front((item, bytes));
                    return Pumped::Full;
                }
            }
            match self.outlets.items.try_send(item) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(item)) => {
                    self.outbox.push_front((item, bytes));
                    return Pumped::Full;
                }
                Err(mpsc::error::TrySendError::Closed(_)) => return Pumped::Closed,
            }
        }
        Pumped::All
    }

    /// The pipeline is full. For a moment simply wait: librdkafka goes on prefetching and heartbeating. After
    /// that, pause and go on polling, so that the group does not give us up.
    fn wait_blocked(&mut self) -> Next {
        let since = *self.blocked.get_or_insert_with(Instant::now);
        if since.elapsed() < PAUSE_AFTER {
            std::thread::sleep(BLOCKED_POLL);
            return Next::Go;
        }
        if !self.paused {
            self.set_paused(true);
        }
        self.poll_burst();
        self.rebalance();
        self.probe();
        Next::Go
    }

    fn unblock(&mut self) {
        self.blocked = None;
        if self.paused && self.outlets.budget.has_room(self.cutting.max_bytes) {
            self.set_paused(false);
        }
    }

    fn set_paused(&mut self, paused: bool) {
        let list = self.list(&self.cutter.positions());
        let done = if paused {
            self.consumer.pause(&list)
        } else {
            self.consumer.resume(&list)
        };
        match done {
            Ok(()) => self.paused = paused,
            Err(error) => debug!("cannot pause or resume: {error}"),
        }
    }

    fn pause_one(&self, partition: i32) {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, partition);
        if let Err(error) = self.consumer.pause(&list) {
            debug!("cannot pause: {error}");
        }
    }

    fn list(&self, progress: &Progress) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(progress.len());
        for (partition, offset) in progress {
            list.add_partition_offset(&self.topic, partition.0, KafkaOffset::Offset(*offset))
                .expect("offsets read from a sink or from Kafka are not negative");
        }
        list
    }

    /// Nobody listens only while the process is ending.
    fn tell(&self, event: Event) {
        let _ = self.outlets.events.send(event);
    }
}

enum Pumped {
    All,
    Full,
    Closed,
}
