//! What may be asked, what answers it, and how groups come together; the whole way is tested with a real MongoDB in
//! `tests/api.rs`.

use bson::{Bson, DateTime, Decimal128, Document, doc};
use chrono::Utc;
use proptest::prelude::*;

use super::answer::{Folding, pipeline};
use super::question::{Aggregate, Parameters, Records};
use super::source::choose;
use super::table::Table;
use crate::config::load::{ConfigArgs, load};
use crate::config::{Every, Measure, RollupConfig, StreamConfig};
use crate::rollup::Buckets;

const DAY: [(&str, &str); 2] = [("from", "2026-01-01T00:00:00Z"), ("to", "2026-01-02T00:00:00Z")];

/// The stream `sales` of the built-in configuration, with more of a file.
fn sales(more: &str) -> StreamConfig {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(&file, more).expect("writes");
    let args = ConfigArgs {
        config: Some(file.path().to_owned()),
        set: Vec::new(),
    };
    let config = load(&args).unwrap_or_else(|problems| panic!("{problems}"));
    config.streams.into_iter().next().expect("one stream")
}

fn with(more: &[(&str, &str)]) -> Parameters {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    DAY.iter().chain(more).map(own).collect()
}

fn ask(more: &[(&str, &str)]) -> Aggregate {
    Aggregate::parse(with(more), &sales("")).expect("may be asked")
}

/// The error's JSON, as text.
fn refused(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}

#[test]
fn a_question_is_read_with_its_types() {
    let question = ask(&[
        ("measures", "revenue,sales"),
        ("by", "product"),
        ("every", "1h"),
        ("filter", "region:Bretagne"),
        ("filter", "region:Île-de-France"),
        ("filter", "region:Bretagne"),
        ("filter", "category"),
        ("order", "-revenue"),
        ("limit", "7"),
    ]);
    assert_eq!((question.measures.len(), question.by.len(), question.limit), (2, 1, 7));
    assert_eq!(question.every, Some(Every::Seconds(3600)));
    assert_eq!(
        question.filters.0["region"],
        ["Bretagne".into(), Bson::from("Île-de-France")]
    );
    assert_eq!(question.filters.0["category"], [Bson::Null]);
    assert!(question.order.expect("given").descending);
    let records = Records::parse(vec![("filter".into(), "quantity:3".into())], &sales("")).expect("may be asked");
    assert_eq!(records.filters.0["quantity"], [Bson::Int64(3)]);
}

#[test]
fn what_is_not_understood_is_named() {
    let revenue = ("measures", "revenue");
    for (more, named) in [
        (vec![], "`measures` is required"),
        (vec![revenue, ("regoin", "x")], "regoin"),
        (vec![revenue, ("by", "town")], "town"),
        (vec![revenue, ("by", "region,region")], "each once"),
        (vec![revenue, ("filter", "town:x")], "town"),
        (vec![revenue, ("filter", "quantity:many")], "whole number"),
        (vec![revenue, ("filter", "amount:1.5")], "not possible"),
        (vec![revenue, ("every", "7m")], "divide a day"),
        (vec![revenue, ("order", "sales")], "no column"),
        (vec![revenue, ("limit", "0")], "`limit`"),
        (vec![revenue, ("limit", "1"), ("limit", "2")], "more than once"),
        (vec![revenue, ("from", "yesterday")], "more than once"),
    ] {
        let error = refused(Aggregate::parse(with(&more), &sales("")).expect_err(named));
        assert!(
            error.contains("BadParameter") && error.contains(named),
            "{named}: {error}"
        );
    }
    let backwards = vec![
        ("from".to_owned(), DAY[1].1.to_owned()),
        ("to".to_owned(), DAY[0].1.to_owned()),
        ("measures".to_owned(), "revenue".to_owned()),
    ];
    assert!(refused(Aggregate::parse(backwards, &sales("")).expect_err("ends before it begins")).contains("after"));
}

