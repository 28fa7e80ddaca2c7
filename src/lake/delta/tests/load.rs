//! Reading a log as other engines, clean-ups, crashes and people leave it.

use std::path::Path as FsPath;

use arrow::array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;

use super::faulty::Faulty;
use super::{P0, P1, adopted, files, log_file, next, open, proposal, topic, try_open};
use crate::config::LakeConfig;
use crate::error::{Invariant, SinkError};
use crate::event_time::EventTimes;
use crate::lake::delta::Table;
use crate::lake::delta::commit::Proposal;
use crate::lake::delta::log::LogTail;
use crate::lake::delta::names::AppIds;
use crate::lake::delta::spec::TableSpec;
use crate::lake::split::tests::schema;
use crate::lake::status::read_progress;
use crate::lake::store::Store;
use crate::offsets::{Partition, Progress};

fn stopped<T>(result: Result<T, SinkError>) -> Invariant {
    match result {
        Err(SinkError::Invariant(invariant)) => invariant,
        Err(other) => panic!("expected an invariant, got {other}"),
        Ok(_) => panic!("expected an invariant, got an answer"),
    }
}

#[tokio::test]
async fn a_torn_commit_file_stops_us_and_is_neither_skipped_nor_overwritten() {
    let whole = {
        let objects = Faulty::new();
        let mut table = adopted(&objects, 0).await;
        table.commit(&mut proposal(P0, 0, 5)).await.expect("commits");
        objects.text(&log_file(2)).await.expect("there")
    };
    let line = whole.find('\n').expect("lines") + 1;
    for torn in ["", "\0\0\0\0", &whole[..line], &whole[..whole.len() / 2]] {
        let objects = Faulty::new();
        let mut table = adopted(&objects, 0).await;
        objects.set(&log_file(2), torn).await;
        let stop = stopped(table.commit(&mut proposal(P0, 0, 5)).await);
        assert!(stop.what.contains("00000000000000000002.json"), "{stop}");
        assert!(
            stopped(try_open(&objects).await)
                .what
                .contains("00000000000000000002.json")
        );
        assert_eq!(objects.text(&log_file(2)).await.as_deref(), Some(torn));
        assert_eq!(objects.text(&log_file(3)).await, None);
    }
}

#[tokio::test]
async fn a_missing_version_stops_us() {
    let objects = Faulty::new();
    let mut table = adopted(&objects, 0).await;
    table.commit(&mut proposal(P0, 0, 5)).await.expect("commits");
    table.commit(&mut proposal(P0, 5, 6)).await.expect("commits");
    objects.remove(&log_file(2)).await;
    let stop = stopped(try_open(&objects).await);
    assert!(stop.what.contains("00000000000000000002.json is missing"), "{stop}");
}

#[tokio::test]
async fn a_table_taken_away_under_us_is_not_begun_again_in_the_middle() {
    let objects = Faulty::new();
    let mut table = adopted(&objects, 0).await;
    for version in 0..2 {
        objects.remove(&log_file(version)).await;
    }
    let stop = stopped(table.commit(&mut proposal(P0, 0, 5)).await);
    assert!(stop.what.contains("is now gone"), "{stop}");
    assert_eq!(objects.text(&log_file(2)).await, None);
}

