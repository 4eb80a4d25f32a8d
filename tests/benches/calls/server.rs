//! The process that all contestants call, with the control plane of those who want one.

use mesh_tests::{echo::EchoService, pb::echo_server::EchoServer};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_stream::{StreamExt, wrappers::TcpListenerStream};

use crate::BoxError;

/// What clients are told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Where the echo service is.
    pub(crate) address: std::net::SocketAddr,
    /// The bootstrap that leads to it through the control plane.
    pub(crate) bootstrap: String,
}

pub(crate) fn run() -> Result<(), BoxError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?
        .block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            let control_plane = crate::contestants::control_plane(address).await;
            let ready = Ready {
                address,
                bootstrap: control_plane.bootstrap_json("bench"),
            };
            println!("{}", serde_json::to_string(&ready)?);
            // The builder's own setting is for sockets that it opens itself. With Nagle's algorithm
            // on, answers wait for delayed acknowledgements, and stalls of 40 ms hide all else.
            let incoming = TcpListenerStream::new(listener).map(|stream| {
                let stream = stream?;
                stream.set_nodelay(true)?;
                Ok::<_, std::io::Error>(stream)
            });
            tonic::transport::Server::builder()
                .add_service(EchoServer::new(EchoService::new("bench")))
                .serve_with_incoming(incoming)
                .await?;
            Ok(())
        })
}
