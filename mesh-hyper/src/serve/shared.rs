use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use mesh_core::{
    Semantics,
    config::DownstreamTls,
    connections::{ConnectionHandle, Connections, Ending, Order, ServerId},
    identity::{DownstreamContext, Identities},
    resolve::{Ends, InboundState},
};
use parking_lot::Mutex;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::{
    ServerOptions, ServingMode,
    follow::Follow,
    half_open::HalfOpen,
    handshake::HandshakeError,
    trust::{self, Trust, Watcher},
};

/// What the connections of one server share.
pub(super) struct Shared {
    pub(super) id: ServerId,
    pub(super) semantics: Semantics,
    pub(super) speaks_http1: bool,
    pub(super) options: ServerOptions,
    pub(super) follow: Arc<Follow>,
    pub(super) identities: Identities,
    pub(super) connections: Connections,
    pub(super) trust: Trust,
    /// Those in force: certificates are there before the first connection, and stay fresh while
    /// there is none.
    contexts: Mutex<Vec<Arc<DownstreamContext>>>,
    pub(super) half_open: HalfOpen,
    /// What was said last of refused connections.
    pub(super) refusals: Mutex<Refusals>,
    pub(super) http1: http1::Builder,
    pub(super) http2: http2::Builder<TokioExecutor>,
}

/// What a server is made from.
pub(super) struct Parts {
    pub(super) semantics: Semantics,
    pub(super) speaks_http1: bool,
    pub(super) options: ServerOptions,
    pub(super) follow: Arc<Follow>,
    pub(super) identities: Identities,
    pub(super) connections: Connections,
}

/// Connections that were refused, since it was last said and before.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    said: Option<Instant>,
    unsaid: u64,
}

/// How often the same trouble is told of.
const SAY_AGAIN: Duration = Duration::from_secs(10);

// === impl Shared ===

impl Shared {
    /// With the watchers that are to be run beside it.
    pub(super) fn new(parts: Parts) -> (Arc<Self>, mpsc::UnboundedReceiver<Watcher>) {
        let Parts {
            semantics,
            speaks_http1,
            options,
            follow,
            identities,
            connections,
        } = parts;
        let id = connections.server();
        let (trust, watchers) = Trust::new(id, connections.clone());
        let shared = Self {
            id,
            semantics,
            speaks_http1,
            follow,
            identities,
            trust,
            contexts: Mutex::default(),
            half_open: HalfOpen::new(options.max_half_open),
            refusals: Mutex::default(),
            http1: http1(&options),
            http2: http2(&options),
            connections,
            options,
        };
        (Arc::new(shared), watchers)
    }

    /// The protocols that TLS agrees on.
    pub(super) fn alpn(&self) -> &'static [&'static [u8]] {
        match self.speaks_http1 {
            true => &[b"h2", b"http/1.1"],
            false => &[b"h2"],
        }
    }

    /// Says why a connection was refused, but not of each: loudly if it is our own fault, else
    /// for those who look for a client that cannot get in.
    pub(super) fn refused(&self, peer: SocketAddr, error: &HandshakeError) {
        tracing::debug!(%peer, %error, "a connection was refused");
        let connections = {
            let mut refusals = self.refusals.lock();
            refusals.unsaid += 1;
            let now = Instant::now();
            if refusals.said.is_some_and(|last| now - last < SAY_AGAIN) {
                return;
            }
            refusals.said = Some(now);
            std::mem::take(&mut refusals.unsaid)
        };
        match error {
            HandshakeError::Identity(_) => {
                tracing::warn!(%error, connections, "connections are refused");
            }
            _ => tracing::info!(%peer, %error, connections, "connections are refused"),
        }
    }

    /// Follows the configuration, and tells of the states it leads to.
    pub(super) async fn supervise(
        &self,
        overdue: Duration,
        mut tell: impl FnMut(ServingMode),
    ) -> Infallible {
        let mut overdue = pin!(sleep(overdue));
        let mut is_overdue = false;
        loop {
            let changed = self.follow.changed();
            self.follow.decide(is_overdue);
            *self.contexts.lock() = self.in_force();
            tell(self.follow.mode());
            for connection in self.connections.of(self.id) {
                self.review(&connection);
            }
            self.trust.prune();
            tokio::select! {
                () = changed => {}
                () = &mut overdue, if !is_overdue => is_overdue = true,
            }
        }
    }

    fn in_force(&self) -> Vec<Arc<DownstreamContext>> {
        let tls = self.follow.tls();
        let contexts = tls
            .iter()
            .map(|tls| self.identities.downstream(tls, self.alpn()));
        contexts.collect()
    }

    /// Drains the connection if configuration would treat it otherwise now: other TLS, or none at
    /// all. The connection itself finds out whether its peer would be accepted now, and closes if
    /// not: see [`distrusted`](Self::distrusted). Routes and filters apply to its next request as
    /// they are.
    pub(super) fn review(&self, connection: &ConnectionHandle) {
        let peer = connection.peer();
        let (Some(local), Some(peer)) = (peer.local, peer.address) else {
            return;
        };
        if connection.ending().is_some() {
            return;
        }
        let now = match &**self.follow.load() {
            InboundState::Waiting => return,
            InboundState::NotServing(_) => None,
            InboundState::Serving(snapshot) => snapshot
                .chain(Ends { peer, local })
                .map(|chain| chain.tls().cloned()),
        };
        let used = connection.tls().map(|(setting, _)| setting);
        match (now, used) {
            (Some(None), None) => return,
            (Some(Some(now)), Some(used)) if is_same(&now, used) => return,
            _ => {}
        }
        connection.order(Order::Drain(
            Ending::ListenerChanged,
            self.options.drain_grace,
        ));
    }

    /// For a connection that drains: resolves once it has been told to close, because its listener
    /// has other TLS now than it was opened with, and its peer would not be accepted under that:
    /// its certificate is not of the roots or the names in force, or it has none where one is
    /// required. Waits for roots that have not arrived yet: nothing can be said before.
    pub(super) async fn distrusted(&self, connection: ConnectionHandle) {
        loop {
            let changed = self.follow.changed();
            match self.successor(&connection) {
                Some(context) => tokio::select! {
                    () = trust::until_refused(&connection, &context) => return,
                    () = changed => {}
                },
                None => changed.await,
            }
        }
    }

    /// The TLS that the connection would be under now, if it is under another.
    fn successor(&self, connection: &ConnectionHandle) -> Option<Arc<DownstreamContext>> {
        let (used, _) = connection.tls()?;
        let peer = connection.peer();
        let ends = Ends {
            peer: peer.address?,
            local: peer.local?,
        };
        let chain = self.follow.chain(ends)?;
        let now = chain.tls().filter(|now| !is_same(now, used))?;
        Some(self.identities.downstream(now, self.alpn()))
    }
}

fn is_same(a: &Arc<DownstreamTls>, b: &Arc<DownstreamTls>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

fn http1(options: &ServerOptions) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        // Its time begins when nothing has been asked yet: `Strict` keeps a better one.
        .header_read_timeout(None)
        // hyper takes no less.
        .max_buf_size((options.max_header_list as usize).max(8192));
    builder
}

fn http2(options: &ServerOptions) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(options.max_header_list)
        .max_concurrent_streams(options.max_concurrent_streams)
        .max_pending_accept_reset_streams(options.max_pending_accept_reset_streams)
        .max_local_error_reset_streams(options.max_local_error_reset_streams)
        .max_send_buf_size(options.max_send_buffer)
        .keep_alive_interval(options.keep_alive_interval)
        .keep_alive_timeout(options.keep_alive_timeout);
    builder
}
