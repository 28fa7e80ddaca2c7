//! The verification of one stream, step by step.
//!
//! ```text
//!  lake snapshot ─▶ mongo snapshot ─▶ ends of the log ─▶ plan
//!                                                          │
//!      ids that lie in no window: lake survey, mongo gaps ◀┤
//!      per window: Kafka ─▶ oracle ─▶ expected ─▶ mongo ∥ lake
//!      afterwards: rollups, dead letters, examples read again
//! ```
//!
//! Owns: the order of the steps, and what their findings mean for the report.
//! Does not own: any of the steps.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use bson::raw::{RawBsonRef, RawDocument};
use chrono::Utc;
use indicatif::ProgressBar;

use super::compare::{Comparison, Expected, Kind, MAX_EXAMPLES, Stored, Tally};
use super::document;
use super::form::{self, Difference, Form};
use super::lake::{IdSurvey, LakeSide};
use super::mongo::MongoSide;
use super::oracle::Verdict;
use super::plan::{Place, Plan, Side, name_of};
use super::records::{self, Coordinates, Gathered};
use super::report::{DeadLetterReport, Records, RollupReport, RowName, SinkReport, StreamReport, Unequal};
use super::rollup::Recomputed;
use super::schemas::Schemas;
use super::sides::Sides;
use crate::config::{Config, KafkaConfig, StreamConfig};
use crate::kafka::admin::describe_topic;
use crate::offsets::{Epoch, RecordId};
use crate::schema::StreamSchema;

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
    let sides = Sides::open(stream, &mut report.problems).await?;
    let topic = describe_topic(&config.kafka, &stream.topic, records::ASK_TIMEOUT).await?;
    if let Some(topic) = topic {
        report
            .problems
            .extend(sides.strangers(&config.job, &stream.name, &topic.id));
        if report.problems.is_empty() {
            let plan = sides.plan(config, stream, &topic).await?;
            let stream = Arc::new(stream.clone());
            match sides.schemas(&stream, &plan) {
                Ok(schemas) => {
                    report.notes.extend(schemas.notes());
                    let verification = Verification {
                        kafka: config.kafka.clone(),
                        plan: Arc::new(plan),
                        schemas: Arc::new(schemas),
                        stream,
                        bar: bar.clone(),
                    };
                    verification.run(sides, window, &mut report).await?;
                }
                Err(unreadable) => report.problems.push(format!("{unreadable:#}")),
            }
        }
    } else {
        report.problems.push(format!("topic {} does not exist", stream.topic));
    }
    report.seconds = started.elapsed().as_secs_f64();
    report.judge();
    Ok(report)
}

struct Verification {
    kafka: KafkaConfig,
    stream: Arc<StreamConfig>,
    schemas: Arc<Schemas>,
    plan: Arc<Plan>,
    bar: ProgressBar,
}

/// What is found in one sink over all windows.
#[derive(Default)]
struct Findings {
    tally: Tally,
    unverifiable_rows: u64,
    misplaced: Kind<String>,
    damaged: Kind<String>,
}

impl Verification {
    async fn run(&self, sides: Sides, window: usize, report: &mut StreamReport) -> anyhow::Result<()> {
        let (mut in_mongo, mut in_lake) = (Findings::default(), Findings::default());
        self.bar.set_message("reading dead letters");
        let letters = records::letters(&self.kafka, &self.stream).await?;
        let held = sides.holding(&self.stream, &self.plan, &letters.coordinates()).await?;
        let (mongo, documents) = match sides.mongo {
            Some((side, snapshot)) => (Some(Arc::new(side)), snapshot.rollups),
            None => (None, Vec::new()),
        };
        if let Some(side) = &mongo {
            self.bar.set_message("listing documents that no record vouches for");
            in_mongo.unverifiable_rows = self.mongo_gaps(side, &mut in_mongo.tally).await?;
        }
        let mut lake = None;
        if let Some(mut side) = sides.lake {
            self.bar.set_message("reading the ids of the lake's files");
            let survey = side.survey(&self.stream, &self.plan).await?;
            in_lake.take_in(survey);
            lake = Some(Arc::new(side));
        }

        let gathered = Gathered::new(self.empty_rollups(), letters, held);
        let gathered = self
            .windows(
                window,
                gathered,
                mongo.as_ref(),
                lake.as_ref(),
                &mut in_mongo,
                &mut in_lake,
            )
            .await?;

        self.bar.set_message("checking rollups");
        report.dead_letters = self.dead_letters(&gathered, &mut report.notes);
        report.records = Records {
            read: gathered.read,
            good: gathered.good,
            rejected: gathered.rejected,
            rejected_earlier: gathered.rejected_earlier,
            skipped: gathered.skipped,
        };
        if mongo.is_some() {
            report.rollups = self.rollups(gathered.rollups, documents);
            report.mongo = Some(self.sink_report(Side::Mongo, in_mongo).await?);
        }
        if self.stream.lake.enabled {
            report.lake = Some(self.sink_report(Side::Lake, in_lake).await?);
            if lake.is_none() {
                report
                    .notes
                    .push("the lake has no table for this stream yet".to_owned());
            }
        }
        report.problems.extend(self.beyond_the_log());
        Ok(())
    }

