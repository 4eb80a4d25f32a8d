use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version,
    header::{CONTENT_TYPE, TE},
    request::Parts,
    uri::PathAndQuery,
};

use crate::body::Outgoing;

/// What is needed to make a request's head again: for another attempt.
///
/// Header bytes are copied flat: cloning a `HeaderMap` would allocate for the map and for every
/// value that was made from a string, on each call, for the sake of the few that are tried again.
/// The two headers that every gRPC request has are not copied at all.
#[derive(Debug)]
pub(crate) struct SavedHead {
    method: Method,
    path: PathAndQuery,
    has_te: bool,
    has_content_type: bool,
    bytes: Flat,
}

/// Bytes that stay inline while they are few.
#[derive(Debug)]
struct Flat {
    inline: [u8; Flat::INLINE],
    len: usize,
    /// All bytes, once they are too many.
    heap: Vec<u8>,
}

const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
/// Set in the length of a sensitive value.
const SENSITIVE: u16 = 1 << 15;
/// In place of a length that does not fit; 32 bits with the length follow.
const LONG: u16 = SENSITIVE - 1;

// === impl SavedHead ===

impl SavedHead {
    /// Saves `head`, which asks for `path`.
    pub(crate) fn of(head: &Parts, path: PathAndQuery) -> Self {
        let mut saved = Self {
            method: head.method.clone(),
            path,
            has_te: false,
            has_content_type: false,
            bytes: Flat::new(),
        };
        for (name, value) in &head.headers {
            let common = match *name {
                TE if value == TRAILERS => &mut saved.has_te,
                CONTENT_TYPE if value == GRPC => &mut saved.has_content_type,
                _ => {
                    saved.bytes.push_header(name.as_str().as_bytes(), value);
                    continue;
                }
            };
            *common = true;
        }
        saved
    }

    /// The request again, with another body, for what `uri` makes of its path.
    pub(crate) fn request(
        &self,
        uri: impl FnOnce(PathAndQuery) -> Uri,
        body: Outgoing,
    ) -> Request<Outgoing> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri(self.path.clone());
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = self.headers();
        request
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if self.has_te {
            headers.insert(TE, TRAILERS);
        }
        if self.has_content_type {
            headers.insert(CONTENT_TYPE, GRPC);
        }
        let mut rest = self.bytes.as_slice();
        while let (Some((name, _)), Some((value, sensitive))) =
            (take_field(&mut rest), take_field(&mut rest))
        {
            // Copied from a valid map, so both parse.
            if let (Ok(name), Ok(mut value)) =
                (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
            {
                value.set_sensitive(sensitive);
                headers.append(name, value);
            }
        }
        headers
    }
}

// === impl Flat ===

impl Flat {
    /// With this many a call that waits for its response stays below the size from which on
    /// allocators take their slow path.
    const INLINE: usize = 112;

    fn new() -> Self {
        Self {
            inline: [0; Self::INLINE],
            len: 0,
            heap: Vec::new(),
        }
    }

    /// A name and a value, each with its length before it.
    fn push_header(&mut self, name: &[u8], value: &HeaderValue) {
        let (value, sensitive) = (value.as_bytes(), value.is_sensitive());
        let size = 4 + name.len() + value.len();
        let room = self.inline.get_mut(self.len..self.len + size);
        match room {
            Some(room) if self.heap.is_empty() => {
                // What fits has no long length.
                let flag = if sensitive { SENSITIVE } else { 0 };
                let (head, tail) = room.split_at_mut(2 + name.len());
                head[..2].copy_from_slice(&(name.len() as u16).to_ne_bytes());
                head[2..].copy_from_slice(name);
                tail[..2].copy_from_slice(&(value.len() as u16 | flag).to_ne_bytes());
                tail[2..].copy_from_slice(value);
                self.len += size;
            }
            _ => {
                if self.heap.is_empty() {
                    self.heap.extend_from_slice(&self.inline[..self.len]);
                }
                self.push_field(name, false);
                self.push_field(value, sensitive);
            }
        }
    }

    /// A length and the bytes, on the heap.
    fn push_field(&mut self, field: &[u8], sensitive: bool) {
        let flag = if sensitive { SENSITIVE } else { 0 };
        match u16::try_from(field.len()) {
            Ok(length) if length < LONG => self.heap.extend((length | flag).to_ne_bytes()),
            _ => {
                self.heap.extend((LONG | flag).to_ne_bytes());
                // HTTP/2 has no header block as large as 32 bits can say.
                self.heap.extend((field.len() as u32).to_ne_bytes());
            }
        }
        self.heap.extend_from_slice(field);
    }

    fn as_slice(&self) -> &[u8] {
        match self.heap.is_empty() {
            true => &self.inline[..self.len],
            false => &self.heap,
        }
    }
}

/// The first field of `rest`, and whether it is sensitive.
fn take_field<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], bool)> {
    let (length, tail) = rest.split_first_chunk()?;
    let length = u16::from_ne_bytes(*length);
    let (sensitive, short) = (length & SENSITIVE != 0, length & !SENSITIVE);
    let (length, tail) = match short {
        LONG => {
            let (length, tail) = tail.split_first_chunk()?;
            (u32::from_ne_bytes(*length) as usize, tail)
        }
        short => (usize::from(short), tail),
    };
    let (field, tail) = tail.split_at_checked(length)?;
    *rest = tail;
    Some((field, sensitive))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_comes_back_as_it_was() {
        for size in [0, 10, 400, 5_000, 32_766, 32_767, 100_000] {
            let mut request = Request::new(());
            *request.method_mut() = Method::POST;
            *request.uri_mut() = Uri::from_static("http://greeter.shop:8080/pkg.Service/Method");
            let headers = request.headers_mut();
            headers.insert("te", HeaderValue::from_static("trailers"));
            headers.append("x-many", HeaderValue::from_static("a"));
            headers.append("x-many", HeaderValue::from_static("b"));
            headers.insert("x-raw", HeaderValue::from_bytes(b"\xff\x80").unwrap());
            headers.insert(
                "x-long",
                HeaderValue::from_bytes(&vec![b'v'; size]).unwrap(),
            );
            let mut secret = HeaderValue::from_static("s");
            secret.set_sensitive(true);
            headers.insert("authorization", secret);

            let (head, ()) = request.clone().into_parts();
            let path = head.uri.path_and_query().cloned().unwrap();
            let saved = SavedHead::of(&head, path);
            let again = saved.request(
                |path| format!("http://greeter.shop:8080{path}").parse().unwrap(),
                Outgoing::empty(),
            );
            assert_eq!(again.method(), request.method());
            assert_eq!(again.uri(), request.uri());
            assert_eq!(again.headers(), request.headers());
            assert!(again.headers()["authorization"].is_sensitive());
        }
    }
}
