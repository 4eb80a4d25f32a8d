use std::{fmt, time::Duration};

use prost::{Message, Name};

use super::{
    ControlPlane, Push, Tls,
    parts::{Endpoint, Fault, Origin, Picking, Retry, Route},
    render::pack,
    service::{Draft, Presence},
};
use crate::config::{Address, LocalityId};

/// Describes or edits one service; [`apply`](Self::apply) pushes all of it at once.
///
/// The control plane remembers every service, so that a later call says only what changes:
/// `control_plane.service("greeter").drain(address).apply()`.
///
/// What concerns a version (its endpoints, weight, limits...) applies to the one that
/// [`version`](Self::version) named last. Before one is named, endpoints go to the only version
/// there is, and settings to all, also to those that come later; a service that has none gets an
/// unnamed one.
///
/// A service called `S` is a listener `S`, a route configuration `route/S`, and for each version
/// `V` a cluster `S/V` with endpoints of the same name (the unnamed version: `S`). See
/// [`cluster_name`](super::cluster_name) and [`route_name`](super::route_name).
#[must_use = "nothing is pushed before `apply`"]
pub struct Service {
    control_plane: ControlPlane,
    name: String,
    edits: Vec<Edit>,
}

type Edit = Box<dyn FnOnce(&mut Draft) + Send>;

impl Service {
    pub(super) fn new(control_plane: ControlPlane, name: String) -> Self {
        Self {
            control_plane,
            name,
            edits: Vec::new(),
        }
    }

    /// Speaks of this version from here on. A new one has a weight of 1 and no endpoints.
    pub fn version(self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.edit(move |draft| draft.select(&name))
    }

    /// The version's share of calls.
    pub fn weight(self, weight: u32) -> Self {
        self.edit(move |draft| draft.one(|version| version.weight = weight))
    }

    /// Adds an endpoint to the version, or replaces the one with this address.
    pub fn endpoint(self, endpoint: impl Into<Endpoint>) -> Self {
        let endpoint = endpoint.into();
        self.edit(move |draft| draft.one(|version| version.put(endpoint)))
    }

    /// The same in a locality, such as [`zone("b")`](super::zone).
    pub fn endpoint_in(self, locality: LocalityId, endpoint: impl Into<Endpoint>) -> Self {
        self.endpoint(endpoint.into().locality(locality))
    }

    /// Forgets all endpoints of the version.
    pub fn clear_endpoints(self) -> Self {
        self.edit(|draft| draft.one(|version| version.endpoints.clear()))
    }

    /// The version's endpoints come from EDS: the default.
    pub fn eds(self) -> Self {
        self.edit(|draft| draft.one(|version| version.origin = Origin::Eds))
    }

    /// The version's endpoints are in its cluster (type `STATIC`), which has no endpoints resource.
    pub fn fixed(self) -> Self {
        self.edit(|draft| draft.one(|version| version.origin = Origin::Static))
    }

    /// The version's one endpoint is looked up by name, and has all addresses of that (type
    /// `LOGICAL_DNS`). Forgets other endpoints. See [`Hosts`](super::Hosts).
    pub fn logical_dns(self, host: &str, port: u16) -> Self {
        self.named(Origin::LogicalDns, host, port)
    }

    /// The version's endpoints are looked up by name, and each address is one (type `STRICT_DNS`).
    /// Forgets other endpoints; [`endpoint`](Self::endpoint) adds names and addresses. See
    /// [`Hosts`](super::Hosts).
    pub fn strict_dns(self, host: &str, port: u16) -> Self {
        self.named(Origin::StrictDns, host, port)
    }

    /// How often the version's names are looked up; the client's default otherwise.
    pub fn dns_refresh(self, refresh: Duration) -> Self {
        self.edit(move |draft| draft.one(|version| version.dns_refresh = Some(refresh)))
    }

    /// Other clusters stand in for the version, the first that can (gRFC A37): those of these names,
    /// such as [`cluster_name`](super::cluster_name) has them. Forgets its endpoints.
    pub fn aggregate<N: Into<String>>(self, clusters: impl IntoIterator<Item = N>) -> Self {
        let clusters: Vec<String> = clusters.into_iter().map(Into::into).collect();
        self.edit(move |draft| {
            draft.one(|version| {
                version.endpoints.clear();
                version.origin = Origin::Aggregate(clusters);
            });
        })
    }

