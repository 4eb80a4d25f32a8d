use std::time::Duration;

use envoy_types::pb::{
    envoy::config::route::v3::{
        DirectResponseAction, FilterAction, HeaderMatcher as WireHeader, NonForwardingAction,
        QueryParameterMatcher, RedirectAction, RetryPolicy as WireRetry, RouteAction as WireAction,
        WeightedCluster as WireClusters, header_matcher,
        query_parameter_matcher::QueryParameterMatchSpecifier,
        retry_policy::RetryBackOff,
        route_action::{ClusterSpecifier, MaxStreamDuration},
        route_match::ConnectMatcher,
        weighted_cluster::ClusterWeight,
    },
    envoy::{
        config::core::v3::RuntimeFractionalPercent,
        r#type::{
            matcher::v3::{
                RegexMatcher, StringMatcher as WireString, string_matcher::MatchPattern,
            },
            v3::{FractionalPercent, Int64Range},
        },
    },
    google::protobuf::{BoolValue, Duration as WireDuration, UInt32Value},
};

use super::{super::fixtures::*, *};
use crate::config::{
    FilterConfig, Finding, Forward, Fraction, HeaderMatch, HeaderMatcher, QueryMatcher, Regex,
    RetryOn, StringMatch, StringMatcher, Treatment, WeightedCluster,
};

fn decode(wire: RouteConfiguration) -> Result<RouteConfig, FieldError> {
    decode_routes(wire).map(|(config, _)| config)
}

/// The only route of a configuration, if it is not skipped.
fn decode_one(wire: WireRoute) -> Result<(Option<Route>, Vec<Finding>), FieldError> {
    let (config, findings) = decode_routes(routes(vec![wire]))?;
    let mut hosts = config.virtual_hosts;
    Ok((hosts.remove(0).routes.pop(), findings))
}

fn action_of(action: WireAction) -> Result<Forward, FieldError> {
    match decode_one(route_to(action))?.0.map(|route| route.action) {
        Some(RouteAction::Forward(forward)) => Ok(forward),
        other => panic!("{other:?}"),
    }
}

fn to_cluster(name: &str) -> Option<ClusterSpecifier> {
    Some(ClusterSpecifier::Cluster(name.to_owned()))
}

fn retry_of(policy: WireRetry) -> Result<Option<Arc<RetryPolicy>>, FieldError> {
    let action = WireAction {
        cluster_specifier: to_cluster("c"),
        retry_policy: Some(policy),
        ..Default::default()
    };
    action_of(action).map(|forward| forward.retry)
}

fn regex(source: &str) -> RegexMatcher {
    RegexMatcher {
        regex: source.to_owned(),
        ..Default::default()
    }
}

