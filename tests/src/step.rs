//! Futures that are driven by hand.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

/// How long a future may take to wake whoever polls it.
const PATIENCE: Duration = Duration::from_secs(10);

/// When [`poll_and_drop`] drops a future that is not ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// Right after its last poll.
    AtOnce,
    /// When it has asked for one poll more than it gets.
    Woken,
}

/// Polls `future` at most `polls` times, each time when it asks for it, then drops it. What it
/// resolved to, if it did.
///
/// # Panics
/// If it does not ask for a poll within 10 s.
pub async fn poll_and_drop<F: Future>(
    future: F,
    polls: usize,
    dropped: Dropped,
) -> Option<F::Output> {
    let asked = Arc::new(Asked(Notify::new()));
    let waker = Waker::from(Arc::clone(&asked));
    let mut future = pin!(future);
    for poll in 1..=polls {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
        if poll < polls || dropped == Dropped::Woken {
            timeout(PATIENCE, asked.0.notified())
                .await
                .expect("the future asks for another poll");
        }
    }
    None
}

struct Asked(Notify);

impl Wake for Asked {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}
