use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::Notify, time::Instant};

use super::{
    ClusterSnapshot, Connectivity, LinkState, Observer, PickCx, Picked,
    balancers::Registry,
    chooser::Standing,
    state::{Actions, State},
    timer::Timer,
    tls_ids::Numbered,
    version::Version,
};
use crate::{
    Semantics,
    config::{Cluster, Discovery, Endpoints},
    runtime::Transport,
};

/// One cluster: the endpoints, their connections and the failover between them, shared by all
/// snapshots of the cluster. The newest snapshot's configuration governs.
///
/// Two locks, taken in this order and never while the transport is called back into: `governing`
/// for changes of the configuration, `state` for what endpoints report.
#[derive(Debug)]
pub(super) struct Live<T: Transport> {
    pub(super) me: Weak<Self>,
    pub(super) semantics: Semantics,
    pub(super) name: Arc<str>,
    pub(super) transport: Arc<T>,
    runtime: Handle,
    pub(super) registry: Weak<Registry<T>>,
    /// The tables in force: those that the governing snapshot holds, or newer ones.
    current: ArcSwap<Version<T::Conn>>,
    changes: Notify,
    governing: Mutex<Governing<T>>,
    pub(super) state: Mutex<State<T::Conn>>,
}

/// The configuration in force and the snapshots that are in use.
#[derive(Debug)]
pub(super) struct Governing<T: Transport> {
    pub(super) config: Option<(Arc<Cluster>, Arc<Endpoints>)>,
    /// `None`: plaintext.
    pub(super) tls: Option<Arc<Numbered>>,
    snapshot: Weak<ClusterSnapshot<T>>,
    /// All of them, the oldest first.
    snapshots: Vec<Weak<ClusterSnapshot<T>>>,
}

// === impl Live ===

