//! Tests of whole clusters, over a transport that only does what the test says.

mod aggregate;
mod cluster;
mod http;
mod model;
mod policies;
mod priority;

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;

use super::{
    Balancers, ClusterSnapshot, Connectivity, Endpoint, LeastRequest, LinkState, PickCx, Picked,
    PolicySpec, RoundRobin,
};
use crate::{
    Semantics,
    config::{
        Address, Breakers, Cluster, Connections, Discovery, EndpointConfig, Endpoints, Health,
        LbPolicy, Locality, LocalityId, PolicyConfig,
    },
    runtime::Transport,
};

/// Connects to nothing, and reports what the test tells it to.
#[derive(Debug, Default)]
struct Fake {
    /// The connection opened last, by port.
    conns: Mutex<HashMap<u16, Arc<Conn>>>,
    opened: AtomicUsize,
    retired: AtomicUsize,
}

#[derive(Debug)]
struct Conn {
    link: Arc<LinkState>,
    connects: AtomicUsize,
    retired: AtomicBool,
}

impl Transport for Fake {
    type Conn = Arc<Conn>;

    fn open(&self, link: &Arc<LinkState>) -> Self::Conn {
        let conn = Arc::new(Conn {
            link: Arc::clone(link),
            connects: AtomicUsize::new(0),
            retired: AtomicBool::new(false),
        });
        self.opened.fetch_add(1, Ordering::Relaxed);
        let port = port(link.address());
        self.conns.lock().insert(port, Arc::clone(&conn));
        conn
    }

    fn connect(&self, conn: &Self::Conn, _: &Arc<LinkState>) {
        if !conn.retired.load(Ordering::Relaxed) {
            conn.connects.fetch_add(1, Ordering::Relaxed);
            if conn.link.connectivity() == Connectivity::Idle {
                conn.link.set(Connectivity::Connecting, None);
            }
        }
    }

    fn retire(&self, conn: &Self::Conn) {
        assert!(!conn.retired.swap(true, Ordering::Relaxed), "retired twice");
        self.retired.fetch_add(1, Ordering::Relaxed);
    }
}

impl Fake {
    fn conn(&self, port: u16) -> Arc<Conn> {
        Arc::clone(&self.conns.lock()[&port])
    }

    fn connects(&self, port: u16) -> usize {
        self.conn(port).connects.load(Ordering::Relaxed)
    }

    fn is_retired(&self, port: u16) -> bool {
        self.conn(port).retired.load(Ordering::Relaxed)
    }

    fn set(&self, port: u16, to: Connectivity) {
        let error = (to == Connectivity::Failing).then(|| "connection refused".into());
        self.conn(port).link.set(to, error);
    }

    fn ready(&self, ports: impl IntoIterator<Item = u16>) {
        for port in ports {
            self.set(port, Connectivity::Ready);
        }
    }

    fn fail(&self, ports: impl IntoIterator<Item = u16>) {
        for port in ports {
            self.set(port, Connectivity::Failing);
        }
    }
}

fn port(address: &Address) -> u16 {
    match address {
        Address::Socket(address) => address.port(),
        Address::Name(name, _) => panic!("not a port: {name}"),
        Address::Unix(path) => panic!("not a port: {}", path.display()),
    }
}

fn fixture() -> (Arc<Fake>, Balancers<Fake>) {
    let fake = Arc::new(Fake::default());
    (Arc::clone(&fake), Balancers::new(fake))
}

fn cluster_with(lb: LbPolicy) -> Arc<Cluster> {
    Arc::new(Cluster {
        name: "cluster".into(),
        discovery: Discovery::Eds("service".into()),
        lb,
        breakers: Breakers::default(),
        connections: Connections::default(),
        tls: None,
        report_load: None,
        service: None,
        panic_threshold: 50.0,
    })
}

fn policy(spec: impl PolicySpec) -> PolicyConfig {
    PolicyConfig(Arc::new(spec))
}

fn cluster() -> Arc<Cluster> {
    cluster_with(LbPolicy::Localities(policy(RoundRobin)))
}

/// A locality of weight 1, called `zone`.
fn locality(priority: u32, zone: &str, ports: impl IntoIterator<Item = u16>) -> Locality {
    Locality {
        id: Arc::new(LocalityId {
            zone: zone.to_owned(),
            ..LocalityId::default()
        }),
        priority,
        weight: 1,
        endpoints: ports
            .into_iter()
            .map(|port| EndpointConfig {
                more: Box::default(),
                address: Address::Socket(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
                weight: 1,
                health: Health::Unknown,
                hostname: None,
                workload: None,
            })
            .collect(),
    }
}

fn endpoints(localities: impl IntoIterator<Item = Locality>) -> Arc<Endpoints> {
    Arc::new(Endpoints {
        name: "service".into(),
        localities: localities.into_iter().collect(),
        drops: Vec::new(),
        overprovisioning_factor: 140,
    })
}

/// What a pick comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Got {
    Port(u16),
    Wait,
    Fail(String),
}

fn pick_endpoint(snapshot: &ClusterSnapshot<Fake>) -> Option<Arc<Endpoint<Arc<Conn>>>> {
    match snapshot.pick(&PickCx::default()) {
        Picked::Endpoint(endpoint) => Some(endpoint),
        _ => None,
    }
}

fn pick(snapshot: &ClusterSnapshot<Fake>) -> Got {
    match snapshot.pick(&PickCx::default()) {
        Picked::Endpoint(endpoint) => Got::Port(port(endpoint.link.address())),
        Picked::Wait => Got::Wait,
        Picked::Fail(reason) => Got::Fail(reason.to_string()),
    }
}

/// Lets timers that are due run.
async fn pass(seconds: u64) {
    // A little more: a timer may be late by one tick.
    tokio::time::sleep(std::time::Duration::from_millis(seconds * 1000 + 2)).await;
}

impl Got {
    fn failed(&self) -> bool {
        matches!(self, Got::Fail(_))
    }
}
