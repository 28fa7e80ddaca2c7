//! Letters replayed after a fix: each record once, whatever happens to the replay, and nothing that a sink has.

use rdkafka::producer::Producer;
use serde_json::Value;

use crate::support::{Job, text};
use crate::topic::{Record, Topic};

/// Where `dead-letters replay` can be killed; `run` never gets there.
pub const FAILPOINTS: &[&str] = &["replay.commit.before", "replay.commit.after"];

/// A stream `readings` whose records beyond 100 bytes are dead letters, until that is put right.
struct Readings {
    job: Job,
    topic: Topic,
    letters: String,
}

const SMALL: &str = r#"{"at":"2026-01-01T00:00:00Z","note":"small"}"#;

fn large(id: usize) -> String {
    format!(
        r#"{{"at":"2026-01-01T00:00:00Z","note":"{id}","unknown":"{}"}}"#,
        "x".repeat(100)
    )
}

impl Readings {
    fn new(test: &str) -> Self {
        Self::with(test, "max_record_bytes = \"100B\"")
    }

    fn with(test: &str, more: &str) -> Self {
        let job = Job::new(test, "");
        let topic = Topic::create(&job.topic("readings"), 2);
        let letters = format!("{}.dlq", topic.0);
        let readings = Self { job, topic, letters };
        let stream = format!(
            r#"
            [[streams]]
            name = "readings"
            topic = "{}"
            event_time = "at"
            {more}
            fields = [
              {{ name = "at", type = "timestamp", required = true }},
              {{ name = "note", type = "string" }},
            ]
            [[streams.rollups]]
            name = "readings_by_day"
            every = "1d"
            measures = {{ readings = "count()" }}
            "#,
            readings.topic.0
        );
        let path = readings.job.path("affluent.toml");
        let config = std::fs::read_to_string(&path).unwrap() + &stream;
        std::fs::write(path, config).unwrap();
        readings
    }

    /// The fix: one text of the configuration becomes another.
    fn configure(&self, from: &str, to: &str) {
        let path = self.job.path("affluent.toml");
        let config = std::fs::read_to_string(&path).unwrap();
        assert!(config.contains(from), "{from} is not configured");
        std::fs::write(path, config.replace(from, to)).unwrap();
    }

    fn fix(&self) {
        self.configure("\"100B\"", "\"16MiB\"");
    }

    /// `good` small records, then `bad` large ones, over both partitions.
    fn fill(&self, good: usize, bad: usize) {
        let small = (0..good).map(|_| Record::new(SMALL));
        let records = small.chain((0..bad).map(|id| Record::new(large(id))));
        let spread = records.enumerate().map(|(at, record)| Record {
            partition: (at % 2) as i32,
            ..record
        });
        self.topic.send(&spread.collect::<Vec<_>>());
    }

    fn run_once(&self) {
        self.job.ok(&["run", "--once", "--stream", "readings"]);
    }

    fn replay(&self, more: &[&str]) -> Value {
        let mut args = vec!["dead-letters", "replay", "--stream", "readings", "--json"];
        args.extend(more);
        let output = self.job.ok(&args);
        serde_json::from_slice::<Value>(&output.stdout).unwrap()[0].clone()
    }

    fn list(&self, more: &[&str]) -> Value {
        let mut args = vec!["dead-letters", "list", "--stream", "readings", "--json"];
        args.extend(more);
        serde_json::from_slice::<Value>(&self.job.ok(&args).stdout).unwrap()[0].clone()
    }

    /// `verify` must hold with so many rows in each sink that is on.
    fn holds(&self, rows: usize) {
        let output = self.job.output(&["verify", "--stream", "readings", "--json"]);
        assert!(output.status.success(), "verify does not hold:\n{}", text(&output));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let stream = &report["streams"][0];
        for sink in ["mongo", "lake"] {
            if !stream[sink].is_null() {
                assert_eq!(stream[sink]["rows"], rows, "rows in {sink}");
            }
        }
        assert!(!stream["lake"].is_null());
    }

    fn dead_letter_topic(&self) -> Topic {
        Topic(self.letters.clone())
    }
}

