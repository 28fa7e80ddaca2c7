//! What the process tells: log lines and metrics. The log line and the metric of one event are written by one
//! function here, so they cannot disagree; metric names appear nowhere else.
//!
//! Owns: set-up of logging and of the metrics recorder, names and labels (bounded: streams, sinks, reasons,
//! codes). Does not own: when something happens.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::ValueEnum;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::ChronoUtc;

use crate::batch::Reject;
use crate::decode::OTHER_NAMES;
use crate::event_time::{Lateness, Micros};
use crate::health::{Part, Since};
use crate::lake::delta::log::ForeignChanges;
use crate::lake::maintenance::vacuum::Vacuumed;
use crate::offsets::{Partition, Progress};
use crate::sink::{CommitSummary, Reason, SinkName};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One readable line per event.
    #[default]
    Human,
    /// One JSON object per event.
    Json,
}

/// Logs to stderr, so that results on stdout stay clean. `RUST_LOG` overrides the level.
pub fn init_logging(format: LogFormat, verbose: u8) {
    let default = match verbose {
        0 => "affluent=info,warn",
        1 => "affluent=debug,info",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(ChronoUtc::new("%Y-%m-%dT%H:%M:%S%.3fZ".to_owned()))
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Human => {
            use std::io::IsTerminal;
            builder
                .with_ansi(std::io::stderr().is_terminal())
                .with_target(false)
                .init();
        }
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).init(),
    }
}

/// Installs the recorder; the handle renders `/metrics`.
pub fn init_metrics() -> anyhow::Result<PrometheusHandle> {
    const SECONDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
    const FILL: [f64; 9] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.9, 1.1, 1.5];
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_fill_ratio".to_owned()), &FILL)?
        .install_recorder()?;
    describe_counter!("affluent_records_fetched_total", "Records taken from Kafka");
    describe_counter!("affluent_dead_letters_total", "Records rejected, by code");
    describe_counter!(
        "affluent_unknown_fields_total",
        "Fields of records that the schema does not declare, by name"
    );
    describe_counter!(
        "affluent_tombstones_skipped_total",
        "Null payloads skipped by configuration"
    );
    describe_counter!("affluent_commits_total", "Commits, by sink and reason");
    describe_counter!("affluent_committed_rows_total", "Rows committed, by sink");
    describe_counter!("affluent_committed_bytes_total", "Bytes committed, by sink");
    describe_counter!("affluent_committed_files_total", "Files committed to the lake");
    describe_counter!("affluent_checkpoints_total", "Checkpoints of the lake's tables");
    describe_counter!(
        "affluent_log_files_removed_total",
        "Old files of the lake's logs removed"
    );
    describe_counter!(
        "affluent_compacted_files_total",
        "Files of the lake put together with others"
    );
    describe_counter!(
        "affluent_compacted_bytes_total",
        "Bytes of the files put together with others"
    );
    describe_counter!(
        "affluent_compactions_overtaken_total",
        "Compactions given up because somebody else changed the files"
    );
    describe_counter!(
        "affluent_lake_foreign_commits_total",
        "Commits of other programs that changed rows of a table or added some, by kind"
    );
    describe_counter!(
        "affluent_vacuumed_files_total",
        "Files deleted that no version of a table needs"
    );
    describe_counter!(
        "affluent_vacuumed_bytes_total",
        "Bytes of the files deleted that no version of a table needs"
    );
    describe_counter!(
        "affluent_upkeep_failures_total",
        "Failed checkpoints, compactions and vacuums, by kind"
    );
    describe_counter!("affluent_replayed_documents_total", "Documents that were already there");
    describe_counter!(
        "affluent_ownership_lost_total",
        "Commits refused because another owner moved the progress"
    );
    describe_counter!(
        "affluent_collected_events_total",
        "Events of browsers that Kafka has acknowledged"
    );
    describe_counter!(
        "affluent_refused_requests_total",
        "Requests with events that were refused, by code"
    );
    describe_histogram!(
        "affluent_collect_seconds",
        "Time from a request with events to Kafka's acknowledgement of the last one"
    );
    describe_histogram!(
        "affluent_commit_seconds",
        "Duration of a commit, data and atomic step, by sink"
    );
    describe_histogram!(
        "affluent_checkpoint_seconds",
        "Duration of a checkpoint of a table of the lake"
    );
    describe_histogram!(
        "affluent_compaction_seconds",
        "Duration of a compaction of a table of the lake"
    );
    describe_histogram!(
        "affluent_file_fill_ratio",
        "Size of each file committed to the lake, as a part of lake.target_file_size"
    );
    describe_gauge!("affluent_progress_offset", "Next offset to read, by sink and partition");
    describe_gauge!(
        "affluent_watermark_seconds",
        "Event time, as Unix time, up to which a sink has this instance's partitions; NaN while unknown"
    );
    describe_gauge!(
        "affluent_held_parts",
        "1 where a part of a stream is held by a missing or slow service"
    );
    describe_gauge!(
        "affluent_held_since_timestamp_seconds",
        "Unix time since which a part has been held; 0 where it works"
    );
    describe_counter!(
        "affluent_failed_tries_total",
        "Tries of a part that failed and will be repeated after a pause"
    );
    describe_gauge!(
        "affluent_stopped_streams",
        "1 where an invariant has stopped the stream"
    );
    Ok(handle)
}

