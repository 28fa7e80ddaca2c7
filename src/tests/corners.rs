//! Kafka's odd corners: what a log can look like besides "records, one after the other". `run --once` ends on all
//! of them, exactly at their ends, and `verify` holds.

use std::time::Instant;

use rustix::process::Signal;

use crate::support::{Job, lag, until};
use crate::topics::{self, Writer, rows, sale};

const ONCE: [&str; 4] = ["run", "--once", "--stream", "sales"];

/// A job whose clicks are left out: their topic exists and is empty.
fn job(test: &str, partitions: i32, properties: &[(&str, &str)]) -> Job {
    let job = Job::new(test, "");
    topics::create(&job.topic("sales"), partitions, properties);
    topics::create(&job.topic("clicks"), 1, &[]);
    job
}

#[test]
fn an_empty_topic_is_drained_at_once_and_its_first_records_are_read_by_the_next_run() {
    let job = job("empty", 3, &[]);
    job.run_once();
    job.run_once();
    assert_eq!(rows(&job.verify(), "sales"), (0, 0));
    let writer = Writer::new(&job.topic("sales"), &[]);
    writer.send(1, None, Some(&sale("first")));
    writer.flush();
    job.run_once();
    assert_eq!(rows(&job.verify(), "sales"), (1, 1));
}

#[test]
fn partitions_of_every_shape_are_drained_side_by_side() {
    let job = job("shapes", 6, &[]);
    let topic = job.topic("sales");
    // Partition 0 stays empty. 1: one record, at offset 0. 2: one record in each batch.
    let single = Writer::new(&topic, &[("linger.ms", "0"), ("batch.num.messages", "1")]);
    single.send(1, None, Some(&sale("only")));
    (0..400).for_each(|n| single.send(2, None, Some(&sale(n))));
    // 3: nothing but aborted records and markers.
    let transactions = Writer::transactional(&topic, &job.name);
    let transaction = |partition: i32, records: u32, commit: bool| {
        transactions.begin();
        (0..records).for_each(|n| transactions.send(partition, None, Some(&sale(n))));
        transactions.flush();
        if commit {
            transactions.commit()
        } else {
            transactions.abort()
        }
    };
    (0..3).for_each(|_| transaction(3, 5, false));
    // 4: aborted before committed, and a tail of markers only.
    transaction(4, 5, false);
    transaction(4, 7, true);
    (0..3).for_each(|_| transaction(4, 1, false));
    // 5: tombstones, and records between them.
    for n in 0..10 {
        let payload = sale(n);
        single.send(5, Some("key"), (n % 2 == 0).then_some(&payload));
    }
    single.flush();
    job.run_once();
    assert_eq!(rows(&job.verify(), "sales"), (413, 413));
    let status = job.status();
    assert_eq!(lag(&status), Some(0), "progress is at every end: {status}");
    // Idle from here on: nothing is read twice, nothing is waited for.
    job.run_once();
    assert_eq!(rows(&job.verify(), "sales"), (413, 413));
}

#[test]
fn once_ends_before_a_hanging_transaction_and_the_next_run_reads_what_it_committed() {
    let job = job("open-transaction", 2, &[]);
    let topic = job.topic("sales");
    let plain = Writer::new(&topic, &[]);
    (0..20).for_each(|n| plain.send(0, None, Some(&sale(n))));
    plain.flush();
    let open = Writer::transactional(&topic, &job.name);
    open.begin();
    (0..5).for_each(|n| open.send(0, None, Some(&sale(n))));
    open.flush();
    // Committed on its own, and yet not to be read before the open transaction is decided.
    (0..30).for_each(|n| plain.send(0, None, Some(&sale(n))));
    (0..3).for_each(|n| plain.send(1, None, Some(&sale(n))));
    plain.flush();
    job.run_once();
    assert_eq!(rows(&job.verify(), "sales"), (23, 23));
    open.commit();
    job.run_once();
    assert_eq!(rows(&job.verify(), "sales"), (58, 58));
    // The same, aborted.
    open.begin();
    (0..5).for_each(|n| open.send(1, None, Some(&sale(n))));
    open.flush();
    job.run_once();
    open.abort();
    job.run_once();
    assert_eq!(rows(&job.verify(), "sales"), (58, 58));
    assert_eq!(lag(&job.status()), Some(0));
}

