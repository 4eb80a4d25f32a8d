//! What a call costs: contestants make the same gRPC calls to the same server.
//!
//! `cargo bench -p mesh-tests --features tonic-xds --bench calls -- [--quick] [--json FILE]
//! [--only NAME,..] [--shape NAME,..] [--threads current|multi|both] [--callgrind]`
//!
//! Each contestant is a process of its own, the server and the control plane another. They take
//! turns: every round runs each contestant once at each number of calls in flight, so that what
//! disturbs the machine disturbs all alike. Reported are medians over the rounds and their spread.
//!
//! Shapes: `unary` is measured at all loads; `1k`, `64k` (payloads) and `stream` (64 messages in each
//! direction) at 16 in flight. Contestants that are not there are left out, and said to be: `tonic-xds`
//! is a feature of this package; an Envoy and a Python with grpcio are where `MESH_PEERS_ENVOY` and
//! `MESH_PEERS_PYTHON` say. `tests/benches/all` installs and names them. CPU time of the Envoys counts as
//! that of their client.
//!
//! On a machine that cannot count instructions, `--callgrind` counts those of the user, and
//! `tests/benches/icount` those of user and kernel, in an emulated machine, and says whether the
//! bars are met. Two runs of it differed by less than one per cent.

mod bars;
mod contestants;
mod envoys;
mod icount;
mod server;
mod shape;
#[cfg(feature = "tonic-xds")]
mod tonic_xds;

use std::{path::Path, process::Command};

use mesh_tests::{
    bench::{
        BoxError, Plan, Process, Sample, envoy, per_call,
        report::{self, Row},
        roles, run,
    },
    loaded::PAYLOAD,
};
use server::Ready;
use shape::Shape;

use self::{
    contestants::{CORE, CORE_TARGET, CORE_XDS, ENVOYS, ENVOYS_SECURED, HYPER, NAMES, TONIC_XDS},
    envoys::Envoys,
};

/// The variable that says where a Python with grpcio is.
const PYTHON: &str = "MESH_PEERS_PYTHON";
/// Calls in flight with shapes other than the first.
const SHAPE_LOAD: u64 = 16;

/// Counts allocations of the client processes.
#[global_allocator]
static ALLOCATOR: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

fn main() -> Result<(), BoxError> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        args.iter()
            .position(|arg| arg == name)
            .and_then(|at| args.get(at + 1))
            .cloned()
    };
    let flag = |name: &str| args.iter().any(|arg| arg == name);
    match value("--role").as_deref() {
        Some("server") => server::run(),
        Some("client") => {
            let name = value("--contestant").ok_or("--contestant is missing")?;
            let shape = Shape::named(&value("--shape").ok_or("--shape is missing")?)?;
            let multi_thread = value("--threads").as_deref() == Some("multi");
            let connect = async |ready: Ready| contestants::connect(&name, &ready, shape).await;
            roles::client(ALLOCATOR, multi_thread, connect)
        }
        Some(other) => Err(format!("unknown role {other:?}").into()),
        // `cargo test` runs benches with no arguments that mean anything here.
        None if flag("--test") => Ok(()),
        None => {
            let is_in = |list: Option<String>, name: &str| {
                list.is_none_or(|list| list.split(',').any(|one| one == name))
            };
            let mut names = NAMES.to_vec();
            names.retain(|name| is_in(value("--only"), name));
            if flag("--callgrind") || flag("--icount") {
                let others = [ENVOYS, ENVOYS_SECURED, TONIC_XDS, CORE, CORE_XDS];
                names.retain(|name| !others.contains(name));
            } else {
                leave_out(&mut names);
            }
            if flag("--callgrind") {
                return callgrind(&names);
            }
            if flag("--icount") {
                return icount::print(&names);
            }
            let quick = flag("--quick");
            let runtimes = match value("--threads").as_deref() {
                Some("current") => vec!["current"],
                None if quick => vec!["current"],
                Some("multi") => vec!["multi"],
                _ => vec!["current", "multi"],
            };
            let mut results = Vec::new();
            for shape in Shape::all() {
                if !is_in(value("--shape"), shape.name) {
                    continue;
                }
                let mut names = names.clone();
                names.retain(|name| match *name {
                    HYPER => !shape.is_stream(),
                    CORE | CORE_XDS => shape.name == Shape::PLAIN,
                    _ => true,
                });
                let mut plan = Plan::new(quick);
                if shape.name != Shape::PLAIN {
                    plan.loads = vec![SHAPE_LOAD];
                    plan.calls /= 4;
                }
                println!("# {}: {}", shape.name, shape.describe());
                let mut rows = Vec::new();
                for runtime in &runtimes {
                    rows.extend(compare(&names, &shape, runtime, &plan)?);
                }
                report::print("call", &rows, None);
                results.extend(rows);
            }
            bars::print(&results)?;
            if let Some(path) = value("--json") {
                std::fs::write(path, format!("{:#}", report::json(&results)))?;
            }
            Ok(())
        }
    }
}

