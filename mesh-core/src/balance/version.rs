use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustc_hash::FxHashSet;

use super::{Endpoint, Group, Pick, PickCx, Policy, schedule::Schedule, split::Split, state::Seat};
use crate::{Semantics, config::PolicyConfig};

/// No pool: there are none, or another version has taken over.
const NOWHERE: usize = usize::MAX;
/// Several pools share the load: see [`Version::split`].
const SPLIT: usize = usize::MAX - 1;

/// The tables that picks read, built for one configuration of a cluster. All that changes in them
/// is atomic.
#[derive(Debug)]
pub(super) struct Version<C> {
    active: AtomicUsize,
    /// Under gRPC semantics one for each priority; under HTTP semantics one for each [`Which`] of
    /// each priority, in that order. Some may be empty.
    pub(super) pools: Box<[Pool<C>]>,
    /// Under HTTP semantics.
    split: Option<Box<Split>>,
}

/// Which endpoints of a priority a pool has, under HTTP semantics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Which {
    /// What the control plane does not say anything bad of. Under gRPC semantics there are no
    /// others.
    Healthy = 0,
    /// What it says to be degraded.
    Degraded = 1,
    /// These, and the unhealthy: for a panic. Empty if it would be as [`Healthy`](Self::Healthy).
    All = 2,
}

/// Groups of endpoints that a pick chooses among.
#[derive(Debug)]
pub(super) struct Pool<C> {
    pub(super) groups: Box<[Arc<Members<C>>]>,
    /// Which group; `None`: there is at most one.
    schedule: Option<Schedule>,
}

/// The endpoints of one group and the policy over them.
#[derive(Debug)]
pub(super) struct Members<C> {
    pub(super) group: Arc<Group>,
    pub(super) endpoints: Box<[Arc<Endpoint<C>>]>,
    policy: Box<dyn Policy>,
    config: PolicyConfig,
}

// === impl Version ===

impl<C> Version<C> {
    /// Over these pools, none of which is active yet.
    pub(super) fn new(semantics: Semantics, pools: Box<[Pool<C>]>) -> Self {
        let split = (semantics == Semantics::Http).then(|| {
            let mut members = pools.iter().flat_map(|pool| &pool.groups);
            let by_hash = members.any(|members| members.config.0.is_hashing());
            Box::new(Split::new(by_hash))
        });
        Self {
            active: AtomicUsize::new(NOWHERE),
            pools,
            split,
        }
    }

    /// How many endpoints have connections in each state.
    pub(super) fn connectivity(&self) -> [u32; 4] {
        let mut counts = [0; 4];
        let mut seen = FxHashSet::default();
        let groups = self.pools.iter().flat_map(|pool| &pool.groups);
        for endpoint in groups.flat_map(|members| &members.endpoints) {
            if seen.insert(Arc::as_ptr(endpoint)) {
                counts[endpoint.link.connectivity() as usize] += 1;
            }
        }
        counts
    }

    /// Sends picks to this pool from now on, or nowhere.
    pub(super) fn activate(&self, pool: Option<usize>) {
        self.active
            .store(pool.unwrap_or(NOWHERE), Ordering::Release);
    }

    /// Shares picks among these pools from now on, by percents that add up to 100.
    pub(super) fn activate_shares(&self, pools: &[(usize, u32)]) {
        match (pools, &self.split) {
            (&[_, _, ..], Some(split)) => {
                split.share(pools);
                self.active.store(SPLIT, Ordering::Release);
            }
            _ => self.activate(pools.first().map(|&(pool, _)| pool)),
        }
    }

    #[cfg(test)]
    pub(super) fn active_index(&self) -> Option<usize> {
        Some(self.active.load(Ordering::Acquire)).filter(|&index| index != NOWHERE)
    }

    /// The pools that take picks, with their percents.
    #[cfg(test)]
    pub(super) fn shares(&self) -> std::collections::BTreeMap<usize, u32> {
        match (self.active.load(Ordering::Acquire), &self.split) {
            (NOWHERE, _) => Default::default(),
            (SPLIT, Some(split)) => split.shares(),
            (pool, _) => [(pool, 100)].into(),
        }
    }

