//! Tried endpoints, hashes, and lives of priorities and snapshots.

use std::any::Any;

use super::*;
use crate::balance::{Group, Pick, Policy};

/// Picks until all are tried; then any.
fn try_all(world: &World, mut expected: Vec<u16>) {
    let mut tried = Vec::new();
    while !expected.is_empty() {
        let cx = PickCx {
            tried: &tried,
            ..PickCx::default()
        };
        let Picked::Endpoint(endpoint) = world.snapshot.pick(&cx) else {
            panic!("ready");
        };
        let port = port(endpoint.link.address());
        let at = expected.iter().position(|&expected| expected == port);
        expected.swap_remove(at.unwrap_or_else(|| panic!("{port} is not of {expected:?}")));
        tried.push(Arc::clone(&endpoint.link));
    }
    let cx = PickCx {
        tried: &tried,
        ..PickCx::default()
    };
    assert!(matches!(world.snapshot.pick(&cx), Picked::Endpoint(e) if cx.has_tried(&e.link)));
}

#[tokio::test(start_paused = true)]
async fn tried_endpoints_are_avoided_over_all_that_share_the_load() {
    for lb in [
        LbPolicy::Endpoints(policy(RoundRobin)),
        LbPolicy::Localities(policy(RoundRobin)),
        LbPolicy::Localities(policy(LeastRequest::new(2))),
    ] {
        let config = endpoints([
            locality(0, "a", [1]),
            locality(0, "b", [2, 3]),
            locality(1, "c", [4, 5]),
        ]);
        let world = World::new(cluster_with(lb), config);
        // While priority 0 is whole it takes all, as in Envoy.
        try_all(&world, vec![1, 2, 3]);
        world.fake.fail([2]);
        world.connect();
        for _ in 0..50 {
            try_all(&world, vec![1, 3, 4, 5]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_priority_without_load_is_kept_for_a_while() {
    let world = World::new(cluster(), two_priorities());
    world.fake.fail(1..=5);
    world.connect();
    world.fake.ready(1..=5);
    pass(600).await;
    world.fake.fail(1..=5);
    world.fake.ready(1..=5);
    let old = world.fake.conn(11);
    pass(899).await;
    assert!(!old.retired.load(Ordering::Relaxed));
    pass(1).await;
    assert!(old.retired.load(Ordering::Relaxed), "15 minutes unused");
    assert!(!world.is_asked(11), "opened anew");
    assert!((1..=10).all(|port| !world.fake.is_retired(port)));
    // What was known of it is forgotten: it is healthy, and takes load once it is needed.
    world.fake.fail(1..=10);
    assert_eq!(pick(&world.snapshot), Got::Wait);
    world.connect();
    assert_eq!(world.percents([11..=20]), [100]);
}

#[tokio::test(start_paused = true)]
async fn so_is_one_that_another_was_put_before() {
    let mut world = World::new(cluster(), endpoints([locality(0, "a", [1])]));
    let old = world.fake.conn(1);
    world.update(endpoints([locality(0, "b", [2]), locality(1, "a", [1])]));
    assert_eq!(world.percents([1..=1, 2..=2]), [0, 100]);
    pass(899).await;
    assert!(!old.retired.load(Ordering::Relaxed));
    pass(1).await;
    assert!(old.retired.load(Ordering::Relaxed), "15 minutes unused");
    assert!(!world.is_asked(1));
}

#[tokio::test(start_paused = true)]
async fn older_snapshots_share_as_the_newest_says() {
    let mut world = World::new(cluster(), two_priorities());
    world.fake.fail(1..=5);
    world.connect();
    let old = Arc::clone(&world.snapshot);
    world.update(endpoints([locality(0, "b", 11..=20)]));
    let new = std::mem::replace(&mut world.snapshot, old);
    assert_eq!(world.percents([1..=10, 11..=20]), [0, 100]);
    drop(new);
    assert_about(world.percents([6..=10, 11..=20]), [70, 30]);
}

#[tokio::test(start_paused = true)]
async fn both_semantics_have_endpoints_of_their_own_and_one_breaker() {
    let (fake, balancers) = fixture();
    let mut limited = Cluster::clone(&cluster());
    limited.breakers.max_requests = 1;
    limited.breakers.max_retries = 1;
    let (cluster, endpoints) = (Arc::new(limited), endpoints([locality(0, "a", [1])]));
    let grpc = balancers.cluster(Semantics::Grpc, &cluster, &endpoints);
    let http = balancers.cluster(Semantics::Http, &cluster, &endpoints);
    assert_eq!(fake.opened.load(Ordering::Relaxed), 2);
    let permits = (grpc.admit(), grpc.admit_retry());
    assert!(http.admit().is_err() && http.admit_retry().is_err());
    drop(permits);
    assert!(http.admit().is_ok() && http.admit_retry().is_ok());
}

/// Always the first that is ready, and the hash decides among priorities.
#[derive(Debug)]
struct First;

#[derive(Debug)]
struct Picker(Arc<Group>);

impl PolicySpec for First {
    fn name(&self) -> &'static str {
        "first"
    }

    fn build(&self, group: &Arc<Group>) -> Box<dyn Policy> {
        Box::new(Picker(Arc::clone(group)))
    }

    fn equals(&self, other: &dyn PolicySpec) -> bool {
        (other as &dyn Any).is::<Self>()
    }

    fn is_hashing(&self) -> bool {
        true
    }
}

impl Policy for Picker {
    fn pick(&self, _: &PickCx<'_>) -> Pick {
        self.0.ready().next(0).map_or(Pick::None, Pick::Endpoint)
    }
}

#[tokio::test(start_paused = true)]
async fn a_hash_stays_with_its_priority() {
    for (lb, sticks) in [
        (LbPolicy::Endpoints(policy(First)), true),
        (LbPolicy::Endpoints(policy(RoundRobin)), false),
    ] {
        let world = World::new(cluster_with(lb), two_priorities());
        world.fake.fail(1..=5);
        world.connect();
        let priority = |hash| {
            let cx = PickCx {
                hash: Some(hash),
                ..PickCx::default()
            };
            let Picked::Endpoint(endpoint) = world.snapshot.pick(&cx) else {
                panic!("ready");
            };
            endpoint.link.locality().zone.clone()
        };
        let stays = (0..200).all(|hash| {
            let first = priority(hash);
            (0..20).all(|_| priority(hash) == first)
        });
        assert_eq!(stays, sticks);
        let in_first = (0..100).filter(|&hash| priority(hash) == "a").count();
        assert!((50..90).contains(&in_first), "{in_first}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn picks_beside_updates_and_reports_stay_sound() {
    let healths = [Health::Healthy, Health::Degraded, Health::Unhealthy];
    let versions = healths.map(|health| {
        endpoints([
            ill(locality(0, "a", 1..=10), health, 1..=5),
            locality(1, "b", 11..=20),
        ])
    });
    let world = World::new(cluster(), Arc::clone(&versions[0]));
    world.fake.fail(1..=5);
    world.connect();
    let pickers: Vec<_> = (0..3)
        .map(|_| {
            let snapshot = Arc::clone(&world.snapshot);
            tokio::task::spawn_blocking(move || {
                for _ in 0..20_000 {
                    assert!(!pick(&snapshot).failed());
                }
            })
        })
        .collect();
    for round in 0..300 {
        let version = &versions[round % versions.len()];
        let _other = world
            .balancers
            .cluster(Semantics::Http, &world.cluster, version);
        let port = 1 + (round % 9) as u16;
        world.fake.fail([port]);
        world.fake.ready([port]);
        world.connect();
    }
    for picker in pickers {
        picker.await.expect("does not panic");
    }
}
