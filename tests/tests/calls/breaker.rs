//! The circuit breaker (gRFC A32).

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::join_all};
use mesh_core::{Code, telemetry::Cause, testing::Retry};
use mesh_tests::{
    fixture::{Fixture, echo, within},
    pb::EchoReply,
    scripted::Scripted,
};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, body::Body, codegen::Service};

use crate::errors::bare_call;

type Reply = Result<Response<EchoReply>, Status>;

/// Answers each call once there is a permit for it.
fn gate(backend: &Scripted) -> Arc<Semaphore> {
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

fn is_overload(reply: &Reply) -> bool {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_is_exact_under_concurrency() {
    const LIMIT: u32 = 5;
    let backends = [Scripted::start("a").await, Scripted::start("b").await];
    let gates = backends.each_ref().map(gate);
    let fixture = Fixture::start().await;
    fixture
        .serve(&[&backends[0], &backends[1]])
        .max_requests(LIMIT)
        .apply();
    within(fixture.channel().ready()).await.unwrap();
    let channel = fixture.channel();
    let start = Arc::new(tokio::sync::Barrier::new(64));
    for round in 1..=5 {
        let calls = (0..64).map(|_| {
            let mut client = mesh_tests::pb::echo_client::EchoClient::new(channel.clone());
            let start = Arc::clone(&start);
            tokio::spawn(async move {
                start.wait().await;
                client.unary(echo("hi")).await
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
        let total = |seen: &dyn Fn(&Scripted) -> u64| backends.iter().map(seen).sum::<u64>();
        while total(&|backend| backend.seen().open) < u64::from(LIMIT) {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            total(&|backend| backend.seen().calls),
            round * u64::from(LIMIT)
        );
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
    fixture.channel().call(request.unwrap())
}

/// Whether a slot of a limit of one is free.
async fn is_free(fixture: &Fixture, backend: &Scripted) -> bool {
    backend.echo();
    let reply = within(fixture.client().unary(echo("probe"))).await;
    !is_overload(&reply)
}

async fn limited(backend: &Scripted) -> Fixture {
    let fixture = Fixture::start().await;
    fixture.serve(&[backend]).max_requests(1).apply();
    fixture
}

#[tokio::test]
async fn every_end_of_a_call_frees_its_slot() {
    let backend = Scripted::start("a").await;
    let fixture = limited(&backend).await;
    let mut client = fixture.client();
    let short = |mut request: Request<_>| {
        request.set_timeout(Duration::from_millis(100));
        request
    };

    // An answer, and an answer that is an error, each way.
    within(client.unary(echo("hi"))).await.unwrap();
    assert!(is_free(&fixture, &backend).await);
    backend.answer(|call| call.fail(Status::internal("no")));
    within(client.unary(echo("hi"))).await.unwrap_err();
    assert!(is_free(&fixture, &backend).await);
    backend.answer(|call| call.headers_then(Status::internal("no")));
    within(client.unary(echo("hi"))).await.unwrap_err();
    assert!(is_free(&fixture, &backend).await);

    // Dropped before it was polled, and after its first poll.
    backend.answer(|call| call.hold());
    drop(unpolled(&fixture));
    assert!(is_free(&fixture, &backend).await);
    let mut call = unpolled(&fixture);
    assert!((&mut call).now_or_never().is_none());
    drop(call);
    assert!(is_free(&fixture, &backend).await);

    // Cancelled before the response's headers.
    backend.answer(|call| call.hold());
    let call = tokio::spawn({
        let mut client = client.clone();
        async move { client.unary(echo("hi")).await }
    });
    backend.until("the call came", |seen| seen.open == 1).await;
    assert!(!is_free(&fixture, &backend).await);
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    assert!(is_free(&fixture, &backend).await);

    // Cancelled in the middle of the response.
    backend.answer(|call| call.stall());
    let replies = within(client.expand(echo("hi"))).await.unwrap();
    assert!(!is_free(&fixture, &backend).await);
    drop(replies);
    assert!(is_free(&fixture, &backend).await);

    // The deadline, before and after the response's headers.
    backend.answer(|call| call.hold());
    within(client.unary(short(Request::new(echo("hi")))))
        .await
        .unwrap_err();
    assert!(is_free(&fixture, &backend).await);
    backend.answer(|call| call.stall());
    let request = short(Request::new(echo("hi")));
    let mut replies = within(client.expand(request)).await.unwrap().into_inner();
    within(replies.message()).await.unwrap_err();
    assert!(is_free(&fixture, &backend).await);
    drop(replies);

    // A reset, and the loss of the connection.
    backend.answer(|call| call.reset(h2::Reason::INTERNAL_ERROR));
    within(client.unary(echo("hi"))).await.unwrap_err();
    assert!(is_free(&fixture, &backend).await);
    let other = Scripted::start("b").await;
    backend.answer(|call| call.stall());
    let mut replies = within(client.expand(echo("hi")))
        .await
        .unwrap()
        .into_inner();
    fixture.serve(&[&other]).apply().acked().await;
    assert!(!is_free(&fixture, &other).await);
    backend.kill().await;
    within(replies.message()).await.unwrap_err();
    assert!(is_free(&fixture, &other).await);

    // And each was recorded once.
    let totals = fixture.mesh.metrics().totals();
    assert_eq!(totals.started(), totals.finished());
    assert_eq!(totals.cause(Cause::Cancelled), 4);
}

#[tokio::test]
async fn a_stream_holds_its_slot_for_life() {
    let backend = Scripted::start("a").await;
    let fixture = limited(&backend).await;
    let (messages, outbox) = mpsc::channel(1);
    let mut chat = within(fixture.client().chat(ReceiverStream::new(outbox)))
        .await
        .unwrap()
        .into_inner();
    for _ in 0..3 {
        messages.send(echo("hi")).await.unwrap();
        within(chat.message()).await.unwrap().unwrap();
        assert!(!is_free(&fixture, &backend).await);
    }
    drop(messages);
    assert_eq!(within(chat.message()).await.unwrap(), None);
    assert!(is_free(&fixture, &backend).await);
}

#[tokio::test]
async fn an_overload_is_not_tried_again() {
    let backend = Scripted::start("a").await;
    let fixture = Fixture::start().await;
    let hour = Duration::from_secs(3_600);
    fixture
        .serve(&[&backend])
        .max_requests(1)
        .retry(Retry::on([Code::Unavailable]).times(4).backoff(hour, hour))
        .apply();
    backend.answer(|call| call.stall());
    let _held = within(fixture.client().expand(echo("hi"))).await.unwrap();
    let error = bare_call(&fixture.channel()).await.unwrap_err();
    assert_eq!(error.cause().cause(), Cause::CircuitBreaker);
    assert!(error.cause().is_shed());
    assert_eq!(error.status().code(), tonic::Code::Unavailable);
    assert_eq!(backend.seen().calls, 1);
    assert_eq!(fixture.mesh.metrics().totals().retries(), 0);
}

#[tokio::test]
async fn a_new_limit_counts_what_is_in_flight() {
    let backend = Scripted::start("a").await;
    let fixture = limited(&backend).await;
    let mut client = fixture.client();
    backend.answer(|call| call.stall());
    let first = within(client.expand(echo("hi"))).await.unwrap();
    assert!(!is_free(&fixture, &backend).await);
    fixture.service().max_requests(2).apply().acked().await;
    assert!(is_free(&fixture, &backend).await);
    backend.answer(|call| call.stall());
    let second = within(client.expand(echo("hi"))).await.unwrap();
    assert!(!is_free(&fixture, &backend).await);
    fixture.service().max_requests(1).apply().acked().await;
    drop(second);
    assert!(!is_free(&fixture, &backend).await, "the first still counts");
    drop(first);
    assert!(is_free(&fixture, &backend).await);
}

#[tokio::test]
async fn an_attempt_that_is_pausing_holds_no_slot() {
    let backend = Scripted::start("a").await;
    let fixture = Fixture::start().await;
    let hour = Duration::from_secs(3_600);
    fixture
        .serve(&[&backend])
        .max_requests(1)
        .retry(Retry::on([Code::Unavailable]).backoff(hour, hour))
        .apply();
    backend.answer(|call| call.fail(Status::unavailable("later")));
    let pausing = tokio::spawn({
        let mut client = fixture.client();
        async move { client.unary(echo("hi")).await }
    });
    backend
        .until("the call failed", |seen| seen.calls == 1 && seen.open == 0)
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
