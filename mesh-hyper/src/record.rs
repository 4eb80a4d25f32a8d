use std::sync::Arc;

use mesh_core::{
    Code,
    resilience::RetryState,
    telemetry::{CallRecord, Cause, Instruments},
};
use tokio::time::Instant;

use crate::error::Error;

/// Records one call exactly once: how it ended, or that it was dropped before it did.
#[derive(Debug)]
pub(crate) struct CallGuard {
    instruments: Option<Arc<dyn Instruments>>,
    start: Instant,
    retries: u32,
    transparent_retries: u32,
    done: bool,
}

impl CallGuard {
    /// A call that began at `start`; recorded in `unrouted` until it is routed.
    pub(crate) fn new(unrouted: Option<Arc<dyn Instruments>>, start: Instant) -> Self {
        Self { instruments: unrouted, start, retries: 0, transparent_retries: 0, done: false }
    }

    /// The call's route and cluster are known.
    pub(crate) fn routed(&mut self, instruments: Option<Arc<dyn Instruments>>) {
        self.instruments = instruments;
    }

    /// Takes the number of attempts.
    pub(crate) fn attempts(&mut self, retry: &RetryState) {
        self.retries = retry.previous_attempts();
        self.transparent_retries = retry.transparent_retries();
    }

    /// The call failed; gives the error back.
    pub(crate) fn failed(&mut self, error: Error) -> Error {
        self.finish(error.code(), error.cause());
        error
    }

    /// The call ended. Later ends are not counted.
    pub(crate) fn finish(&mut self, code: Code, cause: Cause) {
        if std::mem::replace(&mut self.done, true) {
            return;
        }
        if let Some(instruments) = &self.instruments {
            let record = CallRecord::new(code, cause, self.start.elapsed())
                .retries(self.retries, self.transparent_retries);
            instruments.finished(&record);
        }
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.finish(Code::Cancelled, Cause::Cancelled);
    }
}
