//! What may become of a stream's declared fields once records are stored: a pure judgement over two schemas.
//!
//! Owns: which change is compatible, what is said of one that is not, and which schema was in force at an offset.
//! Does not own: making the change (`lake::delta::evolution`, `sink::mongo::evolution`), nor what others have done to a
//! table's columns (`lake::delta::spec`).
//!
//! | the declaration                                   | becomes                                                    |
//! |---------------------------------------------------|------------------------------------------------------------|
//! | a new nullable field                              | a new column; null in the rows before                      |
//! | a required field becomes nullable                 | the column takes null                                      |
//! | a field is given up                               | the column stays, null in the rows after                   |
//! | the same fields in another order                  | nothing but the order in new documents                     |
//! | a new required field, nullable → required         | refused: rows before have none, or may have none           |
//! | another type, unit, event time, partition or zone | refused: the rows before say something else                |
//! | a declaration that was replaced                   | refused: it is an instance that nobody brought up to date  |
//!
//! A type is never widened in place. Delta has the table feature `typeWidening` for it, which this program's writer does
//! not implement and delta-rs (also under `verify`) and Polars refuse to read.

use std::fmt;

use super::{Field, FieldType, PartitionColumn, StreamSchema};
use crate::error::Invariant;
use crate::offsets::{Epoch, Offset};

/// Former schemas that a sink remembers. Each is needed to say what a record of its time should be, so none is dropped.
pub const MAX_FORMER: usize = 64;

/// What a sink has recorded: the schema in force, and those before it, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded<'a> {
    pub schema: &'a str,
    pub former: Vec<&'a str>,
}

/// What a stream declares now.
#[derive(Clone, Debug)]
pub struct Declared {
    pub schema: StreamSchema,
    pub fingerprint: String,
    /// A person has said that it may be one that was in force before.
    pub may_be_former: bool,
}

impl Declared {
    pub fn new(schema: &StreamSchema) -> Self {
        Self {
            fingerprint: schema.fingerprint(),
            schema: schema.clone(),
            may_be_former: false,
        }
    }
}

/// How a declaration stands to what is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It is the one in force.
    Same,
    /// It may take the place of the one in force.
    Change(Change),
}

/// A compatible change, by the names of the fields it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub added: Vec<String>,
    /// Required before.
    pub relaxed: Vec<String>,
    pub removed: Vec<String>,
}

/// Why a declaration may not take the place of the recorded one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    Incompatible(Vec<Difference>),
    /// It was in force once, and was replaced by the present one.
    Former(Vec<Difference>),
    TooMany,
    /// What is recorded is no schema.
    Unreadable(String),
}

/// One line of the table that a refusal shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// A field, or `event_time` and the like.
    pub column: String,
    pub recorded: String,
    pub declared: String,
    /// What can be done about it; `None` where the line only completes the picture.
    pub remedy: Option<Remedy>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remedy {
    /// A new field must be nullable.
    DeclareNullable,
    KeepNullable,
    AnotherName,
    /// As `AnotherName`; the type would be a wider one.
    AnotherNameForWider,
    ChangeBack,
}

/// Judges a declaration by what a sink has recorded.
pub fn judge(recorded: &Recorded<'_>, declared: &Declared) -> Result<Fit, Refusal> {
    if declared.fingerprint == recorded.schema {
        return Ok(Fit::Same);
    }
    let parse = |text: &str| StreamSchema::parse(text).ok_or_else(|| Refusal::Unreadable(text.to_owned()));
    let stored = parse(recorded.schema)?;
    let former = recorded.former.iter().map(|text| parse(text));
    let former = former.collect::<Result<Vec<_>, _>>()?;
    if recorded.former.contains(&declared.fingerprint.as_str()) && !declared.may_be_former {
        return Err(Refusal::Former(differences(&former, &stored, &declared.schema)));
    }
    let change = compare(&former, &stored, &declared.schema).map_err(Refusal::Incompatible)?;
    if former.len() >= MAX_FORMER {
        return Err(Refusal::TooMany);
    }
    Ok(Fit::Change(change))
}

/// The change from `stored` to `declared`, or every difference where one of them is in the way. `former` are the schemas
/// before: a field that was given up keeps its type, and its column.
pub fn compare(
    former: &[StreamSchema],
    stored: &StreamSchema,
    declared: &StreamSchema,
) -> Result<Change, Vec<Difference>> {
    let differences = differences(former, stored, declared);
    if differences.iter().any(|difference| difference.remedy.is_some()) {
        return Err(differences);
    }
    let names = |some: &mut dyn Iterator<Item = &Field>| some.map(|field| field.name.clone()).collect();
    let relaxed = |field: &&Field| !field.required && stored.field(&field.name).is_some_and(|before| before.required);
    Ok(Change {
        added: names(&mut declared.fields.iter().filter(|f| stored.field(&f.name).is_none())),
        relaxed: names(&mut declared.fields.iter().filter(relaxed)),
        removed: names(&mut stored.fields.iter().filter(|f| declared.field(&f.name).is_none())),
    })
}