fn wire_string(pattern: MatchPattern) -> WireString {
    WireString {
        match_pattern: Some(pattern),
        ..Default::default()
    }
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

fn weights(weights: &[u32]) -> Option<ClusterSpecifier> {
    let clusters = weights
        .iter()
        .enumerate()
        .map(|(index, &weight)| ClusterWeight {
            name: format!("c{index}"),
            weight: Some(UInt32Value { value: weight }),
            ..Default::default()
        })
        .collect();
    Some(ClusterSpecifier::WeightedClusters(WireClusters {
        clusters,
        ..Default::default()
    }))
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
    };
    let forward = |clusters| Forward {
        clusters,
        retry: None,
        max_stream_duration: None,
        grpc_timeout_header_max: None,
    };
    let route = |name: &str, headers, forward| Route {
        name: name.into(),
        matcher: prefix(headers),
        action: RouteAction::Forward(forward),
        overrides: Default::default(),
    };
    let faults: FilterConfig = {
        let filters = FilterRegistry::standard();
        let name = "envoy.extensions.filters.http.fault.v3.HTTPFault";
        let decoder = filters.get(name).unwrap();
        let config = super::super::Extension::Message(every_fault().value);
        decoder.decode(name, &config).unwrap()
    };
    let canary = Forward {
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
                ..Default::default()
            },
            retries: 2,
            base_interval: Duration::from_millis(25),
            max_interval: Duration::from_millis(250),
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
                    route("canary", vec![by_header], canary),
                    route("", vec![], split),
                ],
                overrides: Default::default(),
            },
            VirtualHost {
                name: "".into(),
                domains: vec![Domain::Any],
                routes: vec![route("", vec![], forward(vec![cluster("c", 1)]))],
                overrides: Default::default(),
            },
        ],
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
                "virtual_hosts[0].routes[1].route.retry_policy.retry_on",
                Treatment::Approximated
            ),
            (
                "virtual_hosts[0].routes[0].route.timeout",
                Treatment::Ignored
            ),
            (
                "virtual_hosts[0].include_request_attempt_count",
                Treatment::Ignored
            ),
        ]
    );
    assert!(
        findings[0]
            .note
            .ends_with("not connect-failure, refused-stream, 503")
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
fn matches_that_are_refused() {
    let path = |specifier| WireMatch {
        path_specifier: specifier,
        ..Default::default()
    };
    let unsupported = "not supported: only prefix, path and safe_regex are";
    let header = |name: &str, specifier| WireMatch {
        headers: vec![
            WireHeader {
                name: "ok".into(),
                header_match_specifier: Some(header_matcher::HeaderMatchSpecifier::PresentMatch(
                    true,
                )),
                ..Default::default()
            },
            WireHeader {
                name: name.into(),
                header_match_specifier: specifier,
                ..Default::default()
            },
        ],
        ..prefix("/")
    };
    use header_matcher::HeaderMatchSpecifier as By;
    let present = || Some(By::PresentMatch(true));
    let string = |pattern| {
        Some(By::StringMatch(WireString {
            match_pattern: pattern,
            ..Default::default()
        }))
    };
    for (wire, at, problem) in [
        (
            path(None),
            "path_specifier",
            "one of prefix, path and safe_regex must be set",
        ),
        (
            path(Some(PathSpecifier::ConnectMatcher(ConnectMatcher {}))),
            "connect_matcher",
            unsupported,
        ),
        (
            path(Some(PathSpecifier::PathSeparatedPrefix("/a".into()))),
            "path_separated_prefix",
            unsupported,
        ),
        (
            path(Some(PathSpecifier::PathMatchPolicy(Default::default()))),
            "path_match_policy",
            unsupported,
        ),
        (
            path(Some(PathSpecifier::SafeRegex(regex("(")))),
            "safe_regex.regex",
            "invalid regular expression \"(\": unclosed group",
        ),
        (
            header("", present()),
            "headers[1].name",
            "\"\" is not a header's name",
        ),
        (
            header("a b", present()),
            "headers[1].name",
            "\"a b\" is not a header's name",
        ),
        (
            header(":", present()),
            "headers[1].name",
            "\":\" is not a header's name",
        ),
        (
            header("h", None),
            "headers[1].header_match_specifier",
            "none is set that is supported",
        ),
        (
            header("h", Some(By::RangeMatch(Int64Range { start: 2, end: 1 }))),
            "headers[1].range_match",
            "end 1 is below start 2",
        ),
        (
            header("h", string(None)),
            "headers[1].string_match.match_pattern",
            "none is set that is supported",
        ),
        (
            header("h", string(Some(MatchPattern::Custom(Default::default())))),
            "headers[1].string_match.custom",
            "extensions are not supported",
        ),
        (
            header("h", string(Some(MatchPattern::Prefix(String::new())))),
            "headers[1].string_match.prefix",
            "must not be empty",
        ),
        (
            header("h", string(Some(MatchPattern::Suffix(String::new())))),
            "headers[1].string_match.suffix",
            "must not be empty",
        ),
        (
            header("h", string(Some(MatchPattern::Contains(String::new())))),
            "headers[1].string_match.contains",
            "must not be empty",
        ),
        (
            header("h", string(Some(MatchPattern::SafeRegex(regex("a{1001}"))))),
            "headers[1].string_match.safe_regex.regex",
            "invalid regular expression \"a{1001}\": repetition counts",
        ),
        (
            WireMatch {
                runtime_fraction: Some(RuntimeFractionalPercent::default()),
                ..prefix("/")
            },
            "runtime_fraction.default_value",
            "must be set",
        ),
        (
            WireMatch {
                runtime_fraction: fraction(1, 7),
                ..prefix("/")
            },
            "runtime_fraction.default_value.denominator",
            "unknown denominator 7",
        ),
    ] {
        let error = decode(routes(vec![any_route(), route_of(wire)])).unwrap_err();
        assert_eq!(
            error.path(),
            format!("virtual_hosts[0].routes[1].match.{at}"),
            "{error}"
        );
        assert!(error.problem().starts_with(problem), "{error}");
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
        path_specifier: Some(PathSpecifier::SafeRegex(regex("/A.*"))),
        case_sensitive: Some(BoolValue { value: false }),
        ..Default::default()
    };
    assert_eq!(
        of(wire).path,
        PathMatcher::Regex(Regex::new("/A.*").unwrap())
    );
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
#[allow(deprecated)]
fn headers_have_eight_forms() {
    use header_matcher::HeaderMatchSpecifier as By;
    let value = |pattern| HeaderMatch::Value(StringMatcher::new(pattern, false));
    for (wire, test) in [
        (
            By::ExactMatch("A".into()),
            value(StringMatch::Exact("A".into())),
        ),
        (
            By::PrefixMatch("A".into()),
            value(StringMatch::Prefix("A".into())),
        ),
        (
            By::SuffixMatch("A".into()),
            value(StringMatch::Suffix("A".into())),
        ),
        (
            By::ContainsMatch("A".into()),
            value(StringMatch::Contains("A".into())),
        ),
        (
            By::SafeRegexMatch(regex("A+")),
            value(StringMatch::Regex(Regex::new("A+").unwrap())),
        ),
        (By::PresentMatch(false), HeaderMatch::Present(false)),
        (
            By::RangeMatch(Int64Range { start: -1, end: 1 }),
            HeaderMatch::Range { start: -1, end: 1 },
        ),
        (
            By::StringMatch(WireString {
                ignore_case: true,
                ..wire_string(MatchPattern::Exact("A".into()))
            }),
            HeaderMatch::Value(StringMatcher::new(StringMatch::Exact("a".into()), true)),
        ),
    ] {
        let wire = WireHeader {
            name: ":Path".into(),
            invert_match: true,
            treat_missing_header_as_empty: true,
            header_match_specifier: Some(wire),
        };
        let wire = route_of(WireMatch {
            headers: vec![wire],
            ..prefix("/")
        });
        let (route, findings) = decode_one(wire).unwrap();
        let expected = HeaderMatcher {
            name: ":path".into(),
            test,
            invert: true,
            treat_missing_as_empty: true,
        };
        assert_eq!(route.unwrap().matcher.headers, [expected]);
        assert_eq!(findings[0].treatment, Treatment::Approximated);
        assert_eq!(findings.len(), 1);
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
    let exact = || By::StringMatch(wire_string(MatchPattern::Exact("v".into())));
    for (specifier, value) in [
        (None, None),
        (Some(By::PresentMatch(true)), None),
        (
            Some(exact()),
            Some(StringMatcher::new(StringMatch::Exact("v".into()), false)),
        ),
    ] {
        let (route, findings) = decode_one(wire(specifier, all())).unwrap();
        let name = "Q".into();
        assert_eq!(route.unwrap().matcher.query, [QueryMatcher { name, value }]);
        assert_eq!(findings, []);
    }
    for (wire, path) in [
        (wire(Some(exact()), None), "match.path_specifier"),
        (
            wire(Some(By::PresentMatch(false)), all()),
            "match.query_parameters[0].present_match",
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
fn routes_without_a_known_cluster_are_skipped() {
    for (specifier, field) in [
        (None, "cluster_specifier"),
        (
            Some(ClusterSpecifier::ClusterHeader("h".into())),
            "cluster_header",
        ),
        (
            Some(ClusterSpecifier::ClusterSpecifierPlugin("p".into())),
            "cluster_specifier_plugin",
        ),
        (
            Some(ClusterSpecifier::InlineClusterSpecifierPlugin(
                Default::default(),
            )),
            "inline_cluster_specifier_plugin",
        ),
    ] {
        let skipped = route_to(WireAction {
            cluster_specifier: specifier,
            ..Default::default()
        });
        let wire = routes(vec![skipped, any_route()]);
        let (config, findings) = decode_routes(wire).unwrap();
        assert_eq!(config.virtual_hosts[0].routes.len(), 1);
        let path = format!("virtual_hosts[0].routes[0].route.{field}");
        let paths: Vec<_> = findings.iter().map(|finding| &finding.path).collect();
        assert_eq!(paths, [&path]);
    }
}

#[test]
fn other_actions_are_accepted() {
    for (action, expected) in [
        (
            Some(Action::Redirect(RedirectAction::default())),
            RouteAction::Unsupported("redirect"),
        ),
        (
            Some(Action::DirectResponse(DirectResponseAction::default())),
            RouteAction::Unsupported("direct_response"),
        ),
        (
            Some(Action::FilterAction(FilterAction::default())),
            RouteAction::Unsupported("filter_action"),
        ),
        (
            Some(Action::NonForwardingAction(NonForwardingAction {})),
            RouteAction::NonForwarding,
        ),
    ] {
        let wire = WireRoute {
            action,
            ..any_route()
        };
        let (route, findings) = decode_one(wire).unwrap();
        assert_eq!(route.unwrap().action, expected);
        assert_eq!(findings[0].treatment, Treatment::Approximated);
    }
    let wire = WireRoute {
        action: None,
        ..any_route()
    };
    let (route, _) = decode_one(wire).unwrap();
    let expected = RouteAction::Unsupported("an unknown action");
    assert_eq!(route.unwrap().action, expected);
}

#[test]
fn actions_that_are_refused() {
    let negative = WireDuration {
        seconds: 0,
        nanos: -1,
    };
    let weighted = |cluster| {
        Some(ClusterSpecifier::WeightedClusters(WireClusters {
            clusters: vec![cluster],
            ..Default::default()
        }))
    };
    let limited = |limits| WireAction {
        cluster_specifier: to_cluster("c"),
        max_stream_duration: Some(limits),
        ..Default::default()
    };
    let action = |cluster_specifier| WireAction {
        cluster_specifier,
        ..Default::default()
    };
    for (wire, path, problem) in [
        (action(to_cluster("")), "cluster", "must not be empty"),
        (
            action(weights(&[0, 0])),
            "weighted_clusters.clusters",
            "no entry has a weight above 0",
        ),
        (
            action(weights(&[])),
            "weighted_clusters.clusters",
            "no entry has a weight above 0",
        ),
        (
            action(weights(&[u32::MAX, 0, 1])),
            "weighted_clusters.clusters",
            "the weights add up to 4294967296: at most 4294967295 is allowed",
        ),
        (
            action(weighted(ClusterWeight {
                cluster_header: "h".into(),
                weight: Some(UInt32Value { value: 1 }),
                ..Default::default()
            })),
            "weighted_clusters.clusters[0].name",
            "must not be empty",
        ),
        (
            limited(MaxStreamDuration {
                max_stream_duration: Some(negative),
                ..Default::default()
            }),
            "max_stream_duration.max_stream_duration",
            "a negative duration",
        ),
        (
            limited(MaxStreamDuration {
                grpc_timeout_header_max: Some(negative),
                ..Default::default()
            }),
            "max_stream_duration.grpc_timeout_header_max",
            "a negative duration",
        ),
    ] {
        let error = action_of(wire).unwrap_err();
        assert_eq!(
            error.path(),
            format!("virtual_hosts[0].routes[0].route.{path}")
        );
        assert_eq!(error.problem(), problem);
    }
    let error = decode(routes(vec![WireRoute::default()])).unwrap_err();
    assert_eq!(error.path(), "virtual_hosts[0].routes[0].match");
    let largest = action_of(action(weights(&[u32::MAX, 0]))).unwrap();
    assert_eq!(largest.clusters.len(), 1);
}

#[test]
fn what_restricts_access_is_refused() {
    let mut wire = routes(vec![any_route()]);
    wire.virtual_hosts[0].require_tls = 2;
    let error = decode(wire).unwrap_err();
    assert_eq!(error.path(), "virtual_hosts[0].require_tls");
}

#[test]
fn retries_have_defaults_and_bounds() {
    let policy = |on: &str, back_off| WireRetry {
        retry_on: on.to_owned(),
        retry_back_off: back_off,
        ..Default::default()
    };
    let back_off = |base, max: Option<i32>| {
        Some(RetryBackOff {
            base_interval: Some(millis(base)),
            max_interval: max.map(millis),
        })
    };
    for (wire, base, max) in [
        (policy("internal", None), 25, 250),
        (policy("internal", back_off(100, None)), 100, 1_000),
        (policy("internal", back_off(100, Some(100))), 100, 100),
    ] {
        let decoded = retry_of(wire).unwrap().unwrap();
        assert_eq!(decoded.retries, 1);
        assert_eq!(decoded.base_interval, Duration::from_millis(base));
        assert_eq!(decoded.max_interval, Duration::from_millis(max));
    }
    let micros = |micros: i32| {
        Some(WireDuration {
            seconds: 0,
            nanos: micros * 1_000,
        })
    };
    let tiny = Some(RetryBackOff {
        base_interval: micros(10),
        max_interval: micros(20),
    });
    let decoded = retry_of(policy("internal", tiny)).unwrap().unwrap();
    let least = Duration::from_millis(1);
    assert_eq!(
        (decoded.base_interval, decoded.max_interval),
        (least, least)
    );

    let all = " Cancelled,deadline-exceeded,, internal , RESOURCE-EXHAUSTED,unavailable,";
    let decoded = retry_of(policy(all, None)).unwrap().unwrap();
    let everything = RetryOn {
        cancelled: true,
        deadline_exceeded: true,
        internal: true,
        resource_exhausted: true,
        unavailable: true,
    };
    assert_eq!(decoded.on, everything);

    for (wire, path, problem) in [
        (
            WireRetry {
                num_retries: Some(UInt32Value { value: 0 }),
                ..Default::default()
            },
            "num_retries",
            "must be at least 1",
        ),
        (
            policy("", Some(RetryBackOff::default())),
            "retry_back_off.base_interval",
            "must be set",
        ),
        (
            policy("", back_off(0, None)),
            "retry_back_off.base_interval",
            "must be more than zero",
        ),
        (
            policy("", back_off(-1, None)),
            "retry_back_off.base_interval",
            "a negative duration",
        ),
        (
            policy("", back_off(50, Some(49))),
            "retry_back_off.max_interval",
            "49ms is below the base interval of 50ms",
        ),
        (
            policy("", back_off(50, Some(-1))),
            "retry_back_off.max_interval",
            "a negative duration",
        ),
    ] {
        let at = "virtual_hosts[0].routes[0].route.retry_policy";
        let error = retry_of(wire.clone()).unwrap_err();
        assert_eq!(
            (error.path(), error.problem()),
            (&*format!("{at}.{path}"), problem)
        );

        let mut on_host = routes(vec![]);
        on_host.virtual_hosts[0].retry_policy = Some(wire);
        let error = decode(on_host).unwrap_err();
        assert_eq!(
            error.path(),
            format!("virtual_hosts[0].retry_policy.{path}")
        );
    }
}

#[test]
fn a_route_overrides_the_retries_of_its_host() {
    let policy = |on: &str| {
        Some(WireRetry {
            retry_on: on.to_owned(),
            ..Default::default()
        })
    };
    let to = |retry_policy| {
        route_to(WireAction {
            cluster_specifier: to_cluster("c"),
            retry_policy,
            ..Default::default()
        })
    };
    let mut wire = routes(vec![to(None), to(policy("internal")), to(policy("5xx"))]);
    wire.virtual_hosts[0].retry_policy = policy("unavailable");
    let config = decode(wire).unwrap();
    let on: Vec<_> = config.virtual_hosts[0]
        .routes
        .iter()
        .map(|route| match &route.action {
            RouteAction::Forward(forward) => forward.retry.as_ref().map(|retry| retry.on),
            other => panic!("{other:?}"),
        })
        .collect();
    let unavailable = RetryOn {
        unavailable: true,
        ..Default::default()
    };
    let internal = RetryOn {
        internal: true,
        ..Default::default()
    };
    assert_eq!(on, [Some(unavailable), Some(internal), None]);
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
