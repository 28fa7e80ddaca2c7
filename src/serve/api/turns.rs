//! How many questions are asked of MongoDB at once: those who look must not keep it from ingestion.
//!
//! Owns: the places. After each question its place rests for as long as the question took, so that all who look together
//! take half of [`AT_ONCE`] of MongoDB's threads, and a question that costs much gives way for longer.
//! Does not own: the questions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::error::{ApiError, Code};

const AT_ONCE: usize = 2;
/// How long a question may wait for its turn.
const QUEUED: Duration = Duration::from_secs(10);

pub(super) struct Turns {
    places: Arc<Semaphore>,
    queued: Duration,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(AT_ONCE)),
            queued: QUEUED,
        }
    }
}

impl Turns {
    /// Asks when there is a place.
    pub async fn take<T>(&self, asking: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
        let busy = || ApiError::new(Code::TooSlow, "too many questions wait for mongodb; ask again later");
        let place = tokio::time::timeout(self.queued, Arc::clone(&self.places).acquire_owned()).await;
        let place = place.map_err(|_| busy())?.map_err(|_| busy())?;
        let began = Instant::now();
        let answer = asking.await;
        let took = began.elapsed();
        tokio::spawn(async move {
            tokio::time::sleep(took).await;
            drop(place);
        });
        answer
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use axum::response::IntoResponse as _;

    use super::*;

    #[tokio::test]
    async fn a_place_rests_for_as_long_as_its_question_took() {
        let turns = Turns::default();
        let took = Duration::from_millis(50);
        let began = Instant::now();
        let questions = (0..5).map(|_| async {
            let question = async {
                let began_after = began.elapsed();
                tokio::time::sleep(took).await;
                Ok(began_after)
            };
            turns.take(question).await.unwrap()
        });
        let began_after = futures::future::join_all(questions).await;
        for (before, began_after) in began_after.iter().enumerate() {
            let turns_before = u32::try_from(before / AT_ONCE).unwrap();
            assert!(
                *began_after >= took * 2 * turns_before,
                "question {before} after {began_after:?}"
            );
        }
    }

    #[tokio::test]
    async fn who_waits_too_long_is_turned_away_and_who_gives_up_leaves_a_place() {
        let turns = Turns {
            queued: Duration::from_millis(50),
            ..Turns::default()
        };
        let endless = || turns.take(futures::future::pending::<Result<(), ApiError>>());
        let mut both = Box::pin(futures::future::join(endless(), endless()));
        assert!(futures::poll!(&mut both).is_pending());
        let refused = turns.take(async { Ok(()) }).await.unwrap_err();
        assert_eq!(refused.into_response().status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(both);
        turns.take(async { Ok(()) }).await.unwrap();
    }
}
