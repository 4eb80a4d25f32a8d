use tokio::time::Instant;

use super::{Connectivity, failover::Failover, spread::Spread, version::Which};
use crate::Semantics;

/// What decides which priorities take the calls of a cluster.
#[derive(Debug)]
pub(super) enum Chooser {
    /// gRPC semantics: one priority at a time (gRFC A56).
    Failover(Failover),
    /// HTTP semantics: priorities share the load by their health (Envoy).
    Spread(Spread),
}

// === impl Chooser ===

impl Chooser {
    /// Without priorities.
    pub(super) fn new(semantics: Semantics) -> Self {
        match semantics {
            Semantics::Grpc => Chooser::Failover(Failover::default()),
            Semantics::Http => Chooser::Spread(Spread::new()),
        }
    }

    /// Whether such endpoints of a priority are to be kept connected.
    pub(super) fn exists(&self, priority: usize, which: Which) -> bool {
        match self {
            Chooser::Failover(failover) => failover.exists(priority),
            Chooser::Spread(spread) => spread.asked(priority)(which),
        }
    }

    /// Whether an endpoint that takes calls is ready or may be soon.
    pub(super) fn is_hopeful(&self) -> bool {
        match self {
            Chooser::Failover(failover) => failover
                .chosen()
                .is_some_and(|(_, state)| state != Connectivity::Failing),
            Chooser::Spread(spread) => spread.is_hopeful(),
        }
    }

    /// The priorities that were not needed for long, whose life [`elapse`](Self::elapse) ends.
    pub(super) fn expired(&self, now: Instant) -> Vec<usize> {
        match self {
            Chooser::Failover(failover) => failover.expired(now),
            Chooser::Spread(spread) => spread.expired(now),
        }
    }

    /// Ends the timers and lives that are over by `now`.
    pub(super) fn elapse(&mut self, now: Instant) {
        match self {
            Chooser::Failover(failover) => failover.elapse(now),
            Chooser::Spread(spread) => spread.elapse(now),
        }
    }

    /// When [`elapse`](Self::elapse) has something to do next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Chooser::Failover(failover) => failover.deadline(),
            Chooser::Spread(spread) => spread.deadline(),
        }
    }
}
