//! The lake: one Delta table of Parquet files per stream.
//!
//! Owns: where a table lies (`store`), how its files are named (`layout`), how rows become files (`split`,
//! `parquet`, `stats`), and the table's log (`delta`). Only `delta` writes below `_delta_log`.
//! Does not own: when to commit and what is held until then (`sink::lake`), maintenance.
//!
//! ```text
//!  RecordBatch ─ split ─▶ rows per partition ─ parquet ─▶ file + stats ─ store ─▶ date=…/region=…/part-….parquet
//!                                                                 └────── delta ─▶ _delta_log/…N.json
//! ```

pub mod delta;
pub mod layout;
pub mod parquet;
pub mod split;
pub mod stats;
pub mod status;
pub mod store;
