//! From the tree of values to the plain types: the global sections. Streams are in `stream`.
//!
//! Owns: the keys of `[kafka] [mongo] [lake] [http] [collect] [limits]`, their bounds, and which librdkafka properties
//! are not the user's to set. A stream's overrides go through the same readers with the global section as
//! fallback, so an override knows every key and every rule of its section.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use chrono::{DateTime, Utc};
use mongodb::options::ConnectionString;

use super::layer::{Node, Table, Value};
use super::names;
use super::problem::{Origin, Report};
use super::secret::mask_uri;
use super::section::Section;
use super::stream;
use super::{
    CollectConfig, Config, HttpConfig, KafkaConfig, LakeConfig, LimitsConfig, MongoConfig, Start, UpkeepConfig,
};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Waits for a person or a service: none of them sensible beyond a day.
const PATIENCE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(86_400);

/// librdkafka properties that affluent sets itself, and what to do instead.
const OWNED_PROPERTIES: [(&str, &str); 16] = [
    ("bootstrap.servers", "set kafka.brokers"),
    ("metadata.broker.list", "set kafka.brokers"),
    ("group.id", "set kafka.group"),
    (
        "auto.offset.reset",
        "a missing offset stops the stream; set kafka.start for the first start",
    ),
    (
        "enable.auto.commit",
        "progress moves in the sinks, the group's offset only follows it",
    ),
    (
        "auto.commit.enable",
        "progress moves in the sinks, the group's offset only follows it",
    ),
    (
        "auto.commit.interval.ms",
        "progress moves in the sinks, the group's offset only follows it",
    ),
    (
        "enable.auto.offset.store",
        "progress moves in the sinks, the group's offset only follows it",
    ),
    ("isolation.level", "only committed records are read"),
    (
        "enable.partition.eof",
        "the end of a partition is needed to drain and to pass control records",
    ),
    ("enable.idempotence", "dead letters are produced with it"),
    (
        "transactional.id",
        "a replay of dead letters sets its own, dead letters need none",
    ),
    (
        "acks",
        "dead letters are acknowledged by all replicas before progress passes them",
    ),
    (
        "request.required.acks",
        "dead letters are acknowledged by all replicas before progress passes them",
    ),
    ("opaque", "it exists for programs only"),
    ("plugin.library.paths", "no foreign code is loaded"),
];

/// With `group.protocol=consumer` (KIP-848) the group's timing and its assignment are the broker's. librdkafka
/// refuses these when the client starts; said here, it is a configuration error like any other.
const BROKERS_PROPERTIES: [(&str, &str); 4] = [
    (
        "session.timeout.ms",
        "with group.protocol=consumer the broker's group.consumer.session.timeout.ms counts",
    ),
    (
        "heartbeat.interval.ms",
        "with group.protocol=consumer the broker's group.consumer.heartbeat.interval.ms counts",
    ),
    (
        "partition.assignment.strategy",
        "with group.protocol=consumer the broker assigns; choose with group.remote.assignor",
    ),
    ("group.protocol.type", "it has no meaning with group.protocol=consumer"),
];

/// librdkafka's own default of `max.poll.interval.ms`.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(300);

/// Reads the whole tree, its streams expanded (`stream::expand`). `None` where anything is wrong: `report` says what.
pub(super) fn config(root: &Table, report: &Report) -> Option<Config> {
    let root = Section::new("", Origin::BuiltIn, root, report);
    let job = root.parsed("job", None, |name| names::job(name).map(|()| name.to_owned()));
    let kafka = root.section("kafka").and_then(kafka);
    let mongo = root.section("mongo").and_then(|section| mongo(section, None));
    let lake = root.section("lake").and_then(|section| lake(section, None));
    let http = root.section("http").and_then(http);
    let collect = root.section("collect").and_then(collect);
    let limits = root
        .section("limits")
        .and_then(|section| limits(section, kafka.as_ref()));
    // Streams are read even beside a broken [mongo] or [lake]; their own problems are reported just the same.
    let streams = stream::streams(&root, mongo.as_ref(), lake.as_ref(), limits.as_ref());
    root.finish();
    let config = Config {
        job: job?,
        kafka: kafka?,
        mongo: mongo?,
        lake: lake?,
        http: http?,
        collect: collect?,
        limits: limits?,
        streams: streams?,
    };
    report.is_empty().then_some(config)
}

