//! The sequence of records to produce: generated, or read from a file.
//!
//! Owns: what record follows which, with its partition and key, and which are broken on purpose.
//! Does not own: sending (`send`), the records' contents (`sales`, `clicks`).
//!
//! Partitions are given explicitly, so that the same seed puts the same bytes into the same places.

use std::io::BufRead;
use std::path::PathBuf;

use anyhow::Context;
use xxhash_rust::xxh3::xxh3_64;

use super::broken::{self, damage};
use super::clicks::Clicks;
use super::dice::{Dice, Sequence};
use super::sales::Sales;
use super::season::Season;

/// The next record, in buffers that the one after it will use again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub partition: i32,
    pub key: Option<&'a [u8]>,
    /// `None` is a null payload.
    pub value: Option<&'a [u8]>,
}

/// Where records come from.
pub(super) enum Records {
    Generated(Box<Generated>),
    File(Lines),
}

impl Records {
    /// `None` at the end of a file. `now_ms` becomes the event time of records that happen as they are sent.
    pub(super) fn next(&mut self, now_ms: i64) -> anyhow::Result<Option<Record<'_>>> {
        match self {
            Self::Generated(generated) => Ok(Some(generated.next(now_ms))),
            Self::File(lines) => lines.next(),
        }
    }

    /// Records broken on purpose so far.
    pub(super) fn broken(&self) -> u64 {
        match self {
            Self::Generated(generated) => generated.broken,
            Self::File(_) => 0,
        }
    }

    /// First and last event time so far, milliseconds since 1970.
    pub(super) fn span(&self) -> Option<(i64, i64)> {
        match self {
            Self::Generated(generated) => generated.span,
            Self::File(_) => None,
        }
    }
}

/// Which sample is generated.
pub(super) enum Sample {
    Sales(Sales),
    Clicks(Clicks),
}

/// When its records happen.
pub(super) enum Times {
    /// As they are sent.
    Now,
    Season(Season),
}

pub(super) struct Generated {
    sample: Sample,
    times: Times,
    jitter: Dice,
    damage: Dice,
    /// Records broken per 2^32.
    broken_share: u64,
    partitions: i32,
    index: u64,
    broken: u64,
    span: Option<(i64, i64)>,
    value: Vec<u8>,
    key: Vec<u8>,
}

impl Generated {
    pub(super) fn new(seed: u64, sample: Sample, times: Times, broken_percent: f64, partitions: i32) -> Self {
        Self {
            sample,
            times,
            jitter: Dice::new(seed, Sequence::Times),
            damage: Dice::new(seed, Sequence::Broken),
            broken_share: (broken_percent / 100.0 * (1_u64 << 32) as f64) as u64,
            partitions,
            index: 0,
            broken: 0,
            span: None,
            value: Vec::with_capacity(512),
            key: Vec::with_capacity(16),
        }
    }

    pub(super) fn next(&mut self, now_ms: i64) -> Record<'_> {
        let at_ms = match &mut self.times {
            Times::Now => now_ms,
            Times::Season(season) => season.next(self.jitter.word()),
        };
        self.span = Some((self.span.map_or(at_ms, |(first, _)| first), at_ms));
        self.value.clear();
        self.key.clear();
        let target = match &mut self.sample {
            Sample::Sales(sales) => {
                sales.write(at_ms, &mut self.value);
                &broken::SALES
            }
            Sample::Clicks(clicks) => {
                clicks.write(at_ms, &mut self.value, &mut self.key);
                &broken::CLICKS
            }
        };
        let mut has_value = true;
        if u64::from(self.damage.word()) < self.broken_share {
            has_value = damage(&mut self.damage, target, &mut self.value);
            self.broken += 1;
        }
        let index = self.index;
        self.index += 1;
        Record {
            partition: partition(index, &self.key, self.partitions),
            key: (!self.key.is_empty()).then_some(&self.key),
            value: has_value.then_some(&self.value),
        }
    }
}

