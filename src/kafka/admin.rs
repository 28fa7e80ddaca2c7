//! Questions and orders about topics: describe, create, properties, watermarks.
//!
//! Owns: short-lived clients for them, and error texts that carry librdkafka's own reason ("connection
//! refused") next to the mere "timed out" of the request.
//! Does not own: the native call behind [`describe_topic`] (`describe`).

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use chrono::{DateTime, Utc};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::{Client, ClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};

use super::describe::describe;
use super::{LogContext, client_config};
use crate::config::KafkaConfig;
use crate::offsets::{Offset, Partition, TopicId};

/// For orders and questions that take no timeout of the caller's.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    /// [`TopicId::unknown`] where the brokers know no ids.
    pub id: TopicId,
    /// Ascending.
    pub partitions: Vec<Partition>,
}

/// The ends of a partition's log, half open: `low` is the first offset there is, `high` the next one a
/// consumer of committed records could read (the last stable offset).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    pub low: Offset,
    pub high: Offset,
}

/// `None` where there is no such topic; an error only where that could not be found out.
pub async fn describe_topic(
    kafka: &KafkaConfig,
    topic: &str,
    timeout: Duration,
) -> anyhow::Result<Option<TopicDescription>> {
    let name = topic.to_owned();
    ask(kafka, move |client| Ok(describe(client, &name, timeout)?))
        .await
        .with_context(|| format!("cannot describe topic {topic} at {}", kafka.brokers))
}

/// The ends of these partitions. `timeout` bounds the whole question, not each partition's.
pub async fn watermarks(
    kafka: &KafkaConfig,
    topic: &str,
    partitions: &[Partition],
    timeout: Duration,
) -> anyhow::Result<BTreeMap<Partition, Watermarks>> {
    let name = topic.to_owned();
    let partitions = partitions.to_vec();
    ask(kafka, move |client| {
        let deadline = Instant::now() + timeout;
        let left = || deadline.saturating_duration_since(Instant::now());
        let low = log_ends(client, &name, &partitions, KafkaOffset::Beginning, left())?;
        let high = log_ends(client, &name, &partitions, KafkaOffset::End, left())?;
        let both = |partition: Partition| {
            (
                partition,
                Watermarks {
                    low: low[&partition],
                    high: high[&partition],
                },
            )
        };
        Ok(partitions.into_iter().map(both).collect())
    })
    .await
    .with_context(|| format!("cannot read the log ends of topic {topic} at {}", kafka.brokers))
}

/// One end of every partition, in one request per broker: asked one by one, a thousand partitions would take
/// seconds. In ListOffsets the first and the last offset are times of a special kind.
fn log_ends(
    client: &BaseConsumer<ReasonContext>,
    topic: &str,
    partitions: &[Partition],
    end: KafkaOffset,
    timeout: Duration,
) -> anyhow::Result<BTreeMap<Partition, Offset>> {
    if partitions.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition_offset(topic, partition.0, end)?;
    }
    let one = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
        let partition = Partition(element.partition());
        element.error().with_context(|| format!("partition {partition}"))?;
        match element.offset() {
            KafkaOffset::Offset(offset) => Ok((partition, offset)),
            _ => Err(anyhow!("partition {partition}: the brokers did not say")),
        }
    };
    let answered = client.offsets_for_times(list, timeout)?;
    answered.elements().iter().map(one).collect()
}

/// Per partition, the first offset whose record is not older than `instant`; the log's end where there is none.
pub async fn offsets_at(
    kafka: &KafkaConfig,
    topic: &str,
    partitions: &[Partition],
    instant: DateTime<Utc>,
    timeout: Duration,
) -> anyhow::Result<BTreeMap<Partition, Offset>> {
    let name = topic.to_owned();
    let partitions = partitions.to_vec();
    ask(kafka, move |client| {
        let mut list = TopicPartitionList::new();
        for partition in &partitions {
            list.add_partition_offset(&name, partition.0, KafkaOffset::Offset(instant.timestamp_millis()))?;
        }
        let mut found = BTreeMap::new();
        for element in client.offsets_for_times(list, timeout)?.elements() {
            element.error()?;
            let offset = match element.offset() {
                KafkaOffset::Offset(offset) => offset,
                _ => client.fetch_watermarks(&name, element.partition(), timeout)?.1,
            };
            found.insert(Partition(element.partition()), offset);
        }
        Ok(found)
    })
    .await
    .with_context(|| {
        format!(
            "cannot find the offsets of {instant} in topic {topic} at {}",
            kafka.brokers
        )
    })
}

