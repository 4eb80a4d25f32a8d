use std::{fmt, ops::Deref, sync::Arc};

use mesh_core::{
    connections::{ConnectionHandle, RequestGuard},
    identity::Peer,
};

use crate::serve::Slot;

/// Who is at the other end of a connection, and what is known of the connection. One for each
/// connection; cheap to clone.
///
/// A [`MeshStream`](super::MeshStream) has one, and server loops put it into the extensions of
/// requests: axum as `ConnectInfo<PeerInfo>`, tonic as it is. A loop of your own that makes the
/// handshakes itself makes it [from](From) an `Arc<Peer>`, once per connection.
#[derive(Clone)]
pub struct PeerInfo(Arc<Inner>);

struct Inner {
    peer: Arc<Peer>,
    /// Its place among the live ones, if it was accepted by the mesh.
    connection: Option<ConnectionHandle>,
    /// What [`InboundLayer`](super::InboundLayer) keeps between its requests.
    slot: Slot,
}

// === impl PeerInfo ===

impl PeerInfo {
    pub(super) fn of(connection: ConnectionHandle) -> Self {
        Self(Arc::new(Inner {
            peer: Arc::clone(connection.peer()),
            connection: Some(connection),
            slot: Slot::default(),
        }))
    }

    /// Who it is.
    pub fn peer(&self) -> &Arc<Peer> {
        &self.0.peer
    }

    pub(crate) fn slot(&self) -> &Slot {
        &self.0.slot
    }

    /// Whether the mesh accepted the connection, and closes it when it is to end.
    pub(crate) fn is_registered(&self) -> bool {
        self.0.connection.is_some()
    }

    /// Whether the connection was told to end.
    pub(super) fn is_ending(&self) -> bool {
        let connection = self.0.connection.as_ref();
        connection.is_some_and(|connection| connection.ending().is_some())
    }

    /// Counts a request until the answer is dropped.
    pub(super) fn begin(&self) -> Option<RequestGuard> {
        self.0.connection.as_ref().map(ConnectionHandle::begin)
    }
}

impl From<Arc<Peer>> for PeerInfo {
    fn from(peer: Arc<Peer>) -> Self {
        Self(Arc::new(Inner {
            peer,
            connection: None,
            slot: Slot::default(),
        }))
    }
}

impl Deref for PeerInfo {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        &self.0.peer
    }
}

impl fmt::Debug for PeerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerInfo")
            .field("address", &self.0.peer.address)
            .field("id", &self.0.peer.id())
            .field("connection", &self.0.connection)
            .finish()
    }
}
