//! Retries that a route's policy asks for (gRFC A6, A44).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderMap;
use mesh_core::{
    Code,
    telemetry::Counts,
    testing::{Retry, Route},
};
use mesh_tests::{
    backend::{Backend, Call as Incoming},
    echo::{CHAT, UNARY},
    every_way,
    fixture::{Fixture, echo, within},
    load::call,
    way::{Ask, Call, Chat, Way},
};
use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::{Request, Status, metadata::MetadataMap};

const QUICK: Duration = Duration::from_millis(1);
/// A pause that no test survives.
const NEVER: Duration = Duration::from_secs(3_600);

fn quick(codes: impl IntoIterator<Item = Code>) -> Retry {
    Retry::on(codes).backoff(QUICK, QUICK)
}

/// After a failure that stands for "unavailable".
fn unavailable(way: Way) -> Retry {
    way.retry().backoff(QUICK, QUICK)
}

fn status(code: Code) -> Status {
    Status::new(tonic::Code::from_i32(code as i32), format!("made {code}"))
}

/// Fails this many calls with `code`, then echoes.
fn fail_first(backend: &Backend, calls: u64, code: Code) {
    let before = backend.calls();
    backend.answer(move |call| async move {
        match call.number - before <= calls {
            true => call.fail(status(code)).await,
            false => call.echo().await,
        }
    });
}

async fn on(way: Way, backend: &Backend, retry: impl Into<Option<Retry>>) -> Fixture {
    let fixture = Fixture::over(way).await;
    fixture.serve(&[backend]).retry(retry).apply();
    fixture
}

fn totals(fixture: &Fixture) -> Counts {
    fixture.mesh.metrics().totals()
}

/// `grpc-previous-rpc-attempts` of each call that the backend has seen.
fn previous_attempts(backend: &Backend) -> Vec<Option<String>> {
    let value = |headers: &HeaderMap| {
        let value = headers.get("grpc-previous-rpc-attempts")?;
        Some(value.to_str().unwrap().to_owned())
    };
    backend
        .heads()
        .iter()
        .map(|head| value(&head.headers))
        .collect()
}

#[tokio::test]
async fn only_the_codes_of_the_policy() {
    let retryable = [
        Code::Cancelled,
        Code::DeadlineExceeded,
        Code::Internal,
        Code::ResourceExhausted,
        Code::Unavailable,
    ];
    let backend = Backend::start("a").await;
    // Those that xDS cannot name are left out by the client.
    let fixture = on(Way::Grpc, &backend, quick((1..=16).map(Code::from_i32))).await;
    let mut client = fixture.client();
    for number in 1..=16 {
        let code = Code::from_i32(number);
        let before = backend.calls();
        fail_first(&backend, 1, code);
        let reply = within(client.unary(echo("hi"))).await;
        let attempts = backend.calls() - before;
        if retryable.contains(&code) {
            assert!(reply.is_ok(), "{code}");
            assert_eq!(attempts, 2, "{code}");
        } else {
            let failed = reply.unwrap_err();
            assert_eq!(failed.code() as i32, number);
            assert_eq!(failed.message(), format!("made {code}"));
            assert_eq!(attempts, 1, "{code}");
        }
    }
    assert_eq!(totals(&fixture).retries(), 5);

    // One code does not stand for another.
    let backend = Backend::start("b").await;
    let fixture = on(Way::Grpc, &backend, quick([Code::Internal])).await;
    fail_first(&backend, 1, Code::Unavailable);
    within(fixture.client().unary(echo("hi")))
        .await
        .unwrap_err();
    assert_eq!(backend.calls(), 1);
}

/// gRPC makes five attempts at most, whatever the policy says.
async fn as_often_as_the_policy_says(way: Way) {
    let most = if way == Way::Grpc { 5 } else { 10 };
    for (retries, attempts) in [
        (None, 2),
        (Some(1), 2),
        (Some(3), 4),
        (Some(4), 5),
        (Some(9), most),
    ] {
        let backend = Backend::start("a").await;
        let mut retry = unavailable(way);
        if let Some(retries) = retries {
            retry = retry.times(retries);
        }
        let fixture = on(way, &backend, retry).await;
        fail_first(&backend, u64::MAX, Code::Unavailable);
        let failed = fixture.call().await.unwrap_err();
        // The last attempt's answer, as the server gave it.
        assert_eq!(failed.code(), tonic::Code::Unavailable);
        assert_eq!(failed.message(), "made UNAVAILABLE");
        assert_eq!(backend.calls(), attempts, "{retries:?}");
        if way == Way::Grpc {
            let numbers = (0..attempts).map(|n| (n > 0).then(|| n.to_string()));
            assert_eq!(previous_attempts(&backend), numbers.collect::<Vec<_>>());
        }
        let totals = totals(&fixture);
        assert_eq!(totals.retries(), attempts - 1);
        assert_eq!(totals.attempts(), attempts);
        assert_eq!((totals.started(), totals.finished()), (1, 1));
        assert_eq!(totals.code(Code::Unavailable), 1);
    }
}

