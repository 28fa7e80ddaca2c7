//! Affluent reads Kafka once and lands every micro-batch, exactly once, in MongoDB and in a Delta lake.
//!
//! Modules in reading order: the vocabulary first, then the data's way (start at [`pipeline`]), then what looks
//! at it from outside.

// vocabulary, pure
pub mod batch;
pub mod error;
pub mod failpoint;
pub mod offsets;
pub mod resume;
pub mod retry;
pub mod schema;

pub mod config;

// the data's way
pub mod pipeline;
pub mod source;
pub mod sink;

// around it
pub mod health;
pub mod serve;
pub mod telemetry;
pub mod run;
pub mod cli;
