//! Sends records at their pace and waits until the brokers have them all.
//!
//! Owns: the idempotent producer, back-pressure, progress, and a clean end on signals.
//! Does not own: what is sent (`records`), when it is due (`pace`).
//!
//! Runs on a thread of its own: generating is CPU work, and librdkafka is polled by the same loop.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use chrono::Utc;
use indicatif::{ProgressBar, ProgressStyle};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use tokio::signal::unix::{SignalKind, signal};

use super::pace::Pace;
use super::plan::Plan;
use super::records::{Record, Records};
use crate::config::KafkaConfig;
use crate::kafka::{LogContext, client_config};

/// Records between two looks at the clock, the signals and the delivery reports.
const BURST: u64 = 500;

/// Longest wait for anything, so that a signal is noticed.
const TICK: Duration = Duration::from_millis(50);
/// Shortest sleep: at most rates several records are due after it.
const NAP: Duration = Duration::from_millis(2);

/// How often progress is told.
const REPORT_ON_TERMINAL: Duration = Duration::from_millis(100);
const REPORT_IN_LINES: Duration = Duration::from_secs(10);

/// Brokers that acknowledge nothing for so long make the run fail.
const MESSAGE_TIMEOUT_MS: &str = "60000";

/// What became of a run.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Acknowledged records.
    pub records: u64,
    /// Keys and values handed over.
    pub bytes: u64,
    pub broken: u64,
    /// First and last event time.
    pub span: Option<(i64, i64)>,
    pub elapsed: Duration,
    /// Not everything was acknowledged, and why.
    pub failure: Option<String>,
}

/// Blocking: sends until the plan is fulfilled, the source is at its end, or `stop` says so.
pub(super) fn send(kafka: &KafkaConfig, plan: &Plan, mut records: Records, stop: &Stop) -> anyhow::Result<Sent> {
    let mut run = Run {
        producer: producer_config(kafka)
            .create_with_context(Deliveries::default())
            .context("cannot create the producer")?,
        topic: &plan.topic,
        stop,
        started: Instant::now(),
        handed: 0,
        bytes: 0,
        progress: Progress::new(plan.count),
    };
    let ended = run.send_all(plan, &mut records);
    run.flush();
    run.progress.finish();
    // A source that cannot be read further is an error, but what it gave before is sent.
    ended?;
    let failure = run.failure();
    Ok(Sent {
        records: run.acknowledged(),
        bytes: run.bytes,
        broken: records.broken(),
        span: records.span(),
        elapsed: run.started.elapsed(),
        failure,
    })
}

fn producer_config(kafka: &KafkaConfig) -> ClientConfig {
    let mut config = client_config(kafka);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        // Successes are counted by what is no longer in flight: a report for each record costs a tenth of the run.
        .set("delivery.report.only.error", "true")
        // A quarter of a second's worth at full speed; memory for it is bounded as well.
        .set("queue.buffering.max.messages", "100000")
        .set("queue.buffering.max.kbytes", "131072");
    if config
        .get("message.timeout.ms")
        .or(config.get("delivery.timeout.ms"))
        .is_none()
    {
        config.set("message.timeout.ms", MESSAGE_TIMEOUT_MS);
    }
    config
}

struct Run<'a> {
    producer: BaseProducer<Deliveries>,
    topic: &'a str,
    stop: &'a Stop,
    started: Instant,
    /// Records handed to the producer.
    handed: u64,
    bytes: u64,
    progress: Progress,
}

