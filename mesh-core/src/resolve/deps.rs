mod news;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use self::news::News;
use super::{
    LookedUp,
    endpoints_of::endpoints_of,
    slots::{Join, Missing, Slots},
    tree::{Tree, leaves},
};
use crate::{
    Semantics,
    config::{
        Cluster, Discovery, Endpoints, Kind, Listener, Lookup, Resource, ResourceId, RouteAction,
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
    semantics: Semantics,
    slots: Slots,
    /// The names of clusters to be looked up, and what they were; `None`: not yet.
    names: BTreeMap<Lookup, Option<LookedUp>>,
    /// The last complete configuration. Its routes stay in force until others are complete, or
    /// until the listener or the routes are taken away.
    last: Option<Arc<TargetConfig>>,
    news: News,
}

/// Everything a target's calls depend on, from one moment.
#[derive(Debug, Clone)]
pub struct TargetConfig {
    /// How its calls are carried.
    pub listener: Arc<Listener>,
    /// Its routes.
    pub routes: Arc<RouteConfig>,
    /// The virtual host that answers to the target's authority: index into `routes`.
    pub virtual_host: usize,
    /// Every cluster that the virtual host's routes name, and in place of an aggregate one those that
    /// stand in for it. Those that failed fail their own calls only.
    pub clusters: BTreeMap<Arc<str>, Result<ClusterConfig, SourceError>>,
    /// Every aggregate cluster that the routes name. One without any cluster that can be had fails
    /// its own calls only.
    pub aggregates: BTreeMap<Arc<str>, Result<AggregateConfig, SourceError>>,
    /// Trouble with the listener or the routes that leaves the above in force.
    pub ambient: Option<SourceError>,
}

/// A cluster and its endpoints.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// Its endpoints; none if they could not be had.
    pub endpoints: Arc<Endpoints>,
    /// Why the endpoints are missing or old; part of the error of calls that find none (gRFC A74).
    pub note: Option<SourceError>,
}

/// What stands in for an aggregate cluster (gRFC A37).
#[derive(Debug, Clone, PartialEq)]
pub struct AggregateConfig {
    /// Clusters in the order of preference, each once, none of which is an aggregate. All are in
    /// [`TargetConfig::clusters`].
    pub leaves: Arc<[Arc<str>]>,
    /// Why the first of those that cannot be had, and are left out (gRFC A74), is missing.
    pub note: Option<SourceError>,
}

