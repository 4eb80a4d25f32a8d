//! Calls that configuration drops (gRFC A27) or injects faults into (gRFC A33).

use std::time::Duration;

use mesh_core::{Code, telemetry::Cause, testing::Fault};
use mesh_tests::{
    backend::Backend,
    every_way,
    fixture::{Fixture, echo, within},
    pb::EchoRequest,
    way::{Ask, Call, Chat, Way, cause},
};
use tokio::time::Instant;
use tonic::Request;

/// Whether `count` of `calls` is a share of `percent`, within six standard deviations.
pub(crate) fn is_share(count: u64, calls: u64, percent: f64) -> bool {
    let (calls, share) = (calls as f64, percent / 100.0);
    let deviation = (calls * share * (1.0 - share)).sqrt();
    (count as f64 - calls * share).abs() <= 6.0 * deviation
}

fn with(headers: &[(&'static str, &str)]) -> Request<EchoRequest> {
    let mut request = Request::new(echo("hi"));
    for (name, value) in headers {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    request
}

async fn faulty(way: Way, backend: &Backend, fault: Fault) -> Fixture {
    let fixture = Fixture::over(way).await;
    fixture.serve(&[backend]).fault(fault).apply();
    fixture
}

async fn dropped_calls_are_not_sent_and_not_tried_again(way: Way) {
    let backend = Backend::start("a").await;
    let fixture = Fixture::over(way).await;
    let hour = Duration::from_secs(3_600);
    fixture
        .serve(&[&backend])
        .drop_percent("overload", 100.0)
        .retry(way.retry().times(4).backoff(hour, hour))
        .apply();
    let caller = fixture.caller();
    for _ in 0..2 {
        let status = within(caller.call()).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unavailable);
        assert!(status.message().contains("overload"), "{status}");
        assert_eq!(cause(&status).cause(), Cause::Drop);
        assert!(cause(&status).is_shed());
    }
    assert_eq!(backend.calls(), 0);
    let totals = fixture.mesh.metrics().totals();
    assert_eq!((totals.retries(), totals.cause(Cause::Drop)), (0, 2));

    fixture
        .service()
        .drop_percent("overload", 0.0)
        .apply()
        .acked()
        .await;
    within(caller.call()).await.unwrap();
}

async fn drops_take_their_share_category_by_category(way: Way) {
    const CALLS: u64 = 3_000;
    let backend = Backend::start("a").await;
    let fixture = Fixture::over(way).await;
    fixture
        .serve(&[&backend])
        .drop_percent("first", 20.0)
        .drop_percent("second", 50.0)
        .apply();
    let caller = fixture.caller();
    let (mut first, mut second) = (0, 0);
    for _ in 0..CALLS {
        match within(caller.call()).await {
            Ok(_) => {}
            Err(status) if status.message().contains("first") => first += 1,
            Err(status) if status.message().contains("second") => second += 1,
            Err(status) => panic!("{status}"),
        }
    }
    assert!(is_share(first, CALLS, 20.0), "{first}");
    // Of what the first has left.
    assert!(is_share(second, CALLS - first, 50.0), "{second}");
    assert_eq!(backend.calls(), CALLS - first - second);
}

async fn drops_come_before_the_circuit_breaker(way: Way) {
    let backend = Backend::start("a").await;
    let fixture = Fixture::over(way).await;
    fixture.serve(&[&backend]).max_requests(1).apply();
    backend.answer(|call| call.stall());
    let caller = fixture.caller();
    let held = Chat::listen(&caller, Ask::new("hi"));
    let _held = within(held).await.unwrap();
    fixture
        .service()
        .drop_percent("all", 100.0)
        .apply()
        .acked()
        .await;
    let status = within(caller.call()).await.unwrap_err();
    assert_eq!(cause(&status).cause(), Cause::Drop);
}

#[tokio::test]
async fn aborts_with_each_code() {
    let backend = Backend::start("a").await;
    let fixture = faulty(Way::Grpc, &backend, Fault::new()).await;
    let mut client = fixture.client();
    within(client.unary(echo("hi"))).await.unwrap();
    for number in 0..=16 {
        let code = Code::from_i32(number);
        fixture
            .service()
            .fault(Fault::new().abort(code, 100.0))
            .apply()
            .acked()
            .await;
        if code == Code::Ok {
            // An end without messages.
            let mut replies = within(client.expand(echo("hi")))
                .await
                .unwrap()
                .into_inner();
            assert_eq!(within(replies.message()).await.unwrap(), None);
            continue;
        }
        let status = within(client.unary(echo("hi"))).await.unwrap_err();
        assert_eq!(status.code() as i32, number);
        assert!(status.message().contains("fault injection"), "{status}");
    }
    assert_eq!(backend.calls(), 1);
    let totals = fixture.mesh.metrics().totals();
    assert_eq!(totals.cause(Cause::Fault), 17);
}

async fn an_abort_is_not_tried_again(way: Way) {
    let backend = Backend::start("a").await;
    let fixture = Fixture::over(way).await;
    let hour = Duration::from_secs(3_600);
    fixture
        .serve(&[&backend])
        .fault(way.abort(100.0))
        .retry(way.retry().backoff(hour, hour))
        .apply();
    let status = fixture.call().await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert_eq!(backend.calls(), 0);
}

#[tokio::test]
async fn aborts_by_header() {
    let backend = Backend::start("a").await;
    let fixture = faulty(Way::Grpc, &backend, Fault::new().abort_by_header(100.0)).await;
    let mut client = fixture.client();
    const GRPC: &str = "x-envoy-fault-abort-grpc-request";
    const HTTP: &str = "x-envoy-fault-abort-request";
    // In the unit of the configuration, which is one in a million here.
    const SHARE: &str = "x-envoy-fault-abort-request-percentage";
    for (headers, code) in [
        (&[][..], None),
        (&[(GRPC, "13")], Some(13)),
        (&[(GRPC, "5"), (SHARE, "1000000")], Some(5)),
        (&[(GRPC, "5"), (SHARE, "0")], None),
        (&[(GRPC, "nonsense")], None),
        (&[(HTTP, "404")], Some(12)),
        (&[(HTTP, "503")], Some(14)),
        (&[(HTTP, "200")], Some(2)),
        (&[(HTTP, "nonsense")], None),
        (&[(HTTP, "nonsense"), (GRPC, "7")], Some(7)),
    ] {
        let reply = within(client.unary(with(headers))).await;
        let found = reply.err().map(|status| status.code() as i32);
        assert_eq!(found, code, "{headers:?}");
    }

    // The configuration's share is the most that a header can ask for.
    fixture
        .service()
        .fault(Fault::new().abort_by_header(0.0))
        .apply()
        .acked()
        .await;
    within(client.unary(with(&[(GRPC, "13"), (SHARE, "1000000")])))
        .await
        .unwrap();
}

async fn delays_by_header(way: Way) {
    let backend = Backend::start("a").await;
    let fixture = faulty(way, &backend, Fault::new().delay_by_header(100.0)).await;
    let caller = fixture.caller();
    const DELAY: &str = "x-envoy-fault-delay-request";
    const SHARE: &str = "x-envoy-fault-delay-request-percentage";
    let ask = || Ask::new("hi");
    let start = Instant::now();
    within(caller.ask(ask().header(DELAY, "150")))
        .await
        .unwrap();
    assert!(start.elapsed() >= Duration::from_millis(150));
    // An hour, of which nothing comes.
    let never = ask().header(DELAY, "3600000").header(SHARE, "0");
    within(caller.ask(never)).await.unwrap();
    within(caller.ask(ask().header(DELAY, "nonsense")))
        .await
        .unwrap();
    within(caller.call()).await.unwrap();
}

async fn a_delay_lasts_and_the_deadline_ends_it(way: Way) {
    let backend = Backend::start("a").await;
    let length = Duration::from_millis(150);
    let fixture = faulty(way, &backend, Fault::new().delay(length, 100.0)).await;
    let caller = fixture.caller();
    let start = Instant::now();
    within(caller.call()).await.unwrap();
    assert!(start.elapsed() >= length);

    let hour = Duration::from_secs(3_600);
    fixture
        .service()
        .fault(Fault::new().delay(hour, 100.0))
        .apply()
        .acked()
        .await;
    // The timeout of HTTP begins when the filters are done, as in Envoy.
    let limit = Duration::from_millis(150);
    let mut ask = Ask::new("hi");
    match way {
        Way::Grpc => ask = ask.timeout(limit),
        Way::Http1 | Way::Http2 => {
            let service = fixture.service().timeout(limit);
            service.max_stream_duration(2 * limit).apply().acked().await;
        }
    }
    let start = Instant::now();
    let status = within(caller.ask(ask)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    assert!(way == Way::Grpc || start.elapsed() >= 2 * limit);
    assert!(status.message().contains("filter"), "{status}");
    assert_eq!(backend.calls(), 1);
}

#[tokio::test]
async fn a_call_that_is_delayed_and_aborted_waits_first() {
    let backend = Backend::start("a").await;
    let length = Duration::from_millis(150);
    let fault = Fault::new()
        .delay(length, 100.0)
        .abort(Code::NotFound, 100.0);
    let fixture = faulty(Way::Grpc, &backend, fault).await;
    let mut client = fixture.client();
    let start = Instant::now();
    let status = within(client.unary(echo("hi"))).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
    assert!(start.elapsed() >= length);
}

async fn faults_take_their_share(way: Way) {
    const CALLS: u64 = 2_000;
    let backend = Backend::start("a").await;
    let fixture = faulty(way, &backend, way.abort(30.0)).await;
    let caller = fixture.caller();
    let mut aborted = 0;
    for _ in 0..CALLS {
        if within(caller.call()).await.is_err() {
            aborted += 1;
        }
    }
    assert!(is_share(aborted, CALLS, 30.0), "{aborted}");
    assert_eq!(backend.calls(), CALLS - aborted);
}

every_way!(
    dropped_calls_are_not_sent_and_not_tried_again,
    drops_take_their_share_category_by_category,
    drops_come_before_the_circuit_breaker,
    an_abort_is_not_tried_again,
    delays_by_header,
    a_delay_lasts_and_the_deadline_ends_it,
    faults_take_their_share,
);
