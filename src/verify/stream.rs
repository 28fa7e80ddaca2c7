//! The verification of one stream, step by step.
//!
//! ```text
//!  lake snapshot ─▶ mongo snapshot ─▶ ends of the log ─▶ plan
//!                                                          │
//!      ids that lie in no window: lake survey, mongo gaps ◀┤
//!      per window: Kafka ─▶ oracle ─▶ expected ─▶ mongo ∥ lake
//!      afterwards: rollups, dead letters, examples read again
//! ```
//! The order of the first row matters while an ingestion goes on: each is read later than what it must cover.
//!
//! Owns: that order, and what stands against comparing at all (another job, another topic).
//! Does not own: any of the steps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use bson::raw::RawBsonRef;
use indicatif::ProgressBar;

use super::compare::{Comparison, Expected, Stored, Tally};
use super::document;
use super::form::{Difference, Form};
use super::lake::{IdSurvey, LakeSide};
use super::mongo::{MongoSide, MongoSnapshot};
use super::oracle::Verdict;
use super::plan::{PartitionPlan, Place, Plan, Reach, Side};
use super::records::{self, Gathered};
use super::report::{DeadLetterReport, Records, RollupReport, RowName, SinkReport, StreamReport, Unequal};
use super::rollup::Recomputed;
use crate::config::{Config, KafkaConfig, StreamConfig};
use crate::kafka::admin::{TopicDescription, describe_topic, watermarks};
use crate::offsets::{Epoch, Offset, Partition, RecordId, TopicId};

/// Verifies one stream; `window` is the number of offsets compared at a time.
pub async fn verify(
    config: &Config,
    stream: &StreamConfig,
    window: usize,
    bar: &ProgressBar,
) -> anyhow::Result<StreamReport> {
    let started = Instant::now();
    let mut report = StreamReport {
        stream: stream.name.clone(),
        topic: stream.topic.clone(),
        ..StreamReport::default()
    };
    bar.set_message("reading progress");
    let sides = Sides::open(stream).await?;
    let topic = describe_topic(&config.kafka, &stream.topic, records::ASK_TIMEOUT).await?;
    match topic {
        None => report.problems.push(format!("topic {} does not exist", stream.topic)),
        Some(topic) => {
            report.problems = sides.strangers(&config.job, &topic.id);
            if report.problems.is_empty() {
                let plan = sides.plan(config, stream, &topic).await?;
                let verification = Verification {
                    kafka: config.kafka.clone(),
                    stream: Arc::new(stream.clone()),
                    plan: Arc::new(plan),
                    bar: bar.clone(),
                };
                verification.run(sides, window, &mut report).await?;
            }
        }
    }
    report.seconds = started.elapsed().as_secs_f64();
    report.judge();
    Ok(report)
}

/// Both sinks as they were when the verification began. `None`: switched off, or (lake) no table yet.
struct Sides {
    lake: Option<LakeSide>,
    mongo: Option<(MongoSide, MongoSnapshot)>,
}

impl Sides {
    async fn open(stream: &StreamConfig) -> anyhow::Result<Self> {
        let lake = if stream.lake.enabled {
            LakeSide::open(stream).await?
        } else {
            None
        };
        let mongo = if stream.mongo.enabled {
            let side = MongoSide::connect(&stream.mongo).await?;
            let snapshot = side.snapshot(stream).await?;
            Some((side, snapshot))
        } else {
            None
        };
        Ok(Self { lake, mongo })
    }

    /// Signs that a sink is not this job's, or not of this topic: then there is nothing to compare.
    fn strangers(&self, job: &str, topic_id: &TopicId) -> Vec<String> {
        let mut problems = BTreeSet::new();
        if let Some(owner) = self
            .lake
            .as_ref()
            .and_then(|lake| lake.log.configuration.get("affluent.job"))
            && owner != job
        {
            problems.insert(format!("the lake's table belongs to job {owner}, not {job}"));
        }
        for progress in self.mongo.iter().flat_map(|(_, snapshot)| snapshot.progress.values()) {
            if progress.job != job {
                problems.insert(format!("the collection belongs to job {}, not {job}", progress.job));
            }
            if progress.topic_id.is_known() && topic_id.is_known() && progress.topic_id != *topic_id {
                problems.insert(format!(
                    "the topic was re-created: mongodb holds records of topic id {}, kafka's is {topic_id}",
                    progress.topic_id
                ));
            }
            if progress.state != "ready" {
                problems.insert(format!(
                    "mongodb's side is in state {}: verify when it is ready",
                    progress.state
                ));
            }
        }
        problems.into_iter().collect()
    }

