//! Attempts to connect to an endpoint: within its cluster's `connect_timeout`, at whichever of its
//! addresses one succeeds first, as secure as the cluster says.

use std::sync::Arc;

use mesh_core::{balance::LinkState, config::Address, identity::UpstreamContext};
use tokio::time::{Instant, timeout_at};

use super::{
    dial::{Dial, Stream},
    error::{ConnectError, Stage},
    happy,
    protocol::{Speaks, Version},
    tls::{self, Trusted},
};

/// How a connection is made to one address.
pub(super) trait Attempt: Sync {
    /// What comes of it.
    type Made;

    /// Tries, and tells how far it is.
    fn attempt(
        &self,
        address: &Address,
        stage: &mut Stage,
    ) -> impl Future<Output = Result<Self::Made, ConnectError>> + Send;
}

/// The way to a connection on which nothing was said yet.
pub(crate) struct Way<'a> {
    pub(crate) dial: &'a dyn Dial,
    /// `None`: plaintext.
    pub(crate) tls: Option<&'a Arc<UpstreamContext>>,
    pub(crate) speaks: Speaks,
}

/// A connection that is as secure as its cluster says.
pub(crate) struct Secured {
    pub(crate) io: Stream,
    /// What is to be spoken on it.
    pub(crate) version: Version,
    /// `None`: plaintext.
    pub(crate) trusted: Option<Trusted>,
}

/// Connects within the `connect_timeout` of the endpoint's cluster. Of several addresses the first
/// at which all of the attempt succeeds wins (gRFC A61).
pub(super) async fn connect<A: Attempt>(
    endpoint: &LinkState,
    way: &A,
) -> Result<A::Made, ConnectError> {
    let limit = endpoint.cluster().connections.connect_timeout;
    happy::connect(endpoint, |address: Address, until: Instant| async move {
        let mut stage = Stage::Dial;
        let attempt = timeout_at(until, way.attempt(&address, &mut stage)).await;
        attempt.unwrap_or_else(|_| {
            Err(ConnectError::Timeout {
                address,
                limit,
                stage,
            })
        })
    })
    .await
}

// === impl Way ===

impl Way<'_> {
    /// Dials the endpoint and makes the TLS handshake that its cluster asks for.
    pub(crate) async fn secure(&self, endpoint: &LinkState) -> Result<Secured, ConnectError> {
        connect(endpoint, self).await
    }
}

impl Attempt for Way<'_> {
    type Made = Secured;

    async fn attempt(&self, address: &Address, stage: &mut Stage) -> Result<Secured, ConnectError> {
        let no_tls = |error| ConnectError::Tls {
            address: address.clone(),
            error,
        };
        if let Some(context) = self.tls {
            // Without them there is no use in dialling. The handshake takes what is new by then.
            *stage = Stage::Certificates;
            context.handshake().await.map_err(no_tls)?;
            *stage = Stage::Dial;
        }
        let io = self.dial.dial(address).await;
        let io = io.map_err(|error| ConnectError::Dial {
            address: address.clone(),
            error,
        })?;
        let Some(context) = self.tls else {
            return Ok(Secured {
                io,
                version: self.speaks.in_plaintext(),
                trusted: None,
            });
        };
        *stage = Stage::Tls;
        tls::secure(io, context, self.speaks).await.map_err(no_tls)
    }
}
