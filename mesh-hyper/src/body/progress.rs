use std::{
    sync::atomic::{AtomicU32, Ordering},
    task::Context,
    time::Duration,
};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::time::Instant;

/// The frames of a request's body, counted where they are sent, for who waits for the response.
#[derive(Default)]
pub(super) struct Frames {
    sent: AtomicU32,
    /// Never held while the body is polled.
    state: Mutex<State>,
    /// Who waits for progress.
    watcher: AtomicWaker,
}

#[derive(Default)]
struct State {
    attempt: u32,
    progress: Progress,
    /// When the sending that is under way began.
    since: Option<Instant>,
}

/// How far the sending of a request's body is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) phase: Phase,
    /// How long it was being sent, in all attempts that are over.
    pub(crate) took: Duration,
}

/// Where an attempt is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Nothing of the body was asked for: its request waits for a connection.
    #[default]
    Queued,
    /// There is more to come.
    Sending,
    /// The last frame was asked for, or no more of them will be.
    Sent,
}

// === impl Frames ===

impl Frames {
    /// `attempt` asked for a frame: there was one or not, and it was the last or not.
    pub(super) fn asked(&self, attempt: u32, came: bool, last: bool) {
        if came {
            self.sent.fetch_add(1, Ordering::Relaxed);
        }
        let phase = match last {
            true => Phase::Sent,
            false => Phase::Sending,
        };
        self.advance(attempt, phase);
    }

    /// `attempt` asks for no more.
    pub(super) fn over(&self, attempt: u32) {
        self.advance(attempt, Phase::Sent);
    }

    /// `attempt` takes the place of the one before it; there may be nothing of the body that was
    /// not asked for yet.
    pub(super) fn again(&self, attempt: u32, ended: bool) {
        let mut state = self.state.lock();
        state.attempt = attempt;
        state.pause();
        state.progress.phase = match ended {
            true => Phase::Sent,
            false => Phase::Queued,
        };
    }

    fn advance(&self, attempt: u32, phase: Phase) {
        let mut state = self.state.lock();
        // Whatever becomes of an attempt that was withdrawn says nothing.
        if state.attempt != attempt || state.progress.phase >= phase {
            return;
        }
        match phase {
            Phase::Sending => state.since = Some(Instant::now()),
            _ => state.pause(),
        }
        state.progress.phase = phase;
        drop(state);
        self.watcher.wake();
    }

    pub(super) fn sent(&self) -> u32 {
        self.sent.load(Ordering::Relaxed)
    }

    pub(super) fn progress(&self) -> Progress {
        self.state.lock().progress
    }

    /// Registered first: nothing is missed.
    pub(super) fn watch(&self, cx: &mut Context<'_>) -> Progress {
        self.watcher.register(cx.waker());
        self.progress()
    }
}

// === impl State ===

impl State {
    fn pause(&mut self) {
        if let Some(since) = self.since.take() {
            self.progress.took += since.elapsed();
        }
    }
}

// === impl Progress ===

impl Progress {
    /// Of what has nothing to send.
    pub(crate) fn sent() -> Self {
        Self {
            phase: Phase::Sent,
            took: Duration::ZERO,
        }
    }
}
