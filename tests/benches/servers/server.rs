//! The process of one server: says what it has cost so far when asked.

use std::{io, net::SocketAddr, sync::Arc};

use mesh_core::{Mesh, bootstrap::Bootstrap};
use mesh_tests::{
    bench::{BoxError, Pem, roles, say},
    echo::EchoService,
    pb::echo_server::EchoServer,
};
use mesh_tonic::ServingMode;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_stream::{StreamExt, wrappers::TcpListenerStream};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use crate::ALLOCATOR;

/// What a server is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) contestant: String,
    /// The way to the control plane, for whom that concerns.
    pub(crate) bootstrap: String,
    pub(crate) pem: Pem,
}

pub(crate) fn run() -> Result<(), BoxError> {
    roles::server(ALLOCATOR, |listener, order: Order| async move {
        match &*order.contestant {
            "tonic" => tonic(listener, &order.pem).await,
            "rustls" => rustls(listener, &order.pem).await,
            "mesh" => mesh(listener, &order.bootstrap).await,
            other => Err(format!("unknown contestant {other:?}").into()),
        }
    })
}

async fn tonic(listener: TcpListener, pem: &Pem) -> Result<(), BoxError> {
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(&pem.chain, &pem.key))
        .client_ca_root(Certificate::from_pem(&pem.roots));
    // The builder's own setting is for sockets that it opens itself.
    let incoming = TcpListenerStream::new(listener).map(|stream| {
        let stream = stream?;
        stream.set_nodelay(true)?;
        Ok::<_, io::Error>(stream)
    });
    let server = Server::builder()
        .tls_config(tls)?
        .add_service(EchoServer::new(EchoService::new("bench")));
    say("serving")?;
    server.serve_with_incoming(incoming).await?;
    Ok(())
}

async fn mesh(listener: TcpListener, bootstrap: &str) -> Result<(), BoxError> {
    let bootstrap = Bootstrap::from_json(bootstrap)?;
    let mesh = Mesh::builder().bootstrap(bootstrap).build().await?;
    mesh_tonic::Server::new(&mesh)
        .on_serving(|state| {
            if state.mode == ServingMode::Serving {
                let _ = say("serving");
            }
        })
        .add_service(EchoServer::new(EchoService::new("bench")))
        .serve(listener)
        .await?;
    Ok(())
}

/// Handshakes and nothing else: a byte to each client, then the end.
async fn rustls(listener: TcpListener, pem: &Pem) -> Result<(), BoxError> {
    let config = pem.server_config(&["h2"])?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    say("serving")?;
    loop {
        let (stream, _): (_, SocketAddr) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"!").await;
                let _ = tokio::io::AsyncWriteExt::shutdown(&mut stream).await;
            }
        });
    }
}
