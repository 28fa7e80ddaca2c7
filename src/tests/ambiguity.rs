//! Was it done or not? Replies are cut at every length, connections close, servers answer "unknown", all in the
//! middle of commits under load. Whatever the truth was, afterwards every record and every rollup counts once.
//!
//! The single outcomes are staged one by one beside the sink (`sink::mongo::tests`); here they meet a whole job.

use std::time::{Duration, Instant};

use bson::{Document, doc};
use rustix::process::Signal;

use crate::support::mongod::FailCommand;
use crate::support::observed::Observed;
use crate::support::proxy;
use crate::support::{Job, Running, env, until};

/// Lengths of a reply: nothing, a piece of the header, the header, a piece of the body, almost everything.
const REPLY_BYTES: [usize; 7] = [0, 1, 15, 16, 21, 60, 150];

/// A running job with sales coming in.
struct Trial<'a> {
    job: &'a Job,
    run: Observed,
    load: Running,
}

impl<'a> Trial<'a> {
    fn start(job: &'a Job, settings: &[&str], load: &[&str]) -> Self {
        job.produce("sales", 100, &[]);
        job.produce("clicks", 10, &[]);
        let run = Observed::start(job, settings);
        run.until_progress("sales", "mongo", 100);
        let load = job.load(1000, load);
        Self { job, run, load }
    }

    /// The job has made at least one whole commit more.
    fn goes_on(&self) {
        let there = self.run.progress("sales", "mongo");
        self.run.until_progress("sales", "mongo", there + 1);
    }

    fn finish(mut self) {
        self.load.signal(Signal::TERM);
        assert_eq!(self.load.wait().code(), Some(0), "{}", self.load.log());
        until("everything is in both sinks", || self.job.caught_up().then_some(()));
        self.run.end();
        self.job.verify();
    }
}

/// A command's name as it stands in a request to mongod: the first element of a BSON document.
fn command(kind: u8, name: &str) -> Vec<u8> {
    [&[kind], name.as_bytes(), &[0]].concat()
}

#[test]
fn replies_of_mongodb_cut_at_any_length_leave_every_record_counted_once() {
    const TEXT: u8 = 2;
    const INT32: u8 = 16;
    let (proxy, uri) = proxy::mongo(&env("AFFLUENT_TEST_MONGO"));
    let job = Job::with_services("cut", &env("AFFLUENT_TEST_KAFKA"), &uri, "");
    let trial = Trial::start(&job, &["mongo.flush_interval=50ms", "mongo.insert_batch_rows=20"], &[]);
    for (kind, name) in [
        (TEXT, "insert"),
        (TEXT, "update"),
        (TEXT, "aggregate"),
        (INT32, "commitTransaction"),
    ] {
        for bytes in REPLY_BYTES {
            let cut = proxy.replies_cut();
            proxy.cut_reply(&command(kind, name), bytes);
            until(&format!("a reply to {name} is cut after {bytes} bytes"), || {
                (proxy.replies_cut() > cut).then_some(())
            });
            trial.goes_on();
        }
    }
    trial.finish();
}

#[test]
fn mongodb_that_cannot_say_whether_it_was_done_leaves_every_record_counted_once() {
    let uri = env("AFFLUENT_TEST_MONGO");
    let app = format!("unsure-{}", std::process::id());
    let job = Job::with_services(
        "unsure",
        &env("AFFLUENT_TEST_KAFKA"),
        &format!("{uri}&appName={app}"),
        "",
    );
    let trial = Trial::start(&job, &["mongo.flush_interval=50ms"], &[]);
    let failures = FailCommand::for_client(&uri, &app);
    let labelled = |command: &str, code: i32, label: &str| doc! { "failCommands": [command], "errorCode": code, "errorLabels": [label] };
    let concern = |command: &str, code: i32| {
        let error = doc! { "code": code, "codeName": "staged", "errmsg": "staged" };
        doc! { "failCommands": [command], "writeConcernError": error }
    };
    let closed = |command: &str| doc! { "failCommands": [command], "closeConnection": true };
    let mut staged: Vec<(i64, Document)> = ["insert", "update", "aggregate", "commitTransaction"]
        .iter()
        .flat_map(|command| [(1, closed(command)), (4, closed(command))])
        .collect();
    // 64 WriteConcernFailed, 91 ShutdownInProgress, 112 WriteConflict, 251 NoSuchTransaction, 11602 interrupted.
    staged.extend([
        (1, concern("insert", 64)),
        (1, concern("insert", 91)),
        (1, concern("commitTransaction", 64)),
        (4, concern("commitTransaction", 64)),
        (1, concern("commitTransaction", 91)),
        (
            4,
            labelled("commitTransaction", 11602, "UnknownTransactionCommitResult"),
        ),
        (2, labelled("commitTransaction", 251, "TransientTransactionError")),
        (8, labelled("update", 112, "TransientTransactionError")),
        (2, labelled("aggregate", 251, "TransientTransactionError")),
    ]);
    for (times, data) in staged {
        failures.strike(times, data);
        trial.goes_on();
    }
    drop(failures);
    trial.finish();
}

#[test]
fn replies_of_kafka_cut_while_letters_are_written_leave_none_missing() {
    let (proxy, _turn) = proxy::kafka();
    let job = Job::with_services("letters", &proxy.address(), &env("AFFLUENT_TEST_MONGO"), "");
    let settings = [
        // So that a request with a letter in it can be told from the others.
        "kafka.properties.compression.type=none",
        "kafka.properties.reconnect.backoff.max.ms=200",
        // A producer's patience: after that its letters have failed and are written again.
        "kafka.properties.message.timeout.ms=2000",
    ];
    let trial = Trial::start(&job, &settings, &["--bad", "20"]);
    for bytes in [0, 1, 8, 30] {
        let cut = proxy.replies_cut();
        proxy.cut_reply(b"affluent.offset", bytes);
        until(&format!("a reply to letters is cut after {bytes} bytes"), || {
            (proxy.replies_cut() > cut).then_some(())
        });
        trial.goes_on();
    }
    // Away for so long that the producer gives its letters up.
    // A cut between two writes meets none: then again.
    until("letters have failed", || {
        proxy.link(proxy::Link::Cut);
        let cut = Instant::now();
        let failed = || trial.run.part("sales", "dead_letters")["state"] == "held";
        while !failed() && cut.elapsed() < Duration::from_secs(6) {
            std::thread::sleep(Duration::from_millis(100));
        }
        let met = failed();
        proxy.link(proxy::Link::Open);
        trial.goes_on();
        met.then_some(())
    });
    trial.finish();
}
