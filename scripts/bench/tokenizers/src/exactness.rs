//! Odd payloads, and which tokenizer makes of them what affluent's does.
//!
//! Owns: the payloads. `v` is declared; everything else is not, and has to be well-formed all the same. What affluent's
//! tokenizer says is the standard here; its own tests hold it against serde_json.

use std::process::{Command, Stdio};

use crate::contestants::{Tokenizer, all};
use crate::json::{Token, Tokens};
use crate::plain;

/// Payloads whose number must come out character for character.
const NUMBERS: [&str; 13] = [
    r#"{"v":1.005}"#,
    r#"{"v":1.10}"#,
    r#"{"v":-0}"#,
    r#"{"v":-0.0}"#,
    r#"{"v":1e400}"#,
    r#"{"v":1E-400}"#,
    r#"{"v":9223372036854775808}"#,
    r#"{"v":9007199254740993.5}"#,
    r#"{"v":0.1000000000000000055511151231257827}"#,
    r#"{"v":123456789012345678901234567890123456.78}"#,
    r#"{"v":1,"v":2.50}"#,
    r#"{"v":"1","v":2.50}"#,
    r#"{"\u0076":2.50}"#,
];

/// Payloads that are no JSON (RFC 8259), or whose texts are no Unicode, by what is wrong with them.
const BROKEN: [(&str, &[u8]); 21] = [
    ("leading zero", br#"{"v":01}"#),
    ("plus sign", br#"{"v":+1}"#),
    ("bare fraction", br#"{"v":.5}"#),
    ("bare point", br#"{"v":1.}"#),
    ("bare exponent", br#"{"v":1e}"#),
    ("NaN", br#"{"v":NaN}"#),
    ("infinity", br#"{"v":-Infinity}"#),
    ("control character", b"{\"v\":\"a\nb\"}"),
    ("unknown escape", br#"{"v":"\x"}"#),
    ("lone surrogate", br#"{"v":"\ud800"}"#),
    ("no UTF-8", b"{\"v\":\"\xff\"}"),
    ("byte order mark", b"\xef\xbb\xbf{\"v\":1}"),
    ("comma at the end", br#"{"v":1,}"#),
    ("garbage behind", br#"{"v":1}x"#),
    ("two values", br#"{"v":1}{"v":2}"#),
    ("no object", br#"[1]"#),
    ("undeclared: number", br#"{"u":[01],"v":1}"#),
    ("undeclared: surrogate", br#"{"u":["\ud800"],"v":1}"#),
    ("undeclared: escape", br#"{"u":{"w":"\x"},"v":1}"#),
    ("undeclared: no UTF-8", b"{\"u\":\"\xff\",\"v\":1}"),
    ("undeclared: key", br#"{"\ud800":1,"v":1}"#),
];

/// Levels of nesting, the record's own included, up to which it is tried.
const DEEPEST: usize = 100_000;

/// Per tokenizer, what it makes otherwise.
pub fn report() {
    let names = ["v".to_owned()];
    println!(
        "exactness: {} numbers by their text, {} payloads to be refused, nesting to be refused from 65 levels",
        NUMBERS.len(),
        BROKEN.len()
    );
    let mut affluent = all(&names).swap_remove(0);
    for contestant in &mut all(&names) {
        let lost = NUMBERS.into_iter().filter(|payload| {
            let ours = number(affluent.as_mut(), payload);
            assert!(ours.is_some(), "affluent refuses {payload}");
            ours != number(contestant.as_mut(), payload)
        });
        let lost: Vec<&str> = lost.collect();
        let taken = BROKEN.into_iter().filter(|(what, payload)| {
            assert!(!takes(affluent.as_mut(), payload), "affluent takes: {what}");
            takes(contestant.as_mut(), payload)
        });
        let taken: Vec<&str> = taken.map(|(what, _)| what).collect();
        println!("  {}", contestant.name());
        println!("    numbers lost   {}", or_none(&lost));
        println!("    taken as good  {}", or_none(&taken));
        println!("    nesting        {}", nesting(contestant.name()));
    }
}

fn takes(contestant: &mut dyn Tokenizer, payload: &[u8]) -> bool {
    contestant.read(payload, &mut Tokens::new(1)).is_ok()
}

fn or_none(list: &[&str]) -> String {
    match list {
        [] => "none".to_owned(),
        list => list.join(" · "),
    }
}

/// What happens one level beyond the deepest nesting that is taken.
fn nesting(name: &str) -> String {
    let (mut taken, mut beyond) = (1, (DEEPEST + 1, Nesting::Taken));
    while beyond.0 - taken > 1 {
        let levels = (taken + beyond.0) / 2;
        match probe(name, levels) {
            Nesting::Taken => taken = levels,
            other => beyond = (levels, other),
        }
    }
    match beyond.1 {
        Nesting::Taken => format!("taken up to {DEEPEST} levels, the most tried"),
        Nesting::Refused => format!("refused from {} levels", beyond.0),
        Nesting::Crash => format!("THE PROCESS DIES at {} levels", beyond.0),
    }
}

enum Nesting {
    Taken,
    Refused,
    Crash,
}

/// In a process of its own, as it may not survive: some tokenizers recurse, and how deep the main thread's stack is
/// decides when that ends.
fn probe(name: &str, levels: usize) -> Nesting {
    let this = std::env::current_exe().expect("a program knows its own path");
    let status = Command::new(this)
        .args(["--only", name, "--nesting", &levels.to_string()])
        .stderr(Stdio::null())
        .status()
        .expect("a program can be started twice");
    match status.code() {
        Some(0) => Nesting::Taken,
        Some(1) => Nesting::Refused,
        _ => Nesting::Crash,
    }
}

/// So many levels, the record's own included, below a name that is not declared.
pub fn nested(levels: usize) -> Vec<u8> {
    let inner = levels - 1;
    format!(r#"{{"u":{}{}}}"#, "[".repeat(inner), "]".repeat(inner)).into_bytes()
}

/// The text of `v`.
fn number(contestant: &mut dyn Tokenizer, payload: &str) -> Option<Vec<u8>> {
    let mut tokens = Tokens::new(1);
    contestant.read(payload.as_bytes(), &mut tokens).ok()?;
    match plain(tokens.fields[0], &tokens) {
        Token::Number(text) => Some(text.to_vec()),
        _ => None,
    }
}
