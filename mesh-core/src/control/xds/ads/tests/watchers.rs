//! What watchers are told, for all kinds.

use super::*;

fn fail_on_data_errors() -> ServerFeatures {
    ServerFeatures {
        fail_on_data_errors: true,
        ..ServerFeatures::default()
    }
}

#[test]
fn two_watches_for_same_resource_name() {
    for kind in Kind::ALL {
        let (mut client, [first]) = Client::watching(kind, ["a"]);
        let second = client.watch(kind, "a");
        client.no_request();
        client.respond(kind, "1", "1", &[("a", "x")]);
        assert_eq!(client.take_told(first), [Seen::update("x")]);
        assert_eq!(client.take_told(second), [Seen::update("x")]);
        // One of them ends: the other goes on, and the control plane need not know.
        client.requests.clear();
        client.unwatch(first);
        client.no_request();
        client.respond(kind, "2", "2", &[("a", "y")]);
        assert_eq!(client.told(second), [Seen::update("y")]);
    }
}

#[test]
fn three_watches_for_different_resource_names() {
    for kind in Kind::ALL {
        let (mut client, [a1, b]) = Client::watching(kind, ["a", "b"]);
        let a2 = client.watch(kind, "a");
        client.respond(kind, "1", "1", &[("a", "x"), ("b", "y")]);
        assert_eq!(client.take_told(a1), [Seen::update("x")]);
        assert_eq!(client.take_told(a2), [Seen::update("x")]);
        assert_eq!(client.told(b), [Seen::update("y")]);
    }
}

#[test]
fn resource_caching() {
    for kind in Kind::ALL {
        let (mut client, [first]) = Client::watching(kind, ["a"]);
        client.respond(kind, "1", "1", &[("a", "x")]);
        client.request();
        client.told(first);
        let second = client.watch(kind, "a");
        assert_eq!(client.told(second), [Seen::update("x")]);
        client.no_request();
    }
}

#[test]
fn expiry_timer_fires_before_response() {
    for kind in Kind::ALL {
        let (mut client, [watcher]) = Client::watching(kind, ["a"]);
        client.advance(15 * SECOND - Duration::from_millis(1));
        client.quiet();
        client.advance(Duration::from_millis(1));
        let told = client.told(watcher);
        assert!(
            told[0].is_gone(SourceErrorKind::NotSent, "not sent within 15s"),
            "{told:?}"
        );
        assert_eq!(client.status(kind, "a"), ResourceStatus::DoesNotExist);
        // Whoever comes later is told at once, and all are told if it comes after all.
        let late = client.watch(kind, "a");
        assert_eq!(client.told(late), told);
        client.respond(kind, "1", "1", &[("a", "x")]);
        assert_eq!(client.take_told(watcher), [Seen::update("x")]);
        assert_eq!(client.told(late), [Seen::update("x")]);
    }
}

#[test]
fn valid_response_cancels_expiry_timer() {
    for kind in Kind::ALL {
        let (mut client, [watcher]) = Client::watching(kind, ["a"]);
        client.advance(14 * SECOND);
        client.respond(kind, "1", "1", &[("a", "x")]);
        client.told(watcher);
        assert_eq!(client.ads.wake_at(), None);
        client.advance(60 * SECOND);
        client.quiet();
    }
}

#[test]
fn invalid_response_cancels_expiry_timer() {
    for kind in Kind::ALL {
        let (mut client, [watcher]) = Client::watching(kind, ["a"]);
        client.respond(kind, "1", "1", &[("a", "!bad")]);
        assert_eq!(client.told(watcher).len(), 1);
        client.advance(60 * SECOND);
        client.quiet();
        assert_eq!(client.status(kind, "a"), ResourceStatus::Nacked);
    }
}

#[test]
fn watch_state_timer_fires() {
    for kind in Kind::ALL {
        let mut client = Client::new();
        let watcher = client.watch(kind, "a");
        // Time without a stream does not count.
        client.advance(19 * SECOND);
        client.hold_sends = true;
        client.connect();
        // Nor time in which the request is not on its way.
        client.advance(20 * SECOND);
        client.quiet();
        client.sent();
        client.advance(14 * SECOND);
        client.quiet();
        // A broken stream starts it over.
        client.hold_sends = false;
        client.closed(Some((Code::Unavailable, "down")));
        assert_eq!(client.told(watcher).len(), 1);
        client.connect();
        client.advance(14 * SECOND);
        client.quiet();
        client.advance(SECOND);
        let told = client.told(watcher);
        assert!(
            told[0].is_gone(SourceErrorKind::NotSent, "not sent"),
            "{told:?}"
        );
    }
}

