use std::time::Duration;

use super::*;
use crate::Semantics;

fn series(cluster: &str) -> Series {
    Series::client("greeter:80", "r", cluster, Semantics::Grpc)
}

fn call(code: Code) -> CallRecord<'static> {
    CallRecord::new(code, Cause::Response, Duration::from_millis(10))
}

#[test]
fn a_call_is_counted_by_how_it_ended() {
    let metrics = Metrics::new();
    let instruments = metrics.bind(&series("v1"));
    for _ in 0..4 {
        instruments.started();
    }
    instruments.attempt(&Attempt::new(
        Code::Unavailable,
        Cause::Reset,
        Duration::from_millis(1),
    ));
    instruments.attempt(&Attempt::new(
        Code::Ok,
        Cause::Response,
        Duration::from_millis(9),
    ));
    let mut retried = call(Code::Ok);
    retried.retries = 1;
    retried.transparent_retries = 2;
    instruments.finished(&retried);
    instruments.finished(&call(Code::NotFound));
    instruments.finished(&CallRecord::new(
        Code::DeadlineExceeded,
        Cause::Deadline,
        Duration::from_secs(1),
    ));

    let [snapshot] = &metrics.snapshot()[..] else {
        panic!("one series")
    };
    assert_eq!(snapshot.series, series("v1"));
    let counts = &snapshot.counts();
    assert_eq!(
        (counts.started(), counts.finished(), counts.in_flight()),
        (4, 3, 1)
    );
    assert_eq!((counts.code(Code::Ok), counts.code(Code::NotFound)), (1, 1));
    assert_eq!(counts.failed(), 2);
    let codes = [Code::Ok, Code::DeadlineExceeded, Code::NotFound].map(|code| (code, 1));
    assert_eq!(counts.codes().collect::<Vec<_>>(), codes);
    let causes = [(Cause::Deadline, 1), (Cause::Response, 2)];
    assert_eq!(counts.causes().collect::<Vec<_>>(), causes);
    assert_eq!(
        (counts.cause(Cause::Response), counts.cause(Cause::Deadline)),
        (2, 1)
    );
    assert_eq!((counts.retries(), counts.transparent_retries()), (1, 2));
    assert_eq!(
        (counts.attempts(), counts.attempts_with(Code::Unavailable)),
        (2, 1)
    );
    assert_eq!(counts.attempt_durations().count(), 2);
    assert_eq!(counts.durations().sum(), Duration::from_millis(1020));
    let p50 = counts.durations().p50().unwrap().as_micros();
    assert!((9_680..=10_320).contains(&p50), "{p50}");
}

#[test]
fn statuses_are_counted_under_http_and_survive_a_merge() {
    let metrics = Metrics::new();
    let http = Series::client("shop:80", "", "v1", Semantics::Http);
    let mut ok = call(Code::Ok);
    ok.status = Some(StatusCode::OK);
    let mut strange = call(Code::Unknown);
    strange.status = Some(StatusCode::from_u16(999).unwrap());
    for record in [&ok, &ok, &strange] {
        metrics.bind(&http).finished(record);
        metrics.bind(&series("v1")).finished(record);
    }
    let totals = metrics.totals();
    assert_eq!(totals.finished(), 6);
    assert_eq!(totals.status(StatusCode::OK), 2);
    assert_eq!(totals.status(StatusCode::from_u16(999).unwrap()), 1);
    assert_eq!(totals.status(StatusCode::NOT_FOUND), 0);
    assert_eq!(Counts::default().status(StatusCode::OK), 0);
}

#[test]
fn a_series_keeps_its_counts_when_it_is_bound_again() {
    let metrics = Metrics::with_limit(1);
    for _ in 0..3 {
        let instruments = metrics.bind(&series("v1"));
        instruments.started();
        instruments.finished(&call(Code::Ok));
    }
    assert_eq!(metrics.snapshot().len(), 1);
    assert_eq!(metrics.totals().code(Code::Ok), 3);
}

#[test]
fn series_past_the_limit_share_one() {
    let metrics = Metrics::with_limit(3);
    for i in 0..100 {
        metrics
            .bind(&series(&format!("v{i}")))
            .finished(&call(Code::Ok));
    }
    let http = Series::client("shop:80", "", "v1", Semantics::Http);
    metrics.bind(&http).finished(&call(Code::Ok));
    // A series from before the limit is still itself.
    metrics.bind(&series("v0")).finished(&call(Code::Ok));

    let mut counts: Vec<_> = metrics
        .snapshot()
        .into_iter()
        .map(|one| (one.series.cluster.to_string(), one.counts().finished()))
        .collect();
    counts.sort();
    let expected = [("other", 1), ("other", 97), ("v0", 2), ("v1", 1), ("v2", 1)];
    assert_eq!(counts, expected.map(|(name, n)| (name.to_owned(), n)));
    assert_eq!(metrics.totals().finished(), 102);
}

#[test]
fn concurrent_binds_and_records_lose_none() {
    let metrics = Metrics::with_limit(4);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let metrics = &metrics;
            scope.spawn(move || {
                for i in 0..500 {
                    let series = series(&format!("v{}", (thread + i) % 6));
                    let instruments = metrics.bind(&series);
                    instruments.started();
                    instruments.finished(&call(Code::Ok));
                }
            });
        }
    });
    let totals = metrics.totals();
    assert_eq!((totals.started(), totals.finished()), (4_000, 4_000));
    assert_eq!(totals.durations().count(), 4_000);
    assert_eq!(metrics.snapshot().len(), 5);
}
