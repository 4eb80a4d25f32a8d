//! Looks at the types of frames that are read.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::dial::Stream;

/// A stream of HTTP/2 frames that tells when h2 has taken in one that changes whether and how many
/// streams may be opened: SETTINGS or GOAWAY. hyper has no other way to hear of these than to ask
/// h2 after everything it read.
#[derive(Debug)]
pub(super) struct Watched {
    io: Stream,
    frames: Frames,
    /// Such a frame was read, to its end.
    read: bool,
    /// h2 asks for more, so it has taken in what was read before.
    news: Arc<AtomicBool>,
}

/// Where in a frame the bytes are.
#[derive(Debug, Default)]
struct Frames {
    head: [u8; HEAD],
    /// Bytes of the head that are here.
    have: usize,
    /// Bytes of the payload that are not.
    left: usize,
}

/// Length in 24 bits, type, flags and stream (RFC 9113 section 4.1).
const HEAD: usize = 9;

const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

impl Watched {
    pub(super) fn new(io: Stream, news: Arc<AtomicBool>) -> Self {
        Self {
            io,
            frames: Frames::default(),
            read: false,
            news,
        }
    }
}

impl Frames {
    /// Whether `bytes` end a frame of interest.
    fn scan(&mut self, mut bytes: &[u8]) -> bool {
        let mut found = false;
        while !bytes.is_empty() {
            if self.have < HEAD {
                let taken = bytes.len().min(HEAD - self.have);
                self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
                self.have += taken;
                bytes = &bytes[taken..];
                if self.have < HEAD {
                    break;
                }
                let [a, b, c, ..] = self.head;
                self.left = u32::from_be_bytes([0, a, b, c]) as usize;
            }
            let taken = bytes.len().min(self.left);
            self.left -= taken;
            bytes = &bytes[taken..];
            if self.left == 0 {
                self.have = 0;
                found |= matches!(self.head[3], SETTINGS | GOAWAY);
            }
        }
        found
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.read {
            this.read = false;
            this.news.store(true, Ordering::Relaxed);
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.io).poll_read(cx, buf);
        this.read = this.frames.scan(&buf.filled()[before..]);
        polled
    }
}

impl AsyncWrite for Watched {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_they_are_cut() {
        const DATA: u8 = 0;
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for (kind, length) in [
            (SETTINGS, 6),
            (DATA, 300),
            (DATA, 0),
            (SETTINGS, 0),
            // Payload that looks like a head of interest.
            (DATA, 90),
            (GOAWAY, 8),
        ] {
            bytes.extend([0, (length >> 8) as u8, length as u8, kind, 0, 0, 0, 0, 0]);
            bytes.extend(vec![GOAWAY; length as usize]);
            if kind != DATA {
                ends.push(bytes.len());
            }
        }
        for size in 1..bytes.len() {
            let mut frames = Frames::default();
            let mut end = 0;
            for chunk in bytes.chunks(size) {
                let start = end;
                end += chunk.len();
                let expected = ends.iter().any(|found| (start + 1..=end).contains(found));
                assert_eq!(frames.scan(chunk), expected, "{start}..{end}");
            }
        }
    }
}
