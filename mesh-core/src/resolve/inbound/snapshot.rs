use std::{borrow::Cow, fmt, net::SocketAddr, sync::Arc, time::Duration};

use super::{Ends, InboundSpec, compile::Built, deps::InboundConfig, select::select};
use crate::{
    config::{DownstreamTls, FilterChain, RouteConfig, StripPort},
    control::SourceError,
    filter::Filter,
    resolve::Reject,
    rewrite::{HttpRoute, RouteAnswer},
    route::{Head, HostTable, Table, Trace},
    telemetry::{Instruments, Recorder},
};

/// A listener's configuration, compiled.
pub struct InboundSnapshot {
    config: Arc<InboundConfig>,
    /// In the order of the listener's.
    chains: Box<[Arc<InboundChain>]>,
    default: Option<Arc<InboundChain>>,
}

/// The treatment of one connection.
pub struct InboundChain {
    pub(super) config: FilterChain,
    /// What its requests follow, or why they fail.
    pub(super) routes: Result<Arc<RouteConfig>, SourceError>,
    pub(super) hosts: HostTable,
    pub(super) strip_port: StripPort,
    /// In the order of those in `routes`; none without.
    pub(super) virtual_hosts: Box<[Host]>,
    /// Where requests are recorded that no route takes.
    pub(super) instruments: Option<Arc<dyn Instruments>>,
}

/// A virtual host, compiled.
pub(super) struct Host {
    pub(super) table: Table,
    pub(super) actions: Box<[Action]>,
}

/// What becomes of the requests of one route.
pub(super) enum Action {
    Serve {
        route: Arc<InboundRoute>,
        /// What the route's filters were built from, for the next snapshot.
        built: Box<[Built]>,
    },
    Refuse(Cow<'static, str>),
}

/// The treatment of the requests of one route.
#[derive(Debug)]
pub struct InboundRoute {
    /// The route's name, else its position, such as `#3`.
    pub route: Arc<str>,
    /// What happens to the request on the way.
    pub filters: Box<[Arc<dyn Filter>]>,
    /// What changes in requests and responses, and may be upgraded to, under HTTP semantics. `None`:
    /// nothing.
    pub http: Option<Box<HttpRoute>>,
    /// The answer that the route gives by itself to what its filters let pass: a redirect, or a
    /// direct response. Under HTTP semantics only.
    pub answer: Option<Box<RouteAnswer>>,
    /// Where its requests are recorded: as those of the listener, without a cluster.
    pub instruments: Option<Arc<dyn Instruments>>,
}

// === impl InboundSnapshot ===

impl InboundSnapshot {
    /// Compiles `config`, with what `previous` has compiled already where that still holds.
    pub(super) fn compile(
        spec: &InboundSpec,
        config: Arc<InboundConfig>,
        previous: Option<&Self>,
        recorder: Option<&dyn Recorder>,
    ) -> Self {
        let listener = Arc::clone(&config.listener);
        let chain = |chain: &FilterChain, before: Option<&Arc<InboundChain>>| {
            let routes = config.routes_of(chain);
            match before {
                Some(before) if before.config == *chain && before.routes == routes => {
                    Arc::clone(before)
                }
                _ => {
                    let before = before.map(|before| &**before);
                    let next = InboundChain::compile(spec, chain, routes, before, recorder);
                    Arc::new(next)
                }
            }
        };
        let chains = listener.chains.iter().map(|next| {
            // What a chain matches tells it from all others.
            let mut before = previous.into_iter().flat_map(|previous| &previous.chains);
            chain(
                next,
                before.find(|before| before.config.matcher == next.matcher),
            )
        });
        let default = listener.default_chain.as_ref().map(|next| {
            let before = previous.and_then(|previous| previous.default.as_ref());
            chain(next, before)
        });
        Self {
            chains: chains.collect(),
            default,
            config,
        }
    }

