//! Visits to the sample shop's web site: sessions that walk from page to page.
//!
//! Owns: the pages, which link leads where and how often, and the visitors that are on the site at a time.
//! Does not own: event times (`season`), products and regions (`catalogue`).
//!
//! ```text
//!  search engine ──▶ home ──▶ category ──▶ product ──▶ cart ──▶ delivery ──▶ payment ──▶ confirmation
//! ```
//! and back, sideways, or away at every step.

use super::catalogue::{CATEGORIES, REGIONS, popularity, products, slug};
use super::dice::{Dice, Sequence, Weights};
use super::text::{Stamp, push_hex, push_uuid};

/// Seconds a visitor stays on a page, on the average: as many sessions are open as it takes for that.
const SECONDS_PER_PAGE: f64 = 25.0;

/// Bounds the memory of sessions at any rate.
const MAX_SESSIONS: f64 = 20_000.0;

const DEVICES: [(&str, u32); 3] = [("mobile", 58), ("desktop", 36), ("tablet", 6)];

/// Where visitors come from; the first has no referrer.
const ORIGINS: [(Option<&str>, u32); 6] = [
    (None, 34),
    (Some("https://www.google.fr/"), 40),
    (Some("https://www.qwant.com/"), 6),
    (Some("https://www.instagram.com/"), 10),
    (Some("https://www.facebook.com/"), 6),
    (Some("https://newsletter.example.fr/"), 4),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Home,
    Promotions,
    Search,
    Account,
    Help,
    Category(usize),
    Product(usize),
    Cart,
    Delivery,
    Payment,
    Confirmation,
}

/// What a link leads to.
#[derive(Clone, Copy, Debug)]
enum Link {
    To(Page),
    /// Any category.
    Categories,
    /// A product of the category one is in, or any popular one.
    Products,
    /// The category of the product one looks at.
    Upwards,
    Away,
}

/// A link: the element that is clicked, where it leads, how often it is.
type Choice = (&'static str, Link, u32);

const FROM_HOME: [Choice; 6] = [
    ("nav a.categorie", Link::Categories, 42),
    ("section.best-sellers a.produit", Link::Products, 18),
    ("header input.recherche", Link::To(Page::Search), 14),
    ("a.banniere-promotions", Link::To(Page::Promotions), 10),
    ("header a.compte", Link::To(Page::Account), 4),
    ("", Link::Away, 12),
];
const FROM_LIST: [Choice; 4] = [
    ("li.resultat a.produit", Link::Products, 62),
    ("nav a.categorie", Link::Categories, 16),
    ("header a.logo", Link::To(Page::Home), 6),
    ("", Link::Away, 16),
];
const FROM_PRODUCT: [Choice; 6] = [
    ("button.ajouter-panier", Link::To(Page::Cart), 17),
    ("section.similaires a.produit", Link::Products, 26),
    ("nav.fil-ariane a", Link::Upwards, 24),
    ("header input.recherche", Link::To(Page::Search), 5),
    ("footer a.aide", Link::To(Page::Help), 2),
    ("", Link::Away, 26),
];
const FROM_CART: [Choice; 4] = [
    ("button.commander", Link::To(Page::Delivery), 48),
    ("a.continuer-achats", Link::Categories, 22),
    ("section.similaires a.produit", Link::Products, 10),
    ("", Link::Away, 20),
];
const FROM_DELIVERY: [Choice; 3] = [
    ("button.payer", Link::To(Page::Payment), 80),
    ("a.retour-panier", Link::To(Page::Cart), 8),
    ("", Link::Away, 12),
];
const FROM_PAYMENT: [Choice; 3] = [
    ("button.confirmer", Link::To(Page::Confirmation), 86),
    ("a.retour-livraison", Link::To(Page::Delivery), 5),
    ("", Link::Away, 9),
];
const FROM_ASIDE: [Choice; 3] = [
    ("header a.logo", Link::To(Page::Home), 45),
    ("nav a.categorie", Link::Categories, 20),
    ("", Link::Away, 35),
];
const FROM_CONFIRMATION: [Choice; 2] = [("header a.logo", Link::To(Page::Home), 8), ("", Link::Away, 92)];

fn choices(page: Page) -> &'static [Choice] {
    match page {
        Page::Home => &FROM_HOME,
        Page::Promotions | Page::Search | Page::Category(_) => &FROM_LIST,
        Page::Product(_) => &FROM_PRODUCT,
        Page::Cart => &FROM_CART,
        Page::Delivery => &FROM_DELIVERY,
        Page::Payment => &FROM_PAYMENT,
        Page::Account | Page::Help => &FROM_ASIDE,
        Page::Confirmation => &FROM_CONFIRMATION,
    }
}

