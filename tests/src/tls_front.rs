//! TLS in front of a backend, by rustls alone.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use mesh_core::{
    identity::{PeerCertificate, Roots, default_crypto_provider},
    testing::Issued,
};
use parking_lot::Mutex;
use rustls::{
    HandshakeKind, ProtocolVersion, ServerConfig, SupportedProtocolVersion,
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

use crate::eventually;

/// Accepts TLS on a loopback port that the system chose, requires a client certificate, and passes
/// what it carries on to a plaintext backend. What is plaintext already it passes on too. Ends when it is dropped.
#[derive(Debug)]
pub struct TlsFront {
    shared: Arc<Shared>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    config: Mutex<Arc<ServerConfig>>,
    backend: SocketAddr,
    peers: Mutex<Vec<String>>,
    handshakes: Mutex<Vec<(ProtocolVersion, HandshakeKind)>>,
    closed: AtomicUsize,
}

// === impl TlsFront ===

impl TlsFront {
    /// In front of `backend`, with this certificate, trusting these clients.
    pub async fn start(backend: SocketAddr, issued: &Issued, clients: &Roots) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("loopback has a port to give");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            config: Mutex::new(config(rustls::DEFAULT_VERSIONS, issued, clients)),
            backend,
            peers: Mutex::default(),
            handshakes: Mutex::default(),
            closed: AtomicUsize::new(0),
        });
        let task = tokio::spawn(accept(Arc::clone(&shared), listener));
        Self {
            shared,
            address,
            task,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Uses this certificate, and trusts these clients, from the next handshake on.
    pub fn rotate(&self, issued: &Issued, clients: &Roots) {
        self.speak(rustls::DEFAULT_VERSIONS, issued, clients);
    }

    /// As [`rotate`](Self::rotate), and speaks these versions of TLS only.
    pub fn speak(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        issued: &Issued,
        clients: &Roots,
    ) {
        *self.shared.config.lock() = config(versions, issued, clients);
    }

    /// The serial numbers of the clients' certificates, in the order of handshakes.
    pub fn peers(&self) -> Vec<String> {
        self.shared.peers.lock().clone()
    }

    /// The version of TLS of each handshake, and whether it resumed a session.
    pub fn handshakes(&self) -> Vec<(ProtocolVersion, HandshakeKind)> {
        self.shared.handshakes.lock().clone()
    }

    /// Waits until both ends have closed a connection: until the client, too, knows that a server has
    /// gone.
    ///
    /// # Panics
    /// If that takes longer than 10 s.
    pub async fn closed(&self) {
        let closed = || self.shared.closed.load(Ordering::SeqCst);
        let some = || (closed() > 0).then_some(());
        eventually(some, || "no connection was closed".to_owned()).await;
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn config(
    versions: &[&'static SupportedProtocolVersion],
    issued: &Issued,
    clients: &Roots,
) -> Arc<ServerConfig> {
    let crypto = default_crypto_provider().expect("a feature gives cryptography");
    let roots = Arc::clone(clients.as_store());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&crypto))
        .build()
        .expect("there are roots");
    let mut config = ServerConfig::builder_with_provider(crypto)
        .with_protocol_versions(versions)
        .expect("the provider does them")
        .with_client_cert_verifier(verifier)
        .with_single_cert(issued.chain().der(), issued.key_der())
        .expect("they belong together");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    // Aborted with this task.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            carry(&shared, stream).await;
            shared.closed.fetch_add(1, Ordering::SeqCst);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(shared: &Shared, stream: TcpStream) {
    // A TLS record of a handshake (RFC 8446 section 5.1), or not.
    let mut first = [0];
    if stream.peek(&mut first).await.is_err() {
        return;
    }
    if first != [22] {
        return pass_on(shared, stream).await;
    }
    let acceptor = TlsAcceptor::from(Arc::clone(&shared.config.lock()));
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let tls = stream.get_ref().1;
    if let (Some(version), Some(kind)) = (tls.protocol_version(), tls.handshake_kind()) {
        shared.handshakes.lock().push((version, kind));
    }
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let chain: Vec<_> = chain.iter().map(|c| c.clone().into_owned()).collect();
    if let Ok(peer) = PeerCertificate::parse(&chain) {
        shared.peers.lock().push(peer.serial.to_string());
    }
    pass_on(shared, stream).await;
}

async fn pass_on(shared: &Shared, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    if let Ok(mut backend) = TcpStream::connect(shared.backend).await {
        // However it ends, both are closed.
        let _ = copy_bidirectional(&mut stream, &mut backend).await;
    }
}
