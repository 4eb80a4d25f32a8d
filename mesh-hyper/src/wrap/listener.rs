use std::{
    fmt,
    future::Future,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use mesh_core::{Mesh, Semantics};

use super::{InboundLayer, MeshStream};
use crate::{
    Bind, ServeError, Server, ServingMode,
    serve::{Handover, Inspector},
};

/// Accepts connections under the listener that the control plane has for an address (gRFC A36), and
/// secures them, for a server loop of your own: `axum::serve` (feature `axum`), tonic's
/// `serve_with_incoming` (`mesh_tonic::incoming`), or any other.
///
/// Handshakes are made beside each other, with the certificates of that moment, within
/// [`handshake_timeout`](crate::ServerOptions::handshake_timeout), and no more than
/// [`max_half_open`](crate::ServerOptions::max_half_open) at a time: a peer that says nothing keeps
/// nobody waiting. As many connections that are ready wait to be taken; then none is accepted before
/// one of them is.
///
/// Dropping it closes the port. Connections that were taken live on, and are still watched: one
/// whose peer is not trusted any more is closed at once.
///
/// ```
/// use mesh_core::testing::ControlPlane;
/// use mesh_hyper::MeshListener;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // A control plane for tests; a service would say `Mesh::from_env().await?`.
/// let control_plane = ControlPlane::start().await;
/// let mesh = control_plane.mesh("echo").await;
/// let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let address = socket.local_addr()?;
/// control_plane.server(address).apply();
///
/// let mut listener = MeshListener::bind(&mesh, socket).await?;
/// let mut client = tokio::net::TcpStream::connect(address).await?;
/// client.write_all(b"hello").await?;
///
/// let mut stream = listener.accept().await.ok_or("the process drains")?;
/// assert_eq!(stream.peer().address, Some(client.local_addr()?));
/// let mut said = [0; 5];
/// stream.read_exact(&mut said).await?;
/// assert_eq!(&said, b"hello");
/// # Ok(()) }
/// ```
///
/// # What it cannot do that [`Server`] can
///
/// - It knows bytes, not requests. A connection that is to drain (its listener has changed, it has
///   reached [`max_connection_age`](crate::ServerOptions::max_connection_age), or the process
///   [drains](Mesh::drain)) gets no GOAWAY and no `Connection: close`: it is closed when its grace is
///   over, whatever is under way. Give [`drain_begun`](Self::drain_begun) to your loop, which can
///   tell its connections; with an [`InboundLayer`], responses of HTTP/1.1 on such connections say
///   `Connection: close`.
/// - Routes and filters of the listener, RBAC among them, are not enforced without an
///   [`InboundLayer`].
/// - Of [`ServerOptions`](crate::ServerOptions), only `max_connections`, `max_half_open`,
///   `handshake_timeout`, `max_connection_age` and `drain_grace` are in force: limits of HTTP and idle connections are
///   your loop's affair.
/// - TCP only: no Unix domain sockets.
#[must_use = "it accepts nothing for nobody"]
pub struct MeshListener {
    handover: Handover,
    inspector: Arc<Inspector>,
}

// === impl MeshListener ===

impl MeshListener {
    pub(crate) fn new(handover: Handover, semantics: Semantics) -> Self {
        let inspector = Arc::new(Inspector::of(&handover, semantics));
        Self {
            handover,
            inspector,
        }
    }

    /// Listens at an address, or takes a listener that is bound already. TLS agrees on HTTP/2 or
    /// HTTP/1.1 (ALPN). With other settings: [`Server::listen`]. To be called in a tokio runtime.
    ///
    /// # Errors
    /// If the address cannot be listened on, or nothing says how connections are secured: without a
    /// `server_listener_resource_name_template` in the bootstrap, say so in code
    /// (`Server::new(&mesh).tls(..).listen(..)`).
    pub async fn bind(mesh: &Mesh, at: impl Into<Bind>) -> Result<Self, ServeError> {
        Server::new(mesh).listen(at).await
    }

    /// The next connection; `None`: there will be no more, because the process drains. Nothing is
    /// lost when this is dropped.
    pub async fn accept(&mut self) -> Option<MeshStream> {
        self.handover.next().await.map(MeshStream::new)
    }

    /// As [`accept`](Self::accept).
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<MeshStream>> {
        let next = self.handover.poll_next(cx);
        next.map(|next| next.map(MeshStream::new))
    }

    /// The address it is bound to, with the port that the system chose for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.handover.address()
    }

    /// Whether connections are accepted.
    pub fn mode(&self) -> ServingMode {
        self.handover.mode()
    }

    /// A layer that enforces the routes and filters of the listener, for the services behind it.
    pub fn layer(&self) -> InboundLayer {
        InboundLayer::of(Arc::clone(&self.inspector))
    }

    /// Waits until the process [drains](Mesh::drain): for the graceful shutdown of your loop, which
    /// can tell its connections to go away, as only it knows how.
    pub fn drain_begun(&self) -> impl Future<Output = ()> + Send + use<> {
        self.handover.drain_begun()
    }
}

impl fmt::Debug for MeshListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshListener")
            .field("address", &self.local_addr())
            .field("mode", &self.mode())
            .finish_non_exhaustive()
    }
}
