//! A rollup asked by a pipeline of MongoDB's, and its buckets put together.
//!
//! Owns: the pipeline, folding buckets into wider ones by our own calendar (`rollup::Buckets`), and how much of both there
//! may be.
//! Does not own: which rollup (`source`), connections and deadlines (`documents`), what an answer looks like (`table`).
//!
//! MongoDB groups by bucket and dimensions. What the groups add up to is exact: integers and decimals are summed as such.
//! Sketches of what is distinct come together here: MongoDB has no operator for it.

use std::collections::BTreeMap;

use bigdecimal::BigDecimal;
use bson::{Bson, Document, doc};
use chrono::DateTime;

use super::error::{ApiError, Code};
use super::question::{Aggregate, Filters};
use super::table::{Cell, Column, Table, type_name};
use crate::config::{Measure, RollupConfig, StreamConfig};
use crate::rollup::Buckets;
use crate::rollup::sketch::{REGISTERS, estimate};
use crate::schema::FieldType;

/// Groups that are put together here; beyond, the question is refused.
const MAX_GROUPS: usize = 500_000;
/// Rows with sketches, of a kilobyte each.
const MAX_SKETCHED: usize = 50_000;

/// The rollup's documents of the period, added up per bucket and dimensions.
pub(super) fn pipeline(question: &Aggregate, stream: &StreamConfig, rollup: &RollupConfig) -> Vec<Document> {
    let time = |time: DateTime<chrono::Utc>| bson::DateTime::from_millis(time.timestamp_millis());
    let mut wanted = doc! { "t": { "$gte": time(question.period.from), "$lt": time(question.period.to) } };
    wanted.extend(conditions(&question.filters));
    let mut key = Document::new();
    if question.every.is_some() {
        key.insert("t", "$t");
    }
    for name in &question.by {
        key.insert(name, format!("${name}"));
    }
    let parts = parts(question, stream, rollup);
    let is_grouped = is_grouped(&parts);
    // To a projection an empty document is no value.
    let mut fields = match is_grouped || !key.is_empty() {
        true => doc! { "_id": key },
        false => doc! { "_id": { "$literal": key } },
    };
    for (number, part) in parts.into_iter().enumerate() {
        let field = format!("${}", part.field);
        if !is_grouped {
            fields.insert(format!("m{number}"), field);
            continue;
        }
        fields.insert(format!("m{number}"), doc! { part.operator.name(): &field });
        if part.may_be_absent {
            fields.insert(format!("n{number}"), doc! { "$max": field });
        }
    }
    let stage = if is_grouped { "$group" } else { "$project" };
    vec![
        doc! { "$match": wanted },
        doc! { stage: fields },
        doc! { "$limit": MAX_GROUPS as i64 + 1 },
    ]
}

/// As MongoDB looks for them. A field that is null may also be absent.
pub(super) fn conditions(filters: &Filters) -> Document {
    let condition = |(name, values): (&String, &Vec<Bson>)| (name.clone(), Bson::from(doc! { "$in": values.clone() }));
    filters.0.iter().map(condition).collect()
}

/// Does MongoDB add up? Else it hands on every bucket.
fn is_grouped(parts: &[Part]) -> bool {
    parts.iter().all(|part| part.operator != Operator::Merge)
}

/// A field of the rollup's documents, and how values of it come together.
struct Part {
    field: String,
    operator: Operator,
    /// The sum of nothing is null, which MongoDB's is not: beside it, something that is.
    may_be_absent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Sum,
    Min,
    Max,
    /// Of sketches.
    Merge,
}

impl Operator {
    fn name(self) -> &'static str {
        match self {
            Self::Sum => "$sum",
            Self::Min => "$min",
            Self::Max => "$max",
            Self::Merge => "$mergeObjects",
        }
    }
}

/// What of a part has come together so far.
#[derive(Clone, Debug)]
enum Folded {
    Cell(Cell),
    Sketch(Box<[u8; REGISTERS]>),
}

