//! HTTP semantics: who shares the load when not all are well.

mod lives;
mod model;

use std::collections::BTreeMap;

use super::*;

type Snapshot = Arc<ClusterSnapshot<Fake>>;

/// All endpoints of a configuration, connected where they take load.
struct World {
    fake: Arc<Fake>,
    balancers: Balancers<Fake>,
    cluster: Arc<Cluster>,
    snapshot: Snapshot,
}

impl World {
    fn new(cluster: Arc<Cluster>, endpoints: Arc<Endpoints>) -> Self {
        let (fake, balancers) = fixture();
        let snapshot = balancers.cluster(Semantics::Http, &cluster, &endpoints);
        let world = Self {
            fake,
            balancers,
            cluster,
            snapshot,
        };
        world.connect();
        world
    }

    fn update(&mut self, endpoints: Arc<Endpoints>) {
        self.snapshot = self
            .balancers
            .cluster(Semantics::Http, &self.cluster, &endpoints);
        self.connect();
    }

    /// What was asked to connect does.
    fn connect(&self) {
        let asked: Vec<_> = self.fake.conns.lock().values().cloned().collect();
        for conn in asked {
            if conn.link.connectivity() == Connectivity::Connecting {
                conn.link.set(Connectivity::Ready, None);
            }
        }
    }

    fn hits(&self, picks: usize) -> BTreeMap<u16, usize> {
        let mut hits = BTreeMap::new();
        for _ in 0..picks {
            let endpoint = pick_endpoint(&self.snapshot).expect("one is ready");
            *hits.entry(port(endpoint.link.address())).or_default() += 1;
        }
        hits
    }

    /// Percents of picks that fall into each range of ports.
    fn percents<const N: usize>(&self, ranges: [std::ops::RangeInclusive<u16>; N]) -> [usize; N] {
        let hits = self.hits(20_000);
        ranges.map(|range| {
            let sum: usize = hits.range(range).map(|(_, hits)| hits).sum();
            (sum + 100) / 200
        })
    }

    fn is_asked(&self, port: u16) -> bool {
        self.fake.connects(port) != 0
    }
}

fn assert_about<const N: usize>(percents: [usize; N], expected: [usize; N]) {
    let near = |(&got, &expected): (&usize, &usize)| got.abs_diff(expected) <= 2;
    assert!(
        percents.iter().zip(&expected).all(near),
        "{percents:?}, not {expected:?}"
    );
}

fn ill(mut locality: Locality, health: Health, ports: impl IntoIterator<Item = u16>) -> Locality {
    let ports: Vec<_> = ports.into_iter().collect();
    for endpoint in &mut locality.endpoints {
        if ports.contains(&port(&endpoint.address)) {
            endpoint.health = health;
        }
    }
    locality
}

/// Ten endpoints in each of two priorities: ports 1 to 10 and 11 to 20.
fn two_priorities() -> Arc<Endpoints> {
    endpoints([locality(0, "a", 1..=10), locality(1, "b", 11..=20)])
}

fn cluster_of(panic_threshold: f64) -> Arc<Cluster> {
    Arc::new(Cluster {
        panic_threshold,
        ..Cluster::clone(&cluster())
    })
}

