//! One call and its answer.

use std::{error::Error as _, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, uri::PathAndQuery};
use http_body_util::{BodyExt, Full};
use mesh_hyper::{CallOptions, Client};
use mesh_tonic::Channel;
use tonic::{Status, client::Grpc, metadata::MetadataMap};
use tonic_prost::ProstCodec;

use super::Caller;
use crate::{
    echo,
    pb::{EchoReply, EchoRequest},
};

/// What is asked of a server: to be sent back a payload.
#[derive(Debug, Clone)]
pub struct Ask {
    pub(super) path: &'static str,
    pub(super) headers: HeaderMap,
    pub(super) payload: Bytes,
    pub(super) timeout: Option<Duration>,
    pub(super) wait_for_ready: Option<bool>,
}

/// What a server answered.
#[derive(Debug, Clone)]
pub struct Reply {
    /// What it calls itself.
    pub server: String,
    /// What it was sent.
    pub payload: Bytes,
    /// The headers of its response.
    pub headers: HeaderMap,
}

/// Makes calls of the echo service.
pub trait Call: Clone + Send + Sync + 'static {
    /// Makes one call.
    ///
    /// # Errors
    /// If the call fails. Failures of plain HTTP are told in gRPC's words, so that one test can
    /// judge both: a response's status as "HTTP to gRPC Status Code Mapping" has it. [`cause`] tells
    /// what the mesh knows of it.
    fn ask(&self, ask: Ask) -> impl Future<Output = Result<Reply, Status>> + Send;

    /// Makes a call in which nothing is particular; the name of the server that answered.
    ///
    /// # Errors
    /// If the call fails.
    fn call(&self) -> impl Future<Output = Result<String, Status>> + Send {
        async { Ok(self.ask(Ask::new("ping")).await?.server) }
    }
}

/// What the mesh knows of a call that failed.
///
/// # Panics
/// If the failure is the server's answer.
pub fn cause(status: &Status) -> &mesh_hyper::Error {
    if let Some(error) = mesh_tonic::Error::of(status) {
        return error.cause();
    }
    let source = status.source().and_then(|source| source.downcast_ref());
    source.unwrap_or_else(|| panic!("the server's answer: {status:?}"))
}

// === impl Ask ===

impl Ask {
    /// To be sent back this, once it has all come.
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self {
            path: echo::UNARY,
            headers: HeaderMap::new(),
            payload: payload.into(),
            timeout: None,
            wait_for_ready: None,
        }
    }

    /// Under this path.
    pub fn path(mut self, path: &'static str) -> Self {
        self.path = path;
        self
    }

    /// With another header.
    ///
    /// # Panics
    /// If it cannot be one.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("a test's header is valid");
        self.headers.append(HeaderName::from_static(name), value);
        self
    }

    /// Within this time: a deadline of gRPC, a timeout of HTTP.
    pub fn timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.timeout = limit.into();
        self
    }

    /// Waits for configuration and a connected endpoint where it would fail at once, or does not,
    /// whatever its caller does.
    pub fn wait_for_ready(mut self, wait: bool) -> Self {
        self.wait_for_ready = Some(wait);
        self
    }

    /// As a request of gRPC with this message, or these messages.
    pub(super) fn grpc<T>(self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        *request.metadata_mut() = MetadataMap::from_headers(self.headers);
        if let Some(timeout) = self.timeout {
            request.set_timeout(timeout);
        }
        if let Some(wait) = self.wait_for_ready {
            let options = mesh_tonic::CallOptions::default().wait_for_ready(wait);
            request.extensions_mut().insert(options);
        }
        request
    }

    /// As a request of HTTP with this body.
    pub(super) fn http<B>(self, body: B) -> Request<B> {
        let mut request = Request::new(body);
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = http::Uri::from_static(self.path);
        *request.headers_mut() = self.headers;
        if self.timeout.is_some() || self.wait_for_ready.is_some() {
            let mut options = CallOptions::default();
            if let Some(timeout) = self.timeout {
                options = options.timeout(timeout);
            }
            if let Some(wait) = self.wait_for_ready {
                options = options.wait_for_ready(wait);
            }
            request.extensions_mut().insert(options);
        }
        request
    }
}

// === impl Call ===

impl Call for Caller {
    async fn ask(&self, ask: Ask) -> Result<Reply, Status> {
        match self {
            Self::Grpc(channel) => channel.ask(ask).await,
            Self::Http(client) => client.ask(ask).await,
        }
    }
}

impl Call for Channel {
    async fn ask(&self, ask: Ask) -> Result<Reply, Status> {
        let path = PathAndQuery::from_static(ask.path);
        let message = EchoRequest {
            payload: ask.payload.clone(),
            count: 1,
        };
        let codec = ProstCodec::<EchoRequest, EchoReply>::default();
        let reply = grpc(self).unary(ask.grpc(message), path, codec).await?;
        let (metadata, reply, _) = reply.into_parts();
        Ok(Reply {
            server: reply.server,
            payload: reply.payload,
            headers: metadata.into_headers(),
        })
    }
}

impl Call for Client {
    async fn ask(&self, ask: Ask) -> Result<Reply, Status> {
        let body = Full::new(ask.payload.clone());
        let (server, response) = answer(self.request(ask.http(body)).await).await?;
        let (head, body) = response.into_parts();
        let payload = body.collect().await.map_err(failed)?.to_bytes();
        Ok(Reply {
            server,
            payload,
            headers: head.headers,
        })
    }
}

/// A client of any method, which takes messages of any size.
pub(super) fn grpc(channel: &Channel) -> Grpc<Channel> {
    Grpc::new(channel.clone())
        .max_decoding_message_size(usize::MAX)
        .max_encoding_message_size(usize::MAX)
}

type Response = http::Response<mesh_hyper::ResponseBody>;

/// A response that is good, and the name of its server.
pub(super) async fn answer(
    response: Result<Response, mesh_hyper::Error>,
) -> Result<(String, Response), Status> {
    let response = response.map_err(failed)?;
    if response.status() != StatusCode::OK {
        let code = code_of(response.status());
        let text = response.into_body().collect().await.map_err(failed)?;
        let text = String::from_utf8_lossy(&text.to_bytes()).into_owned();
        return Err(Status::new(code, text));
    }
    let server = response.headers().get(echo::SERVER);
    let server = server.and_then(|server| server.to_str().ok());
    let server = server.unwrap_or_default().to_owned();
    Ok((server, response))
}

pub(super) fn failed(error: mesh_hyper::Error) -> Status {
    let code = tonic::Code::from_i32(error.code() as i32);
    let mut status = Status::new(code, error.message());
    status.set_source(Arc::new(error));
    status
}

/// "HTTP to gRPC Status Code Mapping" of gRPC's documentation.
fn code_of(status: StatusCode) -> tonic::Code {
    match status.as_u16() {
        400 => tonic::Code::Internal,
        401 => tonic::Code::Unauthenticated,
        403 => tonic::Code::PermissionDenied,
        404 => tonic::Code::Unimplemented,
        429 | 502..=504 => tonic::Code::Unavailable,
        _ => tonic::Code::Unknown,
    }
}
