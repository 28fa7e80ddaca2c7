//! What becomes of each odd record: the table that the tests prove and that `docs/records.md` repeats.
//!
//! Values are written as every reader sees them: a timestamp in UTC with what the lake keeps (MongoDB keeps the
//! milliseconds of it), a decimal with its declared scale, `null` where there is none.

use crate::topic::Record;

/// The declared fields of the stream that takes these records, in a form both configuration and docs show.
pub const FIELDS: &[(&str, &str)] = &[
    ("at", r#"type = "timestamp", required = true"#),
    ("site", r#"type = "string""#),
    ("note", r#"type = "string""#),
    ("n", r#"type = "long""#),
    ("d", r#"type = "double""#),
    ("m", r#"type = "decimal(18,2)""#),
    ("big", r#"type = "decimal(34,10)""#),
    ("day", r#"type = "date""#),
    ("ms", r#"type = "timestamp", unit = "ms""#),
];

/// Where the lake's calendar days begin.
pub const TIMEZONE: &str = "Europe/Paris";

/// The stream's `max_record_bytes`: above MongoDB's limit, so that both limits can be met.
pub const MAX_RECORD_BYTES: usize = 24 << 20;

/// MongoDB's limit of one document.
const MAX_DOCUMENT_BYTES: usize = 16 << 20;

/// When a record that says nothing about it happened.
const AT: &str = "2026-01-01T12:00:00Z";

#[derive(Clone, Debug)]
pub enum Outcome {
    /// Stored in both sinks with these values.
    Stored(Vec<(&'static str, String)>),
    /// A dead letter with this code.
    Letter(&'static str),
}

#[derive(Clone, Debug)]
pub struct Case {
    /// Heading of the table it stands in.
    pub group: &'static str,
    /// The record for people.
    pub what: String,
    pub record: Record,
    pub outcome: Outcome,
}

pub fn all() -> Vec<Case> {
    let mut table = Table::default();
    json(&mut table);
    texts(&mut table);
    numbers(&mut table);
    times(&mut table);
    partitions(&mut table);
    envelopes(&mut table);
    sizes(&mut table);
    table.cases
}

#[derive(Default)]
struct Table {
    group: &'static str,
    cases: Vec<Case>,
}

impl Table {
    fn case(&mut self, what: impl Into<String>, payload: impl Into<Vec<u8>>, outcome: Outcome) {
        self.record(what, Record::new(payload), outcome);
    }

    fn record(&mut self, what: impl Into<String>, record: Record, outcome: Outcome) {
        self.cases.push(Case {
            group: self.group,
            what: what.into(),
            record,
            outcome,
        });
    }

    /// A record that is good but for this member.
    fn member(&mut self, member: &str, outcome: Outcome) {
        self.case(format!("`{member}`"), with(member), outcome);
    }

    /// A record that happened at this instant.
    fn at(&mut self, at: &str, outcome: Outcome) {
        self.case(format!("`\"at\":\"{at}\"`"), format!(r#"{{"at":"{at}"}}"#), outcome);
    }

    /// A good record whose members are stored as they are.
    fn stored(&mut self, member: &str, field: &'static str, value: &str) {
        self.member(member, stored(field, value));
    }

    fn letters(&mut self, code: &'static str, members: &[&str]) {
        for member in members {
            self.member(member, Outcome::Letter(code));
        }
    }
}

fn with(member: &str) -> String {
    format!(r#"{{"at":"{AT}",{member}}}"#)
}

fn stored(field: &'static str, value: &str) -> Outcome {
    Outcome::Stored(vec![(field, value.to_owned())])
}

fn json(table: &mut Table) {
    table.group = "JSON";
    let invalid = || Outcome::Letter("invalid_json");
    let good = with(r#""n":1"#);
    for (what, payload) in [
        ("an empty payload", ""),
        ("white space only", " \n"),
        ("`null`", "null"),
        ("an array at the top", "[]"),
        ("a number at the top", "1"),
        ("a string at the top", "\"x\""),
        ("`true` at the top", "true"),
        ("a cut-off record", r#"{"at":"2026-01-01T12"#),
        ("`NaN` as a number", r#"{"at":"2026-01-01T12:00:00Z","d":NaN}"#),
        (
            "`Infinity` as a number",
            r#"{"at":"2026-01-01T12:00:00Z","d":-Infinity}"#,
        ),
        ("a comma before the closing brace", r#"{"at":"2026-01-01T12:00:00Z",}"#),
        ("a comment", r#"{"at":"2026-01-01T12:00:00Z"/**/}"#),
    ] {
        table.case(what, payload, invalid());
    }
    for (what, before, after) in [
        ("a byte order mark before the record", "\u{feff}", ""),
        ("garbage behind the record", "", "x"),
        ("a NUL byte behind the record", "", "\0"),
        ("a second record behind the record", "", "{}"),
        ("a comma behind the record", "", ","),
    ] {
        table.case(what, format!("{before}{good}{after}"), invalid());
    }
    table.case(
        "white space around the record",
        format!(" \r\n{good}\t"),
        stored("n", "1"),
    );
    table.case(
        "no member but the required one",
        format!(r#"{{"at":"{AT}"}}"#),
        stored("note", "null"),
    );
    table.case("an empty object", "{}", Outcome::Letter("missing_field"));
    table.member(r#""at":null"#, Outcome::Letter("missing_field"));
    table.stored(r#""n":1,"n":2"#, "n", "2");
    table.stored(r#""n":"one","n":2"#, "n", "2");
    table.stored(r#""n":1,"n":null"#, "n", "null");
    table.member(r#""n":1,"n":"two""#, Outcome::Letter("wrong_type"));
    table.stored(r#""N":1,"unknown":{"n":2}"#, "n", "null");
    for (levels, outcome) in [
        (64, stored("note", "deep")),
        (65, Outcome::Letter("too_deep")),
        (10_000, Outcome::Letter("too_deep")),
        (1_000_000, Outcome::Letter("too_deep")),
    ] {
        // The record itself is the first level.
        let nested = "[".repeat(levels - 1) + &"]".repeat(levels - 1);
        let payload = with(&format!(r#""note":"deep","unknown":{nested}"#));
        table.case(
            format!("{levels} levels of nesting, the record included"),
            payload,
            outcome,
        );
    }
    table.case(
        "1,000,000 opening braces with a key each and nothing else",
        "{\"n\":".repeat(1_000_000),
        Outcome::Letter("too_deep"),
    );
    table.case(
        "1,000,000 opening brackets and nothing else: no object, before it is deep",
        "[".repeat(1_000_000),
        invalid(),
    );
    let members: Vec<String> = (0..1_000_000).map(|key| format!("\"k{key}\":{key}")).collect();
    let million = with(&format!("{},\"note\":\"last of a million\"", members.join(",")));
    table.case(
        "a million keys nobody declared",
        million,
        stored("note", "last of a million"),
    );
}

fn texts(table: &mut Table) {
    table.group = "Strings";
    table.stored(r#""note":"""#, "note", "");
    table.stored(r#""note":"a\u0000b""#, "note", "a\0b");
    table.stored(r#""note":"\ud83d\ude00""#, "note", "😀");
    table.stored(r#""note":"\u001b[31m\r\n""#, "note", "\u{1b}[31m\r\n");
    table.stored(r#""note":"$where.a.b""#, "note", "$where.a.b");
    table.letters(
        "invalid_json",
        &[
            r#""note":"\ud800""#,
            r#""note":"\ude00\ud83d""#,
            r#""unknown":"\ud800""#,
            r#""\ud800":1"#,
            r#""note":"\x41""#,
        ],
    );
    for (what, bytes) in [
        ("a NUL byte in a string", &b"a\0b"[..]),
        ("a line feed in a string", b"a\nb"),
        ("bytes that are no UTF-8 in a string", b"\xff\xfe"),
        ("a surrogate as UTF-8 in a string", b"\xed\xa0\x80"),
        ("an overlong form as UTF-8 in a string", b"\xc0\xaf"),
    ] {
        let mut payload = format!(r#"{{"at":"{AT}","note":""#).into_bytes();
        payload.extend_from_slice(bytes);
        payload.extend_from_slice(b"\"}");
        table.case(what, payload, Outcome::Letter("invalid_json"));
    }
    table.letters(
        "wrong_type",
        &[r#""note":1"#, r#""note":true"#, r#""note":["a"]"#, r#""note":{"a":1}"#],
    );
}

fn numbers(table: &mut Table) {
    table.group = "Numbers";
    table.stored(r#""n":9223372036854775807"#, "n", "9223372036854775807");
    table.stored(r#""n":-9223372036854775808"#, "n", "-9223372036854775808");
    table.stored(r#""n":-0"#, "n", "0");
    table.stored(r#""n":5.0"#, "n", "5");
    table.stored(r#""n":5e2"#, "n", "500");
    table.stored(r#""n":"12""#, "n", "12");
    table.letters(
        "out_of_range",
        &[
            r#""n":9223372036854775808"#,
            r#""n":-9223372036854775809"#,
            r#""n":1.5"#,
            r#""n":1e400"#,
            r#""n":1e-400"#,
        ],
    );
    table.letters(
        "wrong_type",
        &[r#""n":"""#, r#""n":" 1""#, r#""n":"NaN""#, r#""n":true"#, r#""n":[1]"#],
    );
    table.letters("invalid_json", &[r#""n":01"#, r#""n":+1"#, r#""n":.5"#, r#""n":0x10"#]);

    table.stored(r#""d":-0"#, "d", "-0.0");
    table.stored(r#""d":0.1"#, "d", "0.1");
    table.stored(r#""d":1e-400"#, "d", "0.0");
    table.stored(r#""d":1.7976931348623157e308"#, "d", "1.7976931348623157e+308");
    table.letters("out_of_range", &[r#""d":1e400"#, r#""d":-1e400"#]);
    table.letters("wrong_type", &[r#""d":"NaN""#, r#""d":"Infinity""#]);

    table.stored(r#""m":-0"#, "m", "0.00");
    table.stored(r#""m":1.50"#, "m", "1.50");
    table.stored(r#""m":1.500"#, "m", "1.50");
    table.stored(r#""m":15e-1"#, "m", "1.50");
    table.stored(r#""m":9999999999999999.99"#, "m", "9999999999999999.99");
    table.stored(
        r#""big":123456789012345678901234.5678901234"#,
        "big",
        "123456789012345678901234.5678901234",
    );
    table.letters(
        "out_of_range",
        &[
            r#""m":1.505"#,
            r#""m":10000000000000000"#,
            r#""m":123456789012345678901234567890"#,
            r#""big":0.00000000001"#,
            r#""m":1e400"#,
        ],
    );
}

fn times(table: &mut Table) {
    table.group = "Times";
    let at = |instant: &str, date: &str| Outcome::Stored(vec![("at", instant.to_owned()), ("date", date.to_owned())]);
    let never = || Outcome::Letter("invalid_timestamp");
    table.at(
        "2026-01-01T12:00:00.123456789Z",
        at("2026-01-01T12:00:00.123456Z", "2026-01-01"),
    );
    table.at(
        "1969-12-31T23:59:59.999999Z",
        at("1969-12-31T23:59:59.999999Z", "1970-01-01"),
    );
    table.at("0001-01-01T00:00:00Z", at("0001-01-01T00:00:00Z", "0001-01-01"));
    table.at(
        "9999-12-31T22:59:59.999999Z",
        at("9999-12-31T22:59:59.999999Z", "9999-12-31"),
    );
    // A day later in Paris, which is a year too many.
    table.at("9999-12-31T23:00:00Z", never());
    for bad in [
        "0000-12-31T23:59:59Z",
        "0001-01-01T00:00:00+01:00",
        "10000-01-01T00:00:00Z",
        "2026-01-01T23:59:60Z",
        "2026-01-01T24:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-01-01T12:00:00",
        "2026-01-01 12:00:00Z",
        "2026-01-01",
        "",
    ] {
        table.at(bad, never());
    }
    table.case("`\"at\":1767268800000`", r#"{"at":1767268800000}"#, never());
    table.case("`\"at\":true`", r#"{"at":true}"#, Outcome::Letter("wrong_type"));

    // Around the change to summer time, 2026-03-29 at 01:00 UTC: 02:00–03:00 does not exist in Paris.
    table.at("2026-03-28T22:59:59Z", at("2026-03-28T22:59:59Z", "2026-03-28"));
    table.at("2026-03-28T23:00:00Z", at("2026-03-28T23:00:00Z", "2026-03-29"));
    table.at("2026-03-29T02:30:00+01:00", at("2026-03-29T01:30:00Z", "2026-03-29"));
    table.at("2026-03-29T21:59:59Z", at("2026-03-29T21:59:59Z", "2026-03-29"));
    table.at("2026-03-29T22:00:00Z", at("2026-03-29T22:00:00Z", "2026-03-30"));
    // And back, 2026-10-25 at 01:00 UTC: 02:00–03:00 comes twice.
    table.at("2026-10-24T21:59:59Z", at("2026-10-24T21:59:59Z", "2026-10-24"));
    table.at("2026-10-24T22:00:00Z", at("2026-10-24T22:00:00Z", "2026-10-25"));
    table.at("2026-10-25T02:30:00+02:00", at("2026-10-25T00:30:00Z", "2026-10-25"));
    table.at("2026-10-25T02:30:00+01:00", at("2026-10-25T01:30:00Z", "2026-10-25"));
    table.at("2026-10-25T22:59:59Z", at("2026-10-25T22:59:59Z", "2026-10-25"));
    table.at("2026-10-25T23:00:00Z", at("2026-10-25T23:00:00Z", "2026-10-26"));

    table.stored(r#""ms":-1"#, "ms", "1969-12-31T23:59:59.999Z");
    table.stored(r#""ms":"1767268800000""#, "ms", "2026-01-01T12:00:00Z");
    table.stored(r#""ms":"2026-01-01T12:00:00Z""#, "ms", "2026-01-01T12:00:00Z");
    table.stored(r#""ms":253402300799999"#, "ms", "9999-12-31T23:59:59.999Z");
    table.letters(
        "invalid_timestamp",
        &[r#""ms":253402300800000"#, r#""ms":-62135596800001"#, r#""ms":1e400"#],
    );
    table.stored(r#""day":"0001-01-01""#, "day", "0001-01-01");
    table.stored(r#""day":"9999-12-31""#, "day", "9999-12-31");
    table.letters(
        "invalid_timestamp",
        &[r#""day":"0000-01-01""#, r#""day":"2026-02-29""#, r#""day":"2026-1-1""#],
    );
}

fn partitions(table: &mut Table) {
    table.group = "Partition columns";
    table.stored(r#""site":"""#, "site", "null");
    table.stored(r#""site":"null""#, "site", "null (the text)");
    table.member(
        r#""site":"__HIVE_DEFAULT_PARTITION__""#,
        Outcome::Letter("invalid_partition_value"),
    );
    for site in ["a/b", "..", "a=b&c", "100 %", "Île-de-France", "😀", "a+b", "a:b", " "] {
        table.stored(&format!(r#""site":"{site}""#), "site", site);
    }
    table.stored(r#""site":"a\u0000b""#, "site", "a\0b");
    table.stored(r#""site":"a\nb""#, "site", "a\nb");
    let longest = "x".repeat(255 - "site=".len());
    table.case(
        "a `site` of 250 letters",
        with(&format!(r#""site":"{longest}""#)),
        stored("site", &longest),
    );
    table.case(
        "a `site` of 251 letters",
        with(&format!(r#""site":"{longest}x""#)),
        Outcome::Letter("invalid_partition_value"),
    );
}

fn envelopes(table: &mut Table) {
    table.group = "Around the payload";
    let binary = || Record {
        key: Some(b"\x00\xff\xfe".to_vec()),
        headers: vec![
            ("trace".to_owned(), Some(b"\xff\x00".to_vec())),
            ("trace".to_owned(), None),
            (String::new(), Some(Vec::new())),
        ],
        ..Record::new(with(r#""n":1"#))
    };
    table.record(
        "a binary key, binary, empty and null headers",
        binary(),
        stored("n", "1"),
    );
    let bad = Record {
        value: Some(b"\xff".to_vec()),
        ..binary()
    };
    table.record(
        "the same around a payload that is no JSON",
        bad,
        Outcome::Letter("invalid_json"),
    );
    table.record(
        "no payload (a tombstone)",
        Record::tombstone(),
        Outcome::Letter("null_payload"),
    );
}

fn sizes(table: &mut Table) {
    table.group = "Sizes";
    let note = |bytes: usize| with(&format!(r#""note":"{}""#, "x".repeat(bytes)));
    // What a document takes besides its texts is judged by an upper bound, a kilobyte or so too high.
    let below = MAX_DOCUMENT_BYTES - 2_000;
    table.case(
        "a document just below 16 MiB",
        note(below),
        stored("note", &"x".repeat(below)),
    );
    table.case(
        "a document just over 16 MiB",
        note(MAX_DOCUMENT_BYTES),
        Outcome::Letter("too_large"),
    );
    table.case(
        "a string of 20 MB in a declared field",
        note(20_000_000),
        Outcome::Letter("too_large"),
    );
    let unknown = with(&format!(r#""note":"beside","unknown":"{}""#, "x".repeat(20_000_000)));
    table.case(
        "a string of 20 MB in a field nobody declared",
        unknown,
        stored("note", "beside"),
    );
    let over = with(&format!(r#""unknown":"{}""#, "x".repeat(MAX_RECORD_BYTES)));
    table.case("a payload over `max_record_bytes`", over, Outcome::Letter("too_large"));
}
