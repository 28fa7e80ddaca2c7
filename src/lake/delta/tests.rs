//! The table against a store that loses replies, delays writes and lets others in between.

mod evolution;
pub(crate) mod faulty;
mod load;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use self::faulty::{Fault, Faulty};
use super::Table;
use super::actions::Add;
use super::commit::{Move, Proposal};
use super::names::CLOSED;
use super::spec::TableSpec;
use crate::error::SinkError;
use crate::lake::split::tests::schema;
use crate::lake::store::Store;
use crate::offsets::{Offset, Partition, Progress, TopicId};

const P0: Partition = Partition(0);
const P1: Partition = Partition(1);

fn topic() -> TopicId {
    TopicId("abcdefghijklmnopqrstuv".into())
}

fn log_file(version: u64) -> String {
    format!("_delta_log/{version:020}.json")
}

async fn open(objects: &Arc<Faulty>) -> Table {
    try_open(objects).await.expect("opens")
}

async fn try_open(objects: &Arc<Faulty>) -> Result<Table, SinkError> {
    let store = Store::from_objects(Arc::<Faulty>::clone(objects), "memory");
    Table::open_or_create(store, TableSpec::new("shop", "visits", "visits", &schema())).await
}

/// A table with partitions 0 and 1 at `start`: version 1.
async fn adopted(objects: &Arc<Faulty>, start: Offset) -> Table {
    let mut table = open(objects).await;
    let starts = Progress::from([(P0, start), (P1, start)]);
    let version = table.commit(&mut Proposal::adoption(&topic(), &starts)).await;
    assert_eq!(version.expect("adopts"), 1);
    table
}

fn add(name: &str) -> Add {
    Add {
        path: format!("date=2026-01-01/region=a/{name}.parquet"),
        partition_values: BTreeMap::from([
            ("date".to_owned(), Some("2026-01-01".to_owned())),
            ("region".to_owned(), Some("a".to_owned())),
        ]),
        size: 1,
        modification_time: 1,
        data_change: true,
        stats: r#"{"numRecords":1}"#.into(),
    }
}

/// One file that moves one partition.
fn proposal(partition: Partition, expected: Offset, target: Offset) -> Proposal {
    let change = Move {
        expected: Some(expected),
        target,
    };
    let file = add(&format!("{partition}-{expected}-{target}"));
    Proposal::data(
        &topic(),
        BTreeMap::from([(partition, change)]),
        vec![file],
        BTreeMap::new(),
    )
}

fn next(table: &Table, partition: Partition) -> Option<Offset> {
    let (_, recorded) = table.recorded(&topic()).expect("ours");
    recorded.get(&partition).map(|r| r.next)
}

/// Paths of all files the log adds, over all versions.
async fn files(objects: &Faulty) -> Vec<String> {
    let mut paths = Vec::new();
    for version in 0.. {
        let Some(text) = objects.text(&log_file(version)).await else {
            break;
        };
        for line in text.lines() {
            let action: serde_json::Value = serde_json::from_str(line).expect("JSON");
            paths.extend(action["add"]["path"].as_str().map(str::to_owned));
        }
    }
    paths
}

fn is_lost(result: &Result<u64, SinkError>, partition: Partition, expected: Offset, found: Offset) -> bool {
    matches!(result, Err(SinkError::Lost { partition: p, expected: e, found: Some(f) })
        if (*p, *e, *f) == (partition, expected, found))
}

fn a_compaction() -> String {
    let info = json!({"commitInfo": {"operation": "OPTIMIZE"}});
    let remove = json!({"remove": {"path": "x", "dataChange": false}});
    format!("{info}\n{remove}\n")
}

/// As another owner would write it.
fn a_move(partition: Partition, last: i64) -> String {
    let app_id = format!("affluent/shop/visits/{}/{partition}", topic());
    let info = json!({"commitInfo": {"affluent": {"commit": "theirs", "actions": 2}}});
    format!("{info}\n{}\n", json!({"txn": {"appId": app_id, "version": last}}))
}

