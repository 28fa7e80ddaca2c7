//! The actions of the Delta log that this program writes or reads, and one commit file as a whole.
//!
//! Owns: their JSON shapes, and the judgement whether a commit file is intact. A torn one is never skipped:
//! whatever stood in it would be lost silently.
//! Does not own: what a commit means for us (`log`).

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::names;
use crate::error::Invariant;
use crate::event_time::EventTimes;
use crate::lake::layout::PartitionValues;
use crate::offsets::TopicId;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Protocol {
    pub min_reader_version: i32,
    pub min_writer_version: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader_features: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer_features: Option<Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default)]
    pub format: Format,
    pub schema_string: String,
    #[serde(default)]
    pub partition_columns: Vec<String>,
    #[serde(default)]
    pub configuration: BTreeMap<String, Option<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_time: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    pub provider: String,
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

impl Default for Format {
    fn default() -> Self {
        Self {
            provider: "parquet".to_owned(),
            options: BTreeMap::new(),
        }
    }
}

/// `lastUpdated` is never written: only with it can another engine let a `txn` expire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Txn {
    pub app_id: String,
    pub version: i64,
}

/// `add` as written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Add {
    pub path: String,
    pub partition_values: BTreeMap<String, Option<String>>,
    pub size: u64,
    pub modification_time: i64,
    pub data_change: bool,
    pub stats: String,
}

impl Add {
    pub fn values(columns: &[String], values: &PartitionValues) -> BTreeMap<String, Option<String>> {
        columns.iter().cloned().zip(values.iter().cloned()).collect()
    }
}

/// What of a commit's information matters to us. Everything else in it is for people.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommitInfo {
    pub operation: Option<String>,
    #[serde(default)]
    pub operation_parameters: Option<BTreeMap<String, serde_json::Value>>,
    /// Ours only.
    pub affluent: Option<OwnCommit>,
}

impl CommitInfo {
    pub fn parameter(&self, name: &str) -> Option<String> {
        match self.operation_parameters.as_ref()?.get(name)? {
            serde_json::Value::Null => None,
            serde_json::Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }
}

/// Marks a commit as made by this program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnCommit {
    /// Unique per attempt to store one set of files, the same over its retries.
    pub commit: String,
    /// Lines of the commit file: a file cut off exactly at the end of a line shows.
    pub actions: usize,
    /// With every commit that moves progress, and of all partitions, not only of those that it moves: the newest such
    /// commit tells all there is to know, however old the others are.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "if_readable")]
    pub event_times: Option<TopicEventTimes>,
}

/// Nothing is built on it: a form that another version of us has given it must not make the commit look torn.
fn if_readable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<TopicEventTimes>, D::Error> {
    let found = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(found).ok())
}

/// Highest event times in the table, and the topic whose partitions these are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicEventTimes {
    pub topic_id: TopicId,
    /// Microseconds since 1970.
    pub highest: EventTimes,
}

/// One commit file, reduced to what we follow: it does not hold the files it adds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Commit {
    pub protocol: Option<Protocol>,
    pub metadata: Option<Metadata>,
    pub txns: Vec<Txn>,
    pub info: CommitInfo,
    pub adds: u64,
    /// Files taken away together with their rows; a compaction's do not count.
    pub data_removes: u64,
    pub data_adds: u64,
}

#[derive(Deserialize)]
struct Line {
    protocol: Option<Protocol>,
    #[serde(rename = "metaData")]
    metadata: Option<Metadata>,
    txn: Option<Txn>,
    #[serde(rename = "commitInfo")]
    info: Option<CommitInfo>,
    add: Option<Change>,
    remove: Option<Change>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    data_change: bool,
}

