//! Orders to a mongod: injected failures, a step-down, and a server of a test's own that may be killed.
//!
//! Owns: `failCommand` (a server has one, so tests take turns), and the servers started here.
//! Does not own: how a mongod is started (`scripts/stack.sh`).

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bson::{Bson, Document, doc};
use mongodb::Client;
use tempfile::TempDir;

use super::{DEADLINE, text, until};

/// A command of the `admin` database.
pub fn admin(uri: &str, command: Document) -> mongodb::error::Result<Document> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = Client::with_uri_str(uri).await?;
        client.database("admin").run_command(command).await
    })
}

/// Failures injected into the commands of one client; they end with it.
pub struct FailCommand {
    uri: String,
    app: String,
    _turn: MutexGuard<'static, ()>,
}

impl FailCommand {
    /// For clients that call themselves `app`. Waits for its turn.
    pub fn for_client(uri: &str, app: &str) -> Self {
        static ONE_PER_SERVER: Mutex<()> = Mutex::new(());
        Self {
            uri: uri.to_owned(),
            app: app.to_owned(),
            _turn: ONE_PER_SERVER.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// `data` says what fails and how; `mode` how often. Answers the count of failures so far.
    pub fn arm(&self, mode: impl Into<Bson>, mut data: Document) -> i64 {
        data.insert("appName", &self.app);
        let command = doc! { "configureFailPoint": "failCommand", "mode": mode.into(), "data": data };
        let reply = admin(&self.uri, command).expect("a server with enableTestCommands=1");
        match reply.get("count") {
            Some(Bson::Int32(count)) => i64::from(*count),
            Some(Bson::Int64(count)) => *count,
            other => panic!("no count of failed commands: {other:?}"),
        }
    }

    /// Fails the next `times` such commands and returns when they have failed.
    pub fn strike(&self, times: i64, data: Document) {
        let before = self.arm(doc! { "times": times }, data.clone());
        let wait = doc! {
            "waitForFailPoint": "failCommand",
            "timesEntered": before + times,
            "maxTimeMS": DEADLINE.as_millis() as i64,
        };
        admin(&self.uri, wait).unwrap_or_else(|error| panic!("{data} never happened: {error}"));
    }

    pub fn disarm(&self) -> mongodb::error::Result<Document> {
        admin(&self.uri, doc! { "configureFailPoint": "failCommand", "mode": "off" })
    }
}

impl Drop for FailCommand {
    fn drop(&mut self) {
        // A server that is gone fails nothing any more.
        let _ = self.disarm();
    }
}

/// A mongod of a test's own, to be killed and started again.
pub struct Mongod {
    dir: TempDir,
    port: u16,
}

impl Mongod {
    pub fn start() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let server = Self {
            dir: tempfile::tempdir().unwrap(),
            port,
        };
        server.up();
        server
    }

    pub fn uri(&self) -> String {
        format!("mongodb://127.0.0.1:{}/?replicaSet=rs0", self.port)
    }

    /// Returns when it takes writes.
    pub fn up(&self) {
        self.stack(&["up", "mongo"]);
    }

    /// SIGKILL.
    pub fn kill(&self) {
        self.stack(&["down", "--kill", "mongo"]);
    }

    /// Gives up being primary until [`Self::step_up`]. No other member can take over.
    ///
    /// A time that ends by itself would not do: it counts from the command, which may wait long for its lock on a busy
    /// machine, and the server would be back before anybody has missed it. For the same reason it may be refused: it is
    /// asked until it is secondary.
    pub fn step_down(&self) {
        until("the server has stepped down", || {
            let refused = self.order(doc! { "replSetStepDown": 600, "force": true }).err();
            let role = self.order(doc! { "hello": 1 }).unwrap();
            let is_secondary = role.get_bool("secondary").unwrap();
            if let (false, Some(error)) = (is_secondary, refused) {
                eprintln!("it does not step down yet: {error}");
            }
            is_secondary.then_some(())
        });
    }

    /// May be elected again, and is alone to vote.
    pub fn step_up(&self) {
        self.order(doc! { "replSetFreeze": 0 }).unwrap();
    }

    /// Whatever its role is.
    fn order(&self, command: Document) -> mongodb::error::Result<Document> {
        admin(
            &format!("mongodb://127.0.0.1:{}/?directConnection=true", self.port),
            command,
        )
    }

    fn stack(&self, args: &[&str]) {
        let output = Command::new("scripts/stack.sh")
            .args(args)
            .env("AFFLUENT_STACK_DIR", self.dir.path())
            .env("AFFLUENT_STACK_MODE", "native")
            .env("AFFLUENT_MONGO_PORT", self.port.to_string())
            .env("AFFLUENT_MONGO_CACHE_GB", "0.25")
            .output()
            .unwrap();
        assert!(output.status.success(), "stack.sh {args:?}: {}", text(&output));
    }
}

impl Drop for Mongod {
    fn drop(&mut self) {
        self.stack(&["down", "--kill", "mongo"]);
    }
}
