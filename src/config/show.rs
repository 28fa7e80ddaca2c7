//! Prints the resolved configuration: TOML that loads again to the same values, secrets aside.
//!
//! Owns: the order and form of what `check` prints. Presets are spelled out and a stream's overrides are those
//! settings that differ from the global sections, so the text stands alone.
//! Does not own: what is secret (`secret`).

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::time::Duration;

use chrono::SecondsFormat;

use super::secret::{MASK, mask};
use super::{
    Config, Every, LakeConfig, Measure, MongoConfig, RollupConfig, Start, StreamConfig, Tombstones, UpkeepConfig,
};
use crate::schema::{EpochUnit, Field, StreamSchema};

/// The configuration as TOML, masked.
pub fn to_toml(config: &Config) -> String {
    let mut out = Text::default();
    out.entry("job", quoted(&config.job));
    out.header("[kafka]");
    out.entry("brokers", quoted(&config.kafka.brokers));
    out.entry("group", quoted(&config.kafka.group));
    out.entry("start", quoted(&start(config.kafka.start)));
    out.map("[kafka.properties]", &config.kafka.properties);
    out.header("[mongo]");
    out.settings(&mongo(&config.mongo), None);
    out.header("[lake]");
    out.settings(&lake(&config.lake), None);
    out.header("[lake.upkeep]");
    out.settings(&upkeep(&config.lake.upkeep), None);
    out.map("[lake.storage]", &config.lake.storage);
    out.header("[http]");
    out.entry("enabled", config.http.enabled);
    out.entry("listen", quoted(&config.http.listen));
    out.entry("token", quoted(if config.http.token.is_empty() { "" } else { MASK }));
    out.header("[collect]");
    let collect = &config.collect;
    out.entry("listen", quoted(&collect.listen));
    out.entry("stream", quoted(&collect.stream));
    out.entry("origins", list(collect.origins.iter().map(String::as_str)));
    let proxies: Vec<String> = collect.proxies.iter().map(ToString::to_string).collect();
    out.entry("proxies", list(proxies.iter().map(String::as_str)));
    out.entry("max_body", size(collect.max_body_bytes as u64));
    out.entry("max_events", collect.max_events);
    out.entry("rate", collect.rate);
    out.entry("burst", collect.burst);
    out.entry("shop", collect.shop);
    out.header("[limits]");
    out.entry("max_in_flight", size(config.limits.max_in_flight_bytes));
    out.entry("max_batch_records", config.limits.max_batch_records);
    out.entry("max_batch_size", size(config.limits.max_batch_bytes as u64));
    out.entry("batch_linger", duration(config.limits.batch_linger));
    out.entry("once_timeout", duration(config.limits.once_timeout));
    out.entry("shutdown_timeout", duration(config.limits.shutdown_timeout));
    out.entry("revoke_timeout", duration(config.limits.revoke_timeout));
    for stream in &config.streams {
        out.stream(stream, config);
    }
    out.0
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, line: impl Display) {
        writeln!(self.0, "{line}").expect("writing to a String cannot fail");
    }

    fn header(&mut self, header: &str) {
        self.line(format_args!("\n{header}"));
    }

    /// `value` is TOML already.
    fn entry(&mut self, key: &str, value: impl Display) {
        self.line(format_args!("{} = {value}", quoted_key(key)));
    }

    fn map(&mut self, header: &str, values: &BTreeMap<String, String>) {
        if !values.is_empty() {
            self.header(header);
            for (key, value) in values {
                self.entry(key, quoted(&mask(key, value)));
            }
        }
    }

    /// All settings, or those that differ from the section below.
    fn settings(&mut self, settings: &[(&str, String)], below: Option<&[(&str, String)]>) {
        for setting in settings
            .iter()
            .filter(|setting| below.is_none_or(|below| !below.contains(setting)))
        {
            self.entry(setting.0, &setting.1);
        }
    }

    fn stream(&mut self, stream: &StreamConfig, config: &Config) {
        self.header("[[streams]]");
        self.entry("name", quoted(&stream.name));
        self.entry("topic", quoted(&stream.topic));
        self.entry("dead_letter_topic", quoted(&stream.dead_letter_topic));
        self.entry("format", quoted("json"));
        self.schema(&stream.schema);
        self.entry("tombstones", quoted(tombstones(stream.tombstones)));
        self.entry("max_record_bytes", size(stream.max_record_bytes as u64));
        if let Some(share) = stream.max_dead_letters {
            self.entry("max_dead_letters", quoted(&percent(share)));
        }
        let (own, global) = (mongo(&stream.mongo), mongo(&config.mongo));
        if own != global {
            self.header("[streams.mongo]");
            self.settings(&own, Some(&global));
        }
        let (own, global) = (lake(&stream.lake), lake(&config.lake));
        if own != global {
            self.header("[streams.lake]");
            self.settings(&own, Some(&global));
        }
        let (own, global) = (upkeep(&stream.lake.upkeep), upkeep(&config.lake.upkeep));
        if own != global {
            self.header("[streams.lake.upkeep]");
            self.settings(&own, Some(&global));
        }
        if stream.lake.storage != config.lake.storage {
            self.map("[streams.lake.storage]", &stream.lake.storage);
        }
        for rollup in &stream.rollups {
            self.rollup(rollup, &stream.schema);
        }
    }

    fn schema(&mut self, schema: &StreamSchema) {
        self.entry("event_time", quoted(&schema.fields[schema.event_time].name));
        self.line("fields = [");
        for field in &schema.fields {
            self.line(format_args!("  {},", inline_field(field)));
        }
        self.line("]");
        self.entry("partition_by", list(schema.partition_names()));
        self.entry("timezone", quoted(schema.timezone.name()));
    }

    fn rollup(&mut self, rollup: &RollupConfig, schema: &StreamSchema) {
        let measures: Vec<String> = rollup
            .measures
            .iter()
            .map(|(name, measure)| format!("{} = {}", quoted_key(name), quoted(&measure_text(*measure, schema))))
            .collect();
        self.header("[[streams.rollups]]");
        self.entry("name", quoted(&rollup.name));
        self.entry("every", every(rollup.every));
        self.entry(
            "by",
            list(rollup.by.iter().map(|index| schema.fields[*index].name.as_str())),
        );
        self.entry("measures", format_args!("{{ {} }}", measures.join(", ")));
        if let Some(expire_after) = rollup.expire_after {
            self.entry(
                "expire_after",
                quoted(&humantime::format_duration(expire_after).to_string()),
            );
        }
    }
}

