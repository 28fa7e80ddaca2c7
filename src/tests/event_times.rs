//! Event time, as a user sees it: up to when a stream is complete, where a late record goes, how late records are.

use serde_json::Value;

use crate::support::observed::Observed;
use crate::support::{Job, files_below, until};
use crate::topic::{Record, Topic};

/// A sale in one partition of the topic.
fn sale(partition: i32, sold_at: &str) -> Record {
    let payload = format!(
        r#"{{"sale_id":"s","sold_at":"{sold_at}","product":"p","region":"Corse","amount":1.50,"colour":"red"}}"#
    );
    Record {
        partition,
        ..Record::new(payload)
    }
}

/// A job, and the topic of its sales. The other stream's is there and stays empty.
fn job(test: &str, partitions: i32) -> (Job, Topic) {
    let job = Job::new(test, "");
    Topic::create(&job.topic("clicks"), 1);
    let topic = Topic::create(&job.topic("sales"), partitions);
    (job, topic)
}

/// The whole of the stream's status.
fn status(job: &Job) -> Value {
    let output = job.ok(&["status", "--json", "--stream", "sales"]);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    status["streams"][0].clone()
}

/// Of the stream, of MongoDB, of the lake.
fn watermarks(status: &Value) -> [Option<&str>; 3] {
    ["watermark", "mongo_watermark", "lake_watermark"].map(|name| status[name].as_str())
}

fn run_once(job: &Job) {
    job.ok(&["run", "--once", "--stream", "sales"]);
}

fn seconds(instant: &str) -> f64 {
    chrono::DateTime::parse_from_rfc3339(instant).unwrap().timestamp() as f64
}

#[test]
fn status_says_up_to_when_both_sinks_are_complete() {
    let (job, topic) = job("watermark", 3);
    assert_eq!(watermarks(&status(&job)), [None; 3], "nothing is there yet");
    topic.send(&[
        sale(0, "2026-01-31T09:00:00.5Z"),
        sale(0, "2026-01-31T08:00:00Z"),
        sale(1, "2026-01-31T08:30:00Z"),
    ]);
    assert_eq!(watermarks(&status(&job)), [None; 3], "nothing is in the sinks");
    run_once(&job);
    // Nothing waits anywhere: everything is in, and partition 2 has never had a record.
    let drained = status(&job);
    assert_eq!(watermarks(&drained), [Some("2026-01-31T09:00:00.500Z"); 3], "{drained}");
    let second = &drained["partitions"][1];
    assert_eq!(second["lake"]["event_time"], "2026-01-31T08:30:00Z");
    assert_eq!(drained["partitions"][2]["mongo"]["event_time"], Value::Null);
    let printed = job.ok(&["status", "--stream", "sales"]);
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(
        printed.contains("complete up to 2026-01-31T09:00:00.500Z (mongo 2026"),
        "{printed}"
    );

    // A record waits in partition 1: how old it is nobody knows before it is read.
    topic.send(&[sale(1, "2026-01-31T10:00:00Z")]);
    assert_eq!(watermarks(&status(&job)), [Some("2026-01-31T08:30:00Z"); 3]);
    run_once(&job);
    assert_eq!(watermarks(&status(&job)), [Some("2026-01-31T10:00:00Z"); 3]);
    topic.send(&[sale(2, "2026-01-31T10:30:00Z")]);
    assert_eq!(
        watermarks(&status(&job)),
        [None; 3],
        "the first record of a partition may be of any time"
    );
    run_once(&job);
    assert_eq!(watermarks(&status(&job)), [Some("2026-01-31T10:30:00Z"); 3]);
    job.verify_stream("sales");
}

#[test]
fn the_watermark_is_that_of_the_sink_that_is_behind() {
    let (job, topic) = job("watermark-behind", 1);
    topic.send(&[sale(0, "2026-01-31T08:00:00Z")]);
    run_once(&job);
    // A lake that waits for its commit.
    let settings = ["lake.commit_interval=1h", "lake.idle_interval=1h"];
    let job_running = Observed::start(&job, &settings);
    topic.send(&[sale(0, "2026-01-31T09:00:00Z")]);
    job_running.until_progress("sales", "mongo", 2);
    assert_eq!(
        watermarks(&status(&job)),
        [
            Some("2026-01-31T08:00:00Z"),
            Some("2026-01-31T09:00:00Z"),
            Some("2026-01-31T08:00:00Z")
        ]
    );
    for (sink, instant) in [("mongo", "2026-01-31T09:00:00Z"), ("lake", "2026-01-31T08:00:00Z")] {
        until_watermark(&job_running, sink, instant);
    }
    job_running.end();
    assert_eq!(watermarks(&status(&job)), [Some("2026-01-31T09:00:00Z"); 3]);
}

