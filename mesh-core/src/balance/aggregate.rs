use std::{
    fmt,
    future::poll_fn,
    sync::{Arc, Weak},
    task::Poll,
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, futures::Notified},
    task::AbortHandle,
    time::{Instant, sleep_until},
};

use super::{
    Balancers, ClusterSnapshot,
    balancers::Registry,
    chooser::Standing,
    failover::{Failover, RETENTION, Tally},
    priority_load::{Level, Rules, priority_load},
};
use crate::{
    Semantics,
    config::{Cluster, Endpoints, Health},
    control::SourceError,
    runtime::Transport,
};

/// An aggregate cluster: which of the clusters that stand in for it takes a call.
///
/// Under gRPC semantics each is as one priority, and the highest that is usable takes all calls
/// (gRFC A37, A56, A75). Under HTTP semantics the load is shared as if the priorities of all were
/// those of one cluster, as Envoy does it; within a cluster its own health decides who gets what.
///
/// A cluster that is not needed is not connected, and given up when it was not needed for 15
/// minutes. The newest configuration governs, whoever brought it.
pub struct Aggregate<T: Transport> {
    semantics: Semantics,
    name: Arc<str>,
    registry: Weak<Registry<T>>,
    state: Mutex<State<T>>,
    chosen: ArcSwapOption<Chosen<T>>,
    changes: Notify,
    /// Tells the task that there is something to look at.
    poke: Arc<Notify>,
    task: AbortHandle,
}

/// A cluster that stands in for an aggregate one.
#[derive(Debug)]
pub struct Leaf<T: Transport> {
    /// The cluster.
    pub cluster: Arc<ClusterSnapshot<T>>,
    /// Why its endpoints are missing or old, if they are (gRFC A74).
    pub note: Option<SourceError>,
}

/// What a [`Leaf`] is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct LeafConfig {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// Its endpoints.
    pub endpoints: Arc<Endpoints>,
    /// Why they are missing or old.
    pub note: Option<SourceError>,
}

/// Who takes calls, with their percents.
#[derive(Debug)]
struct Chosen<T: Transport>(Box<[(Arc<Leaf<T>>, u32)]>);

struct State<T: Transport> {
    slots: Vec<Slot<T>>,
    /// Under gRPC semantics.
    failover: Failover<Arc<str>>,
}

struct Slot<T: Transport> {
    config: LeafConfig,
    /// Once it was needed.
    leaf: Option<Arc<Leaf<T>>>,
    /// Under HTTP semantics: it takes no load, and is kept until then.
    expiry: Option<Instant>,
}

// === impl Aggregate ===

impl<T: Transport> Aggregate<T> {
    /// Without clusters, until [`update`](Self::update).
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(super) fn new(
        semantics: Semantics,
        name: Arc<str>,
        registry: Weak<Registry<T>>,
    ) -> Arc<Self> {
        let poke = Arc::new(Notify::new());
        Arc::new_cyclic(|me| Self {
            semantics,
            name,
            registry,
            state: Mutex::new(State {
                slots: Vec::new(),
                failover: Failover::new(),
            }),
            chosen: ArcSwapOption::empty(),
            changes: Notify::new(),
            task: tokio::spawn(follow(Weak::clone(me), Arc::clone(&poke))).abort_handle(),
            poke,
        })
    }

    /// Puts these clusters in force, the preferred first. What they do not touch lives on.
    pub(super) fn update(&self, leaves: Vec<LeafConfig>) {
        let mut state = self.state.lock();
        let old = state.slots.iter().map(|slot| &slot.config);
        if old.eq(&leaves) {
            return;
        }
        let mut old = std::mem::take(&mut state.slots);
        let slots = leaves.into_iter().map(|config| {
            let same = |slot: &Slot<T>| slot.config.cluster.name == config.cluster.name;
            match old.iter().position(same).map(|at| old.swap_remove(at)) {
                Some(slot) if slot.config == config => slot,
                Some(slot) => Slot {
                    leaf: slot.leaf.and_then(|old| {
                        let new = self.open(&config);
                        // Not before: its endpoints live on.
                        drop(old);
                        new
                    }),
                    expiry: slot.expiry,
                    config,
                },
                None => Slot {
                    config,
                    leaf: None,
                    expiry: None,
                },
            }
        });
        state.slots = slots.collect();
        let ids = state.slots.iter();
        let ids = ids.map(|slot| vec![Arc::clone(&slot.config.cluster.name)]);
        let ids = ids.collect();
        state.failover.configure(ids);
        self.choose_anew(&mut state);
        self.poke.notify_one();
        // Those that went are retired without the lock.
        drop(state);
    }

