#![expect(deprecated, reason = "deprecated fields are tested too")]

mod http;

use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{
                LoadBalancingPolicy, OutlierDetection,
                cluster::{
                    ClusterDiscoveryType, CommonLbConfig, DiscoveryType, EdsClusterConfig,
                    LbSubsetConfig, LeastRequestLbConfig, RingHashLbConfig, RoundRobinLbConfig,
                    TransportSocketMatch,
                    common_lb_config::{LocalityConfigSpecifier, LocalityWeightedLbConfig},
                },
                load_balancing_policy::Policy,
            },
            core::v3::{
                ApiVersion, ConfigSource, HealthCheck, Metadata, SelfConfigSource,
                TypedExtensionConfig, config_source::ConfigSourceSpecifier,
            },
        },
        extensions::load_balancing_policies::least_request::v3::LeastRequest as WireLeastRequest,
    },
    google::protobuf::Any,
    xds::r#type::matcher::v3::Matcher,
};

use super::{super::test_support::*, *};
use crate::{
    balance::{LeastRequest, RoundRobin},
    config::{Connections, EndpointMetric, Kind, LoadReport, MetricMap, PolicyConfig, Resource},
};

/// A cluster with nothing but what it must have.
fn eds_cluster() -> Wire {
    Wire {
        name: "c".into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: Some(ads()),
            service_name: String::new(),
        }),
        ..Default::default()
    }
}

fn edited(edit: impl FnOnce(&mut Wire)) -> Wire {
    let mut wire = eds_cluster();
    edit(&mut wire);
    wire
}

fn accepted(wire: &Wire) -> Cluster {
    match decode_resource(Kind::Cluster, wire).unwrap().value {
        Resource::Cluster(cluster) => Arc::unwrap_or_clone(cluster),
        other => panic!("{other:?}"),
    }
}

fn round_robin() -> LbPolicy {
    LbPolicy::Localities(PolicyConfig(Arc::new(RoundRobin)))
}

fn least_request(choices: u32) -> LbPolicy {
    LbPolicy::Localities(PolicyConfig(Arc::new(LeastRequest::new(choices))))
}

fn eds_of(wire: &mut Wire) -> &mut EdsClusterConfig {
    wire.eds_cluster_config.as_mut().unwrap()
}

fn self_source() -> ConfigSource {
    source(ConfigSourceSpecifier::Self_(SelfConfigSource::default()))
}

fn set_breakers(wire: &mut Wire, thresholds: Vec<Thresholds>, per_host: Vec<Thresholds>) {
    wire.circuit_breakers = Some(CircuitBreakers {
        thresholds,
        per_host_thresholds: per_host,
    });
}

fn max_requests(priority: RoutingPriority, value: u32) -> Thresholds {
    Thresholds {
        priority: priority as i32,
        max_requests: u32_value(value),
        ..Default::default()
    }
}

fn max_connections(value: u32) -> Thresholds {
    Thresholds {
        max_connections: u32_value(value),
        ..Default::default()
    }
}

#[test]
fn the_least_that_is_needed() {
    let decoded = decode_resource(Kind::Cluster, &eds_cluster()).unwrap();
    assert_eq!(&*decoded.name, "c");
    assert!(decoded.findings.is_empty(), "{:?}", decoded.findings);
    assert_eq!(
        accepted(&eds_cluster()),
        Cluster {
            name: "c".into(),
            discovery: Discovery::Eds("c".into()),
            lb: round_robin(),
            breakers: Breakers::default(),
            connections: Connections::default(),
            tls: None,
            report_load: None,
            service: None,
            panic_threshold: 50.0,
        }
    );
}

#[test]
fn where_endpoints_come_from() {
    let named = edited(|wire| eds_of(wire).service_name = "s".into());
    assert_eq!(accepted(&named).discovery, Discovery::Eds("s".into()));
    let from_self = edited(|wire| eds_of(wire).eds_config = Some(self_source()));
    assert_eq!(accepted(&from_self).discovery, Discovery::Eds("c".into()));
    let federated = edited(|wire| {
        wire.name = "xdstp://a/envoy.config.cluster.v3.Cluster/c".into();
        eds_of(wire).service_name = "s".into();
    });
    assert_eq!(accepted(&federated).discovery, Discovery::Eds("s".into()));
}

