//! The report for people: one aligned table per stream, then what is worth a sentence.
//!
//! Owns: columns and their texts. `?` is unknown, `-` is nothing recorded yet, `off` a sink the stream does not use.

use std::fmt::Write;
use std::time::Duration;

use super::report::{self, PartitionReport, Report, SinkReport, StreamReport};
use crate::event_time::Micros;

const HEADINGS: [&str; 9] = ["PARTITION", "START", "END", "MONGO", "LAG", "AGE", "LAKE", "LAG", "AGE"];

type Row = [String; HEADINGS.len()];

/// The whole report, ending in a line break.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    for stream in &report.streams {
        text.push_str(&render_stream(stream));
        text.push('\n');
    }
    let (records, age) = (count(report.lag_records), age(report.lag_seconds));
    line(
        &mut text,
        format_args!("lag of the slower sink: {records} records, {age}"),
    );
    text
}

fn render_stream(stream: &StreamReport) -> String {
    let mut text = String::new();
    let id = stream
        .topic_id
        .as_ref()
        .map_or_else(String::new, |id| format!(" (id {id})"));
    let version = stream
        .lake_version
        .map_or_else(String::new, |version| format!(", lake version {version}"));
    line(
        &mut text,
        format_args!("{}: topic {}{id}{version}", stream.stream, stream.topic),
    );
    if !stream.partitions.is_empty() {
        let mut rows = vec![HEADINGS.map(str::to_owned)];
        rows.extend(stream.partitions.iter().map(row));
        align(&mut text, &rows);
        line(&mut text, format_args!("  {}", watermark(stream)));
    }
    for loss in &stream.losses {
        line(
            &mut text,
            format_args!("  passed over, accepted {}: {}", loss.accepted_at, loss.loss),
        );
    }
    for notice in &stream.notices {
        line(&mut text, format_args!("  note: {notice}"));
    }
    for problem in &stream.problems {
        line(&mut text, format_args!("  missing: {problem}"));
    }
    text
}

/// `complete up to …`, and each sink where there are two.
fn watermark(stream: &StreamReport) -> String {
    let time = |time: Option<Micros>| time.and_then(report::show).unwrap_or_else(|| "?".to_owned());
    let uses = |of: fn(&PartitionReport) -> Option<SinkReport>| stream.partitions.iter().any(|p| of(p).is_some());
    let whole = format!("complete up to {}", time(stream.watermark));
    if uses(|p| p.mongo) && uses(|p| p.lake) {
        let (mongo, lake) = (time(stream.mongo_watermark), time(stream.lake_watermark));
        return format!("{whole} (mongo {mongo}, lake {lake})");
    }
    whole
}

fn row(partition: &PartitionReport) -> Row {
    let offset = |offset: Option<i64>| offset.map_or_else(|| "?".to_owned(), |offset| offset.to_string());
    let [mongo, mongo_lag, mongo_age] = sink(partition.mongo);
    let [lake, lake_lag, lake_age] = sink(partition.lake);
    [
        partition.partition.to_string(),
        offset(partition.log_start),
        offset(partition.log_end),
        mongo,
        mongo_lag,
        mongo_age,
        lake,
        lake_lag,
        lake_age,
    ]
}

fn sink(sink: Option<SinkReport>) -> [String; 3] {
    let Some(sink) = sink else {
        return ["off".to_owned(), String::new(), String::new()];
    };
    let next = match sink.next {
        Some(next) => next.to_string(),
        None if sink.lag_records.is_some() => "-".to_owned(),
        None => "?".to_owned(),
    };
    [next, count(sink.lag_records), age(sink.lag_seconds)]
}

fn count(count: Option<u64>) -> String {
    count.map_or_else(|| "?".to_owned(), |count| count.to_string())
}

/// Two units at most, tenths below a minute: an age is read at a glance.
fn age(seconds: Option<f64>) -> String {
    match seconds {
        None => "?".to_owned(),
        Some(seconds) if seconds < 60.0 => format!("{seconds:.1}s"),
        Some(seconds) => {
            let whole = Duration::from_secs(seconds as u64);
            let text = humantime::format_duration(whole).to_string();
            text.split(' ').take(2).collect::<Vec<_>>().join(" ")
        }
    }
}

fn align(text: &mut String, rows: &[Row]) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; HEADINGS.len()] = std::array::from_fn(width);
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:>width$}"));
        let cells: Vec<String> = cells.collect();
        line(text, format_args!("  {}", cells.join("  ").trim_end()));
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::super::report::{LossReport, Report};
    use super::*;
    use crate::offsets::{Partition, TopicId};

    fn partition(number: i32, mongo: Option<SinkReport>, lake: Option<SinkReport>) -> PartitionReport {
        PartitionReport {
            partition: Partition(number),
            log_start: Some(0),
            log_end: Some(123_456),
            mongo,
            lake,
            lag_records: None,
            lag_seconds: None,
        }
    }

    fn known(next: i64, lag: u64, seconds: f64) -> Option<SinkReport> {
        Some(SinkReport {
            next: Some(next),
            lag_records: Some(lag),
            lag_seconds: Some(seconds),
            event_time: None,
        })
    }

    #[test]
    fn columns_are_aligned_and_the_unknown_is_marked() {
        let sales = StreamReport {
            stream: "sales".to_owned(),
            topic: "shop-sales".to_owned(),
            topic_id: Some(TopicId("vPeqQkNDTBiSVvOTrFyz8Q".to_owned())),
            lake_version: Some(12),
            lag_records: Some(23_456),
            lag_seconds: Some(3723.0),
            watermark: None,
            mongo_watermark: Some(1_767_258_000_000_000),
            lake_watermark: None,
            partitions: vec![
                partition(0, known(123_456, 0, 0.0), known(100_000, 23_456, 3723.0)),
                partition(10, Some(SinkReport::default()), None),
            ],
            losses: vec![LossReport {
                accepted_at: "2026-01-02T03:04:05Z".to_owned(),
                id: "1".to_owned(),
                loss: "records that Kafka's retention has taken; lake: partition 0 [5, 8)".to_owned(),
            }],
            notices: vec!["something to know".to_owned()],
            problems: vec!["mongo: connection refused".to_owned()],
        };
        let report = Report::new("shop", DateTime::UNIX_EPOCH, vec![sales]);
        assert!(!report.complete);
        insta::assert_snapshot!(render(&report), @r"
        sales: topic shop-sales (id vPeqQkNDTBiSVvOTrFyz8Q), lake version 12
          PARTITION  START     END   MONGO  LAG   AGE    LAKE    LAG    AGE
                  0      0  123456  123456    0  0.0s  100000  23456  1h 2m
                 10      0  123456       ?    ?     ?     off
          complete up to ? (mongo 2026-01-01T09:00:00Z, lake ?)
          passed over, accepted 2026-01-02T03:04:05Z: records that Kafka's retention has taken; lake: partition 0 [5, 8)
          note: something to know
          missing: mongo: connection refused

        lag of the slower sink: 23456 records, 1h 2m
        ");
    }

    #[test]
    fn ages_are_short() {
        let text = |seconds| age(Some(seconds));
        assert_eq!(
            [text(0.0), text(59.94), text(61.0), text(90_061.0)],
            ["0.0s", "59.9s", "1m 1s", "1day 1h"]
        );
    }
}
