//! Transactions that a dead owner left open, and their end.
//!
//! A process killed inside a transaction leaves its locks in the server until
//! `transactionLifetimeLimitSeconds` (60 s) have passed; the next owner would meet write conflicts that long.
//! The server knows such a transaction: it is open, nothing runs in it, and it bears our stream's mark.
//!
//! Owns: finding them and killing their sessions. Does not own: when to look (`commit`).
//!
//! Safe whoever it hits: a killed transaction has changed nothing, and an owner that was only asleep finds out
//! by its own compare-and-set. Nothing of this is needed for the guarantee: it shortens a wait, so failures
//! (a user without the right to look) are only logged.

use std::time::Duration;

use bson::{Bson, Document, doc};
use futures::TryStreamExt;
use mongodb::Client;
use mongodb::options::DriverInfo;

use super::error::{CallError, call};

/// A living owner's transaction is never without a command for so long: between two of them it only waits for
/// the network.
const ABANDONED_AFTER: Duration = Duration::from_secs(1);

/// What one stream's owners tell the server of themselves, so that their transactions can be told from all others.
#[derive(Clone, Debug)]
pub(super) struct Mark(String);

impl Mark {
    /// Short, whatever the names: the server takes 512 bytes of a client's description in all.
    pub fn new(job: &str, stream: &str) -> Self {
        let name = format!("{job}\n{stream}");
        Self(format!("affluent-{:016x}", xxhash_rust::xxh3::xxh3_64(name.as_bytes())))
    }

    pub fn driver_info(&self) -> DriverInfo {
        DriverInfo::builder().name(&self.0).build()
    }
}

/// Kills the sessions of this stream's transactions in which nothing has run for a while.
pub(super) async fn kill(client: &Client, mark: &Mark) {
    match try_kill(client, mark).await {
        Ok(0) => {}
        Ok(killed) => tracing::info!(killed, "ended transactions that a stopped owner had left open"),
        Err(error) => tracing::debug!("cannot look for abandoned transactions: {error}"),
    }
}

async fn try_kill(client: &Client, mark: &Mark) -> Result<usize, CallError> {
    let admin = client.database("admin");
    // Own sessions only: they need no further privilege.
    let look = [
        doc! { "$currentOp": { "allUsers": false, "idleSessions": true } },
        doc! { "$match": {
            "type": "idleSession",
            // After the driver's own name, as it writes a library that wraps it.
            "clientMetadata.driver.name": { "$regex": format!("\\|{}$", mark.0) },
            "transaction.timeInactiveMicros": { "$gte": ABANDONED_AFTER.as_micros() as i64 },
        } },
        doc! { "$project": { "lsid": 1 } },
    ];
    let found: Vec<Document> = call(async { admin.aggregate(look).await?.try_collect().await }).await?;
    // Sessions are killed by their id alone; the server adds the user.
    let sessions: Vec<Bson> = (found.iter())
        .filter_map(|operation| operation.get_document("lsid").ok()?.get("id").cloned())
        .map(|id| doc! { "id": id }.into())
        .collect();
    if !sessions.is_empty() {
        call(admin.run_command(doc! { "killSessions": &sessions })).await?;
    }
    Ok(sessions.len())
}
