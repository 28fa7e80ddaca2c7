//! Rollups computed anew from the oracle's rows, and compared with MongoDB's documents.
//!
//! Owns: its own buckets, sums, minima and maxima, in plain maps; which group is missing, foreign or unequal.
//! Does not own: reading the documents (`mongo`); the arithmetic of the write path, of which it uses nothing.
//!
//! Memory grows with the number of groups, as the collections themselves do.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use bson::raw::{RawBsonRef, RawDocument};
use chrono::{DateTime, Duration, LocalResult, NaiveDateTime, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

use super::compare::Kind;
use super::document;
use super::form::{Difference, Form, show};
use super::oracle::{Row, Value, time};
use crate::config::{Every, Measure, RollupConfig};
use crate::schema::{FieldType, StreamSchema};

/// Sums of doubles depend on their order; a part per billion of what was added up is no mistake.
const DOUBLE_TOLERANCE: f64 = 1e-9;

/// Bucket start in milliseconds since 1970, and the dimensions, as bytes: equal groups have equal keys.
type GroupKey = Vec<u8>;

/// One rollup, computed from rows.
#[derive(Debug)]
pub struct Recomputed {
    schema: Arc<StreamSchema>,
    rollup: RollupConfig,
    groups: BTreeMap<GroupKey, Group>,
}

#[derive(Debug)]
struct Group {
    start_ms: i64,
    dimensions: Vec<Option<Value>>,
    /// One per measure, in the configuration's order.
    measures: Vec<Accumulator>,
    /// A document of this group has been seen.
    found: bool,
}

/// What a measure has taken in so far.
#[derive(Clone, Debug)]
struct Accumulator {
    /// Rows in which the field is not null; for `count`, all.
    count: i64,
    total: Total,
    extreme: Option<Value>,
    /// Of what is distinct, the highest rank by register.
    ranks: BTreeMap<u16, u8>,
}

#[derive(Clone, Copy, Debug)]
enum Total {
    Nothing,
    Integer(i128),
    Decimal(i128, u8),
    /// Sum, and sum of the magnitudes.
    Double(f64, f64),
}

/// How one rollup's documents stand against the rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RollupTally {
    pub groups: u64,
    pub missing: Kind<String>,
    /// With the reason.
    pub foreign: Kind<(String, String)>,
    pub unequal: Kind<(String, Vec<Difference>)>,
}

impl RollupTally {
    pub fn holds(&self) -> bool {
        self.missing.count + self.foreign.count + self.unequal.count == 0
    }
}

impl Recomputed {
    pub fn new(schema: &Arc<StreamSchema>, rollup: &RollupConfig) -> Self {
        Self {
            schema: schema.clone(),
            rollup: rollup.clone(),
            groups: BTreeMap::new(),
        }
    }

    pub fn add(&mut self, row: &Row) {
        let Some(Value::Timestamp(at)) = row.values[self.schema.event_time] else {
            return;
        };
        let Some(start_ms) = bucket_start_ms(at, self.rollup.every, self.schema.timezone) else {
            return;
        };
        let dimensions: Vec<Option<&Value>> = self.rollup.by.iter().map(|field| row.values[*field].as_ref()).collect();
        let group = self
            .groups
            .entry(key(start_ms, dimensions.iter().copied()))
            .or_insert_with(|| Group {
                start_ms,
                dimensions: dimensions
                    .iter()
                    .map(|value| value.map(|v| Form::Mongo.value(v)))
                    .collect(),
                measures: vec![Accumulator::new(); self.rollup.measures.len()],
                found: false,
            });
        for (accumulator, measure) in group.measures.iter_mut().zip(self.rollup.measures.values()) {
            accumulator.add(*measure, row);
        }
    }

    /// Compares with every document of the rollup's collection, at some instant after they were read. Buckets that may be
    /// deleted by now are left out: a late record may have brought a piece of one back.
    pub fn compare<D: AsRef<RawDocument>>(
        mut self,
        documents: impl IntoIterator<Item = D>,
        now: DateTime<Utc>,
    ) -> RollupTally {
        let kept_from = self.rollup.expire_after.map(|after| (now - after).timestamp_millis());
        let kept_from = kept_from.unwrap_or(i64::MIN);
        self.groups.retain(|_, group| group.start_ms > kept_from);
        let mut tally = RollupTally {
            groups: self.groups.len() as u64,
            ..RollupTally::default()
        };
        for document in documents {
            self.compare_one(document.as_ref(), kept_from, &mut tally);
        }
        for group in self.groups.values().filter(|group| !group.found) {
            tally.missing.add(|| self.name(group.start_ms, &group.dimensions));
        }
        tally
    }

