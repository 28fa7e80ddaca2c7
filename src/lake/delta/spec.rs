//! What a stream demands of its table: columns, partitioning, owner, protocol. Pure.
//!
//! Owns: the actions that create the table, and the judgement whether a table that is there is this one, or may become it.
//! A table belongs to one job, one stream and one topic; its columns must be ours with the same types, further
//! nullable ones may have been added by others. Columns alone do not tell everything: a stream that gave up a
//! nullable field, or counts its days in another time zone, still fits them and would store the same record
//! differently. So the table also keeps the schema's fingerprint, as MongoDB's progress does.
//! Does not own: which change of the declared fields is compatible (`schema::evolution`), making it (`evolution`),
//! writing (`commit`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::actions::{Format, Metadata, Protocol};
use super::evolution::former_schemas;
use crate::error::Invariant;
use crate::schema::evolution::{self, Declared, Fit, Recorded};
use crate::schema::{DATE_COLUMN, ID_COLUMN, StreamSchema, TIMESTAMP_COLUMN};

const JOB: &str = "affluent.job";
const STREAM: &str = "affluent.stream";
/// Offsets count within a topic. Its name is kept beside the id in the `txn`s for the sake of the message.
const TOPIC: &str = "affluent.topic";
/// [`StreamSchema::fingerprint`].
pub const SCHEMA: &str = "affluent.schema";
pub(super) const MOVE_AWAY: &str = "give the stream another name or root, or move the table away to begin a new one";

#[derive(Clone, Debug)]
pub struct TableSpec {
    pub job: String,
    pub stream: String,
    pub topic: String,
    pub columns: Vec<Column>,
    pub partition_columns: Vec<String>,
    pub declared: Declared,
}

/// A column as `schemaString` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    /// A primitive type's name, or the object of a nested type.
    #[serde(rename = "type")]
    pub ty: Value,
    pub nullable: bool,
    #[serde(default)]
    pub metadata: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Struct {
    fields: Vec<Column>,
}

impl TableSpec {
    pub fn new(job: &str, stream: &str, topic: &str, schema: &StreamSchema) -> Self {
        let column = |name: &str, ty: String, nullable| Column {
            name: name.to_owned(),
            ty: Value::from(ty),
            nullable,
            metadata: BTreeMap::new(),
        };
        let declared = schema.fields.iter();
        let mut columns: Vec<Column> = declared
            .map(|f| column(&f.name, f.ty.to_string(), !f.required))
            .collect();
        if schema.has_date_column() {
            columns.push(column(DATE_COLUMN, "date".into(), false));
        }
        columns.push(column(ID_COLUMN, "long".into(), false));
        columns.push(column(TIMESTAMP_COLUMN, "timestamp".into(), true));
        Self {
            job: job.to_owned(),
            stream: stream.to_owned(),
            topic: topic.to_owned(),
            columns,
            partition_columns: schema.partition_names().iter().map(|n| (*n).to_owned()).collect(),
            declared: Declared::new(schema),
        }
    }

    /// Metadata of a new table.
    pub fn metadata(&self, now_ms: i64) -> Metadata {
        Metadata {
            id: uuid::Uuid::new_v4().to_string(),
            name: Some(self.stream.clone()),
            format: Format::default(),
            schema_string: json!({"type": "struct", "fields": self.columns}).to_string(),
            partition_columns: self.partition_columns.clone(),
            configuration: BTreeMap::from([
                (JOB.to_owned(), Some(self.job.clone())),
                (STREAM.to_owned(), Some(self.stream.clone())),
                (TOPIC.to_owned(), Some(self.topic.clone())),
                (SCHEMA.to_owned(), Some(self.declared.fingerprint.clone())),
            ]),
            created_time: Some(now_ms),
        }
    }

