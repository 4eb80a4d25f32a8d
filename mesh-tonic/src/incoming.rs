use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use mesh_hyper::{MeshListener, MeshStream, PeerInfo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::{codegen::tokio_stream::Stream, transport::server::Connected};

/// The connections of a listener, for tonic's `serve_with_incoming`: see [`incoming`].
#[derive(Debug)]
pub struct Incoming(MeshListener);

/// A connection of [`Incoming`]. Its [`PeerInfo`] is in the extensions of its requests.
pub struct Io(MeshStream);

/// The connections of `listener`, for a [`tonic::transport::Server`] of your own. They are secured
/// as the listener's configuration says, so tonic's own `tls_config` stays off. It ends when the
/// process drains.
///
/// ```
/// use mesh_core::testing::ControlPlane;
/// use mesh_tonic::{incoming, listen};
/// use tonic::transport::{Channel, Server};
/// use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // A control plane for tests; a service would say `Mesh::from_env().await?`.
/// let control_plane = ControlPlane::start().await;
/// let mesh = control_plane.mesh("greeter").await;
/// let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let address = socket.local_addr()?;
/// control_plane.server(address).apply();
///
/// let listener = listen(&mesh, socket).await?;
/// let (_, health) = tonic_health::server::health_reporter();
/// let drain = listener.drain_begun();
/// let serving = Server::builder()
///     .layer(listener.layer()) // the routes and filters of the listener, RBAC among them
///     .add_service(health)
///     .serve_with_incoming_shutdown(incoming(listener), drain);
/// tokio::spawn(serving);
///
/// let channel = Channel::from_shared(format!("http://{address}"))?.connect().await?;
/// let mut client = HealthClient::new(channel);
/// client.check(HealthCheckRequest::default()).await?;
/// # Ok(()) }
/// ```
///
/// Handlers find out who calls: `request.extensions().get::<PeerInfo>()`, or `Arc<Peer>` behind the
/// listener's [`layer`](MeshListener::layer).
///
/// # What it cannot do that [`Server`](crate::Server) can
///
/// - All that [`MeshListener`] cannot. Without `serve_with_incoming_shutdown` and the listener's
///   [`drain_begun`](MeshListener::drain_begun), nobody tells connections to go away when the
///   process drains: they are cut at its end.
/// - tonic's server enforces its own limits of HTTP/2, and neither
///   [`ServerOptions`](crate::ServerOptions) nor keepalive as they say.
pub fn incoming(listener: MeshListener) -> Incoming {
    Incoming(listener)
}

/// A listener for [`incoming`]: TLS agrees on HTTP/2 and nothing else (ALPN). With other settings:
/// [`mesh_hyper::Server::grpc`] and its `listen`.
///
/// # Errors
/// If the address cannot be listened on, or nothing says how connections are secured.
pub async fn listen(
    mesh: &mesh_core::Mesh,
    at: impl Into<crate::Bind>,
) -> Result<MeshListener, crate::ServeError> {
    mesh_hyper::Server::grpc(mesh).listen(at).await
}

// === impl Incoming ===

impl Incoming {
    /// The address it is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.0.local_addr()
    }
}

impl Stream for Incoming {
    type Item = io::Result<Io>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.0.poll_accept(cx);
        next.map(|next| next.map(|stream| Ok(Io(stream))))
    }
}

// === impl Io ===

impl Connected for Io {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.0.peer().clone()
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
