//! Streams against h2's server in memory.

mod certificates;
mod connect;
mod framing;
mod streams;
mod tls;

use std::{io, path::PathBuf, sync::Arc};

use bytes::{BufMut, BytesMut};
use h2::{RecvStream, server::SendResponse};
use mesh_core::config::Address;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};

use super::*;
use crate::conn::{DialFuture, Stream};

const PATH: &str = "/pkg.Service/Method";

/// The other ends of what is dialled.
#[derive(Debug)]
struct Memory(mpsc::UnboundedSender<DuplexStream>);

impl Dial for Memory {
    fn dial(&self, address: &Address) -> DialFuture {
        if matches!(address, Address::Socket(address) if address.port() == 1) {
            return Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) });
        }
        let (client, server) = tokio::io::duplex(1 << 16);
        let _ = self.0.send(server);
        Box::pin(async { Ok(Stream::new(client)) })
    }
}

struct Network {
    dial: Arc<Memory>,
    accept: mpsc::UnboundedReceiver<DuplexStream>,
}

impl Network {
    fn new() -> Self {
        let (connect, accept) = mpsc::unbounded_channel();
        let dial = Arc::new(Memory(connect));
        Self { dial, accept }
    }

    fn call(&self, uri: &str) -> Call {
        Call {
            dial: Arc::clone(&self.dial) as _,
            target: Target::parse(uri).expect("valid"),
            channel_creds: ChannelCreds::Insecure,
            call_creds: Vec::new(),
            path: PATH,
            metadata: HeaderMap::new(),
            limits: Limits { max_message: 1000 },
            connect_timeout: CONNECT_TIMEOUT,
            crypto: default_crypto_provider(),
            tls13_only: false,
        }
    }

    async fn accept(&mut self) -> DuplexStream {
        self.accept.recv().await.expect("the network is here")
    }

    /// A stream in plaintext, and its server's end.
    async fn open(&mut self) -> (Messages, Served) {
        let (messages, served) = tokio::join!(self.call("10.0.0.1:80").open(), async {
            Served::on(self.accept.recv().await.expect("the network is here")).await
        });
        (messages.expect("opened"), served)
    }
}

/// A stream on the server's side. Its connection lives as long as the client's.
struct Served {
    request: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
    connection: tokio::task::JoinHandle<Option<h2::Error>>,
}

impl Served {
    async fn on(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let mut builder = h2::server::Builder::new();
        builder.initial_window_size(1 << 20);
        let mut connection = builder.handshake(io).await.expect("a client");
        let call = connection.accept().await.expect("a stream");
        let (request, respond) = call.expect("no error");
        let connection = tokio::spawn(async move {
            match connection.accept().await {
                Some(Err(error)) => Some(error),
                _ => None,
            }
        });
        Self {
            request,
            respond,
            connection,
        }
    }

    fn start(&mut self) -> h2::SendStream<Bytes> {
        let head = http::Response::builder()
            .header("content-type", "application/grpc")
            .body(())
            .expect("valid");
        self.respond.send_response(head, false).expect("open")
    }

    /// Answers with headers only.
    fn refuse(&mut self, head: http::response::Builder) {
        let head = head.body(()).expect("valid");
        self.respond.send_response(head, true).expect("open");
    }
}

fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(message.len() as u32);
    framed.put_slice(message);
    framed.freeze()
}

fn trailers(status: &'static str, message: Option<&'static str>) -> http::HeaderMap {
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    if let Some(message) = message {
        trailers.insert("grpc-message", HeaderValue::from_static(message));
    }
    trailers
}

fn status(code: Code, message: &str) -> Option<Result<Bytes, RpcStatus>> {
    Some(Err(RpcStatus {
        code,
        message: message.to_owned(),
    }))
}

/// A directory of files that goes when it is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let name = format!("mesh-hyper-{}-{}", std::process::id(), fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a new directory");
        Self(path)
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).expect("written");
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