#[tokio::test]
async fn the_first_version_carries_neither_data_nor_progress() {
    let objects = Faulty::new();
    let table = open(&objects).await;
    assert_eq!(table.version(), 0);
    let text = objects.text(&log_file(0)).await.expect("created");
    assert!(!text.contains("\"txn\"") && !text.contains("\"add\""), "{text}");
    assert!(table.recorded(&topic()).expect("ours").1.is_empty());
}

#[tokio::test]
async fn a_creation_whose_reply_was_lost_is_read_back_and_one_not_done_is_reported() {
    let objects = Faulty::new();
    objects.next_writes([Fault::ReplyLost]);
    assert_eq!(open(&objects).await.version(), 0);

    let objects = Faulty::new();
    objects.next_writes([Fault::NotDone]);
    assert!(matches!(try_open(&objects).await, Err(SinkError::Infrastructure(_))));
    assert_eq!(open(&objects).await.version(), 0);
}

#[tokio::test]
async fn of_two_creators_both_use_the_same_table() {
    let objects = Faulty::new();
    let theirs = {
        let scratch = Faulty::new();
        open(&scratch).await;
        scratch.text(&log_file(0)).await.expect("created")
    };
    objects.next_writes([Fault::Rival(theirs.clone())]);
    open(&objects).await;
    assert_eq!(objects.text(&log_file(0)).await, Some(theirs));
}

#[tokio::test]
async fn a_start_recorded_meanwhile_under_the_known_topic_id_is_not_recorded_again() {
    let objects = Faulty::new();
    // This owner has looked before the other one began, and was told no topic id.
    let mut late = open(&objects).await;
    let _first = adopted(&objects, 7).await;
    let mut adoption = Proposal::adoption(&TopicId::unknown(), &Progress::from([(P0, 9)]));
    let refused = late.commit(&mut adoption).await;
    assert!(
        matches!(
            refused,
            Err(SinkError::Lost {
                partition: P0,
                expected: 9,
                found: Some(7)
            })
        ),
        "{refused:?}"
    );
}

#[tokio::test]
async fn an_adopted_start_is_recorded_once_and_told_from_progress() {
    let objects = Faulty::new();
    let mut table = adopted(&objects, 7).await;
    let (_, recorded) = table.recorded(&topic()).expect("ours");
    assert_eq!((recorded[&P0].next, recorded[&P0].start), (7, Some(7)));
    let again = table
        .commit(&mut Proposal::adoption(&topic(), &Progress::from([(P0, 9)])))
        .await;
    assert!(is_lost(&again, P0, 9, 7), "{again:?}");
    table.commit(&mut proposal(P0, 7, 8)).await.expect("commits");
    let recorded = open(&objects).await.recorded(&topic()).expect("ours").1;
    assert_eq!((recorded[&P0].next, recorded[&P0].start), (8, Some(7)));
    assert!(!objects.text(&log_file(1)).await.expect("there").contains("lastUpdated"));
}

#[tokio::test]
async fn a_start_at_zero_is_a_record_too() {
    let objects = Faulty::new();
    let table = adopted(&objects, 0).await;
    assert_eq!(next(&table, P0), Some(0));
}

#[tokio::test]
async fn a_commit_whose_reply_was_lost_is_found_and_not_repeated() {
    let objects = Faulty::new();
    let mut table = adopted(&objects, 0).await;
    objects.next_writes([Fault::ReplyLost]);
    assert_eq!(table.commit(&mut proposal(P0, 0, 5)).await.expect("is there"), 2);
    assert_eq!(files(&objects).await.len(), 1);
    assert_eq!(next(&table, P0), Some(5));
}

#[tokio::test]
async fn event_times_come_with_the_commit_also_where_its_reply_was_lost() {
    let objects = Faulty::new();
    let mut ours = adopted(&objects, 0).await;
    let mut theirs = open(&objects).await;
    objects.next_writes([Fault::ReplyLost]);
    let times = |partition, highest| [(partition, highest)].into_iter().collect();
    ours.commit(&mut proposal(P0, 0, 5).reaching(times(P0, 50)))
        .await
        .expect("is there");
    theirs
        .commit(&mut proposal(P1, 0, 5).reaching(times(P1, 7)))
        .await
        .expect("commits");
    ours.refresh().await.expect("reads");
    for table in [&ours, &theirs, &open(&objects).await] {
        let times = table.event_times(&topic());
        assert_eq!((times.get(P0), times.get(P1)), (Some(50), Some(7)));
        assert!(table.event_times(&TopicId("another".into())).is_empty());
    }
}