    /// May we write into a table with this protocol and metadata: as it is, or once its columns are changed?
    pub fn check(&self, location: &str, protocol: &Protocol, metadata: &Metadata) -> Result<Fit, Invariant> {
        if let Some(feature) = unsupported(protocol) {
            return Err(Invariant::new(
                format!("the table at {location} demands of its writers {feature}, which this program cannot do"),
                "drop that feature from the table with the engine that added it, or move the table away",
            ));
        }
        self.check_owner(location, metadata)?;
        self.check_topic(location, metadata)?;
        let fit = self.fit(location, metadata)?;
        let difference = match &fit {
            Fit::Same => self.difference(metadata),
            // What others have done to the columns may be in the way of a change that is fine by itself.
            Fit::Change(_) => self.evolved_columns(metadata).err(),
        };
        match difference {
            None => Ok(fit),
            Some(difference) => Err(Invariant::new(
                format!(
                    "the table at {location} does not fit stream {}: {difference}",
                    self.stream
                ),
                format!("bring the declared fields back in line with the table, {MOVE_AWAY}"),
            )),
        }
    }

    /// The declared schema beside the recorded one.
    fn fit(&self, location: &str, metadata: &Metadata) -> Result<Fit, Invariant> {
        // A table of the time before it was recorded: the columns have to do.
        let Some(schema) = recorded(metadata, SCHEMA) else {
            return Ok(Fit::Same);
        };
        if *schema == self.declared.fingerprint {
            return Ok(Fit::Same);
        }
        let former = former_schemas(location, metadata)?;
        let recorded = Recorded {
            schema,
            former: former.iter().map(|former| former.schema.as_str()).collect(),
        };
        let place = format!("the table at {location}");
        let fit = evolution::judge(&recorded, &self.declared);
        fit.map_err(|refusal| refusal.invariant(&self.stream, &place, "in the table"))
    }

    fn check_owner(&self, location: &str, metadata: &Metadata) -> Result<(), Invariant> {
        for (key, ours) in [(JOB, &self.job), (STREAM, &self.stream)] {
            let theirs = recorded(metadata, key);
            if theirs != Some(ours) {
                let theirs = theirs.map_or("nobody's: it has no such property".to_owned(), |t| format!("{t:?}"));
                return Err(Invariant::new(
                    format!("the table at {location} is not ours: its {key} is {theirs}, expected {ours:?}"),
                    MOVE_AWAY,
                ));
            }
        }
        Ok(())
    }

    fn check_topic(&self, location: &str, metadata: &Metadata) -> Result<(), Invariant> {
        match recorded(metadata, TOPIC) {
            Some(topic) if *topic != self.topic => Err(Invariant::new(
                format!(
                    "the table at {location} was filled from topic `{topic}`, stream {} now names `{}`",
                    self.stream, self.topic
                ),
                "name that topic again, or give the new topic a stream of its own",
            )),
            _ => Ok(()),
        }
    }

    fn difference(&self, metadata: &Metadata) -> Option<String> {
        let theirs = match columns(metadata) {
            Ok(columns) => columns,
            Err(unreadable) => return Some(unreadable),
        };
        if let Some(difference) = self.partition_difference(metadata) {
            return Some(difference);
        }
        let missing = self.columns.iter().find_map(|ours| column_difference(ours, &theirs));
        let foreign = || theirs.iter().find_map(|column| foreign_demand(column, &self.columns));
        missing.or_else(foreign)
    }
}

impl TableSpec {
    pub(super) fn partition_difference(&self, metadata: &Metadata) -> Option<String> {
        (metadata.partition_columns != self.partition_columns).then(|| {
            format!(
                "it is partitioned by {}, expected {}",
                metadata.partition_columns.join(", "),
                self.partition_columns.join(", ")
            )
        })
    }
}

pub(super) fn recorded<'a>(metadata: &'a Metadata, key: &str) -> Option<&'a String> {
    metadata.configuration.get(key)?.as_ref()
}

/// The table's columns as it lists them; or why not.
pub(super) fn columns(metadata: &Metadata) -> Result<Vec<Column>, String> {
    let schema = serde_json::from_str::<Struct>(&metadata.schema_string);
    schema
        .map(|schema| schema.fields)
        .map_err(|error| format!("its schema cannot be read: {error}"))
}