async fn without_a_policy_there_is_none(way: Way) {
    let backend = Backend::start("a").await;
    let fixture = on(way, &backend, None).await;
    fail_first(&backend, 1, Code::Unavailable);
    fixture.call().await.unwrap_err();
    assert_eq!(backend.calls(), 1);
}

async fn resets_and_broken_connections_are_tried_again(way: Way) {
    let mut backend = Backend::start("a").await;
    let retry = match way {
        Way::Grpc => quick([Code::Internal, Code::Unavailable]),
        Way::Http1 | Way::Http2 => unavailable(way),
    };
    let fixture = on(way, &backend, retry.times(2)).await;
    let caller = fixture.caller();
    backend.answer(|call| async move {
        match call.number {
            1 => call.reset(h2::Reason::INTERNAL_ERROR).await,
            _ => call.echo().await,
        }
    });
    within(call(&caller)).await.unwrap();
    assert_eq!(backend.calls(), 2);

    // A server that is killed while it works on a call.
    let other = Backend::start("b").await;
    backend.hold();
    fixture
        .serve(&[&backend])
        .endpoint(other.address())
        // Of HTTP, three retries may be under way if nothing is said.
        .max_retries(8)
        .apply()
        .acked()
        .await;
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let caller = caller.clone();
            tokio::spawn(async move { caller.call().await })
        })
        .collect();
    backend
        .until("calls are held", |seen| seen.active > 0)
        .await;
    backend.stop().await;
    for call in calls {
        assert_eq!(within(call).await.unwrap().unwrap(), "b");
    }
}

fn pushed_back(code: Code, pushback: &'static str) -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert("grpc-retry-pushback-ms", pushback.parse().unwrap());
    Status::with_metadata(status(code).code(), "pushed back", metadata)
}

#[tokio::test]
async fn pushback_says_when() {
    let backend = Backend::start("a").await;
    let slow = Retry::on([Code::Unavailable]).backoff(NEVER, NEVER);
    let fixture = on(Way::Grpc, &backend, slow.times(2)).await;
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    backend.answer({
        let arrivals = Arc::clone(&arrivals);
        move |call| {
            arrivals.lock().push(Instant::now());
            async move {
                match call.number {
                    1 => call.fail(pushed_back(Code::Unavailable, "0")).await,
                    2 => call.fail(pushed_back(Code::Unavailable, "250")).await,
                    _ => call.echo().await,
                }
            }
        }
    });
    within(fixture.client().unary(echo("hi"))).await.unwrap();
    let arrivals = arrivals.lock();
    assert_eq!(arrivals.len(), 3);
    assert!(arrivals[2] - arrivals[1] >= Duration::from_millis(250));
}

#[tokio::test]
async fn pushback_stops() {
    for stop in ["-1", "soon", ""] {
        let backend = Backend::start("a").await;
        let fixture = on(Way::Grpc, &backend, quick([Code::Unavailable]).times(3)).await;
        backend.answer(move |call| call.fail(pushed_back(Code::Unavailable, stop)));
        let failed = within(fixture.client().unary(echo("hi")))
            .await
            .unwrap_err();
        assert_eq!(failed.message(), "pushed back");
        assert_eq!(backend.calls(), 1, "{stop:?}");
    }
}

#[tokio::test]
async fn pushback_makes_no_code_retryable() {
    let backend = Backend::start("a").await;
    let fixture = on(Way::Grpc, &backend, quick([Code::Unavailable])).await;
    backend.answer(|call| call.fail(pushed_back(Code::Internal, "0")));
    within(fixture.client().unary(echo("hi")))
        .await
        .unwrap_err();
    assert_eq!(backend.calls(), 1);
}

async fn a_deadline_ends_the_pause(way: Way) {
    let backend = Backend::start("a").await;
    let fixture = on(way, &backend, way.retry().backoff(NEVER, NEVER)).await;
    fail_first(&backend, u64::MAX, Code::Unavailable);
    let ask = Ask::new("hi").timeout(Duration::from_millis(200));
    let failed = fixture.ask(ask).await.unwrap_err();
    assert_eq!(failed.code(), tonic::Code::DeadlineExceeded);
    assert_eq!(backend.calls(), 1);
}

