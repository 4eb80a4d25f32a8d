//! HTTP/1.1 that can be read in one way only, or not at all.
//!
//! hyper reads as RFC 9112 allows, which is more than two readers in a row would read alike: a line
//! that ends in LF alone, `Transfer-Encoding` beside `Content-Length`, white space after the size
//! of a chunk. Who stands in front of us may see another request there, and so smuggle one past
//! rules (CWE-444). This looks at the bytes before hyper does, and lets none of those through.

use std::{
    io, mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

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

/// Where a connection stands in its requests. Keeps no more of them than it needs to know where
/// each ends.
#[derive(Debug, Default)]
struct Scan {
    part: Part,
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
    /// The last byte of it, which may not be kept.
    last: u8,
    /// Of the request whose head is being read.
    length: Option<u64>,
    chunked: bool,
    host: bool,
    /// How many heads have begun.
    heads: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Part {
    /// Before a request, where empty lines may be (RFC 9112 section 2.2).
    #[default]
    Between,
    Headers,
    /// So much of the body is left.
    Body(u64),
    ChunkSize,
    Chunk(u64),
    /// The line end after a chunk.
    ChunkEnd,
    Trailers,
}

/// What can be read in more than one way, or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error("a line does not end with CR LF")]
    LineEnd,
    #[error("a header is folded over two lines")]
    Fold,
    #[error("Transfer-Encoding is not chunked, once")]
    TransferEncoding,
    #[error("Content-Length is not a number, once")]
    ContentLength,
    #[error("there are Transfer-Encoding and Content-Length")]
    TwoLengths,
    #[error("there is more than one Host header")]
    TwoHosts,
    #[error("the size of a chunk is not a number of 16 digits at most")]
    ChunkSize,
    #[error("the extensions of a chunk are over 256 bytes")]
    ChunkExtensions,
    #[error("a chunk is longer than its size")]
    ChunkEnd,
    #[error("a trailer says how long or whose the request is")]
    Trailer,
}

/// No parser reads this on as part of a head; with its end, so that hyper looks at it.
const REFUSAL: &[u8] = b"\0\r\n\r\n";

/// Of a line that comes in pieces, as much is kept. The headers that matter are shorter, or wrong.
const KEPT: usize = 512;

/// How long the rest of a request is read whose response is complete (Envoy's `delayed_close_timeout`).
const LINGER: Duration = Duration::from_secs(1);

/// A response of so many bytes, its head and its body, is put together: to write pieces costs the
/// system more than to write one.
const SMALL: usize = 1024;

/// A line with the size of a chunk and its extensions may have as many bytes.
const CHUNK_LINE: usize = 16 + 256;

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
        match self.scan.part {
            Part::Between | Part::Headers => {
                buf.set_filled(before + sound);
                self.refuse(buf);
                Ok(())
            }
            _ => {
                buf.set_filled(before);
                Err(io::Error::new(io::ErrorKind::InvalidData, fault))
            }
        }
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

// === impl Scan ===

impl Scan {
    /// Whether the body of a request has begun and not ended.
    fn in_body(&self) -> bool {
        !matches!(self.part, Part::Between | Part::Headers)
    }

    /// Whether a head has begun and is not complete.
    fn in_head(&self) -> bool {
        match self.part {
            Part::Between => !self.begun.is_empty(),
            Part::Headers => true,
            _ => false,
        }
    }

    /// Looks at the next bytes.
    ///
    /// # Errors
    /// If they are wrong: in which way, and how many of them come before that.
    fn read(&mut self, bytes: &[u8]) -> Result<(), (usize, Fault)> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            if let Part::Body(left) | Part::Chunk(left) = &mut self.part {
                let taken = usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
                *left -= taken as u64;
                at += taken;
                match self.part {
                    Part::Body(0) => self.part = Part::Between,
                    Part::Chunk(0) => self.part = Part::ChunkEnd,
                    _ => {}
                }
                continue;
            }
            match line_end(rest) {
                Some(end) => {
                    self.line(&rest[..end]).map_err(|fault| (at, fault))?;
                    at += end + 1;
                }
                None => {
                    self.begin(rest).map_err(|fault| (at, fault))?;
                    at = bytes.len();
                }
            }
        }
        Ok(())
    }

    /// Keeps a piece of a line.
    fn begin(&mut self, piece: &[u8]) -> Result<(), Fault> {
        let kept = piece.len().min(KEPT.saturating_sub(self.begun.len()));
        self.begun.extend_from_slice(&piece[..kept]);
        self.last = piece.last().copied().unwrap_or(self.last);
        match self.part {
            // Such a line would be read for ever.
            Part::ChunkSize if self.begun.len() > CHUNK_LINE => Err(Fault::ChunkExtensions),
            Part::ChunkEnd if self.begun.len() > 2 => Err(Fault::ChunkEnd),
            _ => Ok(()),
        }
    }

    /// Looks at a line, or at its last piece, without the LF.
    fn line(&mut self, piece: &[u8]) -> Result<(), Fault> {
        if self.begun.is_empty() {
            let line = piece.strip_suffix(b"\r").ok_or(Fault::LineEnd)?;
            return self.whole(line, true);
        }
        self.begin(piece)?;
        if self.last != b'\r' {
            return Err(Fault::LineEnd);
        }
        let mut begun = mem::take(&mut self.begun);
        let complete = begun.len() < KEPT;
        if complete {
            begun.pop();
        }
        let checked = self.whole(&begun, complete);
        // Its memory is of use again.
        begun.clear();
        self.begun = begun;
        checked
    }

    /// Looks at a line without its end. `complete`: it is not just the beginning of a long one.
    #[inline]
    fn whole(&mut self, line: &[u8], complete: bool) -> Result<(), Fault> {
        match self.part {
            Part::Between if line.is_empty() => {}
            Part::Between => {
                (self.length, self.chunked, self.host) = (None, false, false);
                self.part = Part::Headers;
                self.heads += 1;
            }
            Part::Headers if line.is_empty() => {
                self.part = match (self.chunked, self.length) {
                    (true, _) => Part::ChunkSize,
                    (false, Some(length @ 1..)) => Part::Body(length),
                    (false, _) => Part::Between,
                };
            }
            Part::Headers => return self.header(line, complete),
            Part::ChunkSize => {
                self.part = match chunk_size(line)? {
                    0 => Part::Trailers,
                    size => Part::Chunk(size),
                };
            }
            Part::ChunkEnd if line.is_empty() => self.part = Part::ChunkSize,
            Part::ChunkEnd => return Err(Fault::ChunkEnd),
            Part::Trailers if line.is_empty() => self.part = Part::Between,
            Part::Trailers => return check_trailer(line),
            // Those have no lines.
            Part::Body(_) | Part::Chunk(_) => {}
        }
        Ok(())
    }

    /// Looks at a header that says how long the request is, or whose. Others, and whether their
    /// names and values are sound, are hyper's affair.
    #[inline]
    fn header(&mut self, line: &[u8], complete: bool) -> Result<(), Fault> {
        match line[0] {
            b' ' | b'\t' => return Err(Fault::Fold),
            b't' | b'T' => {
                if let Some(value) = value_of(line, b"transfer-encoding") {
                    if self.chunked || !complete || !value.eq_ignore_ascii_case(b"chunked") {
                        return Err(Fault::TransferEncoding);
                    }
                    self.chunked = true;
                }
            }
            b'c' | b'C' => {
                if let Some(value) = value_of(line, b"content-length") {
                    let length = number(value).filter(|_| complete && self.length.is_none());
                    self.length = Some(length.ok_or(Fault::ContentLength)?);
                }
            }
            b'h' | b'H' if is(line, b"host") && mem::replace(&mut self.host, true) => {
                return Err(Fault::TwoHosts);
            }
            _ => {}
        }
        match self.chunked && self.length.is_some() {
            true => Err(Fault::TwoLengths),
            false => Ok(()),
        }
    }
}

