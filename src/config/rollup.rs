//! `[[streams.rollups]]`: bucket width, dimensions and measures.
//!
//! Owns: the grammar of a measure, which types can be dimensions or be measured, and the names a rollup's
//! document holds side by side (`_id`, `t`, dimensions, measures).
//! Does not own: how buckets and sums are computed (`crate::rollup`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::fields::Declared;
use super::names;
use super::section::Section;
use super::{Every, Measure, RollupConfig};
use crate::schema::FieldType;

const DAY_SECONDS: u64 = 86_400;

/// Reads a stream's rollups. `None` where one is broken; the report says what.
pub(super) fn rollups(stream: &Section<'_>, declared: &Declared) -> Option<Vec<RollupConfig>> {
    let sections = stream.sections("rollups");
    let rollups: Vec<Option<RollupConfig>> = sections.into_iter().map(|section| rollup(section, declared)).collect();
    rollups.into_iter().collect()
}

fn rollup(section: Section<'_>, declared: &Declared) -> Option<RollupConfig> {
    let name = section.parsed("name", None, |name| names::collection(name).map(|()| name.to_owned()));
    let every = section.parsed("every", None, Every::parse);
    let mut document = BTreeSet::from(["_id".to_owned(), "t".to_owned()]);
    let by = dimensions(&section, declared, &mut document);
    let measures = measures(&section, declared, &mut document);
    let expire_after = expire_after(&section, every);
    section.finish();
    Some(RollupConfig {
        name: name?,
        every: every?,
        by: by?,
        measures: measures?,
        expire_after: expire_after?,
    })
}

/// `Some(None)`: kept for ever.
fn expire_after(section: &Section<'_>, every: Option<Every>) -> Option<Option<Duration>> {
    const LONGEST: Duration = Duration::from_secs(100 * 365 * DAY_SECONDS);
    if !section.has("expire_after") {
        return Some(None);
    }
    // A bucket lasts until its end at least.
    let width = Duration::from_secs(every.map_or(1, Every::seconds));
    section.duration("expire_after", None, width..=LONGEST).map(Some)
}

impl Every {
    /// Reads a width such as `1m`, `1h` or `1d`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let width = humantime::parse_duration(text)
            .map_err(|_| format!("wants a bucket width such as \"1m\", \"1h\" or \"1d\", found {text:?}"))?;
        match width.as_secs() {
            _ if width.subsec_nanos() != 0 => Err(format!("wants whole seconds, found {text:?}")),
            DAY_SECONDS => Ok(Self::Day),
            seconds @ 1..DAY_SECONDS if DAY_SECONDS.is_multiple_of(seconds) => Ok(Self::Seconds(seconds as u32)),
            // Otherwise the last bucket of a day would be shorter than the others.
            _ => Err(format!(
                "must divide a day evenly, as 1m, 5m, 1h and 1d do; found {text:?}"
            )),
        }
    }

    /// Of wall clock.
    pub fn seconds(self) -> u64 {
        match self {
            Self::Seconds(seconds) => seconds.into(),
            Self::Day => DAY_SECONDS,
        }
    }
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Day => f.write_str("1d"),
            Self::Seconds(seconds) => humantime::format_duration(Duration::from_secs((*seconds).into())).fmt(f),
        }
    }
}

fn dimensions(section: &Section<'_>, declared: &Declared, document: &mut BTreeSet<String>) -> Option<Vec<usize>> {
    let mut by = Vec::new();
    let mut complete = true;
    for (name, origin) in section.names("by")? {
        let dimension = dimension(&name, declared).and_then(|index| match index {
            Some(_) if !document.insert(name.clone()) => Err(format!("{name:?} is in the rollup's document already")),
            other => Ok(other),
        });
        match dimension {
            Ok(Some(index)) => by.push(index),
            Ok(None) => complete = false,
            Err(message) => {
                complete = false;
                section.report().add(&origin, section.path_of("by"), message);
            }
        }
    }
    complete.then_some(by)
}

