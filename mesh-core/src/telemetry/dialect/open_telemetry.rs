use std::{env, time::Duration};

use http::StatusCode;

use super::{Dialect, Reading, host_and_port};
use crate::{
    Code, Semantics,
    telemetry::{
        Buckets, Cause, Family, HistogramSnapshot, MethodSnapshot, Series, Side, Value,
        family::{Label, Labels, label},
    },
};

/// The conventions of OpenTelemetry for HTTP (stable) and RPC (stable as of 1.45): durations of
/// requests and calls, `http.client.request.duration`, `http.server.request.duration`,
/// `rpc.client.call.duration` and `rpc.server.call.duration`.
///
/// An HTTP client's request is one attempt, an RPC client's call all of them, as the conventions
/// have it.
#[derive(Debug, Clone, Copy)]
pub struct OpenTelemetry {
    /// Also the older `rpc.client.duration` and `rpc.server.duration`.
    older_rpc: bool,
}

/// In seconds.
pub(super) const SECONDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// In milliseconds: those that SDKs have by default.
pub(super) const MILLIS: [f64; 15] = [
    0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1_000.0, 2_500.0, 5_000.0,
    7_500.0, 10_000.0,
];

const STABILITY: &str = "OTEL_SEMCONV_STABILITY_OPT_IN";

// === impl OpenTelemetry ===

impl OpenTelemetry {
    /// The stable conventions alone.
    pub fn new() -> Self {
        Self { older_rpc: false }
    }

    /// As the environment's `OTEL_SEMCONV_STABILITY_OPT_IN` says: with `rpc/dup` in its list also
    /// those for RPC from before they were stable (1.37), in milliseconds; else the stable alone, as
    /// nothing older was ever sent by default.
    pub fn from_env() -> Self {
        Self::opted(&env::var(STABILITY).unwrap_or_default())
    }

    fn opted(list: &str) -> Self {
        Self {
            older_rpc: list.split(',').any(|one| one.trim() == "rpc/dup"),
        }
    }
}

impl Default for OpenTelemetry {
    fn default() -> Self {
        Self::new()
    }
}

impl Dialect for OpenTelemetry {
    fn families(&self, reading: &Reading) -> Vec<Family> {
        let seconds = |name, help| Family::histogram(name, "s", help);
        let mut http_client = seconds(
            "http.client.request.duration",
            "From the start of an HTTP request to the end of its response.",
        );
        let mut http_server = seconds(
            "http.server.request.duration",
            "From the start of an HTTP request to the end of its response.",
        );
        let mut rpc_client = seconds(
            "rpc.client.call.duration",
            "From the start of a call to its end.",
        );
        let mut rpc_server = seconds(
            "rpc.server.call.duration",
            "From the first byte of a call to its end.",
        );
        let millis = |name| Family::histogram(name, "ms", "The older form of the call's duration.");
        let mut older_client = millis("rpc.client.duration");
        let mut older_server = millis("rpc.server.duration");
        for one in &reading.series {
            let series = &one.series;
            for method in &one.methods {
                match (series.semantics, series.side) {
                    (Semantics::Http, Side::Client) => {
                        for attempts in &method.attempts {
                            let failed = (attempts.status, attempts.cause);
                            let labels = http(series, method, failed);
                            http_client.add(labels, durations(&attempts.durations));
                        }
                    }
                    (Semantics::Http, Side::Server) => {
                        for calls in &method.calls {
                            let labels = http(series, method, (calls.status, calls.cause));
                            http_server.add(labels, durations(&calls.durations));
                        }
                    }
                    (Semantics::Grpc, side) => {
                        let (now, older) = match side {
                            Side::Client => (&mut rpc_client, &mut older_client),
                            Side::Server => (&mut rpc_server, &mut older_server),
                        };
                        for calls in &method.calls {
                            let labels = rpc(series, method, calls.code);
                            now.add(labels, durations(&calls.durations));
                            if self.older_rpc {
                                let millis = Buckets::of_durations(
                                    &calls.durations,
                                    &MILLIS,
                                    Duration::from_millis(1),
                                );
                                let labels = older_rpc(series, method, calls.code);
                                older.add(labels, Value::Buckets(millis));
                            }
                        }
                    }
                }
            }
        }
        vec![
            http_client,
            http_server,
            rpc_client,
            rpc_server,
            older_client,
            older_server,
        ]
    }
}

fn durations(durations: &HistogramSnapshot) -> Value {
    let second = Duration::from_secs(1);
    Value::Buckets(Buckets::of_durations(durations, &SECONDS, second))
}

fn http(
    series: &Series,
    method: &MethodSnapshot,
    (status, cause): (Option<StatusCode>, Cause),
) -> Labels {
    let name = method.method.as_ref().map_or("_OTHER".into(), label);
    let mut labels = vec![("http.request.method", name)];
    if let Some(status) = status {
        labels.push(("http.response.status_code", code_of(status)));
    }
    let is_error = |status: StatusCode| match series.side {
        Side::Client => status.is_client_error() || status.is_server_error(),
        Side::Server => status.is_server_error(),
    };
    match status {
        Some(status) if is_error(status) => labels.push(("error.type", code_of(status))),
        Some(_) => {}
        None => labels.push(("error.type", cause.name().into())),
    }
    match series.side {
        Side::Client => server(series, &mut labels),
        Side::Server if !series.route.is_empty() => {
            labels.push(("http.route", label(&series.route)));
        }
        Side::Server => {}
    }
    labels
}

fn rpc(series: &Series, method: &MethodSnapshot, code: Code) -> Labels {
    let name = method.method.as_ref().map_or("_OTHER".into(), label);
    let mut labels = vec![
        ("rpc.system.name", "grpc".into()),
        ("rpc.method", name),
        ("rpc.response.status_code", code.name().into()),
    ];
    if is_error(series.side, code) {
        labels.push(("error.type", code.name().into()));
    }
    if series.side == Side::Client {
        server(series, &mut labels);
    }
    labels
}

/// Which codes are errors, to each side.
fn is_error(side: Side, code: Code) -> bool {
    match side {
        Side::Client => code != Code::Ok,
        Side::Server => matches!(
            code,
            Code::Unknown
                | Code::DeadlineExceeded
                | Code::Unimplemented
                | Code::Internal
                | Code::Unavailable
                | Code::DataLoss
        ),
    }
}

fn older_rpc(series: &Series, method: &MethodSnapshot, code: Code) -> Labels {
    let mut labels = vec![("rpc.system", "grpc".into())];
    if let Some((service, name)) = method.method.as_ref().and_then(|name| name.split_once('/')) {
        labels.push(("rpc.service", service.to_owned().into()));
        labels.push(("rpc.method", name.to_owned().into()));
    }
    labels.push(("rpc.grpc.status_code", (code as u8).to_string().into()));
    if series.side == Side::Client {
        server(series, &mut labels);
    }
    labels
}

fn server(series: &Series, labels: &mut Labels) {
    let (host, port) = host_and_port(&series.target);
    labels.push(("server.address", host.to_owned().into()));
    if let Some(port) = port {
        labels.push(("server.port", port.to_owned().into()));
    }
}

fn code_of(status: StatusCode) -> Label {
    status.as_u16().to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_form_is_asked_for() {
        assert!(!OpenTelemetry::opted("").older_rpc);
        assert!(!OpenTelemetry::opted("http,rpc").older_rpc);
        assert!(OpenTelemetry::opted("http, rpc/dup").older_rpc);
    }
}
