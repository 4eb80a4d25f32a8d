//! What HTTP semantics alone read, as resources.

use std::time::Duration;

use envoy_types::pb::envoy::{
    config::{
        cluster::v3::Cluster,
        route::v3::{
            RedirectAction, Route as WireRoute, RouteConfiguration, route::Action,
            route_action::HostRewriteSpecifier, route_match::PathSpecifier,
        },
    },
    extensions::upstreams::http::v3::{
        HttpProtocolOptions,
        http_protocol_options::{UpstreamProtocolOptions, explicit_http_config::ProtocolConfig},
    },
};
use prost::Message;

use super::{address, rendering::served};
use crate::{
    Code,
    config::HttpProtocol,
    testing::{ControlPlane, Retry, Route},
};

fn routes(control_plane: &ControlPlane) -> Vec<WireRoute> {
    let mut routes: RouteConfiguration = served(control_plane, "route/s");
    routes.virtual_hosts.remove(0).routes
}

#[test]
fn a_version_speaks_a_protocol_within_limits() {
    let control_plane = ControlPlane::in_memory();
    control_plane
        .service("s")
        .endpoint(address(7))
        .protocol(HttpProtocol::Http2)
        .max_connections(5)
        .max_pending_requests(6)
        .max_retries(7)
        .max_requests_per_connection(8)
        .apply();
    let cluster: Cluster = served(&control_plane, "s");
    let breakers = cluster.circuit_breakers.unwrap().thresholds.remove(0);
    let limits = [
        breakers.max_connections,
        breakers.max_pending_requests,
        breakers.max_retries,
    ];
    assert_eq!(limits.map(|limit| limit.unwrap().value), [5, 6, 7]);
    let options = cluster.typed_extension_protocol_options.values().next();
    let options = HttpProtocolOptions::decode(&options.unwrap().value[..]).unwrap();
    let common = options.common_http_protocol_options.unwrap();
    assert_eq!(common.max_requests_per_connection.unwrap().value, 8);
    let Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) =
        options.upstream_protocol_options
    else {
        panic!("no explicit protocol");
    };
    assert!(matches!(
        explicit.protocol_config,
        Some(ProtocolConfig::Http2ProtocolOptions(_))
    ));
}

#[test]
fn a_rule_changes_what_passes() {
    let control_plane = ControlPlane::in_memory();
    let rule = Route::segments("/api")
        .method("GET")
        .query("v", "2")
        .timeout(Duration::from_secs(3))
        .rewrite_prefix("/")
        .rewrite_host("other")
        .add_request_header("x-a", "%REQ(x-b)%")
        .remove_response_header("server")
        .allow_upgrade("websocket")
        .retry(
            Retry::conditions(["5xx"])
                .statuses([429])
                .per_try_timeout(Duration::from_secs(1)),
        );
    let service = control_plane.service("s").endpoint(address(7)).route(rule);
    service.timeout(Duration::from_secs(9)).apply();
    let routes = routes(&control_plane);

    let matcher = routes[0].r#match.as_ref().unwrap();
    assert_eq!(
        matcher.path_specifier,
        Some(PathSpecifier::PathSeparatedPrefix("/api".into()))
    );
    assert_eq!(matcher.headers[0].name, ":method");
    assert_eq!(matcher.query_parameters[0].name, "v");
    let Some(Action::Route(action)) = &routes[0].action else {
        panic!("no route action");
    };
    assert_eq!(action.timeout.unwrap().seconds, 3);
    assert_eq!(action.prefix_rewrite, "/");
    assert_eq!(
        action.host_rewrite_specifier,
        Some(HostRewriteSpecifier::HostRewriteLiteral("other".into()))
    );
    assert_eq!(action.upgrade_configs[0].upgrade_type, "websocket");
    let retry = action.retry_policy.as_ref().unwrap();
    assert_eq!(retry.retry_on, "5xx,retriable-status-codes");
    assert_eq!(retry.retriable_status_codes, [429]);
    let header = routes[0].request_headers_to_add[0].header.clone();
    assert_eq!(header.unwrap().value, "%REQ(x-b)%");
    assert_eq!(routes[0].response_headers_to_remove, ["server"]);

    let Some(Action::Route(rest)) = &routes[1].action else {
        panic!("no route action");
    };
    assert_eq!(rest.timeout.unwrap().seconds, 9);
}

#[test]
fn a_rule_answers() {
    let control_plane = ControlPlane::in_memory();
    let redirect = RedirectAction {
        host_redirect: "elsewhere".into(),
        ..RedirectAction::default()
    };
    control_plane
        .service("s")
        .endpoint(address(7))
        .route(Route::path("/old").redirect(redirect.clone()))
        .route(Route::path("/gone").respond(410, "gone"))
        .retry(Retry::on([Code::Unavailable]))
        .apply();
    let routes = routes(&control_plane);
    assert_eq!(routes[0].action, Some(Action::Redirect(redirect)));
    let Some(Action::DirectResponse(direct)) = &routes[1].action else {
        panic!("no direct response");
    };
    assert_eq!(direct.status, 410);
}
