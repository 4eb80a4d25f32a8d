use std::{collections::BTreeMap, time::Duration};

use http::StatusCode;

use super::*;
use crate::{
    Code, Semantics,
    config::Service,
    telemetry::{
        Amount, Attempt, CallRecord, Cause, Histogram, Metrics, Recorder as _, Security, Series,
        Sizes,
    },
};

const HELLO: &str = "hello.Greeter/SayHello";

fn own() -> Arc<Workload> {
    Arc::new(Workload::new([
        "web-v1", "shop", "web", "v1", "east", "", "",
    ]))
}

fn greeter() -> Arc<Workload> {
    let parts = ["greeter-v2", "shop", "greeter", "v2", "east", "", ""];
    Arc::new(Workload::new(parts))
}

fn reading(metrics: &Metrics) -> Reading {
    Reading::new(metrics.snapshot(), own())
}

fn family(dialect: &dyn Dialect, metrics: &Metrics, name: &str) -> Family {
    let families = dialect.families(&reading(metrics));
    let found = families.into_iter().find(|family| family.name == name);
    found.unwrap_or_else(|| panic!("there is no {name}"))
}

fn one(
    dialect: &dyn Dialect,
    metrics: &Metrics,
    name: &str,
) -> (BTreeMap<&'static str, String>, f64) {
    let family = family(dialect, metrics, name);
    let points: Vec<_> = family.points().collect();
    let [(labels, _)] = &points[..] else {
        panic!("{name} has {} points", points.len());
    };
    let labels = labels
        .iter()
        .map(|(name, value)| (*name, value.to_string()));
    (labels.collect(), family.sum_of(&[]))
}

/// A client's gRPC call of two attempts, the second of which is answered by greeter v2.
fn call(metrics: &Metrics) {
    let service = Service::new("greeter.shop.svc.cluster.local", "greeter", "shop");
    let series = Series::client("greeter.shop:8080", "r", "c|v2", Semantics::Grpc);
    let instruments = metrics.bind(&series.of(Some(Arc::new(service))));
    let method = instruments.method(HELLO).unwrap();
    method.started();
    method.attempt_started();
    let short = Duration::from_millis(1);
    method.attempt(&Attempt::new(Code::Unavailable, Cause::Reset, short));
    method.attempt_started();
    let mut attempt = Attempt::new(Code::Ok, Cause::Response, short);
    attempt.sent.bytes = 5_000;
    attempt.status = Some(StatusCode::OK);
    method.attempt(&attempt);
    let peer = greeter();
    let mut call = CallRecord::new(Code::Ok, Cause::Response, Duration::from_millis(3));
    call.status = Some(StatusCode::OK);
    call.retries = 1;
    call.peer = Some(&peer);
    (call.sent, call.received) = (
        Amount {
            bytes: 5_000,
            messages: 2,
        },
        Amount {
            bytes: 9,
            messages: 1,
        },
    );
    method.finished(&call);
}

#[test]
fn every_bound_of_a_dialect_is_exact() {
    let bounds = [
        (&istio::BOUNDS[..], Duration::from_millis(1)),
        (&grpc::LATENCIES, Duration::from_secs(1)),
        (&open_telemetry::SECONDS, Duration::from_secs(1)),
        (&open_telemetry::MILLIS, Duration::from_millis(1)),
    ];
    for (bounds, unit) in bounds {
        for &bound in bounds.iter().filter(|&&bound| bound > 0.0) {
            let at = unit.mul_f64(bound);
            let histogram = Histogram::default();
            histogram.record(at);
            histogram.record(at + Duration::from_micros(1));
            let told = histogram.snapshot().at_most(at);
            // The last bound of all has nothing above it.
            assert_eq!(told, 1, "{bound} of {unit:?}");
        }
    }
    for &bound in istio::BOUNDS[1..].iter().chain(&grpc::SIZES) {
        let sizes = Sizes::default();
        sizes.record(bound as u64);
        sizes.record(bound as u64 + 1);
        assert_eq!(sizes.snapshot().at_most(bound as u64), 1, "{bound} B");
    }
}

#[test]
fn istios_labels_of_a_client() {
    let metrics = Metrics::new();
    call(&metrics);
    let (labels, requests) = one(&Istio, &metrics, "istio_requests_total");
    assert_eq!(requests, 1.0);
    let expected = [
        ("reporter", "source"),
        ("source_workload", "web-v1"),
        ("source_canonical_service", "web"),
        ("source_canonical_revision", "v1"),
        ("source_workload_namespace", "shop"),
        ("source_principal", "unknown"),
        ("source_app", "web"),
        ("source_version", "v1"),
        ("source_cluster", "east"),
        ("destination_workload", "greeter-v2"),
        ("destination_workload_namespace", "shop"),
        ("destination_principal", "unknown"),
        ("destination_app", "greeter"),
        ("destination_version", "v2"),
        ("destination_service", "greeter.shop.svc.cluster.local"),
        ("destination_canonical_service", "greeter"),
        ("destination_canonical_revision", "v2"),
        ("destination_service_name", "greeter"),
        ("destination_service_namespace", "shop"),
        ("destination_cluster", "east"),
        ("request_protocol", "grpc"),
        ("response_code", "200"),
        ("grpc_response_status", "0"),
        ("response_flags", "-"),
        ("connection_security_policy", "unknown"),
    ];
    let expected = expected.map(|(name, value)| (name, value.to_owned()));
    assert_eq!(labels, BTreeMap::from(expected));
    let sum = |name| one(&Istio, &metrics, name).1;
    assert_eq!(sum("istio_request_messages_total"), 2.0);
    assert_eq!(sum("istio_response_messages_total"), 1.0);
    assert_eq!(sum("istio_request_bytes"), 1.0);
}

