//! Whole-job tests: the real binary on real Kafka and MongoDB, started by `scripts/test.sh`.
//!
//! Every test has its own topics, database and lake directory, so they run side by side. Nothing sleeps: a test
//! waits on a condition with a deadline (`support::until`).

#![allow(
    clippy::unwrap_used,
    reason = "a test that meets the unexpected should panic where it stands"
)]

mod ambiguity;
mod api;
mod collect;
mod corners;
mod crash;
mod dead_letters;
mod decoders;
mod delivery;
mod event_times;
mod faults;
mod identity;
mod instances;
mod lakes;
mod leaders;
mod losses;
mod outages;
mod ownership;
mod poison;
mod readers;
mod rebuild;
mod schema_change;
mod sinks;
mod stores;
mod support;
mod topic;
mod topics;
mod upkeep;
