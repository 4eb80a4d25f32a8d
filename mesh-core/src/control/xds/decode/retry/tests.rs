use envoy_types::pb::{
    envoy::config::route::v3::{
        RouteAction, header_matcher::HeaderMatchSpecifier, route_action::ClusterSpecifier,
    },
    google::protobuf::{Any, Duration as WireDuration, UInt32Value},
};

use super::{
    super::{fixtures::*, test_support::lines},
    *,
};
use crate::config::RouteAction as Action;

fn decoded(policy: WireRetry) -> Result<(Option<Arc<RetryPolicy>>, Vec<String>), FieldError> {
    let wire = route_to(RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster("c".into())),
        retry_policy: Some(policy),
        ..Default::default()
    });
    let (route, findings) = decode_one(wire)?;
    match route.map(|route| route.action) {
        Some(Action::Forward(forward)) => Ok((forward.retry, lines(&findings))),
        other => panic!("{other:?}"),
    }
}

fn retry_of(policy: WireRetry) -> Result<Option<Arc<RetryPolicy>>, FieldError> {
    decoded(policy).map(|(policy, _)| policy)
}

const AT: &str = "virtual_hosts[0].routes[0].route.retry_policy";

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
        ..Default::default()
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
        let error = decode_routes(on_host).unwrap_err();
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
        route_to(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster("c".into())),
            retry_policy,
            ..Default::default()
        })
    };
    let mut wire = routes(vec![to(None), to(policy("internal")), to(policy("none"))]);
    wire.virtual_hosts[0].retry_policy = policy("unavailable");
    let (config, _) = decode_routes(wire).unwrap();
    let on: Vec<_> = config.virtual_hosts[0]
        .routes
        .iter()
        .map(|route| match &route.action {
            Action::Forward(forward) => forward.retry.as_ref().map(|retry| retry.on),
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
fn conditions_of_http_survive_alone() {
    let all = "5xx,gateway-error,reset,reset-before-request,connect-failure,refused-stream,\
               retriable-4xx,retriable-status-codes,Retriable-Headers,envoy-ratelimited";
    let policy = WireRetry {
        retry_on: all.into(),
        ..Default::default()
    };
    let (policy, findings) = decoded(policy).unwrap();
    let on = policy.unwrap().on;
    let everything = RetryOn {
        server_error: true,
        gateway_error: true,
        reset: true,
        reset_before_request: true,
        connect_failure: true,
        refused_stream: true,
        retriable_4xx: true,
        status_codes: true,
        headers: true,
        rate_limited: true,
        ..Default::default()
    };
    assert_eq!(on, everything);
    assert!(!on.any_grpc());
    let note = "gRPC retries its status codes only (gRFC A44), not 5xx, gateway-error, ";
    let [finding] = &findings[..] else {
        panic!("{findings:?}")
    };
    assert!(
        finding.starts_with(&format!("{AT}.retry_on h {note}")),
        "{finding}"
    );
}

#[test]
fn conditions_that_are_not_known_are_told() {
    for (retry_on, note) in [
        ("503,unavailable", "not a condition that is known here: 503"),
        (
            "reset,http3-post-connect-failure,what",
            "not a condition that is known here: http3-post-connect-failure, what; gRPC retries its \
             status codes only (gRFC A44), not reset",
        ),
    ] {
        let policy = WireRetry {
            retry_on: retry_on.into(),
            ..Default::default()
        };
        let (policy, findings) = decoded(policy).unwrap();
        assert!(policy.is_some());
        assert_eq!(findings, [format!("{AT}.retry_on ~ {note}")]);
    }
}

#[test]
fn what_http_semantics_alone_read() {
    let header = |name: &str| WireHeader {
        name: name.into(),
        header_match_specifier: Some(HeaderMatchSpecifier::PresentMatch(true)),
        ..Default::default()
    };
    let predicate = |kind: &str| RetryHostPredicate {
        name: "p".into(),
        config_type: Some(ConfigType::TypedConfig(Any {
            type_url: format!("type.googleapis.com/envoy.extensions.retry.host.{kind}"),
            value: vec![],
        })),
    };
    let wire = WireRetry {
        retry_on: "unavailable".into(),
        per_try_timeout: Some(millis(250)),
        per_try_idle_timeout: Some(millis(0)),
        retriable_status_codes: vec![429, 99, 1_000, 70_000, 503],
        retriable_headers: vec![header("X-Again")],
        retriable_request_headers: vec![header("x-idempotent")],
        retry_host_predicate: vec![
            predicate("previous_hosts.v3.PreviousHostsPredicate"),
            predicate("omit_canary_hosts.v3.OmitCanaryHostsPredicate"),
        ],
        host_selection_retry_max_attempts: 3,
        ..Default::default()
    };
    let (policy, findings) = decoded(wire.clone()).unwrap();
    let http = &policy.as_ref().unwrap().http;
    assert_eq!(http.per_try_timeout, Some(Duration::from_millis(250)));
    assert_eq!(http.per_try_idle_timeout, None);
    assert_eq!(
        http.statuses,
        [429, 503].map(|code| StatusCode::from_u16(code).unwrap())
    );
    assert_eq!(http.headers[0].name, "x-again");
    assert_eq!(http.request_headers[0].name, "x-idempotent");
    let told: Vec<_> = findings
        .iter()
        .map(|finding| &finding[AT.len() + 1..])
        .collect();
    for (path, sign) in [
        ("per_try_timeout", 'h'),
        ("per_try_idle_timeout", 'h'),
        ("retriable_status_codes", '~'),
        ("retriable_headers", 'h'),
        ("retriable_request_headers", 'h'),
        ("retry_host_predicate[1]", '-'),
        ("host_selection_retry_max_attempts", '~'),
    ] {
        let start = format!("{path} {sign} ");
        assert!(
            told.iter().any(|told| told.starts_with(&start)),
            "{path}: {findings:?}"
        );
    }
    assert_eq!(told.len(), 7, "{findings:?}");

    for (spoil, path) in [
        (
            (|wire| wire.per_try_timeout = Some(millis(-1))) as fn(&mut WireRetry),
            "per_try_timeout",
        ),
        (
            |wire| wire.per_try_idle_timeout = Some(millis(-1)),
            "per_try_idle_timeout",
        ),
        (
            |wire| wire.retriable_headers[0].name = "a b".into(),
            "retriable_headers[0].name",
        ),
        (
            |wire| wire.retriable_request_headers[0].header_match_specifier = None,
            "retriable_request_headers[0].header_match_specifier",
        ),
    ] {
        let mut bad = wire.clone();
        spoil(&mut bad);
        assert_eq!(decoded(bad).unwrap_err().path(), format!("{AT}.{path}"));
    }
}
