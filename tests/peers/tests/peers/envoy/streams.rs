//! Bodies whose two ends take their time: frames both ways in turn, trailers, and readers who do not
//! read, whom their writers wait for.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Frame;
use mesh_core::config::HttpProtocol;
use mesh_hyper::Client;
use mesh_peers::{
    http::{App, Body, BoxError, Echo, PlainClient, body},
    settled, within,
};
use tokio::sync::watch;

use super::{BOTH, OurServer, before, behind};
use crate::world::World;

/// More than what all sockets and windows of the way may hold by far.
const LARGE: usize = 64 << 20;
/// What they may hold: some 10 MiB of each of two connections are the system's own.
const HELD: u64 = 32 << 20;
const URL: &str = "http://app.shop";

fn request(method: &str, uri: String, body: Body) -> Request<Body> {
    let request = Request::builder().method(method).uri(uri);
    let request = request.header("te", "trailers").header("trailer", "x-end");
    request.body(body).unwrap()
}

/// Each frame is answered before the next is sent, and at the end the trailers are.
async fn in_turn<B>(
    base: &str,
    send: impl AsyncFnOnce(Request<Body>) -> Response<B>,
) -> Option<HeaderMap>
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    const FRAMES: u8 = 20;
    const LENGTH: usize = 1000;
    let (frames, body) = body::streamed();
    let response = send(request("POST", format!("{base}/stream"), body)).await;
    let mut answer = response.into_body();
    for number in 0..FRAMES {
        let frame = Frame::data(Bytes::from(vec![number; LENGTH]));
        frames.send(Ok(frame)).await.unwrap();
        let mut got = Vec::new();
        while got.len() < LENGTH {
            let frame = answer.frame().await.unwrap().map_err(Into::into).unwrap();
            got.extend(frame.into_data().unwrap());
        }
        assert_eq!(got, [number; LENGTH]);
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("x-end", "here".parse().unwrap());
    frames.send(Ok(Frame::trailers(trailers))).await.unwrap();
    drop(frames);
    let end = answer.collect().await.map_err(Into::into).unwrap();
    end.trailers().cloned()
}

/// A server that does not read stops its client, and gets all once it does.
async fn server_waits<B>(
    base: &str,
    app: &App,
    send: impl AsyncFnOnce(Request<Body>) -> Response<B>,
) where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    let asked = Arc::new(watch::Sender::new(0));
    let body = body::long(LARGE, Arc::clone(&asked));
    let request = request("POST", format!("{base}/hold"), body);
    let waits = async {
        let held = settled(|| *asked.borrow()).await;
        assert!(held < HELD, "{held} bytes were sent and not read");
        app.let_go();
    };
    let (response, ()) = tokio::join!(send(request), waits);
    let echo = response.into_body().collect().await.map_err(Into::into);
    let echo: Echo = serde_json::from_slice(&echo.unwrap().to_bytes()).unwrap();
    assert_eq!(echo.length, LARGE as u64);
}

/// A client that does not read stops its server, and gets all once it does.
async fn client_waits<B>(
    base: &str,
    app: &App,
    send: impl AsyncFnOnce(Request<Body>) -> Response<B>,
) where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    let request = request("GET", format!("{base}/body/{LARGE}"), body::empty());
    let response = send(request).await;
    let held = settled(|| app.asked()).await;
    assert!(held < HELD, "{held} bytes were sent and not read");
    let body = response.into_body().collect().await.map_err(Into::into);
    assert_eq!(body.unwrap().to_bytes().len(), LARGE);
}

fn has_end(trailers: Option<HeaderMap>) {
    let trailers = trailers.expect("there are trailers");
    assert_eq!(trailers["x-end"], "here");
}

#[tokio::test]
async fn frames_and_trailers_through_envoy_to_our_server() {
    within(async {
        let world = World::start().await;
        let files = world.node("envoy");
        let ours = OurServer::start(&world, "server", |_| {}).await;
        for upstream in BOTH {
            let envoy = ours.behind_envoy(&files, upstream).await;
            for downstream in BOTH {
                let client = PlainClient::new(downstream, envoy.address("front"));
                let send = async |request| client.request(request).await.unwrap();
                has_end(in_turn(&client.uri(""), send).await);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn frames_and_trailers_from_our_client_to_envoy() {
    within(async {
        let world = World::start().await;
        let (_ours, files) = (world.node("client"), world.node("envoy"));
        let (address, _serving) = App::new("behind").serve_plainly().await;
        for upstream in BOTH {
            let envoy = before(address, &files, upstream).await;
            for protocol in [HttpProtocol::Http1, HttpProtocol::Http2] {
                behind(&world, &[&envoy], protocol).apply();
                let mesh = world.control_plane.mesh("client").await;
                let client = Client::new(&mesh);
                let send = async |request| client.request(request).await.unwrap();
                has_end(in_turn(URL, send).await);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn who_does_not_read_stops_who_writes_through_envoy_to_our_server() {
    within(async {
        let world = World::start().await;
        let files = world.node("envoy");
        for protocol in BOTH {
            let ours = OurServer::start(&world, "server", |_| {}).await;
            let envoy = ours.behind_envoy(&files, protocol).await;
            let client = PlainClient::new(protocol, envoy.address("front"));
            let send = async |request| client.request(request).await.unwrap();
            client_waits(&client.uri(""), &ours.app, send).await;
            server_waits(&client.uri(""), &ours.app, send).await;
        }
    })
    .await;
}

#[tokio::test]
async fn who_does_not_read_stops_who_writes_from_our_client_to_envoy() {
    within(async {
        let world = World::start().await;
        let (_ours, files) = (world.node("client"), world.node("envoy"));
        for (upstream, protocol) in BOTH
            .into_iter()
            .zip([HttpProtocol::Http1, HttpProtocol::Http2])
        {
            let app = App::new("behind");
            let (address, _serving) = app.serve_plainly().await;
            let envoy = before(address, &files, upstream).await;
            behind(&world, &[&envoy], protocol).apply();
            let mesh = world.control_plane.mesh("client").await;
            let client = Client::new(&mesh);
            let send = async |request| client.request(request).await.unwrap();
            client_waits(URL, &app, send).await;
            server_waits(URL, &app, send).await;
        }
    })
    .await;
}
