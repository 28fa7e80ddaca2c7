use std::fs;
use std::path::Path as FilePath;

use arrow::array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use parquet::arrow::ArrowWriter;
use serde_json::json;
use tempfile::TempDir;
use url::Url;

use super::*;
use crate::offsets::Epoch;
use crate::verify::oracle::{self, Verdict};
use crate::verify::plan::{PartitionPlan, Reach};
use crate::verify::testing::{record, stream};

/// A table made by hand, so that nothing is taken on trust from the writer that is to be verified.
struct Table {
    root: TempDir,
    stream: StreamConfig,
    commits: u64,
}

const TOPIC_ID: &str = "AbCdEfGhIjKlMnOpQrStUw";

impl Table {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        let mut stream = stream();
        stream.lake.root = root.path().to_str().unwrap().to_owned();
        let mut table = Self {
            root,
            stream,
            commits: 0,
        };
        let fields: Vec<_> = [
            ("at", "timestamp"),
            ("region", "string"),
            ("amount", "decimal(18,2)"),
            ("quantity", "long"),
            ("date", "date"),
            ("_id", "long"),
            ("_timestamp", "timestamp"),
        ]
        .iter()
        .map(|(name, ty)| json!({"name": name, "type": ty, "nullable": true, "metadata": {}}))
        .collect();
        let schema = json!({"type": "struct", "fields": fields}).to_string();
        table.commit(&[
            json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}),
            json!({"metaData": {"id": "0b1f8a0e-9a55-4ad1-b2cb-8d4d6d1f5a10", "format": {"provider": "parquet", "options": {}},
                "schemaString": schema, "partitionColumns": ["date", "region"],
                "configuration": {"affluent.job": "shop"}, "createdTime": 0}}),
        ]);
        table
    }

    fn directory(&self) -> std::path::PathBuf {
        self.root.path().join(&self.stream.name)
    }

    fn commit(&mut self, actions: &[serde_json::Value]) {
        let log = self.directory().join("_delta_log");
        fs::create_dir_all(&log).unwrap();
        let lines: Vec<_> = actions.iter().map(ToString::to_string).collect();
        fs::write(log.join(format!("{:020}.json", self.commits)), lines.join("\n")).unwrap();
        self.commits += 1;
    }

    fn txn(last: Offset) -> serde_json::Value {
        Self::transaction("0", last)
    }

    fn transaction(what: &str, version: i64) -> serde_json::Value {
        json!({"txn": {"appId": format!("affluent/shop/readings/{TOPIC_ID}/{what}"), "version": version}})
    }

    /// Writes a file of rows `(offset, amount)` and answers its `add`.
    fn file(&self, name: &str, region: &str, rows: &[(Offset, i128)]) -> serde_json::Value {
        let path = format!("date=2024-07-01/region={region}/{name}.parquet");
        write(&self.directory().join(&path), rows);
        let bytes = fs::metadata(self.directory().join(&path)).unwrap().len();
        let partition = if region == NULL { json!(null) } else { json!(region) };
        json!({"add": {"path": path, "partitionValues": {"date": "2024-07-01", "region": partition}, "size": bytes,
            "modificationTime": 0, "dataChange": true}})
    }

    async fn open(&self) -> LakeSide {
        LakeSide::open(&self.stream).await.unwrap().expect("there is a table")
    }

    /// All records of offsets 0..`high` are good; the lake has taken those below `next`.
    fn window(&self, next: Offset, high: Offset) -> (Plan, Comparison) {
        let lake = Some(Reach {
            start: 0,
            next,
            end: next,
        });
        let partition = PartitionPlan {
            low: 0,
            high,
            mongo: None,
            lake,
        };
        let plan = Plan {
            epoch: Epoch(0),
            partitions: BTreeMap::from([(Partition(0), partition)]),
        };
        let mut expected = super::super::compare::Expected::new(Epoch(0), &[(Partition(0), OffsetRange::new(0, high))]);
        for offset in 0..high {
            let payload = format!(r#"{{"at":"2024-06-30T22:30:00Z","region":"Corse","amount":{offset}}}"#);
            let verdict = oracle::decode(&self.stream, &record(offset, payload.as_bytes()), Epoch(0));
            assert!(matches!(verdict, Verdict::Row(_)));
            expected.enter(Partition(0), offset, &verdict.into(), &mut Vec::new());
        }
        let comparison = Comparison::new(Side::Lake, &plan, Arc::new(expected));
        (plan, comparison)
    }
}

