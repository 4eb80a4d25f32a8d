use std::{collections::VecDeque, fmt::Write as _, num::NonZeroU32, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Connectivity, Endpoint, LinkState,
    by_key::{ByKey, HasLink},
    chooser::Chooser,
    failover::Tally,
    spread::Census,
    timer::Timer,
    version::{Version, Which},
};
use crate::{Semantics, config::Discovery};

/// How long an endpoint that left the configuration is kept, so that targets that take over one
/// after the other do not close and reopen its connections.
pub(super) const REMOVAL_GRACE: Duration = Duration::from_secs(1);

/// Endpoints a failure reason names.
const NAMED: usize = 3;

/// What is live of one cluster. Behind a mutex that no pick takes.
#[derive(Debug)]
pub(super) struct State<C> {
    /// The tables in force.
    pub(super) version: Arc<Version<C>>,
    pub(super) entries: Entries<C>,
    pub(super) chooser: Chooser,
    /// Endpoints of the configuration that are not opened, for what it says of their health.
    pub(super) kept_out: usize,
    /// Removed endpoints, the first to go in front. One that came back has another place by then.
    pub(super) removed: VecDeque<Removed<C>>,
    /// How often endpoints were removed.
    pub(super) removals: u32,
    pub(super) timer: Option<Timer>,
    failure: Option<Arc<str>>,
}

pub(super) type Entries<C> = ByKey<Entry<C>>;

/// What is known of an endpoint. There are many: each byte counts.
#[derive(Debug)]
pub(super) struct Entry<C> {
    pub(super) endpoint: Arc<Endpoint<C>>,
    /// Its state as a policy sees it: once failing, failing until it is ready (gRFC A62).
    pub(super) reported: Connectivity,
    pub(super) place: Place,
}

/// Where an endpoint is in the tables in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Its pool says which priority it is of, and what the control plane says of its health.
    Member {
        seat: Seat,
        /// Its place in the one group of all endpoints of its priority, from one on, if it has a seat
        /// there, too.
        among_all: Option<NonZeroU32>,
    },
    /// Nowhere, since that many [removals](State::removals).
    Removed(u32),
}

/// To be retired at some time.
#[derive(Debug)]
pub(super) struct Removed<C> {
    pub(super) at: Instant,
    pub(super) removal: u32,
    pub(super) endpoint: Arc<Endpoint<C>>,
}

/// A place in a pool: small, as no message has room for more than four billion endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) pool: u32,
    pub(super) group: u32,
    pub(super) index: u32,
}

/// What to do once no lock is held: the transport may report back from within.
#[derive(Debug)]
pub(super) struct Actions<C> {
    pub(super) connect: Vec<Arc<Endpoint<C>>>,
    pub(super) retire: Vec<Arc<Endpoint<C>>>,
    pub(super) wake: bool,
}

impl<C> Default for Actions<C> {
    fn default() -> Self {
        Self {
            connect: Vec::new(),
            retire: Vec::new(),
            wake: false,
        }
    }
}

// === impl State ===

impl<C> State<C> {
    pub(super) fn new(semantics: Semantics, version: Arc<Version<C>>) -> Self {
        Self {
            version,
            entries: ByKey::new(),
            chooser: Chooser::new(semantics),
            kept_out: 0,
            removed: VecDeque::new(),
            removals: 0,
            timer: None,
            failure: None,
        }
    }