fn column_difference(ours: &Column, theirs: &[Column]) -> Option<String> {
    let name = &ours.name;
    let Some(theirs) = theirs.iter().find(|column| column.name == *name) else {
        return Some(format!("it has no column {name}"));
    };
    let stricter =
        || (ours.nullable && !theirs.nullable).then(|| format!("its column {name} takes no null, ours may be null"));
    type_difference(ours, theirs).or_else(stricter)
}

pub(super) fn type_difference(ours: &Column, theirs: &Column) -> Option<String> {
    let plain = |ty: &Value| ty.as_str().map_or_else(|| ty.to_string(), str::to_owned);
    (theirs.ty != ours.ty).then(|| {
        format!(
            "its column {} is {}, expected {}",
            ours.name,
            plain(&theirs.ty),
            plain(&ours.ty)
        )
    })
}

/// What a column demands of every writer beyond its type.
fn foreign_demand(column: &Column, ours: &[Column]) -> Option<String> {
    let name = &column.name;
    if !column.nullable && ours.iter().all(|o| o.name != *name) {
        return Some(format!("its column {name} takes no null and is not declared"));
    }
    special_demand(column)
}

/// Invariants, generated values, identities, defaults: a writer that does not know them must not write.
pub(super) fn special_demand(column: &Column) -> Option<String> {
    let special = |key: &&String| key.starts_with("delta.") || key.as_str() == "CURRENT_DEFAULT";
    let demand = column.metadata.keys().find(special)?;
    Some(format!(
        "its column {} has {demand}, which this program cannot keep",
        column.name
    ))
}

/// The first thing in a protocol that goes beyond plain tables; `None` where there is none.
fn unsupported(protocol: &Protocol) -> Option<String> {
    let plain = |feature: &&String| matches!(feature.as_str(), "appendOnly" | "invariants");
    let features = [&protocol.writer_features, &protocol.reader_features];
    let named = features.into_iter().flatten().flatten().find(|f| !plain(f));
    if let Some(feature) = named {
        return Some(format!("the feature {feature}"));
    }
    match (protocol.min_reader_version, protocol.min_writer_version) {
        (2.., _) if protocol.reader_features.is_none() => Some("column mapping (reader version 2)".to_owned()),
        (_, 3) => Some("check constraints (writer version 3)".to_owned()),
        (_, 4) => Some("change data feed or generated columns (writer version 4)".to_owned()),
        (_, 5) => Some("column mapping (writer version 5)".to_owned()),
        (_, 6) => Some("identity columns (writer version 6)".to_owned()),
        (_, version @ 8..) => Some(format!("writer version {version}")),
        (version @ 4.., _) => Some(format!("reader version {version}")),
        _ => None,
    }
}

