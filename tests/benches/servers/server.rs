//! The process of one server: says what it has cost so far when asked.

use std::{
    io::{self, BufRead, Write},
    net::SocketAddr,
    sync::Arc,
};

use cpu_time::ProcessTime;
use mesh_core::{Mesh, bootstrap::Bootstrap};
use mesh_tests::{echo::EchoService, instructions::Instructions, pb::echo_server::EchoServer};
use mesh_tonic::ServingMode;
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_stream::{StreamExt, wrappers::TcpListenerStream};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use crate::{ALLOCATOR, BoxError, Pem};

/// What a server is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) contestant: String,
    /// The way to the control plane, for whom that concerns.
    pub(crate) bootstrap: String,
    pub(crate) pem: Pem,
}

/// What a server has cost since it began.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Reading {
    /// Instructions, user and kernel; none where the machine has no counters.
    pub(crate) instructions: Option<u64>,
    /// CPU time, user and kernel, in nanoseconds.
    pub(crate) cpu_ns: u64,
    /// Allocations, reallocations included.
    pub(crate) allocations: u64,
}

pub(crate) fn run() -> Result<(), BoxError> {
    let mut instructions = Instructions::start();
    let start = ProcessTime::now();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let mut lines = io::stdin().lock().lines();
    let order: Order = serde_json::from_str(&lines.next().ok_or("no order")??)?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    say(&listener.local_addr()?.to_string())?;
    let server = runtime.spawn(async move {
        let served = match &*order.contestant {
            "tonic" => tonic(listener, &order.pem).await,
            "rustls" => rustls(listener, &order.pem).await,
            "mesh" => mesh(listener, &order.bootstrap).await,
            other => Err(format!("unknown contestant {other:?}").into()),
        };
        if let Err(error) = served {
            eprintln!("{}: {error}", order.contestant);
            std::process::exit(1);
        }
    });
    for line in lines {
        if line? != "read" {
            return Err("not understood".into());
        }
        let allocated = ALLOCATOR.stats();
        let reading = Reading {
            instructions: instructions.read(),
            cpu_ns: start.elapsed().as_nanos() as u64,
            allocations: (allocated.allocations + allocated.reallocations) as u64,
        };
        say(&serde_json::to_string(&reading)?)?;
    }
    server.abort();
    Ok(())
}

fn say(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
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
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.roots.as_bytes())?)?;
    let chain = CertificateDer::pem_slice_iter(pem.chain.as_bytes()).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.send_tls13_tickets = 0;
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
