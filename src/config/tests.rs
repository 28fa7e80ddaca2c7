//! What a configuration says and what is refused, through the same layers that `load` reads.

use std::time::Duration;

use super::load::Layers;
use super::problem::Report;
use super::show::to_toml;
use super::{Config, Every, Measure, Start, Tombstones};
use crate::schema::{FieldType, PartitionColumn};

fn layers(file: &str, variables: &[(&str, &str)], sets: &[&str]) -> Result<Config, String> {
    let owned = |text: &&str| (*text).to_owned();
    let layers = Layers {
        file: Some(("affluent.toml".to_owned(), file.to_owned())),
        variables: variables
            .iter()
            .map(|(name, value)| (owned(name), owned(value)))
            .collect(),
        sets: sets.iter().map(owned).collect(),
    };
    layers
        .resolve(Report::default())
        .map_err(|problems| problems.to_string())
}

fn good(file: &str) -> Config {
    layers(file, &[], &[]).expect("a valid configuration")
}

/// The one problem of this file.
fn problem(file: &str) -> String {
    let report = layers(file, &[], &[]).expect_err("an invalid configuration");
    let mut lines = report.lines();
    assert_eq!(lines.next(), Some("the configuration has 1 problem:"), "{report}");
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// A stream that is spelled out; `more` are further keys and tables of it.
fn readings(more: &str) -> String {
    format!(
        r#"[[streams]]
name = "readings"
topic = "readings"
event_time = "at"
fields = [
  {{ name = "at", type = "timestamp", required = true }},
  {{ name = "site", type = "string", required = true }},
  {{ name = "value", type = "decimal(18,3)" }},
  {{ name = "level", type = "double" }},
]
{more}"#
    )
}

fn rollup(keys: &str) -> String {
    readings(&format!("[[streams.rollups]]\nname = \"by_minute\"\n{keys}"))
}

#[test]
fn without_a_file_the_defaults_describe_the_sample_shop() {
    let config = Layers::default()
        .resolve(Report::default())
        .expect("the defaults are valid");
    let names: Vec<&str> = config.streams.iter().map(|stream| stream.name.as_str()).collect();
    assert_eq!(names, ["sales", "clicks"]);
    let sales = &config.streams[0];
    assert_eq!(sales.dead_letter_topic, "sales.dlq");
    assert_eq!(sales.schema.partition_names(), ["date", "region"]);
    assert_eq!(sales.rollups[2].every, Every::Day);
    assert_eq!(sales.rollups[0].measures["revenue"], Measure::Sum(7));
    assert_eq!(sales.max_record_bytes, 16 << 20);
    assert_eq!(config.mongo.max_flush_rows, 100_000);
    assert_eq!(config.lake.max_open_bytes, 192 << 20);
    assert_eq!(config.limits.revoke_timeout, Duration::from_secs(10));
}

#[test]
fn the_resolved_defaults_read_like_a_file() {
    insta::assert_snapshot!(to_toml(&good("")), @r#"
    job = "shop"

    [kafka]
    brokers = "127.0.0.1:9092"
    group = "affluent"
    start = "earliest"

    [mongo]
    enabled = true
    uri = "mongodb://127.0.0.1:27017/?replicaSet=rs0"
    database = "affluent"
    flush_interval = "500ms"
    max_flush_rows = 100000
    insert_batch_rows = 2000
    insert_concurrency = 4

    [lake]
    enabled = true
    root = "lake"
    commit_interval = "1m"
    idle_interval = "10s"
    target_file_size = "128MiB"
    max_open_size = "192MiB"

    [lake.upkeep]
    enabled = true
    checkpoint_every = 100
    compact = true
    compact_interval = "10m"
    quiet_after = "1h"
    vacuum = true
    vacuum_interval = "1day"

    [http]
    enabled = true
    listen = "127.0.0.1:8080"
    token = ""

    [collect]
    listen = "127.0.0.1:8081"
    stream = "clicks"
    origins = []
    proxies = []
    max_body = "64KiB"
    max_events = 100
    rate = 50
    burst = 200
    shop = true

    [limits]
    max_in_flight = "64MiB"
    max_batch_records = 16384
    max_batch_size = "4MiB"
    batch_linger = "50ms"
    once_timeout = "2m"
    shutdown_timeout = "30s"
    revoke_timeout = "10s"

    [[streams]]
    name = "sales"
    topic = "sales"
    dead_letter_topic = "sales.dlq"
    format = "json"
    event_time = "sold_at"
    fields = [
      { name = "sale_id", type = "string", required = true },
      { name = "sold_at", type = "timestamp", required = true },
      { name = "product", type = "string", required = true },
      { name = "category", type = "string" },
      { name = "region", type = "string" },
      { name = "quantity", type = "long" },
      { name = "unit_price", type = "decimal(18,2)" },
      { name = "amount", type = "decimal(18,2)", required = true },
      { name = "customer_id", type = "string" },
      { name = "channel", type = "string" },
    ]
    partition_by = ["date", "region"]
    timezone = "UTC"
    tombstones = "dead-letter"
    max_record_bytes = "16MiB"

    [[streams.rollups]]
    name = "sales_by_minute"
    every = "1m"
    by = ["region"]
    measures = { revenue = "sum(amount)", sales = "count()", units = "sum(quantity)" }

    [[streams.rollups]]
    name = "sales_by_hour"
    every = "1h"
    by = ["region", "product", "category"]
    measures = { revenue = "sum(amount)", sales = "count()", units = "sum(quantity)" }

    [[streams.rollups]]
    name = "sales_by_day"
    every = "1d"
    by = ["region", "product", "category"]
    measures = { revenue = "sum(amount)", sales = "count()", units = "sum(quantity)" }

    [[streams.rollups]]
    name = "sales_by_region"
    every = "1h"
    by = ["region"]
    measures = { revenue = "sum(amount)", sales = "count()", units = "sum(quantity)" }

    [[streams.rollups]]
    name = "sales_by_product"
    every = "1d"
    by = ["product", "category"]
    measures = { revenue = "sum(amount)", sales = "count()", units = "sum(quantity)" }

    [[streams]]
    name = "clicks"
    topic = "clicks"
    dead_letter_topic = "clicks.dlq"
    format = "json"
    event_time = "occurred_at"
    fields = [
      { name = "event_id", type = "string", required = true },
      { name = "occurred_at", type = "timestamp", required = true },
      { name = "session_id", type = "string", required = true },
      { name = "page", type = "string", required = true },
      { name = "referrer", type = "string" },
      { name = "element", type = "string" },
      { name = "device", type = "string" },
      { name = "region", type = "string" },
    ]
    partition_by = ["date", "region"]
    timezone = "UTC"
    tombstones = "dead-letter"
    max_record_bytes = "16MiB"

    [[streams.rollups]]
    name = "clicks_by_minute"
    every = "1m"
    by = ["page"]
    measures = { clicks = "count()" }

    [[streams.rollups]]
    name = "paths_by_hour"
    every = "1h"
    by = ["referrer", "page"]
    measures = { steps = "count()" }

    [[streams.rollups]]
    name = "sessions_by_minute"
    every = "1m"
    by = []
    measures = { sessions = "distinct(session_id)" }

    [[streams.rollups]]
    name = "sessions_by_hour"
    every = "1h"
    by = ["device"]
    measures = { clicks = "count()", sessions = "distinct(session_id)" }
    "#);
}

#[test]
fn what_is_printed_loads_again_to_the_same() {
    let mut file = readings(
        r#"max_dead_letters = "7%"
tombstones = "skip"
timezone = "Europe/Paris"
partition_by = ["site", "date"]
mongo = { flush_interval = "1s 500ms" }
lake = { enabled = false, target_file_size = 100000, storage = { aws_region = "eu\"west" } }
[[streams.rollups]]
name = "by_quarter"
every = "15m"
measures = { mean = "avg(value)", latest = "max(at)", n = "count()" }
"#,
    );
    file.insert_str(
        0,
        "[kafka]\nstart = 2026-01-01T00:00:00.5Z\nproperties.security.protocol = \"ssl\"\n",
    );
    let printed = to_toml(&good(&file));
    assert_eq!(to_toml(&good(&printed)), printed);
    assert_eq!(format!("{:?}", good(&printed)), format!("{:?}", good(&file)));
    assert!(matches!(good(&printed).kafka.start, Start::At(_)));
}

#[test]
fn every_problem_is_reported_at_once_with_its_place() {
    let file = r#"job = ""
[kafka]
brokerz = "localhost:9092"
start = "yesterday"
[kafka.properties]
"group.id" = "mine"
"sasl.password" = "hunter2"
[mongo]
uri = "http://ann:hunter2@db"
max_flush_rows = -1
[lake]
commit_interval = 60
target_file_size = "huge"
[limits]
max_batch_size = "1GiB"
[[streams]]
preset = "sale"
nam = "x"
[[streams]]
preset = "clicks"
topic = "cl icks"
fields = []
colour = "blue"
"#;
    let variables = [("AFFLUENT__HTTP__ENABLED", "maybe")];
    let report = layers(file, &variables, &["lake.colour=blue", "nothing"]).expect_err("broken");
    assert!(!report.contains("hunter2"), "{report}");
    insta::assert_snapshot!(report, @r#"
    the configuration has 17 problems:
      affluent.toml:1: job: may not be empty
      affluent.toml:3: kafka.brokerz: unknown key; did you mean "brokers"?
      affluent.toml:4: kafka.start: wants earliest, latest or an instant such as 2026-01-01T00:00:00Z, found "yesterday"
      affluent.toml:6: kafka.properties.group.id: is not yours to set: set kafka.group
      affluent.toml:9: mongo.uri: must begin with mongodb:// or mongodb+srv://, found "http://***@db"
      affluent.toml:10: mongo.max_flush_rows: wants a whole number from 1 to 1000000, found -1
      affluent.toml:12: lake.commit_interval: wants a duration with its unit, such as "500ms" or "60s", found 60
      affluent.toml:13: lake.target_file_size: wants a size, such as "128MiB", found "huge"
      affluent.toml:15: limits.max_batch_size: must not be larger than limits.max_in_flight
      affluent.toml:17: streams.preset: unknown preset "sale"; did you mean "sales"?
      affluent.toml:18: streams.sale.nam: unknown key; did you mean "name"?
      affluent.toml:21: streams.clicks.topic: "cl icks" holds ' '; Kafka allows ASCII letters, digits, _ - .
      affluent.toml:22: streams.clicks.fields: a preset's fields are fixed; leave preset out and spell the stream out
      affluent.toml:23: streams.clicks.colour: unknown key; known here: preset, name, topic, dead_letter_topic, format, tombstones, max_record_bytes, max_dead_letters, mongo, lake, fields, rollups, timezone, event_time, partition_by
      environment AFFLUENT__HTTP__ENABLED: http.enabled: wants true or false, found "maybe"
      --set: wants KEY=VALUE, as in --set lake.commit_interval=5s
      --set lake.colour: unknown key; known here: enabled, root, commit_interval, idle_interval, target_file_size, max_open_size, upkeep, storage
    "#);
}

#[test]
fn syntax_errors_are_reported_with_their_lines_and_without_the_text() {
    let report = layers("job = \"shop\"\n[mongo]\nuri = mongodb://ann:hunter2@db\n", &[], &[]).expect_err("broken");
    assert!(!report.contains("hunter2"), "{report}");
    assert!(report.contains("affluent.toml:3: "), "{report}");
}

#[test]
fn each_layer_covers_the_one_before() {
    let file = "[kafka]\nbrokers = \"file:1\"\ngroup = \"file\"\nproperties = { \"client.id\" = \"file\" }\n";
    let variables = [("AFFLUENT__KAFKA__BROKERS", "env:1"), ("AFFLUENT__KAFKA__GROUP", "env")];
    let config = layers(file, &variables, &["kafka.group=flag"]).expect("valid");
    assert_eq!(config.kafka.brokers, "env:1");
    assert_eq!(config.kafka.group, "flag");
    assert_eq!(config.kafka.properties["client.id"], "file");
    assert_eq!(config.mongo.database, "affluent");
}

#[test]
fn librdkafka_properties_can_be_named_in_every_layer() {
    let file = "[kafka.properties]\nsecurity.protocol = \"ssl\"\n\"socket.timeout.ms\" = 1000\n";
    let variables = [
        ("AFFLUENT__KAFKA__PROPERTIES__SASL_MECHANISM", "PLAIN"),
        ("AFFLUENT__KAFKA__PROPERTIES__sasl.username", "ann"),
    ];
    let config = layers(file, &variables, &["kafka.properties.sasl.password=a=b"]).expect("valid");
    let properties: Vec<(&str, &str)> = config
        .kafka
        .properties
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    let expected = [
        ("sasl.mechanism", "PLAIN"),
        ("sasl.password", "a=b"),
        ("sasl.username", "ann"),
        ("security.protocol", "ssl"),
        ("socket.timeout.ms", "1000"),
    ];
    assert_eq!(properties, expected);
}

#[test]
fn single_settings_reach_into_streams_by_name() {
    let variables = [
        ("AFFLUENT__STREAMS__SALES__TOMBSTONES", "skip"),
        ("AFFLUENT__STREAMS__CLICKS__TOPIC", "web"),
    ];
    let sets = [
        "streams.sales.lake.commit_interval=1s",
        "streams.sales.rollups.sales_by_day.every=12h",
    ];
    let config = layers("", &variables, &sets).expect("valid");
    assert_eq!(config.streams[0].tombstones, Tombstones::Skip);
    assert_eq!(config.streams[0].lake.commit_interval, Duration::from_secs(1));
    assert_eq!(config.streams[0].rollups[2].every, Every::Seconds(43_200));
    assert_eq!(config.streams[1].topic, "web");
    assert_eq!(config.streams[1].dead_letter_topic, "web.dlq");
    assert_eq!(config.lake.commit_interval, Duration::from_secs(60));
}

#[test]
fn lists_and_tables_can_come_from_the_environment() {
    let variables = [
        ("AFFLUENT__STREAMS", r#"[{preset = "sales"}]"#),
        ("AFFLUENT__STREAMS__SALES__PARTITION_BY", "date, channel"),
    ];
    let config = layers("", &variables, &[]).expect("valid");
    assert_eq!(config.streams.len(), 1);
    assert_eq!(config.streams[0].schema.partition_names(), ["date", "channel"]);
}

#[test]
fn a_setting_that_leads_nowhere_is_refused() {
    let report = layers("", &[], &["streams.sails.topic=x", "job.name=x", "=x"]).expect_err("broken");
    assert!(
        report.contains("--set streams.sails.topic: streams has no \"sails\""),
        "{report}"
    );
    assert!(
        report.contains("--set job.name: job is a single value and has no keys below it"),
        "{report}"
    );
    assert!(report.contains("the key has an empty part"), "{report}");
}

#[test]
fn a_preset_can_be_used_twice_under_another_name() {
    let config = good(
        r#"[[streams]]
preset = "sales"
[[streams]]
preset = "sales"
name = "sales_year"
topic = "sales-year"
lake = { commit_interval = "5m" }
[[streams]]
preset = "clicks"
name = "clicks_eu"
"#,
    );
    let rollups = |stream: usize| -> Vec<&str> {
        config.streams[stream]
            .rollups
            .iter()
            .map(|rollup| rollup.name.as_str())
            .collect()
    };
    assert_eq!(
        rollups(1),
        [
            "sales_year_by_minute",
            "sales_year_by_hour",
            "sales_year_by_day",
            "sales_year_by_region",
            "sales_year_by_product"
        ]
    );
    assert_eq!(
        rollups(2),
        [
            "clicks_eu_by_minute",
            "clicks_eu_paths_by_hour",
            "clicks_eu_sessions_by_minute",
            "clicks_eu_sessions_by_hour"
        ]
    );
    assert_eq!(config.streams[1].lake.commit_interval, Duration::from_secs(300));
    assert_eq!(
        config.streams[1].schema.fingerprint(),
        config.streams[0].schema.fingerprint()
    );
}

#[test]
fn given_rollups_replace_those_of_the_preset() {
    let config = good(
        r#"[[streams]]
preset = "sales"
[[streams.rollups]]
name = "channels"
every = "1h"
by = ["channel"]
measures = { sales = "count()" }
"#,
    );
    assert_eq!(config.streams[0].rollups.len(), 1);
    assert_eq!(config.streams[0].rollups[0].by, [9]);
    assert!(
        good("[[streams]]\npreset = \"sales\"\nrollups = []\n").streams[0]
            .rollups
            .is_empty()
    );
}

#[test]
fn a_preset_keeps_its_fields() {
    let found = problem("[[streams]]\npreset = \"sales\"\nevent_time = \"at\"\n");
    assert_eq!(
        found,
        "affluent.toml:3: streams.sales.event_time: a preset's fields are fixed; leave preset out and spell the stream out"
    );
}

#[test]
fn a_declared_stream_has_its_types_and_partitions() {
    let config = good(&readings("partition_by = [\"date\", \"site\"]\n"));
    let schema = &config.streams[0].schema;
    assert_eq!(
        schema.fields[2].ty,
        FieldType::Decimal {
            precision: 18,
            scale: 3
        }
    );
    assert_eq!(
        schema.partition_by,
        [PartitionColumn::EventDate, PartitionColumn::Field(1)]
    );
    assert_eq!(schema.event_time, 0);
}

#[test]
fn a_streams_own_settings_override_the_sinks_for_it_alone() {
    let config = good(&readings(
        "mongo = { enabled = false }\nlake = { storage = { a = \"1\" } }\n",
    ));
    assert!(!config.streams[0].mongo.enabled);
    assert!(config.mongo.enabled);
    assert_eq!(config.streams[0].lake.storage["a"], "1");
    assert_eq!(config.streams[0].lake.root, config.lake.root);
}

#[test]
fn an_override_knows_the_rules_of_its_section() {
    let found = problem(&readings("lake = { comit_interval = \"1s\" }\n"));
    let expected =
        r#"affluent.toml:11: streams.readings.lake.comit_interval: unknown key; did you mean "commit_interval"?"#;
    assert_eq!(found, expected);
}

#[test]
fn decimals_beyond_mongodbs_are_refused_while_mongodb_is_on() {
    let wide = |more: &str| readings(more).replace("decimal(18,3)", "decimal(38,3)");
    assert!(problem(&wide("")).contains("streams.readings.fields.value.type: MongoDB's decimal holds 34 digits"));
    good(&wide("mongo = { enabled = false }\n"));
    good(&readings("").replace("decimal(18,3)", "decimal(34,34)"));
}

#[test]
fn a_decimal_has_a_legal_precision_and_scale() {
    for bad in [
        "decimal(39,2)",
        "decimal(0,0)",
        "decimal(5,6)",
        "decimal(5)",
        "decimal",
        "decimal(5,-1)",
        "money",
    ] {
        let found = problem(&readings("").replace("decimal(18,3)", bad));
        assert!(
            found.starts_with("affluent.toml:8: streams.readings.fields.value.type: "),
            "{found}"
        );
    }
}

#[test]
fn unsafe_field_names_are_refused() {
    for bad in [
        "",
        "a.b",
        ".a",
        "a/b",
        "$a",
        "a\\u0000b",
        "_id",
        "_timestamp",
        "_Timestamp",
        "_affluent_x",
        "a b",
        "a=b",
    ] {
        let found = problem(&readings("").replace("\"level\"", &format!("\"{bad}\"")));
        assert!(
            found.contains("affluent.toml:9: streams.readings.fields."),
            "{bad:?}: {found}"
        );
    }
    good(&readings("").replace("\"level\"", "\"température\""));
}

#[test]
fn field_names_that_differ_only_in_case_are_refused() {
    let found = problem(&readings("").replace("\"level\"", "\"Value\""));
    assert!(
        found.contains("\"Value\" is declared twice (as \"value\"; case does not count)"),
        "{found}"
    );
}

#[test]
fn unsafe_stream_names_are_refused() {
    for bad in [
        "",
        ".hidden",
        "_affluent_progress",
        "_x",
        "a/b",
        "a$b",
        "a b",
        "system.x",
        "-x",
    ] {
        let found = problem(&readings("").replacen("\"readings\"", &format!("\"{bad}\""), 1));
        assert!(found.starts_with("affluent.toml:2: streams."), "{bad:?}: {found}");
    }
}

#[test]
fn names_topics_and_rollups_are_shared_by_no_two_streams() {
    let second = |name: &str, topic: &str| {
        format!(
            "{}{}",
            readings(""),
            readings("")
                .replacen("\"readings\"", name, 1)
                .replacen("\"readings\"", topic, 1)
        )
    };
    assert!(problem(&second("\"Readings\"", "\"other\"")).contains("\"Readings\" is taken by stream readings"));
    assert!(problem(&second("\"other\"", "\"readings\"")).contains("\"readings\" is read by stream readings already"));
    let rollup = "[[streams.rollups]]\nname = \"sales\"\nevery = \"1h\"\nmeasures = { n = \"count()\" }\n";
    let named_like_a_stream = format!("[[streams]]\npreset = \"sales\"\n{}", readings(rollup));
    assert!(problem(&named_like_a_stream).contains("\"sales\" is taken by stream sales"));
    let twice = readings(&rollup.repeat(2));
    assert!(problem(&twice).contains("\"sales\" is taken by rollup sales"));
}

#[test]
fn topics_are_legal_and_no_stream_reads_its_own_dead_letters() {
    for bad in ["", "..", "a b", "a/b", "caf\u{e9}"] {
        let found = problem(&readings("").replace("topic = \"readings\"", &format!("topic = \"{bad}\"")));
        assert!(
            found.starts_with("affluent.toml:3: streams.readings.topic: "),
            "{bad:?}: {found}"
        );
    }
    assert!(problem(&readings("dead_letter_topic = \"readings\"\n")).contains("must differ"));
    let longest = format!("topic = \"{}\"", "x".repeat(249));
    assert!(problem(&readings("").replace("topic = \"readings\"", &longest)).contains("set dead_letter_topic"));
}

#[test]
fn the_event_time_is_a_declared_required_timestamp() {
    let with = |name: &str| readings("").replace("event_time = \"at\"", &format!("event_time = \"{name}\""));
    assert!(
        problem(&with("att"))
            .ends_with("streams.readings.event_time: \"att\" is no declared field; did you mean \"at\"?")
    );
    assert!(problem(&with("site")).contains("must be a timestamp, it is declared as string"));
    let optional = readings("").replacen(", required = true", "", 1);
    assert!(problem(&optional).contains("must be declared with required = true"));
}

#[test]
fn partition_columns_are_date_and_declared_strings() {
    let with = |columns: &str| problem(&readings(&format!("partition_by = {columns}\n")));
    assert!(with("[\"date\", \"date\"]").contains("\"date\" comes twice"));
    assert!(with("[\"value\"]").contains("\"value\" is a decimal(18,3); only \"date\" and string fields partition"));
    assert!(with("[\"sight\"]").contains("\"sight\" is no declared field"));
    let dated = readings("").replace("\"level\", type = \"double\"", "\"Date\", type = \"date\"");
    assert!(problem(&dated).contains("collides with the field \"Date\""));
    good(&format!("{dated}partition_by = [\"site\"]\n"));
    good(&readings("partition_by = []\n"));
}

#[test]
fn the_time_zone_is_an_iana_name() {
    assert!(problem(&readings("timezone = \"Paris\"\n")).contains("\"Paris\" is no IANA time zone"));
}

#[test]
fn epoch_units_belong_to_timestamps() {
    let unit = |field: &str, unit: &str| readings("").replace(field, &format!("{field}, unit = \"{unit}\""));
    good(&unit("type = \"timestamp\"", "ms"));
    assert!(problem(&unit("type = \"timestamp\"", "days")).contains("wants \"s\", \"ms\" or \"us\""));
    assert!(problem(&unit("type = \"double\"", "ms")).contains("this field is a double"));
}

#[test]
fn a_rollups_width_divides_a_day() {
    for (width, expected) in [("1m", 60), ("5m", 300), ("90m", 5400), ("1h", 3600), ("1s", 1)] {
        let config = good(&rollup(&format!(
            "every = \"{width}\"\nmeasures = {{ n = \"count()\" }}\n"
        )));
        assert_eq!(config.streams[0].rollups[0].every, Every::Seconds(expected));
    }
    for bad in ["7m", "2d", "0s", "500ms", "1", "day"] {
        let found = problem(&rollup(&format!(
            "every = \"{bad}\"\nmeasures = {{ n = \"count()\" }}\n"
        )));
        assert!(
            found.contains("streams.readings.rollups.by_minute.every: "),
            "{bad:?}: {found}"
        );
    }
}

#[test]
fn dimensions_are_fields_that_group() {
    let by = |names: &str| {
        problem(&rollup(&format!(
            "every = \"1m\"\nby = {names}\nmeasures = {{ n = \"count()\" }}\n"
        )))
    };
    assert!(by("[\"level\"]").contains("\"level\" is a double; dimensions are"));
    assert!(by("[\"at\"]").contains("\"at\" is a timestamp; dimensions are"));
    assert!(by("[\"value\"]").contains("\"value\" is a decimal(18,3); dimensions are"));
    assert!(by("[\"city\"]").contains("\"city\" is no declared field"));
    assert!(by("[\"site\", \"site\"]").contains("\"site\" is in the rollup's document already"));
    let named_t = rollup("every = \"1m\"\nby = [\"t\"]\nmeasures = { n = \"count()\" }\n").replace("\"site\"", "\"t\"");
    assert!(problem(&named_t).contains("\"t\" is in the rollup's document already"));
}

#[test]
fn measures_follow_their_grammar() {
    let measures = |text: &str| rollup(&format!("every = \"1m\"\nby = [\"site\"]\nmeasures = {{ {text} }}\n"));
    let config = good(&measures(
        r#"a = "sum(value)", b = "count()", c = "min( at )", d = "max(level)", e = "avg(value)""#,
    ));
    let found: Vec<Measure> = config.streams[0].rollups[0].measures.values().copied().collect();
    assert_eq!(
        found,
        [
            Measure::Sum(2),
            Measure::Count,
            Measure::Min(0),
            Measure::Max(3),
            Measure::Avg(2)
        ]
    );
    for (text, expected) in [
        (
            r#"a = "median(value)""#,
            "wants sum(field), count(), min(field), max(field), avg(field) or distinct(field)",
        ),
        (r#"a = "sum()""#, "wants sum(field)"),
        (r#"a = "sum value""#, "wants sum(field)"),
        (r#"a = "count(value)""#, "counts records and takes no field"),
        (r#"a = "sum(site)""#, "sum cannot be taken of \"site\", a string"),
        (r#"a = "avg(at)""#, "avg cannot be taken of \"at\", a timestamp"),
        (r#"a = "sum(valu)""#, "did you mean \"value\"?"),
        (r#"t = "count()""#, "\"t\" is a field that every rollup has"),
        (r#"_id = "count()""#, "\"_id\" is a field that every rollup has"),
        (r#"site = "count()""#, "is stored as \"site\""),
        (r#"m = "avg(value)", m_count = "count()""#, "is stored as \"m_count\""),
        ("", "is required, as in measures"),
    ] {
        let found = problem(&measures(text));
        assert!(found.contains(expected), "{text}: {found}");
    }
}

#[test]
fn librdkafka_properties_that_affluent_owns_are_refused() {
    for key in [
        "enable.auto.commit",
        "auto.offset.reset",
        "group.id",
        "bootstrap.servers",
        "isolation.level",
    ] {
        let found = problem(&format!("[kafka.properties]\n\"{key}\" = \"x\"\n"));
        assert!(
            found.starts_with(&format!(
                "affluent.toml:2: kafka.properties.{key}: is not yours to set: "
            )),
            "{found}"
        );
    }
    good("[kafka.properties]\n\"client.id\" = \"x\"\n");
}

#[test]
fn with_kip_848_the_groups_timing_and_assignment_are_the_brokers() {
    for key in [
        "session.timeout.ms",
        "heartbeat.interval.ms",
        "partition.assignment.strategy",
    ] {
        good(&format!("[kafka.properties]\n\"{key}\" = \"7000\"\n"));
        let found = problem(&format!(
            "[kafka.properties]\n\"group.protocol\" = \"consumer\"\n\"{key}\" = \"7000\"\n"
        ));
        assert!(
            found.starts_with(&format!(
                "affluent.toml:3: kafka.properties.{key}: is not yours to set: "
            )),
            "{found}"
        );
    }
}

#[test]
fn a_revoke_may_not_outlast_the_groups_patience() {
    let found = problem("[limits]\nrevoke_timeout = \"300s\"\n");
    assert!(found.contains("revoke_timeout: must be shorter"), "{found}");
    good("[limits]\nrevoke_timeout = \"299s\"\n");
    let found = problem("[kafka.properties]\n\"max.poll.interval.ms\" = \"8000\"\n");
    assert!(found.contains("revoke_timeout: must be shorter"), "{found}");
}

#[test]
fn brokers_are_hosts_with_ports() {
    for bad in ["", "a:1,,b:1", "a:b", "a b:1", ":9092", "a:0", "a:70000"] {
        assert!(
            problem(&format!("[kafka]\nbrokers = \"{bad}\"\n")).contains("wants host:port"),
            "{bad:?}"
        );
    }
    for fine in ["a:1, b:2", "[::1]:9092", "[::1]", "host", "SASL_SSL://a:1"] {
        good(&format!("[kafka]\nbrokers = \"{fine}\"\n"));
    }
}

#[test]
fn a_stream_has_a_sink() {
    let found = problem(&readings("mongo = { enabled = false }\nlake = { enabled = false }\n"));
    assert_eq!(
        found,
        "affluent.toml:1: streams.readings: has no sink: mongo and lake are both disabled"
    );
    assert_eq!(
        problem("streams = []\n"),
        "affluent.toml:1: streams: is empty: there is nothing to ingest"
    );
}

#[test]
fn the_lakes_root_is_a_directory_or_a_known_url() {
    for bad in ["", "ftp://x/y", "s3://", "file://relative", "s3://id:hunter2@bucket/x"] {
        let found = problem(&format!("[lake]\nroot = \"{bad}\"\n"));
        assert!(found.starts_with("affluent.toml:2: lake.root: "), "{bad:?}: {found}");
        assert!(!found.contains("hunter2"), "{found}");
    }
    for fine in [
        "lake",
        "/var/lake",
        "file:///var/lake",
        "s3://bucket",
        "s3a://bucket/x",
        "hdfs://host:9000/x",
    ] {
        good(&format!("[lake]\nroot = \"{fine}\"\n"));
    }
}

#[test]
fn the_mongodb_uri_parses_and_its_password_is_never_printed() {
    for bad in [
        "",
        "db:27017",
        "http://ann:hunter2@db",
        "mongodb://ann:hunter2@db:x",
        "mongodb://ann:hunt@hunter2@db",
    ] {
        let found = problem(&format!("[mongo]\nuri = \"{bad}\"\n"));
        assert!(found.starts_with("affluent.toml:2: mongo.uri: "), "{bad:?}: {found}");
        assert!(!found.contains("hunt"), "{found}");
    }
    let config = good("[mongo]\nuri = \"mongodb://ann:hunter2@db/?replicaSet=rs0\"\n");
    assert!(config.mongo.uri.contains("hunter2"));
    assert!(to_toml(&config).contains("uri = \"mongodb://***@db/?replicaSet=rs0\""));
}

#[test]
fn secrets_are_masked_where_the_configuration_is_printed() {
    let printed = to_toml(&good(
        r#"[kafka.properties]
"sasl.password" = "hunter2"
"ssl.key.pem" = "hunter2"
[lake.storage]
aws_secret_access_key = "hunter2"
aws_access_key_id = "visible"
[http]
token = "hunter2hunter2hunter2"
"#,
    ));
    let short = problem("[http]\ntoken = \"hunter2\"\n");
    assert!(short.contains("http.token") && !short.contains("hunter"), "{short}");
    assert!(!printed.contains("hunter2"), "{printed}");
    assert!(printed.contains("aws_access_key_id = \"visible\""), "{printed}");
}

#[test]
fn sizes_and_intervals_have_bounds() {
    for (section, line) in [
        ("lake", "target_file_size = \"0B\""),
        ("lake", "commit_interval = \"99ms\""),
        ("mongo", "flush_interval = \"0s\""),
        ("mongo", "insert_concurrency = 0"),
        ("limits", "max_batch_records = 0"),
        ("collect", "max_body = \"1MiB\""),
        ("collect", "max_events = 0"),
        ("collect", "rate = 0"),
        ("collect", "burst = 0"),
        ("limits", "max_in_flight = \"1KiB\""),
    ] {
        let report = layers(&format!("[{section}]\n{line}\n"), &[], &[]).expect_err(line);
        assert!(report.contains(&format!("affluent.toml:2: {section}.")), "{report}");
    }
    good("[lake]\ncommit_interval = \"100ms\"\n");
    assert!(
        problem("[lake]\nmax_open_size = \"64MiB\"\n").contains("lake.target_file_size: larger than max_open_size")
    );
    assert!(problem(&readings("max_record_bytes = \"65MiB\"\n")).contains("not be larger than limits.max_in_flight"));
    for bad in ["5", "101%", "-1%", "many%"] {
        assert!(
            problem(&readings(&format!("max_dead_letters = \"{bad}\"\n"))).contains("wants a share"),
            "{bad}"
        );
    }
}

#[test]
fn origins_are_written_as_browsers_write_them() {
    let config = good("[collect]\norigins = [\"https://shop.example\", \"http://localhost:3000\", \"*\"]\n");
    assert_eq!(config.collect.origins.len(), 3);
    for (bad, hint) in [
        (
            "https://shop.example/",
            "wants an origin as browsers write it: \"https://shop.example\"",
        ),
        ("https://shop.example:443", "\"https://shop.example\""),
        ("HTTPS://Shop.example", "\"https://shop.example\""),
        ("shop.example", "wants an origin such as"),
        ("*.shop.example", "wants an origin such as"),
        ("null", "wants an origin such as"),
    ] {
        let report = problem(&format!("[collect]\norigins = [\"{bad}\"]\n"));
        assert!(
            report.contains("affluent.toml:2: collect.origins: ") && report.contains(hint),
            "{report}"
        );
    }
    let from_flag = layers("", &[], &["collect.origins=https://a.example, https://b.example"]);
    assert_eq!(from_flag.expect("valid").collect.origins.len(), 2);
    assert!(problem("[collect]\nproxies = [\"proxy.local\"]\n").contains("wants IP addresses"));
}

#[test]
fn a_full_request_of_events_fits_the_burst() {
    assert!(problem("[collect]\nmax_events = 201\n").contains("collect.burst: must not be smaller"));
    good("[collect]\nmax_events = 200\n");
}

#[test]
fn templates_belong_to_the_defaults() {
    assert!(problem("[template.stream]\nformat = \"json\"\n").contains("template: unknown key"));
}
