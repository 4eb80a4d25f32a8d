use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// The connections in their handshake, of which there are never more than a limit: the one that has
/// been at it the longest makes room. Whoever opens many and says nothing loses those, and the one
/// who gets on with it is served.
pub(super) struct HalfOpen {
    limit: usize,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Default)]
struct Queue {
    closed: bool,
    last: u64,
    waiting: BTreeMap<u64, oneshot::Sender<()>>,
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

    /// A place for another connection.
    pub(super) fn enter(&self) -> Ticket {
        let (keep, lost) = oneshot::channel();
        let mut queue = self.queue.lock();
        while queue.waiting.len() >= self.limit {
            queue.waiting.pop_first();
        }
        queue.last += 1;
        let number = queue.last;
        if !queue.closed {
            queue.waiting.insert(number, keep);
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
            queue.lock().waiting.remove(&self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn the_oldest_makes_room_and_a_place_is_given_back() {
        let half_open = HalfOpen::new(2);
        let mut first = half_open.enter();
        let mut second = half_open.enter();
        assert!(first.lost().now_or_never().is_none());
        let mut third = half_open.enter();
        assert!(first.lost().now_or_never().is_some());
        assert_eq!(half_open.len(), 2);

        drop(second);
        let mut fourth = half_open.enter();
        assert!(third.lost().now_or_never().is_none(), "there was room");
        assert_eq!(half_open.len(), 2);

        drop(first);
        assert!(!half_open.is_closed());
        half_open.close();
        assert!(third.lost().now_or_never().is_some());
        assert!(fourth.lost().now_or_never().is_some());
        second = half_open.enter();
        assert!(second.lost().now_or_never().is_some());
        assert!(half_open.is_closed());
    }
}
