use std::{fmt, pin::Pin, sync::Arc};

use arc_swap::{ArcSwap, Guard};
use tokio::{
    sync::{Notify, futures::Notified},
    task::AbortHandle,
};

use super::{Dependencies, Names, Snapshot, slots::follow};
use crate::{
    Semantics,
    balance::{Balancers, ClusterStatus},
    control::{Source, SourceError},
    runtime::Transport,
    telemetry::Recorder,
};

/// What calls are made to: a name that configuration is kept for as long as somebody holds this.
///
/// Dropping it ends its watches and its task.
pub struct Target<T: Transport> {
    spec: TargetSpec,
    shared: Arc<Shared<T>>,
    task: AbortHandle,
}

/// Names a target.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TargetSpec {
    /// The listener's resource name.
    pub listener: Arc<str>,
    /// The authority of its requests: chooses the virtual host. Of a server, the address that it is
    /// bound to.
    pub authority: Arc<str>,
    /// How its requests are understood.
    pub semantics: Semantics,
}

/// What is known of a target.
#[derive(Debug)]
pub enum State<T: Transport> {
    /// Nothing yet.
    Waiting,
    /// It cannot be had, for now: an update may come.
    Failed(SourceError),
    /// Calls follow this.
    Ready(Snapshot<T>),
}

/// How a target is doing.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TargetStatus {
    /// Which one.
    pub spec: TargetSpec,
    /// Whether it has a configuration.
    pub ready: bool,
    /// Why it has none, or what leaves an older one in force.
    pub trouble: Option<SourceError>,
    /// Its clusters.
    pub clusters: Vec<ClusterStatus>,
}

/// Something that becomes ready: a target, whatever carries its calls.
pub trait Readiness: Send + Sync {
    /// How it is doing.
    fn status(&self) -> TargetStatus;

    /// Resolves once it has a configuration or cannot get one.
    fn settled(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

struct Shared<T: Transport> {
    state: ArcSwap<State<T>>,
    changed: Notify,
}

/// What compiles and publishes the configurations of one target.
struct Publisher<T: Transport> {
    spec: TargetSpec,
    balancers: Balancers<T>,
    recorder: Option<Arc<dyn Recorder>>,
    shared: Arc<Shared<T>>,
}

// === impl Target ===

impl<T: Transport> Target<T> {
    /// Starts to follow `spec`. To be called in a tokio runtime.
    pub fn open(
        spec: TargetSpec,
        source: Arc<dyn Source>,
        names: Names,
        balancers: Balancers<T>,
        recorder: Option<Arc<dyn Recorder>>,
    ) -> Self {
        let shared = Arc::new(Shared {
            state: ArcSwap::from_pointee(State::Waiting),
            changed: Notify::new(),
        });
        let publisher = Publisher {
            spec: spec.clone(),
            balancers,
            recorder,
            shared: Arc::clone(&shared),
        };
        let dependencies =
            Dependencies::new(spec.listener.clone(), spec.authority.clone()).under(spec.semantics);
        let following = follow(dependencies, source, Some(names), move |outcome| {
            publisher.publish(outcome);
        });
        let task = tokio::spawn(following).abort_handle();
        Self { spec, shared, task }
    }

    /// Which target it is.
    pub fn spec(&self) -> &TargetSpec {
        &self.spec
    }

    /// What is known now. The guard must not be kept across an await.
    #[inline]
    pub fn load(&self) -> Guard<Arc<State<T>>> {
        self.shared.state.load()
    }

    /// Resolves at the next change of state after this call.
    pub fn changed(&self) -> Notified<'_> {
        self.shared.changed.notified()
    }

    /// Waits until there is something to follow or to fail with.
    ///
    /// # Errors
    /// If the target cannot be had.
    pub async fn ready(&self) -> Result<(), SourceError> {
        loop {
            let changed = self.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match &**self.load() {
                State::Ready(_) => return Ok(()),
                State::Failed(error) => return Err(error.clone()),
                State::Waiting => {}
            }
            changed.await;
        }
    }

    /// How it is doing.
    pub fn status(&self) -> TargetStatus {
        let (ready, trouble, clusters) = match &**self.load() {
            State::Waiting => (false, None, Vec::new()),
            State::Failed(error) => (false, Some(error.clone()), Vec::new()),
            State::Ready(snapshot) => {
                (true, snapshot.config().ambient.clone(), snapshot.clusters())
            }
        };
        TargetStatus {
            spec: self.spec.clone(),
            ready,
            trouble,
            clusters,
        }
    }
}

impl<T: Transport> Readiness for Target<T> {
    fn status(&self) -> TargetStatus {
        self.status()
    }

    fn settled(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async { drop(self.ready().await) })
    }
}

impl<T: Transport> fmt::Debug for Target<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

impl<T: Transport> Drop for Target<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Publisher ===

impl<T: Transport> Publisher<T> {
    fn publish(&self, outcome: Result<Arc<super::TargetConfig>, SourceError>) {
        let next = match outcome {
            Err(error) => State::Failed(error),
            Ok(config) => {
                let now = self.shared.state.load();
                let previous = match &**now {
                    State::Ready(snapshot) if Arc::ptr_eq(snapshot.config(), &config) => return,
                    State::Ready(snapshot) => Some(snapshot),
                    State::Waiting | State::Failed(_) => None,
                };
                let recorder = self.recorder.as_deref();
                State::Ready(Snapshot::compile(
                    &self.spec,
                    config,
                    previous,
                    &self.balancers,
                    recorder,
                ))
            }
        };
        self.shared.publish(next);
    }
}

/// Nothing comes any more: either nobody waits for it, or the runtime was shut down and whoever calls
/// in another one must not wait for ever.
impl<T: Transport> Drop for Publisher<T> {
    fn drop(&mut self) {
        self.shared.publish(State::Failed(SourceError::lost()));
    }
}

// === impl Shared ===

impl<T: Transport> Shared<T> {
    fn publish(&self, state: State<T>) {
        let before = self.state.swap(Arc::new(state));
        self.changed.notify_waiters();
        // Calls follow what is new: what is old may take its time.
        drop(before);
    }
}
