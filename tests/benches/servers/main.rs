//! What a request costs a server: servers answer the same unary gRPC calls of the same client over
//! mTLS, and accept its connections.
//!
//! `cargo bench -p mesh-tests --bench servers -- [--quick] [--json FILE]
//! [--callgrind]`
//!
//! Each server is a process of its own. The client, which is tonic's, and the control plane are in
//! this one. Servers take turns, round by round; what is measured is the server's process alone.

mod load;
mod report;
mod server;

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use mesh_core::{
    bootstrap::FileWatcherConfig,
    testing::{CertificateAuthority, ControlPlane, Leaf, ListenerTls, Permission, Principal, Rbac},
};
use mesh_tests::loaded::PATH;
use report::{Bar, Row};
use serde::{Deserialize, Serialize};
use server::{Order, Reading};

/// Counts allocations of the server processes.
#[global_allocator]
static ALLOCATOR: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// All contestants; those of calls, then those of handshakes, the baseline first.
const CALLS: [&str; 2] = ["tonic", "mesh"];
const HANDSHAKES: [&str; 2] = ["rustls", "mesh"];
/// Calls in flight at once.
const IN_FLIGHT: [u64; 4] = [1, 16, 64, 128];

const CLIENT_ID: &str = "spiffe://bench/client";
const SERVER_NAME: &str = "echo.bench";
const PROVIDER: &str = "default";

/// A certificate with its key and the roots to trust.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Pem {
    chain: String,
    key: String,
    roots: String,
}

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
    let (rounds, calls, handshakes) = match flag("--quick") {
        true => (5, 4_000, 200),
        false => (15, 20_000, 1_000),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let scene = Scene::new().await?;
        if flag("--callgrind") {
            return callgrind(&scene).await;
        }
        let by_calls = by_calls(&scene, rounds, calls).await?;
        report::print("call", &by_calls, Bar::Cost(1.05));
        let by_handshakes = by_handshakes(&scene, rounds, handshakes).await?;
        report::print("handshake", &by_handshakes, Bar::Rate(0.95));
        if let Some(path) = value("--json") {
            let all = serde_json::json!({ "calls": by_calls, "handshakes": by_handshakes });
            std::fs::write(path, serde_json::to_string_pretty(&all)?)?;
        }
        Ok(())
    })
}

/// The control plane and the certificates of all.
struct Scene {
    control_plane: ControlPlane,
    server: Pem,
    client: Pem,
    _folder: Folder,
}

/// Files that go with this process.
struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Pem {
    fn issue(ca: &CertificateAuthority, leaf: Leaf) -> Self {
        let issued = ca.issue(leaf);
        Self {
            chain: issued.chain_pem(),
            key: issued.key_pem(),
            roots: ca.root_pem(),
        }
    }
}

impl Scene {
    async fn new() -> Result<Self, BoxError> {
        let ca = CertificateAuthority::new("bench");
        let server = Pem::issue(&ca, Leaf::spiffe("spiffe://bench/echo").dns(SERVER_NAME));
        let client = Pem::issue(&ca, Leaf::spiffe(CLIENT_ID));
        let folder = std::env::temp_dir().join(format!("mesh-servers-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let put = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).map(|()| path)
        };
        let files = FileWatcherConfig::new()
            .identity_files(put("chain", &server.chain)?, put("key", &server.key)?)
            .ca_certificate_file(put("roots", &server.roots)?);
        let control_plane = ControlPlane::start().await;
        control_plane.certificate_provider(PROVIDER, files);
        Ok(Self {
            control_plane,
            server,
            client,
            _folder: Folder(folder),
        })
    }

    /// Starts a contestant and waits until it serves.
    fn start(&self, contestant: &'static str, valgrind: Option<&str>) -> Result<Running, BoxError> {
        let exe = std::env::current_exe()?;
        let mut command = match valgrind {
            None => Command::new(exe),
            Some(out) => {
                let mut command = Command::new("valgrind");
                command
                    .arg("--tool=callgrind")
                    .arg(format!("--callgrind-out-file={out}"))
                    .arg(exe)
                    .stderr(Stdio::null());
                command
            }
        };
        let mut child = command
            .arg("--server")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        let mut running = Running {
            name: contestant,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            child,
            stdin,
            stdout,
        };
        let order = Order {
            contestant: contestant.to_owned(),
            bootstrap: self.control_plane.bootstrap_json("bench"),
            pem: self.server.clone(),
        };
        running.address = running
            .ask(&serde_json::to_string(&order)?)?
            .trim()
            .parse()?;
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
            .server(running.address)
            .tls(ListenerTls::present(PROVIDER).require_client(PROVIDER))
            .rbac(rbac)
            .apply();
        running.expect("serving")?;
        Ok(running)
    }
}

/// A server process.
struct Running {
    name: &'static str,
    address: SocketAddr,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    fn ask(&mut self, line: &str) -> Result<String, BoxError> {
        let stdin = self.stdin.as_mut().ok_or("the server has ended")?;
        writeln!(stdin, "{line}")?;
        stdin.flush()?;
        self.answer()
    }