/// Says which contestants are not there, and goes on without them.
fn leave_out(names: &mut Vec<&'static str>) {
    let mut without = |these: &[&str], is_there: bool, what_to_do: &str| {
        if !is_there && names.iter().any(|name| these.contains(name)) {
            println!("{} left out: {what_to_do}", these.join(" and "));
            names.retain(|name| !these.contains(name));
        }
    };
    let is_set = |variable| std::env::var_os(variable).is_some();
    let feature = "add --features tonic-xds, or run tests/benches/all";
    without(&[TONIC_XDS], cfg!(feature = "tonic-xds"), feature);
    let program = format!(
        "set {} to Envoy 1.40, or run tests/benches/all",
        envoy::PROGRAM
    );
    without(&[ENVOYS, ENVOYS_SECURED], is_set(envoy::PROGRAM), &program);
    let python = format!("set {PYTHON} to a Python with grpcio, or run tests/benches/all");
    without(&[CORE, CORE_XDS], is_set(PYTHON), &python);
}

/// The process of a contestant on C-core.
fn core(name: &str) -> Result<Process, BoxError> {
    let python = std::env::var_os(PYTHON).ok_or("there is no Python with grpcio")?;
    let mut command = Command::new(python);
    command
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/benches/calls/core.py"
        ))
        .arg(if name == CORE { "plain" } else { CORE_TARGET })
        .arg(PAYLOAD.len().to_string());
    Ok(Process::of(name, command)?)
}

/// A contestant's process, and what stands between it and the server.
struct Client {
    process: Process,
    envoys: Option<Envoys>,
}

impl Client {
    fn run(&mut self, calls: u64, in_flight: u64) -> Result<Sample, BoxError> {
        let spent = |envoys: &Option<Envoys>| envoys.as_ref().map_or(Ok(0), Envoys::cpu_ns);
        let before = spent(&self.envoys)?;
        let mut sample = run(&mut self.process, calls, in_flight)?;
        if self.envoys.is_some() {
            sample.cost.cpu_ns += spent(&self.envoys)? - before;
            // They are not those of all.
            sample.cost.instructions = None;
        }
        Ok(sample)
    }
}

/// Runs all contestants against one server, in turns.
fn compare(
    names: &[&'static str],
    shape: &Shape,
    runtime: &str,
    plan: &Plan,
) -> Result<Vec<Row>, BoxError> {
    let (_server, ready) = start_server()?;
    let mut clients = Vec::new();
    for name in names {
        clients.push(start_client(name, shape, runtime, &ready, None)?);
    }
    let samples = plan.in_turns(&mut clients, Client::run)?;
    let mut rows = Vec::new();
    for ((name, client), samples) in names.iter().zip(&mut clients).zip(samples) {
        let features = match shape.name {
            Shape::PLAIN => client.process.ask("features")?,
            // Said already.
            _ => String::new(),
        };
        for (load, samples) in plan.loads.iter().zip(samples) {
            rows.push(Row {
                contestant: (*name).to_owned(),
                baseline: contestants::baseline_of(name).to_owned(),
                features: features.clone(),
                load: format!("{} {runtime} {load}", shape.name),
                samples,
            });
        }
    }
    Ok(rows)
}

/// User instructions per call, counted by valgrind.
fn callgrind(names: &[&'static str]) -> Result<(), BoxError> {
    println!("user instructions per call (callgrind; current-thread runtime)");
    println!(
        "{:<16} {:>10} {:>12} {:>8}",
        "contestant", "in flight", "instructions", "ratio"
    );
    let shape = Shape::named(Shape::PLAIN)?;
    for in_flight in [1, 64] {
        let mut base = None;
        for name in names {
            let per_call = per_call(|calls, out| {
                let (_server, ready) = start_server()?;
                let mut client = start_client(name, &shape, "current", &ready, Some(out))?;
                run(&mut client.process, calls, in_flight)?;
                Ok(client.process.end()?)
            })?;
            if *name == contestants::baseline_of(name) {
                base = Some(per_call);
            }
            let ratio = base.map_or("-".into(), |base| format!("{:.3}", per_call / base));
            println!("{name:<16} {in_flight:>10} {per_call:>12.0} {ratio:>8}");
        }
    }
    Ok(())
}

/// Starts the server; returns it and what clients are told.
fn start_server() -> Result<(Process, Ready), BoxError> {
    let mut server = Process::start("the server", &["--role", "server"], None)?;
    let ready = serde_json::from_str(&server.answer()?)?;
    Ok((server, ready))
}

/// Starts a contestant's process; returns it once it is connected.
fn start_client(
    name: &str,
    shape: &Shape,
    runtime: &str,
    server: &Ready,
    callgrind: Option<&Path>,
) -> Result<Client, BoxError> {
    let envoys = match name {
        ENVOYS => Some(Envoys::start(server, false)?),
        ENVOYS_SECURED => Some(Envoys::start(server, true)?),
        _ => None,
    };
    let mut server = server.clone();
    if let Some(envoys) = &envoys {
        server.address = envoys.address();
    }
    let args = [
        "--role",
        "client",
        "--contestant",
        name,
        "--shape",
        shape.name,
        "--threads",
        runtime,
    ];
    let mut process = match name {
        CORE | CORE_XDS => core(name)?,
        _ => Process::start(name, &args, callgrind)?,
    };
    process.ask(&serde_json::to_string(&server)?)?;
    Ok(Client { process, envoys })
}
