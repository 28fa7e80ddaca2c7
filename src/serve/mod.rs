//! The HTTP side: `/` (the dashboard), `/api/v1`, `/metrics`, `/healthz`, `/readyz`, of a running job or (`affluent serve`) beside one.
//!
//! Owns: the listener, which path is whose, and the command. Does not own: metrics (`telemetry`), the board (`health`).

mod api;
mod auth;
mod dashboard;
mod ready;

use std::future::IntoFuture as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower_http::compression::CompressionLayer;
use tracing::info;

use self::api::Api;
use crate::config::Config;
use crate::error::Exit;
use crate::health::Health;
use crate::run::end_on_signals;
use crate::{listen, telemetry};

/// How long answers under way are waited for at the end.
const PATIENCE: Duration = Duration::from_secs(2);

/// Show the dashboard and answer the API, without ingesting
///
/// Reads MongoDB, the lake and Kafka, and writes nowhere: as many as you like may run beside the instances that ingest.
/// Ends with SIGTERM or Ctrl-C.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Address and port to listen on, instead of http.listen
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
}

pub async fn run(args: ServeArgs, config: &Config) -> anyhow::Result<Exit> {
    let mut config = config.clone();
    config.http.enabled = true;
    if let Some(listen) = args.listen {
        config.http.listen = listen;
    }
    let shutdown = CancellationToken::new();
    end_on_signals(shutdown.clone())?;
    let metrics = telemetry::init_metrics()?;
    let small = tokio::spawn(telemetry::keep_small(metrics.clone(), shutdown.child_token()));
    let server = start(&config, metrics, Health::default(), true, shutdown.child_token()).await?;
    if let Some(server) = server {
        server.await?;
    }
    small.await?;
    Ok(Exit::Ok)
}

/// Starts serving; `None` where the configuration turns it off. The task ends with `shutdown`. `is_alone`: there is no job in
/// this process that says on the board how it is.
pub async fn start(
    config: &Config,
    metrics: PrometheusHandle,
    board: Health,
    is_alone: bool,
    shutdown: CancellationToken,
) -> anyhow::Result<Option<JoinHandle<()>>> {
    let http = &config.http;
    if !http.enabled {
        return Ok(None);
    }
    let (listener, address) = listen::on(&http.listen, "http.listen", "or set http.enabled = false").await?;
    info!(%address, "serving the dashboard, /api/v1, /metrics, /healthz, /readyz");
    let api = Api::new(config, board.clone(), is_alone, shutdown.child_token()).await?;
    let guarded = Router::new()
        .nest("/api/v1", api::router(Arc::new(api)))
        .fallback(dashboard::file)
        .layer(middleware::from_fn_with_state(
            Arc::from(http.token.as_str()),
            auth::check,
        ));
    let app = Router::new()
        .route("/metrics", get(move || async move { telemetry::render(&metrics) }))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready::readyz))
        .with_state(board)
        .merge(guarded)
        // Not news (`text/event-stream`): a compressor would keep them back.
        .layer(CompressionLayer::new());
    let serving = axum::serve(listener, app).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    Ok(Some(tokio::spawn(async move {
        let too_late = async {
            shutdown.cancelled().await;
            tokio::time::sleep(PATIENCE).await;
        };
        tokio::select! {
            served = serving.into_future() => if let Err(error) = served {
                tracing::error!("the HTTP server ended: {error}");
            },
            // Somebody reads slowly, or has sent half a request.
            () = too_late => {}
        }
    })))
}
