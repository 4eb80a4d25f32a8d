//! A server as xDS resources.

use std::net::{IpAddr, SocketAddr};

use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::{Address as WireAddress, CidrRange, address},
            listener::v3::{
                Filter, FilterChain, FilterChainMatch, Listener, filter::ConfigType,
                filter_chain_match::ConnectionSourceType,
            },
            route::v3::{
                NonForwardingAction, Route as WireRoute, RouteConfiguration, VirtualHost,
                route::Action,
            },
        },
        extensions::filters::network::http_connection_manager::v3::{
            HttpConnectionManager,
            http_connection_manager::{RouteSpecifier, UpgradeConfig},
        },
    },
    google::protobuf::{Any, BoolValue},
};

use super::{
    connection_manager, everything, filter, http, pack, rbac::cidr, rds, route_match, route_name,
    socket_address, tls,
};
use crate::{
    config::{Kind, SourceType},
    testing::{
        server::{ConnectionChain, ServerState},
        store::Rendered,
    },
};

/// The name of the listener of a server at this address.
pub fn server_listener_name(address: SocketAddr) -> String {
    SERVER_LISTENER_TEMPLATE.replace("%s", &address.to_string())
}

/// What the bootstrap says of the name of a server's listener.
pub(in crate::testing) const SERVER_LISTENER_TEMPLATE: &str = "server/%s";

/// All resources of a server with their names.
pub(in crate::testing) fn server(name: &str, address: SocketAddr, state: &ServerState) -> Rendered {
    let routes = route_configuration(name, state);
    let source = if state.inline_routes {
        RouteSpecifier::RouteConfig(routes.clone())
    } else {
        RouteSpecifier::Rds(rds(name))
    };
    let filters = state.filters.iter();
    let mut manager = connection_manager(
        filters.map(|(name, config)| filter(name, config.clone())),
        source,
    );
    let upgrades = state.upgrades.iter().map(|name| UpgradeConfig {
        upgrade_type: name.clone(),
        enabled: Some(BoolValue { value: true }),
        ..UpgradeConfig::default()
    });
    manager.upgrade_configs = upgrades.collect();
    let listener = listener(name, address, state, &manager);
    let mut resources = vec![(Kind::Listener, name.to_owned(), pack(&listener))];
    if !state.inline_routes {
        resources.push((Kind::Route, route_name(name), pack(&routes)));
    }
    resources
}

fn listener(
    name: &str,
    address: SocketAddr,
    state: &ServerState,
    manager: &HttpConnectionManager,
) -> Listener {
    let chain = |chain: &ConnectionChain| filter_chain(chain, pack(manager));
    Listener {
        name: name.to_owned(),
        address: Some(WireAddress {
            address: Some(address::Address::SocketAddress(socket_address(&address))),
        }),
        filter_chains: match &state.chains {
            Some(chains) => chains.iter().map(chain).collect(),
            None => vec![chain(&ConnectionChain::new())],
        },
        default_filter_chain: state.default_chain.as_ref().map(chain),
        ..Listener::default()
    }
}

fn filter_chain(chain: &ConnectionChain, manager: Any) -> FilterChain {
    let ranges = |ranges: &[(IpAddr, u32)]| -> Vec<CidrRange> {
        let ranges = ranges.iter();
        ranges
            .map(|&(address, prefix)| cidr(address, prefix))
            .collect()
    };
    let source_type = match chain.source_type {
        SourceType::Any => ConnectionSourceType::Any,
        SourceType::SameIpOrLoopback => ConnectionSourceType::SameIpOrLoopback,
        SourceType::External => ConnectionSourceType::External,
    };
    FilterChain {
        name: chain.name.clone(),
        filter_chain_match: Some(FilterChainMatch {
            prefix_ranges: ranges(&chain.destinations),
            source_type: source_type.into(),
            source_prefix_ranges: ranges(&chain.sources),
            source_ports: chain.source_ports.iter().map(|&port| port.into()).collect(),
            ..FilterChainMatch::default()
        }),
        filters: vec![Filter {
            name: "envoy.filters.network.http_connection_manager".to_owned(),
            config_type: Some(ConfigType::TypedConfig(manager)),
        }],
        transport_socket: chain.tls.as_ref().map(tls::downstream),
        ..FilterChain::default()
    }
}

fn route_configuration(name: &str, state: &ServerState) -> RouteConfiguration {
    let served = || Some(Action::NonForwardingAction(NonForwardingAction {}));
    let mut routes: Vec<_> = state
        .routes
        .iter()
        .map(|rule| {
            let mut route = WireRoute {
                r#match: Some(route_match(rule)),
                action: served(),
                typed_per_filter_config: rule.overrides.clone().into_iter().collect(),
                ..WireRoute::default()
            };
            http::apply(&rule.http, &mut route);
            route
        })
        .collect();
    if !state.only_routes {
        routes.push(WireRoute {
            r#match: Some(everything()),
            action: served(),
            ..WireRoute::default()
        });
    }
    let domains = if state.domains.is_empty() {
        vec!["*".to_owned()]
    } else {
        state.domains.clone()
    };
    RouteConfiguration {
        name: route_name(name),
        virtual_hosts: vec![VirtualHost {
            name: name.to_owned(),
            domains,
            routes,
            ..VirtualHost::default()
        }],
        ..RouteConfiguration::default()
    }
}
