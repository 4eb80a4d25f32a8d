//! What configuration means: plain, validated, immutable values.
//!
//! A value of this module was checked by the decoder that made it, and everything after trusts it.
//! No wire type and no control plane's name appears here.

mod cluster;
mod discovery;
mod endpoints;
mod http;
mod inbound;
mod listener;
mod matcher;
mod name;
mod resource;
mod route;
mod secret;
mod time_format;
mod tls;
mod workload;

pub use cluster::{
    Breakers, Cluster, Connections, EndpointMetric, LbPolicy, LoadReport, MetricMap, PolicyConfig,
};
pub use discovery::{Discovery, Dns, DnsFamily, Lookup, LookupPolicy};
pub use endpoints::{Address, Drop, EndpointConfig, Endpoints, Health, Locality, LocalityId};
pub use http::{
    AppendAction, DirectResponse, FormatOperator, FormatPart, HeaderFormat, HeaderMutation,
    HeaderMutations, HostRewrite, HttpForward, HttpProtocol, HttpRetry, PathRedirect, PathRewrite,
    Redirect, RegexRewrite,
};
pub use inbound::{ChainMatch, Cidr, FilterChain, ServerListener, SourceType};
pub use listener::{FilterConfig, HttpFilter, HttpManager, Listener, RouteSource, StripPort};
pub use matcher::{
    Fraction, HeaderMatch, HeaderMatcher, Regex, RegexError, StringMatch, StringMatcher,
};
pub(crate) use name::canonical_name;
pub use resource::{Finding, Kind, Resource, ResourceId, Treatment};
pub use route::{
    Domain, FilterOverrides, Forward, PathMatcher, QueryMatch, QueryMatcher, RetryOn, RetryPolicy,
    Route, RouteAction, RouteConfig, RouteMatch, VirtualHost, WeightedCluster,
};
pub use secret::{Secret, SecretKey, SecretMaterial};
pub use time_format::TimeFormat;
pub(crate) use time_format::TimePart;
pub use tls::{
    CaSource, CertificateProvider, DownstreamTls, IdentitySource, San, SanKind, UpstreamTls,
};
pub use workload::{Service, Workload};
