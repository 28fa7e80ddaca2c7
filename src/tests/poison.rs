//! Poison through real Kafka into both sinks: every odd record has its one documented outcome, the same in both,
//! and harms nobody beside it.

mod cases;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::Command;

use serde_json::Value;

use crate::support::{Job, env, text, until};
use crate::topic::{Record, Topic};
use cases::{Case, Outcome};

/// Field → value as text, per offset; `None` is null.
type Rows = BTreeMap<i64, BTreeMap<String, Option<String>>>;

/// Prints both sinks' rows of a stream in one form: {"mongo": {offset: {field: text}}, "lake": …}. Long texts as
/// length, beginning and end.
const ROWS: &str = r#"
import datetime, decimal, json, sys
import deltalake, pyarrow.parquet as pq, pymongo
from bson import Decimal128
from bson.codec_options import CodecOptions
table, uri, database, stream = sys.argv[1:]

def shown(value):
    if value is None: return None
    if isinstance(value, Decimal128): value = value.to_decimal()
    if isinstance(value, decimal.Decimal): return format(value, "f")
    if isinstance(value, datetime.datetime):
        text = value.strftime("%Y").zfill(4) + value.strftime("-%m-%dT%H:%M:%S")
        return text + (f".{value.microsecond:06}".rstrip("0") if value.microsecond else "") + "Z"
    if isinstance(value, datetime.date): return value.isoformat()
    if isinstance(value, float): return repr(value)
    text = str(value)
    return text if len(text) <= 300 else f"{len(text)}:{text[:10]}…{text[-10:]}"

def rows(found):
    offset = lambda row: row["_id"] & ((1 << 44) - 1)
    return {offset(row): {k: shown(v) for k, v in row.items() if k not in ("_id", "_timestamp")} for row in found}

collection = pymongo.MongoClient(uri)[database].get_collection(stream, CodecOptions(tz_aware=True))
print(json.dumps({
    "mongo": rows(collection.find()),
    "lake": rows(deltalake.DeltaTable(table).to_pyarrow_table().to_pylist()),
}))
"#;

/// A job with a stream `poison` of the fields that the cases are about.
struct Poison {
    job: Job,
    topic: Topic,
}

impl Poison {
    fn new(test: &str, more: &str) -> Self {
        Self::with(test, more, "producer")
    }

    fn with(test: &str, more: &str, compression: &str) -> Self {
        let job = Job::new(test, "");
        let topic = Topic::with(&job.topic("poison"), 1, compression);
        let fields: Vec<String> = cases::FIELDS
            .iter()
            .map(|(name, rest)| format!("{{ name = \"{name}\", {rest} }}"))
            .collect();
        let stream = format!(
            r#"
            [[streams]]
            name = "poison"
            topic = "{}"
            event_time = "at"
            timezone = "{}"
            partition_by = ["date", "site"]
            max_record_bytes = "{}B"
            {more}
            fields = [{}]
            [[streams.rollups]]
            name = "poison_by_day"
            every = "1d"
            by = ["site"]
            measures = {{ rows = "count()", total = "sum(m)" }}
            "#,
            topic.0,
            cases::TIMEZONE,
            cases::MAX_RECORD_BYTES,
            fields.join(", ")
        );
        let path = job.path("affluent.toml");
        let config = std::fs::read_to_string(&path).unwrap() + &stream;
        std::fs::write(path, config).unwrap();
        Self { job, topic }
    }

    fn run_once(&self) {
        self.job.ok(&["run", "--once", "--stream", "poison"]);
    }

    fn verify(&self) -> Value {
        let output = self.job.output(&["verify", "--stream", "poison", "--json"]);
        assert!(output.status.success(), "verify does not hold:\n{}", text(&output));
        let report = serde_json::from_slice::<Value>(&output.stdout).unwrap()["streams"][0].clone();
        assert_eq!(report["records"]["rejected_earlier"], 0, "{report}");
        report
    }