#[tokio::test]
async fn a_hint_without_a_log_is_a_wreck_and_no_new_table() {
    let objects = Faulty::new();
    objects
        .set("_delta_log/_last_checkpoint", r#"{"version":10,"size":3}"#)
        .await;
    stopped(try_open(&objects).await);
    assert_eq!(objects.text(&log_file(0)).await, None);
}

#[tokio::test]
async fn rows_without_any_progress_of_ours_stop_us() {
    let objects = Faulty::new();
    let table = open(&objects).await;
    let add =
        json!({"add": {"path": "x", "partitionValues": {}, "size": 1, "modificationTime": 1, "dataChange": true}});
    objects.set(&log_file(1), &format!("{add}\n")).await;
    drop(table);
    let table = open(&objects).await;
    let stop = stopped(table.recorded(&topic()));
    assert!(stop.what.contains("no progress of ours"), "{stop}");
}

#[tokio::test]
async fn what_others_do_to_schema_and_protocol_is_seen_before_the_next_commit() {
    let changes = [
        json!({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7,
            "readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}}),
        json!({"metaData": {"id": "i", "format": {"provider": "parquet", "options": {}},
            "schemaString": "{\"type\":\"struct\",\"fields\":[]}", "partitionColumns": ["date", "region"],
            "configuration": {"affluent.job": "shop", "affluent.stream": "visits"}}}),
        json!({"metaData": {"id": "i", "format": {"provider": "parquet", "options": {}},
            "schemaString": "{\"type\":\"struct\",\"fields\":[]}", "partitionColumns": [], "configuration": {}}}),
    ];
    for (change, named) in changes.iter().zip(["deletionVectors", "no column at", "not ours"]) {
        let objects = Faulty::new();
        let mut table = adopted(&objects, 0).await;
        objects.set(&log_file(2), &format!("{change}\n")).await;
        let stop = stopped(table.commit(&mut proposal(P0, 0, 5)).await);
        assert!(stop.what.contains(named), "{stop}");
        assert!(files(&objects).await.is_empty());
    }
}

#[tokio::test]
async fn an_overwrite_by_others_stops_us_while_running_and_at_the_next_start() {
    let objects = Faulty::new();
    let mut table = adopted(&objects, 0).await;
    table.commit(&mut proposal(P0, 0, 5)).await.expect("commits");
    let info = json!({"commitInfo": {"operation": "WRITE", "operationParameters": {"mode": "Overwrite"}}});
    let remove = json!({"remove": {"path": "x", "dataChange": true}});
    objects.set(&log_file(3), &format!("{info}\n{remove}\n")).await;
    assert!(stopped(table.refresh().await).what.contains("version 3"));
    assert!(stopped(open(&objects).await.refresh().await).what.contains("WRITE"));
    let undo = json!({"commitInfo": {"operation": "RESTORE", "operationParameters": {"version": 2}}});
    objects.set(&log_file(4), &format!("{undo}\n")).await;
    assert_eq!(next(&open(&objects).await, P0), Some(5));
}

/// A table in a directory, so that the Delta library can write its checkpoints.
struct OnDisk {
    root: tempfile::TempDir,
}

impl OnDisk {
    async fn new(commits: i64) -> Self {
        let root = tempfile::tempdir().expect("directory");
        let disk = Self { root };
        let mut table = disk.open().await;
        let starts = Progress::from([(P0, 0), (P1, 0)]);
        table
            .commit(&mut Proposal::adoption(&topic(), &starts))
            .await
            .expect("adopts");
        for n in 0..commits {
            table.commit(&mut proposal(P0, n, n + 1)).await.expect("commits");
        }
        disk
    }

    async fn store(&self) -> Store {
        let root = self.root.path().to_str().expect("UTF-8");
        Store::open(root, &Default::default(), "visits").await.expect("opens")
    }

    async fn open(&self) -> Table {
        let spec = TableSpec::new("shop", "visits", "visits", &schema());
        Table::open_or_create(self.store().await, spec).await.expect("opens")
    }

    async fn tail(&self) -> Result<Option<LogTail>, SinkError> {
        LogTail::load(&self.store().await, &AppIds::new("shop", "visits")).await
    }

    fn log(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join("visits/_delta_log").join(name)
    }

    async fn checkpoint(&self) {
        let url = url::Url::from_directory_path(self.root.path().join("visits")).expect("absolute");
        let table = deltalake_core::open_table(url)
            .await
            .expect("the library reads our table");
        deltalake_core::checkpoints::create_checkpoint(&table, None)
            .await
            .expect("writes a checkpoint");
    }

    fn remove_commits(&self, versions: std::ops::Range<u64>) {
        for version in versions {
            std::fs::remove_file(self.log(&format!("{version:020}.json"))).expect("was there");
        }
    }

    fn write(&self, version: u64, line: &serde_json::Value) {
        std::fs::write(self.log(&format!("{version:020}.json")), format!("{line}\n")).expect("writes");
    }
}

#[tokio::test]
async fn a_checkpoint_says_the_same_as_the_commits_it_stands_for() {
    let disk = OnDisk::new(3).await;
    let from_commits = disk.tail().await.expect("loads").expect("a table");
    disk.checkpoint().await;
    disk.remove_commits(0..4);
    let from_checkpoint = disk.tail().await.expect("loads").expect("a table");
    assert_eq!(from_checkpoint, from_commits);
    assert_eq!(from_checkpoint.version, 4);
    let mut table = disk.open().await;
    table
        .commit(&mut proposal(P0, 3, 4))
        .await
        .expect("commits on top of a checkpoint");
    assert_eq!(next(&disk.open().await, P0), Some(4));
}

#[tokio::test]
async fn a_checkpoint_in_parts_is_read_whole_and_an_incomplete_one_is_not_used() {
    let disk = OnDisk::new(3).await;
    let from_commits = disk.tail().await.expect("loads").expect("a table");
    disk.checkpoint().await;
    let single = disk.log("00000000000000000004.checkpoint.parquet");
    let part = |n: u32| disk.log(&format!("00000000000000000004.checkpoint.{n:010}.0000000002.parquet"));
    split_parquet(&single, &part(1), &part(2));
    std::fs::remove_file(&single).expect("was there");
    let hidden = part(2).with_extension("away");
    std::fs::rename(part(2), &hidden).expect("renames");
    assert_eq!(disk.tail().await.expect("loads").expect("a table"), from_commits);
    std::fs::rename(&hidden, part(2)).expect("renames");
    disk.remove_commits(0..4);
    assert_eq!(disk.tail().await.expect("loads").expect("a table"), from_commits);
}

fn split_parquet(from: &FsPath, first: &FsPath, second: &FsPath) {
    let file = std::fs::File::open(from).expect("opens");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .expect("Parquet")
        .build()
        .expect("reads");
    let batches: Vec<RecordBatch> = reader.map(|b| b.expect("reads")).collect();
    let whole = arrow::compute::concat_batches(&batches[0].schema(), &batches).expect("same schema");
    let half = whole.num_rows() / 2;
    for (path, rows) in [
        (first, whole.slice(0, half)),
        (second, whole.slice(half, whole.num_rows() - half)),
    ] {
        let file = std::fs::File::create(path).expect("creates");
        let mut writer = ArrowWriter::try_new(file, rows.schema(), None).expect("starts");
        writer.write(&rows).expect("writes");
        writer.close().expect("closes");
    }
}

#[tokio::test]
async fn an_unreadable_checkpoint_is_passed_over_while_the_commits_are_there() {
    let disk = OnDisk::new(3).await;
    let from_commits = disk.tail().await.expect("loads").expect("a table");
    disk.checkpoint().await;
    std::fs::write(disk.log("00000000000000000004.checkpoint.parquet"), b"PAR1").expect("writes");
    assert_eq!(disk.tail().await.expect("loads").expect("a table"), from_commits);
    disk.remove_commits(0..2);
    stopped(disk.tail().await);
}

#[tokio::test]
async fn a_clean_up_of_old_commits_under_a_running_owner_is_no_loss() {
    let disk = OnDisk::new(3).await;
    let mut table = disk.open().await;
    disk.checkpoint().await;
    disk.remove_commits(0..5);
    table.commit(&mut proposal(P0, 3, 4)).await.expect("commits");
    assert_eq!((table.version(), next(&table, P0)), (5, Some(4)));
}

fn at(partition: Partition, highest: i64) -> EventTimes {
    [(partition, highest)].into_iter().collect()
}

#[tokio::test]
async fn our_latest_commit_tells_the_event_times_that_a_checkpoint_drops() {
    let disk = OnDisk::new(0).await;
    let mut table = disk.open().await;
    table
        .commit(&mut proposal(P0, 0, 1).reaching(at(P0, 50)))
        .await
        .expect("commits");
    table
        .commit(&mut proposal(P1, 0, 1).reaching(at(P1, 70)))
        .await
        .expect("commits");
    disk.write(4, &json!({"commitInfo": {"operation": "OPTIMIZE"}}));
    disk.checkpoint().await;
    disk.remove_commits(0..3);
    let table = disk.open().await;
    assert_eq!(table.version(), 4);
    let times = table.event_times(&topic());
    assert_eq!(
        (times.get(P0), times.get(P1)),
        (Some(50), Some(70)),
        "of all partitions, in one commit"
    );
}

#[tokio::test]
async fn without_that_commit_they_are_unknown_until_new_rows_come_but_a_running_owner_knows_them() {
    let disk = OnDisk::new(0).await;
    let mut running = disk.open().await;
    let mut ours = proposal(P0, 0, 1).reaching(at(P0, 50));
    running.commit(&mut ours).await.expect("commits");
    running
        .commit(&mut proposal(P1, 0, 1).reaching(at(P1, 70)))
        .await
        .expect("commits");
    disk.checkpoint().await;
    disk.remove_commits(0..4);
    running.refresh().await.expect("reads the checkpoint");
    let mut started = disk.open().await;
    assert!(started.event_times(&topic()).is_empty());
    started
        .commit(&mut proposal(P0, 1, 2).reaching(at(P0, 60)))
        .await
        .expect("commits");
    let times = started.event_times(&topic());
    assert_eq!((times.get(P0), times.get(P1)), (Some(60), None));
    running.refresh().await.expect("follows");
    let times = running.event_times(&topic());
    assert_eq!((times.get(P0), times.get(P1)), (Some(60), Some(70)));
}

#[tokio::test]
async fn a_torn_latest_commit_behind_a_checkpoint_costs_the_event_times_alone() {
    let disk = OnDisk::new(2).await;
    disk.checkpoint().await;
    std::fs::write(disk.log(&format!("{:020}.json", 3)), b"{").expect("writes");
    let table = disk.open().await;
    assert_eq!(next(&table, P0), Some(2));
    assert!(table.event_times(&topic()).is_empty());
}

#[tokio::test]
async fn a_restore_made_while_we_were_down_does_not_hide_behind_a_checkpoint() {
    let disk = OnDisk::new(2).await;
    let restore = json!({"commitInfo": {"operation": "RESTORE", "operationParameters": {"version": 2}}});
    disk.write(4, &restore);
    disk.checkpoint().await;
    let tail = disk.tail().await.expect("loads").expect("a table");
    assert_eq!(tail.damage.expect("seen").version, 4);
}

#[tokio::test]
async fn temporary_files_in_the_log_are_no_commits() {
    let disk = OnDisk::new(1).await;
    let name = format!(".{:020}.json.{}.tmp", 3, uuid::Uuid::new_v4().simple());
    std::fs::write(disk.log(&name), b"").expect("writes");
    assert_eq!(disk.open().await.version(), 2);
}

#[tokio::test]
async fn progress_can_be_read_from_outside_and_reading_creates_nothing() {
    let disk = OnDisk::new(2).await;
    let config = |root: &FsPath| LakeConfig {
        enabled: true,
        root: root.to_str().expect("UTF-8").into(),
        commit_interval: std::time::Duration::ZERO,
        idle_interval: std::time::Duration::ZERO,
        target_file_bytes: 0,
        max_open_bytes: 0,
        upkeep: Default::default(),
        storage: Default::default(),
    };
    let progress = read_progress(&config(disk.root.path()), "shop", "visits")
        .await
        .expect("reads");
    let progress = progress.expect("a table");
    assert_eq!(progress.version, 3);
    assert_eq!(progress.next[&(topic(), P0)], 2);
    assert_eq!(progress.starts[&(topic(), P1)], 0);
    let nowhere = disk.root.path().join("nowhere");
    let none = read_progress(&config(&nowhere), "shop", "visits").await.expect("reads");
    assert!(none.is_none() && !nowhere.exists());
}
