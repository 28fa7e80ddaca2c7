use super::*;

const STORED: &str =
    "at timestamp!;site string!;value decimal(18,3);note string;count integer;by date,site at at in UTC";

fn schema(text: &str) -> StreamSchema {
    StreamSchema::parse(text).unwrap_or_else(|| panic!("no fingerprint: {text}"))
}

/// [`STORED`] with a part of it replaced.
fn edited(from: &str, to: &str) -> StreamSchema {
    assert!(STORED.contains(from), "{from}");
    schema(&STORED.replace(from, to))
}

fn judged(former: &[&str], declared: &StreamSchema) -> Result<Fit, Refusal> {
    let recorded = Recorded {
        schema: STORED,
        former: former.to_vec(),
    };
    judge(&recorded, &Declared::new(declared))
}

fn change(declared: &StreamSchema) -> Change {
    match judged(&[], declared) {
        Ok(Fit::Change(change)) => change,
        other => panic!("no change but {other:?}"),
    }
}

fn refusal(former: &[&str], declared: &StreamSchema) -> (Vec<(String, Remedy)>, Invariant) {
    let refusal = judged(former, declared).expect_err("refused");
    let Refusal::Incompatible(differences) = &refusal else {
        panic!("{refusal:?}")
    };
    let in_the_way = differences.iter().filter_map(|d| Some((d.column.clone(), d.remedy?)));
    let invariant = refusal.invariant("readings", "the table at /lake/readings", "in the table");
    (in_the_way.collect(), invariant)
}

fn refused(from: &str, to: &str) -> Vec<(String, Remedy)> {
    refusal(&[], &edited(from, to)).0
}