#[tokio::test]
async fn an_event_time_in_the_log_never_falls() {
    let objects = Faulty::new();
    let mut table = adopted(&objects, 0).await;
    let times = |highest| [(P0, highest)].into_iter().collect();
    table
        .commit(&mut proposal(P0, 0, 5).reaching(times(50)))
        .await
        .expect("commits");
    table
        .commit(&mut proposal(P0, 5, 6).reaching(times(40)))
        .await
        .expect("commits");
    assert_eq!(open(&objects).await.event_times(&topic()).get(P0), Some(50));
}

#[tokio::test]
async fn a_commit_that_was_not_done_is_held_and_succeeds_when_called_again() {
    let objects = Faulty::new();
    let mut table = adopted(&objects, 0).await;
    let mut ours = proposal(P0, 0, 5);
    objects.next_writes([Fault::NotDone]);
    let held = table.commit(&mut ours).await;
    assert!(matches!(held, Err(SinkError::Infrastructure(_))), "{held:?}");
    assert_eq!(table.commit(&mut ours).await.expect("commits"), 2);
    assert_eq!(files(&objects).await.len(), 1);
}

#[tokio::test]
async fn an_unknown_outcome_stays_unknown_while_the_log_cannot_be_read() {
    let objects = Faulty::new();
    let mut table = adopted(&objects, 0).await;
    let mut ours = proposal(P0, 0, 5);
    objects.next_writes([Fault::Delayed]);
    table.commit(&mut ours).await.expect_err("held");
    objects.land().await;
    objects.fail_reads(1);
    let unread = table.commit(&mut ours).await;
    assert!(matches!(unread, Err(SinkError::Infrastructure(_))), "{unread:?}");
    assert_eq!(table.commit(&mut ours).await.expect("is there"), 2);
    assert_eq!(files(&objects).await.len(), 1);
}

#[tokio::test]
async fn a_delayed_commit_that_lands_before_the_second_try_counts_once() {
    let objects = Faulty::new();
    let mut table = adopted(&objects, 0).await;
    let mut ours = proposal(P0, 0, 5);
    objects.next_writes([Fault::Delayed]);
    table.commit(&mut ours).await.expect_err("held");
    assert_eq!(objects.land().await, 1);
    assert_eq!(table.commit(&mut ours).await.expect("is there"), 2);
    assert_eq!(files(&objects).await.len(), 1);
}

#[tokio::test]
async fn a_delayed_commit_that_lands_after_the_second_try_finds_its_version_taken() {
    let objects = Faulty::new();
    let mut table = adopted(&objects, 0).await;
    let mut ours = proposal(P0, 0, 5);
    objects.next_writes([Fault::Delayed]);
    table.commit(&mut ours).await.expect_err("held");
    table.commit(&mut ours).await.expect("commits");
    assert_eq!(objects.land().await, 0);
    assert_eq!(files(&objects).await.len(), 1);
}

#[tokio::test]
async fn a_commit_of_somebody_elses_in_between_is_read_and_ours_comes_after_it() {
    let objects = Faulty::new();
    let mut table = adopted(&objects, 0).await;
    objects.next_writes([Fault::Rival(a_compaction()), Fault::Rival(a_move(P1, 3))]);
    assert_eq!(table.commit(&mut proposal(P0, 0, 5)).await.expect("commits"), 4);
    assert_eq!((next(&table, P0), next(&table, P1)), (Some(5), Some(4)));
}

#[tokio::test]
async fn a_rival_who_moves_our_partition_in_between_wins() {
    let objects = Faulty::new();
    let mut table = adopted(&objects, 0).await;
    objects.next_writes([Fault::Rival(a_move(P0, 2))]);
    let lost = table.commit(&mut proposal(P0, 0, 5)).await;
    assert!(is_lost(&lost, P0, 0, 3), "{lost:?}");
    assert!(files(&objects).await.is_empty());
}

