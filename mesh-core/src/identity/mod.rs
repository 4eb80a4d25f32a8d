//! Who we are, and whom we trust.
//!
//! A [`CertificateSource`] delivers certificates and trust as they change. [`Identities`] joins them
//! with the TLS settings of clusters and listeners to what a handshake needs, and with a
//! connection's certificate to a [`Peer`].
//!
//! A new certificate is used once it has passed our own check: it is valid now, and where the same
//! source's trust accepts the one in use it accepts the new one too. Otherwise the one in use stays.
//! What is in use, and how far it is in its life, is what
//! [`Mesh::certificates`](crate::Mesh::certificates) tells.

mod bundle;
mod clock;
mod context;
mod crypto;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod csr;
mod error;
mod files;
mod gate;
mod in_code;
mod joined;
mod material;
mod names;
mod peer;
mod registry;
mod secrets;
mod source;
#[cfg(feature = "spiffe")]
mod spiffe;
mod subject;
mod system;
mod verify;

pub(crate) use clock::now;
pub use context::{ClientHandshake, DownstreamContext, UpstreamContext};
pub use crypto::default_crypto_provider;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
pub use csr::{
    CertificateSigner, CsrOptions, CsrSource, SignError, SignFuture, Signed, SigningRequest,
};
pub use error::IdentityError;
use error::explain;
pub use files::FileSource;
pub use gate::{CertificateStatus, LifeStage};
pub use in_code::InCode;
pub use material::{Identity, MaterialError, Roots, Trust};
pub use peer::{Peer, PeerCertificate, PeerTls};
pub use registry::Identities;
pub use secrets::SecretSource;
pub use source::{CertificateSource, Known, Publisher, Watched};
#[cfg(feature = "spiffe")]
pub use spiffe::SpiffeSource;

/// Reads a bundle map: for fuzzing.
#[cfg(feature = "testing")]
pub(crate) fn read_bundle_map(json: &[u8]) {
    let _ = bundle::BundleMap::parse(json);
}
