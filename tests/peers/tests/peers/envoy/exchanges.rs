//! What is asked for and what is answered is the same on both ends.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use mesh_core::{
    config::HttpProtocol,
    testing::{ListenerTls, SanMatch, Tls},
};
use mesh_hyper::{Client, Server};
use mesh_peers::{
    envoy::{
        Envoy,
        config::{Protocol, all_to, cluster, listener},
    },
    http::{App, Echo, PlainClient, body},
    within,
};
use tokio::net::TcpListener;

use super::{BOTH, PROVIDER};
use crate::world::{World, identity};

const LARGE: usize = 5 << 20;

async fn exchanges(client: &PlainClient, server: &str) {
    let body = body::full(vec![7u8; LARGE]);
    let response = client.send("POST", "/echo?n=1", body).await.unwrap();
    let echo = response.into_body().collect().await.unwrap().to_bytes();
    let echo: Echo = serde_json::from_slice(&echo).unwrap();
    assert_eq!(
        (&*echo.server, &*echo.method, &*echo.path),
        (server, "POST", "/echo?n=1")
    );
    assert_eq!((echo.length, echo.sum), (LARGE as u64, 7 * LARGE as u64));
    assert_eq!(echo.tag.as_deref(), Some("here"));
    for _ in 0..50 {
        let (status, _, body) = client.get("/body/100000").await.unwrap();
        assert_eq!((status.as_u16(), body.len()), (200, 100_000));
    }
    let (status, _, body) = client.get("/status/503").await.unwrap();
    assert_eq!((status.as_u16(), body.len()), (503, 0));
    // Envoy passes on the break, or answers itself if it had nothing of the response yet.
    let response = client.send("GET", "/broken", body::empty()).await.unwrap();
    if response.status().as_u16() != 503 {
        assert_eq!(response.status().as_u16(), 200);
        assert!(response.into_body().collect().await.is_err(), "it is whole");
    }
}

async fn in_front(tls: bool) {
    let world = World::start().await;
    let files = world.node("server");
    let envoys = world.node("envoy");
    let mesh = world.control_plane.mesh("server").await;
    let socket = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    let inbound = world.control_plane.server(address);
    match tls {
        true => inbound
            .tls(ListenerTls::present(PROVIDER).require_client(PROVIDER))
            .apply(),
        false => inbound.apply(),
    };
    let app = App::new("ours");
    let serving = tokio::spawn(Server::new(&mesh).serve(socket, app.clone()));
    for upstream in BOTH {
        let secured = tls.then_some(&envoys);
        let envoy = Envoy::start(
            vec![listener("front", None, all_to("ours"))],
            vec![cluster("ours", address, upstream, secured)],
        )
        .await;
        for downstream in BOTH {
            let client = PlainClient::new(downstream, envoy.address("front"));
            exchanges(&client, "ours").await;
            let (_, _, body) = client.get("/echo").await.unwrap();
            let echo: Echo = serde_json::from_slice(&body).unwrap();
            let protocol = match upstream {
                Protocol::Http1 => "HTTP/1.1",
                Protocol::Http2 => "HTTP/2.0",
            };
            assert_eq!(echo.protocol, protocol);
            assert_eq!(echo.peer, tls.then(|| identity("envoy")));
        }
        // Connections are kept: one for each request would be more than a hundred.
        let opened = envoy.stat("cluster.ours.upstream_cx_total").await;
        assert!(opened <= 20, "{opened} connections");
    }
    serving.abort();
    drop(files);
}

#[tokio::test]
async fn in_front_of_our_server() {
    within(in_front(false)).await;
}

#[tokio::test]
async fn in_front_of_our_server_with_mutual_tls() {
    within(in_front(true)).await;
}

async fn behind(tls: bool) {
    let world = World::start().await;
    let ours = world.node("client");
    let envoys = world.node("envoy");
    let app = App::new("behind");
    let (address, _serving) = app.serve_plainly().await;
    let secured = tls.then_some(&envoys);
    let envoy = Envoy::start(
        vec![listener("entry", secured, all_to("app"))],
        vec![cluster("app", address, Protocol::Http1, None)],
    )
    .await;
    let mesh = world.control_plane.mesh("client").await;
    for protocol in [HttpProtocol::Http1, HttpProtocol::Http2, HttpProtocol::Auto] {
        let service = world.control_plane.service("app.shop:80").clear_endpoints();
        let service = service.endpoint(envoy.address("entry")).protocol(protocol);
        let expected = Tls::trust(PROVIDER).present(PROVIDER);
        let expected = expected.san(SanMatch::uri(identity("envoy")));
        service.tls(tls.then_some(expected)).apply();
        calls(&Client::new(&mesh)).await;
    }
    let opened = envoy.stat("http.entry.downstream_cx_total").await;
    assert!(opened <= 20, "{opened} connections");
    drop(ours);
}

async fn calls(client: &Client) {
    let body = vec![3u8; LARGE];
    let response = client
        .post("http://app.shop/echo?n=1", body)
        .send()
        .await
        .unwrap();
    let echo = response.into_body().collect().await.unwrap().to_bytes();
    let echo: Echo = serde_json::from_slice(&echo).unwrap();
    assert_eq!(
        (&*echo.server, &*echo.method, &*echo.path),
        ("behind", "POST", "/echo?n=1")
    );
    assert_eq!((echo.length, echo.sum), (LARGE as u64, 3 * LARGE as u64));
    for _ in 0..50 {
        let response = client
            .get("http://app.shop/body/100000")
            .send()
            .await
            .unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body.len(), 100_000);
    }
    let response = client
        .get("http://app.shop/status/503")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status().as_u16(), 503);
    let response = client.get("http://app.shop/broken").send().await.unwrap();
    let status = response.status().as_u16();
    assert!(response.into_body().collect().await.is_err() || status == 503);
    let request = http::Request::get("http://app.shop/status/204").body(Empty::<Bytes>::new());
    let response = client.request(request.unwrap()).await.unwrap();
    assert_eq!(response.status().as_u16(), 204);
}

#[tokio::test]
async fn behind_our_client() {
    within(behind(false)).await;
}

#[tokio::test]
async fn behind_our_client_with_mutual_tls() {
    within(behind(true)).await;
}
