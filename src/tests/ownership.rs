//! Who owns a partition now: the group protocols, what a rebalance disturbs, static members, a sink that hangs.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Duration, Instant};

use bson::doc;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rustix::process::Signal;

use crate::support::{DEADLINE, Job, Running, env, text, until};
use crate::topics;

/// How a group shares its partitions out.
struct Protocol {
    properties: &'static [(&'static str, &'static str)],
    /// What the broker's tools call it; `None` where librdkafka cannot ask.
    strategy: Option<&'static str>,
    /// Does a rebalance leave kept partitions alone?
    cooperative: bool,
}

const TIMING: [(&str, &str); 2] = [("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "500")];

const RANGE: Protocol = Protocol {
    properties: &[TIMING[0], TIMING[1], ("partition.assignment.strategy", "range")],
    strategy: Some("range"),
    cooperative: false,
};
const ROUND_ROBIN: Protocol = Protocol {
    properties: &[TIMING[0], TIMING[1], ("partition.assignment.strategy", "roundrobin")],
    strategy: Some("roundrobin"),
    cooperative: false,
};
/// What affluent chooses by itself.
const STICKY: Protocol = Protocol {
    properties: &TIMING,
    strategy: Some("cooperative-sticky"),
    cooperative: true,
};
const KIP_848: Protocol = Protocol {
    properties: &[("group.protocol", "consumer")],
    strategy: None,
    cooperative: true,
};

const PARTITIONS: i32 = 6;

/// Event times of one hour: few rollup documents and few files, so that what is measured is ownership.
const HOUR: [&str; 4] = ["--since", "2026-01-01T08:00:00Z", "--until", "2026-01-01T09:00:00Z"];

/// A job whose group speaks this protocol, on topics with several partitions.
fn job(test: &str, protocol: &Protocol, session: Duration) -> Job {
    let job = Job::new(test, "");
    // On a busy machine a flush takes its time; only the test of the timeout itself wants it short.
    job.configure("affluent.toml", |config| {
        with_properties(&config, protocol.properties).replace("[limits]\n", "[limits]\nrevoke_timeout = \"60s\"\n")
    });
    topics::create(&job.topic("sales"), PARTITIONS, &[]);
    topics::create(&job.topic("clicks"), 2, &[]);
    if protocol.strategy.is_none() {
        group_timing(&job.name, session);
    }
    job
}

/// A job whose group forgets a member that has been silent for six seconds, as the classic jobs' do.
pub fn kip_848(test: &str) -> Job {
    job(test, &KIP_848, SESSION)
}

/// The configuration with these Kafka properties instead of its own.
fn with_properties(config: &str, properties: &[(&str, &str)]) -> String {
    let (before, rest) = config.split_once("[kafka.properties]\n").unwrap();
    let (_, after) = rest.split_once("[mongo]\n").unwrap();
    let properties: String = properties.iter().map(|(k, v)| format!("\"{k}\" = \"{v}\"\n")).collect();
    format!("{before}[kafka.properties]\n{properties}[mongo]\n{after}")
}

/// With KIP-848 sessions and heartbeats are the group's, not the client's.
fn group_timing(group: &str, session: Duration) {
    let timing = format!(
        "consumer.session.timeout.ms={},consumer.heartbeat.interval.ms=500",
        session.as_millis()
    );
    let kafka = env("AFFLUENT_TEST_KAFKA");
    let tool = Command::new("scripts/stack.sh")
        .args(["kafka-tool", "kafka.admin.ConfigCommand", "--bootstrap-server", &kafka])
        .args([
            "--entity-type",
            "groups",
            "--entity-name",
            group,
            "--alter",
            "--add-config",
            &timing,
        ])
        .output()
        .unwrap();
    assert!(tool.status.success(), "{}", text(&tool));
}

const SESSION: Duration = Duration::from_secs(6);

/// Lines of the log of stream sales that say this.
fn lines(run: &Running, event: &str) -> Vec<String> {
    let log = run.log();
    let ours = log
        .lines()
        .filter(|l| l.contains(event) && l.contains("stream=\"sales\""));
    ours.map(str::to_owned).collect()
}

/// The partitions of each "reading" line.
fn read(run: &Running) -> Vec<BTreeSet<i32>> {
    let from = |line: &String| {
        let list = line.split_once("from=").unwrap().1.to_owned();
        let partitions = list
            .split_whitespace()
            .map(|p| p.split_once(':').unwrap().0.parse().unwrap());
        partitions.collect()
    };
    lines(run, "reading").iter().map(from).collect()
}

/// The partitions of each "handed over" line, and whether what was read of them was committed first.
fn handed_over(run: &Running) -> Vec<(BTreeSet<i32>, bool)> {
    let one = |line: &String| {
        let list = line.split_once("partitions=[").unwrap().1.split_once(']').unwrap().0;
        let partitions = list.split(", ").filter(|p| !p.is_empty()).map(|p| p.parse().unwrap());
        (partitions.collect(), line.contains("flushed=true"))
    };
    lines(run, "handed over").iter().map(one).collect()
}

fn until_reading(run: &Running) {
    until(&format!("sales are read: {}", run.log()), || {
        read(run).iter().any(|p| !p.is_empty()).then_some(())
    });
}

fn end(mut run: Running) {
    run.signal(Signal::TERM);
    assert_eq!(run.wait().code(), Some(0), "{}", run.log());
}

fn spawn_load(job: &Job, rate: &str, count: &str) -> Running {
    let topic = job.topic("sales");
    let load = ["produce", "sales", "--topic", &topic, "--rate", rate, "--count", count];
    job.spawn("produce", &[&load[..], &HOUR].concat(), &[])
}

/// The group's assignment strategy, as the broker reports it once the group is settled.
fn strategy(group: &str) -> String {
    let client: BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", env("AFFLUENT_TEST_KAFKA"))
        .create()
        .unwrap();
    until("the group is settled", || {
        let groups = client.fetch_group_list(Some(group), DEADLINE).unwrap();
        let stable = groups.groups().iter().find(|g| g.state() == "Stable")?;
        Some(stable.protocol().to_owned())
    })
}

/// Three instances start and stop under load; kept partitions are told from those that had to move.
fn instances_come_and_go(test: &str, protocol: &Protocol) {
    let job = job(test, protocol, SESSION);
    let mut load = spawn_load(&job, "600", "8000");
    let first = job.spawn("first", &["run"], &[]);
    until_reading(&first);
    if let Some(strategy_wanted) = protocol.strategy {
        assert_eq!(strategy(&job.name), strategy_wanted);
    }
    let second = job.spawn("second", &["run"], &[]);
    until_reading(&second);
    let third = job.spawn("third", &["run"], &[]);
    until_reading(&third);
    judge_first(&first, protocol);
    end(second);
    let fourth = job.spawn("fourth", &["run"], &[]);
    until_reading(&fourth);
    end(first);
    end(third);
    assert_eq!(load.wait().code(), Some(0), "{}", load.log());
    until("everything is in both sinks", || job.caught_up().then_some(()));
    end(fourth);
    assert_eq!(topics::rows(&job.verify(), "sales"), (8_000, 8_000));
}

/// What the first instance was told when the others joined.
fn judge_first(first: &Running, protocol: &Protocol) {
    let handed_over = handed_over(first);
    assert!(!handed_over.is_empty(), "somebody joined:\n{}", first.log());
    assert!(
        handed_over.iter().all(|(_, flushed)| *flushed),
        "what was read was committed before it was given back:\n{}",
        first.log()
    );
    let gone: BTreeSet<i32> = handed_over
        .iter()
        .flat_map(|(partitions, _)| partitions.clone())
        .collect();
    let mut reads: BTreeMap<i32, usize> = BTreeMap::new();
    read(first)
        .into_iter()
        .flatten()
        .for_each(|p| *reads.entry(p).or_default() += 1);
    if protocol.cooperative {
        let kept: Vec<_> = reads.iter().filter(|(p, _)| !gone.contains(p)).collect();
        assert!(!kept.is_empty(), "some partitions were kept:\n{}", first.log());
        assert!(
            kept.iter().all(|(_, times)| **times == 1),
            "kept and yet read anew: {kept:?}\n{}",
            first.log()
        );
    } else {
        assert_eq!(
            gone.len(),
            PARTITIONS as usize,
            "eager: everything is given back\n{}",
            first.log()
        );
    }
    // Nothing was dropped, and commits go on.
    assert!(!first.log().contains("reading progress again"), "{}", first.log());
    let commits = lines(first, "committed").len();
    until("the first instance goes on committing", || {
        (lines(first, "committed").len() > commits).then_some(())
    });
}

#[test]
fn instances_come_and_go_with_eager_assignment() {
    instances_come_and_go("range", &RANGE);
}

#[test]
fn instances_come_and_go_with_cooperative_assignment_and_kept_partitions_are_left_alone() {
    instances_come_and_go("sticky", &STICKY);
}

#[test]
fn instances_come_and_go_with_kip_848_and_kept_partitions_are_left_alone() {
    instances_come_and_go("kip848", &KIP_848);
}

#[test]
fn once_beside_running_instances_ends_under_every_protocol() {
    for protocol in [&ROUND_ROBIN, &STICKY, &KIP_848] {
        let job = job("once-beside", protocol, SESSION);
        job.produce("sales", 2_000, &HOUR);
        job.produce("clicks", 100, &[]);
        let first = job.spawn("first", &["run"], &[]);
        until_reading(&first);
        // It gets a share of the six partitions, drains it and gives it back.
        job.run_once();
        until("everything is in both sinks", || job.caught_up().then_some(()));
        end(first);
        job.verify();
    }
}

/// Tells mongod's failpoint for commands. Its data names our application: others on the server are left alone.
fn fail_command(settings: &bson::Document) {
    let mut command = doc! { "configureFailPoint": "failCommand" };
    command.extend(settings.clone());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = mongodb::Client::with_uri_str(env("AFFLUENT_TEST_MONGO")).await.unwrap();
        client.database("admin").run_command(command).await.unwrap();
    });
}

