use std::collections::BTreeSet;
use std::str::FromStr;

use bson::{Bson, DateTime, Decimal128, Document, RawDocumentBuf, doc};

use super::*;
use crate::config::StreamConfig;
use crate::rollup::Buckets;
use crate::verify::testing::{row, stream};

const HOUR_MS: i64 = 3_600_000;

/// Three rows of one hour: two of Corse, one without a region.
fn rows(stream: &StreamConfig) -> Vec<Row> {
    [
        r#"{"at":"1970-01-01T00:10:00Z","region":"Corse","amount":1.5,"quantity":2,"ratio":0.1}"#,
        r#"{"at":"1970-01-01T00:59:59.9Z","region":"Corse","amount":0.25,"quantity":3,"ratio":0.2}"#,
        r#"{"at":"1970-01-01T00:00:00Z","region":""}"#,
    ]
    .iter()
    .zip(0..)
    .map(|(payload, offset)| row(stream, offset, payload))
    .collect()
}

fn money(text: &str) -> Decimal128 {
    Decimal128::from_str(text).unwrap()
}

/// The documents those rows make.
fn documents() -> Vec<Document> {
    let t = DateTime::from_millis(0);
    vec![
        doc! { "_id": { "t": t, "region": "Corse" }, "t": t, "region": "Corse", "cheapest": money("0.25"),
        "mean_sum": 5i64, "mean_count": 2i64, "readings": 2i64, "revenue": money("1.75"), "total_ratio": 0.1 + 0.2 },
        doc! { "_id": { "t": t, "region": Bson::Null }, "t": t, "region": Bson::Null, "readings": 1i64 },
    ]
}

fn compare(documents: &[Document]) -> RollupTally {
    compare_at(documents, None, 0)
}

fn compare_at(documents: &[Document], expire_after: Option<std::time::Duration>, now_ms: i64) -> RollupTally {
    let mut stream = stream();
    stream.rollups[0].expire_after = expire_after;
    let mut recomputed = Recomputed::new(&stream.schema, &stream.rollups[0]);
    rows(&stream).iter().for_each(|row| recomputed.add(row));
    recomputed.compare(
        documents
            .iter()
            .map(|document| RawDocumentBuf::try_from(document).unwrap()),
        chrono::DateTime::from_timestamp_millis(now_ms).unwrap(),
    )
}

/// Sets one field of the first document, and expects that one field to be found unequal.
fn unequal_field(name: &str, value: impl Into<Bson>) -> Difference {
    let mut documents = documents();
    documents[0].insert(name, value);
    let tally = compare(&documents);
    assert_eq!(
        (tally.missing.count, tally.foreign.count, tally.unequal.count),
        (0, 0, 1)
    );
    let (_, differences) = &tally.unequal.examples[0];
    assert_eq!(differences.len(), 1, "{differences:?}");
    differences[0].clone()
}

#[test]
fn documents_that_add_up_hold() {
    let tally = compare(&documents());
    assert!(tally.holds(), "{tally:?}");
    assert_eq!(tally.groups, 2);
}

#[test]
fn each_measure_that_is_off_is_named_with_both_values() {
    let off = unequal_field("revenue", money("1.76"));
    assert_eq!((off.field.as_str(), off.expected.as_str()), ("revenue", "1.75"));
    assert_eq!(unequal_field("readings", 3i64).field, "readings");
    assert_eq!(unequal_field("readings", 2i32).field, "readings", "a count is an int64");
    assert_eq!(unequal_field("cheapest", money("1.50")).field, "cheapest");
    assert_eq!(unequal_field("mean_sum", 6i64).field, "mean_sum");
    assert_eq!(unequal_field("mean_count", 3i64).field, "mean_count");
    assert_eq!(unequal_field("total_ratio", 0.3000001).field, "total_ratio");
    assert_eq!(unequal_field("region", "Bretagne").field, "region");
    assert_eq!(unequal_field("t", DateTime::from_millis(1)).field, "t");
    assert_eq!(unequal_field("stranger", 1i64).expected, "nothing");
}

#[test]
fn equal_values_in_another_guise_are_equal() {
    let mut documents = documents();
    documents[0].insert("revenue", money("1.7500"));
    documents[0].insert("total_ratio", 0.3);
    documents[1].insert("mean_count", 0i64);
    let tally = compare(&documents);
    assert!(tally.holds(), "{tally:?}");
}

#[test]
fn a_measure_that_is_not_there_is_unequal() {
    let mut documents = documents();
    documents[0].remove("revenue");
    let tally = compare(&documents);
    assert_eq!(tally.unequal.count, 1);
    assert_eq!(tally.unequal.examples[0].1[0].found, "nothing");
}

#[test]
fn a_group_without_a_document_is_missing() {
    let tally = compare(&documents()[..1]);
    assert_eq!((tally.missing.count, tally.unequal.count), (1, 0));
    assert_eq!(tally.missing.examples, ["1970-01-01T00:00:00Z, region null"]);
}

#[test]
fn a_bucket_counts_until_it_may_be_deleted() {
    let hour = Some(std::time::Duration::from_millis(HOUR_MS as u64));
    let mut piece = documents();
    piece[0].insert("readings", 1i64);
    let before = compare_at(&piece[..1], hour, HOUR_MS - 1);
    assert_eq!((before.groups, before.missing.count, before.unequal.count), (2, 1, 1));
    let after = compare_at(&piece[..1], hour, HOUR_MS);
    assert!(after.holds() && after.groups == 0, "{after:?}");
}

