//! Which part of which stream works, is slow, is held by a missing service, or was stopped — and since when.
//!
//! ```text
//!  starting ─▶ ok ─▶ slow (no answer yet) ─▶ held (a try has failed, another will follow) ─▶ ok
//! ```
//!
//! Owns: the board that `/readyz`, the metrics and `--once`'s patience look at, and its log lines: one per
//! change, and a reminder while a part stays held, however often it tries again.
//! Does not own: retrying (`retry`) or deciding what stops a stream.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::telemetry;

/// No answer for this long is shown, although nothing has failed yet: a black hole and a hung disk never answer.
const SLOW_AFTER: Duration = Duration::from_secs(10);

/// A held part says so again this often, with its newest reason: the first one may have been overtaken.
const REMIND_EVERY: Duration = Duration::from_secs(60);

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
    /// Asked and not answered for a while. It may still succeed, so nobody's patience ends over it.
    Slow {
        since: Since,
        why: String,
    },
    /// Nothing is lost; it is tried again.
    Held {
        since: Since,
        why: String,
        /// When the log was last told.
        told: Instant,
    },
    /// Stays so until a person acts.
    Stopped {
        why: String,
    },
}

/// An instant on both clocks: one to measure by, one to show.
#[derive(Clone, Copy, Debug)]
pub struct Since {
    pub instant: Instant,
    pub time: DateTime<Utc>,
}

impl Since {
    fn now() -> Self {
        Self::before(Duration::ZERO)
    }

    fn before(age: Duration) -> Self {
        let now = Instant::now();
        Self {
            instant: now.checked_sub(age).unwrap_or(now),
            time: Utc::now() - age,
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.instant.elapsed()
    }
}

impl State {
    /// Since when the part has not worked.
    fn since(&self) -> Option<Since> {
        match self {
            Self::Slow { since, .. } | Self::Held { since, .. } => Some(*since),
            _ => None,
        }
    }
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
    pub fn starting(&self, parts: impl IntoIterator<Item = Part>) {
        let parts = parts
            .into_iter()
            .map(|part| ((self.stream.clone(), part), State::Starting));
        self.board.lock().extend(parts);
    }

    pub fn ok(&self, part: Part) {
        self.change(part, |state| {
            if let Some(since) = state.since() {
                telemetry::recovered(&self.stream, part, since.elapsed());
            }
            State::Ok
        });
    }

    /// A try has failed; another will follow.
    pub fn held(&self, part: Part, why: impl fmt::Display) {
        telemetry::try_failed(&self.stream, part);
        let why = why.to_string();
        self.change(part, |state| {
            let since = state.since().unwrap_or_else(Since::now);
            let told = match state {
                State::Held { told, .. } if told.elapsed() < REMIND_EVERY => *told,
                _ => {
                    telemetry::held(&self.stream, part, since, &why);
                    Instant::now()
                }
            };
            State::Held { since, why, told }
        });
    }

    /// A try that began so long ago has no answer yet. A part that is held already stays so.
    fn slow(&self, part: Part, waited: Duration) {
        self.change(part, |state| match state {
            State::Held { .. } | State::Slow { .. } => state.clone(),
            _ => {
                let since = Since::before(waited);
                let why = format!("no answer for {} s", waited.as_secs());
                telemetry::slow(&self.stream, part, since, &why);
                State::Slow { since, why }
            }
        });
    }

    /// Awaits one try, and shows the part as slow while it takes long. A success that comes late ends that; what a failure
    /// means is the caller's to say, and it counts from the try's beginning.
    pub async fn watch<T, E>(&self, part: Part, tried: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.watch_for(SLOW_AFTER, part, tried).await
    }

    async fn watch_for<T, E>(
        &self,
        patience: Duration,
        part: Part,
        tried: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let mut tried = std::pin::pin!(tried);
        if let Ok(answer) = tokio::time::timeout(patience, &mut tried).await {
            return answer;
        }
        self.slow(part, patience);
        let answer = tried.await;
        if answer.is_ok() {
            self.no_longer_slow(part);
        }
        answer
    }

    /// A part that is held stays so: only its caller knows what ends that.
    fn no_longer_slow(&self, part: Part) {
        self.change(part, |state| match state {
            State::Slow { since, .. } => {
                telemetry::recovered(&self.stream, part, since.elapsed());
                State::Ok
            }
            state => state.clone(),
        });
    }

    fn change(&self, part: Part, next: impl FnOnce(&State) -> State) {
        let mut board = self.board.lock();
        let state = board.entry((self.stream.clone(), part)).or_insert(State::Starting);
        *state = next(state);
    }

    /// The part of this stream that has been held longest, with its reason.
    pub fn held_longest(&self) -> Option<(Part, Duration, String)> {
        let board = self.board.lock();
        let held = board
            .iter()
            .filter(|((stream, _), _)| *stream == self.stream)
            .filter_map(|((_, part), state)| match state {
                State::Held { since, why, .. } => Some((*part, since.elapsed(), why.clone())),
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
        stream.starting([Part::Lake]);
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

    const MOMENT: Duration = Duration::from_millis(5);

    #[tokio::test]
    async fn a_try_without_an_answer_shows_as_slow_and_its_failure_counts_from_its_beginning() {
        let health = Health::default();
        let stream = health.for_stream("sales");
        let (answer, answered) = tokio::sync::oneshot::channel::<()>();
        let silent = stream.watch_for(MOMENT, Part::Mongo, answered);
        let look = async {
            let (since, why) = loop {
                tokio::time::sleep(MOMENT).await;
                if let Some(State::Slow { since, why }) = state(&health, Part::Mongo) {
                    break (since, why);
                }
            };
            assert!(since.elapsed() >= MOMENT && why.contains("no answer"), "{why}");
            assert!(stream.held_longest().is_none(), "it may still succeed");
            drop(answer);
            since
        };
        let (failed, since) = tokio::join!(silent, look);
        stream.held(Part::Mongo, failed.expect_err("dropped"));
        let (_, held, _) = stream.held_longest().expect("held");
        assert!(held >= MOMENT && held <= since.elapsed());
        stream.ok(Part::Mongo);
        assert!(matches!(state(&health, Part::Mongo), Some(State::Ok)));
    }

    #[tokio::test]
    async fn a_late_answer_ends_slowness_and_nothing_else() {
        let health = Health::default();
        let stream = health.for_stream("sales");
        let shown_slow = async {
            while !matches!(state(&health, Part::Lake), Some(State::Slow { .. })) {
                tokio::time::sleep(MOMENT).await;
            }
            Ok::<_, ()>(())
        };
        assert_eq!(stream.watch_for(MOMENT, Part::Lake, shown_slow).await, Ok(()));
        assert!(matches!(state(&health, Part::Lake), Some(State::Ok)));
        stream.held(Part::Lake, "disk full");
        let late = async {
            tokio::time::sleep(3 * MOMENT).await;
            Ok::<_, ()>(())
        };
        assert_eq!(stream.watch_for(MOMENT, Part::Lake, late).await, Ok(()));
        assert!(matches!(state(&health, Part::Lake), Some(State::Held { .. })));
    }

    #[tokio::test]
    async fn a_quick_answer_changes_nothing() {
        let health = Health::default();
        let stream = health.for_stream("sales");
        stream.starting([Part::Lake]);
        assert_eq!(stream.watch(Part::Lake, async { Ok::<_, ()>(7) }).await, Ok(7));
        assert!(matches!(state(&health, Part::Lake), Some(State::Starting)));
    }

    fn state(health: &Health, part: Part) -> Option<State> {
        health.snapshot().get(&("sales".to_owned(), part)).cloned()
    }
}
