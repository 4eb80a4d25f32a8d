//! For who keeps a server loop or a client of their own: the parts of [`Server`](crate::Server) and
//! of the clients that can be had alone.

#[cfg(feature = "axum")]
mod axum;
mod connector;
pub(crate) mod gate;
mod inbound;
mod listener;
mod peer;
mod stream;

pub use connector::{ConnectFuture, MeshConnector, MeshIo};
pub use inbound::{Inbound, InboundBody, InboundFuture, InboundLayer};
pub use listener::MeshListener;
pub use peer::PeerInfo;
pub use stream::MeshStream;
