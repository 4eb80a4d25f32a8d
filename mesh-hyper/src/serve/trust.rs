//! Closes connections whose certificate is not trusted any more.

use std::{convert::Infallible, future::Future, pin::pin, sync::Arc, task::Poll};

use futures_util::{
    StreamExt,
    future::{AbortHandle, Abortable, BoxFuture},
    stream::FuturesUnordered,
};
use mesh_core::{
    connections::{ConnectionHandle, Connections, Ending, Order, ServerId},
    identity::{DownstreamContext, IdentityError},
};
use parking_lot::Mutex;
use tokio::sync::mpsc;

/// The TLS contexts in use by the connections of a server, each watched for changes of whom to
/// trust.
pub(super) struct Trust {
    server: ServerId,
    connections: Connections,
    watched: Mutex<Vec<(Arc<DownstreamContext>, AbortHandle)>>,
    added: mpsc::UnboundedSender<Watcher>,
}

pub(super) type Watcher = Abortable<BoxFuture<'static, Infallible>>;

// === impl Trust ===

impl Trust {
    pub(super) fn new(
        server: ServerId,
        connections: Connections,
    ) -> (Self, mpsc::UnboundedReceiver<Watcher>) {
        let (added, watchers) = mpsc::unbounded_channel();
        let trust = Self {
            server,
            connections,
            watched: Mutex::default(),
            added,
        };
        (trust, watchers)
    }

    /// Watches `context` from now on. To be called once a connection of it is registered.
    pub(super) fn watch(&self, context: &Arc<DownstreamContext>) {
        let mut watched = self.watched.lock();
        if watched.iter().any(|(known, _)| Arc::ptr_eq(known, context)) {
            return;
        }
        let (abort, registration) = AbortHandle::new_pair();
        watched.push((Arc::clone(context), abort));
        drop(watched);
        let watcher = follow(Arc::clone(context), self.connections.clone(), self.server);
        // If nobody takes it, the server is over.
        let _ = self
            .added
            .send(Abortable::new(Box::pin(watcher), registration));
    }

    /// Lets go of contexts that no connection uses.
    pub(super) fn prune(&self) {
        let mut watched = self.watched.lock();
        let live = self.connections.of(self.server);
        watched.retain(|(context, abort)| {
            let used = live.iter().any(|connection| uses(connection, context));
            if !used {
                abort.abort();
            }
            used
        });
    }
}

/// Runs the watchers.
pub(super) async fn run(mut added: mpsc::UnboundedReceiver<Watcher>) {
    let mut watchers = FuturesUnordered::new();
    loop {
        tokio::select! {
            watcher = added.recv() => match watcher {
                Some(watcher) => watchers.push(watcher),
                None => return,
            },
            Some(_) = watchers.next() => {}
        }
    }
}

/// Looks at all connections of `context`, now and whenever whom to trust changes.
async fn follow(
    context: Arc<DownstreamContext>,
    connections: Connections,
    server: ServerId,
) -> Infallible {
    loop {
        let mut changed = pin!(context.trust_changed());
        // From its first poll on no change is missed, so what is looked at after it is current.
        let again = std::future::poll_fn(|cx| Poll::Ready(changed.as_mut().poll(cx).is_ready()));
        let again = again.await;
        for connection in connections.of(server) {
            if uses(&connection, &context) {
                check(&connection, &context);
                // It takes signatures, and who accepts connections is the same task.
                tokio::task::yield_now().await;
            }
        }
        if !again {
            changed.await;
        }
        // A context that changes without end does not keep others from running.
        tokio::task::yield_now().await;
    }
}

/// Resolves once the connection has been told to close, because its peer would not be accepted
/// under `context`. What has not arrived, or cannot be had, says nothing of any peer.
pub(super) async fn until_refused(connection: &ConnectionHandle, context: &DownstreamContext) {
    loop {
        let changed = context.trust_changed();
        if context.trust_arrived().await.is_ok() && check(connection, context) {
            return;
        }
        changed.await;
    }
}

/// Closes the connection if its peer would not be accepted now: its certificate is not trusted, or
/// it has none where one is required. Says whether it does.
pub(super) fn check(connection: &ConnectionHandle, context: &DownstreamContext) -> bool {
    let tls = connection.peer().tls.as_ref();
    let checked = match tls.and_then(|tls| tls.certificate.as_ref()) {
        Some(certificate) => context.recheck(certificate),
        None if context.requires_certificate() => Err(IdentityError::new(
            "it presented no certificate, and one is required now",
        )),
        None => Ok(()),
    };
    if let Err(error) = &checked {
        tracing::warn!(
            peer = connection.peer().id(),
            address = ?connection.peer().address,
            %error,
            "a connection is closed: its peer is not trusted any more"
        );
        connection.order(Order::Close(Ending::Untrusted));
    }
    checked.is_err()
}

fn uses(connection: &ConnectionHandle, context: &Arc<DownstreamContext>) -> bool {
    let tls = connection.tls();
    tls.is_some_and(|(_, used)| Arc::ptr_eq(used, context))
}
