//! TLS to endpoints: who is there is verified anew by each handshake, and again when whom to trust
//! changes.

use std::sync::{Arc, OnceLock};

use futures_util::future::BoxFuture;
use mesh_core::identity::{IdentityError, PeerCertificate, UpstreamContext};
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use super::{attempt::Secured, dial::Stream, drive::Stopper, protocol::Speaks};

/// Who is at the other end of a connection, for as long as it is trusted.
pub(crate) struct Trusted {
    context: Arc<UpstreamContext>,
    peer: PeerCertificate,
    /// Since the handshake.
    changed: BoxFuture<'static, ()>,
}

/// Stops a connection when its peer is not trusted any more. A task of its own, so that calls do not
/// pay for it; ends when this is dropped.
pub(super) struct Watchdog {
    found: Arc<OnceLock<IdentityError>>,
    task: AbortHandle,
}

/// TLS over `io`, and what is spoken on it.
pub(super) async fn secure(
    io: Stream,
    context: &Arc<UpstreamContext>,
    speaks: Speaks,
) -> Result<Secured, IdentityError> {
    // Before the trust is looked at: no change is missed.
    let changed = context.trust_changed();
    let handshake = context.handshake().await?;
    let stream = TlsConnector::from(handshake.config)
        .connect(handshake.server_name, io)
        .await
        .map_err(|error| IdentityError::of_handshake(&error))?;
    let connection = stream.get_ref().1;
    let version = speaks.agreed(connection.alpn_protocol())?;
    let chain: Vec<_> = connection
        .peer_certificates()
        .unwrap_or_default()
        .iter()
        .map(|certificate| certificate.clone().into_owned())
        .collect();
    let peer =
        PeerCertificate::parse(&chain).map_err(|error| IdentityError::new(error.to_string()))?;
    let trusted = Trusted {
        context: Arc::clone(context),
        peer,
        changed: Box::pin(changed),
    };
    Ok(Secured {
        io: Stream::tls(stream),
        version,
        trusted: Some(trusted),
    })
}

// === impl Trusted ===

impl Trusted {
    /// Waits until the peer is not trusted any more: why.
    pub(crate) async fn ends(self) -> IdentityError {
        let Self {
            context,
            peer,
            mut changed,
        } = self;
        loop {
            changed.await;
            changed = Box::pin(context.trust_changed());
            if let Err(why) = context.recheck(&peer) {
                return why;
            }
        }
    }
}

// === impl Watchdog ===

impl Watchdog {
    pub(super) fn start(trusted: Trusted, stopper: Stopper) -> Self {
        let found = Arc::<OnceLock<_>>::default();
        let task = tokio::spawn({
            let found = Arc::clone(&found);
            async move {
                let why = trusted.ends().await;
                // Nobody else sets it.
                let _ = found.set(why);
                stopper.stop();
            }
        });
        Self {
            found,
            task: task.abort_handle(),
        }
    }

    /// Why the peer is not trusted any more, if it is not.
    pub(super) fn found(&self) -> Option<IdentityError> {
        self.found.get().cloned()
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.task.abort();
    }
}
