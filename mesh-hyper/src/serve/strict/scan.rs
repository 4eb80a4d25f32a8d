//! Where each request ends, and what no request may have.

use std::mem;

use super::lines::LineFeeds;

/// Where a connection stands in its requests. Keeps no more of them than it needs to know where
/// each ends.
#[derive(Debug, Default)]
pub(super) struct Scan {
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
    pub(super) heads: u64,
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
pub(super) enum Fault {
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

/// Of a line that comes in pieces, as much is kept. The headers that matter are shorter, or wrong.
const KEPT: usize = 512;

/// A line with the size of a chunk and its extensions may have as many bytes.
const CHUNK_LINE: usize = 16 + 256;

// === impl Scan ===

impl Scan {
    /// Whether the body of a request has begun and not ended.
    pub(super) fn in_body(&self) -> bool {
        !matches!(self.part, Part::Between | Part::Headers)
    }

    /// Whether a head has begun and is not complete.
    pub(super) fn in_head(&self) -> bool {
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
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<(), (usize, Fault)> {
        let mut ends = LineFeeds::of(bytes);
        let mut at = 0;
        while at < bytes.len() {
            if let Part::Body(left) | Part::Chunk(left) = &mut self.part {
                let rest = bytes.len() - at;
                let taken = usize::try_from(*left).map_or(rest, |left| left.min(rest));
                *left -= taken as u64;
                at += taken;
                ends.seek(at);
                match self.part {
                    Part::Body(0) => self.part = Part::Between,
                    Part::Chunk(0) => self.part = Part::ChunkEnd,
                    _ => {}
                }
                continue;
            }
            match ends.next() {
                Some(end) => {
                    let line = &bytes[at..end];
                    let is_whole_header = self.part == Part::Headers && self.begun.is_empty();
                    if !(is_whole_header && is_of_no_concern(line)) {
                        self.line(line).map_err(|fault| (at, fault))?;
                    }
                    at = end + 1;
                }
                None => {
                    self.begin(&bytes[at..]).map_err(|fault| (at, fault))?;
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

/// Whether this line, without its LF, is a header that says neither how long a request is nor whose:
/// as most do, which [`Scan::header`] need not see.
#[inline]
fn is_of_no_concern(line: &[u8]) -> bool {
    let [first, .., b'\r'] = line else {
        return false;
    };
    !matches!(
        first,
        b' ' | b'\t' | b't' | b'T' | b'c' | b'C' | b'h' | b'H'
    )
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
