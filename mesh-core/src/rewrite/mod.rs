//! What a route changes in a request and in its response, under HTTP semantics: path, authority and
//! headers; and the answers that it gives by itself. As Envoy does it, in Envoy's order: headers
//! first, then the authority, then the path, each seeing what the one before made.
//!
//! Compiled once per route, cluster and snapshot. A route that changes nothing costs two branches.

mod answer;
mod format;
mod headers;
mod host;
mod path;
mod substitute;
#[cfg(test)]
mod tests;
mod time;

pub use answer::RouteAnswer;

use std::{sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version,
    uri::{Authority, PathAndQuery},
};

use self::{
    format::{Asked, Known, RequestOperator},
    headers::{Levels, ResponseEdit},
    host::HostEdit,
    path::PathEdit,
};
use crate::{
    config::{
        Address, HeaderMutations, HttpForward, HttpManager, Route, RouteAction, RouteConfig,
        StripPort, VirtualHost, WeightedCluster,
    },
    filter::RequestHead,
    identity::Peer,
};

const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");

/// What is in force on a route under HTTP semantics alone, compiled.
#[derive(Debug)]
pub struct HttpRoute {
    /// From the end of the request to the end of the response, retries included. `None`: no limit,
    /// as in servers.
    pub timeout: Option<Duration>,
    /// The same in whole milliseconds, and no less than one, as servers are told it.
    pub timeout_millis: Option<HeaderValue>,
    /// How long nothing may happen on the stream. `None`: no limit, as in servers, where the chain
    /// says ([`InboundChain::stream_idle_timeout`](crate::resolve::InboundChain::stream_idle_timeout)).
    pub idle_timeout: Option<Duration>,
    /// The status of a request whose cluster there is none of.
    pub cluster_not_found: StatusCode,
    /// `None`: nothing changes in requests, and nothing is remembered of them.
    request: Option<Box<Edit>>,
    /// `None`: nothing changes in responses.
    response: Option<Box<ResponseEdit>>,
    takes_host_of_endpoint: bool,
    append_x_forwarded_host: bool,
    strip_port: StripPort,
    /// Those that are allowed.
    upgrades: Box<[Arc<str>]>,
}

/// What changes in requests.
#[derive(Debug)]
struct Edit {
    /// Those of the weighted cluster.
    cluster_headers: Levels<RequestOperator>,
    /// The authority that the weighted cluster gives, which all that follows sees.
    cluster_host: Option<Authority>,
    headers: Levels<RequestOperator>,
    host: Option<HostEdit>,
    path: Option<PathEdit>,
}

/// Where a route stands in the configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RoutePlace<'a> {
    pub(crate) manager: &'a HttpManager,
    pub(crate) config: &'a RouteConfig,
    pub(crate) host: &'a VirtualHost,
    pub(crate) route: &'a Route,
}

/// The parts of a request that a route may change.
#[derive(Debug)]
pub struct RequestEdit<'a> {
    /// Its method.
    pub method: &'a Method,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Its authority.
    pub authority: &'a mut Authority,
    /// Its path and query.
    pub path: &'a mut PathAndQuery,
    /// Its headers.
    pub headers: &'a mut HeaderMap,
}

/// What is known of a request besides.
#[derive(Debug, Clone, Copy)]
pub struct RequestCx<'a> {
    /// Who sent it, in servers, and in clients whose call is made while a request is handled.
    pub peer: Option<&'a Arc<Peer>>,
    /// The protocol that it came by, or will leave by as far as is known.
    pub version: Version,
}

/// What the changes of the response need to know of the request. Empty, and not allocated, where
/// they need nothing.
#[derive(Debug, Clone, Default)]
pub struct Remembered(Option<Box<[Vec<u8>]>>);

/// A time in whole milliseconds, and no less than one, as a header says it.
pub fn whole_millis(time: Duration) -> HeaderValue {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    HeaderValue::from(millis.max(1))
}

// === impl HttpRoute ===