    /// Code by offset.
    fn letters(&self) -> BTreeMap<i64, String> {
        let args = [
            "dead-letters",
            "list",
            "--stream",
            "poison",
            "--json",
            "--limit",
            "100000",
        ];
        let listed = serde_json::from_slice::<Value>(&self.job.ok(&args).stdout).unwrap()[0].clone();
        let one = |letter: &Value| {
            (
                letter["offset"].as_i64().unwrap(),
                letter["code"].as_str().unwrap().to_owned(),
            )
        };
        listed["listed"].as_array().unwrap().iter().map(one).collect()
    }

    /// Rows in MongoDB and in the lake.
    fn rows(&self) -> (Rows, Rows) {
        let table = self.job.path("lake").join("poison");
        let python = Command::new(env("AFFLUENT_TEST_PYTHON"))
            .args(["-c", ROWS, table.to_str().unwrap()])
            .args([&env("AFFLUENT_TEST_MONGO"), &self.job.name, "poison"])
            .output()
            .unwrap();
        assert!(python.status.success(), "{}", text(&python));
        let mut seen: BTreeMap<String, Rows> = serde_json::from_slice(&python.stdout).unwrap();
        (seen.remove("mongo").unwrap(), seen.remove("lake").unwrap())
    }
}

/// A good record, told from others by its number.
fn neighbour(number: usize) -> Record {
    Record::new(format!(
        r#"{{"at":"2026-01-01T00:00:00Z","note":"neighbour {number}"}}"#
    ))
}

