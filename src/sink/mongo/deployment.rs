//! What the protocol asks of a MongoDB deployment: the seam between deciding and talking.
//!
//! Owns: the two traits, and [`Server`], the deployment behind MongoDB's driver. Every deadline, read and write
//! concern and pause lies on that side, so that above the seam there is nothing but the protocol; the simulation
//! puts a deployment of its own below it.
//! Does not own: what follows from an answer (`insert`, `transaction`, `commit`).

use std::future::Future;
use std::time::Duration;

use bson::{Document, RawDocumentBuf, doc};
use futures::TryStreamExt;
use mongodb::options::ReadConcern;
use mongodb::{Client, ClientSession, Collection, Database};

use super::abandoned::{self, Mark};
pub use super::error::CallError;
use super::error::call;
use super::progress::{self, majority, primary};
pub use super::progress::{Identity, ProgressDocument};
use super::{collections, topology};
use crate::config::StreamConfig;
use crate::error::SinkError;
use crate::offsets::TopicId;
use crate::rollup::Rollup;

/// A server that does not answer is not waited for a second time.
const ABORT_TIMEOUT: Duration = Duration::from_secs(2);

/// A replica set, as far as the sink needs one.
///
/// An error of a call that writes says nothing about whether it was done, nor whether it still will be, unless it
/// carries a code of the server's. Reads see what a majority has. A dropped future leaves the same doubt.
pub trait Deployment: Send + Sync + 'static {
    type Transaction: Transaction;

    /// Creates the collections that are missing, a stream's and its rollups'; the first one is checked for what would
    /// delete its documents.
    fn prepare(&self, collections: &[&str]) -> impl Future<Output = Result<(), SinkError>> + Send;

    /// Creates what is missing of the rollups' indexes. They may delete old buckets: only where what is stored is known to be
    /// of these definitions.
    fn index(&self, rollups: &[Rollup]) -> impl Future<Output = Result<(), SinkError>> + Send;

    /// Stops where one of the collections holds a document.
    fn refuse_foreign(&self, collections: &[&str]) -> impl Future<Output = Result<(), SinkError>> + Send;

    /// All progress documents of a stream.
    fn progress(&self, stream: &str) -> impl Future<Output = Result<Vec<ProgressDocument>, CallError>> + Send;

    /// Writes the topic's id into the stream's progress documents that have none.
    fn record_topic_id(
        &self,
        identity: &Identity,
        topic_id: &TopicId,
    ) -> impl Future<Output = Result<(), CallError>> + Send;

    /// Inserts progress documents, unordered: with one that is there already the code is that of a duplicate key,
    /// and the others may have been stored.
    fn adopt(&self, documents: Vec<&ProgressDocument>) -> impl Future<Output = Result<(), CallError>> + Send;

    /// Runs a command outside of any transaction, and answers the server's reply, write errors included.
    fn run(&self, command: RawDocumentBuf) -> impl Future<Output = Result<Document, CallError>> + Send;

    fn fetch(
        &self,
        collection: &str,
        ids: Vec<i64>,
    ) -> impl Future<Output = Result<Vec<RawDocumentBuf>, CallError>> + Send;

    /// Begins a transaction that reads one snapshot and is acknowledged by a majority.
    fn begin(&self) -> impl Future<Output = Result<Self::Transaction, CallError>> + Send;

    /// Ends transactions that an owner of this stream has left open and idle. A wish: nothing depends on it but the
    /// time that their locks are in the way.
    fn end_abandoned(&self) -> impl Future<Output = ()> + Send;

    /// Lets about this much time pass, jittered so that two owners do not meet again.
    fn pause(&self, about: Duration) -> impl Future<Output = ()> + Send;
}

/// One transaction. Dropped, it is aborted, soon or by the server's patience.
pub trait Transaction: Send {
    fn run(&mut self, command: RawDocumentBuf) -> impl Future<Output = Result<Document, CallError>> + Send;

    /// May be called again after an error.
    fn commit(&mut self) -> impl Future<Output = Result<(), CallError>> + Send;