#[test]
fn loads_are_reported_to_self() {
    for service in ["", "s"] {
        let wire = edited(|wire| {
            wire.lrs_server = Some(self_source());
            let eds = wire
                .eds_cluster_config
                .as_mut()
                .expect("it is an EDS cluster");
            eds.service_name = service.to_owned();
        });
        let expected = LoadReport {
            server: None,
            service: service.into(),
            metrics: Arc::default(),
        };
        assert_eq!(accepted(&wire).report_load, Some(expected));
    }
}

#[test]
fn metrics_of_endpoints_are_reported_as_far_as_they_are_known() {
    use EndpointMetric::{All, Entry};
    let metrics = |lrs_server: Option<_>, names: &[&str]| {
        let wire = edited(|wire| {
            wire.lrs_server = lrs_server.clone();
            let names = names.iter().map(|&name| name.to_owned());
            wire.lrs_report_endpoint_metrics = names.collect();
        });
        let decoded = decode_resource(Kind::Cluster, &wire).unwrap();
        let Resource::Cluster(cluster) = &decoded.value else {
            panic!("{decoded:?}")
        };
        let report = cluster.report_load.as_ref();
        let metrics = report.map(|report| (*report.metrics).clone());
        let paths = decoded.findings.iter().map(|finding| finding.path.clone());
        (metrics, paths.collect::<Vec<_>>())
    };
    let reported = |names| metrics(Some(self_source()), names);
    let fields = [
        "cpu_utilization",
        "mem_utilization",
        "application_utilization",
        "eps",
        "rps_fractional",
        "named_metrics.foo.bar",
        "utilization.*",
        "request_cost.foo",
    ];
    let expected = vec![
        EndpointMetric::CpuUtilization,
        EndpointMetric::MemUtilization,
        EndpointMetric::ApplicationUtilization,
        EndpointMetric::Eps,
        EndpointMetric::RpsFractional,
        Entry(MetricMap::NamedMetrics, "named_metrics.foo.bar".into()),
        All(MetricMap::Utilization),
        Entry(MetricMap::RequestCost, "request_cost.foo".into()),
    ];
    assert_eq!(reported(&fields), (Some(expected), vec![]));
    // Nothing is counted twice.
    let twice = ["eps", "named_metrics.a", "eps", "named_metrics.*"];
    let once = vec![EndpointMetric::Eps, All(MetricMap::NamedMetrics)];
    assert_eq!(reported(&twice), (Some(once), vec![]));

    let unknown = ["rps", "eps", "other.*", ""];
    let at = |index| format!("lrs_report_endpoint_metrics[{index}]");
    let paths = [0, 2, 3].map(at).to_vec();
    let known = Some(vec![EndpointMetric::Eps]);
    assert_eq!(reported(&unknown), (known, paths));
    let unused = vec!["lrs_report_endpoint_metrics".to_owned()];
    assert_eq!(metrics(None, &["eps"]), (None, unused));
}

#[test]
fn policies_of_the_old_fields() {
    let wire = edited(|wire| wire.lb_policy = Wanted::LeastRequest as i32);
    assert_eq!(accepted(&wire).lb, least_request(2));
    for (count, choices) in [(2, 2), (10, 10), (11, 10), (u32::MAX, 10)] {
        let wire = edited(|wire| {
            wire.lb_policy = Wanted::LeastRequest as i32;
            wire.lb_config = Some(LbConfig::LeastRequestLbConfig(LeastRequestLbConfig {
                choice_count: u32_value(count),
                ..Default::default()
            }));
        });
        assert_eq!(accepted(&wire).lb, least_request(choices));
    }
}

#[test]
fn the_new_policy_field_wins() {
    let wire = edited(|wire| {
        wire.lb_policy = Wanted::Maglev as i32;
        wire.lb_config = Some(LbConfig::RoundRobinLbConfig(RoundRobinLbConfig::default()));
        wire.load_balancing_policy = Some(LoadBalancingPolicy {
            policies: vec![Policy {
                typed_extension_config: Some(TypedExtensionConfig {
                    name: "p".into(),
                    typed_config: Some(any(&WireLeastRequest::default())),
                }),
            }],
        });
    });
    let policy = PolicyConfig(Arc::new(LeastRequest::new(2)));
    assert_eq!(accepted(&wire).lb, LbPolicy::Endpoints(policy));
    assert_eq!(
        lines(&decode_resource(Kind::Cluster, &wire).unwrap().findings),
        [
            "lb_policy - load_balancing_policy is in force",
            "round_robin_lb_config - load_balancing_policy is in force",
        ]
    );
    let by_the_book = edited(|other| {
        *other = wire.clone();
        other.lb_policy = Wanted::LoadBalancingPolicyConfig as i32;
        other.lb_config = None;
    });
    assert!(
        decode_resource(Kind::Cluster, &by_the_book)
            .unwrap()
            .findings
            .is_empty()
    );
}

