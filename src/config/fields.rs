//! A stream's `fields`, `event_time`, `partition_by` and `timezone`: what becomes its [`StreamSchema`].
//!
//! Owns: type names, bounds of decimals, which columns may partition the table.
//! Does not own: the rules for a single name (`names`).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use chrono_tz::Tz;

use super::names;
use super::section::Section;
use crate::schema::{DATE_COLUMN, EpochUnit, Field, FieldType, PartitionColumn, StreamSchema};

/// More digits than this do not fit Decimal128, MongoDB's decimal.
const MONGO_DECIMAL_DIGITS: u8 = 34;

/// The declared fields, as far as they could be read: a broken one keeps its place as `None`, so that what
/// refers to it by name is not reported as well.
pub(super) struct Declared {
    fields: Vec<(String, Option<Field>)>,
    /// A field without a usable name is among them: "no such field" may be that one.
    nameless: bool,
}

impl Declared {
    /// Index and field of that name. `Err` is the report's text; `Ok(None)`: reported already.
    pub(super) fn find(&self, name: &str) -> Result<Option<(usize, &Field)>, String> {
        match self.fields.iter().position(|(declared, _)| declared == name) {
            Some(index) => Ok(self.fields[index].1.as_ref().map(|field| (index, field))),
            None if self.nameless => Ok(None),
            None => {
                let names: Vec<&str> = self.fields.iter().map(|(name, _)| name.as_str()).collect();
                let hint = match super::section::closest(name, &names) {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => format!("declared are {}", names.join(", ")),
                };
                Err(format!("{name:?} is no declared field; {hint}"))
            }
        }
    }
}

/// Reads `fields`. `mongo_enabled` bounds decimals.
pub(super) fn declared(stream: &Section<'_>, mongo_enabled: bool) -> Declared {
    let mut declared = Declared {
        fields: Vec::new(),
        nameless: false,
    };
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    if !stream.has("fields") {
        stream.missing("fields", "is required: a stream is a preset or declares its fields");
        declared.nameless = true;
    }
    for section in stream.sections("fields") {
        let name = section.parsed("name", None, |name| names::column(name).map(|()| name.to_owned()));
        if let Some(name) = &name {
            match seen.entry(name.to_lowercase()) {
                Entry::Vacant(free) => drop(free.insert(name.clone())),
                Entry::Occupied(taken) => {
                    let message = format!("{name:?} is declared twice (as {:?}; case does not count)", taken.get());
                    section.problem("name", message);
                }
            }
        }
        let field = field(section, name.clone(), mongo_enabled);
        match name {
            Some(name) => declared.fields.push((name, field)),
            None => declared.nameless = true,
        }
    }
    if declared.fields.is_empty() && !declared.nameless {
        stream.problem("fields", "is empty");
        declared.nameless = true;
    }
    declared
}

fn field(section: Section<'_>, name: Option<String>, mongo_enabled: bool) -> Option<Field> {
    let ty = section.parsed("type", None, field_type);
    let required = section.boolean("required", Some(false));
    let unit = section.parsed("unit", Some(None), |text| epoch_unit(text).map(Some));
    if let Some(FieldType::Decimal { precision, .. }) = ty
        && mongo_enabled
        && precision > MONGO_DECIMAL_DIGITS
    {
        let message = format!(
            "MongoDB's decimal holds {MONGO_DECIMAL_DIGITS} digits, this one {precision}; \
             lower it or disable mongo for this stream"
        );
        section.problem("type", message);
    }
    if let (Some(Some(_)), Some(ty)) = (unit, ty)
        && ty != FieldType::Timestamp
    {
        section.problem(
            "unit",
            format!("is for timestamps that arrive as epoch numbers, this field is a {ty}"),
        );
    }
    section.finish();
    Some(Field {
        name: name?,
        ty: ty?,
        required: required?,
        unit: unit?,
    })
}

