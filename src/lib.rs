//! Affluent reads Kafka once and lands every micro-batch, exactly once, in MongoDB and in a Delta lake.
//!
//! Modules in reading order: the vocabulary first, then the data's way (start at [`pipeline`]), then what looks
//! at it from outside.

// vocabulary, pure
pub mod batch;
pub mod error;
pub mod event_time;
pub mod failpoint;
pub mod instant;
pub mod loss;
pub mod offsets;
pub mod resume;
pub mod retry;
pub mod schema;

pub mod config;

// the data's way
pub mod dead_letter;
pub mod decode;
pub mod kafka;
pub mod lake;
pub mod pipeline;
pub mod rollup;
pub mod sink;
pub mod source;

// around it
pub mod check;
pub mod cli;
pub mod collect;
pub mod health;
pub mod lake_command;
pub mod listen;
pub mod memory;
pub mod output;
pub mod produce;
pub mod rebuild;
pub mod run;
pub mod serve;
pub mod status;
pub mod telemetry;
pub mod upkeep;
pub mod verify;

#[cfg(test)]
mod simulation;