impl Folded {
    fn take(&mut self, operator: Operator, value: Option<&Bson>) {
        if let (Operator::Merge, Some(Bson::Document(registers))) = (operator, value) {
            return self.merge(registers);
        }
        let Self::Cell(cell) = self else { return };
        let value = Cell::new(value, FieldType::Timestamp);
        *cell = match (operator, std::mem::replace(cell, Cell::Null)) {
            (Operator::Sum, sum) => sum.add(value),
            (_, Cell::Null) => value,
            (Operator::Min, least) => least.min(value),
            (_, most) => most.max(value),
        };
    }

    fn merge(&mut self, registers: &Document) {
        if let Self::Cell(_) = self {
            *self = Self::Sketch(Box::new([0; REGISTERS]));
        }
        let Self::Sketch(highest) = self else { return };
        for (index, rank) in registers {
            let known = index.parse().ok().and_then(|index: usize| highest.get_mut(index));
            if let (Some(known), Bson::Int32(rank)) = (known, rank) {
                *known = u8::try_from(*rank).unwrap_or_default().max(*known);
            }
        }
    }

    fn finished(self) -> Cell {
        match self {
            Self::Cell(cell) => cell,
            Self::Sketch(ranks) => Cell::Long(estimate(&ranks).round() as i64),
        }
    }
}

/// Two for an average: its sum, its count.
fn parts(question: &Aggregate, stream: &StreamConfig, rollup: &RollupConfig) -> Vec<Part> {
    let part = |field: String, operator| Part {
        field,
        operator,
        may_be_absent: false,
    };
    let sum = |name: &String, field: usize| Part {
        may_be_absent: !stream.schema.fields[field].required,
        ..part(name.clone(), Operator::Sum)
    };
    let of_measure = |name: &String| match rollup.measures[name] {
        Measure::Count => vec![part(name.clone(), Operator::Sum)],
        Measure::Sum(field) => vec![sum(name, field)],
        Measure::Min(_) => vec![part(name.clone(), Operator::Min)],
        Measure::Max(_) => vec![part(name.clone(), Operator::Max)],
        Measure::Distinct(_) => vec![part(name.clone(), Operator::Merge)],
        Measure::Avg(_) => vec![
            part(format!("{name}_sum"), Operator::Sum),
            part(format!("{name}_count"), Operator::Sum),
        ],
    };
    question.measures.iter().flat_map(of_measure).collect()
}

/// The answer as it comes together, group by group.
pub(super) struct Folding<'a> {
    question: &'a Aggregate,
    stream: &'a StreamConfig,
    rollup: &'a RollupConfig,
    parts: Vec<Part>,
    is_grouped: bool,
    dimensions: Vec<FieldType>,
    buckets: Option<Buckets>,
    rows: BTreeMap<Vec<Cell>, Vec<Folded>>,
    groups: usize,
}

impl<'a> Folding<'a> {
    pub fn new(question: &'a Aggregate, stream: &'a StreamConfig, rollup: &'a RollupConfig) -> Self {
        let parts = parts(question, stream, rollup);
        Self {
            question,
            stream,
            rollup,
            is_grouped: is_grouped(&parts),
            parts,
            dimensions: question.by.iter().map(|name| declared(stream, name)).collect(),
            buckets: question.every.map(|every| Buckets::new(stream.schema.timezone, every)),
            rows: BTreeMap::new(),
            groups: 0,
        }
    }

    /// Takes a group that the pipeline has found.
    pub fn take(&mut self, group: &Document) -> Result<(), ApiError> {
        self.groups += 1;
        let key = self.key(group)?;
        let new = || vec![Folded::Cell(Cell::Null); self.parts.len()];
        let row = self.rows.entry(key).or_insert_with(new);
        for (number, (part, folded)) in self.parts.iter().zip(row).enumerate() {
            let something = group.get(format!("n{number}"));
            let is_nothing = matches!(something, None | Some(Bson::Null));
            if !(self.is_grouped && part.may_be_absent && is_nothing) {
                folded.take(part.operator, group.get(format!("m{number}")));
            }
        }
        let most = if self.is_grouped { MAX_GROUPS } else { MAX_SKETCHED };
        if self.groups > MAX_GROUPS || self.rows.len() > most {
            let message = "the answer is too large: ask for a shorter period, wider buckets or fewer dimensions";
            return Err(ApiError::new(Code::NotAnswerable, message));
        }
        Ok(())
    }

