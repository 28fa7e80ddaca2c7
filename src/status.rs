//! `affluent status`: where the log, and both sinks, stand. Reads only; needs no running job.
//!
//! Owns: putting together what Kafka, MongoDB and the lake say, and how it is shown.
//! Does not own: reading each of them (`kafka::admin`, `sink::mongo`, `lake::status`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Message, Offset as KafkaOffset, TopicPartitionList};
use serde::Serialize;

use crate::config::{Config, KafkaConfig, StreamConfig};
use crate::error::Exit;
use crate::kafka::admin::{self, Watermarks};
use crate::kafka::client_config;
use crate::lake;
use crate::offsets::{Offset, Partition, Progress, TopicId};
use crate::run::select;
use crate::sink::mongo;

const KAFKA_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the ages of waiting records may take to read, all partitions together.
const AGES_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
--json prints one object: {streams: [{stream, topic, topic_id, lake_version, problems, partitions: [{partition, \
log_start, log_end, lag_records, lag_seconds, mongo: {next, lag_records}, lake: {next, lag_records}}]}]}. Offsets are \
next offsets; log_end is the last stable offset. lag_records and lag_seconds are those of the slower sink; null where a \
sink has recorded nothing yet, or the age could not be read.")]
pub struct StatusArgs {
    /// Only these streams (repeatable)
    #[arg(long = "stream", value_name = "NAME")]
    pub streams: Vec<String>,
    /// One JSON object instead of tables
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    streams: Vec<StreamStatus>,
}

#[derive(Debug, Default, Serialize)]
struct StreamStatus {
    stream: String,
    topic: String,
    topic_id: Option<TopicId>,
    lake_version: Option<u64>,
    partitions: Vec<PartitionStatus>,
    /// What could not be read.
    problems: Vec<String>,
}

#[derive(Debug, PartialEq, Serialize)]
struct PartitionStatus {
    partition: Partition,
    log_start: Offset,
    log_end: Offset,
    lag_records: Option<i64>,
    lag_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mongo: Option<SinkStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lake: Option<SinkStatus>,
}

#[derive(Debug, PartialEq, Serialize)]
struct SinkStatus {
    next: Option<Offset>,
    lag_records: Option<i64>,
}

pub async fn run(args: StatusArgs, config: &Config) -> anyhow::Result<Exit> {
    let streams = select(config, &args.streams)?;
    let statuses = futures::future::join_all(streams.iter().map(|stream| look(config, stream))).await;
    let complete = statuses.iter().all(|status| status.problems.is_empty());
    let report = Report { streams: statuses };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        report.streams.iter().for_each(|status| print!("{}", table(status)));
    }
    Ok(if complete { Exit::Ok } else { Exit::Infrastructure })
}

/// Shows what can be read even where a service is missing.
async fn look(config: &Config, stream: &StreamConfig) -> StreamStatus {
    let mut status = StreamStatus {
        stream: stream.name.clone(),
        topic: stream.topic.clone(),
        ..StreamStatus::default()
    };
    let (log, mongo, lake) = tokio::join!(
        log(&config.kafka, stream),
        mongo_next(stream),
        lake_next(&config.job, stream)
    );
    let mut keep = |problem: anyhow::Error| status.problems.push(format!("{problem:#}"));
    let mongo = mongo.map_err(&mut keep).ok();
    let lake = lake.map_err(&mut keep).ok();
    let (topic_id, marks) = match log {
        Ok(log) => log,
        Err(problem) => {
            keep(problem);
            return status;
        }
    };
    let lake = lake.map(|(version, progress)| {
        status.lake_version = version;
        next_of(&progress, &topic_id)
    });
    status.partitions = assemble(
        &marks,
        stream.mongo.enabled.then(|| mongo.unwrap_or_default()),
        stream.lake.enabled.then(|| lake.unwrap_or_default()),
    );
    status.topic_id = Some(topic_id);
    if let Err(problem) = add_ages(&config.kafka, stream, &mut status.partitions).await {
        status.problems.push(format!("{problem:#}"));
    }
    status
}