fn differences(former: &[StreamSchema], stored: &StreamSchema, declared: &StreamSchema) -> Vec<Difference> {
    let mut differences = Vec::new();
    for field in &stored.fields {
        let after = declared.field(&field.name);
        if after.is_none_or(|after| after != field) {
            differences.push(Difference {
                column: field.name.clone(),
                recorded: described(Some(field)),
                declared: described(after),
                remedy: after.and_then(|after| in_the_way(field, after)),
            });
        }
    }
    for field in declared
        .fields
        .iter()
        .filter(|field| stored.field(&field.name).is_none())
    {
        let given_up = former.iter().rev().find_map(|schema| schema.field(&field.name));
        let retyped = given_up.filter(|before| before.ty != field.ty || before.unit != field.unit);
        let in_the_way = match retyped {
            Some(before) => in_the_way(before, field),
            None => field.required.then_some(Remedy::DeclareNullable),
        };
        let recorded = match given_up {
            Some(before) => format!("{}, given up", described(Some(before))),
            None => described(None),
        };
        differences.push(Difference {
            column: field.name.clone(),
            recorded,
            declared: described(Some(field)),
            remedy: in_the_way,
        });
    }
    let mut whole = |column: &str, recorded: String, declared: String| {
        if recorded != declared {
            differences.push(Difference {
                column: column.to_owned(),
                recorded,
                declared,
                remedy: Some(Remedy::ChangeBack),
            });
        }
    };
    let event_time = |schema: &StreamSchema| schema.fields[schema.event_time].name.clone();
    whole("event_time", event_time(stored), event_time(declared));
    let partition_by = |schema: &StreamSchema| schema.partition_names().join(", ");
    whole("partition_by", partition_by(stored), partition_by(declared));
    whole("timezone", stored.timezone.to_string(), declared.timezone.to_string());
    differences
}

fn in_the_way(before: &Field, after: &Field) -> Option<Remedy> {
    if before.ty != after.ty {
        return Some(if is_wider(before.ty, after.ty) {
            Remedy::AnotherNameForWider
        } else {
            Remedy::AnotherName
        });
    }
    if before.unit != after.unit {
        return Some(Remedy::AnotherName);
    }
    (after.required && !before.required).then_some(Remedy::KeepNullable)
}

/// What Delta's `typeWidening` would allow.
fn is_wider(from: FieldType, to: FieldType) -> bool {
    use FieldType::{Byte, Decimal, Double, Float, Integer, Long, Short};
    match (from, to) {
        (Byte, Short | Integer | Long | Double)
        | (Short, Integer | Long | Double)
        | (Integer, Long | Double)
        | (Float, Double) => true,
        (Decimal { precision, scale }, Decimal { precision: p, scale: s }) => {
            s >= scale && p >= precision && p - precision >= s - scale
        }
        _ => false,
    }
}

fn described(field: Option<&Field>) -> String {
    field.map_or_else(|| "-".to_owned(), |field| field.description(" ", " "))
}

impl Refusal {
    /// As a stop. `place` is the sink ("the table at …"), `whose` heads its column ("in the table").
    pub fn invariant(&self, stream: &str, place: &str, whose: &str) -> Invariant {
        match self {
            Self::Incompatible(differences) => Invariant::new(
                format!(
                    "the declared fields of stream {stream} do not fit {place}:\n{}\n",
                    Table(whose, differences)
                ),
                remedies(differences),
            ),
            Self::Former(differences) => Invariant::new(
                format!(
                    "this instance declares fields of stream {stream} that {place} had before: another instance has \
                     replaced them since:\n{}\n",
                    Table(whose, differences)
                ),
                "give this instance the present declaration; to go back on purpose, stop the other instances and start \
                 once with `affluent run --former-schema`",
            ),
            Self::TooMany => Invariant::new(
                format!(
                    "the declared fields of stream {stream} changed again, and {place} remembers {MAX_FORMER} schemas \
                     before the present one, which is as many as it may"
                ),
                "change them back, or go on with a stream of another name",
            ),
            Self::Unreadable(text) => Invariant::new(
                format!("the schema that {place} has recorded for stream {stream} cannot be read: `{text}`"),
                "put back what this program wrote there, or run the version of affluent that wrote it",
            ),
        }
    }
}

