use envoy_types::pb::{
    envoy::config::{core::v3::ExtensionConfigSource, route::v3::RouteConfiguration},
    google::protobuf::UInt32Value,
};
use proptest::prelude::*;

use super::{
    super::fixtures::{any, manager, named_any},
    *,
};
use crate::control::xds::FilterRegistry;

fn cidr(address: &str, len: u32) -> CidrRange {
    CidrRange {
        address_prefix: address.into(),
        prefix_len: Some(UInt32Value { value: len }),
    }
}

fn hcm() -> Filter {
    Filter {
        name: "hcm".into(),
        config_type: Some(ConfigType::TypedConfig(any(&manager()))),
    }
}

fn of(wanted: WireMatch) -> WireChain {
    WireChain {
        filter_chain_match: Some(wanted),
        filters: vec![hcm()],
        ..Default::default()
    }
}

/// The chains of one listener that can match, and the paths of findings.
fn decode(wire: Vec<WireChain>) -> Result<(Vec<FilterChain>, Vec<String>), String> {
    let filters = FilterRegistry::standard();
    let mut cx = Context::new(&filters);
    let mut matches = Matches::default();
    let mut chains = Vec::new();
    for (index, wire) in wire.into_iter().enumerate() {
        let chain = cx
            .index("filter_chains", index, |cx| {
                matched(wire, index, &mut matches, &Default::default(), cx)
            })
            .map_err(|error| error.to_string())?;
        chains.extend(chain);
    }
    let mut findings = super::super::fields::Findings::default();
    cx.finish(&mut findings);
    let paths = findings.finish().into_iter().map(|finding| finding.path);
    Ok((chains, paths.collect()))
}

fn decode_one(wanted: WireMatch) -> Result<ChainMatch, String> {
    decode(vec![of(wanted)]).map(|(mut chains, _)| chains.remove(0).matcher)
}

#[test]
fn matches_are_normalised() {
    let matcher = decode_one(WireMatch {
        prefix_ranges: vec![
            cidr("10.1.2.3", 8),
            cidr("10.1.2.3", 77),
            CidrRange {
                address_prefix: "10.1.2.3".into(),
                prefix_len: None,
            },
        ],
        source_type: ConnectionSourceType::External as i32,
        source_prefix_ranges: vec![cidr("fd00:1:2::7", 32), cidr("::ffff:10.1.2.3", 112)],
        source_ports: vec![1, 65_535],
        transport_protocol: "raw_buffer".into(),
        ..Default::default()
    })
    .unwrap();
    let cidr = |address: &str, len| Cidr::new(address.parse().unwrap(), len);
    assert_eq!(
        matcher,
        ChainMatch {
            destinations: vec![
                cidr("10.0.0.0", 8),
                cidr("10.1.2.3", 32),
                cidr("0.0.0.0", 0)
            ],
            source_type: SourceType::External,
            sources: vec![cidr("fd00:1::", 32), cidr("10.1.0.0", 16)],
            source_ports: vec![1, 65_535],
        }
    );
    let none = decode(vec![WireChain {
        filters: vec![hcm()],
        ..Default::default()
    }]);
    assert_eq!(none.unwrap().0[0].matcher, ChainMatch::default());
}

#[test]
fn chains_that_never_match_are_left_out() {
    let cases = [
        (
            "destination_port",
            WireMatch {
                destination_port: Some(UInt32Value { value: 80 }),
                ..Default::default()
            },
        ),
        (
            "server_names",
            WireMatch {
                server_names: vec!["a".into()],
                ..Default::default()
            },
        ),
        (
            "application_protocols",
            WireMatch {
                application_protocols: vec!["h2".into()],
                ..Default::default()
            },
        ),
        (
            "transport_protocol",
            WireMatch {
                transport_protocol: "tls".into(),
                ..Default::default()
            },
        ),
    ];
    for (field, wanted) in cases {
        // What else it matches is no duplicate, and what it holds does not matter.
        let never = WireChain {
            filters: vec![],
            ..of(wanted)
        };
        let (chains, paths) = decode(vec![of(WireMatch::default()), never]).unwrap();
        assert_eq!(chains.len(), 1);
        assert_eq!(
            paths,
            [format!("filter_chains[1].filter_chain_match.{field}")]
        );
    }
}

