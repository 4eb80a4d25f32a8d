//! The load of clusters whose control plane wants to be told of it (LRS, gRFC A27): counted on the
//! way of calls to them, and of no others.
//!
//! Counts only grow. Who reports remembers what was reported last, so that nothing is lost when a
//! report is.
//!
//! What it costs: a call to a cluster whose load is not reported takes one branch on `None` at its
//! begin and its end each. One that is counted takes a look-up of its locality among those of the
//! snapshot, and four atomic operations: two counts, and the reference to what it counts in, taken
//! and given back. No lock and no allocation; only a call to a locality that the snapshot does not
//! have (its endpoints are just being replaced), and one that is dropped by category, take a lock.
//! If the control plane wants to know what endpoints say of their load, too (gRFC A85), each response
//! is looked at for that, and one that has it is read and summed up under a lock of its locality.
//! In nanoseconds, without and with: `cargo bench -p mesh-tests --bench pick`.

mod metrics;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use http::HeaderMap;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::{sync::Notify, time::Instant};

use self::metrics::Wanted;
pub(crate) use self::metrics::{Field, Metric, Metrics, Sum};
use crate::{
    Semantics,
    bootstrap::ServerConfig,
    config::{Cluster, Endpoints, LoadReport, LocalityId},
};

/// The loads of one mesh that are to be reported, by the control plane that wants to be told. Cheap
/// to clone.
#[derive(Debug, Clone, Default)]
pub struct Loads(Arc<All>);

#[derive(Debug, Default)]
struct All {
    servers: Mutex<HashMap<Arc<ServerConfig>, Arc<ServerLoads>>>,
    reporter: OnceLock<Box<dyn Reporter>>,
}

/// [`Loads`], as long as the mesh lives.
#[derive(Debug, Clone)]
pub(crate) struct WeakLoads(Weak<All>);

/// Who reports loads. For it to be told, a cluster has to come that wants that.
pub(crate) trait Reporter: std::fmt::Debug + Send + Sync {
    /// Reports to this control plane from now on, until [`Loads::end`] says that it is over. Must not
    /// call back into [`Loads`].
    fn begin(&self, server: &Arc<ServerConfig>, loads: &Arc<ServerLoads>);
}

/// What one control plane is to be told.
#[derive(Debug, Default)]
pub(crate) struct ServerLoads {
    clusters: Mutex<BTreeMap<ClusterKey, Arc<ClusterLoad>>>,
    /// A cluster has come, or its last user has gone.
    pub(crate) changed: Notify,
}

/// A cluster, and the name that it has for its endpoints resource: empty if it has none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ClusterKey {
    pub(crate) cluster: Arc<str>,
    pub(crate) service: Arc<str>,
}

/// The load of one cluster.
#[derive(Debug)]
pub(crate) struct ClusterLoad {
    pub(crate) key: ClusterKey,
    /// Counting began.
    pub(crate) since: Instant,
    wanted: Arc<Wanted>,
    /// How many snapshots count into it.
    users: AtomicUsize,
    localities: Mutex<HashMap<Arc<LocalityId>, Arc<LocalityLoad>>>,
    /// By category. A call that is dropped has time for a lock.
    dropped: Mutex<BTreeMap<Arc<str>, u64>>,
    /// Dropped by the circuit breaker.
    shed: AtomicU64,
}

/// How many categories of dropped calls are told apart; later ones are counted as [`OTHERS`].
const MOST_CATEGORIES: usize = 100;
const OTHERS: &str = "(others)";

/// The calls to one locality.
#[derive(Debug)]
pub(crate) struct LocalityLoad {
    issued: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    given_up: AtomicU64,
    wanted: Arc<Wanted>,
    /// What its endpoints have said since that was last told.
    metrics: Mutex<Metrics>,
}

/// What a snapshot counts its calls with.
#[derive(Debug)]
pub(crate) struct Counting {
    semantics: Semantics,
    cluster: Arc<ClusterLoad>,
    server: Arc<ServerLoads>,
    /// Those that it was made with.
    localities: FxHashMap<Arc<LocalityId>, Arc<LocalityLoad>>,
}

/// A call on its way to a locality whose load is reported, if it is. Dropped before its end, it is
/// given up by its caller: a failure under gRPC semantics, and neither that nor a success under HTTP
/// semantics, as Envoy counts it.
#[derive(Debug, Default)]
pub(crate) struct Counted(Option<UnderWay>);

#[derive(Debug)]
struct UnderWay {
    load: Arc<LocalityLoad>,
    semantics: Semantics,
    /// The endpoint has said how loaded it is.
    said: bool,
}

/// All that has been counted of a cluster.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Totals {
    pub(crate) localities: BTreeMap<Arc<LocalityId>, Counts>,
    pub(crate) dropped: BTreeMap<Arc<str>, u64>,
    pub(crate) shed: u64,
    /// What endpoints have said since that was last told.
    pub(crate) metrics: BTreeMap<Arc<LocalityId>, Metrics>,
}

