use std::{net::SocketAddr, sync::Arc};

use arc_swap::Guard;
use tokio::sync::futures::Notified;

use super::Reject;
use crate::{
    Semantics,
    config::DownstreamTls,
    control::{Source, SourceError},
    filter::Filter,
    route::{Head, Trace},
    telemetry::Recorder,
};

/// What a server's connections and requests follow: configuration that is kept for as long as
/// somebody holds this (gRFC A36).
///
/// Dropping it ends its watches and its task.
#[derive(Debug)]
pub struct Inbound;

/// Names what a server follows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InboundSpec {
    /// The listener's resource name.
    pub listener: Arc<str>,
    /// The address the server is bound to. A listener for another address is not served.
    pub address: SocketAddr,
    /// How its requests are understood.
    pub semantics: Semantics,
}

/// What is known of a server's listener.
#[derive(Debug)]
pub enum InboundState {
    /// Nothing yet.
    Waiting,
    /// No connection is to be accepted, for now: an update may come.
    NotServing(SourceError),
    /// Connections and requests follow this.
    Serving(InboundSnapshot),
}

/// A listener's configuration, compiled.
#[derive(Debug)]
pub struct InboundSnapshot;

/// The two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The peer's address.
    pub peer: SocketAddr,
    /// The address it reached.
    pub local: SocketAddr,
}

/// The treatment of one connection.
#[derive(Debug)]
pub struct InboundChain;

/// The treatment of the requests of one route.
#[derive(Debug)]
pub struct InboundRoute {
    /// The route's name, else its position, such as `#3`.
    pub route: Arc<str>,
    /// What happens to the request on the way.
    pub filters: Box<[Arc<dyn Filter>]>,
}

impl Inbound {
    /// Starts to follow `spec`. To be called in a tokio runtime.
    pub fn open(_: InboundSpec, _: Arc<dyn Source>, _: Option<Arc<dyn Recorder>>) -> Self {
        unimplemented!()
    }

    /// Follows nothing: one chain with this TLS for all connections, whose requests are all
    /// served. `None`: plaintext.
    pub fn fixed(_: InboundSpec, _: Option<Arc<DownstreamTls>>) -> Self {
        unimplemented!()
    }

    /// What is known now. The guard must not be kept across an await.
    pub fn load(&self) -> Guard<Arc<InboundState>> {
        unimplemented!()
    }

    /// Resolves at the next change of state after this call.
    pub fn changed(&self) -> Notified<'_> {
        unimplemented!()
    }
}

impl InboundSnapshot {
    /// The treatment of a connection; `None`: it is to be closed without a byte. Two snapshots give
    /// the same `Arc` for a chain that did not change in any way, its routes included.
    pub fn chain(&self, _: Ends) -> Option<&Arc<InboundChain>> {
        unimplemented!()
    }
}

impl InboundChain {
    /// TLS; `None`: plaintext. A connection whose chain has other TLS now than at its handshake is
    /// to be drained.
    pub fn tls(&self) -> Option<&Arc<DownstreamTls>> {
        unimplemented!()
    }

    /// The route of the request with this head. Does not allocate if there is one.
    ///
    /// # Errors
    /// If no route takes it, the route is not one for servers, or there are no routes.
    pub fn route<X: Trace>(&self, _: &Head<'_>, _: &mut X) -> Result<&Arc<InboundRoute>, Reject> {
        unimplemented!()
    }
}
