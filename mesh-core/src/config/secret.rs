use std::{fmt, sync::Arc};

use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What a control plane delivers for TLS (Envoy's SDS).
#[derive(Debug, Clone, PartialEq)]
pub struct Secret {
    /// Its name.
    pub name: Arc<str>,
    /// What it holds.
    pub material: SecretMaterial,
}

/// Kinds of [`Secret`].
#[derive(Debug, Clone, PartialEq)]
pub enum SecretMaterial {
    /// A certificate to present.
    Certificate {
        /// The chain, the leaf first; at least one.
        chain: Arc<[CertificateDer<'static>]>,
        /// The private key. Whether it belongs to the leaf is checked where both are used: that
        /// takes cryptography.
        key: SecretKey,
    },
    /// Whom to trust: roots; at least one.
    Trust(Arc<[CertificateDer<'static>]>),
}

/// A private key, which no `Debug` shows.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey(Arc<PrivateKeyDer<'static>>);

// === impl SecretKey ===

impl SecretKey {
    /// A key in DER.
    pub fn new(key: PrivateKeyDer<'static>) -> Self {
        Self(Arc::new(key))
    }

    /// The key in DER.
    pub fn der(&self) -> &PrivateKeyDer<'static> {
        &self.0
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}
