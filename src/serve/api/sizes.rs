//! How large each rollup is, so that a question goes to the smallest that answers it.
//!
//! Owns: documents per time, as MongoDB counts them, looked at once a minute. Does not own: the choice (`source`).

use std::time::Duration;

use bson::{Document, doc};
use moka::future::Cache;

use super::documents::Documents;
use super::question::Period;
use crate::config::RollupConfig;

const LOOKED_AT_EVERY: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(1);

/// By stream and rollup.
pub(super) struct Sizes(Cache<(String, String), Size>);

/// As a whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Size {
    pub documents: u64,
    /// Milliseconds since 1970: the first bucket's start, the last one's end.
    pub from: i64,
    pub to: i64,
}

impl Sizes {
    pub fn new() -> Self {
        Self(Cache::builder().time_to_live(LOOKED_AT_EVERY).build())
    }

    /// `None` where it is not known, or empty.
    pub async fn of(&self, stream: &str, documents: &Documents, rollup: &RollupConfig) -> Option<Size> {
        let key = (stream.to_owned(), rollup.name.clone());
        self.0.optionally_get_with(key, measured(documents, rollup)).await
    }
}

impl Size {
    /// Documents of the period, were they spread evenly.
    pub fn within(&self, period: Period) -> f64 {
        let from = self.from.max(period.from.timestamp_millis());
        let to = self.to.min(period.to.timestamp_millis());
        let share = (to - from).max(0) as f64 / (self.to - self.from).max(1) as f64;
        self.documents as f64 * share
    }
}

async fn measured(documents: &Documents, rollup: &RollupConfig) -> Option<Size> {
    // Not worth more waiting: the answer is the same from whichever rollup, only later.
    let found = tokio::time::timeout(PATIENCE, look(documents, rollup)).await.ok()?;
    found
        .inspect_err(|error| tracing::debug!(rollup = rollup.name, %error, "its size is not known"))
        .ok()
        .flatten()
}

async fn look(documents: &Documents, rollup: &RollupConfig) -> mongodb::error::Result<Option<Size>> {
    let collection = documents.0.collection::<Document>(&rollup.name);
    let edge = |direction: i32| {
        let find = collection.find_one(doc! {}).sort(doc! { "t": direction });
        let find = find.projection(doc! { "_id": 0, "t": 1 }).max_time(PATIENCE);
        async {
            let bucket = find.await?;
            let start = bucket.and_then(|bucket| bucket.get_datetime("t").ok().copied());
            Ok::<_, mongodb::error::Error>(start.map_or(0, |start| start.timestamp_millis()))
        }
    };
    let count = async { collection.estimated_document_count().max_time(PATIENCE).await };
    let (documents, from, to) = futures::try_join!(count, edge(1), edge(-1))?;
    let width = i64::try_from(rollup.every.seconds()).unwrap_or_default() * 1_000;
    Ok((documents > 0).then_some(Size {
        documents,
        from,
        to: to + width,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documents_of_a_period_are_its_share() {
        let size = Size {
            documents: 1_000,
            from: 10_000,
            to: 20_000,
        };
        let within = |from: i64, to: i64| {
            let at = |second: i64| chrono::DateTime::from_timestamp(second, 0).expect("a time");
            size.within(Period {
                from: at(from),
                to: at(to),
            })
        };
        assert_eq!(within(0, 100), 1_000.0);
        assert_eq!(within(15, 20), 500.0);
        assert_eq!(within(15, 16), 100.0);
        assert_eq!(within(30, 40), 0.0);
    }
}
