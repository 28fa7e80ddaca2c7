use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use chrono_tz::Tz;

use super::*;
use crate::schema::{Field, FieldType};

const MINUTE: i64 = 60_000_000;

fn schema() -> StreamSchema {
    let field = |name: &str, ty, required| Field {
        name: name.into(),
        ty,
        required,
        unit: None,
    };
    StreamSchema::new(
        vec![
            field("at", FieldType::Timestamp, true),
            field("site", FieldType::String, false),
            field(
                "amount",
                FieldType::Decimal {
                    precision: 34,
                    scale: 2,
                },
                false,
            ),
            field("units", FieldType::Long, false),
            field("heat", FieldType::Double, false),
        ],
        0,
        vec![],
        Tz::UTC,
    )
}

type Row<'a> = (i64, Option<&'a str>, Option<i128>, Option<i64>, Option<f64>);

fn batch(rows: &[Row<'_>]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|r| r.0)).with_timezone("UTC")),
        Arc::new(rows.iter().map(|r| r.1).collect::<StringArray>()),
        Arc::new(
            rows.iter()
                .map(|r| r.2)
                .collect::<Decimal128Array>()
                .with_precision_and_scale(34, 2)
                .expect("a valid decimal type"),
        ),
        Arc::new(rows.iter().map(|r| r.3).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| r.4).collect::<Float64Array>()),
        Arc::new(Int64Array::from_iter_values(0..rows.len() as i64)),
        Arc::new(TimestampMicrosecondArray::from(vec![None; rows.len()]).with_timezone("UTC")),
    ];
    RecordBatch::try_new(schema().arrow().clone(), columns).expect("columns match the schema")
}

fn config(name: &str, by: &[usize], measures: &[(&str, Measure)]) -> RollupConfig {
    RollupConfig {
        name: name.into(),
        every: Every::Seconds(60),
        by: by.to_vec(),
        measures: measures
            .iter()
            .map(|(n, m)| ((*n).to_owned(), *m))
            .collect::<BTreeMap<_, _>>(),
        expire_after: None,
    }
}

fn run(config: &RollupConfig, batches: &[RecordBatch]) -> Result<Vec<Increment>, Overflow> {
    let rollup = Rollup::new(config, &schema());
    increments(&[rollup], batches).map(|mut all| all.remove(0))
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn cents(unscaled: i128) -> Option<Value> {
    Some(Value::Decimal { unscaled, scale: 2 })
}

#[test]
fn rows_are_added_up_per_bucket_and_dimension_over_all_batches() {
    let config = config(
        "r",
        &[1],
        &[
            ("n", Measure::Count),
            ("total", Measure::Sum(2)),
            ("units", Measure::Sum(3)),
        ],
    );
    let batches = [
        batch(&[
            (1, Some("b"), Some(150), Some(1), None),
            (2, Some("a"), Some(-50), Some(2), None),
        ]),
        batch(&[
            (3, Some("b"), Some(25), None, None),
            (MINUTE, Some("b"), Some(1), Some(7), None),
        ]),
    ];
    let got = run(&config, &batches).expect("no overflow");
    let expected = vec![
        Increment {
            start: 0,
            dimensions: vec![text("a")],
            measures: vec![Some(Value::Long(1)), cents(-50), Some(Value::Long(2))],
        },
        Increment {
            start: 0,
            dimensions: vec![text("b")],
            measures: vec![Some(Value::Long(2)), cents(175), Some(Value::Long(1))],
        },
        Increment {
            start: MINUTE,
            dimensions: vec![text("b")],
            measures: vec![Some(Value::Long(1)), cents(1), Some(Value::Long(7))],
        },
    ];
    assert_eq!(got, expected);
}

#[test]
fn a_null_dimension_is_a_value_and_a_measure_over_only_nulls_is_absent() {
    let config = config(
        "r",
        &[1],
        &[
            ("avg", Measure::Avg(3)),
            ("low", Measure::Min(2)),
            ("n", Measure::Count),
        ],
    );
    let got = run(
        &config,
        &[batch(&[(0, None, None, None, None), (1, None, None, None, None)])],
    )
    .expect("no overflow");
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].dimensions, [Value::Null]);
    assert_eq!(got[0].measures, [None, None, None, Some(Value::Long(2))]);
}

