//! What operators look at: how far each sink is, the lake's table, dead letters.
//!
//! Owns: how often the services are asked, however many look. Does not own: the answers, which are those of
//! `affluent status`, `affluent lake history` and `affluent dead-letters list`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::Api;
use super::error::{ApiError, Code};
use super::question::{Given, Parameters};
use crate::config::StreamConfig;
use crate::dead_letter::Listing;
use crate::lake::delta::files::{self, FileState};
use crate::lake::maintenance::history;
use crate::lake::maintenance::table::{Sum, Table};
use crate::status;

/// Between two questions about progress.
const PIPELINE_EVERY: Duration = Duration::from_secs(2);
const PIPELINE_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two readings of a table's log, or of a topic's end: they grow with what is there.
const READ_EVERY: Duration = Duration::from_secs(15);
const READ_TIMEOUT: Duration = Duration::from_secs(20);
const VERSIONS: usize = 50;
const LETTERS: usize = 50;

pub(super) async fn pipeline(
    State(api): State<Arc<Api>>,
    Query(parameters): Query<Parameters>,
) -> Result<Response, ApiError> {
    Given::new(parameters, &[])?;
    let key = format!("pipeline {}", api.turn(PIPELINE_EVERY));
    let answer = async {
        let report = status::status(&api.config, &api.config.streams, PIPELINE_TIMEOUT).await;
        let board = api.board.snapshot();
        let parts = board
            .into_iter()
            .map(|((stream, part), state)| crate::serve::ready::shown(&stream, part, &state));
        Ok(json!({ "status": report, "parts": parts.collect::<Vec<_>>() }))
    };
    api.remembered(key, answer).await
}

pub(super) async fn lake(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Result<Response, ApiError> {
    let served = api.stream(&name)?;
    let stream = &served.config;
    Given::new(parameters, &[])?;
    if !stream.lake.enabled {
        let message = format!("stream {name} has no lake (lake.enabled)");
        return Err(ApiError::new(Code::NotAnswerable, message));
    }
    let key = format!("lake {name} {}", api.turn(READ_EVERY));
    let reading = table(&api.config.job, stream);
    api.remembered(key, within("the lake", reading)).await
}

async fn table(job: &str, stream: &StreamConfig) -> anyhow::Result<Value> {
    let Some(Table { store, log, .. }) = Table::open(job, stream).await? else {
        return Ok(json!({ "stream": stream.name, "version": null, "files": 0, "bytes": 0, "versions": [] }));
    };
    let mut all = Sum::default();
    let reading = files::visit(&store, log.version, |state| {
        if let FileState::Active(file) = state {
            all.add(file.size);
        }
    });
    reading.await?;
    let versions = history::newest(&store, log.version, VERSIONS).await?;
    Ok(json!({
        "stream": stream.name, "version": log.version, "files": all.files, "bytes": all.bytes, "versions": versions,
    }))
}

pub(super) async fn dead_letters(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Result<Response, ApiError> {
    let served = api.stream(&name)?;
    Given::new(parameters, &[])?;
    let key = format!("dead letters {name} {}", api.turn(READ_EVERY));
    let reading = Listing::newest(&api.config.kafka, &served.config, LETTERS);
    api.remembered(key, within("kafka", reading)).await
}

async fn within<T>(service: &str, reading: impl Future<Output = anyhow::Result<T>>) -> Result<T, ApiError> {
    let read = tokio::time::timeout(READ_TIMEOUT, reading).await;
    read.context("it took too long").flatten().map_err(|error| {
        tracing::warn!("{service} does not answer a question of the API: {error:#}");
        ApiError::new(Code::Unavailable, format!("{service} does not answer; try again"))
    })
}
