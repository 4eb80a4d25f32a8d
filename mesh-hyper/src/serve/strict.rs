//! HTTP/1.1 that can be read in one way only, or not at all.
//!
//! hyper reads as RFC 9112 allows, which is more than two readers in a row would read alike: a line
//! that ends in LF alone, `Transfer-Encoding` beside `Content-Length`, white space after the size
//! of a chunk. Who stands in front of us may see another request there, and so smuggle one past
//! rules (CWE-444). This looks at the bytes before hyper does, and lets none of those through.

mod lines;
mod scan;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use self::scan::Scan;
use super::upgrade::Tunnel;

/// The bytes of an HTTP/1.1 connection.
pub(super) struct Strict<T> {
    io: T,
    scan: Scan,
    /// What hyper still has to read of what stands in the place of a request that is refused.
    refusal: Option<&'static [u8]>,
    header_timeout: Duration,
    /// When the head that is being read must be complete.
    late: Option<Pin<Box<Sleep>>>,
    /// When nothing more is read of a request whose response has ended the connection.
    linger: Option<Pin<Box<Sleep>>>,
    tunnel: Tunnel,
    /// Where a small response is put together.
    small: Vec<u8>,
}

/// No parser reads this on as part of a head; with its end, so that hyper looks at it.
const REFUSAL: &[u8] = b"\0\r\n\r\n";

/// How long the rest of a request is read whose response is complete (Envoy's `delayed_close_timeout`).
const LINGER: Duration = Duration::from_secs(1);

/// A response of so many bytes, its head and its body, is put together: to write pieces costs the
/// system more than to write one.
const SMALL: usize = 1024;

// === impl Strict ===

impl<T> Strict<T> {
    pub(super) fn new(io: T, header_timeout: Duration, tunnel: Tunnel) -> Self {
        Self {
            io,
            scan: Scan::default(),
            refusal: None,
            header_timeout,
            late: None,
            linger: None,
            tunnel,
            small: Vec::new(),
        }
    }

    /// Looks at what was read into `buf` after its first `before` bytes.
    ///
    /// # Errors
    /// If it is a body that is wrong. A head that is wrong is replaced by one that hyper answers
    /// with 400, in its turn.
    fn check(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> io::Result<()> {
        let heads = self.scan.heads;
        let Err((sound, fault)) = self.scan.read(&buf.filled()[before..]) else {
            self.tunnel.set_receiving(self.scan.in_body());
            if !self.scan.in_head() {
                self.late = None;
            } else if self.late.is_none() || self.scan.heads != heads {
                let late = Instant::now() + self.header_timeout;
                self.late = Some(Box::pin(sleep_until(late)));
            }
            return Ok(());
        };
        tracing::debug!(%fault, "a request of HTTP/1.1 is refused");
        if self.scan.in_body() {
            buf.set_filled(before);
            return Err(io::Error::new(io::ErrorKind::InvalidData, fault));
        }
        buf.set_filled(before + sound);
        self.refuse(buf);
        Ok(())
    }

    /// Reads what is left of the refusal; then the connection is at its end.
    fn refuse(&mut self, buf: &mut ReadBuf<'_>) {
        let left = self.refusal.unwrap_or(REFUSAL);
        let (now, later) = left.split_at(left.len().min(buf.remaining()));
        buf.put_slice(now);
        self.refusal = Some(later);
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Strict<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.tunnel.is_open() {
            this.tunnel.check_read(cx)?;
            return Pin::new(&mut this.io).poll_read(cx, buf);
        }
        if this.refusal.is_some() {
            this.refuse(buf);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        match Pin::new(&mut this.io).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => Poll::Ready(this.check(buf, before)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => match &mut this.late {
                // As if it had closed.
                Some(late) => late.as_mut().poll(cx).map(Ok),
                None => Poll::Pending,
            },
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Strict<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.tunnel.check_write(cx)?;
        Pin::new(&mut this.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.tunnel.check_write(cx)?;
        let length: usize = bufs.iter().map(|piece| piece.len()).sum();
        if length > SMALL {
            return Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        }
        this.small.clear();
        for piece in bufs {
            this.small.extend_from_slice(piece);
        }
        Pin::new(&mut this.io).poll_write(cx, &this.small)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.tunnel.check_write(cx)?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    /// Whoever is still sending a request would be told of a reset, if the socket were closed now, and
    /// might lose what it has not read of the response: so the rest is read for a [while](LINGER).
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
        while this.scan.in_body() && !this.tunnel.is_open() {
            let linger = this
                .linger
                .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + LINGER)));
            if linger.as_mut().poll(cx).is_ready() {
                break;
            }
            let mut scratch = [0; 4096];
            let mut buf = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(&mut this.io).poll_read(cx, &mut buf));
            let is_over = read.is_err() || buf.filled().is_empty();
            if is_over || this.scan.read(buf.filled()).is_err() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<T> Drop for Strict<T> {
    fn drop(&mut self) {
        self.tunnel.end();
    }
}
