//! The client that loads the servers.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use mesh_tests::{
    loaded::{self, PAYLOAD},
    pb::echo_client::EchoClient,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};
use tokio_rustls::TlsConnector;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::{BoxError, Pem, SERVER_NAME};

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

/// Makes `calls` calls, `in_flight` at once; returns how long it took.
pub(crate) async fn calls(
    client: &EchoClient<Channel>,
    calls: u64,
    in_flight: u64,
) -> Result<Duration, BoxError> {
    let start = Instant::now();
    let workers = (0..in_flight).map(|worker| {
        let mut client = client.clone();
        let share = calls / in_flight + u64::from(worker < calls % in_flight);
        tokio::spawn(async move {
            let metadata = loaded::metadata();
            for _ in 0..share {
                let reply = client.unary(loaded::request(&metadata)).await?.into_inner();
                if reply.payload != PAYLOAD {
                    return Err("the answer is not the echo".into());
                }
            }
            Ok::<_, BoxError>(())
        })
    });
    let workers: Vec<_> = workers.collect();
    for worker in workers {
        worker.await??;
    }
    Ok(start.elapsed())
}

/// What makes connections for [`handshakes`].
pub(crate) fn connector(pem: &Pem) -> Result<TlsConnector, BoxError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.roots.as_bytes())?)?;
    let chain = CertificateDer::pem_slice_iter(pem.chain.as_bytes()).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Makes `count` connections, eight at once, each to the first byte that the server sends after its
/// handshake; returns how long it took.
pub(crate) async fn handshakes(
    connector: &TlsConnector,
    address: SocketAddr,
    count: u64,
) -> Result<Duration, BoxError> {
    const AT_ONCE: u64 = 8;
    let start = Instant::now();
    let workers = (0..AT_ONCE).map(|worker| {
        let connector = connector.clone();
        let share = count / AT_ONCE + u64::from(worker < count % AT_ONCE);
        tokio::spawn(async move {
            for _ in 0..share {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let name = ServerName::try_from(SERVER_NAME)?;
                let mut stream = connector.connect(name, stream).await?;
                // A server that speaks HTTP/2 waits for this.
                stream.write_all(HELLO).await?;
                stream.flush().await?;
                // The client is through before the server has seen its certificate.
                let mut byte = [0];
                stream.read_exact(&mut byte).await?;
            }
            Ok::<_, BoxError>(())
        })
    });
    let workers: Vec<_> = workers.collect();
    for worker in workers {
        worker.await??;
    }
    Ok(start.elapsed())
}
