//! What it costs to decide about a request by many policies.
//!
//! `cargo bench -p mesh-tests --bench rbac -- [--quick]`
//!
//! Counted are instructions: by the machine's counters where it has them, else by valgrind where
//! that is installed. The bar is in nanoseconds, for the policies that an index finds.

use std::{hint::black_box, io, sync::Arc};

use http::{HeaderMap, Method};
use mesh_core::{
    Semantics,
    authz::{Action, AuditLoggers, Bound, Decision, Engine, Policy, Rule, Rules},
    config::{HeaderMatch, HeaderMatcher, StringMatch, StringMatcher},
    filter::RequestHead,
    identity::{Peer, PeerTls},
    testing::CertificateAuthority,
};
use mesh_tests::{
    instructions::{Instructions, callgrind},
    micro::nanoseconds,
};

/// Policies in the rules.
const SIZES: [usize; 2] = [10, 1_000];
/// Nanoseconds of a decision by the largest rules, where an index applies.
const BAR: f64 = 200.0;

/// Rules of one form.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Each policy asks for a path of its own, and for a caller.
    Paths,
    /// Each policy asks for a prefix of its own, and for a caller.
    Prefixes,
    /// Each policy asks for a caller of its own: decided when the connection is made.
    Callers,
    /// Each policy asks for a header's value of its own: all have to be tried.
    Headers,
}

/// Rules bound to a connection, and paths to ask for.
struct Bench {
    bound: Bound,
    paths: Vec<String>,
    headers: HeaderMap,
}

/// Costs of one decision.
struct Row {
    shape: Shape,
    policies: usize,
    nanoseconds: f64,
    instructions: Option<f64>,
}

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    if let ["--only", shape, policies, calls] = words[..] {
        let number = |text: &str| text.parse().map_err(io::Error::other);
        let shape = Shape::ALL.into_iter().find(|other| other.name() == shape);
        let shape = shape.ok_or_else(|| io::Error::other("no such shape"))?;
        Bench::new(shape, number(policies)?).decide_all(number(calls)?);
        return Ok(());
    }
    let calls = match words.contains(&"--quick") {
        true => 100_000,
        false => 1_000_000,
    };
    let mut counters = Instructions::start();
    let mut rows = Vec::new();
    for shape in Shape::ALL {
        for policies in SIZES {
            rows.push(Row::measure(shape, policies, calls, &mut counters));
        }
    }
    print(&rows, counters.read().is_some());
    Ok(())
}

// === impl Shape ===

impl Shape {
    const ALL: [Shape; 4] = [
        Shape::Paths,
        Shape::Prefixes,
        Shape::Callers,
        Shape::Headers,
    ];

    fn name(self) -> &'static str {
        match self {
            Shape::Paths => "paths",
            Shape::Prefixes => "prefixes",
            Shape::Callers => "callers",
            Shape::Headers => "headers",
        }
    }

    /// Whether the bar applies.
    fn has_index(self) -> bool {
        self != Shape::Headers
    }

    fn policy(self, number: usize) -> Policy {
        let caller = || Rule::Authenticated(Some(exact(CALLER)));
        let (permission, principal) = match self {
            Shape::Paths => (Rule::Path(exact(&path(number))), caller()),
            Shape::Prefixes => {
                let prefix = StringMatch::Prefix(format!("{}/", path(number)));
                (Rule::Path(StringMatcher::new(prefix, false)), caller())
            }
            Shape::Callers => {
                let name = format!("spiffe://mesh.bench/ns/a/sa/{number}");
                (Rule::Any, Rule::Authenticated(Some(exact(&name))))
            }
            Shape::Headers => {
                let matcher = HeaderMatcher {
                    name: "x-tenant".to_owned(),
                    test: HeaderMatch::Value(exact(&format!("tenant-{number}"))),
                    invert: false,
                    treat_missing_as_empty: false,
                };
                (Rule::Header(matcher), caller())
            }
        };
        Policy {
            permissions: vec![permission],
            principals: vec![principal],
        }
    }
}

const CALLER: &str = "spiffe://mesh.bench/ns/a/sa/7";

fn exact(text: &str) -> StringMatcher {
    StringMatcher::new(StringMatch::Exact(text.to_owned()), false)
}

fn path(number: usize) -> String {
    format!("/mesh.bench.Service{}/Method{number}", number / 8)
}

