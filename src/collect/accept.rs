//! `POST /collect`, from its head to its answer.
//!
//! Owns: the order of the checks, cheapest first, and that nothing of a request is produced before all of it is good.
//! Does not own: the checks themselves (`origin`, `limit`, `room`, `events`), Kafka (`kafka`).
//!
//! ```text
//!  origin ─▶ a token ─▶ room ─▶ media type ─▶ size ─▶ how many ─▶ their tokens ─▶ stream's decoder ─▶ Kafka ─▶ 204
//!    403       429       503       415         413       400           429               400          503
//! ```

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use chrono::Utc;
use futures::TryStreamExt as _;

use super::client::Client;
use super::events::Form;
use super::kafka::Producer;
use super::limit::Limits;
use super::origin::{Origins, Verdict, tell_what_may_be_sent};
use super::refusal::{Code, Refusal};
use super::room::Room;
use crate::config::{CollectConfig, StreamConfig};
use crate::telemetry;

/// A body that trickles in holds a place.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A browser sends the second kind without asking first (CORS).
const MEDIA_TYPES: [&str; 2] = ["application/json", "text/plain"];

/// What all requests share.
pub(super) struct Collector {
    config: CollectConfig,
    stream: String,
    origins: Origins,
    form: Form,
    limits: Mutex<Limits>,
    room: Room,
    pub(super) kafka: Producer,
}

impl Collector {
    pub(super) fn new(config: &CollectConfig, stream: &StreamConfig, kafka: Producer) -> Self {
        Self {
            config: config.clone(),
            stream: stream.name.clone(),
            origins: Origins::new(&config.origins),
            form: Form::new(stream, config.max_events),
            limits: Mutex::new(Limits::new(config.rate, config.burst, Instant::now())),
            room: Room::default(),
            kafka,
        }
    }

    async fn accept(&self, client: Client, headers: &HeaderMap, body: Body) -> Result<(), Refusal> {
        let began = Instant::now();
        // One before anything is read, so that what is refused later is not free.
        self.take(client, 1)?;
        let busy = || Refusal::new(Code::Busy, "too many requests are under way; send it again later");
        let _place = self.room.enter(client).ok_or_else(busy)?;
        check_media_type(headers)?;
        let read = tokio::time::timeout(BODY_TIMEOUT, self.read(headers, body)).await;
        let late = |_| {
            Refusal::new(
                Code::Incomplete,
                format!("the body did not come within {BODY_TIMEOUT:?}"),
            )
        };
        let body = read.map_err(late)??;
        let events = {
            let events = self.form.split(&body)?;
            self.take(client, events.len() - 1)?;
            self.form.records(&events, Utc::now())?
        };
        self.kafka.send(&events).await?;
        telemetry::collected(&self.stream, events.len(), began.elapsed());
        Ok(())
    }

    fn take(&self, client: Client, events: usize) -> Result<(), Refusal> {
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        limits.take(client, events, Instant::now()).map_err(|wait| {
            let message = format!(
                "more than {} events at once or {} per second from one address",
                self.config.burst, self.config.rate
            );
            Refusal::new(Code::RateLimited(wait), message)
        })
    }

    async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Refusal> {
        let too_large = || {
            let message = format!(
                "the body is larger than {} bytes (collect.max_body)",
                self.config.max_body_bytes
            );
            Refusal::new(Code::BodyTooLarge, message)
        };
        let announced = headers
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok());
        if announced.is_some_and(|length: u64| length > self.config.max_body_bytes as u64) {
            return Err(too_large());
        }
        let mut read = Vec::new();
        let mut pieces = body.into_data_stream();
        let broken = |error| Refusal::new(Code::Incomplete, format!("the body broke off: {error}"));
        while let Some(piece) = pieces.try_next().await.map_err(broken)? {
            if read.len() + piece.len() > self.config.max_body_bytes {
                return Err(too_large());
            }
            read.extend_from_slice(&piece);
        }
        Ok(read)
    }

    fn refused(&self, refusal: Refusal) -> Response {
        telemetry::request_refused(&self.stream, refusal.code().text(), &refusal);
        refusal.into_response()
    }
}

fn check_media_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let given = headers
        .get(CONTENT_TYPE)
        .and_then(|given| given.to_str().ok())
        .unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if MEDIA_TYPES.iter().any(|known| essence.eq_ignore_ascii_case(known)) {
        return Ok(());
    }
    let message = format!("wants JSON as {}, found {essence:?}", MEDIA_TYPES.join(" or "));
    Err(Refusal::new(Code::UnsupportedMediaType, message))
}

pub(super) async fn post(
    State(collector): State<Arc<Collector>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let client = Client::of(peer.ip(), &headers, &collector.config.proxies);
    match collector.accept(client, &headers, body).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refusal) => collector.refused(refusal),
    }
}

pub(super) async fn other_methods(State(collector): State<Arc<Collector>>) -> Response {
    collector.refused(Refusal::new(Code::MethodNotAllowed, "events are sent with POST"))
}

/// Around every request for `/collect`: whose page it is, before anything else is looked at, and what its browser is told.
pub(super) async fn cross_origin(State(collector): State<Arc<Collector>>, request: Request, next: Next) -> Response {
    let verdict = collector.origins.judge(request.headers());
    let mut response = match verdict {
        Verdict::Foreign => {
            let message = "this page's origin may not send events here (collect.origins)";
            collector.refused(Refusal::new(Code::OriginNotAllowed, message))
        }
        _ if request.method() == Method::OPTIONS => {
            let mut response = StatusCode::NO_CONTENT.into_response();
            tell_what_may_be_sent(response.headers_mut());
            response
        }
        _ => next.run(request).await,
    };
    verdict.tell(response.headers_mut());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_comes_as_json_or_as_text() {
        let judged = |given: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, given.parse().expect("a header"));
            check_media_type(&headers).is_ok()
        };
        assert!(judged("application/json") && judged("text/plain;charset=UTF-8") && judged("Text/Plain"));
        assert!(!judged("application/x-www-form-urlencoded") && !judged("text/html") && !judged(""));
        assert!(check_media_type(&HeaderMap::new()).is_err());
    }
}