    /// The cluster that takes a call now. `None`: there is none.
    #[inline]
    pub fn choose(&self) -> Option<Arc<Leaf<T>>> {
        let chosen = self.chosen.load();
        match &*chosen.as_ref()?.0 {
            [(leaf, _)] => Some(Arc::clone(leaf)),
            leaves => {
                let mut draw = fastrand::u32(..100);
                let drawn = leaves.iter().find(|(_, percent)| match draw < *percent {
                    true => true,
                    false => {
                        draw -= percent;
                        false
                    }
                });
                drawn.map(|(leaf, _)| Arc::clone(leaf))
            }
        }
    }

    /// As [`choose`](Self::choose), by how the clusters do at this moment: for calls that found
    /// nothing ready.
    #[cold]
    pub fn choose_now(&self) -> Option<Arc<Leaf<T>>> {
        self.choose_anew(&mut self.state.lock());
        self.choose()
    }

    /// Completes when others take calls than at the time of this call.
    pub fn notified(&self) -> Notified<'_> {
        self.changes.notified()
    }

    /// Whether attempts are under way to any of the clusters.
    pub fn is_busy(&self) -> bool {
        let state = self.state.lock();
        let mut leaves = state.slots.iter().flat_map(|slot| &slot.leaf);
        leaves.any(|leaf| leaf.cluster.breaker().in_flight() > 0)
    }

    /// The clusters that are in use, now or lately.
    fn leaves(&self) -> Vec<Arc<Leaf<T>>> {
        let state = self.state.lock();
        state
            .slots
            .iter()
            .filter_map(|slot| slot.leaf.clone())
            .collect()
    }

    fn open(&self, config: &LeafConfig) -> Option<Arc<Leaf<T>>> {
        let registry = Balancers(self.registry.upgrade()?);
        Some(Arc::new(Leaf {
            cluster: registry.cluster(self.semantics, &config.cluster, &config.endpoints),
            note: config.note.clone(),
        }))
    }

    /// Decides who takes calls; when to look again without a report.
    fn choose_anew(&self, state: &mut State<T>) -> Option<Instant> {
        let now = Instant::now();
        let held = state.held();
        let (shares, deadline) = match self.semantics {
            Semantics::Grpc => self.fail_over(state, now),
            Semantics::Http => self.spread(state, now),
        };
        let leaves = state.slots.iter().zip(shares);
        let leaves: Box<[_]> = leaves
            .filter(|&(_, percent)| percent != 0)
            .filter_map(|(slot, percent)| Some((slot.leaf.clone()?, percent)))
            .collect();
        let is_same = self.chosen.load().as_ref().is_some_and(|old| {
            let mut pairs = old.0.iter().zip(&leaves);
            old.0.len() == leaves.len()
                && pairs.all(|((a, was), (b, is))| Arc::ptr_eq(a, b) && was == is)
        });
        if !is_same {
            self.chosen.store(Some(Arc::new(Chosen(leaves))));
            self.changes.notify_waiters();
        }
        // The task is to follow those that were opened, and to let go of those that were given up.
        if !is_same || state.held() != held {
            self.poke.notify_one();
        }
        deadline
    }

    /// gRPC semantics.
    fn fail_over(&self, state: &mut State<T>, now: Instant) -> (Vec<u32>, Option<Instant>) {
        let State { slots, failover } = state;
        for expired in failover.expired(now) {
            slots[expired].leaf = None;
        }
        failover.elapse(now);
        for (at, slot) in slots.iter().enumerate() {
            if failover.exists(at) {
                failover.set_tally(at, slot.tally(), now);
            }
        }
        let chosen = failover.choose(now, |at| {
            let slot = &mut slots[at];
            if slot.leaf.is_none() {
                slot.leaf = self.open(&slot.config);
            }
            slot.tally()
        });
        let mut shares = vec![0; slots.len()];
        if let Some((chosen, _)) = chosen {
            shares[chosen] = 100;
        }
        (shares, failover.deadline())
    }

    /// HTTP semantics.
    fn spread(&self, state: &mut State<T>, now: Instant) -> (Vec<u32>, Option<Instant>) {
        let levels: Vec<_> = state.slots.iter().map(Slot::levels).collect();
        let rules = Rules::new(Endpoints::DEFAULT_OVERPROVISIONING_FACTOR, PANIC_THRESHOLD);
        let mut by_level = priority_load(&levels.concat(), rules).into_iter();
        let mut shares: Vec<u32> = levels
            .iter()
            .map(|own| {
                by_level
                    .by_ref()
                    .take(own.len())
                    .map(|share| share.sum())
                    .sum()
            })
            .collect();
        if let Some(first) = shares.first_mut().filter(|_| levels.concat().is_empty()) {
            *first = 100;
        }
        for (slot, &share) in state.slots.iter_mut().zip(&shares) {
            if share != 0 {
                slot.expiry = None;
                if slot.leaf.is_none() {
                    slot.leaf = self.open(&slot.config);
                }
            } else if slot.leaf.is_some() {
                let expiry = *slot.expiry.get_or_insert(now + RETENTION);
                if expiry <= now {
                    (slot.leaf, slot.expiry) = (None, None);
                }
            }
        }
        let deadline = state.slots.iter().filter_map(|slot| slot.expiry).min();
        (shares, deadline)
    }
}