/// Creates the topic where it is missing, with the brokers' default replication factor, and waits until it
/// can be described. `true` = created here; the partitions and properties of an existing topic are not touched.
pub async fn ensure_topic(
    kafka: &KafkaConfig,
    topic: &str,
    partitions: i32,
    properties: &[(&str, String)],
) -> anyhow::Result<bool> {
    // Looked for first: whoever may not create topics may still use the one that is there.
    if describe_topic(kafka, topic, ADMIN_TIMEOUT).await?.is_some() {
        return Ok(false);
    }
    let created = create_topic(kafka, topic, partitions, properties)
        .await
        .with_context(|| format!("cannot create topic {topic} at {}", kafka.brokers))?;

    // The controller answers before every broker has heard of the topic.
    let deadline = Instant::now() + ADMIN_TIMEOUT;
    while describe_topic(kafka, topic, ADMIN_TIMEOUT).await?.is_none() {
        if Instant::now() > deadline {
            bail!("topic {topic} was created and still cannot be seen after {ADMIN_TIMEOUT:?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(created)
}

/// `false` where somebody else was faster.
async fn create_topic(
    kafka: &KafkaConfig,
    topic: &str,
    partitions: i32,
    properties: &[(&str, String)],
) -> anyhow::Result<bool> {
    let topic = topic.to_owned();
    let properties: Vec<(String, String)> = properties.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).collect();
    with_admin(kafka, move |admin, runtime| {
        // -1 = the brokers' default.
        let mut new = NewTopic::new(&topic, partitions, TopicReplication::Fixed(-1));
        for (name, value) in &properties {
            new = new.set(name, value);
        }
        let options = AdminOptions::new()
            .request_timeout(Some(ADMIN_TIMEOUT))
            .operation_timeout(Some(ADMIN_TIMEOUT));
        let results = runtime.block_on(admin.create_topics([&new], &options))?;
        match results.into_iter().next() {
            Some(Ok(_)) => Ok(true),
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
            Some(Err((_, code))) => Err(KafkaError::AdminOp(code).into()),
            None => Err(anyhow!("the brokers answered about no topic")),
        }
    })
    .await
}

/// The value of a topic's property as the brokers apply it, defaults included; `None` where they know no
/// property of that name, or show no value.
pub async fn topic_property(kafka: &KafkaConfig, topic: &str, name: &str) -> anyhow::Result<Option<String>> {
    let (topic, name) = (topic.to_owned(), name.to_owned());
    let what = format!("cannot read property {name} of topic {topic} at {}", kafka.brokers);
    with_admin(kafka, move |admin, runtime| {
        let options = AdminOptions::new()
            .request_timeout(Some(ADMIN_TIMEOUT))
            .broker_id(any_broker(admin.inner(), &topic, ADMIN_TIMEOUT)?);
        let results = runtime.block_on(admin.describe_configs([&ResourceSpecifier::Topic(&topic)], &options))?;
        match results.into_iter().next() {
            Some(Ok(resource)) => Ok(resource.get(&name).and_then(|entry| entry.value.clone())),
            Some(Err(code)) => Err(KafkaError::AdminOp(code).into()),
            None => Err(anyhow!("the brokers answered about no topic")),
        }
    })
    .await
    .context(what)
}

/// A broker that answers. Any of them knows every topic, while librdkafka left alone waits for the
/// controller, which a cluster in trouble may lack for a while (and the mock cluster never has).
pub(super) fn any_broker<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Result<i32, KafkaError> {
    let metadata = client.fetch_metadata(Some(topic), timeout)?;
    match metadata.orig_broker_id() {
        // A bootstrap connection that has not learnt its number yet.
        -1 => metadata.brokers().first().map(|broker| broker.id()),
        id => Some(id),
    }
    .ok_or(KafkaError::MetadataFetch(RDKafkaErrorCode::BrokerNotAvailable))
}

/// Runs a blocking question on a consumer of its own, off the async threads.
async fn ask<T: Send + 'static>(
    kafka: &KafkaConfig,
    question: impl FnOnce(&BaseConsumer<ReasonContext>) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let mut config = client_config(kafka);
    // Without a group the consumer answers questions and nothing else. The isolation level is what makes a
    // log's end its last stable offset: librdkafka puts the client's level into each ListOffsets request.
    config.remove("group.id");
    config.set("isolation.level", "read_committed");
    let work = move || {
        let client: BaseConsumer<ReasonContext> = config.create_with_context(ReasonContext::default())?;
        question(&client).map_err(|error| with_reason(&client, error))
    };
    tokio::task::spawn_blocking(work)
        .await
        .context("the thread that asks Kafka panicked")?
}

/// The same for orders; an `AdminClient` joins a thread when it is dropped, which must not block a runtime thread.
async fn with_admin<T: Send + 'static>(
    kafka: &KafkaConfig,
    order: impl FnOnce(&AdminClient<LogContext>, &tokio::runtime::Handle) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let config = client_config(kafka);
    let runtime = tokio::runtime::Handle::current();
    let work = move || order(&config.create_with_context(LogContext)?, &runtime);
    tokio::task::spawn_blocking(work)
        .await
        .context("the thread that asks Kafka panicked")?
}

