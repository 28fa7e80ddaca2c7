//! Which rollup answers a question: the smallest of those that answer it exactly.
//!
//! Owns: the choice, as a pure function. A rollup answers where it has every measure and every dimension that is asked
//! for or filtered by, and where its buckets neither reach over an edge of the period nor over one of the asked buckets.
//! Does not own: asking (`answer`), sizes (`sizes`).

use chrono::{DateTime, Utc};

use super::error::{ApiError, Code};
use super::question::Aggregate;
use crate::config::{Every, RollupConfig, StreamConfig};
use crate::rollup::Buckets;

/// The rollup with the fewest documents in the period. Where that is not known (`size`): with the widest buckets, then the
/// fewest dimensions.
pub(super) fn choose<'a>(
    question: &Aggregate,
    stream: &'a StreamConfig,
    now: DateTime<Utc>,
    size: impl Fn(&RollupConfig) -> Option<f64>,
) -> Result<&'a RollupConfig, ApiError> {
    for name in &question.measures {
        unambiguous(name, stream)?;
    }
    let mut obstacles = Vec::new();
    let mut fitting = Vec::new();
    for rollup in &stream.rollups {
        match obstacle(question, stream, rollup, now) {
            None => fitting.push(rollup),
            Some(obstacle) => obstacles.push(format!("{} {obstacle}", rollup.name)),
        }
    }
    let rank = |rollup: &RollupConfig| (std::cmp::Reverse(rollup.every.seconds()), rollup.by.len());
    let size = |rollup: &RollupConfig| size(rollup).unwrap_or(f64::INFINITY);
    let best = fitting
        .into_iter()
        .min_by(|a, b| size(a).total_cmp(&size(b)).then_with(|| rank(a).cmp(&rank(b))));
    best.ok_or_else(|| {
        let why = if obstacles.is_empty() {
            format!("stream {} has no rollups", stream.name)
        } else {
            format!(
                "no rollup of stream {} answers this: {}",
                stream.name,
                obstacles.join("; ")
            )
        };
        ApiError::new(Code::NotAnswerable, why)
    })
}

/// Rollups that call different things by one name would answer differently.
fn unambiguous(measure: &str, stream: &StreamConfig) -> Result<(), ApiError> {
    let having = |rollup: &&RollupConfig| rollup.measures.contains_key(measure);
    let mut having = stream.rollups.iter().filter(having);
    let Some(first) = having.next() else { return Ok(()) };
    match having.find(|other| other.measures[measure] != first.measures[measure]) {
        None => Ok(()),
        Some(other) => Err(ApiError::new(
            Code::NotAnswerable,
            format!(
                "{measure} is not the same in the rollups {} and {}: give them different names",
                first.name, other.name
            ),
        )),
    }
}

/// Why a rollup does not answer; `None` where it does.
fn obstacle(question: &Aggregate, stream: &StreamConfig, rollup: &RollupConfig, now: DateTime<Utc>) -> Option<String> {
    let has_measure = |name: &&String| rollup.measures.contains_key(*name);
    if let Some(missing) = question.measures.iter().find(|name| !has_measure(name)) {
        return Some(format!("has no measure {missing}"));
    }
    let has_dimension = |name: &str| rollup.by.iter().any(|&index| stream.schema.fields[index].name == name);
    let wanted = question.by.iter().chain(question.filters.0.keys());
    if let Some(missing) = wanted.into_iter().find(|name| !has_dimension(name)) {
        return Some(format!("has no dimension {missing}"));
    }
    if question.every.is_some_and(|every| !every.holds(rollup.every)) {
        return Some(format!("has buckets of {}", rollup.every));
    }
    let mut buckets = Buckets::new(stream.schema.timezone, rollup.every);
    for (name, edge) in [("from", question.period.from), ("to", question.period.to)] {
        let micros = edge.timestamp_micros();
        if buckets.start(micros) != micros {
            return Some(format!(
                "has buckets of {} in {}, and `{name}` lies within one",
                rollup.every, stream.schema.timezone
            ));
        }
    }
    if let Some(after) = rollup.expire_after
        && question.period.from <= now - after
    {
        let after = humantime::format_duration(after);
        return Some(format!("keeps buckets for {after}, and `from` lies before"));
    }
    None
}

impl Every {
    /// Do whole buckets of the other width make up one of this?
    fn holds(self, other: Self) -> bool {
        self.seconds().is_multiple_of(other.seconds())
    }
}