fn kafka(section: Section<'_>) -> Option<KafkaConfig> {
    let brokers = section.parsed("brokers", None, brokers);
    let group = section.parsed("group", None, not_empty);
    let start = section.parsed("start", None, start);
    let mut properties = BTreeMap::new();
    let given = section.map("properties");
    let group_protocol = given.get("group.protocol").map(|(value, _)| value.to_ascii_lowercase());
    let brokers_own = match group_protocol.as_deref() {
        Some("consumer") => &BROKERS_PROPERTIES[..],
        _ => &[],
    };
    for (key, (value, origin)) in given {
        let refused = OWNED_PROPERTIES
            .iter()
            .chain(brokers_own)
            .find(|(owned, _)| *owned == key);
        match refused {
            None => drop(properties.insert(key, value)),
            Some((_, reason)) => {
                let path = section.path_of(&format!("properties.{key}"));
                section
                    .report()
                    .add(&origin, path, format!("is not yours to set: {reason}"));
            }
        }
    }
    section.finish();
    Some(KafkaConfig {
        brokers: brokers?,
        group: group?,
        start: start?,
        properties,
    })
}

fn brokers(text: &str) -> Result<String, String> {
    for broker in text.split(',').map(str::trim) {
        let host_and_port = broker.split_once("://").map_or(broker, |(_, rest)| rest);
        // An IPv6 address has colons of its own, inside brackets.
        let (host, port) = match host_and_port.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (host_and_port, None),
        };
        let port_is_good = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
        if host.is_empty() || host.contains(char::is_whitespace) || !port_is_good {
            return Err(format!("wants host:port, separated by commas, found {broker:?}"));
        }
    }
    Ok(text.to_owned())
}

fn start(text: &str) -> Result<Start, String> {
    match text {
        "earliest" => Ok(Start::Earliest),
        "latest" => Ok(Start::Latest),
        other => DateTime::parse_from_rfc3339(other)
            .map(|instant| Start::At(instant.with_timezone(&Utc)))
            .map_err(|_| format!("wants earliest, latest or an instant such as 2026-01-01T00:00:00Z, found {other:?}")),
    }
}

/// `below` is the global section where this one is a stream's override.
pub(super) fn mongo(section: Section<'_>, below: Option<&MongoConfig>) -> Option<MongoConfig> {
    let flush = Duration::from_millis(1)..=Duration::from_secs(3600);
    let enabled = section.boolean("enabled", below.map(|b| b.enabled));
    let uri = section.parsed("uri", below.map(|b| b.uri.clone()), mongo_uri);
    let database = section.parsed("database", below.map(|b| b.database.clone()), |name| {
        names::database(name).map(|()| name.to_owned())
    });
    let flush_interval = section.duration("flush_interval", below.map(|b| b.flush_interval), flush);
    let max_flush_rows = section.integer("max_flush_rows", below.map(|b| b.max_flush_rows), 1..=1_000_000);
    // 100,000 is the server's own bound of one write command.
    let insert_batch_rows = section.integer("insert_batch_rows", below.map(|b| b.insert_batch_rows), 1..=100_000);
    let insert_concurrency = section.integer("insert_concurrency", below.map(|b| b.insert_concurrency), 1..=64);
    section.finish();
    Some(MongoConfig {
        enabled: enabled?,
        uri: uri?,
        database: database?,
        flush_interval: flush_interval?,
        max_flush_rows: max_flush_rows?,
        insert_batch_rows: insert_batch_rows?,
        insert_concurrency: insert_concurrency?,
    })
}

fn mongo_uri(uri: &str) -> Result<String, String> {
    let masked = mask_uri(uri);
    if !(uri.starts_with("mongodb://") || uri.starts_with("mongodb+srv://")) {
        return Err(format!(
            "must begin with mongodb:// or mongodb+srv://, found {masked:?}"
        ));
    }
    // The driver's message may quote what it stumbled over, so it is asked about the masked text first: a
    // fault that is still there can be told in full, one that is gone lies in the hidden part.
    if let Err(error) = ConnectionString::parse(masked.as_ref()) {
        return Err(format!("is no MongoDB connection string: {error}"));
    }
    match ConnectionString::parse(uri) {
        Ok(_) => Ok(uri.to_owned()),
        Err(_) => Err("user name and password must be percent-encoded (@ is %40, / is %2F, : is %3A)".to_owned()),
    }
}