#[test]
fn circuit_breakers() {
    use RoutingPriority::{Default as D, High};
    let wire = edited(|wire| {
        let thresholds = vec![
            max_requests(High, 1),
            max_requests(D, 5),
            max_requests(D, 6),
        ];
        set_breakers(wire, thresholds, vec![max_connections(3)]);
    });
    assert_eq!(
        accepted(&wire).breakers,
        Breakers {
            max_requests: 5,
            max_connections_per_host: Some(3),
            max_connections: 1024,
            max_pending_requests: 1024,
            max_retries: 3,
        }
    );
    let note = "only the first entry of priority DEFAULT is in force";
    assert_eq!(
        lines(&decode_resource(Kind::Cluster, &wire).unwrap().findings),
        [
            format!("circuit_breakers.thresholds[0] - {note}"),
            format!("circuit_breakers.thresholds[2] - {note}"),
        ]
    );
    // The first entry counts even if it sets nothing.
    let wire = edited(|wire| {
        let thresholds = vec![Thresholds::default(), max_requests(D, 5)];
        set_breakers(wire, thresholds, vec![]);
    });
    assert_eq!(accepted(&wire).breakers, Breakers::default());
    let none = edited(|wire| set_breakers(wire, vec![max_requests(D, 0)], vec![]));
    assert_eq!(accepted(&none).breakers.max_requests, 0);
}

