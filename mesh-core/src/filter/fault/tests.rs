use tokio::time::Instant;

use super::*;
use crate::filter::Disabled;

const ALWAYS: FaultShare = FaultShare {
    limit: Fraction::per_million(Fraction::WHOLE),
    unit: 10_000,
};

const SECOND: Duration = Duration::from_secs(1);

fn percent(percent: u32) -> FaultShare {
    FaultShare {
        limit: Fraction::per_million(percent * 10_000),
        unit: 10_000,
    }
}

fn delay(share: FaultShare, length: DelayLength) -> Option<FaultDelay> {
    Some(FaultDelay { share, length })
}

fn abort(share: FaultShare, status: AbortStatus) -> Option<FaultAbort> {
    Some(FaultAbort { share, status })
}

fn spec(delay: Option<FaultDelay>, abort: Option<FaultAbort>) -> FaultSpec {
    FaultSpec {
        delay,
        abort,
        max_active: None,
    }
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|&(name, value)| {
            let name = http::HeaderName::from_static(name);
            (name, value.parse::<http::HeaderValue>().unwrap())
        })
        .collect()
}

fn request(filter: &dyn Filter, pairs: &[(&'static str, &str)]) -> Verdict {
    filter.request(&mut RequestHead {
        method: &http::Method::POST,
        authority: "service",
        path: "/service/method",
        query: None,
        headers: &mut headers(pairs),
        peer: None,
    })
}

/// The verdict after all waiting, and how long that took.
async fn outcome(filter: &dyn Filter, pairs: &[(&'static str, &str)]) -> (Option<Reply>, Duration) {
    let start = Instant::now();
    let mut verdict = request(filter, pairs);
    loop {
        let reply = match verdict {
            Verdict::Continue => None,
            Verdict::Reply(reply) => Some(reply),
            Verdict::Wait(wait) => {
                verdict = wait.await;
                continue;
            }
        };
        return (reply, start.elapsed());
    }
}

fn code(reply: Option<Reply>) -> Option<Code> {
    reply.map(|reply| reply.grpc)
}

#[test]
fn a_filter_that_never_acts_is_not_built() {
    let fixed = DelayLength::Fixed(SECOND);
    let status = AbortStatus::Grpc(Code::Internal);
    let idle = [
        spec(None, None),
        spec(
            delay(percent(0), fixed.clone()),
            abort(percent(0), AbortStatus::Header),
        ),
        spec(delay(ALWAYS, DelayLength::Fixed(Duration::ZERO)), None),
        FaultSpec {
            max_active: Some(0),
            ..spec(delay(ALWAYS, fixed), abort(ALWAYS, status))
        },
    ];
    for spec in idle {
        assert!(spec.build(None).is_none(), "{spec:?}");
    }
}

#[test]
fn an_override_replaces_everything() {
    let base = spec(None, abort(ALWAYS, AbortStatus::Grpc(Code::Internal)));
    let over = spec(None, abort(ALWAYS, AbortStatus::Grpc(Code::NotFound)));
    let code = |over: Option<FilterConfig>| match base.build(over.as_ref()) {
        Some(filter) => match request(&*filter, &[]) {
            Verdict::Reply(reply) => Some(reply.grpc),
            other => panic!("{other:?}"),
        },
        None => None,
    };
    assert_eq!(code(None), Some(Code::Internal));
    assert_eq!(
        code(Some(FilterConfig(Arc::new(over)))),
        Some(Code::NotFound)
    );
    assert_eq!(code(Some(FilterConfig(Arc::new(spec(None, None))))), None);
    // One of another type has no effect.
    assert_eq!(
        code(Some(FilterConfig(Arc::new(Disabled)))),
        Some(Code::Internal)
    );
}

#[test]
fn specs_are_compared_by_value() {
    let one = spec(None, abort(ALWAYS, AbortStatus::Header));
    assert!(one.equals(&one.clone()));
    assert!(!one.equals(&spec(None, None)));
    assert!(!one.equals(&Disabled));
}

#[tokio::test(start_paused = true)]
async fn delays_then_aborts() {
    let both = spec(
        delay(ALWAYS, DelayLength::Fixed(SECOND)),
        abort(ALWAYS, AbortStatus::Http(StatusCode::SERVICE_UNAVAILABLE)),
    );
    let filter = both.build(None).unwrap();
    let (reply, waited) = outcome(&*filter, &[]).await;
    assert_eq!(waited, SECOND);
    let expected = Reply {
        http: StatusCode::SERVICE_UNAVAILABLE,
        grpc: Code::Unavailable,
        message: "aborted by fault injection".into(),
        cause: crate::telemetry::Cause::Fault,
    };
    assert_eq!(reply, Some(expected));

    let filter = spec(both.delay, None).build(None).unwrap();
    assert_eq!(outcome(&*filter, &[]).await, (None, SECOND));
    let filter = spec(None, both.abort).build(None).unwrap();
    let (reply, waited) = outcome(&*filter, &[]).await;
    assert_eq!(
        (code(reply), waited),
        (Some(Code::Unavailable), Duration::ZERO)
    );
}

#[tokio::test]
async fn http_and_grpc_statuses() {
    for (status, http, grpc) in [
        (AbortStatus::Http(StatusCode::OK), 200, Code::Unknown),
        (
            AbortStatus::Http(StatusCode::NOT_FOUND),
            404,
            Code::Unimplemented,
        ),
        (AbortStatus::Grpc(Code::Ok), 200, Code::Ok),
        (AbortStatus::Grpc(Code::DataLoss), 200, Code::DataLoss),
    ] {
        let filter = spec(None, abort(ALWAYS, status)).build(None).unwrap();
        let reply = outcome(&*filter, &[]).await.0.unwrap();
        assert_eq!((reply.http.as_u16(), reply.grpc), (http, grpc));
    }
}

#[tokio::test(start_paused = true)]
async fn headers_control_the_delay() {
    let filter = spec(delay(ALWAYS, DelayLength::Header), None)
        .build(None)
        .unwrap();
    for (pairs, millis) in [
        (&[][..], 0),
        (&[(DELAY_MILLIS, "53")][..], 53),
        (&[(DELAY_MILLIS, "soon")], 0),
        (&[(DELAY_MILLIS, "-1")], 0),
        (&[(DELAY_MILLIS, "0")], 0),
        (&[(DELAY_MILLIS, "53"), (DELAY_PERCENTAGE, "0")], 0),
        (&[(DELAY_MILLIS, "53"), (DELAY_PERCENTAGE, "100")], 53),
        (&[(DELAY_MILLIS, "53"), (DELAY_PERCENTAGE, "-7")], 53),
        (
            &[
                (DELAY_MILLIS, "53"),
                (DELAY_PERCENTAGE, "99999999999999999999"),
            ],
            53,
        ),
    ] {
        let (reply, waited) = outcome(&*filter, pairs).await;
        assert_eq!(reply, None);
        assert_eq!(waited, Duration::from_millis(millis), "{pairs:?}");
    }
    // They say nothing where the length is fixed.
    let fixed = spec(delay(ALWAYS, DelayLength::Fixed(SECOND)), None);
    let filter = fixed.build(None).unwrap();
    let pairs = [(DELAY_MILLIS, "53"), (DELAY_PERCENTAGE, "0")];
    assert_eq!(outcome(&*filter, &pairs).await, (None, SECOND));
}

#[tokio::test]
async fn headers_control_the_abort() {
    let filter = spec(None, abort(ALWAYS, AbortStatus::Header))
        .build(None)
        .unwrap();
    for (pairs, expected) in [
        (&[][..], None),
        (&[(ABORT_HTTP_STATUS, "503")][..], Some(Code::Unavailable)),
        (&[(ABORT_HTTP_STATUS, "199")], None),
        (&[(ABORT_HTTP_STATUS, "600")], None),
        (&[(ABORT_HTTP_STATUS, "x")], None),
        (&[(ABORT_GRPC_STATUS, "5")], Some(Code::NotFound)),
        (&[(ABORT_GRPC_STATUS, "0")], Some(Code::Ok)),
        (&[(ABORT_GRPC_STATUS, "99")], Some(Code::Unknown)),
        (&[(ABORT_GRPC_STATUS, "-1")], None),
        (
            &[(ABORT_HTTP_STATUS, "401"), (ABORT_GRPC_STATUS, "5")],
            Some(Code::Unauthenticated),
        ),
        (
            &[(ABORT_HTTP_STATUS, "x"), (ABORT_GRPC_STATUS, "5")],
            Some(Code::NotFound),
        ),
        (&[(ABORT_GRPC_STATUS, "5"), (ABORT_PERCENTAGE, "0")], None),
        (
            &[(ABORT_GRPC_STATUS, "5"), (ABORT_PERCENTAGE, "many")],
            Some(Code::NotFound),
        ),
    ] {
        assert_eq!(
            code(outcome(&*filter, pairs).await.0),
            expected,
            "{pairs:?}"
        );
    }
}

#[test]
fn a_header_only_lowers_the_share() {
    for (share, header, parts) in [
        (percent(50), "20", 200_000),
        (percent(50), "60", 500_000),
        (
            FaultShare {
                limit: Fraction::per_million(500_000),
                unit: 1,
            },
            "500001",
            500_000,
        ),
        (
            FaultShare {
                limit: Fraction::per_million(500_000),
                unit: 1,
            },
            "7",
            7,
        ),
    ] {
        let headers = headers(&[(ABORT_PERCENTAGE, header)]);
        assert_eq!(share.lowered(&headers, ABORT_PERCENTAGE).parts(), parts);
    }
}

#[test]
fn the_draws_are_independent() {
    fastrand::seed(7);
    let filter = spec(
        delay(percent(50), DelayLength::Fixed(SECOND)),
        abort(percent(20), AbortStatus::Grpc(Code::Internal)),
    )
    .build(None)
    .unwrap();
    const CALLS: u32 = 10_000;
    let (mut waits, mut replies) = (0u32, 0u32);
    for _ in 0..CALLS {
        match request(&*filter, &[]) {
            Verdict::Wait(_) => waits += 1,
            Verdict::Reply(_) => replies += 1,
            Verdict::Continue => {}
        }
    }
    // Half of all wait; a fifth of the other half is aborted at once.
    assert!(waits.abs_diff(CALLS / 2) < 200, "{waits}");
    assert!(replies.abs_diff(CALLS / 10) < 200, "{replies}");
}

#[tokio::test(start_paused = true)]
async fn the_number_of_active_faults_is_limited() {
    static GAUGE: AtomicU32 = AtomicU32::new(0);
    let limited = FaultSpec {
        max_active: Some(2),
        ..spec(
            delay(ALWAYS, DelayLength::Fixed(SECOND)),
            abort(ALWAYS, AbortStatus::Grpc(Code::Internal)),
        )
    };
    let filter = limited.filter(&GAUGE).unwrap();
    let wait = |filter: &Fault| match request(filter, &[]) {
        Verdict::Wait(wait) => wait,
        other => panic!("{other:?}"),
    };
    let first = wait(&filter);
    let second = wait(&filter);
    assert!(matches!(request(&filter, &[]), Verdict::Continue));

    // One that has no limit still counts for those that have one.
    let free = spec(limited.delay.clone(), None).filter(&GAUGE).unwrap();
    let third = wait(&free);
    assert_eq!(GAUGE.load(Ordering::Relaxed), 3);
    drop(third);

    // A finished fault and a cancelled one both make room.
    assert!(matches!(first.await, Verdict::Reply(_)));
    assert_eq!(GAUGE.load(Ordering::Relaxed), 1);
    assert!(matches!(second.await, Verdict::Reply(_)));
    let cancelled = wait(&filter);
    drop(cancelled);
    assert_eq!(GAUGE.load(Ordering::Relaxed), 0);

    // An abort that does not wait is over at once.
    let abort_only = spec(None, limited.abort).filter(&GAUGE).unwrap();
    assert!(matches!(request(&abort_only, &[]), Verdict::Reply(_)));
    assert_eq!(GAUGE.load(Ordering::Relaxed), 0);
}
