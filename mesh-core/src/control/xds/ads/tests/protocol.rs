//! What is said to the control plane, and what is made of its answers.

use super::*;

#[test]
fn ack_nack_simple() {
    for kind in Kind::ALL {
        let mut client = Client::new();
        let watcher = client.watch(kind, "a");
        client.connect();
        let request = client.request();
        request.assert_ack(kind, "", "");
        assert_eq!((request.names, request.node), (vec!["a".into()], true));

        client.respond(kind, "1", "n1", &[("a", "x")]);
        let ack = client.request();
        ack.assert_ack(kind, "1", "n1");
        assert_eq!((ack.names, ack.node), (vec!["a".into()], false));
        assert_eq!(client.told(watcher), [Seen::update("x")]);

        client.respond(kind, "2", "n2", &[("a", "!too long")]);
        let nack = client.request();
        let text = nack.assert_nack(kind, "1", "n2");
        assert_eq!(text, format!("{kind} \"a\": some.field: too long"));
        assert_eq!(nack.names, ["a"]);

        client.respond(kind, "3", "n3", &[("a", "y")]);
        client.request().assert_ack(kind, "3", "n3");
        assert_eq!(client.take_told(watcher).last(), Some(&Seen::update("y")));
    }
}

#[test]
fn nack_invalid_first_response() {
    for kind in Kind::ALL {
        let (mut client, [watcher]) = Client::watching(kind, ["a"]);
        client.respond(kind, "1", "n1", &[("a", "!bad")]);
        client.request().assert_nack(kind, "", "n1");
        let told = client.told(watcher);
        assert!(
            told[0].is_gone(SourceErrorKind::Invalid, "some.field: bad"),
            "{told:?}"
        );

        client.respond(kind, "2", "n2", &[("a", "x")]);
        client.request().assert_ack(kind, "2", "n2");
        assert_eq!(client.told(watcher), [Seen::update("x")]);
    }
}

#[test]
fn ack_nack_resource_is_not_requested_anymore() {
    for kind in Kind::ALL {
        let (mut client, [watcher]) = Client::watching(kind, ["a"]);
        client.keep_open(kind);
        client.respond(kind, "1", "n1", &[("a", "x")]);
        client.request().assert_ack(kind, "1", "n1");

        client.unwatch(watcher);
        let request = client.request();
        request.assert_ack(kind, "1", "n1");
        assert!(request.names.is_empty());

        // Answers that crossed it, good or bad, concern nobody.
        client.respond(kind, "2", "n2", &[("a", "y")]);
        client.request().assert_ack(kind, "2", "n2");
        client.respond(kind, "3", "n3", &[("a", "!bad")]);
        let request = client.request();
        request.assert_ack(kind, "3", "n3");
        assert!(request.names.is_empty());

        let again = client.watch(kind, "a");
        let request = client.request();
        request.assert_ack(kind, "3", "n3");
        assert_eq!(request.names, ["a"]);
        client.respond(kind, "3", "n4", &[("a", "z")]);
        assert_eq!(client.take_told(again), [Seen::update("z")]);
        assert!(client.take_told(watcher).contains(&Seen::update("x")));
        client.quiet();
    }
}

#[test]
fn nack_error_duplicate_suppression() {
    for kind in Kind::ALL {
        let (mut client, [watcher]) = Client::watching(kind, ["a"]);
        client.respond(kind, "1", "n1", &[("a", "!bad")]);
        assert_eq!(client.told(watcher).len(), 1);
        client.respond(kind, "2", "n2", &[("a", "!bad")]);
        client.quiet();
        client.respond(kind, "3", "n3", &[("a", "!worse")]);
        let told = client.told(watcher);
        assert!(
            told[0].is_gone(SourceErrorKind::Invalid, "worse"),
            "{told:?}"
        );
        // Every one of them was answered.
        let nonces: Vec<_> = client.requests.iter().map(|r| r.nonce.as_str()).collect();
        assert_eq!(nonces, ["n1", "n2", "n3"]);
    }
}

