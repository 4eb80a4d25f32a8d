use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{PeerInfo, gate::Gated};
use crate::serve::{HandedOver, Maybe};

/// A connection of a [`MeshListener`](super::MeshListener), whose handshake is done.
///
/// It ends with an error of the kind [`ConnectionAborted`](io::ErrorKind::ConnectionAborted) when
/// the mesh closes it: its peer is not trusted any more, or its time to drain is over.
pub struct MeshStream {
    io: Gated<Maybe<TcpStream>>,
    info: PeerInfo,
}

// === impl MeshStream ===

impl MeshStream {
    pub(super) fn new(handed: HandedOver) -> Self {
        Self {
            io: handed.io,
            info: PeerInfo::of(handed.connection),
        }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &PeerInfo {
        &self.info
    }

    /// Whether TLS agreed on HTTP/2. `false` says nothing of plaintext.
    pub fn is_http2(&self) -> bool {
        let tls = self.info.tls.as_ref();
        tls.and_then(|tls| tls.alpn.as_deref()) == Some(b"h2")
    }
}

impl AsyncRead for MeshStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buf)
    }
}

impl AsyncWrite for MeshStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

impl fmt::Debug for MeshStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshStream")
            .field("peer", &self.info)
            .finish_non_exhaustive()
    }
}