/// Adds up samples that nobody has asked for: until it is asked, the recorder keeps every one of them.
pub async fn keep_small(metrics: PrometheusHandle, shutdown: CancellationToken) {
    const EVERY: Duration = Duration::from_secs(5);
    while shutdown.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
        metrics.run_upkeep();
    }
}

pub fn fetched(stream: &str, records: usize) {
    counter!("affluent_records_fetched_total", "stream" => stream.to_owned()).increment(records as u64);
}

pub fn rejected(stream: &str, rejects: &[Reject]) {
    for reject in rejects {
        counter!("affluent_dead_letters_total", "stream" => stream.to_owned(), "code" => reject.code.as_str())
            .increment(1);
    }
    if let Some(first) = rejects.first() {
        warn!(stream, count = rejects.len(), code = first.code.as_str(), first = %first.error, "dead letters");
    }
}

pub fn skipped(stream: &str, tombstones: u64) {
    if tombstones > 0 {
        counter!("affluent_tombstones_skipped_total", "stream" => stream.to_owned()).increment(tombstones);
    }
}

/// Undeclared fields of one stream by name. Whoever writes records must not be able to make series without end: the
/// first names have one each, all later ones share one.
#[derive(Debug, Default)]
pub struct UnknownFields {
    named: BTreeSet<String>,
}

/// Each is a series in whatever scrapes us.
const MAX_FIELD_SERIES: usize = 50;

impl UnknownFields {
    pub fn count(&mut self, stream: &str, fields: BTreeMap<String, u64>) {
        for (name, occurrences) in fields {
            let field = self.label(name);
            counter!("affluent_unknown_fields_total", "stream" => stream.to_owned(), "field" => field)
                .increment(occurrences);
        }
    }

    fn label(&mut self, name: String) -> String {
        if self.named.contains(&name) || name == OTHER_NAMES {
            return name;
        }
        if self.named.len() >= MAX_FIELD_SERIES {
            return OTHER_NAMES.to_owned();
        }
        info!(field = name, "records have a field that the schema does not declare");
        self.named.insert(name.clone());
        name
    }
}

/// A table's checkpoint has been written, and old log files behind it removed.
pub fn checkpointed(stream: &str, version: u64, log_files_removed: u64, took: Duration) {
    counter!("affluent_checkpoints_total", "stream" => stream.to_owned()).increment(1);
    counter!("affluent_log_files_removed_total", "stream" => stream.to_owned()).increment(log_files_removed);
    histogram!("affluent_checkpoint_seconds", "stream" => stream.to_owned()).record(took.as_secs_f64());
    info!(
        stream,
        version,
        log_files_removed,
        ms = took.as_millis() as u64,
        "checkpoint written"
    );
}