#[test]
fn a_compacted_log_is_read_across_its_gaps_and_tombstones_are_skipped_where_that_is_the_policy() {
    let job = Job::new("compacted", "");
    job.configure("affluent.toml", |config| {
        config.replacen("preset = \"sales\"\n", "preset = \"sales\"\ntombstones = \"skip\"\n", 1)
    });
    let properties = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "50"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("delete.retention.ms", "3600000"),
    ];
    let topic = job.topic("sales");
    topics::create(&topic, 2, &properties);
    topics::create(&job.topic("clicks"), 1, &[]);
    let writer = Writer::new(&topic, &[]);
    let send = |key: String, alive: bool| {
        let payload = sale(&key);
        writer.send(0, Some(&key), alive.then_some(payload.as_str()));
    };
    // Overwritten: gone from the beginning of the log, and from its middle.
    (0..300).for_each(|n| send(format!("again {}", n % 10), true));
    (0..10).for_each(|n| send(format!("once {n}"), true));
    (0..40).for_each(|n| send(format!("again {}", n % 10), true));
    (0..10).for_each(|n| send(format!("once more {n}"), true));
    (0..10).for_each(|n| send(format!("again {n}"), n % 2 == 0));
    writer.flush();
    // A segment is closed by the append that finds it old, and only closed ones are cleaned.
    let mut fillers = 0;
    let left = until("the log is compacted", || {
        send(format!("filler {fillers}"), true);
        writer.flush();
        fillers += 1;
        let left = topics::offsets(&topic, 0);
        (left.first() == Some(&300) && !left.contains(&310)).then_some(left)
    });
    // And a tail without records.
    let transactions = Writer::transactional(&topic, &job.name);
    transactions.begin();
    transactions.send(0, Some("never"), Some(&sale("never")));
    transactions.flush();
    transactions.abort();
    job.run_once();
    let alive = left.len() as u64 - 5;
    assert_eq!(rows(&job.verify(), "sales"), (alive, alive));
    assert_eq!(lag(&job.status()), Some(0));
}

#[test]
fn partitions_added_while_running_are_read_from_their_beginning() {
    let job = job("added", 2, &[]);
    let topic = job.topic("sales");
    let refresh = "kafka.properties.topic.metadata.refresh.interval.ms=500";
    let mut run = job.spawn("run", &["--set", refresh, "run"], &[]);
    let writer = Writer::new(&topic, &[]);
    (0..100).for_each(|n| writer.send(n % 2, None, Some(&sale(n))));
    writer.flush();
    until("two partitions are read", || job.caught_up().then_some(()));
    topics::extend(&topic, 5);
    // A producer of its own: it has not cached the two partitions.
    let writer = Writer::new(&topic, &[]);
    (0..100).for_each(|n| writer.send(n % 5, None, Some(&sale(n))));
    writer.flush();
    run.until_logged(" 4:0");
    until("five partitions are read", || job.caught_up().then_some(()));
    run.signal(Signal::TERM);
    assert_eq!(run.wait().code(), Some(0), "{}", run.log());
    assert_eq!(rows(&job.verify(), "sales"), (200, 200));
}

#[test]
fn a_thousand_empty_partitions_are_drained_in_seconds() {
    let job = job("thousand", 1_000, &[]);
    let writer = Writer::new(&job.topic("sales"), &[]);
    let timed = |what: &str, done: &dyn Fn()| {
        let started = Instant::now();
        done();
        eprintln!("1,000 partitions, {what}: {:.1} s", started.elapsed().as_secs_f64());
    };
    timed("all empty, first run", &|| drop(job.ok(&ONCE)));
    for partition in [0, 499, 999] {
        writer.send(partition, None, Some(&sale(partition)));
    }
    writer.flush();
    timed("three records", &|| drop(job.ok(&ONCE)));
    timed("status", &|| assert_eq!(lag(&job.status()), Some(0)));
    timed("verify", &|| assert_eq!(rows(&job.verify(), "sales"), (3, 3)));
    topics::delete(&job.topic("sales"));
}
