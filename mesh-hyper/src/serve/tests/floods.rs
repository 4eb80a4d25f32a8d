//! Peers that mean no good. Each is closed, or held back, and others are served meanwhile.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use futures_util::FutureExt;
use mesh_core::{
    connections::{Ending, Order},
    testing::CertificateAuthority,
};
use rustls::{ClientConnection, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::Instant,
};

use super::{harness::*, trust};
use crate::{Server, ServerTls};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const CONTINUATION: u8 = 9;

/// `:method: GET`, `:scheme: http`, `:path: /`, `:authority: a`.
pub(super) const REQUEST: &[u8] = b"\x82\x86\x84\x41\x01a";

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

pub(super) async fn server() -> (Running, Handlers) {
    let mesh = plain_mesh().await;
    let handlers = Handlers::default();
    let count = handlers.clone();
    let server = Server::new(&mesh).tls(ServerTls::Plaintext);
    let running = Running::start(&mesh, server, move |request| {
        let handler = count.begin();
        let slow = request.uri().path() == "/";
        Box::pin(async move {
            let _handler = handler;
            if slow {
                std::future::pending::<()>().await;
            }
            say("served").await
        })
    });
    (running, handlers)
}

/// Writes `flood` again and again until the server has had enough, reading what comes back.
/// Returns how many times it could be written.
async fn flood(io: DuplexStream, mut flood: impl FnMut(u32) -> Vec<u8>) -> u32 {
    let (mut read, mut write) = tokio::io::split(io);
    let reader = tokio::spawn(async move {
        let mut sink = vec![0; 64 << 10];
        while read.read(&mut sink).await.is_ok_and(|length| length > 0) {}
    });
    let mut written = 0;
    while written < 200_000 && write.write_all(&flood(written)).await.is_ok() {
        written += 1;
    }
    drop(write);
    reader.await.unwrap();
    written
}

pub(super) async fn open(running: &Running) -> DuplexStream {
    let mut io = running.connect();
    io.write_all(PREFACE).await.unwrap();
    io.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    io
}

pub(super) async fn is_served(running: &Running) {
    let response = running.h2().await.send_request(get("/good")).await.unwrap();
    assert_eq!(text(response).await, "served");
}

#[tokio::test]
async fn rapid_reset_ends_the_connection_and_its_handlers() {
    let (running, handlers) = server().await;
    let io = open(&running).await;
    let cancel = 8_u32.to_be_bytes();
    let written = flood(io, |number| {
        let stream = 2 * number + 1;
        let mut both = frame(HEADERS, 0x5, stream, REQUEST);
        both.extend(frame(RST_STREAM, 0, stream, &cancel));
        both
    })
    .await;
    assert!(written < 200_000, "it was never stopped");
    running.connections(0).await;
    is_served(&running).await;
    handlers.until_over(handlers.begun()).await;
}

#[tokio::test]
async fn a_flood_of_continuations_ends_the_connection() {
    let (running, handlers) = server().await;
    let io = open(&running).await;
    let written = flood(io, |number| match number {
        0 => frame(HEADERS, 0, 1, REQUEST),
        _ => frame(
            CONTINUATION,
            0,
            1,
            &[b"\x00\x01a\x7f\x80\x3f".as_slice(), &[b'v'; 8191]].concat(),
        ),
    })
    .await;
    // 64 KiB of headers, in frames of 8 KiB, and what is on the way.
    assert!(written < 100, "{written}");
    running.connections(0).await;
    is_served(&running).await;
    assert_eq!(handlers.begun(), 1);
}

#[tokio::test]
async fn a_flood_of_settings_that_reads_no_answers_is_held_back() {
    let (running, _) = server().await;
    let mut io = open(&running).await;
    let settings = frame(SETTINGS, 0, 0, &[]);
    // Nobody reads the acknowledgements, so that the server's writes stall. It takes no more than
    // its buffers hold.
    let written = AtomicUsize::new(0);
    let all = async {
        for _ in 0..1_000_000 {
            if io.write_all(&settings).await.is_err() {
                return;
            }
            written.fetch_add(settings.len(), Ordering::Relaxed);
        }
    };
    let mut all = pin!(all);
    for _ in 0..1000 {
        let over = poll_fn(|cx| Poll::Ready(all.as_mut().poll(cx).is_ready()));
        if over.await {
            break;
        }
        tokio::task::yield_now().await;
    }
    let written = written.load(Ordering::Relaxed);
    is_served(&running).await;
    assert!(written < 1 << 20, "{written}");
}