#[tokio::test]
async fn each_attempt_is_told_what_is_left() {
    let backend = Backend::start("a").await;
    let fixture = on(Way::Grpc, &backend, quick([Code::Unavailable]).times(2)).await;
    fail_first(&backend, 2, Code::Unavailable);
    let mut request = Request::new(echo("hi"));
    request.set_timeout(Duration::from_secs(60));
    within(fixture.client().unary(request)).await.unwrap();
    let left: Vec<_> = backend
        .heads()
        .iter()
        .map(|head| {
            mesh_core::resilience::parse_grpc_timeout(&head.headers["grpc-timeout"]).unwrap()
        })
        .collect();
    // The first has waited for a connection.
    let all = Duration::from_secs(60);
    assert!(left[0] <= all, "{left:?}");
    assert!(left[1] < left[0] && left[2] < left[1], "{left:?}");
    assert!(left[2] > Duration::from_secs(30), "{left:?}");
}

/// Reads the request of each call to its end, keeps it, and fails until the `last`.
fn keep_bodies(backend: &Backend, last: u64) -> Arc<Mutex<Vec<Bytes>>> {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    backend.answer({
        let bodies = Arc::clone(&bodies);
        move |mut call: Incoming| {
            let bodies = Arc::clone(&bodies);
            async move {
                match call.read().await {
                    Ok(body) => bodies.lock().push(body),
                    Err(error) => return call.fail(error).await,
                }
                match call.number < last {
                    true => call.fail(status(Code::Unavailable)).await,
                    false => call.echo().await,
                }
            }
        }
    });
    bodies
}

async fn every_attempt_carries_the_same_request(way: Way) {
    let backend = Backend::start("a").await;
    let fixture = on(way, &backend, unavailable(way).times(2)).await;
    let bodies = keep_bodies(&backend, 3);
    let parts: Vec<_> = (0..50).map(|n| vec![n; usize::from(n) * 40]).collect();
    let whole = parts.concat();
    let ask = Ask::new("").header("x-kept", "yes");
    let ask = ask.header("x-kept", "twice");
    let caller = fixture.caller();
    let begin = Chat::begin(&caller, ask);
    for part in parts {
        begin.send(part);
    }
    let mut chat = within(begin.ended()).await.unwrap();
    let mut echoed = Vec::new();
    while echoed.len() < whole.len() {
        echoed.extend_from_slice(&within(chat.hear()).await.unwrap().1);
    }
    assert!(echoed == whole);
    let bodies = bodies.lock();
    assert_eq!(bodies.len(), 3);
    assert!(bodies.iter().all(|body| body == &bodies[0]));
    for head in backend.heads() {
        let kept: Vec<_> = head.headers.get_all("x-kept").iter().collect();
        assert_eq!(kept, ["yes", "twice"]);
        assert_eq!(head.path, CHAT);
    }
}

async fn a_request_under_way_is_replayed_and_goes_on(way: Way) {
    let backend = Backend::start("a").await;
    let fixture = on(way, &backend, unavailable(way).times(2)).await;
    // The first two attempts fail before the request has ended.
    fail_first(&backend, 2, Code::Unavailable);
    let begin = Chat::begin(&fixture.caller(), Ask::new("one "));
    begin.send("two ");
    let opened = tokio::spawn(begin.answered());
    backend
        .until("three attempts", |seen| seen.calls == 3)
        .await;
    let mut chat = within(opened).await.unwrap().unwrap();
    chat.send("three");
    chat.end();
    let mut echoed = Vec::new();
    while echoed.len() < "one two three".len() {
        echoed.extend_from_slice(&within(chat.hear()).await.unwrap().1);
    }
    assert_eq!(echoed, b"one two three");
    within(chat.finish()).await.unwrap();
}

async fn a_request_that_outgrew_the_buffer_is_not_tried_again(way: Way) {
    let backend = Backend::start("a").await;
    let fixture = Fixture::with(way, |options| options.retry_buffer = 4_000).await;
    fixture
        .serve(&[&backend])
        .retry(unavailable(way).times(3))
        .apply();
    let bodies = keep_bodies(&backend, u64::MAX);
    let caller = fixture.caller();
    for big in [false, true] {
        let before = backend.calls();
        let size = if big { 8_000 } else { 2_000 };
        let ask = Ask::new(vec![7; size]);
        let failed = within(caller.ask(ask)).await.unwrap_err();
        // What the server said, not what became of the buffer.
        assert_eq!(failed.message(), "made UNAVAILABLE");
        assert_eq!(failed.code(), tonic::Code::Unavailable);
        let attempts = if big { 1 } else { 4 };
        assert_eq!(backend.calls() - before, attempts, "{size} bytes");
    }
    let begin = Chat::begin(&caller, Ask::new(""));
    for _ in 0..10 {
        begin.send(vec![7; 1_000]);
    }
    let failed = within(begin.ended()).await.unwrap_err();
    assert_eq!(failed.message(), "made UNAVAILABLE");
    assert_eq!(bodies.lock().len(), 6);
    assert_eq!(totals(&fixture).retries(), 3);
}

