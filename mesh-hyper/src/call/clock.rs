use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    body::{Keeper, Phase, Progress},
    timer::{Idle, Timer},
};

/// The times of a call under HTTP semantics, on one timer: its end, the end of an attempt, and how
/// long nothing may happen.
///
/// The timeout of a call stands still while its request is being sent: what Envoy counts begins with
/// the end of the request, and an upload may take its time. What waits for an endpoint, for a
/// connection or for another attempt has no such excuse.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// The end, whatever happens.
    deadline: Option<Instant>,
    /// The end, if sending took no time.
    timeout: Option<Instant>,
    /// As last seen.
    sending: Progress,
    attempt: Attempt,
    idle: Option<Idle>,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// The times of one attempt. They run once its request is sent, as in Envoy.
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
    /// Of a call that began at `start`, must end at `deadline`, and may take `timeout` beside the
    /// sending of its request.
    pub(crate) fn new(
        start: Instant,
        deadline: Option<Instant>,
        timeout: Option<Duration>,
        idle: Option<Duration>,
    ) -> Self {
        Self {
            deadline,
            timeout: timeout.and_then(|timeout| start.checked_add(timeout)),
            idle: idle.map(|timeout| Idle::new(timeout, start)),
            ..Self::default()
        }
    }

    /// Goes on with what `timer` registered, after filters that held the call for `held`: the
    /// timeout does not count that.
    pub(crate) fn after(&mut self, timer: Timer, held: Duration) {
        self.sleep = timer.into_sleep();
        self.timeout = self.timeout.and_then(|end| end.checked_add(held));
    }

    /// What the server may take: what is left.
    pub(crate) fn expected(&self, now: Instant) -> Option<Duration> {
        let end = earlier(self.deadline, self.timeout());
        end.map(|end| end.saturating_duration_since(now))
    }

    /// There is nothing to send.
    pub(crate) fn sent(&mut self) {
        self.sending = Progress::sent();
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
        if self.is_sent() {
            self.attempt.start(Instant::now());
        }
    }

    /// An attempt is over, and its `body` may be sent again.
    pub(crate) fn again(&mut self, body: &Keeper) {
        self.sending = body.progress();
    }

    /// Whether the request is being sent.
    pub(crate) fn is_sending(&self) -> bool {
        self.sending.phase == Phase::Sending
    }

    fn is_sent(&self) -> bool {
        self.sending.phase == Phase::Sent
    }

    /// When the timeout is over, as far as is known.
    fn timeout(&self) -> Option<Instant> {
        match self.sending.phase {
            Phase::Sending => None,
            Phase::Queued | Phase::Sent => self.timeout?.checked_add(self.sending.took),
        }
    }

    /// The response of the attempt has begun.
    pub(crate) fn responded(&mut self) {
        self.attempt.limits.timeout = None;
        self.attempt.end = None;
    }

    /// Nothing is limited any more: the connection is a tunnel.
    pub(crate) fn stop(&mut self) {
        *self = Self::default();
    }

    /// Ready once a time is over. `frames` counts what came.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, body: &Keeper, frames: u32) -> Poll<Late> {
        if !self.is_sent() && self.depends_on_sending() {
            self.sending = body.watch(cx);
            if self.is_sent() {
                self.attempt.start(Instant::now());
            }
        }
        self.poll_until(cx, body, frames, None)
            .map(|late| late.unwrap_or(Late::Deadline))
    }

    /// Ready once a time is over while no attempt is under way, or it is `then`.
    pub(crate) fn poll_between(
        &mut self,
        cx: &mut Context<'_>,
        body: &Keeper,
        then: Option<Instant>,
    ) -> Poll<Option<Late>> {
        self.attempt = Attempt::default();
        self.poll_until(cx, body, 0, then)
    }

    fn depends_on_sending(&self) -> bool {
        self.timeout.is_some()
            || self.idle.is_some()
            || self.attempt.limits != AttemptLimits::default()
    }

    fn poll_until(
        &mut self,
        cx: &mut Context<'_>,
        body: &Keeper,
        frames: u32,
        then: Option<Instant>,
    ) -> Poll<Option<Late>> {
        let deadline = earlier(self.deadline, self.timeout());
        loop {
            let times = [
                deadline,
                self.attempt.end,
                self.idle.as_ref().map(Idle::next),
                self.attempt.idle.as_ref().map(Idle::next),
                then,
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
            if deadline.is_some_and(|deadline| deadline <= next) {
                return Poll::Ready(Some(Late::Deadline));
            }
            if self.attempt.end.is_some_and(|end| end <= next) {
                return Poll::Ready(Some(Late::Attempt));
            }
            let frames = frames.wrapping_add(body.frames_sent());
            let is_over = |idle: &mut Option<Idle>| {
                let due = idle.as_mut().filter(|idle| idle.next() <= next);
                due.is_some_and(|idle| idle.look(frames))
            };
            if is_over(&mut self.idle) {
                return Poll::Ready(Some(Late::Idle));
            }
            if is_over(&mut self.attempt.idle) {
                return Poll::Ready(Some(Late::AttemptIdle));
            }
            if then.is_some_and(|then| then <= next) {
                return Poll::Ready(None);
            }
        }
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
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
