use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{
                Cluster,
                cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig},
            },
            core::v3::{
                Address, DataSource, Locality, SocketAddress, TransportSocket, address,
                socket_address::PortSpecifier, transport_socket::ConfigType,
            },
            endpoint::v3::{
                ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
                lb_endpoint::HostIdentifier,
            },
            listener::v3::Listener,
            route::v3::RouteConfiguration,
        },
        extensions::{
            filters::network::http_connection_manager::v3::HttpConnectionManager,
            transport_sockets::tls::v3::{
                CertificateProviderPluginInstance, CertificateValidationContext, CommonTlsContext,
                UpstreamTlsContext, common_tls_context::ValidationContextType,
            },
        },
        service::discovery::v3::resource::CacheControl,
    },
    google::protobuf::Duration,
};
use proptest::prelude::*;
use prost::Message as _;

use super::{
    super::{
        fixtures,
        test_support::{ads, decode_resource, decoder, lines, resource, seconds, u32_value},
    },
    *,
};
use crate::control::xds::decode::{
    chain::FILTER_CHAIN, connections_fields::HTTP2_OPTIONS, listener::LISTENER,
    server_listener::SERVER_LISTENER, tls_fields::TRANSPORT_SOCKET,
};

fn cluster() -> Cluster {
    Cluster {
        name: "c".into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: Some(ads()),
            service_name: "s".into(),
        }),
        connect_timeout: seconds(1),
        ..Default::default()
    }
}

