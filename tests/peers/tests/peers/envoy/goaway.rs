//! Connections that end by themselves while requests go on, because they are old or have brought
//! enough. No request fails, and none needs a retry policy, but where a rule says otherwise.

use std::time::Duration;

use mesh_core::config::HttpProtocol;
use mesh_hyper::Client;
use mesh_peers::{
    envoy::{
        Envoy,
        config::{Protocol, all_retried_to, all_to, cluster, connections, listener},
    },
    http::{App, PlainClient},
    within,
};
use serde_json::{Value, json};

use super::{BOTH, OurServer, behind, traffic::Traffic};
use crate::world::World;

/// So many connections have to end.
const ENDED: u64 = 5;
const AGE: Duration = Duration::from_millis(200);
const REQUESTS: u64 = 20;

async fn in_front(upstream: Protocol, routes: Value, age: Option<Duration>, requests: Option<u64>) {
    let world = World::start().await;
    let files = world.node("envoy");
    let ours = OurServer::start(&world, "server", |options| {
        options.max_connection_age = age;
        options.max_connection_requests = requests;
    })
    .await;
    let envoy = Envoy::start(
        vec![listener("front", None, routes)],
        vec![cluster("ours", ours.address, upstream, Some(&files))],
    )
    .await;
    let client = PlainClient::new(Protocol::Http2, envoy.address("front"));
    let traffic = Traffic::of_plain(&client);
    let opened = "cluster.ours.upstream_cx_total";
    envoy.counts(opened, ENDED).await;
    traffic.more(50).await;
    traffic.stop().await;
    if upstream == Protocol::Http2 {
        // Told by GOAWAY, each.
        let told = envoy.stat("cluster.ours.upstream_cx_close_notify").await;
        assert!(told >= ENDED - 1, "{told}");
    }
}

#[tokio::test]
async fn our_server_ends_connections_of_a_number_of_requests() {
    for upstream in BOTH {
        within(in_front(upstream, all_to("ours"), None, Some(REQUESTS))).await;
    }
}

#[tokio::test]
async fn our_server_ends_old_connections() {
    within(in_front(Protocol::Http2, all_to("ours"), Some(AGE), None)).await;
    // An idle connection of HTTP/1.1 can only be closed, which a request on its way may meet.
    within(in_front(
        Protocol::Http1,
        all_retried_to("ours"),
        Some(AGE),
        None,
    ))
    .await;
}

async fn at_the_back(options: Value, statistic: &str) {
    let world = World::start().await;
    let (_ours, files) = (world.node("client"), world.node("envoy"));
    let (address, _serving) = App::new("behind").serve_plainly().await;
    for protocol in [HttpProtocol::Http1, HttpProtocol::Http2] {
        let entry = listener("entry", Some(&files), all_to("app"));
        let envoy = Envoy::start(
            vec![connections(entry, options.clone())],
            vec![cluster("app", address, Protocol::Http2, None)],
        )
        .await;
        behind(&world, &[&envoy], protocol).apply();
        let mesh = world.control_plane.mesh("client").await;
        let traffic = Traffic::of_ours(&Client::new(&mesh));
        envoy.counts(statistic, ENDED).await;
        traffic.more(50).await;
        traffic.stop().await;
    }
}

#[tokio::test]
async fn envoy_ends_connections_of_a_number_of_requests() {
    let options = json!({ "max_requests_per_connection": REQUESTS });
    let statistic = "http.entry.downstream_cx_max_requests_reached";
    within(at_the_back(options, statistic)).await;
}

#[tokio::test]
async fn envoy_ends_old_connections() {
    let options = json!({ "max_connection_duration": "0.2s" });
    let statistic = "http.entry.downstream_cx_max_duration_reached";
    within(at_the_back(options, statistic)).await;
}
