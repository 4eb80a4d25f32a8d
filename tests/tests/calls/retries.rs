//! Retries that a route's policy asks for (gRFC A6, A44).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use mesh_core::{
    Code,
    telemetry::Counts,
    testing::{Retry, Route},
};
use mesh_tests::{
    fixture::{Fixture, echo, within},
    scripted::{Call, Scripted},
};
use parking_lot::Mutex;
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, metadata::MetadataMap};

const QUICK: Duration = Duration::from_millis(1);
/// A pause that no test survives.
const NEVER: Duration = Duration::from_secs(3_600);

fn quick(codes: impl IntoIterator<Item = Code>) -> Retry {
    Retry::on(codes).backoff(QUICK, QUICK)
}

fn status(code: Code) -> Status {
    Status::new(tonic::Code::from_i32(code as i32), format!("made {code}"))
}

/// Fails this many calls with `code`, then echoes.
fn fail_first(backend: &Scripted, calls: u64, code: Code) {
    let before = backend.seen().calls;
    backend.answer(move |call| async move {
        match call.number - before <= calls {
            true => call.fail(status(code)).await,
            false => call.echo().await,
        }
    });
}

async fn on(backend: &Scripted, retry: impl Into<Option<Retry>>) -> Fixture {
    let fixture = Fixture::start().await;
    fixture.serve(&[backend]).retry(retry).apply();
    fixture
}

fn totals(fixture: &Fixture) -> Counts {
    fixture.mesh.metrics().totals()
}

/// `grpc-previous-rpc-attempts` of each call that the backend has seen.
fn previous_attempts(backend: &Scripted) -> Vec<Option<String>> {
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
    let backend = Scripted::start("a").await;
    // Those that xDS cannot name are left out by the client.
    let fixture = on(&backend, quick((1..=16).map(Code::from_i32))).await;
    let mut client = fixture.client();
    for number in 1..=16 {
        let code = Code::from_i32(number);
        let before = backend.seen().calls;
        fail_first(&backend, 1, code);
        let reply = within(client.unary(echo("hi"))).await;
        let attempts = backend.seen().calls - before;
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
    let backend = Scripted::start("b").await;
    let fixture = on(&backend, quick([Code::Internal])).await;
    fail_first(&backend, 1, Code::Unavailable);
    within(fixture.client().unary(echo("hi")))
        .await
        .unwrap_err();
    assert_eq!(backend.seen().calls, 1);
}

#[tokio::test]
async fn as_often_as_the_policy_says_and_five_times_at_most() {
    for (retries, attempts) in [
        (None, 2),
        (Some(1), 2),
        (Some(3), 4),
        (Some(4), 5),
        (Some(9), 5),
    ] {
        let backend = Scripted::start("a").await;
        let mut retry = quick([Code::Unavailable]);
        if let Some(retries) = retries {
            retry = retry.times(retries);
        }
        let fixture = on(&backend, retry).await;
        fail_first(&backend, u64::MAX, Code::Unavailable);
        let failed = within(fixture.client().unary(echo("hi")))
            .await
            .unwrap_err();
        // The last attempt's answer, as the server gave it.
        assert_eq!(failed.code(), tonic::Code::Unavailable);
        assert_eq!(failed.message(), "made UNAVAILABLE");
        assert_eq!(backend.seen().calls, attempts, "{retries:?}");
        let numbers = (0..attempts).map(|n| (n > 0).then(|| n.to_string()));
        assert_eq!(previous_attempts(&backend), numbers.collect::<Vec<_>>());
        let totals = totals(&fixture);
        assert_eq!(totals.retries(), attempts - 1);
        assert_eq!(totals.attempts(), attempts);
        assert_eq!((totals.started(), totals.finished()), (1, 1));
        assert_eq!(totals.code(Code::Unavailable), 1);
    }
}

#[tokio::test]
async fn without_a_policy_there_is_none() {
    let backend = Scripted::start("a").await;
    let fixture = on(&backend, None).await;
    fail_first(&backend, 1, Code::Unavailable);
    within(fixture.client().unary(echo("hi")))
        .await
        .unwrap_err();
    assert_eq!(backend.seen().calls, 1);
}

#[tokio::test]
async fn resets_and_broken_connections_are_tried_again() {
    let backend = Scripted::start("a").await;
    let fixture = on(
        &backend,
        quick([Code::Internal, Code::Unavailable]).times(2),
    )
    .await;
    let mut client = fixture.client();
    backend.answer(|call| async move {
        match call.number {
            1 => call.reset(h2::Reason::INTERNAL_ERROR).await,
            _ => call.echo().await,
        }
    });
    within(client.unary(echo("hi"))).await.unwrap();
    assert_eq!(backend.seen().calls, 2);

    // A server that is killed while it works on a call.
    let other = Scripted::start("b").await;
    backend.answer(|call| call.hold());
    fixture
        .serve(&[&backend])
        .endpoint(other.address())
        .apply()
        .acked()
        .await;
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { client.unary(echo("hi")).await })
        })
        .collect();
    backend.until("calls are held", |seen| seen.open > 0).await;
    backend.kill().await;
    for call in calls {
        let reply = within(call).await.unwrap().unwrap();
        assert_eq!(reply.into_inner().server, "b");
    }
}