impl Run<'_> {
    fn send_all(&mut self, plan: &Plan, records: &mut Records) -> anyhow::Result<()> {
        let mut pace = plan.rate.map(Pace::new);
        while !self.stop.asked() && self.failed() == 0 {
            let left = plan.count.map_or(u64::MAX, |count| count - self.handed);
            if left == 0 {
                break;
            }
            let due = match &mut pace {
                None => BURST,
                Some(pace) => pace.due(self.started.elapsed(), self.handed).min(BURST),
            };
            if due == 0 {
                self.wait(pace.as_ref());
            } else if !self.send_burst(records, due.min(left))? {
                break;
            }
            self.progress.report(self.acknowledged(), self.started);
        }
        Ok(())
    }

    /// `false` at the end of the source, or when the queue stays full and the run is to end.
    fn send_burst(&mut self, records: &mut Records, burst: u64) -> anyhow::Result<bool> {
        let now_ms = Utc::now().timestamp_millis();
        for _ in 0..burst {
            let Some(record) = records.next(now_ms)? else {
                return Ok(false);
            };
            if !self.hand_over(&record)? {
                return Ok(false);
            }
        }
        self.producer.poll(Duration::ZERO);
        Ok(true)
    }

    /// Queues one record, waiting while the queue is full. `false` = not queued, the run is to end.
    fn hand_over(&mut self, record: &Record<'_>) -> anyhow::Result<bool> {
        let mut next = BaseRecord::<[u8], [u8]>::to(self.topic).partition(record.partition);
        (next.key, next.payload) = (record.key, record.value);
        loop {
            match self.producer.send(next) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), returned)) => {
                    if self.stop.asked() || self.failed() > 0 {
                        return Ok(false);
                    }
                    next = returned;
                    self.serve(NAP);
                    self.progress.report(self.acknowledged(), self.started);
                }
                Err((error, _)) => return Err(error).context(format!("cannot send to topic {}", self.topic)),
            }
        }
        self.handed += 1;
        self.bytes += (record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len)) as u64;
        Ok(true)
    }

    /// Serves the producer until the next record is due, or a tick is over.
    fn wait(&self, pace: Option<&Pace>) {
        let due_at = pace.map_or(Duration::ZERO, |pace| pace.next_at(self.handed));
        let left = due_at.saturating_sub(self.started.elapsed());
        self.serve(left.clamp(NAP, TICK));
    }

    /// Takes the reports that are there, then sleeps: the wrapper's own `poll` spins through the last millisecond.
    fn serve(&self, wait: Duration) {
        self.producer.poll(Duration::ZERO);
        std::thread::sleep(wait);
    }

    /// Until everything is acknowledged or has failed; a second signal gives up.
    fn flush(&mut self) {
        while self.producer.in_flight_count() > 0 && !self.stop.insisted() {
            self.serve(NAP);
            self.progress.report(self.acknowledged(), self.started);
        }
        // Reports of failures may still wait in the queue.
        self.producer.poll(Duration::ZERO);
    }

    fn failed(&self) -> u64 {
        self.producer.context().failed.load(Ordering::Relaxed)
    }

    fn acknowledged(&self) -> u64 {
        // A failed record is in flight until its report is served: subtract it once at least, never count it.
        let open = self.producer.in_flight_count().max(0) as u64 + self.failed();
        self.handed.saturating_sub(open)
    }

    fn failure(&self) -> Option<String> {
        let missing = self.handed - self.acknowledged();
        let first = self
            .producer
            .context()
            .first
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        match &*first {
            _ if missing == 0 => None,
            Some(error) => Some(format!("{missing} records were not acknowledged: {error}")),
            None => Some(format!("gave up with {missing} records not acknowledged yet")),
        }
    }
}

/// Failed deliveries; successful ones are not reported.
#[derive(Default)]
struct Deliveries {
    failed: AtomicU64,
    first: Mutex<Option<KafkaError>>,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        LogContext.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        LogContext.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let mut first = self.first.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            first.get_or_insert_with(|| error.clone());
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whether somebody wants the run to end: once asks, twice insists.
#[derive(Clone)]
pub(super) struct Stop(Arc<AtomicU8>);

impl Stop {
    /// Counts SIGINT and SIGTERM from now on.
    pub(super) fn on_signals() -> std::io::Result<Self> {
        let stop = Self(Arc::new(AtomicU8::new(0)));
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let count = Arc::clone(&stop.0);
        tokio::spawn(async move {
            for times in 1..=2 {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                count.store(times, Ordering::Relaxed);
            }
        });
        Ok(stop)
    }

    fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= 1
    }

    fn insisted(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= 2
    }
}

/// Tells how far a run is: a bar on a terminal, log lines elsewhere.
struct Progress {
    bar: Option<ProgressBar>,
    count: Option<u64>,
    next: Instant,
}