/// One key, one partition; records without key go round.
fn partition(index: u64, key: &[u8], partitions: i32) -> i32 {
    let place = if key.is_empty() { index } else { xxh3_64(key) };
    (place % partitions as u64) as i32
}

/// Records from a file, one a line; empty lines are skipped.
pub(super) struct Lines {
    path: PathBuf,
    input: Box<dyn BufRead + Send>,
    partitions: i32,
    index: u64,
    line: Vec<u8>,
}

impl Lines {
    pub(super) fn new(path: PathBuf, input: Box<dyn BufRead + Send>, partitions: i32) -> Self {
        Self {
            path,
            input,
            partitions,
            index: 0,
            line: Vec::new(),
        }
    }

    fn next(&mut self) -> anyhow::Result<Option<Record<'_>>> {
        loop {
            self.line.clear();
            let read = self.input.read_until(b'\n', &mut self.line);
            if read.with_context(|| format!("cannot read {}", self.path.display()))? == 0 {
                return Ok(None);
            }
            if self.line.trim_ascii().is_empty() {
                continue;
            }
            let index = self.index;
            self.index += 1;
            return Ok(Some(Record {
                partition: partition(index, b"", self.partitions),
                key: None,
                value: Some(without_line_end(&self.line)),
            }));
        }
    }
}

fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// 2025-12-02T00:00Z and thirty days later.
    const WINDOW: (i64, i64) = (1_764_633_600_000, 1_767_225_600_000);

    type Owned = (i32, Option<Vec<u8>>, Option<Vec<u8>>);

    fn generated(clicks: bool, broken_percent: f64, count: u64) -> Vec<Owned> {
        let sample = match clicks {
            false => Sample::Sales(Sales::new(42)),
            true => Sample::Clicks(Clicks::new(42, 5.0)),
        };
        let times = Times::Season(Season::over(WINDOW.0, WINDOW.1, count));
        let mut records = Generated::new(42, sample, times, broken_percent, 4);
        let mut next = || {
            let record = records.next(0);
            (
                record.partition,
                record.key.map(<[u8]>::to_vec),
                record.value.map(<[u8]>::to_vec),
            )
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_in_the_same_partitions() {
        for clicks in [false, true] {
            assert_eq!(generated(clicks, 5.0, 2_000), generated(clicks, 5.0, 2_000));
        }
    }

    #[test]
    fn broken_records_are_as_many_as_asked_and_change_no_other() {
        let (whole, broken) = (generated(false, 0.0, 20_000), generated(false, 5.0, 20_000));
        let differing = whole.iter().zip(&broken).filter(|(a, b)| a != b).count();
        assert!((900..=1_100).contains(&differing), "{differing}");
        assert_eq!(
            generated(false, 100.0, 500)
                .iter()
                .zip(&whole)
                .filter(|(a, b)| a == b)
                .count(),
            0
        );
    }

    #[test]
    fn a_session_stays_in_one_partition_and_sales_go_round() {
        let mut homes = HashMap::new();
        for (partition, key, _) in generated(true, 0.0, 5_000) {
            assert_eq!(*homes.entry(key.expect("a key")).or_insert(partition), partition);
        }
        let places: Vec<i32> = generated(false, 0.0, 6).into_iter().map(|(p, _, _)| p).collect();
        assert_eq!(places, [0, 1, 2, 3, 0, 1]);
    }

    #[test]
    fn a_files_lines_are_sent_as_they_are() {
        let text: &[u8] = b"{\"a\":1}\r\n\n  \nnot json \xff \n{\"b\":2}";
        let mut lines = Lines::new("sample.jsonl".into(), Box::new(text), 2);
        let mut sent = Vec::new();
        while let Some(record) = lines.next().expect("readable") {
            sent.push((record.partition, record.value.expect("a value").to_vec()));
        }
        assert_eq!(
            sent,
            [
                (0, b"{\"a\":1}".to_vec()),
                (1, b"not json \xff ".to_vec()),
                (0, b"{\"b\":2}".to_vec()),
            ]
        );
    }
}
