//! A changed declaration: what it makes of the columns, and its commit among others' and in doubt.

use serde_json::Value;

use super::*;
use crate::lake::delta::evolution::{FORMER, Former, former_schemas};
use crate::lake::delta::spec::Column;
use crate::offsets::Epoch;
use crate::schema::StreamSchema;
use crate::schema::evolution::{Change, Fit};

/// The schema of these tests with one part of its fingerprint replaced.
fn edited(from: &str, to: &str) -> StreamSchema {
    let text = schema().fingerprint();
    assert!(text.contains(from), "{from} in {text}");
    StreamSchema::parse(&text.replace(from, to)).expect("a fingerprint")
}

/// With a field more.
fn grown() -> StreamSchema {
    edited("note string;", "note string;extra long;")
}

async fn open_as(objects: &Arc<Faulty>, schema: &StreamSchema) -> Result<Table, SinkError> {
    let store = Store::from_objects(Arc::<Faulty>::clone(objects), "memory");
    Table::open_or_create(store, TableSpec::new("shop", "visits", "visits", schema)).await
}

fn columns(table: &Table) -> Vec<Column> {
    super::super::spec::columns(&table.log.metadata).expect("readable")
}

fn nullable(table: &Table) -> BTreeMap<String, bool> {
    columns(table)
        .into_iter()
        .map(|column| (column.name, column.nullable))
        .collect()
}

fn former(table: &Table) -> Vec<Former> {
    former_schemas("memory", &table.log.metadata).expect("readable")
}

/// Another engine's change of the columns, in the next version.
async fn alter(objects: &Faulty, table: &Table, change: impl FnOnce(&mut Vec<Value>)) {
    let mut metadata = table.log.metadata.clone();
    let mut schema: Value = serde_json::from_str(&metadata.schema_string).expect("JSON");
    change(schema["fields"].as_array_mut().expect("fields"));
    metadata.schema_string = schema.to_string();
    let info = json!({"commitInfo": {"operation": "ADD COLUMN"}});
    let body = format!("{info}\n{}\n", json!({ "metaData": metadata }));
    objects.set(&log_file(table.version() + 1), &body).await;
}

fn foreign(name: &str, nullable: bool) -> Value {
    json!({"name": name, "type": {"type": "array", "elementType": "long", "containsNull": true}, "nullable": nullable,
           "metadata": {"comment": "theirs"}})
}

