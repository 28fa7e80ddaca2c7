//! The contract of `affluent::sink::Sink`: one suite, passed by every implementation against its real service.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use affluent::batch::{Batch, Session};
use affluent::config::{Every, LakeConfig, Measure, MongoConfig, RollupConfig, StreamConfig, Tombstones};
use affluent::error::SinkError;
use affluent::offsets::{Epoch, Offset, OffsetRange, Partition, Progress, RecordId, TopicId};
use affluent::schema::{Field, FieldType, PartitionColumn, StreamSchema};
use affluent::sink::lake::LakeSink;
use affluent::sink::mongo::MongoSink;
use affluent::sink::{Position, Reason, Sink};
use arrow::array::{ArrayRef, Date32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};

use crate::support::env;

const JOB: &str = "contract";
const P0: Partition = Partition(0);
const P1: Partition = Partition(1);

/// A fresh stream of its own: collection and table nobody else uses.
struct Fixture {
    stream: StreamConfig,
    _dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fields = vec![
            Field {
                name: "at".into(),
                ty: FieldType::Timestamp,
                required: true,
                unit: None,
            },
            Field {
                name: "site".into(),
                ty: FieldType::String,
                required: true,
                unit: None,
            },
            Field {
                name: "value".into(),
                ty: FieldType::Long,
                required: false,
                unit: None,
            },
        ];
        let by = vec![PartitionColumn::EventDate, PartitionColumn::Field(1)];
        let schema = Arc::new(StreamSchema::new(fields, 0, by, chrono_tz::UTC));
        let name = format!("s{}", uuid::Uuid::new_v4().simple());
        let rollup = RollupConfig {
            name: format!("{name}_by_minute"),
            every: Every::Seconds(60),
            by: vec![1],
            measures: BTreeMap::from([("n".to_owned(), Measure::Count)]),
            expire_after: None,
        };
        let mongo = MongoConfig {
            enabled: true,
            uri: env("AFFLUENT_TEST_MONGO"),
            database: "contract".into(),
            flush_interval: Duration::from_millis(200),
            max_flush_rows: 20_000,
            insert_batch_rows: 3,
            insert_concurrency: 2,
        };
        let lake = LakeConfig {
            enabled: true,
            root: dir.path().to_str().unwrap().to_owned(),
            commit_interval: Duration::from_secs(60),
            idle_interval: Duration::from_secs(10),
            target_file_bytes: 128 << 20,
            max_open_bytes: 256 << 20,
            upkeep: Default::default(),
            storage: BTreeMap::new(),
        };
        let stream = StreamConfig {
            topic: name.clone(),
            dead_letter_topic: format!("{name}.dlq"),
            name,
            schema,
            rollups: vec![rollup],
            tombstones: Tombstones::DeadLetter,
            max_record_bytes: 1 << 20,
            max_dead_letters: None,
            former_schema: false,
            mongo,
            lake,
        };
        Self { stream, _dir: dir }
    }

    /// Rows at these offsets of one partition; `covered` may be wider.
    fn batch(&self, partition: Partition, offsets: &[Offset], covered: OffsetRange) -> Batch {
        let minute = 60_000_000i64;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(
                TimestampMicrosecondArray::from_iter_values(offsets.iter().map(|o| o * minute)).with_timezone("UTC"),
            ),
            Arc::new(StringArray::from_iter_values(
                offsets.iter().map(|o| if o % 2 == 0 { "Île" } else { "d'Or/€" }),
            )),
            Arc::new(Int64Array::from_iter(
                offsets.iter().map(|o| (o % 3 != 0).then_some(*o)),
            )),
            Arc::new(Date32Array::from_iter_values(
                offsets.iter().map(|o| (o * minute / 86_400_000_000) as i32),
            )),
            Arc::new(Int64Array::from_iter_values(
                offsets
                    .iter()
                    .map(|o| RecordId::new(Epoch(0), partition, *o).unwrap().0),
            )),
            Arc::new(TimestampMicrosecondArray::from_iter_values(offsets.iter().copied()).with_timezone("UTC")),
        ];
        let rows = RecordBatch::try_new(self.stream.schema.arrow().clone(), columns).unwrap();
        Batch {
            session: Session(1),
            rows,
            covered: BTreeMap::from([(partition, covered)]),
            permit: None,
        }
    }
}

fn topic_id() -> TopicId {
    TopicId("abcdefghijklmnopqrstuv".into())
}

