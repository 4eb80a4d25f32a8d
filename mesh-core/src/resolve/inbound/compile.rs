//! Compiles the routes of a chain, and keeps of the chain's last ones what has not changed:
//! filters have state.

use std::sync::Arc;

use super::{
    InboundSpec,
    snapshot::{Action, Host, InboundChain, InboundRoute},
};
use crate::{
    config::{FilterChain, FilterConfig, HttpFilter, Route, RouteAction, RouteConfig, VirtualHost},
    control::SourceError,
    filter::Filter,
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
                    Host::compile(spec, &config.http.filters, host, before, recorder)
                };
                let hosts = routes.virtual_hosts.iter().map(compile).collect();
                (HostTable::compile(routes), hosts)
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
            config,
            routes,
            hosts,
            virtual_hosts,
        }
    }

    /// The virtual host that goes by the name or the authorities of `host`, and its routes.
    fn host(&self, host: &VirtualHost) -> Option<Before<'_>> {
        let hosts = &self.routes.as_ref().ok()?.virtual_hosts;
        let same = |other: &VirtualHost| match &*host.name {
            "" => other.domains == host.domains,
            name => *other.name == *name,
        };
        let number = hosts.iter().position(same)?;
        Some(Before {
            routes: &hosts[number].routes,
            actions: &self.virtual_hosts[number].actions,
        })
    }
}

/// The routes of a virtual host in the last snapshot.
#[derive(Clone, Copy)]
struct Before<'a> {
    routes: &'a [Route],
    actions: &'a [Action],
}

// === impl Host ===

impl Host {
    fn compile(
        spec: &InboundSpec,
        filters: &[HttpFilter],
        host: &VirtualHost,
        before: Option<Before<'_>>,
        recorder: Option<&dyn Recorder>,
    ) -> Self {
        let action = |(index, route): (usize, &Route)| match &route.action {
            RouteAction::NonForwarding => {
                let before = before.and_then(|before| before.find(index, route));
                serve(spec, filters, host, (index, route), before, recorder)
            }
            RouteAction::Forward(_) => Action::Refuse(
                "the matching route is for clients: a server needs non_forwarding_action \
                 (gRFC A36)"
                    .into(),
            ),
            RouteAction::Redirect(_) => {
                Action::Refuse("the matching route's action redirect is not supported".into())
            }
            RouteAction::DirectResponse(_) => Action::Refuse(
                "the matching route's action direct_response is not supported".into(),
            ),
            RouteAction::Unsupported(action) => Action::Refuse(
                format!("the matching route's action {action} is not supported").into(),
            ),
        };
        Self {
            table: Table::compile(spec.semantics, &host.routes),
            actions: host.routes.iter().enumerate().map(action).collect(),
        }
    }
}

fn serve(
    spec: &InboundSpec,
    filters: &[HttpFilter],
    host: &VirtualHost,
    (index, route): (usize, &Route),
    before: Option<(&Arc<InboundRoute>, &[Built])>,
    recorder: Option<&dyn Recorder>,
) -> Action {
    let name: Arc<str> = match &*route.name {
        "" => format!("#{index}").into(),
        _ => Arc::clone(&route.name),
    };
    let known = before.map_or(&[][..], |(_, built)| built);
    let built: Box<[Built]> = filters
        .iter()
        .map(|filter| {
            // The most specific override wins, and is not merged with others (gRFC A39).
            let layers = [&route.overrides, &host.overrides];
            let over = layers.iter().find_map(|layer| layer.get(&filter.name));
            Built::reuse(spec, filter, over, known)
        })
        .collect();
    if let Some((route, before)) = before
        && route.route == name
        && before.len() == built.len()
        && before.iter().zip(&built).all(|(a, b)| a.same(b))
    {
        let route = Arc::clone(route);
        return Action::Serve { route, built };
    }
    let instruments = recorder.map(|recorder| {
        recorder.bind(&Series::new(
            Arc::clone(&spec.listener),
            Arc::clone(&name),
            "",
            spec.semantics,
        ))
    });
    let route = Arc::new(InboundRoute {
        route: name,
        filters: built.iter().filter_map(|of| of.built.clone()).collect(),
        instruments,
    });
    Action::Serve { route, built }
}

// === impl Before ===

impl<'a> Before<'a> {
    /// What served the requests of `route`, which is at `index` now: the route of its name, or
    /// without one that at its place.
    fn find(self, index: usize, route: &Route) -> Option<(&'a Arc<InboundRoute>, &'a [Built])> {
        let at = match &*route.name {
            "" => index,
            name => self.routes.iter().position(|other| *other.name == *name)?,
        };
        match self.actions.get(at)? {
            Action::Serve { route, built } => Some((route, built)),
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
