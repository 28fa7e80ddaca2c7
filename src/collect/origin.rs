//! Whose pages may send events: the same-origin rule, opened by `collect.origins` (CORS).
//!
//! Owns: the judgement and the headers that tell the browser. Does not own: security. A program that is no browser writes
//! any `Origin` it likes; this keeps honest browsers from sending other sites' visits here.

use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
    HOST, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue};

/// How long a browser may remember that it may send: a day, of which most take two hours.
const MAX_AGE_SECONDS: u64 = 86_400;

pub(super) struct Origins {
    any: bool,
    listed: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No browser's cross-origin request: nothing to tell.
    Own,
    /// The value of `Access-Control-Allow-Origin`.
    Allowed(HeaderValue),
    Foreign,
}

impl Origins {
    pub(super) fn new(origins: &[String]) -> Self {
        Self {
            any: origins.iter().any(|origin| origin == "*"),
            listed: origins.to_vec(),
        }
    }

    pub(super) fn judge(&self, headers: &HeaderMap) -> Verdict {
        // Browsers send it with every POST; what has none is no page.
        let Some(origin) = headers.get(ORIGIN) else {
            return Verdict::Own;
        };
        if is_own(origin, headers) {
            return Verdict::Own;
        }
        if self.any {
            return Verdict::Allowed(HeaderValue::from_static("*"));
        }
        match self.listed.iter().any(|listed| origin == listed.as_str()) {
            true => Verdict::Allowed(origin.clone()),
            false => Verdict::Foreign,
        }
    }
}

/// The page was served from where it sends to. A page that hides where it comes from (`Origin: null`), or a proxy that
/// rewrites `Host`, leaves the browser's own word for it, which no script can forge.
fn is_own(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    if headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin") {
        return true;
    }
    let origin = origin.to_str().unwrap_or_default();
    // Without the scheme: TLS may have ended at a proxy.
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    authority.is_some_and(|authority| host.is_some_and(|host| authority.eq_ignore_ascii_case(host)))
}

impl Verdict {
    /// Tells the browser, refusals included, which a page could not read otherwise.
    pub(super) fn tell(self, headers: &mut HeaderMap) {
        headers.append(VARY, HeaderValue::from_static("origin"));
        if let Self::Allowed(origin) = self {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        }
    }
}

/// The rest of the answer to a browser that asks before it sends.
pub(super) fn tell_what_may_be_sent(headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("content-type"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECONDS.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(listed: &[&str], sent: &[(&'static str, &str)]) -> Verdict {
        let listed: Vec<String> = listed.iter().map(|origin| (*origin).to_owned()).collect();
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.insert(*name, value.parse().expect("a header"));
        }
        Origins::new(&listed).judge(&headers)
    }

    #[test]
    fn own_pages_and_programs_may_always_send() {
        let host = ("host", "collect.example:8081");
        assert_eq!(judge(&[], &[host]), Verdict::Own);
        assert_eq!(
            judge(&[], &[host, ("origin", "https://Collect.example:8081")]),
            Verdict::Own
        );
        assert_eq!(
            judge(&[], &[host, ("origin", "null"), ("sec-fetch-site", "same-origin")]),
            Verdict::Own
        );
        assert_eq!(
            judge(&[], &[host, ("origin", "https://collect.example")]),
            Verdict::Foreign
        );
        assert_eq!(judge(&[], &[("origin", "https://collect.example")]), Verdict::Foreign);
    }

    #[test]
    fn other_pages_may_if_they_are_listed() {
        let shop = "https://shop.example";
        let from = |origin| {
            [
                ("host", "collect.example"),
                ("origin", origin),
                ("sec-fetch-site", "cross-site"),
            ]
        };
        let allowed = |value| Verdict::Allowed(HeaderValue::from_static(value));
        assert_eq!(judge(&[shop], &from(shop)), allowed("https://shop.example"));
        for foreign in [
            "http://shop.example",
            "https://shop.example.evil",
            "https://evil",
            "null",
            "",
        ] {
            assert_eq!(judge(&[shop], &from(foreign)), Verdict::Foreign, "{foreign}");
        }
        assert_eq!(judge(&["*"], &from("null")), allowed("*"));
    }
}
