//! The HTTP side of a running job: `/metrics`, `/healthz`, `/readyz`.
//!
//! Owns: the listener and what the three answer. Does not own: metrics (`telemetry`), the board (`health`).

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::config::HttpConfig;
use crate::error::{Exit, Exits};
use crate::health::{self, Health};

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
        .route("/metrics", get(move || async move { metrics.render() }))
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
async fn readyz(State(board): State<Health>) -> (StatusCode, Json<Value>) {
    let mut ready = true;
    let parts: Vec<Value> = board
        .snapshot()
        .into_iter()
        .map(|((stream, part), state)| {
            ready &= matches!(state, health::State::Ok);
            let part = part.as_str();
            match state {
                health::State::Starting => json!({"stream": stream, "part": part, "state": "starting"}),
                health::State::Ok => json!({"stream": stream, "part": part, "state": "ok"}),
                health::State::Held { since, why } => json!({
                    "stream": stream, "part": part, "state": "held", "seconds": since.elapsed().as_secs(), "why": why
                }),
                health::State::Stopped { why } => {
                    json!({"stream": stream, "part": part, "state": "stopped", "why": why})
                }
            }
        })
        .collect();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(json!({"ready": ready, "parts": parts})))
}
