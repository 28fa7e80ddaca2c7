//! `affluent status`: where every stream is, seen from outside.
//!
//! Owns: the command. `gather` asks the services, `report` computes (plain data in, plain data out), `table`
//! prints. `gather` and `report` also serve whoever shows the same numbers elsewhere.
//! Does not own: progress itself; nothing here writes anywhere.

pub mod gather;
pub mod report;
pub mod table;

use std::time::Duration;

use chrono::Utc;
use futures::future::join_all;

use self::report::Report;
use crate::config::{Config, StreamConfig};
use crate::error::Exit;
use crate::output;
use crate::run::select;

const JSON_FORM: &str = "\
The JSON document (fields may be added; null is unknown, never zero):
  job, at                 whose status, and when (RFC 3339)
  complete                every service answered; otherwise the exit code is 3
  lag_records             offsets that the slower sink of each partition does not account for yet, summed
  lag_seconds             age of the oldest record that a sink still lacks; 0 where there is none
  streams[]
    stream, topic, topic_id, lake_version, lag_records, lag_seconds
    watermark             event time up to which every sink used is complete: the smaller of the next two (RFC 3339)
    mongo_watermark, lake_watermark
                          the smallest event_time of the partitions that have records waiting; of all, the
                          largest, where none has. A later record may still bear an earlier time
    partitions[]
      partition, log_start, log_end (last stable offset), lag_records, lag_seconds
      mongo, lake         null where the stream does not use the sink, else
                          { next (offset; null: nothing recorded yet), lag_records, lag_seconds,
                            event_time (the highest in the sink, RFC 3339) }
    notices[]             worth knowing: progress outside the log, a topic re-created
    problems[]            services that did not answer, and why

Exit codes: 0 every service answered, 3 one is missing (what the others say is printed).";

/// Per partition: the log's ends, progress of each sink, lag in records and seconds; per stream: complete up to when
///
/// Reads only. In the table `?` is unknown, `-` is nothing recorded yet, `off` a sink the stream does not use;
/// AGE is how long ago the first record that the sink lacks was written to Kafka.
#[derive(Debug, clap::Args)]
#[command(after_long_help = JSON_FORM)]
pub struct StatusArgs {
    /// Print one JSON document instead of the table
    #[arg(long)]
    pub json: bool,
    /// Only these streams (repeatable); all of the configuration otherwise
    #[arg(long = "stream", value_name = "NAME")]
    pub streams: Vec<String>,
    /// How long each question to a service may take
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
}

pub async fn run(args: StatusArgs, config: &Config) -> anyhow::Result<Exit> {
    let streams = select(config, &args.streams)?;
    let report = status(config, &streams, args.timeout).await;
    if args.json {
        output::print_line(serde_json::to_string_pretty(&report)?)?;
    } else {
        output::print(table::render(&report))?;
    }
    Ok(if report.complete {
        Exit::Ok
    } else {
        Exit::Infrastructure
    })
}

/// The status of these streams, asked about side by side.
pub async fn status(config: &Config, streams: &[StreamConfig], timeout: Duration) -> Report {
    let seen = join_all(streams.iter().map(|stream| gather::observe(config, stream, timeout))).await;
    // One instant for all ages, taken after the answers: a record cannot be younger than its reading.
    let now = Utc::now();
    let streams = seen.into_iter().map(|seen| seen.report(now)).collect();
    Report::new(&config.job, now, streams)
}