#[test]
fn a_revoke_while_mongodb_hangs_is_given_up_after_the_revoke_timeout() {
    let name = format!("hang{}", uuid::Uuid::new_v4().simple());
    let slow = format!("{}&appName={name}", env("AFFLUENT_TEST_MONGO"));
    let job = job("hang", &STICKY, SESSION);
    job.configure("slow.toml", |config| config.replace(&env("AFFLUENT_TEST_MONGO"), &slow));
    job.produce("clicks", 10, &[]);
    let mut load = spawn_load(&job, "600", "8000");
    let patience = ["--config", "slow.toml", "--set", "limits.revoke_timeout=2s", "run"];
    let first = job.spawn("first", &patience, &[]);
    until("the first instance commits", || {
        (!lines(&first, "committed").is_empty()).then_some(())
    });

    let block = doc! { "failCommands": ["insert"], "blockConnection": true, "blockTimeMS": 12_000, "appName": &name };
    fail_command(&doc! { "mode": "alwaysOn", "data": block });
    let commits = || lines(&first, "sink=\"mongo\"").len();
    // What was on its way when the failpoint came may still arrive.
    let mut seen = (commits(), Instant::now());
    until("MongoDB hangs for the first instance", || {
        if commits() != seen.0 {
            seen = (commits(), Instant::now());
        }
        (seen.1.elapsed() > Duration::from_secs(1)).then_some(())
    });
    let asked = Instant::now();
    let second = job.spawn("second", &["run"], &[]);
    until_reading(&second);
    let taken = asked.elapsed();
    fail_command(&doc! { "mode": "off" });
    assert!(
        taken < Duration::from_secs(10),
        "the group waited {taken:?} for a hanging sink"
    );
    until("the first instance has given partitions back", || {
        (!handed_over(&first).is_empty()).then_some(())
    });
    assert!(!handed_over(&first)[0].1, "not flushed, so dropped:\n{}", first.log());
    assert_eq!(load.wait().code(), Some(0), "{}", load.log());
    until("everything is in both sinks", || job.caught_up().then_some(()));
    for run in [first, second] {
        assert!(!run.log().contains("maximum poll interval"), "{}", run.log());
        end(run);
    }
    assert_eq!(topics::rows(&job.verify(), "sales"), (8_000, 8_000));
}

