//! `affluent dead-letters list|show|replay`.
//!
//! Owns: the command line, and what `list` and `show` say about letters.
//! Does not own: replaying (`replay`), choosing (`select`), layout (`print`), reading (`reader`).

use std::collections::{BTreeMap, HashSet, VecDeque};

use serde::Serialize;

use super::letter::{Letter, Origin};
use super::marker::first_origin;
use super::print::{self, Row, counted, json_bytes, rfc3339};
use super::reader::{Depth, Entries, Entry};
use super::replay::{self, ReplayArgs};
use super::select::{Filter, State};
use super::{printable, read_all};
use crate::batch::Headers;
use crate::config::{Config, KafkaConfig, StreamConfig};
use crate::error::{Exit, Exits};
use crate::offsets::{Offset, Partition};
use crate::output;

#[derive(clap::Args, Debug)]
pub struct DeadLetterArgs {
    #[command(subcommand)]
    command: DeadLetterCommand,
}

#[derive(clap::Subcommand, Debug)]
enum DeadLetterCommand {
    /// Count dead letters by code and list the newest
    List(ListArgs),
    /// Print one dead letter: where it came from, why it was rejected, its headers and payload
    Show(ShowArgs),
    /// Produce rejected records to their topic again, each once, after what was wrong has been put right
    Replay(ReplayArgs),
}

#[derive(clap::Args, Debug)]
struct ListArgs {
    /// Only this stream (may be repeated); all of them by default
    #[arg(long = "stream", value_name = "STREAM")]
    streams: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// Only letters that have not been replayed
    #[arg(long)]
    open: bool,
    /// List at most this many letters of each stream, the newest; all are counted
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Debug)]
struct ShowArgs {
    /// The stream whose record it is
    stream: String,
    /// The record's place in its own topic, e.g. 0:1234
    #[arg(value_name = "PARTITION:OFFSET", value_parser = parse_coordinates)]
    record: (Partition, Offset),
    /// Print JSON; bytes that are no UTF-8 text come as base64
    #[arg(long, conflicts_with = "raw")]
    json: bool,
    /// Write nothing but the payload's own bytes
    #[arg(long)]
    raw: bool,
}

fn parse_coordinates(text: &str) -> Result<(Partition, Offset), String> {
    let coordinates = text
        .split_once(':')
        .and_then(|(partition, offset)| Some((Partition(partition.parse().ok()?), offset.parse().ok()?)));
    coordinates.ok_or_else(|| "write PARTITION:OFFSET, e.g. 0:1234".to_owned())
}

pub async fn run(args: DeadLetterArgs, config: &Config) -> anyhow::Result<Exit> {
    match args.command {
        DeadLetterCommand::List(args) => list(&args, config).await,
        DeadLetterCommand::Show(args) => show(&args, config).await,
        DeadLetterCommand::Replay(args) => replay::run(&args, chosen(&args.streams, config)?, config).await,
    }
}

async fn list(args: &ListArgs, config: &Config) -> anyhow::Result<Exit> {
    let mut listings = Vec::new();
    for stream in chosen(&args.streams, config)? {
        listings.push(listing(args, &config.kafka, stream).await?);
    }
    if args.json {
        output::print_line(serde_json::to_string_pretty(&listings)?)?;
    } else {
        output::print(listings.iter().map(Listing::table).collect::<String>())?;
    }
    Ok(Exit::Ok)
}

fn chosen<'a>(names: &[String], config: &'a Config) -> anyhow::Result<Vec<&'a StreamConfig>> {
    match names {
        [] => Ok(config.streams.iter().collect()),
        names => names.iter().map(|name| stream(name, config)).collect(),
    }
}

fn stream<'a>(name: &str, config: &'a Config) -> anyhow::Result<&'a StreamConfig> {
    config.streams.iter().find(|s| s.name == name).ok_or_else(|| {
        let names: Vec<&str> = config.streams.iter().map(|s| s.name.as_str()).collect();
        Exits::error(
            Exit::Usage,
            format!("no stream is named {name}; there are: {}", names.join(", ")),
        )
    })
}

/// What `list` says about one stream.
#[derive(Debug, Default, Serialize)]
struct Listing {
    stream: String,
    dead_letter_topic: String,
    /// Different records among the letters that were asked for.
    records: u64,
    by_code: BTreeMap<String, u64>,
    /// Records among them that have been replayed since.
    replayed: u64,
    /// Records among them that were replayed before and rejected again.
    failed_again: u64,
    /// Letters that were written again after a lost acknowledgement.
    repeated: u64,
    /// Records in the topic that are neither letters nor markers of a replay.
    foreign: u64,
    /// The newest, in the order they were written.
    listed: VecDeque<Row>,
}

