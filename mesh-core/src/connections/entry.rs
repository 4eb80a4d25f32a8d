use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{ConnectionState, ConnectionStatus, Ending, Order, ServerId, Shared};
use crate::{
    config::DownstreamTls,
    identity::{DownstreamContext, Peer},
};

/// A connection whose handshake is done.
#[derive(Debug)]
#[non_exhaustive]
pub struct NewConnection {
    /// Which server accepted it.
    pub server: ServerId,
    /// Who is at the other end.
    pub peer: Arc<Peer>,
    /// The TLS of its handshake; `None`: plaintext.
    pub tls: Option<(Arc<DownstreamTls>, Arc<DownstreamContext>)>,
}

/// A live connection, for those who look at it and tell it what to do. Keeps nothing alive.
#[derive(Clone)]
pub struct ConnectionHandle(Arc<Entry>);

/// A connection's place among the live ones, held by the task that carries it. It leaves when this
/// is dropped.
#[must_use = "the connection is live until this is dropped"]
pub struct Live {
    handle: ConnectionHandle,
    registry: Weak<Shared>,
    /// What the entry's carrier is, so that it is put there once and not with each request.
    carrier: Option<Waker>,
}

/// A request under way, until this is dropped.
#[must_use = "the request is under way until this is dropped"]
pub struct RequestGuard(ConnectionHandle);

struct Entry {
    id: u64,
    new: NewConnection,
    since: Instant,
    in_flight: AtomicU64,
    requests: AtomicU64,
    /// The last order; looked at only when `ordered` says so.
    order: Mutex<Option<Order>>,
    ordered: AtomicBool,
    /// There was an order.
    ending: AtomicBool,
    /// No request that begins from now on is served.
    shut: AtomicBool,
    /// Woken by each order.
    carrier: Mutex<Option<Waker>>,
}

// === impl NewConnection ===

impl NewConnection {
    /// A connection that `server` accepted from `peer`; plaintext unless `tls` is given.
    pub fn new(
        server: ServerId,
        peer: Arc<Peer>,
        tls: Option<(Arc<DownstreamTls>, Arc<DownstreamContext>)>,
    ) -> Self {
        Self { server, peer, tls }
    }
}

// === impl ConnectionHandle ===

impl ConnectionHandle {
    pub(super) fn new(id: u64, new: NewConnection) -> Self {
        Self(Arc::new(Entry {
            id,
            new,
            since: Instant::now(),
            in_flight: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            order: Mutex::new(None),
            ordered: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            shut: AtomicBool::new(false),
            carrier: Mutex::new(None),
        }))
    }

    /// Its number.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Which server accepted it.
    pub fn server(&self) -> ServerId {
        self.0.new.server
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Arc<Peer> {
        &self.0.new.peer
    }

    /// The TLS of its handshake; `None`: plaintext.
    pub fn tls(&self) -> Option<&(Arc<DownstreamTls>, Arc<DownstreamContext>)> {
        self.0.new.tls.as_ref()
    }

    /// Requests under way.
    pub fn in_flight(&self) -> u64 {
        self.0.in_flight.load(Ordering::Relaxed)
    }

    /// Requests since its beginning.
    pub fn requests(&self) -> u64 {
        self.0.requests.load(Ordering::Relaxed)
    }

    /// What can be seen of it now.
    pub fn status(&self) -> ConnectionStatus {
        ConnectionStatus {
            id: self.0.id,
            server: self.0.new.server,
            peer: Arc::clone(&self.0.new.peer),
            since: self.0.since,
            in_flight: self.in_flight(),
            requests: self.requests(),
            state: match *self.0.order.lock() {
                None => ConnectionState::Open,
                Some(Order::Drain(why, _)) => ConnectionState::Draining(why),
                Some(Order::Close(why)) => ConnectionState::Closing(why),
            },
        }
    }

    /// Grows with each request that begins, and with each that ends.
    pub fn activity(&self) -> u64 {
        (2 * self.requests()).wrapping_sub(self.in_flight())
    }

    /// Why it was told to end, if it was.
    pub fn ending(&self) -> Option<Ending> {
        match *self.0.order.lock() {
            None => None,
            Some(Order::Drain(why, _) | Order::Close(why)) => Some(why),
        }
    }

    /// Tells it what to do. A connection that is told to close stays told so; one that drains for
    /// one reason may be told to for another, with another time.
    pub fn order(&self, order: Order) {
        let mut last = self.0.order.lock();
        if let Some(Order::Close(_)) = *last {
            return;
        }
        *last = Some(order);
        self.0.ending.store(true, Ordering::Relaxed);
        self.0.ordered.store(true, Ordering::Release);
        drop(last);
        if let Some(carrier) = &*self.0.carrier.lock() {
            carrier.wake_by_ref();
        }
    }

    /// Serves no request that begins from now on: its peer was told to send no more, has had the
    /// time to hear it, and what is under way may go on.
    pub fn shut(&self) {
        self.0.shut.store(true, Ordering::Relaxed);
    }

    /// Whether it was [shut](Self::shut).
    #[inline]
    pub fn is_shut(&self) -> bool {
        self.0.shut.load(Ordering::Relaxed)
    }

    /// Counts a request until the answer is dropped.
    pub fn begin(&self) -> RequestGuard {
        self.0.in_flight.fetch_add(1, Ordering::Relaxed);
        self.0.requests.fetch_add(1, Ordering::Relaxed);
        RequestGuard(self.clone())
    }
}

impl fmt::Debug for ConnectionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConnectionHandle").field(&self.0.id).finish()
    }
}

// === impl Live ===

impl Live {
    pub(super) fn new(handle: ConnectionHandle, registry: Weak<Shared>) -> Self {
        Self {
            handle,
            registry,
            carrier: None,
        }
    }

    /// The connection, for others.
    pub fn handle(&self) -> &ConnectionHandle {
        &self.handle
    }

    /// Ready with the next order. For one task: the last that has polled is woken.
    #[inline]
    pub fn poll_order(&mut self, cx: &mut Context<'_>) -> Poll<Order> {
        let entry = &self.handle.0;
        let is_known = |carrier: &Waker| carrier.will_wake(cx.waker());
        if !self.carrier.as_ref().is_some_and(is_known) {
            self.carrier = Some(cx.waker().clone());
            entry.carrier.lock().clone_from(&self.carrier);
        }
        // Ordered before there was anybody to be told, or meanwhile.
        if entry.ordered.load(Ordering::Acquire)
            && entry.ordered.swap(false, Ordering::AcqRel)
            && let Some(order) = *entry.order.lock()
        {
            return Poll::Ready(order);
        }
        Poll::Pending
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Live").field(&self.handle.0.id).finish()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // Handles keep nothing alive.
        *self.handle.0.carrier.lock() = None;
        if let Some(registry) = self.registry.upgrade() {
            registry.leave(self.handle.0.id);
        }
    }
}

// === impl RequestGuard ===

impl RequestGuard {
    /// Whether its connection was told to end. Takes no lock.
    #[inline]
    pub fn is_ending(&self) -> bool {
        self.0.0.ending.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for RequestGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequestGuard").field(&self.0.0.id).finish()
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
