//! What HTTP semantics do to a call: times, retries and changes as Envoy's router has them.

use std::{sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderName, Method, StatusCode, Uri,
    header::HOST,
    request::Parts,
    uri::{self, Authority, PathAndQuery, Scheme},
};
use mesh_core::{
    Code, Context,
    config::HttpProtocol,
    identity::Peer,
    resilience::{HttpRetryState, NoResponse, RetryHeaders, RetryPermit},
    resolve::Plan,
    rewrite::{HttpRoute, Remembered, RequestCx, RequestEdit, whole_millis},
    route::Head,
    telemetry::Cause,
};
use tokio::time::Instant;

use super::{
    CallOptions, Inner,
    attempts::Call,
    clock::{AttemptLimits, Clock},
};
use crate::{
    conn::{Net, ResetReason},
    error::{Error, NoRetry},
    upgrade::{self, Asked as Upgrade},
};

static EXPECTED: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
static TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-upstream-rq-timeout-ms");
static PER_TRY: HeaderName = HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms");

/// What a request asks for, before it has a route.
#[derive(Debug)]
pub(super) struct Asked {
    /// Of the request that is being handled where the call is made.
    pub(super) deadline: Option<Instant>,
    /// In place of the route's; zero: none.
    timeout: Option<Duration>,
    per_try: Option<Duration>,
    /// Where they count.
    retry: Option<Box<RetryHeaders>>,
    /// What the connection is to become.
    upgrade: Upgrade,
    peer: Option<Arc<Peer>>,
}

/// A call of HTTP under way.
pub(super) struct Exchange {
    pub(super) clock: Clock,
    retry: Option<HttpRetryState>,
    /// Held while a retry is under way.
    permit: Option<RetryPermit>,
    /// Why what its policy covers was not tried again.
    pub(super) no_retry: Option<NoRetry>,
    per_try: AttemptLimits,
    /// It asks its connection to become something that the route allows.
    pub(super) upgrades: bool,
    remembered: Remembered,
    authority: Authority,
    peer: Option<Arc<Peer>>,
}

// === impl Asked ===

impl Asked {
    /// Reads, and takes away, what is said to us alone.
    ///
    /// # Errors
    /// If the request is of a kind that is not carried.
    pub(super) fn read(head: &mut Parts, options: &CallOptions) -> Result<Self, Error> {
        if head.method == Method::CONNECT {
            let text = "CONNECT is not supported: send the request itself to its target";
            let error = Error::new(Code::InvalidArgument, Cause::NoRoute, text);
            return Err(error.answered(StatusCode::METHOD_NOT_ALLOWED));
        }
        // The URI has been routed by: that, or what a route makes of it, is what is sent.
        if head.headers.contains_key(HOST) {
            head.headers.remove(HOST);
        }
        let ours = head
            .headers
            .keys()
            .any(|name| name.as_str().starts_with("x-envoy-"));
        let (mut timeout, mut per_try, mut retry) = (None, None, None);
        if ours {
            timeout = take_millis(&mut head.headers, &TIMEOUT);
            per_try = take_millis(&mut head.headers, &PER_TRY);
            match options.obeys_retry_headers() && !options.forbids_retries() {
                true => retry = Some(Box::new(RetryHeaders::take(&mut head.headers))),
                // Nobody else's to obey.
                false => RetryHeaders::remove(&mut head.headers),
            }
            head.headers.remove(&EXPECTED);
        }
        let context = Context::current();
        Ok(Self {
            deadline: context.deadline().filter(|_| !options.is_detached()),
            timeout: options.own_timeout().or(timeout),
            per_try,
            retry,
            upgrade: upgrade::asked(&mut head.headers),
            peer: context.peer().cloned(),
        })
    }

    /// How long the call may wait for a configuration, which has more to say.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.timeout.filter(|timeout| !timeout.is_zero())
    }
}

/// Milliseconds; what is no number counts as absent, as in Envoy.
fn take_millis(headers: &mut HeaderMap, name: &HeaderName) -> Option<Duration> {
    let value = headers.remove(name)?;
    value.to_str().ok()?.parse().ok().map(Duration::from_millis)
}