const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

fn write(path: &FilePath, rows: &[(Offset, i128)]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let utc = |micros: i64| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(vec![micros; rows.len()]).with_timezone("UTC"))
    };
    let amounts: Vec<i128> = rows.iter().map(|(_, amount)| *amount).collect();
    let ids: Vec<i64> = rows.iter().map(|(offset, _)| *offset).collect();
    let batch = RecordBatch::try_from_iter([
        ("at", utc(1_719_786_600_000_000)),
        (
            "amount",
            Arc::new(Decimal128Array::from(amounts).with_precision_and_scale(18, 2).unwrap()) as ArrayRef,
        ),
        ("_id", Arc::new(Int64Array::from(ids)) as ArrayRef),
        ("_timestamp", utc(1_000_000)),
    ])
    .unwrap();
    let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[tokio::test]
async fn a_stream_without_a_table_has_no_side() {
    let root = TempDir::new().unwrap();
    let mut stream = stream();
    stream.lake.root = root.path().to_str().unwrap().to_owned();
    assert!(LakeSide::open(&stream).await.unwrap().is_none());
    stream.lake.root = Url::from_directory_path(root.path()).unwrap().to_string();
    assert!(LakeSide::open(&stream).await.unwrap().is_none());
}

#[tokio::test]
async fn active_files_progress_start_and_owner_come_from_the_log() {
    let mut table = Table::new();
    table.commit(&[
        Table::txn(-1),
        Table::transaction("0/start", -1),
        Table::transaction("1/start", 6),
    ]);
    let (first, second) = (
        table.file("a", "Corse", &[(0, 0), (1, 100)]),
        table.file("b", "Corse", &[(2, 200)]),
    );
    let remove = json!({"remove": {"path": first["add"]["path"], "deletionTimestamp": 0, "dataChange": false}});
    table.commit(&[first, Table::txn(1)]);
    let compacted = table.file("c", "Corse", &[(0, 0), (1, 100)]);
    table.commit(&[remove, compacted]);
    table.commit(&[second, Table::txn(2)]);

    let mut side = table.open().await;
    let topic_id = TopicId(TOPIC_ID.into());
    assert_eq!(side.log.configuration["affluent.job"], "shop");
    let reach = |start, next| Reach { start, next, end: next };
    let none = |_| None;
    let expected = BTreeMap::from([(Partition(0), reach(0, 3))]);
    assert_eq!(side.reach("shop", "readings", &topic_id, none), expected);
    assert!(side.reach("shop", "readings", &TopicId::unknown(), none).is_empty());
    assert!(side.reach("other", "readings", &topic_id, none).is_empty());

    let (plan, mut comparison) = table.window(3, 5);
    let survey = side.survey(&table.stream, &plan).await.unwrap();
    assert_eq!((survey.files, survey.foreign.count, survey.misplaced.count), (2, 0, 0));
    side.compare(&Schemas::configured(&Arc::new(table.stream.clone())), &mut comparison)
        .await
        .unwrap();
    let tally = comparison.finish();
    assert!(tally.holds(), "{tally:?}");
    assert_eq!(tally.rows, 3);
}

