use std::sync::Arc;

use mesh_core::balance::{Connectivity, LinkState};
use parking_lot::Mutex;

/// Tells a link of its state, in order, whoever changes it.
#[derive(Debug)]
pub(crate) struct Reporter {
    link: Arc<LinkState>,
    pending: Mutex<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    next: Option<(Connectivity, Option<Arc<str>>)>,
    /// Somebody reports and will look again.
    reporting: bool,
}

impl Reporter {
    pub(crate) fn new(link: Arc<LinkState>) -> Self {
        Self {
            link,
            pending: Mutex::default(),
        }
    }

    pub(crate) fn link(&self) -> &Arc<LinkState> {
        &self.link
    }

    /// Notes what [`report`](Self::report) is to say, under whatever lock decides the order.
    pub(crate) fn note(&self, connectivity: Connectivity, error: Option<Arc<str>>) {
        let mut pending = self.pending.lock();
        // An error that nobody was told of yet is not lost to a later change without one.
        let earlier = pending.next.take().and_then(|(_, error)| error);
        pending.next = Some((connectivity, error.or(earlier)));
    }

    /// Tells the link what was noted, outside all locks, because its observer may well ask for a
    /// connection. One at a time, so that the last to be told is the last that was noted.
    pub(crate) fn report(&self) {
        let mut pending = self.pending.lock();
        if pending.reporting {
            return;
        }
        pending.reporting = true;
        while let Some((connectivity, error)) = pending.next.take() {
            drop(pending);
            self.link.set(connectivity, error);
            pending = self.pending.lock();
        }
        pending.reporting = false;
    }
}
