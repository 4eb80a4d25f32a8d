#![expect(
    deprecated,
    reason = "the old fields are in force where the new one is not set"
)]

use envoy_types::pb::{
    envoy::{
        config::core::v3::{Http1ProtocolOptions, UpstreamHttpProtocolOptions},
        extensions::upstreams::http::v3::http_protocol_options::{
            AutoHttpConfig, ExplicitHttpConfig, UseDownstreamHttpConfig,
        },
    },
    google::protobuf::Duration as WireDuration,
};

use super::{super::test_support::*, *};
use crate::control::xds::FilterRegistry;

/// Decodes a cluster's connections, and lists the findings.
fn connections(wire: &Cluster, tls: bool) -> Result<(Connections, Vec<String>), String> {
    let filters = FilterRegistry::standard();
    let mut cx = Context::new(&filters);
    let connections = decode(wire, tls, &mut cx).map_err(|error| error.to_string())?;
    let mut findings = super::super::fields::Findings::default();
    cx.finish(&mut findings);
    Ok((connections, lines(&findings.finish())))
}

fn http2_options() -> Http2ProtocolOptions {
    Http2ProtocolOptions {
        initial_stream_window_size: u32_value(65_535),
        initial_connection_window_size: u32_value(1 << 20),
        connection_keepalive: Some(KeepaliveSettings {
            interval: seconds(30),
            timeout: seconds(5),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn common_options() -> HttpProtocolOptions {
    HttpProtocolOptions {
        idle_timeout: seconds(60),
        ..Default::default()
    }
}

fn typed(choice: Option<Choice>) -> UpstreamOptions {
    UpstreamOptions {
        common_http_protocol_options: Some(common_options()),
        upstream_protocol_options: choice,
        ..Default::default()
    }
}

fn with(options: &UpstreamOptions) -> Cluster {
    Cluster {
        typed_extension_protocol_options: [(UPSTREAM.to_owned(), any(options))].into(),
        ..Default::default()
    }
}

fn expected() -> Connections {
    Connections {
        keepalive_interval: Some(Duration::from_secs(30)),
        keepalive_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(60),
        initial_stream_window: Some(65_535),
        initial_connection_window: Some(1 << 20),
        ..Default::default()
    }
}

#[test]
fn defaults() {
    let (connections, findings) = connections(&Cluster::default(), true).unwrap();
    assert_eq!(connections, Connections::default());
    assert!(findings.is_empty());
}

#[test]
fn the_old_fields() {
    let wire = Cluster {
        connect_timeout: seconds(7),
        common_http_protocol_options: Some(common_options()),
        http2_protocol_options: Some(http2_options()),
        ..Default::default()
    };
    let expected = Connections {
        connect_timeout: Duration::from_secs(7),
        protocol: HttpProtocol::Http2,
        ..expected()
    };
    assert_eq!(connections(&wire, false), Ok((expected, vec![])));
}

#[test]
fn the_new_field_in_all_its_forms() {
    let http2 = Some(http2_options());
    let explicit = ExplicitHttpConfig {
        protocol_config: http2.clone().map(ProtocolConfig::Http2ProtocolOptions),
    };
    let downstream = UseDownstreamHttpConfig {
        http2_protocol_options: http2.clone(),
        ..Default::default()
    };
    let auto = AutoHttpConfig {
        http2_protocol_options: http2,
        ..Default::default()
    };
    let at = format!("{TYPED}[{UPSTREAM:?}]");
    let no_downstream = format!("{at}.use_downstream_protocol_config ~ {NO_DOWNSTREAM}");
    for (choice, protocol, told) in [
        (
            Choice::ExplicitHttpConfig(explicit),
            HttpProtocol::Http2,
            vec![],
        ),
        (
            Choice::UseDownstreamProtocolConfig(downstream),
            HttpProtocol::Http2,
            vec![no_downstream],
        ),
        (Choice::AutoConfig(auto), HttpProtocol::Auto, vec![]),
    ] {
        let (connections, findings) = connections(&with(&typed(Some(choice))), true).unwrap();
        let expected = Connections {
            protocol,
            ..expected()
        };
        assert_eq!(connections, expected);
        assert_eq!(findings, told);
    }
    let http1 = ExplicitHttpConfig {
        protocol_config: Some(ProtocolConfig::HttpProtocolOptions(
            Http1ProtocolOptions::default(),
        )),
    };
    for choice in [None, Some(Choice::ExplicitHttpConfig(http1))] {
        let (connections, _) = connections(&with(&typed(choice)), false).unwrap();
        assert_eq!(connections.idle_timeout, Duration::from_secs(60));
        assert_eq!(connections.keepalive_interval, None);
        assert_eq!(connections.protocol, HttpProtocol::Http1);
    }
    let http3 = ExplicitHttpConfig {
        protocol_config: Some(ProtocolConfig::Http3ProtocolOptions(Default::default())),
    };
    for (choice, protocol) in [
        (
            Choice::UseDownstreamProtocolConfig(Default::default()),
            HttpProtocol::Http1,
        ),
        (Choice::ExplicitHttpConfig(http3), HttpProtocol::Auto),
    ] {
        let (connections, _) = connections(&with(&typed(Some(choice))), true).unwrap();
        assert_eq!(connections.protocol, protocol);
    }
}

#[test]
fn nothing_is_agreed_on_without_tls() {
    let auto = with(&typed(Some(Choice::AutoConfig(Default::default()))));
    let (connections, findings) = connections(&auto, false).unwrap();
    assert_eq!(connections.protocol, HttpProtocol::Auto);
    let start = format!("{TYPED}[{UPSTREAM:?}].auto_config ~ nothing is agreed on");
    assert!(
        matches!(&findings[..], [finding] if finding.starts_with(&start)),
        "{findings:?}"
    );
}

#[test]
fn the_downstream_protocol_of_the_old_field() {
    let wire = Cluster {
        protocol_selection: ClusterProtocolSelection::UseDownstreamProtocol as i32,
        ..Default::default()
    };
    let (connections, findings) = connections(&wire, false).unwrap();
    assert_eq!(connections.protocol, HttpProtocol::Http1);
    assert_eq!(findings, [format!("protocol_selection ~ {NO_DOWNSTREAM}")]);
}

#[test]
fn requests_of_a_connection_are_limited_in_two_places() {
    let common = |limit| HttpProtocolOptions {
        max_requests_per_connection: u32_value(limit),
        ..Default::default()
    };
    let typed = |limit| UpstreamOptions {
        common_http_protocol_options: Some(common(limit)),
        ..Default::default()
    };
    let both = format!(
        "max_requests_per_connection - {}",
        "that of the HTTP protocol options is in force"
    );
    for (old, options, expected, told) in [
        (None, Cluster::default(), None, None),
        (Some(5), Cluster::default(), Some(5), None),
        (Some(0), Cluster::default(), None, None),
        (None, with(&typed(3)), Some(3), None),
        (None, with(&typed(0)), None, None),
        (Some(5), with(&typed(3)), Some(3), Some(&both)),
        (Some(5), with(&typed(0)), None, Some(&both)),
        (Some(5), with(&UpstreamOptions::default()), Some(5), None),
        (
            Some(5),
            Cluster {
                common_http_protocol_options: Some(common(4)),
                ..Default::default()
            },
            Some(4),
            Some(&both),
        ),
    ] {
        let wire = Cluster {
            max_requests_per_connection: old.and_then(u32_value),
            ..options
        };
        let (connections, findings) = connections(&wire, false).unwrap();
        assert_eq!(connections.max_requests, expected);
        assert_eq!(findings, told.into_iter().cloned().collect::<Vec<_>>());
    }
}

#[test]
fn the_new_field_replaces_the_old_ones() {
    let wire = Cluster {
        common_http_protocol_options: Some(HttpProtocolOptions::default()),
        http2_protocol_options: Some(http2_options()),
        upstream_http_protocol_options: Some(UpstreamHttpProtocolOptions {
            auto_san_validation: true,
            ..Default::default()
        }),
        ..with(&typed(None))
    };
    let (connections, findings) = connections(&wire, true).unwrap();
    assert_eq!(connections.keepalive_interval, None);
    assert_eq!(
        findings,
        [
            "common_http_protocol_options - typed_extension_protocol_options is in force",
            "http2_protocol_options - typed_extension_protocol_options is in force",
            "upstream_http_protocol_options - typed_extension_protocol_options is in force",
        ]
    );
}

#[test]
fn a_wrong_key_is_reported() {
    let mut wire = with(&typed(None));
    let options = wire
        .typed_extension_protocol_options
        .remove(UPSTREAM)
        .unwrap();
    wire.typed_extension_protocol_options
        .insert("http".into(), options);
    let (connections, findings) = connections(&wire, true).unwrap();
    assert_eq!(connections, Connections::default());
    assert_eq!(
        findings,
        [
            "typed_extension_protocol_options[\"http\"] - options of this type are read under the \
             key \"envoy.extensions.upstreams.http.v3.HttpProtocolOptions\""
        ]
    );
}

#[test]
fn zero_turns_off() {
    let wire = Cluster {
        common_http_protocol_options: Some(HttpProtocolOptions {
            idle_timeout: seconds(0),
            ..Default::default()
        }),
        http2_protocol_options: Some(Http2ProtocolOptions {
            connection_keepalive: Some(KeepaliveSettings {
                interval: seconds(0),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let (connections, _) = connections(&wire, false).unwrap();
    assert_eq!(connections.idle_timeout, Duration::ZERO);
    assert_eq!(connections.keepalive_interval, None);
}

#[test]
fn refusals() {
    type Case = (fn(&mut Cluster), &'static str);
    fn http2(wire: &mut Cluster, edit: impl FnOnce(&mut Http2ProtocolOptions)) {
        edit(wire.http2_protocol_options.insert(http2_options()));
    }
    fn keepalive(options: &mut Http2ProtocolOptions) -> &mut KeepaliveSettings {
        options.connection_keepalive.as_mut().unwrap()
    }
    const CASES: &[Case] = &[
        (
            |wire| wire.connect_timeout = seconds(0),
            "connect_timeout: must be more than zero",
        ),
        (
            |wire| wire.connect_timeout = seconds(-1),
            "connect_timeout: a negative duration",
        ),
        (
            |wire| {
                wire.common_http_protocol_options = Some(HttpProtocolOptions {
                    idle_timeout: seconds(-1),
                    ..Default::default()
                });
            },
            "common_http_protocol_options.idle_timeout: a negative duration",
        ),
        (
            |wire| {
                http2(wire, |options| {
                    options.initial_stream_window_size = u32_value(65_534)
                })
            },
            "http2_protocol_options.initial_stream_window_size: must be from 65535 to 2147483647, \
             not 65534",
        ),
        (
            |wire| {
                http2(wire, |options| {
                    options.initial_connection_window_size = u32_value(1 << 31);
                });
            },
            "http2_protocol_options.initial_connection_window_size: must be from 65535 to \
             2147483647, not 2147483648",
        ),
        (
            |wire| {
                http2(wire, |options| {
                    keepalive(options).interval = Some(WireDuration {
                        seconds: 0,
                        nanos: 999_999,
                    });
                });
            },
            "http2_protocol_options.connection_keepalive.interval: must be at least 1 ms",
        ),
        (
            |wire| http2(wire, |options| keepalive(options).timeout = seconds(0)),
            "http2_protocol_options.connection_keepalive.timeout: must be at least 1 ms",
        ),
        (
            |wire| {
                let auto = AutoHttpConfig {
                    http2_protocol_options: Some(Http2ProtocolOptions {
                        initial_stream_window_size: u32_value(0),
                        ..Default::default()
                    }),
                    ..Default::default()
                };
                *wire = with(&typed(Some(Choice::AutoConfig(auto))));
            },
            "typed_extension_protocol_options\
             [\"envoy.extensions.upstreams.http.v3.HttpProtocolOptions\"].auto_config.\
             http2_protocol_options.initial_stream_window_size: must be from 65535 to 2147483647, \
             not 0",
        ),
        (
            |wire| {
                wire.typed_extension_protocol_options
                    .insert(UPSTREAM.to_owned(), any(&KeepaliveSettings::default()));
            },
            "typed_extension_protocol_options\
             [\"envoy.extensions.upstreams.http.v3.HttpProtocolOptions\"]: must be of type \
             envoy.extensions.upstreams.http.v3.HttpProtocolOptions, not \
             \"type.googleapis.com/envoy.config.core.v3.KeepaliveSettings\"",
        ),
    ];
    for (edit, expected) in CASES {
        let mut wire = Cluster::default();
        edit(&mut wire);
        assert_eq!(connections(&wire, false).expect_err(expected), *expected);
    }
}

#[test]
fn names_that_tls_should_check_are_not_left_unchecked() {
    let checked = UpstreamHttpProtocolOptions {
        auto_san_validation: true,
        ..Default::default()
    };
    let old = Cluster {
        upstream_http_protocol_options: Some(checked.clone()),
        ..Default::default()
    };
    let new = with(&UpstreamOptions {
        upstream_http_protocol_options: Some(checked),
        ..Default::default()
    });
    for wire in [old, new] {
        assert!(connections(&wire, false).is_ok());
        let error = connections(&wire, true).unwrap_err();
        assert!(
            error.ends_with(
                "upstream_http_protocol_options.auto_san_validation: not supported: use \
                 auto_sni_san_validation of the TLS context"
            ),
            "{error}"
        );
    }
}
