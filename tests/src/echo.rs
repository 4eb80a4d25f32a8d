//! The service that tests and benchmarks call.

use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::pb::{EchoReply, EchoRequest, echo_server::Echo};

/// Answers with what it was sent, and its name.
#[derive(Debug, Clone)]
pub struct EchoService {
    name: String,
}

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
