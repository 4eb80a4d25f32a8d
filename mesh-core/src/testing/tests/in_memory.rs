//! Streams without a network, in paused time; and waits that fail.

use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::{
    Code,
    runtime::{Limits, Messages, RpcStatus, SideCallError},
};

const STREAM: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";

async fn open(control_plane: &ControlPlane, max_message: usize) -> Result<Messages, SideCallError> {
    let server = control_plane.bootstrap(NODE).servers.remove(0);
    let limits = Limits { max_message };
    let side_call = control_plane.side_call();
    side_call
        .stream(&server, STREAM, http::HeaderMap::new(), limits)
        .await
}

async fn subscribe(messages: &Messages, kind: Kind, names: &[&str]) {
    let request = request(kind, names).encode_to_vec();
    messages.send.send(request.into()).await.unwrap();
}

async fn recv(messages: &mut Messages) -> Result<DiscoveryResponse, RpcStatus> {
    let message = messages.recv.recv().await.unwrap()?;
    Ok(DiscoveryResponse::decode(message).unwrap())
}

fn started() -> ControlPlane {
    let control_plane = ControlPlane::in_memory();
    control_plane.service("a").endpoint(address(1)).apply();
    control_plane
}

#[tokio::test(start_paused = true)]
async fn serves_the_same_as_over_sockets() {
    let control_plane = started();
    let mut messages = open(&control_plane, usize::MAX).await.unwrap();
    subscribe(&messages, Kind::Listener, &["a", "b"]).await;
    let response = recv(&mut messages).await.unwrap();
    assert_eq!(resource_names(&response), ["a"]);
    let ack = ack(&response, &["a", "b"]).encode_to_vec();
    messages.send.send(ack.into()).await.unwrap();
    control_plane.acked(Kind::Listener).await;
    assert_eq!(control_plane.connections(), 1);
    drop(messages);
    let gone = |c: &ControlPlane| c.connections() + c.streams() == 0;
    control_plane.until("the client has gone", gone).await;
}

#[tokio::test(start_paused = true)]
async fn stops_restarts_and_keeps_to_the_limit() {
    let control_plane = started();
    let mut messages = open(&control_plane, 10).await.unwrap();
    subscribe(&messages, Kind::Cluster, &["a"]).await;
    let end = recv(&mut messages).await.unwrap_err();
    assert_eq!(end.code, Code::ResourceExhausted);
    assert!(end.message.contains("10"), "{end}");

    let mut messages = open(&control_plane, usize::MAX).await.unwrap();
    control_plane.stop().await;
    let end = recv(&mut messages).await.unwrap_err();
    assert_eq!(end.code, Code::Unavailable);
    let refused = open(&control_plane, usize::MAX).await.unwrap_err();
    assert!(refused.to_string().contains("refused"), "{refused}");
    control_plane.restart().await;
    open(&control_plane, usize::MAX).await.unwrap();

    let side_call = control_plane.side_call();
    drop(control_plane);
    let server = started().bootstrap(NODE).servers.remove(0);
    let limits = Limits { max_message: 1 };
    side_call
        .stream(&server, STREAM, http::HeaderMap::new(), limits)
        .await
        .unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_lasts_too_long_says_what_was_seen() {
    let control_plane = started();
    control_plane.set_patience(Duration::from_secs(3));
    let mut messages = open(&control_plane, usize::MAX).await.unwrap();
    subscribe(&messages, Kind::Cluster, &["a"]).await;
    recv(&mut messages).await.unwrap();
    let begin = Instant::now();
    let waiting = control_plane.clone();
    let failed = tokio::spawn(async move { waiting.acked(Kind::Cluster).await });
    let text = panic_text(failed.await.unwrap_err());
    assert_eq!(begin.elapsed().as_secs(), 3);
    for part in [
        "ACK of cluster",
        "1 connections open",
        "node \"test-node\"",
        "asks for [\"a\"], was sent version 1, accepted none",
        "last requests of 1:",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_an_ack_fails_at_once_if_there_is_a_nack() {
    let control_plane = started();
    let mut messages = open(&control_plane, usize::MAX).await.unwrap();
    subscribe(&messages, Kind::Cluster, &["a"]).await;
    let response = recv(&mut messages).await.unwrap();
    let nack = nack(&response, &["a"], "no such policy").encode_to_vec();
    messages.send.send(nack.into()).await.unwrap();
    let begin = Instant::now();
    let waiting = control_plane.clone();
    let failed = tokio::spawn(async move { waiting.acked(Kind::Cluster).await });
    let text = panic_text(failed.await.unwrap_err());
    assert!(text.contains("no such policy"), "{text}");
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_eq!(
        control_plane.nacked(Kind::Cluster).await.message,
        "no such policy"
    );
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_request_ends_the_stream() {
    let control_plane = started();
    let mut messages = open(&control_plane, usize::MAX).await.unwrap();
    messages.send.send("\u{7f}".into()).await.unwrap();
    let end = recv(&mut messages).await.unwrap_err();
    assert_eq!(end.code, Code::InvalidArgument);
}

fn panic_text(error: tokio::task::JoinError) -> String {
    *error.into_panic().downcast::<String>().unwrap()
}
