use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig, pki_types::ServerName};

use super::PeerCertificate;
use crate::config::{DownstreamTls, UpstreamTls};

/// The certificates and the trust of a process. Cheap to clone; does not keep the mesh alive.
#[derive(Debug, Clone)]
pub struct Identities;

/// TLS to the endpoints of a cluster, current at every handshake.
#[derive(Debug)]
pub struct UpstreamContext;

/// What the next handshake with an endpoint uses.
#[derive(Debug, Clone)]
pub struct ClientHandshake {
    /// The settings: certificate, trust, names to check.
    pub config: Arc<ClientConfig>,
    /// The server name to send, where one is sent, and to check.
    pub server_name: ServerName<'static>,
}

/// TLS of accepted connections, current at every handshake.
#[derive(Debug)]
pub struct DownstreamContext;

/// Why no handshake can be made, or a certificate is not trusted. Says what was wanted, and what
/// was there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct IdentityError(pub(crate) Arc<str>);

impl Identities {
    /// TLS to an endpoint of this host name. Shared while its settings are equal.
    pub fn upstream(&self, _: &Arc<UpstreamTls>, _hostname: Option<&str>) -> Arc<UpstreamContext> {
        unimplemented!()
    }

    /// TLS of accepted connections that agree on one of these protocols, such as `h2`.
    pub fn downstream(&self, _: &Arc<DownstreamTls>, _alpn: &[&[u8]]) -> Arc<DownstreamContext> {
        unimplemented!()
    }
}

impl UpstreamContext {
    /// What the next handshake uses; waits until everything for it has arrived once. The caller
    /// limits the time.
    ///
    /// # Errors
    /// If something of it cannot be had.
    pub async fn handshake(&self) -> Result<ClientHandshake, IdentityError> {
        unimplemented!()
    }

    /// Whether the certificate of a connection would still be accepted now, its dates aside.
    ///
    /// # Errors
    /// If not: why.
    pub fn recheck(&self, _: &PeerCertificate) -> Result<(), IdentityError> {
        unimplemented!()
    }

    /// Waits until whom to trust changes after this call.
    pub async fn trust_changed(&self) {
        unimplemented!()
    }
}

impl DownstreamContext {
    /// What the next handshake uses; waits until everything for it has arrived once. The caller
    /// limits the time.
    ///
    /// # Errors
    /// If something of it cannot be had.
    pub async fn handshake(&self) -> Result<Arc<ServerConfig>, IdentityError> {
        unimplemented!()
    }

    /// Whether the certificate of a connection would still be accepted now, its dates aside.
    ///
    /// # Errors
    /// If not: why.
    pub fn recheck(&self, _: &PeerCertificate) -> Result<(), IdentityError> {
        unimplemented!()
    }

    /// Waits until whom to trust changes after this call.
    pub async fn trust_changed(&self) {
        unimplemented!()
    }
}
