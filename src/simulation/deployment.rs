//! MongoDB as one owner reaches it: every request goes over the wire of the simulation.
//!
//! Owns: what each outcome looks like to a client of the driver, with the server's codes and the driver's labels.
//! Does not own: what the server does (`mongod`), what the sink makes of it (`sink::mongo`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::error::{TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT};

use super::mongod::{DUPLICATE_KEY, Mongod, Refusal};
use super::operation::{Operation, Outcome};
use super::world::{OwnerId, World};
use crate::error::{Invariant, SinkError};
use crate::offsets::TopicId;
use crate::rollup::Rollup;
use crate::sink::mongo::PROGRESS_COLLECTION;
use crate::sink::mongo::deployment::{CallError, Deployment, Identity, ProgressDocument, Transaction};

const NOT_PRIMARY: i32 = 10107;
const NO_SUCH_TRANSACTION: i32 = 251;
const WRITE_CONCERN_FAILED: i32 = 64;
/// Errors by which a server ends a transaction: a conflict, a time limit, a step-down.
const TRANSACTION_ENDED: [i32; 3] = [112, 50, NOT_PRIMARY];

pub(super) struct SimulatedDeployment {
    world: World,
    owner: OwnerId,
}

impl SimulatedDeployment {
    pub fn new(world: World, owner: OwnerId) -> Self {
        Self { world, owner }
    }

    async fn ask<T: Send + 'static>(
        &self,
        operation: Operation,
        act: impl FnOnce(&mut Mongod, Outcome, u64) -> T + Send + 'static,
    ) -> (Outcome, Option<T>) {
        let ask = |services: &mut super::services::Services, outcome, chance| act(&mut services.mongo, outcome, chance);
        self.world.ask(self.owner, operation, ask).await
    }

    async fn read<T: Send + 'static>(
        &self,
        operation: Operation,
        read: impl FnOnce(&Mongod) -> T + Send + 'static,
    ) -> Result<T, CallError> {
        match self.ask(operation, |mongo, _, _| read(mongo)).await {
            (Outcome::Done, Some(answer)) => Ok(answer),
            (outcome, _) => Err(failed(outcome, &[])),
        }
    }
}

fn error(code: Option<i32>, labels: &[&str], text: &str) -> CallError {
    CallError::Failed {
        code,
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        no_server: false,
        text: text.to_owned(),
    }
}

/// How an outcome other than `Done` looks.
fn failed(outcome: Outcome, labels: &[&str]) -> CallError {
    match outcome {
        Outcome::Delayed => CallError::Deadline,
        Outcome::Refused => error(Some(NOT_PRIMARY), labels, "not primary"),
        _ => error(None, labels, "connection reset"),
    }
}

/// Inserts as much as the outcome says; the indexes that were taken.
fn insert(mongo: &mut Mongod, collection: &str, documents: Vec<Document>, outcome: Outcome, chance: u64) -> Vec<usize> {
    match outcome {
        Outcome::Refused => Vec::new(),
        Outcome::Partial => {
            let some = documents
                .into_iter()
                .enumerate()
                .filter(|(at, _)| chance >> (at % 64) & 1 == 1);
            mongo.insert(collection, &some.map(|(_, document)| document).collect::<Vec<_>>())
        }
        _ => {
            let taken = mongo.insert(collection, &documents);
            if outcome == Outcome::Done {
                mongo.replicate();
            }
            taken
        }
    }
}

impl Deployment for SimulatedDeployment {
    type Transaction = SimulatedTransaction;

    async fn prepare(&self, _: &[&str]) -> Result<(), SinkError> {
        let prepared = self.ask(Operation::MongoPrepare, |_, _, _| ()).await;
        match prepared.0 {
            Outcome::Done => Ok(()),
            outcome => Err(failed(outcome, &[]).classify("create a collection")),
        }
    }

    async fn index(&self, _: &[Rollup]) -> Result<(), SinkError> {
        Ok(())
    }

