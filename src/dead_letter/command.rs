//! `affluent dead-letters list|show|replay`.
//!
//! Owns: the command line, and what `show` says about a letter.
//! Does not own: what `list` says (`listing`), replaying (`replay`), choosing (`select`), layout (`print`), reading (`reader`).

use super::letter::Letter;
use super::listing::{Listing, replayed};
use super::marker::first_origin;
use super::print::{counted, json_bytes, rfc3339};
use super::reader::Reach;
use super::replay::{self, ReplayArgs};
use super::select::{Filter, State};
use super::{printable, read_all};
use crate::batch::Headers;
use crate::config::{Config, StreamConfig};
use crate::error::{Exit, Exits};
use crate::offsets::{Offset, Partition};
use crate::output;

/// Look at the records that could not be stored, and replay them after a fix
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
        let wanted = |letter: &Letter, state| args.filter.wants(letter) && !(args.open && state == State::Replayed);
        listings.push(Listing::read(&config.kafka, stream, Reach::Everything, args.limit, wanted).await?);
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
    let state = State::of(letter, &replayed(&config.kafka, stream, Reach::Everything).await?);
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
