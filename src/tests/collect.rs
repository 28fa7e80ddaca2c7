//! Events over plain HTTP, as browsers send them: acknowledged ones are in both sinks, the others were refused with a
//! reason and left nothing behind.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bson::{Document, doc};
use futures::TryStreamExt as _;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::proxy::{self, Link};
use crate::support::{DEADLINE, Job, Running, env, text, until};
use crate::topics;

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// `affluent collect` on a free port.
struct Collecting {
    run: Running,
    address: String,
}

struct Answer {
    status: u16,
    /// By their names in lower case.
    headers: BTreeMap<String, String>,
    body: String,
}

impl Answer {
    fn code(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        body["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Collecting {
    fn start(job: &Job, settings: &[&str]) -> Self {
        let mut args: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        args.extend(["collect", "--listen", "127.0.0.1:0"]);
        // Of this process alone: a job may have several, one after the other.
        let run = job.spawn(&format!("collect-{}", uuid::Uuid::new_v4().simple()), &args, &[]);
        let address = until("it collects", || {
            let log = run.log();
            let (_, rest) = log.split_once("collecting address=")?;
            Some(rest.split_whitespace().next()?.to_owned())
        });
        Self { run, address }
    }

    /// A request's head, without the line that ends it.
    fn head(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
            self.address
        );
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut stream = self.connect();
        let head = self.head(method, path, headers);
        let has_length = head.contains("Content-Length") || head.contains("Transfer-Encoding");
        let length = match body.is_empty() || has_length {
            true => String::new(),
            false => format!("Content-Length: {}\r\n", body.len()),
        };
        stream
            .write_all(format!("{head}{length}\r\n{body}").as_bytes())
            .unwrap();
        answer(stream)
    }

    fn post(&self, events: &Value) -> Answer {
        self.ask("POST", "/collect", &[JSON], &events.to_string())
    }

    fn metric(&self, series: &str) -> f64 {
        let metrics = self.ask("GET", "/metrics", &[], "").body;
        let value = metrics
            .lines()
            .find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        value.unwrap_or(0.0)
    }

    fn end(mut self) {
        self.run.signal(Signal::TERM);
        assert_eq!(self.run.wait().code(), Some(0), "{}", self.run.log());
    }
}

fn answer(mut stream: TcpStream) -> Answer {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let header = |line: &str| {
        line.split_once(": ")
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
    };
    Answer {
        status: status.unwrap(),
        headers: lines.filter_map(header).collect(),
        body: body.to_owned(),
    }
}

fn view(session: &str, page: &str) -> Value {
    json!({ "session_id": session, "page": page })
}

/// What MongoDB has of the clicks, in the order of their ids: that of each Kafka partition.
fn documents(job: &Job) -> Vec<Document> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = mongodb::Client::with_uri_str(env("AFFLUENT_TEST_MONGO")).await.unwrap();
        let clicks = client.database(&job.name).collection::<Document>("clicks");
        let found = clicks.find(doc! {}).sort(doc! { "_id": 1 }).await.unwrap();
        found.try_collect().await.unwrap()
    })
}

/// Drains the clicks and proves both sinks; how many rows each has.
fn landed(job: &Job) -> u64 {
    job.ok(&["run", "--once", "--stream", "clicks"]);
    let verified = job.verify_stream("clicks");
    assert_eq!(verified["streams"][0]["records"]["rejected"], 0, "{verified}");
    let (mongo, lake) = topics::rows(&verified, "clicks");
    assert_eq!(mongo, lake);
    mongo
}

fn texts(documents: &[Document], field: &str) -> Vec<String> {
    documents.iter().map(|d| d.get_str(field).unwrap().to_owned()).collect()
}

