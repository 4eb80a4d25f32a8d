use std::{
    any::Any,
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, StatusCode};

use super::{Filter, FilterSpec, Reply, RequestHead, Verdict};
use crate::{
    Code,
    config::{FilterConfig, Fraction},
    telemetry::Cause,
};

/// Fault injection: delays and aborts a share of calls before anything is sent (gRFC A33).
///
/// Whether a call is delayed and whether it is aborted is drawn independently; one that is both
/// waits first. An override takes the place of the whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultSpec {
    /// Which calls wait, and how long.
    pub delay: Option<FaultDelay>,
    /// Which calls fail, and how.
    pub abort: Option<FaultAbort>,
    /// The number of faults in the process at a time up to which this filter injects another.
    /// `None`: no limit.
    pub max_active: Option<u32>,
}

/// Calls that wait.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultDelay {
    /// Which share of calls. The header `x-envoy-fault-delay-request-percentage` can lower it
    /// where the length comes from a header too.
    pub share: FaultShare,
    /// How long.
    pub length: DelayLength,
}

/// How long a call waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DelayLength {
    /// This long; not at all if it is zero.
    Fixed(Duration),
    /// As many milliseconds as the header `x-envoy-fault-delay-request` says; without a valid
    /// one, not at all.
    Header,
}

/// Calls that fail.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultAbort {
    /// Which share of calls. The header `x-envoy-fault-abort-request-percentage` can lower it
    /// where the status comes from a header too.
    pub share: FaultShare,
    /// With which status.
    pub status: AbortStatus,
}

/// The status that an aborted call ends with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AbortStatus {
    /// This HTTP status; for gRPC the code that it is mapped to, which for 200 is UNKNOWN.
    Http(StatusCode),
    /// This gRPC status; OK ends the call with empty trailers.
    Grpc(Code),
    /// As one of the headers `x-envoy-fault-abort-request` (an HTTP status) and, where that is
    /// absent or invalid, `x-envoy-fault-abort-grpc-request` says; without a valid one, the call
    /// is not aborted.
    Header,
}

/// A share of calls that a header may lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultShare {
    /// The share, and the most that a header can ask for.
    pub limit: Fraction,
    /// Parts per million that one unit in a header stands for: 10 000 for a percentage.
    pub unit: u32,
}

/// A [`FaultSpec`] at work. Both faults have a share above zero.
#[derive(Debug)]
struct Fault {
    delay: Option<FaultDelay>,
    abort: Option<FaultAbort>,
    max_active: u32,
    active: &'static AtomicU32,
}