#[tokio::test]
async fn every_kind_of_fault_in_a_table_is_found() {
    let mut table = Table::new();
    // 1 is missing, 2 is there twice, 3 has another amount, 4 lies under another region, 9 is beyond progress.
    let files = [
        table.file("a", "Corse", &[(0, 0), (2, 200), (3, 301)]),
        table.file("b", "Corse", &[(2, 200), (9, 900)]),
        table.file("c", NULL, &[(4, 400)]),
    ];
    table.commit(&[files[0].clone(), files[1].clone(), files[2].clone(), Table::txn(4)]);
    let mut side = table.open().await;
    let (plan, mut comparison) = table.window(5, 10);
    let survey = side.survey(&table.stream, &plan).await.unwrap();
    assert_eq!(survey.foreign.examples[0].1, "beyond the sink's progress");
    assert_eq!(survey.foreign.count, 1);
    side.compare(&Schemas::configured(&Arc::new(table.stream.clone())), &mut comparison)
        .await
        .unwrap();
    let tally = comparison.finish();
    assert_eq!(tally.missing.examples, [RecordId(1)]);
    assert_eq!(tally.duplicate.examples, [RecordId(2)]);
    let unequal: Vec<_> = tally.unequal.examples.iter().map(|stored| stored.id().0).collect();
    assert_eq!(unequal, [3, 4]);
}

#[tokio::test]
async fn a_file_outside_its_directory_is_misplaced() {
    let mut table = Table::new();
    let mut add = table.file("a", "Bretagne", &[(0, 0)]);
    add["add"]["partitionValues"]["region"] = json!("Corse");
    table.commit(&[add, Table::txn(0)]);
    let mut side = table.open().await;
    let (plan, mut comparison) = table.window(1, 1);
    let survey = side.survey(&table.stream, &plan).await.unwrap();
    assert_eq!(survey.misplaced.count, 1);
    side.compare(&Schemas::configured(&Arc::new(table.stream.clone())), &mut comparison)
        .await
        .unwrap();
    assert!(comparison.finish().holds(), "the log's values count");
}

#[tokio::test]
async fn files_are_found_whatever_their_partition_value() {
    let mut table = Table::new();
    // On disk Hive's escaping, in the log that of a URI on top.
    let mut add = table.file("a", "Provence%2FAlpes – Côte d%27Azur %25", &[(0, 0)]);
    add["add"]["path"] =
        json!("date=2024-07-01/region=Provence%252FAlpes%20%E2%80%93%20C%C3%B4te%20d%2527Azur%20%2525/a.parquet");
    add["add"]["partitionValues"]["region"] = json!("Provence/Alpes – Côte d'Azur %");
    table.commit(&[add, Table::txn(0)]);
    let mut side = table.open().await;
    let (plan, mut comparison) = table.window(1, 1);
    let survey = side.survey(&table.stream, &plan).await.unwrap();
    assert_eq!((survey.files, survey.misplaced.count), (1, 0));
    side.compare(&Schemas::configured(&Arc::new(table.stream.clone())), &mut comparison)
        .await
        .unwrap();
    assert_eq!(comparison.finish().rows, 1);
}

#[tokio::test]
async fn a_table_whose_rows_have_no_progress_is_all_foreign() {
    let mut table = Table::new();
    let add = table.file("a", "Corse", &[(0, 0), (1, 100)]);
    table.commit(&[add]);
    let mut side = table.open().await;
    let partition = PartitionPlan {
        low: 0,
        high: 5,
        mongo: None,
        lake: None,
    };
    let plan = Plan {
        epoch: Epoch(0),
        partitions: BTreeMap::from([(Partition(0), partition)]),
    };
    assert_eq!(side.survey(&table.stream, &plan).await.unwrap().foreign.count, 2);
}