    fn abort(&mut self) -> impl Future<Output = ()> + Send;
}

/// A real one.
pub struct Server {
    client: Client,
    database: Database,
    mark: Mark,
}

impl Server {
    /// Connects and checks that the deployment has transactions.
    pub async fn connect(job: &str, stream: &StreamConfig) -> Result<Self, SinkError> {
        let mark = Mark::new(job, &stream.name);
        let (client, options) = topology::client(&stream.mongo.uri, Some(&mark)).await?;
        topology::check(&client, &options).await?;
        let database = client.database(&stream.mongo.database);
        Ok(Self { client, database, mark })
    }
}

impl Deployment for Server {
    type Transaction = ServerTransaction;

    async fn prepare(&self, names: &[&str]) -> Result<(), SinkError> {
        collections::create(&self.database, names.iter().copied()).await?;
        match names.first() {
            Some(stream) => collections::refuse_expiry(&self.database, stream).await,
            None => Ok(()),
        }
    }

    async fn index(&self, rollups: &[Rollup]) -> Result<(), SinkError> {
        for rollup in rollups {
            collections::index(&self.database, rollup).await?;
        }
        Ok(())
    }

    async fn refuse_foreign(&self, names: &[&str]) -> Result<(), SinkError> {
        collections::refuse_foreign(&self.database, names.iter().copied()).await
    }

    async fn progress(&self, stream: &str) -> Result<Vec<ProgressDocument>, CallError> {
        progress::read(&progress::collection(&self.database), stream).await
    }

    async fn record_topic_id(&self, identity: &Identity, topic_id: &TopicId) -> Result<(), CallError> {
        let unknown = doc! { "stream": &identity.stream, "job": &identity.job, "topic_id": TopicId::UNKNOWN };
        let known = doc! { "$set": { "topic_id": &topic_id.0 } };
        let collection = progress::collection(&self.database);
        call(collection.update_many(unknown, known).write_concern(majority()))
            .await
            .map(drop)
    }

    async fn adopt(&self, documents: Vec<&ProgressDocument>) -> Result<(), CallError> {
        let collection = progress::collection(&self.database);
        let insert = collection.insert_many(documents).write_concern(majority());
        call(insert.ordered(false)).await.map(drop)
    }

    async fn run(&self, command: RawDocumentBuf) -> Result<Document, CallError> {
        call(self.database.run_raw_command(command)).await
    }

    async fn fetch(&self, collection: &str, ids: Vec<i64>) -> Result<Vec<RawDocumentBuf>, CallError> {
        let collection: Collection<RawDocumentBuf> = self.database.collection(collection);
        call(async {
            let find = collection
                .find(doc! { "_id": { "$in": ids } })
                .read_concern(ReadConcern::majority());
            find.selection_criteria(primary()).await?.try_collect().await
        })
        .await
    }

    async fn begin(&self) -> Result<ServerTransaction, CallError> {
        let mut session = call(self.client.start_session()).await?;
        call(
            session
                .start_transaction()
                .read_concern(ReadConcern::snapshot())
                .write_concern(majority())
                .selection_criteria(primary()),
        )
        .await?;
        let database = self.database.clone();
        Ok(ServerTransaction { database, session })
    }

    async fn end_abandoned(&self) {
        abandoned::kill(&self.client, &self.mark).await;
    }

    async fn pause(&self, about: Duration) {
        tokio::time::sleep(about.mul_f64(rand::random_range(0.5..1.5))).await;
    }
}

pub struct ServerTransaction {
    database: Database,
    session: ClientSession,
}

impl Transaction for ServerTransaction {
    async fn run(&mut self, command: RawDocumentBuf) -> Result<Document, CallError> {
        call(self.database.run_raw_command(command).session(&mut self.session)).await
    }

    async fn commit(&mut self) -> Result<(), CallError> {
        call(self.session.commit_transaction()).await
    }

    async fn abort(&mut self) {
        let _ = tokio::time::timeout(ABORT_TIMEOUT, self.session.abort_transaction()).await;
    }
}
