use envoy_types::pb::envoy::{
    config::{
        core::v3::{Address, SelfConfigSource, TypedExtensionConfig},
        listener::v3::FilterChain,
        route::v3::RouteConfiguration,
    },
    extensions::filters::network::http_connection_manager::v3::ScopedRoutes,
};
use envoy_types::pb::google::protobuf::Duration as WireDuration;
use proptest::prelude::*;
use prost::Message as _;
use std::time::Duration;

use super::{
    super::fixtures::{self, *},
    *,
};
use crate::{config::Treatment, control::xds::FilterRegistry};

fn decode(wire: WireListener) -> Result<Listener, FieldError> {
    decode_listener(wire, &FilterRegistry::standard()).map(|(listener, _)| listener)
}

#[test]
fn an_istio_like_listener() {
    let wire = WireListener {
        address: Some(Address::default()),
        traffic_direction: 2,
        ..api_listener(
            "greeter.shop.svc.cluster.local:8080",
            HttpConnectionManager {
                stat_prefix: "outbound|8080||greeter.shop.svc.cluster.local".into(),
                common_http_protocol_options: Some(HttpProtocolOptions {
                    max_stream_duration: Some(millis(1_500)),
                    ..Default::default()
                }),
                ..manager()
            },
        )
    };
    let (listener, findings) = decode_listener(wire, &FilterRegistry::standard()).unwrap();
    assert_eq!(
        listener,
        Listener {
            name: "greeter.shop.svc.cluster.local:8080".into(),
            http: HttpManager {
                routes: RouteSource::Named("routes".into()),
                filters: [].into(),
                max_stream_duration: Some(Duration::from_millis(1_500)),
                stream_idle_timeout: Some(Duration::from_secs(300)),
                upgrades: Vec::new(),
                strip_port: Default::default(),
            },
        }
    );
    let paths: Vec<_> = findings
        .iter()
        .map(|finding| (finding.path.as_str(), finding.treatment))
        .collect();
    assert_eq!(
        paths,
        [
            ("address", Treatment::Ignored),
            ("traffic_direction", Treatment::Ignored),
            ("api_listener.api_listener.stat_prefix", Treatment::Ignored),
        ]
    );
}

#[test]
fn routes_may_be_inline_or_from_the_same_server() {
    let inline = decode(api_listener(
        "l",
        HttpConnectionManager {
            route_specifier: Some(RouteSpecifier::RouteConfig(routes(vec![any_route()]))),
            ..manager()
        },
    ))
    .unwrap();
    let RouteSource::Inline(config) = inline.http.routes else {
        panic!("{inline:?}");
    };
    assert_eq!(config.virtual_hosts[0].routes.len(), 1);

    let from_self = decode(api_listener(
        "l",
        HttpConnectionManager {
            route_specifier: Some(RouteSpecifier::Rds(Rds {
                config_source: Some(ConfigSource {
                    config_source_specifier: Some(ConfigSourceSpecifier::Self_(
                        SelfConfigSource::default(),
                    )),
                    ..Default::default()
                }),
                route_config_name: "r".into(),
            })),
            ..manager()
        },
    ))
    .unwrap();
    assert_eq!(from_self.http.routes, RouteSource::Named("r".into()));
}