#[test]
fn what_was_rejected_is_stored_once_after_the_fix() {
    let readings = Readings::new("replay");
    let own = vec![
        ("trace".to_owned(), Some(b"\xff\x00".to_vec())),
        ("null".to_owned(), None),
    ];
    let letter = Record {
        partition: 1,
        key: Some(b"k\x00\xff".to_vec()),
        headers: own.clone(),
        timestamp: 1_600_000_000_123,
        ..Record::new(large(99))
    };
    readings.fill(20, 10);
    readings.topic.send([&letter]);
    readings.run_once();
    readings.holds(20);
    readings.fix();
    // The records would be good now and are in no sink; their letters say why.
    readings.holds(20);

    let ends = (readings.topic.ends(), readings.dead_letter_topic().ends());
    let dry = readings.replay(&["--dry-run"]);
    assert_eq!(
        (&dry["replayed"], &dry["by_code"]["too_large"]),
        (&11.into(), &11.into())
    );
    assert_eq!(dry["first"].as_array().unwrap().len(), 10);
    assert_eq!(
        ends,
        (readings.topic.ends(), readings.dead_letter_topic().ends()),
        "a dry run changes nothing"
    );

    assert_eq!(readings.replay(&[])["replayed"], 11);
    readings.run_once();
    readings.holds(31);
    let again = readings.replay(&["--again"]);
    assert_eq!(
        (&again["replayed"], &again["left_out"]["replayed"]),
        (&0.into(), &11.into())
    );
    readings.run_once();
    readings.holds(31);

    let (partition, _, replayed) = readings
        .topic
        .read()
        .into_iter()
        .rfind(|(_, _, r)| r.key.is_some())
        .unwrap();
    assert_eq!(
        (partition, &replayed.key, &replayed.value),
        (1, &letter.key, &letter.value)
    );
    assert_eq!(replayed.timestamp, letter.timestamp);
    assert_eq!(replayed.headers[..2], own);
    assert_eq!(
        replayed.header("affluent.replay.topic"),
        Some(readings.topic.0.as_str())
    );
    let first = ["partition", "offset", "timestamp"].map(|n| replayed.header(&format!("affluent.replay.{n}")).unwrap());
    assert_eq!(first, ["1", "15", "1600000000123"]);

    let listed = readings.list(&[]);
    assert_eq!(
        (&listed["records"], &listed["replayed"], &listed["foreign"]),
        (&11.into(), &11.into(), &0.into())
    );
    assert_eq!(listed["listed"][0]["state"], "replayed");
    assert_eq!(readings.list(&["--open"])["records"], 0);
}

#[test]
fn killed_before_or_after_the_commit_a_replay_goes_on_where_it_was() {
    for failpoint in FAILPOINTS {
        let readings = Readings::new("replay-kill");
        // More than one transaction carries.
        readings.fill(10, 2_100);
        readings.run_once();
        readings.fix();
        for nth in [1, 2] {
            let replay = ["dead-letters", "replay", "--stream", "readings"];
            readings.job.killed_at(failpoint, nth, &replay);
        }
        // Not reached by the first: one transaction; by the second: its first as well.
        let rest = readings.replay(&[]);
        let committed = if failpoint.ends_with("after") { 2_100 } else { 1_000 };
        assert_eq!(rest["replayed"], 2_100 - committed, "{failpoint}: {rest}");
        readings.run_once();
        readings.holds(2_110);
    }
}

#[test]
fn of_two_replays_at_the_same_time_one_takes_over_and_no_record_is_sent_twice() {
    let readings = Readings::new("replay-race");
    readings.fill(10, 5_000);
    readings.run_once();
    readings.fix();
    let args = ["dead-letters", "replay", "--stream", "readings"];
    let mut racers: Vec<_> = (0..3)
        .map(|n| readings.job.spawn(&format!("replay-{n}"), &args, &[]))
        .collect();
    let codes: Vec<_> = racers.iter_mut().map(|racer| racer.wait().code()).collect();
    for (racer, code) in racers.iter().zip(&codes) {
        let fenced = racer.log().contains("another replay of stream readings has begun");
        assert!(
            *code == Some(0) || (*code == Some(1) && fenced),
            "{code:?}: {}",
            racer.log()
        );
    }
    assert!(codes.contains(&Some(0)), "the last to begin is refused by nobody");
    assert_eq!(readings.replay(&[])["replayed"], 0, "and it leaves nothing behind");
    readings.run_once();
    readings.holds(5_010);
}

#[test]
fn a_replay_waits_for_a_foreign_transaction_that_could_hide_its_markers() {
    let readings = Readings::new("replay-hidden");
    readings.fill(1, 5);
    readings.run_once();
    readings.fix();
    let foreign = readings
        .dead_letter_topic()
        .open_transaction(&Record::new("somebody else's"));
    let before = readings.topic.ends();
    let args = ["dead-letters", "replay", "--stream", "readings"];
    let mut replay = readings.job.spawn("replay", &args, &[]);
    replay.until_logged("open transaction hides the end");
    assert_eq!(readings.topic.ends(), before, "a marker written now could not be read");
    foreign.commit_transaction(crate::support::DEADLINE).unwrap();
    assert_eq!(replay.wait().code(), Some(0), "{}", replay.log());
    assert!(replay.log().contains("5 letters replayed"), "{}", replay.log());
    assert_eq!(readings.replay(&[])["replayed"], 0);
    assert_eq!(readings.list(&[])["foreign"], 1);
    readings.run_once();
    readings.holds(6);
}

