//! Which schema was in force where. A declaration may have changed while records were stored, and each sink took it
//! over at its own progress: a record is judged by the schema of its time, in each sink apart.
//!
//! Owns: the schemas that the sinks have recorded, by sink, partition and offset.
//! Does not own: what the sinks keep of them (`lake::delta::evolution`, `sink::mongo`), which changes are compatible.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, anyhow};

use super::lake::LakeSide;
use super::mongo::PartitionProgress;
use super::oracle::Row;
use super::plan::Side;
use crate::config::StreamConfig;
use crate::lake::delta::evolution::{FORMER, Former};
use crate::offsets::{Epoch, Offset, Partition};
use crate::schema::StreamSchema;
use crate::schema::evolution::Timeline;

/// One of the schemas of [`Schemas`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SchemaIndex(usize);

/// The configuration's.
const CONFIGURED: SchemaIndex = SchemaIndex(0);

type Timelines = BTreeMap<Partition, Timeline<SchemaIndex>>;

#[derive(Clone, Debug)]
pub struct Schemas {
    /// The stream as it was under each schema; the first is the configuration's.
    streams: Vec<Arc<StreamConfig>>,
    fingerprints: Vec<String>,
    mongo: Timelines,
    lake: Timelines,
}

impl Schemas {
    /// The configuration's alone, for both sinks.
    pub fn configured(stream: &Arc<StreamConfig>) -> Self {
        Self {
            fingerprints: vec![stream.schema.fingerprint()],
            streams: vec![stream.clone()],
            mongo: Timelines::new(),
            lake: Timelines::new(),
        }
    }

    /// What both sinks have recorded. An error is a finding: a sink's record cannot be read.
    pub fn read(
        stream: &Arc<StreamConfig>,
        epoch: Epoch,
        partitions: &BTreeSet<Partition>,
        mongo: &BTreeMap<Partition, PartitionProgress>,
        lake: Option<&LakeSide>,
    ) -> anyhow::Result<Self> {
        let mut schemas = Self::configured(stream);
        for (partition, progress) in mongo {
            let Some(current) = &progress.schema else { continue };
            let former = progress.former.iter().map(|f| (f.epoch, f.until, f.schema.as_str()));
            let timeline = schemas.timeline(epoch, former, current);
            let timeline = timeline.with_context(|| format!("mongodb's progress of partition {partition}"))?;
            schemas.mongo.insert(*partition, timeline);
        }
        if let Some(lake) = lake {
            schemas
                .read_lake(epoch, partitions, &lake.log.configuration)
                .context("the lake's table")?;
        }
        Ok(schemas)
    }

    fn read_lake(
        &mut self,
        epoch: Epoch,
        partitions: &BTreeSet<Partition>,
        properties: &BTreeMap<String, String>,
    ) -> anyhow::Result<()> {
        let Some(current) = properties.get("affluent.schema") else {
            return Ok(());
        };
        let former: Vec<Former> = match properties.get(FORMER) {
            Some(text) => serde_json::from_str(text).with_context(|| format!("cannot read its property {FORMER}"))?,
            None => Vec::new(),
        };
        for &partition in partitions {
            // A partition that is not named had no rows then.
            let until = |former: &Former| former.until.get(&partition).copied().unwrap_or(Offset::MIN);
            let former = former.iter().map(|f| (f.epoch, until(f), f.schema.as_str()));
            let timeline = self.timeline(epoch, former, current)?;
            self.lake.insert(partition, timeline);
        }
        Ok(())
    }

    fn timeline<'t>(
        &mut self,
        epoch: Epoch,
        former: impl Iterator<Item = (Epoch, Offset, &'t str)>,
        current: &str,
    ) -> anyhow::Result<Timeline<SchemaIndex>> {
        let mut known = Vec::new();
        for (ended_in, until, schema) in former {
            known.push((ended_in, until, self.index(schema)?));
        }
        Ok(Timeline::new(epoch, known, self.index(current)?))
    }

    fn index(&mut self, fingerprint: &str) -> anyhow::Result<SchemaIndex> {
        if let Some(known) = self.fingerprints.iter().position(|known| known == fingerprint) {
            return Ok(SchemaIndex(known));
        }
        let schema = StreamSchema::parse(fingerprint);
        let schema = schema.ok_or_else(|| anyhow!("it has recorded a schema that cannot be read: `{fingerprint}`"))?;
        let mut stream = StreamConfig::clone(&self.streams[0]);
        stream.schema = Arc::new(schema);
        self.streams.push(Arc::new(stream));
        self.fingerprints.push(fingerprint.to_owned());
        Ok(SchemaIndex(self.streams.len() - 1))
    }

    /// In a sink that has none recorded, the other's: then it holds nothing to be judged by it.
    pub fn at(&self, side: Side, partition: Partition, offset: Offset) -> SchemaIndex {
        let (first, second) = match side {
            Side::Mongo => (&self.mongo, &self.lake),
            Side::Lake => (&self.lake, &self.mongo),
        };
        let timeline = first.get(&partition).or_else(|| second.get(&partition));
        timeline.map_or(CONFIGURED, |timeline| *timeline.at(offset))
    }

    pub fn stream(&self, index: SchemaIndex) -> &Arc<StreamConfig> {
        &self.streams[index.0]
    }

    pub fn configured_stream(&self) -> &Arc<StreamConfig> {
        self.stream(CONFIGURED)
    }

    /// The same under every schema.
    pub fn topic(&self) -> &str {
        &self.streams[0].topic
    }

    pub fn schema_at(&self, side: Side, partition: Partition, offset: Offset) -> &StreamSchema {
        &self.stream(self.at(side, partition, offset)).schema
    }