fn dimension(name: &str, declared: &Declared) -> Result<Option<usize>, String> {
    let Some((index, field)) = declared.find(name)? else {
        return Ok(None);
    };
    match is_dimension(field.ty) {
        true => Ok(Some(index)),
        false => Err(format!(
            "{name:?} is a {}; dimensions are strings, booleans, whole numbers and dates",
            field.ty
        )),
    }
}

/// A bucket per instant or per float is no aggregate, and equality of floats is no grouping.
fn is_dimension(ty: FieldType) -> bool {
    use FieldType::{Boolean, Byte, Date, Integer, Long, Short, String};
    matches!(ty, String | Boolean | Byte | Short | Integer | Long | Date)
}

fn measures(
    section: &Section<'_>,
    declared: &Declared,
    document: &mut BTreeSet<String>,
) -> Option<BTreeMap<String, Measure>> {
    let written = section.map("measures");
    let mut measures = BTreeMap::new();
    for (name, (text, origin)) in &written {
        let measure = names::measure(name)
            .and_then(|()| measure(text, declared))
            .and_then(|measure| match measure {
                Some(measure) => claim(name, measure, document).map(|()| Some(measure)),
                None => Ok(None),
            });
        match measure {
            Ok(Some(measure)) => drop(measures.insert(name.clone(), measure)),
            Ok(None) => {}
            Err(message) => {
                section
                    .report()
                    .add(origin, section.path_of(&format!("measures.{name}")), message);
            }
        }
    }
    if written.is_empty() {
        section.problem(
            "measures",
            "is required, as in measures = { total = \"sum(value)\", readings = \"count()\" }",
        );
    }
    (measures.len() == written.len() && !written.is_empty()).then_some(measures)
}

/// The names under which the measure is stored must be free in the document.
fn claim(name: &str, measure: Measure, document: &mut BTreeSet<String>) -> Result<(), String> {
    let stored = match measure {
        Measure::Avg(_) => vec![format!("{name}_sum"), format!("{name}_count")],
        _ => vec![name.to_owned()],
    };
    for field in stored {
        if document.contains(&field) {
            return Err(format!(
                "is stored as {field:?}, which the rollup's document holds already"
            ));
        }
        document.insert(field);
    }
    Ok(())
}

/// `sum(field) | count() | min(field) | max(field) | avg(field) | distinct(field)`.
fn measure(text: &str, declared: &Declared) -> Result<Option<Measure>, String> {
    let grammar =
        || format!("wants sum(field), count(), min(field), max(field), avg(field) or distinct(field), found {text:?}");
    let (function, argument) = text
        .trim()
        .strip_suffix(')')
        .and_then(|text| text.split_once('('))
        .map(|(function, argument)| (function.trim(), argument.trim()))
        .ok_or_else(grammar)?;
    let make: fn(usize) -> Measure = match (function, argument) {
        ("count", "") => return Ok(Some(Measure::Count)),
        ("count", _) => return Err(format!("counts records and takes no field, found {text:?}")),
        (_, "") => return Err(grammar()),
        ("sum", _) => Measure::Sum,
        ("min", _) => Measure::Min,
        ("max", _) => Measure::Max,
        ("avg", _) => Measure::Avg,
        ("distinct", _) => Measure::Distinct,
        _ => return Err(grammar()),
    };
    let Some((index, field)) = declared.find(argument)? else {
        return Ok(None);
    };
    if function == "distinct" {
        return match is_dimension(field.ty) {
            true => Ok(Some(make(index))),
            false => Err(format!("distinct cannot be taken of {argument:?}, a {}", field.ty)),
        };
    }
    let ordered = matches!(field.ty, FieldType::Timestamp | FieldType::Date) && matches!(function, "min" | "max");
    if is_numeric(field.ty) || ordered {
        Ok(Some(make(index)))
    } else {
        Err(format!("{function} cannot be taken of {argument:?}, a {}", field.ty))
    }
}

fn is_numeric(ty: FieldType) -> bool {
    use FieldType::{Byte, Decimal, Double, Float, Integer, Long, Short};
    matches!(ty, Byte | Short | Integer | Long | Float | Double | Decimal { .. })
}
