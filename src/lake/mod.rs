//! The lake: one Delta table of Parquet files per stream.
//!
//! Owns: where a table lies (`store`), how its files are named (`layout`), how rows become files (`open`, `split`,
//! `parquet`, `stats`) and get there (`upload`), and the table's log (`delta`). Only `delta` writes below `_delta_log`.
//! Does not own: when to commit and what is held until then (`sink::lake`), maintenance.
//!
//! ```text
//!  RecordBatch ─ open, split ─▶ rows per partition ─ parquet ─▶ file + stats ─ upload ─▶ date=…/region=…/part-….parquet
//!                                                                 └────── delta ─▶ _delta_log/…N.json
//! ```

pub mod delta;
pub mod layout;
pub mod maintenance;
pub mod open;
pub mod parquet;
pub mod read;
pub mod rows;
pub mod split;
pub mod stats;
pub mod status;
pub mod store;
pub mod upload;
