use std::{collections::BTreeSet, error::Error as _, time::Duration};

use axum::{Router, http::Version};
use http::{StatusCode, Uri};
use mesh_core::{
    Mesh,
    config::{Address, HttpProtocol},
    testing::{CertificateAuthority, ControlPlane},
};
use mesh_hyper::{Error, MeshConnector};
use mesh_tests::{
    eventually,
    fixture::{SERVICE, within},
    running::port,
    secured::{client_tls, server_tls},
};
use tonic::codegen::Service;

use crate::{SHORT, World, anew, get_from, plain, reuse, who};

fn named(name: &'static str) -> Router {
    Router::new().fallback(async move || name)
}

async fn mesh(control_plane: &ControlPlane) -> Mesh {
    let mesh = Mesh::builder()
        .bootstrap(control_plane.bootstrap("client"))
        .options(|options| {
            options.resource_timeout = SHORT;
            options.connect_backoff_base = Duration::from_secs(600);
            options.connect_backoff_max = Duration::from_secs(600);
        });
    mesh.build().await.unwrap()
}

/// Why a connector fails with this URI.
async fn failure(mesh: &Mesh, uri: &str) -> Error {
    let mut connector = MeshConnector::new(mesh);
    let uri: Uri = uri.parse().unwrap();
    within(connector.call(uri)).await.unwrap_err()
}

#[tokio::test]
async fn connections_are_balanced_and_an_endpoint_that_fails_is_left_alone() {
    let control_plane = ControlPlane::start().await;
    let (a, _a) = plain(named("a")).await;
    let (b, _b) = plain(named("b")).await;
    // Nobody listens there any more.
    let gone = port().await.local_addr().unwrap();
    let service = || control_plane.service(SERVICE);
    service().endpoint(a).endpoint(b).endpoint(gone).apply();
    let mesh = mesh(&control_plane).await;
    let http = anew(&mesh);
    let mut seen = BTreeSet::new();
    for _ in 0..12 {
        let (status, name) = get_from(&http, "/").await.unwrap();
        assert_eq!(status, StatusCode::OK);
        seen.insert(name);
    }
    assert_eq!(seen, BTreeSet::from(["a".to_owned(), "b".to_owned()]));

    service()
        .clear_endpoints()
        .endpoint(b)
        .apply()
        .acked()
        .await;
    for _ in 0..4 {
        assert_eq!(get_from(&http, "/").await.unwrap().1, "b");
    }
}

#[tokio::test]
async fn the_cluster_says_which_protocol_is_spoken() {
    let version = Router::new().fallback(async |version: Version| format!("{version:?}"));
    for (protocol, spoken) in [
        (HttpProtocol::Http1, "HTTP/1.1"),
        (HttpProtocol::Http2, "HTTP/2.0"),
        (HttpProtocol::Auto, "HTTP/1.1"),
    ] {
        let control_plane = ControlPlane::start().await;
        let (address, _serving) = plain(version.clone()).await;
        let service = control_plane.service(SERVICE).protocol(protocol);
        service.endpoint(address).apply();
        let http = reuse(&mesh(&control_plane).await);
        assert_eq!(
            get_from(&http, "/").await.unwrap().1,
            spoken,
            "{protocol:?}"
        );
    }
}

#[tokio::test]
async fn over_tls_both_ends_agree_on_the_protocol() {
    let version = Router::new().fallback(async |version: Version| format!("{version:?}"));
    let world = World::with(version, server_tls(), client_tls(), |_| {}).await;
    for (protocol, spoken) in [
        (HttpProtocol::Http1, "HTTP/1.1"),
        (HttpProtocol::Http2, "HTTP/2.0"),
        (HttpProtocol::Auto, "HTTP/2.0"),
    ] {
        let service = world.control_plane.service(SERVICE).protocol(protocol);
        service.apply();
        // The push is the client's affair: a client of its own has nothing older.
        let client = mesh_tests::secured::Side::start(
            &world.control_plane,
            "another",
            mesh_tests::secured::CLIENT,
            &world.ca,
        )
        .await;
        let http = reuse(&client.mesh);
        assert_eq!(
            get_from(&http, "/").await.unwrap().1,
            spoken,
            "{protocol:?}"
        );
    }
}

#[tokio::test]
async fn a_server_that_is_not_trusted_any_more_is_left_at_once() {
    let world = World::start(who()).await;
    world.get("/who").await;
    let other = CertificateAuthority::new("other");
    world.client.trust_in(&[&other]);
    let connections = || world.server.mesh.connections().is_empty().then_some(());
    eventually(connections, || "it is connected".to_owned()).await;
    let error = get_from(&world.http, "/who").await.unwrap_err();
    assert!(error.is_connect(), "{error}");
    let why = error.source().expect("the connector's").to_string();
    assert!(why.contains("no TLS with"), "{why}");
}

#[tokio::test]
async fn what_cannot_be_had_fails_and_says_why() {
    let control_plane = ControlPlane::start().await;
    let gone = port().await.local_addr().unwrap();
    control_plane.service(SERVICE).endpoint(gone).apply();
    control_plane.service("empty.test:80").version("v1").apply();
    let mesh = mesh(&control_plane).await;

    let error = failure(&mesh, &format!("http://{SERVICE}")).await;
    assert!(error.is_no_endpoint(), "{error}");
    assert_eq!(error.endpoints_tried(), [Address::Socket(gone)]);
    assert!(error.to_string().contains("cannot connect"), "{error}");
    let error = failure(&mesh, "http://empty.test").await;
    assert!(error.is_no_endpoint(), "{error}");
    let error = failure(&mesh, "http://unknown.test").await;
    assert_eq!(
        error.cause(),
        mesh_core::telemetry::Cause::NoRoute,
        "{error}"
    );
    for (uri, why) in [
        ("/relative", "no authority"),
        ("ftp://a.test/", "neither http nor https"),
        ("http://me:secret@a.test/", "user information"),
    ] {
        let error = failure(&mesh, uri).await;
        assert_eq!(error.code(), mesh_core::Code::InvalidArgument);
        assert_eq!(
            (error.status().as_u16(), error.response_flag()),
            (400, None)
        );
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[tokio::test]
async fn a_connector_leaves_nothing() {
    let control_plane = ControlPlane::start().await;
    let (address, _serving) = plain(named("a")).await;
    control_plane.service(SERVICE).endpoint(address).apply();
    let mesh = mesh(&control_plane).await;
    let mut connector = MeshConnector::new(&mesh);
    let uri: Uri = format!("http://{SERVICE}").parse().unwrap();
    let io = within(connector.call(uri)).await.unwrap();
    assert_eq!(*io.endpoint(), Address::Socket(address));
    drop(connector);
    assert_eq!(mesh.targets().len(), 1, "its connection is followed");
    drop(io);
    let over = || mesh.targets().is_empty().then_some(());
    eventually(over, || format!("{:?}", mesh.targets())).await;
    let kind = mesh_core::config::Kind::Listener;
    let subscribed = || control_plane.subscriptions(kind).is_empty().then_some(());
    eventually(subscribed, || "it is subscribed".to_owned()).await;
}
