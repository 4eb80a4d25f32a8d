use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use super::InboundSpec;
use crate::{
    config::{
        ChainMatch, Domain, DownstreamTls, FilterChain, HttpManager, Kind, PathMatcher, Resource,
        ResourceId, Route, RouteAction, RouteConfig, RouteMatch, RouteSource, ServerListener,
        VirtualHost,
    },
    control::{Event, SourceError, SourceErrorKind},
    resolve::slots::{Join, Missing, Slots},
};

/// Joins the resources of one server: its listener, and the routes that its chains name.
///
/// Pure logic, as that of a target.
#[derive(Debug)]
pub(super) struct InboundDependencies {
    listener: Arc<str>,
    address: SocketAddr,
    slots: Slots,
    /// The last complete configuration: in force until another is complete, or until the listener
    /// is taken away or turns into one that this server cannot serve.
    last: Option<Arc<InboundConfig>>,
}

/// Everything that a server's connections and requests depend on, from one moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct InboundConfig {
    pub(super) listener: Arc<ServerListener>,
    /// The routes that chains name. Those that cannot be had fail the requests of their chains.
    pub(super) routes: Routes,
    /// Trouble that leaves the above in force.
    pub(super) ambient: Option<SourceError>,
}

pub(super) type Routes = BTreeMap<Arc<str>, Found>;

/// A route configuration, or why there is none.
type Found = Result<Arc<RouteConfig>, SourceError>;

/// Why a listener is not followed.
enum Unserved {
    /// It or its routes are not known yet.
    Pending,
    /// It cannot be had: an earlier one may be followed.
    Missing(SourceError),
    /// It says that this server is not the one to serve.
    Unfit(SourceError),
}

// === impl InboundDependencies ===

impl InboundDependencies {
    pub(super) fn new(spec: &InboundSpec) -> Self {
        let first = ResourceId::new(Kind::Listener, Arc::clone(&spec.listener));
        Self {
            listener: Arc::clone(&spec.listener),
            address: spec.address,
            slots: Slots::new(first),
            last: None,
        }
    }

    /// Brings the set of slots in line with what is in force and what is to come into force.
    fn reshape(&mut self) {
        let mut wanted = BTreeSet::from([ResourceId::new(Kind::Listener, self.listener.clone())]);
        let next = self.served().ok().map(|(listener, _)| listener);
        let last = self.last.as_ref().map(|last| &last.listener);
        for listener in next.into_iter().chain(last) {
            let routes = named_routes(listener);
            wanted.extend(routes.map(|name| ResourceId::new(Kind::Route, name.clone())));
        }
        self.slots.reshape(wanted);
    }

    /// The configuration that the listener asks for now, once all its routes were attempted.
    fn join(&self) -> Result<InboundConfig, Unserved> {
        let (listener, trouble) = self.served()?;
        let mut ambient = trouble.cloned();
        let mut routes = Routes::new();
        for name in named_routes(listener) {
            let (found, trouble) = self.routes(name).ok_or(Unserved::Pending)?;
            routes.insert(Arc::clone(name), found);
            ambient = ambient.or(trouble);
        }
        Ok(InboundConfig {
            listener: Arc::clone(listener),
            routes,
            ambient,
        })
    }

    /// The listener of `last` with the routes of now.
    fn refresh(&self, last: &InboundConfig, ambient: Option<SourceError>) -> InboundConfig {
        let routes = last.routes.iter().map(|(name, then)| {
            let now = self.routes(name).map(|(now, _)| now);
            (Arc::clone(name), now.unwrap_or_else(|| then.clone()))
        });
        InboundConfig {
            routes: routes.collect(),
            ambient,
            ..last.clone()
        }
    }

    /// The listener, if it is one for this server, and what troubles it.
    fn served(&self) -> Result<(&Arc<ServerListener>, Option<&SourceError>), Unserved> {
        let (found, trouble) = match self.slots.need(Kind::Listener, &self.listener) {
            Ok(found) => found,
            Err(Missing::Pending(_)) => return Err(Unserved::Pending),
            Err(Missing::Failed(error)) => return Err(Unserved::Missing(error)),
        };
        let problem = match found {
            Resource::ServerListener(listener) if self.fits(listener.address) => {
                return Ok((listener, trouble));
            }
            Resource::ServerListener(listener) => format!(
                "is for {}, and the server is bound to {}: the address must be the same \
                 (gRFC A36)",
                listener.address, self.address
            ),
            _ => "is for clients: a server needs one with an address in place of an api_listener \
                  (gRFC A36)"
                .to_owned(),
        };
        Err(Unserved::Unfit(SourceError {
            kind: SourceErrorKind::Invalid,
            text: format!("listener {:?} {problem}", self.listener).into(),
        }))
    }