fn mongo(mongo: &MongoConfig) -> [(&'static str, String); 7] {
    [
        ("enabled", mongo.enabled.to_string()),
        ("uri", quoted(&mask("uri", &mongo.uri))),
        ("database", quoted(&mongo.database)),
        ("flush_interval", duration(mongo.flush_interval)),
        ("max_flush_rows", mongo.max_flush_rows.to_string()),
        ("insert_batch_rows", mongo.insert_batch_rows.to_string()),
        ("insert_concurrency", mongo.insert_concurrency.to_string()),
    ]
}

fn lake(lake: &LakeConfig) -> [(&'static str, String); 6] {
    [
        ("enabled", lake.enabled.to_string()),
        ("root", quoted(&mask("root", &lake.root))),
        ("commit_interval", duration(lake.commit_interval)),
        ("idle_interval", duration(lake.idle_interval)),
        ("target_file_size", size(lake.target_file_bytes)),
        ("max_open_size", size(lake.max_open_bytes)),
    ]
}

fn upkeep(upkeep: &UpkeepConfig) -> [(&'static str, String); 7] {
    [
        ("enabled", upkeep.enabled.to_string()),
        ("checkpoint_every", upkeep.checkpoint_every.to_string()),
        ("compact", upkeep.compact.to_string()),
        ("compact_interval", duration(upkeep.compact_interval)),
        ("quiet_after", duration(upkeep.quiet_after)),
        ("vacuum", upkeep.vacuum.to_string()),
        ("vacuum_interval", duration(upkeep.vacuum_interval)),
    ]
}

fn inline_field(field: &Field) -> String {
    let mut text = format!(
        "{{ name = {}, type = {}",
        quoted(&field.name),
        quoted(&field.ty.to_string())
    );
    if field.required {
        text.push_str(", required = true");
    }
    match field.unit {
        None => {}
        Some(EpochUnit::Seconds) => text.push_str(", unit = \"s\""),
        Some(EpochUnit::Milliseconds) => text.push_str(", unit = \"ms\""),
        Some(EpochUnit::Microseconds) => text.push_str(", unit = \"us\""),
    }
    text.push_str(" }");
    text
}

fn measure_text(measure: Measure, schema: &StreamSchema) -> String {
    let (function, field) = match measure {
        Measure::Count => return "count()".to_owned(),
        Measure::Sum(field) => ("sum", field),
        Measure::Min(field) => ("min", field),
        Measure::Max(field) => ("max", field),
        Measure::Avg(field) => ("avg", field),
        Measure::Distinct(field) => ("distinct", field),
    };
    format!("{function}({})", schema.fields[field].name)
}

fn every(every: Every) -> String {
    quoted(&every.to_string())
}

fn start(start: Start) -> String {
    match start {
        Start::Earliest => "earliest".to_owned(),
        Start::Latest => "latest".to_owned(),
        Start::At(instant) => instant.to_rfc3339_opts(SecondsFormat::AutoSi, true),
    }
}

fn tombstones(tombstones: Tombstones) -> &'static str {
    match tombstones {
        Tombstones::DeadLetter => "dead-letter",
        Tombstones::Skip => "skip",
    }
}

fn duration(duration: Duration) -> String {
    quoted(&humantime::format_duration(duration).to_string())
}

/// The largest binary unit that says it exactly; `bytesize` would round.
fn size(bytes: u64) -> String {
    let (unit, name) = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
        .into_iter()
        .find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit))
        .unwrap_or((1, "B"));
    quoted(&format!("{}{name}", bytes / unit))
}

/// 0.05 → "5%". Rounded to a millionth, which undoes the error of dividing by a hundred.
fn percent(share: f64) -> String {
    let number = format!("{:.6}", share * 100.0);
    format!("{}%", number.trim_end_matches('0').trim_end_matches('.'))
}

fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(quoted).collect();
    format!("[{}]", names.join(", "))
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn quoted_key(key: &str) -> String {
    let bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if bare { key.to_owned() } else { quoted(key) }
}
