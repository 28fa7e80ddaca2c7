//! `affluent dead-letters list|show`.
//!
//! Owns: the command line, which letters are chosen, and how they are printed (tables for people, JSON for
//! programs). Does not own: reading them (`reader`), escaping (`printable`).

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::io::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use clap::builder::PossibleValuesParser;
use serde::Serialize;

use super::{Letter, printable, read_all};
use crate::batch::{Headers, RejectCode};
use crate::config::{Config, KafkaConfig, StreamConfig};
use crate::error::{Exit, Exits};
use crate::instant::parse_instant;
use crate::offsets::{Offset, Partition};

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
}

#[derive(clap::Args, Debug)]
struct ListArgs {
    /// Only this stream (may be repeated); all of them by default
    #[arg(long = "stream", value_name = "STREAM")]
    streams: Vec<String>,
    /// Only letters with this code
    #[arg(long, value_parser = PossibleValuesParser::new(RejectCode::ALL.map(RejectCode::as_str)))]
    code: Option<String>,
    /// Only records with a Kafka timestamp at or after this instant (RFC 3339, or a day in UTC)
    #[arg(long, value_parser = parse_instant, value_name = "INSTANT")]
    since: Option<DateTime<Utc>>,
    /// Only records with a Kafka timestamp before this instant
    #[arg(long, value_parser = parse_instant, value_name = "INSTANT")]
    until: Option<DateTime<Utc>>,
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
    }
}

async fn list(args: &ListArgs, config: &Config) -> anyhow::Result<Exit> {
    let mut listings = Vec::new();
    for stream in chosen(&args.streams, config)? {
        listings.push(listing(args, &config.kafka, stream).await?);
    }
    let text = match args.json {
        true => serde_json::to_string_pretty(&listings)? + "\n",
        false => listings.iter().map(Listing::table).collect(),
    };
    emit(text.as_bytes())?;
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
    /// Letters that were written again after a lost acknowledgement.
    repeated: u64,
    /// Records in the topic that are no letters.
    foreign: u64,
    /// The newest, in the order they were written.
    listed: VecDeque<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    partition: Partition,
    offset: Offset,
    timestamp: Option<String>,
    code: String,
    error: String,
}

async fn listing(args: &ListArgs, kafka: &KafkaConfig, stream: &StreamConfig) -> anyhow::Result<Listing> {
    let mut listing = Listing {
        stream: stream.name.clone(),
        dead_letter_topic: stream.dead_letter_topic.clone(),
        ..Listing::default()
    };
    let mut seen = HashSet::new();
    let summary = read_all(kafka, stream, |letter| {
        if args.wants(&letter) {
            let first = seen.insert((letter.partition, letter.offset));
            listing.take(letter, first, args.limit);
        }
    })
    .await?;
    listing.foreign = summary.foreign;
    Ok(listing)
}

impl ListArgs {
    fn wants(&self, letter: &Letter) -> bool {
        let in_time = |wanted: Option<DateTime<Utc>>, keeps: fn(i64, i64) -> bool| {
            wanted.is_none_or(|w| letter.timestamp_ms.is_some_and(|t| keeps(t, w.timestamp_millis())))
        };
        self.code.as_ref().is_none_or(|code| *code == letter.code)
            && in_time(self.since, |t, since| t >= since)
            && in_time(self.until, |t, until| t < until)
    }
}

impl Listing {
    fn take(&mut self, letter: Letter, first: bool, limit: usize) {
        if !first {
            self.repeated += 1;
            return;
        }
        self.records += 1;
        *self.by_code.entry(letter.code.clone()).or_default() += 1;
        self.listed.push_back(Row {
            partition: letter.partition,
            offset: letter.offset,
            timestamp: letter.timestamp_ms.map(rfc3339),
            code: letter.code,
            error: letter.error,
        });
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
        if self.repeated > 0 {
            text += &format!(", {} written again", self.repeated);
        }
        if self.foreign > 0 {
            text += &format!(", {} of somebody else", counted(self.foreign, "record"));
        }
        text.push('\n');
        let mut codes: Vec<(&String, &u64)> = self.by_code.iter().collect();
        codes.sort_by_key(|(code, count)| (std::cmp::Reverse(**count), *code));
        for (code, count) in codes {
            text += &format!("  {count:>9}  {}\n", printable::line(code));
        }
        if !self.listed.is_empty() {
            text += &self.rows();
        }
        if self.records > self.listed.len() as u64 {
            text += &format!("  the newest {} of {} (--limit)\n", self.listed.len(), self.records);
        }
        text
    }

