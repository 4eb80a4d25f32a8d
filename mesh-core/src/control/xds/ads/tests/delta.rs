//! The incremental protocol on the wire.

use envoy_types::pb::{
    envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource},
    google::protobuf,
};

use super::{any, *};

const CLUSTER: Kind = Kind::Cluster;

fn client() -> Client {
    Client::with(ServerFeatures {
        delta: true,
        ..ServerFeatures::default()
    })
}

/// A client with a watch for each name and an open stream, whose first request is read.
fn watching<const N: usize>(kind: Kind, names: [&str; N]) -> (Client, [WatcherId; N]) {
    let mut client = client();
    let watchers = names.map(|name| client.watch_later(kind, name));
    client.act();
    client.connect();
    assert_eq!(request(&mut client).resource_names_subscribe, names);
    (client, watchers)
}

/// The one request that was sent since the last look.
fn request(client: &mut Client) -> DeltaDiscoveryRequest {
    let request = client.delta_requests.pop_front().expect("a request");
    let more = &client.delta_requests;
    assert!(more.is_empty(), "one request: {more:?}");
    request
}

fn resource(kind: Kind, name: &str, version: &str, content: &str) -> Resource {
    Resource {
        name: name.into(),
        version: version.into(),
        resource: Some(any(kind, name, content)),
        ..Resource::default()
    }
}

fn respond(client: &mut Client, kind: Kind, nonce: &str, resources: Vec<Resource>) {
    respond_and_remove(client, kind, nonce, resources, &[]);
}

fn respond_and_remove(
    client: &mut Client,
    kind: Kind,
    nonce: &str,
    resources: Vec<Resource>,
    removed: &[&str],
) {
    let response = DeltaDiscoveryResponse {
        system_version_info: "system".into(),
        type_url: type_url(kind).into(),
        nonce: nonce.into(),
        resources,
        removed_resources: removed.iter().map(|&name| name.into()).collect(),
        ..Default::default()
    };
    client.receive(response.encode_to_vec().into());
}

fn version(client: &Client, kind: Kind, name: &str) -> String {
    let accepted = client.dump(kind, name).accepted;
    accepted.expect("a value").version.to_string()
}

/// The stream ends and another one opens; the versions in its first request, by name.
fn reconnect(client: &mut Client) -> Vec<(String, String)> {
    client.closed(Some((Code::Unavailable, "restart")));
    client.connect();
    let mut known: Vec<_> = request(client)
        .initial_resource_versions
        .into_iter()
        .collect();
    known.sort();
    known
}

#[test]
fn requests_say_what_is_new_and_answer_each_response() {
    let mut client = client();
    client.watch_later(CLUSTER, "a");
    client.watch_later(CLUSTER, "b");
    client.act();
    assert!(client.ads.path().ends_with("/DeltaAggregatedResources"));
    client.connect();
    let first = request(&mut client);
    assert!(first.node.is_some());
    assert_eq!(first.type_url, type_url(CLUSTER));
    assert_eq!(first.resource_names_subscribe, ["a", "b"]);
    assert_eq!(first.initial_resource_versions.len(), 0);
    assert_eq!(first.response_nonce, "");

    let resources = vec![resource(CLUSTER, "a", "7", "x")];
    respond(&mut client, CLUSTER, "n1", resources);
    let ack = request(&mut client);
    assert_eq!((ack.response_nonce.as_str(), ack.node), ("n1", None));
    assert!(ack.resource_names_subscribe.is_empty() && ack.error_detail.is_none());
    assert_eq!(version(&client, CLUSTER, "a"), "7");

    // What begins and ends together is asked for in one request.
    let c = client.watch_later(CLUSTER, "c");
    client.watch_later(CLUSTER, "d");
    client.ads.handle(Input::Unwatch(c), client.now);
    client.act();
    let more = request(&mut client);
    assert_eq!(more.resource_names_subscribe, ["d"]);
    assert!(more.resource_names_unsubscribe.is_empty());
    client.unwatch(WatcherId(2));
    assert_eq!(request(&mut client).resource_names_unsubscribe, ["b"]);
}

