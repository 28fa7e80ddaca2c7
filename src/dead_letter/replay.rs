//! `affluent dead-letters replay`: rejected records go to their topic once more, each once.
//!
//! ```text
//!  fence, settle ─▶ survey (letters and markers) ─▶ what do the sinks hold? ─▶ choose ─▶ portions ─▶ transactions
//!  └ not in a dry run
//! ```
//!
//! What makes it exact: a marker is committed together with the replayed record, so a marker that can be read means
//! "replayed" and one that cannot means "not". Before choosing, no other replay of the stream can commit any more
//! (it is fenced), and nothing committed is hidden (`transaction::settled`). A record that a sink holds, or that
//! the next run will still read, is left out: it would be there twice.
//!
//! Owns: the order of these steps, how much one transaction carries, what is printed.
//! Does not own: each of the steps (`select`, `transaction`, `verify::fate`).

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::letter::Letter;
use super::print::{self, Row, counted};
use super::reader::{ASK_TIMEOUT, Depth, Entries, Entry, Reach};
use super::select::{Choice, Filter, LeftOut, Place, Survey};
use super::transaction::{Replayer, settled};
use crate::config::{Config, StreamConfig};
use crate::error::{Exit, Exits};
use crate::kafka::admin::describe_topic;
use crate::output;
use crate::verify::fate;

/// What one transaction carries: enough that its round trips do not count, little enough to be sent well within
/// its timeout.
const PORTION_LETTERS: usize = 1000;
const PORTION_BYTES: usize = 16 << 20;

/// Letters shown by a dry run.
const SHOWN: usize = 10;

/// How often progress is told where there is no terminal.
const REPORT_EVERY: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Examples:
  affluent dead-letters replay --dry-run
      what would be replayed, counted by code; changes nothing
  affluent dead-letters replay --stream sales --code too_large
      after max_record_bytes was raised
  affluent dead-letters replay --stream sales --partition 0 --offset 1200..1300
      the letters of these records
  affluent dead-letters replay --stream sales --again --limit 10
      also what was replayed before and failed again, ten letters to begin with

Replaying twice, at the same time, or again after a crash sends no record twice. A record is left out as long as \
a run has not passed it in every sink, and for good where a sink holds it. The replayed record keeps key, value, \
headers and timestamp, and names its first place in affluent.replay.* headers; its topic gives it a new offset, \
under which the next `affluent run` reads it.
Exit codes: 0 replayed, or nothing to replay; 1 refused (the topic is gone or takes no such record, another replay \
took over, interrupted); 2 usage or configuration; 3 a service is missing.";

#[derive(clap::Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct ReplayArgs {
    /// Only letters of this stream (may be repeated); all of them by default
    #[arg(long = "stream", value_name = "STREAM")]
    pub streams: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// Also records that were replayed before and rejected again
    #[arg(long)]
    again: bool,
    /// Replay at most this many letters of each stream, the oldest
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Say what would be replayed and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What became of one stream's letters.
#[derive(Debug, Default, Serialize)]
struct Outcome {
    stream: String,
    topic: String,
    dead_letter_topic: String,
    dry_run: bool,
    /// Replayed, or to be replayed in a dry run.
    replayed: u64,
    by_code: BTreeMap<String, u64>,
    transactions: u64,
    left_out: LeftOut,
    /// The first few, in a dry run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    first: Vec<Row>,
    #[serde(skip)]
    interrupted: bool,
}

pub(super) async fn run(args: &ReplayArgs, streams: Vec<&StreamConfig>, config: &Config) -> anyhow::Result<Exit> {
    let interrupted = interruption().context("cannot listen for signals")?;
    let mut outcomes = Vec::new();
    for stream in streams {
        let outcome = replay(args, config, stream, &interrupted).await;
        let outcome = outcome.with_context(|| format!("stream {}", stream.name))?;
        // At once: a later stream may fail, and this one is done.
        if !args.json {
            output::print(outcome.text())?;
        }
        outcomes.push(outcome);
    }
    if args.json {
        output::print_line(serde_json::to_string_pretty(&outcomes)?)?;
    }
    if outcomes.iter().any(|outcome| outcome.interrupted) {
        let message = "interrupted between two transactions; replay again for the rest";
        return Err(Exits::error(Exit::Bad, message));
    }
    Ok(Exit::Ok)
}

