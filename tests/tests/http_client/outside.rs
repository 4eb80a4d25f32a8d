//! Hosts that are not of the mesh.

use mesh_core::{
    config::Kind, control::PASSTHROUGH_CLUSTER, telemetry::Cause, testing::ControlPlane,
};
use mesh_hyper::{Client, client::Outside};
use mesh_tests::fixture::within;

use super::{HttpServer, mesh, service, text};

#[tokio::test]
async fn a_host_that_is_not_of_the_mesh_is_denied_and_the_error_says_how_to_allow_it() {
    let control_plane = ControlPlane::start().await;
    let mesh = mesh(&control_plane).await;
    for client in [
        Client::new(&mesh),
        Client::builder(&mesh)
            .outside(Outside::listed(["api.test"]).unwrap())
            .build(),
    ] {
        let error = text(client.get("http://else.test/")).await.unwrap_err();
        assert_eq!(error.cause(), Cause::NoRoute);
        assert_eq!(error.response_flag(), Some("NR"));
        let text = error.message();
        assert!(text.contains("else.test:80"), "{text}");
        assert!(text.contains("ClientBuilder::outside"), "{text}");
    }
}

#[tokio::test]
async fn a_host_that_is_allowed_goes_out_and_nobody_is_asked() {
    let control_plane = ControlPlane::start().await;
    let server = HttpServer::start("outside").await;
    let mesh = mesh(&control_plane).await;
    let client = Client::builder(&mesh)
        .outside(Outside::listed(["127.0.0.1", "localhost"]).unwrap())
        .build();
    let port = server.address().port();
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("http://{host}:{port}/x");
        let expected = format!("outside GET {host}:{port} /x ");
        assert_eq!(text(client.get(&*url)).await.unwrap(), expected);
    }
    assert_eq!(control_plane.connections(), 0);
    let series = mesh.metrics().snapshot();
    let series = series.iter().find(|one| one.counts().finished() > 0);
    assert_eq!(&*series.unwrap().series.cluster, PASSTHROUGH_CLUSTER);
}

#[tokio::test]
async fn an_allowed_https_host_never_falls_back_to_plaintext() {
    let control_plane = ControlPlane::start().await;
    let server = HttpServer::start("plaintext").await;
    let client = Client::builder(&mesh(&control_plane).await)
        .outside(Outside::listed(["127.0.0.1"]).unwrap())
        .build();
    // Which the server would answer.
    let url = format!("https://{}/", server.address());
    let error = text(client.get(&*url)).await.unwrap_err();
    assert!(error.is_no_endpoint(), "{error}");
    assert_eq!(error.cluster(), Some(PASSTHROUGH_CLUSTER));
}

#[tokio::test]
async fn with_all_what_the_mesh_has_stays_in_it_and_the_rest_goes_out() {
    let control_plane = ControlPlane::start().await;
    let inside = HttpServer::start("inside").await;
    let outside = HttpServer::start("outside").await;
    service(&control_plane, "catalog.shop:80", &inside).apply();
    let client = Client::builder(&mesh(&control_plane).await)
        .outside(Outside::all())
        .build();
    let catalog = text(client.get("http://catalog.shop/")).await.unwrap();
    assert_eq!(catalog, "inside GET catalog.shop / ");

    let address = outside.address();
    let url = format!("http://{address}/");
    let expected = format!("outside GET {address} / ");
    assert_eq!(text(client.get(&*url)).await.unwrap(), expected);
    let asked = control_plane.subscriptions(Kind::Listener);
    assert!(asked.contains(&address.to_string()), "{asked:?}");

    // The mesh has it now.
    service(&control_plane, &address.to_string(), &inside).apply();
    let wanted = format!("inside GET {address} / ");
    within(async { while text(client.get(&*url)).await.unwrap() != wanted {} }).await;
}

#[tokio::test]
async fn with_all_nothing_goes_out_while_the_control_plane_is_gone() {
    let control_plane = ControlPlane::start().await;
    let outside = HttpServer::start("outside").await;
    let mesh = mesh(&control_plane).await;
    drop(control_plane);
    let client = Client::builder(&mesh).outside(Outside::all()).build();
    let url = format!("http://{}/", outside.address());
    let error = text(client.get(&*url)).await.unwrap_err();
    assert_eq!(error.cause(), Cause::NoConfig, "{error}");
}

#[tokio::test]
async fn a_control_plane_that_says_nothing_does_not_hang_who_is_denied() {
    let control_plane = ControlPlane::start().await;
    control_plane.hold();
    let client = Client::new(&mesh(&control_plane).await);
    let error = text(client.get("http://else.test/")).await.unwrap_err();
    assert_eq!(
        (error.status().as_u16(), error.response_flag()),
        (404, Some("NR"))
    );
    assert!(error.message().contains("else.test:80"), "{error}");
}
