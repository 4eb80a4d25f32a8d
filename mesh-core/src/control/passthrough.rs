//! Hosts outside of the mesh: configuration that nobody sends, and that is the same for all of them.
//!
//! A request to such a host is routed, limited, carried and recorded as any other: what it follows
//! is a listener with one route, to a cluster of one endpoint, which is the host itself.

use std::{net::IpAddr, sync::Arc};

use tokio::sync::mpsc;

use super::{Delivery, Event, Inbox, Processed, Source, Watch};
use crate::{
    balance::RoundRobin,
    config::{
        Address, Breakers, CaSource, Cluster, Connections, Discovery, Domain, EndpointConfig,
        Endpoints, Forward, HeaderMutations, Health, HttpForward, HttpManager, HttpProtocol, Kind,
        LbPolicy, Listener, Locality, LocalityId, PathMatcher, PolicyConfig, Resource, ResourceId,
        Route, RouteAction, RouteConfig, RouteMatch, RouteSource, San, SanKind, StringMatch,
        StringMatcher, UpstreamTls, VirtualHost, WeightedCluster,
    },
};

/// The cluster that calls to hosts outside of the mesh are recorded under, and the listener of those
/// that never ask the control plane: Istio's name for it.
pub const PASSTHROUGH_CLUSTER: &str = "PassthroughCluster";

/// A host outside of the mesh, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OutsideHost {
    /// Whether TLS is spoken: the roots of the operating system decide whom to trust, and the
    /// certificate must be for [`name`](Self::name). HTTP/2 is spoken if the host agrees on it
    /// (ALPN). Without TLS it is HTTP/1.1.
    pub tls: bool,
    /// Its name in lower case and without a final dot, or its address without brackets.
    pub name: Arc<str>,
    /// Its port.
    pub port: u16,
}

/// The configuration of a target that is a host outside of the mesh, or becomes one where the mesh
/// does not have it.
///
/// Calls are never tried again by a policy, may take 15 s where they do not say, and may upgrade to
/// `websocket`.
#[derive(Debug)]
pub struct Passthrough {
    listener: Arc<Listener>,
    cluster: Arc<Cluster>,
    endpoints: Arc<Endpoints>,
    /// Asked first, if there is one.
    mesh: Option<Arc<dyn Source>>,
}

// === impl Passthrough ===

impl Passthrough {
    /// Sends everything to `host`. No control plane is asked.
    pub fn to(host: &OutsideHost) -> Self {
        let endpoints = endpoints(host);
        Self {
            listener: Arc::new(listener()),
            cluster: Arc::new(cluster(host, &endpoints.name)),
            endpoints: Arc::new(endpoints),
            mesh: None,
        }
    }

    /// Follows what `mesh` says, and sends everything to `host` where it says that the listener
    /// does not exist. A listener that comes later takes over; one that is deleted stays in force
    /// as it does for every target. Trouble of other kinds never sends a request out of the mesh.
    pub fn unless(mesh: Arc<dyn Source>, host: &OutsideHost) -> Self {
        Self {
            mesh: Some(mesh),
            ..Self::to(host)
        }
    }

    /// The resource `id`, where it is ours.
    fn own(&self, id: &ResourceId) -> Option<Resource> {
        match id.kind {
            Kind::Listener if self.mesh.is_none() => {
                Some(Resource::Listener(Arc::clone(&self.listener)))
            }
            Kind::Cluster if *id.name == *PASSTHROUGH_CLUSTER => {
                Some(Resource::Cluster(Arc::clone(&self.cluster)))
            }
            Kind::Endpoints if id.name == self.endpoints.name => {
                Some(Resource::Endpoints(Arc::clone(&self.endpoints)))
            }
            _ => None,
        }
    }
}

impl Source for Passthrough {
    /// # Panics
    /// Outside a tokio runtime, if another source is asked first.
    fn watch(&self, id: ResourceId, inbox: Inbox) -> Watch {
        if let Some(resource) = self.own(&id) {
            // The watcher may be gone already.
            let _ = inbox.send(Delivery {
                id,
                event: Event::Update(resource),
                processed: Processed::default(),
            });
            return Watch::new(|| {});
        }
        let Some(mesh) = &self.mesh else {
            // Nothing of ours refers to anything else.
            return Watch::new(|| {});
        };
        if id.kind != Kind::Listener {
            return mesh.watch(id, inbox);
        }
        let (relayed, news) = mpsc::unbounded_channel();
        let watch = mesh.watch(id, relayed);
        let ours = Resource::Listener(Arc::clone(&self.listener));
        let relay = tokio::spawn(relay(news, inbox, ours)).abort_handle();
        Watch::new(move || {
            drop(watch);
            relay.abort();
        })
    }
}