fn at(next: Offset) -> Progress {
    Progress::from([(P0, next), (P1, next)])
}

fn next(positions: &BTreeMap<Partition, Position>) -> Progress {
    positions.iter().map(|(p, position)| (*p, position.next)).collect()
}

/// Opens the implementation under test.
trait Open {
    type Sink: Sink;
    async fn open(stream: &StreamConfig) -> Self::Sink;
    /// Rows visible to a reader who honours the sink's own rules.
    async fn count(stream: &StreamConfig) -> u64;
}

struct Mongo;
struct Lake;

impl Open for Mongo {
    type Sink = MongoSink;

    async fn open(stream: &StreamConfig) -> MongoSink {
        MongoSink::connect(JOB, stream).await.unwrap()
    }

    async fn count(stream: &StreamConfig) -> u64 {
        let client = mongodb::Client::with_uri_str(&stream.mongo.uri).await.unwrap();
        let database = client.database(&stream.mongo.database);
        let rows = database
            .collection::<bson::Document>(&stream.name)
            .count_documents(bson::doc! {})
            .await
            .unwrap();
        let rollups: Vec<bson::Document> = futures::TryStreamExt::try_collect(
            database
                .collection(&stream.rollups[0].name)
                .find(bson::doc! {})
                .await
                .unwrap(),
        )
        .await
        .unwrap();
        let counted: i64 = rollups.iter().map(|r| r.get_i64("n").unwrap()).sum();
        assert_eq!(counted, rows as i64, "the rollup counts each row once");
        rows
    }
}

impl Open for Lake {
    type Sink = LakeSink;

    async fn open(stream: &StreamConfig) -> LakeSink {
        LakeSink::open(JOB, stream).await.unwrap()
    }

    async fn count(stream: &StreamConfig) -> u64 {
        let root = std::path::Path::new(&stream.lake.root).join(&stream.name);
        let url = url::Url::from_directory_path(root).unwrap();
        let table = deltalake_core::open_table(url).await.unwrap();
        let files: Vec<String> = table.get_file_uris().unwrap().collect();
        files
            .iter()
            .map(|uri| {
                let path = url::Url::parse(uri).map_or_else(|_| uri.into(), |url| url.to_file_path().unwrap());
                let file = std::fs::File::open(path).unwrap();
                let reader = parquet::file::serialized_reader::SerializedFileReader::new(file).unwrap();
                parquet::file::reader::FileReader::metadata(&reader)
                    .file_metadata()
                    .num_rows() as u64
            })
            .sum()
    }
}

async fn adopted<O: Open>(fixture: &Fixture) -> O::Sink {
    let mut sink = O::open(&fixture.stream).await;
    assert!(sink.progress(&topic_id(), &[P0, P1]).await.unwrap().is_empty());
    sink.adopt(&topic_id(), &at(0)).await.unwrap();
    let positions = sink.progress(&topic_id(), &[P0, P1]).await.unwrap();
    assert!(positions.values().all(|p| p.untouched), "{positions:?}");
    assert_eq!(next(&positions), at(0));
    sink.begin(&at(0));
    sink
}

async fn write_and_commit<S: Sink>(sink: &mut S, batch: &Batch) -> u64 {
    sink.write(batch).await.unwrap();
    sink.commit(Reason::Size).await.unwrap().rows
}

async fn rows_and_progress_move_together<O: Open>() {
    let fixture = Fixture::new();
    let mut sink = adopted::<O>(&fixture).await;
    assert!(!sink.pending().moved);
    // Offset 3 was rejected, 5 is a control record.
    sink.write(&fixture.batch(P0, &[0, 1, 2, 4], OffsetRange::new(0, 6)))
        .await
        .unwrap();
    sink.write(&fixture.batch(P1, &[0], OffsetRange::new(0, 1)))
        .await
        .unwrap();
    assert!(sink.pending().moved && sink.pending().rows == 5);
    let summary = sink.commit(Reason::Interval).await.unwrap();
    assert_eq!(
        (summary.rows, summary.progress),
        (5, Progress::from([(P0, 6), (P1, 1)]))
    );
    assert!(!sink.pending().moved);
    let stored = O::open(&fixture.stream)
        .await
        .progress(&topic_id(), &[P0, P1])
        .await
        .unwrap();
    assert_eq!(next(&stored), Progress::from([(P0, 6), (P1, 1)]));
    assert!(!stored[&P0].untouched);
    assert_eq!(O::count(&fixture.stream).await, 5);
}

