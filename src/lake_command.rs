//! `affluent lake history|compact|checkpoint|vacuum`.
//!
//! Owns: the command line, progress, and the summary of what was done.
//! Does not own: the work (`lake::maintenance`), which a running job does by itself at its intervals.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;
use tracing::info;

use crate::config::{Config, StreamConfig};
use crate::error::{Exit, Exits, Invariant};
use crate::lake::delta::retention::{FILE_RETENTION, file_retention, log_retention};
use crate::lake::maintenance::compact::{self, Outcome};
use crate::lake::maintenance::history::{self, Version};
use crate::lake::maintenance::plan::{Bin, PlanSettings};
use crate::lake::maintenance::table::{Sum, Table};
use crate::lake::maintenance::{checkpoint, vacuum};
use crate::output;
use crate::run::select;

/// Look after the lake's tables: history, compaction, checkpoints, removal of what nobody needs
#[derive(clap::Args, Debug)]
pub struct LakeArgs {
    #[command(subcommand)]
    command: LakeCommand,
}

#[derive(clap::Subcommand, Debug)]
enum LakeCommand {
    /// List the table's newest versions: when, who, what, how many files
    History(HistoryArgs),
    /// Put small files together; a running job may go on meanwhile
    Compact(CompactArgs),
    /// Write a checkpoint of the newest version, and remove log files nobody needs any more
    Checkpoint(CheckpointArgs),
    /// Delete data files that no version within the retention needs
    Vacuum(VacuumArgs),
}

#[derive(clap::Args, Debug)]
struct Streams {
    /// Only this stream (may be repeated); all of them by default
    #[arg(long = "stream", value_name = "STREAM")]
    streams: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Debug)]
struct HistoryArgs {
    #[command(flatten)]
    of: Streams,
    /// So many versions, the newest
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: usize,
}

#[derive(clap::Args, Debug)]
struct CompactArgs {
    #[command(flatten)]
    of: Streams,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// A partition without a new file for so long counts as complete: its files are put together whatever their number
    #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = humantime::parse_duration)]
    quiet: Duration,
    /// Small files that make a rewrite worth while in a partition that still receives rows
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u64).range(2..))]
    many: u64,
}

#[derive(clap::Args, Debug)]
struct CheckpointArgs {
    #[command(flatten)]
    of: Streams,
    /// Leave the log's old files where they are
    #[arg(long)]
    keep_log: bool,
}

#[derive(clap::Args, Debug)]
struct VacuumArgs {
    #[command(flatten)]
    of: Streams,
    /// Count and name what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
    /// Keep what versions this young need, and every file this young. Default: the table's own
    /// `delta.deletedFileRetentionDuration`, else 7 days
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    retention: Option<Duration>,
    /// Allow a retention below the table's own: readers of an older version may find files gone, and so may a job whose
    /// files wait for their commit
    #[arg(long)]
    force: bool,
}

pub async fn run(args: LakeArgs, config: &Config) -> anyhow::Result<Exit> {
    match args.command {
        LakeCommand::History(args) => {
            let limit = args.limit;
            each(config, &args.of, async |table| table.history(limit).await).await
        }
        LakeCommand::Compact(args) => each(config, &args.of, async |table| table.compact(&args).await).await,
        LakeCommand::Checkpoint(args) => {
            each(config, &args.of, async |table| table.checkpoint(args.keep_log).await).await
        }
        LakeCommand::Vacuum(args) => each(config, &args.of, async |table| table.vacuum(&args).await).await,
    }
}

/// What one command answers about one table.
struct Answer {
    json: serde_json::Value,
    text: String,
}

