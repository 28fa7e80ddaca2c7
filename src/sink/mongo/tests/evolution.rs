//! A changed declaration beside an owner that still has the former one.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use bson::{Document, doc};

use super::support::*;
use crate::config::StreamConfig;
use crate::error::SinkError;
use crate::offsets::{Offset, Partition};
use crate::schema::{Field, FieldType, StreamSchema};
use crate::sink::Sink;
use crate::sink::mongo::document::Encoder;
use crate::sink::mongo::{MongoSink, read_progress};

/// The fixture's stream with a field more.
fn grown(fixture: &Fixture) -> StreamConfig {
    let former = &fixture.stream.schema;
    let mut fields = former.fields.clone();
    fields.push(Field {
        name: "extra".into(),
        ty: FieldType::String,
        required: false,
        unit: None,
    });
    let schema = StreamSchema::new(fields, former.event_time, former.partition_by.clone(), former.timezone);
    StreamConfig {
        schema: Arc::new(schema),
        ..fixture.stream.clone()
    }
}

/// The same records with that field.
fn grown_rows(stream: &StreamConfig, rows: &RecordBatch) -> RecordBatch {
    let mut columns = rows.columns().to_vec();
    let extra: ArrayRef = Arc::new(StringArray::from(vec!["more"; rows.num_rows()]));
    columns.insert(stream.schema.fields.len() - 1, extra);
    RecordBatch::try_new(stream.schema.arrow().clone(), columns).expect("columns match the schema")
}

async fn owner(stream: &StreamConfig) -> MongoSink {
    let mut sink = MongoSink::connect("shop", stream).await.expect("a replica set");
    sink.evolve().await.expect("compatible");
    take_over(&mut sink, &[0]).await;
    sink
}

async fn store_grown(
    sink: &mut MongoSink,
    stream: &StreamConfig,
    (start, end): (Offset, Offset),
) -> Result<u64, SinkError> {
    let rows = grown_rows(stream, &rows(0, start..end));
    let stored = store(sink, &batch_of(rows, 0, start, end)).await;
    stored.map(|summary| summary.rows)
}

/// As an owner with that declaration leaves them that dies before its transaction.
async fn insert(fixture: &Fixture, stream: &StreamConfig, rows: &RecordBatch) {
    let encoder = Encoder::new(&stream.schema);
    let written = encoder.rows(rows);
    let documents = (0..rows.num_rows()).map(|row| {
        let mut bytes = Vec::new();
        written.append(row, &mut bytes);
        bson::RawDocumentBuf::from_bytes(bytes).expect("framed")
    });
    let collection = fixture.database.collection::<bson::RawDocumentBuf>(STREAM);
    collection.insert_many(documents).await.expect("inserted");
}