#[test]
fn what_was_acknowledged_is_in_both_sinks_and_a_session_in_its_order() {
    let job = Job::new("collect", "");
    let collecting = Collecting::start(&job, &[]);
    let mut sent = 0;
    for round in 0..10 {
        let events: Vec<Value> = (0..20)
            .map(|n| {
                let mut event = view(&format!("session-{}", n % 4), "/panier");
                event["element"] = json!(format!("{:03}", round * 20 + n));
                event["region"] = json!("Provence-Alpes-Côte d'Azur");
                event
            })
            .collect();
        sent += events.len() as u64;
        let answered = collecting.post(&events.into());
        assert_eq!(
            (answered.status, answered.body.as_str()),
            (204, ""),
            "{}",
            answered.code()
        );
    }
    let beacon = view("session-0", "/merci").to_string();
    let plain = ("Content-Type", "text/plain;charset=UTF-8");
    // The burst is spent.
    until("tokens have come back", || {
        let answered = collecting.ask("POST", "/collect", &[plain], &beacon);
        (answered.status == 204).then_some(())
    });
    sent += 1;
    assert_eq!(
        collecting.metric("affluent_collected_events_total{stream=\"clicks\"}"),
        sent as f64
    );
    collecting.end();

    assert_eq!(landed(&job), sent);
    let documents = documents(&job);
    let ids: BTreeSet<String> = texts(&documents, "event_id").into_iter().collect();
    assert_eq!(ids.len() as u64, sent, "each got an id of its own");
    let mut sessions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for document in &documents {
        assert!(document.get_datetime("occurred_at").is_ok(), "{document}");
        if let Ok(element) = document.get_str("element") {
            let session = document.get_str("session_id").unwrap();
            sessions.entry(session).or_default().push(element);
        }
    }
    assert_eq!(sessions.len(), 4);
    for (session, elements) in sessions {
        assert!(elements.is_sorted() && elements.len() == 50, "{session}: {elements:?}");
    }
}

#[test]
fn what_is_refused_says_why_and_leaves_nothing_behind() {
    let job = Job::new("refusals", "");
    let settings = [
        "collect.max_body=2KiB",
        "collect.max_events=3",
        "collect.origins=https://shop.example",
    ];
    let collecting = Collecting::start(&job, &settings);
    let good = view("s", "/").to_string();
    let long = format!("[{{\"session_id\":\"{}\",\"page\":\"/\"}}]", "s".repeat(2048));
    let chunked = format!("{:x}\r\n{long}\r\n0\r\n\r\n", long.len());
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let (foreign, hidden) = (("Origin", "https://evil.example"), ("Origin", "null"));
    for (method, headers, body, status, code) in [
        (
            "POST",
            vec![JSON],
            format!("[{good},{{\"page\":\"/\"}}]"),
            400,
            "missing_field",
        ),
        (
            "POST",
            vec![JSON],
            format!("[{good},{{\"session_id\":1}}]"),
            400,
            "wrong_type",
        ),
        ("POST", vec![JSON], format!("[{good}"), 400, "invalid_body"),
        ("POST", vec![JSON], String::new(), 400, "invalid_body"),
        ("POST", vec![JSON], "[]".to_owned(), 400, "no_events"),
        ("POST", vec![JSON], "\"text\"".to_owned(), 400, "invalid_json"),
        ("POST", vec![JSON, foreign], good.clone(), 403, "origin_not_allowed"),
        ("POST", vec![JSON, hidden], good.clone(), 403, "origin_not_allowed"),
        ("OPTIONS", vec![foreign], String::new(), 403, "origin_not_allowed"),
        ("GET", vec![], String::new(), 405, "method_not_allowed"),
        (
            "POST",
            vec![JSON],
            format!("[{good},{good},{good},{good}]"),
            413,
            "too_many_events",
        ),
        // Refused by its head: nothing of it is read.
        (
            "POST",
            vec![JSON, ("Content-Length", "2049")],
            String::new(),
            413,
            "body_too_large",
        ),
        (
            "POST",
            vec![JSON, ("Transfer-Encoding", "chunked")],
            chunked,
            413,
            "body_too_large",
        ),
        ("POST", vec![form], good.clone(), 415, "unsupported_media_type"),
        ("POST", vec![], good.clone(), 415, "unsupported_media_type"),
    ] {
        let answered = collecting.ask(method, "/collect", &headers, &body);
        assert_eq!(
            (answered.status, answered.code().as_str()),
            (status, code),
            "{method} {headers:?} {body}: {}",
            answered.body
        );
        assert_eq!(answered.headers["vary"], "origin", "{}", answered.body);
        assert_eq!(answered.headers["content-type"], "application/json");
    }
    let named = collecting.ask("POST", "/collect", &[JSON], &format!("[{good},{{\"page\":\"/\"}}]"));
    assert!(
        named.body.contains("event 1: field \\\"session_id\\\""),
        "{}",
        named.body
    );
    let refused = "affluent_refused_requests_total{stream=\"clicks\",code=\"body_too_large\"}";
    assert_eq!(collecting.metric(refused), 2.0);
    collecting.end();
    for partition in 0..4 {
        assert_eq!(topics::offsets(&job.topic("clicks"), partition), [] as [i64; 0]);
    }
}

