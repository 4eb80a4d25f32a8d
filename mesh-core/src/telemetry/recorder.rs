use std::{fmt, sync::Arc};

use super::{Attempt, CallRecord};
use crate::{Semantics, config::Service};

/// Where calls are recorded: a metrics dialect, or [`Metrics`](super::Metrics).
pub trait Recorder: fmt::Debug + Send + Sync + 'static {
    /// The instruments of `series`. Called once per snapshot for each series in it, never per
    /// call, so it may lock and allocate. The same series should get the same instruments again:
    /// its counts then survive the change of a snapshot.
    fn bind(&self, series: &Series) -> Arc<dyn Instruments>;
}

/// Records the calls of one series. Runs in the caller's task: it must not block, and should
/// neither lock nor allocate.
///
/// Each call is `started` once and `finished` once, also if it is cancelled or refused before an
/// endpoint was chosen; in between it makes any number of attempts, each of which is
/// `attempt_started` once and ends in `attempt` once.
pub trait Instruments: fmt::Debug + Send + Sync {
    /// The instruments of the calls of one method, asked for once per call before it is `started`;
    /// `None`, the default: these are.
    ///
    /// `method` is `package.Service/Method` under gRPC semantics, and only if it is one that a
    /// generated client or a registered service has; under HTTP semantics it is a method of
    /// RFC 9110 or 5789. Any other call is recorded on the series itself.
    fn method(&self, method: &str) -> Option<Arc<dyn Instruments>> {
        let _ = method;
        None
    }

    /// A call began.
    fn started(&self);

    /// An attempt began. The default does nothing.
    fn attempt_started(&self) {}

    /// An attempt ended.
    fn attempt(&self, attempt: &Attempt<'_>);

    /// A call ended.
    fn finished(&self, call: &CallRecord<'_>);

    /// A call ended with its one attempt, as most do: in place of [`attempt`](Self::attempt) and
    /// [`finished`](Self::finished), which the default calls.
    fn both_ended(&self, call: &CallRecord<'_>) {
        self.attempt(&call.as_attempt());
        self.finished(call);
    }
}

/// What calls have in common that are counted together. Its values come from configuration, so
/// their number is bounded by it, never by what requests contain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Series {
    /// Who counts them.
    pub side: Side,
    /// What the application asked for, such as `greeter.shop:8080`; for a server, the listener.
    pub target: Arc<str>,
    /// The route's name; empty if it has none or none matched.
    pub route: Arc<str>,
    /// The cluster's name; empty if none was chosen, and for a server.
    pub cluster: Arc<str>,
    /// The service that the cluster is of, if the control plane says so.
    pub service: Option<Arc<Service>>,
    /// Whether codes or statuses tell how its calls ended.
    pub semantics: Semantics,
}

/// Which end of a call counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// Who makes it.
    Client,
    /// Who serves it.
    Server,
}

// === impl Series ===

impl Series {
    /// The calls to `target` that `route` sends to `cluster`.
    pub fn client(
        target: impl Into<Arc<str>>,
        route: impl Into<Arc<str>>,
        cluster: impl Into<Arc<str>>,
        semantics: Semantics,
    ) -> Self {
        Self {
            side: Side::Client,
            target: target.into(),
            route: route.into(),
            cluster: cluster.into(),
            service: None,
            semantics,
        }
    }

    /// The calls that `listener` gets and `route` takes.
    pub fn server(
        listener: impl Into<Arc<str>>,
        route: impl Into<Arc<str>>,
        semantics: Semantics,
    ) -> Self {
        Self {
            side: Side::Server,
            ..Self::client(listener, route, "", semantics)
        }
    }

    /// What takes its place where there are too many, all of whose names are `name`.
    pub(super) fn other(&self, name: &str) -> Self {
        Self {
            side: self.side,
            ..Self::client(name, name, name, self.semantics)
        }
    }

    /// The same, of this service.
    pub fn of(mut self, service: Option<Arc<Service>>) -> Self {
        self.service = service;
        self
    }
}