/// All that has been counted of a locality.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) issued: u64,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    pub(crate) given_up: u64,
}

// === impl Loads ===

impl Loads {
    /// Has `reporter` report from now on; of several, the first does.
    pub(crate) fn report_by(&self, reporter: Box<dyn Reporter>) {
        // A mesh has one source of configuration at most that takes reports.
        let _ = self.0.reporter.set(reporter);
    }

    /// What to count the calls to `cluster` with, if anybody wants to know.
    pub(crate) fn counting(
        &self,
        semantics: Semantics,
        cluster: &Cluster,
        endpoints: &Endpoints,
    ) -> Option<Counting> {
        let LoadReport {
            server,
            service,
            metrics,
        } = cluster.report_load.as_ref()?;
        let to = server.as_ref()?;
        let key = ClusterKey {
            cluster: Arc::clone(&cluster.name),
            service: Arc::clone(service),
        };
        let (server, load) = {
            let mut servers = self.0.servers.lock();
            let server = servers.entry(Arc::clone(to)).or_insert_with(|| {
                let server = Arc::<ServerLoads>::default();
                if let Some(reporter) = self.0.reporter.get() {
                    reporter.begin(to, &server);
                }
                server
            });
            // Under the lock: what looks unused to [`end`](Self::end) stays so.
            (Arc::clone(server), server.join(key))
        };
        load.wanted.set(metrics);
        server.changed.notify_one();
        let ids = endpoints.localities.iter().map(|locality| &locality.id);
        Some(Counting {
            localities: ids.map(|id| (Arc::clone(id), load.locality(id))).collect(),
            semantics,
            cluster: load,
            server,
        })
    }

    /// Ends the report to a control plane, if there is nothing to tell it any more.
    pub(crate) fn end(&self, server: &ServerConfig, is_over: impl FnOnce() -> bool) -> bool {
        let mut servers = self.0.servers.lock();
        let over = is_over();
        if over {
            servers.remove(server);
        }
        over
    }

    pub(crate) fn downgrade(&self) -> WeakLoads {
        WeakLoads(Arc::downgrade(&self.0))
    }

    /// How many control planes are told.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.servers.lock().len()
    }
}

impl Drop for All {
    fn drop(&mut self) {
        for server in self.servers.get_mut().values() {
            server.changed.notify_one();
        }
    }
}

// === impl WeakLoads ===

impl WeakLoads {
    pub(crate) fn upgrade(&self) -> Option<Loads> {
        self.0.upgrade().map(Loads)
    }
}

// === impl ServerLoads ===

impl ServerLoads {
    fn join(&self, key: ClusterKey) -> Arc<ClusterLoad> {
        let mut clusters = self.clusters.lock();
        let load = clusters
            .entry(key)
            .or_insert_with_key(|key| Arc::new(ClusterLoad::new(key.clone())));
        load.users.fetch_add(1, Ordering::Relaxed);
        Arc::clone(load)
    }

    /// The clusters that count, and those that have counted.
    pub(crate) fn clusters(&self) -> Vec<Arc<ClusterLoad>> {
        self.clusters.lock().values().map(Arc::clone).collect()
    }

    /// Forgets a cluster, if nobody has come to count into it in the meantime.
    pub(crate) fn forget(&self, key: &ClusterKey) -> bool {
        let mut clusters = self.clusters.lock();
        let unused = clusters.get(key).is_none_or(|load| !load.is_used());
        if unused {
            clusters.remove(key);
        }
        unused
    }

    /// Whether nothing counts.
    pub(crate) fn is_unused(&self) -> bool {
        !self.clusters.lock().values().any(|load| load.is_used())
    }
}

// === impl ClusterLoad ===

impl ClusterLoad {
    fn new(key: ClusterKey) -> Self {
        Self {
            key,
            since: Instant::now(),
            wanted: Arc::default(),
            users: AtomicUsize::new(0),
            localities: Mutex::default(),
            dropped: Mutex::default(),
            shed: AtomicU64::new(0),
        }
    }

    /// Whether a snapshot counts into it.
    pub(crate) fn is_used(&self) -> bool {
        // With the drop of the last: what it has counted is seen.
        self.users.load(Ordering::Acquire) > 0
    }

    fn locality(&self, id: &Arc<LocalityId>) -> Arc<LocalityLoad> {
        let mut localities = self.localities.lock();
        let load = localities.entry(Arc::clone(id));
        Arc::clone(load.or_insert_with(|| Arc::new(LocalityLoad::new(&self.wanted))))
    }

    /// All that has been counted.
    pub(crate) fn totals(&self) -> Totals {
        // Not under the lock: new snapshots wait for it.
        let localities: Vec<_> = {
            let localities = self.localities.lock();
            let localities = localities.iter();
            localities
                .map(|(id, load)| (Arc::clone(id), Arc::clone(load)))
                .collect()
        };
        let metrics = localities.iter().filter_map(|(id, load)| {
            let metrics = load.metrics.lock();
            (!metrics.is_empty()).then(|| (Arc::clone(id), metrics.clone()))
        });
        let counts = localities.iter();
        Totals {
            metrics: metrics.collect(),
            localities: counts
                .map(|(id, load)| (Arc::clone(id), load.counts()))
                .collect(),
            dropped: self.dropped.lock().clone(),
            shed: self.shed.load(Ordering::Relaxed),
        }
    }