async fn each(
    config: &Config,
    of: &Streams,
    work: impl AsyncFn(&OpenTable<'_>) -> anyhow::Result<Answer>,
) -> anyhow::Result<Exit> {
    let mut answers = BTreeMap::new();
    for stream in select(config, &of.streams)?.iter().filter(|stream| stream.lake.enabled) {
        let answer = match OpenTable::open(config, stream).await? {
            Some(table) => work(&table).await?,
            None => Answer {
                json: serde_json::Value::Null,
                text: format!("{}: no table yet\n", stream.name),
            },
        };
        if !of.json {
            output::print(&answer.text)?;
        }
        answers.insert(stream.name.clone(), answer.json);
    }
    if answers.is_empty() {
        return Err(Exits::error(Exit::Usage, "no stream has its lake enabled".to_owned()));
    }
    if of.json {
        output::print_line(json!({ "streams": answers }))?;
    }
    Ok(Exit::Ok)
}

struct OpenTable<'a> {
    stream: &'a StreamConfig,
    table: Table,
}

impl<'a> OpenTable<'a> {
    /// `None` where there is none yet.
    async fn open(config: &Config, stream: &'a StreamConfig) -> anyhow::Result<Option<Self>> {
        let table = Table::open(&config.job, stream).await?;
        Ok(table.map(|table| Self { stream, table }))
    }

    /// The table, where it may be touched.
    fn sound(&self) -> Result<&Table, Invariant> {
        self.table.check()?;
        Ok(&self.table)
    }

    async fn history(&self, limit: usize) -> anyhow::Result<Answer> {
        // Also of a table that the stream has stopped at: then most of all.
        let Table { store, log, .. } = &self.table;
        let versions = history::newest(store, log.version, limit).await?;
        let mut text = format!("{} at {}\n", self.stream.name, store.location());
        for version in &versions {
            text.push_str(&line(version));
        }
        Ok(Answer {
            json: json!(versions),
            text,
        })
    }

    async fn compact(&self, args: &CompactArgs) -> anyhow::Result<Answer> {
        let settings = PlanSettings {
            target: self.stream.lake.target_file_bytes,
            quiet: args.quiet,
            many: usize::try_from(args.many)?,
        };
        let table = self.sound()?;
        let (all, bins) = table.plan(Utc::now(), &settings).await?;
        let mut done = Compacted {
            before: all,
            planned: Sum {
                files: bins.iter().map(|bin| bin.files.len() as u64).sum(),
                bytes: bins.iter().map(Bin::bytes).sum(),
            },
            ..Compacted::default()
        };
        if !args.dry_run {
            table.store.prove_exclusive().await?;
            self.rewrite(table, &bins, &mut done).await?;
        }
        Ok(Answer {
            text: done.text(&self.stream.name, args.dry_run),
            json: json!(done),
        })
    }

    async fn rewrite(&self, table: &Table, bins: &[Bin], done: &mut Compacted) -> anyhow::Result<()> {
        let bar = bar(done.planned.bytes, &self.stream.name);
        for bin in bins {
            match compact::compact(&table.store, &table.log, bin).await? {
                Outcome::Done { bytes, version } => {
                    done.replaced.files += bin.files.len() as u64;
                    done.replaced.bytes += bin.bytes();
                    done.written.add(bytes);
                    done.version = Some(version);
                }
                Outcome::Overtaken => done.overtaken += 1,
            }
            bar.inc(bin.bytes());
        }
        bar.finish_and_clear();
        Ok(())
    }

    async fn checkpoint(&self, keep_log: bool) -> anyhow::Result<Answer> {
        let Table { store, log, .. } = self.sound()?;
        let version = log.version;
        checkpoint::write(store, version).await?;
        let removed = match log_retention(log)?.filter(|_| !keep_log) {
            Some(retention) => checkpoint::clean(store, retention).await?,
            None => 0,
        };
        let name = &self.stream.name;
        Ok(Answer {
            json: json!({ "version": version, "log_files_removed": removed }),
            text: format!(
                "{name}: checkpoint of version {version}, {} old log files removed\n",
                HumanCount(removed)
            ),
        })
    }

