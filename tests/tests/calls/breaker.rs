//! The circuit breaker (gRFC A32).

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::join_all};
use mesh_core::{Code, telemetry::Cause};
use mesh_tests::{
    backend::Backend,
    every_way,
    fixture::{Fixture, within},
    way::{Ask, Call, Chat, Reply, Way, cause},
};
use tokio::sync::{Semaphore, mpsc};
use tonic::{Status, body::Body, codegen::Service};

/// Answers each call once there is a permit for it.
fn gate(backend: &Backend) -> Arc<Semaphore> {
    let gate = Arc::new(Semaphore::new(0));
    backend.answer({
        let gate = Arc::clone(&gate);
        move |call| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.unwrap().forget();
                call.echo().await
            }
        }
    });
    gate
}

fn is_overload(reply: &Result<Reply, Status>) -> bool {
    match reply {
        Ok(_) => false,
        Err(status) => {
            assert_eq!(status.code(), tonic::Code::Unavailable);
            let text = status.message();
            assert!(text.contains("circuit breaker"), "{text}");
            assert!(text.contains("max_requests"), "{text}");
            true
        }
    }
}

async fn the_limit_is_exact_under_concurrency(way: Way) {
    const LIMIT: u32 = 5;
    let backends = [Backend::start("a").await, Backend::start("b").await];
    let gates = backends.each_ref().map(gate);
    let fixture = Fixture::over(way).await;
    fixture
        .serve(&[&backends[0], &backends[1]])
        .max_requests(LIMIT)
        .apply();
    let caller = fixture.caller();
    within(fixture.mesh.ready()).await.unwrap();
    let start = Arc::new(tokio::sync::Barrier::new(64));
    for round in 1..=5 {
        let calls = (0..64).map(|_| {
            let caller = caller.clone();
            let start = Arc::clone(&start);
            tokio::spawn(async move {
                start.wait().await;
                caller.ask(Ask::new("hi")).await
            })
        });
        let calls: Vec<_> = calls.collect();
        // All but the admitted ones end at once.
        let (ended, mut ends) = mpsc::unbounded_channel();
        let calls: Vec<_> = calls
            .into_iter()
            .map(|call| {
                let ended = ended.clone();
                tokio::spawn(async move {
                    let reply = call.await.unwrap();
                    let _ = ended.send(());
                    reply
                })
            })
            .collect();
        for _ in 0..64 - LIMIT {
            within(ends.recv()).await.unwrap();
        }
        let total = |seen: &dyn Fn(&Backend) -> u64| backends.iter().map(seen).sum::<u64>();
        while total(&|backend| backend.counts().active) < u64::from(LIMIT) {
            tokio::task::yield_now().await;
        }
        assert_eq!(total(&|backend| backend.calls()), round * u64::from(LIMIT));
        for gate in &gates {
            gate.add_permits(LIMIT as usize);
        }
        let replies = within(join_all(calls)).await;
        let shed = replies
            .iter()
            .filter(|reply| is_overload(reply.as_ref().unwrap()))
            .count();
        assert_eq!(shed, 64 - LIMIT as usize);
        for gate in &gates {
            gate.forget_permits(gate.available_permits());
        }
    }
    let totals = fixture.mesh.metrics().totals();
    assert_eq!(
        totals.cause(Cause::CircuitBreaker),
        5 * (64 - u64::from(LIMIT))
    );
    assert_eq!(totals.code(Code::Ok), 5 * u64::from(LIMIT));
}

/// A call that a server may have before anybody polls it.
fn unpolled(fixture: &Fixture) -> mesh_tonic::ResponseFuture {
    let request = http::Request::post("/mesh.test.Echo/Unary").body(Body::empty());
    Service::call(&mut fixture.channel(), request.unwrap())
}

/// Whether a slot of a limit of one is free.
async fn is_free(fixture: &Fixture, backend: &Backend) -> bool {
    backend.echo();
    !is_overload(&fixture.ask(Ask::new("probe")).await)
}

async fn limited(way: Way, backend: &Backend) -> Fixture {
    let fixture = Fixture::over(way).await;
    fixture.serve(&[backend]).max_requests(1).apply();
    fixture
}

/// Dropped before it was polled, and after its first poll.
#[tokio::test]
async fn a_call_that_is_dropped_early_frees_its_slot() {
    let backend = Backend::start("a").await;
    let fixture = limited(Way::Grpc, &backend).await;
    fixture.call().await.unwrap();
    backend.hold();
    drop(unpolled(&fixture));
    assert!(is_free(&fixture, &backend).await);
    let mut call = unpolled(&fixture);
    assert!((&mut call).now_or_never().is_none());
    drop(call);
    assert!(is_free(&fixture, &backend).await);
}

