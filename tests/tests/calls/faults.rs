//! Calls that configuration drops (gRFC A27) or injects faults into (gRFC A33).

use std::time::Duration;

use mesh_core::{
    Code,
    telemetry::Cause,
    testing::{Fault, Retry},
};
use mesh_tests::{
    fixture::{Fixture, echo, within},
    pb::EchoRequest,
    scripted::Scripted,
};
use tokio::time::Instant;
use tonic::Request;

use crate::errors::bare_call;

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

async fn faulty(backend: &Scripted, fault: Fault) -> Fixture {
    let fixture = Fixture::start().await;
    fixture.serve(&[backend]).fault(fault).apply();
    fixture
}

#[tokio::test]
async fn dropped_calls_are_not_sent_and_not_tried_again() {
    let backend = Scripted::start("a").await;
    let fixture = Fixture::start().await;
    let hour = Duration::from_secs(3_600);
    fixture
        .serve(&[&backend])
        .drop_percent("overload", 100.0)
        .retry(Retry::on([Code::Unavailable]).times(4).backoff(hour, hour))
        .apply();
    let mut client = fixture.client();
    let error = bare_call(&fixture.channel()).await.unwrap_err();
    assert_eq!(error.status().code(), tonic::Code::Unavailable);
    assert_eq!(error.cause().cause(), Cause::Drop);
    assert!(error.cause().is_shed());
    let status = within(client.unary(echo("hi"))).await.unwrap_err();
    assert!(status.message().contains("overload"), "{status}");
    assert_eq!(backend.seen().calls, 0);
    let totals = fixture.mesh.metrics().totals();
    assert_eq!((totals.retries(), totals.cause(Cause::Drop)), (0, 2));

    fixture
        .service()
        .drop_percent("overload", 0.0)
        .apply()
        .acked()
        .await;
    within(client.unary(echo("hi"))).await.unwrap();
}

#[tokio::test]
async fn drops_take_their_share_category_by_category() {
    const CALLS: u64 = 3_000;
    let backend = Scripted::start("a").await;
    let fixture = Fixture::start().await;
    fixture
        .serve(&[&backend])
        .drop_percent("first", 20.0)
        .drop_percent("second", 50.0)
        .apply();
    let mut client = fixture.client();
    let (mut first, mut second) = (0, 0);
    for _ in 0..CALLS {
        match within(client.unary(echo("hi"))).await {
            Ok(_) => {}
            Err(status) if status.message().contains("first") => first += 1,
            Err(status) if status.message().contains("second") => second += 1,
            Err(status) => panic!("{status}"),
        }
    }
    assert!(is_share(first, CALLS, 20.0), "{first}");
    // Of what the first has left.
    assert!(is_share(second, CALLS - first, 50.0), "{second}");
    assert_eq!(backend.seen().calls, CALLS - first - second);
}

#[tokio::test]
async fn drops_come_before_the_circuit_breaker() {
    let backend = Scripted::start("a").await;
    let fixture = Fixture::start().await;
    fixture.serve(&[&backend]).max_requests(1).apply();
    backend.answer(|call| call.stall());
    let mut client = fixture.client();
    let _held = within(client.expand(echo("hi"))).await.unwrap();
    fixture
        .service()
        .drop_percent("all", 100.0)
        .apply()
        .acked()
        .await;
    let error = bare_call(&fixture.channel()).await.unwrap_err();
    assert_eq!(error.cause().cause(), Cause::Drop);
}

#[tokio::test]
async fn aborts_with_each_code() {
    let backend = Scripted::start("a").await;
    let fixture = faulty(&backend, Fault::new()).await;
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
    assert_eq!(backend.seen().calls, 1);
    let totals = fixture.mesh.metrics().totals();
    assert_eq!(totals.cause(Cause::Fault), 17);
}

#[tokio::test]
async fn an_abort_is_not_tried_again() {
    let backend = Scripted::start("a").await;
    let fixture = Fixture::start().await;
    let hour = Duration::from_secs(3_600);
    fixture
        .serve(&[&backend])
        .fault(Fault::new().abort(Code::Unavailable, 100.0))
        .retry(Retry::on([Code::Unavailable]).backoff(hour, hour))
        .apply();
    let status = within(fixture.client().unary(echo("hi")))
        .await
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
}

#[tokio::test]
async fn aborts_by_header() {
    let backend = Scripted::start("a").await;
    let fixture = faulty(&backend, Fault::new().abort_by_header(100.0)).await;
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

#[tokio::test]
async fn delays_by_header() {
    let backend = Scripted::start("a").await;
    let fixture = faulty(&backend, Fault::new().delay_by_header(100.0)).await;
    let mut client = fixture.client();
    const DELAY: &str = "x-envoy-fault-delay-request";
    const SHARE: &str = "x-envoy-fault-delay-request-percentage";
    let start = Instant::now();
    within(client.unary(with(&[(DELAY, "150")]))).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(150));
    // An hour, of which nothing comes.
    within(client.unary(with(&[(DELAY, "3600000"), (SHARE, "0")])))
        .await
        .unwrap();
    within(client.unary(with(&[(DELAY, "nonsense")])))
        .await
        .unwrap();
    within(client.unary(with(&[]))).await.unwrap();
}

#[tokio::test]
async fn a_delay_lasts_and_the_deadline_ends_it() {
    let backend = Scripted::start("a").await;
    let length = Duration::from_millis(150);
    let fixture = faulty(&backend, Fault::new().delay(length, 100.0)).await;
    let mut client = fixture.client();
    let start = Instant::now();
    within(client.unary(echo("hi"))).await.unwrap();
    assert!(start.elapsed() >= length);

    let hour = Duration::from_secs(3_600);
    fixture
        .service()
        .fault(Fault::new().delay(hour, 100.0))
        .apply()
        .acked()
        .await;
    let mut request = Request::new(echo("hi"));
    request.set_timeout(Duration::from_millis(150));
    let status = within(client.unary(request)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    assert!(status.message().contains("filter"), "{status}");
    assert_eq!(backend.seen().calls, 1);
}

#[tokio::test]
async fn a_call_that_is_delayed_and_aborted_waits_first() {
    let backend = Scripted::start("a").await;
    let length = Duration::from_millis(150);
    let fault = Fault::new()
        .delay(length, 100.0)
        .abort(Code::NotFound, 100.0);
    let fixture = faulty(&backend, fault).await;
    let mut client = fixture.client();
    let start = Instant::now();
    let status = within(client.unary(echo("hi"))).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
    assert!(start.elapsed() >= length);
}

#[tokio::test]
async fn faults_take_their_share() {
    const CALLS: u64 = 2_000;
    let backend = Scripted::start("a").await;
    let fixture = faulty(&backend, Fault::new().abort(Code::Aborted, 30.0)).await;
    let mut client = fixture.client();
    let mut aborted = 0;
    for _ in 0..CALLS {
        if within(client.unary(echo("hi"))).await.is_err() {
            aborted += 1;
        }
    }
    assert!(is_share(aborted, CALLS, 30.0), "{aborted}");
    assert_eq!(backend.seen().calls, CALLS - aborted);
}
