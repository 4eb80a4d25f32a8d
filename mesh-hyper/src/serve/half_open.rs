use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// The connections in their handshake, of which there are never more than a limit. Room is made by
/// the address that has the most of them, and there by the one that has been at it the longest:
/// whoever opens many and says nothing loses those, while others at other addresses keep theirs.
pub(super) struct HalfOpen {
    limit: usize,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Default)]
struct Queue {
    closed: bool,
    last: u64,
    waiting: BTreeMap<u64, Waiting>,
    /// How many each origin has; none has zero.
    origins: HashMap<IpAddr, usize>,
}

struct Waiting {
    origin: IpAddr,
    /// Dropped when the place is given to another.
    _keep: oneshot::Sender<()>,
}

/// A connection's place among them, until it is dropped.
pub(super) struct Ticket {
    number: u64,
    /// Closed when the place is given to another.
    lost: oneshot::Receiver<()>,
    queue: Weak<Mutex<Queue>>,
}

// === impl HalfOpen ===

impl HalfOpen {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            queue: Arc::default(),
        }
    }

    /// A place for another connection, from this address.
    pub(super) fn enter(&self, peer: IpAddr) -> Ticket {
        let (keep, lost) = oneshot::channel();
        let mut queue = self.queue.lock();
        while queue.waiting.len() >= self.limit {
            queue.make_room();
        }
        queue.last += 1;
        let number = queue.last;
        if !queue.closed {
            let origin = origin(peer);
            *queue.origins.entry(origin).or_default() += 1;
            let waiting = Waiting {
                origin,
                _keep: keep,
            };
            queue.waiting.insert(number, waiting);
        }
        Ticket {
            number,
            lost,
            queue: Arc::downgrade(&self.queue),
        }
    }

    /// Closes all of them, and those that come.
    pub(super) fn close(&self) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        queue.waiting.clear();
        queue.origins.clear();
    }

    /// Whether they were closed. One that has just left them asks.
    pub(super) fn is_closed(&self) -> bool {
        self.queue.lock().closed
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queue.lock().waiting.len()
    }
}

/// Whom an address counts for: one machine can have all the addresses of a /64 of IPv6.
fn origin(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() >> 64 << 64;
            Ipv6Addr::from_bits(network).into()
        }
        v4 => v4,
    }
}

// === impl Queue ===

impl Queue {
    /// Closes the oldest of the origin that has the most; of several such, the oldest of all. Looks
    /// at all of them, of which there are no more than the limit.
    fn make_room(&mut self) {
        let most = self.origins.values().copied().max();
        let loses = |waiting: &Waiting| self.origins.get(&waiting.origin).copied() == most;
        let oldest = self.waiting.iter().find(|(_, waiting)| loses(waiting));
        if let Some(number) = oldest.map(|(number, _)| *number) {
            self.leave(number);
        }
    }

    fn leave(&mut self, number: u64) {
        let Some(left) = self.waiting.remove(&number) else {
            return;
        };
        if let Some(count) = self.origins.get_mut(&left.origin) {
            *count -= 1;
            if *count == 0 {
                self.origins.remove(&left.origin);
            }
        }
    }
}

// === impl Ticket ===

impl Ticket {
    /// Resolves when the place is lost.
    pub(super) async fn lost(&mut self) {
        // Nothing is ever sent.
        let _ = (&mut self.lost).await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.upgrade() {
            queue.lock().leave(self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures_util::FutureExt;

    use super::*;

    fn at(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    fn is_lost(ticket: &mut Ticket) -> bool {
        ticket.lost().now_or_never().is_some()
    }

    #[test]
    fn the_oldest_makes_room_and_a_place_is_given_back() {
        let half_open = HalfOpen::new(2);
        let mut first = half_open.enter(at(1));
        let mut second = half_open.enter(at(2));
        assert!(!is_lost(&mut first));
        let mut third = half_open.enter(at(3));
        assert!(is_lost(&mut first));
        assert_eq!(half_open.len(), 2);

        drop(second);
        let mut fourth = half_open.enter(at(1));
        assert!(!is_lost(&mut third), "there was room");
        assert_eq!(half_open.len(), 2);

        drop(first);
        assert!(!half_open.is_closed());
        half_open.close();
        assert!(is_lost(&mut third));
        assert!(is_lost(&mut fourth));
        second = half_open.enter(at(1));
        assert!(is_lost(&mut second));
        assert!(half_open.is_closed());
    }

    #[test]
    fn who_opens_many_loses_their_own() {
        let half_open = HalfOpen::new(8);
        let mut honest: Vec<_> = (1..=4).map(|last| half_open.enter(at(last))).collect();
        let mut flood: Vec<_> = (0..100).map(|_| half_open.enter(at(99))).collect();
        let mut late = half_open.enter(at(5));
        assert!(honest.iter_mut().all(|ticket| !is_lost(ticket)));
        assert!(!is_lost(&mut late));
        let lost = flood
            .iter_mut()
            .filter_map(|one| is_lost(one).then_some(()));
        assert_eq!(lost.count(), 97, "the last three are left");
        assert_eq!(half_open.len(), 8);

        drop((honest, flood, late));
        assert_eq!(half_open.len(), 0);
        assert!(half_open.queue.lock().origins.is_empty());
    }

    #[test]
    fn the_addresses_of_one_network_of_ipv6_are_one_origin() {
        let of = |text: &str| origin(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:0:0:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), at(1));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }
}
