use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use http::{HeaderValue, StatusCode, Version};

use super::{
    ClusterConfig, TargetConfig, TargetSpec,
    answer::{self, Answer, AnsweringRoute},
    deps::clusters_of,
};
use crate::{
    Code, Context, Semantics,
    balance::{Aggregate, Balancers, ClusterSnapshot, ClusterStatus, Leaf, LeafConfig},
    config::{
        FilterOverrides, Forward, HttpFilter, RetryPolicy, Route, RouteAction, Service, StripPort,
        VirtualHost,
    },
    control::{SourceError, SourceErrorKind},
    filter::Filter,
    resilience::{call_limit, format_grpc_timeout},
    rewrite::{HttpRoute, RequestCx, RoutePlace},
    route::{ClusterChoice, Head, Table, Trace},
    runtime::Transport,
    telemetry::{Cause, Instruments, Recorder, Series},
};

/// A target's configuration, compiled: what one call needs, from its match to its last retry.
pub struct Snapshot<T: Transport> {
    config: Arc<TargetConfig>,
    routing: Arc<Routing>,
    clusters: Box<[Result<Arc<Leaf<T>>, SourceError>]>,
    aggregates: Box<[Result<Arc<Aggregate<T>>, SourceError>]>,
}

/// The part of a snapshot that endpoint updates leave alone.
struct Routing {
    /// Under HTTP semantics.
    strip_port: StripPort,
    table: Arc<Table>,
    actions: Box<[Action]>,
    /// The names of the clusters that routes name, in the order of [`Snapshot::clusters`].
    clusters: Box<[Arc<str>]>,
    /// Those that are aggregates, in the order of [`Snapshot::aggregates`].
    aggregates: Box<[Arc<str>]>,
}

/// What becomes of the requests of one route.
#[derive(Clone)]
enum Action {
    Forward {
        choice: ClusterChoice,
        destinations: Arc<[Way]>,
    },
    Answer(Arc<AnsweringRoute>),
    Refuse(Cow<'static, str>),
}

/// Where a route's choice of a cluster leads.
enum Way {
    Cluster(Arc<Destination>),
    Aggregate {
        /// The aggregate itself, where there is nothing in its place.
        itself: Arc<Destination>,
        leaves: Arc<[Arc<Destination>]>,
    },
}

/// A route and the cluster chosen for it.
#[derive(Debug)]
pub struct Destination {
    /// The route's name, else its position, such as `#3`.
    pub route: Arc<str>,
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// What happens to the request on the way.
    pub filters: Box<[Arc<dyn Filter>]>,
    /// Which failures are tried again.
    pub retry: Option<Arc<RetryPolicy>>,
    /// The longest a call may take, whatever its caller allows (gRFC A31). `None`: no limit.
    pub limit: Option<Limit>,
    /// What is in force under HTTP semantics alone. `None` under gRPC semantics.
    pub http: Option<Box<HttpRoute>>,
    /// Where its calls are recorded.
    pub instruments: Option<Arc<dyn Instruments>>,
    position: usize,
}

/// How long a call may take.
#[derive(Debug, Clone)]
pub struct Limit {
    /// The time.
    pub duration: Duration,
    /// The same as the value of a `grpc-timeout` header.
    pub grpc_timeout: HeaderValue,
}

/// Where one call goes.
pub struct Plan<T: Transport> {
    /// Its route and cluster.
    pub destination: Arc<Destination>,
    leaf: Arc<Leaf<T>>,
    /// What the cluster stands in for, if for anything: another may take its place.
    of: Option<Box<Of<T>>>,
}

struct Of<T: Transport> {
    aggregate: Arc<Aggregate<T>>,
    leaves: Arc<[Arc<Destination>]>,
}

/// What becomes of a request that goes nowhere.
#[derive(Debug)]
pub enum NoPlan {
    /// It fails.
    Reject(Reject),
    /// Its route answers it: a redirect, or a direct response. Under HTTP semantics only.
    Answer(Box<Answer>),
}

/// Why a request goes nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The status under gRPC semantics.
    pub code: Code,
    /// The status under HTTP semantics: 404 if no route takes the request, 503 if the one that does
    /// cannot be followed, or what that route says of a cluster there is none of.
    pub http: StatusCode,
    /// What is recorded as the call's end.
    pub cause: Cause,
    /// Why, for the caller.
    pub message: Cow<'static, str>,
    /// The route that took it, if one did.
    pub destination: Option<(Arc<str>, Arc<str>)>,
}

