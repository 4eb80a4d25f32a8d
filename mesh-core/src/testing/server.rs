use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use envoy_types::pb::google::protobuf::Any;
use prost::{Message, Name};

use super::{
    ControlPlane, ListenerTls, Push, Rbac, Route,
    render::{self, pack},
};
use crate::config::SourceType;

/// Describes or edits what a server does with its connections and requests (gRFC A36);
/// [`apply`](Self::apply) pushes all of it at once.
///
/// The control plane remembers every server, so that a later call says only what changes. One that
/// is described by its address alone takes all connections in plaintext, and all requests.
///
/// A server that listens at `A` has a listener `server/A`, which is what the
/// [bootstrap](ControlPlane::bootstrap) makes it ask for, and a route configuration
/// `route/server/A`. See [`server_listener_name`](super::server_listener_name).
#[must_use = "nothing is pushed before `apply`"]
pub struct ServerListener {
    control_plane: ControlPlane,
    address: SocketAddr,
    edits: Vec<Edit>,
}

type Edit = Box<dyn FnOnce(&mut ServerState) + Send>;

/// The treatment of some connections, as [`ServerListener::chain`] takes it.
#[derive(Debug, Clone, Default, PartialEq)]
#[must_use = "a chain is added by `ServerListener::chain`"]
pub struct ConnectionChain {
    pub(super) name: String,
    pub(super) destinations: Vec<(IpAddr, u32)>,
    pub(super) source_type: SourceType,
    pub(super) sources: Vec<(IpAddr, u32)>,
    pub(super) source_ports: Vec<u16>,
    pub(super) tls: Option<ListenerTls>,
}

/// A server, as the control plane knows it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ServerState {
    /// None: nothing was said of connections, all are taken in plaintext.
    pub(super) chains: Option<Vec<ConnectionChain>>,
    pub(super) default_chain: Option<ConnectionChain>,
    /// The RBAC filters, by name.
    pub(super) filters: Vec<(String, Any)>,
    pub(super) domains: Vec<String>,
    pub(super) routes: Vec<Route>,
    /// Requests that no rule matches are refused.
    pub(super) only_routes: bool,
    pub(super) inline_routes: bool,
    /// Protocols that requests may upgrade to.
    pub(super) upgrades: Vec<String>,
}

// === impl ServerListener ===

impl ServerListener {
    pub(super) fn new(control_plane: ControlPlane, address: SocketAddr) -> Self {
        Self {
            control_plane,
            address,
            edits: Vec::new(),
        }
    }

    /// All connections are in plaintext: the default. Forgets all chains.
    pub fn plaintext(self) -> Self {
        self.edit(|server| server.chains = None)
    }

    /// All connections are under this TLS. Forgets all chains.
    pub fn tls(self, tls: ListenerTls) -> Self {
        self.edit(|server| server.chains = Some(vec![ConnectionChain::new().tls(tls)]))
    }

    /// Adds a chain. The most specific one that matches a connection counts.
    pub fn chain(self, chain: ConnectionChain) -> Self {
        self.edit(|server| server.chains.get_or_insert_default().push(chain))
    }

    /// The treatment of connections that no chain matches; `None`: they are closed.
    pub fn default_chain(self, chain: impl Into<Option<ConnectionChain>>) -> Self {
        let chain = chain.into();
        self.edit(|server| server.default_chain = chain)
    }

    /// Forgets all chains but the default one. A server needs one of either.
    pub fn clear_chains(self) -> Self {
        self.edit(|server| server.chains = Some(Vec::new()))
    }

    /// Who may do what, in the filter called [`rbac`](Self::RBAC). See
    /// [`rbac_filter`](Self::rbac_filter) for several.
    pub fn rbac(self, rbac: Rbac) -> Self {
        self.rbac_filter(Self::RBAC, rbac)
    }

    /// Adds an RBAC filter behind the filters added before, or replaces the one of this name. A
    /// request must pass all of them.
    pub fn rbac_filter(self, name: impl Into<String>, rbac: Rbac) -> Self {
        let config = render::rbac(&rbac);
        self.filter(name.into(), config)
    }

