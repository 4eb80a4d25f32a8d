//! The server as a generated client sees it, over sockets.

use std::time::Duration;

use envoy_types::pb::{
    envoy::{
        config::{core::v3::Node, route::v3::RouteConfiguration},
        service::discovery::v3::DiscoveryRequest,
    },
    google::protobuf::{Any, Struct, Value, value},
};
use prost::Message;

use super::*;
use crate::{
    Code,
    testing::{Corruption, cluster_name, route_name},
};

const SERVICE: &str = "greeter.shop:8080";
const ROUTE: &str = "route/greeter.shop:8080";
const V1: &str = "greeter.shop:8080/v1";
const V2: &str = "greeter.shop:8080/v2";

/// A control plane with one service of two versions.
async fn start() -> ControlPlane {
    let control_plane = ControlPlane::start().await;
    let service = control_plane.service(SERVICE);
    service
        .version("v1")
        .weight(90)
        .endpoint(address(1))
        .endpoint(address(2))
        .version("v2")
        .weight(10)
        .endpoint(address(3))
        .apply();
    control_plane
}

/// A client that has accepted all four kinds.
async fn subscribed(control_plane: &ControlPlane) -> Client {
    let mut client = Client::connect(control_plane).await;
    for (kind, names) in [
        (Kind::Listener, &[SERVICE][..]),
        (Kind::Route, &[ROUTE]),
        (Kind::Cluster, &[V1, V2]),
        (Kind::Endpoints, &[V1, V2]),
    ] {
        client.subscribe(kind, names).await;
        client.expect_and_ack(kind, names).await;
        control_plane.acked(kind).await;
    }
    client
}

fn weights(response: &DiscoveryResponse) -> Vec<(String, u32)> {
    use envoy_types::pb::envoy::config::route::v3::{
        route::Action, route_action::ClusterSpecifier,
    };
    let routes = RouteConfiguration::decode(&response.resources[0].value[..]).unwrap();
    let Some(Action::Route(action)) = routes.virtual_hosts[0].routes[0].action.clone() else {
        panic!("no route action");
    };
    let Some(ClusterSpecifier::WeightedClusters(split)) = action.cluster_specifier else {
        panic!("no split");
    };
    let clusters = split.clusters.into_iter();
    clusters
        .map(|cluster| (cluster.name, cluster.weight.unwrap().value))
        .collect()
}

#[tokio::test]
async fn serves_a_service_and_pushes_what_changes() {
    let control_plane = start().await;
    let mut client = subscribed(&control_plane).await;

    let push = control_plane
        .service(SERVICE)
        .split(&[("v1", 50), ("v2", 50)])
        .apply();
    assert_eq!(push.kinds(), [Kind::Route]);
    let response = client.expect_and_ack(Kind::Route, &[ROUTE]).await;
    assert_eq!(
        weights(&response),
        [(V1.to_owned(), 50), (V2.to_owned(), 50)]
    );
    assert_eq!(response.version_info, push.version().to_string());
    push.acked().await;

    let push = control_plane.service(SERVICE).drain(address(2)).apply();
    assert_eq!(push.kinds(), [Kind::Endpoints]);
    client.expect_and_ack(Kind::Endpoints, &[V1, V2]).await;
    push.acked().await;

    // Nothing changes: nothing is sent, and the wait is over at once.
    let push = control_plane.service(SERVICE).drain(address(2)).apply();
    assert_eq!(push.kinds(), []);
    push.acked().await;
}

#[tokio::test]
async fn one_push_goes_out_in_make_before_break_order() {
    let control_plane = start().await;
    let mut client = subscribed(&control_plane).await;
    let service = || control_plane.service(SERVICE);

    let fault = crate::testing::Fault::new().abort(Code::Internal, 1.0);
    let push = service()
        .version("v3")
        .endpoint(address(4))
        .fault(fault)
        .apply();
    for (kind, names) in [
        (Kind::Cluster, &[V1, V2][..]),
        (Kind::Endpoints, &[V1, V2]),
        (Kind::Listener, &[SERVICE]),
        (Kind::Route, &[ROUTE]),
    ] {
        client.expect_and_ack(kind, names).await;
    }
    push.acked().await;

    // What only goes away goes last: no route may name a cluster that is not there.
    let push = service().remove_version("v2").apply();
    client.expect_and_ack(Kind::Endpoints, &[V1]).await;
    client.expect_and_ack(Kind::Route, &[ROUTE]).await;
    client.expect_and_ack(Kind::Cluster, &[V1]).await;
    push.acked().await;

    let push = service().remove();
    for (kind, names) in [
        (Kind::Endpoints, [V1]),
        (Kind::Route, [ROUTE]),
        (Kind::Listener, [SERVICE]),
        (Kind::Cluster, [V1]),
    ] {
        let response = client.expect(kind, &[]).await;
        client.ack(&response, &names).await;
    }
    push.acked().await;
}

