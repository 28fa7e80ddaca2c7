//! A second instance on another configuration: refused before it joins the group, with what differs, where, and the
//! choices. The instance that runs is not disturbed. Compatible changes of the declared fields: `schema_change`.

use rustix::process::Signal;

use crate::support::{Job, Running, text, until};
use crate::topics::{self, Writer};

/// Which sinks a job has. What one sink would let through must not hide behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sinks {
    Both,
    Mongo,
    Lake,
}

use Sinks::{Both, Lake, Mongo};

const EVERY: &[Sinks] = &[Both, Mongo, Lake];

/// One difference from the configuration of the instance that runs.
struct Case {
    what: &'static str,
    /// Replacements in the configuration's text; `NAME` stands for the job's unique name.
    edits: &'static [(&'static str, &'static str)],
    sinks: &'static [Sinks],
    /// What the refusal says, whichever sinks there are.
    says: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        what: "a required field added",
        edits: &[(
            "# more fields",
            "{ name = \"extra\", type = \"string\", required = true },",
        )],
        sinks: EVERY,
        says: &["readings", "extra", "declare"],
    },
    Case {
        what: "a field of another type",
        edits: &[("\"decimal(18,3)\"", "\"decimal(18,2)\"")],
        sinks: EVERY,
        says: &["readings", "decimal(18,3)", "decimal(18,2)"],
    },
    Case {
        what: "a field that is required now",
        edits: &[(
            "{ name = \"note\", type = \"string\" },",
            "{ name = \"note\", type = \"string\", required = true },",
        )],
        sinks: EVERY,
        says: &["readings", "note", "string required"],
    },
    Case {
        what: "another event time",
        edits: &[("event_time = \"at\"", "event_time = \"seen\"")],
        sinks: EVERY,
        says: &["readings", "event_time | at", "| seen"],
    },
    Case {
        what: "another partitioning",
        edits: &[("partition_by = [\"date\", \"site\"]", "partition_by = [\"site\"]")],
        sinks: EVERY,
        says: &["readings", "site"],
    },
    Case {
        what: "another time zone",
        edits: &[("timezone = \"UTC\"", "timezone = \"Europe/Paris\"")],
        sinks: EVERY,
        says: &["readings", "timezone | UTC", "| Europe/Paris"],
    },
    Case {
        what: "another topic under the same stream name",
        edits: &[("topic = \"NAME-readings\"", "topic = \"NAME-others\"")],
        sinks: EVERY,
        says: &["NAME-readings", "NAME-others", "a stream of its own"],
    },
    Case {
        what: "another job",
        edits: &[("job = \"NAME\"", "job = \"NAME-b\"")],
        sinks: EVERY,
        says: &["NAME-b", "another"],
    },
    Case {
        what: "another table root",
        edits: &[("/lake\"", "/elsewhere\"")],
        sinks: &[Both],
        says: &["lake has no progress", "/elsewhere", "database NAME", "lake.root"],
    },
    Case {
        what: "another database",
        edits: &[("database = \"NAME\"", "database = \"NAME-b\"")],
        sinks: &[Both],
        says: &["mongo has no progress", "database NAME-b", "/lake", "mongo.database"],
    },
    Case {
        what: "another measure in a rollup",
        edits: &[("sum(value)", "max(value)")],
        sinks: &[Both, Mongo],
        says: &["rollup definitions of stream readings", "sum(value)", "max(value)"],
    },
    Case {
        what: "another bucket in a rollup",
        edits: &[("every = \"1m\"", "every = \"1h\"")],
        sinks: &[Both, Mongo],
        says: &["rollup definitions of stream readings"],
    },
    Case {
        what: "a rollup more",
        edits: &[(
            "# more rollups",
            "[[streams.rollups]]\nname = \"NAME_by_day\"\nevery = \"1d\"\nmeasures = { readings = \"count()\" }",
        )],
        sinks: &[Both, Mongo],
        says: &["rollup definitions of stream readings", "NAME_by_day"],
    },
    Case {
        what: "another stream that adds to the same rollup",
        edits: &[("name = \"readings\"", "name = \"others\"")],
        sinks: &[Both, Mongo],
        says: &["readings_by_minute", "another stream name"],
    },
];