/// `below` is the global section where this one is a stream's override.
pub(super) fn lake(section: Section<'_>, below: Option<&LakeConfig>) -> Option<LakeConfig> {
    let interval = Duration::from_millis(100)..=Duration::from_secs(86_400);
    let enabled = section.boolean("enabled", below.map(|b| b.enabled));
    let root = section.parsed("root", below.map(|b| b.root.clone()), lake_root);
    let commit_interval = section.duration("commit_interval", below.map(|b| b.commit_interval), interval.clone());
    let idle_interval = section.duration("idle_interval", below.map(|b| b.idle_interval), interval);
    let target = section.size(
        "target_file_size",
        below.map(|b| b.target_file_bytes),
        64 * KIB..=16 * GIB,
    );
    let open = section.size("max_open_size", below.map(|b| b.max_open_bytes), MIB..=64 * GIB);
    if let (Some(open), Some(target)) = (open, target)
        && open < target
    {
        let (open, target) = (bytesize::ByteSize(open), bytesize::ByteSize(target));
        let message = format!(
            "larger than max_open_size: no file would ever reach {}, everything is closed at {}",
            target.display().iec(),
            open.display().iec()
        );
        section.problem("target_file_size", message);
    }
    let upkeep = upkeep(&section, below.map(|b| &b.upkeep));
    let mut storage = below.map(|b| b.storage.clone()).unwrap_or_default();
    storage.extend(section.map("storage").into_iter().map(|(key, (value, _))| (key, value)));
    section.finish();
    Some(LakeConfig {
        enabled: enabled?,
        root: root?,
        commit_interval: commit_interval?,
        idle_interval: idle_interval?,
        target_file_bytes: target?,
        max_open_bytes: open?,
        upkeep: upkeep?,
        storage,
    })
}

fn upkeep(lake: &Section<'_>, below: Option<&UpkeepConfig>) -> Option<UpkeepConfig> {
    let Some(section) = lake.section("upkeep") else {
        return below.cloned();
    };
    let interval = Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);
    let enabled = section.boolean("enabled", below.map(|b| b.enabled));
    let checkpoint_every = section.integer(
        "checkpoint_every",
        below.map(|b| b.checkpoint_every as usize),
        1..=100_000,
    );
    let compact = section.boolean("compact", below.map(|b| b.compact));
    let compact_interval = section.duration("compact_interval", below.map(|b| b.compact_interval), interval.clone());
    let quiet_after = section.duration("quiet_after", below.map(|b| b.quiet_after), interval.clone());
    let vacuum = section.boolean("vacuum", below.map(|b| b.vacuum));
    let vacuum_interval = section.duration("vacuum_interval", below.map(|b| b.vacuum_interval), interval);
    section.finish();
    Some(UpkeepConfig {
        enabled: enabled?,
        checkpoint_every: checkpoint_every? as u64,
        compact: compact?,
        compact_interval: compact_interval?,
        quiet_after: quiet_after?,
        vacuum: vacuum?,
        vacuum_interval: vacuum_interval?,
    })
}

fn lake_root(root: &str) -> Result<String, String> {
    let masked = mask_uri(root);
    let Some((scheme, rest)) = root.split_once("://") else {
        return not_empty(root);
    };
    if masked != root {
        return Err(format!(
            "must not hold credentials, put them under storage; found {masked:?}"
        ));
    }
    match scheme {
        "file" if rest.starts_with('/') => Ok(root.to_owned()),
        "file" => Err(format!("wants file:/// and an absolute path, found {root:?}")),
        "s3" | "s3a" | "hdfs" => match url::Url::parse(root) {
            Ok(url) if url.has_host() => Ok(root.to_owned()),
            _ => Err(format!("names no bucket or host, found {root:?}")),
        },
        _ => Err(format!(
            "has an unknown scheme, found {root:?}; known are a directory, file, s3, s3a, hdfs"
        )),
    }
}

fn http(section: Section<'_>) -> Option<HttpConfig> {
    let enabled = section.boolean("enabled", None);
    let listen = section.parsed("listen", None, listen);
    let token = section.parsed("token", None, http_token);
    section.finish();
    Some(HttpConfig {
        enabled: enabled?,
        listen: listen?,
        token: token?,
    })
}

/// Not repeated where it is refused.
fn http_token(text: &str) -> Result<String, String> {
    const SHORTEST: usize = 16;
    match text.len() {
        0 | SHORTEST.. => Ok(text.to_owned()),
        length => Err(format!(
            "wants {SHORTEST} characters or more, or none at all, found {length}"
        )),
    }
}

fn listen(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(text.to_owned()),
        _ => Err(format!("wants address:port, such as 127.0.0.1:8080, found {text:?}")),
    }
}

