//! The service that tests and benchmarks call, over gRPC and over plain HTTP.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{HeaderName, HeaderValue};
use http_body_util::{BodyExt, Full};
use tonic::{Request, Response, Status, Streaming, body::Body, codegen::StdError};

use crate::pb::{EchoReply, EchoRequest, echo_server::Echo};

/// The path of calls whose answer comes at the end.
pub const UNARY: &str = "/mesh.test.Echo/Unary";
/// The path of calls whose pieces are answered as they come.
pub const CHAT: &str = "/mesh.test.Echo/Chat";
/// Where a plain answer has the name of its server.
pub const SERVER: HeaderName = HeaderName::from_static("x-server");

/// Answers with what it was sent, and its name.
#[derive(Debug, Clone)]
pub struct EchoService {
    name: String,
}

/// The same for plain HTTP: the request's body, and the name in [`SERVER`]. Under [`CHAT`] each piece is
/// answered as it comes, everywhere else all of them at the end.
///
/// # Errors
/// If the request breaks off.
pub async fn plain<B>(name: &str, request: http::Request<B>) -> Result<http::Response<Body>, Status>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
{
    let chat = request.uri().path() == CHAT;
    let body = Body::new(request.into_body());
    let body = match chat {
        true => body,
        false => Body::new(Full::new(body.collect().await?.to_bytes())),
    };
    let mut response = http::Response::new(body);
    let name = HeaderValue::from_str(name).expect("a name of a test is a header's value");
    response.headers_mut().insert(SERVER, name);
    Ok(response)
}

// === impl EchoService ===

impl EchoService {
    /// An echo that calls itself `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    fn reply(&self, payload: bytes::Bytes) -> EchoReply {
        EchoReply {
            payload,
            server: self.name.clone(),
        }
    }
}

type Replies = Pin<Box<dyn Stream<Item = Result<EchoReply, Status>> + Send>>;

#[tonic::async_trait]
impl Echo for EchoService {
    type ExpandStream = Replies;
    type ChatStream = Replies;

    async fn unary(&self, request: Request<EchoRequest>) -> Result<Response<EchoReply>, Status> {
        Ok(Response::new(self.reply(request.into_inner().payload)))
    }

    async fn collect(
        &self,
        request: Request<Streaming<EchoRequest>>,
    ) -> Result<Response<EchoReply>, Status> {
        let mut messages = request.into_inner();
        let mut joined = Vec::new();
        while let Some(message) = messages.message().await? {
            joined.extend_from_slice(&message.payload);
        }
        Ok(Response::new(self.reply(joined.into())))
    }

    async fn expand(&self, request: Request<EchoRequest>) -> Result<Response<Replies>, Status> {
        let EchoRequest { payload, count } = request.into_inner();
        let echo = self.clone();
        let replies = (0..count).map(move |_| Ok(echo.reply(payload.clone())));
        Ok(Response::new(Box::pin(futures_util::stream::iter(replies))))
    }

    async fn chat(
        &self,
        request: Request<Streaming<EchoRequest>>,
    ) -> Result<Response<Replies>, Status> {
        let echo = self.clone();
        let replies = request
            .into_inner()
            .map(move |message| message.map(|message| echo.reply(message.payload)));
        Ok(Response::new(Box::pin(replies)))
    }
}
