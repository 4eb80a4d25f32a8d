//! What it costs to record one call and its attempt.
//!
//! `cargo bench -p mesh-tests --bench record -- [--quick]`
//!
//! As a client does it: the method is looked up, the call and the attempt are started and ended, each
//! with sizes, an endpoint's locality and workload. Counted are instructions: by the machine's
//! counters where it has them, else by valgrind where that is installed.

use std::{io, sync::Arc, time::Duration};

use mesh_core::{
    Code, Semantics,
    config::{LocalityId, Workload},
    telemetry::{Amount, CallRecord, Cause, Instruments, Metrics, Recorder as _, Series},
};
use mesh_tests::{
    bench::{
        BoxError,
        table::{self, Entry, HEAD},
    },
    instructions::{Instructions, callgrind},
    micro::nanoseconds,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// Nanoseconds, instructions and allocations.
const BARS: (f64, f64, f64) = (150.0, 1_000.0, 0.0);
const METHOD: &str = "mesh.bench.Greeter/SayHello";

struct Bench {
    _metrics: Arc<Metrics>,
    series: Arc<dyn Instruments>,
    locality: Arc<LocalityId>,
    workload: Arc<Workload>,
}

fn main() -> Result<(), BoxError> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let bench = Bench::new();
    if let ["--only", calls] = words[..] {
        bench.record_all(calls.parse()?);
        return Ok(());
    }
    let calls = match words.contains(&"--quick") {
        true => 200_000,
        false => 2_000_000,
    };
    bench.record_all(calls / 10);
    let before = ALLOCATOR.stats().allocations;
    bench.record_all(calls);
    let allocations = ALLOCATOR.stats().allocations - before;
    let mut counters = Instructions::start();
    let begin = counters.read();
    bench.record_all(calls);
    let counted = begin.and_then(|begin| Some((counters.read()? - begin) as f64 / calls as f64));
    let instructions = counted.or_else(|| by_valgrind().ok());
    let took = nanoseconds((calls / 10_000).max(5), |_| bench.record());
    let measure = "recording a call and its attempt";
    let (most_nanoseconds, most_instructions, most_allocations) = BARS;
    let mut entries = vec![Entry::at_most(
        measure,
        "itself",
        most_nanoseconds,
        took,
        " ns",
    )];
    match instructions {
        Some(counted) => {
            let bar = most_instructions;
            entries.push(Entry::at_most(
                measure,
                "itself",
                bar,
                counted,
                " instructions",
            ));
        }
        None => println!("instructions: neither counters nor valgrind are here"),
    }
    let allocated = allocations as f64 / calls as f64;
    let bar = most_allocations;
    entries.push(Entry::at_most(
        measure,
        "itself",
        bar,
        allocated,
        " allocations",
    ));
    println!("{HEAD}");
    for entry in &entries {
        println!("{}", entry.row());
    }
    table::keep(env!("CARGO_TARGET_TMPDIR"), "record", &entries)
}

/// The difference between two runs of different length.
fn by_valgrind() -> io::Result<f64> {
    let (few, many) = (2_000, 12_000);
    let run = |calls: usize| callgrind(["--only", calls.to_string().as_str()]);
    Ok((run(many)? - run(few)?) as f64 / (many - few) as f64)
}

impl Bench {
    fn new() -> Self {
        let metrics = Metrics::new();
        let series = Series::client("greeter.shop:8080", "greet", "c|v1", Semantics::Grpc);
        let parts = ["greeter-v1", "shop", "greeter", "v1", "east", "", ""];
        Self {
            series: metrics.bind(&series),
            _metrics: metrics,
            locality: Arc::new(LocalityId {
                region: "europe".to_owned(),
                zone: "europe-a".to_owned(),
                sub_zone: String::new(),
            }),
            workload: Arc::new(Workload::new(parts)),
        }
    }

    fn record(&self) {
        let amount = Amount {
            bytes: 120,
            messages: 1,
        };
        let took = Duration::from_micros(480);
        let method = self.series.method(METHOD).expect("it is looked up");
        method.started();
        method.attempt_started();
        let mut call = CallRecord::new(Code::Ok, Cause::Response, took);
        call.status = Some(http::StatusCode::OK);
        call.locality = Some(&self.locality);
        call.peer = Some(&self.workload);
        (call.sent, call.received) = (amount, amount);
        method.both_ended(&call);
    }

    fn record_all(&self, calls: usize) {
        for _ in 0..calls {
            std::hint::black_box(self).record();
        }
    }
}