async fn log(kafka: &KafkaConfig, stream: &StreamConfig) -> anyhow::Result<(TopicId, BTreeMap<Partition, Watermarks>)> {
    let topic = admin::describe_topic(kafka, &stream.topic, KAFKA_TIMEOUT).await?;
    let topic = topic.with_context(|| format!("topic {} does not exist", stream.topic))?;
    let marks = admin::watermarks(kafka, &stream.topic, &topic.partitions, KAFKA_TIMEOUT).await?;
    Ok((topic.id, marks))
}

async fn mongo_next(stream: &StreamConfig) -> anyhow::Result<Progress> {
    if !stream.mongo.enabled {
        return Ok(Progress::new());
    }
    let documents = mongo::read_progress(&stream.mongo, &stream.name).await?;
    Ok(documents
        .into_iter()
        .filter_map(|d| Some((d.partition()?, d.next)))
        .collect())
}

type LakeNext = BTreeMap<(TopicId, Partition), Offset>;

async fn lake_next(job: &str, stream: &StreamConfig) -> anyhow::Result<(Option<u64>, LakeNext)> {
    if !stream.lake.enabled {
        return Ok((None, LakeNext::new()));
    }
    let read = lake::status::read_progress(&stream.lake, job, &stream.name).await;
    let read = read.with_context(|| format!("cannot read the lake table of stream {}", stream.name))?;
    Ok(read.map_or((None, LakeNext::new()), |progress| {
        (Some(progress.version), progress.next)
    }))
}

/// Of a table that has seen several incarnations of the topic, what belongs to this one.
fn next_of(progress: &LakeNext, topic_id: &TopicId) -> Progress {
    progress
        .iter()
        .filter(|((id, _), _)| id == topic_id)
        .map(|((_, p), next)| (*p, *next))
        .collect()
}

/// `None` for a sink that is turned off.
fn assemble(
    marks: &BTreeMap<Partition, Watermarks>,
    mongo: Option<Progress>,
    lake: Option<Progress>,
) -> Vec<PartitionStatus> {
    let one = |(partition, marks): (&Partition, &Watermarks)| {
        let sink = |progress: &Option<Progress>| {
            progress.as_ref().map(|progress| {
                let next = progress.get(partition).copied();
                SinkStatus {
                    next,
                    lag_records: next.map(|next| (marks.high - next).max(0)),
                }
            })
        };
        let (mongo, lake) = (sink(&mongo), sink(&lake));
        let lags: Option<Vec<i64>> = [&mongo, &lake].into_iter().flatten().map(|s| s.lag_records).collect();
        PartitionStatus {
            partition: *partition,
            log_start: marks.low,
            log_end: marks.high,
            lag_records: lags.and_then(|lags| lags.into_iter().max()),
            lag_seconds: None,
            mongo,
            lake,
        }
    };
    marks.iter().map(one).collect()
}

/// Fills in `lag_seconds`: the age of the first record that the slower sink does not hold.
async fn add_ages(
    kafka: &KafkaConfig,
    stream: &StreamConfig,
    partitions: &mut [PartitionStatus],
) -> anyhow::Result<()> {
    let mut waiting = Progress::new();
    for p in partitions.iter_mut() {
        match p.lag_records {
            Some(0) => p.lag_seconds = Some(0.0),
            Some(lag) => {
                waiting.insert(p.partition, p.log_end - lag);
            }
            None => {}
        }
    }
    if waiting.is_empty() {
        return Ok(());
    }
    let (kafka, topic) = (kafka.clone(), stream.topic.clone());
    let stamps = tokio::task::spawn_blocking(move || timestamps(&kafka, &topic, &waiting)).await??;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
    for p in partitions {
        if let Some(stamp) = stamps.get(&p.partition) {
            p.lag_seconds = Some((now - stamp).max(0) as f64 / 1000.0);
        }
    }
    Ok(())
}

