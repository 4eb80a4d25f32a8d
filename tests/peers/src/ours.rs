use std::{
    collections::HashMap,
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use mesh_core::{Mesh, identity::Peer};
use mesh_tonic::Channel;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status,
    server::{NamedService, UnaryService},
};
use tower_service::Service;

use crate::{Answer, Call, Reply, codec::Plain, unary::unary};

/// A client that is a mesh of ours.
#[derive(Debug)]
pub struct OurClient {
    mesh: Mesh,
    channels: HashMap<String, Channel>,
}

/// A server of plain tonic that knows of no mesh, and answers calls of `peers.Echo`. Ends when
/// dropped.
#[derive(Debug)]
pub struct PlainServer {
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

/// A server of ours that does what the control plane says, and answers calls of `peers.Echo`.
/// Ends when dropped.
#[derive(Debug)]
pub struct OurServer {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

/// The service: answers with what it knows of a call.
#[derive(Debug, Clone)]
pub struct Echo {
    name: String,
}

// === impl OurClient ===

impl OurClient {
    /// Calls go through this mesh.
    pub fn new(mesh: Mesh) -> Self {
        Self {
            mesh,
            channels: HashMap::new(),
        }
    }

    /// Makes the calls one after another.
    pub async fn call(&mut self, call: &Call) -> Vec<Answer> {
        let channel = match self.channels.get(&call.target) {
            Some(channel) => channel.clone(),
            None => {
                let channel = mesh_tonic::channel(&self.mesh, &call.target)
                    .unwrap_or_else(|error| panic!("{error}"));
                self.channels.insert(call.target.clone(), channel.clone());
                channel
            }
        };
        unary(channel.wait_for_ready(call.wait), call).await
    }
}

// === impl PlainServer ===

impl PlainServer {
    /// Starts on a port of the system's choice.
    pub async fn start(name: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("loopback has a port");
        let address = listener.local_addr().expect("a listener has an address");
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tonic::transport::Server::builder()
            .add_service(Echo::new(name))
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
                let _ = stopped.await;
            });
        tokio::spawn(serving);
        Self {
            address,
            _stop: stop,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

// === impl OurServer ===

impl OurServer {
    /// Starts on a port of the system's choice.
    pub async fn start(name: &str, mesh: &Mesh) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("loopback has a port");
        let address = listener.local_addr().expect("a listener has an address");
        let server = mesh_tonic::Server::new(mesh).add_service(Echo::new(name));
        let serving = tokio::spawn(async move {
            if let Err(error) = server.serve(listener).await {
                panic!("our server ended: {error}");
            }
        });
        Self { address, serving }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for OurServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

// === impl Echo ===

impl Echo {
    /// That of a server with this name.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
        }
    }
}

impl NamedService for Echo {
    const NAME: &'static str = "peers.Echo";
}

impl<B> Service<http::Request<B>> for Echo
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let method = Method {
            server: self.name.clone(),
            path: request.uri().path().to_owned(),
        };
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Plain);
            Ok(grpc.unary(method, request).await)
        })
    }
}

/// One method of the service.
struct Method {
    server: String,
    path: String,
}

impl UnaryService<Bytes> for Method {
    type Response = Bytes;
    type Future = std::future::Ready<Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let reply = Reply {
            server: self.server.clone(),
            method: self.path.clone(),
            body: String::from_utf8_lossy(request.get_ref()).into_owned(),
            peer: names(request.extensions()),
        };
        let reply = serde_json::to_vec(&reply).expect("plain data is JSON");
        std::future::ready(Ok(Response::new(reply.into())))
    }
}

/// The names in the client's certificate, if it showed one.
fn names(extensions: &tonic::Extensions) -> Vec<String> {
    let peer = extensions.get::<Arc<Peer>>();
    let certificate = peer.and_then(|peer| peer.tls.as_ref()?.certificate.as_ref());
    let uris = certificate
        .into_iter()
        .flat_map(|certificate| &certificate.uris);
    uris.map(ToString::to_string).collect()
}
