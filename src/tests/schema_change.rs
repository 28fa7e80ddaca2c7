//! The declared fields change between two runs: what is compatible goes on with everything before judged by the
//! declaration of its time, what is not stops before anything is touched.

use std::process::{Command, Output};

use futures::TryStreamExt;
use mongodb::Client;
use mongodb::bson::{Document, doc};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Job, env, text, until};
use crate::topics::{self, Writer};

/// Of taking a changed declaration over.
pub const FAILPOINTS: &[&str] = &[
    "lake.evolve.before",
    "lake.evolve.after",
    "mongo.evolve.before",
    "mongo.evolve.after",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sinks {
    Both,
    Mongo,
    Lake,
}

const EVERY: &[Sinks] = &[Sinks::Both, Sinks::Mongo, Sinks::Lake];

const FIELDS: &str = r#"event_time = "at"
fields = [
  { name = "at", type = "timestamp", required = true },
  { name = "site", type = "string", required = true },
  { name = "value", type = "decimal(18,3)", required = true },
  { name = "note", type = "string" },
  # more fields
]
partition_by = ["date", "site"]
[[streams.rollups]]
name = "readings_by_hour"
every = "1h"
by = ["site"]
measures = { total = "sum(value)", readings = "count()" }
"#;

const NOTE: &str = "  { name = \"note\", type = \"string\" },\n";
const COUNT: (&str, &str) = ("# more fields", "{ name = \"count\", type = \"long\" },");

fn job(test: &str, sinks: Sinks) -> Job {
    let job = Job::new(test, "");
    job.configure("affluent.toml", |config| {
        let (head, _) = config.split_once("[[streams]]").unwrap();
        let head = match sinks {
            Sinks::Both => head.to_owned(),
            Sinks::Mongo => head.replace("[lake]\n", "[lake]\nenabled = false\n"),
            Sinks::Lake => head.replace("[mongo]\n", "[mongo]\nenabled = false\n"),
        };
        let topic = job.topic("readings");
        format!("{head}[[streams]]\nname = \"readings\"\ntopic = \"{topic}\"\n{FIELDS}")
    });
    topics::create(&job.topic("readings"), 3, &[]);
    job
}

/// Readings that have always borne `count`, whoever declared it; every tenth of them no number.
fn write(job: &Job, numbers: std::ops::Range<u32>) {
    let writer = Writer::new(&job.topic("readings"), &[]);
    for n in numbers {
        let count = if n % 10 == 3 {
            "\"none\"".to_owned()
        } else {
            n.to_string()
        };
        let payload = format!(
            r#"{{"at":"2026-01-0{}T10:{:02}:00Z","site":"s{}","value":{n}.5,"note":"n{n}","count":{count}}}"#,
            1 + n % 3,
            n % 60,
            n % 2
        );
        writer.send((n % 3) as i32, None, Some(&payload));
    }
    writer.flush();
}

/// Writes the configuration anew, edited.
fn declare(job: &Job, (from, to): (&str, &str)) {
    edit(job, "affluent.toml", (from, to));
}

fn edit<'a>(job: &Job, name: &'a str, (from, to): (&str, &str)) -> &'a str {
    job.configure(name, |config| {
        assert!(config.contains(from), "{from} is not in the configuration");
        config.replace(from, to)
    })
}

