use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use mesh_core::{
    bootstrap::FileWatcherConfig,
    testing::{CertificateAuthority, Leaf},
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use serde::{Deserialize, Serialize};

use super::BoxError;

/// A certificate with its key and the roots to trust.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pem {
    /// The certificate and those that lead from it to a root.
    pub chain: String,
    /// Its key.
    pub key: String,
    /// Who is trusted.
    pub roots: String,
}

/// A directory for files, which goes when it is dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

// === impl Pem ===

impl Pem {
    /// A certificate of this authority, which is trusted too.
    pub fn issue(ca: &CertificateAuthority, leaf: Leaf) -> Self {
        let issued = ca.issue(leaf);
        Self {
            chain: issued.chain_pem(),
            key: issued.key_pem(),
            roots: ca.root_pem(),
        }
    }

    /// In files, for a bootstrap.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write(&self, folder: &Folder) -> io::Result<FileWatcherConfig> {
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).map(|()| path)
        };
        Ok(FileWatcherConfig::new()
            .identity_files(put("chain.pem", &self.chain)?, put("key.pem", &self.key)?)
            .ca_certificate_file(put("roots.pem", &self.roots)?))
    }

    /// For clients that know of no mesh: mTLS without resumption.
    ///
    /// # Errors
    /// If it is no certificate, no key or no root.
    pub fn client_config(&self, alpn: &[&str]) -> Result<ClientConfig, BoxError> {
        let mut config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.trusted()?)
            .with_client_auth_cert(self.certificates()?, self.private_key()?)?;
        config.alpn_protocols = protocols(alpn);
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    /// For servers that know of no mesh: mTLS without resumption.
    ///
    /// # Errors
    /// If it is no certificate, no key or no root.
    pub fn server_config(&self, alpn: &[&str]) -> Result<ServerConfig, BoxError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let roots = Arc::new(self.trusted()?);
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build()?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.certificates()?, self.private_key()?)?;
        config.alpn_protocols = protocols(alpn);
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, BoxError> {
        let chain = CertificateDer::pem_slice_iter(self.chain.as_bytes());
        Ok(chain.collect::<Result<_, _>>()?)
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, BoxError> {
        Ok(PrivateKeyDer::from_pem_slice(self.key.as_bytes())?)
    }

    fn trusted(&self) -> Result<RootCertStore, BoxError> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.roots.as_bytes())?)?;
        Ok(roots)
    }
}

fn protocols(alpn: &[&str]) -> Vec<Vec<u8>> {
    alpn.iter()
        .map(|protocol| protocol.as_bytes().to_vec())
        .collect()
}

// === impl Folder ===

impl Folder {
    /// One of this process.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn new(name: &str) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("mesh-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