/// One visitor, about to see `page`.
#[derive(Clone, Copy)]
struct Session {
    id: u64,
    device: &'static str,
    region: usize,
    page: Page,
    referrer: Referrer,
    /// What was clicked to get here.
    element: Option<&'static str>,
}

#[derive(Clone, Copy)]
enum Referrer {
    Origin(Option<&'static str>),
    Page(Page),
}

pub(super) struct Clicks {
    dice: Dice,
    stamp: Stamp,
    site: Site,
    regions: Weights,
    devices: Weights,
    origins: Weights,
    /// Visitors on the site.
    sessions: Vec<Session>,
    /// How many there are once the site is busy.
    wanted: u32,
}

impl Clicks {
    /// `per_second` is the rate of clicks in event time.
    pub(super) fn new(seed: u64, per_second: f64) -> Self {
        Self {
            dice: Dice::new(seed, Sequence::Records),
            stamp: Stamp::default(),
            site: Site::new(),
            regions: Weights::new(REGIONS.map(|(_, people)| people)),
            devices: Weights::new(DEVICES.map(|(_, share)| share)),
            origins: Weights::new(ORIGINS.map(|(_, share)| share)),
            sessions: Vec::new(),
            wanted: (per_second * SECONDS_PER_PAGE).clamp(2.0, MAX_SESSIONS) as u32,
        }
    }

    /// Writes the next page view, which happened at `at_ms`, as one JSON object into `out` and its session's
    /// id, the record's key, into `key`.
    pub(super) fn write(&mut self, at_ms: i64, out: &mut Vec<u8>, key: &mut Vec<u8>) {
        let index = self.dice.below(self.wanted) as usize;
        // A visitor that is not there yet is a new one; those who have left make room for new ones.
        let index = match self.sessions.get(index) {
            Some(_) => index,
            None => {
                let session = self.arrive();
                self.sessions.push(session);
                self.sessions.len() - 1
            }
        };
        let session = self.sessions[index];
        push_hex(key, session.id);
        self.view(&session, at_ms, key, out);
        match self.site.step(&mut self.dice, session.page) {
            Some((element, page)) => {
                let next = &mut self.sessions[index];
                next.referrer = Referrer::Page(session.page);
                (next.element, next.page) = (Some(element), page);
            }
            None => {
                self.sessions.swap_remove(index);
            }
        }
    }

    fn arrive(&mut self) -> Session {
        let dice = &mut self.dice;
        Session {
            id: dice.long(),
            device: DEVICES[dice.pick(&self.devices)].0,
            region: dice.pick(&self.regions),
            referrer: Referrer::Origin(ORIGINS[dice.pick(&self.origins)].0),
            // Search engines and social networks also lead straight to a product.
            page: match dice.below(10) {
                0..=4 => Page::Home,
                5..=7 => self.site.product(dice, None),
                8 => self.site.category(dice),
                _ => Page::Promotions,
            },
            element: None,
        }
    }