const FIELDS: &str = r#"event_time = "at"
fields = [
  { name = "at", type = "timestamp", required = true },
  { name = "seen", type = "timestamp", required = true },
  { name = "site", type = "string", required = true },
  { name = "value", type = "decimal(18,3)", required = true },
  { name = "note", type = "string" },
  # more fields
]
partition_by = ["date", "site"]
timezone = "UTC"
[[streams.rollups]]
name = "readings_by_minute"
every = "1m"
by = ["site"]
measures = { total = "sum(value)" }
# more rollups
"#;

/// A job with one stream, everything of it spelled out.
fn job(sinks: Sinks) -> Job {
    let job = Job::new("identity", "");
    job.configure("affluent.toml", |config| {
        let (head, _) = config.split_once("[[streams]]").unwrap();
        let head = match sinks {
            Both => head.to_owned(),
            Mongo => head.replace("[lake]\n", "[lake]\nenabled = false\n"),
            Lake => head.replace("[mongo]\n", "[mongo]\nenabled = false\n"),
        };
        let (name, topic) = ("readings", job.topic("readings"));
        format!("{head}[[streams]]\nname = \"{name}\"\ntopic = \"{topic}\"\n{FIELDS}")
    });
    topics::create(&job.topic("readings"), 4, &[]);
    job
}

fn write(job: &Job, from: u32) {
    let writer = Writer::new(&job.topic("readings"), &[]);
    for n in from..from + 200 {
        let at = format!("2026-01-01T00:{:02}:00Z", n % 60);
        let payload = format!(r#"{{"at":"{at}","seen":"{at}","site":"s{}","value":{n}.5}}"#, n % 3);
        writer.send((n % 4) as i32, None, Some(&payload));
    }
    writer.flush();
}

fn refused(job: &Job, sinks: Sinks, case: &Case) {
    let named = |text: &str| text.replace("NAME", &job.name);
    job.configure("second.toml", |mut config| {
        for (from, to) in case.edits {
            let from = named(from);
            assert!(
                config.contains(&from),
                "{}: {from} is not in the configuration",
                case.what
            );
            config = config.replace(&from, &named(to));
        }
        config
    });
    let second = job.output(&["--config", "second.toml", "run", "--once"]);
    let said = text(&second);
    assert_eq!(second.status.code(), Some(1), "{} with {sinks:?}:\n{said}", case.what);
    for needle in case.says {
        assert!(
            said.contains(&named(needle)),
            "{} with {sinks:?} does not say {needle}:\n{said}",
            case.what
        );
    }
}

fn lines(run: &Running, event: &str) -> usize {
    run.log().lines().filter(|line| line.contains(event)).count()
}

#[test]
fn an_instance_on_another_configuration_is_refused_and_the_running_one_goes_on_undisturbed() {
    for &sinks in EVERY {
        let job = job(sinks);
        write(&job, 0);
        let mut first = job.spawn("first", &["run"], &[]);
        until("the first records are in", || job.caught_up().then_some(()));
        for case in CASES.iter().filter(|case| case.sinks.contains(&sinks)) {
            refused(&job, sinks, case);
        }
        write(&job, 200);
        until("the first instance goes on", || job.caught_up().then_some(()));
        assert_eq!(
            lines(&first, " reading stream="),
            1,
            "nobody took partitions away:\n{}",
            first.log()
        );
        assert_eq!(lines(&first, "handed over"), 0, "{}", first.log());
        first.signal(Signal::TERM);
        assert_eq!(first.wait().code(), Some(0), "{}", first.log());
        job.verify();
    }
}

#[test]
fn an_instance_on_the_same_configuration_but_other_cadence_is_welcome() {
    let job = job(Both);
    write(&job, 0);
    job.run_once();
    // Neither says what is stored, nor where: they may differ between instances.
    for other in [
        "mongo.flush_interval=1s",
        "lake.commit_interval=2s",
        "lake.target_file_size=1MiB",
        "kafka.group=b",
    ] {
        write(&job, 200);
        job.ok(&["--set", other, "run", "--once"]);
    }
    job.verify();
}
