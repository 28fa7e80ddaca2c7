//! `affluent rebuild mongo`: MongoDB's side of a stream made anew from the lake; then the stream goes on from Kafka.
//!
//! Owns: the judgement whether a rebuild may begin, the way of the rows in bounded memory, progress and summary.
//! Does not own: the steps in MongoDB (`sink::mongo::rebuild`), reading the table (`lake::rows`).
//!
//! It may begin where nothing would be lost: what MongoDB holds beyond the lake must still be in Kafka. Instances that run
//! meanwhile are held, and go on by themselves when it is done.

use std::collections::{BTreeMap, VecDeque};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use anyhow::Context;
use arrow::array::RecordBatch;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;
use tracing::info;

use crate::config::{Config, StreamConfig};
use crate::error::{Exit, Exits, Invariant};
use crate::kafka::admin::{TopicDescription, Watermarks, describe_topic, watermarks};
use crate::lake::delta::evolution::former_schemas;
use crate::lake::delta::files::ActiveFile;
use crate::lake::delta::log::LogTail;
use crate::lake::delta::loss::losses;
use crate::lake::delta::names::{AppIds, Entry};
use crate::lake::delta::spec::{SCHEMA, TableSpec};
use crate::lake::rows::{Place, Rows, files_of};
use crate::lake::store::Store;
use crate::offsets::{Epoch, OffsetRange, Partition, TopicId};
use crate::output;
use crate::run::select;
use crate::schema::evolution::Fit;
use crate::sink::mongo::deployment::Server;
use crate::sink::mongo::rebuild::{self, Portion, Present, Reads, Rebuild, RebuildDocument, Source, Standing};

const KAFKA_TIMEOUT: Duration = Duration::from_secs(10);

/// Make one side of a stream anew from the other
#[derive(clap::Args, Debug)]
pub struct RebuildArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    /// Re-create documents, rollups and progress in MongoDB from the lake's table, then go on from Kafka
    #[command(
        after_help = "Drops the stream's collection and those of its rollups and makes them anew, with the options and \
                      indexes they had. Instances of the job that are running wait meanwhile, and go on by themselves. \
                      Interrupted, it goes on where it was when it is run again."
    )]
    Mongo(MongoArgs),
}

#[derive(clap::Args, Debug)]
struct MongoArgs {
    /// Only this stream (may be repeated); all of them by default
    #[arg(long = "stream", value_name = "STREAM")]
    streams: Vec<String>,
    /// Begin anew, from the table's newest version, instead of going on with an interrupted rebuild
    #[arg(long)]
    restart: bool,
    /// Drop collections also where nothing says that their documents are this stream's
    #[arg(long)]
    force: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: RebuildArgs, config: &Config) -> anyhow::Result<Exit> {
    let What::Mongo(args) = args.what;
    let mut done = Vec::new();
    let streams = select(config, &args.streams)?;
    let both = streams
        .iter()
        .filter(|stream| stream.lake.enabled && stream.mongo.enabled);
    for stream in both {
        let summary = rebuild_stream(config, stream, &args).await?;
        if !args.json {
            output::print(summary.text())?;
        }
        done.push(summary);
    }
    if done.is_empty() {
        return Err(Exits::error(
            Exit::Usage,
            "no stream has both its lake and its MongoDB side enabled",
        ));
    }
    if args.json {
        output::print_line(json!({ "streams": done }))?;
    }
    Ok(Exit::Ok)
}

/// What was done, or would be.
#[derive(Debug, Serialize)]
struct Summary {
    stream: String,
    /// The table's version that was read.
    version: u64,
    files: usize,
    bytes: u64,
    rows: u64,
    /// Rows of an earlier, interrupted run.
    resumed_at: u64,
    seconds: f64,
    dry_run: bool,
}