/// Where the first line ends. Most are so short that to start a faster search for each would cost
/// more than this does.
#[inline]
fn line_end(bytes: &[u8]) -> Option<usize> {
    const WORDS: usize = 8;
    let (words, tail) = bytes.as_chunks();
    for (number, word) in words.iter().take(WORDS).enumerate() {
        if let Some(at) = line_feed(*word) {
            return Some(number * word.len() + at);
        }
    }
    if words.len() <= WORDS {
        let at = tail.iter().position(|byte| *byte == b'\n')?;
        return Some(bytes.len() - tail.len() + at);
    }
    let looked = WORDS * size_of::<u64>();
    memchr::memchr(b'\n', &bytes[looked..]).map(|at| looked + at)
}

/// Where the first line feed of these bytes is.
#[inline]
fn line_feed(word: [u8; 8]) -> Option<usize> {
    const LOW: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = LOW << 7;
    // A byte is zero where there is one. The lowest that borrows is one of those.
    let other = u64::from_le_bytes(word) ^ u64::from_le_bytes([b'\n'; 8]);
    let zero = other.wrapping_sub(LOW) & !other & HIGH;
    (zero != 0).then(|| zero.trailing_zeros() as usize / 8)
}

/// Whether the header in this line has this name.
#[inline]
fn is(line: &[u8], name: &[u8]) -> bool {
    let (this, rest) = line.split_at_checked(name.len()).unwrap_or_default();
    rest.first() == Some(&b':') && this.eq_ignore_ascii_case(name)
}

/// The value of the header in this line, if it has this name, without white space around it.
#[inline]
fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    if !is(line, name) {
        return None;
    }
    let value = &line[name.len() + 1..];
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_space(byte));
    let end = value.iter().rposition(|byte| !is_space(byte));
    match (start, end) {
        (Some(start), Some(end)) => Some(&value[start..=end]),
        _ => Some(b""),
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    let sound = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| sound)?;
    digits.parse().ok()
}

/// Extensions are not read by anybody, and only skipped if they are few.
fn chunk_size(line: &[u8]) -> Result<u64, Fault> {
    let end = line.iter().position(|&byte| byte == b';');
    let (digits, extensions) = line.split_at(end.unwrap_or(line.len()));
    if extensions.len() > CHUNK_LINE - 16 {
        return Err(Fault::ChunkExtensions);
    }
    let sound = matches!(digits.len(), 1..=16) && digits.iter().all(u8::is_ascii_hexdigit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| sound);
    let size = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    size.ok_or(Fault::ChunkSize)
}

/// Some would read such a trailer as a header (RFC 9110 section 6.5.1).
fn check_trailer(line: &[u8]) -> Result<(), Fault> {
    let names: [&[u8]; 3] = [b"transfer-encoding", b"content-length", b"host"];
    match names.iter().any(|name| is(line, name)) {
        true => Err(Fault::Trailer),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests;
