//! A changed declaration in MongoDB: the progress documents take the new fingerprint over, and what an owner of the
//! former declaration has left beyond progress makes room.
//!
//! Owns: the transaction that moves the fingerprints, and telling a former schema's document from a foreign one.
//! Does not own: which change is compatible (`schema::evolution`), finding the documents that are in the way (`insert`,
//! `commit`).
//!
//! The collection itself has no schema. But every commit compares the fingerprint, so from here on an owner with the former
//! declaration can commit nothing. What it had inserted by then lies beyond progress, under ids that are ours now: such
//! a document is deleted in a transaction that holds the progress, and the record is stored anew.

use bson::raw::RawDocument;
use bson::{Bson, RawDocumentBuf, doc};

use super::MongoSink;
use super::deployment::{Deployment, Transaction};
use super::document::kind_of;
use super::progress::{PROGRESS_COLLECTION, ProgressDocument};
use super::transaction::{Move, Outcome, Plan, Step, compare_and_set, number};
use crate::error::SinkError;
use crate::failpoint;
use crate::schema::evolution::{Change, Fit};
use crate::schema::{ID_COLUMN, StreamSchema};

const ATTEMPTED: &str = "take over a changed schema";
/// Ids in one command.
const IDS_PER_DELETE: usize = 10_000;

impl<D: Deployment> MongoSink<D> {
    /// Makes our declaration the one in force for every partition; `None` where it is already.
    pub(super) async fn take_over_schema(&mut self) -> Result<Option<Change>, SinkError> {
        let stored = self.read_known().await?;
        let mut stale: Vec<&ProgressDocument> = Vec::new();
        let mut change = None;
        for document in stored.values() {
            if let Fit::Change(found) = self.identity.check(document, &document.topic_id)? {
                stale.push(document);
                change = Some(found);
            }
        }
        if !stale.is_empty() {
            failpoint!("mongo.evolve.before");
            // An owner that was stopped in the middle of a transaction would be in the way.
            self.deployment.end_abandoned().await;
            self.move_fingerprints(&stale).await?;
            failpoint!("mongo.evolve.after");
        }
        let known = self.read_known().await?;
        self.remember(known);
        Ok(change)
    }

    /// All or none: documents of one stream are under one schema.
    async fn move_fingerprints(&self, stale: &[&ProgressDocument]) -> Result<(), SinkError> {
        let updates: Vec<Bson> = stale.iter().map(|document| self.moved(document)).collect();
        let command = doc! { "update": PROGRESS_COLLECTION, "updates": updates };
        let command = RawDocumentBuf::try_from(&command).expect("a document of plain values");
        let classify = |error: super::error::CallError| error.classify(ATTEMPTED);
        let mut transaction = self.deployment.begin().await.map_err(classify)?;
        match transaction.run(command).await {
            Ok(reply) if number(&reply, "n") == stale.len() as u64 => transaction.commit().await.map_err(classify),
            answer => {
                transaction.abort().await;
                answer.map_err(classify)?;
                Err(SinkError::Infrastructure(anyhow::anyhow!(
                    "another instance has changed the progress of stream {} in mongodb meanwhile",
                    self.identity.stream
                )))
            }
        }
    }

    /// Where the partition stands is taken from the document as the server finds it: a living owner moves it all the time.
    fn moved(&self, document: &ProgressDocument) -> Bson {
        let ended = doc! { "schema": "$schema", "epoch": "$epoch", "until": "$next", "replaced_at": "$$NOW" };
        let former = doc! { "$concatArrays": [{ "$ifNull": ["$former_schemas", []] }, [ended]] };
        let change = doc! { "$set": {
            "former_schemas": former,
            "schema": { "$literal": &self.identity.declared.fingerprint },
            "updated_at": "$$NOW",
        } };
        doc! { "q": document.fence(), "u": [change] }.into()
    }

