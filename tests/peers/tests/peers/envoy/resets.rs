//! Either end gives up in the middle: what the other one sees, and what Envoy calls it.

use std::io;

use http_body_util::BodyExt;
use mesh_core::{config::HttpProtocol, telemetry::Cause};
use mesh_hyper::Client;
use mesh_peers::{
    envoy::config::Protocol,
    http::{App, PlainClient, body},
    until, within,
};

use super::{BOTH, OurServer, before, behind};
use crate::world::World;

/// What Envoy calls a response that its upstream broke off: HTTP/1.1 ends the connection, which is
/// no end of a body in chunks; HTTP/2 resets the stream.
fn broken_off(upstream: Protocol) -> &'static str {
    match upstream {
        Protocol::Http1 => "UPE",
        Protocol::Http2 => "UR",
    }
}

/// What it calls a request that its client gave up: again, the connection or the stream.
fn given_up(downstream: Protocol) -> &'static str {
    match downstream {
        Protocol::Http1 => "DC",
        Protocol::Http2 => "DR",
    }
}

#[tokio::test]
async fn in_front_of_our_server() {
    within(async {
        let world = World::start().await;
        let files = world.node("envoy");
        for upstream in BOTH {
            let ours = OurServer::start(&world, "server", |_| {}).await;
            let envoy = ours.behind_envoy(&files, upstream).await;
            let client = PlainClient::new(upstream, envoy.address("front"));

            // The client gives up before a response begins...
            let waits = tokio::spawn({
                let client = client.clone();
                async move { client.get("/hang").await }
            });
            ours.app.hangs(1).await;
            waits.abort();
            ours.app.gone(1).await;
            envoy.logs(&format!("/hang 0 {}", given_up(upstream))).await;
            // ...and in the middle of both bodies.
            let (frames, body) = body::streamed();
            let _response = client.send("POST", "/stream", body).await.unwrap();
            let error = io::Error::other("given up on purpose");
            frames.send(Err(error.into())).await.unwrap();
            frames.closed().await;
            envoy
                .logs(&format!("/stream 200 {}", given_up(upstream)))
                .await;

            // The server breaks off its response.
            let client = PlainClient::new(upstream, envoy.address("front"));
            let response = client.send("GET", "/break", body::empty()).await.unwrap();
            assert_eq!(response.status().as_u16(), 200);
            let mut body = response.into_body();
            let begin = body.frame().await.unwrap().unwrap();
            assert_eq!(begin.into_data().unwrap(), "the beginning");
            ours.app.let_go();
            assert!(body.collect().await.is_err());
            let flag = broken_off(upstream);
            envoy.logs(&format!("/break 200 {flag}")).await;
        }
    })
    .await;
}

#[tokio::test]
async fn behind_our_client() {
    within(async {
        let world = World::start().await;
        let (_ours, files) = (world.node("client"), world.node("envoy"));
        let cases = [
            (Protocol::Http1, HttpProtocol::Http1, "UC"),
            (Protocol::Http2, HttpProtocol::Http2, "UR"),
        ];
        for (spoken, protocol, flag) in cases {
            let app = App::new("behind");
            let (address, _serving) = app.serve_plainly().await;
            let envoy = before(address, &files, spoken).await;
            behind(&world, &[&envoy], protocol).apply();
            let mesh = world.control_plane.mesh("client").await;
            let client = Client::new(&mesh);

            let waits = tokio::spawn(client.get("http://app.shop/hang").send());
            app.hangs(1).await;
            waits.abort();
            app.gone(1).await;
            envoy.logs(&format!("/hang 0 {}", given_up(spoken))).await;
            let cancelled = async || mesh.metrics().totals().cause(Cause::Cancelled) == 1;
            until("recorded", cancelled).await;

            let (frames, body) = body::streamed();
            let request = http::Request::post("http://app.shop/stream").body(body);
            let response = client.request(request.unwrap()).await.unwrap();
            drop(response);
            frames.closed().await;
            envoy
                .logs(&format!("/stream 200 {}", given_up(spoken)))
                .await;

            let response = client.get("http://app.shop/break").await.unwrap();
            assert_eq!(response.status().as_u16(), 200);
            let mut body = response.into_body();
            let begin = body.frame().await.unwrap().unwrap();
            assert_eq!(begin.into_data().unwrap(), "the beginning");
            app.let_go();
            let error = body.collect().await.unwrap_err();
            assert_eq!(error.cause(), Cause::Reset, "{error}");
            assert_eq!(error.response_flag(), Some(flag), "{error}");
            envoy
                .logs(&format!("/break 200 {}", broken_off(spoken)))
                .await;
        }
    })
    .await;
}
