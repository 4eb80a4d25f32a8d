use std::{borrow::Cow, fmt, sync::Arc};

use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use mesh_core::{
    Code,
    config::Address,
    control::{SourceError, SourceErrorKind},
    resolve::Reject,
    telemetry::Cause,
};

use crate::{
    body::{BoxError, ResponseBody},
    conn::ResetReason,
};

/// Why a call failed.
///
/// Opaque: ask it with the predicates. Its text says what happened, on which route and cluster,
/// and which endpoints were tried.
pub struct Error(Box<Inner>);

struct Inner {
    code: Code,
    cause: Cause,
    message: Cow<'static, str>,
    route: Option<Arc<str>>,
    cluster: Option<Arc<str>>,
    tried: Vec<Address>,
    /// In place of what the cause tells.
    status: Option<StatusCode>,
    reason: Option<ResetReason>,
    /// It was not all of its time that was over, but nothing happened for too long.
    idle: bool,
    no_retry: Option<NoRetry>,
    source: Option<BoxError>,
}

/// Why a failure that the retry policy covers was not tried again, under HTTP semantics.
///
/// [`Error::no_retry`] tells it of calls without a response; a response that failed carries it in its
/// extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NoRetry {
    /// The attempts that the policy allows were made: Envoy's flag `URX`.
    LimitExceeded,
    /// The cluster has as many retries under way as it may have at a time: Envoy's flag `UO`.
    Overflow,
}

// === impl NoRetry ===

impl NoRetry {
    /// The Envoy response flag that tells it.
    pub fn response_flag(self) -> &'static str {
        match self {
            Self::LimitExceeded => "URX",
            Self::Overflow => "UO",
        }
    }
}

// === impl Error ===