#[test]
fn no_timer_for_what_has_a_value() {
    for kind in Kind::ALL {
        let (mut client, [watcher]) = Client::watching(kind, ["a"]);
        client.respond(kind, "1", "1", &[("a", "x")]);
        client.told(watcher);
        client.closed(None);
        client.connect();
        client.advance(60 * SECOND);
        client.quiet();
        assert_eq!(client.status(kind, "a"), ResourceStatus::Acked);
    }
}

#[test]
fn a_name_that_is_added_later_has_its_own_timer() {
    let (mut client, [a]) = Client::watching(Kind::Route, ["a"]);
    client.advance(10 * SECOND);
    let b = client.watch(Kind::Route, "b");
    client.advance(5 * SECOND);
    assert_eq!(client.told(a).len(), 1);
    client.advance(9 * SECOND);
    client.quiet();
    client.advance(SECOND);
    assert_eq!(client.told(b).len(), 1);
}

#[test]
fn slow_watchers_stop_the_timers_of_others() {
    let (mut client, [a, b]) = Client::watching(Kind::Route, ["a", "b"]);
    client.advance(10 * SECOND);
    client.hold_processed = true;
    client.respond(Kind::Route, "1", "1", &[("a", "x")]);
    client.told(a);
    // The answer may be there, but it is not read.
    client.advance(60 * SECOND);
    client.quiet();
    client.processed();
    client.act();
    client.advance(4 * SECOND);
    client.quiet();
    client.advance(SECOND);
    assert!(client.told(b)[0].is_gone(SourceErrorKind::NotSent, "not sent"));
}

#[test]
fn resource_timer_is_transient_error() {
    for kind in Kind::ALL {
        let mut client = Client::with(ServerFeatures {
            resource_timer_is_transient_error: true,
            ..ServerFeatures::default()
        });
        let [watcher] = client.watch_all(kind, ["a"]);
        client.advance(29 * SECOND);
        client.quiet();
        client.advance(SECOND);
        let told = client.told(watcher);
        assert!(
            told[0].is_ambient(SourceErrorKind::Transient, "not sent within 30s"),
            "{told:?}"
        );
        assert_eq!(client.status(kind, "a"), ResourceStatus::Timeout);
    }
}

#[test]
fn resource_removed() {
    for kind in [Kind::Listener, Kind::Cluster] {
        let (mut client, [a, b]) = Client::watching(kind, ["a", "b"]);
        client.respond(kind, "1", "1", &[("a", "x"), ("b", "x")]);
        client.events.clear();
        // Deletion is a data error: with a value it is ambient (gRFC A88).
        client.respond(kind, "2", "2", &[("b", "x")]);
        client
            .requests
            .back()
            .expect("ACK")
            .assert_ack(kind, "2", "2");
        let told = client.told(a);
        assert!(
            told[0].is_ambient(SourceErrorKind::DoesNotExist, "deleted"),
            "{told:?}"
        );
        let dump = client.dump(kind, "a");
        assert_eq!(dump.status, ResourceStatus::DoesNotExist);
        assert!(dump.accepted.is_some());
        let id = ResourceId::new(kind, "a");
        assert_eq!(
            client.notices,
            [Notice::Deleted {
                id: id.clone(),
                kept: true
            }]
        );
        // Told once.
        client.respond(kind, "3", "3", &[("b", "y")]);
        assert_eq!(client.told(b), [Seen::update("y")]);
        // Back, and the same as before: that is news, since the trouble is over.
        client.respond(kind, "4", "4", &[("a", "x"), ("b", "y")]);
        assert_eq!(client.told(a), [Seen::update("x")]);
        assert_eq!(client.notices.last(), Some(&Notice::Returned { id }));
        assert_eq!(client.status(kind, "a"), ResourceStatus::Acked);
    }
}

#[test]
fn resource_removed_under_fail_on_data_errors() {
    for kind in [Kind::Listener, Kind::Cluster] {
        let mut client = Client::with(fail_on_data_errors());
        let [a, b] = client.watch_all(kind, ["a", "b"]);
        client.respond(kind, "1", "1", &[("a", "x"), ("b", "x")]);
        client.events.clear();
        client.respond(kind, "2", "2", &[("b", "x")]);
        let told = client.told(a);
        assert!(
            told[0].is_gone(SourceErrorKind::DoesNotExist, "deleted"),
            "{told:?}"
        );
        assert!(client.dump(kind, "a").accepted.is_none());
        client.respond(kind, "3", "3", &[("a", "x"), ("b", "x")]);
        assert_eq!(client.told(a), [Seen::update("x")]);
        client.unwatch(b);
    }
}