    fn key(&mut self, group: &Document) -> Result<Vec<Cell>, ApiError> {
        let key = group.get_document("_id").map_err(|_| unexpected("no key"))?;
        let mut cells = Vec::with_capacity(key.len());
        if let Some(buckets) = &mut self.buckets {
            let start = key.get_datetime("t").map_err(|_| unexpected("no time"))?;
            let start = buckets.start(start.timestamp_millis() * 1000);
            cells.push(Cell::Time(start.div_euclid(1000)));
        }
        let named = self.question.by.iter().zip(&self.dimensions);
        cells.extend(named.map(|(name, ty)| Cell::new(key.get(name), *ty)));
        Ok(cells)
    }

    pub fn finish(self) -> Table {
        let Self {
            question,
            stream,
            rollup,
            ..
        } = self;
        let rows = self.rows.into_iter();
        let mut table = Table {
            stream: stream.name.clone(),
            source: rollup.name.clone(),
            columns: columns(question, stream, rollup),
            rows: rows
                .map(|(key, parts)| finished(key, parts, question, stream, rollup))
                .collect(),
            complete: true,
        };
        table.cut(question.order.as_ref(), question.limit);
        table
    }
}

/// Averages are divided last.
fn finished(
    mut row: Vec<Cell>,
    parts: Vec<Folded>,
    question: &Aggregate,
    stream: &StreamConfig,
    rollup: &RollupConfig,
) -> Vec<Cell> {
    let mut parts = parts.into_iter().map(Folded::finished);
    for name in &question.measures {
        let part = parts.next().unwrap_or(Cell::Null);
        row.push(match rollup.measures[name] {
            Measure::Avg(field) => average(part, parts.next().unwrap_or(Cell::Null), stream.schema.fields[field].ty),
            Measure::Min(field) | Measure::Max(field) if stream.schema.fields[field].ty == FieldType::Date => {
                match part {
                    Cell::Time(ms) => Cell::Day(ms),
                    other => other,
                }
            }
            _ => part,
        });
    }
    row
}

/// Of a decimal with four digits more than it has, else a double.
fn average(sum: Cell, count: Cell, ty: FieldType) -> Cell {
    match (sum, count, ty) {
        (_, Cell::Null | Cell::Long(0), _) | (Cell::Null, ..) => Cell::Null,
        (Cell::Decimal(sum), Cell::Long(count), FieldType::Decimal { scale, .. }) => {
            let mean = sum / BigDecimal::from(count);
            Cell::Decimal(mean.with_scale_round(i64::from(scale) + 4, bigdecimal::RoundingMode::HalfEven))
        }
        (sum, count, _) => Cell::Double(sum.double() / count.double()),
    }
}

fn columns(question: &Aggregate, stream: &StreamConfig, rollup: &RollupConfig) -> Vec<Column> {
    let time = question.every.map(|_| Column::new("t", "timestamp"));
    let of_dimension = |name: &String| Column::new(name, type_name(declared(stream, name)));
    let of_measure = |name: &String| Column {
        approximate: matches!(rollup.measures[name], Measure::Distinct(_)),
        ..Column::new(name, measure_type(rollup.measures[name], stream))
    };
    let dimensions = question.by.iter().map(of_dimension);
    let measures = question.measures.iter().map(of_measure);
    time.into_iter().chain(dimensions).chain(measures).collect()
}

pub(super) fn measure_type(measure: Measure, stream: &StreamConfig) -> &'static str {
    let of = |field: usize| stream.schema.fields[field].ty;
    match measure {
        Measure::Count | Measure::Distinct(_) => "long",
        Measure::Min(field) | Measure::Max(field) | Measure::Sum(field) => type_name(of(field)),
        Measure::Avg(field) => match of(field) {
            FieldType::Decimal { .. } => "decimal",
            _ => "double",
        },
    }
}

fn declared(stream: &StreamConfig, name: &str) -> FieldType {
    let field = stream.schema.fields.iter().find(|field| field.name == name);
    field.map_or(FieldType::String, |field| field.ty)
}

fn unexpected(what: &str) -> ApiError {
    ApiError::new(Code::Unavailable, format!("mongodb's answer has {what}"))
}
