use std::time::Duration;

use rcgen::{CertificateParams, CertificateSigningRequest, DistinguishedName, KeyPair, SanType};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{CsrOptions, SignError};

/// What a certificate authority is asked to sign (PKCS #10, RFC 2986).
#[derive(Debug)]
pub struct SigningRequest {
    csr: CertificateSigningRequest,
    validity: Duration,
}

impl SigningRequest {
    /// A request for a new key, and the key: ECDSA P-256.
    pub(super) fn new(options: &CsrOptions) -> Result<(Self, PrivateKeyDer<'static>), SignError> {
        let problem =
            |error: rcgen::Error| SignError::new(format!("cannot make a signing request: {error}"));
        let key = KeyPair::generate().map_err(problem)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(uri) = &options.uri {
            let uri = uri.as_ref().try_into().map_err(problem)?;
            params.subject_alt_names = vec![SanType::URI(uri)];
        }
        let csr = params.serialize_request(&key).map_err(problem)?;
        let request = Self {
            csr,
            validity: options.validity,
        };
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Ok((request, key.into()))
    }

    /// The request in DER.
    pub fn der(&self) -> &[u8] {
        self.csr.der()
    }

    /// The request in PEM.
    ///
    /// # Errors
    /// If it cannot be written as PEM.
    pub fn pem(&self) -> Result<String, SignError> {
        self.csr
            .pem()
            .map_err(|error| SignError::new(format!("cannot make a signing request: {error}")))
    }

    /// How long the certificate is to be valid.
    pub fn validity(&self) -> Duration {
        self.validity
    }
}