async fn listing(args: &ListArgs, kafka: &KafkaConfig, stream: &StreamConfig) -> anyhow::Result<Listing> {
    let mut listing = Listing {
        stream: stream.name.clone(),
        dead_letter_topic: stream.dead_letter_topic.clone(),
        ..Listing::default()
    };
    // A marker lies behind its letter: all of them have to be known before the first letter is judged.
    let replayed = replayed(kafka, stream).await?;
    let mut seen = HashSet::new();
    let mut entries = Entries::open(kafka, &stream.dead_letter_topic, Depth::Headers).await?;
    while let Some(entry) = entries.next().await? {
        match entry {
            Entry::Letter(letter) if args.filter.wants(&letter) => {
                let state = State::of(&letter, &replayed);
                if !(args.open && state == State::Replayed) {
                    let first = seen.insert(letter.origin());
                    listing.take(letter, state, first, args.limit);
                }
            }
            Entry::Letter(_) | Entry::Marker(_) => {}
            Entry::Foreign => listing.foreign += 1,
        }
    }
    Ok(listing)
}

/// The records whose letters have been replayed.
async fn replayed(kafka: &KafkaConfig, stream: &StreamConfig) -> anyhow::Result<HashSet<Origin>> {
    let mut replayed = HashSet::new();
    let mut entries = Entries::open(kafka, &stream.dead_letter_topic, Depth::Headers).await?;
    while let Some(entry) = entries.next().await? {
        if let Entry::Marker(origin) = entry {
            replayed.insert(origin);
        }
    }
    Ok(replayed)
}

impl Listing {
    fn take(&mut self, letter: Letter, state: State, first: bool, limit: usize) {
        if !first {
            self.repeated += 1;
            return;
        }
        self.records += 1;
        *self.by_code.entry(letter.code.clone()).or_default() += 1;
        match state {
            State::Open => {}
            State::FailedAgain => self.failed_again += 1,
            State::Replayed => self.replayed += 1,
        }
        self.listed.push_back(Row::new(letter, state));
        if self.listed.len() > limit {
            self.listed.pop_front();
        }
    }

    fn table(&self) -> String {
        let mut text = format!(
            "{}: {} in {}",
            self.stream,
            counted(self.records, "dead letter"),
            self.dead_letter_topic
        );
        if self.replayed > 0 {
            text += &format!(", {} replayed", self.replayed);
        }
        if self.failed_again > 0 {
            text += &format!(", {} failed again", self.failed_again);
        }
        if self.repeated > 0 {
            text += &format!(", {} written again", self.repeated);
        }
        if self.foreign > 0 {
            text += &format!(", {} of somebody else", counted(self.foreign, "record"));
        }
        text.push('\n');
        text += &print::codes(&self.by_code);
        if !self.listed.is_empty() {
            text += &print::rows(&self.listed);
        }
        if self.records > self.listed.len() as u64 {
            text += &format!("  the newest {} of {} (--limit)\n", self.listed.len(), self.records);
        }
        text
    }
}

async fn show(args: &ShowArgs, config: &Config) -> anyhow::Result<Exit> {
    let stream = stream(&args.stream, config)?;
    let mut copies = Vec::new();
    read_all(&config.kafka, stream, |letter| {
        if (letter.partition, letter.offset) == args.record {
            copies.push(letter);
        }
    })
    .await?;
    // The last: after an operator let a re-created topic begin again, the same coordinates mean another record.
    let Some(letter) = copies.last() else {
        let (partition, offset) = args.record;
        let message = format!("{} holds no letter for {partition}:{offset}", stream.dead_letter_topic);
        return Err(Exits::error(Exit::Bad, message));
    };
    if args.raw {
        output::write(letter.value.as_deref().unwrap_or_default())?;
        return Ok(Exit::Ok);
    }
    let state = State::of(letter, &replayed(&config.kafka, stream).await?);
    if args.json {
        output::print_line(serde_json::to_string_pretty(&as_json(letter, state))?)?;
    } else {
        output::print(describe(letter, state, copies.len()))?;
    }
    Ok(Exit::Ok)
}

