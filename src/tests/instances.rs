//! Several instances of one job: the group shares the partitions out, the sinks' fences keep them apart.

use rustix::process::Signal;

use crate::ownership;
use crate::support::{Job, until};

#[test]
fn instances_that_come_and_go_neither_lose_nor_double() {
    let job = Job::new("instances", "");
    job.produce("sales", 100, &[]);
    job.produce("clicks", 100, &[]);
    let topic = job.topic("sales");
    let mut load = job.spawn(
        "produce",
        &[
            "produce", "sales", "--topic", &topic, "--rate", "3000", "--count", "30000",
        ],
        &[],
    );
    let mut first = job.spawn("first", &["run"], &[]);
    first.until_logged("reading");
    for round in 0..3 {
        let mut second = job.spawn(&format!("second-{round}"), &["run"], &[]);
        second.until_logged("reading");
        second.signal(Signal::TERM);
        assert_eq!(second.wait().code(), Some(0), "{}", second.log());
    }
    assert_eq!(load.wait().code(), Some(0), "{}", load.log());
    until("everything is in both sinks", || job.caught_up().then_some(()));
    first.signal(Signal::TERM);
    assert_eq!(first.wait().code(), Some(0), "{}", first.log());
    job.verify();
}

#[test]
fn an_owner_that_slept_through_a_rebalance_is_refused_and_goes_on() {
    sleeps_through_a_rebalance(&Job::new("zombie", ""));
}

#[test]
fn an_owner_that_slept_through_a_rebalance_is_refused_and_goes_on_with_kip_848() {
    sleeps_through_a_rebalance(&ownership::kip_848("zombie848"));
}

fn sleeps_through_a_rebalance(job: &Job) {
    job.produce("sales", 1_000, &[]);
    job.produce("clicks", 10, &[]);
    let topic = job.topic("sales");
    let mut sleeper = job.spawn("sleeper", &["run"], &[]);
    until("the first records are in", || job.caught_up().then_some(()));
    let mut load = job.spawn(
        "produce",
        &[
            "produce", "sales", "--topic", &topic, "--rate", "2000", "--count", "30000",
        ],
        &[],
    );
    sleeper.signal(Signal::STOP);
    let mut other = job.spawn("other", &["run"], &[]);
    other.until_logged("reading");
    assert_eq!(load.wait().code(), Some(0), "{}", load.log());
    until("the other has taken over", || job.caught_up().then_some(()));
    sleeper.signal(Signal::CONT);
    job.produce("sales", 1_000, &[]);
    until("everything is in both sinks", || job.caught_up().then_some(()));
    for run in [&mut sleeper, &mut other] {
        run.signal(Signal::TERM);
        assert_eq!(run.wait().code(), Some(0), "{}", run.log());
    }
    job.verify();
}
