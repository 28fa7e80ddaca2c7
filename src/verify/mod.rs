//! `affluent verify`: reads Kafka again and proves both sinks right, record by record and value by value.
//!
//! Reading order: `oracle` (what a record should have become), `plan` (what can be compared), `compare` (one
//! window against one sink), `stream` (the steps together). Everything that decides is plain data in, plain
//! data out; `records`, `mongo` and `lake` fetch.
//!
//! Owns: an independent second opinion. It shares the schema, the configuration and the id layout with the write
//! path, and nothing else: own JSON, numbers, times, documents, Parquet rows, rollups.
//! Does not own: repairing anything. It writes nowhere.

pub mod compare;
pub mod document;
pub mod fate;
pub mod form;
pub mod lake;
pub mod mongo;
pub mod oracle;
pub mod plan;
pub mod records;
pub mod report;
pub mod rollup;
pub mod schemas;
mod sides;
pub mod stream;
#[cfg(test)]
mod testing;

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use self::report::Report;
use crate::config::{Config, StreamConfig};
use crate::error::{Exit, Exits};
use crate::output;

/// Read Kafka again and prove both sinks: rows missing, duplicate, foreign or unequal, rollups off, dead
/// letters missing.
///
/// Compares every record below each sink's progress that Kafka still has with what the sink holds, value by
/// value, by a decoder of its own. May run while `affluent run` does. Exits with 0 where everything holds, 1
/// where something does not, 3 where a service cannot be reached.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// Verify only this stream (may be given several times)
    #[arg(long = "stream", value_name = "NAME")]
    pub streams: Vec<String>,

    /// Print one JSON document instead of the table
    #[arg(long)]
    pub json: bool,

    /// Records compared at a time, at about 20 bytes of memory each; more windows read large files more often
    #[arg(long, value_name = "RECORDS", default_value_t = 4_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub window: u32,
}

pub async fn run(args: VerifyArgs, config: &Config) -> anyhow::Result<Exit> {
    let mut reports = Vec::new();
    for stream in selected(&args.streams, config)? {
        let bar = progress_bar(&stream.name);
        let report = stream::verify(config, stream, args.window as usize, &bar).await;
        bar.finish_and_clear();
        let report = report?;
        if !args.json {
            output::print_line(&report)?;
        }
        reports.push(report);
    }
    let report = Report::new(reports);
    if args.json {
        output::print_line(serde_json::to_string_pretty(&report)?)?;
    } else {
        output::print_line(report.conclusion())?;
    }
    Ok(if report.holds { Exit::Ok } else { Exit::Bad })
}

fn selected<'c>(names: &[String], config: &'c Config) -> anyhow::Result<Vec<&'c StreamConfig>> {
    if let Some(unknown) = names
        .iter()
        .find(|name| config.streams.iter().all(|stream| stream.name != **name))
    {
        let known: Vec<_> = config.streams.iter().map(|stream| stream.name.as_str()).collect();
        let message = format!(
            "there is no stream {unknown}: the configuration has {}",
            known.join(", ")
        );
        return Err(Exits::error(Exit::Usage, message));
    }
    let wanted = |stream: &&StreamConfig| names.is_empty() || names.contains(&stream.name);
    Ok(config.streams.iter().filter(wanted).collect())
}

/// On stderr, and only where that is a terminal.
fn progress_bar(stream: &str) -> ProgressBar {
    let bar = ProgressBar::new(0);
    let template = "{prefix} [{elapsed}] {wide_bar} {human_pos}/{human_len} {msg}";
    bar.set_style(ProgressStyle::with_template(template).expect("the template is a constant that parses"));
    bar.set_prefix(stream.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