// === impl Snapshot ===

impl<T: Transport> Snapshot<T> {
    /// Compiles `config`, with what `previous` has compiled already where that still holds.
    pub(super) fn compile(
        spec: &TargetSpec,
        config: Arc<TargetConfig>,
        previous: Option<&Self>,
        balancers: &Balancers<T>,
        recorder: Option<&dyn Recorder>,
    ) -> Self {
        let routing = match previous {
            Some(previous) if same_routing(&previous.config, &config) => {
                Arc::clone(&previous.routing)
            }
            previous => {
                let before = previous.map(|before| (&*before.config, &*before.routing));
                Arc::new(Routing::compile(spec, &config, before, recorder))
            }
        };
        let leaf = |cluster: &Result<ClusterConfig, SourceError>| {
            let cluster = cluster.as_ref().map_err(SourceError::clone)?;
            Ok(Arc::new(Leaf {
                cluster: balancers.cluster(spec.semantics, &cluster.cluster, &cluster.endpoints),
                note: cluster.note.clone(),
            }))
        };
        let now = values_of(&routing.clusters, &config.clusters);
        let clusters = match previous.filter(|previous| Arc::ptr_eq(&previous.routing, &routing)) {
            None => now.map(leaf).collect(),
            // A change of one cluster is no work for ten thousand others.
            Some(previous) => now
                .zip(values_of(&routing.clusters, &previous.config.clusters))
                .zip(&previous.clusters)
                .map(|((now, then), old)| match now == then {
                    true => old.clone(),
                    false => leaf(now),
                })
                .collect(),
        };
        let aggregates = routing.aggregates.iter().map(|name| {
            let aggregate = config.aggregates[name]
                .as_ref()
                .map_err(SourceError::clone)?;
            let leaves = aggregate.leaves.iter().filter_map(|leaf| {
                let ClusterConfig {
                    cluster,
                    endpoints,
                    note,
                } = config.clusters.get(leaf)?.as_ref().ok()?.clone();
                Some(LeafConfig {
                    cluster,
                    endpoints,
                    note: note.or_else(|| aggregate.note.clone()),
                })
            });
            Ok(balancers.aggregate(spec.semantics, name, leaves.collect()))
        });
        let aggregates = aggregates.collect();
        Self {
            config,
            routing,
            clusters,
            aggregates,
        }
    }

    /// What it was compiled from.
    pub fn config(&self) -> &Arc<TargetConfig> {
        &self.config
    }

    /// Whether attempts are under way to any of its clusters, be it for another target.
    pub fn is_busy(&self) -> bool {
        let mut clusters = self.clusters.iter().flatten();
        clusters.any(|leaf| leaf.cluster.breaker().in_flight() > 0)
            || self.aggregates.iter().flatten().any(|a| a.is_busy())
    }

    /// How its clusters do.
    pub fn clusters(&self) -> Vec<ClusterStatus> {
        let leaves = self.clusters.iter().flatten();
        leaves.map(|leaf| leaf.cluster.status()).collect()
    }

    /// Decides where the request with this head goes. Does not allocate if it goes anywhere.
    ///
    /// # Errors
    /// If no route takes it, the route that does cannot be followed, or it answers by itself.
    #[inline]
    pub fn plan<X: Trace>(&self, head: &Head<'_>, trace: &mut X) -> Result<Plan<T>, NoPlan> {
        let head = &Head {
            authority: self.routing.strip_port.strip(head.authority, None),
            ..*head
        };
        let Some(index) = self.routing.table.find(head, trace) else {
            return Err(self.no_route(head).into());
        };
        let (choice, destinations) = match &self.routing.actions[index] {
            Action::Forward {
                choice,
                destinations,
            } => (choice, destinations),
            Action::Answer(route) => return Err(NoPlan::Answer(answered(route, head))),
            Action::Refuse(message) => return Err(Reject::refused(message.clone()).into()),
        };
        match &destinations[choice.pick()] {
            Way::Cluster(destination) => match &self.clusters[destination.position] {
                Ok(leaf) => Ok(Plan {
                    destination: Arc::clone(destination),
                    leaf: Arc::clone(leaf),
                    of: None,
                }),
                Err(error) => Err(Reject::no_cluster(destination, error).into()),
            },
            Way::Aggregate { itself, leaves } => self.plan_leaf(itself, leaves),
        }
    }

