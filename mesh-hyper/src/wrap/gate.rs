//! Streams that are closed from outside, while somebody else reads and writes them.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};

/// A stream that ends when its gate is closed.
pub(crate) struct Gated<T> {
    io: T,
    shared: Arc<Shared>,
    /// Dropped with this.
    _here: oneshot::Sender<Infallible>,
}

/// Closes a stream. Dropping it does not.
pub(crate) struct Gate {
    shared: Arc<Shared>,
    here: oneshot::Receiver<Infallible>,
}

#[derive(Default)]
struct Shared {
    /// Why it was closed.
    closed: OnceLock<String>,
    /// A stream may be read by one task and written by another.
    reader: AtomicWaker,
    writer: AtomicWaker,
}

/// Why a stream ended that the mesh closed.
#[derive(Debug, thiserror::Error)]
#[error("the mesh has closed the connection: {0}")]
struct Closed(String);

// === impl Gated ===

impl<T> Gated<T> {
    pub(crate) fn new(io: T) -> (Self, Gate) {
        let shared = Arc::<Shared>::default();
        let (here, gone) = oneshot::channel();
        let gate = Gate {
            shared: Arc::clone(&shared),
            here: gone,
        };
        let gated = Self {
            io,
            shared,
            _here: here,
        };
        (gated, gate)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gated<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.shared.check()?;
        let polled = Pin::new(&mut this.io).poll_read(cx, buf);
        this.shared.wait(&this.shared.reader, cx, polled)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gated<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.shared.check()?;
        let polled = Pin::new(&mut this.io).poll_write(cx, buf);
        this.shared.wait(&this.shared.writer, cx, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.shared.check()?;
        let polled = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.shared.wait(&this.shared.writer, cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.shared.check()?;
        let polled = Pin::new(&mut this.io).poll_flush(cx);
        this.shared.wait(&this.shared.writer, cx, polled)
    }

    /// Closed or not, the peer is told in the way of its protocol.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

// === impl Gate ===

impl Gate {
    /// Ends the stream: whoever reads or writes it gets an error that says why.
    pub(crate) fn close(&self, why: String) {
        // The first reason stays.
        let _ = self.shared.closed.set(why);
        self.shared.reader.wake();
        self.shared.writer.wake();
    }

    /// Resolves once the stream was dropped.
    pub(crate) async fn dropped(&mut self) {
        // Nothing is ever sent.
        let _ = (&mut self.here).await;
    }
}

// === impl Shared ===

impl Shared {
    #[inline]
    fn check(&self) -> io::Result<()> {
        match self.closed.get() {
            None => Ok(()),
            Some(why) => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                Closed(why.clone()),
            )),
        }
    }

    /// Wakes the task when the gate is closed, if it has to wait.
    #[inline]
    fn wait<R>(
        &self,
        waker: &AtomicWaker,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if polled.is_pending() {
            waker.register(cx.waker());
            // It may have been closed before there was anybody to wake.
            self.check()?;
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};

    use super::*;

    #[tokio::test]
    async fn a_closed_gate_ends_who_reads_and_who_writes() {
        let (ours, mut theirs) = duplex(4);
        let (gated, mut gate) = Gated::new(ours);
        let (mut reader, mut writer) = split(gated);
        theirs.write_all(b"a").await.unwrap();
        assert_eq!(reader.read_u8().await.unwrap(), b'a');
        let reading = tokio::spawn(async move { (reader.read_u8().await, reader) });
        let writing = tokio::spawn(async move { (writer.write_all(&[0; 9]).await, writer) });
        tokio::task::yield_now().await;
        assert!(gate.dropped().now_or_never().is_none());

        gate.close("the test says so".into());
        let (read, reader) = reading.await.unwrap();
        let (written, writer) = writing.await.unwrap();
        for error in [read.unwrap_err(), written.unwrap_err()] {
            assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
            assert!(error.to_string().contains("the test says so"), "{error}");
        }
        drop((reader, writer));
        gate.dropped().await;
    }
}
