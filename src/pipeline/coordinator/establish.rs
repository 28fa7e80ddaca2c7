//! From an assignment to reading: what both sinks and the log say, and what follows from it.
//!
//! Owns: the order of looking (progress first, ends after it), taking a changed declaration over, recording a first
//! start, passing over accepted losses. Does not own: the judgements, which are pure (`resume`, `loss`).

use std::collections::BTreeMap;
use std::time::Instant;

use chrono::Utc;
use tracing::{info, warn};

use super::{ADOPT_ROUNDS, BEYOND_END_AFTER, Coordinator, KAFKA_TIMEOUT, StreamEnd};
use crate::config::Start;
use crate::error::{Invariant, SinkError};
use crate::health::Part;
use crate::kafka::admin;
use crate::loss;
use crate::offsets::{Epoch, Partition, Progress};
use crate::resume::{self, Known, Plan};
use crate::sink::SinkName;
use crate::sink::driver::{self, SinkHandle};
use crate::source::Command;

impl Coordinator {
    pub(super) async fn try_establish(&mut self) -> Option<StreamEnd> {
        self.establish_at = None;
        match self.establish().await {
            Ok(()) => {
                self.accept_loss = false;
                // Assigned nothing: other instances have it all, and `--once` has nothing to do here.
                (self.once && self.joined && self.assigned.is_empty()).then_some(StreamEnd::Drained)
            }
            Err(SinkError::Invariant(invariant)) => match self.pass_over_loss(invariant).await {
                Ok(()) => {
                    self.establish_at = Some(Instant::now());
                    None
                }
                Err(SinkError::Invariant(invariant)) => Some(StreamEnd::Stopped(invariant)),
                Err(_) => {
                    self.establish_later();
                    None
                }
            },
            // Where a service failed it has put itself on the health board.
            Err(SinkError::Lost { .. } | SinkError::Infrastructure(_)) => {
                self.establish_later();
                None
            }
        }
    }

    /// Looks again after the backoff's next delay.
    pub(super) fn establish_later(&mut self) {
        self.establish_at = Some(Instant::now() + self.backoff.next_delay());
    }

    /// An invariant is broken. Where it is a loss that a person has accepted, or one that another run recorded in
    /// one sink only, it is recorded and `Ok`: look again. Everything else comes back, with the choices.
    async fn pass_over_loss(&self, invariant: Invariant) -> Result<(), SinkError> {
        let mut standings = BTreeMap::new();
        for sink in &self.wiring.sinks {
            match sink.standing().await {
                Ok(standing) => standings.insert(sink.name, standing),
                // The sink cannot even say where it is: what it said first counts.
                Err(SinkError::Invariant(_)) => return Err(invariant.into()),
                Err(error) => return Err(error),
            };
        }
        if let Some((sink, loss)) = loss::unfinished(&standings) {
            info!(stream = self.stream.name, %sink, loss = loss.id, "recording an accepted loss in the other sink, too");
            return self.sink(sink).accept(&standings[&sink], loss).await;
        }
        let (kafka, topic) = (&self.config.kafka, &self.stream.topic);
        let description = self.kafka(admin::describe_topic(kafka, topic, KAFKA_TIMEOUT).await)?;
        let Some(description) = description else {
            return Err(invariant.into());
        };
        let marks = self.kafka(admin::watermarks(kafka, topic, &description.partitions, KAFKA_TIMEOUT).await)?;
        let lows = marks.iter().map(|(partition, marks)| (*partition, marks.low)).collect();
        let Some(loss) = loss::assess(&description.id, &lows, &standings, Utc::now()) else {
            return Err(invariant.into());
        };
        if !self.accept_loss {
            let choices = format!(
                "{}; or go on without them: `affluent run --accept-loss --stream {}` records and passes over {loss}",
                invariant.choices, self.stream.name
            );
            return Err(Invariant::new(invariant.what, choices).into());
        }
        warn!(stream = self.stream.name, loss = loss.id, "accepted as lost: {loss}");
        // The lake first: a half that is recorded must be the one that keeps the whole record.
        for sink in [SinkName::Lake, SinkName::Mongo] {
            if let Some(standing) = standings.get(&sink) {
                self.sink(sink).accept(standing, &loss).await?;
            }
        }
        Ok(())
    }

    fn sink(&self, name: SinkName) -> &SinkHandle {
        let sink = self.wiring.sinks.iter().find(|sink| sink.name == name);
        sink.expect("asked for by a sink's own name")
    }

