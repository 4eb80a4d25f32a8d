use std::sync::Arc;

use tokio::sync::futures::Notified;

use super::{
    Endpoint, InFlight, PickCx, chooser::Standing, live::Live, load::Counting, version::Version,
};
use crate::{
    Semantics, config,
    resilience::{Breaker, Overloaded, Permit, RetryPermit},
    runtime::Transport,
};

/// A cluster as one configuration has it, ready to be picked from.
///
/// Connections, loads and failover are shared with all other snapshots of the cluster. The newest
/// one governs: an older one, held by a call or by a target that has not taken over yet, picks
/// from the same endpoints, so that none that was removed gets a new call. When the newest is
/// dropped, the newest of the others governs; when the last is, all endpoints are retired.
#[derive(Debug)]
pub struct ClusterSnapshot<T: Transport> {
    config: Arc<config::Cluster>,
    endpoints: Arc<config::Endpoints>,
    breaker: Arc<Breaker>,
    /// Its calls are counted for a load report.
    counting: Option<Counting>,
    version: Arc<Version<T::Conn>>,
    pub(super) live: Arc<Live<T>>,
}

/// How a cluster does, at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterStatus {
    /// Its name.
    pub cluster: Arc<str>,
    /// How its calls are understood.
    pub semantics: Semantics,
    /// Calls in flight, of both semantics.
    pub in_flight: u32,
    /// Calls that may be (`max_requests`).
    pub max_requests: u32,
    /// Retries under way.
    pub retries: u32,
    /// Retries that may be (`max_retries`); in force under HTTP semantics.
    pub max_retries: u32,
    /// Its endpoints by the state of their connections: idle, connecting, ready, failing.
    pub endpoints: [u32; 4],
}

/// What a cluster has for a call.
#[derive(Debug)]
pub enum Picked<C> {
    /// An endpoint that was ready when it was looked at.
    Endpoint(Arc<Endpoint<C>>),
    /// None is ready, and some may be soon: wait for
    /// [`notified`](ClusterSnapshot::notified) and pick again.
    Wait,
    /// None is ready, and all that take calls have failed or there are none. Says which and why;
    /// the call fails with UNAVAILABLE (503 under HTTP semantics), or waits like [`Picked::Wait`] if
    /// it is to wait for ready.
    Fail(Arc<str>),
}

// === impl ClusterSnapshot ===

impl<T: Transport> ClusterSnapshot<T> {
    pub(super) fn new(
        config: &Arc<config::Cluster>,
        endpoints: &Arc<config::Endpoints>,
        breaker: Arc<Breaker>,
        counting: Option<Counting>,
        version: Arc<Version<T::Conn>>,
        live: Arc<Live<T>>,
    ) -> Self {
        Self {
            config: Arc::clone(config),
            endpoints: Arc::clone(endpoints),
            breaker,
            counting,
            version,
            live,
        }
    }

    /// The configuration of the cluster.
    pub fn config(&self) -> &Arc<config::Cluster> {
        &self.config
    }

    /// The configuration of its endpoints.
    pub fn endpoints(&self) -> &Arc<config::Endpoints> {
        &self.endpoints
    }

    /// Picks an endpoint for one attempt: in the caller's task, by atomic loads.
    ///
    /// Only when nothing is ready, a lock is taken to see why.
    #[inline]
    pub fn pick(&self, cx: &PickCx<'_>) -> Picked<T::Conn> {
        match self.version.pick(cx) {
            Some(endpoint) => Picked::Endpoint(Arc::clone(endpoint)),
            None => self.live.pick(cx, &self.config.discovery),
        }
    }

    /// Counts a call on an endpoint that was picked until the guard is dropped; in the cluster's
    /// load report, too, if there is one.
    #[inline]
    pub fn begin(&self, endpoint: &Endpoint<T::Conn>) -> InFlight {
        match &self.counting {
            None => endpoint.link.begin(),
            Some(counting) => {
                let counted = counting.begin(endpoint.link.locality());
                endpoint.link.begin_counted(counted)
            }
        }
    }

    /// Completes at the next change that may let a pick end otherwise. It counts from this call
    /// on, not from the first poll: with `notified()` before [`pick`](Self::pick), no change is
    /// missed.
    pub fn notified(&self) -> Notified<'_> {
        self.live.changes().notified()
    }

    /// Draws whether a call is dropped on the control plane's order (`drop_overloads`), and by
    /// which category. Each category draws in order; none does while no endpoint is ready.
    pub fn dropped(&self) -> Option<&config::Drop> {
        if self.endpoints.drops.is_empty() || !self.live.is_usable() {
            return None;
        }
        let dropped = self.endpoints.drops.iter().find(|drop| drop.share.draw());
        if let (Some(dropped), Some(counting)) = (dropped, &self.counting) {
            counting.dropped(&dropped.category);
        }
        dropped
    }

    /// Admits a call under the cluster's circuit breaker.
    ///
    /// # Errors
    /// [`Overloaded`] when as many calls are in flight as may be.
    #[inline]
    pub fn admit(&self) -> Result<Permit, Overloaded> {
        let admitted = self.breaker.admit();
        if let (Err(_), Some(counting)) = (&admitted, &self.counting) {
            counting.shed();
        }
        admitted
    }

    /// Admits a retry under the cluster's circuit breaker, which has a count of them for itself
    /// (`max_retries`, in force under HTTP semantics). The permit is held from the decision to try
    /// again, over the backoff, until the outcome of that attempt is known.
    ///
    /// # Errors
    /// [`Overloaded`] when as many retries are under way as may be.
    pub fn admit_retry(&self) -> Result<RetryPermit, Overloaded> {
        self.breaker.admit_retry()
    }

    /// The cluster's circuit breaker, which is one for both semantics.
    pub fn breaker(&self) -> &Arc<Breaker> {
        &self.breaker
    }

    /// How it does, for whoever looks after it.
    pub fn status(&self) -> ClusterStatus {
        let breaker = &self.breaker;
        ClusterStatus {
            cluster: Arc::clone(&self.config.name),
            semantics: self.live.semantics,
            in_flight: breaker.in_flight(),
            max_requests: breaker.max_requests(),
            retries: breaker.retries(),
            max_retries: breaker.max_retries(),
            endpoints: self.version.connectivity(),
        }
    }

    /// How it does: what there is for calls, as its priorities tell.
    pub(super) fn standing(&self) -> Standing {
        self.live.standing()
    }

    /// Whether this is the snapshot of an equal configuration.
    pub(super) fn is_of(
        &self,
        config: &Arc<config::Cluster>,
        endpoints: &Arc<config::Endpoints>,
    ) -> bool {
        (Arc::ptr_eq(&self.config, config) || self.config == *config)
            && (Arc::ptr_eq(&self.endpoints, endpoints) || self.endpoints == *endpoints)
    }
}

impl<T: Transport> Drop for ClusterSnapshot<T> {
    fn drop(&mut self) {
        self.live.released(self);
    }
}
