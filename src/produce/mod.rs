//! `affluent produce`: sample records for the built-in streams, or a file's lines, into Kafka.
//!
//! ```text
//!  dice ──▶ sales, clicks ──▶ broken ──▶ records ──▶ send ──▶ Kafka
//!             ▲ catalogue       season ───┘            ▲ pace
//! ```
//!
//! Owns: the command line and the plan it makes; everything generated is a pure function of the plan.
//! Does not own: the streams' schemas (`config`), what becomes of the records.

mod broken;
mod catalogue;
mod clicks;
mod dice;
mod pace;
mod plan;
mod records;
mod sales;
mod season;
mod send;
mod text;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, SecondsFormat, Utc};

use self::clicks::Clicks;
use self::plan::{EventTimes, Plan, Source};
use self::records::{Generated, Lines, Records, Sample, Times};
use self::sales::Sales;
use self::season::Season;
use self::send::{Sent, Stop, send};
use crate::config::{Config, KafkaConfig};
use crate::error::{Exit, Exits};
use crate::instant::parse_instant;
use crate::kafka::admin::{describe_topic, ensure_topic};
use crate::output;

/// Produce sample sales or clicks, or the lines of a file
#[derive(clap::Args, Clone, Debug, Default)]
pub struct ProduceArgs {
    /// Which sample to generate
    #[arg(value_enum, required_unless_present = "file", conflicts_with = "file")]
    preset: Option<Preset>,
    /// Send this file's lines instead, one record a line ("-" reads standard input)
    #[arg(long, value_name = "FILE", requires = "topic")]
    file: Option<PathBuf>,
    /// Topic to write to [default: that of the stream with the sample's name]
    #[arg(long)]
    topic: Option<String>,
    /// Stop after this many records [default: never, or at the end of the file]
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Records per second [default: as fast as possible with --count or --file, else 100]
    #[arg(long, value_name = "N", value_parser = parse_rate)]
    rate: Option<f64>,
    /// The same seed gives the same records, byte for byte [default: a random one, printed at the end]
    #[arg(long, value_name = "N", conflicts_with = "file")]
    seed: Option<u64>,
    /// Break this many percent of the records, in every way a decoder has to survive
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = parse_percent, conflicts_with = "file")]
    bad: f64,
    /// First event time (RFC 3339, or a day in UTC) [default: 30 days before --until]
    #[arg(long, value_name = "INSTANT", value_parser = parse_instant, conflicts_with = "file")]
    since: Option<DateTime<Utc>>,
    /// End of the event times [default: now, or 2026-01-01 with --seed]
    #[arg(long, value_name = "INSTANT", value_parser = parse_instant, conflicts_with = "file")]
    until: Option<DateTime<Utc>>,
    /// Partitions of the topic, if it has to be created
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    partitions: i32,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Sales of a shop, by region of France
    Sales,
    /// Page views of the shop's web site, session by session
    Clicks,
}

impl Preset {
    fn name(self) -> &'static str {
        match self {
            Self::Sales => "sales",
            Self::Clicks => "clicks",
        }
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if rate > 0.0 && rate <= 1e9 => Ok(rate),
        _ => Err("write a number of records per second above 0".to_owned()),
    }
}

fn parse_percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("write a percentage between 0 and 100".to_owned()),
    }
}

/// How long to look for the topic before giving up.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(15);

pub async fn run(args: ProduceArgs, config: &Config) -> anyhow::Result<Exit> {
    let plan = Plan::new(&args, config, Utc::now(), rand::random())?;
    let records_of = open(&plan)?;
    let partitions = partitions(&config.kafka, &plan.topic, args.partitions).await?;
    let records = records_of(partitions);

    let stop = Stop::on_signals().context("cannot listen for signals")?;
    let (kafka, sending) = (config.kafka.clone(), plan.clone());
    let sent = tokio::task::spawn_blocking(move || send(&kafka, &sending, records, &stop))
        .await
        .context("the sending thread panicked")??;
    output::print_line(summary(&plan, &sent))?;
    match sent.failure {
        None => Ok(Exit::Ok),
        Some(failure) => Err(Exits::error(Exit::Infrastructure, failure)),
    }
}

/// Creates the topic where it is missing; answers how many partitions it has.
async fn partitions(kafka: &KafkaConfig, topic: &str, wanted: i32) -> anyhow::Result<i32> {
    if ensure_topic(kafka, topic, wanted, &[]).await? {
        tracing::info!(topic, partitions = wanted, "created the topic");
    }
    let description = describe_topic(kafka, topic, DESCRIBE_TIMEOUT)
        .await?
        .with_context(|| format!("topic {topic} vanished while it was looked at"))?;
    Ok(i32::try_from(description.partitions.len()).unwrap_or(i32::MAX).max(1))
}

