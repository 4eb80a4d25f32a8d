//! Clusters that count, without calls.

use std::sync::Arc;

use http::HeaderMap;

use super::{Counted, Counting, Loads, ServerLoads};
use crate::{
    Semantics,
    balance::RoundRobin,
    bootstrap::ServerConfig,
    config::{
        Breakers, Cluster, Connections, Discovery, EndpointMetric, Endpoints, LbPolicy, LoadReport,
        Locality, LocalityId, MetricMap, PolicyConfig,
    },
    orca::CallLoad,
};

/// A cluster `cluster` with one locality, and calls to it.
#[derive(Debug)]
pub(crate) struct Counter {
    counting: Option<Counting>,
    server: Arc<ServerLoads>,
    loads: Loads,
}

pub(super) fn zone(zone: &str) -> Arc<LocalityId> {
    Arc::new(LocalityId {
        zone: zone.into(),
        ..LocalityId::default()
    })
}

pub(super) fn endpoints(zones: &[&str]) -> Endpoints {
    let localities = zones.iter().map(|name| Locality {
        id: zone(name),
        priority: 0,
        weight: 1,
        endpoints: Vec::new(),
    });
    Endpoints {
        localities: localities.collect(),
        ..Endpoints::none("service")
    }
}

pub(super) fn at(uri: &str) -> Arc<ServerConfig> {
    Arc::new(ServerConfig::insecure(uri).build().expect("an address"))
}

pub(super) fn report_to(server: Arc<ServerConfig>) -> LoadReport {
    LoadReport {
        server: Some(server),
        service: "service".into(),
        metrics: Arc::new(vec![
            EndpointMetric::CpuUtilization,
            EndpointMetric::All(MetricMap::NamedMetrics),
        ]),
    }
}

pub(super) fn cluster(report_load: Option<LoadReport>) -> Cluster {
    Cluster {
        name: "cluster".into(),
        discovery: Discovery::Eds("service".into()),
        lb: LbPolicy::Localities(PolicyConfig(Arc::new(RoundRobin))),
        breakers: Breakers::default(),
        connections: Connections::default(),
        tls: None,
        report_load,
        service: None,
        panic_threshold: 50.0,
    }
}

fn counting(loads: &Loads) -> Counting {
    let cluster = cluster(Some(report_to(at("xds.test:1"))));
    let counting = loads.counting(Semantics::Grpc, &cluster, &endpoints(&["a"]));
    counting.expect("it reports")
}

// === impl Counter ===

impl Counter {
    pub(crate) fn new() -> Self {
        let loads = Loads::default();
        let counting = counting(&loads);
        Self {
            server: Arc::clone(&counting.server),
            counting: Some(counting),
            loads,
        }
    }

    pub(crate) fn server(&self) -> Arc<ServerLoads> {
        Arc::clone(&self.server)
    }

    /// The cluster is used no more.
    pub(crate) fn leave(&mut self) {
        self.counting = None;
    }

    /// It is used again.
    pub(crate) fn come_back(&mut self) {
        self.counting = Some(counting(&self.loads));
    }

    fn counting(&self) -> &Counting {
        self.counting.as_ref().expect("it is in use")
    }

    pub(crate) fn begin(&self) -> Counted {
        self.counting().begin(&zone("a"))
    }

    pub(crate) fn succeed(&self, calls: usize) {
        for _ in 0..calls {
            self.begin().end(true);
        }
    }

    /// A call whose endpoint says these metrics, and CPU use of as much.
    pub(crate) fn succeed_saying(&self, name: &str, value: f64) {
        let load = CallLoad::new();
        load.named_metric(name, value);
        load.cpu_utilization(value);
        let mut trailers = HeaderMap::new();
        load.write(&mut trailers);
        let mut call = self.begin();
        call.said(&trailers);
        call.end(true);
    }

    pub(crate) fn fail(&self, calls: usize) {
        for _ in 0..calls {
            drop(self.begin());
        }
    }

    pub(crate) fn drop_call(&self, category: &str) {
        self.counting().dropped(&category.into());
    }

    pub(crate) fn shed(&self) {
        self.counting().shed();
    }
}
