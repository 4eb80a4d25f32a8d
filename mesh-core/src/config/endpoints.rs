use std::{fmt, hash::BuildHasher as _, net::SocketAddr, path::PathBuf, sync::Arc};

use rustc_hash::FxBuildHasher;

use super::{Fraction, Workload};

/// The endpoints of a cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoints {
    /// The resource's name.
    pub name: Arc<str>,
    /// Localities that take traffic: weight above zero, priorities without a gap from 0.
    pub localities: Vec<Locality>,
    /// Shares of calls that are dropped, in order.
    pub drops: Vec<Drop>,
    /// `policy.overprovisioning_factor`, in percent, in force under HTTP semantics; more than zero,
    /// default 140: a priority is left whole until fewer than 72 % of its endpoints are healthy.
    pub overprovisioning_factor: u32,
}

/// Calls dropped on the control plane's order (`drop_overloads`).
#[derive(Debug, Clone, PartialEq)]
pub struct Drop {
    /// The reason's name, for reports.
    pub category: Arc<str>,
    /// The share dropped.
    pub share: Fraction,
}

/// Endpoints that are in one place.
#[derive(Debug, Clone, PartialEq)]
pub struct Locality {
    /// The place.
    pub id: Arc<LocalityId>,
    /// 0 is preferred.
    pub priority: u32,
    /// The share among localities of the same priority; more than zero.
    pub weight: u32,
    /// Its endpoints, of whatever health: who picks looks at it.
    pub endpoints: Vec<EndpointConfig>,
}

/// A place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocalityId {
    /// Region.
    pub region: String,
    /// Zone in the region.
    pub zone: String,
    /// Part of the zone.
    pub sub_zone: String,
}

impl LocalityId {
    /// Tells localities apart without looking at them again.
    #[inline]
    pub fn fingerprint(&self) -> u64 {
        FxBuildHasher.hash_one(self)
    }
}

/// Written as gRPC's metrics write it: `{region="..", zone="..", sub_zone=".."}` (gRFC A78).
impl fmt::Display for LocalityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            region,
            zone,
            sub_zone,
        } = self;
        write!(
            f,
            "{{region={region:?}, zone={zone:?}, sub_zone={sub_zone:?}}}"
        )
    }
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointConfig {
    /// Where it listens, which makes it the one it is.
    pub address: Address,
    /// Where it listens, too (`additional_addresses`, gRFC A61); if the first is a name of a cluster
    /// of type `LOGICAL_DNS`: what that was looked up as, in place of it.
    pub more: Box<[Address]>,
    /// Its share within the locality; more than zero, default 1.
    pub weight: u32,
    /// What the control plane says of its health.
    pub health: Health,
    /// Its host name, if the control plane gives one.
    pub hostname: Option<Arc<str>>,
    /// What runs there, if the control plane says so: for telemetry.
    pub workload: Option<Arc<Workload>>,
}

/// Health of an endpoint as the control plane reports it.
///
/// Under gRPC semantics only the first two are picked, and the others not connected (gRFC A27).
/// Under HTTP semantics the degraded take what the first two cannot, and when too few of a priority
/// are available, so do the unhealthy (see [`Cluster::panic_threshold`](super::Cluster)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Health {
    /// Checked and well.
    Healthy,
    /// Not checked.
    Unknown,
    /// Checked and not well, or the check got no answer in time.
    Unhealthy,
    /// To take nothing new: picked under no semantics, and not counted. (Envoy does not count it
    /// either, but picks it in a panic: envoyproxy/envoy#46800.)
    Draining,
    /// Checked, and not as well as it should be.
    Degraded,
}

/// Where an endpoint listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// TCP.
    Socket(SocketAddr),
    /// A Unix domain socket.
    Unix(PathBuf),
    /// A host name and a port, looked up anew for each connection.
    Name(Arc<str>, u16),
}

// === impl Endpoints ===

impl Endpoints {
    /// None at all.
    pub fn none(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            localities: Vec::new(),
            drops: Vec::new(),
            overprovisioning_factor: Self::DEFAULT_OVERPROVISIONING_FACTOR,
        }
    }

    /// `overprovisioning_factor` where it is not set, in percent.
    pub const DEFAULT_OVERPROVISIONING_FACTOR: u32 = 140;
}

// === impl Address ===

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Socket(address) => address.fmt(f),
            Address::Name(name, port) => write!(f, "{name}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