async fn with_extra(fixture: &Fixture) -> u64 {
    let extra = doc! { "extra": "more" };
    fixture
        .documents()
        .count_documents(extra)
        .await
        .expect("the server answers")
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn the_fingerprint_moves_with_the_place_where_each_partition_stood() {
    let fixture = Fixture::new("evolve").await;
    let mut old = fixture.owner(&[0, 1]).await;
    store(&mut old, &batch(0, 0, 10)).await.expect("stored");
    store(&mut old, &batch(1, 0, 3)).await.expect("stored");
    let stream = grown(&fixture);
    let mut sink = MongoSink::connect("shop", &stream).await.expect("a replica set");
    sink.progress(&topic_id(), &[Partition(0)])
        .await
        .expect("it may become ours");
    let change = sink.evolve().await.expect("compatible").expect("a change");
    assert_eq!(change.added, ["extra"]);
    assert_eq!(sink.evolve().await.expect("in force"), None);
    let stored = read_progress(&fixture.stream.mongo, STREAM).await.expect("readable");
    let seen: Vec<_> = (stored.iter())
        .map(|document| {
            (
                document.schema.as_str(),
                document.next,
                document.former_schemas[0].until,
            )
        })
        .collect();
    let fingerprint = stream.schema.fingerprint();
    assert_eq!(seen, [(fingerprint.as_str(), 10, 10), (fingerprint.as_str(), 3, 3)]);
    let refused = store(&mut old, &batch(0, 10, 20)).await.expect_err("refused");
    assert!(refused.to_string().contains("had before"), "{refused}");
    let text = fixture.sink().await.evolve().await.expect_err("refused").to_string();
    assert!(text.contains("extra") && text.contains("--former-schema"), "{text}");
    fixture.end().await;
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn nothing_is_committed_before_the_declaration_is_in_force() {
    let fixture = Fixture::new("unevolved").await;
    store(&mut fixture.owner(&[0]).await, &batch(0, 0, 10))
        .await
        .expect("stored");
    let stream = grown(&fixture);
    let mut sink = MongoSink::connect("shop", &stream).await.expect("a replica set");
    take_over(&mut sink, &[0]).await;
    let refused = store_grown(&mut sink, &stream, (10, 20)).await;
    assert!(matches!(refused, Err(SinkError::Lost { .. })), "{refused:?}");
    assert_eq!(fixture.next(0).await, 10);
    fixture.end().await;
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn documents_that_a_former_owner_inserts_late_are_replaced_and_count_once() {
    let fixture = Fixture::new("late").await;
    store(&mut fixture.owner(&[0]).await, &batch(0, 0, 10))
        .await
        .expect("stored");
    let stream = grown(&fixture);
    let mut sink = owner(&stream).await;
    insert(&fixture, &fixture.stream, &rows(0, 10..3_000)).await;
    assert_eq!(
        store_grown(&mut sink, &stream, (10, 4_000)).await.expect("stored"),
        3_990
    );
    assert_eq!((fixture.count().await, with_extra(&fixture).await), (4_000, 3_990));
    assert_eq!(fixture.totals().await, (4_000, "6000.00".into()));
    // Good records to the former declaration, rejected by the present one.
    insert(&fixture, &fixture.stream, &rows(0, 4_000..4_010)).await;
    assert_eq!(fixture.count().await, 4_010);
    let none = grown_rows(&stream, &rows(0, 0..0));
    store(&mut sink, &batch_of(none, 0, 4_000, 4_020))
        .await
        .expect("stored");
    assert_eq!((fixture.count().await, fixture.next(0).await), (4_000, 4_020));
    assert_eq!(fixture.totals().await, (4_000, "6000.00".into()));
    fixture.end().await;
}

#[tokio::test]
#[ignore = "needs AFFLUENT_TEST_MONGO"]
async fn a_foreign_document_is_no_former_owners() {
    let fixture = Fixture::new("foreign_former").await;
    store(&mut fixture.owner(&[0]).await, &batch(0, 0, 10))
        .await
        .expect("stored");
    let stream = grown(&fixture);
    let mut sink = owner(&stream).await;
    insert(&fixture, &fixture.stream, &rows(0, 10..11)).await;
    let other = doc! { "$set": { "product": "another" } };
    fixture
        .documents()
        .update_one(doc! { "_id": 10i64 }, other)
        .await
        .expect("updated");
    let refused = store_grown(&mut sink, &stream, (10, 20)).await.expect_err("refused");
    assert!(refused.to_string().contains("differ from the records"), "{refused}");
    fixture
        .documents()
        .delete_many(doc! { "_id": { "$gte": 10i64 } })
        .await
        .expect("deleted");

    let mut sink = owner(&stream).await;
    let alien = doc! { "_id": 15i64, "anything": 1 };
    fixture.documents().insert_one(alien).await.expect("inserted");
    let none = grown_rows(&stream, &rows(0, 0..0));
    let refused = store(&mut sink, &batch_of(none, 0, 10, 20)).await.expect_err("refused");
    assert!(refused.to_string().contains("remove its documents"), "{refused}");
    let kept: Option<Document> = fixture
        .documents()
        .find_one(doc! { "_id": 15i64 })
        .await
        .expect("an answer");
    assert!(kept.is_some());
    fixture.end().await;
}