    /// Whether a listener for `address` is for what the server is bound to. Port 0 stands for any:
    /// one listener may serve many servers on ports of their own.
    fn fits(&self, address: SocketAddr) -> bool {
        let port = address.port();
        address.ip().to_canonical() == self.address.ip().to_canonical()
            && (port == 0 || port == self.address.port())
    }

    /// A route configuration or why there is none, and what troubles it. `None`: not known yet.
    fn routes(&self, name: &Arc<str>) -> Option<(Found, Option<SourceError>)> {
        match self.slots.need(Kind::Route, name) {
            Ok((Resource::Route(routes), trouble)) => {
                Some((Ok(Arc::clone(routes)), trouble.cloned()))
            }
            Err(Missing::Failed(error)) => Some((Err(error), None)),
            Ok(_) | Err(Missing::Pending(_)) => None,
        }
    }
}

impl Join for InboundDependencies {
    type Outcome = Result<Arc<InboundConfig>, SourceError>;

    fn handle(&mut self, id: &ResourceId, event: Event) {
        // Taken away, not merely never there: the server must not serve on (gRFC A36). Routes that
        // are taken away leave it serving, and fail the requests that need them.
        let in_force = self.last.is_some();
        if self.slots.handle(id, event, in_force) && id.kind == Kind::Listener {
            self.last = None;
            self.slots.release();
        }
    }

    fn settle(&mut self) -> Option<Self::Outcome> {
        self.reshape();
        let config = match (self.join(), &self.last) {
            (Ok(config), _) => config,
            (Err(Unserved::Unfit(error)), _) => {
                self.last = None;
                self.slots.release();
                self.reshape();
                return Some(Err(error));
            }
            (Err(Unserved::Pending), None) => return None,
            (Err(Unserved::Missing(error)), None) => return Some(Err(error)),
            (Err(Unserved::Pending), Some(last)) => self.refresh(last, last.ambient.clone()),
            (Err(Unserved::Missing(error)), Some(last)) => self.refresh(last, Some(error)),
        };
        let config = match self.last.take() {
            Some(last) if *last == config => last,
            _ => Arc::new(config),
        };
        self.last = Some(Arc::clone(&config));
        self.reshape();
        Some(Ok(config))
    }

    fn slots(&self) -> &Slots {
        &self.slots
    }
}

/// The route configurations that a listener's chains name, repeated as they are.
fn named_routes(listener: &ServerListener) -> impl Iterator<Item = &Arc<str>> {
    listener
        .chains
        .iter()
        .chain(&listener.default_chain)
        .filter_map(|chain| match &chain.http.routes {
            RouteSource::Named(name) => Some(name),
            RouteSource::Inline(_) => None,
        })
}

// === impl InboundConfig ===

impl InboundConfig {
    /// One chain for all connections, whose requests are all served.
    pub(super) fn fixed(spec: &InboundSpec, tls: Option<Arc<DownstreamTls>>) -> Self {
        let every_request = Route {
            name: "".into(),
            matcher: RouteMatch {
                path: PathMatcher::Prefix {
                    prefix: String::new(),
                    ignore_case: false,
                },
                headers: vec![],
                query: vec![],
                fraction: None,
            },
            action: RouteAction::NonForwarding,
            overrides: Default::default(),
            headers: Default::default(),
        };
        let routes = RouteConfig {
            name: Arc::clone(&spec.listener),
            virtual_hosts: vec![VirtualHost {
                name: "".into(),
                domains: vec![Domain::Any],
                routes: vec![every_request.into()],
                overrides: Default::default(),
                headers: Default::default(),
            }],
            headers: Default::default(),
            most_specific_wins: false,
            ignore_port: false,
        };
        let chain = FilterChain {
            name: "".into(),
            matcher: ChainMatch::default(),
            tls,
            http: HttpManager {
                routes: RouteSource::Inline(Arc::new(routes)),
                filters: Arc::new([]),
                max_stream_duration: None,
                stream_idle_timeout: None,
                upgrades: Vec::new(),
                strip_port: Default::default(),
            },
        };
        Self {
            listener: Arc::new(ServerListener {
                name: Arc::clone(&spec.listener),
                address: spec.address,
                chains: vec![],
                default_chain: Some(chain),
            }),
            routes: Routes::new(),
            ambient: None,
        }
    }

    /// The routes of a chain of the listener.
    pub(super) fn routes_of(&self, chain: &FilterChain) -> Found {
        match &chain.http.routes {
            RouteSource::Inline(routes) => Ok(Arc::clone(routes)),
            RouteSource::Named(name) => self.routes[name].clone(),
        }
    }
}

#[cfg(test)]
mod tests;
