//! Upkeep against a table in memory, with rivals and lost replies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use chrono::Utc;
use futures::TryStreamExt as _;
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use serde_json::json;

use super::compact::{Outcome, compact};
use super::plan::{Bin, PlanSettings, plan};
use super::{checkpoint, history, vacuum};
use crate::lake::delta::Table;
use crate::lake::delta::actions::Add;
use crate::lake::delta::commit::{Move, Proposal};
use crate::lake::delta::files::{self, ActiveFile, FileState, object_path};
use crate::lake::delta::log::LogTail;
use crate::lake::delta::names::AppIds;
use crate::lake::delta::spec::TableSpec;
use crate::lake::delta::tests::faulty::{Fault, Faulty};
use crate::lake::layout::{log_path, partition_path};
use crate::lake::parquet::{PartitionWriter, properties};
use crate::lake::read::StoredObject;
use crate::lake::split::Splitter;
use crate::lake::split::tests::{batch, schema};
use crate::lake::store::Store;
use crate::offsets::{Offset, Partition, Progress, TopicId};

const P0: Partition = Partition(0);
const DAY: Duration = Duration::from_secs(24 * 3600);

struct Fixture {
    objects: Arc<Faulty>,
    table: Table,
    next: Offset,
}

impl Fixture {
    async fn new() -> Self {
        let objects = Faulty::new();
        let store = Store::from_objects(Arc::<Faulty>::clone(&objects), "memory");
        let spec = TableSpec::new("shop", "visits", "visits", &schema());
        let mut table = Table::open_or_create(store, spec).await.expect("creates");
        let starts = Progress::from([(P0, 0)]);
        table
            .commit(&mut Proposal::adoption(&topic(), &starts))
            .await
            .expect("adopts");
        Self {
            objects,
            table,
            next: 0,
        }
    }

    fn store(&self) -> &Store {
        self.table.store()
    }

    async fn log(&self) -> LogTail {
        let log = LogTail::load(self.store(), &AppIds::new("shop", "visits")).await;
        log.expect("loads").expect("is there")
    }

    /// One commit with a file of `rows` rows for each of these regions.
    async fn commit(&mut self, regions: &[&str], rows: i64) {
        let stream = schema();
        let mut splitter = Splitter::new(&stream);
        let mut adds = Vec::new();
        let first = self.next;
        for region in regions {
            let ids: Vec<_> = (self.next..self.next + rows).map(|id| (0, Some(*region), id)).collect();
            self.next += rows;
            let (partition, part) = splitter.split(&[batch(&stream, &ids)]).expect("splits").remove(0);
            let data = splitter.data_schema();
            let mut writer = PartitionWriter::new(data, &properties(data));
            writer.push(part).expect("pushes");
            let file = writer.close().expect("closes");
            let columns = ["date".to_owned(), "region".to_owned()];
            let values = splitter.values(partition);
            let path = format!(
                "{}/part-{}.parquet",
                partition_path(&columns, &values),
                uuid::Uuid::new_v4()
            );
            let size = file.size();
            self.store()
                .put_file(&Path::parse(&path).expect("valid"), file.payload)
                .await
                .expect("puts");
            adds.push(Add {
                path: log_path(&path),
                partition_values: Add::values(&columns, &values),
                size,
                // Later for later rows, however fast the test runs.
                modification_time: Utc::now().timestamp_millis() - 1_000_000 + first,
                data_change: true,
                stats: file.stats,
            });
        }
        let change = Move {
            expected: Some(first),
            target: self.next,
        };
        let moves = BTreeMap::from([(P0, change)]);
        let mut proposal = Proposal::data(&topic(), moves, adds, BTreeMap::new());
        self.table.commit(&mut proposal).await.expect("commits");
    }

    async fn active(&self) -> Vec<ActiveFile> {
        let version = self.log().await.version;
        let mut active = Vec::new();
        let reading = files::visit(self.store(), version, |state| {
            if let FileState::Active(file) = state {
                active.push(file);
            }
        });
        reading.await.expect("reads");
        active
    }

    async fn bins(&self) -> Vec<Bin> {
        let settings = PlanSettings {
            target: 128 << 20,
            quiet: Duration::ZERO,
            many: 2,
        };
        plan(self.active().await, Utc::now().timestamp_millis() + 1, &settings)
    }