/// Delta's primitive type names.
fn field_type(text: &str) -> Result<FieldType, String> {
    const SIMPLE: [FieldType; 10] = [
        FieldType::String,
        FieldType::Boolean,
        FieldType::Byte,
        FieldType::Short,
        FieldType::Integer,
        FieldType::Long,
        FieldType::Float,
        FieldType::Double,
        FieldType::Date,
        FieldType::Timestamp,
    ];
    if let Some(ty) = SIMPLE.iter().find(|ty| ty.to_string() == text) {
        return Ok(*ty);
    }
    let Some(arguments) = text.strip_prefix("decimal").map(str::trim) else {
        let known: Vec<String> = SIMPLE.iter().map(ToString::to_string).collect();
        return Err(format!(
            "unknown type {text:?}; known are {}, decimal(precision,scale)",
            known.join(", ")
        ));
    };
    let numbers = arguments
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'))
        .and_then(|inner| inner.split_once(','))
        .and_then(|(precision, scale)| Some((precision.trim().parse().ok()?, scale.trim().parse().ok()?)));
    match numbers {
        Some((precision @ 1..=38, scale)) if scale <= precision => Ok(FieldType::Decimal { precision, scale }),
        Some(_) => Err(format!("{text:?}: precision is 1 to 38, scale at most the precision")),
        None => Err(format!("wants decimal(precision,scale), found {text:?}")),
    }
}

fn epoch_unit(text: &str) -> Result<EpochUnit, String> {
    match text {
        "s" => Ok(EpochUnit::Seconds),
        "ms" => Ok(EpochUnit::Milliseconds),
        "us" => Ok(EpochUnit::Microseconds),
        other => Err(format!("wants \"s\", \"ms\" or \"us\", found {other:?}")),
    }
}

/// Puts the schema together once the fields are read.
pub(super) fn schema(stream: &Section<'_>, declared: Declared) -> Option<Arc<StreamSchema>> {
    let timezone = stream.parsed("timezone", None, |name| {
        name.parse::<Tz>()
            .map_err(|_| format!("{name:?} is no IANA time zone, such as \"Europe/Paris\" or \"UTC\""))
    });
    let event_time = stream
        .parsed("event_time", None, |name| {
            let Some((index, field)) = declared.find(name)? else {
                return Ok(None);
            };
            match (field.ty, field.required) {
                (FieldType::Timestamp, true) => Ok(Some(index)),
                (FieldType::Timestamp, false) => Err(format!("{name:?} must be declared with required = true")),
                (ty, _) => Err(format!("{name:?} must be a timestamp, it is declared as {ty}")),
            }
        })
        .flatten();
    let partition_by = partition_by(stream, &declared);
    let fields: Option<Vec<Field>> = declared.fields.into_iter().map(|(_, field)| field).collect();
    Some(Arc::new(StreamSchema::new(
        fields?,
        event_time?,
        partition_by?,
        timezone?,
    )))
}

fn partition_by(stream: &Section<'_>, declared: &Declared) -> Option<Vec<PartitionColumn>> {
    let mut columns = Vec::new();
    let mut complete = true;
    for (name, origin) in stream.names("partition_by")? {
        match partition_column(&name, declared) {
            Ok(Some(column)) if columns.contains(&column) => {
                complete = false;
                stream
                    .report()
                    .add(&origin, stream.path_of("partition_by"), format!("{name:?} comes twice"));
            }
            Ok(Some(column)) => columns.push(column),
            Ok(None) => complete = false,
            Err(message) => {
                complete = false;
                stream.report().add(&origin, stream.path_of("partition_by"), message);
            }
        }
    }
    complete.then_some(columns)
}

fn partition_column(name: &str, declared: &Declared) -> Result<Option<PartitionColumn>, String> {
    if name == DATE_COLUMN {
        // Two columns of one name; which of them partitions would be a guess, and a guess moves files.
        return match declared
            .fields
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(DATE_COLUMN))
        {
            Some((field, _)) => Err(format!(
                "\"date\" is derived from the event time and collides with the field {field:?}; \
                 rename the field or leave \"date\" out"
            )),
            None => Ok(Some(PartitionColumn::EventDate)),
        };
    }
    match declared.find(name)? {
        Some((index, field)) if field.ty == FieldType::String => Ok(Some(PartitionColumn::Field(index))),
        Some((_, field)) => Err(format!(
            "{name:?} is a {}; only \"date\" and string fields partition",
            field.ty
        )),
        None => Ok(None),
    }
}
