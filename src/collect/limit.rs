//! How many events a client may send: a token bucket each, in bounded memory. Pure: the time is handed in.
//!
//! Owns: the buckets. A bucket that has filled up again is as good as none and is forgotten, so what is remembered are
//! the clients of the last `burst / rate` seconds. Where even these are too many, all further ones share one bucket.
//! Does not own: who is a client (`client`).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::client::Client;

/// Some ten megabytes of buckets.
const MAX_CLIENTS: usize = 100_000;

pub(super) struct Limits {
    /// Tokens per second.
    rate: f64,
    burst: f64,
    max_clients: usize,
    clients: HashMap<Client, Bucket>,
    /// Of all for whom there is no room.
    others: Bucket,
    swept: Instant,
}

/// Tokens at an instant; they come back with time.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn tokens_at(&self, now: Instant, rate: f64, burst: f64) -> f64 {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.tokens + elapsed * rate).min(burst)
    }
}

impl Limits {
    pub(super) fn new(rate: usize, burst: usize, now: Instant) -> Self {
        let burst = burst as f64;
        Self {
            rate: rate as f64,
            burst,
            max_clients: MAX_CLIENTS,
            clients: HashMap::new(),
            others: Bucket { tokens: burst, at: now },
            swept: now,
        }
    }

    /// Takes a token for each event, or none and says when there will be enough.
    pub(super) fn take(&mut self, client: Client, events: usize, now: Instant) -> Result<(), Duration> {
        let (rate, burst) = (self.rate, self.burst);
        let bucket = self.bucket(client, now);
        let tokens = bucket.tokens_at(now, rate, burst);
        let missing = events as f64 - tokens;
        if missing > 0.0 {
            return Err(Duration::from_secs_f64(missing / rate));
        }
        *bucket = Bucket {
            tokens: -missing,
            at: now,
        };
        Ok(())
    }

    fn bucket(&mut self, client: Client, now: Instant) -> &mut Bucket {
        if !self.clients.contains_key(&client) && self.clients.len() >= self.max_clients {
            self.sweep(now);
            if self.clients.len() >= self.max_clients {
                return &mut self.others;
            }
        }
        let full = Bucket {
            tokens: self.burst,
            at: now,
        };
        self.clients.entry(client).or_insert(full)
    }

    /// Looks at every bucket, so not for every request of a flood.
    fn sweep(&mut self, now: Instant) {
        if now.saturating_duration_since(self.swept) < Duration::from_secs(1) {
            return;
        }
        self.swept = now;
        let (rate, burst) = (self.rate, self.burst);
        self.clients
            .retain(|_, bucket| bucket.tokens_at(now, rate, burst) < burst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let mut now = Instant::now();
        let mut limits = Limits::new(10, 40, now);
        let client = Client::nth(1);
        assert_eq!(limits.take(client, 40, now), Ok(()));
        assert_eq!(limits.take(client, 1, now), Err(SECOND / 10));
        assert_eq!(limits.take(Client::nth(2), 40, now), Ok(()), "each has its own");
        now += SECOND;
        assert_eq!(limits.take(client, 11, now), Err(SECOND / 10), "and nothing is taken");
        assert_eq!(limits.take(client, 10, now), Ok(()));
        now += 1000 * SECOND;
        assert_eq!(
            limits.take(client, 41, now),
            Err(SECOND / 10),
            "never more than the burst"
        );
        assert_eq!(limits.take(client, 40, now), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_old_clients_make_room() {
        let start = Instant::now();
        let mut limits = Limits::new(10, 40, start);
        limits.max_clients = 100;
        for n in 0..100 {
            assert_eq!(limits.take(Client::nth(n), 40, start), Ok(()));
        }
        assert_eq!(
            limits.take(Client::nth(100), 40, start),
            Ok(()),
            "the first of the others"
        );
        assert!(
            limits.take(Client::nth(101), 1, start).is_err(),
            "they share one bucket"
        );
        assert_eq!(limits.clients.len(), 100);
        // The first hundred have spent theirs, so nobody is forgotten before four seconds are over.
        let soon = start + 3 * SECOND;
        assert_eq!(limits.take(Client::nth(102), 30, soon), Ok(()), "of the shared one");
        assert!(limits.take(Client::nth(0), 31, soon).is_err(), "not forgotten");
        let later = start + 5 * SECOND;
        assert_eq!(limits.take(Client::nth(102), 40, later), Ok(()), "room of its own");
        assert_eq!(limits.clients.len(), 1);
    }
}
