use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{Endpoint, Group, Pick, PickCx, Policy, schedule::Schedule};
use crate::config::PolicyConfig;

/// No priority: there are none, or another version has taken over.
const NOWHERE: usize = usize::MAX;

/// The tables that picks read, built for one configuration of a cluster. All that changes in them
/// is atomic.
#[derive(Debug)]
pub(super) struct Version<C> {
    active: AtomicUsize,
    pub(super) priorities: Box<[Priority<C>]>,
}

/// The groups of one priority.
#[derive(Debug)]
pub(super) struct Priority<C> {
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
    pub(super) fn new(priorities: Box<[Priority<C>]>) -> Self {
        Self {
            active: AtomicUsize::new(NOWHERE),
            priorities,
        }
    }

    /// Sends picks to this priority from now on, or nowhere.
    pub(super) fn activate(&self, priority: Option<usize>) {
        self.active
            .store(priority.unwrap_or(NOWHERE), Ordering::Release);
    }

    #[cfg(test)]
    pub(super) fn active_index(&self) -> Option<usize> {
        Some(self.active.load(Ordering::Acquire)).filter(|&index| index != NOWHERE)
    }

    #[inline]
    pub(super) fn active(&self) -> Option<&Priority<C>> {
        self.priorities.get(self.active.load(Ordering::Acquire))
    }

    #[inline]
    pub(super) fn pick(&self, cx: &PickCx<'_>) -> Option<&Arc<Endpoint<C>>> {
        self.active()?.pick(cx)
    }

    /// Every endpoint, in the order of the configuration within its priority.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint<C>>> {
        self.priorities.iter().flat_map(Priority::endpoints)
    }
}

// === impl Priority ===

impl<C> Priority<C> {
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

    pub(super) fn is_ready(&self) -> bool {
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
        let is_tried = |endpoint: &Endpoint<C>| {
            cx.tried
                .iter()
                .any(|tried| Arc::ptr_eq(tried, &endpoint.link))
        };
        if !is_tried(picked) {
            return picked;
        }
        let others = self.groups.iter().cycle().skip(index + 1);
        others
            .take(self.groups.len() - 1)
            .filter_map(|members| members.pick(cx))
            .find(|endpoint| !is_tried(endpoint))
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
