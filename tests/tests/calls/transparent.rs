//! Attempts that no server has processed are made again unseen (gRFC A6, A44).

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures_util::FutureExt;
use mesh_core::{Code, testing::Retry};
use mesh_tests::{
    backend::Backend,
    every_way,
    fixture::{Fixture, within},
    way::{Ask, Call, Chat, Way},
};
use tokio::sync::Semaphore;

use crate::raw::{Frames, HEADERS, RST_STREAM, Raw, Stream, serve_h2};

/// A policy that has nothing to do with it.
fn unrelated(way: Way) -> Retry {
    match way {
        Way::Grpc => Retry::on([Code::Internal]),
        Way::Http1 | Way::Http2 => Retry::conditions(["retriable-4xx"]),
    }
}

/// Refuses the first `refused` streams and echoes the others. Counts all, and those that claim to
/// be retries.
async fn refusing(refused: u64) -> (Raw, Arc<AtomicU64>) {
    let seen = Arc::new(AtomicU64::new(0));
    let streams = Arc::clone(&seen);
    let server = Raw::start(move |_, stream| {
        let seen = Arc::clone(&seen);
        let handle = move |(request, mut respond): Stream| {
            let number = seen.fetch_add(1, Ordering::SeqCst) + 1;
            async move {
                let attempts = request.headers().get("grpc-previous-rpc-attempts");
                assert_eq!(attempts, None, "transparent retries are not counted");
                if number <= refused {
                    respond.send_reset(h2::Reason::REFUSED_STREAM);
                } else {
                    crate::raw::echo((request, respond)).await;
                }
            }
            .boxed()
        };
        serve_h2(stream, 100, handle).boxed()
    })
    .await;
    (server, streams)
}

async fn a_refused_stream_is_sent_again_once(way: Way) {
    for retry in [None, Some(unrelated(way))] {
        let (server, streams) = refusing(1).await;
        let fixture = Fixture::over(way).await;
        fixture
            .service()
            .endpoint(server.address)
            .retry(retry.clone())
            .apply();
        let caller = fixture.caller();
        let reply = within(caller.ask(Ask::new("hi"))).await.unwrap();
        assert_eq!(reply.payload, "hi");
        assert_eq!(streams.load(Ordering::SeqCst), 2);
        let totals = fixture.mesh.metrics().totals();
        assert_eq!((totals.transparent_retries(), totals.retries()), (1, 0));

        // A second refusal is one that the policy would have to cover.
        let (server, streams) = refusing(2).await;
        fixture
            .service()
            .clear_endpoints()
            .endpoint(server.address)
            .apply()
            .acked()
            .await;
        let failed = within(caller.call()).await.unwrap_err();
        assert_eq!(failed.code(), tonic::Code::Unavailable);
        assert!(failed.message().contains("not processed"), "{failed}");
        assert_eq!(streams.load(Ordering::SeqCst), 2);
    }
}

/// The first connection says GOAWAY when a call comes, and leaves the call out.
async fn a_call_that_goaway_leaves_out_moves_to_another_connection(way: Way) {
    for retry in [None, Some(unrelated(way))] {
        let server = Raw::start(|number, stream| {
            async move {
                if number > 1 {
                    return serve_h2(stream, 100, |stream| crate::raw::echo(stream).boxed()).await;
                }
                let mut frames = Frames::accept(stream).await;
                frames.next(HEADERS).await;
                frames.go_away(0).await;
                frames.closed().await;
            }
            .boxed()
        })
        .await;
        let fixture = Fixture::over(way).await;
        fixture
            .service()
            .endpoint(server.address)
            .retry(retry)
            .apply();
        let reply = fixture.call().await.unwrap();
        assert_eq!(reply.payload, "hi");
        let totals = fixture.mesh.metrics().totals();
        assert_eq!((totals.transparent_retries(), totals.retries()), (1, 0));
        assert_eq!(totals.code(Code::Ok), 1);
    }
}

/// One that the server may have processed is the caller's to try again.
async fn a_call_that_goaway_includes_is_not_sent_again(way: Way) {
    let seen = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&seen);
    let server = Raw::start(move |_, stream| {
        let counter = Arc::clone(&counter);
        async move {
            let mut frames = Frames::accept(stream).await;
            let id = frames.next(HEADERS).await;
            counter.fetch_add(1, Ordering::SeqCst);
            frames.go_away(id).await;
            // And the connection ends without a response.
        }
        .boxed()
    })
    .await;
    let fixture = Fixture::over(way).await;
    fixture.service().endpoint(server.address).apply();
    let failed = fixture.call().await.unwrap_err();
    assert_eq!(failed.code(), tonic::Code::Unavailable);
    assert_eq!(seen.load(Ordering::SeqCst), 1);
    assert_eq!(fixture.mesh.metrics().totals().transparent_retries(), 0);
}

