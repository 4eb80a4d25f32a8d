use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use tokio::time::Instant;

use super::{
    Endpoint, LinkContext, LinkState, TlsId,
    by_key::Key,
    live::{Governing, Live},
    priority_load::Rules,
    state::Actions,
    tables::Roster,
    tls_ids::Numbered,
    version::{Version, Which},
};
use crate::{
    Semantics,
    config::{Cluster, EndpointConfig, Endpoints, Health, Locality},
    runtime::Transport,
};

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

        let intake = Intake::new(self.semantics, cluster, endpoints);
        let now = Instant::now();
        let mut by_priority = BTreeMap::<u32, Vec<&Locality>>::new();
        for locality in &endpoints.localities {
            by_priority
                .entry(locality.priority)
                .or_default()
                .push(locality);
        }

        let roster = self.roster(intake, cluster, endpoints, tls);
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

    /// All endpoints that may be picked: those that live on, and those that are opened now, which is
    /// done without the lock: what endpoints report is not kept waiting.
    fn roster(
        &self,
        intake: Intake,
        cluster: &Arc<Cluster>,
        endpoints: &Endpoints,
        tls: TlsId,
    ) -> Roster<T::Conn> {
        let wanted = |endpoint: &&EndpointConfig| intake.which(endpoint.health).is_some();
        let mut roster = Roster::new();
        {
            // Nobody else adds or removes entries until we do: that takes the lock of `governing`.
            let state = self.state.lock();
            for locality in &endpoints.localities {
                for endpoint in locality.endpoints.iter().filter(wanted) {
                    let key = Key::of(endpoint, tls);
                    if let Some(entry) = state.entries.get(key)
                        && roster.get(key).is_none()
                        && is_untouched(&entry.endpoint.link, endpoint, locality, cluster)
                    {
                        entry.endpoint.link.follow(endpoint);
                        roster.insert(Arc::clone(&entry.endpoint));
                    }
                }
            }
        }
        for locality in &endpoints.localities {
            let mut context = None;
            for endpoint in locality.endpoints.iter().filter(wanted) {
                if roster.get(Key::of(endpoint, tls)).is_some() {
                    continue;
                }
                let context = context.get_or_insert_with(|| {
                    Arc::new(LinkContext {
                        semantics: self.semantics,
                        cluster: Arc::clone(cluster),
                        tls,
                        locality: Arc::clone(&locality.id),
                        observer: Weak::<Self>::clone(&self.me),
                    })
                });
                let link = Arc::new(LinkState::new(endpoint, Arc::clone(context)));
                let conn = self.transport.open(&link);
                roster.insert(Arc::new(Endpoint { link, conn }));
            }
        }
        roster
    }
}

/// Whether an endpoint serves a configuration as it is. Weight and health are not its affair.
fn is_untouched(
    link: &LinkState,
    config: &EndpointConfig,
    locality: &Locality,
    cluster: &Arc<Cluster>,
) -> bool {
    let old = link.cluster();
    link.is_of(config)
        && *link.locality() == locality.id
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