    /// Takes in that a link went `to` a state.
    pub(super) fn observe(
        &mut self,
        link: &LinkState,
        to: Connectivity,
        now: Instant,
        actions: &mut Actions<C>,
    ) {
        let Some(entry) = self.entries.get_mut(link.key()) else {
            return;
        };
        // An endpoint that was replaced under the same key may still report.
        if !std::ptr::eq(Arc::as_ptr(&entry.endpoint.link), link) {
            return;
        }
        let Place::Member { seat, among_all } = entry.place else {
            return;
        };
        let (priority, which) = self.version.whose(seat.pool as usize);
        let among_all = self.version.seat_among_all(priority, among_all);
        for seat in [Some(seat), among_all].into_iter().flatten() {
            self.version.refresh(seat);
        }
        let before = entry.reported;
        entry.reported = step(before, to);
        if self.chooser.exists(priority, which) {
            entry.ask(actions);
        } else {
            entry.catch_up();
        }
        actions.wake |= entry.reported == Connectivity::Ready;
        match &mut self.chooser {
            Chooser::Failover(failover) => failover.moved(priority, before, entry.reported, now),
            Chooser::Spread(spread) => spread.moved(priority, which, before, entry.reported),
        }
        self.settle(now, actions);
    }

    /// Chooses anew who takes calls, and sends picks there.
    pub(super) fn settle(&mut self, now: Instant, actions: &mut Actions<C>) {
        let (version, entries) = (&self.version, &mut self.entries);
        match &mut self.chooser {
            Chooser::Failover(failover) => {
                let before = failover.chosen();
                let chosen = failover.choose(now, |priority| {
                    ask_priority(version, entries, priority, actions)
                });
                version.activate(chosen.map(|(priority, _)| priority));
                actions.wake |= chosen != before;
            }
            Chooser::Spread(spread) => {
                actions.wake |= spread.balance(now);
                // Asking may tell of endpoints that failed meanwhile.
                while let Some(priority) = spread.start() {
                    let exists = spread.asked(priority);
                    let census = ask_some(version, entries, priority, exists, actions);
                    spread.set_census(priority, census);
                    actions.wake |= spread.balance(now);
                }
                let pools = spread
                    .shares()
                    .map(|(priority, which, percent)| (version.pool(priority, which), percent));
                version.activate_shares(&pools.collect::<Vec<_>>());
            }
        }
        self.failure = None;
    }

    /// Asks the endpoints in use to connect and counts what all report.
    pub(super) fn tally(&mut self, now: Instant, actions: &mut Actions<C>) {
        let (version, entries) = (&self.version, &mut self.entries);
        for priority in 0..version.priorities() {
            match &mut self.chooser {
                Chooser::Failover(failover) if failover.exists(priority) => {
                    let tally = ask_priority(version, entries, priority, actions);
                    failover.set_tally(priority, tally, now);
                }
                Chooser::Failover(_) => {}
                Chooser::Spread(spread) => {
                    let exists = spread.asked(priority);
                    let census = ask_some(version, entries, priority, exists, actions);
                    spread.set_census(priority, census);
                }
            }
        }
    }

    /// Drops the removed endpoints whose time is over.
    pub(super) fn sweep(&mut self, now: Instant, actions: &mut Actions<C>) {
        while let Some(removed) = self.removed.front()
            && removed.at <= now
        {
            let key = removed.endpoint.link.key();
            if self
                .entries
                .get(key)
                .is_some_and(|entry| entry.place == Place::Removed(removed.removal))
                && let Some(entry) = self.entries.remove(key)
            {
                actions.retire.push(entry.endpoint);
            }
            self.removed.pop_front();
        }
    }

    /// Takes the endpoints of a priority out, so that they are opened anew.
    pub(super) fn discard(&mut self, priority: usize, actions: &mut Actions<C>) {
        for endpoint in self.version.endpoints_of(priority) {
            if let Some(entry) = self.entries.remove(endpoint.link.key()) {
                actions.retire.push(entry.endpoint);
            }
        }
    }

