use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::HeaderValue;

use super::{
    DirectResponse, FilterConfig, Fraction, HeaderMatcher, HeaderMutations, HttpForward, HttpRetry,
    Redirect, Regex, StringMatcher,
};

/// Per-route overrides of filters, by filter instance name.
pub type FilterOverrides = BTreeMap<Arc<str>, FilterConfig>;

/// Which requests go where.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteConfig {
    /// The resource's name; empty if it is inline without one.
    pub name: Arc<str>,
    /// Its virtual hosts.
    pub virtual_hosts: Vec<VirtualHost>,
    /// Changes to the headers of all requests and responses, under HTTP semantics. Those of
    /// virtual hosts, routes and weighted clusters come before them, the most specific first,
    /// unless [`most_specific_wins`](Self::most_specific_wins).
    pub headers: HeaderMutations,
    /// `most_specific_header_mutations_wins`: those of the route configuration come first, then those
    /// of virtual hosts, then those of routes; default false. Those of weighted clusters come before
    /// all of them either way, as in Envoy.
    pub most_specific_wins: bool,
    /// `ignore_port_in_host_matching`, in force under HTTP semantics: the port of an authority does not
    /// count when its virtual host is chosen. That of a domain does; default false.
    pub ignore_port: bool,
}

/// The routes of a set of authorities.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtualHost {
    /// Its name.
    pub name: Arc<str>,
    /// The authorities it answers to.
    pub domains: Vec<Domain>,
    /// Its routes; the first that matches wins. Shared with the configuration before, where they are
    /// the same.
    pub routes: Vec<Arc<Route>>,
    /// Overrides for all its routes.
    pub overrides: FilterOverrides,
    /// Changes to headers, under HTTP semantics.
    pub headers: HeaderMutations,
}

/// A pattern of authorities, lower-case. A wildcard stands for at least one character.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Domain {
    /// This authority.
    Exact(String),
    /// `*` and this end.
    Suffix(String),
    /// This beginning and `*`.
    Prefix(String),
    /// Any authority.
    Any,
}

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Its name; may be empty.
    pub name: Arc<str>,
    /// Which requests it takes.
    pub matcher: RouteMatch,
    /// What becomes of them.
    pub action: RouteAction,
    /// Overrides for this route.
    pub overrides: FilterOverrides,
    /// Changes to headers, under HTTP semantics.
    pub headers: HeaderMutations,
}

/// Which requests a route takes: all parts must agree.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteMatch {
    /// The path, without the query.
    pub path: PathMatcher,
    /// Headers.
    pub headers: Vec<HeaderMatcher>,
    /// Query parameters. Under gRPC semantics a route that has any is skipped (gRFC A28).
    pub query: Vec<QueryMatcher>,
    /// The share of calls that may match; drawn once per call and route.
    pub fraction: Option<Fraction>,
}

/// A test of a path.
#[derive(Debug, Clone, PartialEq)]
pub enum PathMatcher {
    /// Is `path`.
    Exact {
        /// Lower-case already if `ignore_case`.
        path: String,
        /// ASCII case is ignored.
        ignore_case: bool,
    },
    /// Starts with `prefix`.
    Prefix {
        /// Lower-case already if `ignore_case`.
        prefix: String,
        /// ASCII case is ignored.
        ignore_case: bool,
    },
    /// Is `prefix`, or starts with it and a slash (`path_separated_prefix`).
    Segments {
        /// Without a slash at its end. Lower-case already if `ignore_case`.
        prefix: String,
        /// ASCII case is ignored.
        ignore_case: bool,
    },
    /// Matches the expression whole.
    Regex(Regex),
}

/// A test of a query parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryMatcher {
    /// The parameter's name.
    pub name: String,
    /// What it must be.
    pub test: QueryMatch,
}

/// What a query parameter must be.
#[derive(Debug, Clone, PartialEq)]
pub enum QueryMatch {
    /// There (true), or not there (false).
    Present(bool),
    /// There, with such a value.
    Value(StringMatcher),
}

/// What becomes of a request that a route takes.
#[derive(Debug, Clone, PartialEq)]
pub enum RouteAction {
    /// It is sent to a cluster.
    Forward(Forward),
    /// It is served here: for servers only (gRFC A36).
    NonForwarding,
    /// It is answered with this under HTTP semantics; it fails under gRPC's.
    Redirect(Redirect),
    /// It is answered with this under HTTP semantics; it fails under gRPC's.
    DirectResponse(DirectResponse),
    /// An action that is accepted in configuration and fails the request. Names the action.
    Unsupported(&'static str),
}

/// How a request is sent on.
#[derive(Debug, Clone, PartialEq)]
pub struct Forward {
    /// Where to: never empty, weights never zero, their sum fits a `u32`.
    pub clusters: Vec<WeightedCluster>,
    /// The retry policy in force: the route's, else its virtual host's. `None`: no retries.
    pub retry: Option<Arc<RetryPolicy>>,
    /// `max_stream_duration.max_stream_duration`. Zero: no limit. `None`: the listener's.
    pub max_stream_duration: Option<Duration>,
    /// `max_stream_duration.grpc_timeout_header_max`. Zero: no limit (gRFC A31).
    pub grpc_timeout_header_max: Option<Duration>,
    /// What is in force under HTTP semantics alone.
    pub http: HttpForward,
}

/// A cluster and its share.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightedCluster {
    /// The cluster's name.
    pub name: Arc<str>,
    /// Its weight; more than zero.
    pub weight: u32,
    /// Overrides for calls that go there.
    pub overrides: FilterOverrides,
    /// Changes to headers, under HTTP semantics.
    pub headers: HeaderMutations,
    /// What the authority becomes, under HTTP semantics (`host_rewrite_literal`). A rewrite of the
    /// route's own comes later and takes its place, as in Envoy.
    pub host_rewrite: Option<HeaderValue>,
}

