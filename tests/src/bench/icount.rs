//! Instructions per call, user and kernel, in a guest whose clock counts them; see
//! `tests/benches/icount`.

use super::{BoxError, Sample};

/// Calls of the two runs whose difference is taken, so that what a run costs by itself is not in it.
const FEW: u64 = 1_000;
const MANY: u64 = 3_000;
/// What the guest's kernel is told, and nobody else's: that its clock counts instructions.
const MARK: &str = "mesh.icount";
/// Calls in flight.
pub const LOADS: [u64; 3] = [1, 16, 64];

/// Says what is counted, if this is the guest.
///
/// # Errors
/// If it is not: CPU time is time elsewhere.
pub fn begin(what: &str) -> Result<(), BoxError> {
    let told = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    if !told.split_whitespace().any(|word| word == MARK) {
        return Err("only in the guest of tests/benches/icount is CPU time instructions".into());
    }
    println!("{what}, user and kernel (one processor)");
    Ok(())
}

/// What a call costs, of which `run` makes as many as it is told.
///
/// # Errors
/// If a run fails.
pub fn per_call(mut run: impl FnMut(u64) -> Result<Sample, BoxError>) -> Result<f64, BoxError> {
    run(MANY)?; // warm-up
    let few = run(FEW)?.cost.cpu_ns;
    let many = run(MANY)?.cost.cpu_ns;
    Ok(many.saturating_sub(few) as f64 / (MANY - FEW) as f64)
}
