use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use tokio::time::Instant;

use super::{
    Endpoint, EndpointKey, TlsId,
    live::{Governing, Live},
    state::{Actions, Entry, Place, REMOVAL_GRACE, State},
    tls_ids::Numbered,
    version::{Members, Priority, Version},
};
use crate::{
    Semantics,
    config::{
        Cluster, EndpointConfig, Endpoints, Health, LbPolicy, Locality, LocalityId, PolicyConfig,
    },
    runtime::{EndpointInfo, Transport},
};

/// An endpoint to be opened.
pub(super) struct Planned {
    pub(super) key: EndpointKey,
    pub(super) locality: Arc<LocalityId>,
    pub(super) info: EndpointInfo,
}

/// The endpoints of a new configuration: those that live on and those just opened.
type Roster<C> = HashMap<EndpointKey, Arc<Endpoint<C>>>;

// === impl Live ===

impl<T: Transport> Live<T> {
    /// Puts a configuration in force. Endpoints that it does not touch live on.
    pub(super) fn apply(
        &self,
        governing: &mut Governing<T>,
        cluster: &Arc<Cluster>,
        endpoints: &Arc<Endpoints>,
        actions: &mut Actions<T::Conn>,
    ) -> Arc<Version<T::Conn>> {
        let registry = self.registry.upgrade();
        // Before the old number is given up: equal settings keep it.
        governing.tls = cluster.tls.as_ref().map(|tls| match &registry {
            Some(registry) => registry.tls.number(tls),
            None => Numbered::new(tls),
        });
        governing.config = Some((Arc::clone(cluster), Arc::clone(endpoints)));
        let tls = governing
            .tls
            .as_ref()
            .map_or(TlsId::PLAINTEXT, |numbered| numbered.id());

        // Nobody else adds or removes entries in between: that takes the lock of `governing`.
        let (mut roster, planned) = self
            .state
            .lock()
            .plan(self.semantics, cluster, endpoints, tls);
        for planned in planned {
            roster.insert(planned.key.clone(), self.open(planned));
        }

        let now = Instant::now();
        let mut by_priority = BTreeMap::<u32, Vec<&Locality>>::new();
        for locality in &endpoints.localities {
            by_priority
                .entry(locality.priority)
                .or_default()
                .push(locality);
        }

        let mut state = self.state.lock();
        let priorities = by_priority
            .values()
            .map(|localities| state.priority(localities, &cluster.lb, &roster, tls))
            .collect();
        let version = Arc::new(Version::new(priorities));
        let old = std::mem::replace(&mut state.version, Arc::clone(&version));
        state.replace_entries(roster, now, actions);
        let ids =
            |localities: &Vec<&Locality>| localities.iter().map(|l| Arc::clone(&l.id)).collect();
        state.failover.elapse(now);
        state
            .failover
            .configure(by_priority.values().map(ids).collect());
        state.tally(now, actions);
        state.settle(now, actions);
        // Old tables serve until the new ones are ready to.
        self.publish(&old, &version);
        self.arm(&mut state);
        actions.wake = true;
        version
    }
}

// === impl State ===

impl<C> State<C> {
    /// Which endpoints live on, and which are to be opened.
    fn plan(
        &self,
        semantics: Semantics,
        cluster: &Arc<Cluster>,
        endpoints: &Endpoints,
        tls: TlsId,
    ) -> (Roster<C>, Vec<Planned>) {
        let mut roster = Roster::new();
        let mut planned = HashMap::new();
        for locality in &endpoints.localities {
            for endpoint in locality.endpoints.iter().filter(|e| is_wanted(e.health)) {
                let key = key(endpoint, tls);
                if roster.contains_key(&key) || planned.contains_key(&key) {
                    continue;
                }
                match self.entries.get(&key) {
                    Some(entry) if is_untouched(&entry.endpoint, endpoint, locality, cluster) => {
                        roster.insert(key, Arc::clone(&entry.endpoint));
                    }
                    _ => {
                        planned.insert(
                            key.clone(),
                            Planned {
                                key,
                                locality: Arc::clone(&locality.id),
                                info: EndpointInfo {
                                    semantics,
                                    address: endpoint.address.clone(),
                                    hostname: endpoint.hostname.clone(),
                                    cluster: Arc::clone(cluster),
                                },
                            },
                        );
                    }
                }
            }
        }
        (roster, planned.into_values().collect())
    }

