//! Who we are, and whom we trust.
//!
//! A [`CertificateSource`] delivers certificates and trust as they change. [`Identities`] joins them
//! with the TLS settings of clusters and listeners to what a handshake needs, and with a
//! connection's certificate to a [`Peer`].

mod clock;
mod context;
mod crypto;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod csr;
mod material;
mod peer;
mod secrets;
mod source;

#[cfg(feature = "testing")]
pub(crate) use clock::now;
pub use context::{ClientHandshake, DownstreamContext, Identities, IdentityError, UpstreamContext};
pub use crypto::default_crypto_provider;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
pub use csr::{
    CertificateSigner, CsrOptions, CsrSource, SignError, SignFuture, Signed, SigningRequest,
};
pub use material::{Identity, MaterialError, Roots, Trust};
pub use peer::{Peer, PeerCertificate, PeerTls};
pub use secrets::SecretSource;
pub use source::{CertificateSource, Known, Publisher, Watched};