    fn view(&mut self, session: &Session, at_ms: i64, id: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"event_id\":\"");
        push_uuid(out, self.dice.long(), self.dice.long());
        out.extend_from_slice(b"\",\"occurred_at\":\"");
        self.stamp.push(out, at_ms);
        out.extend_from_slice(b"\",\"session_id\":\"");
        out.extend_from_slice(id);
        out.extend_from_slice(b"\",\"page\":\"");
        out.extend_from_slice(self.site.path(session.page).as_bytes());
        let referrer = match session.referrer {
            Referrer::Origin(origin) => origin,
            Referrer::Page(page) => Some(self.site.path(page)),
        };
        push_optional(out, b"\",\"referrer\":", referrer);
        push_optional(out, b",\"element\":", session.element);
        out.extend_from_slice(b",\"device\":\"");
        out.extend_from_slice(session.device.as_bytes());
        out.extend_from_slice(b"\",\"region\":\"");
        out.extend_from_slice(REGIONS[session.region].0.as_bytes());
        out.extend_from_slice(b"\"}");
    }
}

fn push_optional(out: &mut Vec<u8>, name: &[u8], value: Option<&str>) {
    out.extend_from_slice(name);
    match value {
        None => out.extend_from_slice(b"null"),
        Some(text) => {
            out.push(b'"');
            out.extend_from_slice(text.as_bytes());
            out.push(b'"');
        }
    }
}

/// The site's pages and the ways between them.
struct Site {
    categories: Vec<String>,
    products: Vec<String>,
    /// Category of each product.
    shelf: Vec<usize>,
    popularity: Weights,
    category_weights: Weights,
}

impl Site {
    fn new() -> Self {
        let products = products();
        Self {
            categories: CATEGORIES
                .iter()
                .map(|(name, _)| format!("/categorie/{}", slug(name)))
                .collect(),
            shelf: products.iter().map(|p| p.category).collect(),
            popularity: Weights::new(popularity(products.len())),
            category_weights: Weights::new((0..CATEGORIES.len() as u32).map(|i| 20 - i)),
            products: products.iter().map(|p| format!("/produit/{}", slug(p.name))).collect(),
        }
    }

    fn path(&self, page: Page) -> &str {
        match page {
            Page::Home => "/",
            Page::Promotions => "/promotions",
            Page::Search => "/recherche",
            Page::Account => "/compte",
            Page::Help => "/aide",
            Page::Category(i) => &self.categories[i],
            Page::Product(i) => &self.products[i],
            Page::Cart => "/panier",
            Page::Delivery => "/commande/livraison",
            Page::Payment => "/commande/paiement",
            Page::Confirmation => "/commande/confirmation",
        }
    }

    /// The link a visitor of this page follows; `None` when the visit ends.
    fn step(&self, dice: &mut Dice, page: Page) -> Option<(&'static str, Page)> {
        let choices = choices(page);
        let mut point = dice.below(choices.iter().map(|(_, _, weight)| weight).sum());
        let (element, link, _) = choices.iter().find(|(_, _, weight)| {
            let found = point < *weight;
            point = point.wrapping_sub(*weight);
            found
        })?;
        let next = match (link, page) {
            (Link::Away, _) => return None,
            (Link::To(next), _) => *next,
            (Link::Upwards, Page::Product(i)) => Page::Category(self.shelf[i]),
            (Link::Upwards | Link::Categories, _) => self.category(dice),
            (Link::Products, Page::Category(category)) => self.product(dice, Some(category)),
            (Link::Products, Page::Product(i)) => self.product(dice, Some(self.shelf[i])),
            (Link::Products, _) => self.product(dice, None),
        };
        Some((element, next))
    }

    fn category(&self, dice: &mut Dice) -> Page {
        Page::Category(dice.pick(&self.category_weights))
    }

