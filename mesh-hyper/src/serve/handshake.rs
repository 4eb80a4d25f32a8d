//! From a connection that was accepted to one whose peer is known.

use std::sync::Arc;

use mesh_core::{
    identity::{DownstreamContext, IdentityError, MaterialError, Peer, PeerTls},
    resolve::Ends,
};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use super::{security::Security, stream::Maybe};

/// A connection that is as secure as its chain says.
pub(super) struct Secured<T> {
    pub(super) io: Maybe<T>,
    pub(super) peer: Arc<Peer>,
    /// What its handshake used.
    pub(super) config: Option<Arc<ServerConfig>>,
}

/// Why a connection got no further.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("there is no certificate to present: {0}")]
    Identity(#[from] IdentityError),
    #[error("the TLS handshake failed: {0}")]
    Tls(#[source] IdentityError),
    #[error("the peer's certificate was accepted, and cannot be read: {0}")]
    Certificate(#[from] MaterialError),
}

impl Security {
    /// Makes the handshake, if there is one to make. The caller limits the time.
    pub(super) async fn handshake<T>(&self, io: T, ends: Ends) -> Result<Secured<T>, HandshakeError>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let (io, tls, config) = match self {
            Self::Plaintext => (Maybe::Plain(io), None, None),
            Self::Tls(_, context) => {
                let context: &DownstreamContext = context;
                let config = context.handshake().await?;
                let io = TlsAcceptor::from(Arc::clone(&config)).accept(io).await;
                let io =
                    io.map_err(|error| HandshakeError::Tls(IdentityError::of_handshake(&error)))?;
                let tls = PeerTls::of(io.get_ref().1)?;
                (Maybe::Tls(Box::new(io)), Some(tls), Some(config))
            }
        };
        let peer = Arc::new(Peer::new(ends.peer_address(), ends.local_address(), tls));
        Ok(Secured { io, peer, config })
    }
}
