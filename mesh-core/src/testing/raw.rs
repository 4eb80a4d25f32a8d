//! Raw mode: the test answers by hand.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use envoy_types::pb::{
    envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse},
    google::protobuf::Any,
};
use futures_util::{Stream, StreamExt};
use prost::Message;
use tokio::{sync::mpsc, time::timeout};
use tonic::Status;

use super::{Request, codec::Protocol, delta::wrapped, render::type_url, shared::Shared};
use crate::{Code, config::Kind};

/// Streams that the test answers by hand, from
/// [`ControlPlane::raw`](super::ControlPlane::raw). Once it is dropped, new streams are served
/// automatically again.
#[derive(Debug)]
pub struct Raw {
    streams: mpsc::UnboundedReceiver<RawStream>,
    patience: Duration,
}

/// One client's stream. Dropping it ends the stream with a status of OK.
#[derive(Debug)]
pub struct RawStream {
    id: u64,
    protocol: Protocol,
    requests: mpsc::UnboundedReceiver<Request>,
    responses: mpsc::Sender<Result<Bytes, Status>>,
    patience: Duration,
}

impl Raw {
    pub(super) fn new(shared: &Shared, patience: Duration) -> Self {
        let (send, streams) = mpsc::unbounded_channel();
        shared.state().raw = Some(send);
        Self { streams, patience }
    }

    /// The next stream that a client opens.
    ///
    /// # Panics
    /// If none does within the control plane's patience.
    pub async fn accept(&mut self) -> RawStream {
        match timeout(self.patience, self.streams.recv()).await {
            Ok(Some(stream)) => stream,
            Ok(None) => panic!(
                "raw mode is over: another `ControlPlane::raw` took its place, or the control plane is gone"
            ),
            Err(_) => panic!("no client opened a stream within {:?}", self.patience),
        }
    }

    /// The next stream, if a client has opened one already.
    pub fn try_accept(&mut self) -> Option<RawStream> {
        self.streams.try_recv().ok()
    }
}

impl RawStream {
    /// The number of this stream.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Whether it is a stream of the incremental protocol.
    pub fn is_delta(&self) -> bool {
        self.protocol == Protocol::Delta
    }

    /// The client's next request.
    ///
    /// # Panics
    /// If none comes within the control plane's patience, or the client closes the stream.
    pub async fn recv(&mut self) -> Request {
        match timeout(self.patience, self.requests.recv()).await {
            Ok(Some(request)) => request,
            Ok(None) => panic!("the client closed stream {} in place of a request", self.id),
            Err(_) => panic!(
                "no request on stream {} within {:?}",
                self.id, self.patience
            ),
        }
    }

    /// The client's next request, if it has arrived already.
    pub fn try_recv(&mut self) -> Option<Request> {
        self.requests.try_recv().ok()
    }

    /// Waits until the client closes the stream or its connection; skips requests.
    ///
    /// # Panics
    /// If that does not happen within the control plane's patience.
    pub async fn closed(&mut self) {
        let closed = async { while self.requests.recv().await.is_some() {} };
        if timeout(self.patience, closed).await.is_err() {
            panic!(
                "the client left stream {} open for {:?}",
                self.id, self.patience
            );
        }
    }

    /// Sends a response, in the words of the stream's protocol: under the incremental one, each
    /// resource has `version` and the name that it carries. Waits while the one before the last has not left yet: a client may be
    /// slow to read.
    ///
    /// # Panics
    /// If the client closed the stream.
    pub async fn send(
        &self,
        kind: Kind,
        version: &str,
        nonce: &str,
        resources: impl IntoIterator<Item = Any>,
    ) {
        self.send_type(type_url(kind), version, nonce, resources)
            .await;
    }

    /// The same for any type of resource.
    ///
    /// # Panics
    /// If the client closed the stream.
    pub async fn send_type(
        &self,
        type_url: &str,
        version: &str,
        nonce: &str,
        resources: impl IntoIterator<Item = Any>,
    ) {
        let (type_url, nonce) = (type_url.to_owned(), nonce.to_owned());
        let resources = resources.into_iter();
        let response = match self.protocol {
            Protocol::Sotw => DiscoveryResponse {
                version_info: version.to_owned(),
                resources: resources.collect(),
                type_url,
                nonce,
                ..DiscoveryResponse::default()
            }
            .encode_to_vec(),
            Protocol::Delta => DeltaDiscoveryResponse {
                system_version_info: version.to_owned(),
                resources: resources.map(|any| wrapped(any, version)).collect(),
                type_url,
                nonce,
                ..DeltaDiscoveryResponse::default()
            }
            .encode_to_vec(),
        };
        self.send_bytes(response).await;
    }

    /// Says that resources do not exist, or no longer. Incremental only.
    ///
    /// # Panics
    /// If the stream is not [incremental](Self::is_delta), or the client closed it.
    pub async fn send_removed(&self, kind: Kind, version: &str, nonce: &str, names: &[&str]) {
        assert!(self.is_delta(), "state of the world has no removals");
        let response = DeltaDiscoveryResponse {
            system_version_info: version.to_owned(),
            type_url: type_url(kind).to_owned(),
            nonce: nonce.to_owned(),
            removed_resources: names.iter().map(|&name| name.to_owned()).collect(),
            ..DeltaDiscoveryResponse::default()
        };
        self.send_bytes(response.encode_to_vec()).await;
    }

    /// Sends a message as it is, which need not be a response at all.
    ///
    /// # Panics
    /// If the client closed the stream.
    pub async fn send_bytes(&self, message: impl Into<Bytes>) {
        if self.responses.send(Ok(message.into())).await.is_err() {
            panic!("the client closed stream {} before a response", self.id);
        }
    }

    /// Ends the stream with a status.
    pub async fn close(self, code: Code, message: &str) {
        let end = match code {
            Code::Ok => return,
            code => Status::new(tonic::Code::from_i32(code as i32), message),
        };
        let _ = self.responses.send(Err(end)).await;
    }
}

/// Hands a stream to the test.
pub(super) fn open(
    shared: Arc<Shared>,
    id: u64,
    protocol: Protocol,
    inbound: impl Stream<Item = Result<Bytes, Status>> + Send + Unpin + 'static,
    responses: mpsc::Sender<Result<Bytes, Status>>,
    raw: &mpsc::UnboundedSender<RawStream>,
) {
    let (send, requests) = mpsc::unbounded_channel();
    let patience = shared.patience();
    let stream = RawStream {
        id,
        protocol,
        requests,
        responses,
        patience,
    };
    // If the test gave up raw mode just now, the stream ends with it.
    let _ = raw.send(stream);
    tokio::spawn(pump(shared, id, protocol, inbound, send));
}

async fn pump(
    shared: Arc<Shared>,
    id: u64,
    protocol: Protocol,
    mut inbound: impl Stream<Item = Result<Bytes, Status>> + Unpin,
    requests: mpsc::UnboundedSender<Request>,
) {
    let mut node = String::new();
    loop {
        let message = tokio::select! {
            message = inbound.next() => message,
            () = requests.closed() => return,
        };
        let Some(Ok(message)) = message else { return };
        let Ok(request) = protocol.read(id, &node, &message) else {
            return;
        };
        node.clone_from(&request.node_id);
        shared.change(|state| state.log.push(request.clone()));
        let _ = requests.send(request);
    }
}
