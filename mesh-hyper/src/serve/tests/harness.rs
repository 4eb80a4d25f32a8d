use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use mesh_core::{
    Mesh,
    bootstrap::{Bootstrap, BootstrapBuilder, ServerConfig},
    resolve::Ends,
};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, duplex},
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tower_service::Service;

use crate::{LocalAddress, RequestBody, ServeError, Server, ServingState, serve::listen::Listen};

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// A server that is reached without a network.
pub(super) struct Running {
    pub(super) mesh: Mesh,
    connect: mpsc::UnboundedSender<(DuplexStream, Ends)>,
    /// What it was told of its state.
    pub(super) states: watch::Receiver<Vec<ServingState>>,
    pub(super) task: JoinHandle<Result<(), ServeError>>,
}

/// Connections in memory.
pub(super) struct Memory(mpsc::UnboundedReceiver<(DuplexStream, Ends)>);

/// A service made of a function.
pub(super) struct Fun<F>(pub(super) Arc<F>);

pub(super) type Answer = Pin<
    Box<dyn Future<Output = Result<Response<UnsyncBoxBody<Bytes, Infallible>>, Infallible>> + Send>,
>;

/// Counts the handlers that have begun, and those that are over, however they ended.
#[derive(Clone, Default)]
pub(super) struct Handlers(Arc<Mutex<(u64, u64)>>);

pub(super) struct Handler(Handlers);

pub(super) type H2 = http2::SendRequest<Empty<Bytes>>;

pub(super) fn address(last: u8, port: u16) -> SocketAddr {
    ([10, 0, 0, last], port).into()
}

/// Where the servers of tests are bound.
pub(super) fn local() -> SocketAddr {
    address(1, 8080)
}

pub(super) fn bootstrap() -> BootstrapBuilder {
    Bootstrap::builder()
        .server(ServerConfig::insecure("xds.test:1"))
        .node_id("test")
}

pub(super) async fn plain_mesh() -> Mesh {
    let bootstrap = bootstrap().build().unwrap();
    Mesh::builder().bootstrap(bootstrap).build().await.unwrap()
}

// === impl Running ===

impl Running {
    pub(super) fn start<F>(mesh: &Mesh, server: Server, service: F) -> Self
    where
        F: Fn(Request<RequestBody>) -> Answer + Send + Sync + 'static,
    {
        let (connect, connections) = mpsc::unbounded_channel();
        let (told, states) = watch::channel(Vec::new());
        let server =
            server.on_serving(move |state| told.send_modify(|all| all.push(state.clone())));
        let service = Fun(Arc::new(service));
        let serve = server.serve_from(
            Memory(connections),
            LocalAddress::Tcp(local()),
            service,
            std::future::pending(),
        );
        Self {
            mesh: mesh.clone(),
            connect,
            states,
            task: tokio::spawn(serve),
        }
    }

    /// A connection, of which nothing was sent yet.
    pub(super) fn connect(&self) -> DuplexStream {
        self.connect_from(address(2, 4000))
    }

    pub(super) fn connect_from(&self, peer: SocketAddr) -> DuplexStream {
        let (ours, theirs) = duplex(64 << 10);
        let ends = Ends {
            peer,
            local: local(),
        };
        self.connect.send((theirs, ends)).expect("it accepts");
        ours
    }

    pub(super) async fn h2(&self) -> H2 {
        h2(self.connect()).await.0
    }

    /// Waits until so many connections are registered.
    pub(super) async fn connections(&self, count: usize) {
        self.mesh
            .connections()
            .count_reached(|now| *now == count)
            .await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An HTTP/2 client on `io`, and its end.
pub(super) async fn h2<T>(io: T) -> (H2, JoinHandle<hyper::Result<()>>)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .handshake(TokioIo::new(io))
        .await
        .unwrap();
    (sender, tokio::spawn(connection))
}

/// An HTTP/1.1 client on `io`.
pub(super) async fn h1(io: DuplexStream) -> http1::SendRequest<Empty<Bytes>> {
    let (sender, connection) = http1::handshake(TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub(super) fn get(path: &str) -> Request<Empty<Bytes>> {
    let uri = format!("http://server.test{path}");
    Request::get(uri).body(Empty::new()).unwrap()
}

/// A request of gRPC, with a time limit.
pub(super) fn grpc(path: &str, timeout: &str) -> Request<Empty<Bytes>> {
    Request::post(format!("http://server.test{path}"))
        .header("content-type", "application/grpc")
        .header("grpc-timeout", timeout)
        .body(Empty::new())
        .unwrap()
}

pub(super) async fn text(response: Response<Incoming>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// Reads up to the end of `last`.
pub(super) async fn until(io: &mut DuplexStream, last: &str) -> String {
    let mut got = Vec::new();
    while !got.ends_with(last.as_bytes()) {
        got.push(io.read_u8().await.unwrap());
    }
    String::from_utf8(got).unwrap()
}

/// An answer with this text.
pub(super) fn say(text: impl Into<Bytes>) -> Answer {
    let body = Full::new(text.into()).boxed_unsync();
    Box::pin(async { Ok(Response::new(body)) })
}

// === impl Memory ===

impl Listen for Memory {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, Ends)> {
        match self.0.recv().await {
            Some(accepted) => Ok(accepted),
            None => std::future::pending().await,
        }
    }
}

// === impl Fun ===

impl<F> Clone for Fun<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F: Fn(Request<RequestBody>) -> Answer> Service<Request<RequestBody>> for Fun<F> {
    type Response = Response<UnsyncBoxBody<Bytes, Infallible>>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Answer {
        (self.0)(request)
    }
}

// === impl Handlers ===

impl Handlers {
    pub(super) fn begin(&self) -> Handler {
        self.0.lock().0 += 1;
        Handler(self.clone())
    }

    pub(super) fn begun(&self) -> u64 {
        self.0.lock().0
    }

    pub(super) fn over(&self) -> u64 {
        self.0.lock().1
    }

    /// Lets others run until so many have begun.
    pub(super) async fn until_begun(&self, count: u64) {
        while self.begun() < count {
            tokio::task::yield_now().await;
        }
    }

    /// Lets others run until so many are over.
    pub(super) async fn until_over(&self, count: u64) {
        while self.over() < count {
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.0.0.lock().1 += 1;
    }
}
