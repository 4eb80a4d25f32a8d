//! What a route says under HTTP semantics beyond where requests go (Envoy's route configuration).
//! gRPC semantics read none of it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};

use super::{Regex, TimeFormat};

/// How requests that are sent on are changed, and how long they may take.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpForward {
    /// `timeout`: from the end of the request to the end of the response, retries included; default
    /// 15 s. `None`: no limit (Envoy's zero).
    pub timeout: Option<Duration>,
    /// `idle_timeout`: how long nothing may happen on the stream. `None`: as the listener's
    /// [`stream_idle_timeout`](super::HttpManager::stream_idle_timeout). Zero: no limit.
    pub idle_timeout: Option<Duration>,
    /// What becomes of the path.
    pub path_rewrite: Option<PathRewrite>,
    /// What becomes of the authority.
    pub host_rewrite: Option<HostRewrite>,
    /// Whether a rewritten authority is told the endpoint as `x-forwarded-host`; default false.
    pub append_x_forwarded_host: bool,
    /// Protocols that a request may upgrade to here, by name and in lower case, such as
    /// `websocket`; those that the route leaves open are the listener's. False: not allowed.
    pub upgrades: Vec<(Arc<str>, bool)>,
    /// The status of a request whose cluster there is none of
    /// (`cluster_not_found_response_code`); default 503.
    pub cluster_not_found: StatusCode,
}

/// What becomes of a path. The query stays.
#[derive(Debug, Clone, PartialEq)]
pub enum PathRewrite {
    /// What the route's own path, prefix or path-separated prefix matched is replaced by this; the
    /// whole path where the route has an expression (Envoy).
    Prefix(String),
    /// All that the expression matches is replaced.
    Regex(RegexRewrite),
}

/// A replacement by expression (`RegexMatchAndSubstitute`).
#[derive(Debug, Clone, PartialEq)]
pub struct RegexRewrite {
    /// What is replaced; unanchored.
    pub pattern: Regex,
    /// By what: `\1` is the first group, `\0` all, `\\` a backslash. Checked against the pattern.
    pub substitution: String,
}

/// What becomes of an authority.
#[derive(Debug, Clone, PartialEq)]
pub enum HostRewrite {
    /// This takes its place.
    Literal(HeaderValue),
    /// The value of this header takes its place, if the request has it.
    Header(HeaderName),
    /// What the expression makes of the path takes its place, if it matches.
    PathRegex(RegexRewrite),
    /// The endpoint's host name takes its place, if it has one (`auto_host_rewrite`).
    Endpoint,
}

/// An answer that sends the caller elsewhere. What is `None` stays as it was requested.
#[derive(Debug, Clone, PartialEq)]
pub struct Redirect {
    /// The scheme, as the configuration writes it.
    pub scheme: Option<String>,
    /// The host; a port in it is a part of it, as in Envoy.
    pub host: Option<String>,
    /// The port; more than zero.
    pub port: Option<u16>,
    /// The path.
    pub path: Option<PathRedirect>,
    /// 301, 302, 303, 307 or 308; default 301.
    pub status: StatusCode,
    /// Whether the query is left out; default false.
    pub strip_query: bool,
}

/// The path of a redirect.
#[derive(Debug, Clone, PartialEq)]
pub enum PathRedirect {
    /// This, with its query if it has one, in place of the request's path and query.
    Full(String),
    /// As a request's path would be rewritten.
    Rewrite(PathRewrite),
}

/// An answer that is in the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct DirectResponse {
    /// Its status: 200 to 599.
    pub status: StatusCode,
    /// Its body.
    pub body: Bytes,
}

/// Changes to the headers of requests and of responses: removals come first, as in Envoy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HeaderMutations {
    /// Of requests.
    pub request: Vec<HeaderMutation>,
    /// Of responses.
    pub response: Vec<HeaderMutation>,
}

/// A change to headers.
#[derive(Debug, Clone, PartialEq)]
pub enum HeaderMutation {
    /// All headers of this name go.
    Remove(HeaderName),
    /// A header comes.
    Put {
        /// Its name.
        name: HeaderName,
        /// Its value.
        value: HeaderFormat,
        /// What if it is there already.
        append: AppendAction,
        /// Whether an empty value counts (`keep_empty_value`); default false.
        keep_empty: bool,
    },
}

/// What becomes of a header that is there already (`HeaderAppendAction`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AppendAction {
    /// Another one of this name is added.
    #[default]
    AppendIfExistsOrAdd,
    /// It stays, and nothing is added.
    AddIfAbsent,
    /// It is replaced.
    OverwriteIfExistsOrAdd,
    /// It is replaced; if it is not there, nothing is added.
    OverwriteIfExists,
}