#[test]
fn a_client_that_sends_too_much_waits_and_others_do_not() {
    let job = Job::new("rate", "");
    let settings = [
        "collect.rate=1",
        "collect.burst=10",
        "collect.max_events=10",
        "collect.proxies=127.0.0.1",
    ];
    let collecting = Collecting::start(&job, &settings);
    let from = |client| [JSON, ("X-Forwarded-For", client)];
    let events = json!([
        view("s", "/"),
        view("s", "/"),
        view("s", "/"),
        view("s", "/"),
        view("s", "/")
    ])
    .to_string();
    let began = Instant::now();
    let mut acknowledged = 0;
    let refused = loop {
        let answered = collecting.ask("POST", "/collect", &from("203.0.113.7"), &events);
        match answered.status {
            204 => acknowledged += 1,
            _ => break answered,
        }
    };
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (429, "rate_limited"),
        "{}",
        refused.body
    );
    let wait: u64 = refused.headers["retry-after"].parse().unwrap();
    assert!((1..=5).contains(&wait), "{wait}");
    // Two at once; a slow machine has given back a token or two meanwhile.
    assert!(
        acknowledged >= 2 && acknowledged <= 2 + began.elapsed().as_secs() / 5,
        "{acknowledged}"
    );
    assert_eq!(
        collecting.ask("POST", "/collect", &from("203.0.113.8"), &events).status,
        204
    );
    until("its tokens have come back", || {
        let answered = collecting.ask("POST", "/collect", &from("203.0.113.7"), &view("s", "/").to_string());
        (answered.status == 204).then_some(())
    });
    collecting.end();
    assert_eq!(landed(&job), acknowledged * 5 + 5 + 1);
}

#[test]
fn while_kafka_is_away_nothing_is_acknowledged_and_what_was_is_never_lost() {
    let (proxy, _turn) = proxy::kafka();
    let mongo = env("AFFLUENT_TEST_MONGO");
    let job = Job::with_services("collect-out", &proxy.address(), &mongo, "");
    let collecting = Collecting::start(&job, &["kafka.properties.reconnect.backoff.max.ms=500"]);
    let event = |id: &str| json!({ "event_id": id, "session_id": "s", "page": "/" });
    assert_eq!(collecting.post(&event("before")).status, 204);
    for (id, link) in [("cut", Link::Cut), ("silent", Link::BlackHole)] {
        proxy.link(link);
        let began = Instant::now();
        let answered = collecting.post(&event(id));
        assert_eq!((answered.status, answered.code().as_str()), (503, "not_acknowledged"));
        assert!(answered.headers.contains_key("retry-after"));
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        proxy.link(Link::Open);
        // The same again, as its text asks for.
        until("Kafka acknowledges", || {
            (collecting.post(&event(id)).status == 204).then_some(())
        });
    }
    let log = collecting.run.log();
    assert_eq!(log.matches("Kafka does not acknowledge events").count(), 2, "{log}");
    assert_eq!(log.matches("Kafka acknowledges events again").count(), 2, "{log}");
    assert_eq!(collecting.post(&event("after")).status, 204);
    collecting.end();
    landed(&job);
    // An event that was sent again may be there twice, under one id.
    let found: BTreeSet<String> = texts(&documents(&job), "event_id").into_iter().collect();
    assert_eq!(Vec::from_iter(found), ["after", "before", "cut", "silent"]);
}