    /// Those before the present one in this partition.
    pub fn former(&self, side: Side, partition: Partition) -> impl Iterator<Item = &StreamSchema> {
        let timelines = match side {
            Side::Mongo => &self.mongo,
            Side::Lake => &self.lake,
        };
        let former = timelines.get(&partition).into_iter().flat_map(Timeline::former);
        former.map(|index| &*self.stream(*index).schema)
    }

    /// Every schema, in no particular order.
    pub fn all(&self) -> impl Iterator<Item = (SchemaIndex, &StreamSchema)> {
        (self.streams.iter().enumerate()).map(|(index, stream)| (SchemaIndex(index), &*stream.schema))
    }

    /// Fields that another schema declares and this one does not: their columns hold nothing of its time.
    pub fn undeclared(&self, index: SchemaIndex) -> Vec<&str> {
        let schema = &self.stream(index).schema;
        let all = self.all().flat_map(|(_, other)| &other.fields);
        let names: BTreeSet<&str> = all.map(|field| field.name.as_str()).collect();
        names.into_iter().filter(|name| schema.field(name).is_none()).collect()
    }

    /// A row in the configuration's fields, for what counts over the times of several schemas.
    pub fn in_configured(&self, index: SchemaIndex, row: &Row) -> Row {
        if index == CONFIGURED {
            return row.clone();
        }
        let schema = &self.stream(index).schema;
        let value = |name: &str| {
            let position = schema.fields.iter().position(|field| field.name == name)?;
            row.values[position].clone()
        };
        let configured = &self.stream(CONFIGURED).schema.fields;
        Row {
            values: configured.iter().map(|field| value(&field.name)).collect(),
            ..row.clone()
        }
    }

    /// Where the configuration declares what a sink has not taken over.
    pub fn notes(&self) -> Vec<String> {
        let differs = |timelines: &Timelines| timelines.values().any(|timeline| *timeline.current() != CONFIGURED);
        let sides = [("mongodb", &self.mongo), ("the lake", &self.lake)];
        let differing = sides.into_iter().filter(|(_, timelines)| differs(timelines));
        let note = |(side, _)| {
            format!(
                "the configuration declares other fields than {side} has in force: its rows are judged by its own \
                 (`affluent check --connect` shows the difference)"
            )
        };
        differing.map(note).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::testing::{row, stream};

    const P0: Partition = Partition(0);

    /// The lake took `small` up at offset 10 of partition 0, MongoDB at 15.
    fn schemas() -> (Schemas, SchemaIndex) {
        let stream = Arc::new(stream());
        let present = stream.schema.fingerprint();
        let former = present.replace("small byte;", "gone string;");
        assert_ne!(former, present);
        let mut schemas = Schemas::configured(&stream);
        let in_lake = serde_json::json!([{"schema": former, "epoch": 0, "until": {"0": 10},
            "replaced_at": "2026-01-01T00:00:00Z"}]);
        let properties = BTreeMap::from([
            ("affluent.schema".to_owned(), present.clone()),
            (FORMER.to_owned(), in_lake.to_string()),
        ]);
        let partitions = BTreeSet::from([P0, Partition(1)]);
        schemas.read_lake(Epoch(0), &partitions, &properties).expect("readable");
        let timeline = schemas.timeline(Epoch(0), [(Epoch(0), 15, former.as_str())].into_iter(), &present);
        schemas.mongo.insert(P0, timeline.expect("readable"));
        let index = schemas.index(&former).expect("known");
        (schemas, index)
    }

    #[test]
    fn each_sink_is_judged_by_the_schema_it_had_at_that_offset() {
        let (schemas, former) = schemas();
        let at = |side, offset| schemas.at(side, P0, offset);
        assert_eq!((at(Side::Lake, 9), at(Side::Lake, 10)), (former, CONFIGURED));
        assert_eq!((at(Side::Mongo, 14), at(Side::Mongo, 15)), (former, CONFIGURED));
        assert_eq!(
            schemas.at(Side::Lake, Partition(1), 0),
            CONFIGURED,
            "it had no rows then"
        );
        assert_eq!(schemas.undeclared(former), ["small"]);
        assert_eq!(schemas.undeclared(CONFIGURED), ["gone"]);
        assert!(schemas.notes().is_empty());
    }

    #[test]
    fn a_row_of_a_former_schema_is_counted_by_the_names_of_its_fields() {
        let (schemas, former) = schemas();
        let payload = r#"{"at":"2024-06-30T22:30:00Z","amount":1.5,"gone":"x","small":3,"open":true}"#;
        let before = row(schemas.stream(former), 7, payload);
        let mut expected = row(schemas.stream(CONFIGURED), 7, payload);
        let small = schemas
            .stream(CONFIGURED)
            .schema
            .fields
            .iter()
            .position(|f| f.name == "small");
        expected.values[small.expect("declared")] = None;
        assert_eq!(schemas.in_configured(former, &before), expected);
    }

    #[test]
    fn what_ended_with_a_former_topic_judges_nothing_of_this_one() {
        let (mut schemas, _) = schemas();
        let former = schemas.fingerprints[1].clone();
        let present = schemas.fingerprints[0].clone();
        let timeline = schemas.timeline(Epoch(1), [(Epoch(0), 15, former.as_str())].into_iter(), &present);
        assert_eq!(*timeline.expect("readable").at(0), CONFIGURED);
    }

    #[test]
    fn a_record_that_is_no_schema_is_an_error() {
        let (mut schemas, _) = schemas();
        assert!(schemas.index("something else").is_err());
    }
}
