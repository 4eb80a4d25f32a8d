use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::{
                EnvoyInternalAddress, HttpProtocolOptions, Pipe, SocketAddress,
                socket_address::{PortSpecifier, Protocol},
            },
            listener::v3::{
                Filter, FilterChain as WireChain, FilterChainMatch, ListenerFilter,
                filter::ConfigType, listener::InternalListenerConfig,
            },
            route::v3::{NonForwardingAction, Route as WireRoute, route::Action},
        },
        extensions::filters::{
            http::rbac::v3::Rbac,
            network::http_connection_manager::v3::{
                HttpConnectionManager, HttpFilter as WireFilter,
                http_connection_manager::RouteSpecifier,
            },
        },
    },
    google::protobuf::BoolValue,
};

use super::{
    super::{
        Extension,
        fixtures::*,
        test_support::{decode_server_listener, seconds},
    },
    *,
};
use crate::{
    config::{FilterConfig, StripPort},
    control::xds::{FilterDecoder, FilterRegistry, Side},
    filter::Disabled,
};

/// A decoder of authorization filters that accepts all of them.
#[derive(Debug)]
struct AnyRbac;

const RBAC: Message = Message {
    name: "envoy.extensions.filters.http.rbac.v3.RBAC",
    fields: &[Field::enforced(1, "rules")],
};

impl FilterDecoder for AnyRbac {
    fn messages(&self) -> &'static [&'static Message] {
        &[&RBAC]
    }

    fn side(&self) -> Side {
        Side::Server
    }

    fn decode(&self, _: &str, _: &Extension) -> Result<FilterConfig, FieldError> {
        Ok(FilterConfig(std::sync::Arc::new(Disabled)))
    }
}

fn registry() -> FilterRegistry {
    FilterRegistry::standard().register(AnyRbac)
}

fn decode(wire: &WireListener) -> Result<std::sync::Arc<ServerListener>, String> {
    decode_server_listener(wire, &registry()).map(|(listener, _)| listener)
}

fn socket_of(address: &str, port: u32) -> SocketAddress {
    SocketAddress {
        address: address.into(),
        port_specifier: Some(PortSpecifier::PortValue(port)),
        ..Default::default()
    }
}

fn at(address: AddressKind) -> Option<WireAddress> {
    Some(WireAddress {
        address: Some(address),
    })
}

/// A manager that serves every request.
fn serving() -> HttpConnectionManager {
    HttpConnectionManager {
        route_specifier: Some(RouteSpecifier::RouteConfig(routes(vec![WireRoute {
            r#match: Some(prefix("/")),
            action: Some(Action::NonForwardingAction(NonForwardingAction {})),
            ..Default::default()
        }]))),
        ..manager()
    }
}

fn network_filter(manager: &HttpConnectionManager) -> Filter {
    Filter {
        name: "hcm".into(),
        config_type: Some(ConfigType::TypedConfig(any(manager))),
    }
}

fn chain_of(manager: &HttpConnectionManager) -> WireChain {
    WireChain {
        filters: vec![network_filter(manager)],
        ..Default::default()
    }
}

/// A listener with one chain.
fn server(manager: &HttpConnectionManager) -> WireListener {
    WireListener {
        name: "l".into(),
        address: at(AddressKind::SocketAddress(socket_of("10.0.0.1", 80))),
        filter_chains: vec![chain_of(manager)],
        ..Default::default()
    }
}

fn edited(edit: impl FnOnce(&mut WireListener)) -> WireListener {
    let mut wire = server(&serving());
    edit(&mut wire);
    wire
}

#[test]
fn what_has_an_api_listener_is_for_clients() {
    let wire = WireListener {
        // A server would have to refuse these.
        listener_filters: vec![ListenerFilter::default()],
        address: at(AddressKind::Pipe(Pipe::default())),
        ..api_listener("l", manager())
    };
    decode_listener(wire, &registry()).unwrap();
}

