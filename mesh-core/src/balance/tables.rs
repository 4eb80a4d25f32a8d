use std::{collections::HashMap, sync::Arc};

use tokio::time::Instant;

use super::{
    Endpoint, EndpointKey, TlsId,
    state::{Actions, ByKey, Entry, Place, REMOVAL_GRACE, Seat, State},
    update::Intake,
    version::{Members, Pool, Which},
};
use crate::{
    Semantics,
    config::{EndpointConfig, LbPolicy, Locality, PolicyConfig},
};

/// The endpoints of a new configuration: those that live on and those just opened.
pub(super) type Roster<C> = HashMap<EndpointKey, Arc<Endpoint<C>>>;

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
                        let opened = roster.get(&key(endpoint, tls))?;
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
                Place::Member {
                    seat, among_all, ..
                } => Some([Some(seat), among_all]),
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
        let until = now + REMOVAL_GRACE;
        for (ByKey(link), entry) in &mut self.entries {
            match roster.get(link.key()) {
                Some(kept) if Arc::ptr_eq(kept, &entry.endpoint) => {}
                Some(_) => actions.retire.push(Arc::clone(&entry.endpoint)),
                None => {
                    if let Place::Member { .. } = entry.place {
                        entry.place = Place::Removed(until);
                        self.removed.push_back((until, link.key().clone()));
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
        let priority = priority as u32;
        if let Some((key, endpoint)) = roster.remove_entry(endpoint.link.key()) {
            let place = Place::Member {
                priority,
                which,
                seat,
                among_all: None,
            };
            match self.entries.get_mut(&key) {
                Some(entry) if Arc::ptr_eq(&entry.endpoint, &endpoint) => entry.place = place,
                _ => {
                    // The map would keep the key that it has, and with it the link of another.
                    self.entries.remove(&key);
                    let key = ByKey(Arc::clone(&endpoint.link));
                    self.entries.insert(key, Entry::new(endpoint, place));
                }
            }
            return true;
        }
        match self
            .entries
            .get_mut(endpoint.link.key())
            .map(|e| &mut e.place)
        {
            Some(Place::Member {
                priority: its,
                among_all: among_all @ None,
                seat: first,
                ..
            }) if which == Which::All && *its == priority && first.pool != seat.pool => {
                *among_all = Some(seat);
                true
            }
            _ => false,
        }
    }
}

/// What makes an endpoint of the configuration the one it is.
pub(super) fn key(endpoint: &EndpointConfig, tls: TlsId) -> EndpointKey {
    EndpointKey {
        address: endpoint.address.clone(),
        tls,
    }
}
