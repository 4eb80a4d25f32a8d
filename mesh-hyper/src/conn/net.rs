use std::{sync::Arc, time::Duration};

use mesh_core::{balance::LinkState, identity::Identities, runtime::Transport};

use super::{
    dial::{Dial, SystemDial},
    pool::Pool,
};

/// HTTP/2 and HTTP/1.1 connections over what a [`Dial`] opens: the transport of the mesh. Its methods are called
/// within a tokio runtime.
#[derive(Debug, Clone)]
pub struct Net {
    pub(super) options: NetOptions,
    pub(super) dial: Arc<dyn Dial>,
    pub(super) identities: Identities,
}

/// What configuration does not say of connections.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NetOptions {
    /// Connections to one endpoint where its cluster does not say (gRFC A105). Default 1, at most
    /// [`MAX_CONNECTIONS`](Self::MAX_CONNECTIONS).
    /// Over HTTP/1.1, where a connection has one request, the cluster's circuit breakers are the
    /// only limit.
    pub max_connections: u32,
    /// The pause after the first failed connection attempt. Default 1 s; then 1.6 times longer each
    /// time, with a jitter of a fifth, until a connection succeeds.
    pub backoff_base: Duration,
    /// The longest pause. Default 120 s.
    pub backoff_max: Duration,
    /// How long open streams may go on when an endpoint is removed or its connection takes no more.
    /// Default 10 minutes.
    pub drain: Duration,
}

// === impl Net ===

impl Net {
    /// Connections through the operating system.
    pub fn new(options: NetOptions) -> Self {
        Self::with_dial(options, Arc::new(SystemDial))
    }

    /// Connections through `dial`.
    pub fn with_dial(options: NetOptions, dial: Arc<dyn Dial>) -> Self {
        Self {
            options,
            dial,
            identities: Identities::default(),
        }
    }

    /// With these certificates for TLS. By default there is none to present, and the roots of the
    /// operating system are all there is to trust.
    #[must_use]
    pub fn with_identities(mut self, identities: Identities) -> Self {
        self.identities = identities;
        self
    }
}

impl Default for Net {
    fn default() -> Self {
        Self::new(NetOptions::default())
    }
}

impl Transport for Net {
    type Conn = Pool;

    fn open(&self, _: &Arc<LinkState>) -> Pool {
        Pool::default()
    }

    fn connect(&self, pool: &Pool, link: &Arc<LinkState>) {
        pool.connect(self, link);
    }

    fn retire(&self, pool: &Pool) {
        pool.retire();
    }
}

// === impl NetOptions ===

impl NetOptions {
    /// The most connections to one endpoint, whoever asks for more (gRFC A105).
    pub const MAX_CONNECTIONS: u32 = 10;
}

impl Default for NetOptions {
    fn default() -> Self {
        Self {
            max_connections: 1,
            backoff_base: Duration::from_secs(1),
            backoff_max: Duration::from_secs(120),
            drain: Duration::from_secs(600),
        }
    }
}