#[test]
fn the_cheapest_rollup_that_answers_exactly_is_asked() {
    let stream = sales("");
    let source = |more: &[(&str, &str)]| {
        let question = Aggregate::parse(with(more), &stream).expect("may be asked");
        choose(&question, &stream, Utc::now(), |_| None)
            .map(|rollup| rollup.name.clone())
            .map_err(refused)
    };
    let revenue = ("measures", "revenue");
    assert_eq!(source(&[revenue]).as_deref(), Ok("sales_by_product"));
    assert_eq!(source(&[revenue, ("every", "1h")]).as_deref(), Ok("sales_by_region"));
    assert_eq!(
        source(&[revenue, ("every", "5m"), ("by", "region")]).as_deref(),
        Ok("sales_by_minute")
    );
    let by_minute = source(&[revenue, ("every", "1m"), ("filter", "product:x")]).expect_err("only by region");
    for why in [
        "NotAnswerable",
        "sales_by_minute has no dimension product",
        "sales_by_hour has buckets of 1h",
    ] {
        assert!(by_minute.contains(why), "{by_minute}");
    }
    assert!(
        source(&[("measures", "profit")])
            .expect_err("no such measure")
            .contains("no measure profit")
    );
}

#[test]
fn where_sizes_are_known_the_smallest_is_asked() {
    let stream = sales("");
    let question = ask(&[("measures", "revenue"), ("by", "region")]);
    let source = |sizes: &[(&str, f64)]| {
        let size = |rollup: &RollupConfig| Some(sizes.iter().find(|(name, _)| *name == rollup.name)?.1);
        let chosen = choose(&question, &stream, Utc::now(), size).expect("answers");
        chosen.name.clone()
    };
    let known = [
        ("sales_by_region", 10.0),
        ("sales_by_day", 99.0),
        ("sales_by_hour", 20.0),
    ];
    assert_eq!(source(&known), "sales_by_region");
    assert_eq!(
        source(&[("sales_by_day", 9.0), ("sales_by_region", 10.0)]),
        "sales_by_day"
    );
    assert_eq!(source(&[]), "sales_by_day");
}

#[test]
fn one_name_for_two_measures_is_refused() {
    let mut stream = sales("");
    stream.rollups[0].measures.insert("revenue".to_owned(), Measure::Count);
    let choose = |measure| choose(&ask(&[("measures", measure)]), &stream, Utc::now(), |_| None).map(drop);
    assert_eq!(choose("sales").map_err(refused), Ok(()));
    let refused = refused(choose("revenue").expect_err("which one?"));
    assert!(refused.contains("sales_by_minute and sales_by_hour"), "{refused}");
}

#[test]
fn a_rollup_that_no_longer_has_the_beginning_is_not_asked() {
    let mut stream = sales("");
    stream.rollups.retain(|rollup| rollup.name == "sales_by_day");
    stream.rollups[0].expire_after = Some(std::time::Duration::from_secs(86_400));
    let question = Aggregate::parse(with(&[("measures", "revenue")]), &stream).expect("may be asked");
    let at = |seconds| {
        choose(
            &question,
            &stream,
            question.period.from + chrono::Duration::seconds(seconds),
            |_| None,
        )
    };
    assert!(at(86_399).is_ok());
    let gone = refused(at(86_400).expect_err("the first bucket may be gone"));
    assert!(gone.contains("keeps buckets for 1day"), "{gone}");
}

