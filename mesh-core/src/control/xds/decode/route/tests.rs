use std::time::Duration;

use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::RuntimeFractionalPercent,
            route::v3::{
                FilterAction, HeaderMatcher as WireHeader, NonForwardingAction,
                QueryParameterMatcher, header_matcher,
                query_parameter_matcher::QueryParameterMatchSpecifier,
            },
        },
        r#type::{
            matcher::v3::{StringMatcher as WireString, string_matcher::MatchPattern},
            v3::FractionalPercent,
        },
    },
    google::protobuf::BoolValue,
};

use super::{super::fixtures::*, *};
use crate::config::{
    FilterConfig, Forward, Fraction, HeaderMatch, HeaderMatcher, HttpForward, QueryMatch,
    QueryMatcher, Regex, RetryOn, StringMatch, StringMatcher, Treatment, WeightedCluster,
};

fn decode(wire: RouteConfiguration) -> Result<RouteConfig, FieldError> {
    decode_routes(wire).map(|(config, _)| config)
}

fn fraction(numerator: u32, denominator: i32) -> Option<RuntimeFractionalPercent> {
    Some(RuntimeFractionalPercent {
        default_value: Some(FractionalPercent {
            numerator,
            denominator,
        }),
        ..Default::default()
    })
}

#[test]
fn an_istio_like_configuration() {
    let (config, findings) = decode_routes(istio_like()).unwrap();
    let prefix = |headers| RouteMatch {
        path: PathMatcher::Prefix {
            prefix: "/".into(),
            ignore_case: false,
        },
        headers,
        query: vec![],
        fraction: None,
    };
    let cluster = |name: &str, weight| WeightedCluster {
        name: name.into(),
        weight,
        overrides: Default::default(),
        headers: Default::default(),
        host_rewrite: None,
    };
    let forward = |clusters| Forward {
        clusters,
        retry: None,
        max_stream_duration: None,
        grpc_timeout_header_max: None,
        http: Default::default(),
    };
    let route = |name: &str, headers, forward| Route {
        name: name.into(),
        matcher: prefix(headers),
        action: RouteAction::Forward(forward),
        overrides: Default::default(),
        headers: Default::default(),
    };
    let faults: FilterConfig = {
        let filters = crate::control::xds::FilterRegistry::standard();
        let name = "envoy.extensions.filters.http.fault.v3.HTTPFault";
        let decoder = filters.get(name).unwrap();
        let config = super::super::Extension::Message(every_fault().value);
        decoder.decode(name, &config).unwrap()
    };
    let canary = Forward {
        http: HttpForward {
            timeout: None,
            ..Default::default()
        },
        max_stream_duration: Some(Duration::from_secs(2)),
        grpc_timeout_header_max: Some(Duration::ZERO),
        ..forward(vec![cluster(
            "outbound|8080|v2|greeter.shop.svc.cluster.local",
            1,
        )])
    };
    let split = Forward {
        retry: Some(Arc::new(RetryPolicy {
            on: RetryOn {
                unavailable: true,
                cancelled: true,
                connect_failure: true,
                refused_stream: true,
                ..Default::default()
            },
            retries: 2,
            base_interval: Duration::from_millis(25),
            max_interval: Duration::from_millis(250),
            http: Default::default(),
        })),
        ..forward(vec![
            cluster("outbound|8080|v1|greeter.shop.svc.cluster.local", 90),
            WeightedCluster {
                overrides: [("fault".into(), faults)].into(),
                ..cluster("outbound|8080|v2|greeter.shop.svc.cluster.local", 10)
            },
        ])
    };
    let by_header = HeaderMatcher {
        name: "x-canary".into(),
        test: HeaderMatch::Value(StringMatcher::new(
            StringMatch::Regex(Regex::new("v[0-9]+").unwrap()),
            false,
        )),
        invert: false,
        treat_missing_as_empty: false,
    };
    let expected = RouteConfig {
        name: "8080".into(),
        virtual_hosts: vec![
            VirtualHost {
                name: "greeter.shop.svc.cluster.local:8080".into(),
                domains: vec![
                    Domain::Exact("greeter.shop.svc.cluster.local".into()),
                    Domain::Exact("greeter.shop:8080".into()),
                    Domain::Prefix("greeter.".into()),
                    Domain::Suffix(".shop".into()),
                ],
                routes: vec![
                    route("canary", vec![by_header], canary).into(),
                    route("", vec![], split).into(),
                ],
                overrides: Default::default(),
                headers: Default::default(),
            },
            VirtualHost {
                name: "".into(),
                domains: vec![Domain::Any],
                routes: vec![route("", vec![], forward(vec![cluster("c", 1)])).into()],
                overrides: Default::default(),
                headers: Default::default(),
            },
        ],
        headers: Default::default(),
        most_specific_wins: false,
        ignore_port: false,
    };
    assert_eq!(config, expected);

    let found: Vec<_> = findings
        .iter()
        .map(|finding| (finding.path.as_str(), finding.treatment))
        .collect();
    assert_eq!(
        found,
        [
            (
                "virtual_hosts[0].routes[0].route.timeout",
                Treatment::HttpOnly
            ),
            (
                "virtual_hosts[0].include_request_attempt_count",
                Treatment::Ignored
            ),
            (
                "virtual_hosts[0].routes[1].route.retry_policy.retry_on",
                Treatment::Approximated
            ),
        ]
    );
    assert_eq!(
        findings[2].note,
        "not a condition that is known here: 503; gRPC retries its status codes only (gRFC A44), \
         not connect-failure, refused-stream"
    );
}

