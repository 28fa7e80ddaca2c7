//! A stream, its rows, and a database of its own for each test.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::array::{ArrayRef, Decimal128Array, Int64Array, StringArray, TimestampMicrosecondArray};
use bson::{Document, doc};
use futures::TryStreamExt;
use mongodb::{Client, Collection, Database};
use tokio::sync::{Mutex, MutexGuard};

use crate::batch::{Batch, Session};
use crate::config::{Every, LakeConfig, Measure, MongoConfig, RollupConfig, StreamConfig, Tombstones};
use crate::error::SinkError;
use crate::offsets::{Epoch, Offset, OffsetRange, Partition, Progress, RecordId, TopicId};
use crate::schema::{Field, FieldType, PartitionColumn, StreamSchema};
use crate::sink::mongo::MongoSink;
use crate::sink::{CommitSummary, Reason, Sink};

const SERVER: &str = "AFFLUENT_TEST_MONGO";

pub(super) const STREAM: &str = "sales";
pub(super) const ROLLUP: &str = "sales_by_minute";

/// 2026-01-01T00:00:00Z
pub(super) const NEW_YEAR: i64 = 1_767_225_600_000_000;

pub(super) struct Fixture {
    pub database: Database,
    pub stream: StreamConfig,
    /// Also the client's name, so that a failpoint meets this test's connections only.
    pub name: String,
    /// Held from the first injected failure to the test's end.
    failing: Mutex<Option<MutexGuard<'static, ()>>>,
}

/// A server has one `failCommand`: whoever configures it takes it from whoever had it.
static FAIL_COMMAND: Mutex<()> = Mutex::const_new(());

impl Fixture {
    pub async fn new(test: &str) -> Self {
        let uri = std::env::var(SERVER).unwrap_or_else(|_| {
            panic!("set {SERVER} to the URI of a replica set with test commands, e.g. mongodb://127.0.0.1:27999/?replicaSet=rs0")
        });
        let name = format!("affluent_{test}_{}", std::process::id());
        let separator = if uri.contains('?') { '&' } else { '?' };
        let stream = stream(&format!("{uri}{separator}appName={name}"), &name);
        let database = Client::with_uri_str(&uri)
            .await
            .expect("a readable URI")
            .database(&name);
        database.drop().await.expect("the server answers");
        Self {
            database,
            stream,
            name,
            failing: Mutex::const_new(None),
        }
    }

    pub async fn end(self) {
        self.database.drop().await.expect("the server answers");
    }

    pub async fn sink(&self) -> MongoSink {
        MongoSink::connect("shop", &self.stream).await.expect("a replica set")
    }

    /// A sink that owns `partitions` from where they are recorded, at 0 where nothing is.
    pub async fn owner(&self, partitions: &[i32]) -> MongoSink {
        let mut sink = self.sink().await;
        take_over(&mut sink, partitions).await;
        sink
    }

    pub fn documents(&self) -> Collection<Document> {
        self.database.collection(STREAM)
    }

    pub async fn count(&self) -> u64 {
        self.documents()
            .count_documents(doc! {})
            .await
            .expect("the server answers")
    }

    pub async fn next(&self, partition: i32) -> Offset {
        let progress = self.database.collection::<Document>("_affluent_progress");
        let found = progress.find_one(doc! { "_id": format!("{STREAM}/{partition}") }).await;
        found
            .expect("the server answers")
            .expect("recorded")
            .get_i64("next")
            .expect("a long")
    }

    /// What the rollup says in total: rows and revenue in cents.
    pub async fn totals(&self) -> (i64, String) {
        let rollup = self.database.collection::<Document>(ROLLUP);
        let group = doc! { "$group": { "_id": null, "n": { "$sum": "$sales" }, "revenue": { "$sum": "$revenue" } } };
        let cursor = rollup.aggregate([group]).await.expect("the server answers");
        let groups: Vec<Document> = cursor.try_collect().await.expect("the server answers");
        groups.first().map_or((0, "0".into()), |group| {
            (
                group.get_i64("n").expect("a long"),
                group.get("revenue").expect("there").to_string(),
            )
        })
    }

    pub async fn fail_command(&self, mode: Document, mut data: Document) {
        let mut failing = self.failing.lock().await;
        if failing.is_none() {
            *failing = Some(FAIL_COMMAND.lock().await);
        }
        data.insert("appName", &self.name);
        let command = doc! { "configureFailPoint": "failCommand", "mode": mode, "data": data };
        let admin = self.database.client().database("admin");
        admin
            .run_command(command)
            .await
            .expect("a server with enableTestCommands=1");
    }

    pub async fn fail_nothing(&self) {
        let admin = self.database.client().database("admin");
        let command = doc! { "configureFailPoint": "failCommand", "mode": "off" };
        admin
            .run_command(command)
            .await
            .expect("a server with enableTestCommands=1");
    }
}

pub(super) async fn take_over(sink: &mut MongoSink, partitions: &[i32]) {
    let partitions: Vec<Partition> = partitions.iter().map(|&p| Partition(p)).collect();
    let recorded = sink
        .progress(&topic_id(), &partitions)
        .await
        .expect("progress can be read");
    let absent = partitions.iter().filter(|p| !recorded.contains_key(p));
    let starts: Progress = absent.map(|&p| (p, 0)).collect();
    sink.adopt(&topic_id(), &starts).await.expect("nobody else adopts");
    let next = |p: &Partition| recorded.get(p).map_or(0, |position| position.next);
    sink.begin(&partitions.iter().map(|p| (*p, next(p))).collect());
}

