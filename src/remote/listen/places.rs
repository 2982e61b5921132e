//! Places for connections that have not shown yet who they are.
//!
//! There is a number of places, and one address may have half of them. A newcomer always gets one: where
//! none is free, the address that holds the most gives up its eldest. So a crowd at one address displaces
//! itself, and a client at another one keeps its place until it has shown who it is.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Where a connection comes from: an IPv4 address, or the /64 that an IPv6 address is in, as one host has
/// that many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Source(u64, bool);

impl Source {
    /// Of an address; one of IPv4 in IPv6 (`::ffff:10.0.0.1`) is that of IPv4.
    pub fn of(address: IpAddr) -> Source {
        match address.to_canonical() {
            IpAddr::V4(v4) => Source(u64::from(v4.to_bits()), false),
            IpAddr::V6(v6) => Source((v6.to_bits() >> 64) as u64, true),
        }
    }
}

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    most_of_source: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    next: u64,
    /// Those of each address that has one, the eldest first.
    by_source: HashMap<Source, VecDeque<Holder>>,
}

#[derive(Debug)]
struct Holder {
    number: u64,
    /// Sent or dropped, it tells the holder to go.
    _goes: oneshot::Sender<()>,
}

/// A place. Dropped, it is free.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    source: Source,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken().leave(self.source, self.number);
    }
}

impl Taken {
    fn of(&self, source: Source) -> usize {
        self.by_source.get(&source).map_or(0, VecDeque::len)
    }

    /// The address with the most places; of several, the one whose eldest is the eldest.
    fn fullest(&self) -> Option<Source> {
        let eldest = |held: &VecDeque<Holder>| held.front().map_or(u64::MAX, |holder| holder.number);
        let fullest =
            self.by_source.iter().max_by_key(|(_, held)| (held.len(), std::cmp::Reverse(eldest(held))));
        fullest.map(|(source, _)| *source)
    }

    fn evict(&mut self, source: Source) {
        let eldest = self.by_source.get(&source).and_then(VecDeque::front).map(|holder| holder.number);
        eldest.into_iter().for_each(|number| self.leave(source, number));
    }

    fn leave(&mut self, source: Source, number: u64) {
        let Some(held) = self.by_source.get_mut(&source) else { return };
        let Some(at) = held.iter().position(|holder| holder.number == number) else { return };
        held.remove(at);
        self.count -= 1;
        if held.is_empty() {
            self.by_source.remove(&source);
        }
    }
}

impl Places {
    /// So many, at least one.
    pub fn new(most: usize) -> Arc<Places> {
        let most_of_source = (most / 2).max(1);
        Arc::new(Places { most: most.max(1), most_of_source, taken: Mutex::default() })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a newcomer, and what says that it has to go.
    pub fn take(self: &Arc<Places>, source: Source) -> (Place, oneshot::Receiver<()>) {
        let mut taken = self.taken();
        if taken.of(source) >= self.most_of_source {
            taken.evict(source);
        } else if taken.count >= self.most
            && let Some(fullest) = taken.fullest()
        {
            taken.evict(fullest);
        }
        let number = taken.next;
        taken.next += 1;
        taken.count += 1;
        let (goes, has_to_go) = oneshot::channel();
        taken.by_source.entry(source).or_default().push_back(Holder { number, _goes: goes });
        (Place { places: Arc::clone(self), source, number }, has_to_go)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::of(text.parse().unwrap())
    }

    /// Whether it may stay.
    fn stays(held: &mut (Place, oneshot::Receiver<()>)) -> bool {
        matches!(held.1.try_recv(), Err(oneshot::error::TryRecvError::Empty))
    }

    #[test]
    fn a_flood_from_one_address_displaces_itself_and_no_other() {
        let places = Places::new(8);
        let mut client = places.take(source("127.0.0.1"));
        let mut flood: Vec<_> = (0..5000).map(|_| places.take(source("127.0.0.2"))).collect();
        assert!(stays(&mut client));
        let staying = flood.iter_mut().map(stays).collect::<Vec<_>>();
        assert_eq!(staying.iter().filter(|stays| **stays).count(), 4);
        assert!(staying.ends_with(&[true; 4]), "the last ones");
        // Nor is one that comes later kept out.
        let mut late = places.take(source("::1"));
        assert!(stays(&mut late) && stays(&mut client));
        drop(flood);
        assert_eq!(places.taken().count, 2);
    }

    #[test]
    fn where_no_place_is_free_the_address_with_the_most_gives_one_up() {
        let places = Places::new(8);
        let mut two: Vec<_> = (0..2).map(|_| places.take(source("10.0.0.1"))).collect();
        let mut three: Vec<_> = (0..3).map(|_| places.take(source("10.0.0.2"))).collect();
        let mut others: Vec<_> = (3..9).map(|last| places.take(source(&format!("10.0.0.{last}")))).collect();
        // 8 places for 11: the most is 3, then 2, and 2.
        assert!(others.iter_mut().all(stays));
        assert_eq!(
            (
                two.iter_mut().map(stays).filter(|it| *it).count(),
                three.iter_mut().map(stays).filter(|it| *it).count()
            ),
            (1, 1)
        );
        assert_eq!(places.taken().count, 8);
        // Of equals the eldest goes.
        let mut last = places.take(source("10.0.0.9"));
        assert!(!stays(&mut two[1]) && stays(&mut last));
        drop((two, three, others, last));
        assert!(places.taken().by_source.is_empty());
    }

    #[test]
    fn one_host_has_a_whole_64_of_ipv6_and_one_address_of_ipv4() {
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1:2:3"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:10.0.0.1"), source("10.0.0.1"));
        assert_ne!(source("10.0.0.1"), source("10.0.0.2"));
        // Equal bits, another family.
        assert_ne!(source("0.0.0.1"), source("0:0:0:1::"));
    }

    #[test]
    fn one_place_is_enough_for_the_next_who_comes() {
        let places = Places::new(1);
        let mut first = places.take(source("10.0.0.1"));
        let mut second = places.take(source("10.0.0.2"));
        assert!(!stays(&mut first) && stays(&mut second));
        drop(first);
        assert_eq!(places.taken().count, 1);
    }
}
