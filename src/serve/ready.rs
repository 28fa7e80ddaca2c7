//! `/readyz`: does every part of every stream work?
//!
//! Owns: how the board is shown. Does not own: the board (`health`).

use axum::Json;
use axum::extract::State as Extract;
use axum::http::StatusCode;
use chrono::SecondsFormat;
use serde_json::{Value, json};

use crate::health::{Health, Part, Since, State};

/// 200 when every part of every stream works, else 503; the parts are listed either way.
pub(super) async fn readyz(Extract(board): Extract<Health>) -> (StatusCode, Json<Value>) {
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

/// One part's state, for people and scripts.
pub(super) fn shown(stream: &str, part: Part, state: &State) -> Value {
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
