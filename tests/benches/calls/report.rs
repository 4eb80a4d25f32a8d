//! The table and the JSON.

use std::fmt::Write;

use serde::Serialize;

use crate::{BoxError, contestants::baseline_of, measure::Sample};

/// What one contestant did at one number of calls in flight.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) contestant: &'static str,
    pub(crate) runtime: &'static str,
    pub(crate) in_flight: usize,
    pub(crate) features: String,
    pub(crate) samples: Vec<Sample>,
}

/// Median, and half the distance between the quartiles as a share of it.
#[derive(Debug, Clone, Copy, Serialize)]
struct Spread {
    median: f64,
    spread: f64,
}

#[derive(Debug, Serialize)]
struct Figures {
    instructions: Option<Spread>,
    cpu_ns: Spread,
    allocations: Spread,
    bytes: Spread,
    calls_per_second: Spread,
    p50_us: Spread,
    p99_us: Spread,
}

impl Row {
    fn figure(&self, of: impl Fn(&Sample) -> f64) -> Spread {
        let mut values: Vec<f64> = self.samples.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
        let median = at(0.5);
        Spread {
            median,
            spread: (at(0.75) - at(0.25)) / 2.0 / median.max(f64::MIN_POSITIVE),
        }
    }

    fn figures(&self) -> Figures {
        let per_call = |total: u64, sample: &Sample| total as f64 / sample.calls as f64;
        let counted = self
            .samples
            .iter()
            .all(|sample| sample.instructions.is_some());
        Figures {
            instructions: counted
                .then(|| self.figure(|s| per_call(s.instructions.unwrap_or_default(), s))),
            cpu_ns: self.figure(|s| per_call(s.cpu_ns, s)),
            allocations: self.figure(|s| per_call(s.allocations, s)),
            bytes: self.figure(|s| per_call(s.bytes, s)),
            calls_per_second: self.figure(|s| s.calls as f64 * 1e9 / s.wall_ns as f64),
            p50_us: self.figure(|s| s.p50_ns as f64 / 1e3),
            p99_us: self.figure(|s| s.p99_ns as f64 / 1e3),
        }
    }

    fn baseline<'a>(&self, rows: &'a [Row]) -> Option<&'a Row> {
        rows.iter().find(|row| {
            row.contestant == baseline_of(self.contestant)
                && row.runtime == self.runtime
                && row.in_flight == self.in_flight
        })
    }
}

/// The cost that contestants are compared by: instructions, or CPU time without counters.
fn cost(figures: &Figures) -> Spread {
    figures.instructions.unwrap_or(figures.cpu_ns)
}

/// Prints the table.
pub(crate) fn print(rows: &[Row]) {
    let mut out = String::new();
    let counted = rows.iter().all(|row| row.figures().instructions.is_some());
    if !counted {
        let _ = writeln!(
            out,
            "no instruction counters on this machine: contestants are compared by CPU time, \
             which is noisy (run with --callgrind for exact user instructions)"
        );
    }
    let unit = if counted { "instr/call" } else { "cpu ns/call" };
    let mut features: Vec<(&str, &str)> = Vec::new();
    for row in rows {
        if !features.iter().any(|(name, _)| *name == row.contestant) {
            features.push((row.contestant, &row.features));
        }
    }
    for (name, features) in features {
        let _ = writeln!(out, "{name}: {features}");
    }
    let _ = writeln!(
        out,
        "\n{:<16} {:>8} {:>9} {:>12} {:>6} {:>7} {:>8} {:>9} {:>9} {:>9} {:>9} {:>7}",
        "contestant",
        "runtime",
        "in flight",
        unit,
        "±",
        "ratio",
        "allocs",
        "bytes",
        "calls/s",
        "p50 us",
        "p99 us",
        "rate"
    );
    for row in rows {
        let figures = row.figures();
        let base = row.baseline(rows).map(Row::figures);
        let ratio = |own: f64, base: Option<f64>| {
            base.map_or("-".to_owned(), |base| format!("{:.3}", own / base))
        };
        let own = cost(&figures);
        let _ = writeln!(
            out,
            "{:<16} {:>8} {:>9} {:>12.0} {:>5.1}% {:>7} {:>8.1} {:>9.0} {:>9.0} {:>9.1} {:>9.1} {:>7}",
            row.contestant,
            row.runtime,
            row.in_flight,
            own.median,
            own.spread * 100.0,
            ratio(own.median, base.as_ref().map(|base| cost(base).median)),
            figures.allocations.median,
            figures.bytes.median,
            figures.calls_per_second.median,
            figures.p50_us.median,
            figures.p99_us.median,
            ratio(
                figures.calls_per_second.median,
                base.as_ref().map(|base| base.calls_per_second.median)
            ),
        );
    }
    print!("{out}");
}

/// The same as JSON, samples included.
pub(crate) fn json(rows: &[Row]) -> Result<String, BoxError> {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| serde_json::json!({ "row": row, "figures": row.figures() }))
        .collect();
    Ok(serde_json::to_string_pretty(&rows)?)
}
