use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::Connectivity;
use crate::config::LocalityId;

/// How long a priority may connect before the next one is tried as well.
pub(super) const FAILOVER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a priority that is not needed any more is kept.
pub(super) const RETENTION: Duration = Duration::from_secs(15 * 60);

/// Which priority takes the calls of a cluster (gRFC A56, with the removal of gRFC A115): pure
/// logic, without endpoints, tasks or timers. `K` is what a priority keeps its identity by: its
/// localities, or the cluster that it is for an aggregate one.
#[derive(Debug)]
pub(super) struct Failover<K = Arc<LocalityId>> {
    children: Vec<Child<K>>,
    chosen: Option<(usize, Connectivity)>,
}

/// How many endpoints report each [`Connectivity`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally([u32; 4]);

/// One priority. It keeps its identity when its localities move to another rank.
#[derive(Debug)]
struct Child<K> {
    ids: Vec<K>,
    /// Whether the priority was needed at some time and its endpoints are to be connected.
    exists: bool,
    tally: Tally,
    state: Connectivity,
    /// It was READY or IDLE more recently than it failed.
    usable: bool,
    /// It is connecting and has until then.
    failover: Option<Instant>,
    /// It is not needed, and kept until then.
    expiry: Option<Instant>,
}

// === impl Tally ===

impl Tally {
    pub(super) fn add(&mut self, state: Connectivity) {
        self.0[state as usize] += 1;
    }

    fn remove(&mut self, state: Connectivity) {
        let count = &mut self.0[state as usize];
        *count = count.saturating_sub(1);
    }

    /// The state of the whole, as `round_robin` reports it; of nothing: failing.
    fn aggregate(self) -> Connectivity {
        use Connectivity::*;
        [Ready, Connecting, Idle]
            .into_iter()
            .find(|&state| self.0[state as usize] != 0)
            .unwrap_or(Failing)
    }
}

// === impl Failover ===

impl<K: PartialEq> Failover<K> {
    /// Without priorities.
    pub(super) fn new() -> Self {
        Self {
            children: Vec::new(),
            chosen: None,
        }
    }

    /// Takes the priorities of a new configuration, each with what it is known by, highest first.
    ///
    /// A priority that has something in common with an old one carries on its life; old ones that none
    /// carries on are gone. What each tallies now must be told by [`set_tally`](Self::set_tally).
    pub(super) fn configure(&mut self, priorities: Vec<Vec<K>>) {
        let mut old: Vec<_> = self.children.drain(..).map(Some).collect();
        self.children = priorities
            .into_iter()
            .map(|ids| {
                let heir = ids.iter().find_map(|id| {
                    old.iter_mut()
                        .find(|child| child.as_ref().is_some_and(|c| c.ids.contains(id)))
                        .and_then(Option::take)
                });
                match heir {
                    Some(child) => Child { ids, ..child },
                    None => Child::new(ids),
                }
            })
            .collect();
        self.chosen = None;
    }

    /// Whether the endpoints of a priority are to be kept connected.
    pub(super) fn exists(&self, priority: usize) -> bool {
        self.children
            .get(priority)
            .is_some_and(|child| child.exists)
    }

    /// Tells what all endpoints of a priority report.
    pub(super) fn set_tally(&mut self, priority: usize, tally: Tally, now: Instant) {
        if let Some(child) = self.children.get_mut(priority) {
            child.tally = tally;
            child.report(now);
        }
    }

    /// Tells that one endpoint of a priority reports another state.
    pub(super) fn moved(
        &mut self,
        priority: usize,
        from: Connectivity,
        to: Connectivity,
        now: Instant,
    ) {
        if let Some(child) = self.children.get_mut(priority) {
            child.tally.remove(from);
            child.tally.add(to);
            child.report(now);
        }
    }

