use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::{TargetConfig, TargetSpec};
use crate::{
    Code, Semantics,
    balance::{Balancers, ClusterSnapshot},
    config::{FilterOverrides, Forward, HttpFilter, RetryPolicy, Route, RouteAction},
    control::SourceError,
    filter::Filter,
    resilience::{call_limit, format_grpc_timeout},
    rewrite::HttpRoute,
    route::{ClusterChoice, Head, Table, Trace},
    runtime::Transport,
    telemetry::{Instruments, Recorder, Series},
};

/// A target's configuration, compiled: what one call needs, from its match to its last retry.
pub struct Snapshot<T: Transport> {
    config: Arc<TargetConfig>,
    routing: Arc<Routing>,
    clusters: Box<[Result<Arc<Bound<T>>, SourceError>]>,
}

/// The part of a snapshot that endpoint updates leave alone.
struct Routing {
    table: Table,
    actions: Box<[Action]>,
    /// Cluster names in the order of [`Snapshot::clusters`].
    clusters: Box<[Arc<str>]>,
}

/// What becomes of the requests of one route.
enum Action {
    Forward {
        choice: ClusterChoice,
        destinations: Box<[Arc<Destination>]>,
    },
    Refuse(Cow<'static, str>),
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

/// A cluster with its live endpoints.
struct Bound<T: Transport> {
    cluster: Arc<ClusterSnapshot<T>>,
    note: Option<SourceError>,
}

/// Where one call goes.
pub struct Plan<T: Transport> {
    /// Its route and cluster.
    pub destination: Arc<Destination>,
    bound: Arc<Bound<T>>,
}

/// What becomes of a request that goes nowhere.
#[derive(Debug)]
pub enum NoPlan {
    /// It fails.
    Reject(Reject),
    /// Its route answers it: a redirect, or a direct response. Under HTTP semantics only.
    Answer(Box<Answer>),
}

/// The answer of a route.
#[derive(Debug)]
pub struct Answer {
    /// The route's name, else its position.
    pub route: Arc<str>,
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Where the call is recorded.
    pub instruments: Option<Arc<dyn Instruments>>,
}

/// Why a request goes nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The status under gRPC semantics.
    pub code: Code,
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
            _ => Arc::new(Routing::compile(spec, &config, recorder)),
        };
        let clusters = routing.clusters.iter().map(|name| {
            let cluster = config.clusters[name].as_ref().map_err(SourceError::clone)?;
            Ok(Arc::new(Bound {
                cluster: balancers.cluster(spec.semantics, &cluster.cluster, &cluster.endpoints),
                note: cluster.note.clone(),
            }))
        });
        let clusters = clusters.collect();
        Self {
            config,
            routing,
            clusters,
        }
    }

    /// What it was compiled from.
    pub fn config(&self) -> &Arc<TargetConfig> {
        &self.config
    }

    /// Whether attempts are under way to any of its clusters, be it for another target.
    pub fn is_busy(&self) -> bool {
        let mut clusters = self.clusters.iter().flatten();
        clusters.any(|bound| bound.cluster.breaker().in_flight() > 0)
    }

    /// Decides where the request with this head goes. Does not allocate if it goes anywhere.
    ///
    /// # Errors
    /// If no route takes it, the route that does cannot be followed, or it answers by itself.
    #[inline]
    pub fn plan<X: Trace>(&self, head: &Head<'_>, trace: &mut X) -> Result<Plan<T>, NoPlan> {
        let Some(index) = self.routing.table.find(head, trace) else {
            return Err(self.no_route(head).into());
        };
        let (choice, destinations) = match &self.routing.actions[index] {
            Action::Forward {
                choice,
                destinations,
            } => (choice, destinations),
            Action::Refuse(message) => {
                return Err(Reject::unavailable(message.clone(), None).into());
            }
        };
        let destination = &destinations[choice.pick()];
        match &self.clusters[destination.position] {
            Ok(bound) => Ok(Plan {
                destination: Arc::clone(destination),
                bound: Arc::clone(bound),
            }),
            Err(error) => Err(Reject::unavailable(
                format!("cluster {:?} cannot be used: {error}", destination.cluster).into(),
                Some(destination),
            )
            .into()),
        }
    }

    #[cold]
    fn no_route(&self, head: &Head<'_>) -> Reject {
        let host = &self.config.routes.virtual_hosts[self.config.virtual_host];
        let message = format!(
            "no route of virtual host {:?} in route configuration {:?} matches {:?}",
            host.name, self.config.routes.name, head.path
        );
        Reject::unavailable(message.into(), None)
    }
}

