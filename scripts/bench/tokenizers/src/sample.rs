//! The records: affluent's sample of sales, and records of a kilobyte with texts as logs and reviews have them.
//!
//! Owns: the payloads and the declared names, in the order in which records have them.

use crate::sales::Sales;

const RECORDS: usize = 15_000;
/// 2026-01-01T00:00Z, milliseconds since 1970.
const START_MS: i64 = 1_767_225_600_000;

pub struct Sample {
    pub what: &'static str,
    pub names: Vec<String>,
    pub payloads: Vec<Vec<u8>>,
}

pub fn all() -> [Sample; 2] {
    [sales(), texts()]
}

fn sales() -> Sample {
    let mut sales = Sales::new(7);
    let payload = |n: usize| {
        let mut payload = Vec::new();
        sales.write(START_MS + n as i64 * 240, &mut payload);
        payload
    };
    let names = [
        "sale_id",
        "sold_at",
        "product",
        "category",
        "region",
        "quantity",
        "unit_price",
        "amount",
        "customer_id",
        "channel",
    ];
    Sample {
        what: "sales",
        names: names.map(str::to_owned).to_vec(),
        payloads: (0..RECORDS).map(payload).collect(),
    }
}

/// Four texts of 200 characters, one of them with a line break in it, and two numbers.
fn texts() -> Sample {
    let sentence = "Le tribut de la rivière se jette dans le fleuve, et le fleuve le porte à la mer sans en perdre. ";
    let text = |length: usize| -> String { sentence.chars().cycle().take(length).collect() };
    let payload = |n: usize| {
        let (a, b) = (text(200), text(150 + n % 50));
        format!(
            r#"{{"id":{n},"title":"{a}","body":"{a}\n{b}","answer":"{b}","place":"{a}","score":{}.{:02}}}"#,
            n % 97,
            n % 100
        )
    };
    let names = ["id", "title", "body", "answer", "place", "score"];
    Sample {
        what: "texts",
        names: names.map(str::to_owned).to_vec(),
        payloads: (0..RECORDS).map(|n| payload(n).into_bytes()).collect(),
    }
}
