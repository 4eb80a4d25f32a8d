//! Metrics as others know them: each dialect turns the same reading into its own families.

mod grpc;
mod istio;
mod open_telemetry;
mod process;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::SystemTime};

pub use grpc::Grpc;
pub use istio::Istio;
pub use open_telemetry::OpenTelemetry;
pub use process::Process;

use super::{Family, SeriesSnapshot};
use crate::{
    config::Workload,
    control::xds::ResourceDump,
    identity::{CertificateStatus, now},
    resolve::TargetStatus,
};

/// Names, labels and buckets of metrics.
pub trait Dialect: fmt::Debug + Send + Sync + 'static {
    /// The reading in its words. Families without a point may be left out.
    fn families(&self, reading: &Reading) -> Vec<Family>;
}

/// What is recorded, at a moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Reading {
    /// Every series.
    pub series: Vec<SeriesSnapshot>,
    /// What runs in this process.
    pub workload: Arc<Workload>,
    /// When it was read.
    pub at: SystemTime,
    /// The targets and servers in use.
    pub targets: Vec<TargetStatus>,
    /// The certificates to present.
    pub certificates: Vec<CertificateStatus>,
    /// The resources that are watched.
    pub resources: Vec<ResourceDump>,
    /// Connections that servers have open.
    pub connections: usize,
}

// === impl Reading ===

impl Reading {
    /// Of these series alone, recorded by `workload`.
    pub fn new(series: Vec<SeriesSnapshot>, workload: Arc<Workload>) -> Self {
        Self {
            series,
            workload,
            at: now(),
            targets: Vec::new(),
            certificates: Vec::new(),
            resources: Vec::new(),
            connections: 0,
        }
    }

    /// In the words of these dialects.
    pub fn families(&self, dialects: &[Arc<dyn Dialect>]) -> Vec<Family> {
        let families = dialects.iter().map(|dialect| dialect.families(self));
        families.flatten().collect()
    }
}

/// All that there are: Istio's, gRPC's, OpenTelemetry's as the environment asks for them, and the
/// process's own.
pub fn all() -> Vec<Arc<dyn Dialect>> {
    vec![
        Arc::new(Istio),
        Arc::new(Grpc),
        Arc::new(OpenTelemetry::from_env()),
        Arc::new(Process),
    ]
}

/// The host and the port of a target such as `greeter.shop:8080`.
fn host_and_port(target: &str) -> (&str, Option<&str>) {
    match target.rsplit_once(':') {
        Some((host, port))
            if port.bytes().all(|byte| byte.is_ascii_digit()) && !port.is_empty() =>
        {
            (host, Some(port))
        }
        _ => (target, None),
    }
}
