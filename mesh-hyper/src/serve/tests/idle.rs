//! How long nothing may happen on a request (`stream_idle_timeout`, as Envoy has it).

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    time::{Instant, sleep},
};

use super::{
    harness::*,
    policy::{Told, listener, mesh_with},
};
use crate::{RequestBody, Server};

const LIMIT: Duration = Duration::from_secs(20);

/// A server whose listener has this limit.
///
/// `/hang` is never answered, `/read` when its body has come, `/slow` after 300 s, and `/drip` with a
/// frame every 15 s, of which there are ten, and then nothing more and no end.
async fn start(
    server: impl FnOnce(&mesh_core::Mesh) -> Server,
    limit: Option<Duration>,
) -> (Running, Handlers, Arc<Told>) {
    let (mesh, told) = mesh_with(|builder| builder).await;
    let handlers = Handlers::default();
    let count = handlers.clone();
    let running = Running::start(&mesh, server(&mesh), move |request| {
        let handler = count.begin();
        Box::pin(async move {
            let _handler = handler;
            answer(request).await
        })
    });
    while !told.is_watched() {
        tokio::task::yield_now().await;
    }
    serve(&told, limit);
    (running, handlers, told)
}

fn serve(told: &Told, limit: Option<Duration>) {
    let mut listener = listener(None);
    listener.chains[0].http.stream_idle_timeout = limit;
    told.serve(listener);
}

async fn answer(
    request: Request<RequestBody>,
) -> Result<Response<UnsyncBoxBody<Bytes, Infallible>>, Infallible> {
    match request.uri().path() {
        "/hang" => std::future::pending().await,
        "/slow" => sleep(Duration::from_secs(300)).await,
        "/read" => {
            let body = request.into_body().collect().await;
            let length = body.map_or(0, |body| body.to_bytes().len());
            return say(length.to_string()).await;
        }
        "/drip" => {
            let frames = stream::unfold(0, async |sent| {
                if sent == 10 {
                    std::future::pending::<()>().await;
                }
                sleep(Duration::from_secs(15)).await;
                Some((Ok(Frame::data(Bytes::from_static(b"drop"))), sent + 1))
            });
            return Ok(Response::new(StreamBody::new(frames).boxed_unsync()));
        }
        _ => {}
    }
    say("served").await
}

fn about(limit: Duration, took: Duration) -> bool {
    (limit..=limit * 5 / 4).contains(&took)
}

fn host(
    mut request: Request<http_body_util::Empty<Bytes>>,
) -> Request<http_body_util::Empty<Bytes>> {
    let host = "server.test".parse().unwrap();
    request.headers_mut().insert("host", host);
    request
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_gives_no_sign_is_dropped_and_answered_for() {
    let (running, handlers, told) = start(Server::new, Some(LIMIT)).await;
    let (mut one, mut two) = (h1(running.connect()).await, running.h2().await);
    let start = Instant::now();
    let late = one.send_request(host(get("/hang"))).await.unwrap();
    assert!(about(LIMIT, start.elapsed()), "{:?}", start.elapsed());
    assert_eq!(late.status(), StatusCode::GATEWAY_TIMEOUT);
    assert!(text(late).await.contains("idle timeout"));
    let start = Instant::now();
    let late = two.send_request(get("/hang")).await.unwrap();
    assert!(about(LIMIT, start.elapsed()), "{:?}", start.elapsed());
    assert_eq!(late.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!((handlers.begun(), handlers.over()), (2, 2));
    // Whoever waits for less is told of that, and the connections go on.
    let mut soon = get("/hang");
    let header = "x-envoy-expected-rq-timeout-ms";
    soon.headers_mut().insert(header, "3000".parse().unwrap());
    let start = Instant::now();
    let late = two.send_request(soon).await.unwrap();
    assert_eq!(start.elapsed(), 3 * SECOND);
    assert!(text(late).await.contains("deadline"));
    let served = one.send_request(host(get("/"))).await.unwrap();
    assert_eq!(text(served).await, "served");

    // No limit is none, from the next request on.
    serve(&told, None);
    loop {
        let response = two.send_request(get("/slow")).await.unwrap();
        if response.status() == StatusCode::OK {
            break;
        }
    }
    let response = one.send_request(host(get("/slow"))).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_stalls_is_a_request_timeout_and_one_that_is_slow_is_not() {
    let (running, _, _) = start(Server::new, Some(LIMIT)).await;
    let head = b"POST /read HTTP/1.1\r\nhost: server.test\r\ncontent-length: 10\r\n\r\n";
    let mut io = running.connect();
    io.write_all(head).await.unwrap();
    for _ in 0..10 {
        sleep(Duration::from_secs(15)).await;
        io.write_all(b"x").await.unwrap();
    }
    let mut got = vec![0; 12];
    io.read_exact(&mut got).await.unwrap();
    assert_eq!(got, b"HTTP/1.1 200");

    let mut io = running.connect();
    io.write_all(head).await.unwrap();
    io.write_all(b"12345").await.unwrap();
    let start = Instant::now();
    let mut got = String::new();
    // The rest of the body will not be taken for a request: the connection is closed.
    io.read_to_string(&mut got).await.unwrap();
    assert!(got.starts_with("HTTP/1.1 408 "), "{got}");
    assert!(got.contains("connection: close"), "{got}");
    assert!(about(LIMIT, start.elapsed()), "{:?}", start.elapsed());

    let (send, frames) = mpsc::unbounded_channel::<Bytes>();
    let body = stream::unfold(frames, async |mut frames| {
        let frame = frames.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(frame)), frames))
    });
    let body = StreamBody::new(Box::pin(body));
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .handshake(TokioIo::new(running.connect()))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::post("http://server.test/read").body(body).unwrap();
    let response = tokio::spawn(sender.send_request(request));
    for _ in 0..5 {
        sleep(Duration::from_secs(15)).await;
        send.send(Bytes::from_static(b"x")).unwrap();
    }
    assert!(!response.is_finished());
    let start = Instant::now();
    let response = response.await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
    assert!(about(LIMIT, start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_response_that_stalls_is_cut_and_one_that_is_slow_is_not() {
    let (running, handlers, _) = start(Server::new, Some(LIMIT)).await;
    let one = h1(running.connect())
        .await
        .send_request(host(get("/drip")))
        .await;
    let mut client = running.h2().await;
    let two = client.send_request(get("/drip")).await;
    for response in [one, two] {
        let start = Instant::now();
        let mut body = response.unwrap().into_body();
        for _ in 0..10 {
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), "drop");
        }
        let end = body.frame().await;
        assert!(matches!(end, Some(Err(_))), "{end:?}");
        assert!(start.elapsed() <= 150 * SECOND + LIMIT * 5 / 4);
    }
    // The connection of HTTP/2 goes on.
    let served = client.send_request(get("/")).await.unwrap();
    assert_eq!(text(served).await, "served");
    assert_eq!((handlers.begun(), handlers.over()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn grpc_knows_no_such_limit() {
    let (running, _, _) = start(Server::grpc, Some(LIMIT)).await;
    let mut client = running.h2().await;
    let start = Instant::now();
    let response = client.send_request(get("/slow")).await.unwrap();
    assert_eq!(text(response).await, "served");
    assert_eq!(start.elapsed(), 300 * SECOND);
}