impl Summary {
    fn of(stream: &StreamConfig, table: &SourceTable, unfinished: Option<&RebuildDocument>, dry_run: bool) -> Self {
        Self {
            stream: stream.name.clone(),
            version: table.source.version,
            files: table.files.len(),
            bytes: table.files.iter().map(|file| file.size).sum(),
            rows: 0,
            resumed_at: unfinished.map_or(0, |unfinished| unfinished.rows.cast_unsigned()),
            seconds: 0.0,
            dry_run,
        }
    }

    fn text(&self) -> String {
        let what = format!(
            "{}: version {} of the table, {} files ({})",
            self.stream,
            self.version,
            HumanCount(self.files as u64),
            HumanBytes(self.bytes)
        );
        if self.dry_run {
            let from = match self.resumed_at {
                0 => "would be read anew".to_owned(),
                rows => format!("would be read on from row {}", HumanCount(rows)),
            };
            return format!("{what}, {from}\n");
        }
        let resumed = match self.resumed_at {
            0 => String::new(),
            rows => format!(", {} of them by the run before", HumanCount(rows)),
        };
        format!(
            "{what} became {} documents{resumed} in {:.1} s\n",
            HumanCount(self.rows),
            self.seconds
        )
    }
}

async fn rebuild_stream(config: &Config, stream: &StreamConfig, args: &MongoArgs) -> anyhow::Result<Summary> {
    let started = Instant::now();
    let deployment = Server::connect(&config.job, stream).await?;
    let present = rebuild::look(&deployment, &config.job, stream, args.restart).await?;
    let unfinished = present.unfinished.clone().filter(|_| !args.restart);
    let reads = unfinished.as_ref().and_then(|unfinished| unfinished.reads.as_ref());
    let table = SourceTable::open(config, stream, reads).await?;
    let mut summary = Summary::of(stream, &table, unfinished.as_ref(), args.dry_run);
    if reads.is_none() {
        // For a first look: what may still move is looked at again once it stands still.
        refuse_loss(config, stream, &present.progress, &table.source).await?;
        refuse_foreign(&deployment, stream, &present, args.force).await?;
    }
    if args.dry_run {
        return Ok(summary);
    }
    let mut rebuild = match unfinished {
        Some(document) => Rebuild::resume(deployment, &config.job, stream, document).await?,
        None => Rebuild::begin(deployment, &config.job, stream, &present).await?,
    };
    if rebuild.document().reads.is_none() {
        let standing = rebuild.standing().await?;
        if let Err(refusal) = refuse_loss(config, stream, &standing, &table.source).await {
            let called_off = rebuild.call_off().await;
            return Err(match called_off {
                Ok(true) => refusal,
                Ok(false) => refusal.context("an unfinished rebuild cannot go on"),
                Err(error) => refusal.context(format!("and the stream could not be let go on: {error}")),
            });
        }
        rebuild.accept(&table.source).await?;
    }
    rebuild.clear().await?;
    fill(&mut rebuild, stream, &table).await?;
    rebuild.publish().await?;
    summary.rows = rebuild.document().rows.cast_unsigned();
    summary.seconds = started.elapsed().as_secs_f64();
    Ok(summary)
}

async fn refuse_foreign(
    deployment: &Server,
    stream: &StreamConfig,
    present: &Present,
    force: bool,
) -> anyhow::Result<()> {
    let foreign = rebuild::foreign(deployment, stream, present).await?;
    if foreign.is_empty() || force {
        return Ok(());
    }
    Err(Invariant::new(
        format!(
            "nothing says that the documents in {} are of stream {}: a rebuild would drop them",
            foreign.join(", "),
            stream.name
        ),
        "move them away; or, if they are this stream's, repeat the command with --force",
    )
    .into())
}

/// The version of the lake's table that is read.
struct SourceTable {
    store: Store,
    source: Source,
    files: Vec<ActiveFile>,
}

