//! `affluent collect`: page views and clicks of browsers into the topic of a stream.
//!
//! ```text
//!  browser: tracker.js ──POST /collect──▶ accept ─▶ events ─▶ kafka ──▶ topic ──▶ (affluent run) ──▶ both sinks
//!               ▲                           │ origin, client, limit        │
//!               └────────── 204, or why not ┴──────── acknowledged ◀───────┘
//! ```
//!
//! Owns: the command, the listener, which path is whose; `tracker.js` and the sample shop are part of the binary.
//! Does not own: what becomes of the records (`run`), which of them are good (`decode`).

mod accept;
mod client;
mod events;
mod kafka;
mod limit;
mod origin;
mod refusal;
mod room;
mod shop;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use bytes::Bytes;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::accept::Collector;
use self::kafka::Producer;
use crate::config::{CollectConfig, Config, StreamConfig};
use crate::error::{Exit, Exits};
use crate::run::end_on_signals;
use crate::{listen, telemetry};

const TRACKER: &str = include_str!("tracker.js");

/// Pages load it with every view; a new one is taken up within the hour.
const TRACKER_CACHED: &str = "public, max-age=3600";

/// Take page views and clicks from browsers into Kafka
///
/// POST /collect takes JSON, checks it against the stream's fields and answers 204 once Kafka has acknowledged all of it.
/// Pages get their events there with <script src="http://…/tracker.js" defer>; /shop/ is a small shop to try it with.
/// Ends with SIGTERM or Ctrl-C, requests under way are answered first.
#[derive(Debug, clap::Args)]
pub struct CollectArgs {
    /// Address and port to listen on, instead of collect.listen
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
}

pub async fn run(args: CollectArgs, config: &Config) -> anyhow::Result<Exit> {
    let mut collect = config.collect.clone();
    if let Some(listen) = args.listen {
        collect.listen = listen;
    }
    let stream = stream(config, &collect)?;
    let shutdown = CancellationToken::new();
    end_on_signals(shutdown.clone())?;
    let (listener, address) = listen::on(&collect.listen, "collect.listen", "").await?;
    let producer = Producer::connect(config, stream).await?;
    let collector = Arc::new(Collector::new(&collect, stream, producer));

    let metrics = telemetry::init_metrics()?;
    let small = tokio::spawn(telemetry::keep_small(metrics.clone(), shutdown.child_token()));
    let app = router(&collect, collector.clone(), metrics).into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(listener, app).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    info!(%address, stream = stream.name, topic = stream.topic, "collecting");
    if collect.shop {
        info!("the sample shop: http://{address}{}", shop::PATH);
    }
    let too_late = async {
        shutdown.cancelled().await;
        tokio::time::sleep(config.limits.shutdown_timeout).await;
    };
    tokio::select! {
        served = serving.into_future() => served.context("the HTTP server ended")?,
        () = too_late => warn!("requests did not end in time: their events were not acknowledged"),
    }
    collector.kafka.flush().await;
    shutdown.cancel();
    small.await?;
    Ok(Exit::Ok)
}

fn stream<'c>(config: &'c Config, collect: &CollectConfig) -> anyhow::Result<&'c StreamConfig> {
    let found = config.streams.iter().find(|stream| stream.name == collect.stream);
    found.ok_or_else(|| {
        let known: Vec<&str> = config.streams.iter().map(|stream| stream.name.as_str()).collect();
        let message = format!(
            "no stream is called {:?} (collect.stream); the configuration has: {}",
            collect.stream,
            known.join(", ")
        );
        Exits::error(Exit::Usage, message)
    })
}

fn router(config: &CollectConfig, collector: Arc<Collector>, metrics: PrometheusHandle) -> Router {
    let collect = post(accept::post)
        .fallback(accept::other_methods)
        .layer(from_fn_with_state(Arc::clone(&collector), accept::cross_origin));
    let app = Router::new()
        .route("/collect", collect)
        .route("/tracker.js", get(tracker(&slim(TRACKER))))
        .route("/metrics", get(move || async move { telemetry::render(&metrics) }))
        .route("/healthz", get(|| async { "alive\n" }))
        .with_state(collector);
    match config.shop {
        true => app.merge(shop::router()),
        false => app,
    }
}

/// The script, to pages of any site.
fn tracker(script: &str) -> (HeaderMap, Bytes) {
    let headers = [
        (CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (CACHE_CONTROL, TRACKER_CACHED),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // For pages that isolate themselves (COEP).
        (HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
    ];
    let headers = headers.map(|(name, value)| (name, HeaderValue::from_static(value)));
    (HeaderMap::from_iter(headers), Bytes::copy_from_slice(script.as_bytes()))
}

/// What a browser needs of a script: its lines without indentation, and without those that are comments.
fn slim(script: &str) -> String {
    let lines = script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("//"));
    lines.map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tracker_is_small_and_keeps_its_promises() {
        let served = slim(TRACKER);
        assert!(served.len() < 3000, "{} bytes", served.len());
        assert!(
            served.starts_with("/*! affluent") && !served.contains("\n//"),
            "{served}"
        );
        for promised in [
            "doNotTrack",
            "globalPrivacyControl",
            "sendBeacon",
            "credentials: 'omit'",
        ] {
            assert!(TRACKER.contains(promised), "{promised}");
        }
        for refused in [
            "document.cookie",
            "localStorage",
            "userAgent",
            "innerText",
            "textContent",
            ".value",
            "location.search",
        ] {
            assert!(!TRACKER.contains(refused), "{refused}");
        }
    }
}
