//! What the calls are.

use bytes::Bytes;
use http_body::Body as HttpBody;
use mesh_tests::{
    bench::BoxError,
    loaded::PAYLOAD,
    pb::{EchoRequest, echo_client::EchoClient},
};
use tonic::{Request, body::Body, client::GrpcService, codegen::StdError, metadata::MetadataMap};

/// Messages that a stream has in each direction.
const MESSAGES: usize = 64;

/// What a call is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    payload: Bytes,
    stream: bool,
}

// === impl Shape ===

impl Shape {
    /// The one that is measured at all loads.
    pub(crate) const PLAIN: &str = "unary";

    /// All of them.
    pub(crate) fn all() -> [Self; 4] {
        let shape = |name, payload: Vec<u8>, stream| Self {
            name,
            payload: payload.into(),
            stream,
        };
        [
            shape(Self::PLAIN, PAYLOAD.to_vec(), false),
            shape("1k", vec![7; 1 << 10], false),
            shape("64k", vec![7; 64 << 10], false),
            shape("stream", PAYLOAD.to_vec(), true),
        ]
    }

    pub(crate) fn named(name: &str) -> Result<Self, BoxError> {
        let mut all = Self::all().into_iter();
        let shape = all.find(|shape| shape.name == name);
        Ok(shape.ok_or_else(|| format!("unknown shape {name:?}: unary, 1k, 64k, stream"))?)
    }

    /// In words.
    pub(crate) fn describe(&self) -> String {
        let bytes = self.payload.len();
        match self.stream {
            false => format!("unary calls with {bytes} bytes in each direction"),
            true => format!("streams of {MESSAGES} messages of {bytes} bytes in each direction"),
        }
    }

    /// Whether a call is more than one message in each direction.
    pub(crate) fn is_stream(&self) -> bool {
        self.stream
    }

    pub(crate) fn message(&self) -> EchoRequest {
        EchoRequest {
            payload: self.payload.clone(),
            count: 0,
        }
    }

    /// Makes one call, and checks its answer.
    pub(crate) async fn call<S>(
        &self,
        client: &mut EchoClient<S>,
        metadata: &MetadataMap,
    ) -> Result<(), BoxError>
    where
        S: GrpcService<
                Body,
                ResponseBody: HttpBody<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
            >,
        S::Error: Into<StdError>,
    {
        if !self.stream {
            let request = Request::from_parts(metadata.clone(), Default::default(), self.message());
            let reply = client.unary(request).await?.into_inner();
            return self.check(&reply.payload, &reply.server);
        }
        let messages = vec![self.message(); MESSAGES];
        let messages = tokio_stream::iter(messages);
        let request = Request::from_parts(metadata.clone(), Default::default(), messages);
        let mut replies = client.chat(request).await?.into_inner();
        let mut got = 0;
        while let Some(reply) = replies.message().await? {
            self.check(&reply.payload, &reply.server)?;
            got += 1;
        }
        match got == MESSAGES {
            true => Ok(()),
            false => Err(format!("{got} answers to {MESSAGES} messages").into()),
        }
    }

    pub(crate) fn check(&self, payload: &[u8], server: &str) -> Result<(), BoxError> {
        match payload == self.payload && server == "bench" {
            true => Ok(()),
            false => Err("the answer is not the echo".into()),
        }
    }
}
