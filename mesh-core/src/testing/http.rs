//! What services and rules say that HTTP semantics alone read.

use std::time::Duration;

use envoy_types::pb::envoy::config::route::v3::RedirectAction;

use super::{
    Fault, Retry, Route, Service,
    parts::{Abort, Injected},
};
use crate::config::HttpProtocol;

/// What a rule says besides where requests go.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct HttpRule {
    pub(super) query: Vec<(String, String)>,
    pub(super) answer: Option<Answer>,
    pub(super) rewrite: Option<Rewrite>,
    pub(super) host: Option<String>,
    pub(super) headers: HeaderRules,
    pub(super) upgrades: Vec<String>,
}

/// An answer in place of an endpoint's.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    Redirect(RedirectAction),
    Direct(u16, String),
}

/// What becomes of a path.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Rewrite {
    Prefix(String),
    Regex(String, String),
}

/// Changes to headers.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct HeaderRules {
    pub(super) request_add: Vec<(String, String)>,
    pub(super) request_remove: Vec<String>,
    pub(super) response_add: Vec<(String, String)>,
    pub(super) response_remove: Vec<String>,
}

/// Limits of time, of a rule or of a service.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct HttpLimits {
    pub(super) timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
}

/// What a retry policy says besides codes of gRPC.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct HttpRetryRule {
    pub(super) conditions: Vec<String>,
    pub(super) statuses: Vec<u16>,
    pub(super) per_try_timeout: Option<Duration>,
}

/// For callers of HTTP.
impl Service {
    /// What the version's endpoints speak with callers of HTTP; HTTP/1.1 by default. With callers
    /// of gRPC it is HTTP/2 whatever this says.
    pub fn protocol(self, protocol: HttpProtocol) -> Self {
        self.edit(move |draft| draft.each(|version| version.protocol = Some(protocol)))
    }

    /// How long a call of HTTP may take where no rule says otherwise; zero: for ever. By default 15 s.
    pub fn timeout(self, limit: impl Into<Option<Duration>>) -> Self {
        let limit = limit.into();
        self.edit(move |draft| draft.state.policy.http.timeout = limit)
    }

    /// How long nothing may happen on a call of HTTP where no rule says otherwise; zero: for ever.
    pub fn idle_timeout(self, limit: impl Into<Option<Duration>>) -> Self {
        let limit = limit.into();
        self.edit(move |draft| draft.state.policy.http.idle_timeout = limit)
    }

    /// Circuit breaker: retries under way to the version (HTTP).
    pub fn max_retries(self, retries: u32) -> Self {
        self.edit(move |draft| draft.each(|version| version.max_retries = Some(retries)))
    }

    /// Circuit breaker: connections to the version (HTTP/1.1).
    pub fn max_connections(self, connections: u32) -> Self {
        self.edit(move |draft| draft.each(|version| version.max_connections = Some(connections)))
    }

    /// Circuit breaker: requests that wait for a connection to the version (HTTP/1.1).
    pub fn max_pending_requests(self, requests: u32) -> Self {
        self.edit(move |draft| draft.each(|version| version.max_pending = Some(requests)))
    }

    /// Requests that a connection takes before it is closed.
    pub fn max_requests_per_connection(self, requests: u32) -> Self {
        self.edit(move |draft| {
            draft.each(|version| version.max_requests_per_connection = Some(requests));
        })
    }
}

/// For callers of HTTP.
impl Route {
    /// Requests whose path is this, or starts with this and a slash.
    pub fn segments(prefix: impl Into<String>) -> Self {
        Self::new(super::parts::PathRule::Segments(prefix.into()))
    }

    /// ... of this method.
    pub fn method(self, method: impl Into<String>) -> Self {
        self.header(":method", method)
    }

    /// ... that have this query parameter with this value.
    pub fn query(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.http.query.push((name.into(), value.into()));
        self
    }

    /// How long they may take, from the end of the request to that of the response; zero: for ever.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.policy.http.timeout = Some(limit);
        self
    }

    /// How long nothing may happen; zero: for ever.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.policy.http.idle_timeout = Some(limit);
        self
    }

    /// They are answered with a redirect.
    pub fn redirect(mut self, redirect: RedirectAction) -> Self {
        self.http.answer = Some(Answer::Redirect(redirect));
        self
    }

    /// They are answered with this.
    pub fn respond(mut self, status: u16, body: impl Into<String>) -> Self {
        self.http.answer = Some(Answer::Direct(status, body.into()));
        self
    }

    /// What the rule matched of the path becomes this.
    pub fn rewrite_prefix(mut self, by: impl Into<String>) -> Self {
        self.http.rewrite = Some(Rewrite::Prefix(by.into()));
        self
    }

    /// What the RE2 expression matches in the path becomes this.
    pub fn rewrite_regex(mut self, expression: impl Into<String>, by: impl Into<String>) -> Self {
        self.http.rewrite = Some(Rewrite::Regex(expression.into(), by.into()));
        self
    }

    /// Their authority becomes this.
    pub fn rewrite_host(mut self, host: impl Into<String>) -> Self {
        self.http.host = Some(host.into());
        self
    }

    /// They get another header; operators such as `%REQ(x-id)%` count.
    pub fn add_request_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let header = (name.into(), value.into());
        self.http.headers.request_add.push(header);
        self
    }

    /// They lose a header.
    pub fn remove_request_header(mut self, name: impl Into<String>) -> Self {
        self.http.headers.request_remove.push(name.into());
        self
    }

    /// Their responses get another header; operators count.
    pub fn add_response_header(
        mut self,
        name: impl Into<String>,
        value: impl Into<String>,
    ) -> Self {
        let header = (name.into(), value.into());
        self.http.headers.response_add.push(header);
        self
    }

    /// Their responses lose a header.
    pub fn remove_response_header(mut self, name: impl Into<String>) -> Self {
        self.http.headers.response_remove.push(name.into());
        self
    }

    /// They may upgrade to this protocol, such as `websocket`.
    pub fn allow_upgrade(mut self, protocol: impl Into<String>) -> Self {
        self.http.upgrades.push(protocol.into());
        self
    }
}

/// For callers of HTTP.
impl Fault {
    /// Ends this share of calls, in percent, with this status.
    pub fn abort_status(mut self, status: u16, percent: f64) -> Self {
        self.abort = Some((Injected::Fixed(Abort::Http(status)), percent));
        self
    }
}

/// For callers of HTTP.
impl Retry {
    /// One retry after any of these conditions of Envoy's `retry_on`, such as `5xx` or
    /// `connect-failure`.
    pub fn conditions<'a>(conditions: impl IntoIterator<Item = &'a str>) -> Self {
        let mut retry = Self::on([]);
        retry.http.conditions = conditions.into_iter().map(str::to_owned).collect();
        retry
    }

    /// After these statuses too.
    pub fn statuses(mut self, statuses: impl IntoIterator<Item = u16>) -> Self {
        let condition = "retriable-status-codes".to_owned();
        if !self.http.conditions.contains(&condition) {
            self.http.conditions.push(condition);
        }
        self.http.statuses.extend(statuses);
        self
    }

    /// How long one attempt may take.
    pub fn per_try_timeout(mut self, limit: Duration) -> Self {
        self.http.per_try_timeout = Some(limit);
        self
    }
}
