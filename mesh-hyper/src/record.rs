use std::{mem, sync::Arc};

use http::{Method, StatusCode};
use mesh_core::{
    Code,
    balance::LinkState,
    telemetry::{Amount, Attempt, CallRecord, Cause, Instruments},
};
use tokio::time::Instant;

use crate::{error::NoRetry, retry::Retry};

/// Records one call exactly once: how it ended, or that it was dropped before it did.
///
/// A call with one attempt reads the clock twice: at its start and at its end.
#[derive(Debug)]
pub(crate) struct CallGuard {
    instruments: Option<Arc<dyn Instruments>>,
    /// Where its attempts are recorded, if it went to another cluster than the one it began with.
    moved: Option<Box<Arc<dyn Instruments>>>,
    /// Its start was counted.
    started: bool,
    start: Instant,
    /// When the attempt that is under way began.
    attempt: Option<Instant>,
    status: Option<StatusCode>,
    no_retry: Option<NoRetry>,
    retries: u32,
    transparent_retries: u32,
}

/// How a call or an attempt ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End<'a> {
    code: Code,
    cause: Cause,
    /// The endpoint.
    link: Option<&'a LinkState>,
    flag: Option<&'static str>,
    drop_category: Option<&'a str>,
    sent: Amount,
    received: Amount,
}

/// The instruments of one method's calls; of all of them, if none is known.
#[inline]
pub(crate) fn of_method(
    instruments: &Arc<dyn Instruments>,
    method: Option<&str>,
) -> Arc<dyn Instruments> {
    method
        .and_then(|method| instruments.method(method))
        .unwrap_or_else(|| Arc::clone(instruments))
}

/// The name under which a request's method is counted: one of RFC 9110 or 5789.
#[inline]
pub(crate) fn verb(method: &Method) -> Option<&'static str> {
    Some(match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => return None,
    })
}

// === impl CallGuard ===

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
            no_retry: None,
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
        self.moved = instruments.map(Box::new);
    }

    /// The first attempt begins. Its time counts from the start of the call.
    pub(crate) fn first_attempt(&mut self) {
        self.attempt_began(self.start);
    }

    /// The attempt under way failed, and there may be another.
    pub(crate) fn retried(&mut self, end: &End<'_>) {
        self.attempt_ended(end, Instant::now());
    }

    /// Another attempt begins, after the pause before it.
    pub(crate) fn next_attempt(&mut self) {
        self.attempt_began(Instant::now());
    }

    fn attempt_began(&mut self, at: Instant) {
        if let Some(instruments) = self.moved.as_deref().or(self.instruments.as_ref()) {
            instruments.attempt_started();
        }
        self.attempt = Some(at);
    }

    /// Response headers came.
    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// A failure was not tried again although the retry policy covers it.
    pub(crate) fn not_retried(&mut self, no_retry: NoRetry) {
        self.no_retry = Some(no_retry);
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

    /// The call ended. Later ends are not counted.
    pub(crate) fn finish(&mut self, end: &End<'_>) {
        if self.instruments.is_none() {
            return;
        }
        let now = Instant::now();
        let is_alone = self.attempt == Some(self.start)
            && self.retries == 0
            && self.transparent_retries == 0
            && self.moved.is_none();
        if !is_alone {
            self.attempt_ended(end, now);
        }
        let Some(instruments) = self.instruments.take() else {
            return;
        };
        if !self.started {
            instruments.started();
        }
        let duration = now.saturating_duration_since(self.start);
        let mut record = CallRecord::new(end.code, end.cause, duration);
        record.status = self.status;
        let no_retry = self.no_retry.map(NoRetry::response_flag);
        record.flags = match (end.flag, no_retry) {
            (None, second) => [second, None],
            (first, second) if first == second => [first, None],
            both => both.into(),
        };
        record.drop_category = end.drop_category;
        record.retries = self.retries;
        record.transparent_retries = self.transparent_retries;
        record.endpoint = end.link.map(LinkState::address);
        record.locality = end.link.map(LinkState::locality);
        let workload = end.link.and_then(LinkState::workload);
        record.peer = workload.as_ref().and_then(|workload| workload.as_ref());
        (record.sent, record.received) = (end.sent, end.received);
        match is_alone {
            true => instruments.both_ended(&record),
            false => instruments.finished(&record),
        }
    }

    fn attempt_ended(&mut self, end: &End<'_>, now: Instant) {
        let (Some(instruments), Some(began)) = (&self.instruments, self.attempt.take()) else {
            return;
        };
        let duration = now.saturating_duration_since(began);
        let mut attempt = Attempt::new(end.code, end.cause, duration);
        attempt.status = self.status;
        attempt.endpoint = end.link.map(LinkState::address);
        attempt.locality = end.link.map(LinkState::locality);
        (attempt.sent, attempt.received) = (end.sent, end.received);
        (self.moved.as_deref())
            .unwrap_or(instruments)
            .attempt(&attempt);
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.finish(&End::new(Code::Cancelled, Cause::Cancelled, None));
    }
}

// === impl End ===

impl<'a> End<'a> {
    /// On this endpoint.
    #[inline]
    pub(crate) fn new(code: Code, cause: Cause, link: Option<&'a LinkState>) -> Self {
        Self {
            code,
            cause,
            link,
            flag: cause.response_flag(),
            drop_category: None,
            sent: Amount::default(),
            received: Amount::default(),
        }
    }

    /// Dropped on the control plane's order.
    pub(crate) fn dropped(code: Code, category: &'a str) -> Self {
        Self {
            drop_category: Some(category),
            ..Self::new(code, Cause::Drop, None)
        }
    }

    /// The same, known by this flag.
    pub(crate) fn flagged(mut self, flag: Option<&'static str>) -> Self {
        self.flag = flag;
        self
    }

    /// The same, after so much.
    #[inline]
    pub(crate) fn after(mut self, sent: Amount, received: Amount) -> Self {
        (self.sent, self.received) = (sent, received);
        self
    }
}
