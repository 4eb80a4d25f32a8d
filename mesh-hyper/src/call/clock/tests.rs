use std::{future::poll_fn, pin::Pin, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http_body::{Body, Frame};
use http_body_util::StreamBody;
use tokio::time::{Instant, advance, timeout};

use super::*;
use crate::body::{BoxError, Outgoing};

const SECOND: Duration = Duration::from_secs(1);

fn limits(timeout: Option<u32>, idle: Option<u32>) -> AttemptLimits {
    AttemptLimits {
        timeout: timeout.map(|seconds| seconds * SECOND),
        idle: idle.map(|seconds| seconds * SECOND),
    }
}

/// A body of so many frames, whose sending a keeper watches.
fn body(frames: usize) -> (Outgoing, Keeper) {
    let frame = |_| Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"x")));
    let frames = stream::iter((0..frames).map(frame));
    Outgoing::watched(StreamBody::new(frames), 1024)
}

/// Asks for the next frame, as a connection does that has room for it.
async fn send(body: &mut Outgoing) -> bool {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
    frame.is_some()
}

async fn late(clock: &mut Clock, body: &Keeper, frames: u32) -> Late {
    poll_fn(|cx| clock.poll(cx, body, frames)).await
}

#[tokio::test(start_paused = true)]
async fn times_run_once_the_request_is_sent() {
    let start = Instant::now();
    let mut clock = Clock::new(start, None, Some(30 * SECOND), None);
    let (mut outgoing, keeper) = body(1);
    clock.attempt(limits(Some(2), None));
    assert!(send(&mut outgoing).await);
    let early = timeout(20 * SECOND, late(&mut clock, &keeper, 0)).await;
    assert!(early.is_err(), "the request is still being sent: {early:?}");
    assert!(!send(&mut outgoing).await);
    assert_eq!(late(&mut clock, &keeper, 0).await, Late::Attempt);
    assert_eq!(start.elapsed(), 22 * SECOND);

    // The next one finds it sent. The call's own time stood still for as long as that took.
    clock.attempt(limits(Some(5), None));
    assert_eq!(late(&mut clock, &keeper, 0).await, Late::Attempt);
    assert_eq!(start.elapsed(), 27 * SECOND);
    clock.attempt(limits(Some(100), None));
    assert_eq!(late(&mut clock, &keeper, 0).await, Late::Deadline);
    assert_eq!(start.elapsed(), 50 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn the_timeout_stands_still_while_the_request_is_being_sent() {
    let start = Instant::now();
    let mut clock = Clock::new(start, None, Some(30 * SECOND), None);
    let (mut outgoing, keeper) = body(2);
    // It waits for a connection.
    let early = timeout(10 * SECOND, late(&mut clock, &keeper, 0)).await;
    assert!(early.is_err(), "{early:?}");
    assert_eq!(clock.expected(Instant::now()), Some(20 * SECOND));
    // It is sent, and nobody asks for the response meanwhile.
    assert!(send(&mut outgoing).await);
    advance(100 * SECOND).await;
    assert!(send(&mut outgoing).await);
    drop(outgoing);
    assert_eq!(late(&mut clock, &keeper, 0).await, Late::Deadline);
    assert_eq!(start.elapsed(), 130 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn the_timeout_covers_what_comes_between_attempts() {
    let start = Instant::now();
    let mut clock = Clock::new(start, None, Some(30 * SECOND), None);
    let (mut outgoing, keeper) = body(2);
    clock.attempt(limits(Some(2), None));
    assert!(send(&mut outgoing).await);
    let early = timeout(10 * SECOND, late(&mut clock, &keeper, 0)).await;
    assert!(early.is_err(), "the request is being sent: {early:?}");
    // It broke off half way, and is sent again.
    let mut again = keeper.again().unwrap();
    drop(outgoing);
    clock.again(&keeper);
    let mut between = async |pause| {
        let then = Some(Instant::now() + pause);
        poll_fn(|cx| clock.poll_between(cx, &keeper, then)).await
    };
    assert_eq!(between(5 * SECOND).await, None);
    assert_eq!(start.elapsed(), 15 * SECOND);
    assert!(send(&mut again).await);
    advance(7 * SECOND).await;
    while send(&mut again).await {}
    clock.again(&keeper);
    let mut between = async |pause| {
        let then = Some(Instant::now() + pause);
        poll_fn(|cx| clock.poll_between(cx, &keeper, then)).await
    };
    assert_eq!(between(100 * SECOND).await, Some(Late::Deadline));
    assert_eq!(start.elapsed(), 47 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_has_begun_ends_the_time_of_its_attempt_but_may_not_pause_for_long() {
    let start = Instant::now();
    let mut clock = Clock::new(start, None, None, None);
    clock.sent();
    clock.attempt(limits(Some(2), Some(4)));
    clock.responded();
    let keeper = Keeper::default();
    // Something comes every three seconds.
    for frames in 0..5 {
        let early = timeout(3 * SECOND, late(&mut clock, &keeper, frames)).await;
        assert!(early.is_err(), "{frames} {early:?}");
    }
    assert_eq!(late(&mut clock, &keeper, 5).await, Late::AttemptIdle);
    let quiet = start.elapsed() - 15 * SECOND;
    assert!((4 * SECOND..=6 * SECOND).contains(&quiet), "{quiet:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_when_nothing_happens_be_it_on_either_side() {
    let start = Instant::now();
    let mut clock = Clock::new(start, None, None, Some(4 * SECOND));
    let (mut outgoing, keeper) = body(5);
    for _ in 0..5 {
        assert!(send(&mut outgoing).await);
        let early = timeout(3 * SECOND, late(&mut clock, &keeper, 0)).await;
        assert!(early.is_err(), "{early:?}");
    }
    assert_eq!(late(&mut clock, &keeper, 0).await, Late::Idle);
    assert!(start.elapsed() <= 20 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_has_no_times() {
    let start = Instant::now();
    let mut clock = Clock::new(start, Some(start + SECOND), Some(SECOND), Some(SECOND));
    clock.sent();
    clock.attempt(limits(Some(1), Some(1)));
    clock.stop();
    let late = timeout(1000 * SECOND, late(&mut clock, &Keeper::default(), 0)).await;
    assert!(late.is_err(), "{late:?}");
}