    #[inline]
    pub(super) fn pick(&self, cx: &PickCx<'_>) -> Option<&Arc<Endpoint<C>>> {
        match self.pools.get(self.active.load(Ordering::Acquire)) {
            Some(pool) => pool.pick(cx),
            None => self.pick_shared(cx),
        }
    }

    /// Picks from one of the pools that share the load, or from another one of them where that has
    /// nobody that is ready and was not tried.
    #[inline(never)]
    fn pick_shared(&self, cx: &PickCx<'_>) -> Option<&Arc<Endpoint<C>>> {
        let mut picked = None;
        for pool in self.shared(cx) {
            match pool.pick(cx) {
                Some(endpoint) if !cx.has_tried(&endpoint.link) => return Some(endpoint),
                other => picked = picked.or(other),
            }
        }
        picked
    }

    /// The pools that share the load; of no other version than the one in force.
    fn shared(&self, cx: &PickCx<'_>) -> impl Iterator<Item = &Pool<C>> {
        let split = self.split.as_ref();
        split
            .filter(|_| self.active.load(Ordering::Acquire) == SPLIT)
            .into_iter()
            .flat_map(|split| split.draw(cx))
            .filter_map(|index| self.pools.get(index))
    }

    /// Whether what takes picks has an endpoint that is ready.
    pub(super) fn is_usable(&self) -> bool {
        match self.pools.get(self.active.load(Ordering::Acquire)) {
            Some(pool) => pool.is_ready(),
            None => self.shared(&PickCx::default()).any(Pool::is_ready),
        }
    }

    /// Brings the ready bit of an endpoint up to date.
    pub(super) fn refresh(&self, seat: Seat) {
        let pool = self.pools.get(seat.pool as usize);
        if let Some(members) = pool.and_then(|pool| pool.groups.get(seat.group as usize)) {
            members.group.refresh(seat.index as usize);
        }
    }

    /// The seat of this number among all endpoints of a priority.
    pub(super) fn seat_among_all(
        &self,
        priority: usize,
        number: Option<NonZeroU32>,
    ) -> Option<Seat> {
        let index = number?.get() as usize - 1;
        Some(Seat::new(self.pool_of_all(priority)?, 0, index))
    }

    /// How many priorities there are.
    pub(super) fn priorities(&self) -> usize {
        self.pools.len() / self.pools_per_priority()
    }

    /// Every endpoint of a priority, once.
    pub(super) fn endpoints_of(&self, priority: usize) -> impl Iterator<Item = &Arc<Endpoint<C>>> {
        self.pools_of(priority).flat_map(Pool::endpoints)
    }

    /// Every endpoint, once, in the order of the configuration within its pool.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint<C>>> {
        (0..self.priorities()).flat_map(|priority| self.endpoints_of(priority))
    }

    /// The priority of a pool, and which of its endpoints that has.
    pub(super) fn whose(&self, pool: usize) -> (usize, Which) {
        let per_priority = self.pools_per_priority();
        let which = match pool % per_priority {
            0 => Which::Healthy,
            1 => Which::Degraded,
            _ => Which::All,
        };
        (pool / per_priority, which)
    }

    /// The pool of these endpoints of a priority.
    pub(super) fn pool(&self, priority: usize, which: Which) -> usize {
        let first = priority * self.pools_per_priority();
        match which {
            Which::Healthy => first,
            Which::Degraded => first + 1,
            Which::All => self.pool_of_all(priority).unwrap_or(first),
        }
    }

    /// The pool of all endpoints of a priority, if it has one for that.
    fn pool_of_all(&self, priority: usize) -> Option<usize> {
        self.split.as_ref()?;
        let index = priority * self.pools_per_priority() + Which::All as usize;
        self.pools
            .get(index)
            .is_some_and(|pool| !pool.is_empty())
            .then_some(index)
    }

    /// The pools that have all endpoints of a priority, each once.
    fn pools_of(&self, priority: usize) -> impl Iterator<Item = &Pool<C>> {
        let per_priority = self.pools_per_priority();
        let first = priority * per_priority;
        let range = match self.pool_of_all(priority) {
            Some(all) => all..all + 1,
            None => first..first + per_priority,
        };
        self.pools.get(range).into_iter().flatten()
    }

    fn pools_per_priority(&self) -> usize {
        if self.split.is_some() { 3 } else { 1 }
    }
}

