//! `affluent check`: the resolved configuration, and with `--connect` whether every service answers.
//!
//! Owns: the probes and their one-line answers. Does not own: validation (`config`), which has happened before.
//! Nothing is created but one empty file in a directory of its own in the lake's root; the file is removed again.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context as _, bail};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};

use crate::config::{Config, KafkaConfig, LakeConfig, StreamConfig, show};
use crate::error::Exit;
use crate::kafka::admin;
use crate::lake::store::Store;
use crate::sink::mongo::MongoSink;

/// No stream may have this name: names of streams do not start with a dot.
const PROBE_DIRECTORY: &str = ".affluent-check";
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Probe Kafka, MongoDB and the lake's root instead of printing the configuration
    #[arg(long)]
    pub connect: bool,
}

type Probe<'a> = Pin<Box<dyn Future<Output = anyhow::Result<String>> + Send + 'a>>;

pub async fn run(args: CheckArgs, config: &Config) -> anyhow::Result<Exit> {
    if !args.connect {
        print!("{}", show::to_toml(config));
        return Ok(Exit::Ok);
    }
    let answers = futures::future::join_all(probes(config).into_iter().map(|(name, probe)| async move {
        let answer = tokio::time::timeout(PROBE_TIMEOUT, probe).await;
        (
            name,
            answer.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {} s", PROBE_TIMEOUT.as_secs()))),
        )
    }));
    let mut exit = Exit::Ok;
    for (name, answer) in answers.await {
        match answer {
            Ok(found) => println!("ok      {name}: {found}"),
            Err(error) => {
                exit = Exit::Infrastructure;
                println!("failed  {name}: {error:#}");
            }
        }
    }
    Ok(exit)
}

/// One probe per service, and one per topic; sinks that streams share are asked once.
fn probes(config: &Config) -> Vec<(String, Probe<'_>)> {
    let mut probes: Vec<(String, Probe<'_>)> = Vec::new();
    let mut asked: Vec<String> = Vec::new();
    let mut first = |name: &String| {
        let new = !asked.contains(name);
        if new {
            asked.push(name.clone());
        }
        new
    };
    for stream in &config.streams {
        probes.push((
            format!("topic {}", stream.topic),
            Box::pin(topic(&config.kafka, stream)),
        ));
        let name = format!("mongodb database {}", stream.mongo.database);
        if stream.mongo.enabled && first(&format!("{name} {}", stream.mongo.uri)) {
            probes.push((name, Box::pin(mongodb(&config.job, stream))));
        }
        let name = format!("lake {}", stream.lake.root);
        if stream.lake.enabled && first(&name) {
            probes.push((name, Box::pin(lake(&stream.lake))));
        }
    }
    probes
}

async fn topic(kafka: &KafkaConfig, stream: &StreamConfig) -> anyhow::Result<String> {
    match admin::describe_topic(kafka, &stream.topic, PROBE_TIMEOUT).await? {
        Some(topic) => Ok(format!("{} partitions, id {}", topic.partitions.len(), topic.id)),
        None => bail!(
            "does not exist at {}: create it, for instance with `affluent produce {} --count 1`, or Kafka's own tool",
            kafka.brokers,
            stream.name
        ),
    }
}

async fn mongodb(job: &str, stream: &StreamConfig) -> anyhow::Result<String> {
    MongoSink::connect(job, stream).await?;
    Ok("answers, and can run transactions".to_owned())
}

async fn lake(lake: &LakeConfig) -> anyhow::Result<String> {
    let store = Store::open(&lake.root, &lake.storage, PROBE_DIRECTORY)?;
    let path = Path::from("probe");
    store
        .objects()
        .put(&path, PutPayload::from_static(b""))
        .await
        .context("cannot write a file")?;
    store.objects().delete(&path).await.context("cannot delete a file")?;
    Ok(format!("{} can be written", lake.root))
}