    fn priority(
        &self,
        localities: &[&Locality],
        lb: &LbPolicy,
        roster: &Roster<C>,
        tls: TlsId,
    ) -> Priority<C> {
        let members = |localities: &[&Locality]| -> Vec<_> {
            localities
                .iter()
                .flat_map(|locality| &locality.endpoints)
                .filter(|endpoint| is_wanted(endpoint.health))
                .filter_map(|endpoint| {
                    let opened = roster.get(&key(endpoint, tls))?;
                    Some((Arc::clone(opened), endpoint.weight))
                })
                .collect()
        };
        match lb {
            LbPolicy::Endpoints(policy) => {
                Priority::new(vec![self.members(members(localities), policy)], &[1])
            }
            LbPolicy::Localities(policy) => {
                let groups = localities
                    .iter()
                    .map(|&locality| self.members(members(&[locality]), policy))
                    .collect();
                let weights: Vec<_> = localities.iter().map(|locality| locality.weight).collect();
                Priority::new(groups, &weights)
            }
        }
    }

    /// The group of these endpoints: as it is, if there is just this one, with the state of its
    /// policy; else a new one.
    fn members(
        &self,
        endpoints: Vec<(Arc<Endpoint<C>>, u32)>,
        policy: &PolicyConfig,
    ) -> Arc<Members<C>> {
        let old = endpoints.first().and_then(|(endpoint, _)| {
            let Place::Member {
                priority, group, ..
            } = self.entries.get(endpoint.link.key())?.place
            else {
                return None;
            };
            self.version.priorities.get(priority)?.groups.get(group)
        });
        match old {
            Some(old) if old.is_of(&endpoints, policy) => Arc::clone(old),
            _ => Arc::new(Members::new(endpoints, policy)),
        }
    }

    /// Gives each endpoint of the tables in force its place, and the others their end.
    fn replace_entries(&mut self, mut roster: Roster<C>, now: Instant, actions: &mut Actions<C>) {
        let until = now + REMOVAL_GRACE;
        for (key, entry) in &mut self.entries {
            match roster.get(key) {
                Some(kept) if Arc::ptr_eq(kept, &entry.endpoint) => {}
                Some(_) => actions.retire.push(Arc::clone(&entry.endpoint)),
                None => {
                    if let Place::Member { .. } = entry.place {
                        entry.place = Place::Removed(until);
                        self.removed.push_back((until, key.clone()));
                    }
                }
            }
        }
        let version = Arc::clone(&self.version);
        for (priority, groups) in version.priorities.iter().enumerate() {
            for (group, members) in groups.groups.iter().enumerate() {
                for (index, endpoint) in members.endpoints.iter().enumerate() {
                    // Once only: the tables in force name each endpoint in one place.
                    let Some((key, endpoint)) = roster.remove_entry(endpoint.link.key()) else {
                        continue;
                    };
                    let place = Place::Member {
                        priority,
                        group,
                        index,
                    };
                    match self.entries.get_mut(&key) {
                        Some(entry) if Arc::ptr_eq(&entry.endpoint, &endpoint) => {
                            entry.place = place;
                        }
                        _ => {
                            self.entries.insert(key, Entry::new(endpoint, place));
                        }
                    }
                    members.group.refresh(index);
                }
            }
        }
    }
}

fn key(endpoint: &EndpointConfig, tls: TlsId) -> EndpointKey {
    EndpointKey {
        address: endpoint.address.clone(),
        tls,
    }
}

/// Whether endpoints of this health are connected and picked (gRFC A27).
fn is_wanted(health: Health) -> bool {
    matches!(health, Health::Healthy | Health::Unknown)
}

/// Whether an endpoint serves a configuration as it is. Weight and health are not its affair.
fn is_untouched<C>(
    endpoint: &Endpoint<C>,
    config: &EndpointConfig,
    locality: &Locality,
    cluster: &Arc<Cluster>,
) -> bool {
    let old = &endpoint.info.cluster;
    endpoint.info.hostname == config.hostname
        && *endpoint.link.locality() == locality.id
        && (Arc::ptr_eq(old, cluster)
            || (old.connections == cluster.connections
                && old.tls == cluster.tls
                && old.breakers.max_connections_per_host
                    == cluster.breakers.max_connections_per_host))
}