/// Files, with their bytes, became one.
pub fn compacted(stream: &str, version: u64, (files, bytes): (u64, u64), into_bytes: u64, took: Duration) {
    counter!("affluent_compacted_files_total", "stream" => stream.to_owned()).increment(files);
    counter!("affluent_compacted_bytes_total", "stream" => stream.to_owned()).increment(bytes);
    histogram!("affluent_compaction_seconds", "stream" => stream.to_owned()).record(took.as_secs_f64());
    info!(
        stream,
        version,
        files,
        bytes,
        into_bytes,
        ms = took.as_millis() as u64,
        "files put together"
    );
}

/// Commits of other programs to a stream's table, seen while it was open.
pub fn foreign_commits(stream: &str, seen: ForeignChanges) {
    for (kind, commits) in [("changed", seen.changed), ("appended", seen.appended)] {
        if commits > 0 {
            counter!("affluent_lake_foreign_commits_total", "stream" => stream.to_owned(), "kind" => kind)
                .increment(commits);
        }
    }
}

/// Somebody else changed the files that were being put together.
pub fn compaction_overtaken(stream: &str) {
    counter!("affluent_compactions_overtaken_total", "stream" => stream.to_owned()).increment(1);
    info!(stream, "a compaction was overtaken: its files are left to the next one");
}

pub fn vacuumed(stream: &str, done: &Vacuumed, took: Duration) {
    counter!("affluent_vacuumed_files_total", "stream" => stream.to_owned()).increment(done.files);
    counter!("affluent_vacuumed_bytes_total", "stream" => stream.to_owned()).increment(done.bytes);
    info!(
        stream,
        files = done.files,
        bytes = done.bytes,
        young = done.young,
        unknown = done.unknown,
        ms = took.as_millis() as u64,
        "files that no version needs deleted"
    );
}

/// Nothing that was stored depends on it; it is tried again.
pub fn upkeep_failed(stream: &str, what: &'static str, failure: &anyhow::Error) {
    counter!("affluent_upkeep_failures_total", "stream" => stream.to_owned(), "what" => what).increment(1);
    warn!(
        stream,
        what, "upkeep of the table failed and is tried again: {failure:#}"
    );
}

pub fn committed(stream: &str, sink: SinkName, reason: Reason, commit: &CommitSummary) {
    let labels = [("stream", stream.to_owned()), ("sink", sink.to_string())];
    counter!("affluent_commits_total", "stream" => stream.to_owned(), "sink" => sink.as_str(), "reason" => reason.as_str()).increment(1);
    counter!("affluent_committed_rows_total", &labels).increment(commit.rows);
    counter!("affluent_committed_bytes_total", &labels).increment(commit.bytes);
    counter!("affluent_replayed_documents_total", &labels).increment(commit.replayed);
    histogram!("affluent_commit_seconds", &labels).record((commit.write_time + commit.commit_time).as_secs_f64());
    if sink == SinkName::Lake {
        counter!("affluent_committed_files_total", "stream" => stream.to_owned()).increment(commit.files);
        let fill = histogram!("affluent_file_fill_ratio", "stream" => stream.to_owned());
        commit.fills.iter().for_each(|&share| fill.record(share));
    }
    progress(stream, sink, &commit.progress);
    late(stream, &commit.lateness);
    info!(
        stream,
        sink = sink.as_str(),
        reason = reason.as_str(),
        rows = commit.rows,
        files = commit.files,
        bytes = commit.bytes,
        replayed = commit.replayed,
        write_ms = commit.write_time.as_millis() as u64,
        commit_ms = commit.commit_time.as_millis() as u64,
        version = commit.version,
        "committed"
    );
}

pub fn progress(stream: &str, sink: SinkName, progress: &Progress) {
    for (partition, next) in progress {
        gauge!(
            "affluent_progress_offset",
            "stream" => stream.to_owned(),
            "sink" => sink.as_str(),
            "partition" => partition.to_string()
        )
        .set(*next as f64);
    }
}

/// Up to where a sink is complete.
pub fn watermark(stream: &str, sink: SinkName, at: Option<Micros>) {
    gauge!("affluent_watermark_seconds", "stream" => stream.to_owned(), "sink" => sink.as_str())
        .set(at.map_or(f64::NAN, |at| at as f64 / 1e6));
}

