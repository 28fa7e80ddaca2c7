//! Sales of the sample shop.
//!
//! Owns: one sale's fields and how they depend on each other: a customer stays in one region, dear things are
//! bought one at a time, and `amount` is exactly `quantity × unit_price`.
//! Does not own: event times (`season`), products and regions (`catalogue`).

use super::catalogue::{CATEGORIES, Product, REGIONS, popularity, products};
use super::dice::{Dice, Sequence, Weights};
use super::text::{Stamp, push_cents, push_number, push_uuid};

/// Where sales happen, with their frequencies.
const CHANNELS: [(&str, u32); 4] = [("boutique", 48), ("web", 34), ("mobile", 15), ("téléphone", 3)];

/// How often 1, 2, 3 … pieces are bought at once.
const QUANTITIES: [u32; 6] = [62, 21, 8, 5, 2, 2];

/// From this list price on hardly anybody buys two.
const DEAR_CENTS: u32 = 10_000;

/// One sale in eight is discounted by one of these.
const DISCOUNT_PERCENTS: [u32; 5] = [5, 10, 15, 20, 30];

pub(super) struct Sales {
    dice: Dice,
    stamp: Stamp,
    products: Vec<Product>,
    popularity: Weights,
    regions: Weights,
    channels: Weights,
    quantities: Weights,
}

impl Sales {
    pub(super) fn new(seed: u64) -> Self {
        let products = products();
        Self {
            dice: Dice::new(seed, Sequence::Records),
            stamp: Stamp::default(),
            popularity: Weights::new(popularity(products.len())),
            products,
            regions: Weights::new(REGIONS.map(|(_, people)| people)),
            channels: Weights::new(CHANNELS.map(|(_, share)| share)),
            quantities: Weights::new(QUANTITIES),
        }
    }

    /// Writes the next sale, which happened at `at_ms`, as one JSON object.
    pub(super) fn write(&mut self, at_ms: i64, out: &mut Vec<u8>) {
        let dice = &mut self.dice;
        let (id_high, id_low) = (dice.long(), dice.long());
        let product = self.products[dice.pick(&self.popularity)];
        let region = dice.pick(&self.regions);
        let customer = customer(dice, REGIONS[region].1);
        let quantity = quantity(dice, &self.quantities, product.cents);
        let unit_cents = unit_cents(dice, product.cents);
        let channel = CHANNELS[dice.pick(&self.channels)].0;

        out.extend_from_slice(b"{\"sale_id\":\"");
        push_uuid(out, id_high, id_low);
        out.extend_from_slice(b"\",\"sold_at\":\"");
        self.stamp.push(out, at_ms);
        out.extend_from_slice(b"\",\"product\":\"");
        out.extend_from_slice(product.name.as_bytes());
        out.extend_from_slice(b"\",\"category\":\"");
        out.extend_from_slice(CATEGORIES[product.category].0.as_bytes());
        out.extend_from_slice(b"\",\"region\":\"");
        out.extend_from_slice(REGIONS[region].0.as_bytes());
        out.extend_from_slice(b"\",\"quantity\":");
        push_number(out, quantity, 1);
        out.extend_from_slice(b",\"unit_price\":");
        push_cents(out, unit_cents);
        out.extend_from_slice(b",\"amount\":");
        push_cents(out, quantity * unit_cents);
        out.extend_from_slice(b",\"customer_id\":\"C");
        push_number(out, region as u64 + 1, 2);
        push_number(out, customer, 6);
        out.extend_from_slice(b"\",\"channel\":\"");
        out.extend_from_slice(channel.as_bytes());
        out.extend_from_slice(b"\"}");
    }
}

/// A customer's number within the region: one inhabitant in 250 is a customer, and low numbers come often.
fn customer(dice: &mut Dice, thousands: u32) -> u64 {
    let latest = dice.below(thousands * 4) + 1;
    u64::from(dice.below(latest)) + 1
}

fn quantity(dice: &mut Dice, quantities: &Weights, list_cents: u32) -> u64 {
    if list_cents >= DEAR_CENTS {
        return if dice.percent(4) { 2 } else { 1 };
    }
    dice.pick(quantities) as u64 + 1
}

