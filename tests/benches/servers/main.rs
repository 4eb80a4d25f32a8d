//! What a request costs a server: servers answer the same unary gRPC calls of the same client over
//! mTLS, and accept its connections.
//!
//! `cargo bench -p mesh-tests --bench servers -- [--quick] [--json FILE]
//! [--callgrind]`
//!
//! Each server is a process of its own. The client, which is tonic's, and the control plane are in
//! this one. Servers take turns, round by round; what is measured is the server's process alone.

mod load;
mod server;

use std::{net::SocketAddr, path::Path, sync::Arc};

use mesh_core::testing::{
    CertificateAuthority, ControlPlane, Leaf, ListenerTls, Permission, Principal, Rbac,
};
use mesh_tests::{
    bench::{
        BoxError, Folder, Pem, Plan, Process, Sample, measured, per_call,
        report::{self, Bar, Row},
        table,
    },
    loaded::PATH,
};
use server::Order;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

/// Counts allocations of the server processes.
#[global_allocator]
static ALLOCATOR: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

/// All contestants; those of calls, then those of handshakes, the baseline first.
const CALLS: [&str; 2] = ["tonic", "mesh"];
const HANDSHAKES: [&str; 2] = ["rustls", "mesh"];

const CLIENT_ID: &str = "spiffe://bench/client";
const SERVER_NAME: &str = "echo.bench";
const PROVIDER: &str = "default";

fn main() -> Result<(), BoxError> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let flag = |name: &str| args.iter().any(|arg| arg == name);
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1).cloned()
    };
    if flag("--server") {
        return server::run();
    }
    // `cargo test` runs benches with no arguments that mean anything here.
    if flag("--test") {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let scene = runtime.block_on(Scene::new())?;
    if flag("--callgrind") {
        return callgrind(&runtime, &scene);
    }
    let plan = Plan::new(flag("--quick"));
    let by_calls = by_calls(&runtime, &scene, &plan)?;
    let mut entries = report::print("call", &by_calls, Some(Bar::Cost(1.03)));
    // One load is enough to look at.
    entries.retain(|entry| entry.measure.ends_with(", 64 at once"));
    let plan = Plan {
        rounds: plan.rounds,
        calls: plan.calls / 20,
        loads: vec![8],
    };
    let by_handshakes = by_handshakes(&runtime, &scene, &plan)?;
    entries.extend(report::print(
        "handshake",
        &by_handshakes,
        Some(Bar::Rate(0.95)),
    ));
    table::keep(env!("CARGO_TARGET_TMPDIR"), "servers", &entries)?;
    if let Some(path) = value("--json") {
        let (calls, handshakes) = (report::json(&by_calls), report::json(&by_handshakes));
        let all = serde_json::json!({ "calls": calls, "handshakes": handshakes });
        std::fs::write(path, format!("{all:#}"))?;
    }
    Ok(())
}

/// The control plane and the certificates of all.
struct Scene {
    control_plane: ControlPlane,
    server: Pem,
    client: Pem,
    _folder: Folder,
}

impl Scene {
    async fn new() -> Result<Self, BoxError> {
        let ca = CertificateAuthority::new("bench");
        let server = Pem::issue(&ca, Leaf::spiffe("spiffe://bench/echo").dns(SERVER_NAME));
        let client = Pem::issue(&ca, Leaf::spiffe(CLIENT_ID));
        let folder = Folder::new("servers")?;
        let files = server.write(&folder)?;
        let control_plane = ControlPlane::start().await;
        control_plane.certificate_provider(PROVIDER, files);
        Ok(Self {
            control_plane,
            server,
            client,
            _folder: folder,
        })
    }

    /// Starts a contestant and waits until it serves.
    fn start(&self, contestant: &str, callgrind: Option<&Path>) -> Result<Running, BoxError> {
        let mut process = Process::start(contestant, &["--server"], callgrind)?;
        let order = Order {
            contestant: contestant.to_owned(),
            bootstrap: self.control_plane.bootstrap_json("bench"),
            pem: self.server.clone(),
        };
        let address = process.ask(&serde_json::to_string(&order)?)?.parse()?;
        // Ten rules: nine that do not apply, and the one that lets the client in.
        let mut rbac = Rbac::allow();
        for number in 0..9 {
            let other = Principal::identity(format!("spiffe://bench/other-{number}"));
            let path = Permission::path(format!("/other.Service/Method{number}"));
            rbac = rbac.policy(format!("other-{number}"), path, other);
        }
        let rbac = rbac.policy(
            "client",
            Permission::path(PATH),
            Principal::identity(CLIENT_ID),
        );
        self.control_plane
            .server(address)
            .tls(ListenerTls::present(PROVIDER).require_client(PROVIDER))
            .rbac(rbac)
            .apply();
        match &*process.answer()? {
            "serving" => Ok(Running { process, address }),
            other => Err(format!("{contestant} said {other:?}").into()),
        }
    }
}

/// A server process.
struct Running {
    process: Process,
    address: SocketAddr,
}

/// The first of `names` is what the others are compared with.
fn rows(names: [&str; 2], plan: &Plan, samples: Vec<Vec<Vec<Sample>>>) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, samples) in names.into_iter().zip(samples) {
        for (load, samples) in plan.loads.iter().zip(samples) {
            rows.push(Row {
                contestant: name.to_owned(),
                baseline: names[0].to_owned(),
                features: String::new(),
                load: format!("{load} at once"),
                samples,
            });
        }
    }
    rows
}

fn by_calls(runtime: &Runtime, scene: &Scene, plan: &Plan) -> Result<Vec<Row>, BoxError> {
    let mut servers = Vec::new();
    for name in CALLS {
        let server = scene.start(name, None)?;
        let client = runtime.block_on(load::connect(server.address, &scene.client))?;
        servers.push((server.process, client));
    }
    let samples = plan.in_turns(&mut servers, |(server, client), calls, in_flight| {
        let caller = || load::Echo::new(client);
        runtime.block_on(measured(|| server.read(), caller, calls, in_flight))
    })?;
    Ok(rows(CALLS, plan, samples))
}

fn by_handshakes(runtime: &Runtime, scene: &Scene, plan: &Plan) -> Result<Vec<Row>, BoxError> {
    let connector = TlsConnector::from(Arc::new(scene.client.client_config(&["h2"])?));
    let mut servers = Vec::new();
    for name in HANDSHAKES {
        servers.push(scene.start(name, None)?);
    }
    let samples = plan.in_turns(&mut servers, |server, calls, in_flight| {
        let (connector, address) = (connector.clone(), server.address);
        let caller = || load::Handshakes {
            connector: connector.clone(),
            address,
        };
        runtime.block_on(measured(|| server.process.read(), caller, calls, in_flight))
    })?;
    Ok(rows(HANDSHAKES, plan, samples))
}

/// User instructions of the server per call, counted by valgrind.
fn callgrind(runtime: &Runtime, scene: &Scene) -> Result<(), BoxError> {
    println!("user instructions of the server per call (callgrind)");
    for in_flight in [1, 64] {
        let mut base = None;
        for name in CALLS {
            let per_call = per_call(|calls, out| {
                let mut server = scene.start(name, Some(out))?;
                runtime.block_on(async {
                    let client = load::connect(server.address, &scene.client).await?;
                    let read = || server.process.read();
                    measured(read, || load::Echo::new(&client), calls, in_flight).await
                })?;
                Ok(server.process.end()?)
            })?;
            let ratio = per_call / *base.get_or_insert(per_call);
            println!("{name:<8} {in_flight:>4} in flight {per_call:>10.0} {ratio:>7.3}");
        }
    }
    Ok(())
}
