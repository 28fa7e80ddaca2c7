//! A service goes away, falls silent, fills up or refuses us, and comes back. Each time under load: the part is
//! shown as held with the reason and since when, the other sink goes on, nobody hammers the patient, the job goes
//! on unaided when it is mended, and `verify` holds.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bson::doc;
use chrono::{DateTime, Utc};
use rustix::process::Signal;

use crate::support::mongod::{FailCommand, Mongod};
use crate::support::observed::Observed;
use crate::support::proxy::{self, Link};
use crate::support::{Job, Running, env, text, until};
use crate::topics;

/// Records of `sales` per second while something is broken: enough for two commits per second in each sink.
const RATE: u64 = 500;
/// How long a part stays broken at least; the backoff has then made a handful of tries.
const BROKEN: Duration = Duration::from_secs(3);

/// A job under a steady load of sales, with both streams flowing.
struct Trial<'a> {
    job: &'a Job,
    run: Observed,
    load: Running,
}

impl<'a> Trial<'a> {
    fn start(job: &'a Job, settings: &[&str], load: &[&str]) -> Self {
        job.produce("sales", 200, &[]);
        job.produce("clicks", 10, &[]);
        let run = Observed::start(job, settings);
        for sink in ["mongo", "lake"] {
            run.until_progress("sales", sink, 200);
            run.until_progress("clicks", sink, 10);
        }
        let load = job.load(RATE, load);
        Self { job, run, load }
    }

    /// Breaks a part, looks at the job while it is broken, mends it, and waits until all is well again.
    /// `going_on` is what must come forward meanwhile: a stream and a sink.
    fn outage(&self, part: &str, going_on: Option<(&str, &str)>, hit: impl FnOnce(), mend: impl FnOnce()) -> String {
        let (tries, busy, began) = (
            self.run.failed_tries("sales", part),
            self.run.processor_seconds(),
            Instant::now(),
        );
        let time = Utc::now();
        hit();
        let state = until(&format!("{part} is shown as held"), || {
            let state = self.run.part("sales", part);
            (state["state"] == "held").then_some(state)
        });
        assert!(began.elapsed() < NOTICED, "noticed after {:?}", began.elapsed());
        assert!(!self.run.ready());
        let since: DateTime<Utc> = state["since"].as_str().unwrap().parse().unwrap();
        // Shown in whole seconds.
        assert!(since >= time - Duration::from_secs(1) && since <= Utc::now(), "{state}");
        let labels = ["stream=\"sales\"", &format!("part=\"{part}\"")];
        assert_eq!(self.run.metric("affluent_held_parts", &labels), 1.0);
        let shown = self.run.metric("affluent_held_since_timestamp_seconds", &labels);
        assert!(
            (shown - since.timestamp() as f64).abs() <= 1.0,
            "{shown} is not {since}"
        );

        let held = Instant::now();
        if let Some((stream, sink)) = going_on {
            let there = self.run.progress(stream, sink);
            self.run.until_progress(stream, sink, there + RATE);
        }
        until("some tries have failed", || (held.elapsed() >= BROKEN).then_some(()));
        let tries = self.run.failed_tries("sales", part) - tries;
        let busy = self.run.processor_seconds() - busy;
        let lasted = began.elapsed().as_secs_f64();
        eprintln!(
            "{part}: {tries} tries, {busy:.2} s of processor time in {lasted:.1} s: {}",
            state["why"]
        );
        // Doubling from 50–100 ms: six or seven tries in the first three seconds, then one in several seconds.
        assert!(tries as f64 <= 8.0 + lasted, "{tries} tries in {lasted} s");
        assert!(busy < lasted / 2.0, "busy for {busy} s of {lasted} s");
        assert!(self.run.resident_mib() < 512, "{} MiB", self.run.resident_mib());

        mend();
        let mended = Instant::now();
        until("all parts work again", || self.run.ready().then_some(()));
        eprintln!("{part}: works again after {:.1} s", mended.elapsed().as_secs_f64());
        assert_eq!(self.run.metric("affluent_held_parts", &labels), 0.0);
        assert_eq!(self.run.metric("affluent_held_since_timestamp_seconds", &labels), 0.0);
        state["why"].as_str().unwrap().to_owned()
    }