fn assignment() -> ClusterLoadAssignment {
    let endpoint = |port| LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: Some(Address {
                address: Some(address::Address::SocketAddress(SocketAddress {
                    address: "10.0.0.1".into(),
                    port_specifier: Some(PortSpecifier::PortValue(port)),
                    ..Default::default()
                })),
            }),
            ..Default::default()
        })),
        ..Default::default()
    };
    ClusterLoadAssignment {
        cluster_name: "e".into(),
        endpoints: vec![LocalityLbEndpoints {
            locality: Some(Locality::default()),
            lb_endpoints: (1..4).map(endpoint).collect(),
            load_balancing_weight: u32_value(1),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn wrapped(wrapper: &Wrapper) -> Any {
    super::super::test_support::any(wrapper)
}

#[test]
fn type_urls_are_those_of_the_messages() {
    use prost::Name;
    assert_eq!(type_url(Kind::Listener), Listener::type_url());
    assert_eq!(type_url(Kind::Route), RouteConfiguration::type_url());
    assert_eq!(type_url(Kind::Cluster), Cluster::type_url());
    assert_eq!(type_url(Kind::Endpoints), ClusterLoadAssignment::type_url());
    assert_eq!(WRAPPER_URL, Wrapper::type_url());
}

#[test]
fn a_resource_may_be_wrapped() {
    let inner = resource(Kind::Cluster, &cluster());
    let raw = wrapped(&Wrapper {
        name: "c".into(),
        version: "1".into(),
        resource: Some(inner.clone()),
        ttl: Some(Duration::default()),
        cache_control: Some(CacheControl::default()),
        ..Default::default()
    });
    let decoded = decoder().decode(Kind::Cluster, &raw).unwrap();
    assert_eq!(&*decoded.name, "c");
    assert_eq!(decoded.raw, inner);
    assert_eq!(
        lines(&decoded.findings),
        [
            "ttl - a resource stays until it is replaced or removed",
            "cache_control - nothing is cached beyond the process",
        ]
    );
    let bare = decoder().decode(Kind::Cluster, &inner).unwrap();
    assert_eq!(bare.value, decoded.value);
}

#[test]
fn refusals_of_the_envelope() {
    let cluster = resource(Kind::Cluster, &cluster());
    let wrapper = |resource: Option<Any>| {
        wrapped(&Wrapper {
            name: "w".into(),
            resource,
            ..Default::default()
        })
    };
    let twice = wrapper(Some(wrapper(Some(cluster.clone()))));
    let wrong = "must be type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment, not";
    let cases = [
        (
            cluster.clone(),
            Some("c"),
            format!("type_url: {wrong} \"{}\"", type_url(Kind::Cluster)),
        ),
        (
            wrapper(Some(cluster.clone())),
            Some("c"),
            format!("resource.type_url: {wrong} \"{}\"", type_url(Kind::Cluster)),
        ),
        (Any::default(), None, format!("type_url: {wrong} \"\"")),
        (wrapper(None), Some("w"), "resource: must be set".to_owned()),
        (
            twice,
            Some("w"),
            format!("resource.type_url: {wrong} \"{WRAPPER_URL}\""),
        ),
        (
            Any {
                type_url: WRAPPER_URL.into(),
                value: vec![0x1a, 1, b'w', 0x12, 9],
            },
            Some("w"),
            "truncated protobuf".to_owned(),
        ),
        (
            Any {
                type_url: type_url(Kind::Endpoints).into(),
                value: vec![0; MAX_RESOURCE_BYTES + 1],
            },
            None,
            format!(
                "value: the resource has {} bytes: at most {MAX_RESOURCE_BYTES} are decoded",
                MAX_RESOURCE_BYTES + 1
            ),
        ),
    ];
    for (raw, name, expected) in cases {
        let error = decoder().decode(Kind::Endpoints, &raw).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.name.as_deref(), name, "{expected}");
    }
}

#[test]
fn a_truncated_resource_still_has_its_name() {
    for (kind, name, whole) in [
        (Kind::Cluster, "c", cluster().encode_to_vec()),
        (Kind::Endpoints, "e", assignment().encode_to_vec()),
    ] {
        let mut truncated = 0;
        for end in 4..whole.len() {
            let raw = Any {
                type_url: type_url(kind).into(),
                value: whole[..end].to_vec(),
            };
            // A cut between two fields leaves a shorter message.
            if let Err(error) = decoder().decode(kind, &raw) {
                assert_eq!(error.name.as_deref(), Some(name), "{end}: {error}");
                truncated += usize::from(error.problem.contains("truncated"));
            }
        }
        assert!(truncated > whole.len() / 2, "{truncated}");
    }
}

#[test]
fn deep_nesting_in_a_field_that_is_not_read_is_refused() {
    // A `Struct` in the metadata of a cluster: 25.1.2 = { 1: { 2: Value.struct (5) ... } }.
    let mut value = Vec::new();
    let field = |number: u32, inner: &[u8]| {
        let mut bytes = Vec::new();
        prost::encoding::encode_varint(u64::from(number << 3 | 2), &mut bytes);
        prost::encoding::encode_varint(inner.len() as u64, &mut bytes);
        bytes.extend_from_slice(inner);
        bytes
    };
    for _ in 0..100 {
        value = field(5, &field(1, &field(2, &value)));
    }
    let entry = [field(1, b"k"), field(2, &field(1, &field(2, &value)))].concat();
    let raw = Any {
        type_url: type_url(Kind::Cluster).into(),
        value: [cluster().encode_to_vec(), field(25, &field(1, &entry))].concat(),
    };
    let error = decoder().decode(Kind::Cluster, &raw).unwrap_err();
    assert_eq!(error.name.as_deref(), Some("c"));
    assert!(error.problem.contains("recursion limit"), "{error}");
}

#[test]
fn every_kind_is_decoded_and_reported_on_through_its_extensions() {
    let manager = HttpConnectionManager {
        stat_prefix: "s".into(),
        ..fixtures::manager()
    };
    let listener = decode_resource(Kind::Listener, &fixtures::api_listener("l", manager)).unwrap();
    assert_eq!(&*listener.name, "l");
    assert_eq!(listener.value.kind(), Kind::Listener);
    let findings = lines(&listener.findings);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].starts_with("api_listener.api_listener.stat_prefix - "));

    let mut config = fixtures::routes(vec![fixtures::any_route()]);
    config.virtual_hosts[0].routes[0].stat_prefix = "s".into();
    let routes = decode_resource(Kind::Route, &config).unwrap();
    assert_eq!(routes.value.kind(), Kind::Route);
    let findings = lines(&routes.findings);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].starts_with("virtual_hosts[0].routes[0].stat_prefix - "));
    config.virtual_hosts[0].routes[0].r#match = None;
    let error = decode_resource(Kind::Route, &config).unwrap_err();
    assert_eq!(error.path, "virtual_hosts[0].routes[0].match");

    let context = UpstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            alpn_protocols: vec!["h2".into()],
            validation_context_type: Some(ValidationContextType::ValidationContext(
                CertificateValidationContext {
                    trusted_ca: Some(DataSource::default()),
                    ca_certificate_provider_instance: Some(CertificateProviderPluginInstance {
                        instance_name: "default".into(),
                        ..Default::default()
                    }),
                    ..Default::default()
                },
            )),
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut wire = Cluster {
        transport_socket: Some(TransportSocket {
            name: "envoy.transport_sockets.tls".into(),
            config_type: Some(ConfigType::TypedConfig(fixtures::any(&context))),
        }),
        ..cluster()
    };
    let decoded = decode_resource(Kind::Cluster, &wire).unwrap();
    let common = "transport_socket.typed_config.common_tls_context";
    assert_eq!(
        lines(&decoded.findings),
        [
            format!(
                "{common}.validation_context.trusted_ca - certificates come from a certificate \
                 provider or a secret"
            ),
            format!("{common}.alpn_protocols - the protocol in use is offered"),
        ]
    );
    match decoded.value {
        Resource::Cluster(cluster) => assert!(cluster.tls.is_some()),
        other => panic!("{other:?}"),
    }
    let socket = wire.transport_socket.as_mut().unwrap();
    socket.name = "tls".into();
    let error = decode_resource(Kind::Cluster, &wire).unwrap_err();
    assert_eq!(error.path, "transport_socket.name");
    assert_eq!(error.name.as_deref(), Some("c"));
}