impl Commit {
    /// `version` and `location` are for the message.
    pub fn parse(version: u64, location: &str, bytes: &[u8]) -> Result<Self, Invariant> {
        let torn = |why: String| torn_commit(version, location, &why);
        let mut commit = Self::default();
        let mut lines = 0;
        for line in bytes
            .split(|b| *b == b'\n')
            .filter(|line| !line.trim_ascii().is_empty())
        {
            lines += 1;
            let line: Line = serde_json::from_slice(line).map_err(|e| torn(format!("its line {lines}: {e}")))?;
            commit.take(line);
        }
        if lines == 0 {
            return Err(torn(format!("it has {} bytes and no action", bytes.len())));
        }
        match &commit.info.affluent {
            Some(own) if own.actions != lines => Err(torn(format!(
                "it has {lines} of the {} actions it was written with",
                own.actions
            ))),
            _ => Ok(commit),
        }
    }

    fn take(&mut self, line: Line) {
        self.protocol = line.protocol.or(self.protocol.take());
        self.metadata = line.metadata.or(self.metadata.take());
        self.txns.extend(line.txn);
        if let Some(info) = line.info {
            self.info = info;
        }
        if let Some(add) = line.add {
            self.adds += 1;
            self.data_adds += u64::from(add.data_change);
        }
        if let Some(remove) = line.remove {
            self.data_removes += u64::from(remove.data_change);
        }
    }
}

fn torn_commit(version: u64, location: &str, why: &str) -> Invariant {
    Invariant::new(
        format!(
            "commit file {} of the table at {location} is torn or unreadable ({why})",
            names::commit(version)
        ),
        "put the file back from a backup or a replica; where no reader has used this version yet and nothing \
         follows it, it may be moved away, then its rows are read from Kafka again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = concat!(
        r#"{"commitInfo":{"timestamp":1,"operation":"STREAMING UPDATE","affluent":{"commit":"c","actions":3}}}"#,
        "\n",
        r#"{"txn":{"appId":"a","version":4,"lastUpdated":9}}"#,
        "\n",
        r#"{"add":{"path":"x","partitionValues":{},"size":1,"modificationTime":1,"dataChange":true}}"#,
        "\n",
    );

    fn parse(bytes: &[u8]) -> Result<Commit, Invariant> {
        Commit::parse(7, "/lake/sales", bytes)
    }

    #[test]
    fn a_commit_is_reduced_to_what_we_follow() {
        let commit = parse(WHOLE.as_bytes()).expect("intact");
        assert_eq!((commit.adds, commit.data_adds, commit.data_removes), (1, 1, 0));
        assert_eq!(commit.txns[0].version, 4);
        assert_eq!(commit.info.operation.as_deref(), Some("STREAMING UPDATE"));
    }

    #[test]
    fn a_commit_cut_off_anywhere_is_an_error_that_names_the_file() {
        for length in 0..WHOLE.len() - 1 {
            let error = parse(&WHOLE.as_bytes()[..length]).expect_err("torn");
            assert!(error.what.contains("00000000000000000007.json"), "{length}: {error}");
        }
    }

    #[test]
    fn the_last_line_needs_no_newline_and_blank_lines_do_not_count() {
        parse(WHOLE.trim_end().as_bytes()).expect("intact");
        parse(WHOLE.replace('\n', "\n\n").as_bytes()).expect("intact");
    }

    #[test]
    fn zeros_as_a_crashed_disk_leaves_them_are_torn() {
        parse(&[0; 512]).expect_err("torn");
    }

    #[test]
    fn event_times_of_a_form_that_we_do_not_know_are_unknown() {
        let with = |times: &str| {
            let own = format!(r#"{{"commit":"c","actions":1,"eventTimes":{times}}}"#);
            let commit = parse(format!(r#"{{"commitInfo":{{"affluent":{own}}}}}"#).as_bytes()).expect("intact");
            commit.info.affluent.expect("ours").event_times
        };
        let known = with(r#"{"topicId":"t","highest":{"3":9}}"#).expect("readable");
        assert_eq!(known.highest.get(crate::offsets::Partition(3)), Some(9));
        for other in [r#"{"topicId":"t","highest":"9"}"#, "[1]", "null", "7"] {
            assert_eq!(with(other), None, "{other}");
        }
    }

    #[test]
    fn unknown_actions_and_members_are_no_error() {
        let commit = parse(br#"{"domainMetadata":{"domain":"d","configuration":"","removed":false}}"#);
        assert_eq!(commit.expect("fine"), Commit::default());
    }
}
