#![expect(deprecated, reason = "deprecated fields are tested too")]

use std::{net::SocketAddr, sync::Arc};

use envoy_types::pb::{
    envoy::config::{
        cluster::v3::{CircuitBreakers, cluster::LbPolicy as Wanted},
        core::v3::{
            Address as WireAddress, Pipe, SocketAddress, TransportSocket, address,
            socket_address::PortSpecifier,
        },
        endpoint::v3::{
            ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
            endpoint::AdditionalAddress, lb_endpoint::HostIdentifier,
        },
    },
    google::protobuf::UInt32Value,
};

use super::{super::test_support::*, *};
use crate::config::{Address, EndpointConfig, Kind, Resource};

fn wire_address(host: &str, port: u32) -> WireAddress {
    WireAddress {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: host.into(),
            port_specifier: Some(PortSpecifier::PortValue(port)),
            ..Default::default()
        })),
    }
}

fn endpoint(host: &str, port: u32) -> LbEndpoint {
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: Some(wire_address(host, port)),
            ..Default::default()
        })),
        ..Default::default()
    }
}

/// A cluster of this type whose one locality has these endpoints, and nothing that it need not have.
fn cluster(kind: DiscoveryType, endpoints: Vec<LbEndpoint>) -> Wire {
    Wire {
        name: "c".into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(kind as i32)),
        load_assignment: Some(ClusterLoadAssignment {
            endpoints: vec![LocalityLbEndpoints {
                lb_endpoints: endpoints,
                ..Default::default()
            }],
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn custom<M: prost::Message + Name>(config: &M, wire: Wire) -> Wire {
    Wire {
        cluster_discovery_type: Some(ClusterDiscoveryType::ClusterType(CustomClusterType {
            name: "custom".into(),
            typed_config: Some(any(config)),
        })),
        ..wire
    }
}

fn aggregate_of(names: &[&str]) -> Wire {
    let config = ClusterConfig {
        clusters: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    let wire = Wire {
        name: "c".into(),
        ..Default::default()
    };
    custom(&config, wire)
}

fn accepted(wire: &Wire) -> (Discovery, Vec<String>) {
    let decoded = decode_resource(Kind::Cluster, wire).unwrap();
    match decoded.value {
        Resource::Cluster(cluster) => (cluster.discovery.clone(), lines(&decoded.findings)),
        other => panic!("{other:?}"),
    }
}

fn dns_of(wire: &Wire) -> Arc<Dns> {
    match accepted(wire).0 {
        Discovery::Dns(dns) => dns,
        other => panic!("{other:?}"),
    }
}

fn refused(wire: &Wire) -> String {
    decode_resource(Kind::Cluster, wire)
        .unwrap_err()
        .to_string()
}

fn seconds(seconds: i64) -> Option<protobuf::Duration> {
    Some(protobuf::Duration { seconds, nanos: 0 })
}

fn locality_of(wire: &mut Wire) -> &mut LocalityLbEndpoints {
    &mut wire.load_assignment.as_mut().unwrap().endpoints[0]
}

fn endpoint_of(wire: &mut Wire) -> &mut Endpoint {
    match &mut locality_of(wire).lb_endpoints[0].host_identifier {
        Some(HostIdentifier::Endpoint(endpoint)) => endpoint,
        other => panic!("{other:?}"),
    }
}

#[test]
fn endpoints_in_the_cluster() {
    let mut wire = cluster(
        DiscoveryType::Static,
        vec![endpoint("10.0.0.1", 80), endpoint("10.0.0.2", 80)],
    );
    endpoint_of(&mut wire).additional_addresses = vec![AdditionalAddress {
        address: Some(WireAddress {
            address: Some(address::Address::Pipe(Pipe {
                path: "/s".into(),
                mode: 0,
            })),
        }),
    }];
    let (Discovery::Static(endpoints), findings) = accepted(&wire) else {
        panic!();
    };
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!(&*endpoints.name, "c");
    let [locality] = &endpoints.localities[..] else {
        panic!("{endpoints:?}");
    };
    assert_eq!(locality.weight, 2, "each endpoint has its share");
    let first: SocketAddr = "10.0.0.1:80".parse().unwrap();
    let [EndpointConfig { address, more, .. }, _] = &locality.endpoints[..] else {
        panic!("{locality:?}");
    };
    assert_eq!(*address, Address::Socket(first));
    assert_eq!(**more, [Address::Unix("/s".into())]);

    // What no type says is STATIC.
    wire.cluster_discovery_type = None;
    assert!(matches!(accepted(&wire).0, Discovery::Static(_)));
    // Those without load are left out, as ever.
    locality_of(&mut wire).load_balancing_weight = Some(UInt32Value { value: 0 });
    let (Discovery::Static(endpoints), _) = accepted(&wire) else {
        panic!();
    };
    assert!(endpoints.localities.is_empty());
}

#[test]
fn names_in_the_cluster() {
    let wire = cluster(
        DiscoveryType::StrictDns,
        vec![endpoint("a.test", 80), endpoint("10.0.0.1", 80)],
    );
    let dns = dns_of(&wire);
    assert!(!dns.is_logical);
    let policy = LookupPolicy {
        family: DnsFamily::PreferV6,
        ..LookupPolicy::default()
    };
    assert_eq!(dns.policy, policy);
    let [name, ip] = &dns.endpoints.localities[0].endpoints[..] else {
        panic!("{dns:?}");
    };
    assert_eq!(name.address, Address::Name("a.test".into(), 80));
    assert_eq!(name.hostname.as_deref(), Some("a.test"));
    assert_eq!(ip.address, Address::Socket("10.0.0.1:80".parse().unwrap()));
    assert_eq!(
        dns.names().collect::<Vec<_>>(),
        ["a.test"].map(Arc::<str>::from).iter().collect::<Vec<_>>()
    );

    let logical = dns_of(&cluster(
        DiscoveryType::LogicalDns,
        vec![endpoint("a.test", 80)],
    ));
    assert!(logical.is_logical);
    assert_eq!(logical.policy, LookupPolicy::default());
}

#[test]
fn how_names_are_looked_up() {
    let mut wire = cluster(DiscoveryType::LogicalDns, vec![endpoint("a.test", 80)]);
    wire.dns_refresh_rate = seconds(7);
    wire.dns_failure_refresh_rate = Some(RefreshRate {
        base_interval: seconds(2),
        max_interval: None,
    });
    wire.dns_lookup_family = OldFamily::V4Only as i32;
    wire.dns_jitter = seconds(1);
    let policy = LookupPolicy {
        refresh: Duration::from_secs(7),
        failure: Some((Duration::from_secs(2), Duration::from_secs(20))),
        jitter: Duration::from_secs(1),
        family: DnsFamily::V4,
        ..LookupPolicy::default()
    };
    assert_eq!(dns_of(&wire).policy, policy);

    let config = DnsCluster {
        dns_refresh_rate: seconds(7),
        dns_failure_refresh_rate: Some(NewRefreshRate {
            base_interval: seconds(2),
            max_interval: seconds(3),
        }),
        respect_dns_ttl: true,
        dns_jitter: seconds(1),
        dns_lookup_family: Family::V4Preferred as i32,
        all_addresses_in_single_endpoint: true,
        dns_min_refresh_rate: seconds(4),
        ..Default::default()
    };
    let wire = cluster(DiscoveryType::Static, vec![endpoint("a.test", 80)]);
    let dns = dns_of(&custom(&config, wire.clone()));
    assert!(dns.is_logical);
    assert_eq!(
        dns.policy,
        LookupPolicy {
            failure: Some((Duration::from_secs(2), Duration::from_secs(3))),
            respect_ttl: true,
            min_refresh: Duration::from_secs(4),
            family: DnsFamily::PreferV4,
            ..policy
        }
    );
    let strict = dns_of(&custom(&DnsCluster::default(), wire));
    assert!(!strict.is_logical);
    assert_eq!(strict.policy.family, DnsFamily::PreferV6);
}

#[test]
fn clusters_in_place_of_endpoints() {
    let mut wire = aggregate_of(&["a", "b", "a"]);
    wire.lb_policy = Wanted::ClusterProvided as i32;
    let names: Vec<Arc<str>> = ["a", "b", "a"].map(Arc::from).into();
    assert_eq!(
        accepted(&wire),
        (Discovery::Aggregate(names.into()), vec![])
    );

    wire.lb_policy = Wanted::Maglev as i32;
    wire.circuit_breakers = Some(CircuitBreakers::default());
    let note = "an aggregate cluster's clusters each have their own (gRFC A75)";
    assert_eq!(
        accepted(&wire).1,
        [
            format!("lb_policy - {note}"),
            format!("circuit_breakers - {note}")
        ]
    );
}

#[test]
fn fields_of_other_types_are_reported() {
    let mut wire = cluster(DiscoveryType::Static, vec![endpoint("10.0.0.1", 80)]);
    wire.dns_refresh_rate = seconds(7);
    wire.eds_cluster_config = Some(EdsClusterConfig::default());
    assert_eq!(
        accepted(&wire).1,
        [
            "dns_refresh_rate - endpoints of a cluster of type STATIC have addresses",
            "eds_cluster_config - only for clusters of type EDS",
        ]
    );
    let mut wire = cluster(DiscoveryType::Eds, vec![endpoint("10.0.0.1", 80)]);
    wire.eds_cluster_config = Some(EdsClusterConfig {
        eds_config: Some(ads()),
        ..Default::default()
    });
    assert_eq!(
        accepted(&wire).1,
        ["load_assignment - the endpoints come from EDS"]
    );
}

#[test]
fn refusals() {
    let logical = |edit: fn(&mut Wire)| {
        let mut wire = cluster(DiscoveryType::LogicalDns, vec![endpoint("a.test", 80)]);
        edit(&mut wire);
        refused(&wire)
    };
    const AT: &str = "load_assignment.endpoints[0].lb_endpoints[0].endpoint";
    let missing = "load_assignment: must be set for a cluster of type STATIC or of a DNS type";
    assert_eq!(logical(|wire| wire.load_assignment = None), missing);
    assert_eq!(
        logical(|wire| {
            let localities = &mut wire.load_assignment.as_mut().unwrap().endpoints;
            localities.push(localities[0].clone());
        }),
        "load_assignment.endpoints: must have exactly one locality in a LOGICAL_DNS cluster"
    );
    assert_eq!(
        logical(|wire| locality_of(wire).lb_endpoints.push(endpoint("b.test", 80))),
        "load_assignment.endpoints[0].lb_endpoints: must have exactly one endpoint in a LOGICAL_DNS \
         cluster"
    );
    assert_eq!(
        logical(|wire| endpoint_of(wire).address = Some(wire_address("a.test", 0))),
        format!("{AT}.address.socket_address.port_value: must not be 0")
    );
    assert_eq!(
        logical(|wire| endpoint_of(wire).address = Some(wire_address("", 80))),
        format!("{AT}.address.socket_address.address: must not be empty")
    );
    assert_eq!(
        logical(|wire| {
            let socket = SocketAddress {
                address: "a.test".into(),
                resolver_name: "other".into(),
                port_specifier: Some(PortSpecifier::PortValue(80)),
                ..Default::default()
            };
            let address = address::Address::SocketAddress(socket);
            endpoint_of(wire).address = Some(WireAddress {
                address: Some(address),
            });
        }),
        format!(
            "{AT}.address.socket_address.resolver_name: must be empty: the resolver of the process \
             is asked"
        )
    );
    assert_eq!(
        logical(|wire| {
            let pipe = address::Address::Pipe(Pipe::default());
            endpoint_of(wire).address = Some(WireAddress {
                address: Some(pipe),
            });
        }),
        format!("{AT}.address: must be a socket_address in a cluster of a DNS type")
    );
    assert_eq!(
        logical(|wire| {
            endpoint_of(wire).additional_addresses = vec![AdditionalAddress {
                address: Some(wire_address("10.0.0.1", 80)),
            }];
        }),
        format!(
            "{AT}.additional_addresses: not supported in a cluster of a DNS type: a name has all its \
             addresses"
        )
    );
    assert_eq!(
        logical(|wire| wire.dns_refresh_rate = seconds(0)),
        "dns_refresh_rate: must be more than 1 ms"
    );
    assert_eq!(
        logical(|wire| wire.dns_failure_refresh_rate = Some(RefreshRate::default())),
        "dns_failure_refresh_rate.base_interval: must be set"
    );
    assert_eq!(
        logical(|wire| {
            wire.dns_failure_refresh_rate = Some(RefreshRate {
                base_interval: seconds(2),
                max_interval: seconds(1),
            });
        }),
        "dns_failure_refresh_rate.max_interval: must not be less than base_interval"
    );
    assert_eq!(
        logical(|wire| wire.dns_lookup_family = 9),
        "dns_lookup_family: not known"
    );
    assert_eq!(
        refused(&cluster(
            DiscoveryType::Static,
            vec![endpoint("a.test", 80)]
        )),
        format!("{AT}.address.socket_address.address: \"a.test\" is not an IP address")
    );
    assert_eq!(
        refused(&aggregate_of(&[])),
        "cluster_type.typed_config.clusters: must not be empty"
    );
    assert_eq!(
        refused(&aggregate_of(&["a", ""])),
        "cluster_type.typed_config.clusters: a name must not be empty"
    );
    let unknown = custom(
        &TransportSocket::default(),
        cluster(DiscoveryType::Static, vec![]),
    );
    assert_eq!(
        refused(&unknown),
        "cluster_type: cluster type \"custom\" (envoy.config.core.v3.TransportSocket) is not \
         supported"
    );
}
