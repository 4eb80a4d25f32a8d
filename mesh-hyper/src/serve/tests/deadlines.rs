use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
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
async fn a_deadline_that_cannot_be_read_is_refused() {
    let mesh = plain_mesh().await;
    let server = Server::grpc(&mesh).tls(ServerTls::Plaintext);
    let running = Running::start(&mesh, server, |_| say("served"));
    let mut client = running.h2().await;
    let response = client.send_request(grpc("/a.B/C", "soon")).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "13");
}

/// A request of HTTP whose sender waits for so long.
fn expected(path: &str, milliseconds: &str) -> Request<Empty<Bytes>> {
    let mut request = get(path);
    let value = milliseconds.parse().unwrap();
    request
        .headers_mut()
        .insert("x-envoy-expected-rq-timeout-ms", value);
    request
}

/// A server of HTTP that says how many milliseconds its handler has, and is never done with `/slow`.
async fn of_http() -> (Running, Handlers) {
    let mesh = plain_mesh().await;
    let server = Server::new(&mesh).tls(ServerTls::Plaintext);
    let handlers = Handlers::default();
    let count = handlers.clone();
    let running = Running::start(&mesh, server, move |request| {
        let handler = count.begin();
        let slow = request.uri().path() == "/slow";
        Box::pin(async move {
            let _handler = handler;
            if slow {
                std::future::pending::<()>().await;
            }
            let left = Context::current_deadline().map(|deadline| deadline - Instant::now());
            say(format!("{left:?}")).await
        })
    });
    (running, handlers)
}

#[tokio::test(start_paused = true)]
async fn a_request_of_http_carries_its_deadline_to_the_handler() {
    let (running, handlers) = of_http().await;
    let mut client = running.h2().await;
    let response = client.send_request(get("/")).await.unwrap();
    assert_eq!(text(response).await, "None");
    let response = client.send_request(expected("/", "1500")).await.unwrap();
    assert_eq!(text(response).await, "Some(1.5s)");

    let start = Instant::now();
    let late = client
        .send_request(expected("/slow", "1500"))
        .await
        .unwrap();
    assert_eq!(start.elapsed(), SECOND * 3 / 2);
    assert_eq!(late.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!((handlers.begun(), handlers.over()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_request_of_grpc_to_a_server_of_http_keeps_its_deadline_too() {
    let (running, _) = of_http().await;
    let mut client = running.h2().await;
    let response = client.send_request(grpc("/a.B/C", "4S")).await.unwrap();
    assert_eq!(text(response).await, "Some(4s)");
    let start = Instant::now();
    let late = client.send_request(grpc("/slow", "4S")).await.unwrap();
    assert_eq!(start.elapsed(), 4 * SECOND);
    assert_eq!(late.headers()["grpc-status"], "4");
}

#[tokio::test(start_paused = true)]
async fn a_late_handler_of_http1_is_answered_for_and_the_connection_goes_on() {
    let (running, _) = of_http().await;
    let mut client = h1(running.connect()).await;
    for path in ["/slow", "/slow"] {
        let mut request = expected(path, "100");
        let host = "server.test".parse().unwrap();
        request.headers_mut().insert("host", host);
        let late = client.send_request(request).await.unwrap();
        assert_eq!(late.status(), StatusCode::GATEWAY_TIMEOUT);
        assert!(text(late).await.contains("deadline"));
    }
}
