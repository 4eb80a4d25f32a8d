use std::{fmt, sync::Arc, time::Duration};

use super::{Discovery, HttpProtocol, Service, UpstreamTls};
use crate::{balance::PolicySpec, bootstrap::ServerConfig};

/// A group of endpoints that serve the same thing, and how to reach them.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// The resource's name.
    pub name: Arc<str>,
    /// Where its endpoints come from.
    pub discovery: Discovery,
    /// How an endpoint is chosen.
    pub lb: LbPolicy,
    /// Limits on what is in flight.
    pub breakers: Breakers,
    /// How connections are made and kept.
    pub connections: Connections,
    /// TLS to the endpoints; `None`: plaintext.
    pub tls: Option<Arc<UpstreamTls>>,
    /// `common_lb_config.healthy_panic_threshold`, in percent: when fewer endpoints of a priority
    /// are available, healthy or degraded, and all priorities together are not healthy enough for
    /// the whole load, health is not looked at in it. In force under HTTP semantics; default 50, 0:
    /// never.
    pub panic_threshold: f64,
    /// How its load is reported (`lrs_server: self`, gRFC A27). `None`: not at all.
    pub report_load: Option<LoadReport>,
    /// The service that it is a part of, if the control plane says so: for telemetry.
    pub service: Option<Arc<Service>>,
}

/// How the load of a cluster is reported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// To the control plane that the cluster came from, as the bootstrap has it: one at the same place
    /// with other credentials is another. `None`: it came from files or code, and its load is
    /// reported to nobody.
    pub server: Option<Arc<ServerConfig>>,
    /// The `service_name` that the cluster has for its endpoints resource, empty if it has none: as
    /// Envoy and gRPC report it, the name of the cluster does not take its place here.
    pub service: Arc<str>,
    /// What endpoints say of their load with responses (ORCA, gRFC A51) and is reported, too
    /// (`lrs_report_endpoint_metrics`, gRFC A85). Default: nothing.
    pub metrics: Arc<Vec<EndpointMetric>>,
}

/// What an endpoint says of its load, by the field of `xds.data.orca.v3.OrcaLoadReport`.
///
/// Of the first three a load report has fields of its own, which are filled under gRPC semantics; under
/// HTTP semantics they are among those with names, as in Envoy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointMetric {
    /// `cpu_utilization`.
    CpuUtilization,
    /// `mem_utilization`.
    MemUtilization,
    /// `application_utilization`.
    ApplicationUtilization,
    /// `eps`: errors per second.
    Eps,
    /// `rps_fractional`: requests per second.
    RpsFractional,
    /// An entry of a map, by the whole name under which it is reported: `named_metrics.foo`.
    Entry(MetricMap, Arc<str>),
    /// All entries of a map: `named_metrics.*`.
    All(MetricMap),
}

/// Metrics with names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MetricMap {
    /// `named_metrics`: those of the service's own.
    NamedMetrics,
    /// `utilization`: parts of a resource.
    Utilization,
    /// `request_cost`: what a request has cost of a resource.
    RequestCost,
}

impl MetricMap {
    /// Before the names, where there are others: `named_metrics.`.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::NamedMetrics => "named_metrics.",
            Self::Utilization => "utilization.",
            Self::RequestCost => "request_cost.",
        }
    }
}

/// How an endpoint is chosen within a priority (gRFC A52).
#[derive(Debug, Clone, PartialEq)]
pub enum LbPolicy {
    /// All endpoints of the priority as one group.
    Endpoints(PolicyConfig),
    /// A locality by its weight, then an endpoint of it (`wrr_locality`).
    Localities(PolicyConfig),
}

/// The validated configuration of an endpoint-picking policy.
#[derive(Clone)]
pub struct PolicyConfig(pub Arc<dyn PolicySpec>);

impl fmt::Debug for PolicyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PartialEq for PolicyConfig {
    fn eq(&self, other: &Self) -> bool {
        self.0.equals(&*other.0)
    }
}

/// Circuit breaker limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breakers {
    /// Calls in flight to the cluster; default 1024, always enforced (gRFC A32).
    pub max_requests: u32,
    /// Connections to one endpoint (`per_host_thresholds`, gRFC A105). `None`: the default of the
    /// channel, which is 1. Under HTTP semantics and HTTP/1.1 [`max_connections`](Self::max_connections) is
    /// the only limit where this is `None`.
    pub max_connections_per_host: Option<u32>,
    /// Connections to the cluster, under HTTP semantics and HTTP/1.1; default 1024.
    pub max_connections: u32,
    /// Requests that wait for a connection, under HTTP semantics and HTTP/1.1; default 1024.
    pub max_pending_requests: u32,
    /// Retries under way to the cluster, under HTTP semantics; default 3 (Envoy).
    pub max_retries: u32,
}

impl Default for Breakers {
    fn default() -> Self {
        Self {
            max_requests: 1024,
            max_connections_per_host: None,
            max_connections: 1024,
            max_pending_requests: 1024,
            max_retries: 3,
        }
    }
}

/// How connections are made and kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Connections {
    /// `connect_timeout`; default 5 s.
    pub connect_timeout: Duration,
    /// HTTP/2 keepalive: how often a PING is sent. `None`: never.
    pub keepalive_interval: Option<Duration>,
    /// How long a PING's answer may take; default 20 s.
    pub keepalive_timeout: Duration,
    /// `common_http_protocol_options.idle_timeout`: a connection without a stream for this long
    /// is closed; default 1 h, zero: never.
    pub idle_timeout: Duration,
    /// HTTP/2 stream window in bytes. `None`: hyper's 2 MiB.
    pub initial_stream_window: Option<u32>,
    /// HTTP/2 connection window in bytes. `None`: hyper's 5 MiB.
    pub initial_connection_window: Option<u32>,
    /// What is spoken under HTTP semantics.
    pub protocol: HttpProtocol,
    /// Requests that a connection takes before it is closed (`max_requests_per_connection`).
    /// `None`: no limit.
    pub max_requests: Option<u32>,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            keepalive_interval: None,
            keepalive_timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(3600),
            initial_stream_window: None,
            initial_connection_window: None,
            protocol: HttpProtocol::Http1,
            max_requests: None,
        }
    }
}