fn pushed_back(code: Code, pushback: &'static str) -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert("grpc-retry-pushback-ms", pushback.parse().unwrap());
    Status::with_metadata(status(code).code(), "pushed back", metadata)
}

#[tokio::test]
async fn pushback_says_when() {
    let backend = Scripted::start("a").await;
    let slow = Retry::on([Code::Unavailable]).backoff(NEVER, NEVER);
    let fixture = on(&backend, slow.times(2)).await;
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
        let backend = Scripted::start("a").await;
        let fixture = on(&backend, quick([Code::Unavailable]).times(3)).await;
        backend.answer(move |call| call.fail(pushed_back(Code::Unavailable, stop)));
        let failed = within(fixture.client().unary(echo("hi")))
            .await
            .unwrap_err();
        assert_eq!(failed.message(), "pushed back");
        assert_eq!(backend.seen().calls, 1, "{stop:?}");
    }
}

#[tokio::test]
async fn pushback_makes_no_code_retryable() {
    let backend = Scripted::start("a").await;
    let fixture = on(&backend, quick([Code::Unavailable])).await;
    backend.answer(|call| call.fail(pushed_back(Code::Internal, "0")));
    within(fixture.client().unary(echo("hi")))
        .await
        .unwrap_err();
    assert_eq!(backend.seen().calls, 1);
}

#[tokio::test]
async fn a_deadline_ends_the_pause() {
    let backend = Scripted::start("a").await;
    let fixture = on(
        &backend,
        Retry::on([Code::Unavailable]).backoff(NEVER, NEVER),
    )
    .await;
    fail_first(&backend, u64::MAX, Code::Unavailable);
    let mut request = Request::new(echo("hi"));
    request.set_timeout(Duration::from_millis(200));
    let failed = within(fixture.client().unary(request)).await.unwrap_err();
    assert_eq!(failed.code(), tonic::Code::DeadlineExceeded);
    assert_eq!(backend.seen().calls, 1);
}

