//! `affluent rebuild mongo`: MongoDB's side made anew from the lake, whatever happens on the way.

use bson::{Document, doc};
use futures::TryStreamExt;
use mongodb::IndexModel;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use crate::support::{Job, in_database, text, until};
use crate::topics;

/// Places at which a rebuild is killed.
#[cfg(feature = "failpoints")]
pub const FAILPOINTS: &[&str] = &[
    "mongo.rebuild.begin",
    "mongo.rebuild.accept",
    "mongo.rebuild.clear",
    "mongo.rebuild.cleared",
    "mongo.rebuild.inserted",
    "mongo.rebuild.stored",
    "mongo.rebuild.publish",
    "mongo.rebuild.published",
];

/// Small portions, so that a rebuild has many.
const REBUILD: &[&str] = &["--set", "mongo.max_flush_rows=700", "rebuild", "mongo"];

fn indexes(job: &Job, collection: &str) -> Vec<String> {
    in_database(job, |database| async move {
        let collection = database.collection::<Document>(collection);
        let mut names = collection.list_index_names().await.unwrap();
        names.sort();
        names
    })
}

/// All rollup documents, in the order of their ids.
fn rollup(job: &Job, name: &str) -> Vec<Document> {
    in_database(job, |database| async move {
        let rollup = database.collection::<Document>(name);
        let found = rollup.find(doc! {}).sort(doc! { "_id": 1 }).await.unwrap();
        found.try_collect().await.unwrap()
    })
}

fn sales(job: &Job) -> u64 {
    in_database(job, |database| async move {
        let sales = database.collection::<Document>("sales");
        sales.count_documents(doc! {}).await.unwrap()
    })
}

/// MongoDB's progress of the first partition: documents alone may be those of an unfinished batch.
fn next(job: &Job) -> i64 {
    in_database(job, |database| async move {
        let progress = database.collection::<Document>("_affluent_progress");
        let found = progress.find_one(doc! { "_id": "sales/0" }).await.unwrap();
        found.unwrap().get_i64("next").unwrap()
    })
}

/// Stored, with dead letters in between.
fn stored(test: &str, extra: &str) -> Job {
    let job = Job::new(test, extra);
    job.produce("sales", 4_000, &["--bad", "1"]);
    job.produce("clicks", 1_000, &[]);
    job.run_once();
    job
}

fn rebuilt(job: &Job, more: &[&str]) -> Value {
    let done = job.ok(&[REBUILD, &["--json"], more].concat());
    serde_json::from_slice(&done.stdout).unwrap()
}

#[test]
fn a_lost_database_comes_back_from_the_lake_and_the_streams_go_on() {
    let job = stored("lost", "");
    let before = rollup(&job, "sales_by_day");
    in_database(&job, |database| async move { database.drop().await.unwrap() });
    job.produce("sales", 500, &[]);
    let stopped = job.output(&["run", "--once"]);
    assert_eq!(stopped.status.code(), Some(1), "{}", text(&stopped));
    assert!(text(&stopped).contains("affluent rebuild mongo"), "{}", text(&stopped));

    let planned = rebuilt(&job, &["--dry-run"]);
    assert!(rollup(&job, "sales_by_day").is_empty(), "a dry run changes nothing");
    let done = rebuilt(&job, &[]);
    assert_eq!(done["streams"][0]["version"], planned["streams"][0]["version"]);
    assert_eq!(rollup(&job, "sales_by_day"), before);
    job.run_once();
    job.verify();
}