#[test]
fn two_responses_have_an_answer_each() {
    let (mut client, _) = watching(CLUSTER, ["a"]);
    client.hold_sends = true;
    for (nonce, content) in [("n1", "x"), ("n2", "!bad"), ("n3", "y")] {
        respond(
            &mut client,
            CLUSTER,
            nonce,
            vec![resource(CLUSTER, "a", nonce, content)],
        );
    }
    let mut answers = Vec::new();
    while client.unsent > 0 {
        let answer = request(&mut client);
        answers.push((answer.response_nonce, answer.error_detail.is_some()));
        client.sent();
        client.act();
    }
    let expected = [("n1", false), ("n2", true), ("n3", false)];
    assert_eq!(
        answers,
        expected.map(|(nonce, bad)| (nonce.to_owned(), bad))
    );
}

/// Who sends and does not read is read no further, until it has read.
#[test]
fn answers_that_nobody_reads_do_not_pile_up() {
    let (mut client, _) = watching(CLUSTER, ["a"]);
    client.hold_sends = true;
    let mut sent = 0;
    while client.reads == 1 {
        sent += 1;
        assert!(sent < 1_000, "it reads on");
        let nonce = sent.to_string();
        let content = vec![resource(CLUSTER, "a", &nonce, "!bad")];
        respond(&mut client, CLUSTER, &nonce, content);
    }
    assert_eq!(sent, 65, "one under way, and those that wait");
    request(&mut client);
    client.sent();
    client.act();
    assert_eq!(client.reads, 1);
}

#[test]
fn a_nack_names_the_field_and_leaves_the_rest_in_force() {
    let (mut client, [a, b]) = watching(CLUSTER, ["a", "b"]);
    let resources = vec![
        resource(CLUSTER, "a", "1", "!too large"),
        resource(CLUSTER, "b", "2", "x"),
    ];
    respond(&mut client, CLUSTER, "n1", resources);
    let nack = request(&mut client);
    assert_eq!(nack.response_nonce, "n1");
    let error = nack.error_detail.expect("a NACK");
    assert_eq!(error.code, Code::InvalidArgument as i32);
    assert!(error.message.contains("some.field: too large"), "{error:?}");
    assert!(client.take_told(a)[0].is_gone(SourceErrorKind::Invalid, "too large"));
    assert_eq!(client.told(b), [Seen::update("x")]);
    assert_eq!(version(&client, CLUSTER, "b"), "2");
    let failure = client.dump(CLUSTER, "a").failure.expect("a failure");
    assert_eq!(&*failure.version, "1");
    assert_eq!(failure.raw.expect("bytes").type_url, type_url(CLUSTER));
}

#[test]
fn a_wrapper_with_the_wrong_thing_in_it_is_refused() {
    let (mut client, [a]) = watching(CLUSTER, ["a"]);
    let wrong = Resource {
        resource: Some(any(Kind::Endpoints, "a", "x")),
        ..resource(CLUSTER, "a", "1", "x")
    };
    let empty = Resource {
        resource: None,
        ..resource(CLUSTER, "a", "1", "x")
    };
    for (nonce, sent, problem) in [
        ("n1", wrong, "of another type"),
        ("n2", empty, "must be set"),
    ] {
        respond(&mut client, CLUSTER, nonce, vec![sent]);
        let error = request(&mut client).error_detail.expect("a NACK");
        assert!(error.message.contains("cluster \"a\""), "{error:?}");
        assert!(error.message.contains(problem), "{error:?}");
        assert!(client.told(a)[0].is_gone(SourceErrorKind::Invalid, problem));
    }
}

#[test]
fn a_new_stream_tells_what_is_in_force_and_not_what_was_refused() {
    let (mut client, _) = watching(CLUSTER, ["a", "b", "c", "d"]);
    let resources = vec![
        resource(CLUSTER, "a", "1", "x"),
        resource(CLUSTER, "b", "2", "x"),
        resource(CLUSTER, "c", "", "no version"),
    ];
    respond(&mut client, CLUSTER, "n1", resources);
    let refused = vec![resource(CLUSTER, "b", "3", "!bad")];
    respond(&mut client, CLUSTER, "n2", refused);
    client.delta_requests.clear();
    // The last known good value of b is in force, but the server must send its successor again.
    assert_eq!(version(&client, CLUSTER, "b"), "2");
    let known = |name: &str, version: &str| (name.to_owned(), version.to_owned());
    assert_eq!(reconnect(&mut client), [known("a", "1")]);
    let repaired = vec![resource(CLUSTER, "b", "4", "y")];
    respond(&mut client, CLUSTER, "n1", repaired);
    client.delta_requests.clear();
    assert_eq!(reconnect(&mut client), [known("a", "1"), known("b", "4")]);
    // Only the first request of a stream says so.
    client.watch(CLUSTER, "e");
    assert_eq!(request(&mut client).initial_resource_versions.len(), 0);
}

