//! Dead letters: records that cannot be stored, kept in `<topic>.dlq` with their bytes and coordinates.
//!
//! ```text
//!  decode ──rejects──▶ DeadLetterWriter ──▶ <topic>.dlq ──▶ reader ──▶ list, show
//!     ▲                                      ▲ marker          └─▶ select ──▶ transaction
//!     └────────── source topic ◀─────────────┴──────── one transaction ───────────┘  (replay)
//! ```
//!
//! Owns: a letter's form (`letter`), a replay's (`marker`), writing (`writer`), reading (`reader`), what
//! there is of them (`listing`) and the `dead-letters` command.
//! Does not own: what is rejected and why (`decode`), nor when progress may pass a letter (`pipeline`).

mod command;
mod letter;
mod listing;
mod marker;
mod print;
mod printable;
mod reader;
mod replay;
mod select;
#[cfg(test)]
mod tests;
mod transaction;
mod writer;

pub use command::{DeadLetterArgs, run};
pub use letter::Letter;
pub use listing::Listing;
pub use reader::{ReadSummary, read_all};
pub use writer::DeadLetterWriter;
