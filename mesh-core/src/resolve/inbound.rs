//! The server's side: which connections are accepted how, and which requests are served.

mod compile;
mod deps;
mod select;
mod snapshot;

pub use snapshot::{InboundChain, InboundRoute, InboundSnapshot};

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::{ArcSwap, Guard};
use tokio::{
    sync::{Notify, futures::Notified},
    task::AbortHandle,
};

use self::deps::{InboundConfig, InboundDependencies};
use super::{Readiness, TargetSpec, TargetStatus, slots::follow};
use crate::{
    Semantics,
    config::DownstreamTls,
    control::{Source, SourceError},
    telemetry::Recorder,
};

/// What a server's connections and requests follow: configuration that is kept for as long as
/// somebody holds this (gRFC A36).
///
/// Dropping it ends its watches and its task.
pub struct Inbound {
    spec: InboundSpec,
    shared: Arc<Shared>,
    /// Nothing follows a fixed configuration.
    task: Option<AbortHandle>,
}

/// Names what a server follows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InboundSpec {
    /// The listener's resource name.
    pub listener: Arc<str>,
    /// The address the server is bound to. A listener for another address is not served: its IP
    /// address must be the same, a wildcard like any other, and its port too unless it is 0
    /// (gRFC A36).
    pub address: SocketAddr,
    /// How its requests are understood.
    pub semantics: Semantics,
}

/// What is known of a server's listener.
#[derive(Debug)]
pub enum InboundState {
    /// Nothing yet.
    Waiting,
    /// No connection is to be accepted, for now: an update may come.
    NotServing(SourceError),
    /// Connections and requests follow this.
    Serving(InboundSnapshot),
}

/// The two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The peer's address.
    pub peer: SocketAddr,
    /// The address it reached.
    pub local: SocketAddr,
}

impl Ends {
    /// Those of a connection without addresses, over a Unix domain socket: nobody's, in no range
    /// but that of all.
    pub const UNNAMED: Self = Self {
        peer: UNSPECIFIED,
        local: UNSPECIFIED,
    };

    /// The peer's address, if it has one.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        Some(self.peer).filter(|peer| *peer != UNSPECIFIED)
    }

    /// The address it reached, if it has one.
    pub fn local_address(&self) -> Option<SocketAddr> {
        Some(self.local).filter(|local| *local != UNSPECIFIED)
    }
}

/// No connection has it.
const UNSPECIFIED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

struct Shared {
    state: ArcSwap<InboundState>,
    /// How often that has changed.
    changes: AtomicU64,
    changed: Notify,
}

/// What compiles and publishes the configurations of one server.
struct Publisher {
    spec: InboundSpec,
    recorder: Option<Arc<dyn Recorder>>,
    shared: Arc<Shared>,
}

// === impl Inbound ===

impl Inbound {
    /// Starts to follow `spec`. To be called in a tokio runtime.
    pub fn open(
        spec: InboundSpec,
        source: Arc<dyn Source>,
        recorder: Option<Arc<dyn Recorder>>,
    ) -> Self {
        let shared = Shared::new(InboundState::Waiting);
        let dependencies = InboundDependencies::new(&spec);
        let publisher = Publisher {
            spec: spec.clone(),
            recorder,
            shared: Arc::clone(&shared),
        };
        let publish = move |outcome| publisher.publish(outcome);
        let task = tokio::spawn(follow(dependencies, source, None, publish)).abort_handle();
        Self {
            spec,
            shared,
            task: Some(task),
        }
    }

    /// Follows nothing: one chain with this TLS for all connections, whose requests are all
    /// served. `None`: plaintext.
    pub fn fixed(
        spec: InboundSpec,
        tls: Option<Arc<DownstreamTls>>,
        recorder: Option<&dyn Recorder>,
    ) -> Self {
        let config = InboundConfig::fixed(&spec, tls);
        let snapshot = InboundSnapshot::compile(&spec, Arc::new(config), None, recorder);
        Self {
            spec,
            shared: Shared::new(InboundState::Serving(snapshot)),
            task: None,
        }
    }