    /// Adds the HTTP filter that `config` configures behind those added before, or replaces the
    /// one of this name.
    pub fn http_filter<M: Message + Name>(self, name: impl Into<String>, config: &M) -> Self {
        let config = pack(config);
        self.filter(name.into(), config)
    }

    /// Forgets all HTTP filters.
    pub fn clear_http_filters(self) -> Self {
        self.edit(|server| server.filters.clear())
    }

    /// Only requests to these authorities are served: exact, `*.x`, `x.*`. Default: all.
    pub fn domains<D: Into<String>>(self, domains: impl IntoIterator<Item = D>) -> Self {
        let domains = domains.into_iter().map(Into::into).collect();
        self.edit(|server| server.domains = domains)
    }

    /// Adds a rule: requests that match it are served, under its
    /// [`rbac`](Route::rbac) and [`filter_config`](Route::filter_config). Where it sends clients
    /// means nothing here. Rules are tried in the order in which they were added.
    pub fn route(self, route: Route) -> Self {
        self.edit(|server| server.routes.push(route))
    }

    /// Lets requests of HTTP/1.1 upgrade to this protocol, such as `websocket`.
    pub fn allow_upgrade(self, protocol: impl Into<String>) -> Self {
        let protocol = protocol.into();
        self.edit(|server| server.upgrades.push(protocol))
    }

    /// Forgets all rules.
    pub fn clear_routes(self) -> Self {
        self.edit(|server| server.routes.clear())
    }

    /// Whether requests that no rule matches are refused (UNAVAILABLE); they are served by default.
    pub fn only_routes(self, only: bool) -> Self {
        self.edit(move |server| server.only_routes = only)
    }

    /// Whether the rules are part of the listener; a resource of their own by default.
    pub fn inline_routes(self, inline: bool) -> Self {
        self.edit(move |server| server.inline_routes = inline)
    }

    /// Pushes the server's resources as they are now.
    pub fn apply(self) -> Push {
        let (address, edits) = (self.address, self.edits);
        self.control_plane.edit_server(address, |server| {
            for edit in edits {
                edit(server);
            }
        })
    }

    /// Removes the server's resources.
    pub fn remove(self) -> Push {
        self.control_plane.remove_server(self.address)
    }

    /// The name of the filter that [`rbac`](Self::rbac) and [`Route::rbac`] speak of.
    pub const RBAC: &'static str = "rbac";

    fn filter(self, name: String, config: Any) -> Self {
        self.edit(
            |server| match server.filters.iter_mut().find(|f| f.0 == name) {
                Some((_, old)) => *old = config,
                None => server.filters.push((name, config)),
            },
        )
    }

    fn edit(mut self, edit: impl FnOnce(&mut ServerState) + Send + 'static) -> Self {
        self.edits.push(Box::new(edit));
        self
    }
}

impl fmt::Debug for ServerListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerListener")
            .field("address", &self.address)
            .field("edits", &self.edits.len())
            .finish_non_exhaustive()
    }
}

// === impl ConnectionChain ===

impl ConnectionChain {
    /// All connections, in plaintext.
    pub fn new() -> Self {
        Self::default()
    }

    /// Its name; empty by default.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// ... to this range of the server's addresses: its first address, and how many bits of it are
    /// fixed. Several add up, as below.
    pub fn destination(mut self, address: impl Into<IpAddr>, prefix: u32) -> Self {
        self.destinations.push((address.into(), prefix));
        self
    }

    /// ... from this host, or from another one.
    pub fn source_type(mut self, source: SourceType) -> Self {
        self.source_type = source;
        self
    }

    /// ... from this range of addresses.
    pub fn source(mut self, address: impl Into<IpAddr>, prefix: u32) -> Self {
        self.sources.push((address.into(), prefix));
        self
    }

    /// ... from this port.
    pub fn source_port(mut self, port: u16) -> Self {
        self.source_ports.push(port);
        self
    }

    /// They are under this TLS.
    pub fn tls(mut self, tls: ListenerTls) -> Self {
        self.tls = Some(tls);
        self
    }
}
