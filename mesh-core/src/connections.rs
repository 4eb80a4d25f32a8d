//! The connections that servers of this process have accepted.
//!
//! One registry, [`Mesh::connections`](crate::Mesh::connections), for whoever has to reach them all:
//! the drain of the process, the re-check of certificates after whom to trust has changed, and the
//! status page.

mod entry;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

// Wiring for planes, such as mesh-hyper's: who only looks has `Connections::list`.
#[doc(hidden)]
pub use self::entry::{ConnectionHandle, Live, NewConnection, RequestGuard};
use crate::identity::Peer;

/// The connections that servers of this process have accepted. Cheap to clone; does not keep the
/// mesh alive.
#[derive(Clone)]
pub struct Connections(Arc<Shared>);

/// Tells the servers of one process apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(u64);

/// A connection, as the status page shows it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConnectionStatus {
    /// Its number: never used twice in a process.
    pub id: u64,
    /// Which server accepted it.
    pub server: ServerId,
    /// Who is at the other end: address, TLS, certificate.
    pub peer: Arc<Peer>,
    /// When its handshake was done.
    pub since: Instant,
    /// Requests under way, until the last byte of their responses.
    pub in_flight: u64,
    /// Requests since its beginning.
    pub requests: u64,
    /// What it is about to do.
    pub state: ConnectionState,
}

/// What a connection is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionState {
    /// It takes requests.
    Open,
    /// It was told to go away: what is under way is finished, nothing new is taken.
    Draining(Ending),
    /// It is being closed, whatever is under way.
    Closing(Ending),
}

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Ending {
    /// It has reached the age that its server allows.
    Age,
    /// Nothing has been asked on it for long.
    Idle,
    /// It has brought as many requests as its server allows.
    Requests,
    /// The listener's configuration treats it otherwise now, or not at all (gRFC A36).
    ListenerChanged,
    /// Its certificate does not verify any more.
    Untrusted,
    /// Its server shuts down.
    Shutdown,
    /// The process drains.
    Drain,
}

/// What a connection is told.
// Wiring for planes, as `ConnectionHandle` is.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// Say that no more is taken, finish what is under way within this time, then close.
    Drain(Ending, Duration),
    /// Close now.
    Close(Ending),
}

/// How [`Mesh::drain`](crate::Mesh::drain) went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// Connections that ended by themselves, all their requests answered.
    pub finished: usize,
    /// Connections that were closed at the deadline.
    pub cut: usize,
    /// Requests that were under way on those.
    pub requests_cut: u64,
}

struct Shared {
    last: AtomicU64,
    live: Mutex<BTreeMap<u64, ConnectionHandle>>,
    /// How many there are.
    count: watch::Sender<usize>,
    /// When the process has to be drained, once it drains.
    draining: watch::Sender<Option<Instant>>,
}

/// How long connections have to notice that they are to close, at the end of a drain.
const LAST_WORD: Duration = Duration::from_secs(1);

// === impl Connections ===

impl Connections {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared {
            last: AtomicU64::new(0),
            live: Mutex::default(),
            count: watch::Sender::default(),
            draining: watch::Sender::default(),
        }))
    }

    /// A number for another server.
    // Wiring for planes, such as mesh-hyper's: a service has no use for it.
    #[doc(hidden)]
    pub fn server(&self) -> ServerId {
        ServerId(self.0.next())
    }

    /// Adds a connection, until the answer is dropped. One that comes while the process drains is
    /// told so at once.
    // Wiring for planes, such as mesh-hyper's: a service has no use for it.
    #[doc(hidden)]
    pub fn open(&self, new: NewConnection) -> Live {
        let id = self.0.next();
        let handle = ConnectionHandle::new(id, new);
        let mut live = self.0.live.lock();
        live.insert(id, handle.clone());
        self.0.count.send_replace(live.len());
        let draining = *self.0.draining.borrow();
        drop(live);
        if let Some(deadline) = draining {
            handle.order(Order::Drain(Ending::Drain, left(deadline)));
        }
        Live::new(handle, Arc::downgrade(&self.0))
    }

    /// Those that are live, in the order in which they came.
    pub fn list(&self) -> Vec<ConnectionStatus> {
        self.all().iter().map(ConnectionHandle::status).collect()
    }

    /// How many are live.
    pub fn len(&self) -> usize {
        self.0.live.lock().len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those of one server.
    // Wiring for planes, such as mesh-hyper's: a service has no use for it.
    #[doc(hidden)]
    pub fn of(&self, server: ServerId) -> Vec<ConnectionHandle> {
        let live = self.0.live.lock();
        live.values()
            .filter(|connection| connection.server() == server)
            .cloned()
            .collect()
    }

    /// Whether the process drains.
    pub fn is_draining(&self) -> bool {
        self.0.draining.borrow().is_some()
    }

    /// Waits until the process drains.
    pub async fn drain_begun(&self) {
        let mut draining = self.0.draining.subscribe();
        // The sender is in `self`.
        let _ = draining.wait_for(Option::is_some).await;
    }

    /// Waits until `reached` holds for how many there are.
    pub async fn count_reached(&self, reached: impl FnMut(&usize) -> bool) {
        let mut count = self.0.count.subscribe();
        // The sender is in `self`.
        let _ = count.wait_for(reached).await;
    }

    /// Drains all: see [`Mesh::drain`](crate::Mesh::drain).
    pub(crate) async fn drain(&self, limit: Duration) -> DrainReport {
        let deadline = Instant::now() + limit;
        let before = self.begin_drain(deadline);
        for connection in &before {
            connection.order(Order::Drain(Ending::Drain, limit));
        }
        let empty = self.count_reached(|count| *count == 0);
        let _ = timeout_at(deadline, empty).await;

        let rest = self.all();
        let mut report = DrainReport {
            finished: before.len().saturating_sub(rest.len()),
            cut: rest.len(),
            requests_cut: 0,
        };
        for connection in &rest {
            report.requests_cut += connection.status().in_flight;
            connection.order(Order::Close(Ending::Drain));
        }
        let empty = self.count_reached(|count| *count == 0);
        let _ = timeout_at(Instant::now() + LAST_WORD, empty).await;
        report
    }

    /// Those that are live, when later ones learn that the process drains.
    fn begin_drain(&self, deadline: Instant) -> Vec<ConnectionHandle> {
        let live = self.0.live.lock();
        // Under the lock: a connection is among these, or it finds the deadline when it comes.
        self.0.draining.send_replace(Some(deadline));
        live.values().cloned().collect()
    }

    fn all(&self) -> Vec<ConnectionHandle> {
        self.0.live.lock().values().cloned().collect()
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections")
            .field("live", &self.len())
            .field("draining", &self.is_draining())
            .finish()
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

// === impl Ending ===

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ending::Age => "it has reached the greatest age",
            Ending::Idle => "nothing was asked on it for long",
            Ending::Requests => "it has brought as many requests as one may",
            Ending::ListenerChanged => "the listener's configuration has changed",
            Ending::Untrusted => "its certificate is not trusted any more",
            Ending::Shutdown => "the server shuts down",
            Ending::Drain => "the process drains",
        })
    }
}

// === impl Shared ===

impl Shared {
    fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn leave(&self, id: u64) {
        let mut live = self.live.lock();
        live.remove(&id);
        self.count.send_replace(live.len());
    }
}
