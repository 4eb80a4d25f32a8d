//! What a request of plain HTTP costs: clients of hyper-util and ours make the same GET requests of
//! the same server, servers of both answer them, and a pair of Envoys stands where ours needs none.
//!
//! `cargo bench -p mesh-tests --bench http -- [--quick] [--json FILE] [--callgrind]`
//! `[--icount] [--part clients,servers,sidecars] [--only NAME,..]`
//!
//! On a machine that cannot count instructions, `--callgrind` counts those of the user, and
//! `tests/benches/icount http` those of user and kernel, in an emulated machine, which are what the
//! bars mean.
//!
//! Each contestant is a process of its own; the control plane is in this one. They take turns, round
//! by round. The sidecars want the program that `tests/peers/setup` installs, and are left out
//! without it: `MESH_PEERS_ENVOY="$(tests/peers/setup)/envoy" cargo bench ...`

mod app;
mod client;
mod contestants;
mod count;
mod scene;
mod server;
mod sidecars;

use contestants::{Contestant, Who};
use mesh_tests::bench::{
    BoxError, Plan, Process, Sample,
    report::{self, Bar, Row},
    run,
    table::{self, Entry},
};
use scene::Scene;

/// Counts allocations of the processes.
#[global_allocator]
static ALLOCATOR: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

/// What ours may cost, as a multiple of hyper-util's.
const BAR: f64 = 1.03;

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
    let only = value("--only");
    let (mut all, mut entries) = (serde_json::Map::new(), Vec::new());
    for part in [CLIENTS, SERVERS] {
        if !wanted(part.name) {
            continue;
        }
        let mut contestants: Vec<Contestant> = Contestant::all(part.whos).collect();
        if let Some(only) = &only {
            contestants.retain(|each| only.split(',').any(|only| only == each.name()));
        }
        if flag("--callgrind") {
            count::callgrind(&scene, &part, &contestants)?;
            continue;
        }
        if flag("--icount") {
            count::icount(&scene, &part, &contestants)?;
            continue;
        }
        println!("# {}", part.name);
        let rows = compare(&scene, &part, &contestants, &plan)?;
        let judged = report::print("request", &rows, Some(Bar::Cost(BAR)));
        // Ours at one load are enough to look at.
        let is_told = |entry: &Entry| {
            entry.measure.contains(" mesh-") && entry.measure.ends_with(", 64 in flight")
        };
        entries.extend(judged.into_iter().filter(is_told));
        all.insert(part.name.to_owned(), report::json(&rows));
    }
    if wanted("sidecars") && !flag("--callgrind") && !flag("--icount") {
        let (json, judged) = sidecars::compare(&scene, &plan)?;
        all.insert("sidecars".to_owned(), json);
        entries.extend(judged);
    }
    table::keep(env!("CARGO_TARGET_TMPDIR"), "http", &entries)?;
    if let Some(path) = value("--json") {
        std::fs::write(path, format!("{:#}", serde_json::Value::from(all)))?;
    }
    Ok(())
}

/// Which end of connections is measured, and of whom; the other end is hyper-util's.
struct Part {
    name: &'static str,
    measured: End,
    whos: &'static [Who],
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Client,
    Server,
}

const CLIENTS: Part = Part {
    name: "clients",
    measured: End::Client,
    whos: &[Who::Hyper, Who::Mesh],
};
const SERVERS: Part = Part {
    name: "servers",
    measured: End::Server,
    whos: &[Who::Hyper, Who::Timed, Who::Mesh, Who::Lean],
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
        contestant: Contestant,
        measured: End,
        callgrind: Option<&std::path::Path>,
    ) -> Result<Self, BoxError> {
        let on = |end| callgrind.filter(|_| measured == end);
        let at = |end| match measured == end {
            true => contestant,
            false => contestant.of(Who::Hyper),
        };
        let server = scene.server(at(End::Server), on(End::Server))?;
        let client = scene.client(at(End::Client), server.address, on(End::Client))?;
        Ok(Self {
            client,
            server: server.process,
            measured,
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

    /// Forgets what callgrind has counted.
    fn zero(&self) -> Result<(), BoxError> {
        match self.measured {
            End::Client => self.client.zero(),
            End::Server => self.server.zero(),
        }
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

fn compare(
    scene: &Scene,
    part: &Part,
    contestants: &[Contestant],
    plan: &Plan,
) -> Result<Vec<Row>, BoxError> {
    let mut pairs = Vec::new();
    for contestant in contestants {
        pairs.push(Pair::start(scene, *contestant, part.measured, None)?);
    }
    let samples = plan.in_turns(&mut pairs, Pair::run)?;
    let mut rows = Vec::new();
    for ((contestant, pair), samples) in contestants.iter().zip(&mut pairs).zip(samples) {
        let features = match pair.measured {
            End::Client => pair.client.ask("features")?,
            End::Server => server::features(*contestant).to_owned(),
        };
        for baseline in contestant.baselines(part.whos) {
            for (load, samples) in plan.loads.iter().zip(&samples) {
                rows.push(Row {
                    contestant: contestant.name(),
                    baseline: baseline.name(),
                    features: features.clone(),
                    load: format!("{load} in flight"),
                    samples: samples.clone(),
                });
            }
        }
    }
    Ok(rows)
}