    /// Chooses the priority that takes calls now, and says how it is. `None`: there is none.
    ///
    /// `start` is called for each priority that is needed for the first time: it asks the
    /// endpoints to connect and returns what they report then.
    pub(super) fn choose(
        &mut self,
        now: Instant,
        mut start: impl FnMut(usize) -> Tally,
    ) -> Option<(usize, Connectivity)> {
        let chosen = self.choose_index(now, &mut start);
        self.chosen = chosen.map(|priority| (priority, self.children[priority].state));
        self.chosen
    }

    /// What was chosen last, and how it was then.
    pub(super) fn chosen(&self) -> Option<(usize, Connectivity)> {
        self.chosen
    }

    fn choose_index(
        &mut self,
        now: Instant,
        start: &mut impl FnMut(usize) -> Tally,
    ) -> Option<usize> {
        for (priority, child) in self.children.iter_mut().enumerate() {
            if child.exists {
                child.expiry = None;
            } else {
                child.create(start(priority), now);
            }
            if matches!(child.state, Connectivity::Ready | Connectivity::Idle) {
                for lower in &mut self.children[priority + 1..] {
                    if lower.exists {
                        lower.expiry.get_or_insert(now + RETENTION);
                    }
                }
                return Some(priority);
            }
            if child.failover.is_some() {
                return Some(priority);
            }
        }
        self.children
            .iter()
            .position(|child| child.state == Connectivity::Connecting)
            .or_else(|| self.children.len().checked_sub(1))
    }

    /// The priorities that were not needed for long, whose life [`elapse`](Self::elapse) ends.
    pub(super) fn expired(&self, now: Instant) -> Vec<usize> {
        let expired = |child: &Child<K>| child.expiry.is_some_and(|at| at <= now);
        (0..self.children.len())
            .filter(|&priority| expired(&self.children[priority]))
            .collect()
    }

    /// Ends the failover timers and lives that are over by `now`; to be followed by
    /// [`choose`](Self::choose).
    pub(super) fn elapse(&mut self, now: Instant) {
        for child in &mut self.children {
            child.failover.take_if(|at| *at <= now);
            if child.expiry.is_some_and(|at| at <= now) {
                *child = Child::new(std::mem::take(&mut child.ids));
            }
        }
    }

    /// When [`elapse`](Self::elapse) has something to do next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.children
            .iter()
            .flat_map(|child| [child.failover, child.expiry])
            .flatten()
            .min()
    }
}

// === impl Child ===

impl<K> Child<K> {
    fn new(ids: Vec<K>) -> Self {
        Self {
            ids,
            exists: false,
            tally: Tally::default(),
            state: Connectivity::Connecting,
            usable: false,
            failover: None,
            expiry: None,
        }
    }

    fn create(&mut self, tally: Tally, now: Instant) {
        self.exists = true;
        self.state = Connectivity::Connecting;
        self.failover = Some(now + FAILOVER_TIMEOUT);
        self.tally = tally;
        self.report(now);
    }

    /// Takes over what the endpoints report together.
    fn report(&mut self, now: Instant) {
        if !self.exists {
            return;
        }
        let state = self.tally.aggregate();
        match state {
            Connectivity::Ready | Connectivity::Idle => {
                self.usable = true;
                self.failover = None;
            }
            Connectivity::Failing => {
                self.usable = false;
                self.failover = None;
            }
            // From CONNECTING to CONNECTING the timer runs on.
            Connectivity::Connecting => {
                if self.state != Connectivity::Connecting && self.usable {
                    self.failover = Some(now + FAILOVER_TIMEOUT);
                }
            }
        }
        self.state = state;
    }
}

#[cfg(test)]
mod tests {
    use super::{Connectivity::*, *};

    /// Priorities of one endpoint each, which reports what the test says.
    struct Bench {
        failover: Failover,
        states: Vec<Connectivity>,
        started: Vec<usize>,
        now: Instant,
    }

