//! `[[streams]]`: presets expanded, each stream's keys read, and what streams may not share.
//!
//! Owns: templates (every stream starts from `[template.stream]`, then from its preset), the keys of a stream
//! itself, uniqueness across streams.
//! Does not own: fields and partitioning (`fields`), rollups (`rollup`), the sinks' keys (`resolve`).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::layer::{Node, Table, Value, merge};
use super::problem::Report;
use super::section::{Section, closest};
use super::{LakeConfig, LimitsConfig, MongoConfig, StreamConfig, Tombstones};
use super::{fields, names, resolve, rollup};

/// Lays every stream over its templates, in place, so that it reads as if everything had been spelled out.
/// Doing it again changes nothing but what has been added since.
pub(super) fn expand(root: &mut Table, templates: &Table, report: &Report) {
    let Some(Node {
        value: Value::Array(streams),
        origin,
    }) = root.get_mut("streams")
    else {
        return;
    };
    if streams.is_empty() {
        report.add(origin, "streams", "is empty: there is nothing to ingest");
    }
    for stream in streams {
        // Anything but a table is reported where the list is read.
        if let Value::Table(own) = &mut stream.value {
            expand_stream(own, templates, report);
        }
    }
}

/// An unknown preset stays where it is, which tells the reader that keys may be missing.
fn expand_stream(own: &mut Table, templates: &Table, report: &Report) {
    let mut expanded = inner(templates, "stream").cloned().unwrap_or_default();
    if let Some(node) = own.get("preset").cloned() {
        let presets = inner(templates, "preset");
        let wanted = text(&node).unwrap_or_default();
        let Some(preset) = presets.and_then(|presets| inner(presets, wanted)) else {
            let known: Vec<&str> = presets.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
            let hint = match closest(wanted, &known) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("known are {}", known.join(", ")),
            };
            report.add(
                &node.origin,
                "streams.preset",
                format!("unknown preset {wanted:?}; {hint}"),
            );
            merge(&mut expanded, std::mem::take(own));
            *own = expanded;
            return;
        };
        own.remove("preset");
        let mut preset = preset.clone();
        if let Some(name) = own.get("name").and_then(text).filter(|name| *name != wanted) {
            rename_rollups(&mut preset, wanted, name);
        }
        for fixed in ["fields", "event_time"] {
            if let Some(node) = own.remove(fixed) {
                let label = own.get("name").and_then(text).unwrap_or(wanted);
                let message = "a preset's fields are fixed; leave preset out and spell the stream out";
                report.add(&node.origin, format!("streams.{label}.{fixed}"), message);
            }
        }
        merge(&mut expanded, preset);
    }
    merge(&mut expanded, std::mem::take(own));
    *own = expanded;
}

/// Rollup names are collections: a second stream of the same preset needs its own. `sales_by_day` of a stream
/// `sales_year` becomes `sales_year_by_day`, `paths_by_hour` of `clicks_eu` becomes `clicks_eu_paths_by_hour`.
fn rename_rollups(preset: &mut Table, from: &str, to: &str) {
    let Some(Value::Array(rollups)) = preset.get_mut("rollups").map(|node| &mut node.value) else {
        return;
    };
    for rollup in rollups {
        if let Value::Table(table) = &mut rollup.value
            && let Some(Value::String(name)) = table.get_mut("name").map(|node| &mut node.value)
        {
            *name = match name.strip_prefix(from) {
                Some(rest) if rest.starts_with('_') => format!("{to}{rest}"),
                _ => format!("{to}_{name}"),
            };
        }
    }
}

fn inner<'t>(table: &'t Table, key: &str) -> Option<&'t Table> {
    match table.get(key).map(|node| &node.value) {
        Some(Value::Table(inner)) => Some(inner),
        _ => None,
    }
}

fn text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::String(text) | Value::Untyped(text) => Some(text),
        _ => None,
    }
}

/// Reads all streams. The global sections are absent where they are broken themselves.
pub(super) fn streams(
    root: &Section<'_>,
    mongo: Option<&MongoConfig>,
    lake: Option<&LakeConfig>,
    limits: Option<&LimitsConfig>,
) -> Option<Vec<StreamConfig>> {
    let mut taken = Taken::default();
    let sections = root.sections("streams");
    let streams: Vec<Option<StreamConfig>> = sections
        .into_iter()
        .map(|section| stream(section, mongo, lake, limits, &mut taken))
        .collect();
    streams.into_iter().collect()
}

