use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use super::load::Counted;
use crate::config::{Address, LocalityId};

/// What makes an endpoint the same endpoint across updates.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointKey {
    /// Where it listens.
    pub address: Address,
    /// How it is spoken to.
    pub tls: TlsId,
}

/// Identifies the TLS settings of a connection: another id, another endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TlsId(u64);

impl TlsId {
    /// No TLS.
    pub const PLAINTEXT: TlsId = TlsId(0);

    /// An id that no other settings have.
    pub fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// State of an endpoint's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Connectivity {
    /// Not connected and not trying.
    Idle = 0,
    /// An attempt is under way.
    Connecting = 1,
    /// A connection takes streams; under HTTP/1.1, where each request may need a connection of its
    /// own: the last attempt to connect did not fail, and more are made on demand.
    Ready = 2,
    /// The last attempt failed; the transport waits its backoff.
    Failing = 3,
}

/// Live state of one endpoint, shared by its connections, the pickers and whoever has a call on
/// it. All reads are single atomic loads.
pub struct LinkState {
    key: EndpointKey,
    locality: Arc<LocalityId>,
    connectivity: AtomicU8,
    in_flight: AtomicU32,
    last_error: Mutex<Option<Arc<str>>>,
    observer: Weak<dyn Observer>,
}

/// Told of each change of an endpoint's connectivity, in the task that made it.
pub trait Observer: Send + Sync {
    /// `link` went from `from` to `to`.
    fn changed(&self, link: &LinkState, from: Connectivity, to: Connectivity);
}

// === impl Connectivity ===

impl Connectivity {
    fn from_u8(value: u8) -> Self {
        match value {
            0 => Connectivity::Idle,
            1 => Connectivity::Connecting,
            2 => Connectivity::Ready,
            _ => Connectivity::Failing,
        }
    }
}

// === impl LinkState ===

impl LinkState {
    /// An idle endpoint whose changes go to `observer`.
    pub fn new(key: EndpointKey, locality: Arc<LocalityId>, observer: Weak<dyn Observer>) -> Self {
        Self {
            key,
            locality,
            connectivity: AtomicU8::new(Connectivity::Idle as u8),
            in_flight: AtomicU32::new(0),
            last_error: Mutex::new(None),
            observer,
        }
    }

    /// Which endpoint it is.
    pub fn key(&self) -> &EndpointKey {
        &self.key
    }

    /// Where it is.
    pub fn locality(&self) -> &Arc<LocalityId> {
        &self.locality
    }

    /// The state of its connections.
    #[inline]
    pub fn connectivity(&self) -> Connectivity {
        Connectivity::from_u8(self.connectivity.load(Ordering::Acquire))
    }

    /// Whether it takes calls: see [`Connectivity::Ready`].
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.connectivity.load(Ordering::Acquire) == Connectivity::Ready as u8
    }

    /// Calls on it now.
    #[inline]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Why the last connection attempt failed or the last connection ended.
    pub fn last_error(&self) -> Option<Arc<str>> {
        self.last_error.lock().clone()
    }

    /// Reports a change; for transports. `error` is kept until the next one.
    ///
    /// The observer may call back into the transport from within, for this endpoint or others
    /// (`connect`, `retire`): no lock that those take may be held.
    pub fn set(&self, to: Connectivity, error: Option<Arc<str>>) {
        if error.is_some() {
            *self.last_error.lock() = error;
        }
        let from = Connectivity::from_u8(self.connectivity.swap(to as u8, Ordering::AcqRel));
        if from != to
            && let Some(observer) = self.observer.upgrade()
        {
            observer.changed(self, from, to);
        }
    }

    /// Counts a call on this endpoint until the guard is dropped.
    #[inline]
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.begin_counted(Counted::default())
    }

    /// As [`begin`](Self::begin), for a call that counts in a load report.
    #[inline]
    pub(super) fn begin_counted(self: &Arc<Self>, counted: Counted) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight {
            link: Arc::clone(self),
            counted,
        }
    }
}

impl fmt::Debug for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkState")
            .field("address", &self.key.address)
            .field("connectivity", &self.connectivity())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

/// A call on an endpoint, counted until this is dropped.
#[derive(Debug)]
pub struct InFlight {
    link: Arc<LinkState>,
    counted: Counted,
}

impl InFlight {
    /// The endpoint.
    pub fn link(&self) -> &Arc<LinkState> {
        &self.link
    }

    /// The call has ended, well or not, for the load report that it counts in, if it does. One that
    /// is dropped before was given up by its caller.
    #[inline]
    pub fn end(&mut self, well: bool) {
        self.counted.end(well);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.link.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