impl SourceTable {
    /// The newest version, or the one that an unfinished rebuild has begun with.
    async fn open(config: &Config, stream: &StreamConfig, begun: Option<&Reads>) -> anyhow::Result<Self> {
        let lake = &stream.lake;
        let none = || {
            let message = format!("stream {} has no table in the lake at {}", stream.name, lake.root);
            Invariant::new(
                message,
                "check lake.root; without a table there is nothing to rebuild from",
            )
        };
        let store = Store::open_existing(&lake.root, &lake.storage, &stream.name)?.ok_or_else(none)?;
        let app_ids = AppIds::new(&config.job, &stream.name);
        let log = LogTail::load(&store, &app_ids).await?.ok_or_else(none)?;
        let spec = TableSpec::new(&config.job, &stream.name, &stream.topic, &stream.schema);
        let fit = spec.check(store.location(), &log.protocol, &log.metadata)?;
        if fit != Fit::Same {
            return Err(Invariant::new(
                format!(
                    "the declared fields of stream {} have changed, and the table at {} has not taken them over yet",
                    stream.name,
                    store.location()
                ),
                "run the job once, then rebuild; or rebuild with the fields that the table has",
            )
            .into());
        }
        let log = match begun {
            None => log,
            Some(Reads { table, version, .. }) => {
                let changed = || {
                    Invariant::new(
                        format!(
                            "the table at {} no longer has version {version}, which an interrupted rebuild was reading",
                            store.location()
                        ),
                        "start over with --restart",
                    )
                };
                if log.metadata.id != *table {
                    return Err(changed().into());
                }
                let then = LogTail::load_at(&store, &app_ids, version.cast_unsigned()).await?;
                let then = then.ok_or_else(changed)?;
                // Its documents would have the fields of one schema up to there, and of another from there on.
                let schema = |log: &LogTail| log.metadata.configuration.get(SCHEMA).cloned();
                if schema(&then) != schema(&log) {
                    return Err(Invariant::new(
                        format!(
                            "the table at {} has other fields than in version {version}, which an interrupted rebuild \
                             was reading",
                            store.location()
                        ),
                        "start over with --restart",
                    )
                    .into());
                }
                then
            }
        };
        if let Some(damage) = &log.damage {
            return Err(Invariant::new(
                format!(
                    "{}: they would be missing in mongodb too",
                    damage.said(store.location())
                ),
                "restore the table first, or accept the loss (affluent run --accept-loss)",
            )
            .into());
        }
        let files = files_of(&store, log.version).await?;
        Ok(Self {
            source: source(&log, store.location())?,
            files,
            store,
        })
    }
}

fn source(log: &LogTail, location: &str) -> anyhow::Result<Source> {
    let topic_id = log
        .progress()
        .next()
        .map_or_else(TopicId::unknown, |(topic, ..)| topic.clone());
    let epoch = log
        .entries
        .get(&Entry::Epoch(topic_id.clone()))
        .copied()
        .unwrap_or_default();
    let of_topic = log.progress().filter(|(theirs, ..)| **theirs == topic_id);
    let partitions = of_topic.map(|(_, partition, next)| {
        let start = log.entries.get(&Entry::Start(topic_id.clone(), partition));
        (partition, (start.map(|last| last + 1), next))
    });
    Ok(Source {
        table: log.metadata.id.clone(),
        version: log.version,
        partitions: partitions.collect(),
        event_times: log.event_times(&topic_id),
        topic_id: topic_id.clone(),
        epoch: Epoch(u8::try_from(epoch).context("the table's epoch")?),
        losses: losses(&log.metadata)?,
        former_schemas: former_schemas(location, &log.metadata)?,
    })
}

