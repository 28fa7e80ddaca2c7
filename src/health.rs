//! Which part of which stream works, is held by a missing service, or was stopped — and since when.
//!
//! Owns: the board that `/readyz`, the metrics and `--once`'s patience look at, and the log line of every
//! change on it (one line per change, however often a part tries again).
//! Does not own: retrying (`retry`) or deciding what stops a stream.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::telemetry;

/// A part of a stream that depends on something outside this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    Kafka,
    Mongo,
    Lake,
    DeadLetters,
    /// The stream as a whole: stopped by an invariant.
    Stream,
}

impl Part {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Mongo => "mongo",
            Self::Lake => "lake",
            Self::DeadLetters => "dead_letters",
            Self::Stream => "stream",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Clone, Debug)]
pub enum State {
    /// Not asked yet: not ready.
    Starting,
    Ok,
    /// Nothing is lost; it is tried again.
    Held {
        since: Instant,
        why: String,
    },
    /// Stays so until a person acts.
    Stopped {
        why: String,
    },
}

type Board = BTreeMap<(String, Part), State>;

/// Shared board of all streams.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<Board>>);

impl Health {
    pub fn for_stream(&self, stream: &str) -> StreamHealth {
        StreamHealth {
            board: self.clone(),
            stream: stream.to_owned(),
        }
    }

    pub fn snapshot(&self) -> Board {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        // A panic elsewhere must not hide the state of the rest.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One stream's view of the board.
#[derive(Clone, Debug)]
pub struct StreamHealth {
    board: Health,
    stream: String,
}

impl StreamHealth {
    pub fn starting(&self, part: Part) {
        self.board.lock().insert((self.stream.clone(), part), State::Starting);
    }

    pub fn ok(&self, part: Part) {
        let mut board = self.board.lock();
        let state = board.entry((self.stream.clone(), part)).or_insert(State::Starting);
        if let State::Held { since, .. } = state {
            telemetry::recovered(&self.stream, part, since.elapsed());
        }
        *state = State::Ok;
    }

    pub fn held(&self, part: Part, why: impl fmt::Display) {
        let mut board = self.board.lock();
        let state = board.entry((self.stream.clone(), part)).or_insert(State::Starting);
        let since = match state {
            State::Held { since, .. } => *since,
            _ => {
                telemetry::held(&self.stream, part, &why);
                Instant::now()
            }
        };
        *state = State::Held {
            since,
            why: why.to_string(),
        };
    }

    /// The part of this stream that has been held longest, with its reason.
    pub fn held_longest(&self) -> Option<(Part, Duration, String)> {
        let board = self.board.lock();
        let held = board
            .iter()
            .filter(|((stream, _), _)| *stream == self.stream)
            .filter_map(|((_, part), state)| match state {
                State::Held { since, why } => Some((*part, since.elapsed(), why.clone())),
                _ => None,
            });
        held.max_by_key(|(_, held, _)| *held)
    }

    pub fn stopped(&self, why: impl fmt::Display) {
        telemetry::stopped(&self.stream, &why);
        self.board.lock().insert(
            (self.stream.clone(), Part::Stream),
            State::Stopped { why: why.to_string() },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_counts_as_held_since_its_first_failure_and_until_it_works_again() {
        let health = Health::default();
        let stream = health.for_stream("sales");
        stream.starting(Part::Lake);
        health
            .for_stream("clicks")
            .held(Part::Mongo, "another stream's trouble");
        stream.held(Part::Lake, "disk full");
        let first = stream.held_longest().expect("held").1;
        stream.held(Part::Lake, "still full");
        let (part, held, why) = stream.held_longest().expect("held");
        assert!(held >= first);
        assert_eq!((part, why.as_str()), (Part::Lake, "still full"));
        stream.ok(Part::Lake);
        assert!(stream.held_longest().is_none());
    }
}
