use envoy_types::pb::{
    envoy::config::route::v3::route_action::MaxStreamDuration,
    google::protobuf::{Duration as WireDuration, UInt32Value},
};

use super::{super::fixtures::*, *};
use crate::config::RouteAction as Action;

fn action_of(action: RouteAction) -> Result<Forward, FieldError> {
    match decode_one(route_to(action))?.0.map(|route| route.action) {
        Some(Action::Forward(forward)) => Ok(forward),
        other => panic!("{other:?}"),
    }
}

fn to_cluster(name: &str) -> Option<ClusterSpecifier> {
    Some(ClusterSpecifier::Cluster(name.to_owned()))
}

fn retry_of(policy: WireRetry) -> Result<Option<Arc<RetryPolicy>>, FieldError> {
    let action = RouteAction {
        cluster_specifier: to_cluster("c"),
        retry_policy: Some(policy),
        ..Default::default()
    };
    action_of(action).map(|forward| forward.retry)
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
        let skipped = route_to(RouteAction {
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
    let limited = |limits| RouteAction {
        cluster_specifier: to_cluster("c"),
        max_stream_duration: Some(limits),
        ..Default::default()
    };
    let action = |cluster_specifier| RouteAction {
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
    let error = decode_routes(routes(vec![Default::default()])).unwrap_err();
    assert_eq!(error.path(), "virtual_hosts[0].routes[0].match");
    let largest = action_of(action(weights(&[u32::MAX, 0]))).unwrap();
    assert_eq!(largest.clusters.len(), 1);
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
            cluster_specifier: to_cluster("c"),
            retry_policy,
            ..Default::default()
        })
    };
    let mut wire = routes(vec![to(None), to(policy("internal")), to(policy("5xx"))]);
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