/// Plaintext does not take the place of TLS.
///
/// # Errors
/// If the caller asks for https and the cluster has no TLS.
pub(super) fn check_scheme(caller: &Inner, plan: &Plan<Net>) -> Result<(), Error> {
    if caller.scheme == Scheme::HTTPS && plan.cluster().config().tls.is_none() {
        let text = "the request asks for https, and the cluster's endpoints are spoken to in \
                    plaintext: ask for http, or configure TLS for the cluster";
        return Err(Error::new(Code::Unavailable, Cause::ConnectFailed, text));
    }
    Ok(())
}

// === impl Exchange ===

impl Exchange {
    /// Begins a call that has a plan.
    ///
    /// # Errors
    /// If the plan does not allow what the request asks for.
    pub(super) fn begin(
        asked: Asked,
        caller: &Inner,
        head: &Parts,
        options: &CallOptions,
        plan: &Plan<Net>,
        start: Instant,
    ) -> Result<Self, Error> {
        let Asked {
            deadline,
            timeout,
            per_try,
            retry: asked,
            upgrade,
            peer,
        } = asked;
        let cluster = plan.cluster().config();
        check_scheme(caller, plan)?;
        let route = plan.destination.http.as_deref();
        if let Upgrade::Protocol(protocol) = &upgrade {
            if !route.is_some_and(|route| route.allows_upgrade(protocol)) {
                let text = match &**protocol {
                    "" => "the request has more than one Upgrade header: write one".to_owned(),
                    one => format!("the route does not allow an upgrade to {one:?}"),
                };
                let error = Error::new(Code::PermissionDenied, Cause::Denied, text);
                return Err(error.answered(StatusCode::FORBIDDEN));
            }
            if cluster.connections.protocol != HttpProtocol::Http1 {
                let text = "an upgrade needs a cluster that speaks HTTP/1.1 alone";
                return Err(Error::new(Code::Unavailable, Cause::ConnectFailed, text));
            }
        }
        let authority = route.map_or_else(
            || caller.authority.clone(),
            |route| route.authority(&caller.authority),
        );
        let policy = plan.destination.retry.as_ref();
        let merged;
        let policy = match asked {
            Some(asked) => {
                merged = asked.merge(policy);
                merged.as_ref()
            }
            None => policy,
        };
        // Those of the policy count whether or not an attempt may be followed by another.
        let zero_is_none = |limit: Option<Duration>| limit.filter(|limit| !limit.is_zero());
        let per_try = AttemptLimits {
            timeout: zero_is_none(
                per_try.or_else(|| policy.and_then(|policy| policy.http.per_try_timeout)),
            ),
            idle: policy.and_then(|policy| policy.http.per_try_idle_timeout),
        };
        let upgrades = upgrade != Upgrade::Nothing;
        let policy = policy.filter(|_| !options.forbids_retries() && !upgrades);
        let retry = policy.and_then(|policy| {
            let seen = Head {
                method: &head.method,
                scheme: caller.scheme.as_str(),
                authority: authority.as_str(),
                path: head.uri.path(),
                query: head.uri.query(),
                headers: &head.headers,
            };
            HttpRetryState::new(policy, &seen)
        });
        let limit = plan.destination.limit.as_ref();
        let limit = limit.and_then(|limit| start.checked_add(limit.duration));
        let deadline = match (deadline, limit) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, other) => one.or(other),
        };
        let timeout = match timeout {
            Some(timeout) => Some(timeout).filter(|timeout| !timeout.is_zero()),
            None => route.and_then(|route| route.timeout),
        };
        Ok(Self {
            clock: Clock::new(
                start,
                deadline,
                timeout,
                route.and_then(|route| route.idle_timeout),
            ),
            retry,
            permit: None,
            no_retry: None,
            per_try,
            upgrades,
            remembered: Remembered::default(),
            authority,
            peer,
        })
    }

    /// What the request names, after all that has changed it so far.
    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Changes the request as its route says.
    pub(super) fn edit(
        &mut self,
        route: Option<&HttpRoute>,
        scheme: &Scheme,
        head: &mut Parts,
        path: &mut PathAndQuery,
    ) {
        let Some(route) = route else { return };
        let mut edit = RequestEdit {
            method: &head.method,
            scheme: scheme.as_str(),
            authority: &mut self.authority,
            path,
            headers: &mut head.headers,
        };
        let cx = RequestCx {
            peer: self.peer.as_ref(),
            version: head.version,
        };
        self.remembered = route.request(&mut edit, &cx);
    }

    /// The URI of an attempt.
    pub(super) fn uri(&self, scheme: &Scheme, path: PathAndQuery) -> Uri {
        let mut parts = uri::Parts::default();
        parts.scheme = Some(scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path);
        // A scheme, an authority and a path always make a URI.
        Uri::from_parts(parts).unwrap_or_default()
    }

    /// Makes the name of an endpoint the authority of the attempt that goes there.
    pub(super) fn endpoint_host(
        &self,
        route: &HttpRoute,
        name: &str,
        request: &mut http::Request<crate::body::Outgoing>,
    ) {
        let mut authority = self.authority.clone();
        route.endpoint_host(name, &mut authority, request.headers_mut());
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.authority = Some(authority);
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    }

    /// Tells the server how long it may take from `now` on.
    pub(super) fn announce(
        &self,
        route: Option<&HttpRoute>,
        now: Instant,
        headers: &mut HeaderMap,
    ) {
        let limits = [self.clock.expected(now), self.per_try.timeout];
        let Some(expected) = limits.into_iter().flatten().min() else {
            return;
        };
        let known = route.filter(|route| route.timeout == Some(expected));
        let known = known.and_then(|route| route.timeout_millis.clone());
        headers.insert(&EXPECTED, known.unwrap_or_else(|| whole_millis(expected)));
    }

    /// An attempt is under way.
    pub(super) fn attempt(&mut self) {
        self.clock.attempt(self.per_try);
    }

    /// Changes the response as the route says.
    pub(super) fn respond(
        &self,
        route: Option<&HttpRoute>,
        status: StatusCode,
        headers: &mut HeaderMap,
        endpoint: &mesh_core::config::Address,
    ) {
        if let Some(route) = route {
            route.response(status, headers, &self.remembered, Some(endpoint));
        }
    }
}

