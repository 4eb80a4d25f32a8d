//! Responses that begin before their request is complete: over HTTP/1.1 the last of their connection.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use super::harness::*;
use crate::{RequestBody, Server, ServerTls};

/// More than any buffer on the way has room for.
const LARGE: usize = 1 << 20;

/// A server that refuses at `/no` without a look at the body, answers at `/first` and then reads it, and
/// else says how long it is.
async fn start() -> Running {
    let mesh = plain_mesh().await;
    let server = Server::new(&mesh).tls(ServerTls::Plaintext);
    Running::start(&mesh, server, |request: Request<RequestBody>| {
        let path = request.uri().path().to_owned();
        Box::pin(async move {
            match &*path {
                "/no" => {
                    let body = Full::new(Bytes::from_static(b"too large")).boxed_unsync();
                    let mut response = Response::new(body);
                    *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
                    Ok(response)
                }
                "/first" => {
                    let frame = async {
                        let length = length(request).await;
                        Ok(http_body::Frame::data(Bytes::from(length)))
                    };
                    let body = http_body_util::StreamBody::new(futures_util::stream::once(frame));
                    Ok(Response::new(body.boxed_unsync()))
                }
                _ => say(length(request).await).await,
            }
        })
    })
}

async fn length(request: Request<RequestBody>) -> String {
    let body = request.into_body().collect().await;
    let length = body.map(|body| body.to_bytes().len());
    format!("<{length:?}>")
}

fn post(path: &str, length: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n")
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_while_it_sends_is_told_so_and_can_send_to_the_end() {
    let running = start().await;
    let mut io = running.connect();
    io.write_all(post("/no", LARGE).as_bytes()).await.unwrap();
    let start = Instant::now();
    let head = until(&mut io, "too large").await;
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    assert!(head.contains("connection: close\r\n"), "{head}");
    // A reset would take from the client what it has not read yet.
    io.write_all(&vec![0; LARGE]).await.unwrap();
    let mut rest = Vec::new();
    io.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    assert_eq!(start.elapsed(), std::time::Duration::ZERO);
    running.connections(0).await;
}

#[tokio::test(start_paused = true)]
async fn who_goes_on_for_ever_or_says_nothing_has_a_second() {
    let running = start().await;
    let mut io = running.connect();
    io.write_all(post("/no", LARGE).as_bytes()).await.unwrap();
    let start = Instant::now();
    until(&mut io, "too large").await;
    io.write_all(b"some").await.unwrap();
    running.connections(0).await;
    assert_eq!(start.elapsed(), SECOND);
    assert!(io.write_all(b"more").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_here_already_keeps_its_connection_read_or_not() {
    let running = start().await;
    let mut io = running.connect();
    for path in ["/no", "/no", "/length"] {
        let request = format!("{}hello", post(path, 5));
        io.write_all(request.as_bytes()).await.unwrap();
        let last = if path == "/no" {
            "too large"
        } else {
            "<Ok(5)>"
        };
        let got = until(&mut io, last).await;
        assert!(!got.contains("connection: close"), "{path}: {got}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_may_answer_first_and_read_then() {
    let running = start().await;
    let mut io = running.connect();
    io.write_all(post("/first", LARGE).as_bytes())
        .await
        .unwrap();
    let head = until(&mut io, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.contains("connection: close\r\n"), "{head}");
    io.write_all(&vec![0; LARGE]).await.unwrap();
    let mut rest = String::new();
    io.read_to_string(&mut rest).await.unwrap();
    assert!(rest.contains(&format!("<Ok({LARGE})>")), "{rest}");
}

#[tokio::test(start_paused = true)]
async fn over_http2_only_the_stream_ends() {
    let running = start().await;
    let (mut client, connection) = h2::client::handshake(running.connect()).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..3 {
        let request = Request::post("http://server.test/no").body(()).unwrap();
        let (response, mut body) = client.send_request(request, false).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let mut answer = response.into_body();
        let text = answer.data().await.unwrap().unwrap();
        assert_eq!(text, "too large");
        // RFC 9113 section 8.1: what is left of the request is not wanted, and nothing is wrong.
        let reason = std::future::poll_fn(|cx| body.poll_reset(cx)).await;
        assert_eq!(reason.unwrap(), h2::Reason::NO_ERROR);
        client = client.ready().await.unwrap();
    }
    assert_eq!(running.mesh.connections().len(), 1);
}