    /// When there is something to do without a report.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let removal = self.removed.front().map(|removed| removed.at);
        self.chooser.deadline().into_iter().chain(removal).min()
    }

    /// Why no endpoint can be picked; `None`: one may be ready soon.
    pub(super) fn failure(&mut self, cluster: &str, from: &Discovery) -> Option<Arc<str>> {
        if self.chooser.is_hopeful() {
            return None;
        }
        let reason = match self.failure.take() {
            Some(reason) => reason,
            None => self.describe_failure(cluster, from).into(),
        };
        self.failure = Some(Arc::clone(&reason));
        Some(reason)
    }

    fn describe_failure(&self, cluster: &str, from: &Discovery) -> String {
        let total = self.version.endpoints().count();
        if total == 0 {
            let mut text = format!("no endpoints in {from} of cluster {cluster:?}");
            if self.kept_out != 0 {
                let _ = write!(text, " but {} that are not healthy", self.kept_out);
            }
            return text;
        }
        let mut text = format!("all {total} endpoints of cluster {cluster:?} failed: ");
        for (nth, endpoint) in self.version.endpoints().take(NAMED).enumerate() {
            let separator = if nth == 0 { "" } else { "; " };
            // Writing to a string does not fail.
            let _ = write!(text, "{separator}{}", endpoint.link.address());
            if let Some(error) = endpoint.link.last_error() {
                let _ = write!(text, ": {error}");
            }
        }
        if total > NAMED {
            let _ = write!(text, "; and {} more", total - NAMED);
        }
        text
    }
}

/// Asks the idle endpoints of a priority to connect; what all of them report then.
fn ask_priority<C>(
    version: &Version<C>,
    entries: &mut Entries<C>,
    priority: usize,
    actions: &mut Actions<C>,
) -> Tally {
    let mut tally = Tally::default();
    for endpoint in version.endpoints_of(priority) {
        if let Some(entry) = entries.get_mut(endpoint.link.key()) {
            entry.ask(actions);
            tally.add(entry.reported);
        }
    }
    tally
}

/// Asks those idle endpoints of a priority to connect that are in use; what all of them report
/// then.
fn ask_some<C>(
    version: &Version<C>,
    entries: &mut Entries<C>,
    priority: usize,
    exists: impl Fn(Which) -> bool,
    actions: &mut Actions<C>,
) -> Census {
    let mut census = Census::default();
    for endpoint in version.endpoints_of(priority) {
        if let Some(entry) = entries.get_mut(endpoint.link.key())
            && let Place::Member { seat, .. } = entry.place
        {
            let (_, which) = version.whose(seat.pool as usize);
            if exists(which) {
                entry.ask(actions);
            } else {
                entry.catch_up();
            }
            census.add(which, entry.reported);
        }
    }
    census
}

// === impl Seat ===

impl Seat {
    pub(super) fn new(pool: usize, group: usize, index: usize) -> Self {
        Self {
            pool: pool as u32,
            group: group as u32,
            index: index as u32,
        }
    }
}

// === impl Entry ===

impl<C> Entry<C> {
    pub(super) fn new(endpoint: Arc<Endpoint<C>>, place: Place) -> Self {
        Self {
            endpoint,
            reported: Connectivity::Idle,
            place,
        }
    }

    /// Has it connect if it is idle. It counts as connecting from then on: what the transport
    /// does about it may be reported a moment later.
    fn ask(&mut self, actions: &mut Actions<C>) {
        if self.catch_up() == Connectivity::Idle {
            actions.connect.push(Arc::clone(&self.endpoint));
            self.reported = step(self.reported, Connectivity::Connecting);
        }
    }

    fn catch_up(&mut self) -> Connectivity {
        let now = self.endpoint.link.connectivity();
        self.reported = step(self.reported, now);
        now
    }
}

impl<C> HasLink for Entry<C> {
    fn link(&self) -> &LinkState {
        &self.endpoint.link
    }
}

/// What an endpoint reports when its link goes `to` a state.
fn step(reported: Connectivity, to: Connectivity) -> Connectivity {
    match (reported, to) {
        (_, Connectivity::Ready | Connectivity::Failing) => to,
        (Connectivity::Failing, _) => Connectivity::Failing,
        _ => to,
    }
}
