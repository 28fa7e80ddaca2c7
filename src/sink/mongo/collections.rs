//! The collections of a stream, made ready before the first transaction.
//!
//! Owns: creating them, and refusing ones that would lose or double records: a TTL index (documents would
//! vanish between insert and count, and from the tail), documents of unknown origin.
//! Does not own: other indexes; users add what their queries need.

use bson::{RawDocumentBuf, doc};
use futures::TryStreamExt;
use mongodb::options::ReadConcern;
use mongodb::{Collection, Database};

use super::error::call;
use super::progress::{PROGRESS_COLLECTION, majority, primary};
use crate::error::{Invariant, SinkError};

const NAMESPACE_EXISTS: i32 = 48;

/// Creates what is missing: a transaction that had to create its collection would conflict with its neighbours.
pub(super) async fn create<'a>(database: &Database, names: impl Iterator<Item = &'a str>) -> Result<(), SinkError> {
    for name in names.chain([PROGRESS_COLLECTION]) {
        match call(database.create_collection(name).write_concern(majority())).await {
            Err(error) if error.code() == Some(NAMESPACE_EXISTS) => {}
            Err(error) => return Err(error.classify(format!("create the collection {name}"))),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Stops where the server would delete documents behind our back.
pub(super) async fn refuse_expiry(database: &Database, name: &str) -> Result<(), SinkError> {
    let collection: Collection<RawDocumentBuf> = database.collection(name);
    let indexes = call(async { collection.list_indexes().await?.try_collect::<Vec<_>>().await }).await;
    let indexes = indexes.map_err(|e| e.classify(format!("list the indexes of {name}")))?;
    let expiring = indexes
        .iter()
        .find(|i| i.options.as_ref().is_some_and(|o| o.expire_after.is_some()));
    match expiring {
        None => Ok(()),
        Some(index) => Err(Invariant::new(
            format!(
                "the collection {name} has a TTL index on {}: it deletes documents that are not yet safe",
                index.keys
            ),
            "drop that index and start again",
        )
        .into()),
    }
}

/// Stops where a collection holds documents although nothing has been recorded about it: they are not ours, and
/// a rollup would count on from theirs.
pub(super) async fn refuse_foreign<'a>(
    database: &Database,
    names: impl Iterator<Item = &'a str>,
) -> Result<(), SinkError> {
    for name in names {
        let collection: Collection<RawDocumentBuf> = database.collection(name);
        let find = collection
            .find_one(doc! {})
            .projection(doc! { "_id": 1 })
            .selection_criteria(primary());
        let found = call(find.read_concern(ReadConcern::majority())).await;
        if found
            .map_err(|e| e.classify(format!("look into the collection {name}")))?
            .is_some()
        {
            return Err(Invariant::new(
                format!("the collection {name} holds documents, but {PROGRESS_COLLECTION} says nothing about it"),
                "move those documents away or choose another stream name or mongo.database; if they are this \
                 stream's own, restore its progress documents from the same backup",
            )
            .into());
        }
    }
    Ok(())
}
