//! The incremental protocol: on one stream without IO, and over a socket.

use envoy_types::pb::{
    envoy::service::discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource,
        aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    },
    google::{protobuf::Any, rpc},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint as Target;

use super::{NODE, address, node};
use crate::{
    config::Kind,
    testing::{ControlPlane, Request, codec::Answer, delta::Delta, render::type_url, store::Store},
};

const CLUSTER: Kind = Kind::Cluster;

/// A stream between a store and a client that is played by the test.
#[derive(Default)]
struct Stream {
    store: Store,
    codec: Delta,
}

impl Stream {
    fn put(&mut self, name: &str, value: u8) {
        let any = Any {
            type_url: type_url(CLUSTER).to_owned(),
            value: vec![value],
        };
        let url = type_url(CLUSTER);
        self.store.put(&None, url, name.to_owned(), any);
    }

    fn remove(&mut self, name: &str) {
        self.store.remove(&None, type_url(CLUSTER), name);
    }

    fn request(&mut self, request: DeltaDiscoveryRequest) -> Answer {
        self.codec.request(&Request::delta(1, NODE, request))
    }

    fn ask(&mut self, more: &[&str], less: &[&str]) {
        assert_eq!(self.request(asks(more, less)), Answer::None);
    }

    fn respond(&mut self) -> Option<DeltaDiscoveryResponse> {
        self.codec.respond(&self.store, NODE)
    }

    /// The next response: names with values, and what is removed; it is accepted.
    #[track_caller]
    fn expect(&mut self, resources: &[(&str, u8)], removed: &[&str]) {
        let response = self.respond().expect("a response is due");
        let sent: Vec<_> = response.resources.iter().map(content).collect();
        assert_eq!(sent, resources);
        assert_eq!(response.removed_resources, removed);
        assert_eq!(self.request(answer(&response, None)), Answer::Ack);
    }

    #[track_caller]
    fn quiet(&mut self) {
        assert_eq!(self.respond(), None);
    }

    fn acked(&self) -> Option<u64> {
        self.codec.progress(type_url(CLUSTER)).unwrap().acked
    }
}

fn content(resource: &Resource) -> (&str, u8) {
    (&resource.name, resource.resource.as_ref().unwrap().value[0])
}

fn asks(more: &[&str], less: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(node(NODE)),
        type_url: type_url(CLUSTER).to_owned(),
        resource_names_subscribe: more.iter().map(|&name| name.to_owned()).collect(),
        resource_names_unsubscribe: less.iter().map(|&name| name.to_owned()).collect(),
        ..Default::default()
    }
}

fn answer(response: &DeltaDiscoveryResponse, error: Option<&str>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        response_nonce: response.nonce.clone(),
        error_detail: error.map(|message| rpc::Status {
            code: 3,
            message: message.to_owned(),
            details: Vec::new(),
        }),
        ..asks(&[], &[])
    }
}

#[test]
fn sends_what_changed_and_what_is_gone() {
    let mut stream = Stream::default();
    stream.put("a", 1);
    stream.put("b", 2);
    stream.put("z", 9);
    stream.ask(&["a", "b", "c"], &[]);
    stream.expect(&[("a", 1), ("b", 2)], &["c"]);
    stream.quiet();
    stream.put("b", 3);
    stream.put("c", 4);
    stream.remove("a");
    stream.expect(&[("b", 3), ("c", 4)], &["a"]);
    // What nobody asked for is passed over, and counts as accepted.
    stream.put("z", 10);
    stream.quiet();
    let version = stream.store.version(NODE, type_url(CLUSTER));
    assert_eq!(stream.acked(), Some(version));
    stream.ask(&[], &["b"]);
    stream.put("b", 5);
    stream.quiet();
    // Asked for anew, it is sent anew.
    stream.ask(&["b", "c"], &[]);
    stream.expect(&[("b", 5), ("c", 4)], &[]);
}

