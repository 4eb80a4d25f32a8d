//! The lives of HTTP/1.1 connections.

use std::time::Duration;

use http_body_util::BodyExt;
use mesh_core::{
    balance::Connectivity::{Idle, Ready},
    config::{Connections, HttpProtocol},
    runtime::Transport,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use super::{harness::*, http1::*};

const SECOND: Duration = Duration::from_secs(1);

fn connections(connections: Connections) -> Config {
    Config {
        connections,
        ..Config::default()
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_and_another_is_made_on_demand() {
    let (mut fixture, mut peer) = connected(connections(Connections {
        idle_timeout: 60 * SECOND,
        ..Connections::default()
    }))
    .await;
    for _ in 0..5 {
        tokio::time::sleep(50 * SECOND).await;
        let call = fixture.call("/");
        peer.hello("/").await;
        text(call.await.expect("no panic")).await;
    }
    let idle = Instant::now();
    peer.closed().await;
    let idle = idle.elapsed().as_secs();
    assert!((60..=75).contains(&idle), "{idle} s");
    fixture.settled(0).await;
    assert_eq!(fixture.pool().connections(), 0);
    assert_eq!(fixture.link.connectivity(), Ready);

    let call = fixture.call("/");
    Peer(fixture.accept().await).hello("/").await;
    text(call.await.expect("no panic")).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_takes_as_many_requests_as_it_may() {
    let (mut fixture, mut peer) = connected(connections(Connections {
        max_requests: Some(2),
        ..Connections::default()
    }))
    .await;
    for dials in 1..4 {
        for _ in 0..2 {
            let call = fixture.call("/");
            if fixture.dials() < dials || dials > 1 && fixture.pool().connections() == 0 {
                peer = Peer(fixture.accept().await);
            }
            peer.hello("/").await;
            assert_eq!(text(call.await.expect("no panic")).await, "hello");
            tokio::time::sleep(SECOND).await;
        }
        assert_eq!(fixture.dials(), dials);
        assert_eq!(fixture.pool().connections(), 0, "it is spent");
    }
    peer.closed().await;
}

#[tokio::test(start_paused = true)]
async fn an_http2_connection_takes_as_many_requests_as_it_may() {
    let mut fixture = fixture(connections(Connections {
        max_requests: Some(2),
        ..Connections::default()
    }));
    let mut server = fixture.server(None).await;
    let first = fixture.call("/");
    let second = fixture.call("/");
    let calls = [server.next().await, server.next().await];
    fixture.log.until(Idle).await;
    assert!(fixture.last_error().contains("as many requests"));
    for call in calls {
        answer(call, "hello");
    }
    for call in [first, second] {
        assert_eq!(text(call.await.expect("no panic")).await, "hello");
    }
    server.closed().await;
    let mut server = fixture.server(None).await;
    let third = fixture.call("/");
    answer(server.next().await, "hello");
    assert_eq!(text(third.await.expect("no panic")).await, "hello");
    assert_eq!(fixture.dials(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_not_read_to_its_end_closes_its_connection() {
    let (fixture, mut peer) = connected(Config::default()).await;
    let call = fixture.call("/");
    peer.head().await;
    peer.write("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\nhello")
        .await;
    drop(call.await.expect("no panic").expect("a response"));
    peer.closed().await;
    fixture.settled(0).await;
    assert_eq!(fixture.pool().connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_given_up_closes_its_connection() {
    let (fixture, mut peer) = connected(Config::default()).await;
    let call = fixture.call("/");
    peer.head().await;
    call.abort();
    peer.closed().await;
    fixture.settled(0).await;
    assert_eq!(fixture.link.connectivity(), Ready);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_close_is_not_asked_again_on_that_connection() {
    let (mut fixture, mut peer) = connected(Config::default()).await;
    let call = fixture.call("/");
    peer.head().await;
    peer.write("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello")
        .await;
    peer.0.shutdown().await.expect("open");
    assert_eq!(text(call.await.expect("no panic")).await, "hello");
    let call = fixture.call("/");
    Peer(fixture.accept().await).hello("/").await;
    assert_eq!(text(call.await.expect("no panic")).await, "hello");
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_takes_its_connection_out_of_the_pool() {
    let (fixture, mut peer) = connected(Config::default()).await;
    let mut request = get("/chat");
    let headers = request.headers_mut();
    headers.insert("connection", "upgrade".parse().expect("valid"));
    headers.insert("upgrade", "websocket".parse().expect("valid"));
    request.extensions_mut().insert(crate::conn::Upgrading);
    let sent = fixture.pool().try_send(request).expect("up");
    let call = tokio::spawn(sent);
    let head = peer.head().await;
    assert!(head.contains("upgrade: websocket\r\n"), "{head}");
    peer.write(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: \
         websocket\r\n\r\nfirst",
    )
    .await;
    let (mut response, guard) = call.await.expect("no panic").expect("a response");
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["upgrade"], "websocket");
    let upgraded = hyper::upgrade::on(&mut response).await.expect("upgraded");
    drop((response, guard));
    fixture.settled(0).await;
    assert_eq!(fixture.pool().connections(), 0);

    // The pool has no hand in it any more.
    let mut tunnel = hyper_util::rt::TokioIo::new(upgraded);
    let mut got = [0; 5];
    tunnel.read_exact(&mut got).await.expect("open");
    assert_eq!(&got, b"first");
    fixture.net.retire(fixture.pool());
    tunnel.write_all(b"second").await.expect("open");
    let mut got = [0; 6];
    peer.0.read_exact(&mut got).await.expect("open");
    assert_eq!(&got, b"second");
    drop(tunnel);
    peer.closed().await;
}

#[tokio::test(start_paused = true)]
async fn retire_lets_the_request_end_and_closes_the_rest() {
    let (mut fixture, mut busy) = connected(Config::default()).await;
    let open = fixture.call("/open");
    busy.head().await;
    let other = fixture.call("/other");
    let mut idle = Peer(fixture.accept().await);
    idle.hello("/other").await;
    text(other.await.expect("no panic")).await;
    tokio::time::sleep(SECOND).await;

    fixture.net.retire(fixture.pool());
    assert_eq!(fixture.link.connectivity(), Idle);
    assert!(fixture.pool().try_send(get("/")).is_err(), "given back");
    idle.closed().await;
    busy.write(HELLO).await;
    assert_eq!(text(open.await.expect("no panic")).await, "hello");
    busy.closed().await;
    fixture.settled(0).await;
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_dropped_leaves_nothing_behind() {
    let (mut fixture, mut busy) = connected(Config {
        cap: Some(1),
        ..Config::default()
    })
    .await;
    let open = fixture.call("/open");
    let waits = fixture.call("/waits");
    busy.head().await;
    fixture.pool = None;
    let mut error = waits.await.expect("no panic").expect_err("no connection");
    assert!(error.take_request().is_some(), "given back");
    let dropped = Instant::now();
    assert!(open.await.expect("no panic").is_err(), "cut off");
    assert_eq!(dropped.elapsed().as_secs(), 600);
    busy.closed().await;
    fixture.settled(0).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_before_the_end_of_the_request_is_heard() {
    use crate::body::Outgoing;

    let (fixture, mut peer) = connected(Config::default()).await;
    let (frames, body) = tokio::sync::mpsc::channel::<bytes::Bytes>(1);
    let body = futures_util::stream::unfold(body, |mut body| async move {
        let data = body.recv().await?;
        let frame = http_body::Frame::data(data);
        Some((Ok::<_, std::convert::Infallible>(frame), body))
    });
    let (body, _keeper) = Outgoing::new(http_body_util::StreamBody::new(Box::pin(body)));
    let sent = fixture.pool().try_send(request("/", body)).expect("up");
    let call = tokio::spawn(sent);
    peer.head().await;
    peer.write(HELLO).await;
    let (response, guard) = call.await.expect("no panic").expect("a response");
    let body = response.into_body().collect().await.expect("whole");
    assert_eq!(body.to_bytes(), "hello");
    drop(guard);
    // A request that did not end leaves nothing for another: hyper closes the connection.
    let _ = frames.send("late".into()).await;
    drop(frames);
    peer.closed().await;
    fixture.settled(0).await;
    assert_eq!(fixture.link.connectivity(), Ready);
}

#[tokio::test(start_paused = true)]
async fn what_the_cluster_says_is_spoken_in_plaintext() {
    let (fixture, mut peer) = connected(connections(Connections {
        protocol: HttpProtocol::Auto,
        ..Connections::default()
    }))
    .await;
    let call = fixture.call("/");
    peer.hello("/").await;
    assert_eq!(text(call.await.expect("no panic")).await, "hello");

    let mut fixture = super::harness::fixture(http(connections(Connections {
        protocol: HttpProtocol::Http2,
        ..Connections::default()
    })));
    let mut server = fixture.server(None).await;
    let call = fixture.call("/");
    answer(server.next().await, "prior knowledge");
    assert_eq!(text(call.await.expect("no panic")).await, "prior knowledge");
}