/// The value of a header that is added: text with operators such as `%REQ(x-id)%` in it (Envoy,
/// "Custom request/response headers").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderFormat(pub Arc<[FormatPart]>);

/// A part of a [`HeaderFormat`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FormatPart {
    /// As it is.
    Text(String),
    /// What the operator yields.
    Operator(FormatOperator),
}

/// An operator. One that has nothing to say yields nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FormatOperator {
    /// `%REQ(name?other):length%`: a header of the request, else another one, cut to a length. The
    /// pseudo-headers `:authority`, `:method`, `:path` and `:scheme` count.
    Request {
        /// The header's name, in lower case.
        name: String,
        /// The one to take if it is absent.
        alternative: Option<String>,
        /// At most so many bytes.
        max_length: Option<usize>,
    },
    /// `%RESP(name?other):length%`: a header of the response.
    Response {
        /// The header's name, in lower case.
        name: String,
        /// The one to take if it is absent.
        alternative: Option<String>,
        /// At most so many bytes.
        max_length: Option<usize>,
    },
    /// `%PROTOCOL%`: such as `HTTP/1.1`.
    Protocol,
    /// `%RESPONSE_CODE%`: the status of the response.
    ResponseCode,
    /// `%DOWNSTREAM_REMOTE_ADDRESS%`: who sent the request, with the port.
    DownstreamRemoteAddress,
    /// `%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%`.
    DownstreamRemoteAddressWithoutPort,
    /// `%DOWNSTREAM_REMOTE_PORT%`.
    DownstreamRemotePort,
    /// `%DOWNSTREAM_LOCAL_PORT%`.
    DownstreamLocalPort,
    /// `%DOWNSTREAM_LOCAL_ADDRESS%`: where the request was received, with the port.
    DownstreamLocalAddress,
    /// `%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%`.
    DownstreamLocalAddressWithoutPort,
    /// `%DOWNSTREAM_PEER_URI_SAN%`: the URI names of the sender's certificate, joined by commas.
    DownstreamPeerUriSan,
    /// `%DOWNSTREAM_PEER_SUBJECT%`: the subject of the sender's certificate.
    DownstreamPeerSubject,
    /// `%UPSTREAM_HOST%`: the endpoint's address; known for responses only.
    UpstreamHost,
    /// `%UPSTREAM_CLUSTER%`: the cluster's name.
    UpstreamCluster,
    /// `%ROUTE_NAME%`.
    RouteName,
    /// `%START_TIME%`: when the request began, as `2026-11-23T09:30:00.123Z`.
    StartTime,
    /// `%START_TIME(format)%`: the same, written so.
    StartTimeAs(TimeFormat),
    /// `%HOSTNAME%`: this machine's name.
    Hostname,
    /// `%ENVIRONMENT(NAME)%`: a variable of this process that the options of the mesh allow, read when the
    /// configuration arrives.
    Environment(String),
}

/// What is retried under HTTP semantics besides [`RetryOn`](super::RetryOn), and how.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HttpRetry {
    /// `per_try_timeout`: how long one attempt may take, from the end of the request to the end of the
    /// response headers. `None`: as the route's timeout.
    pub per_try_timeout: Option<Duration>,
    /// `per_try_idle_timeout`: how long nothing may happen on an attempt, from the end of the request
    /// to the end of the response. `None`: no limit.
    pub per_try_idle_timeout: Option<Duration>,
    /// `retriable_status_codes`: in force with that condition.
    pub statuses: Vec<StatusCode>,
    /// `retriable_headers`: response headers that call for a retry, with that condition: one must
    /// match.
    pub headers: Vec<super::HeaderMatcher>,
    /// `retriable_request_headers`: if there are any, one must match or nothing is retried.
    pub request_headers: Vec<super::HeaderMatcher>,
}

/// How an endpoint is spoken to under HTTP semantics. Under gRPC semantics it is always HTTP/2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum HttpProtocol {
    /// HTTP/1.1: the default.
    #[default]
    Http1,
    /// HTTP/2, without TLS by prior knowledge.
    Http2,
    /// Over TLS what both agree on (ALPN), HTTP/1.1 if nothing; without TLS, HTTP/1.1.
    Auto,
}

// === impl HttpForward ===

impl HttpForward {
    /// `timeout` where a route does not say.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
}

impl Default for HttpForward {
    fn default() -> Self {
        Self {
            timeout: Some(Self::DEFAULT_TIMEOUT),
            idle_timeout: None,
            path_rewrite: None,
            host_rewrite: None,
            append_x_forwarded_host: false,
            upgrades: Vec::new(),
            cluster_not_found: StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

// === impl HeaderMutations ===

impl HeaderMutations {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.request.is_empty() && self.response.is_empty()
    }
}
