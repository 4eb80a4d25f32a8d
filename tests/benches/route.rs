//! What it costs to find a route among many.
//!
//! `cargo bench -p mesh-tests --bench route -- [--quick]`
//!
//! Counted are instructions: by the machine's counters where it has them, else by valgrind where
//! that is installed. Without either, nanoseconds stand in for them, in which the larger table's
//! misses of the processor's caches count as well.

use std::{hint::black_box, io};

use http::{HeaderMap, Method};
use mesh_core::{
    Semantics,
    config::{Forward, PathMatcher, Route, RouteAction, RouteMatch, WeightedCluster},
    route::{Head, Table},
};
use mesh_tests::{
    instructions::{Instructions, callgrind},
    micro::nanoseconds,
};

/// Exact routes in the table.
const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];
/// Cost of the last size, compared with the first.
const BAR: f64 = 2.0;

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    if let ["--only", routes, calls] = words[..] {
        let number = |text: &str| text.parse().map_err(io::Error::other);
        let bench = Bench::new(number(routes)?);
        bench.find_all(number(calls)?);
        return Ok(());
    }
    let calls = match words.contains(&"--quick") {
        true => 200_000,
        false => 2_000_000,
    };
    let mut counters = Instructions::start();
    let rows: Vec<Row> = SIZES
        .iter()
        .map(|&size| Row::measure(size, calls, &mut counters))
        .collect();
    print(&rows);
    Ok(())
}

/// A table and paths that it has routes for.
struct Bench {
    table: Table,
    paths: Vec<String>,
    method: Method,
    headers: HeaderMap,
}

/// Costs of one match.
struct Row {
    routes: usize,
    nanoseconds: f64,
    counted: Option<f64>,
    by_valgrind: Option<f64>,
}

// === impl Bench ===

impl Bench {
    fn new(routes: usize) -> Self {
        let path = |route: usize| format!("/mesh.bench.Service{}/Method{route}", route / 8);
        let mut paths: Vec<_> = (0..routes).map(path).collect();
        let routes: Vec<_> = paths.iter().map(|path| route(path)).collect();
        // Neighbours in time are no neighbours in the table. Always in the same order.
        fastrand::Rng::with_seed(7).shuffle(&mut paths);
        Self {
            table: Table::compile(Semantics::Grpc, &routes),
            paths,
            method: Method::POST,
            headers: HeaderMap::new(),
        }
    }

    fn find(&self, path: usize) -> Option<usize> {
        let head = Head {
            method: &self.method,
            scheme: "http",
            authority: "service.bench",
            path: &self.paths[path % self.paths.len()],
            query: None,
            headers: &self.headers,
        };
        self.table.find(&head, &mut ())
    }

    fn find_all(&self, calls: usize) {
        for call in 0..calls {
            let found = black_box(self).find(black_box(call));
            assert!(found.is_some(), "every path has a route");
        }
    }
}

fn route(path: &str) -> Route {
    Route {
        name: path.into(),
        matcher: RouteMatch {
            path: PathMatcher::Exact {
                path: path.to_owned(),
                ignore_case: false,
            },
            headers: Vec::new(),
            query: Vec::new(),
            fraction: None,
        },
        action: RouteAction::Forward(Forward {
            clusters: vec![WeightedCluster {
                name: "cluster".into(),
                weight: 1,
                overrides: Default::default(),
                headers: Default::default(),
                host_rewrite: None,
            }],
            retry: None,
            max_stream_duration: None,
            grpc_timeout_header_max: None,
            http: Default::default(),
        }),
        overrides: Default::default(),
        headers: Default::default(),
    }
}

// === impl Row ===

impl Row {
    fn measure(routes: usize, calls: usize, counters: &mut Instructions) -> Self {
        let bench = Bench::new(routes);
        bench.find_all(calls / 10);
        let before = counters.read();
        bench.find_all(calls);
        let counted = before.and_then(|before| Some(counters.read()? - before));
        Self {
            routes,
            nanoseconds: nanoseconds(calls / 2_000, |call| bench.find(call)),
            counted: counted.map(|counted| counted as f64 / calls as f64),
            by_valgrind: match counted {
                Some(_) => None,
                None => by_valgrind(routes).ok(),
            },
        }
    }

    fn instructions(&self) -> Option<f64> {
        self.counted.or(self.by_valgrind)
    }
}

/// The difference between two runs of different length.
fn by_valgrind(routes: usize) -> io::Result<f64> {
    let (few, many) = (20_000, 60_000);
    let run = |calls: usize| {
        let (routes, calls) = (routes.to_string(), calls.to_string());
        callgrind(["--only", routes.as_str(), calls.as_str()])
    };
    Ok((run(many)? - run(few)?) as f64 / (many - few) as f64)
}

fn print(rows: &[Row]) {
    let [first, .., last] = rows else { return };
    println!("{:>13} {:>15} {:>8}", "exact routes", "instructions", "ns");
    for row in rows {
        let instructions = row
            .instructions()
            .map_or("-".to_owned(), |count| format!("{count:.0}"));
        println!(
            "{:>13} {instructions:>15} {:>8.1}",
            row.routes, row.nanoseconds
        );
    }
    let (ratio, unit) = match (first.instructions(), last.instructions()) {
        (Some(first), Some(last)) => {
            let how = match rows.iter().all(|row| row.counted.is_some()) {
                true => "instructions (hardware counters)",
                false => "user instructions (valgrind: this machine has no counters)",
            };
            (last / first, how)
        }
        _ => (
            last.nanoseconds / first.nanoseconds,
            "nanoseconds: this machine has neither counters nor valgrind",
        ),
    };
    let verdict = if ratio <= BAR { "met" } else { "MISSED" };
    println!(
        "{} routes cost {ratio:.2}x of {}; bar {BAR:.1}x: {verdict}. In {unit}.",
        last.routes, first.routes
    );
}