fn names(some: &[&str]) -> Vec<String> {
    some.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn the_schema_in_force_is_the_same() {
    assert_eq!(judged(&[], &schema(STORED)), Ok(Fit::Same));
}

#[test]
fn a_nullable_field_may_come_and_any_but_what_the_stream_stands_on_may_go() {
    let added = change(&edited("by ", "extra string;seen timestamp@ms;by "));
    assert_eq!(added.added, names(&["extra", "seen"]));
    assert_eq!((added.relaxed, added.removed), (vec![], vec![]));
    let removed = change(&edited("note string;", ""));
    assert_eq!((removed.added, removed.removed), (vec![], names(&["note"])));
}

#[test]
fn what_was_required_may_become_nullable_and_not_the_reverse() {
    assert_eq!(change(&edited("site string!", "site string")).relaxed, names(&["site"]));
    let refused = refused("note string", "note string!");
    assert_eq!(refused, [("note".to_owned(), Remedy::KeepNullable)]);
}

#[test]
fn several_changes_are_one() {
    let declared = edited(
        "site string!;value decimal(18,3);note string",
        "extra long;site string;value decimal(18,3)",
    );
    let change = change(&declared);
    assert_eq!(
        change.to_string(),
        "added: extra; no longer required: site; given up: note"
    );
}

#[test]
fn another_order_is_a_change_that_changes_no_column() {
    let change = change(&edited("note string;count integer", "count integer;note string"));
    assert_eq!(
        (change.to_string(), change),
        ("another order".to_owned(), Change::default())
    );
}

#[test]
fn a_new_required_field_is_refused_and_says_what_to_do() {
    let (in_the_way, invariant) = refusal(&[], &edited("by ", "extra string!;by "));
    assert_eq!(in_the_way, [("extra".to_owned(), Remedy::DeclareNullable)]);
    assert!(
        invariant.choices.contains("declare extra without `required`"),
        "{invariant}"
    );
}

#[test]
fn a_type_is_never_changed_in_place() {
    let one = |column: &str, remedy| vec![(column.to_owned(), remedy)];
    assert_eq!(refused("note string", "note long"), one("note", Remedy::AnotherName));
    assert_eq!(
        refused("count integer", "count short"),
        one("count", Remedy::AnotherName)
    );
    assert_eq!(
        refused("count integer", "count long"),
        one("count", Remedy::AnotherNameForWider)
    );
    let decimal = |to: &str| refused("decimal(18,3)", to);
    assert_eq!(decimal("decimal(20,3)"), one("value", Remedy::AnotherNameForWider));
    assert_eq!(decimal("decimal(20,5)"), one("value", Remedy::AnotherNameForWider));
    assert_eq!(
        decimal("decimal(18,5)"),
        one("value", Remedy::AnotherName),
        "fewer digits before the point"
    );
    assert_eq!(decimal("decimal(16,3)"), one("value", Remedy::AnotherName));
    let (_, invariant) = refusal(&[], &edited("count integer", "count long"));
    assert!(invariant.choices.contains("typeWidening"), "{invariant}");
}

#[test]
fn what_widens_is_what_delta_widens() {
    use FieldType::{Byte, Date, Double, Float, Integer, Long, Short, String, Timestamp};
    for (from, to) in [
        (Byte, Short),
        (Byte, Long),
        (Short, Integer),
        (Integer, Long),
        (Integer, Double),
        (Float, Double),
    ] {
        assert!(is_wider(from, to), "{from} {to}");
        assert!(!is_wider(to, from), "{to} {from}");
    }
    for (from, to) in [
        (Long, Double),
        (Long, Float),
        (Date, Timestamp),
        (Integer, String),
        (Long, Long),
    ] {
        assert!(!is_wider(from, to), "{from} {to}");
    }
}

#[test]
fn what_every_row_depends_on_is_never_changed() {
    let back = |column: &str| vec![(column.to_owned(), Remedy::ChangeBack)];
    assert_eq!(refused("in UTC", "in Europe/Paris"), back("timezone"));
    assert_eq!(refused("by date,site", "by site"), back("partition_by"));
    assert_eq!(refused("by date,site", "by site,date"), back("partition_by"));
    let two = schema("at timestamp!;seen timestamp!;by  at at in UTC");
    let other = schema("at timestamp!;seen timestamp!;by  at seen in UTC");
    let differences = compare(&[], &two, &other).expect_err("refused");
    assert_eq!(
        (differences[0].column.as_str(), differences[0].remedy),
        ("event_time", Some(Remedy::ChangeBack))
    );
    let unit = compare(
        &[],
        &schema("at timestamp!;by  at at in UTC"),
        &schema("at timestamp!@ms;by  at at in UTC"),
    );
    assert_eq!(unit.expect_err("refused")[0].remedy, Some(Remedy::AnotherName));
}

#[test]
fn a_field_that_was_given_up_comes_back_with_its_type_only() {
    let before = STORED.replace("count integer", "count integer;gone long;kept string!");
    let back = |fields: &str| edited("by ", &format!("{fields}by "));
    let Ok(Fit::Change(change)) = judged(&[&before], &back("gone long;kept string;")) else {
        panic!("refused")
    };
    assert_eq!(change.added, names(&["gone", "kept"]));
    let (in_the_way, invariant) = refusal(&[&before], &back("gone string;"));
    assert_eq!(in_the_way, [("gone".to_owned(), Remedy::AnotherName)]);
    assert!(
        invariant.what.contains("gone   | long, given up | string"),
        "{invariant}"
    );
    let (in_the_way, _) = refusal(&[&before], &back("kept string!;"));
    assert_eq!(in_the_way, [("kept".to_owned(), Remedy::DeclareNullable)]);
}

#[test]
fn a_former_declaration_is_an_instance_left_behind_unless_a_person_says_otherwise() {
    let former = STORED.replace("count integer;", "");
    let recorded = Recorded {
        schema: STORED,
        former: vec![&former],
    };
    let mut declared = Declared::new(&schema(&former));
    let refusal = judge(&recorded, &declared).expect_err("refused");
    assert!(matches!(refusal, Refusal::Former(_)));
    let text = refusal
        .invariant("readings", "the table at /lake/readings", "in the table")
        .to_string();
    assert!(
        text.contains("count  | integer      | -") && text.contains("--former-schema"),
        "{text}"
    );
    declared.may_be_former = true;
    let Ok(Fit::Change(change)) = judge(&recorded, &declared) else {
        panic!("refused")
    };
    assert_eq!(change.removed, names(&["count"]));
}

#[test]
fn a_person_cannot_overrule_what_the_rows_do_not_bear() {
    let former = STORED.replace("note string", "note string!");
    let recorded = Recorded {
        schema: STORED,
        former: vec![&former],
    };
    let declared = Declared {
        may_be_former: true,
        ..Declared::new(&schema(&former))
    };
    assert!(matches!(judge(&recorded, &declared), Err(Refusal::Incompatible(_))));
}

#[test]
fn the_memory_of_former_schemas_is_bounded_and_drops_none() {
    let former: Vec<String> = (0..MAX_FORMER)
        .map(|n| STORED.replace("note", &format!("note{n}")))
        .collect();
    let former: Vec<&str> = former.iter().map(String::as_str).collect();
    let declared = edited("note string", "extra string");
    assert!(matches!(judged(&former[1..], &declared), Ok(Fit::Change(_))));
    assert_eq!(judged(&former, &declared), Err(Refusal::TooMany));
}

#[test]
fn what_cannot_be_read_is_named() {
    let recorded = Recorded {
        schema: "nonsense",
        former: vec![],
    };
    let refusal = judge(&recorded, &Declared::new(&schema(STORED))).expect_err("refused");
    let text = refusal
        .invariant("readings", "the table at /lake/readings", "in the table")
        .to_string();
    assert!(text.contains("`nonsense`"), "{text}");
}

#[test]
fn a_refusal_shows_every_difference_in_a_table() {
    let declared = edited(
        "site string!;value decimal(18,3);note string",
        "site string;value decimal(18,2);extra long",
    );
    let (_, invariant) = refusal(&[], &declared);
    insta::assert_snapshot!(invariant.to_string(), @"
    the declared fields of stream readings do not fit the table at /lake/readings:
      column | in the table    | in the configuration
      site   | string required | string
      value  | decimal(18,3)   | decimal(18,2)
      note   | string          | -
      extra  | -               | long
     — declare value under another name, or begin a stream of another name
    ");
}

#[test]
fn a_former_schema_is_narrowed_to_what_is_declared_still() {
    let declared = schema("extra long;value decimal(18,3);site string;at timestamp!;by date,site at at in UTC");
    let narrowed = narrowed(&schema(STORED), &declared).expect("the stream stands on the same fields");
    let expected = "value decimal(18,3);site string!;at timestamp!;by date,site at at in UTC";
    assert_eq!(narrowed.fingerprint(), expected);
}

#[test]
fn each_offset_has_the_schema_that_was_in_force() {
    let timeline = Timeline::new(
        Epoch(1),
        [(Epoch(0), 99, "a"), (Epoch(1), 0, "b"), (Epoch(1), 10, "c")],
        "d",
    );
    let at: Vec<&str> = [0, 9, 10, 100].iter().map(|offset| *timeline.at(*offset)).collect();
    assert_eq!(at, ["c", "c", "d", "d"]);
    assert_eq!(timeline.former().collect::<Vec<_>>(), [&"b", &"c"]);
}
