//! The log, or a sink, has moved away under the stream: it stops and says what is missing; `--accept-loss` goes on
//! and leaves a record in both sinks.

use std::future::Future;
use std::process::{Command, Output};

use bson::{Document, doc};
use futures::TryStreamExt;
use rdkafka::{Offset, TopicPartitionList};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Job, env, in_database, text, until};
use crate::topics;

const ONCE: &[&str] = &["run", "--once", "--stream", "sales"];
const ACCEPT: &[&str] = &["run", "--once", "--stream", "sales", "--accept-loss"];

/// Of recording a loss.
pub const FAILPOINTS: &[&str] = &[
    "lake.accept.before",
    "lake.accept.after",
    "mongo.accept.before",
    "mongo.accept.after",
];

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(future)
}

/// What retention does, at once: everything of the partition below `offset` is gone.
fn expire(topic: &str, partition: i32, offset: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset))
        .unwrap();
    let (admin, options) = topics::admin();
    wait(admin.delete_records(&list, &options)).unwrap();
}

/// Deletes the topic and fills a new one of the same name; creating it may have to wait for the deletion.
fn recreate(job: &Job, count: u64) {
    topics::delete(&job.topic("sales"));
    let (topic, count) = (job.topic("sales"), count.to_string());
    until("the topic can be created again", || {
        let args = [
            "produce",
            "sales",
            "--topic",
            &topic,
            "--partitions",
            "1",
            "--count",
            &count,
            "--seed",
            "8",
        ];
        job.output(&args).status.success().then_some(())
    });
}

fn produce(job: &Job, count: u64) {
    job.produce("sales", count, &["--partitions", "1"]);
}

fn sales_stored(job: &Job) -> u64 {
    in_database(job, |database| async move {
        let sales = database.collection::<Document>("sales");
        sales.count_documents(doc! {}).await.unwrap()
    })
}

