//! The steps of a rebuild, each against whoever could come in between.

use std::collections::BTreeMap;

use bson::{Document, doc};
use mongodb::IndexModel;

use super::support::*;
use crate::config::StreamConfig;
use crate::error::SinkError;
use crate::event_time::EventTimes;
use crate::lake::rows::Place;
use crate::offsets::{Epoch, Offset, OffsetRange, Partition};
use crate::sink::Sink as _;
use crate::sink::mongo::deployment::Server;
use crate::sink::mongo::rebuild::{self, Phase, Present, Rebuild, Source};

async fn connect(stream: &StreamConfig) -> Server {
    Server::connect("shop", stream).await.expect("a replica set")
}

async fn look(fixture: &Fixture) -> Present {
    let server = connect(&fixture.stream).await;
    rebuild::look(&server, "shop", &fixture.stream, false)
        .await
        .expect("looks")
}

async fn begin(fixture: &Fixture) -> Rebuild<Server> {
    let present = look(fixture).await;
    let server = connect(&fixture.stream).await;
    let begun = Rebuild::begin(server, "shop", &fixture.stream, &present).await;
    begun.expect("begins")
}

async fn resume(fixture: &Fixture) -> Rebuild<Server> {
    let unfinished = look(fixture).await.unfinished.expect("unfinished");
    let server = connect(&fixture.stream).await;
    let resumed = Rebuild::resume(server, "shop", &fixture.stream, unfinished).await;
    resumed.expect("takes over")
}

/// A lake that has partition 0 up to `next`.
fn lake(next: Offset) -> Source {
    Source {
        table: "table".into(),
        version: 7,
        topic_id: topic_id(),
        epoch: Epoch(0),
        partitions: BTreeMap::from([(Partition(0), (Some(0), next))]),
        event_times: EventTimes::default(),
        losses: Vec::new(),
        former_schemas: Vec::new(),
    }
}

async fn fill_and_publish(rebuild: &mut Rebuild<Server>, rows_up_to: Offset) {
    let to = Place {
        file: 0,
        row: rows_up_to,
    };
    rebuild.store(&[rows(0, 0..rows_up_to)], to).await.expect("stores");
    rebuild.publish().await.expect("publishes");
}

