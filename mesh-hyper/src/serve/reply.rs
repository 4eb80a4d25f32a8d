//! Answers that no handler made.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use mesh_core::{Code, filter::Reply, resolve::Reject, telemetry::Cause};

use super::Said;

use super::pace::Over;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// In which form a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A response that is only trailers, for gRPC.
    Grpc,
    /// A status and a line of text.
    Http,
}

// === impl Form ===

impl Form {
    /// That of a request whose headers say this: a gRPC client could not read another.
    #[inline]
    pub(crate) fn of(said: &Said<'_>) -> Self {
        match said.content_type {
            Some(kind) if kind.as_bytes().starts_with(b"application/grpc") => Self::Grpc,
            _ => Self::Http,
        }
    }

    /// The response, and its text.
    pub(crate) fn response(self, reply: Reply) -> (Response<()>, Bytes) {
        let mut response = Response::new(());
        match self {
            Self::Grpc => {
                let headers = response.headers_mut();
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
                put_status(headers, reply.grpc, &reply.message);
                (response, Bytes::new())
            }
            Self::Http => {
                *response.status_mut() = reply.http;
                if reply.message.is_empty() {
                    return (response, Bytes::new());
                }
                response.headers_mut().insert(
                    CONTENT_TYPE,
                    HeaderValue::from_static("text/plain; charset=utf-8"),
                );
                let text = match reply.message {
                    Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
                    Cow::Owned(text) => text.into(),
                };
                (response, text)
            }
        }
    }
}

/// The trailers of a gRPC response that ends like this.
pub(super) fn trailers(code: Code, message: &str) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    put_status(&mut trailers, code, message);
    trailers
}

fn put_status(headers: &mut HeaderMap, code: Code, message: &str) {
    headers.insert(GRPC_STATUS, (code as u16).into());
    if !message.is_empty()
        && let Ok(message) = HeaderValue::from_maybe_shared(percent_encode(message))
    {
        headers.insert(GRPC_MESSAGE, message);
    }
}

/// As PROTOCOL-HTTP2 has it: everything but printable ASCII, and the percent sign itself.
fn percent_encode(message: &str) -> Bytes {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = Vec::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b'%' | ..b' ' | 0x7f.. => encoded.extend([
                b'%',
                DIGITS[usize::from(byte >> 4)],
                DIGITS[usize::from(byte & 15)],
            ]),
            plain => encoded.push(plain),
        }
    }
    encoded.into()
}

/// A time of the request is over.
pub(crate) fn late(over: Over) -> Reply {
    match over {
        Over::Deadline => Reply {
            http: StatusCode::GATEWAY_TIMEOUT,
            grpc: Code::DeadlineExceeded,
            message: Cow::Borrowed("the deadline passed while the request was handled"),
            cause: Cause::Deadline,
        },
        // As Envoy has it: whose turn it was tells the status.
        Over::Idle { received } => Reply {
            http: match received {
                true => StatusCode::GATEWAY_TIMEOUT,
                false => StatusCode::REQUEST_TIMEOUT,
            },
            grpc: Code::Unavailable,
            message: Cow::Borrowed("nothing happened on the stream within the idle timeout"),
            cause: Cause::Deadline,
        },
    }
}

/// The request came long after its sender was told to send no more on this connection.
pub(super) fn going_away() -> Reply {
    Reply {
        http: StatusCode::SERVICE_UNAVAILABLE,
        grpc: Code::Unavailable,
        message: Cow::Borrowed("the connection is going away"),
        cause: Cause::Denied,
    }
}

/// A request that cannot be understood.
pub(super) fn malformed(code: Code, message: &'static str) -> Reply {
    Reply {
        http: StatusCode::BAD_REQUEST,
        grpc: code,
        message: Cow::Borrowed(message),
        cause: Cause::Filter,
    }
}

/// A tunnel was asked for.
pub(super) fn connect() -> Reply {
    Reply {
        http: StatusCode::NOT_IMPLEMENTED,
        grpc: Code::Unimplemented,
        message: Cow::Borrowed("CONNECT is not supported"),
        cause: Cause::Denied,
    }
}

/// A protocol was asked for that neither listener, route nor options allow.
pub(super) fn no_upgrade() -> Reply {
    Reply {
        http: StatusCode::FORBIDDEN,
        grpc: Code::PermissionDenied,
        message: Cow::Borrowed("an upgrade to this protocol is not allowed"),
        cause: Cause::Denied,
    }
}

/// The service has failed without an answer.
pub(crate) fn failed() -> Reply {
    Reply {
        http: StatusCode::INTERNAL_SERVER_ERROR,
        grpc: Code::Internal,
        message: Cow::Borrowed("the service failed"),
        cause: Cause::Response,
    }
}

/// No route takes the request. Why is not said: what the configuration is called, and what a
/// control plane answers, is no business of whoever may connect.
pub(super) fn rejected(reject: Reject) -> Reply {
    tracing::debug!(why = %reject.message, "no route takes a request");
    Reply {
        http: reject.http,
        grpc: reject.code,
        message: Cow::Borrowed("no route takes the request"),
        cause: reject.cause,
    }
}

/// The answer of a route, in a form that its asker can read: gRPC cannot follow a redirect.
pub(super) fn routed(answer: Response<Bytes>, form: Form) -> (Response<()>, Bytes) {
    if form == Form::Grpc {
        return form.response(Reply {
            http: answer.status(),
            grpc: Code::Unavailable,
            message: Cow::Owned(format!("the route answers with {}", answer.status())),
            cause: Cause::Route,
        });
    }
    let (parts, body) = answer.into_parts();
    (Response::from_parts(parts, ()), body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied() -> Reply {
        Reply {
            http: StatusCode::FORBIDDEN,
            grpc: Code::PermissionDenied,
            message: Cow::Borrowed("50 % dénied"),
            cause: Cause::Filter,
        }
    }

    #[test]
    fn grpc_gets_trailers_alone() {
        let (response, text) = Form::Grpc.response(denied());
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[GRPC_STATUS], "7");
        assert_eq!(response.headers()[GRPC_MESSAGE], "50 %25 d%C3%A9nied");
        assert!(text.is_empty());
    }

    #[test]
    fn http_gets_a_status_and_a_text() {
        let (response, text) = Form::Http.response(denied());
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert!(!response.headers().contains_key(GRPC_STATUS));
        assert_eq!(text, "50 % dénied");
    }

    #[test]
    fn the_content_type_tells_the_form() {
        let of = |kind| {
            let kind = HeaderValue::from_static(kind);
            Form::of(&Said {
                content_type: Some(&kind),
                ..Said::default()
            })
        };
        assert_eq!(of("application/grpc+proto"), Form::Grpc);
        assert_eq!(of("application/json"), Form::Http);
        assert_eq!(Form::of(&Said::default()), Form::Http);
    }
}