/// That of Envoy where nobody says otherwise, in percent; what an aggregate cluster says is not in
/// force.
const PANIC_THRESHOLD: f64 = 50.0;

/// Decides anew whenever one of the clusters changes, or time says so.
async fn follow<T: Transport>(aggregate: Weak<Aggregate<T>>, poke: Arc<Notify>) {
    loop {
        let Some(aggregate) = aggregate.upgrade() else {
            return;
        };
        // From here on no change is missed.
        let leaves = aggregate.leaves();
        let changes = leaves.iter().map(|leaf| leaf.cluster.notified());
        let mut changes: Vec<_> = changes.map(Box::pin).collect();
        let deadline = aggregate.choose_anew(&mut aggregate.state.lock());
        drop(aggregate);
        let change = poll_fn(|cx| {
            let mut changes = changes.iter_mut();
            match changes.any(|change| change.as_mut().poll(cx).is_ready()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        });
        let time = async {
            match deadline {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = change => {}
            () = poke.notified() => {}
            () = time => {}
        }
    }
}

impl<T: Transport> Drop for Aggregate<T> {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(registry) = self.registry.upgrade() {
            let key = (self.semantics, Arc::clone(&self.name));
            registry.aggregates.forget(&key);
        }
    }
}

impl<T: Transport> fmt::Debug for Aggregate<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aggregate")
            .field("name", &self.name)
            .field("chosen", &*self.chosen.load())
            .finish_non_exhaustive()
    }
}

// === impl State ===

impl<T: Transport> State<T> {
    /// Which clusters are in use, now or lately.
    fn held(&self) -> Vec<bool> {
        let slots = self.slots.iter();
        slots.map(|slot| slot.leaf.is_some()).collect()
    }
}

// === impl Slot ===

impl<T: Transport> Slot<T> {
    /// What the cluster reports, which counts as one endpoint does in a priority.
    fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        if let Some(leaf) = &self.leaf
            && let Standing::State(state) = leaf.cluster.standing()
        {
            tally.add(state);
        }
        tally
    }

    /// What is known of its priorities: of one that is not connected, what the configuration says.
    fn levels(&self) -> Vec<Level> {
        if let Some(leaf) = &self.leaf
            && let Standing::Levels(levels) = leaf.cluster.standing()
        {
            return levels;
        }
        let localities = &self.config.endpoints.localities;
        let priorities = localities
            .iter()
            .map(|locality| locality.priority + 1)
            .max();
        let mut levels = vec![Level::default(); priorities.unwrap_or(0) as usize];
        for locality in localities {
            let level = &mut levels[locality.priority as usize];
            for endpoint in &locality.endpoints {
                level.total += u32::from(endpoint.health != Health::Draining);
                match endpoint.health {
                    Health::Healthy | Health::Unknown => level.healthy += 1,
                    Health::Degraded => level.degraded += 1,
                    Health::Unhealthy | Health::Draining => {}
                }
            }
        }
        levels
    }
}
