//! Writes what belongs together in one go.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that gathers what is written while it is corked.
///
/// h2 opens a stream, and flushes its HEADERS, before it takes the first DATA for it. Corked in
/// between, a unary request leaves in one system call and one segment, not two.
#[derive(Debug)]
pub(super) struct Corked<T> {
    io: T,
    cork: Cork,
    /// Written by h2 and not by us; goes first.
    held: Vec<u8>,
    /// How much of it has left.
    sent: usize,
}

/// Corks a [`Corked`] from the task that polls it.
#[derive(Debug, Clone, Default)]
pub(super) struct Cork(Arc<AtomicBool>);

/// Bytes that are held at most; a write beyond goes out.
const MOST: usize = 32 << 10;

impl Cork {
    /// Holds what is written from now on.
    pub(super) fn put(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Lets it go, with the next flush.
    pub(super) fn pull(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    fn is_in(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl<T: AsyncWrite + Unpin> Corked<T> {
    pub(super) fn new(io: T, cork: Cork) -> Self {
        Self {
            io,
            cork,
            held: Vec::new(),
            sent: 0,
        }
    }

    /// Whether `length` more bytes are to be held: corked, or behind others that are, so that the
    /// flush that follows takes all of them at once.
    fn holds(&self, length: usize) -> bool {
        (self.cork.is_in() || !self.held.is_empty()) && self.held.len() + length <= MOST
    }

    /// Writes all that is held.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.held.len() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.held[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.sent += sent,
            }
        }
        self.held.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Corked<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Corked<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.holds(buf.len()) {
            this.held.extend_from_slice(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let length = bufs.iter().map(|buf| buf.len()).sum();
        if this.holds(length) {
            for buf in bufs {
                this.held.extend_from_slice(buf);
            }
            return Poll::Ready(Ok(length));
        }
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.cork.is_in() {
            return Poll::Ready(Ok(()));
        }
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn what_is_written_corked_leaves_in_order_once_it_is_pulled() {
        let (ours, mut theirs) = duplex(1 << 20);
        let cork = Cork::default();
        let mut io = Corked::new(ours, cork.clone());
        let mut got = [0; 16];

        cork.put();
        io.write_all(b"HEADERS ").await.unwrap();
        io.flush().await.unwrap();
        let read = theirs.read(&mut got).now_or_never();
        assert!(read.is_none(), "nothing has left");
        cork.pull();
        io.write_all(b"DATA").await.unwrap();
        io.flush().await.unwrap();
        assert_eq!(theirs.read(&mut got).await.unwrap(), 12, "in one piece");
        assert_eq!(&got[..12], b"HEADERS DATA");

        io.write_all(b"more").await.unwrap();
        io.flush().await.unwrap();
        assert_eq!(theirs.read(&mut got).await.unwrap(), 4);
    }

    #[tokio::test]
    async fn no_more_is_held_than_allowed_and_nothing_is_lost() {
        let (ours, mut theirs) = duplex(1 << 20);
        let cork = Cork::default();
        let mut io = Corked::new(ours, cork.clone());
        cork.put();
        let bytes: Vec<u8> = (0..3 * MOST).map(|at| at as u8).collect();
        for part in bytes.chunks(1000) {
            io.write_all(part).await.unwrap();
            assert!(io.held.len() <= MOST);
        }
        io.shutdown().await.unwrap();
        let mut got = Vec::new();
        theirs.read_to_end(&mut got).await.unwrap();
        assert!(got == bytes);
    }
}
