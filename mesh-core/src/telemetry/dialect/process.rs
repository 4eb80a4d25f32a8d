use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use super::{Dialect, Reading};
use crate::{
    Semantics,
    config::Kind,
    control::xds::{ResourceDump, ResourceStatus},
    telemetry::{
        Family, Side, Value,
        family::{Labels, label},
    },
};

/// How the process does as a part of the mesh, which no other dialect tells: its certificates,
/// configuration, clusters and connections. All names begin with `mesh.`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Process;

impl Dialect for Process {
    fn families(&self, reading: &Reading) -> Vec<Family> {
        let mut families = certificates(reading);
        families.extend(resources(reading));
        families.extend(clusters(reading));
        families.extend(calls(reading));
        families
    }
}

fn certificates(reading: &Reading) -> Vec<Family> {
    let mut expiry = Family::gauge(
        "mesh.certificate.expiry",
        "s",
        "How long the certificate in use is still valid; below zero once it has expired.",
    );
    let mut trouble = Family::gauge(
        "mesh.certificate.trouble",
        "",
        "1 where there is no certificate, or no newer one although it is time.",
    );
    for certificate in &reading.certificates {
        let labels: Labels = vec![
            ("instance", label(&certificate.instance)),
            ("name", label(&certificate.name)),
        ];
        if let Some(leaf) = &certificate.leaf {
            let left = seconds_between(reading.at, leaf.not_after);
            expiry.add(labels.clone(), Value::Level(left));
        }
        trouble.add(labels, flag(certificate.trouble.is_some()));
    }
    vec![expiry, trouble]
}

fn resources(reading: &Reading) -> Vec<Family> {
    let mut resources = Family::gauge(
        "mesh.config.resources",
        "",
        "Resources that are watched, by type and by what became of the last news of them.",
    );
    let mut stale = Family::gauge(
        "mesh.config.stale_resources",
        "",
        "Resources in force that an earlier process has saved and no control plane has sent yet.",
    );
    let mut age = Family::gauge(
        "mesh.config.age",
        "s",
        "How long ago the newest of the resources in force came.",
    );
    let mut newest = BTreeMap::<Kind, SystemTime>::new();
    let mut counts = BTreeMap::<(Kind, &str), f64>::new();
    let mut old = BTreeMap::<Kind, f64>::new();
    for resource in &reading.resources {
        let kind = resource.id.kind;
        *counts.entry((kind, state(resource))).or_default() += 1.0;
        if let Some(accepted) = &resource.accepted {
            let latest = newest.entry(kind).or_insert(accepted.last_updated);
            *latest = accepted.last_updated.max(*latest);
            *old.entry(kind).or_default() += f64::from(u8::from(accepted.stale));
        }
    }
    let of = |kind: Kind| ("type", type_of(kind).into());
    for ((kind, state), count) in counts {
        let labels = vec![of(kind), ("state", state.into())];
        resources.add(labels, Value::Level(count));
    }
    for (kind, count) in old {
        stale.add(vec![of(kind)], Value::Level(count));
    }
    for (kind, latest) in newest {
        let ago = seconds_between(latest, reading.at).max(0.0);
        age.add(vec![of(kind)], Value::Level(ago));
    }
    vec![resources, stale, age]
}