    async fn refuse_foreign(&self, collections: &[&str]) -> Result<(), SinkError> {
        let names: Vec<String> = collections.iter().map(|name| (*name).to_owned()).collect();
        let holds = move |mongo: &Mongod| {
            names
                .iter()
                .any(|name| mongo.majority().documents(name).next().is_some())
        };
        match self.read(Operation::MongoForeign, holds).await {
            Ok(false) => Ok(()),
            Ok(true) => Err(Invariant::new("documents without progress", "none").into()),
            Err(error) => Err(error.classify("look into a collection")),
        }
    }

    async fn progress(&self, _: &str) -> Result<Vec<ProgressDocument>, CallError> {
        let documents = |mongo: &Mongod| mongo.majority().documents(PROGRESS_COLLECTION).cloned().collect();
        let found: Vec<Document> = self.read(Operation::MongoProgress, documents).await?;
        let parse = |document| bson::deserialize_from_document(document).expect("written by the sink");
        Ok(found.into_iter().map(parse).collect())
    }

    async fn record_topic_id(&self, _: &Identity, topic_id: &TopicId) -> Result<(), CallError> {
        let known = topic_id.0.clone();
        let act = move |mongo: &mut Mongod, outcome, _| {
            if outcome != Outcome::Refused {
                mongo.record_topic_id(TopicId::UNKNOWN, &known);
            }
            if outcome == Outcome::Done {
                mongo.replicate();
            }
        };
        match self.ask(Operation::MongoTopicId, act).await.0 {
            Outcome::Done => Ok(()),
            outcome => Err(failed(outcome, &[])),
        }
    }

    async fn adopt(&self, documents: Vec<&ProgressDocument>) -> Result<(), CallError> {
        let write = |document: &&ProgressDocument| bson::serialize_to_document(document).expect("plain fields");
        let documents: Vec<Document> = documents.iter().map(write).collect();
        let act =
            move |mongo: &mut Mongod, outcome, chance| insert(mongo, PROGRESS_COLLECTION, documents, outcome, chance);
        match self.ask(Operation::MongoAdopt, act).await {
            (Outcome::Done, Some(taken)) if taken.is_empty() => Ok(()),
            (Outcome::Done, _) => Err(error(Some(DUPLICATE_KEY), &[], "duplicate key")),
            (outcome, _) => Err(failed(outcome, &[])),
        }
    }

    async fn run(&self, command: RawDocumentBuf) -> Result<Document, CallError> {
        let mut command = Document::try_from(&*command).expect("well formed");
        let collection = command
            .get_str("insert")
            .expect("nothing else runs outside of transactions")
            .to_owned();
        let Some(Bson::Array(documents)) = command.remove("documents") else {
            panic!("an insert has documents")
        };
        let documents = documents.into_iter().map(|document| match document {
            Bson::Document(document) => document,
            other => panic!("no document: {other}"),
        });
        let documents: Vec<Document> = documents.collect();
        let act = move |mongo: &mut Mongod, outcome, chance| insert(mongo, &collection, documents, outcome, chance);
        let (outcome, taken) = self.ask(Operation::MongoInsert, act).await;
        let (Outcome::Done | Outcome::Unacknowledged, Some(taken)) = (outcome, taken) else {
            return Err(failed(outcome, &[]));
        };
        let duplicate = |index: usize| {
            doc! { "index": index as i32, "code": DUPLICATE_KEY, "keyPattern": { "_id": 1 }, "errmsg": "duplicate" }
        };
        let errors: Vec<Document> = taken.into_iter().map(duplicate).collect();
        let mut reply = doc! { "ok": 1.0, "writeErrors": errors };
        if outcome == Outcome::Unacknowledged {
            reply.insert(
                "writeConcernError",
                doc! { "code": WRITE_CONCERN_FAILED, "errmsg": "timed out" },
            );
        }
        Ok(reply)
    }

    async fn fetch(&self, collection: &str, ids: Vec<i64>) -> Result<Vec<RawDocumentBuf>, CallError> {
        let collection = collection.to_owned();
        let wanted = move |document: &&Document| document.get_i64("_id").is_ok_and(|id| ids.contains(&id));
        let find = move |mongo: &Mongod| {
            let found = mongo.majority().documents(&collection).filter(wanted);
            found
                .map(|document| RawDocumentBuf::try_from(document).expect("stored"))
                .collect()
        };
        self.read(Operation::MongoFetch, find).await
    }

