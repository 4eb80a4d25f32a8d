use std::{io, net::SocketAddr, sync::Arc};

use mesh_core::control::SourceError;

/// How a server is doing, for [`Server::on_serving`](super::Server::on_serving).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServingState {
    /// The address it is bound to, with the port that the system chose for port 0.
    pub address: SocketAddr,
    /// Whether it serves.
    pub mode: ServingMode,
}

/// Whether a server serves (gRFC A36).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServingMode {
    /// Its listener has not arrived yet: connections wait to be accepted.
    Starting,
    /// It takes requests.
    Serving,
    /// Connections are closed without a byte: why.
    NotServing(SourceError),
    /// It takes nothing new: it shuts down, or the process drains.
    Draining,
}

/// Why a server cannot serve. Says what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: String,
        /// Why.
        source: Arc<io::Error>,
    },
    /// Nothing says how connections are secured.
    #[error(
        "nothing says how the connections to {address} are secured: set \
         \"server_listener_resource_name_template\" in the bootstrap, so that the control plane \
         does, or say it in code: .tls(ServerTls::mtls(\"default\")), with the name of a \
         certificate provider, or .tls(ServerTls::Plaintext)"
    )]
    NoSecurity {
        /// The address it was to serve.
        address: SocketAddr,
    },
    /// There is no listener whose rules could be followed.
    #[error(
        "there is no listener for {address} whose rules a layer could follow: set \
         \"server_listener_resource_name_template\" in the bootstrap, or take the layer of a \
         listener that is secured in code (MeshListener::layer)"
    )]
    NoListener {
        /// The address whose rules were to be followed.
        address: SocketAddr,
    },
}
