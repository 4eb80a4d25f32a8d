use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::body::Keeper;

/// The times of a call under HTTP semantics, on one timer: its end, the end of an attempt, and how
/// long nothing may happen.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// Starts once the request is sent.
    timeout: Option<Duration>,
    deadline: Option<Instant>,
    attempt: Option<Instant>,
    idle: Option<Idle>,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// Looks a few times whether anything happened: no clock is read per frame.
#[derive(Debug)]
struct Idle {
    tick: Duration,
    next: Instant,
    quiet: u32,
    seen: u32,
}

/// Which time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Late {
    /// The call's.
    Deadline,
    /// The attempt's.
    Attempt,
    /// Nothing happened for too long.
    Idle,
}

/// Looks per idle timeout: it ends up to a quarter late.
const TICKS: u32 = 4;

// === impl Clock ===

impl Clock {
    /// Of a call that began at `start`, must end at `deadline`, and may take `timeout` once its
    /// request is sent.
    pub(crate) fn new(
        start: Instant,
        deadline: Option<Instant>,
        timeout: Option<Duration>,
        idle: Option<Duration>,
    ) -> Self {
        let idle = idle.map(|timeout| {
            let tick = (timeout / TICKS).max(Duration::from_millis(1));
            Idle {
                tick,
                next: start + tick,
                quiet: 0,
                seen: 0,
            }
        });
        Self {
            timeout,
            deadline,
            attempt: None,
            idle,
            sleep: None,
        }
    }

    /// When the call ends at the latest, as far as is known.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// What the server may take: what is left, or all of it while the request is being sent.
    pub(crate) fn expected(&self, now: Instant) -> Option<Duration> {
        let left = self
            .deadline
            .map(|deadline| deadline.saturating_duration_since(now));
        match (left, self.timeout) {
            (Some(left), Some(timeout)) => Some(left.min(timeout)),
            (one, other) => one.or(other),
        }
    }

    /// The request is sent: the timeout runs from `now` on.
    pub(crate) fn sent(&mut self, now: Instant) {
        if let Some(timeout) = self.timeout.take()
            && let Some(end) = now.checked_add(timeout)
        {
            self.deadline = Some(self.deadline.map_or(end, |deadline| deadline.min(end)));
        }
    }

    /// Another attempt begins, which must end then.
    pub(crate) fn attempt(&mut self, end: Option<Instant>) {
        self.attempt = end;
    }

    /// Nothing is limited any more: the connection is a tunnel.
    pub(crate) fn stop(&mut self) {
        *self = Self::default();
    }

    /// Ready once a time is over. `frames` counts what came.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, body: &Keeper, frames: u32) -> Poll<Late> {
        if self.timeout.is_some() && body.poll_sent(cx).is_ready() {
            self.sent(Instant::now());
        }
        loop {
            let times = [
                self.deadline,
                self.attempt,
                self.idle.as_ref().map(|idle| idle.next),
            ];
            let Some(next) = times.into_iter().flatten().min() else {
                return Poll::Pending;
            };
            let sleep = self
                .sleep
                .get_or_insert_with(|| Box::pin(sleep_until(next)));
            if sleep.deadline() != next {
                sleep.as_mut().reset(next);
            }
            ready!(sleep.as_mut().poll(cx));
            if self.deadline.is_some_and(|deadline| deadline <= next) {
                return Poll::Ready(Late::Deadline);
            }
            if self.attempt.is_some_and(|attempt| attempt <= next) {
                return Poll::Ready(Late::Attempt);
            }
            if let Some(idle) = &mut self.idle
                && idle.look(frames.wrapping_add(body.frames()))
            {
                return Poll::Ready(Late::Idle);
            }
        }
    }
}

// === impl Idle ===

impl Idle {
    /// Whether nothing happened for long enough.
    fn look(&mut self, now: u32) -> bool {
        self.quiet = if now == self.seen { self.quiet + 1 } else { 1 };
        self.seen = now;
        self.next += self.tick;
        self.quiet > TICKS
    }
}