#[test]
fn istios_labels_of_a_server_and_of_failures() {
    let metrics = Metrics::new();
    let instruments = metrics.bind(&Series::server("in", "r", Semantics::Http));
    let peer = Arc::new(Workload::new([""; 7]).with_principal("spiffe://td/ns/a/sa/b"));
    let mut call = CallRecord::new(Code::PermissionDenied, Cause::Denied, Duration::ZERO);
    call.status = Some(StatusCode::FORBIDDEN);
    call.peer = Some(&peer);
    call.security = Security::MutualTls;
    instruments.finished(&call);
    let (labels, _) = one(&Istio, &metrics, "istio_requests_total");
    for (name, value) in [
        ("reporter", "destination"),
        ("source_principal", "spiffe://td/ns/a/sa/b"),
        ("source_workload", "unknown"),
        ("destination_workload", "web-v1"),
        ("destination_service", "web.shop.svc.cluster.local"),
        ("destination_service_name", "web"),
        ("request_protocol", "http"),
        ("response_code", "403"),
        ("grpc_response_status", ""),
        ("connection_security_policy", "mutual_tls"),
    ] {
        assert_eq!(labels[name], value, "{name}");
    }

    let metrics = Metrics::new();
    let instruments = metrics.bind(&Series::client("cart.shop:80", "", "", Semantics::Grpc));
    let mut call = CallRecord::new(Code::Unavailable, Cause::ConnectFailed, Duration::ZERO);
    call.flags[1] = Some("URX");
    instruments.finished(&call);
    let (labels, _) = one(&Istio, &metrics, "istio_requests_total");
    for (name, value) in [
        ("destination_service", "cart.shop"),
        ("destination_service_name", "cart"),
        ("destination_service_namespace", "shop"),
        ("destination_workload", "unknown"),
        ("response_code", "200"),
        ("grpc_response_status", "14"),
        ("response_flags", "UF,URX"),
    ] {
        assert_eq!(labels[name], value, "{name}");
    }
}

#[test]
fn grpcs_attempts_and_calls() {
    let metrics = Metrics::new();
    call(&metrics);
    let target = ("grpc.target", "xds:///greeter.shop:8080");
    let method = ("grpc.method", HELLO);
    let of = |name, labels: &[(&str, &str)]| family(&Grpc, &metrics, name).sum_of(labels);
    assert_eq!(of("grpc.client.attempt.started", &[target, method]), 2.0);
    let ok = ("grpc.status", "OK");
    let failed = ("grpc.status", "UNAVAILABLE");
    let service = ("grpc.lb.backend_service", "c|v2");
    assert_eq!(
        of(
            "grpc.client.attempt.duration",
            &[target, method, ok, service]
        ),
        1.0
    );
    assert_eq!(of("grpc.client.attempt.duration", &[failed]), 1.0);
    assert_eq!(of("grpc.client.call.duration", &[target, method, ok]), 1.0);
    assert_eq!(of("grpc.client.call.duration", &[]), 1.0);
    assert_eq!(of("grpc.client.call.retries", &[method]), 1.0);
    assert_eq!(of("grpc.client.call.transparent_retries", &[]), 0.0);
}

#[test]
fn open_telemetrys_calls_and_requests() {
    let metrics = Metrics::new();
    call(&metrics);
    let dialect = OpenTelemetry::new();
    let (labels, _) = one(&dialect, &metrics, "rpc.client.call.duration");
    let expected = [
        ("rpc.system.name", "grpc"),
        ("rpc.method", HELLO),
        ("rpc.response.status_code", "OK"),
        ("server.address", "greeter.shop"),
        ("server.port", "8080"),
    ];
    let expected = expected.map(|(name, value)| (name, value.to_owned()));
    assert_eq!(labels, BTreeMap::from(expected));

    let metrics = Metrics::new();
    let instruments = metrics.bind(&Series::server("in", "items", Semantics::Http));
    let mut call = CallRecord::new(Code::Unavailable, Cause::Response, Duration::ZERO);
    call.status = Some(StatusCode::BAD_GATEWAY);
    instruments.method("GET").unwrap().finished(&call);
    let (labels, _) = one(&dialect, &metrics, "http.server.request.duration");
    let expected = [
        ("http.request.method", "GET"),
        ("http.response.status_code", "502"),
        ("error.type", "502"),
        ("http.route", "items"),
    ];
    let expected = expected.map(|(name, value)| (name, value.to_owned()));
    assert_eq!(labels, BTreeMap::from(expected));
}
