//! The table and the JSON.

use serde::Serialize;

use super::{Reading, Sample, Spread, table::Entry};

/// What one contestant did under one load.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The contestant.
    pub contestant: String,
    /// The one that it is compared with: itself, or one of another row with the same load.
    pub baseline: String,
    /// What it is made of, in words.
    pub features: String,
    /// The load, in words.
    pub load: String,
    /// The rounds.
    pub samples: Vec<Sample>,
}

/// What the baseline is held against.
#[derive(Debug, Clone, Copy)]
pub enum Bar {
    /// The cost may be at most this multiple of the baseline's.
    Cost(f64),
    /// The rate must be at least this multiple of the baseline's.
    Rate(f64),
}

/// Medians over the rounds.
#[derive(Debug, Serialize)]
pub struct Figures {
    instructions: Option<Spread>,
    /// CPU time per call, in nanoseconds.
    pub cpu_ns: Spread,
    /// Allocations per call.
    pub allocations: Spread,
    bytes: Spread,
    /// Calls per second.
    pub per_second: Spread,
    p50_us: Spread,
    p99_us: Spread,
}

impl Row {
    /// What its samples amount to.
    pub fn figures(&self) -> Figures {
        let figure = |of: &dyn Fn(&Sample) -> f64| Spread::of(self.samples.iter().map(of));
        let per_call = |of: &dyn Fn(&Reading) -> u64| {
            figure(&|sample| of(&sample.cost) as f64 / sample.calls as f64)
        };
        let counted = |sample: &Sample| sample.cost.instructions.is_some();
        Figures {
            instructions: self
                .samples
                .iter()
                .all(counted)
                .then(|| per_call(&|cost| cost.instructions.unwrap_or_default())),
            cpu_ns: per_call(&|cost| cost.cpu_ns),
            allocations: per_call(&|cost| cost.allocations),
            bytes: per_call(&|cost| cost.bytes),
            per_second: figure(&|sample| sample.calls as f64 * 1e9 / sample.wall_ns as f64),
            p50_us: figure(&|sample| sample.p50_ns as f64 / 1e3),
            p99_us: figure(&|sample| sample.p99_ns as f64 / 1e3),
        }
    }

    fn baseline<'a>(&self, rows: &'a [Self]) -> Option<&'a Self> {
        rows.iter()
            .find(|row| row.contestant == self.baseline && row.load == self.load)
    }
}

impl Figures {
    /// The cost that contestants are compared by: instructions, or CPU time without counters.
    pub fn cost(&self) -> Spread {
        self.instructions.unwrap_or(self.cpu_ns)
    }

    /// What [`cost`](Self::cost) counts.
    pub fn unit(&self) -> &'static str {
        match self.instructions {
            Some(_) => "instructions",
            None => "CPU time",
        }
    }
}

/// Prints medians over the rounds, and the spread of the cost, beside those of the baselines; what is
/// held against the bar, for the table of all.
pub fn print(what: &str, rows: &[Row], bar: Option<Bar>) -> Vec<Entry> {
    let mut entries = Vec::new();
    let counted = rows.iter().all(|row| row.figures().instructions.is_some());
    if !counted {
        println!(
            "no instruction counters on this machine: contestants are compared by CPU time, \
             which is noisy (run with --callgrind for exact user instructions)"
        );
    }
    for (at, row) in rows.iter().enumerate() {
        let said = |earlier: &Row| earlier.contestant == row.contestant;
        if !row.features.is_empty() && !rows[..at].iter().any(said) {
            println!("{}: {}", row.contestant, row.features);
        }
    }
    let unit = format!("{}/{what}", if counted { "instr" } else { "cpu ns" });
    println!(
        "\n{:<14} {:>20} {unit:>16} {:>6} {:>7} {:>7} {:>7} {:>8} {:>8} {:>8} {:>7}",
        "contestant", "load", "±", "ratio", "allocs", "bytes", "/s", "p50 us", "p99 us", "rate"
    );
    for row in rows {
        let own = row.figures();
        let base = row.baseline(rows).map(Row::figures);
        let cost = base
            .as_ref()
            .map(|base| own.cost().median / base.cost().median);
        let rate = base
            .as_ref()
            .map(|base| own.per_second.median / base.per_second.median);
        let ratio =
            |ratio: Option<f64>| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.3}"));
        let measure = |what: &str| format!("{what}, {}, {}", row.contestant, row.load);
        let verdict = match (bar, cost, rate) {
            _ if row.contestant == row.baseline => String::new(),
            (Some(Bar::Cost(bar)), Some(cost), _) => {
                let measure = measure(&format!("{} per {what}", own.unit()));
                entries.push(Entry::at_most(&measure, &row.baseline, bar, cost, "x"));
                verdict("cost <=", bar, cost <= bar)
            }
            (Some(Bar::Rate(bar)), _, Some(rate)) => {
                let measure = measure(&format!("{what}s per second"));
                entries.push(Entry::at_least(&measure, &row.baseline, bar, rate, "x"));
                verdict("rate >=", bar, rate >= bar)
            }
            _ => String::new(),
        };
        let of = match row.contestant == row.baseline {
            true => String::new(),
            false => format!(" of {}", row.baseline),
        };
        println!(
            "{:<14} {:>20} {:>16.0} {:>5.1}% {:>7} {:>7.1} {:>7.0} {:>8.0} {:>8.1} {:>8.1} {:>7} {of} {verdict}",
            row.contestant,
            row.load,
            own.cost().median,
            own.cost().spread * 100.0,
            ratio(cost),
            own.allocations.median,
            own.bytes.median,
            own.per_second.median,
            own.p50_us.median,
            own.p99_us.median,
            ratio(rate),
        );
    }
    println!();
    entries
}

/// Whether a bar was met, in words.
pub fn verdict(bar: &str, value: f64, met: bool) -> String {
    let met = if met { "met" } else { "missed" };
    format!("{bar} {value}: {met}")
}

/// The same as JSON, samples included.
pub fn json(rows: &[Row]) -> serde_json::Value {
    rows.iter()
        .map(|row| serde_json::json!({ "row": row, "figures": row.figures() }))
        .collect()
}
