//! A small shop to click through: it shows the tracker at work, and is what one looks at while the dashboard moves.
//!
//! Owns: its pages and their addresses; they need nothing from elsewhere. Does not own: what is counted (`tracker.js`).

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Redirect;
use axum::routing::get;
use bytes::Bytes;

pub(super) const PATH: &str = "/shop/";

const LAYOUT: &str = include_str!("shop/layout.html");

/// Address below [`PATH`], title, and what stands between header and footer.
const PAGES: [(&str, &str, &str); 6] = [
    ("", "Accueil", include_str!("shop/accueil.html")),
    ("cafe", "Café moulu", include_str!("shop/cafe.html")),
    ("couteau", "Couteau de poche", include_str!("shop/couteau.html")),
    ("bougie", "Bougie figuier", include_str!("shop/bougie.html")),
    ("panier", "Panier", include_str!("shop/panier.html")),
    ("merci", "Merci", include_str!("shop/merci.html")),
];

const HTML: &str = "text/html; charset=utf-8";
const FILES: [(&str, &str, &str); 2] = [
    ("shop.css", "text/css; charset=utf-8", include_str!("shop/shop.css")),
    (
        "shop.js",
        "text/javascript; charset=utf-8",
        include_str!("shop/shop.js"),
    ),
];

/// The pages get by with what this process serves.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn router() -> Router {
    let pages = PAGES
        .iter()
        .map(|(name, title, content)| (*name, HTML, page(title, content)));
    let files = FILES
        .iter()
        .map(|(name, kind, text)| (*name, *kind, (*text).to_owned()));
    let slash = Router::new().route("/shop", get(|| async { Redirect::permanent(PATH) }));
    pages.chain(files).fold(slash, |app, (name, kind, text)| {
        app.route(&format!("{PATH}{name}"), get((headers(kind), Bytes::from(text))))
    })
}

fn page(title: &str, content: &str) -> String {
    LAYOUT
        .replace("{title}", title)
        .replace("{content}", content.trim_end())
}

fn headers(kind: &'static str) -> HeaderMap {
    let headers = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // A sample is looked at while it is changed.
        (CACHE_CONTROL, "no-cache"),
    ];
    HeaderMap::from_iter(headers.map(|(name, value)| (name, HeaderValue::from_static(value))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of `name="…"`.
    fn attributes<'p>(page: &'p str, name: &str) -> Vec<&'p str> {
        let opening = format!(" {name}=\"");
        let pieces = page.split(opening.as_str()).skip(1);
        pieces.filter_map(|piece| piece.split('"').next()).collect()
    }

    #[test]
    fn every_link_leads_somewhere_and_every_click_has_a_name() {
        for (_, title, content) in PAGES {
            let page = page(title, content);
            for target in [attributes(&page, "href"), attributes(&page, "src")].concat() {
                let is_page = PAGES.iter().any(|(name, _, _)| target == *name);
                let is_file = FILES.iter().any(|(name, _, _)| target == *name);
                let is_known = ["./", "#contenu", "data:,", "../tracker.js"].contains(&target);
                assert!(is_page || is_file || is_known, "{title}: {target}");
            }
            let clickable = page.matches("<a ").count() + page.matches("<button").count();
            let named = attributes(&page, "data-track").len();
            assert_eq!(named, clickable - 1, "{title}: all but the link past the header");
            assert!(!page.contains("{title}") && !page.contains("{content}"));
            assert_eq!(page.matches("<h1>").count(), 1, "{title}");
        }
    }

    #[test]
    fn the_policy_lets_the_pages_work() {
        for (_, title, content) in PAGES {
            let page = page(title, content);
            for refused in [" style=", "<style", " onclick=", "<script>", "http:", "https:"] {
                assert!(!page.contains(refused), "{title}: {refused}");
            }
        }
    }
}
