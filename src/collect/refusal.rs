//! Why a request's events are not taken: a status, a code that programs may rely on, and a sentence for people.
//!
//! Owns: the closed set of codes (they are a metric's label, too), which status each has, and after how long a client
//! may try again. Does not own: what is wrong (whoever says it).

use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::batch::RejectCode;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct Refusal {
    code: Code,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    /// The body is no JSON object and no array of them.
    InvalidBody,
    NoEvents,
    /// An event that would become a dead letter, with the dead letter's own code.
    Event(RejectCode),
    /// An event whose own time is far from ours.
    EventTime,
    OriginNotAllowed,
    MethodNotAllowed,
    /// The body did not come in time.
    Incomplete,
    BodyTooLarge,
    TooManyEvents,
    UnsupportedMediaType,
    /// With the time after which there is room for the request.
    RateLimited(Duration),
    /// As many requests as we can hold are waiting for Kafka.
    Busy,
    NotAcknowledged,
}

impl Code {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::InvalidBody => "invalid_body",
            Self::NoEvents => "no_events",
            Self::Event(code) => code.as_str(),
            Self::EventTime => "event_time_out_of_range",
            Self::OriginNotAllowed => "origin_not_allowed",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Incomplete => "incomplete",
            Self::BodyTooLarge => "body_too_large",
            Self::TooManyEvents => "too_many_events",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::RateLimited(_) => "rate_limited",
            Self::Busy => "busy",
            Self::NotAcknowledged => "not_acknowledged",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::InvalidBody | Self::NoEvents | Self::Event(_) | Self::EventTime => StatusCode::BAD_REQUEST,
            Self::OriginNotAllowed => StatusCode::FORBIDDEN,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Incomplete => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge | Self::TooManyEvents => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy | Self::NotAcknowledged => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Whole seconds, as the header wants them.
    fn retry_after(self) -> Option<u64> {
        match self {
            Self::RateLimited(wait) => Some(wait.as_secs_f64().ceil().max(1.0) as u64),
            Self::Busy | Self::NotAcknowledged => Some(1),
            _ => None,
        }
    }
}

impl Refusal {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    pub(super) fn code(&self) -> Code {
        self.code
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let error = json!({ "error": { "code": self.code.text(), "message": self.message } });
        let mut response = (self.code.status(), Json(error)).into_response();
        if let Some(seconds) = self.code.retry_after() {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_when_to_try_again() {
        let after = |code| {
            let response = Refusal::new(code, "").into_response();
            let header = response.headers().get(RETRY_AFTER)?;
            Some(header.to_str().expect("digits").to_owned())
        };
        assert_eq!(
            after(Code::RateLimited(Duration::from_millis(20))).as_deref(),
            Some("1")
        );
        assert_eq!(
            after(Code::RateLimited(Duration::from_millis(3001))).as_deref(),
            Some("4")
        );
        assert_eq!(after(Code::NotAcknowledged).as_deref(), Some("1"));
        assert_eq!(after(Code::NoEvents), None);
    }
}