#[test]
fn node_only_in_first_request() {
    let mut client = Client::new();
    for kind in Kind::ALL {
        client.watch(kind, "a");
    }
    for _ in 0..2 {
        client.connect();
        let nodes: Vec<bool> = client.requests.drain(..).map(|r| r.node).collect();
        assert_eq!(nodes, [true, false, false, false, false]);
        client.respond(Kind::Route, "1", "1", &[("a", "x")]);
        assert!(!client.request().node);
        client.closed(None);
    }
}

#[test]
fn names_added_in_one_turn_go_in_one_request() {
    let (mut client, _) = Client::watching(Kind::Cluster, ["a"]);
    for name in ["d", "c", "b", "c"] {
        client.watch_later(Kind::Cluster, name);
    }
    client.act();
    assert_eq!(client.request().names, ["a", "b", "c", "d"]);
    // Another watch of a known name changes nothing.
    client.watch(Kind::Cluster, "b");
    client.no_request();
}

#[test]
fn watch_calls_another_watch() {
    // What watchers ask for while they process a response is asked for in one request, when the
    // last of them is done; the ACK comes after it.
    let (mut client, _) = Client::watching(Kind::Listener, ["a", "b"]);
    client.hold_processed = true;
    client.respond(Kind::Listener, "1", "1", &[("a", "x"), ("b", "y")]);
    let x = client.watch(Kind::Route, "x");
    client.watch(Kind::Route, "y");
    client.no_request();
    client.processed();
    client.act();
    let request = client.requests.pop_front().expect("a request");
    assert_eq!(request.kind, Kind::Route);
    assert_eq!(request.names, ["x", "y"]);
    client.request().assert_ack(Kind::Listener, "1", "1");
    client.respond(Kind::Route, "1", "2", &[("x", "v")]);
    assert_eq!(client.take_told(x), [Seen::update("v")]);
}

#[test]
fn an_initial_empty_request_is_never_sent() {
    for kind in Kind::ALL {
        let mut client = Client::new();
        client.watch(
            if kind == Kind::Route {
                Kind::Listener
            } else {
                Kind::Route
            },
            "keep",
        );
        let watcher = client.watch_later(kind, "a");
        client.unwatch(watcher);
        client.connect();
        assert_eq!(client.request().names, ["keep"]);
        let watcher = client.watch_later(kind, "a");
        client.unwatch(watcher);
        client.no_request();
        // Once something was asked for, nothing may be asked for.
        let watcher = client.watch(kind, "a");
        assert_eq!(client.request().names, ["a"]);
        client.unwatch(watcher);
        assert!(client.request().names.is_empty());
    }
}

#[test]
fn a_watch_that_comes_back_at_once_is_answered_from_the_cache() {
    let (mut client, [watcher]) = Client::watching(Kind::Cluster, ["a"]);
    client.respond(Kind::Cluster, "1", "1", &[("a", "x")]);
    client.request();
    client.told(watcher);
    client.ads.handle(Input::Unwatch(watcher), client.now);
    let again = client.watch(Kind::Cluster, "a");
    client.no_request();
    assert_eq!(client.told(again), [Seen::update("x")]);
    assert_eq!(client.closes, 0);
}

#[test]
fn partial_valid_one_bad_among_a_hundred_good() {
    for kind in Kind::ALL {
        let names: Vec<String> = (0..101).map(|n| format!("r{n:03}")).collect();
        let mut client = Client::new();
        let watchers: Vec<_> = names.iter().map(|n| client.watch_later(kind, n)).collect();
        client.act();
        client.connect();
        client.request();
        let resources: Vec<_> = names
            .iter()
            .map(|n| (n.as_str(), if n == "r050" { "!bad" } else { "x" }))
            .collect();
        client.respond(kind, "1", "1", &resources);
        let nack = client.request();
        assert_eq!(
            nack.assert_nack(kind, "", "1"),
            format!("{kind} \"r050\": some.field: bad")
        );
        for (name, watcher) in names.iter().zip(&watchers) {
            let told = client.take_told(*watcher);
            if name == "r050" {
                assert!(told[0].is_gone(SourceErrorKind::Invalid, "bad"));
                assert_eq!(client.status(kind, name), ResourceStatus::Nacked);
            } else {
                assert_eq!(told, [Seen::update("x")]);
                assert_eq!(client.status(kind, name), ResourceStatus::Acked);
            }
        }
    }
}

