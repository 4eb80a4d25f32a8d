//! What a request of plain HTTP costs: clients of hyper-util and ours make the same GET requests of
//! the same server, servers of both answer them, and a pair of Envoys stands where ours needs none.
//!
//! `cargo bench -p mesh-tests --bench http -- [--quick] [--json FILE] [--callgrind]`
//! `[--part clients,servers,sidecars]`
//!
//! Each contestant is a process of its own; the control plane is in this one. They take turns, round
//! by round. The sidecars want the program that `tests/peers/setup` installs, and are left out
//! without it: `MESH_PEERS_ENVOY="$(tests/peers/setup)/envoy" cargo bench ...`

mod app;
mod client;
mod contestants;
mod envoy;
mod scene;
mod server;
mod sidecars;

use contestants::{Contestant, Who};
use mesh_tests::bench::{
    BoxError, Plan, Process, Sample, per_call,
    report::{self, Bar, Row},
    run,
};
use scene::Scene;

/// Counts allocations of the processes.
#[global_allocator]
static ALLOCATOR: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

/// What ours may cost, as a multiple of hyper-util's.
const BAR: f64 = 1.05;

fn main() -> Result<(), BoxError> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let flag = |name: &str| args.iter().any(|arg| arg == name);
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1).cloned()
    };
    match value("--role").as_deref() {
        Some("client") => return client::run(),
        Some("server") => return server::run(),
        Some(other) => return Err(format!("unknown role {other:?}").into()),
        // `cargo test` runs benches with no arguments that mean anything here.
        None if flag("--test") => return Ok(()),
        None => {}
    }
    let part = value("--part");
    let wanted = |name: &str| {
        part.as_ref()
            .is_none_or(|part| part.split(',').any(|part| part == name))
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let scene = runtime.block_on(Scene::new())?;
    let plan = Plan::new(flag("--quick"));
    let mut all = serde_json::Map::new();
    for (name, measure) in [("clients", MEASURE_CLIENTS), ("servers", MEASURE_SERVERS)] {
        if !wanted(name) {
            continue;
        }
        if flag("--callgrind") {
            callgrind(&scene, name, measure)?;
            continue;
        }
        println!("# {name}");
        let rows = compare(&scene, measure, &plan)?;
        report::print("request", &rows, Some(Bar::Cost(BAR)));
        all.insert(name.to_owned(), report::json(&rows));
    }
    if wanted("sidecars") && !flag("--callgrind") {
        all.insert("sidecars".to_owned(), sidecars::compare(&scene, &plan)?);
    }
    if let Some(path) = value("--json") {
        std::fs::write(path, format!("{:#}", serde_json::Value::from(all)))?;
    }
    Ok(())
}

/// Which end of a connection is the contestant; the other is hyper-util's.
type Measure = fn(Contestant) -> Ends;

/// A client and its server.
struct Ends {
    client: Contestant,
    server: Contestant,
    measured: End,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Client,
    Server,
}

const MEASURE_CLIENTS: Measure = |contestant| Ends {
    client: contestant,
    server: contestant.of(Who::Hyper),
    measured: End::Client,
};
const MEASURE_SERVERS: Measure = |contestant| Ends {
    client: contestant.of(Who::Hyper),
    server: contestant,
    measured: End::Server,
};

/// The processes of both ends.
struct Pair {
    client: Process,
    server: Process,
    measured: End,
}

impl Pair {
    fn start(
        scene: &Scene,
        ends: &Ends,
        callgrind: Option<&std::path::Path>,
    ) -> Result<Self, BoxError> {
        let on = |end| callgrind.filter(|_| ends.measured == end);
        let server = scene.server(ends.server, on(End::Server))?;
        let client = scene.client(ends.client, server.address, on(End::Client))?;
        Ok(Self {
            client,
            server: server.process,
            measured: ends.measured,
        })
    }

    fn run(&mut self, calls: u64, in_flight: u64) -> Result<Sample, BoxError> {
        if self.measured == End::Client {
            return run(&mut self.client, calls, in_flight);
        }
        let before = self.server.read()?;
        let mut sample = run(&mut self.client, calls, in_flight)?;
        sample.cost = self.server.read()?.since(before);
        Ok(sample)
    }

    /// Lets the one that is measured end by itself, so that its report is written.
    fn end(self) -> Result<(), BoxError> {
        match self.measured {
            End::Client => self.client.end()?,
            End::Server => {
                drop(self.client);
                self.server.end()?;
            }
        }
        Ok(())
    }
}

fn compare(scene: &Scene, measure: Measure, plan: &Plan) -> Result<Vec<Row>, BoxError> {
    let mut pairs = Vec::new();
    for contestant in Contestant::all() {
        pairs.push(Pair::start(scene, &measure(contestant), None)?);
    }
    let samples = plan.in_turns(&mut pairs, Pair::run)?;
    let mut rows = Vec::new();
    for ((contestant, pair), samples) in Contestant::all().zip(&mut pairs).zip(samples) {
        let features = match pair.measured {
            End::Client => pair.client.ask("features")?,
            End::Server => server::features(contestant).to_owned(),
        };
        for (load, samples) in plan.loads.iter().zip(samples) {
            rows.push(Row {
                contestant: contestant.name(),
                baseline: contestant.of(Who::Hyper).name(),
                features: features.clone(),
                load: format!("{load} in flight"),
                samples,
            });
        }
    }
    Ok(rows)
}

/// User instructions per request, counted by valgrind.
fn callgrind(scene: &Scene, name: &str, measure: Measure) -> Result<(), BoxError> {
    println!("user instructions of {name} per request (callgrind)");
    for in_flight in [1, 64] {
        let mut base = None;
        for contestant in Contestant::all() {
            let per_call = per_call(|calls, out| {
                let mut pair = Pair::start(scene, &measure(contestant), Some(out))?;
                // As many connections are made whatever is counted.
                pair.run(10 * in_flight, in_flight)?;
                pair.run(calls, in_flight)?;
                pair.end()
            })?;
            let ours = contestant.who == Who::Mesh;
            let base = *match ours {
                true => base.get_or_insert(per_call),
                false => base.insert(per_call),
            };
            let ratio = per_call / base;
            let verdict = match ours {
                true => report::verdict("cost <=", BAR, ratio <= BAR),
                false => String::new(),
            };
            let name = contestant.name();
            println!(
                "{name:<14} {in_flight:>4} in flight {per_call:>10.0} {ratio:>7.3}  {verdict}"
            );
        }
    }
    Ok(())
}
