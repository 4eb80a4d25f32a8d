use std::{
    future::Pending,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    task::{Context, Poll},
};

use tokio::time::{advance, sleep, timeout};
use tonic::{
    body::Body,
    codegen::{Service, http},
};

use super::*;

/// A channel whose calls never end; counts them.
#[derive(Debug, Clone, Default)]
struct Hanging(Arc<AtomicU32>);

impl Service<http::Request<Body>> for Hanging {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = Pending<Result<http::Response<Body>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        self.0.fetch_add(1, Relaxed);
        std::future::pending()
    }
}

fn traffic(flags: &Flags, channels: Vec<Hanging>) -> (Traffic<Hanging>, Arc<Stats>) {
    let stats = Arc::new(Stats::default());
    (
        Traffic::new(
            flags,
            channels,
            Arc::new(Plan::new(flags)),
            Arc::clone(&stats),
        ),
        stats,
    )
}

fn started(stats: &Stats, method: Method) -> i32 {
    let totals = stats.accumulated().num_rpcs_started_by_method;
    totals.get(method.type_name()).copied().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn the_rate_holds_while_no_call_ends() {
    // Neither a period of whole milliseconds nor one of whole nanoseconds.
    for (qps, channels) in [(3, 2), (7, 1), (700, 3)] {
        let rpc = Method::ALL.to_vec();
        let flags = Flags {
            qps,
            rpc,
            ..Flags::default()
        };
        let channels: Vec<_> = (0..channels).map(|_| Hanging::default()).collect();
        let (traffic, stats) = traffic(&flags, channels.clone());
        let just_before = Duration::from_secs(10) - Duration::from_millis(1);
        timeout(just_before, traffic.run()).await.unwrap_err();

        let expected = 10 * qps;
        for channel in &channels {
            // Both methods, over each channel in turn.
            assert!(
                channel.0.load(Relaxed).abs_diff(2 * expected) <= 4,
                "{qps}: {channel:?}"
            );
        }
        let expected = i32::try_from(expected).unwrap() * i32::try_from(channels.len()).unwrap();
        for method in Method::ALL {
            let started = started(&stats, method);
            // Ticks of the last millisecond are the timer's to round.
            assert!(
                (expected - 3..=expected).contains(&started),
                "{qps}: {started}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn missed_ticks_are_made_up_for() {
    let flags = Flags {
        qps: 100,
        ..Flags::default()
    };
    let (traffic, stats) = traffic(&flags, vec![Hanging::default()]);
    let running = tokio::spawn(traffic.run());
    sleep(Duration::from_millis(1)).await;
    assert_eq!(started(&stats, Method::UnaryCall), 1);
    advance(Duration::from_secs(5)).await;
    sleep(Duration::from_millis(1)).await;
    assert_eq!(started(&stats, Method::UnaryCall), 501);
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn calls_end_with_the_traffic() {
    let flags = Flags {
        qps: 50,
        ..Flags::default()
    };
    let channel = Hanging::default();
    let (traffic, stats) = traffic(&flags, vec![channel.clone()]);
    timeout(Duration::from_secs(1), traffic.run())
        .await
        .unwrap_err();
    // The tasks that were dropped held the others.
    sleep(Duration::from_millis(1)).await;
    assert_eq!(
        (Arc::strong_count(&channel.0), Arc::strong_count(&stats)),
        (1, 1)
    );
}
