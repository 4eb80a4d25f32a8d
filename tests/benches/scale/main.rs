//! What it costs to be large: ten thousand clusters, a hundred thousand endpoints, pushes under
//! load, and five hundred clients that come back at once.
//!
//! `cargo bench -p mesh-tests --bench scale -- [--quick] [--part apply,heap,calls,obey,storm]`
//!
//! | part | figure | bar |
//! |---|---|---|
//! | `apply` | CPU time from the bytes of a response to the ACK, which says that it is in force: one endpoint of 100,000, as a share of all of them in 10,000 clusters | 0.05 |
//! | `heap` | live bytes of 10,000 plain endpoints of one cluster, part by part | 3 MB |
//! | `calls` | p99 of calls while their cluster changes 20 times a second, as a multiple of that without | 1.1 |
//! | `obey` | from the bytes of 1,000 routes on the socket to the first call that follows them, p99 | 2 ms |
//! | `storm` | streams a second at most when 500 clients come back, and what they are sent as a share of the first time | 60, and 5 % under delta |

mod apply;
mod calls;
mod canned;
mod heap;
mod obey;
mod resources;
mod storm;

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// Counts live bytes.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let flag = |name: &str| args.iter().any(|arg| arg == name);
    // `cargo test` runs benches with no arguments that mean anything here.
    if flag("--test") {
        return;
    }
    let part = args.iter().position(|arg| arg == "--part");
    let part = part.and_then(|at| args.get(at + 1));
    let quick = flag("--quick");
    type Part = (&'static str, fn(bool));
    let parts: [Part; 5] = [
        ("apply", apply::run),
        ("heap", heap::run),
        ("calls", calls::run),
        ("obey", obey::run),
        ("storm", storm::run),
    ];
    for (name, run) in parts {
        if part.is_none_or(|part| part.split(',').any(|part| part == name)) {
            println!("# {name}");
            run(quick);
            println!();
        }
    }
}

/// Bytes allocated and not freed.
fn live() -> i64 {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as i64 - stats.bytes_deallocated as i64
}

/// Says how a figure stands to its bar.
fn judge(what: &str, value: f64, bar: f64, unit: &str) {
    let verdict = if value <= bar { "met" } else { "MISSED" };
    println!("{what}: {value:.3}{unit}; bar {bar}{unit}: {verdict}");
}

/// Runs `work` on a current-thread runtime.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made")
        .block_on(work)
}