impl Progress {
    fn new(count: Option<u64>) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| match count {
            Some(count) => ProgressBar::new(count)
                .with_style(style("{bar:32} {human_pos}/{human_len} records, {per_sec}, {eta} left")),
            None => ProgressBar::new_spinner().with_style(style("{spinner} {human_pos} records, {per_sec}, {elapsed}")),
        });
        Self {
            bar,
            count,
            next: Instant::now(),
        }
    }

    fn report(&mut self, acknowledged: u64, started: Instant) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        match &self.bar {
            Some(bar) => {
                bar.set_position(acknowledged);
                self.next = now + REPORT_ON_TERMINAL;
            }
            None => {
                if acknowledged > 0 {
                    let per_second = (acknowledged as f64 / started.elapsed().as_secs_f64()).round();
                    tracing::info!(acknowledged, of = self.count, per_second, "producing");
                }
                self.next = now + REPORT_IN_LINES;
            }
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are constant and well formed")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::super::plan::Source;
    use super::super::records::Lines;
    use super::*;
    use crate::config::Start;

    fn cluster() -> (MockCluster<'static, DefaultProducerContext>, KafkaConfig) {
        let cluster = MockCluster::new(1).expect("mock cluster");
        cluster.create_topic("sample", 2, 1).expect("topic");
        let kafka = KafkaConfig {
            brokers: cluster.bootstrap_servers(),
            group: "affluent".to_owned(),
            start: Start::Earliest,
            properties: BTreeMap::new(),
        };
        (cluster, kafka)
    }

    fn plan(count: Option<u64>, rate: Option<f64>) -> Plan {
        Plan {
            topic: "sample".to_owned(),
            count,
            rate,
            source: Source::File(PathBuf::from("-")),
        }
    }

    fn lines(count: usize) -> Records {
        let input = std::io::Cursor::new("{}\n".repeat(count));
        Records::File(Lines::new(PathBuf::from("-"), Box::new(input), 2))
    }

    fn never() -> Stop {
        Stop(Arc::new(AtomicU8::new(0)))
    }

    #[test]
    fn a_run_ends_when_all_its_records_are_acknowledged() {
        let (_cluster, kafka) = cluster();
        let sent = send(&kafka, &plan(None, None), lines(12_345), &never()).expect("sent");
        assert_eq!((sent.records, sent.bytes, sent.failure), (12_345, 24_690, None));
        let sent = send(&kafka, &plan(Some(777), None), lines(1_000), &never()).expect("sent");
        assert_eq!((sent.records, sent.failure), (777, None));
    }

    #[test]
    fn a_record_the_broker_refuses_fails_the_run() {
        let (cluster, kafka) = cluster();
        cluster.request_errors(
            RDKafkaApiKey::Produce,
            &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE],
        );
        let sent = send(&kafka, &plan(None, None), lines(10), &never()).expect("sent");
        assert!(sent.records < 10, "{sent:?}");
        assert!(sent.failure.expect("a failure").contains("not acknowledged"));
    }

    #[test]
    fn a_run_that_is_asked_to_stop_keeps_what_it_has_sent() {
        let (_cluster, kafka) = cluster();
        let stop = never();
        let asking = std::thread::spawn({
            let (stop, kafka) = (stop.clone(), kafka.clone());
            // At this rate the source would last for hours.
            move || send(&kafka, &plan(None, Some(50.0)), lines(1_000_000), &stop).expect("sent")
        });
        wait_for_a_record(&kafka);
        stop.0.store(1, Ordering::Relaxed);
        let sent = asking.join().expect("no panic");
        assert!(sent.records > 0 && sent.records < 1_000_000, "{sent:?}");
        assert_eq!(sent.failure, None);
    }

    fn wait_for_a_record(kafka: &KafkaConfig) {
        use rdkafka::consumer::{BaseConsumer, Consumer};
        let consumer: BaseConsumer = client_config(kafka).create().expect("consumer");
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if consumer
                .fetch_watermarks("sample", 0, TICK)
                .is_ok_and(|(_, high)| high > 0)
            {
                return;
            }
        }
        panic!("nothing was sent within 30 s");
    }
}