    /// All ids of the active files, in the order they stand in each.
    async fn ids(&self) -> Vec<i64> {
        let mut ids = Vec::new();
        for file in self.active().await {
            let object = StoredObject {
                store: Arc::clone(self.store().objects()),
                path: object_path(&file.path).expect("valid"),
                bytes: file.size,
            };
            let reader = ParquetRecordBatchStreamBuilder::new(object)
                .await
                .expect("opens")
                .build()
                .expect("builds");
            let batches: Vec<_> = reader.try_collect().await.expect("reads");
            for batch in batches {
                let column = batch.column_by_name("_id").expect("_id").as_primitive::<Int64Type>();
                ids.extend(column.values());
            }
        }
        ids
    }

    async fn foreign(&self, version: u64, lines: &[serde_json::Value]) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        self.objects.set(&format!("_delta_log/{version:020}.json"), &text).await;
    }
}

fn topic() -> TopicId {
    TopicId("abcdefghijklmnopqrstuv".into())
}

fn sorted(mut ids: Vec<i64>) -> Vec<i64> {
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn files_of_a_partition_become_one_with_the_same_rows_in_their_order() {
    let mut fixture = Fixture::new().await;
    for _ in 0..5 {
        fixture.commit(&["a b/ü", "c"], 10).await;
    }
    let log = fixture.log().await;
    let bins = fixture.bins().await;
    assert_eq!(bins.iter().map(|bin| bin.files.len()).collect::<Vec<_>>(), [5, 5]);
    for bin in &bins {
        assert!(matches!(
            compact(fixture.store(), &log, bin).await,
            Ok(Outcome::Done { .. })
        ));
    }
    assert_eq!(fixture.active().await.len(), 2);
    let ids = fixture.ids().await;
    assert!(ids[..50].is_sorted() && ids[50..].is_sorted(), "{ids:?}");
    assert_eq!(sorted(ids), (0..100).collect::<Vec<_>>());
    let text = fixture
        .objects
        .text(&format!("_delta_log/{:020}.json", log.version + 1))
        .await
        .expect("is there");
    assert!(!text.contains("\"dataChange\":true"), "{text}");
    let newest = &history::newest(fixture.store(), log.version + 2, 1)
        .await
        .expect("reads")[0];
    assert_eq!(
        (newest.operation.as_str(), newest.added, newest.removed, newest.rows),
        ("OPTIMIZE", 1, 5, Some(50))
    );

    // Ingestion goes on behind it, and nothing is taken for damage.
    fixture.commit(&["c"], 10).await;
    fixture.table.refresh().await.expect("no damage");
    assert_eq!(fixture.ids().await.len(), 110);
}

#[tokio::test]
async fn ingestion_that_comes_first_only_moves_the_compaction_to_a_later_version() {
    let mut fixture = Fixture::new().await;
    for _ in 0..3 {
        fixture.commit(&["a"], 10).await;
    }
    let (log, bins) = (fixture.log().await, fixture.bins().await);
    fixture.commit(&["a"], 10).await;
    fixture.objects.next_writes([Fault::Rival(
        "{\"commitInfo\":{\"operation\":\"OPTIMIZE\"}}\n".to_owned(),
    )]);
    let outcome = compact(fixture.store(), &log, &bins[0]).await.expect("goes through");
    let Outcome::Done { version, .. } = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(version, log.version + 3);
    assert_eq!(sorted(fixture.ids().await), (0..40).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_lost_reply_is_read_back_and_a_write_not_done_is_told() {
    let mut fixture = Fixture::new().await;
    fixture.commit(&["a"], 10).await;
    fixture.commit(&["a"], 10).await;
    let (log, bins) = (fixture.log().await, fixture.bins().await);
    fixture.objects.next_writes([Fault::NotDone]);
    assert!(compact(fixture.store(), &log, &bins[0]).await.is_err());
    assert_eq!(fixture.active().await.len(), 2);
    fixture.objects.next_writes([Fault::ReplyLost]);
    assert!(matches!(
        compact(fixture.store(), &log, &bins[0]).await,
        Ok(Outcome::Done { .. })
    ));
    assert_eq!(fixture.active().await.len(), 1);
    assert_eq!(fixture.log().await.version, log.version + 1, "it is in once");
    assert_eq!(sorted(fixture.ids().await), (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn who_removed_a_file_or_changed_the_columns_is_right() {
    for change in ["remove", "metadata"] {
        let mut fixture = Fixture::new().await;
        fixture.commit(&["a"], 10).await;
        fixture.commit(&["a"], 10).await;
        let (log, bins) = (fixture.log().await, fixture.bins().await);
        let file = &bins[0].files[1];
        let line = match change {
            "remove" => json!({"remove": {"path": file.path, "dataChange": true, "deletionTimestamp": 1}}),
            _ => json!({"metaData": log.metadata}),
        };
        fixture
            .foreign(log.version + 1, &[json!({"commitInfo": {"operation": "DELETE"}}), line])
            .await;
        assert_eq!(
            compact(fixture.store(), &log, &bins[0]).await.expect("decides"),
            Outcome::Overtaken,
            "{change}"
        );
        assert_eq!(fixture.log().await.version, log.version + 1);
    }
}

#[tokio::test]
async fn a_checkpoint_leaves_the_same_files_and_the_log_behind_it_may_go() {
    let mut fixture = Fixture::new().await;
    for _ in 0..6 {
        fixture.commit(&["a", "b"], 5).await;
    }
    for bin in fixture.bins().await {
        compact(fixture.store(), &fixture.log().await, &bin)
            .await
            .expect("goes through");
    }
    fixture.commit(&["a"], 5).await;
    let names = |files: Vec<ActiveFile>| {
        files
            .into_iter()
            .map(|file| (file.path.clone(), file))
            .collect::<BTreeMap<_, _>>()
    };
    let before = names(fixture.active().await);
    let version = fixture.log().await.version;
    assert!(
        checkpoint::is_due(fixture.store(), version, version)
            .await
            .expect("looks")
    );
    checkpoint::write(fixture.store(), version).await.expect("writes");
    assert!(!checkpoint::is_due(fixture.store(), version, 1).await.expect("looks"));
    assert_eq!(names(fixture.active().await), before);

    let retention = 30 * DAY;
    let clean = async |now| {
        checkpoint::clean_at(fixture.store(), retention, now)
            .await
            .expect("cleans")
    };
    assert_eq!(clean(Utc::now()).await, 0, "everything is young");
    assert_eq!(
        clean(Utc::now() + 31 * DAY).await,
        version,
        "every commit before the checkpoint"
    );
    assert_eq!(names(fixture.active().await), before);
    assert_eq!(fixture.log().await.version, version);
    fixture.commit(&["a"], 5).await;
    assert_eq!(fixture.ids().await.len(), 70);
}

#[tokio::test]
async fn a_vacuum_deletes_what_was_removed_long_ago_and_what_nobody_ever_named() {
    let mut fixture = Fixture::new().await;
    for _ in 0..3 {
        fixture.commit(&["a"], 10).await;
    }
    let bins = fixture.bins().await;
    compact(fixture.store(), &fixture.log().await, &bins[0])
        .await
        .expect("goes through");
    let orphan = "date=1970-01-01/region=a/part-orphan.parquet";
    for name in [orphan, "readme.txt", "_delta_index/part-x.parquet"] {
        fixture.objects.set(name, "x").await;
    }
    let log = fixture.log().await;
    let vacuum = async |now, delete| {
        let done = vacuum::vacuum_at(fixture.store(), &log, 7 * DAY, now, delete, |_| {}).await;
        done.expect("vacuums")
    };
    let now = vacuum(Utc::now(), true).await;
    assert_eq!((now.files, now.young, now.unknown), (0, 1, 2));
    let later = Utc::now() + 8 * DAY;
    let looked = vacuum(later, false).await;
    assert_eq!((looked.files, looked.young), (4, 0));
    assert_eq!(vacuum(later, true).await.files, 4);
    assert_eq!(vacuum(later, true).await.files, 0);
    assert_eq!(sorted(fixture.ids().await), (0..30).collect::<Vec<_>>());
    let left: Vec<_> = fixture.store().objects().list(None).try_collect().await.expect("lists");
    let left: BTreeSet<_> = left.iter().map(|object| object.location.as_ref()).collect();
    assert!(left.contains("readme.txt") && left.contains("_delta_index/part-x.parquet") && !left.contains(orphan));
    assert!(fixture.store().objects().head(&Path::from(orphan)).await.is_err());
}
