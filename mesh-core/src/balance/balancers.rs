use std::sync::Arc;

use super::{Aggregate, ClusterSnapshot, LeafConfig, Loads, live::Live, tls_ids::TlsIds};
use crate::{
    Semantics,
    config::{Cluster, Endpoints},
    resilience::BreakerSet,
    runtime::Transport,
    weak_map::WeakMap,
};

/// The live clusters of one mesh, shared by all its targets. Cheap to clone.
///
/// A cluster lives as long as somebody holds a [`ClusterSnapshot`] of it; then its endpoints are
/// retired and its timers end.
#[derive(Debug)]
pub struct Balancers<T: Transport>(pub(super) Arc<Registry<T>>);

#[derive(Debug)]
pub(super) struct Registry<T: Transport> {
    transport: Arc<T>,
    breakers: BreakerSet,
    loads: Loads,
    pub(super) tls: TlsIds,
    pub(super) clusters: WeakMap<(Semantics, Arc<str>), Live<T>>,
    pub(super) aggregates: WeakMap<(Semantics, Arc<str>), Aggregate<T>>,
}

impl<T: Transport> Balancers<T> {
    /// Without any cluster, and without load reports.
    pub fn new(transport: Arc<T>) -> Self {
        Self::counting(transport, Loads::default())
    }

    /// Without any cluster. Calls to those whose load is reported are counted in `loads`.
    pub fn counting(transport: Arc<T>, loads: Loads) -> Self {
        Self(Arc::new(Registry {
            transport,
            breakers: BreakerSet::new(),
            loads,
            tls: TlsIds::default(),
            clusters: WeakMap::new(),
            aggregates: WeakMap::new(),
        }))
    }

    /// The cluster of this name, brought to this configuration.
    ///
    /// What gRPC and what HTTP semantics make of a cluster are two: they choose endpoints and
    /// protocols differently, and have connections of their own. Its circuit breaker is one.
    ///
    /// An equal configuration is answered with the same snapshot. Another one governs all
    /// snapshots of the cluster from now on; endpoints that it does not touch, with their
    /// connections and loads, and the state of the failover live on. An endpoint is another one
    /// if its address, locality, host name, TLS or connection settings change. One that is
    /// missing takes no new call from now on and is retired a second later, unless it is back by
    /// then.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn cluster(
        &self,
        semantics: Semantics,
        cluster: &Arc<Cluster>,
        endpoints: &Arc<Endpoints>,
    ) -> Arc<ClusterSnapshot<T>> {
        let registry = &self.0;
        let live =
            registry
                .clusters
                .get_or_insert_with((semantics, Arc::clone(&cluster.name)), || {
                    Live::new(
                        semantics,
                        Arc::clone(&cluster.name),
                        Arc::clone(&registry.transport),
                        Arc::downgrade(registry),
                    )
                });
        live.update(cluster, endpoints, |version| {
            let limits = &cluster.breakers;
            let breaker = registry
                .breakers
                .get(&cluster.name, &endpoints.name, limits);
            let counting = registry.loads.counting(semantics, cluster, endpoints);
            let live = Arc::clone(&live);
            ClusterSnapshot::new(cluster, endpoints, breaker, counting, version, live)
        })
    }

    /// The aggregate cluster of this name, with these clusters to stand in for it, the preferred
    /// first. They govern whatever else holds it from now on; what they do not touch lives on.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn aggregate(
        &self,
        semantics: Semantics,
        name: &Arc<str>,
        leaves: Vec<LeafConfig>,
    ) -> Arc<Aggregate<T>> {
        let registry = &self.0;
        let aggregate = registry
            .aggregates
            .get_or_insert_with((semantics, Arc::clone(name)), || {
                Aggregate::new(semantics, Arc::clone(name), Arc::downgrade(registry))
            });
        aggregate.update(leaves);
        aggregate
    }

    /// How many clusters are in use.
    pub fn len(&self) -> usize {
        self.0.clusters.len()
    }

    /// Whether none is in use.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: Transport> Clone for Balancers<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
