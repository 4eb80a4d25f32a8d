use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use tokio::time::Instant;

use super::{
    Endpoint, EndpointKey, TlsId,
    live::{Governing, Live},
    priority_load::Rules,
    state::{Actions, State},
    tables::{Roster, key},
    tls_ids::Numbered,
    version::{Version, Which},
};
use crate::{
    Semantics,
    config::{Address, Cluster, EndpointConfig, Endpoints, Health, Locality, LocalityId},
    runtime::{Addresses, EndpointInfo, Transport},
};

/// An endpoint to be opened.
pub(super) struct Planned {
    pub(super) key: EndpointKey,
    pub(super) locality: Arc<LocalityId>,
    pub(super) info: EndpointInfo,
}

/// Which endpoints are picked, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Intake {
    semantics: Semantics,
    rules: Rules,
}

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
        let intake = Intake::new(self.semantics, cluster, endpoints);
        let (mut roster, planned) = self.state.lock().plan(intake, cluster, endpoints, tls);
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
        let pools = by_priority
            .values()
            .flat_map(|localities| state.pools(localities, intake, &cluster.lb, &roster, tls))
            .collect();
        let version = Arc::new(Version::new(self.semantics, pools));
        let old = std::mem::replace(&mut state.version, Arc::clone(&version));
        let all = endpoints.localities.iter().map(|l| l.endpoints.len());
        state.kept_out = all.sum::<usize>().saturating_sub(roster.len());
        state.replace_entries(roster, now, actions);
        state.chooser.elapse(now);
        let priorities = by_priority.values().map(Vec::as_slice);
        state.chooser.configure(intake.rules, priorities);
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
        intake: Intake,
        cluster: &Arc<Cluster>,
        endpoints: &Endpoints,
        tls: TlsId,
    ) -> (Roster<C>, Vec<Planned>) {
        let mut roster = Roster::new();
        let mut planned = HashMap::new();
        for locality in &endpoints.localities {
            for endpoint in &locality.endpoints {
                if intake.which(endpoint.health).is_none() {
                    continue;
                }
                let key = key(endpoint, tls);
                if roster.contains_key(&key) || planned.contains_key(&key) {
                    continue;
                }
                match self.entries.get(&key) {
                    Some(entry) if is_untouched(&entry.endpoint, endpoint, locality, cluster) => {
                        entry.endpoint.info.addresses.follow(endpoint);
                        roster.insert(key, Arc::clone(&entry.endpoint));
                    }
                    _ => {
                        planned.insert(
                            key.clone(),
                            Planned {
                                key,
                                locality: Arc::clone(&locality.id),
                                info: EndpointInfo {
                                    semantics: intake.semantics,
                                    address: endpoint.address.clone(),
                                    addresses: Addresses::of(endpoint),
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
}

/// Whether an endpoint serves a configuration as it is. Weight and health are not its affair.
fn is_untouched<C>(
    endpoint: &Endpoint<C>,
    config: &EndpointConfig,
    locality: &Locality,
    cluster: &Arc<Cluster>,
) -> bool {
    let old = &endpoint.info.cluster;
    // What a name was looked up as changes for connections to come.
    let is_named = matches!(config.address, Address::Name(..));
    (is_named || endpoint.info.addresses.is_of(config))
        && endpoint.info.hostname == config.hostname
        && *endpoint.link.locality() == locality.id
        && (Arc::ptr_eq(old, cluster)
            || (old.connections == cluster.connections
                && old.tls == cluster.tls
                && old.breakers.max_connections_per_host
                    == cluster.breakers.max_connections_per_host))
}

// === impl Intake ===

impl Intake {
    fn new(semantics: Semantics, cluster: &Cluster, endpoints: &Endpoints) -> Self {
        Self {
            semantics,
            rules: Rules::new(endpoints.overprovisioning_factor, cluster.panic_threshold),
        }
    }

    pub(super) fn semantics(self) -> Semantics {
        self.semantics
    }

    /// Whether all endpoints of a priority may come to be picked, whatever their health.
    pub(super) fn may_panic(self) -> bool {
        self.semantics == Semantics::Http && self.rules.may_panic()
    }

    /// Where an endpoint of this health belongs; `None`: it is not even opened (gRFC A27).
    pub(super) fn which(self, health: Health) -> Option<Which> {
        match health {
            Health::Healthy | Health::Unknown => Some(Which::Healthy),
            Health::Degraded if self.semantics == Semantics::Http => Some(Which::Degraded),
            Health::Unhealthy if self.may_panic() => Some(Which::All),
            Health::Degraded | Health::Unhealthy | Health::Draining => None,
        }
    }
}
