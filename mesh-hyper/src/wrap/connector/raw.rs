use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use mesh_core::{
    Mesh,
    balance::{Connectivity, LinkState},
    identity::{Identities, UpstreamContext},
    resilience::Backoff,
    runtime::Transport,
};
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::watch};

use crate::conn::{ConnectError, Dial, Reporter, Secured, Speaks, SystemDial, Way};

/// Endpoints to which connections are made only when somebody wants one.
///
/// One counts as ready until a connection to it has failed, and then again after a pause.
#[derive(Debug)]
pub(super) struct Raw {
    identities: Identities,
    dial: Arc<dyn Dial>,
    backoff_base: Duration,
    backoff_max: Duration,
}

/// An endpoint.
#[derive(Clone)]
pub(super) struct RawEndpoint(Arc<Shared>);

struct Shared {
    dial: Arc<dyn Dial>,
    /// `None`: plaintext, as the cluster has it.
    tls: Option<Arc<UpstreamContext>>,
    reporter: Reporter,
    state: Mutex<State>,
    /// Where pauses are made.
    runtime: Handle,
    /// Set when the endpoint is removed.
    retired: watch::Sender<bool>,
}

struct State {
    phase: Phase,
    backoff: Backoff,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Ready,
    Pausing,
}

// === impl Raw ===

impl Raw {
    pub(super) fn new(mesh: &Mesh) -> Self {
        Self {
            identities: mesh.identities().clone(),
            dial: Arc::new(SystemDial),
            backoff_base: mesh.options().connect_backoff_base,
            backoff_max: mesh.options().connect_backoff_max,
        }
    }
}

impl Transport for Raw {
    type Conn = RawEndpoint;

    fn open(&self, link: &Arc<LinkState>) -> RawEndpoint {
        let alpn = Speaks::of(link).alpn();
        let tls = link.cluster().tls.as_ref().map(|tls| {
            let hostname = link.hostname().map(|name| &**name);
            self.identities.upstream(tls, hostname, alpn)
        });
        RawEndpoint(Arc::new(Shared {
            dial: Arc::clone(&self.dial),
            tls,
            reporter: Reporter::new(Arc::clone(link)),
            state: Mutex::new(State {
                phase: Phase::Idle,
                backoff: Backoff::connection(self.backoff_base, self.backoff_max),
            }),
            runtime: Handle::current(),
            retired: watch::Sender::new(false),
        }))
    }

    /// Makes no attempt: it is ready for one.
    fn connect(&self, endpoint: &RawEndpoint, _: &Arc<LinkState>) {
        let shared = &endpoint.0;
        {
            let mut state = shared.state.lock();
            if state.phase != Phase::Idle || *shared.retired.borrow() {
                return;
            }
            state.phase = Phase::Ready;
            shared.reporter.note(Connectivity::Ready, None);
        }
        shared.reporter.report();
    }

    fn retire(&self, endpoint: &RawEndpoint) {
        endpoint.0.retired.send_replace(true);
    }
}

// === impl RawEndpoint ===

impl RawEndpoint {
    /// One more connection.
    pub(super) async fn connect_once(&self) -> Result<Secured, ConnectError> {
        let shared = &self.0;
        let way = Way {
            dial: &*shared.dial,
            tls: shared.tls.as_ref(),
            speaks: Speaks::of(shared.reporter.link()),
        };
        match way.secure(shared.reporter.link()).await {
            Ok(secured) => {
                shared.state.lock().backoff.reset();
                Ok(secured)
            }
            Err(error) => {
                self.failed(&error);
                Err(error)
            }
        }
    }

    /// Resolves once it was removed.
    pub(super) fn retired(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut retired = self.0.retired.subscribe();
        async move {
            // One that nobody knows any more is removed, too.
            let _ = retired.wait_for(|&retired| retired).await;
        }
    }

    /// Nobody is sent here for a while.
    fn failed(&self, error: &ConnectError) {
        let shared = &self.0;
        let address = shared.reporter.link().address();
        tracing::debug!(%address, %error, "connection attempt failed");
        let pause = {
            let mut state = shared.state.lock();
            if state.phase == Phase::Pausing {
                return;
            }
            state.phase = Phase::Pausing;
            let text = error.to_string().into();
            shared.reporter.note(Connectivity::Failing, Some(text));
            state.backoff.next_pause()
        };
        shared.reporter.report();
        let (me, retired) = (Arc::downgrade(shared), self.retired());
        shared.runtime.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(pause) => paused(&me),
                () = retired => {}
            }
        });
    }
}

fn paused(endpoint: &Weak<Shared>) {
    let Some(shared) = endpoint.upgrade() else {
        return;
    };
    {
        let mut state = shared.state.lock();
        state.phase = Phase::Idle;
        shared.reporter.note(Connectivity::Idle, None);
    }
    shared.reporter.report();
}

impl fmt::Debug for RawEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawEndpoint")
            .field("link", self.0.reporter.link())
            .finish_non_exhaustive()
    }
}