    fn plan_leaf(
        &self,
        itself: &Arc<Destination>,
        leaves: &Arc<[Arc<Destination>]>,
    ) -> Result<Plan<T>, NoPlan> {
        let aggregate = match &self.aggregates[itself.position] {
            Ok(aggregate) => aggregate,
            Err(error) => return Err(Reject::no_cluster(itself, error).into()),
        };
        let Some(leaf) = aggregate.choose() else {
            let error = SourceError {
                kind: SourceErrorKind::DoesNotExist,
                text: "no cluster stands in for it".into(),
            };
            return Err(Reject::no_cluster(itself, &error).into());
        };
        Ok(Plan {
            destination: Arc::clone(of_leaf(leaves, &leaf).unwrap_or(itself)),
            leaf,
            of: Some(Box::new(Of {
                aggregate: Arc::clone(aggregate),
                leaves: Arc::clone(leaves),
            })),
        })
    }

    #[cold]
    fn no_route(&self, head: &Head<'_>) -> Reject {
        let host = host_of(&self.config);
        let message = format!(
            "no route of virtual host {:?} in route configuration {:?} matches {:?}",
            host.name, self.config.routes.name, head.path
        );
        Reject::no_route(message)
    }
}

/// The destination that a cluster is in place of an aggregate one. `None`: another target has put a
/// newer configuration in force, which this one has not taken over yet.
fn of_leaf<'a, T: Transport>(
    leaves: &'a [Arc<Destination>],
    leaf: &Leaf<T>,
) -> Option<&'a Arc<Destination>> {
    let name = &leaf.cluster.config().name;
    leaves
        .iter()
        .find(|destination| destination.cluster == *name)
}

#[cold]
fn answered(route: &AnsweringRoute, head: &Head<'_>) -> Box<Answer> {
    let context = Context::current();
    let cx = RequestCx {
        peer: context.peer(),
        // What a request would have left by is not known where it goes nowhere.
        version: Version::HTTP_11,
    };
    route.answer(head, &cx)
}

impl<T: Transport> fmt::Debug for Snapshot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// The values of `names`, all of which are in `map`, and both in order: in one go over the map.
fn values_of<'a, V>(
    names: &'a [Arc<str>],
    map: &'a BTreeMap<Arc<str>, V>,
) -> impl Iterator<Item = &'a V> {
    let mut entries = map.iter();
    names.iter().map(move |name| {
        let found = entries.find(|(key, _)| Arc::ptr_eq(key, name) || *key == name);
        found.expect("what routes name is in the configuration").1
    })
}

fn same_routing(a: &TargetConfig, b: &TargetConfig) -> bool {
    Arc::ptr_eq(&a.listener, &b.listener)
        && Arc::ptr_eq(&a.routes, &b.routes)
        && a.virtual_host == b.virtual_host
        && a.aggregates == b.aggregates
}

// === impl Routing ===

