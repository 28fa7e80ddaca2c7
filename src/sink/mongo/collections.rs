//! The collections of a stream, made ready before the first transaction.
//!
//! Owns: creating them, the indexes that questions about a rollup need, and refusing ones that would lose or
//! double records: a TTL index that is not ours (documents would vanish between insert and count, and from the tail),
//! documents of unknown origin.
//! Does not own: other indexes; users add what their queries need.

use std::time::Duration;

use bson::{RawDocumentBuf, doc};
use futures::TryStreamExt;
use mongodb::options::{IndexOptions, ReadConcern};
use mongodb::{Collection, Database, IndexModel};

use super::error::{CallError, call};
use super::progress::{PROGRESS_COLLECTION, majority, primary};
use super::statements::START;
use crate::error::{Invariant, SinkError};
use crate::rollup::Rollup;

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
    let indexes = indexes(&database.collection(name)).await?;
    match indexes.iter().find(|index| expiry(index).is_some()) {
        None => Ok(()),
        Some(index) => Err(foreign_expiry(name, index).into()),
    }
}

/// Finds a rollup's buckets by time, and by each dimension within a time (`_id` has them too, but a range of one of its
/// fields is no range of `_id`), and has the server delete the old ones where the definition says so.
///
/// Only for a collection that is known to be of this definition: what another one kept would be deleted.
pub(super) async fn index(database: &Database, rollup: &Rollup) -> Result<(), SinkError> {
    let collection: Collection<RawDocumentBuf> = database.collection(&rollup.name);
    let failed = |error: CallError| error.classify(format!("create the indexes of {}", rollup.name));
    let options = IndexOptions::builder().expire_after(rollup.expire_after).build();
    let of_time = IndexModel::builder().keys(doc! { START: 1 }).options(options).build();
    let of_dimension = |name: &String| IndexModel::builder().keys(doc! { name: 1, START: 1 }).build();
    let mut wanted = vec![of_time];
    wanted.extend(rollup.dimensions.iter().map(of_dimension));
    for there in indexes(&collection).await? {
        let is_ours = there.keys == doc! { START: 1 } && expiry(&there) == rollup.expire_after;
        if expiry(&there).is_some() && !is_ours {
            return Err(foreign_expiry(&rollup.name, &there).into());
        }
        if there.keys == doc! { START: 1 } && !is_ours {
            // It only finds buckets, and stands in the way of the one that also deletes them.
            let name = there.options.and_then(|options| options.name).unwrap_or_default();
            call(collection.drop_index(name)).await.map_err(failed)?;
            continue;
        }
        // Also under a name that somebody else has given it.
        wanted.retain(|index| index.keys != there.keys);
    }
    if wanted.is_empty() {
        return Ok(());
    }
    call(collection.create_indexes(wanted)).await.map(drop).map_err(failed)
}

fn foreign_expiry(name: &str, index: &IndexModel) -> Invariant {
    Invariant::new(
        format!(
            "the collection {name} has a TTL index on {}: it deletes documents that are to stay",
            index.keys
        ),
        "drop that index and start again",
    )
}

async fn indexes(collection: &Collection<RawDocumentBuf>) -> Result<Vec<IndexModel>, SinkError> {
    let listed = call(async { collection.list_indexes().await?.try_collect().await }).await;
    listed.map_err(|error| error.classify(format!("list the indexes of {}", collection.name())))
}

fn expiry(index: &IndexModel) -> Option<Duration> {
    index.options.as_ref().and_then(|options| options.expire_after)
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
