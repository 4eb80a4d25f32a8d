//! From an accepted socket to a connection that is secured and among the live ones.

use std::sync::Arc;

use mesh_core::{
    connections::{Ending, Live, NewConnection, Order},
    identity::Peer,
    resolve::{Ends, InboundChain},
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use super::{Shared, handshake::Secured, security::Security, trust};

impl Shared {
    /// Makes the handshake that the connection's filter chain asks for. `None`: it is refused.
    pub(super) async fn secure<T>(
        &self,
        io: T,
        ends: Ends,
    ) -> Option<(Arc<InboundChain>, Security, Secured<T>)>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let chain = self.follow.chain(ends)?;
        let security = Security::of(&chain, &self.identities, self.alpn());
        let handshake = security.handshake(io, ends);
        match timeout(self.options.handshake_timeout, handshake).await {
            Ok(Ok(secured)) => Some((chain, security, secured)),
            Ok(Err(error)) => {
                self.refused(ends.peer, &error);
                None
            }
            Err(_) => {
                tracing::debug!(peer = %ends.peer, "a handshake took too long");
                None
            }
        }
    }

    /// Adds a connection whose handshake used `config` to the live ones. `None`: it is to be closed.
    pub(super) async fn register(
        &self,
        peer: Arc<Peer>,
        security: &Security,
        config: Option<&Arc<ServerConfig>>,
    ) -> Option<Live> {
        let tls = match security {
            Security::Plaintext => None,
            Security::Tls(setting, context) => Some((Arc::clone(setting), Arc::clone(context))),
        };
        let live = self
            .connections
            .open(NewConnection::new(self.id, peer, tls));
        // From here on a change finds the connection among the live ones. One that came meanwhile
        // has not: so that is looked for.
        if let Security::Tls(_, context) = security {
            self.trust.watch(context);
            let current = context.handshake().await.ok()?;
            if !config.is_some_and(|used| Arc::ptr_eq(used, &current)) {
                trust::check(live.handle(), context);
            }
        }
        self.review(live.handle());
        if self.half_open.is_closed() && live.handle().ending().is_none() {
            let grace = self.options.drain_grace;
            live.handle().order(Order::Drain(Ending::Shutdown, grace));
        }
        Some(live)
    }
}
