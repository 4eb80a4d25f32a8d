use std::{error::Error, fmt, fmt::Write as _, io, sync::Arc, time::Duration};

use mesh_core::{Code, config::Address, identity::IdentityError};

use crate::body::Outgoing;

/// Why a connection could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address could not be reached.
    #[error("cannot connect to {address}: {error}")]
    Dial {
        /// The address.
        address: Address,
        /// What the operating system said.
        error: io::Error,
    },
    /// It was reached but does not speak HTTP/2, or closed the connection at once.
    #[error(
        "{address} accepted the connection but no HTTP/2 came of it: {}",
        chain(error)
    )]
    Handshake {
        /// The address.
        address: Address,
        /// What was wrong.
        error: hyper::Error,
    },
    /// It closed the connection before its SETTINGS frame.
    #[error("{address} closed the connection before its HTTP/2 SETTINGS; is it an HTTP/2 server?")]
    Closed {
        /// The address.
        address: Address,
    },
    /// It took longer than `connect_timeout`.
    #[error("{address} {stage} within the connect timeout of {limit:?}")]
    Timeout {
        /// The address.
        address: Address,
        /// The time limit.
        limit: Duration,
        /// How far it came.
        stage: Stage,
    },
    /// The task that made it ended before it was over: something that it called panicked, or the
    /// runtime was shut down.
    #[error(
        "the attempt to connect to {address} was lost: it panicked, or its runtime was shut down"
    )]
    Lost {
        /// The address.
        address: Address,
    },
    /// TLS, which the cluster asks for, could not be had. Plaintext never takes its place.
    #[error("no TLS with {address}: {error}")]
    Tls {
        /// The address.
        address: Address,
        /// Why.
        error: IdentityError,
    },
}

/// How far a connection attempt came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// The certificates and the trust for TLS had not arrived.
    Certificates,
    /// The connection was not accepted.
    Dial,
    /// The TLS handshake was not finished.
    Tls,
    /// The HTTP/2 handshake was not finished.
    Settings,
}

/// What became of a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It never left this process: it may be sent again (gRFC A6).
    Unsent,
    /// It may have left, but the server says that it did not process it (REFUSED_STREAM, or a GOAWAY
    /// that leaves it out): it may be sent again once (gRFC A44).
    Unprocessed,
    /// The server may have processed it.
    Unknown,
}

/// What broke a request, as Envoy's retry conditions and response flags tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResetReason {
    /// No connection could be made, or none in time (flag UF).
    ConnectFailure,
    /// The connection ended before the response did (flag UC).
    ConnectionTermination,
    /// The server reset the stream with REFUSED_STREAM, or its GOAWAY leaves it out (flag UR).
    RefusedStream,
    /// The server reset the stream for another reason (flag UR).
    RemoteReset,
    /// What came is not HTTP (flag UPE).
    ProtocolError,
    /// We reset it: the request's body failed, or it cannot be sent over this protocol (flag LR).
    LocalReset,
    /// As many connections and waiting requests as may be (flag UO).
    Overflow,
}

/// Why there is no response to a request that a connection took.
///
/// Its text is complete; [`source`](Error::source) is hyper's error, which leads to the
/// [`h2::Error`] if there is one.
pub struct SendError(Box<Inner>);

struct Inner {
    address: Address,
    fate: Fate,
    code: Code,
    reason: ResetReason,
    error: Option<hyper::Error>,
    /// In place of `error`.
    why: Option<Arc<str>>,
    request: Option<http::Request<Outgoing>>,
}

// === impl Stage ===

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Certificates => "was not connected to: no certificates for TLS arrived",
            Stage::Dial => "accepted no connection",
            Stage::Tls => "accepted the connection but did not finish the TLS handshake",
            Stage::Settings => "accepted the connection but sent no HTTP/2 SETTINGS",
        })
    }
}

// === impl SendError ===

impl SendError {
    /// `request` waited for a stream and there is no connection any more.
    pub(super) fn unsent(address: Address, request: http::Request<Outgoing>) -> Self {
        Self(Box::new(Inner {
            address,
            fate: Fate::Unsent,
            code: Code::Unavailable,
            reason: ResetReason::ConnectionTermination,
            error: None,
            why: None,
            request: Some(request),
        }))
    }

    /// `request` was not sent, and this is why.
    pub(super) fn refused(
        address: Address,
        reason: ResetReason,
        why: Arc<str>,
        request: http::Request<Outgoing>,
    ) -> Self {
        Self(Box::new(Inner {
            address,
            fate: Fate::Unsent,
            code: Code::Unavailable,
            reason,
            error: None,
            why: Some(why),
            request: Some(request),
        }))
    }

    /// What came in answer to a request is against the protocol, and this is how.
    pub(crate) fn misanswered(address: Address, why: &'static str) -> Self {
        Self(Box::new(Inner {
            address,
            fate: Fate::Unknown,
            code: Code::Internal,
            reason: ResetReason::ProtocolError,
            error: None,
            why: Some(why.into()),
            request: None,
        }))
    }

    /// hyper's answer.
    pub(super) fn new(
        address: Address,
        mut failed: hyper::client::conn::TrySendError<http::Request<Outgoing>>,
    ) -> Self {
        let request = failed.take_message();
        let error = failed.into_error();
        let (code, fate) = match &request {
            Some(_) => (Code::Unavailable, Fate::Unsent),
            None => classify(&error),
        };
        let reason = match fate {
            Fate::Unsent => ResetReason::ConnectionTermination,
            Fate::Unprocessed => ResetReason::RefusedStream,
            Fate::Unknown => reason_of(&error),
        };
        Self(Box::new(Inner {
            address,
            fate,
            code,
            reason,
            error: Some(error),
            why: None,
            request,
        }))
    }