#[test]
fn refusals() {
    type Case = (fn(&mut Wire), &'static str);
    const CASES: &[Case] = &[
        (|wire| wire.name.clear(), "name: must not be empty"),
        (
            |wire| wire.cluster_discovery_type = Some(ClusterDiscoveryType::Type(4)),
            "type: cluster type ORIGINAL_DST is not supported",
        ),
        (
            |wire| wire.cluster_discovery_type = Some(ClusterDiscoveryType::Type(9)),
            "type: cluster type 9 is not known",
        ),
        (
            |wire| wire.eds_cluster_config = None,
            "eds_cluster_config: must be set for a cluster of type EDS",
        ),
        (
            |wire| eds_of(wire).eds_config = None,
            "eds_cluster_config.eds_config: must be set",
        ),
        (
            |wire| eds_of(wire).eds_config = Some(ConfigSource::default()),
            "eds_cluster_config.eds_config: must be `ads` or `self`",
        ),
        (
            |wire| {
                let path = ConfigSourceSpecifier::Path("/x".into());
                eds_of(wire).eds_config = Some(source(path));
            },
            "eds_cluster_config.eds_config: must be `ads` or `self`",
        ),
        (
            |wire| wire.name = "xdstp://a/envoy.config.cluster.v3.Cluster/c".into(),
            "eds_cluster_config.service_name: must not be empty where the cluster's name is an \
             xdstp: one",
        ),
        (
            |wire| wire.lrs_server = Some(ads()),
            "lrs_server: must be `self`",
        ),
        (
            |wire| wire.lb_policy = Wanted::RingHash as i32,
            "lb_policy: load balancing policy RING_HASH is not supported yet",
        ),
        (
            |wire| wire.lb_policy = Wanted::Random as i32,
            "lb_policy: load balancing policy RANDOM is not supported yet",
        ),
        (
            |wire| wire.lb_policy = Wanted::Maglev as i32,
            "lb_policy: load balancing policy MAGLEV is not supported yet",
        ),
        (
            |wire| wire.lb_policy = Wanted::ClusterProvided as i32,
            "lb_policy: load balancing policy CLUSTER_PROVIDED is not supported yet",
        ),
        (
            |wire| wire.lb_policy = 77,
            "lb_policy: load balancing policy 77 is not known",
        ),
        (
            |wire| {
                wire.lb_policy = Wanted::LeastRequest as i32;
                wire.lb_config = Some(LbConfig::LeastRequestLbConfig(LeastRequestLbConfig {
                    choice_count: u32_value(1),
                    ..Default::default()
                }));
            },
            "least_request_lb_config.choice_count: must be at least 2, not 1",
        ),
        (
            |wire| wire.load_balancing_policy = Some(LoadBalancingPolicy::default()),
            "load_balancing_policy.policies: must not be empty",
        ),
        (
            |wire| {
                set_breakers(
                    wire,
                    vec![],
                    vec![
                        Thresholds {
                            priority: 1,
                            ..Default::default()
                        },
                        max_connections(0),
                    ],
                )
            },
            "circuit_breakers.per_host_thresholds[1].max_connections: must be at least 1",
        ),
        (
            |wire| wire.transport_socket_matches = vec![TransportSocketMatch::default()],
            "transport_socket_matches: not supported: use transport_socket",
        ),
        (
            |wire| wire.transport_socket_matcher = Some(Matcher::default()),
            "transport_socket_matcher: not supported: use transport_socket",
        ),
    ];
    for (edit, expected) in CASES {
        let error = decode_resource(Kind::Cluster, &edited(edit)).expect_err(expected);
        assert_eq!(error.to_string(), *expected);
    }
}

#[test]
fn a_config_of_another_policy_is_reported() {
    let wire = edited(|wire| {
        wire.lb_config = Some(LbConfig::RingHashLbConfig(RingHashLbConfig::default()));
    });
    assert_eq!(
        lines(&decode_resource(Kind::Cluster, &wire).unwrap().findings),
        ["ring_hash_lb_config - the policy is ROUND_ROBIN"]
    );
}

/// As istiod sends it to a node with the metadata `GENERATOR=grpc`, with more of Envoy's fields.
#[test]
fn findings_of_a_cluster_of_istio() {
    let wire = edited(|wire| {
        wire.name = "outbound|8080||greeter.shop.svc.cluster.local".into();
        wire.alt_stat_name = "outbound|8080||greeter".into();
        let eds = eds_of(wire);
        eds.service_name = wire_name();
        let source = eds.eds_config.as_mut().unwrap();
        source.resource_api_version = ApiVersion::V3 as i32;
        source.initial_fetch_timeout = seconds(0);
        wire.connect_timeout = seconds(10);
        wire.lb_policy = Wanted::LeastRequest as i32;
        set_breakers(
            wire,
            vec![Thresholds {
                max_connections: u32_value(u32::MAX),
                max_pending_requests: u32_value(u32::MAX),
                max_requests: u32_value(100),
                max_retries: u32_value(u32::MAX),
                track_remaining: true,
                ..Default::default()
            }],
            vec![],
        );
        wire.common_lb_config = Some(CommonLbConfig {
            healthy_panic_threshold: Some(Default::default()),
            locality_config_specifier: Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(
                LocalityWeightedLbConfig {},
            )),
            ..Default::default()
        });
        wire.outlier_detection = Some(OutlierDetection::default());
        wire.health_checks = vec![HealthCheck::default(), HealthCheck::default()];
        wire.lb_subset_config = Some(LbSubsetConfig::default());
        wire.metadata = Some(Metadata::default());
        wire.typed_extension_protocol_options.insert(
            "my.protocol".into(),
            Any {
                type_url: "type.googleapis.com/my.protocol.Options".into(),
                value: vec![],
            },
        );
    });
    fn wire_name() -> String {
        "outbound|8080||greeter.shop.svc.cluster.local".into()
    }
    let decoded = decode_resource(Kind::Cluster, &wire).unwrap();
    let breakers = "in force under HTTP semantics; gRPC ignores it (gRFC A32): max_requests is \
                    its only breaker";
    let mut findings = lines(&decoded.findings);
    // In the order of the bytes, which follows the messages' definition and not the numbers.
    findings.sort();
    assert_eq!(
        findings,
        [
            "alt_stat_name - statistics go by the cluster's name".to_owned(),
            format!("circuit_breakers.thresholds[0].max_connections h {breakers}"),
            format!("circuit_breakers.thresholds[0].max_pending_requests h {breakers}"),
            format!("circuit_breakers.thresholds[0].max_retries h {breakers}"),
            "circuit_breakers.thresholds[0].track_remaining - statistics are not configured by \
             the control plane"
                .to_owned(),
            "common_lb_config.healthy_panic_threshold h in force under HTTP semantics; gRPC has \
             no panic mode (gRFC A56)"
                .to_owned(),
            "eds_cluster_config.eds_config.initial_fetch_timeout - 15 s are in force (gRFC A57)"
                .to_owned(),
            "health_checks - health is what the endpoints say of it".to_owned(),
            "lb_subset_config - every endpoint can be chosen".to_owned(),
            "metadata ~ what Istio says in it of workloads is told in metrics".to_owned(),
            "outlier_detection - outlier detection is not in force yet".to_owned(),
            "typed_extension_protocol_options[\"my.protocol\"] - extension \
             \"my.protocol.Options\" is not known here"
                .to_owned(),
        ]
    );
}
