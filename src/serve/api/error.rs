//! What a caller gets instead of an answer: a status, a code that programs may rely on, and a sentence for people.
//!
//! Owns: the closed set of codes. Does not own: what is wrong (whoever says it).

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::serve) struct ApiError {
    code: Code,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::serve) enum Code {
    BadParameter,
    Unauthorized,
    UnknownStream,
    NotFound,
    MethodNotAllowed,
    /// No rollup has what is asked for.
    NotAnswerable,
    Unavailable,
    TooSlow,
    /// A fault of ours.
    Internal,
}

impl Code {
    const fn text(self) -> (&'static str, StatusCode) {
        match self {
            Self::BadParameter => ("bad_parameter", StatusCode::BAD_REQUEST),
            Self::Unauthorized => ("unauthorized", StatusCode::UNAUTHORIZED),
            Self::UnknownStream => ("unknown_stream", StatusCode::NOT_FOUND),
            Self::NotFound => ("not_found", StatusCode::NOT_FOUND),
            Self::MethodNotAllowed => ("method_not_allowed", StatusCode::METHOD_NOT_ALLOWED),
            Self::NotAnswerable => ("not_answerable", StatusCode::UNPROCESSABLE_ENTITY),
            Self::Unavailable => ("unavailable", StatusCode::SERVICE_UNAVAILABLE),
            Self::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR),
            Self::TooSlow => ("too_slow", StatusCode::SERVICE_UNAVAILABLE),
        }
    }
}

impl ApiError {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    pub fn parameter(name: &str, message: impl std::fmt::Display) -> Self {
        Self::new(Code::BadParameter, format!("`{name}` {message}"))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (code, status) = self.code.text();
        (
            status,
            Json(json!({ "error": { "code": code, "message": self.message } })),
        )
            .into_response()
    }
}