/// What MongoDB holds beyond the lake has to be read from Kafka again.
async fn refuse_loss(
    config: &Config,
    stream: &StreamConfig,
    standing: &Standing,
    source: &Source,
) -> anyhow::Result<()> {
    let is_other = |theirs: &TopicId| source.topic_id.is_known() && *theirs != source.topic_id;
    if standing.topic_id().is_some_and(is_other) {
        return Err(Invariant::new(
            format!(
                "mongodb's side of stream {} counts offsets of another topic than the lake's",
                stream.name
            ),
            "run the job once, so that it finishes recording the loss of the former topic, then rebuild",
        )
        .into());
    }
    let beyond = standing.beyond(source);
    if beyond.is_empty() {
        return Ok(());
    }
    let why = || "what mongodb holds beyond the lake must still be in kafka";
    let topic = describe_topic(&config.kafka, &stream.topic, KAFKA_TIMEOUT)
        .await
        .with_context(why)?;
    let partitions: Vec<_> = beyond.keys().copied().collect();
    let same =
        |topic: &&TopicDescription| !topic.id.is_known() || !source.topic_id.is_known() || topic.id == source.topic_id;
    let log = match topic.as_ref().filter(same) {
        Some(_) => watermarks(&config.kafka, &stream.topic, &partitions, KAFKA_TIMEOUT)
            .await
            .with_context(why)?,
        None => BTreeMap::new(),
    };
    let lost = not_in_kafka(&beyond, &log);
    if lost.is_empty() {
        return Ok(());
    }
    Err(Invariant::new(
        format!(
            "mongodb holds records that neither the lake nor kafka has: {}; a rebuild would lose them",
            lost.join(", ")
        ),
        "let the job store them in the lake first (run it with its lake enabled); or copy these documents elsewhere and \
         drop the collection and its progress documents yourself",
    )
    .into())
}

/// Of these offsets, those that the log has no longer, or not yet again: it may begin after them, or end before them.
fn not_in_kafka(wanted: &BTreeMap<Partition, OffsetRange>, log: &BTreeMap<Partition, Watermarks>) -> Vec<String> {
    let of_partition = |(partition, range): (&Partition, &OffsetRange)| -> Vec<String> {
        let missing = match log.get(partition) {
            None => vec![*range],
            Some(ends) => vec![
                OffsetRange {
                    start: range.start,
                    end: ends.low.min(range.end),
                },
                OffsetRange {
                    start: ends.high.max(ends.low).max(range.start),
                    end: range.end,
                },
            ],
        };
        let missing = missing.into_iter().filter(|missing| !missing.is_empty());
        missing
            .map(|missing| format!("{missing} of partition {partition}"))
            .collect()
    };
    wanted.iter().flat_map(of_partition).collect()
}

/// Stores all rows from where the rebuild is, portion by portion.
async fn fill(rebuild: &mut Rebuild<Server>, stream: &StreamConfig, table: &SourceTable) -> anyhow::Result<()> {
    let bar = bar(&stream.name, table);
    let mut rows = Rows::new(
        &table.store,
        &table.files,
        stream.schema.arrow(),
        rebuild.document().place,
    );
    let mut waiting = Waiting::default();
    // Files that the bar counts.
    let mut shown = 0;
    loop {
        while waiting.rows < rebuild.portion_rows() {
            match rows.next().await? {
                Some((place, batch)) => waiting.push(place, batch),
                None => break,
            }
        }
        if waiting.rows == 0 {
            break;
        }
        let mut take = rebuild.portion_rows();
        loop {
            let (batches, to) = waiting.front(take);
            match rebuild.store(&batches, to).await? {
                Portion::Stored => break waiting.drop_front(take),
                Portion::TooLong(error) => {
                    take = rebuild.portion_rows();
                    tracing::warn!(rows = take, %error, "transaction too long for the server, halving it");
                }
            }
        }
        let done = usize::try_from(rebuild.document().place.file)?.min(table.files.len());
        bar.inc(table.files[shown..done].iter().map(|file| file.size).sum());
        shown = done;
        bar.set_message(format!(
            "{} documents",
            HumanCount(rebuild.document().rows.cast_unsigned())
        ));
    }
    bar.finish_and_clear();
    Ok(())
}

/// Rows read and not yet stored.
#[derive(Default)]
struct Waiting {
    batches: VecDeque<(Place, RecordBatch)>,
    rows: usize,
}

impl Waiting {
    fn push(&mut self, place: Place, batch: RecordBatch) {
        self.rows += batch.num_rows();
        self.batches.push_back((place, batch));
    }