/// Which failures are tried again, and when (gRFC A44).
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// Which outcomes are tried again.
    pub on: RetryOn,
    /// Attempts after the first one. Configuration says at least 1; the headers of a request may
    /// say 0 ([`RetryHeaders`](crate::resilience::RetryHeaders)).
    pub retries: u32,
    /// First backoff interval; default 25 ms, at least 1 ms.
    pub base_interval: Duration,
    /// Longest backoff interval; default ten times the first.
    pub max_interval: Duration,
    /// What is in force under HTTP semantics alone.
    pub http: HttpRetry,
}

/// Outcomes that are tried again. gRPC semantics read the status codes of gRPC only; HTTP semantics
/// read all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetryOn {
    /// gRPC CANCELLED.
    pub cancelled: bool,
    /// gRPC DEADLINE_EXCEEDED.
    pub deadline_exceeded: bool,
    /// gRPC INTERNAL.
    pub internal: bool,
    /// gRPC RESOURCE_EXHAUSTED.
    pub resource_exhausted: bool,
    /// gRPC UNAVAILABLE.
    pub unavailable: bool,
    /// `5xx`: a status of 500 or more, or no response at all.
    pub server_error: bool,
    /// `gateway-error`: 502, 503 or 504.
    pub gateway_error: bool,
    /// `reset`: no response at all.
    pub reset: bool,
    /// `reset-before-request`: no response, and the request was not sent.
    pub reset_before_request: bool,
    /// `connect-failure`: no connection.
    pub connect_failure: bool,
    /// `refused-stream`: HTTP/2 REFUSED_STREAM.
    pub refused_stream: bool,
    /// `retriable-4xx`: 409.
    pub retriable_4xx: bool,
    /// `retriable-status-codes`: those of [`HttpRetry::statuses`].
    pub status_codes: bool,
    /// `retriable-headers`: those of [`HttpRetry::headers`].
    pub headers: bool,
    /// `envoy-ratelimited`: a response with the header `x-envoy-ratelimited`, which no other
    /// condition covers.
    pub rate_limited: bool,
}

// === impl Route ===

/// So that a route that is shared is equal to itself without a look at it.
impl Eq for Route {}

// === impl RetryOn ===

impl RetryOn {
    /// The condition of this name, in any case, and whether it is a status code of gRPC. `None`: no
    /// condition that is known.
    pub fn condition(&mut self, name: &str) -> Option<(&mut bool, bool)> {
        Some(match name.to_ascii_lowercase().as_str() {
            "cancelled" => (&mut self.cancelled, true),
            "deadline-exceeded" => (&mut self.deadline_exceeded, true),
            "internal" => (&mut self.internal, true),
            "resource-exhausted" => (&mut self.resource_exhausted, true),
            "unavailable" => (&mut self.unavailable, true),
            "5xx" => (&mut self.server_error, false),
            "gateway-error" => (&mut self.gateway_error, false),
            "reset" => (&mut self.reset, false),
            "reset-before-request" => (&mut self.reset_before_request, false),
            "connect-failure" => (&mut self.connect_failure, false),
            "refused-stream" => (&mut self.refused_stream, false),
            "retriable-4xx" => (&mut self.retriable_4xx, false),
            "retriable-status-codes" => (&mut self.status_codes, false),
            "retriable-headers" => (&mut self.headers, false),
            "envoy-ratelimited" => (&mut self.rate_limited, false),
            _ => return None,
        })
    }

    /// Adds the outcomes of `other`.
    pub fn add(&mut self, other: &Self) {
        let Self {
            cancelled,
            deadline_exceeded,
            internal,
            resource_exhausted,
            unavailable,
            server_error,
            gateway_error,
            reset,
            reset_before_request,
            connect_failure,
            refused_stream,
            retriable_4xx,
            status_codes,
            headers,
            rate_limited,
        } = other;
        self.cancelled |= cancelled;
        self.deadline_exceeded |= deadline_exceeded;
        self.internal |= internal;
        self.resource_exhausted |= resource_exhausted;
        self.unavailable |= unavailable;
        self.server_error |= server_error;
        self.gateway_error |= gateway_error;
        self.reset |= reset;
        self.reset_before_request |= reset_before_request;
        self.connect_failure |= connect_failure;
        self.refused_stream |= refused_stream;
        self.retriable_4xx |= retriable_4xx;
        self.status_codes |= status_codes;
        self.headers |= headers;
        self.rate_limited |= rate_limited;
    }

    /// Whether a status code of gRPC is among the outcomes.
    pub fn any_grpc(&self) -> bool {
        self.cancelled
            || self.deadline_exceeded
            || self.internal
            || self.resource_exhausted
            || self.unavailable
    }
}