    fn compare_one(&mut self, document: &RawDocument, kept_from: i64, tally: &mut RollupTally) {
        let Some((start_ms, dimensions)) = self.document_key(document) else {
            let id = document
                .get("_id")
                .ok()
                .flatten()
                .map_or("no _id".to_owned(), document::show);
            tally
                .foreign
                .add(|| (id, "its _id is none of this rollup's".to_owned()));
            return;
        };
        if start_ms <= kept_from {
            return;
        }
        let name = self.name(start_ms, &dimensions);
        let Some(group) = self
            .groups
            .get_mut(&key(start_ms, dimensions.iter().map(Option::as_ref)))
        else {
            tally.foreign.add(|| (name, "no record belongs to it".to_owned()));
            return;
        };
        group.found = true;
        let group = &*group;
        let differences = differences(&self.schema, &self.rollup, group, document);
        if !differences.is_empty() {
            tally.unequal.add(|| (name, differences));
        }
    }

    /// `_id: {t, <dimension>…}` in exactly that order.
    fn document_key(&self, document: &RawDocument) -> Option<(i64, Vec<Option<Value>>)> {
        let id = document.get_document("_id").ok()?;
        let mut elements = id.iter();
        let start_ms = match elements.next()?.ok()? {
            (name, RawBsonRef::DateTime(at)) if name.as_str() == "t" => at.timestamp_millis(),
            _ => return None,
        };
        let mut dimensions = Vec::new();
        for field in self.rollup.by.iter().map(|index| &self.schema.fields[*index]) {
            let (name, found) = elements.next()?.ok()?;
            if name.as_str() != field.name {
                return None;
            }
            dimensions.push(match found {
                RawBsonRef::Null => None,
                found => Some(document::value(field.ty, found)?),
            });
        }
        elements.next().is_none().then_some((start_ms, dimensions))
    }

    /// A group for people: `2024-01-01T00:00:00Z, region "Corse"`.
    fn name(&self, start_ms: i64, dimensions: &[Option<Value>]) -> String {
        let mut name = show(Some(&Value::Timestamp(start_ms.saturating_mul(1000))));
        for (field, value) in self.rollup.by.iter().zip(dimensions) {
            name += &format!(", {} {}", self.schema.fields[*field].name, show(value.as_ref()));
        }
        name
    }
}

impl Accumulator {
    fn new() -> Self {
        Self {
            count: 0,
            total: Total::Nothing,
            extreme: None,
            ranks: BTreeMap::new(),
        }
    }

    fn add(&mut self, measure: Measure, row: &Row) {
        let (Measure::Sum(field)
        | Measure::Min(field)
        | Measure::Max(field)
        | Measure::Avg(field)
        | Measure::Distinct(field)) = measure
        else {
            self.count += 1;
            return;
        };
        let Some(value) = &row.values[field] else {
            return;
        };
        self.count += 1;
        let keep = match measure {
            Measure::Min(_) => Ordering::Less,
            Measure::Max(_) => Ordering::Greater,
            Measure::Distinct(_) => {
                if let Some((register, rank)) = register(value) {
                    let highest = self.ranks.entry(register).or_default();
                    *highest = rank.max(*highest);
                }
                return;
            }
            _ => {
                self.total.add(value);
                return;
            }
        };
        let value = Form::Mongo.value(value);
        if self
            .extreme
            .as_ref()
            .is_none_or(|extreme| order(&value, extreme) == keep)
        {
            self.extreme = Some(value);
        }
    }
}

impl Total {
    fn add(&mut self, value: &Value) {
        // Saturated sums equal no stored one: they are reported, as they should be.
        *self = match (&self, value) {
            (Self::Nothing, Value::Integer(value)) => Self::Integer((*value).into()),
            (Self::Integer(sum), Value::Integer(value)) => Self::Integer(sum.saturating_add((*value).into())),
            (Self::Nothing, Value::Decimal(value, scale)) => Self::Decimal(*value, *scale),
            (Self::Decimal(sum, scale), Value::Decimal(value, _)) => Self::Decimal(sum.saturating_add(*value), *scale),
            (_, Value::Float(value)) => self.plus(f64::from(*value)),
            (_, Value::Double(value)) => self.plus(*value),
            (unchanged, _) => **unchanged,
        }
    }

