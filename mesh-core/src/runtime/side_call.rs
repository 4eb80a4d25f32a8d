use std::{fmt, future::Future, pin::Pin};

use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::mpsc;

use crate::{Code, bootstrap::ServerConfig};

/// gRPC calls that the mesh makes for itself, such as the stream to a control plane.
pub trait SideCall: fmt::Debug + Send + Sync + 'static {
    /// Opens a bidirectional stream of `path` (such as `/pkg.Service/Method`) on a new connection
    /// to `server`, with its credentials read afresh.
    ///
    /// Ready once the connection is up and the request is on it: the server's first message may
    /// take its time. Dropping both ends of [`Messages`] closes the connection. `metadata` is sent
    /// besides what the credentials add.
    fn stream(
        &self,
        server: &ServerConfig,
        path: &'static str,
        metadata: HeaderMap,
        limits: Limits,
    ) -> SideCallFuture;
}

/// What [`SideCall::stream`] returns.
pub type SideCallFuture = Pin<Box<dyn Future<Output = Result<Messages, SideCallError>> + Send>>;

/// Bounds of a stream.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes a received message may have. One that is longer ends the stream with
    /// RESOURCE_EXHAUSTED and a text that names this limit.
    pub max_message: usize,
}

/// The two ends of an open stream. Messages are encoded protobuf, without gRPC's framing.
#[derive(Debug)]
pub struct Messages {
    /// To the server. Dropping it half-closes the stream.
    pub send: mpsc::Sender<Bytes>,
    /// From the server. Nothing more is read from the connection than fits the channel (of one
    /// message) and the HTTP/2 window. Ends with `None` after a status of OK, after an `Err` with
    /// any other.
    pub recv: mpsc::Receiver<Result<Bytes, RpcStatus>>,
}

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct RpcStatus {
    /// Its code.
    pub code: Code,
    /// Its text.
    pub message: String,
}

/// Why no stream could be opened. Says what was tried and what to look at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot reach {server}: {reason}")]
pub struct SideCallError {
    /// The server as the bootstrap names it.
    pub server: String,
    /// What went wrong.
    pub reason: String,
}
