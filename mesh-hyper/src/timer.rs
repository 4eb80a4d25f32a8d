use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// The one timer of a call: its deadline, and the pauses between its attempts.
///
/// Nothing is allocated or registered before something has to be waited for.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    deadline: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// How long nothing may happen. Looks a few times whether anything did: no clock is read per frame.
#[derive(Debug)]
pub(crate) struct Idle {
    tick: Duration,
    next: Instant,
    quiet: u32,
    seen: u32,
}

/// Looks per idle timeout: it ends up to a quarter late.
const TICKS: u32 = 4;

/// About 30 years.
const NEVER: Duration = Duration::from_secs(30 * 365 * 86_400);

/// The deadline has passed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expired;

impl Timer {
    /// A timer without a deadline, or with one.
    pub(crate) fn new(deadline: Option<Instant>) -> Self {
        Self {
            deadline,
            sleep: None,
        }
    }

    /// What it registered, if anything, for another to go on with.
    pub(crate) fn into_sleep(self) -> Option<Pin<Box<Sleep>>> {
        self.sleep
    }

    /// When the call's time is over.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Brings the deadline forward; never moves it back.
    pub(crate) fn tighten(&mut self, deadline: Instant) {
        if self.deadline.is_none_or(|now| deadline < now) {
            self.deadline = Some(deadline);
            if let Some(sleep) = &mut self.sleep {
                sleep.as_mut().reset(deadline);
            }
        }
    }

    /// Replaces the deadline.
    pub(crate) fn set(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
        match (deadline, &mut self.sleep) {
            (Some(deadline), Some(sleep)) => sleep.as_mut().reset(deadline),
            _ => self.sleep = None,
        }
    }

    /// Ready once the deadline has passed.
    #[inline]
    pub(crate) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<Expired> {
        let Some(deadline) = self.deadline else {
            return Poll::Pending;
        };
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        sleep.as_mut().poll(cx).map(|()| Expired)
    }

    /// Runs `work` until the deadline.
    pub(crate) async fn limit<F: Future>(&mut self, work: F) -> Result<F::Output, Expired> {
        let mut work = pin!(work);
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll_expired(cx).map(Err),
        })
        .await
    }

    /// Waits until `then`, or until the deadline if that is earlier.
    pub(crate) async fn pause(&mut self, then: Instant) -> Result<(), Expired> {
        let until = self.deadline.map_or(then, |deadline| deadline.min(then));
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        sleep.as_mut().reset(until);
        sleep.as_mut().await;
        match self.deadline {
            Some(deadline) if deadline <= then => Err(Expired),
            Some(deadline) => {
                sleep.as_mut().reset(deadline);
                Ok(())
            }
            None => {
                self.sleep = None;
                Ok(())
            }
        }
    }
}

// === impl Idle ===

impl Idle {
    /// Begins at `start`.
    pub(crate) fn new(timeout: Duration, start: Instant) -> Self {
        let tick = (timeout.min(NEVER) / TICKS).max(Duration::from_millis(1));
        Self {
            tick,
            next: start + tick,
            quiet: 0,
            seen: 0,
        }
    }

    /// When it is to [look](Self::look).
    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// Whether nothing happened for long enough. `count` grows with whatever happens.
    pub(crate) fn look(&mut self, count: u32) -> bool {
        self.quiet = if count == self.seen {
            self.quiet + 1
        } else {
            1
        };
        self.seen = count;
        self.next += self.tick;
        self.quiet > TICKS
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn limits_work_to_the_deadline() {
        let start = Instant::now();
        let mut timer = Timer::new(Some(start + Duration::from_secs(5)));
        assert_eq!(timer.limit(async { 7 }).await.ok(), Some(7));
        assert!(
            timer.sleep.is_none(),
            "work that is ready registers nothing"
        );
        timer.tighten(start + Duration::from_secs(2));
        timer.tighten(start + Duration::from_secs(9));
        assert!(timer.limit(pending::<()>()).await.is_err());
        assert_eq!(start.elapsed(), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_end_at_the_deadline() {
        let start = Instant::now();
        let mut timer = Timer::new(Some(start + Duration::from_secs(3)));
        assert!(timer.pause(start + Duration::from_secs(1)).await.is_ok());
        assert_eq!(start.elapsed(), Duration::from_secs(1));
        assert!(
            timer
                .limit(tokio::time::sleep(Duration::from_secs(1)))
                .await
                .is_ok()
        );
        assert!(timer.pause(start + Duration::from_secs(10)).await.is_err());
        assert_eq!(start.elapsed(), Duration::from_secs(3));
    }
}