/// The list price, sometimes discounted and then rounded half up to the cent.
fn unit_cents(dice: &mut Dice, list_cents: u32) -> u64 {
    let discount = if dice.below(8) == 0 {
        *dice.one_of(&DISCOUNT_PERCENTS)
    } else {
        0
    };
    u64::from((list_cents * (100 - discount) + 50) / 100)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;

    /// 2025-12-03T14:00:00Z
    const AT: i64 = 1_764_770_400_000;

    fn texts(seed: u64, count: usize) -> Vec<String> {
        let mut sales = Sales::new(seed);
        let one = |i| {
            let mut out = Vec::new();
            sales.write(AT + i as i64 * 1_234, &mut out);
            String::from_utf8(out).expect("UTF-8")
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        assert_eq!(texts(42, 1_000), texts(42, 1_000));
        assert_ne!(texts(42, 1), texts(43, 1));
        insta::assert_snapshot!(texts(42, 3).join("\n"), @r#"
        {"sale_id":"59273471-198f-4887-8923-8aa4169df72b","sold_at":"2025-12-03T14:00:00.000Z","product":"Porte-manteau en frêne","category":"Maison","region":"Occitanie","quantity":1,"unit_price":59.90,"amount":59.90,"customer_id":"C04005336","channel":"boutique"}
        {"sale_id":"29bfaecb-1138-4694-b68d-def17d706ac4","sold_at":"2025-12-03T14:00:01.234Z","product":"Bouilloire électrique 1,7 l","category":"Cuisine","region":"Auvergne-Rhône-Alpes","quantity":2,"unit_price":42.42,"amount":84.84,"customer_id":"C02003878","channel":"mobile"}
        {"sale_id":"144ee57f-d39e-4aad-a3a0-9417527046bb","sold_at":"2025-12-03T14:00:02.468Z","product":"Taille-haie sans fil","category":"Jardin","region":"Bourgogne-Franche-Comté","quantity":1,"unit_price":129.00,"amount":129.00,"customer_id":"C11001459","channel":"boutique"}
        "#);
    }

    #[test]
    fn regions_sell_by_their_population() {
        let mut counts: BTreeMap<String, f64> = BTreeMap::new();
        let count = 50_000;
        for text in texts(7, count) {
            let sale: Value = serde_json::from_str(&text).expect("JSON");
            *counts
                .entry(sale["region"].as_str().expect("text").to_owned())
                .or_default() += 1.0;
        }
        let people: u32 = REGIONS.iter().map(|(_, p)| p).sum();
        for (region, thousands) in REGIONS {
            let (share, expected) = (counts[region] / count as f64, f64::from(thousands) / f64::from(people));
            assert!(
                (share - expected).abs() < 0.01,
                "{region}: {share} instead of {expected}"
            );
        }
    }

    /// A price's cents, read from the bytes between the field's name and the next comma.
    fn cents(text: &str, field: &str) -> u64 {
        let (_, rest) = text.split_once(&format!("\"{field}\":")).expect("the field");
        let (number, _) = rest.split_once(',').expect("not the last field");
        let (whole, part) = number.split_once('.').expect("a decimal");
        assert_eq!(part.len(), 2, "{number}");
        whole.parse::<u64>().expect("digits") * 100 + part.parse::<u64>().expect("digits")
    }

    #[test]
    fn an_amount_is_exactly_quantity_times_unit_price() {
        for text in texts(3, 5_000) {
            let sale: Value = serde_json::from_str(&text).expect("JSON");
            let quantity = sale["quantity"].as_u64().expect("a long");
            assert_eq!(cents(&text, "amount"), quantity * cents(&text, "unit_price"), "{text}");
            assert!((1..=6).contains(&quantity));
        }
    }

    #[test]
    fn a_record_has_about_240_bytes_and_an_id_of_its_own() {
        let texts = texts(5, 10_000);
        let mean = texts.iter().map(String::len).sum::<usize>() / texts.len();
        assert!((230..=270).contains(&mean), "{mean}");
        let ids: std::collections::HashSet<&str> = texts.iter().map(|t| &t[..50]).collect();
        assert_eq!(ids.len(), texts.len());
    }
}