/// Adds what librdkafka last complained about: "timed out" alone helps nobody.
fn with_reason(client: &BaseConsumer<ReasonContext>, error: anyhow::Error) -> anyhow::Error {
    // Complaints wait in the client's queue until somebody polls; each poll serves some of them.
    for _ in 0..16 {
        let _ = client.poll(Duration::ZERO);
    }
    match client.context().last() {
        Some(reason) => error.context(reason),
        None => error,
    }
}

/// Remembers the last complaint instead of logging it: it becomes part of the one error that is returned.
#[derive(Default)]
struct ReasonContext {
    last: Mutex<Option<String>>,
}

impl ReasonContext {
    fn last(&self) -> Option<String> {
        self.last
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone()
    }
}

impl ClientContext for ReasonContext {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // "All brokers are down" follows each single reason and would hide it.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *self.last.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for ReasonContext {}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

    use super::*;
    use crate::config::Start;

    const TIMEOUT: Duration = Duration::from_secs(20);

    fn kafka(brokers: String) -> KafkaConfig {
        KafkaConfig {
            brokers,
            group: "affluent".to_owned(),
            start: Start::Earliest,
            properties: BTreeMap::new(),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_topic_is_described_with_its_id_and_its_partitions() {
        let cluster = MockCluster::new(1).expect("mock cluster");
        cluster.create_topic("sales", 3, 1).expect("topic");
        let topic = describe_topic(&kafka(cluster.bootstrap_servers()), "sales", TIMEOUT)
            .await
            .expect("an answer")
            .expect("a topic");
        assert_eq!(topic.partitions, [Partition(0), Partition(1), Partition(2)]);
        assert!(topic.id.is_known(), "{}", topic.id);
        assert_eq!(topic.id.0.len(), 22);
        assert!(!topic.id.0.contains(['/', '+', '=']), "{}", topic.id);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_topic_that_is_not_there_is_no_error() {
        let cluster = MockCluster::new(1).expect("mock cluster");
        let topic = describe_topic(&kafka(cluster.bootstrap_servers()), "nowhere", TIMEOUT).await;
        assert_eq!(topic.expect("an answer"), None);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn watermarks_follow_what_is_written() {
        let cluster = MockCluster::new(1).expect("mock cluster");
        cluster.create_topic("sales", 2, 1).expect("topic");
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", cluster.bootstrap_servers())
            .create()
            .expect("producer");
        for _ in 0..3 {
            let record = BaseRecord::<(), str>::to("sales").partition(1).payload("{}");
            producer.send(record).expect("queued");
        }
        producer.flush(TIMEOUT).expect("delivered");
        let ends = watermarks(
            &kafka(cluster.bootstrap_servers()),
            "sales",
            &[Partition(0), Partition(1)],
            TIMEOUT,
        )
        .await
        .expect("watermarks");
        let high: Vec<Offset> = ends.values().map(|w| w.high).collect();
        assert_eq!(high, [0, 3]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_unreachable_broker_is_an_error_that_says_why() {
        // Bound and dropped: nobody listens on this port.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("a free port")
            .port();
        let brokers = format!("127.0.0.1:{port}");
        let error = describe_topic(&kafka(brokers.clone()), "sales", Duration::from_secs(2))
            .await
            .expect_err("nobody is there");
        let text = format!("{error:#}");
        assert!(text.contains(&brokers) && text.contains("sales"), "{text}");
        assert!(text.contains("refused"), "{text}");
    }
}
