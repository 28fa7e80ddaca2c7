//! Affluent reads Kafka once and lands every micro-batch, exactly once, in MongoDB and in a Delta lake.
//!
//! Modules in reading order: the vocabulary first, then the data's way, then what looks at it from outside.

// vocabulary, pure
pub mod batch;
pub mod error;
pub mod failpoint;
pub mod offsets;
pub mod schema;

pub mod config;

// the data's way
pub mod lake;
pub mod sink;
