//! Asks Kafka and both sinks about one stream, all at once, each within a bound.
//!
//! Owns: whom to ask, and that one missing service never hides what the others say.
//! Does not own: what the answers mean (`report`).

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use super::report::{LossReport, Observed, Side, of_topic};
use crate::config::{Config, Start, StreamConfig};
use crate::event_time::Micros;
use crate::kafka::admin::{TopicDescription, Watermarks, describe_topic, watermarks};
use crate::kafka::peek::peek;
use crate::lake::status::LakeProgress;
use crate::loss::{self, Loss};
use crate::offsets::{Offset, Partition, TopicId};
use crate::sink::mongo::ProgressDocument;
use crate::{lake, sink};

/// What all services say about the stream. Takes at most about three times `timeout`.
pub async fn observe(config: &Config, stream: &StreamConfig, timeout: Duration) -> Observed {
    let (log, mongo, lake) = tokio::join!(
        bounded("kafka", timeout * 2, log(config, stream, timeout)),
        bounded("mongo", timeout, mongo(stream)),
        bounded("lake", timeout, lake(config, stream)),
    );
    let mut seen = Observed {
        stream: stream.name.clone(),
        topic: stream.topic.clone(),
        from_start: config.kafka.start == Start::Earliest,
        ..Observed::default()
    };
    match log {
        Ok(Some((topic, log))) => {
            seen.topic_id = Some(topic.id);
            seen.log = log;
        }
        Ok(None) => seen.problems.push(format!("kafka: there is no topic {}", stream.topic)),
        Err(problem) => seen.problems.push(problem),
    }
    let mongo = mongo.map(|found| {
        found.map(|documents| {
            seen.losses = mongo_losses(&documents);
            seen.mongo_event_times = documents.iter().filter_map(|d| event_time(d, &seen.topic_id)).collect();
            documents.into_iter().filter_map(entry).collect()
        })
    });
    seen.mongo = side(mongo, "mongo", &mut seen);
    let lake = lake.map(|found| {
        found.map(|progress| {
            if let Some(progress) = &progress {
                // The lake has the whole record, MongoDB its share of it.
                let whole: Vec<LossReport> = progress.losses.iter().map(lake_loss).collect();
                seen.losses.retain(|share| whole.iter().all(|loss| loss.id != share.id));
                seen.losses.extend(whole);
            }
            seen.lake_version = progress.as_ref().map(|progress| progress.version);
            let times = progress.as_ref().and_then(|progress| progress.event_times.clone());
            let times = times.filter(|times| is_of(&times.topic_id, &seen.topic_id));
            seen.lake_event_times = times.map(|times| times.highest).unwrap_or_default();
            progress.map(entries).unwrap_or_default()
        })
    });
    seen.lake = side(lake, "lake", &mut seen);

    match bounded(
        "kafka",
        timeout * 2,
        peek(&config.kafka, &stream.topic, &seen.unread(), timeout),
    )
    .await
    {
        Ok(peeked) => seen.peeked = peeked,
        Err(problem) => seen.problems.push(problem),
    }
    seen
}

type Entries = Vec<(TopicId, Partition, Offset)>;

/// `Ok(None)`: the sink is disabled.
fn side(answer: Result<Option<Entries>, String>, sink: &str, seen: &mut Observed) -> Side {
    let entries = match answer {
        Ok(Some(entries)) => entries,
        Ok(None) => return Side::Off,
        Err(problem) => {
            seen.problems.push(problem);
            return Side::Unknown;
        }
    };
    let (progress, others) = of_topic(entries, seen.topic_id.as_ref());
    for id in others {
        seen.notices.push(format!(
            "{sink} also holds progress of a topic with id {id}: the topic was re-created"
        ));
    }
    Side::Known(progress)
}

/// `Ok(None)`: there is no such topic.
async fn log(
    config: &Config,
    stream: &StreamConfig,
    timeout: Duration,
) -> anyhow::Result<Option<(TopicDescription, BTreeMap<Partition, Watermarks>)>> {
    let Some(topic) = describe_topic(&config.kafka, &stream.topic, timeout).await? else {
        return Ok(None);
    };
    let log = watermarks(&config.kafka, &stream.topic, &topic.partitions, timeout).await?;
    Ok(Some((topic, log)))
}

/// `Ok(None)`: the sink is disabled.
async fn mongo(stream: &StreamConfig) -> anyhow::Result<Option<Vec<ProgressDocument>>> {
    if !stream.mongo.enabled {
        return Ok(None);
    }
    sink::mongo::read_progress(&stream.mongo, &stream.name).await.map(Some)
}

fn event_time(document: &ProgressDocument, topic: &Option<TopicId>) -> Option<(Partition, Micros)> {
    let time = document
        .event_time_micros()
        .filter(|_| is_of(&document.topic_id, topic))?;
    Some((document.partition()?, time))
}

/// As for progress: an id that is not known is that of any topic.
fn is_of(theirs: &TopicId, current: &Option<TopicId>) -> bool {
    let other = |current: &TopicId| current != theirs && current.is_known() && theirs.is_known();
    !current.as_ref().is_some_and(other)
}

fn entry(document: ProgressDocument) -> Option<(TopicId, Partition, Offset)> {
    let partition = document.partition()?;
    Some((document.topic_id, partition, document.next))
}

/// Every partition has its share of a loss; together they are one.
fn mongo_losses(documents: &[ProgressDocument]) -> BTreeSet<LossReport> {
    let mut losses: BTreeMap<&str, LossReport> = BTreeMap::new();
    for (partition, share) in documents
        .iter()
        .flat_map(|d| d.losses.iter().map(|l| (d.partition(), l)))
    {
        let loss = losses.entry(&share.id).or_insert_with(|| LossReport {
            accepted_at: loss::when(share.accepted_at.to_system_time().into()),
            id: share.id.clone(),
            loss: share.loss.clone(),
        });
        if let (Some(partition), Some(from)) = (partition, share.from) {
            let to = share.to.map_or("…".to_owned(), |to| to.to_string());
            loss.loss
                .push_str(&format!("; mongo: partition {partition} [{from}, {to})"));
        }
    }
    losses.into_values().collect()
}

fn lake_loss(loss: &Loss) -> LossReport {
    LossReport {
        accepted_at: loss::when(loss.accepted_at),
        id: loss.id.clone(),
        loss: loss.to_string(),
    }
}

/// Outer `None`: the sink is disabled. Inner: there is no table yet.
async fn lake(config: &Config, stream: &StreamConfig) -> anyhow::Result<Option<Option<LakeProgress>>> {
    if !stream.lake.enabled {
        return Ok(None);
    }
    lake::status::read_progress(&stream.lake, &config.job, &stream.name)
        .await
        .map(Some)
}

/// A partition that has begun and holds nothing yet stands at its start.
fn entries(progress: LakeProgress) -> Entries {
    let mut next = progress.starts;
    next.extend(progress.next);
    next.into_iter()
        .map(|((id, partition), next)| (id, partition, next))
        .collect()
}

/// The answer, or a sentence that begins with the service's name.
async fn bounded<T>(
    service: &str,
    timeout: Duration,
    question: impl Future<Output = anyhow::Result<T>>,
) -> Result<T, String> {
    match tokio::time::timeout(timeout, question).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(format!("{service}: {error:#}")),
        Err(_) => Err(format!(
            "{service}: no answer within {}",
            humantime::format_duration(timeout)
        )),
    }
}