    impl Bench {
        fn new(priorities: usize) -> Self {
            let mut failover = Failover::new();
            let place = |priority: usize| {
                vec![Arc::new(LocalityId {
                    zone: priority.to_string(),
                    ..LocalityId::default()
                })]
            };
            failover.configure((0..priorities).map(place).collect());
            let mut bench = Self {
                failover,
                states: vec![Connecting; priorities],
                started: Vec::new(),
                now: Instant::now(),
            };
            bench.choose();
            bench
        }

        fn choose(&mut self) -> Option<(usize, Connectivity)> {
            let (states, started) = (&self.states, &mut self.started);
            self.failover.choose(self.now, |priority| {
                started.push(priority);
                let mut tally = Tally::default();
                tally.add(states[priority]);
                tally
            })
        }

        fn report(&mut self, priority: usize, to: Connectivity) -> Option<(usize, Connectivity)> {
            let from = std::mem::replace(&mut self.states[priority], to);
            self.failover.moved(priority, from, to, self.now);
            self.choose()
        }

        fn pass(&mut self, seconds: u64) -> (Option<(usize, Connectivity)>, Vec<usize>) {
            self.now += Duration::from_secs(seconds);
            let expired = self.failover.expired(self.now);
            self.failover.elapse(self.now);
            (self.choose(), expired)
        }
    }

    #[test]
    fn high_priority_init_idle() {
        let mut bench = Bench::new(2);
        assert_eq!(bench.report(0, Idle), Some((0, Idle)));
        assert_eq!(bench.pass(60).0, Some((0, Idle)));
        assert_eq!(
            bench.started,
            [0],
            "an idle priority is in use: no lower one is started"
        );
        assert_eq!(bench.report(0, Failing), Some((1, Connecting)));
    }

    #[test]
    fn init_timer_not_restarted_on_connecting_to_connecting() {
        let mut bench = Bench::new(2);
        bench.pass(9);
        assert_eq!(bench.report(0, Connecting), Some((0, Connecting)));
        assert_eq!(bench.pass(1).0, Some((1, Connecting)));
    }

    #[test]
    fn timer_starts_again_when_connecting_after_ready_or_idle() {
        for usable in [Ready, Idle] {
            let mut bench = Bench::new(2);
            bench.report(0, usable);
            bench.pass(100);
            assert_eq!(bench.report(0, Connecting), Some((0, Connecting)));
            assert_eq!(bench.pass(9).0, Some((0, Connecting)));
            assert_eq!(bench.pass(1).0, Some((1, Connecting)));
        }
    }

    #[test]
    fn timer_does_not_start_when_connecting_after_failing() {
        let mut bench = Bench::new(2);
        bench.report(0, Ready);
        bench.report(0, Failing);
        assert_eq!(bench.report(0, Connecting), Some((1, Connecting)));
        bench.report(1, Failing);
        assert_eq!(
            bench.choose(),
            Some((0, Connecting)),
            "the one that still tries"
        );
        assert_eq!(
            bench.report(0, Failing),
            Some((1, Failing)),
            "the last when all fail"
        );
    }

    #[test]
    fn expiry_counts_from_the_deactivation_and_is_cancelled_by_use() {
        let mut bench = Bench::new(2);
        bench.report(0, Failing);
        bench.report(1, Ready);
        bench.report(0, Ready);
        assert_eq!(bench.pass(800).1, [0; 0]);
        bench.report(0, Ready);
        assert_eq!(bench.pass(99).1, [0; 0]);
        bench.report(0, Failing);
        assert_eq!(bench.pass(2).1, [0; 0]);
        bench.report(0, Ready);
        assert_eq!(bench.pass(900).1, [1]);
        assert_eq!(bench.started, [0, 1]);
        assert_eq!(bench.failover.deadline(), None);
    }

    #[test]
    fn without_priorities_nothing_is_chosen() {
        assert_eq!(Bench::new(0).choose(), None);
    }
}
