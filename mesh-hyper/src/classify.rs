//! Decides what a call's outcome was: the one classifier.

use http::{HeaderMap, HeaderName, StatusCode};
use mesh_core::{Code, route::first_value};

/// A look-up by string would parse it each time.
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The outcome that response headers tell, if they tell it: a gRPC response that is only trailers,
/// or one that no gRPC server made.
pub(crate) fn grpc_headers(status: StatusCode, headers: &HeaderMap) -> Option<Code> {
    match grpc_status(headers) {
        Some(code) => Some(code),
        None if status != StatusCode::OK => Some(Code::from_http(status)),
        None => None,
    }
}

/// The outcome that trailers tell, if they do: a gRPC server's always do.
pub(crate) fn grpc_trailers(trailers: &HeaderMap) -> Option<Code> {
    grpc_status(trailers)
}

fn grpc_status(headers: &HeaderMap) -> Option<Code> {
    let value = first_value(headers, &GRPC_STATUS)?.as_bytes();
    // The common answer, without parsing.
    if value == b"0" {
        return Some(Code::Ok);
    }
    let code = std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse().ok());
    Some(code.map_or(Code::Unknown, Code::from_i32))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn with_status(status: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            HeaderValue::from_static(status),
        )])
    }

    #[test]
    fn headers_and_trailers() {
        let none = HeaderMap::new();
        assert_eq!(grpc_headers(StatusCode::OK, &none), None);
        assert_eq!(
            grpc_headers(StatusCode::OK, &with_status("14")),
            Some(Code::Unavailable)
        );
        // The status of gRPC counts, whatever HTTP's is.
        assert_eq!(
            grpc_headers(StatusCode::BAD_GATEWAY, &with_status("5")),
            Some(Code::NotFound)
        );
        assert_eq!(
            grpc_headers(StatusCode::BAD_GATEWAY, &none),
            Some(Code::Unavailable)
        );
        assert_eq!(grpc_trailers(&with_status("0")), Some(Code::Ok));
        assert_eq!(grpc_trailers(&with_status("99")), Some(Code::Unknown));
        assert_eq!(grpc_trailers(&with_status("x")), Some(Code::Unknown));
        assert_eq!(grpc_trailers(&none), None);
    }
}