    /// This of what its endpoints have said is told.
    pub(crate) fn told(&self, metrics: &BTreeMap<Arc<LocalityId>, Metrics>) {
        let localities = self.localities.lock();
        for (id, told) in metrics {
            if let Some(load) = localities.get(id) {
                load.metrics.lock().subtract(told);
            }
        }
    }

    /// Forgets the localities that nobody counts into any more, and of which `told` says that all
    /// is reported.
    pub(crate) fn prune(&self, mut told: impl FnMut(&LocalityId, Counts) -> bool) {
        self.localities.lock().retain(|id, load| {
            // If no call under way holds it, and no snapshot does, nobody is left to count.
            Arc::get_mut(load)
                .is_none_or(|load| !load.metrics.get_mut().is_empty() || !told(id, load.counts()))
        });
    }
}

// === impl LocalityLoad ===

impl LocalityLoad {
    fn new(wanted: &Arc<Wanted>) -> Self {
        Self {
            issued: AtomicU64::new(0),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            wanted: Arc::clone(wanted),
            metrics: Mutex::default(),
        }
    }

    fn counts(&self) -> Counts {
        // What has ended first: it never looks as if more had ended than begun.
        let succeeded = self.succeeded.load(Ordering::Acquire);
        let failed = self.failed.load(Ordering::Acquire);
        let given_up = self.given_up.load(Ordering::Acquire);
        Counts {
            issued: self.issued.load(Ordering::Relaxed),
            succeeded,
            failed,
            given_up,
        }
    }
}

// === impl Counting ===

impl Counting {
    /// A call is on its way to an endpoint there.
    #[inline]
    pub(super) fn begin(&self, id: &Arc<LocalityId>) -> Counted {
        let load = match self.localities.get(id) {
            Some(load) => Arc::clone(load),
            // Another snapshot governs, and has other places.
            None => self.cluster.locality(id),
        };
        load.issued.fetch_add(1, Ordering::Relaxed);
        Counted(Some(UnderWay {
            load,
            semantics: self.semantics,
            said: false,
        }))
    }

    /// A call was dropped on the control plane's order.
    pub(super) fn dropped(&self, category: &Arc<str>) {
        let mut dropped = self.cluster.dropped.lock();
        // A control plane that thinks up new ones with every push costs no memory without end.
        let is_known = dropped.len() < MOST_CATEGORIES || dropped.contains_key(category);
        let category = match is_known {
            true => Arc::clone(category),
            false => OTHERS.into(),
        };
        *dropped.entry(category).or_default() += 1;
    }

    /// A call was not admitted by the circuit breaker.
    pub(super) fn shed(&self) {
        self.cluster.shed.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        if self.cluster.users.fetch_sub(1, Ordering::Release) == 1 {
            self.server.changed.notify_one();
        }
    }
}

// === impl Counted ===

impl Counted {
    /// What its endpoint says of its load, if it does in these headers or trailers of its response. Only
    /// the first of them counts.
    #[inline]
    pub(crate) fn said(&mut self, headers: &HeaderMap) {
        if let Some(call) = &mut self.0
            && !call.said
        {
            let load = &call.load;
            call.said = load.wanted.note(call.semantics, headers, &load.metrics);
        }
    }

    /// It ended. Later ends are not counted.
    #[inline]
    pub(crate) fn end(&mut self, well: bool) {
        if let Some(UnderWay { load, .. }) = self.0.take() {
            let count = if well { &load.succeeded } else { &load.failed };
            count.fetch_add(1, Ordering::Release);
        }
    }
}

impl Drop for Counted {
    #[inline]
    fn drop(&mut self) {
        if let Some(UnderWay {
            load, semantics, ..
        }) = self.0.take()
        {
            let count = match semantics {
                Semantics::Grpc => &load.failed,
                Semantics::Http => &load.given_up,
            };
            count.fetch_add(1, Ordering::Release);
        }
    }
}

// === impl Counts ===

impl Counts {
    /// Calls that have not ended.
    pub(crate) fn in_progress(self) -> u64 {
        self.issued
            .saturating_sub(self.succeeded)
            .saturating_sub(self.failed)
            .saturating_sub(self.given_up)
    }

    /// What has been counted since these were `before`.
    pub(crate) fn since(self, before: Counts) -> Counts {
        Counts {
            issued: self.issued.saturating_sub(before.issued),
            succeeded: self.succeeded.saturating_sub(before.succeeded),
            failed: self.failed.saturating_sub(before.failed),
            given_up: self.given_up.saturating_sub(before.given_up),
        }
    }
}

#[cfg(test)]
pub(super) mod fixture;
#[cfg(test)]
mod tests;
