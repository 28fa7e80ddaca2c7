//! Whether what MongoDB holds of a stream is whole, and of the definitions that are in force here.
//!
//! Owns: the question, asked before and after an answer is put together: a rebuild drops the rollups and fills them again,
//! and what another configuration has added up under the same names is not what is asked for.
//! Does not own: the progress documents (`sink::mongo`).

use super::documents::Documents;
use super::error::{ApiError, Code};
use crate::config::StreamConfig;
use crate::offsets::{Epoch, RecordId};
use crate::rollup;
use crate::schema::StreamSchema;
use crate::sink::mongo::{ProgressDocument, State};

/// Of one stream, at an instant.
pub(super) struct Standing(Vec<ProgressDocument>);

impl Standing {
    pub async fn read(documents: &Documents, stream: &StreamConfig) -> Result<Self, ApiError> {
        let standing = Self(documents.progress(&stream.name).await?);
        standing.check(stream)?;
        Ok(standing)
    }

    fn check(&self, stream: &StreamConfig) -> Result<(), ApiError> {
        let defined = rollup::fingerprint(&stream.rollups, &stream.schema);
        for document in &self.0 {
            if document.state != State::Ready {
                return Err(being_rebuilt(&stream.name));
            }
            let zone = StreamSchema::parse(&document.schema).map(|schema| schema.timezone);
            if document.rollups != defined || zone.is_some_and(|zone| zone != stream.schema.timezone) {
                let message = format!(
                    "what is stored of stream {} was added up by other definitions than those in force here; \
                     affluent run says what to do",
                    stream.name
                );
                return Err(ApiError::new(Code::NotAnswerable, message));
            }
        }
        Ok(())
    }

    /// Is it what it was, but for what has come in since?
    pub fn still(&self, stream: &StreamConfig, after: &Self) -> Result<(), ApiError> {
        let generations = |standing: &Self| standing.0.iter().map(|document| document.generation).max();
        match generations(self) == generations(after) || self.0.is_empty() {
            true => Ok(()),
            false => Err(being_rebuilt(&stream.name)),
        }
    }

    /// The documents that progress covers, of the topic as it is now: the newest `reach` records of each partition; and
    /// whether that leaves any out.
    pub fn newest(&self, reach: i64) -> (Vec<(i64, i64)>, bool) {
        let mut is_cut = false;
        let range = |document: &ProgressDocument| {
            let partition = document.partition()?;
            let first = document.start.max(document.next.saturating_sub(reach));
            is_cut |= first > document.start || document.epoch > Epoch::default();
            let from = RecordId::new(document.epoch, partition, first)?;
            let to = RecordId::new(document.epoch, partition, document.next)?;
            Some((from.0, to.0))
        };
        let ranges = self.0.iter().filter_map(range).collect();
        (ranges, is_cut)
    }
}

fn being_rebuilt(stream: &str) -> ApiError {
    let message = format!("the documents of stream {stream} are being rebuilt; ask again later");
    ApiError::new(Code::Unavailable, message)
}