    /// What became of the request.
    pub fn fate(&self) -> Fate {
        self.0.fate
    }

    /// Whether the server certainly did not process the request: it may be sent again unseen.
    #[cfg(test)]
    pub(crate) fn is_unprocessed(&self) -> bool {
        self.0.fate != Fate::Unknown
    }

    pub(super) fn request_mut(&mut self) -> Option<&mut http::Request<Outgoing>> {
        self.0.request.as_mut()
    }

    /// The request, where it was only queued. Otherwise it is gone; its body may be in the
    /// [`Keeper`](crate::body::Keeper).
    pub fn take_request(&mut self) -> Option<http::Request<Outgoing>> {
        self.0.request.take()
    }

    /// What broke it.
    pub fn reason(&self) -> ResetReason {
        self.0.reason
    }

    /// The gRPC code this maps to.
    pub fn code(&self) -> Code {
        self.0.code
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            address,
            fate,
            error,
            why,
            ..
        } = &*self.0;
        let fate = match fate {
            Fate::Unsent => "was not sent",
            Fate::Unprocessed => "was not processed",
            Fate::Unknown => "failed",
        };
        write!(f, "request to {address} {fate}: ")?;
        match (error, why) {
            (Some(error), _) => f.write_str(&chain(error)),
            (None, Some(why)) => f.write_str(why),
            (None, None) => f.write_str("its connection ended while it waited for its turn"),
        }
    }
}

impl fmt::Debug for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError")
            .field("address", &self.0.address)
            .field("fate", &self.0.fate)
            .field("code", &self.0.code)
            .field("error", &self.0.error)
            .finish_non_exhaustive()
    }
}

impl Error for SendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.error.as_ref().map(|error| error as _)
    }
}

/// The gRPC code of a connection's or stream's error, such as one of a response body.
pub fn code_of(error: &(dyn Error + 'static)) -> Code {
    classify(error).0
}

/// What broke a stream that the server may have processed, or a response under way.
pub(crate) fn reason_of(error: &(dyn Error + 'static)) -> ResetReason {
    match causes(error).find_map(|error| error.downcast_ref::<h2::Error>()) {
        // We end the connection, because of what came.
        Some(error) if error.is_library() && error.reason() != Some(h2::Reason::NO_ERROR) => {
            ResetReason::ProtocolError
        }
        Some(error) if error.is_go_away() || error.is_io() => ResetReason::ConnectionTermination,
        Some(error) if error.is_remote() => ResetReason::RemoteReset,
        Some(error) if error.is_library() => ResetReason::ProtocolError,
        Some(_) => ResetReason::LocalReset,
        None => {
            let hyper = causes(error).find_map(|error| error.downcast_ref::<hyper::Error>());
            match hyper {
                // HTTP/1.1 that is none.
                Some(error) if error.is_parse() => ResetReason::ProtocolError,
                // A request's body that failed.
                Some(error) if error.is_user() => ResetReason::LocalReset,
                _ => ResetReason::ConnectionTermination,
            }
        }
    }
}

/// What a chain of errors means: the code of gRPC's mapping of HTTP/2 errors
/// (PROTOCOL-HTTP2, "Errors"), and what became of the request. Whatever ends the connection as a
/// whole, keepalive included, is UNAVAILABLE.
fn classify(error: &(dyn Error + 'static)) -> (Code, Fate) {
    let h2 = causes(error).find_map(|error| error.downcast_ref::<h2::Error>());
    match h2 {
        // A stream ends with the peer's GOAWAY only if that leaves the stream out.
        Some(error) if error.is_go_away() && error.is_remote() => {
            (Code::Unavailable, Fate::Unprocessed)
        }
        Some(error) if error.is_go_away() || error.is_io() => (Code::Unavailable, Fate::Unknown),
        Some(error) => match error.reason() {
            Some(h2::Reason::REFUSED_STREAM) if error.is_remote() => {
                (Code::Unavailable, Fate::Unprocessed)
            }
            Some(reason) => (code_of_reset(reason), Fate::Unknown),
            // Our own misuse, such as a header that HTTP/2 forbids.
            None => (Code::Internal, Fate::Unknown),
        },
        None => (Code::Unavailable, Fate::Unknown),
    }
}

fn code_of_reset(reason: h2::Reason) -> Code {
    match reason {
        h2::Reason::NO_ERROR
        | h2::Reason::PROTOCOL_ERROR
        | h2::Reason::INTERNAL_ERROR
        | h2::Reason::FLOW_CONTROL_ERROR
        | h2::Reason::SETTINGS_TIMEOUT
        | h2::Reason::FRAME_SIZE_ERROR
        | h2::Reason::COMPRESSION_ERROR
        | h2::Reason::CONNECT_ERROR => Code::Internal,
        h2::Reason::REFUSED_STREAM => Code::Unavailable,
        h2::Reason::CANCEL => Code::Cancelled,
        h2::Reason::ENHANCE_YOUR_CALM => Code::ResourceExhausted,
        h2::Reason::INADEQUATE_SECURITY => Code::PermissionDenied,
        _ => Code::Unknown,
    }
}

/// `error` and all that caused it, as one text: hyper's own says only "http2 error".
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for error in causes(error) {
        let separator = if text.is_empty() { "" } else { ": " };
        // Writing to a string does not fail.
        let _ = write!(text, "{separator}{error}");
    }
    text
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}
