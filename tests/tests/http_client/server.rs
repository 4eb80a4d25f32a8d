//! A plain HTTP server that says what it was asked.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header::HOST};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use mesh_core::{identity::default_crypto_provider, testing::Issued};
use rustls::ServerConfig;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

/// Speaks HTTP/1.1 and HTTP/2. Ends hard when it is dropped.
#[derive(Debug)]
pub(crate) struct HttpServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    name: &'static str,
    /// Requests under way, and whether they are held.
    active: watch::Sender<usize>,
    held: watch::Sender<bool>,
}

impl HttpServer {
    pub(crate) async fn start(name: &'static str) -> Self {
        Self::start_with(name, None).await
    }

    /// Speaks these protocols over TLS, with this certificate, to whoever comes.
    pub(crate) async fn secured(name: &'static str, issued: &Issued, alpn: &[&str]) -> Self {
        let mut config = ServerConfig::builder_with_provider(
            default_crypto_provider().expect("the tests have one"),
        )
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_no_client_auth()
        .with_single_cert(issued.chain().der(), issued.key_der())
        .expect("the key is the certificate's");
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self::start_with(name, Some(Arc::new(config).into())).await
    }

    async fn start_with(name: &'static str, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("loopback has a port to give");
        let shared = Arc::new(Shared {
            name,
            active: watch::Sender::new(0),
            held: watch::Sender::new(false),
        });
        Self {
            address: listener.local_addr().expect("it is bound"),
            task: tokio::spawn(accept(listener, tls, Arc::clone(&shared))),
            shared,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers nothing until [`release`](Self::release).
    pub(crate) fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    pub(crate) fn release(&self) {
        self.shared.held.send_replace(false);
    }

    /// Waits until so many requests are under way.
    pub(crate) async fn active(&self, wanted: usize) {
        let mut active = self.shared.active.subscribe();
        let reached = active.wait_for(|active| *active == wanted).await;
        reached.expect("the server has the sender");
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((io, _)) = listener.accept().await {
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        connections.spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&shared), request));
            let builder = auto::Builder::new(TokioExecutor::new());
            let Some(tls) = tls else {
                let _ = builder.serve_connection(TokioIo::new(io), service).await;
                return;
            };
            if let Ok(io) = tls.accept(io).await {
                let _ = builder.serve_connection(TokioIo::new(io), service).await;
            }
        });
    }
}

/// `NAME METHOD AUTHORITY PATH BODY`.
async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    shared.active.send_modify(|active| *active += 1);
    let mut held = shared.held.subscribe();
    let _ = held.wait_for(|held| !held).await;
    shared.active.send_modify(|active| *active -= 1);
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes());
    let authority = match head.uri.authority() {
        Some(authority) => authority.as_str(),
        None => host(&head.headers),
    };
    let text = format!(
        "{} {} {authority} {} {}",
        shared.name,
        head.method,
        head.uri.path(),
        String::from_utf8_lossy(&body.unwrap_or_default()),
    );
    Ok(Response::new(Full::from(text)))
}

fn host(headers: &HeaderMap) -> &str {
    let host = headers.get(HOST);
    host.and_then(|host| host.to_str().ok()).unwrap_or_default()
}
