//! Who may look: whoever knows `http.token`, where one is set.
//!
//! Owns: the two ways to say it. A program sends it as bearer token; a browser asks its user for it as a password (any user
//! name will do) and then sends it with everything, the news included, which no page could give a header.
//! Does not own: which paths are guarded (`serve`): probes and scrapers are not.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq as _;

use super::api::error::{ApiError, Code};

/// `token`: empty where everybody may look.
pub(super) async fn check(State(token): State<Arc<str>>, request: Request, next: Next) -> Response {
    if token.is_empty() || says(request.headers(), &token) {
        return next.run(request).await;
    }
    let refusal = ApiError::new(
        Code::Unauthorized,
        "send `Authorization: Bearer` and http.token, or the token as a password",
    );
    let mut response = refusal.into_response();
    let asked = HeaderValue::from_static(r#"Basic realm="affluent", charset="UTF-8""#);
    response.headers_mut().insert(WWW_AUTHENTICATE, asked);
    response
}

fn says(headers: &HeaderMap, token: &str) -> bool {
    let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some((scheme, rest)) = given.and_then(|given| given.split_once(' ')) else {
        return false;
    };
    let rest = rest.trim_start();
    let given = match scheme.to_ascii_lowercase().as_str() {
        "bearer" => Some(rest.as_bytes().to_vec()),
        "basic" => password(rest),
        _ => None,
    };
    given.is_some_and(|given| given.ct_eq(token.as_bytes()).into())
}

fn password(encoded: &str) -> Option<Vec<u8>> {
    let both = STANDARD.decode(encoded).ok()?;
    let colon = both.iter().position(|byte| *byte == b':')?;
    Some(both[colon + 1..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says_token(authorization: &str) -> bool {
        let value = HeaderValue::from_str(authorization).expect("a header");
        says(&HeaderMap::from_iter([(AUTHORIZATION, value)]), "a:long token of ours")
    }

    #[test]
    fn the_token_is_taken_from_a_program_and_from_a_browser() {
        assert!(says_token("Bearer a:long token of ours"));
        assert!(says_token("bearer a:long token of ours"));
        let of_browser = STANDARD.encode("anybody:a:long token of ours");
        assert!(says_token(&format!("Basic {of_browser}")));
    }

    #[test]
    fn nothing_else_is_taken() {
        assert!(!says(&HeaderMap::new(), "a:long token of ours"));
        let as_user = STANDARD.encode("a:long token of ours:");
        for other in [
            "Bearer",
            "Bearer ",
            "Bearer a:long token of our",
            "Bearer a:long token of ours!",
            "Digest a:long token of ours",
            "Basic a:long token of ours",
            &format!("Basic {as_user}"),
        ] {
            assert!(!says_token(other), "{other}");
        }
    }
}
