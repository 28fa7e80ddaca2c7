//! Who may hold how much memory: what the process has, divided among its streams.
//!
//! ```text
//!  prefetched by librdkafka ─▶ in flight: the byte budget ─┬─▶ MongoDB's flush
//!     8 MiB, divided              limits.max_in_flight     │      32 MiB, divided
//!                                 shared                   └─▶ files open in the lake
//!                                                                lake.max_open_size, shared
//! ```
//! Beside it, per stream: two or three batches' worth of buffers in use again and again, and up to 10 MiB of hashes of
//! rollup buckets (`sink::mongo::buckets`).
//!
//! Owns: the division, and the account of open files ([`OpenShare`]).
//! Does not own: the account of what is in flight (`source::budget`), what a stage does at its limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::{Config, StreamConfig};
use crate::source::budget::Budget;

/// What librdkafka fetches ahead, as it counts; its own overhead is several times that. More is not faster.
const PREFETCH_BYTES: u64 = 8 << 20;
/// Rows waiting for MongoDB, as Arrow; wide ones fill it long before `max_flush_rows`.
const FLUSH_BYTES: u64 = 32 << 20;
/// However many streams there are, each gets this much of either.
const LEAST_BYTES: u64 = 2 << 20;

/// One stream's part.
#[derive(Debug)]
pub struct StreamMemory {
    pub prefetch_bytes: u64,
    pub budget: Budget,
    pub flush_bytes: u64,
    pub open_files: OpenShare,
}

/// Divides what `config` allows among `streams`, in their order.
pub fn divide(config: &Config, streams: &[StreamConfig]) -> Vec<StreamMemory> {
    let budget = Budget::new(config.limits.max_in_flight_bytes);
    let part = |bytes: u64, among: usize| (bytes / among.max(1) as u64).max(LEAST_BYTES);
    let flushing = streams.iter().filter(|stream| stream.mongo.enabled).count();
    let open: Vec<u64> = streams.iter().map(|stream| stream.lake.max_open_bytes).collect();
    let shares = OpenShare::divide(config.lake.max_open_bytes, &open);
    let memory = |open_files| StreamMemory {
        prefetch_bytes: part(PREFETCH_BYTES, streams.len()),
        budget: budget.clone(),
        flush_bytes: part(FLUSH_BYTES, flushing),
        open_files,
    };
    shares.into_iter().map(memory).collect()
}

const GONE: u64 = u64::MAX;

/// One stream's account of its open files, among those of all streams.
///
/// A stream may take what the others leave, but never the last half of another's equal part: a stream that starts
/// late must find room for files worth their name.
#[derive(Debug)]
pub struct OpenShare {
    own: usize,
    /// Bytes held, per stream; [`GONE`] for one that has no lake, or has ended.
    held: Arc<[AtomicU64]>,
    total: u64,
    /// The stream's own limit.
    most: u64,
}

impl OpenShare {
    /// `limits`: each stream's own. One above `total` lifts it: it was written for that stream.
    fn divide(total: u64, limits: &[u64]) -> Vec<Self> {
        let held: Arc<[AtomicU64]> = limits.iter().map(|_| AtomicU64::new(0)).collect();
        let total = limits.iter().copied().fold(total, u64::max);
        let share = |(own, &most)| Self {
            own,
            held: Arc::clone(&held),
            total,
            most,
        };
        limits.iter().enumerate().map(share).collect()
    }

    /// That of a stream alone in its process.
    pub fn whole(bytes: u64) -> Self {
        Self::divide(bytes, &[bytes]).remove(0)
    }

    /// Bytes that this stream may hold now.
    pub fn limit(&self) -> u64 {
        let held = self.held.iter().map(|held| held.load(Ordering::Relaxed)).enumerate();
        let others = held.filter(|&(stream, held)| stream != self.own && held != GONE);
        let others: Vec<u64> = others.map(|(_, held)| held).collect();
        let reserve = self.total / (2 * (others.len() as u64 + 1));
        let taken: u64 = others.iter().map(|&held| held.max(reserve)).sum();
        self.total.saturating_sub(taken).max(reserve).min(self.most)
    }

    /// Takes note of what this stream holds.
    pub fn hold(&self, bytes: u64) {
        self.held[self.own].store(bytes, Ordering::Relaxed);
    }
}

impl Drop for OpenShare {
    fn drop(&mut self) {
        self.hold(GONE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_alone_has_everything() {
        assert_eq!(OpenShare::whole(100).limit(), 100);
    }

    #[test]
    fn what_the_others_leave_may_be_taken_except_their_reserve() {
        let shares = OpenShare::divide(120, &[120, 120]);
        assert_eq!(shares[0].limit(), 90);
        shares[0].hold(90);
        assert_eq!((shares[0].limit(), shares[1].limit()), (90, 30));
        shares[1].hold(50);
        assert_eq!(
            (shares[0].limit(), shares[1].limit()),
            (70, 30),
            "the first has to give way"
        );
        shares[0].hold(70);
        assert_eq!(shares[1].limit(), 50, "together no more than there is");
    }

    #[test]
    fn a_stream_that_ends_leaves_everything_to_the_others() {
        let mut shares = OpenShare::divide(120, &[120, 120]);
        shares[1].hold(60);
        assert_eq!(shares[0].limit(), 60);
        shares.pop();
        assert_eq!(shares[0].limit(), 120);
    }

    #[test]
    fn a_streams_own_limit_holds_for_it_and_lifts_a_smaller_total() {
        let shares = OpenShare::divide(100, &[20, 400]);
        assert_eq!((shares[0].limit(), shares[1].limit()), (20, 300));
    }
}
