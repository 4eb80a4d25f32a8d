use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    task::{Context, Wake, Waker},
};

use futures_util::task::AtomicWaker;

/// Which parts of one task want to be polled: a bit for each.
///
/// Sequentially consistent where it matters: either the task sees a bit when it is done with its
/// poll, or who raised it sees that the task is not being polled, and wakes it.
#[derive(Debug)]
pub(super) struct Wakes {
    raised: AtomicU8,
    polling: AtomicBool,
    task: AtomicWaker,
}

struct WakeOne {
    bit: u8,
    wakes: Arc<Wakes>,
}

// === impl Wakes ===

impl Wakes {
    pub(super) fn new(raised: u8) -> Arc<Self> {
        Arc::new(Self {
            raised: AtomicU8::new(raised),
            polling: AtomicBool::new(false),
            task: AtomicWaker::new(),
        })
    }

    /// A waker that raises `bit`.
    pub(super) fn waker(self: &Arc<Self>, bit: u8) -> Waker {
        let wakes = Arc::clone(self);
        Waker::from(Arc::new(WakeOne { bit, wakes }))
    }

    /// Raises `bit` and wakes the task, unless that is being polled and will see it.
    pub(super) fn raise(&self, bit: u8) {
        self.raise_silently(bit);
        if !self.polling.load(Ordering::SeqCst) {
            self.task.wake();
        }
    }

    /// Raises `bit` for a poll that is about to happen.
    pub(super) fn raise_silently(&self, bit: u8) {
        self.raised.fetch_or(bit, Ordering::SeqCst);
    }

    /// The task begins a poll.
    pub(super) fn begin(&self, cx: &Context<'_>) {
        self.task.register(cx.waker());
        self.polling.store(true, Ordering::SeqCst);
    }

    /// Takes those of `bits` that are raised.
    pub(super) fn take(&self, bits: u8) -> u8 {
        self.raised.fetch_and(!bits, Ordering::SeqCst) & bits
    }

    /// The task ends a poll; whether something was raised that it has not taken.
    pub(super) fn end(&self) -> bool {
        self.polling.store(false, Ordering::SeqCst);
        self.raised.load(Ordering::SeqCst) != 0
    }
}

impl Wake for WakeOne {
    fn wake(self: Arc<Self>) {
        self.wakes.raise(self.bit);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wakes.raise(self.bit);
    }
}
