//! The JSON that the dashboard shows, for everybody: read-only, below `/api/v1` (docs/api.md).
//!
//! Owns: the routes, and one memory of answers: equal questions of several screens are asked of MongoDB once per change.
//! Does not own: what may be asked (`question`), which rollup answers (`source`), how (`answer`, `records`, `documents`),
//! whether it may be shown (`standing`), how many at once (`turns`), news (`live`), what operators look at (`operations`).
//!
//! ```text
//!  request ─▶ question ─▶ source ─▶ memory ─▶ turns ─▶ documents ─▶ answer ─▶ JSON
//!                                     ▲ forgets what is older than the last change
//!                                   live ◀── change stream
//! ```

mod answer;
mod documents;
pub(super) mod error;
mod live;
mod operations;
mod question;
mod records;
mod sizes;
mod source;
mod standing;
mod table;
#[cfg(test)]
mod tests;
mod turns;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use chrono::Utc;
use moka::future::Cache;
use serde::Serialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::answer::{Folding, measure_type};
use self::documents::Documents;
use self::error::{ApiError, Code};
use self::live::Followed;
use self::question::{Aggregate, Given, Parameters, Records};
use self::sizes::{Size, Sizes};
use self::standing::Standing;
use self::table::type_name;
use self::turns::Turns;
use crate::config::{Config, RollupConfig, StreamConfig};
use crate::health::Health;

/// Answers kept. The largest have some megabytes, most a few kilobytes.
const MEMORY_BYTES: u64 = 64 << 20;
/// While a stream cannot be followed, an answer counts as current for so long.
const UNFOLLOWED: Duration = Duration::from_secs(1);
/// An answer that nobody asks for again goes.
const IDLE: Duration = Duration::from_secs(60);

/// What all requests share.
pub(super) struct Api {
    config: Config,
    streams: BTreeMap<String, Arc<Served>>,
    board: Health,
    memory: Cache<String, Bytes>,
    sizes: Sizes,
    turns: Turns,
    began: Instant,
    shutdown: CancellationToken,
}

/// A stream, and its side in MongoDB where it has one.
struct Served {
    config: StreamConfig,
    documents: Option<(Documents, Followed)>,
}

impl Api {
    /// `is_alone`: no job in this process says on the board whether MongoDB answers.
    pub async fn new(
        config: &Config,
        board: Health,
        is_alone: bool,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Self> {
        let mut streams = BTreeMap::new();
        for stream in &config.streams {
            let documents = match stream.mongo.enabled {
                true => {
                    let documents = Documents::open(&stream.mongo).await?;
                    let told = is_alone.then(|| board.for_stream(&stream.name));
                    let followed = Followed::start(documents.clone(), &stream.name, told, shutdown.child_token());
                    Some((documents, followed))
                }
                false => None,
            };
            let served = Served {
                config: stream.clone(),
                documents,
            };
            streams.insert(stream.name.clone(), Arc::new(served));
        }
        let memory = Cache::builder()
            .weigher(|key: &String, answer: &Bytes| (key.len() + answer.len()).try_into().unwrap_or(u32::MAX))
            .max_capacity(MEMORY_BYTES)
            .time_to_idle(IDLE)
            .build();
        Ok(Self {
            config: config.clone(),
            streams,
            board,
            memory,
            sizes: Sizes::new(),
            turns: Turns::default(),
            began: Instant::now(),
            shutdown,
        })
    }

    fn stream(&self, name: &str) -> Result<&Arc<Served>, ApiError> {
        self.streams.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.streams.keys().map(String::as_str).collect();
            let message = format!("there is no stream {name:?}; there are {}", known.join(", "));
            ApiError::new(Code::UnknownStream, message)
        })
    }

    /// The remembered answer, or a new one; of those who ask the same at once one does the work.
    async fn remembered<T: Serialize>(
        &self,
        key: String,
        answer: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<Response, ApiError> {
        let made = async {
            let answer = answer.await?;
            let body = serde_json::to_vec(&answer).expect("an answer of plain values");
            Ok::<_, ApiError>(Bytes::from(body))
        };
        let body = self.memory.try_get_with(key, made).await;
        let body = body.map_err(|error: Arc<ApiError>| ApiError::clone(&error))?;
        Ok(([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], body).into_response())
    }

    /// How large the stream's rollups are, by their names, where that is known.
    async fn sizes<'a>(&self, served: &'a Served, documents: &Documents) -> BTreeMap<&'a str, Size> {
        let stream = &served.config;
        let of = |rollup: &'a RollupConfig| async move {
            let size = self.sizes.of(&stream.name, documents, rollup).await?;
            Some((rollup.name.as_str(), size))
        };
        let sizes = futures::future::join_all(stream.rollups.iter().map(of)).await;
        sizes.into_iter().flatten().collect()
    }

    /// Grows every so often.
    fn turn(&self, every: Duration) -> u128 {
        self.began.elapsed().as_millis() / every.as_millis()
    }
}

