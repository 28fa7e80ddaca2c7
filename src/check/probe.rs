//! One probe per service and place that the configuration names, all at once, each within a bound.
//!
//! Owns: what is probed, the sentence that says what to do where a probe fails.
//! Does not own: talking to the services (`kafka::admin`, `sink::mongo`, `lake::store`).

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use bson::doc;
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use object_store::ObjectStoreExt;

use crate::config::secret::mask_uri;
use crate::config::{Config, KafkaConfig, LakeConfig, StreamConfig};
use crate::error::{Invariant, SinkError};
use crate::kafka::admin::describe_topic;
use crate::lake::store::Store;
use crate::sink::mongo::MongoSink;

/// Name below the lake's root that no stream can have: stream names begin with a letter or digit.
const PROBE_NAME: &str = "_affluent_check";

const KAFKA_REMEDY: &str = "are kafka.brokers and kafka.properties right, and is the broker up and reachable?";

/// One probe's outcome; prints as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// Service and place, without secrets.
    pub what: String,
    /// What was found; or what went wrong, and what to do about it.
    pub outcome: Result<String, String>,
}

impl Probed {
    pub fn passed(&self) -> bool {
        self.outcome.is_ok()
    }
}

impl fmt::Display for Probed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mark, text) = match &self.outcome {
            Ok(found) => ("ok    ", found),
            Err(error) => ("failed", error),
        };
        write!(f, "{mark}  {}: {}", self.what, one_line(text))
    }
}

/// Services answer in paragraphs at times; a comment line must not end early.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Probes everything. In the order of the configuration; the same place is probed once.
pub async fn all(config: &Config, timeout: Duration) -> Vec<Probed> {
    let mut probes: Vec<BoxFuture<'_, Probed>> = Vec::new();
    for stream in &config.streams {
        probes.push(topic(&config.kafka, stream, timeout).boxed());
        probes.push(dead_letter_topic(&config.kafka, stream, timeout).boxed());
    }
    let mut seen = BTreeSet::new();
    for stream in config.streams.iter().filter(|stream| stream.mongo.enabled) {
        if seen.insert((&stream.mongo.uri, &stream.mongo.database)) {
            probes.push(mongo(&config.job, stream, timeout).boxed());
        }
    }
    let mut seen = BTreeSet::new();
    for stream in config.streams.iter().filter(|stream| stream.lake.enabled) {
        if seen.insert((&stream.lake.root, &stream.lake.storage)) {
            probes.push(lake(&stream.lake, timeout).boxed());
        }
    }
    join_all(probes).await
}

async fn topic(kafka: &KafkaConfig, stream: &StreamConfig, timeout: Duration) -> Probed {
    let name = &stream.topic;
    let found = async {
        match describe_topic(kafka, name, within_its_bound(timeout)).await? {
            Some(topic) => Ok(format!("{} partitions, id {}", topic.partitions.len(), topic.id)),
            None => {
                let choices = format!("create it, for instance with `kafka-topics.sh --create --topic {name}`");
                Err(Invariant::new("there is no such topic", choices).into())
            }
        }
    };
    Probed {
        what: format!("kafka topic {name} at {}", kafka.brokers),
        outcome: within(timeout, KAFKA_REMEDY, found).await,
    }
}

async fn dead_letter_topic(kafka: &KafkaConfig, stream: &StreamConfig, timeout: Duration) -> Probed {
    let name = &stream.dead_letter_topic;
    let found = async {
        Ok(match describe_topic(kafka, name, within_its_bound(timeout)).await? {
            Some(topic) => format!("{} partitions, id {}", topic.partitions.len(), topic.id),
            None => "not there yet, is created when it is needed".to_owned(),
        })
    };
    Probed {
        what: format!("kafka topic {name} at {}", kafka.brokers),
        outcome: within(timeout, KAFKA_REMEDY, found).await,
    }
}

/// librdkafka knows why it waits, and says so only when its own time is up: that must come first.
fn within_its_bound(timeout: Duration) -> Duration {
    timeout.mul_f64(0.8)
}

async fn mongo(job: &str, stream: &StreamConfig, timeout: Duration) -> Probed {
    let mongo = &stream.mongo;
    let found = async {
        // The sink's own demands on a deployment; connecting writes nothing.
        MongoSink::connect(job, stream).await?;
        server(&mongo.uri).await
    };
    Probed {
        what: format!("mongo {} database {}", mask_uri(&mongo.uri), mongo.database),
        outcome: within(
            timeout,
            "is mongo.uri right, and is the server up and reachable?",
            found,
        )
        .await,
    }
}

/// Version and kind of deployment, for people.
async fn server(uri: &str) -> anyhow::Result<String> {
    let admin = mongodb::Client::with_uri_str(uri).await?.database("admin");
    let build = admin.run_command(doc! { "buildInfo": 1 }).await?;
    let hello = admin.run_command(doc! { "hello": 1 }).await?;
    let version = build.get_str("version").unwrap_or("of unknown version");
    let deployment = match hello.get_str("setName") {
        Ok(set) => format!("replica set {set}"),
        Err(_) => "sharded cluster".to_owned(),
    };
    Ok(format!("MongoDB {version}, {deployment}"))
}