#[tokio::test]
async fn losing_one_partition_loses_the_whole_commit() {
    let objects = Faulty::new();
    let mut table = adopted(&objects, 0).await;
    let mut rival = open(&objects).await;
    rival.commit(&mut proposal(P1, 0, 2)).await.expect("commits");
    let moves = [(P0, 4), (P1, 2)].map(|(partition, target)| {
        let expected = Some(0);
        (partition, Move { expected, target })
    });
    let mut ours = Proposal::data(&topic(), BTreeMap::from(moves), vec![add("mixed")], BTreeMap::new());
    let lost = table.commit(&mut ours).await;
    assert!(is_lost(&lost, P1, 0, 2), "{lost:?}");
    assert_eq!(next(&table, P0), Some(0));
    assert_eq!(files(&objects).await.len(), 1);
}

#[tokio::test]
async fn an_owner_who_was_replaced_is_refused_even_where_it_would_end_at_the_same_offset() {
    let objects = Faulty::new();
    let mut zombie = adopted(&objects, 0).await;
    let mut owner = open(&objects).await;
    owner.commit(&mut proposal(P0, 0, 5)).await.expect("commits");
    for target in [3, 5, 9] {
        let lost = zombie.commit(&mut proposal(P0, 0, target)).await;
        assert!(is_lost(&lost, P0, 0, 5), "{target}: {lost:?}");
    }
    assert_eq!(files(&objects).await.len(), 1);
}

#[tokio::test]
async fn owners_of_different_partitions_share_a_table() {
    let objects = Faulty::new();
    let mut left = adopted(&objects, 0).await;
    let mut right = open(&objects).await;
    for n in 0..10 {
        left.commit(&mut proposal(P0, n, n + 1)).await.expect("commits");
        right.commit(&mut proposal(P1, n, n + 1)).await.expect("commits");
    }
    assert_eq!(files(&objects).await.len(), 20);
    assert_eq!(open(&objects).await.version(), 21);
}

#[tokio::test]
async fn another_known_topic_id_is_a_recreated_topic_and_an_unknown_one_is_none() {
    let objects = Faulty::new();
    let table = adopted(&objects, 3).await;
    let other = TopicId("zzzzzzzzzzzzzzzzzzzzzz".into());
    let Err(SinkError::Invariant(stop)) = table.recorded(&other) else {
        panic!("a re-created topic must stop the stream");
    };
    assert!(stop.what.contains(&other.0) && stop.what.contains(&topic().0), "{stop}");
    let (effective, recorded) = table.recorded(&TopicId::unknown()).expect("goes on");
    assert_eq!((effective, recorded[&P0].next), (topic(), 3));
}

#[tokio::test]
async fn a_table_begun_under_the_unknown_topic_id_keeps_it() {
    let objects = Faulty::new();
    let mut table = open(&objects).await;
    let starts = Progress::from([(P0, 4)]);
    let mut adoption = Proposal::adoption(&TopicId::unknown(), &starts);
    table.commit(&mut adoption).await.expect("adopts");
    let (effective, recorded) = table.recorded(&topic()).expect("goes on");
    assert_eq!((effective, recorded[&P0].next), (TopicId::unknown(), 4));
}

#[tokio::test]
async fn a_closed_topic_id_keeps_no_partition_of_its_successor_from_beginning() {
    let objects = Faulty::new();
    let mut table = open(&objects).await;
    let mut adoption = Proposal::adoption(&TopicId::unknown(), &Progress::from([(P0, 4)]));
    table.commit(&mut adoption).await.expect("adopts");
    let app_id = format!("affluent/shop/visits/{}/{P0}", TopicId::UNKNOWN);
    let info = json!({"commitInfo": {"affluent": {"commit": "theirs", "actions": 2}}});
    let closing = json!({"txn": {"appId": app_id, "version": CLOSED}});
    objects.set(&log_file(2), &format!("{info}\n{closing}\n")).await;
    let mut adoption = Proposal::adoption(&topic(), &Progress::from([(P1, 0)]));
    assert_eq!(table.commit(&mut adoption).await.expect("adopts"), 3);
    assert_eq!((next(&table, P0), next(&table, P1)), (None, Some(0)));
}
