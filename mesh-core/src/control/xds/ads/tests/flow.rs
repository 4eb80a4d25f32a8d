//! Flow control: a response that watchers process holds back its answer and the next one.

use super::*;

#[test]
fn an_ack_means_in_force() {
    for kind in Kind::ALL {
        let (mut client, [_]) = Client::watching(kind, ["a"]);
        let other = client.keep_open(kind);
        client.hold_processed = true;
        client.respond(kind, "1", "1", &[("a", "x")]);
        // Neither time nor a watch that begins or ends lets the ACK out early.
        client.advance(3600 * SECOND);
        client.watch(kind, "b");
        client.unwatch(other);
        client.no_request();
        client.processed();
        client.act();
        // Who reads the ACK knows what the response made the watchers ask for.
        let kept = client.requests.pop_front().expect("a request");
        assert_ne!(kept.kind, kind);
        assert!(kept.names.is_empty());
        let ack = client.request();
        ack.assert_ack(kind, "1", "1");
        assert_eq!(ack.names, ["a", "b"]);
    }
}

#[test]
fn an_ack_waits_for_watchers_and_for_room() {
    for watchers_first in [true, false] {
        let (mut client, [_]) = Client::watching(Kind::Cluster, ["a"]);
        client.hold_processed = true;
        client.hold_sends = true;
        client.keep_open(Kind::Cluster);
        client.respond(Kind::Cluster, "1", "1", &[("a", "x")]);
        for watchers in [watchers_first, !watchers_first] {
            client.no_request();
            if watchers {
                client.processed();
            } else {
                client.sent();
            }
            client.act();
        }
        client.request().assert_ack(Kind::Cluster, "1", "1");
    }
}

#[test]
fn the_end_of_the_last_watch_waits_for_nobody() {
    let (mut client, [watcher]) = Client::watching(Kind::Cluster, ["a"]);
    client.hold_processed = true;
    client.respond(Kind::Cluster, "1", "1", &[("a", "x")]);
    client.unwatch(watcher);
    assert_eq!(client.closes, 1);
    // The next stream owes no answer to the last.
    client.watch(Kind::Cluster, "a");
    client.connect();
    client.processed();
    client.act();
    let request = client.request();
    request.assert_ack(Kind::Cluster, "", "");
    assert_eq!((client.reads, request.node), (1, true));
}

#[test]
fn flow_control_single_resource() {
    for kind in Kind::ALL {
        let (mut client, [_]) = Client::watching(kind, ["a"]);
        let second = client.watch(kind, "a");
        client.hold_processed = true;
        client.respond(kind, "1", "1", &[("a", "x")]);
        // It is not answered and nothing is read before both watchers are done.
        assert_eq!((client.unprocessed, client.reads), (true, 0));
        client.no_request();
        client.processed();
        client.act();
        client.request().assert_ack(kind, "1", "1");
        assert_eq!((client.unprocessed, client.reads), (false, 1));
        // Nobody is told of what did not change, so nobody is waited for.
        client.respond(kind, "2", "2", &[("a", "x")]);
        assert_eq!((client.unprocessed, client.reads), (false, 1));
        client.request().assert_ack(kind, "2", "2");
        assert_eq!(client.take_told(second), [Seen::update("x")]);
    }
}

#[test]
fn flow_control_multiple_resources() {
    for kind in Kind::ALL {
        let (mut client, [a, b]) = Client::watching(kind, ["a", "b"]);
        client.hold_processed = true;
        client.respond(kind, "1", "1", &[("a", "x"), ("b", "x")]);
        assert_eq!((client.unprocessed, client.reads), (true, 0));
        // A stream that breaks meanwhile changes nothing about it: the next is opened, and asks
        // when they are done. The nonce was of the old one, and what is in force has its version.
        client.closed(None);
        client.connect();
        client.no_request();
        assert_eq!((client.unprocessed, client.reads), (true, 0));
        // Nor does the end of a watch that was told.
        client.unwatch(a);
        assert_eq!(client.reads, 0);
        client.processed();
        client.act();
        assert_eq!(client.reads, 1);
        let request = client.request();
        request.assert_ack(kind, "1", "");
        assert_eq!(request.names, ["b"]);
        assert_eq!(client.take_told(b), [Seen::update("x")]);
    }
}

#[test]
fn flow_control_resource_errors() {
    for kind in Kind::ALL {
        let (mut client, [_]) = Client::watching(kind, ["a"]);
        client.hold_processed = true;
        client.respond(kind, "1", "1", &[("a", "!bad")]);
        assert_eq!((client.unprocessed, client.reads), (true, 0));
        // What is good of it is applied, so a NACK waits, too.
        client.no_request();
        client.processed();
        client.act();
        assert_eq!(client.reads, 1);
        client.request().assert_nack(kind, "", "1");
    }
}

#[test]
fn flow_control_resource_does_not_exist() {
    for kind in [Kind::Listener, Kind::Cluster] {
        let (mut client, [_]) = Client::watching(kind, ["a"]);
        client.respond(kind, "1", "1", &[("a", "x")]);
        client.hold_processed = true;
        client.respond(kind, "2", "2", &[]);
        assert_eq!((client.unprocessed, client.reads), (true, 0));
        client.processed();
        client.act();
        assert_eq!(client.reads, 1);
    }
}