#[test]
fn domains_that_are_refused() {
    for (domain, problem) in [
        ("", "must not be empty"),
        ("a*b", "invalid pattern"),
        ("*a*", "invalid pattern"),
        ("**", "invalid pattern"),
        ("a**", "invalid pattern"),
    ] {
        let mut wire = routes(vec![]);
        wire.virtual_hosts = vec![host(&["ok", domain], vec![])];
        let error = decode(wire).unwrap_err();
        assert_eq!(error.path(), "virtual_hosts[0].domains[1]");
        assert!(error.problem().starts_with(problem), "{domain}: {error}");
    }
    for (domains, path, problem) in [
        (
            [&[][..], &["a"]],
            "virtual_hosts[0].domains",
            "must not be empty",
        ),
        (
            [&["a"][..], &["b", "A"]],
            "virtual_hosts[1].domains[1]",
            "is a domain of virtual_hosts[0] already",
        ),
        (
            [&["*"][..], &["*"]],
            "virtual_hosts[1].domains[0]",
            "is a domain of virtual_hosts[0] already",
        ),
        (
            [&["a*", "a*"][..], &[]],
            "virtual_hosts[0].domains[1]",
            "is a domain of virtual_hosts[0] already",
        ),
    ] {
        let mut wire = routes(vec![]);
        wire.virtual_hosts = domains.map(|domains| host(domains, vec![])).into();
        let error = decode(wire).unwrap_err();
        assert_eq!((error.path(), error.problem()), (path, problem));
    }
}

#[test]
fn paths_and_fractions() {
    let of = |wire| decode_one(route_of(wire)).unwrap().0.unwrap().matcher;
    let wire = WireMatch {
        path_specifier: Some(PathSpecifier::Path("/Svc/Method".into())),
        case_sensitive: Some(BoolValue { value: false }),
        ..Default::default()
    };
    assert_eq!(
        of(wire).path,
        PathMatcher::Exact {
            path: "/svc/method".into(),
            ignore_case: true,
        }
    );
    let wire = WireMatch {
        path_specifier: Some(PathSpecifier::SafeRegex(wire_regex("/A.*"))),
        case_sensitive: Some(BoolValue { value: false }),
        ..Default::default()
    };
    assert_eq!(
        of(wire).path,
        PathMatcher::Regex(Regex::new("/A.*").unwrap())
    );
    for sensitive in [true, false] {
        let wire = WireMatch {
            path_specifier: Some(PathSpecifier::PathSeparatedPrefix("/Api".into())),
            case_sensitive: Some(BoolValue { value: sensitive }),
            ..Default::default()
        };
        let expected = PathMatcher::Segments {
            prefix: if sensitive { "/Api" } else { "/api" }.into(),
            ignore_case: !sensitive,
        };
        assert_eq!(of(wire).path, expected);
    }
    for (numerator, denominator, parts) in [
        (30, 0, 300_000),
        (30, 1, 3_000),
        (30, 2, 30),
        (101, 0, 1_000_000),
        (u32::MAX, 0, 1_000_000),
        (0, 0, 0),
    ] {
        let wire = WireMatch {
            runtime_fraction: fraction(numerator, denominator),
            ..prefix("/")
        };
        assert_eq!(of(wire).fraction, Some(Fraction::per_million(parts)));
    }
}