// === impl Call ===

impl Call {
    /// The pause before another attempt, after a response.
    pub(super) fn pause_after_response(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Option<Duration> {
        self.pause_if(|retry| retry.covers_response(status, headers))
    }

    /// The pause before another attempt, after none.
    pub(super) fn pause_after(&mut self, outcome: NoResponse) -> Option<Duration> {
        self.pause_if(|retry| retry.covers(outcome))
    }

    fn pause_if(&mut self, covers: impl FnOnce(&HttpRetryState) -> bool) -> Option<Duration> {
        let exchange = self.http.as_mut()?;
        let retry = exchange.retry.as_mut()?;
        exchange.permit = None;
        if !covers(retry) {
            return None;
        }
        if retry.is_exhausted() {
            exchange.no_retry = Some(NoRetry::LimitExceeded);
            return None;
        }
        let Ok(permit) = self.plan.cluster().admit_retry() else {
            exchange.no_retry = Some(NoRetry::Overflow);
            return None;
        };
        let pause = retry.next_pause()?;
        exchange.permit = Some(permit);
        self.retry.decided();
        Some(pause)
    }
}

/// What broke an attempt, as retry conditions tell it.
pub(super) fn no_response(reason: ResetReason) -> NoResponse {
    match reason {
        ResetReason::ConnectFailure => NoResponse::ConnectFailure,
        ResetReason::RefusedStream => NoResponse::Refused,
        _ => NoResponse::Reset,
    }
}

/// The gRPC code nearest to a status, for records.
pub(crate) fn code_of(status: StatusCode) -> Code {
    match status.as_u16() {
        ..400 => Code::Ok,
        _ => Code::from_http(status),
    }
}