#[test]
fn every_odd_record_has_its_documented_outcome_in_both_sinks() {
    let poison = Poison::new("odd", "");
    let cases = cases::all();
    let records: Vec<Record> = cases
        .iter()
        .enumerate()
        .flat_map(|(at, case)| [neighbour(at), case.record.clone()])
        .collect();
    poison.topic.send(&records);
    poison.run_once();
    poison.verify();

    let (mongo, lake) = poison.rows();
    let letters = poison.letters();
    let mut wrong = Vec::new();
    for (at, case) in cases.iter().enumerate() {
        let (beside, offset) = (2 * at as i64, 2 * at as i64 + 1);
        for (sink, rows) in [("mongo", &mongo), ("lake", &lake)] {
            let name = format!("neighbour {at}");
            let note = rows.get(&beside).and_then(|row| row["note"].clone());
            assert_eq!(note, Some(name), "beside {} in {sink}", case.what);
            if let Some(why) = difference(case, sink, rows.get(&offset), letters.get(&offset)) {
                wrong.push(format!("{} in {sink}: {why}", case.what));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    let stored = cases.iter().filter(|case| matches!(case.outcome, Outcome::Stored(_)));
    assert_eq!(mongo.len(), cases.len() + stored.count(), "and nothing else");
    assert_eq!(lake.len(), mongo.len());
    assert_eq!(letters.len(), 2 * cases.len() - mongo.len());
}

fn difference(
    case: &Case,
    sink: &str,
    row: Option<&BTreeMap<String, Option<String>>>,
    letter: Option<&String>,
) -> Option<String> {
    let expected = match &case.outcome {
        Outcome::Letter(code) => {
            let right = row.is_none() && letter.is_some_and(|letter| letter == code);
            return (!right).then(|| format!("expected a letter {code}, found {row:?}, {letter:?}"));
        }
        Outcome::Stored(expected) => expected,
    };
    let (Some(row), None) = (row, letter) else {
        return Some(format!("expected a row, found {row:?}, {letter:?}"));
    };
    expected.iter().find_map(|(field, value)| {
        // The partition's day is the lake's alone.
        if (*field, sink) == ("date", "mongo") {
            return None;
        }
        let found = row.get(*field).cloned().flatten();
        let expected = as_stored(field, value, sink);
        (found != expected).then(|| format!("{field} is {found:?}, expected {expected:?}"))
    })
}

/// The table's value as a sink has it.
fn as_stored(field: &str, value: &str, sink: &str) -> Option<String> {
    match value {
        "null" => return None,
        "null (the text)" => return Some("null".to_owned()),
        _ => {}
    }
    let is_instant = matches!(field, "at" | "ms");
    if sink == "mongo" && is_instant && value.len() > "2026-01-01T12:00:00.123Z".len() {
        let cut = value[.."2026-01-01T12:00:00.123".len()]
            .trim_end_matches('0')
            .trim_end_matches('.');
        return Some(format!("{cut}Z"));
    }
    if sink == "mongo" && field == "day" {
        return Some(format!("{value}T00:00:00Z"));
    }
    if value.chars().count() > 300 {
        return Some(format!(
            "{}:{}…{}",
            value.len(),
            &value[..10],
            &value[value.len() - 10..]
        ));
    }
    Some(value.to_owned())
}

/// The page's tables, from the cases.
fn documented() -> String {
    let mut text = String::new();
    let mut group = "";
    for case in cases::all() {
        if case.group != group {
            group = case.group;
            write!(text, "\n### {group}\n\n| record | outcome |\n|---|---|\n").unwrap();
        }
        let outcome = match &case.outcome {
            Outcome::Letter(code) => format!("dead letter `{code}`"),
            Outcome::Stored(values) => {
                let value = |(field, value): &(&str, String)| match value.as_str() {
                    "" => format!("`{field}` = the empty text"),
                    long if long.len() > 60 => format!("`{field}` = all of it"),
                    value => format!("`{field}` = `{}`", value.escape_debug()),
                };
                format!("stored, {}", values.iter().map(value).collect::<Vec<_>>().join(", "))
            }
        };
        writeln!(
            text,
            "| {} | {} |",
            case.what.replace('|', "\\|"),
            outcome.replace('|', "\\|")
        )
        .unwrap();
    }
    text
}

#[test]
fn the_page_about_records_says_what_the_cases_prove() {
    const BEGIN: &str = "<!-- cases: written by a test, AFFLUENT_TEST_BLESS=1 renews them -->\n";
    const END: &str = "\n<!-- end of cases -->";
    let path = "docs/records.md";
    let page = std::fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has the cases' beginning");
    let (cases, after) = rest.split_once(END).expect("the page has the cases' end");
    let expected = documented();
    if std::env::var_os("AFFLUENT_TEST_BLESS").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(
        cases, expected,
        "{path} is out of date: run this test with AFFLUENT_TEST_BLESS=1"
    );
}

#[test]
fn huge_records_stay_within_the_byte_budget() {
    // As large on the wire as they are: no fetch may bring many of them at once.
    let poison = Poison::with("huge", "", "uncompressed");
    let huge: Vec<Case> = cases::all()
        .into_iter()
        .filter(|case| case.record.value.as_ref().is_some_and(|v| v.len() > 5_000_000))
        .collect();
    assert!(huge.len() >= 5);
    for round in 0..4 {
        poison.topic.send([&neighbour(round)]);
        poison.topic.send(huge.iter().map(|case| &case.record));
    }
    let args = [
        "--set",
        "limits.max_in_flight=64MiB",
        "run",
        "--once",
        "--stream",
        "poison",
    ];
    let mut run = poison.job.command(&args).spawn().unwrap();
    let mut peak_kib = 0;
    let status = until("the run ends", || {
        // The high-water mark only grows: the last one seen is that of the run but for its last moments.
        peak_kib = peak_kib.max(peak_rss_kib(run.id()).unwrap_or(0));
        run.try_wait().unwrap()
    });
    assert!(status.success(), "{status}");
    eprintln!("peak RSS {} MiB", peak_kib >> 10);
    let budget_kib = 64 << 10;
    assert!(peak_kib < budget_kib + PIPELINE_KIB, "peak RSS {} MiB", peak_kib >> 10);
    poison.verify();
}

/// What a run may take beside its budget while records of 20 MB pass: librdkafka's prefetch, a batch as Arrow, as
/// BSON and as a command, a letter on its way out, the Parquet writer's pages.
const PIPELINE_KIB: u64 = 600 << 10;

fn peak_rss_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn one_bad_record_among_100_000_and_nothing_but_bad_ones() {
    let job = Job::new("rates", "");
    job.produce("clicks", 1_000, &["--bad", "100"]);
    job.produce("sales", 60_000, &[]);
    Topic(job.topic("sales")).send([&Record::new("{")]);
    job.produce("sales", 40_000, &[]);
    job.run_once();
    let report = job.verify();
    let of = |stream: &str| {
        let found = report["streams"]
            .as_array()
            .unwrap()
            .iter()
            .find(|s| s["stream"] == stream);
        let records = &found.unwrap()["records"];
        (records["good"].as_u64().unwrap(), records["rejected"].as_u64().unwrap())
    };
    assert_eq!(of("sales"), (100_000, 1));
    assert_eq!(of("clicks"), (0, 1_000));
}

#[test]
fn the_circuit_breaker_stops_its_stream_above_the_rate_and_loses_nothing() {
    let job = Job::new("breaker", "");
    let limit = |percent: &str| {
        let path = job.path("affluent.toml");
        let config = std::fs::read_to_string(&path).unwrap();
        let lines = config.lines().filter(|line| !line.starts_with("max_dead_letters"));
        let preset = "preset = \"sales\"";
        let limited = format!("{preset}\nmax_dead_letters = \"{percent}\"");
        let config = lines.collect::<Vec<_>>().join("\n").replace(preset, &limited);
        std::fs::write(path, config).unwrap();
    };
    limit("5%");
    job.produce("clicks", 2_000, &["--bad", "50"]);
    job.produce("sales", 12_000, &["--bad", "3"]);
    job.run_once();
    job.verify();

    job.produce("sales", 30_000, &["--bad", "12"]);
    job.produce("clicks", 1_000, &[]);
    let stopped = job.output(&["run", "--once"]);
    assert_eq!(stopped.status.code(), Some(1), "{}", text(&stopped));
    let said = text(&stopped);
    for named in ["sales", "5.0 %", "max_dead_letters", "dead-letters list --stream sales"] {
        assert!(said.contains(named), "{named} is not named:\n{said}");
    }
    let lag_of = |stream: &str| {
        let status = job.status();
        let stream = status["streams"]
            .as_array()
            .unwrap()
            .iter()
            .find(|s| s["stream"] == stream)
            .cloned();
        let partitions = stream.unwrap()["partitions"].as_array().unwrap().clone();
        partitions
            .iter()
            .map(|p| p["lag_records"].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!(lag_of("clicks"), 0, "the other stream went on to its end");
    assert!(lag_of("sales") > 0, "it stopped on the way");
    // What was stored before it stopped is whole.
    job.ok(&["verify"]);

    limit("50%");
    job.run_once();
    let report = job.verify();
    assert_eq!(report["streams"][0]["records"]["read"], 42_000);
    assert_eq!(lag_of("sales"), 0);
}

#[test]
fn a_tombstone_is_a_dead_letter_or_skipped_as_the_stream_says() {
    for (policy, letters, skipped) in [("", 2, 0), ("tombstones = \"skip\"", 0, 2)] {
        let poison = Poison::new("tombstones", policy);
        let keyed = Record {
            key: Some(b"k".to_vec()),
            ..Record::tombstone()
        };
        poison
            .topic
            .send([&neighbour(0), &Record::tombstone(), &neighbour(1), &keyed]);
        poison.run_once();
        let report = poison.verify();
        assert_eq!(report["records"]["skipped"], skipped, "{policy}");
        assert_eq!(
            (&report["mongo"]["rows"], &report["lake"]["rows"]),
            (&2.into(), &2.into())
        );
        assert_eq!(poison.letters().len(), letters);
        let codes = poison.letters();
        assert!(codes.values().all(|code| code == "null_payload"), "{codes:?}");
    }
}
