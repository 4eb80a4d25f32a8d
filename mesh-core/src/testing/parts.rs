use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use envoy_types::pb::google::protobuf::Any;
use prost::{Message, Name};

use super::{
    Rbac, ServerListener,
    http::{HttpLimits, HttpRetryRule, HttpRule},
    render,
};
use crate::{
    Code,
    config::{Address, LocalityId},
};

/// The locality of this zone, in no region.
pub fn zone(zone: impl Into<String>) -> LocalityId {
    LocalityId {
        zone: zone.into(),
        ..LocalityId::default()
    }
}

/// A locality in full.
pub fn locality(
    region: impl Into<String>,
    zone: impl Into<String>,
    sub_zone: impl Into<String>,
) -> LocalityId {
    LocalityId {
        region: region.into(),
        zone: zone.into(),
        sub_zone: sub_zone.into(),
    }
}

/// One endpoint of a version, as [`Service::endpoint`](super::Service::endpoint) takes it.
///
/// A plain [`SocketAddr`] becomes one that is healthy, of priority 0, in the empty locality and
/// without a weight of its own.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "an endpoint is added by `Service::endpoint`"]
pub struct Endpoint {
    pub(super) address: Address,
    pub(super) locality: LocalityId,
    pub(super) priority: u32,
    pub(super) weight: Option<u32>,
    pub(super) health: EndpointHealth,
    pub(super) hostname: Option<String>,
    pub(super) more: Vec<Address>,
    pub(super) workload: Option<String>,
}

impl Endpoint {
    /// A healthy endpoint of priority 0 in the empty locality.
    pub fn new(address: SocketAddr) -> Self {
        Self::at(Address::Socket(address))
    }

    /// The same on a Unix domain socket.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::at(Address::Unix(path.into()))
    }

    /// Where it is.
    pub fn locality(mut self, locality: LocalityId) -> Self {
        self.locality = locality;
        self
    }

    /// Its locality's priority; 0 is preferred.
    pub fn priority(mut self, priority: u32) -> Self {
        self.priority = priority;
        self
    }

    /// Its share within the locality.
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = Some(weight);
        self
    }

    /// What the control plane says of its health.
    pub fn health(mut self, health: EndpointHealth) -> Self {
        self.health = health;
        self
    }

    /// Its host name.
    pub fn hostname(mut self, hostname: impl Into<String>) -> Self {
        self.hostname = Some(hostname.into());
        self
    }

    /// What runs there, as Istio writes it: `name;namespace;canonical service;canonical
    /// revision;cluster`.
    pub fn workload(mut self, workload: impl Into<String>) -> Self {
        self.workload = Some(workload.into());
        self
    }

    /// Another address of the same endpoint (`additional_addresses`, gRFC A61).
    pub fn also_at(mut self, address: impl Into<Endpoint>) -> Self {
        self.more.push(address.into().address);
        self
    }

    fn at(address: Address) -> Self {
        Self {
            address,
            locality: LocalityId::default(),
            priority: 0,
            weight: None,
            health: EndpointHealth::Healthy,
            hostname: None,
            more: Vec::new(),
            workload: None,
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::new(address)
    }
}

impl From<Address> for Endpoint {
    fn from(address: Address) -> Self {
        Self::at(address)
    }
}

/// Health of an endpoint on the wire (`envoy.config.core.v3.HealthStatus`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EndpointHealth {
    /// Works, with less capacity.
    Degraded,
    /// Is going away.
    Draining,
    /// Checked and well.
    #[default]
    Healthy,
    /// Its check timed out.
    Timeout,
    /// Checked and unwell.
    Unhealthy,
    /// Not checked.
    Unknown,
}

/// Where endpoints of a version come from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Origin {
    /// An endpoints resource.
    Eds,
    /// The cluster.
    Static,
    /// The cluster: names.
    StrictDns,
    /// The cluster: one name.
    LogicalDns,
    /// Clusters of these names.
    Aggregate(Vec<String>),
}

/// How endpoints of a version are picked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Picking {
    RoundRobin,
    LeastRequest {
        choices: u32,
    },
    /// By the policy that this configures.
    Policy(Any),
}

/// Which failures are tried again, and how often.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a retry policy is set by `Service::retry` or `Route::retry`"]
pub struct Retry {
    pub(super) on: Vec<Code>,
    pub(super) retries: Option<u32>,
    pub(super) backoff: Option<(Duration, Duration)>,
    pub(super) http: HttpRetryRule,
}

impl Retry {
    /// One retry after any of these codes.
    pub fn on(codes: impl IntoIterator<Item = Code>) -> Self {
        Self {
            on: codes.into_iter().collect(),
            retries: None,
            backoff: None,
            http: HttpRetryRule::default(),
        }
    }

    /// Attempts after the first one.
    pub fn times(mut self, retries: u32) -> Self {
        self.retries = Some(retries);
        self
    }

    /// First and longest backoff interval; the client's defaults otherwise.
    pub fn backoff(mut self, base: Duration, max: Duration) -> Self {
        self.backoff = Some((base, max));
        self
    }
}

/// Faults that clients inject into their own calls (gRFC A33).
#[derive(Debug, Clone, Default, PartialEq)]
#[must_use = "faults are set by `Service::fault`"]
pub struct Fault {
    pub(super) delay: Option<(Injected<Duration>, f64)>,
    pub(super) abort: Option<(Injected<Abort>, f64)>,
    pub(super) max_active: Option<u32>,
}

/// How a call ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Abort {
    Grpc(Code),
    Http(u16),
}

/// What is injected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Injected<T> {
    ByHeader,
    Fixed(T),
}

