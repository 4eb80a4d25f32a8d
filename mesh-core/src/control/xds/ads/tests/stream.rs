//! The stream's life: opening, breaking, backoff.

use super::*;
use crate::control::xds::server::ServerStatus;

#[test]
fn resource_requested_before_stream_creation() {
    for kind in Kind::ALL {
        let mut client = Client::new();
        client.watch(kind, "a");
        client.watch(kind, "b");
        client.no_request();
        assert_eq!(client.ads.status(), ServerStatus::Connecting);
        client.connect();
        assert_eq!(client.request().names, ["a", "b"]);
        assert_eq!(client.ads.status(), ServerStatus::Connected);
    }
}

#[test]
fn nothing_is_opened_before_the_first_watch_and_all_is_closed_after_the_last() {
    let mut client = Client::new();
    client.act();
    assert_eq!((client.connects, client.ads.wake_at()), (0, None));
    let [a, b] = client.watch_all(Kind::Cluster, ["a", "b"]);
    client.respond(Kind::Cluster, "1", "1", &[("a", "x"), ("b", "x")]);
    client.request();
    client.unwatch(a);
    assert_eq!(client.request().names, ["b"]);
    client.unwatch(b);
    // No request: the stream is closed instead.
    client.no_request();
    assert_eq!(
        (client.closes, client.ads.status()),
        (1, ServerStatus::Idle)
    );
    assert_eq!(client.ads.cache.sizes(), [0; 4]);
    assert_eq!(client.ads.wake_at(), None);
    // The next watch starts from nothing.
    client.watch(Kind::Cluster, "a");
    client.connect();
    client.request().assert_ack(Kind::Cluster, "", "");
}

#[test]
fn a_watch_that_ends_while_connecting_stops_the_attempt() {
    let mut client = Client::new();
    let watcher = client.watch(Kind::Cluster, "a");
    assert_eq!(client.connects, 1);
    client.unwatch(watcher);
    assert_eq!((client.closes, client.ads.wake_at()), (1, None));
}

#[test]
fn resources_are_requested_after_stream_restart() {
    for kind in Kind::ALL {
        let (mut client, [a, b]) = Client::watching(kind, ["a", "b"]);
        client.respond(kind, "1", "n1", &[("a", "x"), ("b", "x")]);
        client.request();
        client.closed(None);
        // Changes while there is no stream.
        client.unwatch(b);
        client.watch(kind, "c");
        client.connect();
        let request = client.request();
        assert_eq!(request.names, ["a", "c"]);
        assert!(request.node);
        assert_eq!(client.take_told(a), [Seen::update("x")]);
    }
}

#[test]
fn client_resource_version_after_stream_restart() {
    for kind in Kind::ALL {
        let (mut client, [_]) = Client::watching(kind, ["a"]);
        client.respond(kind, "1", "n1", &[("a", "x")]);
        client.respond(kind, "2", "n2", &[("a", "!bad")]);
        client.requests.clear();
        client.closed(None);
        client.connect();
        // The last version that was accepted, and no nonce.
        client.request().assert_ack(kind, "1", "");
        client.respond(kind, "3", "n1", &[("a", "y")]);
        client.request().assert_ack(kind, "3", "n1");
    }
}

#[test]
fn the_version_is_not_named_while_a_name_is_unanswered() {
    for kind in Kind::ALL {
        let (mut client, [_, _]) = Client::watching(kind, ["a", "b"]);
        client.respond(kind, "1", "n1", &[("a", "x")]);
        client.requests.clear();
        client.closed(None);
        client.connect();
        client.request().assert_ack(kind, "", "");
        // A NACK on this stream names what was last accepted nonetheless.
        client.respond(kind, "2", "n2", &[("a", "!bad")]);
        client.request().assert_nack(kind, "1", "n2");
    }
}

