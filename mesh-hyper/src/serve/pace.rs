//! How long a request may take, and how long nothing may happen on it.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use mesh_core::telemetry::Amount;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::timer::Idle;

/// The times of a request, on one timer: its sender's deadline, and how long nothing may happen
/// (Envoy's `stream_idle_timeout`). Nothing is allocated, and no clock is read, before something has
/// to be waited for. It is small, as all that a request holds: an allocator takes longer for
/// futures over a kilobyte.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// What has come of the request's body. `None`: it has none, or nobody asks.
    received: Option<Arc<Received>>,
    waiting: Option<Pin<Box<Waiting>>>,
}

/// What has come of the body of a request.
#[derive(Debug, Default)]
pub(super) struct Received {
    frames: AtomicU32,
    ended: AtomicBool,
    bytes: AtomicU64,
    messages: AtomicU64,
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
        // Frames of the response since then.
        frames: u32,
    }
}

// === impl Pace ===

impl Pace {
    pub(super) fn new(received: Option<Arc<Received>>) -> Self {
        Self {
            received,
            waiting: None,
        }
    }

    /// A frame of the response has come.
    #[inline]
    pub(super) fn responded(&mut self) {
        if let Some(waiting) = &mut self.waiting {
            let frames = waiting.as_mut().project().frames;
            *frames = frames.wrapping_add(1);
        }
    }

    /// Ready once a time is over: this deadline, or so many milliseconds in which nothing happens
    /// (zero: any). Both are always the same.
    #[inline]
    pub(super) fn poll_over(
        &mut self,
        deadline: Option<Instant>,
        idle: u32,
        cx: &mut Context<'_>,
    ) -> Poll<Over> {
        match (deadline, idle) {
            (None, 0) => Poll::Pending,
            _ => self.poll_waiting(deadline, idle, cx),
        }
    }

    fn poll_waiting(
        &mut self,
        deadline: Option<Instant>,
        idle: u32,
        cx: &mut Context<'_>,
    ) -> Poll<Over> {
        let idle = (idle > 0).then(|| Duration::from_millis(idle.into()));
        let waiting = self.waiting.get_or_insert_with(|| {
            let idle = idle.map(|limit| Idle::new(limit, Instant::now()));
            let first = earlier(deadline, idle.as_ref().map(Idle::next));
            let sleep = sleep_until(first.unwrap_or_else(Instant::now));
            let frames = 0;
            Box::pin(Waiting {
                sleep,
                idle,
                frames,
            })
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
                && idle.look(waiting.frames.wrapping_add(came))
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

    /// So much has come by now.
    #[inline]
    pub(super) fn count(&self, amount: Amount) {
        self.bytes.store(amount.bytes, Ordering::Relaxed);
        self.messages.store(amount.messages, Ordering::Relaxed);
    }

    /// How much has come.
    pub(super) fn amount(&self) -> Amount {
        Amount {
            bytes: self.bytes.load(Ordering::Relaxed),
            messages: self.messages.load(Ordering::Relaxed),
        }
    }
}
