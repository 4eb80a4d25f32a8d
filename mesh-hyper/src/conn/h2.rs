//! Streams on the HTTP/2 connections to one endpoint.

use std::{pin::pin, sync::Arc};

use arc_swap::ArcSwap;
use hyper::client::conn::http2::SendRequest;

use super::{
    drive::Stopper,
    streams::{StreamGuard, Streams, Waiters},
};
use crate::body::Outgoing;

/// The HTTP/2 connections to one endpoint that take streams.
#[derive(Default)]
pub(super) struct Http2Connections {
    /// In the order in which they are filled. Read by every call; all changes are made under the
    /// pool's lock.
    list: ArcSwap<Vec<Connection>>,
    waiters: Arc<Waiters>,
}

#[derive(Clone)]
pub(super) struct Connection {
    pub(super) sender: SendRequest<Outgoing>,
    pub(super) streams: Arc<Streams>,
    pub(super) stopper: Stopper,
}

/// A stream to send a request on, or why there is none.
pub(super) enum Claim {
    Stream(SendRequest<Outgoing>, StreamGuard),
    /// All connections are at the peer's limit.
    Full,
    NoConnection,
}

// === impl Http2Connections ===

impl Http2Connections {
    pub(super) fn len(&self) -> usize {
        self.list.load().len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.load().is_empty()
    }

    /// Who waits for a stream.
    pub(super) fn waiters(&self) -> &Arc<Waiters> {
        &self.waiters
    }

    /// A stream on the first connection that has room. A new call stands behind those that
    /// `waited`.
    pub(super) fn claim(&self, waited: bool) -> Claim {
        let list = self.list.load();
        if list.iter().all(|connection| connection.sender.is_closed()) {
            return Claim::NoConnection;
        }
        if waited || !self.waiters.any() {
            for Connection {
                sender,
                streams,
                stopper,
            } in list.iter()
            {
                if !sender.is_closed()
                    && let Some(guard) = streams.begin()
                {
                    if streams.is_spent() {
                        stopper.stop();
                    }
                    return Claim::Stream(sender.clone(), guard);
                }
            }
        }
        Claim::Full
    }

    /// Waits for a stream; `None` if there is no connection any more.
    pub(super) async fn wait(&self) -> Option<(SendRequest<Outgoing>, StreamGuard)> {
        let waiting = self.waiters.join();
        loop {
            let mut changed = pin!(waiting.changed());
            changed.as_mut().enable();
            match self.claim(true) {
                Claim::Stream(sender, guard) => return Some((sender, guard)),
                Claim::Full => changed.await,
                Claim::NoConnection => return None,
            }
        }
    }

    /// Under the pool's lock.
    pub(super) fn add(&self, connection: Connection) {
        let mut list = Vec::clone(&self.list.load());
        list.push(connection);
        self.list.store(Arc::new(list));
    }

    /// Under the pool's lock.
    pub(super) fn remove(&self, streams: &Arc<Streams>) {
        let list = self.list.load();
        let others = list
            .iter()
            .filter(|connection| !Arc::ptr_eq(&connection.streams, streams));
        self.list.store(Arc::new(others.cloned().collect()));
    }

    /// Under the pool's lock.
    pub(super) fn take(&self) -> Arc<Vec<Connection>> {
        self.list.swap(Arc::default())
    }
}
