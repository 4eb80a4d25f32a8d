use http::HeaderName;

use crate::{
    Semantics,
    config::{HeaderMatch, HeaderMatcher},
    filter::RequestHead,
    route::Scratch,
};

/// A [`HeaderMatcher`] that knows where its value comes from, and which of several readings count.
#[derive(Debug)]
pub(super) struct HeaderTest {
    source: Source,
    every: bool,
    /// Whether a header that is to be read as empty counts as present.
    missing_is_present: bool,
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
    Path,
}

impl HeaderTest {
    /// `every`: all readings of the header must pass, else one is enough.
    pub(super) fn compile(semantics: Semantics, matcher: &HeaderMatcher, every: bool) -> Self {
        let source = match matcher.name.as_str() {
            ":authority" | "host" => Source::Authority,
            ":method" => Source::Method,
            ":path" => Source::Path,
            name if semantics == Semantics::Grpc && is_hop_by_hop(name) => Source::Absent,
            name => HeaderName::from_bytes(name.as_bytes()).map_or(Source::Absent, Source::Header),
        };
        Self {
            source,
            every,
            missing_is_present: semantics == Semantics::Http && matcher.treat_missing_as_empty,
            matcher: matcher.clone(),
        }
    }

    pub(super) fn is_match(&self, head: &RequestHead<'_>) -> bool {
        match &self.source {
            Source::Absent => self.passes(None),
            Source::Authority => self.passes(Some(head.authority.as_bytes())),
            Source::Header(name) => self.header(name, head),
            Source::Method => self.passes(Some(head.method.as_str().as_bytes())),
            Source::Path => {
                let path = head.path.as_bytes();
                let Some(query) = head.query else {
                    return self.passes(Some(path));
                };
                let mut whole = Scratch::new();
                whole.push(path);
                whole.push(b"?");
                whole.push(query.as_bytes());
                self.of_readings([path, whole.as_bytes()].into_iter())
            }
        }
    }

    fn header(&self, name: &HeaderName, head: &RequestHead<'_>) -> bool {
        let values = || head.headers.get_all(name).iter().map(|v| v.as_bytes());
        let mut first = values();
        match (first.next(), first.next()) {
            (None, _) => self.passes(None),
            (only, None) => self.passes(only),
            _ => {
                let mut joined = Scratch::new();
                for (at, value) in values().enumerate() {
                    if at > 0 {
                        joined.push(b",");
                    }
                    joined.push(value);
                }
                self.of_readings(std::iter::once(joined.as_bytes()).chain(values()))
            }
        }
    }

    fn of_readings<'a>(&self, mut readings: impl Iterator<Item = &'a [u8]>) -> bool {
        match self.every {
            true => readings.all(|value| self.passes(Some(value))),
            false => readings.any(|value| self.passes(Some(value))),
        }
    }

    /// An absent header fails whatever is asked of its value, inverted or not (gRFC A28), unless
    /// it is to be read as empty. Under HTTP semantics it is present then, as to Envoy.
    fn passes(&self, value: Option<&[u8]>) -> bool {
        let is_present = value.is_some() || self.missing_is_present;
        let missing = self.matcher.treat_missing_as_empty.then_some(&b""[..]);
        let result = match (&self.matcher.test, value.or(missing)) {
            (HeaderMatch::Present(present), _) => is_present == *present,
            (_, None) => return false,
            (HeaderMatch::Range { start, end }, Some(value)) => std::str::from_utf8(value)
                .ok()
                .and_then(|value| value.parse().ok())
                .is_some_and(|value: i64| (*start..*end).contains(&value)),
            (HeaderMatch::Value(string), Some(value)) => string.is_match(value),
        };
        result != self.matcher.invert
    }
}

/// Headers that are about the connection: no part of gRPC's metadata (gRFC A41).
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

#[cfg(test)]
mod tests;
