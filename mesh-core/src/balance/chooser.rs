use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Connectivity,
    failover::Failover,
    priority_load::{Level, Rules},
    spread::Spread,
    version::Which,
};
use crate::{
    Semantics,
    config::{Health, Locality},
};

/// What decides which priorities take the calls of a cluster.
#[derive(Debug)]
pub(super) enum Chooser {
    /// gRPC semantics: one priority at a time (gRFC A56).
    Failover(Failover),
    /// HTTP semantics: priorities share the load by their health (Envoy).
    Spread(Spread),
}

/// How a cluster does, for the aggregate that it stands in for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// gRPC semantics: what it reports (gRFC A75).
    State(Connectivity),
    /// HTTP semantics: what is known of its priorities.
    Levels(Vec<Level>),
}

// === impl Chooser ===

impl Chooser {
    /// Without priorities.
    pub(super) fn new(semantics: Semantics) -> Self {
        match semantics {
            Semantics::Grpc => Chooser::Failover(Failover::new()),
            Semantics::Http => Chooser::Spread(Spread::new()),
        }
    }

    /// Takes the priorities of a new configuration, highest first. What the endpoints of each
    /// report must be told then.
    pub(super) fn configure<'a>(
        &mut self,
        rules: Rules,
        priorities: impl Iterator<Item = &'a [&'a Locality]>,
    ) {
        match self {
            Chooser::Failover(failover) => {
                let ids = |localities: &[&Locality]| {
                    localities.iter().map(|l| Arc::clone(&l.id)).collect()
                };
                failover.configure(priorities.map(ids).collect());
            }
            Chooser::Spread(spread) => spread.configure(rules, priorities.map(total)),
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

    /// How the cluster does.
    pub(super) fn standing(&self) -> Standing {
        match self {
            Chooser::Failover(failover) => Standing::State(
                failover
                    .chosen()
                    .map_or(Connectivity::Failing, |(_, state)| state),
            ),
            Chooser::Spread(spread) => Standing::Levels(spread.levels().collect()),
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

/// How many endpoints count, of whatever health.
fn total(localities: &[&Locality]) -> u32 {
    let endpoints = localities.iter().flat_map(|locality| &locality.endpoints);
    let counted = endpoints.filter(|endpoint| endpoint.health != Health::Draining);
    u32::try_from(counted.count()).unwrap_or(u32::MAX)
}