async fn progress_moves_without_rows<O: Open>() {
    let fixture = Fixture::new();
    let mut sink = adopted::<O>(&fixture).await;
    assert_eq!(
        write_and_commit(&mut sink, &fixture.batch(P0, &[], OffsetRange::new(0, 9))).await,
        0
    );
    let stored = sink.progress(&topic_id(), &[P0]).await.unwrap();
    assert_eq!(stored[&P0].next, 9);
}

async fn a_start_is_recorded_once<O: Open>() {
    let fixture = Fixture::new();
    let mut first = adopted::<O>(&fixture).await;
    let mut second = O::open(&fixture.stream).await;
    let lost = second.adopt(&topic_id(), &at(7)).await;
    assert!(matches!(lost, Err(SinkError::Lost { .. })), "{lost:?}");
    assert_eq!(next(&first.progress(&topic_id(), &[P0, P1]).await.unwrap()), at(0));
}

async fn rows_below_the_progress_are_skipped<O: Open>() {
    let fixture = Fixture::new();
    let mut sink = adopted::<O>(&fixture).await;
    write_and_commit(&mut sink, &fixture.batch(P0, &[0, 1, 2], OffsetRange::new(0, 3))).await;
    // The other sink was behind: the same records come again, with newer ones behind them.
    assert_eq!(
        write_and_commit(&mut sink, &fixture.batch(P0, &[1, 2, 3, 4], OffsetRange::new(1, 5))).await,
        2
    );
    assert_eq!(O::count(&fixture.stream).await, 5);
}

async fn a_second_owner_with_old_progress_is_refused<O: Open>() {
    let fixture = Fixture::new();
    let mut owner = adopted::<O>(&fixture).await;
    let mut zombie = O::open(&fixture.stream).await;
    zombie.progress(&topic_id(), &[P0, P1]).await.unwrap();
    zombie.begin(&at(0));
    let batch = fixture.batch(P0, &[0, 1, 2], OffsetRange::new(0, 3));
    write_and_commit(&mut owner, &batch).await;
    zombie.write(&batch).await.unwrap();
    let lost = zombie.commit(Reason::Size).await;
    assert!(
        matches!(
            lost,
            Err(SinkError::Lost {
                partition: P0,
                expected: 0,
                ..
            })
        ),
        "{lost:?}"
    );
    assert_eq!(O::count(&fixture.stream).await, 3);
    // It reads again and goes on.
    zombie.discard();
    let stored = next(&zombie.progress(&topic_id(), &[P0, P1]).await.unwrap());
    assert_eq!(stored[&P0], 3);
    zombie.begin(&stored);
    write_and_commit(&mut zombie, &fixture.batch(P0, &[3], OffsetRange::new(3, 4))).await;
    assert_eq!(O::count(&fixture.stream).await, 4);
}

async fn discarded_rows_are_not_stored_and_may_come_again<O: Open>() {
    let fixture = Fixture::new();
    let mut sink = adopted::<O>(&fixture).await;
    let batch = fixture.batch(P0, &[0, 1, 2], OffsetRange::new(0, 3));
    sink.write(&batch).await.unwrap();
    sink.discard();
    assert_eq!(sink.pending().rows, 0);
    let stored = next(&sink.progress(&topic_id(), &[P0, P1]).await.unwrap());
    assert_eq!(stored, at(0));
    sink.begin(&stored);
    assert_eq!(write_and_commit(&mut sink, &batch).await, 3);
    assert_eq!(O::count(&fixture.stream).await, 3);
}

async fn the_highest_event_time_is_recorded_with_the_progress<O: Open>() {
    const MINUTE: i64 = 60_000_000;
    let fixture = Fixture::new();
    let mut sink = adopted::<O>(&fixture).await;
    sink.write(&fixture.batch(P0, &[50], OffsetRange::new(0, 51)))
        .await
        .unwrap();
    sink.discard();
    assert_eq!(sink.progress(&topic_id(), &[P0]).await.unwrap()[&P0].event_time, None);
    sink.begin(&at(0));
    sink.write(&fixture.batch(P0, &[0, 4], OffsetRange::new(0, 6)))
        .await
        .unwrap();
    let summary = sink.commit(Reason::Interval).await.unwrap();
    assert_eq!(summary.event_times.get(P0), Some(4 * MINUTE));
    write_and_commit(&mut sink, &fixture.batch(P0, &[], OffsetRange::new(6, 9))).await;
    write_and_commit(&mut sink, &fixture.batch(P1, &[2], OffsetRange::new(0, 3))).await;
    let mut next = O::open(&fixture.stream).await;
    let stored = next.progress(&topic_id(), &[P0, P1]).await.unwrap();
    assert_eq!(
        (stored[&P0].event_time, stored[&P1].event_time),
        (Some(4 * MINUTE), Some(2 * MINUTE))
    );
}