    /// Starts fetching what is assigned and not fetched yet.
    async fn establish(&mut self) -> Result<(), SinkError> {
        let wanted: Vec<Partition> = self.assigned.difference(&self.fetching).copied().collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let topic = self.kafka(admin::describe_topic(&self.config.kafka, &self.stream.topic, KAFKA_TIMEOUT).await)?;
        let Some(topic) = topic else {
            return self.kafka(Err(anyhow::anyhow!(
                "topic {} does not exist: create it",
                self.stream.topic
            )));
        };
        self.topic_id = topic.id;
        self.take_over_schema().await?;
        let (from, known, ends) = self.agree_on_positions(&topic.partitions).await?;
        let mine = |progress: &Progress| -> Progress {
            wanted
                .iter()
                .filter_map(|p| progress.get(p).map(|next| (*p, *next)))
                .collect()
        };
        let from = mine(&from);
        self.check_ends(&from, &ends)?;
        let mut epoch = Epoch::default();
        for sink in &self.wiring.sinks {
            let mut progress = Progress::new();
            let mut event_times = Vec::new();
            for partition in &wanted {
                if let Some(Some(position)) = known.get(partition).and_then(|k| k.recorded.get(&sink.name)) {
                    progress.insert(*partition, position.next);
                    event_times.extend(position.event_time.map(|time| (*partition, time)));
                    epoch = epoch.max(position.epoch);
                }
            }
            self.committed.entry(sink.name).or_default().extend(progress.clone());
            let known = self.event_times.entry(sink.name).or_default();
            known.merge(&event_times.into_iter().collect());
            sink.send(driver::Command::Begin {
                session: self.session(),
                topic_id: self.topic_id.clone(),
                progress,
            });
        }
        for (partition, end) in mine(&ends) {
            self.targets.entry(partition).or_insert(end);
        }
        let ends = if self.once { mine(&self.targets) } else { mine(&ends) };
        self.fetching.extend(from.keys());
        if from.len() < wanted.len() {
            // Partitions were added and the broker that answered does not know them yet.
            self.establish_later();
        }
        let (session, grant) = (self.session(), self.grant);
        self.wiring.source.send(Command::Fetch {
            session,
            grant,
            topic_id: self.topic_id.clone(),
            epoch,
            from,
            ends,
        });
        Ok(())
    }

    /// The declared fields may have changed since the last run. The lake first: it knows more reasons to refuse, since
    /// others can change its columns. Where only one sink has taken the change over, the next start finishes it.
    async fn take_over_schema(&self) -> Result<(), SinkError> {
        for name in [SinkName::Lake, SinkName::Mongo] {
            let Some(sink) = self.wiring.sinks.iter().find(|sink| sink.name == name) else {
                continue;
            };
            if let Some(change) = sink.evolve().await? {
                info!(stream = self.stream.name, sink = %name, "the declared fields have changed ({change}): from here on \
                       records are stored by the new declaration");
            }
        }
        Ok(())
    }

    /// Reads both progresses until they agree that every partition of the topic has a position, recording the
    /// first start on the way. All partitions, not only ours: otherwise the second instance of a first start
    /// would take ours for evidence that its own appeared later.
    async fn agree_on_positions(
        &self,
        partitions: &[Partition],
    ) -> Result<(Progress, BTreeMap<Partition, Known>, Progress), SinkError> {
        let mut doubted = false;
        for _ in 0..ADOPT_ROUNDS {
            let (known, ends) = self.look(partitions).await?;
            let plan = match resume::plan(&known) {
                Ok(plan) => plan,
                // The sinks are read one after the other, and another instance may have written between: only
                // what is seen twice is so.
                Err(_) if !std::mem::replace(&mut doubted, true) => continue,
                Err(invariant) => return Err(invariant.into()),
            };
            match plan {
                Plan::Read(from) => return Ok((from, known, ends)),
                Plan::Adopt { sink, starts } => {
                    match self.sink(sink).adopt(&self.topic_id, starts).await {
                        // Somebody else was faster: the next look shows what they recorded.
                        Ok(()) | Err(SinkError::Lost { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Err(SinkError::Infrastructure(anyhow::anyhow!(
            "other instances keep changing the recorded starts of {}",
            self.stream.name
        )))
    }

    /// What both sinks and the log say now. The progress first: it cannot lie beyond ends read after it. The ends
    /// are read before anything is assigned: `--once` drains up to them.
    async fn look(&self, partitions: &[Partition]) -> Result<(BTreeMap<Partition, Known>, Progress), SinkError> {
        let kafka = &self.config.kafka;
        let topic = &self.stream.topic;
        let mut recorded = BTreeMap::new();
        for sink in &self.wiring.sinks {
            recorded.insert(sink.name, sink.progress(&self.topic_id, partitions).await?);
        }
        let marks = self.kafka(admin::watermarks(kafka, topic, partitions, KAFKA_TIMEOUT).await)?;
        let starts: Progress = match kafka.start {
            Start::Earliest => marks.iter().map(|(p, m)| (*p, m.low)).collect(),
            Start::Latest => marks.iter().map(|(p, m)| (*p, m.high)).collect(),
            Start::At(instant) => {
                self.kafka(admin::offsets_at(kafka, topic, partitions, instant, KAFKA_TIMEOUT).await)?
            }
        };
        let known = marks.iter().map(|(partition, marks)| {
            let known = Known {
                recorded: recorded
                    .iter()
                    .map(|(sink, all)| (*sink, all.get(partition).copied()))
                    .collect(),
                low: marks.low,
                start: starts.get(partition).copied().unwrap_or(marks.low),
            };
            (*partition, known)
        });
        Ok((known.collect(), marks.iter().map(|(p, m)| (*p, m.high)).collect()))
    }

    fn check_ends(&mut self, from: &Progress, ends: &Progress) -> Result<(), SinkError> {
        let Some(invariant) = resume::beyond_end(from, ends) else {
            self.beyond_end_since = None;
            return Ok(());
        };
        let since = *self.beyond_end_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= BEYOND_END_AFTER {
            return Err(invariant.into());
        }
        self.wiring.health.held(Part::Kafka, &invariant.what);
        Err(SinkError::Infrastructure(anyhow::anyhow!(invariant.what)))
    }

    /// Puts a failed look at Kafka on the health board.
    fn kafka<T>(&self, answer: anyhow::Result<T>) -> Result<T, SinkError> {
        match answer {
            Ok(value) => {
                self.wiring.health.ok(Part::Kafka);
                Ok(value)
            }
            Err(error) => {
                self.wiring.health.held(Part::Kafka, format_args!("{error:#}"));
                Err(SinkError::Infrastructure(error))
            }
        }
    }
}