    /// The share of a locality among those of its priority; 1 by default.
    pub fn locality_weight(self, locality: LocalityId, weight: u32) -> Self {
        self.edit(move |draft| {
            draft.one(|version| {
                version.locality_weights.insert(locality, weight);
            });
        })
    }

    /// Drops this share of the version's calls, in percent, under the name of a category. Several
    /// categories apply in turn; a share of 0 takes the category away.
    pub fn drop_percent(self, category: impl Into<String>, percent: f64) -> Self {
        let category = category.into();
        self.edit(move |draft| {
            draft.each(|version| {
                version.drops.retain(|(name, _)| *name != category);
                if percent > 0.0 {
                    version.drops.push((category.clone(), percent));
                }
            });
        })
    }

    /// Endpoints are picked in turn: the default.
    pub fn round_robin(self) -> Self {
        self.edit(|draft| draft.each(|version| version.picking = Picking::RoundRobin))
    }

    /// Of `choices` endpoints drawn at random the one with the fewest calls is picked.
    pub fn least_request(self, choices: u32) -> Self {
        self.edit(move |draft| {
            draft.each(|version| {
                version.picking = Picking::LeastRequest { choices };
            });
        })
    }

    /// Endpoints are picked by the load balancing policy that `config` configures (gRFC A52).
    pub fn lb_policy<M: Message + Name>(self, config: &M) -> Self {
        let config = pack(config);
        self.edit(move |draft| {
            draft.each(|version| version.picking = Picking::Policy(config.clone()));
        })
    }

    /// Whether clients report the load of the version to this control plane (`lrs_server`): see
    /// [`want_loads`](ControlPlane::want_loads). Default: they do not.
    pub fn report_load(self, report: bool) -> Self {
        self.edit(move |draft| draft.each(|version| version.report_load = report))
    }

    /// What endpoints say of their load that clients [report](Self::report_load), too
    /// (`lrs_report_endpoint_metrics`, gRFC A85): `cpu_utilization`, `named_metrics.*`... Default: nothing.
    pub fn endpoint_metrics<N: Into<String>>(self, names: impl IntoIterator<Item = N>) -> Self {
        let names: Vec<_> = names.into_iter().map(Into::into).collect();
        self.edit(move |draft| {
            draft.each(|version| version.endpoint_metrics.clone_from(&names));
        })
    }

    /// Circuit breaker: calls in flight to the version.
    pub fn max_requests(self, calls: u32) -> Self {
        self.edit(move |draft| draft.each(|version| version.max_requests = Some(calls)))
    }

    /// Connections to one endpoint (gRFC A105).
    pub fn max_connections_per_host(self, connections: u32) -> Self {
        self.edit(move |draft| {
            draft.each(|version| version.max_connections_per_host = Some(connections));
        })
    }

    /// TLS to the version's endpoints; `None`: plaintext, the default.
    pub fn tls(self, tls: impl Into<Option<Tls>>) -> Self {
        let tls = tls.into();
        self.edit(move |draft| draft.each(|version| version.tls.clone_from(&tls)))
    }

    /// The weights of the named versions; all others get none.
    ///
    /// # Panics
    /// [`apply`](Self::apply) panics if the service has no such version.
    pub fn split(self, split: &[(&str, u32)]) -> Self {
        let split: Vec<_> = split.iter().map(|&(v, w)| (v.to_owned(), w)).collect();
        self.edit(move |draft| draft.split(&split))
    }

    /// Forgets a version and its endpoints.
    pub fn remove_version(self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.edit(move |draft| draft.remove_version(&name))
    }

    /// Marks an endpoint as draining, in all versions that have it.
    ///
    /// # Panics
    /// [`apply`](Self::apply) panics if the service has no such endpoint.
    pub fn drain(self, address: impl Into<Endpoint>) -> Self {
        self.presence(address.into().address, Presence::Draining)
    }

