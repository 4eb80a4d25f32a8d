use std::{fmt, sync::Arc};

use crate::{
    Semantics,
    balance::LinkState,
    config::{Address, Cluster},
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
    /// Where it listens.
    pub address: Address,
    /// Its host name, if known.
    pub hostname: Option<Arc<str>>,
    /// How the requests that it gets are understood: decides, with the cluster, which protocol is
    /// spoken.
    pub semantics: Semantics,
    /// The cluster it is of: connection options and TLS.
    pub cluster: Arc<Cluster>,
}
