#![expect(deprecated, reason = "deprecated fields are tested too")]

mod reported;

use envoy_types::pb::envoy::{
    config::{
        core::v3::{EnvoyInternalAddress, Locality as WireLocality, Metadata, Pipe},
        endpoint::v3::{
            LedsClusterLocalityConfig,
            cluster_load_assignment::Policy,
            endpoint::{AdditionalAddress, HealthCheckConfig},
            locality_lb_endpoints::LbEndpointList,
        },
    },
    r#type::v3::{FractionalPercent, fractional_percent::DenominatorType},
};

use super::{super::test_support::*, *};
use crate::config::{Fraction, Kind, Resource};

type Assignment = ClusterLoadAssignment;

fn socket(ip: &str, port: u32) -> WireAddress {
    WireAddress {
        address: Some(AddressKind::SocketAddress(SocketAddress {
            address: ip.into(),
            port_specifier: Some(PortSpecifier::PortValue(port)),
            ..Default::default()
        })),
    }
}

fn at(address: WireAddress) -> LbEndpoint {
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: Some(address),
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn locality_of(zone: &str, lb_endpoints: Vec<LbEndpoint>) -> LocalityLbEndpoints {
    LocalityLbEndpoints {
        locality: Some(WireLocality {
            zone: zone.into(),
            ..Default::default()
        }),
        lb_endpoints,
        load_balancing_weight: u32_value(1),
        ..Default::default()
    }
}

/// Zones `a` (two endpoints) and `b` (one), all of priority 0.
fn assignment() -> Assignment {
    Assignment {
        cluster_name: "e".into(),
        endpoints: vec![
            locality_of("a", vec![at(socket("10.0.0.1", 80)), at(socket("::1", 80))]),
            locality_of("b", vec![at(socket("10.0.0.2", 80))]),
        ],
        ..Default::default()
    }
}

fn endpoint_of(wire: &mut Assignment) -> &mut Endpoint {
    match &mut wire.endpoints[0].lb_endpoints[0].host_identifier {
        Some(HostIdentifier::Endpoint(endpoint)) => endpoint,
        other => panic!("{other:?}"),
    }
}

fn socket_of(wire: &mut Assignment) -> &mut SocketAddress {
    match &mut endpoint_of(wire).address.as_mut().unwrap().address {
        Some(AddressKind::SocketAddress(address)) => address,
        other => panic!("{other:?}"),
    }
}

fn edited(edit: impl FnOnce(&mut Assignment)) -> Assignment {
    let mut wire = assignment();
    edit(&mut wire);
    wire
}

fn accepted(wire: &Assignment) -> Endpoints {
    match decode_resource(Kind::Endpoints, wire).unwrap().value {
        Resource::Endpoints(endpoints) => Arc::unwrap_or_clone(endpoints),
        other => panic!("{other:?}"),
    }
}

fn drops(category: &str, percentage: Option<(u32, i32)>) -> Option<Policy> {
    Some(Policy {
        drop_overloads: vec![DropOverload {
            category: category.into(),
            drop_percentage: percentage.map(|(numerator, denominator)| FractionalPercent {
                numerator,
                denominator,
            }),
        }],
        ..Default::default()
    })
}

#[test]
fn everything_that_is_in_force() {
    let wire = edited(|wire| {
        let locality = &mut wire.endpoints[0];
        locality.priority = 1;
        locality.load_balancing_weight = u32_value(7);
        locality.locality.as_mut().unwrap().region = "r".into();
        locality.lb_endpoints[0].load_balancing_weight = u32_value(9);
        locality.lb_endpoints[0].health_status = HealthStatus::Healthy as i32;
        endpoint_of(wire).hostname = "host".into();
        wire.policy = drops("lb", Some((3, DenominatorType::TenThousand as i32)));
    });
    let expected = Endpoints {
        name: "e".into(),
        localities: vec![
            Locality {
                id: Arc::new(LocalityId {
                    region: "r".into(),
                    zone: "a".into(),
                    sub_zone: String::new(),
                }),
                priority: 1,
                weight: 7,
                endpoints: vec![
                    EndpointConfig {
                        more: Box::default(),
                        address: Address::Socket("10.0.0.1:80".parse().unwrap()),
                        weight: 9,
                        health: Health::Healthy,
                        hostname: Some("host".into()),
                        workload: None,
                    },
                    EndpointConfig {
                        more: Box::default(),
                        address: Address::Socket("[::1]:80".parse().unwrap()),
                        weight: 1,
                        health: Health::Unknown,
                        hostname: None,
                        workload: None,
                    },
                ],
            },
            Locality {
                id: Arc::new(LocalityId {
                    zone: "b".into(),
                    ..Default::default()
                }),
                priority: 0,
                weight: 1,
                endpoints: vec![EndpointConfig {
                    more: Box::default(),
                    address: Address::Socket("10.0.0.2:80".parse().unwrap()),
                    weight: 1,
                    health: Health::Unknown,
                    hostname: None,
                    workload: None,
                }],
            },
        ],
        drops: vec![Drop {
            category: "lb".into(),
            share: Fraction::per_million(300),
        }],
        overprovisioning_factor: 140,
    };
    assert_eq!(accepted(&wire), expected);
    assert!(
        decode_resource(Kind::Endpoints, &wire)
            .unwrap()
            .findings
            .is_empty()
    );
}

#[test]
fn no_endpoint_is_valid() {
    let none = accepted(&edited(|wire| wire.endpoints.clear()));
    assert!(none.localities.is_empty());
    let empty = accepted(&edited(|wire| wire.endpoints[1].lb_endpoints.clear()));
    assert!(empty.localities[1].endpoints.is_empty());
}

#[test]
fn endpoints_of_every_health_are_kept() {
    for (status, health) in [
        (0, Health::Unknown),
        (1, Health::Healthy),
        (2, Health::Unhealthy),
        (3, Health::Draining),
        (4, Health::Unhealthy),
        (5, Health::Degraded),
        (99, Health::Unhealthy),
    ] {
        let wire = edited(|wire| wire.endpoints[1].lb_endpoints[0].health_status = status);
        let endpoints = &accepted(&wire).localities[1].endpoints;
        assert_eq!(endpoints[0].health, health, "{status}");
    }
}

#[test]
fn overprovisioning() {
    for factor in [1, 100, u32::MAX] {
        let wire = edited(|wire| {
            wire.policy = Some(Policy {
                overprovisioning_factor: u32_value(factor),
                ..Default::default()
            });
        });
        assert_eq!(accepted(&wire).overprovisioning_factor, factor);
    }
    let unset = edited(|wire| wire.policy = Some(Policy::default()));
    assert_eq!(accepted(&unset).overprovisioning_factor, 140);
}

#[test]
fn localities_without_weight_are_skipped_and_reported() {
    for weight in [None, u32_value(0)] {
        let wire = edited(|wire| {
            // Neither its priority nor what is wrong with it counts.
            wire.endpoints[0].load_balancing_weight = weight;
            wire.endpoints[0].priority = 7;
            socket_of(wire).address = "not an address".into();
        });
        let decoded = decode_resource(Kind::Endpoints, &wire).unwrap();
        assert_eq!(
            lines(&decoded.findings),
            ["endpoints[0] - a locality whose weight is 0 or not set gets no traffic (gRFC A27)"]
        );
        let endpoints = accepted(&wire);
        assert_eq!(endpoints.localities.len(), 1);
        assert_eq!(endpoints.localities[0].id.zone, "b");
    }
    // What remains after skipping has to count from 0.
    let gap = edited(|wire| {
        wire.endpoints[0].load_balancing_weight = None;
        wire.endpoints[1].priority = 1;
    });
    assert_eq!(
        decode_resource(Kind::Endpoints, &gap)
            .unwrap_err()
            .to_string(),
        "endpoints: priority 0 is missing: priorities count from 0 without a gap"
    );
}

#[test]
fn shares_of_drops() {
    use DenominatorType::*;
    for (numerator, denominator, parts) in [
        (50, Hundred, 500_000),
        (1, TenThousand, 100),
        (1, Million, 1),
        (0, Hundred, 0),
        (101, Hundred, 1_000_000),
        (u32::MAX, Hundred, 1_000_000),
    ] {
        let wire = edited(|wire| wire.policy = drops("d", Some((numerator, denominator as i32))));
        assert_eq!(accepted(&wire).drops[0].share.parts(), parts);
    }
}

#[test]
fn unix_sockets_and_odd_ports() {
    let pipe = WireAddress {
        address: Some(AddressKind::Pipe(Pipe {
            path: "/run/s".into(),
            mode: 0,
        })),
    };
    let wire = edited(|wire| {
        endpoint_of(wire).address = Some(pipe);
        wire.endpoints[0].lb_endpoints[1] = at(socket("10.0.0.1", 0));
        wire.endpoints[1].lb_endpoints[0] = at(socket("10.0.0.1", 65535));
    });
    let endpoints = accepted(&wire);
    let addresses = endpoints
        .localities
        .iter()
        .flat_map(|locality| &locality.endpoints)
        .map(|endpoint| endpoint.address.to_string());
    assert_eq!(
        addresses.collect::<Vec<_>>(),
        ["unix:/run/s", "10.0.0.1:0", "10.0.0.1:65535"]
    );
}

#[test]
fn the_same_locality_in_two_priorities_is_fine() {
    let wire = edited(|wire| {
        wire.endpoints[1].locality = wire.endpoints[0].locality.clone();
        wire.endpoints[1].priority = 1;
    });
    assert_eq!(accepted(&wire).localities.len(), 2);
}

#[test]
fn weights_may_add_up_to_the_limit() {
    let wire = edited(|wire| {
        wire.endpoints[0].load_balancing_weight = u32_value(u32::MAX - 1);
        wire.endpoints[0].lb_endpoints[0].load_balancing_weight = u32_value(u32::MAX - 1);
    });
    assert_eq!(accepted(&wire).localities[0].weight, u32::MAX - 1);
}