#[test]
fn query_parameters_are_decoded_and_never_refuse_a_resource() {
    use QueryParameterMatchSpecifier as By;
    let wire = |specifier, path: Option<PathSpecifier>| {
        route_of(WireMatch {
            path_specifier: path,
            query_parameters: vec![QueryParameterMatcher {
                name: "Q".into(),
                query_parameter_match_specifier: specifier,
            }],
            ..Default::default()
        })
    };
    let all = || Some(PathSpecifier::Prefix("/".into()));
    let exact = || {
        By::StringMatch(WireString {
            match_pattern: Some(MatchPattern::Exact("v".into())),
            ..Default::default()
        })
    };
    let v = StringMatcher::new(StringMatch::Exact("v".into()), false);
    for (specifier, test) in [
        (None, QueryMatch::Present(true)),
        (Some(By::PresentMatch(true)), QueryMatch::Present(true)),
        (Some(By::PresentMatch(false)), QueryMatch::Present(false)),
        (Some(exact()), QueryMatch::Value(v)),
    ] {
        let (route, findings) = decode_one(wire(specifier, all())).unwrap();
        let name = "Q".into();
        assert_eq!(route.unwrap().matcher.query, [QueryMatcher { name, test }]);
        assert_eq!(findings, []);
    }
    for (wire, path) in [
        (wire(Some(exact()), None), "match.path_specifier"),
        (
            wire(Some(By::StringMatch(WireString::default())), all()),
            "match.query_parameters[0].string_match.match_pattern",
        ),
    ] {
        let (route, findings) = decode_one(wire).unwrap();
        assert_eq!(route, None);
        let expected = format!("virtual_hosts[0].routes[0].{path}");
        assert_eq!(findings[0].path, expected);
        assert!(findings[0].note.starts_with("the route is skipped: "));
    }
}

#[test]
fn other_actions_are_accepted() {
    let action = Some(Action::FilterAction(FilterAction::default()));
    let expected = RouteAction::Unsupported("filter_action");
    let wire = WireRoute {
        action,
        ..any_route()
    };
    let (route, findings) = decode_one(wire).unwrap();
    assert_eq!(route.unwrap().action, expected);
    assert_eq!(findings[0].treatment, Treatment::Approximated);
    let wire = WireRoute {
        action: None,
        ..any_route()
    };
    let (route, _) = decode_one(wire).unwrap();
    let expected = RouteAction::Unsupported("an unknown action");
    assert_eq!(route.unwrap().action, expected);
}

#[test]
fn what_servers_serve() {
    let wire = WireRoute {
        action: Some(Action::NonForwardingAction(NonForwardingAction {})),
        ..any_route()
    };
    let (route, findings) = decode_one(wire).unwrap();
    assert_eq!(route.unwrap().action, RouteAction::NonForwarding);
    assert_eq!(findings, []);
}

#[test]
fn what_restricts_access_is_refused() {
    let mut wire = routes(vec![any_route()]);
    wire.virtual_hosts[0].require_tls = 2;
    let error = decode(wire).unwrap_err();
    assert_eq!(error.path(), "virtual_hosts[0].require_tls");
}

#[test]
fn what_one_resource_holds_is_bounded() {
    let mut wire = routes(vec![]);
    wire.virtual_hosts = vec![WireHost::default(); Limit::VirtualHosts.most() + 1];
    let error = decode(wire).unwrap_err();
    assert_eq!(error.path(), "virtual_hosts");
    assert_eq!(
        error.problem(),
        "too much for one resource: the limit of virtual hosts is 100000"
    );

    let header = WireHeader {
        name: "h".into(),
        header_match_specifier: Some(header_matcher::HeaderMatchSpecifier::PresentMatch(true)),
        ..Default::default()
    };
    let half = route_of(WireMatch {
        headers: vec![header; Limit::Matchers.most() / 2 + 1],
        ..prefix("/")
    });
    let error = decode(routes(vec![half.clone(), half])).unwrap_err();
    assert_eq!(error.path(), "virtual_hosts[0].routes[1].match.headers");
    assert!(
        error
            .problem()
            .contains("header and query matchers is 500000")
    );
}

#[test]
fn ports_that_do_not_count() {
    for ignore_port in [false, true] {
        let wire = RouteConfiguration {
            name: "r".into(),
            ignore_port_in_host_matching: ignore_port,
            ..Default::default()
        };
        let (config, findings) = decode_routes(wire).unwrap();
        assert_eq!(config.ignore_port, ignore_port);
        let told: Vec<_> = findings
            .iter()
            .map(|finding| (finding.path.as_str(), finding.treatment))
            .collect();
        let expected = [("ignore_port_in_host_matching", Treatment::HttpOnly)];
        assert_eq!(told, expected[..usize::from(ignore_port)]);
    }
}