/// Hands news of the mesh's listener on, and puts `ours` in the place of one that there is none of.
async fn relay(mut news: mpsc::UnboundedReceiver<Delivery>, inbox: Inbox, ours: Resource) {
    let mut exists = false;
    while let Some(mut delivery) = news.recv().await {
        let missing = match &delivery.event {
            Event::Update(_) => {
                exists = true;
                false
            }
            Event::Gone(error) => {
                exists = false;
                error.kind.is_absence()
            }
            Event::Ambient(error) => !exists && error.kind.is_absence(),
        };
        if missing {
            delivery.event = Event::Update(ours.clone());
        }
        if inbox.send(delivery).is_err() {
            return;
        }
    }
}

fn listener() -> Listener {
    let routes = RouteConfig {
        name: PASSTHROUGH_CLUSTER.into(),
        virtual_hosts: vec![VirtualHost {
            name: "allow_any".into(),
            domains: vec![Domain::Any],
            routes: vec![route().into()],
            overrides: Default::default(),
            headers: HeaderMutations::default(),
        }],
        headers: HeaderMutations::default(),
        most_specific_wins: false,
        ignore_port: false,
    };
    Listener {
        name: PASSTHROUGH_CLUSTER.into(),
        http: HttpManager {
            routes: RouteSource::Inline(Arc::new(routes)),
            filters: [].into(),
            max_stream_duration: None,
            stream_idle_timeout: Some(HttpManager::DEFAULT_STREAM_IDLE_TIMEOUT),
            upgrades: vec![("websocket".into(), true)],
            strip_port: Default::default(),
        },
    }
}

fn route() -> Route {
    Route {
        name: "allow_any".into(),
        matcher: RouteMatch {
            // `*` too, the path of an OPTIONS request for the server as a whole.
            path: PathMatcher::Prefix {
                prefix: String::new(),
                ignore_case: false,
            },
            headers: Vec::new(),
            query: Vec::new(),
            fraction: None,
        },
        action: RouteAction::Forward(Forward {
            clusters: vec![WeightedCluster {
                name: PASSTHROUGH_CLUSTER.into(),
                weight: 1,
                overrides: Default::default(),
                headers: HeaderMutations::default(),
                host_rewrite: None,
            }],
            retry: None,
            max_stream_duration: None,
            grpc_timeout_header_max: None,
            http: HttpForward::default(),
        }),
        overrides: Default::default(),
        headers: HeaderMutations::default(),
    }
}

/// Its own name tells the hosts apart: connections are kept by it. Calls are recorded under the name
/// by which the route knows it.
fn cluster(host: &OutsideHost, name: &Arc<str>) -> Cluster {
    Cluster {
        name: Arc::clone(name),
        discovery: Discovery::Eds(Arc::clone(name)),
        lb: LbPolicy::Endpoints(PolicyConfig(Arc::new(RoundRobin))),
        breakers: Breakers::default(),
        connections: Connections {
            protocol: match host.tls {
                true => HttpProtocol::Auto,
                false => HttpProtocol::Http1,
            },
            ..Connections::default()
        },
        tls: host.tls.then(|| Arc::new(tls(&host.name))),
        panic_threshold: 50.0,
        report_load: None,
        service: None,
    }
}

fn endpoints(host: &OutsideHost) -> Endpoints {
    let scheme = if host.tls { "https" } else { "http" };
    let address = match host.name.parse::<IpAddr>() {
        Ok(ip) => Address::Socket((ip, host.port).into()),
        Err(_) => Address::Name(Arc::clone(&host.name), host.port),
    };
    Endpoints {
        name: format!("{scheme}://{address}").into(),
        localities: vec![Locality {
            id: Arc::new(LocalityId::default()),
            priority: 0,
            weight: 1,
            endpoints: vec![EndpointConfig {
                address,
                more: Box::default(),
                weight: 1,
                health: Health::Unknown,
                hostname: Some(Arc::clone(&host.name)),
                workload: None,
            }],
        }],
        drops: Vec::new(),
        overprovisioning_factor: 140,
    }
}

/// As a browser would: any public authority, and the name that was asked for.
fn tls(name: &Arc<str>) -> UpstreamTls {
    let (kind, sni, expected) = match name.parse::<IpAddr>() {
        // An address is never sent (RFC 6066 section 3); it is compared in the form of RFC 5952.
        Ok(ip) => (SanKind::Ip, None, ip.to_string()),
        Err(_) => (SanKind::Dns, Some(Arc::clone(name)), name.to_string()),
    };
    UpstreamTls {
        roots: CaSource::System,
        identity: None,
        sans: vec![San {
            kind,
            matcher: StringMatcher::new(StringMatch::Exact(expected), false),
        }],
        sni,
        auto_host_sni: false,
        auto_sni_san_validation: false,
    }
}

#[cfg(test)]
mod tests;