/// By stream. Not in the recorder: it would keep a sample per record until somebody asks for them.
static LATENESS: Mutex<BTreeMap<String, Lateness>> = Mutex::new(BTreeMap::new());

fn late(stream: &str, lateness: &Lateness) {
    if lateness.records() == 0 {
        return;
    }
    let mut all = LATENESS.lock().unwrap_or_else(PoisonError::into_inner);
    all.entry(stream.to_owned()).or_default().merge(lateness);
}

/// The text of `/metrics`.
pub fn render(metrics: &PrometheusHandle) -> String {
    let lateness = LATENESS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    metrics.render() + &render_lateness(&lateness)
}

fn render_lateness(streams: &BTreeMap<String, Lateness>) -> String {
    const NAME: &str = "affluent_lake_lateness_seconds";
    if streams.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "# HELP {NAME} How far committed records lay behind the highest event time before them in their partition\n\
         # TYPE {NAME} histogram\n"
    );
    let mut line = |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("writing to a String cannot fail");
    for (stream, late) in streams {
        for (bound, count) in late.cumulated() {
            line(format_args!(
                "{NAME}_bucket{{stream=\"{stream}\",le=\"{bound}\"}} {count}"
            ));
        }
        let (count, sum) = (late.records(), late.sum_seconds());
        line(format_args!("{NAME}_bucket{{stream=\"{stream}\",le=\"+Inf\"}} {count}"));
        line(format_args!("{NAME}_sum{{stream=\"{stream}\"}} {sum}"));
        line(format_args!("{NAME}_count{{stream=\"{stream}\"}} {count}"));
    }
    text
}

/// Events of one request, acknowledged by Kafka.
pub fn collected(stream: &str, events: usize, took: Duration) {
    counter!("affluent_collected_events_total", "stream" => stream.to_owned()).increment(events as u64);
    histogram!("affluent_collect_seconds", "stream" => stream.to_owned()).record(took.as_secs_f64());
}

/// Not a warning: whoever reaches the port could fill the log.
pub fn request_refused(stream: &str, code: &'static str, why: &dyn Display) {
    counter!("affluent_refused_requests_total", "stream" => stream.to_owned(), "code" => code).increment(1);
    debug!(stream, code, "refused: {why}");
}

pub fn not_acknowledged(stream: &str, why: &dyn Display) {
    warn!(
        stream,
        "Kafka does not acknowledge events, requests are refused until it does: {why}"
    );
}

pub fn acknowledged_again(stream: &str) {
    info!(stream, "Kafka acknowledges events again");
}

pub fn reading(stream: &str, from: &Progress) {
    info!(stream, from = %DisplayProgress(from), "reading");
}

pub fn revoked(stream: &str, partitions: &[Partition], flushed: bool) {
    let partitions: Vec<i32> = partitions.iter().map(|p| p.0).collect();
    info!(stream, ?partitions, flushed, "partitions handed over");
}

pub fn ownership_lost(stream: &str, sink: SinkName, why: &dyn Display) {
    counter!("affluent_ownership_lost_total", "stream" => stream.to_owned(), "sink" => sink.as_str()).increment(1);
    warn!(
        stream,
        sink = sink.as_str(),
        "{why}: dropping what is not committed and reading progress again"
    );
}

pub fn try_failed(stream: &str, part: Part) {
    counter!("affluent_failed_tries_total", "stream" => stream.to_owned(), "part" => part.as_str()).increment(1);
}

pub fn held(stream: &str, part: Part, since: Since, why: &dyn Display) {
    held_gauges(stream, part, Some(since));
    let seconds = since.elapsed().as_secs();
    warn!(stream, part = part.as_str(), seconds, "held, trying again: {why}");
}

pub fn slow(stream: &str, part: Part, since: Since, why: &dyn Display) {
    held_gauges(stream, part, Some(since));
    warn!(stream, part = part.as_str(), "slow: {why}");
}

