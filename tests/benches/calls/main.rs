//! What a call costs: contestants make the same unary gRPC calls to the same server.
//!
//! `cargo bench -p mesh-tests --bench calls -- [--quick] [--json FILE] [--only NAME,..]`
//! `[--threads current|multi|both] [--callgrind]`
//!
//! Each contestant is a process of its own, the server and the control plane another. They take
//! turns: every round runs each contestant once at each number of calls in flight, so that what
//! disturbs the machine disturbs all alike. Reported are medians over the rounds and their spread.
//!
//! On a machine that cannot count instructions, `--callgrind` counts those of the user, and
//! `tests/benches/icount` those of user and kernel, in an emulated machine, and says whether the
//! bars are met. Two runs of it differed by less than one per cent.

mod contestants;
mod icount;
mod server;

use std::path::Path;

use mesh_tests::bench::{
    BoxError, Plan, Process, per_call,
    report::{self, Row},
    roles, run,
};
use server::Ready;

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
            let multi_thread = value("--threads").as_deref() == Some("multi");
            let connect = async |ready: Ready| contestants::connect(&name, &ready).await;
            roles::client(ALLOCATOR, multi_thread, connect)
        }
        Some(other) => Err(format!("unknown role {other:?}").into()),
        // `cargo test` runs benches with no arguments that mean anything here.
        None if flag("--test") => Ok(()),
        None => {
            let only = value("--only");
            let names = contestants::NAMES
                .into_iter()
                .filter(|name| {
                    only.as_ref()
                        .is_none_or(|only| only.split(',').any(|o| o == *name))
                })
                .collect::<Vec<_>>();
            let runtimes = match value("--threads").as_deref() {
                Some("current") => vec!["current"],
                Some("multi") => vec!["multi"],
                _ => vec!["current", "multi"],
            };
            if flag("--callgrind") {
                return callgrind(&names);
            }
            if flag("--icount") {
                return icount::print(&names);
            }
            let plan = Plan::new(flag("--quick"));
            let mut results = Vec::new();
            for runtime in runtimes {
                results.extend(compare(&names, runtime, &plan)?);
            }
            report::print("call", &results, None);
            if let Some(path) = value("--json") {
                std::fs::write(path, format!("{:#}", report::json(&results)))?;
            }
            Ok(())
        }
    }
}

/// Runs all contestants against one server, in turns.
fn compare(names: &[&'static str], runtime: &str, plan: &Plan) -> Result<Vec<Row>, BoxError> {
    let (_server, ready) = start_server()?;
    let mut clients = Vec::new();
    for name in names {
        clients.push(start_client(name, runtime, &ready, None)?);
    }
    let samples = plan.in_turns(&mut clients, run)?;
    let mut rows = Vec::new();
    for ((name, client), samples) in names.iter().zip(&mut clients).zip(samples) {
        let features = client.ask("features")?;
        for (load, samples) in plan.loads.iter().zip(samples) {
            rows.push(Row {
                contestant: (*name).to_owned(),
                baseline: contestants::baseline_of(name).to_owned(),
                features: features.clone(),
                load: format!("{runtime} {load}"),
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
    for in_flight in [1, 64] {
        let mut base = None;
        for name in names {
            let per_call = per_call(|calls, out| {
                let (_server, ready) = start_server()?;
                let mut client = start_client(name, "current", &ready, Some(out))?;
                run(&mut client, calls, in_flight)?;
                Ok(client.end()?)
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

/// Starts the server; returns it and the line that clients are told.
fn start_server() -> Result<(Process, String), BoxError> {
    let mut server = Process::start("the server", &["--role", "server"], None)?;
    let ready = server.answer()?;
    Ok((server, ready))
}

/// Starts a contestant's process; returns it once it is connected.
fn start_client(
    name: &str,
    runtime: &str,
    server: &str,
    callgrind: Option<&Path>,
) -> Result<Process, BoxError> {
    let args = [
        "--role",
        "client",
        "--contestant",
        name,
        "--threads",
        runtime,
    ];
    let mut client = Process::start(name, &args, callgrind)?;
    client.ask(server)?;
    Ok(client)
}
