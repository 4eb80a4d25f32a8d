//! A control plane whose responses are bytes, so that it costs nothing itself.

use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource,
};
use http::HeaderMap;
use mesh_core::{
    bootstrap::{Bootstrap, ServerConfig, ServerFeatures},
    control::xds::{FilterRegistry, PolicyRegistry, XdsClient, XdsOptions, decode::Decoder},
    runtime::{
        Limits, Messages, Resolve, ResolveFuture, RpcStatus, SideCall, SideCallError,
        SideCallFuture,
    },
};
use mesh_tests::xds::pack;
use parking_lot::Mutex;
use prost::{Message, Name};
use tokio::sync::mpsc;

/// The server's end of the client's one stream, which is incremental.
pub(crate) struct Wire {
    send: mpsc::Sender<Result<Bytes, RpcStatus>>,
    requests: mpsc::Receiver<Bytes>,
    nonce: u64,
}

#[derive(Debug)]
struct OneStream(Mutex<Option<Messages>>);

/// Nobody is looked up.
#[derive(Debug)]
pub(crate) struct Nobody;

/// A client and the other end of its stream.
pub(crate) fn client() -> (Arc<XdsClient>, Wire) {
    let (send, recv) = mpsc::channel(1);
    let (asks, requests) = mpsc::channel(1);
    let calls = OneStream(Mutex::new(Some(Messages { send: asks, recv })));
    let mut features = ServerFeatures::default();
    features.delta = true;
    let bootstrap = Bootstrap::builder()
        .server(ServerConfig::insecure("canned:1").features(features))
        .node_id("scale")
        .build()
        .expect("an address is enough");
    let client = XdsClient::new(
        Arc::new(bootstrap),
        Arc::new(decoder()),
        Arc::new(calls),
        XdsOptions::default(),
    );
    let wire = Wire {
        send,
        requests,
        nonce: 0,
    };
    (client, wire)
}

/// Decodes with what a mesh knows.
pub(crate) fn decoder() -> Decoder {
    Decoder::new(FilterRegistry::standard(), PolicyRegistry::standard(), [])
}

/// A response, encoded.
pub(crate) fn response<M: Message + Name>(
    nonce: u64,
    version: &str,
    resources: impl IntoIterator<Item = (String, M)>,
) -> Bytes {
    let wrap = |(name, message): (String, M)| Resource {
        name,
        version: version.to_owned(),
        resource: Some(pack(&message)),
        ..Resource::default()
    };
    let response = DeltaDiscoveryResponse {
        resources: resources.into_iter().map(wrap).collect(),
        type_url: M::type_url(),
        nonce: nonce.to_string(),
        ..DeltaDiscoveryResponse::default()
    };
    response.encode_to_vec().into()
}

impl Wire {
    /// Waits until so many names of a type have been asked for.
    pub(crate) async fn asked<M: Name>(&mut self, names: usize) {
        let mut asked = 0;
        while asked < names {
            let request = self.request().await;
            if request.type_url == M::type_url() {
                asked += request.resource_names_subscribe.len();
            }
        }
    }

    /// Sends a response of the next nonce; returns when it is in force, which its ACK says.
    pub(crate) async fn apply(&mut self, response: Bytes) {
        self.nonce += 1;
        let nonce = self.nonce.to_string();
        self.send
            .send(Ok(response))
            .await
            .expect("the client is there");
        loop {
            let request = self.request().await;
            if request.response_nonce == nonce {
                assert!(request.error_detail.is_none(), "{request:?}");
                return;
            }
        }
    }

    async fn request(&mut self) -> DeltaDiscoveryRequest {
        let request = self.requests.recv().await.expect("the client is there");
        DeltaDiscoveryRequest::decode(request).expect("clients send requests")
    }
}

impl SideCall for OneStream {
    fn stream(
        &self,
        server: &ServerConfig,
        _: &'static str,
        _: HeaderMap,
        _: Limits,
    ) -> SideCallFuture {
        let messages = self.0.lock().take();
        let server = server.uri.to_string();
        Box::pin(async move {
            messages.ok_or_else(|| SideCallError {
                server,
                reason: "there was one stream".to_owned(),
            })
        })
    }
}

impl Resolve for Nobody {
    fn resolve(&self, _: &Arc<str>) -> ResolveFuture {
        Box::pin(std::future::pending())
    }
}