    /// Deletes what former schemas have left under our ids, where progress is still what `steps` build on.
    pub(super) async fn delete_superseded(&self, ids: &[i64], steps: &[Move]) -> Result<(), SinkError> {
        tracing::info!(
            stream = self.identity.stream,
            documents = ids.len(),
            "documents beyond progress were stored under a former schema: they are stored anew"
        );
        let held: Vec<Move> = steps.iter().map(Move::standing_still).collect();
        let mut changes = vec![(compare_and_set(&held), held.len() as u64)];
        changes.extend(ids.chunks(IDS_PER_DELETE).map(|ids| {
            let delete = doc! { "q": { "_id": { "$in": ids } }, "limit": 0 };
            (
                doc! { "delete": &self.collection, "deletes": [delete] },
                ids.len() as u64,
            )
        }));
        let plan = Plan {
            deployment: &self.deployment,
            step: Step::Changes(&changes),
            rollups: &[],
        };
        match plan.run().await {
            Outcome::Committed => Ok(()),
            // Nothing is built on it: what is still there is met again.
            Outcome::Retry(error) | Outcome::TooLong(error) | Outcome::Unknown(error) | Outcome::Failed(error) => {
                Err(error)
            }
            Outcome::Fenced | Outcome::Miscounted { .. } => {
                self.settle(steps).await?;
                Err(SinkError::Infrastructure(anyhow::anyhow!(
                    "documents of a former schema of stream {} were gone before they were deleted",
                    self.identity.stream
                )))
            }
        }
    }
}

/// Is `stored` what an owner that declared `former` made of a record? `ours`: what we make of it, where it is a good one
/// for us.
pub(super) fn is_of(
    former: &StreamSchema,
    present: &StreamSchema,
    stored: &RawDocument,
    ours: Option<&RawDocument>,
) -> bool {
    let mut left = former.fields.iter();
    for element in stored {
        let Ok((name, value)) = element else { return false };
        let name = name.as_str();
        if name == ID_COLUMN {
            continue;
        }
        // In the order of their declaration; what is passed over is null.
        let Some(field) = left.by_ref().find(|field| field.name == name || field.required) else {
            return false;
        };
        if field.name != name || value.element_type() as u8 != kind_of(field.ty) {
            return false;
        }
    }
    if left.any(|field| field.required) {
        return false;
    }
    let Some(ours) = ours else { return true };
    let mut shared = former
        .fields
        .iter()
        .filter(|field| present.field(&field.name).is_some());
    shared.all(|field| match (stored.get(&field.name), ours.get(&field.name)) {
        (Ok(stored), Ok(ours)) => stored == ours,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use bson::{Document, doc};

    use super::*;

    const FORMER: &str = "at timestamp!;site string!;note string;by site at at in UTC";
    const PRESENT: &str = "at timestamp!;site string!;value long;by site at at in UTC";

    fn judged(stored: Document, ours: Option<Document>) -> bool {
        let schema = |text| StreamSchema::parse(text).expect("a fingerprint");
        let raw = |document: &Document| RawDocumentBuf::try_from(document).expect("plain values");
        let ours = ours.as_ref().map(raw);
        is_of(&schema(FORMER), &schema(PRESENT), &raw(&stored), ours.as_deref())
    }

    fn stored() -> Document {
        doc! { "_id": 7i64, "at": bson::DateTime::from_millis(5), "site": "a", "note": "n" }
    }

    fn ours() -> Document {
        doc! { "_id": 7i64, "at": bson::DateTime::from_millis(5), "site": "a", "value": 3i64 }
    }

    #[test]
    fn a_document_of_a_former_schema_agrees_in_the_fields_that_both_have() {
        assert!(judged(stored(), Some(ours())));
        let mut without_null = stored();
        without_null.remove("note");
        assert!(judged(without_null, Some(ours())));
        let mut other = ours();
        other.insert("site", "b");
        assert!(!judged(stored(), Some(other)));
    }

    #[test]
    fn where_the_record_is_none_of_ours_the_shape_must_be_the_former_one() {
        assert!(judged(stored(), None));
        let with = |name: &str, value: Bson| {
            let mut document = stored();
            document.insert(name, value);
            document
        };
        assert!(!judged(with("value", Bson::Int64(3)), None), "not declared then");
        assert!(!judged(with("note", Bson::Int32(3)), None), "of another type");
        assert!(
            !judged(doc! { "_id": 7i64, "site": "a" }, None),
            "a required field is missing"
        );
        assert!(
            !judged(
                doc! { "_id": 7i64, "site": "a", "at": bson::DateTime::from_millis(5) },
                None
            ),
            "in another order"
        );
    }
}