    async fn vacuum(&self, args: &VacuumArgs) -> anyhow::Result<Answer> {
        let Table { store, log, .. } = self.sound()?;
        let own = file_retention(log)?;
        let retention = args.retention.unwrap_or(own);
        if retention < own && !args.force {
            let message = format!(
                "--retention {} is below the {} that the table at {} promises its readers; --force does it all the same",
                humantime::format_duration(retention),
                humantime::format_duration(own),
                store.location()
            );
            return Err(Exits::error(Exit::Usage, message));
        }
        if retention > own {
            let message = format!(
                "--retention {} is above the {} of the table at {}: its checkpoints no longer tell what older versions \
                 need; set the table's property {FILE_RETENTION} instead, e.g. to `interval 30 days`",
                humantime::format_duration(retention),
                humantime::format_duration(own),
                store.location()
            );
            return Err(Exits::error(Exit::Usage, message));
        }
        let bar = spinner(&self.stream.name);
        let done = vacuum::vacuum(store, log, retention, !args.dry_run, |done| {
            bar.set_message(format!("{} files, {}", HumanCount(done.files), HumanBytes(done.bytes)));
        })
        .await?;
        bar.finish_and_clear();
        let name = &self.stream.name;
        let verb = if args.dry_run { "would be deleted" } else { "deleted" };
        let mut text = format!(
            "{name}: {} files ({}) {verb}, {} too young, {} of a kind not known\n",
            HumanCount(done.files),
            HumanBytes(done.bytes),
            HumanCount(done.young),
            HumanCount(done.unknown)
        );
        for example in &done.examples {
            text.push_str(&format!("  {example}\n"));
        }
        Ok(Answer {
            json: json!({
                "dry_run": args.dry_run, "files": done.files, "bytes": done.bytes, "young": done.young,
                "unknown": done.unknown, "examples": done.examples,
            }),
            text,
        })
    }
}

#[derive(Debug, Default, Serialize)]
struct Compacted {
    /// The whole table.
    before: Sum,
    /// What was chosen.
    planned: Sum,
    replaced: Sum,
    written: Sum,
    /// Bins whose files somebody else took away meanwhile.
    overtaken: u64,
    version: Option<u64>,
}

impl Compacted {
    fn text(&self, name: &str, dry_run: bool) -> String {
        let table = format!(
            "{name}: {} files of {} on average",
            HumanCount(self.before.files),
            HumanBytes(self.before.mean())
        );
        if dry_run || self.planned.files == 0 {
            return format!(
                "{table}, {} of them ({}) worth putting together\n",
                HumanCount(self.planned.files),
                HumanBytes(self.planned.bytes)
            );
        }
        let overtaken = match self.overtaken {
            0 => String::new(),
            n => format!(", {n} groups left: somebody else changed them"),
        };
        format!(
            "{table}; {} of them became {} of {} on average{overtaken}\n",
            HumanCount(self.replaced.files),
            HumanCount(self.written.files),
            HumanBytes(self.written.mean())
        )
    }
}

fn line(version: &Version) -> String {
    let time = version.timestamp.and_then(DateTime::<Utc>::from_timestamp_millis);
    let time = time.map_or("unknown time".to_owned(), |time| {
        time.to_rfc3339_opts(SecondsFormat::Secs, true)
    });
    let rows = version
        .rows
        .map(|rows| format!("  {} rows", HumanCount(rows)))
        .unwrap_or_default();
    format!(
        "{:>10}  {time}  {:<18} +{} −{} files{rows}  {}\n",
        version.version, version.operation, version.added, version.removed, version.engine
    )
}

fn bar(bytes: u64, name: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        info!(stream = name, bytes, "putting files together");
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    ProgressBar::new(bytes)
        .with_style(style.expect("a template"))
        .with_message(name.to_owned())
}

fn spinner(name: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        info!(stream = name, "looking for files that nobody needs");
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner().with_prefix(name.to_owned());
    spinner.enable_steady_tick(Duration::from_millis(200));
    spinner
}
