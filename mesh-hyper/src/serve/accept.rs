use std::{future::Future, pin::pin, sync::Arc};

use bytes::Bytes;
use http_body::Body;
use mesh_core::connections::{Ending, Order};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
};

use super::{
    Shared,
    connection::{self, Handler},
    listen::{Acceptor, Listen},
};
use crate::body::BoxError;

/// Accepts connections and carries them until `shutdown` resolves or the process drains, then until
/// the last of them has ended. All of them end with this.
pub(super) async fn run<L, S, B>(
    shared: &Arc<Shared>,
    mut acceptor: Acceptor<L>,
    service: S,
    shutdown: impl Future<Output = ()>,
    draining: impl FnOnce(),
) where
    L: Listen<Io: AsyncRead + AsyncWrite + Unpin + Send + 'static>,
    S: Handler<B>,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    // Dropped with this, and with it every connection.
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    let mut drained = pin!(shared.connections.drain_begun());
    let most = shared.options.max_connections.unwrap_or(usize::MAX).max(1);
    let mut is_full = false;
    loop {
        let accept = async {
            // Nobody is turned away before it is known whether they are to be.
            shared.follow.settled().await;
            acceptor.accept().await
        };
        let has_room = connections.len() < most;
        if !has_room && !is_full {
            tracing::warn!(
                connections = most,
                "no connection is accepted until another one ends (ServerOptions::max_connections)"
            );
        }
        is_full = !has_room;
        tokio::select! {
            () = &mut shutdown => break,
            () = &mut drained => break,
            Some(_) = connections.join_next() => {}
            (io, ends) = accept, if has_room => {
                let ticket = shared.half_open.enter(ends.peer.ip());
                let (shared, service) = (Arc::clone(shared), service.clone());
                connections.spawn(connection::run(shared, io, ends, ticket, service));
            }
        }
    }
    drop(acceptor);
    draining();
    // Before looking who is live: one that becomes so meanwhile finds out by itself.
    shared.half_open.close();
    for connection in shared.connections.of(shared.id) {
        if connection.ending().is_none() {
            connection.order(Order::Drain(Ending::Shutdown, shared.options.drain_grace));
        }
    }
    while connections.join_next().await.is_some() {}
}