/// Opens the source first: a missing file is told before a topic is created for it.
fn open(plan: &Plan) -> anyhow::Result<Box<dyn FnOnce(i32) -> Records + Send>> {
    match &plan.source {
        Source::File(path) => {
            let (path, input) = (path.clone(), open_file(path)?);
            Ok(Box::new(move |partitions| {
                Records::File(Lines::new(path, input, partitions))
            }))
        }
        Source::Sample {
            preset,
            seed,
            times,
            broken_percent,
        } => {
            let (preset, seed, times, broken_percent) = (*preset, *seed, *times, *broken_percent);
            Ok(Box::new(move |partitions| {
                let generated = generated(preset, seed, times, broken_percent, partitions);
                Records::Generated(Box::new(generated))
            }))
        }
    }
}

fn generated(preset: Preset, seed: u64, times: EventTimes, broken_percent: f64, partitions: i32) -> Generated {
    let sample = match preset {
        Preset::Sales => Sample::Sales(Sales::new(seed)),
        Preset::Clicks => Sample::Clicks(Clicks::new(seed, times.per_second())),
    };
    let times = match times {
        EventTimes::Now { .. } => Times::Now,
        EventTimes::Over {
            since_ms,
            until_ms,
            count,
        } => Times::Season(Season::over(since_ms, until_ms, count)),
        EventTimes::From { since_ms, per_second } => Times::Season(Season::endless(since_ms, per_second)),
    };
    Generated::new(seed, sample, times, broken_percent, partitions)
}

/// The payloads of `count` generated records, `None` where one is null, with event times over `window` (milliseconds
/// since 1970): what `produce` would send, without a broker. For the benchmarks.
pub fn payloads(
    preset: Preset,
    seed: u64,
    window: Range<i64>,
    count: u64,
    broken_percent: f64,
) -> impl Iterator<Item = Option<Vec<u8>>> {
    let times = EventTimes::Over {
        since_ms: window.start,
        until_ms: window.end,
        count,
    };
    let mut records = generated(preset, seed, times, broken_percent, 1);
    (0..count).map(move |_| records.next(window.start).value.map(<[u8]>::to_vec))
}

fn open_file(path: &Path) -> anyhow::Result<Box<dyn BufRead + Send>> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    match File::open(path) {
        Ok(file) => Ok(Box::new(BufReader::with_capacity(1 << 20, file))),
        Err(error) => Err(Exits::error(
            Exit::Usage,
            format!("cannot open {}: {error}", path.display()),
        )),
    }
}

/// What was done, and for generated records how to do it again.
fn summary(plan: &Plan, sent: &Sent) -> String {
    let seconds = sent.elapsed.as_secs_f64().max(1e-9);
    let mut text = format!(
        "produced {} records ({:.1} MB) to {} in {seconds:.1} s: {:.0} records/s",
        sent.records,
        sent.bytes as f64 / 1e6,
        plan.topic,
        sent.records as f64 / seconds,
    );
    if sent.broken > 0 {
        text += &format!(", {} of them broken on purpose", sent.broken);
    }
    if let Source::Sample {
        preset,
        seed,
        times,
        broken_percent,
    } = &plan.source
    {
        text += &format!("\nseed {seed}");
        if let Some((first, last)) = sent.span {
            text += &format!(", event times {} to {}", rfc3339(first), rfc3339(last));
        }
        if let EventTimes::Over {
            since_ms,
            until_ms,
            count,
        } = times
        {
            text += &format!(
                "\nthe same again: affluent produce {} --seed {seed} --count {count} --since {} --until {}",
                preset.name(),
                rfc3339(*since_ms),
                rfc3339(*until_ms),
            );
            if *broken_percent > 0.0 {
                text += &format!(" --bad {broken_percent}");
            }
        }
    }
    text
}

fn rfc3339(at_ms: i64) -> String {
    DateTime::from_timestamp_millis(at_ms).map_or_else(
        || at_ms.to_string(),
        |instant| instant.to_rfc3339_opts(SecondsFormat::Millis, true),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_says_how_to_do_the_same_again() {
        let plan = Plan {
            topic: "mine".to_owned(),
            count: Some(1_000),
            rate: None,
            source: Source::Sample {
                preset: Preset::Sales,
                seed: 42,
                times: EventTimes::Over {
                    since_ms: 1_764_633_600_000,
                    until_ms: 1_767_225_600_000,
                    count: 1_000,
                },
                broken_percent: 2.5,
            },
        };
        let sent = Sent {
            records: 1_000,
            bytes: 240_000,
            broken: 25,
            span: Some((1_764_633_646_868, 1_767_225_593_538)),
            elapsed: Duration::from_millis(500),
            failure: None,
        };
        insta::assert_snapshot!(summary(&plan, &sent), @"
        produced 1000 records (0.2 MB) to mine in 0.5 s: 2000 records/s, 25 of them broken on purpose
        seed 42, event times 2025-12-02T00:00:46.868Z to 2025-12-31T23:59:53.538Z
        the same again: affluent produce sales --seed 42 --count 1000 --since 2025-12-02T00:00:00.000Z --until 2026-01-01T00:00:00.000Z --bad 2.5
        ");
    }
}