impl HttpRoute {
    /// Compiles a route that sends requests on to `cluster`, as `forward` says.
    pub(crate) fn compile(
        place: &RoutePlace<'_>,
        forward: &HttpForward,
        cluster: &WeightedCluster,
    ) -> Self {
        let idle_timeout = forward.idle_timeout.or(place.manager.stream_idle_timeout);
        let ([cluster_headers, headers], response) = place.edits(Some(cluster));
        let cluster_host = cluster.host_rewrite.as_ref();
        let edit = Edit {
            cluster_headers,
            cluster_host: cluster_host.and_then(|host| host::read(host.as_bytes())),
            headers,
            host: forward.host_rewrite.as_ref().and_then(HostEdit::compile),
            path: forward
                .path_rewrite
                .as_ref()
                .and_then(|rewrite| PathEdit::compile(rewrite, &place.route.matcher.path)),
        };
        Self {
            timeout: forward.timeout,
            timeout_millis: forward.timeout.map(whole_millis),
            idle_timeout: idle_timeout.filter(|timeout| !timeout.is_zero()),
            cluster_not_found: forward.cluster_not_found,
            request: edit.boxed(),
            response,
            takes_host_of_endpoint: matches!(
                forward.host_rewrite,
                Some(crate::config::HostRewrite::Endpoint)
            ),
            append_x_forwarded_host: forward.append_x_forwarded_host,
            strip_port: place.manager.strip_port,
            upgrades: upgrades(&forward.upgrades, &place.manager.upgrades),
        }
    }

    /// Compiles a route of a server. `None`: there is nothing to do and nothing to allow.
    pub(crate) fn serve(place: &RoutePlace<'_>) -> Option<Self> {
        let ([cluster_headers, headers], response) = place.edits(None);
        let edit = Edit {
            cluster_headers,
            cluster_host: None,
            headers,
            host: None,
            path: None,
        };
        let route = Self {
            timeout: None,
            timeout_millis: None,
            idle_timeout: None,
            cluster_not_found: StatusCode::SERVICE_UNAVAILABLE,
            request: edit.boxed(),
            response,
            takes_host_of_endpoint: false,
            append_x_forwarded_host: false,
            strip_port: StripPort::Never,
            upgrades: upgrades(&[], &place.manager.upgrades),
        };
        let idle = route.request.is_none() && route.response.is_none() && route.upgrades.is_empty();
        (!idle).then_some(route)
    }

    /// The authority of a client's request, before anything looks at it or changes it: without its
    /// port, if the listener says so.
    pub fn authority(&self, given: &Authority) -> Authority {
        let left = self.strip_port.strip(given.as_str(), None);
        match left.len() == given.as_str().len() {
            true => given.clone(),
            false => host::read(left.as_bytes()).unwrap_or_else(|| given.clone()),
        }
    }

    /// Changes the request, once per call: after the filters, before its first attempt.
    ///
    /// A path that is rewritten is kept in `x-envoy-original-path`, an authority in
    /// `x-envoy-original-host`, as Envoy does. What would not be a path or an authority stays as it
    /// is.
    #[inline]
    pub fn request(&self, request: &mut RequestEdit<'_>, cx: &RequestCx<'_>) -> Remembered {
        if let Some(edit) = &self.request {
            edit.apply(request, cx, self.append_x_forwarded_host);
        }
        match &self.response {
            None => Remembered(None),
            Some(response) => response.remember(&request.asked(cx), request.headers),
        }
    }

    /// As [`request`](Self::request), in a server: only headers change.
    #[inline]
    pub fn served(
        &self,
        request: &mut RequestHead<'_>,
        scheme: &str,
        version: Version,
    ) -> Remembered {
        let asked = Asked {
            method: request.method,
            scheme,
            authority: request.authority,
            path: request.path,
            query: request.query,
            cx: RequestCx {
                peer: request.peer,
                version,
            },
        };
        if let Some(edit) = &self.request {
            edit.headers.request(&asked, request.headers);
        }
        match &self.response {
            None => Remembered(None),
            Some(response) => response.remember(&asked, request.headers),
        }
    }

    /// Whether it changes responses.
    #[inline]
    pub fn changes_responses(&self) -> bool {
        self.response.is_some()
    }

    /// Changes the headers of the response that came from `endpoint`; `None`: from none.
    #[inline]
    pub fn response(
        &self,
        status: StatusCode,
        headers: &mut HeaderMap,
        remembered: &Remembered,
        endpoint: Option<&Address>,
    ) {
        if let Some(response) = &self.response {
            response.apply(status, headers, remembered, endpoint);
        }
    }

    /// Whether the authority of each attempt is its endpoint's host name, where that has one
    /// (`auto_host_rewrite`). Then [`endpoint_host`](Self::endpoint_host) is for each attempt.
    #[inline]
    pub fn takes_host_of_endpoint(&self) -> bool {
        self.takes_host_of_endpoint
    }

    /// Makes the endpoint's host name the authority of an attempt. One that is no authority changes
    /// nothing.
    pub fn endpoint_host(&self, name: &str, authority: &mut Authority, headers: &mut HeaderMap) {
        if let Some(name) = host::read(name.as_bytes()) {
            host::replace(authority, name, headers, self.append_x_forwarded_host);
        }
    }