/// What to do, once for all differences of a kind.
fn remedies(differences: &[Difference]) -> String {
    let mut remedies: Vec<Remedy> = differences.iter().filter_map(|difference| difference.remedy).collect();
    remedies.sort_unstable();
    remedies.dedup();
    let columns = |remedy: Remedy| {
        let of_kind = differences.iter().filter(|d| d.remedy == Some(remedy));
        of_kind.map(|d| d.column.as_str()).collect::<Vec<_>>().join(", ")
    };
    let sentence = |remedy: Remedy| {
        let columns = columns(remedy);
        match remedy {
            Remedy::DeclareNullable => {
                format!("declare {columns} without `required`: the rows before have no value")
            }
            Remedy::KeepNullable => format!("leave {columns} without `required`: rows before may hold null"),
            Remedy::AnotherName => {
                format!("declare {columns} under another name, or begin a stream of another name")
            }
            Remedy::AnotherNameForWider => format!(
                "declare {columns} under another name, or begin a stream of another name: a column is widened in place \
                 only with Delta's table feature typeWidening, which this program does not write and delta-rs and Polars \
                 do not read"
            ),
            Remedy::ChangeBack => format!("change {columns} back, or begin a stream of another name"),
        }
    };
    remedies.into_iter().map(sentence).collect::<Vec<_>>().join("; ")
}

/// The differences in three columns.
struct Table<'a>(&'a str, &'a [Difference]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(whose, differences) = *self;
        let head = ("column", whose, "in the configuration");
        let lines = differences
            .iter()
            .map(|d| (d.column.as_str(), d.recorded.as_str(), d.declared.as_str()));
        let lines: Vec<_> = std::iter::once(head).chain(lines).collect();
        let width = |cell: fn(&(&str, &str, &str)) -> usize| lines.iter().map(cell).max().unwrap_or_default();
        let (first, second) = (
            width(|line| line.0.chars().count()),
            width(|line| line.1.chars().count()),
        );
        for (index, (column, recorded, declared)) in lines.iter().enumerate() {
            let end = if index + 1 < lines.len() { "\n" } else { "" };
            write!(f, "  {column:first$} | {recorded:second$} | {declared}{end}")?;
        }
        Ok(())
    }
}

/// Rows that were stored under `former`, in the fields of `declared` that it had: what documents are that the present
/// encoder makes of them.
pub fn narrowed(former: &StreamSchema, declared: &StreamSchema) -> Option<StreamSchema> {
    let kept = declared.fields.iter().filter_map(|field| former.field(&field.name));
    let fields: Vec<Field> = kept.cloned().collect();
    let position = |index: usize| {
        let name = &former.fields[index].name;
        fields.iter().position(|field| field.name == *name)
    };
    let event_time = position(former.event_time)?;
    let partition_by = former.partition_by.iter().map(|column| match column {
        PartitionColumn::EventDate => Some(PartitionColumn::EventDate),
        PartitionColumn::Field(index) => position(*index).map(PartitionColumn::Field),
    });
    let partition_by = partition_by.collect::<Option<Vec<_>>>()?;
    Some(StreamSchema::new(fields, event_time, partition_by, former.timezone))
}

/// In words, for the log.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("added", &self.added),
            ("no longer required", &self.relaxed),
            ("given up", &self.removed),
        ];
        let parts = parts.iter().filter(|(_, names)| !names.is_empty());
        let text: Vec<String> = parts
            .map(|(what, names)| format!("{what}: {}", names.join(", ")))
            .collect();
        f.write_str(if text.is_empty() { "another order" } else { "" })?;
        f.write_str(&text.join("; "))
    }
}

/// The schemas of one partition in one sink, by offset.
#[derive(Clone, Debug)]
pub struct Timeline<S> {
    /// Each with the offset it ended before, oldest first.
    former: Vec<(Offset, S)>,
    current: S,
}

impl<S> Timeline<S> {
    /// `former`: epoch, end and schema, oldest first. What ended in an epoch before has no record of this one.
    pub fn new(epoch: Epoch, former: impl IntoIterator<Item = (Epoch, Offset, S)>, current: S) -> Self {
        let of_this = former.into_iter().filter(|(ended_in, ..)| *ended_in == epoch);
        Self {
            former: of_this.map(|(_, until, schema)| (until, schema)).collect(),
            current,
        }
    }

    pub fn at(&self, offset: Offset) -> &S {
        let found = self.former.iter().find(|(until, _)| offset < *until);
        found.map_or(&self.current, |(_, schema)| schema)
    }

    pub fn former(&self) -> impl Iterator<Item = &S> {
        self.former.iter().map(|(_, schema)| schema)
    }

    pub fn current(&self) -> &S {
        &self.current
    }
}

#[cfg(test)]
mod tests;