async fn response_headers_commit(way: Way) {
    let backend = Backend::start("a").await;
    let fixture = on(way, &backend, unavailable(way).times(3)).await;
    backend.answer(|call| call.headers_then(status(Code::Unavailable)));
    let mut chat = within(Chat::open(&fixture.caller())).await.unwrap();
    chat.end();
    let failed = chat.finish_late().await;
    if way == Way::Grpc {
        assert_eq!(failed.code(), tonic::Code::Unavailable);
    }
    assert_eq!(backend.calls(), 1);
    assert_eq!(totals(&fixture).retries(), 0);
}

async fn a_rules_policy_takes_the_place_of_the_services(way: Way) {
    let backend = Backend::start("a").await;
    let fixture = Fixture::over(way).await;
    let other = match way {
        Way::Grpc => quick([Code::ResourceExhausted]),
        Way::Http1 | Way::Http2 => Retry::conditions([]).statuses([429]).backoff(QUICK, QUICK),
    };
    const OTHER: &str = "/mesh.test.Echo/Expand";
    fixture
        .serve(&[&backend])
        .retry(unavailable(way).times(1))
        .route(Route::path(OTHER).retry(other.times(2)))
        .apply();
    let caller = fixture.caller();
    for (path, code, attempts) in [
        (UNARY, Code::Unavailable, 2),
        (UNARY, Code::ResourceExhausted, 1),
        (OTHER, Code::Unavailable, 1),
        (OTHER, Code::ResourceExhausted, 3),
    ] {
        let before = backend.calls();
        fail_first(&backend, u64::MAX, code);
        let ask = Ask::new("hi").path(path);
        within(caller.ask(ask)).await.unwrap_err();
        assert_eq!(backend.calls() - before, attempts, "{path} {code}");
    }
}

async fn another_attempt_goes_to_another_endpoint(way: Way) {
    let (bad, good) = (Backend::start("bad").await, Backend::start("good").await);
    fail_first(&bad, u64::MAX, Code::Unavailable);
    let fixture = Fixture::over(way).await;
    fixture
        .serve(&[&bad, &good])
        .retry(unavailable(way).times(1))
        .apply();
    let caller = fixture.caller();
    // Both are connected once both were called.
    while bad.calls() == 0 || good.calls() == 0 {
        let _ = within(call(&caller)).await;
    }
    for _ in 0..100 {
        assert_eq!(within(call(&caller)).await.unwrap(), "good");
    }
    assert!(bad.calls() > 20, "{:?}", bad.counts());
}

async fn retries_stay_on_the_cluster_that_was_drawn(way: Way) {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let fixture = Fixture::over(way).await;
    fixture
        .service()
        .version("one")
        .weight(50)
        .endpoint(one.address())
        .version("two")
        .weight(50)
        .endpoint(two.address())
        .retry(unavailable(way).times(3))
        .apply();
    let caller = fixture.caller();
    fail_first(&one, u64::MAX, Code::Unavailable);
    for _ in 0..40 {
        let before = (one.calls(), two.calls());
        let reply = within(call(&caller)).await;
        let after = (one.calls(), two.calls());
        match reply {
            Ok(_) => assert_eq!((after.0 - before.0, after.1 - before.1), (0, 1)),
            Err(_) => assert_eq!((after.0 - before.0, after.1 - before.1), (4, 0)),
        }
    }
}

every_way!(
    as_often_as_the_policy_says,
    without_a_policy_there_is_none,
    resets_and_broken_connections_are_tried_again,
    a_deadline_ends_the_pause,
    every_attempt_carries_the_same_request,
    a_request_under_way_is_replayed_and_goes_on,
    a_request_that_outgrew_the_buffer_is_not_tried_again,
    response_headers_commit,
    a_rules_policy_takes_the_place_of_the_services,
    another_attempt_goes_to_another_endpoint,
    retries_stay_on_the_cluster_that_was_drawn,
);