async fn lake(lake: &LakeConfig, timeout: Duration) -> Probed {
    let found = async {
        match local_directory(&lake.root)? {
            Some(directory) => tokio::task::spawn_blocking(move || probe_directory(&directory)).await?,
            None => probe_store(lake).await,
        }
    };
    Probed {
        what: format!("lake {}", mask_uri(&lake.root)),
        outcome: within(timeout, "is lake.root right, and may this user write there?", found).await,
    }
}

async fn probe_store(lake: &LakeConfig) -> anyhow::Result<String> {
    let store = Store::open(&lake.root, &lake.storage, PROBE_NAME).await?;
    let object = object_store::path::Path::from(uuid::Uuid::new_v4().to_string());
    store
        .objects()
        .put(&object, "probe".into())
        .await
        .context("cannot write an object")?;
    store
        .objects()
        .delete(&object)
        .await
        .context("cannot delete an object")?;
    Ok("an object was written and deleted".to_owned())
}

/// The directory a root names on this machine; `None` where it is elsewhere.
fn local_directory(root: &str) -> anyhow::Result<Option<PathBuf>> {
    match root.split_once("://") {
        None => Ok(Some(PathBuf::from(root))),
        Some(("file", _)) => {
            let directory = url::Url::parse(root)?.to_file_path();
            Ok(Some(
                directory.ok().context("the URL names no directory of this machine")?,
            ))
        }
        Some(_) => Ok(None),
    }
}

/// A root that is missing is not created here: a check leaves nothing behind. The nearest directory above it
/// tells whether it could be.
fn probe_directory(root: &Path) -> anyhow::Result<String> {
    let root = std::path::absolute(root)?;
    let existing = root
        .ancestors()
        .find(|directory| directory.exists())
        .unwrap_or(Path::new("/"));
    let file = existing.join(format!(".{PROBE_NAME}.{}", uuid::Uuid::new_v4().simple()));
    std::fs::write(&file, "probe").with_context(|| format!("cannot write in {}", existing.display()))?;
    std::fs::remove_file(&file).with_context(|| format!("cannot delete {}", file.display()))?;
    Ok(if existing == root {
        format!("{} can be written", root.display())
    } else {
        format!("{} is not there yet and can be created", root.display())
    })
}

/// The probe's answer in time. `remedy` is added to errors that do not bring their own.
async fn within(
    timeout: Duration,
    remedy: &str,
    probe: impl Future<Output = anyhow::Result<String>>,
) -> Result<String, String> {
    match tokio::time::timeout(timeout, probe).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) if names_its_remedy(&error) => Err(format!("{error:#}")),
        Ok(Err(error)) => Err(format!("{error:#} — {remedy}")),
        Err(_) => Err(format!(
            "no answer within {} — {remedy}",
            humantime::format_duration(timeout)
        )),
    }
}

fn names_its_remedy(error: &anyhow::Error) -> bool {
    error.is::<Invariant>() || matches!(error.downcast_ref(), Some(SinkError::Invariant(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writable_directory_passes_and_keeps_no_trace() {
        let root = tempfile::tempdir().expect("directory");
        let found = probe_directory(root.path()).expect("can be written");
        assert!(found.ends_with("can be written"), "{found}");
        let missing = root.path().join("deep/er");
        let found = probe_directory(&missing).expect("can be created");
        assert!(found.ends_with("is not there yet and can be created"), "{found}");
        assert_eq!(root.path().read_dir().expect("readable").count(), 0);
    }

    #[test]
    fn a_root_below_a_file_fails() {
        let root = tempfile::tempdir().expect("directory");
        let file = root.path().join("file");
        std::fs::write(&file, "").expect("written");
        let error = probe_directory(&file.join("lake")).expect_err("no directory");
        assert!(format!("{error:#}").contains("cannot write in"), "{error:#}");
    }

    #[test]
    fn file_urls_and_paths_are_local_and_others_are_not() {
        let local = |root| local_directory(root).expect("readable");
        assert_eq!(local("file:///srv/the%20lake"), Some(PathBuf::from("/srv/the lake")));
        assert_eq!(local("lake"), Some(PathBuf::from("lake")));
        assert_eq!(local("s3://bucket/lake"), None);
    }

    #[tokio::test]
    async fn a_service_that_never_answers_fails_in_time() {
        let outcome = within(Duration::from_millis(5), "start it", std::future::pending()).await;
        assert_eq!(outcome, Err("no answer within 5ms — start it".to_owned()));
    }

    #[tokio::test]
    async fn an_error_that_brings_its_own_remedy_gets_no_second_one() {
        let outcome = async |error: anyhow::Error| {
            within(Duration::from_secs(60), "start it", std::future::ready(Err(error))).await
        };
        let standalone = Invariant::new("no transactions", "use a replica set");
        let expected = Err("no transactions — use a replica set".to_owned());
        assert_eq!(outcome(standalone.clone().into()).await, expected);
        assert_eq!(outcome(SinkError::from(standalone).into()).await, expected);
        assert_eq!(
            outcome(anyhow::anyhow!("refused")).await,
            Err("refused — start it".to_owned())
        );
    }

    #[test]
    fn a_probe_is_one_line() {
        let failed = Probed {
            what: "mongo mongodb://***@db database shop".to_owned(),
            outcome: Err("refused\nby the server — start it".to_owned()),
        };
        let expected = "failed  mongo mongodb://***@db database shop: refused by the server — start it";
        assert_eq!(failed.to_string(), expected);
    }
}
