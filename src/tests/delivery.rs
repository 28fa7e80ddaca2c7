//! The main way: what goes into Kafka is in both sinks exactly once, whatever the order of starts and ends.

use serde_json::Value;

use crate::support::{Job, files_below, lag, text, until};

fn committed(verify: &Value, stream: &str, sink: &str) -> u64 {
    let stream = verify["streams"]
        .as_array()
        .unwrap()
        .iter()
        .find(|s| s["stream"] == stream)
        .unwrap();
    stream[sink]["rows"]
        .as_u64()
        .unwrap_or_else(|| panic!("no rows of {sink} in {stream}"))
}

#[test]
fn both_streams_land_exactly_once_in_both_sinks() {
    let job = Job::new("main", "");
    job.produce("sales", 20_000, &[]);
    job.produce("clicks", 10_000, &[]);
    job.run_once();
    let verified = job.verify();
    for sink in ["mongo", "lake"] {
        assert_eq!(committed(&verified, "sales", sink), 20_000);
        assert_eq!(committed(&verified, "clicks", sink), 10_000);
    }
    assert_eq!(lag(&job.status()), Some(0));
}

#[test]
fn a_second_run_finds_nothing_to_do_and_a_third_takes_only_what_is_new() {
    let job = Job::new("again", "");
    job.produce("sales", 3_000, &[]);
    job.produce("clicks", 10, &[]);
    job.run_once();
    let files = files_below(&job.path("lake"), ".parquet").len();
    job.run_once();
    assert_eq!(
        files_below(&job.path("lake"), ".parquet").len(),
        files,
        "nothing new, no new file"
    );
    job.produce("sales", 2_000, &[]);
    job.run_once();
    assert_eq!(committed(&job.verify(), "sales", "mongo"), 5_000);
}

#[test]
fn bad_records_become_dead_letters_and_harm_nobody() {
    let job = Job::new("poison", "");
    job.produce("sales", 10_000, &["--bad", "5"]);
    job.produce("clicks", 1_000, &["--bad", "50"]);
    let run = job.run_once();
    assert!(
        text(&run).contains("dead_letters="),
        "the summary counts them:\n{}",
        text(&run)
    );
    job.verify();
    let listed = job.ok(&["dead-letters", "list", "--stream", "sales", "--json"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    for code in [
        "invalid_json",
        "null_payload",
        "missing_field",
        "wrong_type",
        "out_of_range",
        "invalid_timestamp",
    ] {
        assert!(listed.contains(code), "no dead letter says {code}");
    }
}

#[test]
fn either_sink_alone() {
    for off in ["mongo", "lake"] {
        let job = Job::new("alone", "");
        job.produce("sales", 2_000, &[]);
        job.produce("clicks", 500, &[]);
        job.ok(&["--set", &format!("{off}.enabled=false"), "run", "--once"]);
        job.ok(&["--set", &format!("{off}.enabled=false"), "verify"]);
    }
}

#[test]
fn a_sink_enabled_beside_one_with_rows_stops_the_stream_and_says_so() {
    let job = Job::new("late-sink", "");
    job.produce("sales", 2_000, &[]);
    job.produce("clicks", 500, &[]);
    job.ok(&["--set", "mongo.enabled=false", "run", "--once"]);
    let refused = job.output(&["run", "--once"]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(text(&refused).contains("mongo has no progress"), "{}", text(&refused));
}

#[test]
fn latest_means_one_place_for_both_sinks() {
    let job = Job::new("latest", "");
    job.produce("sales", 1_000, &[]);
    job.produce("clicks", 1_000, &[]);
    job.ok(&["--set", "kafka.start=latest", "run", "--once"]);
    job.produce("sales", 500, &[]);
    // The recorded start counts, not the word in the configuration.
    job.run_once();
    let verified = job.verify();
    assert_eq!(committed(&verified, "sales", "mongo"), 500);
    assert_eq!(committed(&verified, "sales", "lake"), 500);
}

#[test]
fn sigterm_commits_what_was_read_and_exits_0() {
    let job = Job::new("term", "");
    job.produce("clicks", 10, &[]);
    job.produce("sales", 5_000, &[]);
    // An hour between lake commits: only the graceful end can commit.
    let args = [
        "--set",
        "lake.commit_interval=1h",
        "--set",
        "lake.idle_interval=1h",
        "run",
    ];
    let mut run = job.spawn("run", &args, &[]);
    until("MongoDB has it all", || {
        let streams = job.status()["streams"].clone();
        let partitions: Vec<Value> = streams
            .as_array()?
            .iter()
            .flat_map(|s| s["partitions"].as_array().cloned().unwrap_or_default())
            .collect();
        let read = partitions
            .iter()
            .filter(|p| p["mongo"]["lag_records"].as_u64() == Some(0))
            .count();
        (read == partitions.len()).then_some(())
    });
    run.signal(rustix::process::Signal::TERM);
    assert_eq!(run.wait().code(), Some(0), "{}", run.log());
    assert!(
        run.log().contains("shutdown"),
        "the commit names its reason:\n{}",
        run.log()
    );
    job.verify();
    assert_eq!(lag(&job.status()), Some(0));
}

#[test]
fn transactions_count_only_when_committed_and_once_ends_behind_their_markers() {
    use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
    let job = Job::new("transactions", "");
    job.produce("sales", 100, &[]);
    job.produce("clicks", 10, &[]);
    let template = r#"{"sale_id":"t","sold_at":"2026-01-01T00:00:00Z","product":"p","region":"Corse","amount":1.50}"#;
    let producer: ThreadedProducer<rdkafka::producer::DefaultProducerContext> = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", crate::support::env("AFFLUENT_TEST_KAFKA"))
        .set("transactional.id", &job.name)
        .create()
        .unwrap();
    producer.init_transactions(crate::support::DEADLINE).unwrap();
    let topic = job.topic("sales");
    for commit in [false, true] {
        producer.begin_transaction().unwrap();
        for _ in 0..50 {
            let record: BaseRecord<'_, (), str> = BaseRecord::to(&topic).payload(template).partition(0);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(crate::support::DEADLINE).unwrap();
        if commit {
            producer.commit_transaction(crate::support::DEADLINE).unwrap();
        } else {
            producer.abort_transaction(crate::support::DEADLINE).unwrap();
        }
    }
    job.run_once();
    assert_eq!(committed(&job.verify(), "sales", "lake"), 150);
    assert_eq!(lag(&job.status()), Some(0), "progress passes the trailing markers");
}