fn refused(job: &Job, config: &str, says: &[&str]) -> Output {
    let output = job.output(&["--config", config, "run", "--once"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    for needle in says {
        assert!(
            text(&output).contains(needle),
            "{needle} is not said:\n{}",
            text(&output)
        );
    }
    output
}

/// Threads of the library that still run at the interpreter's end would abort it now and then.
const LEAVE: &str = "sys.stdout.flush()\nos._exit(0)";

/// `deltalake` on the table, as an engine that is none of ours sees it.
fn python(job: &Job, code: &str) -> String {
    let output = Command::new(env("AFFLUENT_TEST_PYTHON"))
        .args([
            "-c",
            &format!("import deltalake, os, sys\ntable = deltalake.DeltaTable(sys.argv[1])\n{code}\n{LEAVE}"),
        ])
        .arg(job.path("lake").join("readings"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Rows of the lake, and those with a value in the column.
fn in_lake(job: &Job, column: &str) -> (u64, u64) {
    let counted = python(
        job,
        &format!("rows = table.to_pyarrow_table()\nprint(len(rows), len(rows) - rows['{column}'].null_count)"),
    );
    let (all, some) = counted.split_once(' ').unwrap();
    (all.parse().unwrap(), some.parse().unwrap())
}

fn documents(job: &Job, collection: &str, filter: Document) -> Vec<Document> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(async {
        let client = Client::with_uri_str(env("AFFLUENT_TEST_MONGO")).await.unwrap();
        let found = client.database(&job.name).collection(collection).find(filter).await;
        found.unwrap().try_collect().await.unwrap()
    })
}

fn in_mongo(job: &Job, field: &str) -> (u64, u64) {
    let all = documents(job, "readings", doc! {});
    let some = all.iter().filter(|document| document.contains_key(field)).count();
    (all.len() as u64, some as u64)
}

/// Rows, and those with a value, in every sink there is.
fn stored(job: &Job, sinks: Sinks, field: &str, expected: (u64, u64)) {
    if sinks != Sinks::Mongo {
        assert_eq!(in_lake(job, field), expected, "{field} in the lake");
    }
    if sinks != Sinks::Lake {
        assert_eq!(in_mongo(job, field), expected, "{field} in mongodb");
    }
}

fn rejected(job: &Job) -> u64 {
    let report = job.verify();
    assert_eq!(report["streams"][0]["dead_letters"]["missing"], 0, "{report}");
    report["streams"][0]["records"]["rejected"].as_u64().unwrap()
}

#[test]
fn a_field_added_is_null_before_and_there_after() {
    for &sinks in EVERY {
        let job = job("added", sinks);
        write(&job, 0..100);
        job.run_once();
        declare(&job, COUNT);
        write(&job, 100..200);
        let said = text(&job.run_once());
        assert!(said.contains("added: count"), "{said}");
        // Before, a count that is no number was nobody's business.
        assert_eq!(rejected(&job), 10);
        stored(&job, sinks, "count", (190, 90));
        job.run_once();
        assert_eq!(rejected(&job), 10);
    }
}

#[test]
fn a_field_given_up_stays_in_the_table_and_is_null_from_then_on() {
    for &sinks in EVERY {
        let job = job("removed", sinks);
        write(&job, 0..100);
        job.run_once();
        declare(&job, (NOTE, ""));
        write(&job, 100..200);
        let said = text(&job.run_once());
        assert!(said.contains("given up: note"), "{said}");
        job.verify();
        stored(&job, sinks, "note", (200, 100));
        // It may come back, with its type.
        declare(&job, ("# more fields", "{ name = \"note\", type = \"long\" },"));
        refused(
            &job,
            "affluent.toml",
            &["note", "string, given up", "long", "another name"],
        );
        declare(
            &job,
            (
                "{ name = \"note\", type = \"long\" },",
                "{ name = \"note\", type = \"string\" }, # again",
            ),
        );
        write(&job, 200..300);
        // These very fields were declared before.
        refused(&job, "affluent.toml", &["had before", "--former-schema"]);
        job.ok(&["run", "--once", "--former-schema"]);
        job.verify();
        stored(&job, sinks, "note", (300, 200));
    }
}

#[test]
fn a_field_no_longer_required_takes_records_without_it() {
    for &sinks in EVERY {
        let job = job("relaxed", sinks);
        let without = |n: u32| {
            let writer = Writer::new(&job.topic("readings"), &[]);
            writer.send(
                0,
                None,
                Some(&format!(r#"{{"at":"2026-01-01T10:00:{n:02}Z","site":"s0"}}"#)),
            );
            writer.flush();
        };
        write(&job, 0..50);
        without(1);
        job.run_once();
        assert_eq!(rejected(&job), 1);
        let required = "type = \"decimal(18,3)\", required = true";
        declare(&job, (required, "type = \"decimal(18,3)\""));
        without(2);
        let said = text(&job.run_once());
        assert!(said.contains("no longer required: value"), "{said}");
        assert_eq!(rejected(&job), 1, "what was rejected then is a dead letter still");
        stored(&job, sinks, "value", (51, 50));
        refused(
            &job,
            edit(&job, "strict.toml", ("type = \"decimal(18,3)\"", required)),
            &["before"],
        );
    }
}

#[test]
fn several_changes_and_files_of_every_time_are_read_and_put_together() {
    let job = job("several", Sinks::Both);
    write(&job, 0..100);
    job.run_once();
    let changes = [
        COUNT,
        (NOTE, ""),
        (
            "\"count\", type = \"long\" },",
            "\"count\", type = \"long\" }, { name = \"where\", type = \"string\" },",
        ),
    ];
    for (change, n) in changes.into_iter().zip(1u32..) {
        declare(&job, change);
        write(&job, n * 100..n * 100 + 100);
        job.run_once();
        job.verify();
    }
    let (all, counted) = in_lake(&job, "count");
    let compacted = job.ok(&["lake", "compact", "--quiet", "0s", "--json"]).stdout;
    let compacted: Value = serde_json::from_slice(&compacted).unwrap();
    assert!(
        compacted["streams"]["readings"]["replaced"]["files"].as_u64().unwrap() > 0,
        "{compacted}"
    );
    assert_eq!(in_lake(&job, "count"), (all, counted));
    assert_eq!(in_lake(&job, "where"), (all, 0));
    job.verify();
    let former = python(&job, "print(table.metadata().configuration['affluent.schema.former'])");
    let former: Vec<Value> = serde_json::from_str(&former).unwrap();
    let until = |n: usize| {
        former[n]["until"]
            .as_object()
            .unwrap()
            .values()
            .map(|o| o.as_i64().unwrap())
            .sum::<i64>()
    };
    assert_eq!((0..former.len()).map(until).collect::<Vec<_>>(), [100, 200, 300]);
    for progress in documents(&job, "_affluent_progress", doc! {}) {
        assert_eq!(progress.get_array("former_schemas").unwrap().len(), 3, "{progress}");
    }
}

#[test]
fn a_rebuild_makes_the_documents_of_every_time_from_the_lake() {
    let job = job("rebuilt", Sinks::Both);
    write(&job, 0..100);
    job.run_once();
    declare(&job, COUNT);
    declare(&job, (NOTE, ""));
    let refused = job.output(&["rebuild", "mongo"]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(text(&refused).contains("run the job once"), "{}", text(&refused));
    write(&job, 100..200);
    job.run_once();
    job.verify();
    job.ok(&["rebuild", "mongo"]);
    // What was given up is not declared any more; what was not declared then is not there.
    assert_eq!((in_mongo(&job, "note"), in_mongo(&job, "count")), ((190, 0), (190, 90)));
    job.verify();
    write(&job, 200..300);
    job.run_once();
    job.verify();
}

#[test]
fn what_does_not_fit_is_refused_with_the_difference_and_check_shows_it() {
    for &sinks in EVERY {
        let job = job("refused", sinks);
        write(&job, 0..50);
        job.run_once();
        let cases: &[((&str, &str), &[&str])] = &[
            (
                (
                    "# more fields",
                    "{ name = \"extra\", type = \"string\", required = true },",
                ),
                &["extra  | -", "| string required", "declare extra without `required`"],
            ),
            (
                ("decimal(18,3)", "decimal(20,3)"),
                &[
                    "value  | decimal(18,3) required | decimal(20,3) required",
                    "typeWidening",
                    "another name",
                ],
            ),
            (
                ("\"note\", type = \"string\"", "\"note\", type = \"long\""),
                &["note   | string", "| long"],
            ),
            (
                ("partition_by = [\"date\", \"site\"]", "partition_by = [\"date\"]"),
                &["partition_by | date, site"],
            ),
            (
                ("partition_by", "timezone = \"Europe/Paris\"\npartition_by"),
                &["timezone | UTC", "Europe/Paris"],
            ),
        ];
        for (change, says) in cases {
            let config = edit(&job, "changed.toml", *change);
            refused(&job, config, says);
            let checked = job.output(&["--config", config, "check", "--connect"]);
            assert_eq!(checked.status.code(), Some(1), "{}", text(&checked));
            for needle in *says {
                assert!(
                    text(&checked).contains(needle),
                    "{needle} is not said:\n{}",
                    text(&checked)
                );
            }
        }
        let config = edit(&job, "changed.toml", COUNT);
        let checked = text(&job.ok(&["--config", config, "check", "--connect"]));
        assert!(
            checked.contains("the next run changes what is stored: added: count"),
            "{checked}"
        );
        assert!(text(&job.ok(&["check", "--connect"])).contains("as stored"));
        job.run_once();
        job.verify();
    }
}

#[test]
fn a_column_that_somebody_else_has_added_is_left_alone() {
    let job = job("foreign", Sinks::Both);
    write(&job, 0..50);
    job.run_once();
    python(
        &job,
        "from deltalake import Field\nfrom deltalake.schema import PrimitiveType\n\
         table.alter.add_columns([Field('count', PrimitiveType('integer')), Field('theirs', PrimitiveType('string'))])",
    );
    write(&job, 50..100);
    job.run_once();
    job.verify();
    assert_eq!(in_lake(&job, "theirs"), (100, 0));
    refused(
        &job,
        edit(&job, "count.toml", COUNT),
        &["column count is integer, expected long"],
    );
    refused(
        &job,
        edit(
            &job,
            "case.toml",
            ("# more fields", "{ name = \"Theirs\", type = \"string\" },"),
        ),
        &["its column theirs is Theirs in another case"],
    );
    declare(&job, ("# more fields", "{ name = \"extra\", type = \"string\" },"));
    write(&job, 100..150);
    job.run_once();
    job.verify();
    assert_eq!(
        python(&job, "print('theirs' in [f.name for f in table.schema().fields])"),
        "True"
    );
}

#[test]
fn an_instance_left_behind_is_refused_and_a_person_may_go_back() {
    for &sinks in EVERY {
        let job = job("behind", sinks);
        job.configure("old.toml", |config| config);
        write(&job, 0..50);
        job.run_once();
        declare(&job, COUNT);
        write(&job, 50..100);
        job.run_once();
        write(&job, 100..150);
        refused(&job, "old.toml", &["count", "that", "had before", "--former-schema"]);
        job.ok(&["--config", "old.toml", "run", "--once", "--former-schema"]);
        refused(&job, "affluent.toml", &["count", "--former-schema"]);
        job.configure("affluent.toml", |config| config.replace(COUNT.1, COUNT.0));
        job.verify();
        stored(&job, sinks, "count", (145, 45));
    }
}

#[test]
fn a_running_instance_with_the_former_declaration_stops_and_nothing_is_lost() {
    for &sinks in EVERY {
        let job = job("rolling", sinks);
        job.configure("old.toml", |config| config);
        write(&job, 0..300);
        let mut old = job.spawn("old", &["--config", "old.toml", "run"], &[]);
        until("the first records are in", || job.caught_up().then_some(()));
        declare(&job, COUNT);
        let mut new = job.spawn("new", &["run"], &[]);
        new.until_logged("the declared fields have changed");
        // What it is given now it cannot store any more.
        let mut n = 300;
        let status = until("the old instance ends", || {
            write(&job, n..n + 30);
            n += 30;
            old.try_wait()
        });
        assert_eq!(status.code(), Some(1), "{}", old.log());
        assert!(old.log().contains("another instance has"), "{}", old.log());
        until("the new instance has everything", || job.caught_up().then_some(()));
        new.signal(Signal::TERM);
        assert_eq!(new.wait().code(), Some(0), "{}", new.log());
        job.verify();
    }
}

/// Everything inserted, nothing committed: the next owner finds the documents of the former declaration under its ids.
#[cfg(feature = "failpoints")]
#[test]
fn documents_that_a_former_owner_left_beyond_progress_are_stored_anew() {
    for sinks in [Sinks::Both, Sinks::Mongo] {
        let job = job("left", sinks);
        write(&job, 0..30);
        job.run_once();
        write(&job, 30..130);
        job.killed_at("mongo.txn.before", 1, &["run", "--once"]);
        let left = documents(&job, "readings", doc! {}).len();
        assert!(left > 30, "nothing was left: {left}");
        declare(&job, COUNT);
        // The declaration is taken over, and the process dies before it has stored anything.
        job.killed_at("mongo.insert.before", 1, &["run", "--once"]);
        let report = job.verify();
        assert!(
            report["streams"][0]["mongo"]["unfinished"].as_u64() > Some(0),
            "{report}"
        );
        job.run_once();
        // To the lake some of the ten may have been good: it may have stored them before the change.
        let rejected = rejected(&job);
        assert!(rejected == 10 || (sinks == Sinks::Both && rejected < 10), "{rejected}");
        assert_eq!(in_mongo(&job, "count"), (120, 90));
    }
}

#[cfg(feature = "failpoints")]
#[test]
fn killed_while_a_change_is_taken_over_the_next_run_finishes_it() {
    for failpoint in FAILPOINTS {
        let job = job("killed", Sinks::Both);
        job.configure("old.toml", |config| config);
        write(&job, 0..100);
        // One sink is ahead of the other: their boundaries lie apart.
        job.killed_at("lake.commit.before", 1, &["run", "--once"]);
        declare(&job, COUNT);
        write(&job, 100..150);
        job.killed_at(failpoint, 1, &["run", "--once"]);
        job.verify();
        if *failpoint != "lake.evolve.before" {
            refused(&job, "old.toml", &["had before"]);
        }
        job.run_once();
        job.verify();
        job.run_once();
    }
}
