use tokio::time::Instant;

use super::{
    Connectivity,
    failover::RETENTION,
    priority_load::{Level, Rules, Share, priority_load},
    version::Which,
};

/// Which priorities take the calls of a cluster under HTTP semantics, and with which shares: pure
/// logic, without endpoints, tasks or timers.
///
/// An endpoint is healthy if the control plane says nothing else *and* the last attempt to connect
/// to it did not fail. The latter is known to us and not to Envoy, which would go on sending to it
/// until a health check or outlier detection finds out. One that nobody asked yet is healthy.
#[derive(Debug)]
pub(super) struct Spread {
    rules: Rules,
    priorities: Vec<Priority>,
    /// Whether an endpoint of those that share the load has not failed.
    is_hopeful: bool,
}

/// The endpoints of one priority that have not failed, by [`Which`]: the last are the unhealthy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Census {
    well: [u32; 3],
    /// Whether some had a connection, or were about to.
    is_connected: bool,
}

#[derive(Debug, Clone, Default)]
struct Priority {
    /// Of whatever health, but for those that drain.
    total: u32,
    census: Census,
    share: Share,
    /// Whether these endpoints are to be kept connected, by [`Which`].
    asked: [bool; 3],
    /// It takes no load, and is kept until then.
    expiry: Option<Instant>,
}

// === impl Census ===

impl Census {
    pub(super) fn add(&mut self, which: Which, state: Connectivity) {
        let which = which as usize;
        self.well[which] += u32::from(state != Connectivity::Failing);
        self.is_connected |= matches!(state, Connectivity::Ready | Connectivity::Connecting);
    }

    fn remove(&mut self, which: Which, state: Connectivity) {
        let count = &mut self.well[which as usize];
        *count = count.saturating_sub(u32::from(state != Connectivity::Failing));
    }

    fn of(self, which: Which) -> u32 {
        self.well[which as usize]
    }
}

// === impl Spread ===

impl Spread {
    /// Without priorities.
    pub(super) fn new() -> Self {
        Self {
            rules: Rules::new(100, 0.0),
            priorities: Vec::new(),
            is_hopeful: false,
        }
    }

    /// Takes the priorities of a new configuration, highest first, each as the number of its
    /// endpoints. What takes part in each must be told by [`set_census`](Self::set_census).
    ///
    /// A priority whose endpoints were to be kept connected still has them so, by its rank.
    pub(super) fn configure(&mut self, rules: Rules, totals: impl IntoIterator<Item = u32>) {
        let mut old = std::mem::take(&mut self.priorities).into_iter();
        self.rules = rules;
        self.priorities = totals
            .into_iter()
            .map(|total| Priority {
                total,
                ..old.next().unwrap_or_default()
            })
            .collect();
    }

    /// Tells what all endpoints of a priority report.
    pub(super) fn set_census(&mut self, priority: usize, census: Census) {
        if let Some(priority) = self.priorities.get_mut(priority) {
            priority.census = census;
        }
    }

    /// Tells that one endpoint of a priority reports another state.
    pub(super) fn moved(
        &mut self,
        priority: usize,
        which: Which,
        from: Connectivity,
        to: Connectivity,
    ) {
        if let Some(priority) = self.priorities.get_mut(priority) {
            priority.census.remove(which, from);
            priority.census.add(which, to);
        }
    }

    /// Which endpoints of a priority are to be kept connected.
    pub(super) fn asked(&self, priority: usize) -> impl Fn(Which) -> bool + use<> {
        let asked = self.priorities.get(priority).map(|p| p.asked);
        move |which| asked.is_some_and(|asked| asked[which as usize])
    }

