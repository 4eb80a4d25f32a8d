use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::{body::Keeper, timer::Idle};

/// The times of a call under HTTP semantics, on one timer: its end, the end of an attempt, and how
/// long nothing may happen.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// Starts once the request is sent.
    timeout: Option<Duration>,
    deadline: Option<Instant>,
    is_sent: bool,
    /// Until when a request that is not sent may wait for what it is sent to.
    patience: Option<Instant>,
    attempt: Attempt,
    idle: Option<Idle>,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// The times of one attempt. They run once its request is sent, as in Envoy: an upload may take its
/// time.
#[derive(Debug, Default)]
struct Attempt {
    limits: AttemptLimits,
    end: Option<Instant>,
    idle: Option<Idle>,
}

/// How long an attempt may take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct AttemptLimits {
    /// Until its response begins.
    pub(crate) timeout: Option<Duration>,
    /// How long nothing may happen, until its response ends.
    pub(crate) idle: Option<Duration>,
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
    /// Nothing happened for too long for the attempt.
    AttemptIdle,
}

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
        Self {
            timeout,
            deadline,
            is_sent: false,
            patience: None,
            attempt: Attempt::default(),
            idle: idle.map(|timeout| Idle::new(timeout, start)),
            sleep: None,
        }
    }

    /// Until when the call may wait for anything but the server: its end or, as long as the request
    /// is not sent, its timeout from the first such wait on.
    pub(crate) fn patience(&mut self, now: Instant, body: &Keeper) -> Option<Instant> {
        if !self.is_sent && body.is_sent() {
            self.sent(now);
        }
        let Some(timeout) = self.timeout else {
            return self.deadline;
        };
        self.patience = self.patience.or_else(|| now.checked_add(timeout));
        match (self.deadline, self.patience) {
            (Some(deadline), Some(patience)) => Some(deadline.min(patience)),
            (one, other) => one.or(other),
        }
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

    /// The request is sent: the timeout runs from `now` on, and so do the times of the attempt.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.is_sent = true;
        self.attempt.start(now);
        if let Some(timeout) = self.timeout.take()
            && let Some(end) = now.checked_add(timeout)
        {
            self.deadline = Some(self.deadline.map_or(end, |deadline| deadline.min(end)));
        }
    }

    /// Another attempt begins.
    pub(crate) fn attempt(&mut self, limits: AttemptLimits) {
        if limits == AttemptLimits::default() {
            return;
        }
        self.attempt = Attempt {
            limits,
            ..Attempt::default()
        };
        if self.is_sent {
            self.attempt.start(Instant::now());
        }
    }

    /// The response of the attempt has begun.
    pub(crate) fn responded(&mut self) {
        self.attempt.limits.timeout = None;
        self.attempt.end = None;
    }

    /// Whether a time begins when the request is sent.
    fn awaits_request(&self) -> bool {
        let none = AttemptLimits::default();
        !self.is_sent && (self.timeout.is_some() || self.attempt.limits != none)
    }

    /// Nothing is limited any more: the connection is a tunnel.
    pub(crate) fn stop(&mut self) {
        *self = Self::default();
    }

    /// Ready once a time is over. `frames` counts what came.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, body: &Keeper, frames: u32) -> Poll<Late> {
        if self.awaits_request() && body.poll_sent(cx).is_ready() {
            self.sent(Instant::now());
        }
        loop {
            let times = [
                self.deadline,
                self.attempt.end,
                self.idle.as_ref().map(Idle::next),
                self.attempt.idle.as_ref().map(Idle::next),
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
            if self.attempt.end.is_some_and(|end| end <= next) {
                return Poll::Ready(Late::Attempt);
            }
            let frames = frames.wrapping_add(body.frames());
            let is_over = |idle: &mut Option<Idle>| {
                let due = idle.as_mut().filter(|idle| idle.next() <= next);
                due.is_some_and(|idle| idle.look(frames))
            };
            if is_over(&mut self.idle) {
                return Poll::Ready(Late::Idle);
            }
            if is_over(&mut self.attempt.idle) {
                return Poll::Ready(Late::AttemptIdle);
            }
        }
    }
}

// === impl Attempt ===

impl Attempt {
    fn start(&mut self, now: Instant) {
        let AttemptLimits { timeout, idle } = self.limits;
        self.end = timeout.and_then(|timeout| now.checked_add(timeout));
        self.idle = idle.map(|timeout| Idle::new(timeout, now));
    }
}

#[cfg(test)]
mod tests;
