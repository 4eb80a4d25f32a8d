//! The endpoints of a service's version.

use std::{collections::BTreeMap, net::SocketAddr};

use envoy_types::pb::envoy::config::{
    core::v3::{
        Address as WireAddress, HealthStatus, Locality, Metadata, Pipe, SocketAddress, address,
        socket_address::PortSpecifier,
    },
    endpoint::v3::{
        ClusterLoadAssignment, Endpoint as WireEndpoint, LbEndpoint, LocalityLbEndpoints,
        cluster_load_assignment::{Policy, policy::DropOverload},
        endpoint::AdditionalAddress,
        lb_endpoint::HostIdentifier,
    },
};
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};

use super::{percent, uint32};
use crate::{
    config::{Address, LocalityId},
    testing::{
        parts::EndpointHealth,
        service::{EndpointState, Presence, VersionState},
    },
};

pub(super) fn load_assignment(name: &str, version: &VersionState) -> ClusterLoadAssignment {
    // A locality keeps its place with no endpoint in it: its priority must not leave a gap.
    let mut places: BTreeMap<(u32, &LocalityId), Vec<LbEndpoint>> = BTreeMap::new();
    for state in &version.endpoints {
        let place = (state.endpoint.priority, &state.endpoint.locality);
        let endpoints = places.entry(place).or_default();
        if state.presence != Presence::Removed {
            endpoints.push(lb_endpoint(state));
        }
    }
    let drop_overloads: Vec<_> = version
        .drops
        .iter()
        .map(|(category, share)| DropOverload {
            category: category.clone(),
            drop_percentage: Some(percent(*share)),
        })
        .collect();
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: places
            .into_iter()
            .map(|((priority, locality), lb_endpoints)| LocalityLbEndpoints {
                locality: Some(Locality {
                    region: locality.region.clone(),
                    zone: locality.zone.clone(),
                    sub_zone: locality.sub_zone.clone(),
                }),
                lb_endpoints,
                load_balancing_weight: Some(uint32(
                    version.locality_weights.get(locality).copied().unwrap_or(1),
                )),
                priority,
                ..LocalityLbEndpoints::default()
            })
            .collect(),
        policy: (!drop_overloads.is_empty()).then(|| Policy {
            drop_overloads,
            ..Policy::default()
        }),
        ..ClusterLoadAssignment::default()
    }
}

fn lb_endpoint(state: &EndpointState) -> LbEndpoint {
    let endpoint = &state.endpoint;
    let health = match (state.presence, endpoint.health) {
        (Presence::Draining, _) | (_, EndpointHealth::Draining) => HealthStatus::Draining,
        (_, EndpointHealth::Degraded) => HealthStatus::Degraded,
        (_, EndpointHealth::Healthy) => HealthStatus::Healthy,
        (_, EndpointHealth::Timeout) => HealthStatus::Timeout,
        (_, EndpointHealth::Unhealthy) => HealthStatus::Unhealthy,
        (_, EndpointHealth::Unknown) => HealthStatus::Unknown,
    };
    LbEndpoint {
        health_status: health.into(),
        load_balancing_weight: endpoint.weight.map(uint32),
        host_identifier: Some(HostIdentifier::Endpoint(WireEndpoint {
            address: Some(wire_address(&endpoint.address)),
            additional_addresses: endpoint
                .more
                .iter()
                .map(|address| AdditionalAddress {
                    address: Some(wire_address(address)),
                })
                .collect(),
            hostname: endpoint.hostname.clone().unwrap_or_default(),
            ..WireEndpoint::default()
        })),
        metadata: endpoint.workload.as_deref().map(workload),
    }
}

/// What Istio puts beside an endpoint.
fn workload(workload: &str) -> Metadata {
    let kind = Some(Kind::StringValue(workload.to_owned()));
    let fields = [("workload".to_owned(), Value { kind })].into();
    Metadata {
        filter_metadata: [("istio".to_owned(), Struct { fields })].into(),
        ..Metadata::default()
    }
}

fn wire_address(address: &Address) -> WireAddress {
    let address = match address {
        Address::Socket(socket) => address::Address::SocketAddress(socket_address(socket)),
        Address::Name(name, port) => address::Address::SocketAddress(SocketAddress {
            address: (**name).to_owned(),
            port_specifier: Some(PortSpecifier::PortValue((*port).into())),
            ..SocketAddress::default()
        }),
        Address::Unix(path) => address::Address::Pipe(Pipe {
            path: path.to_string_lossy().into_owned(),
            ..Pipe::default()
        }),
    };
    WireAddress {
        address: Some(address),
    }
}

pub(super) fn socket_address(socket: &SocketAddr) -> SocketAddress {
    SocketAddress {
        address: socket.ip().to_string(),
        port_specifier: Some(PortSpecifier::PortValue(socket.port().into())),
        ..SocketAddress::default()
    }
}
