use std::{collections::BTreeMap, fmt, sync::Arc, time::SystemTime};

use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    sign::CertifiedKey,
};

use super::PeerCertificate;

/// A certificate to present, with its private key: they belong together, which was checked.
pub struct Identity {
    pub(crate) certified: Arc<CertifiedKey>,
    pub(crate) leaf: PeerCertificate,
}

/// Whom to trust.
#[derive(Debug, Clone)]
pub enum Trust {
    /// These roots for everybody.
    Roots(Roots),
    /// Roots by SPIFFE trust domain: a peer's URI name chooses (gRFC A87).
    Bundles(BTreeMap<Arc<str>, Roots>),
}

/// Trusted roots; at least one.
#[derive(Clone)]
pub struct Roots(pub(crate) Arc<RootCertStore>);

/// Why certificates, a key or roots cannot be used. Says what is wrong, never what the key is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MaterialError(pub(crate) Arc<str>);

// === impl Identity ===

impl Identity {
    /// A chain and its private key in PEM.
    ///
    /// # Errors
    /// If one of them cannot be read, or they do not belong together.
    pub fn from_pem(
        chain: &[u8],
        key: &[u8],
        crypto: &CryptoProvider,
    ) -> Result<Self, MaterialError> {
        let chain = certificates(chain)?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| MaterialError::new(format!("private key: {}", problem(&error))))?;
        Self::from_der(chain, key, crypto)
    }

    /// A chain, the leaf first, and its private key.
    ///
    /// # Errors
    /// If one of them cannot be read, or they do not belong together.
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        crypto: &CryptoProvider,
    ) -> Result<Self, MaterialError> {
        let leaf = PeerCertificate::parse(&chain)?;
        let certified = CertifiedKey::from_der(chain, key, crypto).map_err(|error| {
            MaterialError::new(format!("certificate and private key do not match: {error}"))
        })?;
        Ok(Self {
            certified: Arc::new(certified),
            leaf,
        })
    }

    /// The chain, the leaf first, with its key.
    pub fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// The leaf, parsed.
    pub fn leaf(&self) -> &PeerCertificate {
        &self.leaf
    }

    /// From when to when it is valid.
    pub fn validity(&self) -> (SystemTime, SystemTime) {
        (self.leaf.not_before, self.leaf.not_after)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("leaf", &self.leaf)
            .finish_non_exhaustive()
    }
}

// === impl Roots ===

impl Roots {
    /// All certificates in PEM.
    ///
    /// # Errors
    /// If there is none, or one cannot be a root.
    pub fn from_pem(pem: &[u8]) -> Result<Self, MaterialError> {
        Self::from_der(certificates(pem)?)
    }

    /// These certificates.
    ///
    /// # Errors
    /// If there is none, or one cannot be a root.
    pub fn from_der(
        certificates: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, MaterialError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots
                .add(certificate)
                .map_err(|error| MaterialError::new(format!("unusable root: {error}")))?;
        }
        if roots.is_empty() {
            return Err(MaterialError::new("there is no root certificate"));
        }
        Ok(Self(Arc::new(roots)))
    }

    /// The roots as rustls takes them.
    pub fn as_store(&self) -> &Arc<RootCertStore> {
        &self.0
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roots({})", self.0.len())
    }
}

// === impl MaterialError ===

impl MaterialError {
    pub(crate) fn new(problem: impl Into<Arc<str>>) -> Self {
        Self(problem.into())
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| MaterialError::new(format!("certificate: {}", problem(&error))))?;
    if certificates.is_empty() {
        return Err(MaterialError::new("no certificate in PEM"));
    }
    Ok(certificates)
}

/// What is wrong with a PEM file. The error's own text may quote a line of it, which may hold the
/// key.
fn problem(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::NoItemsFound => "there is none in PEM",
        pem::Error::MissingSectionEnd { .. } => "PEM ends within a section: is the file complete?",
        pem::Error::IllegalSectionStart { .. } => "PEM has an illegal line -----BEGIN",
        pem::Error::Base64Decode(_) => "PEM is not valid base64",
        pem::Error::SectionTooLarge => "a section of PEM is too large",
        _ => "it cannot be read",
    }
}
