//! What is refused, and what is told of the rest.

use super::*;

#[test]
fn refusals() {
    type Case = (fn(&mut Assignment), &'static str);
    const CASES: &[Case] = &[
        (
            |wire| wire.cluster_name.clear(),
            "cluster_name: must not be empty",
        ),
        (
            |wire| wire.endpoints[1].locality = None,
            "endpoints[1].locality: must be set",
        ),
        (
            |wire| wire.endpoints[1].load_balancing_weight = u32_value(u32::MAX),
            "endpoints[1].load_balancing_weight: the weights of the localities of priority 0 add \
             up to more than 4294967295",
        ),
        (
            |wire| wire.endpoints[1].priority = 2,
            "endpoints: priority 1 is missing: priorities count from 0 without a gap",
        ),
        (
            |wire| {
                wire.endpoints
                    .iter_mut()
                    .for_each(|locality| locality.priority = u32::MAX)
            },
            "endpoints: priority 0 is missing: priorities count from 0 without a gap",
        ),
        (
            |wire| wire.endpoints[1].locality = wire.endpoints[0].locality.clone(),
            "endpoints[1].locality: {region=\"\", zone=\"a\", sub_zone=\"\"} is there twice in \
             priority 0",
        ),
        (
            |wire| {
                wire.endpoints[1].lb_config =
                    Some(LbConfig::LoadBalancerEndpoints(LbEndpointList::default()));
            },
            "endpoints[1].load_balancer_endpoints: not supported: use lb_endpoints",
        ),
        (
            |wire| {
                wire.endpoints[1].lb_config = Some(LbConfig::LedsClusterLocalityConfig(
                    LedsClusterLocalityConfig::default(),
                ));
            },
            "endpoints[1].leds_cluster_locality_config: not supported: use lb_endpoints",
        ),
        (
            |wire| wire.endpoints[0].lb_endpoints[1].load_balancing_weight = u32_value(0),
            "endpoints[0].lb_endpoints[1].load_balancing_weight: must not be 0",
        ),
        (
            |wire| wire.endpoints[0].lb_endpoints[1].load_balancing_weight = u32_value(u32::MAX),
            "endpoints[0].lb_endpoints[1].load_balancing_weight: the weights of the endpoints of \
             this locality add up to more than 4294967295",
        ),
        (
            |wire| wire.endpoints[0].lb_endpoints[1].host_identifier = None,
            "endpoints[0].lb_endpoints[1].endpoint: must be set",
        ),
        (
            |wire| {
                wire.endpoints[0].lb_endpoints[1].host_identifier =
                    Some(HostIdentifier::EndpointName("x".into()));
            },
            "endpoints[0].lb_endpoints[1].endpoint_name: not supported: use endpoint",
        ),
        (
            |wire| endpoint_of(wire).address = None,
            "endpoints[0].lb_endpoints[0].endpoint.address: must be set",
        ),
        (
            |wire| {
                endpoint_of(wire).address = Some(WireAddress {
                    address: Some(AddressKind::EnvoyInternalAddress(
                        EnvoyInternalAddress::default(),
                    )),
                });
            },
            "endpoints[0].lb_endpoints[0].endpoint.address.envoy_internal_address: not supported",
        ),
        (
            |wire| {
                endpoint_of(wire).address = Some(WireAddress {
                    address: Some(AddressKind::Pipe(Pipe {
                        path: "@abstract".into(),
                        mode: 0,
                    })),
                });
            },
            "endpoints[0].lb_endpoints[0].endpoint.address.pipe.path: must be the path of a \
             socket in the file system",
        ),
        (
            |wire| socket_of(wire).address = "example.com".into(),
            "endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address: \
             \"example.com\" is not an IP address",
        ),
        (
            |wire| socket_of(wire).port_specifier = Some(PortSpecifier::PortValue(65536)),
            "endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value: 65536 is \
             not a port: at most 65535",
        ),
        (
            |wire| socket_of(wire).port_specifier = Some(PortSpecifier::NamedPort("http".into())),
            "endpoints[0].lb_endpoints[0].endpoint.address.socket_address.named_port: not \
             supported: use port_value",
        ),
        (
            |wire| socket_of(wire).port_specifier = None,
            "endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value: must be set",
        ),
        (
            |wire| socket_of(wire).protocol = Protocol::Udp as i32,
            "endpoints[0].lb_endpoints[0].endpoint.address.socket_address.protocol: must be TCP",
        ),
        (
            |wire| wire.endpoints[1].lb_endpoints[0] = at(socket("10.0.0.1", 80)),
            "endpoints[1].lb_endpoints[0].endpoint.address: 10.0.0.1:80 is there twice",
        ),
        (
            |wire| {
                // An endpoint that takes no calls has an address like any other.
                wire.endpoints[0].lb_endpoints[0].health_status = HealthStatus::Draining as i32;
                wire.endpoints[1].lb_endpoints[0] = at(socket("10.0.0.1", 80));
            },
            "endpoints[1].lb_endpoints[0].endpoint.address: 10.0.0.1:80 is there twice",
        ),
        (
            |wire| {
                endpoint_of(wire).additional_addresses = vec![AdditionalAddress {
                    address: Some(socket("::1", 80)),
                }];
            },
            "endpoints[0].lb_endpoints[1].endpoint.address: [::1]:80 is there twice",
        ),
        (
            |wire| {
                endpoint_of(wire).additional_addresses = vec![AdditionalAddress {
                    address: Some(socket("10.0.0.1", 80)),
                }];
            },
            "endpoints[0].lb_endpoints[0].endpoint.additional_addresses[0].address: 10.0.0.1:80 \
             is there twice",
        ),
        (
            |wire| wire.policy = drops("", Some((1, 0))),
            "policy.drop_overloads[0].category: must not be empty",
        ),
        (
            |wire| wire.policy = drops("d", None),
            "policy.drop_overloads[0].drop_percentage: must be set",
        ),
        (
            |wire| wire.policy = drops("d", Some((1, 7))),
            "policy.drop_overloads[0].drop_percentage.denominator: unknown denominator 7",
        ),
        (
            |wire| {
                wire.policy = Some(Policy {
                    overprovisioning_factor: u32_value(0),
                    ..Default::default()
                });
            },
            "policy.overprovisioning_factor: must not be 0",
        ),
    ];
    for (edit, expected) in CASES {
        let error = decode_resource(Kind::Endpoints, &edited(edit)).expect_err(expected);
        assert_eq!(error.to_string(), *expected);
    }
}

#[test]
fn findings() {
    let wire = edited(|wire| {
        let endpoint = endpoint_of(wire);
        endpoint.health_check_config = Some(HealthCheckConfig::default());
        endpoint.additional_addresses = vec![
            AdditionalAddress {
                address: Some(socket("10.1.0.1", 80)),
            },
            AdditionalAddress {
                address: Some(socket("10.1.0.2", 80)),
            },
        ];
        wire.endpoints[1].lb_endpoints[0].metadata = Some(Metadata::default());
        wire.endpoints[1].proximity = u32_value(3);
        wire.named_endpoints.insert("x".into(), Endpoint::default());
        wire.policy = Some(Policy {
            overprovisioning_factor: u32_value(140),
            endpoint_stale_after: seconds(1),
            ..Default::default()
        });
    });
    let first = "endpoints[0].lb_endpoints[0].endpoint";
    assert_eq!(
        lines(&decode_resource(Kind::Endpoints, &wire).unwrap().findings),
        [
            format!("{first}.health_check_config - there are no active health checks"),
            "endpoints[1].lb_endpoints[0].metadata ~ what Istio says in it of workloads is told in metrics".to_owned(),
            "endpoints[1].proximity - not in force yet".to_owned(),
            "policy.overprovisioning_factor h gRPC ignores it (gRFC A27, A56)".to_owned(),
            "policy.endpoint_stale_after - endpoints stay until they are replaced".to_owned(),
            "named_endpoints - endpoints are where localities list them".to_owned(),
        ]
    );
}

#[test]
fn many_endpoints_and_few_findings() {
    let endpoints = (0..10_000u32).map(|n| LbEndpoint {
        metadata: Some(Metadata::default()),
        ..at(socket(&format!("10.1.{}.{}", n / 256, n % 256), 80))
    });
    let wire = edited(|wire| {
        wire.endpoints[0].lb_endpoints = endpoints.collect();
        wire.policy = Some(Policy {
            weighted_priority_health: true,
            ..Default::default()
        });
    });
    let decoded = decode_resource(Kind::Endpoints, &wire).unwrap();
    assert_eq!(accepted(&wire).localities[0].endpoints.len(), 10_000);
    let findings = lines(&decoded.findings);
    assert_eq!(findings.len(), 10);
    assert_eq!(
        findings[7..],
        [
            "endpoints[0].lb_endpoints[7].metadata ~ what Istio says in it of workloads is told in metrics",
            "policy.weighted_priority_health - each endpoint counts as one; gRPC counts none (gRFC \
             A56)",
            " - 9992 more findings are left out: 128 are listed, 8 of each field",
        ]
    );
}
