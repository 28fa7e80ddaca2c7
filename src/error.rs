//! The three classes of failure, classified once at the boundary where they arise.
//!
//! *Data* never becomes an error: a bad record is a [`crate::batch::Reject`]. What is left answers one
//! question — retry, re-read, or stop? — and that answer is the variant.

use std::fmt;

use crate::offsets::{Offset, Partition};

/// What a sink's step can end with besides success.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// A service is missing, slow, full or refuses us. Hold, back off, try again; skip nothing.
    #[error("{0:#}")]
    Infrastructure(anyhow::Error),
    /// The progress stored in the sink is not the one we built on: another owner moved it. Drop the
    /// buffers, re-read progress, go on from there.
    #[error("progress of partition {partition} is {found}, expected {expected}: another owner moved it", found = DisplayOption(.found))]
    Lost {
        partition: Partition,
        expected: Offset,
        found: Option<Offset>,
    },
    /// Going on would lose or double data. Stop this stream and say what the choices are.
    #[error(transparent)]
    Invariant(#[from] Invariant),
}

impl SinkError {
    pub fn infrastructure(error: impl Into<anyhow::Error>) -> Self {
        Self::Infrastructure(error.into())
    }
}

/// A broken invariant: what was seen, and the choices a person has. Both are full sentences for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} — {choices}")]
pub struct Invariant {
    pub what: String,
    pub choices: String,
}

impl Invariant {
    pub fn new(what: impl Into<String>, choices: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            choices: choices.into(),
        }
    }
}

struct DisplayOption<'a, T>(&'a Option<T>);

impl<T: fmt::Display> fmt::Display for DisplayOption<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("absent"),
        }
    }
}

/// Exit codes of every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Ok = 0,
    /// The data or the check is bad, or an invariant stopped the last stream.
    Bad = 1,
    /// Usage or configuration.
    Usage = 2,
    /// A service could not be reached in the time allowed.
    Infrastructure = 3,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        std::process::ExitCode::from(exit as u8)
    }
}

/// An error that carries its exit code to `main`. Attach with `anyhow::Error::context` or build directly.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Exits {
    pub exit: Exit,
    pub message: String,
}

impl Exits {
    /// An `anyhow` error that ends the process with `exit`.
    pub fn error(exit: Exit, message: impl Into<String>) -> anyhow::Error {
        Self {
            exit,
            message: message.into(),
        }
        .into()
    }
}

/// The exit code of an error that reached `main`: that of the `Exits` in its chain, 1 for a broken invariant, else 3 —
/// what is not classified is most likely a service that did not answer.
pub fn exit_code(error: &anyhow::Error) -> Exit {
    // `chain` alone does not see an `Exits` that was attached as context.
    let found = error
        .downcast_ref::<Exits>()
        .or_else(|| error.chain().find_map(|e| e.downcast_ref::<Exits>()));
    let broken = || {
        let of_sink = error.downcast_ref::<SinkError>();
        error.is::<Invariant>() || matches!(of_sink, Some(SinkError::Invariant(_)))
    };
    match found {
        Some(exits) => exits.exit,
        None if broken() => Exit::Bad,
        None => Exit::Infrastructure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_is_found_wherever_it_was_attached() {
        let exits = || Exits {
            exit: Exit::Usage,
            message: "wrong".into(),
        };
        assert_eq!(exit_code(&anyhow::Error::new(exits()).context("outer")), Exit::Usage);
        assert_eq!(exit_code(&anyhow::anyhow!("inner").context(exits())), Exit::Usage);
        assert_eq!(exit_code(&anyhow::anyhow!("broker down")), Exit::Infrastructure);
    }
}