#[test]
fn a_default_chain_alone() {
    let wire = edited(|wire| {
        let mut chain = wire.filter_chains.remove(0);
        chain.filter_chain_match = Some(FilterChainMatch {
            source_ports: vec![7],
            ..Default::default()
        });
        wire.default_filter_chain = Some(chain);
    });
    let (listener, findings) = decode_server_listener(&wire, &registry()).unwrap();
    assert_eq!(listener.chains, []);
    let chain = listener.default_chain.as_ref().unwrap();
    assert_eq!(chain.matcher, Default::default());
    assert_eq!(
        findings,
        [
            "default_filter_chain.filter_chain_match - the default chain takes every connection \
             that no other does"
        ]
    );
}

#[test]
fn calls_of_servers_have_no_limit() {
    let manager = HttpConnectionManager {
        common_http_protocol_options: Some(HttpProtocolOptions {
            max_stream_duration: seconds(1),
            ..Default::default()
        }),
        ..serving()
    };
    let (listener, findings) = decode_server_listener(&server(&manager), &registry()).unwrap();
    assert_eq!(listener.chains[0].http.max_stream_duration, None);
    assert_eq!(
        findings,
        [
            "filter_chains[0].filters[0].typed_config.common_http_protocol_options.\
             max_stream_duration - the time of a call is limited by its client (gRFC A31)"
        ]
    );
}