#[test]
fn a_document_without_a_group_is_foreign() {
    let t = DateTime::from_millis(HOUR_MS);
    for id in [
        doc! { "_id": { "t": t, "region": "Corse" } },
        doc! { "_id": { "region": "Corse", "t": DateTime::from_millis(0) } },
        doc! { "_id": { "t": DateTime::from_millis(0) } },
        doc! { "_id": 5 },
    ] {
        let mut documents = documents();
        documents.push(id);
        let tally = compare(&documents);
        assert_eq!(
            (tally.foreign.count, tally.missing.count, tally.unequal.count),
            (1, 0, 0)
        );
    }
}

fn start(zone: Tz, every: Every, at: &str) -> String {
    let start = bucket_start_ms(time::timestamp(at).unwrap(), every, zone).unwrap();
    show(Some(&Value::Timestamp(start * 1000)))
}

/// Two ways of reckoning, around everything that a zone's clock has done in a century. Equal jumps at an equal time of
/// day are looked at once.
#[test]
fn the_write_path_has_the_same_buckets() {
    const SECOND: i64 = 1_000_000;
    const HOUR: i64 = 3600 * SECOND;
    let (from, to) = (
        time::timestamp("1940-01-01T00:00:00Z").unwrap(),
        time::timestamp("2040-01-01T00:00:00Z").unwrap(),
    );
    let widths = [60, 900, 3600, 21_600, 43_200].map(Every::Seconds);
    let offset = |zone: Tz, at: i64| time::local(at, zone).unwrap().and_utc().timestamp_micros() - at;
    let mut jumps = BTreeSet::new();
    for zone in chrono_tz::TZ_VARIANTS {
        let mut buckets: Vec<(Every, Buckets)> = widths
            .into_iter()
            .chain([Every::Day])
            .map(|every| (every, Buckets::new(zone, every)))
            .collect();
        let mut at = from;
        while at < to {
            let next = at + 24 * HOUR;
            let (old, new) = (offset(zone, at), offset(zone, next));
            if old != new {
                let (mut before, mut after) = (at, next);
                while after - before > SECOND {
                    let middle = before + (after - before) / 2 / SECOND * SECOND;
                    match offset(zone, middle) == old {
                        true => before = middle,
                        false => after = middle,
                    }
                }
                if !jumps.insert((old, new, after.rem_euclid(24 * HOUR))) {
                    at = next;
                    continue;
                }
                // To the second around the jump, then every hour until the day after it is over.
                let near = [-3600, -1800, -1, 0, 1, 1799, 1800, 3599, 3600, 7200].map(|s| after + s * SECOND);
                let far = (-30..=50).map(|n| after + n * HOUR + 61 * SECOND);
                for instant in near.into_iter().chain(far) {
                    for (every, buckets) in &mut buckets {
                        let ours = bucket_start_ms(instant, *every, zone).unwrap();
                        assert_eq!(buckets.start(instant) / 1000, ours, "{zone} {every:?} at {instant}");
                    }
                }
            }
            at = next;
        }
    }
    assert!(jumps.len() > 100, "only {} kinds of jumps seen", jumps.len());
}

#[test]
fn buckets_follow_the_zones_clock_over_its_jumps() {
    let (hour, day) = (Every::Seconds(3600), Every::Day);
    assert_eq!(
        start(Tz::UTC, Every::Seconds(60), "1969-12-31T23:59:59.5Z"),
        "1969-12-31T23:59:00Z"
    );
    assert_eq!(
        start(Tz::Europe__Paris, day, "2024-06-30T22:30:00Z"),
        "2024-06-30T22:00:00Z"
    );
    assert_eq!(
        start(Tz::Asia__Kolkata, hour, "2024-01-01T10:20:00Z"),
        "2024-01-01T09:30:00Z"
    );
    // Paris puts the clock back at 01:00Z: 02:00–03:00 comes twice.
    assert_eq!(
        start(Tz::Europe__Paris, hour, "2024-10-27T00:30:00Z"),
        "2024-10-27T00:00:00Z"
    );
    assert_eq!(
        start(Tz::Europe__Paris, hour, "2024-10-27T01:30:00Z"),
        "2024-10-27T01:00:00Z"
    );
    // And forward at 01:00Z: 02:00–03:00 does not come, so a bucket from 02:00 to 04:00 begins at 03:00.
    assert_eq!(
        start(Tz::Europe__Paris, Every::Seconds(7200), "2024-03-31T01:30:00Z"),
        "2024-03-31T01:00:00Z"
    );
    // Midnight comes twice in the Azores; the day begins with the first.
    assert_eq!(
        start(Tz::Atlantic__Azores, day, "2024-10-27T00:30:00Z"),
        "2024-10-27T00:00:00Z"
    );
    assert_eq!(
        start(Tz::Atlantic__Azores, day, "2024-10-27T12:00:00Z"),
        "2024-10-27T00:00:00Z"
    );
    // And not at all in Beirut on the day the clock goes forward.
    assert_eq!(
        start(Tz::Asia__Beirut, day, "2024-03-31T12:00:00Z"),
        "2024-03-30T22:00:00Z"
    );
}
