//! How long a request may take, and how long nothing may happen on it.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::timer::Idle;

/// The times of a request, on one timer: its sender's deadline, and how long nothing may happen
/// (Envoy's `stream_idle_timeout`). Nothing is allocated, and no clock is read, before something has
/// to be waited for.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    deadline: Option<Instant>,
    idle: Option<Duration>,
    /// Frames of the response.
    frames: u32,
    /// What has come of the request's body. `None`: it has none, or nobody asks.
    received: Option<Arc<Received>>,
    waiting: Option<Pin<Box<Waiting>>>,
}

/// What has come of the body of a request.
#[derive(Debug, Default)]
pub(super) struct Received {
    frames: AtomicU32,
    ended: AtomicBool,
}

/// Which time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// Nobody waits for the response any more.
    Deadline,
    /// Nothing happened for too long.
    Idle {
        /// All of the request was there.
        received: bool,
    },
}

pin_project! {
    #[derive(Debug)]
    struct Waiting {
        #[pin]
        sleep: Sleep,
        idle: Option<Idle>,
    }
}

// === impl Pace ===

impl Pace {
    /// With a deadline.
    pub(crate) fn until(deadline: Option<Instant>) -> Self {
        Self {
            deadline,
            ..Self::default()
        }
    }

    /// And this long nothing may happen.
    pub(super) fn idle(mut self, idle: Option<Duration>, received: Option<Arc<Received>>) -> Self {
        self.idle = idle;
        self.received = received;
        self
    }

    /// A frame of the response has come.
    #[inline]
    pub(super) fn responded(&mut self) {
        self.frames = self.frames.wrapping_add(1);
    }

    /// Ready once a time is over.
    #[inline]
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Over> {
        match (self.deadline, self.idle) {
            (None, None) => Poll::Pending,
            _ => self.poll_waiting(cx),
        }
    }

    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Over> {
        let (deadline, idle) = (self.deadline, self.idle);
        let waiting = self.waiting.get_or_insert_with(|| {
            let idle = idle.map(|limit| Idle::new(limit, Instant::now()));
            let first = earlier(deadline, idle.as_ref().map(Idle::next));
            let sleep = sleep_until(first.unwrap_or_else(Instant::now));
            Box::pin(Waiting { sleep, idle })
        });
        let mut waiting = waiting.as_mut().project();
        loop {
            let Some(next) = earlier(deadline, waiting.idle.as_ref().map(Idle::next)) else {
                return Poll::Pending;
            };
            if waiting.sleep.deadline() != next {
                waiting.sleep.as_mut().reset(next);
            }
            ready!(waiting.sleep.as_mut().poll(cx));
            if deadline.is_some_and(|deadline| deadline <= next) {
                return Poll::Ready(Over::Deadline);
            }
            let received = self.received.as_ref();
            let came = received.map_or(0, |received| received.frames.load(Ordering::Relaxed));
            if let Some(idle) = &mut waiting.idle
                && idle.look(self.frames.wrapping_add(came))
            {
                let ended = |received: &Arc<Received>| received.ended.load(Ordering::Relaxed);
                return Poll::Ready(Over::Idle {
                    received: received.is_none_or(ended),
                });
            }
        }
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    [one, other].into_iter().flatten().min()
}

// === impl Received ===

impl Received {
    /// A frame has come; `last`: nothing follows it.
    pub(super) fn note(&self, last: bool) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        if last {
            self.ended.store(true, Ordering::Relaxed);
        }
    }
}
