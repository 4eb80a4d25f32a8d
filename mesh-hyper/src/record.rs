use std::{mem, sync::Arc};

use http::StatusCode;
use mesh_core::{
    Code,
    balance::LinkState,
    telemetry::{Attempt, CallRecord, Cause, Instruments},
};
use tokio::time::Instant;

use crate::retry::Retry;

/// Records one call exactly once: how it ended, or that it was dropped before it did.
///
/// A call with one attempt reads the clock twice: at its start and at its end.
#[derive(Debug)]
pub(crate) struct CallGuard {
    instruments: Option<Arc<dyn Instruments>>,
    /// Where its attempts are recorded, if it went to another cluster than the one it began with.
    moved: Option<Arc<dyn Instruments>>,
    /// Its start was counted.
    started: bool,
    start: Instant,
    /// When the attempt that is under way began.
    attempt: Option<Instant>,
    status: Option<StatusCode>,
    retries: u32,
    transparent_retries: u32,
}

impl CallGuard {
    /// A call that began at `start`.
    pub(crate) fn new(instruments: Option<Arc<dyn Instruments>>, start: Instant) -> Self {
        if let Some(instruments) = &instruments {
            instruments.started();
        }
        Self {
            instruments,
            moved: None,
            started: true,
            start,
            attempt: None,
            status: None,
            retries: 0,
            transparent_retries: 0,
        }
    }

    /// A call that no route has taken yet: counted only if it ends before one does.
    pub(crate) fn unrouted(instruments: Option<Arc<dyn Instruments>>, start: Instant) -> Self {
        let mut guard = Self::new(None, start);
        (guard.instruments, guard.started) = (instruments, false);
        guard
    }

    /// A route took the call: another guard counts it from now on.
    pub(crate) fn routed(mut self) {
        self.instruments = None;
    }

    /// What there is to record, for somebody else to; this guard records nothing from now on.
    pub(crate) fn take(&mut self) -> Self {
        let nothing = Self::unrouted(None, self.start);
        mem::replace(self, nothing)
    }

    /// The call goes to another cluster: attempts from now on are recorded as of that. The call
    /// itself ends where it began.
    pub(crate) fn moved(&mut self, instruments: Option<Arc<dyn Instruments>>) {
        self.moved = instruments;
    }

    /// The first attempt begins. Its time counts from the start of the call.
    pub(crate) fn first_attempt(&mut self) {
        self.attempt = Some(self.start);
    }

    /// The attempt under way failed, and there may be another.
    pub(crate) fn retried(&mut self, code: Code, cause: Cause, link: Option<&LinkState>) {
        self.attempt_ended(code, cause, link, Instant::now());
    }

    /// Another attempt begins, after the pause before it.
    pub(crate) fn next_attempt(&mut self) {
        self.attempt = Some(Instant::now());
    }

    /// Response headers came.
    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// Whether an endpoint's response was a good one for a load report: as gRPC counts it, or under
    /// HTTP semantics as Envoy does, to which all but 5xx are.
    pub(crate) fn was_good(&self, code: Code, is_http: bool) -> bool {
        match is_http {
            true => self.status.is_some_and(|status| !status.is_server_error()),
            false => code == Code::Ok,
        }
    }

    /// Takes the number of attempts.
    pub(crate) fn attempts(&mut self, retry: &Retry) {
        self.retries = retry.previous_attempts();
        self.transparent_retries = retry.transparent_retries();
    }

    /// The call ended, on this endpoint. Later ends are not counted.
    pub(crate) fn finish(&mut self, code: Code, cause: Cause, link: Option<&LinkState>) {
        self.finish_as(code, cause, link, None);
    }

    /// The call was dropped on the control plane's order.
    pub(crate) fn dropped(&mut self, code: Code, category: &str) {
        self.finish_as(code, Cause::Drop, None, Some(category));
    }

    fn finish_as(
        &mut self,
        code: Code,
        cause: Cause,
        link: Option<&LinkState>,
        drop_category: Option<&str>,
    ) {
        if self.instruments.is_none() {
            return;
        }
        let now = Instant::now();
        self.attempt_ended(code, cause, link, now);
        let Some(instruments) = self.instruments.take() else {
            return;
        };
        if !self.started {
            instruments.started();
        }
        let mut record = CallRecord::new(code, cause, now.saturating_duration_since(self.start));
        record.status = self.status;
        record.drop_category = drop_category;
        record.retries = self.retries;
        record.transparent_retries = self.transparent_retries;
        record.endpoint = link.map(LinkState::address);
        record.locality = link.map(|link| &**link.locality());
        instruments.finished(&record);
    }

    fn attempt_ended(&mut self, code: Code, cause: Cause, link: Option<&LinkState>, now: Instant) {
        let (Some(instruments), Some(began)) = (&self.instruments, self.attempt.take()) else {
            return;
        };
        let mut attempt = Attempt::new(code, cause, now.saturating_duration_since(began));
        attempt.status = self.status;
        attempt.endpoint = link.map(LinkState::address);
        attempt.locality = link.map(|link| &**link.locality());
        self.moved.as_ref().unwrap_or(instruments).attempt(&attempt);
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.finish(Code::Cancelled, Cause::Cancelled, None);
    }
}
