//! MongoDB, asked for what the API answers.
//!
//! Owns: one connection per stream's deployment, deadlines, and which of its errors means what to a caller.
//! Does not own: pipelines and the form of answers (`answer`).
//!
//! Reads what a majority has, from the primary: what is shown is never taken back, and never older than the news of it.

use std::time::Duration;

use bson::{Document, doc};
use futures::TryStreamExt as _;
use mongodb::Database;
use mongodb::error::Error;
use mongodb::options::ReadConcern;

use super::error::{ApiError, Code};
use crate::config::MongoConfig;
use crate::sink;
use crate::sink::mongo::ProgressDocument;

/// For a question of a person who waits.
const MAX_TIME: Duration = Duration::from_secs(5);
/// The server's code of a question that took longer than it may.
const MAX_TIME_EXPIRED: i32 = 50;

#[derive(Clone, Debug)]
pub(super) struct Documents(pub Database);

impl Documents {
    /// Connects on first use.
    pub async fn open(config: &MongoConfig) -> anyhow::Result<Self> {
        Ok(Self(sink::mongo::reader(config).await?))
    }

    /// All progress documents of a stream.
    pub async fn progress(&self, stream: &str) -> Result<Vec<ProgressDocument>, ApiError> {
        let asked = tokio::time::timeout(2 * MAX_TIME, sink::mongo::progress_of(&self.0, stream)).await;
        asked.map_err(|_| too_slow())?.map_err(|error| {
            tracing::warn!(?error, "mongodb does not answer a question of the API");
            unavailable()
        })
    }

    /// Hands on what a pipeline answers as it comes.
    pub async fn aggregate(
        &self,
        collection: &str,
        pipeline: Vec<Document>,
        mut each: impl FnMut(Document) -> Result<(), ApiError>,
    ) -> Result<(), ApiError> {
        let collection = self.0.collection::<Document>(collection);
        within(async {
            let mut cursor = collection
                .aggregate(pipeline)
                .max_time(MAX_TIME)
                .allow_disk_use(false)
                .read_concern(ReadConcern::majority())
                .batch_size(10_000)
                .await?;
            while let Some(document) = cursor.try_next().await? {
                if let Err(refusal) = each(document) {
                    return Ok(Err(refusal));
                }
            }
            Ok(Ok(()))
        })
        .await
    }

    /// The newest documents that fit: those of the highest ids of each of these ranges.
    pub async fn newest(
        &self,
        collection: &str,
        ranges: &[(i64, i64)],
        conditions: &Document,
        limit: usize,
    ) -> Result<Vec<Document>, ApiError> {
        let collection = self.0.collection::<Document>(collection);
        let of_range = |(from, to): &(i64, i64)| {
            let mut wanted = doc! { "_id": { "$gte": from, "$lt": to } };
            wanted.extend(conditions.clone());
            let find = collection
                .find(wanted)
                .sort(doc! { "_id": -1 })
                .limit(limit as i64)
                .max_time(MAX_TIME)
                .read_concern(ReadConcern::majority());
            async { find.await?.try_collect::<Vec<Document>>().await }
        };
        let all = futures::future::try_join_all(ranges.iter().map(of_range));
        let found = within(async { Ok(Ok(all.await?)) }).await?;
        Ok(found.into_iter().flatten().collect())
    }
}

/// MongoDB's error without, our refusal within.
type Asked<T> = Result<Result<T, ApiError>, Error>;

async fn within<T>(question: impl Future<Output = Asked<T>>) -> Result<T, ApiError> {
    match tokio::time::timeout(2 * MAX_TIME, question).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) if is_too_slow(&error) => Err(too_slow()),
        Ok(Err(error)) if is_refusal(&error) => {
            tracing::error!(%error, "mongodb refuses a question of the API");
            Err(ApiError::new(
                Code::Internal,
                "this could not be asked of mongodb; the log says why",
            ))
        }
        Ok(Err(error)) => {
            // The driver's words may name hosts, which are not for everybody who may look at a dashboard.
            tracing::warn!(%error, "mongodb does not answer a question of the API");
            Err(unavailable())
        }
        Err(_) => Err(too_slow()),
    }
}

fn is_too_slow(error: &Error) -> bool {
    match error.kind.as_ref() {
        mongodb::error::ErrorKind::Command(error) => error.code == MAX_TIME_EXPIRED,
        _ => false,
    }
}

/// Asking again would change nothing.
fn is_refusal(error: &Error) -> bool {
    matches!(error.kind.as_ref(), mongodb::error::ErrorKind::Command(_)) && !error.contains_label("RetryableError")
}

fn unavailable() -> ApiError {
    ApiError::new(Code::Unavailable, "mongodb does not answer; try again")
}

fn too_slow() -> ApiError {
    let message = format!(
        "the question took longer than {} s: ask for a shorter period",
        MAX_TIME.as_secs()
    );
    ApiError::new(Code::TooSlow, message)
}