fn collect(section: Section<'_>) -> Option<CollectConfig> {
    let listen = section.parsed("listen", None, listen);
    let stream = section.parsed("stream", None, not_empty);
    let origins = each(&section, "origins", origin);
    let proxies = each(&section, "proxies", |text| {
        text.parse::<IpAddr>()
            .map_err(|_| format!("wants IP addresses, found {text:?}"))
    });
    // Half of what a topic takes unless told otherwise: no event that passes here is too large for it.
    let max_body = section.size("max_body", None, KIB..=512 * KIB);
    let max_events = section.integer("max_events", None, 1..=10_000);
    let rate = section.integer("rate", None, 1..=1_000_000);
    let burst = section.integer("burst", None, 1..=1_000_000);
    if let (Some(burst), Some(max_events)) = (burst, max_events)
        && burst < max_events
    {
        // Such a request would be told to wait, and could wait for ever.
        let message =
            format!("must not be smaller than collect.max_events ({max_events}): a full request never passed");
        section.problem("burst", message);
    }
    let shop = section.boolean("shop", None);
    section.finish();
    Some(CollectConfig {
        listen: listen?,
        stream: stream?,
        origins: origins?,
        proxies: proxies?,
        max_body_bytes: usize::try_from(max_body?).ok()?,
        max_events: max_events?,
        rate: rate?,
        burst: burst?,
        shop: shop?,
    })
}

/// A list, every entry of which is read by `parse`; all that is wrong is reported.
fn each<T>(section: &Section<'_>, key: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
    let read = |(text, place): (String, Origin)| {
        let value = parse(&text);
        value
            .map_err(|message| section.report().add(&place, section.path_of(key), message))
            .ok()
    };
    let values: Vec<Option<T>> = section.names(key)?.into_iter().map(read).collect();
    values.into_iter().collect()
}

/// An origin exactly as browsers write it: anything else would be compared with it in vain.
fn origin(text: &str) -> Result<String, String> {
    if text == "*" {
        return Ok(text.to_owned());
    }
    let written = url::Url::parse(text).map(|url| url.origin().ascii_serialization());
    match written {
        Ok(origin) if origin == text => Ok(origin),
        Ok(origin) if origin != "null" => Err(format!(
            "wants an origin as browsers write it: {origin:?}, found {text:?}"
        )),
        _ => Err(format!(
            "wants an origin such as \"https://shop.example\", or \"*\", found {text:?}"
        )),
    }
}

fn limits(section: Section<'_>, kafka: Option<&KafkaConfig>) -> Option<LimitsConfig> {
    let linger = Duration::from_millis(1)..=Duration::from_secs(60);
    let in_flight = section.size("max_in_flight", None, MIB..=64 * GIB);
    let records = section.integer("max_batch_records", None, 1..=1_000_000);
    let batch = section.size("max_batch_size", None, KIB..=GIB);
    let batch_linger = section.duration("batch_linger", None, linger);
    let once_timeout = section.duration("once_timeout", None, PATIENCE);
    let shutdown_timeout = section.duration("shutdown_timeout", None, PATIENCE);
    let revoke_timeout = section.duration("revoke_timeout", None, PATIENCE);
    let max_poll_interval = kafka
        .and_then(|kafka| kafka.properties.get("max.poll.interval.ms")?.parse().ok())
        .map_or(MAX_POLL_INTERVAL, Duration::from_millis);
    if revoke_timeout.is_some_and(|patience| patience >= max_poll_interval) {
        // Nothing is polled while a revoke waits for the sinks: the group would throw us out over it.
        section.problem(
            "revoke_timeout",
            "must be shorter than Kafka's max.poll.interval.ms (300000 unless kafka.properties sets it)",
        );
    }
    if let (Some(batch), Some(in_flight)) = (batch, in_flight)
        && batch > in_flight
    {
        // A batch that never fits the budget would wait for ever.
        section.problem("max_batch_size", "must not be larger than limits.max_in_flight");
    }
    section.finish();
    Some(LimitsConfig {
        max_in_flight_bytes: in_flight?,
        max_batch_records: records?,
        max_batch_bytes: usize::try_from(batch?).ok()?,
        batch_linger: batch_linger?,
        once_timeout: once_timeout?,
        shutdown_timeout: shutdown_timeout?,
        revoke_timeout: revoke_timeout?,
    })
}

fn not_empty(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("may not be empty".to_owned());
    }
    Ok(text.to_owned())
}

/// Takes the templates out of the embedded defaults, before anything of the user's is laid over them.
pub(super) fn take_templates(defaults: &mut Table) -> Table {
    match defaults.remove("template") {
        Some(Node {
            value: Value::Table(templates),
            ..
        }) => templates,
        _ => Table::new(),
    }
}