    /// Shares the load anew, and says whether that changed anything for picks.
    pub(super) fn balance(&mut self, now: Instant) -> bool {
        let levels: Vec<_> = self.levels().collect();
        let mut changed = false;
        let mut is_hopeful = false;
        let shares = priority_load(&levels, self.rules);
        for (priority, share) in self.priorities.iter_mut().zip(shares) {
            changed |= priority.share != share;
            priority.share = share;
            is_hopeful |= priority.is_hopeful();
            priority.expiry = match priority.expiry {
                _ if share.sum() != 0 => None,
                None if priority.is_connected() => Some(now + RETENTION),
                expiry => expiry,
            };
        }
        changed |= self.is_hopeful != is_hopeful;
        self.is_hopeful = is_hopeful;
        changed
    }

    /// The first priority with endpoints that take load and were not asked to connect: now they
    /// are.
    pub(super) fn start(&mut self) -> Option<usize> {
        self.priorities.iter_mut().position(Priority::start)
    }

    /// The pools that share the load, each with its percents.
    pub(super) fn shares(&self) -> impl Iterator<Item = (usize, Which, u32)> {
        self.priorities
            .iter()
            .enumerate()
            .flat_map(|(index, priority)| {
                let share = priority.share;
                let pools = match share.panic {
                    true => [(Which::All, share.sum()), (Which::Degraded, 0)],
                    false => [
                        (Which::Healthy, share.healthy),
                        (Which::Degraded, share.degraded),
                    ],
                };
                pools.map(|(which, percent)| (index, which, percent))
            })
            .filter(|&(.., percent)| percent != 0)
    }

    /// What is known of each priority.
    pub(super) fn levels(&self) -> impl Iterator<Item = Level> {
        self.priorities.iter().map(Priority::level)
    }

    /// Whether an endpoint of those that share the load is ready or may be soon.
    pub(super) fn is_hopeful(&self) -> bool {
        self.is_hopeful
    }

    /// The priorities that took no load for long, whose life [`elapse`](Self::elapse) ends.
    pub(super) fn expired(&self, now: Instant) -> Vec<usize> {
        let expired = |priority: &Priority| priority.expiry.is_some_and(|at| at <= now);
        (0..self.priorities.len())
            .filter(|&index| expired(&self.priorities[index]))
            .collect()
    }

    /// Ends the lives that are over by `now`.
    pub(super) fn elapse(&mut self, now: Instant) {
        for priority in &mut self.priorities {
            if priority.expiry.take_if(|at| *at <= now).is_some() {
                priority.asked = [false; 3];
                priority.census.is_connected = false;
            }
        }
    }

    /// When [`elapse`](Self::elapse) has something to do next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let expiries = self.priorities.iter().filter_map(|p| p.expiry);
        expiries.min()
    }
}

// === impl Priority ===

impl Priority {
    fn level(&self) -> Level {
        Level {
            total: self.total,
            healthy: self.census.of(Which::Healthy),
            degraded: self.census.of(Which::Degraded),
        }
    }

    /// Whether there is anything to be given up when it takes no load.
    fn is_connected(&self) -> bool {
        self.asked.contains(&true) || self.census.is_connected
    }

    /// Whether such endpoints take load.
    fn takes(&self, which: Which) -> bool {
        let share = self.share;
        match which {
            _ if share.panic => share.sum() != 0,
            Which::Healthy => share.healthy != 0,
            Which::Degraded => share.degraded != 0,
            Which::All => false,
        }
    }

    fn is_hopeful(&self) -> bool {
        let all = [Which::Healthy, Which::Degraded, Which::All];
        all.into_iter()
            .any(|which| self.takes(which) && self.census.of(which) != 0)
    }

    /// Whether some take load that did not; the degraded, once they did, are asked on, so that it is
    /// known when they are well again. The unhealthy are asked in a panic and not after.
    fn start(&mut self) -> bool {
        let mut news = false;
        for which in [Which::Healthy, Which::Degraded, Which::All] {
            let takes = self.takes(which);
            let asked = &mut self.asked[which as usize];
            news |= takes && !*asked;
            *asked = takes || (*asked && which != Which::All);
        }
        news
    }
}
