//! The rebuild's own document: how far it is.
//!
//! Owns: its form (a contract, versioned), reading it at majority.
//! Does not own: moving it (`rebuild`).

use bson::{DateTime, deserialize_from_document, doc};
use serde::{Deserialize, Serialize};

use super::kept::Kept;
use super::{documents_of, raw};
use crate::error::{Invariant, SinkError};
use crate::lake::rows::Place;
use crate::sink::mongo::deployment::Deployment;

/// The collection of rebuilds under way.
pub const REBUILD_COLLECTION: &str = "_affluent_rebuild";
/// Form of the document.
pub const VERSION: i32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RebuildDocument {
    #[serde(rename = "_id")]
    pub stream: String,
    pub version: i32,
    /// Unique per process that works on it: whoever takes it over gives it another.
    pub id: String,
    pub generation: i64,
    /// Collections may have been dropped: there is no way back but to the end.
    pub dropped: bool,
    /// Absent while that is being judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reads: Option<Reads>,
    pub phase: Phase,
    pub(super) collections: Vec<Kept>,
    pub place: Place,
    pub rows: i64,
    pub started_at: DateTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Nobody else commits any more; whether something would be lost is found out.
    Judging,
    Clearing,
    Filling,
}

/// What the documents are made of: the same to the end, else they would not fit together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reads {
    /// The lake's table, by its metadata's id, and its version.
    pub table: String,
    pub version: i64,
    pub schema: String,
    pub rollups: String,
}

impl RebuildDocument {
    /// The collections as they were before anything was dropped; of those it does not know, as they are now.
    pub(super) fn merged(&self, present: &[Kept]) -> Vec<Kept> {
        let known = |name: &str| self.collections.iter().any(|kept| kept.name == name);
        let new = present.iter().filter(|kept| !known(&kept.name)).cloned();
        self.collections.iter().cloned().chain(new).collect()
    }

    /// The stream's unfinished one.
    pub(super) async fn find(deployment: &impl Deployment, stream: &str) -> Result<Option<Self>, SinkError> {
        let command = doc! {
            "find": REBUILD_COLLECTION, "filter": { "_id": stream }, "limit": 1, "readConcern": { "level": "majority" },
        };
        let reply = deployment.run(raw(&command)).await;
        let reply = reply.map_err(|e| e.classify("look for an unfinished rebuild"))?;
        let Some(document) = documents_of(&reply).into_iter().next() else {
            return Ok(None);
        };
        if document.get_i32("version").ok() != Some(VERSION) {
            return Err(Invariant::new(
                format!("the unfinished rebuild of stream {stream} has another form than this version knows"),
                "finish it with the version of affluent that began it, or start over with --restart",
            )
            .into());
        }
        let parsed = deserialize_from_document(document);
        parsed.map(Some).map_err(SinkError::infrastructure)
    }
}
