//! Places for connections: how many there are, who has one, and who gives it up when none is left.
//!
//! A connection is a stranger until a request on it was let in. Strangers make room: when there is no place, the one that has been here
//! longest gives up its own. So whoever only opens connections, or dribbles into them, pushes out nobody but their like.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::request::Parts;
use tokio::sync::{Notify, watch};

use crate::daemon::{Code, Refusal};
use crate::metrics::Metrics;

/// Connections of one peer at a time. At the cap its oldest stranger is cut, and where it has none the new connection is refused. A loopback
/// address is everybody's on this machine, all pages, programs and tunnels, so there only the number of all places counts.
const PER_PEER: usize = 64;

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// The peer has as many as one may have.
    Peer,
    /// All places are taken; so many there are.
    All(usize),
}

impl Full {
    /// What the one without a place is told.
    pub(super) fn refusal(self) -> Refusal {
        let (code, limit, whose) = match self {
            Self::Peer => (Code::RateLimited, PER_PEER, "your address has"),
            Self::All(limit) => (Code::Unavailable, limit, "there are"),
        };
        let message = format!("{whose} {limit} connections, which is the limit; close one first");
        Refusal::new(code, message).reason("connections").detail("limit", limit)
    }
}

/// What a stranger is told whose place somebody else got.
pub(super) fn pushed_out() -> Refusal {
    let message = "too many connections are waiting, and a newer one got this one's place";
    Refusal::new(Code::Unavailable, message).reason("connections")
}

/// The places of one listener.
pub(super) struct Seats(Arc<Shared>);

struct Shared {
    table: Mutex<Table>,
    metrics: Arc<Metrics>,
    /// Seats that are not dropped yet, those that were cut too.
    living: watch::Sender<usize>,
}

/// Who has a place, oldest first. At most `cap` entries.
struct Table {
    cap: usize,
    next: u64,
    held: BTreeMap<u64, Held>,
}

struct Held {
    peer: Option<IpAddr>,
    known: bool,
    cut: Arc<Notify>,
}

/// A place; the last clone gives it back.
#[derive(Clone)]
pub(super) struct Seat(Arc<Place>);

struct Place {
    number: u64,
    peer: Option<IpAddr>,
    known: AtomicBool,
    cut: Arc<Notify>,
    shared: Arc<Shared>,
}

impl Seats {
    /// So many places.
    pub(super) fn new(cap: usize, metrics: Arc<Metrics>) -> Self {
        let table = Mutex::new(Table { cap, next: 0, held: BTreeMap::new() });
        Self(Arc::new(Shared { table, metrics, living: watch::Sender::new(0) }))
    }

    /// A place for a connection from this address; on the control socket there is none.
    pub(super) fn take(&self, peer: Option<IpAddr>) -> Result<Seat, Full> {
        let cut = Arc::new(Notify::new());
        let peer = peer.map(network);
        let held = Held { peer, known: false, cut: Arc::clone(&cut) };
        let taken = self.0.table().take(held);
        let metrics = &self.0.metrics;
        let (number, pushed) = taken.inspect_err(|_| metrics.connections_refused.inc())?;
        if pushed {
            metrics.connections_refused.inc();
        }
        metrics.connections.inc();
        self.0.living.send_modify(|living| *living += 1);
        let place = Place { number, peer, known: AtomicBool::new(false), cut, shared: Arc::clone(&self.0) };
        Ok(Seat(Arc::new(place)))
    }

    /// Waits until everybody is gone.
    pub(super) async fn all_free(&self) {
        let _ = self.0.living.subscribe().wait_for(|living| *living == 0).await;
    }
}

/// Whom a request came from, as [`Seat::peer`] tells it.
pub(super) fn peer(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<Seat>().and_then(Seat::peer)
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing in it is left half done by a panic.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// A request was let in, so the place is kept. Answers whether it still was this connection's.
    pub(super) fn keep(&self) -> bool {
        if self.0.known.load(Ordering::Relaxed) {
            return true;
        }
        let mut table = self.0.shared.table();
        let Some(held) = table.held.get_mut(&self.0.number) else { return false };
        held.known = true;
        self.0.known.store(true, Ordering::Relaxed);
        true
    }

    /// Whose it is: an address, or the network of one; `None` on the control socket.
    pub(super) fn peer(&self) -> Option<IpAddr> {
        self.0.peer
    }

    /// Waits until the place is somebody else's.
    pub(super) async fn lost(&self) {
        self.0.cut.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.table().held.remove(&self.number);
        self.shared.metrics.connections.dec();
        self.shared.metrics.connections_closed.inc();
        self.shared.living.send_modify(|living| *living -= 1);
    }
}

