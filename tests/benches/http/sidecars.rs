//! A client and a server over mTLS: by our mesh within both, and by an Envoy beside each.

use mesh_tests::bench::{
    BoxError, Plan, Process, Sample, Spread,
    envoy::{Envoy, Mtls, PROGRAM, Side, Sidecars},
    report::verdict,
    run,
    table::Entry,
};
use serde::Serialize;

use crate::{
    app::PATH,
    contestants::{Contestant, Who},
    scene::{CLIENT_ID, SERVER_ID, Scene},
};

/// How many times the throughput of the Envoys ours should have.
const BAR: f64 = 6.0;
/// What ours may add to no mesh at all, of what the Envoys add.
const ADDED_CPU: f64 = 0.01;
const ADDED_P50: f64 = 0.02;
const ADDED_MEMORY: f64 = 0.05;
/// The load that the table tells of.
const TOLD: u64 = 128;

/// Something of what a run took.
type Figure<'a> = &'a dyn Fn(&Taken) -> f64;

/// A client, a server and what stands between them.
struct Chain {
    name: &'static str,
    http2: bool,
    client: Process,
    server: Process,
    envoys: Vec<Envoy>,
}

/// What a run took.
#[derive(Debug, Clone, Serialize)]
struct Taken {
    client: Sample,
    /// CPU time of all processes, in nanoseconds.
    cpu_ns: u64,
    /// That of the Envoys.
    envoys_ns: u64,
    /// Memory of the Envoys, or of the client and the server where there is none, in bytes.
    client_rss: u64,
    server_rss: u64,
    envoys_rss: u64,
}

/// Prints the comparison; returns it as JSON.
pub(crate) fn compare(
    scene: &Scene,
    plan: &Plan,
) -> Result<(serde_json::Value, Vec<Entry>), BoxError> {
    let Some(program) = std::env::var_os(PROGRAM) else {
        println!(
            "# sidecars: left out, there is no Envoy. Install 1.40 and say where it is: \
             {PROGRAM}=\"$(tests/peers/setup)/envoy\" cargo bench ..."
        );
        return Ok((serde_json::Value::Null, Vec::new()));
    };
    let mut chains = Vec::new();
    for http2 in [false, true] {
        let plain = Contestant {
            who: Who::Hyper,
            http2,
            mtls: false,
        };
        let server = scene.server(plain, None)?;
        chains.push(Chain {
            name: "no mesh",
            http2,
            client: scene.client(plain, server.address, None)?,
            server: server.process,
            envoys: Vec::new(),
        });
        let ours = Contestant {
            who: Who::Mesh,
            http2,
            mtls: true,
        };
        let server = scene.server(ours, None)?;
        chains.push(Chain {
            name: "ours, mTLS",
            http2,
            client: scene.client(ours, server.address, None)?,
            server: server.process,
            envoys: Vec::new(),
        });
        let server = scene.server(plain, None)?;
        let sidecars = Sidecars {
            program: &program,
            path: Some(PATH),
            http2,
            grpc: false,
            mtls: Some(Mtls {
                client: Side {
                    files: scene.client.1.path(),
                    id: CLIENT_ID,
                },
                server: Side {
                    files: scene.server.1.path(),
                    id: SERVER_ID,
                },
            }),
        };
        let inner = sidecars.beside_server(server.address)?;
        let outer = sidecars.beside_client(inner.address)?;
        chains.push(Chain {
            name: "Envoys, mTLS",
            http2,
            client: scene.client(plain, outer.address, None)?,
            server: server.process,
            envoys: vec![outer, inner],
        });
    }
    let samples = plan.in_turns(&mut chains, Chain::run)?;
    let entries = print(plan, &chains, &samples);
    let rows = chains.iter().zip(&samples).map(|(chain, samples)| {
        let http = if chain.http2 { "h2" } else { "h1" };
        serde_json::json!({ "chain": chain.name, "http": http, "loads": plan.loads, "runs": samples })
    });
    Ok((rows.collect(), entries))
}

impl Taken {
    fn memory(&self) -> f64 {
        (self.client_rss + self.server_rss + self.envoys_rss) as f64
    }
}

