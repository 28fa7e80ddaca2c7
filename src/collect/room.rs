//! How many requests may be under way: of one client, and all together.
//!
//! Owns: the count. A place is taken before the body is read, so a client that sends slowly, or many at once, uses up its own.
//! Does not own: who is a client (`client`), how often one may come (`limit`).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::client::Client;

/// With `max_body` they bound what is held while Kafka does not answer.
const MOST: usize = 1024;
const MOST_OF_ONE: usize = 64;

#[derive(Default)]
pub(super) struct Room(Mutex<Taken>);

#[derive(Default)]
struct Taken {
    all: usize,
    /// Only those who have any: no more than there are places.
    of: HashMap<Client, usize>,
}

/// Given back when dropped.
pub(super) struct Place<'a> {
    room: &'a Room,
    client: Client,
}

impl Room {
    /// `None` where there is none, for this client or at all.
    pub(super) fn enter(&self, client: Client) -> Option<Place<'_>> {
        let mut taken = self.lock();
        let own = taken.of.get(&client).copied().unwrap_or_default();
        if taken.all >= MOST || own >= MOST_OF_ONE {
            return None;
        }
        taken.all += 1;
        taken.of.insert(client, own + 1);
        Some(Place { room: self, client })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut taken = self.room.lock();
        taken.all -= 1;
        let own = taken.of.remove(&self.client).unwrap_or_default();
        if own > 1 {
            taken.of.insert(self.client, own - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_leaves_room_for_others_and_all_have_an_end() {
        let room = Room::default();
        let of_one: Vec<_> = (0..MOST_OF_ONE)
            .map(|_| room.enter(Client::nth(0)).expect("room"))
            .collect();
        assert!(room.enter(Client::nth(0)).is_none());
        let others: Vec<_> = (MOST_OF_ONE..MOST)
            .map(|n| room.enter(Client::nth(n as u32)).expect("room for others"))
            .collect();
        assert!(room.enter(Client::nth(5000)).is_none());
        drop(of_one);
        assert!(room.enter(Client::nth(0)).is_some());
        drop(others);
        assert!(room.lock().of.is_empty() && room.lock().all == 0);
    }
}
