//! The client that loads the servers.

use std::net::SocketAddr;

use mesh_tests::{
    bench::{BoxError, Caller, Pem},
    loaded::{self, PAYLOAD},
    pb::echo_client::EchoClient,
};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tonic::{
    metadata::MetadataMap,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::SERVER_NAME;

/// The preface of HTTP/2 and an empty SETTINGS frame (RFC 9113 section 3.4).
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A client with one connection.
pub(crate) async fn connect(
    address: SocketAddr,
    pem: &Pem,
) -> Result<EchoClient<Channel>, BoxError> {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&pem.roots))
        .identity(Identity::from_pem(&pem.chain, &pem.key))
        .domain_name(SERVER_NAME);
    let endpoint = Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?;
    Ok(EchoClient::new(endpoint.connect().await?))
}

/// Calls with a client.
pub(crate) struct Echo {
    client: EchoClient<Channel>,
    metadata: MetadataMap,
}

impl Echo {
    pub(crate) fn new(client: &EchoClient<Channel>) -> Self {
        Self {
            client: client.clone(),
            metadata: loaded::metadata(),
        }
    }
}

impl Caller for Echo {
    async fn call(&mut self) -> Result<(), BoxError> {
        let request = loaded::request(&self.metadata);
        let reply = self.client.unary(request).await?.into_inner();
        match reply.payload == PAYLOAD {
            true => Ok(()),
            false => Err("the answer is not the echo".into()),
        }
    }
}

/// Makes connections, each to the first byte that the server sends after its handshake.
pub(crate) struct Handshakes {
    pub(crate) connector: TlsConnector,
    pub(crate) address: SocketAddr,
}

impl Caller for Handshakes {
    async fn call(&mut self) -> Result<(), BoxError> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(SERVER_NAME)?;
        let mut stream = self.connector.connect(name, stream).await?;
        // A server that speaks HTTP/2 waits for this.
        stream.write_all(HELLO).await?;
        stream.flush().await?;
        // The client is through before the server has seen its certificate.
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        Ok(())
    }
}
