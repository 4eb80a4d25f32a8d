mod delta;
mod http_rendering;
mod in_memory;
mod protocol;
mod rendering;
mod server;
mod server_rendering;

use std::net::SocketAddr;

use envoy_types::pb::envoy::{
    config::core::v3::Node,
    service::discovery::v3::{
        DiscoveryRequest, DiscoveryResponse,
        aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    },
};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Endpoint as Target};

use super::{ControlPlane, render::type_url};
use crate::config::Kind;

const NODE: &str = "test-node";

fn address(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// A generated client, as any other would be used.
struct Client {
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
}

impl Client {
    async fn connect(control_plane: &ControlPlane) -> Self {
        Self::try_connect(control_plane).await.unwrap()
    }

    async fn try_connect(control_plane: &ControlPlane) -> Result<Self, tonic::transport::Error> {
        let uri = format!("http://{}", control_plane.address().unwrap());
        let channel = Target::from_shared(uri).unwrap().connect().await?;
        let mut client =
            AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(usize::MAX);
        let (requests, outbound) = mpsc::channel(16);
        let responses = client
            .stream_aggregated_resources(ReceiverStream::new(outbound))
            .await
            .unwrap()
            .into_inner();
        Ok(Self {
            requests,
            responses,
        })
    }

    /// Asks for resources in the first request of a kind on the stream.
    async fn subscribe(&self, kind: Kind, names: &[&str]) {
        self.send(request(kind, names)).await;
    }

    async fn send(&self, request: DiscoveryRequest) {
        self.requests.send(request).await.unwrap();
    }

    async fn recv(&mut self) -> DiscoveryResponse {
        self.responses.message().await.unwrap().unwrap()
    }

    /// The response is expected to be of this kind, and to carry these resources.
    async fn expect(&mut self, kind: Kind, names: &[&str]) -> DiscoveryResponse {
        let response = self.recv().await;
        assert_eq!(response.type_url, type_url(kind));
        assert_eq!(resource_names(&response), names);
        response
    }

    async fn ack(&self, response: &DiscoveryResponse, names: &[&str]) {
        self.send(ack(response, names)).await;
    }

    async fn nack(&self, response: &DiscoveryResponse, names: &[&str], message: &str) {
        self.send(nack(response, names, message)).await;
    }

    async fn expect_and_ack(&mut self, kind: Kind, names: &[&str]) -> DiscoveryResponse {
        let response = self.expect(kind, names).await;
        self.ack(&response, names).await;
        response
    }

    /// How the stream ends.
    async fn end(&mut self) -> Result<(), Status> {
        while self.responses.message().await?.is_some() {}
        Ok(())
    }
}

fn request(kind: Kind, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        node: Some(node(NODE)),
        type_url: type_url(kind).to_owned(),
        resource_names: names.iter().map(|&name| name.to_owned()).collect(),
        ..DiscoveryRequest::default()
    }
}

fn node(id: &str) -> Node {
    Node {
        id: id.to_owned(),
        ..Node::default()
    }
}

fn ack(response: &DiscoveryResponse, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        version_info: response.version_info.clone(),
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        resource_names: names.iter().map(|&name| name.to_owned()).collect(),
        ..DiscoveryRequest::default()
    }
}

fn nack(response: &DiscoveryResponse, names: &[&str], message: &str) -> DiscoveryRequest {
    DiscoveryRequest {
        version_info: String::new(),
        error_detail: Some(envoy_types::pb::google::rpc::Status {
            code: 3,
            message: message.to_owned(),
            details: Vec::new(),
        }),
        ..ack(response, names)
    }
}

fn resource_names(response: &DiscoveryResponse) -> Vec<String> {
    #[derive(Clone, PartialEq, Message)]
    struct Named {
        #[prost(string, tag = "1")]
        name: String,
    }
    let resources = response.resources.iter();
    resources
        .map(|any| Named::decode(&any.value[..]).unwrap().name)
        .collect()
}