impl Routing {
    /// Compiles `config`, with what is compiled already of the routes that it shares with the one
    /// `before`.
    fn compile(
        spec: &TargetSpec,
        config: &TargetConfig,
        before: Option<(&TargetConfig, &Self)>,
        recorder: Option<&dyn Recorder>,
    ) -> Self {
        let host = host_of(config);
        let named: BTreeSet<&Arc<str>> = clusters_of(&config.routes, config.virtual_host).collect();
        let (aggregates, clusters): (Vec<_>, Vec<_>) = named
            .into_iter()
            .cloned()
            .partition(|name| config.aggregates.contains_key(name));
        let known = before.and_then(|(then, routing)| {
            let same = same_for_routes(then, config)
                && *routing.clusters == *clusters
                && *routing.aggregates == *aggregates
                && (clusters.iter()).all(|name| service_of(then, name) == service_of(config, name));
            same.then(|| (host_of(then), &routing.actions))
        });
        let known = |index: usize, route: &Arc<Route>| {
            let (then, actions) = known?;
            let same = Arc::ptr_eq(then.routes.get(index)?, route);
            same.then(|| actions[index].clone())
        };
        let positions: BTreeMap<&Arc<str>, usize> = aggregates
            .iter()
            .enumerate()
            .chain(clusters.iter().enumerate())
            .map(|(position, name)| (name, position))
            .collect();
        let destination = |index: usize, route: &Route, forward: &Forward, at: usize, name: &_| {
            let cluster = &forward.clusters[at];
            let leaf: &Arc<str> = name;
            let name = answer::name(index, route);
            let layers = [&cluster.overrides, &route.overrides, &host.overrides];
            let limit = call_limit(None, forward, config.listener.http.max_stream_duration);
            let instruments = recorder.map(|recorder| {
                let service = service_of(config, leaf).cloned();
                recorder.bind(
                    &Series::client(
                        Arc::clone(&spec.listener),
                        Arc::clone(&name),
                        Arc::clone(leaf),
                        spec.semantics,
                    )
                    .of(service),
                )
            });
            Arc::new(Destination {
                route: name,
                cluster: Arc::clone(leaf),
                filters: filters(&config.listener.http.filters, layers),
                retry: match spec.semantics {
                    Semantics::Grpc => forward.retry.clone().filter(|retry| retry.on.any_grpc()),
                    Semantics::Http => forward.retry.clone(),
                },
                http: (spec.semantics == Semantics::Http).then(|| {
                    Box::new(HttpRoute::compile(
                        &place(config, route),
                        &forward.http,
                        cluster,
                    ))
                }),
                limit: limit.map(Limit::new),
                instruments,
                position: positions[&cluster.name],
            })
        };
        let way = |index: usize, route: &Route, forward: &Forward, at: usize| {
            let name = &forward.clusters[at].name;
            let itself = destination(index, route, forward, at, name);
            match config.aggregates.get(name) {
                None => Way::Cluster(itself),
                Some(aggregate) => {
                    let leaves = aggregate.iter().flat_map(|aggregate| &*aggregate.leaves);
                    let leaf = |leaf| destination(index, route, forward, at, leaf);
                    Way::Aggregate {
                        leaves: leaves.map(leaf).collect(),
                        itself,
                    }
                }
            }
        };
        let refuse = |action| {
            Action::Refuse(format!("the matching route's action {action} is not supported").into())
        };
        let answering = |index, route, action| {
            let answering = match spec.semantics {
                Semantics::Grpc => None,
                Semantics::Http => {
                    AnsweringRoute::compile(spec, &place(config, route), index, recorder)
                }
            };
            answering.map_or_else(|| refuse(action), |route| Action::Answer(Arc::new(route)))
        };
        let action = |(index, route)| {
            known(index, route).unwrap_or_else(|| match &route.action {
                RouteAction::Forward(forward) => Action::Forward {
                    choice: ClusterChoice::compile(&forward.clusters),
                    destinations: (0..forward.clusters.len())
                        .map(|at| way(index, route, forward, at))
                        .collect(),
                },
                RouteAction::NonForwarding => Action::Refuse(
                    "the matching route is for servers (non_forwarding_action)".into(),
                ),
                RouteAction::Redirect(_) => answering(index, route, "redirect"),
                RouteAction::DirectResponse(_) => answering(index, route, "direct_response"),
                RouteAction::Unsupported(action) => refuse(action),
            })
        };
        let table = before
            .filter(|(then, _)| same_matches(host_of(then), host))
            .map(|(_, routing)| Arc::clone(&routing.table))
            .unwrap_or_else(|| Arc::new(Table::compile(spec.semantics, &host.routes)));
        Self {
            strip_port: match spec.semantics {
                Semantics::Http => config.listener.http.strip_port,
                Semantics::Grpc => StripPort::Never,
            },
            table,
            actions: host.routes.iter().enumerate().map(action).collect(),
            clusters: clusters.into(),
            aggregates: aggregates.into(),
        }
    }
}

fn host_of(config: &TargetConfig) -> &VirtualHost {
    &config.routes.virtual_hosts[config.virtual_host]
}

/// Whether a route that is in both comes to the same, as long as its clusters are the same.
fn same_for_routes(a: &TargetConfig, b: &TargetConfig) -> bool {
    let (host, other) = (host_of(a), host_of(b));
    Arc::ptr_eq(&a.listener, &b.listener)
        && a.routes.headers == b.routes.headers
        && a.routes.most_specific_wins == b.routes.most_specific_wins
        && host.headers == other.headers
        && host.overrides == other.overrides
        && a.aggregates == b.aggregates
}

/// The service that a cluster is of, by which its calls are recorded.
fn service_of<'a>(config: &'a TargetConfig, cluster: &str) -> Option<&'a Arc<Service>> {
    let found = config.clusters.get(cluster)?.as_ref().ok()?;
    found.cluster.service.as_ref()
}

