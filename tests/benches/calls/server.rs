//! The process that all contestants call, with the control plane of those who want one.

use std::{io, net::SocketAddr};

use mesh_core::testing::{CertificateAuthority, Leaf};
use mesh_tests::{
    bench::{BoxError, Folder, Pem, say},
    echo::EchoService,
    pb::echo_server::EchoServer,
};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::{StreamExt, wrappers::TcpListenerStream};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use crate::contestants::{CLIENT_ID, SERVER_ID, SERVER_NAME};

/// What clients are told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Where the echo service is.
    pub(crate) address: SocketAddr,
    /// Where it asks for mTLS.
    pub(crate) tls_address: SocketAddr,
    /// The bootstrap that leads to both through the control plane.
    pub(crate) bootstrap: String,
    /// What clients present and trust.
    pub(crate) client: Pem,
    /// What the server does.
    pub(crate) server: Pem,
}

pub(crate) fn run() -> Result<(), BoxError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?
        .block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let tls_listener = TcpListener::bind("127.0.0.1:0").await?;
            let (address, tls_address) = (listener.local_addr()?, tls_listener.local_addr()?);
            let ca = CertificateAuthority::new("bench");
            let client = Pem::issue(&ca, Leaf::spiffe(CLIENT_ID));
            let server = Pem::issue(&ca, Leaf::spiffe(SERVER_ID).dns(SERVER_NAME));
            let folder = Folder::new("calls")?;
            let files = client.write(&folder)?;
            let control_plane =
                crate::contestants::control_plane(address, tls_address, &files).await;
            let ready = Ready {
                address,
                tls_address,
                bootstrap: control_plane.bootstrap_json("bench"),
                client,
                server: server.clone(),
            };
            say(&serde_json::to_string(&ready)?)?;
            let tls = ServerTlsConfig::new()
                .identity(Identity::from_pem(&server.chain, &server.key))
                .client_ca_root(Certificate::from_pem(&server.roots));
            let service = || EchoServer::new(EchoService::new("bench"));
            let plain = Server::builder()
                .add_service(service())
                .serve_with_incoming(accepted(listener));
            let secured = Server::builder()
                .tls_config(tls)?
                .add_service(service())
                .serve_with_incoming(accepted(tls_listener));
            tokio::try_join!(plain, secured)?;
            Ok(())
        })
}

/// The builder's own setting is for sockets that it opens itself. With Nagle's algorithm on, answers
/// wait for delayed acknowledgements, and stalls of 40 ms hide all else.
fn accepted(listener: TcpListener) -> impl tokio_stream::Stream<Item = io::Result<TcpStream>> {
    TcpListenerStream::new(listener).map(|stream| {
        let stream = stream?;
        stream.set_nodelay(true)?;
        Ok(stream)
    })
}
