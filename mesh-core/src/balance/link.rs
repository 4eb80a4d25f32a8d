use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
};

use arc_swap::{ArcSwap, ArcSwapOption, Guard};

use super::load::Counted;
use crate::{
    Semantics,
    config::{Address, Cluster, EndpointConfig, LocalityId, Workload},
};

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

/// One endpoint: where it is, how it is spoken to, and its live state, shared by its connections,
/// the pickers and whoever has a call on it. All reads of live state are single atomic loads.
///
/// There are as many as a mesh has endpoints, so what those of a locality have in common is
/// elsewhere, and what few have is boxed.
pub struct LinkState {
    address: Address,
    /// `None`: it has no host name, and one address for good.
    more: Option<Box<More>>,
    context: Arc<LinkContext>,
    connectivity: AtomicU8,
    in_flight: AtomicU32,
    last_error: ArcSwapOption<Arc<str>>,
}

/// What endpoints have in common.
#[derive(Debug, Clone)]
pub struct LinkContext {
    /// How the requests that they get are understood: decides, with the cluster, which protocol is
    /// spoken.
    pub semantics: Semantics,
    /// The cluster they are of: connection options and TLS.
    pub cluster: Arc<Cluster>,
    /// Identifies the cluster's TLS settings.
    pub tls: TlsId,
    /// Where they are.
    pub locality: Arc<LocalityId>,
    /// Who is told of changes.
    pub observer: Weak<dyn Observer>,
}

/// What most endpoints do not have.
struct More {
    hostname: Option<Arc<str>>,
    /// `None`: that which it is called by.
    addresses: Option<ArcSwap<Box<[Address]>>>,
    /// What runs there. It may change while it is the same endpoint.
    workload: ArcSwapOption<Workload>,
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
    /// An idle endpoint, as it is configured.
    pub fn new(config: &EndpointConfig, context: Arc<LinkContext>) -> Self {
        let addresses = (!is_plain(config)).then(|| ArcSwap::from_pointee(addresses(config)));
        let hostname = config.hostname.clone();
        let workload = config.workload.clone();
        let has_more = addresses.is_some() || hostname.is_some() || workload.is_some();
        Self {
            address: config.address.clone(),
            more: has_more.then(|| {
                Box::new(More {
                    hostname,
                    addresses,
                    workload: ArcSwapOption::new(workload),
                })
            }),
            context,
            connectivity: AtomicU8::new(Connectivity::Idle as u8),
            in_flight: AtomicU32::new(0),
            last_error: ArcSwapOption::empty(),
        }
    }

    /// Where it listens, which is what it is called.
    #[inline]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Where a connection to it may lead, the preferred first (gRFC A61), if not to its
    /// [`address`](Self::address) alone. They may change while it is the same endpoint: connections made
    /// before stay.
    pub fn addresses(&self) -> Option<Arc<Box<[Address]>>> {
        let addresses = self.more.as_ref()?.addresses.as_ref()?;
        Some(addresses.load_full())
    }

    /// Its host name, if known.
    pub fn hostname(&self) -> Option<&Arc<str>> {
        self.more.as_ref()?.hostname.as_ref()
    }

    /// What runs there, if known.
    #[inline]
    pub fn workload(&self) -> Option<Guard<Option<Arc<Workload>>>> {
        Some(self.more.as_ref()?.workload.load())
    }

    /// How the requests that it gets are understood.
    pub fn semantics(&self) -> Semantics {
        self.context.semantics
    }

    /// The cluster it is of: connection options and TLS.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.context.cluster
    }

    /// How it is spoken to.
    pub(super) fn tls(&self) -> TlsId {
        self.context.tls
    }

    /// Where it is.
    #[inline]
    pub fn locality(&self) -> &Arc<LocalityId> {
        &self.context.locality
    }

    /// Whether it is what `config` says, addresses included.
    pub(super) fn is_of(&self, config: &EndpointConfig) -> bool {
        // What a name was looked up as changes for connections to come.
        let is_named = matches!(config.address, Address::Name(..));
        let has_place = self.more.is_some() || config.workload.is_none();
        self.hostname() == config.hostname.as_ref()
            && (is_named || self.has_addresses_of(config))
            && has_place
    }

    fn has_addresses_of(&self, config: &EndpointConfig) -> bool {
        match self.more.as_ref().and_then(|more| more.addresses.as_ref()) {
            Some(mine) => **mine.load() == addresses(config),
            None => is_plain(config),
        }
    }

    /// Takes the addresses of `config`, which is called as before, for the connections to come, and
    /// what runs there.
    pub(super) fn follow(&self, config: &EndpointConfig) {
        if let Some(more) = &self.more {
            let changed = *more.workload.load() != config.workload;
            if changed {
                more.workload.store(config.workload.clone());
            }
        }
        if let Some(mine) = self.more.as_ref().and_then(|more| more.addresses.as_ref())
            && !self.has_addresses_of(config)
        {
            mine.store(Arc::new(addresses(config)));
        }
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
        self.last_error.load().as_deref().cloned()
    }

    /// Reports a change; for transports. `error` is kept until the next one.
    ///
    /// The observer may call back into the transport from within, for this endpoint or others
    /// (`connect`, `retire`): no lock that those take may be held.
    pub fn set(&self, to: Connectivity, error: Option<Arc<str>>) {
        if error.is_some() {
            self.last_error.store(error.map(Arc::new));
        }
        let from = Connectivity::from_u8(self.connectivity.swap(to as u8, Ordering::AcqRel));
        if from != to
            && let Some(observer) = self.context.observer.upgrade()
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

/// Whether an endpoint has one address for good: most have, and there are many.
fn is_plain(config: &EndpointConfig) -> bool {
    config.more.is_empty() && !matches!(config.address, Address::Name(..))
}

fn addresses(config: &EndpointConfig) -> Box<[Address]> {
    let more = config.more.iter();
    match &config.address {
        // What it was looked up as.
        Address::Name(..) if !config.more.is_empty() => more.cloned().collect(),
        first => std::iter::once(first).chain(more).cloned().collect(),
    }
}

impl fmt::Debug for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkState")
            .field("address", &self.address)
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

    /// The response has these headers, or trailers: if its endpoint says in them how loaded it is, the
    /// load report that the call counts in tells what the control plane wants to know of that
    /// (gRFC A85). To be called before [`end`](Self::end).
    #[inline]
    pub fn said(&mut self, headers: &http::HeaderMap) {
        self.counted.said(headers);
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