fn held_gauges(stream: &str, part: Part, since: Option<Since>) {
    let labels = [("stream", stream.to_owned()), ("part", part.to_string())];
    gauge!("affluent_held_parts", &labels).set(if since.is_some() { 1.0 } else { 0.0 });
    let time = since.map_or(0.0, |since| since.time.timestamp_millis() as f64 / 1000.0);
    gauge!("affluent_held_since_timestamp_seconds", &labels).set(time);
}

pub fn recovered(stream: &str, part: Part, after: Duration) {
    held_gauges(stream, part, None);
    info!(
        stream,
        part = part.as_str(),
        after_ms = after.as_millis() as u64,
        "works again"
    );
}

pub fn stopped(stream: &str, why: &dyn Display) {
    gauge!("affluent_stopped_streams", "stream" => stream.to_owned()).set(1.0);
    error!(stream, "stopped: {why}");
}

/// `0:120 1:118`
pub struct DisplayProgress<'a>(pub &'a Progress);

impl Display for DisplayProgress<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, (partition, next)) in self.0.iter().enumerate() {
            let space = if n == 0 { "" } else { " " };
            write!(f, "{space}{partition}:{next}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undeclared_names_have_a_series_each_up_to_a_bound() {
        let mut fields = UnknownFields::default();
        for n in 0..MAX_FIELD_SERIES {
            assert_eq!(fields.label(format!("field{n}")), format!("field{n}"));
        }
        assert_eq!(fields.label("one more".to_owned()), OTHER_NAMES);
        assert_eq!(
            fields.label("field7".to_owned()),
            "field7",
            "the first ones keep theirs"
        );
    }

    #[test]
    fn lateness_is_a_histogram_in_the_text_format() {
        let schema = crate::lake::split::tests::schema();
        let rows = crate::lake::split::tests::batch(&schema, &[(9, None, 0), (8, None, 1), (9, None, 2)]);
        let mut times = crate::event_time::EventTimes::default();
        let late = times.take_in(&rows, crate::event_time::Columns::of(&schema));
        let text = render_lateness(&BTreeMap::from([("sales".to_owned(), late)]));
        insta::assert_snapshot!(text, @r#"
        # HELP affluent_lake_lateness_seconds How far committed records lay behind the highest event time before them in their partition
        # TYPE affluent_lake_lateness_seconds histogram
        affluent_lake_lateness_seconds_bucket{stream="sales",le="0"} 2
        affluent_lake_lateness_seconds_bucket{stream="sales",le="60"} 2
        affluent_lake_lateness_seconds_bucket{stream="sales",le="600"} 2
        affluent_lake_lateness_seconds_bucket{stream="sales",le="3600"} 2
        affluent_lake_lateness_seconds_bucket{stream="sales",le="21600"} 2
        affluent_lake_lateness_seconds_bucket{stream="sales",le="86400"} 3
        affluent_lake_lateness_seconds_bucket{stream="sales",le="604800"} 3
        affluent_lake_lateness_seconds_bucket{stream="sales",le="2592000"} 3
        affluent_lake_lateness_seconds_bucket{stream="sales",le="+Inf"} 3
        affluent_lake_lateness_seconds_sum{stream="sales"} 86399.999999
        affluent_lake_lateness_seconds_count{stream="sales"} 3
        "#);
        assert_eq!(render_lateness(&BTreeMap::new()), "");
    }

    /// `affluent_…` between quotes or backticks.
    fn metric_names(text: &str, quote: char) -> BTreeSet<String> {
        let pieces = text.split(quote).filter(|piece| piece.starts_with("affluent_"));
        let plain = |name: &&str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        pieces.filter(plain).map(str::to_owned).collect()
    }

    #[test]
    fn code_and_documentation_name_the_same_metrics() {
        let code = include_str!("telemetry.rs")
            .split("#[cfg(test)]")
            .next()
            .unwrap_or_default();
        let documented = metric_names(include_str!("../docs/metrics.md"), '`');
        assert_eq!(metric_names(code, '"'), documented);
        assert!(documented.len() > 20, "{documented:?}");
    }
}
