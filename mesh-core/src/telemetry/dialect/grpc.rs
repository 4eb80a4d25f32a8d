use std::time::Duration;

use super::{Dialect, Reading};
use crate::{
    Code, Semantics,
    telemetry::{
        AttemptsSnapshot, Buckets, Family, MethodSnapshot, SeriesSnapshot, Side, SizesSnapshot,
        Value,
        family::{Labels, label},
    },
};

/// gRPC's own metrics of calls and attempts (gRFC A66), with the labels `grpc.lb.locality` and
/// `grpc.lb.backend_service` (gRFCs A78, A89) and the counts of retries (gRFC A96).
///
/// Calls that no generated code made or serves are of method `other`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Grpc;

/// In seconds.
pub(super) const LATENCIES: [f64; 41] = [
    0.0, 0.000_01, 0.000_05, 0.000_1, 0.000_3, 0.000_6, 0.000_8, 0.001, 0.002, 0.003, 0.004, 0.005,
    0.006, 0.008, 0.01, 0.013, 0.016, 0.02, 0.025, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.16,
    0.2, 0.25, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0,
];

/// In bytes.
pub(super) const SIZES: [f64; 14] = [
    0.0,
    1_024.0,
    2_048.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
    4_294_967_296.0,
];

const RETRIES: [f64; 5] = [1.0, 2.0, 3.0, 4.0, 5.0];
const TRANSPARENT_RETRIES: [f64; 6] = [1.0, 2.0, 3.0, 4.0, 5.0, 10.0];

impl Dialect for Grpc {
    fn families(&self, reading: &Reading) -> Vec<Family> {
        let mut families = Families::new();
        for series in &reading.series {
            if series.series.semantics != Semantics::Grpc {
                continue;
            }
            for method in &series.methods {
                match series.series.side {
                    Side::Client => families.client(series, method),
                    Side::Server => families.server(method),
                }
            }
        }
        families.into()
    }
}

struct Families {
    attempts_started: Family,
    attempt_durations: Family,
    attempt_sent: Family,
    attempt_received: Family,
    call_durations: Family,
    retries: Family,
    transparent_retries: Family,
    server_started: Family,
    server_sent: Family,
    server_received: Family,
    server_durations: Family,
}

impl Families {
    fn new() -> Self {
        Self {
            attempts_started: Family::counter(
                "grpc.client.attempt.started",
                "{attempt}",
                "RPC attempts that began, those under way included.",
            ),
            attempt_durations: Family::histogram(
                "grpc.client.attempt.duration",
                "s",
                "From the start of an attempt to its end.",
            ),
            attempt_sent: Family::histogram(
                "grpc.client.attempt.sent_total_compressed_message_size",
                "By",
                "What an attempt sent of messages, without framing.",
            ),
            attempt_received: Family::histogram(
                "grpc.client.attempt.rcvd_total_compressed_message_size",
                "By",
                "What an attempt received of messages, without framing.",
            ),
            call_durations: Family::histogram(
                "grpc.client.call.duration",
                "s",
                "From the start of a call to its end, as the application sees it.",
            ),
            retries: Family::histogram(
                "grpc.client.call.retries",
                "{retry}",
                "Retries that a policy made of a call, if there were any.",
            ),
            transparent_retries: Family::histogram(
                "grpc.client.call.transparent_retries",
                "{transparent_retry}",
                "Retries of a call that no server had seen, if there were any.",
            ),
            server_started: Family::counter(
                "grpc.server.call.started",
                "{call}",
                "Calls that began, those under way included.",
            ),
            server_sent: Family::histogram(
                "grpc.server.call.sent_total_compressed_message_size",
                "By",
                "What a call sent of messages, without framing.",
            ),
            server_received: Family::histogram(
                "grpc.server.call.rcvd_total_compressed_message_size",
                "By",
                "What a call received of messages, without framing.",
            ),
            server_durations: Family::histogram(
                "grpc.server.call.duration",
                "s",
                "From the first byte of a call to its end.",
            ),
        }
    }

    fn client(&mut self, series: &SeriesSnapshot, method: &MethodSnapshot) {
        let mut of_method = named(method);
        of_method.push((
            "grpc.target",
            format!("xds:///{}", series.series.target).into(),
        ));
        self.attempts_started
            .count(&of_method, method.attempts_started);
        for attempts in &method.attempts {
            let labels = of_attempt(&of_method, series, attempts);
            let seconds = durations(&attempts.durations);
            self.attempt_durations.add(labels.clone(), seconds);
            self.attempt_sent.add(labels.clone(), sizes(&attempts.sent));
            self.attempt_received.add(labels, sizes(&attempts.received));
        }
        for calls in &method.calls {
            let labels = with_status(&of_method, calls.code);
            self.call_durations.add(labels, durations(&calls.durations));
        }
        for (family, counts, bounds) in [
            (&mut self.retries, &method.retries, &RETRIES[..]),
            (
                &mut self.transparent_retries,
                &method.transparent_retries,
                &TRANSPARENT_RETRIES,
            ),
        ] {
            if counts.iter().any(|&count| count > 0) {
                let buckets = Buckets::of_counts(counts, bounds);
                family.add(of_method.clone(), Value::Buckets(buckets));
            }
        }
    }

    fn server(&mut self, method: &MethodSnapshot) {
        let of_method = named(method);
        self.server_started.count(&of_method, method.started);
        for calls in &method.calls {
            let labels = with_status(&of_method, calls.code);
            let seconds = durations(&calls.durations);
            self.server_durations.add(labels.clone(), seconds);
            self.server_sent.add(labels.clone(), sizes(&calls.sent));
            self.server_received.add(labels, sizes(&calls.received));
        }
    }
}

impl From<Families> for Vec<Family> {
    fn from(all: Families) -> Self {
        vec![
            all.attempts_started,
            all.attempt_durations,
            all.attempt_sent,
            all.attempt_received,
            all.call_durations,
            all.retries,
            all.transparent_retries,
            all.server_started,
            all.server_sent,
            all.server_received,
            all.server_durations,
        ]
    }
}

fn named(method: &MethodSnapshot) -> Labels {
    let name = method.method.as_ref().map_or("other".into(), label);
    vec![("grpc.method", name)]
}

fn with_status(labels: &Labels, code: Code) -> Labels {
    let mut labels = labels.clone();
    labels.push(("grpc.status", code.name().into()));
    labels
}

fn of_attempt(of_method: &Labels, series: &SeriesSnapshot, attempts: &AttemptsSnapshot) -> Labels {
    let mut labels = with_status(of_method, attempts.code);
    let locality = attempts.locality.as_deref();
    let locality = locality.map(ToString::to_string).unwrap_or_default();
    labels.push(("grpc.lb.locality", locality.into()));
    labels.push(("grpc.lb.backend_service", label(&series.series.cluster)));
    labels
}

fn durations(durations: &crate::telemetry::HistogramSnapshot) -> Value {
    let second = Duration::from_secs(1);
    Value::Buckets(Buckets::of_durations(durations, &LATENCIES, second))
}

fn sizes(sizes: &SizesSnapshot) -> Value {
    Value::Buckets(Buckets::of_sizes(sizes, &SIZES))
}
