//! The job with its lake on S3 and on HDFS: what a directory is tested for elsewhere, where the store makes a difference.
#![cfg(feature = "failpoints")]

use crate::crash::FAILPOINTS;
use crate::support::{Job, hdfs_root, s3_options, s3_root, text};

/// A job whose lake lies at `root`.
fn job_at(root: &str, options: &[(String, String)]) -> Job {
    let storage: String = options
        .iter()
        .map(|(name, value)| format!("{name} = \"{value}\"\n"))
        .collect();
    let job = Job::new("lakes", &format!("[lake.storage]\n{storage}"));
    let local = format!("root = \"{}\"", job.path("lake").display());
    job.configure("affluent.toml", |config| {
        config.replace(&local, &format!("root = \"{root}\""))
    });
    job
}

fn on_s3() -> Job {
    job_at(&s3_root("job"), &s3_options().into_iter().collect::<Vec<_>>())
}

fn on_hdfs() -> Job {
    job_at(&hdfs_root("job"), &[])
}

fn killed_at_any_step(start: impl Fn() -> Job) {
    // The durable steps that are the store's.
    for step in FAILPOINTS.iter().filter(|step| step.starts_with("lake.")) {
        let job = start();
        // Of one day: a file per region, not hundreds.
        let day = ["--since", "2026-03-01T00:00:00Z", "--until", "2026-03-02T00:00:00Z"];
        job.produce("sales", 2_000, &[&day[..], &["--bad", "1"]].concat());
        job.produce("clicks", 200, &day);
        for nth in [1, 2] {
            job.killed_at(step, nth, &["run", "--once"]);
        }
        job.run_once();
        job.verify();
        assert!(!job.path("lake").exists(), "the lake is not on this machine's disk");
    }
}

#[test]
fn on_s3_killed_at_any_durable_step_nothing_is_lost_and_nothing_is_twice() {
    killed_at_any_step(on_s3);
}

#[test]
fn on_hdfs_killed_at_any_durable_step_nothing_is_lost_and_nothing_is_twice() {
    killed_at_any_step(on_hdfs);
}

#[test]
fn status_and_check_know_a_lake_elsewhere() {
    for job in [on_s3(), on_hdfs()] {
        job.produce("sales", 500, &[]);
        job.produce("clicks", 50, &[]);
        job.ok(&["check", "--connect"]);
        assert!(!job.caught_up());
        job.run_once();
        assert!(job.caught_up(), "{}", job.status());
    }
}

#[test]
fn a_wrong_key_is_held_and_told() {
    let options: Vec<_> = s3_options()
        .into_iter()
        .map(|(name, value)| match name.as_str() {
            "aws_secret_access_key" => (name, "wrong".to_owned()),
            _ => (name, value),
        })
        .collect();
    let job = job_at(&s3_root("denied"), &options);
    job.produce("sales", 10, &[]);
    let output = job.output(&["--set", "limits.once_timeout=3s", "run", "--once"]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("SignatureDoesNotMatch") || said.contains("403"), "{said}");
    assert!(!said.contains("wrong\""), "{said}");
}
