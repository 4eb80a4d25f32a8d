//! What it costs to pick an endpoint among many, and to count its call, for a load report or not.
//!
//! `cargo bench -p mesh-tests --bench pick -- [--quick]`

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use mesh_core::{
    Semantics,
    balance::{Balancers, ClusterSnapshot, LeastRequest, PickCx, Picked, RoundRobin},
    bootstrap::ServerConfig,
    config::{
        Address, Breakers, Cluster, Connections, Discovery, EndpointConfig, Endpoints, Health,
        LbPolicy, LoadReport, Locality, LocalityId, PolicyConfig,
    },
    runtime::Transport,
};
use mesh_tests::{
    bench::{
        BoxError,
        table::{self, Entry},
    },
    instant::Instant,
    micro::nanoseconds,
};

/// Endpoints in the cluster.
const SIZES: [usize; 4] = [100, 1_000, 10_000, 100_000];
/// Nanoseconds at [`BAR_SIZE`] endpoints that are all ready.
const BAR: f64 = 30.0;
const BAR_SIZE: usize = 10_000;
/// How much longer a pick among the most endpoints may take than one among the fewest.
const GROWTH: f64 = 2.5;

fn main() -> Result<(), BoxError> {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let rounds = if quick { 100 } else { 1_000 };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    let _entered = runtime.enter();
    println!(
        "{:<16} {:<12} {:>10} {:>8} {:>8}",
        "policy", "ready", "endpoints", "ns/pick", "growth"
    );
    let mut entries = Vec::new();
    for ready in [Ready::All, Ready::NineInTen, Ready::OneInTen] {
        for policy in [round_robin(), least_request()] {
            let mut first = None;
            for size in SIZES {
                let snapshot = cluster(size, &policy, ready, None);
                let cost = nanoseconds(rounds, |_| pick(&snapshot));
                let growth = cost / *first.get_or_insert(cost);
                println!(
                    "{:<16} {:<12} {size:>10} {cost:>8.1} {growth:>7.2}x",
                    policy.0.name(),
                    ready.name()
                );
                if ready != Ready::All {
                    continue;
                }
                let measure = format!("a pick by {}", policy.0.name());
                if size == BAR_SIZE {
                    let of = format!("{size} endpoints");
                    entries.push(Entry::at_most(&measure, &of, BAR, cost, " ns"));
                }
                if size == SIZES[SIZES.len() - 1] {
                    let of = format!("{} endpoints with {size}", SIZES[0]);
                    entries.push(Entry::at_most(&measure, &of, GROWTH, growth, "x"));
                }
            }
        }
    }
    let report = LoadReport {
        server: Some(Arc::new(
            ServerConfig::insecure("xds.test:1")
                .build()
                .expect("an address"),
        )),
        service: "endpoints".into(),
        metrics: Arc::default(),
    };
    for (what, report) in [("counted", None), ("counted and reported", Some(report))] {
        let snapshot = cluster(SIZES[0], &round_robin(), Ready::All, report);
        let Picked::Endpoint(endpoint) = pick(&snapshot) else {
            panic!("all are ready");
        };
        let cost = nanoseconds(rounds, |_| snapshot.begin(&endpoint).end(true));
        println!("a call is {what}: {cost:.1} ns");
    }
    println!();
    table::keep(env!("CARGO_TARGET_TMPDIR"), "pick", &entries)
}

/// Which endpoints are ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ready {
    All,
    NineInTen,
    OneInTen,
}

fn round_robin() -> PolicyConfig {
    PolicyConfig(Arc::new(RoundRobin))
}

fn least_request() -> PolicyConfig {
    let choices = LeastRequest::DEFAULT_CHOICE_COUNT;
    PolicyConfig(Arc::new(LeastRequest::new(choices)))
}

fn pick(snapshot: &ClusterSnapshot<Instant>) -> Picked<<Instant as Transport>::Conn> {
    snapshot.pick(&PickCx::default())
}

/// A cluster of one locality with this many endpoints.
fn cluster(
    size: usize,
    policy: &PolicyConfig,
    ready: Ready,
    report_load: Option<LoadReport>,
) -> Arc<ClusterSnapshot<Instant>> {
    let cluster = Cluster {
        name: "cluster".into(),
        discovery: Discovery::Eds("endpoints".into()),
        lb: LbPolicy::Localities(policy.clone()),
        breakers: Breakers::default(),
        connections: Connections::default(),
        tls: None,
        report_load,
        service: None,
        panic_threshold: 50.0,
    };
    let endpoint = |number: usize| EndpointConfig {
        more: Box::default(),
        address: address(number),
        weight: 1,
        health: Health::Healthy,
        hostname: None,
        workload: None,
    };
    let endpoints = Endpoints {
        name: "endpoints".into(),
        localities: vec![Locality {
            id: Arc::new(LocalityId {
                region: "europe-west1".into(),
                zone: "europe-west1-b".into(),
                sub_zone: String::new(),
            }),
            priority: 0,
            weight: 1,
            endpoints: (0..size).map(endpoint).collect(),
        }],
        drops: Vec::new(),
        overprovisioning_factor: 140,
    };
    let balancers = Balancers::new(Arc::new(Instant::new(ready.reaches())));
    let snapshot = balancers.cluster(Semantics::Grpc, &Arc::new(cluster), &Arc::new(endpoints));
    assert!(matches!(pick(&snapshot), Picked::Endpoint(_)));
    snapshot
}

fn address(number: usize) -> Address {
    let [_, b, c, d] = (number as u32).to_be_bytes();
    Address::Socket(SocketAddr::from((Ipv4Addr::new(10, b, c, d), 80)))
}

// === impl Ready ===

impl Ready {
    fn name(self) -> &'static str {
        match self {
            Ready::All => "all",
            Ready::NineInTen => "9 in 10",
            Ready::OneInTen => "1 in 10",
        }
    }

    fn reaches(self) -> fn(&Address) -> bool {
        match self {
            Ready::All => |_| true,
            Ready::NineInTen => |address| !is_tenth(address),
            Ready::OneInTen => is_tenth,
        }
    }
}

fn is_tenth(address: &Address) -> bool {
    match address {
        Address::Socket(SocketAddr::V4(address)) => address.ip().to_bits().is_multiple_of(10),
        _ => false,
    }
}
