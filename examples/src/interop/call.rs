use std::time::Duration;

use tonic::{
    Code, Request, Status,
    body::Body,
    client::{Grpc, GrpcService},
    codegen::{Body as HttpBody, Bytes, StdError, http::uri::PathAndQuery},
    metadata::MetadataMap,
};
use tonic_prost::ProstCodec;

use super::{Call, Method};
use crate::testing::{Empty, SimpleRequest, SimpleResponse};

/// A gRPC channel that can be called from a task of its own: the mesh's, or tonic's.
pub trait Channel:
    GrpcService<
        Body,
        Error: Send,
        Future: Send,
        ResponseBody: HttpBody<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
    > + Clone
    + Send
    + Sync
    + 'static
{
}

/// How a call ended.
#[derive(Debug)]
pub struct Outcome {
    /// The method that was called.
    pub method: Method,
    /// The hostname of the server that answered, if it said so.
    pub peer: Option<String>,
    /// Metadata before the response.
    pub initial: MetadataMap,
    /// Metadata after it.
    pub trailing: MetadataMap,
    /// The status; OK for a call that succeeded.
    pub status: Status,
}

/// A response in parts, of which any may have failed to arrive.
struct Reply<R> {
    initial: MetadataMap,
    trailing: MetadataMap,
    message: Result<R, Status>,
}

/// Makes one call. The channel keeps the deadline.
pub async fn perform<T: Channel>(channel: T, call: &Call) -> Outcome {
    let &Call {
        method,
        ref metadata,
        timeout,
    } = call;
    let (reply, hostname) = match method {
        Method::EmptyCall => {
            let reply = unary::<_, _, Empty>(channel, method, Empty {}, metadata, timeout).await;
            (reply.map(drop), String::new())
        }
        Method::UnaryCall => {
            let request = SimpleRequest::default();
            let mut reply: Reply<SimpleResponse> =
                unary(channel, method, request, metadata, timeout).await;
            let hostname = match &mut reply.message {
                Ok(message) => std::mem::take(&mut message.hostname),
                Err(_) => String::new(),
            };
            (reply.map(drop), hostname)
        }
    };
    let Reply {
        initial,
        trailing,
        message,
    } = reply;
    // Servers say it in metadata; older ones only in the response.
    let announced = initial
        .get("hostname")
        .and_then(|value| value.to_str().ok());
    let peer = announced
        .map(str::to_owned)
        .or(Some(hostname))
        .filter(|peer| !peer.is_empty());
    let status = message.err().unwrap_or_else(|| Status::new(Code::Ok, ""));
    Outcome {
        method,
        peer,
        initial,
        trailing,
        status,
    }
}

/// A unary call that keeps the two kinds of metadata apart, which a generated client joins: on the
/// wire it is the same as one whose response streams one message.
async fn unary<T, Q, R>(
    channel: T,
    method: Method,
    message: Q,
    metadata: &MetadataMap,
    timeout: Duration,
) -> Reply<R>
where
    T: Channel,
    Q: prost::Message + Send + Sync + 'static,
    R: prost::Message + Default + Send + Sync + 'static,
{
    let mut grpc = Grpc::new(channel);
    if let Err(error) = grpc.ready().await {
        let error: StdError = error.into();
        return Reply::failed(MetadataMap::new(), Status::from_error(error));
    }
    let mut request = Request::new(message);
    *request.metadata_mut() = metadata.clone();
    request.set_timeout(timeout);
    let path = PathAndQuery::from_static(match method {
        Method::EmptyCall => "/grpc.testing.TestService/EmptyCall",
        Method::UnaryCall => "/grpc.testing.TestService/UnaryCall",
    });
    let response = match grpc
        .server_streaming(request, path, ProstCodec::<Q, R>::default())
        .await
    {
        Ok(response) => response,
        Err(status) => return Reply::failed(MetadataMap::new(), status),
    };
    let (initial, mut stream, _) = response.into_parts();
    let message = match stream.message().await {
        Ok(Some(message)) => message,
        Ok(None) => return Reply::failed(initial, Status::internal("the response has no message")),
        Err(status) => return Reply::failed(initial, status),
    };
    // The status comes after the message, and can still be an error.
    match stream.trailers().await {
        Ok(trailing) => Reply {
            initial,
            trailing: trailing.unwrap_or_default(),
            message: Ok(message),
        },
        Err(status) => Reply::failed(initial, status),
    }
}

impl<T> Channel for T where
    T: GrpcService<
            Body,
            Error: Send,
            Future: Send,
            ResponseBody: HttpBody<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
        > + Clone
        + Send
        + Sync
        + 'static
{
}

// === impl Reply ===

impl<R> Reply<R> {
    fn failed(initial: MetadataMap, status: Status) -> Self {
        Self {
            initial,
            trailing: status.metadata().clone(),
            message: Err(status),
        }
    }

    fn map<S>(self, change: impl FnOnce(R) -> S) -> Reply<S> {
        let Self {
            initial,
            trailing,
            message,
        } = self;
        Reply {
            initial,
            trailing,
            message: message.map(change),
        }
    }
}
