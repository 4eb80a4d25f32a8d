use std::future::Future;

use tokio::{runtime::Handle, task::AbortHandle, time::Instant};

/// A task that does something at a given time, unless this is dropped before.
#[derive(Debug)]
pub(super) struct Timer {
    at: Instant,
    task: AbortHandle,
}

impl Timer {
    /// Runs `then` at `at`.
    pub(super) fn new(
        runtime: &Handle,
        at: Instant,
        then: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let task = runtime.spawn(async move {
            tokio::time::sleep_until(at).await;
            then.await;
        });
        Self {
            at,
            task: task.abort_handle(),
        }
    }

    /// When it fires.
    pub(super) fn at(&self) -> Instant {
        self.at
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
