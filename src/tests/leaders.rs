//! Partition leaders that move under load: a broker that dies, comes back, and takes its leadership again.

use std::net::TcpListener;
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{Job, env, text, until};
use crate::topics;

/// Two brokers of one's own: killing one of the shared stack would end other tests.
struct TwoBrokers {
    dir: TempDir,
    ports: [u16; 3],
}

impl TwoBrokers {
    /// Starts the first. Internal topics have one replica: what is made before the second broker comes stays here.
    fn start() -> Self {
        let sockets: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> = sockets.iter().map(|s| s.local_addr().unwrap().port()).collect();
        drop(sockets);
        let dir = tempfile::Builder::new().prefix("affluent-brokers-").tempdir().unwrap();
        let brokers = Self {
            dir,
            ports: ports.try_into().unwrap(),
        };
        brokers.stack(&["up", "kafka"]);
        brokers
    }

    fn stack(&self, args: &[&str]) {
        let [kafka, controller, second] = self.ports.map(|port| port.to_string());
        let done = Command::new("scripts/stack.sh")
            .args(args)
            .env("AFFLUENT_STACK_DIR", self.dir.path())
            .env("AFFLUENT_STACK_MODE", "native")
            .env("AFFLUENT_KAFKA_PORT", kafka)
            .env("AFFLUENT_KAFKA_CONTROLLER_PORT", controller)
            .env("AFFLUENT_KAFKA2_PORT", second)
            .env("AFFLUENT_KAFKA_HEAP", "256m")
            .output()
            .unwrap();
        assert!(done.status.success(), "stack.sh {args:?}: {}", text(&done));
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{},127.0.0.1:{}", self.ports[0], self.ports[2])
    }
}

impl Drop for TwoBrokers {
    fn drop(&mut self) {
        self.stack(&["wipe"]);
    }
}

#[test]
fn leaders_that_move_under_load_cost_nothing() {
    let brokers = TwoBrokers::start();
    let address = brokers.address();
    let job = Job::with_services("leaders", &address, &env("AFFLUENT_TEST_MONGO"), "");
    job.produce("clicks", 10, &[]);
    job.ok(&["run", "--once", "--stream", "clicks"]);
    brokers.stack(&["up", "kafka2"]);
    let topic = job.topic("sales");
    topics::create_at(&address, &topic, &[&[2, 1], &[1, 2], &[2, 1]]);
    let leaders = |wanted: &[(i32, usize)]| {
        until(&format!("leaders and replicas are {wanted:?}"), || {
            (topics::leaders(&address, &topic) == wanted).then_some(())
        });
    };
    leaders(&[(2, 2), (1, 2), (2, 2)]);

    let hour = ["--since", "2026-01-01T08:00:00Z", "--until", "2026-01-01T09:00:00Z"];
    let load = [
        "produce", "sales", "--topic", &topic, "--rate", "300", "--count", "9000",
    ];
    let mut load = job.spawn("produce", &[&load[..], &hour].concat(), &[]);
    let mut run = job.spawn("run", &["run"], &[]);
    run.until_logged("committed stream=\"sales\"");
    brokers.stack(&["down", "--kill", "kafka2"]);
    leaders(&[(1, 1), (1, 1), (1, 1)]);
    let commits = |run: &crate::support::Running| run.log().matches("committed stream=\"sales\"").count();
    let seen = commits(&run);
    until("the new leader's records are committed", || {
        (commits(&run) > seen + 2).then_some(())
    });
    brokers.stack(&["up", "kafka2"]);
    leaders(&[(1, 2), (1, 2), (1, 2)]);
    let elect = [
        "--election-type",
        "PREFERRED",
        "--all-topic-partitions",
        "--bootstrap-server",
        &address,
    ];
    brokers.stack(
        &[
            &["kafka-tool", "org.apache.kafka.tools.LeaderElectionCommand"],
            &elect[..],
        ]
        .concat(),
    );
    leaders(&[(2, 2), (1, 2), (2, 2)]);
    assert_eq!(load.wait().code(), Some(0), "{}", load.log());
    until("everything is in both sinks", || job.caught_up().then_some(()));
    run.signal(Signal::TERM);
    assert_eq!(run.wait().code(), Some(0), "{}", run.log());
    assert_eq!(topics::rows(&job.verify(), "sales"), (9_000, 9_000));
}