/// RST_STREAM codes that say nothing of the request's fate are mapped, not tried again.
#[tokio::test]
async fn other_resets_are_not_sent_again() {
    for (reason, code) in [
        (h2::Reason::NO_ERROR, tonic::Code::Internal),
        (h2::Reason::INTERNAL_ERROR, tonic::Code::Internal),
        (h2::Reason::CANCEL, tonic::Code::Cancelled),
        (
            h2::Reason::ENHANCE_YOUR_CALM,
            tonic::Code::ResourceExhausted,
        ),
        (
            h2::Reason::INADEQUATE_SECURITY,
            tonic::Code::PermissionDenied,
        ),
    ] {
        let server = Raw::start(move |_, stream| {
            async move {
                let mut frames = Frames::accept(stream).await;
                let id = frames.next(HEADERS).await;
                let payload = u32::from(reason).to_be_bytes();
                frames.write(RST_STREAM, 0, id, &payload).await;
                frames.closed().await;
            }
            .boxed()
        })
        .await;
        let fixture = Fixture::start().await;
        fixture.service().endpoint(server.address).apply();
        let failed = fixture.call().await.unwrap_err();
        assert_eq!(failed.code(), code, "{reason:?}: {failed}");
        assert_eq!(fixture.mesh.metrics().totals().attempts(), 1);
    }
}

/// A call that waits for a stream moves on when the connection ends under it.
async fn a_call_that_was_never_sent_moves_to_another_connection(way: Way) {
    let held = Arc::new(Semaphore::new(0));
    let arrived = Arc::clone(&held);
    let server = Raw::start(move |number, stream| {
        let arrived = Arc::clone(&arrived);
        async move {
            if number > 1 {
                return serve_h2(stream, 100, |stream| crate::raw::echo(stream).boxed()).await;
            }
            // One stream at a time, which never ends; then the connection does.
            let mut connection = h2::server::Builder::new()
                .max_concurrent_streams(1)
                .handshake::<_, bytes::Bytes>(stream)
                .await
                .unwrap();
            let _first = connection.accept().await.unwrap().unwrap();
            arrived.add_permits(1);
            // Until the test closes the semaphore.
            tokio::select! {
                _ = connection.accept() => unreachable!("more streams than allowed"),
                _ = arrived.acquire_many(2) => {}
            }
        }
        .boxed()
    })
    .await;
    let fixture = Fixture::over(way).await;
    fixture.service().endpoint(server.address).apply();
    let call = || {
        let caller = fixture.caller();
        tokio::spawn(async move { caller.call().await })
    };
    let first = call();
    let _ = within(held.acquire()).await.unwrap();
    let waiting = [call(), call(), call()];
    // All have been picked for the only endpoint once its load says so.
    mesh_tests_yield().await;
    assert!(waiting.iter().all(|call| !call.is_finished()));
    held.close();
    let failed = within(first).await.unwrap().unwrap_err();
    assert_eq!(failed.code(), tonic::Code::Unavailable);
    for call in waiting {
        within(call).await.unwrap().unwrap();
    }
}

/// Lets other tasks of this thread run.
async fn mesh_tests_yield() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Servers that retire their connections all the time (`max_connection_age`) fail no call.
async fn connections_that_retire_fail_no_call(way: Way) {
    let backend = Backend::start("a").await;
    let fixture = Fixture::over(way).await;
    // Over HTTP/1.1 a request may be sent as its connection is closed, and nothing tells that from
    // a server that fails. None but the policy may do anything about it.
    let retry = (way == Way::Http1).then(|| way.retry().times(3));
    let service = fixture.serve(&[&backend]).retry(retry);
    service.max_retries(8).apply();
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let caller = fixture.caller();
            tokio::spawn(async move {
                for _ in 0..250 {
                    within(caller.call()).await?;
                }
                Ok::<_, tonic::Status>(())
            })
        })
        .collect();
    for wave in 1..=10 {
        backend
            .until("calls go on", |seen| seen.calls >= wave * 190)
            .await;
        backend.go_away();
    }
    for worker in workers {
        within(worker).await.unwrap().unwrap();
    }
    assert!(backend.counts().accepted >= 10, "{:?}", backend.counts());
    assert_eq!(fixture.mesh.metrics().totals().failed(), 0);
}

/// A stream that is open ends normally although its connection retires.
async fn streams_outlive_the_retirement_of_their_connection(way: Way) {
    let backend = Backend::start("a").await;
    let fixture = Fixture::on(way, &[&backend]).await;
    let caller = fixture.caller();
    let mut chat = within(Chat::open(&caller)).await.unwrap();
    within(chat.say()).await.unwrap();
    backend.go_away();
    // New calls go over a new connection while the stream goes on.
    while backend.counts().accepted < 2 {
        within(caller.call()).await.unwrap();
    }
    within(chat.say()).await.unwrap();
    within(chat.finish()).await.unwrap();
    backend
        .until("the old connection is closed", |seen| seen.open == 1)
        .await;
}

every_way!(streams_outlive_the_retirement_of_their_connection);
every_way!(tokio::test(flavor = "multi_thread", worker_threads = 2);
    connections_that_retire_fail_no_call,
);
every_way!(grpc and http2:
    a_refused_stream_is_sent_again_once,
    a_call_that_goaway_leaves_out_moves_to_another_connection,
    a_call_that_goaway_includes_is_not_sent_again,
    a_call_that_was_never_sent_moves_to_another_connection,
);
