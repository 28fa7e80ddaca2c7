//! kill -9 before and after every durable step, and at random under load. After each plain restart `verify` holds.
#![cfg(feature = "failpoints")]

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::support::{Job, until};

/// Every failpoint that `run --once` reaches; those of other commands are killed at in their own tests.
pub const FAILPOINTS: &[&str] = &[
    "mongo.adopt.before",
    "mongo.adopt.after",
    "mongo.insert.before",
    "mongo.insert.after",
    "mongo.txn.before",
    "mongo.txn.commit.before",
    "mongo.txn.commit.after",
    "lake.create.before",
    "lake.create.after",
    "lake.adopt.before",
    "lake.adopt.after",
    "lake.upload.before",
    "lake.upload.sent",
    "lake.upload.after",
    "lake.commit.before",
    "lake.commit.after",
    "dead_letter.before",
    "dead_letter.after",
];

#[test]
fn every_failpoint_in_the_source_is_tested() {
    let mut found = Vec::new();
    for file in crate::support::files_below(std::path::Path::new("src"), ".rs") {
        let source = std::fs::read_to_string(&file).unwrap();
        for (_, rest) in source
            .match_indices("failpoint!(\"")
            .map(|(at, needle)| source.split_at(at + needle.len()))
        {
            found.push(rest.split('"').next().unwrap().to_owned());
        }
    }
    found.retain(|name| name != "name");
    found.sort();
    found.dedup();
    let mut listed: Vec<String> = FAILPOINTS
        .iter()
        .chain(crate::dead_letters::FAILPOINTS)
        .chain(crate::losses::FAILPOINTS)
        .chain(crate::rebuild::FAILPOINTS)
        .chain(crate::schema_change::FAILPOINTS)
        .chain(crate::upkeep::FAILPOINTS)
        .map(|name| (*name).to_owned())
        .collect();
    listed.sort();
    assert_eq!(found, listed);
}

#[test]
fn killed_at_any_durable_step_nothing_is_lost_and_nothing_is_twice() {
    for failpoint in FAILPOINTS {
        let job = Job::new("step", "");
        job.produce("sales", 3_000, &["--bad", "1"]);
        job.produce("clicks", 300, &[]);
        // The first time, and in the middle of the work where the step comes more often.
        for nth in [1, 2] {
            job.killed_at(failpoint, nth, &["run", "--once"]);
        }
        job.run_once();
        job.verify();
    }
}

#[test]
fn killed_at_random_under_load_nothing_is_lost_and_nothing_is_twice() {
    let seed: u64 = std::env::var("AFFLUENT_TEST_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(rand::random);
    eprintln!("AFFLUENT_TEST_SEED={seed} repeats this run's waits");
    let mut random = StdRng::seed_from_u64(seed);
    let job = Job::new("random", "");
    job.produce("sales", 100, &[]);
    job.produce("clicks", 100, &[]);
    let topic = job.topic("sales");
    let load = job.spawn(
        "produce",
        &["produce", "sales", "--topic", &topic, "--rate", "4000", "--bad", "1"],
        &[],
    );
    for round in 0..20 {
        let run = job.spawn("run", &["run"], &[]);
        // Between "not yet in the group" and "has committed several times".
        std::thread::sleep(Duration::from_millis(random.random_range(50..4_000)));
        run.kill();
        if round % 5 == 4 {
            job.run_once();
            job.verify();
        }
    }
    load.signal(rustix::process::Signal::TERM);
    let mut load = load;
    assert_eq!(load.wait().code(), Some(0), "{}", load.log());
    job.run_once();
    job.verify();
    until("the log's end is reached", || job.caught_up().then_some(()));
}