    /// Whether a request may upgrade to this protocol, in lower case. What a route says counts more
    /// than what its listener says.
    pub fn allows_upgrade(&self, protocol: &str) -> bool {
        self.upgrades.iter().any(|allowed| **allowed == *protocol)
    }
}

fn upgrades(route: &[(Arc<str>, bool)], listener: &[(Arc<str>, bool)]) -> Box<[Arc<str>]> {
    let open = |(name, _): &&(Arc<str>, bool)| route.iter().all(|(other, _)| other != name);
    let all = route.iter().chain(listener.iter().filter(open));
    all.filter(|(_, allowed)| *allowed)
        .map(|(name, _)| Arc::clone(name))
        .collect()
}

// === impl Edit ===

impl Edit {
    fn boxed(self) -> Option<Box<Self>> {
        let idle = self.cluster_headers.is_empty()
            && self.cluster_host.is_none()
            && self.headers.is_empty()
            && self.host.is_none()
            && self.path.is_none();
        (!idle).then(|| Box::new(self))
    }

    fn apply(&self, request: &mut RequestEdit<'_>, cx: &RequestCx<'_>, append_host: bool) {
        request.change(&self.cluster_headers, cx);
        // Not as the route's: Envoy keeps no trace of what it was.
        if let Some(host) = &self.cluster_host {
            *request.authority = host.clone();
        }
        request.change(&self.headers, cx);
        if let Some(host) = &self.host
            && let Some(name) = host.authority(request.headers, request.path.path())
        {
            host::replace(request.authority, name, request.headers, append_host);
        }
        if let Some(edit) = &self.path
            && let Some(path) = edit.rewrite(request.path)
        {
            let before = std::mem::replace(request.path, path);
            headers::put(request.headers, ORIGINAL_PATH, before.as_str());
        }
    }
}

// === impl RoutePlace ===

impl<'a> RoutePlace<'a> {
    /// The changes of all levels: of requests, those of the weighted cluster and the others, and of
    /// responses.
    fn edits(
        &self,
        cluster: Option<&'a WeightedCluster>,
    ) -> ([Levels<RequestOperator>; 2], Option<Box<ResponseEdit>>) {
        let known = Known {
            cluster: cluster.map_or("", |cluster| &cluster.name),
            route: &self.route.name,
        };
        let levels = self.levels(cluster.map(|cluster| &cluster.headers));
        let of_requests = |levels: &[&'a HeaderMutations]| {
            let requests = levels.iter().map(|level| &*level.request);
            Levels::of_requests(requests, &known)
        };
        let responses = levels.iter().map(|level| &*level.response);
        (
            [of_requests(&levels[..1]), of_requests(&levels[1..])],
            ResponseEdit::compile(responses, &known),
        )
    }

    /// In the order in which they apply: the later sees and overwrites what the earlier did.
    /// Envoy reverses the levels of a route configuration alone: weighted clusters are always first.
    fn levels(&self, cluster: Option<&'a HeaderMutations>) -> [&'a HeaderMutations; 4] {
        static NONE: HeaderMutations = HeaderMutations {
            request: Vec::new(),
            response: Vec::new(),
        };
        let cluster = cluster.unwrap_or(&NONE);
        let (route, host) = (&self.route.headers, &self.host.headers);
        let config = &self.config.headers;
        match self.config.most_specific_wins {
            false => [cluster, route, host, config],
            true => [cluster, config, host, route],
        }
    }

    /// Whether a server does the same under HTTP semantics on both.
    pub(crate) fn serves_as(&self, other: &Self) -> bool {
        self.manager.upgrades == other.manager.upgrades
            && self.route.name == other.route.name
            && self.levels(None) == other.levels(None)
            && self.config.most_specific_wins == other.config.most_specific_wins
            && self.route.action == other.route.action
            // A redirect may rewrite what the route matches.
            && (self.route.action == RouteAction::NonForwarding
                || self.route.matcher.path == other.route.matcher.path)
    }
}

// === impl RequestEdit ===

impl RequestEdit<'_> {
    fn change(&mut self, levels: &Levels<RequestOperator>, cx: &RequestCx<'_>) {
        if levels.is_empty() {
            return;
        }
        // Not `asked`, which would borrow the headers, too.
        let asked = Asked {
            method: self.method,
            scheme: self.scheme,
            authority: self.authority.as_str(),
            path: self.path.path(),
            query: self.path.query(),
            cx: *cx,
        };
        levels.request(&asked, self.headers);
    }

    fn asked<'a>(&'a self, cx: &RequestCx<'a>) -> Asked<'a> {
        Asked {
            method: self.method,
            scheme: self.scheme,
            authority: self.authority.as_str(),
            path: self.path.path(),
            query: self.path.query(),
            cx: *cx,
        }
    }
}
