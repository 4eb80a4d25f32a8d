//! The golden signals: served as `/metrics` while the example runs, and as a table in the end.

use std::{collections::BTreeMap, error::Error, net::SocketAddr, time::Duration};

use mesh_core::{
    Mesh,
    config::Workload,
    telemetry::{HistogramSnapshot, Side},
};
use mesh_hyper::Prometheus;
use tokio::{net::TcpListener, time::Instant};

/// With this the example does not end by itself.
pub(crate) const STAY: &str = "--stay";

/// What all meshes of the process have to tell.
pub(crate) struct Golden {
    address: SocketAddr,
    since: Instant,
    meshes: Vec<Mesh>,
}

/// What became of the calls to one version of a service.
#[derive(Default)]
struct Row {
    calls: u64,
    failed: u64,
    durations: HistogramSnapshot,
    /// Whether a circuit breaker of it lets nothing more pass.
    open: bool,
}

/// As Istio writes what runs at an endpoint.
pub(crate) fn at_endpoint(service: &str, version: &str) -> String {
    format!("{service}-{version};shop;{service};{version};quickstart")
}

/// What runs in a process, which elsewhere the bootstrap's node metadata says.
pub(crate) fn workload(service: &str, version: &str) -> Workload {
    let name = format!("{service}-{version}");
    Workload::new([&name, "shop", service, version, "quickstart", "", ""])
}

// === impl Golden ===

impl Golden {
    /// Serves the metrics of `web` at a port of the system's choice.
    pub(crate) async fn start(web: &Mesh) -> Result<Self, Box<dyn Error>> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(Prometheus::new(web).serve(listener));
        println!("the client's metrics for Prometheus: http://{address}/metrics\n");
        Ok(Self {
            address,
            since: Instant::now(),
            meshes: vec![web.clone()],
        })
    }

    /// Another process has calls to tell of.
    pub(crate) fn add(&mut self, mesh: &Mesh) {
        self.meshes.push(mesh.clone());
    }

    /// Prints the table: the calls of all clients, by the service and version that they went to.
    pub(crate) async fn print(&self) {
        let mut rows = BTreeMap::<(String, String), Row>::new();
        for mesh in &self.meshes {
            let reading = mesh.reading().await;
            let clients = reading.series.iter();
            for one in clients.filter(|one| one.series.side == Side::Client) {
                let clusters = reading.targets.iter().flat_map(|target| &target.clusters);
                let open = clusters
                    .filter(|cluster| cluster.cluster == one.series.cluster)
                    .any(|cluster| cluster.in_flight >= cluster.max_requests);
                for calls in one.methods.iter().flat_map(|method| &method.calls) {
                    let version = calls.peer.as_ref().map(|peer| peer.version().to_string());
                    let version = version.unwrap_or_else(|| "-".to_owned());
                    let row = rows.entry((one.series.target.to_string(), version));
                    let row = row.or_default();
                    let count = calls.durations.count();
                    row.calls += count;
                    if calls.code != mesh_core::Code::Ok {
                        row.failed += count;
                    }
                    row.durations.merge(&calls.durations);
                    row.open |= open;
                }
            }
        }
        let seconds = self.since.elapsed().as_secs_f64();
        println!(
            "\n{:20} {:8} {:>8} {:>10} {:>8} {:>10} {:>10} {:>8}",
            "service", "version", "calls", "calls/s", "errors", "p50", "p99", "breaker"
        );
        for ((service, version), row) in rows {
            let millis = |time: Option<Duration>| {
                let millis = time.unwrap_or_default().as_secs_f64() * 1e3;
                format!("{millis:.1} ms")
            };
            println!(
                "{service:20} {version:8} {:>8} {:>10.1} {:>6.1} % {:>10} {:>10} {:>8}",
                row.calls,
                row.calls as f64 / seconds,
                100.0 * row.failed as f64 / row.calls.max(1) as f64,
                millis(row.durations.p50()),
                millis(row.durations.p99()),
                if row.open { "open" } else { "closed" },
            );
        }
    }

    /// Stays until the user has seen enough.
    pub(crate) async fn stay(&self) -> Result<(), Box<dyn Error>> {
        println!(
            "\nit goes on: see http://{}/metrics, end it with Ctrl-C",
            self.address
        );
        tokio::signal::ctrl_c().await?;
        Ok(())
    }
}
