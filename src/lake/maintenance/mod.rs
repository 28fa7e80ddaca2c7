//! The table's upkeep, beside ingestion: small files put together, checkpoints, old log files and dead data files removed.
//!
//! ```text
//!  plan (pure) ─▶ compact ─▶ a commit without data change ─┐
//!                 checkpoint ─▶ clean                      ├─▶ yields to ingestion: whoever commits first is right
//!                 vacuum ─▶ deletes what no version needs ─┘
//! ```
//!
//! Owns: what is done to a table that stores no new row. None of it is needed for what `sink::lake` promises, so whatever
//! fails here is told, and tried again at the next turn.
//! Does not own: the log's format (`delta`), when it runs.

pub mod checkpoint;
pub mod compact;
pub mod history;
pub mod plan;
pub mod table;
pub mod vacuum;

#[cfg(test)]
mod tests;