impl Error {
    pub(crate) fn new(code: Code, cause: Cause, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            code,
            cause,
            message: message.into(),
            route: None,
            cluster: None,
            tried: Vec::new(),
            status: None,
            reason: None,
            idle: false,
            no_retry: None,
            source: None,
        }))
    }

    /// A target has no configuration.
    pub(crate) fn unconfigured(error: &SourceError) -> Self {
        let cause = match error.kind {
            SourceErrorKind::Unreachable | SourceErrorKind::Transient | SourceErrorKind::Lost => {
                Cause::NoConfig
            }
            SourceErrorKind::DoesNotExist | SourceErrorKind::NotSent | SourceErrorKind::Invalid => {
                Cause::NoRoute
            }
        };
        let text = error.text.to_string();
        Self::new(Code::Unavailable, cause, text).caused_by(error.clone())
    }

    pub(crate) fn at(mut self, route: &Arc<str>, cluster: &Arc<str>) -> Self {
        self.0.route = Some(Arc::clone(route));
        self.0.cluster = Some(Arc::clone(cluster));
        self
    }

    pub(crate) fn tried(mut self, tried: impl IntoIterator<Item = Address>) -> Self {
        self.0.tried = tried.into_iter().collect();
        self
    }

    /// Its status under HTTP semantics, where its cause does not tell.
    pub(crate) fn answered(mut self, status: StatusCode) -> Self {
        self.0.status = Some(status);
        self
    }

    pub(crate) fn broken_by(mut self, reason: ResetReason) -> Self {
        self.0.reason = Some(reason);
        self
    }

    /// Nothing happened for too long.
    pub(crate) fn idle(mut self) -> Self {
        self.0.idle = true;
        self
    }

    pub(crate) fn not_retried(mut self, no_retry: NoRetry) -> Self {
        self.0.no_retry = Some(no_retry);
        self
    }

    pub(crate) fn caused_by(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The gRPC status code of the failure.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// What ended the call.
    pub fn cause(&self) -> Cause {
        self.0.cause
    }

    /// The status that Envoy would answer with: 400 for what cannot be sent, 404 for no route, 504 for a
    /// timeout (408 if the idle timeout ends a request that is still being sent), 502 for what is not
    /// HTTP, 503 for most else.
    pub fn status(&self) -> StatusCode {
        if let Some(status) = self.0.status {
            return status;
        }
        match (self.0.cause, self.0.reason) {
            (Cause::NoRoute, _) if self.is_malformed() => StatusCode::BAD_REQUEST,
            (Cause::NoRoute, _) => StatusCode::NOT_FOUND,
            (Cause::Deadline, _) => StatusCode::GATEWAY_TIMEOUT,
            (Cause::Denied, _) => StatusCode::FORBIDDEN,
            (_, Some(ResetReason::ProtocolError)) => StatusCode::BAD_GATEWAY,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The Envoy response flag that dashboards know the failure by, such as `UH` (no endpoint),
    /// `UF` (no connection), `UO` (circuit breaker), `UT` (timeout), `UC` (the connection ended),
    /// `UR` (the server reset the stream), `SI` (nothing happened for too long), `LR` (the request's own
    /// body failed) or `NR` (no route).
    /// One that the retry policy covers may have another: [`response_flags`](Self::response_flags).
    pub fn response_flag(&self) -> Option<&'static str> {
        match (self.0.cause, self.0.reason) {
            (Cause::Reset, Some(ResetReason::RemoteReset | ResetReason::RefusedStream)) => {
                Some("UR")
            }
            (Cause::Reset, Some(ResetReason::ProtocolError)) => Some("UPE"),
            (Cause::Reset, Some(ResetReason::LocalReset)) => Some("LR"),
            (Cause::Deadline, _) if self.0.idle => Some("SI"),
            (Cause::NoRoute, _) if self.is_malformed() => None,
            (cause, _) => cause.response_flag(),
        }
    }

    /// All flags, as Envoy's `%RESPONSE_FLAGS%` lists them: [`response_flag`](Self::response_flag),
    /// and why it was not tried again ([`no_retry`](Self::no_retry)).
    pub fn response_flags(&self) -> impl Iterator<Item = &'static str> {
        let no_retry = self.0.no_retry.map(NoRetry::response_flag);
        let first = self.response_flag();
        let second = no_retry.filter(|&flag| first != Some(flag));
        first.into_iter().chain(second)
    }

    /// Why the failure was not tried again although the retry policy covers it.
    pub fn no_retry(&self) -> Option<NoRetry> {
        self.0.no_retry
    }

    /// Whether there was never a target that a route could be looked for at.
    fn is_malformed(&self) -> bool {
        self.0.code == Code::InvalidArgument
    }

    /// The failure as a response, for proxies: its [`status`](Self::status), and a text that says what
    /// kind it is. Routes, clusters and addresses are not for whoever is at the other end.
    pub fn into_response(self) -> Response<ResponseBody> {
        let mut response = Response::new(ResponseBody::text(self.kind()));
        *response.status_mut() = self.status();
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, plain);
        response
    }

    fn kind(&self) -> &'static str {
        match (self.0.cause, self.0.reason) {
            (Cause::NoRoute, _) if self.is_malformed() => "the request cannot be sent as it is",
            (Cause::NoRoute, _) => "no route",
            (Cause::NoCluster, _) => "no cluster",
            (Cause::NoConfig, _) => "no configuration",
            (Cause::NoEndpoint, _) => "no healthy endpoint",
            (Cause::ConnectFailed, _) | (_, Some(ResetReason::ConnectFailure)) => {
                "no connection to an endpoint"
            }
            (Cause::CircuitBreaker | Cause::Drop, _) | (_, Some(ResetReason::Overflow)) => {
                "overloaded"
            }
            (Cause::Deadline, _) => "the time is over",
            (Cause::Denied, _) => "denied",
            (_, Some(ResetReason::ProtocolError)) => "the endpoint's answer is malformed",
            (Cause::Reset, _) => "the connection to the endpoint broke",
            _ => "failed",
        }
    }

    /// What happened, without the route and the endpoints.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether its time ran out.
    pub fn is_timeout(&self) -> bool {
        matches!(self.0.cause, Cause::Deadline)
    }

    /// Whether a limit or an order of the control plane shed the call before it was sent.
    pub fn is_shed(&self) -> bool {
        matches!(self.0.cause, Cause::CircuitBreaker | Cause::Drop)
    }

    /// Whether no endpoint could be had.
    pub fn is_no_endpoint(&self) -> bool {
        matches!(self.0.cause, Cause::NoEndpoint | Cause::ConnectFailed)
    }

    /// The route that took the call, if one did: its name, else its position.
    pub fn route(&self) -> Option<&str> {
        self.0.route.as_deref()
    }

    /// The cluster it went to.
    pub fn cluster(&self) -> Option<&str> {
        self.0.cluster.as_deref()
    }

    /// The endpoints that were tried, in order.
    pub fn endpoints_tried(&self) -> &[Address] {
        &self.0.tried
    }
}

impl From<Reject> for Error {
    fn from(reject: Reject) -> Self {
        let mut error = Error::new(reject.code, reject.cause, reject.message);
        error.0.status = Some(reject.http);
        if let Some((route, cluster)) = &reject.destination {
            error = error.at(route, cluster);
        }
        error
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            message,
            route,
            cluster,
            tried,
            ..
        } = &*self.0;
        f.write_str(message)?;
        if let (Some(route), Some(cluster)) = (route, cluster) {
            write!(f, " (route {route}, cluster {cluster}")?;
            for (index, address) in tried.iter().enumerate() {
                let before = if index == 0 { ", tried " } else { ", " };
                write!(f, "{before}{address}")?;
            }
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("code", &self.0.code)
            .field("cause", &self.0.cause)
            .field("message", &self.0.message)
            .field("route", &self.0.route)
            .field("cluster", &self.0.cluster)
            .field("tried", &self.0.tried)
            .field("source", &self.0.source)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }
}
