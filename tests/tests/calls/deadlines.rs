//! How long a call may take (gRFC A31), and what the server is told of it.

use std::time::Duration;

use mesh_core::{resilience::parse_grpc_timeout, telemetry::Cause, testing::Route};
use mesh_tests::{
    fixture::{Fixture, echo, within},
    pb::EchoRequest,
    scripted::Scripted,
};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};

const SHORT: Duration = Duration::from_millis(200);

fn secs(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

fn timed(limit: Option<Duration>) -> Request<EchoRequest> {
    let mut request = Request::new(echo("hi"));
    if let Some(limit) = limit {
        request.set_timeout(limit);
    }
    request
}

#[tokio::test]
async fn the_effective_limit_is_what_the_server_is_told() {
    let none = None;
    let zero = secs(0);
    // Application, max_stream_duration, grpc_timeout_header_max: effective.
    let table = [
        (none, none, none, none),
        (secs(70), none, none, secs(70)),
        (none, secs(30), none, secs(30)),
        (secs(20), secs(30), none, secs(20)),
        (secs(90), secs(30), none, secs(30)),
        (secs(90), zero, none, secs(90)),
        (none, zero, none, none),
        // 0 lifts the limit, also that of max_stream_duration.
        (secs(90), secs(30), zero, secs(90)),
        (none, secs(30), zero, none),
        // It takes the place of max_stream_duration, larger or smaller.
        (secs(90), secs(30), secs(50), secs(50)),
        (secs(90), secs(30), secs(10), secs(10)),
        (secs(40), secs(30), secs(50), secs(40)),
        (none, secs(30), secs(50), secs(50)),
        (none, none, secs(50), secs(50)),
    ];
    let backend = Scripted::start("a").await;
    let fixture = Fixture::on(&[&backend]).await;
    let mut client = fixture.client();
    for (row, (application, max, header_max, effective)) in table.into_iter().enumerate() {
        let push = fixture
            .service()
            .max_stream_duration(max)
            .grpc_timeout_header_max(header_max)
            .apply();
        if !push.kinds().is_empty() && row > 0 {
            push.acked().await;
        }
        within(client.unary(timed(application))).await.unwrap();
        let head = backend.heads().pop().unwrap();
        let told = head.headers.get("grpc-timeout");
        let told = told.map(|value| parse_grpc_timeout(value).unwrap());
        assert_eq!(told, effective, "row {row}");
    }
}

#[tokio::test]
async fn each_limit_ends_a_call_that_is_not_answered() {
    let backend = Scripted::start("a").await;
    backend.answer(|call| call.hold());
    let fixture = Fixture::start().await;
    let mut client = fixture.client();
    // Application, max_stream_duration, grpc_timeout_header_max.
    for (application, max, header_max) in [
        (Some(SHORT), None, None),
        (None, Some(SHORT), None),
        (secs(60), Some(SHORT), None),
        (Some(SHORT), secs(60), None),
        (secs(60), secs(60), Some(SHORT)),
        (Some(SHORT), secs(60), secs(0)),
    ] {
        fixture
            .serve(&[&backend])
            .max_stream_duration(max)
            .grpc_timeout_header_max(header_max)
            .apply();
        fixture
            .control_plane
            .acked(mesh_core::config::Kind::Route)
            .await;
        let start = Instant::now();
        let status = within(client.unary(timed(application))).await.unwrap_err();
        let took = start.elapsed();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert!(status.message().contains("deadline"), "{status}");
        assert!(took >= SHORT && took < Duration::from_secs(10), "{took:?}");
        backend
            .until("the server has heard of it", |seen| seen.open == 0)
            .await;
    }
    let totals = fixture.mesh.metrics().totals();
    assert_eq!(totals.cause(Cause::Deadline), 6);
}

#[tokio::test]
async fn a_rules_limit_wins_over_the_services() {
    let backend = Scripted::start("a").await;
    backend.answer(|call| call.hold());
    let fixture = Fixture::start().await;
    fixture
        .serve(&[&backend])
        .max_stream_duration(secs(60))
        .route(Route::path("/mesh.test.Echo/Unary").max_stream_duration(SHORT))
        .apply();
    let status = within(fixture.client().unary(echo("hi")))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_deadline_covers_the_response_to_its_end() {
    let backend = Scripted::start("a").await;
    let fixture = Fixture::on(&[&backend]).await;
    let mut client = fixture.client();

    // Headers, and then nothing.
    backend.answer(|call| call.stall());
    let mut replies = within(client.expand(timed(Some(SHORT))))
        .await
        .unwrap()
        .into_inner();
    let status = within(replies.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    backend
        .until("the server has heard of it", |seen| seen.open == 0)
        .await;
    let status = within(client.unary(timed(Some(SHORT)))).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);

    // A request that goes on, silently.
    backend.echo();
    let (messages, outbox) = mpsc::channel(1);
    let mut request = Request::new(ReceiverStream::new(outbox));
    request.set_timeout(SHORT);
    let mut chat = within(client.chat(request)).await.unwrap().into_inner();
    let status = within(chat.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    backend
        .until("the server has heard of it", |seen| seen.open == 0)
        .await;
    within(messages.closed()).await;

    let totals = fixture.mesh.metrics().totals();
    assert_eq!(totals.cause(Cause::Deadline), 3);
    assert_eq!(totals.finished(), 3);
}

/// A server that never pauses leaves no moment in which the response is waited for.
#[tokio::test]
async fn a_deadline_ends_a_response_that_never_pauses() {
    let backend = Scripted::start("a").await;
    let fixture = Fixture::on(&[&backend]).await;
    let mut request = Request::new(EchoRequest {
        payload: vec![7; 1_000].into(),
        count: u32::MAX,
    });
    request.set_timeout(SHORT);
    let mut replies = within(fixture.client().expand(request))
        .await
        .unwrap()
        .into_inner();
    let status = within(async {
        loop {
            // A reader that is slower than the server always finds the next message there.
            tokio::task::yield_now().await;
            match replies.message().await {
                Ok(message) => assert!(message.is_some(), "it never ends"),
                Err(status) => break status,
            }
        }
    })
    .await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    backend
        .until("the server has heard of it", |seen| seen.open == 0)
        .await;
}

#[tokio::test]
async fn a_deadline_covers_a_request_that_is_not_read() {
    let backend = Scripted::start("a").await;
    backend.answer(|call| call.hold());
    let fixture = Fixture::on(&[&backend]).await;
    let payload = vec![7; 8_000_000];
    let endless = futures_util::stream::repeat_with(move || echo(payload.clone()));
    let mut request = Request::new(endless);
    request.set_timeout(SHORT);
    let status = within(fixture.client().collect(request)).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    backend
        .until("the server has heard of it", |seen| seen.open == 0)
        .await;
}

#[tokio::test]
async fn a_deadline_that_has_passed_already() {
    let backend = Scripted::start("a").await;
    backend.answer(|call| call.hold());
    let fixture = Fixture::on(&[&backend]).await;
    let status = within(fixture.client().unary(timed(Some(Duration::ZERO))))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
}
