//! Who we are, and whom we trust.
//!
//! A [`CertificateSource`] delivers certificates and trust as they change. [`Identities`] joins them
//! with the TLS settings of clusters and listeners to what a handshake needs, and with a
//! connection's certificate to a [`Peer`].

mod context;
mod material;
mod peer;
mod source;

pub use context::{ClientHandshake, DownstreamContext, Identities, IdentityError, UpstreamContext};
pub use material::{Identity, MaterialError, Roots, Trust};
pub use peer::{Peer, PeerCertificate, PeerTls};
pub use source::{CertificateSource, Known, Publisher, Watched};
