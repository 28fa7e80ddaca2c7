//! JSON tokenizers, measured on affluent's job: a payload in, one token per declared field out, a number as its text.
//!
//! ```text
//!  tokenizers                           exactness, then speed, of all of them
//!  tokenizers --only NAME --rounds N    this one alone, N times over the records: to be counted by a profiler
//!  tokenizers --only NAME --nesting N   this one alone, over a record of N levels: it may not survive that
//! ```
//!
//! Owns: the measurement. Every tokenizer fills the same [`json::Tokens`], keys are found with the same look-up, and
//! what comes out is compared with what affluent's tokenizer makes of the same record before anything is timed.
//! Does not own: the tokenizers (`contestants`), the odd payloads (`exactness`), the records (`sample`).
//!
//! affluent's own files are compiled in as they are, rather than depended on: its tokenizer is private to `decode`, and
//! the crate would bring a quarter of an hour of dependencies. Where those files move, this stops compiling.

mod batch;
mod contestants;
mod exactness;
mod sample;

#[path = "../../../../src/decode/cursor.rs"]
mod cursor;
#[path = "../../../../src/decode/fault.rs"]
mod fault;
#[path = "../../../../src/decode/json.rs"]
mod json;
#[path = "../../../../src/decode/number.rs"]
mod number;

#[path = "../../../../src/produce/catalogue.rs"]
mod catalogue;
#[path = "../../../../src/produce/dice.rs"]
mod dice;
#[path = "../../../../src/produce/sales.rs"]
mod sales;
#[path = "../../../../src/produce/text.rs"]
mod text;

use std::hint::black_box;
use std::time::Instant;

use contestants::{Tokenizer, all};
use json::{Token, Tokens};
use sample::Sample;

/// affluent's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rounds over all records, the tokenizers in turn, so that a disturbance hits all of them.
const ROUNDS: usize = 40;
/// Records that are timed together, and of which the fastest time counts: whatever else the machine does can only add.
/// Few enough that some of the rounds go through them undisturbed.
const STRETCH: usize = 100;

fn main() -> Result<(), String> {
    let mut arguments = std::env::args().skip(1);
    let (mut only, mut rounds, mut nesting) = (None, ROUNDS, None);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{flag} wants a value"))?;
        let number = || value.parse().map_err(|_| format!("{flag} wants a number"));
        match flag.as_str() {
            "--only" => only = Some(value),
            "--rounds" => rounds = number()?,
            "--nesting" => nesting = Some(number()?),
            _ => {
                return Err(format!(
                    "unknown flag {flag}: --only NAME, --rounds N, --nesting LEVELS"
                ));
            }
        }
    }
    match (only, nesting) {
        (Some(name), None) => repeat(&name, rounds),
        (Some(name), Some(levels)) => nest(&name, levels),
        (None, _) => {
            exactness::report();
            sample::all().iter().for_each(|sample| contest(sample, rounds));
            Ok(())
        }
    }
}

/// The sample of sales, so many times through one tokenizer.
fn repeat(name: &str, rounds: usize) -> Result<(), String> {
    let sample = &sample::all()[0];
    let mut contestant = named(name, &sample.names)?;
    for _ in 0..rounds {
        round(contestant.as_mut(), sample).for_each(drop);
    }
    println!("{} records", rounds * sample.payloads.len());
    Ok(())
}

/// Fails where the tokenizer refuses a record of so many levels.
fn nest(name: &str, levels: usize) -> Result<(), String> {
    let names = ["v".to_owned()];
    let payload = exactness::nested(levels);
    named(name, &names)?.read(&payload, &mut Tokens::new(1))
}

fn named(name: &str, names: &[String]) -> Result<Box<dyn Tokenizer>, String> {
    let found = all(names).into_iter().find(|contestant| contestant.name() == name);
    found.ok_or_else(|| format!("no tokenizer is called {name}"))
}

fn contest(sample: &Sample, rounds: usize) {
    let mut contestants = all(&sample.names);
    let bytes: usize = sample.payloads.iter().map(Vec::len).sum();
    let records = sample.payloads.len();
    println!(
        "\n{}: {records} records of {} bytes on average, the fastest of {rounds} rounds for each {STRETCH} of them",
        sample.what,
        bytes / records
    );
    println!("{:<22}{:>12}{:>10}  tokens", "", "ns/record", "MB/s");
    let differences: Vec<Differences> = contestants
        .iter_mut()
        .map(|contestant| Differences::count(contestant.as_mut(), sample))
        .collect();
    let mut fastest = vec![vec![f64::INFINITY; records.div_ceil(STRETCH)]; contestants.len()];
    for _ in 0..rounds {
        for (contestant, fastest) in contestants.iter_mut().zip(&mut fastest) {
            for (seconds, fastest) in round(contestant.as_mut(), sample).zip(fastest) {
                *fastest = fastest.min(seconds);
            }
        }
    }
    for ((contestant, fastest), differences) in contestants.iter().zip(fastest).zip(differences) {
        let seconds: f64 = fastest.iter().sum();
        println!(
            "{:<22}{:>12.0}{:>10.0}  {differences}",
            contestant.name(),
            seconds * 1e9 / records as f64,
            bytes as f64 / seconds / 1e6
        );
    }
}

/// Seconds for each [`STRETCH`] of records.
fn round(contestant: &mut dyn Tokenizer, sample: &Sample) -> impl Iterator<Item = f64> {
    let mut tokens = Tokens::new(sample.names.len());
    sample.payloads.chunks(STRETCH).map(move |payloads| {
        let began = Instant::now();
        for payload in payloads {
            let read = contestant.read(payload, &mut tokens);
            read.expect("the sample's records are good");
            black_box(&tokens.fields);
        }
        began.elapsed().as_secs_f64()
    })
}

/// Where a tokenizer's tokens are not those of affluent's.
#[derive(Default)]
struct Differences {
    numbers_without_text: usize,
    others: usize,
}

impl std::fmt::Display for Differences {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self {
                numbers_without_text: 0,
                others: 0,
            } => f.write_str("the same"),
            Self {
                numbers_without_text,
                others: 0,
            } => write!(f, "{numbers_without_text} numbers without their text"),
            Self { others, .. } => write!(f, "{others} OTHERS"),
        }
    }
}

impl Differences {
    fn count(contestant: &mut dyn Tokenizer, sample: &Sample) -> Self {
        let mut standard = json::ObjectReader::new(sample.names.iter().map(String::as_str));
        let (mut ours, mut theirs) = (Tokens::new(sample.names.len()), Tokens::new(sample.names.len()));
        let mut found = Self::default();
        for payload in &sample.payloads {
            standard
                .read(payload, &mut ours)
                .expect("the sample's records are good");
            let read = contestant.read(payload, &mut theirs);
            read.expect("the sample's records are good");
            for (our, their) in ours.fields.iter().zip(&theirs.fields) {
                match (our, their) {
                    (Token::Number(_), Token::Number(b"")) => found.numbers_without_text += 1,
                    _ if plain(*our, &ours) != plain(*their, &theirs) => found.others += 1,
                    _ => {}
                }
            }
        }
        found
    }
}

/// A token without regard to where its characters lie.
pub(crate) fn plain<'a>(token: Token<'a>, tokens: &'a Tokens<'_>) -> Token<'a> {
    token.text(&tokens.unescaped).map_or(token, Token::Text)
}
