//! Aggregate clusters: which of those that stand in for one takes calls.

use std::collections::BTreeMap;

use super::*;
use crate::balance::{Aggregate, LeafConfig};

struct World {
    fake: Arc<Fake>,
    balancers: Balancers<Fake>,
    semantics: Semantics,
    aggregate: Arc<Aggregate<Fake>>,
}

impl World {
    fn new(semantics: Semantics, leaves: Vec<LeafConfig>) -> Self {
        let (fake, balancers) = fixture();
        let aggregate = balancers.aggregate(semantics, &"aggregate".into(), leaves);
        Self {
            fake,
            balancers,
            semantics,
            aggregate,
        }
    }

    fn update(&self, leaves: Vec<LeafConfig>) {
        let same = self
            .balancers
            .aggregate(self.semantics, &"aggregate".into(), leaves);
        assert!(Arc::ptr_eq(&same, &self.aggregate));
    }

    /// Who takes a call now, after the task of the aggregate ran.
    async fn chosen(&self) -> String {
        pass(0).await;
        let leaf = self.aggregate.choose().expect("there is one");
        leaf.cluster.config().name.to_string()
    }

    fn opened(&self) -> usize {
        self.fake.opened.load(Ordering::Relaxed)
    }
}

/// A cluster of one locality.
fn leaf(name: &str, ports: impl IntoIterator<Item = u16>) -> LeafConfig {
    let mut cluster = Arc::into_inner(cluster()).expect("nobody else has it");
    cluster.name = name.into();
    LeafConfig {
        cluster: Arc::new(cluster),
        endpoints: endpoints([locality(0, name, ports)]),
        note: None,
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_cluster_takes_calls_while_the_preferred_one_fails() {
    let world = World::new(Semantics::Grpc, vec![leaf("a", [1]), leaf("b", [2])]);
    assert_eq!(world.chosen().await, "a");
    world.fake.ready([1]);
    assert_eq!(world.chosen().await, "a");
    assert_eq!(world.opened(), 1, "the other is not needed");

    let changed = world.aggregate.notified();
    world.fake.fail([1]);
    changed.await;
    assert_eq!(world.chosen().await, "b");
    assert_eq!(world.fake.connects(2), 1);
    world.fake.ready([2]);
    assert_eq!(world.chosen().await, "b");
    world.fake.ready([1]);
    assert_eq!(world.chosen().await, "a");
}

#[tokio::test(start_paused = true)]
async fn a_call_need_not_wait_for_the_task() {
    let world = World::new(Semantics::Grpc, vec![leaf("a", [1]), leaf("b", [2])]);
    world.fake.fail([1]);
    let leaf = world.aggregate.choose_now().expect("there is one");
    assert_eq!(&*leaf.cluster.config().name, "b");
}

#[tokio::test(start_paused = true)]
async fn a_cluster_has_ten_seconds_to_connect() {
    let world = World::new(Semantics::Grpc, vec![leaf("a", [1]), leaf("b", [2])]);
    pass(9).await;
    assert_eq!(world.chosen().await, "a");
    pass(1).await;
    assert_eq!(world.chosen().await, "b");
    // A failure of the new one is followed, too: back to the one that still tries.
    world.fake.fail([2]);
    assert_eq!(world.chosen().await, "a");
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_is_not_needed_is_kept_for_15_minutes() {
    let world = World::new(Semantics::Grpc, vec![leaf("a", [1]), leaf("b", [2])]);
    world.fake.fail([1]);
    assert_eq!(world.chosen().await, "b");
    world.fake.ready([2, 1]);
    assert_eq!(world.chosen().await, "a");
    pass(890).await;
    assert!(!world.fake.is_retired(2));
    pass(10).await;
    assert!(world.fake.is_retired(2));
    assert_eq!(world.balancers.len(), 1);
    // And opened anew when it is needed.
    world.fake.fail([1]);
    assert_eq!(world.chosen().await, "b");
    assert_eq!(world.opened(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_a_new_order_leaves_alone_lives_on() {
    let world = World::new(Semantics::Grpc, vec![leaf("a", [1]), leaf("b", [2])]);
    world.fake.fail([1]);
    assert_eq!(world.chosen().await, "b");
    world.fake.ready([2, 1]);
    assert_eq!(world.chosen().await, "a");
    world.update(vec![leaf("b", [2]), leaf("a", [1])]);
    assert_eq!(world.chosen().await, "b");
    // One endpoint more, in the one that takes calls.
    world.update(vec![leaf("b", [2, 3]), leaf("a", [1])]);
    assert_eq!(world.chosen().await, "b");
    assert_eq!(world.opened(), 3);
    assert!(
        ![1, 2, 3]
            .map(|port| world.fake.is_retired(port))
            .contains(&true)
    );
    world.update(vec![leaf("b", [2, 3])]);
    pass(0).await;
    assert!(world.fake.is_retired(1));
}

#[tokio::test(start_paused = true)]
async fn clusters_without_endpoints_are_passed_over() {
    for semantics in [Semantics::Grpc, Semantics::Http] {
        let world = World::new(semantics, vec![leaf("a", []), leaf("b", [2])]);
        assert_eq!(world.chosen().await, "b");
        world.update(vec![leaf("a", []), leaf("b", [])]);
        // Somebody has to say why calls fail.
        world.chosen().await;
        world.update(Vec::new());
        assert!(world.aggregate.choose().is_none());
    }
}

/// As Envoy does it: three of four are well, which is 75 % and counts for 105 %; two of four for 70 %.
#[tokio::test(start_paused = true)]
async fn http_shares_the_load_by_health() {
    let sick = |count: usize| {
        let mut leaf = leaf("a", 1..=4);
        let endpoints = Arc::get_mut(&mut leaf.endpoints).expect("nobody else has them");
        for endpoint in &mut endpoints.localities[0].endpoints[..count] {
            endpoint.health = Health::Unhealthy;
        }
        leaf
    };
    let world = World::new(Semantics::Http, vec![sick(1), leaf("b", [5])]);
    let spread = || {
        let mut spread = BTreeMap::<_, usize>::new();
        for _ in 0..10_000 {
            let leaf = world.aggregate.choose().expect("there is one");
            let name = leaf.cluster.config().name.to_string();
            *spread.entry(name).or_default() += 1;
        }
        spread
    };
    assert_eq!(spread(), BTreeMap::from([("a".to_owned(), 10_000)]));
    assert_eq!(world.fake.conns.lock().get(&5).map(|_| ()), None);
    world.update(vec![sick(2), leaf("b", [5])]);
    let shares = spread();
    assert!((6_500..7_500).contains(&shares["a"]), "{shares:?}");
    assert_eq!(shares["a"] + shares["b"], 10_000);
    // It is well again, and the other is kept for a while.
    world.update(vec![sick(0), leaf("b", [5])]);
    assert_eq!(spread(), BTreeMap::from([("a".to_owned(), 10_000)]));
    pass(890).await;
    assert!(!world.fake.is_retired(5));
    pass(10).await;
    assert!(world.fake.is_retired(5));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_one_that_nobody_holds() {
    let world = World::new(Semantics::Grpc, vec![leaf("a", [1]), leaf("b", [2])]);
    world.fake.fail([1]);
    assert_eq!(world.chosen().await, "b");
    let World {
        fake,
        balancers,
        aggregate,
        ..
    } = world;
    assert!(!aggregate.is_busy());
    drop(aggregate);
    pass(0).await;
    assert!(fake.is_retired(1) && fake.is_retired(2));
    assert_eq!(balancers.len(), 0);
}