#[test]
fn all_resources_removed_at_once() {
    let (mut client, _) = Client::watching(Kind::Cluster, ["a", "b", "c"]);
    client.respond(
        Kind::Cluster,
        "1",
        "1",
        &[("a", "x"), ("b", "x"), ("c", "x")],
    );
    client.events.clear();
    client.respond(Kind::Cluster, "2", "2", &[]);
    assert_eq!(client.events.len(), 3);
    for (_, _, seen) in &client.events {
        assert!(seen.is_ambient(SourceErrorKind::DoesNotExist, "deleted"));
    }
    let values = client.ads.dump().resources;
    assert!(values.iter().all(|resource| resource.accepted.is_some()));
}

#[test]
fn absence_removes_nothing_of_other_kinds() {
    for kind in [Kind::Route, Kind::Endpoints] {
        for features in [ServerFeatures::default(), fail_on_data_errors()] {
            let mut client = Client::with(features);
            client.watch_all(kind, ["a", "b"]);
            client.respond(kind, "1", "1", &[("a", "x"), ("b", "x")]);
            client.events.clear();
            client.respond(kind, "2", "2", &[("b", "x")]);
            client.respond(kind, "3", "3", &[]);
            client.quiet();
            assert_eq!(client.status(kind, "a"), ResourceStatus::Acked);
        }
    }
}

#[test]
fn absence_removes_nothing_that_was_only_just_requested() {
    for kind in [Kind::Listener, Kind::Cluster] {
        let mut client = Client::with(fail_on_data_errors());
        client.watch_all(kind, ["a"]);
        client.respond(kind, "1", "1", &[("a", "x")]);
        client.events.clear();
        client.watch(kind, "b");
        client.respond(kind, "2", "2", &[("a", "x")]);
        client.quiet();
        assert_eq!(client.status(kind, "b"), ResourceStatus::Requested);
    }
}

#[test]
fn absence_removes_nothing_while_something_has_no_name() {
    for kind in [Kind::Listener, Kind::Cluster] {
        let mut client = Client::with(fail_on_data_errors());
        client.watch_all(kind, ["a"]);
        client.respond(kind, "1", "1", &[("a", "x")]);
        client.events.clear();
        // It may be the one that is missing.
        client.respond_raw(response(kind, "2", "2", vec![Any::default()]));
        client.quiet();
        assert_eq!(client.status(kind, "a"), ResourceStatus::Acked);
    }
}

#[test]
fn new_watcher_for_removed_resource() {
    for kind in [Kind::Listener, Kind::Cluster] {
        for keep in [true, false] {
            let mut client = Client::with(ServerFeatures {
                fail_on_data_errors: !keep,
                ..ServerFeatures::default()
            });
            client.watch_all(kind, ["a"]);
            client.respond(kind, "1", "1", &[("a", "x")]);
            client.respond(kind, "2", "2", &[]);
            client.events.clear();
            let late = client.watch(kind, "a");
            let told = client.told(late);
            if keep {
                assert_eq!(told[0], Seen::update("x"));
                assert!(told[1].is_ambient(SourceErrorKind::DoesNotExist, "deleted"));
            } else {
                assert!(told[0].is_gone(SourceErrorKind::DoesNotExist, "deleted"));
                assert_eq!(told.len(), 1);
            }
        }
    }
}

#[test]
fn nack_error() {
    for kind in Kind::ALL {
        let (mut client, [watcher]) = Client::watching(kind, ["a"]);
        client.respond(kind, "1", "1", &[("a", "x")]);
        client.told(watcher);
        client.respond(kind, "2", "2", &[("a", "!bad")]);
        let told = client.told(watcher);
        assert!(
            told[0].is_ambient(SourceErrorKind::Invalid, "some.field: bad"),
            "{told:?}"
        );
        let dump = client.dump(kind, "a");
        assert_eq!(dump.status, ResourceStatus::Nacked);
        assert_eq!(&*dump.accepted.expect("the last good one").version, "1");
        let failure = dump.failure.expect("a failure");
        assert_eq!(
            (&*failure.version, &*failure.details),
            ("2", "some.field: bad")
        );
        // What cannot be told from a private key is not shown.
        let shown: &[u8] = if kind == Kind::Secret { b"" } else { b"a=!bad" };
        assert_eq!(failure.raw.expect("what was refused").value, shown);
        // The good one again: the trouble is over.
        client.respond(kind, "3", "3", &[("a", "x")]);
        assert_eq!(client.told(watcher), [Seen::update("x")]);
        let dump = client.dump(kind, "a");
        assert_eq!((dump.status, dump.failure), (ResourceStatus::Acked, None));
    }
}

