use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::slots::{Join, Missing, Slots};
use crate::{
    config::{
        Cluster, Discovery, Endpoints, Kind, Listener, Resource, ResourceId, RouteAction,
        RouteConfig, RouteSource,
    },
    control::{Event, SourceError, SourceErrorKind},
    route,
};

/// Joins the resources of one target: what to watch, and what they say together (gRFC A74).
///
/// Pure logic: feed it events with [`handle`](Self::handle), then [`settle`](Self::settle).
#[derive(Debug)]
pub struct Dependencies {
    listener: Arc<str>,
    authority: Arc<str>,
    slots: Slots,
    /// The last complete configuration. Its routes stay in force until others are complete, or
    /// until the listener or the routes are taken away.
    last: Option<Arc<TargetConfig>>,
}

/// Everything a target's calls depend on, from one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetConfig {
    /// How its calls are carried.
    pub listener: Arc<Listener>,
    /// Its routes.
    pub routes: Arc<RouteConfig>,
    /// The virtual host that answers to the target's authority: index into `routes`.
    pub virtual_host: usize,
    /// Every cluster that the virtual host's routes name. Those that failed fail their own calls
    /// only.
    pub clusters: BTreeMap<Arc<str>, Result<ClusterConfig, SourceError>>,
    /// Trouble with the listener or the routes that leaves the above in force.
    pub ambient: Option<SourceError>,
}

/// A cluster and its endpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterConfig {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// Its endpoints; none if they could not be had.
    pub endpoints: Arc<Endpoints>,
    /// Why the endpoints are missing or old; part of the error of calls that find none (gRFC A74).
    pub note: Option<SourceError>,
}

// === impl Dependencies ===

impl Dependencies {
    /// The dependencies of the target whose listener is called `listener`, and whose requests
    /// carry `authority`.
    pub fn new(listener: impl Into<Arc<str>>, authority: impl Into<Arc<str>>) -> Self {
        let listener = listener.into();
        let first = ResourceId::new(Kind::Listener, Arc::clone(&listener));
        Self {
            listener,
            authority: authority.into(),
            slots: Slots::new(first),
            last: None,
        }
    }

    /// Takes news of a resource. News of one that is not wanted is ignored: it was under way when
    /// the watch ended.
    pub fn handle(&mut self, id: &ResourceId, event: Event) {
        // Taken away, not merely never there: what rests on it must not outlive it.
        let rests = matches!(id.kind, Kind::Listener | Kind::Route);
        if self.slots.handle(id, event) && rests {
            self.last = None;
        }
    }

    /// Draws the conclusion from all news so far: what is [`wanted`](Self::wanted) changes, and
    /// what is returned is what calls are to follow. `None` until there is anything to say.
    ///
    /// # Errors
    /// If the listener or the routes cannot be had and nothing earlier is in force.
    pub fn settle(&mut self) -> Option<Result<Arc<TargetConfig>, SourceError>> {
        self.reshape();
        let config = match (self.join(), &self.last) {
            (Ok(config), _) => config,
            (Err(Missing::Pending), None) => return None,
            (Err(Missing::Failed(error)), None) => return Some(Err(error)),
            (Err(Missing::Pending), Some(last)) => self.refresh(last, last.ambient.clone()),
            (Err(Missing::Failed(error)), Some(last)) => self.refresh(last, Some(error)),
        };
        let config = match self.last.take() {
            Some(last) if *last == config => last,
            _ => Arc::new(config),
        };
        self.last = Some(Arc::clone(&config));
        self.reshape();
        Some(Ok(config))
    }

    /// The resources to be watched now.
    pub fn wanted(&self) -> impl Iterator<Item = &ResourceId> {
        self.slots.ids()
    }

    /// Whether `id` is to be watched.
    pub fn wants(&self, id: &ResourceId) -> bool {
        self.slots.has(id)
    }

    /// Brings the set of slots in line with what is in force and what is to come into force.
    fn reshape(&mut self) {
        let mut wanted = BTreeSet::from([ResourceId::new(Kind::Listener, self.listener.clone())]);
        if let Some(Resource::Listener(listener)) = self.slots.known(Kind::Listener, &self.listener)
            && let RouteSource::Named(name) = &listener.http.routes
        {
            wanted.insert(ResourceId::new(Kind::Route, name.clone()));
        }
        let new = self.routes().ok().map(|(routes, _)| routes);
        let mut clusters: BTreeSet<&Arc<str>> = new
            .as_deref()
            .and_then(|routes| Some((routes, route::virtual_host(routes, &self.authority)?)))
            .into_iter()
            .flat_map(|(routes, host)| clusters_of(routes, host))
            .collect();
        // Until new routes are complete, what the old ones rest on stays watched and current.
        if let Some(last) = &self.last
            && new
                .as_ref()
                .is_none_or(|new| !Arc::ptr_eq(new, &last.routes))
        {
            clusters.extend(last.clusters.keys());
        }
        for name in clusters {
            wanted.insert(ResourceId::new(Kind::Cluster, name.clone()));
            if let Some(Resource::Cluster(cluster)) = self.slots.known(Kind::Cluster, name) {
                let Discovery::Eds(name) = &cluster.discovery;
                wanted.insert(ResourceId::new(Kind::Endpoints, name.clone()));
            }
        }
        self.slots.reshape(wanted);
    }