fn peer() -> Peer {
    let identity = CertificateAuthority::new("bench").identity(CALLER);
    let mut tls = PeerTls::default();
    tls.certificate = Some(Arc::new(identity.leaf().clone()));
    Peer::new(
        Some(([10, 0, 0, 1], 4000).into()),
        Some(([10, 0, 0, 2], 443).into()),
        Some(tls),
    )
}

// === impl Bench ===

impl Bench {
    fn new(shape: Shape, policies: usize) -> Self {
        let named = |number| (format!("policy-{number:04}").into(), shape.policy(number));
        let rules = Rules {
            action: Action::Allow,
            policies: (0..policies).map(named).collect(),
            audit: AuditLoggers::default(),
        };
        let end = if shape == Shape::Prefixes { "/x" } else { "" };
        let mut paths: Vec<_> = (0..policies).map(|n| path(n) + end).collect();
        // Neighbours in time are no neighbours in the rules. Always in the same order.
        fastrand::Rng::with_seed(7).shuffle(&mut paths);
        let tenant = format!("tenant-{}", policies - 1);
        let mut headers = HeaderMap::new();
        headers.insert("x-tenant", tenant.parse().expect("it is a header's value"));
        Self {
            bound: Arc::new(Engine::compile(Semantics::Grpc, &rules)).bind(&Arc::new(peer())),
            paths,
            headers,
        }
    }

    fn decide(&mut self, call: usize) -> bool {
        let head = RequestHead {
            method: &Method::POST,
            authority: "service.bench",
            path: &self.paths[call % self.paths.len()],
            query: None,
            headers: &mut self.headers,
            peer: None,
        };
        let Decision { allowed, .. } = self.bound.decide(&head, "rbac");
        allowed
    }

    fn decide_all(&mut self, calls: usize) {
        for call in 0..calls {
            let allowed = black_box(&mut *self).decide(black_box(call));
            assert!(allowed, "a policy matches");
        }
    }
}

// === impl Row ===

impl Row {
    fn measure(shape: Shape, policies: usize, calls: usize, counters: &mut Instructions) -> Self {
        let mut bench = Bench::new(shape, policies);
        // What has to be tried one by one is measured over fewer calls.
        let calls = match shape.has_index() {
            true => calls,
            false => calls / 20,
        };
        bench.decide_all(calls / 10);
        let before = counters.read();
        bench.decide_all(calls);
        let counted = before.and_then(|before| Some(counters.read()? - before));
        Self {
            shape,
            policies,
            nanoseconds: nanoseconds((calls / 10_000).max(5), |call| bench.decide(call)),
            instructions: match counted {
                Some(counted) => Some(counted as f64 / calls as f64),
                None => by_valgrind(shape, policies).ok(),
            },
        }
    }
}

/// The difference between two runs of different length.
fn by_valgrind(shape: Shape, policies: usize) -> io::Result<f64> {
    let (few, many) = (2_000, 12_000);
    let run = |calls: usize| {
        let (policies, calls) = (policies.to_string(), calls.to_string());
        callgrind(["--only", shape.name(), policies.as_str(), calls.as_str()])
    };
    Ok((run(many)? - run(few)?) as f64 / (many - few) as f64)
}

fn print(rows: &[Row], counters: bool) {
    println!(
        "{:>10} {:>9} {:>13} {:>9}",
        "rules by", "policies", "instructions", "ns"
    );
    for row in rows {
        let instructions = row
            .instructions
            .map_or("-".to_owned(), |n| format!("{n:.0}"));
        println!(
            "{:>10} {:>9} {instructions:>13} {:>9.1}",
            row.shape.name(),
            row.policies,
            row.nanoseconds
        );
    }
    println!(
        "Instructions by {}.",
        match counters {
            true => "hardware counters",
            false => "valgrind, where it is installed: this machine has no counters",
        }
    );
    let slowest = rows
        .iter()
        .filter(|row| row.shape.has_index() && row.policies == SIZES[SIZES.len() - 1])
        .map(|row| row.nanoseconds)
        .fold(0.0, f64::max);
    let verdict = if slowest <= BAR { "met" } else { "MISSED" };
    println!("Slowest of the indexed: {slowest:.1} ns; bar {BAR:.0} ns: {verdict}.");
}
