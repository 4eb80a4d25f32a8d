//! The gRPC service, and the life of a stream.

use std::{convert::Infallible, sync::Arc};

use bytes::{Buf, BufMut, Bytes};
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Status, Streaming,
    body::Body,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::{BoxFuture, Context, Poll, Service, http},
    server::{Grpc, NamedService, StreamingService},
};

use super::{
    codec::Protocol,
    raw,
    shared::{Shared, Step, Stream as OpenStream},
};

/// Messages to a client, encoded.
pub(super) type Outbound = mpsc::Receiver<Result<Bytes, Status>>;

/// The aggregated discovery service.
#[derive(Debug, Clone)]
pub(super) struct AdsServer(pub(super) Arc<Shared>);

impl NamedService for AdsServer {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl Service<http::Request<Body>> for AdsServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Some(protocol) = Protocol::served_at(request.uri().path()) else {
            let status = Status::unimplemented("only the aggregated streams are served");
            return Box::pin(async { Ok(status.into_http()) });
        };
        let streams = Streams(Arc::clone(&self.0), protocol);
        Box::pin(async {
            let mut grpc = Grpc::new(Raw).apply_max_message_size_config(Some(usize::MAX), None);
            Ok(grpc.streaming(streams, request).await)
        })
    }
}

#[derive(Debug)]
struct Streams(Arc<Shared>, Protocol);

impl StreamingService<Bytes> for Streams {
    type Response = Bytes;
    type ResponseStream = ReceiverStream<Result<Bytes, Status>>;
    type Future = BoxFuture<tonic::Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: tonic::Request<Streaming<Bytes>>) -> Self::Future {
        let outbound = open(Arc::clone(&self.0), self.1, request.into_inner());
        Box::pin(async { Ok(tonic::Response::new(ReceiverStream::new(outbound))) })
    }
}

/// Serves a stream that was opened, or hands it to the test in raw mode.
pub(super) fn open(
    shared: Arc<Shared>,
    protocol: Protocol,
    inbound: impl Stream<Item = Result<Bytes, Status>> + Send + Unpin + 'static,
) -> Outbound {
    let (send, outbound) = mpsc::channel(1);
    let id = shared.new_stream_id();
    let raw = shared.state().raw.clone();
    match raw {
        Some(raw) if !raw.is_closed() => raw::open(shared, id, protocol, inbound, send, &raw),
        _ => {
            let stream = Registered::new(shared, id, protocol);
            tokio::spawn(serve(stream, inbound, send));
        }
    }
    outbound
}

/// An open stream in the state, for as long as it is open.
struct Registered {
    shared: Arc<Shared>,
    id: u64,
}

impl Registered {
    fn new(shared: Arc<Shared>, id: u64, protocol: Protocol) -> Self {
        let stream = OpenStream::new(protocol);
        shared.state().streams.insert(id, stream);
        shared.seen.send_replace(());
        Self { shared, id }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.shared.state().streams.remove(&self.id);
        self.shared.seen.send_replace(());
    }
}

async fn serve(
    stream: Registered,
    mut inbound: impl Stream<Item = Result<Bytes, Status>> + Unpin,
    outbound: mpsc::Sender<Result<Bytes, Status>>,
) {
    let Registered { shared, id } = &stream;
    let mut work = shared.work.subscribe();
    loop {
        let send = match shared.step(*id) {
            Step::Send => true,
            Step::Wait => false,
            Step::End(status) => {
                let _ = outbound.send(Err(status)).await;
                return;
            }
        };
        tokio::select! {
            biased;
            message = inbound.next() => match message {
                Some(Ok(message)) => {
                    if let Err(status) = shared.request(*id, &message) {
                        let _ = outbound.send(Err(status)).await;
                        return;
                    }
                }
                Some(Err(_)) | None => return,
            },
            permit = outbound.reserve(), if send => match permit {
                Ok(permit) => if let Some(message) = shared.respond(*id) {
                    permit.send(Ok(message.into()));
                },
                Err(_) => return,
            },
            _ = work.changed() => {}
        }
    }
}

/// Messages as they are on the wire, so that a test can send ones that are none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
