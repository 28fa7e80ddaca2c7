//! A changed declaration in the table: one commit that changes its columns and nothing else.
//!
//! Owns: what the change makes of the columns, the table's memory of its former schemas (the property [`FORMER`]), and
//! the commit.
//! Does not own: which change is compatible (`schema::evolution`).
//!
//! ```text
//!  read the log to its end ─▶ judge ─▶ metaData: columns, fingerprint, and where each partition stands in this snapshot
//!        ▲                               ─▶ PUT version + 1, if absent ─▶ done
//!        └──────────────── version taken, or outcome unknown ┘
//! ```
//!
//! The commit has no data: readers see either the old columns or the new ones, and no row under a schema that is not in
//! force. Because it takes exactly the version after the snapshot that was read, the offsets it notes are exact: what
//! the table held then was written under the former schema, everything after it is written under the new one. An owner
//! that runs on with the former declaration meets the new one before its next commit, and stops.

use std::collections::BTreeMap;

use anyhow::Context;
use chrono::{DateTime, Utc};
use object_store::Error;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Table;
use super::actions::{Metadata, OwnCommit};
use super::commit::{commit_info, put_if_absent};
use super::load::failed;
use super::log::LogTail;
use super::names::commit;
use super::spec::{Column, SCHEMA, TableSpec, columns, recorded, special_demand, type_difference};
use crate::error::{Invariant, SinkError};
use crate::failpoint;
use crate::offsets::{Epoch, Offset, Partition};
use crate::schema::StreamSchema;
use crate::schema::evolution::{Change, Fit};

/// Table property: the schemas before the present one, oldest first, a JSON array of [`Former`].
pub const FORMER: &str = "affluent.schema.former";
/// Operation of the commit.
const CHANGE_SCHEMA: &str = "CHANGE SCHEMA";
/// Commits of others that may come first before it is left to the caller's backoff.
const MAX_RACES: usize = 32;

/// A schema that was in force in the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// [`StreamSchema::fingerprint`].
    pub schema: String,
    pub epoch: Epoch,
    /// Where each partition stood when it was replaced: rows below were written under it. A partition that is not
    /// named had none.
    pub until: BTreeMap<Partition, Offset>,
    pub replaced_at: DateTime<Utc>,
}

/// The table's memory of its former schemas.
pub fn former_schemas(location: &str, metadata: &Metadata) -> Result<Vec<Former>, Invariant> {
    let Some(text) = recorded(metadata, FORMER) else {
        return Ok(Vec::new());
    };
    serde_json::from_str(text).map_err(|error| {
        Invariant::new(
            format!("cannot read the property {FORMER} of the table at {location}: {error}"),
            "put the property back as this program wrote it; the table's history has its earlier values",
        )
    })
}

impl TableSpec {
    /// The table's columns with ours among them; or what is in the way. Columns keep their place, and whatever else is
    /// said of them: those that others have added are theirs.
    pub(super) fn evolved_columns(&self, metadata: &Metadata) -> Result<Vec<Column>, String> {
        if let Some(difference) = self.partition_difference(metadata) {
            return Err(difference);
        }
        let mut evolved = columns(metadata)?;
        let declared_before = recorded(metadata, SCHEMA).and_then(|text| StreamSchema::parse(text));
        for theirs in &mut evolved {
            if let Some(demand) = special_demand(theirs) {
                return Err(demand);
            }
            let ours = self.columns.iter().find(|ours| ours.name == theirs.name);
            let was_ours = declared_before
                .as_ref()
                .is_some_and(|schema| schema.field(&theirs.name).is_some());
            match ours {
                Some(ours) => {
                    if let Some(difference) = type_difference(ours, theirs) {
                        return Err(difference);
                    }
                    theirs.nullable |= ours.nullable;
                }
                // Given up: the rows to come have none.
                None if was_ours => theirs.nullable = true,
                None if !theirs.nullable => {
                    return Err(format!("its column {} takes no null and is not declared", theirs.name));
                }
                None => {}
            }
        }
        for ours in &self.columns {
            if evolved.iter().any(|theirs| theirs.name == ours.name) {
                continue;
            }
            // To Delta the two names are one.
            let lower = ours.name.to_lowercase();
            if let Some(theirs) = evolved.iter().find(|theirs| theirs.name.to_lowercase() == lower) {
                return Err(format!("its column {} is {} in another case", theirs.name, ours.name));
            }
            if !ours.nullable {
                return Err(format!(
                    "it has no column {}, and its rows have no value for one",
                    ours.name
                ));
            }
            evolved.push(ours.clone());
        }
        Ok(evolved)
    }

