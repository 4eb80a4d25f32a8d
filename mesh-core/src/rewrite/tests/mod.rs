//! What Envoy's documentation and behaviour say, as tables.

mod answers;
mod headers;
mod hosts;
mod paths;
mod properties;

use std::net::SocketAddr;

use super::*;
use crate::{
    config::{
        AppendAction, Domain, FormatOperator, FormatPart, HeaderFormat, HeaderMutation,
        HostRewrite, PathMatcher, PathRewrite, Regex, RegexRewrite, RouteAction, RouteMatch,
        RouteSource,
    },
    identity::{Peer, PeerTls},
};

fn regex_rewrite(pattern: &str, substitution: &str) -> RegexRewrite {
    RegexRewrite {
        pattern: Regex::new(pattern).unwrap(),
        substitution: substitution.into(),
    }
}

fn exact(path: &str) -> PathMatcher {
    PathMatcher::Exact {
        path: path.into(),
        ignore_case: false,
    }
}

fn prefix(prefix: &str) -> PathMatcher {
    PathMatcher::Prefix {
        prefix: prefix.into(),
        ignore_case: false,
    }
}

/// A place in a configuration, all of whose levels can be changed.
struct Config {
    manager: HttpManager,
    config: RouteConfig,
    host: VirtualHost,
    route: Route,
    forward: HttpForward,
    cluster: WeightedCluster,
}

impl Config {
    fn new(path: PathMatcher) -> Self {
        Self {
            manager: HttpManager {
                routes: RouteSource::Named("r".into()),
                filters: Arc::new([]),
                max_stream_duration: None,
                stream_idle_timeout: None,
                upgrades: Vec::new(),
                strip_port: Default::default(),
            },
            config: RouteConfig {
                name: "r".into(),
                virtual_hosts: vec![],
                headers: Default::default(),
                most_specific_wins: false,
                ignore_port: false,
            },
            host: VirtualHost {
                name: "h".into(),
                domains: vec![Domain::Any],
                routes: vec![],
                overrides: Default::default(),
                headers: Default::default(),
            },
            route: Route {
                name: "the-route".into(),
                matcher: RouteMatch {
                    path,
                    headers: vec![],
                    query: vec![],
                    fraction: None,
                },
                action: RouteAction::NonForwarding,
                overrides: Default::default(),
                headers: Default::default(),
            },
            forward: HttpForward::default(),
            cluster: WeightedCluster {
                name: "the-cluster".into(),
                weight: 1,
                overrides: Default::default(),
                headers: Default::default(),
                host_rewrite: None,
            },
        }
    }

    fn place(&self) -> RoutePlace<'_> {
        RoutePlace {
            manager: &self.manager,
            config: &self.config,
            host: &self.host,
            route: &self.route,
        }
    }

    fn compile(&self) -> HttpRoute {
        HttpRoute::compile(&self.place(), &self.forward, &self.cluster)
    }
}

/// A request, as routes change it.
struct Sent {
    authority: Authority,
    path: PathAndQuery,
    headers: HeaderMap,
    peer: Option<Arc<Peer>>,
}

impl Sent {
    fn new(authority: &str, path: &str) -> Self {
        Self {
            authority: authority.parse().unwrap(),
            path: path.parse().unwrap(),
            headers: HeaderMap::new(),
            peer: None,
        }
    }

    fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.append(name, value.parse().unwrap());
        self
    }

    fn pass(&mut self, route: &HttpRoute) -> Remembered {
        let mut edit = RequestEdit {
            method: &Method::PUT,
            scheme: "http",
            authority: &mut self.authority,
            path: &mut self.path,
            headers: &mut self.headers,
        };
        let cx = RequestCx {
            peer: self.peer.as_ref(),
            version: Version::HTTP_2,
        };
        route.request(&mut edit, &cx)
    }

    fn get(&self, name: &str) -> Vec<&str> {
        values(&self.headers, name)
    }
}

fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    let all = headers.get_all(name).iter();
    all.map(|value| value.to_str().unwrap()).collect()
}

fn text(text: &str) -> HeaderFormat {
    HeaderFormat([FormatPart::Text(text.into())].into())
}

fn operator(operator: FormatOperator) -> HeaderFormat {
    HeaderFormat([FormatPart::Operator(operator)].into())
}

fn request_header(name: &str, alternative: Option<&str>, max: Option<usize>) -> FormatOperator {
    FormatOperator::Request {
        name: name.into(),
        alternative: alternative.map(Into::into),
        max_length: max,
    }
}

fn put(name: &'static str, value: HeaderFormat, append: AppendAction) -> HeaderMutation {
    HeaderMutation::Put {
        name: HeaderName::from_static(name),
        value,
        append,
        keep_empty: false,
    }
}

fn append(name: &'static str, value: &str) -> HeaderMutation {
    put(name, text(value), AppendAction::AppendIfExistsOrAdd)
}

fn overwrite(name: &'static str, value: HeaderFormat) -> HeaderMutation {
    put(name, value, AppendAction::OverwriteIfExistsOrAdd)
}

fn remove(name: &'static str) -> HeaderMutation {
    HeaderMutation::Remove(HeaderName::from_static(name))
}

#[test]
fn a_route_that_changes_nothing_holds_nothing() {
    let config = Config::new(prefix("/"));
    let route = config.compile();
    assert!(route.request.is_none() && route.response.is_none());
    assert!(HttpRoute::serve(&config.place()).is_none());
    let mut sent = Sent::new("a", "/b?c");
    assert!(sent.pass(&route).0.is_none());
    assert!(sent.headers.is_empty());
}

#[test]
fn timeouts_are_the_routes_else_the_listeners() {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    for (route, listener, expected) in [
        (None, None, None),
        (None, seconds(300), seconds(300)),
        (seconds(1), seconds(300), seconds(1)),
        (seconds(0), seconds(300), None),
    ] {
        let mut config = Config::new(prefix("/"));
        config.forward.idle_timeout = route;
        config.manager.stream_idle_timeout = listener;
        assert_eq!(config.compile().idle_timeout, expected);
        assert_eq!(config.compile().timeout, Some(HttpForward::DEFAULT_TIMEOUT));
    }
}

#[test]
fn upgrades_are_the_routes_else_the_listeners() {
    let of = |list: &[(&str, bool)]| {
        let list = list
            .iter()
            .map(|(name, allowed)| ((*name).into(), *allowed));
        list.collect::<Vec<(Arc<str>, bool)>>()
    };
    for (route, listener, websocket, tunnel) in [
        (&[][..], &[][..], false, false),
        (&[], &[("websocket", true)], true, false),
        (&[], &[("websocket", false)], false, false),
        (
            &[("websocket", false)],
            &[("websocket", true), ("tunnel", true)],
            false,
            true,
        ),
        (&[("websocket", true)], &[("websocket", false)], true, false),
    ] {
        let mut config = Config::new(prefix("/"));
        config.forward.upgrades = of(route);
        config.manager.upgrades = of(listener);
        let compiled = config.compile();
        assert_eq!(
            compiled.allows_upgrade("websocket"),
            websocket,
            "{route:?} {listener:?}"
        );
        assert_eq!(
            compiled.allows_upgrade("tunnel"),
            tunnel,
            "{route:?} {listener:?}"
        );
    }
}
