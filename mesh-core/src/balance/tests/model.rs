//! Random histories against a model that follows gRFC A56 word by word.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use tokio::{runtime::Builder, time::Instant};

use super::{Connectivity::*, *};

/// Localities are numbers; an endpoint's port tells its locality.
const LOCALITIES: u16 = 3;
const PER_LOCALITY: u16 = 2;

#[derive(Debug, Clone)]
enum Step {
    /// An endpoint's connectivity changes.
    Set(u16, Connectivity),
    /// Each locality gets a priority, if any, and a subset of its endpoints.
    Update(Vec<Option<(u32, u8)>>),
    /// Seconds pass.
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let states = prop::sample::select(vec![Idle, Connecting, Ready, Ready, Failing, Failing]);
    let set = (0..LOCALITIES * PER_LOCALITY, states).prop_map(|(port, to)| Step::Set(port, to));
    let place = prop::option::weighted(0.8, (0..3_u32, 0..4_u8));
    let update = prop::collection::vec(place, LOCALITIES as usize).prop_map(Step::Update);
    let pass = prop::sample::select(vec![0, 1, 3, 9, 10, 890, 900]).prop_map(Step::Pass);
    prop::collection::vec(prop_oneof![6 => set, 2 => update, 2 => pass], 1..45)
}

fn config(places: &[Option<(u32, u8)>]) -> Arc<Endpoints> {
    let ports = |zone: u16, mask: u8| {
        (0..PER_LOCALITY)
            .filter(move |bit| mask >> bit & 1 == 1)
            .map(move |bit| zone * PER_LOCALITY + bit)
    };
    endpoints((0..).zip(places).filter_map(|(zone, place)| {
        place.map(|(priority, mask)| locality(priority, &zone.to_string(), ports(zone, mask)))
    }))
}

#[derive(Debug, Default)]
struct Model {
    now: Duration,
    links: BTreeMap<u16, Link>,
    children: Vec<Child>,
    current: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    state: Connectivity,
    reported: Connectivity,
    removed: Option<Duration>,
}

#[derive(Debug, Clone, Default)]
struct Child {
    zones: Vec<String>,
    ports: Vec<u16>,
    life: Option<Life>,
}

#[derive(Debug, Clone)]
struct Life {
    state: Connectivity,
    last_usable: bool,
    failover_timer: Option<Duration>,
    deactivation_timer: Option<Duration>,
}

impl Link {
    fn catch_up(&mut self) {
        if self.reported != Failing || self.state == Ready {
            self.reported = self.state;
        }
    }
}

impl Model {
    fn set(&mut self, port: u16, to: Connectivity) {
        let Some(link) = self.links.get_mut(&port) else {
            return;
        };
        if link.state == to {
            // Nobody is told, whatever it went through before.
            return;
        }
        link.state = to;
        if link.removed.is_none() {
            link.catch_up();
            self.connect_and_report();
            self.choose_priority();
        }
    }