async fn replay(
    args: &ReplayArgs,
    config: &Config,
    stream: &StreamConfig,
    interrupted: &AtomicBool,
) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome {
        stream: stream.name.clone(),
        topic: stream.topic.clone(),
        dead_letter_topic: stream.dead_letter_topic.clone(),
        dry_run: args.dry_run,
        ..Outcome::default()
    };
    let letters = describe_topic(&config.kafka, &stream.dead_letter_topic, ASK_TIMEOUT).await?;
    if letters.is_none() {
        return Ok(outcome);
    }
    let mut replayer = None;
    if !args.dry_run {
        replayer = Some(Arc::new(Replayer::open(config, stream).await?));
        settled(&config.kafka, &stream.dead_letter_topic).await?;
    }
    let mut choice = survey(args, config, stream).await?;
    let fates = fate::fates(config, stream, &choice.coordinates()).await?;
    choice.settle(&fates, args.limit);

    outcome.left_out = choice.left_out;
    match replayer {
        None => {
            outcome.replayed = choice.letters.len() as u64;
            outcome.by_code = choice.by_code();
            outcome.first = choice.letters.iter().take(SHOWN).map(Row::of_candidate).collect();
        }
        Some(replayer) => {
            let sending = Sending::new(replayer, &choice);
            sending.run(config, stream, interrupted, &mut outcome).await?;
        }
    }
    Ok(outcome)
}

/// Reads the whole dead-letter topic without payloads: what it holds, and what of it was replayed.
async fn survey(args: &ReplayArgs, config: &Config, stream: &StreamConfig) -> anyhow::Result<Choice> {
    let mut survey = Survey::default();
    let mut entries = Entries::open(
        &config.kafka,
        &stream.dead_letter_topic,
        Depth::Headers,
        Reach::Everything,
    )
    .await?;
    while let Some(entry) = entries.next().await? {
        match entry {
            Entry::Letter(letter) => survey.letter(&letter, &args.filter, &stream.topic),
            Entry::Marker(origin) => survey.marker(origin),
            Entry::Foreign => {}
        }
    }
    Ok(survey.unmarked(args.again))
}

/// The chosen letters on their way, read a second time with their payloads.
struct Sending {
    replayer: Arc<Replayer>,
    chosen: BTreeSet<Place>,
    progress: Progress,
    portion: Vec<Letter>,
    bytes: usize,
}

impl Sending {
    fn new(replayer: Arc<Replayer>, choice: &Choice) -> Self {
        Self {
            replayer,
            chosen: choice.letters.iter().map(|candidate| candidate.place).collect(),
            progress: Progress::new(choice.letters.len() as u64),
            portion: Vec::new(),
            bytes: 0,
        }
    }

    async fn run(
        mut self,
        config: &Config,
        stream: &StreamConfig,
        interrupted: &AtomicBool,
        outcome: &mut Outcome,
    ) -> anyhow::Result<()> {
        if self.chosen.is_empty() {
            return Ok(());
        }
        let mut entries = Entries::open(
            &config.kafka,
            &stream.dead_letter_topic,
            Depth::Whole,
            Reach::Everything,
        )
        .await?;
        while !self.chosen.is_empty() && !outcome.interrupted {
            let Some(entry) = entries.next().await? else { break };
            let Entry::Letter(letter) = entry else { continue };
            if !self.chosen.remove(&(letter.dlq_partition, letter.dlq_offset)) {
                continue;
            }
            self.bytes += letter.value.as_ref().map_or(0, Vec::len);
            self.portion.push(letter);
            if self.portion.len() >= PORTION_LETTERS || self.bytes >= PORTION_BYTES {
                self.send(outcome).await?;
                outcome.interrupted = interrupted.load(Ordering::Relaxed) && !self.chosen.is_empty();
            }
        }
        self.send(outcome).await?;
        self.progress.finish();
        Ok(())
    }