/// Nothing holds these messages together but their numbers: no two fields may share one.
#[test]
fn tables_are_consistent() {
    fn check(table: &'static Message, seen: &mut BTreeSet<(&'static str, usize)>) {
        use super::super::Treat;
        // Two tables may be of one message: that of clients and that of servers.
        if !seen.insert((table.name, table.fields.as_ptr() as usize)) {
            return;
        }
        let numbers: BTreeSet<_> = table.fields.iter().map(|field| field.number).collect();
        let names: BTreeSet<_> = table.fields.iter().map(|field| field.name).collect();
        assert_eq!(numbers.len(), table.fields.len(), "{}", table.name);
        assert_eq!(names.len(), table.fields.len(), "{}", table.name);
        for field in table.fields {
            if let Treat::Message(inner) | Treat::Repeated(inner) | Treat::Map(inner) = &field.treat
            {
                check(inner, seen);
            }
        }
    }
    let mut seen = BTreeSet::new();
    for table in [
        &LISTENER,
        &SERVER_LISTENER,
        &DOWNSTREAM_TLS_CONTEXT,
        &ROUTE_CONFIGURATION,
        &CLUSTER,
        &CLUSTER_LOAD_ASSIGNMENT,
        &SECRET,
        &HTTP_CONNECTION_MANAGER,
        &FILTER_CONFIG,
        &UPSTREAM_TLS_CONTEXT,
        &UPSTREAM_OPTIONS,
        &WRR_LOCALITY,
        &WRAPPER,
    ] {
        check(table, &mut seen);
    }
    for inner in [&HTTP2_OPTIONS, &TRANSPORT_SOCKET, &FILTER_CHAIN] {
        assert!(seen.iter().any(|(name, _)| *name == inner.name));
    }
}

fn decode_all(bytes: &[u8]) {
    for kind in Kind::ALL {
        for type_url in [type_url(kind), WRAPPER_URL] {
            let raw = Any {
                type_url: type_url.into(),
                value: bytes.to_vec(),
            };
            let _ = decoder().decode(kind, &raw);
        }
    }
}

/// One change to some bytes.
fn mutate(bytes: &mut Vec<u8>, (at, byte, how): (usize, u8, u8)) {
    let at = at % bytes.len().max(1);
    match how {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, byte),
        _ if bytes.is_empty() => {}
        2 => drop(bytes.remove(at)),
        _ => bytes[at] = byte,
    }
}

struct NoExtensions;

impl Extensions for NoExtensions {
    fn message(&self, _: &str) -> Option<&'static Message> {
        None
    }

    fn structure(&self, _: &str) -> bool {
        false
    }
}

/// What prost accepts, the walk accepts, but for groups.
fn agree<M: prost::Message + Default>(
    table: &'static Message,
    bytes: &[u8],
) -> Result<(), TestCaseError> {
    let walked = walk(table, bytes, &NoExtensions, &mut Findings::default());
    if let (Ok(_), Err(error)) = (M::decode(bytes), walked) {
        prop_assert!(error.problem().contains("groups"), "{}", error);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        decode_all(&bytes);
    }

    #[test]
    fn mutated_resources_never_panic_and_the_walk_agrees_with_prost(
        mutations in proptest::collection::vec((any::<usize>(), any::<u8>(), 0u8..8), 1..4),
    ) {
        let mut bytes = cluster().encode_to_vec();
        mutations.iter().for_each(|&mutation| mutate(&mut bytes, mutation));
        decode_all(&bytes);
        agree::<Cluster>(&CLUSTER, &bytes)?;

        let mut bytes = fixtures::http_like().encode_to_vec();
        mutations.iter().for_each(|&mutation| mutate(&mut bytes, mutation));
        decode_all(&bytes);

        let mut bytes = assignment().encode_to_vec();
        mutations.iter().for_each(|&mutation| mutate(&mut bytes, mutation));
        decode_all(&bytes);
        agree::<ClusterLoadAssignment>(&CLUSTER_LOAD_ASSIGNMENT, &bytes)?;
    }
}
