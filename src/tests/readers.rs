//! Others' eyes: the broker's own lag tool, and other engines reading the lake.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::support::{Job, env, text, until};
use crate::topic::{Record, Topic};

/// Counts and sums the lake with deltalake/pyarrow and with duckdb over the active files, and MongoDB by
/// aggregation; prints one JSON object.
const COUNT_AND_SUM: &str = r#"
import json, sys
from decimal import Decimal
import deltalake, duckdb, pyarrow.compute as pc, pymongo
table, uri, database = sys.argv[1:]
delta = deltalake.DeltaTable(table)
arrow = delta.to_pyarrow_table(columns=["amount", "_id"]) if hasattr(delta, "to_pyarrow_table") else None
files = delta.file_uris()
query = lambda sql: duckdb.connect().execute(sql).fetchall()
[(count, total)] = query(f"select count(*), sum(amount) from read_parquet({files!r}, hive_partitioning=true)")
regions = dict(query(f"select region, count(*) from read_parquet({files!r}, hive_partitioning=true) group by 1"))
mongo = pymongo.MongoClient(uri)[database].sales
grouped = list(mongo.aggregate([{"$group": {"_id": None, "n": {"$sum": 1}, "total": {"$sum": "$amount"}}}]))[0]
by_region = {r["_id"]: r["n"] for r in mongo.aggregate([{"$group": {"_id": "$region", "n": {"$sum": 1}}}])}
print(json.dumps({
    "delta": [arrow.num_rows, str(pc.sum(arrow["amount"]).as_py())],
    "duckdb": [count, str(total)],
    "mongo": [grouped["n"], str(grouped["total"].to_decimal())],
    "regions_equal": regions == by_region,
}))
"#;

#[test]
fn other_engines_count_and_sum_the_same() {
    let job = Job::new("engines", "");
    job.produce("sales", 10_000, &[]);
    job.produce("clicks", 10, &[]);
    job.run_once();
    let table = job.path("lake").join("sales");
    let python = Command::new(env("AFFLUENT_TEST_PYTHON"))
        .args(["-c", COUNT_AND_SUM])
        .args([table.to_str().unwrap(), &env("AFFLUENT_TEST_MONGO"), &job.name])
        .output()
        .unwrap();
    assert!(python.status.success(), "{}", text(&python));
    let seen: Value = serde_json::from_slice(&python.stdout).unwrap();
    assert_eq!(seen["delta"], seen["duckdb"]);
    assert_eq!(seen["delta"], seen["mongo"]);
    assert_eq!(seen["delta"][0], 10_000);
    assert_eq!(
        seen["regions_equal"], true,
        "accents and apostrophes survive the partition paths"
    );
}

/// The regions as deltalake and duckdb give them back, from the log and from the directories.
const REGIONS: &str = r#"
import json, sys
import deltalake, duckdb, pyarrow as pa
delta = deltalake.DeltaTable(sys.argv[1])
arrow = pa.table(delta.to_pyarrow_table(columns=["region", "_id"]))
files = delta.file_uris()
rows = duckdb.connect().execute(
    f"select region from read_parquet({files!r}, hive_partitioning=true, hive_types_autocast=false)").fetchall()
regions = lambda values: sorted(values, key=lambda value: (value is not None, value))
print(json.dumps({"delta": regions(arrow["region"].to_pylist()), "duckdb": regions(region for (region,) in rows)}))
"#;

