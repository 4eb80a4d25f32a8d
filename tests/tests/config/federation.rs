//! The list "Federation", and what is left of "Authority" (gRFC A47).

use std::net::SocketAddr;

use mesh_core::{
    Mesh,
    bootstrap::{AuthorityConfig, Bootstrap},
    config::Kind,
    testing::ControlPlane,
};
use mesh_tests::{
    every_way,
    load::{call, until_success},
    way::Way,
    xds,
};

use crate::{SERVICE, assert_text, assert_unavailable, backends};

const LISTENER: &str = "xdstp://partner/envoy.config.listener.v3.Listener/greeter";

/// A listener of this name whose routes, cluster and endpoints are names of the same authority.
pub(crate) fn describe(plane: &ControlPlane, listener: &str, domain: &str, at: SocketAddr) {
    let of = |kind: &str| listener.replace("envoy.config.listener.v3.Listener", kind);
    let routes = of("envoy.config.route.v3.RouteConfiguration");
    let cluster = of("envoy.config.cluster.v3.Cluster");
    let endpoints = of("envoy.config.endpoint.v3.ClusterLoadAssignment");
    plane.set(&xds::endpoints(&endpoints, &[at]));
    plane.set(&xds::cluster(&cluster, &endpoints));
    plane.set(&xds::routes(&routes, domain, vec![xds::route_to(&cluster)]));
    plane.set(&xds::rds_listener(listener, &routes));
}

/// A mesh that knows the authority `partner`, which has a control plane of its own.
async fn federated(own: &ControlPlane, partner: &ControlPlane) -> Mesh {
    federated_by("%s", own, partner).await
}

/// The same, where targets that name no authority stand for listeners by this template.
async fn federated_by(template: &str, own: &ControlPlane, partner: &ControlPlane) -> Mesh {
    let bootstrap = Bootstrap::builder()
        .client_listener_template(template)
        .server(own.xds_server())
        .authority(
            "partner",
            AuthorityConfig::builder().server(partner.xds_server()),
        )
        .authority("alias", AuthorityConfig::builder())
        .node_id("test-node")
        .build()
        .expect("a valid bootstrap");
    Mesh::builder()
        .bootstrap(bootstrap)
        .build()
        .await
        .expect("a bootstrap is enough")
}

#[tokio::test]
async fn every_authority_is_asked_for_its_own_names_over_one_stream_each() {
    let (own, partner) = (ControlPlane::start().await, ControlPlane::start().await);
    let [here, there] = backends(["here", "there"]).await;
    own.service(SERVICE).endpoint(here.address()).apply();
    describe(&partner, LISTENER, "greeter", there.address());
    let mesh = federated(&own, &partner).await;
    let [plain, far] = [SERVICE, "xds://partner/greeter"]
        .map(|target| mesh_tonic::channel(&mesh, target).expect("a valid target"));
    assert_eq!(until_success(&plain).await, "here");
    assert_eq!(until_success(&far).await, "there");
    assert_eq!((own.streams(), partner.streams()), (1, 1));
    assert_eq!(Vec::from_iter(own.subscriptions(Kind::Listener)), [SERVICE]);
    assert_eq!(
        Vec::from_iter(partner.subscriptions(Kind::Listener)),
        [LISTENER]
    );
}

#[tokio::test]
async fn an_authority_without_servers_of_its_own_shares_the_stream() {
    let (own, partner) = (ControlPlane::start().await, ControlPlane::start().await);
    let [here, there] = backends(["here", "there"]).await;
    own.service(SERVICE).endpoint(here.address()).apply();
    let listener = LISTENER.replace("partner", "alias");
    describe(&own, &listener, "greeter", there.address());
    let mesh = federated(&own, &partner).await;
    for (target, name) in [(SERVICE, "here"), ("xds://alias/greeter", "there")] {
        let channel = mesh_tonic::channel(&mesh, target).expect("a valid target");
        assert_eq!(until_success(&channel).await, name);
    }
    assert_eq!((own.streams(), partner.connections()), (1, 0));
}