#[test]
fn nack_lists_every_rejected_resource_named_or_not() {
    let kind = Kind::Route;
    let (mut client, _) = Client::watching(kind, ["a", "b", "c"]);
    let mut message = response(kind, "1", "1", vec![]);
    message.resources = vec![
        any(kind, "a", "!one"),
        Any {
            type_url: "type.googleapis.com/other".into(),
            value: b"z=1".to_vec(),
        },
        any(kind, "b", "!two"),
        Any {
            value: vec![0xff],
            ..any(kind, "", "")
        },
        any(kind, "c", "fine"),
    ];
    client.respond_raw(message);
    assert_eq!(
        client.request().assert_nack(kind, "", "1"),
        "route configuration \"a\": some.field: one; \
         resource 1: type_url: of another type; \
         route configuration \"b\": some.field: two; \
         resource 3: value: not a message"
    );
    assert_eq!(client.status(kind, "c"), ResourceStatus::Acked);
    assert!(matches!(&client.notices[..], [Notice::Nacked { .. }]));
}

#[test]
fn the_text_of_a_nack_is_bounded() {
    let kind = Kind::Cluster;
    let mut client = Client::new();
    let names: Vec<String> = (0..2000).map(|n| format!("{n}")).collect();
    for name in &names {
        client.watch_later(kind, name);
    }
    client.act();
    client.connect();
    client.request();
    let bad = format!("!{}", "x".repeat(100));
    let resources: Vec<_> = names.iter().map(|n| (n.as_str(), bad.as_str())).collect();
    client.respond(kind, "1", "1", &resources);
    let nack = client.request();
    let text = nack.assert_nack(kind, "", "1");
    assert!(text.len() < 66 << 10, "{}", text.len());
    assert!(text.ends_with(" more"), "{}", &text[text.len() - 30..]);
}

#[test]
fn a_duplicate_name_is_refused_and_the_first_counts() {
    for kind in Kind::ALL {
        let (mut client, [watcher]) = Client::watching(kind, ["a"]);
        client.respond(kind, "1", "1", &[("a", "x"), ("a", "y")]);
        assert_eq!(
            client.request().assert_nack(kind, "", "1"),
            format!("{kind} \"a\": resource 1: duplicate resource name")
        );
        assert_eq!(client.told(watcher), [Seen::update("x")]);
        // So is one that is in force, and one that was refused.
        client.respond(kind, "2", "2", &[("a", "x"), ("a", "x")]);
        client.request().assert_nack(kind, "", "2");
        client.respond(kind, "3", "3", &[("a", "!bad"), ("a", "y")]);
        let nack = client.request();
        let text = nack.assert_nack(kind, "", "3");
        assert!(text.contains("bad") && text.contains("duplicate"), "{text}");
        assert!(client.told(watcher)[0].is_ambient(SourceErrorKind::Invalid, "bad"));
    }
}

#[test]
fn resources_that_are_not_watched_are_ignored_by_name() {
    for kind in Kind::ALL {
        let (mut client, [watcher]) = Client::watching(kind, ["a"]);
        let resources = [("b", "x"), ("a", "x"), ("c", "!bad"), ("b", "twice")];
        client.respond(kind, "1", "1", &resources);
        client.request().assert_ack(kind, "1", "1");
        assert_eq!(client.told(watcher), [Seen::update("x")]);
        assert_eq!(client.ads.dump().resources.len(), 1);
    }
}

#[test]
fn same_version_with_other_content_is_applied() {
    for kind in Kind::ALL {
        let (mut client, [watcher]) = Client::watching(kind, ["a"]);
        for content in ["x", "y", "x"] {
            client.respond(kind, "1", "1", &[("a", content)]);
            client.request().assert_ack(kind, "1", "1");
            assert_eq!(client.told(watcher), [Seen::update(content)]);
        }
    }
}