    fn plus(self, value: f64) -> Self {
        match self {
            Self::Double(sum, magnitude) => Self::Double(sum + value, magnitude + value.abs()),
            _ => Self::Double(value, value.abs()),
        }
    }
}

/// The register that a value falls into, and its rank there (docs/rollups.md has the form).
fn register(value: &Value) -> Option<(u16, u8)> {
    const MICROS_PER_DAY: i64 = 86_400_000_000;
    let number = |number: i64| number.to_le_bytes().to_vec();
    let bytes = match value {
        Value::String(text) => text.as_bytes().to_vec(),
        Value::Boolean(value) => vec![u8::from(*value)],
        Value::Integer(value) => number(*value),
        Value::Date(days) => number(i64::from(*days) * MICROS_PER_DAY),
        _ => return None,
    };
    let hash = xxhash_rust::xxh3::xxh3_64(&bytes);
    let (register, rest) = ((hash >> 54) as u16, hash & ((1 << 54) - 1));
    // Zeros before the first one among 54 bits.
    let zeros = (0..54).take_while(|bit| rest & (1 << (53 - bit)) == 0).count();
    Some((register, zeros as u8 + 1))
}

fn order(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Boolean(a), Value::Boolean(b)) => a.cmp(b),
        (Value::Integer(a), Value::Integer(b)) | (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
        (Value::Decimal(a, _), Value::Decimal(b, _)) => a.cmp(b),
        (Value::Double(a), Value::Double(b)) => a.total_cmp(b),
        (Value::Date(a), Value::Date(b)) => a.cmp(b),
        // One field has one type.
        _ => Ordering::Equal,
    }
}

/// The flat part of a group's document: `t`, the dimensions and the measures, and nothing else.
fn differences(schema: &StreamSchema, rollup: &RollupConfig, group: &Group, document: &RawDocument) -> Vec<Difference> {
    let mut expected = BTreeMap::from([("t".to_owned(), Cell::Instant(group.start_ms))]);
    for (index, value) in rollup.by.iter().zip(&group.dimensions) {
        let field = &schema.fields[*index];
        let cell = value
            .as_ref()
            .map_or(Cell::Null, |value| Cell::Value(field.ty, value.clone()));
        expected.insert(field.name.clone(), cell);
    }
    for ((name, measure), accumulator) in rollup.measures.iter().zip(&group.measures) {
        expected.extend(measure_cells(schema, name, *measure, accumulator));
    }

    let mut differences = Vec::new();
    for element in document {
        let Ok((name, found)) = element else {
            differences.push(difference("(document)", "a readable document", "damaged BSON"));
            break;
        };
        let name = name.as_str();
        match expected.remove(name) {
            _ if name == "_id" => {}
            Some(cell) if cell.is(found) => {}
            Some(cell) => differences.push(difference(name, &cell.show(), &document::show(found))),
            None => differences.push(difference(name, "nothing", &document::show(found))),
        }
    }
    // A zero count may be left out, and so may be what is absent anyway.
    let owed = expected
        .iter()
        .filter(|(_, cell)| !matches!(cell, Cell::Absent | Cell::Count(0)));
    differences.extend(owed.map(|(name, cell)| difference(name, &cell.show(), "nothing")));
    differences
}

fn difference(field: &str, expected: &str, found: &str) -> Difference {
    Difference {
        field: field.to_owned(),
        expected: expected.to_owned(),
        found: found.to_owned(),
    }
}

fn measure_cells(
    schema: &StreamSchema,
    name: &str,
    measure: Measure,
    accumulator: &Accumulator,
) -> Vec<(String, Cell)> {
    let total = Cell::Total(accumulator.total);
    match measure {
        Measure::Count => vec![(name.to_owned(), Cell::Count(accumulator.count))],
        Measure::Sum(_) => vec![(name.to_owned(), total)],
        Measure::Avg(_) => vec![
            (format!("{name}_sum"), total),
            (format!("{name}_count"), Cell::Count(accumulator.count)),
        ],
        Measure::Distinct(_) => vec![(name.to_owned(), Cell::Ranks(accumulator.ranks.clone()))],
        Measure::Min(field) | Measure::Max(field) => {
            let cell = match &accumulator.extreme {
                Some(value) => Cell::Value(schema.fields[field].ty, value.clone()),
                None => Cell::Absent,
            };
            vec![(name.to_owned(), cell)]
        }
    }
    .into_iter()
    .map(|(name, cell)| match cell {
        Cell::Total(Total::Nothing) => (name, Cell::Absent),
        Cell::Ranks(ranks) if ranks.is_empty() => (name, Cell::Absent),
        cell => (name, cell),
    })
    .collect()
}

