//! Istio's certificate authority: `istio.v1.auth.IstioCertificateService`.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use prost::Message;
use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::{
    bootstrap::{IstioCaConfig, ServerConfig},
    identity::{
        CertificateSigner, CsrOptions, CsrSource, SignError, SignFuture, Signed, SigningRequest,
    },
    runtime::{Limits, Messages, SideCall},
};

/// The method that signs.
pub(crate) const CREATE_CERTIFICATE: &str =
    "/istio.v1.auth.IstioCertificateService/CreateCertificate";

/// The header that says where the token is valid.
pub(crate) const CLUSTER_ID: &str = "clusterid";

/// Bytes that an answer may have: a hundred certificates.
const MAX_ANSWER: usize = 1 << 20;

/// `IstioCertificateRequest` of `security/v1alpha1/ca.proto`; the field `metadata` is for agents.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CertificateRequest {
    /// In PEM.
    #[prost(string, tag = "1")]
    pub(crate) csr: String,
    /// In seconds.
    #[prost(int64, tag = "3")]
    pub(crate) validity_duration: i64,
}

/// `IstioCertificateResponse` of the same.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CertificateResponse {
    /// In PEM: the leaf first, the roots in the last one.
    #[prost(string, repeated, tag = "1")]
    pub(crate) cert_chain: Vec<String>,
}

/// A certificate authority that speaks Istio's protocol.
#[derive(Debug, Clone)]
pub struct IstioCa {
    calls: Arc<dyn SideCall>,
    server: ServerConfig,
    metadata: HeaderMap,
}

// === impl IstioCa ===

impl IstioCa {
    /// The certificate authority of `config`, called through `calls`. Its files are read for each
    /// call.
    pub fn new(config: &IstioCaConfig, calls: Arc<dyn SideCall>) -> Self {
        let mut metadata = HeaderMap::new();
        if let Some(id) = &config.cluster_id
            // Always so: the bootstrap accepts visible ASCII alone.
            && let Ok(id) = HeaderValue::from_str(id)
        {
            metadata.insert(CLUSTER_ID, id);
        }
        Self {
            calls,
            server: config.server.clone(),
            metadata,
        }
    }

    /// The certificates that it signs.
    pub fn source(
        config: &IstioCaConfig,
        calls: Arc<dyn SideCall>,
        crypto: Arc<CryptoProvider>,
    ) -> CsrSource {
        let options = CsrOptions {
            validity: config.validity,
            uri: config.spiffe_id.as_deref().map(Arc::from),
            roots_file: config.ca_certificate_file.clone(),
        };
        CsrSource::new(Arc::new(Self::new(config, calls)), options, crypto)
    }

    async fn call(self, request: Bytes) -> Result<Signed, SignError> {
        let limits = Limits {
            max_message: MAX_ANSWER,
        };
        let opening = self
            .calls
            .stream(&self.server, CREATE_CERTIFICATE, self.metadata, limits);
        let Messages { send, mut recv } = opening
            .await
            .map_err(|error| SignError::new(error.to_string()))?;
        let refused = |problem: &dyn std::fmt::Display| {
            SignError::new(format!(
                "the certificate authority {} refuses: {problem}",
                self.server.uri
            ))
        };
        // If it has already refused, what follows says why.
        let _ = send.send(request).await;
        drop(send);
        let answer = match recv.recv().await {
            Some(Ok(answer)) => answer,
            Some(Err(status)) => return Err(refused(&status)),
            None => return Err(refused(&"it answers with nothing")),
        };
        // The answer counts if the call ends well.
        if let Some(Err(status)) = recv.recv().await {
            return Err(refused(&status));
        }
        signed(answer).map_err(|problem| {
            SignError::new(format!(
                "the certificate authority {} answers with what cannot be used: {problem}",
                self.server.uri
            ))
        })
    }
}

impl CertificateSigner for IstioCa {
    fn sign(&self, request: &SigningRequest) -> SignFuture {
        let validity_duration = i64::try_from(request.validity().as_secs()).unwrap_or(i64::MAX);
        let csr = request.pem();
        let call = self.clone();
        Box::pin(async move {
            let request = CertificateRequest {
                csr: csr?,
                validity_duration,
            };
            call.call(request.encode_to_vec().into()).await
        })
    }
}

/// Reads an answer: for fuzzing.
#[cfg(feature = "testing")]
pub(crate) fn read_bytes(bytes: &[u8]) {
    let _ = signed(Bytes::copy_from_slice(bytes));
}

/// The certificates of an answer. Each text may hold several.
fn signed(answer: Bytes) -> Result<Signed, String> {
    let CertificateResponse { cert_chain } =
        CertificateResponse::decode(answer).map_err(|error| error.to_string())?;
    let parse = |(index, text): (usize, &String)| {
        let name = |error: &dyn std::fmt::Display| format!("cert_chain[{index}]: {error}");
        let certificates = CertificateDer::pem_slice_iter(text.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| name(&error))?;
        match certificates.is_empty() {
            false => Ok(certificates),
            true => Err(name(&"no certificate in PEM")),
        }
    };
    let mut texts = cert_chain
        .iter()
        .enumerate()
        .map(parse)
        .collect::<Result<Vec<_>, _>>()?;
    match (texts.pop(), texts.is_empty()) {
        (Some(roots), false) => Ok(Signed {
            chain: texts.concat(),
            roots,
        }),
        _ => Err("cert_chain: needs a certificate and, last, its root".to_owned()),
    }
}