    fn answer(&mut self) -> Result<String, BoxError> {
        let mut answer = String::new();
        match self.stdout.read_line(&mut answer)? {
            0 => Err(format!("the server {:?} ended", self.name).into()),
            _ => Ok(answer),
        }
    }

    fn expect(&mut self, wanted: &str) -> Result<(), BoxError> {
        let answer = self.answer()?;
        match answer.trim() == wanted {
            true => Ok(()),
            false => Err(format!("{:?} said {answer:?}, not {wanted:?}", self.name).into()),
        }
    }

    fn read(&mut self) -> Result<Reading, BoxError> {
        Ok(serde_json::from_str(&self.ask("read")?)?)
    }

    /// Lets it end by itself.
    fn end(mut self) -> Result<(), BoxError> {
        self.stdin = None;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn by_calls(scene: &Scene, rounds: usize, calls: u64) -> Result<Vec<Row>, BoxError> {
    let mut servers = Vec::new();
    for name in CALLS {
        let server = scene.start(name, None)?;
        let client = load::connect(server.address, &scene.client).await?;
        load::calls(&client, calls / 4, 64).await?; // warm-up
        servers.push((server, client));
    }
    let mut rows: Vec<Row> = IN_FLIGHT
        .iter()
        .flat_map(|in_flight| CALLS.map(|name| Row::new(name, format!("{in_flight} in flight"))))
        .collect();
    for round in 0..rounds {
        for (at, in_flight) in IN_FLIGHT.into_iter().enumerate() {
            // Another order each round, so that nobody always runs after the same neighbour.
            for turn in 0..servers.len() {
                let number = (turn + round) % servers.len();
                let (server, client) = &mut servers[number];
                let calls = if in_flight == 1 { calls / 4 } else { calls };
                let before = server.read()?;
                let wall = load::calls(client, calls, in_flight).await?;
                rows[at * CALLS.len() + number].add(calls, wall, before, server.read()?);
            }
        }
    }
    Ok(rows)
}

async fn by_handshakes(scene: &Scene, rounds: usize, count: u64) -> Result<Vec<Row>, BoxError> {
    let connector = load::connector(&scene.client)?;
    let mut servers = Vec::new();
    for name in HANDSHAKES {
        let server = scene.start(name, None)?;
        load::handshakes(&connector, server.address, count / 4).await?; // warm-up
        servers.push(server);
    }
    let mut rows = HANDSHAKES.map(|name| Row::new(name, "8 at once".to_owned()));
    for round in 0..rounds {
        for turn in 0..servers.len() {
            let number = (turn + round) % servers.len();
            let server = &mut servers[number];
            let before = server.read()?;
            let wall = load::handshakes(&connector, server.address, count).await?;
            rows[number].add(count, wall, before, server.read()?);
        }
    }
    Ok(rows.into())
}

/// User instructions of the server per call, counted by valgrind: the difference between two runs of
/// different length. Exact and repeatable where there are no hardware counters, but blind to the
/// kernel.
async fn callgrind(scene: &Scene) -> Result<(), BoxError> {
    println!("user instructions of the server per call (callgrind)");
    for in_flight in [1, 64] {
        let mut base = None;
        for name in CALLS {
            let out =
                std::env::temp_dir().join(format!("servers.callgrind.{}", std::process::id()));
            let out = out.to_str().ok_or("the temporary directory is not UTF-8")?;
            let mut totals = Vec::new();
            let (few, many) = (1_000, 3_000);
            for calls in [few, many] {
                let server = scene.start(name, Some(out))?;
                let client = load::connect(server.address, &scene.client).await?;
                load::calls(&client, calls, in_flight).await?;
                drop(client);
                server.end()?;
                let text = std::fs::read_to_string(out)?;
                std::fs::remove_file(out)?;
                let total = text.lines().find_map(|line| {
                    line.strip_prefix("totals:")
                        .or_else(|| line.strip_prefix("summary:"))
                });
                totals.push(
                    total
                        .ok_or("callgrind wrote no totals")?
                        .trim()
                        .parse::<u64>()?,
                );
            }
            let per_call = (totals[1] - totals[0]) as f64 / (many - few) as f64;
            let base = *base.get_or_insert(per_call);
            let ratio = per_call / base;
            println!("{name:<8} {in_flight:>4} in flight {per_call:>10.0} {ratio:>7.3}");
        }
    }
    Ok(())
}