#[test]
fn same_content_is_not_delivered_again() {
    for kind in Kind::ALL {
        let (mut client, [watcher]) = Client::watching(kind, ["a"]);
        client.respond(kind, "1", "1", &[("a", "x")]);
        assert_eq!(client.told(watcher), [Seen::update("x")]);
        client.respond(kind, "2", "2", &[("a", "x")]);
        client.quiet();
        let accepted = client.dump(kind, "a").accepted.expect("a value");
        assert_eq!(&*accepted.version, "2");
        // Nor is the same meaning in other bytes; the dump shows the bytes.
        client.respond(kind, "3", "3", &[("a", "x ")]);
        client.quiet();
        let accepted = client.dump(kind, "a").accepted.expect("a value");
        // What cannot be told from a private key is not shown.
        let shown: &[u8] = if kind == Kind::Secret { b"" } else { b"a=x " };
        assert_eq!(accepted.raw.value, shown);
        client
            .requests
            .back()
            .expect("ACK")
            .assert_ack(kind, "3", "3");
    }
}

#[test]
fn nonces_are_echoed_whatever_they_are() {
    let (mut client, _) = Client::watching(Kind::Endpoints, ["a"]);
    for (turn, nonce) in ["5", "4", "4", "", "5"].into_iter().enumerate() {
        client.respond(Kind::Endpoints, &turn.to_string(), nonce, &[("a", "x")]);
        let ack = client.request();
        ack.assert_ack(Kind::Endpoints, &turn.to_string(), nonce);
    }
    // A name that is added later goes with the last nonce only.
    client.watch(Kind::Endpoints, "b");
    client.request().assert_ack(Kind::Endpoints, "4", "5");
}

#[test]
fn an_unknown_type_is_ignored_and_ends_nothing() {
    let (mut client, [watcher]) = Client::watching(Kind::Cluster, ["a"]);
    client.respond(Kind::Cluster, "1", "1", &[("a", "x")]);
    client.request();
    let before = client.ads.dump();
    let mut message = response(Kind::Cluster, "2", "2", vec![any(Kind::Cluster, "a", "y")]);
    message.type_url = "type.googleapis.com/envoy.config.trace.v3.Zipkin".into();
    client.respond_raw(message);
    client.no_request();
    assert!(
        matches!(&client.notices[..], [Notice::Unusable { reason }] if reason.contains("Zipkin"))
    );
    assert_eq!(client.ads.dump().hash(), before.hash());
    client.respond(Kind::Cluster, "3", "3", &[("a", "z")]);
    client.request().assert_ack(Kind::Cluster, "3", "3");
    assert_eq!(client.told(watcher), [Seen::update("x"), Seen::update("z")]);
}

#[test]
fn a_kind_that_was_not_asked_for_is_ignored() {
    let (mut client, _) = Client::watching(Kind::Cluster, ["a"]);
    // An ACK would name no resources, and so ask for all of them.
    client.respond(Kind::Listener, "1", "1", &[("a", "x")]);
    client.no_request();
    client.quiet();
    client.watch(Kind::Listener, "a");
    client.request().assert_ack(Kind::Listener, "", "");
}

#[test]
fn a_message_that_is_not_one_is_ignored() {
    let (mut client, [watcher]) = Client::watching(Kind::Cluster, ["a"]);
    let whole = response(Kind::Cluster, "1", "1", vec![any(Kind::Cluster, "a", "x")]);
    let whole = Bytes::from(whole.encode_to_vec());
    client.receive(whole.slice(..whole.len() - 1));
    client.receive(Bytes::from_static(b"\xff\xff\xff"));
    client.no_request();
    assert!(
        client
            .notices
            .iter()
            .all(|n| matches!(n, Notice::Unusable { .. }))
    );
    assert_eq!(client.notices.len(), 2);
    client.receive(whole);
    client.request().assert_ack(Kind::Cluster, "1", "1");
    assert_eq!(client.told(watcher), [Seen::update("x")]);
}

