//! How a stream ended: `grpc-status` in trailers or headers, or an HTTP status.

use http::{HeaderMap, Response, StatusCode, header};
use mesh_core::{Code, runtime::RpcStatus};

use super::framing::Decoder;

/// What the response's head says, if it says that there will be no messages.
pub(super) fn of_head<B>(response: &Response<B>) -> Option<Result<(), RpcStatus>> {
    let headers = response.headers();
    if let Some(status) = of(headers) {
        return Some(status);
    }
    if response.status() != StatusCode::OK {
        let code = Code::from_http(response.status());
        let message = format!("the server answered with HTTP status {}", response.status());
        return Some(Err(RpcStatus { code, message }));
    }
    let content_type = headers.get(header::CONTENT_TYPE);
    if content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc")) {
        return None;
    }
    let message = match content_type {
        None => "the server answered without a content-type: is it a gRPC server?".to_owned(),
        Some(value) => format!("the server answered with content-type {value:?}, not gRPC"),
    };
    Some(Err(RpcStatus {
        code: Code::Unknown,
        message,
    }))
}

/// What the trailers say.
pub(super) fn of_trailers(trailers: &HeaderMap, decoder: &Decoder) -> Result<(), RpcStatus> {
    let status = of(trailers).unwrap_or_else(|| {
        Err(RpcStatus {
            code: Code::Unknown,
            message: "the server ended the stream without a status".to_owned(),
        })
    });
    if status.is_ok() && decoder.is_midway() {
        return Err(RpcStatus {
            code: Code::Internal,
            message: "the server ended the stream in the middle of a message".to_owned(),
        });
    }
    status
}

fn of(headers: &HeaderMap) -> Option<Result<(), RpcStatus>> {
    let status = headers.get("grpc-status")?;
    let code = status.to_str().ok().and_then(|text| text.parse().ok());
    let message = headers
        .get("grpc-message")
        .map(|message| percent_decode(message.as_bytes()));
    Some(match code.map(Code::from_i32) {
        Some(Code::Ok) => Ok(()),
        Some(code) => Err(RpcStatus {
            code,
            message: message.unwrap_or_default(),
        }),
        None => Err(RpcStatus {
            code: Code::Unknown,
            message: format!("the server sent the invalid grpc-status {status:?}"),
        }),
    })
}

/// As PROTOCOL-HTTP2 asks: what is not valid percent-encoding is taken as it is.
fn percent_decode(text: &[u8]) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = after
            .first_chunk::<2>()
            .filter(|_| byte == b'%')
            .and_then(|&[high, low]| Some(hex(high)? << 4 | hex(low)?));
        match escaped {
            Some(escaped) => {
                decoded.push(escaped);
                rest = &after[2..];
            }
            None => {
                decoded.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|digit| digit as u8)
}
