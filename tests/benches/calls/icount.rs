//! Instructions per call in a guest whose clock counts them; see `tests/benches/icount`.

use mesh_tests::bench::{BoxError, icount, report::verdict, run};

use crate::{contestants::baseline_of, shape::Shape, start_client, start_server};

/// The most that ours may cost, as a share of what tonic does.
fn bar(name: &str, in_flight: u64) -> Option<f64> {
    match (name, in_flight) {
        ("mesh", 64) => Some(0.97),
        ("mesh", 1) | ("mesh-mtls", _) => Some(1.0),
        _ => None,
    }
}

/// Prints what each contestant takes, and whether it meets its bar.
pub(crate) fn print(names: &[&'static str]) -> Result<(), BoxError> {
    icount::begin("instructions per call")?;
    println!(
        "{:<16} {:>10} {:>12} {:>8}",
        "contestant", "in flight", "instructions", "ratio"
    );
    let (_server, ready) = start_server()?;
    let shape = Shape::named(Shape::PLAIN)?;
    let mut clients = Vec::new();
    for name in names {
        clients.push((*name, start_client(name, &shape, "current", &ready, None)?));
    }
    for in_flight in icount::LOADS {
        let mut counted: Vec<(&str, f64)> = Vec::new();
        for (name, client) in &mut clients {
            let per_call = icount::per_call(|calls| run(&mut client.process, calls, in_flight))?;
            counted.push((name, per_call));
        }
        for (name, own) in &counted {
            let mut others = counted.iter();
            let base = others.find(|(other, _)| *other == baseline_of(name));
            let ratio = base.map(|(_, base)| own / base);
            let verdict = match (ratio, bar(name, in_flight)) {
                (Some(ratio), Some(bar)) => verdict("cost <=", bar, ratio <= bar),
                _ => String::new(),
            };
            let ratio = ratio.map_or("-".into(), |ratio| format!("{ratio:.3}"));
            println!("{name:<16} {in_flight:>10} {own:>12.0} {ratio:>8}  {verdict}");
        }
    }
    Ok(())
}