#[test]
fn bad_input_leaves_the_dump_as_it_was() {
    for kind in Kind::ALL {
        let (mut client, [_, _]) = Client::watching(kind, ["a", "b"]);
        client.respond(kind, "1", "1", &[("a", "x"), ("b", "x")]);
        let hash = client.ads.dump().hash();
        // Good resources of a refused response that did not change keep their version.
        client.respond(kind, "2", "2", &[("a", "!bad"), ("b", "x")]);
        client.respond(kind, "3", "3", &[("a", "x"), ("b", "x"), ("b", "x")]);
        let mut message = response(kind, "4", "4", vec![]);
        message.resources = vec![any(kind, "a", "x"), any(kind, "b", "x"), Any::default()];
        client.respond_raw(message);
        assert_eq!(client.ads.dump().hash(), hash);
        let mut message = response(kind, "5", "5", vec![]);
        message.resources = vec![any(kind, "a", "x"), Any::default(), any(kind, "b", "y")];
        client.respond_raw(message);
        // Those that did change are in force.
        assert_ne!(client.ads.dump().hash(), hash);
        let accepted = client.dump(kind, "b").accepted.expect("a value");
        assert_eq!(&*accepted.version, "5");
    }
}

#[test]
fn slow_readers_get_the_latest_request_of_each_kind() {
    let (mut client, _) = Client::watching(Kind::Cluster, ["a"]);
    client.hold_sends = true;
    client.respond(Kind::Cluster, "1", "1", &[("a", "x")]);
    client.request().assert_ack(Kind::Cluster, "1", "1");
    // The stream has no room: reading goes on, or both sides might wait for each other.
    client.respond(Kind::Cluster, "2", "2", &[("a", "y")]);
    client.respond(Kind::Cluster, "3", "3", &[("a", "!bad")]);
    client.watch(Kind::Cluster, "b");
    client.no_request();
    client.sent();
    client.act();
    let request = client.request();
    request.assert_nack(Kind::Cluster, "2", "3");
    assert_eq!(request.names, ["a", "b"]);
}

#[test]
fn reported_errors_take_the_place_of_the_resource() {
    for kind in Kind::ALL {
        for (code, expected) in [
            (Code::NotFound, SourceErrorKind::DoesNotExist),
            (Code::PermissionDenied, SourceErrorKind::DoesNotExist),
            (Code::Internal, SourceErrorKind::Transient),
        ] {
            let (mut client, [a, b]) = Client::watching(kind, ["a", "b"]);
            client.respond(kind, "1", "1", &[("a", "x")]);
            assert_eq!(client.told(a), [Seen::update("x")]);
            let mut message = response(kind, "2", "2", vec![]);
            message.resource_errors = ["a", "b", "other"]
                .map(|name| reported(name, code, "says why"))
                .to_vec();
            client.respond_raw(message);
            client
                .requests
                .back()
                .expect("ACK")
                .assert_ack(kind, "2", "2");
            let told = client.take_told(a);
            assert!(told[0].is_ambient(expected, "says why"), "{told:?}");
            let told = client.told(b);
            if expected == SourceErrorKind::DoesNotExist {
                assert!(told[0].is_gone(expected, "says why"), "{told:?}");
            } else {
                assert!(told[0].is_ambient(expected, "says why"), "{told:?}");
            }
            assert_eq!(client.status(kind, "b"), ResourceStatus::ReceivedError);
            let failure = client.dump(kind, "a").failure.expect("a failure");
            assert_eq!(&*failure.details, format!("{code}: says why"));
            // It is an answer: there is no more to wait for.
            client.advance(60 * SECOND);
            client.quiet();
        }
    }
}

#[test]
fn malformed_reported_errors_are_refused() {
    let (mut client, [watcher]) = Client::watching(Kind::Route, ["a"]);
    let mut message = response(Kind::Route, "1", "1", vec![any(Kind::Route, "a", "x")]);
    message.resource_errors = vec![
        reported("", Code::NotFound, ""),
        reported("a", Code::Ok, ""),
        reported("a", Code::NotFound, ""),
    ];
    client.respond_raw(message);
    assert_eq!(
        client.request().assert_nack(Kind::Route, "", "1"),
        "resource_errors[0].resource_name: missing; \
         resource_errors[1].error_detail.code: must not be OK; \
         route configuration \"a\": resource 2: duplicate resource name"
    );
    assert_eq!(client.told(watcher), [Seen::update("x")]);
}
