use envoy_types::pb::{
    envoy::config::{
        core::v3::header_value_option::HeaderAppendAction,
        route::v3::{
            RouteAction, WeightedCluster, route_action::ClusterSpecifier,
            weighted_cluster::ClusterWeight,
        },
    },
    google::protobuf::UInt32Value,
};

use super::{
    super::{fixtures::*, test_support::lines},
    *,
};
use crate::config::{FormatPart, HeaderFormat, RouteAction as Action};

fn add(key: &str, value: &str) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(WireValue {
            key: key.to_owned(),
            value: value.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn put(name: &'static str, value: &str) -> HeaderMutation {
    HeaderMutation::Put {
        name: HeaderName::from_static(name),
        value: HeaderFormat([FormatPart::Text(value.to_owned())].into()),
        append: AppendAction::AppendIfExistsOrAdd,
        keep_empty: false,
    }
}

fn expected(level: &str) -> HeaderMutations {
    let remove = |name| HeaderMutation::Remove(HeaderName::from_static(name));
    HeaderMutations {
        request: vec![remove("x-out"), put("x-req", level)],
        response: vec![remove("x-back"), put("x-resp", level)],
    }
}

macro_rules! change {
    ($wire:expr, $level:expr) => {
        $wire.request_headers_to_add = vec![add("X-Req", $level)];
        $wire.request_headers_to_remove = vec!["X-Out".to_owned()];
        $wire.response_headers_to_add = vec![add("X-Resp", $level)];
        $wire.response_headers_to_remove = vec!["X-Back".to_owned()];
    };
}

#[test]
fn four_levels_have_them() {
    let mut weight = ClusterWeight {
        name: "c".into(),
        weight: Some(UInt32Value { value: 1 }),
        ..Default::default()
    };
    change!(weight, "cluster");
    let mut route = route_to(RouteAction {
        cluster_specifier: Some(ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters: vec![weight],
            ..Default::default()
        })),
        ..Default::default()
    });
    change!(route, "route");
    let mut wire = routes(vec![route]);
    change!(wire, "config");
    change!(wire.virtual_hosts[0], "host");
    wire.most_specific_header_mutations_wins = true;
    let (config, findings) = decode_routes(wire).unwrap();
    assert!(config.most_specific_wins);
    assert_eq!(config.headers, expected("config"));
    let host = &config.virtual_hosts[0];
    assert_eq!(host.headers, expected("host"));
    assert_eq!(host.routes[0].headers, expected("route"));
    let Action::Forward(forward) = &host.routes[0].action else {
        panic!("{:?}", host.routes[0].action)
    };
    assert_eq!(forward.clusters[0].headers, expected("cluster"));
    let findings = lines(&findings);
    assert_eq!(findings.len(), 4 * 4 + 1, "{findings:?}");
    for finding in &findings {
        assert!(finding.ends_with(&format!(" h {NOT_GRPC}")), "{finding}");
    }
}

#[test]
fn what_becomes_of_a_header_that_is_there() {
    use HeaderAppendAction as Wire;
    #[expect(deprecated, reason = "istiod and others still set it")]
    let append_of = |append: Option<bool>, action: Wire| {
        let mut route = any_route();
        route.request_headers_to_add = vec![HeaderValueOption {
            append: append.map(|value| BoolValue { value }),
            append_action: action as i32,
            keep_empty_value: true,
            ..add("x", "")
        }];
        let (route, _) = decode_one(route).map_err(|error| error.path().to_owned())?;
        match &route.unwrap().headers.request[..] {
            [
                HeaderMutation::Put {
                    append,
                    keep_empty: true,
                    ..
                },
            ] => Ok(*append),
            other => panic!("{other:?}"),
        }
    };
    for (append, action, expected) in [
        (
            None,
            Wire::AppendIfExistsOrAdd,
            AppendAction::AppendIfExistsOrAdd,
        ),
        (None, Wire::AddIfAbsent, AppendAction::AddIfAbsent),
        (
            None,
            Wire::OverwriteIfExistsOrAdd,
            AppendAction::OverwriteIfExistsOrAdd,
        ),
        (
            None,
            Wire::OverwriteIfExists,
            AppendAction::OverwriteIfExists,
        ),
        (
            Some(true),
            Wire::AppendIfExistsOrAdd,
            AppendAction::AppendIfExistsOrAdd,
        ),
        (
            Some(false),
            Wire::AppendIfExistsOrAdd,
            AppendAction::OverwriteIfExistsOrAdd,
        ),
    ] {
        assert_eq!(append_of(append, action), Ok(expected));
    }
    let at = "virtual_hosts[0].routes[0].request_headers_to_add[0].append".to_owned();
    assert_eq!(append_of(Some(true), Wire::AddIfAbsent), Err(at));
}

#[test]
fn changes_that_are_refused() {
    let long = "x".repeat(MAX_BYTES + 1);
    for (option, at, problem) in [
        (HeaderValueOption::default(), "header", "must be set"),
        (add("", "v"), "header.key", "not a header's name"),
        (add("a b", "v"), "header.key", "not a header's name"),
        (add(":path", "v"), "header.key", "may not be changed"),
        (add("Host", "v"), "header.key", "may not be changed"),
        (add(&long, "v"), "header.key", "at most 16384"),
        (add("x", &long), "header.value", "at most 16384"),
        (add("x", "a\nb"), "header.value", "control character"),
        (add("x", "%NOPE"), "header.value", "no operator"),
        (
            HeaderValueOption {
                append_action: 9,
                ..add("x", "v")
            },
            "append_action",
            "unknown action 9",
        ),
    ] {
        let mut wire = routes(vec![]);
        wire.virtual_hosts[0].response_headers_to_add = vec![add("ok", "ok"), option];
        let error = decode_routes(wire).unwrap_err();
        assert_eq!(
            error.path(),
            format!("virtual_hosts[0].response_headers_to_add[1].{at}")
        );
        assert!(error.problem().contains(problem), "{error}");
    }
    for name in [":authority", "HOST", "", "a b"] {
        let mut wire = routes(vec![]);
        wire.request_headers_to_remove = vec![name.to_owned()];
        let error = decode_routes(wire).unwrap_err();
        assert_eq!(error.path(), "request_headers_to_remove[0]");
    }
}

#[test]
fn an_operator_that_is_not_known_costs_its_header_alone() {
    for (append, expected) in [
        (Some(true), vec![]),
        (
            Some(false),
            vec![HeaderMutation::Remove(HeaderName::from_static("x"))],
        ),
    ] {
        let mut wire = routes(vec![]);
        #[expect(deprecated, reason = "istiod and others still set it")]
        let unknown = HeaderValueOption {
            append: append.map(|value| BoolValue { value }),
            ..add("x", "a %NOPE(b)% c")
        };
        wire.request_headers_to_add = vec![unknown, add("y", "kept")];
        let (config, findings) = decode_routes(wire).unwrap();
        let request = [expected, vec![put("y", "kept")]].concat();
        assert_eq!(config.headers.request, request);
        let findings = lines(&findings).join("\n");
        let at = "request_headers_to_add[0].header.value";
        assert!(findings.contains(at), "{findings}");
        assert!(findings.contains("%NOPE%"), "{findings}");
        assert!(findings.contains("the header is not set"), "{findings}");
    }
}