#[test]
fn only_the_letters_asked_for_are_replayed() {
    let readings = Readings::new("replay-some");
    readings.fill(0, 10);
    let mut bad = vec![Record::new("{"), Record::tombstone()];
    bad[1].timestamp = 1_500_000_000_000;
    readings.topic.send(&bad);
    readings.run_once();
    let would = |more: &[&str]| {
        let dry = readings.replay(&[&["--dry-run"], more].concat());
        dry["replayed"].as_u64().unwrap()
    };
    assert_eq!(would(&[]), 12);
    assert_eq!(would(&["--code", "too_large"]), 10);
    assert_eq!(would(&["--code", "invalid_json", "--code", "null_payload"]), 2);
    assert_eq!(would(&["--partition", "1"]), 5);
    assert_eq!(would(&["--partition", "0", "--offset", "1..3"]), 2);
    assert_eq!(would(&["--offset", "6", "--offset", "0"]), 3);
    assert_eq!(would(&["--until", "2018-01-01"]), 1);
    assert_eq!(would(&["--since", "2018-01-01", "--limit", "4"]), 4);

    assert_eq!(readings.replay(&["--limit", "3", "--code", "too_large"])["replayed"], 3);
    assert_eq!(would(&["--code", "too_large"]), 7);
    let unknown = readings.job.output(&["dead-letters", "replay", "--stream", "reading"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(
        text(&unknown).contains("no stream is named reading"),
        "{}",
        text(&unknown)
    );
}

#[test]
fn what_fails_again_keeps_its_first_place_and_waits_to_be_asked_for() {
    let readings = Readings::new("replay-again");
    readings.topic.send([&Record::new(SMALL), &Record::tombstone()]);
    readings.run_once();
    for round in 0..3 {
        let more: &[&str] = if round == 0 { &[] } else { &["--again"] };
        assert_eq!(readings.replay(more)["replayed"], 1, "round {round}");
        readings.run_once();
        let left = readings.replay(&[]);
        assert_eq!(
            (&left["replayed"], &left["left_out"]["failed_again"]),
            (&0.into(), &1.into())
        );
    }
    let records = readings.topic.read();
    let (_, last, record) = records.last().unwrap();
    assert_eq!(record.value, None, "a null payload stays one");
    assert_eq!(record.header("affluent.replay.offset"), Some("1"));
    assert_eq!(record.headers.len(), 4, "one set of coordinates, however often");
    let shown = readings
        .job
        .ok(&["dead-letters", "show", "readings", &format!("0:{last}")]);
    assert!(text(&shown).contains("first 0:1"), "{}", text(&shown));
    assert_eq!(
        readings.list(&["--offset", "1"])["records"],
        4,
        "found by its first place"
    );
    readings.holds(1);
}

#[test]
fn records_that_a_sink_holds_or_that_are_still_to_be_read_are_left_out() {
    let readings = Readings::new("replay-held");
    readings.fill(5, 3);
    readings.run_once();
    // What a changed schema asks for: the same topic as a stream of another name, read from the beginning.
    readings.fix();
    readings.configure("name = \"readings", "name = \"readings2");
    readings.configure("\"readings2_by_day\"", "\"readings2_daily\"");
    let replay = |key: &str| {
        let output = readings
            .job
            .ok(&["dead-letters", "replay", "--stream", "readings2", "--json"]);
        let outcome = serde_json::from_slice::<Value>(&output.stdout).unwrap()[0].clone();
        assert_eq!(
            (&outcome["replayed"], &outcome["left_out"][key]),
            (&0.into(), &3.into()),
            "{outcome}"
        );
    };
    replay("unread");
    readings.job.ok(&["run", "--once", "--stream", "readings2"]);
    replay("stored");
    readings.job.ok(&["verify", "--stream", "readings2"]);
}

#[test]
fn a_record_larger_than_a_producers_default_is_replayed_and_one_its_topic_no_longer_takes_is_named() {
    let readings = Readings::new("replay-large");
    // Random letters: no compression makes them small.
    let huge = |seed: u64| {
        use rand::{RngExt, SeedableRng};
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        let noise: String = (0..3_000_000).map(|_| random.random_range('a'..='z')).collect();
        Record::new(format!(r#"{{"at":"2026-01-01T00:00:00Z","note":"{noise}"}}"#))
    };
    readings.topic.send(&[huge(1), huge(2), Record::new(large(1))]);
    readings.run_once();
    readings.fix();
    assert_eq!(readings.replay(&["--offset", "0"])["replayed"], 1);
    readings.topic.set("max.message.bytes", "1000000");
    let refused = readings.job.output(&["dead-letters", "replay", "--stream", "readings"]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    for named in ["0:1", "max.message.bytes", "--offset"] {
        assert!(
            text(&refused).contains(named),
            "{named} is not named: {}",
            text(&refused)
        );
    }
    assert_eq!(
        readings.replay(&["--offset", "2"])["replayed"],
        1,
        "the others can go on"
    );
    readings.topic.set("max.message.bytes", crate::topic::MAX_MESSAGE_BYTES);
    assert_eq!(readings.replay(&[])["replayed"], 1);
    readings.run_once();
    readings.holds(3);
}
