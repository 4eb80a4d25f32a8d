use std::time::Duration;

use envoy_types::pb::{
    envoy::config::route::v3::route_action::{MaxStreamDuration, UpgradeConfig},
    google::protobuf::{BoolValue, Duration as WireDuration, UInt32Value},
};

use super::{
    super::{fixtures::*, test_support::lines},
    *,
};
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

fn forward_of(set: impl FnOnce(&mut RouteAction)) -> Result<(Forward, Vec<String>), String> {
    let mut action = RouteAction {
        cluster_specifier: to_cluster("c"),
        ..Default::default()
    };
    set(&mut action);
    let (route, findings) = decode_one(route_to(action)).map_err(|error| error.to_string())?;
    match route.map(|route| route.action) {
        Some(Action::Forward(forward)) => Ok((forward, lines(&findings))),
        other => panic!("{other:?}"),
    }
}

const AT: &str = "virtual_hosts[0].routes[0].route";

#[test]
fn times_of_http_semantics() {
    let (forward, findings) = forward_of(|_| {}).unwrap();
    assert_eq!(forward.http, HttpForward::default());
    assert_eq!(findings, [""; 0]);
    let (forward, findings) = forward_of(|action| {
        action.timeout = Some(millis(2_500));
        action.idle_timeout = Some(millis(0));
    })
    .unwrap();
    assert_eq!(forward.http.timeout, Some(Duration::from_millis(2_500)));
    assert_eq!(forward.http.idle_timeout, Some(Duration::ZERO));
    let expected = ["timeout", "idle_timeout"].map(|field| format!("{AT}.{field} h {NOT_IN_TIME}"));
    assert_eq!(findings, expected);
    let (forward, _) = forward_of(|action| action.timeout = Some(millis(0))).unwrap();
    assert_eq!(forward.http.timeout, None);
    for field in ["timeout", "idle_timeout"] {
        let error = forward_of(|action| {
            let wire = Some(millis(-1));
            match field {
                "timeout" => action.timeout = wire,
                _ => action.idle_timeout = wire,
            }
        });
        let expected = format!("{AT}.{field}: a negative duration");
        assert_eq!(error.unwrap_err(), expected);
    }
}

#[test]
fn the_status_where_there_is_no_cluster() {
    for (code, status) in [(0, 503), (1, 404), (2, 500)] {
        let set = |action: &mut RouteAction| action.cluster_not_found_response_code = code;
        let (forward, _) = forward_of(set).unwrap();
        assert_eq!(forward.http.cluster_not_found, status);
    }
    let error = forward_of(|action| action.cluster_not_found_response_code = 3).unwrap_err();
    let expected = format!("{AT}.cluster_not_found_response_code: unknown code 3");
    assert_eq!(error, expected);
}

#[test]
fn upgrades_of_a_route() {
    let upgrade = |kind: &str, enabled: Option<bool>| UpgradeConfig {
        upgrade_type: kind.to_owned(),
        enabled: enabled.map(|value| BoolValue { value }),
        connect_config: None,
    };
    let (forward, findings) = forward_of(|action| {
        action.upgrade_configs = vec![upgrade("WebSocket", None), upgrade("h2c", Some(false))];
    })
    .unwrap();
    let expected = [("websocket".into(), true), ("h2c".into(), false)];
    assert_eq!(forward.http.upgrades, expected);
    assert_eq!(findings, [format!("{AT}.upgrade_configs h {NOT_GRPC}")]);
    let error = forward_of(|action| {
        action.upgrade_configs = vec![upgrade("a", None), upgrade("A", None)];
    });
    let expected = format!("{AT}.upgrade_configs[1].upgrade_type: \"A\" is listed already");
    assert_eq!(error.unwrap_err(), expected);
}

#[test]
fn a_rewrite_that_is_not_known_leaves_the_path() {
    let (forward, findings) = forward_of(|action| action.path_rewrite = "/x".into()).unwrap();
    assert_eq!(forward.http.path_rewrite, None);
    assert_eq!(findings, [format!("{AT}.path_rewrite - {NO_REWRITE}")]);
}

#[test]
fn the_authority_of_a_weighted_cluster() {
    let clusters = |host: &str| {
        let cluster = ClusterWeight {
            name: "c".into(),
            weight: Some(UInt32Value { value: 1 }),
            host_rewrite_specifier: Some(HostRewriteSpecifier::HostRewriteLiteral(host.into())),
            ..Default::default()
        };
        Some(ClusterSpecifier::WeightedClusters(WireClusters {
            clusters: vec![cluster],
            ..Default::default()
        }))
    };
    let decoded = |host| forward_of(|action| action.cluster_specifier = clusters(host));
    const FIELD: &str = "weighted_clusters.clusters[0].host_rewrite_literal";
    let (forward, findings) = decoded("b.example:81").unwrap();
    let host = http::HeaderValue::from_static("b.example:81");
    assert_eq!(forward.clusters[0].host_rewrite, Some(host));
    assert_eq!(findings, [format!("{AT}.{FIELD} h {NOT_GRPC}")]);
    assert_eq!(decoded("").unwrap().0.clusters[0].host_rewrite, None);
    for host in ["b c", "me@b", "b/c"] {
        let expected = format!("{AT}.{FIELD}: {host:?} is not an authority");
        assert_eq!(decoded(host).unwrap_err(), expected);
    }
}