fn clusters(reading: &Reading) -> Vec<Family> {
    let mut ready = Family::gauge(
        "mesh.target.ready",
        "",
        "1 where a target has a configuration, or a server serves.",
    );
    let mut in_flight = Family::gauge(
        "mesh.cluster.requests",
        "",
        "Attempts that are in flight to a cluster.",
    );
    let mut max = Family::gauge(
        "mesh.cluster.max_requests",
        "",
        "As many as its circuit breaker lets be in flight.",
    );
    let mut retries = Family::gauge(
        "mesh.cluster.retries",
        "",
        "Retries that are under way to a cluster, under HTTP semantics.",
    );
    let mut max_retries = Family::gauge(
        "mesh.cluster.max_retries",
        "",
        "As many as its circuit breaker lets be under way.",
    );
    let mut open = Family::gauge(
        "mesh.cluster.breaker_open",
        "",
        "1 while a cluster's circuit breaker lets no more requests pass.",
    );
    let mut endpoints = Family::gauge(
        "mesh.cluster.endpoints",
        "",
        "Endpoints of a cluster by the state of their connections.",
    );
    for target in &reading.targets {
        let labels = vec![
            ("target", label(&target.spec.listener)),
            ("semantics", name_of(target.spec.semantics).into()),
        ];
        ready.add(labels, flag(target.ready));
        for cluster in &target.clusters {
            let of = vec![("cluster", label(&cluster.cluster))];
            // It is one for all targets and both semantics: gauges take the value.
            let level = |count: u32| Value::Level(f64::from(count));
            in_flight.add(of.clone(), level(cluster.in_flight));
            max.add(of.clone(), level(cluster.max_requests));
            retries.add(of.clone(), level(cluster.retries));
            max_retries.add(of.clone(), level(cluster.max_retries));
            open.add(of.clone(), flag(cluster.in_flight >= cluster.max_requests));
            let states = ["idle", "connecting", "ready", "failing"];
            for (state, count) in states.into_iter().zip(cluster.endpoints) {
                let mut labels = of.clone();
                labels.push(("semantics", name_of(cluster.semantics).into()));
                labels.push(("state", state.into()));
                endpoints.add(labels, level(count));
            }
        }
    }
    let mut connections = Family::gauge(
        "mesh.server.connections",
        "",
        "Connections that servers of the process have open.",
    );
    let open_now = reading.connections as f64;
    connections.add(Labels::new(), Value::Level(open_now));
    vec![
        ready,
        in_flight,
        max,
        retries,
        max_retries,
        open,
        endpoints,
        connections,
    ]
}

fn calls(reading: &Reading) -> Vec<Family> {
    let mut calls = Family::gauge("mesh.calls", "", "Calls that are under way.");
    let mut under_way = BTreeMap::<Labels, f64>::new();
    for one in &reading.series {
        let side = match one.series.side {
            Side::Client => "client",
            Side::Server => "server",
        };
        let labels = vec![
            ("side", side.into()),
            ("target", label(&one.series.target)),
            ("semantics", name_of(one.series.semantics).into()),
        ];
        *under_way.entry(labels).or_default() += one.counts().in_flight() as f64;
    }
    for (labels, count) in under_way {
        calls.add(labels, Value::Level(count));
    }
    vec![calls]
}

/// As gRPC's metrics call them (gRFC A78), and what they have no word for.
fn state(resource: &ResourceDump) -> &'static str {
    match (resource.status, &resource.accepted) {
        (ResourceStatus::Requested, _) => "requested",
        (ResourceStatus::DoesNotExist, _) => "does_not_exist",
        (ResourceStatus::Acked, _) => "acked",
        (ResourceStatus::Nacked, None) => "nacked",
        (ResourceStatus::Nacked, Some(_)) => "nacked_but_cached",
        (ResourceStatus::ReceivedError, _) => "received_error",
        (ResourceStatus::Timeout, _) => "timeout",
    }
}

fn type_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Listener => "listener",
        Kind::Route => "route",
        Kind::Cluster => "cluster",
        Kind::Endpoints => "endpoints",
        Kind::Secret => "secret",
    }
}

fn name_of(semantics: Semantics) -> &'static str {
    match semantics {
        Semantics::Grpc => "grpc",
        Semantics::Http => "http",
    }
}

fn flag(set: bool) -> Value {
    Value::Level(f64::from(u8::from(set)))
}

/// From one moment to another, which may be earlier.
fn seconds_between(from: SystemTime, to: SystemTime) -> f64 {
    match to.duration_since(from) {
        Ok(after) => after.as_secs_f64(),
        Err(before) => -Duration::as_secs_f64(&before.duration()),
    }
}
