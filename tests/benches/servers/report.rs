//! The table.

use std::time::Duration;

use crate::server::Reading;

/// What one server did under one load.
pub(crate) struct Row {
    name: &'static str,
    load: String,
    cpu_ns: Vec<f64>,
    instructions: Vec<f64>,
    allocations: Vec<f64>,
    per_second: Vec<f64>,
}

impl Row {
    pub(crate) fn new(name: &'static str, load: String) -> Self {
        Self {
            name,
            load,
            cpu_ns: Vec::new(),
            instructions: Vec::new(),
            allocations: Vec::new(),
            per_second: Vec::new(),
        }
    }

    /// Adds a round.
    pub(crate) fn add(&mut self, count: u64, wall: Duration, before: Reading, after: Reading) {
        let per = |before: u64, after: u64| (after - before) as f64 / count as f64;
        self.cpu_ns.push(per(before.cpu_ns, after.cpu_ns));
        self.allocations
            .push(per(before.allocations, after.allocations));
        if let (Some(before), Some(after)) = (before.instructions, after.instructions) {
            self.instructions.push(per(before, after));
        }
        self.per_second.push(count as f64 / wall.as_secs_f64());
    }

    /// The cost that servers are compared by: instructions, or CPU time without counters.
    fn cost(&self) -> f64 {
        match self.instructions.is_empty() {
            true => median(&self.cpu_ns),
            false => median(&self.instructions),
        }
    }
}

/// Prints medians over the rounds. The first of the rows with the same load is what the others are
/// compared with.
pub(crate) fn print(what: &str, rows: &[Row]) {
    let counted = rows.iter().all(|row| !row.instructions.is_empty());
    if !counted {
        println!(
            "no instruction counters on this machine: servers are compared by CPU time, which is \
             noisy (run with --callgrind for exact user instructions)"
        );
    }
    let unit = if counted { "instr" } else { "cpu ns" };
    println!(
        "{:<8} {:>14} {:>10}/{what} {:>7} {:>8} {:>10} {:>7}",
        "server", "load", unit, "ratio", "allocs", "/s", "rate"
    );
    for row in rows {
        let base = rows
            .iter()
            .find(|base| base.load == row.load)
            .unwrap_or(row);
        println!(
            "{:<8} {:>14} {:>16.0} {:>7.3} {:>8.1} {:>10.0} {:>7.3}",
            row.name,
            row.load,
            row.cost(),
            row.cost() / base.cost(),
            median(&row.allocations),
            median(&row.per_second),
            median(&row.per_second) / median(&base.per_second),
        );
    }
    println!();
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
