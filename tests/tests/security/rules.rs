//! The reference's list "Server" (grpc-go), as far as it is about RBAC: what each rule decides is
//! compared with gRPC C-core in `tests/peers`, so here is how rules come into force.

use envoy_types::pb::envoy::config::route::v3::{
    NonForwardingAction, RedirectAction, Route as WireRoute, route::Action,
};
use mesh_core::testing::server_listener_name;
use mesh_core::{
    config::Kind,
    testing::{Corruption, Leaf, Permission, Principal, Rbac, Route, route_name},
};
use mesh_tests::{
    every_way,
    fixture::within,
    load,
    secured::{CLIENT, Secured},
    way::Way,
};
use tonic::Code;

/// What becomes of the next call. Rules apply to the next request of a live connection: it is the
/// same one throughout.
async fn code(secured: &Secured) -> Code {
    match load::call(&secured.channel).await {
        Ok(_) => Code::Ok,
        Err(status) => status.code(),
    }
}

fn only(principal: Principal) -> Rbac {
    Rbac::allow().policy("only", Permission::any(), principal)
}

async fn set(secured: &Secured, rbac: Rbac) {
    secured.listener().rbac(rbac).apply().acked().await;
}

/// RBACHTTPFilter.
async fn rules_apply_to_the_next_request(way: Way) {
    let secured = Secured::over(way).await;
    assert_eq!(code(&secured).await, Code::Ok);
    let before = secured.connections()[0].id;
    let unary = || Permission::path("/mesh.test.Echo/Unary");
    let somebody = Principal::identity("spiffe://shop/somebody");
    let cases = [
        (Rbac::allow(), Code::PermissionDenied),
        (only(Principal::any()), Code::Ok),
        (only(Principal::identity(CLIENT)), Code::Ok),
        (only(somebody.clone()), Code::PermissionDenied),
        (
            only(Principal::identity_prefix("spiffe://shop/ns/web/")),
            Code::Ok,
        ),
        (only(Principal::authenticated()), Code::Ok),
        (only(somebody.clone().negated()), Code::Ok),
        (
            Rbac::deny().policy("unary", unary(), Principal::any()),
            Code::PermissionDenied,
        ),
        (Rbac::deny().policy("unary", unary(), somebody), Code::Ok),
        (
            Rbac::allow().policy("unary", unary(), Principal::any()),
            Code::Ok,
        ),
        (
            Rbac::log().policy("all", unary(), Principal::any()),
            Code::Ok,
        ),
        (Rbac::off(), Code::Ok),
    ];
    for (rbac, expected) in cases {
        let text = format!("{rbac:?}");
        set(&secured, rbac).await;
        assert_eq!(code(&secured).await, expected, "{text}");
    }
    assert_eq!(secured.connections()[0].id, before, "the connection stays");
}

/// RBAC_WithBadRouteConfiguration: what has no route is told so, not that it is denied; and the
/// last good rules stay. Of gRPC: over plain HTTP a redirect is an answer, and rules come before it.
#[tokio::test]
async fn rules_and_routes_that_cannot_be_read() {
    let secured = Secured::start().await;
    set(&secured, Rbac::allow()).await;
    assert_eq!(code(&secured).await, Code::PermissionDenied);
    let listener = server_listener_name(secured.address());
    let routes = route_name(&listener);
    let bad = secured
        .control_plane
        .corrupt(Kind::Route, &routes, Corruption::Truncated);
    bad.nacked().await;
    assert_eq!(code(&secured).await, Code::PermissionDenied);
    secured
        .control_plane
        .repair(Kind::Route, &routes)
        .acked()
        .await;

    // A route that no server can serve.
    secured.control_plane.set(&mesh_tests::xds::routes(
        &routes,
        "*",
        vec![WireRoute {
            action: Some(Action::Redirect(RedirectAction::default())),
            ..mesh_tests::xds::served("")
        }],
    ));
    within(async { while code(&secured).await != Code::Unavailable {} }).await;
    let served = Some(Action::NonForwardingAction(NonForwardingAction {}));
    secured.control_plane.set(&mesh_tests::xds::routes(
        &routes,
        "*",
        vec![WireRoute {
            action: served,
            ..mesh_tests::xds::served("")
        }],
    ));
    within(async { while code(&secured).await != Code::PermissionDenied {} }).await;
}

/// RBACRouteHeaderMatchers, FilterOverride_Disabled and _Enabled: a route's own rules take the
/// place of the listener's, and say nothing where there is none.
async fn a_route_overrides_rules(way: Way) {
    let secured = Secured::over(way).await;
    let own = || Route::path("/mesh.test.Echo/Unary");
    let apply = async |rules: Rbac, route: Route| {
        let server = secured.listener().clear_routes().rbac(rules).route(route);
        server.apply().acked().await;
    };
    apply(Rbac::allow(), own().rbac(Rbac::off())).await;
    assert_eq!(code(&secured).await, Code::Ok);
    apply(Rbac::off(), own().rbac(Rbac::allow())).await;
    assert_eq!(code(&secured).await, Code::PermissionDenied);
    apply(Rbac::allow(), own().rbac(only(Principal::identity(CLIENT)))).await;
    assert_eq!(code(&secured).await, Code::Ok);
    apply(Rbac::allow(), Route::path("/other").rbac(Rbac::off())).await;
    assert_eq!(code(&secured).await, Code::PermissionDenied);
    let by_header = own().header("x-role", "admin").rbac(Rbac::off());
    apply(Rbac::allow(), by_header).await;
    assert_eq!(code(&secured).await, Code::PermissionDenied);
    let without = own().header_present("x-role", false).rbac(Rbac::off());
    apply(Rbac::allow(), without).await;
    assert_eq!(code(&secured).await, Code::Ok);
    // An override of a filter that is not there does nothing (gRFC A39).
    let server = secured.listener().clear_routes().clear_http_filters();
    server
        .route(own().rbac(Rbac::allow()))
        .apply()
        .acked()
        .await;
    assert_eq!(code(&secured).await, Code::Ok);
}

/// AuthenticatedMatcherIdentitySourcePrecedence: URI names, without any the DNS names, without any
/// the subject (gRFC A41).
async fn which_names_of_a_certificate_count(way: Way) {
    let secured = Secured::over(way).await;
    let all = || Leaf::spiffe(CLIENT).dns("client.shop").subject("client");
    let cases = [
        (
            all(),
            [CLIENT, "client.shop", "CN=client"],
            [true, false, false],
        ),
        (
            Leaf::dns_name("client.shop").subject("client"),
            [CLIENT, "client.shop", "CN=client"],
            [false, true, false],
        ),
        (
            Leaf::unnamed().subject("client"),
            [CLIENT, "client.shop", "CN=client"],
            [false, false, true],
        ),
    ];
    assert_eq!(code(&secured).await, Code::Ok);
    for (leaf, names, allowed) in cases {
        let text = format!("{leaf:?}");
        secured
            .client
            .present(secured.ca.issue(leaf).identity())
            .await;
        secured.reconnect().await;
        for (name, allowed) in names.into_iter().zip(allowed) {
            set(&secured, only(Principal::identity(name))).await;
            let expected = if allowed {
                Code::Ok
            } else {
                Code::PermissionDenied
            };
            assert_eq!(code(&secured).await, expected, "{name} of {text}");
        }
        set(&secured, Rbac::off()).await;
    }
}

every_way!(
    rules_apply_to_the_next_request,
    a_route_overrides_rules,
    which_names_of_a_certificate_count,
);