    async fn plan(&self, config: &Config, stream: &StreamConfig, topic: &TopicDescription) -> anyhow::Result<Plan> {
        let epoch = self.epoch();
        let mongo = self.mongo_reach(stream, epoch).await?;
        let other_start = |partition| mongo.get(&partition).map(|reach| reach.start);
        let lake = self
            .lake
            .as_ref()
            .map(|lake| lake.reach(&config.job, &stream.name, &topic.id, other_start));
        let lake = lake.unwrap_or_default();
        // Last, so that the log's ends cover what the sinks were seen to hold.
        let ends = watermarks(&config.kafka, &stream.topic, &topic.partitions, records::ASK_TIMEOUT).await?;
        let of_partition = |(partition, ends): (Partition, _)| {
            let ends: crate::kafka::admin::Watermarks = ends;
            let plan = PartitionPlan {
                low: ends.low,
                high: ends.high.max(ends.low),
                mongo: mongo.get(&partition).copied(),
                lake: lake.get(&partition).copied(),
            };
            (partition, plan)
        };
        Ok(Plan {
            epoch,
            partitions: ends.into_iter().map(of_partition).collect(),
        })
    }

    /// The epoch is MongoDB's word; a table alone tells it by its configuration.
    fn epoch(&self) -> Epoch {
        let progress = self.mongo.iter().flat_map(|(_, snapshot)| snapshot.progress.values());
        let recorded = progress.map(|progress| progress.epoch).max();
        let lake = self
            .lake
            .as_ref()
            .and_then(|lake| lake.log.configuration.get("affluent.epoch"));
        recorded
            .or(lake.and_then(|epoch| epoch.parse().ok()).map(Epoch))
            .unwrap_or_default()
    }

    async fn mongo_reach(&self, stream: &StreamConfig, epoch: Epoch) -> anyhow::Result<BTreeMap<Partition, Reach>> {
        let mut reaches = BTreeMap::new();
        let Some((side, snapshot)) = &self.mongo else {
            return Ok(reaches);
        };
        for (partition, progress) in &snapshot.progress {
            let last = side.last_offset(stream, epoch, *partition).await?;
            reaches.insert(*partition, progress.reach(last));
        }
        Ok(reaches)
    }
}

struct Verification {
    kafka: KafkaConfig,
    stream: Arc<StreamConfig>,
    plan: Arc<Plan>,
    bar: ProgressBar,
}

impl Verification {
    async fn run(&self, sides: Sides, window: usize, report: &mut StreamReport) -> anyhow::Result<()> {
        let Sides { lake, mongo } = sides;
        let (mut mongo_tally, mut lake_tally) = (Tally::default(), Tally::default());
        let mut unverifiable_documents = 0;
        let (mongo, rollups) = match mongo {
            Some((side, snapshot)) => (Some(Arc::new(side)), snapshot.rollups),
            None => (None, Vec::new()),
        };
        if let Some(side) = &mongo {
            self.bar.set_message("listing documents that no record vouches for");
            unverifiable_documents = self.mongo_gaps(side, &mut mongo_tally).await?;
        }
        let (lake, survey) = match lake {
            Some(mut side) => {
                self.bar.set_message("reading the ids of the lake's files");
                let survey = side.survey(&self.stream, &self.plan).await?;
                (Some(Arc::new(side)), survey)
            }
            None => (None, IdSurvey::default()),
        };
        lake_tally.foreign = survey.foreign.clone();

        let unchecked = self.rollups_unchecked();
        let recomputed = match unchecked {
            None => self
                .stream
                .rollups
                .iter()
                .map(|rollup| Recomputed::new(&self.stream.schema, rollup))
                .collect(),
            Some(_) => Vec::new(),
        };
        let mut gathered = Gathered::new(recomputed);
        self.bar.set_length(self.plan.offsets_to_read());
        for window in self.plan.windows(window) {
            self.bar.set_message("reading kafka");
            let bar = self.bar.clone();
            let tick = move |read| bar.set_position(read);
            let (expected, so_far) =
                records::read_window(&self.kafka, &self.stream, &self.plan, window, gathered, tick).await?;
            gathered = so_far;
            self.bar.set_message("comparing");
            let (of_mongo, of_lake) = self.compare(Arc::new(expected), mongo.as_ref(), lake.as_ref()).await?;
            mongo_tally.merge(of_mongo);
            lake_tally.merge(of_lake);
            tracing::info!(stream = %self.stream.name, records = gathered.read, "window verified");
        }

        report.records = Records {
            read: gathered.read,
            good: gathered.good,
            rejected: gathered.rejected,
            skipped: gathered.skipped,
        };
        self.bar.set_message("checking rollups and dead letters");
        if mongo.is_some() {
            report.rollups = self.rollups(gathered.rollups, rollups, unchecked);
        }
        report.dead_letters = self.dead_letters(gathered.owed_letters, &mut report.notes).await?;
        report.mongo = match mongo {
            Some(_) => Some(SinkReport {
                unverifiable_rows: unverifiable_documents,
                ..self.sink_report(Side::Mongo, mongo_tally).await?
            }),
            None => None,
        };
        report.lake = match self.stream.lake.enabled {
            true => Some(self.lake_report(lake.as_deref(), lake_tally, survey).await?),
            false => None,
        };
        for side in [Side::Mongo, Side::Lake] {
            for (partition, next, high) in self.plan.beyond_the_log(side) {
                report.problems.push(format!(
                    "{side}'s progress of partition {partition} is {next}, beyond the log's end {high}: \
                     the topic has lost records or was re-created"
                ));
            }
        }
        if lake.is_none() && self.stream.lake.enabled {
            report
                .notes
                .push("the lake has no table for this stream yet".to_owned());
        }
        Ok(())
    }