#[test]
fn nack_error_under_fail_on_data_errors() {
    for kind in Kind::ALL {
        let mut client = Client::with(fail_on_data_errors());
        let [watcher] = client.watch_all(kind, ["a"]);
        client.respond(kind, "1", "1", &[("a", "x")]);
        client.told(watcher);
        client.respond(kind, "2", "2", &[("a", "!bad")]);
        let told = client.told(watcher);
        assert!(
            told[0].is_gone(SourceErrorKind::Invalid, "some.field: bad"),
            "{told:?}"
        );
        client.respond(kind, "3", "3", &[("a", "x")]);
        assert_eq!(client.told(watcher), [Seen::update("x")]);
    }
}

#[test]
fn resource_caching_nack_error() {
    for kind in Kind::ALL {
        let (mut client, [first]) = Client::watching(kind, ["a"]);
        client.respond(kind, "1", "1", &[("a", "!bad")]);
        let told = client.told(first);
        let late = client.watch(kind, "a");
        assert_eq!(client.told(late), told);
        client.respond(kind, "2", "2", &[("a", "x")]);
        client.respond(kind, "3", "3", &[("a", "!bad")]);
        client.events.clear();
        let later = client.watch(kind, "a");
        let told = client.told(later);
        assert_eq!(told[0], Seen::update("x"));
        assert!(told[1].is_ambient(SourceErrorKind::Invalid, "bad"));
    }
}

#[test]
fn partial_response() {
    for kind in Kind::ALL {
        let (mut client, [a, b]) = Client::watching(kind, ["a", "b"]);
        client.respond(kind, "1", "1", &[("a", "x")]);
        assert_eq!(client.told(a), [Seen::update("x")]);
        if matches!(kind, Kind::Listener | Kind::Cluster) {
            // Such a response is whole: `a` would be deleted by its absence.
            client.respond(kind, "2", "2", &[("a", "x"), ("b", "y")]);
        } else {
            client.respond(kind, "2", "2", &[("b", "y")]);
        }
        assert_eq!(client.told(b), [Seen::update("y")]);
    }
}

#[test]
fn an_outage_does_not_hide_other_trouble() {
    let (mut client, [watcher]) = Client::watching(Kind::Cluster, ["a"]);
    client.respond(Kind::Cluster, "1", "1", &[("a", "x")]);
    client.respond(Kind::Cluster, "2", "2", &[("a", "!bad")]);
    client.closed(None);
    client.connect();
    client.closed(Some((Code::Unavailable, "down")));
    client.events.clear();
    let late = client.watch(Kind::Cluster, "a");
    let told = client.told(late);
    assert_eq!(told[0], Seen::update("x"));
    assert!(told[1].is_ambient(SourceErrorKind::Invalid, "bad"));
    assert!(told[2].is_ambient(SourceErrorKind::Unreachable, "down"));
    // Over, the other trouble remains.
    client.unwatch(late);
    client.connect();
    client.watch(Kind::Route, "r");
    client.respond(Kind::Route, "1", "1", &[]);
    let told = client.take_told(watcher);
    assert_eq!(told[0], Seen::update("x"));
    assert!(told[1].is_ambient(SourceErrorKind::Invalid, "bad"));
    assert_eq!(told.len(), 2);
}

#[test]
fn a_watch_that_ends_is_told_nothing_more() {
    for kind in Kind::ALL {
        let (mut client, [a]) = Client::watching(kind, ["a"]);
        let b = client.watch(kind, "a");
        client.ads.handle(
            Input::Received {
                message: response(kind, "1", "1", vec![any(kind, "a", "x")])
                    .encode_to_vec()
                    .into(),
                at: SystemTime::now(),
            },
            client.now,
        );
        // In the same turn, before the delivery is on its way.
        client.unwatch(a);
        assert_eq!(client.told(b), [Seen::update("x")]);
    }
}
