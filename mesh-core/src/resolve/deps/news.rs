//! What has changed since a configuration was complete: where that is endpoints alone, as it is most
//! often, the rest is taken over as it is, so that a change of one endpoint does not cost a look at
//! each of ten thousand clusters.

use std::{collections::BTreeSet, sync::Arc};

use super::{ClusterConfig, Dependencies, TargetConfig};
use crate::config::{Discovery, Kind, ResourceId};

/// What has changed.
#[derive(Debug)]
pub(super) enum News {
    /// Endpoints of these names, or nothing, since the last configuration, which lacked nothing.
    Endpoints(BTreeSet<Arc<str>>),
    /// Whatever it may be.
    Any,
}

// === impl News ===

impl News {
    /// Takes note of news of a resource.
    pub(super) fn add(&mut self, id: &ResourceId) {
        match self {
            Self::Endpoints(names) if id.kind == Kind::Endpoints => {
                names.insert(Arc::clone(&id.name));
            }
            _ => *self = Self::Any,
        }
    }
}

/// Nothing is known yet.
impl Default for News {
    fn default() -> Self {
        Self::Endpoints(BTreeSet::new())
    }
}

// === impl Dependencies ===

impl Dependencies {
    /// The last configuration with the endpoints of now, if nothing else has changed: what is wanted
    /// stays the same then, and nothing can have become incomplete.
    pub(super) fn settle_endpoints(&mut self) -> Option<Arc<TargetConfig>> {
        let (News::Endpoints(names), Some(last)) = (&self.news, &self.last) else {
            return None;
        };
        let mut changed = Vec::new();
        for (name, old) in &last.clusters {
            if let Ok(old) = old
                && let Discovery::Eds(endpoints) = &old.cluster.discovery
                && names.contains(endpoints)
            {
                let new = self.cluster(name).ok()?;
                if new != *old {
                    changed.push((Arc::clone(name), new));
                }
            }
        }
        self.news = News::default();
        if changed.is_empty() {
            return self.last.clone();
        }
        let mut config = TargetConfig::clone(last);
        for (name, new) in changed {
            config.clusters.insert(name, Ok(new));
        }
        let config = Arc::new(config);
        self.last = Some(Arc::clone(&config));
        Some(config)
    }
}

// === impl TargetConfig, ClusterConfig ===

/// Parts that are the very same are not looked into.
impl PartialEq for TargetConfig {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            listener,
            routes,
            virtual_host,
            clusters,
            aggregates,
            ambient,
        } = self;
        same(listener, &other.listener)
            && same(routes, &other.routes)
            && *virtual_host == other.virtual_host
            && *clusters == other.clusters
            && *aggregates == other.aggregates
            && *ambient == other.ambient
    }
}

/// Parts that are the very same are not looked into.
impl PartialEq for ClusterConfig {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            cluster,
            endpoints,
            note,
        } = self;
        same(cluster, &other.cluster) && same(endpoints, &other.endpoints) && *note == other.note
    }
}

fn same<T: PartialEq>(a: &Arc<T>, b: &Arc<T>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}