    /// Everything that was produced lands, the job ends well, and both sinks are proven.
    fn finish(mut self) {
        self.load.signal(Signal::TERM);
        assert_eq!(self.load.wait().code(), Some(0), "{}", self.load.log());
        until("everything is in both sinks", || self.job.caught_up().then_some(()));
        let log = self.run.end();
        // One line when a part fails and one when it works again, however often it is tried.
        let lines = log.lines().filter(|line| line.contains("held, trying again")).count();
        assert!(lines < 20, "{lines} lines about held parts:\n{log}");
        self.job.verify();
    }
}

/// Within this a part that answers nothing is shown as held: librdkafka by itself waits a minute for an answer.
const NOTICED: Duration = Duration::from_secs(50);

#[test]
fn kafka_cut_off_or_silent_is_held_and_read_on_from_where_it_was() {
    let (proxy, _turn) = proxy::kafka();
    let job = Job::with_services("kafka-out", &proxy.address(), &env("AFFLUENT_TEST_MONGO"), "");
    let trial = Trial::start(&job, &["kafka.properties.reconnect.backoff.max.ms=500"], &[]);
    for link in [Link::Cut, Link::BlackHole] {
        trial.outage("kafka", None, || proxy.link(link), || proxy.link(Link::Open));
        let there = trial.run.progress("sales", "lake");
        trial.run.until_progress("sales", "lake", there + RATE);
    }
    trial.finish();
}

#[test]
fn mongodb_cut_off_or_silent_is_held_while_the_lake_goes_on() {
    let (proxy, uri) = proxy::mongo(&env("AFFLUENT_TEST_MONGO"));
    let job = Job::with_services("mongo-out", &env("AFFLUENT_TEST_KAFKA"), &uri, "");
    let trial = Trial::start(&job, &[], &[]);
    let lake = Some(("sales", "lake"));
    let (before, began) = (proxy.accepted(), Instant::now());
    trial.outage("mongo", lake, || proxy.link(Link::Cut), || proxy.link(Link::Open));
    let rate = (proxy.accepted() - before) as f64 / began.elapsed().as_secs_f64();
    assert!(rate < 20.0, "{rate} connections per second to a server that is away");
    trial.outage("mongo", lake, || proxy.link(Link::BlackHole), || proxy.link(Link::Open));
    // Connections that outlived the silence only to die of it.
    trial.outage(
        "mongo",
        lake,
        || proxy.link(Link::BlackHole),
        || {
            proxy.link(Link::Cut);
            proxy.link(Link::Open);
        },
    );
    trial.finish();
}

#[test]
fn a_slow_mongodb_slows_only_itself() {
    let (proxy, uri) = proxy::mongo(&env("AFFLUENT_TEST_MONGO"));
    let job = Job::with_services("mongo-slow", &env("AFFLUENT_TEST_KAFKA"), &uri, "");
    let trial = Trial::start(&job, &[], &[]);
    for (delay, rate) in [(Duration::from_millis(400), None), (Duration::ZERO, Some(10_000))] {
        proxy.delay_replies(delay);
        proxy.throttle_replies(rate);
        let there = trial.run.progress("sales", "lake");
        trial.run.until_progress("sales", "lake", there + 2 * RATE);
        let there = trial.run.progress("sales", "mongo");
        trial.run.until_progress("sales", "mongo", there + RATE);
    }
    proxy.delay_replies(Duration::ZERO);
    proxy.throttle_replies(None);
    trial.finish();
}

#[test]
fn mongodb_that_refuses_our_credentials_is_held_until_it_takes_them() {
    let uri = env("AFFLUENT_TEST_MONGO");
    let app = format!("refused-{}", std::process::id());
    let job = Job::with_services("auth", &env("AFFLUENT_TEST_KAFKA"), &format!("{uri}&appName={app}"), "");
    let trial = Trial::start(&job, &[], &[]);
    let failures = FailCommand::for_client(&uri, &app);
    let refuse = |code: i32| {
        let commands = ["insert", "update", "find", "aggregate", "commitTransaction"];
        failures.arm(
            "alwaysOn",
            doc! { "failCommands": commands.as_slice(), "errorCode": code },
        );
    };
    let (lake, mend) = (Some(("sales", "lake")), || drop(failures.disarm()));
    // Unauthorized, AuthenticationFailed.
    let why = trial.outage("mongo", lake, || refuse(13), mend);
    assert!(why.contains("13"), "{why}");
    let why = trial.outage("mongo", lake, || refuse(18), mend);
    assert!(why.contains("18"), "{why}");
    drop(failures);
    trial.finish();
}

