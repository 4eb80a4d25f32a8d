//! A call at a server, and what a test does with it.

use std::{error::Error, fmt, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header::CONTENT_TYPE,
    request::Parts,
};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::sync::watch;
use tonic::{Code, Status, body::Body, codegen::Service};

use crate::{
    echo::{self, EchoService},
    pb::echo_server::EchoServer,
};

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// A call that waits for its answer. Dropping it without one resets it.
pub struct Call {
    /// Its place among the calls to the server, from 1.
    pub number: u64,
    /// Its head.
    pub head: Parts,
    body: Body,
    name: Arc<str>,
    released: watch::Receiver<u64>,
}

/// What a call is answered with.
pub type Answer = Result<Response<Body>, Reset>;

/// Resets the stream; over HTTP/1.1 the connection is closed.
#[derive(Debug)]
pub struct Reset(h2::Error);

// === impl Call ===

impl Call {
    pub(super) fn new(
        number: u64,
        head: Parts,
        body: Body,
        name: &Arc<str>,
        released: watch::Receiver<u64>,
    ) -> Self {
        Self {
            number,
            head,
            body,
            name: Arc::clone(name),
            released,
        }
    }

    /// Whether it is of gRPC, and not of plain HTTP.
    pub fn is_grpc(&self) -> bool {
        self.head.headers.get(CONTENT_TYPE) == Some(&GRPC)
    }

    /// The echo's answer.
    pub async fn echo(self) -> Answer {
        let grpc = self.is_grpc();
        let request = Request::from_parts(self.head, self.body);
        if !grpc {
            return echo::plain(&self.name, request).await.map_err(broken);
        }
        let mut echo = EchoServer::new(EchoService::new(&*self.name))
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX);
        let answer = echo.call(request).await;
        Ok(answer.unwrap_or_else(|never| match never {}))
    }

    /// The echo's answer with more headers, and more trailers.
    pub async fn echo_with(self, headers: HeaderMap, trailers: HeaderMap) -> Answer {
        let mut response = self.echo().await?;
        response.headers_mut().extend(headers);
        Ok(response.map(|body| {
            Body::new(body.map_frame(move |mut frame| {
                if let Some(last) = frame.trailers_mut() {
                    last.extend(trailers.clone());
                }
                frame
            }))
        }))
    }

    /// Nothing but trailers; of plain HTTP the status that stands for it, and the message.
    pub async fn fail(mut self, status: Status) -> Answer {
        if self.is_grpc() {
            return Ok(status.into_http());
        }
        // What is not read keeps HTTP/1.1 from taking more requests. A stream may have no end.
        if self.body.size_hint().exact().is_some() {
            self.read().await.map_err(broken)?;
        }
        let message = Bytes::from(status.message().to_owned());
        let mut response = Response::new(Body::new(Full::new(message)));
        *response.status_mut() = http_status(status.code());
        Ok(response)
    }

    /// Headers, then trailers with this status; of plain HTTP a body that breaks off once the request
    /// has ended.
    pub async fn headers_then(mut self, status: Status) -> Answer {
        if !self.is_grpc() {
            let request = std::mem::take(&mut self.body);
            let breaks = futures_util::stream::once(async move {
                request.collect().await?;
                Err::<Frame<Bytes>, _>(status)
            });
            return Ok(self.begin(Body::new(StreamBody::new(Box::pin(breaks)))));
        }
        let mut trailers = HeaderMap::new();
        status
            .add_header(&mut trailers)
            .expect("a status of a test can be a header");
        let body = Full::new(Bytes::new()).with_trailers(std::future::ready(Some(Ok(trailers))));
        Ok(self.begin(Body::new(body)))
    }

    /// Headers, and nothing more.
    pub async fn stall(mut self) -> Answer {
        // The request stays open too, and is read: over HTTP/1.1 its end is seen no other way.
        let request = std::mem::take(&mut self.body);
        let nothing = futures_util::stream::once(async move {
            request.collect().await?;
            std::future::pending::<Result<Frame<Bytes>, Status>>().await
        });
        Ok(self.begin(Body::new(StreamBody::new(Box::pin(nothing)))))
    }

    /// Nothing at all until the server releases its calls, which are echoed then.
    pub async fn hold(mut self) -> Answer {
        // Over HTTP/1.1 nobody sees that a client has gone while there is something to be read.
        if self.head.version <= Version::HTTP_11 {
            self.read().await.map_err(broken)?;
        }
        // The sender is the server's, which drops this first.
        let _ = self.released.changed().await;
        self.echo().await
    }

    /// Resets the stream; over HTTP/1.1 the connection is closed.
    pub async fn reset(self, reason: h2::Reason) -> Answer {
        Err(Reset(reason.into()))
    }

    /// Reads the request to its end. It can be echoed nevertheless.
    ///
    /// # Errors
    /// If it breaks off.
    pub async fn read(&mut self) -> Result<Bytes, Status> {
        let bytes = std::mem::take(&mut self.body).collect().await?.to_bytes();
        self.body = Body::new(Full::new(bytes.clone()));
        Ok(bytes)
    }

    /// A response that begins well.
    fn begin(&self, body: Body) -> Response<Body> {
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        if self.is_grpc() {
            headers.insert(CONTENT_TYPE, GRPC);
        }
        let name = HeaderValue::from_str(&self.name).expect("a name is a header's value");
        headers.insert(echo::SERVER, name);
        response
    }
}

/// A request that broke off has nobody to answer.
fn broken(_: Status) -> Reset {
    Reset(h2::Reason::CANCEL.into())
}

/// "Code enum documentation" of `google.rpc.Code`.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Cancelled | Code::Unknown | Code::Internal | Code::DataLoss => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("number", &self.number)
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

// === impl Reset ===

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Reset {
    /// Where hyper looks for the reason.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}