#[tokio::test]
async fn each_attempt_is_told_what_is_left() {
    let backend = Scripted::start("a").await;
    let fixture = on(&backend, quick([Code::Unavailable]).times(2)).await;
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
fn keep_bodies(backend: &Scripted, last: u64) -> Arc<Mutex<Vec<Bytes>>> {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    backend.answer({
        let bodies = Arc::clone(&bodies);
        move |mut call: Call| {
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

#[tokio::test]
async fn every_attempt_carries_the_same_request() {
    let backend = Scripted::start("a").await;
    let fixture = on(&backend, quick([Code::Unavailable]).times(2)).await;
    let bodies = keep_bodies(&backend, 3);
    let parts: Vec<_> = (0..50).map(|n| vec![n; usize::from(n) * 40]).collect();
    let whole = parts.concat();
    let mut request = Request::new(stream::iter(parts.into_iter().map(echo)));
    request
        .metadata_mut()
        .insert("x-kept", "yes".parse().unwrap());
    request
        .metadata_mut()
        .append("x-kept", "twice".parse().unwrap());
    let reply = within(fixture.client().collect(request)).await.unwrap();
    assert!(reply.into_inner().payload == whole);
    let bodies = bodies.lock();
    assert_eq!(bodies.len(), 3);
    assert!(bodies.iter().all(|body| body == &bodies[0]));
    for head in backend.heads() {
        let kept: Vec<_> = head.headers.get_all("x-kept").iter().collect();
        assert_eq!(kept, ["yes", "twice"]);
        assert_eq!(head.headers["te"], "trailers");
        assert_eq!(head.path, "/mesh.test.Echo/Collect");
    }
}

#[tokio::test]
async fn a_request_under_way_is_replayed_and_goes_on() {
    let backend = Scripted::start("a").await;
    let fixture = on(&backend, quick([Code::Unavailable]).times(2)).await;
    // The first two attempts fail before the request has ended.
    fail_first(&backend, 2, Code::Unavailable);
    let (messages, outbox) = mpsc::channel(1);
    let call = tokio::spawn({
        let mut client = fixture.client();
        async move { client.collect(ReceiverStream::new(outbox)).await }
    });
    within(messages.send(echo("one "))).await.unwrap();
    within(messages.send(echo("two "))).await.unwrap();
    backend
        .until("three attempts", |seen| seen.calls == 3)
        .await;
    within(messages.send(echo("three"))).await.unwrap();
    drop(messages);
    let reply = within(call).await.unwrap().unwrap();
    assert_eq!(reply.into_inner().payload, "one two three");
}

#[tokio::test]
async fn a_request_that_outgrew_the_buffer_is_not_tried_again() {
    let backend = Scripted::start("a").await;
    let fixture = Fixture::with(|options| options.retry_buffer = 4_000).await;
    fixture
        .serve(&[&backend])
        .retry(quick([Code::Unavailable]).times(3))
        .apply();
    let bodies = keep_bodies(&backend, u64::MAX);
    let mut client = fixture.client();
    for big in [false, true] {
        let before = backend.seen().calls;
        let size = if big { 8_000 } else { 2_000 };
        let failed = within(client.unary(echo(vec![7; size]))).await.unwrap_err();
        // What the server said, not what became of the buffer.
        assert_eq!(failed.message(), "made UNAVAILABLE");
        assert_eq!(failed.code(), tonic::Code::Unavailable);
        let attempts = if big { 1 } else { 4 };
        assert_eq!(backend.seen().calls - before, attempts, "{size} bytes");
    }
    let failed = within(client.collect(stream::iter((0..10).map(|_| echo(vec![7; 1_000])))))
        .await
        .unwrap_err();
    assert_eq!(failed.message(), "made UNAVAILABLE");
    assert_eq!(bodies.lock().len(), 6);
    assert_eq!(totals(&fixture).retries(), 3);
}

#[tokio::test]
async fn response_headers_commit() {
    let backend = Scripted::start("a").await;
    let fixture = on(&backend, quick([Code::Unavailable]).times(3)).await;
    backend.answer(|call| call.headers_then(status(Code::Unavailable)));
    let failed = within(fixture.client().unary(echo("hi")))
        .await
        .unwrap_err();
    assert_eq!(failed.code(), tonic::Code::Unavailable);
    assert_eq!(backend.seen().calls, 1);
    assert_eq!(totals(&fixture).retries(), 0);
}

#[tokio::test]
async fn a_rules_policy_takes_the_place_of_the_services() {
    let backend = Scripted::start("a").await;
    let fixture = Fixture::start().await;
    fixture
        .serve(&[&backend])
        .retry(quick([Code::Unavailable]).times(1))
        .route(Route::path("/mesh.test.Echo/Collect").retry(quick([Code::Internal]).times(2)))
        .apply();
    let mut client = fixture.client();
    for (collect, code, attempts) in [
        (false, Code::Unavailable, 2),
        (false, Code::Internal, 1),
        (true, Code::Unavailable, 1),
        (true, Code::Internal, 3),
    ] {
        let before = backend.seen().calls;
        fail_first(&backend, u64::MAX, code);
        match collect {
            true => within(client.collect(stream::iter([echo("hi")])))
                .await
                .map(drop),
            false => within(client.unary(echo("hi"))).await.map(drop),
        }
        .unwrap_err();
        assert_eq!(backend.seen().calls - before, attempts, "{collect} {code}");
    }
}

#[tokio::test]
async fn another_attempt_goes_to_another_endpoint() {
    let (bad, good) = (Scripted::start("bad").await, Scripted::start("good").await);
    fail_first(&bad, u64::MAX, Code::Unavailable);
    let fixture = Fixture::start().await;
    fixture
        .serve(&[&bad, &good])
        .retry(quick([Code::Unavailable]).times(1))
        .apply();
    let mut client = fixture.client();
    // Both are connected once both were called.
    while bad.seen().calls == 0 || good.seen().calls == 0 {
        let _ = within(client.unary(echo("hi"))).await;
    }
    for _ in 0..100 {
        let reply = within(client.unary(echo("hi"))).await.unwrap();
        assert_eq!(reply.into_inner().server, "good");
    }
    assert!(bad.seen().calls > 20, "{:?}", bad.seen());
}

#[tokio::test]
async fn retries_stay_on_the_cluster_that_was_drawn() {
    let (one, two) = (Scripted::start("one").await, Scripted::start("two").await);
    let fixture = Fixture::start().await;
    fixture
        .service()
        .version("one")
        .weight(50)
        .endpoint(one.address())
        .version("two")
        .weight(50)
        .endpoint(two.address())
        .retry(quick([Code::Unavailable]).times(3))
        .apply();
    let mut client = fixture.client();
    fail_first(&one, u64::MAX, Code::Unavailable);
    for _ in 0..40 {
        let before = (one.seen().calls, two.seen().calls);
        let reply = within(client.unary(echo("hi"))).await;
        let after = (one.seen().calls, two.seen().calls);
        match reply {
            Ok(_) => assert_eq!((after.0 - before.0, after.1 - before.1), (0, 1)),
            Err(_) => assert_eq!((after.0 - before.0, after.1 - before.1), (4, 0)),
        }
    }
}