impl Fault {
    /// No fault; a filter that does nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends this share of calls, in percent, with `code`.
    pub fn abort(mut self, code: Code, percent: f64) -> Self {
        self.abort = Some((Injected::Fixed(Abort::Grpc(code)), percent));
        self
    }

    /// Ends calls that ask for it by header, in this share at most, in percent.
    pub fn abort_by_header(mut self, percent: f64) -> Self {
        self.abort = Some((Injected::ByHeader, percent));
        self
    }

    /// Delays this share of calls, in percent.
    pub fn delay(mut self, delay: Duration, percent: f64) -> Self {
        self.delay = Some((Injected::Fixed(delay), percent));
        self
    }

    /// Delays calls that ask for it by header, in this share at most, in percent.
    pub fn delay_by_header(mut self, percent: f64) -> Self {
        self.delay = Some((Injected::ByHeader, percent));
        self
    }

    /// Calls that may suffer a fault at the same time.
    pub fn max_active(mut self, calls: u32) -> Self {
        self.max_active = Some(calls);
        self
    }
}

/// What a text must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Text {
    Exact(String),
    Prefix(String),
    Regex(String),
}

/// A rule that precedes a service's split: requests that match it go where it says.
///
/// Without [`to`](Self::to) or [`split`](Self::split) they follow the service's own split, under
/// the rule's retry policy and limits.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a rule is added by `Service::route`"]
pub struct Route {
    pub(super) path: PathRule,
    pub(super) headers: Vec<(String, HeaderRule)>,
    pub(super) percent: Option<f64>,
    pub(super) split: Vec<(String, u32)>,
    pub(super) policy: RoutePolicy,
    /// What HTTP filters do here in place of what the listener says, by filter.
    pub(super) overrides: BTreeMap<String, Any>,
    pub(super) http: HttpRule,
}

/// What a rule or a service says of calls besides where they go.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct RoutePolicy {
    pub(super) retry: Option<Retry>,
    pub(super) max_stream_duration: Option<Duration>,
    pub(super) grpc_timeout_header_max: Option<Duration>,
    pub(super) http: HttpLimits,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum PathRule {
    Exact(String),
    Prefix(String),
    Segments(String),
    Regex(String),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum HeaderRule {
    Exact(String),
    Prefix(String),
    Present(bool),
    Regex(String),
}

impl Route {
    /// Requests of this path, such as `/helloworld.Greeter/SayHello`.
    pub fn path(path: impl Into<String>) -> Self {
        Self::new(PathRule::Exact(path.into()))
    }

    /// Requests whose path starts with this, such as `/helloworld.Greeter/`; all if empty.
    pub fn prefix(prefix: impl Into<String>) -> Self {
        Self::new(PathRule::Prefix(prefix.into()))
    }

    /// Requests whose whole path matches this RE2 expression.
    pub fn regex(expression: impl Into<String>) -> Self {
        Self::new(PathRule::Regex(expression.into()))
    }

    /// ... that have this header with this value.
    pub fn header(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.with_header(name, HeaderRule::Exact(value.into()))
    }

    /// ... that have this header with a value that starts so.
    pub fn header_prefix(self, name: impl Into<String>, prefix: impl Into<String>) -> Self {
        self.with_header(name, HeaderRule::Prefix(prefix.into()))
    }

    /// ... that have this header with a value that matches the RE2 expression whole.
    pub fn header_regex(self, name: impl Into<String>, expression: impl Into<String>) -> Self {
        self.with_header(name, HeaderRule::Regex(expression.into()))
    }

    /// ... that have this header, or have it not.
    pub fn header_present(self, name: impl Into<String>, present: bool) -> Self {
        self.with_header(name, HeaderRule::Present(present))
    }

    /// ... this share of them, in percent.
    pub fn percent(mut self, percent: f64) -> Self {
        self.percent = Some(percent);
        self
    }

    /// They go to this version.
    pub fn to(mut self, version: impl Into<String>) -> Self {
        self.split = vec![(version.into(), 1)];
        self
    }

    /// They are split by these weights.
    pub fn split(mut self, split: &[(&str, u32)]) -> Self {
        self.split = split.iter().map(|&(v, w)| (v.to_owned(), w)).collect();
        self
    }

    /// Their retry policy, in place of the service's.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.policy.retry = Some(retry);
        self
    }

    /// How long they may take at most (gRFC A31).
    pub fn max_stream_duration(mut self, limit: Duration) -> Self {
        self.policy.max_stream_duration = Some(limit);
        self
    }

    /// What a client's own timeout is cut to (gRFC A31).
    pub fn grpc_timeout_header_max(mut self, limit: Duration) -> Self {
        self.policy.grpc_timeout_header_max = Some(limit);
        self
    }

    /// Who may make these requests to a server, in place of the server's own rules in
    /// [`ServerListener::rbac`](super::ServerListener::rbac); [`Rbac::off`]: everybody.
    pub fn rbac(mut self, rbac: Rbac) -> Self {
        let config = render::rbac_per_route(&rbac);
        self.overrides
            .insert(ServerListener::RBAC.to_owned(), config);
        self
    }

    /// What the HTTP filter of this name does here, in place of what the listener says.
    pub fn filter_config<M: Message + Name>(
        mut self,
        filter: impl Into<String>,
        config: &M,
    ) -> Self {
        self.overrides.insert(filter.into(), render::pack(config));
        self
    }

    pub(super) fn new(path: PathRule) -> Self {
        Self {
            path,
            headers: Vec::new(),
            percent: None,
            split: Vec::new(),
            policy: RoutePolicy::default(),
            overrides: BTreeMap::new(),
            http: HttpRule::default(),
        }
    }

    fn with_header(mut self, name: impl Into<String>, rule: HeaderRule) -> Self {
        self.headers.push((name.into(), rule));
        self
    }
}
