//! Instructions per call in a guest whose clock counts them; see `tests/benches/icount`.

use mesh_tests::bench::{BoxError, run};

use crate::{contestants::baseline_of, start_client, start_server};

/// Calls of the two runs whose difference is taken, so that what a run costs by itself is not in it.
const FEW: u64 = 1_000;
const MANY: u64 = 3_000;
/// What the guest's kernel is told, and nobody else's: that its clock counts instructions.
const MARK: &str = "mesh.icount";

/// The most that ours may cost, as a share of what tonic does.
fn bar(name: &str, in_flight: u64) -> Option<f64> {
    match (name, in_flight) {
        ("mesh", 64) => Some(0.98),
        ("mesh", 1) | ("mesh-mtls", _) => Some(1.0),
        _ => None,
    }
}

/// Prints what each contestant takes, user and kernel, and whether it meets its bar.
pub(crate) fn print(names: &[&'static str]) -> Result<(), BoxError> {
    let told = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    if !told.split_whitespace().any(|word| word == MARK) {
        return Err("only in the guest of tests/benches/icount is CPU time instructions".into());
    }
    println!("instructions per call, user and kernel (one processor, current-thread runtime)");
    println!(
        "{:<16} {:>10} {:>12} {:>8} {:>12}",
        "contestant", "in flight", "instructions", "ratio", "bar"
    );
    let (_server, ready) = start_server()?;
    let mut clients = Vec::new();
    for name in names {
        clients.push((*name, start_client(name, "current", &ready, None)?));
    }
    for in_flight in [1, 16, 64] {
        let mut counted: Vec<(&str, f64)> = Vec::new();
        for (name, client) in &mut clients {
            run(client, MANY, in_flight)?; // warm-up
            let few = run(client, FEW, in_flight)?.cost.cpu_ns;
            let many = run(client, MANY, in_flight)?.cost.cpu_ns;
            counted.push((name, many.saturating_sub(few) as f64 / (MANY - FEW) as f64));
        }
        for (name, own) in &counted {
            let base = counted
                .iter()
                .find(|(other, _)| *other == baseline_of(name));
            let ratio = base.map(|(_, base)| own / base);
            let verdict = match (ratio, bar(name, in_flight)) {
                (Some(ratio), Some(bar)) if ratio <= bar => format!("<= {bar:.2}"),
                (Some(_), Some(bar)) => format!("MISSES {bar:.2}"),
                _ => String::new(),
            };
            let ratio = ratio.map_or("-".into(), |ratio| format!("{ratio:.3}"));
            println!("{name:<16} {in_flight:>10} {own:>12.0} {ratio:>8} {verdict:>12}");
        }
    }
    Ok(())
}
