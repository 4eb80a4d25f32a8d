use std::{borrow::Cow, time::Duration};

use super::{Dialect, Reading, host_and_port};
use crate::{
    Semantics,
    config::Workload,
    telemetry::{
        Buckets, CallsSnapshot, Cause, Family, Series, Side, Value,
        family::{Label, Labels, label},
    },
};

/// Istio's standard metrics, with the labels of Istio 1.2x: `istio_requests_total`,
/// `istio_request_duration_milliseconds`, `istio_request_bytes`, `istio_response_bytes`,
/// `istio_request_messages_total` and `istio_response_messages_total`.
///
/// A client reports as `source`, a server as `destination`. What is not known is `unknown`: the
/// peer of a client is what the control plane says of the endpoint, that of a server what the
/// request's `x-envoy-peer-metadata` or `baggage` says, else what its certificate does. As in
/// Istio, `connection_security_policy` is told by the destination alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Istio;

/// Those of Envoy's histograms, whatever their unit.
pub(super) const BOUNDS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

const UNKNOWN: Label = Cow::Borrowed("unknown");

impl Dialect for Istio {
    fn families(&self, reading: &Reading) -> Vec<Family> {
        let mut requests = Family::counter("istio_requests_total", "", "Requests that ended.");
        let mut durations = Family::histogram(
            "istio_request_duration_milliseconds",
            "",
            "From the start of a request to the end of its response.",
        );
        let mut request_bytes =
            Family::histogram("istio_request_bytes", "", "Sizes of request bodies.");
        let mut response_bytes =
            Family::histogram("istio_response_bytes", "", "Sizes of response bodies.");
        let mut request_messages = Family::counter(
            "istio_request_messages_total",
            "",
            "gRPC messages that clients sent.",
        );
        let mut response_messages = Family::counter(
            "istio_response_messages_total",
            "",
            "gRPC messages that servers sent.",
        );
        for series in &reading.series {
            for call in series.methods.iter().flat_map(|method| &method.calls) {
                let side = series.series.side;
                let labels = labels(reading, &series.series, call);
                requests.count(&labels, call.durations.count());
                let millis =
                    Buckets::of_durations(&call.durations, &BOUNDS, Duration::from_millis(1));
                durations.add(labels.clone(), Value::Buckets(millis));
                let (request, response) = match side {
                    Side::Client => (&call.sent, &call.received),
                    Side::Server => (&call.received, &call.sent),
                };
                let sizes = |sizes| Value::Buckets(Buckets::of_sizes(sizes, &BOUNDS));
                request_bytes.add(labels.clone(), sizes(request));
                response_bytes.add(labels.clone(), sizes(response));
                let (request, response) = match side {
                    Side::Client => (call.sent_messages, call.received_messages),
                    Side::Server => (call.received_messages, call.sent_messages),
                };
                request_messages.count(&labels, request);
                response_messages.count(&labels, response);
            }
        }
        vec![
            requests,
            durations,
            request_bytes,
            response_bytes,
            request_messages,
            response_messages,
        ]
    }
}

fn labels(reading: &Reading, series: &Series, call: &CallsSnapshot) -> Labels {
    let own = Some(&*reading.workload);
    let peer = call.peer.as_deref();
    let (reporter, source, destination) = match series.side {
        Side::Client => ("source", own, peer),
        Side::Server => ("destination", peer, own),
    };
    let part = |of: Option<&Workload>, part: fn(&Workload) -> &std::sync::Arc<str>| {
        of.map(part)
            .filter(|text| !text.is_empty())
            .map_or(UNKNOWN, label)
    };
    let (service, name, namespace) = service(reading, series, destination);
    let is_grpc = series.semantics == Semantics::Grpc;
    let flags = call.flags.iter().flatten().copied().collect::<Vec<_>>();
    vec![
        ("reporter", reporter.into()),
        ("source_workload", part(source, Workload::name)),
        (
            "source_canonical_service",
            part(source, Workload::canonical_service),
        ),
        (
            "source_canonical_revision",
            part(source, Workload::canonical_revision),
        ),
        (
            "source_workload_namespace",
            part(source, Workload::namespace),
        ),
        ("source_principal", part(source, Workload::principal)),
        ("source_app", part(source, Workload::app)),
        ("source_version", part(source, Workload::version)),
        ("source_cluster", part(source, Workload::cluster)),
        ("destination_workload", part(destination, Workload::name)),
        (
            "destination_workload_namespace",
            part(destination, Workload::namespace),
        ),
        (
            "destination_principal",
            part(destination, Workload::principal),
        ),
        ("destination_app", part(destination, Workload::app)),
        ("destination_version", part(destination, Workload::version)),
        ("destination_service", service),
        (
            "destination_canonical_service",
            part(destination, Workload::canonical_service),
        ),
        (
            "destination_canonical_revision",
            part(destination, Workload::canonical_revision),
        ),
        ("destination_service_name", name),
        ("destination_service_namespace", namespace),
        ("destination_cluster", part(destination, Workload::cluster)),
        (
            "request_protocol",
            if is_grpc { "grpc" } else { "http" }.into(),
        ),
        ("response_code", status(series.semantics, call)),
        (
            "grpc_response_status",
            match is_grpc {
                true => (call.code as u8).to_string().into(),
                false => "".into(),
            },
        ),
        (
            "response_flags",
            match flags.is_empty() {
                true => "-".into(),
                false => flags.join(",").into(),
            },
        ),
        ("connection_security_policy", call.security.name().into()),
    ]
}

/// What Envoy would say: a gRPC failure without a response is one of status 200 to it, and a request
/// that its client gave up has none.
fn status(semantics: Semantics, call: &CallsSnapshot) -> Label {
    match (call.status, call.cause, semantics) {
        (Some(status), _, _) => status.as_u16().to_string().into(),
        (None, Cause::Cancelled, _) => "0".into(),
        (None, _, Semantics::Grpc) => "200".into(),
        (None, _, Semantics::Http) => "503".into(),
    }
}

/// The host, name and namespace of the service that was called: what the control plane says of the
/// cluster, else for a client by its target, for a server by what it is.
fn service(
    reading: &Reading,
    series: &Series,
    destination: Option<&Workload>,
) -> (Label, Label, Label) {
    let known = |text: &str| match text {
        "" => UNKNOWN,
        text => Cow::Owned(text.to_owned()),
    };
    if let Some(service) = &series.service {
        return (
            known(&service.host),
            known(&service.name),
            known(&service.namespace),
        );
    }
    if series.side == Side::Server {
        let own = &reading.workload;
        let (name, namespace) = (known(own.canonical_service()), known(own.namespace()));
        let host = match own.canonical_service().is_empty() || own.namespace().is_empty() {
            true => UNKNOWN,
            false => format!("{name}.{namespace}.svc.cluster.local").into(),
        };
        return (host, name, namespace);
    }
    let (host, _) = host_and_port(&series.target);
    let mut labels = host.split('.');
    let name = known(labels.next().unwrap_or_default());
    let namespace = match destination.map(|workload| &**workload.namespace()) {
        Some(namespace) if !namespace.is_empty() => known(namespace),
        _ => known(labels.next().unwrap_or_default()),
    };
    (known(host), name, namespace)
}