#[test]
fn addresses() {
    let any_port = edited(|wire| {
        wire.address = at(AddressKind::SocketAddress(socket_of("::", 0)));
    });
    assert_eq!(
        decode(&any_port).unwrap().address,
        "[::]:0".parse().unwrap()
    );
    let cases = [
        (
            None,
            "address: must be set for a server, or api_listener for a client",
        ),
        (
            Some(WireAddress::default()),
            "address.socket_address: must be set",
        ),
        (
            at(AddressKind::Pipe(Pipe::default())),
            "address.pipe: not supported: use socket_address",
        ),
        (
            at(AddressKind::EnvoyInternalAddress(
                EnvoyInternalAddress::default(),
            )),
            "address.envoy_internal_address: not supported: use socket_address",
        ),
        (
            at(AddressKind::SocketAddress(socket_of("localhost", 80))),
            "address.socket_address.address: \"localhost\" is not an IP address",
        ),
        (
            at(AddressKind::SocketAddress(socket_of("::", 65_536))),
            "address.socket_address.port_value: 65536 is not a port",
        ),
        (
            at(AddressKind::SocketAddress(SocketAddress {
                protocol: Protocol::Udp as i32,
                ..socket_of("::", 80)
            })),
            "address.socket_address.protocol: must be TCP",
        ),
    ];
    for (address, expected) in cases {
        let error = decode(&edited(|wire| wire.address = address)).expect_err(expected);
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn refusals() {
    type Case = (fn(&mut WireListener), &'static str);
    const CASES: &[Case] = &[
        (
            |wire| wire.listener_filters = vec![ListenerFilter::default()],
            "listener_filters: must be empty",
        ),
        (
            |wire| wire.use_original_dst = Some(BoolValue { value: true }),
            "use_original_dst: must not be true",
        ),
        (
            |wire| {
                wire.listener_specifier = Some(ListenerSpecifier::InternalListener(
                    InternalListenerConfig::default(),
                ));
            },
            "internal_listener: not supported",
        ),
        (
            |wire| wire.filter_chain_matcher = Some(Default::default()),
            "filter_chain_matcher: not supported, and it restricts which chain takes",
        ),
        (
            |wire| wire.fcds_config = Some(Default::default()),
            "fcds_config: not supported, and it restricts connections",
        ),
        (
            |wire| wire.filter_chains.clear(),
            "filter_chains: has no chain that can match, and there is no default_filter_chain",
        ),
        (|wire| wire.name.clear(), "name: must not be empty"),
        (
            |wire| wire.default_filter_chain = Some(WireChain::default()),
            "default_filter_chain.filters: must not be empty",
        ),
    ];
    for (edit, expected) in CASES {
        let error = decode(&edited(edit)).expect_err(expected);
        assert!(error.starts_with(expected), "{error}");
    }
    let harmless = edited(|wire| wire.use_original_dst = Some(BoolValue { value: false }));
    decode(&harmless).unwrap();
}

#[test]
fn managers_that_are_refused() {
    type Case = (fn(&mut HttpConnectionManager), &'static str);
    fn optional(is_optional: bool) -> WireFilter {
        WireFilter {
            is_optional,
            ..filter(
                "x",
                named_any("type.googleapis.com/some.vendor.Filter", vec![]),
            )
        }
    }
    const CASES: &[Case] = &[
        (
            |manager| manager.xff_num_trusted_hops = 1,
            "xff_num_trusted_hops: must be 0, not 1",
        ),
        (
            |manager| manager.original_ip_detection_extensions = vec![Default::default()],
            "original_ip_detection_extensions: must be empty",
        ),
        (
            |manager| manager.http_filters = vec![router(), router()],
            "http_filters[1].name: \"router\" is the name of an earlier filter too",
        ),
        (
            |manager| manager.http_filters = vec![optional(false), router()],
            "http_filters[0].typed_config: no filter is known by",
        ),
        (
            |manager| manager.http_filters = vec![optional(true)],
            "http_filters: must not be empty",
        ),
        (
            |manager| manager.route_specifier = None,
            "route_specifier: rds or route_config must be set",
        ),
        (
            |manager| {
                manager.common_http_protocol_options = Some(HttpProtocolOptions {
                    headers_with_underscores_action: 1,
                    ..Default::default()
                });
            },
            "common_http_protocol_options.headers_with_underscores_action: not supported, and it \
             restricts",
        ),
    ];
    for (edit, expected) in CASES {
        let mut manager = serving();
        edit(&mut manager);
        let error = decode(&server(&manager)).expect_err(expected);
        let expected = format!("filter_chains[0].filters[0].typed_config.{expected}");
        assert!(error.starts_with(&expected), "{error}");
    }
}

/// A filter for the other side is as good as unknown.
#[test]
fn sides() {
    #[derive(Debug)]
    struct OfClients;

    impl FilterDecoder for OfClients {
        fn messages(&self) -> &'static [&'static Message] {
            &[&RBAC]
        }

        fn decode(&self, _: &str, _: &Extension) -> Result<FilterConfig, FieldError> {
            Ok(FilterConfig(std::sync::Arc::new(Disabled)))
        }
    }

    let with = |is_optional| {
        let filter = WireFilter {
            is_optional,
            ..filter("x", any(&Rbac::default()))
        };
        server(&HttpConnectionManager {
            http_filters: vec![filter, router()],
            ..serving()
        })
    };
    let of_clients = FilterRegistry::standard().register(OfClients);
    let path = "filter_chains[0].filters[0].typed_config.http_filters[0].typed_config";
    let problem = "the filter \"envoy.extensions.filters.http.rbac.v3.RBAC\" is for clients only";
    assert_eq!(
        decode_server_listener(&with(false), &of_clients).unwrap_err(),
        format!("{path}: {problem}")
    );
    let (listener, findings) = decode_server_listener(&with(true), &of_clients).unwrap();
    assert_eq!(listener.chains[0].http.filters.len(), 0);
    assert_eq!(
        findings,
        [format!("{path} - {problem}; it is optional, and skipped")]
    );
    let (listener, _) = decode_server_listener(&with(false), &registry()).unwrap();
    assert_eq!(listener.chains[0].http.filters.len(), 1);
}

mod istio;

#[test]
fn a_port_that_is_the_sockets_is_stripped_if_the_manager_says_so() {
    let manager = HttpConnectionManager {
        strip_matching_host_port: true,
        ..serving()
    };
    let (listener, findings) = decode_server_listener(&server(&manager), &registry()).unwrap();
    assert_eq!(listener.chains[0].http.strip_port, StripPort::Matching);
    assert_eq!(findings.len(), 1, "{findings:?}");
    let path = "filter_chains[0].filters[0].typed_config.strip_matching_host_port";
    assert!(findings[0].starts_with(path), "{findings:?}");
}