    fn update(&mut self, config: &Endpoints) {
        let mut old = std::mem::take(&mut self.children);
        let mut priorities: Vec<u32> = config.localities.iter().map(|l| l.priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        for priority in priorities {
            let mut child = Child::default();
            for locality in config.localities.iter().filter(|l| l.priority == priority) {
                child.zones.push(locality.id.zone.clone());
                let ports = locality.endpoints.iter().map(|e| port(&e.address));
                child.ports.extend(ports);
            }
            let heir = child
                .zones
                .iter()
                .find_map(|zone| old.iter().position(|old| old.zones.contains(zone)));
            child.life = heir.and_then(|index| old.remove(index).life);
            self.children.push(child);
        }
        let used: Vec<u16> = self.children.iter().flat_map(|c| c.ports.clone()).collect();
        for (port, link) in &mut self.links {
            if used.contains(port) {
                // What it went through while it was nowhere counts once its priority is in use.
                link.removed = None;
            } else {
                link.removed
                    .get_or_insert(self.now + Duration::from_secs(1));
            }
        }
        for port in used {
            self.links.entry(port).or_insert(Link {
                state: Idle,
                reported: Idle,
                removed: None,
            });
        }
        self.connect_and_report();
        self.choose_priority();
    }

    fn pass(&mut self, to: Duration) {
        while let Some(due) = self.next_timer().filter(|&due| due <= to) {
            self.now = due;
            let due = |timer: &mut Duration| *timer <= self.now;
            self.links
                .retain(|_, link| !link.removed.as_mut().is_some_and(due));
            for child in &mut self.children {
                let Some(life) = &mut child.life else {
                    continue;
                };
                life.failover_timer.take_if(due);
                if life.deactivation_timer.take_if(due).is_some() {
                    child.life = None;
                    for port in &child.ports {
                        let fresh = Link {
                            state: Idle,
                            reported: Idle,
                            removed: None,
                        };
                        self.links.insert(*port, fresh);
                    }
                }
            }
            self.choose_priority();
        }
        self.now = to;
    }

    fn next_timer(&self) -> Option<Duration> {
        let lives = self.children.iter().filter_map(|child| child.life.as_ref());
        let timers = lives.flat_map(|life| [life.failover_timer, life.deactivation_timer]);
        let removals = self.links.values().map(|link| link.removed);
        timers.chain(removals).flatten().min()
    }

    fn connect_and_report(&mut self) {
        for index in 0..self.children.len() {
            if self.children[index].life.is_some() {
                self.connect(index);
                self.report(index);
            }
        }
    }

    fn connect(&mut self, index: usize) {
        for port in &self.children[index].ports {
            let link = self.links.get_mut(port).expect("in use");
            if link.state == Idle {
                link.state = Connecting;
            }
            link.catch_up();
        }
    }

    fn report(&mut self, index: usize) {
        let child = &mut self.children[index];
        let reports = |state| {
            child
                .ports
                .iter()
                .any(|port| self.links[port].reported == state)
        };
        let state = [Ready, Connecting, Idle]
            .into_iter()
            .find(|&state| reports(state));
        let state = state.unwrap_or(Failing);
        let life = child.life.as_mut().expect("asked for");
        if state == Connecting {
            if life.state != Connecting && life.last_usable {
                life.failover_timer = Some(self.now + Duration::from_secs(10));
            }
        } else {
            life.failover_timer = None;
            life.last_usable = state != Failing;
        }
        life.state = state;
    }

    /// `ChoosePriority` of the gRFC.
    fn choose_priority(&mut self) {
        self.current = None;
        for priority in 0..self.children.len() {
            if let Some(life) = &mut self.children[priority].life {
                life.deactivation_timer = None;
            } else {
                self.children[priority].life = Some(Life {
                    state: Connecting,
                    last_usable: false,
                    failover_timer: Some(self.now + Duration::from_secs(10)),
                    deactivation_timer: None,
                });
                self.connect(priority);
                self.report(priority);
            }
            let life = self.children[priority].life.as_ref().expect("just made");
            if matches!(life.state, Ready | Idle) {
                for lower in &mut self.children[priority + 1..] {
                    if let Some(life) = &mut lower.life {
                        life.deactivation_timer
                            .get_or_insert(self.now + Duration::from_secs(900));
                    }
                }
                self.current = Some(priority);
                return;
            }
            if life.failover_timer.is_some() {
                self.current = Some(priority);
                return;
            }
        }
        let connecting = |child: &Child| child.life.as_ref().is_some_and(|l| l.state == Connecting);
        self.current = match self.children.iter().position(connecting) {
            None if self.children.is_empty() => None,
            None => Some(self.children.len() - 1),
            found => found,
        };
    }

    fn check(&self, snapshot: &ClusterSnapshot<Fake>, fake: &Fake) -> Result<(), TestCaseError> {
        for (&port, link) in &self.links {
            prop_assert!(!fake.is_retired(port));
            prop_assert_eq!(
                fake.conn(port).link.connectivity(),
                link.state,
                "of {}",
                port
            );
        }
        for (port, conn) in &*fake.conns.lock() {
            let retired = conn.retired.load(Ordering::Relaxed);
            prop_assert_eq!(retired, !self.links.contains_key(port), "{}", port);
        }
        let state = snapshot.live.state.lock();
        let active = state.version.active_index();
        prop_assert_eq!(active, self.current);
        for members in state.version.pools.iter().flat_map(|p| &p.groups) {
            for (index, link) in members.group.links().iter().enumerate() {
                prop_assert_eq!(members.group.ready().contains(index), link.is_ready());
            }
        }
        drop(state);

        let child = self.current.map(|current| &self.children[current]);
        match (pick(snapshot), child) {
            (Got::Port(port), Some(child)) => {
                prop_assert!(child.ports.contains(&port));
                prop_assert_eq!(self.links[&port].state, Ready);
            }
            (got, child) => {
                let state = child.map_or(Failing, |c| c.life.as_ref().expect("in use").state);
                prop_assert_ne!(state, Ready);
                prop_assert_eq!(got.failed(), state == Failing);
            }
        }
        Ok(())
    }
}

async fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let (fake, balancers) = fixture();
    let cluster = cluster();
    let mut model = Model::default();
    let begin = Instant::now();
    let mut snapshot = balancers.cluster(
        Semantics::Grpc,
        &cluster,
        &config(&[None; LOCALITIES as usize]),
    );
    let mut open = BTreeMap::new();
    for step in steps {
        match step {
            Step::Set(port, to) if model.links.contains_key(&port) => {
                fake.conn(port).link.set(to, None);
                model.set(port, to);
            }
            Step::Set(..) => {}
            Step::Update(places) => {
                let config = config(&places);
                snapshot = balancers.cluster(Semantics::Grpc, &cluster, &config);
                model.update(&config);
            }
            Step::Pass(seconds) => {
                // The odd milliseconds keep timers of different steps, and the steps, apart.
                tokio::time::sleep(Duration::from_millis(seconds * 1000 + 37)).await;
                model.pass(begin.elapsed());
            }
        }
        model.check(&snapshot, &fake)?;
        // An endpoint that was neither removed for good nor unused for long is the same.
        let now: BTreeMap<_, _> = model
            .links
            .keys()
            .map(|&port| (port, fake.conn(port)))
            .collect();
        for (port, conn) in &open {
            let kept: Option<&Arc<Conn>> = now.get(port);
            let conn: &Arc<Conn> = conn;
            let same = kept.is_some_and(|kept| Arc::ptr_eq(kept, conn));
            prop_assert_eq!(same, !conn.retired.load(Ordering::Relaxed));
        }
        open = now;
    }
    drop(snapshot);
    prop_assert_eq!(
        fake.opened.load(Ordering::Relaxed),
        fake.retired.load(Ordering::Relaxed)
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_history_agrees_with_the_model(steps in steps()) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(run(steps))?;
    }
}
