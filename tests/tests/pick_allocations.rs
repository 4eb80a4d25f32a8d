//! A pick and the count of its call allocate nothing, whatever the semantics and the health of the
//! endpoints, and whether the load of the cluster is reported or not.
//!
//! In a process of its own, because allocations are counted for the whole of it.

use std::{
    alloc::System,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use mesh_core::{
    Semantics,
    balance::{Balancers, LeastRequest, PickCx, Picked, RoundRobin},
    bootstrap::ServerConfig,
    config::{
        Address, Breakers, Cluster, Connections, Discovery, EndpointConfig, Endpoints, Health,
        LbPolicy, LoadReport, Locality, LocalityId, PolicyConfig,
    },
};
use mesh_tests::instant::Instant;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const PICKS: usize = 10_000;

/// Ten endpoints, of which so many are unhealthy.
fn locality(priority: u32, zone: &str, unhealthy: u16) -> Locality {
    let first = 100 * u16::from(zone.as_bytes()[0]);
    let endpoint = |number| EndpointConfig {
        more: Box::default(),
        address: Address::Socket(SocketAddr::from((Ipv4Addr::LOCALHOST, first + number))),
        weight: 1,
        health: match number < unhealthy {
            true => Health::Unhealthy,
            false => Health::Healthy,
        },
        hostname: None,
        workload: None,
    };
    Locality {
        id: Arc::new(LocalityId {
            zone: zone.to_owned(),
            ..LocalityId::default()
        }),
        priority,
        weight: 1,
        endpoints: (0..10).map(endpoint).collect(),
    }
}

/// Picks by the thousand, and says how many allocations that took and how many priorities got some.
fn pick(
    semantics: Semantics,
    lb: LbPolicy,
    localities: Vec<Locality>,
    report_load: Option<LoadReport>,
) -> (usize, usize) {
    let cluster = Cluster {
        name: "cluster".into(),
        discovery: Discovery::Eds("endpoints".into()),
        lb,
        breakers: Breakers::default(),
        connections: Connections::default(),
        tls: None,
        report_load,
        service: None,
        panic_threshold: 50.0,
    };
    let priority = |zone: &str| {
        let mut of_zone = localities
            .iter()
            .filter(|locality| locality.id.zone == zone);
        of_zone
            .next()
            .map_or(0, |locality| locality.priority as usize)
    };
    let endpoints = Endpoints {
        name: "endpoints".into(),
        localities: localities.clone(),
        drops: Vec::new(),
        overprovisioning_factor: Endpoints::DEFAULT_OVERPROVISIONING_FACTOR,
    };
    let balancers = Balancers::new(Arc::new(Instant::everywhere()));
    let snapshot = balancers.cluster(semantics, &Arc::new(cluster), &Arc::new(endpoints));
    let mut hits = [0_usize; 2];
    let region = Region::new(ALLOCATOR);
    for _ in 0..PICKS {
        let Picked::Endpoint(endpoint) = snapshot.pick(&PickCx::default()) else {
            panic!("all are ready");
        };
        snapshot.begin(&endpoint).end(true);
        hits[priority(&endpoint.link.locality().zone)] += 1;
    }
    let change = region.change();
    let used = hits.into_iter().filter(|&hits| hits != 0).count();
    (change.allocations + change.reallocations, used)
}

#[tokio::test]
async fn a_pick_allocates_nothing() {
    let policies = || {
        let round_robin = PolicyConfig(Arc::new(RoundRobin));
        let least_request = PolicyConfig(Arc::new(LeastRequest::new(2)));
        [
            LbPolicy::Localities(round_robin.clone()),
            LbPolicy::Endpoints(round_robin),
            LbPolicy::Endpoints(least_request),
        ]
    };
    let well = || {
        vec![
            locality(0, "a", 0),
            locality(0, "b", 0),
            locality(1, "c", 0),
        ]
    };
    let half = || {
        vec![
            locality(0, "a", 5),
            locality(0, "b", 5),
            locality(1, "c", 0),
        ]
    };
    let panic = || {
        vec![
            locality(0, "a", 9),
            locality(0, "b", 9),
            locality(1, "c", 9),
        ]
    };
    for (semantics, localities, priorities) in [
        (Semantics::Grpc, well(), 1),
        (Semantics::Grpc, half(), 1),
        (Semantics::Http, well(), 1),
        (Semantics::Http, half(), 2),
        (Semantics::Http, panic(), 2),
    ] {
        let reported = LoadReport {
            server: Some(Arc::new(
                ServerConfig::insecure("xds.test:1")
                    .build()
                    .expect("an address"),
            )),
            service: "endpoints".into(),
            metrics: Arc::default(),
        };
        for lb in policies() {
            for report in [None, Some(reported.clone())] {
                let got = pick(semantics, lb.clone(), localities.clone(), report);
                assert_eq!(got, (0, priorities), "{semantics:?} {localities:?}");
            }
        }
    }
}