fn until_watermark(run: &Observed, sink: &str, instant: &str) {
    let labels = ["stream=\"sales\"".to_owned(), format!("sink=\"{sink}\"")];
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    until(&format!("{sink} is complete up to {instant}"), || {
        let shown = run.metric("affluent_watermark_seconds", &labels);
        (shown == seconds(instant)).then_some(())
    });
}

#[test]
fn a_restarted_job_knows_the_watermark_without_a_new_record() {
    let (job, topic) = job("watermark-restart", 2);
    topic.send(&[sale(0, "2026-01-31T09:00:00Z"), sale(1, "2026-01-31T08:00:00Z")]);
    run_once(&job);
    let run = Observed::start(&job, &[]);
    for sink in ["mongo", "lake"] {
        until_watermark(&run, sink, "2026-01-31T09:00:00Z");
    }
    // A late record moves nothing.
    topic.send(&[sale(1, "2025-12-31T00:00:00Z")]);
    run.until_progress("sales", "lake", 3);
    for sink in ["mongo", "lake"] {
        until_watermark(&run, sink, "2026-01-31T09:00:00Z");
    }
    // It is late by what was stored before the restart.
    let records = |name: &str, bound: &[&str]| run.metric(&format!("affluent_lake_lateness_seconds_{name}"), bound);
    assert_eq!(
        (records("count", &[]), records("bucket", &["le=\"2592000\""])),
        (1.0, 0.0)
    );
    run.end();
    job.verify_stream("sales");
}

#[test]
fn a_late_record_goes_to_its_old_partition_and_the_current_file_stays_open() {
    let (job, topic) = job("late", 1);
    let day = |hour: u32| (0..60).map(move |minute| sale(0, &format!("2026-01-31T{hour:02}:{minute:02}:00Z")));
    let run = Observed::start(&job, &["lake.commit_interval=1h", "lake.idle_interval=1h"]);
    let mut sent = 0;
    for hour in 8..12 {
        let mut records: Vec<Record> = day(hour).collect();
        records.push(sale(0, &format!("2026-01-{:02}T12:00:00Z", hour)));
        topic.send(&records);
        sent += records.len() as u64;
        // Batches of their own: the lake has them, and waits.
        run.until_progress("sales", "mongo", sent);
    }
    let log = run.end();
    assert_eq!(
        log.matches("sink=\"lake\"").count(),
        1,
        "one commit, at the end:\n{log}"
    );
    let table = job.path("lake").join("sales");
    let files = |date: &str| files_below(&table.join(format!("date={date}/region=Corse")), ".parquet").len();
    assert_eq!(files("2026-01-31"), 1, "240 records in one file");
    for date in ["2026-01-08", "2026-01-09", "2026-01-10", "2026-01-11"] {
        assert_eq!(files(date), 1, "{date}");
    }
    assert_eq!(files_below(&table, ".parquet").len(), 5);
    job.verify_stream("sales");
}

#[test]
fn lateness_and_undeclared_fields_are_counted_in_the_metrics() {
    let (job, topic) = job("lateness", 1);
    let run = Observed::start(&job, &[]);
    topic.send(&[
        sale(0, "2026-01-31T09:00:00Z"),
        sale(0, "2026-01-31T08:59:30Z"),
        sale(0, "2026-01-31T04:00:00Z"),
        sale(0, "2026-01-31T09:00:01Z"),
        sale(0, "2025-12-01T00:00:00Z"),
    ]);
    run.until_progress("sales", "lake", 5);
    let late = |bound: &str| {
        let bound = format!("le=\"{bound}\"");
        run.metric("affluent_lake_lateness_seconds_bucket", &["stream=\"sales\"", &bound])
    };
    let found = ["0", "60", "600", "3600", "21600", "86400", "604800", "2592000", "+Inf"].map(late);
    assert_eq!(found, [2.0, 3.0, 3.0, 3.0, 4.0, 4.0, 4.0, 4.0, 5.0]);
    assert_eq!(
        run.metric("affluent_lake_lateness_seconds_count", &["stream=\"sales\""]),
        5.0
    );
    let labels = ["stream=\"sales\"", "field=\"colour\""];
    assert_eq!(run.metric("affluent_unknown_fields_total", &labels), 5.0);
    run.end();
}