fn stream(
    section: Section<'_>,
    global_mongo: Option<&MongoConfig>,
    global_lake: Option<&LakeConfig>,
    limits: Option<&LimitsConfig>,
    taken: &mut Taken,
) -> Option<StreamConfig> {
    // `expand` has taken out every preset it knows.
    let section = if section.has("preset") {
        section.partial()
    } else {
        section
    };
    let name = section.parsed("name", None, |name| names::collection(name).map(|()| name.to_owned()));
    let topic = section.parsed("topic", None, |topic| names::topic(topic).map(|()| topic.to_owned()));
    let dead_letter_topic = dead_letter_topic(&section, topic.as_deref());
    section.parsed("format", None, |format| match format {
        "json" => Ok(()),
        other => Err(format!("wants \"json\", the only format so far; found {other:?}")),
    });
    let tombstones = section.parsed("tombstones", None, tombstones);
    let max_record_bytes = section.size("max_record_bytes", None, 1..=1 << 30);
    if let (Some(record), Some(limits)) = (max_record_bytes, limits)
        && record > limits.max_in_flight_bytes
    {
        section.problem("max_record_bytes", "must not be larger than limits.max_in_flight");
    }
    let max_dead_letters = section.parsed("max_dead_letters", Some(None), |text| share(text).map(Some));

    let mongo = match section.section("mongo") {
        Some(own) => resolve::mongo(own.partial(), global_mongo),
        None => global_mongo.cloned(),
    };
    let lake = match section.section("lake") {
        Some(own) => resolve::lake(own.partial(), global_lake),
        None => global_lake.cloned(),
    };
    let mongo_enabled = mongo.as_ref().is_some_and(|mongo| mongo.enabled);
    if let (Some(mongo), Some(lake)) = (&mongo, &lake)
        && !mongo.enabled
        && !lake.enabled
    {
        section.problem("", "has no sink: mongo and lake are both disabled");
    }

    let declared = fields::declared(&section, mongo_enabled);
    let rollups = rollup::rollups(&section, &declared);
    let schema = fields::schema(&section, declared);

    if let Some(name) = &name {
        taken.claim_name(&section, "name", name, format!("stream {name}"));
    }
    if let Some(topic) = &topic {
        taken.claim_topic(&section, topic, name.as_deref().unwrap_or("another stream"));
    }
    for (rollup, place) in rollups.iter().flatten().zip(section.sections("rollups")) {
        taken.claim_name(&place, "name", &rollup.name, format!("rollup {}", rollup.name));
    }
    section.finish();
    Some(StreamConfig {
        name: name?,
        topic: topic?,
        dead_letter_topic: dead_letter_topic?,
        schema: schema?,
        rollups: rollups?,
        tombstones: tombstones?,
        max_record_bytes: usize::try_from(max_record_bytes?).ok()?,
        max_dead_letters: max_dead_letters?,
        former_schema: false,
        mongo: mongo?,
        lake: lake?,
    })
}

fn dead_letter_topic(section: &Section<'_>, topic: Option<&str>) -> Option<String> {
    if !section.has("dead_letter_topic") {
        let derived = format!("{}.dlq", topic?);
        if let Err(why) = names::topic(&derived) {
            section.problem(
                "topic",
                format!("gives no dead-letter topic ({why}); set dead_letter_topic"),
            );
            return None;
        }
        return Some(derived);
    }
    section.parsed("dead_letter_topic", None, |own| {
        names::topic(own)?;
        if topic == Some(own) {
            // Every dead letter would be read again as a record, and fail again, for ever.
            return Err("must differ from the stream's own topic".to_owned());
        }
        Ok(own.to_owned())
    })
}

fn tombstones(text: &str) -> Result<Tombstones, String> {
    match text {
        "dead-letter" => Ok(Tombstones::DeadLetter),
        "skip" => Ok(Tombstones::Skip),
        other => Err(format!("wants \"dead-letter\" or \"skip\", found {other:?}")),
    }
}

/// "5%" → 0.05.
fn share(text: &str) -> Result<f64, String> {
    text.strip_suffix('%')
        .and_then(|number| number.trim().parse::<f64>().ok())
        .filter(|percent| (0.0..=100.0).contains(percent))
        .map(|percent| percent / 100.0)
        .ok_or_else(|| format!("wants a share from \"0%\" to \"100%\", found {text:?}"))
}

/// What earlier streams hold already. Names are compared without case: a lake on a file system that folds
/// case would put two tables into one directory.
#[derive(Default)]
struct Taken {
    names: BTreeMap<String, String>,
    topics: BTreeMap<String, String>,
}

impl Taken {
    fn claim_name(&mut self, place: &Section<'_>, key: &str, name: &str, holder: String) {
        match self.names.entry(name.to_lowercase()) {
            Entry::Vacant(free) => drop(free.insert(holder)),
            Entry::Occupied(taken) => {
                let message = format!(
                    "{name:?} is taken by {}: each needs a collection of its own",
                    taken.get()
                );
                place.problem(key, message);
            }
        }
    }

    fn claim_topic(&mut self, section: &Section<'_>, topic: &str, stream: &str) {
        match self.topics.entry(topic.to_owned()) {
            Entry::Vacant(free) => drop(free.insert(stream.to_owned())),
            Entry::Occupied(taken) => {
                section.problem("topic", format!("{topic:?} is read by stream {} already", taken.get()));
            }
        }
    }
}
