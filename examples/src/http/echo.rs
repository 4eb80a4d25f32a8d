//! A server that answers each request with what it saw of it.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, Router, body::Body, extract::State, routing::any};
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Limited};
use mesh_core::identity::Peer;
use serde::{Deserialize, Serialize};

use crate::flags::{self, Flag, FlagError, number};

/// Bytes a request's body may have.
const MAX_BODY: usize = 64 << 20;

/// What the server is told on its command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flags {
    /// Port, 0 for any; default 8080.
    pub port: u16,
    /// What the server calls itself; default `http_echo`.
    pub server_id: String,
}

/// What a server saw of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// What the server calls itself.
    pub server_id: String,
    /// The request's method.
    pub method: String,
    /// Its path and query.
    pub path: String,
    /// Its authority, of the target or of the `host` header.
    pub authority: String,
    /// Its headers; those that are repeated are joined by commas.
    pub headers: BTreeMap<String, String>,
    /// Bytes of its body.
    pub body_length: usize,
    /// Who sent it: the SPIFFE ID, else another name of the certificate; none without one.
    pub peer: Option<String>,
    /// `HTTP/1.1` or `HTTP/2`.
    pub protocol: String,
}

static FLAGS: [Flag<Flags>; 2] = [
    Flag {
        name: "port",
        value: "PORT",
        help: "Port, 0 for any free one. Default: 8080.",
        set: |flags, value| number(value, 0, u16::MAX).map(|port| flags.port = port),
    },
    Flag {
        name: "server_id",
        value: "NAME",
        help: "What the server calls itself in responses. Default: http_echo.",
        set: |flags, value| {
            flags.server_id = value.to_owned();
            Ok(())
        },
    },
];

/// Reads the command line without the program's name; `None`: it asks for help.
///
/// # Errors
/// If a flag is unknown, without its value or not valid.
pub fn parse<A: Into<String>>(
    arguments: impl IntoIterator<Item = A>,
) -> Result<Option<Flags>, FlagError> {
    flags::read(&FLAGS, arguments)
}

/// What there is to say about the flags.
pub fn help() -> String {
    let text = "Answers each HTTP request with what it saw of it, as JSON.\n\
                TLS, access rules and routes are the control plane's, which the bootstrap names:\n\
                GRPC_XDS_BOOTSTRAP (a file) or GRPC_XDS_BOOTSTRAP_CONFIG (JSON).\n\n\
                Usage: http_echo [--FLAG=VALUE]...\n\n";
    text.to_owned() + &flags::list(&FLAGS)
}

/// The service.
pub fn router(server_id: &str) -> Router {
    Router::new()
        .fallback(any(echo))
        .with_state(Arc::from(server_id))
}

async fn echo(
    State(server_id): State<Arc<str>>,
    request: Request<Body>,
) -> Result<Json<Echo>, (StatusCode, String)> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await;
    let body = body.map_err(|error| (StatusCode::BAD_REQUEST, format!("the body: {error}")))?;
    let mut headers = BTreeMap::<String, String>::new();
    for (name, value) in &head.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let joined = headers.entry(name.to_string()).or_default();
        if !joined.is_empty() {
            joined.push(',');
        }
        joined.push_str(&value);
    }
    let authority = match head.uri.authority() {
        Some(authority) => authority.to_string(),
        None => headers.get("host").cloned().unwrap_or_default(),
    };
    let peer = head.extensions.get::<Arc<Peer>>();
    Ok(Json(Echo {
        server_id: server_id.to_string(),
        method: head.method.to_string(),
        path: head
            .uri
            .path_and_query()
            .map_or("/", |path| path.as_str())
            .to_owned(),
        authority,
        headers,
        body_length: body.to_bytes().len(),
        peer: peer.and_then(|peer| peer.id()).map(str::to_owned),
        protocol: match head.version {
            Version::HTTP_2 => "HTTP/2".to_owned(),
            other => format!("{other:?}"),
        },
    }))
}

// === impl Flags ===

impl Default for Flags {
    fn default() -> Self {
        Self {
            port: 8080,
            server_id: "http_echo".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_defaults_and_values() {
        let none: [&str; 0] = [];
        assert_eq!(parse(none), Ok(Some(Flags::default())));
        let flags = parse(["--port=1", "--server_id", "a"]).unwrap().unwrap();
        assert_eq!((flags.port, &*flags.server_id), (1, "a"));
        assert_eq!(parse(["--help"]), Ok(None));
        assert!(help().contains("--server_id="));
        assert!(parse(["--port=x"]).is_err());
    }
}
