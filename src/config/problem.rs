//! What is wrong with a configuration, and where it was written.
//!
//! Owns: [`Origin`] (the layer a value came from, down to the line) and [`Problems`], the one report that
//! lists everything at once. A person who fixes one line should not have to run again to learn of the next.
//! Does not own: what counts as wrong (`resolve`, `stream`, `rollup`, `names`).

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

/// Where a value was written. Never holds the value itself: flags and variables may carry secrets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    File {
        path: Arc<str>,
        /// Counted from 1; 0 is the file as a whole.
        line: usize,
    },
    /// The variable's name.
    Environment(Arc<str>),
    /// The flag with its key, without the value.
    Flag(Arc<str>),
    /// The defaults inside the binary: wrong only together with something else.
    BuiltIn,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: 0 } => f.write_str(path),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(flag) => f.write_str(flag),
            Self::BuiltIn => f.write_str("built-in defaults"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub origin: Origin,
    /// Dotted path, `kafka.start`; empty where the problem has none (a syntax error).
    pub key: String,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        // A flag names its key already.
        if !self.key.is_empty() && !matches!(&self.origin, Origin::Flag(flag) if flag.ends_with(&self.key)) {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Everything that is wrong, in the order of the layers and lines. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.0.len() == 1 { "problem" } else { "problems" };
        write!(f, "the configuration has {} {noun}:", self.0.len())?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

/// Collects problems while the tree is read. Shared by every open section, hence the cell; single-threaded.
#[derive(Default)]
pub(super) struct Report(RefCell<Vec<Problem>>);

impl Report {
    pub(super) fn add(&self, origin: &Origin, key: impl Into<String>, message: impl Into<String>) {
        self.0.borrow_mut().push(Problem {
            origin: origin.clone(),
            key: key.into(),
            message: message.into(),
        });
    }

    pub(super) fn joined(self, other: Self) -> Self {
        self.0.borrow_mut().append(&mut other.0.into_inner());
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Sorted, and each problem once: an override that leaves a wrong global value alone meets it again.
    pub(super) fn into_problems(self) -> Problems {
        let mut problems = self.0.into_inner();
        problems.sort();
        problems.dedup();
        Problems(problems)
    }
}