impl Chain {
    fn run(&mut self, calls: u64, in_flight: u64) -> Result<Taken, BoxError> {
        let spent = |envoys: &[Envoy]| {
            let each = envoys.iter().map(|envoy| envoy.process.cpu_ns());
            each.sum::<Result<u64, BoxError>>()
        };
        let before = (self.server.read()?, spent(&self.envoys)?);
        let client = run(&mut self.client, calls, in_flight)?;
        let server = self.server.read()?.since(before.0);
        let envoys_ns = spent(&self.envoys)? - before.1;
        let mut envoys_rss = 0;
        for envoy in &self.envoys {
            envoys_rss += envoy.process.memory()?;
        }
        Ok(Taken {
            cpu_ns: client.cost.cpu_ns + server.cpu_ns + envoys_ns,
            envoys_ns,
            client_rss: self.client.memory()?,
            server_rss: self.server.memory()?,
            envoys_rss,
            client,
        })
    }
}

/// The first three chains are those of HTTP/1.1.
fn print(plan: &Plan, chains: &[Chain], samples: &[Vec<Vec<Taken>>]) -> Vec<Entry> {
    let mut entries = Vec::new();
    println!(
        "# sidecars: the route, retries, circuit breaker, timeout, fault filter at 0 %, mTLS and \
         ten access rules are the same in our mesh and in the Envoys, which have one worker each \
         and neither access logs nor tracing. Added: CPU time of all processes above that of no \
         mesh. Memory: resident, client + server + Envoys.\n"
    );
    println!(
        "{:<4} {:<14} {:>12} {:>8} {:>8} {:>8} {:>12} {:>12} {:>22} {:>8}",
        "", "chain", "load", "/s", "p50 us", "p99 us", "cpu us/req", "added us", "MiB", "rate"
    );
    for three in [0..3, 3..6] {
        for (at, load) in plan.loads.iter().enumerate() {
            let of = |number: usize, of: &dyn Fn(&Taken) -> f64| {
                Spread::of(samples[number][at].iter().map(of)).median
            };
            let rate =
                |taken: &Taken| taken.client.calls as f64 * 1e9 / taken.client.wall_ns as f64;
            let cpu = |taken: &Taken| taken.cpu_ns as f64 / 1e3 / taken.client.calls as f64;
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            let envoys = three.end - 1;
            for number in three.clone() {
                let chain = &chains[number];
                let ratio = of(number, &rate) / of(envoys, &rate);
                let http = if chain.http2 { "h2" } else { "h1" };
                let verdict = match chain.name.starts_with("ours") {
                    true => {
                        let measure =
                            |what: &str| format!("{what}, {http}, mTLS, {load} in flight");
                        let against = "a pair of Envoys";
                        let rate = measure("requests per second");
                        if *load == TOLD {
                            entries.push(Entry::at_least(&rate, against, BAR, ratio, "x"));
                        }
                        let added: [(_, Figure<'_>, _); 3] = [
                            ("added CPU time per request", &cpu, ADDED_CPU),
                            ("added p50", &|taken| taken.client.p50_ns as f64, ADDED_P50),
                            ("added memory", &Taken::memory, ADDED_MEMORY),
                        ];
                        for (what, figure, bar) in added {
                            let bare = of(three.start, figure);
                            // Less than without a mesh is noise: nothing is added.
                            let own = (of(number, figure) - bare).max(0.0);
                            let ratio = own / (of(envoys, figure) - bare);
                            let measure = measure(what);
                            if *load == TOLD {
                                entries.push(Entry::at_most(&measure, against, bar, ratio, "x"));
                            }
                        }
                        verdict("rate >=", BAR, ratio >= BAR)
                    }
                    false => String::new(),
                };
                let memory = format!(
                    "{:.0} + {:.0} + {:.0}",
                    of(number, &|taken| mib(taken.client_rss)),
                    of(number, &|taken| mib(taken.server_rss)),
                    of(number, &|taken| mib(taken.envoys_rss)),
                );
                println!(
                    "{:<4} {:<14} {:>12} {:>8.0} {:>8.1} {:>8.1} {:>12.1} {:>12.1} {memory:>22} {ratio:>8.2}  {verdict}",
                    if chain.http2 { "h2" } else { "h1" },
                    chain.name,
                    format!("{load} in flight"),
                    of(number, &rate),
                    of(number, &|taken| taken.client.p50_ns as f64 / 1e3),
                    of(number, &|taken| taken.client.p99_ns as f64 / 1e3),
                    of(number, &cpu),
                    of(number, &cpu) - of(three.start, &cpu),
                );
            }
        }
    }
    println!();
    entries
}