/// Kafka's timestamp of the first record at or behind each position, as far as they come in time.
fn timestamps(kafka: &KafkaConfig, topic: &str, from: &Progress) -> anyhow::Result<BTreeMap<Partition, i64>> {
    let mut config = client_config(kafka);
    // Assigned by hand: the group is named because the client wants one, never joined.
    config
        .set("group.id", &kafka.group)
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed");
    config
        .set("fetch.message.max.bytes", "65536")
        .set("queued.max.messages.kbytes", "1024");
    let consumer: BaseConsumer = config.create().context("cannot create a Kafka consumer")?;
    let mut list = TopicPartitionList::new();
    for (partition, next) in from {
        list.add_partition_offset(topic, partition.0, KafkaOffset::Offset(*next))?;
    }
    consumer
        .assign(&list)
        .with_context(|| format!("cannot read topic {topic}"))?;
    let deadline = Instant::now() + AGES_TIMEOUT;
    let mut found = BTreeMap::new();
    while found.len() < from.len() && Instant::now() < deadline {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100))
            && let Some(stamp) = message.timestamp().to_millis()
        {
            found.entry(Partition(message.partition())).or_insert(stamp);
        }
    }
    Ok(found)
}

fn table(status: &StreamStatus) -> String {
    let mut text = format!("{}  topic {}", status.stream, status.topic);
    if let Some(id) = &status.topic_id {
        let _ = write!(text, " ({id})");
    }
    if let Some(version) = status.lake_version {
        let _ = write!(text, "  lake version {version}");
    }
    text.push('\n');
    if !status.partitions.is_empty() {
        let _ = writeln!(
            text,
            "  {:>9} {:>14} {:>14} {:>14} {:>14} {:>12} {:>9}",
            "partition", "log start", "log end", "mongo", "lake", "lag records", "lag s"
        );
    }
    let sink = |sink: &Option<SinkStatus>| match sink {
        None => "off".to_owned(),
        Some(sink) => or_dash(sink.next),
    };
    for p in &status.partitions {
        let _ = writeln!(
            text,
            "  {:>9} {:>14} {:>14} {:>14} {:>14} {:>12} {:>9}",
            p.partition.0,
            p.log_start,
            p.log_end,
            sink(&p.mongo),
            sink(&p.lake),
            or_dash(p.lag_records),
            or_dash(p.lag_seconds.map(|s| format!("{s:.1}")))
        );
    }
    for problem in &status.problems {
        let _ = writeln!(text, "  problem: {problem}");
    }
    text
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks() -> BTreeMap<Partition, Watermarks> {
        BTreeMap::from([
            (Partition(0), Watermarks { low: 5, high: 20 }),
            (Partition(1), Watermarks { low: 0, high: 7 }),
        ])
    }

    #[test]
    fn the_lag_is_the_slower_sinks() {
        let mongo = Progress::from([(Partition(0), 18), (Partition(1), 7)]);
        let lake = Progress::from([(Partition(0), 12), (Partition(1), 7)]);
        let partitions = assemble(&marks(), Some(mongo), Some(lake));
        assert_eq!(
            (partitions[0].lag_records, partitions[1].lag_records),
            (Some(8), Some(0))
        );
    }

    #[test]
    fn a_sink_without_a_record_makes_the_lag_unknown_and_one_turned_off_does_not_count() {
        let mongo = Progress::from([(Partition(0), 18)]);
        let partitions = assemble(&marks(), Some(mongo.clone()), Some(Progress::new()));
        assert_eq!(partitions[0].lag_records, None);
        let partitions = assemble(&marks(), Some(mongo), None);
        assert_eq!((partitions[0].lag_records, partitions[1].lag_records), (Some(2), None));
        let shown = table(&StreamStatus {
            stream: "sales".into(),
            partitions,
            ..StreamStatus::default()
        });
        assert!(shown.contains("off") && shown.contains("18"), "{shown}");
    }
}
