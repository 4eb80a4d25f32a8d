use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use mesh_core::{
    config::Address,
    runtime::{Resolve, ResolveFuture, Resolved},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

/// How a byte stream to an address is opened. Tests put memory in place of the network.
pub trait Dial: fmt::Debug + Send + Sync + 'static {
    /// Opens a stream to `address`. The caller sets the time limit and adds the address to errors.
    fn dial(&self, address: &Address) -> DialFuture;
}

/// What [`Dial::dial`] returns.
pub type DialFuture = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

/// Dials through the operating system: TCP without delay (`TCP_NODELAY`), Unix domain sockets.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemDial;

/// A byte stream to somewhere.
pub struct Stream(Inner);

/// Sockets are told apart so that reading and writing costs no virtual call.
enum Inner {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
    /// Over one of the others.
    Tls(Box<TlsStream<Stream>>),
    Other(Box<dyn Io>),
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Looks names up as the operating system does.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SystemResolve;

// === impl SystemResolve ===

impl Resolve for SystemResolve {
    fn resolve(&self, name: &Arc<str>) -> ResolveFuture {
        let name = Arc::clone(name);
        Box::pin(async move {
            // A port has to be named; it comes back as it is, once for each kind of socket.
            let found = tokio::net::lookup_host((&*name, 0)).await?;
            let mut addresses = Vec::new();
            for address in found {
                if !addresses.contains(&address.ip()) {
                    addresses.push(address.ip());
                }
            }
            Ok(Resolved {
                addresses,
                // The system does not tell.
                ttl: None,
            })
        })
    }
}

// === impl SystemDial ===

impl Dial for SystemDial {
    fn dial(&self, address: &Address) -> DialFuture {
        match address {
            &Address::Socket(address) => Box::pin(async move {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Stream::tcp(stream))
            }),
            Address::Name(name, port) => {
                let (name, port) = (Arc::clone(name), *port);
                Box::pin(async move {
                    // All addresses of the name in turn.
                    let stream = TcpStream::connect((&*name, port)).await?;
                    stream.set_nodelay(true)?;
                    Ok(Stream::tcp(stream))
                })
            }
            #[cfg(unix)]
            Address::Unix(path) => {
                let path = path.clone();
                Box::pin(async move {
                    let stream = tokio::net::UnixStream::connect(path).await?;
                    Ok(Stream::unix(stream))
                })
            }
            #[cfg(not(unix))]
            Address::Unix(_) => Box::pin(async {
                Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "this platform has no Unix domain sockets",
                ))
            }),
        }
    }
}

// === impl Stream ===

impl Stream {
    /// Any byte stream.
    pub fn new(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self(Inner::Other(Box::new(io)))
    }

    pub(crate) fn tcp(io: TcpStream) -> Self {
        Self(Inner::Tcp(io))
    }

    #[cfg(unix)]
    pub(crate) fn unix(io: tokio::net::UnixStream) -> Self {
        Self(Inner::Unix(io))
    }

    /// TLS over another stream.
    pub(crate) fn tls(io: TlsStream<Stream>) -> Self {
        Self(Inner::Tls(Box::new(io)))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Inner::Tcp(io) => Pin::new(io).poll_read(cx, buf),
            #[cfg(unix)]
            Inner::Unix(io) => Pin::new(io).poll_read(cx, buf),
            Inner::Tls(io) => Pin::new(io).poll_read(cx, buf),
            Inner::Other(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Inner::Tcp(io) => Pin::new(io).poll_write(cx, buf),
            #[cfg(unix)]
            Inner::Unix(io) => Pin::new(io).poll_write(cx, buf),
            Inner::Tls(io) => Pin::new(io).poll_write(cx, buf),
            Inner::Other(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Inner::Tcp(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            #[cfg(unix)]
            Inner::Unix(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Inner::Tls(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Inner::Other(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.0 {
            Inner::Tcp(io) => io.is_write_vectored(),
            #[cfg(unix)]
            Inner::Unix(io) => io.is_write_vectored(),
            Inner::Tls(io) => io.is_write_vectored(),
            Inner::Other(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Inner::Tcp(io) => Pin::new(io).poll_flush(cx),
            #[cfg(unix)]
            Inner::Unix(io) => Pin::new(io).poll_flush(cx),
            Inner::Tls(io) => Pin::new(io).poll_flush(cx),
            Inner::Other(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Inner::Tcp(io) => Pin::new(io).poll_shutdown(cx),
            #[cfg(unix)]
            Inner::Unix(io) => Pin::new(io).poll_shutdown(cx),
            Inner::Tls(io) => Pin::new(io).poll_shutdown(cx),
            Inner::Other(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Tcp(io) => io.fmt(f),
            #[cfg(unix)]
            Inner::Unix(io) => io.fmt(f),
            Inner::Tls(io) => f.debug_tuple("Tls").field(io.get_ref().0).finish(),
            Inner::Other(_) => f.write_str("Stream(other)"),
        }
    }
}
