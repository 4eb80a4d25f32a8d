use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;

use crate::{
    Semantics,
    balance::LinkState,
    config::{Address, Cluster, EndpointConfig},
};

/// How endpoints are connected to. Balancing is generic over it; its own tests use a fake.
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// The connection, or connections, to one endpoint.
    type Conn: fmt::Debug + Send + Sync + 'static;

    /// A handle to `endpoint`, not connected yet. Reports what happens to it through `link`, but
    /// not from within this call.
    fn open(&self, endpoint: EndpointInfo, link: Arc<LinkState>) -> Self::Conn;

    /// Starts one connection attempt unless one is under way or a connection is up: single flight.
    /// After a failed attempt the transport waits its backoff by itself, then reports
    /// [`Connectivity::Idle`](crate::balance::Connectivity); a call before that does nothing, and
    /// neither does one after [`retire`](Self::retire).
    fn connect(&self, conn: &Self::Conn);

    /// Takes no new stream; open ones end normally within 10 minutes, then all is closed.
    fn retire(&self, conn: &Self::Conn);
}

/// What a transport needs to know of an endpoint.
#[derive(Debug, Clone)]
pub struct EndpointInfo {
    /// Where it listens, which is what it is called.
    pub address: Address,
    /// Where a connection to it may lead, if not there alone.
    pub addresses: Addresses,
    /// Its host name, if known.
    pub hostname: Option<Arc<str>>,
    /// How the requests that it gets are understood: decides, with the cluster, which protocol is
    /// spoken.
    pub semantics: Semantics,
    /// The cluster it is of: connection options and TLS.
    pub cluster: Arc<Cluster>,
}

/// The addresses of an endpoint, the preferred first (gRFC A61), where they are others than the one
/// that it is called by. They may change while it is the same endpoint: connections made before stay.
/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Addresses(Option<Arc<ArcSwap<Box<[Address]>>>>);

// === impl Addresses ===

impl Addresses {
    /// Those of an endpoint.
    pub fn of(endpoint: &EndpointConfig) -> Self {
        match is_plain(endpoint) {
            true => Self(None),
            false => Self::new(list(endpoint)),
        }
    }

    /// These.
    pub fn new(addresses: impl Into<Box<[Address]>>) -> Self {
        Self(Some(Arc::new(ArcSwap::from_pointee(addresses.into()))))
    }

    /// Those of now. None at all: it is at the address that it is called by.
    pub fn load(&self) -> Arc<Box<[Address]>> {
        match &self.0 {
            Some(addresses) => addresses.load_full(),
            None => Arc::default(),
        }
    }

    /// Whether they are those of `endpoint`.
    pub(crate) fn is_of(&self, endpoint: &EndpointConfig) -> bool {
        match &self.0 {
            Some(addresses) => **addresses.load() == list(endpoint),
            None => is_plain(endpoint),
        }
    }

    /// Takes those of `endpoint`, which is called as before, for the connections to come.
    pub(crate) fn follow(&self, endpoint: &EndpointConfig) {
        if let Some(addresses) = &self.0
            && !self.is_of(endpoint)
        {
            addresses.store(Arc::new(list(endpoint)));
        }
    }
}

/// Whether an endpoint has one address for good: most have, and there are many.
fn is_plain(endpoint: &EndpointConfig) -> bool {
    endpoint.more.is_empty() && !matches!(endpoint.address, Address::Name(..))
}

fn list(endpoint: &EndpointConfig) -> Box<[Address]> {
    let more = endpoint.more.iter();
    match &endpoint.address {
        // What it was looked up as.
        Address::Name(..) if !endpoint.more.is_empty() => more.cloned().collect(),
        first => std::iter::once(first).chain(more).cloned().collect(),
    }
}