/// One of the active faults; dropping it ends it.
#[derive(Debug)]
struct ActiveFault(&'static AtomicU32);

/// The active faults of the process, whatever filter injects them.
static ACTIVE: AtomicU32 = AtomicU32::new(0);

const DELAY_MILLIS: &str = "x-envoy-fault-delay-request";
const DELAY_PERCENTAGE: &str = "x-envoy-fault-delay-request-percentage";
const ABORT_HTTP_STATUS: &str = "x-envoy-fault-abort-request";
const ABORT_GRPC_STATUS: &str = "x-envoy-fault-abort-grpc-request";
const ABORT_PERCENTAGE: &str = "x-envoy-fault-abort-request-percentage";

// === impl FaultSpec ===

impl FaultSpec {
    /// The filter, or nothing if no call can ever be affected.
    fn filter(&self, active: &'static AtomicU32) -> Option<Fault> {
        let never = |share: &FaultShare| share.limit.parts() == 0;
        let delay = self.delay.clone().filter(|delay| {
            !never(&delay.share) && delay.length != DelayLength::Fixed(Duration::ZERO)
        });
        let abort = self.abort.clone().filter(|abort| !never(&abort.share));
        if self.max_active == Some(0) || (delay.is_none() && abort.is_none()) {
            return None;
        }
        Some(Fault {
            delay,
            abort,
            max_active: self.max_active.unwrap_or(u32::MAX),
            active,
        })
    }
}

impl FilterSpec for FaultSpec {
    fn build(&self, over: Option<&FilterConfig>) -> Option<Arc<dyn Filter>> {
        let spec = super::replaced(self, over);
        Some(Arc::new(spec.filter(&ACTIVE)?))
    }

    fn equals(&self, other: &dyn FilterSpec) -> bool {
        (other as &dyn Any).downcast_ref() == Some(self)
    }
}

// === impl FaultDelay ===

impl FaultDelay {
    fn draw(&self, headers: &HeaderMap) -> Option<Duration> {
        let (length, share) = match self.length {
            DelayLength::Fixed(length) => (length, self.share.limit),
            DelayLength::Header => (
                Duration::from_millis(number(headers, DELAY_MILLIS)?),
                self.share.lowered(headers, DELAY_PERCENTAGE),
            ),
        };
        (!length.is_zero() && share.draw()).then_some(length)
    }
}

// === impl FaultAbort ===

impl FaultAbort {
    fn draw(&self, headers: &HeaderMap) -> Option<Reply> {
        let from_headers;
        let (status, share) = match &self.status {
            AbortStatus::Header => {
                from_headers = AbortStatus::from_headers(headers)?;
                let share = self.share.lowered(headers, ABORT_PERCENTAGE);
                (&from_headers, share)
            }
            status => (status, self.share.limit),
        };
        let (http, grpc) = match *status {
            AbortStatus::Http(status) => (status, Code::from_http(status)),
            AbortStatus::Grpc(code) => (StatusCode::OK, code),
            AbortStatus::Header => return None,
        };
        share.draw().then_some(Reply {
            http,
            grpc,
            message: Cow::Borrowed("aborted by fault injection"),
            cause: Cause::Fault,
        })
    }
}

// === impl AbortStatus ===

impl AbortStatus {
    fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let http = number(headers, ABORT_HTTP_STATUS)
            .and_then(|status| u16::try_from(status).ok())
            .filter(|status| (200..600).contains(status))
            .and_then(|status| StatusCode::from_u16(status).ok())
            .map(AbortStatus::Http);
        http.or_else(|| {
            let code = i32::try_from(number(headers, ABORT_GRPC_STATUS)?);
            Some(AbortStatus::Grpc(
                code.map_or(Code::Unknown, Code::from_i32),
            ))
        })
    }
}

// === impl FaultShare ===

impl FaultShare {
    fn lowered(&self, headers: &HeaderMap, name: &str) -> Fraction {
        let Some(asked) = number(headers, name) else {
            return self.limit;
        };
        let parts = asked.saturating_mul(u64::from(self.unit));
        let asked = Fraction::per_million(u32::try_from(parts).unwrap_or(u32::MAX));
        self.limit.min(asked)
    }
}

/// The number in the header `name`; nothing if it is not a valid one.
fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

// === impl Fault ===

impl Filter for Fault {
    fn request(&self, head: &mut RequestHead<'_>) -> Verdict {
        let delay = self
            .delay
            .as_ref()
            .and_then(|delay| delay.draw(head.headers));
        let abort = self
            .abort
            .as_ref()
            .and_then(|abort| abort.draw(head.headers));
        if delay.is_none() && abort.is_none() {
            return Verdict::Continue;
        }
        let Some(active) = ActiveFault::begin(self.active, self.max_active) else {
            return Verdict::Continue;
        };
        let end = |abort: Option<Reply>| abort.map_or(Verdict::Continue, Verdict::Reply);
        match delay {
            None => end(abort),
            Some(length) => Verdict::Wait(Box::pin(async move {
                tokio::time::sleep(length).await;
                drop(active);
                end(abort)
            })),
        }
    }
}

// === impl ActiveFault ===

impl ActiveFault {
    /// One more, unless there are `most` already.
    fn begin(active: &'static AtomicU32, most: u32) -> Option<Self> {
        active
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                (now < most).then(|| now + 1)
            })
            .ok()
            .map(|_| Self(active))
    }
}

impl Drop for ActiveFault {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
