//! Compiles the routes of a chain, and keeps of the chain's last ones what has not changed:
//! filters have state.

use std::sync::Arc;

use super::{
    InboundSpec,
    snapshot::{Action, Host, InboundChain, InboundRoute},
};
use crate::{
    Semantics,
    config::{
        FilterChain, FilterConfig, HttpFilter, Route, RouteAction, RouteConfig, StripPort,
        VirtualHost,
    },
    control::SourceError,
    filter::Filter,
    resolve::answer,
    rewrite::{HttpRoute, RouteAnswer, RoutePlace},
    route::{HostTable, Table},
    telemetry::{Recorder, Series},
};

/// A filter of one route, and what it was built from.
#[derive(Debug, Clone)]
pub(super) struct Built {
    filter: HttpFilter,
    over: Option<FilterConfig>,
    /// `None`: nothing to do on this route.
    built: Option<Arc<dyn Filter>>,
}

// === impl InboundChain ===

impl InboundChain {
    /// Compiles a chain; `before` is what took its connections until now.
    pub(super) fn compile(
        spec: &InboundSpec,
        config: &FilterChain,
        routes: Result<Arc<RouteConfig>, SourceError>,
        before: Option<&Self>,
        recorder: Option<&dyn Recorder>,
    ) -> Self {
        let (hosts, virtual_hosts) = match &routes {
            Err(_) => (HostTable::default(), Box::default()),
            Ok(routes) => {
                let compile = |host: &VirtualHost| {
                    let before = before.and_then(|before| before.host(host));
                    Host::compile(spec, config, routes, host, before, recorder)
                };
                let hosts = routes.virtual_hosts.iter().map(compile).collect();
                (HostTable::compile(spec.semantics, routes), hosts)
            }
        };
        let mut config = config.clone();
        // What did not change stays the same, so that it can be told by its address.
        if let Some(before) = before
            && before.config.tls == config.tls
        {
            config.tls.clone_from(&before.config.tls);
        }
        Self {
            strip_port: match spec.semantics {
                Semantics::Http => config.http.strip_port,
                Semantics::Grpc => StripPort::Never,
            },
            config,
            routes,
            hosts,
            virtual_hosts,
            instruments: recorder.map(|recorder| {
                let listener = Arc::clone(&spec.listener);
                recorder.bind(&Series::server(listener, "", spec.semantics))
            }),
        }
    }

    /// The virtual host that goes by the name or the authorities of `host`, and its routes.
    fn host(&self, host: &VirtualHost) -> Option<Before<'_>> {
        let routes = self.routes.as_ref().ok()?;
        let same = |other: &VirtualHost| match &*host.name {
            "" => other.domains == host.domains,
            name => *other.name == *name,
        };
        let number = routes.virtual_hosts.iter().position(same)?;
        Some(Before {
            chain: &self.config,
            routes,
            host: &routes.virtual_hosts[number],
            actions: &self.virtual_hosts[number].actions,
        })
    }
}

/// The routes of a virtual host in the last snapshot.
#[derive(Clone, Copy)]
struct Before<'a> {
    chain: &'a FilterChain,
    routes: &'a RouteConfig,
    host: &'a VirtualHost,
    actions: &'a [Action],
}

/// What served the requests of a route in the last snapshot.
struct ServedBefore<'a> {
    place: RoutePlace<'a>,
    route: &'a Arc<InboundRoute>,
    built: &'a [Built],
}

// === impl Host ===

