//! Who gets room when there is little: nobody keeps others out by taking much of it.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv6Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::ClientIdentity;
use tokio_util::sync::CancellationToken;

/// Those who have not shown yet who they are and what they want. When there are too many, one of a source
/// that has most of them makes room, the oldest.
pub(super) struct Unknown {
    most: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    /// In the order of their arrival.
    guests: BTreeMap<u64, Guest>,
}

struct Guest {
    source: String,
    leave: CancellationToken,
}

/// Room among the unknown, until it is dropped.
pub(super) struct Place {
    unknown: Arc<Unknown>,
    number: u64,
    /// Cancelled when somebody else needs the room more.
    pub(super) leave: CancellationToken,
}

impl Unknown {
    /// Room for so many.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, waiting: Mutex::default() })
    }

    /// None if it is full, and nobody has more of it than this source.
    pub(super) fn admit(self: &Arc<Self>, from: &str) -> Option<Place> {
        let (source, leave) = (source(from), CancellationToken::new());
        let mut waiting = self.waiting();
        if waiting.guests.len() >= self.most {
            let leaver = waiting.whoever_makes_room_for(&source)?;
            if let Some(guest) = waiting.guests.remove(&leaver) {
                guest.leave.cancel();
            }
        }
        let number = waiting.next;
        waiting.next += 1;
        waiting.guests.insert(number, Guest { source, leave: leave.clone() });
        drop(waiting);
        Some(Place { unknown: Arc::clone(self), number, leave })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn whoever_makes_room_for(&self, source: &str) -> Option<u64> {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for guest in self.guests.values() {
            *counts.entry(&guest.source).or_default() += 1;
        }
        let count = |source: &str| counts.get(source).copied().unwrap_or_default();
        let most = counts.values().copied().max().filter(|most| *most > count(source))?;
        self.guests.iter().find(|(_, guest)| count(&guest.source) == most).map(|(number, _)| *number)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.unknown.waiting().guests.remove(&self.number);
    }
}

/// Whoever has one address of version 6 has as a rule the other 2^64 of its network, too.
fn source(from: &str) -> String {
    let (address, _zone) = from.split_once('%').unwrap_or((from, ""));
    match address.parse::<Ipv6Addr>() {
        Ok(address) => Ipv6Addr::from(u128::from(address) >> 64 << 64).to_string(),
        Err(_) => from.to_owned(),
    }
}

/// Those who are known, by who they are.
pub(super) struct Known {
    most: usize,
    counts: Mutex<HashMap<ClientIdentity, usize>>,
}

/// Room for one connection of a client, until it is dropped.
pub(super) struct Seat<'a> {
    known: &'a Known,
    client: ClientIdentity,
}

impl Known {
    /// Room for so many connections of each.
    pub(super) fn new(most: usize) -> Self {
        Self { most, counts: Mutex::default() }
    }

    /// None if this client has too many.
    pub(super) fn admit(&self, client: &ClientIdentity) -> Option<Seat<'_>> {
        let mut counts = self.counts();
        let count = counts.get(client).copied().unwrap_or_default();
        if count >= self.most {
            return None;
        }
        counts.insert(client.clone(), count + 1);
        Some(Seat { known: self, client: client.clone() })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<ClientIdentity, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut counts = self.known.counts();
        match counts.get_mut(&self.client) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.client)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_takes_most_of_the_room_makes_some() {
        let unknown = Unknown::new(4);
        let admit = |from: &str| unknown.admit(from);
        let (flood, other): (Vec<_>, _) = ((0..3).map(|_| admit("10.0.0.1").unwrap()).collect(), admit("b").unwrap());
        assert!(admit("10.0.0.1").is_none(), "nobody has more");
        let third = admit("c").unwrap();
        let left: Vec<bool> = flood.iter().map(|place| place.leave.is_cancelled()).collect();
        assert_eq!(left, [true, false, false], "the oldest");
        let fourth = admit("d").unwrap();
        assert!(admit("b").is_none(), "each has one");
        let fifth = admit("e").unwrap();
        assert!(flood[2].leave.is_cancelled() && !other.leave.is_cancelled(), "the oldest of those with one");
        drop((flood, other));
        assert_eq!(unknown.waiting().guests.len(), 3, "whoever left is counted no more");
        drop((third, fourth, fifth));
        assert!(unknown.waiting().guests.is_empty());
    }

    #[test]
    fn a_network_of_version_6_is_one_source() {
        assert_eq!(source("2001:db8:1:2:3:4:5:6"), source("2001:db8:1:2::9"));
        assert_ne!(source("2001:db8:1:2::9"), source("2001:db8:1:3::9"));
        assert_eq!(source("fe80::1%eth0"), "fe80::");
        assert_ne!(source("10.0.0.1"), source("10.0.0.2"));
        assert_eq!(source("/run/zrepl/client"), "/run/zrepl/client");
    }

    #[test]
    fn connections_are_counted_by_client() {
        let known = Known::new(2);
        let (me, other) = (ClientIdentity::parse("me").unwrap(), ClientIdentity::parse("other").unwrap());
        let (first, second) = (known.admit(&me), known.admit(&me));
        assert!(first.is_some() && second.is_some() && known.admit(&me).is_none());
        assert!(known.admit(&other).is_some());
        drop(first);
        let again = known.admit(&me);
        assert!(again.is_some());
        drop((second, again));
        assert!(known.counts().is_empty(), "nobody is remembered who is not there");
    }
}