    /// Takes an endpoint out, in all versions that have it. It can be [restored](Self::restore).
    ///
    /// # Panics
    /// [`apply`](Self::apply) panics if the service has no such endpoint.
    pub fn take_out(self, address: impl Into<Endpoint>) -> Self {
        self.presence(address.into().address, Presence::Removed)
    }

    /// Brings back an endpoint that was drained or taken out, as it was.
    ///
    /// # Panics
    /// [`apply`](Self::apply) panics if the service has no such endpoint.
    pub fn restore(self, address: impl Into<Endpoint>) -> Self {
        self.presence(address.into().address, Presence::Serving)
    }

    /// Adds a rule. Rules are tried in the order in which they were added, before the split.
    pub fn route(self, route: Route) -> Self {
        self.edit(|draft| draft.state.routes.push(route))
    }

    /// Forgets all rules.
    pub fn clear_routes(self) -> Self {
        self.edit(|draft| draft.state.routes.clear())
    }

    /// The retry policy of all calls whose rule has none; `None`: no retries.
    pub fn retry(self, retry: impl Into<Option<Retry>>) -> Self {
        let retry = retry.into();
        self.edit(|draft| draft.state.policy.retry = retry)
    }

    /// How long a call may take at most where no rule says otherwise (gRFC A31).
    pub fn max_stream_duration(self, limit: impl Into<Option<Duration>>) -> Self {
        let limit = limit.into();
        self.edit(move |draft| draft.state.policy.max_stream_duration = limit)
    }

    /// What a client's own timeout is cut to where no rule says otherwise (gRFC A31).
    pub fn grpc_timeout_header_max(self, limit: impl Into<Option<Duration>>) -> Self {
        let limit = limit.into();
        self.edit(move |draft| draft.state.policy.grpc_timeout_header_max = limit)
    }

    /// Faults that clients inject; `None`: the listener has no fault filter.
    pub fn fault(self, fault: impl Into<Option<Fault>>) -> Self {
        let fault = fault.into();
        self.edit(|draft| draft.state.fault = fault)
    }

    /// Adds the HTTP filter that `config` configures behind those added before, or replaces the
    /// one of this name.
    pub fn http_filter<M: Message + Name>(self, name: impl Into<String>, config: &M) -> Self {
        let (name, config) = (name.into(), pack(config));
        self.edit(move |draft| {
            let filters = &mut draft.state.filters;
            match filters.iter_mut().find(|(other, _)| *other == name) {
                Some((_, old)) => *old = config,
                None => filters.push((name, config)),
            }
        })
    }

    /// Forgets all HTTP filters but that of [`fault`](Self::fault).
    pub fn clear_http_filters(self) -> Self {
        self.edit(|draft| draft.state.filters.clear())
    }

    /// Pushes the service as it is now: what changed goes out at once, in the order clusters,
    /// endpoints, listeners, routes, so that nothing names what is not there yet.
    ///
    /// # Panics
    /// If a call before named a version or endpoint that the service does not have, or left open
    /// which version it speaks of.
    pub fn apply(self) -> Push {
        let edits = self.edits;
        self.control_plane.edit_service(&self.name, |draft| {
            for edit in edits {
                edit(draft);
            }
        })
    }

    /// Removes the service with all its resources.
    pub fn remove(self) -> Push {
        self.control_plane.remove_service(&self.name)
    }

    pub(super) fn edit(mut self, edit: impl FnOnce(&mut Draft) + Send + 'static) -> Self {
        self.edits.push(Box::new(edit));
        self
    }

    fn named(self, origin: Origin, host: &str, port: u16) -> Self {
        let address = Address::Name(host.into(), port);
        self.edit(move |draft| {
            draft.one(|version| {
                version.origin = origin;
                version.endpoints.clear();
                version.put(address.into());
            });
        })
    }

    fn presence(self, address: Address, presence: Presence) -> Self {
        self.edit(move |draft| draft.set_presence(&address, presence))
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("name", &self.name)
            .field("edits", &self.edits.len())
            .finish_non_exhaustive()
    }
}