#[test]
fn asked_to_end_it_answers_what_is_under_way() {
    let job = Job::new("graceful", "");
    let mut collecting = Collecting::start(&job, &[]);
    let body = view("s", "/").to_string();
    let length = body.len().to_string();
    let mut under_way = collecting.connect();
    let head = collecting.head(
        "POST",
        "/collect",
        &[JSON, ("Content-Length", &length), ("Expect", "100-continue")],
    );
    under_way.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    // It has begun to read the body.
    let mut go_on = [0; 25];
    under_way.read_exact(&mut go_on).unwrap();
    assert!(
        go_on.starts_with(b"HTTP/1.1 100 Continue"),
        "{}",
        String::from_utf8_lossy(&go_on)
    );
    collecting.run.signal(Signal::TERM);
    until("it takes no more", || {
        TcpStream::connect(&collecting.address).is_err().then_some(())
    });
    under_way.write_all(body.as_bytes()).unwrap();
    assert_eq!(answer(under_way).status, 204);
    assert_eq!(collecting.run.wait().code(), Some(0), "{}", collecting.run.log());
    assert_eq!(landed(&job), 1);
}

#[test]
fn pages_of_listed_sites_may_send_and_are_served_the_tracker() {
    let job = Job::new("pages", "");
    let collecting = Collecting::start(&job, &["collect.origins=https://shop.example"]);
    let shop = ("Origin", "https://shop.example");
    let asked = [
        shop,
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "content-type"),
    ];
    let preflight = collecting.ask("OPTIONS", "/collect", &asked, "");
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.headers["access-control-allow-origin"], "https://shop.example");
    assert_eq!(preflight.headers["access-control-allow-methods"], "POST");
    assert_eq!(preflight.headers["access-control-allow-headers"], "content-type");
    let own = format!("http://{}", collecting.address);
    for (origin, allowed) in [(shop.1, Some("https://shop.example")), (own.as_str(), None)] {
        let answered = collecting.ask(
            "POST",
            "/collect",
            &[JSON, ("Origin", origin)],
            &view("s", "/").to_string(),
        );
        assert_eq!(answered.status, 204, "{}", answered.body);
        let told = answered.headers.get("access-control-allow-origin");
        assert_eq!(told.map(String::as_str), allowed);
    }
    for (path, kind) in [
        ("/tracker.js", "text/javascript; charset=utf-8"),
        ("/shop/", "text/html; charset=utf-8"),
        ("/shop/panier", "text/html; charset=utf-8"),
        ("/shop/shop.css", "text/css; charset=utf-8"),
    ] {
        let answered = collecting.ask("GET", path, &[], "");
        assert_eq!(
            (answered.status, answered.headers["content-type"].as_str()),
            (200, kind),
            "{path}"
        );
        assert!(!answered.body.is_empty());
    }
    assert_eq!(collecting.ask("GET", "/healthz", &[], "").body, "alive\n");
    collecting.end();
    let without = Collecting::start(&job, &["collect.shop=false"]);
    assert_eq!(without.ask("GET", "/shop/", &[], "").status, 404);
    without.end();
}

#[test]
fn a_stream_that_is_not_configured_is_a_usage_error() {
    let job = Job::new("no-stream", "");
    let output = job.output(&["--set", "collect.stream=visits", "collect"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output).contains("no stream is called \"visits\" (collect.stream); the configuration has: sales, clicks"),
        "{}",
        text(&output)
    );
}