impl Table {
    /// Puts a connection into the table: its number, and whether another one had to go.
    fn take(&mut self, new: Held) -> Result<(u64, bool), Full> {
        let before = self.held.len();
        if let Some(peer) = new.peer
            && !peer.is_loopback()
            && self.held.values().filter(|it| it.peer == Some(peer)).count() >= PER_PEER
            && !self.cut_oldest(|it| it.peer == Some(peer))
        {
            return Err(Full::Peer);
        }
        if self.held.len() >= self.cap && !self.cut_oldest(|_| true) {
            return Err(Full::All(self.cap));
        }
        let pushed = self.held.len() < before;
        let number = self.next;
        self.next += 1;
        self.held.insert(number, new);
        Ok((number, pushed))
    }

    /// Takes the place of the stranger that has been here longest, of those meant; whether there was one.
    fn cut_oldest(&mut self, meant: impl Fn(&Held) -> bool) -> bool {
        let oldest = self.held.iter().find(|(_, it)| !it.known && meant(it)).map(|(number, _)| *number);
        let cut = oldest.and_then(|number| self.held.remove(&number));
        if let Some(it) = &cut {
            it.cut.notify_one();
        }
        cut.is_some()
    }
}

/// Whom an address stands for: itself, or of IPv6 the network of 64 bits that one subscriber is given (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)))
        }
        other @ (IpAddr::V4(_) | IpAddr::V6(_)) => other,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn seats(cap: usize) -> Seats {
        Seats::new(cap, Arc::default())
    }

    fn from(address: &str) -> Option<IpAddr> {
        Some(address.parse().unwrap())
    }

    fn was_cut(seat: &Seat) -> bool {
        seat.lost().now_or_never().is_some()
    }

    #[test]
    fn the_oldest_stranger_of_a_peer_makes_room_for_its_next() {
        let seats = seats(1000);
        let other = seats.take(from("10.0.0.2")).unwrap();
        let known = seats.take(from("10.0.0.1")).unwrap();
        assert!(known.keep());
        let strangers: Vec<_> = (1..PER_PEER).map(|_| seats.take(from("10.0.0.1")).unwrap()).collect();
        let late = seats.take(from("10.0.0.1")).unwrap();
        assert!(was_cut(&strangers[0]) && !strangers[0].keep(), "its place is another's");
        assert!(!was_cut(&known) && !was_cut(&other) && !was_cut(&strangers[1]) && !was_cut(&late));
        assert_eq!(seats.0.metrics.connections_refused.get(), 1);
    }

    #[test]
    fn a_peer_whose_connections_are_all_known_is_refused_one_more() {
        let check = |address: &str, expect: Option<Full>| {
            let seats = seats(1000);
            let known: Vec<_> = (0..PER_PEER).map(|_| seats.take(from(address)).unwrap()).collect();
            assert!(known.iter().all(Seat::keep), "{address}");
            assert_eq!(seats.take(from(address)).err(), expect, "{address}");
            assert!(seats.take(from("10.0.0.2")).is_ok());
            drop(known);
            assert!(seats.take(from(address)).is_ok(), "there is room again");
        };
        check("10.0.0.1", Some(Full::Peer));
        check("2001:db8::1", Some(Full::Peer));
        // Everybody on this machine has this address.
        check("127.0.0.1", None);
        check("::1", None);
        check("::ffff:127.0.0.1", None);
    }

    #[test]
    fn all_places_are_shared_the_same_way() {
        let seats = seats(2);
        let (a, b) = (seats.take(None).unwrap(), seats.take(None).unwrap());
        assert!(b.keep());
        let c = seats.take(None).unwrap();
        assert!(was_cut(&a) && !was_cut(&b) && c.keep());
        assert_eq!(seats.take(None).err(), Some(Full::All(2)));
        drop(a);
        assert_eq!(seats.take(None).err(), Some(Full::All(2)), "its place was gone before");
        drop(b);
        assert!(seats.take(None).is_ok());
    }

    #[test]
    fn an_ipv6_peer_is_its_network() {
        let check = |address: &str, expect: &str| {
            assert_eq!(network(address.parse().unwrap()), expect.parse::<IpAddr>().unwrap(), "{address}");
        };
        check("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::");
        check("::ffff:10.0.0.1", "10.0.0.1");
        check("10.0.0.1", "10.0.0.1");
        check("::1", "::1");
    }

    #[tokio::test]
    async fn all_are_free_when_the_last_clone_is_gone() {
        let seats = seats(2);
        let seat = seats.take(None).unwrap();
        let clone = seat.clone();
        drop(seat);
        assert!(seats.all_free().now_or_never().is_none());
        drop(clone);
        seats.all_free().await;
        assert_eq!(seats.0.metrics.connections.get(), 0);
    }
}