/// Protocol of a new table: what every reader understands.
pub fn plain_protocol() -> Protocol {
    Protocol {
        min_reader_version: 1,
        min_writer_version: 2,
        reader_features: None,
        writer_features: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::split::tests::schema;

    fn spec() -> TableSpec {
        TableSpec::new("shop", "visits", "visits-topic", &schema())
    }

    fn check(change: impl FnOnce(&mut Metadata, &mut Vec<Value>)) -> Result<(), Invariant> {
        let mut metadata = spec().metadata(0);
        let mut schema: Value = serde_json::from_str(&metadata.schema_string).expect("JSON");
        let mut fields: Vec<Value> = schema["fields"].as_array().expect("fields").clone();
        change(&mut metadata, &mut fields);
        schema["fields"] = fields.into();
        metadata.schema_string = schema.to_string();
        spec().check("/lake/visits", &plain_protocol(), &metadata).map(drop)
    }

    fn refusal(change: impl FnOnce(&mut Metadata, &mut Vec<Value>)) -> String {
        check(change).expect_err("refused").what
    }

    #[test]
    fn a_table_we_would_create_is_one_we_would_write() {
        check(|_, _| {}).expect("fits");
        let names: Vec<_> = spec().columns.into_iter().map(|c| c.name).collect();
        assert_eq!(names, ["at", "region", "note", "date", "_id", "_timestamp"]);
    }

    #[test]
    fn another_jobs_table_is_refused_by_name() {
        let text = refusal(|m, _| {
            m.configuration.insert(JOB.into(), Some("other".into()));
        });
        assert!(text.contains("\"other\"") && text.contains("\"shop\""), "{text}");
        let text = refusal(|m, _| m.configuration.clear());
        assert!(text.contains("nobody's"), "{text}");
    }

    #[test]
    fn a_missing_retyped_or_stricter_column_is_named() {
        let text = refusal(|_, fields| {
            fields.remove(2);
        });
        assert!(text.contains("no column note"), "{text}");
        let text = refusal(|_, fields| fields[4]["type"] = "integer".into());
        assert!(text.contains("_id is integer, expected long"), "{text}");
        let text = refusal(|_, fields| fields[2]["nullable"] = false.into());
        assert!(text.contains("note takes no null"), "{text}");
        let text = refusal(|m, _| m.partition_columns = vec!["region".into()]);
        assert!(text.contains("partitioned by region, expected date, region"), "{text}");
    }

    #[test]
    fn another_topic_is_refused_by_name() {
        let text = refusal(|m, _| {
            m.configuration.insert(TOPIC.into(), Some("old-visits".into()));
        });
        assert!(text.contains("old-visits") && text.contains("visits-topic"), "{text}");
    }

    #[test]
    fn a_change_that_the_columns_do_not_show_is_refused_with_the_difference() {
        let ours = spec().declared.fingerprint;
        let text = refusal(|m, _| {
            let other = ours.replace(" in UTC", " in Asia/Tokyo");
            assert_ne!(other, ours);
            m.configuration.insert(SCHEMA.into(), Some(other));
        });
        assert!(text.contains("timezone | Asia/Tokyo   | UTC"), "{text}");
    }

    #[test]
    fn further_nullable_columns_are_fine_and_required_ones_are_not() {
        let extra = |nullable: bool| json!({"name": "extra", "type": "string", "nullable": nullable, "metadata": {}});
        check(|_, fields| fields.push(extra(true))).expect("fits");
        assert!(refusal(|_, fields| fields.push(extra(false))).contains("extra"));
        let text = refusal(|_, fields| {
            let mut column = extra(true);
            column["metadata"] = json!({"CURRENT_DEFAULT": "'x'"});
            fields.push(column);
        });
        assert!(text.contains("extra has CURRENT_DEFAULT"), "{text}");
    }

    #[test]
    fn an_invariant_on_a_column_is_refused() {
        let text = refusal(|_, fields| fields[2]["metadata"] = json!({"delta.invariants": "{}"}));
        assert!(text.contains("delta.invariants"), "{text}");
    }

    #[test]
    fn writer_features_beyond_a_plain_table_are_named() {
        let features = |reader, writer, names: &[&str]| Protocol {
            min_reader_version: reader,
            min_writer_version: writer,
            reader_features: (reader == 3).then(|| names.iter().map(|n| (*n).to_owned()).collect()),
            writer_features: (writer == 7).then(|| names.iter().map(|n| (*n).to_owned()).collect()),
        };
        assert_eq!(unsupported(&plain_protocol()), None);
        assert_eq!(unsupported(&features(1, 7, &["appendOnly", "invariants"])), None);
        let named = unsupported(&features(3, 7, &["deletionVectors"])).expect("refused");
        assert!(named.contains("deletionVectors"), "{named}");
        for (reader, writer) in [(1, 3), (1, 4), (2, 5), (2, 6), (1, 8), (4, 2)] {
            assert!(
                unsupported(&features(reader, writer, &[])).is_some(),
                "{reader}, {writer}"
            );
        }
    }
}
