//! Servers that break HTTP/2 calls in ways that no server library offers.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response};
use mesh_tests::pb::{EchoReply, EchoRequest};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// A server that hands each connection, with its number from 1, to the test.
pub(crate) struct Raw {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

/// One HTTP/2 connection as frames.
pub(crate) struct Frames(TcpStream);

pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) type Stream = (Request<h2::RecvStream>, h2::server::SendResponse<Bytes>);

impl Raw {
    pub(crate) async fn start(
        serve: impl Fn(u64, TcpStream) -> BoxFuture<'static, ()> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            // Aborted with this task.
            let mut connections = JoinSet::new();
            for number in 1.. {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                connections.spawn(serve(number, stream));
            }
        });
        Self { address, task }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Frames {
    /// Shakes hands.
    pub(crate) async fn accept(mut stream: TcpStream) -> Self {
        let mut preface = [0; PREFACE.len()];
        stream.read_exact(&mut preface).await.unwrap();
        assert_eq!(preface, PREFACE);
        let mut frames = Self(stream);
        frames.write(SETTINGS, 0, 0, &[]).await;
        frames
    }

    /// The stream of the next frame of this kind. Settings are acknowledged on the way.
    pub(crate) async fn next(&mut self, kind: u8) -> u32 {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.unwrap();
            let [a, b, c, found, flags, stream @ ..] = head;
            let length = u32::from_be_bytes([0, a, b, c]);
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload).await.unwrap();
            if found == SETTINGS && flags & ACK == 0 {
                self.write(SETTINGS, ACK, 0, &[]).await;
            }
            if found == kind {
                return u32::from_be_bytes(stream) & (u32::MAX >> 1);
            }
        }
    }

    pub(crate) async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = (payload.len() as u32).to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.0.write_all(&frame).await.unwrap();
    }

    /// A GOAWAY that leaves out streams above `last`.
    pub(crate) async fn go_away(&mut self, last: u32) {
        let mut payload = last.to_be_bytes().to_vec();
        payload.extend_from_slice(&0_u32.to_be_bytes());
        self.write(GOAWAY, 0, 0, &payload).await;
    }

    /// Until the peer has closed the connection.
    pub(crate) async fn closed(mut self) {
        let mut rest = Vec::new();
        let _ = self.0.read_to_end(&mut rest).await;
    }
}

/// Serves HTTP/2 with the `h2` crate, each stream by the test; `limit` is that of concurrent streams.
pub(crate) async fn serve_h2(
    stream: TcpStream,
    limit: u32,
    handle: impl Fn(Stream) -> BoxFuture<'static, ()>,
) {
    let handshake = h2::server::Builder::new()
        .max_concurrent_streams(limit)
        .handshake(stream);
    let mut connection = handshake.await.unwrap();
    let mut streams = JoinSet::new();
    while let Some(Ok(stream)) = connection.accept().await {
        streams.spawn(handle(stream));
    }
}

/// Reads a unary request and echoes it, or one of plain HTTP.
pub(crate) async fn echo((request, mut respond): Stream) {
    let grpc = request.headers().contains_key("content-type");
    let mut body = request.into_body();
    let mut framed = BytesMut::new();
    while let Some(data) = body.data().await {
        let Ok(data) = data else { return };
        let _ = body.flow_control().release_capacity(data.len());
        framed.extend_from_slice(&data);
    }
    if !grpc {
        let Ok(mut send) = respond.send_response(Response::new(()), false) else {
            return;
        };
        let _ = send.send_data(framed.freeze(), true);
        return;
    }
    let request = EchoRequest::decode(&framed[5..]).unwrap();
    let reply = EchoReply {
        payload: request.payload,
        server: "raw".to_owned(),
    };
    let mut message = vec![0];
    message.extend_from_slice(&(reply.encoded_len() as u32).to_be_bytes());
    reply.encode(&mut message).unwrap();
    let mut response = Response::new(());
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", grpc);
    let Ok(mut send) = respond.send_response(response, false) else {
        return;
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let _ = send.send_data(message.into(), false);
    let _ = send.send_trailers(trailers);
}
