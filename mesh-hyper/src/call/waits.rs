//! What a call waits for while no endpoint has it, and for how long.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll, ready},
};

use tokio::time::Instant;

use super::{attempts::Call, clock::Late, deadline_exceeded, http::Exchange};
use crate::{
    body::Keeper,
    error::Error,
    timer::{Expired, Timer},
};

/// The times of a call, for a wait between attempts.
pub(super) struct Waits<'a> {
    timer: &'a mut Timer,
    /// Its clock goes before `timer`.
    http: Option<&'a mut Exchange>,
    keeper: &'a Keeper,
}

// === impl Waits ===

impl Waits<'_> {
    /// Runs `work`.
    ///
    /// # Errors
    /// If a time of the call is over before: it ended `when`.
    pub(super) async fn limit<F: Future>(
        mut self,
        work: F,
        when: &str,
    ) -> Result<F::Output, Error> {
        let mut work = pin!(work);
        let result = poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll_late(cx).map(Err),
        });
        result.await.map_err(|late| late.error(when))
    }

    /// Waits until `then`.
    ///
    /// # Errors
    /// If a time of the call is over before: it ended `when`.
    pub(super) async fn pause(self, then: Instant, when: &str) -> Result<(), Error> {
        let Some(exchange) = self.http else {
            let paused = self.timer.pause(then).await;
            return paused.map_err(|Expired| Late::Deadline.error(when));
        };
        let clock = &mut exchange.clock;
        match poll_fn(|cx| clock.poll_between(cx, self.keeper, Some(then))).await {
            Some(late) => Err(late.error(when)),
            None => Ok(()),
        }
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Late> {
        let Some(exchange) = &mut self.http else {
            return self.timer.poll_expired(cx).map(|Expired| Late::Deadline);
        };
        match ready!(exchange.clock.poll_between(cx, self.keeper, None)) {
            Some(late) => Poll::Ready(late),
            None => Poll::Pending,
        }
    }
}

// === impl Call ===

impl Call {
    pub(super) fn waits(&mut self) -> Waits<'_> {
        Waits {
            timer: &mut self.timer,
            http: self.http.as_deref_mut(),
            keeper: &self.keeper,
        }
    }
}

// === impl Late ===

impl Late {
    /// What the call ends with.
    pub(super) fn error(self, when: &str) -> Error {
        match self {
            Self::Idle | Self::AttemptIdle => {
                deadline_exceeded("as nothing happened within the idle timeout").idle()
            }
            Self::Deadline | Self::Attempt => deadline_exceeded(when),
        }
    }
}
