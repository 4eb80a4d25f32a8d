use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use prost::Message;

use super::{BINARY, OrcaLoadReport, read::BASE64};
use base64::Engine;

/// What a service says of its load with one response (gRFC A51, per call). Cheap to clone.
///
/// A gRPC service that is wrapped in `mesh_tonic::ReportLoad` finds one in the extensions of every
/// request, and what was recorded by the end of the response is in its trailers. One of plain HTTP
/// [writes](Self::write) it into the headers of its response. Clients may tell their control plane
/// of it, or balance by it; they are sent it whether they want it or not.
///
/// Recording a metric again replaces what was recorded of it. Values that are no finite numbers, below
/// 0, or, for a part of a whole, above 1, are not recorded.
#[derive(Debug, Clone, Default)]
pub struct CallLoad(Arc<Mutex<OrcaLoadReport>>);

impl CallLoad {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How much of its CPUs the server uses. 1: all of what it may; more if it exceeds that.
    pub fn cpu_utilization(&self, used: f64) {
        self.record(used, |report| report.cpu_utilization = used);
    }

    /// How much of its memory the server uses, from 0 to 1.
    pub fn mem_utilization(&self, used: f64) {
        if used <= 1.0 {
            self.record(used, |report| report.mem_utilization = used);
        }
    }

    /// How much of what it can do the server does, by its own measure. 1: all; more if it is
    /// overloaded.
    pub fn application_utilization(&self, used: f64) {
        self.record(used, |report| report.application_utilization = used);
    }

    /// Requests per second that the server serves.
    pub fn requests_per_second(&self, rate: f64) {
        self.record(rate, |report| report.rps_fractional = rate);
    }

    /// Errors per second that the server answers with.
    pub fn errors_per_second(&self, rate: f64) {
        self.record(rate, |report| report.eps = rate);
    }

    /// How much of a resource of this name the server uses, from 0 to 1.
    pub fn utilization(&self, name: impl Into<String>, used: f64) {
        if used <= 1.0 {
            self.record(used, |report| {
                report.utilization.insert(name.into(), used);
            });
        }
    }

    /// What the request has cost of a resource of this name.
    pub fn request_cost(&self, name: impl Into<String>, cost: f64) {
        self.record(cost, |report| {
            report.request_cost.insert(name.into(), cost);
        });
    }

    /// A metric of the service's own.
    pub fn named_metric(&self, name: impl Into<String>, value: f64) {
        self.record(value, |report| {
            report.named_metrics.insert(name.into(), value);
        });
    }

    /// Writes what was recorded, if anything was, as `endpoint-load-metrics-bin` into the trailers of
    /// a response, or its headers. One that is there already stays.
    pub fn write(&self, to: &mut HeaderMap) {
        let report = self.0.lock();
        if *report == OrcaLoadReport::default() || to.contains_key(&BINARY) {
            return;
        }
        let text = BASE64.encode(report.encode_to_vec());
        // Base64 is legal in a header.
        if let Ok(value) = HeaderValue::try_from(text) {
            to.insert(&BINARY, value);
        }
    }

    fn record(&self, value: f64, set: impl FnOnce(&mut OrcaLoadReport)) {
        if value.is_finite() && value >= 0.0 {
            set(&mut self.0.lock());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Semantics, orca::read};

    #[test]
    fn what_is_recorded_is_read() {
        let load = CallLoad::new();
        let mut trailers = HeaderMap::new();
        load.write(&mut trailers);
        assert!(trailers.is_empty(), "nothing was recorded");

        load.clone().cpu_utilization(0.25);
        load.cpu_utilization(1.5);
        load.mem_utilization(0.5);
        load.application_utilization(0.75);
        load.requests_per_second(100.5);
        load.errors_per_second(2.0);
        load.utilization("disk", 0.9);
        load.request_cost("rows", 17.0);
        load.named_metric("queue", 3.0);
        // None of these is.
        for bad in [f64::NAN, f64::INFINITY, -1.0] {
            load.cpu_utilization(bad);
            load.named_metric("queue", bad);
        }
        load.mem_utilization(1.1);
        load.utilization("disk", 1.1);
        load.write(&mut trailers);
        let said = read(Semantics::Grpc, &trailers).expect("it is well-formed");
        let entry = |name: &str, value| [(name.to_owned(), value)].into();
        let expected = OrcaLoadReport {
            cpu_utilization: 1.5,
            mem_utilization: 0.5,
            request_cost: entry("rows", 17.0),
            utilization: entry("disk", 0.9),
            rps_fractional: 100.5,
            eps: 2.0,
            named_metrics: entry("queue", 3.0),
            application_utilization: 0.75,
        };
        assert_eq!(said, Some(expected));

        // The service has said it by itself.
        let own = trailers.clone();
        load.cpu_utilization(0.1);
        load.write(&mut trailers);
        assert_eq!(trailers, own);
    }
}