/// What one field of a rollup document should be.
#[derive(Clone, Debug)]
enum Cell {
    Absent,
    Null,
    Instant(i64),
    Count(i64),
    Total(Total),
    Value(FieldType, Value),
    Ranks(BTreeMap<u16, u8>),
}

impl Cell {
    fn is(&self, found: RawBsonRef<'_>) -> bool {
        match (self, found) {
            (Self::Null, RawBsonRef::Null) => true,
            (Self::Instant(ms), RawBsonRef::DateTime(at)) => at.timestamp_millis() == *ms,
            (Self::Count(count), RawBsonRef::Int64(found)) => found == *count,
            (Self::Total(Total::Integer(sum)), RawBsonRef::Int64(found)) => i128::from(found) == *sum,
            (Self::Total(Total::Decimal(sum, scale)), RawBsonRef::Decimal128(found)) => {
                document::decimal(found.bytes(), *scale) == Some(*sum)
            }
            (Self::Total(Total::Double(sum, magnitude)), RawBsonRef::Double(found)) => {
                // Relative to what was added up, not to the sum: where large numbers cancel out, their
                // rounding stays.
                (found - sum).abs() <= DOUBLE_TOLERANCE * magnitude
            }
            (Self::Ranks(ranks), RawBsonRef::Document(found)) => found_ranks(found).as_ref() == Some(ranks),
            (Self::Value(ty, value), found) => {
                document::value(*ty, found).is_some_and(|found| Form::Mongo.value(&found) == *value)
            }
            _ => false,
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Absent | Self::Total(Total::Nothing) => "nothing".to_owned(),
            Self::Null => "null".to_owned(),
            Self::Instant(ms) => show(Some(&Value::Timestamp(ms.saturating_mul(1000)))),
            Self::Count(count) => count.to_string(),
            Self::Total(Total::Integer(sum)) => sum.to_string(),
            Self::Total(Total::Decimal(sum, scale)) => show(Some(&Value::Decimal(*sum, *scale))),
            Self::Total(Total::Double(sum, _)) => format!("{sum:?}"),
            Self::Value(_, value) => show(Some(value)),
            Self::Ranks(ranks) => format!("a sketch of {} registers", ranks.len()),
        }
    }
}

/// `{"<register>": <rank>, …}`, in any order, each once.
fn found_ranks(document: &RawDocument) -> Option<BTreeMap<u16, u8>> {
    let mut ranks = BTreeMap::new();
    for element in document {
        let (name, RawBsonRef::Int32(rank)) = element.ok()? else {
            return None;
        };
        let register = name.as_str().parse().ok()?;
        ranks
            .insert(register, u8::try_from(rank).ok()?)
            .is_none()
            .then_some(())?;
    }
    Some(ranks)
}

fn key<'v>(start_ms: i64, dimensions: impl Iterator<Item = Option<&'v Value>>) -> GroupKey {
    let mut key = start_ms.to_be_bytes().to_vec();
    for dimension in dimensions {
        Form::Mongo.encode(dimension, &mut key);
    }
    key
}

/// Start of the bucket an instant falls into: the zone's wall clock, divided evenly.
fn bucket_start_ms(micros: i64, every: Every, zone: Tz) -> Option<i64> {
    let wall = time::local(micros, zone)?;
    let midnight = wall.date().and_time(chrono::NaiveTime::MIN);
    let start = match every {
        Every::Day => first_instant(midnight, zone)?,
        Every::Seconds(width) => {
            let into_the_day = wall.num_seconds_from_midnight();
            let start = midnight + Duration::seconds(i64::from(into_the_day - into_the_day % width.max(1)));
            match zone.from_local_datetime(&start) {
                // An hour that comes twice is two buckets: ours is the one that has begun.
                LocalResult::Ambiguous(_, second) if second.timestamp_micros() <= micros => second.timestamp_millis(),
                _ => first_instant(start, zone)?,
            }
        }
    };
    Some(start)
}

/// The first instant at which the wall shows this time, or a later one where the clock jumps over it.
fn first_instant(wall: NaiveDateTime, zone: Tz) -> Option<i64> {
    const DAY: i64 = 24 * 3600;
    (0..DAY).find_map(|later| {
        let shown = wall.checked_add_signed(Duration::seconds(later))?;
        zone.from_local_datetime(&shown)
            .earliest()
            .map(|instant| instant.timestamp_millis())
    })
}

#[cfg(test)]
mod tests;
