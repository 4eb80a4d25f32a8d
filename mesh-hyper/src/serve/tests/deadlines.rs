use bytes::Bytes;
use futures_util::stream;
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use mesh_core::Context;
use tokio::time::Instant;

use super::harness::*;
use crate::{Server, ServerTls};

#[tokio::test(start_paused = true)]
async fn a_handler_is_dropped_at_the_deadline_and_its_client_told() {
    let mesh = plain_mesh().await;
    let server = Server::grpc(&mesh).tls(ServerTls::Plaintext);
    let handlers = Handlers::default();
    let count = handlers.clone();
    let running = Running::start(&mesh, server, move |_| {
        let handler = count.begin();
        Box::pin(async move {
            let _handler = handler;
            let left = Context::current_deadline().unwrap() - Instant::now();
            assert_eq!(left, 3 * SECOND);
            std::future::pending().await
        })
    });
    let mut client = running.h2().await;
    let start = Instant::now();
    let response = client.send_request(grpc("/a.B/C", "3S")).await.unwrap();
    assert_eq!(start.elapsed(), 3 * SECOND);
    assert_eq!(response.headers()["grpc-status"], "4");
    assert_eq!(response.headers()["content-type"], "application/grpc");
    assert_eq!((handlers.begun(), handlers.over()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_at_the_deadline_with_a_status() {
    let mesh = plain_mesh().await;
    let server = Server::grpc(&mesh).tls(ServerTls::Plaintext);
    let running = Running::start(&mesh, server, |_| {
        Box::pin(async {
            let first = Ok(Frame::data(Bytes::from_static(b"first")));
            // What a handler streams runs under its context too.
            let more = async {
                assert!(Context::current_deadline().is_some());
                std::future::pending().await
            };
            let first = stream::once(std::future::ready(first));
            let frames = futures_util::StreamExt::chain(first, stream::once(more));
            Ok(Response::new(StreamBody::new(frames).boxed_unsync()))
        })
    });
    let mut client = running.h2().await;
    let start = Instant::now();
    let response = client.send_request(grpc("/a.B/C", "2S")).await.unwrap();
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(start.elapsed(), 2 * SECOND);
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "4");
    assert_eq!(collected.to_bytes(), "first");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_cannot_be_read_is_refused_and_http_has_none() {
    let mesh = plain_mesh().await;
    let server = Server::grpc(&mesh).tls(ServerTls::Plaintext);
    let running = Running::start(&mesh, server, |_| say("served"));
    let mut client = running.h2().await;
    let response = client.send_request(grpc("/a.B/C", "soon")).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "13");

    let server = Server::new(&mesh).tls(ServerTls::Plaintext);
    let running = Running::start(&mesh, server, |_| {
        assert_eq!(Context::current_deadline(), None);
        Box::pin(async {
            tokio::time::sleep(5 * SECOND).await;
            say("served").await
        })
    });
    let mut client = running.h2().await;
    let response = client.send_request(grpc("/a.B/C", "2S")).await.unwrap();
    assert_eq!(text(response).await, "served");
}