    /// The table's metadata once our declaration is in force.
    fn evolved(&self, location: &str, metadata: &Metadata, ended: Former) -> anyhow::Result<Metadata> {
        let columns = self.evolved_columns(metadata).map_err(anyhow::Error::msg)?;
        let mut former = former_schemas(location, metadata)?;
        former.push(ended);
        let mut evolved = metadata.clone();
        evolved.schema_string = json!({"type": "struct", "fields": columns}).to_string();
        let properties = [
            (SCHEMA, self.declared.fingerprint.clone()),
            (FORMER, serde_json::to_string(&former)?),
        ];
        for (name, value) in properties {
            evolved.configuration.insert(name.to_owned(), Some(value));
        }
        Ok(evolved)
    }
}

impl Table {
    /// Makes our declaration the one in force; `None` where it is already.
    pub async fn evolve(&mut self) -> Result<Option<Change>, SinkError> {
        let mut unknown = None;
        for _ in 0..MAX_RACES {
            let change = match self.refresh().await? {
                Fit::Change(change) => change,
                Fit::Same => return Ok(unknown),
            };
            let version = self.log.version + 1;
            let body = self
                .schema_change(&change)
                .context("write a change of the schema as JSON");
            let body = body.map_err(SinkError::Infrastructure)?;
            failpoint!("lake.evolve.before");
            let put = put_if_absent(&self.store, version, body).await;
            failpoint!("lake.evolve.after");
            unknown = Some(change);
            match put {
                // Seen with the next look, like one whose reply was lost.
                Ok(()) | Err(Error::AlreadyExists { .. }) => {}
                Err(error) => {
                    let seen = self.refresh().await? == Fit::Same;
                    return if seen {
                        Ok(unknown)
                    } else {
                        Err(failed(&self.store, "write", &commit(version), error))
                    };
                }
            }
        }
        Err(SinkError::Infrastructure(anyhow::anyhow!(
            "{MAX_RACES} other commits in a row came before the change of the schema on the table at {}",
            self.store.location()
        )))
    }

    /// The commit file.
    fn schema_change(&self, change: &Change) -> anyhow::Result<String> {
        let metadata = &self.log.metadata;
        let replaced = recorded(metadata, SCHEMA).cloned().unwrap_or_default();
        let ended = Former {
            epoch: self
                .open_topic()
                .map_or_else(Epoch::default, |topic| self.epoch(&topic)),
            until: positions(&self.log),
            replaced_at: Utc::now(),
            schema: replaced,
        };
        let evolved = self.spec.evolved(self.store.location(), metadata, ended)?;
        let own = OwnCommit {
            commit: uuid::Uuid::new_v4().to_string(),
            actions: 2,
            event_times: None,
        };
        let list = |names: &[String]| Value::from(names).to_string();
        let parameters = BTreeMap::from([
            ("added".to_owned(), list(&change.added)),
            ("relaxed".to_owned(), list(&change.relaxed)),
            ("givenUp".to_owned(), list(&change.removed)),
        ]);
        let info = commit_info(CHANGE_SCHEMA, &parameters, &own);
        Ok(format!("{info}\n{}\n", json!({ "metaData": evolved })))
    }
}

/// Where every partition of the open topic stands.
fn positions(log: &LogTail) -> BTreeMap<Partition, Offset> {
    log.progress().map(|(_, partition, next)| (partition, next)).collect()
}
