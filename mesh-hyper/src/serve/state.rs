use std::{fmt, io, net::SocketAddr, path::PathBuf, sync::Arc};

use mesh_core::control::SourceError;

/// How a server is doing, for [`Server::on_serving`](super::Server::on_serving).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServingState {
    /// The address it is bound to, with the port that the system chose for port 0.
    pub address: LocalAddress,
    /// Whether it serves.
    pub mode: ServingMode,
}

/// What a server is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LocalAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix domain socket.
    Unix(PathBuf),
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
    /// Nothing says how connections over a Unix domain socket are secured.
    #[error(
        "nothing says how the connections to unix:{} are secured: no control plane has a listener \
         for a Unix domain socket (gRFC A36), so say it in code: .tls(ServerTls::Plaintext), where \
         the permissions of the file say who may connect, or .tls(ServerTls::mtls(\"default\")), \
         with the name of a certificate provider", path.display()
    )]
    UnixNoSecurity {
        /// The path it was to serve.
        path: PathBuf,
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

// === impl LocalAddress ===

impl LocalAddress {
    /// The IP address and port, if it has them.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for LocalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
