//! A job of its own per test: configuration, topics, database, lake directory, and the commands on it. What tests do to
//! the services and see of a running job lies below.

pub mod mongod;
pub mod observed;
pub mod proxy;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Longest time any step may take before the test fails; generous, the machines are shared.
pub const DEADLINE: Duration = Duration::from_secs(180);

pub fn env(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: these tests need the services that scripts/test.sh starts"))
}

/// A place of its own in the bucket of the tests' S3 store.
pub fn s3_root(test: &str) -> String {
    format!("s3://lake/{test}-{}", uuid::Uuid::new_v4().simple())
}

/// `lake.storage` for it.
pub fn s3_options() -> BTreeMap<String, String> {
    [
        "aws_endpoint",
        "aws_access_key_id",
        "aws_secret_access_key",
        "aws_region",
    ]
    .into_iter()
    .zip(env("AFFLUENT_TEST_S3").split(' '))
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

/// A directory of its own in the tests' HDFS.
pub fn hdfs_root(test: &str) -> String {
    format!("{}/{test}-{}", env("AFFLUENT_TEST_HDFS"), uuid::Uuid::new_v4().simple())
}

/// Waits until `condition` answers, at most [`DEADLINE`].
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(started.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// One isolated job. Its directory is kept when the test fails, so that logs can be read.
pub struct Job {
    dir: TempDir,
    pub name: String,
}

impl Job {
    /// `extra` is TOML appended to the configuration.
    pub fn new(test: &str, extra: &str) -> Self {
        Self::with_services(test, &env("AFFLUENT_TEST_KAFKA"), &env("AFFLUENT_TEST_MONGO"), extra)
    }

    pub fn with_services(test: &str, kafka: &str, mongo: &str, extra: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix(&format!("affluent-{test}-"))
            .tempdir()
            .unwrap();
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("{test}-{}", &unique[..8]);
        let job = Self { dir, name };
        let config = format!(
            r#"job = "{name}"
[kafka]
brokers = "{kafka}"
group = "{name}"
[kafka.properties]
"session.timeout.ms" = "6000"
"heartbeat.interval.ms" = "500"
[mongo]
uri = "{mongo}"
database = "{name}"
flush_interval = "200ms"
[lake]
root = "{lake}"
commit_interval = "500ms"
idle_interval = "300ms"
[http]
enabled = false
[limits]
once_timeout = "150s"
[[streams]]
preset = "sales"
topic = "{name}-sales"
[[streams]]
preset = "clicks"
topic = "{name}-clicks"
{extra}
"#,
            name = job.name,
            lake = job.path("lake").display(),
        );
        std::fs::write(job.path("affluent.toml"), config).unwrap();
        job
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes `affluent.toml` anew under this name, edited; answers with the name, for `--config`.
    pub fn configure<'a>(&self, name: &'a str, edit: impl FnOnce(String) -> String) -> &'a str {
        let config = std::fs::read_to_string(self.path("affluent.toml")).unwrap();
        std::fs::write(self.path(name), edit(config)).unwrap();
        name
    }

    pub fn topic(&self, stream: &str) -> String {
        format!("{}-{stream}", self.name)
    }

    /// `affluent ARGS`, in the job's directory, so that its `affluent.toml` is found.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_affluent"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .env_remove("AFFLUENT_FAILPOINT");
        command
    }

    pub fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that must succeed.
    pub fn ok(&self, args: &[&str]) -> Output {
        let output = self.output(args);
        assert!(
            output.status.success(),
            "affluent {args:?} ended with {}:\n{}",
            output.status,
            text(&output)
        );
        output
    }

    /// Runs a command that is killed the `nth` time it reaches this failpoint. What is not reached so often may also end
    /// well; the first time always comes.
    #[cfg(feature = "failpoints")]
    pub fn killed_at(&self, failpoint: &str, nth: u32, args: &[&str]) {
        use std::os::unix::process::ExitStatusExt as _;

        let armed = format!("{failpoint}:{nth}");
        let output = self.command(args).env("AFFLUENT_FAILPOINT", &armed).output().unwrap();
        assert!(
            output.status.signal() == Some(9) || (nth > 1 && output.status.success()),
            "affluent {args:?} at {armed} ended with {}:\n{}",
            output.status,
            text(&output)
        );
    }

    pub fn produce(&self, stream: &str, count: u64, more: &[&str]) {
        let (topic, count) = (self.topic(stream), count.to_string());
        let mut args = vec!["produce", stream, "--topic", &topic, "--count", &count, "--seed", "7"];
        args.extend(more);
        self.ok(&args);
    }

    pub fn run_once(&self) -> Output {
        self.ok(&["run", "--once"])
    }

    /// A long-running command, its log in `NAME.log` of the job's directory.
    pub fn spawn(&self, log: &str, args: &[&str], env: &[(&str, &str)]) -> Running {
        let path = self.path(&format!("{log}.log"));
        let file = File::options().create(true).append(true).open(&path).unwrap();
        let mut command = self.command(args);
        command
            .envs(env.iter().copied())
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        Running {
            child: command.spawn().unwrap(),
            log: path,
        }
    }

    /// Sales at a steady rate, records per second, as long as the answer lives. Straight to Kafka, past a proxy that
    /// stands before the job.
    pub fn load(&self, rate: u64, more: &[&str]) -> Running {
        let (brokers, topic) = (
            format!("kafka.brokers={}", env("AFFLUENT_TEST_KAFKA")),
            self.topic("sales"),
        );
        let rate = rate.to_string();
        let mut args = vec![
            "--set", &brokers, "produce", "sales", "--topic", &topic, "--rate", &rate,
        ];
        args.extend(more);
        self.spawn("produce", &args, &[])
    }

    /// `verify` must hold; its JSON.
    pub fn verify(&self) -> Value {
        self.verify_with(&[])
    }

    pub fn verify_stream(&self, stream: &str) -> Value {
        self.verify_with(&["--stream", stream])
    }

    fn verify_with(&self, more: &[&str]) -> Value {
        let output = self.output(&[&["verify", "--json"], more].concat());
        assert!(
            output.status.success(),
            "verify does not hold for {}:\n{}",
            self.dir.path().display(),
            text(&output)
        );
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        for stream in report["streams"].as_array().unwrap() {
            // Where no rule has changed this would be a good record that the job has wrongly rejected.
            assert_eq!(stream["records"]["rejected_earlier"], 0, "{stream}");
        }
        report
    }

    pub fn status(&self) -> Value {
        serde_json::from_slice(&self.ok(&["status", "--json"]).stdout).unwrap()
    }

    /// Both sinks have reached the log's end, by `status`.
    pub fn caught_up(&self) -> bool {
        let output = self.output(&["status", "--json"]);
        let Ok(status) = serde_json::from_slice::<Value>(&output.stdout) else {
            return false;
        };
        lag(&status) == Some(0)
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.dir.disable_cleanup(std::thread::panicking());
    }
}

/// Sum of the lag of all partitions of all streams; `None` where one is unknown.
pub fn lag(status: &Value) -> Option<u64> {
    let partitions = status["streams"]
        .as_array()?
        .iter()
        .filter_map(|s| s["partitions"].as_array())
        .flatten();
    partitions.map(|p| p["lag_records"].as_u64()).sum()
}

/// Asks the job's own database, on a client of its own: a client lives in the runtime that made it.
pub fn in_database<T, F: Future<Output = T>>(job: &Job, ask: impl FnOnce(mongodb::Database) -> F) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(async {
        let client = mongodb::Client::with_uri_str(env("AFFLUENT_TEST_MONGO")).await.unwrap();
        ask(client.database(&job.name)).await
    })
}

pub fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A process that a test started; killed when it goes out of scope.
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    #[cfg(feature = "failpoints")]
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        until("the process ends", || child.try_wait().unwrap())
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its end, if it has come.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    pub fn until_logged(&self, needle: &str) {
        until(&format!("{needle:?} in {}", self.log.display()), || {
            self.log().contains(needle).then_some(())
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Total size of the files below a directory whose name ends so.
pub fn files_below(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found
}