fn is_overtaken(outcome: Result<impl Sized, SinkError>) -> bool {
    matches!(outcome.map(drop), Err(SinkError::Invariant(invariant)) if invariant.what.contains("another rebuild"))
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn progress_stands_still_from_the_first_step_and_goes_on_where_the_lake_is() {
    let fixture = Fixture::new("rebuild_steps").await;
    let mut sink = fixture.owner(&[0]).await;
    store(&mut sink, &batch(0, 0, 30)).await.expect("stored");
    let totals = fixture.totals().await;
    let mut rebuild = begin(&fixture).await;
    let refused = store(&mut sink, &batch(0, 30, 40)).await;
    assert!(refused.is_err(), "fenced");
    let beyond = rebuild.standing().await.expect("reads").beyond(&lake(20));
    assert_eq!(beyond[&Partition(0)], OffsetRange::new(20, 30));

    rebuild.accept(&lake(20)).await.expect("accepts");
    rebuild.clear().await.expect("clears");
    assert_eq!((fixture.count().await, fixture.totals().await.0), (0, 0));
    fill_and_publish(&mut rebuild, 20).await;
    assert_eq!((fixture.count().await, fixture.next(0).await), (20, 20));

    sink.discard();
    take_over(&mut sink, &[0]).await;
    store(&mut sink, &batch(0, 20, 30)).await.expect("goes on");
    assert_eq!((fixture.count().await, fixture.totals().await), (30, totals));
    fixture.end().await;
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn called_off_the_owner_goes_on_as_if_nothing_had_been() {
    let fixture = Fixture::new("rebuild_off").await;
    let mut sink = fixture.owner(&[0]).await;
    store(&mut sink, &batch(0, 0, 10)).await.expect("stored");
    let rebuild = begin(&fixture).await;
    assert!(rebuild.call_off().await.expect("is possible"));
    assert!(look(&fixture).await.unfinished.is_none());
    sink.discard();
    take_over(&mut sink, &[0]).await;
    store(&mut sink, &batch(0, 10, 20)).await.expect("goes on");
    assert_eq!((fixture.count().await, fixture.next(0).await), (20, 20));

    let mut dropped = begin(&fixture).await;
    dropped.accept(&lake(20)).await.expect("accepts");
    dropped.clear().await.expect("clears");
    assert!(!dropped.call_off().await.expect("is told"), "there is no way back");
    let again = begin(&fixture).await;
    assert!(
        !again.call_off().await.expect("is told"),
        "nor for the one that began anew"
    );
    fixture.end().await;
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn whoever_was_overtaken_drops_and_stores_nothing_more() {
    let fixture = Fixture::new("rebuild_twice").await;
    let mut sink = fixture.owner(&[0]).await;
    store(&mut sink, &batch(0, 0, 10)).await.expect("stored");
    let mut slow = begin(&fixture).await;
    slow.accept(&lake(10)).await.expect("accepts");
    let mut fast = resume(&fixture).await;
    fast.clear().await.expect("clears");
    assert!(is_overtaken(slow.clear().await), "while the other is at work");
    fill_and_publish(&mut fast, 10).await;
    assert!(is_overtaken(slow.clear().await), "and when it is done");
    let end = Place { file: 0, row: 10 };
    assert!(is_overtaken(slow.store(&[rows(0, 0..10)], end).await));
    assert!(slow.publish().await.is_err());
    assert_eq!((fixture.count().await, fixture.next(0).await), (10, 10));
    assert_eq!(fixture.totals().await.0, 10);
    fixture.end().await;
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn a_portion_counts_once_and_a_collection_dropped_meanwhile_is_noticed() {
    let fixture = Fixture::new("rebuild_once").await;
    let mut rebuild = begin(&fixture).await;
    rebuild.accept(&lake(10)).await.expect("accepts");
    rebuild.clear().await.expect("clears");
    let half = Place { file: 0, row: 5 };
    rebuild.store(&[rows(0, 0..5)], half).await.expect("stores");
    let mut resumed = resume(&fixture).await;
    assert_eq!(
        (resumed.document().place, resumed.document().phase),
        (half, Phase::Filling)
    );
    let end = Place { file: 0, row: 10 };
    resumed.store(&[rows(0, 5..10)], end).await.expect("stores");
    assert_eq!((fixture.count().await, fixture.totals().await.0), (10, 10));
    fixture
        .database
        .collection::<Document>(ROLLUP)
        .drop()
        .await
        .expect("drops");
    fixture.database.create_collection(ROLLUP).await.expect("creates");
    let refused = resumed.publish().await.expect_err("noticed");
    assert!(refused.to_string().contains(ROLLUP), "{refused}");
    fixture.end().await;
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn options_and_indexes_of_a_collection_come_back() {
    let fixture = Fixture::new("rebuild_kept").await;
    let validator = doc! { "_id": { "$exists": true } };
    let created = fixture
        .database
        .create_collection(STREAM)
        .validator(validator.clone())
        .await;
    created.expect("creates");
    let index = IndexModel::builder().keys(doc! { "region": 1 }).build();
    fixture.documents().create_index(index).await.expect("creates");
    let mut rebuild = begin(&fixture).await;
    rebuild.accept(&lake(0)).await.expect("accepts");
    rebuild.clear().await.expect("clears");
    let listed = doc! { "listCollections": 1, "filter": { "name": STREAM } };
    let listed = fixture.database.run_command(listed).await.expect("lists");
    let found = listed
        .get_document("cursor")
        .and_then(|c| c.get_array("firstBatch"))
        .expect("a batch");
    let options = found[0]
        .as_document()
        .and_then(|d| d.get_document("options").ok())
        .expect("options");
    assert_eq!(options.get_document("validator").expect("kept"), &validator);
    let names = fixture.documents().list_index_names().await.expect("lists");
    assert_eq!(names, ["_id_", "region_1"]);
    fixture.end().await;
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn an_unfinished_rebuild_goes_on_with_the_rollups_it_was_begun_with_only() {
    let fixture = Fixture::new("rebuild_rollups").await;
    let mut rebuild = begin(&fixture).await;
    rebuild.accept(&lake(10)).await.expect("accepts");
    let unfinished = look(&fixture).await.unfinished.expect("unfinished");
    let mut changed = fixture.stream.clone();
    changed.rollups.remove(1);
    let server = connect(&changed).await;
    let refused = Rebuild::resume(server, "shop", &changed, unfinished)
        .await
        .err()
        .expect("refused");
    assert!(refused.to_string().contains("other rollups"), "{refused}");
    fixture.end().await;
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn a_partition_begun_beside_the_rebuild_is_taken_back_or_taken_in() {
    let fixture = Fixture::new("rebuild_begun").await;
    let mut owner = fixture.owner(&[0]).await;
    let mut rebuild = begin(&fixture).await;
    // The owner has seen generation 0 of partition 0, and nothing of the rebuild.
    let late = owner.adopt(&topic_id(), &[(Partition(1), 0)].into()).await;
    assert!(matches!(late, Err(SinkError::Infrastructure(_))), "{late:?}");
    assert!(rebuild.standing().await.expect("reads").beyond(&lake(0)).is_empty());

    // As if it had been killed before it could take it back.
    let progress = fixture.database.collection::<Document>("_affluent_progress");
    let mut begun = progress.find_one(doc! {}).await.expect("reads").expect("is there");
    begun.insert("_id", "sales/1");
    begun.insert("generation", 0i64);
    begun.insert("state", "ready");
    progress.insert_one(begun).await.expect("inserts");
    rebuild.accept(&lake(0)).await.expect("takes it in");
    rebuild.clear().await.expect("clears");
    rebuild.publish().await.expect("publishes");
    let raised = progress
        .count_documents(doc! { "generation": 1i64, "state": "ready" })
        .await;
    assert_eq!(raised.expect("counts"), 2);
    fixture.end().await;
}
