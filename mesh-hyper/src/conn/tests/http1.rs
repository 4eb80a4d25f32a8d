//! Requests over HTTP/1.1.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use mesh_core::{
    balance::Connectivity::{Failing, Idle, Ready},
    config::Breakers,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::harness::*;
use crate::{
    body::Outgoing,
    conn::{Fate, ResetReason},
};

/// A server's end, by hand.
pub(super) struct Peer(pub(super) DuplexStream);

pub(super) const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

impl Peer {
    /// The head of the next request.
    pub(super) async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.expect("a request"));
        }
        String::from_utf8(head).expect("text")
    }

    pub(super) async fn write(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.expect("open");
    }

    /// Reads a request for `path` and answers "hello".
    pub(super) async fn hello(&mut self, path: &str) {
        let head = self.head().await;
        assert!(
            head.starts_with(&format!("GET {path} HTTP/1.1\r\n")),
            "{head}"
        );
        self.write(HELLO).await;
    }

    /// Waits for the end of the connection.
    pub(super) async fn closed(mut self) {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).await.expect("an end");
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }
}

pub(super) fn http(config: Config) -> Config {
    Config {
        http: true,
        ..config
    }
}

/// A pool with a connection.
pub(super) async fn connected(config: Config) -> (Fixture, Peer) {
    let mut fixture = fixture(http(config));
    fixture.connect();
    let peer = Peer(fixture.accept().await);
    fixture.log.until(Ready).await;
    (fixture, peer)
}