#[test]
fn matches_that_are_refused() {
    let cases = [
        (
            WireMatch {
                prefix_ranges: vec![cidr("10.0.0.0", 8), cidr("ten", 8)],
                ..Default::default()
            },
            "prefix_ranges[1].address_prefix: \"ten\" is not an IP address",
        ),
        (
            WireMatch {
                source_prefix_ranges: vec![cidr("", 8)],
                ..Default::default()
            },
            "source_prefix_ranges[0].address_prefix: \"\" is not an IP address",
        ),
        (
            WireMatch {
                source_ports: vec![1, 0],
                ..Default::default()
            },
            "source_ports[1]: 0 is not a port: from 1 to 65535",
        ),
        (
            WireMatch {
                source_ports: vec![65_536],
                ..Default::default()
            },
            "source_ports[0]: 65536 is not a port: from 1 to 65535",
        ),
        (
            WireMatch {
                source_type: 3,
                ..Default::default()
            },
            "source_type: 3 is not known",
        ),
    ];
    for (wanted, expected) in cases {
        let error = decode_one(wanted).unwrap_err();
        assert_eq!(
            error,
            format!("filter_chains[0].filter_chain_match.{expected}")
        );
    }
}

#[test]
fn filters_that_are_refused() {
    let typed = |config| Filter {
        name: "f".into(),
        config_type: Some(ConfigType::TypedConfig(config)),
    };
    let discovered = Filter {
        name: "f".into(),
        config_type: Some(ConfigType::ConfigDiscovery(ExtensionConfigSource::default())),
    };
    let other = || typed(any(&RouteConfiguration::default()));
    let cases = [
        (vec![], "filters: must not be empty"),
        (
            vec![hcm(), hcm()],
            "filters[1]: a second HttpConnectionManager",
        ),
        (
            vec![other(), hcm()],
            "filters[0].typed_config: the network filter \"type.googleapis.com/envoy.config.route.\
             v3.RouteConfiguration\" is not supported",
        ),
        (
            vec![hcm(), other()],
            "filters[1].typed_config: the network filter",
        ),
        (
            vec![discovered],
            "filters[0].config_discovery: filters in resources of their own",
        ),
        (
            vec![Filter::default()],
            "filters[0].typed_config: must be set",
        ),
        (
            vec![typed(named_any(
                &format!("t/{}", HTTP_CONNECTION_MANAGER.name),
                vec![0x0a, 9],
            ))],
            "filters[0].typed_config: not a valid envoy.extensions",
        ),
    ];
    for (filters, expected) in cases {
        let chain = WireChain {
            filters,
            ..Default::default()
        };
        let error = decode(vec![chain]).unwrap_err();
        let expected = format!("filter_chains[0].{expected}");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn another_peer_than_the_one_that_connects_is_refused() {
    #[expect(deprecated, reason = "refused")]
    let chain = |value| WireChain {
        use_proxy_proto: Some(BoolValue { value }),
        ..of(WireMatch::default())
    };
    assert_eq!(
        decode(vec![chain(true)]).unwrap_err(),
        "filter_chains[0].use_proxy_proto: not supported: the peer is who connects"
    );
    decode(vec![chain(false)]).unwrap();
}

fn to(prefixes: &[(&str, u32)]) -> WireMatch {
    WireMatch {
        prefix_ranges: prefixes.iter().map(|(at, len)| cidr(at, *len)).collect(),
        ..Default::default()
    }
}

#[test]
fn chains_that_match_alike_are_refused() {
    let every = "which one takes a connection must not depend on their order";
    let at = "source type Any, source any, source port any";
    let alike = [
        (to(&[]), to(&[]), format!("destination any, {at}")),
        (
            to(&[("10.0.0.0", 8)]),
            to(&[("192.168.0.0", 16), ("10.9.9.9", 8)]),
            format!("destination 10.0.0.0/8, {at}"),
        ),
        (
            to(&[("10.0.0.1", 32)]),
            to(&[("10.0.0.1", 99)]),
            format!("destination 10.0.0.1/32, {at}"),
        ),
        (
            WireMatch {
                source_ports: vec![1, 2],
                ..to(&[("::1", 128)])
            },
            WireMatch {
                source_ports: vec![3, 2],
                ..to(&[("::1", 128)])
            },
            "destination ::1/128, source type Any, source any, source port 2".to_owned(),
        ),
    ];
    for (a, b, what) in alike {
        assert_eq!(
            decode(vec![of(a), of(b)]).unwrap_err(),
            format!(
                "filter_chains[1].filter_chain_match: matches {what}, as does filter_chains[0]: \
                 {every}"
            )
        );
    }
    // Within one chain too, as other clients have it.
    let error = decode(vec![of(to(&[("10.0.0.0", 8), ("10.1.0.0", 8)]))]).unwrap_err();
    assert!(error.contains("as does filter_chains[0]"), "{error}");
}

#[test]
fn chains_that_match_differently_are_accepted() {
    let external = WireMatch {
        source_type: ConnectionSourceType::External as i32,
        ..to(&[])
    };
    // No prefix is another thing than a prefix of no bits.
    let (chains, _) = decode(vec![
        of(to(&[])),
        of(to(&[("0.0.0.0", 0)])),
        of(to(&[("::", 0)])),
        of(external),
    ])
    .unwrap();
    assert_eq!(chains.len(), 4);
}

#[test]
fn combinations_are_limited() {
    let many =
        |count: u32| (0..count).map(|at| cidr(&format!("10.{}.{}.0", at >> 8, at & 255), 24));
    let wanted = WireMatch {
        prefix_ranges: many(1_000).collect(),
        source_prefix_ranges: many(101).collect(),
        ..Default::default()
    };
    assert_eq!(
        decode_one(wanted).unwrap_err(),
        "filter_chains[0].filter_chain_match: too much for one resource: the limit of \
         combinations in filter chain matches is 100000"
    );
}

fn some_matches() -> impl Strategy<Value = Vec<ChainMatch>> {
    let cidr = || {
        let address = prop_oneof![any_v4(), Just("fd00::1")];
        (address, 0u32..3).prop_map(|(at, len)| Cidr::new(at.parse().unwrap(), len * 4))
    };
    let types = prop_oneof![
        Just(SourceType::Any),
        Just(SourceType::SameIpOrLoopback),
        Just(SourceType::External)
    ];
    let one = (
        prop::collection::vec(cidr(), 0..3),
        types,
        prop::collection::vec(cidr(), 0..2),
        prop::collection::vec(1u16..3, 0..2),
    );
    let matcher = one.prop_map(
        |(destinations, source_type, sources, source_ports)| ChainMatch {
            destinations,
            source_type,
            sources,
            source_ports,
        },
    );
    prop::collection::vec(matcher, 1..4)
}

fn any_v4() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("10.0.0.1"), Just("192.168.0.1")]
}

/// Whether two chains, or one twice, match the same in all parts.
fn overlap(matches: &[ChainMatch]) -> bool {
    fn parts<T: Copy>(list: &[T]) -> Vec<Option<T>> {
        match list {
            [] => vec![None],
            list => list.iter().copied().map(Some).collect(),
        }
    }
    let mut all = Vec::new();
    for matcher in matches {
        for destination in parts(&matcher.destinations) {
            for source in parts(&matcher.sources) {
                for port in parts(&matcher.source_ports) {
                    all.push((destination, matcher.source_type, source, port));
                }
            }
        }
    }
    (0..all.len()).any(|at| all[..at].contains(&all[at]))
}

proptest! {
    #[test]
    fn exactly_overlapping_matches_are_refused(matches in some_matches()) {
        let filters = FilterRegistry::standard();
        let mut cx = Context::new(&filters);
        let mut seen = Matches::default();
        let mut added = matches.iter().enumerate();
        let accepted = added.all(|(index, matcher)| seen.add(matcher, index, &mut cx).is_ok());
        prop_assert_eq!(accepted, !overlap(&matches));
    }
}
