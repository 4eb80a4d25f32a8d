use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, request::Parts,
    uri::PathAndQuery,
};

use crate::body::Outgoing;

/// What is needed to make a request's head again: for another attempt.
///
/// Header bytes are copied flat: cloning a `HeaderMap` would allocate for the map and for every
/// value that was made from a string, on each call, for the sake of the few that are tried again.
#[derive(Debug)]
pub(crate) struct SavedHead {
    method: Method,
    path: PathAndQuery,
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

const SENSITIVE: u32 = 1 << 31;

// === impl SavedHead ===

impl SavedHead {
    /// Saves `head`, which asks for `path`.
    pub(crate) fn of(head: &Parts, path: PathAndQuery) -> Self {
        let mut bytes = Flat::new();
        for (name, value) in &head.headers {
            let flag = if value.is_sensitive() { SENSITIVE } else { 0 };
            bytes.push(&(name.as_str().len() as u32).to_ne_bytes());
            bytes.push(&(value.len() as u32 | flag).to_ne_bytes());
            bytes.push(name.as_str().as_bytes());
            bytes.push(value.as_bytes());
        }
        Self {
            method: head.method.clone(),
            path,
            bytes,
        }
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
        let mut rest = self.bytes.as_slice();
        while let Some((lengths, tail)) = rest.split_first_chunk::<8>() {
            let [a, b, c, d, e, f, g, h] = *lengths;
            let name = u32::from_ne_bytes([a, b, c, d]) as usize;
            let value = u32::from_ne_bytes([e, f, g, h]);
            let (sensitive, value) = (value & SENSITIVE != 0, (value & !SENSITIVE) as usize);
            let (name, tail) = tail.split_at(name);
            let (value, tail) = tail.split_at(value);
            rest = tail;
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
    const INLINE: usize = 256;

    fn new() -> Self {
        Self {
            inline: [0; Self::INLINE],
            len: 0,
            heap: Vec::new(),
        }
    }

    fn push(&mut self, more: &[u8]) {
        if self.heap.is_empty() {
            if let Some(room) = self.inline.get_mut(self.len..self.len + more.len()) {
                room.copy_from_slice(more);
                self.len += more.len();
                return;
            }
            self.heap.extend_from_slice(&self.inline[..self.len]);
        }
        self.heap.extend_from_slice(more);
    }

    fn as_slice(&self) -> &[u8] {
        match self.heap.is_empty() {
            true => &self.inline[..self.len],
            false => &self.heap,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_comes_back_as_it_was() {
        for size in [0, 10, 400, 5_000] {
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