#[tokio::test(start_paused = true)]
async fn requests_follow_each_other_on_one_connection() {
    let (fixture, mut peer) = connected(Config::default()).await;
    for _ in 0..3 {
        let call = fixture.call("/a?b");
        let head = peer.head().await;
        assert_eq!(head, "GET /a?b HTTP/1.1\r\nhost: greeter.shop\r\n\r\n");
        peer.write(HELLO).await;
        assert_eq!(text(call.await.expect("no panic")).await, "hello");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(fixture.dials(), 1);
    assert_eq!(fixture.pool().connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_busy_connection_is_not_shared_and_the_one_used_last_is_taken_first() {
    let (mut fixture, mut first) = connected(Config::default()).await;
    let one = fixture.call("/one");
    first.head().await;
    let two = fixture.call("/two");
    let mut second = Peer(fixture.accept().await);
    second.hello("/two").await;
    assert_eq!(text(two.await.expect("no panic")).await, "hello");
    first.write(HELLO).await;
    assert_eq!(text(one.await.expect("no panic")).await, "hello");
    tokio::time::sleep(Duration::from_secs(1)).await;

    let three = fixture.call("/three");
    first.hello("/three").await;
    assert_eq!(text(three.await.expect("no panic")).await, "hello");
    assert_eq!(fixture.dials(), 2);
}

#[tokio::test(start_paused = true)]
async fn at_the_limit_requests_wait_in_order_and_too_many_overflow() {
    let breakers = Breakers {
        max_connections: 1,
        max_pending_requests: 3,
        ..Breakers::default()
    };
    let (fixture, mut peer) = connected(Config {
        breakers,
        ..Config::default()
    })
    .await;
    let paths = ["/0", "/1", "/2", "/3"];
    let mut calls: Vec<_> = paths.iter().map(|path| fixture.call(path)).collect();
    let error = fixture.call("/4").await.expect("no panic");
    let error = error.expect_err("too many");
    assert_eq!(error.reason(), ResetReason::Overflow);
    assert!(
        error.to_string().contains("max_pending_requests"),
        "{error}"
    );
    // One that waits no more makes room.
    calls.remove(2).abort();
    tokio::task::yield_now().await;
    calls.push(fixture.call("/5"));
    for (path, call) in ["/0", "/1", "/3", "/5"].iter().zip(calls) {
        peer.hello(path).await;
        assert_eq!(text(call.await.expect("no panic")).await, "hello");
    }
    assert_eq!(fixture.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_takes_what_gets_idle_before_its_own_connection() {
    let (fixture, mut peer) = connected(Config::default()).await;
    let one = fixture.call("/one");
    peer.head().await;
    fixture.memory.hang.store(true, Ordering::SeqCst);
    let two = fixture.call("/two");
    peer.write(HELLO).await;
    peer.hello("/two").await;
    assert_eq!(text(one.await.expect("no panic")).await, "hello");
    assert_eq!(text(two.await.expect("no panic")).await, "hello");
    assert_eq!(fixture.dials(), 2);
}

#[tokio::test(start_paused = true)]
async fn if_no_connection_can_be_made_the_request_comes_back() {
    let (fixture, mut peer) = connected(Config::default()).await;
    let call = fixture.call("/");
    peer.hello("/").await;
    text(call.await.expect("no panic")).await;
    peer.write("").await;
    drop(peer);
    while fixture.pool().connections() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(fixture.link.connectivity(), Ready, "it dials on demand");

    fixture.memory.refuse.store(true, Ordering::SeqCst);
    let error = fixture.call("/late").await.expect("no panic");
    let mut error = error.expect_err("refused");
    assert_eq!(error.reason(), ResetReason::ConnectFailure);
    assert_eq!(error.fate(), Fate::Unsent);
    assert!(
        error.to_string().contains("cannot connect to 10.0.0.1:80"),
        "{error}"
    );
    let request = error.take_request().expect("given back");
    assert_eq!(request.uri(), "http://greeter.shop/late");
    assert_eq!(fixture.link.connectivity(), Failing);
    assert!(fixture.pool().try_send(get("/")).is_err(), "given back");
    fixture.log.until(Idle).await;
    fixture.settled(0).await;
}

/// It does not wait for a request whose end nobody knows: it may find another endpoint.
#[tokio::test(start_paused = true)]
async fn a_request_whose_connection_cannot_be_made_is_told_though_others_are_busy() {
    let (fixture, mut peer) = connected(Config::default()).await;
    let busy = fixture.call("/busy");
    peer.head().await;
    fixture.memory.refuse.store(true, Ordering::SeqCst);
    let error = fixture.call("/late").await.expect("no panic");
    let error = error.expect_err("refused");
    assert_eq!(error.reason(), ResetReason::ConnectFailure);
    assert_eq!(error.fate(), Fate::Unsent);
    assert_eq!(fixture.link.connectivity(), Ready, "one is open");

    peer.write(HELLO).await;
    assert_eq!(text(busy.await.expect("no panic")).await, "hello");
    let next = fixture.call("/next");
    peer.hello("/next").await;
    assert_eq!(text(next.await.expect("no panic")).await, "hello");
}

#[tokio::test(start_paused = true)]
async fn a_request_does_not_wait_for_another_if_its_own_connection_is_refused() {
    let (fixture, mut peer) = connected(Config {
        cap: Some(2),
        ..Config::default()
    })
    .await;
    let stream = fixture.call("/stream");
    peer.head().await;
    fixture.memory.refuse.store(true, Ordering::SeqCst);
    // Of three, one at a time has room for an attempt of its own.
    for call in ["/1", "/2", "/3"].map(|path| fixture.call(path)) {
        let mut error = call.await.expect("no panic").expect_err("refused");
        assert_eq!(error.reason(), ResetReason::ConnectFailure);
        assert_eq!(error.fate(), Fate::Unsent);
        assert!(error.take_request().is_some(), "given back");
    }
    assert_eq!(fixture.dials(), 4, "one for each");
    assert_eq!(fixture.link.connectivity(), Ready, "it serves");
    peer.write(HELLO).await;
    assert_eq!(text(stream.await.expect("no panic")).await, "hello");
    let call = fixture.call("/late");
    peer.hello("/late").await;
    assert_eq!(text(call.await.expect("no panic")).await, "hello");
}

#[tokio::test(start_paused = true)]
async fn a_request_on_a_connection_that_the_server_has_closed_comes_back_as_it_was() {
    let (fixture, mut peer) = connected(Config::default()).await;
    let call = fixture.call("/");
    peer.hello("/").await;
    text(call.await.expect("no panic")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Its driver has not seen that yet.
    drop(peer);
    let sent = fixture.pool().try_send(get("/late")).expect("up");
    let mut error = sent.await.expect_err("closed");
    assert_eq!(error.fate(), Fate::Unsent, "{error}");
    let request = error.take_request().expect("given back");
    assert_eq!(request.uri(), "http://greeter.shop/late");
    assert!(request.headers().is_empty());
    assert_eq!(fixture.link.connectivity(), Ready);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_up_on_a_request_may_have_processed_it() {
    let (fixture, mut peer) = connected(Config::default()).await;
    let call = fixture.call("/");
    peer.head().await;
    drop(peer);
    let error = call.await.expect("no panic").expect_err("no answer");
    assert_eq!(error.reason(), ResetReason::ConnectionTermination);
    assert_eq!(error.fate(), Fate::Unknown);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_http_is_a_protocol_error() {
    let (fixture, mut peer) = connected(Config::default()).await;
    let call = fixture.call("/");
    peer.head().await;
    peer.write("220 smtp.example.com ESMTP\r\n\r\n").await;
    let error = call.await.expect("no panic").expect_err("not HTTP");
    assert_eq!(error.reason(), ResetReason::ProtocolError);
    assert_eq!(error.fate(), Fate::Unknown);
    peer.closed().await;
}

#[tokio::test(start_paused = true)]
async fn a_body_goes_up_and_chunks_and_trailers_come_down() {
    let (fixture, mut peer) = connected(Config::default()).await;
    let (body, _) = Outgoing::new(Full::new(Bytes::from_static(b"ping")));
    let sent = fixture.pool().try_send(request("/", body)).expect("up");
    let call = tokio::spawn(sent);
    let head = peer.head().await;
    assert!(head.contains("content-length: 4\r\n"), "{head}");
    let mut body = [0; 4];
    peer.0.read_exact(&mut body).await.expect("a body");
    assert_eq!(&body, b"ping");
    peer.write("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")
        .await;
    peer.write(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nkeep-alive: timeout=5\r\ntrailer: \
         x-sum\r\n\r\n4\r\npong\r\n0\r\nx-sum: 7\r\n\r\n",
    )
    .await;
    let (response, _guard) = call.await.expect("no panic").expect("a response");
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers().len(), 1, "{:?}", response.headers());
    let body = response.into_body().collect().await.expect("a whole body");
    assert_eq!(body.trailers().expect("trailers")["x-sum"], "7");
    assert_eq!(body.to_bytes(), "pong");
    // And it is used again.
    let call = fixture.call("/again");
    peer.hello("/again").await;
    text(call.await.expect("no panic")).await;
    assert_eq!(fixture.dials(), 1);
}
