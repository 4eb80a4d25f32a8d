//! Who gets how many picks.

use std::collections::BTreeMap;

use super::*;

fn hits(snapshot: &ClusterSnapshot<Fake>, picks: usize) -> BTreeMap<u16, usize> {
    let mut hits = BTreeMap::new();
    for _ in 0..picks {
        let endpoint = pick_endpoint(snapshot).expect("one is ready");
        *hits.entry(port(endpoint.link.address())).or_default() += 1;
    }
    hits
}

fn start(
    lb: LbPolicy,
    localities: impl IntoIterator<Item = Locality>,
) -> (Arc<Fake>, Arc<ClusterSnapshot<Fake>>) {
    let (fake, balancers) = fixture();
    let endpoints = endpoints(localities);
    let snapshot = balancers.cluster(Semantics::Grpc, &cluster_with(lb), &endpoints);
    let all = endpoints.localities.iter().flat_map(|l| &l.endpoints);
    fake.ready(all.map(|endpoint| port(&endpoint.address)));
    (fake, snapshot)
}

fn weighted(mut locality: Locality, weight: u32) -> Locality {
    locality.weight = weight;
    locality
}

#[tokio::test]
async fn round_robin_is_even_among_the_ready() {
    let lb = LbPolicy::Endpoints(policy(RoundRobin));
    let (fake, snapshot) = start(lb, [locality(0, "a", 1..=3)]);
    assert_eq!(
        hits(&snapshot, 300),
        BTreeMap::from([(1, 100), (2, 100), (3, 100)])
    );
    fake.fail([2]);
    assert_eq!(hits(&snapshot, 300), BTreeMap::from([(1, 150), (3, 150)]));
    fake.fail([1]);
    assert_eq!(hits(&snapshot, 300), BTreeMap::from([(3, 300)]));
}

#[tokio::test]
async fn round_robin_honours_endpoint_weights() {
    let mut locality = locality(0, "a", 1..=3);
    for (endpoint, weight) in locality.endpoints.iter_mut().zip([5, 1, 2]) {
        endpoint.weight = weight;
    }
    let (fake, snapshot) = start(LbPolicy::Endpoints(policy(RoundRobin)), [locality]);
    assert_eq!(
        hits(&snapshot, 800),
        BTreeMap::from([(1, 500), (2, 100), (3, 200)])
    );
    fake.fail([1]);
    let hits = hits(&snapshot, 900);
    assert!((299..=301).contains(&hits[&2]), "{hits:?}");
}

#[tokio::test]
async fn localities_share_by_weight_whatever_their_size() {
    let localities = [
        weighted(locality(0, "a", [1]), 3),
        weighted(locality(0, "b", 2..=11), 1),
        weighted(locality(0, "c", []), 7),
    ];
    let (fake, snapshot) = start(LbPolicy::Localities(policy(RoundRobin)), localities);
    assert_eq!(hits(&snapshot, 400)[&1], 300);
    fake.fail(3..=11);
    assert_eq!(hits(&snapshot, 400), BTreeMap::from([(1, 300), (2, 100)]));
    fake.fail([1]);
    assert_eq!(hits(&snapshot, 10), BTreeMap::from([(2, 10)]));
}

#[tokio::test]
async fn as_one_group_endpoints_share_whatever_their_locality() {
    let localities = [
        weighted(locality(0, "a", [1]), 3),
        weighted(locality(0, "b", 2..=4), 1),
    ];
    let (_fake, snapshot) = start(LbPolicy::Endpoints(policy(RoundRobin)), localities);
    assert_eq!(hits(&snapshot, 400)[&1], 100);
}

#[tokio::test]
async fn least_request_prefers_the_idle() {
    let lb = LbPolicy::Localities(policy(LeastRequest::new(2)));
    let (fake, snapshot) = start(lb, [locality(0, "a", 1..=4)]);
    let _busy = fake.conn(1).link.begin();
    // The busy one is picked only if it is drawn twice: 1 in 16.
    let hits = hits(&snapshot, 16_000);
    assert!((800..1_200).contains(&hits[&1]), "{hits:?}");
    fake.fail([2, 3, 4]);
    assert_eq!(pick(&snapshot), Got::Port(1));
}

#[tokio::test]
async fn least_request_levels_the_load() {
    let lb = LbPolicy::Localities(policy(LeastRequest::new(10)));
    let (fake, snapshot) = start(lb, [locality(0, "a", 1..=4)]);
    let calls: Vec<_> = (0..400)
        .map(|_| {
            pick_endpoint(&snapshot)
                .expect("all are ready")
                .link
                .begin()
        })
        .collect();
    for port in 1..=4 {
        let load = fake.conn(port).link.in_flight();
        assert!((95..=105).contains(&load), "{load}");
    }
    drop(calls);
    assert!((1..=4).all(|port| fake.conn(port).link.in_flight() == 0));
}

#[tokio::test]
async fn tried_endpoints_are_avoided_where_there_are_others() {
    for lb in [
        LbPolicy::Endpoints(policy(RoundRobin)),
        LbPolicy::Localities(policy(RoundRobin)),
        LbPolicy::Localities(policy(LeastRequest::new(2))),
    ] {
        let localities = [locality(0, "a", [1]), locality(0, "b", 2..=4)];
        let (fake, snapshot) = start(lb, localities);
        let mut tried = Vec::new();
        for _ in 0..4 {
            let cx = PickCx {
                tried: &tried,
                ..PickCx::default()
            };
            let Picked::Endpoint(endpoint) = snapshot.pick(&cx) else {
                panic!("all are ready");
            };
            assert!(!tried.iter().any(|tried| Arc::ptr_eq(tried, &endpoint.link)));
            tried.push(Arc::clone(&endpoint.link));
        }
        let cx = PickCx {
            tried: &tried,
            ..PickCx::default()
        };
        assert!(
            matches!(snapshot.pick(&cx), Picked::Endpoint(_)),
            "all tried: any"
        );
        fake.fail([1, 2, 3]);
        let cx = PickCx {
            tried: &tried,
            ..PickCx::default()
        };
        assert!(
            matches!(snapshot.pick(&cx), Picked::Endpoint(_)),
            "the only one"
        );
    }
}

#[tokio::test]
async fn few_ready_of_many() {
    let lb = LbPolicy::Endpoints(policy(RoundRobin));
    let (fake, snapshot) = start(lb, [locality(0, "a", 1..=10_000)]);
    fake.fail((1..=10_000).filter(|port| ![5, 700, 9_999].contains(port)));
    let expected = BTreeMap::from([(5, 100), (700, 100), (9_999, 100)]);
    assert_eq!(hits(&snapshot, 300), expected);
}