impl<T: Transport> Live<T> {
    /// # Panics
    /// Outside a tokio runtime.
    pub(super) fn new(
        semantics: Semantics,
        name: Arc<str>,
        transport: Arc<T>,
        registry: Weak<Registry<T>>,
    ) -> Arc<Self> {
        let version = Arc::new(Version::new(semantics, Box::default()));
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            semantics,
            name,
            transport,
            runtime: Handle::current(),
            registry,
            current: ArcSwap::new(Arc::clone(&version)),
            changes: Notify::new(),
            governing: Mutex::new(Governing {
                config: None,
                tls: None,
                snapshot: Weak::new(),
                snapshots: Vec::new(),
            }),
            state: Mutex::new(State::new(semantics, version)),
        })
    }

    /// The snapshot of this configuration, which governs from now on.
    pub(super) fn update(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        endpoints: &Arc<Endpoints>,
        build: impl FnOnce(Arc<Version<T::Conn>>) -> ClusterSnapshot<T>,
    ) -> Arc<ClusterSnapshot<T>> {
        // Dropped after the lock: the last reference to a snapshot takes it again.
        let governs;
        let mut actions = Actions::default();
        let snapshot = {
            let mut governing = self.governing.lock();
            governs = governing.snapshot.upgrade();
            if let Some(snapshot) = &governs
                && snapshot.is_of(cluster, endpoints)
            {
                return Arc::clone(snapshot);
            }
            let version = self.apply(&mut governing, cluster, endpoints, &mut actions);
            let snapshot = Arc::new(build(version));
            governing.snapshots.retain(|old| old.strong_count() != 0);
            governing.snapshots.push(Arc::downgrade(&snapshot));
            governing.snapshot = Arc::downgrade(&snapshot);
            snapshot
        };
        self.run(actions);
        snapshot
    }

    /// A snapshot is used no more. If it was the one that governs, the newest of the others does.
    pub(super) fn released(&self, snapshot: &ClusterSnapshot<T>) {
        let heir;
        let mut actions = Actions::default();
        {
            let mut governing = self.governing.lock();
            governing.snapshots.retain(|old| old.strong_count() != 0);
            if !std::ptr::eq(governing.snapshot.as_ptr(), snapshot) {
                return;
            }
            heir = governing.snapshots.iter().rev().find_map(Weak::upgrade);
            let Some(heir) = &heir else { return };
            governing.snapshot = Arc::downgrade(heir);
            self.apply(
                &mut governing,
                heir.config(),
                heir.endpoints(),
                &mut actions,
            );
        }
        self.run(actions);
    }

    /// Sends picks to new tables, also of those who hold older ones.
    pub(super) fn publish(&self, old: &Version<T::Conn>, new: &Arc<Version<T::Conn>>) {
        self.current.store(Arc::clone(new));
        old.activate(None);
    }

    /// Picks by the tables in force; for those who hold older ones, or found nothing ready.
    #[cold]
    pub(super) fn pick(&self, cx: &PickCx<'_>, from: &Discovery) -> Picked<T::Conn> {
        if let Some(endpoint) = self.current.load().pick(cx) {
            return Picked::Endpoint(Arc::clone(endpoint));
        }
        let mut state = self.state.lock();
        if let Some(endpoint) = state.version.pick(cx) {
            return Picked::Endpoint(Arc::clone(endpoint));
        }
        match state.failure(&self.name, from) {
            Some(reason) => Picked::Fail(reason),
            None => Picked::Wait,
        }
    }

    /// Whether what takes picks has an endpoint that is ready.
    pub(super) fn is_usable(&self) -> bool {
        self.current.load().is_usable()
    }

    /// How it does.
    pub(super) fn standing(&self) -> Standing {
        self.state.lock().chooser.standing()
    }

    pub(super) fn changes(&self) -> &Notify {
        &self.changes
    }

    /// Sees to it that [`on_timer`](Self::on_timer) runs when there is something to do.
    pub(super) fn arm(&self, state: &mut State<T::Conn>) {
        let wanted = state.deadline();
        if wanted == state.timer.as_ref().map(Timer::at) {
            return;
        }
        state.timer = wanted.map(|at| {
            let me = Weak::clone(&self.me);
            Timer::new(&self.runtime, at, async move {
                if let Some(live) = me.upgrade() {
                    live.on_timer();
                }
            })
        });
    }

    fn on_timer(&self) {
        let mut actions = Actions::default();
        {
            let mut governing = self.governing.lock();
            let now = Instant::now();
            let expired = {
                let mut state = self.state.lock();
                state.timer = None;
                state.sweep(now, &mut actions);
                let expired = state.chooser.expired(now);
                for &priority in &expired {
                    state.discard(priority, &mut actions);
                }
                if expired.is_empty() {
                    state.chooser.elapse(now);
                    state.settle(now, &mut actions);
                    self.arm(&mut state);
                }
                expired
            };
            if !expired.is_empty()
                && let Some((cluster, endpoints)) = governing.config.clone()
            {
                self.apply(&mut governing, &cluster, &endpoints, &mut actions);
            }
        }
        self.run(actions);
    }

    /// Does what was decided under the locks, without them.
    fn run(&self, actions: Actions<T::Conn>) {
        if !actions.connect.is_empty() {
            // Whoever asks, and from wherever: the connections are everybody's.
            let _guard = self.runtime.enter();
            for endpoint in &actions.connect {
                self.transport.connect(&endpoint.conn, &endpoint.link);
            }
        }
        for endpoint in &actions.retire {
            self.transport.retire(&endpoint.conn);
        }
        if actions.wake {
            self.changes.notify_waiters();
        }
    }
}

impl<T: Transport> Observer for Live<T> {
    fn changed(&self, link: &LinkState, _from: Connectivity, to: Connectivity) {
        let mut actions = Actions::default();
        {
            let mut state = self.state.lock();
            state.observe(link, to, Instant::now(), &mut actions);
            self.arm(&mut state);
        }
        self.run(actions);
    }
}

impl<T: Transport> Drop for Live<T> {
    fn drop(&mut self) {
        if let Some(registry) = self.registry.upgrade() {
            let key = (self.semantics, Arc::clone(&self.name));
            registry.clusters.forget(&key);
        }
        let state = self.state.get_mut();
        state.timer = None;
        for entry in state.entries.drain() {
            self.transport.retire(&entry.endpoint.conn);
        }
    }
}