/// Only the listener has a new name; what it refers to is asked of the top-level server. The list's
/// OnlyXDSTPStyleLDS.
#[tokio::test]
async fn only_xdstp_style_lds() {
    let (own, partner) = (ControlPlane::start().await, ControlPlane::start().await);
    let [there] = backends(["there"]).await;
    own.set(&xds::endpoints("endpoints", &[there.address()]));
    own.set(&xds::cluster("cluster", "endpoints"));
    own.set(&xds::routes(
        "routes",
        "greeter",
        vec![xds::route_to("cluster")],
    ));
    partner.set(&xds::rds_listener(LISTENER, "routes"));
    let mesh = federated(&own, &partner).await;
    let channel = mesh_tonic::channel(&mesh, "xds://partner/greeter").expect("a valid target");
    assert_eq!(until_success(&channel).await, "there");
}

/// References and resources may order context parameters as they like. The list's
/// ContextParamOrder, for references and for what is sent.
#[tokio::test]
async fn context_param_order() {
    let (own, partner) = (ControlPlane::start().await, ControlPlane::start().await);
    let [there] = backends(["there"]).await;
    let name = |kind: &str, parameters: &str| format!("xdstp://partner/{kind}/x?{parameters}");
    let cluster = "envoy.config.cluster.v3.Cluster";
    let endpoints = "envoy.config.endpoint.v3.ClusterLoadAssignment";
    let routes = "envoy.config.route.v3.RouteConfiguration";
    // Asked for as `a=1&b=2`, under which the fake keeps them, and named the other way about.
    let put = |kind, key: String, any| partner.set_any(kind, key, any);
    let sent = xds::endpoints(&name(endpoints, "b=2&a=1"), &[there.address()]);
    put(
        Kind::Endpoints,
        name(endpoints, "a=1&b=2"),
        xds::pack(&sent),
    );
    let sent = xds::cluster(&name(cluster, "b=2&a=1"), &name(endpoints, "b=2&a=1"));
    put(Kind::Cluster, name(cluster, "a=1&b=2"), xds::pack(&sent));
    let route = xds::route_to(&name(cluster, "b=2&a=1"));
    let sent = xds::routes(&name(routes, "b=2&a=1"), "greeter", vec![route]);
    put(Kind::Route, name(routes, "a=1&b=2"), xds::pack(&sent));
    partner.set(&xds::rds_listener(LISTENER, &name(routes, "b=2&a=1")));
    let mesh = federated(&own, &partner).await;
    let channel = mesh_tonic::channel(&mesh, "xds://partner/greeter").expect("a valid target");
    assert_eq!(until_success(&channel).await, "there");
}

#[tokio::test]
async fn unknown_authority_in_dial_target() {
    let (own, partner) = (ControlPlane::start().await, ControlPlane::start().await);
    let mesh = federated(&own, &partner).await;
    let error = mesh_tonic::channel(&mesh, "xds://stranger/greeter").expect_err("it is unknown");
    let text = std::error::Error::source(&error).map_or(error.to_string(), ToString::to_string);
    assert_text(&text, &["stranger", "authorities"]);
}

async fn unknown_authority_in_received_response(way: Way) {
    let (own, partner) = (ControlPlane::start().await, ControlPlane::start().await);
    let routes = "xdstp://stranger/envoy.config.route.v3.RouteConfiguration/x";
    own.set(&xds::rds_listener(SERVICE, routes));
    let mesh = federated(&own, &partner).await;
    let channel = way.caller(&mesh, SERVICE);
    assert_unavailable(call(&channel).await, &["stranger", "authorities"]);
}

/// The template may name an authority: HTTP's way there, since a URL cannot name one.
async fn a_template_that_names_an_authority(way: Way) {
    let (own, partner) = (ControlPlane::start().await, ControlPlane::start().await);
    let [there] = backends(["there"]).await;
    let name = |kind: &str| format!("xdstp://partner/envoy.config.{kind}/{SERVICE}");
    describe(
        &partner,
        &name("listener.v3.Listener"),
        "*",
        there.address(),
    );
    let cluster = name("cluster.v3.Cluster");
    let endpoints = name("endpoint.v3.ClusterLoadAssignment");
    partner.set(&way.cluster(xds::cluster(&cluster, &endpoints)));
    let template = "xdstp://partner/envoy.config.listener.v3.Listener/%s";
    let mesh = federated_by(template, &own, &partner).await;
    let channel = way.caller(&mesh, SERVICE);
    assert_eq!(until_success(&channel).await, "there");
    assert_eq!((own.connections(), partner.streams()), (0, 1));
}

every_way!(
    unknown_authority_in_received_response,
    a_template_that_names_an_authority,
);
