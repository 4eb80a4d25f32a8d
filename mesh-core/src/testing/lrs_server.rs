//! The load reporting service (LRS), and the life of its stream.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use envoy_types::pb::envoy::service::load_stats::v3::LoadStatsRequest;
use futures_util::{Stream, StreamExt};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Status, Streaming,
    body::Body,
    codegen::{BoxFuture, Context, Poll, Service, http},
    server::{Grpc, NamedService, StreamingService},
};

use super::{
    ads_server::{Outbound, Raw},
    loads::{LoadOrder, LoadReport, ReportedCluster},
    shared::Shared,
};

/// The service.
#[derive(Debug, Clone)]
pub(super) struct LrsServer(pub(super) Arc<Shared>);

/// The path of its only method.
pub(super) const PATH: &str = "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats";

impl NamedService for LrsServer {
    const NAME: &'static str = "envoy.service.load_stats.v3.LoadReportingService";
}

impl Service<http::Request<Body>> for LrsServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != PATH {
            let status = Status::unimplemented("only StreamLoadStats is served");
            return Box::pin(async { Ok(status.into_http()) });
        }
        let service = self.clone();
        Box::pin(async { Ok(Grpc::new(Raw).streaming(service, request).await) })
    }
}

impl StreamingService<Bytes> for LrsServer {
    type Response = Bytes;
    type ResponseStream = ReceiverStream<Result<Bytes, Status>>;
    type Future = BoxFuture<tonic::Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: tonic::Request<Streaming<Bytes>>) -> Self::Future {
        let outbound = open(Arc::clone(&self.0), request.into_inner());
        Box::pin(async { Ok(tonic::Response::new(ReceiverStream::new(outbound))) })
    }
}

/// Serves a stream that was opened.
pub(super) fn open(
    shared: Arc<Shared>,
    inbound: impl Stream<Item = Result<Bytes, Status>> + Send + Unpin + 'static,
) -> Outbound {
    let (send, outbound) = mpsc::channel(1);
    tokio::spawn(serve(OpenStream::new(shared), inbound, send));
    outbound
}

/// Counts as open while it lives.
struct OpenStream {
    shared: Arc<Shared>,
    id: u64,
}

impl OpenStream {
    fn new(shared: Arc<Shared>) -> Self {
        let id = shared.change(|state| {
            state.loads.open += 1;
            state.loads.opened += 1;
            state.loads.opened
        });
        Self { shared, id }
    }

    /// What it is to be told, unless that is `told` already; or how it ends.
    fn next(&self, told: Option<&LoadOrder>) -> Result<Option<LoadOrder>, Status> {
        let state = self.shared.state();
        let loads = &state.loads;
        if let Some(code) = loads.refusal {
            let code = tonic::Code::from_i32(code as i32);
            return Err(Status::new(code, "told to refuse load reports"));
        }
        if self.id < loads.ended {
            return Err(Status::unavailable("the control plane dropped the stream"));
        }
        Ok((told != Some(&loads.order)).then(|| loads.order.clone()))
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.shared.change(|state| state.loads.open -= 1);
    }
}

async fn serve(
    stream: OpenStream,
    mut inbound: impl Stream<Item = Result<Bytes, Status>> + Unpin,
    outbound: mpsc::Sender<Result<Bytes, Status>>,
) {
    let mut work = stream.shared.work.subscribe();
    let (mut told, mut node) = (None, None);
    loop {
        // Nothing is said before the client has said who it is.
        if node.is_some() {
            let say = match stream.next(told.as_ref()) {
                Ok(None) => None,
                Ok(Some(order)) => Some(Ok(told.insert(order).encode())),
                Err(status) => Some(Err(status)),
            };
            let end = matches!(say, Some(Err(_)));
            if let Some(say) = say
                && (outbound.send(say).await.is_err() || end)
            {
                return;
            }
        }
        tokio::select! {
            biased;
            message = inbound.next() => {
                let Some(Ok(message)) = message else { return };
                let request = match LoadStatsRequest::decode(message) {
                    Ok(request) => request,
                    Err(error) => {
                        let status = Status::invalid_argument(error.to_string());
                        let _ = outbound.send(Err(status)).await;
                        return;
                    }
                };
                let Some(who) = &node else {
                    let Some(first) = request.node else {
                        let status = Status::invalid_argument("the first message has no node");
                        let _ = outbound.send(Err(status)).await;
                        return;
                    };
                    node = Some(first);
                    continue;
                };
                let clusters = request.cluster_stats.into_iter();
                let report = LoadReport {
                    stream: stream.id,
                    node: who.id.clone(),
                    features: who.client_features.clone(),
                    clusters: clusters.map(ReportedCluster::read).collect(),
                };
                stream.shared.change(|state| state.loads.reports.push(report));
            }
            _ = work.changed() => {}
            () = outbound.closed() => return,
        }
    }
}
