//! Missing services and wrong configuration: clear words, the right exit code, nothing lost.

use crate::support::{Job, env, text};

/// A port nobody listens on: bound and released.
fn closed_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[test]
fn once_gives_up_on_a_missing_broker_with_exit_3_and_says_which() {
    let broker = format!("127.0.0.1:{}", closed_port());
    let job = Job::with_services("no-kafka", &broker, &env("AFFLUENT_TEST_MONGO"), "");
    let output = job.output(&["--set", "limits.once_timeout=3s", "run", "--once"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("kafka"), "{}", text(&output));
}

#[test]
fn once_gives_up_on_a_missing_mongod_with_exit_3_and_says_which() {
    let uri = format!(
        "mongodb://127.0.0.1:{}/?replicaSet=rs0&serverSelectionTimeoutMS=500",
        closed_port()
    );
    let job = Job::with_services("no-mongo", &env("AFFLUENT_TEST_KAFKA"), &uri, "");
    let output = job.output(&["--set", "limits.once_timeout=2s", "run", "--once"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("mongo has been missing"), "{}", text(&output));
}

#[test]
fn a_missing_topic_is_waited_for_and_named() {
    let job = Job::new("no-topic", "");
    let output = job.output(&["--set", "limits.once_timeout=3s", "run", "--once", "--stream", "sales"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains(&job.topic("sales")), "{}", text(&output));
}

#[test]
fn a_wrong_configuration_lists_every_problem_and_exits_2() {
    let job = Job::new("wrong", "[lake2]\n[[streams]]\npreset = \"sale\"\nnam = 1\n");
    let output = job.output(&["check"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    for named in ["lake2", "nam", "sale", "affluent.toml"] {
        assert!(
            text(&output).contains(named),
            "{named} is not named:\n{}",
            text(&output)
        );
    }
}

#[test]
fn an_unknown_stream_is_a_usage_error_that_lists_the_known_ones() {
    let job = Job::new("unknown", "");
    let output = job.output(&["run", "--once", "--stream", "salse"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("sales, clicks"), "{}", text(&output));
}

#[test]
fn check_connect_probes_every_service() {
    let job = Job::new("probe", "");
    job.produce("sales", 1, &[]);
    job.produce("clicks", 1, &[]);
    job.ok(&["check", "--connect"]);
    let broker = format!("kafka.brokers=127.0.0.1:{}", closed_port());
    assert_eq!(
        job.output(&["--set", &broker, "check", "--connect"]).status.code(),
        Some(3)
    );
}