    async fn send(&mut self, outcome: &mut Outcome) -> anyhow::Result<()> {
        if self.portion.is_empty() {
            return Ok(());
        }
        self.bytes = 0;
        let (replayer, portion) = (Arc::clone(&self.replayer), std::mem::take(&mut self.portion));
        let work = move || replayer.replay(&portion).map(|()| portion);
        let sent = tokio::task::spawn_blocking(work)
            .await
            .context("the thread that replays panicked")?;
        let sent = sent.with_context(|| format!("after {} replayed", counted(outcome.replayed, "letter")))?;
        outcome.transactions += 1;
        outcome.replayed += sent.len() as u64;
        for letter in sent {
            *outcome.by_code.entry(letter.code).or_default() += 1;
        }
        self.progress.at(outcome.replayed);
        Ok(())
    }
}

impl Outcome {
    fn text(&self) -> String {
        let would = if self.dry_run { "would be replayed" } else { "replayed" };
        let mut text = format!(
            "{}: {} {would} from {} to {}",
            self.stream,
            counted(self.replayed, "letter"),
            self.dead_letter_topic,
            self.topic
        );
        if self.transactions > 0 {
            text += &format!(" in {}", counted(self.transactions, "transaction"));
        }
        text.push('\n');
        text += &print::codes(&self.by_code);
        let left_out = &self.left_out;
        for (count, why) in [
            (left_out.replayed, "replayed before"),
            (
                left_out.failed_again,
                "replayed before and failed again: --again takes them",
            ),
            (
                left_out.unread,
                "not passed by every sink yet: run first, it judges them itself",
            ),
            (
                left_out.stored,
                "stored meanwhile: a run under other rules has taken the record",
            ),
            (left_out.repeated, "second letters of one record"),
            (left_out.other_topic, "of another stream's topic"),
            (left_out.limited, "beyond --limit"),
        ] {
            if count > 0 {
                text += &format!("  {count:>9}  left out, {why}\n");
            }
        }
        if !self.first.is_empty() {
            text += &print::rows(&self.first);
        }
        text
    }
}

/// Becomes true with the first SIGINT or SIGTERM: a portion under way is finished. The second one ends the process;
/// what it leaves open is aborted by the broker, or by the next replay.
fn interruption() -> std::io::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let seen = Arc::clone(&interrupted);
    tokio::spawn(async move {
        for _ in 1..=2 {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if seen.swap(true, Ordering::Relaxed) {
                std::process::exit(Exit::Bad as i32);
            }
        }
    });
    Ok(interrupted)
}

/// Tells how far a replay is: a bar on a terminal, log lines elsewhere.
struct Progress {
    bar: Option<ProgressBar>,
    letters: u64,
    next: Instant,
}

impl Progress {
    fn new(letters: u64) -> Self {
        let style = ProgressStyle::with_template("{bar:32} {human_pos}/{human_len} letters, {eta} left")
            .expect("the template is constant and well formed");
        let on_terminal = std::io::stderr().is_terminal() && letters > 0;
        Self {
            bar: on_terminal.then(|| ProgressBar::new(letters).with_style(style)),
            letters,
            next: Instant::now() + REPORT_EVERY,
        }
    }

    fn at(&mut self, replayed: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(replayed);
        } else if Instant::now() >= self.next {
            self.next = Instant::now() + REPORT_EVERY;
            tracing::info!(replayed, of = self.letters, "replaying dead letters");
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::select::tests::letter;
    use super::*;

    #[test]
    fn an_outcome_says_what_is_replayed_and_what_is_not() {
        let mut survey = Survey::default();
        for offset in 0..3 {
            survey.letter(&letter(offset, "missing_field"), &Filter::default(), "sales");
        }
        let choice = survey.unmarked(false);
        let outcome = Outcome {
            stream: "sales".to_owned(),
            topic: "sales".to_owned(),
            dead_letter_topic: "sales.dlq".to_owned(),
            dry_run: true,
            replayed: 3,
            by_code: choice.by_code(),
            left_out: LeftOut {
                replayed: 2,
                unread: 1,
                ..LeftOut::default()
            },
            first: choice.letters.iter().take(1).map(Row::of_candidate).collect(),
            ..Outcome::default()
        };
        insta::assert_snapshot!(outcome.text(), @r"
        sales: 3 letters would be replayed from sales.dlq to sales
                  3  missing_field
                  2  left out, replayed before
                  1  left out, not passed by every sink yet: run first, it judges them itself

          RECORD  TIMESTAMP                 STATE  CODE           ERROR
          0:0     2026-01-01T00:00:00.000Z  open   missing_field  field \u{1b}[31mamount is missing
        ");
    }
}