impl<T: Transport> fmt::Debug for Snapshot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

fn same_routing(a: &TargetConfig, b: &TargetConfig) -> bool {
    Arc::ptr_eq(&a.listener, &b.listener)
        && Arc::ptr_eq(&a.routes, &b.routes)
        && a.virtual_host == b.virtual_host
}

// === impl Routing ===

impl Routing {
    fn compile(spec: &TargetSpec, config: &TargetConfig, recorder: Option<&dyn Recorder>) -> Self {
        let host = &config.routes.virtual_hosts[config.virtual_host];
        let positions: BTreeMap<&Arc<str>, usize> = config
            .clusters
            .keys()
            .enumerate()
            .map(|(position, name)| (name, position))
            .collect();
        let destination = |index: usize, route: &Route, forward: &Forward, at: usize| {
            let cluster = &forward.clusters[at];
            let name = match &*route.name {
                "" => format!("#{index}").into(),
                _ => Arc::clone(&route.name),
            };
            let layers = [&cluster.overrides, &route.overrides, &host.overrides];
            let limit = call_limit(None, forward, config.listener.http.max_stream_duration);
            let instruments = recorder.map(|recorder| {
                recorder.bind(&Series::new(
                    Arc::clone(&spec.listener),
                    Arc::clone(&name),
                    Arc::clone(&cluster.name),
                    spec.semantics,
                ))
            });
            Arc::new(Destination {
                route: name,
                cluster: Arc::clone(&cluster.name),
                filters: filters(&config.listener.http.filters, layers),
                retry: match spec.semantics {
                    Semantics::Grpc => forward.retry.clone().filter(|retry| retry.on.any_grpc()),
                    Semantics::Http => forward.retry.clone(),
                },
                http: (spec.semantics == Semantics::Http).then(|| {
                    let idle = config.listener.http.stream_idle_timeout;
                    Box::new(HttpRoute::compile(&forward.http, idle))
                }),
                limit: limit.map(Limit::new),
                instruments,
                position: positions[&cluster.name],
            })
        };
        let actions = host
            .routes
            .iter()
            .enumerate()
            .map(|(index, route)| match &route.action {
                RouteAction::Forward(forward) => Action::Forward {
                    choice: ClusterChoice::compile(&forward.clusters),
                    destinations: (0..forward.clusters.len())
                        .map(|at| destination(index, route, forward, at))
                        .collect(),
                },
                RouteAction::NonForwarding => Action::Refuse(
                    "the matching route is for servers (non_forwarding_action)".into(),
                ),
                RouteAction::Redirect(_) => {
                    Action::Refuse("the matching route's action redirect is not supported".into())
                }
                RouteAction::DirectResponse(_) => Action::Refuse(
                    "the matching route's action direct_response is not supported".into(),
                ),
                RouteAction::Unsupported(action) => Action::Refuse(
                    format!("the matching route's action {action} is not supported").into(),
                ),
            });
        Self {
            table: Table::compile(spec.semantics, &host.routes),
            actions: actions.collect(),
            clusters: config.clusters.keys().cloned().collect(),
        }
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
        &self.bound.cluster
    }

    /// Why the endpoints are missing or old, if they are (gRFC A74).
    pub fn note(&self) -> Option<&SourceError> {
        self.bound.note.as_ref()
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
    pub(super) fn unavailable(
        message: Cow<'static, str>,
        destination: Option<&Arc<Destination>>,
    ) -> Self {
        Self {
            code: Code::Unavailable,
            message,
            destination: destination
                .map(|found| (Arc::clone(&found.route), Arc::clone(&found.cluster))),
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
