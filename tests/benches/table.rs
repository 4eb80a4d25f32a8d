//! All that is held against a bar, as the other benchmarks measured it last. `cargo bench -p
//! mesh-tests -- [--quick]` runs them in the order of their names, and this one at their end.

use std::time::SystemTime;

use mesh_tests::bench::{
    BoxError,
    table::{HEAD, kept},
};

fn main() -> Result<(), BoxError> {
    // `cargo test` runs benches with no arguments that mean anything here.
    if std::env::args().any(|arg| arg == "--test") {
        return Ok(());
    }
    let all = kept(env!("CARGO_TARGET_TMPDIR"))?;
    if all.is_empty() {
        println!("Nothing was measured yet: `cargo bench -p mesh-tests -- --quick` does.");
        return Ok(());
    }
    let now = SystemTime::now();
    for entries in &all {
        let minutes = now
            .duration_since(entries.at)
            .map_or(0, |age| age.as_secs() / 60);
        println!("{}: measured {minutes} minutes ago", entries.bench);
    }
    println!("\n{HEAD}");
    for entry in all.iter().flat_map(|entries| &entries.entries) {
        println!("{}", entry.row());
    }
    Ok(())
}
