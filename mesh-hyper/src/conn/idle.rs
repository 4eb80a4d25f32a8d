use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

use super::streams::Streams;

/// Tells when a connection had no stream for a while, by looking at it a few times in that while:
/// no clock is read per stream.
pub(super) struct Idle {
    sleep: Pin<Box<Sleep>>,
    tick: Duration,
    /// Looks in a row that saw no stream since the one before.
    quiet: u32,
    /// Of the last look: what was begun by then, if nothing was open.
    seen: Option<u32>,
}

/// Looks per idle timeout.
const IDLE_TICKS: u32 = 4;

// === impl Idle ===

impl Idle {
    pub(super) fn new(timeout: Duration, streams: &Streams) -> Self {
        let tick = (timeout / IDLE_TICKS).max(Duration::from_millis(1));
        Self {
            sleep: Box::pin(tokio::time::sleep(tick)),
            tick,
            quiet: 0,
            seen: Self::look(streams),
        }
    }

    fn look(streams: &Streams) -> Option<u32> {
        (streams.open() == 0).then(|| streams.begun())
    }

    /// Ready once there was no stream for the timeout, or up to a quarter longer.
    pub(super) fn poll(&mut self, waker: &Waker, streams: &Streams) -> Poll<()> {
        let mut cx = Context::from_waker(waker);
        while self.sleep.as_mut().poll(&mut cx).is_ready() {
            let now = Self::look(streams);
            let quiet = now.is_some() && now == self.seen;
            self.seen = now;
            self.quiet = if quiet { self.quiet + 1 } else { 0 };
            if self.quiet == IDLE_TICKS {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(Instant::now() + self.tick);
        }
        Poll::Pending
    }
}