async fn every_end_of_a_call_frees_its_slot(way: Way) {
    let mut backend = Backend::start("a").await;
    let fixture = limited(way, &backend).await;
    let caller = fixture.caller();
    let short = || Ask::new("hi").timeout(Duration::from_millis(100));

    // An answer, and an answer that is an error, each way.
    fixture.call().await.unwrap();
    assert!(is_free(&fixture, &backend).await);
    backend.answer(|call| call.fail(Status::internal("no")));
    fixture.call().await.unwrap_err();
    assert!(is_free(&fixture, &backend).await);
    backend.answer(|call| call.headers_then(Status::internal("no")));
    fixture.call().await.unwrap_err();
    assert!(is_free(&fixture, &backend).await);

    // Cancelled before the response's headers.
    backend.hold();
    let call = tokio::spawn({
        let caller = caller.clone();
        async move { caller.call().await }
    });
    backend
        .until("the call came", |seen| seen.active == 1)
        .await;
    assert!(!is_free(&fixture, &backend).await);
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    assert!(is_free(&fixture, &backend).await);

    // Cancelled in the middle of the response.
    let listen = async |ask: Ask| within(Chat::listen(&caller, ask)).await.unwrap();
    backend.answer(|call| call.stall());
    let replies = listen(Ask::new("hi")).await;
    assert!(!is_free(&fixture, &backend).await);
    drop(replies);
    assert!(is_free(&fixture, &backend).await);

    // The deadline, before and after the response's headers.
    backend.hold();
    fixture.ask(short()).await.unwrap_err();
    assert!(is_free(&fixture, &backend).await);
    backend.answer(|call| call.stall());
    let mut replies = listen(short()).await;
    within(replies.hear()).await.unwrap_err();
    assert!(is_free(&fixture, &backend).await);
    drop(replies);

    // A reset, and the loss of the connection.
    backend.answer(|call| call.reset(h2::Reason::INTERNAL_ERROR));
    fixture.call().await.unwrap_err();
    assert!(is_free(&fixture, &backend).await);
    let other = Backend::start("b").await;
    backend.answer(|call| call.stall());
    let mut replies = listen(Ask::new("hi")).await;
    fixture.serve(&[&other]).apply().acked().await;
    assert!(!is_free(&fixture, &other).await);
    backend.stop().await;
    within(replies.hear()).await.unwrap_err();
    assert!(is_free(&fixture, &other).await);

    // And each was recorded once.
    let totals = fixture.mesh.metrics().totals();
    assert_eq!(totals.started(), totals.finished());
    assert_eq!(totals.cause(Cause::Cancelled), 2);
}

async fn a_stream_holds_its_slot_for_life(way: Way) {
    let backend = Backend::start("a").await;
    let fixture = limited(way, &backend).await;
    let mut chat = within(Chat::open(&fixture.caller())).await.unwrap();
    for _ in 0..3 {
        within(chat.say()).await.unwrap();
        assert!(!is_free(&fixture, &backend).await);
    }
    within(chat.finish()).await.unwrap();
    assert!(is_free(&fixture, &backend).await);
}

async fn an_overload_is_not_tried_again(way: Way) {
    let backend = Backend::start("a").await;
    let fixture = Fixture::over(way).await;
    let hour = Duration::from_secs(3_600);
    fixture
        .serve(&[&backend])
        .max_requests(1)
        .retry(way.retry().times(4).backoff(hour, hour))
        .apply();
    backend.answer(|call| call.stall());
    let caller = fixture.caller();
    let held = Chat::listen(&caller, Ask::new("hi"));
    let _held = within(held).await.unwrap();
    let status = fixture.call().await.unwrap_err();
    assert_eq!(cause(&status).cause(), Cause::CircuitBreaker);
    assert!(cause(&status).is_shed());
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert_eq!(backend.calls(), 1);
    assert_eq!(fixture.mesh.metrics().totals().retries(), 0);
}

async fn a_new_limit_counts_what_is_in_flight(way: Way) {
    let backend = Backend::start("a").await;
    let fixture = limited(way, &backend).await;
    let caller = fixture.caller();
    let listen = async || within(Chat::listen(&caller, Ask::new("hi"))).await.unwrap();
    backend.answer(|call| call.stall());
    let first = listen().await;
    assert!(!is_free(&fixture, &backend).await);
    fixture.service().max_requests(2).apply().acked().await;
    assert!(is_free(&fixture, &backend).await);
    backend.answer(|call| call.stall());
    let second = listen().await;
    assert!(!is_free(&fixture, &backend).await);
    fixture.service().max_requests(1).apply().acked().await;
    drop(second);
    assert!(!is_free(&fixture, &backend).await, "the first still counts");
    drop(first);
    assert!(is_free(&fixture, &backend).await);
}

async fn an_attempt_that_is_pausing_holds_no_slot(way: Way) {
    let backend = Backend::start("a").await;
    let fixture = Fixture::over(way).await;
    let hour = Duration::from_secs(3_600);
    fixture
        .serve(&[&backend])
        .max_requests(1)
        .retry(way.retry().backoff(hour, hour))
        .apply();
    backend.answer(|call| call.fail(Status::unavailable("later")));
    let pausing = tokio::spawn({
        let caller = fixture.caller();
        async move { caller.call().await }
    });
    backend
        .until("the call failed", |seen| {
            seen.calls == 1 && seen.active == 0
        })
        .await;
    // The answer is on its way: the slot is free a moment after the server is done.
    within(async {
        while !is_free(&fixture, &backend).await {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!pausing.is_finished());
    pausing.abort();
}

every_way!(
    every_end_of_a_call_frees_its_slot,
    a_stream_holds_its_slot_for_life,
    an_overload_is_not_tried_again,
    a_new_limit_counts_what_is_in_flight,
    an_attempt_that_is_pausing_holds_no_slot,
);
every_way!(tokio::test(flavor = "multi_thread", worker_threads = 2);
    the_limit_is_exact_under_concurrency,
);
