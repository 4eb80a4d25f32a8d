//! For who keeps a server loop or a client of their own: the parts of [`Server`](crate::Server) and
//! of the clients that can be had alone.
//!
//! | part | goes into | what only the whole has |
//! |---|---|---|
//! | [`MeshListener`] | `axum::serve`, tonic's `serve_with_incoming`, an accept loop | GOAWAY, limits of HTTP, routes |
//! | [`InboundLayer`] | any stack of `tower` services | connections that are drained and closed |
//! | [`MeshConnector`] | hyper-util's client | routes, retries, timeouts, records |
//!
//! Each says at its type what it cannot do.

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
