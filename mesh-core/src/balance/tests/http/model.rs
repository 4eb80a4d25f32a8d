//! Random histories under HTTP semantics, against what the rules say of the state that all have.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use tokio::runtime::Builder;

use super::{super::super::priority_load::*, Connectivity::*, *};

const LOCALITIES: u16 = 4;
const PER_LOCALITY: u16 = 3;

/// What each locality gets: a priority and the health of each endpoint, where it has one.
type Places = Vec<Option<(u32, [Option<Health>; PER_LOCALITY as usize])>>;

#[derive(Debug, Clone)]
enum Step {
    /// An endpoint's connectivity changes.
    Set(u16, Connectivity),
    Update(Places, f64),
    /// Seconds pass: never so many that a priority without load is forgotten.
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let states = prop::sample::select(vec![Idle, Connecting, Ready, Ready, Failing, Failing]);
    let set = (0..LOCALITIES * PER_LOCALITY, states).prop_map(|(port, to)| Step::Set(port, to));
    let healths = prop::sample::select(vec![
        None,
        Some(Health::Healthy),
        Some(Health::Unknown),
        Some(Health::Unknown),
        Some(Health::Degraded),
        Some(Health::Unhealthy),
        Some(Health::Draining),
    ]);
    let members = [healths.clone(), healths.clone(), healths];
    let place = prop::option::weighted(0.8, (0..3_u32, members));
    let threshold = prop::sample::select(vec![0.0, 50.0, 50.0, 80.0]);
    let update = (prop::collection::vec(place, LOCALITIES as usize), threshold)
        .prop_map(|(places, threshold)| Step::Update(places, threshold));
    let pass = prop::sample::select(vec![0, 1, 2]).prop_map(Step::Pass);
    prop::collection::vec(prop_oneof![6 => set, 2 => update, 1 => pass], 1..40)
}

fn config(places: &Places) -> Arc<Endpoints> {
    endpoints((0..).zip(places).filter_map(|(zone, place)| {
        let (priority, healths) = (*place)?;
        let first = zone * PER_LOCALITY;
        let members = (first..).zip(healths);
        let mut locality = locality(
            priority,
            &zone.to_string(),
            members.filter_map(|(port, health)| health.map(|_| port)),
        );
        let healths = healths.into_iter().flatten();
        for (endpoint, health) in locality.endpoints.iter_mut().zip(healths) {
            endpoint.health = health;
        }
        Some(locality)
    }))
}

/// The configuration in force, and what the endpoints in it have reported.
struct Model {
    endpoints: Arc<Endpoints>,
    threshold: f64,
    reported: BTreeMap<u16, (Arc<Conn>, Connectivity)>,
}

impl Model {
    fn is_opened(&self, health: Health) -> bool {
        match health {
            Health::Healthy | Health::Unknown | Health::Degraded => true,
            Health::Unhealthy => self.threshold != 0.0,
            Health::Draining => false,
        }
    }

    /// Takes in what the links of the configuration are now.
    fn catch_up(&mut self, fake: &Fake) {
        let endpoints = Arc::clone(&self.endpoints);
        for endpoint in endpoints.localities.iter().flat_map(|l| &l.endpoints) {
            if !self.is_opened(endpoint.health) {
                continue;
            }
            let port = port(&endpoint.address);
            let conn = fake.conn(port);
            let known = self.reported.get(&port);
            let before = known.filter(|(known, _)| Arc::ptr_eq(known, &conn));
            let state = match (before, conn.link.connectivity()) {
                (Some((_, Failing)), now) if now != Ready => Failing,
                (_, now) => now,
            };
            self.reported.insert(port, (conn, state));
        }
    }

    /// Each priority's endpoints with their health.
    fn priorities(&self) -> Vec<Vec<(u16, Health)>> {
        let mut priorities = BTreeMap::<_, Vec<_>>::new();
        for locality in &self.endpoints.localities {
            let members = locality.endpoints.iter();
            let members = members.map(|e| (port(&e.address), e.health));
            let priority = priorities.entry(locality.priority).or_default();
            priority.extend(members.filter(|&(_, health)| health != Health::Draining));
        }
        priorities.into_values().collect()
    }