    /// At most the first `rows` rows, and the place after them.
    fn front(&self, rows: usize) -> (Vec<RecordBatch>, Place) {
        let mut left = rows;
        let mut taken = Vec::new();
        let mut to = Place::default();
        for (place, batch) in &self.batches {
            if left == 0 {
                break;
            }
            let count = batch.num_rows().min(left);
            left -= count;
            to = place.after(count);
            taken.push(batch.slice(0, count));
        }
        (taken, to)
    }

    fn drop_front(&mut self, rows: usize) {
        let mut left = rows.min(self.rows);
        self.rows -= left;
        while left > 0 {
            let Some((place, batch)) = self.batches.pop_front() else {
                return;
            };
            let count = batch.num_rows().min(left);
            left -= count;
            if count < batch.num_rows() {
                let rest = batch.slice(count, batch.num_rows() - count);
                self.batches.push_front((place.after(count), rest));
            }
        }
    }
}

fn bar(name: &str, table: &SourceTable) -> ProgressBar {
    let bytes = table.files.iter().map(|file| file.size).sum();
    if !std::io::stderr().is_terminal() {
        info!(
            stream = name,
            files = table.files.len(),
            bytes,
            "rebuilding mongodb's side from the lake"
        );
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{prefix} {wide_bar} {bytes}/{total_bytes} {msg} {eta}");
    ProgressBar::new(bytes)
        .with_style(style.expect("a template"))
        .with_prefix(name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};

    use super::*;

    fn batch(values: std::ops::Range<i64>) -> RecordBatch {
        let schema = Schema::new(vec![Field::new("n", DataType::Int64, false)]);
        let column = Arc::new(Int64Array::from_iter_values(values));
        RecordBatch::try_new(Arc::new(schema), vec![column]).expect("one column")
    }

    fn at(file: i64, row: i64) -> Place {
        Place { file, row }
    }

    fn values(batches: &[RecordBatch]) -> Vec<i64> {
        batches
            .iter()
            .flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec())
            .collect()
    }

    #[test]
    fn what_the_log_no_longer_has_or_ends_before_is_named() {
        let wanted = BTreeMap::from([
            (Partition(0), OffsetRange::new(10, 20)),
            (Partition(1), OffsetRange::new(5, 6)),
        ]);
        let log = |low, high| {
            BTreeMap::from([
                (Partition(0), Watermarks { low, high }),
                (Partition(1), Watermarks { low: 0, high: 6 }),
            ])
        };
        assert!(not_in_kafka(&wanted, &log(10, 20)).is_empty());
        assert_eq!(not_in_kafka(&wanted, &log(12, 20)), ["[10, 12) of partition 0"]);
        assert_eq!(not_in_kafka(&wanted, &log(0, 15)), ["[15, 20) of partition 0"]);
        assert_eq!(
            not_in_kafka(&wanted, &log(12, 15)),
            ["[10, 12) of partition 0", "[15, 20) of partition 0"]
        );
        assert_eq!(not_in_kafka(&wanted, &log(30, 40)), ["[10, 20) of partition 0"]);
        assert_eq!(
            not_in_kafka(&wanted, &BTreeMap::new()),
            ["[10, 20) of partition 0", "[5, 6) of partition 1"]
        );
    }

    #[test]
    fn portions_cut_through_batches_and_say_where_they_end() {
        let mut waiting = Waiting::default();
        waiting.push(at(0, 10), batch(0..3));
        waiting.push(at(1, 0), batch(3..8));
        let (rows, to) = waiting.front(5);
        assert_eq!((values(&rows), to), (vec![0, 1, 2, 3, 4], at(1, 2)));
        assert_eq!(waiting.front(3).1, at(0, 13));
        waiting.drop_front(5);
        assert_eq!(waiting.rows, 3);
        let (rows, to) = waiting.front(100);
        assert_eq!((values(&rows), to), (vec![5, 6, 7], at(1, 5)));
        waiting.drop_front(100);
        assert!(waiting.rows == 0 && waiting.batches.is_empty());
    }
}