#[tokio::test(start_paused = true)]
async fn load_spills_to_the_next_priority_when_endpoints_fail() {
    let world = World::new(cluster(), two_priorities());
    world.fake.fail([1, 2]);
    assert_eq!(world.percents([1..=10, 11..=20]), [100, 0], "1.4 * 80 %");
    assert!(!world.is_asked(11), "connected when it is needed");

    world.fake.fail([3, 4, 5]);
    assert!((11..=20).all(|port| world.is_asked(port)));
    // Until it is connected, nobody waits for it.
    assert_eq!(world.hits(1_000).len(), 5);
    world.connect();
    assert_about(world.percents([1..=10, 11..=20]), [70, 30]);

    world.fake.fail(6..=10);
    assert_eq!(world.percents([11..=20]), [100]);
    world.fake.ready(1..=8);
    assert_eq!(world.percents([1..=8]), [100]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_endpoint_is_ill_until_it_is_ready() {
    let world = World::new(cluster(), two_priorities());
    world.fake.fail(1..=5);
    world.connect();
    assert_about(world.percents([1..=10, 11..=20]), [70, 30]);
    for port in 1..=5 {
        // Its backoff is over: it is asked again, and says nothing of its health by that.
        world.fake.set(port, Connectivity::Idle);
        assert_eq!(world.fake.connects(port), 2);
    }
    assert_about(world.percents([6..=10, 11..=20]), [70, 30]);
    world.connect();
    assert_eq!(world.percents([1..=10, 11..=20]), [100, 0]);
}

#[tokio::test(start_paused = true)]
async fn what_the_control_plane_says_counts_as_what_we_see() {
    let half = ill(locality(0, "a", 1..=10), Health::Unhealthy, 1..=5);
    let config = endpoints([half, locality(1, "b", 11..=20)]);
    let mut world = World::new(cluster(), Arc::clone(&config));
    assert_about(world.percents([1..=5, 6..=10, 11..=20]), [0, 70, 30]);
    assert!(!(1..=5).any(|port| world.is_asked(port)));
    world.fake.fail([6]);
    assert_about(world.percents([7..=10, 11..=20]), [56, 44]);

    // Health is no reason to open an endpoint anew.
    let opened = world.fake.opened.load(Ordering::Relaxed);
    world.update(two_priorities());
    assert_eq!(world.percents([1..=10, 11..=20]), [100, 0]);
    world.update(config);
    assert_about(world.percents([7..=10, 11..=20]), [56, 44]);
    assert_eq!(world.fake.opened.load(Ordering::Relaxed), opened);
}

#[tokio::test(start_paused = true)]
async fn in_a_panic_health_is_not_looked_at() {
    let most = || endpoints([ill(locality(0, "a", 1..=10), Health::Unhealthy, 1..=6)]);
    let world = World::new(cluster(), most());
    assert_about(world.percents([1..=6, 7..=10]), [60, 40]);

    let world = World::new(cluster_of(40.0), most());
    assert_eq!(world.percents([1..=6, 7..=10]), [0, 100], "40 % are well");
    world.fake.fail([10]);
    world.connect();
    assert_about(world.percents([1..=6, 7..=9]), [67, 33]);
    world.fake.ready([10]);
    assert_eq!(world.percents([1..=6, 7..=10]), [0, 100]);
    world.fake.set(1, Connectivity::Idle);
    assert_eq!(world.fake.connects(1), 1, "not kept connected after it");

    let world = World::new(cluster_of(0.0), most());
    assert_eq!(world.percents([7..=10]), [100]);
    assert_eq!(world.fake.opened.load(Ordering::Relaxed), 4);
}

/// Priority 1 has health enough for all: no panic in priority 0, however few are well there.
#[tokio::test(start_paused = true)]
async fn no_panic_while_lower_priorities_can_take_the_load() {
    let few = || ill(locality(0, "a", 1..=10), Health::Unhealthy, 2..=10);
    let mut world = World::new(cluster(), endpoints([few(), locality(1, "b", 11..=20)]));
    assert_about(world.percents([1..=1, 2..=10, 11..=20]), [14, 0, 86]);

    // 14 % + 84 %: priority 0 is in panic, priority 1 is not.
    let more = ill(locality(1, "b", 11..=20), Health::Unhealthy, 11..=14);
    world.update(endpoints([few(), more]));
    assert_about(world.percents([1..=10, 11..=14, 15..=20]), [15, 0, 85]);
    // Both are: each gets what its size says.
    let most = ill(locality(1, "b", 11..=40), Health::Unhealthy, 11..=39);
    world.update(endpoints([few(), most]));
    assert_about(world.percents([1..=10, 11..=40]), [25, 75]);
}

#[tokio::test(start_paused = true)]
async fn the_degraded_take_what_the_healthy_cannot() {
    let degraded = || ill(locality(0, "a", 1..=10), Health::Degraded, 6..=10);
    let mut world = World::new(cluster(), endpoints([degraded()]));
    assert_about(world.percents([1..=5, 6..=10]), [70, 30]);
    world.update(endpoints([degraded(), locality(1, "b", 11..=20)]));
    assert_about(world.percents([1..=5, 6..=10, 11..=20]), [70, 0, 30]);

    // When they have failed they are asked on, or nobody would know that they are well again.
    world.update(endpoints([degraded()]));
    world.fake.fail(6..=10);
    assert_eq!(world.percents([1..=5]), [100]);
    for port in 6..=10 {
        world.fake.set(port, Connectivity::Idle);
    }
    world.connect();
    assert_about(world.percents([1..=5, 6..=10]), [70, 30]);

    let few = ill(locality(0, "a", 1..=10), Health::Degraded, [1, 2]);
    let world = World::new(cluster(), endpoints([few]));
    assert_eq!(world.percents([3..=10]), [100]);
    assert!(!world.is_asked(1), "connected when they are needed");
}

#[tokio::test(start_paused = true)]
async fn what_drains_is_neither_counted_nor_picked() {
    let config = endpoints([
        ill(locality(0, "a", 1..=10), Health::Draining, 2..=10),
        locality(1, "b", [11]),
    ]);
    let mut world = World::new(cluster(), config);
    assert_eq!(world.percents([1..=1]), [100], "all that count are well");
    assert_eq!(world.fake.opened.load(Ordering::Relaxed), 2);
    world.update(endpoints([ill(
        locality(0, "a", [1, 2]),
        Health::Draining,
        [1, 2],
    )]));
    assert_eq!(
        pick(&world.snapshot),
        Got::Fail(
            r#"no endpoints in EDS resource "service" of cluster "cluster" but 2 that are not healthy"#
                .to_owned()
        )
    );
}

#[tokio::test(start_paused = true)]
async fn calls_fail_at_once_when_all_have_failed() {
    for threshold in [50.0, 0.0] {
        let world = World::new(cluster_of(threshold), two_priorities());
        let mut changed = std::pin::pin!(world.snapshot.notified());
        world.fake.fail(1..=10);
        assert_eq!(pick(&world.snapshot), Got::Wait, "for priority 1");
        world.fake.fail(11..=20);
        assert!(changed.as_mut().enable(), "who waits is told");
        let Got::Fail(reason) = pick(&world.snapshot) else {
            panic!("all have failed");
        };
        assert!(reason.contains("all 20 endpoints"), "{reason}");
        world.fake.ready([20]);
        assert_eq!(pick(&world.snapshot), Got::Port(20));
    }
}

#[tokio::test(start_paused = true)]
async fn without_endpoints_calls_fail_and_drops_draw_none() {
    let world = World::new(cluster(), endpoints([]));
    assert!(pick(&world.snapshot).failed());
    let world = World::new(cluster(), endpoints([locality(0, "a", [])]));
    assert!(pick(&world.snapshot).failed());
    let mut all = Endpoints::clone(&endpoints([
        locality(0, "a", [1, 2]),
        locality(1, "b", [3]),
    ]));
    all.drops = vec![crate::config::Drop {
        category: "all".into(),
        share: crate::config::Fraction::per_million(1_000_000),
    }];
    let world = World::new(cluster(), Arc::new(all));
    assert!(world.snapshot.dropped().is_some());
    world.fake.fail([1]);
    assert!(world.snapshot.dropped().is_some(), "two share the load");
    world.fake.fail([2]);
    assert_eq!(world.snapshot.dropped(), None, "nothing is usable");
    world.connect();
    assert!(world.snapshot.dropped().is_some());
}

#[tokio::test(start_paused = true)]
async fn localities_share_by_weight_but_in_a_panic() {
    let weighted = |ill_ones: &[u16]| {
        let mut a = ill(locality(0, "a", [1]), Health::Unhealthy, ill_ones.to_vec());
        a.weight = 3;
        let b = ill(
            locality(0, "b", 2..=4),
            Health::Unhealthy,
            ill_ones.to_vec(),
        );
        endpoints([a, b])
    };
    let mut world = World::new(cluster(), weighted(&[]));
    assert_about(world.percents([1..=1, 2..=4]), [75, 25]);
    world.update(weighted(&[2, 3, 4]));
    assert_about(world.percents([1..=1, 2..=4]), [25, 75]);
    world.update(weighted(&[4]));
    assert_about(world.percents([1..=1, 2..=3]), [75, 25]);
}