#[tokio::test]
async fn files_that_are_gone_or_corrupt_are_findings_and_their_rows_missing() {
    let mut table = Table::new();
    let files = [
        table.file("a", "Corse", &[(0, 0)]),
        table.file("b", "Corse", &[(1, 100)]),
        table.file("c", "Corse", &[(2, 200)]),
    ];
    table.commit(&[files[0].clone(), files[1].clone(), files[2].clone(), Table::txn(2)]);
    let path = |name: &str| {
        table
            .directory()
            .join(format!("date=2024-07-01/region=Corse/{name}.parquet"))
    };
    fs::remove_file(path("a")).unwrap();
    let bytes = fs::metadata(path("b")).unwrap().len();
    fs::write(path("b"), vec![0; bytes as usize]).unwrap();

    let mut side = table.open().await;
    let (plan, mut comparison) = table.window(3, 3);
    let survey = side.survey(&table.stream, &plan).await.unwrap();
    assert_eq!(survey.damaged.count, 2);
    let mut damaged = survey.damaged.examples;
    damaged.sort();
    assert_eq!(damaged[0], "date=2024-07-01/region=Corse/a.parquet is gone");
    assert!(
        damaged[1].starts_with("date=2024-07-01/region=Corse/b.parquet is damaged"),
        "{damaged:?}"
    );
    side.compare(&Schemas::configured(&Arc::new(table.stream.clone())), &mut comparison)
        .await
        .unwrap();
    assert_eq!(comparison.finish().missing.examples, [RecordId(0), RecordId(1)]);
}

#[tokio::test]
async fn a_torn_or_lost_commit_is_a_finding_that_names_it() {
    let mut table = Table::new();
    table.commit(&[Table::txn(0)]);
    table.commit(&[Table::txn(1)]);
    let finding = async || {
        let error = LakeSide::open(&table.stream).await.expect_err("the log is damaged");
        damage::finding(&error).expect("a finding").to_string()
    };
    let last = table.directory().join("_delta_log/00000000000000000002.json");
    fs::write(&last, "").unwrap();
    assert_eq!(
        finding().await,
        "the commit _delta_log/00000000000000000002.json is damaged: it is empty"
    );
    fs::write(&last, r#"{"txn":{"appId"#).unwrap();
    assert!(
        finding()
            .await
            .starts_with("the commit _delta_log/00000000000000000002.json is damaged: EOF")
    );
    fs::write(&last, Table::txn(1).to_string()).unwrap();
    fs::remove_file(table.directory().join("_delta_log/00000000000000000001.json")).unwrap();
    assert_eq!(
        finding().await,
        "the commit _delta_log/00000000000000000001.json is gone"
    );
}

#[tokio::test]
async fn a_table_that_went_on_over_a_recreated_topic_is_in_its_next_epoch() {
    let mut table = Table::new();
    let under = |topic: &str| json!({"txn": {"appId": format!("affluent/shop/readings/{topic}/0"), "version": 5}});
    table.commit(&[under("ZZZZZZZZZZZZZZZZZZZZZZ"), under(TopicId::UNKNOWN)]);
    let side = table.open().await;
    let current = TopicId(TOPIC_ID.into());
    assert_eq!(
        side.epoch("shop", "readings", &TopicId("ZZZZZZZZZZZZZZZZZZZZZZ".into())),
        Epoch(0)
    );
    assert_eq!(side.epoch("shop", "readings", &current), Epoch(1));
    // Nothing recorded under the current id: what began without ids goes on.
    assert_eq!(
        side.reach("shop", "readings", &current, |_| Some(2))[&Partition(0)].start,
        2
    );
}

#[tokio::test]
async fn transactions_survive_in_a_checkpoint() {
    let mut table = Table::new();
    let add = table.file("a", "Corse", &[(0, 0)]);
    table.commit(&[add, Table::txn(0), Table::transaction("0/start", -1)]);
    let url = Url::from_directory_path(table.directory()).unwrap();
    let library = deltalake_core::DeltaTableBuilder::from_url(url)
        .unwrap()
        .load()
        .await
        .unwrap();
    deltalake_core::checkpoints::create_checkpoint(&library, None)
        .await
        .unwrap();
    let log = table.directory().join("_delta_log");
    assert!(log.join("00000000000000000001.checkpoint.parquet").exists());
    for commit in 0..=1 {
        fs::remove_file(log.join(format!("{commit:020}.json"))).unwrap();
    }
    let side = table.open().await;
    let topic_id = TopicId(TOPIC_ID.into());
    let reach = side.reach("shop", "readings", &topic_id, |_| Some(7));
    assert_eq!((reach[&Partition(0)].start, reach[&Partition(0)].next), (0, 1));
    assert_eq!(side.log.configuration["affluent.job"], "shop");
}
