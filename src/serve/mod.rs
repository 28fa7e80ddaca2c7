//! The HTTP side of a running job: `/metrics`, `/healthz`, `/readyz`.
//!
//! Owns: the listener and what the three answer. Does not own: metrics (`telemetry`), the board (`health`).

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::extract;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use chrono::SecondsFormat;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::config::HttpConfig;
use crate::error::{Exit, Exits};
use crate::health::{Health, Part, Since, State};
use crate::telemetry;

/// Starts serving; `None` where the configuration turns it off. The task ends with `shutdown`.
pub async fn start(
    config: &HttpConfig,
    metrics: PrometheusHandle,
    board: Health,
    shutdown: CancellationToken,
) -> anyhow::Result<Option<JoinHandle<()>>> {
    if !config.enabled {
        return Ok(None);
    }
    let listener = tokio::net::TcpListener::bind(&config.listen).await.map_err(|error| {
        let message = format!(
            "cannot listen on {} (http.listen): {error}; choose another address or set http.enabled = false",
            config.listen
        );
        Exits::error(Exit::Usage, message)
    })?;
    let address: SocketAddr = listener.local_addr().context("the listener has no address")?;
    info!(%address, "serving /metrics, /healthz, /readyz");
    let app = Router::new()
        .route("/metrics", get(move || async move { telemetry::render(&metrics) }))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .with_state(board);
    Ok(Some(tokio::spawn(async move {
        let served = axum::serve(listener, app)
            .with_graceful_shutdown(shutdown.cancelled_owned())
            .await;
        if let Err(error) = served {
            tracing::error!("the HTTP server ended: {error}");
        }
    })))
}

/// 200 when every part of every stream works, else 503; the parts are listed either way.
async fn readyz(extract::State(board): extract::State<Health>) -> (StatusCode, Json<Value>) {
    let mut ready = true;
    let parts: Vec<Value> = board
        .snapshot()
        .into_iter()
        .map(|((stream, part), state)| {
            ready &= matches!(state, State::Ok);
            shown(&stream, part, &state)
        })
        .collect();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(json!({"ready": ready, "parts": parts})))
}

fn shown(stream: &str, part: Part, state: &State) -> Value {
    let part = part.as_str();
    let waiting = |state: &str, since: &Since, why: &str| {
        let time = since.time.to_rfc3339_opts(SecondsFormat::Secs, true);
        let seconds = since.elapsed().as_secs();
        json!({"stream": stream, "part": part, "state": state, "since": time, "seconds": seconds, "why": why})
    };
    match state {
        State::Starting => json!({"stream": stream, "part": part, "state": "starting"}),
        State::Ok => json!({"stream": stream, "part": part, "state": "ok"}),
        State::Slow { since, why } => waiting("slow", since, why),
        State::Held { since, why, .. } => waiting("held", since, why),
        State::Stopped { why } => json!({"stream": stream, "part": part, "state": "stopped", "why": why}),
    }
}
