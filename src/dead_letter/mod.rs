//! Dead letters: records that cannot be stored, kept in `<topic>.dlq` with their bytes and coordinates.
//!
//! ```text
//!  decode ──rejects──▶ DeadLetterWriter ──▶ <topic>.dlq ──▶ read_all ──▶ list, show, verify
//! ```
//!
//! Owns: a letter's form (`letter`), writing (`writer`), reading (`reader`) and the `dead-letters` command.
//! Does not own: what is rejected and why (`decode`), nor when progress may pass a letter (`pipeline`).

mod command;
mod letter;
mod printable;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use command::{DeadLetterArgs, run};
pub use letter::Letter;
pub use reader::{ReadSummary, read_all};
pub use writer::DeadLetterWriter;