#[test]
fn what_is_removed_does_not_exist() {
    let (mut client, [a, b]) = watching(CLUSTER, ["a", "b"]);
    let resources = vec![resource(CLUSTER, "a", "1", "x")];
    respond_and_remove(&mut client, CLUSTER, "n1", resources, &["b", "unknown"]);
    assert!(request(&mut client).error_detail.is_none());
    assert_eq!(client.take_told(a), [Seen::update("x")]);
    // At once: there is no time to wait for.
    assert!(client.told(b)[0].is_gone(SourceErrorKind::DoesNotExist, "does not exist"));
    assert_eq!(client.ads.wake_at(), None);
    assert_eq!(client.status(CLUSTER, "b"), ResourceStatus::DoesNotExist);

    // One that was there stays in force (gRFC A88), and is asked for anew on the next stream.
    respond_and_remove(&mut client, CLUSTER, "n2", Vec::new(), &["a", "b"]);
    assert!(client.told(a)[0].is_ambient(SourceErrorKind::DoesNotExist, "deleted"));
    assert_eq!(client.notices.len(), 1, "{:?}", client.notices);
    client.delta_requests.clear();
    assert_eq!(reconnect(&mut client), []);
    respond_and_remove(&mut client, CLUSTER, "n1", Vec::new(), &["a", "b"]);
    client.quiet();
    assert_eq!(client.ads.wake_at(), None);
    let back = vec![resource(CLUSTER, "a", "1", "x")];
    respond(&mut client, CLUSTER, "n2", back);
    assert_eq!(client.told(a), [Seen::update("x")]);
}

#[test]
fn routes_and_endpoints_that_are_referred_to_outlive_their_removal() {
    for kind in [Kind::Route, Kind::Endpoints, Kind::Secret] {
        let (mut client, [a]) = watching(kind, ["a"]);
        let resources = vec![resource(kind, "a", "1", "x")];
        respond(&mut client, kind, "n1", resources);
        assert_eq!(client.told(a), [Seen::update("x")]);
        respond_and_remove(&mut client, kind, "n2", Vec::new(), &["a"]);
        client.quiet();
        assert_eq!(client.status(kind, "a"), ResourceStatus::Acked);
        // One that never was may be about to come, until its time is up.
        let b = client.watch(kind, "b");
        respond_and_remove(&mut client, kind, "n3", Vec::new(), &["b"]);
        client.quiet();
        client.advance(15 * SECOND);
        assert!(client.told(b)[0].is_gone(SourceErrorKind::NotSent, "does not exist"));
    }
}

#[test]
fn a_server_that_says_nothing_of_a_name_has_a_time_limit() {
    let (mut client, [a]) = watching(CLUSTER, ["a"]);
    client.advance(15 * SECOND);
    assert!(client.told(a)[0].is_gone(SourceErrorKind::NotSent, "not sent within 15s"));
}

#[test]
fn a_resource_answers_to_its_aliases() {
    let (mut client, [alias]) = watching(CLUSTER, ["alias"]);
    let aliased = |version: &str, content: &str| Resource {
        aliases: vec!["other".into(), "alias".into()],
        ..resource(CLUSTER, "own", version, content)
    };
    respond(&mut client, CLUSTER, "n1", vec![aliased("1", "x")]);
    assert!(request(&mut client).error_detail.is_none());
    assert_eq!(client.told(alias), [Seen::update("x")]);
    // Watched under two names, it is both.
    let own = client.watch(CLUSTER, "own");
    respond(&mut client, CLUSTER, "n2", vec![aliased("2", "y")]);
    assert_eq!(client.take_told(alias), [Seen::update("y")]);
    assert_eq!(client.told(own), [Seen::update("y")]);
    client.delta_requests.clear();
    respond(&mut client, CLUSTER, "n3", vec![aliased("3", "!bad")]);
    let error = request(&mut client).error_detail.expect("a NACK");
    assert!(error.message.contains("cluster \"own\""), "{error:?}");
    assert!(error.message.contains("cluster \"alias\""), "{error:?}");
}