#[tokio::test]
async fn a_rejection_is_recorded_and_not_answered_with_the_same() {
    let control_plane = start().await;
    let mut client = subscribed(&control_plane).await;

    let bad = control_plane.corrupt(Kind::Route, ROUTE, Corruption::Truncated);
    let response = client.recv().await;
    RouteConfiguration::decode(&response.resources[0].value[..]).unwrap_err();
    client.nack(&response, &[ROUTE], "it is incomplete").await;
    let nack = bad.nacked().await;
    assert_eq!(nack.node, NODE);
    assert_eq!(nack.kind, Some(Kind::Route));
    assert_eq!(nack.version, bad.version());
    assert_eq!(nack.nonce, response.nonce);
    assert_eq!(nack.code, Code::InvalidArgument);
    assert_eq!(nack.message, "it is incomplete");

    // The next message is the next version; the wait for it does not mind the old rejection.
    let repair = control_plane.repair(Kind::Route, ROUTE);
    let (response, ()) = tokio::join!(client.expect_and_ack(Kind::Route, &[ROUTE]), repair.acked());
    assert_eq!(response.version_info, repair.version().to_string());

    for (corruption, resources) in [(Corruption::Duplicated, 2), (Corruption::WrongType, 1)] {
        control_plane.corrupt(Kind::Route, ROUTE, corruption);
        let response = client.recv().await;
        assert_eq!(response.resources.len(), resources);
        let right = response.resources[0].type_url == type_url(Kind::Route);
        assert_eq!(right, corruption == Corruption::Duplicated);
        client.nack(&response, &[ROUTE], "bad").await;
        control_plane.nacked(Kind::Route).await;
    }
    // A change of what is right ends the corruption.
    let push = control_plane
        .service(SERVICE)
        .split(&[("v1", 1), ("v2", 0)])
        .apply();
    client.expect_and_ack(Kind::Route, &[ROUTE]).await;
    push.acked().await;
}

#[tokio::test]
async fn holds_back_and_releases_in_one_go() {
    let control_plane = start().await;
    let mut client = subscribed(&control_plane).await;
    control_plane.hold();
    let service = || control_plane.service(SERVICE);
    service().split(&[("v1", 1), ("v2", 2)]).apply();
    let last = service().split(&[("v1", 3), ("v2", 4)]).apply();
    // The server has read this when the subscription shows, and still sends nothing.
    client.subscribe(Kind::Listener, &["other"]).await;
    let asked = |c: &ControlPlane| c.subscriptions(Kind::Listener).contains("other");
    control_plane.until("the subscription", asked).await;
    control_plane.release();

    client.expect_and_ack(Kind::Listener, &[]).await;
    let response = client.expect_and_ack(Kind::Route, &[ROUTE]).await;
    assert_eq!(weights(&response), [(V1.to_owned(), 3), (V2.to_owned(), 4)]);
    last.acked().await;
}

#[tokio::test]
async fn streams_end_with_a_status_and_connections_without_a_word() {
    let control_plane = start().await;
    let mut client = subscribed(&control_plane).await;
    control_plane.end_streams(Code::PermissionDenied, "go away");
    let end = client.end().await.unwrap_err();
    assert_eq!(end.code(), tonic::Code::PermissionDenied);
    assert_eq!(end.message(), "go away");
    assert_eq!(control_plane.streams(), 0);
    assert_eq!(control_plane.connections(), 1);
    drop(client);
    let none = |c: &ControlPlane| c.connections() == 0;
    control_plane.until("the client has gone", none).await;

    let mut client = subscribed(&control_plane).await;
    control_plane.drop_streams();
    let end = client.end().await.unwrap_err();
    assert_eq!(end.code(), tonic::Code::Unavailable);

    let mut client = subscribed(&control_plane).await;
    control_plane.drop_connections();
    client.end().await.unwrap_err();
    control_plane.until("the connections are cut", none).await;
    subscribed(&control_plane).await;
}

