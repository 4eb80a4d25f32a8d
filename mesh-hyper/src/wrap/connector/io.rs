use std::{
    fmt,
    future::pending,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use mesh_core::{balance::InFlight, config::Address};
use tokio::time::sleep;

use super::{raw::RawEndpoint, targets::Followed};
use crate::{
    conn::{Secured, Stream, Version},
    wrap::gate::{Gate, Gated},
};

/// A connection of a [`MeshConnector`](super::MeshConnector), whose handshake is done.
///
/// It ends with an error of the kind [`ConnectionAborted`](io::ErrorKind::ConnectionAborted) when
/// the mesh closes it.
pub struct MeshIo {
    io: TokioIo<Gated<Stream>>,
    is_http2: bool,
    /// The endpoint has it for as long as this lives.
    in_flight: InFlight,
    /// What it follows is followed for as long.
    _target: Arc<Followed>,
}

/// How long connections to an endpoint may go on that was removed.
const DRAIN: Duration = Duration::from_secs(600);

// === impl MeshIo ===

impl MeshIo {
    pub(super) fn start(
        secured: Secured,
        in_flight: InFlight,
        endpoint: &RawEndpoint,
        target: Arc<Followed>,
    ) -> Self {
        let (io, gate) = Gated::new(secured.io);
        let trusted = secured.trusted;
        let untrusted = async move {
            match trusted {
                Some(trusted) => trusted.ends().await.to_string(),
                None => pending().await,
            }
        };
        let retired = endpoint.retired();
        let removed = async move {
            retired.await;
            sleep(DRAIN).await;
            "its endpoint was removed".to_owned()
        };
        tokio::spawn(watch(gate, untrusted, removed));
        Self {
            io: TokioIo::new(io),
            is_http2: secured.version == Version::Http2,
            in_flight,
            _target: target,
        }
    }

    /// The endpoint that it leads to.
    pub fn endpoint(&self) -> &Address {
        self.in_flight.link().address()
    }

    /// Whether HTTP/2 is to be spoken on it: TLS has agreed on that, or the cluster says so.
    pub fn is_http2(&self) -> bool {
        self.is_http2
    }
}

/// Closes the connection when it is to end. Ends with it.
async fn watch(
    mut gate: Gate,
    untrusted: impl Future<Output = String>,
    removed: impl Future<Output = String>,
) {
    let why = tokio::select! {
        () = gate.dropped() => return,
        why = untrusted => why,
        why = removed => why,
    };
    gate.close(why);
}

impl Connection for MeshIo {
    fn connected(&self) -> Connected {
        match self.is_http2 {
            true => Connected::new().negotiated_h2(),
            false => Connected::new(),
        }
    }
}

impl Read for MeshIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buf)
    }
}

impl Write for MeshIo {
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
        Write::is_write_vectored(&self.io)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

impl fmt::Debug for MeshIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshIo")
            .field("endpoint", self.endpoint())
            .field("is_http2", &self.is_http2)
            .finish_non_exhaustive()
    }
}