impl Served {
    fn documents(&self) -> Result<&(Documents, Followed), ApiError> {
        self.documents.as_ref().ok_or_else(|| {
            let message = format!("stream {} is not stored in MongoDB (mongo.enabled)", self.config.name);
            ApiError::new(Code::NotAnswerable, message)
        })
    }

    /// Differs from the key of an answer that may be out of date.
    fn key(&self, api: &Api, followed: &Followed, question: &impl std::fmt::Debug) -> String {
        let seen = followed.seen();
        let turn = if seen.is_followed { 0 } else { api.turn(UNFOLLOWED) };
        format!("{} {} {turn} {question:?}", self.config.name, seen.changes)
    }
}

pub(super) fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/streams", get(streams))
        .route("/streams/{stream}/aggregate", get(aggregate))
        .route("/streams/{stream}/records", get(records))
        .route("/streams/{stream}/lake", get(operations::lake))
        .route("/streams/{stream}/dead-letters", get(operations::dead_letters))
        .route("/pipeline", get(operations::pipeline))
        .route("/live", get(live))
        .route("/openapi.json", get(openapi))
        .fallback(|| async { ApiError::new(Code::NotFound, "there is nothing here; see /api/v1/openapi.json") })
        .method_not_allowed_fallback(|| async { ApiError::new(Code::MethodNotAllowed, "only GET is answered here") })
        .with_state(api)
}

async fn streams(State(api): State<Arc<Api>>, Query(parameters): Query<Parameters>) -> Result<Json<Value>, ApiError> {
    Given::new(parameters, &[])?;
    let streams: Vec<Value> = api.streams.values().map(|served| described(&served.config)).collect();
    Ok(Json(json!({ "job": api.config.job, "streams": streams })))
}

fn described(stream: &StreamConfig) -> Value {
    let schema = &stream.schema;
    let field = |index: usize| schema.fields[index].name.as_str();
    let fields = schema
        .fields
        .iter()
        .map(|field| json!({ "name": field.name, "type": type_name(field.ty), "required": field.required }));
    let rollups = stream.rollups.iter().map(|rollup| {
        let measures = rollup.measures.iter();
        let measures = measures.map(|(name, measure)| json!({ "name": name, "type": measure_type(*measure, stream) }));
        json!({
            "name": rollup.name,
            "every": rollup.every.to_string(),
            "dimensions": rollup.by.iter().map(|&index| field(index)).collect::<Vec<_>>(),
            "measures": measures.collect::<Vec<_>>(),
        })
    });
    json!({
        "name": stream.name,
        "topic": stream.topic,
        "event_time": field(schema.event_time),
        "timezone": schema.timezone.name(),
        "mongo": stream.mongo.enabled,
        "lake": stream.lake.enabled,
        "fields": fields.collect::<Vec<_>>(),
        "rollups": rollups.collect::<Vec<_>>(),
    })
}

async fn aggregate(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Result<Response, ApiError> {
    let served = api.stream(&name)?;
    let (documents, followed) = served.documents()?;
    let question = Aggregate::parse(parameters, &served.config)?;
    let sizes = api.sizes(served, documents).await;
    let size = |rollup: &RollupConfig| Some(sizes.get(rollup.name.as_str())?.within(question.period));
    let rollup = source::choose(&question, &served.config, Utc::now(), size)?;
    let key = served.key(&api, followed, &question);
    let stream = &served.config;
    let answer = async {
        let before = Standing::read(documents, stream).await?;
        let pipeline = answer::pipeline(&question, stream, rollup);
        let mut folding = Folding::new(&question, stream, rollup);
        documents
            .aggregate(&rollup.name, pipeline, |group| folding.take(&group))
            .await?;
        before.still(stream, &Standing::read(documents, stream).await?)?;
        // Sorting much takes long for a thread that others wait for.
        Ok(tokio::task::block_in_place(|| folding.finish()))
    };
    api.remembered(key, api.turns.take(answer)).await
}

async fn records(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Result<Response, ApiError> {
    let served = api.stream(&name)?;
    let (documents, followed) = served.documents()?;
    let question = Records::parse(parameters, &served.config)?;
    let key = served.key(&api, followed, &question);
    let answer = records::newest(documents, &served.config, &question);
    api.remembered(key, api.turns.take(answer)).await
}

async fn live(State(api): State<Arc<Api>>, Query(parameters): Query<Parameters>) -> Result<Response, ApiError> {
    Given::new(parameters, &[])?;
    Ok(live::notices(&api.streams, api.shutdown.clone()).into_response())
}

async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], include_str!("openapi.json"))
}
