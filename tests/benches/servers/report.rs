//! The table and the JSON.

use std::time::Duration;

use serde::Serialize;

use crate::server::Reading;

/// What the baseline is held against.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bar {
    /// The cost of a server may be at most this multiple of the baseline's.
    Cost(f64),
    /// The rate must be at least this multiple of the baseline's.
    Rate(f64),
}

/// What one server did under one load.
#[derive(Debug, Serialize)]
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
    fn cost(&self) -> &[f64] {
        match self.instructions.is_empty() {
            true => &self.cpu_ns,
            false => &self.instructions,
        }
    }
}

/// Prints medians over the rounds, and half the distance between the quartiles of the cost. The
/// first of the rows with the same load is what the others are compared with.
pub(crate) fn print(what: &str, rows: &[Row], bar: Bar) {
    let counted = rows.iter().all(|row| !row.instructions.is_empty());
    if !counted {
        println!(
            "no instruction counters on this machine: servers are compared by CPU time, which is \
             noisy (run with --callgrind for exact user instructions)"
        );
    }
    let unit = format!("{}/{what}", if counted { "instr" } else { "cpu ns" });
    println!(
        "{:<8} {:>14} {unit:>17} {:>6} {:>7} {:>8} {:>10} {:>7}",
        "server", "load", "±", "ratio", "allocs", "/s", "rate"
    );
    for row in rows {
        let base = rows
            .iter()
            .find(|base| base.load == row.load)
            .unwrap_or(row);
        let ratio = median(row.cost()) / median(base.cost());
        let rate = median(&row.per_second) / median(&base.per_second);
        let verdict = match bar {
            _ if std::ptr::eq(row, base) => String::new(),
            Bar::Cost(bar) => verdict(&format!("cost <= {bar}"), ratio <= bar),
            Bar::Rate(bar) => verdict(&format!("rate >= {bar}"), rate >= bar),
        };
        println!(
            "{:<8} {:>14} {:>17.0} {:>5.1}% {ratio:>7.3} {:>8.1} {:>10.0} {rate:>7.3}  {verdict}",
            row.name,
            row.load,
            median(row.cost()),
            100.0 * spread(row.cost()),
            median(&row.allocations),
            median(&row.per_second),
        );
    }
    println!();
}

fn verdict(bar: &str, met: bool) -> String {
    format!("{bar}: {}", if met { "met" } else { "missed" })
}

fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

fn spread(values: &[f64]) -> f64 {
    (quantile(values, 0.75) - quantile(values, 0.25)) / 2.0 / median(values)
}

fn quantile(values: &[f64], share: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let at = (values.len().saturating_sub(1) as f64 * share).round() as usize;
    values.get(at).copied().unwrap_or(f64::NAN)
}
