use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Int64Array, RecordBatch};
use bson::{Bson, Document, doc};
use futures::TryStreamExt as _;

use super::support::{Fixture, NEW_YEAR, ROLLUP, STREAM, batch, batch_of, rows, store, take_over, topic_id};
use crate::error::SinkError;
use crate::offsets::{Epoch, Partition, Progress, RecordId, TopicId};
use crate::sink::mongo::abandoned::Mark;
use crate::sink::mongo::{MongoSink, State, read_progress, topology};
use crate::sink::{Pending, Position, Reason, Sink};

fn id(partition: i32, offset: i64) -> i64 {
    RecordId::new(Epoch(0), Partition(partition), offset).expect("fits").0
}

fn invariant(error: SinkError) -> String {
    match error {
        SinkError::Invariant(invariant) => invariant.to_string(),
        other => panic!("expected a stop, got {other:?}"),
    }
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn rows_rollups_and_progress_are_stored_together() {
    let fixture = Fixture::new("together").await;
    let mut sink = fixture.owner(&[0, 1]).await;
    sink.write(&batch(0, 0, 100)).await.expect("in order");
    sink.write(&batch_of(rows(1, (0..50).filter(|o| o % 2 == 0)), 1, 0, 50))
        .await
        .expect("in order");
    assert_eq!(sink.pending().rows, 125);
    let summary = sink.commit(Reason::Interval).await.expect("stored");
    assert_eq!((summary.rows, summary.replayed), (125, 0));
    assert_eq!(
        summary.progress,
        Progress::from([(Partition(0), 100), (Partition(1), 50)])
    );
    assert_eq!(sink.pending(), Pending::default());
    assert_eq!((fixture.next(0).await, fixture.next(1).await), (100, 50));
    assert_eq!(
        (fixture.count().await, fixture.totals().await),
        (125, (125, "187.50".into()))
    );

    let one = fixture
        .documents()
        .find_one(doc! { "_id": id(1, 4) })
        .await
        .expect("answer")
        .expect("stored");
    assert_eq!(one.get_str("sale_id").expect("there"), "s-000000000004");
    assert_eq!(
        one.get_datetime("sold_at").expect("there").timestamp_millis(),
        NEW_YEAR / 1000 + 28
    );
    let rollup = fixture.database.collection::<Document>(ROLLUP);
    let key = doc! { "t": bson::DateTime::from_millis(NEW_YEAR / 1000), "region": null };
    let null_region = rollup
        .find_one(doc! { "_id": key })
        .await
        .expect("answer")
        .expect("a null dimension is stored");
    assert_eq!(null_region.get("region"), Some(&Bson::Null));
    fixture.end().await;
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn a_start_is_recorded_once_and_read_back() {
    let fixture = Fixture::new("adopt").await;
    let mut sink = fixture.sink().await;
    assert!(
        sink.progress(&topic_id(), &[Partition(0)])
            .await
            .expect("empty")
            .is_empty()
    );
    sink.adopt(&topic_id(), &[(Partition(0), 7)].into())
        .await
        .expect("first");

    let mut second = fixture.sink().await;
    let late = second.adopt(&topic_id(), &[(Partition(0), 9)].into()).await;
    assert!(
        matches!(
            late,
            Err(SinkError::Lost {
                expected: 9,
                found: Some(7),
                ..
            })
        ),
        "{late:?}"
    );
    let read = second
        .progress(&topic_id(), &[Partition(0), Partition(1)])
        .await
        .expect("readable");
    let position = Position {
        next: 7,
        untouched: true,
        epoch: Epoch(0),
        event_time: None,
    };
    assert_eq!(read, [(Partition(0), position)].into());
    second.begin(&[(Partition(0), 7)].into());
    store(&mut second, &batch(0, 5, 9)).await.expect("stored");
    assert_eq!(fixture.count().await, 2, "records below the start are skipped");

    let stored = read_progress(&fixture.stream.mongo, STREAM).await.expect("readable");
    assert_eq!((stored[0].start, stored[0].next, stored[0].state), (7, 9, State::Ready));
    fixture.end().await;
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn the_highest_event_time_moves_with_the_progress_portion_by_portion() {
    let fixture = Fixture::new("event_time").await;
    let mut sink = fixture.owner(&[0]).await;
    let time = |offset: i64| NEW_YEAR + offset * 7_001;
    let summary = store(&mut sink, &batch(0, 0, 10)).await.expect("stored");
    assert_eq!(summary.event_times.get(Partition(0)), Some(time(9)));
    let stored = async || {
        let documents = read_progress(&fixture.stream.mongo, STREAM).await.expect("readable");
        documents[0].event_time_micros()
    };
    assert_eq!(stored().await, Some(time(9) / 1000 * 1000), "to the millisecond below");
    // Late rows, and no rows at all, move the progress alone.
    let mut late = batch_of(rows(0, [3].into_iter()), 0, 10, 20);
    late.rows = with_ids(&late.rows, 0, 10);
    store(&mut sink, &late).await.expect("stored");
    store(&mut sink, &batch_of(rows(0, std::iter::empty()), 0, 20, 30))
        .await
        .expect("stored");
    assert_eq!(
        (fixture.next(0).await, stored().await),
        (30, Some(time(9) / 1000 * 1000))
    );
    // A next owner begins with it.
    let mut next = fixture.sink().await;
    let read = next.progress(&topic_id(), &[Partition(0)]).await.expect("readable");
    assert_eq!(read[&Partition(0)].event_time, Some(time(9) / 1000 * 1000));
    fixture.end().await;
}

/// The same rows as if they had been read from this offset on.
fn with_ids(rows: &RecordBatch, partition: i32, first: i64) -> RecordBatch {
    let ids = (first..).map(|offset| RecordId::new(Epoch(0), Partition(partition), offset).expect("fits").0);
    let mut columns = rows.columns().to_vec();
    columns[10] = Arc::new(Int64Array::from_iter_values(ids.take(rows.num_rows())));
    RecordBatch::try_new(rows.schema(), columns).expect("the same columns")
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn a_replay_stores_nothing_twice() {
    let fixture = Fixture::new("replay").await;
    let mut sink = fixture.owner(&[0]).await;
    store(&mut sink, &batch(0, 0, 10)).await.expect("stored");
    // A crash between insert and transaction: the documents are there, progress is not.
    let left_behind: Vec<_> = (10..5_000).collect();
    crash_after_insert(&fixture, &rows(0, left_behind.into_iter())).await;
    assert_eq!((fixture.count().await, fixture.next(0).await), (5_000, 10));

    let mut sink = fixture.owner(&[0]).await;
    let summary = store(&mut sink, &batch(0, 0, 6_000)).await.expect("stored");
    assert_eq!((summary.rows, summary.replayed), (5_990, 4_990));
    assert_eq!(
        (fixture.count().await, fixture.totals().await),
        (6_000, (6_000, "9000.00".into()))
    );
    fixture.end().await;
}

async fn crash_after_insert(fixture: &Fixture, rows: &RecordBatch) {
    let encoder = crate::sink::mongo::document::Encoder::new(&fixture.stream.schema);
    let written = encoder.rows(rows);
    let documents = (0..rows.num_rows()).map(|row| {
        let mut bytes = Vec::new();
        written.append(row, &mut bytes);
        bson::RawDocumentBuf::from_bytes(bytes).expect("framed")
    });
    let collection = fixture.database.collection::<bson::RawDocumentBuf>(STREAM);
    collection.insert_many(documents).await.expect("inserted");
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn a_zombie_is_refused_and_changes_nothing() {
    let fixture = Fixture::new("zombie").await;
    let mut zombie = fixture.owner(&[0, 1]).await;
    let mut owner = fixture.owner(&[0, 1]).await;
    store(&mut owner, &batch(0, 0, 10)).await.expect("stored");
    zombie.write(&batch(1, 0, 5)).await.expect("in order");
    let refused = store(&mut zombie, &batch(0, 0, 20)).await;
    assert!(
        matches!(
            refused,
            Err(SinkError::Lost {
                partition: Partition(0),
                expected: 0,
                found: Some(10)
            })
        ),
        "{refused:?}"
    );
    assert_eq!((fixture.next(0).await, fixture.next(1).await), (10, 0));
    assert_eq!(fixture.totals().await, (10, "15.00".into()));

    zombie.discard();
    take_over(&mut zombie, &[0, 1]).await;
    store(&mut zombie, &batch(0, 10, 20))
        .await
        .expect("a loser goes on from what is stored");
    assert_eq!(fixture.totals().await, (20, "30.00".into()));
    fixture.end().await;
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn a_rival_that_made_the_very_same_step_is_not_mistaken_for_us() {
    let fixture = Fixture::new("same_step").await;
    let mut zombie = fixture.owner(&[0]).await;
    let mut owner = fixture.owner(&[0]).await;
    store(&mut owner, &batch(0, 0, 10)).await.expect("stored");
    let refused = store(&mut zombie, &batch(0, 0, 10)).await;
    assert!(matches!(refused, Err(SinkError::Lost { .. })), "{refused:?}");
    assert_eq!(fixture.totals().await, (10, "15.00".into()));
    fixture.end().await;
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn two_owners_racing_count_every_record_once() {
    let fixture = Fixture::new("race").await;
    let mut sinks = [fixture.owner(&[0]).await, fixture.owner(&[0]).await];
    for round in 0..20 {
        let (start, end) = (round * 50, round * 50 + 50);
        let [a, b] = &mut sinks;
        let batch = batch(0, start, end);
        let (first, second) = tokio::join!(store(a, &batch), store(b, &batch));
        let won = [&first, &second].into_iter().filter(|r| r.is_ok()).count();
        assert_eq!(won, 1, "round {round}: {first:?} {second:?}");
        for sink in &mut sinks {
            sink.discard();
            take_over(sink, &[0]).await;
        }
    }
    assert_eq!(
        (fixture.count().await, fixture.totals().await),
        (1_000, (1_000, "1500.00".into()))
    );
    fixture.end().await;
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn owners_of_different_partitions_share_rollup_documents() {
    let fixture = Fixture::new("shared").await;
    let mut sinks = [
        fixture.owner(&[0, 1, 2]).await,
        fixture.sink().await,
        fixture.sink().await,
    ];
    for (partition, sink) in sinks.iter_mut().enumerate() {
        sink.discard();
        take_over(sink, &[partition as i32]).await;
    }
    for round in 0..20 {
        // New minutes every round: all three upsert the same documents at the same time.
        let start = round * 20_000;
        let [a, b, c] = &mut sinks;
        let step = |partition, sink| async move {
            let batch = batch_of(rows(partition, start..start + 200), partition, start, start + 20_000);
            store(sink, &batch).await
        };
        let (x, y, z) = tokio::join!(step(0, a), step(1, b), step(2, c));
        for result in [x, y, z] {
            result.expect("conflicts are resolved by trying again");
        }
    }
    assert_eq!(fixture.totals().await, (12_000, "18000.00".into()));
    fixture.end().await;
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn a_different_document_under_our_id_stops() {
    let fixture = Fixture::new("foreign").await;
    let mut sink = fixture.owner(&[0]).await;
    let foreign = doc! { "_id": id(0, 3), "sale_id": "somebody else's" };
    fixture.documents().insert_one(foreign).await.expect("inserted");
    let text = invariant(store(&mut sink, &batch(0, 0, 10)).await.expect_err("refused"));
    assert!(text.contains("1 documents") && text.contains("offset 3"), "{text}");
    assert_eq!((fixture.next(0).await, fixture.totals().await), (0, (0, "0".into())));
    fixture.end().await;
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn a_document_where_no_good_record_is_stops() {
    let fixture = Fixture::new("surplus").await;
    let mut sink = fixture.owner(&[0]).await;
    fixture
        .documents()
        .insert_one(doc! { "_id": id(0, 3) })
        .await
        .expect("inserted");
    let good = rows(0, (0..10).filter(|o| *o != 3));
    let text = invariant(store(&mut sink, &batch_of(good, 0, 0, 10)).await.expect_err("refused"));
    assert!(
        text.contains("holds 10 documents") && text.contains("9 good records"),
        "{text}"
    );
    assert_eq!((fixture.next(0).await, fixture.totals().await), (0, (0, "0".into())));
    fixture.end().await;
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn documents_that_vanish_before_the_transaction_are_counted_and_inserted_again() {
    let fixture = Fixture::new("vanish").await;
    let mut sink = fixture.owner(&[0, 1]).await;
    // The first commit inserts and then fails in its transaction.
    let data = doc! { "failCommands": ["aggregate"], "errorCode": 11601 };
    fixture.fail_command(doc! { "times": 1 }, data).await;
    sink.write(&batch(1, 0, 5)).await.expect("in order");
    let failed = store(&mut sink, &batch(0, 0, 10)).await;
    assert!(matches!(failed, Err(SinkError::Infrastructure(_))), "{failed:?}");
    assert_eq!((fixture.count().await, fixture.next(0).await), (15, 0));
    // A restore takes some of them away; this process believes them stored.
    fixture
        .documents()
        .delete_many(doc! { "_id": { "$in": [id(0, 4), id(1, 2)] } })
        .await
        .expect("deleted");
    sink.commit(Reason::Interval).await.expect("inserted again");
    assert_eq!((fixture.count().await, fixture.next(0).await), (15, 10));
    assert_eq!(fixture.totals().await, (15, "22.50".into()));
    fixture.end().await;
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn a_commit_whose_reply_is_lost_is_found_done() {
    let fixture = Fixture::new("lost_reply").await;
    let mut sink = fixture.owner(&[0]).await;
    // The server commits, then answers that it does not know whether a majority has it: each of our three tries.
    let concern = doc! { "code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting for replication timed out" };
    let data = doc! { "failCommands": ["commitTransaction"], "writeConcernError": concern };
    fixture.fail_command(doc! { "times": 3 }, data).await;
    let summary = store(&mut sink, &batch(0, 0, 10))
        .await
        .expect("progress says it was committed");
    assert_eq!(summary.rows, 10);
    assert_eq!(
        (fixture.next(0).await, fixture.totals().await),
        (10, (10, "15.00".into()))
    );
    store(&mut sink, &batch(0, 10, 20)).await.expect("goes on");
    assert_eq!(fixture.totals().await, (20, "30.00".into()));
    fixture.end().await;
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn a_commit_that_never_arrived_is_made_again() {
    let fixture = Fixture::new("never_arrived").await;
    let mut sink = fixture.owner(&[0]).await;
    // The connection breaks before the server acts, on every try of the first transaction.
    let data = doc! { "failCommands": ["commitTransaction"], "closeConnection": true };
    fixture.fail_command(doc! { "times": 4 }, data).await;
    let result = store(&mut sink, &batch(0, 0, 10)).await;
    let summary = match result {
        Ok(summary) => summary,
        // The re-read met the cleared connection pool: the same commit is called again.
        Err(SinkError::Infrastructure(_)) => sink.commit(Reason::Interval).await.expect("made again"),
        Err(other) => panic!("{other:?}"),
    };
    assert_eq!(summary.rows, 10);
    assert_eq!(
        (fixture.next(0).await, fixture.totals().await),
        (10, (10, "15.00".into()))
    );
    fixture.end().await;
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn a_commit_in_doubt_is_resolved_by_the_next_call() {
    let fixture = Fixture::new("in_doubt").await;
    let mut sink = fixture.owner(&[0]).await;
    sink.write(&batch(0, 0, 10)).await.expect("in order");
    // Committed, reply lost, and the re-read of progress fails too: the outcome stays open for now.
    let concern = doc! { "code": 64, "codeName": "WriteConcernFailed", "errmsg": "timed out" };
    let data = doc! { "failCommands": ["commitTransaction"], "writeConcernError": concern };
    fixture.fail_command(doc! { "times": 1_000 }, data).await;
    let denied = fixture.database.client().database("admin");
    let sabotage = async {
        // Once the step has been made, reads of this client fail instead.
        let deadline = Instant::now() + Duration::from_secs(20);
        while fixture.next(0).await == 0 {
            assert!(Instant::now() < deadline, "the step was never made");
            tokio::task::yield_now().await;
        }
        let data = doc! { "failCommands": ["find"], "errorCode": 13, "appName": &fixture.name };
        let command = doc! { "configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data };
        denied
            .run_command(command)
            .await
            .expect("a server with enableTestCommands=1");
    };
    let (first, ()) = tokio::join!(sink.commit(Reason::Interval), sabotage);
    fixture.fail_nothing().await;
    // Whether the re-read was met by the sabotage is a race; the outcome must be the same.
    let rows = match first {
        Ok(summary) => summary.rows,
        Err(SinkError::Infrastructure(_)) => sink.commit(Reason::Interval).await.expect("resolved").rows,
        Err(other) => panic!("{other:?}"),
    };
    assert_eq!((rows, sink.pending().rows), (10, 0));
    assert_eq!(
        (fixture.next(0).await, fixture.totals().await),
        (10, (10, "15.00".into()))
    );
    store(&mut sink, &batch(0, 10, 20)).await.expect("goes on");
    assert_eq!(fixture.totals().await, (20, "30.00".into()));
    fixture.end().await;
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn a_duplicate_key_on_a_rollup_upsert_is_tried_again() {
    let fixture = Fixture::new("upsert_race").await;
    let mut sink = fixture.owner(&[0]).await;
    let data = doc! {
        "failCommands": ["update"],
        "namespace": format!("{}.{ROLLUP}", fixture.name),
        "errorCode": 11000,
        "errorExtraInfo": { "keyPattern": { "_id": 1 }, "keyValue": { "_id": 1 } },
    };
    fixture.fail_command(doc! { "times": 2 }, data).await;
    store(&mut sink, &batch(0, 0, 10)).await.expect("tried again");
    assert_eq!(fixture.totals().await, (10, "15.00".into()));
    fixture.end().await;
}

/// What a kill -9 between compare-and-set and commit leaves behind: locks that the server holds for a minute.
#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn a_transaction_left_open_by_a_dead_owner_is_ended() {
    let fixture = Fixture::new("abandoned").await;
    let mut sink = fixture.owner(&[0]).await;
    let mark = Mark::new("shop", &fixture.stream.name);
    let (dead, _) = topology::client(&fixture.stream.mongo.uri, Some(&mark))
        .await
        .expect("a client");
    let mut left_open = dead.start_session().await.expect("a session");
    left_open.start_transaction().await.expect("a transaction");
    let progress = dead
        .database(fixture.database.name())
        .collection::<Document>("_affluent_progress");
    let hold = doc! { "$set": { "next": 99_i64 } };
    progress
        .update_one(doc! { "_id": format!("{STREAM}/0") }, hold)
        .session(&mut left_open)
        .await
        .expect("the dead owner was first");

    sink.write(&batch(0, 0, 10)).await.expect("in order");
    let mut tries = 0;
    while let Err(error) = sink.commit(Reason::Interval).await {
        tries += 1;
        // Together far less than the server's own limit of a minute.
        assert!(tries < 12, "{error}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(tries > 0, "the locks were never in the way");
    assert_eq!(
        (fixture.next(0).await, fixture.totals().await),
        (10, (10, "15.00".into()))
    );
    left_open.commit_transaction().await.expect_err("it was ended");
    fixture.end().await;
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn a_transaction_too_long_for_the_server_is_halved() {
    let fixture = Fixture::new("halved").await;
    let mut sink = fixture.owner(&[0]).await;
    let data = doc! { "failCommands": ["aggregate"], "errorCode": 290 };
    fixture.fail_command(doc! { "times": 3 }, data).await;
    sink.write(&batch(0, 0, 700)).await.expect("in order");
    sink.write(&batch_of(rows(0, 700..900), 0, 700, 1_000))
        .await
        .expect("in order");
    let summary = sink.commit(Reason::Interval).await.expect("in smaller steps");
    assert_eq!((summary.rows, summary.replayed), (900, 0));
    assert_eq!((fixture.next(0).await, fixture.count().await), (1_000, 900));
    assert_eq!(fixture.totals().await, (900, "1350.00".into()));
    fixture.end().await;
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn a_write_that_no_majority_has_is_not_taken_for_stored() {
    let fixture = Fixture::new("majority").await;
    let mut sink = fixture.owner(&[0]).await;
    let concern = doc! { "code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting for replication timed out" };
    fixture
        .fail_command(
            doc! { "times": 1 },
            doc! { "failCommands": ["insert"], "writeConcernError": concern },
        )
        .await;
    let failed = store(&mut sink, &batch(0, 0, 10)).await;
    assert!(matches!(failed, Err(SinkError::Infrastructure(_))), "{failed:?}");
    assert_eq!(fixture.next(0).await, 0);
    let summary = sink.commit(Reason::Interval).await.expect("stored");
    assert_eq!((summary.replayed, fixture.next(0).await), (10, 10));
    fixture.end().await;
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn progress_moves_over_offsets_without_good_records() {
    let fixture = Fixture::new("covered").await;
    let mut sink = fixture.owner(&[0]).await;
    let summary = store(&mut sink, &batch_of(rows(0, 0..0), 0, 0, 42))
        .await
        .expect("stored");
    assert_eq!((summary.rows, fixture.next(0).await, fixture.count().await), (0, 42, 0));
    fixture.end().await;
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn whatever_does_not_match_the_recorded_progress_stops() {
    let fixture = Fixture::new("mismatch").await;
    let mut sink = fixture.owner(&[0]).await;
    store(&mut sink, &batch(0, 0, 10)).await.expect("stored");

    let partitions = [Partition(0)];
    let mut other_job = MongoSink::connect("other", &fixture.stream).await.expect("connected");
    let text = invariant(other_job.progress(&topic_id(), &partitions).await.expect_err("refused"));
    assert!(text.contains("job `shop`") && text.contains("`other`"), "{text}");

    let recreated = TopicId("zzzzzzzzzzzzzzzzzzzzzz".into());
    let text = invariant(sink.progress(&recreated, &partitions).await.expect_err("refused"));
    assert!(text.contains("re-created"), "{text}");
    sink.progress(&TopicId::unknown(), &partitions)
        .await
        .expect("an unknown id is no re-creation");

    let mut changed = fixture.stream.clone();
    changed.rollups.remove(1);
    let mut sink = MongoSink::connect("shop", &changed).await.expect("connected");
    let text = invariant(sink.progress(&topic_id(), &partitions).await.expect_err("refused"));
    assert!(text.contains("rollup definitions"), "{text}");

    let progress = fixture.database.collection::<Document>("_affluent_progress");
    progress
        .update_one(doc! {}, doc! { "$set": { "state": "rebuilding" } })
        .await
        .expect("updated");
    let mut sink = fixture.sink().await;
    let held = sink.progress(&topic_id(), &partitions).await;
    assert!(
        matches!(held, Err(SinkError::Infrastructure(_))),
        "a rebuild is waited for: {held:?}"
    );
    fixture.end().await;
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn a_rebuild_fences_an_owner_that_was_running() {
    let fixture = Fixture::new("rebuild").await;
    let mut sink = fixture.owner(&[0]).await;
    let progress = fixture.database.collection::<Document>("_affluent_progress");
    progress
        .update_one(doc! {}, doc! { "$inc": { "generation": 1i64 } })
        .await
        .expect("updated");
    let refused = store(&mut sink, &batch(0, 0, 10)).await;
    assert!(matches!(refused, Err(SinkError::Lost { .. })), "{refused:?}");
    assert_eq!((fixture.next(0).await, fixture.totals().await), (0, (0, "0".into())));
    fixture.end().await;
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn a_topic_id_that_becomes_known_is_filled_in() {
    let fixture = Fixture::new("topic_id").await;
    let mut sink = fixture.sink().await;
    sink.progress(&TopicId::unknown(), &[Partition(0)])
        .await
        .expect("empty");
    sink.adopt(&TopicId::unknown(), &[(Partition(0), 0)].into())
        .await
        .expect("first");
    take_over(&mut sink, &[0]).await;
    store(&mut sink, &batch(0, 0, 10))
        .await
        .expect("the filled-in id is what the step expects");
    let stored = read_progress(&fixture.stream.mongo, STREAM).await.expect("readable");
    assert_eq!(stored[0].topic_id, topic_id());
    fixture.end().await;
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn foreign_documents_and_expiry_are_refused_at_the_start() {
    let fixture = Fixture::new("foreign_start").await;
    fixture
        .database
        .collection::<Document>(ROLLUP)
        .insert_one(doc! { "x": 1 })
        .await
        .expect("inserted");
    let text = invariant(
        fixture
            .sink()
            .await
            .progress(&topic_id(), &[])
            .await
            .expect_err("refused"),
    );
    assert!(text.contains(ROLLUP), "{text}");
    fixture.database.drop().await.expect("dropped");

    let expiry = mongodb::options::IndexOptions::builder()
        .expire_after(Duration::from_secs(60))
        .build();
    let index = mongodb::IndexModel::builder()
        .keys(doc! { "sold_at": 1 })
        .options(expiry)
        .build();
    fixture.documents().create_index(index).await.expect("created");
    let text = invariant(
        fixture
            .sink()
            .await
            .progress(&topic_id(), &[])
            .await
            .expect_err("refused"),
    );
    assert!(text.contains("TTL index"), "{text}");
    fixture.end().await;
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn buckets_are_found_by_time_and_expire_as_the_definition_says() {
    let mut fixture = Fixture::new("expiry").await;
    let hour = Duration::from_secs(3_600);
    let rollup = fixture.database.collection::<Document>(ROLLUP);
    let expiry = |index: &mongodb::IndexModel| index.options.as_ref().and_then(|options| options.expire_after);
    let by_time = |name: &str| {
        let named = mongodb::options::IndexOptions::builder().name(name.to_owned()).build();
        mongodb::IndexModel::builder()
            .keys(doc! { "t": 1 })
            .options(named)
            .build()
    };
    rollup.create_index(by_time("somebody's")).await.expect("created");
    for expire_after in [None, Some(hour), Some(hour)] {
        fixture.stream.rollups[0].expire_after = expire_after;
        fixture.sink().await.progress(&topic_id(), &[]).await.expect("prepares");
        let indexes = rollup.list_indexes().await.expect("listed");
        let indexes: Vec<_> = indexes.try_collect().await.expect("listed");
        let found: Vec<_> = indexes[1..]
            .iter()
            .map(|index| (index.keys.clone(), expiry(index)))
            .collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.contains(&(doc! { "t": 1 }, expire_after)), "{found:?}");
        assert!(found.contains(&(doc! { "region": 1, "t": 1 }, None)), "{found:?}");
    }
    fixture.stream.rollups[0].expire_after = None;
    let refused = fixture.sink().await.progress(&topic_id(), &[]).await;
    let text = invariant(refused.expect_err("somebody's expiry"));
    assert!(text.contains("TTL index") && text.contains(ROLLUP), "{text}");
    fixture.end().await;
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn buckets_do_not_expire_by_a_definition_that_is_refused() {
    let mut fixture = Fixture::new("expiry_refused").await;
    let mut sink = fixture.sink().await;
    take_over(&mut sink, &[0]).await;
    fixture.stream.rollups[0].expire_after = Some(Duration::from_secs(3_600));
    let refused = fixture.sink().await.progress(&topic_id(), &[]).await;
    let text = invariant(refused.expect_err("other definitions"));
    assert!(text.contains("expire after 3600s"), "{text}");
    let rollup = fixture.database.collection::<Document>(ROLLUP);
    let indexes = rollup.list_indexes().await.expect("listed");
    let indexes: Vec<_> = indexes.try_collect().await.expect("listed");
    let expires = |index: &mongodb::IndexModel| {
        index
            .options
            .as_ref()
            .is_some_and(|options| options.expire_after.is_some())
    };
    assert!(!indexes.iter().any(expires), "{indexes:?}");
    fixture.end().await;
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn a_validator_that_refuses_a_record_stops_and_names_the_reason() {
    let fixture = Fixture::new("validator").await;
    let create = fixture
        .database
        .create_collection(STREAM)
        .validator(doc! { "sale_id": "nothing" });
    create.await.expect("created");
    let mut sink = fixture.owner(&[0]).await;
    let text = invariant(store(&mut sink, &batch(0, 0, 2)).await.expect_err("refused"));
    assert!(text.contains("error 121"), "{text}");
    fixture.end().await;
}