    /// Which listener and address it is for.
    pub fn spec(&self) -> &InboundSpec {
        &self.spec
    }

    /// What is known now. The guard must not be kept across an await.
    #[inline]
    pub fn load(&self) -> Guard<Arc<InboundState>> {
        self.shared.state.load()
    }

    /// How often what is known has changed. Who has looked at it since this was read need not
    /// [load](Self::load) it again while it stays the same.
    #[inline]
    pub fn changes(&self) -> u64 {
        self.shared.changes.load(Ordering::Acquire)
    }

    /// Resolves at the next change of state after this call.
    pub fn changed(&self) -> Notified<'_> {
        self.shared.changed.notified()
    }

    /// Waits until connections can be accepted, or it is known why not.
    ///
    /// # Errors
    /// If no connection is to be accepted, for now.
    pub async fn ready(&self) -> Result<(), SourceError> {
        loop {
            let changed = self.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match &**self.load() {
                InboundState::Serving(_) => return Ok(()),
                InboundState::NotServing(error) => return Err(error.clone()),
                InboundState::Waiting => {}
            }
            changed.await;
        }
    }

    /// How it is doing: ready if it is serving; as authority, the address of the server.
    pub fn status(&self) -> TargetStatus {
        let (ready, trouble) = match &**self.load() {
            InboundState::Waiting => (false, None),
            InboundState::NotServing(error) => (false, Some(error.clone())),
            InboundState::Serving(snapshot) => (true, snapshot.trouble().cloned()),
        };
        TargetStatus {
            spec: TargetSpec {
                listener: Arc::clone(&self.spec.listener),
                authority: self.spec.address.to_string().into(),
                semantics: self.spec.semantics,
            },
            ready,
            trouble,
            clusters: Vec::new(),
        }
    }
}

impl Readiness for Inbound {
    fn status(&self) -> TargetStatus {
        self.status()
    }

    fn settled(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async { drop(self.ready().await) })
    }
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

// === impl Shared ===

impl Shared {
    fn new(state: InboundState) -> Arc<Self> {
        Arc::new(Self {
            state: ArcSwap::from_pointee(state),
            changes: AtomicU64::new(0),
            changed: Notify::new(),
        })
    }

    fn publish(&self, state: InboundState) {
        self.state.store(Arc::new(state));
        self.changes.fetch_add(1, Ordering::Release);
        self.changed.notify_waiters();
    }
}

// === impl Publisher ===

impl Publisher {
    fn publish(&self, outcome: Result<Arc<InboundConfig>, SourceError>) {
        let now = self.shared.state.load();
        let next = match (outcome, &**now) {
            (Err(error), InboundState::NotServing(same)) if error == *same => return,
            (Err(error), _) => InboundState::NotServing(error),
            (Ok(config), InboundState::Serving(snapshot))
                if Arc::ptr_eq(snapshot.config(), &config) =>
            {
                return;
            }
            (Ok(config), now) => {
                let previous = match now {
                    InboundState::Serving(snapshot) => Some(snapshot),
                    InboundState::Waiting | InboundState::NotServing(_) => None,
                };
                let recorder = self.recorder.as_deref();
                let next = InboundSnapshot::compile(&self.spec, config, previous, recorder);
                InboundState::Serving(next)
            }
        };
        self.shared.publish(next);
    }
}

/// Nothing comes any more: either the server is gone, or the runtime of the mesh was shut down. What is
/// in force stays so, and a server that still waits waits for nothing.
impl Drop for Publisher {
    fn drop(&mut self) {
        if matches!(**self.shared.state.load(), InboundState::Waiting) {
            let state = InboundState::NotServing(SourceError::lost());
            self.shared.publish(state);
        }
    }
}

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;
