//! The process of one server.

use std::sync::Arc;

use hyper::rt::{Read, Write};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use mesh_core::{Mesh, bootstrap::Bootstrap};
use mesh_hyper::ServingMode;
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
        (Who::Mesh, false) => "xDS listener, header timeout, strict parsing, path normaliser",
        (Who::Mesh, true) => {
            "mTLS, peer's identity, ten access rules; xDS listener, header timeout, strict \
             parsing, path normaliser"
        }
    }
}

pub(crate) fn run() -> Result<(), BoxError> {
    roles::server(ALLOCATOR, |listener, order: Order| async move {
        match order.contestant.who {
            Who::Hyper => hyper(listener, &order).await,
            Who::Mesh => mesh(listener, &order.bootstrap).await,
        }
    })
}

async fn mesh(listener: TcpListener, bootstrap: &str) -> Result<(), BoxError> {
    let bootstrap = Bootstrap::from_json(bootstrap)?;
    let mesh = Mesh::builder().bootstrap(bootstrap).build().await?;
    mesh_hyper::Server::new(&mesh)
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
    say("serving")?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            match acceptor {
                None => serve(TokioIo::new(stream)).await,
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(TokioIo::new(stream)).await;
                    }
                }
            }
        });
    }
}

async fn serve(io: impl Read + Write + Unpin + Send + 'static) {
    let service = TowerToHyperService::new(App);
    let server = auto::Builder::new(TokioExecutor::new());
    // A client that has gone is no matter.
    let _ = server.serve_connection(io, service).await;
}