    async fn windows(
        &self,
        window: usize,
        mut gathered: Gathered,
        mongo: Option<&Arc<MongoSide>>,
        lake: Option<&Arc<LakeSide>>,
        in_mongo: &mut Findings,
        in_lake: &mut Findings,
    ) -> anyhow::Result<Gathered> {
        self.bar.set_length(self.plan.offsets_to_read());
        for window in self.plan.windows(window) {
            self.bar.set_message("reading kafka");
            let bar = self.bar.clone();
            let tick = move |read| bar.set_position(read);
            let reading = records::read_window(&self.kafka, &self.schemas, &self.plan, window, gathered, tick);
            let (expected, so_far) = reading.await?;
            gathered = so_far;
            self.bar.set_message("comparing");
            let (of_mongo, (of_lake, damaged)) = self.compare(Arc::new(expected), mongo, lake).await?;
            in_mongo.tally.merge(of_mongo);
            in_lake.tally.merge(of_lake);
            in_lake.damaged.merge(damaged);
            tracing::info!(stream = %self.stream.name, records = gathered.read, "window verified");
        }
        Ok(gathered)
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
                    Place::Foreign(why) => tally.foreign.add(|| (name_of(id), why.to_owned())),
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
    ) -> anyhow::Result<(Tally, (Tally, Kind<String>))> {
        let of_mongo = mongo.cloned().map(|side| {
            let comparison = Comparison::new(Side::Mongo, &self.plan, expected.clone());
            tokio::spawn(compare_documents(
                side,
                self.schemas.clone(),
                self.plan.epoch,
                comparison,
            ))
        });
        let of_lake = lake.cloned().map(|side| {
            let mut comparison = Comparison::new(Side::Lake, &self.plan, expected.clone());
            let schemas = self.schemas.clone();
            tokio::spawn(async move {
                let damaged = side.compare(&schemas, &mut comparison).await?;
                anyhow::Ok((comparison.finish(), damaged))
            })
        });
        let of_mongo = match of_mongo {
            Some(task) => task.await.context("the comparison with mongodb panicked")??,
            None => Tally::default(),
        };
        let of_lake = match of_lake {
            Some(task) => task.await.context("the comparison with the lake panicked")??,
            None => Default::default(),
        };
        Ok((of_mongo, of_lake))
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

    /// To be filled from what Kafka has; none where that is not all.
    fn empty_rollups(&self) -> Vec<Recomputed> {
        let rollups = self
            .stream
            .rollups
            .iter()
            .filter(|_| self.rollups_unchecked().is_none());
        rollups
            .map(|rollup| Recomputed::new(&self.stream.schema, rollup))
            .collect()
    }

    fn rollups(&self, recomputed: Vec<Recomputed>, documents: Vec<Vec<bson::RawDocumentBuf>>) -> Vec<RollupReport> {
        let names = self.stream.rollups.iter().map(|rollup| rollup.name.as_str());
        if let Some(why) = self.rollups_unchecked() {
            return names.map(|name| RollupReport::unchecked(name, why)).collect();
        }
        let checked = names.zip(recomputed).zip(documents);
        checked
            .map(|((name, recomputed), documents)| {
                RollupReport::checked(name, recomputed.compare(documents, Utc::now()))
            })
            .collect()
    }

    fn dead_letters(&self, gathered: &Gathered, notes: &mut Vec<String>) -> DeadLetterReport {
        let (missing, topic) = (&gathered.unlettered, &self.stream.dead_letter_topic);
        if gathered.removed_letters() > 0 && !missing.is_empty() {
            notes.push(format!(
                "{topic} has lost its first {} records to retention, letters among them",
                gathered.removed_letters()
            ));
        }
        if gathered.rejected_earlier > 0 {
            notes.push(format!(
                "{} of the rejected records would be good by today's rules; their letters in {topic} vouch for them \
                 (`affluent dead-letters list --open` shows which have not been replayed)",
                gathered.rejected_earlier
            ));
        }
        let name =
            |(partition, offset): &Coordinates| RecordId::new(self.plan.epoch, *partition, *offset).map(RowName::from);
        DeadLetterReport {
            expected: gathered.lettered + missing.len() as u64,
            missing: missing.len() as u64,
            missing_examples: missing.iter().filter_map(name).take(MAX_EXAMPLES).collect(),
        }
    }

    fn beyond_the_log(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for side in [Side::Mongo, Side::Lake] {
            for (partition, next, high) in self.plan.beyond_the_log(side) {
                problems.push(format!(
                    "{side}'s progress of partition {partition} is {next}, beyond the log's end {high}: \
                     the topic has lost records or was re-created"
                ));
            }
        }
        problems
    }

    async fn sink_report(&self, side: Side, findings: Findings) -> anyhow::Result<SinkReport> {
        let unequal = self.explain(side, &findings.tally.unequal.examples).await?;
        let mut report = SinkReport::new(findings.tally, unequal);
        report.unverifiable_offsets = self.plan.unverifiable(side);
        report.unverifiable_rows = findings.unverifiable_rows;
        report.behind = self.plan.behind(side);
        report.misplaced_files = findings.misplaced.count;
        report.examples.misplaced_files = findings.misplaced.examples;
        report.damaged_files = findings.damaged.count;
        report.examples.damaged_files = findings.damaged.examples;
        Ok(report)
    }

    /// Reads the records of unequal rows again, to say in which fields they differ.
    async fn explain(&self, side: Side, unequal: &[Stored]) -> anyhow::Result<Vec<Unequal>> {
        let form = match side {
            Side::Mongo => Form::Mongo,
            Side::Lake => Form::Lake,
        };
        let coordinates = |id: RecordId| (id.partition(), id.offset());
        let wanted = unequal.iter().map(|stored| coordinates(stored.id())).collect();
        let schemas = (&self.schemas, side);
        let verdicts = records::read_again(&self.kafka, schemas, self.plan.epoch, &wanted).await?;
        let explained = unequal.iter().map(|stored| {
            let (partition, offset) = coordinates(stored.id());
            let schema = self.schemas.schema_at(side, partition, offset);
            let differences = match (stored, verdicts.get(&coordinates(stored.id()))) {
                (Stored::Row(found), Some(Verdict::Row(expected))) => form.differences(schema, expected, found),
                (Stored::Odd(_, odd), verdict) => vec![explain_odd(form, schema, odd, verdict)],
                (Stored::Row(_), _) => Vec::new(),
            };
            Unequal {
                row: stored.id().into(),
                differences,
            }
        });
        Ok(explained.collect())
    }
}

fn explain_odd(form: Form, schema: &StreamSchema, odd: &document::Odd, verdict: Option<&Verdict>) -> Difference {
    let index = schema.fields.iter().position(|field| field.name == odd.field);
    let expected = match (index, verdict) {
        (Some(index), Some(Verdict::Row(row))) => {
            form::show(row.values[index].as_ref().map(|value| form.value(value)).as_ref())
        }
        _ => "nothing".to_owned(),
    };
    Difference {
        field: odd.field.clone(),
        expected,
        found: odd.found.clone(),
    }
}

async fn compare_documents(
    side: Arc<MongoSide>,
    schemas: Arc<Schemas>,
    epoch: Epoch,
    mut comparison: Comparison,
) -> anyhow::Result<Tally> {
    let mut strangers = Tally::default();
    for range in id_ranges(comparison.expected(), epoch) {
        let show = |document: &RawDocument| match stored_document(&schemas, document) {
            Some(stored) if is_left_by_a_former_owner(&schemas, &mut comparison, document, &stored) => {
                comparison.leave_to_its_owner();
            }
            Some(stored) => comparison.observe(stored),
            None => strangers.foreign.add(|| {
                let id = document
                    .get("_id")
                    .ok()
                    .flatten()
                    .map_or("none".to_owned(), document::show);
                (id, "its _id is no int64".to_owned())
            }),
        };
        side.documents(schemas.configured_stream(), range, show).await?;
    }
    let mut tally = comparison.finish();
    tally.merge(strangers);
    Ok(tally)
}

/// By the schema that was in force where the document lies.
fn stored_document(schemas: &Schemas, document: &RawDocument) -> Option<Stored> {
    let id = document::id(document)?;
    document::row(schemas.schema_at(Side::Mongo, id.partition(), id.offset()), document)
}

/// Beyond progress there may be documents of a schema that has been replaced: whoever goes on there replaces them.
fn is_left_by_a_former_owner(
    schemas: &Schemas,
    comparison: &mut Comparison,
    document: &RawDocument,
    stored: &Stored,
) -> bool {
    let mut former = schemas.former(Side::Mongo, stored.id().partition()).peekable();
    former.peek().is_some()
        && comparison.is_expected_beyond_progress(stored) == Some(false)
        && former.any(|schema| matches!(document::row(schema, document), Some(Stored::Row(_))))
}

impl Findings {
    fn take_in(&mut self, survey: IdSurvey) {
        self.tally.foreign = survey.foreign;
        self.unverifiable_rows = survey.unverifiable;
        self.misplaced = survey.misplaced;
        self.damaged = survey.damaged;
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