async fn another_job_or_topic_is_refused<O: Open>() {
    let fixture = Fixture::new();
    adopted::<O>(&fixture).await;
    let mut sink = O::open(&fixture.stream).await;
    let recreated = TopicId("zzzzzzzzzzzzzzzzzzzzzz".into());
    let refused = sink.progress(&recreated, &[P0, P1]).await;
    assert!(matches!(refused, Err(SinkError::Invariant(_))), "{refused:?}");
}

async fn a_released_partition_is_no_longer_written<O: Open>() {
    let fixture = Fixture::new();
    let mut sink = adopted::<O>(&fixture).await;
    write_and_commit(&mut sink, &fixture.batch(P0, &[0], OffsetRange::new(0, 1))).await;
    sink.release(&[P1]);
    assert_eq!(
        write_and_commit(&mut sink, &fixture.batch(P0, &[1], OffsetRange::new(1, 2))).await,
        1
    );
    assert_eq!(
        next(&sink.progress(&topic_id(), &[P0, P1]).await.unwrap()),
        Progress::from([(P0, 2), (P1, 0)])
    );
}

macro_rules! contract {
    ($module:ident, $open:ty, $($test:ident),+ $(,)?) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test::<$open>().await;
                }
            )+
        }
    };
}

macro_rules! every_sink {
    ($($test:ident),+ $(,)?) => {
        contract!(mongo, super::Mongo, $($test),+);
        contract!(lake, super::Lake, $($test),+);
    };
}

every_sink!(
    rows_and_progress_move_together,
    progress_moves_without_rows,
    a_start_is_recorded_once,
    rows_below_the_progress_are_skipped,
    a_second_owner_with_old_progress_is_refused,
    discarded_rows_are_not_stored_and_may_come_again,
    the_highest_event_time_is_recorded_with_the_progress,
    another_job_or_topic_is_refused,
    a_released_partition_is_no_longer_written,
);

/// Rows of one date and site, so many that a file of one byte is full at once.
fn filling(fixture: &Fixture, start: Offset) -> Batch {
    const ROWS: i64 = 200_000;
    let offsets: Vec<Offset> = (start..start + 2 * ROWS).step_by(2).collect();
    let mut batch = fixture.batch(P0, &offsets, OffsetRange::new(start, start + 2 * ROWS));
    let mut columns = batch.rows.columns().to_vec();
    let instants = TimestampMicrosecondArray::from(vec![0; offsets.len()]);
    columns[0] = Arc::new(instants.with_timezone("UTC"));
    columns[3] = Arc::new(Date32Array::from(vec![0; offsets.len()]));
    batch.rows = RecordBatch::try_new(batch.rows.schema(), columns).unwrap();
    batch
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_failed_is_repeated_by_the_commit() {
    let mut fixture = Fixture::new();
    fixture.stream.lake.target_file_bytes = 1;
    let mut sink = adopted::<Lake>(&fixture).await;
    let table = std::path::Path::new(&fixture.stream.lake.root).join(&fixture.stream.name);
    let files = || crate::support::files_below(&table, ".parquet").len();
    let in_the_way = table.join("date=1970-01-01");
    std::fs::write(&in_the_way, "").unwrap();
    sink.write(&filling(&fixture, 0)).await.unwrap();
    sink.write(&filling(&fixture, 400_000)).await.unwrap();
    sink.commit(Reason::Interval)
        .await
        .expect_err("no directory for the files");
    assert_eq!((files(), sink.pending().rows), (0, 400_000));
    std::fs::remove_file(&in_the_way).unwrap();
    assert_eq!(sink.commit(Reason::Interval).await.unwrap().rows, 400_000);
    assert_eq!((files(), sink.pending().rows), (2, 0));
    sink.write(&filling(&fixture, 800_000)).await.unwrap();
    assert_eq!(sink.commit(Reason::Interval).await.unwrap().rows, 200_000);
    assert_eq!(files(), 3, "after a success as before");
}
