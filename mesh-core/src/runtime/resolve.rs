use std::{fmt, future::Future, io, net::IpAddr, pin::Pin, sync::Arc, time::Duration};

/// How host names are looked up, for clusters of the types `STRICT_DNS` and `LOGICAL_DNS`.
/// `mesh-hyper` asks the system; [`MeshBuilder::resolver`](crate::MeshBuilder::resolver) takes its
/// place.
pub trait Resolve: fmt::Debug + Send + Sync + 'static {
    /// Looks up the addresses of `name`. One that has not answered after 10 s has failed.
    fn resolve(&self, name: &Arc<str>) -> ResolveFuture;
}

/// What [`Resolve::resolve`] returns.
pub type ResolveFuture = Pin<Box<dyn Future<Output = io::Result<Resolved>> + Send>>;

/// What a name was looked up as.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Its addresses, the preferred first. None at all count as a failure.
    pub addresses: Vec<IpAddr>,
    /// For how long they may be used, if that is known; in force under `respect_dns_ttl`.
    pub ttl: Option<Duration>,
}