#[tokio::test(start_paused = true)]
async fn slow_headers_run_out_of_time() {
    let (running, _) = server().await;
    for first in [&b"GET /x HTTP/1.1\r\nhost:"[..], b"", b"PRI * HT"] {
        let start = Instant::now();
        let mut io = running.connect();
        io.write_all(first).await.unwrap();
        is_served(&running).await;
        let mut got = Vec::new();
        io.read_to_end(&mut got).await.unwrap();
        assert!(start.elapsed() <= 11 * SECOND, "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn headers_of_http2_that_never_end_are_found_by_keep_alive() {
    let (running, handlers) = server().await;
    let start = Instant::now();
    let mut io = open(&running).await;
    io.write_all(&frame(HEADERS, 0, 1, REQUEST)).await.unwrap();
    let mut got = Vec::new();
    let _ = io.read_to_end(&mut got).await;
    assert!(start.elapsed() <= 81 * SECOND, "{:?}", start.elapsed());
    assert_eq!(handlers.begun(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_half_open_connections_keep_nobody_out() {
    let (running, _) = server().await;
    let mut silent = Vec::new();
    for number in 0..1000 {
        silent.push(running.connect());
        if number % 100 == 0 {
            is_served(&running).await;
        }
    }
    is_served(&running).await;
    // All but as many as may be half open are closed.
    let open = still_open(&mut silent).await;
    assert!(open <= 256, "{open}");
}

/// Each has sent the first bytes of a ClientHello, so that the server's TLS waits for the rest. What
/// is shown: a client with mTLS that was connected before is served throughout, and new ones are;
/// no more than [`ServerOptions::max_half_open`](crate::ServerOptions::max_half_open) of the silent
/// ones are kept, by that limit alone (no time passes); and those not longer than
/// [`handshake_timeout`](crate::ServerOptions::handshake_timeout). How much memory each takes is
/// not measured.
#[tokio::test(start_paused = true)]
async fn a_thousand_half_open_tls_handshakes_keep_no_client_of_mtls_out_and_256_are_kept() {
    let authority = CertificateAuthority::new("root");
    let (mesh, _given) = trust::mesh(&authority).await;
    let running = trust::start(&mesh, ServerTls::mtls("given"));
    let identity = Some(authority.identity("spiffe://mesh.test/good"));
    let good = trust::client(&authority, identity, b"h2");
    let (mut before, _) = h2(trust::dial(&running, &good).await.unwrap()).await;
    let start = Instant::now();

    let name = ServerName::try_from("server.test").unwrap();
    let mut hello = Vec::new();
    ClientConnection::new(Arc::clone(good.config()), name)
        .unwrap()
        .write_tls(&mut hello)
        .unwrap();
    let mut silent = Vec::new();
    for number in 0..1000 {
        let mut io = running.connect();
        io.write_all(&hello[..hello.len() / 2]).await.unwrap();
        silent.push(io);
        if number % 100 == 0 {
            let (mut new, _) = h2(trust::dial(&running, &good).await.unwrap()).await;
            for client in [&mut new, &mut before] {
                assert!(client.send_request(get("/")).await.is_ok());
            }
        }
    }
    let (mut new, _) = h2(trust::dial(&running, &good).await.unwrap()).await;
    for client in [&mut new, &mut before] {
        assert!(client.send_request(get("/")).await.is_ok());
    }
    let open = still_open(&mut silent).await;
    // The last one who was served has taken the place of one.
    assert_eq!(open, 255);
    assert_eq!(start.elapsed(), std::time::Duration::ZERO);

    tokio::time::sleep(11 * SECOND).await;
    assert_eq!(still_open(&mut silent).await, 0);
    assert!(before.send_request(get("/")).await.is_ok());
}

/// How many the server has not closed, of those to whom it says nothing.
async fn still_open(silent: &mut [DuplexStream]) -> usize {
    let mut open = 0;
    for io in silent {
        // A task may only look at so many of them in one go.
        tokio::task::yield_now().await;
        let mut byte = [0];
        if io.read(&mut byte).now_or_never().is_none() {
            open += 1;
        }
    }
    open
}

#[tokio::test(start_paused = true)]
async fn who_does_not_hear_goaway_is_not_served_for_long() {
    let (running, handlers) = server().await;
    let mut io = open(&running).await;
    io.write_all(&frame(HEADERS, 0x5, 1, REQUEST))
        .await
        .unwrap();
    handlers.until_begun(1).await;
    let connection = &running.mesh.connections().list()[0];
    let connection = &running.mesh.connections().of(connection.server)[0];
    connection.order(Order::Drain(Ending::ListenerChanged, 600 * SECOND));
    // The one that is under way may go on, and one that has crossed GOAWAY is taken.
    tokio::time::sleep(SECOND).await;
    io.write_all(&frame(HEADERS, 0x5, 3, REQUEST))
        .await
        .unwrap();
    handlers.until_begun(2).await;
    // No PING was answered.
    tokio::time::sleep(5 * SECOND).await;
    for stream in [5, 7] {
        io.write_all(&frame(HEADERS, 0x5, stream, REQUEST))
            .await
            .unwrap();
    }
    while connection.requests() < 4 {
        tokio::task::yield_now().await;
    }
    while connection.in_flight() > 2 {
        assert_eq!(handlers.begun(), 2);
        tokio::task::yield_now().await;
    }
    assert_eq!((handlers.begun(), handlers.over()), (2, 0));
    is_served(&running).await;
}
