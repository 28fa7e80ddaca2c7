//! A seeded simulation of the delivery protocol: the real sinks between a log and services that fail in every way.
//!
//! ```text
//!            the same log, both believe they own it         everything that can go wrong, by the dice
//!  log ─┬─▶ owner A ─ resume::plan ─┬─ LakeSink ── store ───┐
//!       │                           └─ MongoSink ─ deployment ┤─▶ world: requests on the wire ─▶ services
//!       └─▶ owner B ─ …                                     ┘    (arrive, or not; reply, or not)   + invariants
//!                       ▲ crash, sleep, revoke, restart
//!                   schedule: one thread, no clock; the seed decides every step
//! ```
//!
//! Real: both sinks with everything above the store and the deployment (Parquet, the Delta commit loop, inserts, the
//! transaction's commands and what follows from each answer), the resume rule. Simulated: Kafka, an object store, a
//! replica set, and the owner's loop (see `owner`).
//! Owns: the tests below. `AFFLUENT_SIM_SEEDS=N` runs seeds 0 to N; `AFFLUENT_SIM_SEED=S` runs one and prints its steps.
//! Does not own: a proof, nor what only real services do (Parquet readers, WiredTiger, librdkafka, clocks).

mod deployment;
mod dice;
mod driver;
mod lake;
mod log;
mod mongod;
mod operation;
mod owner;
mod schedule;
mod services;
mod store;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;

use self::operation::Tally;
use self::schedule::run;

/// Some twelve seconds of one core.
const SEEDS: u64 = 4_000;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number")),
    )
}

/// Runs a seed; what it found is the error.
fn judge(seed: u64) -> Result<Tally, String> {
    let ended = catch_unwind(AssertUnwindSafe(|| run(seed, false)));
    let why = match ended {
        Ok(ended) => match ended.violation {
            None => return Ok(ended.tally),
            Some(violation) => violation,
        },
        Err(_) => "a panic (above)".to_owned(),
    };
    Err(format!(
        "seed {seed}: {why}\nreplay with AFFLUENT_SIM_SEED={seed} and the same test, -- --nocapture"
    ))
}

/// All seeds, run once for both tests; the first failure ends it.
static SEEDS_RUN: LazyLock<Result<Tally, String>> = LazyLock::new(|| {
    let mut tally = Tally::default();
    for seed in 0..seeds() {
        tally.add(&judge(seed)?);
    }
    Ok(tally)
});

fn seeds() -> u64 {
    number("AFFLUENT_SIM_SEEDS").unwrap_or(SEEDS)
}

#[test]
fn thousands_of_seeds_keep_every_invariant() {
    if let Some(seed) = number("AFFLUENT_SIM_SEED") {
        let ended = run(seed, true);
        println!("{}", ended.trace.join("\n"));
        return assert_eq!(ended.violation, None, "seed {seed}");
    }
    if let Err(why) = &*SEEDS_RUN {
        panic!("{why}");
    }
}

#[test]
fn every_outcome_of_every_operation_and_every_crash_point_occurs() {
    if number("AFFLUENT_SIM_SEED").is_some() || seeds() < SEEDS {
        println!("too few seeds were asked for to say");
        return;
    }
    // A violation is the other test's to report.
    if let Ok(tally) = &*SEEDS_RUN {
        println!("{tally}");
        assert_eq!(tally.missing(), Vec::<String>::new());
    }
}

#[test]
fn a_seed_makes_the_same_steps_every_time() {
    for seed in 0..20 {
        assert_eq!(run(seed, true).trace, run(seed, true).trace, "seed {seed}");
    }
}