/// What clusters of this name come to.
type Gathered = (
    BTreeMap<Arc<str>, Result<ClusterConfig, SourceError>>,
    BTreeMap<Arc<str>, Result<AggregateConfig, SourceError>>,
);

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
            semantics: Semantics::Grpc,
            slots: Slots::new(first),
            names: BTreeMap::new(),
            last: None,
            news: News::default(),
        }
    }

    /// Under these semantics; gRPC by default.
    #[must_use]
    pub fn under(mut self, semantics: Semantics) -> Self {
        self.semantics = semantics;
        self
    }

    /// Takes news of a resource. News of one that is not wanted is ignored: it was under way when
    /// the watch ended.
    pub fn handle(&mut self, id: &ResourceId, event: Event) {
        // Taken away, not merely never there: what rests on it must not outlive it.
        let rests = matches!(id.kind, Kind::Listener | Kind::Route);
        if self.slots.has(id) {
            self.news.add(id);
        }
        if self.slots.handle(id, event, self.last.is_some()) && rests {
            self.last = None;
            self.slots.release();
        }
    }

    /// Takes what a name was looked up as. That of one that is not wanted is ignored.
    pub fn answered(&mut self, lookup: &Lookup, answer: LookedUp) {
        if let Some(name) = self.names.get_mut(lookup) {
            *name = Some(answer);
            self.news = News::Any;
        }
    }

    /// Draws the conclusion from all news so far: what is [`wanted`](Self::wanted) changes, and
    /// what is returned is what calls are to follow. `None` until there is anything to say.
    ///
    /// # Errors
    /// If the listener or the routes cannot be had and nothing earlier is in force.
    pub fn settle(&mut self) -> Option<Result<Arc<TargetConfig>, SourceError>> {
        if let Some(config) = self.settle_endpoints() {
            return Some(Ok(config));
        }
        self.reshape();
        let (config, is_whole) = match (self.join(), &self.last) {
            (Ok(config), _) => (config, true),
            (Err(Missing::Pending(_)), None) => return None,
            (Err(Missing::Failed(error)), None) => return Some(Err(error)),
            (Err(Missing::Pending(why)), Some(last)) => {
                let trouble = match self.routes() {
                    Ok((_, trouble)) => why.or(trouble),
                    Err(_) => last.ambient.clone(),
                };
                (self.refresh(last, trouble), false)
            }
            (Err(Missing::Failed(error)), Some(last)) => (self.refresh(last, Some(error)), false),
        };
        let config = match self.last.take() {
            Some(last) if *last == config => last,
            _ => Arc::new(config),
        };
        self.last = Some(Arc::clone(&config));
        self.reshape();
        self.news = match is_whole {
            true => News::default(),
            false => News::Any,
        };
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

    /// The names to be looked up now.
    pub fn lookups(&self) -> impl Iterator<Item = &Lookup> {
        self.names.keys()
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
        let mut roots: BTreeSet<&Arc<str>> = new
            .as_deref()
            .and_then(|routes| Some((routes, self.virtual_host(routes)?)))
            .into_iter()
            .flat_map(|(routes, host)| clusters_of(routes, host))
            .collect();
        // Until what is new is complete, what the old rests on stays watched and current.
        if let Some(last) = &self.last {
            roots.extend(last.clusters.keys());
            roots.extend(last.aggregates.keys());
        }
        let mut lookups = BTreeSet::new();
        for name in self.reachable(roots) {
            wanted.insert(ResourceId::new(Kind::Cluster, name.clone()));
            match self.known_cluster(&name).map(|cluster| &cluster.discovery) {
                Some(Discovery::Eds(name)) => {
                    wanted.insert(ResourceId::new(Kind::Endpoints, name.clone()));
                }
                Some(Discovery::Dns(dns)) => lookups.extend(dns.lookups()),
                Some(Discovery::Static(_) | Discovery::Aggregate(_)) | None => {}
            }
        }
        self.slots.reshape(wanted);
        self.names.retain(|lookup, _| lookups.contains(lookup));
        for lookup in lookups {
            self.names.entry(lookup).or_insert(None);
        }
    }

    /// These clusters, and all that aggregates among them lead to as far as that is known.
    fn reachable(&self, roots: BTreeSet<&Arc<str>>) -> BTreeSet<Arc<str>> {
        let mut reached: BTreeSet<Arc<str>> = roots.into_iter().cloned().collect();
        let mut next: Vec<_> = reached.iter().cloned().collect();
        while let Some(name) = next.pop() {
            if let Some(cluster) = self.known_cluster(&name)
                && let Discovery::Aggregate(names) = &cluster.discovery
            {
                let new = names.iter().filter(|name| reached.insert(Arc::clone(name)));
                next.extend(new.cloned());
            }
        }
        reached
    }

    fn known_cluster(&self, name: &Arc<str>) -> Option<&Arc<Cluster>> {
        match self.slots.known(Kind::Cluster, name) {
            Some(Resource::Cluster(cluster)) => Some(cluster),
            _ => None,
        }
    }

    /// The virtual host of `routes` that answers to the target's authority.
    fn virtual_host(&self, routes: &RouteConfig) -> Option<usize> {
        let authority = match (
            self.semantics,
            self.slots.known(Kind::Listener, &self.listener),
        ) {
            (Semantics::Http, Some(Resource::Listener(listener))) => {
                listener.http.strip_port.strip(&self.authority, None)
            }
            _ => &self.authority,
        };
        route::virtual_host(self.semantics, routes, authority)
    }

    /// The configuration that the listener asks for now, if all of it is there.
    fn join(&self) -> Result<TargetConfig, Missing> {
        let (listener, _) = self.listener()?;
        let (routes, ambient) = self.routes()?;
        let virtual_host = self.virtual_host(&routes).ok_or_else(|| {
            let text = format!(
                "route configuration {:?} has no virtual host for {:?}",
                routes.name, self.authority
            );
            Missing::Failed(SourceError {
                kind: SourceErrorKind::DoesNotExist,
                text: text.into(),
            })
        })?;
        let (clusters, aggregates) = self.gather(clusters_of(&routes, virtual_host), None)?;
        let listener = Arc::clone(listener);
        Ok(TargetConfig {
            listener,
            routes,
            virtual_host,
            clusters,
            aggregates,
            ambient,
        })
    }

    /// The routes of `last` with the clusters and endpoints of now.
    fn refresh(&self, last: &TargetConfig, ambient: Option<SourceError>) -> TargetConfig {
        let (clusters, aggregates) = self
            .gather(clusters_of(&last.routes, last.virtual_host), Some(last))
            // With something to fall back on nothing is pending.
            .unwrap_or_else(|_| (last.clusters.clone(), last.aggregates.clone()));
        TargetConfig {
            clusters,
            aggregates,
            ambient,
            ..last.clone()
        }
    }

    /// What the clusters of these names come to; with `last`, what is not known yet is as it was.
    fn gather<'a>(
        &self,
        names: impl Iterator<Item = &'a Arc<str>>,
        last: Option<&TargetConfig>,
    ) -> Result<Gathered, Missing> {
        let (mut clusters, mut aggregates): Gathered = Default::default();
        for name in names {
            if clusters.contains_key(name) || aggregates.contains_key(name) {
                continue;
            }
            let is_aggregate = self
                .known_cluster(name)
                .is_some_and(|cluster| matches!(cluster.discovery, Discovery::Aggregate(_)));
            let gathered = match is_aggregate {
                true => self.aggregate(name, &mut clusters),
                false => self.cluster(name).map(|cluster| {
                    clusters.insert(Arc::clone(name), Ok(cluster));
                    None
                }),
            };
            match (gathered, last) {
                (Ok(None), _) => {}
                (Ok(Some(aggregate)), _) => {
                    aggregates.insert(Arc::clone(name), Ok(aggregate));
                }
                (Err(Missing::Failed(error)), _) if is_aggregate => {
                    aggregates.insert(Arc::clone(name), Err(error));
                }
                (Err(Missing::Failed(error)), _) => {
                    clusters.insert(Arc::clone(name), Err(error));
                }
                (Err(pending), None) => return Err(pending),
                (Err(Missing::Pending(_)), Some(last)) => {
                    let mut keep = |name: &Arc<str>| {
                        if let Some(then) = last.clusters.get(name) {
                            let now = self.cluster(name).ok().map(Ok);
                            let now = now.unwrap_or_else(|| then.clone());
                            clusters.entry(Arc::clone(name)).or_insert(now);
                        }
                    };
                    match last.aggregates.get(name) {
                        Some(then) => {
                            let leaves = then.iter().flat_map(|then| &*then.leaves);
                            leaves.for_each(keep);
                            aggregates.insert(Arc::clone(name), then.clone());
                        }
                        None => keep(name),
                    }
                }
            }
        }
        Ok((clusters, aggregates))
    }

    /// What stands in for an aggregate cluster; its leaves go to `clusters`.
    fn aggregate(
        &self,
        name: &Arc<str>,
        clusters: &mut BTreeMap<Arc<str>, Result<ClusterConfig, SourceError>>,
    ) -> Result<Option<AggregateConfig>, Missing> {
        let Tree { leaves, mut note } =
            leaves(name, |name| match self.slots.need(Kind::Cluster, name)? {
                (Resource::Cluster(cluster), _) => Ok(cluster),
                _ => Err(Missing::Pending(None)),
            })?;
        // Only what is complete goes into `clusters`.
        let mut found = Vec::with_capacity(leaves.len());
        for leaf in leaves {
            match self.cluster(&leaf) {
                Ok(cluster) => found.push((leaf, cluster)),
                Err(Missing::Failed(error)) => note = note.or(Some(error)),
                Err(pending) => return Err(pending),
            }
        }
        if found.is_empty() {
            let why = note.map_or(String::new(), |note| format!(": {note}"));
            return Err(Missing::Failed(SourceError {
                kind: SourceErrorKind::DoesNotExist,
                text: format!("aggregate cluster {name:?} has no leaf cluster{why}").into(),
            }));
        }
        let leaves = found.iter().map(|(leaf, _)| Arc::clone(leaf)).collect();
        for (leaf, cluster) in found {
            clusters.insert(leaf, Ok(cluster));
        }
        Ok(Some(AggregateConfig { leaves, note }))
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
            _ => Err(Missing::Pending(None)),
        }
    }

    /// The route configuration that the listener asks for, and what troubles either of them.
    fn routes(&self) -> Result<(Arc<RouteConfig>, Option<SourceError>), Missing> {
        let (listener, trouble) = self.listener()?;
        let (routes, own) = match &listener.http.routes {
            RouteSource::Inline(routes) => (routes, None),
            RouteSource::Named(name) => match self.slots.need(Kind::Route, name)? {
                (Resource::Route(routes), own) => (routes, own),
                _ => return Err(Missing::Pending(None)),
            },
        };
        Ok((Arc::clone(routes), trouble.or(own).cloned()))
    }

    fn cluster(&self, name: &Arc<str>) -> Result<ClusterConfig, Missing> {
        let (cluster, ambient) = match self.slots.need(Kind::Cluster, name)? {
            (Resource::Cluster(cluster), ambient) => (Arc::clone(cluster), ambient.cloned()),
            _ => return Err(Missing::Pending(None)),
        };
        let (endpoints, note) = match &cluster.discovery {
            Discovery::Eds(name) => self.endpoints(name)?,
            Discovery::Static(endpoints) => (Arc::clone(endpoints), None),
            Discovery::Dns(dns) => {
                let answer = |lookup: &Lookup| self.names.get(lookup)?.as_ref();
                let (endpoints, note) = endpoints_of(dns, answer).ok_or(Missing::Pending(None))?;
                (Arc::new(endpoints), note)
            }
            // Those who ask have looked.
            Discovery::Aggregate(_) => return Err(Missing::Pending(None)),
        };
        Ok(ClusterConfig {
            cluster,
            endpoints,
            note: note.or(ambient),
        })
    }

    /// The endpoints of an EDS resource; none if they cannot be had.
    fn endpoints(&self, name: &Arc<str>) -> Result<(Arc<Endpoints>, Option<SourceError>), Missing> {
        match self.slots.need(Kind::Endpoints, name) {
            Ok((Resource::Endpoints(endpoints), note)) => {
                Ok((Arc::clone(endpoints), note.cloned()))
            }
            Ok(_) => Err(Missing::Pending(None)),
            Err(Missing::Failed(error)) => {
                Ok((Arc::new(Endpoints::none(Arc::clone(name))), Some(error)))
            }
            Err(pending) => Err(pending),
        }
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

    fn lookups(&self) -> impl Iterator<Item = &Lookup> {
        self.lookups()
    }

    fn looks_up(&self, lookup: &Lookup) -> bool {
        self.names.contains_key(lookup)
    }

    fn answered(&mut self, lookup: &Lookup, answer: LookedUp) {
        self.answered(lookup, answer);
    }
}

/// The clusters that a virtual host's routes name, repeated as they are.
pub(super) fn clusters_of(routes: &RouteConfig, host: usize) -> impl Iterator<Item = &Arc<str>> {
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
