//! Limits that a server tells its peers, and those that do not care.

use bytes::Bytes;
use http::{Request, StatusCode};
use mesh_core::Mesh;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::{floods::*, harness::*};
use crate::{Server, ServerTls};

/// A frame: kind, flags, stream and payload.
pub(super) type Frame = (u8, u8, u32, Vec<u8>);

async fn frame_of(io: &mut DuplexStream) -> Frame {
    try_frame_of(io).await.expect("the connection goes on")
}

/// The next frame; `None` if the connection ends before it does.
pub(super) async fn try_frame_of(io: &mut DuplexStream) -> Option<Frame> {
    let mut head = [0; 9];
    io.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    io.read_exact(&mut payload).await.ok()?;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    Some((head[3], head[4], stream, payload))
}

/// What a server with the default options says in its first SETTINGS.
async fn settings(io: &mut DuplexStream) -> Vec<(u16, u32)> {
    let (kind, flags, stream, payload) = frame_of(io).await;
    assert_eq!((kind, flags, stream), (SETTINGS, 0, 0));
    let setting = |s: &[u8]| {
        let id = u16::from_be_bytes([s[0], s[1]]);
        (id, u32::from_be_bytes([s[2], s[3], s[4], s[5]]))
    };
    payload.chunks_exact(6).map(setting).collect()
}

const MAX_CONCURRENT_STREAMS: u16 = 3;
const MAX_HEADER_LIST_SIZE: u16 = 6;
const REFUSED_STREAM: u32 = 7;

#[tokio::test]
async fn the_201st_stream_of_a_peer_that_does_not_count_is_refused_and_the_others_go_on() {
    let (running, handlers) = server().await;
    let mut io = open(&running).await;
    let settings = settings(&mut io).await;
    assert!(
        settings.contains(&(MAX_CONCURRENT_STREAMS, 200)),
        "{settings:?}"
    );
    for number in 0..201 {
        let stream = 2 * number + 1;
        io.write_all(&frame(HEADERS, 0x5, stream, REQUEST))
            .await
            .unwrap();
    }
    let reset = loop {
        let frame = frame_of(&mut io).await;
        if frame.0 == RST_STREAM {
            break frame;
        }
    };
    assert_eq!(
        reset,
        (RST_STREAM, 0, 401, REFUSED_STREAM.to_be_bytes().to_vec())
    );
    handlers.until_begun(200).await;
    is_served(&running).await;
    assert_eq!((handlers.begun(), handlers.over()), (201, 1));
    // One that is over makes room for another.
    let cancel = 8_u32.to_be_bytes();
    io.write_all(&frame(RST_STREAM, 0, 1, &cancel))
        .await
        .unwrap();
    handlers.until_over(2).await;
    io.write_all(&frame(HEADERS, 0x5, 403, REQUEST))
        .await
        .unwrap();
    handlers.until_begun(202).await;
}

#[tokio::test]
async fn a_client_that_counts_keeps_to_the_limit_it_is_told() {
    let mesh: Mesh = plain_mesh().await;
    let server = Server::new(&mesh)
        .tls(ServerTls::Plaintext)
        .options(|options| options.max_concurrent_streams = 3);
    let running = Running::start(&mesh, server, |_| say("served"));
    let mut client = raw(&running).await;
    assert_eq!(send(&mut client, 1).await, StatusCode::OK);
    assert_eq!(client.current_max_send_streams(), 3);
}

/// A client of the crate `h2`, which sends headers however large they are.
async fn raw(running: &Running) -> h2::client::SendRequest<Bytes> {
    let (client, connection) = h2::client::handshake(running.connect()).await.unwrap();
    tokio::spawn(connection);
    client
}

/// What is answered to a request with a header of so many bytes.
async fn send(client: &mut h2::client::SendRequest<Bytes>, length: usize) -> StatusCode {
    let value = "v".repeat(length);
    let request = Request::get("http://server.test/good").header("x", value);
    let mut ready = client.clone().ready().await.unwrap();
    let (response, _) = ready.send_request(request.body(()).unwrap(), true).unwrap();
    response.await.unwrap().status()
}

#[tokio::test]
async fn headers_over_64_kib_are_refused_and_others_on_the_same_connection_are_served() {
    let (running, handlers) = server().await;
    let mut io = open(&running).await;
    let settings = settings(&mut io).await;
    assert!(
        settings.contains(&(MAX_HEADER_LIST_SIZE, 64 << 10)),
        "{settings:?}"
    );
    drop(io);

    let mut client = raw(&running).await;
    assert_eq!(send(&mut client, 60 << 10).await, StatusCode::OK);
    assert_eq!(handlers.begun(), 1);
    let refused = send(&mut client, 66 << 10).await;
    assert_eq!(refused, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert_eq!(send(&mut client, 60 << 10).await, StatusCode::OK);
    assert_eq!(handlers.begun(), 2, "what was refused has reached nobody");
    is_served(&running).await;
}

#[tokio::test]
async fn headers_of_http1_over_64_kib_are_refused_and_others_are_served() {
    let (running, handlers) = server().await;
    for (length, status) in [(60 << 10, "200 OK"), (66 << 10, "431 Request Header")] {
        let request = format!(
            "GET /good HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx: {}\r\n\r\n",
            "v".repeat(length)
        );
        let (mut read, mut write) = tokio::io::split(running.connect());
        // It may be closed before it has read all of them.
        let writer = tokio::spawn(async move {
            let _ = write.write_all(request.as_bytes()).await;
            write
        });
        let mut got = Vec::new();
        let _ = read.read_to_end(&mut got).await;
        let got = String::from_utf8_lossy(&got);
        assert!(got.starts_with(&format!("HTTP/1.1 {status}")), "{got}");
        drop(writer.await.unwrap());
    }
    assert_eq!(handlers.begun(), 1);
    is_served(&running).await;
}