impl Host {
    fn compile(
        spec: &InboundSpec,
        chain: &FilterChain,
        routes: &RouteConfig,
        host: &VirtualHost,
        before: Option<Before<'_>>,
        recorder: Option<&dyn Recorder>,
    ) -> Self {
        let refuse = |action| {
            Action::Refuse(format!("the matching route's action {action} is not supported").into())
        };
        let action = |(index, route): (usize, &Arc<Route>)| {
            let place = RoutePlace {
                manager: &chain.http,
                config: routes,
                host,
                route,
            };
            let serve = || {
                let before = before.and_then(|before| before.find(index, &place));
                serve(spec, &place, index, before, recorder)
            };
            match (&route.action, spec.semantics) {
                (RouteAction::NonForwarding, _) => serve(),
                // What answers is behind the filters: authorization, for one.
                (RouteAction::Redirect(_) | RouteAction::DirectResponse(_), Semantics::Http) => {
                    serve()
                }
                (RouteAction::Forward(_), _) => Action::Refuse(
                    "the matching route is for clients: a server needs non_forwarding_action \
                     (gRFC A36)"
                        .into(),
                ),
                (RouteAction::Redirect(_), Semantics::Grpc) => refuse("redirect"),
                (RouteAction::DirectResponse(_), Semantics::Grpc) => refuse("direct_response"),
                (RouteAction::Unsupported(action), _) => refuse(action),
            }
        };
        Self {
            table: Table::compile(spec.semantics, &host.routes),
            actions: host.routes.iter().enumerate().map(action).collect(),
        }
    }
}

fn serve(
    spec: &InboundSpec,
    place: &RoutePlace<'_>,
    index: usize,
    before: Option<ServedBefore<'_>>,
    recorder: Option<&dyn Recorder>,
) -> Action {
    let name = answer::name(index, place.route);
    let known = before.as_ref().map_or(&[][..], |before| before.built);
    let built: Box<[Built]> = place
        .manager
        .filters
        .iter()
        .map(|filter| {
            // The most specific override wins, and is not merged with others (gRFC A39).
            let layers = [&place.route.overrides, &place.host.overrides];
            let over = layers.iter().find_map(|layer| layer.get(&filter.name));
            Built::reuse(spec, filter, over, known)
        })
        .collect();
    if let Some(before) = before
        && before.route.route == name
        && before.built.len() == built.len()
        && before.built.iter().zip(&built).all(|(a, b)| a.same(b))
        && (spec.semantics == Semantics::Grpc || before.place.serves_as(place))
    {
        let route = Arc::clone(before.route);
        return Action::Serve { route, built };
    }
    let instruments = recorder.map(|recorder| {
        let listener = Arc::clone(&spec.listener);
        recorder.bind(&Series::server(listener, Arc::clone(&name), spec.semantics))
    });
    let (http, answer) = match spec.semantics {
        Semantics::Grpc => (None, None),
        Semantics::Http => match RouteAnswer::compile(place) {
            Some(answer) => (None, Some(answer)),
            None => (HttpRoute::serve(place), None),
        },
    };
    let route = Arc::new(InboundRoute {
        route: name,
        filters: built.iter().filter_map(|of| of.built.clone()).collect(),
        http: http.map(Box::new),
        answer: answer.map(Box::new),
        instruments,
    });
    Action::Serve { route, built }
}

// === impl Before ===

impl<'a> Before<'a> {
    /// What served the requests of the route at `place`, which has this index now: the route of its
    /// name, or without one that of its index.
    fn find(self, index: usize, place: &RoutePlace<'_>) -> Option<ServedBefore<'a>> {
        let routes = &self.host.routes;
        let at = match &*place.route.name {
            "" => index,
            name => routes.iter().position(|other| *other.name == *name)?,
        };
        let place = RoutePlace {
            manager: &self.chain.http,
            config: self.routes,
            host: self.host,
            route: routes.get(at)?,
        };
        match self.actions.get(at)? {
            Action::Serve { route, built } => Some(ServedBefore {
                place,
                route,
                built,
            }),
            Action::Refuse(_) => None,
        }
    }
}

// === impl Built ===

impl Built {
    /// The filter as it was built before, or newly built.
    fn reuse(
        spec: &InboundSpec,
        filter: &HttpFilter,
        over: Option<&FilterConfig>,
        known: &[Built],
    ) -> Self {
        let same = |built: &&Built| built.filter == *filter && built.over.as_ref() == over;
        known.iter().find(same).cloned().unwrap_or_else(|| Self {
            filter: filter.clone(),
            over: over.cloned(),
            built: filter.config.build_for(spec.semantics, over),
        })
    }

    /// Whether both are the same filter in the same state.
    fn same(&self, other: &Self) -> bool {
        match (&self.built, &other.built) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => self.filter == other.filter && self.over == other.over,
            _ => false,
        }
    }
}