#[test]
fn changed_rollups_are_made_anew_and_what_people_added_to_the_collections_stays() {
    let job = stored("rollups", "");
    in_database(&job, |database| async move {
        for (collection, field) in [("sales", "customer_id"), ("sales_by_hour", "region")] {
            let index = IndexModel::builder().keys(doc! { field: 1 }).build();
            database
                .collection::<Document>(collection)
                .create_index(index)
                .await
                .unwrap();
        }
    });
    let by_channel = "[[streams.rollups]]\nname = \"clicks_by_device\"\nevery = \"1h\"\nby = [\"device\"]\n\
                      measures = { clicks = \"count()\" }\n";
    let changed = job.configure("changed.toml", |config| format!("{config}{by_channel}"));
    let with = |args: &[&'static str]| job.output(&[&["--config", changed], args].concat());
    let stopped = with(&["run", "--once"]);
    assert!(
        text(&stopped).contains("affluent rebuild mongo --stream clicks"),
        "{}",
        text(&stopped)
    );

    let done = with(&[REBUILD, &["--stream", "sales", "--stream", "clicks"]].concat());
    assert!(done.status.success(), "{}", text(&done));
    assert_eq!(indexes(&job, "sales"), ["_id_", "customer_id_1"]);
    assert_eq!(
        indexes(&job, "sales_by_hour"),
        [
            "_id_",
            "category_1_t_1",
            "product_1_t_1",
            "region_1",
            "region_1_t_1",
            "t_1"
        ]
    );
    assert!(!rollup(&job, "clicks_by_device").is_empty());
    let verified = with(&["verify"]);
    assert!(verified.status.success(), "{}", text(&verified));
}

#[test]
fn a_running_job_waits_for_the_rebuild_and_goes_on() {
    let job = stored("beside", "");
    let load = job.load(500, &[]);
    let run = job.spawn("run", &["run"], &[]);
    run.until_logged("reading");
    for _ in 0..3 {
        rebuilt(&job, &["--stream", "sales"]);
    }
    drop(load);
    until("the log's end is reached", || job.caught_up().then_some(()));
    drop(run);
    job.verify();
}

/// 300 more sales of partition 0, up to `end`, in MongoDB and not in the lake.
fn mongodb_ahead(job: &Job, end: i64) {
    job.produce("sales", 300, &[]);
    let late = ["--set", "lake.commit_interval=1h", "--set", "lake.idle_interval=1h"];
    let _run = job.spawn("ahead", &[late.as_slice(), &["run"]].concat(), &[]);
    until("mongodb has them", || (next(job) == end).then_some(()));
}

#[test]
fn what_mongodb_alone_holds_is_read_again_or_the_rebuild_refuses() {
    let job = Job::new("beyond", "");
    job.produce("sales", 1_000, &["--partitions", "1"]);
    job.produce("clicks", 10, &[]);
    job.run_once();
    mongodb_ahead(&job, 1_300);
    let done = rebuilt(&job, &["--stream", "sales"]);
    assert_eq!((done["streams"][0]["rows"].as_u64(), sales(&job)), (Some(1_000), 1_000));
    job.run_once();
    job.verify();

    mongodb_ahead(&job, 1_600);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&job.topic("sales"), 0, Offset::Offset(1_400))
        .unwrap();
    let (admin, options) = topics::admin();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(admin.delete_records(&list, &options)).unwrap();
    let refused = job.output(&[REBUILD, &["--stream", "sales"]].concat());
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(
        text(&refused).contains("[1300, 1400) of partition 0"),
        "{}",
        text(&refused)
    );
    assert_eq!(sales(&job), 1_600, "nothing was dropped");
    let state = in_database(&job, |database| async move {
        let progress = database.collection::<Document>("_affluent_progress");
        let found = progress.find_one(doc! { "_id": "sales/0" }).await.unwrap().unwrap();
        found.get_str("state").unwrap().to_owned()
    });
    assert_eq!(state, "ready", "nobody is kept from going on");
}

#[test]
fn somebody_elses_collection_is_not_dropped() {
    let job = stored("foreign", "");
    in_database(&job, |database| async move {
        database.drop().await.unwrap();
        database
            .collection("sales_by_hour")
            .insert_one(doc! { "mine": true })
            .await
            .unwrap();
    });
    let refused = job.output(&[REBUILD, &["--stream", "sales"]].concat());
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(
        text(&refused).contains("sales_by_hour") && text(&refused).contains("--force"),
        "{}",
        text(&refused)
    );
    assert_eq!(rollup(&job, "sales_by_hour").len(), 1);
    rebuilt(&job, &["--force"]);
    job.verify();
}

#[cfg(feature = "failpoints")]
#[test]
fn a_rebuild_that_is_killed_goes_on_where_it_was() {
    let job = stored("killed", "");
    let (before, rows) = (rollup(&job, "sales_by_hour"), sales(&job));
    for failpoint in FAILPOINTS {
        for nth in [1, 3] {
            job.killed_at(failpoint, nth, &[REBUILD, &["--stream", "sales"]].concat());
        }
        // A job that is started meanwhile waits, and says so.
        let said = text(&job.output(&["--set", "limits.once_timeout=2s", "run", "--once", "--stream", "sales"]));
        let done = rebuilt(&job, &["--stream", "sales"]);
        assert_eq!(done["streams"][0]["rows"], rows, "{failpoint}: {said}");
        assert_eq!(rollup(&job, "sales_by_hour"), before, "{failpoint}");
        job.verify();
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([from, to])
        .status()
        .unwrap();
    assert!(copied.success());
}

#[test]
fn an_older_copy_of_the_lake_is_filled_up_from_kafka_beside_a_mongodb_that_is_ahead() {
    let job = stored("copy", "");
    copy(&job.path("lake"), &job.path("backup"));
    job.produce("sales", 700, &[]);
    job.run_once();
    std::fs::remove_dir_all(job.path("lake")).unwrap();
    let stopped = job.output(&["run", "--once"]);
    assert_eq!(stopped.status.code(), Some(1), "{}", text(&stopped));
    assert!(text(&stopped).contains("lake has no progress"), "{}", text(&stopped));

    std::fs::remove_dir_all(job.path("lake")).unwrap();
    copy(&job.path("backup"), &job.path("lake"));
    job.produce("sales", 100, &[]);
    job.run_once();
    job.verify();
}

#[test]
fn without_a_copy_both_sides_begin_anew_from_what_kafka_has() {
    let job = stored("anew", "");
    let before = sales(&job);
    std::fs::remove_dir_all(job.path("lake")).unwrap();
    in_database(&job, |database| async move {
        for collection in database.list_collection_names().await.unwrap() {
            database.collection::<Document>(&collection).drop().await.unwrap();
        }
    });
    job.run_once();
    job.verify();
    assert_eq!(sales(&job), before);
}