#[test]
fn what_was_not_asked_for_is_nobodys_business() {
    let (mut client, [a]) = watching(CLUSTER, ["a"]);
    let resources = vec![
        resource(CLUSTER, "z", "1", "!bad"),
        resource(CLUSTER, "a", "1", "x"),
    ];
    respond(&mut client, CLUSTER, "n1", resources);
    assert!(request(&mut client).error_detail.is_none());
    assert_eq!(client.told(a), [Seen::update("x")]);
    let unasked = vec![resource(Kind::Route, "a", "1", "x")];
    respond(&mut client, Kind::Route, "n2", unasked);
    assert!(client.delta_requests.is_empty());
    client.receive(Bytes::from_static(b"\xff\xff"));
    assert!(client.delta_requests.is_empty());
    assert_eq!(client.notices.len(), 2, "{:?}", client.notices);
}

#[test]
fn the_same_name_twice_is_refused_and_the_first_counts() {
    let (mut client, [a]) = watching(CLUSTER, ["a"]);
    let twice = vec![
        resource(CLUSTER, "a", "1", "x"),
        resource(CLUSTER, "a", "2", "y"),
    ];
    respond(&mut client, CLUSTER, "n1", twice);
    let error = request(&mut client).error_detail.expect("a NACK");
    assert!(
        error.message.contains("duplicate resource name"),
        "{error:?}"
    );
    assert_eq!(client.told(a), [Seen::update("x")]);
    assert_eq!(version(&client, CLUSTER, "a"), "1");
}

#[test]
fn the_same_content_has_a_new_version_and_is_no_news() {
    let (mut client, [a]) = watching(CLUSTER, ["a"]);
    for (nonce, version_sent) in [("n1", "1"), ("n2", "2")] {
        let resources = vec![resource(CLUSTER, "a", version_sent, "x")];
        respond(&mut client, CLUSTER, nonce, resources);
        assert_eq!(version(&client, CLUSTER, "a"), version_sent);
    }
    assert_eq!(client.told(a), [Seen::update("x")]);
    // A sign of life, as servers send it for resources with a `ttl`.
    let beat = Resource {
        resource: None,
        ttl: Some(protobuf::Duration {
            seconds: 1,
            nanos: 0,
        }),
        ..resource(CLUSTER, "a", "2", "")
    };
    client.delta_requests.clear();
    respond(&mut client, CLUSTER, "n3", vec![beat]);
    assert!(request(&mut client).error_detail.is_none());
    client.quiet();
    client.advance(60 * SECOND);
    client.quiet();
}

/// Nothing is new on the next stream: that is no outage, however the stream ends.
#[test]
fn a_stream_that_has_nothing_to_say_is_a_good_one() {
    let (mut client, [a]) = watching(CLUSTER, ["a"]);
    let resources = vec![resource(CLUSTER, "a", "1", "x")];
    respond(&mut client, CLUSTER, "n1", resources);
    assert_eq!(client.told(a), [Seen::update("x")]);
    client.delta_requests.clear();
    for _ in 0..5 {
        reconnect(&mut client);
        client.advance(3600 * SECOND);
        let start = client.now;
        client.closed(Some((Code::Unavailable, "an age limit")));
        client.quiet();
        let pause = client.ads.wake_at().expect("an attempt") - start;
        assert!(pause <= 2 * SECOND, "{pause:?}");
        client.connect();
        client.delta_requests.clear();
        // An answer without anything in it is one.
        respond(&mut client, CLUSTER, "n1", Vec::new());
        client.delta_requests.clear();
    }
    // One that ends at once is an outage.
    reconnect(&mut client);
    client.closed(Some((Code::Unavailable, "no")));
    assert!(
        client.told(a)[0].is_ambient(SourceErrorKind::Unreachable, "before the first response")
    );
}