#[test]
fn awkward_partition_values_are_read_back_by_other_engines() {
    let awkward = [
        "Provence-Alpes-Côte d'Azur",
        "a/b",
        "../../up",
        "..",
        "a=b",
        "100%",
        "%2F",
        "a+b",
        "12:30",
        "\"double\" back\\slash",
        "tab\tand line\nbreak",
        "*?[x]{y}",
        "#fragment?query=1&x",
        " leading and trailing ",
        "😀 日本",
        "2026-01-31",
        "007",
    ];
    let job = Job::new("awkward", "");
    Topic::create(&job.topic("clicks"), 1);
    let sale = |region: Value| {
        let sale = serde_json::json!({
            "sale_id": "s", "sold_at": "2026-01-31T08:00:00Z", "product": "p", "amount": 1.5, "region": region
        });
        Record::new(sale.to_string())
    };
    let regions = awkward
        .iter()
        .map(|region| Value::from(*region))
        .chain([Value::Null, "".into()]);
    let records: Vec<Record> = regions.map(sale).collect();
    Topic::create(&job.topic("sales"), 1).send(&records);
    job.run_once();
    job.verify();
    let python = Command::new(env("AFFLUENT_TEST_PYTHON"))
        .args(["-c", REGIONS, job.path("lake").join("sales").to_str().unwrap()])
        .output()
        .unwrap();
    assert!(python.status.success(), "{}", text(&python));
    let seen: Value = serde_json::from_slice(&python.stdout).unwrap();
    // The empty string is null, in every reader.
    let mut expected = vec![Value::Null, Value::Null];
    let mut sorted = awkward;
    sorted.sort_unstable();
    expected.extend(sorted.map(Value::from));
    assert_eq!(seen["delta"], Value::from(expected.clone()));
    assert_eq!(seen["duckdb"], Value::from(expected));
}

#[test]
fn lag_in_status_agrees_with_the_brokers_own_tool_during_a_run() {
    let job = Job::new("lag", "");
    job.produce("sales", 3_000, &[]);
    job.produce("clicks", 10, &[]);
    let mut run = job.spawn("run", &["run"], &[]);
    until("caught up", || job.caught_up().then_some(()));
    run.signal(rustix::process::Signal::TERM);
    run.wait();
    // A lake that waits: its lag stays put while the two are asked one after the other, and the job runs.
    let waiting = [
        "--set",
        "lake.commit_interval=1h",
        "--set",
        "lake.idle_interval=1h",
        "run",
    ];
    let mut run = job.spawn("waiting", &waiting, &[]);
    run.until_logged("reading");
    job.produce("sales", 500, &[]);
    let mongo_lag = |sales: &Value| -> i64 {
        let partitions = sales["partitions"].as_array().unwrap().iter();
        partitions.map(|p| p["mongo"]["lag_records"].as_i64().unwrap()).sum()
    };
    let sales = until("mongodb has all of it", || {
        Some(sales_of(&job.status())).filter(|sales| mongo_lag(sales) == 0)
    });
    let ours: BTreeMap<i64, i64> = sales["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| (p["partition"].as_i64().unwrap(), p["lag_records"].as_i64().unwrap()))
        .collect();
    assert_eq!(ours.values().sum::<i64>(), 500);
    assert_eq!(ours, brokers_lag(&job));
    run.signal(rustix::process::Signal::TERM);
    assert_eq!(run.wait().code(), Some(0), "{}", run.log());
    assert_eq!(brokers_lag(&job).values().sum::<i64>(), 0);
    let behind = sales["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .any(|p| p["lag_seconds"].as_f64().unwrap() > 0.0);
    assert!(behind, "records that wait have an age: {sales}");
}

fn sales_of(status: &Value) -> Value {
    let streams = status["streams"].as_array().unwrap();
    streams.iter().find(|s| s["stream"] == "sales").unwrap().clone()
}

/// Columns of `kafka-consumer-groups --describe`: GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG …
fn brokers_lag(job: &Job) -> BTreeMap<i64, i64> {
    let tool = Command::new("scripts/stack.sh")
        .args([
            "kafka-tool",
            "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
        ])
        .args([
            "--bootstrap-server",
            &env("AFFLUENT_TEST_KAFKA"),
            "--describe",
            "--group",
            &job.name,
        ])
        .output()
        .unwrap();
    let printed = text(&tool);
    let rows = printed.lines().filter(|line| line.contains(&job.topic("sales")));
    rows.map(|row| {
        let columns: Vec<&str> = row.split_whitespace().collect();
        (
            columns[2].parse().unwrap(),
            columns[5].parse().unwrap_or_else(|_| panic!("no lag in {row}")),
        )
    })
    .collect()
}