    fn check(&self, snapshot: &ClusterSnapshot<Fake>, fake: &Fake) -> Result<(), TestCaseError> {
        let priorities = self.priorities();
        let has_failed = |port| self.reported[&port].1 == Failing;
        let count = |members: &[(u16, Health)], wanted: &[Health]| {
            let well = members
                .iter()
                .filter(|&&(port, health)| wanted.contains(&health) && !has_failed(port));
            u32::try_from(well.count()).expect("few")
        };
        let levels: Vec<_> = priorities
            .iter()
            .map(|members| Level {
                total: members.len().try_into().expect("few"),
                healthy: count(members, &[Health::Healthy, Health::Unknown]),
                degraded: count(members, &[Health::Degraded]),
            })
            .collect();
        let shares = priority_load(&levels, Rules::new(140, self.threshold));

        // Who may be picked, and with which share.
        let mut expected = Vec::new();
        for (members, share) in priorities.iter().zip(&shares) {
            let mut pool = |percent: u32, wanted: &dyn Fn(Health) -> bool| {
                let ports = members.iter().filter(|&&(_, health)| wanted(health));
                let ports: Vec<_> = ports.map(|&(port, _)| port).collect();
                if percent != 0 {
                    expected.push((percent, ports));
                }
            };
            if share.panic {
                pool(share.sum(), &|_| true);
            } else {
                pool(share.healthy, &|health| {
                    matches!(health, Health::Healthy | Health::Unknown)
                });
                pool(share.degraded, &|health| health == Health::Degraded);
            }
        }

        let state = snapshot.live.state.lock();
        let mut found: Vec<_> = state
            .version
            .shares()
            .into_iter()
            .map(|(pool, percent)| {
                let endpoints = state.version.pools[pool].endpoints();
                let ports: Vec<_> = endpoints.map(|e| port(e.link.address())).collect();
                (percent, ports)
            })
            .collect();
        for members in state.version.pools.iter().flat_map(|pool| &pool.groups) {
            for (index, link) in members.group.links().iter().enumerate() {
                prop_assert_eq!(members.group.ready().contains(index), link.is_ready());
            }
        }
        drop(state);
        found.sort();
        expected.sort();
        prop_assert_eq!(&found, &expected);

        // All who take load were asked, and what is not in the configuration goes.
        for &port in expected.iter().flat_map(|(_, ports)| ports) {
            prop_assert_ne!(fake.conn(port).link.connectivity(), Idle, "{}", port);
            prop_assert!(!fake.is_retired(port));
        }
        let is_ready = |&&port: &&u16| fake.conn(port).link.is_ready();
        let candidates = expected.iter().flat_map(|(_, ports)| ports);
        match pick(snapshot) {
            Got::Port(port) => {
                prop_assert!(
                    candidates
                        .filter(is_ready)
                        .any(|&candidate| candidate == port)
                );
            }
            got => {
                prop_assert_eq!(candidates.clone().filter(is_ready).count(), 0);
                let hopeless = candidates.into_iter().all(|&port| has_failed(port));
                prop_assert_eq!(got.failed(), hopeless, "{:?}", got);
            }
        }
        Ok(())
    }
}

async fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let (fake, balancers) = fixture();
    let mut model = Model {
        endpoints: endpoints([]),
        threshold: 50.0,
        reported: BTreeMap::new(),
    };
    let mut snapshot = balancers.cluster(Semantics::Http, &cluster(), &model.endpoints);
    for step in steps {
        match step {
            Step::Set(port, to) if fake.conns.lock().contains_key(&port) => {
                if !fake.is_retired(port) {
                    fake.conn(port).link.set(to, None);
                }
            }
            Step::Set(..) => {}
            Step::Update(places, threshold) => {
                (model.endpoints, model.threshold) = (config(&places), threshold);
                let cluster = Cluster {
                    panic_threshold: threshold,
                    ..Cluster::clone(&cluster())
                };
                snapshot = balancers.cluster(Semantics::Http, &Arc::new(cluster), &model.endpoints);
            }
            Step::Pass(seconds) => {
                tokio::time::sleep(Duration::from_millis(seconds * 1000 + 37)).await;
            }
        }
        model.catch_up(&fake);
        model.check(&snapshot, &fake)?;
    }
    drop(snapshot);
    prop_assert_eq!(
        fake.opened.load(Ordering::Relaxed),
        fake.retired.load(Ordering::Relaxed)
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn any_history_is_shared_as_the_rules_say(steps in steps()) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(run(steps))?;
    }
}
