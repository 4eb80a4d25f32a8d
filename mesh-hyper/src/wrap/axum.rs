//! For `axum::serve`.

use std::{future, io};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};

use super::{MeshListener, MeshStream, PeerInfo};

/// Once the process drains it accepts nothing more: see [`MeshListener::drain_begun`].
impl Listener for MeshListener {
    type Io = MeshStream;
    type Addr = PeerInfo;

    async fn accept(&mut self) -> (MeshStream, PeerInfo) {
        match Self::accept(self).await {
            Some(stream) => {
                let peer = stream.peer().clone();
                (stream, peer)
            }
            None => future::pending().await,
        }
    }

    /// Its own end of a connection that has no other.
    fn local_addr(&self) -> io::Result<PeerInfo> {
        let mut peer = mesh_core::identity::Peer::default();
        peer.local = Some(Self::local_addr(self));
        Ok(std::sync::Arc::new(peer).into())
    }
}

/// For `Router::into_make_service_with_connect_info::<PeerInfo>()`: handlers get it as
/// `ConnectInfo<PeerInfo>`, and [`InboundLayer`](super::InboundLayer) finds it.
impl Connected<IncomingStream<'_, MeshListener>> for PeerInfo {
    fn connect_info(stream: IncomingStream<'_, MeshListener>) -> Self {
        stream.remote_addr().clone()
    }
}
