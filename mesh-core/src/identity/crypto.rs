use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// The cryptography in use where [`MeshBuilder::crypto_provider`](crate::MeshBuilder::crypto_provider)
/// gave none: aws-lc-rs, else ring, by the features of this crate. `None` if both are off. The
/// process's default of rustls is never looked at: it belongs to the application.
pub fn default_crypto_provider() -> Option<Arc<CryptoProvider>> {
    #[cfg(feature = "aws-lc-rs")]
    let provider = Some(rustls::crypto::aws_lc_rs::default_provider());
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    let provider = Some(rustls::crypto::ring::default_provider());
    #[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
    let provider = None;
    provider.map(Arc::new)
}
