//! What became of single records in the sinks. `dead-letters replay` asks before it sends a record again: one that
//! a sink holds, or that the next run will still read, would then be there twice.
//!
//! Owns: the answer per record. Does not own: reading the sinks (`sides`, `lake`, `mongo`).

use std::collections::{BTreeMap, BTreeSet};

use super::plan::{Plan, Side};
use super::records::{ASK_TIMEOUT, Coordinates};
use super::sides::Sides;
use crate::config::{Config, StreamConfig};
use crate::error::{Exit, Exits};
use crate::kafka::admin::describe_topic;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A sink has not passed the record yet: the next run will read it.
    Unread,
    /// A sink has a row of it.
    Held,
    /// Every sink has passed it and none has a row: it was rejected, or lies before the stream's start.
    Absent,
}

/// The fate of every record asked for. Final where it is not [`Fate::Unread`]: progress never goes back.
pub async fn fates(
    config: &Config,
    stream: &StreamConfig,
    wanted: &BTreeSet<Coordinates>,
) -> anyhow::Result<BTreeMap<Coordinates, Fate>> {
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let bad = |what: String| Exits::error(Exit::Bad, format!("stream {}: {what}", stream.name));
    let Some(topic) = describe_topic(&config.kafka, &stream.topic, ASK_TIMEOUT).await? else {
        return Err(bad(format!("topic {} does not exist", stream.topic)));
    };
    let mut problems = Vec::new();
    let sides = Sides::open(stream, &mut problems).await?;
    problems.extend(sides.strangers(&config.job, &stream.name, &topic.id));
    if !problems.is_empty() {
        return Err(bad(problems.join("; ")));
    }
    let plan = sides.plan(config, stream, &topic).await?;
    let held = sides.holding(stream, &plan, wanted).await?;
    let fate = |record: &Coordinates| {
        if held.contains(record) {
            Fate::Held
        } else if passed_by_all(&plan, stream, record) {
            Fate::Absent
        } else {
            Fate::Unread
        }
    };
    Ok(wanted.iter().map(|record| (*record, fate(record))).collect())
}

fn passed_by_all(plan: &Plan, stream: &StreamConfig, (partition, offset): &Coordinates) -> bool {
    let passed = |side| {
        let reach = plan
            .partitions
            .get(partition)
            .and_then(|partition| partition.reach(side));
        reach.is_some_and(|reach| *offset < reach.next)
    };
    (!stream.mongo.enabled || passed(Side::Mongo)) && (!stream.lake.enabled || passed(Side::Lake))
}
