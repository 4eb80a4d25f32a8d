use std::{num::NonZeroU32, sync::Arc};

use tokio::time::Instant;

use super::{
    Endpoint, LinkState, TlsId,
    by_key::{ByKey, HasLink, Key},
    state::{Actions, Entry, Place, REMOVAL_GRACE, Removed, Seat, State},
    update::Intake,
    version::{Members, Pool, Which},
};
use crate::{
    Semantics,
    config::{EndpointConfig, LbPolicy, Locality, PolicyConfig},
};

/// The endpoints of a new configuration: those that live on and those just opened.
pub(super) type Roster<C> = ByKey<Arc<Endpoint<C>>>;

/// Endpoints with their weights.
type Weighted<C> = Vec<(Arc<Endpoint<C>>, u32)>;

// === impl State ===

impl<C> State<C> {
    /// The pools of one priority, as a [`Version`](super::version::Version) has them.
    pub(super) fn pools(
        &self,
        localities: &[&Locality],
        intake: Intake,
        lb: &LbPolicy,
        roster: &Roster<C>,
        tls: TlsId,
    ) -> Vec<Pool<C>> {
        // Of each locality, those that are to be in a pool.
        let select = |is_in: &dyn Fn(Which) -> bool| -> Vec<Weighted<C>> {
            let is_in =
                |endpoint: &EndpointConfig| intake.which(endpoint.health).is_some_and(is_in);
            let members = |locality: &&Locality| {
                let endpoints = locality.endpoints.iter().filter(|endpoint| is_in(endpoint));
                endpoints
                    .filter_map(|endpoint| {
                        let opened = roster.get(Key::of(endpoint, tls))?;
                        Some((Arc::clone(opened), endpoint.weight))
                    })
                    .collect()
            };
            localities.iter().map(members).collect()
        };
        let weights: Vec<_> = localities.iter().map(|locality| locality.weight).collect();
        let healthy = select(&|which| which == Which::Healthy);
        if intake.semantics() == Semantics::Grpc {
            return vec![self.pool(healthy, &weights, lb)];
        }
        let degraded = select(&|which| which == Which::Degraded);
        // In a panic Envoy forgets the weights of localities, too.
        let (LbPolicy::Endpoints(policy) | LbPolicy::Localities(policy)) = lb;
        let all = select(&|_| intake.may_panic()).concat();
        let is_one_group = matches!(lb, LbPolicy::Endpoints(_)) || localities.len() == 1;
        let all = match is_one_group && all.len() == healthy.iter().map(Vec::len).sum::<usize>() {
            true => Vec::new(),
            false => all,
        };
        vec![
            self.pool(healthy, &weights, lb),
            self.pool(degraded, &weights, lb),
            Pool::new(vec![self.members(all, policy)], &[1]),
        ]
    }

    fn pool(&self, localities: Vec<Weighted<C>>, weights: &[u32], lb: &LbPolicy) -> Pool<C> {
        match lb {
            LbPolicy::Endpoints(policy) => {
                Pool::new(vec![self.members(localities.concat(), policy)], &[1])
            }
            LbPolicy::Localities(policy) => {
                let groups = localities
                    .into_iter()
                    .map(|locality| self.members(locality, policy))
                    .collect();
                Pool::new(groups, weights)
            }
        }
    }

    /// The group of these endpoints: as it is, if there is just this one, with the state of its
    /// policy; else a new one.
    fn members(&self, endpoints: Weighted<C>, policy: &PolicyConfig) -> Arc<Members<C>> {
        let seats = endpoints.first().and_then(|(endpoint, _)| {
            match self.entries.get(endpoint.link.key())?.place {
                Place::Member { seat, among_all } => {
                    let (priority, _) = self.version.whose(seat.pool as usize);
                    Some([Some(seat), self.version.seat_among_all(priority, among_all)])
                }
                Place::Removed(_) => None,
            }
        });
        let old = seats.into_iter().flatten().flatten().find_map(|seat| {
            let pool = self.version.pools.get(seat.pool as usize)?;
            let members = pool.groups.get(seat.group as usize)?;
            members.is_of(&endpoints, policy).then_some(members)
        });
        match old {
            Some(old) => Arc::clone(old),
            None => Arc::new(Members::new(endpoints, policy)),
        }
    }

    /// Gives each endpoint of the tables in force its place, and the others their end.
    pub(super) fn replace_entries(
        &mut self,
        mut roster: Roster<C>,
        now: Instant,
        actions: &mut Actions<C>,
    ) {
        self.removals = self.removals.wrapping_add(1);
        let (at, removal) = (now + REMOVAL_GRACE, self.removals);
        for entry in self.entries.iter_mut() {
            match roster.get(entry.endpoint.link.key()) {
                Some(kept) if Arc::ptr_eq(kept, &entry.endpoint) => {}
                Some(_) => actions.retire.push(Arc::clone(&entry.endpoint)),
                None => {
                    if let Place::Member { .. } = entry.place {
                        entry.place = Place::Removed(removal);
                        self.removed.push_back(Removed {
                            at,
                            removal,
                            endpoint: Arc::clone(&entry.endpoint),
                        });
                    }
                }
            }
        }
        let version = Arc::clone(&self.version);
        for (pool, groups) in version.pools.iter().enumerate() {
            for (group, members) in groups.groups.iter().enumerate() {
                for (index, endpoint) in members.endpoints.iter().enumerate() {
                    let seat = Seat::new(pool, group, index);
                    if self.seat(&mut roster, endpoint, seat) {
                        members.group.refresh(index);
                    }
                }
            }
        }
    }

    /// Gives an endpoint this seat; false if it has one already that is as good: the tables in
    /// force name each endpoint once, or twice if all of its priority have a pool.
    fn seat(&mut self, roster: &mut Roster<C>, endpoint: &Arc<Endpoint<C>>, seat: Seat) -> bool {
        let (priority, which) = self.version.whose(seat.pool as usize);
        if let Some(endpoint) = roster.remove(endpoint.link.key()) {
            let place = Place::Member {
                seat,
                among_all: None,
            };
            match self.entries.get_mut(endpoint.link.key()) {
                Some(entry) if Arc::ptr_eq(&entry.endpoint, &endpoint) => entry.place = place,
                _ => self.entries.insert(Entry::new(endpoint, place)),
            }
            return true;
        }
        let Some(entry) = self.entries.get_mut(endpoint.link.key()) else {
            return false;
        };
        let Place::Member {
            seat: first,
            among_all: among_all @ None,
        } = &mut entry.place
        else {
            return false;
        };
        let (its, _) = self.version.whose(first.pool as usize);
        if which != Which::All || its != priority || first.pool == seat.pool {
            return false;
        }
        *among_all = NonZeroU32::new(seat.index + 1);
        true
    }
}

impl<C> HasLink for Arc<Endpoint<C>> {
    fn link(&self) -> &LinkState {
        &self.link
    }
}
