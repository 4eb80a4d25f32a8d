//! The process of one server.

use std::sync::Arc;

use hyper::rt::{Read, Write};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use mesh_core::{Mesh, bootstrap::Bootstrap};
use mesh_hyper::{ServerOptions, ServingMode};
use mesh_tests::bench::{BoxError, Pem, roles, say};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::{
    ALLOCATOR,
    app::App,
    contestants::{Contestant, Who},
};

/// What a server is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) contestant: Contestant,
    /// The way to the control plane, for whom that concerns.
    pub(crate) bootstrap: String,
    pub(crate) pem: Pem,
}

/// What is switched on.
pub(crate) fn features(contestant: Contestant) -> &'static str {
    match (contestant.who, contestant.mtls) {
        (Who::Hyper, false) => "hyper-util's auto server, defaults",
        (Who::Hyper, true) => "hyper-util's auto server over tokio-rustls, defaults",
        (Who::Timed, _) => {
            "the same with a header timeout of 10 s and HTTP/2 keep-alive each 60 s, as in ours"
        }
        (Who::Mesh, false) => {
            "xDS listener, header timeout, HTTP/2 keep-alive, idle timeout, strict parsing, path \
             normaliser, peer as an extension"
        }
        (Who::Mesh, true) => {
            "mTLS, peer's identity, ten access rules; xDS listener, header timeout, HTTP/2 \
             keep-alive, idle timeout, strict parsing, path normaliser, peer as an extension"
        }
        (Who::Lean, _) => "the same without the peer as an extension: Context has it",
    }
}

pub(crate) fn run() -> Result<(), BoxError> {
    roles::server(ALLOCATOR, |listener, order: Order| async move {
        match order.contestant.who {
            Who::Hyper | Who::Timed => hyper(listener, &order).await,
            Who::Mesh | Who::Lean => mesh(listener, &order).await,
        }
    })
}

async fn mesh(listener: TcpListener, order: &Order) -> Result<(), BoxError> {
    let bootstrap = Bootstrap::from_json(&order.bootstrap)?;
    let mesh = Mesh::builder().bootstrap(bootstrap).build().await?;
    mesh_hyper::Server::new(&mesh)
        .options(|options| options.peer_extension = order.contestant.who == Who::Mesh)
        .on_serving(|state| {
            if state.mode == ServingMode::Serving {
                let _ = say("serving");
            }
        })
        .serve(listener, App)
        .await?;
    Ok(())
}

async fn hyper(listener: TcpListener, order: &Order) -> Result<(), BoxError> {
    let acceptor = match order.contestant.mtls {
        true => {
            let config = order.pem.server_config(&[order.contestant.alpn()])?;
            Some(TlsAcceptor::from(Arc::new(config)))
        }
        false => None,
    };
    let mut server = auto::Builder::new(TokioExecutor::new());
    if order.contestant.who == Who::Timed {
        let ours = ServerOptions::default();
        let timer = TokioTimer::new();
        let mut http1 = server.http1();
        http1.timer(timer.clone());
        http1.header_read_timeout(ours.header_timeout);
        let mut http2 = server.http2();
        http2.timer(timer);
        http2.keep_alive_interval(ours.keep_alive_interval);
        http2.keep_alive_timeout(ours.keep_alive_timeout);
    }
    say("serving")?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (acceptor, server) = (acceptor.clone(), server.clone());
        tokio::spawn(async move {
            match acceptor {
                None => serve(server, TokioIo::new(stream)).await,
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(server, TokioIo::new(stream)).await;
                    }
                }
            }
        });
    }
}

async fn serve(
    server: auto::Builder<TokioExecutor>,
    io: impl Read + Write + Unpin + Send + 'static,
) {
    let service = TowerToHyperService::new(App);
    // A client that has gone is no matter.
    let _ = server.serve_connection(io, service).await;
}
