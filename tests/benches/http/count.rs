//! Instructions per request, where the machine cannot count them.

use mesh_tests::bench::{BoxError, icount as guest, per_call, report};

use crate::{BAR, Pair, Part, contestants::Contestant, scene::Scene};

/// User instructions, counted by valgrind.
pub(crate) fn callgrind(
    scene: &Scene,
    part: &Part,
    contestants: &[Contestant],
) -> Result<(), BoxError> {
    println!("user instructions of {} per request (callgrind)", part.name);
    for in_flight in [1, 64] {
        let mut counted = Vec::new();
        for contestant in contestants {
            let own = per_call(|calls, out| {
                let mut pair = Pair::start(scene, *contestant, part.measured, Some(out))?;
                // All connections are made before it counts: how many those are depends on who is
                // faster, and a handshake costs as much as hundreds of requests.
                pair.run(100 * in_flight, in_flight)?;
                pair.zero()?;
                pair.run(calls, in_flight)?;
                pair.end()
            })?;
            counted.push((*contestant, own));
            print(part, &counted, in_flight);
        }
    }
    Ok(())
}

/// Instructions of user and kernel, in the guest of `tests/benches/icount`.
pub(crate) fn icount(
    scene: &Scene,
    part: &Part,
    contestants: &[Contestant],
) -> Result<(), BoxError> {
    guest::begin(&format!("instructions of {} per request", part.name))?;
    let mut counted = guest::LOADS.map(|_| Vec::new());
    for contestant in contestants {
        let mut pair = Pair::start(scene, *contestant, part.measured, None)?;
        for (load, counted) in guest::LOADS.into_iter().zip(&mut counted) {
            let own = guest::per_call(|calls| pair.run(calls, load))?;
            counted.push((*contestant, own));
            print(part, counted, load);
        }
    }
    Ok(())
}

/// Prints the last of these, beside those that it is compared with.
fn print(part: &Part, counted: &[(Contestant, f64)], in_flight: u64) {
    let Some(&(contestant, own)) = counted.last() else {
        return;
    };
    let name = contestant.name();
    print!("{name:<16} {in_flight:>3} in flight {own:>10.0}");
    for baseline in contestant
        .baselines(part.whos)
        .filter(|it| *it != contestant)
    {
        let found = counted.iter().find(|(other, _)| *other == baseline);
        if let Some((_, base)) = found {
            let ratio = own / base;
            print!("   {ratio:.3} of {}", baseline.name());
            if contestant.is_mesh() {
                print!(", {}", report::verdict("cost <=", BAR, ratio <= BAR));
            }
        }
    }
    println!();
}