    /// The treatment of a connection; `None`: it is to be closed without a byte. Two snapshots give
    /// the same `Arc` for a chain that did not change in any way, its routes included.
    pub fn chain(&self, ends: Ends) -> Option<&Arc<InboundChain>> {
        match select(self.chains.iter().map(|chain| &chain.config.matcher), ends) {
            Some(number) => Some(&self.chains[number]),
            None => self.default.as_ref(),
        }
    }

    /// The TLS of its chains, of those that have some.
    pub fn tls(&self) -> impl Iterator<Item = &Arc<DownstreamTls>> {
        let chains = self.chains.iter().chain(&self.default);
        chains.filter_map(|chain| chain.tls())
    }

    /// What it was compiled from.
    pub(super) fn config(&self) -> &Arc<InboundConfig> {
        &self.config
    }

    /// What leaves an older configuration in force, or fails the requests of a chain.
    pub fn trouble(&self) -> Option<&SourceError> {
        let failed = || {
            self.config
                .routes
                .values()
                .find_map(|routes| routes.as_ref().err())
        };
        self.config.ambient.as_ref().or_else(failed)
    }
}

impl fmt::Debug for InboundSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboundSnapshot")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

// === impl InboundChain ===

impl InboundChain {
    /// Where requests are recorded that no route takes.
    pub fn instruments(&self) -> Option<&Arc<dyn Instruments>> {
        self.instruments.as_ref()
    }

    /// Its name; may be empty.
    pub fn name(&self) -> &Arc<str> {
        &self.config.name
    }

    /// TLS; `None`: plaintext. A connection whose chain has other TLS now than at its handshake is
    /// to be drained.
    pub fn tls(&self) -> Option<&Arc<DownstreamTls>> {
        self.config.tls.as_ref()
    }

    /// How long nothing may happen on a stream, under HTTP semantics. `None`: no limit.
    #[inline]
    pub fn stream_idle_timeout(&self) -> Option<Duration> {
        self.config.http.stream_idle_timeout
    }

    /// What counts of the authority of a request whose connection has reached `local`: under HTTP
    /// semantics not its port, if the listener says so.
    #[inline]
    pub fn authority<'a>(&self, authority: &'a str, local: Option<SocketAddr>) -> &'a str {
        match self.strip_port {
            StripPort::Never => authority,
            mode => mode.strip(authority, local.map(|local| local.port())),
        }
    }

    /// The route of the request with this head. Does not allocate if there is one.
    ///
    /// # Errors
    /// If no route takes it, the route is not one for servers, or there are no routes.
    #[inline]
    pub fn route<X: Trace>(
        &self,
        head: &Head<'_>,
        trace: &mut X,
    ) -> Result<&Arc<InboundRoute>, Reject> {
        let Some(number) = self.hosts.find(head.authority) else {
            return Err(self.no_host(head));
        };
        let host = &self.virtual_hosts[number];
        let Some(index) = host.table.find(head, trace) else {
            return Err(self.no_route(number, head));
        };
        match &host.actions[index] {
            Action::Serve { route, .. } => Ok(route),
            Action::Refuse(message) => Err(Reject::refused(message.clone())),
        }
    }

    #[cold]
    fn no_host(&self, head: &Head<'_>) -> Reject {
        let message = match &self.routes {
            Err(error) => format!("the routes cannot be had: {error}"),
            Ok(routes) => format!(
                "route configuration {:?} has no virtual host for {:?}",
                routes.name, head.authority
            ),
        };
        Reject::no_route(message)
    }

    #[cold]
    fn no_route(&self, host: usize, head: &Head<'_>) -> Reject {
        let (config, host) = match &self.routes {
            Ok(routes) => (&*routes.name, &*routes.virtual_hosts[host].name),
            Err(_) => ("", ""),
        };
        let message = format!(
            "no route of virtual host {host:?} in route configuration {config:?} matches {:?}",
            head.path
        );
        Reject::no_route(message)
    }
}

impl fmt::Debug for InboundChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboundChain")
            .field("config", &self.config)
            .field("routes", &self.routes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