    fn product(&self, dice: &mut Dice, category: Option<usize>) -> Page {
        match category {
            None => Page::Product(dice.pick(&self.popularity)),
            // The better of two draws, so that a shelf has its favourites too.
            Some(category) => {
                let shelf = CATEGORIES[category].1.len() as u32;
                let nth = dice.below(shelf).min(dice.below(shelf)) as usize;
                Page::Product(category * CATEGORIES[category].1.len() + nth)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use serde_json::Value;

    use super::*;

    /// 2025-12-03T14:00:00Z
    const AT: i64 = 1_764_770_400_000;

    fn texts(seed: u64, count: usize) -> Vec<String> {
        let mut clicks = Clicks::new(seed, 10.0);
        let one = |i| {
            let (mut out, mut key) = (Vec::new(), Vec::new());
            clicks.write(AT + i as i64 * 100, &mut out, &mut key);
            let text = String::from_utf8(out).expect("UTF-8");
            let key = String::from_utf8(key).expect("ascii");
            assert!(
                text.contains(&format!("\"session_id\":\"{key}\"")),
                "the key is the session"
            );
            text
        };
        (0..count).map(one).collect()
    }

    fn views(seed: u64, count: usize) -> Vec<Value> {
        texts(seed, count)
            .iter()
            .map(|t| serde_json::from_str(t).expect("JSON"))
            .collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        assert_eq!(texts(42, 1_000), texts(42, 1_000));
        assert_ne!(texts(42, 1), texts(43, 1));
        insta::assert_snapshot!(texts(42, 3).join("\n"), @r#"
        {"event_id":"d35fa509-9687-4be2-9138-9694140352a9","occurred_at":"2025-12-03T14:00:00.000Z","session_id":"169df72b59273471","page":"/produit/diffuseur-d-huiles-essentielles","referrer":"https://www.google.fr/","element":null,"device":"mobile","region":"Nouvelle-Aquitaine"}
        {"event_id":"f3baeef7-983e-4cab-944e-e57fd39e9aad","occurred_at":"2025-12-03T14:00:00.100Z","session_id":"443ab608768ddef1","page":"/produit/lentilles-vertes-du-puy-500-g","referrer":null,"element":null,"device":"mobile","region":"Occitanie"}
        {"event_id":"fa040753-3182-4303-9b3b-d23493803f10","occurred_at":"2025-12-03T14:00:00.200Z","session_id":"42a2251380be96b9","page":"/","referrer":"https://www.google.fr/","element":null,"device":"mobile","region":"Grand Est"}
        "#);
    }

    #[test]
    fn every_step_starts_where_the_last_one_ended() {
        let mut at: HashMap<String, (String, String)> = HashMap::new();
        let mut steps = 0;
        for view in views(1, 20_000) {
            let text = |field: &str| view[field].as_str().map(str::to_owned);
            let (session, page) = (text("session_id").expect("text"), text("page").expect("text"));
            let region = text("region").expect("text");
            match at.insert(session, (page, region.clone())) {
                // An arrival comes from outside, or from nowhere.
                None => {
                    assert!(text("referrer").is_none_or(|r| r.starts_with("https://")), "{view}");
                    assert_eq!(text("element"), None);
                }
                Some((before, home)) => {
                    assert_eq!(text("referrer"), Some(before));
                    assert!(text("element").is_some());
                    assert_eq!(region, home, "a visitor stays in one region");
                    steps += 1;
                }
            }
        }
        let sessions = at.len();
        assert!(steps > 2 * sessions, "{sessions} sessions make {steps} steps");
    }

    #[test]
    fn an_order_is_confirmed_only_after_its_payment() {
        let before = |page: &str, referrer: &str| {
            let views = views(2, 50_000);
            let mut arrivals = views.iter().filter(|v| v["page"] == page).peekable();
            assert!(arrivals.peek().is_some(), "{page} is visited");
            assert!(arrivals.all(|v| v["referrer"] == referrer));
        };
        before("/commande/confirmation", "/commande/paiement");
        let pages: HashSet<String> = views(2, 50_000).iter().map(|v| v["page"].to_string()).collect();
        assert!(pages.len() > 200, "{} pages are seen", pages.len());
    }
}