#[test]
fn avg_keeps_a_sum_and_the_number_of_values_it_came_from() {
    let config = config("r", &[], &[("heat", Measure::Avg(4))]);
    let rollup = Rollup::new(&config, &schema());
    let names: Vec<_> = rollup.outputs.iter().map(|o| (o.name.as_str(), o.operator)).collect();
    assert_eq!(names, [("heat_sum", Operator::Add), ("heat_count", Operator::Add)]);
    let rows = [
        (0, None, None, None, Some(1.5)),
        (1, None, None, None, None),
        (2, None, None, None, Some(2.0)),
    ];
    let got = run(&config, &[batch(&rows)]).expect("no overflow");
    assert_eq!(got[0].measures, [Some(Value::Double(3.5)), Some(Value::Long(2))]);
}

#[test]
fn extremes_keep_their_type() {
    let config = config(
        "r",
        &[],
        &[
            ("first", Measure::Min(0)),
            ("high", Measure::Max(2)),
            ("least", Measure::Min(3)),
            ("warm", Measure::Max(4)),
        ],
    );
    let rows = [
        (7, None, Some(-3), Some(9), Some(-1.0)),
        (5, None, Some(-4), Some(8), Some(-2.0)),
    ];
    let got = run(&config, &[batch(&rows)]).expect("no overflow");
    assert_eq!(
        got[0].measures,
        [
            Some(Value::Instant(5)),
            cents(-3),
            Some(Value::Long(8)),
            Some(Value::Double(-1.0))
        ]
    );
}

#[test]
fn a_sum_that_cannot_be_stored_exactly_is_an_error_that_names_it() {
    let longs = config("r", &[], &[("units", Measure::Sum(3))]);
    let rows = [(0, None, None, Some(i64::MAX), None), (0, None, None, Some(1), None)];
    let overflow = Overflow {
        rollup: "r".into(),
        measure: "units".into(),
    };
    assert_eq!(run(&longs, &[batch(&rows)]), Err(overflow));

    let largest = 10i128.pow(34) - 1;
    let decimals = config("r", &[], &[("total", Measure::Sum(2))]);
    assert!(run(&decimals, &[batch(&[(0, None, Some(largest), None, None)])]).is_ok());
    let rows = [(0, None, Some(largest), None, None), (0, None, Some(1), None, None)];
    assert!(run(&decimals, &[batch(&rows)]).is_err());
}

#[test]
fn the_order_of_increments_does_not_depend_on_the_order_of_rows() {
    let config = config("r", &[1, 3], &[("n", Measure::Count)]);
    let mut rows: Vec<(i64, Option<String>, i64)> = (0..500)
        .map(|i| (i % 3 * MINUTE, (i % 7 > 0).then(|| format!("s{}", i % 7)), i % 5))
        .collect();
    let build = |rows: &[(i64, Option<String>, i64)]| {
        let rows: Vec<Row<'_>> = rows
            .iter()
            .map(|r| (r.0, r.1.as_deref(), None, Some(r.2), None))
            .collect();
        run(&config, &[batch(&rows)]).expect("no overflow")
    };
    let forward = build(&rows);
    rows.reverse();
    assert_eq!(forward, build(&rows));
    assert_eq!(forward.len(), 3 * 7 * 5);
}

#[test]
fn no_rows_make_no_increments() {
    let config = config("r", &[1], &[("total", Measure::Sum(2)), ("n", Measure::Count)]);
    assert_eq!(run(&config, &[]), Ok(vec![]));
    assert_eq!(run(&config, &[batch(&[])]), Ok(vec![]));
}

#[test]
fn the_fingerprint_names_everything_that_changes_the_aggregate() {
    let schema = schema();
    let one = config("r", &[1], &[("n", Measure::Count), ("x", Measure::Avg(4))]);
    assert_eq!(
        fingerprint(std::slice::from_ref(&one), &schema),
        "r every 60s by site: n=count() x=avg(heat)"
    );
    let mut daily = one.clone();
    daily.every = Every::Day;
    assert_ne!(
        fingerprint(std::slice::from_ref(&one), &schema),
        fingerprint(&[daily], &schema)
    );
    assert_eq!(fingerprint(&[], &schema), "");
}
