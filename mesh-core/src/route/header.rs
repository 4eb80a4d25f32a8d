use http::{HeaderName, HeaderValue};

use super::{Head, Semantics, first_value, scratch::Scratch};
use crate::config::{HeaderMatch, HeaderMatcher};

/// A [`HeaderMatcher`] that knows where its value comes from.
#[derive(Debug)]
pub(crate) struct HeaderTest {
    semantics: Semantics,
    source: Source,
    /// Stands in for an absent header.
    missing: Option<&'static [u8]>,
    matcher: HeaderMatcher,
}

/// Where a header's value comes from.
#[derive(Debug)]
enum Source {
    /// Nowhere: no request has it.
    Absent,
    Authority,
    Header(HeaderName),
    Method,
    /// The path with its query, as `:path` is.
    Path,
    Scheme,
}

// === impl HeaderTest ===

impl HeaderTest {
    pub(crate) fn compile(semantics: Semantics, matcher: &HeaderMatcher) -> Self {
        let source = match semantics {
            Semantics::Grpc => Source::of_metadata(&matcher.name),
            Semantics::Http => Source::of_header(&matcher.name),
        };
        let missing: Option<&'static [u8]> = match (semantics, &source) {
            (Semantics::Grpc, Source::Header(name)) if name == http::header::CONTENT_TYPE => {
                Some(b"application/grpc")
            }
            (Semantics::Http, _) if matcher.treat_missing_as_empty => Some(b""),
            _ => None,
        };
        Self {
            semantics,
            source,
            missing,
            matcher: matcher.clone(),
        }
    }

    pub(super) fn matcher(&self) -> &HeaderMatcher {
        &self.matcher
    }

    /// Whether the request passes. An absent header fails whatever is asked of its value, inverted
    /// or not: gRFC A28, and Envoy since it has `treat_missing_header_as_empty`. Of a header that is
    /// repeated gRPC sees the values joined (gRFC A28), and HTTP each: one that passes is enough, and
    /// inverted none may (Envoy since 1.39, `match_headers_individually`).
    pub(crate) fn is_match(&self, head: &Head<'_>) -> bool {
        let passes = |value: Option<&[u8]>| match value.or(self.missing) {
            None if !matches!(self.matcher.test, HeaderMatch::Present(_)) => false,
            value => self.test(value) != self.matcher.invert,
        };
        match &self.source {
            Source::Absent => passes(None),
            Source::Authority => passes(Some(head.authority.as_bytes())),
            // As many values as names: none is repeated, and one look-up is enough.
            Source::Header(name) if head.headers.len() == head.headers.keys_len() => {
                passes(first_value(head.headers, name).map(HeaderValue::as_bytes))
            }
            Source::Header(name) => {
                let mut values = head.headers.get_all(name).iter();
                match (values.next(), values.next()) {
                    (None, _) => passes(None),
                    (Some(only), None) => passes(Some(only.as_bytes())),
                    (Some(_), Some(_)) if self.semantics == Semantics::Http => {
                        let mut values = head.headers.get_all(name).iter();
                        let found = values.any(|value| self.test(Some(value.as_bytes())));
                        found != self.matcher.invert
                    }
                    (Some(first), Some(second)) => {
                        let mut joined = Scratch::new();
                        joined.push(first.as_bytes());
                        for value in std::iter::once(second).chain(values) {
                            joined.push(b",");
                            joined.push(value.as_bytes());
                        }
                        passes(Some(joined.as_bytes()))
                    }
                }
            }
            Source::Method => passes(Some(head.method.as_str().as_bytes())),
            Source::Path => match head.query {
                None => passes(Some(head.path.as_bytes())),
                Some(query) => {
                    let mut joined = Scratch::new();
                    joined.push(head.path.as_bytes());
                    joined.push(b"?");
                    joined.push(query.as_bytes());
                    passes(Some(joined.as_bytes()))
                }
            },
            Source::Scheme => passes(Some(head.scheme.as_bytes())),
        }
    }

    /// What is asked of a value, as if it were not inverted.
    fn test(&self, value: Option<&[u8]>) -> bool {
        match (&self.matcher.test, value) {
            (HeaderMatch::Present(present), value) => value.is_some() == *present,
            (_, None) => false,
            (HeaderMatch::Range { start, end }, Some(value)) => {
                integer(value).is_some_and(|value| (*start..*end).contains(&value))
            }
            (HeaderMatch::Value(string), Some(value)) => string.is_match(value),
        }
    }
}

// === impl Source ===

impl Source {
    /// gRPC: application metadata only (gRFC A28). Pseudo-headers and what the transport adds
    /// (`te`, `grpc-*`) are not metadata, and binary metadata cannot be matched.
    fn of_metadata(name: &str) -> Self {
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name)
                if !name.as_str().ends_with("-bin")
                    && !name.as_str().starts_with("grpc-")
                    && name != http::header::TE =>
            {
                Source::Header(name)
            }
            _ => Source::Absent,
        }
    }

    /// HTTP: pseudo-headers as Envoy has them. Envoy keeps HTTP/1.1's `Host` in `:authority`.
    fn of_header(name: &str) -> Self {
        match name {
            ":authority" | "host" => Source::Authority,
            ":method" => Source::Method,
            ":path" => Source::Path,
            ":scheme" => Source::Scheme,
            name => HeaderName::from_bytes(name.as_bytes()).map_or(Source::Absent, Source::Header),
        }
    }
}

fn integer(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