fn refusal<T: std::fmt::Debug>(answer: Result<T, SinkError>) -> String {
    match answer {
        Err(SinkError::Invariant(invariant)) => invariant.to_string(),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_change_is_one_commit_of_its_own_that_notes_where_each_partition_stood() {
    let objects = Faulty::new();
    let mut old = adopted(&objects, 7).await;
    old.commit(&mut proposal(P0, 7, 12)).await.expect("commits");
    let mut table = open_as(&objects, &grown()).await.expect("opens");
    let change = table.evolve().await.expect("evolves").expect("a change");
    assert_eq!(change.added, ["extra"]);
    assert_eq!(table.version(), 3);
    let text = objects.text(&log_file(3)).await.expect("written");
    assert!(!text.contains("\"add\"") && !text.contains("\"txn\""), "{text}");
    assert_eq!(columns(&table).last().expect("columns").name, "extra");
    let former = former(&table);
    assert_eq!(
        (former[0].schema.clone(), former[0].epoch),
        (schema().fingerprint(), Epoch(0))
    );
    assert_eq!(former[0].until, BTreeMap::from([(P0, 12), (P1, 7)]));

    assert_eq!(table.evolve().await.expect("nothing to do"), None);
    assert_eq!(table.version(), 3);
    table.commit(&mut proposal(P0, 12, 20)).await.expect("commits");
    assert_eq!(next(&table, P0), Some(20));
}

#[tokio::test]
async fn until_the_change_is_made_nothing_is_committed_under_it() {
    let objects = Faulty::new();
    adopted(&objects, 7).await;
    let mut table = open_as(&objects, &grown()).await.expect("opens");
    let refused = table.commit(&mut proposal(P0, 7, 12)).await;
    assert!(matches!(refused, Err(SinkError::Lost { .. })), "{refused:?}");
    assert_eq!(files(&objects).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_owner_with_the_former_declaration_commits_nothing_any_more_and_says_why() {
    let objects = Faulty::new();
    let mut old = adopted(&objects, 7).await;
    let mut table = open_as(&objects, &grown()).await.expect("opens");
    table.evolve().await.expect("evolves");
    let said = refusal(old.commit(&mut proposal(P0, 7, 12)).await);
    assert!(said.contains("extra") && said.contains("had before"), "{said}");
    assert!(refusal(open_as(&objects, &schema()).await.map(drop)).contains("had before"));
    assert_eq!(files(&objects).await, Vec::<String>::new());
}

#[tokio::test]
async fn what_is_given_up_or_no_longer_required_takes_null_and_stays() {
    let objects = Faulty::new();
    let strict = edited("note string;", "note string!;kept long!;");
    let mut table = open_as(&objects, &strict).await.expect("creates");
    assert_eq!(table.evolve().await.expect("nothing to do"), None);
    assert!(!nullable(&table)["note"] && !nullable(&table)["kept"]);
    let relaxed = edited("note string;", "kept long;");
    let mut table = open_as(&objects, &relaxed).await.expect("opens");
    let change = table.evolve().await.expect("evolves").expect("a change");
    let expected = Change {
        relaxed: vec!["kept".into()],
        removed: vec!["note".into()],
        ..Change::default()
    };
    assert_eq!(change, expected);
    let nullable = nullable(&table);
    assert!(nullable["note"] && nullable["kept"], "{nullable:?}");
    assert!(!nullable["at"] && !nullable["_id"], "{nullable:?}");
}

#[tokio::test]
async fn what_others_have_added_stays_as_it_is_and_stops_us_only_where_it_demands_something() {
    let objects = Faulty::new();
    let old = adopted(&objects, 7).await;
    alter(&objects, &old, |columns| columns.insert(1, foreign("theirs", true))).await;
    let mut table = open_as(&objects, &grown()).await.expect("opens");
    table.evolve().await.expect("evolves");
    let schema: Value = serde_json::from_str(&table.log.metadata.schema_string).expect("JSON");
    assert_eq!(schema["fields"][1], foreign("theirs", true));

    for (demand, says) in [
        (foreign("strict", false), "strict takes no null"),
        (
            json!({"name": "made", "type": "long", "nullable": true, "metadata": {"delta.generationExpression": "1"}}),
            "made has delta.generationExpression",
        ),
        (
            json!({"name": "usual", "type": "long", "nullable": true, "metadata": {"CURRENT_DEFAULT": "1"}}),
            "usual has CURRENT_DEFAULT",
        ),
        (
            json!({"name": "more", "type": "integer", "nullable": true, "metadata": {}}),
            "more is integer, expected long",
        ),
        (
            json!({"name": "MORE", "type": "long", "nullable": true, "metadata": {}}),
            "MORE is more in another case",
        ),
    ] {
        let objects = Faulty::new();
        let old = adopted(&objects, 7).await;
        alter(&objects, &old, |columns| columns.push(demand)).await;
        let declared = edited("note string;", "note string;more long;");
        let said = refusal(open_as(&objects, &declared).await.map(drop));
        assert!(said.contains(says), "{said}");
    }
}

#[tokio::test]
async fn a_foreign_column_may_be_declared_with_its_type() {
    let objects = Faulty::new();
    let old = adopted(&objects, 7).await;
    let theirs = json!({"name": "extra", "type": "long", "nullable": true, "metadata": {}});
    alter(&objects, &old, |columns| columns.push(theirs)).await;
    let before = open(&objects).await;
    let mut table = open_as(&objects, &grown()).await.expect("opens");
    table.evolve().await.expect("evolves").expect("a change");
    assert_eq!(columns(&table), columns(&before));
}

#[tokio::test]
async fn progress_that_moves_first_is_noted_as_it_is_then() {
    let objects = Faulty::new();
    adopted(&objects, 7).await;
    let mut table = open_as(&objects, &grown()).await.expect("opens");
    objects.next_writes([Fault::Rival(a_move(P1, 41))]);
    table.evolve().await.expect("evolves").expect("a change");
    assert_eq!(table.version(), 3);
    assert_eq!(former(&table)[0].until, BTreeMap::from([(P0, 7), (P1, 42)]));
}

#[tokio::test]
async fn a_change_in_doubt_is_looked_for_and_never_made_twice() {
    for (fault, done) in [
        (Fault::ReplyLost, true),
        (Fault::NotDone, false),
        (Fault::Delayed, false),
    ] {
        let objects = Faulty::new();
        adopted(&objects, 7).await;
        let mut table = open_as(&objects, &grown()).await.expect("opens");
        let fault_name = format!("{fault:?}");
        objects.next_writes([fault]);
        assert_eq!(table.evolve().await.is_ok(), done, "{fault_name}");
        objects.land().await;
        table.evolve().await.expect("evolves");
        assert_eq!(table.refresh().await.expect("readable"), Fit::Same);
        assert_eq!(former(&table).len(), 1, "{fault_name}");
    }
}

#[tokio::test]
async fn of_two_who_change_it_alike_one_does() {
    let objects = Faulty::new();
    adopted(&objects, 7).await;
    let theirs = {
        let scratch = Faulty::new();
        adopted(&scratch, 7).await;
        open_as(&scratch, &grown())
            .await
            .expect("opens")
            .evolve()
            .await
            .expect("evolves");
        scratch.text(&log_file(2)).await.expect("written")
    };
    let mut table = open_as(&objects, &grown()).await.expect("opens");
    objects.next_writes([Fault::Rival(theirs)]);
    table.evolve().await.expect("theirs is ours");
    assert_eq!((table.version(), former(&table).len()), (2, 1));
}

#[tokio::test]
async fn a_memory_that_cannot_be_read_stops() {
    let objects = Faulty::new();
    let old = adopted(&objects, 7).await;
    let mut metadata = old.log.metadata.clone();
    metadata.configuration.insert(FORMER.into(), Some("nonsense".into()));
    objects
        .set(&log_file(2), &format!("{}\n", json!({ "metaData": metadata })))
        .await;
    assert!(refusal(open_as(&objects, &grown()).await.map(drop)).contains(FORMER));
}

#[test]
fn the_record_keeps_its_form() {
    let former = Former {
        schema: "s".into(),
        epoch: Epoch(1),
        until: BTreeMap::from([(P0, 5)]),
        replaced_at: chrono::DateTime::from_timestamp(0, 0).expect("in range"),
    };
    let text = serde_json::to_string(&former).expect("JSON");
    assert_eq!(
        text,
        r#"{"schema":"s","epoch":1,"until":{"0":5},"replaced_at":"1970-01-01T00:00:00Z"}"#
    );
    assert_eq!(serde_json::from_str::<Former>(&text).expect("read back"), former);
}
