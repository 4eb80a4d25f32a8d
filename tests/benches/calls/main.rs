//! What a call costs: contestants make the same unary gRPC calls to the same server.
//!
//! `cargo bench -p mesh-tests --bench calls -- [--quick] [--json FILE] [--only NAME,..]`
//! `[--threads current|multi|both] [--callgrind]`
//!
//! Each contestant is a process of its own, the server and the control plane another. They take
//! turns: every round runs each contestant once at each number of calls in flight, so that what
//! disturbs the machine disturbs all alike. Reported are medians over the rounds and their spread.

mod client;
mod contestants;
mod measure;
mod report;
mod server;

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use measure::Sample;

/// Counts allocations of the client processes.
#[global_allocator]
static ALLOCATOR: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Calls in flight at once.
const IN_FLIGHT: [usize; 4] = [1, 16, 64, 128];

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
        Some("client") => client::run(
            &value("--contestant").ok_or("--contestant is missing")?,
            value("--threads").as_deref() == Some("multi"),
        ),
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
            let plan = if flag("--quick") {
                Plan::quick()
            } else {
                Plan::full()
            };
            let mut results = Vec::new();
            for runtime in runtimes {
                results.extend(compare(&names, runtime, &plan)?);
            }
            report::print(&results);
            if let Some(path) = value("--json") {
                std::fs::write(path, report::json(&results)?)?;
            }
            Ok(())
        }
    }
}

/// How much is measured.
struct Plan {
    rounds: usize,
    calls: usize,
}

impl Plan {
    fn quick() -> Self {
        Self {
            rounds: 5,
            calls: 4_000,
        }
    }

    fn full() -> Self {
        Self {
            rounds: 15,
            calls: 20_000,
        }
    }
}

/// Runs all contestants against one server, in turns.
fn compare(
    names: &[&'static str],
    runtime: &'static str,
    plan: &Plan,
) -> Result<Vec<report::Row>, BoxError> {
    let (_server, ready) = start_server()?;
    let mut clients = Vec::new();
    for name in names {
        clients.push(Client::start(name, runtime, &ready, None)?);
    }
    let mut rows: Vec<report::Row> = Vec::new();
    for client in &mut clients {
        let features = client.ask("hello")?;
        for in_flight in IN_FLIGHT {
            rows.push(report::Row {
                contestant: client.name,
                runtime,
                in_flight,
                features: features.clone(),
                samples: Vec::new(),
            });
            client.ask(&format!("run {} {in_flight}", plan.calls / 4))?; // warm-up
        }
    }
    for round in 0..plan.rounds {
        for in_flight in IN_FLIGHT {
            // Another order each round, so that nobody always runs after the same neighbour.
            for turn in 0..clients.len() {
                let client = &mut clients[(turn + round) % names.len()];
                let calls = if in_flight == 1 {
                    plan.calls / 4
                } else {
                    plan.calls
                };
                let answer = client.ask(&format!("run {calls} {in_flight}"))?;
                let sample: Sample = serde_json::from_str(&answer)?;
                let row = rows
                    .iter_mut()
                    .find(|row| row.contestant == client.name && row.in_flight == in_flight)
                    .ok_or("a contestant without a row")?;
                row.samples.push(sample);
            }
        }
    }
    Ok(rows)
}

/// User instructions per call, counted by valgrind: the difference between two runs of different
/// length. Exact and repeatable where there are no hardware counters, but blind to the kernel.
fn callgrind(names: &[&'static str]) -> Result<(), BoxError> {
    println!("user instructions per call (callgrind; current-thread runtime)");
    println!(
        "{:<16} {:>10} {:>12} {:>8}",
        "contestant", "in flight", "instructions", "ratio"
    );
    for in_flight in [1, 64] {
        let mut base = None;
        for name in names {
            let count = |calls: usize| -> Result<u64, BoxError> {
                let (_server, ready) = start_server()?;
                let out = std::env::temp_dir().join(format!("callgrind.{}", std::process::id()));
                let mut client = Client::start(name, "current", &ready, Some(&out))?;
                client.ask(&format!("run {calls} {in_flight}"))?;
                client.end()?;
                let text = std::fs::read_to_string(&out)?;
                std::fs::remove_file(&out)?;
                let totals = text.lines().find_map(|line| {
                    line.strip_prefix("totals:")
                        .or_else(|| line.strip_prefix("summary:"))
                });
                Ok(totals.ok_or("callgrind wrote no totals")?.trim().parse()?)
            };
            let (few, many) = (1_000, 3_000);
            let per_call = (count(many)? - count(few)?) as f64 / (many - few) as f64;
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
fn start_server() -> Result<(Running, String), BoxError> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--role", "server"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let stdout = child.stdout.take().ok_or("no stdout")?;
    BufReader::new(stdout).read_line(&mut line)?;
    Ok((Running(child), line))
}

/// A child process that ends with its handle.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A contestant's process.
struct Client {
    name: &'static str,
    process: Running,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Client {
    fn start(
        name: &'static str,
        runtime: &str,
        server: &str,
        callgrind: Option<&std::path::Path>,
    ) -> Result<Self, BoxError> {
        let exe = std::env::current_exe()?;
        let mut command = match callgrind {
            None => Command::new(exe),
            Some(out) => {
                let mut command = Command::new("valgrind");
                command
                    .arg("--tool=callgrind")
                    .arg(format!("--callgrind-out-file={}", out.display()))
                    .arg(exe)
                    .stderr(Stdio::null());
                command
            }
        };
        let mut child = command
            .args([
                "--role",
                "client",
                "--contestant",
                name,
                "--threads",
                runtime,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        let mut client = Self {
            name,
            process: Running(child),
            stdin,
            stdout,
        };
        client.ask(server.trim_end())?;
        Ok(client)
    }

    fn ask(&mut self, line: &str) -> Result<String, BoxError> {
        let stdin = self.stdin.as_mut().ok_or("the client has ended")?;
        writeln!(stdin, "{line}")?;
        stdin.flush()?;
        let mut answer = String::new();
        self.stdout.read_line(&mut answer)?;
        match answer.trim_end() {
            "" => Err(format!("contestant {} ended; see its output above", self.name).into()),
            answer => Ok(answer.to_owned()),
        }
    }

    /// Lets the process end by itself, so that a tool around it can write its report.
    fn end(mut self) -> Result<(), BoxError> {
        self.stdin = None;
        self.process.0.wait()?;
        Ok(())
    }
}
