use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, DEFAULT_VERSIONS, RootCertStore,
    client::Resumption,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::TLS13,
};
use tokio_rustls::TlsConnector;

use crate::conn::Stream;

/// TLS with a server that is to prove it is `host`. All files are read here and now (gRFC A65).
pub(super) async fn secure(
    crypto: Option<&Arc<CryptoProvider>>,
    tls13_only: bool,
    io: Stream,
    host: &str,
    ca: Option<&Path>,
    identity: Option<&(PathBuf, PathBuf)>,
) -> Result<Stream, String> {
    let crypto = crypto.ok_or(
        "there is no cryptography for TLS: turn on the feature aws-lc-rs or ring, or call \
         MeshBuilder::crypto_provider",
    )?;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| format!("{host:?} is no name that a certificate could have"))?;
    let roots = match ca {
        Some(path) => roots_of(path).await?,
        None => system_roots().await?,
    };
    let versions = match tls13_only {
        true => &[&TLS13][..],
        false => DEFAULT_VERSIONS,
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(crypto))
        .with_protocol_versions(versions)
        .map_err(|error| format!("cannot set up TLS: {error}"))?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let certificates = certificates_of(chain).await?;
            let private = PrivateKeyDer::from_pem_slice(&read(key).await?)
                .map_err(|error| format!("{} holds no private key: {error}", key.display()))?;
            builder
                .with_client_auth_cert(certificates, private)
                .map_err(|error| {
                    let (chain, key) = (chain.display(), key.display());
                    format!("{chain} and {key} make no client certificate: {error}")
                })?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    let io = TlsConnector::from(Arc::new(config))
        .connect(name, io)
        .await
        .map_err(|error| {
            let trusted = match ca {
                Some(path) => path.display().to_string(),
                None => "the operating system's roots".to_owned(),
            };
            let versions = match tls13_only {
                true => "; by Options::tls13_only with TLS 1.3 alone",
                false => "",
            };
            format!("TLS with {host} failed: {error} (trusting {trusted}{versions})")
        })?;
    match io.get_ref().1.alpn_protocol() {
        Some(b"h2") => Ok(Stream::new(io)),
        _ => Err(format!(
            "{host} does not offer HTTP/2 over TLS (ALPN \"h2\")"
        )),
    }
}

async fn roots_of(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates_of(path).await? {
        roots
            .add(certificate)
            .map_err(|error| format!("{} holds no usable root: {error}", path.display()))?;
    }
    Ok(roots)
}

async fn system_roots() -> Result<RootCertStore, String> {
    let loaded = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs)
        .await
        .map_err(|error| format!("cannot load the operating system's roots: {error}"))?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(loaded.certs);
    if roots.is_empty() {
        let errors: Vec<_> = loaded.errors.iter().map(ToString::to_string).collect();
        return Err(format!(
            "the operating system has no trusted roots; install them or set ca_certificate_file \
             ({})",
            errors.join("; ")
        ));
    }
    Ok(roots)
}

async fn certificates_of(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = path.display();
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&read(path).await?)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{shown} is not PEM: {error}"))?;
    if certificates.is_empty() {
        return Err(format!("{shown} holds no certificate in PEM"));
    }
    Ok(certificates)
}

async fn read(path: &Path) -> Result<Vec<u8>, String> {
    let bytes = tokio::fs::read(path).await;
    bytes.map_err(|error| format!("cannot read {}: {error}", path.display()))
}
