use std::{fmt, sync::Arc};

use super::{Attempt, CallRecord};
use crate::Semantics;

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
/// endpoint was chosen; in between it makes any number of attempts.
pub trait Instruments: fmt::Debug + Send + Sync {
    /// A call began.
    fn started(&self);

    /// An attempt ended.
    fn attempt(&self, attempt: &Attempt<'_>);

    /// A call ended.
    fn finished(&self, call: &CallRecord<'_>);
}

/// What calls have in common that are counted together. Its values come from configuration, so
/// their number is bounded by it, never by what requests contain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Series {
    /// What the application asked for, such as `greeter.shop:8080`.
    pub target: Arc<str>,
    /// The route's name; empty if it has none or none matched.
    pub route: Arc<str>,
    /// The cluster's name; empty if none was chosen.
    pub cluster: Arc<str>,
    /// Whether codes or statuses tell how its calls ended.
    pub semantics: Semantics,
}

impl Series {
    /// The calls to `target` that `route` sends to `cluster`.
    pub fn new(
        target: impl Into<Arc<str>>,
        route: impl Into<Arc<str>>,
        cluster: impl Into<Arc<str>>,
        semantics: Semantics,
    ) -> Self {
        Self {
            target: target.into(),
            route: route.into(),
            cluster: cluster.into(),
            semantics,
        }
    }
}