    /// Judges every document that no window sees; answers how many Kafka cannot vouch for any more.
    async fn mongo_gaps(&self, side: &MongoSide, tally: &mut Tally) -> anyhow::Result<u64> {
        let mut unverifiable = 0;
        for gap in self.plan.gaps(Side::Mongo) {
            let judge = |id: RawBsonRef<'_>| match id {
                RawBsonRef::Int64(id) => match self.plan.place(Side::Mongo, id) {
                    Place::Unverifiable => unverifiable += 1,
                    // Cannot be in a gap; a window would judge it.
                    Place::Compared => {}
                    Place::Foreign(why) => tally.foreign.add(|| (RecordId(id).to_string(), why.to_owned())),
                },
                other => tally
                    .foreign
                    .add(|| (document::show(other), "its _id is no int64".to_owned())),
            };
            side.ids(&self.stream, gap, judge).await?;
        }
        Ok(unverifiable)
    }

    /// Both sinks at the same time: one waits for the server while the other decodes Parquet.
    async fn compare(
        &self,
        expected: Arc<Expected>,
        mongo: Option<&Arc<MongoSide>>,
        lake: Option<&Arc<LakeSide>>,
    ) -> anyhow::Result<(Tally, Tally)> {
        let mut of_mongo = Comparison::new(Side::Mongo, &self.plan, expected.clone());
        let mut of_lake = Comparison::new(Side::Lake, &self.plan, expected);
        let mongo_task = mongo.cloned().map(|side| {
            let (stream, plan) = (self.stream.clone(), self.plan.clone());
            tokio::spawn(async move {
                let mut strangers = Tally::default();
                for range in id_ranges(of_mongo.expected(), plan.epoch) {
                    let show = |document: &bson::RawDocument| match document::row(&stream.schema, document) {
                        Some(stored) => of_mongo.observe(stored),
                        None => strangers.foreign.add(|| {
                            let id = document
                                .get("_id")
                                .ok()
                                .flatten()
                                .map_or("none".to_owned(), document::show);
                            (id, "its _id is no int64".to_owned())
                        }),
                    };
                    side.documents(&stream, range, show).await?;
                }
                let mut tally = of_mongo.finish();
                tally.merge(strangers);
                anyhow::Ok(tally)
            })
        });
        let lake_task = lake.cloned().map(|side| {
            let stream = self.stream.clone();
            tokio::spawn(async move {
                side.compare(&stream, &mut of_lake).await?;
                anyhow::Ok(of_lake.finish())
            })
        });
        let mongo_tally = match mongo_task {
            Some(task) => task.await.context("the comparison with mongodb panicked")??,
            None => Tally::default(),
        };
        let lake_tally = match lake_task {
            Some(task) => task.await.context("the comparison with the lake panicked")??,
            None => Tally::default(),
        };
        Ok((mongo_tally, lake_tally))
    }

    /// Why rollups cannot be computed from what Kafka has, where they cannot.
    fn rollups_unchecked(&self) -> Option<&'static str> {
        if self.plan.epoch > Epoch(0) {
            Some("they include records of an earlier topic")
        } else if self.plan.unverifiable(Side::Mongo) > 0 {
            Some("they include records that kafka no longer has")
        } else {
            None
        }
    }

    fn rollups(
        &self,
        recomputed: Vec<Recomputed>,
        documents: Vec<Vec<bson::RawDocumentBuf>>,
        unchecked: Option<&str>,
    ) -> Vec<RollupReport> {
        let names = self.stream.rollups.iter().map(|rollup| rollup.name.as_str());
        match unchecked {
            Some(why) => names.map(|name| RollupReport::unchecked(name, why)).collect(),
            None => names
                .zip(recomputed)
                .zip(documents)
                .map(|((name, recomputed), documents)| RollupReport::checked(name, recomputed.compare(documents)))
                .collect(),
        }
    }

    async fn dead_letters(
        &self,
        owed: BTreeSet<records::Coordinates>,
        notes: &mut Vec<String>,
    ) -> anyhow::Result<DeadLetterReport> {
        let expected = owed.len() as u64;
        let (missing, removed) = records::strike_out_letters(&self.kafka, &self.stream, owed).await?;
        if removed > 0 && !missing.is_empty() {
            notes.push(format!(
                "retention has removed the first {removed} records of {}: missing letters may have been there",
                self.stream.dead_letter_topic
            ));
        }
        let name = |(partition, offset): &(Partition, Offset)| {
            RecordId::new(self.plan.epoch, *partition, *offset).map(RowName::from)
        };
        let examples = missing.iter().filter_map(name).take(super::compare::MAX_EXAMPLES);
        Ok(DeadLetterReport {
            expected,
            missing: missing.len() as u64,
            missing_examples: examples.collect(),
        })
    }

    async fn lake_report(&self, lake: Option<&LakeSide>, tally: Tally, survey: IdSurvey) -> anyhow::Result<SinkReport> {
        let mut report = self.sink_report(Side::Lake, tally).await?;
        report.unverifiable_rows = survey.unverifiable;
        report.misplaced_files = survey.misplaced.count;
        report.examples.misplaced_files = survey.misplaced.examples;
        if let Some(lake) = lake {
            tracing::debug!(stream = %self.stream.name, version = lake.version, files = survey.files, "lake read");
        }
        Ok(report)
    }

    async fn sink_report(&self, side: Side, tally: Tally) -> anyhow::Result<SinkReport> {
        let unequal = self.explain(side, &tally.unequal.examples).await?;
        Ok(SinkReport {
            unverifiable_offsets: self.plan.unverifiable(side),
            behind: self.plan.behind(side),
            ..SinkReport::new(tally, unequal)
        })
    }

    /// Reads the records of unequal rows again, to say in which fields they differ.
    async fn explain(&self, side: Side, unequal: &[Stored]) -> anyhow::Result<Vec<Unequal>> {
        let form = match side {
            Side::Mongo => Form::Mongo,
            Side::Lake => Form::Lake,
        };
        let coordinates = |id: RecordId| (id.partition(), id.offset());
        let wanted = unequal.iter().map(|stored| coordinates(stored.id())).collect();
        let verdicts = records::read_again(&self.kafka, &self.stream, self.plan.epoch, &wanted).await?;
        let explained = unequal.iter().map(|stored| {
            let differences = match (stored, verdicts.get(&coordinates(stored.id()))) {
                (Stored::Row(found), Some(Verdict::Row(expected))) => {
                    form.differences(&self.stream.schema, expected, found)
                }
                (Stored::Odd(_, odd), verdict) => vec![self.explain_odd(form, odd, verdict)],
                (Stored::Row(_), _) => Vec::new(),
            };
            Unequal {
                row: stored.id().into(),
                differences,
            }
        });
        Ok(explained.collect())
    }

    fn explain_odd(&self, form: Form, odd: &document::Odd, verdict: Option<&Verdict>) -> Difference {
        let index = self
            .stream
            .schema
            .fields
            .iter()
            .position(|field| field.name == odd.field);
        let expected = match (index, verdict) {
            (Some(index), Some(Verdict::Row(row))) => {
                super::form::show(row.values[index].as_ref().map(|value| form.value(value)).as_ref())
            }
            _ => "another shape".to_owned(),
        };
        Difference {
            field: odd.field.clone(),
            expected,
            found: odd.found.clone(),
        }
    }
}

/// The ids of a window, per partition.
fn id_ranges(expected: &Expected, epoch: Epoch) -> Vec<(i64, i64)> {
    expected
        .ranges()
        .filter_map(|(partition, range)| {
            let first = RecordId::new(epoch, partition, range.start)?;
            Some((first.0, first.0 + (range.end - range.start)))
        })
        .collect()
}