    fn rows(&self) -> String {
        let header = ["RECORD", "TIMESTAMP", "CODE", "ERROR"].map(str::to_owned);
        let rows = self.listed.iter().map(|row| {
            [
                format!("{}:{}", row.partition, row.offset),
                row.timestamp.clone().unwrap_or_else(|| "-".to_owned()),
                printable::line(&row.code),
                printable::line(&row.error),
            ]
        });
        let cells: Vec<[String; 4]> = std::iter::once(header).chain(rows).collect();
        let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths = [width(0), width(1), width(2)];
        let mut text = String::from("\n");
        for [record, timestamp, code, error] in &cells {
            let [a, b, c] = widths;
            text += &format!("  {record:<a$}  {timestamp:<b$}  {code:<c$}  {error}\n");
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
        emit(letter.value.as_deref().unwrap_or_default())?;
    } else if args.json {
        emit((serde_json::to_string_pretty(&as_json(letter))? + "\n").as_bytes())?;
    } else {
        emit(describe(letter, copies.len()).as_bytes())?;
    }
    Ok(Exit::Ok)
}

fn describe(letter: &Letter, copies: usize) -> String {
    let timestamp = letter.timestamp_ms.map_or_else(|| "none".to_owned(), rfc3339);
    let mut text = format!(
        "record     {} {}:{}\ntimestamp  {timestamp}\nstage      {}\ncode       {}\nerror      {}\nletter     {}:{}{}\n",
        printable::line(&letter.topic),
        letter.partition,
        letter.offset,
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

fn as_json(letter: &Letter) -> serde_json::Value {
    serde_json::json!({
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "timestamp": letter.timestamp_ms.map(rfc3339),
        "stage": letter.stage,
        "code": letter.code,
        "error": letter.error,
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

/// `null`, `"text"`, or `{"base64": "…"}` where the bytes are no text.
fn json_bytes(bytes: Option<&[u8]>) -> serde_json::Value {
    match bytes.map(|b| (b, std::str::from_utf8(b))) {
        None => serde_json::Value::Null,
        Some((_, Ok(text))) => text.into(),
        Some((bytes, Err(_))) => serde_json::json!({ "base64": STANDARD.encode(bytes) }),
    }
}

/// An instant for people; the bare number where no calendar reaches it.
fn rfc3339(timestamp_ms: i64) -> String {
    DateTime::from_timestamp_millis(timestamp_ms).map_or_else(
        || timestamp_ms.to_string(),
        |instant| instant.to_rfc3339_opts(SecondsFormat::Millis, true),
    )
}

fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Writes to standard output; a reader that has seen enough (`| head`) is no failure.
fn emit(bytes: &[u8]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(offset: Offset, code: &str) -> Letter {
        Letter {
            topic: "sales".to_owned(),
            partition: Partition(0),
            offset,
            timestamp_ms: Some(1_767_225_600_000 + offset),
            stage: "decode".to_owned(),
            code: code.to_owned(),
            error: "field \u{1b}[31mamount is missing".to_owned(),
            key: None,
            value: Some(b"{\"a\":\"\x07\"}".to_vec()),
            headers: vec![("trace".to_owned(), Some(b"1".to_vec()))],
            dlq_partition: Partition(0),
            dlq_offset: offset + 100,
        }
    }

    fn args() -> ListArgs {
        ListArgs {
            streams: Vec::new(),
            code: None,
            since: None,
            until: None,
            limit: 2,
            json: false,
        }
    }

    #[test]
    fn coordinates_are_partition_and_offset() {
        assert_eq!(parse_coordinates("3:1234"), Ok((Partition(3), 1234)));
        assert!(parse_coordinates("1234").is_err());
        assert!(parse_coordinates("a:1").is_err());
    }

    #[test]
    fn letters_are_chosen_by_code_and_by_time_with_until_excluded() {
        let at = |ms| DateTime::from_timestamp_millis(1_767_225_600_000_i64 + ms);
        let mut args = args();
        args.code = Some("missing_field".to_owned());
        (args.since, args.until) = (at(2), at(4));
        let wanted = (0..6).filter(|o| args.wants(&letter(*o, "missing_field")));
        assert_eq!(wanted.collect::<Vec<_>>(), [2, 3]);
        assert!(!args.wants(&letter(3, "wrong_type")));
        let mut timeless = letter(3, "missing_field");
        timeless.timestamp_ms = None;
        assert!(!args.wants(&timeless), "no timestamp lies in no period");
    }

    #[test]
    fn a_table_counts_all_lists_the_newest_and_escapes() {
        let mut listing = Listing {
            stream: "sales".to_owned(),
            dead_letter_topic: "sales.dlq".to_owned(),
            ..Listing::default()
        };
        for offset in 0..3 {
            listing.take(letter(offset, "missing_field"), true, 2);
        }
        listing.take(letter(3, "wrong_type"), true, 2);
        listing.take(letter(3, "wrong_type"), false, 2);
        insta::assert_snapshot!(listing.table(), @r"
        sales: 4 dead letters in sales.dlq, 1 written again
                  3  missing_field
                  1  wrong_type

          RECORD  TIMESTAMP                 CODE           ERROR
          0:2     2026-01-01T00:00:00.002Z  missing_field  field \u{1b}[31mamount is missing
          0:3     2026-01-01T00:00:00.003Z  wrong_type     field \u{1b}[31mamount is missing
          the newest 2 of 4 (--limit)
        ");
    }

    #[test]
    fn a_letter_is_shown_with_everything_that_came_with_it() {
        insta::assert_snapshot!(describe(&letter(7, "missing_field"), 2), @r#"
        record     sales 0:7
        timestamp  2026-01-01T00:00:00.007Z
        stage      decode
        code       missing_field
        error      field \u{1b}[31mamount is missing
        letter     0:107 (written 2 times)
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
        let json = as_json(&letter);
        assert_eq!(json["value"]["base64"], "/wA=");
        assert_eq!(json["key"], serde_json::Value::Null);
        assert_eq!(json["timestamp"], "2026-01-01T00:00:00.001Z");
    }
}
