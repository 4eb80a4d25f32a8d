//! One of two instances is taken out of service while requests go on: none fails.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Frame;
use mesh_core::{config::HttpProtocol, testing::Retry};
use mesh_hyper::Client;
use mesh_peers::{
    PATIENCE,
    envoy::{
        Envoy,
        config::{Protocol, all_retried_to, cluster_of, listener},
    },
    http::{App, PlainClient, body},
    until, within,
};

use super::{BOTH, OurServer, before, behind, traffic::Traffic};
use crate::world::World;

async fn our_server_drains(upstream: Protocol) {
    let world = World::start().await;
    let files = world.node("envoy");
    let one = OurServer::start(&world, "one", |_| {}).await;
    let other = OurServer::start(&world, "other", |_| {}).await;
    let endpoints = [one.address, other.address];
    let envoy = Envoy::start(
        vec![listener("front", None, all_retried_to("ours"))],
        vec![cluster_of("ours", &endpoints, upstream, Some(&files))],
    )
    .await;
    let client = PlainClient::new(Protocol::Http2, envoy.address("front"));
    let traffic = Traffic::of_plain(&client);
    traffic.more(100).await;
    let report = one.mesh.drain(PATIENCE).await;
    assert!(report.finished > 0, "{report:?}");
    assert_eq!(report.cut, 0, "{report:?}");
    assert!(one.mesh.ready().await.is_err());
    traffic.more(200).await;
    traffic.stop().await;
}

#[tokio::test]
async fn our_server_drains_behind_envoy() {
    for upstream in BOTH {
        within(our_server_drains(upstream)).await;
    }
}

async fn envoy_drains(protocol: HttpProtocol) {
    let world = World::start().await;
    let (_ours, files) = (world.node("client"), world.node("envoy"));
    let (address, _serving) = App::new("behind").serve_plainly().await;
    let mut one = before(address, &files, Protocol::Http2).await;
    let other = before(address, &files, Protocol::Http2).await;
    let retry = Retry::conditions(["connect-failure", "refused-stream", "reset"]).times(5);
    let service = behind(&world, &[&one, &other], protocol).retry(retry);
    service.apply();
    let mesh = world.control_plane.mesh("client").await;
    let traffic = Traffic::of_ours(&Client::new(&mesh));
    one.counts("http.entry.downstream_rq_completed", 20).await;
    one.order("/drain_listeners?graceful").await;
    // Requests move over: connections are told to go away, then the listener closes. To end before
    // that is done would cut responses that have begun, which nobody can ask for again.
    let left = async || one.stat("http.entry.downstream_cx_active").await == 0;
    until("left by all", left).await;
    one.order("/quitquitquit").await;
    one.ended().await;
    let before = other.stat("http.entry.downstream_rq_completed").await;
    traffic.more(200).await;
    traffic.stop().await;
    let after = other.stat("http.entry.downstream_rq_completed").await;
    assert!(after >= before + 200, "{before} then {after}");
}

#[tokio::test]
async fn envoy_drains_and_ends_behind_our_client() {
    for protocol in [HttpProtocol::Http1, HttpProtocol::Http2] {
        within(envoy_drains(protocol)).await;
    }
}

#[tokio::test]
async fn envoy_drains_in_front_of_our_server() {
    within(async {
        let world = World::start().await;
        let files = world.node("envoy");
        let ours = OurServer::start(&world, "server", |_| {}).await;
        for upstream in BOTH {
            let mut envoy = ours.behind_envoy(&files, upstream).await;
            let client = PlainClient::new(Protocol::Http2, envoy.address("front"));
            // What is under way when Envoy begins to drain goes on...
            let (frames, body) = body::streamed();
            let response = client.send("POST", "/stream", body).await.unwrap();
            envoy.order("/drain_listeners?graceful").await;
            let data = Frame::data(Bytes::from_static(b"after it began"));
            frames.send(Ok(data)).await.unwrap();
            drop(frames);
            let body = response.into_body().collect().await.unwrap();
            assert_eq!(body.to_bytes(), "after it began");
            // ...and our server is left without connections.
            envoy.order("/quitquitquit").await;
            envoy.ended().await;
            let none = async || ours.mesh.connections().is_empty();
            until("without Envoy's connections", none).await;
        }
    })
    .await;
}