    /// A session costs no request of its own.
    async fn begin(&self) -> Result<SimulatedTransaction, CallError> {
        static SESSIONS: AtomicU64 = AtomicU64::new(1);
        Ok(SimulatedTransaction {
            wire: Self::new(self.world.clone(), self.owner),
            session: SESSIONS.fetch_add(1, Ordering::Relaxed),
            ended: false,
        })
    }

    /// The simulation's mongod drops a dead owner's transaction at once.
    async fn end_abandoned(&self) {}

    async fn pause(&self, _: Duration) {
        self.world.clock(self.owner).await;
    }
}

pub(super) struct SimulatedTransaction {
    wire: SimulatedDeployment,
    /// Only its difference from all others counts.
    session: u64,
    /// A commit or an abort was sent.
    ended: bool,
}

fn refused(refusal: Refusal) -> CallError {
    error(
        Some(refusal.code),
        &[TRANSIENT_TRANSACTION_ERROR],
        "the transaction was aborted",
    )
}

impl Transaction for SimulatedTransaction {
    async fn run(&mut self, command: RawDocumentBuf) -> Result<Document, CallError> {
        let command = Document::try_from(&*command).expect("well formed");
        let operation = match command.get_str("update") {
            Ok(PROGRESS_COLLECTION) => Operation::TransactionProgress,
            Err(_) if command.contains_key("aggregate") => Operation::TransactionCount,
            Ok(_) | Err(_) => Operation::TransactionRollup,
        };
        let session = self.session;
        let act = move |mongo: &mut Mongod, outcome, chance| {
            if outcome == Outcome::Refused {
                mongo.abort(session);
                let code = TRANSACTION_ENDED[chance as usize % TRANSACTION_ENDED.len()];
                return Err(Refusal { code });
            }
            mongo.run(session, &command)
        };
        match self.wire.ask(operation, act).await {
            (Outcome::Done | Outcome::Refused, Some(answer)) => answer.map_err(refused),
            (outcome, _) => Err(failed(outcome, &[TRANSIENT_TRANSACTION_ERROR])),
        }
    }

    async fn commit(&mut self) -> Result<(), CallError> {
        self.ended = true;
        let session = self.session;
        let act = move |mongo: &mut Mongod, outcome, _| {
            if outcome == Outcome::Refused {
                mongo.abort(session);
                return Err(Refusal {
                    code: NO_SUCH_TRANSACTION,
                });
            }
            let committed = mongo.commit(session);
            if outcome == Outcome::Done {
                mongo.replicate();
            }
            committed
        };
        let unknown = [UNKNOWN_TRANSACTION_COMMIT_RESULT];
        match self.wire.ask(Operation::TransactionCommit, act).await {
            (Outcome::Done | Outcome::Refused | Outcome::Unacknowledged, Some(Err(refusal))) => Err(refused(refusal)),
            (Outcome::Done, _) => Ok(()),
            (Outcome::Unacknowledged, _) => Err(error(Some(WRITE_CONCERN_FAILED), &unknown, "timed out")),
            (outcome, _) => Err(failed(outcome, &unknown)),
        }
    }

    async fn abort(&mut self) {
        self.ended = true;
        let session = self.session;
        let act = move |mongo: &mut Mongod, outcome, _| {
            if outcome != Outcome::Refused {
                mongo.abort(session);
            }
        };
        self.wire.ask(Operation::TransactionAbort, act).await;
    }
}

impl Drop for SimulatedTransaction {
    /// The driver aborts what is dropped half-way, in the background; a dead process does not.
    fn drop(&mut self) {
        if !self.ended {
            let session = self.session;
            let abort = move |services: &mut super::services::Services, _, _| services.mongo.abort(session);
            self.wire.world.send_late(Operation::TransactionAbort, Box::new(abort));
        }
    }
}