#[test]
fn retries_after_broken_stream() {
    for kind in Kind::ALL {
        let (mut client, [watcher]) = Client::watching(kind, ["a"]);
        for content in ["x", "y", "z"] {
            client.respond(kind, content, content, &[("a", content)]);
            assert_eq!(client.told(watcher), [Seen::update(content)]);
            client.requests.clear();
            client.closed(Some((Code::Unavailable, "going away")));
            // It had answered: that is no error (gRFC A57).
            client.quiet();
            assert_eq!(client.ads.status(), ServerStatus::Connecting);
            // And the next attempt is not far.
            let wait = client.ads.wake_at().expect("an attempt") - client.now;
            assert!(wait <= SECOND, "{wait:?}");
            client.connect();
            client.request().assert_ack(kind, content, "");
        }
    }
}

#[test]
fn backoff_after_stream_failure() {
    fastrand::seed(1);
    let mut client = Client::new();
    let watcher = client.watch(Kind::Listener, "a");
    let mut bound = 1.0_f64;
    let mut longest = Duration::ZERO;
    for attempt in 0..100 {
        // By turns: cannot connect, closed at once, closed after a response without use.
        match attempt % 3 {
            0 => client.connect_failed("connection refused"),
            1 => {
                client.connect();
                client.closed(Some((Code::Unavailable, "not now")));
            }
            _ => {
                client.connect();
                client.respond(Kind::Listener, "1", "1", &[("a", "!bad")]);
                client.closed(None);
            }
        }
        assert_eq!(client.connects, 0, "there is a pause");
        let wait = client.ads.wake_at().expect("an attempt") - client.now;
        assert!(wait.as_secs_f64() <= bound, "{wait:?} of {bound} s");
        longest = longest.max(wait);
        bound = (bound * 1.6).min(120.0);
        client.advance(wait);
        assert_eq!(client.connects, 1);
    }
    assert!(longest > 60 * SECOND, "{longest:?}");
    // What is accepted makes it start over.
    client.connect();
    client.respond(Kind::Listener, "1", "1", &[("a", "x")]);
    client.closed(None);
    let wait = client.ads.wake_at().expect("an attempt") - client.now;
    assert!(wait <= SECOND, "{wait:?}");
    assert_eq!(client.take_told(watcher).last(), Some(&Seen::update("x")));
}

#[test]
fn a_server_that_accepts_and_closes_sees_growing_gaps() {
    fastrand::seed(2);
    let (mut client, _) = Client::watching(Kind::Cluster, ["a"]);
    let mut gaps = Vec::new();
    for _ in 0..100 {
        client.closed(None);
        let start = client.now;
        client.connect();
        gaps.push((client.now - start).as_secs_f64());
    }
    let mean = |gaps: &[f64]| gaps.iter().sum::<f64>() / gaps.len() as f64;
    assert!(mean(&gaps[..5]) < 5.0, "{:?}", &gaps[..5]);
    assert!(mean(&gaps[20..]) > 40.0, "{:?}", &gaps[20..]);
    assert!(gaps.iter().all(|gap| *gap <= 120.0));
}

#[test]
fn exhaustion_after_useful_responses_backs_off_too() {
    fastrand::seed(3);
    let (mut client, [a, b]) = Client::watching(Kind::Cluster, ["a", "b"]);
    let mut waited = Duration::ZERO;
    for _ in 0..20 {
        client.respond(Kind::Cluster, "1", "1", &[("a", "x")]);
        client.closed(Some((Code::ResourceExhausted, "message over 64 MiB")));
        let start = client.now;
        client.connect();
        waited += client.now - start;
    }
    assert!(waited > 120 * SECOND, "{waited:?}");
    // Whoever waits is told why; whoever has a value keeps it.
    let told = client.take_told(b);
    assert!(told[0].is_ambient(SourceErrorKind::Unreachable, "message over 64 MiB"));
    let told = client.take_told(a);
    assert_eq!(told[0], Seen::update("x"));
    assert!(told.iter().all(|seen| !matches!(seen, Seen::Gone(..))));
}

#[test]
fn backoff_survives_an_idle_time() {
    fastrand::seed(4);
    let mut client = Client::new();
    let mut attempts = 0;
    // A caller that comes and goes must not be a way around the backoff.
    for _ in 0..1000 {
        let watcher = client.watch(Kind::Cluster, "a");
        if client.connects == 1 {
            attempts += 1;
            client.connect_failed("connection refused");
        }
        client.unwatch(watcher);
        assert_eq!(client.ads.wake_at(), None);
        client.advance(Duration::from_millis(100));
    }
    // 100 s: with full jitter some twenty attempts would be many.
    assert!((3..20).contains(&attempts), "{attempts}");
}

