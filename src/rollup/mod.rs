//! Rollups: what a run of rows adds to each aggregate, per time bucket and dimensions.
//!
//! Owns: grouping and adding up, exactly (integers and decimals are checked, never rounded), in an order that
//! does not depend on hashing; the text that tells two sets of definitions apart.
//! Does not own: how increments are stored (`sink::mongo`), or what a bucket is (`bucket`).
//!
//! ```text
//!  rows ──▶ codes: one small integer per distinct bucket and per distinct dimension value
//!       ──▶ folded to one group number per row ──▶ each measure added up column by column
//! ```
//! Grouping by codes keeps the row loop free of strings: a value is hashed once per row and column, however many
//! rollups use the column, and only distinct values are ever copied.

mod bucket;
mod group;
mod measure;
pub mod sketch;

use std::fmt::Write;
use std::time::Duration;

use arrow::array::RecordBatch;
use chrono_tz::Tz;

pub use bucket::Buckets;

use crate::config::{Every, Measure, RollupConfig};
use crate::schema::StreamSchema;
use group::Codes;
use sketch::Register;

/// A scalar of a rollup document: a dimension, or what a measure adds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Boolean(bool),
    Integer(i32),
    Long(i64),
    Double(f64),
    Decimal {
        unscaled: i128,
        scale: u8,
    },
    Text(String),
    /// Microseconds UTC; a calendar day is its midnight UTC.
    Instant(i64),
    /// What is distinct in the group, by index: never a dimension.
    Registers(Vec<Register>),
}

/// How a stored measure takes an increment in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Add,
    Min,
    Max,
}

/// One field of a rollup document that measures something. `avg` makes two: its sum and its count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    pub name: String,
    pub operator: Operator,
    source: Source,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Rows,
    /// Rows in which the field is not null.
    NonNull(usize),
    Field(usize),
    /// The distinct values of the field.
    Distinct(usize),
}

/// What one group of rows adds to its document.
#[derive(Clone, Debug, PartialEq)]
pub struct Increment {
    /// Bucket start, microseconds UTC.
    pub start: i64,
    /// In the order of [`Rollup::dimensions`].
    pub dimensions: Vec<Value>,
    /// In the order of [`Rollup::outputs`]; `None` where the group has only nulls.
    pub measures: Vec<Option<Value>>,
}

/// A sum left the range that can be stored exactly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sum `{measure}` of rollup {rollup} leaves the range that can be stored exactly")]
pub struct Overflow {
    pub rollup: String,
    pub measure: String,
}

/// One rollup of one stream, resolved against the schema.
#[derive(Clone, Debug)]
pub struct Rollup {
    pub name: String,
    pub dimensions: Vec<String>,
    pub outputs: Vec<Output>,
    /// Buckets older than that are deleted by the server.
    pub expire_after: Option<Duration>,
    every: Every,
    zone: Tz,
    event_time: usize,
    by: Vec<usize>,
}

impl Rollup {
    pub fn new(config: &RollupConfig, schema: &StreamSchema) -> Self {
        Self {
            name: config.name.clone(),
            dimensions: config.by.iter().map(|&i| schema.fields[i].name.clone()).collect(),
            outputs: config
                .measures
                .iter()
                .flat_map(|(name, measure)| outputs(name, *measure))
                .collect(),
            expire_after: config.expire_after,
            every: config.every,
            zone: schema.timezone,
            event_time: schema.event_time,
            by: config.by.clone(),
        }
    }
}

fn outputs(name: &str, measure: Measure) -> Vec<Output> {
    let output = |name: String, operator, source| Output { name, operator, source };
    match measure {
        Measure::Count => vec![output(name.into(), Operator::Add, Source::Rows)],
        Measure::Sum(field) => vec![output(name.into(), Operator::Add, Source::Field(field))],
        Measure::Min(field) => vec![output(name.into(), Operator::Min, Source::Field(field))],
        Measure::Max(field) => vec![output(name.into(), Operator::Max, Source::Field(field))],
        // Registers come together by their maximum.
        Measure::Distinct(field) => vec![output(name.into(), Operator::Max, Source::Distinct(field))],
        Measure::Avg(field) => vec![
            output(format!("{name}_sum"), Operator::Add, Source::Field(field)),
            output(format!("{name}_count"), Operator::Add, Source::NonNull(field)),
        ],
    }
}

/// What `batches` (all of one stream) add to each of `rollups`; per rollup in the order of bucket start, then
/// dimensions: two transactions that touch the same documents then meet them in the same order.
pub fn increments(rollups: &[Rollup], batches: &[RecordBatch]) -> Result<Vec<Vec<Increment>>, Overflow> {
    let mut codes = Codes::new(batches);
    rollups
        .iter()
        .map(|rollup| {
            let groups = codes.group(rollup.event_time, rollup.zone, rollup.every, &rollup.by);
            let columns = rollup
                .outputs
                .iter()
                .map(|output| {
                    measure::column(batches, &groups, output).map_err(|_| Overflow {
                        rollup: rollup.name.clone(),
                        measure: output.name.clone(),
                    })
                })
                .collect::<Result<Vec<_>, _>>()?;
            let mut increments: Vec<Increment> = groups
                .keys()
                .enumerate()
                .map(|(group, (start, dimensions))| Increment {
                    start,
                    dimensions,
                    measures: columns.iter().map(|column| column[group].clone()).collect(),
                })
                .collect();
            increments.sort_unstable_by(|a, b| {
                a.start
                    .cmp(&b.start)
                    .then_with(|| group::compare(&a.dimensions, &b.dimensions))
            });
            Ok(increments)
        })
        .collect()
}

/// A text that differs whenever two sets of definitions would store different aggregates. It is written into
/// MongoDB's progress, so its form is a contract.
pub fn fingerprint(rollups: &[RollupConfig], schema: &StreamSchema) -> String {
    let name = |field: usize| schema.fields[field].name.as_str();
    let mut text = String::new();
    for rollup in rollups {
        if !text.is_empty() {
            text.push_str("; ");
        }
        let every = match rollup.every {
            Every::Seconds(seconds) => format!("{seconds}s"),
            Every::Day => "day".to_owned(),
        };
        let by: Vec<&str> = rollup.by.iter().map(|&field| name(field)).collect();
        let _ = write!(text, "{} every {every} by {}:", rollup.name, by.join(","));
        for (measure_name, measure) in &rollup.measures {
            let _ = match *measure {
                Measure::Count => write!(text, " {measure_name}=count()"),
                Measure::Sum(field) => write!(text, " {measure_name}=sum({})", name(field)),
                Measure::Min(field) => write!(text, " {measure_name}=min({})", name(field)),
                Measure::Max(field) => write!(text, " {measure_name}=max({})", name(field)),
                Measure::Avg(field) => write!(text, " {measure_name}=avg({})", name(field)),
                Measure::Distinct(field) => write!(text, " {measure_name}=distinct({})", name(field)),
            };
        }
        if let Some(expire_after) = rollup.expire_after {
            let _ = write!(text, " expire after {}s", expire_after.as_secs());
        }
    }
    text
}

#[cfg(test)]
mod tests;
