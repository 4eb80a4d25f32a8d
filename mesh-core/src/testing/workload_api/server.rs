//! How streams are served.

use std::{convert::Infallible, io, sync::Arc};

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::{
    io::{copy_bidirectional, duplex},
    net::UnixListener,
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, Context, Poll, Service},
    server::{Grpc, NamedService, ServerStreamingService},
    transport::Server,
};

use super::{Answer, Shared};
use crate::testing::ads_server::Raw;

const FETCH: &str = "/SpiffeWorkloadAPI/FetchX509SVID";
/// The header that proves that nobody was tricked into the request.
const HEADER: &str = "workload.spiffe.io";
/// Bytes that may be under way within a connection.
const BUFFER: usize = 64 << 10;

/// The service.
#[derive(Debug, Clone)]
struct Fetch(Arc<Shared>);

/// A stream that is open.
struct Open {
    shared: Arc<Shared>,
    answers: watch::Receiver<Answer>,
    ended: bool,
}

/// Serves what connects to `listener`. All connections end with the task.
pub(super) fn serve(listener: UnixListener, shared: &Arc<Shared>) -> JoinHandle<()> {
    let (accepted, incoming) = mpsc::channel(1);
    let server = Server::builder().add_service(Fetch(Arc::clone(shared)));
    tokio::spawn(async {
        // Ends once nothing more comes, which it has to say nothing about.
        let _ = server
            .serve_with_incoming(ReceiverStream::new(incoming))
            .await;
    });
    let mut cut = shared.cut.subscribe();
    tokio::spawn(async move {
        // A connection of the server cannot be cut, but what leads to it can.
        let mut links = JoinSet::new();
        loop {
            tokio::select! {
                Ok(()) = cut.changed() => links.abort_all(),
                Some(_) = links.join_next() => {}
                connection = listener.accept() => {
                    let Ok((mut outer, _)) = connection else {
                        return;
                    };
                    let (mut inner, served) = duplex(BUFFER);
                    if accepted.send(Ok::<_, io::Error>(served)).await.is_err() {
                        return;
                    }
                    links.spawn(async move {
                        // However it ends, both sides are closed then.
                        let _ = copy_bidirectional(&mut outer, &mut inner).await;
                    });
                }
            }
        }
    })
}

// === impl Fetch ===

impl NamedService for Fetch {
    const NAME: &'static str = "SpiffeWorkloadAPI";
}

impl Service<http::Request<Body>> for Fetch {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != FETCH {
            let status = Status::unimplemented("only FetchX509SVID is served");
            return Box::pin(async { Ok(status.into_http()) });
        }
        let fetch = self.clone();
        Box::pin(async { Ok(Grpc::new(Raw).server_streaming(fetch, request).await) })
    }
}

impl ServerStreamingService<Bytes> for Fetch {
    type Response = Bytes;
    type ResponseStream = BoxStream<'static, Result<Bytes, Status>>;
    type Future = BoxFuture<tonic::Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let header = request.metadata().get(HEADER);
        if header.is_none_or(|value| value != "true") {
            let status = Status::invalid_argument(format!("the header {HEADER}: true is missing"));
            return Box::pin(async { Err(status) });
        }
        let open = Open::new(Arc::clone(&self.0));
        let messages = stream::unfold(open, |mut open| async {
            let message = open.next().await?;
            Some((message, open))
        });
        Box::pin(async { Ok(tonic::Response::new(messages.boxed())) })
    }
}

// === impl Open ===

impl Open {
    fn new(shared: Arc<Shared>) -> Self {
        shared.streams.send_modify(|open| *open += 1);
        let mut answers = shared.answer.subscribe();
        answers.mark_changed();
        Self {
            shared,
            answers,
            ended: false,
        }
    }

    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        while !self.ended {
            self.answers.changed().await.ok()?;
            let answer = self.answers.borrow_and_update();
            if let Some(code) = answer.refusal {
                self.ended = true;
                let code = tonic::Code::from_i32(code as i32);
                return Some(Err(Status::new(code, "told to refuse")));
            }
            if let Some(message) = &answer.message {
                return Some(Ok(message.clone()));
            }
        }
        None
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.streams.send_modify(|open| *open -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_without_the_header_is_refused() {
        let shared = Arc::<Shared>::default();
        let mut fetch = Fetch(Arc::clone(&shared));
        let refused =
            ServerStreamingService::call(&mut fetch, tonic::Request::new(Bytes::new())).await;
        let status = refused.err().expect("refused");
        assert_eq!(status.code(), tonic::Code::InvalidArgument);

        let mut request = tonic::Request::new(Bytes::new());
        let value = "true".parse().expect("a value");
        request.metadata_mut().insert(HEADER, value);
        let opened = ServerStreamingService::call(&mut fetch, request).await;
        assert!(opened.is_ok());
        assert_eq!(*shared.streams.borrow(), 1);
        drop(opened);
        assert_eq!(*shared.streams.borrow(), 0);
    }
}
