//! What has been done to a table, newest first.
//!
//! Owns: one line per version, ours and other engines'. Does not own: what it means for us (`delta::log`).

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::lake::delta::load::read_object;
use crate::lake::delta::names::commit_path;
use crate::lake::store::Store;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Version {
    pub version: u64,
    /// Milliseconds since 1970, as the writer says.
    pub timestamp: Option<i64>,
    pub operation: String,
    pub engine: String,
    pub added: u64,
    pub removed: u64,
    /// Of the files added, where their statistics tell.
    pub rows: Option<u64>,
}

/// The newest versions, at most so many; fewer where the log does not reach back so far.
pub async fn newest(store: &Store, newest: u64, limit: usize) -> anyhow::Result<Vec<Version>> {
    let mut versions = Vec::new();
    for version in (0..=newest).rev().take(limit) {
        let Some(bytes) = read_object(store, &commit_path(version)).await? else {
            break;
        };
        let parsed = parse(version, &bytes);
        versions.push(parsed.with_context(|| format!("version {version} of the table at {}", store.location()))?);
    }
    Ok(versions)
}

fn parse(version: u64, bytes: &[u8]) -> anyhow::Result<Version> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Line {
        commit_info: Option<Info>,
        add: Option<Add>,
        remove: Option<serde::de::IgnoredAny>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Info {
        timestamp: Option<i64>,
        operation: Option<String>,
        engine_info: Option<String>,
    }
    #[derive(Deserialize)]
    struct Add {
        stats: Option<String>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Stats {
        num_records: Option<u64>,
    }
    let mut found = Version {
        version,
        rows: Some(0),
        ..Version::default()
    };
    for line in bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty())
    {
        let line: Line = serde_json::from_slice(line)?;
        if let Some(info) = line.commit_info {
            found.timestamp = info.timestamp;
            found.operation = info.operation.unwrap_or_default();
            found.engine = info.engine_info.unwrap_or_default();
        }
        if let Some(add) = line.add {
            found.added += 1;
            let stats = add.stats.and_then(|stats| serde_json::from_str::<Stats>(&stats).ok());
            found.rows = found
                .rows
                .zip(stats.and_then(|stats| stats.num_records))
                .map(|(all, rows)| all + rows);
        }
        found.removed += u64::from(line.remove.is_some());
    }
    found.rows = found.rows.filter(|_| found.added > 0);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_told_in_numbers() {
        let commit = br#"{"commitInfo":{"timestamp":5,"operation":"OPTIMIZE","engineInfo":"x/1"}}
{"remove":{"path":"a"}}
{"remove":{"path":"b"}}
{"add":{"path":"c","stats":"{\"numRecords\":7}"}}
"#;
        let expected = Version {
            version: 3,
            timestamp: Some(5),
            operation: "OPTIMIZE".into(),
            engine: "x/1".into(),
            added: 1,
            removed: 2,
            rows: Some(7),
        };
        assert_eq!(parse(3, commit).expect("parses"), expected);
    }

    #[test]
    fn without_statistics_the_rows_are_not_known() {
        assert_eq!(parse(0, br#"{"add":{"path":"c"}}"#).expect("parses").rows, None);
    }
}
