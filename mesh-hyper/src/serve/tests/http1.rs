//! HTTP/1.1 as bytes: what is refused, and what a connection goes through.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use super::harness::*;
use crate::{Server, ServerTls};

/// A server that answers with the path, and counts those it was asked for.
async fn start() -> (Running, Handlers) {
    let mesh = plain_mesh().await;
    let handlers = Handlers::default();
    let count = handlers.clone();
    let server = Server::new(&mesh).tls(ServerTls::Plaintext);
    let running = Running::start(&mesh, server, move |request| {
        count.begin();
        say(format!("<{}>", request.uri().path()))
    });
    (running, handlers)
}

/// What comes back for these bytes until the server closes.
async fn until_closed(running: &Running, sent: &[u8]) -> String {
    let mut io = running.connect();
    io.write_all(sent).await.unwrap();
    let mut got = String::new();
    io.read_to_string(&mut got).await.unwrap();
    got
}

#[tokio::test(start_paused = true)]
async fn what_can_be_read_in_two_ways_is_refused_and_closed() {
    let (running, handlers) = start().await;
    let start = Instant::now();
    let host = "POST /x HTTP/1.1\r\nhost: a\r\n";
    let chunked = "transfer-encoding: chunked\r\n";
    for rest in [
        format!("content-length: 5\r\n{chunked}\r\n0\r\n\r\n"),
        format!("{chunked}content-length: 5\r\n\r\n0\r\n\r\n"),
        "content-length: 5\r\ncontent-length: 6\r\n\r\nhello".to_owned(),
        "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n".to_owned(),
        "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n".to_owned(),
        "transfer-encoding : chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "x: a\r\n b\r\n\r\n".to_owned(),
        "x: a\n\r\n".to_owned(),
        "x: a\rb\r\n\r\n".to_owned(),
        "x: a\0b\r\n\r\n".to_owned(),
        "host: b\r\n\r\n".to_owned(),
    ] {
        // What follows must not be taken for a request.
        let sent = format!("{host}{rest}GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n");
        let got = until_closed(&running, sent.as_bytes()).await;
        assert!(got.starts_with("HTTP/1.1 400 "), "{rest:?}: {got}");
        assert_eq!(got.matches("HTTP/1.1 ").count(), 1, "{rest:?}: {got}");
    }
    for head in [
        "GET http://b/x HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /x HTTP/1.1\r\n\r\n",
        "GET x HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST /x HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let sent = format!("{head}GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n");
        let got = until_closed(&running, sent.as_bytes()).await;
        assert!(
            got.starts_with("HTTP/1.1 400 ") || got.starts_with("HTTP/1.0 400 "),
            "{head:?}: {got}"
        );
        assert_eq!(got.matches("HTTP/1.").count(), 1, "{head:?}: {got}");
    }
    assert_eq!((handlers.begun(), start.elapsed().as_secs()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_after_a_sound_request_is_answered_in_its_turn() {
    let (running, handlers) = start().await;
    let sent = b"GET /a HTTP/1.1\r\nhost: a\r\n\r\nGET /b HTTP/1.1\nhost: a\n\n";
    let got = until_closed(&running, sent).await;
    assert!(got.starts_with("HTTP/1.1 200 OK"), "{got}");
    let (_, second) = got.split_once("</a>").unwrap();
    assert!(second.starts_with("HTTP/1.1 400 "), "{got}");
    assert_eq!(handlers.begun(), 1);
}

#[tokio::test(start_paused = true)]
async fn too_much_and_a_tunnel_are_refused() {
    let (running, handlers) = start().await;
    let many: String = (0..101).map(|number| format!("x{number}: a\r\n")).collect();
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n");
    let got = until_closed(&running, many.as_bytes()).await;
    assert!(got.starts_with("HTTP/1.1 431 "), "{got}");
    let got = until_closed(&running, b"CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n").await;
    assert!(got.starts_with("HTTP/1.1 501 "), "{got}");
    assert!(got.ends_with("CONNECT is not supported"), "{got}");
    assert_eq!(handlers.begun(), 0);
}

#[tokio::test(start_paused = true)]
async fn requests_in_a_row_are_answered_in_order_and_the_connection_is_kept() {
    let (running, _) = start().await;
    let mut io = running.connect();
    io.write_all(b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    until(&mut io, "</1>").await;
    until(&mut io, "</2>").await;
    // Far longer than headers may take: nothing has been asked.
    tokio::time::sleep(600 * SECOND).await;
    io.write_all(b"GET /3 HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    until(&mut io, "</3>").await;

    // One that has begun has its time.
    let start = Instant::now();
    io.write_all(b"GET /4 HTTP/1.1\r\nhost").await.unwrap();
    let mut rest = String::new();
    io.read_to_string(&mut rest).await.unwrap();
    assert_eq!(start.elapsed(), 10 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn who_says_close_or_speaks_http_1_0_is_closed() {
    let (running, _) = start().await;
    for head in [
        "GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        "GET /x HTTP/1.0\r\nhost: a\r\n\r\n",
    ] {
        let got = until_closed(&running, head.as_bytes()).await;
        assert!(got.ends_with("</x>"), "{got}");
    }
    let mut io = running.connect();
    let kept = b"GET /x HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n";
    for _ in 0..2 {
        io.write_all(kept).await.unwrap();
        until(&mut io, "</x>").await;
    }
    let got = until_closed(
        &running,
        b"HEAD /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    );
    let got = got.await;
    assert!(
        got.ends_with("\r\n\r\n") && got.contains("content-length: 4"),
        "{got}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_last_request_that_a_connection_may_bring_is_told_so() {
    let mesh = plain_mesh().await;
    let server = Server::new(&mesh)
        .tls(ServerTls::Plaintext)
        .options(|options| options.max_connection_requests = Some(2));
    let running = Running::start(&mesh, server, |_| say("served"));
    let mut io = running.connect();
    let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    io.write_all(request).await.unwrap();
    assert!(!until(&mut io, "served").await.contains("connection: close"));
    io.write_all(request).await.unwrap();
    let mut last = String::new();
    io.read_to_string(&mut last).await.unwrap();
    assert!(
        last.contains("connection: close") && last.ends_with("served"),
        "{last}"
    );

    let (mut client, end) = h2(running.connect()).await;
    for _ in 0..2 {
        assert_eq!(
            text(client.send_request(get("/")).await.unwrap()).await,
            "served"
        );
    }
    end.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn with_as_many_connections_as_there_may_be_the_next_one_waits() {
    let mesh = plain_mesh().await;
    let server = Server::new(&mesh)
        .tls(ServerTls::Plaintext)
        .options(|options| options.max_connections = Some(2));
    let running = Running::start(&mesh, server, |_| say("served"));
    let (one, two) = (running.connect(), running.connect());
    let mut three = running.connect();
    three
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let early = tokio::time::timeout(SECOND, three.read_u8()).await;
    assert!(early.is_err(), "it was accepted: {early:?}");
    drop(one);
    until(&mut three, "served").await;
    drop(two);
}