#[test]
fn what_is_refused() {
    let of = |change: &dyn Fn(&mut HttpConnectionManager)| {
        let mut manager = manager();
        change(&mut manager);
        api_listener("l", manager)
    };
    let rds = |config_source, name: &str| {
        RouteSpecifier::Rds(Rds {
            config_source,
            route_config_name: name.to_owned(),
        })
    };
    let mut cases = vec![
        (
            WireListener {
                filter_chains: vec![FilterChain::default()],
                ..Default::default()
            },
            "address",
            "must be set for a server, or api_listener for a client",
        ),
        (
            WireListener {
                api_listener: Some(ApiListener::default()),
                ..Default::default()
            },
            "api_listener.api_listener",
            "must be set",
        ),
        (
            WireListener {
                api_listener: Some(ApiListener {
                    api_listener: Some(fixtures::any(&RouteConfiguration::default())),
                }),
                ..Default::default()
            },
            "api_listener.api_listener",
            "must be of type envoy.extensions.filters.network.http_connection_manager.v3.\
             HttpConnectionManager, not",
        ),
        (
            WireListener {
                api_listener: Some(ApiListener {
                    api_listener: Some(named_any(
                        &format!("type.googleapis.com/{}", HTTP_CONNECTION_MANAGER.name),
                        vec![0x0a, 0x7f],
                    )),
                }),
                ..Default::default()
            },
            "api_listener.api_listener",
            "not a valid envoy.extensions",
        ),
    ];
    type Change = Box<dyn Fn(&mut HttpConnectionManager)>;
    let changes: Vec<(Change, _, _)> = vec![
        (
            Box::new(|manager| manager.xff_num_trusted_hops = 2),
            "xff_num_trusted_hops",
            "must be 0, not 2",
        ),
        (
            Box::new(|manager| {
                manager.original_ip_detection_extensions = vec![TypedExtensionConfig::default()];
            }),
            "original_ip_detection_extensions",
            "must be empty",
        ),
        (
            Box::new(|manager| manager.route_specifier = None),
            "route_specifier",
            "rds or route_config must be set",
        ),
        (
            Box::new(|manager| {
                let scoped = RouteSpecifier::ScopedRoutes(ScopedRoutes::default());
                manager.route_specifier = Some(scoped);
            }),
            "scoped_routes",
            "not supported",
        ),
        (
            Box::new(move |manager| manager.route_specifier = Some(rds(None, "r"))),
            "rds.config_source",
            "must be ads or self",
        ),
        (
            Box::new(move |manager| {
                let file = ConfigSource {
                    config_source_specifier: Some(ConfigSourceSpecifier::PathConfigSource(
                        Default::default(),
                    )),
                    ..Default::default()
                };
                manager.route_specifier = Some(rds(Some(file), "r"));
            }),
            "rds.config_source",
            "must be ads or self",
        ),
        (
            Box::new(move |manager| manager.route_specifier = Some(rds(Some(ads()), ""))),
            "rds.route_config_name",
            "must not be empty",
        ),
        (
            Box::new(|manager| {
                let routes = routes(vec![Default::default()]);
                manager.route_specifier = Some(RouteSpecifier::RouteConfig(routes));
            }),
            "route_config.virtual_hosts[0].routes[0].match",
            "must be set",
        ),
        (
            Box::new(|manager| {
                manager.common_http_protocol_options = Some(HttpProtocolOptions {
                    max_stream_duration: Some(WireDuration {
                        seconds: -1,
                        nanos: 0,
                    }),
                    ..Default::default()
                });
            }),
            "common_http_protocol_options.max_stream_duration",
            "a negative duration",
        ),
        (
            Box::new(|manager| manager.http_filters = vec![]),
            "http_filters",
            "must not be empty",
        ),
    ];
    let paths: Vec<_> = changes
        .iter()
        .map(|(_, path, _)| format!("api_listener.api_listener.{path}"))
        .collect();
    for ((change, _, problem), path) in changes.iter().zip(&paths) {
        cases.push((of(change), path, problem));
    }
    for (wire, path, problem) in cases {
        let error = decode(wire).unwrap_err();
        assert_eq!(error.path(), path, "{error}");
        assert!(error.problem().starts_with(problem), "{error}");
    }
}

/// A listener with all that has a decoder, to be damaged.
fn rich() -> Vec<u8> {
    let wire = api_listener(
        "l",
        HttpConnectionManager {
            route_specifier: Some(RouteSpecifier::RouteConfig(istio_like())),
            http_filters: vec![filter("fault", every_fault()), router()],
            ..manager()
        },
    );
    wire.encode_to_vec()
}