#[test]
fn an_outage_of_long_ago_is_not_held_against_a_new_watch() {
    let mut client = Client::new();
    let watcher = client.watch(Kind::Cluster, "a");
    client.connect_failed("connection refused");
    client.unwatch(watcher);
    client.events.clear();
    client.advance(60 * SECOND);
    client.watch(Kind::Cluster, "a");
    client.quiet();
    assert_eq!(client.ads.status(), ServerStatus::Connecting);
    client.connect_failed("connection refused");
    assert_eq!(client.events.len(), 1);
}

#[test]
fn a_connection_that_takes_too_long_is_given_up() {
    let mut client = Client::new();
    let watcher = client.watch(Kind::Cluster, "a");
    client.advance(19 * SECOND);
    client.quiet();
    client.advance(SECOND);
    assert_eq!(client.closes, 1);
    let told = client.take_told(watcher);
    assert!(told[0].is_ambient(SourceErrorKind::Unreachable, "no connection within 20s"));
}

#[test]
fn watch_state_stream_breaks() {
    for kind in Kind::ALL {
        let mut client = Client::new();
        let (a, b) = (client.watch(kind, "a"), client.watch(kind, "b"));
        client.connect_failed("connection refused");
        for watcher in [a, b] {
            let told = client.take_told(watcher);
            assert!(told[0].is_ambient(SourceErrorKind::Unreachable, "connection refused"));
            assert_eq!(told.len(), 1);
        }
        // The same again is not news; another reason is.
        client.advance(10 * SECOND);
        client.connect_failed("connection refused");
        client.quiet();
        client.connect();
        client.closed(Some((Code::Unauthenticated, "no token")));
        for watcher in [a, b] {
            let told = client.take_told(watcher);
            assert!(told[0].is_ambient(SourceErrorKind::Unreachable, "UNAUTHENTICATED: no token"));
        }
        // One is answered, then the stream breaks again: no error, since it had answered.
        client.connect();
        client.respond(kind, "1", "1", &[("a", "x")]);
        assert_eq!(client.take_told(a), [Seen::update("x")]);
        client.closed(Some((Code::Unavailable, "")));
        client.quiet();
        // Broken before the first response: whoever has a value keeps it.
        client.connect();
        client.closed(Some((Code::Unavailable, "overloaded")));
        for watcher in [a, b] {
            let told = client.take_told(watcher);
            assert!(told[0].is_ambient(SourceErrorKind::Unreachable, "overloaded"));
        }
        assert_eq!(client.status(kind, "a"), ResourceStatus::Acked);
        assert_eq!(client.status(kind, "b"), ResourceStatus::Requested);
    }
}

#[test]
fn unauthenticated_for_ever() {
    let mut client = Client::new();
    let watcher = client.watch(Kind::Listener, "a");
    for attempt in 0..50 {
        client.connect();
        client.closed(Some((Code::Unauthenticated, "no token")));
        let ServerStatus::Failed(error) = client.ads.status() else {
            panic!("attempt {attempt}: {:?}", client.ads.status())
        };
        assert!(error.text.contains("UNAUTHENTICATED: no token"), "{error}");
    }
    assert_eq!(client.told(watcher).len(), 1);
    // While it lasts, a new watcher need not wait to learn of it.
    let late = client.watch(Kind::Listener, "b");
    let told = client.told(late);
    assert!(told[0].is_ambient(SourceErrorKind::Unreachable, "no token"));
    let unreachable = |n: &&Notice| matches!(n, Notice::Unreachable { .. });
    assert_eq!(client.notices.iter().filter(unreachable).count(), 50);
}

#[test]
fn status_codes_of_the_control_plane_do_not_surface() {
    // gRFC A54: whatever it says, the trouble is that it is out of reach.
    for number in 0..=16 {
        let code = Code::from_i32(number);
        let mut client = Client::new();
        let watcher = client.watch(Kind::Cluster, "a");
        client.connect();
        client.closed((code != Code::Ok).then_some((code, "text")));
        let told = client.told(watcher);
        assert!(
            told[0].is_ambient(SourceErrorKind::Unreachable, code.name()),
            "{told:?}"
        );
    }
}