/// Two static members; one goes and comes back within its session.
fn a_static_member_restarts(test: &str, protocol: &Protocol) {
    // Long enough for a restart on a busy machine.
    let job = job(test, protocol, Duration::from_secs(45));
    static_member(&job, "one", protocol);
    static_member(&job, "two", protocol);
    job.produce("sales", 3_000, &HOUR);
    job.produce("clicks", 100, &[]);
    let first = job.spawn("first", &["--config", "one.toml", "run"], &[]);
    until_reading(&first);
    let second = job.spawn("second", &["--config", "two.toml", "run"], &[]);
    until_reading(&second);
    until("everything is in both sinks", || job.caught_up().then_some(()));
    let mine = all_read(&second);
    let told = (read(&first).len(), handed_over(&first).len());
    end(second);
    job.produce("sales", 3_000, &HOUR);
    let again = job.spawn("again", &["--config", "two.toml", "run"], &[]);
    until_reading(&again);
    until("everything is in both sinks", || job.caught_up().then_some(()));
    assert_eq!(all_read(&again), mine, "the same partitions:\n{}", again.log());
    assert_eq!(
        (read(&first).len(), handed_over(&first).len()),
        told,
        "the other member was not disturbed:\n{}",
        first.log()
    );
    end(again);
    end(first);
    assert_eq!(topics::rows(&job.verify(), "sales"), (6_000, 6_000));
}

