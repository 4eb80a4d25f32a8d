//! Resources by hand, where the words of the control plane's builders do not reach.

use std::net::SocketAddr;

use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{Cluster, cluster},
            core::v3::{
                Address, AggregatedConfigSource, ApiVersion, ConfigSource, Locality, SocketAddress,
                address, config_source::ConfigSourceSpecifier, socket_address::PortSpecifier,
            },
            endpoint::v3::{
                ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
                lb_endpoint::HostIdentifier,
            },
            listener::v3::{ApiListener, Filter, FilterChain, Listener, filter},
            route::v3::{
                NonForwardingAction, Route, RouteAction, RouteConfiguration, RouteMatch,
                VirtualHost, route::Action, route_action::ClusterSpecifier,
                route_match::PathSpecifier,
            },
        },
        extensions::filters::{
            http::router::v3::Router,
            network::http_connection_manager::v3::{
                HttpConnectionManager, HttpFilter, Rds, http_connection_manager::RouteSpecifier,
                http_filter::ConfigType,
            },
        },
    },
    google::protobuf::{Any, UInt32Value},
};
use prost::{Message, Name};

/// A message in its envelope.
pub fn pack<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}

/// A listener that brings its routes.
pub fn inline_listener(name: &str, routes: RouteConfiguration) -> Listener {
    listener(name, RouteSpecifier::RouteConfig(routes))
}

/// A listener that names its routes.
pub fn rds_listener(name: &str, routes: &str) -> Listener {
    listener(name, rds(routes))
}

/// A server's listener at this address, whose requests are all refused: it has no route.
pub fn socket_listener(name: &str, at: SocketAddr) -> Listener {
    let routes = RouteConfiguration::default();
    let manager = pack(&manager(RouteSpecifier::RouteConfig(routes)));
    let filter = Filter {
        name: "http".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(manager)),
    };
    Listener {
        name: name.to_owned(),
        address: Some(address(at)),
        default_filter_chain: Some(FilterChain {
            filters: vec![filter],
            ..FilterChain::default()
        }),
        ..Listener::default()
    }
}

/// A server's listener at this address, with these chains.
pub fn server_listener(name: &str, at: SocketAddr, chains: Vec<FilterChain>) -> Listener {
    Listener {
        name: name.to_owned(),
        address: Some(address(at)),
        filter_chains: chains,
        ..Listener::default()
    }
}

/// A server's chain for all connections: requests pass the filters, and follow the routes.
pub fn server_chain(filters: Vec<HttpFilter>, routes: RouteSpecifier) -> FilterChain {
    let mut manager = manager(routes);
    manager.http_filters.splice(..0, filters);
    let filter = Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(pack(&manager))),
    };
    FilterChain {
        filters: vec![filter],
        ..FilterChain::default()
    }
}

/// An HTTP filter of this name and configuration.
pub fn http_filter<M: Message + Name>(name: &str, config: &M) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(pack(config))),
        ..HttpFilter::default()
    }
}

/// The routes of this name, from the same stream.
pub fn rds(routes: &str) -> RouteSpecifier {
    RouteSpecifier::Rds(Rds {
        config_source: Some(ads()),
        route_config_name: routes.to_owned(),
    })
}

/// A route of a server: requests of paths that begin with `prefix` are served.
pub fn served(prefix: &str) -> Route {
    route(prefix, Action::NonForwardingAction(NonForwardingAction {}))
}

fn listener(name: &str, routes: RouteSpecifier) -> Listener {
    Listener {
        name: name.to_owned(),
        api_listener: Some(ApiListener {
            api_listener: Some(pack(&manager(routes))),
        }),
        ..Listener::default()
    }
}

fn manager(routes: RouteSpecifier) -> HttpConnectionManager {
    HttpConnectionManager {
        http_filters: vec![HttpFilter {
            name: "envoy.filters.http.router".to_owned(),
            config_type: Some(ConfigType::TypedConfig(pack(&Router::default()))),
            ..HttpFilter::default()
        }],
        route_specifier: Some(routes),
        ..HttpConnectionManager::default()
    }
}

/// Routes of one virtual host, which is for `domain`.
pub fn routes(name: &str, domain: &str, routes: Vec<Route>) -> RouteConfiguration {
    RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: vec![VirtualHost {
            name: "host".to_owned(),
            domains: vec![domain.to_owned()],
            routes,
            ..VirtualHost::default()
        }],
        ..RouteConfiguration::default()
    }
}

/// A route of paths that begin with `prefix`.
pub fn route(prefix: &str, action: Action) -> Route {
    Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix(prefix.to_owned())),
            ..RouteMatch::default()
        }),
        action: Some(action),
        ..Route::default()
    }
}

/// A route of all paths to one cluster.
pub fn route_to(cluster: &str) -> Route {
    route("", forward(ClusterSpecifier::Cluster(cluster.to_owned())))
}

/// The action of a route to clusters.
pub fn forward(clusters: ClusterSpecifier) -> Action {
    Action::Route(RouteAction {
        cluster_specifier: Some(clusters),
        ..RouteAction::default()
    })
}

/// A cluster whose endpoints have the name `service`.
pub fn cluster(name: &str, service: &str) -> Cluster {
    Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(
            cluster::DiscoveryType::Eds.into(),
        )),
        eds_cluster_config: Some(cluster::EdsClusterConfig {
            eds_config: Some(ads()),
            service_name: service.to_owned(),
        }),
        ..Cluster::default()
    }
}

/// Endpoints of one locality.
pub fn endpoints(name: &str, addresses: &[SocketAddr]) -> ClusterLoadAssignment {
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: vec![locality("a", 0, addresses)],
        ..ClusterLoadAssignment::default()
    }
}

/// The locality of a zone, with a weight of 1.
pub fn locality(zone: &str, priority: u32, addresses: &[SocketAddr]) -> LocalityLbEndpoints {
    LocalityLbEndpoints {
        locality: Some(Locality {
            zone: zone.to_owned(),
            ..Locality::default()
        }),
        lb_endpoints: addresses.iter().copied().map(endpoint).collect(),
        load_balancing_weight: Some(uint32(1)),
        priority,
        ..LocalityLbEndpoints::default()
    }
}

/// An endpoint.
pub fn endpoint(socket: SocketAddr) -> LbEndpoint {
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: Some(address(socket)),
            ..Endpoint::default()
        })),
        ..LbEndpoint::default()
    }
}

/// A socket's address.
pub fn address(socket: SocketAddr) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: socket.ip().to_string(),
            port_specifier: Some(PortSpecifier::PortValue(socket.port().into())),
            ..SocketAddress::default()
        })),
    }
}

/// An optional number.
pub fn uint32(value: u32) -> UInt32Value {
    UInt32Value { value }
}

/// "From the same stream."
pub fn ads() -> ConfigSource {
    ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        resource_api_version: ApiVersion::V3.into(),
        ..ConfigSource::default()
    }
}