/// Whether the routes of both take the same requests.
fn same_matches(a: &VirtualHost, b: &VirtualHost) -> bool {
    let same = |(a, b): (&Arc<Route>, &Arc<Route>)| Arc::ptr_eq(a, b) || a.matcher == b.matcher;
    a.routes.len() == b.routes.len() && a.routes.iter().zip(&b.routes).all(same)
}

fn place<'a>(config: &'a TargetConfig, route: &'a Route) -> RoutePlace<'a> {
    RoutePlace {
        manager: &config.listener.http,
        config: &config.routes,
        host: host_of(config),
        route,
    }
}

/// Builds the filters of one destination; the most specific override wins (gRFC A39).
fn filters(chain: &[HttpFilter], layers: [&FilterOverrides; 3]) -> Box<[Arc<dyn Filter>]> {
    chain
        .iter()
        .filter_map(|filter| {
            let over = layers.iter().find_map(|layer| layer.get(&filter.name));
            filter.config.build(over)
        })
        .collect()
}

// === impl Limit ===

impl Limit {
    fn new(duration: Duration) -> Self {
        Self {
            duration,
            grpc_timeout: format_grpc_timeout(duration),
        }
    }
}

// === impl Plan ===

impl<T: Transport> Plan<T> {
    /// The cluster's endpoints.
    pub fn cluster(&self) -> &ClusterSnapshot<T> {
        &self.leaf.cluster
    }

    /// The same, to be held while the plan changes.
    pub fn shared_cluster(&self) -> Arc<ClusterSnapshot<T>> {
        Arc::clone(&self.leaf.cluster)
    }

    /// Takes the cluster that takes calls now, if this one stands in for an aggregate cluster and
    /// another does in the meantime. Whether that changed anything.
    #[inline]
    pub fn renew(&mut self) -> bool {
        match &self.of {
            None => false,
            Some(of) => {
                let leaf = of.aggregate.choose();
                self.take(leaf)
            }
        }
    }

    /// As [`renew`](Self::renew), by how the clusters do at this moment: where nothing is ready.
    pub fn renew_now(&mut self) -> bool {
        match &self.of {
            None => false,
            Some(of) => {
                let leaf = of.aggregate.choose_now();
                self.take(leaf)
            }
        }
    }

    fn take(&mut self, leaf: Option<Arc<Leaf<T>>>) -> bool {
        let (Some(leaf), Some(of)) = (leaf, &self.of) else {
            return false;
        };
        if Arc::ptr_eq(&leaf, &self.leaf) {
            return false;
        }
        if let Some(destination) = of_leaf(&of.leaves, &leaf) {
            self.destination = Arc::clone(destination);
        }
        self.leaf = leaf;
        true
    }

    /// What the cluster stands in for, if for anything: when others take calls, it says so.
    pub fn aggregate(&self) -> Option<&Arc<Aggregate<T>>> {
        self.of.as_ref().map(|of| &of.aggregate)
    }

    /// Why the endpoints are missing or old, if they are (gRFC A74).
    pub fn note(&self) -> Option<&SourceError> {
        self.leaf.note.as_ref()
    }
}

impl<T: Transport> fmt::Debug for Plan<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("destination", &self.destination)
            .finish_non_exhaustive()
    }
}

// === impl NoPlan ===

impl From<Reject> for NoPlan {
    fn from(reject: Reject) -> Self {
        Self::Reject(reject)
    }
}

// === impl Reject ===

impl Reject {
    /// No route takes the request.
    pub(super) fn no_route(message: String) -> Self {
        Self::new(StatusCode::NOT_FOUND, Cause::NoRoute, message.into())
    }

    /// The route that takes it cannot be followed.
    pub(super) fn refused(message: Cow<'static, str>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Cause::NoRoute, message)
    }

    /// The cluster it would go to is not to be had.
    #[cold]
    fn no_cluster(destination: &Destination, error: &SourceError) -> Self {
        let Destination { route, cluster, .. } = destination;
        let http = destination.http.as_ref().map(|http| http.cluster_not_found);
        let message = format!("cluster {cluster:?} cannot be used: {error}");
        Self {
            destination: Some((Arc::clone(route), Arc::clone(cluster))),
            ..Self::new(
                http.unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
                Cause::NoCluster,
                message.into(),
            )
        }
    }

    fn new(http: StatusCode, cause: Cause, message: Cow<'static, str>) -> Self {
        Self {
            code: Code::Unavailable,
            http,
            cause,
            message,
            destination: None,
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests;