    /// The configuration that the listener asks for now, if all of it is there.
    fn join(&self) -> Result<TargetConfig, Missing> {
        let (listener, _) = self.listener()?;
        let (routes, ambient) = self.routes()?;
        let virtual_host = route::virtual_host(&routes, &self.authority).ok_or_else(|| {
            let text = format!(
                "route configuration {:?} has no virtual host for {:?}",
                routes.name, self.authority
            );
            Missing::Failed(SourceError {
                kind: SourceErrorKind::DoesNotExist,
                text: text.into(),
            })
        })?;
        let mut clusters = BTreeMap::new();
        for name in clusters_of(&routes, virtual_host) {
            if clusters.contains_key(name) {
                continue;
            }
            let cluster = match self.cluster(name) {
                Ok(cluster) => Ok(cluster),
                Err(Missing::Failed(error)) => Err(error),
                Err(Missing::Pending) => return Err(Missing::Pending),
            };
            clusters.insert(Arc::clone(name), cluster);
        }
        let listener = Arc::clone(listener);
        Ok(TargetConfig {
            listener,
            routes,
            virtual_host,
            clusters,
            ambient,
        })
    }

    /// The routes of `last` with the clusters and endpoints of now.
    fn refresh(&self, last: &TargetConfig, ambient: Option<SourceError>) -> TargetConfig {
        let clusters = last.clusters.iter().map(|(name, then)| {
            let now = match self.cluster(name) {
                Ok(cluster) => Ok(cluster),
                Err(Missing::Failed(error)) => Err(error),
                Err(Missing::Pending) => then.clone(),
            };
            (Arc::clone(name), now)
        });
        TargetConfig {
            clusters: clusters.collect(),
            ambient,
            ..last.clone()
        }
    }

    fn listener(&self) -> Result<(&Arc<Listener>, Option<&SourceError>), Missing> {
        match self.slots.need(Kind::Listener, &self.listener)? {
            (Resource::Listener(listener), trouble) => Ok((listener, trouble)),
            (Resource::ServerListener(_), _) => Err(Missing::Failed(SourceError {
                kind: SourceErrorKind::Invalid,
                text: format!(
                    "listener {:?} is for a server's socket: calls need one with an api_listener \
                     (istiod sends API listeners to nodes with the metadata GENERATOR=grpc)",
                    self.listener
                )
                .into(),
            })),
            _ => Err(Missing::Pending),
        }
    }

    /// The route configuration that the listener asks for, and what troubles either of them.
    fn routes(&self) -> Result<(Arc<RouteConfig>, Option<SourceError>), Missing> {
        let (listener, trouble) = self.listener()?;
        let (routes, own) = match &listener.http.routes {
            RouteSource::Inline(routes) => (routes, None),
            RouteSource::Named(name) => match self.slots.need(Kind::Route, name)? {
                (Resource::Route(routes), own) => (routes, own),
                _ => return Err(Missing::Pending),
            },
        };
        Ok((Arc::clone(routes), trouble.or(own).cloned()))
    }

    fn cluster(&self, name: &Arc<str>) -> Result<ClusterConfig, Missing> {
        let (cluster, ambient) = match self.slots.need(Kind::Cluster, name)? {
            (Resource::Cluster(cluster), ambient) => (Arc::clone(cluster), ambient.cloned()),
            _ => return Err(Missing::Pending),
        };
        let Discovery::Eds(eds) = &cluster.discovery;
        let (endpoints, note) = match self.slots.need(Kind::Endpoints, eds) {
            Ok((Resource::Endpoints(endpoints), note)) => (Arc::clone(endpoints), note.cloned()),
            Ok(_) | Err(Missing::Pending) => return Err(Missing::Pending),
            Err(Missing::Failed(error)) => {
                let none = Endpoints {
                    name: eds.clone(),
                    localities: vec![],
                    drops: vec![],
                    overprovisioning_factor: Endpoints::DEFAULT_OVERPROVISIONING_FACTOR,
                };
                (Arc::new(none), Some(error))
            }
        };
        Ok(ClusterConfig {
            cluster,
            endpoints,
            note: note.or(ambient),
        })
    }
}

impl Join for Dependencies {
    type Outcome = Result<Arc<TargetConfig>, SourceError>;

    fn handle(&mut self, id: &ResourceId, event: Event) {
        self.handle(id, event);
    }

    fn settle(&mut self) -> Option<Self::Outcome> {
        self.settle()
    }

    fn slots(&self) -> &Slots {
        &self.slots
    }
}

/// The clusters that a virtual host's routes name, repeated as they are.
fn clusters_of(routes: &RouteConfig, host: usize) -> impl Iterator<Item = &Arc<str>> {
    routes.virtual_hosts[host]
        .routes
        .iter()
        .flat_map(|route| match &route.action {
            RouteAction::Forward(forward) => &forward.clusters[..],
            RouteAction::NonForwarding
            | RouteAction::Redirect(_)
            | RouteAction::DirectResponse(_)
            | RouteAction::Unsupported(_) => &[],
        })
        .map(|cluster| &cluster.name)
}

#[cfg(test)]
mod tests;