pub(super) fn topic_id() -> TopicId {
    TopicId("abcdefghijklmnopqrstuv".into())
}

pub(super) fn stream(uri: &str, database: &str) -> StreamConfig {
    let schema = schema();
    let measures = [
        ("revenue".to_owned(), Measure::Sum(4)),
        ("sales".to_owned(), Measure::Count),
        ("units".to_owned(), Measure::Sum(3)),
    ];
    let rollup = |name: &str, every, by: &[usize]| RollupConfig {
        name: name.into(),
        every,
        by: by.to_vec(),
        measures: measures.iter().cloned().collect(),
        expire_after: None,
    };
    StreamConfig {
        name: STREAM.into(),
        topic: "sales".into(),
        dead_letter_topic: "sales.dlq".into(),
        rollups: vec![
            rollup(ROLLUP, Every::Seconds(60), &[2]),
            rollup("sales_by_hour", Every::Seconds(3600), &[2, 1, 5]),
            rollup("sales_by_day", Every::Day, &[2, 1, 5]),
        ],
        schema: Arc::new(schema),
        tombstones: Tombstones::DeadLetter,
        max_record_bytes: 16 << 20,
        max_dead_letters: None,
        former_schema: false,
        mongo: MongoConfig {
            enabled: true,
            uri: uri.into(),
            database: database.into(),
            flush_interval: Duration::from_millis(500),
            max_flush_rows: 20_000,
            insert_batch_rows: 2_000,
            insert_concurrency: 3,
        },
        lake: LakeConfig {
            enabled: false,
            root: String::new(),
            commit_interval: Duration::from_secs(60),
            idle_interval: Duration::from_secs(5),
            target_file_bytes: 1 << 20,
            max_open_bytes: 1 << 20,
            upkeep: Default::default(),
            storage: Default::default(),
        },
    }
}

pub(super) fn schema() -> StreamSchema {
    let field = |name: &str, ty, required| Field {
        name: name.into(),
        ty,
        required,
        unit: None,
    };
    let money = FieldType::Decimal {
        precision: 18,
        scale: 2,
    };
    let fields = vec![
        field("sold_at", FieldType::Timestamp, true),
        field("product", FieldType::String, true),
        field("region", FieldType::String, false),
        field("quantity", FieldType::Long, false),
        field("amount", money, true),
        field("category", FieldType::String, false),
        field("sale_id", FieldType::String, true),
        field("unit_price", money, false),
        field("customer_id", FieldType::String, false),
        field("channel", FieldType::String, false),
    ];
    StreamSchema::new(fields, 0, vec![PartitionColumn::Field(2)], chrono_tz::Tz::UTC)
}

/// Good records at the offsets of one partition: everything in them follows from the offset.
pub(super) fn rows(partition: i32, offsets: impl Iterator<Item = Offset>) -> RecordBatch {
    let offsets: Vec<Offset> = offsets.collect();
    let text =
        |f: fn(i64) -> Option<String>| -> ArrayRef { Arc::new(offsets.iter().map(|&o| f(o)).collect::<StringArray>()) };
    let money = |f: fn(i64) -> i128| -> ArrayRef {
        let values = Decimal128Array::from_iter_values(offsets.iter().map(|&o| f(o)));
        Arc::new(values.with_precision_and_scale(18, 2).expect("a valid type"))
    };
    let instants = |step: i64| -> ArrayRef {
        let values = offsets.iter().map(|&o| NEW_YEAR + o * step);
        Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC"))
    };
    let id = |&o: &Offset| RecordId::new(Epoch(0), Partition(partition), o).expect("fits").0;
    let columns: Vec<ArrayRef> = vec![
        instants(7_001),
        text(|o| Some(format!("product-{:03}", o * 31 % 200))),
        text(|o| (o % 14 > 0).then(|| format!("region {}", o % 14))),
        Arc::new(Int64Array::from_iter_values(offsets.iter().map(|o| o % 5 + 1))),
        money(|_| 150),
        text(|o| Some(format!("category-{}", o * 31 % 200 % 12))),
        text(|o| Some(format!("s-{o:012}"))),
        money(|o| i128::from(o % 9000)),
        text(|o| (o % 3 > 0).then(|| format!("c-{:08}", o * 7919 % 50_000))),
        text(|o| Some(["web", "shop", "phone"][(o % 3) as usize].into())),
        Arc::new(Int64Array::from_iter_values(offsets.iter().map(id))),
        instants(1),
    ];
    RecordBatch::try_new(schema().arrow().clone(), columns).expect("columns match the schema")
}

/// A batch over `[start, end)` in which every record is good.
pub(super) fn batch(partition: i32, start: Offset, end: Offset) -> Batch {
    batch_of(rows(partition, start..end), partition, start, end)
}

pub(super) fn batch_of(rows: RecordBatch, partition: i32, start: Offset, end: Offset) -> Batch {
    Batch {
        session: Session(1),
        rows,
        covered: [(Partition(partition), OffsetRange::new(start, end))].into(),
        permit: None,
    }
}

pub(super) async fn store(sink: &mut MongoSink, batch: &Batch) -> Result<CommitSummary, SinkError> {
    sink.write(batch).await?;
    sink.commit(Reason::Interval).await
}
