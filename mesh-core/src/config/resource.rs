use std::{borrow::Cow, fmt, sync::Arc};

use super::{
    Cluster, Endpoints, Listener, RouteConfig, Secret, ServerListener, name::canonical_name,
};

/// The kinds of resource: the four that describe an outbound target, and secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `envoy.config.listener.v3.Listener`.
    Listener,
    /// `envoy.config.route.v3.RouteConfiguration`.
    Route,
    /// `envoy.config.cluster.v3.Cluster`.
    Cluster,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment`.
    Endpoints,
    /// `envoy.extensions.transport_sockets.tls.v3.Secret`.
    Secret,
}

impl Kind {
    /// Every kind, in the order in which one leads to the next.
    pub const ALL: [Kind; 5] = [
        Kind::Listener,
        Kind::Route,
        Kind::Cluster,
        Kind::Endpoints,
        Kind::Secret,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Listener => "listener",
            Kind::Route => "route configuration",
            Kind::Cluster => "cluster",
            Kind::Endpoints => "endpoints",
            Kind::Secret => "secret",
        })
    }
}

/// Names one resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId {
    /// What it is.
    pub kind: Kind,
    /// Its name, in the canonical form.
    pub name: Arc<str>,
}

impl ResourceId {
    /// The resource of `kind` called `name`. An `xdstp:` name may have its context parameters in
    /// any order (gRFC A47); any other name is taken verbatim.
    pub fn new(kind: Kind, name: impl Into<Arc<str>>) -> Self {
        let mut name = name.into();
        if let Cow::Owned(canonical) = canonical_name(&name) {
            name = canonical.into();
        }
        Self { kind, name }
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.kind, self.name)
    }
}

/// A validated resource. Cheap to clone; equal resources configure the same thing.
#[derive(Debug, Clone, PartialEq)]
pub enum Resource {
    /// A listener for clients.
    Listener(Arc<Listener>),
    /// A listener for servers.
    ServerListener(Arc<ServerListener>),
    /// A route configuration.
    Route(Arc<RouteConfig>),
    /// A cluster.
    Cluster(Arc<Cluster>),
    /// The endpoints of a cluster.
    Endpoints(Arc<Endpoints>),
    /// A certificate, or whom to trust.
    Secret(Arc<Secret>),
}

impl Resource {
    /// The resource's kind.
    pub fn kind(&self) -> Kind {
        match self {
            Resource::Listener(_) | Resource::ServerListener(_) => Kind::Listener,
            Resource::Route(_) => Kind::Route,
            Resource::Cluster(_) => Kind::Cluster,
            Resource::Endpoints(_) => Kind::Endpoints,
            Resource::Secret(_) => Kind::Secret,
        }
    }
}

/// What the mesh does with a field that a resource sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Treatment {
    /// In force in another way than the control plane's documentation says; the note says how.
    Approximated,
    /// In force under HTTP semantics; the note says what becomes of it under gRPC's.
    HttpOnly,
    /// Set, and without effect here.
    Ignored,
}

/// A field of an accepted resource that is not fully in force.
///
/// A field that is in force leaves no finding; one that cannot be accepted rejects its resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Finding {
    /// Where the field is, such as `route_config.virtual_hosts[0].routes[2].route.timeout`.
    pub path: String,
    /// What becomes of it.
    pub treatment: Treatment,
    /// Why, or how it is approximated.
    pub note: String,
}
