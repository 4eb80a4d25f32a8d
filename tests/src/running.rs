//! Servers of the mesh under test, and services that do what a test wants.

use std::{
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
};

use bytes::Bytes;
use futures_util::Stream;
use http::StatusCode;
use mesh_core::Mesh;
use mesh_tonic::{ServeError, Server, ServingMode};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tonic::{Request, Response, Status, Streaming, transport::Channel};

use crate::{
    echo,
    fixture::within,
    pb::{EchoReply, EchoRequest, echo_client::EchoClient, echo_server::Echo},
    secured::echo_server,
    way::Way,
};

/// A server on a loopback port that the system chose. Ends when it is dropped.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    modes: watch::Receiver<Option<ServingMode>>,
    /// What [`Server::serve`] results in.
    pub task: JoinHandle<Result<(), ServeError>>,
}

/// Answers unary calls with what a function makes of them.
#[derive(Debug, Clone)]
pub struct Answering<F>(pub F);

type Replies = Pin<Box<dyn Stream<Item = Result<EchoReply, Status>> + Send>>;

/// A port that nobody else has.
///
/// # Panics
/// If loopback has none to give.
pub async fn port() -> TcpListener {
    let any = (Ipv4Addr::LOCALHOST, 0);
    TcpListener::bind(any).await.expect("loopback has ports")
}

/// A call that shows nothing but that it was made.
pub fn hello() -> EchoRequest {
    EchoRequest {
        payload: Bytes::from_static(b"hello"),
        count: 1,
    }
}

// === impl Running ===

impl Running {
    /// Serves at `listener`, and waits until it is known whether it serves.
    ///
    /// # Panics
    /// If that takes longer than 20 s.
    pub async fn start(server: Server, listener: TcpListener) -> Self {
        let (told, modes) = watch::channel(None);
        let server = server.on_serving(move |state| {
            told.send_replace(Some(state.mode.clone()));
        });
        let address = listener.local_addr().expect("it is bound");
        Self::known(address, modes, tokio::spawn(server.serve(listener))).await
    }

    /// Serves an echo that calls itself `ours`, for calls that are made this way.
    ///
    /// # Panics
    /// If it is not known within 20 s whether it serves.
    pub async fn echo(way: Way, mesh: &Mesh, listener: TcpListener) -> Self {
        match way {
            Way::Grpc => Self::start(echo_server(mesh), listener).await,
            Way::Http1 | Way::Http2 => Self::http(mesh, listener).await,
        }
    }

    async fn http(mesh: &Mesh, listener: TcpListener) -> Self {
        let (told, modes) = watch::channel(None);
        let server = mesh_hyper::Server::new(mesh).on_serving(move |state| {
            told.send_replace(Some(state.mode.clone()));
        });
        let address = listener.local_addr().expect("it is bound");
        let echo = async |request: axum::extract::Request| {
            let answer = echo::plain("ours", request).await;
            let answer = answer.map(|response| response.map(axum::body::Body::new));
            answer.map_err(|broken| (StatusCode::BAD_REQUEST, broken.to_string()))
        };
        let echo = axum::Router::new().fallback(echo);
        Self::known(address, modes, tokio::spawn(server.serve(listener, echo))).await
    }

    async fn known(
        address: SocketAddr,
        modes: watch::Receiver<Option<ServingMode>>,
        task: JoinHandle<Result<(), ServeError>>,
    ) -> Self {
        let mut running = Self {
            address,
            modes,
            task,
        };
        running.until(|mode| *mode != ServingMode::Starting).await;
        running
    }

    /// Waits until its mode is one that is wanted, and returns it.
    ///
    /// # Panics
    /// If that takes longer than 20 s.
    pub async fn until(&mut self, wanted: impl Fn(&ServingMode) -> bool) -> ServingMode {
        let wanted = |mode: &Option<ServingMode>| mode.as_ref().is_some_and(&wanted);
        let mode = within(self.modes.wait_for(wanted)).await.expect("it runs");
        mode.clone().expect("one is wanted")
    }

    /// A client as tonic makes it, in plaintext.
    ///
    /// # Panics
    /// If the server does not accept it.
    pub async fn client(&self) -> EchoClient<Channel> {
        let uri = format!("http://{}", self.address);
        within(EchoClient::connect(uri)).await.expect("it accepts")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A mesh whose bootstrap has no template for servers.
///
/// # Panics
/// Never.
pub async fn alone() -> Mesh {
    let bootstrap = mesh_core::bootstrap::Bootstrap::builder()
        .server(mesh_core::bootstrap::ServerConfig::insecure("127.0.0.1:1"))
        .node_id("alone")
        .build()
        .expect("it is valid");
    let mesh = Mesh::builder().bootstrap(bootstrap).build().await;
    mesh.expect("a given bootstrap is all that a mesh needs")
}

// === impl Answering ===

#[tonic::async_trait]
impl<F, A> Echo for Answering<F>
where
    F: Fn(Request<EchoRequest>) -> A + Send + Sync + 'static,
    A: Future<Output = Result<EchoReply, Status>> + Send + 'static,
{
    type ExpandStream = Replies;
    type ChatStream = Replies;

    async fn unary(&self, request: Request<EchoRequest>) -> Result<Response<EchoReply>, Status> {
        (self.0)(request).await.map(Response::new)
    }

    async fn collect(
        &self,
        _: Request<Streaming<EchoRequest>>,
    ) -> Result<Response<EchoReply>, Status> {
        Err(Status::unimplemented("collect"))
    }

    async fn expand(&self, _: Request<EchoRequest>) -> Result<Response<Replies>, Status> {
        Err(Status::unimplemented("expand"))
    }

    async fn chat(&self, _: Request<Streaming<EchoRequest>>) -> Result<Response<Replies>, Status> {
        Err(Status::unimplemented("chat"))
    }
}
