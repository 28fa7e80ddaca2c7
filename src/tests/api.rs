//! The API of a running job: its figures against MongoDB's own aggregation of the raw documents, refusals, news.

use std::collections::BTreeMap;
use std::process::Command;

use bson::doc;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::support::observed::Observed;
use crate::support::{DEADLINE, Job, env, in_database, text, until};

/// Revenue and count of the documents themselves, per product; the questions come as JSON.
const FROM_DOCUMENTS: &str = r#"
import json, sys
from datetime import datetime
import pymongo
uri, database, questions = sys.argv[1:]
sales = pymongo.MongoClient(uri)[database].sales
answers = []
for question in json.loads(questions):
    time = {op: datetime.fromisoformat(question[name]) for op, name in (("$gte", "from"), ("$lt", "to"))}
    wanted = {"sold_at": time} | {field: {"$in": values} for field, values in question["filters"].items()}
    groups = sales.aggregate([{"$match": wanted}, {"$group": {"_id": "$product", "n": {"$sum": 1}, "r": {"$sum": "$amount"}}}])
    answers.append({group["_id"]: [str(group["r"].to_decimal()), group["n"]] for group in groups})
print(json.dumps(answers))
"#;

fn aggregate(parameters: &[(&str, &str)]) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let pairs: Vec<String> = parameters
        .iter()
        .map(|(name, value)| format!("{name}={}", encoded(value)))
        .collect();
    format!("/api/v1/streams/sales/aggregate?{}", pairs.join("&"))
}

