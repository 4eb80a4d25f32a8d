use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
};

use mesh_core::config::Address;
use tokio::sync::Notify;

/// How many streams a connection has, and may have.
#[derive(Debug)]
pub(super) struct Streams {
    address: Address,
    /// Open ones in the lower half; in the upper, how many were ever begun, so that one look tells
    /// whether the connection was used since the last. One atomic operation per change.
    count: AtomicU64,
    /// The peer's limit.
    limit: AtomicU32,
    /// How many it may ever have; zero: any number.
    most: u32,
    waiters: Arc<Waiters>,
}

/// Calls that wait for a stream of one endpoint's connections, in order.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    /// How many there are; nobody else touches the rest while it is zero.
    waiting: AtomicUsize,
    changed: Notify,
}

/// A call that waits, counted until this is dropped.
pub(super) struct Waiting(Arc<Waiters>);

/// An open stream, or a request on an HTTP/1.1 connection, counted against its connection's limit
/// until this is dropped. Keep it with the response's body.
pub struct StreamGuard(Arc<Streams>);

/// One stream begun and open.
const ONE: u64 = (1 << 32) | 1;

// === impl Streams ===

impl Streams {
    pub(super) fn new(address: Address, limit: u32, most: u32, waiters: Arc<Waiters>) -> Self {
        Self {
            address,
            count: AtomicU64::new(0),
            limit: AtomicU32::new(limit),
            most,
            waiters,
        }
    }

    /// A stream, if the peer's limit allows another.
    ///
    /// The count never goes past the limit, not even for a moment: a waiter that looks at that
    /// moment would go back to sleep, and nobody would wake it. Sequentially consistent, as the
    /// release of a stream is: either the one who gives a stream back sees who waits, or the one
    /// who waits sees the stream.
    pub(super) fn begin(self: &Arc<Self>) -> Option<StreamGuard> {
        self.count
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| {
                let room = (count as u32) < self.limit.load(Ordering::SeqCst);
                let room = room && (self.most == 0 || ((count >> 32) as u32) < self.most);
                room.then(|| count.wrapping_add(ONE))
            })
            .ok()
            .map(|_| StreamGuard(Arc::clone(self)))
    }

    /// A stream, whatever the limits say.
    pub(super) fn begin_anyway(self: &Arc<Self>) -> StreamGuard {
        self.count.fetch_add(ONE, Ordering::SeqCst);
        StreamGuard(Arc::clone(self))
    }

    /// Whether it has had as many as it may.
    pub(super) fn is_spent(&self) -> bool {
        self.most != 0 && self.begun() >= self.most
    }

    /// Sets the peer's limit.
    pub(super) fn set_limit(&self, limit: u32) {
        if self.limit.swap(limit, Ordering::SeqCst) < limit {
            self.waiters.wake_all();
        }
    }

    /// Open streams.
    pub(super) fn open(&self) -> u32 {
        self.count.load(Ordering::Relaxed) as u32
    }

    /// A number that changes with each stream that is begun.
    pub(super) fn begun(&self) -> u32 {
        (self.count.load(Ordering::Relaxed) >> 32) as u32
    }
}

// === impl Waiters ===

impl Waiters {
    /// Counts a waiting call.
    pub(super) fn join(self: &Arc<Self>) -> Waiting {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(Arc::clone(self))
    }

    /// Whether calls wait: then a new one stands behind them.
    pub(super) fn any(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Lets all look again: there is another connection, one less, or a higher limit.
    pub(super) fn wake_all(&self) {
        self.changed.notify_waiters();
    }
}

impl Waiting {
    /// What tells of a change. Enable it before looking.
    pub(super) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.0.changed.notified()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

// === impl StreamGuard ===

impl StreamGuard {
    /// The endpoint's address.
    pub fn address(&self) -> &Address {
        &self.0.address
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        let Self(streams) = self;
        streams.count.fetch_sub(1, Ordering::SeqCst);
        if streams.waiters.waiting.load(Ordering::SeqCst) > 0 {
            streams.waiters.changed.notify_one();
        }
    }
}

impl fmt::Debug for StreamGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamGuard")
            .field("open", &self.0.open())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A waiter that looks while another one fails must not miss the last stream given back.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn nobody_waits_for_ever_at_the_limit() {
        let address = Address::Socket(([127, 0, 0, 1], 1).into());
        let waiters = Arc::new(Waiters::default());
        let streams = Arc::new(Streams::new(address, 1, 0, Arc::clone(&waiters)));
        let callers = (0..4).map(|_| {
            let (streams, waiters) = (Arc::clone(&streams), Arc::clone(&waiters));
            tokio::spawn(async move {
                for _ in 0..20_000 {
                    let guard = {
                        let waiting = waiters.join();
                        loop {
                            let mut changed = std::pin::pin!(waiting.changed());
                            changed.as_mut().enable();
                            if let Some(guard) = streams.begin() {
                                break guard;
                            }
                            changed.await;
                        }
                    };
                    assert_eq!(streams.open(), 1);
                    drop(guard);
                }
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.unwrap();
        }
        assert_eq!(streams.open(), 0);
    }
}