#[tokio::test]
async fn stops_and_restarts_on_the_same_port() {
    let control_plane = start().await;
    let address = control_plane.address();
    let mut client = subscribed(&control_plane).await;
    for _ in 0..3 {
        control_plane.stop().await;
        assert_eq!(control_plane.connections(), 0);
        client.end().await.unwrap_err();
        let refused = tokio::net::TcpStream::connect(address.unwrap()).await;
        let kind = refused.unwrap_err().kind();
        assert_eq!(kind, std::io::ErrorKind::ConnectionRefused);
        control_plane.restart().await;
        assert_eq!(control_plane.address(), address);
        client = subscribed(&control_plane).await;
    }
    control_plane.restart().await;
    control_plane.acked(Kind::Route).await;
}

#[tokio::test]
async fn the_last_handle_takes_everything_with_it() {
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    let control_plane = start().await;
    let address = control_plane.address().unwrap();
    let other = control_plane.view("somebody");
    let push = control_plane.service(SERVICE).max_requests(3).apply();
    let mut client = subscribed(&control_plane).await;
    drop(control_plane);
    let uri = format!("http://{address}");
    Target::from_shared(uri).unwrap().connect().await.unwrap();
    drop(other);
    client.end().await.unwrap_err();
    drop(client);
    let gone = async {
        while tokio::net::TcpStream::connect(address).await.is_ok() || tasks() > before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .unwrap();
    assert_eq!(push.kinds(), [Kind::Cluster]);
}

#[tokio::test]
async fn a_view_is_layered_over_what_all_see() {
    let control_plane = start().await;
    let view = control_plane.view(NODE);
    let own = view.service(SERVICE).split(&[("v1", 0), ("v2", 1)]).apply();
    let mut mine = Client::connect(&control_plane).await;
    mine.subscribe(Kind::Route, &[ROUTE]).await;
    let response = mine.expect_and_ack(Kind::Route, &[ROUTE]).await;
    assert_eq!(weights(&response), [(V1.to_owned(), 0), (V2.to_owned(), 1)]);
    view.acked(Kind::Route).await;
    assert!(own.kinds().contains(&Kind::Route));

    let mut theirs = Client::connect(&control_plane).await;
    let other = DiscoveryRequest {
        node: Some(node("other")),
        ..request(Kind::Route, &[ROUTE])
    };
    theirs.send(other).await;
    let response = theirs.expect_and_ack(Kind::Route, &[ROUTE]).await;
    assert_eq!(
        weights(&response),
        [(V1.to_owned(), 90), (V2.to_owned(), 10)]
    );

    // The view was hidden a resource that the others keep.
    view.remove(Kind::Route, ROUTE);
    mine.expect(Kind::Route, &[]).await;
    assert_eq!(view.streams(), 1);
    assert_eq!(control_plane.streams(), 2);
    assert!(view.requests().iter().all(|r| r.node_id == NODE));
    control_plane
        .service(SERVICE)
        .split(&[("v1", 7), ("v2", 7)])
        .apply();
    let response = theirs.expect(Kind::Route, &[ROUTE]).await;
    assert_eq!(weights(&response), [(V1.to_owned(), 7), (V2.to_owned(), 7)]);
}

#[tokio::test]
async fn raw_mode_answers_by_hand() {
    let control_plane = start().await;
    let mut raw = control_plane.raw();
    assert!(raw.try_accept().is_none());
    let mut client = Client::connect(&control_plane).await;
    let mut stream = raw.accept().await;
    client.subscribe(Kind::Cluster, &["a", "b"]).await;
    let request = stream.recv().await;
    assert_eq!(request.kind, Some(Kind::Cluster));
    assert_eq!(request.names, ["a", "b"]);
    assert_eq!(request.node_id, NODE);
    assert_eq!((&*request.version, &*request.nonce), ("", ""));

    let any = Any {
        type_url: "a".to_owned(),
        value: vec![1],
    };
    stream.send(Kind::Cluster, "v7", "n7", [any.clone()]).await;
    let response = client.recv().await;
    assert_eq!(response.resources, [any]);
    assert_eq!(response.nonce, "n7");
    client.nack(&response, &["a"], "no").await;
    let request = stream.recv().await;
    let error = request.error.unwrap();
    assert_eq!(error.code, Code::InvalidArgument);
    assert_eq!(error.message, "no");
    assert_eq!((&*request.nonce, &*request.node_id), ("n7", NODE));
    assert!(stream.try_recv().is_none());
    assert_eq!(control_plane.requests().len(), 2);

    stream.send_bytes(&b"\xff\xff\xff"[..]).await;
    client.end().await.unwrap_err();
    drop(client);
    stream.closed().await;

    let mut client = Client::connect(&control_plane).await;
    let stream = raw.accept().await;
    stream.close(Code::NotFound, "nobody").await;
    let end = client.end().await.unwrap_err();
    assert_eq!(end.code(), tonic::Code::NotFound);
    let mut client = Client::connect(&control_plane).await;
    drop(raw.accept().await);
    client.end().await.unwrap();

    drop(raw);
    subscribed(&control_plane).await;
}

#[tokio::test]
async fn requests_say_who_asks() {
    let control_plane = start().await;
    let client = Client::connect(&control_plane).await;
    let string = |s: &str| Value {
        kind: Some(value::Kind::StringValue(s.to_owned())),
    };
    let metadata = Struct {
        fields: [("GENERATOR".to_owned(), string("grpc"))].into(),
    };
    let first = DiscoveryRequest {
        node: Some(Node {
            client_features: vec!["f".to_owned()],
            metadata: Some(metadata),
            ..node(NODE)
        }),
        ..request(Kind::Listener, &[SERVICE])
    };
    client.send(first).await;
    let second = DiscoveryRequest {
        node: None,
        ..request(Kind::Cluster, &[V1])
    };
    client.send(second).await;
    let both = |c: &ControlPlane| c.requests().len() == 2;
    control_plane.until("two requests", both).await;
    let requests = control_plane.requests();
    let sent = requests[0].node.as_ref().unwrap();
    assert_eq!(sent.client_features, ["f"]);
    assert_eq!(sent.metadata["GENERATOR"], "grpc");
    assert!(requests[1].node.is_none());
    assert_eq!(requests[1].node_id, NODE);
    control_plane.clear_log();
    assert_eq!(control_plane.requests(), []);
}

#[tokio::test]
async fn a_response_may_be_large() {
    const SIZE: usize = 100 << 20;
    let control_plane = ControlPlane::start().await;
    let any = Any {
        type_url: type_url(Kind::Cluster).to_owned(),
        value: vec![0; SIZE],
    };
    control_plane.set_any(Kind::Cluster, "large", any);
    let mut client = Client::connect(&control_plane).await;
    client.subscribe(Kind::Cluster, &["large"]).await;
    assert_eq!(client.recv().await.resources[0].value.len(), SIZE);
}

#[tokio::test]
async fn resources_can_be_put_as_they_are() {
    let control_plane = start().await;
    let mut client = subscribed(&control_plane).await;
    let routes = RouteConfiguration {
        name: ROUTE.to_owned(),
        ..RouteConfiguration::default()
    };
    let push = control_plane.set(&routes);
    let response = client.expect_and_ack(Kind::Route, &[ROUTE]).await;
    assert_eq!(response.resources[0].value, routes.encode_to_vec());
    push.acked().await;
    control_plane.remove(Kind::Route, ROUTE);
    client.expect(Kind::Route, &[]).await;
    let refused = std::panic::catch_unwind(|| {
        let plane = ControlPlane::in_memory();
        plane.set(&RouteConfiguration::default())
    });
    refused.unwrap_err();
}

#[test]
fn names_are_as_documented() {
    assert_eq!(route_name(SERVICE), ROUTE);
    assert_eq!(cluster_name(SERVICE, "v1"), V1);
    assert_eq!(cluster_name(SERVICE, ""), SERVICE);
}