fn answer(run: &Observed, path: &str) -> Value {
    let (status, body) = run.get(path);
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

fn rows(answer: &Value) -> Vec<Vec<Value>> {
    serde_json::from_value(answer["rows"].clone()).unwrap()
}

#[test]
fn figures_equal_what_mongodb_makes_of_the_documents_whatever_is_filtered() {
    let job = Job::new("api", "");
    let window = ["--since", "2026-03-01T00:00:00Z", "--until", "2026-03-15T00:00:00Z"];
    job.produce("sales", 5_000, &window);
    job.produce("clicks", 10, &[]);
    job.run_once();
    let run = Observed::start(&job, &[]);
    let everything = [
        ("from", "2026-03-01T00:00:00Z"),
        ("to", "2026-03-15T00:00:00Z"),
        ("measures", "sales"),
    ];
    let values = |field| {
        let found = answer(&run, &aggregate(&[everything.as_slice(), &[("by", field)]].concat()));
        rows(&found)
            .iter()
            .filter_map(|row| row[0].as_str().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let (regions, categories) = (values("region"), values("category"));

    let seed = rand::random();
    eprintln!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut questions = Vec::new();
    for _ in 0..8 {
        let (day, days) = (random.random_range(1..10), random.random_range(1..5));
        let hour = random.random_range(0..24);
        let mut filters: BTreeMap<&str, Vec<&String>> = BTreeMap::new();
        for (field, values) in [("region", &regions), ("category", &categories)] {
            let count = random.random_range(0..3);
            if count > 0 {
                filters.insert(field, values.sample(&mut random, count).collect());
            }
        }
        questions.push(json!({
            "from": format!("2026-03-{day:02}T{hour:02}:00:00+00:00"),
            "to": format!("2026-03-{:02}T00:00:00+00:00", day + days),
            "filters": filters,
        }));
    }
    let python = Command::new(env("AFFLUENT_TEST_PYTHON"))
        .args(["-c", FROM_DOCUMENTS, &env("AFFLUENT_TEST_MONGO"), &job.name])
        .arg(serde_json::to_string(&questions).unwrap())
        .output()
        .unwrap();
    assert!(python.status.success(), "{}", text(&python));
    let expected: Vec<BTreeMap<String, (String, u64)>> = serde_json::from_slice(&python.stdout).unwrap();
    assert!(
        expected.iter().any(|groups| !groups.is_empty()),
        "the questions find something"
    );
    for (question, expected) in questions.iter().zip(expected) {
        let field = |name: &str| question[name].as_str().unwrap();
        let mut parameters = vec![("from", field("from")), ("to", field("to"))];
        parameters.extend([("measures", "revenue,sales"), ("by", "product")]);
        let filters: Vec<String> = question["filters"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(name, values)| {
                values
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(move |value| format!("{name}:{}", value.as_str().unwrap()))
            })
            .collect();
        parameters.extend(filters.iter().map(|filter| ("filter", filter.as_str())));
        let found = answer(&run, &aggregate(&parameters));
        let found: BTreeMap<String, (String, u64)> = rows(&found)
            .into_iter()
            .map(|row| {
                (
                    row[0].as_str().unwrap().to_owned(),
                    (row[1].as_str().unwrap().to_owned(), row[2].as_u64().unwrap()),
                )
            })
            .collect();
        assert_eq!(found, expected, "{question}");
    }
    run.end();
}

#[test]
fn a_sale_is_told_and_counted_and_shown_among_the_newest() {
    let job = Job::new("live", "");
    job.produce("clicks", 10, &[]);
    job.produce("sales", 100, &[]);
    let run = Observed::start(&job, &[]);
    run.until_progress("sales", "mongo", 100);
    let mut lines = run.listen("/api/v1/live");
    let day = ("from", "2026-03-01T00:00:00Z");
    let question = aggregate(&[day, ("to", "2026-03-02T00:00:00Z"), ("measures", "sales")]);
    assert!(
        rows(&answer(&run, &question)).is_empty(),
        "nothing was sold on that day"
    );
    // Everything up to now is told when one begins to listen.
    let mut told = || {
        let notice = lines.find(|line| line.starts_with("data:") && line.contains("\"sales\""));
        notice.expect("goes on")
    };
    told();
    job.produce(
        "sales",
        3,
        &["--since", "2026-03-01T10:00:00Z", "--until", "2026-03-01T11:00:00Z"],
    );
    until("the sales are told and counted", || {
        told();
        (rows(&answer(&run, &question)) == [[json!(3)]]).then_some(())
    });
    let newest = answer(&run, "/api/v1/streams/sales/records?limit=3");
    assert_eq!(newest["columns"][2]["name"], "sold_at");
    for row in rows(&newest) {
        assert!(row[2].as_str().unwrap().starts_with("2026-03-01T10:"), "{row:?}");
    }
    run.end();
}

#[test]
fn what_cannot_be_answered_is_refused_with_a_code() {
    let job = Job::new("refused", "");
    job.produce("sales", 10, &[]);
    job.produce("clicks", 10, &[]);
    let run = Observed::start(&job, &[]);
    let period = "from=2026-03-01T00:00:00Z&to=2026-03-01T00:30:00Z";
    for (path, status, code) in [
        ("/api/v1/streams/sale/records".to_owned(), 404, "unknown_stream"),
        ("/api/v1/nothing".to_owned(), 404, "not_found"),
        ("/api/v1/streams?x=%3Cscript%3E".to_owned(), 400, "bad_parameter"),
        (
            format!("/api/v1/streams/sales/aggregate?{period}"),
            400,
            "bad_parameter",
        ),
        (
            format!("/api/v1/streams/sales/aggregate?{period}&measures=sales&by=product"),
            422,
            "not_answerable",
        ),
    ] {
        let (seen, body) = run.get(&path);
        let body: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"));
        assert_eq!(
            (seen, body["error"]["code"].as_str()),
            (status, Some(code)),
            "{path}: {body}"
        );
    }
    let streams = answer(&run, "/api/v1/streams");
    assert_eq!(streams["streams"][1]["rollups"][0]["name"], "sales_by_minute");
    let pipeline = answer(&run, "/api/v1/pipeline");
    assert_eq!(
        pipeline["status"]["streams"].as_array().map(Vec::len),
        Some(2),
        "{pipeline}"
    );
    run.end();
}

#[test]
fn sessions_of_a_period_are_told_apart_however_they_are_grouped() {
    let job = Job::new("sessions", "");
    let window = ["--since", "2026-03-01T00:00:00Z", "--until", "2026-03-02T00:00:00Z"];
    job.produce("sales", 10, &[]);
    job.produce("clicks", 3_000, &window);
    job.run_once();
    let run = Observed::start(&job, &[]);
    let (whole, by_device) = in_database(&job, |database| async move {
        let clicks = database.collection::<bson::Document>("clicks");
        let sessions = clicks.distinct("session_id", doc! {}).await.unwrap().len();
        let devices = clicks.distinct("device", doc! {}).await.unwrap().len();
        (sessions, devices)
    });
    let sessions = |more: &str| {
        let period = "from=2026-03-01T00:00:00Z&to=2026-03-02T00:00:00Z&measures=sessions";
        rows(&answer(
            &run,
            &format!("/api/v1/streams/clicks/aggregate?{period}{more}"),
        ))
    };
    let about = |found: &Value, exactly: usize| {
        let found = found.as_f64().unwrap();
        // Four standard errors.
        assert!(
            (found / exactly as f64 - 1.0).abs() < 0.13,
            "{found} is not about {exactly}"
        );
    };
    about(&sessions("")[0][0], whole);
    assert_eq!(sessions("&by=device").len(), by_device);
    assert_eq!(sessions("&every=1h").len(), 24);
    run.end();
}

#[test]
fn operators_see_dead_letters_by_code_and_the_table() {
    let job = Job::new("operators", "");
    job.produce("sales", 400, &["--bad", "10"]);
    job.produce("clicks", 10, &[]);
    job.run_once();
    let listed = job.ok(&["dead-letters", "list", "--stream", "sales", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let run = Observed::start(&job, &[]);

    let letters = answer(&run, "/api/v1/streams/sales/dead-letters");
    let codes = letters["by_code"].as_object().unwrap();
    assert!(codes.len() > 1, "{letters}");
    assert_eq!(letters["by_code"], listed[0]["by_code"]);
    assert_eq!(letters["complete"], true);
    assert_eq!(
        letters["listed"].as_array().map(Vec::len),
        Some(letters["records"].as_u64().unwrap().min(50) as usize)
    );
    for code in codes.keys() {
        let example = &letters["examples"][code];
        assert!(example["code"] == **code && example["error"].is_string(), "{letters}");
    }

    let table = answer(&run, "/api/v1/streams/sales/lake");
    let history = job.ok(&["lake", "history", "--stream", "sales", "--limit", "50", "--json"]);
    let history: Value = serde_json::from_slice(&history.stdout).unwrap();
    assert_eq!(table["versions"], history["streams"]["sales"]);
    assert!(
        table["files"].as_u64() > Some(0) && table["bytes"].as_u64() > Some(0),
        "{table}"
    );
    run.end();
}

#[test]
fn the_dashboard_is_in_the_binary_and_whoever_has_no_token_sees_nothing() {
    let job = Job::new("token", "");
    job.produce("sales", 10, &[]);
    job.produce("clicks", 10, &[]);
    let token = "a token of these tests";
    let run = Observed::start(&job, &[&format!("http.token={token}")]);
    for path in ["/", "/assets/app.js", "/api/v1/streams", "/api/v1/live"] {
        let (head, _) = run.ask(path, "");
        assert!(
            head.starts_with("HTTP/1.1 401") && head.contains("www-authenticate: Basic"),
            "{head}"
        );
        let (head, _) = run.ask(path, "Authorization: Bearer a token of nobody\r\n");
        assert!(head.starts_with("HTTP/1.1 401"), "{head}");
    }
    assert_eq!(run.get("/metrics").0, 200);

    let known = format!("Authorization: Bearer {token}\r\n");
    let (head, page) = run.ask("/", &known);
    assert!(
        head.starts_with("HTTP/1.1 200") && head.contains("content-security-policy:"),
        "{head}"
    );
    let page = String::from_utf8(page).unwrap();
    let script = page.split('"').find(|text| text.ends_with(".js")).unwrap();
    let (head, whole) = run.ask(&format!("/{}", script.trim_start_matches("./")), &known);
    assert!(head.contains("content-type: text/javascript"), "{head}");
    let tag = head
        .lines()
        .find_map(|line| line.strip_prefix("etag: "))
        .unwrap()
        .to_owned();
    let path = format!("/{}", script.trim_start_matches("./"));
    let (head, packed) = run.ask(&path, &format!("{known}Accept-Encoding: gzip\r\n"));
    assert!(
        head.contains("content-encoding: gzip") && packed.len() < whole.len(),
        "{head}"
    );
    let (head, nothing) = run.ask(&path, &format!("{known}If-None-Match: {tag}\r\n"));
    assert!(head.starts_with("HTTP/1.1 304") && nothing.is_empty(), "{head}");
    assert!(run.ask("/../Cargo.toml", &known).0.starts_with("HTTP/1.1 404"));
    run.end();
}

#[test]
fn half_a_request_keeps_nobody_from_ending() {
    let job = Job::new("half", "");
    job.produce("sales", 10, &[]);
    job.produce("clicks", 10, &[]);
    let mut run = Observed::start(&job, &[]);
    until("the job works", || run.ready().then_some(()));
    let _half = run.send("GET /api/v1/str");
    let began = std::time::Instant::now();
    run.run.signal(rustix::process::Signal::TERM);
    assert_eq!(run.run.wait().code(), Some(0), "{}", run.run.log());
    assert!(began.elapsed() < DEADLINE);
}