// === impl Pool ===

impl<C> Pool<C> {
    /// Of groups with their weights.
    pub(super) fn new(groups: Vec<Arc<Members<C>>>, weights: &[u32]) -> Self {
        Self {
            schedule: (groups.len() > 1).then(|| Schedule::new(weights)),
            groups: groups.into(),
        }
    }

    pub(super) fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint<C>>> {
        self.groups.iter().flat_map(|members| &members.endpoints)
    }

    fn is_empty(&self) -> bool {
        self.groups
            .iter()
            .all(|members| members.endpoints.is_empty())
    }

    fn is_ready(&self) -> bool {
        self.groups.iter().any(|members| members.is_ready())
    }

    #[inline]
    fn pick(&self, cx: &PickCx<'_>) -> Option<&Arc<Endpoint<C>>> {
        let index = match &self.schedule {
            None => 0,
            Some(schedule) => {
                let ready = |index: usize| self.groups[index].is_ready();
                schedule.next(ready, || {
                    (0..self.groups.len()).filter(|&index| self.groups[index].is_ready())
                })?
            }
        };
        let picked = self.groups.get(index)?.pick(cx)?;
        if cx.tried.is_empty() {
            return Some(picked);
        }
        Some(self.untried(index, picked, cx))
    }

    /// `picked`, unless it was tried and another group has one that was not.
    #[cold]
    fn untried<'a>(
        &'a self,
        index: usize,
        picked: &'a Arc<Endpoint<C>>,
        cx: &PickCx<'_>,
    ) -> &'a Arc<Endpoint<C>> {
        if !cx.has_tried(&picked.link) {
            return picked;
        }
        let others = self.groups.iter().cycle().skip(index + 1);
        others
            .take(self.groups.len() - 1)
            .filter_map(|members| members.pick(cx))
            .find(|endpoint| !cx.has_tried(&endpoint.link))
            .unwrap_or(picked)
    }
}

// === impl Members ===

impl<C> Members<C> {
    pub(super) fn new(
        endpoints: impl IntoIterator<Item = (Arc<Endpoint<C>>, u32)>,
        config: &PolicyConfig,
    ) -> Self {
        let (endpoints, weights): (Vec<_>, Vec<u32>) = endpoints.into_iter().unzip();
        let links = endpoints.iter().map(|endpoint| Arc::clone(&endpoint.link));
        let group = Arc::new(Group::new(links.zip(weights)));
        Self {
            policy: config.0.build(&group),
            config: config.clone(),
            group,
            endpoints: endpoints.into(),
        }
    }

    /// Whether these are the very same endpoints, weights and policy.
    pub(super) fn is_of(
        &self,
        endpoints: &[(Arc<Endpoint<C>>, u32)],
        config: &PolicyConfig,
    ) -> bool {
        let members = self.endpoints.iter().zip(self.group.weights());
        self.config == *config
            && self.endpoints.len() == endpoints.len()
            && members
                .zip(endpoints)
                .all(|((a, wa), (b, wb))| Arc::ptr_eq(a, b) && wa == wb)
    }

    #[inline]
    fn is_ready(&self) -> bool {
        self.group.ready().count() != 0
    }

    #[inline]
    fn pick(&self, cx: &PickCx<'_>) -> Option<&Arc<Endpoint<C>>> {
        match self.policy.pick(cx) {
            Pick::Endpoint(index) => self.endpoints.get(index),
            Pick::None => None,
        }
    }
}