/// `deltalake` on the stream's table.
fn python(job: &Job, code: &str) -> String {
    let output = Command::new(env("AFFLUENT_TEST_PYTHON"))
        .args([
            "-c",
            &format!("import deltalake, sys\ntable = deltalake.DeltaTable(sys.argv[1])\n{code}"),
        ])
        .arg(job.path("lake").join("sales"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The run stops, names all of `named`, and offers to go on without.
fn stops_and_names(job: &Job, named: &[&str]) -> Output {
    let output = job.output(ONCE);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    for name in named.iter().chain(&["--accept-loss"]) {
        assert!(text(&output).contains(name), "{name} is not named:\n{}", text(&output));
    }
    output
}

/// Both sinks have the same losses, and `status` shows them.
fn recorded(job: &Job) -> Vec<String> {
    let status = job.ok(&["status", "--json", "--stream", "sales"]).stdout;
    let status: Value = serde_json::from_slice(&status).unwrap();
    let sales = &status["streams"][0];
    let mut shown: Vec<&str> = sales["losses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l["id"].as_str().unwrap())
        .collect();
    let lake = python(
        job,
        "print(table.metadata().configuration.get('affluent.losses', '[]'))",
    );
    let lake: Vec<Value> = serde_json::from_str(&lake).unwrap();
    let mut in_lake: Vec<&str> = lake.iter().map(|loss| loss["id"].as_str().unwrap()).collect();
    let documents: Vec<Document> = in_database(job, |database| async move {
        let progress = database.collection::<Document>("_affluent_progress");
        let found = progress.find(doc! { "stream": "sales" }).await.unwrap();
        found.try_collect().await.unwrap()
    });
    let losses = documents[0].get_array("losses").cloned().unwrap_or_default();
    let mut in_mongo: Vec<&str> = losses
        .iter()
        .map(|l| l.as_document().unwrap().get_str("id").unwrap())
        .collect();
    for ids in [&mut shown, &mut in_lake, &mut in_mongo] {
        ids.sort_unstable();
    }
    assert_eq!((&shown, &in_mongo), (&in_lake, &in_lake));
    sales["losses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l["loss"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn records_taken_by_retention_stop_the_stream_and_are_passed_over_only_when_told() {
    let job = Job::new("retention", "");
    produce(&job, 1_000);
    job.ok(ONCE);
    produce(&job, 1_000);
    expire(&job.topic("sales"), 0, 1_500);
    stops_and_names(&job, &["[1000, 1500)", "partition 0"]);
    assert_eq!(
        sales_stored(&job),
        1_000,
        "nothing is read on before somebody has decided"
    );
    job.ok(ACCEPT);
    assert_eq!(sales_stored(&job), 1_500);
    job.verify_stream("sales");
    let losses = recorded(&job);
    assert_eq!(losses.len(), 1);
    assert!(
        losses[0].contains("lake: partition 0 [1000, 1500)") && losses[0].contains("mongo: partition 0 [1000, 1500)")
    );
    job.ok(ONCE);
}

#[test]
fn a_loss_that_comes_after_the_accepted_one_is_not_accepted_with_it() {
    let job = Job::new("spent", "");
    produce(&job, 100);
    job.ok(ACCEPT);
    assert!(recorded(&job).is_empty(), "nothing was lost");
    let mut run = job.spawn("run", &["run", "--stream", "sales", "--accept-loss"], &[]);
    run.until_logged("reading");
    run.signal(Signal::STOP);
    produce(&job, 1_000);
    expire(&job.topic("sales"), 0, 600);
    run.signal(Signal::CONT);
    assert_eq!(run.wait().code(), Some(1), "{}", run.log());
    assert!(run.log().contains("[100, 600)"), "{}", run.log());
    assert!(recorded(&job).is_empty());
}

#[cfg(feature = "failpoints")]
#[test]
fn a_recreated_topic_goes_on_in_the_next_epoch_wherever_the_record_was_cut_off() {
    for failpoint in FAILPOINTS {
        let job = Job::new("recreated", "");
        produce(&job, 1_000);
        job.ok(ONCE);
        recreate(&job, 1_500);
        stops_and_names(&job, &["re-created", "its id is"]);
        assert_eq!(sales_stored(&job), 1_000);

        job.killed_at(failpoint, 1, ACCEPT);
        // What is recorded in one sink is finished without asking again; before that nothing has been decided.
        let again = if *failpoint == "lake.accept.before" {
            ACCEPT
        } else {
            ONCE
        };
        job.ok(again);
        assert_eq!(sales_stored(&job), 2_500, "{failpoint}");
        job.verify_stream("sales");
        assert_eq!(recorded(&job).len(), 1, "{failpoint}");
        let second_epoch = python(
            &job,
            "ids = table.to_pyarrow_table(columns=['_id'])['_id'].to_pylist()\nprint(sum(i >> 58 == 1 for i in ids), len(ids))",
        );
        assert_eq!(second_epoch, "1500 2500", "{failpoint}");
    }
}

/// The client itself would read on in the new topic at the old offset.
#[test]
fn a_topic_recreated_under_a_running_job_with_a_longer_log_stops_it_before_a_record_is_taken() {
    let job = Job::new("replaced", "");
    produce(&job, 1_000);
    let mut run = job.spawn("run", &["run", "--stream", "sales"], &[]);
    until("the first topic is in", || (sales_stored(&job) == 1_000).then_some(()));
    recreate(&job, 3_000);
    assert_eq!(run.wait().code(), Some(1), "{}", run.log());
    assert!(run.log().contains("re-created"), "{}", run.log());
    assert_eq!(sales_stored(&job), 1_000);
    job.ok(ACCEPT);
    assert_eq!(sales_stored(&job), 4_000);
    job.verify_stream("sales");
}

#[test]
fn an_owner_of_the_former_topic_cannot_write_once_the_loss_is_recorded() {
    let job = Job::new("former", "");
    produce(&job, 500);
    job.ok(ONCE);
    // Its lake side holds the former topic's records in its buffers when it is stopped.
    let slow = ["--set", "lake.commit_interval=1h", "--set", "lake.idle_interval=1h"];
    let mut zombie = job.spawn("zombie", &[&slow[..], &["run", "--stream", "sales"]].concat(), &[]);
    zombie.until_logged("reading");
    produce(&job, 500);
    until("the records are in mongodb", || {
        (sales_stored(&job) == 1_000).then_some(())
    });
    zombie.signal(Signal::STOP);
    recreate(&job, 200);
    job.ok(ACCEPT);
    zombie.signal(Signal::CONT);
    produce(&job, 100);
    until("it reads the new topic", || (sales_stored(&job) == 1_300).then_some(()));
    zombie.signal(Signal::TERM);
    assert_eq!(zombie.wait().code(), Some(0), "{}", zombie.log());
    assert_eq!(
        python(&job, "print(table.to_pyarrow_dataset().count_rows())"),
        "800",
        "{}",
        zombie.log()
    );
    job.verify_stream("sales");
}

#[test]
fn a_table_restored_to_an_older_version_stops_the_stream_until_it_is_brought_back_or_given_up() {
    let job = Job::new("restored", "");
    produce(&job, 1_000);
    job.ok(ONCE);
    let before = python(&job, "print(table.version())");
    produce(&job, 1_000);
    job.ok(ONCE);
    let newest = python(&job, "print(table.version())");
    python(&job, &format!("table.restore({before})"));
    produce(&job, 100);
    stops_and_names(&job, &["RESTORE", "[1000, 2000)"]);

    python(&job, &format!("table.restore({newest})"));
    job.ok(ONCE);
    job.verify_stream("sales");

    python(&job, &format!("table.restore({before})"));
    stops_and_names(&job, &["RESTORE", "[1000, 2100)"]);
    job.ok(ACCEPT);
    produce(&job, 50);
    job.ok(ONCE);
    assert_eq!(recorded(&job).len(), 1);
    assert_eq!(python(&job, "print(table.to_pyarrow_dataset().count_rows())"), "1050");
    assert_eq!(sales_stored(&job), 2_150);
}

#[test]
fn mongodb_restored_from_a_backup_catches_up_from_kafka_and_stops_where_kafka_cannot_help() {
    let job = Job::new("backup", "");
    produce(&job, 1_000);
    job.ok(ONCE);
    let backup = dump(&job);
    produce(&job, 1_000);
    job.ok(ONCE);
    restore(&job, &backup);
    assert_eq!(sales_stored(&job), 1_000);
    job.ok(ONCE);
    assert_eq!(sales_stored(&job), 2_000);
    job.verify_stream("sales");

    restore(&job, &backup);
    expire(&job.topic("sales"), 0, 1_500);
    stops_and_names(&job, &["[1000, 1500)"]);
    job.ok(ACCEPT);
    assert_eq!(sales_stored(&job), 1_500);
    let losses = recorded(&job);
    assert!(
        losses[0].contains("mongo: partition 0 [1000, 1500)") && !losses[0].contains("lake:"),
        "{losses:?}"
    );
}

/// Believed only when it stays so for half a minute: after a leader change a replica may know less.
#[test]
fn progress_beyond_the_logs_end_stops_the_stream_and_cannot_be_passed_over() {
    let job = Job::new("beyond", "");
    produce(&job, 100);
    job.ok(&["--set", "lake.enabled=false", "run", "--once", "--stream", "sales"]);
    in_database(&job, |database| async move {
        let progress = database.collection::<Document>("_affluent_progress");
        let ahead = doc! { "$set": { "next": 5_000_i64 } };
        progress.update_one(doc! { "_id": "sales/0" }, ahead).await.unwrap();
    });
    let output = job.output(&[
        "--set",
        "lake.enabled=false",
        "run",
        "--once",
        "--stream",
        "sales",
        "--accept-loss",
    ]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(
        text(&output).contains("5000, beyond the log's end 100"),
        "{}",
        text(&output)
    );
}

type Collections = Vec<(String, Vec<Document>)>;

fn dump(job: &Job) -> Collections {
    in_database(job, |database| async move {
        let mut all = Vec::new();
        for name in database.list_collection_names().await.unwrap() {
            let found = database.collection::<Document>(&name).find(doc! {}).await.unwrap();
            all.push((name, found.try_collect().await.unwrap()));
        }
        all
    })
}

fn restore(job: &Job, backup: &Collections) {
    in_database(job, |database| async move {
        database.drop().await.unwrap();
        for (name, documents) in backup {
            if !documents.is_empty() {
                database
                    .collection::<Document>(name)
                    .insert_many(documents)
                    .await
                    .unwrap();
            }
        }
    });
}
