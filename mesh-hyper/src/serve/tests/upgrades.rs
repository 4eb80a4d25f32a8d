//! Connections that become something else.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::Instant,
};

use super::harness::*;
use crate::{Server, ServerTls};

const ASK: &[u8] =
    b"GET /ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: WebSocket\r\n\r\n";

/// A server whose handler switches to an echo, whatever it is asked.
async fn start(allowed: &[&str]) -> (Running, Handlers) {
    let mesh = plain_mesh().await;
    let allowed: Vec<String> = allowed.iter().map(|one| (*one).to_owned()).collect();
    let server = Server::new(&mesh)
        .tls(ServerTls::Plaintext)
        .options(|options| options.upgrades = allowed);
    let handlers = Handlers::default();
    let count = handlers.clone();
    let running = Running::start(&mesh, server, move |mut request| {
        let handler = count.begin();
        if request.uri().path() == "/plain" {
            return say("served");
        }
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let _handler = handler;
            let Ok(io) = upgraded.await else { return };
            let (mut read, mut write) = tokio::io::split(TokioIo::new(io));
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
        Box::pin(async {
            let mut response = Response::new(Empty::<Bytes>::new().boxed_unsync());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            Ok(response)
        })
    });
    (running, handlers)
}

async fn head(io: &mut DuplexStream) -> String {
    let mut got = Vec::new();
    while !got.ends_with(b"\r\n\r\n") {
        got.push(io.read_u8().await.unwrap());
    }
    String::from_utf8(got).unwrap()
}

/// A tunnel that has carried what is no HTTP.
async fn tunnel(running: &Running) -> DuplexStream {
    let mut io = running.connect();
    io.write_all(ASK).await.unwrap();
    let got = head(&mut io).await;
    assert!(got.starts_with("HTTP/1.1 101 "), "{got}");
    for sent in [&b"\0\n\n content-length: x\r\n\r\n"[..], b"again\n"] {
        io.write_all(sent).await.unwrap();
        let mut back = vec![0; sent.len()];
        io.read_exact(&mut back).await.unwrap();
        assert_eq!(back, sent);
    }
    io
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_that_nothing_allows_reaches_nobody() {
    let (running, handlers) = start(&[]).await;
    let mut io = running.connect();
    io.write_all(ASK).await.unwrap();
    assert!(head(&mut io).await.starts_with("HTTP/1.1 403 "));
    assert_eq!(handlers.begun(), 0);
    let (running, handlers) = start(&["other"]).await;
    let mut io = running.connect();
    io.write_all(ASK).await.unwrap();
    assert!(head(&mut io).await.starts_with("HTTP/1.1 403 "));
    assert_eq!(handlers.begun(), 0);
}

#[tokio::test(start_paused = true)]
async fn nobody_switches_protocols_unasked() {
    let (running, handlers) = start(&["websocket"]).await;
    let mut io = running.connect();
    io.write_all(b"GET /ws HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\n\r\n")
        .await
        .unwrap();
    assert!(head(&mut io).await.starts_with("HTTP/1.1 500 "));
    handlers.until_over(1).await;
    // A way to HTTP/2 is overlooked.
    let mut io = running.connect();
    io.write_all(b"GET /plain HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n")
        .await
        .unwrap();
    assert!(head(&mut io).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_is_live_until_either_side_ends_it() {
    let (running, handlers) = start(&["WebSocket"]).await;
    let io = tunnel(&running).await;
    let status = &running.mesh.connections().list()[0];
    assert_eq!((status.in_flight, status.requests), (1, 1));
    // It is not idle, however long it is quiet.
    tokio::time::sleep(10_000 * SECOND).await;
    assert_eq!(running.mesh.connections().len(), 1);
    drop(io);
    running.connections(0).await;
    handlers.until_over(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_cuts_tunnels_at_its_end() {
    let (running, handlers) = start(&["websocket"]).await;
    let mut io = tunnel(&running).await;
    let start = Instant::now();
    let report = running.mesh.drain(5 * SECOND).await;
    assert_eq!(start.elapsed(), 5 * SECOND);
    assert_eq!((report.cut, report.requests_cut), (1, 1));
    handlers.until_over(1).await;
    let mut rest = Vec::new();
    io.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test(start_paused = true)]
async fn dropping_a_server_cuts_its_tunnels() {
    let (running, handlers) = start(&["websocket"]).await;
    let mut io = tunnel(&running).await;
    drop(running);
    handlers.until_over(1).await;
    let mut rest = Vec::new();
    io.read_to_end(&mut rest).await.unwrap();
}