/// `NAME.toml`: this job as the static member NAME.
fn static_member(job: &Job, name: &str, protocol: &Protocol) {
    let session = [("session.timeout.ms", "45000"), ("heartbeat.interval.ms", "500")];
    let timing: &[(&str, &str)] = if protocol.strategy.is_some() {
        &session
    } else {
        protocol.properties
    };
    let properties = [timing, &[("group.instance.id", name)]].concat();
    job.configure(&format!("{name}.toml"), |config| with_properties(&config, &properties));
}

fn all_read(run: &Running) -> BTreeSet<i32> {
    read(run).into_iter().flatten().collect()
}

#[test]
fn a_static_member_that_restarts_in_time_disturbs_nobody() {
    a_static_member_restarts("static", &STICKY);
}

#[test]
fn a_static_member_that_restarts_in_time_disturbs_nobody_with_kip_848() {
    a_static_member_restarts("static848", &KIP_848);
}

#[test]
fn a_duplicate_static_member_ends_one_of_the_two_with_the_id_and_the_remedy() {
    for (test, protocol) in [("twin", &STICKY), ("twin848", &KIP_848)] {
        let job = job(test, protocol, Duration::from_secs(45));
        static_member(&job, "one", protocol);
        job.produce("sales", 1_000, &HOUR);
        job.produce("clicks", 100, &[]);
        let mut first = job.spawn("first", &["--config", "one.toml", "run"], &[]);
        until_reading(&first);
        let mut second = job.spawn("second", &["--config", "one.toml", "run"], &[]);
        // Classic: the newcomer takes over. KIP-848: it is refused.
        let (fenced, survivor) = match protocol.strategy {
            Some(_) => (&mut first, &mut second),
            None => (&mut second, &mut first),
        };
        assert_eq!(fenced.wait().code(), Some(1), "{}", fenced.log());
        for said in ["`one-sales`", "group.instance.id of its own", "stopped"] {
            assert!(fenced.log().contains(said), "{said}:\n{}", fenced.log());
        }
        job.produce("sales", 1_000, &HOUR);
        until("everything is in both sinks", || job.caught_up().then_some(()));
        survivor.signal(Signal::TERM);
        assert_eq!(survivor.wait().code(), Some(0), "{}", survivor.log());
        job.verify();
    }
}

#[test]
fn a_member_that_joins_and_leaves_all_the_time_neither_loses_nor_doubles() {
    let churn = Command::new("scripts/churn.sh")
        .args(["--minutes", "0.4", "--every", "3", "--rate", "300"])
        .env("AFFLUENT_BIN", env!("CARGO_BIN_EXE_affluent"))
        .output()
        .unwrap();
    let said = text(&churn);
    assert!(churn.status.success(), "{said}");
    eprintln!("{said}");
    assert!(said.contains("longest time without a commit"), "{said}");
}
