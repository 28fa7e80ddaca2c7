//! The lake's upkeep beside a running job: `affluent lake compact|checkpoint|vacuum|history`.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::support::{Job, env, text};

/// Places at which a compaction is killed.
#[cfg(feature = "failpoints")]
pub const FAILPOINTS: &[&str] = &["lake.compact.written", "lake.compact.commit", "lake.compact.committed"];

fn lake(job: &Job, args: &[&str]) -> Value {
    let output = job.ok(&[&["lake"], args, &["--stream", "sales", "--json"]].concat());
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    answer["streams"]["sales"].clone()
}

/// Sales in many small files: each `run --once` adds one per partition.
fn in_small_files(test: &str, times: u64) -> Job {
    let job = Job::new(test, "");
    job.produce("clicks", 10, &[]);
    for time in 0..times {
        let seed = time.to_string();
        let topic = job.topic("sales");
        job.ok(&[
            "produce",
            "sales",
            "--topic",
            &topic,
            "--count",
            "500",
            "--seed",
            &seed,
            "--since",
            "2026-03-01T00:00:00Z",
            "--until",
            "2026-03-02T00:00:00Z",
        ]);
        job.ok(&["run", "--once", "--stream", "sales"]);
    }
    job
}

/// Rows, distinct ids and revenue as delta-rs reads them, at a version or the newest.
fn contents(job: &Job, version: Option<u64>) -> String {
    // Arrow's threads may abort an interpreter that ends while they still run: it is left at once.
    let code = "import deltalake, os, pyarrow.compute as pc, sys\n\
        table = deltalake.DeltaTable(sys.argv[1], version=int(sys.argv[2]) if len(sys.argv) > 2 else None)\n\
        rows = table.to_pyarrow_table()\n\
        print(rows.num_rows, len(set(rows['_id'].to_pylist())), pc.sum(rows['amount']), len(table.file_uris()), flush=True)\n\
        os._exit(0)";
    let mut python = Command::new(env("AFFLUENT_TEST_PYTHON"));
    python.args(["-c", code]).arg(job.path("lake/sales"));
    python.args(version.map(|version| version.to_string()));
    let output = python.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// All but the number of files.
fn rows_of(contents: &str) -> &str {
    contents.rsplit_once(' ').unwrap().0
}

fn data_files(job: &Job) -> Vec<PathBuf> {
    crate::support::files_below(&job.path("lake/sales"), ".parquet")
        .into_iter()
        .filter(|file| !file.to_string_lossy().contains("_delta_log"))
        .collect()
}

#[test]
fn small_files_become_few_and_every_reader_sees_the_same_rows() {
    let job = in_small_files("compact", 4);
    let before = contents(&job, None);
    let version = lake(&job, &["history", "--limit", "1"])[0]["version"].as_u64().unwrap();
    let planned = lake(&job, &["compact", "--quiet", "0s", "--dry-run"]);
    assert_eq!(contents(&job, None), before, "a dry run changes nothing");

    let done = lake(&job, &["compact", "--quiet", "0s"]);
    assert_eq!(done["planned"], planned["planned"]);
    assert_eq!(done["replaced"], done["planned"]);
    assert_eq!(done["overtaken"], 0);
    let after = contents(&job, None);
    assert_eq!(rows_of(&after), rows_of(&before));
    let files = |contents: &str| contents.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap();
    assert_eq!(files(&before), done["before"]["files"].as_u64().unwrap());
    assert_eq!(
        files(&after),
        done["written"]["files"].as_u64().unwrap(),
        "one file per partition"
    );
    assert!(files(&after) * 3 < files(&before), "{before} became {after}");
    assert_eq!(
        contents(&job, Some(version)),
        before,
        "the version before can still be read"
    );
    assert_eq!(
        lake(&job, &["compact", "--quiet", "0s"])["planned"]["files"],
        0,
        "nothing is left to do"
    );

    let newest = &lake(&job, &["history", "--limit", "1"])[0];
    assert_eq!(
        (&newest["operation"], &newest["added"]),
        (&"OPTIMIZE".into(), &1.into())
    );
    job.produce("sales", 300, &[]);
    job.run_once();
    job.verify();
}

#[test]
fn a_checkpoint_says_the_same_and_a_vacuum_takes_only_what_no_version_needs() {
    let job = in_small_files("vacuum", 3);
    lake(&job, &["compact", "--quiet", "0s"]);
    let before = contents(&job, None);
    let version = lake(&job, &["checkpoint"])["version"].as_u64().unwrap();
    assert!(
        job.path(&format!("lake/sales/_delta_log/{version:020}.checkpoint.parquet"))
            .exists()
    );
    assert_eq!(contents(&job, None), before);

    std::fs::write(job.path("lake/sales/notes.txt"), "not ours").unwrap();
    let all = data_files(&job).len() as u64;
    let active: u64 = before.rsplit_once(' ').unwrap().1.parse().unwrap();
    assert_eq!(lake(&job, &["vacuum"])["files"], 0, "everything is young");
    let refused = job.output(&["lake", "vacuum", "--retention", "0s"]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
    assert!(text(&refused).contains("--force"), "{}", text(&refused));
    let looked = lake(&job, &["vacuum", "--retention", "0s", "--force", "--dry-run"]);
    assert_eq!(
        (looked["files"].as_u64().unwrap(), data_files(&job).len() as u64),
        (all - active, all)
    );

    let done = lake(&job, &["vacuum", "--retention", "0s", "--force"]);
    assert_eq!(
        (done["files"].as_u64().unwrap(), done["unknown"].as_u64().unwrap()),
        (all - active, 1)
    );
    assert_eq!(data_files(&job).len() as u64, active);
    assert!(job.path("lake/sales/notes.txt").exists());
    assert_eq!(contents(&job, None), before);
    job.produce("sales", 300, &[]);
    job.run_once();
    job.verify();
}

#[test]
fn a_job_goes_on_while_its_tables_are_compacted_and_vacuumed() {
    let job = Job::new("beside", "");
    job.produce("sales", 200, &[]);
    job.produce("clicks", 200, &[]);
    let load = job.load(1_000, &[]);
    let run = job.spawn("run", &["run"], &[]);
    let mut replaced = 0;
    for _ in 0..15 {
        std::thread::sleep(std::time::Duration::from_millis(700));
        let done = job.output(&["lake", "compact", "--quiet", "0s", "--stream", "sales", "--json"]);
        assert!(done.status.success(), "{}", text(&done));
        let answer: Value = serde_json::from_slice(&done.stdout).unwrap();
        replaced += answer["streams"]["sales"]["replaced"]["files"]
            .as_u64()
            .unwrap_or_default();
        job.ok(&["lake", "checkpoint", "--stream", "sales"]);
    }
    assert!(replaced > 50, "{replaced} files were put together");
    load.signal(rustix::process::Signal::TERM);
    let mut load = load;
    assert!(load.wait().success());
    crate::support::until("the log's end is reached", || job.caught_up().then_some(()));
    assert!(!run.log().contains("ownership"), "{}", run.log());
    drop(run);
    job.verify();
}

#[cfg(feature = "failpoints")]
#[test]
fn a_compaction_that_is_killed_changes_nothing_or_everything() {
    for failpoint in FAILPOINTS {
        let job = in_small_files("killed", 2);
        let before = contents(&job, None);
        job.killed_at(failpoint, 1, &["lake", "compact", "--quiet", "0s", "--stream", "sales"]);
        assert_eq!(rows_of(&contents(&job, None)), rows_of(&before), "{failpoint}");
        lake(&job, &["compact", "--quiet", "0s"]);
        assert_eq!(rows_of(&contents(&job, None)), rows_of(&before), "{failpoint}");
        lake(&job, &["vacuum", "--retention", "0s", "--force"]);
        let active: usize = contents(&job, None).rsplit_once(' ').unwrap().1.parse().unwrap();
        assert_eq!(
            data_files(&job).len(),
            active,
            "{failpoint}: what the kill left is gone"
        );
        job.produce("sales", 100, &[]);
        job.run_once();
        job.verify();
    }
}