#[test]
fn mongod_killed_or_stepping_down_under_load_is_held_and_loses_nothing() {
    let server = Mongod::start();
    let uri = format!(
        "{}&serverSelectionTimeoutMS=1000&heartbeatFrequencyMS=1000",
        server.uri()
    );
    let job = Job::with_services("mongod", &env("AFFLUENT_TEST_KAFKA"), &uri, "");
    let trial = Trial::start(&job, &[], &[]);
    let lake = Some(("sales", "lake"));
    trial.outage("mongo", lake, || server.kill(), || server.up());
    trial.outage("mongo", lake, || server.step_down(), || server.step_up());
    trial.finish();
}

#[test]
fn a_lake_whose_disk_is_full_or_read_only_is_held_while_mongodb_goes_on() {
    let job = Job::new("disk", "");
    let Some(disk) = SmallDisk::mount(&job.path("lake")) else {
        eprintln!("NOT TESTED: a full and a read-only disk, since this process may not mount a tmpfs");
        return;
    };
    let trial = Trial::start(&job, &[], &[]);
    let mongo = Some(("sales", "mongo"));
    let why = trial.outage("lake", mongo, || disk.fill(), || disk.clear());
    assert!(why.contains("No space left"), "{why}");
    let why = trial.outage("lake", mongo, || disk.remount("ro"), || disk.remount("rw"));
    assert!(why.contains("Read-only"), "{why}");
    trial.finish();
}

#[test]
fn a_dead_letter_topic_that_takes_nothing_holds_its_stream_and_no_other() {
    let job = Job::new("dlq", "");
    let letters = format!("{}.dlq", job.topic("sales"));
    let trial = Trial::start(&job, &[], &["--bad", "5"]);
    let topic = job.topic("clicks");
    let rate = RATE.to_string();
    let clicks = job.spawn(
        "clicks",
        &["produce", "clicks", "--topic", &topic, "--rate", &rate],
        &[],
    );
    until("the first letters are written", || {
        trial.run.part("sales", "dead_letters")["state"].eq("ok").then_some(())
    });
    let why = trial.outage(
        "dead_letters",
        Some(("clicks", "mongo")),
        || limit_messages(&letters, 100),
        || limit_messages(&letters, 1_000_000),
    );
    assert!(why.contains(&letters) && why.contains("max.message.bytes"), "{why}");
    drop(clicks);
    trial.finish();
}

#[test]
fn asked_to_end_in_an_outage_the_job_says_what_is_missing_and_loses_nothing() {
    let (proxy, uri) = proxy::mongo(&env("AFFLUENT_TEST_MONGO"));
    let job = Job::with_services("end", &env("AFFLUENT_TEST_KAFKA"), &uri, "");
    let mut trial = Trial::start(&job, &["limits.shutdown_timeout=2s"], &[]);
    proxy.link(Link::Cut);
    until("mongodb is held", || {
        (trial.run.part("sales", "mongo")["state"] == "held").then_some(())
    });
    trial.run.run.signal(Signal::TERM);
    assert_eq!(trial.run.run.wait().code(), Some(3), "{}", trial.run.run.log());
    trial.run.run.until_logged("it will be read again at the next start");
    trial.load.signal(Signal::TERM);
    trial.load.wait();
    proxy.link(Link::Open);
    job.run_once();
    job.verify();
}

/// A file system of a few megabytes; unmounted when it goes out of scope.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(directory: &Path) -> Option<Self> {
        std::fs::create_dir_all(directory).unwrap();
        let mounted = mount(&["-t", "tmpfs", "-o", "size=24m", "tmpfs"], directory);
        mounted.then(|| Self(directory.to_owned()))
    }

    fn remount(&self, mode: &str) {
        // A file being written at this moment keeps the disk busy.
        until("the disk is remounted", || {
            mount(&["-o", &format!("remount,{mode}")], &self.0).then_some(())
        });
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("filler")).unwrap();
        let mut size = 1 << 20;
        while size > 0 {
            if file.write_all(&vec![1; size]).is_err() {
                size /= 2;
            }
        }
    }

    fn clear(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: after a failed assertion the job may still hold it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(args: &[&str], directory: &Path) -> bool {
    let output = Command::new("mount").args(args).arg(directory).output();
    output.is_ok_and(|output| {
        eprint!("{}", text(&output));
        output.status.success()
    })
}

fn limit_messages(topic: &str, bytes: u32) {
    topics::set(topic, "max.message.bytes", &bytes.to_string());
}