fn describe(letter: &Letter, state: State, copies: usize) -> String {
    let timestamp = letter.timestamp_ms.map_or_else(|| "none".to_owned(), rfc3339);
    let first = first_origin(letter).map(|first| format!(", first {}:{}", first.partition, first.offset));
    let mut text = format!(
        "record     {} {}:{}{}\ntimestamp  {timestamp}\nstage      {}\ncode       {}\nerror      {}\nletter     {}:{}{}\nstate      {}\n",
        printable::line(&letter.topic),
        letter.partition,
        letter.offset,
        first.unwrap_or_default(),
        printable::line(&letter.stage),
        printable::line(&letter.code),
        printable::line(&letter.error),
        letter.dlq_partition,
        letter.dlq_offset,
        if copies > 1 {
            format!(" (written {copies} times)")
        } else {
            String::new()
        },
        state.as_str(),
    );
    for (name, value) in &letter.headers {
        text += &format!(
            "header     {}: {}\n",
            printable::line(name),
            bytes_or_null(value.as_deref())
        );
    }
    text += &format!("key        {}\n", bytes_or_null(letter.key.as_deref()));
    match &letter.value {
        None => text += "payload    null\n",
        Some(value) => {
            text += &format!(
                "payload    {}\n\n{}\n",
                counted(value.len() as u64, "byte"),
                printable::payload(value)
            );
        }
    }
    text
}

fn bytes_or_null(bytes: Option<&[u8]>) -> String {
    match bytes.map(std::str::from_utf8) {
        None => "null".to_owned(),
        Some(Ok(text)) => printable::line(text),
        Some(Err(_)) => format!("\n{}", printable::payload(bytes.unwrap_or_default())),
    }
}

fn as_json(letter: &Letter, state: State) -> serde_json::Value {
    serde_json::json!({
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "timestamp": letter.timestamp_ms.map(rfc3339),
        "stage": letter.stage,
        "code": letter.code,
        "error": letter.error,
        "state": state,
        "key": json_bytes(letter.key.as_deref()),
        "value": json_bytes(letter.value.as_deref()),
        "headers": json_headers(&letter.headers),
        "dlq_partition": letter.dlq_partition,
        "dlq_offset": letter.dlq_offset,
    })
}

/// A list, not an object: a name may come twice.
fn json_headers(headers: &Headers) -> Vec<serde_json::Value> {
    let one = |(name, value): &(String, Option<Vec<u8>>)| serde_json::json!({ "name": name, "value": json_bytes(value.as_deref()) });
    headers.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::super::select::tests::letter;
    use super::*;

    #[test]
    fn coordinates_are_partition_and_offset() {
        assert_eq!(parse_coordinates("3:1234"), Ok((Partition(3), 1234)));
        assert!(parse_coordinates("1234").is_err());
        assert!(parse_coordinates("a:1").is_err());
    }

    #[test]
    fn a_table_counts_all_lists_the_newest_and_escapes() {
        let mut listing = Listing {
            stream: "sales".to_owned(),
            dead_letter_topic: "sales.dlq".to_owned(),
            ..Listing::default()
        };
        for offset in 0..3 {
            listing.take(letter(offset, "missing_field"), State::Replayed, true, 2);
        }
        listing.take(letter(3, "wrong_type"), State::Open, true, 2);
        listing.take(letter(3, "wrong_type"), State::Open, false, 2);
        insta::assert_snapshot!(listing.table(), @r"
        sales: 4 dead letters in sales.dlq, 3 replayed, 1 written again
                  3  missing_field
                  1  wrong_type

          RECORD  TIMESTAMP                 STATE     CODE           ERROR
          0:2     2026-01-01T00:00:00.002Z  replayed  missing_field  field \u{1b}[31mamount is missing
          0:3     2026-01-01T00:00:00.003Z  open      wrong_type     field \u{1b}[31mamount is missing
          the newest 2 of 4 (--limit)
        ");
    }

    #[test]
    fn a_letter_is_shown_with_everything_that_came_with_it() {
        insta::assert_snapshot!(describe(&letter(7, "missing_field"), State::Open, 2), @r#"
        record     sales 0:7
        timestamp  2026-01-01T00:00:00.007Z
        stage      decode
        code       missing_field
        error      field \u{1b}[31mamount is missing
        letter     0:107 (written 2 times)
        state      open
        header     trace: 1
        key        null
        payload    9 bytes

        {"a":"\u{7}"}
        "#);
    }

    #[test]
    fn bytes_that_are_no_text_are_base64_in_json() {
        let mut letter = letter(1, "invalid_json");
        letter.value = Some(vec![0xff, 0x00]);
        let json = as_json(&letter, State::FailedAgain);
        assert_eq!(json["value"]["base64"], "/wA=");
        assert_eq!(json["key"], serde_json::Value::Null);
        assert_eq!(json["timestamp"], "2026-01-01T00:00:00.001Z");
        assert_eq!(json["state"], "failed_again");
    }
}