#[test]
fn an_edge_within_a_bucket_takes_a_finer_rollup_or_none() {
    let stream = sales("[[streams]]\npreset = \"sales\"\ntimezone = \"Europe/Paris\"\n");
    let source = |from: &str, more: &[(&str, &str)]| {
        let mut given = vec![
            ("from".to_owned(), from.to_owned()),
            ("to".to_owned(), "2026-06-30T22:00:00Z".to_owned()),
        ];
        given.extend(
            more.iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let question = Aggregate::parse(given, &stream).expect("may be asked");
        choose(&question, &stream, Utc::now(), |_| None)
            .map(|rollup| rollup.name.clone())
            .map_err(refused)
    };
    let revenue = ("measures", "revenue");
    // Midnight in Paris, midnight in UTC, and no whole hour.
    assert_eq!(
        source("2026-05-31T22:00:00Z", &[revenue]).as_deref(),
        Ok("sales_by_product")
    );
    assert_eq!(
        source("2026-06-01T00:00:00Z", &[revenue]).as_deref(),
        Ok("sales_by_region")
    );
    assert_eq!(
        source("2026-06-01T00:30:00Z", &[revenue]).as_deref(),
        Ok("sales_by_minute")
    );
    let within = source("2026-06-01T00:30:00Z", &[revenue, ("by", "product")]).expect_err("no minutes by product");
    assert!(
        within.contains("Europe/Paris") && within.contains("`from` lies within one"),
        "{within}"
    );
}

fn group(hour: u32, region: Option<&str>, revenue: &str, units: Option<i64>) -> Document {
    let t = chrono::DateTime::parse_from_rfc3339(&format!("2026-01-01T{hour:02}:00:00Z")).expect("a time");
    let revenue: Decimal128 = revenue.parse().expect("a number");
    // As MongoDB adds up what is nowhere.
    let (sum, most) = (units.unwrap_or(0), units.map_or(Bson::Null, Bson::Int64));
    doc! {
        "_id": { "t": DateTime::from_millis(t.timestamp_millis()), "region": region },
        "m0": revenue, "m1": sum, "n1": most,
    }
}

fn folded(question: &Aggregate, stream: &StreamConfig, rollup: &RollupConfig, groups: &[Document]) -> Table {
    let mut folding = Folding::new(question, stream, rollup);
    groups.iter().for_each(|group| folding.take(group).expect("a group"));
    folding.finish()
}

#[test]
fn groups_come_together_exactly_and_in_order() {
    let stream = sales("");
    let question = ask(&[
        ("measures", "revenue,units"),
        ("by", "region"),
        ("every", "12h"),
        ("order", "-revenue"),
    ]);
    let rollup = choose(&question, &stream, Utc::now(), |_| None).expect("answers");
    let groups = [
        group(0, Some("Bretagne"), "0.10", Some(1)),
        group(11, Some("Bretagne"), "90071992547409930.20", Some(2)),
        group(12, Some("Bretagne"), "5.00", None),
        group(3, None, "7.00", Some(0)),
    ];
    let answer = serde_json::to_value(folded(&question, &stream, rollup, &groups)).expect("JSON");
    insta::assert_snapshot!(serde_json::to_string_pretty(&answer).expect("JSON"));
    let mut short = question.clone();
    short.limit = 1;
    let short = folded(&short, &stream, rollup, &groups);
    assert!(!short.complete && short.rows.len() == 1);
}

#[test]
fn the_pipeline_asks_for_the_period_and_the_filters() {
    let stream = sales("");
    let question = ask(&[
        ("measures", "sales,units"),
        ("by", "product"),
        ("filter", "region:Corse"),
        ("filter", "region"),
    ]);
    let rollup = choose(&question, &stream, Utc::now(), |_| None).expect("answers");
    insta::assert_debug_snapshot!(pipeline(&question, &stream, rollup));
}

/// Each of its paths is routed, and each of an answer's columns is described: a real server shows in `tests/api.rs`.
#[test]
fn the_description_names_the_parameters_that_are_known() {
    let description: serde_json::Value = serde_json::from_str(include_str!("openapi.json")).expect("JSON");
    let named = |path: &str| -> Vec<String> {
        let parameters = description["paths"][path]["get"]["parameters"]
            .as_array()
            .expect("parameters");
        let name = |parameter: &serde_json::Value| match parameter["$ref"].as_str() {
            Some(reference) => reference.rsplit('/').next().expect("a name").to_owned(),
            None => parameter["name"].as_str().expect("a name").to_owned(),
        };
        parameters.iter().map(name).filter(|name| name != "stream").collect()
    };
    let known = |error: String| {
        let (_, known) = error.split_once("known are: ").expect("lists them");
        let (known, _) = known.split_once('"').expect("ends");
        known
            .split(", ")
            .map(str::to_owned)
            .collect::<std::collections::BTreeSet<_>>()
    };
    let unknown = vec![("x".to_owned(), String::new())];
    let aggregate = refused(Aggregate::parse(unknown.clone(), &sales("")).expect_err("unknown"));
    assert_eq!(
        known(aggregate),
        named("/streams/{stream}/aggregate").into_iter().collect()
    );
    let records = refused(Records::parse(unknown, &sales("")).expect_err("unknown"));
    assert_eq!(known(records), named("/streams/{stream}/records").into_iter().collect());
}

proptest! {
    /// A wider bucket is made of whole narrower ones, whatever the clocks of the zone do.
    #[test]
    fn buckets_are_nested(
        micros in -62_000_000_000_000_000i64..250_000_000_000_000_000,
        zone in proptest::sample::select(chrono_tz::TZ_VARIANTS.to_vec()),
        (narrow, wide) in proptest::sample::select(vec![
            (Every::Seconds(60), Every::Seconds(300)),
            (Every::Seconds(60), Every::Seconds(3600)),
            (Every::Seconds(3600), Every::Seconds(21_600)),
            (Every::Seconds(3600), Every::Day),
            (Every::Seconds(60), Every::Day),
        ]),
    ) {
        let start = Buckets::new(zone, narrow).start(micros);
        let mut wide = Buckets::new(zone, wide);
        prop_assert_eq!(wide.start(start), wide.start(micros));
    }
}