#[test]
fn the_rich_listener_is_valid() {
    let wire = WireListener::decode(rich().as_slice()).unwrap();
    decode(wire).unwrap();
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(prop::num::u8::ANY, 0..200)) {
        if let Ok(wire) = WireListener::decode(bytes.as_slice()) {
            let _ = decode(wire);
        }
        let manager = named_any(HTTP_CONNECTION_MANAGER.name, bytes);
        let _ = decode(WireListener {
            api_listener: Some(ApiListener { api_listener: Some(manager) }),
            ..Default::default()
        });
    }

    #[test]
    fn no_damage_panics(
        damage in proptest::collection::vec((proptest::arbitrary::any::<prop::sample::Index>(), prop::num::u8::ANY), 1..8)
    ) {
        let mut bytes = rich();
        for (index, byte) in damage {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if let Ok(wire) = WireListener::decode(bytes.as_slice()) {
            let _ = decode(wire);
        }
    }
}

#[test]
fn what_is_in_force_under_http_semantics() {
    use envoy_types::pb::{
        envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::UpgradeConfig,
        google::protobuf::BoolValue,
    };
    let upgrade = |kind: &str, enabled: Option<bool>, filters: Vec<_>| UpgradeConfig {
        upgrade_type: kind.to_owned(),
        enabled: enabled.map(|value| BoolValue { value }),
        filters,
    };
    let decode = |timeout: i32, upgrade_configs| {
        let manager = HttpConnectionManager {
            stream_idle_timeout: Some(millis(timeout)),
            upgrade_configs,
            ..manager()
        };
        decode_listener(api_listener("l", manager), &FilterRegistry::standard())
    };
    let upgrades = vec![
        upgrade("websocket", None, vec![]),
        upgrade("a", Some(false), vec![]),
        upgrade("b", None, vec![router()]),
    ];
    let (listener, findings) = decode(1_500, upgrades).unwrap();
    let http = listener.http;
    assert_eq!(http.stream_idle_timeout, Some(Duration::from_millis(1_500)));
    let expected = [
        ("websocket".into(), true),
        ("a".into(), false),
        ("b".into(), false),
    ];
    assert_eq!(http.upgrades, expected);
    let mut told: Vec<_> = findings
        .iter()
        .map(|finding| (finding.path.rsplit('.').next().unwrap(), finding.treatment))
        .collect();
    told.sort_by_key(|&(path, _)| path);
    assert_eq!(
        told,
        [
            ("stream_idle_timeout", Treatment::HttpOnly),
            ("upgrade_configs", Treatment::HttpOnly),
            ("upgrade_configs[2]", Treatment::Ignored),
        ]
    );
    let (listener, _) = decode(0, vec![]).unwrap();
    assert_eq!(listener.http.stream_idle_timeout, None);

    let at = "api_listener.api_listener";
    let error = decode(-1, vec![]).unwrap_err();
    assert_eq!(error.path(), format!("{at}.stream_idle_timeout"));
    let error = decode(1, vec![upgrade("a b", None, vec![])]).unwrap_err();
    let path = format!("{at}.upgrade_configs[0].upgrade_type");
    assert_eq!(error.path(), path);
}

#[test]
fn ports_that_are_stripped() {
    let both = ("strip_any_host_port", Treatment::HttpOnly);
    let own = ("strip_matching_host_port", Treatment::Ignored);
    for (matching, every, expected, told) in [
        (false, None, StripPort::Never, vec![]),
        (false, Some(false), StripPort::Never, vec![]),
        (false, Some(true), StripPort::Any, vec![both]),
        (true, None, StripPort::Matching, vec![own]),
        (true, Some(true), StripPort::Any, vec![both, own]),
    ] {
        let manager = HttpConnectionManager {
            strip_matching_host_port: matching,
            strip_port_mode: every.map(StripPortMode::StripAnyHostPort),
            ..manager()
        };
        let wire = api_listener("l", manager);
        let (listener, findings) = decode_listener(wire, &FilterRegistry::standard()).unwrap();
        assert_eq!(listener.http.strip_port, expected);
        let found: Vec<_> = (findings.iter())
            .map(|finding| (finding.path.rsplit('.').next().unwrap(), finding.treatment))
            .filter(|(path, _)| path.starts_with("strip"))
            .collect();
        assert_eq!(found, told);
    }
}