#[test]
fn a_client_that_comes_back_is_sent_what_it_lacks() {
    let mut stream = Stream::default();
    for name in ["a", "b", "c"] {
        stream.put(name, 1);
    }
    stream.ask(&["a", "b", "c"], &[]);
    let first = stream.respond().unwrap();
    let versions = first.resources.into_iter();
    let known: Vec<_> = versions.map(|sent| (sent.name, sent.version)).collect();
    let back = |stream: &mut Stream| {
        stream.codec = Delta::default();
        let request = DeltaDiscoveryRequest {
            initial_resource_versions: known.iter().cloned().collect(),
            ..asks(&["a", "b", "c"], &[])
        };
        stream.request(request);
    };
    // Even if that is nothing, it is told so.
    back(&mut stream);
    stream.expect(&[], &[]);
    stream.put("a", 2);
    stream.remove("b");
    back(&mut stream);
    stream.expect(&[("a", 2)], &["b"]);
    stream.quiet();
}

#[test]
fn the_wildcard_has_two_spellings() {
    for names in [&[][..], &["*"]] {
        let mut stream = Stream::default();
        stream.put("a", 1);
        stream.ask(names, &[]);
        stream.expect(&[("a", 1)], &[]);
        stream.put("b", 2);
        stream.remove("a");
        stream.expect(&[("b", 2)], &["a"]);
        stream.ask(&["c"], &["*"]);
        stream.expect(&[], &["c"]);
        stream.put("d", 1);
        stream.quiet();
    }
}

#[test]
fn each_response_has_its_answer() {
    let mut stream = Stream::default();
    stream.put("a", 1);
    stream.ask(&["a"], &[]);
    let first = stream.respond().unwrap();
    stream.put("a", 2);
    let second = stream.respond().unwrap();
    assert_eq!(stream.request(answer(&first, None)), Answer::Ack);
    assert_eq!(stream.acked(), Some(1));
    assert_eq!(
        stream.request(answer(&second, Some("no"))),
        Answer::Nack { version: 2 }
    );
    // Once is enough, and what was refused is not sent again.
    assert_eq!(stream.request(answer(&second, None)), Answer::None);
    let progress = stream.codec.progress(type_url(CLUSTER)).unwrap();
    assert_eq!(
        (progress.acked, progress.rejection),
        (Some(1), Some((2, "no")))
    );
    stream.quiet();
}

#[tokio::test]
async fn serves_a_generated_client() {
    let control_plane = ControlPlane::start().await;
    control_plane.service("a").endpoint(address(1)).apply();
    let uri = format!("http://{}", control_plane.address().unwrap());
    let channel = Target::from_shared(uri).unwrap().connect().await.unwrap();
    let mut client = AggregatedDiscoveryServiceClient::new(channel);
    let (requests, outbound) = mpsc::channel(16);
    let stream = client.delta_aggregated_resources(ReceiverStream::new(outbound));
    let ask = DeltaDiscoveryRequest {
        type_url: type_url(Kind::Listener).to_owned(),
        ..asks(&["a", "b"], &[])
    };
    requests.send(ask).await.unwrap();
    let mut responses = stream.await.unwrap().into_inner();
    let response = responses.message().await.unwrap().unwrap();
    assert_eq!(response.resources[0].name, "a");
    assert_eq!(response.removed_resources, ["b"]);
    let ack = DeltaDiscoveryRequest {
        type_url: type_url(Kind::Listener).to_owned(),
        ..answer(&response, None)
    };
    requests.send(ack).await.unwrap();
    control_plane.acked(Kind::Listener).await;
    assert!(control_plane.bytes_sent() > 0);

    // In raw mode, the test speaks the stream's protocol.
    let mut raw = control_plane.raw();
    let (requests, outbound) = mpsc::channel(16);
    requests.send(asks(&["a"], &[])).await.unwrap();
    let mut responses = client
        .delta_aggregated_resources(ReceiverStream::new(outbound))
        .await
        .unwrap()
        .into_inner();
    let mut stream = raw.accept().await;
    assert!(stream.is_delta());
    assert_eq!(stream.recv().await.names, ["a"]);
    let any = Any {
        type_url: type_url(CLUSTER).to_owned(),
        value: b"\x0a\x01a".to_vec(),
    };
    stream.send(CLUSTER, "7", "n1", [any]).await;
    let response = responses.message().await.unwrap().unwrap();
    let sent = &response.resources[0];
    assert_eq!((sent.name.as_str(), sent.version.as_str()), ("a", "7"));
    stream.send_removed(CLUSTER, "8", "n2", &["a"]).await;
    let response = responses.message().await.unwrap().unwrap();
    assert_eq!(response.removed_resources, ["a"]);
}
