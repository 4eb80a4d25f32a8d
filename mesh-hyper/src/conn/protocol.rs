//! Which HTTP is spoken to an endpoint.

use mesh_core::{Semantics, balance::LinkState, config::HttpProtocol, identity::IdentityError};

/// What may be spoken to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    Http2,
    /// What TLS agrees on.
    Either,
}

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

/// Names in ALPN (RFC 7301 section 6, RFC 9113 section 3.2).
const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";

/// Bytes of a response's headers at most, under HTTP semantics over HTTP/2. Envoy's limit is about that:
/// 60 KiB by default (`max_response_headers_kb`). Over HTTP/1.1 it is hyper's: 100 headers, 400 KiB.
pub(crate) const MAX_HEADERS: u32 = 64 << 10;

// === impl Speaks ===

impl Speaks {
    /// gRPC is HTTP/2. Under HTTP semantics the cluster says; plaintext cannot be negotiated.
    pub(crate) fn of(endpoint: &LinkState) -> Self {
        let cluster = endpoint.cluster();
        match (endpoint.semantics(), cluster.connections.protocol) {
            (Semantics::Grpc, _) | (Semantics::Http, HttpProtocol::Http2) => Self::Http2,
            (Semantics::Http, HttpProtocol::Auto) if cluster.tls.is_some() => Self::Either,
            (Semantics::Http, HttpProtocol::Http1 | HttpProtocol::Auto) => Self::Http1,
        }
    }

    /// What TLS offers.
    pub(crate) fn alpn(self) -> &'static [&'static [u8]] {
        match self {
            Self::Http1 => &[HTTP1],
            Self::Http2 => &[HTTP2],
            Self::Either => &[HTTP2, HTTP1],
        }
    }

    /// What is spoken without TLS.
    pub(super) fn in_plaintext(self) -> Version {
        match self {
            Self::Http2 => Version::Http2,
            Self::Http1 | Self::Either => Version::Http1,
        }
    }

    /// What is spoken after TLS agreed on `alpn`: a server that has nothing to say to that speaks
    /// HTTP/1.1.
    pub(super) fn agreed(self, alpn: Option<&[u8]>) -> Result<Version, IdentityError> {
        match (self, alpn) {
            (Self::Http2 | Self::Either, Some(HTTP2)) => Ok(Version::Http2),
            (Self::Http1 | Self::Either, None | Some(HTTP1)) => Ok(Version::Http1),
            (Self::Http2, _) => Err(IdentityError::new(
                "the server does not agree on HTTP/2 (ALPN \"h2\"); is it an HTTP/2 server?",
            )),
            // TLS itself refuses what was not offered.
            (Self::Http1 | Self::Either, Some(_)) => Err(IdentityError::new(
                "the server agrees on a protocol that it was not asked for (ALPN)",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tls_agrees_on_is_spoken() {
        for (speaks, alpn, expected) in [
            (Speaks::Http1, None, Some(Version::Http1)),
            (Speaks::Http1, Some(HTTP1), Some(Version::Http1)),
            (Speaks::Http1, Some(HTTP2), None),
            (Speaks::Http2, None, None),
            (Speaks::Http2, Some(HTTP1), None),
            (Speaks::Http2, Some(HTTP2), Some(Version::Http2)),
            (Speaks::Either, None, Some(Version::Http1)),
            (Speaks::Either, Some(HTTP1), Some(Version::Http1)),
            (Speaks::Either, Some(HTTP2), Some(Version::Http2)),
        ] {
            assert_eq!(speaks.agreed(alpn).ok(), expected, "{speaks:?} {alpn:?}");
        }
    }
}
