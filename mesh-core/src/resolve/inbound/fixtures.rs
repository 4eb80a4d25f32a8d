//! Listeners, routes and filters to test with.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::*;
use crate::{
    config::{
        ChainMatch, Domain, FilterChain, FilterConfig, HttpFilter, HttpManager, PathMatcher,
        Resource, Route, RouteAction, RouteConfig, RouteMatch, RouteSource, ServerListener,
        VirtualHost,
    },
    control::SourceErrorKind,
    filter::{Filter, FilterSpec, RequestHead, Verdict},
    resolve::Reject,
    route::Head,
};

pub(super) const NAME: &str = "inbound";

pub(super) fn spec() -> InboundSpec {
    InboundSpec {
        listener: NAME.into(),
        address: "10.0.0.1:80".parse().unwrap(),
        semantics: Semantics::Grpc,
    }
}

pub(super) fn ends(peer: &str, local: &str) -> Ends {
    Ends {
        peer: peer.parse().unwrap(),
        local: local.parse().unwrap(),
    }
}

/// A connection from elsewhere.
pub(super) fn any_ends() -> Ends {
    ends("10.9.9.9:999", "10.0.0.1:80")
}

/// A chain for what comes from `port`; 0: from any.
pub(super) fn chain(port: u16, routes: RouteSource) -> FilterChain {
    FilterChain {
        name: format!("from {port}").into(),
        matcher: ChainMatch {
            source_ports: (port != 0).then_some(port).into_iter().collect(),
            ..Default::default()
        },
        tls: None,
        http: HttpManager {
            routes,
            filters: Arc::new([]),
            max_stream_duration: None,
            stream_idle_timeout: None,
            upgrades: Vec::new(),
            strip_port: Default::default(),
        },
    }
}

pub(super) fn named(name: &str) -> RouteSource {
    RouteSource::Named(name.into())
}

pub(super) fn listener(chains: Vec<FilterChain>) -> ServerListener {
    ServerListener {
        name: NAME.into(),
        address: spec().address,
        chains,
        default_chain: None,
    }
}

pub(super) fn resource(listener: ServerListener) -> Resource {
    Resource::ServerListener(Arc::new(listener))
}

pub(super) fn route(name: &str, prefix: &str, action: RouteAction) -> Route {
    Route {
        name: name.into(),
        matcher: RouteMatch {
            path: PathMatcher::Prefix {
                prefix: prefix.into(),
                ignore_case: false,
            },
            headers: vec![],
            query: vec![],
            fraction: None,
        },
        action,
        overrides: Default::default(),
        headers: Default::default(),
    }
}

pub(super) fn host(name: &str, domain: Domain, routes: Vec<Route>) -> VirtualHost {
    VirtualHost {
        name: name.into(),
        domains: vec![domain],
        routes: routes.into_iter().map(Arc::new).collect(),
        overrides: Default::default(),
        headers: Default::default(),
    }
}

pub(super) fn config(name: &str, virtual_hosts: Vec<VirtualHost>) -> RouteConfig {
    RouteConfig {
        name: name.into(),
        virtual_hosts,
        headers: Default::default(),
        most_specific_wins: false,
        ignore_port: false,
    }
}

/// Routes that serve everything; the route is called `route`.
pub(super) fn serving(name: &str, route_name: &str) -> RouteConfig {
    let all = route(route_name, "/", RouteAction::NonForwarding);
    config(name, vec![host("all", Domain::Any, vec![all])])
}

pub(super) fn routes(config: RouteConfig) -> Resource {
    Resource::Route(Arc::new(config))
}

pub(super) fn inline(config: RouteConfig) -> RouteSource {
    RouteSource::Inline(Arc::new(config))
}

pub(super) fn error(kind: SourceErrorKind, text: &str) -> SourceError {
    SourceError {
        kind,
        text: text.into(),
    }
}

pub(super) fn missing() -> SourceError {
    error(SourceErrorKind::DoesNotExist, "no such resource")
}

/// What becomes of a request.
pub(super) fn find(
    chain: &InboundChain,
    authority: &str,
    path: &str,
) -> Result<Arc<InboundRoute>, Reject> {
    let head = Head {
        method: &http::Method::POST,
        scheme: "http",
        authority,
        path,
        query: None,
        headers: &http::HeaderMap::new(),
    };
    chain.route(&head, &mut ()).map(Arc::clone)
}

/// The name of a request's route, or why there is none.
pub(super) fn ask(chain: &InboundChain, authority: &str, path: &str) -> Result<String, String> {
    match find(chain, authority, path) {
        Ok(route) => Ok(route.route.to_string()),
        Err(reject) => {
            assert_eq!(reject.code, crate::Code::Unavailable);
            Err(reject.to_string())
        }
    }
}

/// A filter that says what it was built from, and how many were built before it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tag(pub(super) &'static str);

#[derive(Debug)]
pub(super) struct Tagged {
    _tag: &'static str,
    _number: usize,
}

static BUILT: AtomicUsize = AtomicUsize::new(0);

impl FilterSpec for Tag {
    fn build(&self, over: Option<&FilterConfig>) -> Option<Arc<dyn Filter>> {
        let tag = crate::filter::replaced(self, over).0;
        let number = BUILT.fetch_add(1, Ordering::Relaxed);
        (!tag.is_empty()).then(|| {
            Arc::new(Tagged {
                _tag: tag,
                _number: number,
            }) as _
        })
    }

    fn equals(&self, other: &dyn FilterSpec) -> bool {
        (other as &dyn Any).downcast_ref() == Some(self)
    }
}

impl Filter for Tagged {
    fn request(&self, _: &mut RequestHead<'_>) -> Verdict {
        Verdict::Continue
    }
}

pub(super) fn tag(tag: &'static str) -> FilterConfig {
    FilterConfig(Arc::new(Tag(tag)))
}

pub(super) fn filter(name: &str, of: &'static str) -> HttpFilter {
    HttpFilter {
        name: name.into(),
        config: tag(of),
    }
}