#[test]
fn watch_errors_contain_node_id() {
    for kind in Kind::ALL {
        let mut client = Client::new();
        let watcher = client.watch(kind, "a");
        client.connect_failed("refused");
        client.connect();
        client.advance(15 * SECOND);
        client.respond(kind, "1", "1", &[("a", "!bad")]);
        client.respond(kind, "2", "2", &[("a", "x")]);
        client.respond(kind, "3", "3", &[]);
        let told = client.told(watcher);
        let errors: Vec<&str> = told
            .iter()
            .filter_map(|seen| match seen {
                Seen::Ambient(_, text) | Seen::Gone(_, text) => Some(text.as_str()),
                Seen::Update(_) => None,
            })
            .collect();
        let whole = matches!(kind, Kind::Listener | Kind::Cluster);
        assert_eq!(errors.len(), if whole { 4 } else { 3 }, "{errors:?}");
        for text in errors {
            assert!(text.starts_with(&format!("{kind} \"a\": ")), "{text}");
            assert!(
                text.ends_with("(xDS server \"xds.test:1\", node \"node-7\")"),
                "{text}"
            );
        }
    }
}

#[test]
fn an_outage_that_is_over_is_taken_back() {
    let (mut client, [a, b]) = Client::watching(Kind::Cluster, ["a", "b"]);
    let route = client.watch(Kind::Route, "r");
    client.respond(Kind::Cluster, "1", "1", &[("a", "x"), ("b", "x")]);
    client.respond(Kind::Route, "1", "1", &[("r", "x")]);
    client.closed(None);
    client.connect();
    client.closed(Some((Code::Unavailable, "down")));
    client.events.clear();
    client.connect();
    assert!(matches!(client.ads.status(), ServerStatus::Failed(_)));
    client.respond(Kind::Cluster, "2", "2", &[("a", "y"), ("b", "x")]);
    assert_eq!(client.take_told(a), [Seen::update("y")]);
    assert_eq!(client.take_told(b), [Seen::update("x")]);
    assert_eq!(client.told(route), [Seen::update("x")]);
    assert_eq!(client.ads.status(), ServerStatus::Connected);
    assert_eq!(client.notices.last(), Some(&Notice::Recovered));
}

#[test]
fn a_control_plane_without_news_is_back_when_its_stream_holds() {
    let (mut client, [a]) = Client::watching(Kind::Cluster, ["a"]);
    client.respond(Kind::Cluster, "1", "1", &[("a", "x")]);
    client.closed(None);
    client.connect();
    client.closed(Some((Code::Unavailable, "down")));
    client.events.clear();
    client.connect();
    client.advance(14 * SECOND);
    client.quiet();
    client.advance(SECOND);
    assert_eq!(client.told(a), [Seen::update("x")]);
    assert_eq!(client.ads.status(), ServerStatus::Connected);
    assert_eq!(client.ads.wake_at(), None);
}

#[test]
fn ten_thousand_watches_leave_nothing() {
    let mut client = Client::new();
    client.watch(Kind::Listener, "keep");
    client.connect();
    let mut watchers = Vec::new();
    for n in 0..10_000 {
        let kind = Kind::ALL[n % 5];
        watchers.push(client.watch_later(kind, &format!("r{}", n / 10)));
    }
    client.act();
    let names = |kind| (0..1000).map(move |n| (kind, format!("r{n}")));
    for kind in Kind::ALL {
        let resources = names(kind).map(|(kind, name)| any(kind, &name, "x"));
        client.respond_raw(response(kind, "1", "1", resources.collect()));
    }
    assert_eq!(client.events.len(), 10_000);
    assert_eq!(client.ads.cache.sizes(), [5001, 5000, 10_001, 1]);
    for watcher in watchers {
        client.ads.handle(Input::Unwatch(watcher), client.now);
    }
    client.act();
    assert_eq!(client.ads.cache.sizes(), [1, 0, 1, 1]);
    assert_eq!(client.requests.back().expect("a request").names.len(), 0);
}
