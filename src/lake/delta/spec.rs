//! What a stream demands of its table: columns, partitioning, owner, protocol. Pure.
//!
//! Owns: the actions that create the table, and the judgement whether a table that is there is this one.
//! A table belongs to one job, one stream and one topic; its columns must be ours with the same types, further
//! nullable ones may have been added by others. Columns alone do not tell everything: a stream that gave up a
//! nullable field, or counts its days in another time zone, still fits them and would store the same record
//! differently. So the table also keeps the schema's fingerprint, as MongoDB's progress does.
//! Does not own: schema changes (there are none yet), writing (`commit`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::actions::{Format, Metadata, Protocol};
use crate::error::Invariant;
use crate::schema::{DATE_COLUMN, ID_COLUMN, StreamSchema, TIMESTAMP_COLUMN};

const JOB: &str = "affluent.job";
const STREAM: &str = "affluent.stream";
/// Offsets count within a topic. Its name is kept beside the id in the `txn`s for the sake of the message.
const TOPIC: &str = "affluent.topic";
/// [`StreamSchema::fingerprint`].
const SCHEMA: &str = "affluent.schema";
const MOVE_AWAY: &str = "give the stream another name or root, or move the table away to begin a new one";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSpec {
    pub job: String,
    pub stream: String,
    pub topic: String,
    pub columns: Vec<Column>,
    pub partition_columns: Vec<String>,
    pub fingerprint: String,
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
            fingerprint: schema.fingerprint(),
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
                (SCHEMA.to_owned(), Some(self.fingerprint.clone())),
            ]),
            created_time: Some(now_ms),
        }
    }

    /// May we write into a table with this protocol and metadata?
    pub fn check(&self, location: &str, protocol: &Protocol, metadata: &Metadata) -> Result<(), Invariant> {
        if let Some(feature) = unsupported(protocol) {
            return Err(Invariant::new(
                format!("the table at {location} demands of its writers {feature}, which this program cannot do"),
                "drop that feature from the table with the engine that added it, or move the table away",
            ));
        }
        self.check_owner(location, metadata)?;
        self.check_topic(location, metadata)?;
        // The columns first: what they say is plainer than two fingerprints.
        match self.difference(metadata).or_else(|| self.changed(metadata)) {
            None => Ok(()),
            Some(difference) => Err(Invariant::new(
                format!(
                    "the table at {location} does not fit stream {}: {difference}",
                    self.stream
                ),
                format!("bring the declared fields back in line with the table, {MOVE_AWAY}"),
            )),
        }
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

    /// What the columns do not show.
    fn changed(&self, metadata: &Metadata) -> Option<String> {
        let theirs = recorded(metadata, SCHEMA).filter(|theirs| **theirs != self.fingerprint)?;
        Some(format!(
            "its declared schema was `{theirs}`, now it is `{}`",
            self.fingerprint
        ))
    }

    fn difference(&self, metadata: &Metadata) -> Option<String> {
        let theirs = match serde_json::from_str::<Struct>(&metadata.schema_string) {
            Ok(schema) => schema.fields,
            Err(error) => return Some(format!("its schema cannot be read: {error}")),
        };
        if metadata.partition_columns != self.partition_columns {
            return Some(format!(
                "it is partitioned by {}, expected {}",
                metadata.partition_columns.join(", "),
                self.partition_columns.join(", ")
            ));
        }
        let missing = self.columns.iter().find_map(|ours| column_difference(ours, &theirs));
        let foreign = || theirs.iter().find_map(|column| foreign_demand(column, &self.columns));
        missing.or_else(foreign)
    }
}

fn recorded<'a>(metadata: &'a Metadata, key: &str) -> Option<&'a String> {
    metadata.configuration.get(key)?.as_ref()
}

fn column_difference(ours: &Column, theirs: &[Column]) -> Option<String> {
    let name = &ours.name;
    let Some(theirs) = theirs.iter().find(|column| column.name == *name) else {
        return Some(format!("it has no column {name}"));
    };
    if theirs.ty != ours.ty {
        let plain = |ty: &Value| ty.as_str().map_or_else(|| ty.to_string(), str::to_owned);
        return Some(format!(
            "its column {name} is {}, expected {}",
            plain(&theirs.ty),
            plain(&ours.ty)
        ));
    }
    (ours.nullable && !theirs.nullable).then(|| format!("its column {name} takes no null, ours may be null"))
}

/// What a column demands of every writer beyond its type.
fn foreign_demand(column: &Column, ours: &[Column]) -> Option<String> {
    let name = &column.name;
    if !column.nullable && ours.iter().all(|o| o.name != *name) {
        return Some(format!("its column {name} takes no null and is not declared"));
    }
    let demand = column.metadata.keys().find(|key| key.starts_with("delta."))?;
    Some(format!(
        "its column {name} has {demand}, which this program cannot keep"
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
        spec().check("/lake/visits", &plain_protocol(), &metadata)
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
    fn a_change_that_the_columns_do_not_show_is_refused_with_both_schemas() {
        let ours = spec().fingerprint;
        let text = refusal(|m, _| {
            let other = ours.replace(" in ", " in Asia/");
            m.configuration.insert(SCHEMA.into(), Some(other));
        });
        assert!(text.contains(&ours) && text.contains(" in Asia/"), "{text}");
        // A nullable field the stream no longer declares looks like a column that somebody else has added.
        refusal(|m, fields| {
            fields.push(json!({"name": "extra", "type": "string", "nullable": true, "metadata": {}}));
            m.configuration
                .insert(SCHEMA.into(), Some(format!("extra string;{ours}")));
        });
    }

    #[test]
    fn further_nullable_columns_are_fine_and_required_ones_are_not() {
        let extra = |nullable: bool| json!({"name": "extra", "type": "string", "nullable": nullable, "metadata": {}});
        check(|_, fields| fields.push(extra(true))).expect("fits");
        assert!(refusal(|_, fields| fields.push(extra(false))).contains("extra"));
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
