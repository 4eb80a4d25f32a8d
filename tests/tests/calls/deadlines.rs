//! How long a call may take (gRFC A31), and what the server is told of it.

use std::time::Duration;

use mesh_core::{resilience::parse_grpc_timeout, telemetry::Cause, testing::Route};
use mesh_tests::{
    backend::Backend,
    echo::UNARY,
    every_way,
    fixture::{Fixture, echo, within},
    pb::EchoRequest,
    way::{Ask, Chat, Way},
};
use tokio::time::Instant;
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
    let backend = Backend::start("a").await;
    let fixture = Fixture::on(Way::Grpc, &[&backend]).await;
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
    let backend = Backend::start("a").await;
    backend.hold();
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
            .until("the server has heard of it", |seen| seen.active == 0)
            .await;
    }
    let totals = fixture.mesh.metrics().totals();
    assert_eq!(totals.cause(Cause::Deadline), 6);
}

async fn a_rules_limit_wins_over_the_services(way: Way) {
    let backend = Backend::start("a").await;
    backend.hold();
    let fixture = Fixture::over(way).await;
    let route = Route::path(UNARY);
    let (service, route) = match way {
        Way::Grpc => (
            fixture.serve(&[&backend]).max_stream_duration(secs(60)),
            route.max_stream_duration(SHORT),
        ),
        Way::Http1 | Way::Http2 => (
            fixture.serve(&[&backend]).timeout(secs(60)),
            route.timeout(SHORT),
        ),
    };
    service.route(route).apply();
    let status = fixture.call().await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

async fn a_deadline_covers_the_response_to_its_end(way: Way) {
    let backend = Backend::start("a").await;
    let fixture = Fixture::on(way, &[&backend]).await;
    let caller = fixture.caller();
    let timed = || Ask::new("hi").timeout(SHORT);

    // Headers, and then nothing.
    backend.answer(|call| call.stall());
    let chat = within(Chat::listen(&caller, timed())).await.unwrap();
    let status = chat.finish_late().await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    backend
        .until("the server has heard of it", |seen| seen.active == 0)
        .await;
    let status = fixture.ask(timed()).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);

    // A request that goes on, silently: of that, a timeout of HTTP waits for the end.
    backend.echo();
    let silent = Chat::begin(&caller, Ask::new("").timeout(SHORT));
    let mut chat = within(silent.answered()).await.unwrap();
    if way != Way::Grpc {
        tokio::time::timeout(2 * SHORT, chat.hear())
            .await
            .expect_err("it goes on");
        chat.say().await.unwrap();
        backend.answer(|call| call.stall());
        chat = within(Chat::begin(&caller, Ask::new("").timeout(SHORT)).answered())
            .await
            .unwrap();
        chat.end();
    }
    let status = within(chat.hear()).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    backend
        .until("the server has heard of it", |seen| seen.active == 0)
        .await;
    within(chat.closed()).await;

    let totals = fixture.mesh.metrics().totals();
    assert_eq!(totals.cause(Cause::Deadline), 3);
    let given_up = u64::from(way != Way::Grpc);
    assert_eq!(totals.finished(), 3 + given_up);
}

/// A server that never pauses leaves no moment in which the response is waited for.
#[tokio::test]
async fn a_deadline_ends_a_response_that_never_pauses() {
    let backend = Backend::start("a").await;
    let fixture = Fixture::on(Way::Grpc, &[&backend]).await;
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
        .until("the server has heard of it", |seen| seen.active == 0)
        .await;
}

#[tokio::test]
async fn a_deadline_covers_a_request_that_is_not_read() {
    let backend = Backend::start("a").await;
    backend.hold();
    let fixture = Fixture::on(Way::Grpc, &[&backend]).await;
    let payload = vec![7; 8_000_000];
    let endless = futures_util::stream::repeat_with(move || echo(payload.clone()));
    let mut request = Request::new(endless);
    request.set_timeout(SHORT);
    let status = within(fixture.client().collect(request)).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    backend
        .until("the server has heard of it", |seen| seen.active == 0)
        .await;
}

#[tokio::test]
async fn a_deadline_that_has_passed_already() {
    let backend = Backend::start("a").await;
    backend.hold();
    let fixture = Fixture::on(Way::Grpc, &[&backend]).await;
    let status = within(fixture.client().unary(timed(Some(Duration::ZERO))))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

every_way!(
    a_rules_limit_wins_over_the_services,
    a_deadline_covers_the_response_to_its_end,
);
