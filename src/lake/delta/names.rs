//! Names: of the files below `_delta_log`, and of our `txn` entries.
//!
//! Owns: both formats. The `appId`s of one stream:
//!
//! ```text
//!  affluent/<job>/<stream>/<topic id>/<partition>        last offset included (next − 1)
//!  affluent/<job>/<stream>/<topic id>/<partition>/start  offset before the recorded start (start − 1)
//!  affluent/<job>/<stream>/<topic id>/epoch              epoch of the topic's records; absent: 0
//!  affluent/<job>/<stream>                               table version of our latest commit
//! ```
//!
//! The second is written once, when a start is adopted: it tells "nothing stored yet" from "one offset
//! stored", and tells `verify` where to begin. The third lets a restart find what others did to the table
//! after us even where a checkpoint hides it (see `log`). A topic that was re-created under its name is closed:
//! its partitions' entries are set to [`CLOSED`], which no owner of old can take for the progress it knows.

use object_store::path::Path;

use crate::offsets::{Partition, TopicId};

pub const LOG: &str = "_delta_log";

pub fn commit(version: u64) -> String {
    format!("{version:020}.json")
}

pub fn commit_path(version: u64) -> Path {
    Path::from_iter([LOG, &commit(version)])
}

/// A file of the log by its name. Everything else there (temporary files, checksums, sidecars, uuid-named
/// checkpoints of a feature we refuse) is not ours to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFile {
    Commit(u64),
    /// Part numbers start at 1.
    Checkpoint {
        version: u64,
        part: u32,
        parts: u32,
    },
}

impl LogFile {
    pub fn parse(name: &str) -> Option<Self> {
        let mut pieces = name.split('.');
        let version = digits(pieces.next()?, 20)?;
        match (
            pieces.next()?,
            pieces.next(),
            pieces.next(),
            pieces.next(),
            pieces.next(),
        ) {
            ("json", None, ..) => Some(Self::Commit(version)),
            ("checkpoint", Some("parquet"), None, ..) => Some(Self::Checkpoint {
                version,
                part: 1,
                parts: 1,
            }),
            ("checkpoint", Some(part), Some(parts), Some("parquet"), None) => Some(Self::Checkpoint {
                version,
                part: u32::try_from(digits(part, 10)?).ok()?,
                parts: u32::try_from(digits(parts, 10)?).ok()?,
            }),
            _ => None,
        }
    }
}

fn digits(text: &str, count: usize) -> Option<u64> {
    (text.len() == count && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

/// Names of one job's and stream's `txn` entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppIds {
    prefix: String,
}

/// What an `appId` of ours stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// Version of our latest commit.
    Latest,
    Progress(TopicId, Partition),
    Start(TopicId, Partition),
    Epoch(TopicId),
}

/// Last offset of a partition whose topic is no more.
pub const CLOSED: i64 = i64::MAX;

impl AppIds {
    pub fn new(job: &str, stream: &str) -> Self {
        Self {
            prefix: format!("affluent/{job}/{stream}"),
        }
    }

    pub fn format(&self, entry: &Entry) -> String {
        let prefix = &self.prefix;
        match entry {
            Entry::Latest => prefix.clone(),
            Entry::Progress(topic, partition) => format!("{prefix}/{topic}/{partition}"),
            Entry::Start(topic, partition) => format!("{prefix}/{topic}/{partition}/start"),
            Entry::Epoch(topic) => format!("{prefix}/{topic}/epoch"),
        }
    }

    /// `None` for another application's entry.
    pub fn parse(&self, app_id: &str) -> Option<Entry> {
        let rest = app_id.strip_prefix(&self.prefix)?;
        if rest.is_empty() {
            return Some(Entry::Latest);
        }
        let mut parts = rest.strip_prefix('/')?.split('/');
        let topic = TopicId(parts.next()?.to_owned());
        let second = parts.next()?;
        if second == "epoch" {
            return parts.next().is_none().then_some(Entry::Epoch(topic));
        }
        let partition = Partition(second.parse().ok()?);
        match (parts.next(), parts.next()) {
            (None, _) => Some(Entry::Progress(topic, partition)),
            (Some("start"), None) => Some(Entry::Start(topic, partition)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_log_are_known_by_their_names() {
        assert_eq!(LogFile::parse("00000000000000000012.json"), Some(LogFile::Commit(12)));
        let single = LogFile::Checkpoint {
            version: 10,
            part: 1,
            parts: 1,
        };
        assert_eq!(LogFile::parse("00000000000000000010.checkpoint.parquet"), Some(single));
        let second = LogFile::Checkpoint {
            version: 10,
            part: 2,
            parts: 3,
        };
        let name = "00000000000000000010.checkpoint.0000000002.0000000003.parquet";
        assert_eq!(LogFile::parse(name), Some(second));
        for other in [
            "_last_checkpoint",
            "00000000000000000012.crc",
            "0012.json",
            ".00000000000000000012.json.4f.tmp",
            "00000000000000000012.json.tmp",
            "00000000000000000010.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.json",
        ] {
            assert_eq!(LogFile::parse(other), None, "{other}");
        }
    }

    #[test]
    fn app_ids_are_read_back_as_they_were_written() {
        let names = AppIds::new("shop", "sales");
        let (topic, partition) = (TopicId("q83v_-0AAAAAAAAAAAAAAA".into()), Partition(7));
        let progress = Entry::Progress(topic.clone(), partition);
        assert_eq!(names.format(&progress), "affluent/shop/sales/q83v_-0AAAAAAAAAAAAAAA/7");
        for entry in [
            progress,
            Entry::Start(topic.clone(), partition),
            Entry::Epoch(topic),
            Entry::Latest,
        ] {
            assert_eq!(names.parse(&names.format(&entry)), Some(entry));
        }
        for foreign in [
            "affluent/shop/sales2/t/1",
            "affluent/shop/sales/t/x",
            "spark-query",
            "affluent/shop/sales/t",
            "affluent/shop/sales/t/epoch/1",
        ] {
            assert_eq!(names.parse(foreign), None, "{foreign}");
        }
    }
}
